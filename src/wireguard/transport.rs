//! The way of packets through their sessions, cut in two where the cryptography stands, so that all packets of a batch can be
//! given to it at once (`crypto::batch`).
//!
//! ```text
//! seal    Endpoint::depart    counters for all packets to one peer
//!         (SealBatch)         by Endpoint::sealing_key, behind Departure::write_header
//!         Endpoint::sent      what is counted; then the places are committed
//!
//! open    Endpoint::opener    whose messages with one index are
//!         Opener::look_up     whether the counter is new, and the key; changes nothing
//!         (OpenBatch)
//!         Endpoint::receiver  of those that are authentic, with one index and by one path:
//!         Receiver::arrived   counter used, peer there, session confirmed, packet or keepalive
//!         Receiver::settled   for the others of them once nothing more changes by them: counters used, packets or keepalives
//! ```
//!
//! What is the same for all messages of a session, or to one peer, is found once for those that stand behind one another. Between the halves of one packet there may be
//! those of others, of the same session too, and nothing else. [`Endpoint::seal`] and [`Endpoint::open`] do the same for one packet by itself.

use super::endpoint::{Endpoint, Shared};
use super::event::Opened;
use super::ingress::peer_mut;
use super::inner::{Inner, inner};
use super::message::{DATA_HEADER_BYTES, DATA_OVERHEAD_BYTES, Data, data_header, split_data};
use super::peer::{NEVER, Peer, Traffic};
use super::primitives::TAG_BYTES;
use super::session::Session;
use crate::crypto::{Departing, OpenJob, PacketKey, Stamp, open_batch};
use crate::net::{Path, Timestamp, TunnelId};
use crate::packet::{DropReason, Outbox};

/// Packets are padded to a multiple of this, so that their lengths tell less.
pub const PADDING_BYTES: usize = 16;
/// What stands at the beginning of a data message.
const DATA: [u8; 4] = [4, 0, 0, 0];

/// Packets to one peer, which have their counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Departure {
    /// Of the first of them; the others have those that follow.
    pub counter: u64,
    /// So many of them. If fewer than asked for, the session has no numbers for the rest.
    pub packets: usize,
    remote_index: u32,
    mtu_bytes: usize,
}

/// The session that messages with one receiver index are for.
#[derive(Clone, Copy)]
pub struct Opener<'a> {
    session: &'a Session,
    tunnel: TunnelId,
}

/// Takes authentic messages with one receiver index that came by one path.
pub struct Receiver<'a> {
    peer: &'a mut Peer,
    shared: &'a mut Shared,
    path: &'a Path,
    /// Not that of the peer's configuration, which lies in a cache line that no packet needs.
    tunnel: TunnelId,
    receiver_index: u32,
}

/// The same while the index is the current session's, and the path the peer's: nothing changes by the next message but the window and
/// what is counted.
pub struct Settled<'a> {
    session: &'a mut Session,
    tunnel: TunnelId,
    is_heard: bool,
}

impl Departing for Departure {
    #[inline]
    fn packets(&self) -> usize {
        self.packets
    }

    /// The outer header shows nothing of the inner one.
    #[inline]
    fn traffic_class(&self, _: &[u8]) -> u8 {
        0
    }

    /// Padding: as much as there may be, of which the length is known.
    #[inline]
    fn finish(&self, buffer: &mut [u8], packet_bytes: usize) -> Option<usize> {
        *buffer.get_mut(packet_bytes..)?.first_chunk_mut()? = [0; PADDING_BYTES];
        Some(padded_bytes(packet_bytes, self.mtu_bytes))
    }

    #[inline]
    fn message_bytes(&self, text_bytes: usize) -> usize {
        text_bytes + DATA_OVERHEAD_BYTES
    }

    #[inline]
    fn stamp(&self, behind: u64) -> Stamp {
        Stamp::WireGuard { counter: self.counter + behind }
    }

    /// Ciphertext and tag stand behind it.
    #[inline]
    fn write_header<'a>(&self, stamp: Stamp, message: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let Stamp::WireGuard { counter } = stamp else { return None };
        let (header, sealed) = message.split_first_chunk_mut::<DATA_HEADER_BYTES>()?;
        *header = data_header(self.remote_index, counter);
        Some(sealed)
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

    /// Takes counters for so many packets to that peer, or as many as its session has. A peer without a session is called, if it is
    /// known where.
    #[inline]
    pub fn depart(&mut self, tunnel: TunnelId, packets: usize, outbox: &mut Outbox) -> Result<Departure, DropReason> {
        if !self.is_up(tunnel) {
            return Err(self.refuse(tunnel, outbox));
        }
        let now = self.shared.now;
        let peer = peer_mut(&mut self.peers, tunnel).ok_or(DropReason::NoTunnel)?;
        peer.ask_for_look(&mut self.shared);
        let mtu_bytes = peer.traffic.mtu_bytes;
        let session = peer.current.as_mut().filter(|_| peer.traffic.path.is_some()).ok_or(DropReason::TunnelDown)?;
        // Of one that is spent the timers will notice.
        let counters = session.take_counters(packets as u64, now);
        if counters.is_empty() {
            return Err(DropReason::TunnelDown);
        }
        let packets = (counters.end - counters.start) as usize;
        Ok(Departure { counter: counters.start, packets, remote_index: session.remote_index(), mtu_bytes })
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
        receiver_index(datagram).and_then(|index| self.shared.indices.tunnel_of(index)).unwrap_or(TunnelId::NONE)
    }

    #[inline]
    pub fn touch_in(&self, tunnel: TunnelId) -> u64 {
        self.touch(tunnel, Session::touch_in)
    }

    /// The same for a peer that packets go to.
    #[inline]
    pub fn touch_out(&self, tunnel: TunnelId) -> u64 {
        self.touch(tunnel, Session::touch_out)
    }

    #[inline]
    fn touch(&self, tunnel: TunnelId, touch: fn(&Session) -> u64) -> u64 {
        let Some(Some(peer)) = self.peers.get(tunnel.index()) else { return 0 };
        let Traffic { path, rx_packets, mtu_bytes, .. } = &peer.traffic;
        let traffic = rx_packets ^ *mtu_bytes as u64 ^ u64::from(path.is_some());
        traffic ^ peer.current.as_ref().map_or(0, touch)
    }

    /// Before datagrams are looked up.
    #[inline]
    pub fn note_now(&mut self, now: Timestamp) {
        self.shared.now = self.shared.now.max(now);
    }

    /// Whose data messages with that receiver index are, while the session serves.
    #[inline]
    pub fn opener(&self, receiver_index: u32) -> Result<Opener<'_>, DropReason> {
        let find = || {
            let tunnel = self.shared.indices.tunnel_of(receiver_index)?;
            let session = self.peers.get(tunnel.index())?.as_ref()?.session(receiver_index)?;
            (!session.is_expired(self.shared.now)).then_some(Opener { session, tunnel })
        };
        find().ok_or(DropReason::DataUnknownSession)
    }

    /// For authentic messages with that receiver index, all of which came by one path.
    #[inline]
    pub fn receiver<'a>(
        &'a mut self,
        tunnel: TunnelId,
        receiver_index: u32,
        path: &'a Path,
    ) -> Result<Receiver<'a>, DropReason> {
        let peer = peer_mut(&mut self.peers, tunnel).ok_or(DropReason::DataUnknownSession)?;
        Ok(Receiver { peer, shared: &mut self.shared, path, tunnel, receiver_index })
    }

    /// Opens one data message into `out`.
    #[inline]
    pub(super) fn open_data(&mut self, data: Data<'_>, path: Path, out: &mut [u8]) -> Opened {
        match self.open_one(data, path, out) {
            Ok(opened) => opened,
            Err(reason) => Opened::dropped(reason),
        }
    }

    fn open_one(&mut self, data: Data<'_>, path: Path, out: &mut [u8]) -> Result<Opened, DropReason> {
        let opener = self.opener(data.receiver_index)?;
        let Data { counter, sealed, .. } = data;
        opener.session.admit(counter)?;
        let text = out.get_mut(..text_bytes(sealed)).ok_or(DropReason::InnerTooLong)?;
        let mut job = [OpenJob::new(opener.key(), Stamp::WireGuard { counter }, sealed, text)];
        open_batch(&mut job);
        if !job[0].is_authentic {
            return Err(DropReason::DataNotAuthentic);
        }
        let mut receiver = self.receiver(opener.tunnel(), data.receiver_index, &path)?;
        Ok(receiver.arrived(counter, &out[..text_bytes(sealed)]))
    }
}

impl<'a> Opener<'a> {
    #[inline]
    pub fn tunnel(&self) -> TunnelId {
        self.tunnel
    }

    #[inline]
    pub fn index(&self) -> u32 {
        self.session.index()
    }

    #[inline]
    pub fn key(&self) -> &'a PacketKey {
        self.session.opening_key()
    }

    /// Of a data message with that index: its counter, if it is new, and what is sealed of it.
    #[inline]
    pub fn look_up<'d>(&self, datagram: &'d [u8]) -> Result<(u64, &'d [u8]), DropReason> {
        let (counter, sealed) = split_data(datagram).ok_or(DropReason::OuterMalformed)?;
        self.session.admit(counter)?;
        Ok((counter, sealed))
    }
}

impl Receiver<'_> {
    #[inline]
    pub fn tunnel(&self) -> TunnelId {
        self.tunnel
    }

    /// A message that was looked up is authentic, and this is in it.
    pub fn arrived(&mut self, counter: u64, text: &[u8]) -> Opened {
        let tunnel = self.tunnel();
        // It may have gone with another packet of the batch.
        let Some(session) = self.peer.session_mut(self.receiver_index) else {
            return Opened::dropped(DropReason::DataUnknownSession);
        };
        let mut settled = Settled { session, tunnel, is_heard: false };
        let opened = settled.arrived(counter, text);
        if settled.is_heard {
            self.settle();
            match opened {
                Opened::Packet { len, .. } => self.count(true, 1, len as u64),
                _ => self.count(true, 0, 0),
            }
        }
        opened
    }

    /// For the messages that come next.
    #[inline]
    pub fn settled(&mut self) -> Option<Settled<'_>> {
        let is_followed = self.peer.traffic.path.as_ref() == Some(self.path);
        let tunnel = self.tunnel;
        let session = self.peer.current.as_mut().filter(|session| session.index() == self.receiver_index);
        Some(Settled { session: session.filter(|_| is_followed)?, tunnel, is_heard: false })
    }

    /// So many packets have come since it was settled, of so many bytes altogether; and whether anything has.
    #[inline]
    pub fn count(&mut self, is_heard: bool, packets: u64, bytes: u64) {
        let (traffic, now) = (&mut self.peer.traffic, self.shared.now);
        if is_heard {
            traffic.unanswered_since = NEVER;
        }
        if packets > 0 {
            traffic.last_data_received = now;
            traffic.unacknowledged_since = traffic.unacknowledged_since.min(now);
            traffic.rx_packets += packets;
            traffic.rx_bytes += bytes;
            self.peer.ask_for_look(self.shared);
        }
    }

    fn settle(&mut self) {
        let Receiver { peer, shared, path, receiver_index, .. } = self;
        if peer.traffic.path.as_ref() != Some(path) {
            peer.roam(**path, shared);
        }
        if peer.current.as_ref().is_none_or(|session| session.index() != *receiver_index) {
            peer.confirm(*receiver_index, **path, shared);
        }
    }
}

impl Settled<'_> {
    /// As [`Receiver::arrived`], but counts no packet.
    #[inline(always)]
    pub fn arrived(&mut self, counter: u64, text: &[u8]) -> Opened {
        if let Err(reason) = self.session.accept(counter) {
            return Opened::dropped(reason);
        }
        self.is_heard = true;
        self.opened(text)
    }

    /// Notes the counters of so many messages, which follow one another, if all of them are newer than any before: at most 64. Then
    /// [`Settled::opened`] tells what each is.
    #[inline]
    pub fn accept_newest(&mut self, first: u64, count: u64) -> bool {
        let are_newest = self.session.accept_newest(first, count);
        self.is_heard |= are_newest;
        are_newest
    }

    /// What a message is of which this was sealed.
    #[inline(always)]
    pub fn opened(&self, text: &[u8]) -> Opened {
        let tunnel = self.tunnel;
        match inner(text) {
            Inner::Packet(len) => Opened::Packet { tunnel, len },
            Inner::Nothing => Opened::Keepalive { tunnel },
            Inner::Malformed => Opened::Dropped { reason: DropReason::InnerMalformed, tunnel: Some(tunnel) },
        }
    }

    /// For [`Receiver::count`].
    #[inline]
    pub fn is_heard(&self) -> bool {
        self.is_heard
    }
}

impl Peer {
    #[inline]
    fn session(&self, index: u32) -> Option<&Session> {
        let sessions = [&self.current, &self.next, &self.previous];
        sessions.into_iter().flatten().find(|session| session.index() == index)
    }

    fn session_mut(&mut self, index: u32) -> Option<&mut Session> {
        let sessions = [&mut self.current, &mut self.next, &mut self.previous];
        sessions.into_iter().flatten().find(|session| session.index() == index)
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

/// Of a data message.
#[inline]
pub fn receiver_index(datagram: &[u8]) -> Option<u32> {
    let (_, index) = datagram.first_chunk::<8>()?.split_last_chunk()?;
    Some(u32::from_le_bytes(*index))
}

/// Of what is sealed of a message: how long its text will be, padding included.
#[inline]
pub fn text_bytes(sealed: &[u8]) -> usize {
    sealed.len() - TAG_BYTES
}

#[inline]
fn padded_bytes(packet_bytes: usize, mtu_bytes: usize) -> usize {
    const { assert!(PADDING_BYTES.is_power_of_two()) };
    ((packet_bytes + PADDING_BYTES - 1) & !(PADDING_BYTES - 1)).min(mtu_bytes).max(packet_bytes)
}
