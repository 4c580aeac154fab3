//! Fragments in any order, whole and damaged, against a model that knows every byte that came; and packets that are cut and
//! put together again.
//!
//! The first byte says whether the bounds are out of reach, so that the model can say of every fragment what must become of
//! it, or so narrow that datagrams have to make room for one another. Then come [deeds](World::perform).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ixgate::nat::fragmentation::{self, Fragments};
use ixgate::nat::reassembly::{Limits, Outcome, Reassembler};
use ixgate::net::{RealmId, Timestamp, TunnelId};
use ixgate::packet::DropReason;
use ixgate::packet::reassembled::MAX_DATAGRAM_BYTES;
use ixgate::wire::fragment::{self, Fragment};
use ixgate::wire::{headers, ipv4, ipv6};

use super::packet::mend;
use super::script::Script;

const TUNNEL: TunnelId = TunnelId(7);
const REALMS: u8 = 3;
const MAX_FLYING: usize = 32;
const MAX_DEEDS: usize = 200;
const WIDE: Limits =
    Limits { bytes: 64 << 20, bytes_per_realm: 32 << 20, datagrams_per_realm: 10_000, fragments_per_datagram: 16 };
const NARROW: Limits = Limits { bytes: 6000, bytes_per_realm: 3000, datagrams_per_realm: 3, fragments_per_datagram: 4 };

/// How many datagrams have come out.
pub fn reassembly(bytes: &[u8]) -> usize {
    let mut script = Script(bytes);
    let Some(setting) = script.u8() else { return 0 };
    let mut world = World::new(setting & 1 == 0);
    for _ in 0..MAX_DEEDS {
        if world.perform(&mut script).is_none() {
            break;
        }
        world.check_bounds();
    }
    world.come_to_rest();
    world.wholes
}

/// What tells one datagram from another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    realm: RealmId,
    ends: (IpAddr, IpAddr),
    protocol: u8,
    identification: u32,
}

/// One datagram as RFC 5722 has it.
#[derive(Default)]
struct Model {
    /// Offset, more, ECN, payload: what is kept, without overlap.
    pieces: Vec<(usize, bool, u8, Vec<u8>)>,
    header_bytes: usize,
    is_dead: bool,
    until: Timestamp,
}

struct Piece {
    header_bytes: usize,
    offset: usize,
    payload: Vec<u8>,
}

#[derive(PartialEq, Eq, Debug)]
enum Said {
    Kept,
    Dropped,
    /// The payload.
    Whole(Vec<u8>),
}

struct World {
    reassembler: Reassembler,
    limits: Limits,
    now: Timestamp,
    /// Fragments under way, each from a realm.
    flying: Vec<(RealmId, Vec<u8>)>,
    models: HashMap<Key, Model>,
    /// Everything that was taken, of all times.
    taken: HashMap<Key, Vec<Piece>>,
    /// Kept and not yet put out or lost.
    kept: usize,
    wholes: usize,
    buffer: Vec<u8>,
}

impl World {
    fn new(is_wide: bool) -> World {
        let limits = if is_wide { WIDE } else { NARROW };
        World {
            reassembler: Reassembler::new(limits, 1),
            limits,
            now: Timestamp::from_secs(100),
            flying: Vec::new(),
            models: HashMap::new(),
            taken: HashMap::new(),
            kept: 0,
            wholes: 0,
            buffer: vec![0; MAX_DATAGRAM_BYTES],
        }
    }

    fn is_wide(&self) -> bool {
        self.limits == WIDE
    }

    /// `None`: the script is over.
    fn perform(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (deed, which) = (script.u8()?, script.u8()?);
        let realm = RealmId(u16::from(which % REALMS) + 1);
        match deed % 10 {
            0 | 1 => {
                let (size, len) = (script.u8()?, usize::from(script.u16()?) % 3000);
                let packet = datagram(which, script.bytes(len), len);
                self.cut(realm, &packet, usize::from(size), u32::from(which));
            }
            2..=4 => {
                if let Some(at) = self.flying_at(which) {
                    let (realm, bytes) = self.flying.remove(at);
                    self.deliver(realm, &bytes);
                }
            }
            5 => {
                if let Some(at) = self.flying_at(which) {
                    let (realm, bytes) = self.flying[at].clone();
                    self.deliver(realm, &bytes);
                }
            }
            6 => {
                let (offset, mask) = (script.u16()?, script.u8()?);
                if let Some(at) = self.flying_at(which) {
                    let bytes = &mut self.flying[at].1;
                    let place = usize::from(offset) % bytes.len();
                    bytes[place] ^= mask;
                    mend(bytes);
                }
            }
            7 => {
                let len = usize::from(script.u8()?) * 4;
                let mut bytes = script.bytes(len).to_vec();
                mend(&mut bytes);
                self.deliver(realm, &bytes);
            }
            8 => {
                let (size, len) = (script.u8()?, usize::from(script.u16()?) % 3000);
                let packet = script.bytes(len);
                self.wholes += usize::from(cut_and_join(packet, usize::from(size) * 8, u32::from(which)).is_some());
            }
            _ => {
                self.now = self.now + Duration::from_secs(u64::from(which) % 64);
                self.reassembler.handle_timeout(self.now);
                self.expire();
            }
        }
        Some(())
    }

    fn flying_at(&self, which: u8) -> Option<usize> {
        usize::from(which).checked_rem(self.flying.len())
    }

    /// The fragments of a packet set out, each with `size` or so bytes of payload.
    fn cut(&mut self, realm: RealmId, packet: &[u8], size: usize, identification: u32) {
        let Some(mut fragments) = Fragments::new(packet, 48 + size * 8, identification) else { return };
        while let Some(len) = fragments.next_into(&mut self.buffer) {
            if self.flying.len() == MAX_FLYING {
                self.flying.remove(0);
            }
            self.flying.push((realm, self.buffer[..len].to_vec()));
        }
    }

    fn deliver(&mut self, realm: RealmId, bytes: &[u8]) {
        let Some(fragment) = fragment::parse(bytes) else { return };
        assert!(fragment.payload_at <= fragment.total_bytes && fragment.total_bytes <= bytes.len());
        self.expire();
        let outcome = self.reassembler.handle_fragment(realm, TUNNEL, &fragment, bytes, self.now);
        let key = key(realm, &fragment);
        let payload = &bytes[fragment.payload_at..fragment.total_bytes];
        let said = match outcome {
            Outcome::Atomic => return assert!(fragment.is_atomic()),
            Outcome::Dropped(DropReason::InnerMalformed | DropReason::FragmentTooSmall) => return,
            Outcome::Dropped(_) => Said::Dropped,
            Outcome::Kept | Outcome::Whole => {
                let Fragment { header_bytes, offset, .. } = fragment;
                self.taken.entry(key).or_default().push(Piece { header_bytes, offset, payload: payload.to_vec() });
                self.kept += 1;
                if outcome == Outcome::Kept { Said::Kept } else { Said::Whole(self.whole(key, &fragment)) }
            }
        };
        if self.is_wide() {
            let expected = self.models.entry(key).or_default().take(&fragment, bytes, self.now, outcome);
            assert_eq!(said, expected, "{fragment:?}: {outcome:?}");
            if matches!(said, Said::Whole(_)) {
                self.models.remove(&key);
            }
        }
        self.count_losses();
    }

    /// The payload of the datagram that is complete, every byte of which was brought by a fragment of the same one.
    fn whole(&mut self, key: Key, last: &Fragment) -> Vec<u8> {
        let whole = self.reassembler.poll_whole(&mut self.buffer).expect("it said so");
        assert_eq!((whole.realm, whole.tunnel), (key.realm, TUNNEL));
        assert!(whole.fragments > 1 && whole.fragments <= self.limits.fragments_per_datagram);
        self.kept -= whole.fragments;
        self.wholes += 1;
        let bytes = &self.buffer[..whole.len];
        // Nothing may lie where the first fragment lies, so the latest is this datagram's.
        let pieces = &self.taken[&key];
        let first = pieces.iter().rfind(|piece| piece.offset == 0).expect("a first fragment");
        let header_bytes = first.header_bytes;
        if bytes[0] >> 4 == 4 {
            let header = ipv4::parse(bytes).expect("a header");
            assert!(!header.is_fragment && header.total_bytes == bytes.len() && header.header_bytes == header_bytes);
            assert_eq!((IpAddr::V4(header.source), IpAddr::V4(header.destination)), key.ends);
        } else {
            assert_eq!(usize::from(u16::from_be_bytes([bytes[4], bytes[5]])) + ipv6::HEADER_BYTES, bytes.len());
        }
        assert!(last.payload_bytes() <= bytes.len() - header_bytes);
        let payload = bytes[header_bytes..].to_vec();
        let mut is_brought = vec![false; payload.len()];
        for Piece { offset, payload: piece, .. } in pieces {
            if payload.get(*offset..offset + piece.len()) == Some(piece) {
                is_brought[*offset..offset + piece.len()].fill(true);
            }
        }
        assert!(is_brought.into_iter().all(|brought| brought), "a byte that no fragment of the datagram has brought");
        payload
    }

    fn count_losses(&mut self) {
        while let Some(loss) = self.reassembler.poll_loss() {
            assert!((1..=REALMS).contains(&(loss.realm.0 as u8)) && loss.fragments > 0);
            self.kept -= loss.fragments;
        }
    }

    fn expire(&mut self) {
        let now = self.now;
        self.models.retain(|_, model| model.until == Timestamp::ZERO || model.until > now);
        self.count_losses();
    }

    fn check_bounds(&self) {
        assert!(self.reassembler.bytes() <= self.limits.bytes, "{} bytes", self.reassembler.bytes());
        let most = usize::from(REALMS) * self.limits.datagrams_per_realm;
        assert!(self.reassembler.datagrams() <= most, "{} datagrams", self.reassembler.datagrams());
        let until = self.reassembler.poll_timeout().map(|(at, _)| at);
        assert!(until.is_none_or(|at| at > self.now && at <= self.now + Duration::from_secs(60)));
    }

    /// Nobody waits for ever, and every fragment has had its end.
    fn come_to_rest(&mut self) {
        self.now = self.now + Duration::from_secs(60);
        self.reassembler.handle_timeout(self.now);
        self.count_losses();
        assert_eq!((self.reassembler.bytes(), self.reassembler.datagrams(), self.kept), (0, 0, 0));
        assert_eq!(self.reassembler.poll_timeout(), None);
    }
}

impl Model {
    fn take(&mut self, fragment: &Fragment, bytes: &[u8], now: Timestamp, outcome: Outcome) -> Said {
        let payload = &bytes[fragment.payload_at..fragment.total_bytes];
        let places = fragment.offset..fragment.offset + payload.len();
        let unaccounted = fragment.header_bytes - if fragment.is_v6() { ipv6::HEADER_BYTES } else { 0 };
        let is_ragged = fragment.more && !payload.len().is_multiple_of(8);
        if payload.is_empty() || is_ragged || unaccounted + places.end > usize::from(u16::MAX) {
            assert_eq!(outcome, Outcome::Dropped(DropReason::FragmentInvalid));
            return Said::Dropped;
        }
        if self.is_dead {
            return Said::Dropped;
        }
        let is_same = |(offset, more, _, piece): &(usize, bool, u8, Vec<u8>)| {
            (*offset, *more, piece.as_slice()) == (fragment.offset, fragment.more, payload)
        };
        if self.pieces.iter().any(is_same) {
            assert_eq!(outcome, Outcome::Dropped(DropReason::FragmentDuplicate));
            return Said::Dropped;
        }
        let stops = self.pieces.iter().map(|(offset, _, _, piece)| offset + piece.len());
        let reach = stops.max().unwrap_or(0);
        let end = self.pieces.iter().find(|(_, more, ..)| !more).map(|(offset, _, _, piece)| offset + piece.len());
        let overlaps = self.pieces.iter().any(|(at, _, _, piece)| *at < places.end && places.start < at + piece.len());
        let contradicts = match fragment.more {
            true => end.is_some_and(|end| places.end >= end),
            false => end.is_some() || reach > places.start,
        };
        if overlaps || contradicts || self.pieces.len() == WIDE.fragments_per_datagram {
            self.is_dead = true;
            return Said::Dropped;
        }
        if self.pieces.is_empty() {
            self.until = now + Duration::from_secs(if fragment.is_v6() { 60 } else { 30 });
        }
        if fragment.offset == 0 {
            self.header_bytes = fragment.header_bytes;
        }
        self.pieces.push((fragment.offset, fragment.more, ecn(bytes), payload.to_vec()));
        let end = if fragment.more { end } else { Some(places.end) };
        if end != Some(self.pieces.iter().map(|(_, _, _, piece)| piece.len()).sum()) {
            return Said::Kept;
        }
        self.complete(fragment.is_v6())
    }

    /// RFC 3168 section 5.3: some fragments that a router has marked, others that are not to be marked.
    fn complete(&mut self, is_v6: bool) -> Said {
        self.pieces.sort_by_key(|(offset, ..)| *offset);
        let payload: Vec<u8> = self.pieces.iter().flat_map(|(_, _, _, piece)| piece.iter().copied()).collect();
        let has = |mark: u8| self.pieces.iter().any(|(_, _, ecn, _)| *ecn == mark);
        let most = usize::from(u16::MAX) + if is_v6 { ipv6::HEADER_BYTES } else { 0 };
        if (has(0) && has(3)) || self.header_bytes + payload.len() > most {
            self.is_dead = true;
            return Said::Dropped;
        }
        Said::Whole(payload)
    }
}

fn key(realm: RealmId, fragment: &Fragment) -> Key {
    let protocol = if fragment.is_v6() { 0 } else { fragment.protocol };
    Key { realm, ends: (fragment.source, fragment.destination), protocol, identification: fragment.identification }
}

fn ecn(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 4 { packet[1] & 3 } else { packet[1] >> 4 & 3 }
}

/// A UDP datagram of `len` bytes that starts with `bytes`.
fn datagram(which: u8, bytes: &[u8], len: usize) -> Vec<u8> {
    let mut message = bytes.to_vec();
    message.resize(len.max(8), which);
    if which & 64 == 0 {
        let mut header = [0; ipv4::MIN_HEADER_BYTES];
        let ends = (Ipv4Addr::new(192, 168, 1, 10), Ipv4Addr::new(100, 64, 2, which >> 6));
        ipv4::emit(&mut header, message.len(), 64, 17, ends.0, ends.1);
        header[ipv4::FRAGMENT] = 0;
        ipv4::renew_checksum(&mut header);
        return [&header[..], &message].concat();
    }
    let mut header = [0; ipv6::HEADER_BYTES];
    ipv6::emit(&mut header, message.len(), 64, 17, Ipv6Addr::from_bits(0xa), Ipv6Addr::from_bits(0xb));
    [&header[..], &message].concat()
}

/// Whatever the walk would cut is put together to what it was, backwards too. `None`: it is nothing to be cut.
fn cut_and_join(packet: &[u8], payload_bytes: usize, identification: u32) -> Option<()> {
    let mut packet = packet.to_vec();
    mend(&mut packet);
    let headers = headers::parse(&packet).ok()?;
    let packet = &packet[..headers.total_bytes];
    let mut cut = Fragments::new(packet, payload_bytes, identification)?;
    let header_bytes = fragmentation::header_bytes(packet)?;
    let (mut pieces, mut buffer) = (Vec::new(), vec![0; MAX_DATAGRAM_BYTES]);
    while let Some(len) = cut.next_into(&mut buffer) {
        assert!(len <= header_bytes + payload_bytes, "{len} bytes");
        pieces.push(buffer[..len].to_vec());
    }
    let limits = Limits { fragments_per_datagram: usize::MAX, ..WIDE };
    let mut reassembler = Reassembler::new(limits, 2);
    let mut outcomes = Vec::new();
    for piece in pieces.iter().rev() {
        let Some(fragment) = fragment::parse(piece) else {
            assert!(pieces.len() == 1 && !headers.is_v6(), "IPv4 in one piece is no fragment");
            return None;
        };
        outcomes.push(reassembler.handle_fragment(RealmId(1), TUNNEL, &fragment, piece, Timestamp::ZERO));
    }
    let is_refused = |outcome: &Outcome| matches!(outcome, Outcome::Dropped(DropReason::FragmentTooSmall));
    if outcomes.iter().any(is_refused) || outcomes == [Outcome::Atomic] || pieces.is_empty() {
        return None;
    }
    let whole = reassembler.poll_whole(&mut buffer).unwrap_or_else(|| panic!("{outcomes:?}"));
    let mut before = packet.to_vec();
    if !headers.is_v6() {
        let after = &buffer[..];
        before[ipv4::IDENTIFICATION..ipv4::IDENTIFICATION + 2].copy_from_slice(&after[4..6]);
        // The reserved bit is nobody's.
        before[ipv4::FRAGMENT] &= 0x40;
        ipv4::renew_checksum(&mut before[..headers.transport_offset]);
    }
    assert_eq!(buffer[..whole.len], before, "cut and joined");
    Some(())
}
