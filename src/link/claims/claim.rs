//! One address, from the first probe to the defence.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::{AddressStatus, ClaimAction, ClaimEvent, Sighting};
use crate::net::random::{Random, Seeded};
use crate::net::{Mac, Timestamp};

/// RFC 5227 section 1.1, the first and the following also for unsolicited neighbour advertisements (RFC 4861 section 7.2.6 allows
/// three, a second apart).
pub const ANNOUNCE_NUM: u8 = 2;
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// How long an address that somebody else has is left alone. It stands for RFC 5227's RATE_LIMIT_INTERVAL, from the first
/// conflict on instead of the tenth.
pub const HOLD_DOWN: Duration = Duration::from_secs(60);

/// RFC 4862 section 5.1 and RFC 4861 section 10: DupAddrDetectTransmits, and RetransTimer, which is waited for an answer.
const DAD_TRANSMITS: u8 = 1;
const RETRANS_TIMER: Duration = Duration::from_secs(1);

/// IPv4 probes. Waits are drawn evenly from their range.
#[derive(Debug)]
pub(super) struct Timing {
    /// Before the first probe, at most. IPv6 waits for the same before its solicitation (RFC 4862 section 5.4.2).
    wait_max: Duration,
    probes: u8,
    probe_min: Duration,
    probe_max: Duration,
    /// After the last probe.
    announce_wait: Duration,
}

/// See the module above for why.
pub(super) const LINK_UP: Timing = Timing {
    wait_max: Duration::from_millis(200),
    probes: 3,
    probe_min: Duration::from_millis(200),
    probe_max: Duration::from_millis(400),
    announce_wait: Duration::from_millis(500),
};

/// RFC 5227 section 1.1.
pub(super) const AFTER_CONFLICT: Timing = Timing {
    wait_max: Duration::from_secs(1),
    probes: 3,
    probe_min: Duration::from_secs(1),
    probe_max: Duration::from_secs(2),
    announce_wait: Duration::from_secs(2),
};

impl Timing {
    /// Until an address is ours when nobody objects, at most.
    pub fn longest(&self) -> Duration {
        let probes = self.probe_max * u32::from(self.probes - 1) + self.announce_wait;
        self.wait_max + probes.max(RETRANS_TIMER * u32::from(DAD_TRANSMITS))
    }

    pub fn wait(&self, random: &mut Seeded) -> Duration {
        between(Duration::ZERO, self.wait_max, random)
    }
}

#[derive(Debug)]
pub(super) struct Claim {
    net: IpNet,
    state: State,
    /// The hardware address with which it was ours last, and nobody has it since.
    held_with: Option<Mac>,
    defended_at: Option<Timestamp>,
    told: Told,
    /// At most one: the latest says how it is.
    event: Option<ClaimEvent>,
}

/// What has been said about it in events.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    is_claimed: bool,
    duplicate_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The link is down.
    Idle,
    Probing {
        timing: &'static Timing,
        sent: u8,
        at: Timestamp,
        /// It was ours before the link went down.
        is_used: bool,
    },
    Ours {
        announcements_left: u8,
        at: Timestamp,
    },
    Duplicate {
        other: Mac,
        until: Timestamp,
    },
}

impl Claim {
    pub fn new(net: IpNet) -> Self {
        Claim { net, state: State::Idle, held_with: None, defended_at: None, told: Told::default(), event: None }
    }

    pub fn net(&self) -> &IpNet {
        &self.net
    }

    pub fn address(&self) -> IpAddr {
        self.net.addr()
    }

    pub fn is_ours(&self) -> bool {
        matches!(self.state, State::Ours { .. } | State::Probing { is_used: true, .. })
    }

    /// Probes begin at `at`.
    pub fn start(&mut self, mac: Mac, now: Timestamp, at: Timestamp) {
        let is_used = self.held_with == Some(mac);
        self.state = State::Probing { timing: &LINK_UP, sent: 0, at: at.max(now), is_used };
        self.defended_at = None;
    }

    pub fn stop(&mut self) {
        self.state = State::Idle;
    }

    pub fn handle_sighting(&mut self, other: Mac, sighting: Sighting, now: Timestamp) {
        match (self.state, sighting) {
            (State::Idle, _) => {}
            // Who asks for what is ours is answered like everybody who asks.
            (State::Ours { .. } | State::Probing { is_used: true, .. }, Sighting::Probe) => {}
            (State::Ours { announcements_left, .. }, Sighting::Use) if self.may_defend(now) => {
                self.defended_at = Some(now);
                self.state = State::Ours { announcements_left: announcements_left.max(1), at: now };
            }
            (State::Ours { .. } | State::Probing { .. }, _) => self.give_up(other, now),
            (State::Duplicate { until, .. }, _) => self.state = State::Duplicate { other, until },
        }
    }

    /// RFC 5227 section 2.4 (b): once in an interval.
    fn may_defend(&self, now: Timestamp) -> bool {
        self.defended_at.is_none_or(|at| now.saturating_since(at) >= DEFEND_INTERVAL)
    }

    fn give_up(&mut self, other: Mac, now: Timestamp) {
        self.state = State::Duplicate { other, until: now + HOLD_DOWN };
        self.held_with = None;
        // Only a link that flaps brings a conflict sooner than a hold-down after the last.
        if self.told.duplicate_at.is_none_or(|at| now.saturating_since(at) >= HOLD_DOWN) {
            self.told = Told { is_claimed: false, duplicate_at: Some(now) };
            self.event = Some(ClaimEvent::Duplicate(self.address(), other));
        }
    }

    /// What is due. Waits count from `now`, so that who polls late does not send in bursts.
    pub fn step(&mut self, mac: Mac, now: Timestamp, random: &mut Seeded) -> Option<ClaimAction> {
        if self.deadline().is_none_or(|at| at > now) {
            return None;
        }
        match self.state {
            State::Probing { timing, sent, is_used, .. } if sent < self.probes(timing) => {
                let sent = sent + 1;
                let at = now + self.wait_after_probe(timing, sent, random);
                self.state = State::Probing { timing, sent, at, is_used };
                Some(match self.address() {
                    IpAddr::V4(address) => ClaimAction::ArpProbe(address),
                    IpAddr::V6(address) => ClaimAction::DadSolicit(address),
                })
            }
            State::Probing { .. } => {
                self.held_with = Some(mac);
                if !self.told.is_claimed {
                    self.told.is_claimed = true;
                    self.event = Some(ClaimEvent::Claimed(self.address()));
                }
                Some(self.announce(ANNOUNCE_NUM, now))
            }
            State::Ours { announcements_left, .. } => Some(self.announce(announcements_left, now)),
            State::Duplicate { .. } => {
                let at = now + AFTER_CONFLICT.wait(random);
                self.state = State::Probing { timing: &AFTER_CONFLICT, sent: 0, at, is_used: false };
                None
            }
            State::Idle => None,
        }
    }

    fn probes(&self, timing: &Timing) -> u8 {
        if self.address().is_ipv4() { timing.probes } else { DAD_TRANSMITS }
    }

    fn wait_after_probe(&self, timing: &Timing, sent: u8, random: &mut Seeded) -> Duration {
        match self.address() {
            IpAddr::V6(_) => RETRANS_TIMER,
            IpAddr::V4(_) if sent < timing.probes => between(timing.probe_min, timing.probe_max, random),
            IpAddr::V4(_) => timing.announce_wait,
        }
    }

    fn announce(&mut self, announcements_left: u8, now: Timestamp) -> ClaimAction {
        self.state = State::Ours { announcements_left: announcements_left - 1, at: now + ANNOUNCE_INTERVAL };
        match self.address() {
            IpAddr::V4(address) => ClaimAction::ArpAnnounce(address),
            IpAddr::V6(address) => ClaimAction::Advertise(address),
        }
    }

    pub fn poll_event(&mut self) -> Option<ClaimEvent> {
        self.event.take()
    }

    pub fn deadline(&self) -> Option<Timestamp> {
        match self.state {
            State::Idle | State::Ours { announcements_left: 0, .. } => None,
            State::Probing { at, .. } | State::Ours { at, .. } => Some(at),
            State::Duplicate { until, .. } => Some(until),
        }
    }

    pub fn status(&self) -> AddressStatus {
        let (state, other) = match self.state {
            State::Duplicate { other, .. } => ("duplicate", Some(other)),
            _ if self.is_ours() => ("ours", None),
            _ => ("probing", None),
        };
        AddressStatus { address: self.address(), state, other }
    }
}

fn between(least: Duration, most: Duration, random: &mut Seeded) -> Duration {
    let span = (most - least).as_micros() as u64;
    least + Duration::from_micros(random.u64() % (span + 1))
}
