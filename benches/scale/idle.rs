//! What idle tunnels cost.

use std::net::IpAddr;
use std::time::Duration;

use ixgate::dataplane::Engine;
use ixgate::net::{Path, Timestamp};
use ixgate::packet::Datagram;

use super::Amount;
use super::built::Built;
use super::meters::timed;
use super::world::{Gateway, Kind, Size, secrets, text};

/// Virtual time that is looked at: longer than IPsec's liveness checks are apart.
const SECONDS: u64 = 60;
/// After the last handshake.
const SETTLE: Duration = Duration::from_secs(5);

pub fn measure(kinds: &[Kind], amount: Amount) {
    println!("\nidle tunnels: processor time and wakes of a second, over {SECONDS} s of virtual time; datagrams sent in it");
    println!("{:<10} {:>8} {:>12} {:>8} {:>10} {:>16}", "tunnels", "number", "us / s", "wakes", "datagrams", "us / wake, most");
    for kind in kinds {
        for tunnels in [amount.tunnels / 10, amount.tunnels] {
            let Cost { time, wakes, datagrams, longest } = Idle::new(*kind, tunnels).cost();
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

struct Idle {
    engine: Engine,
    gateways: Vec<Gateway>,
    now: Timestamp,
}

#[derive(Default)]
struct Cost {
    time: Duration,
    wakes: u64,
    datagrams: u64,
    longest: Duration,
}

impl Idle {
    fn new(kind: Kind, tunnels: usize) -> Self {
        let size = Size { kind, realms: tunnels, networks_per_realm: 1, hosts_per_realm: 0 };
        let (built, _) = Built::new(&text(size, None), &secrets());
        let mut now = Timestamp::from_secs(1);
        let mut engine = built.engine(now);
        let mut gateways = Vec::new();
        for realm in 0..tunnels {
            let mut gateway = Gateway::new(kind, realm, now);
            now = gateway.shake_hands(&mut engine, now);
            gateways.push(gateway);
        }
        Idle { engine, gateways, now }
    }

    fn cost(mut self) -> Cost {
        let mut cost = Cost::default();
        self.run_until(self.now + SETTLE, &mut Cost::default());
        let before = self.up();
        self.run_until(self.now + Duration::from_secs(SECONDS), &mut cost);
        assert_eq!(self.up(), before, "idle tunnels stay up");
        cost
    }

    fn up(&self) -> usize {
        self.engine.report(self.now).tunnels.iter().filter(|tunnel| tunnel.up).count()
    }

    /// The appliance's time is counted, and not that of the gateways, which answer.
    fn run_until(&mut self, end: Timestamp, cost: &mut Cost) {
        while let Some((at, _)) = self.engine.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            let ((), time) = timed(|| self.engine.handle_timeout(self.now));
            cost.time += time;
            cost.longest = cost.longest.max(time);
            cost.wakes += 1;
            self.answer(cost);
            // As the worker sleeps at least.
            self.now = self.now + Duration::from_millis(1);
        }
        self.now = end;
    }

    fn answer(&mut self, cost: &mut Cost) {
        while self.engine.poll_event().is_some() {}
        let sent: Vec<(Path, Vec<u8>)> =
            self.engine.outbox().datagrams().map(|(path, _, bytes)| (path, bytes.to_vec())).collect();
        self.engine.outbox().clear();
        for (path, bytes) in sent {
            cost.datagrams += 1;
            let IpAddr::V4(remote) = path.remote.ip() else { continue };
            let gateway = &mut self.gateways[(remote.to_bits() - super::world::FIRST_ADDRESS) as usize];
            for (port, answer) in gateway.hear(path, &bytes, self.now) {
                let path = gateway.path_from(port);
                let ((), time) = timed(|| self.engine.handle_input([Datagram::new(path, &answer)].into_iter(), self.now));
                cost.time += time;
            }
        }
    }
}
