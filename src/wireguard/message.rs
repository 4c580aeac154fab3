//! The outside of a WireGuard message: its kind, and the index that says whose it is.
//!
//! ```text
//! 0       4               8               16
//! | type  | receiver idx  | counter       | encrypted packet, 16-byte tag     data (4)
//! | type  | receiver idx  | nonce, cookie                                     cookie reply (3)
//! | type  | sender idx    | receiver idx  | Noise, mac1, mac2                 response (2)
//! | type  | sender idx    | Noise, mac1, mac2                                 initiation (1)
//! ```
//!
//! The type is one byte followed by three zero bytes; numbers are little-endian.

use super::mac::MACS_BYTES;
use super::noise::{INITIATION_OVERHEAD_BYTES, RESPONSE_OVERHEAD_BYTES};
use super::primitives::TAG_BYTES;
use super::tai64n::STAMP_BYTES;

pub const INITIATION_BYTES: usize = 148;
pub const RESPONSE_BYTES: usize = 92;
pub const COOKIE_REPLY_BYTES: usize = 64;
pub const DATA_HEADER_BYTES: usize = 16;
/// A data message around an empty packet: a keepalive. Also what sealing adds to a packet, besides padding.
pub const DATA_OVERHEAD_BYTES: usize = DATA_HEADER_BYTES + TAG_BYTES;
/// The first four bytes of a data message, as a number: its type.
const DATA: u32 = 4;
const INITIATION_HEADER_BYTES: usize = 8;
const RESPONSE_HEADER_BYTES: usize = 12;

const _: () = assert!(
    INITIATION_HEADER_BYTES + INITIATION_OVERHEAD_BYTES + STAMP_BYTES + MACS_BYTES == INITIATION_BYTES
        && RESPONSE_HEADER_BYTES + RESPONSE_OVERHEAD_BYTES + MACS_BYTES == RESPONSE_BYTES
);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    Initiation(Initiation<'a>),
    Response(Response<'a>),
    CookieReply { receiver_index: u32 },
    Data(Data<'a>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Initiation<'a> {
    pub sender_index: u32,
    pub noise: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Response<'a> {
    pub sender_index: u32,
    pub receiver_index: u32,
    pub noise: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Data<'a> {
    pub receiver_index: u32,
    pub counter: u64,
    /// The packet and its tag: at least a tag.
    pub sealed: &'a [u8],
}

impl<'a> Data<'a> {
    /// `None`: no data message.
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Option<Data<'a>> {
        let (&header, sealed) = datagram.split_first_chunk::<DATA_HEADER_BYTES>()?;
        let [kind, receiver_index, low, high] = words(header);
        let is_data = kind == DATA && datagram.len() >= DATA_OVERHEAD_BYTES;
        is_data.then_some(Data { receiver_index, counter: u64::from(high) << 32 | u64::from(low), sealed })
    }
}

/// The counter of a message that is known to be one of data, and what is sealed of it.
#[inline]
pub fn split_data(datagram: &[u8]) -> Option<(u64, &[u8])> {
    let (header, sealed) = datagram.split_first_chunk::<DATA_HEADER_BYTES>()?;
    let counter = header.last_chunk().map(|counter| u64::from_le_bytes(*counter))?;
    (sealed.len() >= TAG_BYTES).then_some((counter, sealed))
}

impl<'a> Message<'a> {
    /// `None`: no WireGuard message (unknown type, reserved bytes not zero, or the wrong length for its type).
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Option<Message<'a>> {
        if let Some(data) = Data::parse(datagram) {
            return Some(Message::Data(data));
        }
        let [kind, second, third, _] = words(*datagram.first_chunk()?);
        match (kind, datagram.len()) {
            (1, INITIATION_BYTES) => {
                let noise = datagram.get(INITIATION_HEADER_BYTES..INITIATION_BYTES - MACS_BYTES)?;
                Some(Message::Initiation(Initiation { sender_index: second, noise }))
            }
            (2, RESPONSE_BYTES) => {
                let noise = datagram.get(RESPONSE_HEADER_BYTES..RESPONSE_BYTES - MACS_BYTES)?;
                Some(Message::Response(Response { sender_index: second, receiver_index: third, noise }))
            }
            (3, COOKIE_REPLY_BYTES) => Some(Message::CookieReply { receiver_index: second }),
            _ => None,
        }
    }
}

/// Writes the header of an initiation; the place for Noise's part. `message` must be [`INITIATION_BYTES`] long.
pub fn begin_initiation(message: &mut [u8], sender_index: u32) -> &mut [u8] {
    message[..4].copy_from_slice(&[1, 0, 0, 0]);
    message[4..8].copy_from_slice(&sender_index.to_le_bytes());
    &mut message[INITIATION_HEADER_BYTES..INITIATION_BYTES - MACS_BYTES]
}

/// The same for a response of [`RESPONSE_BYTES`].
pub fn begin_response(message: &mut [u8], sender_index: u32, receiver_index: u32) -> &mut [u8] {
    message[..4].copy_from_slice(&[2, 0, 0, 0]);
    message[4..8].copy_from_slice(&sender_index.to_le_bytes());
    message[8..12].copy_from_slice(&receiver_index.to_le_bytes());
    &mut message[RESPONSE_HEADER_BYTES..RESPONSE_BYTES - MACS_BYTES]
}

/// The header of a data message.
#[inline]
pub fn data_header(receiver_index: u32, counter: u64) -> [u8; DATA_HEADER_BYTES] {
    (u128::from(DATA) | u128::from(receiver_index) << 32 | u128::from(counter) << 64).to_le_bytes()
}

#[inline]
fn words(header: [u8; DATA_HEADER_BYTES]) -> [u32; 4] {
    let all = u128::from_le_bytes(header);
    [all as u32, (all >> 32) as u32, (all >> 64) as u32, (all >> 96) as u32]
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
        let initiation = datagram(1, 148);
        let parsed = Initiation { sender_index: 0x0706_0504, noise: &initiation[8..116] };
        assert_eq!(Message::parse(&initiation), Some(Message::Initiation(parsed)));
        let response = datagram(2, 92);
        let parsed = Response { sender_index: 0x0706_0504, receiver_index: 0x0b0a_0908, noise: &response[12..60] };
        assert_eq!(Message::parse(&response), Some(Message::Response(parsed)));
        assert_eq!(Message::parse(&datagram(3, 64)), Some(Message::CookieReply { receiver_index: 0x0706_0504 }));
        for len in [32, 33, 1500] {
            let data = datagram(4, len);
            let parsed = Data { receiver_index: 0x0706_0504, counter: 0x0f0e_0d0c_0b0a_0908, sealed: &data[16..] };
            assert_eq!(Message::parse(&data), Some(Message::Data(parsed)));
            assert_eq!(data_header(parsed.receiver_index, parsed.counter), data[..16]);
        }
    }

    #[test]
    fn what_is_begun_is_parsed() {
        let mut initiation = [9; INITIATION_BYTES];
        begin_initiation(&mut initiation, 0x0403_0201).fill(7);
        let parsed = Initiation { sender_index: 0x0403_0201, noise: &[7; 108] };
        assert_eq!(Message::parse(&initiation), Some(Message::Initiation(parsed)));
        let mut response = [9; RESPONSE_BYTES];
        begin_response(&mut response, 0x0403_0201, 5).fill(7);
        let parsed = Response { sender_index: 0x0403_0201, receiver_index: 5, noise: &[7; 48] };
        assert_eq!(Message::parse(&response), Some(Message::Response(parsed)));
    }

    #[test]
    fn anything_else_is_no_message() {
        for (kind, len) in [(0, 148), (1, 147), (1, 149), (2, 91), (3, 65), (4, 31), (5, 148), (1, 3), (4, 0), (4, 15)]
        {
            assert_eq!(Message::parse(&datagram(kind, len)), None, "type {kind}, {len} bytes");
        }
        let mut reserved = datagram(4, 64);
        reserved[2] = 1;
        assert_eq!(Message::parse(&reserved), None);
    }
}
