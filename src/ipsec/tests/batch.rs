//! Packets that are sealed and opened together come to the same as one by one, for every kind of suite.

use proptest::prelude::*;

use super::world::*;
use crate::crypto::{Cipher, Departing, Integrity, OpenJob, SealJob, Suite, open_batch, seal_batch};
use crate::ipsec::esp::next_header;
use crate::ipsec::{ChildSa, Departure, Event, Lifetime, Outbound, SaStatus, Slot};
use crate::net::{Path, Selector, Timestamp};
use crate::packet::{DropReason, Opened, Outbox};

const SUITES: [Suite; 3] = [
    GCM,
    Suite { cipher: Cipher::ChaCha20Poly1305, integrity: None },
    Suite { cipher: Cipher::AesCbc256, integrity: Some(Integrity::HmacSha256_128) },
];

/// Each packet's answer, and everything that left.
type Sealed = (Vec<Result<(), DropReason>>, Vec<(Path, Vec<u8>)>);

/// No packet here is longer.
const LONGEST_BYTES: usize = 400;

#[derive(Clone, Copy)]
struct Found {
    slot: Slot,
    spi: u32,
    sequence: u64,
    text_bytes: usize,
    is_authentic: bool,
}

impl Side {
    /// What the walk does with packets to one tunnel.
    fn seal_together(&mut self, packets: &[Vec<u8>]) -> Sealed {
        let mut outbox = Outbox::new(1 << 20, 1 << 10);
        let (mut answers, mut pending) = (Vec::new(), Vec::new());
        while let Some(rest) = packets.get(answers.len()..).filter(|rest| !rest.is_empty()) {
            let departure = self.endpoint.depart(TUNNEL, rest.iter().map(Vec::as_slice), outbox.room());
            let Ok(departure) = departure else {
                answers.push(departure.map(drop));
                continue;
            };
            answers.extend(vec![Ok(()); departure.packets]);
            pending.push((departure, &rest[..departure.packets]));
            if departure.is_last {
                self.commit(std::mem::take(&mut pending), &mut outbox);
            }
        }
        self.commit(pending, &mut outbox);
        let all = outbox.datagrams().map(|(path, _, bytes)| (path, bytes.to_vec())).collect();
        (answers, all)
    }

    fn commit(&mut self, pending: Vec<(Departure, &[Vec<u8>])>, outbox: &mut Outbox) {
        for (departure, packets) in pending {
            for (packet, behind) in packets.iter().zip(0..) {
                let mut buffer = [packet.clone(), vec![0xee; 64]].concat();
                let text_bytes = departure.finish(&mut buffer, packet.len()).unwrap();
                let mut sealed = vec![0; departure.message_bytes(text_bytes)];
                let stamp = departure.stamp(behind);
                let key = self.endpoint.sealing_key(&departure).unwrap();
                let body = departure.write_header(stamp, &mut sealed).unwrap();
                let mut jobs = [SealJob::new(key, stamp, &buffer[..text_bytes], body)];
                seal_batch(&mut jobs);
                assert!(jobs[0].is_sealed);
                let path = self.endpoint.sas(TUNNEL).next().unwrap().path;
                outbox.space(sealed.len()).unwrap().copy_from_slice(&sealed);
                outbox.commit_marked(path, true, departure.traffic_class(packet), sealed.len());
            }
            self.endpoint.sent(TUNNEL, &departure, packets.len() as u64);
        }
    }

    /// What the walk does with packets from one tunnel, each with the port that it came from.
    fn open_together(&mut self, packets: &[(u16, Vec<u8>)]) -> Vec<Result<Vec<u8>, Opened>> {
        self.endpoint.note_now(self.now);
        let mut texts: Vec<_> = packets.iter().map(|(_, packet)| vec![0; packet.len()]).collect();
        let looked_up: Vec<_> =
            packets.iter().zip(&mut texts).map(|((_, packet), text)| self.look_up(packet, text)).collect();
        let (mut answers, mut at) = (Vec::new(), 0);
        while let Some(found) = looked_up.get(at) {
            let (_, packet) = &packets[at];
            match *found {
                Err(reason) => answers.push(Err(dropped(reason))),
                // Others may have made more of it plain.
                Ok(Found { is_authentic: false, .. }) => {
                    let reason = self.look_up(packet, &mut texts[at]).err();
                    answers.push(Err(dropped(reason.unwrap_or(DropReason::DataNotAuthentic))));
                }
                Ok(first) => {
                    let all = looked_up[at..].iter().zip(&packets[at..]).zip(&mut texts[at..]);
                    let goes_on = |found: &Found, port: u16| {
                        found.spi == first.spi && found.is_authentic && port == packets[at].0
                    };
                    let stretch = all.map_while(|((found, (port, _)), text)| {
                        Some((found.ok().filter(|found| goes_on(found, *port))?, &mut text[..]))
                    });
                    let stretch: Vec<_> = stretch.collect();
                    at += stretch.len();
                    self.receive(path(packets[at - 1].0), stretch, &mut answers);
                    continue;
                }
            }
            at += 1;
        }
        answers
    }

    fn sas(&self) -> Vec<SaStatus> {
        self.endpoint.sas(TUNNEL).collect()
    }

    fn look_up(&self, packet: &[u8], text: &mut [u8]) -> Result<Found, DropReason> {
        let opener = self.endpoint.opener(packet)?;
        let (sequence, sealed, text_bytes) = opener.look_up(packet)?;
        let mut job = [OpenJob::new(opener.key(), opener.stamp(sequence), sealed, &mut text[..text_bytes])];
        open_batch(&mut job);
        let is_authentic = job[0].is_authentic;
        Ok(Found { slot: opener.slot(), spi: opener.spi(), sequence, text_bytes, is_authentic })
    }

    fn receive(&mut self, path: Path, stretch: Vec<(Found, &mut [u8])>, answers: &mut Vec<Result<Vec<u8>, Opened>>) {
        let mut answer = |opened, text: &[u8]| {
            answers.push(match opened {
                Opened::Packet { len, .. } => Ok(text[..len].to_vec()),
                other => Err(other),
            });
        };
        let mut receiver = self.endpoint.receiver(stretch[0].0.slot, stretch[0].0.spi, &path, 0);
        let mut stretch = stretch.into_iter();
        while stretch.len() > 0 {
            if let Some(mut settled) = receiver.settled(stretch.len(), LONGEST_BYTES) {
                let first = stretch.as_slice()[0].0.sequence;
                let follow = (first..).zip(stretch.as_slice()).all(|(sequence, (found, _))| found.sequence == sequence);
                let are_accepted = follow && settled.accept_newest(first, stretch.len() as u64);
                let (mut plain, mut payload_bytes) = (0, 0);
                for (n, (Found { sequence, text_bytes, .. }, text)) in stretch.enumerate() {
                    let opened = &mut text[..text_bytes];
                    // As the walk does: those that are plain packets, up to the first that is none.
                    let is_plain = are_accepted && plain == n;
                    let opened = match is_plain.then(|| settled.plain(opened)).flatten() {
                        Some((len, payload)) => {
                            (plain, payload_bytes) = (plain + 1, payload_bytes + payload);
                            Opened::Packet { tunnel: TUNNEL, len }
                        }
                        None if are_accepted => settled.opened_and_counted(opened),
                        None => settled.arrived(sequence, opened),
                    };
                    answer(opened, text);
                }
                return settled.count_received(plain, payload_bytes);
            }
            let Some((Found { sequence, text_bytes, .. }, text)) = stretch.next() else { return };
            answer(receiver.arrived(sequence, &mut text[..text_bytes]), text);
        }
    }
}

/// The same SAs at every call.
fn side(suite: Suite, esn: bool, packets: u64, is_first: bool) -> Side {
    let (ours, theirs) = if is_first { (0x1000, 0x2000) } else { (0x2000, 0x1000) };
    let narrow = vec![Selector::from_net("192.168.1.0/24".parse().unwrap())];
    let make = |offset: u32, lifetime: u64, selectors: Option<Vec<Selector>>| -> ChildSa {
        let mut child = child_with(suite, ours + offset, theirs + offset);
        child.lifetime = Lifetime { packets: lifetime, ..Lifetime::UNLIMITED };
        child.esn = esn;
        // Those to whom packets come learn by them where the peer is, and that it has the keys.
        (child.follow_path, child.outbound) = (true, if is_first { Outbound::Now } else { Outbound::WhenHeard });
        if let Some(selectors) = selectors {
            (child.ours, child.theirs) = (selectors.clone(), selectors);
        }
        child
    };
    // The newest is tried first: it takes some of the packets only, and wears out.
    Side::with([make(0, u64::MAX, None), make(1, packets, Some(narrow))])
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Straight,
    Twice,
    Spoiled(usize),
    Cut(usize),
}

/// Each with whether the narrow SA carries it, its bytes, and the port that it comes from.
fn ways() -> impl Strategy<Value = Vec<(Way, bool, usize, u16)>> {
    let way = prop_oneof![
        6 => Just(Way::Straight),
        1 => Just(Way::Twice),
        1 => (0usize..400).prop_map(Way::Spoiled),
        1 => (0usize..60).prop_map(Way::Cut),
    ];
    let port = prop_oneof![9 => Just(4500u16), 1 => Just(4501)];
    prop::collection::vec((way, prop::bool::weighted(0.7), 0usize..300, port), 1..64)
}

proptest! {
    #[test]
    fn together_is_as_one_by_one(
        suite in prop::sample::select(&SUITES[..]), esn: bool, lifetime in 1u64..80, ways in ways(),
    ) {
        let [mut together, mut alone] = [(); 2].map(|()| side(suite, esn, lifetime, true));
        let packets: Vec<_> = ways.iter().map(|(_, is_narrow, bytes, _)| {
            if *is_narrow { v4(*bytes) } else { packet("10.0.0.1", "10.0.0.2", *bytes) }
        }).collect();
        let (answers, left) = together.seal_together(&packets);
        let expected: Vec<_> = packets.iter().map(|packet| alone.seal(packet)).collect();
        prop_assert_eq!(answers, expected.iter().map(|sealed| sealed.as_ref().map(drop).map_err(|reason| *reason)).collect::<Vec<_>>());
        let sealed: Vec<_> = expected.into_iter().flatten().collect();
        prop_assert_eq!(left.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), &sealed[..]);
        prop_assert_eq!((together.status(), together.sas()), (alone.status(), alone.sas()));
        prop_assert_eq!(together.events(), alone.events());

        let [mut together, mut alone] = [(); 2].map(|()| side(suite, esn, lifetime, false));
        let mut arriving = Vec::new();
        for (sealed, (way, _, _, port)) in sealed.iter().zip(&ways) {
            let mut changed = sealed.clone();
            match way {
                Way::Straight => {}
                Way::Twice => arriving.push((*port, sealed.clone())),
                Way::Spoiled(bit) => changed[bit / 8 % sealed.len()] ^= 1 << (bit % 8),
                Way::Cut(len) => changed.truncate(*len),
            }
            arriving.push((*port, changed));
        }
        let opened = together.open_together(&arriving);
        let expected: Vec<_> = arriving.iter().map(|(port, packet)| alone.open_from(path(*port), packet)).collect();
        prop_assert_eq!(opened, expected);
        prop_assert_eq!((together.status(), together.sas()), (alone.status(), alone.sas()));
        prop_assert_eq!(together.events(), alone.events());
    }
}

/// The SA that wears out with a packet seals that packet, and the next one takes another SA.
#[test]
fn the_last_packet_of_an_sa_is_told() {
    let mut side = side(GCM, false, 3, true);
    let (answers, left) = side.seal_together(&vec![v4(10); 5]);
    assert_eq!(answers, [Ok(()); 5]);
    let spis: Vec<_> = left.iter().map(|(_, sealed)| spi_of(sealed)).collect();
    assert_eq!(spis, [0x2001, 0x2001, 0x2001, 0x2000, 0x2000]);
    assert!(side.events().contains(&Event::Expired { tunnel: TUNNEL, spi_in: 0x1001 }));
}

/// Once in each second, by whichever way packets are taken; and by dummies, but not by what proves nothing or is not the peer's to send.
#[test]
fn that_the_peer_is_there_is_news_once_a_second() {
    let (mut sender, mut side) = pair_with(|child| ChildSa { outbound: Outbound::WhenHeard, ..child });
    let by = path(4500);
    let slot = side.look_up(&sender.seal(&v4(10)).unwrap(), &mut [0; LONGEST_BYTES]).unwrap().slot;
    let text = |next_header| plaintext(&v4(10), next_header);
    let mut news = |sequence: u64, texts: &[&Vec<u8>], now: Timestamp| {
        side.endpoint.note_now(now);
        let mut receiver = side.endpoint.receiver(slot, 0x2000, &by, 0);
        let mut of_settled = false;
        for (sequence, mut text) in (sequence..).zip(texts.iter().copied().cloned()) {
            match receiver.settled(1, LONGEST_BYTES) {
                Some(mut settled) => {
                    settled.arrived(sequence, &mut text);
                    of_settled |= settled.is_heard();
                }
                None => _ = receiver.arrived(sequence, &mut text),
            }
        }
        receiver.news(of_settled)
    };
    let (packet, dummy, rubbish) = (text(next_header::IPV4), text(next_header::NONE), text(17));
    let second = |n: u64| Timestamp::from_secs(2000 + n);
    assert_eq!(news(2, &[&packet], second(0)), Some(TUNNEL), "the first one, which makes the SA settled");
    assert_eq!(news(1, &[&rubbish], second(1)), None);
    assert_eq!(news(3, &[&packet, &dummy], second(1)), Some(TUNNEL), "both in another second");
    assert_eq!(news(3, &[&packet], second(2)), None, "a replay");
    assert_eq!(news(5, &[&rubbish], second(2)), None);
    assert_eq!(news(6, &[&dummy], second(2)), Some(TUNNEL));
    assert_eq!(news(7, &[&packet], second(2)), None, "the same second");
    assert_eq!(news(8, &[&packet], second(3)), Some(TUNNEL));
}

/// By all SAs that are there.
fn rx_packets(side: &Side) -> u64 {
    side.endpoint.sas(TUNNEL).map(|sa| sa.rx_packets).sum()
}

/// As long as nothing follows from a packet, a stretch is taken at once; and where something does, at that packet.
#[test]
fn an_sa_wears_out_in_the_middle_of_a_stretch() {
    let (mut sender, mut receiver) = pair_with(|child| ChildSa {
        lifetime: Lifetime { packets: if child.spi_in == 0x2000 { 30 } else { u64::MAX }, ..Lifetime::UNLIMITED },
        ..child
    });
    let mut open = |count: usize| {
        let arriving: Vec<_> = (0..count).map(|_| (4500, sender.seal(&v4(10)).unwrap())).collect();
        let opened = receiver.open_together(&arriving);
        (opened.iter().filter(|opened| opened.is_ok()).count(), receiver.events(), rx_packets(&receiver))
    };
    let (tunnel, spi_in) = (TUNNEL, 0x2000);
    assert_eq!(open(15), (15, vec![], 15));
    let worn = vec![Event::RekeyDue { tunnel, spi_in }, Event::Expired { tunnel, spi_in }];
    assert_eq!(open(20), (15, worn, 0), "the SA is gone, and what it counted");
    assert_eq!(open(5), (0, vec![], 0));
}

/// The SA waits to be heard, and its peer is elsewhere: the first packet of a stretch changes both, and the others nothing.
#[test]
fn a_stretch_that_moves_its_sa() {
    let (mut sender, mut receiver) =
        pair_with(|child| ChildSa { follow_path: true, outbound: Outbound::WhenHeard, ..child });
    let arriving: Vec<_> = (0..5).map(|_| (4501, sender.seal(&v4(10)).unwrap())).collect();
    let found = receiver.look_up(&arriving[0].1, &mut [0; LONGEST_BYTES]).unwrap();
    let by = path(4501);
    assert!(receiver.endpoint.receiver(found.slot, found.spi, &by, 0).settled(5, LONGEST_BYTES).is_none());
    assert!(receiver.open_together(&arriving).iter().all(Result::is_ok));
    assert_eq!((receiver.status().path, rx_packets(&receiver)), (Some(by), 5));
    assert!(receiver.endpoint.receiver(found.slot, found.spi, &by, 0).settled(5, LONGEST_BYTES).is_some());
    assert!(matches!(receiver.events()[..], [Event::Moved { moves: 1, .. }]));
}
