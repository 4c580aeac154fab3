//! Two whole gateways, IKE and ESP, and a network between them that does what the input says.
//!
//! The first two bytes are the configuration, then come [deeds](World::perform): a message is delivered, lost, doubled,
//! overtaken, damaged, cut, joined with another, sent back, sent again from elsewhere; time passes; a gateway restarts or is
//! configured anew; a packet wants through. After every deed the bounds must hold. At the end the network is a good one
//! for ten minutes, and after these a packet must pass each way, whatever happened before.
//!
//! All randomness is seeded but for the secrets of Diffie-Hellman, which nothing here depends on.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ixgate::dataplane::child_sa;
use ixgate::ike::{
    self, Encapsulation, Identity, LocalAuth, PeerConfig, Ppk, Profile, RemoteAuth, SelectorMode, Setup,
};
use ixgate::ipsec::{self, Dscp};
use ixgate::net::random::{Random, Seeded};
use ixgate::net::{Path, Port, Selector, Timestamp, TunnelId};
use ixgate::packet::{Datagram, Opened, Outbox};
use ixgate::wire::ipv4;
use zeroize::Zeroizing;

use super::script::Script;

const TUNNEL: TunnelId = TunnelId(0);
/// What is under way, and what has been seen and may come again.
const MAX_FLYING: usize = 64;
const MAX_SEEN: usize = 64;
const MAX_DEEDS: usize = 400;
/// Nobody has so much to do without new messages.
const MAX_STEPS: usize = 20_000;
const HALF_OPEN: usize = 16;
const PATIENCE: Duration = Duration::from_secs(600);

/// A script is played to its end, then peace must return.
pub fn endpoint(bytes: &[u8]) {
    let mut script = Script(bytes);
    let (Some(setting), Some(manner)) = (script.u8(), script.u8()) else { return };
    let mut world = World::new(setting, manner);
    for _ in 0..MAX_DEEDS {
        if world.perform(&mut script).is_none() {
            break;
        }
        world.check_bounds();
    }
    world.come_to_rest();
}

struct World {
    now: Timestamp,
    gateways: [Gateway; 2],
    flying: Vec<Flying>,
    seen: Vec<Flying>,
    random: Seeded,
    /// `FUZZ_TRACE=1` shows what arrives and what comes of it.
    trace: bool,
    /// Empty, for whoever has something to send.
    spare: Option<Outbox>,
}

#[derive(Clone)]
struct Flying {
    from: SocketAddr,
    to: IpAddr,
    port: Port,
    bytes: Vec<u8>,
}

struct Gateway {
    ike: ike::Endpoint,
    esp: ipsec::Endpoint,
    config: PeerConfig,
    /// Every key that was ever sealed with.
    keys: HashSet<Vec<u8>>,
    packets_opened: u64,
}

impl World {
    fn new(setting: u8, manner: u8) -> World {
        let now = Timestamp::from_secs(1000);
        let mut random = Seeded(u64::from(setting) << 8 | u64::from(manner));
        let gateways = [0, 1].map(|me| Gateway::new(config(me, setting, manner), random.u64(), now));
        let trace = std::env::var_os("FUZZ_TRACE").is_some();
        let mut world = World { now, gateways, flying: Vec::new(), seen: Vec::new(), random, trace, spare: None };
        world.settle_all();
        world
    }

    /// `None`: the script is over.
    fn perform(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (deed, which) = (script.u8()?, script.u8()?);
        let host = usize::from(which & 1);
        match deed % 24 {
            0..=3 => self.deliver_next(),
            4 => {
                if let Some(at) = self.flying_at(which) {
                    let flying = self.flying.remove(at);
                    self.deliver(&flying);
                }
            }
            5 => {
                if let Some(at) = self.flying_at(which) {
                    self.flying.remove(at);
                }
            }
            6 => {
                if let Some(at) = self.flying_at(which) {
                    self.fly(self.flying[at].clone());
                }
            }
            7 => {
                let (offset, mask) = (script.u16()?, script.u8()?);
                self.change(which, |bytes| {
                    let at = usize::from(offset) % bytes.len().max(1);
                    bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= mask);
                });
            }
            8 => {
                let len = usize::from(script.u16()?);
                self.change(which, |bytes| bytes.truncate(len % (bytes.len() + 1)));
            }
            9 => {
                let (other, cut) = (script.u8()?, usize::from(script.u16()?));
                let Some(tail) = pick(&self.seen, other).map(|seen| seen.bytes.clone()) else { return Some(()) };
                self.change(which, |bytes| {
                    let cut = cut % (bytes.len() + 1);
                    bytes.truncate(cut);
                    bytes.extend(tail.iter().skip(cut));
                });
            }
            10 => {
                if let Some(seen) = pick(&self.seen, which) {
                    self.fly(seen.clone());
                }
            }
            11 => {
                let elsewhere = script.u8()?;
                if let Some(seen) = pick(&self.seen, which) {
                    self.fly(Flying { from: stranger(elsewhere), ..seen.clone() });
                }
            }
            12 => {
                let (elsewhere, len) = (script.u8()?, usize::from(script.u8()?));
                let port = [Port::Ike, Port::IkeNatT, Port::RawEsp][usize::from(which >> 1) % 3];
                let from =
                    if elsewhere < 128 { SocketAddr::new(ip(1 - host), number(port)) } else { stranger(elsewhere) };
                let bytes = script.bytes(len * 4).to_vec();
                self.fly(Flying { from, to: ip(host), port, bytes });
            }
            13 => self.wait(Duration::from_millis(u64::from(which) * 100)),
            14 => {
                if let Some(next) = self.next_deadline() {
                    self.wait(next.saturating_since(self.now));
                }
            }
            15 => self.run(Duration::from_secs(which.into())),
            16 => self.send_packet(host),
            17 => self.restart(host),
            18 => self.wear_out(host, which & 2 != 0),
            19 => {
                // Back to where it came from.
                if let Some(at) = self.flying_at(which) {
                    let flying = &mut self.flying[at];
                    (flying.from, flying.to) = (SocketAddr::new(flying.to, number(flying.port)), flying.from.ip());
                }
            }
            20 => {
                let elsewhere = script.u8()?;
                if let Some(at) = self.flying_at(which) {
                    self.flying[at].from = stranger(elsewhere);
                }
            }
            21 => {
                let (offset, len) = (usize::from(script.u16()?), usize::from(script.u8()?));
                let inserted = script.bytes(len);
                self.change(which, |bytes| {
                    let at = offset % (bytes.len() + 1);
                    bytes.splice(at..at, inserted.iter().copied());
                });
            }
            22 => self.change(which, |bytes| set_length(bytes)),
            _ => self.configure_anew(host, which >> 1),
        }
        Some(())
    }

    fn flying_at(&self, which: u8) -> Option<usize> {
        usize::from(which).checked_rem(self.flying.len())
    }

    fn change(&mut self, which: u8, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(at) = self.flying_at(which) {
            change(&mut self.flying[at].bytes);
        }
    }

    fn fly(&mut self, flying: Flying) {
        if self.flying.len() == MAX_FLYING {
            self.flying.remove(0);
        }
        self.flying.push(flying);
    }

    fn deliver_next(&mut self) {
        if !self.flying.is_empty() {
            let flying = self.flying.remove(0);
            self.deliver(&flying);
        }
    }

    fn deliver(&mut self, flying: &Flying) {
        if self.trace {
            let start = if flying.bytes.starts_with(&[0; 4]) { 4 } else { 0 };
            let head: Vec<u8> = flying.bytes.iter().skip(start).take(28).copied().collect();
            eprintln!("{:?} {} -> {} {} bytes {head:02x?}", self.now, flying.from, flying.to, flying.bytes.len());
        }
        if let Some(host) = [0, 1].into_iter().find(|host| ip(*host) == flying.to) {
            let mut outbox = self.outbox();
            self.gateways[host].receive(flying, &mut outbox, self.now);
            self.settle(host, outbox);
        }
    }

    /// After anything was done to a gateway: the two halves talk, and what is to be sent flies.
    fn settle(&mut self, host: usize, mut outbox: Outbox) {
        self.gateways[host].carry_over(self.now, if self.trace { Some(host) } else { None });
        for (path, _, bytes) in outbox.datagrams() {
            let from = SocketAddr::new(ip(host), number(path.port));
            let flying = Flying { from, to: path.remote.ip(), port: path.port, bytes: bytes.to_vec() };
            if self.seen.len() == MAX_SEEN {
                self.seen.remove(0);
            }
            self.seen.push(flying.clone());
            self.fly(flying);
        }
        outbox.clear();
        self.spare = Some(outbox);
    }

    fn outbox(&mut self) -> Outbox {
        self.spare.take().unwrap_or_else(|| Outbox::new(1 << 17, 512))
    }

    fn settle_all(&mut self) {
        for host in [0, 1] {
            let mut outbox = self.outbox();
            self.gateways[host].tick(&mut outbox, self.now);
            self.settle(host, outbox);
        }
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.gateways.iter().filter_map(Gateway::poll_timeout).min()
    }

    /// Time passes, and nothing arrives.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..MAX_STEPS {
            let Some(next) = self.next_deadline().filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            self.settle_all();
        }
        panic!("a gateway does not come to rest");
    }

    /// Time passes, and everything arrives.
    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..MAX_STEPS {
            if !self.flying.is_empty() {
                self.now = self.now + Duration::from_millis(1);
                self.deliver_next();
                continue;
            }
            let Some(next) = self.next_deadline().filter(|next| *next <= until) else {
                self.now = self.now.max(until);
                return;
            };
            self.now = self.now.max(next);
            self.settle_all();
        }
        panic!("the gateways do not come to rest");
    }

    /// Whether it left; whether it arrives is the network's business.
    fn send_packet(&mut self, host: usize) {
        let mut outbox = self.outbox();
        let gateway = &mut self.gateways[host];
        if gateway.esp.seal(TUNNEL, &packet(host), &mut outbox).is_err() {
            gateway.ike.want(TUNNEL, self.now);
        }
        self.settle(host, outbox);
    }

    fn restart(&mut self, host: usize) {
        let config = self.gateways[host].config.clone();
        self.gateways[host] = Gateway::new(config, self.random.u64(), self.now);
        self.settle_all();
    }

    fn wear_out(&mut self, host: usize, wholly: bool) {
        let gateway = &mut self.gateways[host];
        let Some(newest) = gateway.esp.sas(TUNNEL).last().map(|sa| sa.spi_in) else { return };
        match wholly {
            true => gateway.ike.expire_child(TUNNEL, newest, self.now),
            false => gateway.ike.rekey_child(TUNNEL, newest, self.now),
        }
        self.settle_all();
    }

    fn configure_anew(&mut self, host: usize, how: u8) {
        let gateway = &mut self.gateways[host];
        let mut config = gateway.config.clone();
        match how % 4 {
            0 => {}
            1 => config.liveness = Duration::from_secs(7),
            2 => config.selector_mode = SelectorMode::Any,
            _ => config.theirs.truncate(1),
        }
        let peers = if how & 0x40 == 0 { vec![Arc::new(config)] } else { Vec::new() };
        gateway.ike.configure(peers, self.now);
        self.settle_all();
    }

    fn check_bounds(&self) {
        for gateway in &self.gateways {
            let (sas, half_open) = gateway.ike.sa_counts();
            assert!(half_open <= HALF_OPEN, "{half_open} half-open IKE SAs");
            assert!(sas <= HALF_OPEN + 32, "{sas} IKE SAs");
            assert!(gateway.ike.child_spi_count() <= 256, "{} SPIs", gateway.ike.child_spi_count());
            assert!(gateway.esp.sa_count() <= 256, "{} SAs", gateway.esp.sa_count());
            assert_eq!(gateway.ike.events_lost(), 0);
        }
    }

    /// A good network, and both configured as at first.
    fn come_to_rest(&mut self) {
        for gateway in &mut self.gateways {
            let config = Arc::new(gateway.config.clone());
            gateway.ike.configure(vec![config], self.now);
        }
        self.settle_all();
        self.run(PATIENCE);
        self.check_bounds();
        for (gateway, side) in self.gateways.iter().zip(["the first", "the second"]) {
            let status = gateway.ike.status(TUNNEL);
            let (sas, half_open) = gateway.ike.sa_counts();
            assert!(
                half_open == 0 && (1..=2).contains(&sas),
                "{side} has {sas} IKE SAs, {half_open} half-open: {status:#?}"
            );
            let (spis, children) = (gateway.ike.child_spi_count(), status.map_or(0, |status| status.children.len()));
            assert!(spis <= children + 8, "{side} keeps {spis} SPIs for {children} Child SAs");
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let before = self.gateways[to].packets_opened;
            self.send_packet(from);
            self.run(Duration::from_millis(10));
            let after = self.gateways[to].packets_opened;
            assert_eq!(after, before + 1, "no packet passes from {from} to {to}: {}", self.dump());
        }
    }

    fn dump(&self) -> String {
        let of = |gateway: &Gateway| {
            let sas: Vec<_> = gateway.esp.sas(TUNNEL).collect();
            let failures = gateway.ike.failures(TUNNEL).iter().chain(gateway.ike.strangers());
            let failures: Vec<String> = failures.map(|kept| kept.failure.to_string()).collect();
            format!("{:#?}\n{sas:#?}\n{failures:#?}\n", gateway.ike.status(TUNNEL))
        };
        self.gateways.iter().map(of).collect()
    }
}

impl Gateway {
    fn new(config: PeerConfig, seed: u64, now: Timestamp) -> Gateway {
        let limits = ike::Limits {
            half_open: HALF_OPEN,
            half_open_per_source: 12,
            cookie_threshold: 8,
            ..ike::Limits::default()
        };
        let setup = Setup { limits, ..Setup::new(Box::new(Seeded(seed))) };
        let mut ike = ike::Endpoint::new(setup, now);
        ike.configure(vec![Arc::new(config.clone())], now);
        let esp = ipsec::Endpoint::new(ipsec::Limits::default(), seed);
        Gateway { ike, esp, config, keys: HashSet::new(), packets_opened: 0 }
    }

    fn receive(&mut self, flying: &Flying, outbox: &mut Outbox, now: Timestamp) {
        let path = Path { port: flying.port, remote: flying.from, local: Some(flying.to) };
        match (flying.port, flying.bytes.as_slice()) {
            (Port::Ike, message) | (Port::IkeNatT, [0, 0, 0, 0, message @ ..]) => {
                let _ = self.ike.handle_input(Datagram::new(path, message), outbox, now);
            }
            (Port::IkeNatT, [0xff]) => {}
            (_, packet) => self.open(Datagram::new(path, packet), now),
        }
    }

    fn open(&mut self, datagram: Datagram<'_>, now: Timestamp) {
        let mut out = vec![0; datagram.bytes.len()];
        match self.esp.open(datagram, &mut out, now) {
            Opened::Packet { tunnel, len } => {
                assert!(tunnel == TUNNEL && len <= out.len());
                self.packets_opened += 1;
                self.ike.note_heard(tunnel, now);
            }
            Opened::Keepalive { tunnel } => self.ike.note_heard(tunnel, now),
            Opened::Control => panic!("ESP has no messages of its own"),
            Opened::Dropped { .. } => {}
        }
    }

    fn tick(&mut self, outbox: &mut Outbox, now: Timestamp) {
        self.ike.handle_timeout(outbox, now);
        self.esp.handle_timeout(outbox, now);
    }

    fn poll_timeout(&self) -> Option<Timestamp> {
        let deadlines = [self.ike.poll_timeout(), self.esp.poll_timeout()];
        deadlines.into_iter().flatten().map(|(at, _)| at).min()
    }

    fn carry_over(&mut self, now: Timestamp, trace: Option<usize>) {
        while let Some(event) = self.esp.poll_event() {
            match event {
                ipsec::Event::RekeyDue { tunnel, spi_in } => self.ike.rekey_child(tunnel, spi_in, now),
                ipsec::Event::Expired { tunnel, spi_in } => self.ike.expire_child(tunnel, spi_in, now),
                ipsec::Event::Moved { tunnel, to, .. } => self.ike.note_moved(tunnel, to),
            }
        }
        while let Some(event) = self.ike.poll_event() {
            if let Some(host) = trace {
                eprintln!("{now:?} gateway {host}: {event:?}");
            }
            match event {
                ike::Event::ChildUp(child) => {
                    assert!(self.keys.insert(child.keys.cipher_out.to_vec()), "a key is used twice");
                    let child = child_sa(*child, Dscp::Copy).expect("the lengths come from the suite");
                    self.esp.install(child, now).expect("what IKE agreed on can be installed");
                }
                ike::Event::ChildDown { spi_in, linger, .. } => self.esp.retire(spi_in, linger, now),
                ike::Event::PathMoved { tunnel, path, follow_path } => self.esp.move_path(tunnel, path, follow_path),
                ike::Event::Failed { failure, .. } => assert!(failure.to_string().len() < 16_384),
                _ => {}
            }
        }
    }
}

/// How gateway `me` sees the other one: everything that both must agree on is in `setting`.
fn config(me: usize, setting: u8, manner: u8) -> PeerConfig {
    let secret = || Zeroizing::new(b"a secret that both sides know".to_vec());
    let net =
        |host: usize, third: u8| Selector::from_net(format!("10.{host}.{third}.0/24").parse().expect("a network"));
    let nets = |host: usize| vec![net(host, 0), net(host, 1)];
    let ppk = Ppk { id: b"ppk".to_vec(), secret: secret(), required: setting & 0x20 != 0 };
    PeerConfig {
        tunnel: TUNNEL,
        remote: Some(SocketAddr::new(ip(1 - me), 500)),
        remote_nat_t_port: 4500,
        initiate: me == 0 || manner & 1 != 0,
        local_id: Identity::Fqdn(format!("gw{me}.example")),
        remote_id: Identity::Fqdn(format!("gw{}.example", 1 - me)),
        local_auth: LocalAuth::Psk(secret()),
        remote_auth: RemoteAuth::Psk(secret()),
        ppk: (setting & 0x10 != 0).then_some(ppk),
        profile: Profile::ALL[usize::from(setting & 3) % 3],
        encapsulation: [Encapsulation::Udp, Encapsulation::Auto, Encapsulation::Esp][usize::from(setting >> 2 & 3) % 3],
        ours: nets(me),
        theirs: nets(1 - me),
        selector_mode: [SelectorMode::View, SelectorMode::Any, SelectorMode::Pairs][usize::from(setting >> 6) % 3],
        lifetimes: ike::Lifetimes {
            ike: Duration::from_secs(if manner & 2 != 0 { 90 } else { 14_400 }),
            child: Duration::from_secs(if manner & 4 != 0 { 60 } else { 3600 }),
            child_packets: if manner & 8 != 0 { 10 } else { 1 << 40 },
            ..ike::Lifetimes::default()
        },
        replay_window: 64,
        liveness: Duration::from_secs(10),
    }
}

fn ip(host: usize) -> IpAddr {
    [192, 0, 2, host as u8 + 1].into()
}

fn stranger(which: u8) -> SocketAddr {
    ([203, 0, 113, which], if which & 1 == 0 { 500 } else { 4500 }).into()
}

fn number(port: Port) -> u16 {
    match port {
        Port::Ike => 500,
        Port::IkeNatT => 4500,
        Port::RawEsp | Port::WireGuard | Port::Frames(_) | Port::Tun(_) => 0,
    }
}

/// From behind `host` to behind the other one.
fn packet(host: usize) -> Vec<u8> {
    let end = |host: usize| std::net::Ipv4Addr::new(10, host as u8, 0, 5);
    let mut header = [0; ipv4::MIN_HEADER_BYTES];
    ipv4::emit(&mut header, 40, 64, 17, end(host), end(1 - host));
    [&header[..], &[0; 40]].concat()
}

fn pick(seen: &[Flying], which: u8) -> Option<&Flying> {
    seen.get(usize::from(which).checked_rem(seen.len())?)
}

/// The header's length field says what is there, so that more than the length is looked at.
fn set_length(bytes: &mut [u8]) {
    let marker = if bytes.starts_with(&[0; 4]) { 4 } else { 0 };
    let length = (bytes.len() - marker.min(bytes.len())) as u32;
    if let Some(field) = bytes.get_mut(marker + 24..marker + 28) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}
