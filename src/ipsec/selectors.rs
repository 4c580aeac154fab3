//! The traffic selectors of an SA, made ready for looking packets up.
//!
//! A side of an SA is covered by ranges of addresses. Those that take any protocol and port, which is nearly all of them,
//! are merged and sorted, so that a packet costs a binary search; only the others are walked one by one, and only for them
//! the packet's upper layer is read. Nearly every packet is in the first range of each side, and costs no search ([`Usual`]).

use std::net::IpAddr;

use crate::net::Selector;
use crate::wire::{ipv4, ipv6};

/// Most selectors on one side of an SA.
pub const MAX_SELECTORS: usize = 256;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const IPV6_FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const MOBILITY: u8 = 135;
const UDP_LITE: u8 = 136;

#[derive(Debug)]
pub(super) struct Selectors {
    ours: Side,
    theirs: Side,
}

/// All that nearly every packet asks for: one range of IPv4 addresses of each side, the only one as a rule, and whether every IPv6 packet is covered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usual {
    ours: [u32; 2],
    theirs: [u32; 2],
    every6: bool,
}

impl Usual {
    /// `false`: the selectors are to be asked.
    #[inline]
    pub fn cover_outbound(&self, packet: &[u8]) -> bool {
        self.cover(packet, &self.ours, &self.theirs)
    }

    /// `false`: the selectors are to be asked.
    #[inline]
    pub fn cover_inbound(&self, packet: &[u8]) -> bool {
        self.cover(packet, &self.theirs, &self.ours)
    }

    #[inline(always)]
    fn cover(&self, packet: &[u8], source: &[u32; 2], destination: &[u32; 2]) -> bool {
        let Some(header) = packet.first_chunk::<{ ipv4::MIN_HEADER_BYTES }>() else { return false };
        let address = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let is_in = |[first, last]: &[u32; 2], address| *first <= address && address <= *last;
        match header[0] >> 4 {
            4 => is_in(source, address(12)) & is_in(destination, address(16)),
            6 => self.every6,
            _ => false,
        }
    }

    /// There is nothing in it that packets could be in.
    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.every6 && (self.ours[0] > self.ours[1] || self.theirs[0] > self.theirs[1])
    }
}

impl Selectors {
    pub fn new(ours: &[Selector], theirs: &[Selector]) -> Self {
        Selectors { ours: Side::new(ours), theirs: Side::new(theirs) }
    }

    /// What it covers need not be asked of the selectors.
    pub fn usual(&self) -> Usual {
        let range = |side: &Side| side.ranges4.0.first().map_or([1, 0], |(first, last)| [*first, *last]);
        Usual {
            ours: range(&self.ours),
            theirs: range(&self.theirs),
            every6: self.ours.ranges6.is_everything() && self.theirs.ranges6.is_everything(),
        }
    }

    /// Whether the SA may carry a packet to the peer.
    #[inline]
    pub fn cover_outbound(&self, packet: &[u8]) -> bool {
        Upper::read(packet).is_some_and(|ends| self.cover(&ends.source, &ends.destination))
    }

    /// Whether the peer may send this packet by the SA (RFC 4301 section 5.2, step 4).
    #[inline]
    pub fn cover_inbound(&self, packet: &[u8]) -> bool {
        Upper::read(packet).is_some_and(|ends| self.cover(&ends.destination, &ends.source))
    }

    /// Reads what judging a packet needs.
    #[inline]
    pub fn touch(&self) -> u64 {
        let first = |side: &Side| side.ranges4.0.first().map_or(0, |(first, _)| u64::from(*first));
        first(&self.ours) ^ first(&self.theirs)
    }

    fn cover(&self, ours: &End, theirs: &End) -> bool {
        self.ours.covers(ours) && self.theirs.covers(theirs)
    }
}

#[derive(Debug)]
struct Side {
    ranges4: Ranges<u32>,
    ranges6: Ranges<u128>,
    /// Those that name a protocol or ports.
    particular: Box<[Selector]>,
}

impl Side {
    fn new(selectors: &[Selector]) -> Self {
        let (mut ranges4, mut ranges6, mut particular) = (Vec::new(), Vec::new(), Vec::new());
        for selector in selectors {
            match (selector.first, selector.last) {
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {} // covers nothing
                _ if !takes_any_upper_layer(selector) => particular.push(*selector),
                (IpAddr::V4(first), IpAddr::V4(last)) => ranges4.push((first.to_bits(), last.to_bits())),
                (IpAddr::V6(first), IpAddr::V6(last)) => ranges6.push((first.to_bits(), last.to_bits())),
            }
        }
        Side { ranges4: Ranges::new(ranges4), ranges6: Ranges::new(ranges6), particular: particular.into() }
    }

    fn covers(&self, end: &End) -> bool {
        let by_address = match end.address {
            IpAddr::V4(address) => self.ranges4.contains(address.to_bits()),
            IpAddr::V6(address) => self.ranges6.contains(address.to_bits()),
        };
        by_address || self.particular.iter().any(|selector| end.is_covered_by(selector))
    }
}

fn takes_any_upper_layer(selector: &Selector) -> bool {
    selector.protocol == 0 && selector.first_port == 0 && selector.last_port == u16::MAX
}

/// Disjoint ranges, sorted.
#[derive(Debug)]
struct Ranges<K>(Box<[(K, K)]>);

impl<K: Copy + Ord + Edges> Ranges<K> {
    fn new(mut ranges: Vec<(K, K)>) -> Self {
        ranges.retain(|(first, last)| first <= last);
        ranges.sort_unstable();
        let mut merged: Vec<(K, K)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= end.next() => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Ranges(merged.into())
    }

    #[inline]
    fn contains(&self, address: K) -> bool {
        let at = self.0.partition_point(|(first, _)| *first <= address);
        at > 0 && address <= self.0[at - 1].1
    }

    fn is_everything(&self) -> bool {
        *self.0 == [(K::FIRST, K::LAST)]
    }
}

trait Edges {
    const FIRST: Self;
    const LAST: Self;
    /// The next address, or the last again.
    fn next(self) -> Self;
}

impl Edges for u32 {
    const FIRST: u32 = 0;
    const LAST: u32 = u32::MAX;
    fn next(self) -> u32 {
        self.saturating_add(1)
    }
}

impl Edges for u128 {
    const FIRST: u128 = 0;
    const LAST: u128 = u128::MAX;
    fn next(self) -> u128 {
        self.saturating_add(1)
    }
}

/// What selectors look at in a packet.
struct Upper {
    source: End,
    destination: End,
}

struct End {
    address: IpAddr,
    protocol: u8,
    /// ICMP has type and code here, mobility its type (RFC 7296 section 3.13.1). `None`: the protocol has none, or a
    /// fragment does not tell; only selectors of all ports, or of "opaque" ones, cover that (RFC 4301 section 7).
    port: Option<u16>,
}

impl Upper {
    fn read(packet: &[u8]) -> Option<Upper> {
        let (source, destination, protocol, header_bytes, is_fragment) = match packet.first()? >> 4 {
            4 => {
                let header = ipv4::parse(packet)?;
                let addresses = (IpAddr::V4(header.source), IpAddr::V4(header.destination));
                (addresses.0, addresses.1, header.protocol, header.header_bytes, header.is_fragment)
            }
            _ => {
                let header = ipv6::parse(packet)?;
                let addresses = (IpAddr::V6(header.source), IpAddr::V6(header.destination));
                (addresses.0, addresses.1, header.protocol, header.header_bytes, header.is_fragment)
            }
        };
        let upper = packet.get(header_bytes..).unwrap_or_default();
        let protocol = if protocol == IPV6_FRAGMENT { *upper.first()? } else { protocol };
        let (source_port, destination_port) = if is_fragment { (None, None) } else { ports(protocol, upper) };
        Some(Upper {
            source: End { address: source, protocol, port: source_port },
            destination: End { address: destination, protocol, port: destination_port },
        })
    }
}

fn ports(protocol: u8, upper: &[u8]) -> (Option<u16>, Option<u16>) {
    let word = |at: usize| Some(u16::from_be_bytes(*upper.get(at..)?.first_chunk()?));
    match protocol {
        TCP | UDP | DCCP | SCTP | UDP_LITE => (word(0), word(2)),
        ICMP | ICMPV6 => (word(0), word(0)),
        MOBILITY => {
            let kind = upper.get(2).map(|kind| u16::from(*kind) << 8);
            (kind, kind)
        }
        _ => (None, None),
    }
}

impl End {
    fn is_covered_by(&self, selector: &Selector) -> bool {
        let is_opaque = selector.first_port > selector.last_port;
        let all_ports = selector.first_port == 0 && selector.last_port == u16::MAX;
        let port_fits = match self.port {
            Some(port) => (selector.first_port..=selector.last_port).contains(&port),
            None => all_ports || is_opaque,
        };
        let same_family = selector.first.is_ipv4() == self.address.is_ipv4();
        same_family
            && (selector.first..=selector.last).contains(&self.address)
            && (selector.protocol == 0 || selector.protocol == self.protocol)
            && port_fits
    }
}
