//! Hops watched in virtual time.

use super::*;
use crate::net::random::{Random, Seeded};
use crate::wire::bfd::{Control, Diagnostic};

const WATCHED: Liveness = Liveness { interval: Duration::from_secs(1), multiplier: 3 };
const HOP: IpAddr = hop(1);

const fn hop(number: u32) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::from_bits(0xac14_0000 + number))
}

fn ms(millis: u64) -> Timestamp {
    Timestamp::from_micros(millis * 1000)
}

fn bfd(interval_ms: u64) -> Option<Bfd> {
    Some(Bfd { is_active: true, interval: Duration::from_millis(interval_ms), multiplier: 3 })
}

type Change = (Timestamp, IpAddr, bool, Option<HopDown>);

/// Runs a watch by its own timers until `end`; `answers` says who answers a probe, half a millisecond later.
fn run(watch: &mut Watch, end: Timestamp, answers: &mut dyn FnMut(IpAddr, Timestamp) -> bool) -> Vec<Change> {
    let mut changes = Vec::new();
    while let Some(due) = watch.poll_timeout().filter(|due| *due <= end) {
        let mut heard = Vec::new();
        while let Some(action) = watch.poll_action(due) {
            let WatchAction::Probe(to) = action else { panic!("{action:?}") };
            heard.extend(answers(to, due).then_some(to));
        }
        drain(watch, due, &mut changes);
        for hop in heard {
            watch.handle_heard(hop, due + Duration::from_micros(500));
        }
        drain(watch, due, &mut changes);
    }
    changes
}

fn drain(watch: &mut Watch, now: Timestamp, changes: &mut Vec<Change>) {
    changes.extend(std::iter::from_fn(|| watch.poll_change()).map(|(hop, is_alive, why)| (now, hop, is_alive, why)));
}

fn started(hops: &[IpAddr], bfd: Option<Bfd>) -> Watch {
    let mut watch = Watch::new(hops, WATCHED, bfd, 5);
    watch.start(ms(0));
    watch
}

#[test]
fn a_silent_hop_is_dead_three_intervals_after_the_question_that_it_answered_last() {
    // Whenever within the pace it falls silent: not later than three intervals after.
    for silent_from in (10_000..10_750).step_by(50).map(ms) {
        let mut watch = started(&[HOP], None);
        let mut answered = Vec::new();
        let mut unanswered = 0;
        let changes = run(&mut watch, ms(20_000), &mut |_, at| {
            let answers = at < silent_from;
            if answers {
                answered.push(at)
            } else {
                unanswered += 1
            }
            answers
        });
        let last = *answered.last().unwrap();
        assert_eq!(changes[0], (ms(0), HOP, true, None));
        assert_eq!(changes[1], (last + Duration::from_secs(3), HOP, false, Some(HopDown::Silent)));
        assert!(changes[1].0 <= silent_from + Duration::from_secs(3));
        assert_eq!(changes.len(), 2);
        assert!(unanswered > 10, "a dead hop is asked on");
    }
}

#[test]
fn two_questions_without_an_answer_are_no_death_and_three_are() {
    for (lost, expected) in [(2, 1), (3, 3)] {
        let mut watch = started(&[HOP], None);
        let mut asked = 0;
        let changes = run(&mut watch, ms(20_000), &mut |_, _| {
            asked += 1;
            !(5..5 + lost).contains(&asked)
        });
        assert_eq!(changes.len(), expected, "{lost} lost: {changes:?}");
    }
}

#[test]
fn it_is_asked_without_any_traffic_and_one_answer_brings_it_back() {
    let mut watch = started(&[HOP], None);
    let mut asked = Vec::new();
    let changes = run(&mut watch, ms(30_000), &mut |_, at| {
        asked.push(at);
        at > ms(20_000)
    });
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_millis(750)), "{asked:?}");
    let back = *asked.iter().find(|at| **at > ms(20_000)).unwrap();
    assert_eq!(changes, [(back, HOP, true, None)]);
    let status = watch.status(HOP).unwrap();
    assert_eq!((status.is_alive, status.watched_by, status.bfd), (true, "probes", None));
    assert_eq!(status.since, Some(back + Duration::from_micros(500)));
}

#[test]
fn only_an_answer_to_a_question_counts() {
    let mut watch = started(&[HOP], None);
    watch.handle_heard(HOP, ms(0));
    assert_eq!(watch.poll_change(), None, "nobody has asked yet");
    assert_eq!(watch.poll_action(ms(1)), Some(WatchAction::Probe(HOP)));
    watch.handle_heard(hop(2), ms(2));
    assert_eq!(watch.poll_change(), None, "somebody else");
    watch.handle_heard(HOP, ms(2));
    assert_eq!(watch.poll_change(), Some((HOP, true, None)));
    // A second answer to the same question is none to the next one.
    let before = format!("{watch:?}");
    watch.handle_heard(HOP, ms(3));
    assert_eq!(format!("{watch:?}"), before);
}

#[test]
fn what_we_slept_through_is_nobodys_silence() {
    let mut watch = started(&[HOP], None);
    run(&mut watch, ms(10_000), &mut |_, _| true);
    assert!(watch.poll_action(ms(11_000)).is_some(), "asked, and then nothing runs here for a minute");
    let changes = run(&mut watch, ms(71_000), &mut |_, at| at >= ms(71_000));
    assert_eq!(changes.iter().filter(|change| !change.2).count(), 1, "run by its timers it does count");

    let mut watch = started(&[HOP], None);
    run(&mut watch, ms(10_000), &mut |_, _| true);
    assert!(watch.poll_action(ms(11_000)).is_some());
    assert!(watch.poll_action(ms(71_000)).is_some());
    assert_eq!(watch.poll_action(ms(71_000)), None, "and questions are not made up for");
    watch.handle_heard(HOP, ms(71_001));
    assert_eq!((watch.poll_change(), watch.status(HOP).unwrap().is_alive), (None, true));
}

#[test]
fn a_hop_that_flaps_is_held_back_for_longer_and_longer() {
    let mut watch = started(&[HOP], None);
    // 3 seconds there, 3 seconds gone.
    let changes = run(&mut watch, ms(60_000), &mut |_, at| at.as_secs() / 3 % 2 == 0);
    let downs = changes.iter().filter(|change| !change.2).count();
    assert!((4..=7).contains(&downs), "10 without damping: {changes:?}");
    // It stays there now: at most the longest hold is waited, and the status says so meanwhile.
    let until = watch.status(HOP).unwrap().held_until;
    let changes = run(&mut watch, ms(60_000) + Duration::from_secs(33), &mut |_, _| true);
    assert!(changes.last().unwrap().2, "{changes:?} {until:?}");
    assert_eq!(watch.status(HOP).unwrap().held_until, None);
}

#[test]
fn holds_double_and_end() {
    let mut damper = Damper::default();
    let mut holds = Vec::new();
    for second in 0..9 {
        let now = Timestamp::from_secs(second);
        damper.note_down(now);
        holds.push(damper.held_until().map(|until| (until - now).as_secs()));
    }
    let expected = [None, None, None, Some(2), Some(4), Some(8), Some(16), Some(32), Some(32)];
    assert_eq!(holds, expected);
    assert!(damper.holds(Timestamp::from_secs(39)) && !damper.holds(Timestamp::from_secs(40)));
    damper.note_down(Timestamp::from_secs(100));
    assert_eq!(damper.held_until(), None, "three in a minute are free");
}

#[test]
fn a_link_that_goes_takes_all_hops_along_and_blames_none() {
    let hops = [hop(1), hop(2)];
    let mut watch = started(&hops, None);
    run(&mut watch, ms(5_000), &mut |_, _| true);
    watch.stop(ms(5_100));
    let mut changes = Vec::new();
    drain(&mut watch, ms(5_100), &mut changes);
    assert_eq!(changes, hops.map(|hop| (ms(5_100), hop, false, None)));
    assert_eq!(watch.poll_timeout(), None);
    watch.handle_heard(HOP, ms(5_200));
    assert_eq!(watch.poll_change(), None);
    watch.start(ms(9_000));
    let changes = run(&mut watch, ms(10_000), &mut |_, _| true);
    assert_eq!(changes.iter().filter(|change| change.2).count(), 2);
}

#[test]
fn there_are_no_more_hops_than_a_port_has_and_they_are_not_asked_all_at_once() {
    let many: Vec<IpAddr> = (0..5000).map(hop).collect();
    let mut watch = started(&many, None);
    assert!(watch.status(hop(4111)).is_some() && watch.status(hop(4112)).is_none());
    let mut asked = vec![0; 20_000];
    let changes = run(&mut watch, ms(19_999), &mut |_, at| {
        asked[at.as_micros() as usize / 1000] += 1;
        true
    });
    assert_eq!(changes.len(), 4112);
    assert_eq!(asked.iter().max(), Some(&6), "in a millisecond: 4,112 hops, three quarters of a second");
    assert!(watch.timers.len() == 4112 && watch.changed.is_empty());
}

#[test]
fn changes_that_nobody_polls_do_not_pile_up() {
    let mut watch = started(&[HOP], None);
    for second in 1..100 {
        while watch.poll_action(Timestamp::from_secs(second * 10)).is_some() {}
        watch.handle_heard(HOP, Timestamp::from_secs(second * 10));
        watch.stop(Timestamp::from_secs(second * 10 + 1));
        watch.start(Timestamp::from_secs(second * 10 + 2));
    }
    assert!(watch.changed.len() <= 1);
    assert_eq!(watch.poll_change(), None, "it is what it was");
}

// BFD.

/// Two watches on one link, each the other's only hop.
struct Pair {
    ends: [Watch; 2],
    now: Timestamp,
    /// When, to which end.
    under_way: Vec<(Timestamp, usize, [u8; PACKET_BYTES])>,
    random: Seeded,
    loss_percent: u64,
    /// Towards this end nothing arrives.
    deaf: [bool; 2],
    changes: [Vec<Change>; 2],
    sent: [Vec<(Timestamp, Control)>; 2],
}

const DELAY: Duration = Duration::from_millis(2);

impl Pair {
    fn new(bfds: [Option<Bfd>; 2]) -> Self {
        let mut ends =
            [(2, bfds[0], 11), (1, bfds[1], 12)].map(|(to, bfd, seed)| Watch::new(&[hop(to)], WATCHED, bfd, seed));
        for end in &mut ends {
            end.start(ms(0));
        }
        Pair {
            ends,
            now: ms(0),
            under_way: Vec::new(),
            random: Seeded(99),
            loss_percent: 0,
            deaf: [false; 2],
            changes: Default::default(),
            sent: Default::default(),
        }
    }

    fn run(&mut self, end: Timestamp) {
        loop {
            let arrivals = self.under_way.iter().map(|(at, ..)| *at).min();
            let timers = self.ends.iter().filter_map(Watch::poll_timeout).min();
            let Some(next) = arrivals.into_iter().chain(timers).min().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    fn step(&mut self) {
        let now = self.now;
        for (at, to, payload) in std::mem::take(&mut self.under_way) {
            if at > now {
                self.under_way.push((at, to, payload));
            } else if !self.deaf[to] && self.random.u64() % 100 >= self.loss_percent {
                self.ends[to].handle_bfd(hop(2 - to as u32), 255, 3784, &payload, now);
            }
        }
        for side in 0..2 {
            while let Some(action) = self.ends[side].poll_action(now) {
                let WatchAction::Bfd { payload, .. } = action else { panic!("{action:?}: BFD alone decides") };
                self.sent[side].push((now, parse(&payload).unwrap()));
                self.under_way.push((now + DELAY, 1 - side, payload));
            }
            drain(&mut self.ends[side], now, &mut self.changes[side]);
        }
    }

    fn downs(&self) -> usize {
        self.changes.iter().flatten().filter(|change| !change.2).count()
    }

    fn status(&self, side: usize) -> WatchStatus {
        self.ends[side].status(hop(2 - side as u32)).unwrap()
    }
}

#[test]
fn two_ends_find_one_another_and_keep_on() {
    for passive in [false, true] {
        let other = bfd(100).map(|bfd| Bfd { is_active: !passive, ..bfd });
        let mut pair = Pair::new([bfd(100), other]);
        pair.run(ms(60_000));
        for side in 0..2 {
            let [(at, _, true, None)] = pair.changes[side][..] else { panic!("{:?}", pair.changes) };
            assert!(at <= ms(1_000), "{at:?}");
            assert_eq!((pair.status(side).bfd, pair.status(side).watched_by), (Some("Up"), "BFD"));
            let late = pair.sent[side].iter().filter(|(at, _)| *at > ms(2_000));
            assert!(late.clone().all(|(_, control)| !control.is_poll && !control.is_final), "polls are over");
            assert!((580..=780).contains(&late.count()), "58 seconds at 75 to 100 ms");
        }
    }
}

#[test]
fn two_passive_ends_are_silent() {
    let passive = bfd(100).map(|bfd| Bfd { is_active: false, ..bfd });
    let mut pair = Pair::new([passive, passive]);
    pair.run(ms(60_000));
    assert!(pair.sent.iter().all(Vec::is_empty));
}

#[test]
fn a_silent_end_is_gone_exactly_three_intervals_after_its_last_packet_came() {
    let mut pair = Pair::new([bfd(100), bfd(100)]);
    pair.run(ms(10_000));
    pair.deaf = [true, true];
    let last = pair.sent.each_ref().map(|sent| sent.iter().rev().find(|(at, _)| *at + DELAY <= ms(10_000)).unwrap().0);
    pair.run(ms(12_000));
    for side in 0..2 {
        let expected = last[1 - side] + DELAY + Duration::from_millis(300);
        let (at, _, is_alive, why) = pair.changes[side][1];
        assert_eq!((at, is_alive, why), (expected, false, Some(HopDown::BfdTimeout)));
        assert!(at <= ms(10_300));
    }
    // And back, as soon as something gets through.
    pair.deaf = [false, false];
    pair.run(ms(16_000));
    assert!(pair.changes.iter().all(|changes| changes.len() == 3 && changes[2].2), "{:?}", pair.changes);
}

#[test]
fn who_is_not_heard_is_told_so_by_who_does_not_hear() {
    let mut pair = Pair::new([bfd(100), bfd(100)]);
    pair.run(ms(10_000));
    pair.deaf = [true, false];
    pair.run(ms(10_400));
    assert_eq!(pair.changes[0][1].3, Some(HopDown::BfdTimeout));
    assert_eq!(pair.changes[1][1].3, Some(HopDown::BfdRemote));
    let told = pair.changes[1][1].0 - pair.changes[0][1].0;
    assert!(told <= GAP_AND_DELAY, "within one packet, not after another detection time: {told:?}");
}

const GAP_AND_DELAY: Duration = Duration::from_millis(12);

#[test]
fn intervals_that_differ_are_agreed_on() {
    let mut pair = Pair::new([bfd(100), bfd(400)]);
    pair.run(ms(10_000));
    for sent in &pair.sent {
        let late: Vec<_> = sent.iter().map(|(at, _)| *at).filter(|at| *at > ms(3_000)).collect();
        let gaps: Vec<_> = late.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        assert!(gaps.len() > 15 && gaps.iter().all(|gap| (300..=400).contains(gap)), "the slower: {gaps:?}");
    }
    pair.deaf = [true, true];
    pair.run(ms(20_000));
    let detected = pair.changes.each_ref().map(|changes| changes[1].0 - ms(10_000));
    // Either waits for three of the slower intervals, counted from the last packet.
    assert!(detected.iter().all(|time| (800..=1_202).contains(&time.as_millis())), "{detected:?}");
}

#[test]
fn ten_percent_loss_hardly_ever_ends_a_session_of_multiplier_three() {
    let mut pair = Pair::new([bfd(100), bfd(100)]);
    pair.loss_percent = 10;
    pair.run(ms(600_000));
    // 300 ms are 3 or 4 packets of 75 to 100 ms: all of them are lost about once a minute, and one end takes the other along.
    assert!((1..=30).contains(&pair.downs()), "in ten minutes, at both ends: {}", pair.downs());
    let packets: usize = pair.sent.iter().map(Vec::len).sum();
    assert!(packets > 12_000, "{packets}");
    pair.loss_percent = 0;
    pair.run(ms(660_000));
    assert!((0..2).all(|side| pair.status(side).is_alive));
}

#[test]
fn a_port_that_retires_says_so() {
    let mut pair = Pair::new([bfd(100), bfd(100)]);
    pair.run(ms(10_000));
    pair.ends[0].retire(ms(10_000));
    pair.step();
    pair.run(ms(10_100));
    assert_eq!(pair.changes[1][1].3, Some(HopDown::BfdRemote));
    assert_eq!(pair.changes[0][1].3, None, "nobody's fault");
    assert_eq!((pair.status(0).bfd, pair.status(1).bfd), (Some("AdminDown"), Some("Down")));
}

#[test]
fn what_does_not_come_from_the_hop_as_it_must_is_ignored() {
    let mut pair = Pair::new([bfd(100), bfd(100)]);
    pair.run(ms(10_000));
    let (_, last) = *pair.sent[1].last().unwrap();
    let bye = Control { state: State::AdminDown, ..last };
    let now = pair.now;
    let watch = &mut pair.ends[0];
    let with = |at: usize, byte: u8| {
        let mut packet = bye.emit();
        packet[at] = byte;
        packet
    };
    let wrong = Control { your_discriminator: bye.your_discriminator ^ 1, ..bye }.emit();
    let stranger = Control { your_discriminator: 0, my_discriminator: bye.my_discriminator ^ 1, ..bye }.emit();
    let nobody = Control { my_discriminator: 0, ..bye }.emit();
    let before = format!("{watch:?}");
    for (from, hop_limit, port, payload, what) in [
        (hop(2), 254, 3784, bye.emit(), "a hop limit of 254"),
        (hop(2), 255, 4784, bye.emit(), "multihop"),
        (hop(3), 255, 3784, bye.emit(), "somebody else"),
        (hop(2), 255, 3784, with(0, 0x00), "version 0"),
        (hop(2), 255, 3784, with(2, 0), "multiplier 0"),
        (hop(2), 255, 3784, with(1, 0x04), "authentication"),
        (hop(2), 255, 3784, with(1, 0x01), "multipoint"),
        (hop(2), 255, 3784, with(3, 25), "longer than it is"),
        (hop(2), 255, 3784, wrong, "another discriminator"),
        (hop(2), 255, 3784, stranger, "one that knows neither discriminator"),
        (hop(2), 255, 3784, nobody, "no discriminator"),
    ] {
        assert!(!watch.handle_bfd(from, hop_limit, port, &payload, now), "{what}");
        assert_eq!(format!("{watch:?}"), before, "{what}");
    }
    assert!(watch.handle_bfd(hop(2), 255, 3784, &bye.emit(), now), "the real one is not");
    assert_eq!(watch.poll_change(), Some((hop(2), false, Some(HopDown::BfdRemote))));
}

#[test]
fn with_bfd_an_answer_to_arp_is_no_sign_of_life() {
    let mut watch = started(&[HOP], bfd(100));
    while watch.poll_action(ms(1)).is_some() {}
    watch.handle_heard(HOP, ms(2));
    assert_eq!(watch.poll_change(), None);
    let mut probes = started(&[HOP], None);
    let packet = Control {
        diagnostic: Diagnostic::NONE,
        state: State::Down,
        is_poll: false,
        is_final: false,
        is_control_plane_independent: false,
        is_demand: false,
        multiplier: 3,
        my_discriminator: 1,
        your_discriminator: 0,
        desired_min_tx_us: 1,
        required_min_rx_us: 1,
        required_min_echo_rx_us: 0,
    };
    assert!(!probes.handle_bfd(HOP, 255, 3784, &packet.emit(), ms(1)), "and nobody asked for BFD");
    assert!(watch.handle_bfd(HOP, 255, 3784, &packet.emit(), ms(3)));
}

#[test]
fn discriminators_and_source_ports_are_each_sessions_own() {
    let many: Vec<IpAddr> = (0..5000).map(hop).collect();
    let mut watch = started(&many, bfd(100));
    let (mut ports, mut discriminators) = (HashSet::new(), HashSet::new());
    let mut first = None;
    while let Some(action) = watch.poll_action(ms(5_000)) {
        let WatchAction::Bfd { source_port, payload, .. } = action else { panic!() };
        assert!(source_port >= 49152);
        ports.insert(source_port);
        let discriminator = parse(&payload).unwrap().my_discriminator;
        first.get_or_insert((source_port, discriminator));
        discriminators.insert(discriminator);
    }
    assert_eq!((ports.len(), discriminators.len()), (4112, 4112));
    let mut other = Watch::new(&many, WATCHED, bfd(100), 6);
    other.start(ms(0));
    let Some(WatchAction::Bfd { payload, .. }) = other.poll_action(ms(5_000)) else { panic!() };
    assert_ne!(parse(&payload).unwrap().my_discriminator, first.unwrap().1, "another seed");
}

#[test]
fn a_session_keeps_its_source_port() {
    let mut watch = started(&[HOP], bfd(100));
    let mut ports = HashSet::new();
    for second in 0..20 {
        while let Some(WatchAction::Bfd { source_port, .. }) = watch.poll_action(Timestamp::from_secs(second)) {
            ports.insert(source_port);
        }
    }
    assert_eq!(ports.len(), 1);
}
