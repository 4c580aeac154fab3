//! ingress and decap: outer datagrams become the packets of a batch.
//!
//! ```text
//! look up    of all datagrams: whose is it, is its number new?
//! open       all at once (`crypto::batch`), from the datagrams to the packets' buffers
//! arrived    of each that is authentic: its number is used, its peer there, its packet in the batch
//! ```
//!
//! Nothing changes before a datagram is authentic. What is no data (handshakes, IKE, ports' frames) is opened by itself, after
//! those before it and before those behind it.
//!
//! Drops: what the transports say, InnerTooLong, and what doors say.

use heapless::Vec;

use crate::crypto::{OpenJob, open_batch};
use crate::net::{InterfaceId, Port, RealmId, Timestamp, TunnelId};
use crate::packet::batch::{BATCH_PACKETS, MAX_PACKET_BYTES};
use crate::packet::{Batch, Datagram, DropReason, Opened, Outbox};

use super::carriers::Carriers;
use super::counters::Counters;
use super::door;
use super::report::Traffic;
use super::snapshot::Snapshot;
use super::tunnels::{Arriving, Tunnels};

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
    pub snapshot: &'a Snapshot,
    pub carriers: &'a Carriers,
    pub tunnels: &'a mut Tunnels,
    pub batch: &'a mut Batch,
    pub outbox: &'a mut Outbox,
    pub counters: &'a mut Counters,
    pub now: Timestamp,
}

/// Packets behind one another that came by the same tunnel, to be counted at once.
#[derive(Clone, Copy)]
struct Run {
    tunnel: TunnelId,
    /// `None`: the tunnel is nobody's any more.
    realm: Option<RealmId>,
    traffic: Traffic,
}

impl Ingress<'_> {
    /// The batch must have room for all of them.
    pub fn open_all(mut self, arrivals: &mut Arrivals<'_>) {
        if arrivals.all.is_empty() {
            return;
        }
        self.counters.totals.datagrams_in += arrivals.all.len() as u64;
        self.tunnels.touch_arriving(&arrivals.all);
        let mut found = Vec::new();
        let authentic = self.open(&arrivals.all, &mut found);
        let mut run = Run { tunnel: TunnelId::NONE, realm: None, traffic: Traffic::default() };
        // Where what was opened lies: behind the packets of the batch, which become more.
        let mut next = self.batch.len();
        for (n, (datagram, found)) in arrivals.all.iter().zip(&found).enumerate() {
            match found {
                Ok(found) => {
                    let distance = next - self.batch.len();
                    next += 1;
                    match authentic >> n & 1 {
                        1 => self.arrived(found, datagram, distance, &mut run),
                        _ => self.refused(datagram),
                    }
                }
                Err(reason) => self.counters.dropped_outside(*reason, None),
            }
        }
        self.count(run);
        arrivals.all.clear();
    }

    /// Looks all of them up and opens those that are `found`, each one slot behind the one before. Which are authentic, bit by
    /// bit.
    fn open(&mut self, datagrams: &[Datagram<'_>], found: &mut Outcomes) -> u64 {
        let mut jobs: Vec<OpenJob<'_>, BATCH_PACKETS> = Vec::new();
        let room = self.batch.slot_bytes();
        let mut slots = self.batch.slots();
        for datagram in datagrams {
            let outcome = self.tunnels.look_up(datagram, room).map(|found| {
                // There is a slot, and room for a job, for each datagram.
                if let Some(slot) = slots.next() {
                    let _ = jobs.push(found.job(slot));
                }
                found.arriving
            });
            let _ = found.push(outcome);
        }
        open_batch(&mut jobs);
        let mut answers = jobs.iter().map(|job| job.is_authentic);
        let bits = found.iter().enumerate().filter(|(_, found)| found.is_ok());
        bits.fold(0, |bits, (n, _)| bits | u64::from(answers.next().unwrap_or_default()) << n)
    }

    /// An authentic datagram, of which the text lies so many slots behind the next.
    #[inline]
    fn arrived(&mut self, found: &Arriving, datagram: &Datagram<'_>, distance: usize, run: &mut Run) {
        match self.tunnels.arrived(found, datagram, self.batch.slot_behind(distance)) {
            Opened::Packet { tunnel, len } => {
                if tunnel != run.tunnel {
                    self.count(*run);
                    *run = Run { tunnel, realm: self.realm_of(tunnel), traffic: Traffic::default() };
                }
                self.take(run, distance, len);
            }
            other => self.ended(other),
        }
    }

    /// One that is not authentic. Those before it may have made it a replay, or ended its SA.
    #[cold]
    fn refused(&mut self, datagram: &Datagram<'_>) {
        let found = self.tunnels.look_up(datagram, self.batch.slot_bytes());
        let reason = found.err().unwrap_or(DropReason::DataNotAuthentic);
        self.counters.dropped_outside(reason, None);
    }

    /// What is to be opened by itself.
    pub fn open_alone(mut self, datagram: Datagram<'_>) {
        self.counters.totals.datagrams_in += 1;
        if let Port::Tun(interface) = datagram.path.port
            && self.snapshot.door_of(interface).is_some()
        {
            return self.leave_by_door(interface, datagram.bytes);
        }
        match self.tunnels.open(datagram, self.batch.slot(), self.outbox, self.now) {
            Opened::Packet { tunnel, len } => {
                let mut run = Run { tunnel, realm: self.realm_of(tunnel), traffic: Traffic::default() };
                self.take(&mut run, 0, len);
                self.count(run);
            }
            other => self.ended(other),
        }
    }

    /// What holds no packet.
    fn ended(&mut self, opened: Opened) {
        match opened {
            Opened::Packet { .. } => {}
            Opened::Keepalive { .. } => self.counters.totals.keepalives += 1,
            Opened::Control => self.counters.totals.control += 1,
            Opened::Dropped { reason, tunnel } => {
                let realm = tunnel.and_then(|tunnel| self.realm_of(tunnel));
                self.counters.dropped_outside(reason, realm);
            }
        }
    }

    /// The packet becomes one of the batch.
    #[inline]
    fn take(&mut self, run: &mut Run, distance: usize, len: usize) {
        let Some(realm) = run.realm else {
            return self.counters.dropped_outside(DropReason::DataUnknownSession, None);
        };
        run.traffic.add(len);
        if len > MAX_PACKET_BYTES {
            return self.counters.dropped_outside(DropReason::InnerTooLong, Some(realm));
        }
        self.batch.bring_forward(distance, len);
        if !self.snapshot.doors.is_empty()
            && let Some(entered) = door::enter(&self.snapshot.doors, realm, &self.batch.slot()[..len], self.outbox)
        {
            return match entered {
                Ok(()) => self.counters.totals.forwarded += 1,
                Err(reason) => self.counters.dropped_outside(reason, Some(realm)),
            };
        }
        self.batch.push(run.tunnel, realm, len);
    }

    #[inline]
    fn count(&mut self, run: Run) {
        if let Run { tunnel, realm: Some(realm), traffic } = run
            && traffic.packets > 0
        {
            self.counters.received(tunnel, realm, traffic, self.now);
        }
    }

    /// From a routing daemon to its realm.
    #[cold]
    fn leave_by_door(self, interface: InterfaceId, bytes: &[u8]) {
        let Ingress { snapshot, carriers, tunnels, outbox, counters, .. } = self;
        let Some(door) = snapshot.door_of(interface) else { return };
        match door::leave(door, bytes, carriers, tunnels, outbox) {
            Ok((tunnel, len)) => {
                counters.sent(tunnel, door.realm, len);
                counters.totals.forwarded += 1;
            }
            Err(reason) => counters.dropped_outside(reason, Some(door.realm)),
        }
    }

    fn realm_of(&self, tunnel: TunnelId) -> Option<RealmId> {
        self.snapshot.tunnel(tunnel).map(|tunnel| tunnel.realm)
    }
}
