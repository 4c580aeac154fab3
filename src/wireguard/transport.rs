//! The way of packets through their sessions, cut in two where the cryptography stands, so that all packets of a batch can be
//! given to it at once (`crypto::batch`).
//!
//! ```text
//! seal    Sealer::prepare    counter, header, padding, place in the outbox
//!         (seal_batch)       by Endpoint::sealing_key
//!         Endpoint::sent     what is counted; then the places are committed
//!
//! open    Endpoint::look_up  whose it is, whether the counter is new, and the key; changes nothing
//!         (open_batch)
//!         Endpoint::arrived  if it is authentic: counter used, peer there, session confirmed, packet or keepalive
//! ```
//!
//! Between the halves of one packet there may be those of others, of the same session too, and nothing else. [`Endpoint::seal`] and [`Endpoint::open`]
//! do the same for one packet by itself.

use super::endpoint::{Endpoint, Shared};
use super::event::Opened;
use super::ingress::peer_mut;
use super::inner::{Inner, inner};
use super::message::{DATA_HEADER_BYTES, DATA_OVERHEAD_BYTES, Data, Message};
use super::peer::{NEVER, Peer};
use super::primitives::TAG_BYTES;
use super::session::Session;
use crate::crypto::{OpenJob, PacketKey, Stamp, open_batch};
use crate::net::{Path, Timestamp, TunnelId};
use crate::packet::outbox::Place;
use crate::packet::{DropReason, Outbox};

/// Packets are padded to a multiple of this, so that their lengths tell less.
const PADDING_BYTES: usize = 16;
/// What stands at the beginning of a data message.
const DATA: [u8; 4] = [4, 0, 0, 0];

/// Packets to one peer are prepared here.
pub struct Sealer<'a> {
    session: &'a mut Session,
    mtu_bytes: usize,
    now: Timestamp,
}

/// A packet that is to be sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prepared {
    /// Its message in the outbox, of which the header is written.
    pub place: Place,
    pub stamp: Stamp,
    /// The packet with its padding.
    pub text_bytes: usize,
}

/// A data message that is to be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arriving {
    tunnel: TunnelId,
    receiver_index: u32,
    counter: u64,
    /// What is in it, padding included.
    pub text_bytes: usize,
}

impl Sealer<'_> {
    /// The first `packet_bytes` of `buffer` are the packet; behind it there must be room for the padding.
    #[inline]
    pub fn prepare(
        &mut self,
        buffer: &mut [u8],
        packet_bytes: usize,
        outbox: &mut Outbox,
    ) -> Result<Prepared, DropReason> {
        if self.session.is_spent(self.now) {
            return Err(DropReason::TunnelDown); // the timers will notice
        }
        let text_bytes = padded_bytes(packet_bytes, self.mtu_bytes);
        buffer.get_mut(packet_bytes..text_bytes).ok_or(DropReason::InnerTooLong)?.fill(0);
        let place = outbox.reserve(text_bytes + DATA_OVERHEAD_BYTES).ok_or(DropReason::EgressQueueFull)?;
        let counter = self.session.begin(outbox.place_mut(place)).inspect_err(|_| outbox.give_up(place))?;
        Ok(Prepared { place, stamp: Stamp::WireGuard { counter }, text_bytes })
    }
}

impl Prepared {
    /// Where ciphertext and tag go, of the bytes of the place.
    #[inline]
    pub fn sealed(message: &mut [u8]) -> &mut [u8] {
        &mut message[DATA_HEADER_BYTES..]
    }
}

impl Arriving {
    #[inline]
    pub fn stamp(&self) -> Stamp {
        Stamp::WireGuard { counter: self.counter }
    }

    /// Ciphertext and tag, of the bytes of the datagram.
    #[inline]
    pub fn sealed<'a>(&self, datagram: &'a [u8]) -> &'a [u8] {
        &datagram[DATA_HEADER_BYTES..]
    }
}

impl Endpoint {
    /// Seals `packet` straight into `outbox`. A peer without a session is called, if it is known where.
    pub fn seal(&mut self, tunnel: TunnelId, packet: &[u8], outbox: &mut Outbox) -> Result<(), DropReason> {
        let now = self.shared.now;
        let Some(Some(peer)) = self.peers.get_mut(tunnel.index()) else { return Err(DropReason::NoTunnel) };
        if !peer.is_live() {
            return Err(self.call(tunnel, outbox));
        }
        peer.ask_for_look(&mut self.shared);
        peer.seal(packet, outbox, now)
    }

    /// For packets to that peer. A peer without a session is called, if it is known where.
    #[inline]
    pub fn sealer(&mut self, tunnel: TunnelId, outbox: &mut Outbox) -> Result<Sealer<'_>, DropReason> {
        if !self.is_up(tunnel) {
            return Err(self.refuse(tunnel, outbox));
        }
        let now = self.shared.now;
        let peer = peer_mut(&mut self.peers, tunnel).ok_or(DropReason::NoTunnel)?;
        peer.ask_for_look(&mut self.shared);
        let mtu_bytes = peer.traffic.mtu_bytes;
        match (&mut peer.current, peer.traffic.path) {
            (Some(session), Some(_)) => Ok(Sealer { session, mtu_bytes, now }),
            _ => Err(DropReason::TunnelDown),
        }
    }

    #[cold]
    fn refuse(&mut self, tunnel: TunnelId, outbox: &mut Outbox) -> DropReason {
        match self.peers.get(tunnel.index()) {
            Some(Some(_)) => self.call(tunnel, outbox),
            _ => DropReason::NoTunnel,
        }
    }

    /// What packets to that peer that have been prepared are to be sealed with.
    #[inline]
    pub fn sealing_key(&self, tunnel: TunnelId) -> Option<&PacketKey> {
        Some(self.peers.get(tunnel.index())?.as_ref()?.current.as_ref()?.sealing_key())
    }

    /// So many packets have been sealed, of so many bytes altogether. Where they go.
    #[inline]
    pub fn sent(&mut self, tunnel: TunnelId, packets: u64, bytes: u64) -> Option<Path> {
        let traffic = &mut peer_mut(&mut self.peers, tunnel)?.traffic;
        if packets > 0 {
            traffic.tx_packets += packets;
            traffic.tx_bytes += bytes;
            traffic.unanswered_since = traffic.unanswered_since.min(self.shared.now);
            traffic.unacknowledged_since = NEVER;
        }
        traffic.path
    }

    /// Whether it can be looked up. What cannot is for [`Endpoint::open`], which is to be called between batches.
    #[inline]
    pub fn is_data(datagram: &[u8]) -> bool {
        datagram.len() >= DATA_OVERHEAD_BYTES && datagram.first_chunk() == Some(&DATA)
    }

    /// Reads what packets of different peers need, so that the waits for it overlap; the second of two steps wants what the
    /// first has found. What comes of it means nothing.
    #[inline]
    pub fn touch_index(&self, datagram: &[u8]) -> TunnelId {
        let index = datagram.get(4..8).and_then(|bytes| bytes.first_chunk());
        index.and_then(|index| self.shared.indices.tunnel_of(u32::from_le_bytes(*index))).unwrap_or(TunnelId::NONE)
    }

    #[inline]
    pub fn touch(&self, tunnel: TunnelId) -> u64 {
        let Some(Some(peer)) = self.peers.get(tunnel.index()) else { return 0 };
        let traffic = peer.traffic.rx_packets ^ peer.traffic.mtu_bytes as u64;
        traffic ^ peer.current.as_ref().map_or(0, Session::touch)
    }

    /// Before datagrams are looked up.
    #[inline]
    pub fn note_now(&mut self, now: Timestamp) {
        self.shared.now = self.shared.now.max(now);
    }

    /// Whose data message it is, and what it is to be opened with.
    #[inline]
    pub fn look_up(&self, datagram: &[u8]) -> Result<(Arriving, &PacketKey), DropReason> {
        match Message::parse(datagram) {
            Some(Message::Data(data)) => self.admit_data(&data),
            _ => Err(DropReason::OuterMalformed),
        }
    }

    #[inline]
    fn admit_data(&self, data: &Data<'_>) -> Result<(Arriving, &PacketKey), DropReason> {
        let unknown = DropReason::DataUnknownSession;
        let tunnel = self.shared.indices.tunnel_of(data.receiver_index).ok_or(unknown)?;
        let peer = self.peers.get(tunnel.index()).and_then(Option::as_ref).ok_or(unknown)?;
        let session = peer.session(data.receiver_index).ok_or(unknown)?;
        session.admit(data.counter, self.shared.now)?;
        let text_bytes = data.sealed.len() - TAG_BYTES;
        let arriving = Arriving { tunnel, receiver_index: data.receiver_index, counter: data.counter, text_bytes };
        Ok((arriving, session.opening_key()))
    }

    /// A message that was looked up is authentic, and this is in it.
    #[inline]
    pub fn arrived(&mut self, arriving: &Arriving, path: &Path, text: &[u8]) -> Opened {
        match peer_mut(&mut self.peers, arriving.tunnel) {
            Some(peer) => peer.arrived(arriving, path, text, &mut self.shared),
            None => Opened::dropped(DropReason::DataUnknownSession),
        }
    }

    /// Opens one data message into `out`.
    #[inline]
    pub(super) fn open_data(&mut self, data: Data<'_>, path: Path, out: &mut [u8]) -> Opened {
        let (arriving, key) = match self.admit_data(&data) {
            Ok(found) => found,
            Err(reason) => return Opened::dropped(reason),
        };
        let Some(text) = out.get_mut(..arriving.text_bytes) else { return Opened::dropped(DropReason::InnerTooLong) };
        let mut job = [OpenJob::new(key, arriving.stamp(), data.sealed, text)];
        open_batch(&mut job);
        match job[0].is_authentic {
            true => self.arrived(&arriving, &path, &out[..arriving.text_bytes]),
            false => Opened::dropped(DropReason::DataNotAuthentic),
        }
    }
}

impl Peer {
    #[inline]
    fn session(&self, index: u32) -> Option<&Session> {
        let sessions = [&self.current, &self.next, &self.previous];
        sessions.into_iter().flatten().find(|session| session.index() == index)
    }

    #[inline]
    fn arrived(&mut self, arriving: &Arriving, path: &Path, text: &[u8], shared: &mut Shared) -> Opened {
        let tunnel = self.config.tunnel;
        let index = arriving.receiver_index;
        let is_current = self.current.as_ref().is_some_and(|session| session.index() == index);
        let session = if is_current { self.current.as_mut() } else { self.other_session(index) };
        // It may have gone with another packet of the batch.
        let Some(session) = session else { return Opened::dropped(DropReason::DataUnknownSession) };
        if let Err(reason) = session.accept(arriving.counter) {
            return Opened::dropped(reason);
        }
        if self.traffic.path.as_ref() != Some(path) {
            self.roam(*path, shared);
        }
        if !is_current {
            self.confirm(index, *path, shared);
        }
        let traffic = &mut self.traffic;
        traffic.unanswered_since = NEVER;
        match inner(text) {
            Inner::Packet(len) => {
                traffic.last_data_received = shared.now;
                traffic.unacknowledged_since = traffic.unacknowledged_since.min(shared.now);
                traffic.rx_packets += 1;
                traffic.rx_bytes += len as u64;
                self.ask_for_look(shared);
                Opened::Packet { tunnel, len }
            }
            Inner::Nothing => Opened::Keepalive { tunnel },
            Inner::Malformed => Opened::Dropped { reason: DropReason::InnerMalformed, tunnel: Some(tunnel) },
        }
    }

    #[cold]
    fn other_session(&mut self, index: u32) -> Option<&mut Session> {
        [&mut self.next, &mut self.previous].into_iter().flatten().find(|session| session.index() == index)
    }

    /// Seals straight into the outbox.
    fn seal(&mut self, packet: &[u8], outbox: &mut Outbox, now: Timestamp) -> Result<(), DropReason> {
        let traffic = &mut self.traffic;
        let (Some(session), Some(path)) = (&mut self.current, traffic.path) else { return Err(DropReason::TunnelDown) };
        if session.is_spent(now) {
            return Err(DropReason::TunnelDown); // the timers will notice
        }
        let padded_bytes = padded_bytes(packet.len(), traffic.mtu_bytes);
        let message_bytes = padded_bytes + DATA_OVERHEAD_BYTES;
        let message = outbox.space(message_bytes).ok_or(DropReason::EgressQueueFull)?;
        session.seal(packet, padded_bytes, message)?;
        outbox.commit(path, true, message_bytes);
        traffic.tx_packets += 1;
        traffic.tx_bytes += packet.len() as u64;
        traffic.unanswered_since = traffic.unanswered_since.min(now);
        traffic.unacknowledged_since = NEVER;
        Ok(())
    }
}

#[inline]
fn padded_bytes(packet_bytes: usize, mtu_bytes: usize) -> usize {
    packet_bytes.next_multiple_of(PADDING_BYTES).min(mtu_bytes).max(packet_bytes)
}
