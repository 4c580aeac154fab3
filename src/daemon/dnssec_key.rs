//! The key that signs the zone: made at the first start that needs it, and kept in its file from then on.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::model::Config;
use crate::control::zone::{new_signing_key, trust_anchor};
use crate::dns::dnssec::KeyError;
use crate::io::secret_file::{self, SECRET};

#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    #[error("cannot make the key that signs the zone: {0}")]
    Make(#[from] KeyError),
    #[error("cannot write the key that signs the zone to {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Makes what `config` names and does not find, and says what validators need.
pub fn ensure(config: &mut Config) -> Result<(), SigningKeyError> {
    let Some(dnssec) = config.dns.dnssec.as_mut().filter(|dnssec| dnssec.key.is_none()) else { return Ok(()) };
    let (der, pem) = new_signing_key()?;
    write(&dnssec.key_file, &pem).map_err(|source| SigningKeyError::Write { path: dnssec.key_file.clone(), source })?;
    dnssec.key = Some(der);
    let file = dnssec.key_file.display().to_string();
    if let Some(anchor) = trust_anchor(config) {
        tracing::info!("made the key that signs the zone, in {file}; validators need: {}", anchor.ds);
    }
    Ok(())
}

fn write(path: &Path, pem: &str) -> io::Result<()> {
    secret_file::make_folder(path)?;
    secret_file::write_new(path, pem, SECRET)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ix.toml");
        std::fs::write(&file, "[dns]\ndnssec = true\n[[realm]]\nname = \"a\"\nnetworks = [\"10.0.0.0/16\"]\n").unwrap();
        let load = || config::load(&file).unwrap().config;
        let mut first = load();
        assert!(trust_anchor(&first).is_none());
        ensure(&mut first).unwrap();
        let key_file = dir.path().join("state/dnssec.key");
        assert_eq!(first.dns.dnssec.as_ref().unwrap().key_file, key_file);
        assert_eq!(std::fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
        let mut again = load();
        assert_eq!(again.dns, first.dns, "read as it was made");
        ensure(&mut again).unwrap();
        assert_eq!(trust_anchor(&again), trust_anchor(&first));

        // What came into its place since the file was read is not overwritten.
        let mut late = first.clone();
        late.dns.dnssec.as_mut().unwrap().key = None;
        assert!(matches!(ensure(&mut late), Err(SigningKeyError::Write { .. })));
        assert_eq!(load().dns, first.dns);
    }
}
