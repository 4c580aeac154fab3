//! Parcels: packets that a porter's thread has received and opened, on their way through the walk, and back to be sealed and sent.
//!
//! ```text
//! porter   datagrams ─ Porter::fill ─> opened packets, and what it could not open
//! walk                                 Engine::handle_parcel: numbers, stages, counters; places in the parcel's outbox, not yet sealed
//! walk     Parcel::seal ─> what leaves by other ports than WireGuard's, sent by the walk's thread ([`Leaving`])
//! porter   Parcel::seal ─> the rest, sent by the porter; and keys that it is lent (Porter::learn)
//! ```
//!
//! A parcel has the buffers of a batch and an outbox of its own, all of it allocated once. It belongs to one thread at a time, and only these three
//! work on it; so nothing in it is locked, and packets of one flow, which come by one porter, stay in order: all of them leave by it, or none.
//!
//! The walk asks of an opened packet what it asks of any (`dataplane/ingress.rs`): the porter has done arithmetic, and decided nothing.

use std::ops::Range;

use crate::crypto::{PacketKey, SealJob, Stamp, seal_batch};
use crate::ipsec;
use crate::net::{Path, Port};
use crate::packet::batch::BATCH_PACKETS;
use crate::packet::outbox::Place;
use crate::packet::{Batch, Datagram, Outbox};
use crate::wireguard;

use super::tunnels::Departure;

/// Room for what leaves: several times what comes, as packets of a parcel may be the last fragments of long datagrams.
const OUTBOX_BYTES: usize = 1 << 20;
const OUTBOX_RUNS: usize = 1024;
/// A header lies in one or two of them.
const LINE_BYTES: usize = 64;
/// Room for what could not be opened: more than a batch of full packets, and the largest datagram there is.
pub(super) const REST_BYTES: usize = 160 << 10;
const _: () = assert!(REST_BYTES > BATCH_PACKETS * 2048 && REST_BYTES > 1 << 16);

/// See the module.
#[derive(Debug)]
pub struct Parcel {
    /// The opened packets lie in its buffers; only the walk makes them packets of the batch.
    pub(super) batch: Batch,
    pub(super) outbox: Outbox,
    pub(super) opened: Opened,
    pub(super) rest: Rest,
    pub(super) sealing: Sealing,
    pub(super) lessons: Vec<Lesson>,
}

/// What was authentic.
#[derive(Debug)]
pub(super) struct Opened {
    pub stretches: Vec<Stretch>,
    pub packets: Vec<OpenedPacket>,
}

/// Packets behind one another that came by one path and were opened with one key.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub path: Path,
    pub ecn: u8,
    /// By it the key was found: receiver index or SPI, as the path's port is.
    pub number: u32,
    /// Its identity.
    pub key: usize,
    /// Of the packets that were opened.
    pub packets: Range<usize>,
    /// What the walk has found: that key is still the one.
    pub is_known: bool,
}

/// With what a datagram turned out not to be authentic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    pub stamp: Stamp,
    /// Its identity.
    pub key: usize,
}

/// A packet that has been opened, and of which nothing else has been asked.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct OpenedPacket {
    /// Counter or sequence number.
    pub number: u64,
    /// In the batch.
    pub slot: u32,
    pub text_bytes: u32,
}

/// Datagrams that are left as they came.
#[derive(Debug)]
pub(super) struct Rest {
    bytes: Box<[u8]>,
    used: usize,
    datagrams: Vec<Left>,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    path: Path,
    ecn: u8,
    start: usize,
    len: usize,
    tried: Option<Tried>,
}

/// Packets that have their places in the outbox, and are not sealed yet.
#[derive(Default, Debug)]
pub(super) struct Sealing {
    groups: Vec<Group>,
    packets: Vec<Unsealed>,
}

#[derive(Debug)]
struct Group {
    key: PacketKey,
    departure: Departure,
    packets: Range<usize>,
    is_sealed: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Unsealed {
    /// In the batch.
    pub number: u32,
    pub text_bytes: u32,
    pub place: Place,
    pub stamp: Stamp,
}

/// What the walk tells a porter.
#[derive(Clone, Debug)]
pub(super) enum Lesson {
    Lent(u32, Lent),
    /// Whatever was lent by that number serves no longer.
    Gone(Port, u32),
}

/// The key of a session or an SA, lent to whoever opens its packets.
#[derive(Clone, Debug)]
pub(super) enum Lent {
    WireGuard(wireguard::Lent),
    Esp(ipsec::Lent),
}

/// Who sends it, of what leaves a parcel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaving {
    /// The porter: what is for WireGuard peers, whose replay windows are long.
    ByPorter,
    /// The walk's own thread: all else. Packets of one SA come by several porters and have to leave in the order of their numbers, as
    /// many gateways' replay windows are of 32 or 64 packets.
    ByWalk,
    All,
}

impl Leaving {
    #[inline]
    pub fn carries(self, port: Port) -> bool {
        match self {
            Leaving::ByPorter => port == Port::WireGuard,
            Leaving::ByWalk => port != Port::WireGuard,
            Leaving::All => true,
        }
    }
}

impl Lesson {
    pub fn is_of(&self, port: Port, number: u32) -> bool {
        match self {
            Lesson::Lent(of, Lent::WireGuard(_)) => *of == number && port == Port::WireGuard,
            Lesson::Lent(of, Lent::Esp(_)) => *of == number && port != Port::WireGuard,
            Lesson::Gone(by, of) => *of == number && *by == port,
        }
    }
}

impl Default for Parcel {
    fn default() -> Self {
        Parcel {
            batch: Batch::default(),
            outbox: Outbox::new(OUTBOX_BYTES, OUTBOX_RUNS),
            opened: Opened { stretches: Vec::with_capacity(BATCH_PACKETS), packets: Vec::with_capacity(BATCH_PACKETS) },
            rest: Rest { bytes: vec![0; REST_BYTES].into(), used: 0, datagrams: Vec::with_capacity(BATCH_PACKETS) },
            sealing: Sealing { groups: Vec::with_capacity(BATCH_PACKETS), packets: Vec::with_capacity(BATCH_PACKETS) },
            lessons: Vec::with_capacity(BATCH_PACKETS),
        }
    }
}

impl Parcel {
    /// What is to be sent, once it is sealed. Clear it after sending.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Whether something leaves that is to be sent by whom that says.
    pub fn leaves(&self, leaving: Leaving) -> bool {
        self.outbox.runs().iter().any(|run| leaving.carries(run.path.port))
    }

    /// How many datagrams are in it: those that were opened, and those that were left as they came.
    pub fn counts(&self) -> (usize, usize) {
        (self.opened.packets.len(), self.rest.datagrams.len())
    }

    /// Those that were left as they came.
    pub fn left(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.rest.all().map(|(datagram, _)| datagram)
    }

    /// Seals what the walk has let pass, as far as it is to be sent by whom that says. Then that may be sent, and not before.
    pub fn seal(&mut self, leaving: Leaving) {
        let Parcel { batch, outbox, sealing, .. } = self;
        let is_wanted = |group: &&Group| !group.is_sealed && leaving.carries(group.departure.port());
        let groups = || sealing.groups.iter().filter(is_wanted);
        let packets = || groups().flat_map(|group| &sealing.packets[group.packets.clone()]);
        touch(batch, packets().map(|packet| packet.number));
        let mut jobs: heapless::Vec<SealJob<'_>, BATCH_PACKETS> = heapless::Vec::new();
        let mut places = outbox.places_mut(packets().map(|packet| packet.place));
        for group in groups() {
            for (packet, place) in sealing.packets[group.packets.clone()].iter().zip(places.by_ref()) {
                let sealed = group.departure.as_departing().write_header(packet.stamp, place);
                let text = &batch.buffer(packet.number as usize)[..packet.text_bytes as usize];
                let job = sealed.map(|sealed| SealJob::new(&group.key, packet.stamp, text, sealed));
                // There is room: a batch has no more packets.
                job.into_iter().for_each(|job| _ = jobs.push(job));
            }
        }
        seal_batch(&mut jobs);
        // Which preparing has ruled out. What leaves then is nothing that anybody could open.
        jobs.iter_mut().filter(|job| !job.is_sealed).for_each(|job| job.sealed.fill(0));
        drop(jobs);
        drop(places);
        for group in &mut sealing.groups {
            group.is_sealed |= leaving.carries(group.departure.port());
        }
        if sealing.groups.iter().all(|group| group.is_sealed) {
            sealing.clear();
        }
    }

    /// To be filled again.
    pub(super) fn clear(&mut self) {
        debug_assert!(self.outbox.is_empty(), "what left has been sent");
        // What had no way has not been sealed.
        self.sealing.clear();
        self.opened.stretches.clear();
        self.opened.packets.clear();
        self.rest.clear();
        self.lessons.clear();
    }
}

/// Reads what another thread has written, the headers of all packets, before any is sealed: so the waits for it overlap.
pub(super) fn touch(batch: &Batch, numbers: impl Iterator<Item = u32>) {
    let touched = numbers.fold(0, |touched, number| {
        let buffer = batch.buffer(number as usize);
        touched ^ buffer[0] ^ buffer[LINE_BYTES]
    });
    std::hint::black_box(touched);
}

impl Opened {
    /// There must be room.
    #[inline]
    pub fn push(&mut self, datagram: &Datagram<'_>, number: u32, key: usize, packet: OpenedPacket) {
        let at = self.packets.len();
        self.packets.push(packet);
        match self.stretches.last_mut() {
            Some(stretch)
                if stretch.number == number
                    && stretch.key == key
                    && stretch.ecn == datagram.ecn
                    && stretch.path == datagram.path =>
            {
                stretch.packets.end = at + 1;
            }
            _ => {
                let Datagram { path, ecn, .. } = *datagram;
                self.stretches.push(Stretch { path, ecn, number, key, packets: at..at + 1, is_known: false });
            }
        }
    }
}

impl Rest {
    #[inline]
    pub fn room(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// There must be room. `tried`: it is not authentic with this.
    pub fn push(&mut self, datagram: &Datagram<'_>, tried: Option<Tried>) {
        let Datagram { path, bytes, ecn } = *datagram;
        let Some(place) = self.bytes.get_mut(self.used..self.used + bytes.len()) else { return };
        place.copy_from_slice(bytes);
        self.datagrams.push(Left { path, ecn, start: self.used, len: bytes.len(), tried });
        self.used += bytes.len();
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    pub fn all(&self) -> impl Iterator<Item = (Datagram<'_>, Option<Tried>)> {
        self.datagrams.iter().map(|left| {
            let bytes = &self.bytes[left.start..left.start + left.len];
            (Datagram { path: left.path, bytes, ecn: left.ecn }, left.tried)
        })
    }

    fn clear(&mut self) {
        self.used = 0;
        self.datagrams.clear();
    }
}

impl Sealing {
    /// Packets to one tunnel, in the order of their places, behind all those before.
    #[inline]
    pub fn push(&mut self, key: PacketKey, departure: Departure, packets: impl Iterator<Item = Unsealed>) {
        let start = self.packets.len();
        self.packets.extend(packets);
        self.groups.push(Group { key, departure, packets: start..self.packets.len(), is_sealed: false });
    }

    fn clear(&mut self) {
        self.groups.clear();
        self.packets.clear();
    }
}
