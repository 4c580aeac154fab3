//! Exchanges that cross, RFC 7296 sections 2.8.1, 2.8.2 and 2.25: each pair of them, from one a little earlier to the other a
//! little earlier, without losses and with the loss of each of the messages that follow.

use std::time::Duration;

use ixgate::net::Timestamp;

use super::scene::*;

/// By how much the second is later, in milliseconds; the way from one to the other takes 10.
const OFFSETS: [i64; 9] = [-25, -15, -10, -5, 0, 5, 10, 15, 25];
/// Of how many messages after the collision each is lost.
const LOST: u64 = 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    RekeyChild,
    RekeyIke,
    /// Closes the Child SA, and makes another one.
    DeleteChild,
    /// Closes the IKE SA; the tunnel is then configured anew.
    DeleteIke,
}

impl Deed {
    /// Traffic stops for a moment.
    fn interrupts(self) -> bool {
        matches!(self, Deed::DeleteChild | Deed::DeleteIke)
    }
}

/// When the collision is.
const AT: Duration = Duration::from_secs(5);

/// One deed of each side at about the same time. `lost`: of the messages from then on.
fn collide(a: Deed, b: Deed, offset: i64, lost: Option<u64>) -> World {
    let when = |side: i64| AT + millis((100 + side * offset) as u64);
    let ike = |deed: Deed, side: i64| if deed == Deed::RekeyIke { when(side) } else { secs(LONG) };
    // A Child SA, too, is rekeyed by its timer.
    let child = |deed: Deed, side: i64| if deed == Deed::RekeyChild { when(side) } else { secs(LONG) };
    let mut world = aging(21, (ike(a, 0), child(a, 0)), (ike(b, 1), child(b, 1)));
    world.set_jitter(false);
    // B is up one way earlier than A.
    world.run_for(millis(4600));
    world.flow_both_ways(ENDS[0], ENDS[1], hosts(), millis(4));
    let start = world.sites[A].gateway.ike.status(TUNNEL).unwrap().established_at.unwrap();
    world.set_jitter(true);
    let before = world.ike_sent();
    if let Some(lost) = lost {
        world.filter = Box::new(move |m| if m.number == before + lost { Fate::Lost } else { Fate::Arrives });
    }
    let mut deeds = [(start + when(0), A, a), (start + when(1), B, b)];
    deeds.sort_by_key(|(at, ..)| *at);
    for (at, site, deed) in deeds {
        if deed.interrupts() {
            world.run_until(at);
            perform(&mut world, site, deed);
        }
    }
    world.run_until(start + AT + millis(600));
    forget_timers(&mut world);
    world.set_pace(millis(40));
    world.run_for(secs(12));
    world
}

fn perform(world: &mut World, site: usize, deed: Deed) {
    let now: Timestamp = world.now;
    match deed {
        Deed::DeleteChild => {
            let Some(&spi) = world.children(site, TUNNEL).first() else { return }; // gone already
            world.with_gateway(site, |gateway, _| gateway.ike.expire_child(TUNNEL, spi, now));
        }
        Deed::DeleteIke => {
            let peers: Vec<_> = world.sites[site].peers.iter().map(|peer| (**peer).clone()).collect();
            world.configure(site, vec![]);
            world.configure(site, peers);
        }
        Deed::RekeyChild | Deed::RekeyIke => {}
    }
}

/// The new SAs are made for long.
fn forget_timers(world: &mut World) {
    for site in [A, B] {
        let mut peers: Vec<_> = world.sites[site].peers.iter().map(|peer| (**peer).clone()).collect();
        peers.iter_mut().for_each(|peer| peer.lifetimes = lifetimes(secs(LONG), secs(LONG)));
        world.configure(site, peers);
    }
}

fn ends_well(a: Deed, b: Deed, offset: i64, lost: Option<u64>) {
    println!("{a:?} at A, {b:?} at B {offset} ms later, lost: {lost:?}");
    let mut world = collide(a, b, offset, lost);
    let interrupted = a.interrupts() || b.interrupts();
    if !interrupted {
        assert_no_gap(&world);
        assert_eq!((world.sites[A].downs, world.sites[B].downs), (0, 0), "{}", world.dump());
    }
    settle(&mut world);
    assert!(world.all_flow(), "{}", world.dump());
    if !interrupted {
        assert_no_gap(&world);
    }
    world.assert_tidy(&[ENDS], 1);
}

fn each_way(a: Deed, b: Deed) {
    for offset in OFFSETS {
        ends_well(a, b, offset, None);
        if a != b {
            ends_well(b, a, offset, None);
        }
    }
    for lost in 0..LOST {
        for offset in [-5, 0, 5] {
            ends_well(a, b, offset, Some(lost));
            if a != b {
                ends_well(b, a, offset, Some(lost));
            }
        }
    }
}

#[test]
fn both_rekey_the_child_sa() {
    each_way(Deed::RekeyChild, Deed::RekeyChild);
}

#[test]
fn both_rekey_the_ike_sa() {
    each_way(Deed::RekeyIke, Deed::RekeyIke);
}

#[test]
fn one_rekeys_the_child_sa_that_the_other_closes() {
    each_way(Deed::RekeyChild, Deed::DeleteChild);
}

#[test]
fn one_rekeys_the_ike_sa_and_the_other_the_child_sa() {
    each_way(Deed::RekeyIke, Deed::RekeyChild);
}

#[test]
fn one_rekeys_the_ike_sa_and_the_other_closes_the_child_sa() {
    each_way(Deed::RekeyIke, Deed::DeleteChild);
}

#[test]
fn both_close_the_child_sa_and_make_another_one() {
    each_way(Deed::DeleteChild, Deed::DeleteChild);
}

#[test]
fn one_rekeys_the_ike_sa_that_the_other_closes() {
    each_way(Deed::RekeyIke, Deed::DeleteIke);
}

#[test]
fn one_rekeys_the_child_sa_of_an_ike_sa_that_the_other_closes() {
    each_way(Deed::RekeyChild, Deed::DeleteIke);
}

#[test]
fn both_close_the_ike_sa() {
    each_way(Deed::DeleteIke, Deed::DeleteIke);
}

#[test]
fn one_closes_the_child_sa_of_an_ike_sa_that_the_other_closes() {
    each_way(Deed::DeleteChild, Deed::DeleteIke);
}

/// Both rekey everything, at the same moments, again and again, under all the random losses there are.
#[test]
fn both_rekey_everything_all_the_time() {
    for seed in 0..20 {
        let (ike, child) = (secs(7), secs(3));
        let mut world = aging(seed, (ike, child), (ike, child));
        up_then_flowing(&mut world, millis(20));
        world.run_for(secs(60));
        assert_no_gap(&world);
        settle(&mut world);
        world.assert_tidy(&[ENDS], 1);
    }
}
