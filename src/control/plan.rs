//! What a configuration would do to addresses, for people and for programs: who sees whom as what, where address
//! spaces meet and how that was resolved, and what would change against the recorded state.
//!
//! It runs the allocation that `run` would run and reads the result through the compiled mapping. Nothing is written.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;

use super::allocate::{AllocateError, allocate};
use super::allocations::{AliasState, Allocations};
use super::change::{Changes, Subject};
use super::compile::{CompileError, Compiled, compile_addresses};
use super::inventory::Inventory;
use super::learned::max_alias_addresses;
use super::overlap::{Overlap, overlaps};
use super::plan_ports::{self, Handoff, PlannedPort};
use super::plan_reach::{self, ForwardedDomain, RealmGrant};
use super::view::{View, Views};
use crate::config::model::{Attachment, Config, IpsecPeer, LocalAuth, Peer, Profile, RemoteAuth};
use crate::net::mapping::{Located, Network};
use crate::net::policy::PortRule;
use crate::net::{Canonical, NetworkId, RealmId};

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Allocate(#[from] AllocateError),
    #[error(transparent)]
    Compile(#[from] CompileError),
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Plan {
    pub realms: Vec<PlannedRealm>,
    pub services: Vec<Service>,
    /// Networks and single published hosts, under what everybody sees them who is not among `exceptions`.
    pub networks: Vec<SeenNetwork>,
    pub exceptions: Vec<Exception>,
    /// Realms that are seen by a pool.
    pub napt: Vec<PlannedNapt>,
    /// Hosts, then services, with who may reach them.
    pub names: Vec<NamedAddress>,
    pub realm_grants: Vec<RealmGrant>,
    pub forwarded_domains: Vec<ForwardedDomain>,
    /// In the order of the file.
    pub tunnels: Vec<PlannedTunnel>,
    /// What the carrier at the other end of each port routes to us.
    pub handoffs: Vec<Handoff>,
    pub overlaps: Vec<Overlap>,
    pub changes: Changes,
    /// Aliases that nobody uses now and nobody else can get.
    pub reserved: Vec<Reserved>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PlannedRealm {
    pub name: String,
    pub number: u16,
    /// Not in the state yet.
    pub new: bool,
    /// More networks come from here while we run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes_from: Option<PlannedDaemon>,
}

/// A routing daemon.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PlannedDaemon {
    pub namespace: String,
    pub tun: String,
    pub peers: Vec<IpAddr>,
    /// Empty: every IPv4 prefix that a realm can have, and no IPv6 one.
    pub allow: Vec<IpNet>,
    pub max_prefixes: usize,
    /// Addresses of `alias4`, withdrawn networks' too.
    pub max_alias_addresses: u64,
}

/// An address of the centre itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Service {
    pub name: &'static str,
    pub canonical: Canonical6,
    /// For every viewer that is not in `own`.
    pub address: Option<IpAddr>,
    /// By viewer, where it differs.
    pub own: BTreeMap<String, IpAddr>,
}

/// A canonical address in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct Canonical6(pub std::net::Ipv6Addr);

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SeenNetwork {
    pub realm: String,
    pub network: IpNet,
    /// Set when this is a single published host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    pub canonical: Ipv6Net,
    /// `None` when only single hosts of the network are shown. 0.0.0.0/0: every address is seen as it is.
    pub alias: Option<Ipv4Net>,
    /// The alias is not in the state yet.
    pub new: bool,
}

/// `viewer` sees a network under an alias that is its own, or by a pool.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Exception {
    pub viewer: String,
    pub realm: String,
    pub network: IpNet,
    /// `None`: by `pools`.
    pub alias: Option<Ipv4Net>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Ipv4Net>,
    /// What the others see (`None`: only single hosts) ...
    pub default: Option<Ipv4Net>,
    /// ... and the viewer's own networks that this overlaps. Empty when that was so only when the alias was given.
    pub because: Vec<Ipv4Net>,
    pub new: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Reserved {
    pub alias: Ipv4Net,
    pub subject: Subject,
    /// The network has another alias now; otherwise it is not configured any more.
    pub replaced: bool,
}

/// A realm whose hosts are seen by a pool where they have no alias, and who had which port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PlannedNapt {
    pub realm: String,
    pub pools: Vec<Ipv4Net>,
    /// Who sees the pool; empty: everybody.
    pub viewers: Vec<String>,
    /// "endpoint", "address" or "address-and-port".
    pub filtering: &'static str,
    pub block_ports: u16,
    /// IPv4 hosts that share the pool, and the blocks there are.
    pub hosts: u64,
    pub blocks: u32,
    /// The rule by which it can be told who had a port.
    pub rule: String,
    pub forwards: Vec<PlannedForward>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PlannedForward {
    /// "tcp" or "udp".
    pub protocol: &'static str,
    pub outside: SocketAddr,
    pub to: SocketAddr,
}

/// A name of the internal zone and what it stands for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NamedAddress {
    pub name: String,
    /// As everybody sees it who is not among `exceptions`; empty for hosts that nobody can see.
    pub addresses: Vec<IpAddr>,
    /// A service's ports; empty for a host.
    pub ports: Vec<String>,
    /// Realms that a grant lets reach it. The realm itself always resolves its own names.
    pub reached_by: Vec<String>,
    /// Those of them for whom the name has no address, as they see its realm by a pool ...
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_pool: Vec<String>,
    /// ... and what leads to it through the pool.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<PlannedForward>,
}

/// A realm's attachment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PlannedTunnel {
    pub realm: String,
    /// "wireguard", "ipsec", "port" or "tun".
    pub kind: &'static str,
    /// The peer's public key or identity; interface and VLAN; the TUN device.
    pub peer: String,
    /// Where we call it; otherwise it calls.
    pub remote: Option<SocketAddr>,
    pub mtu_bytes: u16,
    /// Of the realm's attachments that are up, those with the lowest number carry its traffic ...
    pub priority: u8,
    /// ... in these shares.
    pub weight: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipsec: Option<PlannedIpsec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<PlannedPort>,
}

/// What the peer has to be told, or be asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PlannedIpsec {
    pub local_id: String,
    /// How each side proves who it is: "psk" or "certificate".
    pub local_auth: &'static str,
    pub remote_auth: &'static str,
    pub profile: &'static str,
    /// Traffic selectors: what the peer may reach behind us, and we behind the peer.
    pub ours: Vec<IpNet>,
    pub theirs: Vec<IpNet>,
}

/// What `run` would do with `config`, given what `before` remembers.
pub fn plan(config: &Config, before: &Allocations) -> Result<Plan, PlanError> {
    let (after, changes) = allocate(config, before)?;
    let compiled = compile_addresses(config, &after)?;
    let ids: Vec<_> = compiled.realm_ids.iter().copied().map(Some).collect();
    let inventory = Inventory::new(config, &ids);
    let reader = Reader { config, before, after: &after, compiled: &compiled, inventory, names: after.names() };
    let own_networks = config.realms.iter().flat_map(|realm| realm.networks.iter().map(|n| (&*realm.name, n.native)));
    Ok(Plan {
        realms: reader.realms(),
        services: vec![reader.service("gateway", compiled.gateway), reader.service("dns", compiled.dns)],
        networks: reader.networks(),
        exceptions: reader.exceptions(),
        napt: super::napt::planned(config, &compiled),
        names: reader.names(),
        realm_grants: plan_reach::realm_grants(config),
        forwarded_domains: plan_reach::forwarded_domains(config, &compiled),
        tunnels: reader.tunnels(),
        handoffs: plan_ports::handoffs(config, &compiled),
        overlaps: overlaps(own_networks),
        reserved: reader.reserved(),
        changes,
    })
}

fn planned_ipsec(peer: &IpsecPeer, view: &View) -> PlannedIpsec {
    PlannedIpsec {
        local_id: peer.local_id.to_string(),
        local_auth: match peer.local_auth {
            LocalAuth::Psk(_) => "psk",
            LocalAuth::Certificate => "certificate",
        },
        remote_auth: match peer.remote_auth {
            RemoteAuth::Psk(_) => "psk",
            RemoteAuth::Certificate { .. } => "certificate",
        },
        profile: match peer.profile {
            Profile::Modern => "modern",
            Profile::Pq => "pq",
            Profile::Compat => "compat",
        },
        ours: view.ours.clone(),
        theirs: view.theirs.clone(),
    }
}

struct Reader<'a> {
    config: &'a Config,
    before: &'a Allocations,
    after: &'a Allocations,
    compiled: &'a Compiled,
    inventory: Inventory,
    names: BTreeMap<RealmId, &'a str>,
}

impl Reader<'_> {
    fn names(&self) -> Vec<NamedAddress> {
        let Compiled { names, policy, .. } = self.compiled;
        let domain = &self.config.ix.domain;
        let hosts = names.hosts.iter().map(|host| {
            let reaches = |from| host.addresses.iter().any(|address| policy.reaches(from, host.realm, *address));
            let name = format!("{}.{}.{domain}", host.name, host.realm_name);
            self.named(name, host.realm, &host.addresses, &[], &reaches)
        });
        let services = names.services.iter().map(|service| {
            let reaches = |from| {
                let mut addresses = service.addresses.iter();
                addresses.any(|address| policy.reaches_service(from, service.realm, *address, &service.ports))
            };
            let name = format!("{}.{domain}", service.name);
            self.named(name, service.realm, &service.addresses, &service.ports, &reaches)
        });
        hosts.chain(services).collect()
    }

    /// `ports`: a service's; empty for a host.
    fn named(
        &self,
        name: String,
        realm: RealmId,
        addresses: &[Canonical],
        ports: &[PortRule],
        reaches: &dyn Fn(RealmId) -> bool,
    ) -> NamedAddress {
        let reached = self.config.realms.iter().zip(&self.compiled.realm_ids);
        let reached: Vec<_> = reached.filter(|(_, id)| **id != realm && reaches(**id)).collect();
        let by_pool = reached.iter().filter(|(_, id)| self.has_no_address_for(**id, addresses));
        NamedAddress {
            name,
            addresses: self.seen_addresses(addresses),
            ports: ports.iter().map(|port| port.to_string()).collect(),
            by_pool: by_pool.map(|(realm, _)| realm.name.clone()).collect(),
            reached_by: reached.iter().map(|(realm, _)| realm.name.clone()).collect(),
            forwards: super::napt::forwards_to(self.compiled, realm, addresses, ports),
        }
    }

    /// `viewer` sees the realm by its pool, none of the addresses under an alias, and speaks no IPv6.
    fn has_no_address_for(&self, viewer: RealmId, addresses: &[Canonical]) -> bool {
        let Compiled { mapping, napt, .. } = self.compiled;
        let mut located = addresses.iter().filter_map(|address| mapping.locate_canonical(*address));
        let has_no_alias = |at: Located| napt.shows(at.realm, viewer) && mapping.seen_by4(viewer, at).is_none();
        !mapping.speaks_ipv6(viewer) && located.all(has_no_alias)
    }

    /// By a viewer without exceptions: realm 0 stands for it, as it is no viewer at all.
    fn seen_addresses(&self, addresses: &[Canonical]) -> Vec<IpAddr> {
        let mapping = &self.compiled.mapping;
        let located = addresses.iter().filter_map(|address| mapping.locate_canonical(*address));
        let seen = located.flat_map(|at| {
            let alias = mapping.seen_by4(RealmId::IX, at).map(IpAddr::V4);
            let is_ipv6 = mapping.network(at.network).native.addr().is_ipv6();
            alias.into_iter().chain(is_ipv6.then(|| IpAddr::V6(at.canonical.addr())))
        });
        seen.collect()
    }

    fn tunnels(&self) -> Vec<PlannedTunnel> {
        let views = Views::new(self.config, self.compiled);
        let most = self.config.limits.ike.selectors;
        let realms = self.config.realms.iter().zip(&self.compiled.realm_ids);
        let tunnels = realms.flat_map(|(realm, id)| {
            let view = realm.attachments.iter().any(|a| a.ipsec().is_some()).then(|| views.of(*id, most));
            realm.attachments.iter().map(move |attachment| {
                let (kind, peer, remote) = match &attachment.peer {
                    Peer::WireGuard(peer) => ("wireguard", STANDARD.encode(peer.public_key), peer.endpoint),
                    Peer::Ipsec(peer) => ("ipsec", peer.remote_id.to_string(), peer.remote.filter(|_| peer.initiate)),
                    Peer::Port(_) => ("port", plan_ports::place(&attachment.peer).unwrap_or_default(), None),
                    Peer::Tun(tun) => ("tun", tun.name.clone(), None),
                };
                let port = match &attachment.peer {
                    Peer::Port(port) => Some(PlannedPort::of(port)),
                    _ => None,
                };
                let ipsec = attachment.ipsec().zip(view.as_ref()).map(|(peer, view)| planned_ipsec(peer, view));
                let Attachment { mtu_bytes, priority, weight, .. } = *attachment;
                let realm = realm.name.clone();
                PlannedTunnel { realm, kind, peer, remote, mtu_bytes, priority, weight, ipsec, port }
            })
        });
        tunnels.collect()
    }

    fn realms(&self) -> Vec<PlannedRealm> {
        let numbered = self.config.realms.iter().zip(&self.compiled.realm_ids);
        let planned = numbered.map(|(realm, id)| PlannedRealm {
            name: realm.name.clone(),
            number: id.0,
            new: !self.before.realms.contains_key(&realm.name),
            routes_from: realm.routes_from.as_ref().map(|from| PlannedDaemon {
                namespace: from.namespace.clone(),
                tun: from.tun.clone(),
                peers: from.peers.clone(),
                allow: from.allow.clone(),
                max_prefixes: from.max_prefixes,
                max_alias_addresses: max_alias_addresses(from, self.config),
            }),
        });
        planned.collect()
    }

    fn service(&self, name: &'static str, canonical: Canonical) -> Service {
        let mapping = &self.compiled.mapping;
        let located = mapping.locate_canonical(canonical);
        let seen_by = |viewer| located.and_then(|located| mapping.seen_by(viewer, located));
        // The centre has no own networks, so what it sees is the default.
        let address = seen_by(RealmId::IX);
        let own = self.compiled.realm_ids.iter().filter_map(|viewer| {
            let seen = seen_by(*viewer).filter(|seen| Some(*seen) != address)?;
            Some((self.name(*viewer), seen))
        });
        Service { name, canonical: Canonical6(canonical.addr()), address, own: own.collect() }
    }

    fn networks(&self) -> Vec<SeenNetwork> {
        let published = self.inventory.wanted.iter().filter_map(|wanted| {
            let host = &self.config.hosts[wanted.host?.0];
            Some(((wanted.owner, wanted.native), host.name.clone()))
        });
        let published: BTreeMap<_, _> = published.collect();
        let seen = self.compiled.mapping.networks().iter().map(|network| SeenNetwork {
            realm: self.name(network.realm),
            network: network.native,
            host: published.get(&(network.realm, network.native)).filter(|_| network.alias.is_some()).cloned(),
            canonical: network.canonical,
            alias: network.alias,
            // The default realm's addresses are nobody's to give.
            new: network.alias.is_some_and(|alias| alias.prefix_len() > 0 && self.is_new(alias)),
        });
        seen.collect()
    }

    fn exceptions(&self) -> Vec<Exception> {
        let mapping = &self.compiled.mapping;
        let mut exceptions = Vec::new();
        for viewer in &self.compiled.realm_ids {
            for (id, network) in (0..).map(NetworkId).zip(mapping.networks()) {
                let (alias, default) = (mapping.alias_of(*viewer, id), network.alias);
                let pools = self.pools_instead_of_aliases(*viewer, network);
                if pools.is_empty() && (alias.is_none() || alias == default) {
                    continue;
                }
                let own = self.inventory.own4.get(viewer).into_iter().flatten();
                let meets = |own: &&Ipv4Net| default.is_some_and(|d| own.contains(&d) || d.contains(*own));
                exceptions.push(Exception {
                    viewer: self.name(*viewer),
                    realm: self.name(network.realm),
                    network: network.native,
                    alias,
                    because: own.filter(|own| pools.is_empty() && meets(own)).copied().collect(),
                    pools,
                    default,
                    new: alias.is_some_and(|alias| self.is_new(alias)),
                });
            }
        }
        exceptions
    }

    /// Where only some see a realm by its pool, and `viewer` is one of them.
    fn pools_instead_of_aliases(&self, viewer: RealmId, network: &Network) -> Vec<Ipv4Net> {
        let spec = self.compiled.napt.realm(network.realm);
        let spec = spec.filter(|spec| spec.viewers.is_some() && viewer != spec.realm && spec.is_for(viewer));
        let spec = spec.filter(|_| network.native.addr().is_ipv4());
        spec.map_or_else(Vec::new, |spec| spec.blocks.pools().to_vec())
    }

    fn reserved(&self) -> Vec<Reserved> {
        let idle = self.after.aliases.iter().filter(|(_, record)| record.state != AliasState::InUse);
        let reserved = idle.map(|(alias, record)| Reserved {
            alias: *alias,
            subject: Subject::new(record.holder, &self.names),
            replaced: record.state == AliasState::Replaced,
        });
        reserved.collect()
    }

    fn is_new(&self, alias: Ipv4Net) -> bool {
        !self.before.aliases.contains_key(&alias)
    }

    fn name(&self, id: RealmId) -> String {
        self.names.get(&id).map_or_else(|| format!("number {id}"), |name| name.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn config() -> Config {
        Sample::new()
            .realm("region-a", &["192.168.1.0/24"])
            .realm("hospital-b", &["192.168.1.0/24", "10.0.0.0/8=hosts"])
            .realm("clinic-c", &["100.64.0.0/23"])
            .host("pacs", "hospital-b", &["10.1.2.3"])
            .build()
    }

    #[test]
    fn a_fresh_plan_names_everything_new() {
        let plan = plan(&config(), &Allocations::default()).unwrap();
        assert!(plan.realms.iter().all(|realm| realm.new));
        let table: Vec<_> = plan
            .networks
            .iter()
            .map(|n| (n.realm.as_str(), n.network.to_string(), n.alias.map(|a| a.to_string())))
            .collect();
        let row = |realm, network: &str, alias: Option<&str>| (realm, network.to_string(), alias.map(str::to_string));
        assert_eq!(
            table,
            [
                row("ix", "0.0.0.0/24", Some("100.64.0.0/24")),
                row("region-a", "192.168.1.0/24", Some("100.64.1.0/24")),
                row("hospital-b", "192.168.1.0/24", Some("100.64.4.0/24")),
                row("hospital-b", "10.0.0.0/8", None),
                row("clinic-c", "100.64.0.0/23", Some("100.64.2.0/23")),
                row("hospital-b", "10.1.2.3/32", Some("100.64.5.0/32")),
            ]
        );
        assert_eq!(plan.networks.last().unwrap().host.as_deref(), Some("pacs"));
        assert_eq!(plan.overlaps.len(), 1);
    }

    #[test]
    fn a_viewer_that_uses_the_aliases_itself_is_an_exception_with_its_reason() {
        let plan = plan(&config(), &Allocations::default()).unwrap();
        let exceptions: Vec<_> = plan
            .exceptions
            .iter()
            .map(|e| (e.viewer.as_str(), e.realm.as_str(), e.default, e.because.clone()))
            .collect();
        assert_eq!(
            exceptions,
            [
                ("clinic-c", "ix", Some(net("100.64.0.0/24")), vec![net("100.64.0.0/23")]),
                ("clinic-c", "region-a", Some(net("100.64.1.0/24")), vec![net("100.64.0.0/23")]),
            ]
        );
        assert_eq!(plan.services[1].address, Some("100.64.0.53".parse().unwrap()));
        let own = plan.services[1].own["clinic-c"];
        assert!(plan.exceptions[0].alias.unwrap().contains(&match own {
            IpAddr::V4(own) => own,
            IpAddr::V6(_) => unreachable!(),
        }));
    }

    #[test]
    fn what_is_recorded_is_not_new_and_what_is_gone_is_reserved() {
        let (state, _) = allocate(&config(), &Allocations::default()).unwrap();
        let plan = plan(&Sample::new().realm("hospital-b", &["192.168.1.0/24"]).build(), &state).unwrap();
        assert!(!plan.realms[0].new && plan.networks.iter().all(|network| !network.new));
        assert_eq!((plan.realms[0].number, plan.networks[1].alias), (2, Some(net("100.64.4.0/24"))));
        assert!(plan.reserved.iter().any(|r| r.alias == net("100.64.1.0/24") && r.subject.realm == "region-a"));
        assert_eq!(plan.reserved.len(), 5);
    }
}
