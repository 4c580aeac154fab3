//! Somebody calls in the hop's name.

use super::*;

/// Until `end`, over 2 ms of link, while somebody calls both in the other's name, or one of them.
fn meet(ends: &mut [Session; 2], called: [bool; 2], end: Timestamp) -> Option<Timestamp> {
    let mut under_way: Vec<(Timestamp, usize, Control)> = Vec::new();
    for millis in 0..end.as_micros() / MS {
        let now = ms(millis);
        for (at, to, packet) in std::mem::take(&mut under_way) {
            match at <= now {
                true => _ = ends[to].handle(&packet, now),
                false => under_way.push((at, to, packet)),
            }
        }
        for to in 0..2 {
            if called[to] && millis % 7 == 0 {
                let number = (millis as u32).wrapping_mul(0x9e37_79b1) | 1;
                // Both one that is always the same, and any number of them, who want never to be spoken to.
                let my_discriminator = if millis < end.as_micros() / MS / 2 { 5 } else { number };
                let state = if number & 64 == 0 { State::Down } else { State::AdminDown };
                let forged = Control { my_discriminator, multiplier: 255, is_poll: true, ..says(state, 0) };
                let waits = Control { desired_min_tx_us: u32::MAX, required_min_rx_us: number & 2, ..forged };
                ends[to].handle(&waits, now);
            }
            under_way.extend(
                sent(&mut ends[to], now).into_iter().map(|packet| (now + Duration::from_millis(2), 1 - to, packet)),
            );
        }
        if ends.iter().all(|session| session.state() == State::Up) {
            return Some(now);
        }
    }
    None
}

#[test]
fn calls_in_the_hops_name_keep_no_session_from_coming_up() {
    for (is_active, theirs_is_active) in [(true, true), (true, false), (false, true)] {
        for called in [[true, false], [false, true]] {
            let end = |is_active, discriminator| {
                let mut session = Session::new(config(is_active, 100, 3), discriminator, discriminator.into());
                session.start(ms(0));
                session
            };
            let mut ends = [end(is_active, OURS), end(theirs_is_active, THEIRS)];
            let met = meet(&mut ends, called, ms(20_000));
            assert!(met.is_some_and(|at| at < ms(6_000)), "{is_active} {theirs_is_active} {called:?}: {met:?}");
        }
    }
}

#[test]
fn who_calls_again_and_again_is_looked_at_no_more() {
    let mut session = started(config(true, 100, 3));
    sent(&mut session, ms(0));
    let call = |session: &mut Session, number, at| {
        session.handle(&Control { my_discriminator: number, ..says(State::Down, 0) }, at)
    };
    assert!(call(&mut session, 1, ms(10)));
    assert_eq!((session.state(), session.remote.discriminator), (State::Init, 1));
    assert!(call(&mut session, 2, ms(20)), "two of them: neither is believed");
    assert_eq!((session.state(), session.remote.discriminator), (State::Down, 0));
    let state = format!("{session:?}");
    assert!((3..1000).all(|number| !call(&mut session, number, ms(5_019))));
    assert_eq!(format!("{session:?}"), state);
    assert!(session.handle(&says(State::Init, OURS), ms(30)), "the hop can name us");
    assert_eq!((session.state(), session.remote.discriminator), (State::Up, THEIRS));
}

#[test]
fn who_calls_and_never_names_us_is_believed_for_three_seconds() {
    let mut session = started(config(false, 100, 3));
    let mut states = Vec::new();
    for at in (0..10_000).step_by(50) {
        session.handle(&says(State::Down, 0), ms(at));
        for (_, control) in sent_until(&mut session, ms(at + 49)) {
            if states.last() != Some(&(control.state, control.your_discriminator)) {
                states.push((control.state, control.your_discriminator));
            }
        }
    }
    assert_eq!(states, [(State::Init, THEIRS), (State::Down, 0), (State::Init, THEIRS)], "the passive side calls, too");
    sent_until(&mut session, ms(60_000));
    assert_eq!(session.poll_timeout(), None, "and falls silent again");
}
