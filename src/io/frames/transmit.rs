//! Sends an outbox's frames: segments of one TCP flow joined where the kernel takes it, many messages in one call.
//!
//! | error | cause | answer |
//! |---|---|---|
//! | EAGAIN, ENOBUFS | the queue before the card is full | waited for, a few milliseconds in all; the rest is congestion |
//! | EINTR | a signal | again |
//! | any other, of a joined frame | the kernel or the device does not take it | its segments one by one; after a few times, no more joining |
//! | ENETDOWN, ENXIO, ENODEV, EBADFD, EIO | the interface is down or gone | the rest is refused |
//! | any other | this frame alone | refused |
//!
//! Whoever waits for one interface keeps all others waiting, so a queue that stays full is not waited for ([`Patience`]).

use std::io;
use std::os::fd::BorrowedFd;

use super::offload::join::{HEADERS_BYTES, Join};
use super::offload::{HEADER_BYTES, Link};
use super::sys::{self, MAX_MESSAGES, MAX_PARTS, Outgoing};
use crate::io::udp::SendReport;
use crate::net::Path;
use crate::packet::Outbox;
use crate::packet::outbox::{MAX_SEGMENTS, Run};

/// Waits for room in one `send`, of [`WAIT_MS`] each: 4 ms in all.
const MAX_WAITS: u32 = 2;
pub const WAIT_MS: i32 = 2;
/// Signals in one `send`.
const MAX_INTERRUPTS: u32 = 8;
/// Calls in a row that must go through before a full queue is waited for again.
const CALLS_WITHOUT_WAIT: u32 = 64;
/// Joined frames that the kernel may refuse before none is offered any more.
const MAX_REFUSALS: u32 = 8;
/// A message's own header, and a run of segments.
const _: () = assert!(MAX_SEGMENTS < MAX_PARTS);
/// Before a frame with which nothing is to be done.
const AS_IT_IS: [u8; HEADER_BYTES] = [0; HEADER_BYTES];

/// Takes messages; a socket, a TUN device, or a test's.
pub trait Sink {
    /// How many of the messages were taken; an error is the first message's.
    fn send(&mut self, messages: &[Message], outbox: &Outbox) -> io::Result<usize>;
    /// Waits up to [`WAIT_MS`] for room.
    fn wait(&mut self);
}

/// Whether a full queue is waited for. One that was full after all waits is not again, until [`CALLS_WITHOUT_WAIT`] calls have
/// gone through: a port that is offered more than it carries would hold up everybody else's frames in each turn.
#[derive(Clone, Copy, Default, Debug)]
pub struct Patience {
    calls_without: u32,
}

impl Patience {
    pub fn is_spent(self) -> bool {
        self.calls_without > 0
    }

    /// Of a call that had something to send.
    pub fn note(&mut self, was_full: bool) {
        self.calls_without = if was_full { CALLS_WITHOUT_WAIT } else { self.calls_without.saturating_sub(1) };
    }
}

/// One frame, or joined ones.
#[derive(Clone, Debug)]
pub struct Message {
    run: usize,
    /// Where its frames lie in the run.
    start: usize,
    end: usize,
    /// Of a joined frame: what stands before the payloads, and how much of it.
    headers: [u8; HEADERS_BYTES],
    /// 0: a single frame, as it is.
    headers_bytes: usize,
    /// What every segment has before its payload.
    segment_headers_bytes: usize,
}

impl Message {
    pub fn is_joined(&self) -> bool {
        self.headers_bytes > 0
    }

    fn run<'a>(&self, outbox: &'a Outbox) -> &'a Run {
        &outbox.runs()[self.run]
    }

    pub fn frames<'a>(&self, outbox: &'a Outbox) -> impl ExactSizeIterator<Item = &'a [u8]> {
        let run = self.run(outbox);
        outbox.bytes_of(run)[self.start..self.end].chunks(run.segment_bytes)
    }

    /// The kernel's header first.
    pub fn parts<'a>(&'a self, outbox: &'a Outbox) -> impl Iterator<Item = &'a [u8]> {
        let headers = if self.is_joined() { &self.headers[..self.headers_bytes] } else { &AS_IT_IS };
        let skipped = if self.is_joined() { self.segment_headers_bytes } else { 0 };
        std::iter::once(headers).chain(self.frames(outbox).map(move |frame| &frame[skipped..]))
    }
}

/// What is remembered from one `send` to the next.
#[derive(Debug)]
pub struct Transmit {
    link: Link,
    joins: bool,
    refusals: u32,
    /// Joined frames offered so far.
    joined: u64,
    patience: Patience,
    /// Filled anew for each call.
    messages: Vec<Message>,
}

impl Transmit {
    /// `joins`: the kernel is offered joined frames.
    pub fn new(link: Link, joins: bool) -> Self {
        let (patience, messages) = (Patience::default(), Vec::with_capacity(MAX_MESSAGES));
        Transmit { link, joins, refusals: 0, joined: 0, patience, messages }
    }

    pub fn joined(&self) -> u64 {
        self.joined
    }

    pub fn joins(&self) -> bool {
        self.joins
    }

    pub fn send(&mut self, outbox: &Outbox, carries: &dyn Fn(&Path) -> bool, sink: &mut impl Sink) -> SendReport {
        let waits = if self.patience.is_spent() { MAX_WAITS } else { 0 };
        let mut sending = Sending { outbox, report: SendReport::default(), waits, interrupts: 0, has_given_up: None };
        let (mut run, mut offset) = (0, 0);
        loop {
            self.plan(outbox, carries, &mut run, &mut offset);
            if self.messages.is_empty() {
                self.patience.note(matches!(sending.has_given_up, Some(GivenUp::Full)));
                return sending.report;
            }
            let refusals = sending.send_all(&self.messages, sink);
            self.refusals += refusals;
            self.joins &= self.refusals < MAX_REFUSALS;
        }
    }

    /// The next messages, from a place in the outbox on.
    fn plan(&mut self, outbox: &Outbox, carries: &dyn Fn(&Path) -> bool, run: &mut usize, offset: &mut usize) {
        self.messages.clear();
        let mut parts = 0;
        while let Some(at) = outbox.runs().get(*run) {
            let bytes = outbox.bytes_of(at);
            if *offset >= bytes.len() || !carries(&at.path) {
                (*run, *offset) = (*run + 1, 0);
                continue;
            }
            if self.messages.len() == MAX_MESSAGES || parts + MAX_SEGMENTS >= MAX_PARTS {
                return;
            }
            let message = self.message(*run, *offset, bytes, at.segment_bytes);
            parts += 1 + (message.end - message.start).div_ceil(at.segment_bytes);
            *offset = message.end;
            self.joined += u64::from(message.is_joined());
            self.messages.push(message);
        }
    }

    /// One frame, and those behind it in its run that can be joined to it.
    fn message(&self, run: usize, start: usize, bytes: &[u8], segment_bytes: usize) -> Message {
        let mut frames = bytes[start..].chunks(segment_bytes);
        let first = frames.next().unwrap_or_default();
        let mut message = Message {
            run,
            start,
            end: start + first.len(),
            headers: [0; HEADERS_BYTES],
            headers_bytes: 0,
            segment_headers_bytes: 0,
        };
        if !self.joins || message.end == bytes.len() {
            return message;
        }
        let Some(mut join) = Join::start(first, self.link) else { return message };
        frames.take_while(|frame| join.add(frame)).for_each(|frame| message.end += frame.len());
        if join.segments() > 1 {
            message.headers_bytes = join.write_headers(&mut message.headers);
            message.segment_headers_bytes = join.headers_bytes();
        }
        message
    }
}

struct Sending<'a> {
    outbox: &'a Outbox,
    report: SendReport,
    waits: u32,
    interrupts: u32,
    /// Nothing more will be taken, and why.
    has_given_up: Option<GivenUp>,
}

#[derive(Clone, Copy)]
enum GivenUp {
    Full,
    Refused(i32),
}

impl Sending<'_> {
    /// How many joined frames were refused.
    fn send_all(&mut self, messages: &[Message], sink: &mut impl Sink) -> u32 {
        let (mut at, mut refusals) = (0, 0);
        while at < messages.len() {
            if let Some(why) = self.has_given_up {
                messages[at..].iter().for_each(|message| self.unsent(message, why));
                return refusals;
            }
            match sink.send(&messages[at..], self.outbox) {
                Ok(taken) => {
                    let taken = &messages[at..(at + taken.max(1)).min(messages.len())];
                    self.report.sent_datagrams +=
                        taken.iter().map(|one| one.frames(self.outbox).len() as u64).sum::<u64>();
                    at += taken.len();
                }
                Err(error) => match self.answer(&error) {
                    Answer::Again => {}
                    Answer::Wait => sink.wait(),
                    Answer::GiveUp(why) => self.has_given_up = Some(why),
                    Answer::Skip if messages[at].is_joined() => {
                        refusals += 1;
                        self.send_one_by_one(&messages[at], sink);
                        at += 1;
                    }
                    Answer::Skip => {
                        self.unsent(&messages[at], GivenUp::Refused(error.raw_os_error().unwrap_or(libc::EINVAL)));
                        at += 1;
                    }
                },
            }
        }
        refusals
    }

    fn send_one_by_one(&mut self, joined: &Message, sink: &mut impl Sink) {
        let segment_bytes = joined.run(self.outbox).segment_bytes;
        for start in (joined.start..joined.end).step_by(segment_bytes) {
            let end = joined.end.min(start + segment_bytes);
            let single = Message { start, end, headers_bytes: 0, segment_headers_bytes: 0, ..joined.clone() };
            self.send_all(&[single], sink);
        }
    }

    fn answer(&mut self, error: &io::Error) -> Answer {
        match error.raw_os_error().unwrap_or(libc::EINVAL) {
            libc::EINTR if self.interrupts < MAX_INTERRUPTS => {
                self.interrupts += 1;
                Answer::Again
            }
            libc::EAGAIN | libc::ENOBUFS if self.waits < MAX_WAITS => {
                self.waits += 1;
                Answer::Wait
            }
            libc::EAGAIN | libc::ENOBUFS | libc::EINTR => Answer::GiveUp(GivenUp::Full),
            error @ (libc::ENETDOWN | libc::ENXIO | libc::ENODEV | libc::EBADFD | libc::EIO) => {
                Answer::GiveUp(GivenUp::Refused(error))
            }
            _ => Answer::Skip,
        }
    }

    fn unsent(&mut self, message: &Message, why: GivenUp) {
        let (frames, data) = (message.frames(self.outbox).len() as u64, message.run(self.outbox).data);
        match why {
            GivenUp::Refused(error) => self.report.refuse(frames, data, io::Error::from_raw_os_error(error)),
            GivenUp::Full => {
                self.report.congested_datagrams += frames;
                self.report.unsent_data_datagrams += if data { frames } else { 0 };
            }
        }
    }
}

enum Answer {
    Again,
    /// Then again.
    Wait,
    /// This message alone.
    Skip,
    GiveUp(GivenUp),
}

/// A packet socket with `PACKET_VNET_HDR`.
pub struct PacketSink<'a> {
    pub fd: BorrowedFd<'a>,
}

impl Sink for PacketSink<'_> {
    fn send(&mut self, messages: &[Message], outbox: &Outbox) -> io::Result<usize> {
        let mut outgoing = Outgoing::new();
        for message in messages {
            if !outgoing.has_room(1 + message.frames(outbox).len()) {
                break;
            }
            outgoing.begin();
            message.parts(outbox).for_each(|part| outgoing.push(part));
        }
        outgoing.send(self.fd)
    }

    fn wait(&mut self) {
        sys::wait_writable(self.fd, WAIT_MS);
    }
}

#[cfg(test)]
pub(super) mod tests;
