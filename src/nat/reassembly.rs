//! Reassembly of the fragments that come out of the tunnels (RFC 791 section 3.2, RFC 8200 section 4.5): grants are about
//! ports, and only a whole datagram has them.
//!
//! ```text
//! handle_fragment --> Dropped
//!                 --> Kept     waits for the others .... handle_timeout --> poll_loss
//!                 --> Whole    --> poll_whole
//!                 --> Atomic   is whole already (RFC 6946), and never meets another fragment
//! ```
//!
//! - A datagram is known by realm, source, destination, identification and, of IPv4, protocol. Realms may share all the
//!   others.
//! - What overlaps is hostile: the whole datagram is dropped, and so is what comes of it afterwards until its time is up
//!   (RFC 5722, here for both families). The same fragment twice is a duplicate, and only that.
//! - Tiny fragments (RFC 1858, RFC 3128, RFC 7112) are dropped, although a reassembler is not deceived by them: what is
//!   behind us might be.
//! - Memory is bounded as a whole and per realm. When a realm's share is used up, or all memory is, the oldest datagram *of
//!   the same realm* makes room. Nobody else's does.
//!
//! Pure: no clock or randomness of its own. After any `handle_*`, drain [`Reassembler::poll_whole`], then
//! [`Reassembler::poll_loss`], then read [`Reassembler::poll_timeout`].

mod datagram;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use foldhash::fast::FixedState;

use self::datagram::{DATAGRAM_COST_BYTES, Datagram, cost_of};
use crate::net::policy::protocol;
use crate::net::{RealmId, Timestamp, TunnelId};
use crate::packet::{DropReason, Reassembled};
use crate::wire::fragment::Fragment;
use crate::wire::{checksum, icmp, ipv6, tcp, udp};

/// RFC 791 suggests 15 s, and RFC 4963 warns of more: identifications come again within seconds. RFC 4787 leaves it open.
const IPV4_TIMEOUT: Duration = Duration::from_secs(30);
/// RFC 8200 section 4.5.
const IPV6_TIMEOUT: Duration = Duration::from_secs(60);
/// Every link carries 68 bytes (RFC 791 section 3.2), so of all fragments only the last is shorter, but for what is lost
/// to rounding.
const MIN_IPV4_FRAGMENT_BYTES: usize = 68 - 7;
/// RFC 1858 section 3.2.1: ports, sequence numbers and flags.
const MIN_TCP_BYTES: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Memory in all, bytes, tables included ...
    pub bytes: usize,
    /// ... and of one realm.
    pub bytes_per_realm: usize,
    pub datagrams_per_realm: usize,
    pub fragments_per_datagram: usize,
}

/// What became of a fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Kept,
    /// It completed a datagram, which [`Reassembler::poll_whole`] gives.
    Whole,
    /// It is a whole datagram by itself: see [`unwrap_atomic`](crate::wire::fragment::unwrap_atomic).
    Atomic,
    Dropped(DropReason),
}

/// A datagram whose fragments have all come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Whole {
    pub realm: RealmId,
    /// The tunnel that the last of them came by.
    pub tunnel: TunnelId,
    pub len: usize,
    pub fragments: usize,
    pub reassembled: Reassembled,
}

/// Fragments that had been kept and will never be a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loss {
    pub realm: RealmId,
    pub reason: DropReason,
    pub fragments: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    realm: RealmId,
    source: IpAddr,
    destination: IpAddr,
    /// IPv4 only. Fragments of one IPv6 datagram may differ in what they say comes next.
    protocol: u8,
    identification: u32,
}

impl Key {
    fn of(realm: RealmId, fragment: &Fragment) -> Self {
        let Fragment { source, destination, identification, .. } = *fragment;
        let protocol = if fragment.is_v6() { 0 } else { fragment.protocol };
        Key { realm, source, destination, protocol, identification }
    }
}

/// What one realm holds.
#[derive(Default)]
struct Share {
    bytes: usize,
    /// Its datagrams by age.
    order: BTreeMap<u64, Key>,
}

struct Complete {
    realm: RealmId,
    tunnel: TunnelId,
    datagram: Datagram,
}

pub struct Reassembler {
    limits: Limits,
    datagrams: HashMap<Key, Datagram, FixedState>,
    shares: BTreeMap<RealmId, Share>,
    deadlines: BTreeMap<(Timestamp, u64), Key>,
    bytes: usize,
    next_serial: u64,
    complete: VecDeque<Complete>,
    losses: VecDeque<Loss>,
}

impl Reassembler {
    /// `seed`: random and secret, keys the table.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Reassembler {
            limits,
            datagrams: HashMap::with_hasher(FixedState::with_seed(seed)),
            shares: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            bytes: 0,
            next_serial: 0,
            complete: VecDeque::new(),
            losses: VecDeque::new(),
        }
    }

    /// A packet with [`parse`](crate::wire::fragment::parse)'s word that it is a fragment. The source is known to belong to the realm.
    pub fn handle_fragment(
        &mut self,
        realm: RealmId,
        tunnel: TunnelId,
        fragment: &Fragment,
        packet: &[u8],
        now: Timestamp,
    ) -> Outcome {
        self.handle_timeout(now);
        let packet = &packet[..fragment.total_bytes];
        if let Err(reason) = check(fragment, packet) {
            return Outcome::Dropped(reason);
        }
        if fragment.is_atomic() {
            return Outcome::Atomic;
        }
        let key = Key::of(realm, fragment);
        match self.store(key, fragment, packet, now) {
            Ok(false) => Outcome::Kept,
            Ok(true) => {
                self.finish(&key, tunnel);
                Outcome::Whole
            }
            Err(reason) => Outcome::Dropped(reason),
        }
    }

    /// Gives up what has waited too long.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some((_, key)) = self.deadlines.first_key_value().filter(|((deadline, _), _)| *deadline <= now) {
            let key = *key;
            self.give_up(&key, DropReason::FragmentTimeout);
        }
    }

    /// The next whole datagram, written into `out` ([`MAX_DATAGRAM_BYTES`](crate::packet::reassembled::MAX_DATAGRAM_BYTES)).
    pub fn poll_whole(&mut self, out: &mut [u8]) -> Option<Whole> {
        let Complete { realm, tunnel, datagram } = self.complete.pop_front()?;
        self.release(realm, datagram.cost_bytes);
        let (len, fragments) = (datagram.assemble(out), datagram.fragments());
        Some(Whole { realm, tunnel, len, fragments, reassembled: datagram.summary() })
    }

    pub fn poll_loss(&mut self) -> Option<Loss> {
        self.losses.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        self.deadlines.first_key_value().map(|((deadline, _), _)| (*deadline, "fragments wait too long"))
    }

    /// Memory in use, by the measure of [`Limits::bytes`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Datagrams that wait for fragments.
    pub fn datagrams(&self) -> usize {
        self.datagrams.len()
    }

    /// Puts a fragment where it belongs. `true`: its datagram is complete.
    fn store(&mut self, key: Key, fragment: &Fragment, packet: &[u8], now: Timestamp) -> Result<bool, DropReason> {
        let payload = &packet[fragment.payload_at..];
        let place = match self.datagrams.get(&key) {
            None => 0,
            Some(datagram) => match self.place(datagram, fragment, payload) {
                Err(DropReason::FragmentDuplicate) => return Err(DropReason::FragmentDuplicate),
                Err(reason) => return Err(self.refuse(&key, reason)),
                Ok(place) => place,
            },
        };
        self.make_room(&key, cost_of(fragment))?;
        let datagram = match self.datagrams.get_mut(&key) {
            Some(datagram) => datagram,
            None => self.begin(key, fragment, now),
        };
        datagram.insert(place, fragment, packet);
        let (is_complete, is_valid) = (datagram.is_complete(), datagram.is_valid());
        self.charge(key.realm, cost_of(fragment));
        match is_complete {
            true if !is_valid => Err(self.refuse_with_latest(&key, DropReason::FragmentInvalid)),
            is_complete => Ok(is_complete),
        }
    }

    fn place(&self, datagram: &Datagram, fragment: &Fragment, payload: &[u8]) -> Result<usize, DropReason> {
        if let Some(reason) = datagram.refused() {
            return Err(reason);
        }
        let place = datagram.place(fragment, payload)?;
        match datagram.fragments() < self.limits.fragments_per_datagram {
            true => Ok(place),
            false => Err(DropReason::TooManyFragments),
        }
    }

    fn begin(&mut self, key: Key, fragment: &Fragment, now: Timestamp) -> &mut Datagram {
        let serial = self.next_serial;
        self.next_serial += 1;
        let deadline = now + if fragment.is_v6() { IPV6_TIMEOUT } else { IPV4_TIMEOUT };
        self.deadlines.insert((deadline, serial), key);
        self.shares.entry(key.realm).or_default().order.insert(serial, key);
        self.charge(key.realm, DATAGRAM_COST_BYTES);
        self.datagrams.entry(key).or_insert(Datagram::new(serial, deadline, fragment.identification))
    }

    /// Makes room for a fragment of the datagram `key` by giving up the oldest others of its realm.
    fn make_room(&mut self, key: &Key, mut cost_bytes: usize) -> Result<(), DropReason> {
        let is_new = !self.datagrams.contains_key(key);
        cost_bytes += if is_new { DATAGRAM_COST_BYTES } else { 0 };
        loop {
            let empty = Share::default();
            let share = self.shares.get(&key.realm).unwrap_or(&empty);
            let over_share = share.bytes + cost_bytes > self.limits.bytes_per_realm
                || (is_new && share.order.len() >= self.limits.datagrams_per_realm);
            if !over_share && self.bytes + cost_bytes <= self.limits.bytes {
                return Ok(());
            }
            let reason = match over_share {
                true => DropReason::ReassemblyQuotaExceeded,
                false => DropReason::ReassemblyFull,
            };
            let oldest = share.order.values().find(|other| *other != key).copied().ok_or(reason)?;
            self.give_up(&oldest, reason);
        }
    }

    /// Refuses a datagram and what has come of it; it stays, so that what comes later is refused too.
    fn refuse(&mut self, key: &Key, reason: DropReason) -> DropReason {
        let Some(datagram) = self.datagrams.get_mut(key) else { return reason };
        let before_bytes = datagram.cost_bytes;
        let fragments = datagram.refuse(reason);
        let freed_bytes = before_bytes - datagram.cost_bytes;
        self.release(key.realm, freed_bytes);
        self.lose(key.realm, reason, fragments);
        reason
    }

    /// The same where the latest fragment is among those that are let go: it has an outcome of its own.
    fn refuse_with_latest(&mut self, key: &Key, reason: DropReason) -> DropReason {
        self.refuse(key, reason);
        if let Some(loss) = self.losses.back_mut() {
            loss.fragments -= 1;
        }
        reason
    }

    fn give_up(&mut self, key: &Key, reason: DropReason) {
        let Some(datagram) = self.remove(key) else { return };
        self.release(key.realm, datagram.cost_bytes);
        self.lose(key.realm, reason, datagram.fragments());
    }

    /// It stays charged until it is polled.
    fn finish(&mut self, key: &Key, tunnel: TunnelId) {
        let Some(datagram) = self.remove(key) else { return };
        self.complete.push_back(Complete { realm: key.realm, tunnel, datagram });
    }

    fn remove(&mut self, key: &Key) -> Option<Datagram> {
        let datagram = self.datagrams.remove(key)?;
        self.deadlines.remove(&(datagram.deadline, datagram.serial));
        if let Some(share) = self.shares.get_mut(&key.realm) {
            share.order.remove(&datagram.serial);
        }
        Some(datagram)
    }

    fn lose(&mut self, realm: RealmId, reason: DropReason, fragments: usize) {
        if fragments > 0 {
            self.losses.push_back(Loss { realm, reason, fragments });
        }
    }

    fn charge(&mut self, realm: RealmId, bytes: usize) {
        self.bytes += bytes;
        self.shares.entry(realm).or_default().bytes += bytes;
    }

    fn release(&mut self, realm: RealmId, bytes: usize) {
        self.bytes -= bytes;
        if let Some(share) = self.shares.get_mut(&realm) {
            share.bytes -= bytes;
            if share.bytes == 0 {
                self.shares.remove(&realm);
            }
        }
    }
}

/// What is wrong with a fragment by itself.
fn check(fragment: &Fragment, packet: &[u8]) -> Result<(), DropReason> {
    let payload_bytes = fragment.payload_bytes();
    if !fragment.is_v6() && checksum::sum(&packet[..fragment.header_bytes]) != 0xffff {
        return Err(DropReason::InnerMalformed);
    }
    if fragment.is_atomic() {
        return Ok(());
    }
    // In front of IPv6's payload, the fixed header does not count (RFC 8200 section 4.5).
    let uncounted = if fragment.is_v6() { ipv6::HEADER_BYTES } else { 0 };
    let reach = fragment.header_bytes - uncounted + fragment.offset + payload_bytes;
    let is_ragged = fragment.more && !payload_bytes.is_multiple_of(8);
    if payload_bytes == 0 || is_ragged || reach > usize::from(u16::MAX) {
        return Err(DropReason::FragmentInvalid);
    }
    if is_tiny(fragment, packet) { Err(DropReason::FragmentTooSmall) } else { Ok(()) }
}

fn is_tiny(fragment: &Fragment, packet: &[u8]) -> bool {
    let payload_bytes = fragment.payload_bytes();
    if fragment.is_v6() {
        return fragment.offset == 0 && !holds_upper_layer_header(packet);
    }
    let is_short = fragment.more && fragment.total_bytes < MIN_IPV4_FRAGMENT_BYTES;
    let splits_tcp = match fragment.offset {
        0 => payload_bytes < MIN_TCP_BYTES,
        offset => offset < MIN_TCP_BYTES,
    };
    is_short || (fragment.protocol == protocol::TCP && splits_tcp)
}

/// RFC 7112 section 4, RFC 8200 section 4.5: the first fragment has all headers, the upper layer's included.
fn holds_upper_layer_header(packet: &[u8]) -> bool {
    let Some((upper, at)) = ipv6::upper_layer_of_first(packet) else { return false };
    let header_bytes = match upper {
        protocol::TCP => tcp::MIN_HEADER_BYTES,
        protocol::UDP => udp::HEADER_BYTES,
        protocol::ICMPV6 => icmp::HEADER_BYTES,
        _ => 0,
    };
    packet.len() >= at + header_bytes
}
