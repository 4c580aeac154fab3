//! Who answers which names, and how well: for `status`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::health::ResolverHealth;
use super::routes::{Routes, Upstream};
use super::{Forwarder, Tables};
use crate::net::mapping::Mapping;
use crate::net::{RealmId, Timestamp};

/// Domains that are asked at the same resolvers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteReport {
    /// `None`: outside all realms.
    pub owner: Option<RealmId>,
    /// Without the trailing dot, sorted; "." for everything.
    pub domains: Vec<String>,
    /// In order of preference.
    pub resolvers: Vec<ResolverReport>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResolverReport {
    /// As its realm knows it.
    pub server: SocketAddr,
    /// Asked by DNS over TLS, and the name that it must prove.
    pub tls: Option<Arc<str>>,
    pub health: ResolverHealth,
}

impl<T: Copy + PartialEq> Forwarder<T> {
    /// By owner; what lies outside comes first.
    pub fn routes(&self, tables: Tables<'_>, now: Timestamp) -> Vec<RouteReport> {
        let mut domains: BTreeMap<(Option<RealmId>, &[Upstream]), Vec<String>> = BTreeMap::new();
        for (domain, owner, resolvers) in tables.routes.iter() {
            domains.entry((owner, resolvers)).or_default().push(domain);
        }
        let report = |((owner, resolvers), mut domains): ((Option<RealmId>, &[Upstream]), Vec<String>)| {
            domains.sort_unstable();
            let resolvers = resolvers.iter().filter_map(|resolver| {
                let (server, tls) = written(resolver, tables.mapping)?;
                Some(ResolverReport { server, tls, health: self.health.of(resolver, now) })
            });
            RouteReport { owner, domains, resolvers: resolvers.collect() }
        };
        domains.into_iter().map(report).collect()
    }

    /// Answers that are remembered for a realm's hosts.
    pub fn cached_of(&self, realm: RealmId) -> usize {
        self.cache.len_of(realm)
    }
}

/// As it stands in the configuration.
fn written(resolver: &Upstream, mapping: &Mapping) -> Option<(SocketAddr, Option<Arc<str>>)> {
    match resolver {
        Upstream::Realm { address, port, .. } => {
            let native = mapping.native_of(mapping.locate_canonical(*address)?);
            Some((SocketAddr::new(native, *port), None))
        }
        Upstream::Outside { server, tls } => Some((*server, tls.clone())),
    }
}

impl Routes {
    /// Every domain, whose it is and who is asked for it, in no particular order.
    fn iter(&self) -> impl Iterator<Item = (String, Option<RealmId>, &[Upstream])> {
        let all = self.by_domain.iter().chain(self.reverse.values().flatten());
        all.map(|(key, route)| {
            let name = crate::dns::key::name_of(key).map(|name| name.to_ascii()).unwrap_or_default();
            let domain = match name.trim_end_matches('.') {
                "" => ".",
                name => name,
            };
            (domain.to_owned(), route.owner, &*route.resolvers)
        })
    }
}
