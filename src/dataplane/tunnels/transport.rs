//! Packets of a batch through their tunnels, in two halves with the cryptography between them (`wireguard::transport`,
//! `ipsec::egress`, `ipsec::ingress`), whichever transport they belong to.
//!
//! Ports have no cryptography, and handshakes and IKE change what the tunnels are: they take [`Tunnels::open`] and
//! [`Tunnels::seal`], one by one, and never between the halves of others.

use heapless::Vec;

use super::ipsec::ESP_OVERHEAD_BYTES;
use super::nat_t::{self, Content};
use super::{Tunnels, WIREGUARD_OVERHEAD_BYTES};
use crate::crypto::{OpenJob, PacketKey, Stamp};
use crate::dataplane::parcel::{Lent, Tried};
use crate::dataplane::report::Traffic;
use crate::net::{Path, Port, TunnelId};
use crate::packet::batch::{BATCH_PACKETS, MAX_PACKET_BYTES};
use crate::packet::{Datagram, DropReason, Opened, Outbox};
use crate::{ipsec, wireguard};

/// An outer datagram that is to be opened.
#[derive(Clone, Copy, Debug)]
pub(in crate::dataplane) enum Arriving {
    WireGuard(wireguard::Arriving),
    Esp(ipsec::Arriving),
}

/// What is needed to open one.
pub(in crate::dataplane) struct Found<'a, A> {
    pub arriving: A,
    pub key: &'a PacketKey,
    pub stamp: Stamp,
    pub sealed: &'a [u8],
    pub text_bytes: usize,
}

/// Whose the message before was: the next one's as well, as a rule.
#[derive(Default)]
pub(in crate::dataplane) struct Before<'a> {
    /// With its receiver index.
    opener: Option<(u32, wireguard::Opener<'a>)>,
    esp: Option<ipsec::Found<'a>>,
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

/// What is the same for both kinds.
pub(in crate::dataplane) trait Departing {
    /// How many.
    fn packets(&self) -> usize;
    /// The tunnel has no numbers for those behind them.
    fn is_all_there_is(&self) -> bool;
    /// Of the outer header around a packet.
    fn traffic_class(&self, packet: &[u8]) -> u8;
    /// Writes what stands behind the first `packet_bytes` of `buffer`; with it the text has so many bytes. `None`: no room for it.
    fn finish(&self, buffer: &mut [u8], packet_bytes: usize) -> Option<usize>;
    /// The datagram with so many bytes of text.
    fn message_bytes(&self, text_bytes: usize) -> usize;
    /// Of the packet that is so many behind the first.
    fn stamp(&self, behind: u64) -> Stamp;
    /// Answers where what is sealed goes.
    fn write_header<'a>(&self, stamp: Stamp, message: &'a mut [u8]) -> Option<&'a mut [u8]>;
}

impl Departing for wireguard::Departure {
    #[inline]
    fn packets(&self) -> usize {
        self.packets
    }

    #[inline]
    fn is_all_there_is(&self) -> bool {
        true
    }

    #[inline]
    fn traffic_class(&self, _: &[u8]) -> u8 {
        0
    }

    #[inline]
    fn finish(&self, buffer: &mut [u8], packet_bytes: usize) -> Option<usize> {
        self.finish(buffer, packet_bytes)
    }

    #[inline]
    fn message_bytes(&self, text_bytes: usize) -> usize {
        self.message_bytes(text_bytes)
    }

    #[inline]
    fn stamp(&self, behind: u64) -> Stamp {
        self.stamp(behind)
    }

    #[inline]
    fn write_header<'a>(&self, stamp: Stamp, message: &'a mut [u8]) -> Option<&'a mut [u8]> {
        self.write_header(stamp, message)
    }
}

impl Departing for ipsec::Departure {
    #[inline]
    fn packets(&self) -> usize {
        self.packets
    }

    #[inline]
    fn is_all_there_is(&self) -> bool {
        false
    }

    #[inline]
    fn traffic_class(&self, packet: &[u8]) -> u8 {
        self.traffic_class(packet)
    }

    #[inline]
    fn finish(&self, buffer: &mut [u8], packet_bytes: usize) -> Option<usize> {
        self.finish(buffer, packet_bytes)
    }

    #[inline]
    fn message_bytes(&self, text_bytes: usize) -> usize {
        self.message_bytes(text_bytes)
    }

    #[inline]
    fn stamp(&self, behind: u64) -> Stamp {
        self.stamp(behind)
    }

    #[inline]
    fn write_header<'a>(&self, stamp: Stamp, message: &'a mut [u8]) -> Option<&'a mut [u8]> {
        ipsec::Departure::write_header(stamp, message)
    }
}

impl Departure {
    /// The datagram with so many bytes of text.
    #[inline]
    pub fn message_bytes(&self, text_bytes: usize) -> usize {
        match self {
            Departure::WireGuard(departure) => departure.message_bytes(text_bytes),
            Departure::Esp(departure) => departure.message_bytes(text_bytes),
        }
    }

    /// Of the packet that is so many behind the first.
    #[inline]
    pub fn stamp(&self, behind: u64) -> Stamp {
        match self {
            Departure::WireGuard(departure) => departure.stamp(behind),
            Departure::Esp(departure) => departure.stamp(behind),
        }
    }

    /// Answers where what is sealed goes.
    #[inline]
    pub fn write_header<'a>(&self, stamp: Stamp, message: &'a mut [u8]) -> Option<&'a mut [u8]> {
        match self {
            Departure::WireGuard(departure) => departure.write_header(stamp, message),
            Departure::Esp(_) => ipsec::Departure::write_header(stamp, message),
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
        Port::RawEsp => is_short_esp,
        Port::IkeNatT => nat_t::split(bytes) == Content::Esp && is_short_esp,
        Port::Ike | Port::Frames(_) | Port::Tun(_) => false,
    }
}

impl<'a, A> Found<'a, A> {
    /// With room for all of the text.
    #[inline]
    fn within(self, room: usize) -> Result<Self, DropReason> {
        if self.text_bytes <= room { Ok(self) } else { Err(DropReason::InnerTooLong) }
    }

    /// With as much room as was said.
    #[inline]
    pub fn job(&self, slot: &'a mut [u8]) -> OpenJob<'a> {
        OpenJob::new(self.key, self.stamp, self.sealed, &mut slot[..self.text_bytes])
    }
}

impl Tunnels {
    /// Whether packets to the tunnel are prepared and sealed with others, or each by itself.
    #[inline]
    pub fn seals_in_batches(&self, tunnel: TunnelId) -> bool {
        !self.link.serves(tunnel)
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
            (Departure::Esp(departure), Some(ipsec)) => ipsec.esp.sent(tunnel, departure, packets, bytes),
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
            (_, Some(ipsec)) => match ipsec.esp.look_up(datagram.bytes) {
                Ok((arriving, ours)) => arriving.stamp == stamp && ours.identity() == key,
                Err(_) => true,
            },
            (_, None) => true,
        }
    }

    /// For messages that were opened with the key that was lent by this index, which came by one path.
    #[inline]
    pub fn receiver_of_lent(
        &mut self,
        index: u32,
        key: usize,
        path: &Path,
    ) -> Result<wireguard::Receiver<'_>, DropReason> {
        self.wireguard.receiver_of_lent(index, key, path)
    }

    /// Of a packet of ESP that was opened with a lent key.
    #[inline]
    pub fn look_up_lent_esp(&self, stamp: Stamp, key: usize, text_bytes: usize) -> Result<ipsec::Arriving, DropReason> {
        self.ipsec.as_ref().ok_or(DropReason::DataUnknownSession)?.esp.look_up_lent(stamp, key, text_bytes)
    }

    /// Before datagrams are looked up: reads what that will need, for all of them, so that they wait for memory together. Whose they
    /// seem to be; nobody's where they seem to be of one sender, whose state comes with the first.
    pub fn touch_arriving(&self, datagrams: &[Datagram<'_>]) -> Vec<TunnelId, BATCH_PACKETS> {
        let sender =
            |datagram: Option<&Datagram<'_>>| datagram.and_then(|datagram| datagram.bytes.first_chunk::<8>().copied());
        let mut tunnels = Vec::new();
        if sender(datagrams.first()) == sender(datagrams.last()) {
            return tunnels;
        }
        let mut slots = [None; BATCH_PACKETS];
        for (datagram, slot) in datagrams.iter().zip(&mut slots) {
            let tunnel = match (datagram.path.port, &self.ipsec) {
                (Port::WireGuard, _) => self.wireguard.touch_index(datagram.bytes),
                (_, Some(ipsec)) => {
                    *slot = ipsec.esp.touch_spi(datagram.bytes);
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
        if let Some(ipsec) = &self.ipsec {
            let of_ipsec = tunnels.iter().zip(&slots).filter(|(_, slot)| slot.is_some());
            touched ^= of_ipsec.fold(0, |touched, (tunnel, _)| touched ^ ipsec.touch_heard(*tunnel));
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

    /// Whose a message of WireGuard is, and whether it is new. There is `room` for so many bytes of text. `before`: of the datagrams before
    /// it, with nothing between that changes tunnels.
    #[inline]
    pub fn look_up_wireguard<'a>(
        &'a self,
        datagram: &'a [u8],
        room: usize,
        before: &mut Before<'a>,
    ) -> Result<Found<'a, wireguard::Arriving>, DropReason> {
        let index = wireguard::receiver_index(datagram).ok_or(DropReason::OuterMalformed)?;
        let opener = match before.opener {
            Some((of, opener)) if of == index => opener,
            _ => self.wireguard.opener(index)?,
        };
        before.opener = Some((index, opener));
        let (arriving, sealed) = opener.look_up(datagram)?;
        let (stamp, text_bytes) = (arriving.stamp(), arriving.text_bytes);
        Found { arriving, key: opener.key(), stamp, sealed, text_bytes }.within(room)
    }

    /// The same of a packet of ESP.
    #[inline]
    pub fn look_up_esp<'a>(
        &'a self,
        packet: &'a [u8],
        room: usize,
        before: &mut Before<'a>,
    ) -> Result<Found<'a, ipsec::Arriving>, DropReason> {
        let ipsec = self.ipsec.as_ref().ok_or(DropReason::DataUnknownSession)?;
        let (arriving, key) = ipsec.esp.look_up_behind(packet, &mut before.esp)?;
        let (stamp, sealed, text_bytes) = (arriving.stamp, arriving.sealed(packet), arriving.text_bytes);
        Found { arriving, key, stamp, sealed, text_bytes }.within(room)
    }

    /// For authentic messages of one session, which came by one path.
    #[inline]
    pub fn receiver(
        &mut self,
        arriving: &wireguard::Arriving,
        path: &Path,
    ) -> Result<wireguard::Receiver<'_>, DropReason> {
        self.wireguard.receiver(arriving.tunnel, arriving.receiver_index, path)
    }

    /// A packet of ESP is authentic, and this is in the first bytes of `slot`.
    #[inline]
    pub fn arrived(&mut self, arriving: &ipsec::Arriving, datagram: &Datagram<'_>, slot: &mut [u8]) -> Opened {
        match &mut self.ipsec {
            Some(ipsec) => ipsec.arrived(arriving, datagram, slot),
            None => Opened::dropped(DropReason::DataUnknownSession),
        }
    }
}
