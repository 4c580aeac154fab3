//! What a peer can ask that has the keys: one question each, and what it is answered.

use super::*;
use crate::ike::{Event, Limits, proposal};
use crate::net::Timestamp;
use crate::wire::ike::{Delete, Protocol, Transform, transform_kind};

const SPI: u32 = 0x0a0b_0c0d;

/// CREATE_CHILD_SA for another Child SA, as A would ask for it.
fn child_request(world: &mut World) -> Vec<Payload> {
    let profile = sa(world, A).profile();
    let share = proposal::ike_groups(profile)[0].begin().unwrap();
    vec![
        Payload::SecurityAssociation(proposal::esp_proposals(profile, SPI, true)),
        Payload::Nonce(vec![7; 32]),
        Payload::KeyExchange { group: share.group().id(), data: share.public().to_vec() },
        Payload::SelectorsInitiator(vec![selector("10.0.0.0/16")]),
        Payload::SelectorsResponder(vec![selector("10.1.0.0/16")]),
    ]
}

fn delete(spis: &[u32]) -> Payload {
    Payload::Delete(Delete {
        protocol: Protocol::Esp,
        spis: spis.iter().map(|spi| spi.to_be_bytes().to_vec()).collect(),
    })
}

fn rekey_of(spi: u32) -> Payload {
    let spi = spi.to_be_bytes().to_vec();
    Payload::Notify(Notify { protocol: Protocol::Esp.byte(), spi, kind: kinds::REKEY_SA, data: vec![] })
}

/// B begins something, and nobody hears of it.
fn begin_in_vain(world: &mut World, task: Task) {
    begin(world, B, task);
}

#[test]
fn every_request_has_an_answer_even_an_empty_or_an_unknown_one() {
    let mut world = up();
    let odd = [
        Payload::Unknown { kind: 200, critical: false, body: vec![1] },
        note(40_001, b"unknown status"),
        note(9000, b"an error, but in a request"),
        Payload::VendorId(vec![1, 2, 3]),
        Payload::Configuration { kind: 1, attributes: vec![(1, vec![])] },
    ];
    assert_eq!(ask(&mut world, A, ExchangeType::INFORMATIONAL, &[]), []);
    assert_eq!(ask(&mut world, A, ExchangeType::INFORMATIONAL, &odd), []);
    assert!(world.is_up());
}

#[test]
fn a_critical_payload_that_we_do_not_know_refuses_the_message_and_not_the_sa() {
    let mut world = up();
    let child = child_request(&mut world);
    let critical = Payload::Unknown { kind: 201, critical: true, body: vec![] };
    let request = [child, vec![critical]].concat();
    let answer = ask(&mut world, A, ExchangeType::CREATE_CHILD_SA, &request);
    assert_eq!(answer, [note(kinds::UNSUPPORTED_CRITICAL_PAYLOAD, &[201])]);
    assert_eq!(ask(&mut world, A, ExchangeType::INFORMATIONAL, &[]), [], "it goes on");
    assert_eq!(world.hosts[B].esp.live(), 1, "nothing of the message was done");
}

#[test]
fn a_malformed_request_under_our_keys_is_the_end_of_the_sa() {
    let mut world = up();
    let inside = Inside { first: 41, bytes: vec![0, 0, 0, 99, 1] };
    let request = sealed_bytes(&mut world, A, ExchangeType::INFORMATIONAL, &inside);
    let answers = messages(&world.hand_over(B, &request));
    let answer = opened(&mut world, A, &answers[0]);
    assert_eq!(refused(&answer), kinds::INVALID_SYNTAX);
    assert_eq!(world.hosts[B].endpoint.sa_counts(), (0, 0));
}

#[test]
fn another_child_sa_is_made_whatever_the_order_of_its_payloads() {
    let mut world = up();
    world.check_gaps = false;
    let mut request = child_request(&mut world);
    request.reverse();
    let answer = ask(&mut world, A, ExchangeType::CREATE_CHILD_SA, &request);
    assert_eq!(answer.len(), 5, "SA, Nr, KEr, TSi, TSr: {answer:?}");
    assert_eq!(world.hosts[B].endpoint.child_spi_count(), 2);
}

#[test]
fn transport_mode_compression_and_what_else_we_do_not_do_is_not_agreed_to() {
    let mut world = up();
    let mut request = child_request(&mut world);
    request.extend([
        note(kinds::USE_TRANSPORT_MODE, &[]),
        note(kinds::IPCOMP_SUPPORTED, &[0, 1, 2]),
        note(kinds::NON_FIRST_FRAGMENTS_ALSO, &[]),
        note(kinds::ESP_TFC_PADDING_NOT_SUPPORTED, &[]),
    ]);
    let answer = ask(&mut world, A, ExchangeType::CREATE_CHILD_SA, &request);
    assert_eq!((answer.len(), notes(&answer)), (5, vec![]), "tunnel mode, without compression");
}

#[test]
fn narrowing_keeps_the_packet_that_the_initiator_asks_for() {
    let mut world = up();
    let mut request = child_request(&mut world);
    request.truncate(3);
    request.push(Payload::SelectorsInitiator(vec![selector("10.0.3.4/32"), selector("10.0.0.0/8")]));
    request.push(Payload::SelectorsResponder(vec![selector("10.1.5.6/32"), selector("10.0.0.0/8")]));
    let answer = ask(&mut world, A, ExchangeType::CREATE_CHILD_SA, &request);
    for (payload, wanted, most) in
        [(&answer[3], "10.0.3.4/32", "10.0.0.0/16"), (&answer[4], "10.1.5.6/32", "10.1.0.0/16")]
    {
        let (Payload::SelectorsInitiator(chosen) | Payload::SelectorsResponder(chosen)) = payload else {
            panic!("{payload:?}")
        };
        assert!(chosen.iter().any(|one| one.contains(&selector(wanted))), "{chosen:?}");
        assert!(chosen.iter().all(|one| selector(most).contains(one)), "{chosen:?}");
    }
}

#[test]
fn selectors_out_of_our_policy_refuse_the_child_sa_and_not_the_ike_sa() {
    let mut world = up();
    let mut request = child_request(&mut world);
    request[4] = Payload::SelectorsResponder(vec![selector("172.16.0.0/12")]);
    let answer = ask(&mut world, A, ExchangeType::CREATE_CHILD_SA, &request);
    assert_eq!(refused(&answer), kinds::TS_UNACCEPTABLE);
    assert_eq!(ask(&mut world, A, ExchangeType::INFORMATIONAL, &[]), []);
}

#[test]
fn no_room_for_another_child_sa_concerns_nothing_else() {
    let mut world = World::new(2);
    world.add(2, Limits::default(), vec![crate::ike::PeerConfig { initiate: true, ..peer(A, B) }]);
    world.add(3, Limits { children_per_sa: 1, ..Limits::default() }, vec![peer(B, A)]);
    world.run_for(5);
    let request = child_request(&mut world);
    let answer = ask(&mut world, A, ExchangeType::CREATE_CHILD_SA, &request);
    assert_eq!(refused(&answer), kinds::NO_ADDITIONAL_SAS);
    assert!(world.is_up());
}

/// Whoever is at the limit can still renew what he has; and who never deletes what he replaced comes to an end, too.
#[test]
fn at_the_limit_child_sas_are_rekeyed_and_no_more_than_one_for_each() {
    let mut world = World::new(2);
    world.add(2, Limits::default(), vec![crate::ike::PeerConfig { initiate: true, ..peer(A, B) }]);
    world.add(3, Limits { children_per_sa: 3, ..Limits::default() }, vec![peer(B, A)]);
    world.run_for(5);
    world.check_gaps = false;
    let mut newest = sa(&mut world, A).children[0].spi_in;
    let mut answers = Vec::new();
    for spi in SPI..SPI + 6 {
        let mut request = child_request(&mut world);
        let profile = sa(&mut world, A).profile();
        request[0] = Payload::SecurityAssociation(proposal::esp_proposals(profile, spi, true));
        request.insert(0, rekey_of(newest));
        answers.push(ask(&mut world, A, ExchangeType::CREATE_CHILD_SA, &request));
        newest = if answers.last().unwrap().len() == 5 { spi } else { newest };
    }
    assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [5, 5, 5, 5, 5, 1], "twice the limit, with the first");
    assert_eq!(refused(&answers[5]), kinds::NO_ADDITIONAL_SAS);
    assert_eq!(world.hosts[B].endpoint.child_spi_count(), 6);
}

#[test]
fn pfs_with_another_group_is_asked_for_ours() {
    let mut world = up();
    let mut request = child_request(&mut world);
    request[2] = Payload::KeyExchange { group: 14, data: vec![2; 256] };
    let answer = ask(&mut world, A, ExchangeType::CREATE_CHILD_SA, &request);
    assert_eq!(refused(&answer), kinds::INVALID_KE_PAYLOAD);
}

#[test]
fn an_ike_sa_is_not_rekeyed_without_a_key_exchange() {
    let mut world = up();
    let profile = sa(&mut world, A).profile();
    let request =
        [Payload::SecurityAssociation(proposal::ike_rekey_proposals(profile, 0x1234)), Payload::Nonce(vec![7; 32])];
    let answer = ask(&mut world, A, ExchangeType::CREATE_CHILD_SA, &request);
    assert_eq!(refused(&answer), kinds::INVALID_SYNTAX);
}

#[test]
fn a_key_exchange_that_no_proposal_asks_for_is_ignored() {
    let mut world = up();
    let mut request = child_request(&mut world);
    let Payload::SecurityAssociation(proposals) = &mut request[0] else { panic!() };
    for proposal in proposals {
        proposal.transforms.retain(|one| one.kind != transform_kind::KEY_EXCHANGE);
        proposal.transforms.push(Transform::new(transform_kind::KEY_EXCHANGE, 0)); // NONE
    }
    let answer = ask(&mut world, A, ExchangeType::CREATE_CHILD_SA, &request);
    assert_eq!(answer.len(), 4, "SA, Nr, TSi, TSr: {answer:?}");
    assert!(!answer.iter().any(|payload| matches!(payload, Payload::KeyExchange { .. })));
}

#[test]
fn rekeying_what_is_not_there_is_told_with_its_spi() {
    let mut world = up();
    let request = [vec![rekey_of(SPI)], child_request(&mut world)].concat();
    let answer = ask(&mut world, A, ExchangeType::CREATE_CHILD_SA, &request);
    let [Payload::Notify(gone)] = &answer[..] else { panic!("{answer:?}") };
    assert_eq!((gone.kind, gone.protocol), (kinds::CHILD_SA_NOT_FOUND, 3));
    assert_eq!(gone.spi, SPI.to_be_bytes());
}

#[test]
fn while_an_ike_sa_is_rekeyed_child_sas_wait() {
    let mut world = up();
    begin_in_vain(&mut world, Task::RekeyIke);
    let request = child_request(&mut world);
    let answer = ask(&mut world, A, ExchangeType::CREATE_CHILD_SA, &request);
    assert_eq!(refused(&answer), kinds::TEMPORARY_FAILURE);
}

#[test]
fn nothing_is_made_on_an_ike_sa_that_was_replaced() {
    let mut world = up();
    let rekey = begin(&mut world, A, Task::RekeyIke);
    assert_eq!(messages(&world.hand_over(B, &rekey)).len(), 1, "and A has not got it yet");
    for again in [false, true] {
        let profile = sa(&mut world, A).profile();
        let mut request = child_request(&mut world);
        if again {
            request[0] = Payload::SecurityAssociation(proposal::ike_rekey_proposals(profile, 0x1234));
        }
        sa(&mut world, A).outgoing.finish();
        let answer = ask(&mut world, A, ExchangeType::CREATE_CHILD_SA, &request);
        assert_eq!(refused(&answer), kinds::TEMPORARY_FAILURE);
    }
}

#[test]
fn a_child_sa_that_is_being_closed_is_not_rekeyed() {
    let mut world = up();
    let (theirs, ours) = {
        let child = &sa(&mut world, B).children[0];
        (child.spi_out, child.spi_in)
    };
    begin_in_vain(&mut world, Task::DeleteChildren(vec![ours]));
    let request = [vec![rekey_of(theirs)], child_request(&mut world)].concat();
    let answer = ask(&mut world, A, ExchangeType::CREATE_CHILD_SA, &request);
    assert_eq!(refused(&answer), kinds::TEMPORARY_FAILURE);
}

#[test]
fn an_ike_sa_that_is_being_closed_or_whose_child_sas_change_is_not_rekeyed() {
    for task in [Task::DeleteIke, Task::DeleteChildren(vec![])] {
        let mut world = up();
        let ours = sa(&mut world, B).children[0].spi_in;
        let task = if task == Task::DeleteIke { task } else { Task::DeleteChildren(vec![ours]) };
        begin_in_vain(&mut world, task);
        let profile = sa(&mut world, A).profile();
        let share = proposal::ike_groups(profile)[0].begin().unwrap();
        let request = [
            Payload::SecurityAssociation(proposal::ike_rekey_proposals(profile, 0x1234)),
            Payload::Nonce(vec![7; 32]),
            Payload::KeyExchange { group: share.group().id(), data: share.public().to_vec() },
        ];
        let request = sealed(&mut world, A, ExchangeType::CREATE_CHILD_SA, &request);
        let answers = messages(&world.hand_over(B, &request));
        let answer = opened(&mut world, A, &answers[0]);
        assert_eq!(refused(&answer), kinds::TEMPORARY_FAILURE);
    }
}

#[test]
fn after_a_temporary_failure_nothing_is_asked_at_once() {
    let mut world = up();
    begin_in_vain(&mut world, Task::RekeyIke);
    let sent = record(&mut world);
    let now = world.now;
    let spi_in = sa(&mut world, A).children[0].spi_in;
    world.hosts[A].endpoint.rekey_child(TUNNEL, spi_in, now);
    world.run_for(1);
    let created = |sent: &[Packet]| {
        let of_a = |packet: &&Packet| packet.exchange() == 36 && !packet.is_response() && packet.from.ip() == ip(A);
        sent.iter().filter(of_a).count()
    };
    assert_eq!(created(&sent.lock().unwrap()), 1, "TEMPORARY_FAILURE, and no retry within a second");
    world.run_for(60);
    assert!(created(&sent.lock().unwrap()) >= 2, "later it is tried again");
    assert!(world.is_up(), "{}", world.dump());
}

#[test]
fn both_halves_of_a_child_sa_are_closed_and_our_half_is_named() {
    let mut world = up();
    world.check_gaps = false;
    let (theirs, ours) = {
        let child = &sa(&mut world, B).children[0];
        (child.spi_out, child.spi_in)
    };
    let answer = ask(&mut world, A, ExchangeType::INFORMATIONAL, &[delete(&[theirs, SPI])]);
    assert_eq!(answer, [delete(&[ours])], "and no word of the one that nobody knows");
    let down = |event: &Event| matches!(event, Event::ChildDown { spi_in, .. } if *spi_in == ours);
    world.run_until(world.now);
    let lost = world.hosts[B].endpoint.sas.values().all(|entry| entry.sa.children.is_empty());
    assert!(lost && std::iter::from_fn(|| world.hosts[B].endpoint.poll_event()).any(|event| down(&event)));
}

#[test]
fn when_both_close_a_child_sa_neither_names_it_in_the_answer() {
    let mut world = up();
    let (theirs, ours) = {
        let child = &sa(&mut world, B).children[0];
        (child.spi_out, child.spi_in)
    };
    begin_in_vain(&mut world, Task::DeleteChildren(vec![ours]));
    assert_eq!(ask(&mut world, A, ExchangeType::INFORMATIONAL, &[delete(&[theirs])]), []);
}

#[test]
fn closing_the_ike_sa_is_answered_with_nothing_and_takes_all_along() {
    let mut world = up();
    let all = Payload::Delete(Delete { protocol: Protocol::Ike, spis: vec![] });
    assert_eq!(ask(&mut world, A, ExchangeType::INFORMATIONAL, &[all]), []);
    assert_eq!(world.hosts[B].endpoint.sa_counts(), (0, 0));
    assert_eq!(world.hosts[B].endpoint.child_spi_count(), 0);
}

#[test]
fn a_request_is_answered_while_ours_waits_for_its_answer() {
    let mut world = up();
    begin_in_vain(&mut world, Task::Liveness);
    assert_eq!(ask(&mut world, A, ExchangeType::INFORMATIONAL, &[]), []);
    assert!(!sa(&mut world, B).outgoing.is_free(), "it still waits");
}

#[test]
fn we_have_one_request_under_way_whatever_window_they_offer() {
    let mut world = up();
    assert_eq!(ask(&mut world, A, ExchangeType::INFORMATIONAL, &[note(kinds::SET_WINDOW_SIZE, &[0, 0, 0, 9])]), []);
    begin_in_vain(&mut world, Task::Liveness);
    let mut outbox = Outbox::new(1 << 16, 16);
    let spi = sa(&mut world, B).our_spi;
    world.hosts[B].endpoint.with_sa(spi, &mut outbox, |sa, cx| {
        sa.want(Task::RekeyIke, cx);
        sa.make_requests(cx);
    });
    assert!(outbox.is_empty());
}

#[test]
fn numbers_out_of_the_window_are_not_answered() {
    let mut world = up();
    let next = sa(&mut world, A).outgoing.next_id();
    for id in [next + 1, next + 100, u32::MAX] {
        let sa = sa(&mut world, A);
        let header = sa.header(ExchangeType::INFORMATIONAL, false, id);
        let message = sa.session.as_mut().unwrap().protection.seal(&header, &Inside::of(&[]), None).remove(0);
        assert!(world.hand_over(B, &packet(A, B, &message)).is_empty(), "{id}");
    }
    assert_eq!(ask(&mut world, A, ExchangeType::INFORMATIONAL, &[]), [], "the right one is");
}

#[test]
fn a_response_is_never_answered() {
    let mut world = up();
    let sa = sa(&mut world, A);
    let next = sa.outgoing.next_id();
    for id in [0, next - 1, next, next + 1] {
        let sa = super::sa(&mut world, A);
        let header = sa.header(ExchangeType::INFORMATIONAL, true, id);
        let inside = Inside::of(&[note(kinds::INVALID_SYNTAX, &[])]);
        let message = sa.session.as_mut().unwrap().protection.seal(&header, &inside, None).remove(0);
        assert!(world.hand_over(B, &packet(A, B, &message)).is_empty(), "{id}");
    }
    assert!(world.is_up());
}

#[test]
fn a_request_that_comes_again_gets_the_same_bytes_and_is_not_done_again() {
    let mut world = up();
    let request = child_request(&mut world);
    let request = sealed(&mut world, A, ExchangeType::CREATE_CHILD_SA, &request);
    let first = messages(&world.hand_over(B, &request));
    let again = messages(&world.hand_over(B, &request));
    assert_eq!(first, again);
    assert_eq!(world.hosts[B].endpoint.child_spi_count(), 2, "one more, not two");
}

#[test]
fn a_flipped_bit_anywhere_is_not_answered() {
    let mut world = up();
    let request = sealed(&mut world, A, ExchangeType::INFORMATIONAL, &[note(40_000, b"x")]);
    for at in 4..request.bytes.len() {
        let mut damaged = request.clone();
        damaged.bytes[at] ^= 1;
        let answers = messages(&world.hand_over(B, &damaged));
        // A version is not part of any SA; what claims one that we do not speak is told so, unprotected.
        assert!(answers.iter().all(|answer| at == 21 && answer[18] == 37) || answers.is_empty(), "byte {at}");
    }
    assert_eq!(messages(&world.hand_over(B, &request)).len(), 1, "and as it was, it is");
}

#[test]
fn the_first_fragment_of_an_answered_request_brings_the_answer_again_and_no_other_does() {
    let mut world = up();
    let spi = sa(&mut world, A).our_spi;
    let mut outbox = Outbox::new(1 << 16, 64);
    let long = Payload::VendorId(vec![1; 3000]);
    world.hosts[A].endpoint.with_sa(spi, &mut outbox, |sa, cx| {
        sa.send_request(ExchangeType::INFORMATIONAL, std::slice::from_ref(&long), cx);
    });
    let fragments: Vec<Packet> = messages(&outbox).iter().map(|message| packet(A, B, message)).collect();
    assert!(fragments.len() >= 3 && fragments.iter().all(|one| one.message()[16] == 53), "{}", fragments.len());
    let mut forged = fragments[1].clone();
    let last = forged.bytes.len() - 1;
    forged.bytes[last] ^= 1;
    assert!(world.hand_over(B, &forged).is_empty());
    let answers: Vec<Vec<Vec<u8>>> = fragments.iter().map(|one| messages(&world.hand_over(B, one))).collect();
    assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [vec![0; fragments.len() - 1], vec![1]].concat());
    let again: Vec<Vec<Vec<u8>>> = fragments.iter().map(|one| messages(&world.hand_over(B, one))).collect();
    assert_eq!(again[0], *answers.last().unwrap());
    assert!(again[1..].iter().all(Vec::is_empty));
}

#[test]
fn without_the_announcement_nothing_is_sent_in_fragments() {
    let mut world = up();
    sa(&mut world, A).abilities.fragmentation = false;
    let spi = sa(&mut world, A).our_spi;
    let mut outbox = Outbox::new(1 << 16, 64);
    world.hosts[A].endpoint.with_sa(spi, &mut outbox, |sa, cx| {
        sa.send_request(ExchangeType::INFORMATIONAL, &[Payload::VendorId(vec![1; 3000])], cx);
    });
    let whole = messages(&outbox);
    assert_eq!((whole.len(), whole[0][16]), (1, 46));
    assert_eq!(messages(&world.hand_over(B, &packet(A, B, &whole[0]))).len(), 1, "3000 octets are taken");
}

#[test]
fn a_move_is_not_followed_without_mobike_and_is_with_it() {
    for mobike in [false, true] {
        let mut world = up();
        let b = sa(&mut world, B);
        b.abilities.mobike = mobike;
        b.nat = Default::default();
        let update = [note(kinds::UPDATE_SA_ADDRESSES, &[]), note(kinds::COOKIE2, &[5; 16])];
        let mut request = sealed(&mut world, A, ExchangeType::INFORMATIONAL, &update);
        request.from = "203.0.113.9:4500".parse().unwrap();
        let answers = messages(&world.hand_over(B, &request));
        let answer = opened(&mut world, A, &answers[0]);
        assert_eq!(answer.iter().find(|payload| is(kinds::COOKIE2)(payload)), Some(&update[1]));
        assert_eq!(sa(&mut world, B).path.remote == request.from, mobike);
    }
}

#[test]
fn further_key_exchanges_that_nobody_began_are_refused() {
    let mut world = up();
    let answer = ask(&mut world, A, ExchangeType::FOLLOWUP_KE, &[]);
    assert_eq!(refused(&answer), kinds::STATE_NOT_FOUND);
    let answer = ask(&mut world, A, ExchangeType::INTERMEDIATE, &[]);
    assert_eq!(refused(&answer), kinds::INVALID_SYNTAX, "IKE_INTERMEDIATE comes before IKE_AUTH");
}

#[test]
fn a_silent_peer_is_asked_a_dozen_times_over_minutes_before_it_is_given_up() {
    let mut world = up();
    world.check_gaps = false;
    let sent = Arc::new(Mutex::new(Vec::<(Timestamp, Vec<u8>)>::new()));
    let seen = sent.clone();
    begin_in_vain(&mut world, Task::Liveness);
    let start = world.now;
    world.filter = Box::new(move |packet| {
        if packet.from.ip() == ip(B) && packet.exchange() == 37 {
            seen.lock().unwrap().push((start, packet.bytes.clone()));
        }
        false
    });
    world.run_for(115);
    assert_eq!(world.downs(B), [], "not yet");
    world.run_for(60);
    assert_eq!(world.downs(B), [crate::ike::DownReason::PeerSilent], "{}", world.dump());
    let sent = sent.lock().unwrap();
    assert_eq!(sent.len() + 1, 12);
    assert!(sent.iter().all(|(_, bytes)| *bytes == sent[0].1), "the same bytes");
}
