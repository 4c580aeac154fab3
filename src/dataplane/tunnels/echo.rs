//! Probes of WireGuard paths (RFC 8899): WireGuard acknowledges nothing, but what is inside it can.
//!
//! ```text
//! a probe     echo request, 1 hop left | padding ............... up to the size that is asked about
//! its answer  time exceeded (the peer is a router), echo reply (it is the host itself), or any error about the request
//! ```
//!
//! **Every peer takes it.** WireGuard pads packets, so whoever receives one cuts it to the length that its IP header states;
//! none looks at how much padding that was. The answers are small. The hop limit of 1 makes the peer's gateway the
//! last that sees a request, and a gateway answers for any address behind it, whether or not there is a host.
//!
//! **Nobody outside the tunnel can answer**, and within the realm only who has seen the request: identifier and sequence
//! number are random. Whoever has can lie about the path to itself, no more.
//!
//! **Silence says nothing by itself.** A size counts as lost when it is not answered in [`ANSWER_WITHIN`], *and* a request
//! without padding, sent then, is. If that is not answered either, whatever address of the realm it is sent to, the peer is
//! silent: no size is known, and none is refused.
//!
//! **Few of them.** Routers limit their errors: Linux to one in a second for each receiver, six in a row at first. So
//! there is one request in [`PACE`] for each tunnel (two when the first tells where to send the second), and
//! [`PROBES_PER_SEC`] in all. Tunnels wait for their turn, first come, first served.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::net::{Timestamp, TunnelId};

mod packet;
pub(super) mod targets;
#[cfg(test)]
mod tests;

pub use self::packet::{Echo, MAX_ECHO_BYTES, Target};
pub use self::targets::Targets;

/// PROBE_TIMER (RFC 8899 section 5.1.1). No less than a second; what it asks for where the time is not known (15 s) would keep
/// a narrow path in fragments for minutes.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const PACE: Duration = Duration::from_secs(1);
/// Requests without padding before the peer counts as silent: each target is tried, and the first again.
const MAX_UNANSWERED: usize = targets::MAX_TARGETS + 1;
/// Of all tunnels: 3 Mbit/s.
const PROBES_PER_SEC: u32 = 256;

/// What came of a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// A probe of `outer_bytes` reached the peer at `remote`, or did not although the peer answers.
    Probed { remote: IpAddr, outer_bytes: u16, arrived: bool },
    /// The peer does not answer.
    Silent,
    /// Nothing can be sealed to the peer.
    Down,
}

/// A size to ask a tunnel's path about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    pub remote: IpAddr,
    pub outer_bytes: u16,
    /// Packet and padding in such an outer packet.
    pub padded_bytes: usize,
}

/// After any `ask` or `take_answer`, and when [`EchoProbes::poll_timeout`] says so, drain [`EchoProbes::poll_request`], then
/// [`EchoProbes::poll_verdict`].
#[derive(Debug, Default)]
pub struct EchoProbes {
    targets: Arc<Targets>,
    /// By tunnel number.
    tunnels: Vec<Option<Box<Asked>>>,
    deadlines: BTreeSet<(Timestamp, TunnelId)>,
    verdicts: VecDeque<(TunnelId, Verdict)>,
    /// Requests that wait for their answers, at most one for each tunnel.
    in_flight: usize,
    left: u32,
    renewed_at: Timestamp,
}

/// A tunnel that was asked about, or was before.
#[derive(Debug)]
struct Asked {
    /// `None`: nothing now.
    question: Option<Question>,
    flight: Option<Flight>,
    /// The target that answered last, counted round and round.
    target: usize,
    /// Requests without padding in a row that were not answered. `None`: the last was.
    unanswered: Option<usize>,
    /// The size in question was not answered.
    is_missing: bool,
    not_before: Timestamp,
    deadline: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    echo: Echo,
    is_padded: bool,
}

impl Asked {
    fn new() -> Self {
        Asked {
            question: None,
            flight: None,
            target: 0,
            unanswered: Some(0),
            is_missing: false,
            not_before: Timestamp::ZERO,
            deadline: None,
        }
    }

    /// Ends the question.
    fn answer(&mut self, arrived: bool) -> Option<Verdict> {
        let Question { remote, outer_bytes, .. } = self.question.take()?;
        self.is_missing = false;
        Some(Verdict::Probed { remote, outer_bytes, arrived })
    }
}

impl EchoProbes {
    /// Other tunnels, or other addresses. What is not asked of a tunnel with targets is forgotten.
    pub fn configure(&mut self, targets: Arc<Targets>) {
        self.targets = targets;
        for number in 0..self.tunnels.len() {
            let tunnel = TunnelId(number as u32);
            if self.targets.of(tunnel).is_empty() {
                self.forget(tunnel);
            }
        }
    }

    /// No answer counts any more.
    pub fn forget(&mut self, tunnel: TunnelId) {
        self.reschedule(tunnel, None);
        let asked = self.tunnels.get_mut(tunnel.index()).and_then(Option::take);
        self.in_flight -= usize::from(asked.is_some_and(|asked| asked.flight.is_some()));
    }

    /// Replaces the question that there was. One verdict will follow, unless it is replaced or forgotten.
    pub fn ask(&mut self, tunnel: TunnelId, question: Question, now: Timestamp) {
        if self.targets.of(tunnel).is_empty() {
            return self.verdicts.push_back((tunnel, Verdict::Silent));
        }
        if self.tunnels.len() <= tunnel.index() {
            self.tunnels.resize_with(tunnel.index() + 1, || None);
        }
        let asked = self.tunnels[tunnel.index()].get_or_insert_with(|| Box::new(Asked::new()));
        if asked.question.is_some() {
            self.in_flight -= usize::from(asked.flight.is_some());
            **asked = Asked { not_before: asked.not_before, deadline: asked.deadline, ..Asked::new() };
        }
        asked.question = Some(question);
        let at = asked.not_before.max(now);
        self.reschedule(tunnel, Some(at));
    }

    /// Whether any packet could be an answer. Cheap enough to ask for every batch.
    #[inline]
    pub fn awaits_answers(&self) -> bool {
        self.in_flight > 0
    }

    /// A packet came out of the tunnel: whether it is an answer, and nothing else.
    #[inline]
    pub fn take_answer(&mut self, tunnel: TunnelId, packet: &[u8], now: Timestamp) -> bool {
        Echo::can_be_answer(packet) && self.take_echo(tunnel, packet, now)
    }

    #[cold]
    fn take_echo(&mut self, tunnel: TunnelId, packet: &[u8], now: Timestamp) -> bool {
        let Some(asked) = self.asked(tunnel) else { return false };
        let Some(flight) = asked.flight.take_if(|flight| flight.echo.is_answered_by(packet)) else { return false };
        asked.target += asked.unanswered.take().unwrap_or(0);
        let verdict = match (flight.is_padded, asked.is_missing) {
            (true, _) => asked.answer(true),
            (false, true) => asked.answer(false),
            (false, false) => None,
        };
        let next = asked.question.is_some().then_some(now);
        self.in_flight -= 1;
        self.verdicts.extend(verdict.map(|verdict| (tunnel, verdict)));
        self.reschedule(tunnel, next);
        true
    }

    /// What is due: gives up what was not answered, until there is a request to be sent, with padding up to a length.
    /// [`EchoProbes::note_unsent`] follows where it could not be.
    pub fn poll_request(&mut self, now: Timestamp, random: impl FnOnce() -> u32) -> Option<(TunnelId, Echo, usize)> {
        if now.saturating_since(self.renewed_at) >= PACE || self.renewed_at == Timestamp::ZERO {
            (self.left, self.renewed_at) = (PROBES_PER_SEC, now);
        }
        while let Some((_, tunnel)) = self.deadlines.first().copied().filter(|(at, _)| self.left > 0 && *at <= now) {
            self.reschedule(tunnel, None);
            if self.is_given_up(tunnel) {
                self.end(tunnel, Verdict::Silent);
            } else if let Some((target, padded_bytes)) = self.next_request(tunnel) {
                self.left -= 1;
                let echo = Echo { target, cookie: random() };
                self.launch(tunnel, echo, now);
                return Some((tunnel, echo, padded_bytes));
            }
        }
        None
    }

    /// The tunnel has no keys, or there was no room.
    pub fn note_unsent(&mut self, tunnel: TunnelId) {
        self.end(tunnel, Verdict::Down);
    }

    pub fn poll_verdict(&mut self) -> Option<(TunnelId, Verdict)> {
        self.verdicts.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        let (first, _) = self.deadlines.first()?;
        let at = if self.left > 0 { *first } else { (*first).max(self.renewed_at + PACE) };
        Some((at, "path MTU echo"))
    }

    fn end(&mut self, tunnel: TunnelId, verdict: Verdict) {
        self.forget(tunnel);
        self.verdicts.push_back((tunnel, verdict));
    }

    /// The request that is out, if there is one, was not answered: whether it was one too many.
    fn is_given_up(&mut self, tunnel: TunnelId) -> bool {
        let Some(asked) = self.asked(tunnel) else { return false };
        let Some(flight) = asked.flight.take() else { return false };
        asked.is_missing |= flight.is_padded;
        let unanswered = asked.unanswered.map_or(0, |unanswered| unanswered + 1);
        asked.unanswered = Some(unanswered);
        self.in_flight -= 1;
        unanswered >= MAX_UNANSWERED
    }

    /// Whom to ask now, and how long the request is to become.
    fn next_request(&mut self, tunnel: TunnelId) -> Option<(Target, usize)> {
        let asked = self.tunnels.get(tunnel.index())?.as_deref()?;
        let question = asked.question?;
        let targets = self.targets.of(tunnel);
        let target = *targets.get((asked.target + asked.unanswered.unwrap_or(0)) % targets.len().max(1))?;
        Some((target, if asked.unanswered.is_none() { question.padded_bytes } else { 0 }))
    }

    fn launch(&mut self, tunnel: TunnelId, echo: Echo, now: Timestamp) {
        let Some(asked) = self.asked(tunnel) else { return };
        asked.flight = Some(Flight { echo, is_padded: asked.unanswered.is_none() });
        asked.not_before = now + PACE;
        self.in_flight += 1;
        self.reschedule(tunnel, Some(now + ANSWER_WITHIN));
    }

    fn asked(&mut self, tunnel: TunnelId) -> Option<&mut Asked> {
        self.tunnels.get_mut(tunnel.index())?.as_deref_mut()
    }

    fn reschedule(&mut self, tunnel: TunnelId, at: Option<Timestamp>) {
        let Some(asked) = self.tunnels.get_mut(tunnel.index()).and_then(Option::as_deref_mut) else { return };
        if let Some(before) = std::mem::replace(&mut asked.deadline, at) {
            self.deadlines.remove(&(before, tunnel));
        }
        if let Some(at) = at {
            self.deadlines.insert((at, tunnel));
        }
    }
}
