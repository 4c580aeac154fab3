//! Where packets come into the batch: what a transport has taken out of authentic datagrams, and what is counted with it.
//!
//! Drops: what the transports say of authentic datagrams, InnerTooLong, and what doors say.

use crate::net::{RealmId, Timestamp, TunnelId};
use crate::packet::batch::MAX_PACKET_BYTES;
use crate::packet::{Batch, DropReason, Opened, Outbox};
use crate::{ipsec, wireguard};

use super::counters::Counters;
use super::door;
use super::parcel::OpenedPacket;
use super::report::Traffic;
use super::snapshot::Snapshot;

/// Where packets come in that were opened. At the end [`Entry::count`] must be called.
pub(super) struct Entry<'a> {
    pub snapshot: &'a Snapshot,
    pub batch: &'a mut Batch,
    pub outbox: &'a mut Outbox,
    pub counters: &'a mut Counters,
    pub now: Timestamp,
    /// The packets before, not counted yet.
    run: Run,
}

/// Packets behind one another that came by the same tunnel, to be counted at once.
struct Run {
    tunnel: TunnelId,
    /// `None`: the tunnel is nobody's any more.
    realm: Option<RealmId>,
    /// A packet of at most so many bytes is taken as it is; 0: each is looked at.
    plain_bytes: usize,
    traffic: Traffic,
}

/// What of packets of ESP is not in the batch.
pub(super) struct Came {
    /// The tunnel whose peer has shown to be there, if that is news.
    pub heard: Option<TunnelId>,
    /// The SA was there all the time.
    pub is_known: bool,
}

impl<'a> Entry<'a> {
    pub fn new(
        snapshot: &'a Snapshot,
        batch: &'a mut Batch,
        outbox: &'a mut Outbox,
        counters: &'a mut Counters,
        now: Timestamp,
    ) -> Self {
        let run = Run { tunnel: TunnelId::NONE, realm: None, plain_bytes: 0, traffic: Traffic::default() };
        Entry { snapshot, batch, outbox, counters, now, run }
    }

    /// Reads what is needed of these tunnels, all before it is used, so that the waits for it overlap.
    pub fn touch(&self, tunnels: &[TunnelId]) {
        let touched = tunnels.iter().fold(0, |all, tunnel| all ^ self.counters.touch_tunnel(*tunnel));
        std::hint::black_box(touched);
    }

    /// Packets of that tunnel follow.
    #[inline]
    pub fn begin(&mut self, tunnel: TunnelId) {
        if tunnel != self.run.tunnel {
            self.count();
            let realm = self.counters.realm_of(tunnel);
            let is_plain = realm.is_some() && self.snapshot.doors.is_empty();
            let plain_bytes = if is_plain { MAX_PACKET_BYTES } else { 0 };
            self.run = Run { tunnel, realm, plain_bytes, traffic: Traffic::default() };
        }
    }

    /// Authentic messages of one session that came by one path.
    #[inline(never)]
    pub fn take_messages(&mut self, mut receiver: wireguard::Receiver<'_>, packets: &[OpenedPacket]) {
        self.begin(receiver.tunnel());
        let mut rest = packets;
        while let [packet, others @ ..] = rest {
            if let Some(mut settled) = receiver.settled() {
                let are_accepted = numbers_of(rest).is_some_and(|(first, count)| settled.accept_newest(first, count));
                let (mut came, _) = match are_accepted {
                    true => self.take_plain(rest, |text| match settled.opened(text) {
                        Opened::Packet { len, .. } => Some((len, len)),
                        _ => None,
                    }),
                    false => Default::default(),
                };
                for packet in &rest[came.packets as usize..] {
                    let text = self.text(packet);
                    let opened = if are_accepted { settled.opened(text) } else { settled.arrived(packet.number, text) };
                    self.take(packet.slot as usize, opened, &mut came);
                }
                let is_heard = settled.is_heard();
                self.run.traffic += came;
                return receiver.count(is_heard, came.packets, came.bytes);
            }
            let opened = receiver.arrived(packet.number, self.text(packet));
            self.take_one(packet.slot as usize, opened);
            rest = others;
        }
    }

    /// Authentic packets of one SA that came by one path and were marked alike.
    #[inline(never)]
    pub fn take_packets(&mut self, mut receiver: ipsec::Receiver<'_>, packets: &[OpenedPacket]) -> Came {
        let (mut is_known, mut is_heard) = (true, false);
        let mut rest = packets;
        while let [packet, others @ ..] = rest {
            if let Some(mut settled) = receiver.settled(rest.len(), self.batch.slot_bytes()) {
                self.begin(settled.tunnel());
                let are_accepted = numbers_of(rest).is_some_and(|(first, count)| settled.accept_newest(first, count));
                let mut traffic = Traffic::default();
                if are_accepted {
                    let payload_bytes;
                    (traffic, payload_bytes) = self.take_plain(rest, |text| settled.plain(text));
                    settled.count_received(traffic.packets as usize, payload_bytes);
                }
                for packet in &rest[traffic.packets as usize..] {
                    let text = self.text(packet);
                    let opened = match are_accepted {
                        true => settled.opened_and_counted(text),
                        false => settled.arrived(packet.number, text),
                    };
                    self.take(packet.slot as usize, opened, &mut traffic);
                }
                is_heard = settled.is_heard() || traffic.packets > 0;
                self.run.traffic += traffic;
                break;
            }
            let opened = receiver.arrived(packet.number, self.text(packet));
            match opened {
                Opened::Packet { tunnel, .. } | Opened::Keepalive { tunnel } => self.begin(tunnel),
                Opened::Dropped { reason, .. } => is_known &= reason != DropReason::DataUnknownSession,
                Opened::Control => {}
            }
            self.take_one(packet.slot as usize, opened);
            rest = others;
        }
        Came { heard: receiver.news(is_heard), is_known }
    }

    /// Those of them, from the first on, that are plain packets of the tunnel that was begun and lie where the batch's next ones are to lie. `len_of`: how
    /// long a packet is, and how many bytes it came in, which are summed up of those that are taken.
    #[inline(always)]
    fn take_plain(
        &mut self,
        packets: &[OpenedPacket],
        mut len_of: impl FnMut(&mut [u8]) -> Option<(usize, usize)>,
    ) -> (Traffic, usize) {
        let Run { tunnel, realm: Some(realm), plain_bytes, .. } = self.run else { return (Traffic::default(), 0) };
        let (mut packets, mut bytes, mut payload_bytes) = (packets.iter().zip(self.batch.len()..), 0, 0);
        let taken = self.batch.push_all(tunnel, realm, |buffer| {
            let (packet, next) = packets.next()?;
            let text = buffer.get_mut(..packet.text_bytes as usize).filter(|_| packet.slot as usize == next)?;
            let (len, payload) = len_of(text).filter(|(len, _)| *len <= plain_bytes)?;
            (bytes, payload_bytes) = (bytes + len as u64, payload_bytes + payload);
            Some(len)
        });
        (Traffic { packets: taken as u64, bytes }, payload_bytes)
    }

    /// What has been opened.
    #[inline]
    fn text(&mut self, packet: &OpenedPacket) -> &mut [u8] {
        &mut self.batch.slot_mut(packet.slot as usize)[..packet.text_bytes as usize]
    }

    /// What came by the tunnel that was begun, if it is a packet, becomes one of the batch. It is in that slot.
    #[inline(always)]
    fn take(&mut self, slot: usize, opened: Opened, traffic: &mut Traffic) {
        let Opened::Packet { len, .. } = opened else { return self.ended(opened) };
        traffic.add(len);
        self.batch.bring_forward(slot - self.batch.len(), len);
        if len <= self.run.plain_bytes {
            self.batch.push(self.run.tunnel, self.run.realm.unwrap_or(RealmId::IX), len);
        } else {
            self.take_special(len);
        }
    }

    /// The same of one packet.
    #[inline]
    pub fn take_one(&mut self, slot: usize, opened: Opened) {
        let mut traffic = Traffic::default();
        self.take(slot, opened, &mut traffic);
        self.run.traffic += traffic;
    }

    /// Not every packet of this length simply becomes one of the batch.
    #[cold]
    fn take_special(&mut self, len: usize) {
        let Some(realm) = self.run.realm else {
            return self.counters.dropped_outside(DropReason::DataUnknownSession, None);
        };
        if len > MAX_PACKET_BYTES {
            return self.counters.dropped_outside(DropReason::InnerTooLong, Some(realm));
        }
        if !self.enter_door(realm, len) {
            self.batch.push(self.run.tunnel, realm, len);
        }
    }

    /// None of them is anybody's.
    #[cold]
    pub fn refuse_all(&mut self, packets: &[OpenedPacket], reason: DropReason) {
        packets.iter().for_each(|_| self.counters.dropped_outside(reason, None));
    }

    /// Whether it was for a routing daemon.
    fn enter_door(&mut self, realm: RealmId, len: usize) -> bool {
        match door::enter(&self.snapshot.doors, realm, &self.batch.slot()[..len], self.outbox) {
            Some(Ok(())) => self.counters.totals.forwarded += 1,
            Some(Err(reason)) => self.counters.dropped_outside(reason, Some(realm)),
            None => return false,
        }
        true
    }

    /// What holds no packet.
    #[inline(never)]
    pub fn ended(&mut self, opened: Opened) {
        match opened {
            Opened::Packet { .. } => {}
            Opened::Keepalive { .. } => self.counters.totals.keepalives += 1,
            Opened::Control => self.counters.totals.control += 1,
            Opened::Dropped { reason, tunnel } => {
                let realm = tunnel.and_then(|tunnel| self.counters.realm_of(tunnel));
                self.counters.dropped_outside(reason, realm);
            }
        }
    }

    /// Of what came by the tunnel that was begun.
    #[inline]
    pub fn count(&mut self) {
        if let Run { tunnel, realm: Some(_), traffic, .. } = self.run
            && traffic.packets > 0
        {
            self.counters.received(tunnel, traffic, self.now);
            self.run.traffic = Traffic::default();
        }
    }
}

/// The number of the first of them, and how many they are, if each has the one that follows.
#[inline]
fn numbers_of(packets: &[OpenedPacket]) -> Option<(u64, u64)> {
    let first = packets.first()?.number;
    let misses =
        packets.iter().zip(0..).fold(0, |misses, (packet, behind)| misses | packet.number.wrapping_sub(first) ^ behind);
    (misses == 0).then_some((first, packets.len() as u64))
}
