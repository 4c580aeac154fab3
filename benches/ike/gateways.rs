//! The appliance and its peers, and what goes over the wire between them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ixgate::dataplane::child_sa;
use ixgate::ike::{
    self, Encapsulation, Event, Identity, Lifetimes, LocalAuth, PeerConfig, RemoteAuth, SelectorMode, Setup,
};
use ixgate::ipsec::{self, Dscp};
use ixgate::net::random::Seeded;
use ixgate::net::selector::Selector;
use ixgate::net::{Path, Port, Timestamp, TunnelId};
use ixgate::packet::{Datagram, Outbox};

use super::methods::{Credentials, Method, UNIX_SECS};

pub const START: Timestamp = Timestamp::from_secs(1000);
const APPLIANCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// One IKE message as it arrives, without the marker of the NAT traversal port.
pub struct Message {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

pub fn address(peer: usize) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + peer as u32 + 1).into()
}

/// Which peer has this address.
pub fn peer_at(address: IpAddr) -> Option<usize> {
    match address {
        IpAddr::V4(address) => (address.to_bits() as usize).checked_sub(0x0a00_0001),
        IpAddr::V6(_) => None,
    }
}

/// The appliance: IKE and ESP, and between them what `dataplane` does.
pub struct Appliance {
    ike: ike::Endpoint,
    esp: ipsec::Endpoint,
    outbox: Outbox,
    /// Child SAs installed since the start, and tunnels that failed.
    pub installed: usize,
    pub failures: usize,
}

impl Appliance {
    /// With so many peers, none of which is up. `calls`: it begins.
    pub fn new(method: Method, credentials: &Credentials, peers: usize, calls: bool) -> Self {
        let local = credentials.local("ix.example");
        let config = |peer: usize| {
            let remote = SocketAddr::new(address(peer), 500);
            let config = config(method, "ix.example", &name(peer), (local.clone(), credentials.remote()));
            Arc::new(PeerConfig {
                tunnel: TunnelId(peer as u32),
                remote: Some(remote),
                initiate: calls,
                ours: vec![selector("100.64.0.0/10")],
                theirs: vec![selector("192.168.1.0/24")],
                ..config
            })
        };
        let mut ike = ike::Endpoint::new(setup(1), START);
        ike.configure((0..peers).map(config).collect(), START);
        Appliance {
            ike,
            esp: ipsec::Endpoint::new(ipsec::Limits::default(), 7),
            outbox: Outbox::new(1 << 20, 4096),
            installed: 0,
            failures: 0,
        }
    }

    /// What the worker does with a received message. Answers wait in `take_sent`.
    pub fn handle_input(&mut self, message: &Message, now: Timestamp) {
        let path = Path { port: port(message.to), remote: message.from, local: Some(APPLIANCE) };
        let _ = self.ike.handle_input(Datagram::new(path, &message.bytes), &mut self.outbox, now);
        self.carry_over(now);
    }

    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.ike.handle_timeout(&mut self.outbox, now);
        self.carry_over(now);
    }

    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.ike.poll_timeout().map(|(at, _)| at)
    }

    pub fn take_sent(&mut self) -> Vec<Message> {
        taken(&mut self.outbox, APPLIANCE)
    }

    pub fn sas(&self) -> (usize, usize) {
        (self.ike.sa_counts().0, self.esp.sa_count())
    }

    fn carry_over(&mut self, now: Timestamp) {
        while let Some(event) = self.ike.poll_event() {
            match event {
                Event::ChildUp(child) => {
                    let child = child_sa(*child, Dscp::Copy).expect("the lengths come from the suite");
                    self.esp.install(child, now).expect("within the limits");
                    self.installed += 1;
                }
                Event::ChildDown { spi_in, linger, .. } => self.esp.retire(spi_in, linger, now),
                Event::Failed { .. } => self.failures += 1,
                _ => {}
            }
        }
    }
}

/// One peer's IKE. Its ESP is not needed.
pub struct Peer {
    ike: ike::Endpoint,
    outbox: Outbox,
    pub address: IpAddr,
}

impl Peer {
    /// `calls`: it begins, at once.
    pub fn new(method: Method, credentials: &Credentials, peer: usize, calls: bool) -> Self {
        let mut ike = ike::Endpoint::new(setup(peer as u64 + 2), START);
        let auth = (credentials.local(&name(peer)), credentials.remote());
        let config = config(method, &name(peer), "ix.example", auth);
        ike.configure(vec![Arc::new(PeerConfig { initiate: calls, ..config })], START);
        Peer { ike, outbox: Outbox::new(16 << 10, 16), address: address(peer) }
    }

    pub fn handle_input(&mut self, message: &Message, now: Timestamp) -> Vec<Message> {
        let path = Path { port: port(message.to), remote: message.from, local: Some(self.address) };
        let _ = self.ike.handle_input(Datagram::new(path, &message.bytes), &mut self.outbox, now);
        self.drain()
    }

    pub fn handle_timeout(&mut self, now: Timestamp) -> Vec<Message> {
        self.ike.handle_timeout(&mut self.outbox, now);
        self.drain()
    }

    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.ike.poll_timeout().map(|(at, _)| at)
    }

    fn drain(&mut self) -> Vec<Message> {
        while self.ike.poll_event().is_some() {}
        taken(&mut self.outbox, self.address)
    }
}

fn setup(seed: u64) -> Setup {
    let at_start = START.as_micros() / 1_000_000;
    Setup { unix_secs_at_zero: UNIX_SECS - at_start, ..Setup::new(Box::new(Seeded(seed))) }
}

fn name(peer: usize) -> String {
    format!("gw{peer}.example")
}

fn selector(net: &str) -> Selector {
    Selector::from_net(net.parse().expect("a network"))
}

/// As a peer has it.
fn config(method: Method, ours: &str, theirs: &str, auth: (LocalAuth, RemoteAuth)) -> PeerConfig {
    PeerConfig {
        tunnel: TunnelId(0),
        remote: Some(SocketAddr::new(APPLIANCE, 500)),
        remote_nat_t_port: 4500,
        initiate: false,
        local_id: Identity::Fqdn(ours.into()),
        remote_id: Identity::Fqdn(theirs.into()),
        local_auth: auth.0,
        remote_auth: auth.1,
        ppk: None,
        profile: method.profile(),
        encapsulation: Encapsulation::Udp,
        ours: vec![selector("192.168.1.0/24")],
        theirs: vec![selector("100.64.0.0/10")],
        selector_mode: SelectorMode::View,
        lifetimes: Lifetimes::default(),
        replay_window: 1024,
        liveness: Duration::from_secs(30),
    }
}

fn port(address: SocketAddr) -> Port {
    if address.port() == 4500 { Port::IkeNatT } else { Port::Ike }
}

fn taken(outbox: &mut Outbox, from: IpAddr) -> Vec<Message> {
    let message = |(path, _, bytes): (Path, bool, &[u8])| match path.port {
        Port::IkeNatT => Message { from: SocketAddr::new(from, 4500), to: path.remote, bytes: bytes[4..].to_vec() },
        _ => Message { from: SocketAddr::new(from, 500), to: path.remote, bytes: bytes.to_vec() },
    };
    let messages = outbox.datagrams().map(message).collect();
    outbox.clear();
    messages
}
