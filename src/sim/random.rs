//! Faults, addresses and choices, drawn from a seed.

/// Fills a slice.
pub type Source = Box<dyn FnMut(&mut [u8]) + Send>;

/// SplitMix64: enough to draw faults from a seed.
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// What a core that wants randomness is handed. Fit for the keys of a simulation, and for no others.
    pub fn into_source(mut self) -> Source {
        Box::new(move |bytes| {
            for chunk in bytes.chunks_mut(8) {
                chunk.copy_from_slice(&self.draw().to_le_bytes()[..chunk.len()]);
            }
        })
    }

    /// 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.draw() % bound }
    }

    /// True in `share` of a thousand draws.
    pub fn permille(&mut self, share: u32) -> bool {
        self.below(1000) < u64::from(share)
    }
}
