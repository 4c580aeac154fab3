//! Which next hops of a port are alive: asked by ARP and neighbour solicitations, or, where it is configured, by BFD alone.
//!
//! Nobody's traffic is needed for it, so that a hop is known to be gone before the first packet is lost there, and a dead one is asked
//! on until it is back. Work is bounded: hops are at most as many as a port has next hops, each has one timer, and what is sent
//! depends on the intervals, not on what comes in (BFD's answers to polls have a pace of their own).

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::bfd::Session;
use super::config::{Bfd, Liveness, MAX_GATEWAYS, MAX_ROUTES};
use super::endpoint::HopDown;
use crate::net::Timestamp;
use crate::net::random::Random;
use crate::wire::bfd::{HOP_LIMIT, PACKET_BYTES, State, parse};

mod damper;
mod probing;
#[cfg(test)]
mod tests;

use damper::Damper;
use probing::Probing;

/// Source ports of BFD (RFC 5881 section 4).
const FIRST_SOURCE_PORT: u16 = 49152;
const SOURCE_PORTS: u16 = u16::MAX - FIRST_SOURCE_PORT + 1;
/// From the first question to one hop to the first to the next, when the link comes up.
const STAGGER: Duration = Duration::from_millis(1);

/// All next hops of one port. After any `handle_*`, `start` or `stop`, drain [`Watch::poll_action`] (which is also what time does),
/// then [`Watch::poll_change`], and read [`Watch::poll_timeout`].
#[derive(Debug)]
pub struct Watch {
    /// Sorted by address.
    hops: Vec<Hop>,
    /// When each hop is to be looked at, by its place in `hops`.
    timers: BTreeSet<(Timestamp, u16)>,
    /// Those to be reported by `poll_change`, each once.
    changed: VecDeque<u16>,
    is_running: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WatchAction {
    /// An ARP request or a neighbour solicitation, to its hardware address if that is known, else to all.
    Probe(IpAddr),
    /// UDP to port 3784 with hop limit 255.
    Bfd { to: IpAddr, source_port: u16, payload: [u8; PACKET_BYTES] },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchStatus {
    pub is_alive: bool,
    /// Since it is alive, or not.
    pub since: Option<Timestamp>,
    /// "probes" or "BFD".
    pub watched_by: &'static str,
    /// The session's state.
    pub bfd: Option<&'static str>,
    /// It answers, but it came and went too often: it is not used before this.
    pub held_until: Option<Timestamp>,
}

#[derive(Debug)]
struct Hop {
    address: IpAddr,
    method: Method,
    /// After the link came up.
    delay: Duration,
    is_alive: bool,
    since: Option<Timestamp>,
    why_down: Option<HopDown>,
    damper: Damper,
    /// As in `timers`.
    due: Option<Timestamp>,
    is_change_queued: bool,
    was_alive_when_polled: bool,
}

#[derive(Debug)]
enum Method {
    Probes(Probing),
    Bfd { session: Box<Session>, source_port: u16 },
}

impl Watch {
    /// `hops`: those that matter most first. `random`: secret, except in a simulation.
    pub fn new(hops: &[IpAddr], liveness: Liveness, bfd: Option<Bfd>, random: &mut dyn Random) -> Self {
        let Some(bfd) = bfd else { return Watch::by_probes(hops, liveness) };
        let mut names = Names { random, taken: HashSet::new() };
        Watch::by(hops, || names.session(bfd))
    }

    pub fn by_probes(hops: &[IpAddr], liveness: Liveness) -> Self {
        Watch::by(hops, || Method::Probes(Probing::new(liveness)))
    }

    fn by(hops: &[IpAddr], mut method: impl FnMut() -> Method) -> Self {
        let mut watched: Vec<Hop> = Vec::new();
        let mut seen = HashSet::new();
        let once = hops.iter().filter(|hop| seen.insert(**hop));
        for (hop, place) in once.take(MAX_GATEWAYS + MAX_ROUTES).zip(0..) {
            watched.push(Hop::new(*hop, method(), STAGGER * place));
        }
        watched.sort_by_key(|hop| hop.address);
        Watch { hops: watched, timers: BTreeSet::new(), changed: VecDeque::new(), is_running: false }
    }

    /// The link is up. Nobody is alive before it has answered.
    pub fn start(&mut self, now: Timestamp) {
        if self.is_running {
            return;
        }
        self.is_running = true;
        for place in 0..self.hops.len() {
            let hop = &mut self.hops[place];
            hop.since = Some(now);
            match &mut hop.method {
                Method::Probes(probing) => probing.start(now + hop.delay),
                Method::Bfd { session, .. } => session.start(now + hop.delay),
            }
            self.settle(place, now);
        }
    }

    /// What is known of hops that another watch of this port had, too, goes on as it was: sessions, failures, what is not told yet.
    /// Both were made of the same settings, and both are running or neither. `before` keeps those that this one has not.
    pub fn take_over(&mut self, before: &mut Watch, now: Timestamp) {
        for place in 0..self.hops.len() {
            let Some(theirs) = before.place_of(self.hops[place].address) else { continue };
            std::mem::swap(&mut self.hops[place], &mut before.hops[theirs]);
            if let Some(due) = before.hops[theirs].due {
                self.timers.remove(&(due, place as u16));
            }
            let hop = &mut self.hops[place];
            if hop.is_change_queued {
                self.changed.push_back(place as u16);
            }
            hop.due = None;
            self.settle(place, now);
        }
    }

    /// The link is down, and nobody there: [`Watch::poll_change`] says so without a reason, as it is not theirs.
    pub fn stop(&mut self, now: Timestamp) {
        self.is_running = false;
        for place in 0..self.hops.len() {
            match &mut self.hops[place].method {
                Method::Probes(probing) => probing.stop(),
                Method::Bfd { session, .. } => session.stop(),
            }
            if self.hops[place].is_alive {
                self.mark(place, false, None, now);
            }
            self.settle(place, now);
        }
    }

    /// The port, or these hops of it, are about to be taken out of service: those who watch it by BFD are to be told (AdminDown) rather
    /// than left to find out. Each once.
    pub fn last_words(&mut self) -> Vec<WatchAction> {
        let words = |hop: &mut Hop| match &mut hop.method {
            Method::Probes(_) => None,
            Method::Bfd { session, source_port } => {
                let payload = session.last_words()?;
                Some(WatchAction::Bfd { to: hop.address, source_port: *source_port, payload })
            }
        };
        self.hops.iter_mut().filter_map(words).collect()
    }

    /// It answered ARP or a neighbour solicitation. Counts where it was asked, once a question.
    pub fn handle_heard(&mut self, hop: IpAddr, now: Timestamp) {
        let Some(place) = self.place_of(hop) else { return };
        if let Method::Probes(probing) = &mut self.hops[place].method {
            probing.handle_heard();
            self.settle(place, now);
        }
    }

    /// A datagram for BFD's port. `false`: it was nobody's, or not what it should be, and nothing has changed.
    pub fn handle_bfd(&mut self, from: IpAddr, hop_limit: u8, payload: &[u8], now: Timestamp) -> bool {
        // RFC 5881 section 5.
        if hop_limit != HOP_LIMIT {
            return false;
        }
        let Some(place) = self.place_of(from) else { return false };
        let (Method::Bfd { session, .. }, Some(packet)) = (&mut self.hops[place].method, parse(payload)) else {
            return false;
        };
        let is_taken = session.handle(&packet, now);
        self.settle(place, now);
        is_taken
    }

    /// What is to be sent now. Call it until there is nothing: it is also what lets time pass.
    pub fn poll_action(&mut self, now: Timestamp) -> Option<WatchAction> {
        while let Some(&(due, place)) = self.timers.first()
            && due <= now
        {
            let hop = &mut self.hops[usize::from(place)];
            let action = hop.act(now);
            self.settle(usize::from(place), now);
            if action.is_some() {
                return action;
            }
        }
        None
    }

    /// A hop that came or went, and why it went: `None` where it was the link.
    pub fn poll_change(&mut self) -> Option<(IpAddr, bool, Option<HopDown>)> {
        while let Some(place) = self.changed.pop_front() {
            let hop = &mut self.hops[usize::from(place)];
            hop.is_change_queued = false;
            if hop.was_alive_when_polled != hop.is_alive {
                hop.was_alive_when_polled = hop.is_alive;
                return Some((hop.address, hop.is_alive, hop.why_down));
            }
        }
        None
    }

    /// Whether it is watched by BFD.
    pub fn has_session(&self, hop: IpAddr) -> bool {
        self.place_of(hop).is_some_and(|place| matches!(self.hops[place].method, Method::Bfd { .. }))
    }

    /// Those of whom [`Watch::poll_change`] said last that they came.
    pub fn told_alive(&self) -> Vec<IpAddr> {
        self.hops.iter().filter(|hop| hop.was_alive_when_polled).map(|hop| hop.address).collect()
    }

    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.timers.first().map(|(due, _)| *due)
    }

    pub fn status(&self, hop: IpAddr) -> Option<WatchStatus> {
        self.place_of(hop).map(|place| self.hops[place].status())
    }

    fn place_of(&self, hop: IpAddr) -> Option<usize> {
        self.hops.binary_search_by_key(&hop, |hop| hop.address).ok()
    }

    /// Draws the consequences of whatever happened to a hop, and sets its timer.
    fn settle(&mut self, place: usize, now: Timestamp) {
        let hop = &mut self.hops[place];
        let answers = hop.method.answers();
        if answers && !hop.is_alive && !hop.damper.holds(now) {
            self.mark(place, true, None, now);
        } else if !answers && hop.is_alive {
            let why = hop.method.why_down();
            if why.is_some() {
                hop.damper.note_down(now);
            }
            self.mark(place, false, why, now);
        }
        let hop = &mut self.hops[place];
        let due = hop.next_due();
        if hop.due != due {
            if let Some(before) = hop.due {
                self.timers.remove(&(before, place as u16));
            }
            self.timers.extend(due.map(|due| (due, place as u16)));
            hop.due = due;
        }
    }

    fn mark(&mut self, place: usize, is_alive: bool, why_down: Option<HopDown>, now: Timestamp) {
        let hop = &mut self.hops[place];
        (hop.is_alive, hop.why_down, hop.since) = (is_alive, why_down, Some(now));
        if !hop.is_change_queued {
            hop.is_change_queued = true;
            self.changed.push_back(place as u16);
        }
    }
}

impl Hop {
    fn new(address: IpAddr, method: Method, delay: Duration) -> Self {
        Hop {
            address,
            method,
            delay,
            is_alive: false,
            since: None,
            why_down: None,
            damper: Damper::default(),
            due: None,
            is_change_queued: false,
            was_alive_when_polled: false,
        }
    }

    fn act(&mut self, now: Timestamp) -> Option<WatchAction> {
        let to = self.address;
        match &mut self.method {
            Method::Probes(probing) => probing.poll(now).then_some(WatchAction::Probe(to)),
            Method::Bfd { session, source_port } => {
                let source_port = *source_port;
                session.poll_transmit(now).map(|payload| WatchAction::Bfd { to, source_port, payload })
            }
        }
    }

    fn next_due(&self) -> Option<Timestamp> {
        let own = match &self.method {
            Method::Probes(probing) => probing.poll_timeout(),
            Method::Bfd { session, .. } => session.poll_timeout(),
        };
        [own, self.held_until()].into_iter().flatten().min()
    }

    fn held_until(&self) -> Option<Timestamp> {
        let is_held = self.method.answers() && !self.is_alive;
        self.damper.held_until().filter(|_| is_held)
    }

    fn status(&self) -> WatchStatus {
        let (watched_by, bfd) = match &self.method {
            Method::Probes(_) => ("probes", None),
            Method::Bfd { session, .. } => ("BFD", Some(session.state().name())),
        };
        WatchStatus { is_alive: self.is_alive, since: self.since, watched_by, bfd, held_until: self.held_until() }
    }
}

impl Method {
    fn answers(&self) -> bool {
        match self {
            Method::Probes(probing) => probing.answers(),
            Method::Bfd { session, .. } => session.state() == State::Up,
        }
    }

    fn why_down(&self) -> Option<HopDown> {
        match self {
            Method::Probes(_) => Some(HopDown::Silent),
            Method::Bfd { session, .. } => session.why_down(),
        }
    }
}

/// Discriminators and source ports, no number given twice: of neither are there too few for the hops of a port.
struct Names<'a> {
    random: &'a mut dyn Random,
    taken: HashSet<u32>,
}

impl Names<'_> {
    fn session(&mut self, bfd: Bfd) -> Method {
        let discriminator = self.unique(|draw| draw as u32);
        let source_port = self.unique(|draw| u32::from(FIRST_SOURCE_PORT + draw as u16 % SOURCE_PORTS)) as u16;
        let session = Box::new(Session::new(bfd, discriminator, self.random.u64()));
        Method::Bfd { session, source_port }
    }

    fn unique(&mut self, number: impl Fn(u64) -> u32) -> u32 {
        loop {
            let number = number(self.random.u64());
            if number != 0 && self.taken.insert(number) {
                return number;
            }
        }
    }
}
