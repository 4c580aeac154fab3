//! A porter: receives for the walk, opens, seals and sends, on a core of its own. Here is what it does without sockets or threads.
//!
//! It opens with keys that the walk has lent it. Those it has not, or not any more, and everything that is no data, it hands on as it came: the walk opens
//! that itself, and lends the key for what comes next. So a porter needs no word of handshakes, rekeying or configuration, and one
//! that knows nothing yet is only slower.
//!
//! A key is lent for [`LENT_FOR`], and again whenever the walk has known it of a packet. Then it is forgotten, whatever became of its session.

use std::collections::HashMap;
use std::iter::Peekable;
use std::time::Duration;

use crate::crypto::{OpenJob, PacketKey, Stamp, open_batch};
use crate::net::{Port, Timestamp};
use crate::packet::Datagram;
use crate::packet::batch::BATCH_PACKETS;
use crate::{ipsec, wireguard};

use super::parcel::{Lent, Lesson, OpenedPacket, Parcel, Stretch, Tried};
use super::tunnels::can_be_data;

/// How long a porter may open with a key without the walk's having known it: so long, and up to ten seconds, a key outlives its session there.
pub const LENT_FOR: Duration = Duration::from_secs(60);
/// How often it is looked which are over.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Keys: three for each of 10,000 tunnels, twice.
const MAX_LENT: usize = 65_536;

/// After [`Porter::fill`], give the parcel to the walk; when it is back, [`Porter::learn`], [`Parcel::seal`], and send its outbox.
#[derive(Debug)]
pub struct Porter {
    wireguard: HashMap<u32, Held<wireguard::Lent>>,
    esp: HashMap<u32, Held<ipsec::Lent>>,
    next_look: Option<Timestamp>,
    max_lent: usize,
}

#[derive(Debug)]
struct Held<L> {
    lent: L,
    until: Timestamp,
}

/// A datagram that a key is there for.
struct Found<'k, 'd> {
    number: u32,
    key: &'k PacketKey,
    stamp: Stamp,
    sealed: &'d [u8],
    text_bytes: usize,
}

/// With its number.
#[derive(Clone, Copy)]
enum Before<'k> {
    WireGuard(u32, &'k wireguard::Lent),
    Esp(u32, &'k ipsec::Lent),
}

/// One that is being opened.
struct Opening<'d> {
    datagram: Datagram<'d>,
    number: u32,
    key: usize,
    stamp: Stamp,
    packet: OpenedPacket,
}

impl Default for Porter {
    fn default() -> Self {
        Porter::new(MAX_LENT)
    }
}

impl Porter {
    fn new(max_lent: usize) -> Self {
        Porter { wireguard: HashMap::new(), esp: HashMap::new(), next_look: None, max_lent }
    }

    /// Opens as many of the datagrams as there is room for into a parcel that is back and sent. Those for which there is none
    /// are left.
    pub fn fill<'d>(&mut self, datagrams: &mut Peekable<impl Iterator<Item = Datagram<'d>>>, parcel: &mut Parcel) {
        parcel.clear();
        let Parcel { batch, opened, rest, .. } = parcel;
        let slot_bytes = batch.slot_bytes();
        let mut slots = (0..).zip(batch.slots());
        let mut jobs: heapless::Vec<OpenJob<'_>, BATCH_PACKETS> = heapless::Vec::new();
        let mut opening: heapless::Vec<Opening<'d>, BATCH_PACKETS> = heapless::Vec::new();
        // Each may turn out to be one that is left as it came.
        let (mut room, mut taken) = (rest.room(), 0);
        let mut before = None;
        while taken < BATCH_PACKETS
            && let Some(datagram) = datagrams.next_if(|datagram| datagram.bytes.len() <= room)
        {
            taken += 1;
            room -= datagram.bytes.len();
            let found = self.look_up(&datagram, &mut before).filter(|found| found.text_bytes <= slot_bytes);
            let (Some(found), Some((slot, text))) = (found, slots.next()) else {
                rest.push(&datagram, None);
                continue;
            };
            let Found { number, key, stamp, sealed, text_bytes } = found;
            let _ = jobs.push(OpenJob::new(key, stamp, sealed, &mut text[..text_bytes]));
            let packet = OpenedPacket { number: stamp.number(), slot, text_bytes: text_bytes as u32 };
            let _ = opening.push(Opening { datagram, number, key: key.identity(), stamp, packet });
        }
        open_batch(&mut jobs);
        let mut authentic = 0u64;
        for (n, (job, Opening { datagram, number, key, stamp, packet })) in jobs.iter().zip(&opening).enumerate() {
            match job.is_authentic {
                true => {
                    opened.push(datagram, *number, *key, *packet);
                    authentic |= 1 << n;
                }
                false => rest.push(datagram, Some(Tried { stamp: *stamp, key: *key })),
            }
        }
        drop(jobs);
        for (n, Opening { number, stamp, .. }) in opening.iter().enumerate() {
            if let Stamp::Esp { sequence, .. } = *stamp
                && authentic >> n & 1 == 1
                && let Some(held) = self.esp.get_mut(number)
            {
                held.lent.note(sequence);
            }
        }
    }

    /// `before`: whose the message before was; the next one's as well, as a rule.
    #[inline]
    fn look_up<'k, 'd>(&'k self, datagram: &Datagram<'d>, before: &mut Option<Before<'k>>) -> Option<Found<'k, 'd>> {
        if !can_be_data(datagram) {
            return None;
        }
        match datagram.path.port {
            Port::WireGuard => {
                let number = wireguard::receiver_index(datagram.bytes)?;
                let lent = match *before {
                    Some(Before::WireGuard(of, lent)) if of == number => lent,
                    _ => &self.wireguard.get(&number)?.lent,
                };
                *before = Some(Before::WireGuard(number, lent));
                let (stamp, text_bytes, sealed) = lent.look_up(datagram.bytes)?;
                Some(Found { number, key: lent.key(), stamp, sealed, text_bytes })
            }
            Port::IkeNatT => {
                let number = ipsec::spi(datagram.bytes)?;
                let lent = match *before {
                    Some(Before::Esp(of, lent)) if of == number => lent,
                    _ => &self.esp.get(&number)?.lent,
                };
                *before = Some(Before::Esp(number, lent));
                let (stamp, text_bytes, sealed) = lent.look_up(datagram.bytes)?;
                Some(Found { number, key: lent.key(), stamp, sealed, text_bytes })
            }
            Port::Ike | Port::RawEsp | Port::Frames(_) | Port::Tun(_) => None,
        }
    }

    /// What the walk has told with a parcel that is back.
    pub fn learn(&mut self, parcel: &mut Parcel, now: Timestamp) {
        let until = now + LENT_FOR;
        parcel
            .opened
            .stretches
            .iter()
            .filter(|stretch| stretch.is_known)
            .for_each(|stretch| self.renew(stretch, until));
        for lesson in parcel.lessons.drain(..) {
            match lesson {
                Lesson::Gone(Port::WireGuard, index) => drop(self.wireguard.remove(&index)),
                Lesson::Gone(_, spi) => drop(self.esp.remove(&spi)),
                Lesson::Lent(number, ref lent) if !self.has_room_for(number, lent) => {}
                Lesson::Lent(index, Lent::WireGuard(lent)) => {
                    self.wireguard.insert(index, Held { lent, until });
                }
                Lesson::Lent(spi, Lent::Esp(lent)) => {
                    self.esp.insert(spi, Held { lent, until });
                }
            }
        }
        if self.has_keys() {
            self.next_look.get_or_insert(now + LOOK_EVERY);
        }
    }

    /// The walk has known the key of these packets.
    #[inline]
    fn renew(&mut self, stretch: &Stretch, until: Timestamp) {
        let (key, until_then) = match stretch.path.port {
            Port::WireGuard => match self.wireguard.get_mut(&stretch.number) {
                Some(held) => (held.lent.key(), &mut held.until),
                None => return,
            },
            _ => match self.esp.get_mut(&stretch.number) {
                Some(held) => (held.lent.key(), &mut held.until),
                None => return,
            },
        };
        // Another may have come by that number.
        if key.identity() == stretch.key {
            *until_then = until;
        }
    }

    /// Forgets what was lent for long enough.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if self.next_look.is_none_or(|at| now < at) {
            return;
        }
        self.wireguard.retain(|_, held| now < held.until);
        self.esp.retain(|_, held| now < held.until);
        self.next_look = self.has_keys().then_some(now + LOOK_EVERY);
    }

    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.next_look
    }

    fn has_room_for(&self, number: u32, lent: &Lent) -> bool {
        let is_held = match lent {
            Lent::WireGuard(_) => self.wireguard.contains_key(&number),
            Lent::Esp(_) => self.esp.contains_key(&number),
        };
        is_held || self.wireguard.len() + self.esp.len() < self.max_lent
    }

    #[inline]
    fn has_keys(&self) -> bool {
        !self.wireguard.is_empty() || !self.esp.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Suite;
    use crate::crypto::suite::Cipher;

    fn lent(number: u32) -> Lesson {
        let suite = Suite { cipher: Cipher::AesGcm128, integrity: None };
        let key = PacketKey::new(suite, &[7; 20], &[]).unwrap();
        Lesson::Lent(number, Lent::Esp(ipsec::Lent::of(key, number)))
    }

    #[test]
    fn no_more_keys_than_so_many_are_held_and_one_that_is_given_up_makes_room() {
        let (mut porter, mut parcel, now) = (Porter::new(2), Parcel::default(), Timestamp::from_secs(1));
        let mut learn = |lessons: Vec<Lesson>| {
            parcel.lessons.extend(lessons);
            porter.learn(&mut parcel, now);
            let mut held: Vec<_> = porter.esp.keys().copied().collect();
            held.sort();
            held
        };
        assert_eq!(learn(vec![lent(1), lent(2), lent(3)]), [1, 2]);
        assert_eq!(learn(vec![Lesson::Gone(Port::WireGuard, 1), lent(3)]), [1, 2], "that was another's number");
        assert_eq!(learn(vec![Lesson::Gone(Port::IkeNatT, 1), lent(3)]), [2, 3]);
    }
}
