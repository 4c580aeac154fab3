//! Long messages that ask about the path: once whole, then in fragments (RFC 7383 sections 2.5.2 and 2.6.1).

use super::*;
use crate::ike::Event;
use crate::net::Timestamp;

const UP_TO: std::time::Duration = std::time::Duration::from_millis(100);

/// The IPv4 packet around it.
fn outer_bytes(packet: &Packet) -> usize {
    packet.bytes.len() + 28
}

fn probe(world: &mut World, outer_bytes: u16) -> bool {
    let now = world.now;
    world.hosts[A].events.clear();
    world.hosts[A].endpoint.probe_path(TUNNEL, outer_bytes..=outer_bytes, now)
}

/// Sizes and whether they arrived, as A was told.
fn told(world: &World) -> Vec<(u16, bool)> {
    let told = |event: &Event| match event {
        Event::PathProbed { outer_bytes, arrived, .. } => Some((*outer_bytes, *arrived)),
        _ => None,
    };
    world.hosts[A].events.iter().filter_map(told).collect()
}

/// From now on packets of more than `mtu` are lost, and answers while `answers_lost` is not used up. Everything is recorded.
fn narrow(world: &mut World, mtu: usize, mut answers_lost: usize) -> Arc<Mutex<Vec<Packet>>> {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let seen = sent.clone();
    world.filter = Box::new(move |packet| {
        seen.lock().unwrap().push(packet.clone());
        let is_lost = packet.is_response() && answers_lost > 0;
        answers_lost -= usize::from(is_lost);
        !is_lost && outer_bytes(packet) <= mtu
    });
    sent
}

#[test]
fn a_probe_is_one_packet_of_the_size_asked_for_and_its_answer_is_small() {
    let mut world = up();
    let sent = narrow(&mut world, 1500, 0);
    for size in [1284, 1400, 1492, 1500] {
        sent.lock().unwrap().clear();
        assert!(probe(&mut world, size));
        world.run_until(world.now + UP_TO);
        assert_eq!(told(&world), [(size, true)]);
        let lens: Vec<usize> = sent.lock().unwrap().iter().map(outer_bytes).collect();
        assert!(lens.len() == 2 && lens[0] == usize::from(size) && lens[1] < 120, "{lens:?}");
    }
    assert!(sa(&mut world, A).outgoing.is_free());
}

#[test]
fn probes_go_with_df_and_everything_else_of_ike_may_be_cut() {
    let mut world = up();
    let spi = sa(&mut world, A).our_spi;
    let runs = |world: &mut World, task: Task| {
        let mut outbox = Outbox::new(1 << 16, 16);
        world.hosts[A].endpoint.with_sa(spi, &mut outbox, |sa, cx| {
            sa.outgoing.finish();
            sa.want(task, cx);
            sa.make_requests(cx);
        });
        outbox.runs().iter().map(|run| run.may_fragment).collect::<Vec<bool>>()
    };
    assert_eq!(runs(&mut world, Task::ProbePath { at_least: 1400, at_most: 1400 }), [false]);
    assert_eq!(runs(&mut world, Task::Liveness), [true]);
}

#[test]
fn a_lost_probe_is_sent_again_in_fragments_that_every_path_carries_and_is_no_sign_of_death() {
    let mut world = up();
    let sent = narrow(&mut world, 1280, 0);
    assert!(probe(&mut world, 1400));
    world.run_for(3);
    assert_eq!(told(&world), [(1400, false)], "by now");
    let lens: Vec<usize> = sent.lock().unwrap().iter().map(outer_bytes).collect();
    assert_eq!((lens[0], lens.len()), (1400, 5), "whole, two fragments, whole again, the answer: {lens:?}");
    assert!(lens[3] == 1400 && lens.iter().filter(|len| **len > 1280).count() == 2, "{lens:?}");
    let a = sa(&mut world, A);
    assert!(a.outgoing.is_free() && !a.is_suspect());
    assert!(world.failures(A).is_empty() && world.downs(A).is_empty());
}

#[test]
fn what_else_is_to_be_asked_waits_two_seconds_at_most() {
    let mut world = up();
    narrow(&mut world, 1280, 0);
    assert!(probe(&mut world, 1400));
    world.run_until(world.now + UP_TO);
    let (ups, now) = (world.child_ups(A), world.now);
    let spi_in = sa(&mut world, A).children[0].spi_in;
    world.hosts[A].endpoint.rekey_child(TUNNEL, spi_in, now);
    world.run_for(3);
    assert_eq!(world.child_ups(A), ups + 1);
}

/// RFC 7383 section 2.6.1: the request that has been answered, cut otherwise, gets the same answer.
#[test]
fn when_the_answer_is_lost_the_fragments_get_it_again() {
    let mut world = up();
    let sent = narrow(&mut world, 1500, 1);
    assert!(probe(&mut world, 1400));
    world.run_for(3);
    assert_eq!(told(&world), [(1400, false)], "which of the two was answered cannot be told");
    let answers: Vec<Vec<u8>> =
        sent.lock().unwrap().iter().filter(|packet| packet.is_response()).map(|packet| packet.bytes.clone()).collect();
    assert_eq!(answers.len(), 3, "the first fragment asks for it, and the whole message");
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert!(sa(&mut world, A).outgoing.is_free());
}

#[test]
fn a_peer_that_cannot_put_fragments_together_is_not_probed_nor_one_without_an_ike_sa() {
    let mut world = up();
    sa(&mut world, A).abilities.fragmentation = false;
    assert!(!probe(&mut world, 1400));
    assert!(!world.hosts[A].endpoint.probe_path(crate::net::TunnelId(99), 1400..=1400, Timestamp::ZERO));
    world.run_for(3);
    assert_eq!(told(&world), []);
}

#[test]
fn the_last_question_counts_and_is_asked_when_the_window_is_free() {
    let mut world = up();
    let sent = narrow(&mut world, 1500, 0);
    for size in 1300..1400 {
        assert!(probe(&mut world, size));
    }
    assert_eq!(sa(&mut world, A).tasks.len(), 1);
    world.run_until(world.now + UP_TO);
    assert_eq!(told(&world).len(), 1);
    assert_eq!(sent.lock().unwrap().len(), 2);
}

/// An encrypted fragment (RFC 7383 section 2.5): what strongSwan with its mediation extension makes nothing of here.
fn is_fragment(packet: &Packet) -> bool {
    const ENCRYPTED_AND_AUTHENTICATED_FRAGMENT: u8 = 53;
    packet.message()[16] == ENCRYPTED_AND_AUTHENTICATED_FRAGMENT
}

#[test]
fn a_peer_that_makes_nothing_of_the_fragments_answers_the_whole_message_that_may_be_cut() {
    let mut world = up();
    let mut is_first = true;
    world.filter = Box::new(move |packet| !std::mem::take(&mut is_first) && !is_fragment(packet));
    assert!(probe(&mut world, 1400));
    world.run_for(3);
    assert_eq!(told(&world), [(1400, false)]);
    assert!(sa(&mut world, A).outgoing.is_free() && world.downs(A).is_empty());
}

/// The path loses IP fragments, and the peer makes nothing of IKE's. Whether it speaks meanwhile tells it from one that is gone.
#[test]
fn a_peer_that_is_there_and_answers_a_probe_in_no_form_is_not_probed_again() {
    for speaks in [true, false] {
        let mut world = up();
        world.filter = Box::new(|packet| outer_bytes(packet) <= 1280 && !is_fragment(packet));
        assert!(probe(&mut world, 1400));
        world.run_for(3);
        if speaks {
            let (spi_in, now) = (sa(&mut world, B).children[0].spi_in, world.now);
            world.hosts[B].endpoint.rekey_child(TUNNEL, spi_in, now);
        }
        world.run_for(60);
        assert!(world.is_up(), "{}", world.dump());
        assert_eq!(world.hosts[A].endpoint.can_probe_path(TUNNEL), !speaks);
        assert_eq!(probe(&mut world, 1400), !speaks);
    }
}
