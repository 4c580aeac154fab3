//! Ranges of addresses that are no prefix, cut into prefixes that are.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// From `first` to `last`, both included: of one family, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RangeError {
    #[error("this is not a range of addresses")]
    NotARange,
    #[error("the two ends are of different address families")]
    Families,
    #[error("the range ends before it begins")]
    Backwards,
}

/// One prefix of a range: its first address, and how many bits it leaves to hosts.
type Piece = (u128, u32);

impl AddressRange {
    pub fn new(first: IpAddr, last: IpAddr) -> Result<Self, RangeError> {
        if first.is_ipv4() != last.is_ipv4() {
            return Err(RangeError::Families);
        }
        if first > last {
            return Err(RangeError::Backwards);
        }
        Ok(AddressRange { first, last })
    }

    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// Its last address minus its first: one less than it has addresses.
    pub fn span(&self) -> u128 {
        bits(self.last) - bits(self.first)
    }

    /// The fewest prefixes that hold just the range, in order. `None`: more than `most`.
    pub fn prefixes(&self, most: usize) -> Option<Vec<IpNet>> {
        let pieces = cut(bits(self.first), bits(self.last), None, most)?;
        Some(pieces.into_iter().map(|piece| self.prefix(piece)).collect())
    }

    /// The same, cut so that every prefix has one of equally many addresses in the IPv4 range that begins with `alias`.
    pub fn prefixes_with_aliases(&self, alias: Ipv4Addr, most: usize) -> Option<Vec<(IpNet, Ipv4Net)>> {
        let (first, alias) = (bits(self.first), u128::from(alias.to_bits()));
        let pieces = cut(first, bits(self.last), Some(alias), most)?;
        let pair = |piece: Piece| {
            let at = u32::try_from(alias + (piece.0 - first)).ok()?;
            let alias = Ipv4Net::new(Ipv4Addr::from_bits(at), 32u8.checked_sub(piece.1 as u8)?).ok()?;
            Some((self.prefix(piece), alias))
        };
        pieces.into_iter().map(pair).collect()
    }

    fn prefix(&self, (at, host_bits): Piece) -> IpNet {
        match self.first {
            IpAddr::V4(_) => Ipv4Net::new_assert(Ipv4Addr::from_bits(at as u32), 32 - host_bits as u8).into(),
            IpAddr::V6(_) => Ipv6Net::new_assert(Ipv6Addr::from_bits(at), 128 - host_bits as u8).into(),
        }
    }
}

/// Takes the widest block again and again that begins where the last one ended, in `beside` as well, and fits.
fn cut(first: u128, last: u128, beside: Option<u128>, most: usize) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut at = first;
    loop {
        if pieces.len() == most {
            return None;
        }
        let aligned = (at | beside.map_or(0, |beside| beside + (at - first))).trailing_zeros();
        let fits = (last - at).checked_add(1).map_or(128, u128::ilog2);
        let host_bits = aligned.min(fits);
        pieces.push((at, host_bits));
        let end = at + 1u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1);
        if end == last {
            return Some(pieces);
        }
        at = end + 1;
    }
}

fn bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => addr.to_bits().into(),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

impl FromStr for AddressRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let (first, last) = text.split_once('-').ok_or(RangeError::NotARange)?;
        let parse = |text: &str| text.trim().parse().map_err(|_| RangeError::NotARange);
        AddressRange::new(parse(first)?, parse(last)?)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    fn prefixes(text: &str, most: usize) -> Option<Vec<String>> {
        Some(range(text).prefixes(most)?.iter().map(IpNet::to_string).collect())
    }

    #[test]
    fn a_range_is_cut_into_the_fewest_prefixes() {
        assert_eq!(
            prefixes("192.168.1.10-192.168.1.20", 64).unwrap(),
            ["192.168.1.10/31", "192.168.1.12/30", "192.168.1.16/30", "192.168.1.20/32"]
        );
        assert_eq!(prefixes("10.0.0.0-10.0.1.255", 1).unwrap(), ["10.0.0.0/23"]);
        assert_eq!(prefixes("10.0.0.7-10.0.0.7", 1).unwrap(), ["10.0.0.7/32"]);
        assert_eq!(prefixes("0.0.0.0-255.255.255.255", 1).unwrap(), ["0.0.0.0/0"]);
        assert_eq!(prefixes("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1).unwrap(), ["::/0"]);
        assert_eq!(prefixes("2001:db8::a-2001:db8::f", 64).unwrap(), ["2001:db8::a/127", "2001:db8::c/126"]);
        assert_eq!(prefixes("0.0.0.1-255.255.255.254", 64).unwrap().len(), 62);
    }

    #[test]
    fn more_pieces_than_allowed_are_refused() {
        assert_eq!(prefixes("192.168.1.10-192.168.1.20", 3), None);
        assert_eq!(prefixes("::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", 253), None);
        assert!(prefixes("::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", 254).is_some());
    }

    #[test]
    fn what_is_no_range_is_named() {
        for (text, want) in [
            ("10.0.0.1", RangeError::NotARange),
            ("10.0.0.1-", RangeError::NotARange),
            ("10.0.0.1-10.0.0.2-10.0.0.3", RangeError::NotARange),
            ("10.0.0.1-fd00::1", RangeError::Families),
            ("10.0.0.2-10.0.0.1", RangeError::Backwards),
        ] {
            assert_eq!(text.parse::<AddressRange>(), Err(want), "{text}");
        }
    }

    proptest! {
        /// Prefixes follow one another without gap, each lies beside one of equally many addresses, and no two could be one.
        #[test]
        fn prefixes_and_aliases_hold_the_range_and_nothing_else(first in 0u32..5000, span in 0u32..40, alias in 0u32..5000) {
            let of = |at: u32| Ipv4Addr::from_bits(0x0a00_0000 + at);
            let range = AddressRange::new(of(first).into(), of(first + span).into()).unwrap();
            prop_assert_eq!(range.span(), u128::from(span));
            let mut at = first;
            for (native, beside) in range.prefixes_with_aliases(of(alias), 64).unwrap() {
                let IpNet::V4(native) = native else { panic!("IPv4") };
                prop_assert_eq!((native, beside), (native.trunc(), beside.trunc()));
                prop_assert_eq!(native.prefix_len(), beside.prefix_len());
                prop_assert_eq!((native.network(), beside.network()), (of(at), of(alias + at - first)));
                at += 1 << (32 - native.prefix_len());
            }
            prop_assert_eq!(at, first + span + 1);

            let alone = range.prefixes(64).unwrap();
            prop_assert_eq!(IpNet::aggregate(&alone).len(), alone.len());
            let aligned = range.prefixes_with_aliases(of(first), 64).unwrap();
            prop_assert_eq!(aligned.iter().map(|pair| pair.0).collect::<Vec<_>>(), alone, "equal alignment costs nothing");
        }
    }
}
