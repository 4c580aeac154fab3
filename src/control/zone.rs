//! What makes the internal zone more than names: the key that signs it, the keys of those who may fetch it, its serial.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::config::model::{Config, TransferView, TsigAlgorithm};
use crate::dns::SigningKey;
use crate::dns::dnssec::{KeyError, generate_key};
use crate::dns::transfer::{Algorithm, TransferKey, View};
use crate::net::RealmId;

/// Characters of base64 in a line of PEM (RFC 7468 section 2).
const PEM_LINE_CHARS: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum ZoneKeyError {
    #[error("the zone is to be signed, and {} is not there yet; `ixgate run` makes it", .0.display())]
    NoSigningKey(PathBuf),
    #[error("the key that signs the zone cannot be used: {0}")]
    SigningKey(#[from] KeyError),
    #[error("`{0}` is no name for a transfer key; use labels of letters, digits and hyphens")]
    TransferKeyName(String),
}

/// What operators give to validating resolvers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TrustAnchor {
    pub ds: String,
    pub dnskey: String,
}

/// `None`: the zone is not signed, or its key is not made yet.
pub fn trust_anchor(config: &Config) -> Option<TrustAnchor> {
    let der = config.dns.dnssec.as_ref()?.key.as_ref()?;
    let key = SigningKey::from_pkcs8(der).ok()?;
    let domain = &config.ix.domain;
    Some(TrustAnchor { ds: key.ds_text(domain)?, dnskey: key.dnskey_text(domain) })
}

/// A new key: PKCS #8 in DER for the configuration, and in PEM for its file.
pub fn new_signing_key() -> Result<(Zeroizing<Vec<u8>>, Zeroizing<String>), KeyError> {
    let der = generate_key()?;
    let base64 = Zeroizing::new(STANDARD.encode(&der));
    // Room for all of it at once: a text that grows would leave copies of the secret behind.
    let mut pem = Zeroizing::new(String::with_capacity(2 * base64.len() + 128));
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_LINE_CHARS));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END PRIVATE KEY-----");
    Ok((der, pem))
}

pub(super) fn signing_key(config: &Config) -> Result<Option<Arc<SigningKey>>, ZoneKeyError> {
    let Some(dnssec) = &config.dns.dnssec else { return Ok(None) };
    let der = dnssec.key.as_ref().ok_or_else(|| ZoneKeyError::NoSigningKey(dnssec.key_file.clone()))?;
    Ok(Some(Arc::new(SigningKey::from_pkcs8(der)?)))
}

/// `realm_ids`: in the order of the file.
pub(super) fn transfer_keys(config: &Config, realm_ids: &[RealmId]) -> Result<Vec<TransferKey>, ZoneKeyError> {
    let keys = config.dns.transfer.iter().flat_map(|transfer| &transfer.keys);
    keys.map(|key| {
        let algorithm = match key.algorithm {
            TsigAlgorithm::HmacSha256 => Algorithm::HmacSha256,
            TsigAlgorithm::HmacSha384 => Algorithm::HmacSha384,
            TsigAlgorithm::HmacSha512 => Algorithm::HmacSha512,
        };
        let view = match key.view {
            TransferView::Canonical => View::Canonical,
            TransferView::Realm(realm) => View::Realm(realm_ids[realm.0]),
        };
        TransferKey::new(&key.name, algorithm, &key.secret, view)
            .ok_or_else(|| ZoneKeyError::TransferKeyName(key.name.clone()))
    })
    .collect()
}

/// The date in seconds, or one more than before: it grows with every generation and over restarts, as secondaries need it
/// (RFC 1982), unless more than one generation a second was made or the clock was set back.
pub(super) fn next_serial(previous: Option<u32>, now: SystemTime) -> u32 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Serial numbers wrap, so the cut to 32 bits is meant.
    let date = since.as_secs() as u32;
    match previous {
        Some(previous) if date.wrapping_sub(previous).wrapping_sub(1) >= 1 << 31 => previous.wrapping_add(1),
        _ => date,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls_pki_types::PrivatePkcs8KeyDer;
    use rustls_pki_types::pem::PemObject;

    use super::*;
    use crate::config::model::Dnssec;
    use crate::control::sample::Sample;

    #[test]
    fn a_new_keys_file_is_read_back() {
        let (der, pem) = new_signing_key().unwrap();
        assert_eq!(PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap().secret_pkcs8_der(), &der[..]);
        let longest = pem.lines().map(str::len).max().unwrap();
        assert_eq!(longest, PEM_LINE_CHARS);
    }

    #[test]
    fn the_trust_anchor_is_that_of_the_key() {
        let mut config = Sample::new().build();
        assert_eq!(trust_anchor(&config), None);
        config.dns.dnssec = Some(Dnssec { key_file: "state/dnssec.key".into(), key: None });
        assert_eq!(trust_anchor(&config), None);
        assert!(signing_key(&config).unwrap_err().to_string().contains("state/dnssec.key is not there yet"));
        let (der, _) = new_signing_key().unwrap();
        config.dns.dnssec.as_mut().unwrap().key = Some(der);
        let anchor = trust_anchor(&config).unwrap();
        assert!(anchor.ds.starts_with("ix.example. IN DS ") && anchor.dnskey.contains(" DNSKEY 257 3 13 "));
        assert!(signing_key(&config).unwrap().is_some());
    }

    #[test]
    fn serials_grow() {
        let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        assert_eq!(next_serial(None, at(1_782_864_000)), 1_782_864_000);
        assert_eq!(next_serial(Some(1_782_864_000), at(1_782_864_000)), 1_782_864_001, "in the same second");
        assert_eq!(next_serial(Some(1_782_864_000), at(1_782_864_005)), 1_782_864_005);
        assert_eq!(next_serial(Some(1_782_864_000), at(1_782_863_000)), 1_782_864_001, "the clock was set back");
        assert_eq!(next_serial(Some(u32::MAX), at(u64::from(u32::MAX) + 3)), 2, "after 2106");
    }
}
