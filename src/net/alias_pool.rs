//! First-fit allocation of aligned IPv4 prefixes out of the alias pools.
//!
//! Pure and deterministic: the same reservations and requests in the same order give the same answers. Permanence is
//! the caller's: it reserves what the state store remembers before it asks for anything new.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

/// The length of an alias that has an address for each of `native` (of IPv6 too: RFC 7757 section 3.2 wants host parts of
/// equal length). `None` for an IPv6 network with more addresses than IPv4 has.
pub fn alias_len(native: IpNet) -> Option<u8> {
    match native {
        IpNet::V4(net) => Some(net.prefix_len()),
        IpNet::V6(net) => net.prefix_len().checked_sub(128 - 32),
    }
}

/// The free and taken parts of `alias4`.
#[derive(Clone, Debug, Default)]
pub struct AliasPool {
    pools: Vec<Ipv4Net>,
    /// Taken ranges, first address → last address (inclusive), possibly overlapping the edge of a pool or outside it.
    taken: BTreeMap<u32, u32>,
}

impl AliasPool {
    pub fn new(pools: &[Ipv4Net]) -> Self {
        AliasPool { pools: pools.to_vec(), taken: BTreeMap::new() }
    }

    /// Marks `net` as taken, whether or not it lies in a pool. Taking twice is harmless.
    pub fn reserve(&mut self, net: Ipv4Net) {
        let mut first = net.network().to_bits();
        let mut last = net.broadcast().to_bits();
        // Merge with what it overlaps or touches: ranges stay disjoint, and first fit skips a full run in one step.
        while let Some((start, end)) = self.overlapping(first.saturating_sub(1), last.saturating_add(1)) {
            self.taken.remove(&start);
            first = first.min(start);
            last = last.max(end);
        }
        self.taken.insert(first, last);
    }

    /// Takes the lowest aligned free prefix of `prefix_len` that also avoids every network in `avoid`.
    /// `None` when no pool has room: the pools are too small.
    pub fn allocate(&mut self, prefix_len: u8, avoid: &[Ipv4Net]) -> Option<Ipv4Net> {
        let found = self.pools.iter().find_map(|pool| self.first_fit(*pool, prefix_len, avoid))?;
        self.reserve(found);
        Some(found)
    }

    fn first_fit(&self, pool: Ipv4Net, prefix_len: u8, avoid: &[Ipv4Net]) -> Option<Ipv4Net> {
        if prefix_len < pool.prefix_len() || prefix_len > 32 {
            return None;
        }
        let size = 1u64 << (32 - prefix_len);
        let pool_end = u64::from(pool.broadcast().to_bits()) + 1;
        let mut at = u64::from(pool.network().to_bits());
        while at + size <= pool_end {
            let (first, last) = (at as u32, (at + size - 1) as u32);
            let blocked_to = self.overlapping(first, last).map(|(_, end)| end).or_else(|| {
                let hit = avoid.iter().find(|n| n.network().to_bits() <= last && n.broadcast().to_bits() >= first)?;
                Some(hit.broadcast().to_bits())
            });
            match blocked_to {
                None => return Some(Ipv4Net::new_assert(Ipv4Addr::from_bits(first), prefix_len)),
                Some(end) => at = (u64::from(end) + 1).next_multiple_of(size),
            }
        }
        None
    }

    fn overlapping(&self, first: u32, last: u32) -> Option<(u32, u32)> {
        let (start, end) = self.taken.range(..=last).next_back()?;
        (*end >= first).then_some((*start, *end))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn gives_the_lowest_free_aligned_prefix() {
        let mut pool = AliasPool::new(&[net("100.64.0.0/10")]);
        pool.reserve(net("100.64.0.0/24"));
        assert_eq!(pool.allocate(24, &[]), Some(net("100.64.1.0/24")));
        assert_eq!(pool.allocate(16, &[]), Some(net("100.65.0.0/16")));
        assert_eq!(pool.allocate(24, &[]), Some(net("100.64.2.0/24")));
        assert_eq!(pool.allocate(24, &[net("100.64.0.0/16")]), Some(net("100.66.0.0/24")));
    }

    #[test]
    fn says_when_the_pool_is_full() {
        let mut pool = AliasPool::new(&[net("100.64.0.0/30")]);
        assert_eq!(pool.allocate(29, &[]), None);
        for _ in 0..4 {
            assert!(pool.allocate(32, &[]).is_some());
        }
        assert_eq!(pool.allocate(32, &[]), None);
    }

    #[test]
    fn reaches_the_end_of_the_address_space_without_overflow() {
        let mut pool = AliasPool::new(&[net("255.255.255.254/31")]);
        assert_eq!(pool.allocate(32, &[]), Some(net("255.255.255.254/32")));
        assert_eq!(pool.allocate(32, &[]), Some(net("255.255.255.255/32")));
        assert_eq!(pool.allocate(32, &[]), None);
    }

    proptest! {
        #[test]
        fn never_gives_an_address_twice(
            reserved in prop::collection::vec((0u32..4096, 22u8..=32), 0..8),
            lens in prop::collection::vec(22u8..=32, 1..60),
        ) {
            let mut pool = AliasPool::new(&[net("10.0.0.0/20")]);
            let mut held: Vec<Ipv4Net> = Vec::new();
            for (bits, len) in reserved {
                let r = Ipv4Net::new_assert(Ipv4Addr::from_bits(net("10.0.0.0/20").network().to_bits() + bits), len).trunc();
                pool.reserve(r);
                held.push(r);
            }
            for len in lens {
                if let Some(got) = pool.allocate(len, &[]) {
                    prop_assert_eq!(got.prefix_len(), len);
                    prop_assert!(net("10.0.0.0/20").contains(&got));
                    for h in &held {
                        prop_assert!(!h.contains(&got) && !got.contains(h), "{} and {}", h, got);
                    }
                    held.push(got);
                }
            }
        }
    }
}
