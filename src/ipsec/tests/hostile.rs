//! Datagrams from strangers, from wire taps, and from peers gone wrong.

use proptest::prelude::*;

use super::world::*;
use crate::ipsec::{ChildSa, UseOut};
use crate::net::{Path, Port};
use crate::packet::{Datagram, DropReason, Opened};

fn opened(side: &mut Side, bytes: &[u8], room: usize) -> Opened {
    side.endpoint.open(Datagram::new(path(4500), bytes), &mut vec![0; room], side.now)
}

#[test]
fn a_datagram_that_is_no_esp_packet_is_refused() {
    let (mut a, mut b) = pair();
    let sealed = a.seal(&v4(0)).unwrap();
    for len in 0..8 {
        assert_eq!(opened(&mut b, &sealed[..len], 100), dropped(DropReason::OuterMalformed), "{len}");
    }
    for len in 8..8 + 8 + 16 {
        assert_eq!(opened(&mut b, &sealed[..len], 100), dropped(DropReason::OuterMalformed), "{len}");
    }
    for len in 8 + 8 + 16..sealed.len() {
        assert_eq!(opened(&mut b, &sealed[..len], 100), dropped(DropReason::DataNotAuthentic), "{len}");
    }
    assert_eq!(b.open(&sealed), Ok(v4(0)));
}

#[test]
fn an_unknown_spi_is_nobodys() {
    let (_, mut b) = pair();
    for spi in [0u32, 1, 255, 0x1000, 0x2001, u32::MAX] {
        let packet = [&spi.to_be_bytes()[..], &[0; 60]].concat();
        assert_eq!(opened(&mut b, &packet, 100), dropped(DropReason::DataUnknownSession));
    }
}

/// Our own packets come back: they carry the peer's SPI, not ours.
#[test]
fn reflected_packets_are_not_taken() {
    let (mut a, _) = pair();
    let sealed = a.seal(&v4(1)).unwrap();
    assert_eq!(a.open(&sealed), Err(dropped(DropReason::DataUnknownSession)));
    let (mut a, _) = pair_with(|mut child| {
        (child.spi_in, child.spi_out) = (0x3000, 0x3000); // each side chose the same
        child
    });
    let sealed = a.seal(&v4(1)).unwrap();
    assert_eq!(a.open(&sealed), Err(dropped(DropReason::DataNotAuthentic)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is changed, cut off or added: nothing comes out, nothing is learnt, and the packet itself still passes.
    #[test]
    fn changed_packets_never_get_through_and_leave_no_trace(
        payload in 0usize..200,
        esn: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
        added in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let (mut a, mut b) = pair_with(|child| ChildSa { esn, follow_path: true, ..child });
        let sealed = a.seal(&v4(payload)).unwrap();
        let mut changed = sealed.clone();
        for (at, mask) in changes {
            changed[at.index(sealed.len())] ^= mask;
        }
        if let Some(at) = cut {
            changed.truncate(at.index(sealed.len()));
        }
        changed.extend(added);
        prop_assume!(changed != sealed);
        let other = Path::from_port(Port::IkeNatT, "192.0.2.66:9".parse().unwrap());
        let before = (b.status(), b.endpoint.sas(TUNNEL).next(), b.endpoint.poll_timeout());
        let refused = b.open_from(other, &changed);
        let is_refused = matches!(refused, Err(Opened::Dropped { tunnel: None, .. }));
        prop_assert!(is_refused, "{:?}", refused);
        prop_assert_eq!((b.status(), b.endpoint.sas(TUNNEL).next(), b.endpoint.poll_timeout()), before);
        prop_assert_eq!(b.open(&sealed), Ok(v4(payload)));
    }

    #[test]
    fn random_datagrams_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        known_spi: bool,
        room in 0usize..300,
        esn: bool,
    ) {
        let (_, mut b) = pair_with(|child| ChildSa { esn, ..child });
        let mut bytes = bytes;
        if let (true, Some(spi)) = (known_spi, bytes.first_chunk_mut::<4>()) {
            *spi = 0x2000_u32.to_be_bytes();
        }
        let is_dropped = matches!(opened(&mut b, &bytes, room), Opened::Dropped { tunnel: None, .. });
        prop_assert!(is_dropped);
    }

    /// A peer that has the keys may send anything; it gets no further than its own tunnel.
    #[test]
    fn authentic_garbage_never_panics(
        plaintext in prop::collection::vec(any::<u8>(), 0..200),
        first in prop::sample::select(vec![0x45u8, 0x4f, 0x60, 0x46, 0]),
        pad in 0u8..8,
        next in prop::sample::select(vec![4u8, 41, 59, 6]),
        narrow: bool,
    ) {
        let (_, mut b) = pair_with(|mut child| {
            if narrow {
                child.ours[0].last_port = 7; // so that upper layers are read
                child.ours[1].last_port = 7;
            }
            child
        });
        let mut plaintext = plaintext;
        if let Some(byte) = plaintext.first_mut() {
            *byte = first;
        }
        plaintext.extend(1..=pad);
        plaintext.extend([pad, next]);
        let sealed = forge(0x2000, 1, false, &plaintext);
        let for_tunnel = match opened(&mut b, &sealed, sealed.len()) {
            Opened::Packet { tunnel, len } => {
                prop_assert!(len <= plaintext.len());
                Some(tunnel)
            }
            Opened::Keepalive { tunnel } => Some(tunnel),
            Opened::Dropped { tunnel, .. } => tunnel,
            Opened::Control => None,
        };
        prop_assert_eq!(for_tunnel, Some(TUNNEL));
        prop_assert_eq!(b.endpoint.sas(TUNNEL).next().unwrap().use_out, UseOut::Active);
    }
}

/// Secrets stay out of what might be logged.
#[test]
fn nothing_prints_a_key() {
    let child = child(0x1000, 0x2000);
    let printed = format!("{child:?}");
    assert!(printed.contains("spi_in: 4096"));
    assert!(!printed.contains("0, 0, 16, 0, 1, 2, 3"), "{printed}");
}
