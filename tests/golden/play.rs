//! Has a capture sent by the hosts of its realms, and records what arrives and what is counted.

use std::fmt::Write as _;
use std::time::Duration;

use ixgate::dataplane::Report;
use ixgate::dataplane::report::Totals;
use ixgate::net::Timestamp;
use ixgate::packet::DropReason;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::lan::{Arrival, Lan};
use ixgate::sim::mixed::{self, Mixed};

use crate::capture::{Capture, Captured};

/// Of virtual time zero: 2027-01-15.
pub const EPOCH: u64 = 1_800_000_000_000_000;
/// There and back through gateways that are links away.
const SETTLED: Duration = Duration::from_millis(50);
/// Until the IPsec gateways have their SAs.
const NEGOTIATED: Duration = Duration::from_secs(2);

/// The appliance and one gateway for each realm.
enum World {
    Lan(Box<Lan>),
    /// When a realm is attached by IPsec.
    Mixed(Box<Mixed>),
}

/// What arrives when the hosts send `sent`, and what is counted meanwhile.
pub fn play(text: &str, sent: &Capture) -> (Capture, String) {
    let appliance = Appliance::build(text);
    let realms: Vec<String> = appliance.config.realms.iter().map(|realm| realm.name.to_string()).collect();
    assert_eq!(sent.realms, realms, "one interface for each realm, in the order of the configuration");
    let mut world = World::start(&appliance, text, &realms);
    let mut arrived = Capture { realms: realms.clone(), packets: Vec::new() };
    let mut counters = String::from("# packet of in.pcapng, its realm, what was counted meanwhile\n");
    let before = world.report();
    let mut last = before.clone();
    for (number, packet) in (1..).zip(&sent.packets) {
        let late = world.advance_to(Timestamp::from_micros(packet.at - EPOCH));
        let now = world.report();
        if let Some(counted) = counted(&last, &now, &realms) {
            writeln!(counters, "   until {number}: {counted}").unwrap();
        }
        record(&mut arrived, late, packet.at, format!("before {number}"));
        let arrivals = world.send(packet.realm, &packet.bytes);
        last = world.report();
        let counted = counted(&now, &last, &realms).unwrap_or_else(|| "nothing".into());
        writeln!(counters, "{number:>3} {}: {counted}", realms[packet.realm]).unwrap();
        record(&mut arrived, arrivals, packet.at, format!("of {number}: {}", packet.comment));
    }
    counters += &sums(&before, &last, &realms);
    (arrived, counters)
}

fn record(arrived: &mut Capture, arrivals: Vec<Arrival>, at: u64, comment: String) {
    let packets = arrivals.into_iter().map(|(realm, bytes)| Captured { realm, at, comment: comment.clone(), bytes });
    arrived.packets.extend(packets);
}

impl World {
    fn start(appliance: &Appliance, text: &str, realms: &[String]) -> Self {
        let ipsec: Vec<bool> = text.split("[[realm]]").skip(1).map(|realm| realm.contains("ipsec = {")).collect();
        if !ipsec.contains(&true) {
            let names: Vec<&str> = realms.iter().map(String::as_str).collect();
            return World::Lan(Box::new(Lan::start(appliance, &names)));
        }
        let mut world = Mixed::new(appliance, 1);
        for (name, ipsec) in realms.iter().zip(ipsec) {
            if ipsec {
                world.attach_ipsec(mixed::plan(&format!("{name}.example"), 7));
            } else {
                world.attach_wireguard(appliance, name);
            }
        }
        world.run_for(NEGOTIATED);
        World::Mixed(Box::new(world))
    }

    fn report(&self) -> Report {
        match self {
            World::Lan(lan) => lan.report(),
            World::Mixed(world) => world.report(),
        }
    }

    fn advance_to(&mut self, now: Timestamp) -> Vec<Arrival> {
        match self {
            World::Lan(lan) => lan.advance_to(now),
            World::Mixed(world) => {
                world.run_for(now.saturating_since(world.now()));
                inboxes(world)
            }
        }
    }

    fn send(&mut self, site: usize, packet: &[u8]) -> Vec<Arrival> {
        match self {
            World::Lan(lan) => lan.send(site, packet),
            World::Mixed(world) => {
                assert!(world.send(site, packet), "site {site} has no SA: {:?}", world.events);
                world.run_for(SETTLED);
                inboxes(world)
            }
        }
    }
}

fn inboxes(world: &mut Mixed) -> Vec<Arrival> {
    let sites = 0..world.sites.len();
    sites.flat_map(|site| world.take_inbox(site).into_iter().map(move |packet| (site, packet))).collect()
}

/// What has changed, in words. A drop is said with the realm that it is counted for.
fn counted(before: &Report, after: &Report, realms: &[String]) -> Option<String> {
    let (old, new) = (totals(&before.totals), totals(&after.totals));
    let changes = old.iter().zip(&new).map(|((name, old), (_, new))| (*name, i128::from(*new) - i128::from(*old)));
    let mut said: Vec<String> = changes.filter(|(_, by)| *by != 0).map(|(name, by)| format!("{name} {by:+}")).collect();
    for ((old, new), realm) in before.realms.iter().zip(&after.realms).zip(realms) {
        for reason in DropReason::ALL {
            let by = new.drops[reason.index()] - old.drops[reason.index()];
            if by != 0 {
                said.push(format!("dropped {} {by:+} ({realm})", reason.name()));
            }
        }
    }
    (!said.is_empty()).then(|| said.join(", "))
}

/// All but what tunnels need for themselves, which is none of the packets in the capture.
fn totals(totals: &Totals) -> [(&'static str, u64); 8] {
    [
        ("forwarded", totals.forwarded),
        ("answered", totals.answered),
        ("originated", totals.originated),
        ("reassembled", totals.reassembled),
        ("fragments_joined", totals.fragments_joined),
        ("fragments_kept", totals.fragments_kept),
        ("fragments_made", totals.fragments_made),
        ("keepalives", totals.keepalives),
    ]
}

fn sums(before: &Report, after: &Report, realms: &[String]) -> String {
    let mut said = String::from("\n# all packets\n");
    for ((name, old), (_, new)) in totals(&before.totals).iter().zip(totals(&after.totals)) {
        writeln!(said, "{name} {}", new - old).unwrap();
    }
    writeln!(said, "sessions {}\nnapt_bindings {}", after.sessions, after.napt_bindings).unwrap();
    for ((old, new), realm) in before.realms.iter().zip(&after.realms).zip(realms) {
        let (received, sent) = (new.received.packets - old.received.packets, new.sent.packets - old.sent.packets);
        let (bytes_in, bytes_out) = (new.received.bytes - old.received.bytes, new.sent.bytes - old.sent.bytes);
        writeln!(said, "\n# {realm}\nreceived {received} packets, {bytes_in} bytes").unwrap();
        writeln!(said, "sent {sent} packets, {bytes_out} bytes\nsessions {}", new.sessions).unwrap();
        for reason in DropReason::ALL {
            let count = new.drops[reason.index()] - old.drops[reason.index()];
            if count != 0 {
                writeln!(said, "dropped {} {count}", reason.name()).unwrap();
            }
        }
    }
    said
}
