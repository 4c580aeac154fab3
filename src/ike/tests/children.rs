//! Child SAs that are made and closed at the same time: none may be left of which only one side knows.

use std::time::Duration;

use super::world::*;
use crate::ike::SelectorMode;
use crate::wire::ike::ExchangeType;

/// By SPIs, as `host` numbers them.
fn children(world: &World, host: usize) -> Vec<(u32, u32)> {
    let status = world.hosts[host].endpoint.status(TUNNEL).unwrap();
    status.children.iter().map(|child| (child.spi_in, child.spi_out)).collect()
}

/// Both know the same `count` Child SAs, and no other SPI is taken.
fn assert_agreed(world: &World, count: usize) {
    let (mut a, mut b) = (children(world, A), children(world, B));
    b.iter_mut().for_each(|(spi_in, spi_out)| std::mem::swap(spi_in, spi_out));
    a.sort_unstable();
    b.sort_unstable();
    assert_eq!((a.len(), &a), (count, &b), "{}", world.dump());
    for host in [A, B] {
        assert_eq!(world.hosts[host].endpoint.child_spi_count(), count, "{}", world.dump());
    }
}

fn expire(world: &mut World, host: usize) {
    let (spi, _) = children(world, host)[0];
    let now = world.now;
    world.hosts[host].endpoint.expire_child(TUNNEL, spi, now);
}

#[test]
fn of_two_child_sas_that_both_made_at_once_neither_side_closes_the_others() {
    for seed in 0..10 {
        let mut world = World::pair(seed);
        world.run_for(2);
        world.check_gaps = false;
        expire(&mut world, A);
        expire(&mut world, B);
        world.run_for(1);
        assert_agreed(&world, 2);
        world.run_for(300);
        assert_agreed(&world, 1);
        assert_eq!((world.child_ups(A), world.child_ups(B)), (3, 3), "one of the two stayed {}", world.dump());
    }
}

#[test]
fn a_child_sa_whose_deletion_overtakes_its_answer_is_not_kept() {
    for closes_at_millis in [30, 400, 700] {
        let mut world = World::pair(3);
        world.run_for(2);
        world.check_gaps = false;
        let (spi, _) = children(&world, A)[0];
        let now = world.now;
        world.hosts[A].endpoint.rekey_child(TUNNEL, spi, now);
        let mut lost = false;
        world.filter = Box::new(move |packet| {
            let first_answer = !lost && packet.is_response() && packet.exchange() == ExchangeType::CREATE_CHILD_SA.0;
            lost |= first_answer;
            !first_answer
        });
        world.run_until(now + Duration::from_millis(closes_at_millis));
        assert_eq!((world.child_ups(A), world.child_ups(B)), (1, 2), "the answer is lost {}", world.dump());
        expire(&mut world, B);
        world.run_for(20);
        assert_agreed(&world, 1);
        assert!(world.is_up(), "{}", world.dump());
        assert!(world.downs(A).is_empty() && world.downs(B).is_empty(), "{}", world.dump());
    }
}

/// Each second a packet waits that no Child SA carries, because the peer has taken less of a pair than all.
#[test]
fn a_pair_of_which_the_peer_takes_only_a_part_is_asked_for_once() {
    for (peer_begins, refuses_other) in [(false, false), (true, false), (false, true)] {
        let mut world = World::pair_with(
            1,
            |a| {
                (a.selector_mode, a.initiate) = (SelectorMode::Pairs, !peer_begins);
                a.theirs.extend(refuses_other.then(|| selector("172.17.0.0/16")));
            },
            |b| (b.ours, b.initiate) = (vec![selector("10.1.0.0/24")], peer_begins),
        );
        world.check_gaps = false;
        world.run_for(2);
        let mut most = 0;
        for _ in 0..400 {
            let now = world.now;
            world.hosts[A].endpoint.want(TUNNEL, now);
            world.run_for(1);
            most = most.max(children(&world, A).len());
        }
        assert!(most <= 2 && world.child_ups(A) <= 2, "{most} {}", world.dump());
        assert_agreed(&world, 1);
    }
}

/// What a peer closes again and again is not asked for again at once.
#[test]
fn a_packet_that_waits_asks_for_child_sas_twice_a_minute_at_most() {
    let two = vec![selector("10.0.0.0/16"), selector("10.9.0.0/16")];
    let mut world = World::pair_with(
        1,
        |a| (a.selector_mode, a.ours) = (SelectorMode::Pairs, two.clone()),
        |b| b.theirs = two.clone(),
    );
    world.check_gaps = false;
    world.run_for(2);
    let before = world.child_ups(A);
    assert_eq!(before, 2, "{}", world.dump());
    for _ in 0..200 {
        let now = world.now;
        world.hosts[A].endpoint.want(TUNNEL, now);
        world.run_for(1);
        let spi = world.hosts[A].endpoint.peers.newest(TUNNEL).unwrap();
        world.hosts[A].endpoint.wake(spi, |sa, _| sa.children.retain(|child| child.selectors.ours[0] == two[0]));
    }
    let made = world.child_ups(A) - before;
    assert!((5..=8).contains(&made), "{made} {}", world.dump());
}
