//! What must hold for every configuration and every history of configurations.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use proptest::prelude::*;

use super::allocate::allocate;
use super::allocations::{AliasState, Allocations, Holder};
use super::compile::{Compiled, compile_addresses};
use super::release::{Release, release};
use super::sample::Sample;
use super::store::Store;
use crate::config::model::Config;
use crate::net::RealmId;

/// Some that everybody uses, some inside the alias pool, some wide, some of single hosts, ranges, and IPv6 (a prefix for
/// each realm: `R`).
const NETWORKS: [&str; 13] = [
    "192.168.1.0/24",
    "192.168.0.0/24",
    "10.0.0.0/16=hosts",
    "10.8.0.0/22",
    "100.64.0.0/22",
    "100.64.5.0/24",
    "100.64.12.0/25",
    "100.64.8.0/23=hosts",
    "10.20.0.10-10.20.0.20",
    "10.30.0.1-10.30.0.6=198.51.10R.9-198.51.10R.14",
    "100.64.20.7-100.64.20.13",
    "fd00:R::/118=auto",
    "fd00:R:1::/64=2001:db8:R::/64",
];
/// Makes realm 0 the default realm.
const DEFAULT_BIT: u16 = 1 << 15;
/// Room for some histories; others run out, which must change nothing.
const POOL: &str = "100.64.0.0/17";

/// A realm by its number in a small set, its networks as bits, and where its first /24 is pinned.
type RealmChoice = (u8, u16, Option<u8>);

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<RealmChoice>),
    ReleaseRealm(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let choice = (0u8..8, any::<u16>(), prop::option::weighted(0.1, 0u8..128));
    let realms = prop::collection::vec(choice, 0..8);
    let step = prop_oneof![9 => realms.prop_map(Step::Apply), 1 => (0u8..8).prop_map(Step::ReleaseRealm)];
    prop::collection::vec(step, 1..12)
}

fn config(choices: &[RealmChoice]) -> Config {
    let mut sample = Sample::new().alias4(&[POOL]);
    let mut seen = std::collections::BTreeSet::new();
    for (name, bits, pin) in choices.iter().filter(|(name, ..)| seen.insert(*name)) {
        let number = name.to_string();
        let chosen = (0..NETWORKS.len()).filter(|i| bits & (1 << i) != 0);
        let mut networks: Vec<String> = chosen.map(|i| NETWORKS[i].replace('R', &number)).collect();
        if let (Some(pin), Some(first)) = (pin, networks.iter_mut().find(|network| network.ends_with("/24"))) {
            *first = format!("{first}=100.64.{pin}.0/24");
        }
        let networks: Vec<&str> = networks.iter().map(String::as_str).collect();
        let is_default = *name == 0 && bits & DEFAULT_BIT != 0;
        let name = format!("r{name}");
        sample = if is_default { sample.default_realm(&name, &networks) } else { sample.realm(&name, &networks) };
        for (bit, host) in [(2, "10.0.7.7"), (7, "100.64.9.9"), (12, "fd00:R:1::7")] {
            if bits & (1 << bit) != 0 {
                sample = sample.host("h", &name, &[&host.replace('R', &number)]);
            }
        }
        if is_default {
            sample = sample.host("far", &name, &["203.0.113.7"]);
        }
    }
    sample.build()
}

fn disjoint(nets: &[Ipv4Net]) -> bool {
    let mut sorted = nets.to_vec();
    sorted.sort();
    sorted.windows(2).all(|pair| pair[0].broadcast() < pair[1].network())
}

/// Every viewer's own networks and what it sees of the others: no address means two things.
fn check_views(compiled: &Compiled) -> Result<(), TestCaseError> {
    let mapping = &compiled.mapping;
    for viewer in &compiled.realm_ids {
        let mut space = Vec::new();
        for (id, network) in (0..).map(crate::net::NetworkId).zip(mapping.networks()) {
            if network.native.prefix_len() == 0 {
                continue; // the default realm, which `check_default_realm` looks at
            }
            if network.realm == *viewer {
                // Published hosts lie inside a network of the viewer, which is in the list already.
                let lies_in = |own: &Ipv4Net| ipv4(network.native).is_some_and(|native| own.contains(&native));
                let native = ipv4(network.native).filter(|_| !space.iter().any(lies_in));
                space.extend(native);
            } else {
                space.extend(mapping.alias_of(*viewer, id));
            }
        }
        prop_assert!(disjoint(&space), "realm {viewer} sees {space:?}");
    }
    Ok(())
}

/// There and back through the mapping, for the first, the last and some other address of every network.
fn check_round_trips(compiled: &Compiled, seed: u32) -> Result<(), TestCaseError> {
    let mapping = &compiled.mapping;
    for network in mapping.networks().iter().filter(|network| network.native.prefix_len() > 0) {
        let Some(native) = ipv4(network.native) else { continue };
        let (first, last) = (native.network().to_bits(), native.broadcast().to_bits());
        let within = first + seed % (u64::from(last - first) + 1).min(u64::from(u32::MAX)) as u32;
        for addr in [first, last, within].map(Ipv4Addr::from_bits) {
            let located = mapping.locate_native(network.realm, addr.into()).unwrap();
            prop_assert_eq!(mapping.native_of(located), IpAddr::V4(addr));
            // A realm without networks has nothing to send from, and no view.
            let viewers = compiled.realm_ids.iter().filter(|viewer| mapping.speaks_ipv4(**viewer));
            for viewer in viewers.filter(|viewer| **viewer != network.realm) {
                let Some(seen) = mapping.seen_by(*viewer, located) else { continue };
                prop_assert_eq!(mapping.locate_seen_by(*viewer, seen), Some(located));
                prop_assert_eq!(mapping.locate_native(*viewer, seen), None, "{} is {}'s own", seen, viewer);
            }
        }
    }
    Ok(())
}

/// An address of the default realm is nobody else's, and means the same to everybody who can see it.
fn check_default_realm(compiled: &Compiled, seed: u32) -> Result<(), TestCaseError> {
    let mapping = &compiled.mapping;
    let Some(realm) = mapping.default_realm() else { return Ok(()) };
    let viewers = || compiled.realm_ids.iter().filter(|viewer| **viewer != realm && mapping.speaks_ipv4(**viewer));
    let aliases = mapping.networks().iter().filter_map(|network| network.alias).filter(|alias| alias.prefix_len() > 0);
    for alias in aliases {
        prop_assert_eq!(
            mapping.locate_native(realm, alias.broadcast().into()).filter(|at| mapping.is_by_default(*at)),
            None
        );
    }
    let near = u32::from_be_bytes([198, 51, 100, 0]) + seed % 2048;
    for addr in [Ipv4Addr::from_bits(seed), Ipv4Addr::from_bits(near)] {
        let Some(at) = mapping.locate_native(realm, addr.into()).filter(|at| mapping.is_by_default(*at)) else {
            continue;
        };
        prop_assert_eq!((at.realm, mapping.native_of(at)), (realm, IpAddr::V4(addr)));
        for viewer in viewers() {
            let seen = mapping.seen_by4(*viewer, at);
            prop_assert!(seen.is_none_or(|seen| seen == addr));
            prop_assert_eq!(mapping.locate_seen_by(*viewer, addr.into()), seen.map(|_| at));
        }
    }
    Ok(())
}

/// IPv6 networks with aliases: of the same size, with the hosts of single ones where they are.
fn check_ipv6(compiled: &Compiled) -> Result<(), TestCaseError> {
    let mapping = &compiled.mapping;
    for network in mapping.networks() {
        let (IpNet::V6(native), Some(alias)) = (network.native, network.alias) else { continue };
        prop_assert_eq!(128 - native.prefix_len(), 32 - alias.prefix_len());
        let host = mapping.locate_native(network.realm, native.broadcast().into()).unwrap();
        prop_assert_eq!(mapping.network(host.network), network);
        prop_assert!(network.canonical.contains(&host.canonical.addr()));
        prop_assert_eq!(mapping.locate_canonical(host.canonical), Some(host));
        prop_assert_eq!(mapping.native_of(host), IpAddr::V6(native.broadcast()));
    }
    Ok(())
}

fn ipv4(net: IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(net),
        IpNet::V6(_) => None,
    }
}

/// Everything ever given, beside the code under test.
#[derive(Default)]
struct History {
    numbers: BTreeMap<RealmId, String>,
    aliases: BTreeMap<Ipv4Net, Holder>,
}

impl History {
    fn check(&mut self, image: &Allocations) -> Result<(), TestCaseError> {
        prop_assert_eq!(image.check(), Ok(()));
        for (name, record) in &image.realms {
            let first = self.numbers.entry(record.id).or_insert_with(|| name.clone());
            prop_assert_eq!(first, name, "number {} was given twice", record.id);
        }
        for (alias, record) in &image.aliases {
            let clash = self
                .aliases
                .iter()
                .find(|(given, holder)| **holder != record.holder && (given.contains(alias) || alias.contains(*given)));
            prop_assert!(clash.is_none(), "{alias} of {record:?} was {clash:?}");
            self.aliases.insert(*alias, record.holder);
        }
        Ok(())
    }
}

/// What was current stays current unless it was pinned elsewhere or the viewer itself took the range.
fn check_kept(config: &Config, before: &Allocations, after: &Allocations) -> Result<(), TestCaseError> {
    let current = after.current();
    for (holder, alias) in before.current() {
        let now = current.get(&holder).copied();
        prop_assert!(after.aliases.contains_key(&alias), "{alias} was forgotten");
        if now == Some(alias) {
            continue;
        }
        prop_assert_eq!(after.aliases[&alias].state, AliasState::Replaced);
        let name = after.realm_name(holder.viewer.unwrap_or(holder.owner)).unwrap();
        let realm = config.realms.iter().find(|realm| realm.name == name).unwrap();
        let explained = realm.networks.iter().any(|network| match holder.viewer {
            None => network.alias == crate::config::model::AliasMode::Pinned(now.unwrap()),
            Some(_) => ipv4(network.native).is_some_and(|own| own.contains(&alias) || alias.contains(&own)),
        });
        prop_assert!(explained, "{alias} of {holder:?} became {now:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn allocations_are_permanent_and_views_are_unambiguous(steps in steps(), seed in any::<u32>()) {
        let mut state = Allocations::default();
        let mut history = History::default();
        for step in steps {
            match step {
                Step::Apply(choices) => {
                    let config = config(&choices);
                    let Ok((next, changes)) = allocate(&config, &state) else { continue };
                    check_kept(&config, &state, &next)?;
                    history.check(&next)?;
                    prop_assert_eq!(changes.is_empty(), next == state);
                    prop_assert_eq!(allocate(&config, &next), Ok((next.clone(), vec![])), "a restart changes nothing");

                    let compiled = compile_addresses(&config, &next).unwrap();
                    check_views(&compiled)?;
                    check_round_trips(&compiled, seed)?;
                    check_default_realm(&compiled, seed)?;
                    check_ipv6(&compiled)?;
                    state = next;
                }
                Step::ReleaseRealm(name) => {
                    // Against a file without it: what was released may be given to others.
                    let config = config(&[]);
                    let Ok((next, _)) = release(&config, &state, &Release::Realm(format!("r{name}"))) else { continue };
                    history.aliases.retain(|alias, _| next.aliases.contains_key(alias));
                    history.check(&next)?;
                    state = next;
                }
            }
        }
    }

    #[test]
    fn the_order_of_known_realms_is_of_no_importance(
        first in prop::collection::vec((0u8..8, any::<u16>(), Just(None)), 0..8),
        more in prop::collection::vec(any::<u16>(), 8),
        rotate in 0usize..8,
    ) {
        let known = config(&first);
        let Ok((state, _)) = allocate(&known, &Allocations::default()) else { return Ok(()) };
        // The known realms with other networks, in two orders.
        let mut names: Vec<RealmChoice> = first.iter().map(|(name, ..)| (*name, more[usize::from(*name)], None)).collect();
        let one = allocate(&config(&names), &state);
        let middle = rotate.min(names.len());
        names.rotate_left(middle);
        names.reverse();
        let other = allocate(&config(&names), &state);
        match (one, other) {
            (Ok(one), Ok(other)) => prop_assert_eq!(one, other),
            (one, other) => prop_assert_eq!(one.is_err(), other.is_err()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_store_gives_back_what_was_committed(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        for step in steps {
            let Step::Apply(choices) = step else { continue };
            let mut store = Store::open(dir.path()).unwrap();
            let Ok((next, changes)) = allocate(&config(&choices), store.allocations()) else { continue };
            store.commit(&next, &changes, std::time::SystemTime::UNIX_EPOCH).unwrap();
            drop(store);
            prop_assert_eq!(Store::open_read(dir.path()).unwrap().unwrap().allocations, next);
        }
    }
}
