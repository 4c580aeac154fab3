//! ingress and decap: outer datagrams become the packets of a batch.
//!
//! ```text
//! look up    of each stretch of datagrams (`arrivals.rs`): whose are they; of each: is its number new?
//! open       all at once (`crypto::batch`), from the datagrams to the packets' buffers
//! receive    of a stretch those that are authentic: their numbers are used, their peer is there, their packets are in the batch
//! ```
//!
//! Nothing changes before a datagram is authentic. A stretch is received in parts if one of it is not, as what becomes of that depends on those
//! before it. What is no data (handshakes, IKE, ports' frames) is opened by itself, after those before it and before
//! those behind it. What a porter has opened ([`super::parcel`]) is only received.
//!
//! Drops: what the transports say, InnerTooLong, and what doors say.

use heapless::Vec;

use crate::crypto::{OpenJob, open_batch};
use crate::net::{InterfaceId, Port, RealmId, Timestamp, TunnelId};
use crate::packet::batch::{BATCH_PACKETS, MAX_PACKET_BYTES};
use crate::packet::{Batch, Datagram, DropReason, Opened, Outbox};
use crate::{ipsec, wireguard};

use super::arrivals::{Arrivals, Stretch};
use super::carriers::Carriers;
use super::counters::Counters;
use super::door;
use super::parcel::{self, Lesson, OpenedPacket};
use super::report::Traffic;
use super::snapshot::Snapshot;
use super::tunnels::{Opener, Tunnels};

/// What opening works on.
pub(super) struct Ingress<'a> {
    pub carriers: &'a Carriers,
    pub tunnels: &'a mut Tunnels,
    pub entry: Entry<'a>,
}

/// Where packets come in that were opened.
pub(super) struct Entry<'a> {
    snapshot: &'a Snapshot,
    batch: &'a mut Batch,
    outbox: &'a mut Outbox,
    counters: &'a mut Counters,
    now: Timestamp,
    /// The packets before, not counted yet.
    run: Run,
}

/// Packets behind one another that came by the same tunnel, to be counted at once.
struct Run {
    tunnel: TunnelId,
    /// `None`: the tunnel is nobody's any more.
    realm: Option<RealmId>,
    /// Of packets that are no longer nothing else is to be asked.
    plain_bytes: usize,
    traffic: Traffic,
}

/// Which of the arrivals are to be opened.
#[derive(Default)]
struct LookedUp {
    /// Each is opened into the slot behind the one before.
    packets: Vec<OpenedPacket, BATCH_PACKETS>,
    /// As the stretches are: whose they are, and how many packets there are up to the end of each.
    stretches: Vec<(Whose, usize), BATCH_PACKETS>,
    /// Which of the datagrams are no packets, bit by bit.
    refused: u64,
}

#[derive(Clone, Copy)]
enum Whose {
    Nobodys,
    /// With the receiver index.
    WireGuard(TunnelId, u32),
    /// With the SPI.
    Esp(ipsec::Slot, u32),
}

/// What of packets of ESP is not in the batch.
struct Came {
    /// The tunnel that the peer has shown to be there.
    heard: Option<TunnelId>,
    /// The SA was there all the time.
    is_known: bool,
}

impl Ingress<'_> {
    /// The batch must have room for all of them.
    pub fn open_all(mut self, arrivals: &mut Arrivals<'_>) {
        if arrivals.is_empty() {
            return;
        }
        self.entry.counters.totals.datagrams_in += arrivals.len() as u64;
        // What one sender's need comes with the first.
        if arrivals.are_mixed() {
            let firsts = arrivals.stretches().map(|(stretch, datagrams)| (stretch.path.port, datagrams[0]));
            self.entry.touch(&self.tunnels.touch_arriving(firsts));
        }
        let mut looked_up = LookedUp::default();
        let authentic = self.open(arrivals, &mut looked_up);
        let LookedUp { packets, stretches, refused } = &looked_up;
        let mut at = 0;
        for ((stretch, _), (whose, end)) in arrivals.stretches().zip(stretches) {
            while at < *end {
                let taken = ((authentic >> at).trailing_ones() as usize).min(end - at);
                if taken == 0 {
                    let datagram = arrivals.datagram(nth_one(!*refused, at));
                    self.refused(stretch.path.port, datagram);
                    at += 1;
                    continue;
                }
                self.receive(*whose, stretch, &packets[at..at + taken]);
                at += taken;
            }
        }
        self.entry.count();
        arrivals.clear();
    }

    /// Looks all of them up and opens those that are for somebody, each one slot behind the one before. Which of those are authentic,
    /// bit by bit.
    #[inline(never)]
    fn open(&mut self, arrivals: &Arrivals<'_>, looked_up: &mut LookedUp) -> u64 {
        let Ingress { tunnels, entry: Entry { batch, counters, .. }, .. } = self;
        let LookedUp { packets, stretches, refused } = looked_up;
        let mut jobs: Vec<OpenJob<'_>, BATCH_PACKETS> = Vec::new();
        let room = batch.slot_bytes();
        let mut slots = (batch.len() as u32..).zip(batch.slots());
        let mut refuse = |reason, place: usize| {
            *refused |= 1 << (place + refused.count_ones() as usize);
            counters.dropped_outside(reason, None);
        };
        for (stretch, datagrams) in arrivals.stretches() {
            let opener = match tunnels.opener(stretch.path.port, datagrams[0]) {
                Ok(opener) => opener,
                Err(reason) => {
                    datagrams.iter().for_each(|_| refuse(reason, packets.len()));
                    let _ = stretches.push((Whose::Nobodys, packets.len()));
                    continue;
                }
            };
            for datagram in datagrams {
                match opener.look_up(datagram, room) {
                    // There is a slot, and room, for each datagram.
                    Ok(found) => {
                        if let Some((slot, text)) = slots.next() {
                            let (number, text_bytes) = (found.number, found.text_bytes as u32);
                            let _ = jobs.push(found.job(text));
                            let _ = packets.push(OpenedPacket { number, slot, text_bytes });
                        }
                    }
                    Err(reason) => refuse(reason, packets.len()),
                }
            }
            let whose = match opener {
                Opener::WireGuard(opener) => Whose::WireGuard(opener.tunnel(), opener.index()),
                Opener::Esp(opener) => Whose::Esp(opener.slot(), opener.spi()),
            };
            let _ = stretches.push((whose, packets.len()));
        }
        open_batch(&mut jobs);
        jobs.iter().rev().fold(0, |bits, job| bits << 1 | u64::from(job.is_authentic))
    }

    /// Takes authentic packets of a stretch.
    #[inline]
    fn receive(&mut self, whose: Whose, stretch: &Stretch, packets: &[OpenedPacket]) {
        let Ingress { tunnels, entry, .. } = self;
        let came = match whose {
            Whose::Nobodys => return,
            Whose::WireGuard(tunnel, index) => match tunnels.receiver(tunnel, index, &stretch.path) {
                Ok(receiver) => return entry.take_messages(receiver, packets),
                Err(reason) => Err(reason),
            },
            Whose::Esp(slot, spi) => tunnels
                .esp_receiver(slot, spi, &stretch.path, stretch.ecn)
                .map(|receiver| entry.take_packets(receiver, packets)),
        };
        match came {
            Ok(came) => came.heard.into_iter().for_each(|tunnel| tunnels.note_heard(tunnel)),
            Err(reason) => entry.refuse_all(packets, reason),
        }
    }

    /// One that is not authentic. Those before it may have made it a replay, or ended its SA.
    #[cold]
    fn refused(&mut self, port: Port, datagram: &[u8]) {
        let room = self.entry.batch.slot_bytes();
        let found = self.tunnels.opener(port, datagram).and_then(|opener| opener.look_up(datagram, room).map(drop));
        let reason = found.err().unwrap_or(DropReason::DataNotAuthentic);
        self.entry.counters.dropped_outside(reason, None);
    }

    /// Takes what a porter has opened, of which nothing has been asked yet but whether it is authentic.
    pub fn take_opened(mut self, opened: &mut parcel::Opened, lessons: &mut std::vec::Vec<Lesson>) {
        parcel::touch(self.entry.batch, opened.packets.iter().map(|packet| packet.slot));
        for stretch in &mut opened.stretches {
            let packets = &opened.packets[stretch.packets.clone()];
            self.entry.counters.totals.datagrams_in += packets.len() as u64;
            stretch.is_known = self.receive_opened(stretch, packets);
            if !stretch.is_known {
                lessons.push(Lesson::Gone(stretch.path.port, stretch.number));
            }
        }
        self.entry.count();
    }

    /// `false`: there is no such session or SA any more.
    fn receive_opened(&mut self, stretch: &parcel::Stretch, packets: &[OpenedPacket]) -> bool {
        let Ingress { tunnels, entry, .. } = self;
        let parcel::Stretch { path, ecn, number, key, .. } = stretch;
        let came = match path.port {
            Port::WireGuard => tunnels.receiver_of_lent(*number, *key, path).map(|receiver| {
                entry.take_messages(receiver, packets);
                Came { heard: None, is_known: true }
            }),
            _ => tunnels
                .esp_receiver_of_lent(*number, *key, path, *ecn)
                .map(|receiver| entry.take_packets(receiver, packets)),
        };
        match came {
            Ok(Came { heard, is_known }) => {
                heard.into_iter().for_each(|tunnel| tunnels.note_heard(tunnel));
                is_known
            }
            Err(reason) => {
                entry.refuse_all(packets, reason);
                false
            }
        }
    }

    /// A porter has tried to open it, and it is not authentic.
    #[cold]
    pub fn refuse(mut self, datagram: &Datagram<'_>) {
        self.entry.counters.totals.datagrams_in += 1;
        self.refused(datagram.path.port, datagram.bytes);
    }

    /// What is to be opened by itself.
    pub fn open_alone(mut self, datagram: Datagram<'_>) {
        let Ingress { tunnels, entry, .. } = &mut self;
        entry.counters.totals.datagrams_in += 1;
        if let Port::Tun(interface) = datagram.path.port
            && entry.snapshot.door_of(interface).is_some()
        {
            return self.leave_by_door(interface, datagram.bytes);
        }
        let opened = tunnels.open(datagram, entry.batch.slot(), entry.outbox, entry.now);
        if let Opened::Packet { tunnel, .. } = opened {
            entry.begin(tunnel);
        }
        entry.take_one(entry.batch.len(), opened);
        entry.count();
    }

    /// From a routing daemon to its realm.
    #[cold]
    fn leave_by_door(self, interface: InterfaceId, bytes: &[u8]) {
        let Ingress { carriers, tunnels, entry: Entry { snapshot, outbox, counters, .. } } = self;
        let Some(door) = snapshot.door_of(interface) else { return };
        match door::leave(door, bytes, carriers, tunnels, outbox) {
            Ok((tunnel, len)) => {
                counters.sent(tunnel, door.realm, len);
                counters.totals.forwarded += 1;
            }
            Err(reason) => counters.dropped_outside(reason, Some(door.realm)),
        }
    }
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
    fn touch(&self, tunnels: &[TunnelId]) {
        let (snapshot, counters) = (self.snapshot, &*self.counters);
        let realm_of = |tunnel: &TunnelId| snapshot.tunnel(*tunnel).map(|tunnel| tunnel.realm);
        let counters_of = |tunnel: &TunnelId| counters.touch_tunnel(*tunnel);
        let touched = tunnels
            .iter()
            .fold(0, |all, tunnel| all ^ counters_of(tunnel) ^ u64::from(realm_of(tunnel).is_some_and(RealmId::is_ix)));
        let realms = tunnels.iter().filter_map(realm_of);
        std::hint::black_box(realms.fold(touched, |all, realm| all ^ counters.touch_realm(realm)));
    }

    /// Packets of that tunnel follow.
    #[inline]
    fn begin(&mut self, tunnel: TunnelId) {
        if tunnel != self.run.tunnel {
            self.count();
            let realm = self.snapshot.tunnel(tunnel).map(|tunnel| tunnel.realm);
            let is_plain = realm.is_some() && self.snapshot.doors.is_empty();
            let plain_bytes = if is_plain { MAX_PACKET_BYTES } else { 0 };
            self.run = Run { tunnel, realm, plain_bytes, traffic: Traffic::default() };
        }
    }

    /// Authentic messages of one session that came by one path.
    #[inline(never)]
    fn take_messages(&mut self, mut receiver: wireguard::Receiver<'_>, packets: &[OpenedPacket]) {
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
    fn take_packets(&mut self, mut receiver: ipsec::Receiver<'_>, packets: &[OpenedPacket]) -> Came {
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

    fn take_one(&mut self, slot: usize, opened: Opened) {
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

    #[cold]
    fn refuse_all(&mut self, packets: &[OpenedPacket], reason: DropReason) {
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
    fn ended(&mut self, opened: Opened) {
        match opened {
            Opened::Packet { .. } => {}
            Opened::Keepalive { .. } => self.counters.totals.keepalives += 1,
            Opened::Control => self.counters.totals.control += 1,
            Opened::Dropped { reason, tunnel } => {
                let realm = tunnel.and_then(|tunnel| self.snapshot.tunnel(tunnel)).map(|tunnel| tunnel.realm);
                self.counters.dropped_outside(reason, realm);
            }
        }
    }

    #[inline]
    fn count(&mut self) {
        if let Run { tunnel, realm: Some(realm), traffic, .. } = self.run
            && traffic.packets > 0
        {
            self.counters.received(tunnel, realm, traffic, self.now);
            self.run.traffic = Traffic::default();
        }
    }
}

/// Where the bit stands that has so many ones below it.
fn nth_one(bits: u64, n: usize) -> usize {
    (0..64).filter(|place| bits >> place & 1 == 1).nth(n).unwrap_or_default()
}
