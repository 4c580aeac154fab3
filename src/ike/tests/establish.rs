//! IKE_SA_INIT and IKE_AUTH in both roles, and what can be wrong with them.

use super::world::*;
use crate::ike::{Cause, Event, Profile, RemoteAuth, Role, Stage};
use crate::net::Port;

#[test]
fn a_tunnel_comes_up_with_a_preshared_key() {
    let mut world = World::pair(1);
    world.run_for(5);
    assert!(world.is_up(), "{}", world.dump());
    for (host, role) in [(A, Role::Initiator), (B, Role::Responder)] {
        let status = world.hosts[host].endpoint.status(TUNNEL).unwrap();
        assert_eq!((status.stage, status.role, status.ike_sas), (Stage::Established, Some(role), 1));
        assert_eq!(status.children.len(), 1);
        assert_eq!(status.children[0].theirs, [selector(&format!("10.{}.0.0/16", 1 - host))]);
        assert!(matches!(world.hosts[host].events[0], Event::Up { .. }), "before any Child SA");
        assert_eq!(world.failures(host), []);
    }
    let (a, b) = (world.hosts[A].esp.sealing().unwrap(), world.hosts[B].esp.sealing().unwrap());
    assert_eq!((a.spi_in, a.spi_out, a.suite, a.esn), (b.spi_out, b.spi_in, b.suite, b.esn));
    assert_eq!(
        (a.keys.cipher_in.clone(), a.keys.cipher_out.clone()),
        (b.keys.cipher_out.clone(), b.keys.cipher_in.clone())
    );
    assert_eq!((a.path.port, a.path.remote.port()), (Port::IkeNatT, 4500), "in UDP by default");
}

#[test]
fn each_profile_comes_up_with_itself() {
    for profile in Profile::ALL {
        let mut world = World::pair_with(2, |a| a.profile = profile, |b| b.profile = profile);
        world.run_for(5);
        assert!(world.is_up(), "{profile}\n{}", world.dump());
    }
}

#[test]
fn a_wrong_key_is_told_to_the_operator_and_not_to_the_peer() {
    let mut world = World::pair_with(3, |_| {}, |b| b.remote_auth = RemoteAuth::Psk(psk("another")));
    world.run_for(5);
    assert!(!world.is_up());
    assert!(world.failures(B).iter().any(|failure| failure.cause.name() == "wrong_psk"), "{}", world.dump());
    assert!(world.failures(A).iter().any(|failure| failure.cause == Cause::RefusedByPeer));
    assert_eq!(world.hosts[B].esp.live(), 0);
}

#[test]
fn an_initiator_refuses_a_responder_with_the_wrong_key_or_name() {
    let mut world = World::pair_with(4, |a| a.remote_auth = RemoteAuth::Psk(psk("another")), |_| {});
    world.check_gaps = false; // B believes for a moment that it is up
    world.run_for(3);
    assert!(world.failures(A).iter().any(|failure| failure.cause.name() == "wrong_psk"), "{}", world.dump());
    assert_eq!((world.hosts[A].esp.live(), world.hosts[B].esp.live()), (0, 0), "{}", world.dump());
}

#[test]
fn an_identity_that_nobody_knows_is_told_among_strangers() {
    let mut world = World::pair_with(5, |a| a.local_id = fqdn("somebody.example"), |_| {});
    world.run_for(3);
    assert!(!world.is_up());
    let strangers = world.hosts[B].endpoint.strangers();
    assert!(strangers.iter().any(|kept| kept.failure.cause.name() == "unknown_identity"), "{}", world.dump());
}

#[test]
fn profiles_without_anything_in_common_are_told_per_transform() {
    let mut world = World::pair_with(6, |a| a.profile = Profile::Modern, |b| b.profile = Profile::Pq);
    world.run_for(3);
    assert!(!world.is_up());
    assert!(world.failures(B).iter().any(|failure| failure.cause.name() == "no_proposal"), "{}", world.dump());
    assert!(world.failures(A).iter().any(|failure| failure.cause.name() == "our_proposal_refused"));
}

#[test]
fn selectors_without_anything_in_common_leave_an_ike_sa_without_child() {
    let mut world = World::pair_with(7, |a| a.ours = vec![selector("172.16.0.0/12")], |_| {});
    world.run_for(3);
    assert!(!world.is_up());
    assert!(world.failures(B).iter().any(|failure| failure.cause.name() == "selectors"), "{}", world.dump());
    assert!(world.failures(A).iter().any(|failure| failure.cause.name() == "our_selectors_refused"));
    assert_eq!(world.hosts[A].endpoint.status(TUNNEL).unwrap().stage, Stage::Established);
}
