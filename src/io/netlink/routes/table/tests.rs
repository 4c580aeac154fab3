//! What is known of a table, from the kernel's messages.

use super::super::message::read;
use super::super::message::tests::{done, new_route, route_gone};
use super::*;

const TUN: u32 = 7;
const VIA: &str = "172.20.0.1";

fn at(secs: u64) -> Timestamp {
    Timestamp::ZERO + std::time::Duration::from_secs(secs)
}

fn feed(table: &mut Table, bytes: &[Vec<u8>], now: Timestamp) {
    read(&bytes.concat()).for_each(|message| table.handle_message(message, now));
}

fn table(max_prefixes: usize) -> Table {
    let mut table = Table::new(TUN, max_prefixes);
    assert_eq!((table.begin_dump(at(0)), table.begin_dump(at(9))), (Some(1), None));
    table
}

fn prefixes(table: &Table) -> Vec<String> {
    table.routes().map(|route| route.prefix.to_string()).collect()
}

#[test]
fn a_dump_and_changes_after_it_are_what_is_known() {
    let mut table = table(10);
    let elsewhere = new_route("10.9.0.0/16", "10.0.0.1", 8);
    feed(&mut table, &[new_route("10.1.0.0/16", VIA, TUN), elsewhere, done(1, 0)], at(1));
    assert!(table.take_changed() && !table.take_changed());
    feed(&mut table, &[new_route("10.2.0.0/16", VIA, TUN), new_route("10.1.0.0/16", VIA, TUN)], at(5));
    assert_eq!(prefixes(&table), ["10.1.0.0/16", "10.2.0.0/16"]);
    let since: Vec<_> = table.routes().map(|route| (route.since, route.via)).collect();
    let via = vec![VIA.parse::<IpAddr>().unwrap()];
    assert_eq!(since, [(at(1), via.clone()), (at(5), via)]);
    assert!(table.take_changed());
    feed(&mut table, &[route_gone("10.1.0.0/16", VIA, TUN), route_gone("10.1.0.0/16", VIA, TUN)], at(6));
    assert_eq!((prefixes(&table), table.take_changed()), (vec!["10.2.0.0/16".into()], true));
    feed(&mut table, &[new_route("10.2.0.0/16", "172.20.0.9", TUN)], at(7));
    assert_eq!(table.routes().next().unwrap().via, ["172.20.0.9".parse::<IpAddr>().unwrap()]);
    feed(&mut table, &[new_route("10.2.0.0/16", "10.0.0.1", 8)], at(8));
    assert_eq!(prefixes(&table), [""; 0], "it leads elsewhere now");
}

#[test]
fn after_a_loss_or_a_change_of_the_device_everything_is_asked_again() {
    let mut table = table(10);
    feed(&mut table, &[new_route("10.1.0.0/16", VIA, TUN), new_route("10.2.0.0/16", VIA, TUN), done(1, 0)], at(1));
    assert_eq!(table.begin_dump(at(1)), None);
    table.handle_loss();
    assert_eq!(table.begin_dump(at(1)), Some(2));
    feed(&mut table, &[done(1, 0)], at(2));
    assert_eq!(table.known.len(), 2, "the end of an earlier dump says nothing");
    feed(&mut table, &[new_route("10.2.0.0/16", VIA, TUN), done(2, 0)], at(2));
    assert_eq!(prefixes(&table), ["10.2.0.0/16"]);
    table.handle_message(Message::Device(8), at(3));
    assert_eq!(table.begin_dump(at(3)), None);
    table.handle_message(Message::Device(TUN), at(3));
    assert_eq!(table.begin_dump(at(3)), Some(3));
    feed(&mut table, &[done(3, 0x10)], at(3));
    assert_eq!((table.known.len(), table.begin_dump(at(3)), table.poll_timeout()), (1, None, Some(at(4))));
    assert_eq!(table.begin_dump(at(4)), Some(4), "things changed while it was made");
    feed(&mut table, &[new_route("10.3.0.0/16", VIA, TUN), done(4, 0)], at(4));
    assert_eq!(prefixes(&table), ["10.3.0.0/16"]);
}

#[test]
fn prefixes_are_bounded_and_those_without_room_are_found_again() {
    let mut table = table(100);
    let prefix = |n: u32| format!("10.{}.{}.0/24", n / 256, n % 256);
    let all: Vec<_> = (0..150).map(|n| new_route(&prefix(n), VIA, TUN)).chain([done(1, 0)]).collect();
    feed(&mut table, &all, at(1));
    assert_eq!((table.known.len(), table.overflow()), (100, 50));
    assert_eq!(table.begin_dump(at(99)), None);
    feed(&mut table, &[route_gone(&prefix(0), VIA, TUN)], at(2));
    assert_eq!((table.known.len(), table.begin_dump(at(9)), table.begin_dump(at(10))), (99, None, Some(2)));
    let rest: Vec<_> = (1..150).map(|n| new_route(&prefix(n), VIA, TUN)).chain([done(2, 0)]).collect();
    feed(&mut table, &rest, at(3));
    assert_eq!((table.known.len(), table.overflow()), (100, 49));
    table.set_max_prefixes(10);
    assert_eq!((table.known.len(), table.begin_dump(at(11))), (10, Some(3)));
}

/// Dumps that begin within 100 s in which something happens 10 times a second, when each takes as long as that.
fn dumps(table: &mut Table, mut happen: impl FnMut(&mut Table, Option<u32>, Timestamp)) -> usize {
    let moments = (0..1000).map(|tenth| at(100) + Duration::from_millis(100 * tenth));
    let mut running = None;
    moments
        .filter(|now| {
            happen(table, running.take(), *now);
            running = table.begin_dump(*now);
            running.is_some()
        })
        .count()
}

#[test]
fn a_prefix_that_comes_and_goes_in_a_full_table_has_it_told_now_and_then() {
    let mut full = table(10);
    let all: Vec<_> = (0..20).map(|n| new_route(&format!("10.0.{n}.0/24"), VIA, TUN)).collect();
    feed(&mut full, &[&all[..], &[done(1, 0)]].concat(), at(1));
    let count = dumps(&mut full, |table, running, now| {
        if let Some(sequence) = running {
            feed(table, &[&all[..], &[done(sequence, 0)]].concat(), now);
        }
        feed(table, &[route_gone("10.0.0.0/24", VIA, TUN), new_route("10.0.0.0/24", VIA, TUN)], now);
    });
    assert_eq!((count, full.known.len()), (10, 10));
}

#[test]
fn losses_and_changes_within_each_dump_begin_one_a_second_at_most() {
    let mut table = table(10);
    assert_eq!(dumps(&mut table, |table, _, _| table.handle_loss()), 100);
    let incomplete = |table: &mut Table, running: Option<u32>, now| {
        feed(table, &running.map(|sequence| done(sequence, 0x10)).into_iter().collect::<Vec<_>>(), now);
    };
    table.last_begun = None;
    assert_eq!(dumps(&mut table, incomplete), 100);
}

#[test]
fn metrics_and_next_hops_of_one_prefix_are_joined_and_bounded() {
    let mut table = table(10);
    let route = |metric, via: &str, is_added| {
        let hops = vec![Hop { device: TUN, via: via.parse().ok() }];
        Message::Route { route: Route { prefix: "10.1.0.0/16".parse().unwrap(), metric, hops }, is_added }
    };
    for metric in (0..10).rev() {
        table.handle_message(route(metric, &format!("172.20.0.{metric}"), false), at(1));
    }
    let vias = |table: &Table| table.routes().next().unwrap().via.len();
    assert_eq!(vias(&table), MAX_METRICS);
    for n in 0..20 {
        table.handle_message(route(9, &format!("172.20.1.{n}"), true), at(1));
    }
    assert_eq!(vias(&table), MAX_METRICS - 1 + super::super::message::MAX_HOPS);
    let Message::Route { route, .. } = route(9, "172.20.1.0", true) else { unreachable!() };
    table.handle_message(Message::Gone(route), at(2));
    assert_eq!((table.known.len(), vias(&table)), (1, MAX_METRICS + super::super::message::MAX_HOPS - 2));
}
