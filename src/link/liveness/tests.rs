//! Hops watched in virtual time.

use super::*;
use crate::net::random::Seeded;

mod bfd;

const WATCHED: Liveness = Liveness { interval: Duration::from_secs(1), multiplier: 3 };
const HOP: IpAddr = hop(1);

const fn hop(number: u32) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::from_bits(0xac14_0000 + number))
}

fn ms(millis: u64) -> Timestamp {
    Timestamp::from_micros(millis * 1000)
}

fn every(interval_ms: u64) -> Option<Bfd> {
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
    let mut watch = Watch::new(hops, WATCHED, bfd, &mut Seeded(5));
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
    // It stays there now: at most the longest hold is waited, and the status says until when.
    run(&mut watch, ms(60_800), &mut |_, _| true);
    let status = watch.status(HOP).unwrap();
    let Some(until) = status.held_until else { panic!("{status:?}") };
    assert!(!status.is_alive && (ms(60_800)..ms(60_000) + Duration::from_secs(33)).contains(&until), "{status:?}");
    let changes = run(&mut watch, until, &mut |_, _| true);
    assert_eq!(changes, [(until, HOP, true, None)]);
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
fn hops_that_stay_are_watched_on_when_others_come_and_go() {
    for answers_from in [0, u64::MAX] {
        let mut before = started(&[HOP, hop(7)], None);
        run(&mut before, ms(10_000), &mut |to, at| to == HOP && at >= ms(answers_from.min(1 << 40)));
        let known = before.status(HOP).unwrap();
        assert_eq!(known.is_alive, answers_from == 0);
        let mut after = Watch::new(&[hop(0), HOP], WATCHED, None, &mut Seeded(6));
        after.start(ms(10_100));
        after.take_over(&mut before, ms(10_100));
        assert_eq!((after.status(HOP), after.status(hop(7))), (Some(known), None));
        // Silent from now on, or from the beginning: it is told at its time, once, and of the new one nothing but that it is there.
        let changes = run(&mut after, ms(20_000), &mut |to, _| to == hop(0));
        let of =
            |hop: IpAddr| changes.iter().filter(|change| change.1 == hop).map(|change| change.2).collect::<Vec<_>>();
        assert_eq!((of(hop(0)), of(HOP)), (vec![true], if known.is_alive { vec![false] } else { vec![] }));
        let gone = changes.iter().find(|change| change.1 == HOP).map_or(ms(10_100), |change| change.0);
        assert!(gone <= ms(13_000), "{gone:?}");
    }
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
