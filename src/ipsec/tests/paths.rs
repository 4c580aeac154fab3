//! Where packets go: peers that move, and paths that are kept open.

use std::time::Duration;

use super::world::*;
use crate::ipsec::tunnel::MOVED_INTERVAL;
use crate::ipsec::{ChildSa, Event, KEEPALIVE_INTERVAL, Outbound};
use crate::net::{Path, Port};
use crate::packet::{DropReason, Outbox};

fn followed(child: ChildSa) -> ChildSa {
    ChildSa { follow_path: true, ..child }
}

fn moved(from: Path, to: Path, moves: u32) -> Event {
    Event::Moved { tunnel: TUNNEL, spi_in: 0x2000, from, to, moves }
}

fn goes_to(side: &mut Side) -> Path {
    side.seal(&v4(1)).unwrap();
    side.outbox.runs()[0].path
}

#[test]
fn a_peer_behind_a_nat_is_followed_by_its_authentic_packets_only() {
    let (mut a, mut b) = pair_with(followed);
    let sealed = a.seal(&v4(1)).unwrap();
    let mut forged = sealed.clone();
    forged[30] ^= 1;
    assert_eq!(b.open_from(path(9), &forged), Err(dropped(DropReason::DataNotAuthentic)));
    assert_eq!((goes_to(&mut b), b.events()), (path(4500), vec![]));
    assert_eq!(b.open_from(path(5), &sealed), Ok(v4(1)));
    assert_eq!((goes_to(&mut b), b.status().path), (path(5), Some(path(5))));
    assert_eq!(b.events(), [moved(path(4500), path(5), 1)]);
    assert_eq!(b.open_from(path(6), &sealed), Err(dropped(DropReason::DataReplayed)));
    assert_eq!(goes_to(&mut b), path(5), "a replay moves nothing");
}

#[test]
fn a_peer_without_a_nat_stays_where_ike_said() {
    let (mut a, mut b) = pair();
    assert_eq!(b.open_from(path(5), &a.seal(&v4(1)).unwrap()), Ok(v4(1)));
    assert_eq!((goes_to(&mut b), b.events()), (path(4500), vec![]));
}

/// By MOBIKE behind a NAT, and out of there again.
#[test]
fn whether_a_peer_is_followed_changes_where_it_moves() {
    let (mut a, mut b) = pair();
    for (follow_path, to) in [(true, 5), (false, 8)] {
        b.endpoint.move_path(TUNNEL, path(8), follow_path);
        assert_eq!(b.open_from(path(5), &a.seal(&v4(1)).unwrap()), Ok(v4(1)));
        assert_eq!(goes_to(&mut b), path(to));
    }
}

/// RFC 7296 section 2.23: both forms "at any time", whatever is sent the other way.
#[test]
fn what_was_agreed_as_raw_is_taken_out_of_udp_too() {
    let raw = Path::from_port(Port::RawEsp, "198.51.100.7:0".parse().unwrap());
    let (mut a, mut b) = pair_with(|child| ChildSa { path: raw, ..child });
    assert_eq!(b.open_from(path(4500), &a.seal(&v4(1)).unwrap()), Ok(v4(1)));
    assert_eq!((goes_to(&mut b), b.events()), (raw, vec![]));
}

#[test]
fn packets_that_were_overtaken_do_not_move_the_path_back() {
    let (mut a, mut b) = pair_with(followed);
    let old = a.seal(&v4(1)).unwrap();
    let new = a.seal(&v4(2)).unwrap();
    assert_eq!(b.open_from(path(5), &new), Ok(v4(2)));
    assert_eq!(b.open_from(path(4500), &old), Ok(v4(1)));
    assert_eq!(goes_to(&mut b), path(5));
}

#[test]
fn all_sas_of_the_tunnel_move_together_and_a_retired_one_leads_nobody() {
    let (mut a, mut b) = pair_with(followed);
    let late = a.seal(&v4(1)).unwrap();
    a.install(followed(child(0x1001, 0x2001))).unwrap();
    b.install(followed(ChildSa { outbound: Outbound::WhenHeard, ..child(0x2001, 0x1001) })).unwrap();
    assert_eq!(b.open_from(path(5), &late), Ok(v4(1)));
    assert_eq!(b.endpoint.sas(TUNNEL).map(|sa| sa.path).collect::<Vec<_>>(), [path(5); 2]);
    let late = forge(0x2000, 7, false, &plaintext(&v4(1), 4));
    b.retire(0x2000, 10);
    assert_eq!(b.open_from(path(6), &late), Ok(v4(1)));
    assert_eq!(goes_to(&mut b), path(5));
}

#[test]
fn peers_behind_a_nat_are_not_followed_out_of_udp() {
    let (mut a, mut b) = pair_with(followed);
    let raw = Path::from_port(Port::RawEsp, "192.0.2.66:0".parse().unwrap());
    assert_eq!(b.open_from(raw, &a.seal(&v4(1)).unwrap()), Ok(v4(1)), "received all the same");
    assert_eq!(goes_to(&mut b), path(4500));
}

#[test]
fn which_of_our_addresses_is_called_is_learnt_and_is_no_move() {
    let (mut a, mut b) = pair_with(followed);
    let here = Path { local: Some("203.0.113.1".parse().unwrap()), ..path(4500) };
    assert_eq!(b.open_from(here, &a.seal(&v4(1)).unwrap()), Ok(v4(1)));
    assert_eq!((goes_to(&mut b), b.events()), (here, vec![]));
}

#[test]
fn ike_moves_a_tunnel() {
    let (_, mut b) = pair();
    b.endpoint.move_path(TUNNEL, path(7), true);
    assert_eq!((goes_to(&mut b), b.events()), (path(7), vec![]));
}

#[test]
fn a_peer_that_moves_all_the_time_is_followed_and_told_of_now_and_then() {
    let (mut a, mut b) = pair_with(followed);
    for port in 1..=500 {
        drop(b.open_from(path(port), &a.seal(&v4(1)).unwrap()));
        assert_eq!(b.status().path, Some(path(port)));
    }
    assert_eq!(b.events(), [moved(path(4500), path(1), 1)]);
    b.advance(MOVED_INTERVAL);
    assert_eq!(b.endpoint.poll_timeout().unwrap().0, b.now);
    b.tick();
    assert_eq!(b.events(), [moved(path(1), path(500), 499)]);
    b.advance(MOVED_INTERVAL);
    b.tick();
    assert_eq!(b.events(), []);
}

const KEEPALIVE: [u8; 1] = [0xff];

#[test]
fn a_silent_path_through_udp_is_kept_open() {
    let (_, mut b) = pair();
    let millisecond = Duration::from_millis(1);
    for _ in 0..3 {
        assert_eq!(b.endpoint.poll_timeout().map(|(at, _)| at), Some(b.now + KEEPALIVE_INTERVAL));
        b.advance(KEEPALIVE_INTERVAL - millisecond);
        assert_eq!(b.tick(), []);
        b.advance(millisecond);
        assert_eq!(b.tick(), [(path(4500), KEEPALIVE.to_vec())]);
        assert!(!b.outbox.runs()[0].data);
    }
    b.retire(0x2000, 0);
    assert_eq!(b.endpoint.poll_timeout(), None);
}

#[test]
fn what_was_sent_saves_a_keepalive() {
    let (_, mut b) = pair();
    b.advance(Duration::from_secs(15));
    b.tick();
    b.seal(&v4(1)).unwrap();
    b.advance(Duration::from_secs(5));
    assert_eq!(b.tick(), []);
    b.advance(Duration::from_secs(15));
    assert_eq!(b.tick().len(), 1);
}

#[test]
fn raw_esp_needs_no_keepalive() {
    let raw = Path::from_port(Port::RawEsp, "198.51.100.7:0".parse().unwrap());
    let (_, mut b) = pair_with(|child| ChildSa { path: raw, ..child });
    assert_eq!(b.endpoint.poll_timeout(), None);
    b.endpoint.move_path(TUNNEL, path(4500), true);
    assert_eq!(b.endpoint.poll_timeout().map(|(at, _)| at), Some(b.now + KEEPALIVE_INTERVAL));
}

#[test]
fn a_keepalive_that_found_no_room_is_sent_soon_after() {
    let (_, mut b) = pair();
    b.advance(KEEPALIVE_INTERVAL);
    let roomy = std::mem::replace(&mut b.outbox, Outbox::new(0, 1));
    assert_eq!(b.tick(), []);
    let (again, _) = b.endpoint.poll_timeout().unwrap();
    assert!(again > b.now && again <= b.now + Duration::from_millis(100));
    b.outbox = roomy;
    b.now = again;
    assert_eq!(b.tick().len(), 1);
}
