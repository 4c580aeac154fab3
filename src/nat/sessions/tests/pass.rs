//! Packets of known sessions: whatever `admit` does with one, `pass_again` does too, or leaves it to `admit`.

use std::collections::HashMap;

use super::super::tcp::tests::Ends;
use super::*;
use crate::wire::tcp::{flag, may_open};

const PORTS: u16 = 3;

/// One packet: of which connection, by which end, when, and what it is.
#[derive(Clone, Debug)]
struct Said {
    port: u16,
    by_server: bool,
    is_tcp: bool,
    flags: u8,
    data_bytes: u32,
    secs_later: u32,
    is_new_generation: bool,
}

fn said() -> impl Strategy<Value = Said> {
    let flags = prop::sample::select(vec![
        flag::SYN,
        flag::SYN | flag::ACK,
        flag::ACK,
        flag::ACK,
        flag::FIN | flag::ACK,
        flag::RST,
        flag::RST | flag::ACK,
    ]);
    let secs = prop::sample::select(vec![0, 0, 0, 1, 100, 299, 300, 8000]);
    (0..PORTS, any::<bool>(), any::<bool>(), flags, 0..1000u32, secs, prop::bool::weighted(0.02)).prop_map(
        |(port, by_server, is_tcp, flags, data_bytes, secs_later, is_new_generation)| Said {
            port,
            by_server,
            is_tcp,
            flags,
            data_bytes,
            secs_later,
            is_new_generation,
        },
    )
}

/// All that a table remembers.
fn memory(t: &Sessions) -> String {
    let all = t.slab.iter().zip(&t.lives).zip(&t.tracks);
    let sessions: Vec<_> = all.filter(|((_, life), _)| !life.is_over()).collect();
    format!("{sessions:?} {:?} {}", t.half_open.oldest(A), t.len())
}

proptest! {
    #[test]
    fn whatever_passes_again_would_have_been_admitted(all in prop::collection::vec(said(), 1..200)) {
        let [mut slow, mut fast] = [table(4, 4), table(4, 4)];
        let mut ends: Vec<Ends> = (0..PORTS).map(|_| Ends::new()).collect();
        let mut passes: HashMap<(u16, bool, bool), Pass> = HashMap::new();
        let (mut now, mut generation) = (0, G1);
        for said in all {
            now += said.secs_later;
            generation.0 += u32::from(said.is_new_generation);
            let segment = said.is_tcp.then(|| ends[usize::from(said.port)].say(usize::from(said.by_server), said.flags, said.data_bytes));
            let mut flow = udp(side(A, said.port), side(B, 443));
            if let Some(segment) = &segment {
                flow = Flow { protocol: protocol::TCP, tcp_flags: segment.flags, may_open: may_open(segment.flags), ..flow };
            }
            let flow = if said.by_server { flow.reversed() } else { flow };
            let grants = |flow: &Flow| flow.source.realm == A;
            let judge = |t: &mut Sessions| {
                let ticket = t.ticket(&flow);
                let ticket = segment.map_or(ticket, |segment| ticket.with_segment(segment));
                t.admit(&ticket, generation, now, grants)
            };
            let verdict = judge(&mut slow);
            let of = (said.port, said.by_server, said.is_tcp);
            let is_syn = segment.is_some_and(|segment| segment.flags & flag::SYN != 0);
            let again = !is_syn && passes.get(&of).is_some_and(|pass| fast.pass_again(*pass, segment.as_ref(), generation, now));
            if again {
                prop_assert!(verdict.is_ok(), "{said:?}: {verdict:?}");
            } else {
                prop_assert_eq!(judge(&mut fast), verdict);
                passes.remove(&of);
                passes.extend(verdict.ok().map(|pass| (of, pass)));
            }
            prop_assert_eq!(memory(&fast), memory(&slow), "{:?}", said);
        }
    }
}

/// What may become of sessions, whichever they are.
#[derive(Clone, Debug)]
enum Happens {
    Said {
        port: u16,
        by_server: bool,
    },
    Knocked {
        port: u16,
    },
    Forgotten {
        port: u16,
    },
    /// A connection, which may push out another one.
    Called {
        port: u16,
    },
    Expiry,
    OtherTimers {
        secs: u32,
    },
    SecsPass(u32),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        8 => (0..PORTS, any::<bool>()).prop_map(|(port, by_server)| Happens::Said { port, by_server }),
        1 => (0..PORTS).prop_map(|port| Happens::Knocked { port }),
        1 => (0..PORTS).prop_map(|port| Happens::Forgotten { port }),
        2 => (0..PORTS).prop_map(|port| Happens::Called { port }),
        2 => Just(Happens::Expiry),
        1 => (1..4u32).prop_map(|secs| Happens::OtherTimers { secs }),
        2 => (1..4u32).prop_map(Happens::SecsPass),
    ]
}

proptest! {
    #[test]
    fn what_passes_again_does_so_until_the_moment_is_over(all in prop::collection::vec(happens(), 1..100)) {
        let (mut t, mut now) = (table(4, 4), 0);
        let mut passed: HashMap<(u32, u64, bool), (Pass, u64)> = HashMap::new();
        let flow = |port| udp(side(A, port), side(B, 443));
        for what in all {
            match what {
                Happens::Said { port, by_server } => {
                    let flow = if by_server { flow(port).reversed() } else { flow(port) };
                    let ticket = t.ticket(&flow);
                    if let Ok(pass) = t.admit(&ticket, G1, now, |flow| flow.source.realm == A)
                        && t.pass_again(pass, None, G1, now)
                    {
                        passed.insert((pass.slot, pass.serial, pass.from_opener), (pass, t.moment(now)));
                    }
                }
                Happens::Knocked { port } => {
                    let _ = t.knock(&t.ticket(&flow(port)), G1, now, |_| true);
                }
                Happens::Forgotten { port } => t.forget(&t.ticket(&flow(port))),
                Happens::Called { port } => {
                    let flow = Flow { protocol: protocol::TCP, tcp_flags: flag::SYN, ..flow(port) };
                    let _ = admit(&mut t, &flow, G1, now, |_| true);
                }
                Happens::Expiry => t.expire(4, now),
                Happens::OtherTimers { secs } => t.set_timers(Timers { udp_secs: secs, ..Timers::default() }),
                Happens::SecsPass(secs) => now += secs,
            }
            let moment = t.moment(now);
            prop_assert_ne!(moment, 0);
            passed.retain(|_, (_, at)| *at == moment);
            for (pass, _) in passed.values() {
                prop_assert!(t.pass_again(*pass, None, G1, now), "{:?} after {:?}", pass, what);
            }
        }
    }
}

/// Else whoever calls again and again would make everybody's packets ask.
#[test]
fn what_takes_no_way_from_anybody_does_not_end_the_moment() {
    let mut t = table(3, 3);
    let udp_flow = |port| udp(side(A, port), side(B, 443));
    let tcp_flow = |port| Flow { protocol: protocol::TCP, tcp_flags: flag::SYN, ..udp_flow(port) };
    let moment = t.moment(0);
    for port in 1..10 {
        admit(&mut t, &tcp_flow(port), G1, 0, |_| true).unwrap();
    }
    assert_eq!((t.len(), t.moment(0)), (3, moment), "connections push out one another");
    let knock = |t: &mut Sessions, now| t.knock(&t.ticket(&udp_flow(20)), G1, now, |_| true).unwrap();
    knock(&mut t, 0);
    knock(&mut t, 0);
    assert_eq!(t.moment(0), moment, "knocks");
    let later = t.moment(UDP_SECS);
    admit(&mut t, &udp_flow(20), G1, UDP_SECS, |_| true).unwrap();
    assert_eq!(t.moment(UDP_SECS), later, "one that was over");
    knock(&mut t, UDP_SECS);
    assert_ne!(t.moment(UDP_SECS), later, "back to knocking");
}

#[test]
fn a_pass_is_for_one_session_and_not_for_the_next_in_its_place() {
    let mut t = table(1, 1);
    let (first, second) = (udp(side(A, 1), side(B, 2)), udp(side(A, 3), side(B, 4)));
    let ticket = t.ticket(&first);
    let pass = t.admit(&ticket, G1, 0, |_| true).unwrap();
    assert!(t.pass_again(pass, None, G1, 0));
    assert!(!t.pass_again(pass, None, Generation(2), 0), "a new configuration judges anew");
    assert!(!t.pass_again(pass, None, G1, UDP_SECS), "it has expired");
    t.forget(&ticket);
    assert!(!t.pass_again(pass, None, G1, 0), "it has ended");
    let ticket = t.ticket(&second);
    let other = t.admit(&ticket, G1, 0, |_| true).unwrap();
    assert_eq!(other.slot, pass.slot, "the same place");
    assert!(!t.pass_again(pass, None, G1, 0) && t.pass_again(other, None, G1, 0));
    assert!(!t.has(pass) && t.has(other));
}
