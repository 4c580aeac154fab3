//! How much of `alias4` the networks that one realm learns may hold, withdrawn ones included.
//!
//! Aliases are permanent, so a daemon that announces ever new prefixes would take all of them in time. What bounds it takes
//! nothing back: whoever has an alias keeps it, and comes back under it. Only what never had one is refused, and only that
//! realm's; an operator gives aliases back by hand (`--release`), or raises the bound.

use std::collections::{HashMap, HashSet};

use ipnet::{IpNet, Ipv4Net};

use super::Refusal;
use crate::config::model::{Config, Realm, RealmRef, RoutesFrom};
use crate::control::allocate::recorded_ids;
use crate::control::allocations::{AliasRecord, AliasState, Allocations, Holder};
use crate::control::inventory::Inventory;
use crate::net::{RealmId, alias_pool};

/// Networks that hold an alias, as a multiple of `max_prefixes`: as many again may be withdrawn.
const NETWORKS_PER_PREFIX: usize = 2;

/// By realm. One without a daemon has none.
pub(super) struct Shares(Vec<Share>);

/// What is left to one realm.
#[derive(Clone, Default)]
pub(super) struct Share {
    /// Networks that have an alias: they cost nothing more.
    recorded: HashSet<IpNet>,
    max_networks: usize,
    networks_left: usize,
    max_addresses: u64,
    addresses_left: u64,
}

impl Shares {
    pub fn new(file: &Config, state: &Allocations) -> Self {
        let ids = recorded_ids(file, state);
        let inventory = Inventory::new(file, &ids);
        let whole = |realm: &Realm| realm.routes_from.as_ref().map(|from| Share::whole(from, file)).unwrap_or_default();
        let mut shares: Vec<Share> = file.realms.iter().map(whole).collect();
        let by_id: HashMap<RealmId, usize> = ids.into_iter().zip(0..).filter_map(|(id, at)| Some((id?, at))).collect();
        for (alias, record) in &state.aliases {
            if let Some(at) = by_id.get(&record.holder.owner).filter(|at| file.realms[**at].routes_from.is_some()) {
                shares[*at].subtract(*alias, record, &inventory);
            }
        }
        Shares(shares)
    }

    pub fn of(&self, realm: RealmRef) -> Share {
        self.0.get(realm.0).cloned().unwrap_or_default()
    }
}

impl Share {
    fn whole(from: &RoutesFrom, file: &Config) -> Self {
        let max_networks = from.max_prefixes.saturating_mul(NETWORKS_PER_PREFIX);
        let max_addresses = max_alias_addresses(from, file);
        Share {
            recorded: HashSet::new(),
            max_networks,
            networks_left: max_networks,
            max_addresses,
            addresses_left: max_addresses,
        }
    }

    /// Something that was given to the realm. What the file has is nothing learned.
    fn subtract(&mut self, alias: Ipv4Net, record: &AliasRecord, inventory: &Inventory) {
        let Holder { viewer, owner, native } = record.holder;
        let is_current = viewer.is_none() && record.state != AliasState::Replaced;
        if is_current {
            self.recorded.insert(native);
        }
        if !inventory.uses(Holder::default_of(owner, native)) {
            self.networks_left = self.networks_left.saturating_sub(usize::from(is_current));
            self.addresses_left = self.addresses_left.saturating_sub(addresses(alias.prefix_len()));
        }
    }

    pub fn is_recorded(&self, net: IpNet) -> bool {
        self.recorded.contains(&net)
    }

    /// Whether `net` may have an alias.
    pub fn check(&self, net: IpNet) -> Result<(), Refusal> {
        match () {
            () if self.is_recorded(net) => Ok(()),
            () if self.networks_left == 0 => Err(Refusal::TooManyAliases { max: self.max_networks }),
            () if cost(net) > self.addresses_left => Err(Refusal::ShareTaken { max: self.max_addresses }),
            () => Ok(()),
        }
    }

    /// `net` gets an alias.
    pub fn charge(&mut self, net: IpNet) {
        if !self.is_recorded(net) {
            self.networks_left = self.networks_left.saturating_sub(1);
            self.addresses_left = self.addresses_left.saturating_sub(cost(net));
        }
    }
}

/// Addresses of `alias4` for all that the realm of `from` ever learned. One half of them is for networks of the file alone.
pub fn max_alias_addresses(from: &RoutesFrom, file: &Config) -> u64 {
    if let Some(max) = from.max_alias_addresses {
        return max;
    }
    let pool: u64 = file.ix.alias4.iter().map(|net| addresses(net.prefix_len())).sum();
    let daemons = file.realms.iter().filter(|realm| realm.routes_from.is_some()).count() as u64;
    pool / 2 / daemons.max(1)
}

fn cost(net: IpNet) -> u64 {
    alias_pool::alias_len(net).map_or(u64::MAX, addresses)
}

fn addresses(prefix_len: u8) -> u64 {
    1 << (32 - prefix_len)
}
