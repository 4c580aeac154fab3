//! Key exchange groups: what the two sides send each other and the secret that they share behind it.
//!
//! A Diffie-Hellman group is symmetrical. A KEM (RFC 9370, draft-ietf-ipsecme-ikev2-mlkem) is not: the initiator sends an
//! encapsulation key, the responder a ciphertext. Both fit one shape:
//!
//! ```text
//! initiator: begin() -> KeyShare --public()-->   respond(public) -> (public or ciphertext, secret) :responder
//!            finish(answer) -> secret   <------------------------------------------'
//! ```
//!
//! Everything off the wire is checked as RFC 6989 says: its length, that it lies in the group and is not one of the few
//! values that force the secret. A KEM refuses nothing but lengths and malformed keys: a wrong ciphertext gives a secret
//! that nobody shares (implicit rejection), and authentication fails later.

mod ecp;
mod kem;
mod modp;

use std::fmt;

use zeroize::Zeroizing;

/// A key exchange method: transform type 4 of IKEv2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Group {
    /// RFC 3526.
    Modp2048,
    Modp3072,
    Modp4096,
    /// RFC 5903.
    P256,
    P384,
    P521,
    /// RFC 8031.
    X25519,
    /// FIPS 203.
    MlKem768,
    MlKem1024,
}

/// Our half of an exchange that we began. Used once; the private value is wiped when it goes.
pub struct KeyShare {
    group: Group,
    public: Vec<u8>,
    private: Private,
}

enum Private {
    Modp(modp::PrivateKey),
    Curve(ecp::PrivateKey),
    Kem(kem::PrivateKey),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GroupError {
    #[error("a public value of {group} has {expected} octets, not {bytes}")]
    Length { group: Group, expected: usize, bytes: usize },
    /// Outside the group, or one of the values that force the secret (RFC 6989).
    #[error("not a valid public value of {group}")]
    PublicValue { group: Group },
    #[error("the random generator failed")]
    Random,
}

type Secret = Zeroizing<Vec<u8>>;

impl Group {
    pub const ALL: [Group; 9] = [
        Group::Modp2048,
        Group::Modp3072,
        Group::Modp4096,
        Group::P256,
        Group::P384,
        Group::P521,
        Group::X25519,
        Group::MlKem768,
        Group::MlKem1024,
    ];

    pub fn from_id(id: u16) -> Option<Group> {
        Self::ALL.into_iter().find(|group| group.id() == id)
    }

    pub fn id(self) -> u16 {
        match self {
            Group::Modp2048 => 14,
            Group::Modp3072 => 15,
            Group::Modp4096 => 16,
            Group::P256 => 19,
            Group::P384 => 20,
            Group::P521 => 21,
            Group::X25519 => 31,
            Group::MlKem768 => 36,
            Group::MlKem1024 => 37,
        }
    }

    /// A KEM's two sides send different things: an encapsulation key, and a ciphertext for it.
    pub fn is_kem(self) -> bool {
        matches!(self, Group::MlKem768 | Group::MlKem1024)
    }

    /// Octets that the initiator sends.
    pub fn public_bytes(self) -> usize {
        match self {
            Group::Modp2048 => 256,
            Group::Modp3072 => 384,
            Group::Modp4096 => 512,
            Group::P256 => 64,
            Group::P384 => 96,
            Group::P521 => 132,
            Group::X25519 => 32,
            Group::MlKem768 => 1184,
            Group::MlKem1024 => 1568,
        }
    }

    /// Octets that the responder sends: as many, or a KEM's ciphertext.
    pub fn answer_bytes(self) -> usize {
        match self {
            Group::MlKem768 => 1088,
            _ => self.public_bytes(),
        }
    }

    /// Octets of the secret behind it. MODP and ECP secrets keep their leading zeros (RFC 7296 section 2.14).
    pub fn secret_bytes(self) -> usize {
        match self {
            Group::Modp2048 | Group::Modp3072 | Group::Modp4096 => self.public_bytes(),
            Group::P256 | Group::P384 | Group::P521 => self.public_bytes() / 2,
            Group::X25519 | Group::MlKem768 | Group::MlKem1024 => 32,
        }
    }

    /// A fresh private value and its public one.
    pub fn begin(self) -> Result<KeyShare, GroupError> {
        let (public, private) = match self {
            Group::Modp2048 | Group::Modp3072 | Group::Modp4096 => {
                let private = modp::PrivateKey::generate(self)?;
                (private.public(), Private::Modp(private))
            }
            Group::P256 | Group::P384 | Group::P521 | Group::X25519 => {
                let private = ecp::PrivateKey::generate(self)?;
                (private.public()?, Private::Curve(private))
            }
            Group::MlKem768 | Group::MlKem1024 => {
                let private = kem::PrivateKey::generate(self)?;
                (private.public()?, Private::Kem(private))
            }
        };
        Ok(KeyShare { group: self, public, private })
    }

    /// Responder: our public value (or the KEM's ciphertext) and the shared secret.
    pub fn respond(self, their_public: &[u8]) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), GroupError> {
        self.check_length(their_public, self.public_bytes())?;
        if self.is_kem() {
            return kem::encapsulate(self, their_public);
        }
        let share = self.begin()?;
        let public = share.public.clone();
        Ok((public, share.finish(their_public)?))
    }

    fn check_length(self, value: &[u8], expected: usize) -> Result<(), GroupError> {
        if value.len() == expected {
            return Ok(());
        }
        Err(GroupError::Length { group: self, expected, bytes: value.len() })
    }
}

impl KeyShare {
    /// What the other side is sent.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    pub fn group(&self) -> Group {
        self.group
    }

    /// The shared secret, from what the other side answered.
    pub fn finish(self, their_public: &[u8]) -> Result<Zeroizing<Vec<u8>>, GroupError> {
        self.group.check_length(their_public, self.group.answer_bytes())?;
        match &self.private {
            Private::Modp(private) => private.agree(their_public),
            Private::Curve(private) => private.agree(their_public),
            Private::Kem(private) => private.decapsulate(their_public),
        }
    }
}

impl fmt::Debug for KeyShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyShare({})", self.group)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Group::Modp2048 => "MODP-2048 (group 14)",
            Group::Modp3072 => "MODP-3072 (group 15)",
            Group::Modp4096 => "MODP-4096 (group 16)",
            Group::P256 => "P-256 (group 19)",
            Group::P384 => "P-384 (group 20)",
            Group::P521 => "P-521 (group 21)",
            Group::X25519 => "X25519 (group 31)",
            Group::MlKem768 => "ML-KEM-768 (group 36)",
            Group::MlKem1024 => "ML-KEM-1024 (group 37)",
        })
    }
}

#[cfg(test)]
mod tests;
