//! Outer datagrams on their way in: whose is it, is it authentic, and what is in it.
//!
//! The order is that of RFC 4303 section 3.4: SA by SPI, replay window, integrity, window moved forward, padding, inner
//! packet, selectors (RFC 4301 section 5.2), ECN (RFC 6040). What fails before the integrity check changes nothing and counts against
//! nobody.

use super::ecn;
use super::endpoint::{Endpoint, tunnel_mut};
use super::esp::Header;
use super::lifetime::Wear;
use super::sa::{Content, Sa, Sealing};
use super::table::Slot;
use crate::net::{Path, Port, Timestamp, TunnelId};
use crate::packet::{Datagram, DropReason, Opened};

impl Endpoint {
    /// Opens one ESP packet, from the SPI on, into `out`, which must be as long as the datagram.
    #[inline]
    pub fn open(&mut self, datagram: Datagram<'_>, out: &mut [u8], now: Timestamp) -> Opened {
        self.now = self.now.max(now);
        match self.open_esp(datagram, out) {
            Ok((tunnel, Ok(content))) => self.deliver(tunnel, content),
            Ok((tunnel, Err(reason))) => Opened::Dropped { reason, tunnel: Some(tunnel) },
            Err(reason) => Opened::dropped(reason),
        }
    }

    /// `Err`: nothing is proved. Otherwise it is a packet of this tunnel, and either good or not.
    #[inline]
    fn open_esp(
        &mut self,
        datagram: Datagram<'_>,
        out: &mut [u8],
    ) -> Result<(TunnelId, Result<Content, DropReason>), DropReason> {
        let header = Header::parse(datagram.bytes).ok_or(DropReason::OuterMalformed)?;
        let slot = self.table.lookup(header.spi).ok_or(DropReason::DataUnknownSession)?;
        let sa = self.table.get_mut(slot).ok_or(DropReason::DataUnknownSession)?;
        let arrival = sa.open(header, datagram.bytes, out)?;
        let (tunnel, wear) = (sa.tunnel, sa.wear_in());
        let moves = arrival.is_newest && is_followed(sa, datagram.path);
        if moves || sa.sealing == Sealing::Waiting {
            self.on_news(slot, moves.then_some(datagram.path));
        }
        if wear != Wear::Fresh {
            self.on_wear(slot, wear);
        }
        let content = match arrival.content {
            Ok(Content::Packet(len))
                if !out.get_mut(..len).is_some_and(|packet| ecn::tell_inner(packet, datagram.ecn)) =>
            {
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
        if sa.sealing == Sealing::Waiting {
            sa.sealing = Sealing::Active;
        }
        let id = sa.tunnel;
        if let Some(tunnel) = tunnel_mut(&mut self.tunnels, id) {
            if let Some(path) = moved_to {
                tunnel.follow(slot, path, &mut self.table, &mut self.events, self.now);
            }
            tunnel.order(&self.table);
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
