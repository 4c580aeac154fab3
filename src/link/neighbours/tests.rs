//! The table alone: its bounds, and whom it believes.

use super::*;

const BY: RealmId = RealmId(1);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

fn address(number: usize) -> IpAddr {
    IpAddr::from((0x0a00_0000 | number as u32).to_be_bytes())
}

/// So many realms that none reaches its share.
fn by(number: usize) -> RealmId {
    RealmId(number as u16 % 16)
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_secs(100) + Duration::from_millis(millis)
}

fn answer(neighbours: &mut Neighbours, number: usize, now: Timestamp) -> News {
    neighbours.hear(address(number), MAC, Sign::Answer { is_override: true }, now)
}

/// As many as there is room for, all asked for by packets and found. The time after that.
fn full() -> (Neighbours, Timestamp) {
    let mut neighbours = Neighbours::new(1);
    let mut now = at(0);
    for number in 0..MAX_NEIGHBOURS {
        now = at(10 * number as u64);
        assert_eq!(neighbours.find_out(address(number), by(number), b"?", now), Ok(Unsure::Ask { waits: true }));
        assert_eq!(answer(&mut neighbours, number, now), News::Found);
        neighbours.release(address(number), |packet| assert_eq!(packet, b"?"));
        assert_eq!(neighbours.find(address(number), now), Some(MAC));
    }
    assert_eq!((neighbours.len(), neighbours.waiting(), neighbours.incomplete), (MAX_NEIGHBOURS, 0, 0));
    (neighbours, now)
}

#[test]
fn strangers_have_no_place_where_all_are_in_use() {
    let (mut neighbours, now) = full();
    neighbours.hear(address(5000), MAC, Sign::AskedUs, now);
    assert_eq!((neighbours.mac_of(address(5000)), neighbours.len()), (None, MAX_NEIGHBOURS));
    // A packet is worth more: who was used longest ago makes room.
    let later = now + Duration::from_millis(100);
    assert_eq!(neighbours.find_out(address(5000), BY, b"?", later), Ok(Unsure::Ask { waits: true }));
    assert_eq!((neighbours.mac_of(address(0)), neighbours.mac_of(address(1))), (None, Some(MAC)));
    // The next one takes the place of that one, not of another that is known.
    assert_eq!(neighbours.find_out(address(5001), BY, b"?", later), Ok(Unsure::Ask { waits: true }));
    assert_eq!((neighbours.mac_of(address(1)), neighbours.len()), (Some(MAC), MAX_NEIGHBOURS));
    assert_eq!((neighbours.take_lost(), neighbours.waiting()), (1, 1));
}

#[test]
fn next_hops_hold_their_places() {
    let (mut neighbours, now) = full();
    let hops: Vec<IpAddr> = (0..MAX_PINNED + 100).map(address).collect();
    neighbours.pin(&hops, now);
    assert_eq!(neighbours.pinned, MAX_PINNED);
    for number in 0..2000 {
        let now = now + Duration::from_millis(number as u64 * 20);
        while neighbours.poll_due(now).is_some() {}
        let _ = neighbours.find_out(address(10_000 + number), by(number), b"?", now);
        if answer(&mut neighbours, 10_000 + number, now) == News::Found {
            neighbours.release(address(10_000 + number), |_| ());
        }
    }
    assert!(hops[..MAX_PINNED].iter().all(|hop| neighbours.slot(*hop).is_some()));
    assert!(neighbours.len() == MAX_NEIGHBOURS && neighbours.mac_of(address(MAX_PINNED + 200)).is_none());
    neighbours.pin(&[], now);
    assert_eq!(neighbours.pinned, 0);
}

#[test]
fn not_more_than_so_many_are_asked_for_in_a_second_and_at_once() {
    let mut neighbours = Neighbours::new(1);
    let asked = |neighbours: &mut Neighbours, from: usize, now| {
        let all = from..from + 1000;
        all.filter(|number| neighbours.find_out(address(*number), by(*number), b"?", now).is_ok()).count()
    };
    let mut counted = vec![asked(&mut neighbours, 0, at(0))];
    assert_eq!(counted[0], QUESTIONS_BURST as usize);
    assert_eq!(neighbours.find_out(address(0), by(0), b"?", at(0)), Ok(Unsure::Waits));
    for round in 1..=25 {
        counted.push(asked(&mut neighbours, 1000 * round, at(round as u64 * 100)));
    }
    let all: usize = counted.iter().sum();
    assert!((250..=MAX_INCOMPLETE).contains(&all), "{counted:?}");
    assert_eq!((neighbours.incomplete, neighbours.waiting()), (all, 64));
}

#[test]
fn a_rumour_ends_with_the_answer_of_the_one_that_was_known_or_of_another() {
    let mut neighbours = Neighbours::new(1);
    let other = Mac([2, 0, 0, 0, 0, 10]);
    let claim = |neighbours: &mut Neighbours, millis| neighbours.hear(address(1), other, Sign::Claim, at(millis));
    neighbours.find_out(address(1), BY, b"", at(0)).unwrap();
    assert_eq!(answer(&mut neighbours, 1, at(1)), News::Found);
    assert_eq!((claim(&mut neighbours, 10), claim(&mut neighbours, 11)), (News::Doubt, News::Nothing));
    assert_eq!(neighbours.hear(address(1), other, Sign::Answer { is_override: true }, at(12)), News::Nothing);
    assert_eq!(answer(&mut neighbours, 1, at(13)), News::Confirmed);
    let contested = Due::Contested { address: address(1), known: MAC, other };
    assert_eq!((neighbours.poll_due(at(500)), neighbours.mac_of(address(1))), (Some(contested), Some(MAC)));
    assert_eq!((claim(&mut neighbours, 900), claim(&mut neighbours, 1100)), (News::Nothing, News::Doubt));
    assert_eq!(neighbours.hear(address(1), other, Sign::Answer { is_override: true }, at(1101)), News::Nothing);
    assert_eq!((neighbours.poll_due(at(1199)), neighbours.find(address(1), at(1199))), (None, Some(MAC)));
    assert_eq!(neighbours.poll_due(at(1200)), Some(Due::Moved { address: address(1) }));
    assert_eq!(neighbours.find(address(1), at(1200)), Some(other));
}

#[test]
fn a_claim_too_soon_after_a_rumour_is_looked_into_when_a_second_is_over() {
    let mut neighbours = Neighbours::new(1);
    let other = Mac([2, 0, 0, 0, 0, 10]);
    let claim = |neighbours: &mut Neighbours, millis| neighbours.hear(address(1), other, Sign::Claim, at(millis));
    neighbours.find_out(address(1), BY, b"", at(0)).unwrap();
    answer(&mut neighbours, 1, at(1));
    assert_eq!(claim(&mut neighbours, 10), News::Doubt);
    answer(&mut neighbours, 1, at(11));
    assert_eq!((neighbours.poll_due(at(200)), claim(&mut neighbours, 300)), (None, News::Nothing));
    assert_eq!(neighbours.poll_due(at(1009)), None);
    assert_eq!(neighbours.poll_due(at(1010)), Some(Due::Ask { target: address(1), mac: None }));
    assert_eq!(neighbours.hear(address(1), other, Sign::Answer { is_override: true }, at(1011)), News::Nothing);
    assert_eq!(neighbours.poll_due(at(1110)), Some(Due::Moved { address: address(1) }));
    assert_eq!((neighbours.poll_due(at(9000)), neighbours.mac_of(address(1))), (None, Some(other)));
}

#[test]
fn nobody_is_put_anywhere_by_what_was_not_asked_for() {
    let mut neighbours = Neighbours::new(1);
    neighbours.pin(&[address(1)], at(0));
    neighbours.find_out(address(2), BY, b"", at(0)).unwrap();
    let said = [Sign::Claim, Sign::AskedUs, Sign::Answer { is_override: true }];
    for sign in said {
        assert_eq!(neighbours.hear(address(1), MAC, sign, at(1)), News::Nothing, "{sign:?}");
    }
    for sign in &said[..2] {
        assert_eq!(neighbours.hear(address(2), MAC, *sign, at(1)), News::Nothing, "{sign:?}");
    }
    assert_eq!((neighbours.mac_of(address(1)), neighbours.mac_of(address(2))), (None, None));
    for millis in [1000, 2000, 3000] {
        while neighbours.poll_due(at(millis)).is_some() {}
    }
    assert_eq!(neighbours.entry(address(2)).unwrap().state, State::Failed);
    // Who did not answer may still ask for us.
    assert_eq!(neighbours.hear(address(2), MAC, Sign::Claim, at(3001)), News::Nothing);
    assert_eq!(neighbours.mac_of(address(2)), None);
    neighbours.hear(address(2), MAC, Sign::AskedUs, at(3001));
    assert_eq!(neighbours.mac_of(address(2)), Some(MAC));
}

#[test]
fn that_two_answer_is_told_once_a_minute_for_each_and_not_without_end() {
    let mut neighbours = Neighbours::new(1);
    let other = Mac([2, 0, 0, 0, 0, 10]);
    for number in 0..200 {
        neighbours.hear(address(number), MAC, Sign::AskedUs, at(10 * number as u64));
    }
    let told = |neighbours: &mut Neighbours, millis: u64| {
        for number in 0..200 {
            neighbours.hear(address(number), other, Sign::Claim, at(millis));
            answer(neighbours, number, at(millis));
            neighbours.hear(address(number), other, Sign::Answer { is_override: true }, at(millis));
        }
        let due = std::iter::from_fn(|| neighbours.poll_due(at(millis + 100)));
        due.filter(|due| matches!(due, Due::Contested { .. })).count()
    };
    assert_eq!(told(&mut neighbours, 10_000), CONTESTS_BURST as usize);
    let later: usize = (1..50).map(|round| told(&mut neighbours, 10_000 + 1100 * round)).sum();
    assert_eq!(later, 49 * 1100 / 1000, "others, one a second");
}

#[test]
fn one_realm_takes_its_share_and_gives_it_back() {
    let mut neighbours = Neighbours::new(1);
    for number in 0..4000 {
        let now = at(number as u64);
        let _ = neighbours.find_out(address(number), BY, b"?", now);
        while neighbours.poll_due(now).is_some() {}
        assert!(neighbours.incomplete <= askers::MAX_INCOMPLETE_PER_ASKER && neighbours.waiting() <= 16);
        if number == 2000 {
            assert_eq!((neighbours.incomplete, neighbours.waiting()), (askers::MAX_INCOMPLETE_PER_ASKER, 16));
        }
    }
    // What is known of a neighbour, and who is asked for by others, are nobody's share.
    assert_eq!(neighbours.find_out(address(9000), RealmId(2), b"?", at(4000)), Ok(Unsure::Ask { waits: true }));
    assert_eq!(neighbours.find_out(address(9000), BY, b"", at(4000)), Ok(Unsure::Waits));
    assert_eq!(answer(&mut neighbours, 9000, at(4001)), News::Found);
    neighbours.release(address(9000), |_| ());
    // Nobody answers, and then all of the share is there again.
    (5000..9000).step_by(100).for_each(|millis| while neighbours.poll_due(at(millis)).is_some() {});
    assert_eq!((neighbours.incomplete, neighbours.waiting()), (0, 0));
    let found = (0..16).filter(|number| neighbours.find_out(address(20_000 + number), BY, b"", at(9000)).is_ok());
    assert_eq!(found.count(), 16);
    neighbours.clear(at(9001));
    assert_eq!(neighbours.incomplete, 0);
}

#[test]
fn next_hops_are_in_nobodys_share() {
    let mut neighbours = Neighbours::new(1);
    let hops: Vec<IpAddr> = (0..100).map(address).collect();
    neighbours.pin(&hops, at(0));
    for hop in &hops {
        assert_eq!(neighbours.find_out(*hop, BY, b"", at(0)), Ok(Unsure::Ask { waits: true }));
    }
    assert_eq!(neighbours.find_out(address(500), BY, b"", at(0)), Ok(Unsure::Ask { waits: true }));
}
