//! What belongs to the life of an IKE SA as a whole: how it begins, where its peer is, what is said last.

use std::time::Duration;

use super::*;
use crate::ike::nat::{self, Nat};
use crate::net::Path;

#[test]
fn with_mobike_no_ike_message_moves_the_peer_that_does_not_say_so_and_hashes_are_answered_in_any() {
    for mobike in [false, true] {
        let mut world = up();
        let b = sa(&mut world, B);
        b.abilities.mobike = mobike;
        b.nat = Nat { supported: true, here: false, there: true };
        let (spis, before) = (b.spis(), b.path);
        let hashes = nat::notifies(spis, &before, None, [0; 20]);
        let mut request = sealed(&mut world, A, ExchangeType::INFORMATIONAL, &hashes);
        request.from = "203.0.113.9:4500".parse().unwrap();
        let answers = messages(&world.hand_over(B, &request));
        let answer = opened(&mut world, A, &answers[0]);
        let path = sa(&mut world, B).path;
        let elsewhere = Path { remote: request.from, ..before };
        assert_eq!(path, if mobike { before } else { elsewhere }, "the mapping of a NAT is followed without MOBIKE");
        let seen = Payload::Notify(Notify::new(kinds::NAT_DETECTION_DESTINATION_IP, nat::hash(spis, request.from)));
        assert_eq!(answer.contains(&seen), mobike, "{answer:?}");
        let by_esp = Path { remote: "203.0.113.7:4500".parse().unwrap(), ..before };
        world.hosts[B].endpoint.note_moved(TUNNEL, by_esp);
        assert_eq!(sa(&mut world, B).path, by_esp, "ESP is followed either way");
    }
}

#[test]
fn initial_contact_is_said_in_the_first_ike_auth_and_nowhere_else() {
    let mut world = World::pair(1);
    let sent = record(&mut world);
    world.run_for(100);
    let sent = std::mem::take(&mut *sent.lock().unwrap());
    let mut said = Vec::new();
    for packet in sent.iter().filter(|packet| packet.exchange() != 34) {
        let host = if packet.from.ip() == ip(A) { B } else { A };
        if notes(&opened(&mut world, host, packet.message())).contains(&kinds::INITIAL_CONTACT) {
            said.push((packet.exchange(), packet.is_response(), host));
        }
    }
    assert!(sent.len() > 6);
    assert_eq!(said, [(35, false, B)]);
}

#[test]
fn the_last_request_on_a_replaced_ike_sa_is_its_deletion() {
    let lifetimes =
        crate::ike::Lifetimes { ike: Duration::from_secs(30), child: Duration::from_secs(13), ..Default::default() };
    let mut world = World::pair_with(2, |a| a.lifetimes = lifetimes, |_| {});
    let sent = record(&mut world);
    world.run_for(100);
    let sent = sent.lock().unwrap();
    let requests: Vec<&Packet> = sent.iter().filter(|one| !one.is_response() && one.from.ip() == ip(A)).collect();
    let mut spis: Vec<&[u8]> = requests.iter().map(|one| &one.message()[..8]).collect();
    spis.dedup();
    assert!(spis.len() >= 4, "{}", spis.len());
    for (n, spi) in spis.iter().enumerate() {
        assert!(!spis[..n].contains(spi), "nothing more is asked on the old one once the new one is spoken on");
        let of_spi: Vec<u8> =
            requests.iter().filter(|one| one.message()[..8] == **spi).map(|one| one.exchange()).collect();
        assert!(n + 1 == spis.len() || of_spi.ends_with(&[36, 37]), "{of_spi:?}");
    }
}
