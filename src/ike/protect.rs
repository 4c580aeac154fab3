//! Sealing and opening IKE messages (RFC 7296 section 3.14), in fragments where they are long (RFC 7383).
//!
//! An outer packet is at most [`OUTER_MTU_BYTES`] long, because IP fragments are what carriers and NATs lose. A message that
//! needs more goes as SKF payloads if the peer announced that it understands them, each sealed by itself. What must be longer
//! (IKE_SA_INIT, and everything for peers that do not) is left to IP fragments.

use std::ops::Range;

use crate::crypto::{Associated, PacketKey, Suite};
use crate::net::{Path, Port};
use crate::packet::Outbox;
use crate::wire::ike::{self, Fragment, Header, Payload, Protected};

/// What every IPv6 path carries; IPv4 paths that carry less are rare, and then IP fragments do it.
pub(super) const OUTER_MTU_BYTES: usize = 1280;
/// Before an IKE message on the NAT traversal port (RFC 3948 section 2.2).
const NON_ESP_MARKER: [u8; 4] = [0; 4];
const UDP_HEADER_BYTES: usize = 8;
/// IKE header, SK header.
const SEALED_HEADERS_BYTES: usize = 28 + 4;
/// IKE header, SKF header.
const FRAGMENT_HEADERS_BYTES: usize = 28 + 8;

/// Both directions of one IKE SA.
pub(super) struct Protection {
    suite: Suite,
    seal: PacketKey,
    open: PacketKey,
    /// Counts sealed messages and fragments: the IV of AEADs never repeats.
    counter: u64,
}

/// The inside of a message: type of the first payload, and all payloads as bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Inside {
    pub first: u8,
    pub bytes: Vec<u8>,
}

impl Inside {
    pub fn of(payloads: &[Payload]) -> Self {
        let (first, bytes) = ike::emit_payloads(payloads);
        Inside { first, bytes }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NotAuthentic;

impl Protection {
    pub fn new(suite: Suite, seal: PacketKey, open: PacketKey) -> Self {
        Protection { suite, seal, open, counter: 0 }
    }

    /// The datagrams that carry `inside`: one, or fragments of at most `fragment_bytes` each.
    pub fn seal(&mut self, header: &Header, inside: &Inside, fragment_bytes: Option<usize>) -> Vec<Vec<u8>> {
        let whole = self.message_bytes(inside.bytes.len());
        match fragment_bytes {
            Some(most) if whole > most => self.seal_fragments(header, inside, most),
            _ => vec![self.seal_one(header, inside.first, None, &inside.bytes)],
        }
    }

    fn seal_fragments(&mut self, header: &Header, inside: &Inside, most: usize) -> Vec<Vec<u8>> {
        let overhead = FRAGMENT_HEADERS_BYTES + self.suite.iv_bytes() + self.suite.icv_bytes();
        let room = most.saturating_sub(overhead);
        let chunk = (room - room % self.suite.block_bytes()).saturating_sub(1).max(64);
        let total = inside.bytes.len().div_ceil(chunk) as u16;
        let mut datagrams = Vec::with_capacity(total.into());
        for (number, bytes) in (1..).zip(inside.bytes.chunks(chunk)) {
            let first = if number == 1 { inside.first } else { 0 }; // RFC 7383 section 2.5
            datagrams.push(self.seal_one(header, first, Some(Fragment { number, total }), bytes));
        }
        datagrams
    }

    fn seal_one(&mut self, header: &Header, first: u8, fragment: Option<Fragment>, plain: &[u8]) -> Vec<u8> {
        let body_bytes = self.body_bytes(plain.len());
        let (mut message, associated, body) = ike::lay_out_protected(header, first, fragment, body_bytes);
        let padded = body_bytes - self.suite.iv_bytes() - self.suite.icv_bytes();
        let (head, tail) = message.split_at_mut(body.start);
        let inside = &mut tail[self.suite.iv_bytes()..][..padded];
        inside[..plain.len()].copy_from_slice(plain);
        inside[padded - 1] = (padded - 1 - plain.len()) as u8;
        self.seal.seal(Associated::Ike(&head[associated]), self.counter, &mut tail[..body_bytes]);
        self.counter += 1;
        message
    }

    /// A whole message around so many bytes of payloads.
    pub fn message_bytes(&self, plain: usize) -> usize {
        SEALED_HEADERS_BYTES + self.body_bytes(plain)
    }

    /// The most bytes of payloads whose message is no longer than `message`.
    pub fn plain_within(&self, message: usize) -> usize {
        let room = message.saturating_sub(self.message_bytes(0) - self.suite.block_bytes());
        (room - room % self.suite.block_bytes()).saturating_sub(1)
    }

    /// The most bytes of payloads whose message is the shortest of all that are no shorter than `message`.
    pub fn plain_reaching(&self, message: usize) -> usize {
        let room = message.saturating_sub(self.message_bytes(0) - self.suite.block_bytes());
        room.next_multiple_of(self.suite.block_bytes()).saturating_sub(1)
    }

    /// IV, plaintext, padding, its length, ICV.
    fn body_bytes(&self, plain: usize) -> usize {
        self.suite.iv_bytes() + (plain + 1).next_multiple_of(self.suite.block_bytes()) + self.suite.icv_bytes()
    }

    /// The plaintext without padding.
    pub fn open(&self, datagram: &[u8], protected: &Protected) -> Result<Vec<u8>, NotAuthentic> {
        let associated = slice(datagram, &protected.associated)?;
        let mut body = slice(datagram, &protected.body)?.to_vec();
        let plain = self.open.open(Associated::Ike(associated), &mut body).map_err(|_| NotAuthentic)?;
        let (&pad, padded) = body.get(plain.clone()).and_then(|plain| plain.split_last()).ok_or(NotAuthentic)?;
        let len = padded.len().checked_sub(pad.into()).ok_or(NotAuthentic)?;
        let start = plain.start;
        body.truncate(start + len);
        body.drain(..start);
        Ok(body)
    }
}

fn slice<'a>(bytes: &'a [u8], range: &Range<usize>) -> Result<&'a [u8], NotAuthentic> {
    bytes.get(range.clone()).ok_or(NotAuthentic)
}

/// The longest IKE message that fits into one outer packet on this path.
pub(super) fn most_bytes(path: &Path) -> usize {
    IpSize::on(path).base_message()
}

/// Lengths of IKE messages and of the outer IP packets around them, on one path.
#[derive(Clone, Copy, Debug)]
pub(super) struct IpSize {
    around: usize,
    marker: usize,
}

impl IpSize {
    pub fn on(path: &Path) -> Self {
        let ip_header = if path.remote.is_ipv4() { 20 } else { 40 };
        let marker = if path.port == Port::IkeNatT { NON_ESP_MARKER.len() } else { 0 };
        IpSize { around: ip_header + UDP_HEADER_BYTES, marker }
    }

    /// The message in an IP packet of so many bytes.
    pub fn message(&self, outer: u16) -> usize {
        usize::from(outer).saturating_sub(self.around + self.marker)
    }

    /// The IP packet around a message.
    pub fn outer(&self, message: usize) -> usize {
        message + self.around + self.marker
    }

    /// The longest message that every path carries. On every port as if the marker were there: a peer may change ports.
    pub fn base_message(&self) -> usize {
        OUTER_MTU_BYTES - self.around - NON_ESP_MARKER.len()
    }
}

/// Sends datagrams on a path; on the NAT traversal port with the marker in front. What finds no room is lost, and sent
/// again like anything that is lost. Whatever its length, the path may cut it: it must arrive before anything is known of the
/// path, and over IPv4 paths that carry less than [`OUTER_MTU_BYTES`].
pub(super) fn transmit(datagrams: &[Vec<u8>], path: &Path, outbox: &mut Outbox) {
    outbox.let_fragment(true);
    transmit_whole(datagrams, path, outbox);
    outbox.let_fragment(false);
}

/// The same, each in one whole IP packet or not at all.
pub(super) fn transmit_whole(datagrams: &[Vec<u8>], path: &Path, outbox: &mut Outbox) {
    let marker: &[u8] = if path.port == Port::IkeNatT { &NON_ESP_MARKER } else { &[] };
    for datagram in datagrams {
        let len = marker.len() + datagram.len();
        let Some(space) = outbox.space(len) else { return };
        let (front, rest) = space.split_at_mut(marker.len());
        front.copy_from_slice(marker);
        rest.copy_from_slice(datagram);
        outbox.commit(*path, false, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Cipher, Integrity};
    use crate::wire::ike::{ExchangeType, Flags, Limits, find_protected, parse_header};

    const SUITES: [Suite; 3] = [
        Suite { cipher: Cipher::AesGcm256, integrity: None },
        Suite { cipher: Cipher::ChaCha20Poly1305, integrity: None },
        Suite { cipher: Cipher::AesCbc128, integrity: Some(Integrity::HmacSha512_256) },
    ];

    fn pair(suite: Suite) -> (Protection, Protection) {
        let key = |byte| {
            let (cipher, integrity) = (vec![byte; suite.cipher_key_bytes()], vec![byte; suite.integrity_key_bytes()]);
            PacketKey::new(suite, &cipher, &integrity).unwrap()
        };
        (Protection::new(suite, key(1), key(2)), Protection::new(suite, key(2), key(1)))
    }

    fn header() -> Header {
        Header::new((1, 2), ExchangeType::INFORMATIONAL, Flags { initiator: true, response: false }, 7)
    }

    fn open(by: &Protection, datagram: &[u8]) -> Result<(u8, Vec<u8>), NotAuthentic> {
        let header = parse_header(datagram).map_err(|_| NotAuthentic)?;
        let protected = find_protected(header.next_payload, datagram, &Limits::default());
        let protected = protected.map_err(|_| NotAuthentic)?.ok_or(NotAuthentic)?;
        Ok((protected.inner_first, by.open(datagram, &protected)?))
    }

    #[test]
    fn what_is_sealed_is_opened_whatever_its_length() {
        for suite in SUITES {
            let (mut ours, theirs) = pair(suite);
            for len in 0..70 {
                let inside = Inside { first: 41, bytes: vec![len; len.into()] };
                let [datagram] = ours.seal(&header(), &inside, Some(1248)).try_into().unwrap();
                assert_eq!(open(&theirs, &datagram), Ok((41, inside.bytes)));
                assert_eq!(open(&ours, &datagram), Err(NotAuthentic), "not by the side that sealed it");
            }
        }
    }

    #[test]
    fn any_changed_bit_is_noticed() {
        let (mut ours, theirs) = pair(SUITES[0]);
        let inside = Inside { first: 41, bytes: vec![5; 20] };
        let [datagram] = ours.seal(&header(), &inside, None).try_into().unwrap();
        for bit in 0..datagram.len() * 8 {
            let mut damaged = datagram.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&theirs, &damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn long_messages_go_in_fragments_that_fit() {
        for suite in SUITES {
            let (mut ours, theirs) = pair(suite);
            let inside = Inside { first: 35, bytes: (0..5000u32).map(|n| n as u8).collect() };
            let datagrams = ours.seal(&header(), &inside, Some(1248));
            assert_eq!(datagrams.len(), 5, "no more than needed");
            assert!(datagrams.iter().all(|datagram| datagram.len() <= 1248));
            let opened: Vec<(u8, Vec<u8>)> =
                datagrams.iter().map(|datagram| open(&theirs, datagram).unwrap()).collect();
            assert_eq!(opened.iter().map(|(first, _)| *first).collect::<Vec<_>>(), [35, 0, 0, 0, 0]);
            assert_eq!(opened.into_iter().flat_map(|(_, plain)| plain).collect::<Vec<u8>>(), inside.bytes);
            assert_eq!(ours.seal(&header(), &inside, None).len(), 1, "not for a peer that cannot");
        }
    }

    #[test]
    fn only_the_nat_traversal_port_has_the_marker() {
        let remote = ([192, 0, 2, 1], 4500).into();
        let mut outbox = Outbox::new(1000, 10);
        transmit(&[vec![9; 30]], &Path::from_port(Port::IkeNatT, remote), &mut outbox);
        transmit(&[vec![9; 30]], &Path::from_port(Port::Ike, remote), &mut outbox);
        let sent: Vec<Vec<u8>> = outbox.datagrams().map(|(_, _, bytes)| bytes.to_vec()).collect();
        assert_eq!(sent, [[vec![0; 4], vec![9; 30]].concat(), vec![9; 30]]);
        assert_eq!(most_bytes(&Path::from_port(Port::Ike, remote)), 1248);
        assert_eq!(most_bytes(&Path::from_port(Port::Ike, "[2001:db8::1]:500".parse().unwrap())), 1228);
    }
}
