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
//! - the session is asked every time ([`Sessions::pass_again`]): its end, its idle time, its connection's phase; but for a packet that is
//!   not TCP's only if its answer may have changed since the last one ([`Sessions::moment`]);
//! - the tunnel's size is asked every time, and where the realm has several attachments, whether it is up.
//!
//! Only what is plain and common is here: IPv4 on both sides, TCP but for SYN, UDP, whole, without options, not by a pool's port.
//!
//! An entry is a cache line. Each flow may be in one of sixteen neighbouring lines, and is in the one that its hash prefers unless that
//! was another's, so that mostly one is read. Sixteen, because a flow for which there is no place costs its packets all the stages ([decision
//! 16](../../../docs/decisions/0016-known-flows.md) has the figures). Packets write nothing into an entry but that its session has let one
//! pass, once in a moment. What was learned in another place than now, when the table was smaller, and what was learned of a session that
//! has ended, gives way; if nothing does, the flow in the preferred place.
//! The room is reserved at the start and used as far as there are sessions, so that few flows stay in the processor's cache. Hashes
//! are keyed: nobody can choose flows that push out another's.

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

use foldhash::quality::FixedState;

use crate::nat::{Pass, Sessions};
use crate::net::{Generation, IpVersion, TunnelId};
use crate::packet::Batch;
use crate::packet::batch::BATCH_PACKETS;
use crate::wire::ipv4;
use crate::wire::tcp::Segment;

use super::carriers::Carriers;
use super::tunnels::Tunnels;

mod entry;

use self::entry::{
    ENTRY_WORDS, Entry, Line, egress_of, epoch_of, has_choice, is_tcp, key_in, key_of, note_passed, pass_of, passed_at,
    slot_of, total_bytes_of,
};

/// Places that a flow may be in, one of them preferred: the others differ from it in the lowest bits.
const WAYS: u32 = 16;
/// No place.
const NOWHERE: u32 = u32::MAX;
/// Entries in use at the start.
const START: usize = 4096;
/// A session has two flows, and half of the entries stay free so that hardly any flow finds none.
const ENTRIES_PER_SESSION: usize = 4;

/// See the module.
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
    /// Never 0.
    epoch: u32,
    hits: u64,
    /// Of the batch, by place.
    keys: [u128; BATCH_PACKETS],
    total_bytes: [u16; BATCH_PACKETS],
    places: [u32; BATCH_PACKETS],
}

/// A packet of the batch, and where its entry is.
#[derive(Clone, Copy)]
struct Found {
    number: u32,
    place: u32,
}

/// The first so many.
struct AllFound {
    found: [Found; BATCH_PACKETS],
    count: usize,
}

/// The tunnel that the packet before leaves by: packets behind one another often leave by the same.
struct Exit {
    egress: TunnelId,
    mtu_bytes: u16,
}

impl AllFound {
    /// There is room for all of a batch.
    #[inline]
    fn push(&mut self, found: Found) {
        if let Some(place) = self.found.get_mut(self.count) {
            *place = found;
            self.count += 1;
        }
    }
}

impl Default for Exit {
    fn default() -> Self {
        Exit { egress: TunnelId::NONE, mtu_bytes: 0 }
    }
}

impl Exit {
    /// Whether a packet of so many bytes goes by the tunnel of that flow.
    #[inline(always)]
    fn takes(&mut self, line: &Line, total_bytes: u16, tunnels: &Tunnels) -> bool {
        if egress_of(line) != self.egress {
            let egress = egress_of(line);
            *self = Exit { egress, mtu_bytes: tunnels.mtu_bytes(egress) };
        }
        total_bytes <= self.mtu_bytes
    }
}

impl Flows {
    /// `max_sessions`: of the table that this one goes with. `seed`: random and secret.
    pub fn new(max_sessions: usize, seed: u64) -> Self {
        let room = (max_sessions * ENTRIES_PER_SESSION).next_power_of_two().max(START);
        // Zeros that nobody has touched take no memory. The offset makes entries whole cache lines, and all places of a flow part of one page.
        let words = vec![0; (room + WAYS as usize) * ENTRY_WORDS];
        let align_words = WAYS as usize * ENTRY_WORDS;
        let first_word = words.as_ptr().align_offset(align_words * size_of::<u64>()).min(align_words);
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
            total_bytes: [0; BATCH_PACKETS],
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

    /// Packets of known flows become what they are when they leave ([`crate::packet::Meta::let_through`]). `true`: there are others.
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
        self.read_keys(batch);
        let moment = sessions.moment(now_secs);
        self.locate(batch.len());
        let (mut known, found) = self.pass_in_moment(batch, tunnels, moment);
        if found.count > 0 {
            known += self.pass_all(&found, batch, Asked { sessions, tunnels, generation, now_secs, moment });
        }
        self.hits += known as u64;
        known < batch.len()
    }

    /// Each packet's key, its length by its header, and its preferred place.
    #[inline(never)]
    fn read_keys(&mut self, batch: &mut Batch) {
        let Flows { hasher, in_use, keys, total_bytes, places, .. } = self;
        let found = keys.iter_mut().zip(total_bytes).zip(places);
        for ((meta, buffer), ((key, total_bytes), place)) in batch.buffers_mut().zip(found) {
            let may_be_known = meta.is_live() && meta.reassembled.is_none();
            *key = if may_be_known { key_of(meta.realm, meta.buffer_bytes(), buffer) } else { 0 };
            *total_bytes = buffer.first_chunk().map_or(0, total_bytes_of);
            *place = preferred_place(hasher, *in_use, *key);
        }
    }

    /// Each packet's place becomes that of its entry, or [`NOWHERE`]. Loops by themselves: the processor sees as many of their reads ahead as its window
    /// of instructions is long, so that the waits for them overlap.
    #[inline(never)]
    fn locate(&mut self, len: usize) {
        let Flows { words, first_word, epoch, keys, places, .. } = self;
        let lines: &[Line] = words[*first_word..].as_chunks().0;
        let (keys, places) = (&keys[..len.min(BATCH_PACKETS)], &mut places[..len.min(BATCH_PACKETS)]);
        let read = |read, place: u32| read ^ lines.get(place as usize).map_or(0, |line| line[0]);
        std::hint::black_box(places.iter().fold(0, |all, place| read(all, *place)));
        // Those that are not where they prefer to be: some in a hundred, and each of them would wait by itself.
        let mut others: heapless::Vec<u8, BATCH_PACKETS> = heapless::Vec::new();
        for (number, (place, key)) in (0..).zip(places.iter().zip(keys)) {
            if !lines.get(*place as usize).is_some_and(|line| Entry::is_of(line, *key, *epoch)) {
                let _ = others.push(number); // there is room for all
            }
        }
        std::hint::black_box(others.iter().fold(0, |all, number| read(all, places[usize::from(*number)] ^ 1)));
        for number in others.iter().map(|number| usize::from(*number)) {
            let found = if keys[number] == 0 { None } else { find_beside(lines, places[number], keys[number], *epoch) };
            places[number] = found.map_or(NOWHERE, |(place, _)| place);
        }
    }

    /// Packets whose sessions have nothing to say, as they have let one pass in this moment, become what they are when they leave. How many they are,
    /// and the others of which there are entries.
    #[inline(never)]
    fn pass_in_moment(&self, batch: &mut Batch, tunnels: &Tunnels, moment: u64) -> (usize, AllFound) {
        let lines: &[Line] = self.words[self.first_word..].as_chunks().0;
        let mut all = AllFound { found: [Found { number: 0, place: 0 }; BATCH_PACKETS], count: 0 };
        let (mut exit, mut known) = (Exit::default(), 0);
        let located = self.places.iter().zip(&self.total_bytes);
        for (number, ((meta, buffer), (place, total_bytes))) in (0..).zip(batch.buffers_mut().zip(located)) {
            let Some(line) = lines.get(*place as usize) else { continue };
            if passed_at(line) != moment || has_choice(line) {
                all.push(Found { number, place: *place });
            } else if exit.takes(line, *total_bytes, tunnels)
                && let Some(header) = buffer.first_chunk_mut()
            {
                let entry = Entry::from_words(line);
                meta.let_through((*total_bytes).into(), exit.egress, entry.realm);
                entry.rewrite(header);
                known += 1;
            }
        }
        (known, all)
    }

    /// Those that may pass become what they are when they leave. How many they are: at the others the stages have to look, and nothing of
    /// them has changed.
    #[inline(never)]
    fn pass_all(&mut self, all: &AllFound, batch: &mut Batch, mut asked: Asked) -> usize {
        let lines = self.words[self.first_word..].as_chunks_mut::<ENTRY_WORDS>().0;
        // What they ask of their sessions is read for all of them first, so that the waits for it overlap.
        let read = |read, Found { place, .. }: &Found| {
            let line = &lines[*place as usize];
            read ^ asked.sessions.touch(slot_of(line), is_tcp(key_in(line)))
        };
        std::hint::black_box(all.found[..all.count].iter().fold(0, read));
        let (mut exit, mut known) = (Exit::default(), 0);
        for Found { number, place } in &all.found[..all.count] {
            let (line, total_bytes) = (&mut lines[*place as usize], self.total_bytes[*number as usize]);
            let (meta, buffer) = batch.buffer_mut(*number as usize);
            let may_pass = exit.takes(line, total_bytes, asked.tunnels)
                && (!has_choice(line) || asked.is_up(exit.egress))
                && match is_tcp(key_in(line)) {
                    true => buffer.get(..total_bytes.into()).is_some_and(|packet| asked.passes_segment(line, packet)),
                    false => passed_at(line) == asked.moment || asked.passes(line),
                };
            if let (true, Some(header)) = (may_pass, buffer.first_chunk_mut()) {
                let entry = Entry::from_words(line);
                meta.let_through(total_bytes.into(), exit.egress, entry.realm);
                entry.rewrite(header);
                known += 1;
            }
        }
        known
    }

    /// What the stages have decided about those that they let pass. To be called when they are through, before the packets
    /// are sealed.
    pub fn learn(&mut self, batch: &Batch, passed: &[(usize, Pass)], carriers: &Carriers, sessions: &Sessions) {
        for (place, pass) in passed {
            let (meta, key) = (batch.meta(*place), self.keys[*place]);
            if key != 0
                && meta.is_live()
                && let Some(entry) = Entry::learn(key, self.epoch, *pass, meta, carriers)
            {
                self.put(entry, |pass| sessions.has(pass));
            }
        }
    }

    /// Within an epoch a line that has been taken stays taken, perhaps by another, the first that is free in the order of a flow's places is
    /// the one that is taken, and the table becomes no smaller: by that [`find_beside`] knows where to end, and no key is in two of its places.
    ///
    /// `is_there`: whether the session that lets something pass has not ended.
    fn put(&mut self, entry: Entry, is_there: impl Fn(Pass) -> bool) {
        let Flows { hasher, in_use, epoch, .. } = self;
        let preferred = preferred_place(hasher, *in_use, entry.key);
        let lines = self.words[self.first_word..].as_chunks_mut::<ENTRY_WORDS>().0;
        let is_free = |place: &u32| {
            let Some(line) = lines.get(*place as usize) else { return false };
            epoch_of(line) != *epoch
                || preferred_place(hasher, *in_use, key_in(line)) ^ place >= WAYS
                || !is_there(pass_of(line))
        };
        // Who is pushed out depends on nothing that anybody outside knows.
        let new_place = || places(preferred).find(is_free).unwrap_or(preferred);
        let place = find(lines, preferred, entry.key, *epoch).map_or_else(new_place, |(place, _)| place);
        if let Some(line) = lines.get_mut(place as usize) {
            *line = entry.to_words();
        }
    }
}

/// All that a flow may have, the better first.
fn places(preferred: u32) -> impl Iterator<Item = u32> {
    (0..WAYS).map(move |way| preferred ^ way)
}

/// The best of the places that a flow may have.
#[inline]
fn preferred_place(hasher: &FixedState, in_use: usize, key: u128) -> u32 {
    // As `hash_one` does, which is not always inlined.
    let mut hash = hasher.build_hasher();
    hash.write_u128(key);
    (hash.finish() as usize & (in_use - 1)) as u32
}

/// The entry of a key, and where it is.
#[inline]
fn find(lines: &[Line], preferred: u32, key: u128, epoch: u32) -> Option<(u32, &Line)> {
    let line = lines.get(preferred as usize)?;
    if Entry::is_of(line, key, epoch) { Some((preferred, line)) } else { find_beside(lines, preferred, key, epoch) }
}

#[inline(never)]
fn find_beside(lines: &[Line], preferred: u32, key: u128, epoch: u32) -> Option<(u32, &Line)> {
    let others = places(preferred).skip(1).filter_map(|place| Some((place, lines.get(place as usize)?)));
    // Beyond a place that nobody has taken in this epoch is none.
    others.take_while(|(_, line)| epoch_of(line) == epoch).find(|(_, line)| Entry::is_of(line, key, epoch))
}

/// What is asked for packets.
struct Asked<'a> {
    sessions: &'a mut Sessions,
    tunnels: &'a Tunnels,
    generation: Generation,
    now_secs: u32,
    moment: u64,
}

// What not every packet needs is called, so that the loop that all of them take keeps what it needs in registers.
impl Asked<'_> {
    #[inline(never)]
    fn is_up(&self, egress: TunnelId) -> bool {
        self.tunnels.is_up_for(egress, IpVersion::V4)
    }

    /// A packet that is not TCP's.
    #[inline(never)]
    fn passes(&mut self, line: &mut Line) -> bool {
        let passes = self.sessions.pass_again(pass_of(line), None, self.generation, self.now_secs);
        if passes {
            note_passed(line, self.moment);
        }
        passes
    }

    #[inline(never)]
    fn passes_segment(&mut self, line: &Line, packet: &[u8]) -> bool {
        let Some(segment) = packet.get(ipv4::MIN_HEADER_BYTES..).and_then(Segment::parse) else { return false };
        self.sessions.pass_again(pass_of(line), Some(&segment), self.generation, self.now_secs)
    }
}

#[cfg(test)]
mod tests;
