//! Randomness as it is handed to the protocol cores, so that none of them reaches for the operating system.

/// Where a core takes its nonces, SPIs, cookie secrets and jitter from. In the appliance it is the operating system's
/// generator (`io::rng::System`); in tests and the simulation it is drawn from a seed, and a run can be repeated.
pub trait Random {
    fn fill(&mut self, bytes: &mut [u8]);

    fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }
}

/// SplitMix64: as predictable as its seed, so for tests, simulations and the jitter of timers, never for a secret.
#[derive(Clone, Debug)]
pub struct Seeded(pub u64);

impl Random for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.draw().to_be_bytes()[..chunk.len()]);
        }
    }
}

impl Seeded {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_published_sequence() {
        // The first outputs of the reference implementation for the seed 1234567 (prng.di.unimi.it, splitmix64.c).
        let mut random = Seeded(1_234_567);
        assert_eq!(random.u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn fills_any_length() {
        let mut random: Box<dyn Random + Send> = Box::new(Seeded(7));
        let mut bytes = [0; 21];
        random.fill(&mut bytes);
        assert!(bytes.chunks(7).all(|chunk| chunk.iter().any(|byte| *byte != 0)));
    }
}
