//! The files that IPsec names: shared keys, certificates, lists of revoked ones, our private key.

use std::path::Path;

use zeroize::Zeroizing;

use super::super::tunnels::{Kind, read_secret, relative};
use crate::config::certificate::{self, CertificateError};
use crate::config::diagnostic::Problems;
use crate::config::pasted::conceal;
use crate::config::secrets::{SecretError, SecretReader, decode_shared_key};
use crate::config::section::At;

/// Fewer are tried out in no time by whoever passed for us once (RFC 7296 section 2.15).
const MIN_SHARED_BYTES: usize = 8;
/// Not to be tried out, if they are random: 16 characters of base64 are 96 bits.
pub const WISHED_PSK_BYTES: usize = 16;
/// 256 bits, of which a quantum computer leaves half (RFC 8784 section 5.1.1).
pub const WISHED_PPK_BYTES: usize = 32;

pub const PSK: Kind = Kind { what: "a pre-shared key", make: "ixgate keygen psk" };
pub const PPK: Kind = Kind { what: "a post-quantum key", make: "ixgate keygen psk" };
const PRIVATE_KEY: Kind = Kind {
    what: "the private key of our certificate",
    make: "ixgate keygen certificate --ca CA.pem --ca-key CA.key --id fqdn:NAME",
};

/// As strongSwan reads it: text as it stands, `0x` hexadecimal, `0s` base64.
pub fn shared(
    file: &At<String>,
    kind: &Kind,
    wished_bytes: usize,
    directory: &Path,
    secrets: &dyn SecretReader,
    problems: &mut Problems,
) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = read_secret(file, directory, secrets, kind, problems)?;
    let what = kind.what;
    let shown = directory.join(&file.value);
    let key = match decode_shared_key(&bytes) {
        Ok(key) => key,
        Err(why) => {
            problems
                .error(&file.span, format!("{} does not hold {what}", shown.display()))
                .why(why)
                .remedy("write the key on one line, as text, or as `0x` and hexadecimal, or as `0s` and base64");
            return None;
        }
    };
    let message = format!("{} holds {what} of only {} bytes", shown.display(), key.len());
    let problem = match key.len() {
        ..MIN_SHARED_BYTES => problems.error(&file.span, message),
        len if len < wished_bytes => problems.warning(&file.span, message),
        _ => return Some(key),
    };
    problem
        .why("somebody who passes for us once can then try keys at leisure (RFC 7296 section 2.15)")
        .remedy(format!("make one of {wished_bytes} bytes or more with `ixgate keygen psk`, and give it to the peer"));
    Some(key)
}

/// A private key, as it stands in its file and as DER.
pub type KeyPemAndDer = (Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>);

pub fn private_key(
    file: &At<String>,
    directory: &Path,
    secrets: &dyn SecretReader,
    problems: &mut Problems,
) -> Option<KeyPemAndDer> {
    let pem = read_secret(file, directory, secrets, &PRIVATE_KEY, problems)?;
    let der = told(certificate::private_key(&pem), file, PRIVATE_KEY.what, directory, problems)?;
    Some((pem, der))
}

pub fn certificates(
    file: &At<String>,
    what: &str,
    directory: &Path,
    secrets: &dyn SecretReader,
    problems: &mut Problems,
) -> Option<Vec<Vec<u8>>> {
    let file_pem = pem(file, what, directory, secrets, problems)?;
    told(certificate::certificates(&file_pem), file, what, directory, problems)
}

pub fn revocation_lists(
    file: &At<String>,
    directory: &Path,
    secrets: &dyn SecretReader,
    problems: &mut Problems,
) -> Option<Vec<Vec<u8>>> {
    let what = "lists of revoked certificates";
    let file_pem = pem(file, what, directory, secrets, problems)?;
    told(certificate::revocation_lists(&file_pem), file, what, directory, problems)
}

pub fn told<T>(
    read: Result<T, CertificateError>,
    file: &At<String>,
    what: &str,
    directory: &Path,
    problems: &mut Problems,
) -> Option<T> {
    let error = match read {
        Ok(read) => return Some(read),
        Err(error) => error,
    };
    problems
        .error(&file.span, format!("{} does not hold {what}", directory.join(&file.value).display()))
        .why(error.to_string())
        .remedy("name a PEM file; `openssl x509 -inform der` makes PEM of a certificate in DER");
    None
}

pub fn pem(
    file: &At<String>,
    what: &str,
    directory: &Path,
    secrets: &dyn SecretReader,
    problems: &mut Problems,
) -> Option<Vec<u8>> {
    let path = directory.join(&file.value);
    let error = match secrets.read_public(&path) {
        Ok(bytes) => return Some(bytes),
        Err(error) => error,
    };
    let remedy = match error {
        SecretError::Missing => &format!("put it there, or name the right file{}", relative(&file.value)),
        SecretError::Unreadable(_) | SecretError::Exposed(_) => "let the user that runs ixgate read the file",
        SecretError::NotAFile | SecretError::TooLong(_) => "name the PEM file, and nothing else",
    };
    let shown = path.display().to_string();
    problems
        .error(&file.span, format!("cannot read {what} from {}", conceal(&shown)))
        .why(error.to_string())
        .remedy(remedy);
    None
}
