//! Every bound is reached, and nobody's but the realm's own datagrams make room.

use super::*;

/// A first fragment of 400 bytes of datagram number `identification`.
fn first(identification: u32) -> Piece {
    Piece { identification, ..piece(true, 0, true, &message(400)) }
}

/// What one such fragment costs.
fn cost() -> usize {
    let mut bench = Bench::new();
    bench.send(&first(1));
    bench.reassembler.bytes()
}

/// Completes the datagrams of `realm` that are still there.
fn still_there(bench: &mut Bench, realm: RealmId, numbers: std::ops::Range<u32>) -> Vec<u32> {
    let alive = |number: &u32| {
        let last = Piece { identification: *number, ..piece(true, 400, false, &message(8)) };
        let outcome = bench.send_to(realm, &last);
        bench.whole();
        outcome == Complete
    };
    numbers.filter(alive).collect()
}

#[test]
fn fragments_of_one_datagram() {
    let mut bench = Bench::with(Limits { fragments_per_datagram: 3, ..LIMITS });
    let pieces = cut(true, &message(500), &[96, 200, 304, 400]);
    assert_eq!(bench.send_all(&pieces[..3]), [Kept, Kept, Kept]);
    assert_eq!(bench.send(&pieces[3]), Dropped(DropReason::TooManyFragments));
    assert_eq!(bench.losses(), [(A, DropReason::TooManyFragments, 3)]);
    assert_eq!(bench.send(&pieces[4]), Dropped(DropReason::TooManyFragments), "and what comes later");

    let pieces = cut(true, &message(500), &[200, 400]);
    let pieces: Vec<_> = pieces.into_iter().map(|piece| Piece { identification: 9, ..piece }).collect();
    assert_eq!(bench.send_all(&pieces), [Kept, Kept, Complete], "as many as allowed");
}

#[test]
fn datagrams_of_one_realm() {
    let mut bench = Bench::with(Limits { datagrams_per_realm: 3, ..LIMITS });
    bench.send_to(B, &first(0));
    (0..5).for_each(|number| assert_eq!(bench.send(&first(number)), Kept));
    assert_eq!(bench.losses(), [(A, DropReason::ReassemblyQuotaExceeded, 1); 2]);
    assert_eq!(still_there(&mut bench, B, 0..1), [0], "the other realm's is untouched");
    assert_eq!(still_there(&mut bench, A, 2..5), [2, 3, 4], "the oldest made room");
}

#[test]
fn bytes_of_one_realm() {
    let mut bench = Bench::with(Limits { bytes_per_realm: 3 * cost() + 100, ..LIMITS });
    bench.send_to(B, &first(0));
    (0..5).for_each(|number| assert_eq!(bench.send(&first(number)), Kept));
    assert_eq!(bench.losses(), [(A, DropReason::ReassemblyQuotaExceeded, 1); 2]);
    assert_eq!(still_there(&mut bench, B, 0..1), [0]);
    assert_eq!(still_there(&mut bench, A, 3..5), [3, 4], "the newest are there");
}

#[test]
fn a_datagram_that_grows_makes_the_others_go_and_not_itself() {
    let mut bench = Bench::with(Limits { bytes_per_realm: 3 * cost() + 100, ..LIMITS });
    (0..3).for_each(|number| assert_eq!(bench.send(&first(number)), Kept));
    let more = |offset| Piece { identification: 0, ..piece(true, offset, true, &message(400)) };
    assert_eq!((bench.send(&more(400)), bench.send(&more(800))), (Kept, Kept));
    assert_eq!(bench.losses(), [(A, DropReason::ReassemblyQuotaExceeded, 1); 1]);
    let outcomes: Vec<_> = (3..10).map(|n| bench.send(&more(n * 400))).collect();
    assert_eq!(outcomes.last(), Some(&Dropped(DropReason::ReassemblyQuotaExceeded)), "alone it is too large");
    assert_eq!(bench.reassembler.datagrams(), 1);
}

#[test]
fn bytes_in_all() {
    let mut bench = Bench::with(Limits { bytes: 5 * cost() + 100, bytes_per_realm: 4 * cost() + 100, ..LIMITS });
    (0..4).for_each(|number| assert_eq!(bench.send(&first(number)), Kept));
    assert_eq!(bench.send_to(B, &first(0)), Kept);
    assert_eq!(bench.losses(), []);
    assert_eq!(bench.send_to(B, &first(1)), Kept, "its own oldest makes room");
    assert_eq!(bench.losses(), [(B, DropReason::ReassemblyFull, 1)]);
    assert_eq!(bench.send_to(RealmId(3), &first(0)), Dropped(DropReason::ReassemblyFull), "it has none");
    assert_eq!(bench.losses(), []);
    assert_eq!(bench.reassembler.datagrams(), 5);
    bench.reassembler.handle_timeout(START + Duration::from_secs(60));
    assert_eq!(bench.losses().iter().map(|(_, _, n)| n).sum::<usize>(), 5);
    bench.expect_empty();
}

#[test]
fn what_is_complete_counts_until_it_is_fetched() {
    let mut bench = Bench::new();
    bench.send_all(&cut(true, &message(800), &[400]));
    assert!(bench.reassembler.bytes() > 800);
    bench.whole();
    bench.expect_empty();
}

#[test]
fn a_flood_of_one_realm_costs_another_nothing() {
    let mut bench = Bench::with(Limits { bytes: 4 * 65_536, bytes_per_realm: 65_536, ..LIMITS });
    for number in 0..20_000 {
        bench.send_to(B, &first(number));
        if number % 1000 == 0 {
            let pieces = cut(true, &message(1000), &[400]);
            assert_eq!(bench.send(&pieces[0]), Kept);
            bench.send_to(B, &first(number));
            assert_eq!(bench.send(&pieces[1]), Complete);
            assert_eq!(bench.expect_whole().1, message(1000));
        }
    }
    assert!(bench.losses().iter().all(|(realm, _, _)| *realm == B));
}
