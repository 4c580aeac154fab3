//! A million random, mutated, forged, replayed and truncated packets, inner and outer, between realms that share every
//! address, port and host number. Nothing may arrive that was not agreed, nothing may arrive at the wrong realm, nothing
//! may panic, and the account of drops must balance after every datagram.
//!
//! The oracle is a page of arithmetic over the configured prefixes. It knows nothing of the compiled tables.
//!
//! `IXGATE_CROSSING_PACKETS=N` and `IXGATE_SEED=N` change the number and the draw; a failure prints the seed.

use std::collections::{BTreeMap, HashSet};
use std::env;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ixgate::net::policy::protocol;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::lan::Lan;
use ixgate::sim::packets::{cut, echo, joined, packet, port_unreachable, tcp, udp};
use ixgate::sim::random::Random;
use ixgate::wire::fragment;
use ixgate::wire::headers::{Headers, Transport, parse};

const PACKETS: u64 = 1_000_000;
const REALMS: usize = 5;
const NAMES: [&str; REALMS] = ["r0", "r1", "r2", "r3", "r4"];
/// r0 may open udp/53 and tcp/443 of host 7 in r1; r2 may ping r3; r3 may open anything in r4. Nothing else.
const GRANTS: &str = r#"
[[host]]
name = "h"
realm = "r1"
address = ["192.168.1.7", "fd00:0:0:1::7"]
[[service]]
name = "s"
host = "h.r1"
ports = ["udp/53", "tcp/443"]
[[grant]]
from = ["r0"]
to = ["s"]
[[grant]]
from = ["r2"]
to = ["realm:r3"]
ports = ["icmp"]
[[grant]]
from = ["r3"]
to = ["realm:r4"]
ports = ["any"]
"#;

/// A flow as the oracle sees it: realm, host number and port of each side.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct OracleFlow {
    from: (usize, u8, u16),
    to: (usize, u8, u16),
    protocol: u8,
    is_v6: bool,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Kind {
    Ping,
    Pong,
    Else,
}

impl OracleFlow {
    fn new(from: (usize, u8), to: (usize, u8), headers: &Headers) -> Self {
        let (from_port, to_port, kind) = match headers.transport {
            Transport::Tcp { source_port, destination_port, .. } | Transport::Udp { source_port, destination_port } => {
                (source_port, destination_port, Kind::Else)
            }
            Transport::EchoRequest { ident } => (ident, ident, Kind::Ping),
            Transport::EchoReply { ident } => (ident, ident, Kind::Pong),
            _ => (0, 0, Kind::Else),
        };
        let from = (from.0, from.1, from_port);
        OracleFlow { from, to: (to.0, to.1, to_port), protocol: headers.protocol, is_v6: headers.is_v6(), kind }
    }

    /// What the other side sends.
    fn reply(self) -> Self {
        let kind = match self.kind {
            Kind::Ping => Kind::Pong,
            Kind::Pong => Kind::Ping,
            Kind::Else => Kind::Else,
        };
        OracleFlow { from: self.to, to: self.from, kind, ..self }
    }
}

struct Oracle {
    /// The third byte of each realm's alias 100.64.x.0/24, the same for every viewer.
    alias: [u8; REALMS],
    /// Everything that has been delivered so far, as it was sent.
    delivered: HashSet<OracleFlow>,
}

impl Oracle {
    /// Whose host an address is, as anybody else sees it.
    fn realm_of_alias(&self, address: IpAddr) -> Option<(usize, u8)> {
        match address {
            IpAddr::V4(address) => {
                let [100, 64, third, host] = address.octets() else { return None };
                Some((self.alias.iter().position(|alias| *alias == third)?, host))
            }
            IpAddr::V6(address) => {
                let [0xfd00, 0, 0, realm, 0, 0, 0, host] = address.segments() else { return None };
                Some((usize::from(realm), u8::try_from(host).ok()?)).filter(|(realm, _)| *realm < REALMS)
            }
        }
    }

    fn alias_of(&self, realm: usize, host: u8, is_v6: bool) -> IpAddr {
        match is_v6 {
            true => own6(realm, host),
            false => Ipv4Addr::new(100, 64, self.alias[realm], host).into(),
        }
    }

    /// May `flow` be opened, by the text of GRANTS?
    fn is_granted(flow: &OracleFlow) -> bool {
        let (to_realm, to_host, to_port) = flow.to;
        match (flow.from.0, to_realm) {
            (0, 1) => to_host == 7 && matches!((flow.protocol, to_port), (protocol::UDP, 53) | (protocol::TCP, 443)),
            (2, 3) => flow.kind == Kind::Ping,
            (3, 4) => flow.kind != Kind::Pong,
            _ => false,
        }
    }

    /// A granted packet opens its session even when it dies here because its hops ran out.
    fn note_dying(&mut self, sender: usize, sent: &[u8]) {
        let Some(headers) = parse(sent).ok().filter(|headers| headers.hop_limit <= 1) else { return };
        let from = native_host(sender, headers.source);
        if let (Some(from), Some(to)) = (from, self.realm_of_alias(headers.destination)) {
            let flow = OracleFlow::new((sender, from), to, &headers);
            if Self::is_granted(&flow) {
                self.delivered.insert(flow);
            }
        }
    }

    /// Judges a packet that `sender` sent as `sent` and that came out at `receiver` as `arrived`.
    fn judge(&mut self, sender: usize, sent: &[u8], receiver: usize, arrived: &[u8]) {
        let Ok(after) = parse(arrived) else { panic!("what arrived cannot be read: {arrived:02x?}") };
        let before = parse(sent);
        let is_a_routers = before.is_ok_and(|before| is_a_routers(sender, &before));
        if !is_a_routers && self.is_from_the_ix(sender, receiver, &after) {
            return;
        }
        let before = before.expect("only a packet that can be read is forwarded");
        let (to_realm, to_host) = self.realm_of_alias(before.destination).expect("the destination was an alias");
        assert_eq!(to_realm, receiver, "it went to another realm than it was sent to");
        assert_eq!(native_host(receiver, after.destination), Some(to_host), "it went to another host");
        assert_eq!(after.hop_limit + 1, before.hop_limit);
        if is_a_routers {
            assert!(matches!(ix_host(after.source), Some(1)), "a router without an address here is shown as the IX");
            return self.judge_error(sender, receiver, to_host, &sent[before.transport_offset + 8..]);
        }
        let from_host = native_host(sender, before.source).expect("the source was the sender's own");
        assert_eq!(
            self.realm_of_alias(after.source),
            Some((sender, from_host)),
            "its source is not the sender's alias"
        );
        if before.transport == Transport::IcmpError {
            return self.judge_error(sender, receiver, to_host, &sent[before.transport_offset + 8..]);
        }
        let flow = OracleFlow::new((sender, from_host), (receiver, to_host), &before);
        let agreed = Self::is_granted(&flow) || self.delivered.contains(&flow.reply());
        assert!(agreed, "nobody agreed to {flow:?}");
        self.delivered.insert(flow);
    }

    /// An error may arrive about a packet that its receiver has sent to a host of the realm that reports.
    fn judge_error(&self, reporter: usize, receiver: usize, to_host: u8, quoted: &[u8]) {
        let quoted = ixgate::wire::headers::parse_quoted(quoted).expect("a quote that can be read");
        assert_eq!(self.realm_of_alias(quoted.source), Some((receiver, to_host)), "it quotes somebody else's packet");
        let host = native_host(reporter, quoted.destination).expect("a host of the reporting realm");
        let flow = OracleFlow::new((receiver, to_host), (reporter, host), &quoted);
        let was_sent = self.delivered.contains(&flow) || self.delivered.contains(&flow.reply());
        assert!(was_sent, "about nothing that was sent: {flow:?}");
    }

    /// The IX may answer its asker, and tell a sender why its packet died. Nobody else.
    fn is_from_the_ix(&self, sender: usize, receiver: usize, arrived: &Headers) -> bool {
        let Some(host) = ix_host(arrived.source) else { return false };
        assert_eq!(sender, receiver, "the IX spoke to another realm");
        assert!(native_host(receiver, arrived.destination).is_some(), "not an address of the realm");
        match arrived.transport {
            Transport::IcmpError => assert_eq!(host, 1),
            Transport::EchoReply { .. } => assert!(matches!(host, 1 | 53)),
            Transport::Udp { source_port, .. } | Transport::Tcp { source_port, .. } => {
                assert_eq!((host, source_port), (53, 53));
            }
            _ => panic!("the IX sends no such thing: {arrived:?}"),
        }
        true
    }
}

/// An error by a router of the sender's realm that has no address of that realm's networks.
fn is_a_routers(sender: usize, sent: &Headers) -> bool {
    sent.transport == Transport::IcmpError && native_host(sender, sent.source).is_none()
}

/// The host number of one of the IX's own addresses.
fn ix_host(address: IpAddr) -> Option<u8> {
    match address {
        IpAddr::V4(address) => match address.octets() {
            [100, 64, 0, host] => Some(host),
            _ => None,
        },
        IpAddr::V6(address) => match address.segments() {
            [0xfd69, 0x7867, 0x6174, 0, 0, 0, 0, host] => Some(host as u8),
            _ => None,
        },
    }
}

/// The host number of an address on `realm`'s own wires.
fn native_host(realm: usize, address: IpAddr) -> Option<u8> {
    match address {
        IpAddr::V4(address) => match address.octets() {
            [192, 168, 1, host] => Some(host),
            _ => None,
        },
        IpAddr::V6(address) => match address.segments() {
            [0xfd00, 0, 0, at, 0, 0, 0, host] if usize::from(at) == realm => u8::try_from(host).ok(),
            _ => None,
        },
    }
}

/// Every realm's IPv6 network is its own: fd00:0:0:REALM::/120, so that a mutated address is a host with a number, too.
fn own6(realm: usize, host: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, realm as u16, 0, 0, 0, host.into()).into()
}

/// Draws packets that are mostly almost right.
struct Forge<'a> {
    /// The site that it forges for, and the IP version that this packet is of.
    site: usize,
    is_v6: bool,
    random: &'a mut Random,
    oracle: &'a Oracle,
    /// What has arrived lately, by the site where it did: material for replies and errors.
    arrived: &'a BTreeMap<usize, Vec<u8>>,
}

impl Forge<'_> {
    fn inner(&mut self, site: usize) -> Vec<u8> {
        let mut bytes = match self.random.below(10) {
            0..5 => self.plausible(),
            5 => self.forged(),
            6 => self.reply(site),
            7 => self.error(site),
            8 => return self.noise(100),
            _ => packet(self.own(), self.anybody(), self.random.draw() as u8, vec![0; 24]),
        };
        if self.random.permille(200) {
            self.mutate(&mut bytes);
        }
        bytes
    }

    fn plausible(&mut self) -> Vec<u8> {
        let (source, destination) = (self.own(), self.anybody());
        self.message(source, destination)
    }

    /// A source that is not the sender's.
    fn forged(&mut self) -> Vec<u8> {
        let source = match self.random.below(3) {
            0 => self.anybody(),
            1 if self.is_v6 => own6(self.random.below(REALMS as u64) as usize, 7),
            1 => IpAddr::V4(Ipv4Addr::new(192, 168, self.random.below(4) as u8, 7)),
            _ if self.is_v6 => IpAddr::V6(u128::from(self.random.draw()).into()),
            _ => IpAddr::V4(Ipv4Addr::from_bits(self.random.draw() as u32)),
        };
        let destination = self.anybody();
        self.message(source, destination)
    }

    fn reply(&mut self, site: usize) -> Vec<u8> {
        let Some(headers) = self.arrived.get(&site).and_then(|bytes| parse(bytes).ok()) else {
            return self.plausible();
        };
        self.is_v6 = headers.is_v6();
        let (from, to) = (headers.destination, headers.source);
        match headers.transport {
            Transport::Udp { source_port, destination_port } => udp((from, destination_port), (to, source_port), b"re"),
            Transport::Tcp { source_port, destination_port, .. } => {
                tcp((from, destination_port), (to, source_port), self.random.draw() as u8, &[], b"re")
            }
            Transport::EchoRequest { ident } => echo(from, to, ident, self.random.permille(800)),
            _ => packet(from, to, headers.protocol, vec![0; 24]),
        }
    }

    fn error(&mut self, site: usize) -> Vec<u8> {
        let Some(quoted) = self.arrived.get(&site).cloned() else { return self.plausible() };
        let Ok(headers) = parse(&quoted) else { return self.plausible() };
        self.is_v6 = headers.is_v6();
        let to = if self.random.permille(800) { headers.source } else { self.anybody() };
        let from = if self.random.permille(800) { headers.destination } else { self.own() };
        let mut quoted = quoted;
        if self.random.permille(300) {
            self.mutate(&mut quoted);
        }
        port_unreachable(from, to, &quoted)
    }

    fn message(&mut self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let (from, to) = ((source, self.port()), (destination, self.port()));
        match self.random.below(4) {
            0 => udp(from, to, b"payload"),
            1 => tcp(from, to, self.random.draw() as u8, &[], b"payload"),
            2 => echo(source, destination, from.1, false),
            _ => echo(source, destination, from.1, true),
        }
    }

    fn own(&mut self) -> IpAddr {
        match (self.is_v6, self.host()) {
            (true, host) => own6(self.site, host),
            (false, host) => Ipv4Addr::new(192, 168, 1, host).into(),
        }
    }

    fn anybody(&mut self) -> IpAddr {
        let (realm, host) = (self.random.below(REALMS as u64 + 1) as usize, self.host());
        match realm {
            REALMS => {
                let host = [1, 53, host][self.random.below(3) as usize];
                match self.is_v6 {
                    true => Ipv6Addr::new(0xfd69, 0x7867, 0x6174, 0, 0, 0, 0, host.into()).into(),
                    false => Ipv4Addr::new(100, 64, 0, host).into(),
                }
            }
            realm => self.oracle.alias_of(realm, host, self.is_v6),
        }
    }

    /// Few, so that flows of different realms meet.
    fn host(&mut self) -> u8 {
        6 + self.random.below(3) as u8
    }

    fn port(&mut self) -> u16 {
        [53, 443, 1000, 1001][self.random.below(4) as usize]
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.random.below(3) {
            let Some(at) = (!bytes.is_empty()).then(|| self.random.below(bytes.len() as u64) as usize) else { return };
            match self.random.below(4) {
                0 => bytes[at] ^= 1 << self.random.below(8),
                1 => bytes[at] = self.random.draw() as u8,
                2 => bytes.truncate(at),
                _ => bytes.push(0),
            }
        }
    }

    fn noise(&mut self, max_len: u64) -> Vec<u8> {
        (0..self.random.below(max_len)).map(|_| self.random.draw() as u8).collect()
    }
}

fn config() -> String {
    let mut text =
        String::from("[ix]\ndomain = \"ix.example\"\n[wireguard]\nprivate_key_file = \"secrets/wireguard.key\"\n");
    for (number, name) in NAMES.iter().enumerate() {
        text += &format!(
            "[[realm]]\nname = \"{name}\"\nnetworks = [\"192.168.1.0/24\", \"fd00:0:0:{number:x}::/120\"]\n\
             attach = [{{ wireguard = {{ public_key = \"{{key:{name}}}\" }} }}]\n"
        );
    }
    text + GRANTS
}

fn from_env(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Prints the seed when the test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("run again with IXGATE_SEED={}", self.0);
        }
    }
}

#[test]
fn nothing_crosses_that_was_not_agreed() {
    let seed = Seed(from_env("IXGATE_SEED", 1));
    let packets = from_env("IXGATE_CROSSING_PACKETS", PACKETS);
    let appliance = Appliance::build(&config());
    let mut lan = Lan::start(&appliance, &NAMES);
    let alias = NAMES.map(|name| appliance.alias_of(name).octets()[2]);
    let mut oracle = Oracle { alias, delivered: HashSet::new() };
    let mut random = Random(seed.0);
    let mut arrived: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let mut crossed = 0u64;

    for _ in 0..packets {
        let site = random.below(REALMS as u64) as usize;
        let is_v6 = random.permille(300);
        let mut forge = Forge { site, is_v6, random: &mut random, oracle: &oracle, arrived: &arrived };
        let inner = forge.inner(site);
        let mut outer = lan.seal(site, &inner);
        if forge.random.permille(50) {
            if forge.random.permille(300) {
                outer = forge.noise(200);
            } else {
                forge.mutate(&mut outer);
            }
        }
        // From the right address, or another site's: that must not matter.
        let from = if random.permille(950) { site } else { random.below(REALMS as u64) as usize };
        let replay = random.permille(20).then(|| outer.clone());
        let mut arrivals = lan.deliver(from, outer);
        if let Some(replay) = replay {
            assert_eq!(lan.deliver(site, replay), [], "a replayed datagram came through");
        }
        if from != site {
            // The tunnel has roamed to another site's address: answers go there. Bring it home.
            let keepalive = lan.seal(site, &[]);
            arrivals.extend(lan.deliver(site, keepalive));
        }
        oracle.note_dying(site, &inner);
        for (receiver, bytes) in arrivals {
            oracle.judge(site, &inner, receiver, &bytes);
            arrived.insert(receiver, bytes);
            crossed += 1;
        }
    }
    let totals = lan.report().totals;
    assert!(crossed * 50 > packets, "too little gets through to say anything: {totals:?}");
    assert!(oracle.delivered.len() > 100, "{} flows", oracle.delivered.len());
    println!("{packets} packets, {crossed} arrived, {} flows, {totals:?}", oracle.delivered.len());
}

/// Two realms at a time send datagrams in fragments under the same identification, shuffled among each other, some of them
/// twice and some never. Each realm's bytes are its own mark, and no packet may hold another's.
#[test]
fn nothing_crosses_in_fragments_either() {
    let seed = Seed(from_env("IXGATE_SEED", 1));
    let rounds = from_env("IXGATE_CROSSING_PACKETS", PACKETS) / 50;
    let appliance = Appliance::build(&config());
    let mut lan = Lan::start(&appliance, &NAMES);
    let alias = NAMES.map(|name| appliance.alias_of(name).octets()[2]);
    let mut oracle = Oracle { alias, delivered: HashSet::new() };
    let mut random = Random(seed.0);
    let mut arrived: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let mut crossed = 0;

    for round in 0..rounds {
        let mut flying = Vec::new();
        let first = random.below(REALMS as u64) as usize;
        let sites = [first, (first + 1 + random.below(REALMS as u64 - 1) as usize) % REALMS];
        // Often both send the same, but for their marks, and cut alike.
        let (is_twin, mtu_bytes, len) =
            (random.permille(500), 104 + random.below(1200) as usize, 100 + random.below(3000) as usize);
        let mut twin = None;
        let sent = sites.map(|site| {
            let is_v6 = random.permille(300);
            let mut forge = Forge { site, is_v6, random: &mut random, oracle: &oracle, arrived: &arrived };
            let inner = twin.take().unwrap_or_else(|| forge.inner(site));
            twin = is_twin.then(|| inner.clone());
            let inner = marked(&inner, site, len).unwrap_or(inner);
            flying.extend(
                in_fragments(&inner, mtu_bytes, round as u32, &mut random).into_iter().map(|packet| (site, packet)),
            );
            inner
        });
        flying.sort_by_cached_key(|_| random.draw());
        let mut arrivals: BTreeMap<(usize, usize), Vec<Vec<u8>>> = BTreeMap::new();
        for (site, packet) in flying {
            let outer = lan.seal(site, &packet);
            for (receiver, bytes) in lan.deliver(site, outer) {
                let own = if site == sites[0] { &sent[0] } else { &sent[1] };
                assert_eq!(marks(&bytes).difference(&marks(own)).next(), None, "of {site}: {bytes:02x?}");
                arrivals.entry((site, receiver)).or_default().push(bytes);
            }
        }
        sites.iter().zip(&sent).for_each(|(site, inner)| oracle.note_dying(*site, inner));
        for ((site, receiver), packets) in arrivals {
            let inner = if site == sites[0] { &sent[0] } else { &sent[1] };
            for whole in wholes(packets) {
                oracle.judge(site, inner, receiver, &whole);
                arrived.extend((whole.len() < 500).then_some((receiver, whole)));
                crossed += 1;
            }
        }
    }
    let totals = lan.report().totals;
    assert!(crossed * 50 > rounds && totals.reassembled * 10 > rounds, "too little gets through: {totals:?}");
    println!("{rounds} rounds, {crossed} arrived, {} flows, {totals:?}", oracle.delivered.len());
}

fn mark(site: usize) -> u8 {
    0xa0 + site as u8
}

/// Whose bytes a packet holds. That of an error may be others' rightly: it quotes what has come.
fn marks(packet: &[u8]) -> HashSet<usize> {
    (0..REALMS).filter(|site| packet.windows(8).any(|window| window == [mark(*site); 8])).collect()
}

/// The packet with `len` bytes of the site's mark behind it, when it is one that can be read.
fn marked(inner: &[u8], site: usize, len: usize) -> Option<Vec<u8>> {
    let headers = parse(inner).ok().filter(|headers| headers.transport != Transport::IcmpError)?;
    let mut message = inner[headers.transport_offset..headers.total_bytes].to_vec();
    message.resize(message.len().max(24) + len, mark(site));
    if headers.protocol == protocol::UDP {
        let len = message.len() as u16;
        message[4..6].copy_from_slice(&len.to_be_bytes());
    }
    Some(packet(headers.source, headers.destination, headers.protocol, message))
}

/// As fragments, one of which may come twice or not at all; or whole, when it is too short.
fn in_fragments(inner: &[u8], mtu_bytes: usize, identification: u32, random: &mut Random) -> Vec<Vec<u8>> {
    if parse(inner).is_err() || inner.len() < 120 {
        return vec![inner.to_vec()];
    }
    let mut all = cut(inner, mtu_bytes, identification);
    let one = random.below(all.len() as u64) as usize;
    match random.below(10) {
        0 => drop(all.remove(one)),
        1 => all.push(all[one].clone()),
        _ => {}
    }
    all
}

/// What a host makes of what it got because of one packet.
fn wholes(packets: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let (fragments, mut wholes): (Vec<_>, Vec<_>) =
        packets.into_iter().partition(|packet| fragment::parse(packet).is_some());
    wholes.extend((!fragments.is_empty()).then(|| joined(&fragments)));
    wholes
}
