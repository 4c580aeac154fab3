//! A pair of SAs, one in each direction, as IKE agreed on them, and what they have carried.

use std::mem::offset_of;

use super::ecn::Dscp;
use super::egress::Departure;
use super::esp::{self, Overhead};
use super::lifetime::{Budget, Lifetime, Meter, Wear};
use super::replay::ReplayWindow;
use super::selectors::{Selectors, Usual};
use super::status::{SaStatus, UseOut};
use super::table::Slot;
use crate::crypto::{PacketKey, Stamp};
use crate::net::{Path, Selector, Timestamp, TunnelId};
use crate::packet::DropReason;

/// What IKE hands over: both halves of a Child SA.
#[derive(Debug)]
pub struct ChildSa {
    pub tunnel: TunnelId,
    /// Ours to choose: packets to us are found by it. Different for every SA that exists.
    pub spi_in: u32,
    /// The peer's to choose: any two peers may choose the same.
    pub spi_out: u32,
    pub key_in: PacketKey,
    pub key_out: PacketKey,
    /// Extended sequence numbers.
    pub esn: bool,
    /// Packets, [`super::MIN_WINDOW_PACKETS`] to [`super::MAX_WINDOW_PACKETS`].
    pub replay_window: u32,
    /// Traffic selectors of our side and of the peer's, at most [`super::MAX_SELECTORS`] each.
    pub ours: Vec<Selector>,
    pub theirs: Vec<Selector>,
    pub path: Path,
    /// The peer is behind a NAT: answer where authentic packets come from (RFC 7296 section 2.23).
    pub follow_path: bool,
    pub lifetime: Lifetime,
    pub dscp: Dscp,
    /// Copy ECN to the outer header (RFC 6040 normal mode).
    pub ecn: bool,
    pub outbound: Outbound,
}

/// When packets are to be sealed with a new SA.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outbound {
    /// At once: we began the exchange, so the peer has the keys already.
    Now,
    /// The peer began the exchange, and has the keys only when our answer arrives: at its first authentic packet, or when
    /// no other SA can carry the packet.
    WhenHeard,
}

/// How far an SA is used for sealing. The order is that of preference.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Sealing {
    Active,
    Waiting,
    Retired,
}

/// In this order in memory: what every packet asks for, what each one that is opened asks for and each one that is sealed,
/// a cache line and two and two; the rest lies behind.
#[repr(C, align(64))]
pub(super) struct Sa {
    pub path: Path,
    pub tunnel: TunnelId,
    pub sealing: Sealing,
    pub follow_path: bool,
    esn: bool,
    /// In which the peer was heard last.
    heard_second: u32,
    pub received: Meter,
    key_in: PacketKey,
    replay: ReplayWindow,
    /// The soft limits of `budget_in`.
    fresh_in: Lifetime,
    /// Of the selectors: packets of either direction ask for that.
    usual: Usual,
    pub spi_in: u32,
    /// The last sequence number sent. Never decreases, never wraps.
    sequence_out: u64,
    pub sent: Meter,
    key_out: PacketKey,
    spi_out: u32,
    ecn: bool,
    dscp: Dscp,
    budget_out: Budget,
    /// Of what is sent.
    overhead_out: Overhead,
    budget_in: Budget,
    selectors: Selectors,
    /// An event has told that it wears out.
    pub rekey_told: bool,
    pub installed: Timestamp,
    pub retired_until: Option<Timestamp>,
    /// Counts installations, so that newer and older can be told.
    pub number: u64,
}

const _: () = assert!(offset_of!(Sa, received) == 64);
const _: () = assert!(offset_of!(Sa, sequence_out) == 192);
const _: () = assert!(offset_of!(Sa, budget_in) <= 320);

/// What came out of an authentic packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Arrival {
    pub content: Result<Content, DropReason>,
    /// No packet with a higher sequence number has come by this SA.
    pub is_newest: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// So many bytes of the output are an inner packet.
    Packet(usize),
    Dummy,
}

impl Sa {
    /// `jitter`: 16 random bits, see [`Budget`].
    pub fn new(child: ChildSa, number: u64, jitter: u16, now: Timestamp) -> Self {
        let budget_in = Budget::new(child.lifetime, jitter);
        let selectors = Selectors::new(&child.ours, &child.theirs);
        let out = Lifetime { packets: child.lifetime.packets.min(last_sequence(child.esn)), ..child.lifetime };
        Sa {
            tunnel: child.tunnel,
            spi_in: child.spi_in,
            spi_out: child.spi_out,
            sealing: match child.outbound {
                Outbound::Now => Sealing::Active,
                Outbound::WhenHeard => Sealing::Waiting,
            },
            follow_path: child.follow_path,
            esn: child.esn,
            ecn: child.ecn,
            dscp: child.dscp,
            rekey_told: false,
            heard_second: u32::MAX,
            sequence_out: 0,
            overhead_out: Overhead::of(&child.key_out),
            sent: Meter::default(),
            received: Meter::default(),
            budget_out: Budget::new(out, jitter),
            fresh_in: budget_in.soft(),
            budget_in,
            path: child.path,
            replay: ReplayWindow::new(child.replay_window),
            usual: selectors.usual(),
            selectors,
            key_out: child.key_out,
            key_in: child.key_in,
            installed: now,
            retired_until: None,
            number,
        }
    }

    /// Reads what every packet to us needs.
    #[inline]
    pub fn touch_in(&self) -> u64 {
        u64::from(self.heard_second) ^ self.received.packets ^ u64::from(self.spi_in) ^ self.touch_selectors()
    }

    /// The same of every packet from us.
    #[inline]
    pub fn touch_out(&self) -> u64 {
        u64::from(self.tunnel.0) ^ self.sequence_out ^ self.overhead_out.fixed_bytes as u64 ^ self.touch_selectors()
    }

    #[inline]
    fn touch_selectors(&self) -> u64 {
        if self.usual.is_empty() { self.selectors.touch() } else { 0 }
    }

    #[inline]
    pub fn carries(&self, packet: &[u8]) -> bool {
        self.usual.cover_outbound(packet) || self.selectors.cover_outbound(packet)
    }

    #[inline]
    pub fn overhead(&self) -> Overhead {
        self.overhead_out
    }

    #[inline]
    pub fn sealing_key(&self) -> &PacketKey {
        &self.key_out
    }

    #[inline]
    pub fn opening_key(&self) -> &PacketKey {
        &self.key_in
    }

    /// The traffic class of the outer header around a packet.
    #[inline]
    pub fn outer_class(&self, packet: &[u8]) -> u8 {
        super::ecn::encapsulate(super::ecn::class_of(packet), self.dscp, self.ecn)
    }

    /// Whether so many more packets, of so many bytes altogether, leave it fresh, and with numbers for more.
    #[inline]
    pub fn stays_fresh_out(&self, packets: usize, bytes: usize) -> bool {
        let has_numbers = last_sequence(self.esn) - self.sequence_out >= packets as u64;
        has_numbers && self.budget_out.soft().stays_above(&self.sent, packets, bytes)
    }

    /// How worn the outbound half is.
    pub fn wear_out(&self) -> Wear {
        self.budget_out.wear(&self.sent)
    }

    /// What so many packets, of so many bytes altogether, are sealed with. An SA that is worn out is not to be used again.
    #[inline]
    pub fn depart(&mut self, slot: Slot, packets: usize, bytes: usize) -> Result<Departure, DropReason> {
        let sequence = self.take_numbers(packets, bytes)?;
        Ok(Departure {
            slot,
            spi: self.spi_out,
            esn: self.esn,
            overhead: self.overhead_out,
            dscp: self.dscp,
            ecn: self.ecn,
            sequence,
            packets,
            is_last: false,
        })
    }

    /// One packet, with all of the sealing.
    pub fn seal(&mut self, packet: &[u8], space: &mut [u8]) -> Result<Wear, DropReason> {
        let next_header = esp::next_header_of(packet).ok_or(DropReason::InnerMalformed)?;
        let sequence = self.take_numbers(1, packet.len())?;
        let stamp = Stamp::Esp { spi: self.spi_out, sequence, esn: self.esn };
        esp::seal(&self.key_out, stamp, sequence, packet, next_header, space);
        Ok(self.wear_out())
    }

    /// Takes numbers for so many packets, of so many bytes altogether: the first of them. A number is the IV too and so must never come twice.
    #[inline]
    fn take_numbers(&mut self, packets: usize, bytes: usize) -> Result<u64, DropReason> {
        let last = self.sequence_out.checked_add(packets as u64).filter(|last| *last <= last_sequence(self.esn));
        let last = last.ok_or(DropReason::TunnelDown)?; // in vain: nobody keeps such an SA
        let sequence = self.sequence_out + 1;
        self.sequence_out = last;
        self.sent.count_all(packets, bytes);
        Ok(sequence)
    }

    /// Which ESP packet one with this number in its header is, if it is to be opened. Changes nothing.
    #[inline]
    pub fn admit(&self, sequence_low: u32) -> Result<u64, DropReason> {
        let sequence = match self.esn {
            true => self.replay.recover(sequence_low),
            false => sequence_low.into(),
        };
        match self.replay.accepts(sequence) {
            true => Ok(sequence),
            false => Err(DropReason::DataReplayed),
        }
    }

    /// Whether it would be opened as the packet that it was taken for elsewhere.
    #[inline]
    pub fn check_lent(&self, sequence: u64) -> Result<(), DropReason> {
        match self.admit(sequence as u32)? == sequence {
            true => Ok(()),
            false => Err(DropReason::DataNotAuthentic),
        }
    }

    /// What a packet to us is opened with, besides the key.
    #[inline]
    pub fn stamp_in(&self, sequence: u64) -> Stamp {
        Stamp::Esp { spi: self.spi_in, sequence, esn: self.esn }
    }

    /// How many packets the replay window has, and the highest number in it.
    pub fn window(&self) -> (u64, u64) {
        (self.replay.window_packets(), self.replay.top())
    }

    pub fn has_esn(&self) -> bool {
        self.esn
    }

    /// What stands around the text of an ESP packet to us.
    #[inline]
    pub fn overhead_in(&self) -> usize {
        Overhead::of(&self.key_in).fixed_bytes
    }

    /// An admitted packet is authentic, and this is in it. `Err`: of those that were admitted together it is another one's replay.
    #[inline(always)]
    pub fn arrived(&mut self, sequence: u64, plaintext: &[u8]) -> Result<Arrival, DropReason> {
        let is_newest = self.replay.take(sequence).ok_or(DropReason::DataReplayed)?;
        Ok(Arrival { content: self.unwrap(plaintext), is_newest })
    }

    /// Notes so many admitted packets with sequence numbers behind one another that are authentic, at most 64, if all of them are newer than any
    /// before. Then [`Sa::content_of`] tells what is in each.
    #[inline]
    pub fn accept_newest(&mut self, first: u64, count: u64) -> bool {
        self.replay.take_newest(first, count)
    }

    /// So many authentic packets had so many bytes of payload altogether.
    #[inline]
    pub fn count_received(&mut self, packets: usize, payload_bytes: usize) {
        self.received.count_all(packets, payload_bytes);
    }

    /// Takes the inner packet out of an authentic plaintext, and counts it.
    #[inline(always)]
    fn unwrap(&mut self, plaintext: &[u8]) -> Result<Content, DropReason> {
        let (content, payload_bytes) = self.content_of(plaintext);
        self.received.count(payload_bytes);
        content
    }

    /// The peer has been heard. Whether that is news: once a second it is.
    #[inline]
    pub fn is_news(&mut self, now: Timestamp) -> bool {
        std::mem::replace(&mut self.heard_second, now.as_secs()) != now.as_secs()
    }

    /// What is in an authentic plaintext, and how many bytes of payload there are.
    #[inline(always)]
    pub fn content_of(&self, plaintext: &[u8]) -> (Result<Content, DropReason>, usize) {
        let trailer = esp::parse_trailer(plaintext);
        let payload_bytes = trailer.map_or(plaintext.len(), |(payload_bytes, _)| payload_bytes);
        (self.content_with(plaintext, trailer), payload_bytes)
    }

    #[inline(always)]
    fn content_with(&self, plaintext: &[u8], trailer: Option<(usize, u8)>) -> Result<Content, DropReason> {
        let (payload_bytes, next_header) = trailer.ok_or(DropReason::EspTrailerInvalid)?;
        let payload = &plaintext[..payload_bytes];
        let inner_bytes = match next_header {
            esp::next_header::IPV4 => esp::ipv4_bytes(payload),
            esp::next_header::IPV6 => esp::ipv6_bytes(payload),
            esp::next_header::NONE => return Ok(Content::Dummy),
            _ => return Err(DropReason::EspTrailerInvalid),
        };
        let inner_bytes = inner_bytes.ok_or(DropReason::InnerMalformed)?;
        let packet = &payload[..inner_bytes];
        match self.usual.cover_inbound(packet) || self.selectors.cover_inbound(packet) {
            true => Ok(Content::Packet(inner_bytes)),
            false => Err(DropReason::InboundNotInSelectors),
        }
    }

    /// How worn the inbound half is.
    #[inline]
    pub fn wear_in(&self) -> Wear {
        self.budget_in.wear(&self.received)
    }

    /// Whether it is not worn after so many packets more, of so many bytes each at most.
    #[inline]
    pub fn stays_fresh_in(&self, packets: usize, bytes: usize) -> bool {
        self.fresh_in.stays_above(&self.received, packets, packets * bytes)
    }

    pub fn status(&self) -> SaStatus {
        SaStatus {
            spi_in: self.spi_in,
            spi_out: self.spi_out,
            suite: self.key_out.suite(),
            esn: self.esn,
            path: self.path,
            use_out: match self.sealing {
                Sealing::Active => UseOut::Active,
                Sealing::Waiting => UseOut::Waiting,
                Sealing::Retired => UseOut::Retired,
            },
            retired_until: self.retired_until,
            installed: self.installed,
            sequence_out: self.sequence_out,
            sequence_in: self.replay.top(),
            rx_packets: self.received.packets,
            rx_bytes: self.received.bytes,
            tx_packets: self.sent.packets,
            tx_bytes: self.sent.bytes,
        }
    }
}

fn last_sequence(esn: bool) -> u64 {
    if esn { u64::MAX } else { u32::MAX.into() }
}

#[cfg(test)]
impl Sa {
    /// As if this many packets had been sent.
    pub fn skip_to(&mut self, sequence: u64) {
        self.sequence_out = sequence;
        self.sent.packets = sequence;
    }

    /// As if this sequence number had come in.
    pub fn skip_in_to(&mut self, sequence: u64) {
        self.replay.take(sequence);
    }
}
