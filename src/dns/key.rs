//! Names as keys of a hash table: the wire form in lower case, without the root's zero byte.

use std::fmt;

use hickory_proto::rr::Name;

/// Room for the longest name (RFC 1035 section 3.1: 255 octets).
const MAX_NAME_BYTES: usize = 255;

/// One name's key, on the stack: a lookup allocates nothing.
pub(super) struct NameKey {
    bytes: [u8; MAX_NAME_BYTES],
    len: usize,
}

impl NameKey {
    pub(super) fn new(name: &Name) -> Self {
        let mut key = NameKey { bytes: [0; MAX_NAME_BYTES], len: 0 };
        for label in name.iter() {
            key.push(label);
        }
        key
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Whether the name is `origin` or lies below it. A match in the middle of a label is none.
    pub(super) fn is_within(&self, origin: &[u8]) -> bool {
        let Some(origin_at) = self.len.checked_sub(origin.len()) else { return false };
        let mut at = 0;
        while at < origin_at {
            at += 1 + usize::from(self.bytes[at]);
        }
        at == origin_at && self.as_bytes()[origin_at..] == *origin
    }

    /// The name, and every name above it up to the root (empty).
    pub(super) fn suffixes(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = Some(0);
        std::iter::from_fn(move || {
            let here = at?;
            at = (here < self.len).then(|| here + 1 + usize::from(self.bytes[here]));
            Some(&self.bytes[here..self.len])
        })
    }

    /// hickory's `Name` holds at most 254 octets without the root, in labels of at most 63; should that ever change,
    /// labels beyond it are left out and the name is simply not found.
    fn push(&mut self, label: &[u8]) {
        let end = self.len + 1 + label.len();
        if label.len() > 63 || end > MAX_NAME_BYTES {
            return;
        }
        self.bytes[self.len] = label.len() as u8;
        self.bytes[self.len + 1..end].copy_from_slice(label);
        self.bytes[self.len + 1..end].make_ascii_lowercase();
        self.len = end;
    }
}

/// The name of a key. `None`: no name has such a key.
pub(super) fn name_of(key: &[u8]) -> Option<Name> {
    let (mut labels, mut rest) = (Vec::new(), key);
    while let Some((len, after)) = rest.split_first() {
        let (label, parent) = after.split_at_checked(usize::from(*len))?;
        labels.push(label);
        rest = parent;
    }
    let mut name = Name::from_labels(labels).ok()?;
    name.set_fqdn(true);
    Some(name)
}

impl fmt::Debug for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NameKey({})", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> NameKey {
        NameKey::new(&Name::from_ascii(name).unwrap())
    }

    #[test]
    fn folds_case_and_keeps_label_borders() {
        assert_eq!(key("A.Bc.").as_bytes(), b"\x01a\x02bc");
        assert_ne!(key("a.bc.").as_bytes(), key("ab.c.").as_bytes());
        assert_eq!(key(".").as_bytes(), b"");
    }

    #[test]
    fn suffixes_end_at_the_root() {
        let key = key("a.bc.");
        let suffixes: Vec<&[u8]> = key.suffixes().collect();
        assert_eq!(suffixes, [&b"\x01a\x02bc"[..], b"\x02bc", b""]);
    }

    #[test]
    fn is_within_respects_label_borders() {
        let origin = key("ix.example.");
        for (name, within) in [
            ("ix.example.", true),
            ("A.IX.example.", true),
            ("x.y.ix.example.", true),
            ("example.", false),
            ("matrix.example.", false),
            ("ix.example.com.", false),
            (".", false),
        ] {
            assert_eq!(key(name).is_within(origin.as_bytes()), within, "{name}");
        }
        // A label that holds the origin's bytes is not the origin.
        let trick = Name::from_labels([&b"a\x02ix\x07example"[..]]).unwrap();
        assert!(!NameKey::new(&trick).is_within(origin.as_bytes()));
    }
}
