//! From configuration and allocations to what the packet path runs on.

use std::collections::{BTreeSet, HashMap};

use crate::config::model::{Attachment, Config};
use crate::dataplane::snapshot::{Limits, Realm, Service, Snapshot, Tunnel};
use crate::dns;
use crate::net::{Generation, RealmId, TunnelId};
use crate::wireguard::PeerConfig;

use super::compile::Compiled;

/// Which tunnel has which number: a key keeps its number while it is configured, so that keys in use and counters
/// survive a new configuration.
#[derive(Debug, Default)]
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
) -> Result<Snapshot, dns::ZoneError> {
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
        service: Service { gateway: compiled.gateway, dns: compiled.dns },
        mapping: compiled.mapping,
        policy: compiled.policy,
        realms,
        tunnels,
        limits: Limits { icmp_errors_per_sec: config.limits.icmp_errors_per_sec },
    })
}

fn tunnel(attachment: &Attachment, tunnel: TunnelId, realm: RealmId) -> Tunnel {
    let peer = &attachment.wireguard;
    Tunnel {
        realm,
        mtu_bytes: attachment.mtu_bytes,
        peer: PeerConfig {
            tunnel,
            public_key: peer.public_key,
            preshared_key: peer.preshared_key.clone(),
            endpoint: peer.endpoint,
            keepalive: peer.keepalive,
        },
    }
}

fn put<T>(slots: &mut Vec<Option<T>>, index: usize, value: T) {
    if slots.len() <= index {
        slots.resize_with(index + 1, || None);
    }
    slots[index] = Some(value);
}
