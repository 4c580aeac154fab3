//! The few DER bytes that we write ourselves: names and algorithm identifiers. Reading is x509-parser's.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const NULL: u8 = 0x05;
pub(super) const OID: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const PRINTABLE_STRING: u8 = 0x13;
pub(super) const IA5_STRING: u8 = 0x16;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// `[number]`, explicit.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// One value: tag, length in its shortest form, contents.
pub(super) fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut der = vec![tag];
    match u8::try_from(len) {
        Ok(len @ ..0x80) => der.push(len),
        _ => {
            let bytes = len.to_be_bytes();
            let shortest = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            der.push(0x80 | shortest.len() as u8);
            der.extend(shortest);
        }
    }
    der.extend(parts.concat());
    der
}

/// The contents of an OID in dotted form. `None`: it has not that form.
pub(super) fn dotted_oid(text: &str) -> Option<Vec<u8>> {
    let arcs: Vec<u64> = text.split('.').map(|arc| arc.parse::<u32>().map(u64::from)).collect::<Result<_, _>>().ok()?;
    let [first @ 0..=2, second, rest @ ..] = arcs.as_slice() else { return None };
    if *first < 2 && *second > 39 {
        return None;
    }
    let mut oid = Vec::new();
    for arc in [first * 40 + second].iter().chain(rest) {
        let septets = (64 - arc.leading_zeros()).div_ceil(7).max(1);
        oid.extend((0..septets).rev().map(|n| (arc >> (7 * n)) as u8 & 0x7f | if n > 0 { 0x80 } else { 0 }));
    }
    Some(oid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_their_shortest_form() {
        assert_eq!(value(SEQUENCE, &[]), [0x30, 0]);
        assert_eq!(value(SEQUENCE, &[&[7; 127]])[..2], [0x30, 0x7f]);
        assert_eq!(value(SEQUENCE, &[&[7; 100], &[7; 28]])[..3], [0x30, 0x81, 0x80]);
        assert_eq!(value(SEQUENCE, &[&[7; 256]])[..4], [0x30, 0x82, 1, 0]);
    }

    /// X.690 section 8.19.5, and rsaEncryption.
    #[test]
    fn oids_in_dotted_form() {
        assert_eq!(dotted_oid("2.999.3").unwrap(), [0x88, 0x37, 3]);
        assert_eq!(dotted_oid("1.2.840.113549.1.1.1").unwrap(), [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]);
        for wrong in ["", "1", "3.1", "1.40", "1.2.x", "1..2", "1.2.-3", "1.2.99999999999"] {
            assert_eq!(dotted_oid(wrong), None, "{wrong}");
        }
    }
}
