//! From configuration and allocations to what the packet path runs on.

use std::collections::{BTreeSet, HashMap};

use crate::config::model::{Attachment, Config};
use crate::dataplane::Setup;
use crate::dataplane::snapshot::{Limits, Realm, Service, Snapshot, Transport, Tunnel};
use crate::dns;
use crate::host::HostConfig;
use crate::nat;
use crate::net::mapping::Located;
use crate::net::{Canonical, Generation, RealmId, TunnelId, service};
use crate::wireguard::PeerConfig;

use super::compile::Compiled;

/// Of the IX's own stack: the IPv6 minimum, which every tunnel carries.
const HOST_MTU_BYTES: usize = 1280;

/// A configuration that passed `check` and yet cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the internal zone cannot be built: {0}")]
    Zone(#[from] dns::ZoneError),
    #[error("the IX's own address {0} lies in no network; release and allocate the service network again")]
    NoServiceAddress(Canonical),
}

/// Which tunnel has which number: a key keeps its number while it is configured, so that keys in use and counters
/// survive a new configuration.
#[derive(Clone, Debug, Default)]
pub struct TunnelNumbers {
    by_key: HashMap<[u8; 32], TunnelId>,
}

impl TunnelNumbers {
    /// Forgets vanished keys and numbers new ones, lowest free number first.
    fn update<'a>(&mut self, keys: impl Iterator<Item = &'a [u8; 32]> + Clone) {
        let wanted: BTreeSet<&[u8; 32]> = keys.clone().collect();
        self.by_key.retain(|key, _| wanted.contains(key));
        let taken: BTreeSet<u32> = self.by_key.values().map(|id| id.0).collect();
        let mut free = (0..).filter(|number| !taken.contains(number));
        for key in keys {
            self.by_key.entry(*key).or_insert_with(|| TunnelId(free.next().expect("numbers do not run out")));
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
    let attachments = || config.realms.iter().flat_map(|realm| &realm.attachments);
    numbers.update(attachments().map(|attachment| &attachment.wireguard.public_key));

    let mut realms: Vec<Option<Realm>> = Vec::new();
    let mut tunnels: Vec<Option<Tunnel>> = Vec::new();
    for (realm, id) in config.realms.iter().zip(&compiled.realm_ids) {
        let mut of_realm = Vec::new();
        for attachment in &realm.attachments {
            let number = numbers.by_key[&attachment.wireguard.public_key];
            put(&mut tunnels, number.index(), tunnel(attachment, number, *id));
            of_realm.push(number);
        }
        put(&mut realms, usize::from(id.0), Realm { name: realm.name.clone(), tunnels: of_realm });
    }

    Ok(Snapshot {
        generation,
        zone: dns::Zone::new(zone_spec(config, &compiled, generation))?,
        service: Service { gateway: locate(&compiled, compiled.gateway)?, dns: locate(&compiled, compiled.dns)? },
        mapping: compiled.mapping,
        policy: compiled.policy,
        realms,
        tunnels,
        limits: Limits { icmp_errors_per_sec: config.limits.icmp_errors_per_sec },
    })
}

/// What an engine is made of beyond the snapshot. `seed` must be random and secret, except in a simulation.
pub fn setup(config: &Config, seed: u64) -> Setup {
    let limits = &config.limits;
    Setup {
        private_key: config.wireguard.private_key.clone(),
        handshakes_per_sec: limits.handshakes_per_sec,
        sessions: nat::Limits { sessions: limits.sessions, per_realm: limits.sessions_per_realm },
        host: HostConfig {
            gateway: service::gateway(config.ix.space6),
            dns: service::dns(config.ix.space6),
            dns_tcp: limits.dns_tcp,
            dns_tcp_per_realm: limits.dns_tcp_per_realm,
            mtu_bytes: HOST_MTU_BYTES,
        },
        seed,
    }
}

fn tunnel(attachment: &Attachment, tunnel: TunnelId, realm: RealmId) -> Tunnel {
    let peer = &attachment.wireguard;
    Tunnel {
        realm,
        mtu_bytes: attachment.mtu_bytes,
        peer: Transport::WireGuard(PeerConfig {
            tunnel,
            public_key: peer.public_key,
            preshared_key: peer.preshared_key.clone(),
            endpoint: peer.endpoint,
            keepalive: peer.keepalive,
        }),
    }
}

fn locate(compiled: &Compiled, address: Canonical) -> Result<Located, SnapshotError> {
    compiled.mapping.locate_canonical(address).ok_or(SnapshotError::NoServiceAddress(address))
}

fn zone_spec(config: &Config, compiled: &Compiled, generation: Generation) -> dns::ZoneSpec {
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
    }
}

fn put<T>(slots: &mut Vec<Option<T>>, index: usize, value: T) {
    if slots.len() <= index {
        slots.resize_with(index + 1, || None);
    }
    slots[index] = Some(value);
}
