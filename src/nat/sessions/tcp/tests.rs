use proptest::prelude::*;

use super::*;

const SYN: u8 = flag::SYN;
const ACK: u8 = flag::ACK;
const FIN: u8 = flag::FIN;
const RST: u8 = flag::RST;

/// The numbers of two honest ends, opener first. Sequence space wraps soon.
#[derive(Clone, Copy)]
pub(in super::super) struct Ends {
    pub next: [u32; 2],
}

impl Ends {
    pub fn new() -> Self {
        Ends { next: [u32::MAX - 20, 7_000] }
    }

    /// What end `me` would send now, with `data_bytes`.
    pub fn segment(&self, me: usize, flags: u8, data_bytes: u32) -> Segment {
        Segment {
            seq: self.next[me],
            ack: if flags & ACK != 0 { self.next[1 - me] } else { 0 },
            len: data_bytes + u32::from(flags & (SYN | FIN) != 0),
            window: u16::MAX,
            flags,
            window_shift: (flags & SYN != 0).then_some(2),
        }
    }

    /// The same, sent.
    pub fn say(&mut self, me: usize, flags: u8, data_bytes: u32) -> Segment {
        let segment = self.segment(me, flags, data_bytes);
        self.next[me] = segment.end();
        segment
    }
}

/// A connection, and what is thought of it.
#[derive(Clone, Copy)]
struct Talk {
    ends: Ends,
    track: Track,
    phase: Phase,
}

impl Talk {
    fn begin(flags: u8, data_bytes: u32) -> Talk {
        let mut ends = Ends::new();
        let (track, phase) = Track::open(&ends.say(OPENER, flags, data_bytes));
        Talk { ends, track, phase }
    }

    fn opening() -> Talk {
        Talk::begin(SYN, 0)
    }

    fn picked_up() -> Talk {
        Talk::begin(ACK, 100)
    }

    fn answered() -> Talk {
        let mut talk = Talk::opening();
        talk.say(OTHER, SYN | ACK, 0);
        talk
    }

    fn established() -> Talk {
        let mut talk = Talk::answered();
        talk.say(OPENER, ACK, 0);
        talk
    }

    fn closed() -> Talk {
        let mut talk = Talk::established();
        talk.say(OPENER, FIN | ACK, 0);
        talk.say(OTHER, FIN | ACK, 0);
        talk.say(OPENER, ACK, 0);
        talk
    }

    fn reset() -> Talk {
        let mut talk = Talk::established();
        talk.say(OPENER, RST, 0);
        talk
    }

    fn refused() -> Talk {
        let mut talk = Talk::opening();
        talk.hear(OTHER, refusal(&talk.ends));
        talk
    }

    fn say(&mut self, me: usize, flags: u8, data_bytes: u32) -> Step {
        let segment = self.ends.say(me, flags, data_bytes);
        self.hear(me, segment)
    }

    fn hear(&mut self, me: usize, segment: Segment) -> Step {
        let step = self.track.step(self.phase, me == OPENER, &segment);
        self.phase = step.phase;
        step
    }
}

/// The answer of a closed port to a SYN.
fn refusal(ends: &Ends) -> Segment {
    Segment { seq: 0, ..ends.segment(OTHER, RST | ACK, 0) }
}

#[test]
fn every_transition() {
    use Phase::*;
    type Start = (&'static str, fn() -> Talk);
    let starts: [Start; 7] = [
        ("opening", Talk::opening),
        ("picked up", Talk::picked_up),
        ("answered", Talk::answered),
        ("refused", Talk::refused),
        ("established", Talk::established),
        ("closed", Talk::closed),
        ("reset", Talk::reset),
    ];
    let rows: [(usize, u8, u32, [Phase; 7]); 10] = [
        (OPENER, SYN, 0, [Opening, Opening, Answered, Opening, Established, Opening, Opening]),
        (OTHER, SYN | ACK, 0, [Answered, Established, Answered, Refused, Established, Established, Reset]),
        (OPENER, ACK, 0, [Opening, PickedUp, Established, Refused, Established, Closed, Established]),
        (OTHER, ACK, 0, [Opening, Established, Answered, Refused, Established, Closed, Reset]),
        (OPENER, ACK, 9, [Opening, PickedUp, Established, Refused, Established, Established, Established]),
        (OTHER, ACK, 9, [Opening, Established, Answered, Refused, Established, Established, Reset]),
        (OPENER, FIN | ACK, 0, [Opening, PickedUp, Established, Refused, Established, Established, Established]),
        (OTHER, FIN | ACK, 0, [Opening, Established, Answered, Refused, Established, Established, Reset]),
        (OPENER, RST, 0, [Refused, Refused, Refused, Refused, Reset, Closed, Reset]),
        (OTHER, RST | ACK, 0, [Refused, Refused, Refused, Refused, Reset, Closed, Reset]),
    ];
    for (me, flags, data_bytes, expected) in rows {
        for ((name, start), expected) in starts.into_iter().zip(expected) {
            let mut talk = start();
            talk.say(me, flags, data_bytes);
            assert_eq!(talk.phase, expected, "{name}: end {me} sends {flags:#x} with {data_bytes} bytes");
        }
    }
}

#[test]
fn who_keeps_a_session_alive() {
    for (start, other_does) in [
        (Talk::answered as fn() -> Talk, true),
        (Talk::established, true),
        (Talk::picked_up, true),
        (Talk::closed, false),
        (Talk::reset, false),
    ] {
        assert!(start().say(OPENER, ACK, 0).refreshes, "the opener always does");
        assert_eq!(start().say(OTHER, ACK, 0).refreshes, other_does);
        let mut far = start();
        far.ends.next[OTHER] = far.ends.next[OTHER].wrapping_add(1 << 30);
        assert!(!far.say(OTHER, ACK, 0).refreshes, "not by what it cannot have sent");
        let mut blind = start();
        blind.ends.next[OPENER] = blind.ends.next[OPENER].wrapping_add(1);
        assert!(!blind.say(OPENER, RST, 0).refreshes);
    }
}

#[test]
fn both_may_ask_at_once() {
    let mut talk = Talk::opening();
    let syn = talk.ends.say(OTHER, SYN, 0);
    assert!(talk.track.is_simultaneous(talk.phase, &syn));
    talk.hear(OTHER, syn);
    assert_eq!(talk.phase, Phase::Answered);
    assert!(talk.track.is_simultaneous(talk.phase, &syn), "once more");
    assert!(!talk.track.is_simultaneous(talk.phase, &Segment { seq: 99, ..syn }), "another one");
    // Each acknowledges the other's SYN with its own once more.
    let [first, second] = [OPENER, OTHER]
        .map(|me| Segment { seq: talk.ends.next[me].wrapping_sub(1), ..talk.ends.segment(me, SYN | ACK, 0) });
    talk.hear(OTHER, second);
    assert_eq!(talk.phase, Phase::Answered);
    talk.hear(OPENER, first);
    assert_eq!(talk.phase, Phase::Established);
    assert!(!Talk::picked_up().track.is_simultaneous(Phase::PickedUp, &syn));
    assert!(!talk.track.is_simultaneous(talk.phase, &syn));
}

#[test]
fn closing_by_both_at_once_or_one_after_the_other_with_data_between() {
    let mut talk = Talk::established();
    talk.say(OPENER, FIN | ACK, 30);
    for _ in 0..3 {
        talk.say(OTHER, ACK, 1000);
        talk.say(OPENER, ACK, 0);
    }
    assert_eq!(talk.phase, Phase::Established, "half closed");
    talk.say(OTHER, FIN | ACK, 0);
    assert_eq!(talk.phase, Phase::Closed);
    let again = Segment { seq: talk.ends.next[OTHER].wrapping_sub(1), ..talk.ends.segment(OTHER, FIN | ACK, 0) };
    talk.hear(OTHER, again);
    assert_eq!(talk.phase, Phase::Closed, "a FIN once more");
}

#[test]
fn a_reset_may_come_before_all_data_is_acknowledged_and_no_sooner_or_later() {
    for me in [OPENER, OTHER] {
        let mut talk = Talk::established();
        let acknowledged = talk.ends.next[me];
        for _ in 0..3 {
            talk.say(me, ACK, 1000);
        }
        for (offset, right) in [(-1i32, false), (0, true), (1500, true), (3000, true), (3001, false), (i32::MIN, false)]
        {
            let seq = acknowledged.wrapping_add_signed(offset);
            let mut heard = talk;
            heard.hear(me, Segment { seq, ..talk.ends.segment(me, RST, 0) });
            assert_eq!(heard.phase == Phase::Reset, right, "{offset}");
        }
        // All acknowledged: one number is left.
        talk.say(1 - me, ACK, 0);
        for offset in [-1, 1] {
            let seq = talk.ends.next[me].wrapping_add_signed(offset);
            talk.hear(me, Segment { seq, ..talk.ends.segment(me, RST, 0) });
            assert_eq!(talk.phase, Phase::Established);
        }
        talk.say(me, RST, 0);
        assert_eq!(talk.phase, Phase::Reset);
    }
}

#[test]
fn a_sweep_of_blind_resets_closes_nothing() {
    let talk = Talk::established();
    for me in [OPENER, OTHER] {
        for flags in [RST, RST | ACK] {
            // Steps of the smallest window that was announced: every endpoint that only looks at windows is hit.
            let mut swept = talk;
            for seq in (0..=u32::MAX).step_by(usize::from(u16::MAX)) {
                swept.hear(me, Segment { seq, ..talk.ends.segment(me, flags, 0) });
            }
            assert_eq!(swept.phase, Phase::Established);
        }
    }
    let mut asked = Talk::opening();
    for seq in (0..=u32::MAX).step_by(usize::from(u16::MAX)) {
        asked.hear(OTHER, Segment { ack: seq, ..refusal(&asked.ends) });
    }
    assert_eq!(asked.phase, Phase::Opening);
}

#[test]
fn who_goes_on_after_a_reset_has_not_sent_it() {
    let mut talk = Talk::reset();
    talk.say(OTHER, ACK, 10);
    assert_eq!(talk.phase, Phase::Reset, "on its way when the reset passed");
    talk.say(OPENER, ACK, 0);
    assert_eq!(talk.phase, Phase::Established);
}

#[test]
fn data_behind_a_fin_shows_that_the_fin_was_forged() {
    for me in [OPENER, OTHER] {
        let mut talk = Talk::closed();
        talk.say(me, ACK, 5);
        assert_eq!(talk.phase, Phase::Established);
        talk.say(1 - me, FIN | ACK, 0);
        assert_eq!(talk.phase, Phase::Established, "a forged FIN is forgotten");
    }
}

#[test]
fn a_segment_outside_of_the_window_changes_nothing() {
    let window = u32::from(u16::MAX) << 2;
    let mut talk = Talk::established();
    talk.say(OTHER, ACK, 0); // the first window that is scaled
    let edge = talk.ends.next[OPENER].wrapping_add(window);
    let fin = talk.ends.segment(OPENER, FIN | ACK, 0);
    talk.say(OTHER, FIN | ACK, 0);
    talk.hear(OPENER, Segment { seq: edge, ..fin });
    assert_eq!(talk.phase, Phase::Established, "one byte too far");
    talk.hear(OPENER, Segment { seq: fin.seq, ack: talk.ends.next[OTHER].wrapping_add(window + 1), ..fin });
    assert_eq!(talk.phase, Phase::Established, "acknowledges what was not sent");
    talk.hear(OPENER, Segment { seq: edge.wrapping_sub(1), ..fin });
    assert_eq!(talk.phase, Phase::Closed);
}

#[test]
fn an_end_without_window_scale_has_none_scaled() {
    let mut ends = Ends::new();
    let (mut track, phase) = Track::open(&Segment { window_shift: None, ..ends.say(OPENER, SYN, 0) });
    let phase = track.step(phase, false, &ends.say(OTHER, SYN | ACK, 0)).phase;
    let phase = track.step(phase, true, &ends.say(OPENER, ACK, 0)).phase;
    track.step(phase, false, &ends.say(OTHER, ACK, 0));
    assert_eq!(track.ends.map(|end| end.window), [65_535; 2]);
}

#[test]
fn what_is_lost_before_us_is_learned_from_the_acknowledgement() {
    let mut talk = Talk::established();
    talk.ends.next[OPENER] = talk.ends.next[OPENER].wrapping_add(3000); // never seen here
    talk.say(OTHER, ACK, 0);
    talk.say(OPENER, RST, 0);
    assert_eq!(talk.phase, Phase::Reset);
}

#[test]
fn the_middle_of_a_connection_is_picked_up() {
    let mut talk = Talk::picked_up();
    // The first segment seen was an old one sent again: the answer acknowledges more.
    talk.ends.next[OPENER] = talk.ends.next[OPENER].wrapping_add(20_000);
    talk.say(OTHER, ACK, 0);
    assert_eq!(talk.phase, Phase::Established);
    let mut blind = talk;
    blind.hear(OTHER, Segment { seq: talk.ends.next[OTHER].wrapping_add(1), ..talk.ends.segment(OTHER, RST, 0) });
    assert_eq!(blind.phase, Phase::Established, "its resets are held to the same");
    talk.say(OTHER, RST, 0);
    assert_eq!(talk.phase, Phase::Reset);

    // A server that knows nothing of it says so.
    let mut gone = Talk::picked_up();
    gone.hear(OTHER, Segment { seq: gone.ends.next[OTHER], ..gone.ends.segment(OTHER, RST, 0) });
    assert_eq!(gone.phase, Phase::Refused);
}

#[test]
fn a_syn_on_an_established_connection_is_the_receivers_to_judge() {
    let mut talk = Talk::established();
    let anew = Segment { seq: 1_000_000_000, ..talk.ends.segment(OPENER, SYN, 0) };
    talk.hear(OPENER, anew);
    assert_eq!(talk.phase, Phase::Established);
    talk.say(OTHER, ACK, 0); // a challenge
    let mut restarted = talk;
    restarted.say(OPENER, RST, 0);
    assert_eq!(restarted.phase, Phase::Reset, "the answer to a challenge is right");
    restarted.hear(OPENER, anew);
    assert_eq!(restarted.phase, Phase::Opening);

    // The other end has forgotten the connection too.
    let mut forgotten = talk;
    let agreed = Segment { seq: 77, ack: anew.end(), ..talk.ends.segment(OTHER, SYN | ACK, 0) };
    forgotten.hear(OTHER, Segment { ack: agreed.ack + 1, ..agreed });
    assert_eq!(forgotten.phase, Phase::Established, "another number");
    forgotten.hear(OTHER, agreed);
    assert_eq!(forgotten.phase, Phase::Answered);
    forgotten.ends.next = [anew.end(), agreed.end()];
    forgotten.say(OPENER, ACK, 10);
    forgotten.say(OTHER, ACK, 10);
    forgotten.say(OTHER, RST, 0);
    assert_eq!(forgotten.phase, Phase::Reset, "the numbers are the new connection's");
}

#[test]
fn the_same_ports_again_after_the_end() {
    for start in [Talk::closed as fn() -> Talk, Talk::reset, Talk::refused] {
        let mut talk = start();
        talk.ends.next = [5, 500_000];
        talk.say(OPENER, SYN, 0);
        talk.say(OTHER, SYN | ACK, 0);
        talk.say(OPENER, ACK, 0);
        assert_eq!(talk.phase, Phase::Established);
    }
}

/// Honest ends over a path that loses segments on either side of us, and sends them again.
struct Lossy {
    talk: Talk,
    /// By sender: segments that are not acknowledged, in order, and whether the other end has them.
    unacknowledged: [Vec<(Segment, bool)>; 2],
}

impl Lossy {
    const WINDOW_BYTES: u32 = (u16::MAX as u32) << 2;

    fn start() -> Self {
        let mut talk = Talk::established();
        talk.say(OTHER, ACK, 0);
        Lossy { talk, unacknowledged: [Vec::new(), Vec::new()] }
    }

    fn send(&mut self, me: usize, data_bytes: u32, seen: bool, received: bool) {
        let in_flight: u32 = self.unacknowledged[me].iter().map(|(segment, _)| segment.len).sum();
        if in_flight + data_bytes > Self::WINDOW_BYTES {
            return;
        }
        let segment = Segment { ack: self.waits_for(me), ..self.talk.ends.say(me, ACK, data_bytes) };
        self.unacknowledged[me].push((segment, seen && received));
        if seen {
            self.talk.hear(me, segment);
        }
    }

    fn send_again(&mut self, me: usize, which: usize, seen: bool, received: bool) {
        let count = self.unacknowledged[me].len();
        let Some((segment, has)) = self.unacknowledged[me].get_mut(which % count.max(1)) else { return };
        *has |= seen && received;
        let segment = *segment;
        if seen {
            self.talk.hear(me, segment);
        }
    }

    /// `me` acknowledges what it has without a gap.
    fn acknowledge(&mut self, me: usize, seen: bool, received: bool) {
        let ack = Segment { ack: self.waits_for(me), ..self.talk.ends.segment(me, ACK, 0) };
        if seen {
            self.talk.hear(me, ack);
            if received {
                self.unacknowledged[1 - me].retain(|(segment, _)| past(segment.end(), ack.ack) > 0);
            }
        }
    }

    fn waits_for(&self, me: usize) -> u32 {
        let missing = self.unacknowledged[1 - me].iter().find(|(_, has)| !has);
        missing.map_or(self.talk.ends.next[1 - me], |(segment, _)| segment.seq)
    }
}

proptest! {
    #[test]
    fn honest_ends_are_understood_whatever_is_lost(
        steps in prop::collection::vec((0u8..3, 0usize..2, 1u32..30_000, 0usize..50, 0u8..8, 0u8..8), 1..300),
        last in 0usize..2,
    ) {
        let mut lossy = Lossy::start();
        for (what, me, data_bytes, which, seen, received) in steps {
            match what {
                0 => lossy.send(me, data_bytes, seen > 0, received > 0),
                1 => lossy.send_again(me, which, seen > 0, received > 0),
                _ => lossy.acknowledge(me, seen > 0, received > 0),
            }
        }
        for me in [OPENER, OTHER] {
            (0..lossy.unacknowledged[me].len()).for_each(|which| lossy.send_again(me, which, true, true));
            lossy.acknowledge(1 - me, true, true);
        }
        prop_assert_eq!(lossy.talk.phase, Phase::Established);
        lossy.talk.say(last, RST, 0);
        prop_assert_eq!(lossy.talk.phase, Phase::Reset);
    }

    /// Nobody can reach a phase that ends the session without a number that only the ends know.
    #[test]
    fn strangers_change_nothing(
        segments in prop::collection::vec((0usize..2, any::<u32>(), any::<u32>(), any::<u8>(), 0u32..1500), 1..200),
    ) {
        let mut talk = Talk::established();
        talk.say(OTHER, ACK, 0);
        for (me, seq, ack, flags, len) in segments {
            let near = |number: u32, of: u32| past(number, of).abs() <= 1 << 20;
            prop_assume!(!near(seq, talk.ends.next[me]));
            let segment = Segment { seq, ack, flags: flags | ACK, len, window: 9, window_shift: None };
            talk.hear(me, segment);
            prop_assert_eq!(talk.phase, Phase::Established);
        }
        talk.say(OPENER, RST, 0);
        prop_assert_eq!(talk.phase, Phase::Reset, "and the ends are still understood");
    }

    #[test]
    fn never_panics(
        first in any::<(u32, u32, u32, u16, u8)>(),
        segments in prop::collection::vec(any::<(bool, u32, u32, u32, u16, u8, Option<u8>)>(), 0..50),
    ) {
        let (seq, ack, len, window, flags) = first;
        let (mut track, mut phase) = Track::open(&Segment { seq, ack, len, window, flags, window_shift: Some(200) });
        for (from_opener, seq, ack, len, window, flags, window_shift) in segments {
            phase = track.step(phase, from_opener, &Segment { seq, ack, len, window, flags, window_shift }).phase;
        }
    }
}
