//! A BFD session with one next hop: RFC 5880 in asynchronous mode, over a single hop as RFC 5881 has it.
//!
//! Neither demand mode nor echo is asked for, and there is no authentication: RFC 5881 section 5 puts the hop limit in its place,
//! which keeps out everybody who is not on the link. Who *is* on the link and sends in the hop's name has to name our
//! discriminator, which is random and which a switch shows to the hop alone. The one message that needs no such knowledge says "I am
//! down, and do not know you"; it ends no session, and keeps none from coming up.

use std::time::Duration;

use super::bucket::Bucket;
use super::config::Bfd;
use super::endpoint::HopDown;
use crate::net::Timestamp;
use crate::net::random::{Random, Seeded};
use crate::wire::bfd::{Control, Diagnostic, PACKET_BYTES, State};

#[cfg(test)]
mod tests;

/// While a session is not up nobody sends more often (RFC 5880 section 6.8.3).
pub const SLOW_INTERVAL: Duration = Duration::from_secs(1);
const SLOW_US: u32 = SLOW_INTERVAL.as_micros() as u32;
/// Between two packets of which one is not a periodic one: who polls, or changes its mind, at line rate is not answered at line rate.
const GAP: Duration = Duration::from_millis(10);
/// Packets of a session that are looked at in the time in which the hop may send one; it answers polls besides.
const PACKETS_PER_INTERVAL: u32 = 4;
const MIN_PACKETS_PER_SEC: u32 = 20;
const PACKETS_BURST: u32 = 20;
/// So long who calls without naming us may take to show that he hears us ...
const CALLER_US: u32 = 3 * SLOW_US;
/// ... and for so long after that nobody else is believed to be the hop who does not name us.
const CALLING: Duration = Duration::from_secs(5);
/// Shorter ones are taken for this.
const MIN_INTERVAL_US: u32 = 1_000;

/// State variables of RFC 5880 section 6.8.1.
#[derive(Debug)]
pub struct Session {
    is_active: bool,
    /// Both bfd.DesiredMinTxInterval, once it is up, and bfd.RequiredMinRxInterval.
    interval_us: u32,
    multiplier: u8,
    discriminator: u32,
    state: State,
    diagnostic: Diagnostic,
    remote: Remote,
    /// A poll sequence is under way.
    is_polling: bool,
    /// A poll is to be answered.
    owes_final: bool,
    /// What would be sent differs from what was sent last.
    is_news: bool,
    /// `None`: stopped.
    started_at: Option<Timestamp>,
    sent_at: Option<Timestamp>,
    /// The last packet that was not sent between others, and how much of the interval is waited after it.
    periodic_at: Option<Timestamp>,
    jitter_permille: u32,
    heard_at: Option<Timestamp>,
    /// Until then it is only called, by packets without its discriminator.
    calls_until: Option<Timestamp>,
    /// Of packets that name our discriminator.
    limit: Bucket,
    /// Of the jitter.
    random: Seeded,
}

/// What the other side said last.
#[derive(Clone, Copy, Debug)]
struct Remote {
    /// 0: nothing is known.
    discriminator: u32,
    state: State,
    multiplier: u8,
    desired_min_tx_us: u32,
    required_min_rx_us: u32,
    is_demand: bool,
}

impl Remote {
    const UNKNOWN: Remote = Remote {
        discriminator: 0,
        state: State::Down,
        multiplier: 0,
        desired_min_tx_us: 0,
        required_min_rx_us: 1,
        is_demand: false,
    };

    /// Who has not shown yet that he hears us.
    fn caller(packet: &Control) -> Self {
        Remote {
            discriminator: packet.my_discriminator,
            state: packet.state,
            multiplier: 1,
            desired_min_tx_us: CALLER_US,
            ..Remote::UNKNOWN
        }
    }
}

impl Session {
    /// `discriminator`: not 0, no other session's, and not to be guessed. `seed`: of the jitter, no secret.
    pub fn new(config: Bfd, discriminator: u32, seed: u64) -> Self {
        let interval_us = u32::try_from(config.interval.as_micros()).unwrap_or(u32::MAX).max(MIN_INTERVAL_US);
        let packets_per_sec = (1_000_000 / interval_us * PACKETS_PER_INTERVAL).max(MIN_PACKETS_PER_SEC);
        Session {
            is_active: config.is_active,
            interval_us,
            multiplier: config.multiplier.max(1),
            discriminator,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            remote: Remote::UNKNOWN,
            is_polling: false,
            owes_final: false,
            is_news: false,
            started_at: None,
            sent_at: None,
            periodic_at: None,
            jitter_permille: 1000,
            heard_at: None,
            calls_until: None,
            limit: Bucket::new(packets_per_sec, PACKETS_BURST),
            random: Seeded(seed),
        }
    }

    /// The link is up: from `at` on there may be packets.
    pub fn start(&mut self, at: Timestamp) {
        self.forget();
        (self.state, self.started_at) = (State::Down, Some(at));
        (self.sent_at, self.periodic_at, self.calls_until) = (None, None, None);
    }

    /// The link is down, which the other side is told when there is one again.
    pub fn stop(&mut self) {
        self.forget();
        (self.state, self.started_at) = (State::Down, None);
        self.diagnostic = Diagnostic::PATH_DOWN;
    }

    /// Tells the other side, until it is stopped, that nothing is to be expected from here any more.
    pub fn retire(&mut self) {
        if self.started_at.is_some() {
            self.enter(State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN);
        }
    }

    /// [`Session::retire`], and what is to be said of it now whatever was said just before. `None`: nobody is there to be told, or
    /// has been told.
    pub fn last_words(&mut self) -> Option<[u8; PACKET_BYTES]> {
        if self.started_at.is_none() || self.remote.discriminator == 0 || self.state == State::AdminDown {
            return None;
        }
        self.retire();
        Some(self.packet(false).emit())
    }

    /// Takes a packet that came from the hop itself, as [`crate::wire::bfd::parse`] read it. Whether it was for this session.
    pub fn handle(&mut self, packet: &Control, now: Timestamp) -> bool {
        match packet.your_discriminator {
            _ if self.started_at.is_none() => false,
            0 => self.handle_call(packet, now),
            ours => ours == self.discriminator && self.limit.take(now) && self.handle_own(packet, now),
        }
    }

    /// It names our discriminator: whoever sent it hears us.
    fn handle_own(&mut self, packet: &Control, now: Timestamp) -> bool {
        self.remote = Remote {
            discriminator: packet.my_discriminator,
            state: packet.state,
            multiplier: packet.multiplier,
            desired_min_tx_us: packet.desired_min_tx_us,
            required_min_rx_us: packet.required_min_rx_us,
            is_demand: packet.is_demand,
        };
        self.is_polling &= !packet.is_final;
        if self.state == State::AdminDown {
            return false;
        }
        self.follow(packet.state);
        self.owes_final |= packet.is_poll;
        (self.heard_at, self.calls_until) = (Some(now), None);
        true
    }

    /// "I am down, and do not know you": anybody on the link can write that. Of a session that is up it changes nothing: a hop that
    /// does not hear us any more, or was started anew, ends that by its silence, a detection time later. Of one that is not,
    /// it is believed once as to who calls, not as to how often we may speak, and for no longer than [`CALLER_US`]; when another
    /// one calls meanwhile, neither is believed.
    fn handle_call(&mut self, packet: &Control, now: Timestamp) -> bool {
        if matches!(self.state, State::Up | State::AdminDown) || self.calls_until.is_some_and(|until| now < until) {
            return false;
        }
        match self.remote.discriminator {
            0 => {
                (self.remote, self.heard_at) = (Remote::caller(packet), Some(now));
                self.follow(packet.state);
                self.owes_final |= packet.is_poll;
            }
            known if known == packet.my_discriminator => return false,
            _ => self.call(now),
        }
        true
    }

    /// For a while others are not listened to who do not name our discriminator. The hop can, once it has heard ours.
    fn call(&mut self, now: Timestamp) {
        self.forget();
        if self.state == State::Init {
            self.enter(State::Down, self.diagnostic);
        }
        self.calls_until = Some(now + CALLING);
    }

    /// The state machine of section 6.8.6, for a state received.
    fn follow(&mut self, received: State) {
        match (self.state, received) {
            (State::Down, State::Down) => self.enter(State::Init, self.diagnostic),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                self.enter(State::Up, Diagnostic::NONE);
            }
            (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => {
                self.enter(State::Down, Diagnostic::NEIGHBOR_SIGNALED_DOWN);
            }
            _ => {}
        }
    }

    fn enter(&mut self, state: State, diagnostic: Diagnostic) {
        let before = self.desired_min_tx_us();
        (self.state, self.diagnostic, self.is_news) = (state, diagnostic, true);
        // Section 6.8.3: the other side is to know the new interval.
        self.is_polling |= self.desired_min_tx_us() != before && self.remote.discriminator != 0;
    }

    /// A packet that is due, and the end of the detection time. Call it until there is none.
    pub fn poll_transmit(&mut self, now: Timestamp) -> Option<[u8; PACKET_BYTES]> {
        if self.detection_due().is_some_and(|due| due <= now) {
            self.expire(now);
        }
        self.calls_until = self.calls_until.filter(|until| now < *until);
        if self.transmit_due()? > now {
            return None;
        }
        let is_final = self.owes_final;
        if !is_final || self.periodic_due().is_some_and(|due| due <= now) {
            self.periodic_at = Some(now);
            // Section 6.8.7: up to a quarter is taken off, and at least a tenth where one lost packet decides.
            let spread = if self.multiplier == 1 { 151 } else { 251 };
            self.jitter_permille = 750 + (self.random.u64() % spread) as u32;
        }
        self.sent_at = Some(now);
        (self.owes_final, self.is_news) = (false, false);
        Some(self.packet(is_final).emit())
    }

    fn packet(&self, is_final: bool) -> Control {
        Control {
            diagnostic: self.diagnostic,
            state: self.state,
            is_poll: self.is_polling && !is_final,
            is_final,
            is_control_plane_independent: false,
            is_demand: false,
            multiplier: self.multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx_us: self.desired_min_tx_us(),
            required_min_rx_us: self.interval_us,
            required_min_echo_rx_us: 0,
        }
    }

    pub fn poll_timeout(&self) -> Option<Timestamp> {
        [self.transmit_due(), self.detection_due()].into_iter().flatten().min()
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// Why it is not up any more, where the other side is why.
    pub fn why_down(&self) -> Option<HopDown> {
        match self.diagnostic {
            Diagnostic::DETECTION_TIME_EXPIRED => Some(HopDown::BfdTimeout),
            Diagnostic::NEIGHBOR_SIGNALED_DOWN => Some(HopDown::BfdRemote),
            _ => None,
        }
    }

    /// Nothing came for the detection time: section 6.8.4, and bfd.RemoteDiscr in section 6.8.1.
    fn expire(&mut self, now: Timestamp) {
        let is_unanswered = self.state != State::Up;
        self.forget();
        if is_unanswered {
            self.calls_until = Some(now + CALLING);
        }
        if matches!(self.state, State::Init | State::Up) {
            self.enter(State::Down, Diagnostic::DETECTION_TIME_EXPIRED);
        }
    }

    fn forget(&mut self) {
        (self.remote, self.heard_at) = (Remote::UNKNOWN, None);
        (self.is_polling, self.owes_final) = (false, false);
    }

    fn desired_min_tx_us(&self) -> u32 {
        if self.state == State::Up { self.interval_us } else { self.interval_us.max(SLOW_US) }
    }

    fn transmit_due(&self) -> Option<Timestamp> {
        let started_at = self.started_at?;
        // Section 6.8.7: the passive side waits to be spoken to.
        if !self.is_active && self.remote.discriminator == 0 && self.calls_until.is_none() {
            return None;
        }
        let is_between = self.owes_final || self.is_news && self.sent_at.is_some();
        let between = is_between.then(|| self.sent_at.map_or(started_at, |sent_at| sent_at + GAP));
        [between, self.periodic_due()].into_iter().flatten().min()
    }

    fn periodic_due(&self) -> Option<Timestamp> {
        let is_demanded = self.remote.is_demand && self.state == State::Up && self.remote.state == State::Up;
        if self.remote.required_min_rx_us == 0 || is_demanded && !self.is_polling {
            return None;
        }
        let Some(at) = self.periodic_at else { return self.started_at };
        // Section 6.8.2.
        let interval_us = u64::from(self.desired_min_tx_us().max(self.remote.required_min_rx_us));
        Some(at + Duration::from_micros(interval_us * u64::from(self.jitter_permille) / 1000))
    }

    /// Section 6.8.4: as often as the other side says it may miss, what it sends or what we can take, whichever is slower.
    fn detection_due(&self) -> Option<Timestamp> {
        let interval_us = u64::from(self.interval_us.max(self.remote.desired_min_tx_us));
        Some(self.heard_at? + Duration::from_micros(interval_us * u64::from(self.remote.multiplier)))
    }
}
