//! The outside of a WireGuard message: its kind, and the index that says whose it is.
//!
//! ```text
//! 0       4               8               16
//! | type  | receiver idx  | counter       | encrypted packet, 16-byte tag     data (4)
//! | type  | receiver idx  | nonce, cookie                                     cookie reply (3)
//! | type  | sender idx    | receiver idx  | ...                               response (2)
//! | type  | sender idx    | ...                                               initiation (1)
//! ```
//!
//! The type is one byte followed by three zero bytes; numbers are little-endian.

pub const INITIATION_BYTES: usize = 148;
pub const RESPONSE_BYTES: usize = 92;
pub const COOKIE_REPLY_BYTES: usize = 64;
/// A data message around an empty packet: a keepalive. Also what sealing adds to a packet.
pub const DATA_OVERHEAD_BYTES: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    Initiation,
    Response { receiver_index: u32 },
    CookieReply { receiver_index: u32 },
    Data { receiver_index: u32, counter: u64 },
}

impl Message {
    /// `None`: no WireGuard message (unknown type, reserved bytes not zero, or the wrong length for its type).
    pub fn parse(datagram: &[u8]) -> Option<Message> {
        match (u32_at(datagram, 0)?, datagram.len()) {
            (4, DATA_OVERHEAD_BYTES..) => {
                Some(Message::Data { receiver_index: u32_at(datagram, 4)?, counter: u64_at(datagram, 8)? })
            }
            (1, INITIATION_BYTES) => Some(Message::Initiation),
            (2, RESPONSE_BYTES) => Some(Message::Response { receiver_index: u32_at(datagram, 8)? }),
            (3, COOKIE_REPLY_BYTES) => Some(Message::CookieReply { receiver_index: u32_at(datagram, 4)? }),
            _ => None,
        }
    }
}

/// The index that the sender of a response chose for the new session.
pub fn sender_index(handshake: &[u8]) -> Option<u32> {
    u32_at(handshake, 4)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(kind: u8, len: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..len as u32).map(|i| i as u8).collect();
        let head = [kind, 0, 0, 0];
        bytes.iter_mut().zip(head).for_each(|(byte, value)| *byte = value);
        bytes
    }

    #[test]
    fn each_kind_is_known_by_type_and_length() {
        assert_eq!(Message::parse(&datagram(1, 148)), Some(Message::Initiation));
        assert_eq!(Message::parse(&datagram(2, 92)), Some(Message::Response { receiver_index: 0x0b0a_0908 }));
        assert_eq!(Message::parse(&datagram(3, 64)), Some(Message::CookieReply { receiver_index: 0x0706_0504 }));
        let data = Message::Data { receiver_index: 0x0706_0504, counter: 0x0f0e_0d0c_0b0a_0908 };
        assert_eq!(Message::parse(&datagram(4, 32)), Some(data));
        assert_eq!(Message::parse(&datagram(4, 1500)), Some(data));
    }

    #[test]
    fn anything_else_is_no_message() {
        for (kind, len) in [(0, 148), (1, 147), (1, 149), (2, 91), (3, 65), (4, 31), (5, 148), (1, 3), (4, 0)] {
            assert_eq!(Message::parse(&datagram(kind, len)), None, "type {kind}, {len} bytes");
        }
        let mut reserved = datagram(4, 64);
        reserved[2] = 1;
        assert_eq!(Message::parse(&reserved), None);
    }
}
