//! NSEC records that tell about one name only (RFC 9824).

use crate::dns::key::NameKey;

/// RFC 1035 section 3.1, the root's zero byte included.
const MAX_NAME_BYTES: usize = 255;
const MAX_LABEL_BYTES: usize = 63;

/// The RDATA (RFC 4034 section 4.1) of the NSEC of `name`. `types` are those that exist there, all below 256.
/// `origin` is the zone's: the successor of its last name is the zone's own (RFC 4034 section 4.1.1).
pub(super) fn rdata(name: &NameKey, origin: &[u8], types: &[u16]) -> Vec<u8> {
    let mut rdata = successor(name.as_bytes(), origin);
    rdata.push(0);
    let mut bitmap = [0u8; 32];
    for number in types.iter().filter(|number| **number < 256) {
        bitmap[usize::from(number / 8)] |= 0x80 >> (number % 8);
    }
    let len = bitmap.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if len > 0 {
        rdata.extend_from_slice(&[0, len as u8]); // window 0, and its length
        rdata.extend_from_slice(&bitmap[..len]);
    }
    rdata
}

/// The name that follows at once in canonical order (RFC 4034 section 6.1), in wire form without the root.
///
/// That is the name with a label of one zero byte before it. Where a name is too long for that nothing lies below it, and
/// its first label grows by a zero byte, or where it cannot, to the next that is not longer (RFC 4471 section 3.1).
fn successor(name: &[u8], origin: &[u8]) -> Vec<u8> {
    if name.len() + 2 < MAX_NAME_BYTES {
        return [&[1, 0], name].concat();
    }
    let mut rest = name;
    while let Some((len, after)) = rest.split_first().filter(|_| rest.len() > origin.len()) {
        let (label, parent) = after.split_at(usize::from(*len));
        let label = match label.len() < MAX_LABEL_BYTES && rest.len() + 1 < MAX_NAME_BYTES {
            true => Some([label, &[0]].concat()),
            false => increment(label),
        };
        match label {
            Some(label) => return [&[label.len() as u8][..], &label, parent].concat(),
            None => rest = parent, // the last of its siblings: what follows is the parent's next sibling
        }
    }
    origin.to_vec()
}

/// The next label that is not longer. `None`: it is the last of all.
fn increment(label: &[u8]) -> Option<Vec<u8>> {
    let at = label.iter().rposition(|byte| *byte != 0xff)?;
    let mut next = label[..=at].to_vec();
    next[at] = match label[at] {
        b'@' => b'[', // upper case sorts as lower case
        byte => byte + 1,
    };
    Some(next)
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use hickory_proto::rr::Name;
    use proptest::prelude::*;

    use super::*;
    use crate::dns::key::name_of;

    /// RFC 4034 section 6.1, from the labels: independent of the wire form.
    fn canonical_order(a: &Name, b: &Name) -> Ordering {
        let labels = |name: &Name| -> Vec<Vec<u8>> {
            let mut labels: Vec<Vec<u8>> = name.iter().map(<[u8]>::to_ascii_lowercase).collect();
            labels.reverse();
            labels
        };
        labels(a).cmp(&labels(b))
    }

    fn origin() -> Name {
        Name::from_ascii("ix.example.").unwrap()
    }

    fn next(name: &Name) -> Name {
        name_of(&successor(NameKey::new(name).as_bytes(), NameKey::new(&origin()).as_bytes())).unwrap()
    }

    #[test]
    fn the_record_of_the_rfcs_example() {
        let name = NameKey::new(&Name::from_ascii("A.example.com.").unwrap());
        let rdata = rdata(&name, NameKey::new(&Name::from_ascii("example.com.").unwrap()).as_bytes(), &[46, 47, 128]);
        let bitmap = b"\x00\x11\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80";
        assert_eq!(rdata, [&b"\x01\x00\x01a\x07example\x03com\x00"[..], bitmap].concat());
    }

    /// 255 octets, or `spare` fewer: four labels above the zone's name, the first of 50.
    fn long(first: &[u8], spare: usize) -> Name {
        let labels = [[&[b'a'; 50][first.len()..], first].concat(), vec![b'b'; 63], vec![b'c'; 63]];
        let last = vec![b'd'; 63 - spare];
        let name = Name::from_labels(labels.into_iter().chain([last])).unwrap().append_domain(&origin()).unwrap();
        assert_eq!(NameKey::new(&name).as_bytes().len() + 1, 255 - spare);
        name
    }

    #[test]
    fn names_without_room_have_a_successor_too() {
        let first = |name: Name| next(&name).iter().next().unwrap().to_vec();
        assert_eq!(first(long(b"z", 2)), b"\x00");
        assert_eq!(first(long(b"z", 1)), [&[b'a'; 49][..], b"z\x00"].concat());
        for (end, want) in [(&b"y"[..], &b"z"[..]), (b"@", b"["), (b"y\xff", b"z"), (b"y\xff\xff", b"z")] {
            assert_eq!(first(long(end, 0)), [&[b'a'; 50][end.len()..], want].concat(), "{end:?}");
        }
        let last_of_its_siblings = long(&[0xff; 50], 0);
        let want = next(&last_of_its_siblings);
        assert_eq!(want.iter().next().unwrap(), increment(&[b'b'; 63]).unwrap());
        let labels = [50, 63, 63, 63].map(|len| vec![0xff; len]);
        let last_of_all = Name::from_labels(labels).unwrap().append_domain(&origin()).unwrap();
        assert_eq!(next(&last_of_all), origin());
    }

    proptest! {
        #[test]
        fn nothing_lies_between_a_name_and_its_successor(
            labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=63), 1..6),
            other in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=4), 0..4),
            lengthen in 0usize..4,
            fill_to in prop::option::of(252usize..=255),
        ) {
            let Ok(mut name) = Name::from_labels(labels).unwrap_or_default().append_domain(&origin()) else {
                return Ok(());
            };
            if let Some(first) = fill_to.and_then(|whole| whole.checked_sub(NameKey::new(&name).as_bytes().len() + 2)) {
                let label = vec![if lengthen == 0 { 0xff } else { b'@' }; first.clamp(1, 63)];
                name = name.prepend_label(label).unwrap_or(name);
            }
            let next = next(&name);
            prop_assert!(origin().zone_of(&next));
            if next != origin() {
                prop_assert_eq!(canonical_order(&name, &next), Ordering::Less);
            }
            // A name made near it: below, beside, or anywhere.
            let mut other = Name::from_labels(other).unwrap_or_default();
            for _ in 0..lengthen { other = other.prepend_label(&b"\x00"[..]).unwrap_or(other); }
            let candidates = [
                other.clone().append_domain(&name),
                other.clone().append_domain(&name.base_name()),
                other.append_domain(&origin()),
            ];
            for candidate in candidates.into_iter().flatten() {
                let after = canonical_order(&candidate, &name) == Ordering::Greater;
                let before = next == origin() || canonical_order(&candidate, &next) == Ordering::Less;
                prop_assert!(!(after && before), "{candidate} lies between {name} and {next}");
            }
        }
    }
}
