//! Packets that are sealed and opened together come to the same as one by one, for every kind of suite.

use proptest::prelude::*;

use super::world::*;
use crate::crypto::{Cipher, Integrity, OpenJob, SealJob, Suite, open_batch, seal_batch};
use crate::ipsec::{ChildSa, Departure, Event, Lifetime};
use crate::net::{Path, Selector};
use crate::packet::{DropReason, Opened, Outbox};

const SUITES: [Suite; 3] = [
    GCM,
    Suite { cipher: Cipher::ChaCha20Poly1305, integrity: None },
    Suite { cipher: Cipher::AesCbc256, integrity: Some(Integrity::HmacSha256_128) },
];

/// Each packet's answer, and everything that left.
type Sealed = (Vec<Result<(), DropReason>>, Vec<(Path, Vec<u8>)>);

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
            let mut bytes = 0;
            for (packet, behind) in packets.iter().zip(0..) {
                let mut buffer = [packet.clone(), vec![0xee; 64]].concat();
                let text_bytes = departure.finish(&mut buffer, packet.len()).unwrap();
                let mut sealed = vec![0; departure.message_bytes(text_bytes)];
                let stamp = departure.stamp(behind);
                let key = self.endpoint.sealing_key(&departure).unwrap();
                let body = Departure::write_header(stamp, &mut sealed).unwrap();
                let mut jobs = [SealJob::new(key, stamp, &buffer[..text_bytes], body)];
                seal_batch(&mut jobs);
                assert!(jobs[0].is_sealed);
                let path = self.endpoint.sas(TUNNEL).next().unwrap().path;
                outbox.space(sealed.len()).unwrap().copy_from_slice(&sealed);
                outbox.commit_marked(path, true, departure.traffic_class(packet), sealed.len());
                bytes += packet.len() as u64;
            }
            self.endpoint.sent(TUNNEL, &departure, packets.len() as u64, bytes);
        }
    }

    fn open_together(&mut self, packets: &[Vec<u8>]) -> Vec<Result<Vec<u8>, Opened>> {
        self.endpoint.note_now(self.now);
        let mut texts: Vec<_> = packets.iter().map(|packet| vec![0; packet.len()]).collect();
        let (mut found, mut authentic) = (Vec::new(), Vec::new());
        for (packet, text) in packets.iter().zip(&mut texts) {
            let outcome = self.endpoint.look_up(packet);
            authentic.push(outcome.is_ok_and(|(found, key)| {
                let mut job = [OpenJob::new(key, found.stamp, found.sealed(packet), &mut text[..found.text_bytes])];
                open_batch(&mut job);
                job[0].is_authentic
            }));
            found.push(outcome.map(|(found, _)| found));
        }
        let all = packets.iter().zip(&found).zip(&mut texts).zip(authentic);
        let opened = all.map(|(((packet, found), text), is_authentic)| {
            let found = (*found).map_err(dropped)?;
            if !is_authentic {
                // Others may have made more of it plain.
                let found = self.endpoint.look_up(packet);
                return Err(dropped(found.err().unwrap_or(DropReason::DataNotAuthentic)));
            }
            match self.endpoint.arrived(&found, path(4500), 0, &mut text[..found.text_bytes]) {
                Opened::Packet { len, .. } => Ok(text[..len].to_vec()),
                other => Err(other),
            }
        });
        opened.collect()
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

fn ways() -> impl Strategy<Value = Vec<(Way, bool, usize)>> {
    let way = prop_oneof![
        6 => Just(Way::Straight),
        1 => Just(Way::Twice),
        1 => (0usize..400).prop_map(Way::Spoiled),
        1 => (0usize..60).prop_map(Way::Cut),
    ];
    prop::collection::vec((way, any::<bool>(), 0usize..300), 1..64)
}

proptest! {
    #[test]
    fn together_is_as_one_by_one(
        suite in prop::sample::select(&SUITES[..]), esn: bool, lifetime in 1u64..80, ways in ways(),
    ) {
        let [mut together, mut alone] = [(); 2].map(|()| side(suite, esn, lifetime, true));
        let packets: Vec<_> = ways.iter().map(|(_, is_narrow, bytes)| {
            if *is_narrow { v4(*bytes) } else { packet("10.0.0.1", "10.0.0.2", *bytes) }
        }).collect();
        let (answers, left) = together.seal_together(&packets);
        let expected: Vec<_> = packets.iter().map(|packet| alone.seal(packet)).collect();
        prop_assert_eq!(answers, expected.iter().map(|sealed| sealed.as_ref().map(drop).map_err(|reason| *reason)).collect::<Vec<_>>());
        let sealed: Vec<_> = expected.into_iter().flatten().collect();
        prop_assert_eq!(left.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), &sealed[..]);
        prop_assert_eq!(together.status(), alone.status());
        prop_assert_eq!(together.events(), alone.events());

        let [mut together, mut alone] = [(); 2].map(|()| side(suite, esn, lifetime, false));
        let mut arriving = Vec::new();
        for (sealed, (way, ..)) in sealed.iter().zip(&ways) {
            let mut changed = sealed.clone();
            match way {
                Way::Straight => {}
                Way::Twice => arriving.push(sealed.clone()),
                Way::Spoiled(bit) => changed[bit / 8 % sealed.len()] ^= 1 << (bit % 8),
                Way::Cut(len) => changed.truncate(*len),
            }
            arriving.push(changed);
        }
        let opened = together.open_together(&arriving);
        let expected: Vec<_> = arriving.iter().map(|packet| alone.open(packet)).collect();
        prop_assert_eq!(opened, expected);
        prop_assert_eq!(together.status(), alone.status());
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
