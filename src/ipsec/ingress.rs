//! Outer datagrams on their way in: whose is it, is it authentic, and what is in it.
//!
//! The order is that of RFC 4303 section 3.4: SA by SPI, replay window, integrity, window moved forward, padding, inner
//! packet, selectors (RFC 4301 section 5.2), ECN (RFC 6040). What fails before the integrity check changes nothing and counts against
//! nobody.

use super::ecn;
use super::endpoint::{Endpoint, tunnel_mut};
use super::esp::{HEADER_BYTES, Header};
use super::lifetime::Wear;
use super::sa::{Content, Sa, Sealing};
use super::table::Slot;
use crate::crypto::{OpenJob, PacketKey, Stamp, open_batch};
use crate::net::{Path, Port, Timestamp, TunnelId};
use crate::packet::{Datagram, DropReason, Opened};

/// An ESP packet that is to be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arriving {
    pub(super) slot: Slot,
    pub stamp: Stamp,
    /// What is in it, with padding and trailer.
    pub text_bytes: usize,
}

/// The SA that packets with one SPI are for.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    slot: Slot,
    sa: &'a Sa,
}

impl Arriving {
    /// IV, ciphertext and ICV, of the bytes of the packet.
    #[inline]
    pub fn sealed<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        &packet[HEADER_BYTES..]
    }
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
        let (arriving, key) = self.look_up(datagram.bytes)?;
        let text = out.get_mut(..arriving.text_bytes).ok_or(DropReason::InnerTooLong)?;
        let mut job = [OpenJob::new(key, arriving.stamp, arriving.sealed(datagram.bytes), text)];
        open_batch(&mut job);
        match job[0].is_authentic {
            true => Ok(self.arrived(&arriving, datagram.path, datagram.ecn, &mut out[..arriving.text_bytes])),
            false => Err(DropReason::DataNotAuthentic),
        }
    }

    /// Before packets are looked up.
    #[inline]
    pub fn note_now(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// The first half of opening: whose it is, whether its number is new, and what it is to be opened with. Then [`open_batch`],
    /// and [`Endpoint::arrived`] for each that is authentic. Between the halves of one packet there may be
    /// those of others, of the same SA too, and nothing else.
    ///
    /// Extended numbers are told by the newest packet of an earlier batch: one that is 2^32 less a window further is lost.
    #[inline]
    pub fn look_up(&self, packet: &[u8]) -> Result<(Arriving, &PacketKey), DropReason> {
        self.look_up_behind(packet, &mut None)
    }

    /// The same for packets behind one another, as a rule of one SA: of that of the one `before` it is not asked for again.
    #[inline]
    pub fn look_up_behind<'a>(
        &'a self,
        packet: &[u8],
        before: &mut Option<Found<'a>>,
    ) -> Result<(Arriving, &'a PacketKey), DropReason> {
        let header = Header::parse(packet).ok_or(DropReason::OuterMalformed)?;
        let found = match before {
            Some(found) if found.sa.spi_in == header.spi => *found,
            _ => self.find(header.spi).ok_or(DropReason::DataUnknownSession)?,
        };
        *before = Some(found);
        let Found { slot, sa } = found;
        // What does not depend on others of the batch first, so that the reason does not, either.
        let text_bytes = sa.text_bytes(packet.len()).ok_or(DropReason::OuterMalformed)?;
        let stamp = sa.admit(header)?;
        Ok((Arriving { slot, stamp, text_bytes }, sa.opening_key()))
    }

    #[inline]
    fn find(&self, spi: u32) -> Option<Found<'_>> {
        let slot = self.table.lookup(spi)?;
        Some(Found { slot, sa: self.table.get(slot)? })
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

    /// And what a tunnel counts, that has been found.
    #[inline]
    pub fn touch_counters(&self, id: TunnelId) -> u64 {
        let Some(Some(tunnel)) = self.tunnels.get(id.index()) else { return 0 };
        tunnel.counters.rx_packets ^ tunnel.counters.last_data_received.map_or(0, Timestamp::as_micros)
    }

    /// A packet that was looked up is authentic, and this is in it.
    #[inline]
    pub fn arrived(&mut self, arriving: &Arriving, path: Path, ecn: u8, text: &mut [u8]) -> Opened {
        match self.unwrap(arriving, path, ecn, text) {
            Ok((tunnel, Ok(content))) => self.deliver(tunnel, content),
            Ok((tunnel, Err(reason))) => Opened::Dropped { reason, tunnel: Some(tunnel) },
            Err(reason) => Opened::dropped(reason),
        }
    }

    /// `Err`: nothing is proved. Otherwise it is a packet of this tunnel, and either good or not.
    #[inline]
    fn unwrap(
        &mut self,
        arriving: &Arriving,
        path: Path,
        ecn: u8,
        text: &mut [u8],
    ) -> Result<(TunnelId, Result<Content, DropReason>), DropReason> {
        let Arriving { slot, stamp: Stamp::Esp { spi, sequence, .. }, .. } = *arriving else {
            return Err(DropReason::OuterMalformed);
        };
        // It may have worn out by another packet of the batch.
        let sa = self.table.get_mut(slot).filter(|sa| sa.spi_in == spi).ok_or(DropReason::DataUnknownSession)?;
        let arrival = sa.arrived(sequence, text)?;
        let (tunnel, wear) = (sa.tunnel, sa.wear_in());
        let moves = arrival.is_newest && is_followed(sa, path);
        if moves || sa.sealing == Sealing::Waiting {
            self.on_news(slot, moves.then_some(path));
        }
        if wear != Wear::Fresh {
            self.on_wear(slot, wear);
        }
        let content = match arrival.content {
            Ok(Content::Packet(len)) if !text.get_mut(..len).is_some_and(|packet| ecn::tell_inner(packet, ecn)) => {
                Err(DropReason::CongestionUntold)
            }
            content => content,
        };
        Ok((tunnel, content))
    }

    #[inline]
    fn deliver(&mut self, id: TunnelId, content: Content) -> Opened {
        let tunnel = tunnel_mut(&mut self.tunnels, id);
        match content {
            Content::Packet(len) => {
                if let Some(tunnel) = tunnel {
                    tunnel.counters.rx_packets += 1;
                    tunnel.counters.rx_bytes += len as u64;
                    tunnel.counters.last_data_received = Some(self.now);
                }
                Opened::Packet { tunnel: id, len }
            }
            Content::Dummy => {
                if let Some(tunnel) = tunnel {
                    tunnel.counters.rx_dummies += 1;
                }
                Opened::Keepalive { tunnel: id }
            }
        }
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

/// Whether packets of this SA are to go where one of its own came from. Peers behind a NAT speak ESP through UDP only, and
/// an SA that is about to end says nothing about where its peer is.
#[inline]
fn is_followed(sa: &Sa, path: Path) -> bool {
    sa.path != path && sa.follow_path && path.port == Port::IkeNatT && sa.sealing != Sealing::Retired
}
