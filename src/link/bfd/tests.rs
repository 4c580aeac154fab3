//! One session, spoken to by hand.

use super::*;
use crate::wire::bfd::parse;

mod calls;

const OURS: u32 = 0x0a0b_0c0d;
const THEIRS: u32 = 0x7001;
const MS: u64 = 1_000;

fn ms(millis: u64) -> Timestamp {
    Timestamp::from_micros(millis * MS)
}

fn config(is_active: bool, interval_ms: u64, multiplier: u8) -> Bfd {
    Bfd { is_active, interval: Duration::from_millis(interval_ms), multiplier }
}

/// What the hop says, unless a test says otherwise: 100 ms, three times.
fn says(state: State, your_discriminator: u32) -> Control {
    Control {
        diagnostic: Diagnostic::NONE,
        state,
        is_poll: false,
        is_final: false,
        is_control_plane_independent: false,
        is_demand: false,
        multiplier: 3,
        my_discriminator: THEIRS,
        your_discriminator,
        desired_min_tx_us: 100_000,
        required_min_rx_us: 100_000,
        required_min_echo_rx_us: 0,
    }
}

fn sent(session: &mut Session, now: Timestamp) -> Vec<Control> {
    std::iter::from_fn(|| session.poll_transmit(now)).map(|packet| parse(&packet).unwrap()).collect()
}

/// Everything that leaves until `end`, and when.
fn sent_until(session: &mut Session, end: Timestamp) -> Vec<(Timestamp, Control)> {
    let mut all = Vec::new();
    while let Some(due) = session.poll_timeout().filter(|due| *due <= end) {
        all.extend(sent(session, due).into_iter().map(|control| (due, control)));
    }
    all
}

fn started(config: Bfd) -> Session {
    let mut session = Session::new(config, OURS, 7);
    session.start(ms(0));
    session
}

/// Up at 1 ms, the poll sequence over, nothing waiting to be sent.
fn up(config: Bfd) -> Session {
    let mut session = started(config);
    sent(&mut session, ms(0));
    assert!(session.handle(&says(State::Init, OURS), ms(1)));
    assert_eq!(session.state(), State::Up);
    assert!(session.handle(&Control { is_final: true, ..says(State::Up, OURS) }, ms(1)));
    sent_until(&mut session, ms(11));
    session
}

#[test]
fn both_ends_go_down_init_up_and_poll_for_the_new_interval() {
    let mut session = started(config(true, 100, 3));
    let [first] = sent(&mut session, ms(0))[..] else { panic!("the active side speaks at once") };
    assert_eq!((first.state, first.your_discriminator), (State::Down, 0));
    assert_eq!((first.my_discriminator, first.multiplier), (OURS, 3));
    assert_eq!((first.desired_min_tx_us, first.required_min_rx_us), (1_000_000, 100_000));
    assert_eq!(first.required_min_echo_rx_us, 0, "no echo is taken");

    assert!(session.handle(&says(State::Down, 0), ms(50)));
    let [init] = sent(&mut session, ms(50))[..] else { panic!("news do not wait for the interval") };
    assert_eq!((init.state, init.your_discriminator, init.is_poll), (State::Init, THEIRS, false));

    assert!(session.handle(&says(State::Up, OURS), ms(100)));
    let [poll] = sent(&mut session, ms(100))[..] else { panic!("nor do these") };
    assert_eq!((poll.state, poll.is_poll, poll.desired_min_tx_us), (State::Up, true, 100_000));
    let more = sent_until(&mut session, ms(300));
    assert!(
        more.iter().all(|(_, control)| control.is_poll) && more.len() >= 2,
        "it polls until it is answered: {more:?}"
    );
    assert!(session.handle(&Control { is_final: true, ..says(State::Up, OURS) }, ms(300)));
    let after = sent_until(&mut session, ms(500));
    assert!(after.iter().all(|(_, control)| !control.is_poll) && after.len() >= 2, "{after:?}");
}

#[test]
fn the_state_machine_is_that_of_the_rfc() {
    use State::*;
    // Section 6.8.6, for every state and every state received.
    let table = [
        (Down, [(AdminDown, Down), (Down, Init), (Init, Up), (Up, Down)]),
        (Init, [(AdminDown, Down), (Down, Init), (Init, Up), (Up, Up)]),
        (Up, [(AdminDown, Down), (Down, Down), (Init, Up), (Up, Up)]),
        (AdminDown, [(AdminDown, AdminDown), (Down, AdminDown), (Init, AdminDown), (Up, AdminDown)]),
    ];
    for (before, row) in table {
        for (received, after) in row {
            let mut session = started(config(true, 100, 3));
            session.state = before;
            session.handle(&says(received, OURS), ms(1));
            assert_eq!(session.state(), after, "{before:?}, {received:?} received");
        }
    }
}

#[test]
fn the_detection_time_is_their_multiplier_times_the_slower_of_both() {
    // Ours, theirs, their multiplier, detection time.
    for (ours_ms, theirs_ms, multiplier, expected_ms) in
        [(100, 100, 3, 300), (100, 300, 3, 900), (300, 100, 3, 900), (100, 100, 5, 500), (2000, 50, 1, 2000)]
    {
        let mut session = up(config(true, ours_ms, 9));
        let heard = Control { multiplier, desired_min_tx_us: theirs_ms * 1000, ..says(State::Up, OURS) };
        assert!(session.handle(&heard, ms(500)));
        let last = Timestamp::from_micros(ms(500 + expected_ms).as_micros() - 1);
        sent_until(&mut session, last);
        assert_eq!(session.state(), State::Up, "one microsecond before: {expected_ms}");
        let first = session.poll_transmit(ms(500 + expected_ms)).map(|packet| (ms(0), parse(&packet).unwrap()));
        assert_eq!(session.state(), State::Down, "and then: {expected_ms}");
        // At once, but for what was sent just before.
        let (_, down) = first.or(sent_until(&mut session, ms(510 + expected_ms)).pop()).unwrap();
        assert_eq!((down.state, down.diagnostic), (State::Down, Diagnostic::DETECTION_TIME_EXPIRED));
        assert_eq!((down.your_discriminator, down.desired_min_tx_us >= 1_000_000), (0, true));
        assert_eq!(session.why_down(), Some(HopDown::BfdTimeout));
    }
}

#[test]
fn every_packet_renews_the_detection_time() {
    let mut session = up(config(true, 100, 3));
    for at in (100..5000).step_by(299) {
        assert!(session.handle(&says(State::Up, OURS), ms(at)));
        sent_until(&mut session, ms(at + 298));
        assert_eq!(session.state(), State::Up, "{at}");
    }
}

#[test]
fn what_is_sent_keeps_to_the_slower_interval_less_the_jitter() {
    // Their required minimum, the multiplier that is ours, and between which gaps packets leave.
    for (theirs_ms, multiplier, least_us, most_us) in
        [(1, 3, 75_000, 100_000), (300, 3, 225_000, 300_000), (100, 1, 75_000, 90_000)]
    {
        let mut session = up(config(true, 100, multiplier));
        let heard = Control { required_min_rx_us: theirs_ms * 1000, multiplier: 255, ..says(State::Up, OURS) };
        assert!(session.handle(&heard, ms(20)));
        let times: Vec<u64> = sent_until(&mut session, ms(20_000)).iter().map(|(at, _)| at.as_micros()).collect();
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| (least_us..=most_us).contains(gap)), "{theirs_ms} ms: {gaps:?}");
        let (first, last) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
        assert!(last - first > (most_us - least_us) / 2, "gaps differ: {first} to {last}");
    }
}

#[test]
fn nobody_sends_faster_than_once_a_second_while_it_is_down() {
    let mut session = started(config(true, 100, 3));
    let times: Vec<u64> = sent_until(&mut session, ms(60_000)).iter().map(|(at, _)| at.as_micros()).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 750_000), "{times:?}");
    assert!((60..=80).contains(&times.len()), "{}", times.len());
}

#[test]
fn who_wants_no_periodic_packets_gets_none_but_answers() {
    let mut session = up(config(true, 100, 3));
    let silent = Control { required_min_rx_us: 0, multiplier: 255, ..says(State::Up, OURS) };
    assert!(session.handle(&silent, ms(20)));
    assert!(sent_until(&mut session, ms(5_000)).is_empty());
    assert!(session.handle(&Control { is_poll: true, ..silent }, ms(5_000)));
    let [answer] = sent(&mut session, ms(5_000))[..] else { panic!("a poll is answered") };
    assert!(answer.is_final && !answer.is_poll);
    // Gone without a word, it is called again.
    let later = sent_until(&mut session, ms(60_000));
    assert!(later.len() > 10, "{}", later.len());
}

#[test]
fn a_hop_in_demand_mode_gets_periodic_packets_only_while_we_poll() {
    let mut session = up(config(true, 100, 3));
    let demand = Control { is_demand: true, multiplier: 255, ..says(State::Up, OURS) };
    assert!(session.handle(&demand, ms(20)));
    assert!(sent_until(&mut session, ms(5_000)).is_empty());
    session.is_polling = true;
    assert!(sent_until(&mut session, ms(6_000)).len() >= 10);
}

#[test]
fn a_poll_is_answered_at_once_and_a_flood_of_them_is_not() {
    let mut session = up(config(true, 1000, 3));
    let poll = Control { is_poll: true, ..says(State::Up, OURS) };
    assert!(session.handle(&poll, ms(100)));
    let [answer] = sent(&mut session, ms(100))[..] else { panic!("without regard to the interval") };
    assert!(answer.is_final && !answer.is_poll, "never both");
    let mut answers = 0;
    for at in 100_000..200_000 {
        session.handle(&poll, Timestamp::from_micros(at));
        answers += sent(&mut session, Timestamp::from_micros(at)).len();
    }
    assert!((2..=11).contains(&answers), "{answers} answers to 100,000 polls in 100 ms");
}

#[test]
fn answers_do_not_push_our_own_packets_back() {
    let mut session = up(config(true, 100, 3));
    session.is_polling = true;
    let mut own = 0;
    for at in (20..1020).step_by(50) {
        assert!(session.handle(&Control { is_poll: true, ..says(State::Up, OURS) }, ms(at)));
        own += sent(&mut session, ms(at)).iter().filter(|control| control.is_poll).count();
        own += sent_until(&mut session, ms(at + 49)).iter().filter(|(_, control)| control.is_poll).count();
    }
    assert!(own >= 8, "{own} of our own polls in a second");
}

#[test]
fn administratively_down_ends_it_and_says_so() {
    let mut session = up(config(true, 100, 3));
    assert!(session.handle(&says(State::AdminDown, OURS), ms(20)));
    assert_eq!((session.state(), session.why_down()), (State::Down, Some(HopDown::BfdRemote)));
    let [down] = sent(&mut session, ms(20))[..] else { panic!() };
    assert_eq!(down.diagnostic, Diagnostic::NEIGHBOR_SIGNALED_DOWN);
    assert!(session.handle(&says(State::AdminDown, OURS), ms(30)));
    assert_eq!(session.state(), State::Down, "it stays so as long as the other side does");

    let mut ours = up(config(true, 100, 3));
    ours.retire();
    let [told] = sent(&mut ours, ms(21))[..] else { panic!("it is told at once") };
    assert_eq!((told.state, told.diagnostic), (State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN));
    assert_eq!(told.your_discriminator, THEIRS);
    assert!(!ours.handle(&says(State::Down, OURS), ms(30)), "nothing that is said changes it");
    assert!(sent_until(&mut ours, ms(3_500)).iter().all(|(_, control)| control.state == State::AdminDown));
    assert_eq!(ours.why_down(), None);
}

#[test]
fn the_passive_side_never_speaks_first() {
    let mut session = started(config(false, 100, 3));
    assert_eq!(session.poll_timeout(), None);
    assert!(sent(&mut session, ms(60_000)).is_empty());
    assert!(session.handle(&says(State::Down, 0), ms(60_000)));
    let [init] = sent(&mut session, ms(60_000))[..] else { panic!("spoken to, it answers") };
    assert_eq!((init.state, init.your_discriminator), (State::Init, THEIRS));
    assert!(session.handle(&says(State::Up, OURS), ms(60_100)));
    assert_eq!(session.state(), State::Up);
    // Left alone, it falls silent.
    sent_until(&mut session, ms(61_000));
    assert_eq!((session.state(), session.poll_timeout()), (State::Down, None));
}

#[test]
fn forgeries_without_our_discriminator_change_nothing() {
    let mut session = up(config(true, 100, 3));
    let state = format!("{session:?}");
    for forged in [
        says(State::AdminDown, OURS ^ 1),
        says(State::Down, OURS ^ 1),
        Control { my_discriminator: THEIRS ^ 1, ..says(State::Down, 0) },
        Control { my_discriminator: THEIRS ^ 1, ..says(State::AdminDown, 0) },
    ] {
        assert!(!session.handle(&forged, ms(20)), "{forged:?}");
        assert_eq!(format!("{session:?}"), state);
    }
}

#[test]
fn a_call_without_our_discriminator_ends_no_session_that_is_up() {
    let mut session = up(config(true, 100, 3));
    let state = format!("{session:?}");
    // Even of the hop itself, which does not hear us any more: its silence does.
    for call in [says(State::Down, 0), says(State::AdminDown, 0)] {
        assert!(!session.handle(&Control { is_poll: true, ..call }, ms(20)));
        assert_eq!(format!("{session:?}"), state);
    }
    sent_until(&mut session, ms(301));
    assert_eq!((session.state(), session.why_down()), (State::Down, Some(HopDown::BfdTimeout)));
}

#[test]
fn more_packets_than_a_hop_may_send_are_not_looked_at() {
    // Four in an interval, or twenty in a second; twenty at once.
    for (interval_ms, most) in [(50, 800 + 20), (1000, 200 + 20)] {
        let mut session = up(config(true, interval_ms, 3));
        let taken = (0..1_000_000)
            .filter(|at| session.handle(&says(State::Up, OURS), Timestamp::from_micros(1_000_000 + 10 * at)));
        assert!((most - 20..=most).contains(&taken.count()), "{interval_ms} ms");
        assert_eq!(session.state(), State::Up);
    }
}

#[test]
fn a_hop_that_was_started_anew_is_down_after_the_detection_time_and_up_again_after_that() {
    let mut session = up(config(true, 100, 3));
    let anew = |state, yours| Control { my_discriminator: 99, ..says(state, yours) };
    assert!(session.handle(&says(State::Up, OURS), ms(100)));
    assert!(!session.handle(&anew(State::Down, 0), ms(200)));
    sent_until(&mut session, ms(400));
    assert_eq!((session.state(), session.why_down()), (State::Down, Some(HopDown::BfdTimeout)));
    assert!(session.handle(&anew(State::Down, 0), ms(410)));
    assert!(session.handle(&anew(State::Up, OURS), ms(420)));
    assert_eq!(session.state(), State::Up);
}

#[test]
fn a_link_that_was_gone_is_told_as_such() {
    let mut session = up(config(true, 100, 3));
    session.stop();
    assert_eq!((session.state(), session.why_down(), session.poll_timeout()), (State::Down, None, None));
    assert!(!session.handle(&says(State::Down, 0), ms(30)), "nothing is heard by it");
    session.start(ms(5_000));
    let [first] = sent(&mut session, ms(5_000))[..] else { panic!() };
    assert_eq!((first.diagnostic, first.your_discriminator), (Diagnostic::PATH_DOWN, 0));
}

#[test]
fn no_number_makes_it_panic_or_send_without_end() {
    for interval in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let mut session = started(Bfd { is_active: true, interval, multiplier: 0 });
        let extreme = |word| Control {
            multiplier: 255,
            desired_min_tx_us: word,
            required_min_rx_us: word,
            is_poll: true,
            ..says(State::Init, OURS)
        };
        for word in [1, u32::MAX] {
            assert!(session.handle(&extreme(word), ms(1)));
            assert!(sent(&mut session, ms(2)).len() <= 1);
            assert!(session.poll_timeout().is_none_or(|due| due > ms(2)));
            sent(&mut session, Timestamp::from_secs(1 << 40));
        }
    }
}
