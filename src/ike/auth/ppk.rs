//! Secrets that two sides share: preshared keys, and postquantum preshared keys (PPK, RFC 8784), as they stand in files.
//!
//! A secret is written in one of three forms, the same as strongSwan reads:
//!
//! ```text
//! 0x6b65790a…     hexadecimal
//! 0sa2V5Cg==      base64, as `ixgate keygen psk` makes it
//! correct horse   the text itself, without the newline at its end
//! ```

use std::fmt;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

/// A secret of fewer bytes can be guessed by whoever records one handshake (RFC 7296 section 2.15).
pub const WISHED_BYTES: usize = 16;

/// RFC 8784 section 5.1.1: a PPK should have 256 bits, of which a quantum computer leaves half.
pub const WISHED_PPK_BYTES: usize = 32;

/// More than this is a file given by mistake.
pub const MAX_SECRET_BYTES: usize = 1024;

/// The identifier goes into a notify (RFC 8784 section 5.1); ours are short names.
pub const MAX_PPK_ID_BYTES: usize = 255;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A postquantum preshared key and the name by which both sides know it.
#[derive(Clone)]
pub struct Ppk {
    pub id: Vec<u8>,
    pub secret: Zeroizing<Vec<u8>>,
    /// Without it no tunnel comes up; otherwise a peer that knows no PPK is served all the same (NO_PPK_AUTH).
    pub required: bool,
}

impl fmt::Debug for Ppk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ppk")
            .field("id", &String::from_utf8_lossy(&self.id))
            .field("required", &self.required)
            .finish_non_exhaustive()
    }
}

/// What a secret file held. `warning`: usable, but weaker than it should be.
pub struct Secret {
    pub bytes: Zeroizing<Vec<u8>>,
    pub warning: Option<SecretWarning>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretWarning {
    #[error(
        "the secret has only {0} bytes; {WISHED_BYTES} are wished at least, or it can be guessed from one recorded \
         handshake (\"ixgate keygen psk\" makes one)"
    )]
    Short(usize),
    #[error("the PPK has only {0} bytes; {WISHED_PPK_BYTES} are wished against quantum computers (RFC 8784)")]
    ShortPpk(usize),
}

/// Says nothing of what the file held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("the secret is empty")]
    Empty,
    #[error("the secret has more than {MAX_SECRET_BYTES} bytes")]
    TooLong,
    #[error("the secret begins with 0x, and what follows is not hexadecimal with an even number of digits")]
    Hex,
    #[error("the secret begins with 0s, and what follows is not base64")]
    Base64,
    #[error("the secret holds a line break: a file holds one secret, on one line")]
    ManyLines,
    #[error("the PPK's identifier is empty or has more than {MAX_PPK_ID_BYTES} bytes")]
    PpkId,
}

impl Secret {
    /// A preshared key, from the bytes of its file.
    pub fn parse_psk(file: &[u8]) -> Result<Secret, SecretError> {
        let bytes = parse(file)?;
        let warning = (bytes.len() < WISHED_BYTES).then_some(SecretWarning::Short(bytes.len()));
        Ok(Secret { bytes, warning })
    }
}

impl Ppk {
    /// From its identifier and the bytes of its file.
    pub fn parse(id: &str, file: &[u8], required: bool) -> Result<(Ppk, Option<SecretWarning>), SecretError> {
        if id.is_empty() || id.len() > MAX_PPK_ID_BYTES {
            return Err(SecretError::PpkId);
        }
        let secret = parse(file)?;
        let warning = (secret.len() < WISHED_PPK_BYTES).then_some(SecretWarning::ShortPpk(secret.len()));
        Ok((Ppk { id: id.as_bytes().to_vec(), secret, required }, warning))
    }
}

fn parse(file: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let line = file.strip_suffix(b"\n").map_or(file, |line| line.strip_suffix(b"\r").unwrap_or(line));
    if line.contains(&b'\n') || line.contains(&b'\r') {
        return Err(SecretError::ManyLines);
    }
    let bytes = match line.split_at_checked(2) {
        Some((b"0x" | b"0X", digits)) => hex(digits).ok_or(SecretError::Hex)?,
        Some((b"0s" | b"0S", digits)) => base64(digits).ok_or(SecretError::Base64)?,
        _ => Zeroizing::new(line.to_vec()),
    };
    match bytes.len() {
        0 => Err(SecretError::Empty),
        1..=MAX_SECRET_BYTES => Ok(bytes),
        _ => Err(SecretError::TooLong),
    }
}

fn hex(digits: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (pairs, rest) = digits.trim_ascii().as_chunks::<2>();
    let mut bytes = Zeroizing::new(Vec::with_capacity(pairs.len()));
    for [high, low] in pairs {
        let digit = |c: &u8| char::from(*c).to_digit(16);
        bytes.push((digit(high)? << 4 | digit(low)?) as u8);
    }
    rest.is_empty().then_some(bytes)
}

fn base64(digits: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let digits = digits.trim_ascii();
    // Room for the decoder's estimate at once: a buffer that grows leaves copies of the secret behind.
    let mut bytes = Zeroizing::new(vec![0; digits.len().div_ceil(4) * 3 + 3]);
    let len = BASE64.decode_slice(digits, &mut bytes).ok()?;
    bytes.truncate(len);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn psk(file: &[u8]) -> Result<Vec<u8>, SecretError> {
        Secret::parse_psk(file).map(|secret| secret.bytes.to_vec())
    }

    #[test]
    fn the_three_forms() {
        for (file, bytes) in [
            (&b"0x6B65790a\n"[..], &b"key\n"[..]),
            (b"0sa2V5Cg==", b"key\n"),
            (b"0sa2V5Cg \n", b"key\n"),
            (b"correct horse\n", b"correct horse"),
            (b"correct horse\r\n", b"correct horse"),
            (b" spaces count ", b" spaces count "),
            (b"\xff\x00", b"\xff\x00"),
            (b"0", b"0"),
        ] {
            assert_eq!(psk(file).unwrap(), bytes, "{file:?}");
        }
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for (file, error) in [
            (&b""[..], SecretError::Empty),
            (b"\n", SecretError::Empty),
            (b"0x", SecretError::Empty),
            (b"0x123", SecretError::Hex),
            (b"0xzz", SecretError::Hex),
            (b"0s!", SecretError::Base64),
            (b"one\ntwo\n", SecretError::ManyLines),
            (&[b'a'; MAX_SECRET_BYTES + 1], SecretError::TooLong),
        ] {
            assert_eq!(psk(file), Err(error), "{file:?}");
        }
        assert!(psk(&[b'a'; MAX_SECRET_BYTES]).is_ok());
    }

    #[test]
    fn short_secrets_are_taken_with_a_warning() {
        assert_eq!(Secret::parse_psk(&[b'a'; 15]).unwrap().warning, Some(SecretWarning::Short(15)));
        assert_eq!(Secret::parse_psk(&[b'a'; 16]).unwrap().warning, None);
        assert_eq!(Ppk::parse("q", &[b'a'; 31], true).unwrap().1, Some(SecretWarning::ShortPpk(31)));
        assert_eq!(Ppk::parse("q", &[b'a'; 32], true).unwrap().1, None);
    }

    #[test]
    fn a_ppk_has_a_name_and_shows_no_secret() {
        let (ppk, _) = Ppk::parse("2026", b"0x0102030405", false).unwrap();
        assert_eq!((&ppk.id[..], ppk.secret.as_slice(), ppk.required), (&b"2026"[..], &[1, 2, 3, 4, 5][..], false));
        assert_eq!(format!("{ppk:?}"), "Ppk { id: \"2026\", required: false, .. }");
        for id in [String::new(), "a".repeat(MAX_PPK_ID_BYTES + 1)] {
            assert_eq!(Ppk::parse(&id, b"secret", false).unwrap_err(), SecretError::PpkId);
        }
    }
}
