//! The names of five realms with one prefix, and what is checked of every answer that one of them gets.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::OnceLock;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamValue};
use hickory_proto::rr::{Name, RData, Record};
use ixgate::dns::{Tables, Transport};
use ixgate::net::RealmId;
use ixgate::sim::appliance::Appliance;

/// A and B have resolvers, and B's are for everybody who may reach something there. C may reach nothing. FOUR speaks IPv4
/// only, SIX IPv6 only.
const NAMES: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[[realm]]
name = "a"
networks = ["192.168.1.0/24", "2001:db8:a::/64"]
dns = { domains = ["a.local", "168.192.in-addr.arpa"], resolvers = ["192.168.1.53"] }
[[realm]]
name = "b"
networks = ["192.168.1.0/24", { prefix = "fd00:6::/64", canonical = "fd00:66::/64" }]
dns = { domains = ["b.local", "1.168.192.in-addr.arpa"], resolvers = ["192.168.1.53", "192.168.1.54:5353"] }
[[realm]]
name = "c"
networks = ["192.168.1.0/24"]
[[realm]]
name = "four"
networks = ["192.168.1.0/24"]
[[realm]]
name = "six"
networks = [{ prefix = "fd00:6::/64", canonical = "fd00:67::/64" }]
[[dns_forward]]
domain = "example.org"
resolvers = ["9.9.9.9", "tls:dns.quad9.net@9.9.9.9"]
[[host]]
name = "pacs"
realm = "b"
address = "192.168.1.20"
[[host]]
name = "ws"
realm = "a"
address = "192.168.1.10"
[[service]]
name = "pacs"
host = "pacs.b"
ports = ["tcp/443"]
[[grant]]
from = ["a"]
to = ["realm:b"]
ports = ["tcp/443"]
[[grant]]
from = ["b"]
to = ["realm:a"]
ports = ["any"]
[[grant]]
from = ["four", "six"]
to = ["pacs"]
"#;

pub const REALMS: [&str; 5] = ["a", "b", "c", "four", "six"];
/// 2026-07-01.
pub const UNIX_SECS: u64 = 1_782_864_000;

pub struct World {
    pub appliance: Appliance,
    pub realms: [RealmId; REALMS.len()],
}

/// Compiled once.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let appliance = Appliance::build(NAMES);
        World { realms: REALMS.map(|name| appliance.realm(name)), appliance }
    })
}

impl World {
    pub fn tables(&self) -> Tables<'_> {
        let snapshot = &self.appliance.snapshot;
        Tables {
            zone: &snapshot.zone,
            routes: &snapshot.routes,
            mapping: &snapshot.mapping,
            policy: &snapshot.policy,
            unix_secs: UNIX_SECS,
        }
    }

    pub fn realm(&self, which: u8) -> RealmId {
        self.realms[usize::from(which) % REALMS.len()]
    }

    /// What every answer is: one to this query, no longer than its asker takes, and readable.
    pub fn check_answer(&self, transport: Transport, query: &[u8], answer: &[u8]) -> Message {
        let message = Message::from_vec(answer).expect("an answer can be read");
        assert_eq!(answer[..2], query[..2], "its id");
        assert_eq!(message.metadata.message_type, MessageType::Response);
        let read = Message::from_vec(query);
        let asked_edns = read.as_ref().ok().and_then(|query| query.edns.as_ref());
        let most = match (transport, asked_edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, Some(edns)) => edns.max_payload().clamp(512, 1232),
            // What we cannot read says nothing of how much it takes.
            (Transport::Udp, None) => 512,
        };
        assert!(answer.len() <= most.into(), "{} bytes of {most}", answer.len());
        assert!(transport == Transport::Udp || !message.metadata.truncation, "TC over TCP");
        assert!(asked_edns.is_some() || read.is_err() || message.edns.is_none(), "EDNS is answered with EDNS");
        if message.metadata.truncation {
            assert!(message.answers.is_empty() && message.authorities.is_empty(), "TC and nothing else");
        }
        match (&read, &message.queries[..]) {
            (_, []) => {
                let code = message.metadata.response_code;
                assert!(
                    matches!(code, ResponseCode::FormErr | ResponseCode::NotImp | ResponseCode::ServFail),
                    "{code}"
                );
                assert!(message.answers.is_empty());
            }
            (Ok(query), [question]) => {
                let asked = &query.queries[0];
                assert_eq!((question.query_type(), question.query_class()), (asked.query_type(), asked.query_class()));
                assert!(question.name().eq_case(asked.name()), "{} for {}", question.name(), asked.name());
            }
            (Err(_), [_]) => {}
            (_, questions) => panic!("{} questions", questions.len()),
        }
        message
    }

    /// Every address in it is one that the asker may know.
    pub fn check_addresses(&self, asker: RealmId, message: &Message) {
        for addr in addresses(message) {
            assert!(self.is_lawful(asker, addr), "{addr} for realm {asker}: {message}");
        }
    }

    /// Every record answers the name that was asked for, or one that it is an alias of.
    pub fn check_chain(&self, message: &Message) {
        let Some(question) = message.queries.first() else { return };
        let mut known: HashSet<Name> = HashSet::from([question.name().to_lowercase()]);
        for record in &message.answers {
            assert!(known.contains(&record.name.to_lowercase()), "{} in an answer: {message}", record.name);
            if let RData::CNAME(target) = &record.data {
                known.insert(target.0.to_lowercase());
            }
        }
    }

    fn is_lawful(&self, asker: RealmId, addr: IpAddr) -> bool {
        let (mapping, policy) = (&self.appliance.snapshot.mapping, &self.appliance.snapshot.policy);
        let seen = mapping.locate_native(asker, addr).or_else(|| mapping.locate_seen_by(asker, addr));
        match seen {
            Some(at) => at.realm == asker || at.realm.is_ix() || policy.reaches(asker, at.realm, at.canonical),
            None => is_public(addr),
        }
    }
}

/// Nobody's inside: out of an outside resolver's mouth.
fn is_public(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => {
            let [first, second, ..] = addr.octets();
            let is_shared = first == 100 && second & 0xc0 == 64;
            !(addr.is_private() || addr.is_loopback() || addr.is_link_local() || addr.is_multicast() || is_shared)
        }
        IpAddr::V6(addr) => {
            let first = addr.segments()[0];
            let is_inside = first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80 || first >> 8 == 0xff;
            let embedded = addr.to_ipv4_mapped().is_none_or(|addr| is_public(addr.into()));
            !is_inside && !addr.is_loopback() && !addr.is_unspecified() && embedded
        }
    }
}

/// Every address that a message shows.
fn addresses(message: &Message) -> Vec<IpAddr> {
    let of_hints = |svcb: &SVCB| -> Vec<IpAddr> {
        let of = |value: &SvcParamValue| match value {
            SvcParamValue::Ipv4Hint(hint) => hint.0.iter().map(|a| a.0.into()).collect(),
            SvcParamValue::Ipv6Hint(hint) => hint.0.iter().map(|a| a.0.into()).collect(),
            _ => Vec::new(),
        };
        svcb.svc_params.iter().flat_map(|(_, value)| of(value)).collect()
    };
    let of = |record: &Record| match &record.data {
        RData::A(a) => vec![a.0.into()],
        RData::AAAA(a) => vec![a.0.into()],
        RData::HTTPS(https) => of_hints(&https.0),
        RData::SVCB(svcb) => of_hints(svcb),
        _ => Vec::new(),
    };
    message.all_sections().flat_map(of).collect()
}
