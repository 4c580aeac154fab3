use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::nat::flow::Asker;
use crate::net::Canonical;
use crate::net::policy::protocol;

mod knock;
mod pass;
mod tcp;

const A: RealmId = RealmId(1);
const B: RealmId = RealmId(2);
const G1: Generation = Generation(1);
const UDP_SECS: u32 = 300;

fn side(realm: RealmId, port: u16) -> Side {
    Side { address: Canonical(7), realm, port }
}

fn udp(source: Side, destination: Side) -> Flow {
    Flow { source, destination, protocol: protocol::UDP, tcp_flags: 0, may_open: true, asker: Asker::Neither }
}

fn admit(
    t: &mut Sessions,
    flow: &Flow,
    generation: Generation,
    now_secs: u32,
    grants: impl Fn(&Flow) -> bool,
) -> Result<(), DropReason> {
    let ticket = t.ticket(flow);
    t.fetch(&[(0, ticket)]);
    t.admit(&ticket, generation, now_secs, grants).map(|_| ())
}

fn table(sessions: usize, per_realm: usize) -> Sessions {
    Sessions::new(Limits { sessions, per_realm }, 42)
}

#[test]
fn replies_return_and_nothing_else_does() {
    let mut t = table(10, 10);
    let request = udp(side(A, 1000), side(B, 53));
    assert_eq!(admit(&mut t, &request.reversed(), G1, 0, |_| false), Err(DropReason::NotGranted));
    assert_eq!(admit(&mut t, &request, G1, 0, |_| true), Ok(()));
    assert_eq!(admit(&mut t, &request.reversed(), G1, 1, |_| false), Ok(()));
    let other_port = udp(side(B, 54), side(A, 1000));
    assert_eq!(admit(&mut t, &other_port, G1, 1, |_| false), Err(DropReason::NotGranted));
    assert_eq!((t.len(), t.opened_by(A), t.opened_by(B)), (1, 1, 0));
}

#[test]
fn realms_that_share_address_and_port_do_not_share_sessions() {
    let mut t = table(10, 10);
    admit(&mut t, &udp(side(A, 1), side(B, 2)), G1, 0, |_| true).unwrap();
    let c = RealmId(3);
    assert_eq!(admit(&mut t, &udp(side(B, 2), side(c, 1)), G1, 0, |_| false), Err(DropReason::NotGranted));
    assert_eq!(admit(&mut t, &udp(side(c, 1), side(B, 2)), G1, 0, |_| false), Err(DropReason::NotGranted));
}

#[test]
fn a_ping_lets_replies_through_and_no_pings_back() {
    let mut t = table(10, 10);
    for ident in [0, 7] {
        let ping = Flow { protocol: protocol::ICMP, asker: Asker::Source, ..udp(side(A, ident), side(B, ident)) };
        assert_eq!(admit(&mut t, &ping, G1, 0, |_| true), Ok(()));
        assert_eq!(admit(&mut t, &ping.reversed(), G1, 0, |_| false), Ok(()), "reply");
        let back = Flow { asker: Asker::Source, ..ping.reversed() };
        assert_eq!(
            admit(&mut t, &back, G1, 0, |_| false),
            Err(DropReason::NotGranted),
            "ping back, identifier {ident}"
        );
    }
}

/// By an alias of its own, for example.
#[test]
fn a_host_that_pings_itself_has_its_reply() {
    let mut t = table(10, 10);
    let ping = Flow { protocol: protocol::ICMP, asker: Asker::Source, ..udp(side(A, 7), side(A, 7)) };
    let reply = Flow { may_open: false, ..ping.reversed() };
    assert_eq!(admit(&mut t, &reply, G1, 0, |_| true), Err(DropReason::NoSession));
    assert_eq!(admit(&mut t, &ping, G1, 0, |_| true), Ok(()));
    assert_eq!(admit(&mut t, &reply, G1, 0, |_| false), Ok(()));
    assert_eq!(t.len(), 1);
}

#[test]
fn the_table_is_bounded_as_a_whole_and_per_realm() {
    let mut t = table(5, 3);
    let open = |t: &mut Sessions, realm, port| admit(t, &udp(side(realm, port), side(B, 53)), G1, 0, |_| true);
    for port in 0..3 {
        assert_eq!(open(&mut t, A, port), Ok(()));
    }
    assert_eq!(open(&mut t, A, 3), Err(DropReason::SessionQuotaExceeded));
    assert_eq!(open(&mut t, RealmId(3), 0), Ok(()));
    assert_eq!(open(&mut t, RealmId(4), 0), Ok(()));
    assert_eq!(open(&mut t, RealmId(5), 0), Err(DropReason::SessionTableFull));
    assert_eq!(t.len(), 5);
    t.expire(100, UDP_SECS);
    assert_eq!((t.len(), t.opened_by(A)), (0, 0));
    assert_eq!(open(&mut t, RealmId(5), 0), Ok(()));
}

#[test]
fn the_other_side_does_not_keep_a_way_in_open() {
    let mut t = table(10, 10);
    let request = udp(side(A, 1), side(B, 53));
    admit(&mut t, &request, G1, 0, |_| true).unwrap();
    assert_eq!(admit(&mut t, &request.reversed(), G1, 299, |_| false), Ok(()));
    assert_eq!(admit(&mut t, &request.reversed(), G1, 300, |_| false), Err(DropReason::NotGranted));
}

#[test]
fn idle_times_follow_the_protocol_and_the_configuration() {
    let flow = |protocol, asker| Flow { protocol, asker, ..udp(side(A, 9), side(B, 9)) };
    let ping = flow(protocol::ICMP, Asker::Source);
    let [gre, esp] = [47, 50].map(|protocol| flow(protocol, Asker::Neither));
    let survives = |timers: Timers, flow: &Flow, secs: u32| {
        let mut t = table(10, 10);
        t.set_timers(timers);
        admit(&mut t, flow, G1, 0, |_| true).unwrap();
        t.contains(flow, G1, secs, |_| false)
    };
    let default = Timers::default();
    for (flow, secs) in [(udp(side(A, 1), side(B, 2)), 300), (ping, 60), (gre, 300), (esp, 300)] {
        assert!(survives(default, &flow, secs - 1) && !survives(default, &flow, secs), "protocol {}", flow.protocol);
    }
    let longer = Timers { udp_secs: 1000, icmp_secs: 90, ..default };
    assert!(survives(longer, &gre, 999) && !survives(longer, &gre, 1000));
    assert!(survives(longer, &ping, 89) && !survives(longer, &ping, 90));
}

#[test]
fn an_error_needs_a_session_that_is_still_granted() {
    let mut t = table(10, 10);
    let request = udp(side(A, 1), side(B, 53));
    admit(&mut t, &request, G1, 0, |_| true).unwrap();
    assert!(t.contains(&request, G1, 1, |_| panic!("this generation has approved it")));
    let asked = |flow: &Flow| flow.source.realm == A;
    assert!(t.contains(&request.reversed(), Generation(2), 1, asked), "in the opener's direction");
    assert!(!t.contains(&request, Generation(2), 1, |_| false));
}

#[test]
fn an_expired_session_is_judged_afresh() {
    let mut t = table(10, 10);
    let request = udp(side(A, 1), side(B, 53));
    admit(&mut t, &request, G1, 0, |_| true).unwrap();
    assert_eq!(admit(&mut t, &request.reversed(), G1, 300, |_| false), Err(DropReason::NotGranted));
    assert_eq!(t.len(), 0);
}

#[test]
fn a_new_generation_is_asked_once_in_the_openers_direction() {
    let mut t = table(10, 10);
    let request = udp(side(A, 1), side(B, 53));
    admit(&mut t, &request, G1, 0, |_| true).unwrap();
    let asked = |flow: &Flow| flow.source.realm == A;
    assert_eq!(admit(&mut t, &request.reversed(), Generation(2), 1, asked), Ok(()));
    assert_eq!(admit(&mut t, &request, Generation(2), 1, |_| panic!("asked twice")), Ok(()));
    assert_eq!(admit(&mut t, &request.reversed(), Generation(3), 1, |_| false), Err(DropReason::NotGranted));
    assert_eq!(t.len(), 0);
}

proptest! {
    /// Against a map from (opener, other) to the time of the last packet.
    #[test]
    fn agrees_with_a_simple_model(steps in prop::collection::vec((0u16..3, 0u16..3, 0u16..3, 0u16..3, 0u32..200), 1..200)) {
        let mut t = table(20, 6);
        let mut model: HashMap<(u16, u16, u16, u16), u32> = HashMap::new();
        let mut now = 0;
        for (ra, rb, pa, pb, passed) in steps {
            now += passed;
            model.retain(|_, last| now - *last < UDP_SECS);
            t.expire(usize::MAX, now);
            let flow = udp(side(RealmId(ra), pa), side(RealmId(rb), pb));
            let granted = ra < rb;
            let forward = (ra, pa, rb, pb);
            let backward = (rb, pb, ra, pa);
            let key = if model.contains_key(&forward) { forward } else { backward };
            let want = if let Some(last) = model.get_mut(&key) {
                if key == forward {
                    *last = now; // the opener alone keeps it alive
                }
                Ok(())
            } else if !granted {
                Err(DropReason::NotGranted)
            } else if model.keys().filter(|k| k.0 == ra).count() == 6 {
                Err(DropReason::SessionQuotaExceeded)
            } else {
                model.insert(forward, now);
                Ok(())
            };
            prop_assert_eq!(admit(&mut t, &flow, G1, now, |_| granted), want);
            prop_assert_eq!(t.len(), model.len());
        }
    }
}

#[test]
fn after_a_flood_the_index_is_as_small_as_before() {
    let mut t = table(50_000, 50_000);
    for n in 0..40_000_u32 {
        let source = Side { address: Canonical(u128::from(n) >> 12), ..side(A, (n & 0xfff) as u16) };
        admit(&mut t, &udp(source, side(B, 53)), G1, 0, |_| true).unwrap();
        t.expire(0, 0);
    }
    let in_flood = t.index.capacity();
    assert!(in_flood >= 40_000);
    for n in 0..100 {
        admit(&mut t, &udp(side(A, 5000 + n), side(B, 80)), G1, UDP_SECS - 1, |_| true).unwrap();
    }
    while t.len() > 100 {
        t.expire(4096, UDP_SECS);
    }
    t.expire(0, UDP_SECS);
    assert!(t.index.capacity() <= 4 * INDEX_START, "{} of {in_flood}", t.index.capacity());
    for n in 0..100 {
        let known = udp(side(A, 5000 + n), side(B, 80));
        assert_eq!(admit(&mut t, &known, G1, UDP_SECS, |_| false), Ok(()), "still found");
    }
}
