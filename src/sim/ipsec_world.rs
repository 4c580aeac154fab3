//! IPsec gateways, the network between them, and virtual time; from a seed.
//!
//! ```text
//! hosts --flow--> gateway --[NAT]--> link: loss, duplication, delay, replay --> [NAT]--> gateway --> hosts
//! ```
//!
//! [`World::run_until`] jumps from one event to the next. After each of them it checks what must hold always ([`Ledger`]):
//! no key is installed twice, no sequence number used twice under a key, no inner packet arrives twice, changed, or by
//! another tunnel than the one that it was sent into, and no table outgrows its bound. What must hold when nothing is
//! under way any more, [`World::assert_tidy`] checks.

mod ledger;
mod tidy;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use zeroize::Zeroizing;

pub use ledger::Ledger;

use super::gateway::{Gateway, KeyId, Note, Received};
use super::packets;
use super::random::Random;
use crate::ike::{
    Encapsulation, Event, Identity, Lifetimes, Limits, LocalAuth, PeerConfig, Profile, RemoteAuth, SelectorMode, Setup,
};
use crate::net::random::{self, Seeded};
use crate::net::{Path, Port, Selector, Timestamp, TunnelId};
use crate::packet::{Datagram, DropReason, Outbox};

/// Datagrams of the past, out of which some come again.
const REMEMBERED: usize = 2048;
/// Notes of each site that a dump shows.
const SHOWN_NOTES: usize = 60;
/// Things done at one moment; beyond, somebody asks for the same moment for ever.
const MAX_STEPS_AT_ONCE: u32 = 20_000;

pub struct World {
    pub now: Timestamp,
    pub sites: Vec<Site>,
    pub flows: Vec<Flow>,
    pub link: Link,
    /// Decides about each IKE datagram.
    pub filter: Box<dyn FnMut(&Message) -> Fate>,
    /// How many IKE datagrams of each exchange have been sent, by its number.
    pub exchanges: BTreeMap<u8, u64>,
    pub ledger: Ledger,
    random: Random,
    has_jitter: Arc<AtomicBool>,
    /// By time of arrival, then in order.
    queue: BTreeMap<(Timestamp, u64), Flying>,
    /// Held until another IKE datagram of the same sender has been sent.
    held: Vec<Flying>,
    past: VecDeque<Flying>,
    queued: u64,
    ike_sent: u64,
    outbox: Outbox,
}

/// How the network treats every datagram.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub latency: Duration,
    /// Of a thousand datagrams.
    pub loss: u32,
    pub double: u32,
    /// So many come up to `delay` later, and so overtaken by others.
    pub late: u32,
    pub delay: Duration,
    /// So often one of the past comes again.
    pub replay: u32,
}

impl Default for Link {
    fn default() -> Self {
        let delay = Duration::from_secs(3);
        Link { latency: Duration::from_millis(10), loss: 0, double: 0, late: 0, delay, replay: 0 }
    }
}

/// What happens to one IKE datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Arrives,
    Lost,
    Twice,
    /// After the next one of the same sender.
    Overtaken,
}

/// What everybody sees of an IKE datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Counts IKE datagrams as they are sent, the first being 0.
    pub number: u64,
    pub sender: usize,
    /// 34 IKE_SA_INIT, 35 IKE_AUTH, 36 CREATE_CHILD_SA, 37 INFORMATIONAL, 43 IKE_INTERMEDIATE.
    pub exchange: u8,
    pub is_response: bool,
    pub message_id: u32,
}

#[derive(Clone, Debug)]
struct Flying {
    sender: usize,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// A gateway at its place in the network.
pub struct Site {
    pub gateway: Gateway,
    pub peers: Vec<Arc<PeerConfig>>,
    pub limits: Limits,
    /// As the network sees it: its own address, or its NAT's.
    pub outer: IpAddr,
    /// What its NAT adds to its ports.
    pub port_shift: u16,
    /// Drives everything random; a restart draws another one.
    seed: u64,
    pub unix_secs_at_zero: u64,
    notes: VecDeque<(Timestamp, Note)>,
    pub ups: u64,
    pub downs: u64,
    pub installed: u64,
    pub failures: u64,
}

/// Inner packets at a steady pace. Each is known by flow and number, whatever its addresses.
pub struct Flow {
    pub from: (usize, TunnelId),
    pub to: (usize, TunnelId),
    pub source: IpAddr,
    pub destination: IpAddr,
    pub every: Duration,
    next: Timestamp,
    pub sent: u64,
    /// Those that the gateway did not take, and why.
    pub refused: Vec<(u64, Timestamp, DropReason)>,
    arrived: HashSet<u64>,
    pub last_arrival: Option<Timestamp>,
}

/// Draws as a [`Seeded`] does, but no jitter while that is unwanted: timers of both sides can be set against each other to
/// the millisecond.
struct Punctual {
    random: Seeded,
    has_jitter: Arc<AtomicBool>,
}

impl random::Random for Punctual {
    fn fill(&mut self, bytes: &mut [u8]) {
        match bytes {
            [jitter] if !self.has_jitter.load(Ordering::Relaxed) => *jitter = 0,
            _ => self.random.fill(bytes),
        }
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        World {
            now: Timestamp::from_secs(100),
            sites: Vec::new(),
            flows: Vec::new(),
            link: Link::default(),
            filter: Box::new(|_| Fate::Arrives),
            exchanges: BTreeMap::new(),
            ledger: Ledger::default(),
            random: Random(seed ^ 0x1c5e_c000),
            has_jitter: Arc::new(AtomicBool::new(true)),
            queue: BTreeMap::new(),
            held: Vec::new(),
            past: VecDeque::new(),
            queued: 0,
            ike_sent: 0,
            outbox: Outbox::new(1 << 18, 1024),
        }
    }

    /// Puts a gateway at an address. Sites with the same seed draw the same SPIs and nonces.
    pub fn add(&mut self, outer: IpAddr, seed: u64, peers: Vec<PeerConfig>) -> usize {
        self.add_with(outer, seed, Limits::default(), 0, peers)
    }

    pub fn add_with(
        &mut self,
        outer: IpAddr,
        seed: u64,
        limits: Limits,
        unix_secs_at_zero: u64,
        peers: Vec<PeerConfig>,
    ) -> usize {
        let gateway = self.gateway(seed, limits.clone(), unix_secs_at_zero);
        self.sites.push(Site {
            gateway,
            peers: Vec::new(),
            limits,
            outer,
            port_shift: 0,
            seed,
            unix_secs_at_zero,
            notes: VecDeque::new(),
            ups: 0,
            downs: 0,
            installed: 0,
            failures: 0,
        });
        let site = self.sites.len() - 1;
        self.configure(site, peers);
        site
    }

    /// Without it lifetimes and retransmissions are exact, on all sites.
    pub fn set_jitter(&mut self, wanted: bool) {
        self.has_jitter.store(wanted, Ordering::Relaxed);
    }

    fn gateway(&self, seed: u64, limits: Limits, unix_secs_at_zero: u64) -> Gateway {
        let random = Box::new(Punctual { random: Seeded(seed), has_jitter: Arc::clone(&self.has_jitter) });
        Gateway::new(Setup { limits, unix_secs_at_zero, ..Setup::new(random) }, seed, self.now)
    }

    pub fn configure(&mut self, site: usize, peers: Vec<PeerConfig>) {
        self.sites[site].peers = peers.into_iter().map(Arc::new).collect();
        let peers = self.sites[site].peers.clone();
        self.sites[site].gateway.configure(peers, self.now);
        self.read_notes(site);
    }

    /// The gateway forgets everything, as after a crash.
    pub fn restart(&mut self, site: usize) {
        let seed = self.sites[site].seed.wrapping_mul(31).wrapping_add(self.random.draw());
        let (limits, date) = (self.sites[site].limits.clone(), self.sites[site].unix_secs_at_zero);
        let gateway = self.gateway(seed, limits, date);
        let site_mut = &mut self.sites[site];
        (site_mut.gateway, site_mut.seed) = (gateway, seed);
        let peers = site_mut.peers.clone();
        site_mut.gateway.configure(peers, self.now);
        self.ledger.note_restarted(site);
        self.read_notes(site);
    }

    /// Its NAT, or its carrier, gives it another address and other ports.
    pub fn relocate(&mut self, site: usize, outer: IpAddr, port_shift: u16) {
        (self.sites[site].outer, self.sites[site].port_shift) = (outer, port_shift);
    }

    /// One packet each way in every interval. Gives the numbers of both flows.
    pub fn flow_both_ways(
        &mut self,
        a: (usize, TunnelId),
        b: (usize, TunnelId),
        hosts: [IpAddr; 2],
        every: Duration,
    ) -> [usize; 2] {
        let first = self.flows.len();
        for (from, to, [source, destination]) in [(a, b, hosts), (b, a, [hosts[1], hosts[0]])] {
            let (refused, arrived) = (Vec::new(), HashSet::new());
            let next = self.now;
            self.flows.push(Flow {
                from,
                to,
                source,
                destination,
                every,
                next,
                sent: 0,
                refused,
                arrived,
                last_arrival: None,
            });
        }
        [first, first + 1]
    }

    /// No more packets; those under way arrive.
    pub fn stop_flows(&mut self) {
        self.flows.iter_mut().for_each(|flow| flow.next = Timestamp::from_micros(u64::MAX));
    }

    /// Every flow goes on with one packet in each interval.
    pub fn set_pace(&mut self, every: Duration) {
        let now = self.now;
        for flow in &mut self.flows {
            (flow.every, flow.next) = (every, flow.next.min(now + every));
        }
    }

    /// Until nothing happens before `until`.
    pub fn run_until(&mut self, until: Timestamp) {
        let mut steps = 0;
        while let Some(next) = self.next_event().filter(|next| *next <= until) {
            steps = if next > self.now { 0 } else { steps + 1 };
            if steps >= MAX_STEPS_AT_ONCE {
                panic!("time stands still\n{}", self.dump());
            }
            self.now = self.now.max(next);
            self.step();
        }
        self.now = until;
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    fn next_event(&self) -> Option<Timestamp> {
        let timers = self.sites.iter().filter_map(|site| site.gateway.poll_timeout()).map(|(at, _)| at);
        let arrival = self.queue.keys().next().map(|(at, _)| *at);
        let flows = self.flows.iter().map(|flow| flow.next);
        timers.chain(arrival).chain(flows).min()
    }

    /// What is due now: one datagram, or all timers, or packets of the flows.
    fn step(&mut self) {
        if let Some((&key, _)) = self.queue.first_key_value()
            && key.0 <= self.now
            && let Some(flying) = self.queue.remove(&key)
        {
            return self.deliver(&flying);
        }
        for site in 0..self.sites.len() {
            if self.sites[site].gateway.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
                let now = self.now;
                self.with_gateway(site, |gateway, outbox| gateway.handle_timeout(outbox, now));
            }
        }
        for flow in 0..self.flows.len() {
            if self.flows[flow].next <= self.now {
                self.send_packet(flow);
            }
        }
    }

    /// Does something with a gateway, then reads its notes and sends its datagrams.
    pub fn with_gateway<R>(&mut self, site: usize, run: impl FnOnce(&mut Gateway, &mut Outbox) -> R) -> R {
        let mut outbox = std::mem::replace(&mut self.outbox, Outbox::new(0, 0));
        let result = run(&mut self.sites[site].gateway, &mut outbox);
        self.sites[site].gateway.carry();
        self.read_notes(site);
        let (outer, shift) = (self.sites[site].outer, self.sites[site].port_shift);
        for (path, data, bytes) in outbox.datagrams() {
            let port = match path.port {
                Port::Ike => 500 + shift,
                Port::RawEsp => 0,
                _ => 4500 + shift,
            };
            let from = SocketAddr::new(outer, port);
            let flying = Flying { sender: site, from, to: path.remote, bytes: bytes.to_vec() };
            self.send(flying, data);
        }
        outbox.clear();
        self.outbox = outbox;
        self.check_bounds(site);
        result
    }

    fn send(&mut self, flying: Flying, data: bool) {
        let is_ike = !data && flying.bytes.len() > 1;
        let fate = match is_ike {
            true => {
                let message = flying.message(self.ike_sent);
                self.ike_sent += 1;
                *self.exchanges.entry(message.exchange).or_default() += 1;
                (self.filter)(&message)
            }
            false => Fate::Arrives,
        };
        let held: Vec<Flying> = match is_ike {
            true => self.held.extract_if(.., |held| held.sender == flying.sender).collect(),
            false => Vec::new(),
        };
        self.remember(&flying);
        match fate {
            Fate::Lost => {}
            Fate::Overtaken => self.held.push(flying),
            Fate::Arrives => self.transmit(flying),
            Fate::Twice => {
                self.transmit(flying.clone());
                self.transmit(flying);
            }
        }
        held.into_iter().for_each(|held| self.transmit(held));
    }

    fn remember(&mut self, flying: &Flying) {
        if self.link.replay == 0 {
            return;
        }
        if self.past.len() == REMEMBERED {
            let at = self.random.below(REMEMBERED as u64) as usize;
            self.past[at] = flying.clone();
        } else {
            self.past.push_back(flying.clone());
        }
        if self.random.permille(self.link.replay) {
            let at = self.random.below(self.past.len() as u64) as usize;
            let again = self.past[at].clone();
            self.enqueue(again, self.link.latency);
        }
    }

    fn transmit(&mut self, flying: Flying) {
        if self.random.permille(self.link.loss) {
            return;
        }
        if self.random.permille(self.link.double) {
            self.enqueue(flying.clone(), self.link.latency);
        }
        let mut takes = self.link.latency;
        if self.random.permille(self.link.late) {
            takes += Duration::from_micros(self.random.below(self.link.delay.as_micros() as u64));
        }
        self.enqueue(flying, takes);
    }

    fn enqueue(&mut self, flying: Flying, takes: Duration) {
        self.queued += 1;
        self.queue.insert((self.now + takes, self.queued), flying);
    }

    fn deliver(&mut self, flying: &Flying) {
        let at_port = |site: &Site, port: u16| port == 0 || [500, 4500].contains(&port.wrapping_sub(site.port_shift));
        let found = self.sites.iter().position(|site| site.outer == flying.to.ip() && at_port(site, flying.to.port()));
        let Some(site) = found else { return };
        let port = match flying.to.port() {
            0 => Port::RawEsp,
            port if port.wrapping_sub(self.sites[site].port_shift) == 500 => Port::Ike,
            _ => Port::IkeNatT,
        };
        let local = Some([10, 255, 0, site as u8].into());
        let path = Path { port, remote: flying.from, local };
        let now = self.now;
        let received =
            self.with_gateway(site, |gateway, outbox| gateway.receive(Datagram::new(path, &flying.bytes), outbox, now));
        if let Received::Packet { tunnel, packet } = received {
            self.arrive(site, tunnel, &packet);
        }
    }

    fn send_packet(&mut self, number: usize) {
        let flow = &mut self.flows[number];
        flow.next = flow.next.max(self.now) + flow.every;
        let packet = flow.packet(number, flow.sent);
        flow.sent += 1;
        let ((site, tunnel), now) = (flow.from, self.now);
        let sealed = self.with_gateway(site, |gateway, outbox| {
            let sealed = gateway.send(tunnel, &packet, outbox, now);
            let sealed = sealed.map(|()| outbox.datagrams().last().map(|(_, _, bytes)| bytes.to_vec()));
            sealed.map(Option::unwrap_or_default)
        });
        match sealed {
            Ok(sealed) => self.ledger.note_sealed(site, tunnel, &sealed),
            Err(why) => {
                let flow = &mut self.flows[number];
                flow.refused.push((flow.sent - 1, now, why));
            }
        }
    }

    fn arrive(&mut self, site: usize, tunnel: TunnelId, packet: &[u8]) {
        let (flow, number) = identify(packet).unwrap_or_else(|| panic!("a packet that nobody sent: {packet:02x?}"));
        let expected = self.flows[flow].packet(flow, number);
        let mut same = packet.to_vec();
        same[..20].copy_from_slice(&expected[..20]); // ECN and its checksum may differ
        assert_eq!(same, expected, "packet {number} of flow {flow} arrived changed");
        assert_eq!((site, tunnel), self.flows[flow].to, "packet {number} of flow {flow} arrived elsewhere");
        let fresh = self.flows[flow].arrived.insert(number);
        assert!(fresh, "packet {number} of flow {flow} arrived twice\n{}", self.dump());
        self.flows[flow].last_arrival = Some(self.now);
    }

    fn read_notes(&mut self, site: usize) {
        while let Some(note) = self.sites[site].gateway.poll_note() {
            let of_site = &mut self.sites[site];
            match &note {
                Note::Installed { tunnel, spi_out, key_in, key_out, .. } => {
                    of_site.installed += 1;
                    self.ledger.note_installed(site, *tunnel, *spi_out, *key_in, *key_out);
                }
                Note::NotInstalled { why, .. } => panic!("site {site}: {why}\n{}", self.dump()),
                Note::Ike(Event::Up { .. }) => of_site.ups += 1,
                Note::Ike(Event::Down { .. }) => of_site.downs += 1,
                Note::Ike(Event::Failed { .. }) => of_site.failures += 1,
                _ => {}
            }
            let notes = &mut self.sites[site].notes;
            if notes.len() == SHOWN_NOTES {
                notes.pop_front();
            }
            notes.push_back((self.now, note));
        }
    }

    fn check_bounds(&self, site: usize) {
        let of_site = &self.sites[site];
        let (sas, half_open) = of_site.gateway.ike.sa_counts();
        let peers = of_site.peers.len().max(1);
        // Each peer has its own, those that are being deleted, and one that calls.
        let most = (2 * of_site.limits.sas_per_peer + 2) * peers + half_open;
        let esp = of_site.gateway.esp.sa_count();
        if sas > most || half_open > of_site.limits.half_open || esp > 64 * peers {
            panic!("site {site}: {sas} IKE SAs, {half_open} half open, {esp} ESP SAs\n{}", self.dump());
        }
    }

    /// How many IKE datagrams have been sent.
    pub fn ike_sent(&self) -> u64 {
        self.ike_sent
    }
}

impl Flying {
    fn message(&self, number: u64) -> Message {
        let bytes = self.bytes.strip_prefix(&[0; 4]).unwrap_or(&self.bytes);
        let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
        Message {
            number,
            sender: self.sender,
            exchange: byte(18),
            is_response: byte(19) & 0x20 != 0,
            message_id: u32::from_be_bytes([byte(20), byte(21), byte(22), byte(23)]),
        }
    }
}

impl Flow {
    fn packet(&self, flow: usize, number: u64) -> Vec<u8> {
        let payload = [&(flow as u64).to_be_bytes()[..], &number.to_be_bytes(), &[0x5a; 24]].concat();
        packets::udp((self.source, 1111), (self.destination, 2222), &payload)
    }

    pub fn arrived(&self) -> usize {
        self.arrived.len()
    }
}

/// Flow and number of an inner packet.
fn identify(packet: &[u8]) -> Option<(usize, u64)> {
    let payload = packet.get(packet.len().checked_sub(40)?..)?;
    let flow = u64::from_be_bytes(*payload.first_chunk()?);
    Some((flow as usize, u64::from_be_bytes(*payload.get(8..)?.first_chunk()?)))
}

/// How site `me` is configured for site `other`, by names; everything is to be changed by the test.
pub fn peer(tunnel: TunnelId, me: &str, other: &str, remote: Option<IpAddr>) -> PeerConfig {
    let secret = || Zeroizing::new(b"correct horse battery staple".to_vec());
    PeerConfig {
        tunnel,
        remote: remote.map(|ip| SocketAddr::new(ip, 500)),
        remote_nat_t_port: 4500,
        initiate: false,
        local_id: Identity::Fqdn(me.into()),
        remote_id: Identity::Fqdn(other.into()),
        local_auth: LocalAuth::Psk(secret()),
        remote_auth: RemoteAuth::Psk(secret()),
        ppk: None,
        profile: Profile::Modern,
        encapsulation: Encapsulation::Udp,
        ours: vec![Selector::ANY4],
        theirs: vec![Selector::ANY4],
        selector_mode: SelectorMode::View,
        lifetimes: Lifetimes::default(),
        replay_window: 1024,
        liveness: Duration::from_secs(10),
    }
}
