//! Where address spaces meet: equal and nested prefixes among the realms' own networks.
//!
//! Five hundred realms that all use 192.168.1.0/24 are one line here, not 124,750 pairs.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::Serialize;

/// A prefix that at least two realms use, or that touches another realm's prefix.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Overlap {
    /// Every one of `realms` (at least two) uses exactly `prefix`.
    Exact { prefix: IpNet, realms: Vec<String> },
    /// `inner` lies inside `outer`, and not only within one and the same realm.
    Partial { outer: IpNet, outer_realms: Vec<String>, inner: IpNet, inner_realms: Vec<String> },
}

impl Overlap {
    pub fn is_ipv4(&self) -> bool {
        match self {
            Overlap::Exact { prefix, .. } => prefix.addr().is_ipv4(),
            Overlap::Partial { outer, .. } => outer.addr().is_ipv4(),
        }
    }
}

/// Every overlap between networks of different realms, exact ones first.
pub fn overlaps<'a>(networks: impl IntoIterator<Item = (&'a str, IpNet)>) -> Vec<Overlap> {
    let mut users: BTreeMap<IpNet, Vec<String>> = BTreeMap::new();
    for (realm, native) in networks {
        let realms = users.entry(native.trunc()).or_default();
        if realms.last().is_none_or(|last| last != realm) {
            realms.push(realm.to_string());
        }
    }
    let exact = users.iter().filter(|(_, realms)| realms.len() > 1);
    let exact = exact.map(|(prefix, realms)| Overlap::Exact { prefix: *prefix, realms: realms.clone() });
    exact.chain(partial(&users)).collect()
}

/// Sorted by address and then by length, every prefix comes after those that enclose it; a stack holds these.
fn partial(users: &BTreeMap<IpNet, Vec<String>>) -> Vec<Overlap> {
    let mut found = Vec::new();
    let mut enclosing: Vec<IpNet> = Vec::new();
    for (inner, inner_realms) in users {
        while enclosing.last().is_some_and(|outer| !outer.contains(inner)) {
            enclosing.pop();
        }
        for outer in &enclosing {
            let outer_realms = &users[outer];
            if outer_realms != inner_realms || outer_realms.len() > 1 {
                let (outer_realms, inner_realms) = (outer_realms.clone(), inner_realms.clone());
                found.push(Overlap::Partial { outer: *outer, outer_realms, inner: *inner, inner_realms });
            }
        }
        enclosing.push(*inner);
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn equal_prefixes_are_one_group_and_nested_ones_are_pairs() {
        let found = overlaps([
            ("a", net("192.168.1.0/24")),
            ("b", net("192.168.1.0/24")),
            ("c", net("192.168.0.0/16")),
            ("d", net("10.0.0.0/8")),
            ("d", net("10.1.0.0/16")),
            ("e", net("fd00:1::/64")),
            ("f", net("fd00::/16")),
        ]);
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(
            found,
            [
                Overlap::Exact { prefix: net("192.168.1.0/24"), realms: names(&["a", "b"]) },
                Overlap::Partial {
                    outer: net("192.168.0.0/16"),
                    outer_realms: names(&["c"]),
                    inner: net("192.168.1.0/24"),
                    inner_realms: names(&["a", "b"]),
                },
                Overlap::Partial {
                    outer: net("fd00::/16"),
                    outer_realms: names(&["f"]),
                    inner: net("fd00:1::/64"),
                    inner_realms: names(&["e"]),
                },
            ]
        );
        assert!(found[0].is_ipv4() && !found[2].is_ipv4());
    }

    proptest! {
        /// Against the answer by comparing every two networks.
        #[test]
        fn no_pair_is_missed_and_none_is_invented(raw in prop::collection::vec((0u8..4, 0u32..64, 24u8..=32), 0..20)) {
            let names = ["a", "b", "c", "d"];
            let mut networks: Vec<(&str, IpNet)> = raw
                .iter()
                .map(|(realm, bits, len)| {
                    let addr = std::net::Ipv4Addr::from_bits(0x0a00_0000 | bits << 2);
                    (names[usize::from(*realm)], ipnet::Ipv4Net::new_assert(addr, *len).trunc().into())
                })
                .collect();
            networks.sort();
            networks.dedup();
            let mut want = std::collections::BTreeSet::new();
            for (realm, a) in &networks {
                for (other, b) in &networks {
                    if realm != other && a.contains(b) {
                        want.insert((*a, *b, *realm, *other));
                    }
                }
            }
            let mut got = std::collections::BTreeSet::new();
            let found = overlaps(networks.iter().copied());
            for overlap in &found {
                let (outer, outer_realms, inner, inner_realms) = match overlap {
                    Overlap::Exact { prefix, realms } => (prefix, realms, prefix, realms),
                    Overlap::Partial { outer, outer_realms, inner, inner_realms } => {
                        (outer, outer_realms, inner, inner_realms)
                    }
                };
                for a in outer_realms {
                    for b in inner_realms.iter().filter(|b| *b != a) {
                        got.insert((*outer, *inner, a.as_str(), b.as_str()));
                    }
                }
            }
            prop_assert_eq!(got, want);
        }
    }
}
