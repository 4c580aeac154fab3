//! Which resolvers are asked for which names.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::rr::Name;

use crate::dns::key::NameKey;
use crate::dns::zone::{ZoneError, parse_name};
use crate::net::{Canonical, RealmId};

/// Somebody who is asked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Upstream {
    /// A realm's resolver, reached through the realm's tunnel.
    Realm { realm: RealmId, address: Canonical, port: u16 },
    /// Reached over the appliance's own uplink. `tls`: by DNS over TLS (RFC 7858), and the name that it must prove.
    Outside { server: SocketAddr, tls: Option<Arc<str>> },
}

/// One domain and who is asked for it.
#[derive(Clone, Debug)]
pub struct RouteSpec {
    /// Without the trailing dot; empty or "." for everything.
    pub domain: String,
    /// `None`: outside all realms.
    pub owner: Option<RealmId>,
    /// In order of preference.
    pub resolvers: Vec<Upstream>,
}

#[derive(PartialEq, Eq, Debug)]
pub(super) struct Route {
    /// Its domain lies below `in-addr.arpa` or `ip6.arpa`.
    pub(super) is_reverse: bool,
    pub(super) owner: Option<RealmId>,
    pub(super) resolvers: Box<[Upstream]>,
}

/// Every route. Immutable; one per generation. A name's route is that of the longest domain that it lies in.
///
/// A realm's reverse domains are its own: fifty realms may all have `1.168.192.in-addr.arpa`. So they are found by realm
/// and name, and another realm gets there by the aliases in its own view only.
#[derive(Default, Debug)]
pub struct Routes {
    pub(super) by_domain: HashMap<Box<[u8]>, Arc<Route>>,
    pub(super) reverse: HashMap<RealmId, HashMap<Box<[u8]>, Arc<Route>>>,
}

impl Routes {
    /// Of two routes for one domain the first stays; `check` refuses such a configuration.
    pub fn new(specs: impl IntoIterator<Item = RouteSpec>) -> Result<Routes, ZoneError> {
        let mut routes = Routes::default();
        for spec in specs {
            let domain = parse_name(&format!("{}.", spec.domain.trim_end_matches('.')))?;
            let key = NameKey::new(&domain).as_bytes().into();
            let route = Arc::new(Route {
                is_reverse: is_reverse(&domain),
                owner: spec.owner,
                resolvers: spec.resolvers.into(),
            });
            let table = match spec.owner {
                Some(owner) if is_reverse(&domain) => routes.reverse.entry(owner).or_default(),
                _ => &mut routes.by_domain,
            };
            table.entry(key).or_insert(route);
        }
        Ok(routes)
    }

    pub fn is_empty(&self) -> bool {
        self.by_domain.is_empty() && self.reverse.is_empty()
    }

    pub(super) fn has_resolver(&self, resolver: &Upstream) -> bool {
        let all = self.by_domain.values().chain(self.reverse.values().flat_map(HashMap::values));
        all.flat_map(|route| &route.resolvers).any(|known| known == resolver)
    }

    /// Who is asked when a host of `asker` asks for this name.
    pub(super) fn find(&self, asker: RealmId, key: &NameKey) -> Option<&Arc<Route>> {
        let own = self.reverse.get(&asker);
        key.suffixes().find_map(|domain| own.and_then(|own| own.get(domain)).or_else(|| self.by_domain.get(domain)))
    }

    /// Who is asked for a native reverse name of `owner`.
    pub(super) fn find_reverse(&self, owner: RealmId, key: &NameKey) -> Option<&Arc<Route>> {
        let own = self.reverse.get(&owner)?;
        key.suffixes().find_map(|domain| own.get(domain))
    }
}

impl Route {
    /// Whether this host is one of the resolvers: asking it what it asks us would go in a circle.
    pub(super) fn is_asked_at(&self, host: Canonical) -> bool {
        self.resolvers.iter().any(|resolver| matches!(resolver, Upstream::Realm { address, .. } if *address == host))
    }
}

fn is_reverse(domain: &Name) -> bool {
    let mut labels = domain.iter().rev();
    let is = |label: Option<&[u8]>, word: &[u8]| label.is_some_and(|label| label.eq_ignore_ascii_case(word));
    is(labels.next(), b"arpa") && {
        let family = labels.next();
        is(family, b"in-addr") || is(family, b"ip6")
    }
}
