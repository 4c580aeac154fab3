//! How much one SA may carry, and when to ask for its successor.

/// What an SA may carry in each direction. Its time is IKE's to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetime {
    pub packets: u64,
    /// Of payload: what is encrypted, without padding and trailer.
    pub bytes: u64,
}

impl Lifetime {
    /// As much as the sequence numbers allow.
    pub const UNLIMITED: Lifetime = Lifetime { packets: u64::MAX, bytes: u64::MAX };

    /// Whether so many more packets, of so many bytes altogether, do not reach it.
    #[inline]
    pub(super) fn stays_above(&self, meter: &Meter, packets: usize, bytes: usize) -> bool {
        meter.packets.saturating_add(packets as u64) < self.packets
            && meter.bytes.saturating_add(bytes as u64) < self.bytes
    }
}

/// What one direction of an SA has carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Meter {
    pub packets: u64,
    pub bytes: u64,
}

impl Meter {
    #[inline]
    pub fn count(&mut self, bytes: usize) {
        self.count_all(1, bytes);
    }

    /// So many packets, of so many bytes altogether.
    #[inline]
    pub fn count_all(&mut self, packets: usize, bytes: usize) {
        self.packets += packets as u64;
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

/// How far a direction is worn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Wear {
    Fresh,
    RekeyDue,
    /// That was the last packet.
    WornOut,
}

/// The limits of one direction. The soft ones lie at 90 % less up to 2 %, different for each SA, so that SAs which carry
/// the same do not all ask at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    soft: Lifetime,
    hard: Lifetime,
}

impl Budget {
    /// `jitter`: 16 random bits.
    pub fn new(hard: Lifetime, jitter: u16) -> Self {
        let jitter_of = |limit: u64| u128::from(limit) * u128::from(jitter) / (50 << 16);
        let soft = |limit: u64| limit - limit / 10 - jitter_of(limit) as u64;
        Budget { soft: Lifetime { packets: soft(hard.packets), bytes: soft(hard.bytes) }, hard }
    }

    #[inline]
    pub fn soft(&self) -> Lifetime {
        self.soft
    }

    #[inline]
    pub fn wear(&self, meter: &Meter) -> Wear {
        if meter.packets < self.soft.packets && meter.bytes < self.soft.bytes {
            Wear::Fresh
        } else if meter.packets < self.hard.packets && meter.bytes < self.hard.bytes {
            Wear::RekeyDue
        } else {
            Wear::WornOut
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wear(budget: &Budget, packets: u64, bytes: u64) -> Wear {
        budget.wear(&Meter { packets, bytes })
    }

    #[test]
    fn packets_and_bytes_wear_out_whichever_is_first() {
        let budget = Budget::new(Lifetime { packets: 1000, bytes: 50_000 }, 0);
        assert_eq!(wear(&budget, 899, 44_999), Wear::Fresh);
        assert_eq!(wear(&budget, 900, 0), Wear::RekeyDue);
        assert_eq!(wear(&budget, 0, 45_000), Wear::RekeyDue);
        assert_eq!(wear(&budget, 999, 49_999), Wear::RekeyDue);
        assert_eq!(wear(&budget, 1000, 0), Wear::WornOut);
        assert_eq!(wear(&budget, 0, 50_000), Wear::WornOut);
    }

    #[test]
    fn jitter_asks_up_to_two_percent_earlier_and_never_later() {
        for (jitter, due) in [(0, 900_000), (u16::MAX / 2, 890_001), (u16::MAX, 880_001)] {
            let budget = Budget::new(Lifetime { packets: 1_000_000, ..Lifetime::UNLIMITED }, jitter);
            assert_eq!(wear(&budget, due - 1, 0), Wear::Fresh, "{jitter}");
            assert_eq!(wear(&budget, due, 0), Wear::RekeyDue, "{jitter}");
        }
    }

    #[test]
    fn sequence_numbers_without_esn_are_asked_for_four_hundred_million_packets_before_their_end() {
        let budget = Budget::new(Lifetime { packets: u32::MAX.into(), ..Lifetime::UNLIMITED }, 0);
        assert_eq!(wear(&budget, 3_865_470_565, 0), Wear::Fresh);
        assert_eq!(wear(&budget, 3_865_470_566, 0), Wear::RekeyDue);
        assert_eq!(wear(&budget, u64::from(u32::MAX) - 1, 0), Wear::RekeyDue);
        assert_eq!(wear(&budget, u32::MAX.into(), 0), Wear::WornOut);
    }

    #[test]
    fn tiny_and_boundless_lifetimes_are_served() {
        assert_eq!(wear(&Budget::new(Lifetime { packets: 1, bytes: 1 }, u16::MAX), 0, 0), Wear::Fresh);
        assert_eq!(wear(&Budget::new(Lifetime { packets: 0, bytes: 0 }, 0), 1, 1), Wear::WornOut);
        assert_eq!(wear(&Budget::new(Lifetime::UNLIMITED, u16::MAX), 1 << 62, 1 << 62), Wear::Fresh);
    }
}
