//! Elliptic curves: P-256, P-384, P-521 (RFC 5903) and X25519 (RFC 8031).
//!
//! IKE sends a point as x | y, without the octet 0x04 that others put before it (RFC 5903 section 7); the secret is x.
//! aws-lc refuses points that are not on the curve, and an X25519 secret of zeros (RFC 8031 section 2.3, RFC 6989).

use aws_lc_rs::agreement::{self, Algorithm, UnparsedPublicKey, agree};
use zeroize::Zeroizing;

use super::{Group, GroupError, Secret};

/// What SEC 1 puts before an uncompressed point.
const UNCOMPRESSED: u8 = 4;

pub(super) struct PrivateKey {
    group: Group,
    key: agreement::PrivateKey,
}

impl PrivateKey {
    pub(super) fn generate(group: Group) -> Result<PrivateKey, GroupError> {
        let key = agreement::PrivateKey::generate(algorithm(group)).map_err(|_| GroupError::Random)?;
        Ok(PrivateKey { group, key })
    }

    pub(super) fn public(&self) -> Result<Vec<u8>, GroupError> {
        let public = self.key.compute_public_key().map_err(|_| GroupError::Random)?;
        Ok(public.as_ref()[prefix(self.group).len()..].to_vec())
    }

    pub(super) fn agree(&self, their_public: &[u8]) -> Result<Secret, GroupError> {
        let point = [prefix(self.group), their_public].concat();
        let their_public = UnparsedPublicKey::new(algorithm(self.group), point);
        agree(&self.key, &their_public, GroupError::PublicValue { group: self.group }, |secret| {
            Ok(Zeroizing::new(secret.to_vec()))
        })
    }
}

fn algorithm(group: Group) -> &'static Algorithm {
    match group {
        Group::P256 => &agreement::ECDH_P256,
        Group::P384 => &agreement::ECDH_P384,
        Group::P521 => &agreement::ECDH_P521,
        _ => &agreement::X25519,
    }
}

fn prefix(group: Group) -> &'static [u8] {
    if group == Group::X25519 { &[] } else { &[UNCOMPRESSED] }
}
