//! What the configuration says of NAPT, and the arithmetic of port blocks (RFC 7422). Immutable; one per generation.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::net::range_map::RangeMap;
use crate::net::{Canonical, RealmId, Space6};
use crate::wire::headers::Transport;

/// The first port of the first block. What lies below are well-known ports: only static forwards have these.
pub const FIRST_PORT: u16 = 1024;
const PORTS: u32 = 65_536 - FIRST_PORT as u32;

/// What has ports. Each has a port space of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Proto {
    Tcp,
    Udp,
    /// ICMP echo, whose identifiers are its ports (RFC 5508 section 3).
    Echo,
}

impl Proto {
    pub const COUNT: usize = 3;

    /// Of a packet's sender. `None`: it has no port that could be shared.
    pub fn of_source(transport: &Transport) -> Option<(Proto, u16)> {
        match *transport {
            Transport::Tcp { source_port, .. } => Some((Proto::Tcp, source_port)),
            Transport::Udp { source_port, .. } => Some((Proto::Udp, source_port)),
            Transport::EchoRequest { ident } => Some((Proto::Echo, ident)),
            _ => None,
        }
    }

    /// Of a packet's receiver. Only who has asked is found by an echo identifier.
    pub fn of_destination(transport: &Transport) -> Option<(Proto, u16)> {
        match *transport {
            Transport::Tcp { destination_port, .. } => Some((Proto::Tcp, destination_port)),
            Transport::Udp { destination_port, .. } => Some((Proto::Udp, destination_port)),
            Transport::EchoReply { ident } => Some((Proto::Echo, ident)),
            _ => None,
        }
    }
}

/// Who may send to a port that a host has been shown by (RFC 4787 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filtering {
    /// Whoever the host itself could open this very session to.
    Endpoint,
    /// Of these, hosts that it has sent to from that port.
    Address,
    /// Whom it has sent to, from the port it has sent to.
    AddressAndPort,
}

/// `outside` leads to `to`, for as long as it is configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forward {
    pub proto: Proto,
    pub outside: (Ipv4Addr, u16),
    pub to: (Canonical, u16),
}

/// One realm that shows itself by a pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RealmSpec {
    pub realm: RealmId,
    /// Towards whom, sorted. `None`: everybody.
    pub viewers: Option<Vec<RealmId>>,
    pub filtering: Filtering,
    pub blocks: Blocks,
    pub forwards: Vec<Forward>,
}

impl RealmSpec {
    /// A realm sees its own hosts by the pool too, when their packets come back by us (hairpinning).
    pub fn is_for(&self, viewer: RealmId) -> bool {
        viewer == self.realm || self.viewers.as_ref().is_none_or(|viewers| viewers.binary_search(&viewer).is_ok())
    }
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Spec {
    pub space6: Space6,
    realms: Vec<RealmSpec>,
    /// By realm number: place in `realms`.
    by_realm: Vec<Option<u16>>,
    by_address: RangeMap<u32, u16>,
}

impl Spec {
    /// Pools are disjoint, and so are the outside endpoints of forwards, and the inside ones; `config` sees to it.
    pub fn new(space6: Space6, realms: Vec<RealmSpec>) -> Self {
        let mut by_realm = Vec::new();
        let mut ranges = Vec::new();
        for (place, spec) in (0..).zip(&realms) {
            let number = usize::from(spec.realm.0);
            by_realm.resize(by_realm.len().max(number + 1), None);
            by_realm[number] = Some(place);
            let pools = spec.blocks.pools.iter();
            ranges.extend(pools.map(|pool| (pool.network().to_bits(), pool.broadcast().to_bits(), place)));
        }
        Spec { space6, realms, by_realm, by_address: RangeMap::new(ranges) }
    }

    pub fn is_empty(&self) -> bool {
        self.realms.is_empty()
    }

    pub fn realms(&self) -> &[RealmSpec] {
        &self.realms
    }

    #[inline]
    pub fn realm(&self, realm: RealmId) -> Option<&RealmSpec> {
        let place = (*self.by_realm.get(usize::from(realm.0))?)?;
        self.realms.get(usize::from(place))
    }

    /// Whose pool an address is in.
    pub fn owner(&self, address: Ipv4Addr) -> Option<&RealmSpec> {
        self.realms.get(usize::from(self.by_address.lookup(address.to_bits())?))
    }

    /// Does `viewer` see the hosts of `owner` by a pool, where they have no alias?
    #[inline]
    pub fn shows(&self, owner: RealmId, viewer: RealmId) -> bool {
        self.realm(owner).is_some_and(|spec| spec.is_for(viewer))
    }

    /// Who is behind `port` of `address`? `None`: the address is in no pool.
    pub fn who(&self, proto: Proto, address: Ipv4Addr, port: u16) -> Option<(RealmId, Who)> {
        let spec = self.owner(address)?;
        let forward = spec.forwards.iter().find(|f| f.proto == proto && f.outside == (address, port));
        let who = match (forward, spec.blocks.block_of(address, port)) {
            (Some(forward), _) => Who::Forward(*forward),
            (None, None) => Who::Nobody,
            (None, Some(block)) => match spec.blocks.host_of(block) {
                Some(host) => Who::Host(host, spec.blocks.ports_of(block)),
                None if block < spec.blocks.fixed => Who::Nobody,
                None => Who::InTheLog(spec.blocks.ports_of(block)),
            },
        };
        Some((spec.realm, who))
    }
}

/// The answer to "who was it?".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// It was this host, at any time under this configuration.
    Host(Ipv4Addr, PortBlock),
    Forward(Forward),
    /// The block was given to a host on demand, and the log says to which and when.
    InTheLog(PortBlock),
    /// No host ever has this port.
    Nobody,
}

/// Neighbouring ports of one address, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortBlock {
    pub address: Ipv4Addr,
    pub first: u16,
    pub last: u16,
}

/// How a realm's hosts share its pool.
///
/// ```text
///   hosts:  network by network, address by address            0        1        2 ...
///   blocks: address by address of the pool, port by port      1024..   1280..   1536.. ...
/// ```
///
/// Where there are enough blocks, host n has block n, always: nothing need be logged (RFC 7422). Where there are more
/// hosts than blocks, and for IPv6 hosts, whose number is beyond counting, a host is given a block with its first packet
/// and keeps it while it has bindings; each such gift is one line in the log instead of one for each connection
/// (RFC 6888 section 4). A realm with both has computed blocks for its IPv4 hosts and gives the rest to the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blocks {
    pools: Vec<Ipv4Net>,
    /// Ports of a block; even, so that every block begins with an even port.
    ports: u16,
    networks: Vec<Ipv4Net>,
    hosts: u64,
    total: u32,
    /// Blocks below this are computed.
    fixed: u32,
}

impl Blocks {
    /// `networks`: those of the realm's IPv4 networks whose hosts have no alias, disjoint, in the order of the file.
    pub fn new(pools: Vec<Ipv4Net>, ports: u16, networks: Vec<Ipv4Net>) -> Self {
        let ports = (ports & !1).max(2);
        let addresses: u64 = pools.iter().map(size).sum();
        let total = (addresses * u64::from(PORTS / u32::from(ports))).min(u64::from(u32::MAX)) as u32;
        let hosts = networks.iter().map(size).sum();
        let fixed = if hosts <= u64::from(total) { hosts as u32 } else { 0 };
        Blocks { pools, ports, networks, hosts, total, fixed }
    }

    pub fn pools(&self) -> &[Ipv4Net] {
        &self.pools
    }

    /// Ports of one block, which is what one host has of each protocol.
    pub fn ports(&self) -> u16 {
        self.ports
    }

    /// IPv4 hosts that the pool is for.
    pub fn hosts(&self) -> u64 {
        self.hosts
    }

    pub fn total(&self) -> u32 {
        self.total
    }

    /// How many of them are computed.
    pub fn fixed(&self) -> u32 {
        self.fixed
    }

    fn per_address(&self) -> u32 {
        PORTS / u32::from(self.ports)
    }

    /// The computed block of a host.
    pub fn block_of_host(&self, host: Ipv4Addr) -> Option<u32> {
        if self.fixed == 0 {
            return None;
        }
        let mut before = 0;
        for network in &self.networks {
            if network.contains(&host) {
                return Some(before + (host.to_bits() - network.network().to_bits()));
            }
            before += size(network) as u32;
        }
        None
    }

    /// Its inverse.
    pub fn host_of(&self, block: u32) -> Option<Ipv4Addr> {
        if block >= self.fixed {
            return None;
        }
        nth(&self.networks, block)
    }

    /// `block` is less than [`Blocks::total`].
    pub fn ports_of(&self, block: u32) -> PortBlock {
        let address = nth(&self.pools, block / self.per_address()).unwrap_or(Ipv4Addr::UNSPECIFIED);
        let first = u32::from(FIRST_PORT) + block % self.per_address() * u32::from(self.ports);
        PortBlock { address, first: first as u16, last: (first + u32::from(self.ports) - 1) as u16 }
    }

    /// The block that a port of the pool is in.
    pub fn block_of(&self, address: Ipv4Addr, port: u16) -> Option<u32> {
        let in_address = u32::from(port.checked_sub(FIRST_PORT)?) / u32::from(self.ports);
        if in_address >= self.per_address() {
            return None; // the rest of an address that is too small for a block
        }
        let mut before = 0;
        for pool in &self.pools {
            if pool.contains(&address) {
                return Some((before + address.to_bits() - pool.network().to_bits()) * self.per_address() + in_address);
            }
            before += size(pool) as u32;
        }
        None
    }
}

impl PortBlock {
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// The ports of the block in the order in which a host's `port` is to be shown by one of them: itself where it lies
    /// in the block; else, and where that is taken, one of its parity (RFC 4787 REQ-4); only when there is none, any.
    pub fn candidates(self, port: u16) -> impl Iterator<Item = u16> {
        let (first, len) = (u32::from(self.first), u32::from(self.last - self.first) + 1);
        // Both are even, so parity is kept.
        let offset = (u32::from(port) + 65_536 * len - first) % len;
        let of_parity = move |offset: u32| (0..len / 2).map(move |i| (first + (offset + 2 * i) % len) as u16);
        of_parity(offset).chain(of_parity(offset ^ 1))
    }
}

fn size(net: &Ipv4Net) -> u64 {
    1 << (32 - net.prefix_len())
}

/// The nth address of several prefixes laid end to end.
fn nth(nets: &[Ipv4Net], mut n: u32) -> Option<Ipv4Addr> {
    for net in nets {
        if u64::from(n) < size(net) {
            return Some(Ipv4Addr::from_bits(net.network().to_bits() + n));
        }
        n -= size(net) as u32;
    }
    None
}
