//! From a configuration and its allocations to the tables that everything else reads: mapping, policy, names.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::allocate::recorded_ids;
use super::allocations::{Allocations, Holder};
use super::inventory::{Inventory, network_of_host};
use crate::config::model::{AliasMode, Config, GrantTarget, HostRef, RealmRef};
use crate::nat::napt;
use crate::net::mapping::{AliasOverride, Mapping, Network};
use crate::net::policy::{Grant, Policy, PortRule, Target};
use crate::net::{Canonical, NetworkId, RealmId, service};

/// What the addresses and grants of a configuration mean. Immutable; one per generation.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub mapping: Mapping,
    pub policy: Policy,
    pub napt: Arc<napt::Spec>,
    pub names: Names,
    /// By `config::model::RealmRef`.
    pub realm_ids: Vec<RealmId>,
    /// The centre's own network in `mapping`.
    pub service_network: NetworkId,
    pub gateway: Canonical,
    pub dns: Canonical,
}

/// Everything that has a name in the internal zone.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Names {
    /// By `config::model::HostRef`.
    pub hosts: Vec<HostName>,
    /// By `config::model::ServiceRef`.
    pub services: Vec<ServiceName>,
}

/// `NAME.REALM.DOMAIN`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostName {
    pub name: String,
    pub realm_name: String,
    pub realm: RealmId,
    pub addresses: Vec<Canonical>,
}

/// `NAME.DOMAIN`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceName {
    pub name: String,
    pub realm: RealmId,
    pub addresses: Vec<Canonical>,
    pub ports: Vec<PortRule>,
}

/// The allocations do not belong to the configuration, or the configuration breaks a promise of its type.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CompileError {
    #[error("realm {0:?} has no number; allocate before compiling")]
    RealmNotNumbered(String),
    #[error("network {network} of realm {realm:?} has no alias; allocate before compiling")]
    NoAlias { realm: String, network: IpNet },
    #[error("the centre's service network has no alias; allocate before compiling")]
    NoServiceNetwork,
    #[error("address {address} of host {host:?} lies in no network of its realm")]
    HostOutsideRealm { host: String, address: IpAddr },
}

/// `allocations` is what [`super::allocate()`] gave for this `config`.
pub fn compile_addresses(config: &Config, allocations: &Allocations) -> Result<Compiled, CompileError> {
    let realm_ids = numbers(config, allocations)?;
    let mut mapping = compile_mapping(config, allocations, &realm_ids)?;
    super::napt::hide(config, &realm_ids, &mut mapping);
    let names = compile_names(config, &mapping, &realm_ids)?;
    Ok(Compiled {
        policy: compile_policy(config, &names, &realm_ids),
        napt: super::napt::spec(config, &mapping, &realm_ids),
        names,
        realm_ids,
        service_network: SERVICE_NETWORK,
        gateway: service::gateway(config.ix.space6),
        dns: service::dns(config.ix.space6),
        mapping,
    })
}

/// The service network comes first in every mapping.
const SERVICE_NETWORK: NetworkId = NetworkId(0);

fn numbers(config: &Config, allocations: &Allocations) -> Result<Vec<RealmId>, CompileError> {
    let ids = recorded_ids(config, allocations).into_iter().zip(&config.realms);
    ids.map(|(id, realm)| id.ok_or_else(|| CompileError::RealmNotNumbered(realm.name.clone()))).collect()
}

fn compile_mapping(config: &Config, allocations: &Allocations, ids: &[RealmId]) -> Result<Mapping, CompileError> {
    let current = allocations.current();
    let networks = mapped_networks(config, &current, ids)?;
    let by_native: BTreeMap<_, _> = (0..)
        .map(NetworkId)
        .zip(&networks)
        .filter(|(_, network)| network.alias.is_some())
        .map(|(id, network)| ((network.realm, network.native), id))
        .collect();
    let overrides: Vec<AliasOverride> = current
        .iter()
        .filter_map(|(holder, alias)| {
            let viewer = holder.viewer.filter(|viewer| ids.contains(viewer))?;
            let network = *by_native.get(&(holder.owner, holder.native))?;
            Some(AliasOverride { viewer, network, alias: *alias })
        })
        .collect();
    let mapping = Mapping::new(config.ix.space6, networks, &overrides);
    Ok(match config.default_realm {
        Some(realm) => mapping.with_default_realm(ids[realm.0], &pools_of(config)),
        None => mapping,
    })
}

/// What is given out of the pools of aliases, or shown in place of hosts, is nobody else's.
fn pools_of(config: &Config) -> Vec<Ipv4Net> {
    let napt = config.realms.iter().filter_map(|realm| realm.napt.as_ref());
    let pools: Vec<Ipv4Net> = config.ix.alias4.iter().chain(napt.flat_map(|napt| &napt.pools)).copied().collect();
    Ipv4Net::aggregate(&pools)
}

/// The service network, the realms' networks in file order, then the hosts that are published one by one: nested in
/// networks that have no alias, and so after them.
fn mapped_networks(
    config: &Config,
    current: &BTreeMap<Holder, Ipv4Net>,
    ids: &[RealmId],
) -> Result<Vec<Network>, CompileError> {
    let space6 = config.ix.space6;
    let alias_of = |realm: RealmId, native: IpNet, name: &str| {
        let alias = current.get(&Holder::default_of(realm, native.trunc())).copied();
        alias.map(Some).ok_or_else(|| CompileError::NoAlias { realm: name.to_string(), network: native })
    };
    // `canonical` is that of an IPv6 network; an IPv4 one has it from `space6`.
    let mapped = |realm: RealmId, native: IpNet, canonical: Option<Ipv6Net>, alias: Option<Ipv4Net>| {
        let canonical = match native.trunc() {
            IpNet::V4(native) => space6.embed_net(realm, native),
            IpNet::V6(native) => canonical.unwrap_or(native).trunc(),
        };
        Network { realm, native: native.trunc(), canonical, alias }
    };

    let service = current.iter().find(|(holder, _)| holder.owner.is_ix() && holder.viewer.is_none());
    let (service, alias) = service.ok_or(CompileError::NoServiceNetwork)?;
    let mut networks = vec![mapped(RealmId::IX, service.native, None, Some(*alias))];
    for (realm, id) in config.realms.iter().zip(ids) {
        for network in &realm.networks {
            let alias = match network.alias {
                AliasMode::HostsOnly => None,
                AliasMode::Auto | AliasMode::Pinned(_) => alias_of(*id, network.native, &realm.name)?,
            };
            networks.push(mapped(*id, network.native, network.canonical, alias));
        }
    }
    let inventory = Inventory::new(config, &ids.iter().copied().map(Some).collect::<Vec<_>>());
    for host in inventory.wanted.iter().filter(|wanted| wanted.host.is_some()) {
        let name = allocation_name(config, ids, host.owner);
        let canonical = host.host.and_then(|host_ref| canonical6_of_host(config, host_ref, host.native));
        networks.push(mapped(host.owner, host.native, canonical, alias_of(host.owner, host.native, name)?));
    }
    Ok(networks)
}

/// An IPv6 host's address in the canonical prefix of its network.
fn canonical6_of_host(config: &Config, host: HostRef, native: IpNet) -> Option<Ipv6Net> {
    let network = network_of_host(&config.realms[config.hosts[host.0].realm.0], native.addr())?;
    let (IpNet::V6(around), IpNet::V6(native)) = (network.native, native) else { return None };
    let canonical = network.canonical.unwrap_or(around);
    let within = native.addr().to_bits() & around.hostmask().to_bits();
    Some(Ipv6Net::from(Ipv6Addr::from_bits(canonical.network().to_bits() | within)))
}

fn allocation_name<'a>(config: &'a Config, ids: &[RealmId], id: RealmId) -> &'a str {
    ids.iter().position(|other| *other == id).map_or("", |i| &config.realms[i].name)
}

fn compile_names(config: &Config, mapping: &Mapping, ids: &[RealmId]) -> Result<Names, CompileError> {
    let canonical_of = |host: &str, realm: RealmRef, address: &IpAddr| {
        let located = mapping.locate_native(ids[realm.0], *address).map(|located| located.canonical);
        located.ok_or_else(|| CompileError::HostOutsideRealm { host: host.to_string(), address: *address })
    };
    let host_name = |host: &crate::config::model::Host| {
        let addresses = host.addresses.iter().map(|addr| canonical_of(&host.name, host.realm, addr));
        Ok(HostName {
            name: host.name.clone(),
            realm_name: config.realms[host.realm.0].name.clone(),
            realm: ids[host.realm.0],
            addresses: addresses.collect::<Result<_, _>>()?,
        })
    };
    let hosts: Vec<HostName> = config.hosts.iter().map(host_name).collect::<Result<_, _>>()?;
    let services = config.services.iter().map(|service| {
        let HostName { realm, ref addresses, .. } = hosts[service.host.0];
        ServiceName { name: service.name.clone(), realm, addresses: addresses.clone(), ports: service.ports.clone() }
    });
    Ok(Names { services: services.collect(), hosts })
}

fn compile_policy(config: &Config, names: &Names, ids: &[RealmId]) -> Policy {
    let pairs =
        config.grants.iter().flat_map(|grant| grant.from.iter().flat_map(|from| grant.to.iter().map(|to| (*from, to))));
    Policy::new(pairs.map(|(from, to)| {
        let from = ids[from.0];
        match to {
            GrantTarget::Realm(realm, rules) => {
                Grant { from, to: ids[realm.0], target: Target::Realm, rules: rules.clone() }
            }
            GrantTarget::Service(service) => {
                let service = &names.services[service.0];
                let target = Target::Host(service.addresses.clone());
                Grant { from, to: service.realm, target, rules: service.ports.clone() }
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::allocate::allocate;
    use super::super::sample::Sample;
    use super::*;
    use crate::net::policy::protocol::TCP;

    fn compile(config: &Config) -> Compiled {
        let (allocations, _) = allocate(config, &Allocations::default()).unwrap();
        compile_addresses(config, &allocations).unwrap()
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn design() -> Config {
        Sample::new()
            .realm("region-a", &["192.168.1.0/24"])
            .realm("hospital-b", &["192.168.1.0/24=100.64.2.0/24"])
            .host("pacs", "hospital-b", &["192.168.1.20"])
            .service("pacs", "pacs", &[PortRule::Tcp(443..=443), PortRule::Tcp(11112..=11112)])
            .grant_service("region-a", "pacs")
            .grant_realm(&["hospital-b"], "region-a", &[PortRule::Icmp])
            .build()
    }

    #[test]
    fn the_example_of_the_design_end_to_end() {
        let compiled = compile(&design());
        let (a, b) = (compiled.realm_ids[0], compiled.realm_ids[1]);
        let source = compiled.mapping.locate_native(a, addr("192.168.1.10")).unwrap();
        let destination = compiled.mapping.locate_seen_by(a, addr("100.64.2.20")).unwrap();
        assert_eq!(destination.realm, b);
        assert_eq!(compiled.mapping.native_of(destination), addr("192.168.1.20"));
        assert_eq!(compiled.mapping.seen_by(b, source), Some(addr("100.64.1.10")));

        assert!(compiled.policy.evaluate(a, b, destination.canonical, TCP, 11112));
        assert!(!compiled.policy.evaluate(a, b, destination.canonical, TCP, 80));
        assert!(!compiled.policy.evaluate(b, a, source.canonical, TCP, 443));
        assert_eq!(compiled.names.services[0].addresses, [destination.canonical]);
        assert_eq!(compiled.names.hosts[0].realm_name, "hospital-b");
    }

    #[test]
    fn every_view_has_the_services() {
        let compiled = compile(&design());
        for viewer in compiled.realm_ids {
            let dns = compiled.mapping.locate_seen_by(viewer, addr("100.64.0.53")).unwrap();
            assert_eq!((dns.canonical, dns.network, dns.realm), (compiled.dns, SERVICE_NETWORK, RealmId::IX));
            let gateway = compiled.mapping.locate_canonical(compiled.gateway).unwrap();
            assert_eq!(compiled.mapping.seen_by(viewer, gateway), Some(addr("100.64.0.1")));
        }
    }

    #[test]
    fn of_a_hosts_only_network_the_hosts_are_seen_and_nothing_else() {
        let config = Sample::new()
            .realm("a", &["10.0.0.0/8=hosts", "fd00:1::/64=2001:db8:1::/64"])
            .realm("b", &["192.168.1.0/24"])
            .host("pacs", "a", &["10.1.2.3", "fd00:1::3"])
            .build();
        let compiled = compile(&config);
        let (a, b) = (compiled.realm_ids[0], compiled.realm_ids[1]);
        let host = compiled.mapping.locate_native(a, addr("10.1.2.3")).unwrap();
        let seen = compiled.mapping.seen_by(b, host).unwrap();
        assert_eq!(compiled.mapping.locate_seen_by(b, seen), Some(host));
        let neighbour = compiled.mapping.locate_native(a, addr("10.1.2.4")).unwrap();
        assert_eq!(compiled.mapping.seen_by(b, neighbour), None);
        let addresses: Vec<_> = compiled.names.hosts[0].addresses.iter().map(Canonical::to_string).collect();
        assert_eq!(addresses, ["fd69:7867:6174:1::a01:203", "2001:db8:1::3"]);
    }

    /// What [`Mapping::networks`] holds of realm `realm`, as (native, canonical, alias).
    fn networks(compiled: &Compiled, realm: usize) -> Vec<[String; 3]> {
        let networks = compiled.mapping.networks().iter().filter(|n| n.realm == compiled.realm_ids[realm]);
        let row = |n: &Network| {
            [n.native.to_string(), n.canonical.to_string(), n.alias.map_or("-".into(), |alias| alias.to_string())]
        };
        networks.map(row).collect()
    }

    #[test]
    fn ipv6_hosts_and_small_networks_have_ipv4_aliases() {
        let config = Sample::new()
            .realm("a", &["fd00:1::/64=2001:db8:1::/64", "fd00:2::/120=auto", "fd00:3::/124=198.18.0.16/28"])
            .realm("b", &["192.168.1.0/24"])
            .host("pacs", "a", &["fd00:1::3"])
            .host("covered", "a", &["fd00:2::3"])
            .build();
        let compiled = compile(&config);
        let want = [
            ["fd00:1::/64", "2001:db8:1::/64", "-"],
            ["fd00:2::/120", "fd00:2::/120", "100.64.1.0/24"],
            ["fd00:3::/124", "fd00:3::/124", "198.18.0.16/28"],
            ["fd00:1::3/128", "2001:db8:1::3/128", "100.64.3.0/32"],
        ];
        assert_eq!(networks(&compiled, 0), want.map(|row| row.map(String::from)));
        // The host is the same one as before, under its own entry and its canonical address.
        let host = compiled.mapping.locate_native(compiled.realm_ids[0], addr("fd00:1::3")).unwrap();
        assert_eq!(compiled.mapping.network(host.network).native.to_string(), "fd00:1::3/128");
        assert_eq!(compiled.mapping.locate_canonical(host.canonical), Some(host));
        assert_eq!(compiled.names.hosts[0].addresses, [host.canonical]);
        assert_eq!(compiled.mapping.native_of(host), addr("fd00:1::3"));
    }

    #[test]
    fn allocations_of_another_configuration_are_refused() {
        let empty = Allocations::default();
        let error = compile_addresses(&design(), &empty).unwrap_err();
        assert_eq!(error, CompileError::RealmNotNumbered("region-a".into()));
        let (mut allocations, _) = allocate(&design(), &empty).unwrap();
        allocations.aliases.remove(&"100.64.1.0/24".parse().unwrap());
        assert!(matches!(compile_addresses(&design(), &allocations), Err(CompileError::NoAlias { .. })));
    }
}
