//! What is known of one neighbour, how much that is worth, and what it is found by.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use crate::net::{Mac, RealmId, Timestamp};

/// REACHABLE_TIME; between half and one and a half of it, as section 6.3.2 has it.
const REACHABLE_SECS: u64 = 30;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Nothing is known, and nobody has been asked yet.
    Unasked,
    Incomplete {
        asked: u8,
    },
    Reachable,
    Stale,
    Delay,
    Probe {
        asked: u8,
    },
    /// Nobody answered.
    Failed,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub address: IpAddr,
    pub mac: Mac,
    pub state: State,
    pub is_pinned: bool,
    /// Where it is was said by an answer to us, not only by a question of its own.
    pub has_answered: bool,
    /// While all of the link is being asked: in whose share. Next hops are in nobody's.
    pub asker: Option<RealmId>,
    /// By a packet of ours.
    pub last_used: Option<Timestamp>,
    pub changed_at: Timestamp,
    /// We have asked, and an answer until then is one to us.
    pub awaited_until: Option<Timestamp>,
    pub doubted_at: Option<Timestamp>,
    pub doubt: Option<Doubt>,
    /// When it was told last that two answer for it.
    pub contested_at: Option<Timestamp>,
}

/// All of the link has been asked whether an address has moved.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Doubt {
    /// Who else answered, first.
    pub other: Option<Mac>,
    /// It answered from where we thought.
    pub is_refuted: bool,
    /// While all of the link was being asked, it was said once more that the address is elsewhere.
    pub is_claimed_again: bool,
}

/// Who makes room first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Rank {
    Failed,
    NeverUsed,
    Incomplete,
    Used,
}

impl Entry {
    pub fn has_mac(&self) -> bool {
        !matches!(self.state, State::Unasked | State::Incomplete { .. } | State::Failed)
    }

    /// By asking for us, where nothing is known of it: not a next hop, and not while all of the link is being asked.
    pub fn may_make_itself_known(&self) -> bool {
        !self.is_pinned && matches!(self.state, State::Unasked | State::Failed)
    }

    /// `None`: all of the link, so that whoever else has the address is heard, too.
    pub fn mac_to_ask(&self) -> Option<Mac> {
        self.has_answered.then_some(self.mac)
    }

    pub fn rank(&self) -> Rank {
        match self.state {
            State::Failed | State::Unasked => Rank::Failed,
            State::Incomplete { .. } => Rank::Incomplete,
            _ if self.last_used.is_none() => Rank::NeverUsed,
            _ => Rank::Used,
        }
    }

    pub fn seen_at(&self) -> Timestamp {
        self.last_used.unwrap_or(self.changed_at)
    }
}

/// Spread, so that not all are asked at once.
pub(super) fn reachable_time(address: IpAddr, now: Timestamp) -> Duration {
    let spread = (key(address) as u64 ^ now.as_micros()) % (REACHABLE_SECS * 1000);
    Duration::from_millis(REACHABLE_SECS * 500 + spread)
}

/// IPv4 lies where IPv6 has groups, which are nobody's neighbours.
pub(super) fn key(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => 0xff << 120 | u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Multiplies halves of the key with halves of a secret: quick, and outsiders cannot foresee what collides.
#[derive(Clone, Copy)]
pub(super) struct Seed(pub u64);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed")
    }
}

impl BuildHasher for Seed {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(self.0)
    }
}

pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u128(u128::from(*byte)));
    }

    #[inline]
    fn write_u128(&mut self, key: u128) {
        let half = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            product as u64 ^ (product >> 64) as u64
        };
        let mixed = half(key as u64 ^ self.0, (key >> 64) as u64 ^ 0x9e37_79b9_7f4a_7c15);
        self.0 = half(mixed ^ self.0.rotate_left(32), 0xbf58_476d_1ce4_e5b9);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
