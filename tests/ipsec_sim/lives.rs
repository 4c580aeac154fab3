//! Random lives: losses, duplicates, reordering, replay, restarts, moves; from a seed, again and again. In the end there is
//! always traffic, and one of everything.
//!
//! `IXGATE_SIM_SEEDS` says how many (default: 1,000), `IXGATE_SIM_FIRST_SEED` which is the first.

use std::sync::atomic::{AtomicU64, Ordering};

use ixgate::sim::random::Random;

use super::scene::*;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// In all lives: restarts, moves, and packets that were lost on the way or found no keys.
static RESTARTS: AtomicU64 = AtomicU64::new(0);
static MOVES: AtomicU64 = AtomicU64::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// One life under every fault at once.
fn live(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9) + 7);
    let both_call = random.below(4) == 0;
    let mut lifetimes_of = |_: usize| lifetimes(secs(20 + random.below(60)), secs(8 + random.below(30)));
    let (of_a, of_b) = (lifetimes_of(A), lifetimes_of(B));
    let mut world = pair_with(seed, |a| a.lifetimes = of_a, |b| (b.lifetimes, b.initiate) = (of_b, both_call));
    world.flow_both_ways(ENDS[0], ENDS[1], hosts(), millis(400));
    world.link = Link {
        latency: millis(5 + random.below(100)),
        loss: random.below(301) as u32,
        double: random.below(200) as u32,
        late: random.below(200) as u32,
        replay: random.below(100) as u32,
        ..Link::default()
    };
    for _ in 0..6 {
        world.run_for(millis(random.below(25_000)));
        match random.below(6) {
            site @ 0..=1 => {
                world.restart(site as usize);
                count(&RESTARTS, 1);
            }
            // B calls A where it is configured to be, so A stays there if B calls.
            2 | 3 if !both_call => {
                let elsewhere = [198, 51, 100, random.below(200) as u8].into();
                world.relocate(A, elsewhere, random.below(3) as u16 * 100);
                count(&MOVES, 1);
            }
            _ => {}
        }
    }
    world.flows.iter().for_each(|flow| count(&LOST, flow.sent - flow.arrived() as u64));
    world.link = Link { latency: world.link.latency, ..Link::default() };
    assert!(world.run_until_all_flow(secs(400)), "seed {seed}: no traffic\n{}", world.dump());
    settle(&mut world);
    assert!(world.all_flow(), "seed {seed}\n{}", world.dump());
    world.assert_tidy(&[ENDS], 1);
}

#[test]
fn every_random_life_comes_back_to_traffic() {
    let first = from_environment("IXGATE_SIM_FIRST_SEED", 0);
    let count = from_environment("IXGATE_SIM_SEEDS", 1000);
    let threads: Vec<_> = (0..2)
        .map(|part| {
            std::thread::spawn(move || {
                for seed in (first..first + count).filter(|seed| seed % 2 == part) {
                    let lived = std::panic::catch_unwind(|| live(seed));
                    assert!(lived.is_ok(), "seed {seed}");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("every seed lives"));
    let [restarts, moves, lost] = [&RESTARTS, &MOVES, &LOST].map(|counter| counter.load(Ordering::Relaxed));
    println!("{count} lives: {restarts} restarts, {moves} moves, {lost} packets lost");
    assert!(restarts > count && moves > count && lost > 10 * count, "{restarts} restarts, {moves} moves, {lost} lost");
}
