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
