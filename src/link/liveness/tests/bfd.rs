//! Watches that face one another by BFD.

use super::*;
use crate::net::random::{Random, Seeded};
use crate::wire::bfd::{Control, Diagnostic};

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
        let mut ends = [(2, bfds[0], 11), (1, bfds[1], 12)]
            .map(|(to, bfd, seed)| Watch::new(&[hop(to)], WATCHED, bfd, &mut Seeded(seed)));
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
                self.ends[to].handle_bfd(hop(2 - to as u32), 255, &payload, now);
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
        let other = every(100).map(|bfd| Bfd { is_active: !passive, ..bfd });
        let mut pair = Pair::new([every(100), other]);
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
    let passive = every(100).map(|bfd| Bfd { is_active: false, ..bfd });
    let mut pair = Pair::new([passive, passive]);
    pair.run(ms(60_000));
    assert!(pair.sent.iter().all(Vec::is_empty));
}

#[test]
fn a_silent_end_is_gone_exactly_three_intervals_after_its_last_packet_came() {
    let mut pair = Pair::new([every(100), every(100)]);
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
fn who_is_not_heard_knows_it_a_detection_time_after_who_does_not_hear() {
    let mut pair = Pair::new([every(100), every(100)]);
    pair.run(ms(10_000));
    pair.deaf = [true, false];
    pair.run(ms(10_700));
    // What it says when it does not hear us any more anybody could say.
    assert!(pair.changes.iter().all(|changes| changes[1].3 == Some(HopDown::BfdTimeout)));
    let told = pair.changes[1][1].0 - pair.changes[0][1].0;
    assert!(told <= Duration::from_millis(302), "{told:?}");
}

#[test]
fn intervals_that_differ_are_agreed_on() {
    let mut pair = Pair::new([every(100), every(400)]);
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
    let mut pair = Pair::new([every(100), every(100)]);
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
    let mut pair = Pair::new([every(100), every(100)]);
    pair.run(ms(10_000));
    let words = pair.ends[0].last_words();
    let [WatchAction::Bfd { to, payload, .. }] = words[..] else { panic!("{words:?}") };
    assert_eq!((to, pair.ends[0].last_words()), (hop(2), vec![]), "it is said once");
    pair.ends[1].handle_bfd(hop(1), 255, &payload, ms(10_000));
    pair.run(ms(10_100));
    assert_eq!(pair.changes[1][1].3, Some(HopDown::BfdRemote));
    assert_eq!(pair.changes[0][1].3, None, "nobody's fault");
    assert_eq!((pair.status(0).bfd, pair.status(1).bfd), (Some("AdminDown"), Some("Down")));
}

#[test]
fn what_does_not_come_from_the_hop_as_it_must_is_ignored() {
    let mut pair = Pair::new([every(100), every(100)]);
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
    for (from, hop_limit, payload, what) in [
        (hop(2), 254, bye.emit(), "a hop limit of 254"),
        (hop(3), 255, bye.emit(), "somebody else"),
        (hop(2), 255, with(0, 0x00), "version 0"),
        (hop(2), 255, with(2, 0), "multiplier 0"),
        (hop(2), 255, with(1, 0x04), "authentication"),
        (hop(2), 255, with(1, 0x01), "multipoint"),
        (hop(2), 255, with(3, 25), "longer than it is"),
        (hop(2), 255, wrong, "another discriminator"),
        (hop(2), 255, stranger, "one that knows neither discriminator"),
        (hop(2), 255, nobody, "no discriminator"),
    ] {
        assert!(!watch.handle_bfd(from, hop_limit, &payload, now), "{what}");
        assert_eq!(format!("{watch:?}"), before, "{what}");
    }
    assert!(watch.handle_bfd(hop(2), 255, &bye.emit(), now), "the real one is not");
    assert_eq!(watch.poll_change(), Some((hop(2), false, Some(HopDown::BfdRemote))));
}

#[test]
fn with_bfd_an_answer_to_arp_is_no_sign_of_life() {
    let mut watch = started(&[HOP], every(100));
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
    assert!(!probes.handle_bfd(HOP, 255, &packet.emit(), ms(1)), "and nobody asked for BFD");
    assert!(watch.handle_bfd(HOP, 255, &packet.emit(), ms(3)));
}

#[test]
fn discriminators_and_source_ports_are_each_sessions_own() {
    let many: Vec<IpAddr> = (0..5000).map(hop).collect();
    let mut watch = started(&many, every(100));
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
    let mut other = Watch::new(&many, WATCHED, every(100), &mut Seeded(6));
    other.start(ms(0));
    let Some(WatchAction::Bfd { payload, .. }) = other.poll_action(ms(5_000)) else { panic!() };
    assert_ne!(parse(&payload).unwrap().my_discriminator, first.unwrap().1, "another seed");
}

#[test]
fn a_session_keeps_its_source_port() {
    let mut watch = started(&[HOP], every(100));
    let mut ports = HashSet::new();
    for second in 0..20 {
        while let Some(WatchAction::Bfd { source_port, .. }) = watch.poll_action(Timestamp::from_secs(second)) {
            ports.insert(source_port);
        }
    }
    assert_eq!(ports.len(), 1);
}

/// 1, 2, 3.
struct Counting(u64);

impl Random for Counting {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0 += 1;
        bytes.copy_from_slice(&self.0.to_be_bytes());
    }
}

#[test]
fn what_is_not_to_be_guessed_is_drawn_from_the_source_that_is_handed_in() {
    let mut watch = Watch::new(&[HOP], WATCHED, every(100), &mut Counting(0));
    watch.start(ms(0));
    let Some(WatchAction::Bfd { source_port, payload, .. }) = watch.poll_action(ms(0)) else { panic!("it calls") };
    assert_eq!((parse(&payload).unwrap().my_discriminator, source_port), (1, FIRST_SOURCE_PORT + 2));
}
