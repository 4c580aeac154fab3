//! Distinguished names: text to DER and back, and when two are the same.
//!
//! The text is read as strongSwan reads it: parts separated by `,` (or by `/`, when it begins with one), in the order
//! in which they stand in the DER, types by their usual short names in either case or as dotted OID. A value may stand
//! in double quotes, and `\` takes the next character as it is.
//!
//! Two names are the same when their parts are, in the same order: same types, and values that differ in nothing but
//! the kind of string, the case of ASCII letters and repeated spaces (RFC 5280 section 7.1). Comparing bytes would fail
//! on every certificate made by OpenSSL, which writes UTF8String where others write PrintableString.

use std::fmt;

use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::der;
use super::printable::Printable;

/// A name of a certificate has well under a kilobyte and fewer than ten parts.
const MAX_BYTES: usize = 2048;
const MAX_PARTS: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnError {
    #[error("it is empty")]
    Empty,
    #[error("it has more than {MAX_BYTES} bytes or {MAX_PARTS} parts")]
    TooLong,
    #[error("the part \"{0}\" has no '='")]
    NoEquals(String),
    #[error("\"{0}\" is no known type of a name's part (such as C, ST, L, O, OU, CN, E, or a dotted OID)")]
    UnknownType(String),
    #[error("the part \"{0}\" has no value")]
    NoValue(String),
    #[error("a quotation mark is not closed, or '\\' stands at the end")]
    Quotes,
    #[error("its DER is malformed")]
    Malformed,
}

/// Short name, OID, kind of string where it must be one that is not the usual.
const TYPES: &[(&str, &str, Option<u8>)] = &[
    ("C", "2.5.4.6", None),
    ("ST", "2.5.4.8", None),
    ("L", "2.5.4.7", None),
    ("O", "2.5.4.10", None),
    ("OU", "2.5.4.11", None),
    ("CN", "2.5.4.3", None),
    ("E", "1.2.840.113549.1.9.1", Some(der::IA5_STRING)),
    ("emailAddress", "1.2.840.113549.1.9.1", Some(der::IA5_STRING)),
    ("Email", "1.2.840.113549.1.9.1", Some(der::IA5_STRING)),
    ("DC", "0.9.2342.19200300.100.1.25", Some(der::IA5_STRING)),
    ("UID", "0.9.2342.19200300.100.1.1", None),
    ("serialNumber", "2.5.4.5", None),
    ("SN", "2.5.4.5", None),
    ("S", "2.5.4.4", None),
    ("G", "2.5.4.42", None),
    ("I", "2.5.4.43", None),
    ("N", "2.5.4.41", None),
    ("T", "2.5.4.12", None),
    ("D", "2.5.4.13", None),
    ("dnQualifier", "2.5.4.46", None),
    ("organizationIdentifier", "2.5.4.97", None),
    ("street", "2.5.4.9", None),
    ("postalCode", "2.5.4.17", None),
    ("unstructuredName", "1.2.840.113549.1.9.2", None),
    ("UN", "1.2.840.113549.1.9.2", None),
    ("employeeNumber", "2.16.840.1.113730.3.1.3", None),
    ("EN", "2.16.840.1.113730.3.1.3", None),
];

/// DER of a name in text.
pub(super) fn parse(text: &str) -> Result<Vec<u8>, DnError> {
    if text.trim().is_empty() {
        return Err(DnError::Empty);
    }
    if text.len() > MAX_BYTES {
        return Err(DnError::TooLong);
    }
    let (separator, text) = match text.trim().strip_prefix('/') {
        Some(rest) => ('/', rest),
        None => (',', text.trim()),
    };
    let parts = split(text, separator)?.iter().map(|part| encode(part)).collect::<Result<Vec<_>, _>>()?;
    if parts.len() > MAX_PARTS {
        return Err(DnError::TooLong);
    }
    Ok(der::value(der::SEQUENCE, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

/// Cuts at separators that are neither quoted nor escaped, and takes quotation marks and backslashes away.
fn split(text: &str, separator: char) -> Result<Vec<String>, DnError> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => part.push(chars.next().ok_or(DnError::Quotes)?),
            '"' => quoted = !quoted,
            c if c == separator && !quoted => parts.push(std::mem::take(&mut part)),
            c => part.push(c),
        }
    }
    parts.push(part);
    if quoted { Err(DnError::Quotes) } else { Ok(parts) }
}

fn encode(part: &str) -> Result<Vec<u8>, DnError> {
    let shown = |text: &str| Printable(text.trim()).to_string();
    let (name, text) = part.split_once('=').ok_or_else(|| DnError::NoEquals(shown(part)))?;
    let (oid, kind) = lookup(name.trim()).ok_or_else(|| DnError::UnknownType(shown(name)))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(DnError::NoValue(shown(part)));
    }
    let kind = match kind {
        Some(kind) if text.is_ascii() => kind,
        _ if text.bytes().all(is_printable) => der::PRINTABLE_STRING,
        _ => der::UTF8_STRING,
    };
    let (oid, text) = (der::value(der::OID, &[&oid]), der::value(kind, &[text.as_bytes()]));
    Ok(der::value(der::SET, &[&der::value(der::SEQUENCE, &[&oid, &text])]))
}

fn lookup(name: &str) -> Option<(Vec<u8>, Option<u8>)> {
    let known = TYPES.iter().find(|(short, ..)| short.eq_ignore_ascii_case(name));
    let (dotted, kind) = known.map_or((name, None), |(_, oid, kind)| (*oid, *kind));
    Some((der::dotted_oid(dotted)?, kind))
}

/// X.680 section 41.4.
fn is_printable(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&c)
}

fn read(der: &[u8]) -> Option<X509Name<'_>> {
    let (rest, name) = X509Name::from_der(der).ok()?;
    rest.is_empty().then_some(name)
}

/// Whether a peer's bytes are a name that we can compare and show.
pub(super) fn check(der: &[u8]) -> Result<(), DnError> {
    if der.len() > MAX_BYTES {
        return Err(DnError::TooLong);
    }
    let name = read(der).ok_or(DnError::Malformed)?;
    match name.iter_attributes().count() {
        0 => Err(DnError::Empty),
        1..=MAX_PARTS => Ok(()),
        _ => Err(DnError::TooLong),
    }
}

/// Bytes that are the same for names that are the same.
pub(super) fn canonical(der: &[u8]) -> Vec<u8> {
    let Some(name) = read(der) else { return der.to_vec() };
    let mut canonical = Vec::new();
    for rdn in name.iter_rdn() {
        let mut attributes: Vec<Vec<u8>> = rdn
            .iter()
            .map(|attribute| {
                let value = attribute.attr_value();
                let value = match text_of(value) {
                    Some(text) => der::value(der::UTF8_STRING, &[fold(text).as_bytes()]),
                    None => [&value.tag().0.to_be_bytes()[..], value.data].concat(),
                };
                der::value(der::SEQUENCE, &[&der::value(der::OID, &[attribute.attr_type().as_bytes()]), &value])
            })
            .collect();
        attributes.sort();
        canonical.extend(der::value(der::SET, &attributes.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    }
    canonical
}

fn text_of<'a>(value: &x509_parser::asn1_rs::Any<'a>) -> Option<&'a str> {
    let kind = u8::try_from(value.tag().0).ok()?;
    let text = [der::UTF8_STRING, der::PRINTABLE_STRING, der::IA5_STRING].contains(&kind);
    text.then(|| std::str::from_utf8(value.data).ok()).flatten()
}

fn fold(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase()
}

/// Shows a name as [`parse`] reads it (parts of several attributes are joined by ` + `, which it does not read).
pub(super) struct Text<'a>(pub(super) &'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(name) = read(self.0) else { return f.write_str("(malformed)") };
        for (at, rdn) in name.iter_rdn().enumerate() {
            for (within, attribute) in rdn.iter().enumerate() {
                f.write_str(match (at, within) {
                    (0, 0) => "",
                    (_, 0) => ", ",
                    _ => " + ",
                })?;
                let oid = attribute.attr_type().as_bytes();
                match TYPES.iter().find(|(_, dotted, _)| der::dotted_oid(dotted).as_deref() == Some(oid)) {
                    Some((short, ..)) => f.write_str(short)?,
                    None => write!(f, "{}", attribute.attr_type())?,
                }
                match text_of(attribute.attr_value()) {
                    Some(text) => write!(f, "={}", Printable(&escaped(text)))?,
                    None => write!(f, "=#{}", hex(attribute.attr_value().data))?,
                }
            }
        }
        Ok(())
    }
}

fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| matches!(c, ',' | '"' | '\\').then_some('\\').into_iter().chain([c])).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(32).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rewritten(text: &str) -> String {
        Text(&parse(text).unwrap()).to_string()
    }

    #[test]
    fn text_is_read_and_written() {
        for (text, again) in [
            (
                "C=CH, O=strongSwan Project, CN=moon.strongswan.org",
                "C=CH, O=strongSwan Project, CN=moon.strongswan.org",
            ),
            ("c=CH,o=\"Clinic, Inc.\",cn=gw", "C=CH, O=Clinic\\, Inc., CN=gw"),
            ("/C=CH/O=Clinic, Inc./CN=gw", "C=CH, O=Clinic\\, Inc., CN=gw"),
            ("CN=Zürich\\\\1", "CN=Zürich\\\\1"),
            ("emailAddress=ops@x.example", "E=ops@x.example"),
            ("2.5.4.3=gw, 1.2.3.4=x", "CN=gw, 1.2.3.4=x"),
            ("DC=example, UID=u7", "DC=example, UID=u7"),
        ] {
            assert_eq!(rewritten(text), again);
            assert_eq!(rewritten(again), again);
        }
    }

    #[test]
    fn the_kind_of_string_is_the_usual_one() {
        let kind = |text: &str| parse(text).unwrap()[2 + 2 + 2 + 5];
        assert_eq!(kind("CN=gw.example"), der::PRINTABLE_STRING);
        assert_eq!(kind("CN=gw_1"), der::UTF8_STRING);
        assert_eq!(parse("E=a@b").unwrap()[2 + 2 + 2 + 11], der::IA5_STRING);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, error) in [
            ("", DnError::Empty),
            ("CN=a, gw", DnError::NoEquals("gw".into())),
            ("CN=a,", DnError::NoEquals("".into())),
            ("XY=a", DnError::UnknownType("XY".into())),
            ("CN= , O=b", DnError::NoValue("CN=".into())),
            ("CN=\"a", DnError::Quotes),
            ("CN=a\\", DnError::Quotes),
            (&vec!["CN=a"; MAX_PARTS + 1].join(","), DnError::TooLong),
            (&format!("CN={}", "a".repeat(MAX_BYTES)), DnError::TooLong),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        assert!(parse(&vec!["CN=a"; MAX_PARTS].join(",")).is_ok());
    }

    #[test]
    fn the_kind_of_string_does_not_make_a_difference() {
        let printable = parse("CN=Gate Way").unwrap();
        let mut utf8 = parse("CN=gate  way").unwrap();
        utf8[11] = der::UTF8_STRING;
        assert_eq!(canonical(&printable), canonical(&utf8));
        utf8[11] = der::SEQUENCE; // no string at all
        assert_ne!(canonical(&printable), canonical(&utf8));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            at in 0usize..40,
            byte: u8,
        ) {
            let mut broken = parse("C=CH, O=\"Clinic, Inc.\", E=ops@x.example").unwrap();
            broken[at] = byte;
            for der in [bytes, broken] {
                let _ = check(&der);
                let _ = (canonical(&der), Text(&der).to_string());
            }
        }

        #[test]
        fn what_is_shown_is_read_back(value in "[ -~]{0,40}x") {
            let name = parse(&format!("C=CH, CN={}", escaped(&value))).unwrap();
            prop_assert_eq!(parse(&Text(&name).to_string()).unwrap(), name);
        }
    }
}
