//! Outer datagrams on their way in: whose is it, is it authentic, and what is in it.
//!
//! The order is that of RFC 4303 section 3.4: SA by SPI, replay window, integrity, window moved forward, padding, inner
//! packet, selectors (RFC 4301 section 5.2), ECN (RFC 6040). What fails before the integrity check changes nothing and counts against
//! nobody.

use super::ecn;
use super::endpoint::{Endpoint, tunnel_mut};
use super::esp::{HEADER_BYTES, Header};
use super::lifetime::Wear;
use super::sa::{Arrival, Content, Sa, Sealing};
use super::table::Slot;
use crate::crypto::{OpenJob, PacketKey, Stamp, open_batch};
use crate::net::{Path, Port, Timestamp, TunnelId};
use crate::packet::{Datagram, DropReason, Opened};

/// The SA that packets with one SPI are for.
#[derive(Clone, Copy)]
pub struct Opener<'a> {
    slot: Slot,
    sa: &'a Sa,
    /// What stands around the text.
    overhead_bytes: usize,
}

/// Takes authentic packets of one SA that came by one path and were marked alike.
pub struct Receiver<'a> {
    endpoint: &'a mut Endpoint,
    slot: Slot,
    spi: u32,
    path: &'a Path,
    ecn: u8,
    /// They were opened elsewhere.
    is_lent: bool,
    /// Of whom it is news that it has been, by a packet or a dummy.
    news: Option<TunnelId>,
}

/// The same while the SA stays where and what it is whatever comes: nothing changes by the next packet but the window and what is
/// counted.
pub struct Settled<'a> {
    sa: &'a mut Sa,
    ecn: u8,
    is_lent: bool,
    is_heard: bool,
}

impl Endpoint {
    /// Opens one ESP packet, from the SPI on, into `out`, which must be as long as the datagram.
    #[inline]
    pub fn open(&mut self, datagram: Datagram<'_>, out: &mut [u8], now: Timestamp) -> Opened {
        match self.open_one(datagram, out, now) {
            Ok(opened) => opened,
            Err(reason) => Opened::dropped(reason),
        }
    }

    fn open_one(&mut self, datagram: Datagram<'_>, out: &mut [u8], now: Timestamp) -> Result<Opened, DropReason> {
        self.note_now(now);
        let opener = self.opener(datagram.bytes)?;
        let (sequence, sealed, text_bytes) = opener.look_up(datagram.bytes)?;
        let text = out.get_mut(..text_bytes).ok_or(DropReason::InnerTooLong)?;
        let mut job = [OpenJob::new(opener.key(), opener.stamp(sequence), sealed, text)];
        open_batch(&mut job);
        if !job[0].is_authentic {
            return Err(DropReason::DataNotAuthentic);
        }
        let (slot, spi) = (opener.slot(), opener.spi());
        let mut receiver = self.receiver(slot, spi, &datagram.path, datagram.ecn);
        Ok(receiver.arrived(sequence, &mut out[..text_bytes]))
    }

    /// Before packets are looked up.
    #[inline]
    pub fn note_now(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// The first half of opening: whose a packet is. Then [`Opener::look_up`], [`crate::crypto::OpenBatch`], and [`Endpoint::receiver`] for those that
    /// are authentic. Between the halves of one packet there may be those of others, of the same SA too, and nothing else.
    #[inline]
    pub fn opener(&self, packet: &[u8]) -> Result<Opener<'_>, DropReason> {
        let spi = Header::parse(packet).ok_or(DropReason::OuterMalformed)?.spi;
        let slot = self.table.lookup(spi).ok_or(DropReason::DataUnknownSession)?;
        let sa = self.table.get(slot).ok_or(DropReason::DataUnknownSession)?;
        Ok(Opener { slot, sa, overhead_bytes: sa.overhead_in() })
    }

    /// The second half, for packets of one SA that came by one path and were marked alike.
    #[inline]
    pub fn receiver<'a>(&'a mut self, slot: Slot, spi: u32, path: &'a Path, ecn: u8) -> Receiver<'a> {
        Receiver { endpoint: self, slot, spi, path, ecn, is_lent: false, news: None }
    }

    /// The same of packets that were opened elsewhere with the key of this identity, and are authentic. The SPI may be another SA's by
    /// now.
    #[inline]
    pub fn receiver_of_lent<'a>(
        &'a mut self,
        spi: u32,
        key: usize,
        path: &'a Path,
        ecn: u8,
    ) -> Result<Receiver<'a>, DropReason> {
        let slot = self.table.lookup(spi).ok_or(DropReason::DataUnknownSession)?;
        let sa = self.table.get(slot).filter(|sa| sa.opening_key().identity() == key);
        sa.ok_or(DropReason::DataUnknownSession)?;
        Ok(Receiver { endpoint: self, slot, spi, path, ecn, is_lent: true, news: None })
    }

    /// Reads what packets of different SAs need, so that the waits for it overlap; the second of two steps wants what the
    /// first has found. What comes of it means nothing.
    #[inline]
    pub fn touch_spi(&self, packet: &[u8]) -> Option<Slot> {
        self.table.lookup(Header::parse(packet)?.spi)
    }

    #[inline]
    pub fn touch_sa(&self, slot: Slot) -> (TunnelId, u64) {
        self.table.get(slot).map_or((TunnelId::NONE, 0), |sa| (sa.tunnel, sa.touch_in()))
    }

    /// An authentic packet showed that the peer has the SA's keys, and perhaps that it is elsewhere.
    fn on_news(&mut self, slot: Slot, moved_to: Option<Path>) {
        let Some(sa) = self.table.get_mut(slot) else { return };
        let was_waiting = sa.sealing == Sealing::Waiting;
        if was_waiting {
            sa.sealing = Sealing::Active;
        }
        let id = sa.tunnel;
        if let Some(tunnel) = tunnel_mut(&mut self.tunnels, id) {
            if let Some(path) = moved_to {
                tunnel.follow(slot, path, &mut self.table, &mut self.events, self.now);
            }
            if was_waiting {
                tunnel.order(&self.table);
            }
        }
        self.schedule(id);
    }
}

impl<'a> Opener<'a> {
    #[inline]
    pub fn slot(&self) -> Slot {
        self.slot
    }

    #[inline]
    pub fn spi(&self) -> u32 {
        self.sa.spi_in
    }

    #[inline]
    pub fn key(&self) -> &'a PacketKey {
        self.sa.opening_key()
    }

    #[inline]
    pub fn stamp(&self, sequence: u64) -> Stamp {
        self.sa.stamp_in(sequence)
    }

    /// Of a packet with that SPI: its sequence number, if it is new; what is sealed of it; and how long its text will be, padding and
    /// trailer included.
    ///
    /// Extended numbers are told by the newest packet of an earlier batch: one that is 2^32 less a window further is lost.
    #[inline]
    pub fn look_up<'d>(&self, packet: &'d [u8]) -> Result<(u64, &'d [u8], usize), DropReason> {
        let header = Header::parse(packet).ok_or(DropReason::OuterMalformed)?;
        // What does not depend on others of the batch first, so that the reason does not, either.
        let text_bytes = packet.len().checked_sub(self.overhead_bytes).ok_or(DropReason::OuterMalformed)?;
        Ok((self.sa.admit(header.sequence_low)?, &packet[HEADER_BYTES..], text_bytes))
    }
}

impl Receiver<'_> {
    /// A packet that was looked up is authentic, and this is in it.
    #[inline(never)]
    pub fn arrived(&mut self, sequence: u64, text: &mut [u8]) -> Opened {
        let Receiver { ref mut endpoint, slot, ecn, is_lent, .. } = *self;
        let now = endpoint.now;
        // It may have worn out by another packet of the batch.
        let Some(sa) = endpoint.table.get_mut(slot).filter(|sa| sa.spi_in == self.spi) else {
            return Opened::dropped(DropReason::DataUnknownSession);
        };
        let mut settled = Settled { sa: &mut *sa, ecn, is_lent, is_heard: false };
        let (opened, is_newest) = match settled.take(sequence, text) {
            Ok(taken) => taken,
            Err(reason) => return Opened::dropped(reason),
        };
        if settled.is_heard && sa.is_news(now) {
            self.news = Some(sa.tunnel);
        }
        let wear = sa.wear_in();
        let moves = is_newest && is_followed(sa, self.path);
        if moves || sa.sealing == Sealing::Waiting {
            endpoint.on_news(slot, moves.then_some(*self.path));
        }
        if wear != Wear::Fresh {
            endpoint.on_wear(slot, wear);
        }
        opened
    }

    /// For so many packets that come next, each of so many bytes at most.
    #[inline]
    pub fn settled(&mut self, packets: usize, bytes: usize) -> Option<Settled<'_>> {
        let Receiver { ecn, is_lent, .. } = *self;
        let sa = self.endpoint.table.get_mut(self.slot).filter(|sa| sa.spi_in == self.spi)?;
        let is_settled =
            sa.sealing != Sealing::Waiting && sa.stays_fresh_in(packets, bytes) && !is_followed(sa, self.path);
        is_settled.then_some(Settled { sa, ecn, is_lent, is_heard: false })
    }

    /// Of whom it is news that packets or dummies have come: once in each second of the clock it is. To be asked at the end, with whether
    /// any have while it was settled.
    pub fn news(self, of_settled: bool) -> Option<TunnelId> {
        let now = self.endpoint.now;
        let settled = self.endpoint.table.get_mut(self.slot).filter(|sa| of_settled && sa.spi_in == self.spi);
        self.news.or_else(|| settled.and_then(|sa| sa.is_news(now).then_some(sa.tunnel)))
    }
}

impl Settled<'_> {
    #[inline]
    pub fn tunnel(&self) -> TunnelId {
        self.sa.tunnel
    }

    /// As [`Receiver::arrived`].
    #[inline(always)]
    pub fn arrived(&mut self, sequence: u64, text: &mut [u8]) -> Opened {
        match self.take(sequence, text) {
            Ok((opened, _)) => opened,
            Err(reason) => Opened::dropped(reason),
        }
    }

    /// Whether the peer has been, by a packet or a dummy: for [`Receiver::news`]. What is [`Settled::plain`] is not in it.
    #[inline]
    pub fn is_heard(&self) -> bool {
        self.is_heard
    }

    /// And whether no packet with a higher number has come. `Err`: nothing is proved.
    #[inline(always)]
    fn take(&mut self, sequence: u64, text: &mut [u8]) -> Result<(Opened, bool), DropReason> {
        let Settled { sa, is_lent, .. } = self;
        if *is_lent {
            sa.check_lent(sequence)?;
        }
        let Arrival { content, is_newest } = sa.arrived(sequence, text)?;
        Ok((self.came(content, text), is_newest))
    }

    #[inline(always)]
    fn came(&mut self, content: Result<Content, DropReason>, text: &mut [u8]) -> Opened {
        let tunnel = self.sa.tunnel;
        self.is_heard |= content.is_ok();
        let dropped = |reason| Opened::Dropped { reason, tunnel: Some(tunnel) };
        match content {
            Ok(Content::Packet(len)) if ecn::tell_inner(&mut text[..len], self.ecn) => Opened::Packet { tunnel, len },
            Ok(Content::Packet(_)) => dropped(DropReason::CongestionUntold),
            Ok(Content::Dummy) => Opened::Keepalive { tunnel },
            Err(reason) => dropped(reason),
        }
    }

    /// Notes the sequence numbers of so many packets, which follow one another, if all of them are newer than any before: at most 64. Then [`Settled::plain`] and [`Settled::opened_and_counted`] tell what each is.
    #[inline]
    pub fn accept_newest(&mut self, first: u64, count: u64) -> bool {
        // If the last of them is the one that it was taken for, so are the others, which are nearer.
        let last = first.wrapping_add(count.wrapping_sub(1));
        (!self.is_lent || self.sa.check_lent(last).is_ok()) && self.sa.accept_newest(first, count)
    }

    /// What is in a packet; and counts its payload.
    #[inline(always)]
    pub fn opened_and_counted(&mut self, text: &mut [u8]) -> Opened {
        let (content, payload_bytes) = self.sa.content_of(text);
        self.sa.count_received(1, payload_bytes);
        self.came(content, text)
    }

    /// The length of the inner packet, and of the payload that it is in, which [`Settled::count_received`] is to be told of. `None`: it is for
    /// [`Settled::opened_and_counted`].
    #[inline(always)]
    pub fn plain(&self, text: &mut [u8]) -> Option<(usize, usize)> {
        let (Ok(Content::Packet(len)), payload_bytes) = self.sa.content_of(text) else { return None };
        ecn::tell_inner(text.get_mut(..len)?, self.ecn).then_some((len, payload_bytes))
    }

    #[inline]
    pub fn count_received(&mut self, packets: usize, payload_bytes: usize) {
        self.sa.count_received(packets, payload_bytes);
    }
}

/// Whether packets of this SA are to go where one of its own came from. Peers behind a NAT speak ESP through UDP only, and
/// an SA that is about to end says nothing about where its peer is.
#[inline]
fn is_followed(sa: &Sa, path: &Path) -> bool {
    sa.follow_path && path.port == Port::IkeNatT && sa.sealing != Sealing::Retired && sa.path != *path
}
