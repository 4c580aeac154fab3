//! One known flow: its key, as it stands in its packets' headers, and what becomes of them; and a cache line of a table that holds it.

use std::net::IpAddr;

use crate::dataplane::carriers::Carriers;
use crate::nat::Pass;
use crate::net::policy::protocol;
use crate::net::{Generation, RealmId, TunnelId};
use crate::packet::Meta;
use crate::wire::checksum::Delta;
use crate::wire::tcp::{self, flag};
use crate::wire::{ipv4, udp};

/// 64 bytes.
pub const ENTRY_WORDS: usize = 8;
pub type Line = [u64; ENTRY_WORDS];
/// The longest headers that are read at once. Every buffer has so many bytes, whatever its packet's length.
pub const HEADER_BYTES: usize = ipv4::MIN_HEADER_BYTES + tcp::MIN_HEADER_BYTES;

/// What the table knows of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    pub key: u128,
    pub epoch: u32,
    pub pass: Pass,
    /// Source and destination, as they stand in the header.
    pub addresses: u64,
    /// What changes in the IP header, the hop included, and in what TCP and UDP cover.
    pub header: u16,
    pub pseudo_header: u16,
    pub egress: TunnelId,
    pub realm: RealmId,
    /// The realm has other attachments.
    pub has_choice: bool,
}

/// What arrives of a packet that the table may know, as the bytes stand there. 0: one that it never knows. The packet is the first
/// `len` bytes of its buffer.
#[inline]
pub fn key_of(realm: RealmId, len: usize, buffer: &[u8]) -> u128 {
    const PORTS: usize = ipv4::MIN_HEADER_BYTES;
    // Version and length of the header (no options); of the fragment's word all but DF.
    const SHAPE: u64 = 0xff << 56 | !ipv4::DONT_FRAGMENT as u64;
    const PLAIN: u64 = 0x45 << 56;
    let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else { return 0 };
    let (first, second) = (eight(header, 0).swap_bytes(), eight(header, ipv4::TTL).swap_bytes());
    let (ttl, protocol, total_bytes) = ((second >> 56) as u8, (second >> 48) as u8, usize::from((first >> 32) as u16));
    let message_bytes = match protocol {
        protocol::UDP => udp::HEADER_BYTES,
        protocol::TCP => tcp::MIN_HEADER_BYTES,
        _ => return 0,
    };
    if first & SHAPE != PLAIN || ttl <= 1 || total_bytes < PORTS + message_bytes || total_bytes > len {
        return 0;
    }
    if protocol == protocol::TCP {
        match buffer.get(PORTS..total_bytes).and_then(tcp::parse) {
            Some((_, _, flags)) if flags & flag::SYN == 0 => {}
            _ => return 0,
        }
    }
    let ports = eight(header, PORTS) as u32;
    // Its protocol makes it something else than 0.
    let rest = u64::from(ports) | u64::from(realm.0) << 32 | u64::from(protocol) << PROTOCOL_SHIFT;
    u128::from(eight(header, ipv4::SOURCE)) | u128::from(rest) << 64
}

const PROTOCOL_SHIFT: u32 = 48;

#[inline]
pub fn is_tcp(key: u128) -> bool {
    (key >> 64) as u64 >> PROTOCOL_SHIFT == u64::from(protocol::TCP)
}

/// Eight bytes, the first in memory lowest.
#[inline]
fn eight(header: &[u8; HEADER_BYTES], at: usize) -> u64 {
    header[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// By the header.
#[inline]
pub fn total_bytes_of(header: &[u8; HEADER_BYTES]) -> u16 {
    u16::from_be_bytes([header[ipv4::TOTAL_LENGTH], header[ipv4::TOTAL_LENGTH + 1]])
}

impl Entry {
    /// `None`: there is more to it than the table can hold.
    pub fn learn(key: u128, epoch: u32, pass: Pass, meta: &Meta, carriers: &Carriers) -> Option<Entry> {
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
        let mut shown = [0; 8];
        shown[..4].copy_from_slice(&source.octets());
        shown[4..].copy_from_slice(&destination.octets());
        // One hop less: the upper byte of its word.
        let header = addresses.word(0x0100, 0);
        let realm = meta.destination.realm;
        Some(Entry {
            key,
            epoch,
            pass,
            addresses: u64::from_le_bytes(shown),
            header: header.sum(),
            pseudo_header: addresses.sum(),
            egress: meta.egress,
            realm,
            has_choice: carriers.has_choice(realm),
        })
    }

    /// As [`crate::nat::rewrite::rewrite`] does.
    #[inline]
    pub fn rewrite(&self, packet: &mut [u8; HEADER_BYTES]) {
        Delta::of_sum(self.header).apply_at(packet, ipv4::CHECKSUM);
        packet[ipv4::TTL] -= 1;
        if let Some(addresses) = packet[ipv4::SOURCE..].first_chunk_mut() {
            *addresses = self.addresses.to_le_bytes();
        }
        let message = &mut packet[ipv4::MIN_HEADER_BYTES..];
        let delta = Delta::of_sum(self.pseudo_header);
        if is_tcp(self.key) { delta.apply_at(message, tcp::CHECKSUM) } else { udp::fix_checksum(message, delta) }
    }

    /// Whether it is the entry of this key. Where there is none, there is no epoch.
    #[inline]
    pub fn is_of(line: &Line, key: u128, epoch: u32) -> bool {
        let differs = (line[0] ^ key as u64) | (line[1] ^ (key >> 64) as u64) | u64::from(epoch_of(line) ^ epoch);
        differs == 0
    }

    /// As it is learned.
    pub fn to_words(self) -> Line {
        let Entry { key, epoch, pass, addresses, header, pseudo_header, egress, realm, has_choice } = self;
        let Pass { slot, serial, from_opener, generation } = pass;
        let bits = u64::from(has_choice) | u64::from(from_opener) << 1;
        [
            key as u64,
            (key >> 64) as u64,
            u64::from(epoch) | u64::from(slot) << 32,
            serial,
            addresses,
            u64::from(header) | u64::from(pseudo_header) << 16 | u64::from(egress.0) << 32,
            u64::from(realm.0) | bits << 16 | u64::from(generation.0) << 32,
            0, // its session has not let anything pass yet
        ]
    }

    #[inline]
    pub fn from_words(line: &Line) -> Self {
        let [_, _, _, _, addresses, deltas, rest, _] = *line;
        Entry {
            key: key_in(line),
            epoch: epoch_of(line),
            pass: pass_of(line),
            addresses,
            header: deltas as u16,
            pseudo_header: (deltas >> 16) as u16,
            egress: egress_of(line),
            realm: RealmId(rest as u16),
            has_choice: has_choice(line),
        }
    }
}

// One by one, for loops that need few of them.

#[inline]
pub fn key_in(line: &Line) -> u128 {
    u128::from(line[0]) | u128::from(line[1]) << 64
}

#[inline]
pub fn epoch_of(line: &Line) -> u32 {
    line[2] as u32
}

#[inline]
pub fn slot_of(line: &Line) -> u32 {
    (line[2] >> 32) as u32
}

#[inline]
pub fn pass_of(line: &Line) -> Pass {
    let generation = Generation((line[6] >> 32) as u32);
    Pass { slot: slot_of(line), serial: line[3], from_opener: line[6] & 1 << 17 != 0, generation }
}

#[inline]
pub fn egress_of(line: &Line) -> TunnelId {
    TunnelId((line[5] >> 32) as u32)
}

/// When its session let a packet pass the last time ([`crate::nat::Sessions::moment`]). 0: TCP's, or not yet.
#[inline]
pub fn passed_at(line: &Line) -> u64 {
    line[7]
}

#[inline]
pub fn note_passed(line: &mut Line, moment: u64) {
    line[7] = moment;
}

#[inline]
pub fn has_choice(line: &Line) -> bool {
    line[6] & 1 << 16 != 0
}
