//! TCP sessions in the table: how long they live, who may open what, and how many.

use super::super::tcp::tests::Ends;
use super::*;
use crate::wire::tcp::{flag, may_open};

const SYN: u8 = flag::SYN;
const ACK: u8 = flag::ACK;
const FIN: u8 = flag::FIN;
const RST: u8 = flag::RST;

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// The flow of a segment that `me` sends between port `port` of A and a server of B.
fn flow(me: usize, port: u16, tcp_flags: u8) -> Flow {
    let may_open = may_open(tcp_flags);
    let flow = Flow {
        source: side(A, port),
        destination: side(B, 443),
        protocol: protocol::TCP,
        tcp_flags,
        may_open,
        asker: Asker::Neither,
    };
    if me == CLIENT { flow } else { flow.reversed() }
}

/// A table, and the numbers of one connection through it.
struct World {
    t: Sessions,
    ends: Ends,
    now: u32,
}

impl World {
    fn new(per_realm: usize) -> World {
        World { t: table(10, per_realm), ends: Ends::new(), now: 0 }
    }

    fn hear(&mut self, me: usize, segment: Segment, grants: impl Fn(&Flow) -> bool) -> Result<(), DropReason> {
        self.hear_from(1000, me, segment, grants)
    }

    fn hear_from(
        &mut self,
        port: u16,
        me: usize,
        segment: Segment,
        grants: impl Fn(&Flow) -> bool,
    ) -> Result<(), DropReason> {
        let ticket = self.t.ticket(&flow(me, port, segment.flags)).with_segment(segment);
        self.t.fetch(&[(0, ticket)]);
        self.t.admit(&ticket, G1, self.now, grants).map(|_| ())
    }

    /// The client may open connections to the server, and not the reverse.
    fn say(&mut self, me: usize, flags: u8, data_bytes: u32) -> Result<(), DropReason> {
        let segment = self.ends.say(me, flags, data_bytes);
        self.hear(me, segment, |flow| flow.source.realm == A)
    }

    fn establish(&mut self) {
        self.say(CLIENT, SYN, 0).unwrap();
        self.say(SERVER, SYN | ACK, 0).unwrap();
        self.say(CLIENT, ACK, 0).unwrap();
    }

    /// Whether the session lives exactly `secs` more from now.
    fn lives(&self, secs: u32) -> bool {
        let at = |secs: u32| self.t.contains(&flow(CLIENT, 1000, 0), G1, self.now + secs, |_| false);
        at(secs - 1) && !at(secs)
    }
}

#[test]
fn idle_times_follow_the_state_of_the_connection() {
    let timers =
        Timers { tcp_opening_secs: 30, tcp_transitory_secs: 250, tcp_established_secs: 8000, ..Timers::default() };
    for (timers, [opening, established, transitory]) in
        [(Timers::default(), [240, 7440, 240]), (timers, [30, 8000, 250])]
    {
        let mut w = World::new(10);
        w.t.set_timers(timers);
        w.say(CLIENT, SYN, 0).unwrap();
        assert!(w.lives(opening), "half open");
        w.now = 1;
        w.say(SERVER, SYN | ACK, 0).unwrap();
        assert!(w.lives(opening), "answered");
        w.say(CLIENT, ACK, 0).unwrap();
        assert!(w.lives(established), "established");
        w.now = 7000;
        w.say(SERVER, ACK, 10).unwrap();
        assert!(w.lives(established), "either side keeps it alive");
        w.say(CLIENT, FIN | ACK, 0).unwrap();
        assert!(w.lives(established), "half closed");
        w.now = 7002;
        w.say(SERVER, FIN | ACK, 0).unwrap();
        assert!(w.lives(transitory), "closed");
        w.ends.next = [1, 2];
        w.establish();
        assert!(w.lives(established), "again on the same ports");
        w.now = 7004;
        w.say(SERVER, RST, 0).unwrap();
        assert!(w.lives(transitory), "reset");
        w.now = 7005;
        w.say(SERVER, ACK, 0).unwrap();
        assert!(w.lives(established), "goes on all the same");
    }
}

#[test]
fn a_reset_that_only_guesses_passes_and_shortens_nothing() {
    let mut w = World::new(10);
    w.establish();
    for me in [CLIENT, SERVER] {
        for seq in (0..=u32::MAX).step_by(usize::from(u16::MAX)) {
            let blind = Segment { seq, ..w.ends.segment(me, RST, 0) };
            assert_eq!(w.hear(me, blind, |_| false), Ok(()), "its receiver judges");
        }
    }
    assert!(w.lives(7440));
    w.now = 1000;
    let late = Segment { seq: 1, ..w.ends.segment(CLIENT, RST, 0) };
    w.hear(CLIENT, late, |_| false).unwrap();
    assert!(w.lives(6440), "nor does it keep the session alive");
}

#[test]
fn what_begins_nothing_opens_nothing() {
    for flags in [RST, RST | ACK, SYN | ACK, FIN, 0] {
        assert_eq!(World::new(10).say(CLIENT, flags, 0), Err(DropReason::NoSession), "{flags:#x}");
    }
}

#[test]
fn a_connection_goes_on_after_a_restart_when_its_opener_speaks() {
    let mut w = World::new(10);
    assert_eq!(w.say(SERVER, ACK, 100), Err(DropReason::NotGranted), "the reverse opens no way in");
    assert_eq!(w.say(CLIENT, ACK, 100), Ok(()));
    assert!(w.lives(240), "nobody has answered");
    assert_eq!(w.say(SERVER, ACK, 100), Ok(()));
    assert!(w.lives(7440));
    let syn = w.ends.segment(SERVER, SYN, 0);
    assert_eq!(w.hear(SERVER, syn, |flow| flow.source.realm == A), Err(DropReason::NotGranted));

    let mut w = World::new(10);
    let segment = w.ends.say(CLIENT, ACK, 100);
    let ticket = w.t.ticket(&flow(CLIENT, 1000, ACK)).with_segment(segment).not_in_mid_stream();
    assert_eq!(w.t.admit(&ticket, G1, 0, |_| true), Err(DropReason::NoSession), "not where a binding is lost");
    let ticket = ticket.with_segment(w.ends.segment(CLIENT, SYN, 0));
    let ticket = Ticket { may_open: true, ..ticket }.not_in_mid_stream();
    assert!(w.t.admit(&ticket, G1, 0, |_| true).is_ok());
}

#[test]
fn the_other_side_opens_no_connection_of_its_own_without_a_grant() {
    let granted = |flow: &Flow| flow.source.realm == A;
    let mut w = World::new(10);
    w.establish();
    let syn = w.ends.segment(SERVER, SYN, 0);
    assert_eq!(w.hear(SERVER, syn, granted), Err(DropReason::NotGranted));
    assert_eq!(w.hear(SERVER, syn, |_| true), Ok(()), "the receiver will challenge it");
    assert_eq!((w.t.opened_by(A), w.t.opened_by(B)), (1, 0));
    w.say(CLIENT, RST, 0).unwrap();
    assert_eq!(w.hear(SERVER, syn, granted), Err(DropReason::NotGranted));
    assert_eq!(w.hear(SERVER, syn, |_| true), Ok(()));
    assert_eq!((w.t.opened_by(A), w.t.opened_by(B)), (0, 1), "it is the opener now");
}

#[test]
fn a_syn_that_crosses_the_openers_is_the_same_connection() {
    let mut w = World::new(10);
    w.say(CLIENT, SYN, 0).unwrap();
    assert_eq!(w.say(SERVER, SYN, 0), Ok(()));
    assert_eq!(w.say(CLIENT, ACK, 0), Ok(()));
    assert!(w.lives(7440));
}

#[test]
fn half_open_connections_make_room_for_their_own_realm() {
    let mut w = World::new(3);
    let syn = w.ends.segment(CLIENT, SYN, 0);
    for port in 1..=3 {
        w.hear_from(port, CLIENT, syn, |_| true).unwrap();
    }
    let foreign = udp(side(B, 5), side(A, 5));
    admit(&mut w.t, &foreign, G1, 0, |_| true).unwrap();
    // The first is established, so the second is the oldest that is not.
    for (me, flags) in [(SERVER, SYN | ACK), (CLIENT, ACK)] {
        let mut ends = w.ends;
        ends.next[CLIENT] = syn.end();
        if me == CLIENT {
            ends.next[SERVER] += 1;
        }
        w.hear_from(1, me, ends.segment(me, flags, 0), |_| false).unwrap();
    }
    assert_eq!(w.hear_from(4, CLIENT, syn, |_| true), Ok(()));
    let is_open = |w: &World, port| w.t.contains(&flow(CLIENT, port, 0), G1, 0, |_| false);
    assert_eq!([1, 2, 3, 4].map(|port| is_open(&w, port)), [true, false, true, true]);
    assert!(w.t.contains(&foreign, G1, 0, |_| false), "never another realm's");
    assert_eq!((w.t.len(), w.t.opened_by(A), w.t.opened_by(B)), (4, 3, 1));

    // Established ones are never given up.
    let mut full = World::new(1);
    full.establish();
    let another = full.ends.segment(CLIENT, SYN, 0);
    assert_eq!(full.hear_from(9, CLIENT, another, |_| true), Err(DropReason::SessionQuotaExceeded));
    assert!(full.lives(7440));
}

#[test]
fn half_open_connections_make_room_in_a_full_table() {
    let mut w = World::new(10);
    let syn = w.ends.segment(CLIENT, SYN, 0);
    for port in 0..10 {
        w.hear_from(port, CLIENT, syn, |_| true).unwrap();
    }
    let foreign = udp(side(B, 5), side(A, 5));
    assert_eq!(admit(&mut w.t, &foreign, G1, 0, |_| true), Err(DropReason::SessionTableFull), "not for others");
    assert_eq!(w.hear_from(10, CLIENT, syn, |_| true), Ok(()));
    assert_eq!(w.t.len(), 10);
    assert!(!w.t.contains(&flow(CLIENT, 0, 0), G1, 0, |_| false));
    w.t.expire(100, 240);
    assert_eq!(w.t.len(), 0);
    assert_eq!(admit(&mut w.t, &foreign, G1, 240, |_| true), Ok(()));
}

/// What honest ends, and somebody who cannot see them, do.
#[derive(Clone, Copy, Debug)]
enum Event {
    Syn,
    SynAck,
    Ack(usize),
    Data(usize, u32),
    Fin(usize),
    Rst(usize),
    BlindRst(usize, u32),
    BlindData(usize, u32),
    Pass(u32),
}

fn event() -> impl Strategy<Value = Event> {
    let end = 0usize..2;
    prop_oneof![
        3 => Just(Event::Syn),
        3 => Just(Event::SynAck),
        4 => end.clone().prop_map(Event::Ack),
        3 => (end.clone(), 1u32..1400).prop_map(|(end, bytes)| Event::Data(end, bytes)),
        1 => end.clone().prop_map(Event::Fin),
        1 => end.clone().prop_map(Event::Rst),
        2 => (end.clone(), 1u32..u32::MAX - 100_000).prop_map(|(end, off)| Event::BlindRst(end, off)),
        2 => (end, 10_000_000u32..u32::MAX - 10_000_000).prop_map(|(end, off)| Event::BlindData(end, off)),
        3 => prop_oneof![0u32..100, 0u32..8000].prop_map(Event::Pass),
    ]
}

/// The connection as its ends know it.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Known {
    Nothing,
    Asked,
    Answered,
    Established { fins: [bool; 2] },
    Over,
}

impl Known {
    fn idle_secs(self) -> u32 {
        if matches!(self, Known::Established { .. }) { 7440 } else { 240 }
    }
}

proptest! {
    /// Against what the ends know: no numbers, no windows. Strangers' segments only count as the opener's packets.
    #[test]
    fn agrees_with_what_the_ends_know(events in prop::collection::vec(event(), 1..120)) {
        let mut w = World::new(10);
        let mut known = Known::Nothing;
        let mut last = 0;
        let mut unacknowledged = [0u32; 2];
        for event in events {
            if known != Known::Nothing && w.now - last >= known.idle_secs() {
                known = Known::Nothing;
            }
            let [established, closed] = [[false; 2], [true; 2]].map(|fins| Known::Established { fins });
            match (event, known) {
                (Event::Pass(secs), _) => w.now += secs,
                (Event::Syn, Known::Nothing | Known::Over) => {
                    w.ends.next = w.ends.next.map(|next| next.wrapping_mul(2_654_435_761).wrapping_add(17));
                    prop_assert_eq!(w.say(CLIENT, SYN, 0), Ok(()));
                    (known, last, unacknowledged) = (Known::Asked, w.now, [0; 2]);
                }
                (Event::SynAck, Known::Asked) => {
                    prop_assert_eq!(w.say(SERVER, SYN | ACK, 0), Ok(()));
                    (known, last) = (Known::Answered, w.now);
                }
                (Event::Ack(CLIENT), Known::Answered) => {
                    prop_assert_eq!(w.say(CLIENT, ACK, 0), Ok(()));
                    (known, last) = (established, w.now);
                }
                (Event::Ack(end), Known::Established { .. }) => {
                    prop_assert_eq!(w.say(end, ACK, 0), Ok(()));
                    unacknowledged[1 - end] = 0;
                    last = w.now;
                }
                (Event::Data(end, bytes), Known::Established { fins }) if !fins[end] && unacknowledged[end] < 60_000 => {
                    prop_assert_eq!(w.say(end, ACK, bytes), Ok(()));
                    unacknowledged[end] += bytes;
                    unacknowledged[1 - end] = 0;
                    last = w.now;
                }
                (Event::Fin(end), Known::Established { mut fins }) if !fins[end] => {
                    prop_assert_eq!(w.say(end, FIN | ACK, 0), Ok(()));
                    fins[end] = true;
                    unacknowledged[end] += 1;
                    unacknowledged[1 - end] = 0;
                    (known, last) = (Known::Established { fins }, w.now);
                    if known == closed {
                        known = Known::Over;
                    }
                }
                (Event::Rst(CLIENT), Known::Asked | Known::Answered) | (Event::Rst(_), Known::Established { .. }) => {
                    let Event::Rst(end) = event else { unreachable!() };
                    prop_assert_eq!(w.say(end, RST, 0), Ok(()));
                    (known, last) = (Known::Over, w.now);
                }
                (Event::BlindRst(end, off), Known::Established { .. }) => {
                    let segment = w.ends.segment(end, RST, 0);
                    let blind = Segment { seq: segment.seq.wrapping_add(off), ..segment };
                    prop_assert_eq!(w.hear(end, blind, |_| false), Ok(()));
                }
                (Event::BlindData(end, off), Known::Established { .. }) => {
                    let segment = w.ends.segment(end, FIN | ACK, 0);
                    let blind = Segment { seq: segment.seq.wrapping_add(off), ..segment };
                    prop_assert_eq!(w.hear(end, blind, |_| false), Ok(()));
                    if end == CLIENT {
                        last = w.now;
                    }
                }
                _ => {}
            }
            let lives = known != Known::Nothing && w.now - last < known.idle_secs();
            prop_assert_eq!(w.t.contains(&flow(CLIENT, 1000, 0), G1, w.now, |_| false), lives, "{:?}", event);
            w.t.expire(10, w.now);
            prop_assert_eq!(w.t.len(), usize::from(lives));
        }
    }
}
