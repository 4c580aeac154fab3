//! ingress and decap: outer datagrams become the packets of a batch.
//!
//! ```text
//! look up    of all datagrams: whose is it, is its number new?
//! open       all at once (`crypto::batch`), from the datagrams to the packets' buffers
//! arrived    of each that is authentic: its number is used, its peer there, its packet in the batch
//! ```
//!
//! Nothing changes before a datagram is authentic. Datagrams behind one another are mostly of one session and by one path: whose they are is
//! found once for them. What is no data (handshakes, IKE, ports' frames) is opened by itself, after those before it and before
//! those behind it. What a porter has opened ([`super::parcel`]) only arrives.
//!
//! Drops: what the transports say, InnerTooLong, and what doors say.

use heapless::Vec;

use crate::crypto::{OpenJob, Stamp, open_batch};
use crate::net::{InterfaceId, Port, RealmId, Timestamp, TunnelId};
use crate::packet::batch::{BATCH_PACKETS, MAX_PACKET_BYTES};
use crate::packet::{Batch, Datagram, DropReason, Opened, Outbox};
use crate::{ipsec, wireguard};

use super::carriers::Carriers;
use super::counters::Counters;
use super::door;
use super::parcel::{self, Lesson, OpenedPacket, Stretch};
use super::report::Traffic;
use super::snapshot::Snapshot;
use super::tunnels::{Arriving, Before, Tunnels};

/// Datagrams that are to be opened together.
#[derive(Default)]
pub(super) struct Arrivals<'a> {
    all: Vec<Datagram<'a>, BATCH_PACKETS>,
}

impl<'a> Arrivals<'a> {
    #[inline]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// There must be room for it.
    #[inline]
    pub fn push(&mut self, datagram: Datagram<'a>) {
        let pushed = self.all.push(datagram);
        debug_assert!(pushed.is_ok());
    }
}

type Outcomes = Vec<Result<Arriving, DropReason>, BATCH_PACKETS>;

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
    traffic: Traffic,
}

impl Ingress<'_> {
    /// The batch must have room for all of them.
    pub fn open_all(mut self, arrivals: &mut Arrivals<'_>) {
        let datagrams = &arrivals.all[..];
        if datagrams.is_empty() {
            return;
        }
        self.entry.counters.totals.datagrams_in += datagrams.len() as u64;
        self.entry.touch(&self.tunnels.touch_arriving(datagrams));
        let mut found = Vec::new();
        let authentic = self.open(datagrams, &mut found);
        // Which of the opened ones is next: behind the packets of the batch, which become more.
        let mut next = self.entry.batch.len();
        let mut at = 0;
        while let Some(outcome) = found.get(at) {
            let is_authentic = authentic >> at & 1 == 1;
            match outcome {
                Ok(Arriving::WireGuard(first)) if is_authentic => {
                    let end = at + (authentic >> at).trailing_ones() as usize;
                    let taken = self.receive(first, &datagrams[at..end], &found[at..end], next);
                    (at, next) = (at + taken, next + taken);
                    continue;
                }
                Ok(Arriving::Esp(arriving)) if is_authentic => self.arrived(arriving, &datagrams[at], next),
                Ok(_) => self.refused(&datagrams[at]),
                Err(reason) => self.entry.counters.dropped_outside(*reason, None),
            }
            next += usize::from(outcome.is_ok());
            at += 1;
        }
        self.entry.count();
        arrivals.all.clear();
    }

    /// Looks all of them up and opens those that are `found`, each one slot behind the one before. Which are authentic, bit by
    /// bit.
    #[inline(never)]
    fn open(&mut self, datagrams: &[Datagram<'_>], found: &mut Outcomes) -> u64 {
        let mut jobs: Vec<OpenJob<'_>, BATCH_PACKETS> = Vec::new();
        let room = self.entry.batch.slot_bytes();
        let mut slots = self.entry.batch.slots();
        let mut before = Before::default();
        for datagram in datagrams {
            // There is a slot, and room for a job and an outcome, for each datagram.
            let outcome = match datagram.path.port {
                Port::WireGuard => self.tunnels.look_up_wireguard(datagram.bytes, room, &mut before).map(|found| {
                    let _ = slots.next().map(|slot| jobs.push(found.job(slot)));
                    Arriving::WireGuard(found.arriving)
                }),
                _ => self.tunnels.look_up_esp(datagram.bytes, room, &mut before).map(|found| {
                    let _ = slots.next().map(|slot| jobs.push(found.job(slot)));
                    Arriving::Esp(found.arriving)
                }),
            };
            let _ = found.push(outcome);
        }
        open_batch(&mut jobs);
        let opened = found.iter().enumerate().filter(|(_, found)| found.is_ok());
        opened.zip(&jobs).fold(0, |bits, ((n, _), job)| bits | u64::from(job.is_authentic) << n)
    }

    /// Takes authentic datagrams, the first of which is to be opened as `next`, as far as they are of its session and came by its path.
    /// How many those are.
    #[inline(never)]
    fn receive(
        &mut self,
        first: &wireguard::Arriving,
        datagrams: &[Datagram<'_>],
        found: &[Result<Arriving, DropReason>],
        next: usize,
    ) -> usize {
        let Ingress { tunnels, entry, .. } = self;
        let path = &datagrams[0].path;
        let Ok(mut receiver) = tunnels.receiver(first, path) else {
            entry.counters.dropped_outside(DropReason::DataUnknownSession, None);
            return 1;
        };
        entry.begin(first.tunnel);
        let mut taken = 0;
        for (datagram, found) in datagrams.iter().zip(found) {
            let Ok(Arriving::WireGuard(arriving)) = found else { break };
            if arriving.receiver_index != first.receiver_index || datagram.path != *path {
                break;
            }
            let distance = next + taken - entry.batch.len();
            taken += 1;
            let slot = entry.batch.slot_behind(distance);
            match receiver.arrived(arriving.counter, path, &slot[..arriving.text_bytes]) {
                Opened::Packet { len, .. } => entry.take(distance, len),
                other => entry.ended(other),
            }
        }
        taken
    }

    /// An authentic packet of ESP, opened as `next`.
    #[inline]
    fn arrived(&mut self, arriving: &ipsec::Arriving, datagram: &Datagram<'_>, next: usize) {
        let Ingress { tunnels, entry, .. } = self;
        let distance = next - entry.batch.len();
        match tunnels.arrived(arriving, datagram, entry.batch.slot_behind(distance)) {
            Opened::Packet { tunnel, len } => {
                entry.begin(tunnel);
                entry.take(distance, len);
            }
            other => entry.ended(other),
        }
    }

    /// One that is not authentic. Those before it may have made it a replay, or ended its SA.
    #[cold]
    fn refused(&mut self, datagram: &Datagram<'_>) {
        let room = self.entry.batch.slot_bytes();
        let found = match datagram.path.port {
            Port::WireGuard => self.tunnels.look_up_wireguard(datagram.bytes, room, &mut Before::default()).err(),
            _ => self.tunnels.look_up_esp(datagram.bytes, room, &mut Before::default()).err(),
        };
        let reason = found.unwrap_or(DropReason::DataNotAuthentic);
        self.entry.counters.dropped_outside(reason, None);
    }

    /// Takes what a porter has opened, of which nothing has been asked yet but whether it is authentic.
    pub fn take_opened(mut self, opened: &mut parcel::Opened, lessons: &mut std::vec::Vec<Lesson>) {
        parcel::touch(self.entry.batch, opened.packets.iter().map(|packet| packet.slot));
        for stretch in &mut opened.stretches {
            let packets = &opened.packets[stretch.packets.clone()];
            self.entry.counters.totals.datagrams_in += packets.len() as u64;
            stretch.is_known = match stretch.path.port {
                Port::WireGuard => self.receive_opened(stretch, packets),
                _ => self.arrived_opened(stretch, packets),
            };
            if !stretch.is_known {
                lessons.push(Lesson::Gone(stretch.path.port, stretch.number));
            }
        }
        self.entry.count();
    }

    /// `false`: there is no such session any more.
    fn receive_opened(&mut self, stretch: &Stretch, packets: &[OpenedPacket]) -> bool {
        let Ingress { tunnels, entry, .. } = self;
        let Ok(mut receiver) = tunnels.receiver_of_lent(stretch.number, stretch.key, &stretch.path) else {
            packets.iter().for_each(|_| entry.counters.dropped_outside(DropReason::DataUnknownSession, None));
            return false;
        };
        entry.begin(receiver.tunnel());
        for OpenedPacket { stamp, slot, text_bytes } in packets {
            let distance = *slot as usize - entry.batch.len();
            let text = &entry.batch.slot_behind(distance)[..*text_bytes as usize];
            let Stamp::WireGuard { counter } = *stamp else { continue };
            match receiver.arrived(counter, &stretch.path, text) {
                Opened::Packet { len, .. } => entry.take(distance, len),
                other => entry.ended(other),
            }
        }
        true
    }

    /// The same of an SA.
    fn arrived_opened(&mut self, stretch: &Stretch, packets: &[OpenedPacket]) -> bool {
        let mut is_known = true;
        for OpenedPacket { stamp, slot, text_bytes } in packets {
            match self.tunnels.look_up_lent_esp(*stamp, stretch.key, *text_bytes as usize) {
                Ok(arriving) => {
                    let datagram = Datagram { path: stretch.path, bytes: &[], ecn: stretch.ecn };
                    self.arrived(&arriving, &datagram, *slot as usize);
                }
                Err(reason) => {
                    is_known &= reason != DropReason::DataUnknownSession;
                    self.entry.counters.dropped_outside(reason, None);
                }
            }
        }
        is_known
    }

    /// A porter has tried to open it, and it is not authentic.
    #[cold]
    pub fn refuse(mut self, datagram: &Datagram<'_>) {
        self.entry.counters.totals.datagrams_in += 1;
        self.refused(datagram);
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
        match tunnels.open(datagram, entry.batch.slot(), entry.outbox, entry.now) {
            Opened::Packet { tunnel, len } => {
                entry.begin(tunnel);
                entry.take(0, len);
                entry.count();
            }
            other => entry.ended(other),
        }
    }

    /// From a routing daemon to its realm.
    #[cold]
    fn leave_by_door(self, interface: InterfaceId, bytes: &[u8]) {
        let Ingress { carriers, tunnels, entry: Entry { snapshot, outbox, counters, .. } } = self;
        let Some(door) = snapshot.door_of(interface) else { return };
        match door::leave(door, bytes, carriers, tunnels, outbox) {
            Ok((tunnel, len)) => {
                counters.sent(tunnel, len);
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
        let run = Run { tunnel: TunnelId::NONE, realm: None, traffic: Traffic::default() };
        Entry { snapshot, batch, outbox, counters, now, run }
    }

    /// Reads what is needed of these tunnels, all before it is used, so that the waits for it overlap.
    fn touch(&self, tunnels: &[TunnelId]) {
        let touched = tunnels.iter().fold(0, |all, tunnel| all ^ self.counters.touch_tunnel(*tunnel));
        std::hint::black_box(touched);
    }

    /// Packets of that tunnel follow.
    #[inline]
    fn begin(&mut self, tunnel: TunnelId) {
        if tunnel != self.run.tunnel {
            self.count();
            let realm = self.counters.realm_of(tunnel);
            self.run = Run { tunnel, realm, traffic: Traffic::default() };
        }
    }

    /// What came by the tunnel that was begun becomes a packet of the batch.
    #[inline(always)]
    fn take(&mut self, distance: usize, len: usize) {
        let Some(realm) = self.run.realm else {
            return self.counters.dropped_outside(DropReason::DataUnknownSession, None);
        };
        self.run.traffic.add(len);
        if len > MAX_PACKET_BYTES {
            return self.counters.dropped_outside(DropReason::InnerTooLong, Some(realm));
        }
        self.batch.bring_forward(distance, len);
        if !self.snapshot.doors.is_empty() && self.enter_door(realm, len) {
            return;
        }
        self.batch.push(self.run.tunnel, realm, len);
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
    fn ended(&mut self, opened: Opened) {
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

    #[inline]
    fn count(&mut self) {
        if let Run { tunnel, realm: Some(_), traffic } = self.run
            && traffic.packets > 0
        {
            self.counters.received(tunnel, traffic, self.now);
            self.run.traffic = Traffic::default();
        }
    }
}
