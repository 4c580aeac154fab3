//! What came out of a data message: an IP packet, perhaps with padding behind it, or nothing.

const IPV4_HEADER_BYTES: usize = 20;
const IPV6_HEADER_BYTES: usize = 40;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inner {
    /// So many bytes are the packet, by its own length field; the rest is padding.
    Packet(usize),
    /// A keepalive.
    Nothing,
    /// Authentic, but no IP packet.
    Malformed,
}

/// Looks at version and length only.
#[inline]
pub fn inner(opened: &[u8]) -> Inner {
    // Shorter than any packet.
    let Some(&[first, _, high4, low4, high6, low6]) = opened.first_chunk() else {
        return if opened.is_empty() { Inner::Nothing } else { Inner::Malformed };
    };
    let word = |high, low| usize::from(u16::from_be_bytes([high, low]));
    let (len, at_least) = match first >> 4 {
        4 => (word(high4, low4), IPV4_HEADER_BYTES),
        6 => (IPV6_HEADER_BYTES + word(high6, low6), IPV6_HEADER_BYTES),
        _ => return Inner::Malformed,
    };
    if (at_least..=opened.len()).contains(&len) { Inner::Packet(len) } else { Inner::Malformed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_the_packets_own() {
        let v4 = |total: u16, len: usize| {
            let mut bytes = vec![0; len];
            bytes[0] = 0x45;
            bytes[2..4].copy_from_slice(&total.to_be_bytes());
            inner(&bytes)
        };
        let v6 = |payload: u16, len: usize| {
            let mut bytes = vec![0; len];
            bytes[0] = 0x6f;
            bytes[4..6].copy_from_slice(&payload.to_be_bytes());
            inner(&bytes)
        };
        assert_eq!((v4(60, 64), v4(20, 32), v4(64, 64)), (Inner::Packet(60), Inner::Packet(20), Inner::Packet(64)));
        assert_eq!((v4(65, 64), v4(19, 64), v4(20, 19)), (Inner::Malformed, Inner::Malformed, Inner::Malformed));
        assert_eq!((v6(0, 48), v6(8, 48)), (Inner::Packet(40), Inner::Packet(48)));
        assert_eq!((v6(9, 48), v6(0, 39), v6(u16::MAX, 48)), (Inner::Malformed, Inner::Malformed, Inner::Malformed));
        assert_eq!(inner(&[]), Inner::Nothing);
        for rubbish in [&[0x45][..], &[0x45, 0, 0], &[0x60, 0, 0, 0, 0], &[0; 64], &[0x20; 64]] {
            assert_eq!(inner(rubbish), Inner::Malformed, "{rubbish:x?}");
        }
    }
}
