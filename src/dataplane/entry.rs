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
    /// The tunnel that the peer has shown to be there.
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
                let mut came = Traffic::default();
                for packet in rest {
                    let opened = settled.arrived(packet.number, self.text(packet));
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
        let mut came = Came { heard: None, is_known: true };
        let mut rest = packets;
        while let [packet, others @ ..] = rest {
            if let Some(mut settled) = receiver.settled(rest.len(), self.batch.slot_bytes()) {
                let tunnel = settled.tunnel();
                self.begin(tunnel);
                let mut traffic = Traffic::default();
                for packet in rest {
                    let opened = settled.arrived(packet.number, self.text(packet));
                    self.take(packet.slot as usize, opened, &mut traffic);
                }
                let dummies = settled.dummies();
                self.run.traffic += traffic;
                receiver.count(tunnel, traffic.packets, traffic.bytes, dummies);
                came.heard = came.heard.or((traffic.packets + dummies > 0).then_some(tunnel));
                break;
            }
            let opened = receiver.arrived(packet.number, self.text(packet));
            match opened {
                Opened::Packet { tunnel, .. } | Opened::Keepalive { tunnel } => {
                    self.begin(tunnel);
                    came.heard = Some(tunnel);
                }
                Opened::Dropped { reason, .. } => came.is_known &= reason != DropReason::DataUnknownSession,
                Opened::Control => {}
            }
            self.take_one(packet.slot as usize, opened);
            rest = others;
        }
        came
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
