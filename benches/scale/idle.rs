//! What idle tunnels cost.

use std::time::Duration;

use super::Amount;
use super::world::{Cost, Kind, World};

/// Virtual time that is looked at: longer than IPsec's liveness checks are apart.
const SECONDS: u64 = 60;

pub fn measure(kinds: &[Kind], amount: Amount) {
    println!(
        "\nidle tunnels: processor time and wakes of a second, over {SECONDS} s of virtual time; datagrams sent in it"
    );
    println!(
        "{:<10} {:>8} {:>12} {:>8} {:>10} {:>16}",
        "tunnels", "number", "us / s", "wakes", "datagrams", "us / wake, most"
    );
    for kind in kinds {
        for tunnels in [amount.tunnels / 10, amount.tunnels] {
            let mut world = World::new(*kind, tunnels);
            let before = world.up();
            let Cost { time, wakes, datagrams, longest } = world.run_for(Duration::from_secs(SECONDS));
            assert_eq!((world.up(), before), (tunnels, tunnels), "idle tunnels stay up");
            let each = |number: u64| number as f64 / SECONDS as f64;
            println!(
                "{:<10} {tunnels:>8} {:>12.0} {:>8.1} {:>10.1} {:>16.0}",
                kind.name(),
                time.as_secs_f64() * 1e6 / SECONDS as f64,
                each(wakes),
                each(datagrams),
                longest.as_secs_f64() * 1e6
            );
        }
    }
}
