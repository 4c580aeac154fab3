//! Who is asked for which names, from the configuration.

use std::net::SocketAddr;

use super::compile::Compiled;
use super::snapshot::SnapshotError;
use crate::config::model::{Config, Realm};
use crate::dns::{RouteSpec, Upstream};
use crate::net::RealmId;

/// Realms first: where a realm and the outside both had a domain, it would be the realm's.
pub(super) fn route_specs(config: &Config, compiled: &Compiled) -> Result<Vec<RouteSpec>, SnapshotError> {
    let mut specs = Vec::new();
    for (realm, id) in config.realms.iter().zip(&compiled.realm_ids) {
        let Some(dns) = &realm.dns else { continue };
        let resolvers = dns.resolvers.iter().map(|server| in_realm(*server, realm, *id, compiled));
        let resolvers: Vec<Upstream> = resolvers.collect::<Result<_, _>>()?;
        let spec =
            |domain: &String| RouteSpec { domain: domain.clone(), owner: Some(*id), resolvers: resolvers.clone() };
        specs.extend(dns.domains.iter().map(spec));
    }
    specs.extend(config.dns_forwards.iter().map(|forward| {
        RouteSpec {
            domain: forward.domain.clone(),
            owner: None,
            resolvers: forward
                .resolvers
                .iter()
                .map(|r| Upstream::Outside { server: r.server, tls: r.tls.as_deref().map(Into::into) })
                .collect(),
        }
    }));
    Ok(specs)
}

fn in_realm(server: SocketAddr, realm: &Realm, id: RealmId, compiled: &Compiled) -> Result<Upstream, SnapshotError> {
    let located = compiled.mapping.locate_native(id, server.ip());
    let outside = || SnapshotError::ResolverOutsideRealm { realm: realm.name.clone(), address: server.ip() };
    let at = located.ok_or_else(outside)?;
    Ok(Upstream::Realm { realm: id, address: at.canonical, port: server.port() })
}
