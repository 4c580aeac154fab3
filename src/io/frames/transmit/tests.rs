//! Against a kernel that does as a test says.

use super::*;
use crate::io::frames::offload::Header;
use crate::io::frames::offload::split::Split;
use crate::net::InterfaceId;

/// A kernel with the faults that a test gives it.
#[derive(Default)]
struct Fake {
    /// Joined frames are refused with this.
    refuses_joined: Option<i32>,
    /// Errors for the next calls, before anything else.
    errors: Vec<i32>,
    /// Messages taken per call.
    per_call: Option<usize>,
    waits: u32,
    /// Of each message: how many frames, how many bytes.
    taken: Vec<(usize, usize)>,
}

impl Sink for Fake {
    fn send(&mut self, messages: &[Message], outbox: &Outbox) -> io::Result<usize> {
        if !self.errors.is_empty() {
            return Err(io::Error::from_raw_os_error(self.errors.remove(0)));
        }
        let mut taken = 0;
        for message in messages.iter().take(self.per_call.unwrap_or(usize::MAX)) {
            match self.refuses_joined.filter(|_| message.is_joined()) {
                Some(error) if taken == 0 => return Err(io::Error::from_raw_os_error(error)),
                Some(_) => break,
                None => {}
            }
            let bytes = message.parts(outbox).map(<[u8]>::len).sum::<usize>() - HEADER_BYTES;
            self.taken.push((message.frames(outbox).len(), bytes));
            taken += 1;
        }
        Ok(taken)
    }

    fn wait(&mut self) {
        self.waits += 1;
    }
}

fn port() -> Path {
    Path::tun(InterfaceId(0))
}

/// Segments of 1,000 bytes of payload of a flow, without a frame around them.
pub fn segments(flow: u8, count: usize) -> Vec<Vec<u8>> {
    let payload = vec![flow; 1_000 * count];
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, 6, 64];
    packet.extend([[flow; 16], [9; 16]].concat());
    packet.extend([0, flow, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    packet.extend(payload);
    let header = Header { gso_type: Header::TCP6, segment_bytes: 1_000, ..Default::default() };
    let mut split = Split::new(&packet, &header, Link::None).unwrap();
    let mut out = vec![0; 2_000];
    let segment = |_| {
        let len = split.next(&packet, &mut out);
        out[..len].to_vec()
    };
    (0..count).map(segment).collect()
}

fn outbox_of(frames: &[Vec<u8>]) -> Outbox {
    let mut outbox = Outbox::new(1 << 20, 1_000);
    frames.iter().for_each(|frame| assert!(outbox.push(port(), true, frame)));
    outbox
}

fn send(transmit: &mut Transmit, outbox: &Outbox, fake: &mut Fake) -> SendReport {
    transmit.send(outbox, &|path| *path == port(), fake)
}

fn joining() -> Transmit {
    Transmit::new(Link::None, true)
}

#[test]
fn segments_of_each_flow_become_one_message_and_all_else_goes_as_it_is() {
    let all = [segments(1, 5), segments(2, 3), vec![vec![7; 300]; 2], segments(3, 1)].concat();
    let mut fake = Fake::default();
    let report = send(&mut joining(), &outbox_of(&all), &mut fake);
    assert_eq!(report.sent_datagrams, 11);
    assert_eq!(fake.taken, [(5, 60 + 5_000), (3, 60 + 3_000), (1, 300), (1, 300), (1, 1_060)]);
    let mut fake = Fake::default();
    assert_eq!(send(&mut Transmit::new(Link::None, false), &outbox_of(&all), &mut fake).sent_datagrams, 11);
    assert_eq!(fake.taken.len(), 11, "without joining");
}

#[test]
fn more_than_a_call_takes_and_more_than_was_taken_is_sent_in_further_calls() {
    let all = [segments(1, 130), vec![vec![7; 300]; 100]].concat();
    for per_call in [None, Some(1), Some(5)] {
        let mut fake = Fake { per_call, ..Fake::default() };
        assert_eq!(send(&mut joining(), &outbox_of(&all), &mut fake).sent_datagrams, 230);
        assert_eq!(fake.taken.iter().map(|(frames, _)| frames).sum::<usize>(), 230);
        assert!(fake.taken.len() < 110, "joined as far as the runs go");
    }
}

#[test]
fn refused_joined_frames_go_one_by_one_and_after_some_none_is_joined() {
    let all = segments(1, 6);
    let (mut transmit, outbox) = (joining(), outbox_of(&all));
    for round in 1..=MAX_REFUSALS {
        assert!(transmit.joins());
        let mut fake = Fake { refuses_joined: Some(libc::EINVAL), ..Fake::default() };
        let report = send(&mut transmit, &outbox, &mut fake);
        assert_eq!((report.sent_datagrams, report.refused_datagrams), (6, 0), "{round}");
        assert_eq!(fake.taken, vec![(1, 1_060); 6]);
    }
    assert!(!transmit.joins());
}

#[test]
fn a_full_queue_is_waited_for_shortly_and_the_rest_is_congestion() {
    let outbox = outbox_of(&[segments(1, 3), vec![vec![7; 300]; 100]].concat());
    let mut fake = Fake { errors: vec![libc::EAGAIN, libc::ENOBUFS], ..Fake::default() };
    assert_eq!(send(&mut joining(), &outbox, &mut fake).sent_datagrams, 103);
    assert_eq!(fake.waits, 2);
    let mut fake = Fake { errors: vec![libc::EAGAIN; 3], ..Fake::default() };
    let report = send(&mut joining(), &outbox, &mut fake);
    assert_eq!((report.sent_datagrams, report.congested_datagrams, report.unsent_data_datagrams), (0, 103, 103));
    assert!(fake.taken.is_empty() && fake.waits == MAX_WAITS);
}

#[test]
fn a_port_that_stays_full_is_waited_for_once() {
    let outbox = outbox_of(&vec![vec![7; 300]; 10]);
    let (mut transmit, mut fake) = (joining(), Fake { errors: vec![libc::EAGAIN; 9], ..Fake::default() });
    for _ in 0..3 {
        assert_eq!(send(&mut transmit, &outbox, &mut fake).congested_datagrams, 10);
    }
    assert_eq!((fake.waits, fake.errors.len()), (MAX_WAITS, 4));
    fake.errors.clear();
    for _ in 1..CALLS_WITHOUT_WAIT {
        assert_eq!(send(&mut transmit, &outbox, &mut fake).sent_datagrams, 10);
    }
    fake.errors = vec![libc::EAGAIN];
    assert_eq!(send(&mut transmit, &outbox, &mut fake).congested_datagrams, 10, "the last one did not go through");
    for _ in 0..CALLS_WITHOUT_WAIT {
        assert_eq!(send(&mut transmit, &outbox, &mut fake).sent_datagrams, 10);
    }
    fake.errors = vec![libc::EAGAIN];
    assert_eq!(send(&mut transmit, &outbox, &mut fake).sent_datagrams, 10, "it is waited for again");
    assert_eq!(fake.waits, MAX_WAITS + 1);
}

#[test]
fn a_signal_is_no_full_queue() {
    let outbox = outbox_of(&[vec![7; 300]]);
    let mut fake = Fake { errors: vec![libc::EINTR; MAX_INTERRUPTS as usize], ..Fake::default() };
    assert_eq!(send(&mut joining(), &outbox, &mut fake).sent_datagrams, 1);
    fake.errors = vec![libc::EINTR; MAX_INTERRUPTS as usize + 1];
    assert_eq!(send(&mut joining(), &outbox, &mut fake).congested_datagrams, 1, "not for ever");
    assert_eq!(fake.waits, 0);
}

#[test]
fn one_frame_that_is_refused_costs_only_itself_and_an_interface_that_is_down_the_rest() {
    let outbox = outbox_of(&vec![vec![7; 300]; 50]);
    let mut fake = Fake { errors: vec![libc::EMSGSIZE], ..Fake::default() };
    let report = send(&mut joining(), &outbox, &mut fake);
    assert_eq!((report.sent_datagrams, report.refused_datagrams), (49, 1));
    assert_eq!(report.first_error.unwrap().raw_os_error(), Some(libc::EMSGSIZE));
    for error in [libc::ENETDOWN, libc::ENXIO, libc::EIO, libc::EBADFD] {
        let mut transmit = joining();
        let mut fake = Fake { errors: vec![error], ..Fake::default() };
        assert_eq!(send(&mut transmit, &outbox, &mut fake).refused_datagrams, 50);
        assert!(fake.taken.is_empty() && transmit.joins(), "it says nothing about joining");
    }
}

#[test]
fn what_others_carry_is_left_to_them() {
    let mut outbox = Outbox::new(10_000, 10);
    for path in [Path::frames(InterfaceId(0)), port(), Path::frames(InterfaceId(1))] {
        assert!(outbox.push(path, true, &[7; 300]));
    }
    let mut fake = Fake::default();
    assert_eq!(send(&mut joining(), &outbox, &mut fake).sent_datagrams, 1);
    assert_eq!(fake.taken, [(1, 300)]);
}
