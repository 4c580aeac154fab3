//! What many tunnels, sessions, prefixes and names cost: memory, packets, idling, configuring and telling.
//!
//! `cargo bench --bench scale` answers six questions, each on one core and, but for the first, in processor time of this thread:
//!
//! 1. `memory`: what a process holds with 10,000 tunnels and 1,000,000 sessions, for each kind of tunnel in a process of its own:
//!    the configuration and the engine, then the tunnels up, then the sessions. *Resident* is VmRSS as the kernel tells it, the
//!    allocator's losses included; *heap* is what was asked of Rust's allocator, so the crypto library's own is not in it.
//! 2. `cost`: nanoseconds per packet of the in-memory walk with 10, 1,000 and 10,000 tunnels up: each packet comes by a random
//!    tunnel and leaves by another. As many sessions with each. The three take turns; medians, and their ratios.
//! 3. `idle`: processor time of a second with 10,000 idle tunnels, and how often the appliance wakes in it.
//! 4. `control`: from the text of a configuration to a running engine, a change of one realm, the worker's pause for it, and
//!    what `status` and metrics take; with a tenth of the tunnels, prefixes and names, and with all.
//! 5. `prefixes`: where an address lies, ns, with 1,000 and 100,000 prefixes.
//! 6. `sessions`: what a tick of expiry costs with 1,000,000 sessions, and a look-up in a table that was full and is empty.
//!
//! `-- --quick` does a tenth of the tunnels and sessions; `-- memory` and so on do one; a kind after it does that alone
//! (`-- idle wireguard`).

// A counting allocator is `unsafe impl GlobalAlloc`, and the time of a thread a call into libc; neither reaches ixgate.
#![allow(unsafe_code)]

#[path = "scale/built.rs"]
mod built;
#[path = "scale/control.rs"]
mod control;
#[path = "scale/cost.rs"]
mod cost;
#[path = "scale/idle.rs"]
mod idle;
#[path = "scale/memory.rs"]
mod memory;
#[path = "ike/meters.rs"]
#[allow(dead_code)] // another bench's meters, of which this one needs most
mod meters;
#[path = "scale/prefixes.rs"]
mod prefixes;
#[path = "scale/sessions.rs"]
mod sessions;
#[path = "scale/world.rs"]
mod world;

use world::Kind;

/// How much of everything.
#[derive(Clone, Copy)]
pub struct Amount {
    pub tunnels: usize,
    pub sessions: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let amount = match arguments.iter().any(|argument| argument == "--quick") {
        true => Amount { tunnels: 1000, sessions: 100_000 },
        false => Amount { tunnels: 10_000, sessions: 1_000_000 },
    };
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| !word.starts_with("--")).collect();
    let (question, kind) = (words.first(), words.get(1));
    let asked = |name: &str| question.is_none_or(|question| *question == name);
    let kinds = Kind::ALL.into_iter().filter(|one| kind.is_none_or(|kind| *kind == one.name()));
    let kinds: Vec<Kind> = kinds.collect();
    if question == Some(&memory::ALONE) {
        return memory::measure_alone(kinds[0], amount);
    }
    if question == Some(&memory::ITEMS) {
        return memory::measure_items(&words[1..]);
    }
    if asked("memory") {
        memory::measure(&kinds, &arguments);
    }
    if asked("cost") {
        cost::measure(&kinds, amount);
    }
    if asked("idle") {
        idle::measure(&kinds, amount);
    }
    if asked("control") {
        control::measure(&kinds, amount);
    }
    if asked("prefixes") {
        prefixes::measure();
    }
    if asked("sessions") {
        sessions::measure(amount);
    }
}
