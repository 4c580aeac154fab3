//! What one asker is told about one name: the rules, without the wire.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::rdata::{A, AAAA, NS, NULL, PTR};
use hickory_proto::rr::{Name, RData, RecordType};
use ipnet::IpNet;

use super::dnssec::SigningKey;
use super::key::NameKey;
use super::reverse;
use super::zone::{Node, NodeData, Zone};
use crate::net::mapping::{Located, Mapping};
use crate::net::policy::{Policy, PortRule};
use crate::net::{Canonical, RealmId};

/// The answer to a question of class IN.
#[derive(PartialEq, Debug)]
pub(super) enum Outcome {
    /// One RRset, owned by the name that was asked for.
    Answer(Vec<RData>),
    /// The name exists and has nothing of this type. The SOA stands at `apex`.
    NoData { apex: Name },
    /// No such name. `denied`: it exists, but no grant lets the asker reach it.
    NameError { apex: Name, denied: bool },
    /// Not our zone, or nothing that we do.
    Refused,
}

/// Who asks, and by which rules: the arguments that every step needs.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) realm: RealmId,
    pub(super) mapping: &'a Mapping,
    pub(super) policy: &'a Policy,
}

impl Zone {
    pub(super) fn resolve(&self, asker: Asker<'_>, name: &Name, record_type: RecordType) -> Outcome {
        if matches!(record_type, RecordType::AXFR | RecordType::IXFR) {
            return Outcome::Refused; // a transfer would show every name to one who may reach a few
        }
        let key = NameKey::new(name);
        if self.contains(&key) {
            return self.resolve_forward(asker, name, &key, record_type);
        }
        match reverse::parse(name) {
            Some(prefix) => self.resolve_reverse(asker, name, prefix, record_type),
            None => Outcome::Refused,
        }
    }

    /// Whether `key` is a name of the internal zone, existing or not.
    pub(super) fn contains(&self, key: &NameKey) -> bool {
        key.is_within(&self.origin_key)
    }

    fn resolve_forward(&self, asker: Asker<'_>, name: &Name, key: &NameKey, record_type: RecordType) -> Outcome {
        // Cut out of the question, so that it has the asker's upper and lower case and compresses.
        let apex = || name.trim_to(self.origin.iter().len());
        let Some(node) = self.node(key) else { return Outcome::NameError { apex: apex(), denied: false } };
        match &node.data {
            NodeData::Apex if record_type == RecordType::DNSKEY && self.key.is_some() => Outcome::Answer(self.dnskey()),
            NodeData::Apex => {
                self.answer_apex(record_type).map_or_else(|| Outcome::NoData { apex: apex() }, Outcome::Answer)
            }
            NodeData::EmptyNonTerminal => Outcome::NoData { apex: apex() },
            NodeData::NameServer(dns) => {
                let located = asker.mapping.locate_canonical(*dns);
                let addresses = located.iter().flat_map(|at| asker.seen(*at)).collect();
                answer_addresses(addresses, record_type, apex)
            }
            NodeData::Host(addresses) => {
                let visible = asker.visible(addresses, |at| asker.reaches(at));
                answer_visible(node, asker, visible, record_type, apex)
            }
            NodeData::Service(addresses, ports) => {
                let visible = asker.visible(addresses, |at| asker.reaches_service(at, ports));
                answer_visible(node, asker, visible, record_type, apex)
            }
        }
    }

    fn answer_apex(&self, record_type: RecordType) -> Option<Vec<RData>> {
        match record_type {
            RecordType::SOA | RecordType::ANY => Some(vec![self.soa.clone()]),
            RecordType::NS => Some(vec![RData::NS(NS(self.name_server.clone()))]),
            _ => None,
        }
    }

    /// Of the forward zone alone: the reverse zones are not signed.
    fn dnskey(&self) -> Vec<RData> {
        let record =
            |key: &Arc<SigningKey>| RData::Unknown { code: RecordType::DNSKEY, rdata: NULL::with(key.dnskey()) };
        self.key.iter().map(record).collect()
    }

    fn resolve_reverse(&self, asker: Asker<'_>, name: &Name, prefix: IpNet, record_type: RecordType) -> Outcome {
        let apex = || reverse::apex(name, prefix);
        let Some(addr) = reverse::address(prefix) else {
            return match self.is_ours(asker.mapping, prefix) {
                false => Outcome::Refused,
                true if reverse::is_apex(prefix) => {
                    self.answer_apex(record_type).map_or_else(|| Outcome::NoData { apex: apex() }, Outcome::Answer)
                }
                true => Outcome::NoData { apex: apex() },
            };
        };
        let own = asker.mapping.locate_native(asker.realm, addr);
        let located = own.or_else(|| asker.mapping.locate_seen_by(asker.realm, addr));
        let Some(at) = located else {
            return match self.is_ours(asker.mapping, prefix) {
                true => Outcome::NameError { apex: apex(), denied: false },
                false => Outcome::Refused,
            };
        };
        match self.hosts_by_address.get(&at.canonical) {
            Some(host) if asker.reaches(at) => match record_type {
                RecordType::PTR | RecordType::ANY => Outcome::Answer(vec![RData::PTR(PTR(host.clone()))]),
                _ => Outcome::NoData { apex: apex() },
            },
            // No reason is told: a walk over all addresses must not show which of them have names.
            Some(_) => Outcome::NameError { apex: apex(), denied: false },
            // The asker's own reverse zone is its own business, and the Internet's is the Internet's.
            None if own.is_some() || asker.mapping.is_by_default(at) => Outcome::Refused,
            None => Outcome::NameError { apex: apex(), denied: false },
        }
    }

    /// Whether a reverse prefix and the addresses that we give out overlap. IPv6 networks outside `space6` are known
    /// by their whole addresses only: their prefixes belong to somebody's public reverse zone.
    fn is_ours(&self, mapping: &Mapping, prefix: IpNet) -> bool {
        match prefix {
            IpNet::V4(net) => self.alias4.iter().any(|pool| pool.contains(&net) || net.contains(pool)),
            IpNet::V6(net) => {
                let space6 = mapping.space6().prefix();
                space6.contains(&net) || net.contains(&space6)
            }
        }
    }
}

impl<'a> Asker<'a> {
    /// *No path, no address.* The IX's own addresses and the asker's own hosts need no grant.
    pub(super) fn reaches(self, at: Located) -> bool {
        at.realm == self.realm || at.realm.is_ix() || self.policy.reaches(self.realm, at.realm, at.canonical)
    }

    fn reaches_service(self, at: Located, ports: &[PortRule]) -> bool {
        at.realm == self.realm || self.policy.reaches_service(self.realm, at.realm, at.canonical, ports)
    }

    fn visible(self, addresses: &'a [Canonical], reaches: impl Fn(Located) -> bool) -> impl Iterator<Item = Located> {
        addresses
            .iter()
            .filter_map(move |address| self.mapping.locate_canonical(*address))
            .filter(move |at| reaches(*at))
    }

    /// The addresses by which the asker's hosts can open a connection: their own if the host is one of theirs; else those
    /// that take no translation between IP versions, and only when there are none the others.
    ///
    /// So an asker that speaks both is led to the host in the host's own version, and translation is for those who have no
    /// other way.
    pub(super) fn addresses_of(self, visible: impl Iterator<Item = Located>) -> Vec<IpAddr> {
        let (mut direct, mut translated) = (Vec::new(), Vec::new());
        for at in visible {
            let native = self.mapping.native_of(at);
            if at.realm == self.realm {
                direct.push(native);
                continue;
            }
            let (same, other): (Vec<IpAddr>, Vec<IpAddr>) =
                self.seen(at).partition(|addr| addr.is_ipv4() == native.is_ipv4());
            direct.extend(same);
            translated.extend(other);
        }
        if direct.is_empty() { translated } else { direct }
    }

    /// Every address by which the asker's realm sees `at`, in the IP versions that it speaks. The IX itself answers at all
    /// of its own.
    fn seen(self, at: Located) -> impl Iterator<Item = IpAddr> {
        let (mapping, realm) = (self.mapping, self.realm);
        let alias = mapping.seen_by4(realm, at).filter(|_| mapping.speaks_ipv4(realm)).map(IpAddr::V4);
        let canonical = mapping.speaks_ipv6(realm).then(|| IpAddr::V6(mapping.seen_by6(at)));
        alias.into_iter().chain(canonical)
    }

    /// Whether any grant leads from the asker into `realm`: then it may ask for the names that `realm` has of its own.
    pub(super) fn reaches_realm(self, realm: RealmId) -> bool {
        realm == self.realm || self.policy.reaches_realm(self.realm, realm)
    }
}

fn answer_visible(
    node: &Node,
    asker: Asker<'_>,
    visible: impl Iterator<Item = Located>,
    record_type: RecordType,
    apex: impl Fn() -> Name,
) -> Outcome {
    let mut visible = visible.peekable();
    if visible.peek().is_some() {
        return answer_addresses(asker.addresses_of(visible), record_type, apex);
    }
    // "No such name" would deny the names below it too (RFC 8020).
    match node.has_children {
        true => Outcome::NoData { apex: apex() },
        false => Outcome::NameError { apex: apex(), denied: true },
    }
}

fn answer_addresses(addresses: Vec<IpAddr>, record_type: RecordType, apex: impl Fn() -> Name) -> Outcome {
    let wants_ipv4 = match record_type {
        RecordType::A => true,
        RecordType::AAAA => false,
        // RFC 8482 section 4.1: ANY is answered with one RRset.
        RecordType::ANY => addresses.iter().any(IpAddr::is_ipv4),
        _ => return Outcome::NoData { apex: apex() },
    };
    let records: Vec<RData> = addresses.into_iter().filter(|a| a.is_ipv4() == wants_ipv4).map(address_record).collect();
    match records.is_empty() {
        true => Outcome::NoData { apex: apex() },
        false => Outcome::Answer(records),
    }
}

fn address_record(addr: IpAddr) -> RData {
    match addr {
        IpAddr::V4(addr) => RData::A(A(addr)),
        IpAddr::V6(addr) => RData::AAAA(AAAA(addr)),
    }
}
