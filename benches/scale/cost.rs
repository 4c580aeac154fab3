//! What a packet costs in the in-memory walk when there are many tunnels.

use std::hint::black_box;
use std::time::Instant;

use ixgate::packet::Datagram;
use ixgate::sim::random::Random;

use super::Amount;
use super::world::{Kind, World, packet};

const SESSIONS: usize = 10_000;
const PACKET_BYTES: usize = 64;
/// One batch, so that they are in the cache, as they are when the kernel has just copied them there.
const ROUND_PACKETS: usize = 64;
/// Rounds of one engine in a row, so that what the others have pushed out of the cache is back after the first few.
const ROUNDS_IN_A_ROW: usize = 64;
const WARM_UP_ROUNDS: usize = 16;
const TURNS: usize = 31;

pub fn measure(kinds: &[Kind], amount: Amount) {
    println!(
        "\nwalk, ns per packet of {PACKET_BYTES} bytes by random tunnels, {SESSIONS} sessions; of it to that of 10 tunnels"
    );
    println!("{:<10} {:>8} {:>8} {:>14} {:>8}", "tunnels", "number", "median", "25 to 75 %", "ratio");
    for kind in kinds {
        let numbers = [10, 1000, 10_000].into_iter().filter(|number| *number <= amount.tunnels);
        let mut engines: Vec<Bench> = numbers.map(|number| Bench::new(*kind, number)).collect();
        let mut costs = vec![Vec::new(); engines.len()];
        for _ in 0..TURNS {
            for (engine, costs) in engines.iter_mut().zip(&mut costs) {
                (0..WARM_UP_ROUNDS).for_each(|_| _ = engine.round());
                costs.extend((0..ROUNDS_IN_A_ROW - WARM_UP_ROUNDS).map(|_| engine.round()));
            }
        }
        costs.iter_mut().for_each(|costs| costs.sort_by(f64::total_cmp));
        let part = |costs: &[f64], percent: usize| costs[costs.len() * percent / 100];
        let least = part(&costs[0], 50);
        for (engine, costs) in engines.iter().zip(&costs) {
            let (number, median) = (engine.world.gateways.len(), part(costs, 50));
            let spread = format!("{:.0} to {:.0}", part(costs, 25), part(costs, 75));
            println!("{:<10} {number:>8} {median:>8.0} {spread:>14} {:>8.2}", kind.name(), median / least);
        }
    }
}

struct Bench {
    world: World,
    random: Random,
}

impl Bench {
    fn new(kind: Kind, tunnels: usize) -> Self {
        let mut bench = Bench { world: World::new(kind, tunnels), random: Random(tunnels as u64) };
        for realm in 0..tunnels {
            for session in 0..SESSIONS / tunnels {
                bench.walk(&[(realm, session)]);
            }
        }
        assert_eq!(bench.world.engine.pulse().sessions, SESSIONS);
        bench
    }

    /// Nanoseconds per packet.
    fn round(&mut self) -> f64 {
        let tunnels = self.world.gateways.len();
        let mut draw =
            || (self.random.below(tunnels as u64) as usize, self.random.below((SESSIONS / tunnels) as u64) as usize);
        let packets: Vec<_> = (0..ROUND_PACKETS).map(|_| draw()).collect();
        self.walk(&packets)
    }

    /// Packets of sessions of realms.
    fn walk(&mut self, packets: &[(usize, usize)]) -> f64 {
        let World { engine, gateways, aliases, now } = &mut self.world;
        let sealed: Vec<_> = packets
            .iter()
            .map(|(realm, session)| {
                let packet = packet(*session, aliases[realm ^ 1], PACKET_BYTES);
                let gateway = &mut gateways[*realm];
                (gateway.path(), gateway.seal(&packet))
            })
            .collect();
        let start = Instant::now();
        engine.handle_input(sealed.iter().map(|(path, bytes)| Datagram::new(*path, bytes)), *now);
        let cost = start.elapsed().as_nanos() as f64 / packets.len() as f64;
        assert_eq!(black_box(engine.outbox().datagrams().count()), packets.len());
        engine.outbox().clear();
        cost
    }
}
