//! From `show_as` to what the packet path runs on, and to what `plan` says of it.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use serde::Serialize;

use super::compile::Compiled;
use super::plan::{PlannedForward, PlannedNapt};
use crate::config::model::{self, AliasMode, Config, ForwardProtocol, Network, Realm};
use crate::nat::napt::{Blocks, Filtering, Forward, PortBlock, Proto, RealmSpec, Spec, Who};
use crate::net::mapping::Mapping;
use crate::net::policy::{PortRule, protocol};
use crate::net::{Canonical, NetworkId, RealmId};

/// `ids`: by `config::model::RealmRef`.
pub fn spec(config: &Config, mapping: &Mapping, ids: &[RealmId]) -> Arc<Spec> {
    let space6 = config.ix.space6;
    let realms = config.realms.iter().zip(ids).filter_map(|(realm, id)| {
        let napt = realm.napt.as_ref()?;
        let viewers = napt.viewers.as_ref().map(|viewers| {
            let mut viewers: Vec<RealmId> = viewers.iter().map(|viewer| ids[viewer.0]).collect();
            viewers.sort_unstable();
            viewers
        });
        let forwards = napt.forwards.iter().filter_map(|forward| {
            let host = mapping.locate_native(*id, forward.to.0)?;
            Some(Forward {
                proto: match forward.protocol {
                    ForwardProtocol::Tcp => Proto::Tcp,
                    ForwardProtocol::Udp => Proto::Udp,
                },
                outside: forward.outside,
                to: (host.canonical, forward.to.1),
            })
        });
        Some(RealmSpec {
            realm: *id,
            viewers,
            filtering: match napt.filtering {
                model::Filtering::Endpoint => Filtering::Endpoint,
                model::Filtering::Address => Filtering::Address,
                model::Filtering::AddressAndPort => Filtering::AddressAndPort,
            },
            blocks: Blocks::new(napt.pools.clone(), napt.block_ports, shown_networks(realm, napt)),
            forwards: forwards.collect(),
        })
    });
    Arc::new(Spec::new(space6, realms.collect()))
}

/// Networks whose hosts need the pool: where everybody sees it, not those with a pinned alias.
fn shown_networks(realm: &Realm, napt: &model::Napt) -> Vec<Ipv4Net> {
    let networks = realm.networks.iter().filter(|network| napt.stands_for(network));
    let native = networks.filter_map(|network| match network.native {
        IpNet::V4(native) => Some(native.trunc()),
        IpNet::V6(_) => None,
    });
    native.collect()
}

/// Where only some see a realm by its pool, these, and the realm itself, see none of its aliases.
pub fn hide(config: &Config, ids: &[RealmId], mapping: &mut Mapping) {
    let mut hidden = Vec::new();
    for (realm, id) in config.realms.iter().zip(ids) {
        let Some(viewers) = realm.napt.as_ref().and_then(|napt| napt.viewers.as_ref()) else { continue };
        for (number, network) in (0..).map(NetworkId).zip(mapping.networks()) {
            if network.realm == *id && network.native.addr().is_ipv4() {
                hidden.extend(viewers.iter().map(|viewer| (ids[viewer.0], number)));
                hidden.push((*id, number));
            }
        }
    }
    mapping.hide(hidden);
}

/// What `plan` says of the realms with a pool.
pub fn planned(config: &Config, compiled: &Compiled) -> Vec<PlannedNapt> {
    let realms = config.realms.iter().zip(&compiled.realm_ids);
    let planned = realms.filter_map(|(realm, id)| {
        let (napt, blocks) = (realm.napt.as_ref()?, &compiled.napt.realm(*id)?.blocks);
        let forwards = napt.forwards.iter().map(|forward| PlannedForward {
            protocol: match forward.protocol {
                ForwardProtocol::Tcp => "tcp",
                ForwardProtocol::Udp => "udp",
            },
            outside: forward.outside.into(),
            to: forward.to.into(),
        });
        let viewers = napt.viewers.iter().flatten();
        Some(PlannedNapt {
            realm: realm.name.clone(),
            pools: napt.pools.clone(),
            viewers: viewers.map(|viewer| config.realms[viewer.0].name.clone()).collect(),
            filtering: match napt.filtering {
                model::Filtering::Endpoint => "endpoint",
                model::Filtering::Address => "address",
                model::Filtering::AddressAndPort => "address-and-port",
            },
            block_ports: blocks.ports(),
            hosts: blocks.hosts(),
            blocks: blocks.total(),
            rule: rule(blocks, shares_with_ipv6(config, realm)),
            forwards: forwards.collect(),
        })
    });
    planned.collect()
}

/// What leads through the pool of `realm` to a host, or to `ports` of it where there are some.
pub fn forwards_to(
    compiled: &Compiled,
    realm: RealmId,
    addresses: &[Canonical],
    ports: &[PortRule],
) -> Vec<PlannedForward> {
    let forwards = compiled.napt.realm(realm).into_iter().flat_map(|spec| &spec.forwards);
    let leads = |forward: &&Forward| {
        let number = if forward.proto == Proto::Udp { protocol::UDP } else { protocol::TCP };
        let is_open = |rule: &PortRule| rule.allows(number, forward.to.1);
        addresses.contains(&forward.to.0) && (ports.is_empty() || ports.iter().any(is_open))
    };
    let planned = forwards.filter(leads).filter_map(|forward| {
        let host = compiled.mapping.native_of(compiled.mapping.locate_canonical(forward.to.0)?);
        Some(PlannedForward {
            protocol: if forward.proto == Proto::Udp { "udp" } else { "tcp" },
            outside: forward.outside.into(),
            to: (host, forward.to.1).into(),
        })
    });
    planned.collect()
}

/// Whether it has IPv6 hosts without an alias. These are given blocks on demand.
fn shares_with_ipv6(config: &Config, realm: &Realm) -> bool {
    let is_default = config.default_realm.is_some_and(|default| config.realms[default.0].name == realm.name);
    let needs_pool = |network: &Network| network.native.addr().is_ipv6() && network.alias == AliasMode::HostsOnly;
    is_default || realm.networks.iter().any(needs_pool)
}

/// In words, with an example.
fn rule(blocks: &Blocks, ipv6: bool) -> String {
    // A block in the middle shows more than the first one, and so does one whose host is not the network's address.
    let Some(host) = blocks.fixed().checked_sub(1).and_then(|last| blocks.host_of(last.min(4))) else {
        let hosts = match (blocks.hosts(), ipv6) {
            (0, _) => "IPv6 hosts".to_owned(),
            (hosts, false) => format!("{hosts} hosts"),
            (hosts, true) => format!("{hosts} IPv4 hosts and the IPv6 hosts"),
        };
        let total = blocks.total();
        return format!(
            "{total} blocks for {hosts}: a host is given one with its first packet, and the log says which and when"
        );
    };
    let block = blocks.block_of_host(host).unwrap_or_default();
    let PortBlock { address, first, last } = blocks.ports_of(block);
    let computed = format!("who had {address} ports {first}-{last}? host {host}");
    match (ipv6, blocks.total() - blocks.fixed()) {
        (false, _) => format!("computed, no log is needed: {computed}"),
        (true, 0) => format!("computed, no log is needed: {computed}; no block is left for IPv6 hosts"),
        (true, left) => format!(
            "IPv4 hosts: computed, no log is needed: {computed}\n    IPv6 hosts: {left} blocks, given on demand, and the \
             log says which and when"
        ),
    }
}

/// Who has a port of a pool, by one protocol.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PortHolder {
    /// "tcp", "udp" or "ping".
    pub protocol: &'static str,
    pub realm: String,
    pub address: Ipv4Addr,
    #[serde(flatten)]
    pub holder: Holder,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "holder", rename_all = "kebab-case")]
pub enum Holder {
    Host {
        host: Ipv4Addr,
        first_port: u16,
        last_port: u16,
    },
    Forward {
        to: SocketAddr,
    },
    /// The log says which host was given these ports, and when.
    InTheLog {
        first_port: u16,
        last_port: u16,
    },
    Nobody,
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PortHolder { protocol, realm, address, holder } = self;
        write!(f, "{protocol:<5}")?;
        match holder {
            Holder::Host { host, first_port, last_port } => {
                write!(f, "host {host} of realm {realm}, which has ports {first_port}-{last_port}")
            }
            Holder::Forward { to } => write!(f, "the forward to {to} of realm {realm}"),
            Holder::InTheLog { first_port, last_port } => write!(
                f,
                "a host of realm {realm}; look in the log for who was given ports {first_port}-{last_port} of {address}"
            ),
            Holder::Nobody => write!(f, "no host of realm {realm} ever has this port"),
        }
    }
}

/// The answer to `--who ADDRESS:PORT`, by protocol.
pub fn who(config: &Config, compiled: &Compiled, address: Ipv4Addr, port: u16) -> Result<Vec<PortHolder>, NotInAPool> {
    let holder_of = |(protocol, proto)| {
        let (id, who) = compiled.napt.who(proto, address, port).ok_or(NotInAPool(address))?;
        let place = compiled.realm_ids.iter().position(|other| *other == id).ok_or(NotInAPool(address))?;
        let realm = &config.realms[place];
        let is_computed = compiled.napt.realm(id).is_some_and(|spec| spec.blocks.fixed() > 0);
        let holder = match who {
            Who::Host(host, PortBlock { first, last, .. }) => Holder::Host { host, first_port: first, last_port: last },
            Who::Forward(forward) => {
                let located = compiled.mapping.locate_canonical(forward.to.0);
                let host = located.map_or(forward.to.0.addr().into(), |at| compiled.mapping.native_of(at));
                Holder::Forward { to: (host, forward.to.1).into() }
            }
            // A block that is left over is for IPv6 hosts.
            Who::InTheLog(_) if is_computed && !shares_with_ipv6(config, realm) => Holder::Nobody,
            Who::InTheLog(PortBlock { first, last, .. }) => Holder::InTheLog { first_port: first, last_port: last },
            Who::Nobody => Holder::Nobody,
        };
        Ok(PortHolder { protocol, realm: realm.name.clone(), address, holder })
    };
    [("tcp", Proto::Tcp), ("udp", Proto::Udp), ("ping", Proto::Echo)].into_iter().map(holder_of).collect()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0} is in no pool of this configuration (`show_as`); aliases are in the table of `ixgate plan`")]
pub struct NotInAPool(pub Ipv4Addr);

#[cfg(test)]
mod tests {
    use super::super::allocate::allocate;
    use super::super::allocations::Allocations;
    use super::super::compile::compile_addresses;
    use super::super::plan::plan;
    use super::super::sample::{self, Sample};
    use super::super::view::Views;
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn pool(pool: &str) -> model::Napt {
        model::Napt {
            pools: vec![net(pool)],
            viewers: None,
            filtering: model::Filtering::AddressAndPort,
            block_ports: 256,
            forwards: vec![model::Forward {
                protocol: ForwardProtocol::Tcp,
                outside: (net(pool).network(), 443),
                to: ("10.1.2.20".parse().unwrap(), 8443),
            }],
        }
    }

    /// A is seen by a pool that the allocator would give to B if it were free.
    fn sample() -> Sample {
        Sample::new()
            .realm("a", &["10.1.2.0/24=hosts"])
            .realm("b", &["192.168.1.0/24"])
            .napt("a", pool("100.64.1.0/28"))
            .host("web", "a", &["10.1.2.20"])
            .host("mail", "a", &["10.1.2.25"])
            .grant_realm(&["a"], "b", &[PortRule::Any])
    }

    fn compiled(config: &Config, state: &Allocations) -> (Allocations, Compiled) {
        let (allocations, _) = allocate(config, state).unwrap();
        let compiled = compile_addresses(config, &allocations).unwrap();
        (allocations, compiled)
    }

    #[test]
    fn a_pool_is_given_to_nobody_else_also_after_it_is_gone() {
        let config = sample().build();
        let (state, first) = compiled(&config, &Allocations::default());
        let taken: Vec<Ipv4Net> = state.aliases.keys().copied().collect();
        assert!(taken.contains(&net("100.64.1.0/28")) && taken.contains(&net("100.64.2.0/24")), "{taken:?}");
        assert_eq!(first.napt.realms()[0].forwards.len(), 1);
        // Only the host without a forward has an address of its own.
        assert_eq!(taken.iter().filter(|alias| alias.prefix_len() == 32).count(), 1);

        let without = Sample::new().realm("b", &["192.168.1.0/24"]).realm("c", &["192.168.1.0/24"]).build();
        let (state, _) = compiled(&without, &state);
        assert!(state.aliases.contains_key(&net("100.64.1.0/28")));
        let pinned = Sample::new().realm("c", &["10.0.0.0/28=100.64.1.0/28"]).build();
        assert!(allocate(&pinned, &state).is_err());
    }

    #[test]
    fn a_pool_that_is_somebodys_alias_is_refused() {
        let (state, _) = compiled(&Sample::new().realm("b", &["192.168.1.0/24"]).build(), &Allocations::default());
        assert!(allocate(&sample().build(), &state).is_err(), "100.64.1.0/24 is b's");
    }

    #[test]
    fn who_had_a_port_is_told_from_the_file() {
        let config = sample().build();
        let (_, compiled) = compiled(&config, &Allocations::default());
        let who = |address: &str, port| {
            let holders = who(&config, &compiled, address.parse().unwrap(), port)?;
            Ok(holders.iter().map(|holder| format!("{holder}\n")).collect::<String>())
        };
        let text = who("100.64.1.0", 2000).unwrap();
        assert!(text.starts_with("tcp  host 10.1.2.3 of realm a, which has ports 1792-2047\n"), "{text}");
        let text = who("100.64.1.0", 443).unwrap();
        assert!(text.starts_with("tcp  the forward to 10.1.2.20:8443 of realm a\nudp  no host"), "{text}");
        assert_eq!(who("100.64.2.0", 443), Err(NotInAPool("100.64.2.0".parse().unwrap())));
    }

    #[test]
    fn ipv4_hosts_are_computed_and_ipv6_hosts_of_the_same_realm_are_in_the_log() {
        for (networks, rule, left_over) in [
            (
                &["10.1.2.0/24", "fd00:6::/64"][..],
                "IPv4 hosts: computed, no log is needed: who had",
                "a host of realm a; look",
            ),
            (&["10.1.2.0/24"][..], "    computed, no log is needed: who had", "no host of realm a ever has this port"),
        ] {
            let mut napt = pool("100.64.1.0/28");
            napt.forwards.clear();
            let config = Sample::new().realm("a", networks).napt("a", napt).build();
            let (_, compiled) = compiled(&config, &Allocations::default());
            let holders = who(&config, &compiled, "100.64.1.9".parse().unwrap(), 1024).unwrap();
            assert!(holders.iter().all(|holder| holder.to_string()[5..].starts_with(left_over)), "{holders:?}");
            let text = plan(&config, &Allocations::default()).unwrap().to_string();
            assert!(text.contains(rule), "{text}");
            let in_the_log = "\n    IPv6 hosts: 3776 blocks, given on demand, and the log says which and when\n";
            assert_eq!(text.contains(in_the_log), networks.len() == 2, "{text}");
        }
    }

    #[test]
    fn plan_says_who_is_seen_by_which_pool_and_by_which_rule() {
        let text = plan(&sample().build(), &Allocations::default()).unwrap().to_string();
        let want = "\
Seen by a pool (show_as: hosts without an alias share addresses and ports)
  a by 100.64.1.0/28 for everybody, 256 ports a host, filtering address-and-port
    computed, no log is needed: who had 100.64.1.0 ports 2048-2303? host 10.1.2.4
    tcp/443 of 100.64.1.0 leads to 10.1.2.20:8443
";
        assert!(text.contains(want), "{text}");
        let large = Sample::new().realm("a", &["10.0.0.0/8=hosts"]).napt("a", pool("100.64.1.0/32")).build();
        let text = plan(&large, &Allocations::default()).unwrap().to_string();
        assert!(text.contains("252 blocks for 16777216 hosts: a host is given one with its first packet"), "{text}");
    }

    #[test]
    fn plan_tells_those_that_see_a_pool_what_they_see_and_not_the_aliases_of_the_others() {
        let mut napt = pool("100.64.9.0/28");
        napt.viewers = Some(vec![model::RealmRef(1), model::RealmRef(2)]);
        let https = || PortRule::Tcp(8443..=8443);
        let sample = Sample::new()
            .realm("a", &["10.1.2.0/24"])
            .realm("b", &["192.168.1.0/24"])
            .realm("six", &["fd00:6::/64"])
            .realm("other", &["192.168.1.0/24"])
            .napt("a", napt)
            .host("web", "a", &["10.1.2.20"])
            .host("mail", "a", &["10.1.2.25"])
            .service("web", "web", &[https()])
            .service("admin", "web", &[PortRule::Tcp(22..=22)]);
        let sample = ["b", "six", "other"]
            .iter()
            .fold(sample, |sample, viewer| sample.grant_service(viewer, "web").grant_service(viewer, "admin"));
        let plan = plan(&sample.build(), &Allocations::default()).unwrap();
        let text = plan.to_string();
        for line in [
            "  b sees\n    a 10.1.2.0/24 by the pool 100.64.9.0/28 instead of 100.64.1.0/24\n",
            "  web.ix.example  100.64.1.20  tcp/8443  reached by b, six, other (no address for b, by tcp/443 of 100.64.9.0)\n",
            "  admin.ix.example  100.64.1.20  tcp/22  reached by b, six, other (no address for b, but no forward leads to it)\n",
        ] {
            assert!(text.contains(line), "{line}in\n{text}");
        }
        assert!(!text.contains("  a sees") && !text.contains("  other sees"), "{text}");
        let json = serde_json::to_value(&plan).unwrap();
        let exception = &json["exceptions"][0];
        assert_eq!((&exception["viewer"], &exception["alias"]), (&"b".into(), &serde_json::Value::Null));
        assert_eq!(exception["pools"], serde_json::json!(["100.64.9.0/28"]));
        let web = json["names"].as_array().unwrap().iter().find(|name| name["name"] == "web.ix.example").unwrap();
        assert_eq!(web["by_pool"], serde_json::json!(["b"]));
        assert_eq!(web["forwards"][0]["outside"], "100.64.9.0:443");
    }

    #[test]
    fn a_neighbours_view_has_the_pool_and_its_own_has_it_when_it_may_reach_itself() {
        let build = |sample: Sample| sample.ipsec("b", sample::ipsec_peer("fqdn:gw.example")).build();
        let ours = |config: &Config, realm: usize| {
            let (_, compiled) = compiled(config, &Allocations::default());
            Views::new(config, &compiled).of(compiled.realm_ids[realm], 64).ours
        };
        let pool = IpNet::V4(net("100.64.1.0/28"));
        let config = build(sample());
        assert!(ours(&config, 1).contains(&pool), "{:?}", ours(&config, 1));
        assert!(!ours(&config, 0).contains(&pool));
        let config = build(sample().grant_realm(&["a"], "a", &[PortRule::Any]));
        assert!(ours(&config, 0).contains(&pool));
    }

    #[test]
    fn where_some_see_the_pool_the_others_see_aliases() {
        let mut napt = pool("100.64.9.0/28");
        napt.viewers = Some(vec![model::RealmRef(1)]);
        let config = Sample::new()
            .realm("a", &["10.1.2.0/24"])
            .realm("b", &["192.168.1.0/24"])
            .realm("c", &["192.168.1.0/24"])
            .napt("a", napt)
            .build();
        let (_, compiled) = compiled(&config, &Allocations::default());
        let host = compiled.mapping.locate_native(compiled.realm_ids[0], "10.1.2.3".parse().unwrap()).unwrap();
        let seen = |realm: usize| compiled.mapping.seen_by(compiled.realm_ids[realm], host);
        assert_eq!((seen(0), seen(1)), (None, None));
        assert_eq!(seen(2), Some("100.64.1.3".parse().unwrap()));
        assert!(compiled.napt.shows(compiled.realm_ids[0], compiled.realm_ids[1]));
    }
}
