//! Sends an outbox: many runs in one call, each cut into datagrams by the kernel (GSO) where it can.
//!
//! Offload may be refused at any time and for several causes, which the kernel does not keep apart well:
//!
//! | error | cause | answer |
//! |---|---|---|
//! | ECONNREFUSED, EHOSTUNREACH, EMSGSIZE and the like | what ICMP said about an earlier datagram to anybody (`IP_RECVERR`) | once more; if it comes again, it is this datagram's own |
//! | EIO | the route's device or transform cannot do it | offload off for good |
//! | EINVAL, EMSGSIZE | a segment larger than the path's MTU (such datagrams need fragments) | this run one by one; from then on offload only for smaller segments, if it was not one that may be cut |
//! | EINVAL, ENETUNREACH | the local address that the peer calls is ours no longer | this run from the address that the kernel chooses |
//!
//! For runs that go without DF the kernel minds what ICMP told it of the path, which anybody can forge: what it refuses of
//! them says nothing about others.
//!
//! Nothing here waits for long: a full socket is waited for a few milliseconds in all, and the rest is reported unsent,
//! because a worker that waits hears nobody. Errors about one peer cost only that peer's run.
//!
//! The logic is apart from the socket ([`Kernel`]), so that every error can be met in a test.

use std::io;

use crate::net::Path;
use crate::packet::Outbox;
use crate::packet::outbox::Run;

/// Most messages in one call.
pub const BATCH: usize = super::sys::MAX_MESSAGES;
/// Waits for room in one `send`, of [`WAIT_MS`] each: 4 ms in all.
const MAX_WAITS: u32 = 2;
pub const WAIT_MS: i32 = 2;
/// Retries of one message after a signal or a pending error of an earlier datagram.
const MAX_RETRIES: u32 = 4;
/// When segments of this size are refused, offload is of no use: every IPv6 path carries more (1280 - 40 - 8).
const USELESS_SEGMENT_BYTES: usize = 1232;

/// What one `send` came to.
#[derive(Debug, Default)]
pub struct SendReport {
    pub sent_datagrams: u64,
    /// The socket was full.
    pub congested_datagrams: u64,
    /// The kernel refused them: no route, filtered, too long.
    pub refused_datagrams: u64,
    /// Of both kinds, those that carried forwarded packets.
    pub unsent_data_datagrams: u64,
    /// Why the first was refused.
    pub first_error: Option<io::Error>,
}

impl SendReport {
    pub fn refuse(&mut self, datagrams: u64, data: bool, error: io::Error) {
        self.refused_datagrams += datagrams;
        self.unsent_data_datagrams += if data { datagrams } else { 0 };
        self.first_error.get_or_insert(error);
    }

    pub fn add(&mut self, other: SendReport) {
        self.sent_datagrams += other.sent_datagrams;
        self.congested_datagrams += other.congested_datagrams;
        self.refused_datagrams += other.refused_datagrams;
        self.unsent_data_datagrams += other.unsent_data_datagrams;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// One message: a whole run for the kernel to cut, or one datagram.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub path: Path,
    pub bytes: &'a [u8],
    pub segment_bytes: usize,
    pub traffic_class: u8,
    /// Without DF.
    pub may_fragment: bool,
}

impl Message<'_> {
    const EMPTY: Message<'static> = Message {
        path: Path {
            port: crate::net::Port::WireGuard,
            remote: std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0),
            local: None,
        },
        bytes: &[],
        segment_bytes: 1,
        traffic_class: 0,
        may_fragment: false,
    };

    pub fn segments(&self) -> usize {
        self.bytes.len().div_ceil(self.segment_bytes)
    }
}

/// The socket, or a test's.
pub trait Kernel {
    /// How many of the messages were taken; an error is the first message's.
    fn send(&mut self, messages: &[Message<'_>]) -> io::Result<usize>;
    /// Waits up to [`WAIT_MS`] for room.
    fn wait(&mut self);
}

/// For which segment sizes send offload is used.
#[derive(Clone, Copy, Debug)]
pub struct Gso {
    /// 0: off.
    max_segment_bytes: usize,
}

impl Gso {
    pub const ON: Gso = Gso { max_segment_bytes: usize::MAX };
    pub const OFF: Gso = Gso { max_segment_bytes: 0 };

    pub fn is_on(&self) -> bool {
        self.max_segment_bytes > 0
    }

    fn refuse(&mut self, segment_bytes: usize) {
        self.max_segment_bytes = match segment_bytes {
            ..=USELESS_SEGMENT_BYTES => 0,
            _ => self.max_segment_bytes.min(segment_bytes - 1),
        };
    }
}

/// Which runs of an outbox a socket sends; the others are left to other sockets.
pub type Carries<'a> = &'a dyn Fn(&Path) -> bool;

pub fn send(gso: &mut Gso, outbox: &Outbox, carries: Carries<'_>, kernel: &mut impl Kernel) -> SendReport {
    let report = SendReport::default();
    let mut sending = Sending { outbox, carries, gso, cursor: Cursor::default(), report, waits: 0 };
    sending.skip_what_others_carry();
    let mut messages = [Message::EMPTY; BATCH];
    loop {
        let count = sending.next_messages(&mut messages);
        if count == 0 {
            return sending.report;
        }
        match kernel.send(&messages[..count]) {
            Ok(sent) => sending.sent(&messages[..sent.min(count)]),
            Err(error) => sending.failed(error, messages[0], kernel),
        }
    }
}

/// Where we are in the outbox, and what we know about the run at hand.
#[derive(Clone, Copy, Default, Debug)]
struct Cursor {
    run: usize,
    /// Bytes of the run that are done.
    offset: usize,
    attempt: Attempt,
    retries: u32,
}

/// How the run at hand is sent.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Attempt {
    #[default]
    AsAsked,
    OneByOne,
    OneByOneFromAnySource,
}

struct Sending<'a> {
    outbox: &'a Outbox,
    carries: Carries<'a>,
    gso: &'a mut Gso,
    cursor: Cursor,
    report: SendReport,
    waits: u32,
}

impl<'a> Sending<'a> {
    /// The next messages, at most a batch. A run in trouble goes alone.
    fn next_messages(&self, messages: &mut [Message<'a>; BATCH]) -> usize {
        let Cursor { run: first, mut offset, attempt, .. } = self.cursor;
        let runs = self.outbox.runs();
        let (mut run, mut count) = (first, 0);
        while count < BATCH && run < runs.len() && (run == first || attempt == Attempt::AsAsked) {
            if !(self.carries)(&runs[run].path) {
                (run, offset) = (run + 1, 0);
                continue;
            }
            let bytes = self.outbox.bytes_of(&runs[run]);
            let end = match self.is_offloaded(&runs[run]) {
                true => bytes.len(),
                false => bytes.len().min(offset + runs[run].segment_bytes),
            };
            let mut path = runs[run].path;
            if attempt == Attempt::OneByOneFromAnySource {
                path.local = None;
            }
            let Run { segment_bytes, traffic_class, may_fragment, .. } = runs[run];
            messages[count] = Message { path, bytes: &bytes[offset..end], segment_bytes, traffic_class, may_fragment };
            count += 1;
            (run, offset) = if end == bytes.len() { (run + 1, 0) } else { (run, end) };
        }
        count
    }

    fn is_offloaded(&self, run: &Run) -> bool {
        self.cursor.attempt == Attempt::AsAsked && run.segment_bytes <= self.gso.max_segment_bytes
    }

    fn sent(&mut self, messages: &[Message<'_>]) {
        for message in messages {
            let run = &self.outbox.runs()[self.cursor.run];
            // It goes through one by one: the offload was what the kernel refused.
            let is_refused = self.cursor.attempt == Attempt::OneByOne && self.cursor.offset == 0 && run.segments() > 1;
            if is_refused && !run.may_fragment {
                self.gso.refuse(run.segment_bytes);
            }
            self.report.sent_datagrams += message.segments() as u64;
            self.cursor.offset += message.bytes.len();
            self.cursor.retries = 0;
            if self.cursor.offset == self.outbox.bytes_of(run).len() {
                self.next_run();
            }
        }
    }

    fn failed(&mut self, error: io::Error, message: Message<'_>, kernel: &mut impl Kernel) {
        let is_joined = message.segments() > 1;
        match error.raw_os_error().unwrap_or(0) {
            libc::EAGAIN if self.waits < MAX_WAITS => {
                self.waits += 1;
                kernel.wait();
            }
            libc::EAGAIN => self.give_up_the_rest(),
            libc::EINTR | libc::ECONNREFUSED if self.cursor.retries < MAX_RETRIES => self.cursor.retries += 1,
            // What ICMP said about an earlier datagram, to anybody: not about this one, if it does not come again.
            error if is_left_behind(error) && self.cursor.retries == 0 => self.cursor.retries += 1,
            libc::EIO if is_joined => *self.gso = Gso::OFF,
            libc::EINVAL | libc::EMSGSIZE if is_joined => self.cursor.attempt = Attempt::OneByOne,
            libc::EINVAL | libc::ENETUNREACH | libc::EADDRNOTAVAIL if message.path.local.is_some() => {
                self.cursor.attempt = Attempt::OneByOneFromAnySource;
            }
            _ => self.skip_run(error),
        }
    }

    fn skip_run(&mut self, error: io::Error) {
        self.report.refused_datagrams += self.unsent_of_run();
        self.report.first_error.get_or_insert(error);
        self.next_run();
    }

    fn give_up_the_rest(&mut self) {
        while self.cursor.run < self.outbox.runs().len() {
            self.report.congested_datagrams += self.unsent_of_run();
            self.next_run();
        }
    }

    /// Counts what is left of the run at hand.
    fn unsent_of_run(&mut self) -> u64 {
        let run = &self.outbox.runs()[self.cursor.run];
        let left = self.outbox.bytes_of(run).len() - self.cursor.offset;
        let datagrams = left.div_ceil(run.segment_bytes) as u64;
        if run.data {
            self.report.unsent_data_datagrams += datagrams;
        }
        datagrams
    }

    fn next_run(&mut self) {
        self.cursor = Cursor { run: self.cursor.run + 1, ..Cursor::default() };
        self.skip_what_others_carry();
    }

    fn skip_what_others_carry(&mut self) {
        let left = &self.outbox.runs()[self.cursor.run..];
        self.cursor.run += left.iter().take_while(|run| !(self.carries)(&run.path)).count();
    }
}

/// Errors that ICMP messages leave at a socket that reads them (`IP_RECVERR`), for the next call to find.
pub fn is_left_behind(error: i32) -> bool {
    matches!(
        error,
        libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EOPNOTSUPP
            | libc::EACCES
            | libc::EMSGSIZE
    )
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const OUR_ADDRESS: &str = "192.0.2.1";

    /// A kernel with the faults that a test gives it.
    #[derive(Default)]
    struct Fake {
        /// Segments larger than this are refused when joined.
        mtu: Option<usize>,
        /// The same, of those that go without DF.
        mtu_of_what_may_be_cut: Option<usize>,
        /// EIO for joined messages.
        no_offload: bool,
        /// Errors for the next calls, before anything else.
        errors: Vec<i32>,
        /// Ports that cannot be reached.
        unreachable: Vec<u16>,
        /// Messages taken per call.
        per_call: Option<usize>,
        waits: u32,
        calls: u32,
        /// What went out: port, length, whether joined, with a source.
        taken: Vec<(u16, usize, bool, bool)>,
    }

    impl Fake {
        fn refuses(&self, message: &Message<'_>) -> Option<i32> {
            let joined = message.segments() > 1;
            if message.path.local.is_some_and(|local| local != OUR_ADDRESS.parse::<IpAddr>().unwrap()) {
                return Some(libc::EINVAL);
            }
            if joined && self.no_offload {
                return Some(libc::EIO);
            }
            let mtu = if message.may_fragment { self.mtu_of_what_may_be_cut } else { self.mtu };
            if joined && mtu.is_some_and(|mtu| message.segment_bytes > mtu) {
                return Some(libc::EINVAL);
            }
            self.unreachable.contains(&message.path.remote.port()).then_some(libc::ENETUNREACH)
        }
    }

    impl Kernel for Fake {
        fn send(&mut self, messages: &[Message<'_>]) -> io::Result<usize> {
            self.calls += 1;
            assert!(!messages.is_empty() && messages.len() <= BATCH && self.calls < 1_000);
            if !self.errors.is_empty() {
                return Err(io::Error::from_raw_os_error(self.errors.remove(0)));
            }
            let mut sent = 0;
            for message in messages.iter().take(self.per_call.unwrap_or(BATCH)) {
                if let Some(errno) = self.refuses(message) {
                    return if sent > 0 { Ok(sent) } else { Err(io::Error::from_raw_os_error(errno)) };
                }
                let joined = message.segments() > 1;
                self.taken.push((
                    message.path.remote.port(),
                    message.bytes.len(),
                    joined,
                    message.path.local.is_some(),
                ));
                sent += 1;
            }
            Ok(sent)
        }

        fn wait(&mut self) {
            self.waits += 1;
        }
    }

    fn outbox(runs: &[(u16, &[usize])]) -> Outbox {
        let mut outbox = Outbox::new(1 << 20, 1000);
        for (port, lens) in runs {
            for len in *lens {
                assert!(outbox.push(Path::to(([192, 0, 2, 9], *port).into()), true, &vec![7; *len]));
            }
        }
        outbox
    }

    fn run(kernel: &mut Fake, gso: &mut Gso, outbox: &Outbox) -> SendReport {
        let report = send(gso, outbox, &|_| true, kernel);
        let datagrams = outbox.datagrams().count() as u64;
        assert_eq!(report.sent_datagrams + report.congested_datagrams + report.refused_datagrams, datagrams);
        report
    }

    #[test]
    fn a_run_is_one_message_and_only_datagrams_without_offload() {
        let outbox = outbox(&[(1, &[100, 100, 60]), (2, &[50])]);
        let mut kernel = Fake::default();
        assert_eq!(run(&mut kernel, &mut Gso::ON.clone(), &outbox).sent_datagrams, 4);
        assert_eq!(kernel.taken, [(1, 260, true, false), (2, 50, false, false)]);

        let mut kernel = Fake { per_call: Some(2), ..Fake::default() };
        run(&mut kernel, &mut Gso::OFF.clone(), &outbox);
        assert_eq!(kernel.taken.iter().map(|t| (t.0, t.1)).collect::<Vec<_>>(), [(1, 100), (1, 100), (1, 60), (2, 50)]);
    }

    #[test]
    fn only_runs_that_the_socket_carries_are_sent_and_counted() {
        let outbox = outbox(&[(2, &[20, 20]), (1, &[10]), (2, &[20]), (1, &[10, 10]), (2, &[20])]);
        let mine = |path: &Path| path.remote.port() == 1;
        let mut kernel = Fake::default();
        assert_eq!(send(&mut Gso::ON.clone(), &outbox, &mine, &mut kernel).sent_datagrams, 3);
        assert_eq!(kernel.taken, [(1, 10, false, false), (1, 20, true, false)]);

        let mut kernel = Fake { errors: vec![libc::EAGAIN; 100], ..Fake::default() };
        let report = send(&mut Gso::ON.clone(), &outbox, &mine, &mut kernel);
        assert_eq!((report.congested_datagrams, report.unsent_data_datagrams), (3, 3));
        assert_eq!(send(&mut Gso::ON.clone(), &outbox, &|_| false, &mut kernel).sent_datagrams, 0);
    }

    #[test]
    fn more_runs_than_a_batch_are_all_sent() {
        let lens = [100];
        let runs: Vec<(u16, &[usize])> = (0..3 * BATCH as u16 + 1).map(|port| (port, &lens[..])).collect();
        let mut kernel = Fake::default();
        run(&mut kernel, &mut Gso::ON.clone(), &outbox(&runs));
        assert_eq!((kernel.calls, kernel.taken.len()), (4, 3 * BATCH + 1));
    }

    #[test]
    fn a_device_without_offload_turns_it_off_for_good() {
        let mut kernel = Fake { no_offload: true, ..Fake::default() };
        let mut gso = Gso::ON;
        let report = run(&mut kernel, &mut gso, &outbox(&[(9, &[20]), (1, &[100, 100, 60]), (2, &[50, 50])]));
        assert_eq!(report.sent_datagrams, 6);
        assert!(!gso.is_on());
        kernel.calls = 0;
        run(&mut kernel, &mut gso, &outbox(&[(1, &[100, 100])]));
        assert_eq!(kernel.calls, 1, "not tried again");
    }

    #[test]
    fn segments_over_the_mtu_go_one_by_one_and_smaller_ones_stay_joined() {
        let mut kernel = Fake { mtu: Some(1472), ..Fake::default() };
        let mut gso = Gso::ON;
        run(&mut kernel, &mut gso, &outbox(&[(1, &[1900, 1900]), (2, &[1400, 1400])]));
        assert_eq!(kernel.taken, [(1, 1900, false, false), (1, 1900, false, false), (2, 2800, true, false)]);
        kernel.calls = 0;
        run(&mut kernel, &mut gso, &outbox(&[(1, &[1900, 1900]), (2, &[1400, 1400])]));
        assert_eq!(kernel.calls, 1, "learned");
    }

    #[test]
    fn what_may_be_cut_is_joined_too_and_its_refusal_says_nothing_about_others() {
        let mut outbox = Outbox::new(10_000, 10);
        for (port, may_fragment) in [(1, true), (2, false)] {
            outbox.let_fragment(may_fragment);
            for _ in 0..2 {
                assert!(outbox.push(Path::to(([192, 0, 2, 9], port).into()), true, &[7; 100]));
            }
        }
        let (mut kernel, mut gso) = (Fake::default(), Gso::ON);
        run(&mut kernel, &mut gso, &outbox);
        assert_eq!(kernel.taken, [(1, 200, true, false), (2, 200, true, false)]);
        // The kernel believes a forged word about the path, where it minds such words.
        let mut kernel = Fake { mtu_of_what_may_be_cut: Some(50), ..Fake::default() };
        run(&mut kernel, &mut gso, &outbox);
        assert_eq!(kernel.taken, [(1, 100, false, false), (1, 100, false, false), (2, 200, true, false)]);
        assert!(gso.is_on());
    }

    #[test]
    fn offload_that_fails_for_small_segments_is_turned_off() {
        let mut kernel = Fake { mtu: Some(10), ..Fake::default() };
        let mut gso = Gso::ON;
        assert_eq!(run(&mut kernel, &mut gso, &outbox(&[(1, &[200, 200])])).sent_datagrams, 2);
        assert!(!gso.is_on());
    }

    #[test]
    fn a_source_that_is_ours_no_longer_is_left_out_and_offload_stays() {
        let mut outbox = Outbox::new(10_000, 10);
        for (port, local) in [(1, "198.51.100.1"), (2, OUR_ADDRESS)] {
            let path = Path { local: Some(local.parse().unwrap()), ..Path::to(([192, 0, 2, 9], port).into()) };
            assert!(outbox.push(path, true, &[7; 100]) && outbox.push(path, true, &[7; 100]));
        }
        let mut kernel = Fake::default();
        let mut gso = Gso::ON;
        run(&mut kernel, &mut gso, &outbox);
        assert_eq!(kernel.taken, [(1, 100, false, false), (1, 100, false, false), (2, 200, true, true)]);
        assert!(gso.is_on());
    }

    #[test]
    fn an_unreachable_peer_costs_only_its_own_run() {
        let mut outbox = outbox(&[(1, &[10]), (2, &[20, 20, 20]), (3, &[30])]);
        assert!(outbox.push(Path::to(([192, 0, 2, 9], 2).into()), false, &[7; 10]));
        let mut kernel = Fake { unreachable: vec![2], ..Fake::default() };
        let report = run(&mut kernel, &mut Gso::ON.clone(), &outbox);
        assert_eq!((report.sent_datagrams, report.refused_datagrams, report.unsent_data_datagrams), (2, 4, 3));
        assert_eq!(report.first_error.unwrap().raw_os_error(), Some(libc::ENETUNREACH));
    }

    #[test]
    fn a_full_socket_is_waited_for_shortly_and_the_rest_is_counted() {
        let outbox = outbox(&[(1, &[10, 10]), (2, &[20])]);
        let mut kernel = Fake { errors: vec![libc::EAGAIN], ..Fake::default() };
        assert_eq!(run(&mut kernel, &mut Gso::ON.clone(), &outbox).sent_datagrams, 3);
        assert_eq!(kernel.waits, 1);

        let mut kernel = Fake { errors: vec![libc::EAGAIN; 100], ..Fake::default() };
        let report = run(&mut kernel, &mut Gso::ON.clone(), &outbox);
        assert_eq!((report.congested_datagrams, report.unsent_data_datagrams, kernel.waits), (3, 3, MAX_WAITS));
    }

    #[test]
    fn signals_and_earlier_errors_are_retried_but_not_for_ever() {
        let outbox = outbox(&[(1, &[10, 10]), (2, &[20])]);
        let mut kernel = Fake { errors: vec![libc::EINTR, libc::ECONNREFUSED], ..Fake::default() };
        assert_eq!(run(&mut kernel, &mut Gso::ON.clone(), &outbox).sent_datagrams, 3);
        let mut kernel = Fake { errors: vec![libc::ECONNREFUSED; 100], ..Fake::default() };
        assert_eq!(run(&mut kernel, &mut Gso::ON.clone(), &outbox).refused_datagrams, 3);
    }
}
