//! What the zone holds: names with canonical addresses, compiled from a [`ZoneSpec`] into one hash table.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use hickory_proto::rr::rdata::{NS, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::Ipv4Net;

use super::dnssec::SigningKey;
use super::key::{self, NameKey};
use crate::net::policy::PortRule;
use crate::net::{Canonical, RealmId};

/// Addresses may change with the next applied configuration, and then the old one leads nowhere: a minute is short
/// enough to wait for and long enough that a busy client asks once per minute instead of once per connection.
pub(super) const ADDRESS_TTL_SECS: u32 = 60;
/// How long "no such name" is remembered (RFC 2308): somebody waits for a grant that was just made.
pub(super) const NEGATIVE_TTL_SECS: u32 = 30;

/// The key changes rarely, and a validator that has it need not ask again for every answer.
const KEY_TTL_SECS: u32 = 3600;

/// What the records of a type are signed with (RFC 4034 section 3.1.4): the longest that they may be kept.
pub(super) fn original_ttl_secs(record_type: RecordType) -> u32 {
    match record_type {
        RecordType::DNSKEY => KEY_TTL_SECS,
        RecordType::NSEC => NEGATIVE_TTL_SECS,
        _ => ADDRESS_TTL_SECS,
    }
}

/// The label of the name server, which no service may have.
const NAME_SERVER_LABEL: &str = "ns";

/// What a zone is made from. Names are single labels except `domain`.
#[derive(Clone, Debug)]
pub struct ZoneSpec {
    /// Without the trailing dot.
    pub domain: String,
    /// Of the SOA record: the generation of the configuration.
    pub serial: u32,
    /// The IX's DNS service address.
    pub dns: Canonical,
    /// Where aliases come from. Addresses in it that nobody has (yet) are NXDOMAIN instead of REFUSED.
    pub alias4: Vec<Ipv4Net>,
    pub realms: Vec<(RealmId, String)>,
    pub hosts: Vec<HostName>,
    pub services: Vec<ServiceName>,
    /// Signs the zone. `None`: it is not signed.
    pub key: Option<Arc<SigningKey>>,
}

/// `NAME.REALM.DOMAIN`.
#[derive(Clone, Debug)]
pub struct HostName {
    pub name: String,
    pub realm: RealmId,
    pub addresses: Vec<Canonical>,
}

/// `NAME.DOMAIN`: the addresses of the host that offers the service.
#[derive(Clone, Debug)]
pub struct ServiceName {
    pub name: String,
    /// The host's.
    pub realm: RealmId,
    pub addresses: Vec<Canonical>,
    pub ports: Vec<PortRule>,
}

/// Why a zone cannot be made. `check` refuses such a configuration earlier, with the place in the file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ZoneError {
    #[error("`{name}` is no valid domain name ({why}); use letters, digits and hyphens, at most 63 in a label")]
    InvalidName { name: String, why: String },
    #[error("`{name}` stands for two things; rename one of the hosts or services")]
    Duplicate { name: String },
    #[error("`{name}` is the name of the IX's own name server; rename the service")]
    Reserved { name: String },
    #[error("`{name}` belongs to realm {realm}, which has no name")]
    UnknownRealm { name: String, realm: RealmId },
}

/// The compiled zone. Immutable; one per generation.
#[derive(Debug)]
pub struct Zone {
    pub(super) origin: Name,
    pub(super) origin_key: Box<[u8]>,
    pub(super) name_server: Name,
    pub(super) soa: RData,
    pub(super) alias4: Vec<Ipv4Net>,
    nodes: HashMap<Box<[u8]>, Node>,
    /// For reverse names. Of two hosts with one address the first in the file.
    pub(super) hosts_by_address: HashMap<Canonical, Name>,
    realm_names: HashMap<RealmId, String>,
    pub(super) key: Option<Arc<SigningKey>>,
}

/// What one name of the zone stands for, and whether there are names below it.
#[derive(Default, Debug)]
pub(super) struct Node {
    pub(super) data: NodeData,
    pub(super) has_children: bool,
}

#[derive(Default, Debug)]
pub(super) enum NodeData {
    /// The zone's own name.
    Apex,
    NameServer(Canonical),
    Host(Box<[Canonical]>),
    Service(Box<[Canonical]>, Box<[PortRule]>),
    /// A name that exists only because others lie below it (RFC 8020).
    #[default]
    EmptyNonTerminal,
}

impl Zone {
    pub fn new(spec: ZoneSpec) -> Result<Zone, ZoneError> {
        let origin = parse_name(&format!("{}.", spec.domain))?;
        let name_server = child(&origin, NAME_SERVER_LABEL)?;
        let mut zone = Zone {
            origin_key: NameKey::new(&origin).as_bytes().into(),
            soa: soa(&origin, &name_server, spec.serial)?,
            name_server,
            origin,
            alias4: spec.alias4,
            nodes: HashMap::new(),
            hosts_by_address: HashMap::new(),
            realm_names: spec.realms.into_iter().collect(),
            key: spec.key,
        };
        zone.nodes.insert(zone.origin_key.clone(), Node { data: NodeData::Apex, has_children: true });
        zone.insert(zone.name_server.clone(), NodeData::NameServer(spec.dns))?;
        zone.hosts_by_address.insert(spec.dns, zone.name_server.clone());
        zone.add_realms()?;
        for host in spec.hosts {
            zone.add_host(host)?;
        }
        for service in spec.services {
            zone.add_service(service)?;
        }
        Ok(zone)
    }

    pub(super) fn node(&self, key: &NameKey) -> Option<&Node> {
        self.nodes.get(key.as_bytes())
    }

    /// Of the forward zone, at its own name.
    pub(super) fn soa_record(&self) -> Record {
        Record::from_rdata(self.origin.clone(), ADDRESS_TTL_SECS, self.soa.clone())
    }

    pub(super) fn ns_record(&self) -> Record {
        Record::from_rdata(self.origin.clone(), ADDRESS_TTL_SECS, RData::NS(NS(self.name_server.clone())))
    }

    /// For the serial to grow over restarts, which [`ZoneSpec::serial`] alone may not.
    pub fn set_serial(&mut self, serial: u32) {
        if let RData::SOA(soa) = &mut self.soa {
            soa.serial = serial;
        }
    }

    pub(super) fn serial(&self) -> u32 {
        match &self.soa {
            RData::SOA(soa) => soa.serial,
            _ => 0,
        }
    }

    /// Every name and what it stands for, in no particular order.
    pub(super) fn names(&self) -> impl Iterator<Item = (Name, &NodeData)> {
        self.nodes.iter().filter_map(|(key, node)| Some((key::name_of(key)?, &node.data)))
    }

    /// For people; every realm that can ask has a name.
    pub(super) fn realm_name(&self, realm: RealmId) -> &str {
        self.realm_names.get(&realm).map_or("(unknown)", String::as_str)
    }

    /// A realm's name exists even while it has no host.
    fn add_realms(&mut self) -> Result<(), ZoneError> {
        for name in self.realm_names.values() {
            let name = child(&self.origin, name)?;
            self.nodes.entry(NameKey::new(&name).as_bytes().into()).or_default().has_children = true;
        }
        Ok(())
    }

    fn add_host(&mut self, host: HostName) -> Result<(), ZoneError> {
        let Some(realm) = self.realm_names.get(&host.realm) else {
            return Err(ZoneError::UnknownRealm { name: host.name, realm: host.realm });
        };
        let name = child(&child(&self.origin, realm)?, &host.name)?;
        for address in &host.addresses {
            self.hosts_by_address.entry(*address).or_insert_with(|| name.clone());
        }
        self.insert(name, NodeData::Host(host.addresses.into()))
    }

    fn add_service(&mut self, service: ServiceName) -> Result<(), ZoneError> {
        if service.name.eq_ignore_ascii_case(NAME_SERVER_LABEL) {
            return Err(ZoneError::Reserved { name: service.name });
        }
        if !self.realm_names.contains_key(&service.realm) {
            return Err(ZoneError::UnknownRealm { name: service.name, realm: service.realm });
        }
        let name = child(&self.origin, &service.name)?;
        self.insert(name, NodeData::Service(service.addresses.into(), service.ports.into()))
    }

    fn insert(&mut self, name: Name, data: NodeData) -> Result<(), ZoneError> {
        match self.nodes.entry(NameKey::new(&name).as_bytes().into()) {
            Entry::Occupied(node) if !matches!(node.get().data, NodeData::EmptyNonTerminal) => {
                return Err(ZoneError::Duplicate { name: name.to_string() });
            }
            // A service may have the name of a realm: then it has both addresses and names below it.
            Entry::Occupied(mut node) => node.get_mut().data = data,
            Entry::Vacant(place) => {
                place.insert(Node { data, has_children: false });
            }
        }
        Ok(())
    }
}

fn soa(origin: &Name, name_server: &Name, serial: u32) -> Result<RData, ZoneError> {
    let mailbox = child(origin, "hostmaster")?;
    // Refresh, retry and expire, for the operators' name servers: they look every hour, and give up after a day.
    Ok(RData::SOA(SOA::new(name_server.clone(), mailbox, serial, 3600, 600, 86_400, NEGATIVE_TTL_SECS)))
}

pub(super) fn parse_name(text: &str) -> Result<Name, ZoneError> {
    Name::from_ascii(text).map_err(|e| ZoneError::InvalidName { name: text.to_owned(), why: e.to_string() })
}

fn child(parent: &Name, label: &str) -> Result<Name, ZoneError> {
    let invalid = |why: String| ZoneError::InvalidName { name: label.to_owned(), why };
    if label.is_empty() || label.contains('.') {
        return Err(invalid("not one label".to_owned()));
    }
    parent.prepend_label(label).map_err(|e| invalid(e.to_string()))
}

/// Part of the snapshot that all workers read.
const _: fn() = || {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Zone>();
};
