//! New SAs for old: nothing is lost, nothing lasts.

use std::time::Duration;

use super::world::*;
use crate::ipsec::{ChildSa, Outbound, UseOut};
use crate::packet::DropReason;

fn when_heard(child: ChildSa) -> ChildSa {
    ChildSa { outbound: Outbound::WhenHeard, ..child }
}

/// The SPI of the next packet from `side`, which the other must be able to open.
fn carried_by(from: &mut Side, to: &mut Side) -> u32 {
    let inner = v4(60);
    let sealed = from.seal(&inner).unwrap();
    assert_eq!(to.open(&sealed), Ok(inner));
    spi_of(&sealed)
}

#[test]
fn the_responder_of_a_rekey_waits_until_it_hears_the_new_sa() {
    let (mut a, mut b) = pair();
    b.install(when_heard(child(0x2001, 0x1001))).unwrap();
    assert_eq!(carried_by(&mut b, &mut a), 0x1000, "the initiator may not have the answer yet");
    a.install(child(0x1001, 0x2001)).unwrap();
    assert_eq!(carried_by(&mut b, &mut a), 0x1000);
    let late = a.seal_before_rekey(&mut b);
    assert_eq!(carried_by(&mut a, &mut b), 0x2001, "the initiator uses it at once");
    assert_eq!(carried_by(&mut b, &mut a), 0x1001);
    assert_eq!(late, 0x2000);

    a.retire(0x1000, 30);
    b.retire(0x2000, 30);
    assert_eq!(carried_by(&mut a, &mut b), 0x2001);
    assert_eq!(carried_by(&mut b, &mut a), 0x1001);
}

impl Side {
    /// What an initiator that had not yet switched would send: the peer still opens it.
    fn seal_before_rekey(&mut self, peer: &mut Side) -> u32 {
        let inner = v4(7);
        let sealed = forge(0x2000, 500, false, &plaintext(&inner, 4));
        assert_eq!(peer.open(&sealed), Ok(inner));
        spi_of(&sealed)
    }
}

#[test]
fn a_dummy_on_the_new_sa_is_hearing_it_and_a_forgery_is_not() {
    let (mut a, mut b) = pair();
    a.install(child(0x1001, 0x2001)).unwrap();
    b.install(when_heard(child(0x2001, 0x1001))).unwrap();
    let mut forged = forge(0x2001, 1, false, &plaintext(&[], 59));
    forged[20] ^= 1;
    assert_eq!(b.open(&forged), Err(dropped(DropReason::DataNotAuthentic)));
    assert_eq!(carried_by(&mut b, &mut a), 0x1000);
    drop(b.open(&forge(0x2001, 1, false, &plaintext(&[], 59))));
    assert_eq!(carried_by(&mut b, &mut a), 0x1001);
}

#[test]
fn when_the_old_sa_goes_first_the_waiting_one_serves() {
    let (mut a, mut b) = pair();
    a.install(child(0x1001, 0x2001)).unwrap();
    b.install(when_heard(child(0x2001, 0x1001))).unwrap();
    b.retire(0x2000, 10);
    assert!(b.endpoint.is_up(super::world::TUNNEL));
    assert_eq!(carried_by(&mut b, &mut a), 0x1001);
    let uses: Vec<UseOut> = b.endpoint.sas(TUNNEL).map(|sa| sa.use_out).collect();
    assert_eq!(uses, [UseOut::Retired, UseOut::Waiting]);
}

/// A tunnel on which nothing was said yet, and whose first SA the peer already rekeys: the answer may still be under way.
#[test]
fn of_several_that_wait_the_oldest_is_used_because_the_peer_has_it() {
    let mut b = Side::with([when_heard(child(0x2000, 0x1000))]);
    b.install(when_heard(child(0x2001, 0x1001))).unwrap();
    assert_eq!(spi_of(&b.seal(&v4(1)).unwrap()), 0x1000);
    b.retire(0x2000, 10);
    assert_eq!(spi_of(&b.seal(&v4(1)).unwrap()), 0x1001);
}

#[test]
fn of_several_active_ones_the_newest_is_used_whichever_was_heard_last() {
    let (mut a, mut b) = pair();
    for n in 1..=3 {
        a.install(child(0x1000 + n, 0x2000 + n)).unwrap();
        b.install(when_heard(child(0x2000 + n, 0x1000 + n))).unwrap();
    }
    drop(b.open(&forge(0x2003, 1, false, &plaintext(&[], 59))));
    drop(b.open(&forge(0x2001, 1, false, &plaintext(&[], 59))));
    assert_eq!(carried_by(&mut b, &mut a), 0x1003);
    b.retire(0x2003, 10);
    assert_eq!(carried_by(&mut b, &mut a), 0x1001, "heard, while 0x1002 still waits");
}

/// RFC 7296 section 2.8.1: both rekey at once, both new SAs are made, one of them is deleted again.
#[test]
fn simultaneous_rekeys_lose_nothing_whichever_is_deleted() {
    for loser in [1, 2] {
        let (mut a, mut b) = pair();
        a.install(child(0x1001, 0x2001)).unwrap();
        b.install(child(0x2002, 0x1002)).unwrap();
        b.install(when_heard(child(0x2001, 0x1001))).unwrap();
        a.install(when_heard(child(0x1002, 0x2002))).unwrap();
        for _ in 0..3 {
            carried_by(&mut a, &mut b);
            carried_by(&mut b, &mut a);
        }
        for spi in [0, loser] {
            a.retire(0x1000 + spi, 10);
            carried_by(&mut a, &mut b);
            carried_by(&mut b, &mut a);
            b.retire(0x2000 + spi, 10);
        }
        let winner = 3 - loser;
        assert_eq!(carried_by(&mut a, &mut b), 0x2000 + winner);
        assert_eq!(carried_by(&mut b, &mut a), 0x1000 + winner);
    }
}

#[test]
fn a_retired_sa_opens_until_it_has_lingered_and_not_longer() {
    let (mut a, mut b) = pair();
    let late: Vec<_> = (0..3).map(|_| a.seal(&v4(1)).unwrap()).collect();
    b.retire(0x2000, 30);
    let end = b.now + Duration::from_secs(30);
    assert_eq!(b.endpoint.poll_timeout().map(|(at, _)| at), Some(end));
    assert_eq!(b.seal(&v4(1)), Err(DropReason::TunnelDown), "it seals nothing from now on");
    assert!(!b.endpoint.is_up(TUNNEL));
    assert_eq!(b.open(&late[0]), Ok(v4(1)));
    b.advance(Duration::from_millis(29_999));
    assert!(b.tick().is_empty());
    assert_eq!(b.open(&late[1]), Ok(v4(1)));
    b.advance(Duration::from_millis(1));
    b.tick();
    assert_eq!(b.open(&late[2]), Err(dropped(DropReason::DataUnknownSession)));
    assert_eq!((b.endpoint.sa_count(), b.endpoint.poll_timeout()), (0, None));
    assert_eq!(b.events(), []);
}

#[test]
fn to_retire_again_never_prolongs_and_zero_ends_at_once() {
    let (_, mut b) = pair();
    b.retire(0x2000, 10);
    b.retire(0x2000, 60);
    b.retire(0x7777, 60);
    assert_eq!(b.endpoint.poll_timeout().unwrap().0, b.now + Duration::from_secs(10));
    b.retire(0x2000, 0);
    assert_eq!((b.endpoint.sa_count(), b.endpoint.poll_timeout()), (0, None));
}

#[test]
fn a_hundred_rekeys_in_turns_lose_no_packet_and_leave_no_sa() {
    let (mut a, mut b) = pair();
    for n in 1..=100 {
        let (initiator, responder) = (child(0x1000 + n, 0x2000 + n), child(0x2000 + n, 0x1000 + n));
        match n % 2 {
            0 => {
                b.install(when_heard(responder)).unwrap();
                carried_by(&mut b, &mut a);
                a.install(initiator).unwrap();
            }
            _ => {
                a.install(when_heard(initiator)).unwrap();
                carried_by(&mut a, &mut b);
                b.install(responder).unwrap();
            }
        }
        carried_by(&mut a, &mut b);
        carried_by(&mut b, &mut a);
        a.retire(0x1000 + n - 1, 5);
        carried_by(&mut a, &mut b);
        carried_by(&mut b, &mut a);
        b.retire(0x2000 + n - 1, 5);
        for side in [&mut a, &mut b] {
            side.advance(Duration::from_secs(2));
            side.tick();
            assert!(side.endpoint.sa_count() <= 4);
        }
    }
    for side in [&mut a, &mut b] {
        side.advance(Duration::from_secs(5));
        side.tick();
        assert_eq!(side.endpoint.sa_count(), 1);
    }
}
