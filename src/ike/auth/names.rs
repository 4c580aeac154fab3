//! The identities that a certificate vouches for (RFC 4945 section 3.1): its subject, and its subjectAltNames of the
//! kinds that IKE knows. The common name of the subject is no domain name and no address, whatever it looks like.

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::identity::Identity;
use crate::wire::ike::id_kind;

/// A certificate of a gateway has a handful.
const MAX_NAMES: usize = 64;

/// The subject first, if it is not empty. Names that we could not compare are left out.
pub(super) fn identities(certificate: &X509Certificate<'_>) -> Vec<Identity> {
    let subject = Identity::from_parts(id_kind::DER_ASN1_DN, certificate.subject().as_raw()).ok();
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names = alternatives.iter().flat_map(|extension| &extension.value.general_names);
    subject.into_iter().chain(names.filter_map(identity)).take(MAX_NAMES).collect()
}

fn identity(name: &GeneralName<'_>) -> Option<Identity> {
    match name {
        GeneralName::DNSName(name) => Identity::from_parts(id_kind::FQDN, name.as_bytes()).ok(),
        GeneralName::RFC822Name(mailbox) => Identity::from_parts(id_kind::RFC822_ADDR, mailbox.as_bytes()).ok(),
        GeneralName::IPAddress(octets) => address(octets).map(Identity::from_address),
        GeneralName::DirectoryName(name) => Identity::from_parts(id_kind::DER_ASN1_DN, name.as_raw()).ok(),
        _ => None,
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// For words: at most eight of them, and how many there are besides.
pub(super) fn in_words(identities: &[Identity]) -> String {
    let shown: Vec<String> = identities.iter().take(8).map(Identity::to_string).collect();
    match identities.len() {
        0 => "no names".into(),
        1..=8 => shown.join(", "),
        count => format!("{} and {} more", shown.join(", "), count - 8),
    }
}
