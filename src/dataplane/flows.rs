//! flows: what the walk has decided about a packet holds for the next of its flow, and need not be worked out again.
//!
//! ```text
//!   (realm, addresses, ports, protocol as they arrive)  -->  session, addresses as they leave, tunnel
//! ```
//!
//! The table only remembers: it may forget anything at any time, and then the stages decide as if it had never been. What it says
//! is right because
//! - it was learned from a packet that all stages have let pass, of the same realm, in the same epoch: a new configuration, and
//!   another choice of attachments, begin a new one ([`Flows::forget`]), and nothing of an older one is used;
//! - the session is asked ([`Sessions::pass_again`]): its end, its idle time, its connection's phase; by TCP every time, by UDP once
//!   a second, which is how fine idle times are;
//! - the tunnel's size is asked every time, and where the realm has several attachments, whether it is up.
//!
//! Only what is plain and common is here: IPv4 on both sides, TCP but for SYN, UDP, whole, without options, not by a pool's port.
//!
//! An entry is a cache line; each flow may be in one of two neighbouring lines. The room is reserved at the start and used as
//! far as there are sessions, so that few flows stay in the processor's cache. Hashes are keyed: nobody can choose flows that
//! push out another's.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::ops::Range;

use foldhash::fast::FixedState;

use crate::nat::{Pass, Sessions};
use crate::net::policy::protocol;
use crate::net::{Generation, IpVersion, RealmId, TunnelId};
use crate::packet::batch::BATCH_PACKETS;
use crate::packet::{Batch, Meta};
use crate::wire::checksum::Delta;
use crate::wire::tcp::{self, Segment, flag};
use crate::wire::{ipv4, udp};

use super::carriers::Carriers;
use super::tunnels::Tunnels;

/// 64 bytes.
const ENTRY_WORDS: usize = 8;
const WAYS: usize = 2;
/// Entries in use at the start.
const START: usize = 4096;
/// A session has two flows, and half of the entries stay free so that hardly any two contend for one.
const ENTRIES_PER_SESSION: usize = 4;
/// No time of the appliance's.
const NEVER: u32 = u32::MAX;

pub(super) struct Flows {
    /// Secret.
    hasher: FixedState,
    /// Entries, the first at `first_word`. All zeros: none.
    words: Vec<u64>,
    first_word: usize,
    /// Entries in use: a power of two.
    in_use: usize,
    /// Entries that there is room for: a power of two.
    room: usize,
    epoch: u32,
    hits: u64,
    /// Of the batch, by place.
    keys: [u128; BATCH_PACKETS],
    places: [u32; BATCH_PACKETS],
}

/// What the table knows of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    key: u128,
    epoch: u32,
    pass: Pass,
    source: u32,
    destination: u32,
    /// What changes in the IP header, the hop included, and in what TCP and UDP cover.
    header: u16,
    pseudo_header: u16,
    egress: TunnelId,
    realm: RealmId,
    /// The realm has other attachments.
    has_choice: bool,
    /// When the session was last asked. Of UDP: within that second it need not be asked again, as nothing ends it before its idle
    /// time, in whole seconds, is over.
    asked_secs: u32,
}

impl Flows {
    /// `max_sessions`: of the table that this one goes with. `seed`: random and secret.
    pub fn new(max_sessions: usize, seed: u64) -> Self {
        let room = (max_sessions * ENTRIES_PER_SESSION).next_power_of_two().max(START);
        // Zeros that nobody has touched take no memory. The offset makes entries whole cache lines, and the two of a flow the pair that
        // processors fetch together.
        let words = vec![0; (room + WAYS) * ENTRY_WORDS];
        let first_word = words.as_ptr().align_offset(WAYS * size_of::<[u64; ENTRY_WORDS]>()).min(WAYS * ENTRY_WORDS);
        let hasher = FixedState::with_seed(seed);
        Flows {
            hasher,
            words,
            first_word,
            in_use: START,
            room,
            epoch: 1,
            hits: 0,
            keys: [0; BATCH_PACKETS],
            places: [0; BATCH_PACKETS],
        }
    }

    /// Whatever was learned so far is not so any more.
    pub fn forget(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.words.fill(0);
            self.epoch = 1;
        }
    }

    /// Where the table is.
    pub fn addresses(&self) -> Range<usize> {
        let words = self.words.as_ptr_range();
        words.start.addr()..words.end.addr()
    }

    /// Packets of known flows so far.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Makes use of more of the room where there are many sessions. What is then in another place is learned again.
    #[inline]
    fn make_room(&mut self, sessions: usize) {
        if sessions * ENTRIES_PER_SESSION > self.in_use {
            self.in_use = (sessions * ENTRIES_PER_SESSION).next_power_of_two().min(self.room);
        }
    }

    /// Packets of known flows become what they are when they leave ([`Meta::let_through`]). `true`: there are others.
    #[inline(never)]
    pub fn run(
        &mut self,
        batch: &mut Batch,
        sessions: &mut Sessions,
        tunnels: &Tunnels,
        generation: Generation,
        now_secs: u32,
    ) -> bool {
        self.make_room(sessions.len());
        self.fetch(batch, sessions, now_secs);
        let lines = self.words[self.first_word..].as_chunks_mut::<ENTRY_WORDS>().0;
        let mut known = 0;
        let packets = batch.buffers_mut().zip(self.keys.iter().zip(&self.places));
        for ((meta, buffer), (key, place)) in packets {
            let Some(line) = lines.get_mut(*place as usize) else { continue };
            if !Entry::is_of(line, *key, self.epoch) {
                continue;
            }
            let entry = Entry::from_words(line);
            let Some(packet) = buffer.get_mut(..usize::from(total_bytes(buffer))) else { continue };
            let asker = Asker { sessions: &mut *sessions, tunnels, generation, now_secs };
            let Some(asked_secs) = asker.may_pass(&entry, packet) else { continue };
            if asked_secs != entry.asked_secs {
                line[ENTRY_WORDS - 1] = asked_secs.into();
            }
            entry.apply(meta, packet);
            known += 1;
        }
        self.hits += known as u64;
        known < batch.len()
    }

    /// Reads each packet's key, then its entry, then its session, for all packets each, so that the waits of different packets
    /// overlap.
    #[inline(never)]
    fn fetch(&mut self, batch: &mut Batch, sessions: &Sessions, now_secs: u32) {
        let len = batch.len().min(BATCH_PACKETS);
        let (keys, places) = (&mut self.keys[..len], &mut self.places[..len]);
        let lines = self.words[self.first_word..].as_chunks::<ENTRY_WORDS>().0;
        for ((meta, buffer), (key, place)) in batch.buffers_mut().zip(keys.iter_mut().zip(places.iter_mut())) {
            let may_be_known = meta.is_live() && meta.reassembled.is_none();
            *key = if may_be_known { key_of(meta.realm, meta.buffer_bytes(), buffer) } else { 0 };
            *place = first_place(&self.hasher, self.in_use, *key);
        }
        // By itself: the processor sees as many of these reads ahead as its window of instructions is long.
        let mut touched = 0;
        for place in places.iter() {
            let first = *place as usize;
            touched ^= lines.get(first..first + WAYS).map_or(0, |lines| lines[0][0] ^ lines[1][0]);
        }
        std::hint::black_box(touched);
        let mut touched = 0;
        for (place, key) in places.iter_mut().zip(keys.iter()) {
            let first = *place as usize;
            let Some([one, other]) = lines.get(first..first + WAYS) else { continue };
            let is_first = one[0] == *key as u64 && one[1] == (*key >> 64) as u64;
            let line = if is_first { one } else { other };
            *place += u32::from(!is_first);
            if line[ENTRY_WORDS - 1] as u32 != now_secs {
                touched ^= sessions.touch((line[3] >> 32) as u32);
            }
        }
        std::hint::black_box(touched);
    }

    /// What the stages have decided about those that they let pass. To be called when they are through, before the packets
    /// are sealed.
    pub fn learn(&mut self, batch: &Batch, passed: &[(usize, Pass)], carriers: &Carriers) {
        for (place, pass) in passed {
            let (meta, key) = (batch.meta(*place), self.keys[*place]);
            if key != 0
                && meta.is_live()
                && let Some(entry) = Entry::learn(key, self.epoch, *pass, meta, carriers)
            {
                self.put(entry);
            }
        }
    }

    fn put(&mut self, entry: Entry) {
        let first = first_place(&self.hasher, self.in_use, entry.key) as usize;
        let lines = self.words[self.first_word..].as_chunks_mut::<ENTRY_WORDS>().0;
        let Some(lines) = lines.get_mut(first..first + WAYS) else { return };
        let is_same = |line: &[u64; ENTRY_WORDS]| Entry::from_words(line).key == entry.key;
        let is_free = |line: &[u64; ENTRY_WORDS]| {
            let held = Entry::from_words(line);
            held.key == 0 || held.epoch != self.epoch
        };
        let way = lines.iter().position(is_same).or_else(|| lines.iter().position(is_free));
        // Who is pushed out depends on nothing that anybody outside knows.
        let way = way.unwrap_or((self.hasher.hash_one(entry.pass.serial) % WAYS as u64) as usize);
        lines[way] = entry.to_words();
    }
}

/// The first of the two places that a flow may have.
#[inline]
fn first_place(hasher: &FixedState, in_use: usize, key: u128) -> u32 {
    (hasher.hash_one(key) as usize & (in_use - 1) & !(WAYS - 1)) as u32
}

/// What arrives of a packet that the table may know, as the bytes stand there. 0: one that it never knows. The packet is the first
/// `len` bytes of its buffer.
#[inline]
fn key_of(realm: RealmId, len: usize, buffer: &[u8]) -> u128 {
    const PLAIN: u8 = 0x45; // IPv4, no options
    const PORTS: usize = ipv4::MIN_HEADER_BYTES;
    let Some(header) = buffer.first_chunk::<{ PORTS + 4 }>() else { return 0 };
    let long = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let fragment = u16::from_be_bytes([header[ipv4::FRAGMENT], header[ipv4::FRAGMENT + 1]]);
    let is_plain = header[0] == PLAIN && fragment & !ipv4::DONT_FRAGMENT == 0 && header[ipv4::TTL] > 1;
    let total_bytes = usize::from(total_bytes(header));
    let message_bytes = match header[ipv4::PROTOCOL] {
        protocol::UDP => udp::HEADER_BYTES,
        protocol::TCP => tcp::MIN_HEADER_BYTES,
        _ => return 0,
    };
    if !is_plain || total_bytes < PORTS + message_bytes || total_bytes > len {
        return 0;
    }
    if header[ipv4::PROTOCOL] == protocol::TCP {
        match buffer.get(PORTS..len).and_then(tcp::parse) {
            Some((_, _, flags)) if flags & flag::SYN == 0 => {}
            _ => return 0,
        }
    }
    let addresses = u64::from(long(ipv4::SOURCE)) | u64::from(long(ipv4::DESTINATION)) << 32;
    // Its protocol makes it something else than 0.
    let rest = u64::from(long(PORTS)) | u64::from(realm.0) << 32 | u64::from(header[ipv4::PROTOCOL]) << 48;
    u128::from(addresses) | u128::from(rest) << 64
}

/// What has to be asked for every packet.
struct Asker<'a> {
    sessions: &'a mut Sessions,
    tunnels: &'a Tunnels,
    generation: Generation,
    now_secs: u32,
}

impl Asker<'_> {
    /// When the session was asked, then. `None`: the stages have to look at the packet, and nothing has changed.
    #[inline]
    fn may_pass(self, entry: &Entry, packet: &[u8]) -> Option<u32> {
        let Asker { sessions, tunnels, generation, now_secs } = self;
        let total_bytes = total_bytes(packet);
        let fits = total_bytes <= tunnels.mtu_bytes(entry.egress);
        if !fits || entry.has_choice && !tunnels.is_up_for(entry.egress, IpVersion::V4) {
            return None;
        }
        if packet[ipv4::PROTOCOL] == protocol::TCP {
            let segment = Segment::parse(&packet[ipv4::MIN_HEADER_BYTES..total_bytes.into()])?;
            // Never as good as asked.
            return sessions.pass_again(entry.pass, Some(&segment), generation, now_secs).then_some(entry.asked_secs);
        }
        let is_asked = entry.asked_secs == now_secs;
        (is_asked || sessions.pass_again(entry.pass, None, generation, now_secs)).then_some(now_secs)
    }
}

/// By the header, of a packet that has a key.
#[inline]
fn total_bytes(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[ipv4::TOTAL_LENGTH], packet[ipv4::TOTAL_LENGTH + 1]])
}

impl Entry {
    /// `None`: there is more to it than the table can hold.
    fn learn(key: u128, epoch: u32, pass: Pass, meta: &Meta, carriers: &Carriers) -> Option<Entry> {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (meta.headers.source, meta.headers.destination) else { return None };
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (meta.shown.source, meta.shown.destination) else {
            return None;
        };
        let has_ports = meta.shown.source_port | meta.shown.destination_port != 0;
        if has_ports || meta.by_binding || meta.fragment_payload_bytes != 0 || meta.destination.realm.is_ix() {
            return None;
        }
        let addresses =
            Delta::default().dword(from.to_bits(), source.to_bits()).dword(to.to_bits(), destination.to_bits());
        // One hop less: the upper byte of its word.
        let header = addresses.word(0x0100, 0);
        let realm = meta.destination.realm;
        Some(Entry {
            key,
            epoch,
            pass,
            source: source.to_bits(),
            destination: destination.to_bits(),
            header: header.sum(),
            pseudo_header: addresses.sum(),
            egress: meta.egress,
            realm,
            has_choice: carriers.has_choice(realm),
            asked_secs: NEVER,
        })
    }

    #[inline]
    fn apply(&self, meta: &mut Meta, packet: &mut [u8]) {
        meta.let_through(packet.len(), self.egress, self.realm);
        self.rewrite(packet);
    }

    /// As [`crate::nat::rewrite::rewrite`] does.
    #[inline]
    fn rewrite(&self, packet: &mut [u8]) {
        let Some((header, message)) = packet.split_first_chunk_mut::<{ ipv4::MIN_HEADER_BYTES }>() else { return };
        Delta::of_sum(self.header).apply_at(header, ipv4::CHECKSUM);
        header[ipv4::TTL] -= 1;
        header[ipv4::SOURCE..ipv4::SOURCE + 4].copy_from_slice(&self.source.to_be_bytes());
        header[ipv4::DESTINATION..ipv4::DESTINATION + 4].copy_from_slice(&self.destination.to_be_bytes());
        let is_tcp = header[ipv4::PROTOCOL] == protocol::TCP;
        let delta = Delta::of_sum(self.pseudo_header);
        if is_tcp { delta.apply_at(message, tcp::CHECKSUM) } else { udp::fix_checksum(message, delta) }
    }

    /// Whether it is the entry of this key, which is not 0 unless there is none.
    #[inline]
    fn is_of(words: &[u64; ENTRY_WORDS], key: u128, epoch: u32) -> bool {
        let differs = (words[0] ^ key as u64) | (words[1] ^ (key >> 64) as u64) | u64::from(words[3] as u32 ^ epoch);
        differs == 0 && key != 0
    }

    fn to_words(self) -> [u64; ENTRY_WORDS] {
        let Entry {
            key,
            epoch,
            pass,
            source,
            destination,
            header,
            pseudo_header,
            egress,
            realm,
            has_choice,
            asked_secs,
        } = self;
        [
            key as u64,
            (key >> 64) as u64,
            pass.serial,
            u64::from(epoch) | u64::from(pass.slot) << 32,
            u64::from(source) | u64::from(destination) << 32,
            u64::from(header) | u64::from(pseudo_header) << 16 | u64::from(egress.0) << 32,
            u64::from(realm.0) | u64::from(has_choice) << 16 | u64::from(pass.from_opener) << 17,
            asked_secs.into(),
        ]
    }

    #[inline]
    fn from_words(words: &[u64; ENTRY_WORDS]) -> Self {
        let [low, high, serial, epoch_slot, addresses, deltas, rest, asked_secs] = *words;
        Entry {
            key: u128::from(low) | u128::from(high) << 64,
            epoch: epoch_slot as u32,
            pass: Pass { slot: (epoch_slot >> 32) as u32, serial, from_opener: rest & 1 << 17 != 0 },
            source: addresses as u32,
            destination: (addresses >> 32) as u32,
            header: deltas as u16,
            pseudo_header: (deltas >> 16) as u16,
            egress: TunnelId((deltas >> 32) as u32),
            realm: RealmId(rest as u16),
            has_choice: rest & 1 << 16 != 0,
            asked_secs: asked_secs as u32,
        }
    }
}

#[cfg(test)]
mod tests;
