//! No answer ever contains an address out of another realm's own space; no bytes whatsoever bring the zone down.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, RecordType};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use super::fixture::*;
use super::*;
use crate::net::alias_pool::AliasPool;
use crate::net::mapping::{AliasOverride, Mapping, Network};
use crate::net::policy::{Grant, Policy, PortRule, Target};
use crate::net::{Canonical, NetworkId, RealmId};

/// Prefixes that the realms share. Some lie in the alias pool, so that viewers need overrides.
const SHARED: [&str; 5] = ["192.168.1.0/24", "192.168.0.0/16", "10.0.0.0/24", "100.64.0.0/23", "100.64.2.0/24"];

/// What proptest draws; [`build`] makes a consistent world of it.
#[derive(Clone, Debug)]
struct Draft {
    realms: Vec<RealmDraft>,
    /// from, to, whole realm or host, ports
    grants: Vec<(usize, usize, bool, prop::sample::Index, u8)>,
}

#[derive(Clone, Debug)]
struct RealmDraft {
    prefix: usize,
    hosts_only: bool,
    ipv6: bool,
    /// Last bits of the address, whether it also has an IPv6 address, the service's port.
    hosts: Vec<(u8, bool, u8)>,
}

fn draft() -> impl Strategy<Value = Draft> {
    let host = (1u8..=254, any::<bool>(), 0u8..3);
    let realm = (0..SHARED.len(), prop::bool::weighted(0.2), any::<bool>(), prop::collection::vec(host, 1..4))
        .prop_map(|(prefix, hosts_only, ipv6, hosts)| RealmDraft { prefix, hosts_only, ipv6, hosts });
    let grant = (0usize..6, 0usize..6, any::<bool>(), any::<prop::sample::Index>(), 0u8..3);
    (prop::collection::vec(realm, 1..6), prop::collection::vec(grant, 0..8))
        .prop_map(|(realms, grants)| Draft { realms, grants })
}

fn rule(port: u8) -> PortRule {
    match port {
        0 => PortRule::Icmp,
        port => PortRule::Tcp(port.into()..=port.into()),
    }
}

/// Every name of the zone, by the realm that owns it.
type Names = Vec<(String, RealmId)>;

fn build(draft: &Draft) -> (World, Names) {
    let mut networks = vec![network4(RealmId::IX, "192.0.2.0/28", Some("100.127.255.0/28"))];
    let mut pool = AliasPool::new(&["100.64.0.0/10".parse().unwrap()]);
    pool.reserve("100.127.255.0/28".parse().unwrap());
    let (mut hosts, mut services, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for (realm, d) in (1..).map(RealmId).zip(&draft.realms) {
        let native: Ipv4Net = SHARED[d.prefix].parse().unwrap();
        let alias = (!d.hosts_only).then(|| pool.allocate(native.prefix_len(), &[]).unwrap());
        networks.push(Network { realm, native: native.into(), canonical: space().embed_net(realm, native), alias });
        if d.ipv6 {
            // All realms have the same IPv6 prefix too.
            let canonical: Ipv6Net = format!("2001:db8:{}::/64", realm.0).parse().unwrap();
            networks.push(Network { realm, native: "fd00:1::/64".parse().unwrap(), canonical, alias: None });
        }
        for (i, (low, has6, port)) in d.hosts.iter().enumerate() {
            let mut addresses =
                vec![space().embed(realm, Ipv4Addr::from_bits(native.network().to_bits() | u32::from(*low)))];
            if *has6 && d.ipv6 {
                addresses.push(canonical6(&format!("2001:db8:{}::{low:x}", realm.0)));
            }
            names.push((format!("h{i}.r{realm}.ix.example."), realm));
            names.push((format!("s{i}-{realm}.ix.example."), realm));
            services.push(ServiceName {
                name: format!("s{i}-{realm}"),
                realm,
                addresses: addresses.clone(),
                ports: vec![rule(*port)],
            });
            hosts.push(HostName { name: format!("h{i}"), realm, addresses });
        }
    }
    let overrides = overrides(&networks, draft.realms.len(), &mut pool);
    let grants: Vec<Grant> = draft.grants.iter().filter_map(|g| grant(g, draft.realms.len(), &hosts)).collect();
    let realms = (1..=draft.realms.len() as u16).map(|r| (RealmId(r), format!("r{r}"))).collect();
    let zone = Zone::new(ZoneSpec { realms, hosts, services, ..spec() }).unwrap();
    (World { zone, mapping: Mapping::new(space(), networks, &overrides), policy: Policy::new(grants) }, names)
}

/// As control does: a viewer whose own networks collide with a default alias gets an alias of its own.
fn overrides(networks: &[Network], realms: usize, pool: &mut AliasPool) -> Vec<AliasOverride> {
    let mut overrides = Vec::new();
    for viewer in (1..=realms as u16).map(RealmId) {
        let own: Vec<Ipv4Net> = networks.iter().filter(|n| n.realm == viewer).filter_map(|n| as_v4(n.native)).collect();
        for (id, network) in (0..).map(NetworkId).zip(networks) {
            let collides = |alias: Ipv4Net| own.iter().any(|n| n.contains(&alias) || alias.contains(n));
            if network.realm != viewer && network.alias.is_some_and(collides) {
                let alias = pool.allocate(network.native.prefix_len(), &own).unwrap();
                overrides.push(AliasOverride { viewer, network: id, alias });
            }
        }
    }
    overrides
}

fn as_v4(net: IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(net),
        IpNet::V6(_) => None,
    }
}

fn grant(draft: &(usize, usize, bool, prop::sample::Index, u8), realms: usize, hosts: &[HostName]) -> Option<Grant> {
    let (from, to, whole, index, port) = draft;
    let (from, to) = (from % realms, to % realms);
    let rules = vec![rule(*port)];
    let id = |r: usize| RealmId(r as u16 + 1);
    if *whole {
        return (from != to).then(|| Grant { from: id(from), to: id(to), target: Target::Realm, rules });
    }
    let host = index.get(hosts);
    let target = Target::Host(host.addresses.clone());
    (id(from) != host.realm).then(|| Grant { from: id(from), to: host.realm, target, rules })
}

/// The claim, for one address in an answer to `asker`.
fn is_lawful(world: &World, asker: RealmId, addr: IpAddr) -> bool {
    if let Some(own) = world.mapping.locate_native(asker, addr) {
        return own.realm == asker;
    }
    let Some(at) = world.mapping.locate_seen_by(asker, addr) else { return false };
    at.realm.is_ix() || world.policy.reaches(asker, at.realm, at.canonical)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_address_is_the_askers_own_or_one_that_it_may_reach(draft in draft()) {
        let (world, names) = build(&draft);
        for asker in (1..=draft.realms.len() as u16).map(RealmId) {
            for (name, owner) in &names {
                for record_type in [RecordType::A, RecordType::AAAA, RecordType::ANY, RecordType::TXT] {
                    let answer = world.lookup(asker, name, record_type);
                    for addr in addresses(&answer) {
                        prop_assert!(is_lawful(&world, asker, addr), "{} asks {}: {}", asker, name, addr);
                        let own = world.mapping.locate_native(asker, addr).is_some();
                        prop_assert_eq!(own, *owner == asker, "{} asks {}: {}", asker, name, addr);
                    }
                    let denied = answer.response_code == ResponseCode::NXDomain;
                    prop_assert_eq!(denied, extended_error(&answer).is_some(), "{} asks {}", asker, name);
                    prop_assert!(!(denied && *owner == asker));
                }
            }
        }
    }

    /// The other way round: what the path would let through has a name and an address.
    #[test]
    fn whoever_has_a_grant_gets_an_address(draft in draft()) {
        let (world, _) = build(&draft);
        for asker in (1..=draft.realms.len() as u16).map(RealmId) {
            for (realm, d) in (1..).map(RealmId).zip(&draft.realms) {
                for (i, (low, _, _)) in d.hosts.iter().enumerate() {
                    let native: Ipv4Net = SHARED[d.prefix].parse().unwrap();
                    let canonical = space().embed(realm, Ipv4Addr::from_bits(native.network().to_bits() | u32::from(*low)));
                    let at = world.mapping.locate_canonical(canonical).unwrap();
                    let granted = asker == realm || world.policy.reaches(asker, realm, canonical);
                    let visible = asker == realm || world.mapping.seen_by(asker, at).is_some();
                    let got = world.addresses(asker, &format!("h{i}.r{realm}.ix.example."), RecordType::A);
                    prop_assert_eq!(got.len(), usize::from(granted && visible));
                }
            }
        }
    }

    /// Reverse names are given for the same addresses, and lead back.
    #[test]
    fn a_reverse_name_is_given_only_where_the_asker_may_go(draft in draft()) {
        let (world, names) = build(&draft);
        let mut probes: Vec<IpAddr> = vec!["100.127.255.1".parse().unwrap(), "100.64.0.9".parse().unwrap()];
        for asker in (1..=draft.realms.len() as u16).map(RealmId) {
            for (name, _) in &names {
                probes.extend(addresses(&world.lookup(asker, name, RecordType::A)));
                probes.extend(addresses(&world.lookup(asker, name, RecordType::AAAA)));
            }
        }
        for host in world.zone.hosts_by_address.keys() {
            probes.push(IpAddr::V6(host.addr()));
        }
        for asker in (1..=draft.realms.len() as u16).map(RealmId) {
            for addr in &probes {
                let answer = world.ask(asker, &query_of(Name::from(*addr), RecordType::PTR, true));
                let Some(record) = answer.answers.first() else { continue };
                let RData::PTR(target) = &record.data else { panic!("{record}") };
                let own = world.mapping.locate_native(asker, *addr);
                let at = own.or_else(|| world.mapping.locate_seen_by(asker, *addr)).unwrap();
                prop_assert!(at.realm == asker || at.realm.is_ix() || world.policy.reaches(asker, at.realm, at.canonical));
                prop_assert_eq!(world.zone.hosts_by_address.get(&Canonical(at.canonical.0)), Some(&target.0));
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_every_answer_parses(bytes in prop::collection::vec(any::<u8>(), 0..600), tcp: bool) {
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        world().exchange(A, transport, &bytes);
    }

    #[test]
    fn mutated_queries_never_panic_and_answers_stay_small(
        name in prop::sample::select(vec!["pacs.b.ix.example.", "ws.c.ix.example.", "20.2.64.100.in-addr.arpa.", "x.y."]),
        record_type in prop::sample::select(vec![1u16, 2, 5, 6, 12, 15, 28, 41, 65, 251, 252, 255, 999]),
        edns: bool,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        shorten in prop::bool::weighted(0.2),
    ) {
        let mut bytes = query(name, RecordType::from(record_type), edns).to_vec().unwrap();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if shorten {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Some((answer, raw)) = world().exchange(A, Transport::Udp, &bytes) {
            prop_assert!(raw.len() <= 512, "this world has no long answers: {}", raw.len());
            for addr in addresses(&answer) {
                prop_assert!(is_lawful(&world(), A, addr));
            }
        }
    }
}
