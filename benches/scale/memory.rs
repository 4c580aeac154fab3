//! What a process holds with many tunnels and many sessions.

use std::process::Command;
use std::time::Duration;

use ixgate::net::Timestamp;
use ixgate::packet::Datagram;

use super::Amount;
use super::built::Built;
use super::meters::{heap_bytes, resident_bytes};
use super::world::{Kind, Size, gateway, packet, secrets, text};

/// What the bench asks itself to do in a process of its own.
pub const ALONE: &str = "memory-alone";
pub const ITEMS: &str = "memory-items";
const REALMS: usize = 10_000;
/// Tunnels whose hosts open all the sessions.
const SPEAKING: usize = 100;
const GIBIBYTE: isize = 1 << 30;

pub fn measure(kinds: &[Kind], arguments: &[String]) {
    println!("\nmemory of a process, MiB resident; each step on top of the one before, and bytes for each");
    println!(
        "{:<10} {:>8} {:>9} {:>8} {:>14} {:>15} {:>15} {:>8} {:>10}",
        "tunnels", "number", "sessions", "start", "configuration", "tunnels up", "sessions", "all", "of 1 GiB"
    );
    let program = std::env::current_exe().expect("this program");
    for kind in kinds {
        let quick = arguments.iter().filter(|argument| *argument == "--quick");
        let status = Command::new(&program).args([ALONE, kind.name()]).args(quick).status().expect("itself");
        assert!(status.success());
    }
    let configured = |networks: usize, hosts: usize| -> f64 {
        let counts = [ITEMS.to_owned(), networks.to_string(), hosts.to_string()];
        let output = Command::new(&program).args(counts).output().expect("itself");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number of bytes")
    };
    let (plain, networks, hosts) = (configured(1, 0), configured(11, 0), configured(1, 5));
    println!(
        "configured, with nothing up: {:.0} bytes for each further prefix, {:.0} for each name, of {REALMS} realms",
        (networks - plain) / (10 * REALMS) as f64,
        (hosts - plain) / (5 * REALMS) as f64
    );
}

/// Prints what a process holds with that much for each realm.
pub fn measure_items(counts: &[&str]) {
    let count = |place: usize| counts[place].parse().expect("a number");
    let size = Size { kind: Kind::WireGuard, realms: REALMS, networks_per_realm: count(0), hosts_per_realm: count(1) };
    let (built, _) = Built::new(&text(size, None), &secrets());
    let engine = built.engine(Timestamp::from_secs(1));
    println!("{}", resident_bytes());
    drop((built, engine));
}

pub fn measure_alone(kind: Kind, Amount { tunnels, sessions }: Amount) {
    let at_start = resident_bytes();
    let size = Size { kind, realms: tunnels, networks_per_realm: 1, hosts_per_realm: 0 };
    let mut now = Timestamp::from_secs(1);
    let (built, _) = Built::new(&text(size, None), &secrets());
    let mut engine = built.engine(now);
    let (configured, heap_configured) = (resident_bytes(), heap_bytes());
    // Only these speak later; their own memory is little.
    let mut gateways = Vec::new();
    for realm in 0..tunnels {
        let mut gateway = gateway(kind, realm, now);
        now = gateway.shake_hands(&mut engine, now);
        if realm < SPEAKING {
            gateways.push(gateway);
        }
    }
    let (up, heap_up) = (resident_bytes(), heap_bytes());
    let aliases = built.aliases();
    for (realm, gateway) in gateways.iter_mut().enumerate() {
        let packets = (0..sessions / SPEAKING).map(|session| packet(session, aliases[realm ^ 1], 64));
        let packets: Vec<_> = packets.collect();
        for packets in packets.chunks(64) {
            let datagrams: Vec<_> = packets.iter().map(|packet| gateway.seal(packet)).collect();
            engine.handle_input(datagrams.iter().map(|bytes| Datagram::new(gateway.path(), bytes)), now);
            engine.outbox().clear();
            // Room for more is made between batches.
            now = now + Duration::from_micros(100);
            engine.handle_timeout(now);
            engine.outbox().clear();
        }
    }
    let report = engine.report(now);
    let full = resident_bytes();
    assert_eq!((report.sessions, report.totals.forwarded), (sessions, sessions as u64), "{:?}", report.totals);
    assert_eq!(report.tunnels.iter().filter(|tunnel| tunnel.up).count(), tunnels);
    let mib = |bytes: isize| bytes as f64 / f64::from(1 << 20);
    let with_each = |bytes: isize, each: usize| format!("{:.0} ({:.0})", mib(bytes), bytes as f64 / each as f64);
    println!(
        "{:<10} {tunnels:>8} {sessions:>9} {:>8.0} {:>14} {:>15} {:>15} {:>8.0} {:>9.0}%",
        kind.name(),
        mib(at_start),
        with_each(configured - at_start, tunnels),
        with_each(up - configured, tunnels),
        with_each(full - up, sessions),
        mib(full),
        100.0 * full as f64 / GIBIBYTE as f64
    );
    println!(
        "{:<10} heap: {:.0} MiB configured, {:.0} bytes for each tunnel that is up",
        "",
        mib(heap_configured),
        (heap_up - heap_configured) as f64 / tunnels as f64
    );
    assert!(full < GIBIBYTE || cfg!(debug_assertions), "the aim is 1 GiB");
}
