//! What the session table costs when it is full, and after that.

use std::time::Duration;

use ixgate::nat::{Asker, Flow, Limits, Sessions, Side};
use ixgate::net::policy::protocol;
use ixgate::net::{Canonical, Generation, RealmId};
use ixgate::sim::random::Random;

use super::Amount;
use super::meters::{median, timed};

const BATCH: usize = 64;
/// Entries looked at in a tick, and ticks in a second: what the engine does.
const EXPIRE_PER_TICK: usize = 4096;
const FEW: usize = 10_000;
const ROUNDS: usize = 301;
const UDP_SECS: u32 = 300;

pub fn measure(amount: Amount) {
    let limits = Limits { sessions: amount.sessions, per_realm: amount.sessions };
    let mut table = Sessions::new(limits, 0x1234_5678_9abc_def0);
    println!("\nsession table, room for {} sessions", amount.sessions);
    open(&mut table, 0..FEW, 0);
    println!("{:<64} {:>9.1} ns", "look-up, 10,000 sessions in a new table, of 64 together", look_ups(&mut table, 0));
    let (mut longest, mut longest_growth) = (Duration::ZERO, Duration::ZERO);
    for first in (FEW..amount.sessions).step_by(BATCH) {
        let ((), time) = timed(|| open(&mut table, first..(first + BATCH).min(amount.sessions), 0));
        let ((), growth) = timed(|| table.expire(0, 0));
        (longest, longest_growth) = (longest.max(time), longest_growth.max(growth));
    }
    assert_eq!(table.len(), amount.sessions);
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    println!("{:<64} {:>9.1} us", "longest batch of 64 new sessions until it is full", micros(longest));
    println!("{:<64} {:>9.1} us", "longest growth of its index, between batches", micros(longest_growth));
    let full: Vec<Duration> = (0..ROUNDS).map(|_| timed(|| table.expire(EXPIRE_PER_TICK, 0)).1).collect();
    println!("{:<64} {:>9.1} us", "a tick of expiry, full, nothing is over (10 a second)", micros(median(full)));
    println!("{:<64} {:>9.1} ns", "look-up, full, of 64 together", look_ups(&mut table, 0));
    let mut ticks = Vec::new();
    while !table.is_empty() {
        ticks.push(timed(|| table.expire(EXPIRE_PER_TICK, UDP_SECS)).1);
    }
    let most = ticks.iter().max().copied().unwrap_or_default();
    println!("{:<64} {:>9} ", "ticks until all are gone that were abandoned", ticks.len());
    println!("{:<64} {:>9.1} us", "such a tick, all of it is over", micros(median(ticks)));
    println!("{:<64} {:>9.1} us", "the longest of them", micros(most));
    open(&mut table, 0..FEW, UDP_SECS);
    println!("{:<64} {:>9.1} ns", "look-up, 10,000 sessions after that", look_ups(&mut table, UDP_SECS));
}

fn open(table: &mut Sessions, sessions: std::ops::Range<usize>, now_secs: u32) {
    for session in sessions {
        let ticket = table.ticket(&flow(session));
        table.admit(&ticket, Generation(1), now_secs, |_| true).expect("room");
    }
}

/// Nanoseconds for each of random sessions.
fn look_ups(table: &mut Sessions, now_secs: u32) -> f64 {
    let (mut random, sessions) = (Random(3), table.len() as u64);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let flows: Vec<Flow> = (0..BATCH).map(|_| flow(random.below(sessions) as usize)).collect();
        let ((), time) = timed(|| {
            let mut tickets = [(0, table.ticket(&flows[0])); BATCH];
            for (place, flow) in flows.iter().enumerate() {
                tickets[place] = (place, table.ticket(flow));
            }
            table.fetch(&tickets);
            for (_, ticket) in &tickets {
                table.admit(ticket, Generation(1), now_secs, |_| false).expect("open");
            }
        });
        times.push(time);
    }
    median(times).as_nanos() as f64 / BATCH as f64
}

fn flow(session: usize) -> Flow {
    let side = |address: u128, realm: u16, port: u16| Side { address: Canonical(address), realm: RealmId(realm), port };
    Flow {
        source: side(0x0a00_0000 + (session as u128 >> 10), 1, 1024 + (session & 1023) as u16),
        destination: side(7, 2, 443),
        protocol: protocol::UDP,
        asker: Asker::Neither,
        tcp_flags: 0,
        may_open: true,
    }
}
