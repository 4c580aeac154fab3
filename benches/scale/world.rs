//! An appliance with many tunnels, and the gateways at their other ends.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ixgate::config::MemorySecrets;
use ixgate::dataplane::Engine;
use ixgate::net::{Path, Timestamp};
use ixgate::packet::Datagram;
use ixgate::sim::far_end::FarEnd;
use ixgate::sim::packets;
use ixgate::sim::peer::{Peer, public_key};

use super::built::Built;
use super::meters::timed;

/// By what the realms are attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    WireGuard,
    Ipsec,
}

impl Kind {
    pub const ALL: [Kind; 2] = [Kind::WireGuard, Kind::Ipsec];

    pub fn name(self) -> &'static str {
        match self {
            Kind::WireGuard => "wireguard",
            Kind::Ipsec => "ipsec",
        }
    }
}

/// What a configuration has. Every realm has one tunnel; realms 2n and 2n + 1 may talk to each other.
#[derive(Clone, Copy)]
pub struct Size {
    pub kind: Kind,
    pub realms: usize,
    pub networks_per_realm: usize,
    pub hosts_per_realm: usize,
}

pub const PRIVATE_KEY: [u8; 32] = [0x42; 32];
const PRIVATE_KEY_FILE: &str = "secrets/wireguard.key";
const PSK: &str = "the preshared key of everybody, long enough";

/// The file. `renamed`: one realm's host has another name.
pub fn text(size: Size, renamed: Option<usize>) -> String {
    let mut text = format!(
        "[ix]\ndomain = \"ix.example\"\n[wireguard]\n\
         private_key_file = \"{PRIVATE_KEY_FILE}\"\n[ike]\nlocal_id = \"fqdn:ix.example\"\n[limits]\n\
         sessions = 1100000\nsessions_per_realm = 1100000\nhandshakes_per_sec = 10000\n"
    );
    for realm in 0..size.realms {
        let networks: Vec<String> =
            (0..size.networks_per_realm).map(|number| format!("\"{}\"", network(number))).collect();
        let attach = match size.kind {
            Kind::WireGuard => {
                let key = STANDARD.encode(public_key(&site_key(realm)));
                format!("{{ wireguard = {{ public_key = \"{key}\" }} }}")
            }
            Kind::Ipsec => {
                format!("{{ ipsec = {{ remote_id = \"fqdn:r{realm}.example\", psk_file = \"secrets/psk\" }} }}")
            }
        };
        let networks = networks.join(", ");
        // Writing to a text does not fail.
        let _ = write!(text, "[[realm]]\nname = \"r{realm}\"\nnetworks = [{networks}]\nattach = [{attach}]\n");
        for host in 0..size.hosts_per_realm {
            let other = if renamed == Some(realm) && host == 0 { "other" } else { "" };
            let address = Ipv4Addr::from_bits(0x0a00_0001 + host as u32);
            let _ =
                write!(text, "[[host]]\nname = \"h{host}{other}\"\nrealm = \"r{realm}\"\naddress = \"{address}\"\n");
        }
    }
    for pair in 0..size.realms / 2 {
        let (one, other) = (2 * pair, 2 * pair + 1);
        let _ = write!(
            text,
            "[[grant]]\nfrom = [\"r{one}\", \"r{other}\"]\nto = [\"realm:r{one}\", \"realm:r{other}\"]\nports = [\"any\"]\n"
        );
    }
    text
}

/// The networks of a realm: they are the same in every realm.
fn network(number: usize) -> String {
    format!("{}/27", Ipv4Addr::from_bits(0x0a00_0000 + ((number as u32) << 5)))
}

pub fn secrets() -> MemorySecrets {
    let mut secrets = MemorySecrets::default();
    secrets.insert(PRIVATE_KEY_FILE, STANDARD.encode(PRIVATE_KEY));
    secrets.insert("secrets/psk", PSK);
    secrets
}

fn site_key(realm: usize) -> [u8; 32] {
    let mut key = [0x51; 32];
    key[8..16].copy_from_slice(&(realm as u64).to_le_bytes());
    key
}

/// Of the first realm's gateway; the others' follow (198.18.0.0/15, RFC 2544).
pub const FIRST_ADDRESS: u32 = 0xc612_0000;
/// An appliance with all of its tunnels up.
pub struct World {
    pub engine: Engine,
    pub gateways: Vec<FarEnd>,
    /// How others see the first host of each realm.
    pub aliases: Vec<Ipv4Addr>,
    pub now: Timestamp,
}

/// Of the appliance's own doing.
#[derive(Default)]
pub struct Cost {
    pub time: Duration,
    pub wakes: u64,
    pub datagrams: u64,
    pub longest: Duration,
}

/// Every path is probed once its tunnel is up, so many in a second at most.
const PROBES_PER_SEC: u64 = 256;

impl World {
    pub fn new(kind: Kind, tunnels: usize) -> Self {
        let size = Size { kind, realms: tunnels, networks_per_realm: 1, hosts_per_realm: 0 };
        let (built, _) = Built::new(&text(size, None), &secrets());
        let mut now = Timestamp::from_secs(1);
        let mut engine = built.engine(now);
        let mut gateways = Vec::new();
        for realm in 0..tunnels {
            let mut gateway = gateway(kind, realm, now);
            now = gateway.shake_hands(&mut engine, now);
            gateways.push(gateway);
        }
        let mut world = World { engine, gateways, aliases: built.aliases(), now };
        world.run_for(Duration::from_secs(5 + 2 * tunnels as u64 / PROBES_PER_SEC));
        world
    }

    pub fn up(&self) -> usize {
        self.engine.pulse().tunnels_up
    }

    /// Nothing happens but what the appliance does by itself. Its time is counted, and not that of the gateways, which answer.
    pub fn run_for(&mut self, time: Duration) -> Cost {
        let (mut cost, end) = (Cost::default(), self.now + time);
        while let Some((at, _)) = self.engine.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            let ((), time) = timed(|| self.engine.handle_timeout(self.now));
            cost.time += time;
            cost.longest = cost.longest.max(time);
            cost.wakes += 1;
            self.answer(&mut cost);
            // As the worker sleeps at least.
            self.now = self.now + Duration::from_millis(1);
        }
        self.now = end;
        cost
    }

    fn answer(&mut self, cost: &mut Cost) {
        while self.engine.poll_event().is_some() {}
        let sent: Vec<(Path, Vec<u8>)> =
            self.engine.outbox().datagrams().map(|(path, _, bytes)| (path, bytes.to_vec())).collect();
        self.engine.outbox().clear();
        for (path, bytes) in sent {
            cost.datagrams += 1;
            let IpAddr::V4(remote) = path.remote.ip() else { continue };
            let gateway = &mut self.gateways[(remote.to_bits() - FIRST_ADDRESS) as usize];
            for (port, answer) in gateway.hear(path, &bytes, self.now) {
                let datagram = Datagram::new(gateway.path_from(port), &answer);
                let ((), time) = timed(|| self.engine.handle_input([datagram].into_iter(), self.now));
                cost.time += time;
            }
        }
    }
}

/// The gateway of a realm.
pub fn gateway(kind: Kind, realm: usize, now: Timestamp) -> FarEnd {
    let address = IpAddr::V4(Ipv4Addr::from_bits(FIRST_ADDRESS + realm as u32));
    match kind {
        Kind::WireGuard => {
            let peer = Peer::new(site_key(realm), public_key(&PRIVATE_KEY), None, realm as u32);
            FarEnd::wireguard(peer, address)
        }
        Kind::Ipsec => FarEnd::esp(format!("r{realm}.example"), PSK.into(), realm as u64, address, now),
    }
}

/// The inner packet of one of a realm's sessions, to a host that the realm sees at `destination`.
pub fn packet(session: usize, destination: Ipv4Addr, size: usize) -> Vec<u8> {
    let source = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0001 + (session % 30) as u32));
    let source_port = 1024 + (session / 30) as u16;
    packets::udp((source, source_port), (IpAddr::V4(destination), 443), &vec![0x5a; size - 28])
}
