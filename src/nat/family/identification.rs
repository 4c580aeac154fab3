//! Identifications of IPv4 packets that may be fragmented further on.

/// Each number is given once before any is given again, which keeps fragments of different packets apart (RFC 6864 section
/// 4.3), and in an order that a receiver cannot continue, so that it learns nothing of how much others receive (RFC 7739
/// section 3): a counter, enciphered by a Feistel network of 16 bits.
#[derive(Clone, Debug)]
pub struct Identifications {
    key: u64,
    next: u16,
}

/// Four rounds make a permutation that cannot be told from a random one (Luby and Rackoff), up to what the width allows.
const ROUNDS: u32 = 4;

impl Identifications {
    /// `seed` is random and secret.
    pub fn new(seed: u64) -> Self {
        Identifications { key: seed | 1, next: seed as u16 }
    }

    pub fn take(&mut self) -> u16 {
        let [mut left, mut right] = self.next.to_be_bytes();
        self.next = self.next.wrapping_add(1);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.mix(round, right));
        }
        u16::from_be_bytes([left, right])
    }

    fn mix(&self, round: u32, half: u8) -> u8 {
        let mixed = (self.key.rotate_left(round * 16) ^ u64::from(half)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ mixed >> 29).wrapping_mul(self.key | 1) >> 56) as u8
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_number_comes_once_before_any_comes_again() {
        let mut identifications = Identifications::new(0x1234_5678_9abc_def0);
        let first: Vec<u16> = (0..=u16::MAX).map(|_| identifications.take()).collect();
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 1 << 16);
        assert_eq!(identifications.take(), first[0]);
        let steps: HashSet<u16> = first.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
        assert!(steps.len() > 1000, "the next one does not follow from the last: {}", steps.len());
    }

    #[test]
    fn another_seed_is_another_order() {
        let take = |seed| {
            let mut identifications = Identifications::new(seed);
            [(); 8].map(|()| identifications.take())
        };
        assert_ne!(take(1), take(0xfeed_0000_0000_0001));
    }
}
