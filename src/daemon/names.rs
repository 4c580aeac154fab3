//! The file's names for the numbers in reports, and what is said of the routes that daemons learn.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

use crate::config::model::{Config, Realm, RealmRef};
use crate::control::learned::{Heard, LearnedRealm};
use crate::dataplane::Snapshot;
use crate::dataplane::snapshot::{Transport, Tunnel};
use crate::link::{Medium, PortConfig};
use crate::net::RealmId;
use crate::telemetry::source::{LearnedRoute, LearnedRoutes, Names, PeerName, RealmName, TunnelName};

/// The file's names for the numbers in a report.
pub fn of(config: &Config, snapshot: &Snapshot, learned: &[LearnedRealm], heard: &Heard) -> Names {
    let order: HashMap<&str, usize> = (config.realms.iter().map(|realm| realm.name.as_str()).zip(0..)).collect();
    let routes = |id: RealmId, name: &str| {
        let realm = RealmRef(*order.get(name)?);
        learned_routes(&config.realms[realm.0], snapshot, id, learned.iter().find(|one| one.realm == realm), heard)
    };
    let mut realms: Vec<_> = (0..=u16::MAX)
        .map(RealmId)
        .zip(&snapshot.realms)
        .filter_map(|(realm, entry)| {
            let name = entry.as_ref()?.name.clone();
            let routes = routes(realm, &name).map(Arc::new);
            Some(RealmName { realm, name, routes })
        })
        .collect();
    realms.sort_by_key(|realm| order.get(realm.name.as_str()));
    let tunnels = snapshot.tunnels.iter().flatten().map(|tunnel| {
        let (peer, has_endpoint) = match &tunnel.peer {
            Transport::WireGuard(peer) => (PeerName::WireGuard(peer.public_key), peer.endpoint.is_some()),
            Transport::Ipsec(peer) => {
                let (remote_id, local_id) = (peer.remote_id.to_string(), peer.local_id.to_string());
                (PeerName::Ipsec { remote_id, local_id }, peer.initiate)
            }
            Transport::Port(port) => (port_name(port, snapshot), false),
        };
        let Tunnel { realm, priority, weight, .. } = *tunnel;
        TunnelName { tunnel: tunnel.peer.tunnel(), realm, peer, has_endpoint, priority, weight }
    });
    Names { tunnels: tunnels.collect(), realms }
}

/// `None`: the realm has no routing daemon.
fn learned_routes(
    realm: &Realm,
    snapshot: &Snapshot,
    id: RealmId,
    known: Option<&LearnedRealm>,
    heard: &Heard,
) -> Option<LearnedRoutes> {
    let from = realm.routes_from.as_ref()?;
    let said = heard.get(&realm.name);
    let networks = snapshot.mapping.networks().iter().filter(|network| network.realm == id);
    let aliases: HashMap<IpNet, Option<Ipv4Net>> = networks.map(|network| (network.native, network.alias)).collect();
    let accepted = known.iter().flat_map(|realm| &realm.accepted).map(|one| LearnedRoute {
        prefix: one.route.prefix,
        via: one.route.via.clone(),
        since: one.route.since,
        within: one.within,
        alias: aliases.get(&one.route.prefix).copied().flatten(),
    });
    let refused = known.iter().flat_map(|realm| &realm.refused);
    Some(LearnedRoutes {
        namespace: from.namespace.clone(),
        tun: from.tun.clone(),
        max_prefixes: from.max_prefixes,
        trouble: match said {
            Some(said) => said.trouble.clone(),
            None => Some("its routing daemon was not looked at yet".to_owned()),
        },
        overflow: said.map_or(0, |said| said.overflow),
        changes: said.map_or(0, |said| said.changes),
        held_until: said.and_then(|said| said.held_until),
        accepted: accepted.collect(),
        refused: refused.map(|one| (one.route.prefix, one.why.to_string())).collect(),
    })
}

/// Those that were not there before.
pub fn log_refused(config: &Config, learned: &[LearnedRealm], before: Option<&Heard>) {
    const MOST: usize = 20;
    for realm in learned {
        let name = &config.realms[realm.realm.0].name;
        let known: HashSet<IpNet> = before
            .and_then(|heard| heard.get(name))
            .map_or_else(HashSet::new, |heard| heard.routes.iter().map(|route| route.prefix).collect());
        let new: Vec<_> = realm.refused.iter().filter(|one| !known.contains(&one.route.prefix)).collect();
        for one in new.iter().take(MOST) {
            tracing::warn!("realm {name}: its daemon's {} is refused: {}", one.route.prefix, one.why);
        }
        if new.len() > MOST {
            tracing::warn!("realm {name}: {} more prefixes are refused; see `ixgate status {name}`", new.len() - MOST);
        }
    }
}

fn port_name(port: &PortConfig, snapshot: &Snapshot) -> PeerName {
    let interface = snapshot.interfaces.get(port.interface.index()).and_then(Option::as_ref);
    let name = interface.map_or_else(String::new, |interface| interface.name.clone());
    match &port.medium {
        Medium::Ethernet(ethernet) => PeerName::Port { interface: name, vlan: ethernet.vlan },
        Medium::Tun => PeerName::Tun { name },
    }
}
