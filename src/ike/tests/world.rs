//! Gateways, the network between them, and a model of ESP that knows only what it was told to install.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::ike::sa::{Pending, Stage as SaStage};
use crate::ike::{
    ChildUp, DownReason, Encapsulation, Endpoint, Event, Failure, Identity, Lifetimes, Limits, LocalAuth, Outbound,
    PeerConfig, Profile, RemoteAuth, SelectorMode, Setup,
};
use crate::net::random::{Random, Seeded};
use crate::net::selector::Selector;
use crate::net::{Path, Port, Timestamp, TunnelId};
use crate::packet::{Datagram, Outbox};

pub const A: usize = 0;
pub const B: usize = 1;
pub const TUNNEL: TunnelId = TunnelId(3);
const LATENCY: Duration = Duration::from_millis(10);

pub struct World {
    pub now: Timestamp,
    pub hosts: Vec<Host>,
    /// By time of arrival, then in order.
    queue: BTreeMap<(Timestamp, u64), Packet>,
    sent: u64,
    pub faults: Faults,
    random: Seeded,
    /// Sees every packet; `false` drops it.
    pub filter: Box<dyn FnMut(&Packet) -> bool>,
    /// A NAT before some hosts: by host, the address and what is added to the port.
    pub nat: BTreeMap<usize, (IpAddr, u16)>,
    /// Checks after every step that what one side seals the other side opens, from when both first could: the answer to
    /// IKE_AUTH is still on its way when the responder may already seal.
    pub check_gaps: bool,
    was_up: bool,
}

/// In percent.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    pub loss: u8,
    pub double: u8,
    pub late: u8,
}

#[derive(Clone)]
pub struct Packet {
    pub number: u64,
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// As it goes over the wire, with the marker on port 4500.
    pub bytes: Vec<u8>,
}

impl Packet {
    pub fn message(&self) -> &[u8] {
        if self.bytes.starts_with(&[0; 4]) { &self.bytes[4..] } else { &self.bytes } // no SPI begins so
    }

    pub fn exchange(&self) -> u8 {
        self.message()[18]
    }

    pub fn is_response(&self) -> bool {
        self.message()[19] & 0x20 != 0
    }
}

pub struct Host {
    pub endpoint: Endpoint,
    pub ip: IpAddr,
    pub esp: Esp,
    pub events: Vec<Event>,
}

/// What `ipsec` does with what it is told.
#[derive(Default)]
pub struct Esp {
    /// By our SPI; with when it stops to be opened.
    pub opening: BTreeMap<u32, (ChildUp, Option<Timestamp>)>,
    /// Those that may be sealed with, the latest last; with whether it may be now.
    sealing: Vec<(u32, bool)>,
    /// Every SPI and key that was ever installed, to see that none comes twice.
    seen: Vec<Vec<u8>>,
}

impl Esp {
    fn install(&mut self, child: ChildUp) {
        let key = child.keys.cipher_out.to_vec();
        assert!(!self.seen.contains(&key), "a key is used twice");
        self.seen.push(key);
        self.sealing.push((child.spi_in, child.outbound == Outbound::Now));
        assert!(self.opening.insert(child.spi_in, (child, None)).is_none(), "an SPI is used twice");
    }

    fn retire(&mut self, spi_in: u32, until: Timestamp) {
        let Some((_, ends)) = self.opening.get_mut(&spi_in) else { return };
        ends.get_or_insert(until);
        self.sealing.retain(|(spi, _)| *spi != spi_in);
    }

    /// The Child SA that packets are sealed with now.
    pub fn sealing(&self) -> Option<&ChildUp> {
        let heard = self.sealing.iter().rev().find(|(_, now)| *now);
        let (spi, _) = heard.or(self.sealing.last())?; // nothing else left: what waits to be heard
        self.opening.get(spi).map(|(child, _)| child)
    }

    pub fn live(&self) -> usize {
        self.sealing.len()
    }

    /// A packet came on it: it may be sealed with.
    fn hear(&mut self, spi_in: u32) {
        if let Some(found) = self.sealing.iter_mut().find(|(spi, _)| *spi == spi_in) {
            found.1 = true;
        }
    }
}

pub fn selector(net: &str) -> Selector {
    Selector::from_net(net.parse().unwrap())
}

pub fn fqdn(name: &str) -> Identity {
    Identity::Fqdn(name.into())
}

pub fn psk(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}

/// 192.0.2.1 for A, 192.0.2.2 for B, and so on.
pub fn ip(host: usize) -> IpAddr {
    [192, 0, 2, host as u8 + 1].into()
}

/// How host `me` sees host `other`.
pub fn peer(me: usize, other: usize) -> PeerConfig {
    let net = |host: usize| vec![selector(&format!("10.{host}.0.0/16"))];
    PeerConfig {
        tunnel: TUNNEL,
        remote: Some(SocketAddr::new(ip(other), 500)),
        remote_nat_t_port: 4500,
        initiate: false,
        local_id: fqdn(&format!("gw{me}.example")),
        remote_id: fqdn(&format!("gw{other}.example")),
        local_auth: LocalAuth::Psk(psk("correct horse battery staple")),
        remote_auth: RemoteAuth::Psk(psk("correct horse battery staple")),
        ppk: None,
        profile: Profile::Modern,
        encapsulation: Encapsulation::Udp,
        ours: net(me),
        theirs: net(other),
        selector_mode: SelectorMode::View,
        lifetimes: Lifetimes::default(),
        replay_window: 1024,
        liveness: Duration::from_secs(30),
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        World {
            now: Timestamp::from_secs(100),
            hosts: Vec::new(),
            queue: BTreeMap::new(),
            sent: 0,
            faults: Faults::default(),
            random: Seeded(seed ^ 0x5eed),
            filter: Box::new(|_| true),
            nat: BTreeMap::new(),
            check_gaps: true,
            was_up: false,
        }
    }

    /// A calls B, both configured for each other.
    pub fn pair(seed: u64) -> Self {
        World::pair_with(seed, |_| {}, |_| {})
    }

    pub fn pair_with(seed: u64, a: impl FnOnce(&mut PeerConfig), b: impl FnOnce(&mut PeerConfig)) -> Self {
        let mut world = World::new(seed);
        let mut config_a = PeerConfig { initiate: true, ..peer(A, B) };
        let mut config_b = peer(B, A);
        a(&mut config_a);
        b(&mut config_b);
        world.add(seed, Limits::default(), vec![config_a]);
        world.add(seed + 1, Limits::default(), vec![config_b]);
        world
    }

    pub fn add(&mut self, seed: u64, limits: Limits, peers: Vec<PeerConfig>) -> usize {
        let host = self.hosts.len();
        let random = Box::new(Seeded(seed.wrapping_mul(7919) + host as u64));
        let setup = Setup { limits, unix_secs_at_zero: 1_782_864_000, ..Setup::new(random) };
        let mut endpoint = Endpoint::new(setup, self.now);
        endpoint.configure(peers.into_iter().map(Arc::new).collect(), self.now);
        self.hosts.push(Host { endpoint, ip: ip(host), esp: Esp::default(), events: Vec::new() });
        host
    }

    pub fn configure(&mut self, host: usize, peers: Vec<PeerConfig>) {
        let peers = peers.into_iter().map(Arc::new).collect();
        self.hosts[host].endpoint.configure(peers, self.now);
        self.take_events(host);
    }

    /// The same, with the very peers that there are where nothing is different, as reloads have it.
    pub fn configure_shared(&mut self, host: usize, peers: Vec<PeerConfig>) {
        let before: Vec<_> = self.hosts[host].endpoint.peers.iter().map(|peer| peer.config.clone()).collect();
        let share = |peer: PeerConfig| before.iter().find(|same| same.is_equal(&peer)).cloned();
        let peers = peers.into_iter().map(|peer| share(peer.clone()).unwrap_or_else(|| Arc::new(peer))).collect();
        self.hosts[host].endpoint.configure(peers, self.now);
        self.take_events(host);
    }

    /// The host forgets everything, as after a crash.
    pub fn restart(&mut self, host: usize, peers: Vec<PeerConfig>) {
        let seed = self.random.u64();
        let setup = Setup::new(Box::new(Seeded(seed)));
        let mut endpoint = Endpoint::new(setup, self.now);
        endpoint.configure(peers.into_iter().map(Arc::new).collect(), self.now);
        let host = &mut self.hosts[host];
        host.endpoint = endpoint;
        host.esp = Esp::default();
    }

    /// Until nothing happens before `until`.
    pub fn run_until(&mut self, until: Timestamp) {
        let trace = std::env::var_os("IKE_TRACE").is_some();
        for _ in 0..100_000 {
            let arrival = self.queue.keys().next().map(|(at, _)| *at);
            let timers = self.hosts.iter().filter_map(|host| host.endpoint.poll_timeout()).map(|(at, _)| at);
            let Some(next) = timers.chain(arrival).min().filter(|next| *next <= until) else {
                self.now = until;
                return self.let_linger_pass();
            };
            self.now = self.now.max(next);
            self.step();
            if trace {
                println!("{:?} A: {}", self.now, self.hosts[A].endpoint.debug_sas());
                println!("{:?} B: {}", self.now, self.hosts[B].endpoint.debug_sas());
            }
        }
        panic!("the world does not come to rest:\n{}", self.dump());
    }

    pub fn run_for(&mut self, secs: u64) {
        self.run_until(self.now + Duration::from_secs(secs));
    }

    fn step(&mut self) {
        if let Some((&key, _)) = self.queue.first_key_value()
            && key.0 <= self.now
        {
            let packet = self.queue.remove(&key).unwrap();
            self.deliver(packet);
        } else {
            for host in 0..self.hosts.len() {
                let mut outbox = Outbox::new(1 << 20, 4096);
                self.hosts[host].endpoint.handle_timeout(&mut outbox, self.now);
                self.take_events(host);
                self.send_from(host, &outbox);
            }
        }
        self.let_linger_pass();
        if self.check_gaps && self.hosts.len() == 2 {
            self.was_up |= self.is_up();
            if self.was_up {
                self.check_that_sealed_is_opened();
            }
        }
    }

    fn let_linger_pass(&mut self) {
        for host in &mut self.hosts {
            host.esp.opening.retain(|_, (_, ends)| ends.is_none_or(|ends| ends > self.now));
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let Some((host, packet)) = self.translate_in(packet) else { return };
        let outbox = self.hand_over(host, &packet);
        self.take_events(host);
        self.send_from(host, &outbox);
    }

    fn translate_in(&self, mut packet: Packet) -> Option<(usize, Packet)> {
        for (host, (outside, shift)) in &self.nat {
            let port = packet.to.port().wrapping_sub(*shift);
            if packet.to.ip() == *outside && matches!(port, 500 | 4500) {
                packet.to = SocketAddr::new(self.hosts[*host].ip, port);
                return Some((*host, packet));
            }
        }
        let host = self.hosts.iter().position(|host| host.ip == packet.to.ip())?;
        (!self.nat.contains_key(&host)).then_some((host, packet)) // nobody reaches behind a NAT directly
    }

    /// Gives a packet to a host, and what it answers.
    pub fn hand_over(&mut self, host: usize, packet: &Packet) -> Outbox {
        let port = if packet.to.port() == 4500 { Port::IkeNatT } else { Port::Ike };
        let path = Path { port, remote: packet.from, local: Some(packet.to.ip()) };
        let bytes = if port == Port::IkeNatT { packet.bytes.get(4..).unwrap_or_default() } else { &packet.bytes };
        let mut outbox = Outbox::new(1 << 20, 4096);
        let _ = self.hosts[host].endpoint.handle_input(datagram(path, bytes), &mut outbox, self.now);
        outbox
    }

    pub fn send_from(&mut self, host: usize, outbox: &Outbox) {
        for (path, _, bytes) in outbox.datagrams() {
            let port = if path.port == Port::IkeNatT { 4500 } else { 500 };
            let from = match self.nat.get(&host) {
                Some((outside, shift)) => SocketAddr::new(*outside, port + shift),
                None => SocketAddr::new(self.hosts[host].ip, port),
            };
            self.send_packet(Packet { number: self.sent, from, to: path.remote, bytes: bytes.to_vec() });
            self.sent += 1;
        }
    }

    pub fn send_packet(&mut self, packet: Packet) {
        if !(self.filter)(&packet) || self.chance(self.faults.loss) {
            return;
        }
        let copies = 1 + u64::from(self.chance(self.faults.double));
        for copy in 0..copies {
            let mut arrives = self.now + LATENCY;
            if self.chance(self.faults.late) {
                arrives = arrives + Duration::from_millis(self.random.u64() % 3000);
            }
            self.queue.insert((arrives, packet.number * 2 + copy), packet.clone());
        }
    }

    fn chance(&mut self, percent: u8) -> bool {
        percent > 0 && self.random.u64() % 100 < percent.into()
    }

    fn take_events(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        while let Some(event) = host.endpoint.poll_event() {
            match &event {
                Event::ChildUp(child) => host.esp.install((**child).clone()),
                // As at the first time: the responder may seal while its answer is still on its way.
                Event::Up { .. } => self.was_up = false,
                Event::ChildDown { spi_in, linger, .. } => host.esp.retire(*spi_in, self.now + *linger),
                _ => {}
            }
            host.events.push(event);
        }
    }

    /// Whoever seals is opened by the other side, with the same key; and opening begins sealing.
    fn check_that_sealed_is_opened(&mut self) {
        for (from, to) in [(A, B), (B, A)] {
            let Some(sealing) = self.hosts[from].esp.sealing() else { continue };
            let (spi, key) = (sealing.spi_out, sealing.keys.cipher_out.clone());
            match self.hosts[to].esp.opening.get(&spi) {
                Some((opening, _)) => {
                    assert_eq!(opening.keys.cipher_in, key);
                    self.hosts[to].esp.hear(spi);
                }
                None => panic!("host {to} does not open what host {from} seals\n{}", self.dump()),
            }
        }
    }

    pub fn is_up(&self) -> bool {
        let seals = |from: usize, to: usize| {
            let sealing = self.hosts[from].esp.sealing();
            sealing.is_some_and(|child| self.hosts[to].esp.opening.contains_key(&child.spi_out))
        };
        seals(A, B) && seals(B, A)
    }

    pub fn failures(&self, host: usize) -> Vec<Failure> {
        let endpoint = &self.hosts[host].endpoint;
        endpoint.failures(TUNNEL).iter().chain(endpoint.strangers()).map(|kept| kept.failure.clone()).collect()
    }

    pub fn downs(&self, host: usize) -> Vec<DownReason> {
        let why = |event: &Event| match event {
            Event::Down { why, .. } => Some(*why),
            _ => None,
        };
        self.hosts[host].events.iter().filter_map(why).collect()
    }

    pub fn child_ups(&self, host: usize) -> usize {
        self.hosts[host].events.iter().filter(|event| matches!(event, Event::ChildUp(_))).count()
    }

    pub fn packets_sent(&self) -> u64 {
        self.sent
    }

    pub fn dump(&self) -> String {
        let mut text = format!("at {:?}\n", self.now);
        for (n, host) in self.hosts.iter().enumerate() {
            text += &format!("host {n}: {}\n{:?}\n", host.endpoint.debug_sas(), host.endpoint.status(TUNNEL));
            for event in &host.events {
                text += &match event {
                    Event::ChildUp(child) => format!(
                        "  up {:08x} out {:08x} {:?} {:?} replaces {:08x?}\n",
                        child.spi_in, child.spi_out, child.role, child.outbound, child.replaces
                    ),
                    Event::ChildDown { spi_in, .. } => format!("  down {spi_in:08x}\n"),
                    Event::Failed { failure, .. } => format!("  failed: {failure}\n"),
                    other => format!("  {other:?}\n"),
                };
            }
        }
        text
    }
}

pub fn datagram(path: Path, bytes: &[u8]) -> Datagram<'_> {
    Datagram::new(path, bytes)
}

impl Endpoint {
    pub fn debug_sas(&self) -> String {
        let mut text = String::new();
        for (spi, entry) in &self.sas {
            let sa = &entry.sa;
            let stage = match sa.stage {
                SaStage::InitSent(_) => "init",
                SaStage::Handshake(_) => "handshake",
                SaStage::Established => "up",
                SaStage::Rekeyed => "rekeyed",
                SaStage::Deleting => "deleting",
            };
            let pending = match &sa.pending {
                None => "-".to_string(),
                Some(Pending::Child(c)) => format!("child(crossed {})", c.crossed.is_some()),
                Some(Pending::RekeyIke(c)) => format!("ike(crossed {})", c.crossed.is_some()),
                Some(Pending::DeleteChildren(s)) => format!("delete {s:x?}"),
                Some(Pending::DeleteIke) => "delete ike".into(),
                Some(Pending::Liveness) => "liveness".into(),
                Some(Pending::ProbePath(p)) => format!("probe {}", p.outer_bytes),
            };
            let kids: Vec<String> = sa.children.iter().map(|c| format!("{:08x}:{:?}", c.spi_in, c.state)).collect();
            text += &format!(
                "[{:04x}/{:04x} {:?} {stage} sent {} {pending} {:?} kids {kids:?}] ",
                spi >> 48,
                sa.their_spi >> 48,
                sa.role,
                sa.outgoing.sent(),
                sa.tasks
            );
        }
        text
    }
}
