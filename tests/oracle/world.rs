//! A configuration as the reference sees it: plain lists, addresses as numbers. Drawn in [`super::draw`], written down as
//! TOML in [`super::file`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The canonical space: a /48, the realm's number, zeros, 32 bits of IPv4.
pub const SPACE6: u128 = 0xfd69_7867_6174 << 80;
/// All of it.
pub const CANONICAL: Span = Span { is_v6: true, first: SPACE6, last: SPACE6 | ((1 << 80) - 1) };
/// 100.64.0.0/10, where aliases come from.
pub const POOL: Span = Span { is_v6: false, first: 0x6440_0000, last: 0x647f_ffff };
pub const DOMAIN: &str = "ix.example";
/// The reverse zones of every realm that has a resolver of its own, and their addresses.
pub const REVERSE: [(&str, &str); 2] = [("10.in-addr.arpa", "10.0.0.0/8"), ("168.192.in-addr.arpa", "192.168.0.0/16")];

/// Neighbouring addresses of one family, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub is_v6: bool,
    pub first: u128,
    pub last: u128,
}

impl Span {
    /// From an address and a prefix length, or from two addresses.
    pub fn of(text: &str) -> Span {
        if let Some((first, last)) = text.split_once('-') {
            let (first, last): (IpAddr, IpAddr) = (first.parse().unwrap(), last.parse().unwrap());
            return Span { is_v6: first.is_ipv6(), first: number(first), last: number(last) };
        }
        let (first, len) = text.split_once('/').unwrap();
        let (first, len): (IpAddr, u32) = (first.parse().unwrap(), len.parse().unwrap());
        let bits = if first.is_ipv6() { 128 } else { 32 };
        let first_number = number(first);
        Span { is_v6: first.is_ipv6(), first: first_number, last: first_number + ((1 << (bits - len)) - 1) }
    }

    pub fn contains(&self, addr: IpAddr) -> bool {
        self.is_v6 == addr.is_ipv6() && (self.first..=self.last).contains(&number(addr))
    }

    pub fn overlaps(&self, other: &Span) -> bool {
        self.is_v6 == other.is_v6 && self.first <= other.last && other.first <= self.last
    }

    /// The address that is `place` behind the first.
    pub fn nth(&self, place: u128) -> IpAddr {
        address(self.is_v6, self.first + place)
    }

    /// How many addresses are before the last.
    pub fn size(&self) -> u128 {
        self.last - self.first
    }
}

pub fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => addr.to_bits().into(),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

pub fn address(is_v6: bool, number: u128) -> IpAddr {
    match is_v6 {
        true => Ipv6Addr::from_bits(number).into(),
        false => Ipv4Addr::from_bits(number as u32).into(),
    }
}

#[derive(Clone, Debug)]
pub struct World {
    pub realms: Vec<Realm>,
    /// The realm with every address that nobody has.
    pub default: Option<usize>,
    pub hosts: Vec<Host>,
    pub services: Vec<Service>,
    pub grants: Vec<Grant>,
}

#[derive(Clone, Debug)]
pub struct Realm {
    pub name: String,
    pub networks: Vec<Network>,
    pub pool: Option<Pool>,
    /// Who answers for the realm's own domain and reverse zones, on its own wires.
    pub resolver: Option<IpAddr>,
}

#[derive(Clone, Debug)]
pub struct Network {
    /// As it is written: a prefix or a range.
    pub text: String,
    pub span: Span,
    pub alias: Alias,
    /// The first address of an IPv6 network's canonical prefix, and how that is written.
    pub canonical: Option<(u128, String)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Alias {
    /// Nothing is written.
    Unsaid,
    Auto,
    Hosts,
    /// The first address, and how it is written.
    Pinned(u128, String),
}

/// `show_as`.
#[derive(Clone, Debug)]
pub struct Pool {
    pub text: String,
    pub span: Span,
    /// `None`: everybody.
    pub viewers: Option<Vec<usize>>,
    pub filtering: Filtering,
    pub block_ports: u32,
    pub forwards: Vec<Forward>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filtering {
    AddressAndPort,
    Address,
    Endpoint,
}

#[derive(Clone, Copy, Debug)]
pub struct Forward {
    pub protocol: Protocol,
    pub outside: (IpAddr, u16),
    pub to: (IpAddr, u16),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Protocol {
    Tcp,
    Udp,
    /// ICMP echo in either family; the identifier is the port of both sides.
    Echo,
}

#[derive(Clone, Debug)]
pub struct Host {
    pub name: String,
    pub realm: usize,
    pub addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub host: usize,
    pub ports: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub struct Grant {
    pub from: Vec<usize>,
    pub to: Target,
}

#[derive(Clone, Debug)]
pub enum Target {
    Service(usize),
    Realm(usize, Vec<Rule>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    Any,
    Icmp,
    Tcp(u16, u16),
    Udp(u16, u16),
}

impl Rule {
    pub fn allows(self, protocol: Protocol, port: u16) -> bool {
        match (self, protocol) {
            (Rule::Any, _) | (Rule::Icmp, Protocol::Echo) => true,
            (Rule::Tcp(low, high), Protocol::Tcp) | (Rule::Udp(low, high), Protocol::Udp) => {
                low <= port && port <= high
            }
            _ => false,
        }
    }

    /// Whether there is something that both allow.
    pub fn meets(self, other: Rule) -> bool {
        match (self, other) {
            (Rule::Any, _) | (_, Rule::Any) | (Rule::Icmp, Rule::Icmp) => true,
            (Rule::Tcp(a, b), Rule::Tcp(c, d)) | (Rule::Udp(a, b), Rule::Udp(c, d)) => a.max(c) <= b.min(d),
            _ => false,
        }
    }
}

impl World {
    pub fn speaks(&self, realm: usize, is_v6: bool) -> bool {
        self.default == Some(realm) || self.realms[realm].networks.iter().any(|network| network.span.is_v6 == is_v6)
    }

    /// The network of `realm` that an address lies in; within a realm they are disjoint.
    pub fn network(&self, realm: usize, addr: IpAddr) -> Option<&Network> {
        self.realms[realm].networks.iter().find(|network| network.span.contains(addr))
    }
}
