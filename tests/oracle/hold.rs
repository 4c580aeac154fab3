//! Holds the appliance against the reference: one exchange after another through real tunnels, and both must say the same.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ixgate::packet::DropReason;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::lan::{Arrival, Lan};
use ixgate::sim::packets::{self, HOP_LIMIT, echo, port_unreachable, tcp, udp, verify};
use ixgate::sim::random::Random;
use ixgate::wire::headers::{Headers, Transport};
use ixgate::wire::tcp::flag;

use super::translator::{Kind, Packet, Source, Translator, Verdict};
use super::view::{Host, View, Who};
use super::world::{Protocol, World};

/// How often something was tried or came of it.
#[derive(Clone, Default, Debug)]
pub struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    pub fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    pub fn count(&mut self, what: &'static str, is_so: bool) {
        *self.0.entry(what).or_default() += u64::from(is_so);
    }

    pub fn add(&mut self, other: &Tally) {
        other.0.iter().for_each(|(what, times)| *self.0.entry(what).or_default() += times);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(what, times)| write!(f, "{times} {what}, "))
    }
}

/// No session has this port.
const NEVER_USED: u16 = 60_000;

pub struct Held<'a> {
    pub view: &'a View<'a>,
    pub translator: Translator<'a>,
    pub random: Random,
    pub tally: Tally,
    pub lan: Lan,
    appliance: Appliance,
    /// By realm and reason, as the reference counts them.
    drops: Vec<[u64; DropReason::COUNT]>,
    pub doing: String,
}

/// What the reference said of a packet, and what came of it, once they have agreed.
pub enum Outcome {
    Arrived(Delivery),
    Echoed,
    Dropped(DropReason),
}

pub struct Delivery {
    pub realm: usize,
    pub source: (IpAddr, u16),
    pub destination: (IpAddr, u16),
    /// Whole, as it arrived.
    pub bytes: Vec<u8>,
}

impl<'a> Held<'a> {
    /// `appliance` runs `view`'s world.
    pub fn new(view: &'a View<'a>, appliance: Appliance, random: Random) -> Self {
        let names: Vec<&str> = view.world.realms.iter().map(|realm| realm.name.as_str()).collect();
        let lan = Lan::start(&appliance, &names);
        let drops = vec![[0; DropReason::COUNT]; names.len()];
        let translator = Translator::new(view);
        Held { view, translator, random, tally: Tally::default(), lan, appliance, drops, doing: String::new() }
    }

    pub fn world(&self) -> &'a World {
        self.view.world
    }

    /// Sends a packet and expects what the reference says; then the reply, and now and then an error.
    pub fn exchange(&mut self, packet: Packet) -> Outcome {
        let payload: Vec<u8> = (0..self.random.below(40)).map(|_| self.random.draw() as u8).collect();
        let sent = bytes_of(&packet, &payload);
        let verdict = self.translator.walk(&packet);
        self.doing = format!("{packet:?}, of which the reference says {verdict:?}");
        let outcome = self.compare(&packet, &sent, verdict, &payload, 1500);
        if let Outcome::Arrived(delivery) = &outcome {
            if self.random.permille(100) {
                self.report(&packet, &sent, delivery);
            }
            if packet.kind != Kind::Answer {
                self.reply(&packet, delivery);
            }
            if self.random.permille(30) && packet.kind == Kind::Datagram {
                self.fragments(&packet);
            }
        }
        outcome
    }

    /// The answer of the one who got it comes back to the one who sent it, to the address and port that it used.
    fn reply(&mut self, packet: &Packet, delivery: &Delivery) {
        let reply = Packet {
            realm: delivery.realm,
            kind: packet.kind.reply(),
            source: delivery.destination,
            destination: delivery.source,
        };
        let identity = Verdict::Arrives {
            realm: packet.realm,
            source: Source::Is(packet.destination.0, packet.destination.1),
            destination: packet.source,
        };
        let verdict = self.translator.walk(&reply);
        let before = std::mem::take(&mut self.doing);
        self.doing = format!("{before}; then the reply {reply:?}");
        assert_eq!(verdict, identity, "the reference itself does not lead back");
        let payload = b"and back".to_vec();
        self.compare(&reply, &bytes_of(&reply, &payload), verdict, &payload, 1500);
        self.tally.count("returned", true);
    }

    /// The same once more, too long for any link.
    fn fragments(&mut self, packet: &Packet) {
        let payload: Vec<u8> = (0..1500 + self.random.below(2500)).map(|at| (at % 251) as u8).collect();
        let sent = bytes_of(packet, &payload);
        let verdict = self.translator.walk(packet);
        self.doing = format!("{packet:?} in fragments, of which the reference says {verdict:?}");
        let mtu_bytes = 600 + self.random.below(700) as usize;
        self.compare(packet, &sent, verdict, &payload, mtu_bytes);
        self.tally.count("in fragments", true);
    }

    /// The host that got the packet, or a router before it, reports about it. Who sent it reads about the very packet that it
    /// sent.
    fn report(&mut self, packet: &Packet, sent: &[u8], delivery: &Delivery) {
        let (router, shown) = self.some_router(packet, delivery);
        let error = port_unreachable(router, delivery.source.0, &delivery.bytes);
        let arrivals = self.lan.send(delivery.realm, &error);
        let before = std::mem::take(&mut self.doing);
        self.doing = format!("{before}; then an error of {router} about it");
        let (at, headers, bytes) = self.single(&arrivals);
        assert_eq!((at, headers.transport), (packet.realm, Transport::IcmpError), "{bytes:02x?}");
        assert_eq!((headers.source, headers.destination), (shown, packet.source.0), "{}", self.doing);
        // As it was sent from the addresses on, but for hops and what goes with them.
        let addresses = if headers.is_v6() { 8 } else { 12 };
        let quote = &bytes[headers.quote()];
        assert!(quote[addresses..] == sent[addresses..], "{}: {quote:02x?} quotes {sent:02x?}", self.doing);
        self.tally.count("reported", true);
        if packet.kind.protocol() != Protocol::Echo {
            self.invent(delivery);
        }
    }

    /// Who reports, and as whom the sender sees it.
    fn some_router(&mut self, packet: &Packet, delivery: &Delivery) -> (IpAddr, IpAddr) {
        let is_v6 = delivery.destination.0.is_ipv6();
        let outside = if is_v6 { "2001:db8:eeee::1" } else { "192.0.2.254" }.parse().unwrap();
        let networks =
            self.world().realms[delivery.realm].networks.iter().filter(|network| network.span.is_v6 == is_v6);
        let inside: Vec<IpAddr> = networks.map(|network| network.span.nth(network.span.size().min(3))).collect();
        let router = match self.random.below(3) {
            0 => outside,
            1 if !inside.is_empty() => inside[self.random.below(inside.len() as u64) as usize],
            _ => return (delivery.destination.0, packet.destination.0),
        };
        let (viewer, realm, is_v6) = (packet.realm, delivery.realm, packet.source.0.is_ipv6());
        let gateway = self.view.ix(viewer, 1, is_v6);
        let shown = match self.view.own(realm, router) {
            None => gateway,
            Some(Host { addr, .. }) => match self.view.seen(viewer, Host { realm, addr }, is_v6) {
                Some(seen) => seen,
                None if self.view.is_shown_by_pool(viewer, realm) => packet.destination.0,
                None => gateway,
            },
        };
        (router, shown)
    }

    /// An error about a packet that was never sent.
    fn invent(&mut self, delivery: &Delivery) {
        let headers = verify(&delivery.bytes).expect("it arrived");
        let mut quoted = delivery.bytes.clone();
        quoted[headers.transport_offset + 2..headers.transport_offset + 4].copy_from_slice(&NEVER_USED.to_be_bytes());
        let error = port_unreachable(delivery.destination.0, delivery.source.0, &quoted);
        let arrivals = self.lan.send(delivery.realm, &error);
        let before = std::mem::take(&mut self.doing);
        self.doing = format!("{before}; then an invented error");
        self.expect_drop(delivery.realm, &arrivals, DropReason::NoSession);
    }

    fn compare(&mut self, packet: &Packet, sent: &[u8], verdict: Verdict, payload: &[u8], mtu_bytes: usize) -> Outcome {
        let pieces = if sent.len() > mtu_bytes {
            packets::cut(sent, mtu_bytes, self.random.draw() as u32)
        } else {
            vec![sent.to_vec()]
        };
        let mut arrivals: Vec<Arrival> = pieces.iter().flat_map(|piece| self.lan.send(packet.realm, piece)).collect();
        if mtu_bytes < 1500 && arrivals.len() > 1 && arrivals.iter().all(|(at, _)| *at == arrivals[0].0) {
            let pieces: Vec<Vec<u8>> = arrivals.iter().map(|(_, bytes)| bytes.clone()).collect();
            arrivals = vec![(arrivals[0].0, packets::joined(&pieces))];
        }
        match verdict {
            Verdict::Arrives { realm, source, destination } => {
                let delivery = self.compare_arrival(packet, &arrivals, realm, source, destination);
                assert!(delivery.bytes.ends_with(payload), "{}: the payload changed", self.doing);
                Outcome::Arrived(delivery)
            }
            Verdict::Echoed => {
                let (at, headers, _) = self.single(&arrivals);
                let reply = (packet.realm, packet.destination.0, packet.source.0);
                assert_eq!((at, headers.source, headers.destination), reply, "{}", self.doing);
                assert_eq!(headers.transport, Transport::EchoReply { ident: packet.source.1 }, "{}", self.doing);
                Outcome::Echoed
            }
            Verdict::Dropped(reason) => {
                self.compare_drop(packet, &arrivals, reason);
                Outcome::Dropped(reason)
            }
        }
    }

    fn compare_arrival(
        &mut self,
        packet: &Packet,
        arrivals: &[Arrival],
        realm: usize,
        source: Source,
        destination: (IpAddr, u16),
    ) -> Delivery {
        let (at, headers, bytes) = self.single(arrivals);
        let (source_port, destination_port) = ports(&headers, packet.kind).unwrap_or_else(|| {
            panic!("{}: it became {headers:?}", self.doing);
        });
        assert_eq!((at, headers.destination), (realm, destination.0), "{}", self.doing);
        assert_eq!(headers.hop_limit, HOP_LIMIT - 1, "{}", self.doing);
        let is_echo = packet.kind.protocol() == Protocol::Echo;
        // An echo has one identifier, its asker's as it is shown.
        assert!(is_echo || destination_port == destination.1, "{}: to port {destination_port}", self.doing);
        let shown = (headers.source, source_port);
        match source {
            Source::Is(addr, port) => assert_eq!(shown, (addr, port), "{}", self.doing),
            Source::New(inside) => {
                self.translator
                    .ports
                    .bind(inside, shown)
                    .unwrap_or_else(|wrong| panic!("{}: {shown:?}: {wrong}", self.doing));
            }
        }
        self.tally.count("arrived", true);
        self.tally.count("bound to a port", matches!(source, Source::New(_)));
        self.tally.count("across IP versions", destination.0.is_ipv6() != packet.source.0.is_ipv6());
        self.tally.count("within one realm", realm == packet.realm);
        let meant = self.view.meant(packet.realm, packet.destination.0);
        self.tally.count("let in by a pool", matches!(meant, Some(Who::Pool(_))));
        Delivery { realm, source: shown, destination: (destination.0, destination_port), bytes }
    }

    /// Nothing arrives anywhere, unless a host whose ports are used up is told so.
    fn compare_drop(&mut self, packet: &Packet, arrivals: &[Arrival], reason: DropReason) {
        if reason == DropReason::NaptExhausted && !arrivals.is_empty() {
            let (at, headers, _) = self.single(arrivals);
            let gateway = self.view.ix(packet.realm, 1, headers.is_v6());
            assert_eq!((at, headers.transport), (packet.realm, Transport::IcmpError), "{}", self.doing);
            assert_eq!((headers.source, headers.destination), (gateway, packet.source.0), "{}", self.doing);
            return self.expect_drop(packet.realm, &[], reason);
        }
        self.expect_drop(packet.realm, arrivals, reason);
    }

    /// Nothing arrives, and this drop and no other is counted.
    fn expect_drop(&mut self, realm: usize, arrivals: &[Arrival], reason: DropReason) {
        assert_eq!(arrivals, [], "{}", self.doing);
        self.drops[realm][reason.index()] += 1;
        self.compare_drops();
        self.tally.count(reason.name(), true);
    }

    /// Every realm's drops, each by its reason.
    pub fn compare_drops(&self) {
        let report = self.lan.report();
        for (realm, expected) in self.world().realms.iter().zip(&self.drops) {
            for reason in DropReason::ALL {
                let got = self.appliance.drops(&report, &realm.name, *reason);
                let expected = expected[reason.index()];
                assert_eq!(got, expected, "{} of {}: {}", reason.name(), realm.name, self.doing);
            }
        }
        assert_eq!(report.napt_bindings, self.bindings(), "bindings: {}", self.doing);
    }

    fn bindings(&self) -> usize {
        let pools = self.world().realms.iter().filter_map(|realm| realm.pool.as_ref());
        self.translator.ports.count() + pools.map(|pool| pool.forwards.len()).sum::<usize>()
    }

    /// The only packet that arrived, where every checksum is right.
    pub fn single(&self, arrivals: &[Arrival]) -> (usize, Headers, Vec<u8>) {
        let [(at, bytes)] = arrivals else {
            panic!("{}: not one arrival but {arrivals:02x?}\n{:?}", self.doing, self.lan.report().realms);
        };
        let headers = verify(bytes).unwrap_or_else(|wrong| panic!("{}: {wrong}: {bytes:02x?}", self.doing));
        (*at, headers, bytes.clone())
    }
}

fn bytes_of(packet: &Packet, payload: &[u8]) -> Vec<u8> {
    let Packet { kind, source, destination, .. } = *packet;
    match kind {
        Kind::Datagram => udp(source, destination, payload),
        Kind::Syn => tcp(source, destination, flag::SYN, &[], payload),
        Kind::SynAck => tcp(source, destination, flag::SYN | flag::ACK, &[], payload),
        Kind::Ask | Kind::Answer => {
            let mut bytes = echo(source.0, destination.0, destination.1, kind == Kind::Answer);
            let header_bytes = if source.0.is_ipv6() { 40 } else { 20 };
            let protocol = if source.0.is_ipv6() { 58 } else { 1 };
            let mut message = bytes.split_off(header_bytes);
            message.extend(payload);
            packets::packet(source.0, destination.0, protocol, message)
        }
    }
}

fn ports(headers: &Headers, kind: Kind) -> Option<(u16, u16)> {
    match (headers.transport, kind) {
        (Transport::Udp { source_port, destination_port }, Kind::Datagram)
        | (Transport::Tcp { source_port, destination_port, .. }, Kind::Syn | Kind::SynAck) => {
            Some((source_port, destination_port))
        }
        (Transport::EchoRequest { ident }, Kind::Ask) | (Transport::EchoReply { ident }, Kind::Answer) => {
            Some((ident, ident))
        }
        _ => None,
    }
}
