//! Packets of a batch through their tunnels, in two halves with the cryptography between them (`wireguard::transport`,
//! `ipsec::egress`, `ipsec::ingress`), whichever transport they belong to.
//!
//! Ports have no cryptography: their frames and packets take [`Tunnels::open_frame`] and [`Tunnels::seal_by_port`], in stretches. Handshakes and
//! IKE change what the tunnels are: they take [`Tunnels::open`], one by one, and never between the halves of others.

use heapless::Vec;

use super::ipsec::ESP_OVERHEAD_BYTES;
use super::nat_t::{self, Content};
use super::{Tunnels, WIREGUARD_OVERHEAD_BYTES};
use crate::crypto::{Departing, PacketKey, Stamp};
use crate::dataplane::parcel::{Lent, Tried};
use crate::dataplane::report::Traffic;
use crate::net::{Path, Port, TunnelId};
use crate::packet::batch::{BATCH_PACKETS, MAX_PACKET_BYTES};
use crate::packet::{Datagram, DropReason, Outbox};
use crate::{ipsec, wireguard};

/// Whose outer datagrams with one receiver index or SPI are.
pub(in crate::dataplane) enum Opener<'a> {
    WireGuard(wireguard::Opener<'a>),
    Esp(ipsec::Opener<'a>),
}

/// What is needed to open one, besides the key.
pub(in crate::dataplane) struct Found<'d> {
    pub stamp: Stamp,
    /// Counter or sequence number.
    pub number: u64,
    pub sealed: &'d [u8],
    pub text_bytes: usize,
}

/// Looks up outer datagrams with one receiver index or SPI.
pub(in crate::dataplane) trait LookUp {
    /// Which datagram it is, if it is new.
    fn look_up<'d>(&self, datagram: &'d [u8]) -> Result<Found<'d>, DropReason>;
}

/// Packets to one tunnel that have their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::dataplane) enum Departure {
    WireGuard(wireguard::Departure),
    Esp(ipsec::Departure),
}

/// How many packets have no numbers, from the first on, and why.
pub(in crate::dataplane) struct Refusal {
    pub reason: DropReason,
    pub packets: usize,
}

impl Departure {
    #[inline]
    pub fn as_departing(&self) -> &dyn Departing {
        match self {
            Departure::WireGuard(departure) => departure,
            Departure::Esp(departure) => departure,
        }
    }

    /// Whose it is, or another one of ESP's.
    #[inline]
    pub fn port(&self) -> Port {
        match self {
            Departure::WireGuard(_) => Port::WireGuard,
            Departure::Esp(_) => Port::IkeNatT,
        }
    }

    /// Nothing more must depart to the tunnel before these are on their way.
    #[inline]
    pub fn is_last(&self) -> bool {
        matches!(self, Departure::Esp(ipsec::Departure { is_last: true, .. }))
    }
}

/// Whether a datagram has the form of a packet that is sealed, and is no longer than those may be.
#[inline]
pub(in crate::dataplane) fn can_be_data(datagram: &Datagram<'_>) -> bool {
    let Datagram { path, bytes, .. } = datagram;
    let is_short_esp = bytes.len() <= MAX_PACKET_BYTES + ESP_OVERHEAD_BYTES;
    match path.port {
        Port::WireGuard => {
            wireguard::Endpoint::is_data(bytes) && bytes.len() <= MAX_PACKET_BYTES + WIREGUARD_OVERHEAD_BYTES
        }
        Port::RawEsp => ipsec::spi(bytes).is_some() && is_short_esp,
        Port::IkeNatT => ipsec::spi(bytes).is_some() && nat_t::split(bytes) == Content::Esp && is_short_esp,
        Port::Ike | Port::Frames(_) | Port::Tun(_) => false,
    }
}

impl<'a> Opener<'a> {
    #[inline]
    pub fn key(&self) -> &'a PacketKey {
        match self {
            Opener::WireGuard(opener) => opener.key(),
            Opener::Esp(opener) => opener.key(),
        }
    }

    /// Which datagram it is, if it is new. There is `room` for so many bytes of text.
    pub fn look_up<'d>(&self, datagram: &'d [u8], room: usize) -> Result<Found<'d>, DropReason> {
        let found = match self {
            Opener::WireGuard(opener) => LookUp::look_up(opener, datagram)?,
            Opener::Esp(opener) => LookUp::look_up(opener, datagram)?,
        };
        if found.text_bytes <= room { Ok(found) } else { Err(DropReason::InnerTooLong) }
    }
}

impl LookUp for wireguard::Opener<'_> {
    #[inline(always)]
    fn look_up<'d>(&self, datagram: &'d [u8]) -> Result<Found<'d>, DropReason> {
        let (number, sealed) = self.look_up(datagram)?;
        let (stamp, text_bytes) = (Stamp::WireGuard { counter: number }, wireguard::text_bytes(sealed));
        Ok(Found { stamp, number, sealed, text_bytes })
    }
}

impl LookUp for ipsec::Opener<'_> {
    #[inline(always)]
    fn look_up<'d>(&self, datagram: &'d [u8]) -> Result<Found<'d>, DropReason> {
        let (number, sealed, text_bytes) = self.look_up(datagram)?;
        Ok(Found { stamp: self.stamp(number), number, sealed, text_bytes })
    }
}

impl Tunnels {
    /// Whether the tunnel is a plain port, without cryptography.
    #[inline]
    pub fn is_port(&self, tunnel: TunnelId) -> bool {
        self.link.serves(tunnel)
    }

    /// Takes numbers for packets to one tunnel: for the first of them, and as many behind it as can be sealed together with it.
    #[inline]
    pub fn depart<'p>(
        &mut self,
        tunnel: TunnelId,
        packets: impl ExactSizeIterator<Item = &'p [u8]>,
        outbox: &mut Outbox,
    ) -> Result<Departure, Refusal> {
        match &mut self.ipsec {
            Some(ipsec) if ipsec.serves(tunnel) => {
                let departure = ipsec.depart(tunnel, packets, outbox.room());
                // The next packet may have another SA.
                departure.map(Departure::Esp).map_err(|reason| Refusal { reason, packets: 1 })
            }
            _ => {
                let packets = packets.len();
                let departure = self.wireguard.depart(tunnel, packets, outbox);
                departure.map(Departure::WireGuard).map_err(|reason| Refusal { reason, packets })
            }
        }
    }

    /// What the packets of a departure are sealed with.
    #[inline]
    pub fn sealing_key(&self, tunnel: TunnelId, departure: &Departure) -> Option<&PacketKey> {
        match departure {
            Departure::WireGuard(_) => self.wireguard.sealing_key(tunnel),
            Departure::Esp(departure) => self.ipsec.as_ref()?.esp.sealing_key(departure),
        }
    }

    /// So much of a departure has been sealed. Where it goes, and whether the outer IP packets may be cut into fragments.
    #[inline]
    pub fn sent(&mut self, tunnel: TunnelId, departure: &Departure, sealed: Traffic) -> (Option<Path>, bool) {
        let Traffic { packets, bytes } = sealed;
        let path = match (departure, &mut self.ipsec) {
            (Departure::WireGuard(_), _) => self.wireguard.sent(tunnel, packets, bytes),
            (Departure::Esp(departure), Some(ipsec)) => ipsec.esp.sent(tunnel, departure, packets),
            (Departure::Esp(_), None) => None,
        };
        (path, self.path_mtus.way(tunnel).may_fragment)
    }

    /// Whether a datagram can be looked up. Any other is for [`Tunnels::open`].
    #[inline]
    pub fn is_data(&self, datagram: &Datagram<'_>) -> bool {
        can_be_data(datagram) && (datagram.path.port == Port::WireGuard || self.ipsec.is_some())
    }

    /// What a datagram that can be looked up is opened with, and by which number that is found.
    pub fn lend(&self, datagram: &Datagram<'_>) -> Option<(u32, Lent)> {
        if !self.is_data(datagram) {
            return None;
        }
        match datagram.path.port {
            Port::WireGuard => {
                let index = wireguard::receiver_index(datagram.bytes)?;
                Some((index, Lent::WireGuard(self.wireguard.lend(index)?)))
            }
            _ => {
                let lent = self.ipsec.as_ref()?.esp.lend(datagram.bytes)?;
                Some((ipsec::spi(datagram.bytes)?, Lent::Esp(lent)))
            }
        }
    }

    /// Whether a datagram that can be looked up would be opened under this stamp and with the key of this identity, or is not to be opened
    /// at all.
    pub fn is_read_as(&self, datagram: &Datagram<'_>, Tried { stamp, key }: Tried) -> bool {
        match (datagram.path.port, &self.ipsec) {
            (Port::WireGuard, _) => {
                let index = wireguard::receiver_index(datagram.bytes);
                index.is_some_and(|index| self.wireguard.has_lent(index, key))
            }
            _ => match self.opener(datagram.path.port, datagram.bytes) {
                Ok(opener) => match opener.look_up(datagram.bytes, usize::MAX) {
                    Ok(found) => found.stamp == stamp && opener.key().identity() == key,
                    Err(_) => true,
                },
                Err(_) => true,
            },
        }
    }

    /// For messages that were opened with the key that was lent by this index, which came by one path.
    #[inline]
    pub fn receiver_of_lent<'a>(
        &'a mut self,
        index: u32,
        key: usize,
        path: &'a Path,
    ) -> Result<wireguard::Receiver<'a>, DropReason> {
        self.wireguard.receiver_of_lent(index, key, path)
    }

    /// The same of packets of ESP, which were marked alike.
    #[inline]
    pub fn esp_receiver_of_lent<'a>(
        &'a mut self,
        spi: u32,
        key: usize,
        path: &'a Path,
        ecn: u8,
    ) -> Result<ipsec::Receiver<'a>, DropReason> {
        self.ipsec.as_mut().ok_or(DropReason::DataUnknownSession)?.esp.receiver_of_lent(spi, key, path, ecn)
    }

    /// Before datagrams are looked up: reads what that will need, for all of them, so that they wait for memory together. Of those behind
    /// one another that are of one sender this takes the first; whose they seem to be.
    pub fn touch_arriving<'a>(&self, firsts: impl Iterator<Item = (Port, &'a [u8])>) -> Vec<TunnelId, BATCH_PACKETS> {
        let mut tunnels = Vec::new();
        let mut slots = [None; BATCH_PACKETS];
        for ((port, bytes), slot) in firsts.zip(&mut slots) {
            let tunnel = match (port, &self.ipsec) {
                (Port::WireGuard, _) => self.wireguard.touch_index(bytes),
                (_, Some(ipsec)) => {
                    *slot = ipsec.esp.touch_spi(bytes);
                    TunnelId::NONE
                }
                _ => TunnelId::NONE,
            };
            // There is room for each datagram.
            let _ = tunnels.push(tunnel);
        }
        let mut touched = 0;
        for (tunnel, slot) in tunnels.iter_mut().zip(&slots) {
            touched ^= match (slot, &self.ipsec) {
                (Some(slot), Some(ipsec)) => {
                    let (owner, touched) = ipsec.esp.touch_sa(*slot);
                    *tunnel = owner;
                    touched
                }
                _ => self.wireguard.touch_in(*tunnel),
            };
        }
        std::hint::black_box(touched);
        tunnels
    }

    /// The same for a tunnel that packets leave by. What comes of it means nothing.
    #[inline]
    pub fn touch_leaving(&self, tunnel: TunnelId) -> u64 {
        match &self.ipsec {
            Some(ipsec) if ipsec.serves(tunnel) => ipsec.esp.touch(tunnel),
            _ => self.wireguard.touch_out(tunnel),
        }
    }

    /// Whose a datagram is that can be looked up, and all others with its index or SPI. That may be asked of others, with nothing between
    /// that changes tunnels.
    #[inline]
    pub fn opener(&self, port: Port, datagram: &[u8]) -> Result<Opener<'_>, DropReason> {
        if port == Port::WireGuard {
            let index = wireguard::receiver_index(datagram).ok_or(DropReason::OuterMalformed)?;
            return self.wireguard.opener(index).map(Opener::WireGuard);
        }
        self.ipsec.as_ref().ok_or(DropReason::DataUnknownSession)?.esp.opener(datagram).map(Opener::Esp)
    }

    /// For authentic messages of one session, which came by one path.
    #[inline]
    pub fn receiver<'a>(
        &'a mut self,
        tunnel: TunnelId,
        index: u32,
        path: &'a Path,
    ) -> Result<wireguard::Receiver<'a>, DropReason> {
        self.wireguard.receiver(tunnel, index, path)
    }

    /// For authentic packets of one SA, which came by one path and were marked alike.
    #[inline]
    pub fn esp_receiver<'a>(
        &'a mut self,
        slot: ipsec::Slot,
        spi: u32,
        path: &'a Path,
        ecn: u8,
    ) -> Result<ipsec::Receiver<'a>, DropReason> {
        let ipsec = self.ipsec.as_mut().ok_or(DropReason::DataUnknownSession)?;
        Ok(ipsec.esp.receiver(slot, spi, path, ecn))
    }

    /// It is news that packets of ESP, or dummies, have come by that tunnel.
    #[inline]
    pub fn note_heard(&mut self, tunnel: TunnelId) {
        if let Some(ipsec) = &mut self.ipsec {
            ipsec.note_heard(tunnel);
        }
    }
}
