//! Every key derivation: RFC 7296 sections 2.14, 2.17 and 2.18, further keys of RFC 9370, PPK of RFC 8784.

use zeroize::Zeroizing;

use super::event::ChildKeys;
use crate::crypto::{Prf, Suite};

pub(super) type Secret = Zeroizing<Vec<u8>>;

/// The two nonces of an exchange, by who began it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Nonces {
    pub initiator: Vec<u8>,
    pub responder: Vec<u8>,
}

impl Nonces {
    /// The lower of the two: what decides between exchanges that crossed (section 2.8.1).
    pub fn lowest(&self) -> &[u8] {
        (&self.initiator).min(&self.responder)
    }
}

/// Shared secrets of one exchange: of the key exchange itself, and of the further ones (RFC 9370), in order.
#[derive(Default)]
pub(super) struct Shared {
    pub first: Option<Secret>,
    pub further: Vec<Secret>,
}

/// The keys of one IKE SA, by who began it.
pub(super) struct SaKeys {
    pub d: Secret,
    pub ai: Secret,
    pub ar: Secret,
    pub ei: Secret,
    pub er: Secret,
    pub pi: Secret,
    pub pr: Secret,
}

/// SPIs and nonces: what every set of keys of one IKE SA is expanded with.
#[derive(Clone, Debug)]
pub(super) struct Seed {
    pub nonces: Nonces,
    pub initiator_spi: u64,
    pub responder_spi: u64,
}

/// Section 2.14: SKEYSEED = prf(Ni | Nr, g^ir).
pub(super) fn skeyseed(prf: Prf, nonces: &Nonces, shared: &[u8]) -> Secret {
    let key = Zeroizing::new([nonces.initiator.as_slice(), &nonces.responder].concat());
    prf.compute(&key, &[shared])
}

/// RFC 9370 section 2.2.2, after an IKE_INTERMEDIATE: SKEYSEED(n) = prf(SK_d(n-1), SK(n) | Ni | Nr).
pub(super) fn skeyseed_intermediate(prf: Prf, d: &[u8], nonces: &Nonces, shared: &[u8]) -> Secret {
    prf.compute(d, &[shared, &nonces.initiator, &nonces.responder])
}

/// Section 2.18 and RFC 9370 section 2.2.4: SKEYSEED = prf(SK_d (old), SK(0) | Ni | Nr | SK(1) | ...), with the old PRF.
pub(super) fn skeyseed_rekey(old_prf: Prf, old_d: &[u8], nonces: &Nonces, shared: &Shared) -> Secret {
    let seed = rekey_seed(nonces, shared);
    old_prf.compute(old_d, &seed)
}

fn rekey_seed<'a>(nonces: &'a Nonces, shared: &'a Shared) -> Vec<&'a [u8]> {
    let mut seed: Vec<&[u8]> = Vec::with_capacity(3 + shared.further.len());
    seed.extend(shared.first.iter().map(|secret| secret.as_slice()));
    seed.extend([nonces.initiator.as_slice(), nonces.responder.as_slice()]);
    seed.extend(shared.further.iter().map(|secret| secret.as_slice()));
    seed
}

impl SaKeys {
    /// {SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr} = prf+(SKEYSEED, Ni | Nr | SPIi | SPIr).
    pub fn expand(prf: Prf, suite: Suite, skeyseed: &[u8], seed: &Seed) -> Self {
        let (integrity, cipher) = (suite.integrity_key_bytes(), suite.cipher_key_bytes());
        let total = 3 * prf.key_bytes() + 2 * integrity + 2 * cipher;
        let (spi_i, spi_r) = (seed.initiator_spi.to_be_bytes(), seed.responder_spi.to_be_bytes());
        let parts = [seed.nonces.initiator.as_slice(), &seed.nonces.responder, &spi_i, &spi_r];
        let stream = prf.plus(skeyseed, &parts, total);
        let mut cut = Cut(&stream);
        SaKeys {
            d: cut.take(prf.key_bytes()),
            ai: cut.take(integrity),
            ar: cut.take(integrity),
            ei: cut.take(cipher),
            er: cut.take(cipher),
            pi: cut.take(prf.key_bytes()),
            pr: cut.take(prf.key_bytes()),
        }
    }
}

/// Section 2.17 and RFC 9370 section 2.2.4: KEYMAT = prf+(SK_d, SK(0) | Ni | Nr | SK(1) | ...). The keys of the
/// direction from the initiator of the exchange come first, encryption before integrity.
pub(super) fn child_keys(prf: Prf, d: &[u8], suite: Suite, exchange: &ChildExchange<'_>) -> ChildKeys {
    let (integrity, cipher) = (suite.integrity_key_bytes(), suite.cipher_key_bytes());
    let seed = rekey_seed(exchange.nonces, exchange.shared);
    let stream = prf.plus(d, &seed, 2 * (integrity + cipher));
    let mut cut = Cut(&stream);
    let from_initiator = (cut.take(cipher), cut.take(integrity));
    let from_responder = (cut.take(cipher), cut.take(integrity));
    let (outward, inward) = match exchange.we_began {
        true => (from_initiator, from_responder),
        false => (from_responder, from_initiator),
    };
    ChildKeys { cipher_in: inward.0, integrity_in: inward.1, cipher_out: outward.0, integrity_out: outward.1 }
}

pub(super) struct ChildExchange<'a> {
    pub nonces: &'a Nonces,
    pub shared: &'a Shared,
    pub we_began: bool,
}

/// Takes keys off the front of a stream that is exactly long enough.
struct Cut<'a>(&'a [u8]);

impl Cut<'_> {
    fn take(&mut self, bytes: usize) -> Secret {
        let (key, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        Zeroizing::new(key.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Cipher, Integrity};

    fn hex(text: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digit).collect()
    }

    fn nonces() -> Nonces {
        Nonces { initiator: hex("3f302be1abcb28e1"), responder: hex("8c332ee006064c9b") }
    }

    const SUITE: Suite = Suite { cipher: Cipher::AesCbc256, integrity: Some(Integrity::HmacSha256_128) };

    /// NIST's samples of the IKEv2 key derivation functions (SP 800-135), SHA-256.
    #[test]
    fn the_samples_of_nist() {
        let shared = hex("0f4d257d7a58fc4545c7d7a88119eee5d5c9690c5b4c989171d3abbfd99d1d29");
        let skeyseed = skeyseed(Prf::HmacSha256, &nonces(), &shared);
        assert_eq!(skeyseed.to_vec(), hex("5f00d1bd2c58ec224b1e6b71fa0f19a1faa7a193952c444411b47c1a9d8ba6fe"));

        let seed =
            Seed { nonces: nonces(), initiator_spi: 0x40da_c39e_1e1a_8640, responder_spi: 0x8619_a1cf_9a6e_4c07 };
        let keys = SaKeys::expand(Prf::HmacSha256, SUITE, &skeyseed, &seed);
        let all = [&keys.d, &keys.ai, &keys.ar, &keys.ei, &keys.er, &keys.pi, &keys.pr];
        let stream: Vec<u8> = all.iter().flat_map(|key| key.to_vec()).collect();
        let expected = hex(
            "0b137d669b0947d7d026d593f0305ad401ff0c471357d695778a9c7f4b4869ece98aca531188d16041b3bb936d2dbb3b4993a6e768\
             a809160de45d0283f273a6cdf6854379e31be72b8d3d1fa990cf9c5b015ca9f918a7df6253c958114a09d4e1c19bdcd4db14b29d98\
             db1a74ad405c588662c14a04d0d36aa4ab55e90f8986d12d4aad",
        );
        assert_eq!(stream[..132], expected);

        let new = hex("25f3b12d6f282739256e39bf54eda53b60ffcf379bb7bcc90c27b4c4c578616c");
        let shared = Shared { first: Some(Zeroizing::new(new)), further: Vec::new() };
        let rekeyed = skeyseed_rekey(Prf::HmacSha256, &keys.d, &nonces(), &shared);
        assert_eq!(rekeyed.to_vec(), hex("2d63f6debc92048b4fef3889c4c99ca67d6496e0fac14a2bca9a2d6566ff2398"));
    }

    #[test]
    fn what_one_side_seals_with_the_other_opens_with() {
        let (nonces, shared) = (nonces(), Shared::default());
        let keys = |we_began| {
            let exchange = ChildExchange { nonces: &nonces, shared: &shared, we_began };
            child_keys(Prf::HmacSha256, &[7; 32], SUITE, &exchange)
        };
        let (ours, theirs) = (keys(true), keys(false));
        assert_eq!((&ours.cipher_in, &ours.integrity_in), (&theirs.cipher_out, &theirs.integrity_out));
        assert_eq!((&ours.cipher_out, &ours.integrity_out), (&theirs.cipher_in, &theirs.integrity_in));
        // Section 2.17: encryption before integrity, the initiator's direction first.
        let stream = Prf::HmacSha256.plus(&[7; 32], &[&nonces.initiator, &nonces.responder], 128);
        let parts = [&ours.cipher_out, &ours.integrity_out, &ours.cipher_in, &ours.integrity_in];
        assert_eq!(stream.to_vec(), parts.iter().flat_map(|key| key.to_vec()).collect::<Vec<u8>>());
    }

    /// Section 2.17: KEYMAT = prf+(SK_d, g^ir (new) | Ni | Nr).
    #[test]
    fn the_secret_of_a_child_sas_own_key_exchange_comes_before_the_nonces() {
        let (nonces, secret) = (nonces(), vec![9; 32]);
        let shared = Shared { first: Some(Zeroizing::new(secret.clone())), further: Vec::new() };
        let exchange = ChildExchange { nonces: &nonces, shared: &shared, we_began: true };
        let keys = child_keys(Prf::HmacSha256, &[7; 32], SUITE, &exchange);
        let stream = Prf::HmacSha256.plus(&[7; 32], &[&secret, &nonces.initiator, &nonces.responder], 16);
        assert_eq!(keys.cipher_out[..16], stream[..]);
    }

    /// RFC 9370 section 2.2.4: SK(0) | Ni | Nr | SK(1) | SK(2).
    #[test]
    fn further_secrets_follow_the_nonces() {
        let secret = |byte| Zeroizing::new(vec![byte; 3]);
        let shared = Shared { first: Some(secret(1)), further: vec![secret(2), secret(3)] };
        let found = skeyseed_rekey(Prf::HmacSha384, b"old", &nonces(), &shared);
        let message = [vec![1; 3], nonces().initiator, nonces().responder, vec![2; 3], vec![3; 3]].concat();
        assert_eq!(found, Prf::HmacSha384.compute(b"old", &[&message]));
    }

    #[test]
    fn the_lowest_nonce_is_the_lower_of_both() {
        assert_eq!(nonces().lowest(), hex("3f302be1abcb28e1"));
    }
}
