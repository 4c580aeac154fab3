//! From text to a running engine, a change of one realm, and what tells of them.

use std::time::Duration;

use ixgate::dataplane::Engine;
use ixgate::dataplane::report::{Pulse, Report};
use ixgate::net::Timestamp;
use ixgate::telemetry::metrics;
use ixgate::telemetry::source::{Names, PeerName, RealmName, SocketReport, Source, TransferCounts, TunnelName};
use ixgate::telemetry::status::{DEFAULT_WINDOW_SECS, Status};

use super::Amount;
use super::built::{Built, Steps};
use super::meters::timed;
use super::world::{Kind, Size, gateway, secrets, text};

const NETWORKS_PER_REALM: usize = 10;
const HOSTS_PER_REALM: usize = 5;
/// As in `daemon/worker/handle.rs`.
const TUNNELS_AT_ONCE: usize = 64;

pub fn measure(kinds: &[Kind], amount: Amount) {
    println!(
        "\nconfiguring and telling, ms; each realm has a tunnel, {NETWORKS_PER_REALM} prefixes and {HOSTS_PER_REALM} names"
    );
    for kind in kinds {
        let sizes = [amount.tunnels / 10, amount.tunnels];
        let columns = sizes.map(|realms| column(*kind, realms));
        println!("{:<44} {:>10} {:>10} {:>6}", format!("{}, tunnels", kind.name()), sizes[0], sizes[1], "ratio");
        for (row, (words, small)) in columns[0].iter().enumerate() {
            let large = columns[1][row].1;
            let (small, large) = (small.as_secs_f64() * 1e3, large.as_secs_f64() * 1e3);
            println!("{words:<44} {small:>10.2} {large:>10.2} {:>6.1}", large / small);
        }
    }
}

type Column = Vec<(&'static str, Duration)>;

fn column(kind: Kind, realms: usize) -> Column {
    let mut column = Vec::new();
    let size = Size { kind, realms, networks_per_realm: NETWORKS_PER_REALM, hosts_per_realm: HOSTS_PER_REALM };
    let (first, secrets) = (text(size, None), secrets());
    let mut now = Timestamp::from_secs(1);
    let (built, steps) = Built::new(&first, &secrets);
    note(&mut column, ["start: check", "start: allocate", "start: compile", "start: snapshot"], steps);
    let (mut engine, start) = timed(|| built.engine(now));
    column.push(("start: engine", start));
    for realm in 0..realms {
        now = gateway(kind, realm, now).shake_hands(&mut engine, now);
    }
    let (next, steps) = built.change(&text(size, Some(realms / 2)), &secrets);
    note(&mut column, ["change of a realm: check", "allocate", "compile", "snapshot"], steps);
    column.push(("the worker's pause: to publish it", publish(&mut engine, &next, now)));
    let ((), turn) = timed(|| engine.handle_timeout(now + Duration::from_secs(1)));
    column.push(("the turn of timers after that", turn));
    let (report, pauses) = report(&engine, now);
    column.extend(
        ["the worker's pause: to report, without tunnels", "... and 64 tunnels, the longest"].into_iter().zip(pauses),
    );
    let (pulse, beating) = timed(|| engine.pulse());
    column.push(("the worker's pause: a heartbeat", beating));
    assert_eq!((pulse.tunnels_up, pulse), (realms, Pulse::from(&report)));
    let source = Source {
        ix_name: "scale".into(),
        uptime: Duration::ZERO,
        listens: Vec::new(),
        gate: Default::default(),
        uplinks: Vec::new(),
        interfaces: Vec::new(),
        names: names(&next),
        waiting: Vec::new(),
        path: report,
        socket: SocketReport::default(),
        transfers: TransferCounts::default(),
    };
    let (status, telling) = timed(|| Status::of(&source, Duration::from_secs(DEFAULT_WINDOW_SECS)));
    column.push(("status", telling));
    let (_, json) = timed(|| serde_json::to_vec(&status).expect("JSON"));
    column.push(("status as JSON", json));
    let (_, rendering) = timed(|| metrics::render(&source).expect("metrics"));
    column.push(("metrics", rendering));
    let ((), dropping) = timed(|| drop(built));
    column.push(("to drop the old configuration", dropping));
    column
}

fn note(column: &mut Column, words: [&'static str; 4], steps: Steps) {
    let Steps { check, allocate, compile, snapshot } = steps;
    column.extend(words.into_iter().zip([check, allocate, compile, snapshot]));
}

fn publish(engine: &mut Engine, built: &Built, now: Timestamp) -> Duration {
    let ((), time) = timed(|| engine.publish(built.snapshot.clone(), now));
    engine.outbox().clear();
    time
}

/// In parts, as the worker is asked for it; how long the first takes, and the longest of the others.
fn report(engine: &Engine, now: Timestamp) -> (Report, [Duration; 2]) {
    let (mut report, outline) = timed(|| engine.outline(now));
    let mut longest = Duration::ZERO;
    for first in (0..).step_by(TUNNELS_AT_ONCE) {
        let (part, pause) = timed(|| engine.tunnel_reports(first..first + TUNNELS_AT_ONCE, now));
        longest = longest.max(pause);
        report.tunnels.extend(part.tunnels);
        if part.are_last {
            break;
        }
    }
    (report, [outline, longest])
}

fn names(built: &Built) -> Names {
    let realms = built.config.realms.iter().enumerate();
    let tunnels = built.snapshot.tunnels.iter().flatten().map(|tunnel| TunnelName {
        tunnel: tunnel.peer.tunnel(),
        realm: tunnel.realm,
        peer: PeerName::WireGuard([0; 32]),
        has_endpoint: false,
        priority: 0,
        weight: 1,
    });
    Names {
        realms: realms
            .map(|(place, realm)| RealmName { realm: built.realm(place), name: realm.name.clone(), routes: None })
            .collect(),
        tunnels: tunnels.collect(),
    }
}
