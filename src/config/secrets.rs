//! What a configuration names beside itself: secrets, certificates, and the date to hold these against.
//!
//! Secrets live in files of their own, which only the owner may read. Their bytes are wiped from memory when dropped
//! and never appear in an error.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use zeroize::Zeroizing;

/// A secret is a short line, or the PEM of a private key (RSA of 8192 bits: 6.4 KiB); anything longer is a mistaken path.
const MAX_SECRET_BYTES: usize = 16 << 10;
/// Certificates and lists of revoked ones (some 40 bytes an entry).
const MAX_PUBLIC_BYTES: usize = 4 << 20;
/// A shared key of more bytes than this is a file given by mistake.
const MAX_SHARED_BYTES: usize = 1024;
/// Less could be guessed.
const MIN_TSIG_BYTES: usize = 16;

/// Other programs leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where secrets come from: the disk, or a table in memory for tests and the simulation.
pub trait SecretReader {
    /// The bytes of the file at `path`.
    fn read(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError>;

    /// The bytes of a file that everybody may read: certificates.
    fn read_public(&self, path: &Path) -> Result<Vec<u8>, SecretError>;

    /// The date, for certificates, in seconds since 1970. `None`: none is held to be expired.
    fn unix_secs(&self) -> Option<u64>;
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("the file does not exist")]
    Missing,
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
    #[error("it is not a file")]
    NotAFile,
    #[error("users other than the owner can access the file (mode {0:03o})")]
    Exposed(u32),
    #[error("the file is longer than {0} bytes")]
    TooLong(usize),
}

/// Reads secrets from the disk and insists that group and others have no access.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskSecrets;

impl SecretReader for DiskSecrets {
    fn read(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let file = open(path)?;
        // Asked of the open file, so that nobody can exchange it between the question and the reading.
        let mode = file.metadata().map_err(unreadable)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SecretError::Exposed(mode));
        }
        // Reserved at once: a buffer that grows would leave copies of the secret behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 64));
        read_at_most(file, MAX_SECRET_BYTES, &mut bytes)?;
        Ok(bytes)
    }

    fn read_public(&self, path: &Path) -> Result<Vec<u8>, SecretError> {
        let mut bytes = Vec::new();
        read_at_most(open(path)?, MAX_PUBLIC_BYTES, &mut bytes)?;
        Ok(bytes)
    }

    fn unix_secs(&self) -> Option<u64> {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
    }
}

fn open(path: &Path) -> Result<File, SecretError> {
    // Non-blocking, so that a FIFO in this place is refused and does not hang us.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    match file.metadata().map_err(unreadable)?.is_file() {
        true => Ok(file),
        false => Err(SecretError::NotAFile),
    }
}

fn read_at_most(file: File, most: usize, bytes: &mut Vec<u8>) -> Result<(), SecretError> {
    file.take(most as u64 + 1).read_to_end(bytes).map_err(unreadable)?;
    if bytes.len() > most { Err(SecretError::TooLong(most)) } else { Ok(()) }
}

fn unreadable(error: std::io::Error) -> SecretError {
    match error.kind() {
        std::io::ErrorKind::NotFound => SecretError::Missing,
        _ => SecretError::Unreadable(error.to_string()),
    }
}

/// Secrets held in memory, by the path that the configuration names (already joined with the file's directory).
#[derive(Default)]
pub struct MemorySecrets {
    files: HashMap<PathBuf, Zeroizing<Vec<u8>>>,
    /// What the date is held to be.
    pub unix_secs: Option<u64>,
}

impl MemorySecrets {
    pub fn insert(&mut self, path: impl Into<PathBuf>, text: impl Into<Vec<u8>>) {
        self.files.insert(path.into(), Zeroizing::new(text.into()));
    }
}

impl SecretReader for MemorySecrets {
    fn read(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        self.files.get(path).cloned().ok_or(SecretError::Missing)
    }

    fn read_public(&self, path: &Path) -> Result<Vec<u8>, SecretError> {
        self.files.get(path).map(|bytes| bytes.to_vec()).ok_or(SecretError::Missing)
    }

    fn unix_secs(&self) -> Option<u64> {
        self.unix_secs
    }
}

/// A WireGuard key as `wg genkey` prints it: 32 bytes in base64 on one line. `None`: it is something else.
pub fn decode_key(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    // The decoder wants room for its estimate, which is a few bytes more than 32.
    let mut bytes = Zeroizing::new([0u8; 48]);
    let text = text.trim_ascii();
    if text.len() != 44 {
        return None;
    }
    let len = STANDARD.decode_slice(text, bytes.as_mut_slice()).ok()?;
    let mut key = Zeroizing::new([0u8; 32]);
    key.copy_from_slice(bytes.get(..len).filter(|b| b.len() == 32)?);
    Some(key)
}

/// A key that two IPsec gateways share, in one of the forms that strongSwan reads too, on one line. `Err`: why it is none.
///
/// ```text
/// 0x6b65790a…     hexadecimal
/// 0sa2V5Cg==      base64, as `ixgate keygen psk` makes it
/// correct horse   the text itself, without the newline at its end
/// ```
pub fn decode_shared_key(file: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let line = file.strip_suffix(b"\n").map_or(file, |line| line.strip_suffix(b"\r").unwrap_or(line));
    if line.contains(&b'\n') || line.contains(&b'\r') {
        return Err("it has more than one line");
    }
    let key = match line.split_at_checked(2) {
        Some((b"0x" | b"0X", digits)) => decode_hex(digits.trim_ascii()).ok_or("behind `0x`, it is not hexadecimal")?,
        Some((b"0s" | b"0S", text)) => decode_base64(text.trim_ascii()).ok_or("behind `0s`, it is not base64")?,
        _ => Zeroizing::new(line.to_vec()),
    };
    match key.len() {
        0 => Err("it is empty"),
        1..=MAX_SHARED_BYTES => Ok(key),
        _ => Err("it is longer than any key"),
    }
}

/// A TSIG secret as `ixgate keygen tsig` and other name servers' tools print it: base64 on one line. `Err`: why it is none.
pub fn decode_tsig_secret(file: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let secret = decode_base64(file.trim_ascii()).ok_or("it is not base64 on one line")?;
    match secret.len() {
        0..MIN_TSIG_BYTES => Err("it is shorter than 128 bits"),
        MIN_TSIG_BYTES..=MAX_SHARED_BYTES => Ok(secret),
        _ => Err("it is longer than any key"),
    }
}

fn decode_hex(digits: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (pairs, rest) = digits.as_chunks::<2>();
    let mut key = Zeroizing::new(Vec::with_capacity(pairs.len()));
    for [high, low] in pairs {
        let value = |digit: &u8| char::from(*digit).to_digit(16);
        key.push((value(high)? << 4 | value(low)?) as u8);
    }
    rest.is_empty().then_some(key)
}

fn decode_base64(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    // Room for the decoder's estimate at once: a buffer that grows would leave copies of the secret behind.
    let mut key = Zeroizing::new(vec![0; text.len().div_ceil(4) * 3 + 3]);
    let len = BASE64.decode_slice(text, &mut key).ok()?;
    key.truncate(len);
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(dir: &Path, name: &str, text: &[u8], mode: u32) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn only_the_owner_may_have_access() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o400, 0o700] {
            assert!(DiskSecrets.read(&file(dir.path(), "ok", b"x", mode)).is_ok(), "{mode:o}");
            std::fs::remove_file(dir.path().join("ok")).unwrap();
        }
        for mode in [0o640, 0o604, 0o620, 0o601, 0o666] {
            let path = file(dir.path(), "bad", b"x", mode);
            assert_eq!(DiskSecrets.read(&path).unwrap_err(), SecretError::Exposed(mode));
        }
    }

    #[test]
    fn what_is_no_secret_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(DiskSecrets.read(&dir.path().join("none")).unwrap_err(), SecretError::Missing);
        assert_eq!(DiskSecrets.read(dir.path()).unwrap_err(), SecretError::NotAFile);
        assert_eq!(
            DiskSecrets.read(&file(dir.path(), "long", &[b'x'; MAX_SECRET_BYTES + 1], 0o600)).unwrap_err(),
            SecretError::TooLong(MAX_SECRET_BYTES)
        );
        assert!(DiskSecrets.read(&file(dir.path(), "longest", &[b'x'; MAX_SECRET_BYTES], 0o600)).is_ok());
    }

    #[test]
    fn what_is_public_may_be_read_by_all_and_is_bounded_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "ca.pem", b"x", 0o644);
        assert_eq!(DiskSecrets.read_public(&path).unwrap(), b"x");
        let long = file(dir.path(), "long.pem", &vec![b'x'; MAX_PUBLIC_BYTES + 1], 0o644);
        assert_eq!(DiskSecrets.read_public(&long).unwrap_err(), SecretError::TooLong(MAX_PUBLIC_BYTES));
        assert_eq!(DiskSecrets.read_public(dir.path()).unwrap_err(), SecretError::NotAFile);
    }

    #[test]
    fn keys_are_32_bytes_in_base64() {
        let text = STANDARD.encode([7u8; 32]);
        assert_eq!(*decode_key(format!(" {text}\n").as_bytes()).unwrap(), [7u8; 32]);
        let broken =
            [text[..43].to_owned(), format!("{text}A"), STANDARD.encode([7u8; 31]), STANDARD.encode([7u8; 33])];
        for bad in broken.iter().map(String::as_str).chain(["", "AAAA", "ÄÄ", &text.replace('B', "!")]) {
            assert!(decode_key(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_shared_key_has_three_forms() {
        for (file, key) in [
            (&b"0x6B65790a\n"[..], &b"key\n"[..]),
            (b"0sa2V5Cg==", b"key\n"),
            (b"0Sa2V5Cg \n", b"key\n"),
            (b"correct horse\n", b"correct horse"),
            (b"correct horse\r\n", b"correct horse"),
            (b" spaces count ", b" spaces count "),
            (b"\xff\x00", b"\xff\x00"),
            (b"0", b"0"),
        ] {
            assert_eq!(&decode_shared_key(file).unwrap()[..], key, "{file:?}");
        }
    }

    #[test]
    fn a_tsig_secret_is_base64_of_128_bits_or_more() {
        assert_eq!(*decode_tsig_secret(format!("{}\n", STANDARD.encode([7; 32])).as_bytes()).unwrap(), [7; 32]);
        for (file, why) in [
            (STANDARD.encode([7; 15]), "it is shorter than 128 bits"),
            (STANDARD.encode([7; MAX_SHARED_BYTES + 1]), "it is longer than any key"),
            ("one two".to_owned(), "it is not base64 on one line"),
            (format!("{0}\n{0}", STANDARD.encode([7; 32])), "it is not base64 on one line"),
        ] {
            assert_eq!(decode_tsig_secret(file.as_bytes()).unwrap_err(), why);
        }
    }

    #[test]
    fn what_is_no_shared_key_is_refused() {
        for (file, why) in [
            (&b""[..], "it is empty"),
            (b"\n", "it is empty"),
            (b"0x", "it is empty"),
            (b"0x123", "behind `0x`, it is not hexadecimal"),
            (b"0xzz", "behind `0x`, it is not hexadecimal"),
            (b"0s!", "behind `0s`, it is not base64"),
            (b"one\ntwo\n", "it has more than one line"),
            (&[b'a'; MAX_SHARED_BYTES + 1], "it is longer than any key"),
        ] {
            assert_eq!(decode_shared_key(file).unwrap_err(), why, "{file:?}");
        }
        assert!(decode_shared_key(&[b'a'; MAX_SHARED_BYTES]).is_ok());
    }
}
