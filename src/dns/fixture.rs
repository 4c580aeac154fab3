//! What the tests of this room share: a world of three realms with one prefix, and a client's side of the wire.

use std::net::{IpAddr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, RecordType};
use ipnet::Ipv4Net;

use super::*;
use crate::net::mapping::{AliasOverride, Mapping, Network};
use crate::net::policy::{Grant, Policy, PortRule, Target};
use crate::net::{Canonical, NetworkId, RealmId, Space6};

pub(super) const A: RealmId = RealmId(1);
pub(super) const B: RealmId = RealmId(2);
/// Sees A by an alias of its own, has no grant.
pub(super) const C: RealmId = RealmId(3);
/// Speaks IPv4 only; may reach B's `pacs` and `six`.
pub(super) const FOUR: RealmId = RealmId(4);
/// The same, and speaks IPv6 only.
pub(super) const SIX: RealmId = RealmId(5);

pub(super) struct World {
    pub(super) zone: Zone,
    pub(super) mapping: Mapping,
    pub(super) policy: Policy,
}

pub(super) fn space() -> Space6 {
    Space6::new("fd69:7867:6174::/48".parse().unwrap()).unwrap()
}

pub(super) fn network4(realm: RealmId, native: &str, alias: Option<&str>) -> Network {
    let native: Ipv4Net = native.parse().unwrap();
    let alias = alias.map(|a| a.parse().unwrap());
    Network { realm, native: native.into(), canonical: space().embed_net(realm, native), alias }
}

pub(super) fn canonical4(realm: RealmId, addr: &str) -> Canonical {
    space().embed(realm, addr.parse().unwrap())
}

pub(super) fn canonical6(addr: &str) -> Canonical {
    addr.parse::<Ipv6Addr>().unwrap().into()
}

fn host(name: &str, realm: RealmId, addresses: &[Canonical]) -> HostName {
    HostName { name: name.into(), realm, addresses: addresses.into() }
}

/// A, B and C are all 192.168.1.0/24; A and B have IPv6 too. A may open tcp/443 on B's `pacs`, B anything in A.
pub(super) fn spec() -> ZoneSpec {
    let pacs = [canonical4(B, "192.168.1.20"), canonical6("2001:db8:b::20")];
    ZoneSpec {
        domain: "ix.example".into(),
        serial: 7,
        dns: canonical4(RealmId::IX, "192.0.2.1"),
        alias4: vec!["100.64.0.0/10".parse().unwrap()],
        realms: [(A, "a"), (B, "b"), (C, "c"), (FOUR, "four"), (SIX, "six")].map(|(id, name)| (id, name.into())).into(),
        hosts: vec![
            host("ws", A, &[canonical4(A, "192.168.1.10")]),
            host("pacs", B, &pacs),
            host("six", B, &[canonical6("2001:db8:b::66")]),
            host("ws", C, &[canonical4(C, "192.168.1.10")]),
            host("four", B, &[canonical4(B, "192.168.1.44")]),
        ],
        key: None,
        services: vec![
            ServiceName {
                name: "pacs".into(),
                realm: B,
                addresses: pacs.into(),
                ports: vec![PortRule::Tcp(443..=443)],
            },
            ServiceName {
                name: "dicom".into(),
                realm: B,
                addresses: pacs.into(),
                ports: vec![PortRule::Tcp(104..=104)],
            },
        ],
    }
}

/// The world's, and further ones.
pub(super) fn mapping(further: &[Network]) -> Mapping {
    let mut networks = vec![
        network4(RealmId::IX, "192.0.2.0/28", Some("100.127.255.0/28")),
        network4(A, "192.168.1.0/24", Some("100.64.1.0/24")),
        network4(B, "192.168.1.0/24", Some("100.64.2.0/24")),
        network4(C, "192.168.1.0/24", Some("100.64.3.0/24")),
        network4(C, "100.64.1.0/24", Some("100.64.4.0/24")),
        Network {
            realm: A,
            native: "fd00:1::/64".parse().unwrap(),
            canonical: "2001:db8:a::/64".parse().unwrap(),
            alias: None,
        },
        Network {
            realm: B,
            native: "fd00:1::/64".parse().unwrap(),
            canonical: "2001:db8:b::/64".parse().unwrap(),
            alias: None,
        },
        Network {
            realm: B,
            native: "fd00:1::66/128".parse().unwrap(),
            canonical: "2001:db8:b::66/128".parse().unwrap(),
            alias: Some("100.64.5.66/32".parse().unwrap()),
        },
        network4(FOUR, "10.4.0.0/16", Some("100.65.0.0/16")),
        Network {
            realm: SIX,
            native: "fd00:6::/64".parse().unwrap(),
            canonical: "fd00:6::/64".parse().unwrap(),
            alias: None,
        },
    ];
    let overrides = [AliasOverride { viewer: C, network: NetworkId(1), alias: "100.64.9.0/24".parse().unwrap() }];
    networks.extend_from_slice(further);
    Mapping::new(space(), networks, &overrides)
}

pub(super) fn world() -> World {
    let pacs = Target::Host(vec![canonical4(B, "192.168.1.20"), canonical6("2001:db8:b::20")]);
    let six = Target::Host(vec![canonical6("2001:db8:b::66"), canonical4(B, "192.168.1.44")]);
    let any = |from, target| Grant { from, to: B, target, rules: vec![PortRule::Any] };
    let policy = Policy::new([
        any(FOUR, pacs.clone()),
        any(FOUR, six.clone()),
        any(SIX, pacs.clone()),
        any(SIX, six),
        Grant { from: A, to: B, target: pacs, rules: vec![PortRule::Tcp(443..=443)] },
        Grant { from: B, to: A, target: Target::Realm, rules: vec![PortRule::Any] },
    ]);
    World { zone: Zone::new(spec()).unwrap(), mapping: mapping(&[]), policy }
}

/// A query as a stub resolver sends it.
pub(super) fn query(name: &str, record_type: RecordType, edns: bool) -> Message {
    query_of(Name::from_ascii(name).unwrap(), record_type, edns)
}

pub(super) fn query_of(name: Name, record_type: RecordType, edns: bool) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, record_type));
    if edns {
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        message.set_edns(edns);
    }
    message
}

impl World {
    /// The bytes of the answer. Every answer that any test gets goes through here, so every one must parse.
    pub(super) fn exchange(&self, asker: RealmId, transport: Transport, query: &[u8]) -> Option<(Message, Vec<u8>)> {
        let mut out = b"left over from the last answer".to_vec();
        if !self.zone.answer(asker, transport, query, &self.mapping, &self.policy, &mut out) {
            return None;
        }
        Some((Message::from_vec(&out).expect("an answer parses"), out))
    }

    pub(super) fn ask(&self, asker: RealmId, query: &Message) -> Message {
        self.exchange(asker, Transport::Udp, &query.to_vec().unwrap()).expect("an answer is due").0
    }

    pub(super) fn lookup(&self, asker: RealmId, name: &str, record_type: RecordType) -> Message {
        self.ask(asker, &query(name, record_type, true))
    }

    /// Addresses in text, for tables of cases.
    pub(super) fn addresses(&self, asker: RealmId, name: &str, record_type: RecordType) -> Vec<String> {
        addresses(&self.lookup(asker, name, record_type)).iter().map(IpAddr::to_string).collect()
    }
}

pub(super) fn addresses(message: &Message) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(a) => Some(IpAddr::V6(a.0)),
        _ => None,
    };
    message.all_sections().filter_map(|record| address(&record.data)).collect()
}

/// Code and text of the Extended DNS Error.
pub(super) fn extended_error(message: &Message) -> Option<(u16, String)> {
    match message.edns.as_ref()?.option(EdnsCode::from(15))? {
        EdnsOption::Unknown(15, data) => {
            let (code, text) = data.split_first_chunk()?;
            Some((u16::from_be_bytes(*code), String::from_utf8(text.to_vec()).unwrap()))
        }
        _ => None,
    }
}
