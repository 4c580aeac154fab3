//! For the tests of kernels.

use std::io::Write;

use super::avx512::Avx512;

/// Says so, loudly, where the processor has none: nothing was tested then.
pub fn avx512() -> Option<Avx512> {
    let found = Avx512::detect();
    if found.is_none() {
        // Past the test harness, which keeps what tests that pass have printed.
        let _ = writeln!(std::io::stderr(), "NOT RUN: this processor has no AVX-512, its kernels are not tested here");
    }
    found
}

/// Numbers that are the same each time: SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}
