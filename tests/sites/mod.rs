//! Gateways of either kind around an engine, for tests that count or compare what it makes of their datagrams.

// Each test takes what it needs.
#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ixgate::dataplane::Engine;
use ixgate::ike;
use ixgate::net::{Path, Port, Timestamp};
use ixgate::packet::Datagram;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::ipsec_site::{IpsecSite, Plan};
use ixgate::sim::peer::Peer;

const APPLIANCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How a realm is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    WireGuard,
    Esp,
}

impl Kind {
    /// What stands in the realm's `attach`.
    pub fn attach(self, realm: &str, mtu_bytes: u16) -> String {
        match self {
            Kind::WireGuard => {
                format!(r#"{{ wireguard = {{ public_key = "{{key:{realm}}}" }}, mtu_bytes = {mtu_bytes} }}"#)
            }
            Kind::Esp => format!(
                r#"{{ ipsec = {{ remote_id = "fqdn:{realm}.example", psk_file = "secrets/{realm}.example.psk" }}, mtu_bytes = {mtu_bytes} }}"#
            ),
        }
    }
}

/// The gateway of a realm.
pub struct Site {
    /// Where the engines see it, without the port.
    pub address: IpAddr,
    gateway: Gateway,
}

enum Gateway {
    WireGuard(Box<Peer>),
    Esp(Box<IpsecSite>),
}

impl Site {
    pub fn new(kind: Kind, appliance: &Appliance, name: &str, number: u8, now: Timestamp) -> Self {
        let address = IpAddr::V4(Ipv4Addr::new(127, 0, 1, number));
        let gateway = match kind {
            Kind::WireGuard => {
                let peer = Peer::new(appliance.site_key(name), appliance.public_key, None, number.into());
                Gateway::WireGuard(Box::new(peer))
            }
            Kind::Esp => Gateway::Esp(Box::new(IpsecSite::new(plan(name, number), address, now))),
        };
        Site { address, gateway }
    }

    pub fn is_wireguard(&self) -> bool {
        matches!(self.gateway, Gateway::WireGuard(_))
    }

    /// The path by which its packets come.
    pub fn path(&self) -> Path {
        match &self.gateway {
            Gateway::WireGuard(_) => self.path_from(Port::WireGuard),
            Gateway::Esp(_) => self.path_from(Port::IkeNatT),
        }
    }

    fn path_from(&self, port: Port) -> Path {
        Path::from_port(port, SocketAddr::new(self.address, number_of(port)))
    }

    pub fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        match &mut self.gateway {
            Gateway::WireGuard(peer) => peer.send(packet).expect("a session"),
            Gateway::Esp(site) => {
                assert!(site.send(packet), "a Child SA");
                site.take_outgoing().pop().expect("a packet").1
            }
        }
    }

    /// WireGuard: a new handshake, though there is a session.
    pub fn initiate(&mut self) -> Option<Vec<u8>> {
        match &mut self.gateway {
            Gateway::WireGuard(peer) => peer.initiate(),
            Gateway::Esp(_) => None,
        }
    }

    /// What it answers.
    pub fn hear(&mut self, path: Path, bytes: &[u8], now: Timestamp) -> Vec<(Port, Vec<u8>)> {
        match &mut self.gateway {
            Gateway::WireGuard(peer) => {
                peer.receive(bytes).datagrams.into_iter().map(|bytes| (Port::WireGuard, bytes)).collect()
            }
            Gateway::Esp(site) => {
                let from = SocketAddr::new(APPLIANCE, number_of(path.port));
                site.handle_input(Datagram::new(Path::from_port(path.port, from), bytes), now);
                taken(site)
            }
        }
    }

    /// The inner packet of a datagram to it.
    pub fn open(&mut self, path: Path, bytes: &[u8], now: Timestamp) -> Option<Vec<u8>> {
        match &mut self.gateway {
            Gateway::WireGuard(peer) => peer.receive(bytes).packet,
            Gateway::Esp(site) => {
                let from = SocketAddr::new(APPLIANCE, number_of(path.port));
                site.handle_input(Datagram::new(Path::from_port(path.port, from), bytes), now);
                site.inbox.pop()
            }
        }
    }

    /// Until its tunnel is up. When that is.
    pub fn shake_hands(&mut self, engine: &mut Engine, mut now: Timestamp) -> Timestamp {
        let mut outgoing = match &mut self.gateway {
            Gateway::WireGuard(peer) => peer.initiate().into_iter().map(|bytes| (Port::WireGuard, bytes)).collect(),
            Gateway::Esp(site) => {
                site.handle_timeout(now);
                taken(site)
            }
        };
        for _ in 0..100 {
            for (port, bytes) in outgoing.drain(..) {
                engine.handle_input([Datagram::new(self.path_from(port), &bytes)].into_iter(), now);
            }
            // IKE is answered between batches.
            engine.handle_timeout(now);
            let answers: Vec<_> = engine.outbox().datagrams().map(|(path, _, bytes)| (path, bytes.to_vec())).collect();
            engine.outbox().clear();
            let address = self.address;
            for (path, bytes) in answers.iter().filter(|(path, _)| path.remote.ip() == address) {
                outgoing.extend(self.hear(*path, bytes, now));
            }
            if outgoing.is_empty() && self.is_up() {
                return now;
            }
            now = now + Duration::from_millis(1);
        }
        panic!("the tunnel does not come up");
    }

    fn is_up(&self) -> bool {
        match &self.gateway {
            Gateway::WireGuard(peer) => peer.has_session(),
            Gateway::Esp(site) => site.is_up(),
        }
    }
}

fn taken(site: &mut IpsecSite) -> Vec<(Port, Vec<u8>)> {
    site.take_outgoing().into_iter().map(|(path, bytes)| (path.port, bytes)).collect()
}

fn plan(name: &str, number: u8) -> Plan {
    let name = format!("{name}.example");
    Plan {
        psk: Appliance::psk(&name).into_bytes(),
        name,
        appliance: Some(SocketAddr::new(APPLIANCE, number_of(Port::Ike))),
        networks: Vec::new(),
        reaches: Vec::new(),
        encapsulation: ike::Encapsulation::Udp,
        profile: ike::Profile::Modern,
        lifetimes: ike::Lifetimes::default(),
        seed: number.into(),
    }
}

fn number_of(port: Port) -> u16 {
    match port {
        Port::WireGuard => 51_820,
        Port::Ike => 500,
        Port::IkeNatT => 4500,
        Port::RawEsp | Port::Frames(_) | Port::Tun(_) => 0,
    }
}
