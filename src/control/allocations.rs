//! The memory of what was given to whom, as plain data: an image of the state store.
//!
//! Two rules make it permanent. A realm's name, once numbered, keeps its number for ever. An alias prefix, once given,
//! has one entry here, whose [`Holder`] never changes; the entry goes away only when it is released by hand. All
//! entries are disjoint, so an address inside the alias pools has at most one meaning, today and in old logs.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::net::RealmId;
use crate::net::alias_pool;

/// Every realm number and alias that was ever given and not released.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Allocations {
    /// The space that canonical addresses were made from last; recorded so that `plan` can say that all would change.
    pub space6: Option<Ipv6Net>,
    /// By name, removed realms too.
    pub realms: BTreeMap<String, RealmRecord>,
    /// By alias prefix. Disjoint.
    pub aliases: BTreeMap<Ipv4Net, AliasRecord>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RealmRecord {
    pub id: RealmId,
    /// Whether the configuration that was recorded last has the realm.
    pub configured: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AliasRecord {
    pub holder: Holder,
    pub state: AliasState,
}

/// What an alias stands for: a network, and for whom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Holder {
    /// `None`: the default alias, for every viewer that has none of its own.
    pub viewer: Option<RealmId>,
    pub owner: RealmId,
    /// On the owner's wires; a /32 or /128 for a host of a network that publishes only single hosts.
    pub native: IpNet,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AliasState {
    InUse,
    /// Its realm or network is not configured any more. It comes back with them.
    Reserved,
    /// Its network is shown under another alias by now. Only a pin brings it back.
    Replaced,
}

impl Holder {
    pub fn default_of(owner: RealmId, native: impl Into<IpNet>) -> Self {
        Holder { viewer: None, owner, native: native.into() }
    }

    /// Of an alias with an address for each of `native`. No pool has room for that of an IPv6 network with more of
    /// them than there are IPv4 addresses: 0.
    pub fn alias_len(&self) -> u8 {
        alias_pool::alias_len(self.native).unwrap_or(0)
    }
}

impl Allocations {
    pub fn realm_id(&self, name: &str) -> Option<RealmId> {
        self.realms.get(name).map(|record| record.id)
    }

    /// The name that a number was given to, whether or not the realm still exists. The centre itself is "ix".
    pub fn realm_name(&self, id: RealmId) -> Option<&str> {
        if id.is_ix() {
            return Some("ix");
        }
        self.realms.iter().find(|(_, record)| record.id == id).map(|(name, _)| name.as_str())
    }

    /// All names by number, for who must look up many.
    pub fn names(&self) -> BTreeMap<RealmId, &str> {
        let realms = self.realms.iter().map(|(name, record)| (record.id, name.as_str()));
        std::iter::once((RealmId::IX, "ix")).chain(realms).collect()
    }

    /// The alias of each holder that has one, replaced ones left out.
    pub fn current(&self) -> BTreeMap<Holder, Ipv4Net> {
        let standing = self.aliases.iter().filter(|(_, record)| record.state != AliasState::Replaced);
        standing.map(|(alias, record)| (record.holder, *alias)).collect()
    }

    /// The entry that overlaps `net`, the lowest if there are several.
    pub fn overlapping(&self, net: Ipv4Net) -> Option<(Ipv4Net, AliasRecord)> {
        self.all_overlapping(net).next()
    }

    /// Every entry that overlaps `net`. Entries are disjoint, so only the one before `net` can reach into it.
    pub fn all_overlapping(&self, net: Ipv4Net) -> impl Iterator<Item = (Ipv4Net, AliasRecord)> {
        let before = self.aliases.range(..lowest_key(net.network())).next_back();
        let before = before.filter(move |(alias, _)| alias.broadcast() >= net.network());
        let inside = self.aliases.range(lowest_key(net.network())..=highest_key(net.broadcast()));
        before.into_iter().chain(inside).map(|(alias, record)| (*alias, *record))
    }

    /// What every image obeys; a store that holds anything else was not written by us.
    pub fn check(&self) -> Result<(), String> {
        let mut ids = BTreeMap::new();
        for (name, record) in &self.realms {
            if record.id.is_ix() {
                return Err(format!("realm {name} has number 0, which is the centre's own"));
            }
            if let Some(other) = ids.insert(record.id, name) {
                return Err(format!("realms {other} and {name} share number {}", record.id));
            }
        }
        self.check_aliases()
    }

    fn check_aliases(&self) -> Result<(), String> {
        let mut current = BTreeMap::new();
        for (alias, record) in &self.aliases {
            if let Some((other, _)) = self.all_overlapping(*alias).find(|(other, _)| other != alias) {
                return Err(format!("aliases {alias} and {other} overlap"));
            }
            if alias_pool::alias_len(record.holder.native) != Some(alias.prefix_len()) {
                return Err(format!("alias {alias} is not of the size of {}", record.holder.native));
            }
            if record.state == AliasState::Replaced {
                continue;
            }
            if let Some(other) = current.insert(record.holder, alias) {
                return Err(format!("{other} and {alias} are both current for {}", record.holder.native));
            }
        }
        Ok(())
    }
}

/// `Ipv4Net` sorts by address, then by length.
fn lowest_key(addr: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::new_assert(addr, 0)
}

fn highest_key(addr: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::new_assert(addr, 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn image(aliases: &[&str]) -> Allocations {
        let record = |alias: &&str| {
            let holder = Holder::default_of(RealmId(1), net(alias));
            (net(alias), AliasRecord { holder, state: AliasState::InUse })
        };
        Allocations { aliases: aliases.iter().map(record).collect(), ..Default::default() }
    }

    #[test]
    fn finds_every_entry_that_overlaps() {
        let image = image(&["10.0.0.0/24", "10.0.1.0/25", "10.0.1.128/32", "10.0.2.0/24"]);
        let found = |text| image.all_overlapping(net(text)).map(|(alias, _)| alias.to_string()).collect::<Vec<_>>();
        assert_eq!(found("10.0.0.77/32"), ["10.0.0.0/24"]);
        assert_eq!(found("10.0.1.0/24"), ["10.0.1.0/25", "10.0.1.128/32"]);
        assert_eq!(found("10.0.0.0/23"), ["10.0.0.0/24", "10.0.1.0/25", "10.0.1.128/32"]);
        assert_eq!(found("10.0.1.128/25"), ["10.0.1.128/32"]);
        assert_eq!(found("10.0.1.129/32"), [""; 0]);
        assert_eq!(found("0.0.0.0/0").len(), 4);
        assert_eq!(found("10.0.3.0/24"), [""; 0]);
    }

    #[test]
    fn check_refuses_overlapping_aliases_and_shared_numbers() {
        assert_eq!(image(&["10.0.0.0/24", "10.0.1.0/24"]).check(), Ok(()));
        assert!(image(&["10.0.0.0/24", "10.0.0.8/32"]).check().unwrap_err().contains("overlap"));

        let mut shared = Allocations::default();
        for name in ["a", "b"] {
            shared.realms.insert(name.into(), RealmRecord { id: RealmId(1), configured: true });
        }
        assert!(shared.check().unwrap_err().contains("share number 1"));
    }
}
