//! IKE_SA_INIT and everything that comes before there are keys.

use std::time::Duration;

use super::*;
use crate::ike::{Limits, proposal};
use crate::net::random::{Random, Seeded};
use crate::wire::ike::{Flags, Header, Proposal, Transform, transform_kind};

/// The message ID.
fn number(packet: &Packet) -> u32 {
    ike::parse_header(packet.message()).unwrap().message_id
}

/// With one byte of the header changed.
fn with_byte(request: &Packet, at: usize, byte: u8) -> Packet {
    let mut changed = request.clone();
    changed.bytes[at] = byte;
    changed
}

fn with_payloads(request: &Packet, payloads: &[Payload]) -> Packet {
    let header = ike::parse_header(request.message()).unwrap();
    Packet { bytes: ike::emit_message(&header, payloads), ..request.clone() }
}

fn answer(request: &Packet, payloads: &[Payload]) -> Packet {
    let header = ike::parse_header(request.message()).unwrap();
    let flags = Flags { initiator: false, response: true };
    let header = Header::new((header.initiator_spi, 0), ExchangeType::SA_INIT, flags, 0);
    let bytes = ike::emit_message(&header, payloads);
    Packet { from: request.to, to: request.from, bytes, ..request.clone() }
}

#[test]
fn minor_version_and_reserved_bits_are_ignored_and_sent_as_zero() {
    let (_, request) = calling(1);
    assert_eq!((request.bytes[17], request.bytes[19]), (0x20, 0x08), "2.0, and of the flags only Initiator");
    let odd = with_byte(&with_byte(&request, 17, 0x2f), 19, 0xd7 | 0x08);
    let odd = with_byte(&odd, 19, odd.bytes[19] & !0x20);
    let mut world = called(Limits::default());
    let answers = messages(&world.hand_over(B, &odd));
    assert_eq!((answers[0][17], answers[0][19]), (0x20, 0x20), "ours, and of the flags only Response");
    assert!(clear(&answers[0]).iter().any(|payload| matches!(payload, Payload::KeyExchange { .. })));
}

#[test]
fn an_answer_goes_where_the_request_came_from_by_the_address_that_it_came_to() {
    let (_, request) = calling(2);
    let mut world = called(Limits::default());
    let request = Packet { from: "198.51.100.77:41234".parse().unwrap(), ..request };
    let outbox = world.hand_over(B, &request);
    let (path, _, _) = outbox.datagrams().next().unwrap();
    assert_eq!((path.remote, path.local), (request.from, Some(request.to.ip())));
}

#[test]
fn first_requests_have_a_spi_of_their_own_none_of_ours_and_number_zero() {
    let (_, request) = calling(3);
    let mut world = called(Limits::default());
    assert!(request.bytes[..8] != [0; 8] && request.bytes[8..16] == [0; 8] && number(&request) == 0);
    for (at, byte) in [(15, 1), (23, 1), (19, 0)] {
        assert!(world.hand_over(B, &with_byte(&request, at, byte)).is_empty(), "byte {at}");
    }
    let mut zero = request.clone();
    zero.bytes[..8].fill(0);
    assert!(world.hand_over(B, &zero).is_empty());
    assert_eq!(world.hosts[B].endpoint.sa_counts(), (0, 0));
    let answers = messages(&world.hand_over(B, &request));
    assert_eq!((&answers[0][..8], answers[0][8..16] != [0; 8]), (&request.bytes[..8], true));
}

#[test]
fn payloads_come_in_any_order_and_unknown_ones_are_skipped() {
    let (_, request) = calling(4);
    let mut payloads = clear(request.message());
    payloads.reverse();
    payloads.insert(1, Payload::Unknown { kind: 200, critical: false, body: vec![1, 2, 3] });
    payloads.insert(2, note(40_000, b"a status that nobody knows"));
    payloads.insert(3, Payload::VendorId(b"somebody".to_vec()));
    let mut world = called(Limits::default());
    let answers = messages(&world.hand_over(B, &with_payloads(&request, &payloads)));
    assert!(clear(&answers[0]).iter().any(|payload| matches!(payload, Payload::SecurityAssociation(_))));
}

#[test]
fn an_unknown_critical_payload_is_refused_by_its_type() {
    let (_, request) = calling(5);
    let mut payloads = clear(request.message());
    payloads.push(Payload::Unknown { kind: 200, critical: true, body: vec![] });
    let mut world = called(Limits::default());
    let answers = messages(&world.hand_over(B, &with_payloads(&request, &payloads)));
    assert_eq!(clear(&answers[0]), [note(kinds::UNSUPPORTED_CRITICAL_PAYLOAD, &[200])]);
    assert_eq!(world.hosts[B].endpoint.sa_counts(), (0, 0));
}

#[test]
fn our_payloads_are_not_critical() {
    let (_, request) = calling(6);
    let answer = messages(&called(Limits::default()).hand_over(B, &request)).remove(0);
    for message in [&request.bytes, &answer] {
        let (mut at, mut count) = (28, 0);
        while at < message.len() {
            assert_eq!(message[at + 1], 0, "critical and reserved bits");
            at += usize::from(u16::from_be_bytes([message[at + 2], message[at + 3]]));
            count += 1;
        }
        assert!(count >= 5);
    }
}

#[test]
fn a_cookie_is_repeated_in_front_and_all_else_stays() {
    let (mut world, request) = calling(7);
    let cookie = note(kinds::COOKIE, &[9; 20]);
    let again = messages(&world.hand_over(A, &answer(&request, std::slice::from_ref(&cookie))));
    assert_eq!((&again[0][..16], &again[0][20..24]), (&request.bytes[..16], &[0; 4][..]), "SPI and number");
    let expected = [vec![cookie], clear(request.message())].concat();
    assert_eq!(clear(&again[0]), expected);
}

#[test]
fn cookies_too_short_or_too_long_are_not_repeated() {
    for len in [0, 65] {
        let (mut world, request) = calling(8);
        assert!(world.hand_over(A, &answer(&request, &[note(kinds::COOKIE, &vec![1; len])])).is_empty(), "{len}");
    }
}

#[test]
fn another_group_is_asked_for_with_the_same_proposals_and_the_cookie_stays() {
    let (mut world, request) = calling(9);
    let cookie = note(kinds::COOKIE, &[9; 20]);
    world.hand_over(A, &answer(&request, std::slice::from_ref(&cookie)));
    let group = [0, 20];
    let again = messages(&world.hand_over(A, &answer(&request, &[note(kinds::INVALID_KE_PAYLOAD, &group)])));
    let (before, after) = (clear(request.message()), clear(&again[0]));
    let proposals = |payloads: &[Payload]| {
        payloads.iter().find(|payload| matches!(payload, Payload::SecurityAssociation(_))).cloned()
    };
    assert_eq!(proposals(&before), proposals(&after), "the full set again");
    assert!(after.iter().any(|payload| matches!(payload, Payload::KeyExchange { group: 20, .. })));
    assert_eq!(after[0], cookie);
}

#[test]
fn a_cookie_that_is_not_ours_is_as_none() {
    let (_, request) = calling(10);
    let mut world = called(Limits { cookie_threshold: 0, ..Limits::default() });
    let none = clear(&messages(&world.hand_over(B, &request))[0]);
    let wrong = [vec![note(kinds::COOKIE, &[1; 32])], clear(request.message())].concat();
    let answers = messages(&world.hand_over(B, &with_payloads(&request, &wrong)));
    assert_eq!((clear(&answers[0]), &answers[0][8..16]), (none.clone(), &[0; 8][..]), "no SPI of ours");
    assert_eq!(notes(&none), [kinds::COOKIE]);
    assert_eq!(world.hosts[B].endpoint.sa_counts(), (0, 0));
}

#[test]
fn a_group_that_does_not_fit_is_answered_with_ours() {
    let (_, request) = calling(11);
    let mut payloads = clear(request.message());
    for payload in &mut payloads {
        if let Payload::KeyExchange { group, data } = payload {
            (*group, *data) = (14, vec![2; 256]); // offered by nobody here
        }
    }
    let mut world = called(Limits::default());
    let answers = messages(&world.hand_over(B, &with_payloads(&request, &payloads)));
    let ours = proposal::ike_groups(peer(B, A).profile)[0].id().to_be_bytes();
    assert_eq!(clear(&answers[0]), [note(kinds::INVALID_KE_PAYLOAD, &ours)]);
}

#[test]
fn no_ike_sa_without_encryption_or_integrity() {
    let null = Transform::new(transform_kind::ENCRYPTION, 11);
    for profile in crate::ike::Profile::ALL {
        let mut offered: Vec<Proposal> = proposal::ike_proposals(profile);
        for one in &mut offered {
            one.transforms.retain(|transform| transform.kind != transform_kind::ENCRYPTION);
            one.transforms.push(null);
        }
        assert!(proposal::choose_ike(&offered, &[profile], None).is_err());
        let mut offered: Vec<Proposal> = proposal::ike_proposals(profile);
        for one in &mut offered {
            one.transforms.retain(|transform| transform.kind != transform_kind::INTEGRITY);
            one.transforms.push(Transform::new(transform_kind::INTEGRITY, 0));
        }
        let chosen = proposal::choose_ike(&offered, &[profile], None);
        assert!(chosen.is_err() || chosen.unwrap().suite.cipher.is_aead());
    }
}

#[test]
fn proposals_are_taken_whole_or_not_at_all() {
    let (_, request) = calling(12);
    let mut world = called(Limits::default());
    let answers = messages(&world.hand_over(B, &request));
    let answered = clear(&answers[0]);
    let Some(Payload::SecurityAssociation(chosen)) = answered.iter().find(|p| p.kind() == 33) else { panic!() };
    let offered = clear(request.message());
    let Some(Payload::SecurityAssociation(offered)) = offered.iter().find(|p| p.kind() == 33) else { panic!() };
    assert_eq!(chosen.len(), 1);
    let offer = offered.iter().find(|one| one.number == chosen[0].number).unwrap();
    assert!(chosen[0].transforms.iter().all(|one| offer.transforms.contains(one)));
    let mut kinds: Vec<u8> = chosen[0].transforms.iter().map(|one| one.kind).collect();
    kinds.dedup();
    assert_eq!(kinds.len(), chosen[0].transforms.len(), "one of each kind");
    assert!(chosen[0].spi.is_empty() && offered.iter().all(|one| one.spi.is_empty()), "no SPI in IKE_SA_INIT");
}

#[test]
fn nonces_are_new_and_long_enough_for_every_prf() {
    let mut seen = Vec::new();
    for seed in 20..24 {
        let (_, request) = calling(seed);
        let answered = clear(&messages(&called(Limits::default()).hand_over(B, &request))[0]);
        for payloads in [clear(request.message()), answered] {
            let nonce = payloads.into_iter().find_map(|payload| match payload {
                Payload::Nonce(nonce) => Some(nonce),
                _ => None,
            });
            seen.push(nonce.unwrap());
        }
    }
    assert!(seen.iter().all(|nonce| nonce.len() == 32), "half of 512 bits");
    let requests: Vec<&Vec<u8>> = seen.iter().step_by(2).collect();
    assert!((1..requests.len()).all(|n| !requests[..n].contains(&requests[n])));
}

#[test]
fn a_request_is_retransmitted_with_the_same_bytes_and_an_answer_never_by_itself() {
    let mut world = World::pair(13);
    let sent = record(&mut world);
    let kept = sent.clone();
    world.filter = Box::new(move |packet| {
        kept.lock().unwrap().push(packet.clone());
        !packet.is_response() // no answer arrives
    });
    world.run_for(20);
    let sent = sent.lock().unwrap();
    let (answers, requests): (Vec<&Packet>, Vec<&Packet>) = sent.iter().partition(|packet| packet.is_response());
    assert!(requests.len() >= 4, "{}", requests.len());
    assert!(requests.iter().all(|request| request.bytes == requests[0].bytes));
    assert_eq!(answers.len(), requests.len(), "one for each that came");
    assert!(answers.iter().all(|answer| answer.bytes == answers[0].bytes));
}

#[test]
fn what_names_no_sa_changes_nothing_and_is_not_answered() {
    let mut world = up();
    let mut random = Seeded(3);
    let before = world.hosts[B].endpoint.sa_counts();
    for exchange in [ExchangeType::AUTH, ExchangeType::CREATE_CHILD_SA, ExchangeType::INFORMATIONAL] {
        for response in [false, true] {
            let flags = Flags { initiator: true, response };
            let header = Header::new((random.u64(), random.u64()), exchange, flags, 2);
            let message = ike::emit_message(&header, &[note(kinds::INVALID_IKE_SPI, &[])]);
            assert!(world.hand_over(B, &packet(A, B, &message)).is_empty());
        }
    }
    assert_eq!(world.hosts[B].endpoint.sa_counts(), before);
}

#[test]
fn messages_without_protection_do_not_end_an_sa() {
    let mut world = up();
    let (spis, id) = (sa(&mut world, A).spis(), sa(&mut world, A).outgoing.next_id());
    for kind in
        [kinds::INVALID_IKE_SPI, kinds::AUTHENTICATION_FAILED, kinds::INVALID_SYNTAX, kinds::INVALID_MAJOR_VERSION]
    {
        for response in [false, true] {
            let flags = Flags { initiator: true, response };
            let message =
                ike::emit_message(&Header::new(spis, ExchangeType::INFORMATIONAL, flags, id), &[note(kind, &[])]);
            assert!(world.hand_over(B, &packet(A, B, &message)).is_empty());
        }
    }
    let delete = Payload::Delete(crate::wire::ike::Delete { protocol: crate::wire::ike::Protocol::Ike, spis: vec![] });
    let flags = Flags { initiator: true, response: false };
    let message = ike::emit_message(&Header::new(spis, ExchangeType::INFORMATIONAL, flags, id), &[delete]);
    assert!(world.hand_over(B, &packet(A, B, &message)).is_empty());
    world.run_for(300);
    assert!(world.is_up() && world.downs(A).is_empty() && world.downs(B).is_empty(), "{}", world.dump());
}

#[test]
fn nothing_but_the_handshake_is_answered_before_ike_auth() {
    let mut world = World::pair(14);
    world.filter = Box::new(|packet| packet.exchange() == 34);
    world.run_for(1);
    for exchange in [ExchangeType::INFORMATIONAL, ExchangeType::CREATE_CHILD_SA] {
        let sa = sa(&mut world, A);
        let header = sa.header(exchange, false, 1);
        let message = sa.session.as_mut().unwrap().protection.seal(&header, &Inside::of(&[]), None).remove(0);
        assert!(world.hand_over(B, &packet(A, B, &message)).is_empty());
    }
    world.filter = Box::new(|_| true);
    world.run_for(10);
    assert!(world.is_up(), "and it did no harm: {}", world.dump());
}

#[test]
fn message_numbers_begin_with_zero_one_and_after_a_rekey_with_zero() {
    let lifetimes = crate::ike::Lifetimes { ike: Duration::from_secs(60), ..Default::default() };
    let mut world = World::pair_with(15, |a| a.lifetimes = lifetimes, |_| {});
    let sent = record(&mut world);
    world.run_for(200);
    let sent = sent.lock().unwrap();
    let requests: Vec<(u8, u32, Vec<u8>)> = sent
        .iter()
        .filter(|packet| !packet.is_response() && packet.from.ip() == ip(A))
        .map(|packet| (packet.exchange(), number(packet), packet.message()[..8].to_vec()))
        .collect();
    assert_eq!((requests[0].0, requests[0].1), (34, 0));
    assert_eq!((requests[1].0, requests[1].1), (35, 1));
    let first = &requests[0].2;
    let of_first: Vec<u32> = requests.iter().filter(|one| one.2 == *first).map(|one| one.1).collect();
    assert_eq!(of_first, (0..of_first.len() as u32).collect::<Vec<_>>(), "one after the other");
    let next = requests.iter().find(|one| one.2 != *first).expect("the next IKE SA is spoken on");
    assert_eq!(next.1, 0);
}

#[test]
fn ike_on_the_nat_traversal_port_has_the_marker_in_front() {
    let mut world = World::pair(16);
    let sent = record(&mut world);
    world.run_for(5);
    let sent = sent.lock().unwrap();
    let behind: Vec<&Packet> = sent.iter().filter(|packet| packet.from.port() == 4500).collect();
    assert!(!behind.is_empty() && behind.iter().all(|packet| packet.bytes[..4] == [0; 4]));
    assert!(sent.iter().all(|packet| (packet.exchange() == 34) == (packet.from.port() == 500)), "from IKE_AUTH on");
}

#[test]
fn who_uses_the_same_spi_is_somebody_else() {
    let (_, request) = calling(17);
    let mut world = called(Limits::default());
    let other = |byte: u8| {
        let mut payloads = clear(request.message());
        let nonce = payloads.iter_mut().find(|payload| matches!(payload, Payload::Nonce(_))).unwrap();
        *nonce = Payload::Nonce(vec![byte; 32]);
        with_payloads(&request, &payloads)
    };
    let answers = [1, 2].map(|byte| messages(&world.hand_over(B, &other(byte))).remove(0));
    assert_ne!(answers[0][8..16], answers[1][8..16], "the responder's SPIs");
    assert_eq!(world.hosts[B].endpoint.sa_counts(), (2, 2));
    assert_eq!(messages(&world.hand_over(B, &other(1))), answers[..1], "and each is told again what it was told");
}

#[test]
fn payloads_are_in_the_order_of_the_rfc_and_nat_detection_behind_the_nonce() {
    let (_, request) = calling(18);
    let answers = messages(&called(Limits::default()).hand_over(B, &request));
    for message in [request.message(), &answers[0]] {
        let payloads = clear(message);
        let order: Vec<u8> = payloads.iter().take(3).map(Payload::kind).collect();
        assert_eq!(order, [33, 34, 40], "SA, KE, Nonce");
        let hashes = [kinds::NAT_DETECTION_SOURCE_IP, kinds::NAT_DETECTION_DESTINATION_IP];
        assert_eq!(notes(&payloads[3..5]), hashes);
    }
}
