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
        let mut output = Zeroizing::new(vec![0; self.output_bytes()]);
        match parts {
            [whole] => sign(&self.hmac_key(key), whole, &mut output),
            // Joined in a buffer that is wiped: the library's way to hash part by part leaves the result on the stack.
            parts => {
                let mut data = Zeroizing::new(Vec::with_capacity(total(parts)));
                parts.iter().for_each(|part| data.extend_from_slice(part));
                sign(&self.hmac_key(key), &data, &mut output);
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex::hex;

    fn check(key: &[u8], data: &[u8], outputs: [&str; 3]) {
        for (prf, output) in Prf::ALL.into_iter().zip(outputs) {
            assert_eq!(*prf.compute(key, &[data]), hex(output), "{prf}");
            let (first, second) = data.split_at(data.len() / 2);
            assert_eq!(*prf.compute(key, &[first, &[], second]), hex(output), "{prf} in parts");
        }
    }

    /// RFC 4868 section 2.7.1 (the cases 1, 2 and 6 of RFC 4231): keys shorter and longer than the hash and its block.
    #[test]
    fn prfs_of_rfc_4868() {
        check(
            &[0x0b; 20],
            b"Hi There",
            [
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
                "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59c
                 faea9ea9076ede7f4af152e8b2fa9cb6",
                "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde
                 daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
            ],
        );
        check(
            b"Jefe",
            b"what do ya want for nothing?",
            [
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
                "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e
                 8e2240ca5e69e2c78b3239ecfab21649",
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554
                 9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ],
        );
        check(
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            [
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
                "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c6
                 0c2ef6ab4030fe8296248df163f44952",
                "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352
                 6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
            ],
        );
    }

    /// No RFC prints prf+ over SHA-2: 150 octets of RFC 7296 section 2.13, computed with Python's `hmac`.
    #[test]
    fn prf_plus_by_another_hand() {
        let streams = [
            "28a0586da33afce4e564c2e7920f9cdd28d3c11b508b8111d0fa50a37960a60c7e69e628b3ff53e69871598f0706e36b
             e464b581c1747d796f1a56f28bc43a6964846e2da5bea43dce98b54232d10eb5e1ba42d30f52881f67cb0704f897062a
             8aafebcdadff9bcbd7d226c7756e7dd998813fbf65e2f7c8af972be5dfaf4839944367bcf0f8cf8a33ada0033b67015f
             ef354f3555b7",
            "e79eaeb7fa7c3c699543bc1826702f470713c02044e9f3e3ae1c3bf0ae2432cfe2ba2b1736263ca95366df58e734d812
             da7511948ecb8ff41b8ad55ac0fd9ebe56e974aa7ad191f29acf8e5029d751912f06e0a944bae8d4e16c60724370de81
             c03cfe54312a8d277620d1769a8215f8f13f08bf43d54b57292d68cbeeadbfac18c5b21967e350166d79549a4cdebbcb
             be2ba4a9d294",
            "8ecdf4132912159656ff5c9672472b7673be1c85761064f912a0c9097451a33759f640670f8829155755c15537a51c7b
             25dda6a7c52526476b28567aacf0cab28b7580260f5602fc51bc0c94f84309f9d46439e312ca04367d0004867e4d8fab
             fd80b09c40121b62748b338fdc01e13ee2a49c73c810d2f3e378da22dc7ef2eb6664c58d308993204cb535d3459dc7f9
             b49f96f4d004",
        ];
        for (prf, stream) in Prf::ALL.into_iter().zip(streams) {
            assert_eq!(*prf.plus(b"key of prf plus", &[b"Ni", b"Nr", b"SPIs"], 150), hex(stream), "{prf}");
        }
    }

    #[test]
    fn prf_plus_is_a_stream_that_ends_after_255_rounds() {
        for prf in Prf::ALL {
            let whole = prf.plus(b"key", &[b"seed"], 255 * prf.output_bytes());
            for bytes in [0, 1, prf.output_bytes(), prf.output_bytes() + 1, whole.len() - 1] {
                assert_eq!(prf.plus(b"key", &[b"seed"], bytes)[..], whole[..bytes]);
            }
            let beyond = std::panic::catch_unwind(|| prf.plus(b"key", &[b"seed"], 255 * prf.output_bytes() + 1));
            assert!(beyond.is_err());
        }
    }

    #[test]
    fn ids_are_those_of_the_registry() {
        // "Internet Key Exchange Version 2 (IKEv2) Parameters", transform type 2. 2 is HMAC-SHA1: refused.
        assert_eq!([5, 6, 7].map(Prf::from_id), Prf::ALL.map(Some));
        assert_eq!(Prf::from_id(2), None);
    }
}
