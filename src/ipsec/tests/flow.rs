//! Packets through a pair of endpoints: families, padding, dummies, and tunnels that have everything in common.

use super::world::*;
use crate::crypto::{Cipher, Integrity, Suite};
use crate::ipsec::TunnelStatus;
use crate::ipsec::esp::{self, next_header};
use crate::net::{Path, Port, TunnelId};
use crate::packet::{Datagram, DropReason, Opened, Outbox};

const OUTER: [(&str, Port); 4] = [
    ("198.51.100.7:4500", Port::IkeNatT),
    ("[2001:db8::7]:4500", Port::IkeNatT),
    ("198.51.100.7:0", Port::RawEsp),
    ("[2001:db8::7]:0", Port::RawEsp),
];

#[test]
fn both_families_inside_and_outside_over_udp_and_raw() {
    for (remote, port) in OUTER {
        let outer = Path::from_port(port, remote.parse().unwrap());
        let (mut a, mut b) = pair_with(|mut child| {
            child.path = outer;
            child
        });
        for inner in [packet("192.168.1.10", "192.168.1.20", 40), packet("fd00::10", "fd00::20", 41)] {
            let sealed = a.seal(&inner).unwrap();
            assert_eq!(a.outbox.datagrams().next().unwrap().0, outer);
            assert_eq!(spi_of(&sealed), 0x2000, "no header of UDP encapsulation before the SPI (RFC 3948 section 2.1)");
            assert_eq!(b.open_from(outer, &sealed), Ok(inner));
        }
    }
}

#[test]
fn every_length_is_padded_to_the_block_and_comes_out_as_it_went_in() {
    for suite in every_suite() {
        let around = 8 + suite.iv_bytes() + (suite.block_bytes() - 1) + 2 + suite.icv_bytes();
        let mut a = Side::with([child_with(suite, 0x1000, 0x2000)]);
        let mut b = Side::with([child_with(suite, 0x2000, 0x1000)]);
        for payload in (0..70).chain([1390, 1400, 1880]) {
            let inner = v4(payload);
            let sealed = a.seal(&inner).unwrap();
            assert_eq!(sealed.len() % 4, 0, "RFC 4303 section 2.4: right aligned");
            assert_eq!((8 + suite.iv_bytes()) % 8, 0, "RFC 4303 section 2.3: the inner header is aligned, IPv6's too");
            assert!(sealed.len() - inner.len() <= around, "no more padding than the block asks for");
            assert_eq!(b.open(&sealed), Ok(inner));
        }
    }
}

fn every_suite() -> impl Iterator<Item = Suite> {
    Cipher::ALL.into_iter().flat_map(|cipher| match cipher.is_aead() {
        true => vec![Suite { cipher, integrity: None }],
        false => Integrity::ALL.map(|integrity| Suite { cipher, integrity: Some(integrity) }).into(),
    })
}

#[test]
fn sequence_numbers_begin_with_one_and_rise_by_one() {
    let (mut a, _) = pair();
    let sequences: Vec<u32> = (0..5).map(|_| sequence_of(&a.seal(&v4(9)).unwrap())).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
}

#[test]
fn dummies_are_discarded_and_counted() {
    let (mut a, mut b) = pair();
    for (sequence, payload) in [(1, &[][..]), (2, &[0x45; 700])] {
        let dummy = forge(0x2000, sequence, false, &plaintext(payload, next_header::NONE));
        assert_eq!(b.open(&dummy), Err(Opened::Keepalive { tunnel: TUNNEL }));
        assert_eq!(b.open(&dummy), Err(dropped(DropReason::DataReplayed)), "they too have a sequence number");
    }
    let sa = b.endpoint.sas(TUNNEL).next().unwrap();
    assert_eq!((sa.rx_packets, sa.rx_bytes), (2, 700), "they wear the SA like any others");
    let inner = v4(5);
    (0..2).for_each(|_| drop(a.seal(&inner)));
    let third = a.seal(&inner).unwrap();
    assert_eq!(b.open(&third), Ok(inner));
}

#[test]
fn traffic_flow_padding_is_cut_off_by_the_inner_length() {
    let (_, mut b) = pair();
    for (sequence, inner, next) in
        [(1, v4(30), next_header::IPV4), (2, packet("fd00::10", "fd00::20", 30), next_header::IPV6)]
    {
        let payload = [&inner[..], &[0xee; 500]].concat();
        assert_eq!(b.open(&forge(0x2000, sequence, false, &plaintext(&payload, next))), Ok(inner));
    }
}

#[test]
fn authentic_nonsense_is_dropped_and_counts_against_its_tunnel() {
    let (_, mut b) = pair();
    let good = v4(30);
    let mut long = good.clone();
    long[3] += 5; // more than there is
    let mut wrong_pad = plaintext(&v4(3), next_header::IPV4);
    let at = wrong_pad.len() - 3;
    wrong_pad[at] ^= 1;
    let mut all_padding = plaintext(&[], next_header::IPV4);
    let len = all_padding.len();
    all_padding[len - 2] = 200;
    for (sequence, plaintext, reason) in [
        (1, plaintext(&good, 17), DropReason::EspTrailerInvalid),
        (2, plaintext(&good, 50), DropReason::EspTrailerInvalid),
        (3, plaintext(&good, next_header::IPV6), DropReason::InnerMalformed),
        (4, plaintext(&[], next_header::IPV4), DropReason::InnerMalformed),
        (5, plaintext(&good[..19], next_header::IPV4), DropReason::InnerMalformed),
        (6, plaintext(&long, next_header::IPV4), DropReason::InnerMalformed),
        (7, wrong_pad, DropReason::EspTrailerInvalid),
        (8, all_padding, DropReason::EspTrailerInvalid),
        (9, vec![0], DropReason::EspTrailerInvalid),
        (10, vec![], DropReason::EspTrailerInvalid),
    ] {
        let sealed = forge(0x2000, sequence, false, &plaintext);
        assert_eq!(b.open(&sealed), Err(proved(reason)), "{sequence}");
    }
}

#[test]
fn the_longest_padding_is_taken_off_too() {
    let (_, mut b) = pair();
    let inner = v4(11);
    let mut bytes = inner.clone();
    bytes.extend(1..=255);
    bytes.extend([255, next_header::IPV4]);
    assert_eq!(b.open(&forge(0x2000, 1, false, &bytes)), Ok(inner));
    assert_eq!(esp::parse_trailer(&[1, 2, 254, 4]), None);
}

/// Peers choose the SPIs of packets to them, hosts their addresses: both may be the same everywhere.
#[test]
fn tunnels_that_share_every_outgoing_spi_and_every_address_stay_apart() {
    let count = 20;
    let mut a = Side::new();
    let mut peers: Vec<Side> = Vec::new();
    for n in 0..count {
        let mut ours = child(0x1000 + n, 0x2000);
        (ours.tunnel, ours.key_out) = (TunnelId(n), key(GCM, 0xaa00 + n));
        a.install(ours).unwrap();
        a.sa(0x1000 + n).skip_to(n.into()); // so that nobody takes a foreign packet for a replay
        let mut theirs = child(0x2000, 0x1000 + n);
        theirs.key_in = key(GCM, 0xaa00 + n);
        peers.push(Side::with([theirs]));
    }
    let inner = v4(100);
    for n in 0..count {
        a.outbox = Outbox::new(10_000, 10);
        a.endpoint.seal(TunnelId(n), &inner, &mut a.outbox).unwrap();
        let sealed = a.outbox.datagrams().next().unwrap().2.to_vec();
        for (m, peer) in peers.iter_mut().enumerate() {
            let expected = if m == n as usize { Ok(inner.clone()) } else { Err(dropped(DropReason::DataNotAuthentic)) };
            assert_eq!(peer.open(&sealed), expected);
        }
        let reply = peers[n as usize].seal(&inner).unwrap();
        let mut out = vec![0; reply.len()];
        let opened = a.endpoint.open(Datagram::new(path(4500), &reply), &mut out, a.now);
        assert_eq!(opened, Opened::Packet { tunnel: TunnelId(n), len: inner.len() });
    }
}

#[test]
fn a_tunnel_without_an_sa_is_down() {
    let (mut a, mut b) = pair();
    assert!(a.endpoint.is_up(TUNNEL));
    assert_eq!(a.seal_to(TunnelId(9), &v4(1)), Err(DropReason::TunnelDown));
    assert!(!a.endpoint.is_up(TunnelId(9)) && !a.endpoint.is_up(TunnelId::NONE));
    let last = a.seal(&v4(1)).unwrap();
    b.endpoint.remove_tunnel(TUNNEL);
    assert!(!b.endpoint.is_up(TUNNEL));
    assert_eq!(b.seal(&v4(1)), Err(DropReason::TunnelDown));
    assert_eq!(b.open(&last), Err(dropped(DropReason::DataUnknownSession)));
    assert_eq!((b.endpoint.status(TUNNEL), b.endpoint.sa_count(), b.endpoint.poll_timeout()), (None, 0, None));
    b.endpoint.remove_tunnel(TUNNEL);
}

#[test]
fn an_sa_counts_inner_packets_and_their_bytes() {
    let (mut a, mut b) = pair();
    let sealed: Vec<_> = [10, 20, 30].map(|payload| a.seal(&v4(payload)).unwrap()).into();
    sealed.iter().for_each(|sealed| drop(b.open(sealed)));
    let bytes = 3 * 28 + 60;
    let sent = a.endpoint.sas(TUNNEL).next().unwrap();
    assert_eq!((sent.tx_packets, sent.tx_bytes), (3, bytes));
    assert_eq!(b.status(), TunnelStatus { sas: 1, up: true, path: Some(path(4500)) });
    let sa = b.endpoint.sas(TUNNEL).next().unwrap();
    assert_eq!((sa.spi_in, sa.spi_out, sa.sequence_in, sa.sequence_out), (0x2000, 0x1000, 3, 0));
    assert_eq!((sa.rx_packets, sa.rx_bytes, sa.suite), (3, bytes, GCM));
}
