//! The far end of one tunnel, by WireGuard or by ESP in UDP, in the caller's hands: it seals and opens packets around an engine. For
//! benches, and for tests that count or compare what an engine makes of datagrams.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::dataplane::Engine;
use crate::net::{Path, Port, Timestamp};
use crate::packet::Datagram;

use super::ipsec_site::{IpsecSite, Plan};
use super::mixed;
use super::peer::Peer;

const APPLIANCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub struct FarEnd {
    /// Where engines see it, without the port.
    pub address: IpAddr,
    speaks: Speaks,
}

enum Speaks {
    WireGuard(Box<Peer>),
    Esp(Box<IpsecSite>),
}

impl FarEnd {
    pub fn wireguard(peer: Peer, address: IpAddr) -> Self {
        FarEnd { address, speaks: Speaks::WireGuard(Box::new(peer)) }
    }

    /// `name`: its identity. With the first of profile `modern`, and lifetimes as by default.
    pub fn esp(name: String, psk: Vec<u8>, seed: u64, address: IpAddr, now: Timestamp) -> Self {
        let appliance = Some(SocketAddr::new(APPLIANCE, number_of(Port::Ike)));
        let plan = Plan { psk, appliance, ..mixed::plan(&name, seed) };
        FarEnd { address, speaks: Speaks::Esp(Box::new(IpsecSite::new(plan, address, now))) }
    }

    /// The path by which its packets come.
    pub fn path(&self) -> Path {
        match &self.speaks {
            Speaks::WireGuard(_) => self.path_from(Port::WireGuard),
            Speaks::Esp(_) => self.path_from(Port::IkeNatT),
        }
    }

    /// The same by another port.
    pub fn path_from(&self, port: Port) -> Path {
        Path::from_port(port, SocketAddr::new(self.address, number_of(port)))
    }

    /// Its tunnel must be up.
    pub fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        match &mut self.speaks {
            Speaks::WireGuard(peer) => peer.send(packet).expect("a session"),
            Speaks::Esp(site) => {
                assert!(site.send(packet), "a Child SA");
                site.take_outgoing().pop().expect("a packet").1
            }
        }
    }

    /// WireGuard: a new handshake, though there is a session.
    pub fn initiate(&mut self) -> Option<Vec<u8>> {
        match &mut self.speaks {
            Speaks::WireGuard(peer) => peer.initiate(),
            Speaks::Esp(_) => None,
        }
    }

    /// What it answers.
    pub fn hear(&mut self, path: Path, bytes: &[u8], now: Timestamp) -> Vec<(Port, Vec<u8>)> {
        match &mut self.speaks {
            Speaks::WireGuard(peer) => {
                peer.receive(bytes).datagrams.into_iter().map(|bytes| (Port::WireGuard, bytes)).collect()
            }
            Speaks::Esp(site) => {
                let from = SocketAddr::new(APPLIANCE, number_of(path.port));
                site.handle_input(Datagram::new(Path::from_port(path.port, from), bytes), now);
                taken(site)
            }
        }
    }

    /// The inner packet of a datagram to it.
    pub fn open(&mut self, path: Path, bytes: &[u8], now: Timestamp) -> Option<Vec<u8>> {
        match &mut self.speaks {
            Speaks::WireGuard(peer) => peer.receive(bytes).packet,
            Speaks::Esp(site) => {
                let from = SocketAddr::new(APPLIANCE, number_of(path.port));
                site.handle_input(Datagram::new(Path::from_port(path.port, from), bytes), now);
                site.inbox.pop()
            }
        }
    }

    /// Until its tunnel is up. When that is.
    pub fn shake_hands(&mut self, engine: &mut Engine, mut now: Timestamp) -> Timestamp {
        let mut outgoing = match &mut self.speaks {
            Speaks::WireGuard(peer) => peer.initiate().into_iter().map(|bytes| (Port::WireGuard, bytes)).collect(),
            Speaks::Esp(site) => {
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
            while engine.poll_event().is_some() {}
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
        match &self.speaks {
            Speaks::WireGuard(peer) => peer.has_session(),
            Speaks::Esp(site) => site.is_up(),
        }
    }
}

fn taken(site: &mut IpsecSite) -> Vec<(Port, Vec<u8>)> {
    site.take_outgoing().into_iter().map(|(path, bytes)| (path.port, bytes)).collect()
}

fn number_of(port: Port) -> u16 {
    match port {
        Port::WireGuard => 51_820,
        Port::Ike => 500,
        Port::IkeNatT => 4500,
        Port::RawEsp | Port::Frames(_) | Port::Tun(_) => 0,
    }
}
