//! Replays, and extended sequence numbers across the 2^32 boundary.

use proptest::prelude::*;

use super::world::*;
use crate::ipsec::ChildSa;
use crate::ipsec::esp::next_header;
use crate::packet::DropReason;

#[test]
fn a_packet_is_taken_once_and_in_any_order_within_the_window() {
    let (mut a, mut b) = pair_with(|child| ChildSa { replay_window: 64, ..child });
    let sealed: Vec<_> = (0..100).map(|_| a.seal(&v4(10)).unwrap()).collect();
    for at in [99, 36, 50, 98] {
        assert_eq!(b.open(&sealed[at]), Ok(v4(10)));
    }
    for at in [99, 36, 50, 98] {
        assert_eq!(b.open(&sealed[at]), Err(dropped(DropReason::DataReplayed)));
        let mut damaged = sealed[at].clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(b.open(&damaged), Err(dropped(DropReason::DataReplayed)), "the integrity is not even looked at");
    }
    assert_eq!(b.open(&sealed[35]), Err(dropped(DropReason::DataReplayed)), "older than the window");
}

#[test]
fn packets_opened_elsewhere_are_noted_together_as_the_numbers_they_are_or_not_at_all() {
    let (_, mut b) = pair_with(|child| ChildSa { esn: true, ..child });
    let key = b.sa(0x2000).opening_key().identity();
    let far = 1 << 32;
    for (first, are_noted) in [(1, true), (far, false), (far - 1, false), (3, true), (4, false), (5, true)] {
        let path = path(4500);
        let mut receiver = b.endpoint.receiver_of_lent(0x2000, key, &path, 0).unwrap();
        let mut settled = receiver.settled(2, 100).unwrap();
        assert_eq!(settled.accept_newest(first, 2), are_noted, "{first}");
    }
    let path = path(4500);
    let slot = b.endpoint.opener(&forge(0x2000, 7, true, &[])).unwrap().slot();
    let mut receiver = b.endpoint.receiver(slot, 0x2000, &path, 0);
    let noted = [far, 7].map(|first| receiver.settled(2, 100).unwrap().accept_newest(first, 2));
    assert_eq!(noted, [true, false], "one that was opened here is the one it was looked up as");
}

#[test]
fn sequence_zero_is_never_taken() {
    for esn in [false, true] {
        let (_, mut b) = pair_with(|child| ChildSa { esn, ..child });
        let zero = forge(0x2000, 0, esn, &plaintext(&v4(1), next_header::IPV4));
        assert_eq!(b.open(&zero), Err(dropped(DropReason::DataReplayed)));
    }
}

/// RFC 4303 section 3.4.3: the window must not be moved by what does not authenticate.
#[test]
fn a_forgery_far_ahead_does_not_move_the_window() {
    for esn in [false, true] {
        let (mut a, mut b) = pair_with(|child| ChildSa { esn, ..child });
        let first = a.seal(&v4(1)).unwrap();
        let mut forged = forge(0x2000, 4_000_000_000, esn, &plaintext(&v4(1), next_header::IPV4));
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(b.open(&forged), Err(dropped(DropReason::DataNotAuthentic)));
        assert_eq!(b.open(&first), Ok(v4(1)));
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(b.open(&forged), Ok(v4(1)));
    }
}

#[test]
fn without_esn_the_number_ends_and_does_not_begin_again() {
    let (_, mut b) = pair();
    let last = forge(0x2000, u32::MAX.into(), false, &plaintext(&v4(1), next_header::IPV4));
    assert_eq!(b.open(&last), Ok(v4(1)));
    for sequence in [0, 1, 2] {
        let wrapped = forge(0x2000, (1 << 32) + sequence, false, &plaintext(&v4(1), next_header::IPV4));
        assert_eq!(b.open(&wrapped), Err(dropped(DropReason::DataReplayed)));
    }
}

/// The high half is no part of the packet, but of what is authenticated.
#[test]
fn esn_and_no_esn_do_not_understand_one_another() {
    let (mut a, _) = pair_with(|child| ChildSa { esn: true, ..child });
    let (_, mut b) = pair();
    assert_eq!(b.open(&a.seal(&v4(1)).unwrap()), Err(dropped(DropReason::DataNotAuthentic)));
}

fn esn_packet(sequence: u64) -> Vec<u8> {
    forge(0x2000, sequence, true, &plaintext(&v4(1), next_header::IPV4))
}

#[test]
fn esn_crosses_two_to_the_32_with_losses_and_replays() {
    let (_, mut b) = pair_with(|child| ChildSa { esn: true, replay_window: 128, ..child });
    let boundary = 1u64 << 32;
    b.sa(0x2000).skip_in_to(boundary - 1000);
    let take = [boundary - 900, boundary - 30, boundary + 40, boundary - 10, boundary, boundary - 1, boundary + 1];
    for sequence in take {
        assert_eq!(b.open(&esn_packet(sequence)), Ok(v4(1)), "{sequence:#x}");
    }
    for sequence in take {
        assert!(b.open(&esn_packet(sequence)).is_err(), "{sequence:#x} again");
    }
    assert_eq!(
        b.open(&esn_packet(boundary - 88)),
        Err(dropped(DropReason::DataNotAuthentic)),
        "taken for one far ahead"
    );
    assert_eq!(b.open(&esn_packet(boundary - 87)), Ok(v4(1)), "the oldest of the window");
    assert_eq!(b.open(&esn_packet(boundary + 3_000_000_000)), Ok(v4(1)), "after a long silence");
    assert_eq!(b.open(&esn_packet(2 * boundary + 5)), Ok(v4(1)), "and the next boundary");
    assert_eq!(b.endpoint.sas(TUNNEL).next().unwrap().sequence_in, 2 * boundary + 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A sender across the boundary, a path that loses, duplicates and reorders: each packet comes out at most once, and
    /// every one that is not overtaken by more than the window comes out.
    #[test]
    fn esn_over_a_bad_path(
        start in (1u64 << 32) - 300..(1u64 << 32),
        fates in prop::collection::vec((0usize..5, 0usize..60), 300),
    ) {
        let (mut a, mut b) = pair_with(|child| ChildSa { esn: true, replay_window: 64, ..child });
        a.sa(0x1000).skip_to(start);
        b.sa(0x2000).skip_in_to(start);
        let mut flight: Vec<(usize, usize, Vec<u8>)> = Vec::new();
        for (n, (copies, delay)) in fates.iter().enumerate() {
            let sealed = a.seal(&v4(n)).unwrap();
            flight.extend((0..*copies).map(|copy| (n + delay + copy * 7, n, sealed.clone())));
        }
        flight.sort_by_key(|(at, ..)| *at);
        let mut taken = vec![0; fates.len()];
        let mut newest = 0;
        let mut due = vec![false; fates.len()];
        for (_, n, sealed) in &flight {
            due[*n] |= n + 64 > newest;
            newest = newest.max(*n);
            if let Ok(inner) = b.open(sealed) {
                prop_assert_eq!(inner, v4(*n));
                taken[*n] += 1;
            }
        }
        for (n, count) in taken.iter().enumerate() {
            prop_assert_eq!(*count, i32::from(due[n]), "packet {}", n);
        }
    }
}
