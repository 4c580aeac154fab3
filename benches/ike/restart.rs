//! Everybody at once, after the appliance has forgotten everything.
//!
//! ```text
//! peers --latency--> receive buffer --> appliance, one message after the other, as long as each takes --latency--> peers
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ixgate::net::Timestamp;

use super::gateways::{Appliance, Message, Peer, START, peer_at};
use super::meters::timed;
use super::methods::{Credentials, Method};

const TUNNELS: usize = 10_000;
const QUICK_TUNNELS: usize = 1000;
const LATENCY: Duration = Duration::from_millis(10);
/// What `io::udp` asks of the kernel is 8 MiB; a short datagram takes up to 2 KiB of it.
const RECEIVE_BUFFER_DATAGRAMS: usize = 4096;
const GIVE_UP: Duration = Duration::from_secs(600);

const COOKIE: u8 = 41;
const SA_INIT: u8 = 34;

pub fn measure(quick: bool) {
    let tunnels = if quick { QUICK_TUNNELS } else { TUNNELS };
    println!(
        "\n{tunnels} tunnels after a restart: virtual seconds, with the appliance's real processor time, one core"
    );
    println!(
        "{:<30} {:<8} {:>9} {:>9} {:>8} {:>9} {:>6} {:>9}",
        "method", "who", "half up", "all up", "cpu s", "messages", "lost", "cookies"
    );
    for method in [Method::Psk, Method::Ecdsa] {
        for calls in [false, true] {
            World::new(method, tunnels, calls).run().print(method, calls);
        }
    }
}

enum Happening {
    Arrival(Message),
    /// A peer's deadline, if it is still the one.
    Deadline(usize),
}

struct World {
    appliance: Appliance,
    peers: Vec<Peer>,
    deadlines: Vec<Option<Timestamp>>,
    /// By time, then in order.
    happenings: BTreeMap<(Timestamp, u64), Happening>,
    number: u64,
    /// What has arrived, and when.
    buffer: VecDeque<(Timestamp, Message)>,
    /// The appliance is busy until then.
    free_at: Timestamp,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    half_up: Duration,
    all_up: Duration,
    cpu: Duration,
    messages: usize,
    lost: usize,
    cookies: usize,
    failures: usize,
}

impl World {
    fn new(method: Method, tunnels: usize, calls: bool) -> Self {
        let credentials = Credentials::new(method);
        let peer = |number| Peer::new(method, &credentials, number, !calls);
        let mut world = World {
            appliance: Appliance::new(method, &credentials, tunnels, calls),
            peers: (0..tunnels).map(peer).collect(),
            deadlines: vec![None; tunnels],
            happenings: BTreeMap::new(),
            number: 0,
            buffer: VecDeque::new(),
            free_at: START,
            tally: Tally::default(),
        };
        (0..tunnels).for_each(|peer| world.set_deadline(peer));
        world
    }

    /// Until every tunnel is up.
    fn run(mut self) -> Tally {
        let tunnels = self.peers.len();
        while self.appliance.sas().1 < tunnels {
            let next = self.happenings.first_key_value().map(|((at, _), _)| *at);
            let work = self.appliance_begins(); // whatever happens before comes first
            assert!(self.free_at < START + GIVE_UP, "{} of {tunnels} are up", self.appliance.sas().1);
            match (next, work) {
                (Some(at), work) if work.is_none_or(|work| at <= work) => self.happen(),
                (_, Some(at)) => self.let_appliance_work(at),
                (_, None) => panic!("nothing is left to be done: {:?}", self.appliance.sas()),
            }
            let up = self.appliance.sas().1;
            if up * 2 >= tunnels && self.tally.half_up.is_zero() {
                self.tally.half_up = self.free_at.saturating_since(START);
            }
        }
        self.tally.all_up = self.free_at.saturating_since(START);
        self.tally.failures = self.appliance.failures;
        self.tally
    }

    /// When the appliance has something to do and is free to do it.
    fn appliance_begins(&self) -> Option<Timestamp> {
        let arrival = self.buffer.front().map(|(at, _)| *at);
        let at = [arrival, self.appliance.next_timeout()].into_iter().flatten().min()?;
        Some(at.max(self.free_at))
    }

    fn let_appliance_work(&mut self, at: Timestamp) {
        let message = self.buffer.pop_front_if(|(arrival, _)| *arrival <= at);
        let appliance = &mut self.appliance;
        let (_, spent) = timed(|| {
            if let Some((_, message)) = &message {
                appliance.handle_input(message, at);
            }
            if appliance.next_timeout().is_some_and(|due| due <= at) {
                appliance.handle_timeout(at);
            }
        });
        self.tally.cpu += spent;
        self.tally.messages += usize::from(message.is_some());
        // In whole microseconds, and never none, so that time passes.
        self.free_at = at + spent.max(Duration::from_micros(1));
        for message in self.appliance.take_sent() {
            self.tally.cookies += usize::from(is_cookie(&message));
            self.put(self.free_at + LATENCY, Happening::Arrival(message));
        }
    }

    fn happen(&mut self) {
        let Some(((now, _), happening)) = self.happenings.pop_first() else { return };
        let (peer, sent) = match happening {
            Happening::Arrival(message) => match peer_at(message.to.ip()).filter(|peer| *peer < self.peers.len()) {
                Some(peer) => (peer, self.peers[peer].handle_input(&message, now)),
                None => return self.take_into_buffer(now, message),
            },
            Happening::Deadline(peer) if self.deadlines[peer] == Some(now) => {
                self.deadlines[peer] = None;
                (peer, self.peers[peer].handle_timeout(now))
            }
            Happening::Deadline(_) => return,
        };
        for message in sent {
            self.put(now + LATENCY, Happening::Arrival(message));
        }
        self.set_deadline(peer);
    }

    fn take_into_buffer(&mut self, now: Timestamp, message: Message) {
        match self.buffer.len() < RECEIVE_BUFFER_DATAGRAMS {
            true => self.buffer.push_back((now, message)),
            false => self.tally.lost += 1,
        }
    }

    fn set_deadline(&mut self, peer: usize) {
        let due = self.peers[peer].next_timeout();
        if due != self.deadlines[peer] {
            self.deadlines[peer] = due;
            due.into_iter().for_each(|at| self.put(at, Happening::Deadline(peer)));
        }
    }

    fn put(&mut self, at: Timestamp, happening: Happening) {
        self.number += 1;
        self.happenings.insert((at, self.number), happening);
    }
}

/// An answer to IKE_SA_INIT that is only a notify, of 32 bytes.
fn is_cookie(message: &Message) -> bool {
    let bytes = &message.bytes;
    bytes.get(16) == Some(&COOKIE) && bytes.get(18) == Some(&SA_INIT) && bytes.len() == 28 + 8 + 32
}

impl Tally {
    fn print(&self, method: Method, calls: bool) {
        let who = if calls { "calling" } else { "called" };
        println!(
            "{:<30} {who:<8} {:>9.2} {:>9.2} {:>8.2} {:>9} {:>6} {:>9}{}",
            method.words(),
            self.half_up.as_secs_f64(),
            self.all_up.as_secs_f64(),
            self.cpu.as_secs_f64(),
            self.messages,
            self.lost,
            self.cookies,
            if self.failures > 0 { format!("   ({} failures)", self.failures) } else { String::new() }
        );
    }
}
