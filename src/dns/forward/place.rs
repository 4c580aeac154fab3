//! Where a name is answered, for one asker.

use std::sync::Arc;

use hickory_proto::rr::rdata::HINFO;
use hickory_proto::rr::{Name, RData, RecordType};

use super::Tables;
use super::routes::Route;
use crate::dns::key::NameKey;
use crate::dns::resolve::Outcome;
use crate::dns::reverse;
use crate::net::RealmId;
use crate::net::special_purpose::refusal_of_all;

pub(super) enum Place {
    /// Here.
    Zone(Outcome),
    /// Here, with as little as possible.
    Minimal(RData),
    /// In a realm that the asker has no grant towards.
    Denied,
    Route {
        route: Arc<Route>,
        /// The name as its owner knows it, when that is not the asker's: reverse names of aliases.
        native: Option<Name>,
    },
}

pub(super) fn find(tables: Tables<'_>, realm: RealmId, name: &Name, record_type: RecordType) -> Place {
    if is_meta(record_type) {
        return Place::Zone(Outcome::Refused);
    }
    let asker = tables.asker(realm);
    match tables.zone.resolve(asker, name, record_type) {
        Outcome::Refused => {}
        Outcome::NameError { apex, denied: false } => {
            return match find_alias(tables, realm, name) {
                Some(place) if record_type == RecordType::PTR => place,
                Some(_) => Place::Zone(Outcome::NoData { apex }),
                None => Place::Zone(Outcome::NameError { apex, denied: false }),
            };
        }
        outcome => return Place::Zone(outcome),
    }
    let Some(route) = tables.routes.find(realm, &NameKey::new(name)) else { return Place::Zone(Outcome::Refused) };
    match route.owner {
        Some(owner) if !asker.reaches_realm(owner) => Place::Denied,
        // RFC 6303: private reverse names are nobody's business outside, unless the file says so.
        None if !route.is_reverse && is_private(name) => Place::Zone(Outcome::Refused),
        // RFC 8482 section 4.2: what asks for everything is answered with little.
        _ if record_type == RecordType::ANY => {
            Place::Minimal(RData::HINFO(HINFO::new("RFC8482".into(), String::new())))
        }
        _ => Place::Route { route: route.clone(), native: None },
    }
}

/// The reverse name of somebody whom the asker sees under an alias, and may reach: its realm knows the name.
fn find_alias(tables: Tables<'_>, realm: RealmId, name: &Name) -> Option<Place> {
    let addr = reverse::address(reverse::parse(name)?)?;
    let at = tables.mapping.locate_seen_by(realm, addr)?;
    if at.realm.is_ix() || at.realm == realm || !tables.asker(realm).reaches(at) {
        return None;
    }
    let native = Name::from(tables.mapping.native_of(at));
    let route = tables.routes.find_reverse(at.realm, &NameKey::new(&native))?;
    Some(Place::Route { route: route.clone(), native: Some(native) })
}

/// Transfers and what is no data at all (RFC 6895 section 3.1). ANY is dealt with apart.
fn is_meta(record_type: RecordType) -> bool {
    matches!(u16::from(record_type), 0 | 41 | 128..=254)
}

/// Also what is below a reverse name: `lb._dns-sd._udp.0.1.168.192.in-addr.arpa` (RFC 6763 section 11) tells as much.
fn is_private(name: &Name) -> bool {
    let above = (0..=usize::from(name.num_labels())).rev().map(|labels| name.trim_to(labels));
    let net = above.filter_map(|name| reverse::parse(&name)).next();
    net.is_some_and(|net| refusal_of_all(net).is_some())
}
