//! ML-KEM-768 and ML-KEM-1024 (FIPS 203), as additional key exchanges in IKE (RFC 9370,
//! draft-ietf-ipsecme-ikev2-mlkem).
//!
//! The initiator sends an encapsulation key, of which aws-lc checks that its coefficients are reduced (FIPS 203 section
//! 7.2); the responder sends a ciphertext. A ciphertext that was made for another key, or changed on the way, gives a
//! secret that depends on it and that nobody else has (implicit rejection), and no error.

use aws_lc_rs::kem::{self, Algorithm, DecapsulationKey, EncapsulationKey};
use zeroize::Zeroizing;

use super::{Group, GroupError, Secret};

pub(super) struct PrivateKey {
    group: Group,
    key: DecapsulationKey,
}

impl PrivateKey {
    pub(super) fn generate(group: Group) -> Result<PrivateKey, GroupError> {
        let key = DecapsulationKey::generate(algorithm(group)).map_err(|_| GroupError::Random)?;
        Ok(PrivateKey { group, key })
    }

    pub(super) fn public(&self) -> Result<Vec<u8>, GroupError> {
        let bytes = self.key.encapsulation_key().and_then(|key| key.key_bytes()).map_err(|_| GroupError::Random)?;
        Ok(bytes.as_ref().to_vec())
    }

    pub(super) fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret, GroupError> {
        let secret =
            self.key.decapsulate(ciphertext.into()).map_err(|_| GroupError::PublicValue { group: self.group })?;
        Ok(Zeroizing::new(secret.as_ref().to_vec()))
    }
}

/// The ciphertext for the holder of `their_public`, and the secret inside.
pub(super) fn encapsulate(group: Group, their_public: &[u8]) -> Result<(Vec<u8>, Secret), GroupError> {
    let refused = |_| GroupError::PublicValue { group };
    let key = EncapsulationKey::new(algorithm(group), their_public).map_err(|_| GroupError::PublicValue { group })?;
    let (ciphertext, secret) = key.encapsulate().map_err(refused)?;
    Ok((ciphertext.as_ref().to_vec(), Zeroizing::new(secret.as_ref().to_vec())))
}

fn algorithm(group: Group) -> &'static Algorithm {
    if group == Group::MlKem1024 { &kem::ML_KEM_1024 } else { &kem::ML_KEM_768 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex::hex;

    /// Wycheproof, mlkem_768_semi_expanded_decaps_test.json and its twin for 1024: a ciphertext that is accepted, and one
    /// that is rejected implicitly although only one octet of the re-encryption differs.
    #[test]
    fn decapsulation() {
        let files = [
            (Group::MlKem768, include_str!("vectors/ml_kem_768.txt")),
            (Group::MlKem1024, include_str!("vectors/ml_kem_1024.txt")),
        ];
        for (group, file) in files {
            let lines: Vec<_> = file.lines().filter_map(|line| line.split_once(' ')).collect();
            let values = |name| lines.iter().filter(move |(first, _)| *first == name).map(|(_, value)| hex(value));
            let mut checked = 0;
            for ((dk, c), secret) in values("dk").zip(values("c")).zip(values("K")) {
                let key = DecapsulationKey::new(algorithm(group), &dk).unwrap();
                assert_eq!(*PrivateKey { group, key }.decapsulate(&c).unwrap(), secret, "{group}");
                checked += 1;
            }
            assert_eq!(checked, 2, "{group}");
        }
    }

    /// FIPS 203 section 6.3: a wrong ciphertext gives a secret of its own, always the same.
    #[test]
    fn a_changed_ciphertext_is_rejected_implicitly() {
        for group in [Group::MlKem768, Group::MlKem1024] {
            let private = PrivateKey::generate(group).unwrap();
            let (ciphertext, secret) = encapsulate(group, &private.public().unwrap()).unwrap();
            for at in [0, ciphertext.len() / 2, ciphertext.len() - 1] {
                let mut changed = ciphertext.clone();
                changed[at] ^= 1;
                let other = private.decapsulate(&changed).unwrap();
                assert_ne!(other, secret, "{group}");
                assert_eq!(private.decapsulate(&changed).unwrap(), other, "{group}");
            }
            assert_eq!(private.decapsulate(&ciphertext).unwrap(), secret, "{group}");
        }
    }

    /// FIPS 203 section 7.2, the modulus check: a coefficient of 12 bits that is 3329 or more is no coefficient.
    #[test]
    fn an_encapsulation_key_that_is_not_reduced_is_refused() {
        for group in [Group::MlKem768, Group::MlKem1024] {
            let public = PrivateKey::generate(group).unwrap().public().unwrap();
            let last = public.len() - 32 - 3;
            for (at, coefficient) in [(0, 3329u16), (0, 4095), (last, 3329), (last, 4095)] {
                let mut changed = public.clone();
                changed[at] = coefficient as u8;
                changed[at + 1] = changed[at + 1] & 0xf0 | (coefficient >> 8) as u8;
                assert_eq!(encapsulate(group, &changed), Err(GroupError::PublicValue { group }), "{group}");
            }
            let mut reduced = public.clone();
            reduced[0] = 0;
            reduced[1] = reduced[1] & 0xf0 | 0x0d; // 3328
            assert!(encapsulate(group, &reduced).is_ok(), "{group}");
        }
    }
}
