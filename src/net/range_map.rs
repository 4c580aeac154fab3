//! Longest-prefix match compiled into disjoint sorted ranges: immutable, compact, one binary search a lookup.
//!
//! Nested prefixes are flattened when the map is built, so that a lookup finds the most specific one without
//! backtracking. Built from n prefixes it holds at most 2n + 1 ranges.

/// `K` is an address as an integer (`u32`, `u128`), `V` what a prefix stands for.
#[derive(Clone, Debug)]
pub struct RangeMap<K, V> {
    /// First addresses, sorted; apart from `rest` so that the search touches nothing else.
    starts: Vec<K>,
    /// Last address (inclusive) and value of the range that starts at the same index.
    rest: Vec<(K, V)>,
}

impl<K, V> Default for RangeMap<K, V> {
    fn default() -> Self {
        RangeMap { starts: Vec::new(), rest: Vec::new() }
    }
}

/// Integer arithmetic that both address families have.
pub trait Key: Copy + Ord {
    fn next(self) -> Option<Self>;
    fn prev(self) -> Option<Self>;
}

impl Key for u32 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
    fn prev(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

impl Key for u128 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
    fn prev(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

impl<K: Key, V: Copy> RangeMap<K, V> {
    /// Builds from prefixes given as (first, last inclusive, value). Any two are nested or disjoint, as CIDR prefixes
    /// are; of two equal ones the later wins.
    pub fn new(mut prefixes: Vec<(K, K, V)>) -> Self {
        // Outer before inner: by first address, then widest first. The sort is stable, so later equals stay later.
        prefixes.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        let mut map = RangeMap { starts: Vec::new(), rest: Vec::new() };
        let mut open: Vec<(K, V)> = Vec::new(); // enclosing prefixes (last, value), innermost at the end
        let mut at: Option<K> = None; // the first address not yet covered by `map`, while `open` is not empty
        for (first, last, value) in prefixes {
            map.close_until(&mut open, &mut at, Some(first));
            if let (Some(from), Some(&(_, outer))) = (at, open.last())
                && let Some(before) = first.prev()
                && from <= before
            {
                map.push(from, before, outer);
            }
            open.push((last, value));
            at = Some(first);
        }
        map.close_until(&mut open, &mut at, None);
        map
    }

    #[inline]
    pub fn lookup(&self, key: K) -> Option<V> {
        let after = self.starts.partition_point(|start| *start <= key);
        let (last, value) = *self.rest.get(after.checked_sub(1)?)?;
        (key <= last).then_some(value)
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Ends every open prefix that lies wholly before `next`.
    fn close_until(&mut self, open: &mut Vec<(K, V)>, at: &mut Option<K>, next: Option<K>) {
        while let Some(&(last, value)) = open.last() {
            if next.is_some_and(|next| last >= next) {
                return;
            }
            open.pop();
            if let Some(from) = *at
                && from <= last
            {
                self.push(from, last, value);
                *at = last.next();
            }
        }
    }

    fn push(&mut self, first: K, last: K, value: V) {
        self.starts.push(first);
        self.rest.push((last, value));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ipnet::Ipv4Net;
    use proptest::prelude::*;

    use super::*;

    fn build(nets: &[Ipv4Net]) -> RangeMap<u32, usize> {
        RangeMap::new(
            nets.iter().enumerate().map(|(i, n)| (n.network().to_bits(), n.broadcast().to_bits(), i)).collect(),
        )
    }

    /// The obviously right answer: the longest prefix that contains the address, the later of equals.
    fn slow(nets: &[Ipv4Net], addr: Ipv4Addr) -> Option<usize> {
        (0..nets.len()).filter(|i| nets[*i].contains(&addr)).max_by_key(|i| (nets[*i].prefix_len(), *i))
    }

    #[test]
    fn finds_the_most_specific() {
        let nets: Vec<Ipv4Net> =
            ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.1/32", "0.0.0.0/0"].map(|n| n.parse().unwrap()).to_vec();
        let map = build(&nets);
        for (addr, want) in [("10.1.1.1", 2), ("10.1.1.2", 1), ("10.2.0.0", 0), ("255.255.255.255", 3), ("0.0.0.0", 3)]
        {
            assert_eq!(map.lookup(addr.parse::<Ipv4Addr>().unwrap().to_bits()), Some(want), "{addr}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_linear_search(
            raw in prop::collection::vec((0u32..1 << 12, 20u8..=32), 0..40),
            probes in prop::collection::vec(0u32..1 << 12, 1..200),
        ) {
            let nets: Vec<Ipv4Net> =
                raw.iter().map(|(bits, len)| Ipv4Net::new_assert(Ipv4Addr::from_bits(*bits), *len).trunc()).collect();
            let map = build(&nets);
            for bits in probes {
                prop_assert_eq!(map.lookup(bits), slow(&nets, Ipv4Addr::from_bits(bits)));
            }
        }
    }
}
