//! Identities in IKE (RFC 7296 section 3.5), as they are written: `fqdn:`, `email:`, `ip:` or `dn:` and the name.

use crate::config::diagnostic::Problems;
use crate::config::model::Identity;
use crate::config::section::At;

/// RFC 1035 section 2.3.4, without the length bytes of the first label and the root.
const MAX_NAME_CHARS: usize = 253;
/// Attribute types of distinguished names (RFC 4514 section 3, RFC 5280 appendix A), as people write them.
const DN_TYPES: &[&str] =
    &["CN", "C", "ST", "L", "O", "OU", "DC", "UID", "E", "emailAddress", "serialNumber", "street", "postalCode"];
const MAX_DN_CHARS: usize = 1024;
const MAX_DN_ATTRIBUTES: usize = 32;

pub fn identity(text: &At<String>, problems: &mut Problems) -> Option<Identity> {
    let (kind, name) = match text.value.split_once(':') {
        Some((kind @ ("fqdn" | "email" | "ip" | "dn"), name)) => (kind, name.trim()),
        _ => {
            problems
                .error(&text.span, "this identity does not say of which kind it is")
                .why("IKE tells names, mail addresses, IP addresses and distinguished names apart (RFC 7296 section 3.5)")
                .remedy(format!("write for example `{}`", guess(&text.value)));
            return None;
        }
    };
    if name.contains('*') {
        problems
            .error(&text.span, "an identity cannot hold a wildcard")
            .why("the identity tells peers apart; with a wildcard, a tunnel's realm would be a guess")
            .remedy("attach each peer by its own identity");
        return None;
    }
    let (parsed, expected, example) = match kind {
        "fqdn" => (is_name(name).then(|| Identity::Fqdn(name.into())), "a domain name", "fqdn:gw.hospital-b.example"),
        "email" => {
            (is_email(name).then(|| Identity::Email(name.into())), "a mail address", "email:gw@hospital-b.example")
        }
        "ip" => (name.parse().ok().map(Identity::Address), "an IPv4 or IPv6 address", "ip:198.51.100.7"),
        _ => (
            is_dn(name).then(|| Identity::Dn(name.into())),
            "a distinguished name: attributes like `CN=gateway`, with commas between them",
            "dn:C=DE, O=Hospital B, CN=gateway",
        ),
    };
    if parsed.is_none() {
        let known = DN_TYPES.join(", ");
        let types = if kind == "dn" { format!("; known attributes are {known}") } else { String::new() };
        problems
            .error(
                &text.span,
                format!("what stands behind `{kind}:` is not {}", expected.split(':').next().unwrap_or(expected)),
            )
            .why(format!("expected {expected}{types}"))
            .remedy(format!("write for example `{example}`"));
    }
    parsed
}

/// What somebody who left the kind out probably meant.
fn guess(text: &str) -> String {
    let text = text.trim();
    if text.parse::<std::net::IpAddr>().is_ok() {
        return format!("ip:{text}");
    }
    if is_email(text) {
        return format!("email:{text}");
    }
    if is_dn(text) {
        return format!("dn:{text}");
    }
    if is_name(text) { format!("fqdn:{text}") } else { "fqdn:gw.hospital-b.example".to_owned() }
}

/// Wider than host names: peers use any text without spaces as FQDN.
fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    name.len() <= MAX_NAME_CHARS
        && name.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(allowed))
}

/// RFC 5322 addr-spec without comments and quotes.
fn is_email(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b'@' | b'"' | b',' | b'(' | b')');
    text.split_once('@')
        .is_some_and(|(user, name)| !user.is_empty() && user.len() <= 64 && user.bytes().all(allowed) && is_name(name))
}

/// RFC 4514 with spaces after commas: a backslash takes the meaning from the character behind it, and so do quotation
/// marks from commas between them.
fn is_dn(text: &str) -> bool {
    let is_attribute = |part: &str| {
        part.split_once('=').is_some_and(|(kind, value)| {
            let kind = kind.trim();
            let blank = |c: char| c.is_whitespace() || c == '"';
            DN_TYPES.iter().any(|known| known.eq_ignore_ascii_case(kind)) && !value.trim_matches(blank).is_empty()
        })
    };
    let (mut escaped, mut quoted) = (false, false);
    let is_comma = |c: char| {
        quoted ^= c == '"' && !escaped;
        let is_comma = c == ',' && !escaped && !quoted;
        escaped = c == '\\' && !escaped;
        is_comma
    };
    let parts: Vec<&str> = text.split(is_comma).collect();
    text.len() <= MAX_DN_CHARS
        && parts.len() <= MAX_DN_ATTRIBUTES
        && !escaped
        && !quoted
        && parts.into_iter().all(is_attribute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Identity, String> {
        let mut problems = Problems::default();
        let parsed = identity(&At { value: text.to_owned(), span: 0..0 }, &mut problems);
        let report = problems.finish(std::path::Path::new("x"), "");
        parsed.ok_or_else(|| report.diagnostics[0].remedy.clone())
    }

    #[test]
    fn the_four_kinds_print_as_they_are_written() {
        for text in [
            "fqdn:gw.hospital-b.example",
            "fqdn:router_7",
            "email:ipsec@carrier.example",
            "ip:198.51.100.7",
            "ip:2001:db8::7",
            "dn:C=DE, O=Hospital B, CN=gateway",
            "dn:cn=a\\, b,dc=example",
            "dn:CN=\"a, b\", O=c",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("fqdn: GW.Example").unwrap().folded(), "fqdn:gw.example");
    }

    #[test]
    fn what_is_no_identity_is_refused_with_what_was_probably_meant() {
        for (text, remedy) in [
            ("gw.example", "write for example `fqdn:gw.example`"),
            ("198.51.100.7", "write for example `ip:198.51.100.7`"),
            ("a@b.example", "write for example `email:a@b.example`"),
            ("CN=a", "write for example `dn:CN=a`"),
            ("FQDN:x", "write for example `fqdn:gw.hospital-b.example`"),
            ("fqdn:a b", "write for example `fqdn:gw.hospital-b.example`"),
            ("fqdn:", "write for example `fqdn:gw.hospital-b.example`"),
            ("email:a", "write for example `email:gw@hospital-b.example`"),
            ("ip:198.51.100.7/32", "write for example `ip:198.51.100.7`"),
            ("dn:gateway", "write for example `dn:C=DE, O=Hospital B, CN=gateway`"),
            ("dn:CN=\"a", "write for example `dn:C=DE, O=Hospital B, CN=gateway`"),
            ("dn:CN=a\\", "write for example `dn:C=DE, O=Hospital B, CN=gateway`"),
            ("dn:CN=a,", "write for example `dn:C=DE, O=Hospital B, CN=gateway`"),
            ("dn:ZZ=a", "write for example `dn:C=DE, O=Hospital B, CN=gateway`"),
            ("fqdn:*.example", "attach each peer by its own identity"),
        ] {
            assert_eq!(parse(text).unwrap_err(), remedy, "{text}");
        }
    }
}
