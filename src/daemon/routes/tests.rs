use std::time::Duration;

use super::super::interfaces::OpenedRoutes;
use super::super::interfaces::tests::plan;
use super::*;
use crate::io::frames::testbed::{sh, with_testbed};

fn at(millis: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_millis(millis)
}

fn route(prefix: &str, since: Timestamp) -> LearnedRoute {
    LearnedRoute { prefix: prefix.parse().unwrap(), via: vec!["172.20.0.1".parse().unwrap()], since }
}

/// A daemon withdraws its only prefix and announces it again, two times a second, for an hour.
#[test]
fn a_flapping_prefix_makes_few_generations_and_one_that_is_back_in_time_none() {
    let (mut realm, mut damping) = (HeardRealm::default(), Damping::default());
    let mut generations = Vec::new();
    for step in 0..7200 {
        let now = Timestamp::from_secs(100) + Duration::from_millis(500 * step);
        let learned = if step % 2 == 0 { vec![route("10.1.0.0/16", now)] } else { Vec::new() };
        damping.note(now);
        // The thread looks when something has come, and when it had itself woken.
        for now in [Some(now), damping.due().filter(|at| *at < now + Duration::from_millis(500))].into_iter().flatten()
        {
            if damping.is_due(now) && take(learned.clone(), &mut realm, &mut damping, now) {
                generations.push(now);
            }
        }
    }
    assert!(generations.len() <= 3600 / 32 + 16, "{}", generations.len());
    assert_eq!(realm.changes, generations.len() as u64);
    let held = realm.held_until.unwrap().saturating_since(*generations.last().unwrap());
    assert!(held <= MAX_HOLD && held > MAX_HOLD - Duration::from_secs(1), "{held:?}");
    let mut rested = Damping::default();
    rested.note(Timestamp::from_secs(9000));
    let before = realm.routes.clone();
    let back = before.iter().map(|known| LearnedRoute { since: Timestamp::from_secs(9000), ..known.clone() }).collect();
    assert!(!take(back, &mut realm, &mut rested, Timestamp::from_secs(9001)));
    assert_eq!((rested.due(), rested.held_until()), (None, None), "and it holds nothing back");
}

/// Looks until the realm has learned these.
fn until(thread: &mut Thread, from: u64, wanted: &[&str]) {
    for turn in 0..20 {
        thread.look(0, at(from + turn * 1000));
        if learned(thread) == wanted {
            return;
        }
        thread.poller.wait(Some(Duration::from_secs(1))).unwrap();
    }
    assert_eq!(learned(thread), wanted);
}

fn learned(thread: &Thread) -> Vec<String> {
    thread.heard.lock().unwrap()["a"].routes.iter().map(|route| route.prefix.to_string()).collect()
}

/// With a route, as its daemon would set it.
fn make_device(route: &str) -> Routes {
    sh(&format!(
        "ip link add bgp type veth peer name far; ip link set far up; ip link set bgp up; ip route add {route} dev bgp"
    ));
    Routes::open(interface::index("bgp").unwrap(), 10).unwrap()
}

#[test]
fn of_a_device_that_was_made_again_the_new_routes_are_learned_and_the_old_ones_forgotten() {
    with_testbed(|_bed| {
        let opened = OpenedRoutes::default();
        opened.put(make_device("10.1.0.0/16"));
        let daemon =
            DaemonPlan { realm: "a".to_owned(), namespace: "bgp".to_owned(), max_prefixes: 10, opened: opened.clone() };
        let plan = InterfacePlan { is_tun: true, daemon: Some(daemon), ..plan(0, "bgp", 1280) };
        let (poller, changes) = (Poller::new().unwrap(), Pace::default());
        let (orders, heard) = (Default::default(), Shared::default());
        let mut thread = Thread { orders, heard, clock: Clock::start(), poller, followed: Vec::new(), changes };
        thread.adopt(&[plan]);
        until(&mut thread, 0, &["10.1.0.0/16"]);
        sh("ip link del bgp");
        opened.put(make_device("10.2.0.0/16"));
        thread.look(0, at(30_000));
        assert!(learned(&thread).is_empty());
        until(&mut thread, 31_000, &["10.2.0.0/16"]);
    });
}
