//! ingress and decap: outer datagrams become the packets of a batch.
//!
//! ```text
//! look up    of each stretch of datagrams (`arrivals.rs`): whose are they; of each: is its number new?
//! open       all at once (`crypto::batch`), from the datagrams to the packets' buffers
//! receive    of a stretch those that are authentic: their numbers are used, their peer is there, their packets are in the batch
//! ```
//!
//! Nothing changes before a datagram is authentic. A stretch is received in parts if one of it is not, as what becomes of that depends on those
//! before it. What is no data (handshakes, IKE) is opened by itself, after those before it and before
//! those behind it, and so are frames of ports, all that came together. What a porter has opened ([`super::parcel`]) is only received.
//!
//! Drops: what the transports say, InnerTooLong, and what doors say (`entry.rs`).

use std::slice::{ChunksExactMut, IterMut};

use heapless::Vec;

use crate::crypto::{OpenBatch, Stamp, ToOpen};
use crate::ipsec;
use crate::net::{InterfaceId, Port, TunnelId};
use crate::packet::batch::BATCH_PACKETS;
use crate::packet::{Datagram, DropReason, Opened};

use super::arrivals::{Arrivals, Stretch};
use super::carriers::Carriers;
use super::counters::Counters;
use super::door;
use super::entry::{Came, Entry};
use super::parcel::{self, Lesson, OpenedPacket};
use super::tunnels::{Found, LookUp, Opener, Tunnels};

/// What opening works on.
pub(super) struct Ingress<'a> {
    pub carriers: &'a Carriers,
    pub tunnels: &'a mut Tunnels,
    pub entry: Entry<'a>,
}

/// Which of the arrivals are to be opened.
struct LookedUp {
    /// The first so many. Each is opened into the slot behind the one before.
    packets: [OpenedPacket; BATCH_PACKETS],
    len: usize,
    /// As the stretches are: whose they are, and how many packets there are up to the end of each.
    stretches: [(Whose, usize); BATCH_PACKETS],
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

/// Where opened packets go, and what is written down of them.
struct Slots<'a, 'b> {
    /// Of each buffer.
    room: usize,
    next_slot: u32,
    slots: ChunksExactMut<'b, u8>,
    authentic: IterMut<'b, bool>,
    packets: &'a mut [OpenedPacket],
    len: &'a mut usize,
}

/// Which of the datagrams are no packets, bit by bit.
struct Refused<'a> {
    bits: u64,
    counters: &'a mut Counters,
}

/// Datagrams with one receiver index or SPI, to be opened.
struct Arrived<'a, 'b, 'p, 'c, O> {
    opener: &'a O,
    datagrams: &'a [&'b [u8]],
    into: &'a mut Slots<'p, 'b>,
    refused: &'a mut Refused<'c>,
}

impl Refused<'_> {
    /// Behind so many packets.
    #[cold]
    fn add(&mut self, packets: usize, reason: DropReason) {
        self.bits |= 1 << (packets + self.bits.count_ones() as usize);
        self.counters.dropped_outside(reason, None);
    }
}

impl<'b, O: LookUp> ToOpen<'b> for Arrived<'_, 'b, '_, '_, O> {
    type Output = ();

    #[inline(never)]
    fn open_all(self, mut open: impl FnMut(Stamp, &'b [u8], &'b mut [u8], &'b mut bool)) {
        let Arrived { opener, datagrams, into, refused } = self;
        let mut len = *into.len;
        for datagram in datagrams {
            let Found { stamp, number, sealed, text_bytes } = match opener.look_up(datagram) {
                Ok(found) if found.text_bytes <= into.room => found,
                Ok(_) => {
                    refused.add(len, DropReason::InnerTooLong);
                    continue;
                }
                Err(reason) => {
                    refused.add(len, reason);
                    continue;
                }
            };
            // There is all of it for each datagram.
            if let (Some(buffer), Some(is_authentic), Some(packet)) =
                (into.slots.next(), into.authentic.next(), into.packets.get_mut(len))
                && let Some(text) = buffer.get_mut(..text_bytes)
            {
                *packet = OpenedPacket { number, slot: into.next_slot, text_bytes: text_bytes as u32 };
                open(stamp, sealed, text, is_authentic);
                into.next_slot += 1;
                len += 1;
            } else {
                debug_assert!(false, "no slot for a datagram");
            }
        }
        *into.len = len;
    }
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
            self.entry.touch(&self.tunnels.touch_arriving(arrivals.firsts()));
        }
        let (packets, stretches) = ([OpenedPacket::default(); BATCH_PACKETS], [(Whose::Nobodys, 0); BATCH_PACKETS]);
        let mut looked_up = LookedUp { packets, len: 0, stretches, refused: 0 };
        let authentic = self.open(arrivals, &mut looked_up);
        let LookedUp { packets, stretches, refused, .. } = &looked_up;
        let mut at = 0;
        for (stretch, (whose, end)) in arrivals.stretches().iter().zip(stretches) {
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
        let LookedUp { packets, len, stretches, refused } = looked_up;
        let mut openers: Vec<Result<Opener<'_>, DropReason>, BATCH_PACKETS> = Vec::new();
        for (port, first) in arrivals.firsts() {
            let opener = tunnels.opener(port, first);
            opener.iter().for_each(|opener| opener.key().touch());
            let _ = openers.push(opener); // there are no more stretches
        }
        let mut authentic = [false; BATCH_PACKETS];
        let mut opening = OpenBatch::default();
        let mut refused_so_far = Refused { bits: 0, counters };
        let mut into = Slots {
            room: batch.slot_bytes(),
            next_slot: batch.len() as u32,
            slots: batch.slots(),
            authentic: authentic.iter_mut(),
            packets,
            len,
        };
        for (((_, datagrams), opener), (whose, end)) in arrivals.by_stretch().zip(&openers).zip(stretches) {
            let (into, refused) = (&mut into, &mut refused_so_far);
            *whose = match opener {
                Ok(Opener::WireGuard(opener)) => {
                    opening.open(opener.key(), Arrived { opener, datagrams, into, refused });
                    Whose::WireGuard(opener.tunnel(), opener.index())
                }
                Ok(Opener::Esp(opener)) => {
                    opening.open(opener.key(), Arrived { opener, datagrams, into, refused });
                    Whose::Esp(opener.slot(), opener.spi())
                }
                Err(reason) => {
                    datagrams.iter().for_each(|_| refused.add(*into.len, *reason));
                    Whose::Nobodys
                }
            };
            *end = *into.len;
        }
        opening.finish();
        *refused = refused_so_far.bits;
        drop(opening);
        authentic.iter().rev().fold(0, |bits, is_authentic| bits << 1 | u64::from(*is_authentic))
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
        let found = self.tunnels.opener(port, datagram).and_then(|opener| opener.look_up(datagram, room));
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

    /// The batch must have room for all of them.
    pub fn open_frames(mut self, frames: &mut Arrivals<'_>) {
        let Ingress { tunnels, entry, .. } = &mut self;
        entry.counters.totals.datagrams_in += frames.len() as u64;
        for (stretch, frames) in frames.by_stretch() {
            for frame in frames {
                let opened = tunnels.open_frame(&stretch.path, frame, entry.batch.slot(), entry.outbox, entry.now);
                if let Opened::Packet { tunnel, .. } = opened {
                    entry.begin(tunnel);
                }
                entry.take_one(entry.batch.len(), opened);
            }
        }
        entry.count();
        frames.clear();
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
                counters.sent(tunnel, len);
                counters.totals.forwarded += 1;
            }
            Err(reason) => counters.dropped_outside(reason, Some(door.realm)),
        }
    }
}

/// Where the bit stands that has so many ones below it.
fn nth_one(bits: u64, n: usize) -> usize {
    (0..64).filter(|place| bits >> place & 1 == 1).nth(n).unwrap_or_default()
}
