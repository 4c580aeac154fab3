//! Random fragments against a model of a page: a map from place to byte.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Each fragment is of so many bytes, so that even IPv4 ones are not tiny.
const UNIT: usize = 48;

/// One datagram as RFC 5722 has it, byte by byte.
#[derive(Default)]
struct Model {
    bytes: BTreeMap<usize, u8>,
    taken: Vec<(usize, bool, Vec<u8>)>,
    end: Option<usize>,
    is_dead: bool,
}

#[derive(PartialEq, Debug)]
enum Said {
    Kept,
    Nothing,
    Whole(Vec<u8>),
}

impl Model {
    fn take(&mut self, piece: &Piece) -> Said {
        let this = (piece.offset, piece.more, piece.payload.clone());
        if self.is_dead || self.taken.contains(&this) {
            return Said::Nothing;
        }
        let places = piece.offset..piece.offset + piece.payload.len();
        let beyond = |end: usize| self.bytes.keys().any(|at| *at >= end) || self.end.is_some_and(|known| known != end);
        let contradicts = match piece.more {
            true => self.end.is_some_and(|end| places.end >= end),
            false => beyond(places.end),
        };
        if contradicts || places.clone().any(|at| self.bytes.contains_key(&at)) {
            self.is_dead = true;
            return Said::Nothing;
        }
        self.bytes.extend(places.clone().zip(piece.payload.iter().copied()));
        self.end = self.end.or((!piece.more).then_some(places.end));
        self.taken.push(this);
        if self.end != Some(self.bytes.len()) {
            return Said::Kept;
        }
        let whole = std::mem::take(self);
        Said::Whole(whole.bytes.into_values().collect())
    }
}

/// A datagram of 2 to 12 units and a bit, cut at random places: true cuts behind that unit.
fn datagram() -> impl Strategy<Value = (Vec<u8>, Vec<bool>)> {
    (2usize..12, 0usize..UNIT).prop_flat_map(|(units, rest)| {
        let bytes = prop::collection::vec(any::<u8>(), units * UNIT + rest.max(1));
        (bytes, prop::collection::vec(any::<bool>(), units))
    })
}

fn pieces(v6: bool, message: &[u8], cuts: &[bool]) -> Vec<Piece> {
    let places = (1..).zip(cuts).filter(|(_, cut)| **cut).map(|(unit, _)| unit * UNIT);
    cut(v6, message, &places.collect::<Vec<_>>())
}

/// A fragment of a part of the same datagram, or of one of other bytes.
fn intruder() -> impl Strategy<Value = (usize, usize, bool, bool)> {
    (0usize..12, 1usize..4, any::<bool>(), any::<bool>())
}

proptest! {
    #[test]
    fn shuffled_and_doubled_they_are_the_same_datagram(
        (message, cuts) in datagram(), v6: bool, doubled: [prop::sample::Index; 3], seed: u64,
    ) {
        let all = pieces(v6, &message, &cuts);
        prop_assume!(all.len() > 1);
        let mut sent: Vec<Piece> = all.iter().chain(doubled.iter().map(|at| at.get(&all))).cloned().collect();
        let mut random = crate::sim::random::Random(seed);
        sent.sort_by_cached_key(|_| random.draw());
        let mut bench = Bench::new();
        let mut wholes = Vec::new();
        for piece in &sent {
            bench.send(piece);
            wholes.extend(bench.whole());
        }
        let (whole, bytes) = wholes.first().expect("the datagram");
        prop_assert_eq!(whole.fragments, all.len());
        let header_bytes = if v6 { 40 } else { 20 };
        prop_assert_eq!(&bytes[header_bytes..], &message);
    }

    #[test]
    fn what_comes_out_is_what_the_model_says(
        (message, cuts) in datagram(), v6: bool, intruders in prop::collection::vec(intruder(), 0..4), seed: u64,
    ) {
        let mut sent = pieces(v6, &message, &cuts);
        prop_assume!(sent.len() > 1);
        for (at, units, more, is_other) in intruders {
            let end = ((at + units) * UNIT).min(message.len());
            let start = (at * UNIT).min(end.saturating_sub(1) / UNIT * UNIT);
            let ragged = end % UNIT != 0;
            let mut payload = message[start..end].to_vec();
            payload[0] ^= u8::from(is_other);
            if start > 0 || (more && !ragged) {
                sent.push(piece(v6, start, more && !ragged, &payload));
            }
        }
        let mut random = crate::sim::random::Random(seed);
        sent.sort_by_cached_key(|_| random.draw());
        let (mut bench, mut model) = (Bench::new(), Model::default());
        for piece in &sent {
            let outcome = bench.send(piece);
            let whole = bench.whole().map(|(_, bytes)| bytes[if v6 { 40 } else { 20 }..].to_vec());
            let got = match (outcome, whole) {
                (Complete, Some(bytes)) => Said::Whole(bytes),
                (Kept, None) => Said::Kept,
                (Dropped(_), None) => Said::Nothing,
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(got, model.take(piece), "{:?} of {:?}", piece, sent);
        }
    }

    #[test]
    fn arbitrary_packets_never_panic_and_stay_within_bounds(
        packets in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 40..120)), 1..40),
    ) {
        let mut bench = Bench::with(Limits { bytes: 3000, bytes_per_realm: 2000, datagrams_per_realm: 3, fragments_per_datagram: 2 });
        for (v6, mut bytes) in packets {
            let len = bytes.len();
            bytes[0] = if v6 { 0x60 } else { 0x45 };
            bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            if v6 {
                bytes[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
                bytes[6] = 44;
            } else {
                ipv4::renew_checksum(&mut bytes[..20]);
            }
            if let Some(fragment) = fragment::parse(&bytes) {
                bench.reassembler.handle_fragment(A, TUNNEL, &fragment, &bytes, START);
                prop_assert!(bench.reassembler.bytes() <= 3000);
                bench.whole();
            }
        }
    }
}
