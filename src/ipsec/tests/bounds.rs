//! What is bounded, and what happens at the bound.

use super::world::*;
use crate::crypto::PacketKey;
use crate::ipsec::event::MAX_EVENTS;
use crate::ipsec::sa::Sa;
use crate::ipsec::{ChildSa, Event, InstallError, Lifetime, Limits, MAX_SELECTORS};
use crate::net::{Selector, Timestamp, TunnelId};
use crate::packet::{Datagram, DropReason, Opened, Outbox};

const SMALL: Limits = Limits { tunnels: 4, sas: 6, sas_per_tunnel: 4 };

fn of(tunnel: u32, spi_in: u32) -> ChildSa {
    ChildSa { tunnel: TunnelId(tunnel), ..child(spi_in, 0x2000) }
}

#[test]
fn sas_of_one_tunnel_are_bounded_and_retired_ones_make_room() {
    let mut side = Side::limited(SMALL);
    (0..4).for_each(|n| side.install(of(0, 0x1000 + n)).unwrap());
    assert_eq!(side.install(of(0, 0x1004)), Err(InstallError::TooManySasOfTunnel(4)));
    side.retire(0x1002, 50);
    side.retire(0x1001, 20);
    side.install(of(0, 0x1004)).unwrap();
    let left: Vec<u32> = side.endpoint.sas(TunnelId(0)).map(|sa| sa.spi_in).collect();
    assert_eq!(left, [0x1000, 0x1002, 0x1003, 0x1004], "the one that would have ended first");
    assert_eq!(side.endpoint.sa_count(), 4);
}

#[test]
fn sas_of_all_tunnels_are_bounded() {
    let mut side = Side::limited(SMALL);
    (0..6).for_each(|n| side.install(of(n % 3, 0x1000 + n)).unwrap());
    assert_eq!(side.install(of(3, 0x1006)), Err(InstallError::TooManySas(6)));
    side.retire(0x1001, 0);
    side.install(of(3, 0x1006)).unwrap();
    side.endpoint.remove_tunnel(TunnelId(0));
    assert_eq!(side.endpoint.sa_count(), 4);
    assert_eq!(side.endpoint.table.slots(), 6, "places are used again");
}

#[test]
fn impossible_sas_are_refused_with_a_word_and_change_nothing() {
    let mut side = Side::limited(SMALL);
    side.install(of(0, 0x1000)).unwrap();
    let many = vec![Selector::ANY4; MAX_SELECTORS + 1];
    for (child, error) in [
        (of(0, 255), InstallError::SpiReserved(255)),
        (of(0, 0), InstallError::SpiReserved(0)),
        (ChildSa { spi_out: 0, ..of(0, 0x1001) }, InstallError::SpiReserved(0)),
        (of(1, 0x1000), InstallError::SpiTaken(0x1000)),
        (of(4, 0x1001), InstallError::TunnelBeyondLimit(4)),
        (of(TunnelId::NONE.0, 0x1001), InstallError::TunnelBeyondLimit(4)),
        (ChildSa { ours: many, ..of(0, 0x1001) }, InstallError::SelectorCount(MAX_SELECTORS + 1)),
        (ChildSa { theirs: vec![], ..of(0, 0x1001) }, InstallError::SelectorCount(0)),
        (ChildSa { replay_window: 63, ..of(0, 0x1001) }, InstallError::ReplayWindow(63)),
        (ChildSa { replay_window: 8193, ..of(0, 0x1001) }, InstallError::ReplayWindow(8193)),
    ] {
        assert_eq!(side.install(child), Err(error));
        assert!(!error.to_string().is_empty());
    }
    assert_eq!(side.endpoint.sa_count(), 1);
    let full = vec![Selector::ANY4; MAX_SELECTORS];
    side.install(ChildSa { ours: full, replay_window: 8192, ..of(0, 256) }).unwrap();
}

#[test]
fn a_question_for_new_keys_that_was_lost_is_asked_again() {
    let lifetime = Lifetime { packets: 10, ..Lifetime::UNLIMITED };
    let mut side = Side::with([ChildSa { lifetime, ..child(0x1000, 0x2000) }]);
    for n in 0..MAX_EVENTS as u32 {
        assert!(side.endpoint.events.push(Event::Expired { tunnel: TunnelId(9), spi_in: n }));
    }
    (0..9).for_each(|_| drop(side.seal(&v4(1)).unwrap()));
    assert_eq!((side.endpoint.events_lost(), side.events().len()), (1, MAX_EVENTS));
    side.endpoint.seal(TUNNEL, &v4(1), &mut side.outbox).unwrap();
    assert!(matches!(side.events()[..], [Event::Expired { .. }]), "that was its last packet");

    let mut side = Side::with([ChildSa { lifetime: Lifetime { packets: 100, ..lifetime }, ..child(0x1000, 0x2000) }]);
    for n in 0..MAX_EVENTS as u32 {
        side.endpoint.events.push(Event::Expired { tunnel: TunnelId(9), spi_in: n });
    }
    (0..90).for_each(|_| drop(side.seal(&v4(1)).unwrap()));
    side.events();
    (0..5).for_each(|_| drop(side.seal(&v4(1)).unwrap()));
    assert_eq!(side.events(), [Event::RekeyDue { tunnel: TUNNEL, spi_in: 0x1000 }]);
}

#[test]
fn a_full_outbox_loses_the_packet_and_no_sequence_number() {
    let (mut a, mut b) = pair();
    let roomy = std::mem::replace(&mut a.outbox, Outbox::new(50, 10));
    assert_eq!(a.endpoint.seal(TUNNEL, &v4(60), &mut a.outbox), Err(DropReason::EgressQueueFull));
    assert_eq!(a.endpoint.sas(TUNNEL).next().unwrap().tx_packets, 0);
    a.outbox = roomy;
    let sealed = a.seal(&v4(60)).unwrap();
    assert_eq!(sequence_of(&sealed), 1);
    assert_eq!(b.open(&sealed), Ok(v4(60)));
}

#[test]
fn a_packet_longer_than_the_room_for_it_is_refused_before_it_is_opened() {
    let (mut a, mut b) = pair();
    let sealed = a.seal(&v4(100)).unwrap();
    let room = sealed.len() - 8 - 8 - 16; // header, IV, ICV
    let mut out = vec![0; room - 1];
    let opened = b.endpoint.open(Datagram::new(path(4500), &sealed), &mut out, b.now);
    assert_eq!(opened, dropped(DropReason::InnerTooLong));
    let mut out = vec![0; room];
    let opened = b.endpoint.open(Datagram::new(path(4500), &sealed), &mut out, b.now);
    assert_eq!(opened, Opened::Packet { tunnel: TUNNEL, len: 128 });
}

#[test]
fn ten_thousand_tunnels_have_one_deadline_each() {
    let mut side = Side::new();
    for n in 0..10_000 {
        side.install(of(n, 0x1000 + n)).unwrap();
    }
    for n in 0..10_000 {
        side.install(of(n, 0x10_1000 + n)).unwrap();
        side.retire(0x1000 + n, 30);
    }
    assert_eq!((side.endpoint.sa_count(), side.endpoint.deadline_count()), (20_000, 10_000));
    (0..10_000).for_each(|n| side.endpoint.remove_tunnel(TunnelId(n)));
    assert_eq!((side.endpoint.sa_count(), side.endpoint.deadline_count()), (0, 0));
}

/// A clock that jumps must not hold the worker: each tunnel's timers run once for each call.
#[test]
fn timers_end_even_at_the_end_of_time() {
    let mut side = Side::with([child(0x1000, 0x2000)]);
    side.now = Timestamp::from_micros(u64::MAX);
    for _ in 0..3 {
        assert_eq!(side.tick().len(), 1, "one keepalive");
    }
}

/// An idle tunnel is to cost little. What the keys hold outside of themselves is the library's, 600 bytes for an AEAD, or a
/// kernel's, 448 at most.
#[test]
fn an_sa_takes_little_and_its_keys_too() {
    assert!(size_of::<PacketKey>() <= 64, "{}", size_of::<PacketKey>());
    assert!(size_of::<Sa>() <= 512, "{}", size_of::<Sa>());
}
