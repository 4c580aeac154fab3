//! From configuration and allocations to what the packet path runs on.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use crate::config;
use crate::config::model::{Attachment, Config, Peer, RealmRef, Sessions, WireGuardPeer};
use crate::dataplane::Setup;
use crate::dataplane::snapshot::{Derived, Interface, Limits, Realm, Service, Snapshot, Transport, Tunnel};
use crate::dns;
use crate::host::HostConfig;
use crate::ike;
use crate::link::Medium;
use crate::nat;
use crate::net::link::MAX_INTERFACES;
use crate::net::mapping::Located;
use crate::net::random::Random;
use crate::net::{Canonical, Generation, RealmId, TunnelId, VlanTags, service};
use crate::wireguard::{self, PeerConfig};

use super::compile::Compiled;
use super::ipsec::{self, IpsecError};
use super::ports::{self, InterfaceNumbers};
use super::resolvers::route_specs;
use super::view::Views;
use super::zone::{self, ZoneKeyError};

/// Of the TCP of the IX's own stack: what outer packets of 1,280 bytes carry, whatever is around it. The most is IPv6, UDP, and
/// ESP with AES-CBC and a tag of 32 bytes, which leaves 1,166.
const HOST_MTU_BYTES: usize = 1160;

/// A configuration that passed `check` and yet cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the internal zone cannot be built: {0}")]
    Zone(#[from] dns::ZoneError),
    #[error("the resolver {address} of realm {realm:?} lies in none of its networks")]
    ResolverOutsideRealm { realm: String, address: IpAddr },
    #[error(transparent)]
    ZoneKey(#[from] ZoneKeyError),
    #[error(transparent)]
    Ipsec(#[from] IpsecError),
    #[error(
        "there are more interfaces and TUN devices than {MAX_INTERFACES}, counting those that are still in use; take away \
         the ones that go first, and apply the rest after that"
    )]
    TooManyInterfaces,
    #[error("the IX's own address {0} lies in no network; release and allocate the service network again")]
    NoServiceAddress(Canonical),
}

/// Which tunnel has which number: a peer keeps its number while it is configured, so that keys in use and counters
/// survive a new configuration. And which serial the zone has: that changes with each.
#[derive(Clone, Debug, Default)]
pub struct TunnelNumbers {
    by_key: HashMap<TunnelKey, TunnelId>,
    interfaces: InterfaceNumbers,
    /// Of the zone that was made last.
    zone_serial: Option<u32>,
}

/// What a tunnel is known by: one that goes to another realm is another tunnel.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum TunnelKey {
    /// The public key, once in the whole file.
    WireGuard([u8; 32]),
    /// Theirs and ours, once in the whole file as a pair.
    Ipsec { realm: RealmId, remote_id: String, local_id: String },
    /// Once in the whole file as a pair.
    Port { realm: RealmId, interface: String, vlan: VlanTags },
    /// Once in the whole file.
    Tun { realm: RealmId, name: String },
}

impl TunnelKey {
    fn of(attachment: &Attachment, realm: RealmId) -> Self {
        match &attachment.peer {
            Peer::WireGuard(peer) => TunnelKey::WireGuard(peer.public_key),
            Peer::Ipsec(peer) => {
                TunnelKey::Ipsec { realm, remote_id: peer.remote_id.folded(), local_id: peer.local_id.folded() }
            }
            Peer::Port(port) => TunnelKey::Port { realm, interface: port.interface.clone(), vlan: port.vlan },
            Peer::Tun(tun) => TunnelKey::Tun { realm, name: tun.name.clone() },
        }
    }
}

impl TunnelNumbers {
    /// The interfaces of a configuration by number, before it is compiled: they are opened first.
    pub fn interfaces(&mut self, config: &Config) -> Result<Vec<Option<Interface>>, SnapshotError> {
        self.interfaces.update(config)?;
        Ok(self.interfaces.list())
    }

    /// For the zone of the next generation.
    pub fn next_zone_serial(&mut self, now: SystemTime) -> u32 {
        let serial = zone::next_serial(self.zone_serial, now);
        self.zone_serial = Some(serial);
        serial
    }

    /// Forgets vanished keys and numbers new ones, lowest free number first.
    fn update(&mut self, keys: &[TunnelKey]) {
        let wanted: BTreeSet<&TunnelKey> = keys.iter().collect();
        self.by_key.retain(|key, _| wanted.contains(key));
        let taken: BTreeSet<u32> = self.by_key.values().map(|id| id.0).collect();
        let mut free = (0..).filter(|number| !taken.contains(number));
        for key in keys {
            if !self.by_key.contains_key(key) {
                self.by_key.insert(key.clone(), TunnelId(free.next().expect("numbers do not run out")));
            }
        }
    }
}

/// Puts together what one generation of the configuration means.
pub fn snapshot(
    config: &Config,
    compiled: Compiled,
    numbers: &mut TunnelNumbers,
    generation: Generation,
) -> Result<Snapshot, SnapshotError> {
    let attached = config.realms.iter().zip(&compiled.realm_ids);
    let keys_of = |(realm, id): (&config::model::Realm, &RealmId)| -> Vec<TunnelKey> {
        realm.attachments.iter().map(|attachment| TunnelKey::of(attachment, *id)).collect()
    };
    numbers.update(&attached.flat_map(keys_of).collect::<Vec<_>>());
    numbers.interfaces.update(config)?;

    let ipsec_peers = ipsec::Peers::new(config)?;
    let views = Views::new(config, &compiled);
    let mut realms: Vec<Option<Realm>> = Vec::new();
    let mut tunnels: Vec<Option<Tunnel>> = Vec::new();
    let mut doors = Vec::new();
    for (index, (realm, id)) in config.realms.iter().zip(&compiled.realm_ids).enumerate() {
        let mut of_realm = Vec::new();
        let mut view = None;
        for attachment in &realm.attachments {
            let number = numbers.by_key[&TunnelKey::of(attachment, *id)];
            let Attachment { mtu_bytes, priority, weight, .. } = *attachment;
            let by_port = |medium| {
                let config = ports::config(&numbers.interfaces, &attachment.peer, medium, number, mtu_bytes);
                Transport::Port(Arc::new(config))
            };
            let (peer, copy_dscp) = match &attachment.peer {
                Peer::WireGuard(peer) => (wireguard_peer(peer, number, attachment.mtu_bytes), false),
                Peer::Ipsec(peer) => {
                    let view = view.get_or_insert_with(|| views.of(*id, config.limits.ike.selectors));
                    (Transport::Ipsec(Arc::new(ipsec_peers.peer(peer, number, view)?)), peer.copy_dscp)
                }
                Peer::Port(port) => {
                    let proxy = if port.proxy { views.of(*id, usize::MAX).ours } else { Vec::<IpNet>::new() };
                    let is_default = config.default_realm == Some(RealmRef(index));
                    (by_port(ports::ethernet(realm, port, is_default, proxy)), false)
                }
                Peer::Tun(_) => (by_port(Medium::Tun), false),
            };
            let tunnel = Tunnel { realm: *id, mtu_bytes, peer, copy_dscp, priority, weight };
            put(&mut tunnels, number.index(), tunnel);
            of_realm.push(number);
        }
        doors.extend(ports::door(&numbers.interfaces, realm, *id, &of_realm));
        put(
            &mut realms,
            usize::from(id.0),
            Realm { name: realm.name.clone(), tunnels: of_realm, inhabited: Vec::new() },
        );
    }
    name_the_inhabited(config, &compiled.realm_ids, &mut realms);

    Ok(Snapshot {
        generation,
        file_read_in: generation,
        zone: dns::Zone::new(zone_spec(config, &compiled, generation, zone::signing_key(config)?))?,
        transfer_keys: zone::transfer_keys(config, &compiled.realm_ids)?,
        routes: dns::Routes::new(route_specs(config, &compiled)?)?,
        service: Service { gateway: locate(&compiled, compiled.gateway)?, dns: locate(&compiled, compiled.dns)? },
        mapping: compiled.mapping,
        policy: compiled.policy,
        napt: compiled.napt,
        realms,
        tunnels,
        interfaces: numbers.interfaces.list(),
        doors,
        timers: timers(&config.sessions),
        limits: Limits { icmp_errors_per_sec: config.limits.icmp_errors_per_sec },
        derived: Derived::default(),
    })
}

fn name_the_inhabited(config: &Config, ids: &[RealmId], realms: &mut [Option<Realm>]) {
    for host in &config.hosts {
        let realm = ids.get(host.realm.0).and_then(|id| realms.get_mut(usize::from(id.0))?.as_mut());
        if let Some(realm) = realm.filter(|realm| realm.inhabited.is_empty()) {
            realm.inhabited = host.addresses.clone();
        }
    }
}

/// What an engine is given that no configuration can say.
pub struct Surroundings {
    /// Random and secret, except in a simulation.
    pub seed: u64,
    /// For keys, as the next, except in a simulation.
    pub wireguard_random: wireguard::Random,
    pub ike_random: Box<dyn Random + Send>,
    pub dns_random: Box<dyn Random + Send>,
    pub link_random: Box<dyn Random + Send>,
    /// The time since 1970 at `Timestamp::ZERO`: handshakes are stamped with it, and certificates have dates.
    pub unix_time_at_zero: Duration,
}

fn timers(sessions: &Sessions) -> nat::Timers {
    nat::Timers {
        tcp_established_secs: sessions.tcp_established_secs,
        tcp_opening_secs: sessions.tcp_opening_secs,
        tcp_transitory_secs: sessions.tcp_transitory_secs,
        udp_secs: sessions.udp_secs,
        icmp_secs: sessions.icmp_secs,
    }
}

/// What an engine is made of beyond the snapshot.
pub fn setup(config: &Config, surroundings: Surroundings) -> Setup {
    let limits = &config.limits;
    let Surroundings { seed, wireguard_random, ike_random, dns_random, link_random, unix_time_at_zero } = surroundings;
    let ike = Some(ike::Setup {
        limits: ipsec::limits(&limits.ike),
        ports: ipsec::ports(config),
        local_addresses: ipsec::local_addresses(config),
        unix_secs_at_zero: unix_time_at_zero.as_secs(),
        random: ike_random,
    });
    Setup {
        private_key: config.wireguard.private_key.clone(),
        handshakes_per_sec: limits.handshakes_per_sec,
        ike,
        sessions: nat::Limits { sessions: limits.sessions, per_realm: limits.sessions_per_realm },
        reassembly: nat::reassembly::Limits {
            bytes: limits.reassembly.bytes,
            bytes_per_realm: limits.reassembly.bytes_per_realm,
            datagrams_per_realm: limits.reassembly.datagrams_per_realm,
            fragments_per_datagram: limits.reassembly.fragments,
        },
        napt_bindings: limits.napt_bindings,
        host: HostConfig {
            gateway: service::gateway(config.ix.space6),
            dns: service::dns(config.ix.space6),
            dns_tcp: limits.dns_tcp,
            dns_tcp_per_realm: limits.dns_tcp_per_realm,
            clients_udp: limits.dns.pending,
            clients_tcp: limits.dns.pending_tcp,
            clients_tcp_per_realm: limits.dns.pending_tcp_per_realm,
            mtu_bytes: HOST_MTU_BYTES,
        },
        dns: dns_limits(&limits.dns),
        dns_random,
        link_random,
        seed,
        random: wireguard_random,
        unix_time_at_zero,
    }
}

fn dns_limits(limits: &config::model::DnsLimits) -> dns::ForwardLimits {
    dns::ForwardLimits {
        pending: limits.pending,
        pending_per_realm: limits.pending_per_realm,
        pending_per_resolver: limits.pending_per_resolver,
        cache_entries: limits.cache_entries,
        cache_bytes: limits.cache_bytes,
        queries_per_sec_per_host: limits.queries_per_sec_per_host,
        queries_per_sec_per_realm: limits.queries_per_sec_per_realm,
        signatures: dns::SignatureLimits {
            entries: limits.signatures,
            per_sec_per_realm: limits.signatures_per_sec_per_realm,
        },
    }
}

fn wireguard_peer(peer: &WireGuardPeer, tunnel: TunnelId, mtu_bytes: u16) -> Transport {
    Transport::WireGuard(PeerConfig {
        tunnel,
        public_key: peer.public_key,
        preshared_key: peer.preshared_key.clone(),
        endpoint: peer.endpoint,
        keepalive: peer.keepalive,
        mtu_bytes,
    })
}

fn locate(compiled: &Compiled, address: Canonical) -> Result<Located, SnapshotError> {
    compiled.mapping.locate_canonical(address).ok_or(SnapshotError::NoServiceAddress(address))
}

fn zone_spec(
    config: &Config,
    compiled: &Compiled,
    generation: Generation,
    key: Option<Arc<dns::SigningKey>>,
) -> dns::ZoneSpec {
    let realms = config.realms.iter().zip(&compiled.realm_ids).map(|(realm, id)| (*id, realm.name.clone()));
    let hosts = compiled.names.hosts.iter().map(|host| dns::HostName {
        name: host.name.clone(),
        realm: host.realm,
        addresses: host.addresses.clone(),
    });
    let services = compiled.names.services.iter().map(|service| dns::ServiceName {
        name: service.name.clone(),
        realm: service.realm,
        addresses: service.addresses.clone(),
        ports: service.ports.clone(),
    });
    dns::ZoneSpec {
        domain: config.ix.domain.clone(),
        serial: generation.0,
        dns: compiled.dns,
        alias4: config.ix.alias4.clone(),
        realms: realms.collect(),
        hosts: hosts.collect(),
        services: services.collect(),
        key,
    }
}

pub(super) fn put<T>(slots: &mut Vec<Option<T>>, index: usize, value: T) {
    if slots.len() <= index {
        slots.resize_with(index + 1, || None);
    }
    slots[index] = Some(value);
}

#[cfg(test)]
mod tests {
    use super::super::allocate::allocate;
    use super::super::allocations::Allocations;
    use super::super::compile::compile_addresses;
    use super::super::sample::{Sample, ipsec_peer};
    use super::*;
    use crate::net::policy::PortRule;

    fn make(config: &Config, numbers: &mut TunnelNumbers) -> Snapshot {
        let (allocations, _) = allocate(config, &Allocations::default()).unwrap();
        let compiled = compile_addresses(config, &allocations).unwrap();
        snapshot(config, compiled, numbers, Generation(1)).unwrap()
    }

    #[test]
    fn the_first_host_of_each_realm_tells_where_it_is_inhabited() {
        let sample = two_realms().host("x", "b", &["192.168.1.7"]).host("y", "b", &["192.168.1.8"]);
        let snapshot = make(&sample.build(), &mut TunnelNumbers::default());
        let inhabited = |realm: u16| snapshot.realm(RealmId(realm)).unwrap().inhabited.clone();
        assert_eq!((inhabited(1), inhabited(2)), (vec![], vec!["192.168.1.7".parse::<IpAddr>().unwrap()]));
    }

    fn two_realms() -> Sample {
        Sample::new().realm("a", &["192.168.1.0/24"]).realm("b", &["192.168.1.0/24"])
    }

    fn numbers_of(snapshot: &Snapshot, realm: u16) -> Vec<u32> {
        snapshot.realm(RealmId(realm)).unwrap().tunnels.iter().map(|tunnel| tunnel.0).collect()
    }

    #[test]
    fn the_idle_times_of_the_configuration_are_the_sessions() {
        assert_eq!(timers(&Sessions::default()), nat::Timers::default());
        let sessions = Sessions {
            tcp_established_secs: 1,
            tcp_opening_secs: 2,
            tcp_transitory_secs: 3,
            udp_secs: 4,
            icmp_secs: 5,
        };
        let want = nat::Timers {
            tcp_established_secs: 1,
            tcp_opening_secs: 2,
            tcp_transitory_secs: 3,
            udp_secs: 4,
            icmp_secs: 5,
        };
        assert_eq!(timers(&sessions), want);
    }

    #[test]
    fn tunnels_of_both_kinds_keep_their_numbers() {
        let mut numbers = TunnelNumbers::default();
        let before = two_realms().wireguard("a", 1).ipsec("b", ipsec_peer("fqdn:gw.example")).build();
        let before = make(&before, &mut numbers);
        assert_eq!((numbers_of(&before, 1), numbers_of(&before, 2)), (vec![0], vec![1]));
        // The first is gone, and the other's name is written otherwise, which means the same.
        let after = two_realms().ipsec("b", ipsec_peer("fqdn:GW.example")).ipsec("a", ipsec_peer("fqdn:new.example"));
        let after = make(&after.build(), &mut numbers);
        assert_eq!((numbers_of(&after, 1), numbers_of(&after, 2)), (vec![0], vec![1]));
        let [same, other] = [1, 0]
            .map(|tunnel| before.tunnel(TunnelId(tunnel)).unwrap().is_same(after.tunnel(TunnelId(tunnel)).unwrap()));
        assert!(same && !other);
        // In another realm it is another tunnel, whatever its number.
        let moved = make(&two_realms().ipsec("a", ipsec_peer("fqdn:gw.example")).build(), &mut numbers);
        let tunnel = moved.realm(RealmId(1)).unwrap().tunnels[0];
        assert!(!after.tunnel(TunnelId(1)).unwrap().is_same(moved.tunnel(tunnel).unwrap()));
    }

    #[test]
    fn peers_that_are_in_nothing_different_are_those_of_the_snapshot_before() {
        let mut numbers = TunnelNumbers::default();
        let three = || two_realms().ipsec("a", ipsec_peer("fqdn:gw.example")).ipsec("b", ipsec_peer("fqdn:hq.example"));
        let before = make(&three().build(), &mut numbers);
        let peer = |snapshot: &Snapshot, tunnel: u32| match &snapshot.tunnel(TunnelId(tunnel)).unwrap().peer {
            Transport::Ipsec(peer) => peer.clone(),
            other => panic!("{other:?}"),
        };
        let is_shared = |after: &Snapshot, tunnel| Arc::ptr_eq(&peer(&before, tunnel), &peer(after, tunnel));
        let mut same = make(&three().wireguard("a", 1).build(), &mut numbers);
        assert!(!is_shared(&same, 0));
        same.get_ready(&before);
        assert!(is_shared(&same, 0) && is_shared(&same, 1));
        // What a may reach is among its selectors.
        let mut other = make(&three().grant_realm(&["a"], "b", &[PortRule::Any]).build(), &mut numbers);
        other.get_ready(&before);
        assert!(!is_shared(&other, 0) && !is_shared(&other, 1));
        assert_ne!(peer(&other, 0).ours, peer(&before, 0).ours);
    }

    #[test]
    fn an_ipsec_tunnel_offers_its_realms_view() {
        let config = two_realms()
            .wireguard("a", 1)
            .ipsec("b", ipsec_peer("fqdn:gw.example"))
            .grant_realm(&["a"], "b", &[PortRule::Any])
            .build();
        let snapshot = make(&config, &mut TunnelNumbers::default());
        let tunnel = snapshot.tunnel(TunnelId(1)).unwrap();
        let Transport::Ipsec(peer) = &tunnel.peer else { panic!("{tunnel:?}") };
        assert_eq!((tunnel.realm, tunnel.copy_dscp, peer.tunnel), (RealmId(2), true, TunnelId(1)));
        let texts = |selectors: &[crate::net::selector::Selector]| -> Vec<String> {
            selectors.iter().map(|selector| selector.first.to_string()).collect()
        };
        assert_eq!(texts(&peer.ours), ["100.64.0.0", "100.64.1.0"], "the IX itself, and a");
        assert_eq!(texts(&peer.theirs), ["192.168.1.0"]);
    }
}
