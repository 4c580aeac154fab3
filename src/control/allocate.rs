//! The choice of realm numbers and aliases: pure, and the only place where one is made.
//!
//! What is recorded is never chosen again. Only then, in this order, so that the pool packs and the same file always
//! gives the same answer:
//!
//! 1. realms that have no number get the lowest ones never given, in file order;
//! 2. pins (`alias = "PREFIX"`, and the pools of `show_as`) take what they name, unless somebody else ever had a part of
//!    it;
//! 3. the centre's service network takes the first free /24, or, where the pool has none, /25 or /26;
//! 4. new networks and published hosts take the first free prefix of their size, widest first, then by realm number;
//! 5. a viewer whose own networks overlap the default alias of another realm's network gets an alias for it that no
//!    other viewer has, out of the same pool. It keeps that alias even when the reason for it goes away.
//!
//! A realm needs no alias for itself: nothing it sends to its own addresses comes to the centre.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ipnet::{IpNet, Ipv4Net};

use super::allocations::{AliasRecord, AliasState, Allocations, Holder, RealmRecord};
use super::change::{Changes, Subject, changes_between};
use super::inventory::{Inventory, Wanted};
use crate::config::model::{Config, Realm, RealmRef};
use crate::net::alias_pool::AliasPool;
use crate::net::{RealmId, service};

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AllocateError {
    #[error(
        "realm {realm:?} cannot be numbered: all 65,535 realm numbers were given at some time, and numbers are never \
         given twice"
    )]
    RealmNumbersExhausted { realm: String },
    #[error("realm {realm:?}: the alias {pin} is not of the size of the network {network}; pin a /{prefix_len}")]
    PinSize { realm: String, network: IpNet, pin: Ipv4Net, prefix_len: u8 },
    #[error(
        "realm {realm:?}: the alias {pin} pinned for {network} is taken: {held} {} {holder}; pin another prefix{}",
        if *.in_use { "is the alias of" } else { "stays reserved for" },
        if *.in_use { String::new() } else { format!(", or give it back with `ixgate plan FILE --release {held}`") }
    )]
    PinTaken { realm: String, network: IpNet, pin: Ipv4Net, held: Ipv4Net, holder: Box<Subject>, in_use: bool },
    #[error(
        "the alias pool is too small: no free /{prefix_len} is left in {pools} for {subject}; add a prefix to \
         ix.alias4, or publish only single hosts of large networks (alias = \"hosts\")"
    )]
    PoolExhausted { subject: Subject, prefix_len: u8, pools: String },
}

/// Gives everything that `config` asks for and `state` does not have yet. The result is the image to commit, and how
/// it differs from `state`.
pub fn allocate(config: &Config, state: &Allocations) -> Result<(Allocations, Changes), AllocateError> {
    let (realms, ids) = number_realms(config, state)?;
    let image = Allocations { space6: Some(config.ix.space6.prefix()), realms, aliases: state.aliases.clone() };
    let mut draft = Draft::new(config, Inventory::new(config, &ids), image);
    draft.apply_pins()?;
    draft.give_service_network()?;
    draft.give_default_aliases()?;
    draft.give_own_aliases()?;
    let image = draft.settle();
    let changes = changes_between(state, &image);
    Ok((image, changes))
}

/// Those of `new` networks for which the pool has nothing left, when everything else has got its share.
pub fn without_alias(
    config: &Config,
    state: &Allocations,
    new: &HashSet<(RealmRef, IpNet)>,
) -> Result<Vec<(RealmRef, IpNet)>, AllocateError> {
    let (realms, ids) = number_realms(config, state)?;
    let image = Allocations { space6: Some(config.ix.space6.prefix()), realms, aliases: state.aliases.clone() };
    let of_holder: BTreeMap<Holder, (RealmRef, IpNet)> = new
        .iter()
        .filter_map(|(realm, net)| Some((Holder::default_of(ids[realm.0]?, net.trunc()), (*realm, *net))))
        .collect();
    let mut draft = Draft::new(config, Inventory::new(config, &ids), image);
    draft.apply_pins()?;
    draft.give_service_network()?;
    let mut without = Vec::new();
    // As they would be given, but those of the file first.
    let (new, others): (Vec<_>, Vec<_>) =
        draft.new_holders().into_iter().partition(|holder| of_holder.contains_key(holder));
    others.into_iter().try_for_each(|holder| draft.give(holder, &[]))?;
    for holder in new {
        if draft.give(holder, &[]).is_err() {
            without.extend(of_holder.get(&holder));
        }
    }
    let network_of = |holder: &Holder| of_holder.get(&Holder { viewer: None, ..*holder });
    let (new, others): (Vec<_>, Vec<_>) =
        draft.new_own_aliases().into_iter().partition(|holder| network_of(holder).is_some());
    others.into_iter().try_for_each(|holder| draft.give_own(holder))?;
    for holder in new {
        if draft.give_own(holder).is_err() {
            without.extend(network_of(&holder));
        }
    }
    Ok(without)
}

/// The numbers of the configured realms, by `RealmRef`, where they are recorded.
pub fn recorded_ids(config: &Config, state: &Allocations) -> Vec<Option<RealmId>> {
    config.realms.iter().map(|realm| state.realm_id(&realm.name)).collect()
}

type Numbered = (BTreeMap<String, RealmRecord>, Vec<Option<RealmId>>);

fn number_realms(config: &Config, state: &Allocations) -> Result<Numbered, AllocateError> {
    let mut realms = state.realms.clone();
    realms.values_mut().for_each(|record| record.configured = false);
    let given: BTreeSet<RealmId> = realms.values().map(|record| record.id).collect();
    let mut free = (1..=u16::MAX).map(RealmId).filter(|id| !given.contains(id));
    let mut id_of = |realm: &Realm| {
        let id = match state.realm_id(&realm.name) {
            Some(id) => id,
            None => free.next().ok_or(AllocateError::RealmNumbersExhausted { realm: realm.name.clone() })?,
        };
        realms.insert(realm.name.clone(), RealmRecord { id, configured: true });
        Ok(Some(id))
    };
    let ids = config.realms.iter().map(&mut id_of).collect::<Result<_, _>>()?;
    Ok((realms, ids))
}

/// An image in the making.
struct Draft<'a> {
    config: &'a Config,
    inventory: Inventory,
    image: Allocations,
    /// The alias of each holder that has one; kept in step with `image`.
    current: BTreeMap<Holder, Ipv4Net>,
    /// Everything in `image` is reserved in it.
    pool: AliasPool,
}

impl<'a> Draft<'a> {
    fn new(config: &'a Config, inventory: Inventory, image: Allocations) -> Self {
        let mut pool = AliasPool::new(&config.ix.alias4);
        image.aliases.keys().for_each(|alias| pool.reserve(*alias));
        let current = image.current();
        Draft { config, inventory, image, current, pool }
    }

    fn apply_pins(&mut self) -> Result<(), AllocateError> {
        for wanted in self.inventory.wanted.clone() {
            let Some(pin) = wanted.pin else { continue };
            self.check_pin(&wanted, pin)?;
            self.record(Holder::default_of(wanted.owner, wanted.native), pin);
        }
        Ok(())
    }

    fn check_pin(&self, wanted: &Wanted, pin: Ipv4Net) -> Result<(), AllocateError> {
        let holder = Holder::default_of(wanted.owner, wanted.native);
        let realm = || self.subject(holder).realm;
        let network = wanted.native;
        let prefix_len = holder.alias_len();
        if pin.prefix_len() != prefix_len {
            return Err(AllocateError::PinSize { realm: realm(), network, pin, prefix_len });
        }
        match self.image.all_overlapping(pin).find(|(_, record)| record.holder != holder) {
            None => Ok(()),
            Some((held, record)) => Err(AllocateError::PinTaken {
                realm: realm(),
                network,
                pin,
                held,
                holder: Box::new(self.subject(record.holder)),
                // By what the configuration uses now, not by what the state says was used before.
                in_use: record.state != AliasState::Replaced && self.inventory.uses(record.holder),
            }),
        }
    }

    fn give_service_network(&mut self) -> Result<(), AllocateError> {
        if self.current.keys().any(|holder| holder.viewer.is_none() && holder.owner.is_ix()) {
            return Ok(());
        }
        for prefix_len in service::PREFIX_LEN..service::PREFIX_LEN_MAX {
            let holder = Holder::default_of(RealmId::IX, service::network(prefix_len));
            if self.give(holder, &[]).is_ok() {
                return Ok(());
            }
        }
        self.give(Holder::default_of(RealmId::IX, service::network(service::PREFIX_LEN_MAX)), &[])
    }

    fn give_default_aliases(&mut self) -> Result<(), AllocateError> {
        self.new_holders().into_iter().try_for_each(|holder| self.give(holder, &[]))
    }

    /// Who has no alias yet, in the order in which they are given.
    fn new_holders(&self) -> Vec<Holder> {
        let holders = self.inventory.wanted.iter().map(|wanted| Holder::default_of(wanted.owner, wanted.native));
        let mut new: Vec<Holder> = holders.filter(|holder| !self.current.contains_key(holder)).collect();
        // Stable: within one realm and size, the order of the file. Realm numbers, not places in the file, order the
        // rest, because known realms may be listed in any order.
        new.sort_by_key(|holder| (holder.alias_len(), holder.owner));
        new
    }

    fn give_own_aliases(&mut self) -> Result<(), AllocateError> {
        self.new_own_aliases().into_iter().try_for_each(|holder| self.give_own(holder))
    }

    /// In the order in which they are given.
    fn new_own_aliases(&self) -> Vec<Holder> {
        let mut new: Vec<Holder> = self.own_aliases_needed().into_iter().collect();
        new.sort_by_key(|holder| (holder.alias_len(), *holder));
        new
    }

    fn give_own(&mut self, holder: Holder) -> Result<(), AllocateError> {
        let avoid = holder.viewer.and_then(|viewer| self.inventory.own4.get(&viewer)).cloned().unwrap_or_default();
        self.give(holder, &avoid)
    }

    /// Viewers and the networks that they cannot see under what they see them now.
    fn own_aliases_needed(&self) -> BTreeSet<Holder> {
        let shown = self.shown_by_default();
        let own = self.inventory.own4.iter().flat_map(|(viewer, nets)| nets.iter().map(move |net| (*viewer, *net)));
        let mut needed = BTreeSet::new();
        for (viewer, net) in own {
            for (_, record) in shown.all_overlapping(net).filter(|(_, record)| record.holder.owner != viewer) {
                let holder = Holder { viewer: Some(viewer), ..record.holder };
                if !self.current.contains_key(&holder) {
                    needed.insert(holder);
                }
            }
            // An own alias that the viewer has since begun to use itself.
            let outgrown = self.image.all_overlapping(net).filter(|(alias, record)| {
                record.holder.viewer == Some(viewer)
                    && self.current.get(&record.holder) == Some(alias)
                    && self.inventory.uses(record.holder)
            });
            needed.extend(outgrown.map(|(_, record)| record.holder));
        }
        needed
    }

    /// The default aliases of what is configured now.
    fn shown_by_default(&self) -> Allocations {
        let networks = self.inventory.wanted.iter().filter(|wanted| !wanted.is_pool);
        let wanted = networks.map(|wanted| Holder::default_of(wanted.owner, wanted.native));
        let service = self.current.keys().filter(|holder| holder.owner.is_ix() && holder.viewer.is_none()).copied();
        let record = |holder: Holder| {
            let alias = *self.current.get(&holder)?;
            Some((alias, AliasRecord { holder, state: AliasState::InUse }))
        };
        Allocations { aliases: wanted.chain(service).filter_map(record).collect(), ..Default::default() }
    }

    fn give(&mut self, holder: Holder, avoid: &[Ipv4Net]) -> Result<(), AllocateError> {
        let prefix_len = holder.alias_len();
        let Some(alias) = self.pool.allocate(prefix_len, avoid) else {
            let pools: Vec<String> = self.config.ix.alias4.iter().map(Ipv4Net::to_string).collect();
            return Err(AllocateError::PoolExhausted {
                subject: self.subject(holder),
                prefix_len,
                pools: pools.join(", "),
            });
        };
        self.record(holder, alias);
        Ok(())
    }

    /// Makes `alias` the current one of `holder`; an earlier one stays in the image, replaced.
    fn record(&mut self, holder: Holder, alias: Ipv4Net) {
        let earlier = self.current.insert(holder, alias).filter(|earlier| *earlier != alias);
        if let Some(record) = earlier.and_then(|earlier| self.image.aliases.get_mut(&earlier)) {
            record.state = AliasState::Replaced;
        }
        self.pool.reserve(alias);
        self.image.aliases.insert(alias, AliasRecord { holder, state: AliasState::InUse });
    }

    /// Marks what the configuration uses and what only stays reserved.
    fn settle(mut self) -> Allocations {
        for record in self.image.aliases.values_mut().filter(|record| record.state != AliasState::Replaced) {
            let used = self.inventory.uses(record.holder);
            record.state = if used { AliasState::InUse } else { AliasState::Reserved };
        }
        self.image
    }

    fn subject(&self, holder: Holder) -> Subject {
        Subject::new(holder, &self.image.names())
    }
}

#[cfg(test)]
mod tests;
