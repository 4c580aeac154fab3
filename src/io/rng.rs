//! Randomness from the operating system, by way of aws-lc: seeds and secrets that are handed to the cores.

use aws_lc_rs::rand;

use crate::net::random::Random;

/// The operating system's generator, as the cores are handed it.
pub struct System;

impl Random for System {
    fn fill(&mut self, bytes: &mut [u8]) {
        fill(bytes);
    }
}

/// Fills `bytes` with cryptographically strong random bytes.
pub fn fill(bytes: &mut [u8]) {
    rand::fill(bytes).expect("the operating system's generator does not fail once the machine is up");
}

pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

pub fn u64() -> u64 {
    u64::from_ne_bytes(bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(bytes::<32>(), bytes::<32>());
        assert_ne!(u64(), u64());
        assert!(bytes::<64>().iter().any(|byte| *byte != 0));
    }
}
