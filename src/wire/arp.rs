//! ARP for IPv4 over Ethernet (RFC 826).
//!
//! ```text
//!  0: hardware type, 1  2: protocol, 0x0800  4: lengths, 6 and 4  6: operation
//!  8: sender MAC  14: sender address  18: target MAC  24: target address
//! ```

use std::net::Ipv4Addr;

use crate::net::Mac;

pub const BYTES: usize = 28;
/// What all that we understand begins with.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Request,
    Reply,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    pub operation: Operation,
    pub sender_mac: Mac,
    pub sender: Ipv4Addr,
    pub target_mac: Mac,
    pub target: Ipv4Addr,
}

/// `None`: cut short, or about other hardware, another protocol or another operation.
pub fn parse(bytes: &[u8]) -> Option<Packet> {
    let bytes: &[u8; BYTES] = bytes.first_chunk()?;
    let operation = match bytes[6..8] {
        [0, 1] => Operation::Request,
        [0, 2] => Operation::Reply,
        _ => return None,
    };
    (bytes[..6] == KIND).then_some(Packet {
        operation,
        sender_mac: Mac(*bytes[8..].first_chunk()?),
        sender: Ipv4Addr::from(*bytes[14..].first_chunk::<4>()?),
        target_mac: Mac(*bytes[18..].first_chunk()?),
        target: Ipv4Addr::from(*bytes[24..].first_chunk::<4>()?),
    })
}

pub fn emit(packet: &Packet) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    out[..6].copy_from_slice(&KIND);
    out[7] = match packet.operation {
        Operation::Request => 1,
        Operation::Reply => 2,
    };
    out[8..14].copy_from_slice(&packet.sender_mac.0);
    out[14..18].copy_from_slice(&packet.sender.octets());
    out[18..24].copy_from_slice(&packet.target_mac.0);
    out[24..].copy_from_slice(&packet.target.octets());
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A request as Linux sends it.
    const REQUEST: [u8; BYTES] =
        [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 172, 20, 0, 2, 0, 0, 0, 0, 0, 0, 172, 20, 0, 1];

    #[test]
    fn reads_and_writes_what_others_do() {
        let packet = parse(&[&REQUEST[..], &[0; 18]].concat()).unwrap(); // padded to Ethernet's minimum
        let expected = Packet {
            operation: Operation::Request,
            sender_mac: Mac([2, 0, 0, 0, 0, 1]),
            sender: Ipv4Addr::new(172, 20, 0, 2),
            target_mac: Mac::default(),
            target: Ipv4Addr::new(172, 20, 0, 1),
        };
        assert_eq!(packet, expected);
        assert_eq!(emit(&packet), REQUEST);
        let reply = Packet { operation: Operation::Reply, target_mac: Mac([2, 0, 0, 0, 0, 9]), ..packet };
        assert_eq!(parse(&emit(&reply)), Some(reply));
    }

    #[test]
    fn what_is_about_something_else_is_refused() {
        for at in 0..8 {
            let mut bytes = REQUEST;
            bytes[at] ^= 0x40;
            assert_eq!(parse(&bytes), None, "byte {at}");
        }
        assert_eq!(parse(&REQUEST[..BYTES - 1]), None, "cut short");
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let bytes = [&REQUEST[..8], &bytes].concat();
            if let Some(packet) = parse(&bytes) {
                prop_assert_eq!(&emit(&packet)[..], &bytes[..BYTES]);
            }
        }
    }
}
