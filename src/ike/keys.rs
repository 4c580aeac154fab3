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
