//! Refusals on both sides: which are the end of an IKE SA, and which of a request only.

use std::time::Duration;

use super::*;
use crate::ike::child::SelectorPair;
use crate::ike::{Lifetimes, Limits, PeerConfig};

const INFORMATIONAL: ExchangeType = ExchangeType::INFORMATIONAL;

/// Two networks on our side, one on theirs.
fn two_networks() -> SelectorPair {
    SelectorPair { ours: vec![selector("10.0.1.0/24"), selector("10.0.2.0/24")], theirs: vec![selector("10.1.0.0/16")] }
}

#[test]
fn a_request_that_lacks_a_payload_is_the_end_of_the_sa() {
    for exchange in [ExchangeType::CREATE_CHILD_SA, ExchangeType::INTERMEDIATE] {
        let mut world = up();
        let answer = ask(&mut world, A, exchange, &[Payload::Nonce(vec![1; 32])]);
        assert_eq!(refused(&answer), kinds::INVALID_SYNTAX);
        assert_eq!(world.hosts[B].endpoint.sa_counts(), (0, 0), "fatal in both peers");
        assert_eq!(world.hosts[B].endpoint.child_spi_count(), 0);
        assert!(world.failures(B).iter().any(|failure| failure.cause.name() == "malformed"), "{}", world.dump());
    }
}

#[test]
fn a_peer_that_could_not_read_our_request_has_forgotten_the_sa_and_so_do_we() {
    for task in [Task::Liveness, Task::RekeyIke, Task::NewChild(two_networks())] {
        let mut world = up();
        let spi = sa(&mut world, A).our_spi;
        let request = begin(&mut world, A, task.clone());
        let answer = forged_answer(&mut world, B, &request, &[note(kinds::INVALID_SYNTAX, &[])]);
        world.check_gaps = false;
        world.hand_over(A, &answer);
        assert!(!world.hosts[A].endpoint.sas.contains_key(&spi), "{task:?}");
        assert_eq!(world.hosts[A].endpoint.child_spi_count(), 0);
        assert!(world.failures(A).iter().any(|failure| failure.cause.name() == "peer_sent"), "{}", world.dump());
        world.run_for(10);
        assert!(world.is_up(), "called anew: {}", world.dump());
    }
}

#[test]
fn an_initiator_that_does_not_believe_us_says_so_without_a_delete() {
    for error in [kinds::AUTHENTICATION_FAILED, kinds::INVALID_SYNTAX, kinds::UNSUPPORTED_CRITICAL_PAYLOAD] {
        let mut world = up();
        assert_eq!(ask(&mut world, A, INFORMATIONAL, &[note(error, &[])]), [], "it is answered");
        assert_eq!(world.hosts[B].endpoint.sa_counts(), (0, 0), "{}", world.dump());
        assert_eq!(world.hosts[B].endpoint.child_spi_count(), 0);
        // Only the exchange that follows IKE_AUTH is about it, and only these are.
        let mut world = up();
        assert_eq!(ask(&mut world, A, INFORMATIONAL, &[note(kinds::TS_UNACCEPTABLE, &[])]), []);
        assert_eq!(ask(&mut world, A, INFORMATIONAL, &[note(error, &[])]), []);
        assert!(world.is_up() && world.hosts[B].endpoint.sa_counts() == (1, 0), "{}", world.dump());
    }
}

#[test]
fn an_ike_auth_with_an_unknown_critical_payload_makes_no_sa() {
    let mut world = World::pair(14);
    world.filter = Box::new(|packet| packet.exchange() == 34);
    world.run_for(1);
    let sa = sa(&mut world, A);
    let header = sa.header(ExchangeType::AUTH, false, 1);
    let inside = Inside::of(&[Payload::Unknown { kind: 201, critical: true, body: vec![] }]);
    let message = sa.session.as_mut().unwrap().protection.seal(&header, &inside, None).remove(0);
    let answers = messages(&world.hand_over(B, &packet(A, B, &message)));
    assert_eq!(opened(&mut world, A, &answers[0]), [note(kinds::UNSUPPORTED_CRITICAL_PAYLOAD, &[201])]);
    assert_eq!(world.hosts[B].endpoint.sa_counts(), (0, 0));
}

#[test]
fn an_unknown_error_in_an_answer_means_that_the_request_failed() {
    let mut world = up();
    let request = begin(&mut world, A, Task::NewChild(two_networks()));
    let answers = messages(&world.hand_over(B, &request));
    let mut payloads = opened(&mut world, A, &answers[0]);
    assert!(payloads.len() == 5 && notes(&payloads).is_empty(), "{payloads:?}");
    payloads.push(note(9000, b"an error that nobody knows"));
    let answer = forged_answer(&mut world, B, &request, &payloads);
    world.hand_over(A, &answer);
    assert_eq!(sa(&mut world, A).children.len(), 1, "{}", world.dump());
    assert!(world.failures(A).iter().any(|failure| failure.cause.name() == "peer_sent"), "{}", world.dump());
}

#[test]
fn an_unknown_error_in_ike_auth_is_about_the_child_sa() {
    let mut world = World::pair(15);
    world.check_gaps = false;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    world.filter = Box::new(move |packet| {
        let auth = packet.exchange() == 35;
        auth.then(|| kept.lock().unwrap().push(packet.clone()));
        !(auth && packet.is_response())
    });
    world.run_for(1);
    let packets = std::mem::take(&mut *seen.lock().unwrap());
    let (request, answer) = (&packets[0], packets.iter().find(|packet| packet.is_response()).unwrap());
    let mut payloads = opened(&mut world, A, answer.message());
    payloads.push(note(9000, &[]));
    let answer = forged_answer(&mut world, B, request, &payloads);
    world.hand_over(A, &answer);
    assert_eq!(world.hosts[A].endpoint.sa_counts(), (1, 0), "it is up {}", world.dump());
    assert_eq!(world.hosts[A].endpoint.child_spi_count(), 0);
}

#[test]
fn who_wants_a_single_pair_is_asked_pair_by_pair() {
    let mut world = up();
    world.check_gaps = false;
    let request = begin(&mut world, A, Task::NewChild(two_networks()));
    let answer = forged_answer(&mut world, B, &request, &[note(kinds::SINGLE_PAIR_REQUIRED, &[])]);
    let outbox = world.hand_over(A, &answer);
    world.send_from(A, &outbox);
    world.run_for(5);
    let mut asked: Vec<_> = sa(&mut world, A).children.iter().map(|child| child.selectors.ours.clone()).collect();
    asked.retain(|ours| *ours != [selector("10.0.0.0/16")]);
    assert_eq!(asked, [[selector("10.0.1.0/24")], [selector("10.0.2.0/24")]], "{}", world.dump());
}

#[test]
fn who_wants_a_single_pair_of_what_is_one_is_not_asked_at_once_again() {
    let mut world = up();
    let one = SelectorPair { ours: vec![selector("10.0.1.0/24")], theirs: vec![selector("10.1.0.0/16")] };
    let request = begin(&mut world, A, Task::NewChild(one));
    let answer = forged_answer(&mut world, B, &request, &[note(kinds::SINGLE_PAIR_REQUIRED, &[])]);
    assert!(world.hand_over(A, &answer).is_empty());
    assert!(sa(&mut world, A).tasks.is_empty(), "{}", world.dump());
}

#[test]
fn an_answer_that_cannot_be_read_ends_the_sa_and_the_peer_is_told() {
    let mut world = up();
    world.check_gaps = false;
    let request = begin(&mut world, A, Task::NewChild(two_networks()));
    let asked = ike::parse_header(request.message()).unwrap();
    let b = sa(&mut world, B);
    let header = b.header(asked.exchange, true, asked.message_id);
    let inside = Inside { first: 41, bytes: vec![0, 0, 0, 99, 1] };
    let message = b.session.as_mut().unwrap().protection.seal(&header, &inside, None).remove(0);
    b.incoming.note(request.message(), 0);
    b.incoming.answered(vec![message.clone()]);
    let outbox = world.hand_over(A, &packet(B, A, &message));
    assert_eq!(world.hosts[A].endpoint.child_spi_count(), 0);
    let deletes = messages(&outbox);
    assert_eq!(deletes.iter().map(|message| message[18]).collect::<Vec<_>>(), [37]);
    world.send_from(A, &outbox);
    world.run_for(10);
    assert_eq!(world.downs(B), [crate::ike::DownReason::PeerDeleted]);
    assert!(world.is_up(), "called anew: {}", world.dump());
}

#[test]
fn a_peer_that_makes_no_more_than_the_first_child_sa_is_called_anew() {
    let lifetimes = Lifetimes { child: Duration::from_secs(20), ..Lifetimes::default() };
    let mut world = World::new(3);
    world.add(2, Limits::default(), vec![PeerConfig { initiate: true, lifetimes, ..peer(A, B) }]);
    world.add(3, Limits { children_per_sa: 0, ..Limits::default() }, vec![peer(B, A)]);
    world.check_gaps = false;
    world.run_for(190);
    assert!(world.is_up() && world.downs(A).is_empty() && world.child_ups(A) == 1, "{}", world.dump());
    assert!(world.failures(A).iter().any(|failure| failure.cause.name() == "peer_sent"), "NO_ADDITIONAL_SAS");
    world.run_for(30);
    assert!(world.is_up() && world.child_ups(A) == 2, "{}", world.dump());
    assert_eq!(world.downs(A), [crate::ike::DownReason::Failed], "said once");
    assert_eq!(world.downs(B), [crate::ike::DownReason::PeerDeleted]);
    // Used up by packets: there is no Child SA left, and no other one to be had.
    let (now, spi_in) = (world.now, sa(&mut world, A).children[0].spi_in);
    world.hosts[A].endpoint.expire_child(TUNNEL, spi_in, now);
    world.run_for(10);
    assert!(world.is_up() && world.child_ups(A) == 3, "{}", world.dump());
}

#[test]
fn a_peer_that_puts_us_off_for_minutes_is_called_anew() {
    let mut world = up();
    world.check_gaps = false;
    let spi = sa(&mut world, A).our_spi;
    let withheld = Arc::new(Mutex::new(Vec::new()));
    let seen = withheld.clone();
    world.filter = Box::new(move |packet| {
        let child = packet.exchange() == 36;
        child.then(|| seen.lock().unwrap().push(packet.clone()));
        !child
    });
    let mut request = Some(begin(&mut world, A, Task::NewChild(two_networks())));
    let start = world.now;
    while let Some(asked) = request.take() {
        let answer = forged_answer(&mut world, B, &asked, &[note(kinds::TEMPORARY_FAILURE, &[])]);
        let outbox = world.hand_over(A, &answer);
        world.send_from(A, &outbox);
        while request.is_none() && world.hosts[A].endpoint.sas.contains_key(&spi) {
            world.run_until(world.now + Duration::from_millis(100));
            request = withheld.lock().unwrap().pop();
        }
    }
    let minutes = world.now.saturating_since(start).as_secs() / 60;
    assert_eq!(minutes, 5, "{}", world.dump());
    assert!(world.failures(A).iter().any(|failure| failure.cause.name() == "put_off"), "{}", world.dump());
    world.run_for(5);
    assert!(world.is_up(), "{}", world.dump());
}

/// Section 2.8: where rekeying fails the IKE SA goes, but not with it what a peer has left that we cannot call.
#[test]
fn a_refused_rekey_ends_no_ike_sa_that_nobody_would_make_anew() {
    for (initiate, others, ends) in [(true, true, true), (false, true, false), (false, false, true)] {
        let mut world = up();
        world.check_gaps = false;
        world.configure(A, vec![PeerConfig { initiate, ..peer(A, B) }]);
        let spi = sa(&mut world, A).our_spi;
        if others {
            let request = begin(&mut world, A, Task::NewChild(part()));
            world.send_packet(request);
            world.run_for(1);
            assert_eq!(sa(&mut world, A).children.len(), 2, "{}", world.dump());
        }
        let now = world.now;
        world.hosts[A].endpoint.wake(spi, |sa, _| {
            (sa.children[0].rekey_refused, sa.children[0].expires_at) = (true, now);
        });
        world.run_for(1);
        assert_eq!(!world.hosts[A].endpoint.sas.contains_key(&spi), ends, "{initiate} {others} {}", world.dump());
        assert!(
            ends || !sa(&mut world, A).children[0].rekey_refused,
            "another one has taken its place {}",
            world.dump()
        );
    }
}

/// A part of what the first Child SA carries.
fn part() -> SelectorPair {
    SelectorPair { ours: vec![selector("10.0.1.0/24")], theirs: vec![selector("10.1.0.0/16")] }
}

/// Both sides rekey the IKE SA. Ours never gets its answer, theirs is complete, and then the old one ends in whatever way.
#[test]
fn what_their_rekey_has_made_goes_on_however_the_old_ike_sa_ends() {
    for how in 0..3 {
        let mut world = up();
        world.check_gaps = false;
        let old = sa(&mut world, A).our_spi;
        begin(&mut world, A, Task::RekeyIke);
        let theirs = begin(&mut world, B, Task::RekeyIke);
        world.hand_over(A, &theirs);
        assert_eq!(world.hosts[A].endpoint.sas.len(), 2, "{}", world.dump());
        assert_eq!(world.hosts[A].endpoint.sas[&old].sa.children.len(), 1);
        let mut outbox = Outbox::new(1 << 16, 16);
        world.hosts[A].endpoint.now = world.now;
        world.hosts[A].endpoint.with_sa(old, &mut outbox, |sa, cx| match how {
            0 => {
                let (header, path) = (sa.header(INFORMATIONAL, false, 0), sa.path);
                sa.refuse_for_good(&header, &path, cx);
            }
            1 => {
                sa.timers.expires_at = Some(cx.now);
                sa.handle_timeout(cx);
            }
            _ => sa.close(cx),
        });
        let new = sa(&mut world, A);
        assert!(new.our_spi != old && new.children.len() == 1, "{how}: {}", world.dump());
        assert!(world.downs(A).is_empty(), "{how}: {}", world.dump());
    }
}

/// The peer is gone: its answer to our Delete never comes.
#[test]
fn what_we_close_is_down_at_once_and_the_peer_is_called_without_its_answer() {
    for initiate in [true, false] {
        let mut world = up();
        world.check_gaps = false;
        world.configure(A, vec![PeerConfig { initiate, ..peer(A, B) }]);
        world.filter = Box::new(|packet| packet.exchange() != 37);
        let request = begin(&mut world, A, Task::DeleteIke);
        assert_eq!(request.exchange(), 37);
        world.run_for(5);
        assert_eq!(world.downs(A), [crate::ike::DownReason::Failed], "{}", world.dump());
        assert_eq!(world.hosts[A].endpoint.peers.newest(TUNNEL).is_some(), initiate, "{}", world.dump());
        world.filter = Box::new(|_| true);
        world.run_for(300);
        assert_eq!(world.downs(A).len(), 1, "{}", world.dump());
    }
}

/// Two are no row: what was wrong five minutes ago is another matter.
#[test]
fn a_peer_that_puts_us_off_now_and_then_keeps_its_sa() {
    let mut world = up();
    world.check_gaps = false;
    let spi = sa(&mut world, A).our_spi;
    for error in [kinds::TEMPORARY_FAILURE, kinds::CHILD_SA_NOT_FOUND, kinds::TEMPORARY_FAILURE] {
        let now = world.now;
        let child = &mut sa(&mut world, A).children[0];
        (child.role, child.installed_at) = (crate::ike::Role::Responder, now); // or it would be gone
        let spi_in = child.spi_in;
        let request = begin(&mut world, A, Task::RekeyChild { spi_in });
        let answer = forged_answer(&mut world, B, &request, &[note(error, &[])]);
        let outbox = world.hand_over(A, &answer);
        assert!(outbox.is_empty());
        let a = sa(&mut world, A);
        a.tasks.clear(); // whatever it was for is no longer wanted
        assert_eq!(a.timers.put_off.is_some(), error == kinds::TEMPORARY_FAILURE);
        world.run_for(310);
        assert!(world.hosts[A].endpoint.sas.contains_key(&spi), "{}", world.dump());
    }
    assert!(world.failures(A).is_empty() && world.is_up(), "{}", world.dump());
}
