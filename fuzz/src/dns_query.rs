//! A query as a host of any realm sends it, over UDP or TCP, to the zone and to the forwarder; and as a name server sends it
//! to whoever gives out the zone.
//!
//! ```text
//! who | query
//! ```
//!
//! Whatever is answered is an answer to that query and no longer than its asker takes, so nobody is flooded through us; it
//! shows no address that the asker may not have; and the zone alone says the same as the forwarder, which asks it first.

use std::sync::OnceLock;

use hickory_proto::op::{Message, ResponseCode};
use ixgate::dns::forward::{Action, Client};
use ixgate::dns::transfer::{Algorithm, Answer, MAX_QUERY_BYTES, Server, TransferKey, View};
use ixgate::dns::{ForwardLimits, Forwarder, SignatureLimits, Transport};
use ixgate::net::random::Seeded;
use ixgate::net::{RealmId, Timestamp};

use super::dns::{UNIX_SECS, World, world};

pub const LIMITS: ForwardLimits = ForwardLimits {
    pending: 6,
    pending_per_realm: 4,
    pending_per_resolver: 3,
    cache_entries: 8,
    cache_bytes: 4000,
    queries_per_sec_per_host: 100,
    queries_per_sec_per_realm: 1000,
    signatures: SignatureLimits { entries: 8, per_sec_per_realm: 10 },
};

/// Longest message of a transfer: what is enough, one more record, and the TSIG.
const MAX_TRANSFER_BYTES: usize = 16_000 + 1024;

/// How many answers could be given.
pub fn query(bytes: &[u8]) -> usize {
    let Some((who, query)) = bytes.split_first() else { return 0 };
    let world = world();
    let realm = world.realm(who & 7);
    let transport = if who & 8 == 0 { Transport::Udp } else { Transport::Tcp };
    let by_zone = ask_zone(world, realm, transport, query);
    ask_forwarder(world, realm, transport, query, by_zone.as_deref());
    let is_transferred = transfer(world, query);
    usize::from(by_zone.is_some()) + usize::from(is_transferred)
}

fn ask_zone(world: &World, realm: RealmId, transport: Transport, query: &[u8]) -> Option<Vec<u8>> {
    let snapshot = &world.appliance.snapshot;
    let mut out = b"left over from the last answer".to_vec();
    if !snapshot.zone.answer(realm, transport, query, &snapshot.mapping, &snapshot.policy, &mut out) {
        assert!(out.is_empty());
        return None;
    }
    let message = world.check_answer(transport, query, &out);
    world.check_addresses(realm, &message);
    world.check_chain(&message);
    Some(out)
}

fn ask_forwarder(world: &World, realm: RealmId, transport: Transport, query: &[u8], by_zone: Option<&[u8]>) {
    let mut forwarder = Forwarder::new(LIMITS, 1);
    let source = world.appliance.snapshot.service.gateway.canonical;
    let client = Client { realm, source, transport, token: 7u32 };
    let mut random = Seeded(1);
    forwarder.handle_query(world.tables(), client, query, Timestamp::from_secs(1000), &mut random);
    let answer = forwarder.poll_answer();
    assert_eq!(forwarder.poll_answer(), None, "one answer");
    match (answer, forwarder.poll_action()) {
        (Some((7, bytes)), None) if bytes.is_empty() => assert_eq!(by_zone, None),
        (Some((7, bytes)), None) => {
            let message = world.check_answer(transport, query, &bytes);
            world.check_addresses(realm, &message);
            world.check_chain(&message);
            let by_zone = by_zone.expect("there is one");
            let code = Message::from_vec(by_zone).expect("it was read before").metadata.response_code;
            // Transfers and the like are refused by the one, and unknown to the other; reverse names may be a realm's own.
            let is_zones = code == ResponseCode::NoError && message.metadata.response_code != ResponseCode::Refused;
            assert!(!is_zones || bytes == by_zone, "{message}");
        }
        (None, Some(Action::Ask { bytes, .. })) => {
            let asked = Message::from_vec(&bytes).expect("our own question");
            let query = Message::from_vec(query).expect("what is forwarded can be read");
            assert!(asked.queries.len() == 1 && asked.queries[0].query_type() == query.queries[0].query_type());
        }
        other => panic!("{other:?}"),
    }
}

/// The keys are no secret here, but a query that has a right MAC has to be a seed.
pub fn transfer_keys() -> &'static [TransferKey] {
    static KEYS: OnceLock<Vec<TransferKey>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let key = |name, algorithm, view| TransferKey::new(name, algorithm, &[7; 32], view).expect("a name");
        let of_a = View::Realm(world().realm(0));
        vec![
            key("all", Algorithm::HmacSha256, View::Canonical),
            key("of-a", Algorithm::HmacSha384, of_a),
            key("of-b.keys", Algorithm::HmacSha512, View::Realm(world().realm(1))),
        ]
    })
}

/// Whether the zone was given away.
fn transfer(world: &World, query: &[u8]) -> bool {
    let snapshot = &world.appliance.snapshot;
    let server =
        Server { zone: &snapshot.zone, mapping: &snapshot.mapping, policy: &snapshot.policy, keys: transfer_keys() };
    let query = &query[..query.len().min(MAX_QUERY_BYTES)];
    match server.handle_message(query, UNIX_SECS) {
        Answer::Nothing => false,
        Answer::Message { bytes, is_refused } => {
            let message = Message::from_vec(&bytes).expect("an answer can be read");
            assert_eq!(bytes[..2], query[..2], "its id");
            assert!(bytes.len() <= query.len() + 512, "a refusal is short");
            assert_eq!(is_refused, message.metadata.response_code != ResponseCode::NoError);
            assert!(!is_refused || message.answers.is_empty());
            !is_refused
        }
        Answer::Transfer(mut transfer) => {
            let mut records = 0;
            while let Some(bytes) = transfer.poll_message(UNIX_SECS) {
                let bytes = bytes.expect("no zone of ours brings an error about");
                assert!(bytes.len() <= MAX_TRANSFER_BYTES);
                records += Message::from_vec(&bytes).expect("an answer can be read").answers.len();
            }
            assert!(records > 2, "the zone between two SOAs");
            true
        }
    }
}
