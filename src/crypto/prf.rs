//! Pseudorandom functions (RFC 4868) and the stream of key material that IKE draws from them (RFC 7296 section 2.13).

use std::fmt;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

/// A pseudorandom function: transform type 2 of IKEv2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Prf {
    HmacSha256,
    HmacSha384,
    HmacSha512,
}

impl Prf {
    pub const ALL: [Prf; 3] = [Prf::HmacSha256, Prf::HmacSha384, Prf::HmacSha512];

    pub fn from_id(id: u16) -> Option<Prf> {
        Self::ALL.into_iter().find(|prf| prf.id() == id)
    }

    pub fn id(self) -> u16 {
        match self {
            Prf::HmacSha256 => 5,
            Prf::HmacSha384 => 6,
            Prf::HmacSha512 => 7,
        }
    }

    pub fn output_bytes(self) -> usize {
        match self {
            Prf::HmacSha256 => 32,
            Prf::HmacSha384 => 48,
            Prf::HmacSha512 => 64,
        }
    }

    /// The preferred key length (RFC 7296 section 2.13): how much of prf+ goes to SK_d, SK_pi and SK_pr. As a key itself
    /// any length will do (RFC 4868 section 2.1.2).
    pub fn key_bytes(self) -> usize {
        self.output_bytes()
    }

    /// prf(key, parts one after the other).
    pub fn compute(self, key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        // Joined in a buffer that is wiped: the library's way to hash part by part leaves the result on the stack.
        let mut data = Zeroizing::new(Vec::with_capacity(total(parts)));
        parts.iter().for_each(|part| data.extend_from_slice(part));
        let mut output = Zeroizing::new(vec![0; self.output_bytes()]);
        sign(&self.hmac_key(key), &data, &mut output);
        output
    }

    /// The first `bytes` of prf+(key, seed): T1 | T2 | …, Tn = prf(key, Tn-1 | seed | n).
    ///
    /// # Panics
    /// Beyond 255 outputs of the prf, where prf+ is not defined. What is asked for follows from the suite, not the peer.
    pub fn plus(self, key: &[u8], seed: &[&[u8]], bytes: usize) -> Zeroizing<Vec<u8>> {
        let step = self.output_bytes();
        let rounds = u8::try_from(bytes.div_ceil(step)).expect("prf+ ends after 255 rounds");
        let key = self.hmac_key(key);
        // The data of a round: the output of the one before, the seed, and the number of the round.
        let mut data = Zeroizing::new(Vec::with_capacity(step + total(seed) + 1));
        let mut stream = Zeroizing::new(vec![0; usize::from(rounds) * step]);
        let mut before: &[u8] = &[];
        for (output, round) in stream.chunks_exact_mut(step).zip(1..=rounds) {
            data.clear();
            data.extend_from_slice(before);
            seed.iter().for_each(|part| data.extend_from_slice(part));
            data.push(round);
            sign(&key, &data, output);
            before = output;
        }
        stream.truncate(bytes);
        stream
    }

    fn hmac_key(self, key: &[u8]) -> hmac::Key {
        let algorithm = match self {
            Prf::HmacSha256 => hmac::HMAC_SHA256,
            Prf::HmacSha384 => hmac::HMAC_SHA384,
            Prf::HmacSha512 => hmac::HMAC_SHA512,
        };
        hmac::Key::new(algorithm, key)
    }
}

fn sign(key: &hmac::Key, data: &[u8], output: &mut [u8]) {
    hmac::sign_to_buffer(key, data, output).expect("the buffer is as long as the hash");
}

fn total(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

impl fmt::Display for Prf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Prf::HmacSha256 => "PRF-HMAC-SHA2-256",
            Prf::HmacSha384 => "PRF-HMAC-SHA2-384",
            Prf::HmacSha512 => "PRF-HMAC-SHA2-512",
        })
    }
}
