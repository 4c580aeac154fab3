//! SAs wear out: asked for in time, gone at the end, and no sequence number used twice.

use super::world::*;
use crate::ipsec::{ChildSa, Event, Lifetime};
use crate::packet::DropReason;

const RANGE_OF_90_PERCENT: std::ops::RangeInclusive<u64> = 880..=900;

/// Packets after which `side` told that new keys are due, and that the SA is gone.
fn wear(side: &mut Side, mut send: impl FnMut(&mut Side) -> bool) -> (u64, u64) {
    let (mut due, mut count) = (0, 0);
    while send(side) {
        count += 1;
        match side.events()[..] {
            [] => {}
            [Event::RekeyDue { tunnel: TUNNEL, spi_in: 0x1000 }] if due == 0 => due = count,
            [Event::Expired { tunnel: TUNNEL, spi_in: 0x1000 }] => return (due, count),
            ref other => panic!("{other:?} after {count}"),
        }
    }
    panic!("stopped after {count} packets without having expired");
}

#[test]
fn packets_out_and_in_and_bytes_wear_an_sa_out() {
    let packets = Lifetime { packets: 1000, ..Lifetime::UNLIMITED };
    let bytes = Lifetime { bytes: 1000 * 100, ..Lifetime::UNLIMITED };
    let inner = v4(100 - 28);
    for lifetime in [packets, bytes] {
        let ours = || ChildSa { lifetime, ..child(0x1000, 0x2000) };
        let mut a = Side::with([ours()]);
        let (due, end) = wear(&mut a, |a| a.seal(&inner).is_ok());
        assert!(RANGE_OF_90_PERCENT.contains(&due) && end == 1000, "sealed: {due}, {end}");
        assert_eq!(a.seal(&inner), Err(DropReason::TunnelDown));

        let (mut a, mut b) = (Side::with([ours()]), Side::with([child(0x2000, 0x1000)]));
        let (due, end) = wear(&mut a, |a| a.open(&b.seal(&inner).unwrap()).is_ok());
        assert!(RANGE_OF_90_PERCENT.contains(&due) && end == 1000, "opened: {due}, {end}");
        let late = b.seal(&inner).unwrap();
        assert_eq!(a.open(&late), Err(dropped(DropReason::DataUnknownSession)));
        assert!(!a.endpoint.is_up(TUNNEL));
        assert_eq!(a.endpoint.sa_count(), 0);
    }
}

#[test]
fn sas_ask_at_different_moments() {
    let lifetime = Lifetime { packets: 10_000, ..Lifetime::UNLIMITED };
    let mut asked = std::collections::BTreeSet::new();
    for spi in 0..20 {
        let mut a = Side::with([ChildSa { lifetime, ..child(0x1000 + spi, 0x2000) }]);
        a.sa(0x1000 + spi).skip_to(8_790);
        while a.events().is_empty() {
            a.seal(&v4(1)).unwrap();
        }
        asked.insert(a.endpoint.sas(TUNNEL).next().unwrap().tx_packets);
    }
    assert!(asked.len() > 10, "{asked:?}");
}

/// RFC 4303 section 3.3.3: the sender MUST NOT send a packet if that would make the sequence number cycle.
#[test]
fn without_esn_an_sa_ends_with_packet_2_to_the_32_less_1() {
    let (mut a, mut b) = pair();
    a.sa(0x1000).skip_to(3_700_000_000);
    b.sa(0x2000).skip_in_to(u64::from(u32::MAX) - 100);
    a.seal(&v4(1)).unwrap();
    assert_eq!(a.events(), []);
    a.sa(0x1000).skip_to(3_865_470_566);
    a.seal(&v4(1)).unwrap();
    assert_eq!(a.events(), [Event::RekeyDue { tunnel: TUNNEL, spi_in: 0x1000 }], "400 million packets before");
    a.sa(0x1000).skip_to(u64::from(u32::MAX) - 3);
    for left in [2, 1, 0] {
        let sealed = a.seal(&v4(1)).unwrap();
        assert_eq!(sequence_of(&sealed), u32::MAX - left);
        assert_eq!(b.open(&sealed), Ok(v4(1)));
    }
    assert_eq!(a.events(), [Event::Expired { tunnel: TUNNEL, spi_in: 0x1000 }]);
    assert_eq!(a.seal(&v4(1)), Err(DropReason::TunnelDown));
}

#[test]
fn with_esn_the_number_goes_on_and_the_lifetime_decides() {
    let (mut a, mut b) = pair_with(|child| ChildSa { esn: true, ..child });
    for side in [&mut a, &mut b] {
        side.advance(std::time::Duration::from_secs(1));
    }
    a.sa(0x1000).skip_to(u64::from(u32::MAX) - 2);
    b.sa(0x2000).skip_in_to(u64::from(u32::MAX) - 2);
    for _ in 0..6 {
        let sealed = a.seal(&v4(1)).unwrap();
        assert_eq!(b.open(&sealed), Ok(v4(1)));
    }
    assert_eq!(a.endpoint.sas(TUNNEL).next().unwrap().sequence_out, (1 << 32) + 3);
    assert_eq!(a.events(), []);
}

#[test]
fn a_worn_out_sa_gives_way_to_the_next_within_the_same_packet_stream() {
    let lifetime = Lifetime { packets: 100, ..Lifetime::UNLIMITED };
    let mut a = Side::with([child(0x1000, 0x2000), ChildSa { lifetime, ..child(0x1001, 0x2001) }]);
    let mut b = Side::with([child(0x2000, 0x1000), child(0x2001, 0x1001)]);
    for n in 0..150 {
        let sealed = a.seal(&v4(n)).unwrap();
        assert_eq!(spi_of(&sealed), if n < 100 { 0x2001 } else { 0x2000 });
        assert_eq!(b.open(&sealed), Ok(v4(n)));
    }
}

#[test]
fn a_retired_sa_asks_for_nothing() {
    let lifetime = Lifetime { packets: 10, ..Lifetime::UNLIMITED };
    let mut a = Side::with([ChildSa { lifetime, ..child(0x1000, 0x2000) }]);
    let mut b = Side::with([child(0x2000, 0x1000)]);
    a.retire(0x1000, 60);
    for _ in 0..10 {
        assert_eq!(a.open(&b.seal(&v4(1)).unwrap()), Ok(v4(1)));
    }
    assert_eq!(a.events(), [Event::Expired { tunnel: TUNNEL, spi_in: 0x1000 }]);
    assert_eq!(a.endpoint.poll_timeout(), None);
}
