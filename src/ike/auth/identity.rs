//! Who a peer says it is (RFC 7296 section 3.5), and when two such names are the same.
//!
//! | written          | ID type | compared                                                        |
//! |------------------|---------|-----------------------------------------------------------------|
//! | `fqdn:gw.example`| 2       | ASCII letters in either case; no wildcards (RFC 4945, 3.1.2)    |
//! | `email:ops@x`    | 3       | domain in either case, what stands before the `@` exactly       |
//! | `ip:192.0.2.1`   | 1, 5    | the address                                                     |
//! | `dn:CN=gw, O=x`  | 9       | part for part, see [`dn`]                                       |
//!
//! `Eq` and `Hash` follow these rules, so that an identity can be the key of a table of peers; what we send stays as
//! it was written. Other types (KEY_ID, DER_ASN1_GN) are refused by name: nobody could match them with a certificate.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::dn;
use super::printable::Printable;
use crate::wire::ike::{Identification, id_kind};

/// A name of RFC 1035, and what RFC 5321 section 4.5.3.1 allows for a mailbox.
const MAX_FQDN: usize = 255;
const MAX_EMAIL: usize = 320;

/// The name by which a peer is known. The DN is in DER.
#[derive(Clone, Debug)]
pub enum Identity {
    Fqdn(String),
    Email(String),
    Ipv4(Ipv4Addr),
    Ipv6(Ipv6Addr),
    Dn(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("\"{0}\" does not say what kind of name it is: write \"{1}{0}\"")]
    NoKind(String, &'static str),
    #[error("\"{0}\" is no kind of identity: there are fqdn:, email:, ip: and dn:")]
    UnknownKind(String),
    #[error("\"{0}\" is not a domain name: letters, digits, '-', '_' and dots, at most {MAX_FQDN} bytes, no wildcard")]
    Fqdn(String),
    #[error(
        "\"{0}\" is not an e-mail address: it needs one '@' with something on both sides, at most {MAX_EMAIL} bytes"
    )]
    Email(String),
    #[error("\"{0}\" is not an IPv4 or IPv6 address")]
    Address(String),
    #[error("not a distinguished name: {0}")]
    Dn(#[from] dn::DnError),
    #[error(
        "the identity is of type {0} ({kind}), which is not supported: use FQDN, e-mail, IP address or DN",
        kind = kind_name(*.0)
    )]
    UnsupportedType(u8),
}

impl Identity {
    pub fn from_address(address: IpAddr) -> Identity {
        match address {
            IpAddr::V4(address) => Identity::Ipv4(address),
            IpAddr::V6(address) => Identity::Ipv6(address),
        }
    }

    /// As our ID payload holds it.
    pub fn to_identification(&self) -> Identification {
        let (kind, data) = self.parts();
        Identification { kind, data }
    }

    pub fn from_identification(id: &Identification) -> Result<Identity, IdentityError> {
        Identity::from_parts(id.kind, &id.data)
    }

    fn parts(&self) -> (u8, Vec<u8>) {
        match self {
            Identity::Fqdn(name) => (id_kind::FQDN, name.as_bytes().to_vec()),
            Identity::Email(mailbox) => (id_kind::RFC822_ADDR, mailbox.as_bytes().to_vec()),
            Identity::Ipv4(address) => (id_kind::IPV4_ADDR, address.octets().to_vec()),
            Identity::Ipv6(address) => (id_kind::IPV6_ADDR, address.octets().to_vec()),
            Identity::Dn(der) => (id_kind::DER_ASN1_DN, der.clone()),
        }
    }

    /// From what stands in an ID payload, or in a certificate under the name that belongs to the type.
    pub(super) fn from_parts(kind: u8, data: &[u8]) -> Result<Identity, IdentityError> {
        let length = |_| IdentityError::Address(format!("{} bytes", data.len()));
        match kind {
            id_kind::FQDN => fqdn(&text(data)),
            id_kind::RFC822_ADDR => email(&text(data)),
            id_kind::IPV4_ADDR => <[u8; 4]>::try_from(data).map(|ip| Identity::Ipv4(ip.into())).map_err(length),
            id_kind::IPV6_ADDR => <[u8; 16]>::try_from(data).map(|ip| Identity::Ipv6(ip.into())).map_err(length),
            id_kind::DER_ASN1_DN => {
                dn::check(data)?;
                Ok(Identity::Dn(data.to_vec()))
            }
            kind => Err(IdentityError::UnsupportedType(kind)),
        }
    }

    /// What two equal identities have in common: ID type and a form in which differences that mean nothing are gone.
    fn canonical(&self) -> (u8, Vec<u8>) {
        match self {
            Identity::Fqdn(name) => (id_kind::FQDN, name.to_ascii_lowercase().into_bytes()),
            Identity::Email(mailbox) => (id_kind::RFC822_ADDR, canonical_email(mailbox).into_bytes()),
            Identity::Dn(der) => (id_kind::DER_ASN1_DN, dn::canonical(der)),
            Identity::Ipv4(_) | Identity::Ipv6(_) => self.parts(),
        }
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Identity) -> bool {
        match (self, other) {
            // The commonest kind: compared without copies.
            (Identity::Fqdn(name), Identity::Fqdn(other)) => name.eq_ignore_ascii_case(other),
            _ => self.canonical() == other.canonical(),
        }
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Identity::Fqdn(name) => {
                let mut folded = [0; 32];
                for bytes in name.as_bytes().chunks(folded.len()) {
                    let folded = &mut folded[..bytes.len()];
                    folded.copy_from_slice(bytes);
                    folded.make_ascii_lowercase();
                    state.write(folded);
                }
            }
            _ => self.canonical().hash(state),
        }
    }
}

/// As it is written in the configuration; what a peer sent can hold no control characters by then.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Fqdn(name) => write!(f, "fqdn:{name}"),
            Identity::Email(mailbox) => write!(f, "email:{mailbox}"),
            Identity::Ipv4(address) => write!(f, "ip:{address}"),
            Identity::Ipv6(address) => write!(f, "ip:{address}"),
            Identity::Dn(der) => write!(f, "dn:{}", dn::Text(der)),
        }
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(written: &str) -> Result<Identity, IdentityError> {
        let written = written.trim();
        match written.split_once(':') {
            Some(("fqdn", name)) => fqdn(name),
            Some(("email", mailbox)) => email(mailbox),
            Some(("ip", address)) => {
                let parsed: IpAddr = address.parse().map_err(|_| IdentityError::Address(shown(address)))?;
                Ok(Identity::from_address(parsed))
            }
            Some(("dn", name)) => Ok(Identity::Dn(dn::parse(name)?)),
            other => Err(no_kind(written, other)),
        }
    }
}

fn no_kind(written: &str, split: Option<(&str, &str)>) -> IdentityError {
    let kind = match split {
        _ if written.parse::<IpAddr>().is_ok() => "ip:",
        Some((kind, _)) if !kind.contains(['=', '@']) => return IdentityError::UnknownKind(shown(kind)),
        _ if written.contains('=') => "dn:",
        _ if written.contains('@') => "email:",
        _ => "fqdn:",
    };
    IdentityError::NoKind(shown(written), kind)
}

fn fqdn(name: &str) -> Result<Identity, IdentityError> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    let dots = name.starts_with('.') || name.contains("..");
    match !name.is_empty() && name.len() <= MAX_FQDN && name.bytes().all(allowed) && !dots {
        true => Ok(Identity::Fqdn(name.into())),
        false => Err(IdentityError::Fqdn(shown(name))),
    }
}

fn email(mailbox: &str) -> Result<Identity, IdentityError> {
    let printable = mailbox.bytes().all(|c| c.is_ascii_graphic());
    match mailbox.split_once('@') {
        Some((local, domain))
            if printable
                && !local.is_empty()
                && !domain.is_empty()
                && !domain.contains('@')
                && mailbox.len() <= MAX_EMAIL =>
        {
            Ok(Identity::Email(mailbox.into()))
        }
        _ => Err(IdentityError::Email(shown(mailbox))),
    }
}

/// RFC 5280 section 7.5.
fn canonical_email(mailbox: &str) -> String {
    match mailbox.split_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_ascii_lowercase()),
        None => mailbox.into(),
    }
}

/// Names of the wire are ASCII; what is not becomes a character that no rule allows.
fn text(data: &[u8]) -> String {
    data.iter().take(MAX_EMAIL + 1).map(|byte| if byte.is_ascii() { char::from(*byte) } else { '\u{fffd}' }).collect()
}

fn shown(text: &str) -> String {
    Printable(text).to_string()
}

fn kind_name(kind: u8) -> &'static str {
    match kind {
        id_kind::DER_ASN1_GN => "ID_DER_ASN1_GN",
        id_kind::KEY_ID => "ID_KEY_ID",
        12 => "ID_FC_NAME",
        id_kind::NULL => "ID_NULL",
        _ => "unassigned",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(written: &str) -> Identity {
        written.parse().unwrap()
    }

    #[test]
    fn every_kind_is_written_sent_and_read_back() {
        for (written, kind, data) in [
            ("fqdn:gw.Hospital-b.example", 2, b"gw.Hospital-b.example".to_vec()),
            ("email:ops@x.example", 3, b"ops@x.example".to_vec()),
            ("ip:192.0.2.1", 1, vec![192, 0, 2, 1]),
            ("ip:2001:db8::1", 5, "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets().to_vec()),
            ("dn:CN=gw", 9, vec![0x30, 13, 0x31, 11, 0x30, 9, 6, 3, 0x55, 4, 3, 0x13, 2, b'g', b'w']),
        ] {
            let parsed = id(written);
            let payload = Identification { kind, data };
            assert_eq!(parsed.to_identification(), payload, "{written}");
            assert_eq!(Identity::from_identification(&payload).unwrap(), parsed);
            assert_eq!(parsed.to_string(), written);
        }
    }

    #[test]
    fn what_is_equal_and_what_is_not() {
        use std::collections::HashSet;
        for (one, other, same) in [
            ("fqdn:GW.example", "fqdn:gw.EXAMPLE", true),
            ("fqdn:gw.example", "fqdn:gw2.example", false),
            ("email:Ops@X.example", "email:Ops@x.example", true),
            ("email:ops@x.example", "email:Ops@x.example", false),
            ("ip:2001:db8:0::1", "ip:2001:db8::1", true),
            ("ip:192.0.2.1", "ip:::ffff:192.0.2.1", false),
            ("fqdn:192.0.2.1", "ip:192.0.2.1", false),
            ("dn:C=CH, O=Clinic, CN=gw", "dn:C=ch,O=clinic,CN=GW", true),
            ("dn:C=CH, O=Clinic, CN=gw", "dn:O=Clinic, C=CH, CN=gw", false),
        ] {
            assert_eq!(id(one) == id(other), same, "{one} and {other}");
            assert_eq!(HashSet::from([id(one), id(other)]).len() == 1, same, "{one} and {other}, hashed");
        }
    }

    #[test]
    fn mistakes_come_with_the_remedy() {
        for (written, words) in [
            ("gw.example", "write \"fqdn:gw.example\""),
            ("ops@x.example", "write \"email:ops@x.example\""),
            ("192.0.2.1", "write \"ip:192.0.2.1\""),
            ("2001:db8::1", "write \"ip:2001:db8::1\""),
            ("CN=gw, O=x", "write \"dn:CN=gw, O=x\""),
            ("keyid:abc", "\"keyid\" is no kind of identity"),
            ("fqdn:", "not a domain name"),
            ("fqdn:*.example", "no wildcard"),
            ("fqdn:a..b", "not a domain name"),
            ("email:ops", "needs one '@'"),
            ("email:a@b@c", "needs one '@'"),
            ("ip:192.0.2", "not an IPv4 or IPv6 address"),
            ("dn:gw", "has no '='"),
        ] {
            let error = written.parse::<Identity>().unwrap_err().to_string();
            assert!(error.contains(words), "{written}: {error}");
        }
    }

    #[test]
    fn what_a_peer_sends_is_checked_and_shown_harmlessly() {
        for (kind, data) in [
            (1, &[1, 2, 3][..]),
            (5, &[0; 15]),
            (2, b"gw.example\n\x1b[2J"),
            (2, b""),
            (2, &[b'a'; MAX_FQDN + 1]),
            (2, &[0xc3, 0xa4]),
            (3, &[b'@'; 10_000]),
            (9, &[0x30]),
            (9, b""),
            (11, b"secret"),
            (0, b""),
        ] {
            let error = Identity::from_parts(kind, data).unwrap_err().to_string();
            assert!(error.chars().all(|c| !c.is_control()) && error.len() < 500, "{error:?}");
        }
        let words = Identity::from_parts(11, b"x").unwrap_err().to_string();
        assert!(words.contains("type 11 (ID_KEY_ID)"), "{words}");
    }
}
