//! Giving aliases back to the pool by hand: the one way in which a permanent allocation ends.
//!
//! A realm's number is not given back: canonical addresses in old logs must stay unambiguous, and a realm that returns
//! under its name finds its number again.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::Ipv4Net;

use super::allocate::recorded_ids;
use super::allocations::{AliasRecord, AliasState, Allocations};
use super::change::{Changes, changes_between};
use super::inventory::Inventory;
use crate::config::model::Config;

/// What to give back: every alias of a removed realm, or one reserved alias.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Release {
    Realm(String),
    Alias(Ipv4Net),
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReleaseError {
    #[error("realm {0:?} is still configured; remove it from the file first")]
    RealmConfigured(String),
    #[error("no realm {0:?} was ever recorded here")]
    RealmUnknown(String),
    #[error("realm {0:?} holds no alias; there is nothing to release")]
    NothingHeld(String),
    #[error("{0} is in use; remove its network from the file first")]
    AliasInUse(Ipv4Net),
    #[error("{0} is not a recorded alias; `ixgate plan FILE` lists the reserved ones")]
    AliasUnknown(Ipv4Net),
}

impl FromStr for Release {
    type Err = std::convert::Infallible;

    /// A prefix or an address is an alias; anything else is a realm's name (names hold neither slash nor dot).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let single = || text.parse::<Ipv4Addr>().map(Ipv4Net::from).ok();
        let alias = text.parse().ok().or_else(single);
        Ok(alias.map_or_else(|| Release::Realm(text.to_string()), Release::Alias))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Release::Realm(realm) => realm.fmt(f),
            Release::Alias(alias) => alias.fmt(f),
        }
    }
}

/// Frees what `what` names, unless `config` still uses it. Needs no allocation to succeed: releasing is often what
/// makes one possible.
pub fn release(config: &Config, state: &Allocations, what: &Release) -> Result<(Allocations, Changes), ReleaseError> {
    let mut image = state.clone();
    match what {
        Release::Realm(realm) => release_realm(config, &mut image, realm)?,
        Release::Alias(alias) => release_alias(config, &mut image, *alias)?,
    }
    let changes = changes_between(state, &image);
    Ok((image, changes))
}

fn release_realm(config: &Config, image: &mut Allocations, realm: &str) -> Result<(), ReleaseError> {
    if config.realms.iter().any(|configured| configured.name == realm) {
        return Err(ReleaseError::RealmConfigured(realm.to_string()));
    }
    let Some(record) = image.realms.get_mut(realm) else {
        return Err(ReleaseError::RealmUnknown(realm.to_string()));
    };
    record.configured = false;
    let id = record.id;
    let held = image.aliases.len();
    image.aliases.retain(|_, alias| alias.holder.owner != id && alias.holder.viewer != Some(id));
    if image.aliases.len() == held {
        return Err(ReleaseError::NothingHeld(realm.to_string()));
    }
    Ok(())
}

fn release_alias(config: &Config, image: &mut Allocations, alias: Ipv4Net) -> Result<(), ReleaseError> {
    let Some(AliasRecord { holder, state }) = image.aliases.get(&alias) else {
        return Err(ReleaseError::AliasUnknown(alias));
    };
    let inventory = Inventory::new(config, &recorded_ids(config, image));
    if *state != AliasState::Replaced && inventory.uses(*holder) {
        return Err(ReleaseError::AliasInUse(alias));
    }
    image.aliases.remove(&alias);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::allocate::allocate;
    use super::super::change::Change;
    use super::super::sample::Sample;
    use super::*;

    fn two_realms() -> Sample {
        Sample::new().realm("a", &["192.168.1.0/24"]).realm("b", &["192.168.1.0/24"])
    }

    fn only_a() -> Config {
        Sample::new().realm("a", &["192.168.1.0/24"]).build()
    }

    fn state() -> Allocations {
        allocate(&two_realms().build(), &Allocations::default()).unwrap().0
    }

    #[test]
    fn a_removed_realm_gives_its_aliases_back_and_keeps_its_number() {
        let (image, changes) = release(&only_a(), &state(), &"b".parse().unwrap()).unwrap();
        assert!(matches!(&changes[..], [Change::RealmRemoved { .. }, Change::AliasReleased { .. }]), "{changes:?}");
        let config = Sample::new().realm("a", &["192.168.1.0/24"]).realm("c", &["10.0.0.0/24"]).build();
        let (image, _) = allocate(&config, &image).unwrap();
        assert_eq!(image.realm_id("c").unwrap().0, 3, "b's number stays b's");
        let given = &image.aliases[&"100.64.2.0/24".parse().unwrap()];
        assert_eq!(given.holder.owner.0, 3, "b's alias is free for others");
    }

    #[test]
    fn an_argument_is_an_alias_or_a_realm() {
        let parse = |text: &str| text.parse::<Release>().unwrap();
        assert_eq!(parse("100.64.5.0/24"), Release::Alias("100.64.5.0/24".parse().unwrap()));
        assert_eq!(parse("100.64.5.9"), Release::Alias("100.64.5.9/32".parse().unwrap()));
        assert_eq!(parse("region-a"), Release::Realm("region-a".into()));
    }

    #[test]
    fn what_is_in_use_or_unknown_is_refused() {
        let refused = |text: &str| release(&only_a(), &state(), &text.parse().unwrap()).unwrap_err();
        assert_eq!(refused("a"), ReleaseError::RealmConfigured("a".into()));
        assert_eq!(refused("zz"), ReleaseError::RealmUnknown("zz".into()));
        let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
        assert_eq!(refused("100.64.1.0/24"), ReleaseError::AliasInUse(net("100.64.1.0/24")));
        assert_eq!(refused("100.64.0.0/24"), ReleaseError::AliasInUse(net("100.64.0.0/24")), "the service network");
        assert_eq!(refused("100.64.9.0/24"), ReleaseError::AliasUnknown(net("100.64.9.0/24")));
        let (image, _) = release(&only_a(), &state(), &"b".parse().unwrap()).unwrap();
        let again = release(&only_a(), &image, &"b".parse().unwrap()).unwrap_err();
        assert_eq!(again, ReleaseError::NothingHeld("b".into()));
    }

    #[test]
    fn a_replaced_alias_of_a_configured_network_can_be_released() {
        let pinned = Sample::new().realm("a", &["192.168.1.0/24=100.64.7.0/24"]).build();
        let (image, _) = allocate(&pinned, &state()).unwrap();
        let (image, changes) = release(&pinned, &image, &"100.64.1.0/24".parse().unwrap()).unwrap();
        assert!(matches!(&changes[..], [Change::AliasReleased { .. }]));
        assert!(!image.aliases.contains_key(&"100.64.1.0/24".parse().unwrap()));
    }
}
