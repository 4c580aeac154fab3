//! All records of the zone, as one viewer has them.

use std::iter;

use hickory_proto::rr::rdata::AAAA;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::View;
use crate::dns::resolve::{Asker, Outcome};
use crate::dns::zone::{ADDRESS_TTL_SECS, NodeData, Zone};
use crate::net::Canonical;
use crate::net::mapping::Mapping;
use crate::net::policy::Policy;

/// The SOA record, everything else, and the SOA record again (RFC 5936 section 2.2). In no particular order.
pub(super) fn records<'a>(
    zone: &'a Zone,
    mapping: &'a Mapping,
    policy: &'a Policy,
    view: View,
) -> impl Iterator<Item = Record> + Send + 'a {
    let of_name = move |(name, data): (Name, &'a NodeData)| -> Vec<Record> {
        match view {
            View::Canonical => canonical(&name, data),
            View::Realm(realm) => seen_by(zone, Asker { realm, mapping, policy }, &name),
        }
    };
    let soa = || iter::once_with(|| zone.soa_record());
    soa().chain(iter::once_with(|| zone.ns_record())).chain(zone.names().flat_map(of_name)).chain(soa())
}

/// What the realm is told when it asks, by the same rules.
fn seen_by(zone: &Zone, asker: Asker<'_>, name: &Name) -> Vec<Record> {
    let answers = [RecordType::A, RecordType::AAAA].into_iter().filter_map(|record_type| {
        match zone.resolve(asker, name, record_type) {
            Outcome::Answer(data) => Some(data),
            _ => None,
        }
    });
    answers.flatten().map(|data| Record::from_rdata(name.clone(), ADDRESS_TTL_SECS, data)).collect()
}

fn canonical(name: &Name, data: &NodeData) -> Vec<Record> {
    let addresses: &[Canonical] = match data {
        NodeData::NameServer(address) => std::slice::from_ref(address),
        NodeData::Host(addresses) | NodeData::Service(addresses, _) => addresses,
        NodeData::Apex | NodeData::EmptyNonTerminal => &[],
    };
    let record =
        |address: &Canonical| Record::from_rdata(name.clone(), ADDRESS_TTL_SECS, RData::AAAA(AAAA(address.addr())));
    addresses.iter().map(record).collect()
}
