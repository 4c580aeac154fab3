//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! The checksum is the one's complement of the one's complement sum of 16-bit words. When words `m` become `m'`, equation
//! 3 of RFC 1624 gives `HC' = ~(~HC + ~m + m')`: nothing else of the packet has to be read. A [`Delta`] gathers the
//! `~m + m'` of every change, and is then applied to each checksum that covers the changed words.

use std::net::IpAddr;

/// The sum of changes to apply to checksums. Order does not matter; an empty delta changes nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Delta(u16);

impl Delta {
    /// What [`Delta::sum`] gave.
    #[inline]
    pub fn of_sum(sum: u16) -> Delta {
        Delta(sum)
    }

    /// For keeping it.
    pub fn sum(self) -> u16 {
        self.0
    }

    /// A 16-bit word changed.
    #[inline]
    pub fn word(self, old: u16, new: u16) -> Delta {
        Delta(add(add(self.0, !old), new))
    }

    /// A 32-bit value changed (at an even offset).
    #[inline]
    pub fn dword(self, old: u32, new: u32) -> Delta {
        let sum = u64::from(self.0) + u64::from(!old) + u64::from(new);
        Delta(fold64(sum))
    }

    /// A 128-bit value changed (at an even offset).
    pub fn qqword(self, old: u128, new: u128) -> Delta {
        if old == new {
            return self;
        }
        let mut delta = self;
        for shift in [0, 32, 64, 96] {
            delta = delta.dword((old >> shift) as u32, (new >> shift) as u32);
        }
        delta
    }

    /// An address changed, perhaps into one of the other family.
    pub fn address(self, old: IpAddr, new: IpAddr) -> Delta {
        match (old, new) {
            (IpAddr::V4(old), IpAddr::V4(new)) => self.dword(old.to_bits(), new.to_bits()),
            (IpAddr::V6(old), IpAddr::V6(new)) => self.qqword(old.to_bits(), new.to_bits()),
            (IpAddr::V4(old), IpAddr::V6(new)) => self.dword(old.to_bits(), 0).qqword(0, new.to_bits()),
            (IpAddr::V6(old), IpAddr::V4(new)) => self.qqword(old.to_bits(), 0).dword(0, new.to_bits()),
        }
    }

    /// Both changes.
    pub fn and(self, other: Delta) -> Delta {
        Delta(add(self.0, other.0))
    }

    /// The checksum that is right after the change, when `checksum` was right before.
    #[inline]
    pub fn apply(self, checksum: u16) -> u16 {
        !add(!checksum, self.0)
    }

    /// Applies to the checksum at `offset`, when the packet reaches that far.
    #[inline]
    pub fn apply_at(self, bytes: &mut [u8], offset: usize) {
        if let Some(field) = bytes.get_mut(offset..).and_then(|bytes| bytes.first_chunk_mut()) {
            *field = self.apply(u16::from_be_bytes(*field)).to_be_bytes();
        }
    }
}

/// The one's complement sum of `bytes` (padded with a zero byte), not complemented.
pub fn sum(bytes: &[u8]) -> u16 {
    let mut chunks = bytes.chunks_exact(4);
    let mut total: u64 = chunks.by_ref().map(|c| u64::from(u32::from_be_bytes([c[0], c[1], c[2], c[3]]))).sum();
    let rest = chunks.remainder();
    let mut tail = [0; 4];
    tail[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_be_bytes(tail));
    fold64(total)
}

/// The checksum of `bytes`, whose checksum field is zero.
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// The checksum of an upper-layer message under the pseudo-header of RFC 9293 (IPv4) or RFC 8200 section 8.1 (IPv6).
/// The message's own checksum field is zero. `None`: the addresses are of different families.
pub fn transport_checksum(source: IpAddr, destination: IpAddr, protocol: u8, message: &[u8]) -> Option<u16> {
    let addresses = match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => u32::from(sum(&s.octets())) + u32::from(sum(&d.octets())),
        (IpAddr::V6(s), IpAddr::V6(d)) => u32::from(sum(&s.octets())) + u32::from(sum(&d.octets())),
        _ => return None,
    };
    let length = message.len() as u32;
    let total = addresses + u32::from(protocol) + (length >> 16) + (length & 0xffff) + u32::from(sum(message));
    Some(!fold(total))
}

/// The one's complement sum: what is carried out comes in again.
#[inline]
fn add(a: u16, b: u16) -> u16 {
    let (sum, carries) = a.overflowing_add(b);
    sum + u16::from(carries)
}

#[inline]
fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[inline]
fn fold64(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    fold(sum as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn example_of_rfc_1071() {
        // Section 3: the sum of 00 01 f2 03 f4 f5 f6 f7 is ddf2.
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    #[test]
    fn example_of_rfc_1624() {
        // Section 4: HC = DD2F, m = 5555, m' = 3285 gives 0000, where RFC 1141 went wrong.
        assert_eq!(Delta::default().word(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    proptest! {
        #[test]
        fn incremental_is_the_same_as_afresh(
            mut bytes in prop::collection::vec(any::<u8>(), 20..100),
            at in 0usize..4,
            new in any::<u32>(),
            new6 in any::<u16>(),
        ) {
            // All-zero data has two representations of zero; a real header never is all zero.
            bytes[18] = 0x45;
            let before = checksum(&bytes);
            let at = at * 4;
            let old = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            let old6 = u16::from_be_bytes([bytes[16], bytes[17]]);
            bytes[at..at + 4].copy_from_slice(&new.to_be_bytes());
            bytes[16..18].copy_from_slice(&new6.to_be_bytes());
            let delta = Delta::default().dword(old, new).word(old6, new6);
            prop_assert_eq!(delta.apply(before), checksum(&bytes));
        }

        #[test]
        fn an_address_may_change_its_family(four: u32, six: u128, rest in 1u16..0xffff) {
            let over = |addr: IpAddr| match addr {
                IpAddr::V4(addr) => !fold(u32::from(sum(&addr.octets())) + u32::from(rest)),
                IpAddr::V6(addr) => !fold(u32::from(sum(&addr.octets())) + u32::from(rest)),
            };
            let (four, six) = (IpAddr::V4(four.into()), IpAddr::V6(six.into()));
            prop_assert_eq!(Delta::default().address(four, six).apply(over(four)), over(six));
            prop_assert_eq!(Delta::default().address(six, four).apply(over(six)), over(four));
        }

        #[test]
        fn a_delta_and_its_inverse_cancel(old in any::<u128>(), new in any::<u128>(), sum in 1u16..0xffff) {
            let there = Delta::default().qqword(old, new).apply(sum);
            prop_assert_eq!(Delta::default().qqword(new, old).apply(there), sum);
        }
    }
}
