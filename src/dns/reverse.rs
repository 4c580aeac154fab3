//! Reverse names: `10.1.168.192.in-addr.arpa` and the nibbles of `ip6.arpa` (RFC 1035 section 3.5, RFC 3596).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The labels behind the digits, `in-addr.arpa` or `ip6.arpa`.
const SUFFIX_LABELS: usize = 2;
/// Where the negative answers' SOA stands: a /16 is two labels of IPv4, a /48 twelve of IPv6.
const APEX4_LABELS: usize = SUFFIX_LABELS + 2;
const APEX6_LABELS: usize = SUFFIX_LABELS + 12;

/// The prefix that a reverse name stands for; a single address when it has all its digits. `None` for every other
/// name, also below `in-addr.arpa`, where classless delegations (RFC 2317) and other inventions live.
pub(super) fn parse(name: &Name) -> Option<IpNet> {
    let mut labels = name.iter().rev();
    let arpa = labels.next()?;
    let family = labels.next()?;
    if !arpa.eq_ignore_ascii_case(b"arpa") {
        return None;
    }
    if family.eq_ignore_ascii_case(b"in-addr") {
        parse4(labels)
    } else if family.eq_ignore_ascii_case(b"ip6") {
        parse6(labels)
    } else {
        None
    }
}

/// The name at which the SOA of the negative answer to `name` stands: `name` or one above it.
pub(super) fn apex(name: &Name, prefix: IpNet) -> Name {
    let labels = match prefix {
        IpNet::V4(_) => APEX4_LABELS,
        IpNet::V6(_) => APEX6_LABELS,
    };
    name.trim_to(labels)
}

pub(super) fn is_apex(prefix: IpNet) -> bool {
    match prefix {
        IpNet::V4(net) => net.prefix_len() == 16,
        IpNet::V6(net) => net.prefix_len() == 48,
    }
}

/// The address, when the name has all its digits.
pub(super) fn address(prefix: IpNet) -> Option<IpAddr> {
    (prefix.prefix_len() == prefix.max_prefix_len()).then(|| prefix.addr())
}

fn parse4<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Option<IpNet> {
    let mut octets = [0; 4];
    let mut count = 0;
    for label in labels {
        *octets.get_mut(count)? = parse_octet(label)?;
        count += 1;
    }
    Ipv4Net::new(Ipv4Addr::from(octets), 8 * count as u8).ok().map(IpNet::V4)
}

fn parse6<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Option<IpNet> {
    let mut bits = 0u128;
    let mut count = 0;
    for label in labels {
        let [digit] = label else { return None };
        let nibble = char::from(*digit).to_digit(16)?;
        if count == 32 {
            return None;
        }
        bits |= u128::from(nibble) << (124 - 4 * count);
        count += 1;
    }
    Ipv6Net::new(Ipv6Addr::from_bits(bits), 4 * count).ok().map(IpNet::V6)
}

/// Decimal, without leading zeros, so that an address has one name only.
fn parse_octet(label: &[u8]) -> Option<u8> {
    if label.len() > 1 && label[0] == b'0' || !label.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(label).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn reads_whole_and_partial_names() {
        for (text, want) in [
            ("20.2.64.100.in-addr.arpa.", Some("100.64.2.20/32")),
            ("64.100.IN-ADDR.Arpa.", Some("100.64.0.0/16")),
            ("in-addr.arpa.", Some("0.0.0.0/0")),
            ("6.8.7.9.6.d.f.ip6.arpa.", Some("fd69:7860::/28")),
            ("1.20.2.64.100.in-addr.arpa.", None),
            ("020.2.64.100.in-addr.arpa.", None),
            ("256.64.100.in-addr.arpa.", None),
            ("x.2.64.100.in-addr.arpa.", None),
            ("g.ip6.arpa.", None),
            ("11.ip6.arpa.", None),
            ("arpa.", None),
            (".", None),
        ] {
            assert_eq!(parse(&name(text)), want.map(|w| w.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn is_the_inverse_of_hickorys_names() {
        for text in ["100.64.2.20", "0.0.0.0", "255.255.255.255", "fd69:7867:6174:102::c0a8:10a", "::", "2001:db8::7"] {
            let addr: IpAddr = text.parse().unwrap();
            assert_eq!(parse(&Name::from(addr)).and_then(address), Some(addr));
        }
        // `u8::from_str` takes a sign, a name must not have one.
        assert_eq!(parse(&Name::from_labels(["+1", "64", "100", "in-addr", "arpa"].map(str::as_bytes)).unwrap()), None);
        // One nibble more than an address has.
        assert_eq!(parse(&Name::from("::1".parse::<IpAddr>().unwrap()).prepend_label("1").unwrap()), None);
    }

    #[test]
    fn the_apex_encloses_the_name() {
        for (text, want) in [
            ("20.2.64.100.in-addr.arpa.", "64.100.in-addr.arpa."),
            ("100.in-addr.arpa.", "100.in-addr.arpa."),
            ("f.1.0.4.7.1.6.7.6.8.7.9.6.d.f.ip6.arpa.", "4.7.1.6.7.6.8.7.9.6.d.f.ip6.arpa."),
        ] {
            let name = name(text);
            let prefix = parse(&name).unwrap();
            assert_eq!(apex(&name, prefix).to_string(), want);
            assert!(apex(&name, prefix).zone_of(&name));
        }
    }
}
