//! What differs between two mappings: for those who remember what an earlier one meant.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::{Mapping, Network, RealmTables};
use crate::net::{NetworkId, RealmId};

/// Networks that came, went or are seen otherwise.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MappingChanges {
    /// Whose networks they are, and who sees them otherwise than others do.
    realms: BTreeSet<RealmId>,
    /// Addresses by which they are or were seen, and native ones of IPv6; sorted.
    prefixes: Vec<IpNet>,
}

impl MappingChanges {
    pub fn is_empty(&self) -> bool {
        self.realms.is_empty()
    }

    /// Whether the realm's own networks, or its view, are otherwise.
    pub fn concern(&self, realm: RealmId) -> bool {
        self.realms.contains(&realm)
    }

    /// Whether somebody sees, or saw, one of the networks by this address.
    pub fn contain(&self, addr: IpAddr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(&addr))
    }
}

impl Mapping {
    /// `None`: everything may be otherwise.
    pub fn changes_since(&self, before: &Mapping) -> Option<MappingChanges> {
        if (self.space6, self.default_realm()) != (before.space6, before.default_realm()) {
            return None;
        }
        let mut changes = MappingChanges::default();
        for network in differing(&self.networks, &before.networks) {
            changes.realms.insert(network.realm);
            changes.prefixes.push(network.canonical.into());
            changes.prefixes.extend(network.alias.map(IpNet::V4));
            changes.prefixes.extend(Some(network.native).filter(|native| matches!(native, IpNet::V6(_))));
        }
        for number in 0..self.realms.len().max(before.realms.len()) {
            if self.peculiarities(number) != before.peculiarities(number) {
                changes.realms.insert(RealmId(number as u16));
            }
        }
        changes.prefixes.sort_unstable();
        changes.prefixes.dedup();
        Some(changes)
    }

    /// What one viewer sees otherwise than others do, by the networks themselves: their numbers shift.
    fn peculiarities(&self, realm: usize) -> Peculiarities<'_> {
        let tables = self.realms.get(realm);
        let overridden = |tables: &RealmTables| {
            tables.overridden.iter().map(|(id, alias)| (self.network(*id), Some(*alias))).collect::<Vec<_>>()
        };
        let hidden = |tables: &RealmTables| {
            tables.hidden.iter().map(|id: &NetworkId| (self.network(*id), None)).collect::<Vec<_>>()
        };
        let all = tables.map(|tables| [overridden(tables), hidden(tables)].concat());
        all.into_iter().flatten().collect()
    }
}

type Peculiarities<'a> = HashSet<(&'a Network, Option<Ipv4Net>)>;

/// Those that only one of both has. Most are in both, in the same order.
fn differing<'a>(some: &'a [Network], others: &'a [Network]) -> Vec<&'a Network> {
    let first = some.iter().zip(others).take_while(|(one, other)| one == other).count();
    let (some, others) = (&some[first..], &others[first..]);
    let last = some.iter().rev().zip(others.iter().rev()).take_while(|(one, other)| one == other).count();
    let some: HashSet<_> = some[..some.len() - last].iter().collect();
    let others: HashSet<_> = others[..others.len() - last].iter().collect();
    some.symmetric_difference(&others).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::super::AliasOverride;
    use super::*;
    use crate::net::Space6;

    const V: RealmId = RealmId(4);

    fn mapping(natives: &[(u16, &str, &str)], overridden: &[(u32, &str)]) -> Mapping {
        let space = Space6::new("fd69:7867:6174::/48".parse().unwrap()).unwrap();
        let networks = natives.iter().map(|(realm, native, alias)| {
            let (realm, native): (_, Ipv4Net) = (RealmId(*realm), native.parse().unwrap());
            let canonical = space.embed_net(realm, native);
            Network { realm, native: native.into(), canonical, alias: alias.parse().ok() }
        });
        let overrides = overridden.iter().map(|(network, alias)| AliasOverride {
            viewer: V,
            network: NetworkId(*network),
            alias: alias.parse().unwrap(),
        });
        Mapping::new(space, networks.collect(), &overrides.collect::<Vec<_>>())
    }

    #[test]
    fn what_came_or_went_is_told_and_what_shifted_is_not() {
        let (a, b) = ((1, "10.0.0.0/16", "100.64.0.0/16"), (2, "10.0.0.0/16", "100.65.0.0/16"));
        let new = (3, "10.0.0.0/16", "100.66.0.0/16");
        let before = mapping(&[a, b], &[(1, "100.70.0.0/16")]);
        assert!(before.changes_since(&before.clone()).unwrap().is_empty());
        let after = mapping(&[a, new, b], &[(2, "100.70.0.0/16")]);
        for changes in [after.changes_since(&before).unwrap(), before.changes_since(&after).unwrap()] {
            assert_eq!([1, 2, 3, 4].map(|realm| changes.concern(RealmId(realm))), [false, false, true, false]);
            let is_told = |addr: &str| changes.contain(addr.parse().unwrap());
            assert!(is_told("100.66.1.2") && is_told("fd69:7867:6174:3::a00:1") && !is_told("100.65.1.2"));
        }
    }

    #[test]
    fn a_viewer_whose_alias_is_another_is_concerned_alone() {
        let networks = [(1, "10.0.0.0/16", "100.64.0.0/16"), (2, "10.0.0.0/16", "100.65.0.0/16")];
        let (before, mut after) = (mapping(&networks, &[]), mapping(&networks, &[(1, "100.70.0.0/16")]));
        let concerned = |changes: MappingChanges| [1, 2, 4].map(|realm| changes.concern(RealmId(realm)));
        assert_eq!(concerned(after.changes_since(&before).unwrap()), [false, false, true]);
        let overridden = after.clone();
        after.hide([(V, NetworkId(0))]);
        assert_eq!(concerned(after.changes_since(&overridden).unwrap()), [false, false, true]);
    }
}
