//! A tunnel comes up, whoever calls and however they prove themselves, and carries packets both ways.

use ixgate::ike::{Ppk, Profile, Role, SelectorMode};
use ixgate::net::Selector;
use zeroize::Zeroizing;

use super::scene::*;

/// Up within a second, traffic both ways, one of everything.
fn comes_up(world: &mut World) {
    up_then_flowing(world, millis(10));
    world.run_for(secs(15));
    assert_no_gap(world);
    world.assert_tidy(&[ENDS], 1);
    assert_eq!((world.sites[A].failures, world.sites[B].failures), (0, 0), "{}", world.dump());
    assert!(world.ledger.sealed > 2900, "{}", world.dump());
}

#[test]
fn either_side_calls_with_each_profile() {
    for profile in Profile::ALL {
        for caller in [A, B] {
            let set = |me: usize| {
                move |config: &mut ixgate::ike::PeerConfig| {
                    config.profile = profile;
                    config.initiate = me == caller;
                }
            };
            let mut world = pair_with(1, set(A), set(B));
            comes_up(&mut world);
            let role = world.sites[caller].gateway.ike.status(TUNNEL).unwrap().role;
            assert_eq!(role, Some(Role::Initiator), "{profile}");
            let intermediate = world.exchanges.get(&43).copied().unwrap_or_default();
            assert_eq!(intermediate > 0, profile == Profile::Pq, "{profile}: {:?}", world.exchanges);
        }
    }
}

#[test]
fn pq_agrees_on_ml_kem() {
    let mut world = pair_with(2, |a| a.profile = Profile::Pq, |b| b.profile = Profile::Pq);
    comes_up(&mut world);
    let proposal = world.sites[B].gateway.ike.status(TUNNEL).unwrap().proposal;
    assert!(proposal.contains("mlkem768"), "{proposal}");
}

#[test]
fn certificates_of_every_kind() {
    for kind in ["p256", "p384", "ed25519", "rsa"] {
        for profile in Profile::ALL {
            let mut world = pair_by_certificate(3, kind, |config| config.profile = profile);
            comes_up(&mut world);
        }
    }
}

fn ppk(required: bool) -> Option<Ppk> {
    Some(Ppk { id: b"ppk-7".to_vec(), secret: Zeroizing::new(vec![0x5a; 32]), required })
}

#[test]
fn a_ppk_on_both_sides_or_an_optional_one_on_one_side() {
    let cases = [(ppk(true), ppk(true)), (ppk(false), ppk(false)), (ppk(false), None), (None, ppk(false))];
    for (of_a, of_b) in cases {
        for profile in [Profile::Modern, Profile::Pq] {
            let (of_a, of_b) = (of_a.clone(), of_b.clone());
            let mut world =
                pair_with(4, |a| (a.ppk, a.profile) = (of_a, profile), |b| (b.ppk, b.profile) = (of_b, profile));
            comes_up(&mut world);
        }
    }
}

#[test]
fn a_required_ppk_that_the_other_side_lacks_is_the_end_of_it() {
    for (of_a, of_b) in [(ppk(true), None), (None, ppk(true))] {
        let mut world = pair_with(5, |a| a.ppk = of_a, |b| b.ppk = of_b);
        world.run_for(secs(20));
        assert!(world.sites[A].failures > 0, "{}", world.dump());
        assert!(!world.sites[A].gateway.esp.is_up(TUNNEL), "{}", world.dump());
        world.configure(A, vec![]);
        world.run_for(secs(200));
        assert!(!world.sites[B].gateway.esp.is_up(TUNNEL), "{}", world.dump());
        assert_eq!(world.sites[B].gateway.ike.sa_counts(), (0, 0), "{}", world.dump());
    }
}

#[test]
fn both_sides_call_at_once() {
    for seed in 0..20 {
        let mut world = pair_with(seed, |_| {}, |b| b.initiate = true);
        up_then_flowing(&mut world, millis(10));
        world.run_for(secs(60));
        assert_no_gap(&world);
        let status = world.sites[A].gateway.ike.status(TUNNEL).unwrap();
        assert!(status.ike_sas <= 2, "{}", world.dump());
    }
}

/// Two IKE SAs that crossed when both called: whichever goes, no packet is lost, and in the end there is one.
#[test]
fn what_crossed_when_both_called_becomes_one_and_loses_nothing() {
    for offset in [-15, -10, -5, 0, 5, 10, 15i64] {
        let ike = |side: i64| secs(30) + millis((100 + side * offset) as u64);
        let mut world = pair_with(
            7,
            |a| a.lifetimes = lifetimes(ike(0), secs(20)),
            |b| (b.lifetimes, b.initiate) = (lifetimes(ike(1), secs(20)), true),
        );
        world.set_jitter(false);
        up_then_flowing(&mut world, millis(10));
        world.run_for(secs(25));
        world.set_jitter(true);
        world.run_for(secs(100));
        assert_no_gap(&world);
        settle(&mut world);
        assert_no_gap(&world);
        world.assert_tidy(&[ENDS], 1);
    }
}

#[test]
fn several_selector_pairs_become_several_child_sas() {
    let nets = |nets: [&str; 2]| nets.map(|net| Selector::from_net(net.parse().unwrap())).to_vec();
    let (of_a, of_b) = (nets(["10.0.0.0/16", "10.2.0.0/16"]), nets(["10.1.0.0/16", "10.3.0.0/16"]));
    let mut world = pair_with(
        6,
        |a| (a.ours, a.theirs, a.selector_mode) = (of_a.clone(), of_b.clone(), SelectorMode::Pairs),
        |b| (b.ours, b.theirs) = (of_b.clone(), of_a.clone()),
    );
    world.run_for(secs(1));
    for (ours, theirs) in [("10.0.0.1", "10.1.0.1"), ("10.2.0.1", "10.3.0.1"), ("10.0.0.1", "10.3.0.1")] {
        world.flow_both_ways(ENDS[0], ENDS[1], [ip(ours), ip(theirs)], millis(20));
    }
    world.run_for(secs(15));
    (0..6).for_each(|flow| world.assert_no_gap(flow, 0));
    world.assert_tidy(&[ENDS], 4);
}
