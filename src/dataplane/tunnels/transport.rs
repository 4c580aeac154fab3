//! Packets of a batch through their tunnels, in two halves with the cryptography between them (`wireguard::transport`,
//! `ipsec::egress`, `ipsec::ingress`), whichever transport they belong to.
//!
//! Ports have no cryptography, and handshakes and IKE change what the tunnels are: they take [`Tunnels::open`] and
//! [`Tunnels::seal`], one by one, and never between the halves of others.

use super::ipsec::{ESP_OVERHEAD_BYTES, Ipsec};
use super::nat_t::{self, Content};
use super::{Tunnels, WIREGUARD_OVERHEAD_BYTES};
use crate::crypto::{OpenJob, PacketKey, SealJob, Stamp};
use crate::dataplane::report::Traffic;
use crate::net::{Port, TunnelId};
use crate::packet::batch::{BATCH_PACKETS, MAX_PACKET_BYTES};
use crate::packet::outbox::Place;
use crate::packet::{Datagram, DropReason, Opened, Outbox};
use crate::{ipsec, wireguard};

/// An outer datagram that is to be opened.
#[derive(Clone, Copy, Debug)]
pub(in crate::dataplane) enum Arriving {
    WireGuard(wireguard::Arriving),
    Esp(ipsec::Arriving),
}

/// What is needed to open one.
pub(in crate::dataplane) struct Found<'a> {
    pub arriving: Arriving,
    key: &'a PacketKey,
    stamp: Stamp,
    sealed: &'a [u8],
    text_bytes: usize,
}

/// A packet that is to be sealed.
#[derive(Clone, Copy, Debug)]
pub(in crate::dataplane) enum Prepared {
    WireGuard(wireguard::Prepared),
    Esp(ipsec::Prepared),
}

/// A packet of a batch with where it goes.
#[derive(Clone, Copy, Debug)]
pub(in crate::dataplane) struct Leaving {
    pub tunnel: TunnelId,
    /// Its number in the batch.
    pub number: usize,
    pub packet_bytes: usize,
    pub prepared: Prepared,
    pub is_sealed: bool,
}

/// Packets to one tunnel are prepared here.
pub(in crate::dataplane) enum Sealer<'a> {
    WireGuard(wireguard::Sealer<'a>),
    Esp(&'a mut Ipsec, TunnelId),
}

impl<'a> Found<'a> {
    /// With as much room as was said.
    #[inline]
    pub fn job(&self, slot: &'a mut [u8]) -> OpenJob<'a> {
        OpenJob::new(self.key, self.stamp, self.sealed, &mut slot[..self.text_bytes])
    }
}

impl Prepared {
    #[inline]
    pub fn place(&self) -> Place {
        match self {
            Prepared::WireGuard(prepared) => prepared.place,
            Prepared::Esp(prepared) => prepared.place,
        }
    }

    /// Nothing more must be prepared before this one has been committed.
    #[inline]
    pub fn is_last(&self) -> bool {
        matches!(self, Prepared::Esp(prepared) if prepared.is_last)
    }
}

impl Sealer<'_> {
    /// The first `packet_bytes` of `buffer` are the packet; behind it there must be room for padding.
    #[inline]
    pub fn prepare(
        &mut self,
        buffer: &mut [u8],
        packet_bytes: usize,
        outbox: &mut Outbox,
    ) -> Result<Prepared, DropReason> {
        match self {
            Sealer::WireGuard(sealer) => sealer.prepare(buffer, packet_bytes, outbox).map(Prepared::WireGuard),
            Sealer::Esp(ipsec, tunnel) => ipsec.prepare(*tunnel, buffer, packet_bytes, outbox).map(Prepared::Esp),
        }
    }
}

impl Tunnels {
    /// Whether packets to the tunnel are prepared and sealed with others, or each by itself.
    #[inline]
    pub fn seals_in_batches(&self, tunnel: TunnelId) -> bool {
        !self.link.serves(tunnel)
    }

    /// For packets to that tunnel. `Err`: it can take none; if it is known where, the peer is called.
    #[inline]
    pub fn sealer(&mut self, tunnel: TunnelId, outbox: &mut Outbox) -> Result<Sealer<'_>, DropReason> {
        match &mut self.ipsec {
            Some(ipsec) if ipsec.serves(tunnel) => Ok(Sealer::Esp(ipsec, tunnel)),
            _ => self.wireguard.sealer(tunnel, outbox).map(Sealer::WireGuard),
        }
    }

    /// `None`: there is no key for it any more.
    #[inline]
    pub fn seal_job<'a>(
        &'a self,
        tunnel: TunnelId,
        prepared: &Prepared,
        buffer: &'a [u8],
        place: &'a mut [u8],
    ) -> Option<SealJob<'a>> {
        match prepared {
            Prepared::WireGuard(prepared) => {
                let (key, text) = (self.wireguard.sealing_key(tunnel)?, buffer.get(..prepared.text_bytes)?);
                Some(SealJob::new(key, prepared.stamp, text, wireguard::Prepared::sealed(place)))
            }
            Prepared::Esp(prepared) => {
                let key = self.ipsec.as_ref()?.esp.sealing_key(prepared)?;
                let text = buffer.get(..prepared.text_bytes)?;
                Some(SealJob::new(key, prepared.stamp, text, ipsec::Prepared::sealed(place)))
            }
        }
    }

    /// Makes datagrams of the sealed ones of packets to one tunnel; nothing leaves of the others.
    pub fn commit(&mut self, packets: &[Leaving], outbox: &mut Outbox) -> Traffic {
        let Some(&Leaving { tunnel, .. }) = packets.first() else { return Traffic::default() };
        let mut sealed = Traffic::default();
        packets.iter().filter(|packet| packet.is_sealed).for_each(|packet| sealed.add(packet.packet_bytes));
        outbox.let_fragment(self.path_mtus.way(tunnel).may_fragment);
        match &mut self.ipsec {
            Some(ipsec) if ipsec.serves(tunnel) => commit_esp(&mut ipsec.esp, packets, sealed, outbox),
            _ => {
                let path = self.wireguard.sent(tunnel, sealed.packets, sealed.bytes);
                let mut is_behind = false;
                for Leaving { prepared, is_sealed, .. } in packets {
                    match path.filter(|_| *is_sealed) {
                        Some(_) if is_behind => outbox.commit_behind(prepared.place()),
                        Some(path) => outbox.commit_place(prepared.place(), path, 0),
                        None => outbox.give_up(prepared.place()),
                    }
                    is_behind |= is_sealed;
                }
            }
        }
        outbox.let_fragment(false);
        sealed
    }

    /// Whether a datagram can be looked up. Any other is for [`Tunnels::open`].
    #[inline]
    pub fn is_data(&self, datagram: &Datagram<'_>) -> bool {
        let Datagram { path, bytes, .. } = datagram;
        match path.port {
            Port::WireGuard => {
                wireguard::Endpoint::is_data(bytes) && bytes.len() <= MAX_PACKET_BYTES + WIREGUARD_OVERHEAD_BYTES
            }
            Port::RawEsp => self.can_be_esp(bytes),
            Port::IkeNatT => nat_t::split(bytes) == Content::Esp && self.can_be_esp(bytes),
            Port::Ike | Port::Frames(_) | Port::Tun(_) => false,
        }
    }

    #[inline]
    fn can_be_esp(&self, bytes: &[u8]) -> bool {
        self.ipsec.is_some() && bytes.len() <= MAX_PACKET_BYTES + ESP_OVERHEAD_BYTES
    }

    /// Before datagrams are looked up: reads what that will need, for all of them, so that they wait for memory together. Not
    /// where they seem to be of one sender, whose state comes with the first.
    pub fn touch_arriving(&self, datagrams: &[Datagram<'_>]) {
        let sender =
            |datagram: Option<&Datagram<'_>>| datagram.and_then(|datagram| datagram.bytes.first_chunk::<8>().copied());
        if sender(datagrams.first()) == sender(datagrams.last()) {
            return;
        }
        let mut tunnels = [TunnelId::NONE; BATCH_PACKETS];
        let mut slots = [None; BATCH_PACKETS];
        for ((datagram, tunnel), slot) in datagrams.iter().zip(&mut tunnels).zip(&mut slots) {
            match (datagram.path.port, &self.ipsec) {
                (Port::WireGuard, _) => *tunnel = self.wireguard.touch_index(datagram.bytes),
                (_, Some(ipsec)) => *slot = ipsec.esp.touch_spi(datagram.bytes),
                _ => {}
            }
        }
        let mut touched = 0;
        for ((tunnel, slot), _) in tunnels.iter().zip(&slots).zip(datagrams) {
            touched ^= match (slot, &self.ipsec) {
                (Some(slot), Some(ipsec)) => ipsec.esp.touch_sa(*slot),
                _ => self.wireguard.touch(*tunnel),
            };
        }
        std::hint::black_box(touched);
    }

    /// The same for a tunnel that packets leave by. What comes of it means nothing.
    #[inline]
    pub fn touch_leaving(&self, tunnel: TunnelId) -> u64 {
        match &self.ipsec {
            Some(ipsec) if ipsec.serves(tunnel) => ipsec.esp.touch(tunnel),
            _ => self.wireguard.touch(tunnel),
        }
    }

    /// Whose it is, and whether it is new. There is `room` for so many bytes of text.
    #[inline]
    pub fn look_up<'a>(&'a self, datagram: &Datagram<'a>, room: usize) -> Result<Found<'a>, DropReason> {
        let found = match (datagram.path.port, &self.ipsec) {
            (Port::WireGuard, _) => {
                let (found, key) = self.wireguard.look_up(datagram.bytes)?;
                let (stamp, sealed, text_bytes) = (found.stamp(), found.sealed(datagram.bytes), found.text_bytes);
                Found { arriving: Arriving::WireGuard(found), key, stamp, sealed, text_bytes }
            }
            (_, Some(ipsec)) => {
                let (found, key) = ipsec.esp.look_up(datagram.bytes)?;
                let (stamp, sealed, text_bytes) = (found.stamp, found.sealed(datagram.bytes), found.text_bytes);
                Found { arriving: Arriving::Esp(found), key, stamp, sealed, text_bytes }
            }
            (_, None) => return Err(DropReason::DataUnknownSession),
        };
        if found.text_bytes <= room { Ok(found) } else { Err(DropReason::InnerTooLong) }
    }

    /// It is authentic, and this is in the first bytes of `slot`.
    #[inline]
    pub fn arrived(&mut self, arriving: &Arriving, datagram: &Datagram<'_>, slot: &mut [u8]) -> Opened {
        match (arriving, &mut self.ipsec) {
            (Arriving::WireGuard(arriving), _) => {
                self.wireguard.arrived(arriving, &datagram.path, &slot[..arriving.text_bytes])
            }
            (Arriving::Esp(arriving), Some(ipsec)) => ipsec.arrived(arriving, datagram, slot),
            (Arriving::Esp(_), None) => Opened::dropped(DropReason::DataUnknownSession),
        }
    }
}

fn commit_esp(esp: &mut ipsec::Endpoint, packets: &[Leaving], sealed: Traffic, outbox: &mut Outbox) {
    let mut before: Option<ipsec::Prepared> = None;
    for Leaving { prepared, is_sealed, .. } in packets {
        let Prepared::Esp(prepared) = prepared else { continue };
        match esp.path_of(prepared).filter(|_| *is_sealed) {
            Some(_) if before.is_some_and(|before| prepared.goes_with(&before)) => outbox.commit_behind(prepared.place),
            Some(path) => outbox.commit_place(prepared.place, path, prepared.traffic_class),
            None => outbox.give_up(prepared.place),
        }
        if *is_sealed {
            before = Some(*prepared);
        }
    }
    if let Some(Leaving { tunnel, prepared: Prepared::Esp(last), .. }) = packets.last() {
        esp.sent(*tunnel, sealed.packets, sealed.bytes, last);
    }
}
