//! mac1, mac2 and cookies: what a handshake message must show before it is worth a Diffie-Hellman.
//!
//! ```text
//! | message ... | mac1, 16 | mac2, 16 |
//! mac1 = MAC(HASH("mac1----", receiver's public key), message)     always: the sender knows whom it calls
//! mac2 = MAC(cookie, message with mac1)                            under load: the sender receives at its address
//! ```
//!
//! A cookie is a MAC over the sender's address and port under a secret that changes every [`SECRET_LIFETIME`]; so we
//! remember nothing of those to whom we gave one. It travels sealed to the mac1 of the message that it answers, which only
//! somebody on the way can have seen.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use super::message::COOKIE_REPLY_BYTES;
use super::primitives::{Random, hash, mac, xopen, xseal};
use crate::net::Timestamp;

const LABEL_MAC1: &[u8] = b"mac1----";
const LABEL_COOKIE: &[u8] = b"cookie--";
const MAC_BYTES: usize = 16;
/// Both macs, at the end of each handshake message.
pub const MACS_BYTES: usize = 2 * MAC_BYTES;
const SECRET_LIFETIME: Duration = Duration::from_secs(120);
/// A cookie that is older may have been made with a secret that will be gone when it arrives.
const COOKIE_LIFETIME: Duration = Duration::from_secs(115);
const COOKIE_NONCE_BYTES: usize = 24;

type Mac = [u8; MAC_BYTES];

/// A handshake message taken apart. `None`: too short.
struct Parts<'a> {
    message: &'a [u8],
    mac1: &'a Mac,
    mac2: &'a Mac,
}

impl<'a> Parts<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let (rest, mac2) = bytes.split_last_chunk()?;
        let (message, mac1) = rest.split_last_chunk()?;
        Some(Parts { message, mac1, mac2 })
    }
}

/// What both macs towards one receiver are made with.
struct Keys {
    mac1: [u8; 32],
    cookie: [u8; 32],
}

impl Keys {
    fn towards(receiver: &[u8; 32]) -> Self {
        Keys { mac1: hash(&[LABEL_MAC1, receiver]), cookie: hash(&[LABEL_COOKIE, receiver]) }
    }
}

/// Our side of the macs in messages to us.
pub struct Gatekeeper {
    keys: Keys,
    secret: Zeroizing<[u8; 32]>,
    secret_since: Option<Timestamp>,
}

impl Gatekeeper {
    pub fn new(our_public: &[u8; 32]) -> Self {
        Gatekeeper { keys: Keys::towards(our_public), secret: Zeroizing::default(), secret_since: None }
    }

    /// The message is meant for us.
    pub fn has_mac1(&self, message: &[u8]) -> bool {
        Parts::of(message).is_some_and(|parts| is_equal(parts.mac1, &mac(&self.keys.mac1, &[parts.message])))
    }

    /// The sender has a cookie that we sent to this address.
    pub fn has_mac2(&mut self, message: &[u8], source: SocketAddr, random: &mut Random, now: Timestamp) -> bool {
        let cookie = self.cookie_for(source, random, now);
        let parts = Parts::of(message);
        parts.is_some_and(|parts| is_equal(parts.mac2, &mac(&cookie, &[parts.message, parts.mac1])))
    }

    /// For a message of which mac1 is right. `None`: it is too short.
    pub fn cookie_reply(
        &mut self,
        message: &[u8],
        source: SocketAddr,
        random: &mut Random,
        now: Timestamp,
    ) -> Option<[u8; COOKIE_REPLY_BYTES]> {
        let parts = Parts::of(message)?;
        let cookie = self.cookie_for(source, random, now);
        let mut nonce = [0; COOKIE_NONCE_BYTES];
        random(&mut nonce);
        let mut reply = [0; COOKIE_REPLY_BYTES];
        reply[0] = 3;
        reply[4..8].copy_from_slice(message.get(4..8)?);
        reply[8..32].copy_from_slice(&nonce);
        xseal(&self.keys.cookie, &nonce, &cookie, parts.mac1, &mut reply[32..]);
        Some(reply)
    }

    fn cookie_for(&mut self, source: SocketAddr, random: &mut Random, now: Timestamp) -> Mac {
        if self.secret_since.is_none_or(|since| now.saturating_since(since) >= SECRET_LIFETIME) {
            random(&mut self.secret[..]);
            self.secret_since = Some(now);
        }
        let address = match source.ip().to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        mac(&self.secret[..], &[&address.octets(), &source.port().to_be_bytes()])
    }
}

/// Our side of the macs in messages to one peer.
pub struct Stamper {
    keys: Keys,
    /// The latest from the peer, and when it came.
    cookie: Option<(Zeroizing<Mac>, Timestamp)>,
    /// Of our last message, until a cookie reply has answered it.
    last_mac1: Option<Mac>,
}

impl Stamper {
    pub fn new(peer_public: &[u8; 32]) -> Self {
        Stamper { keys: Keys::towards(peer_public), cookie: None, last_mac1: None }
    }

    /// Fills in the last 32 bytes of a message of ours.
    pub fn stamp(&mut self, message: &mut [u8], now: Timestamp) {
        self.expire(now);
        let Some((rest, mac2)) = message.split_last_chunk_mut::<MAC_BYTES>() else { return };
        let Some((message, mac1)) = rest.split_last_chunk_mut::<MAC_BYTES>() else { return };
        *mac1 = mac(&self.keys.mac1, &[message]);
        *mac2 = match &self.cookie {
            Some((cookie, _)) => mac(&cookie[..], &[message, mac1]),
            None => [0; MAC_BYTES],
        };
        self.last_mac1 = Some(*mac1);
    }

    /// `false`: not authentic, or no answer to our last message. One reply counts for each message.
    pub fn accept_cookie(&mut self, reply: &[u8], now: Timestamp) -> bool {
        let Some(mac1) = self.last_mac1 else { return false };
        let Some((nonce, sealed)) = reply.get(8..).and_then(|rest| rest.split_first_chunk()) else { return false };
        let mut cookie = Zeroizing::new([0; MAC_BYTES]);
        let is_authentic = xopen(&self.keys.cookie, nonce, sealed, &mac1, &mut cookie[..]).is_some();
        if is_authentic {
            self.cookie = Some((cookie, now));
            self.last_mac1 = None;
        }
        is_authentic
    }

    /// When there will be something to erase.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.cookie.as_ref().map(|(_, since)| *since + COOKIE_LIFETIME)
    }

    pub fn expire(&mut self, now: Timestamp) {
        self.cookie.take_if(|(_, since)| now.saturating_since(*since) >= COOKIE_LIFETIME);
    }
}

fn is_equal(ours: &Mac, theirs: &Mac) -> bool {
    verify_slices_are_equal(ours, theirs).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::random;
    use super::*;

    const PUBLIC: [u8; 32] = [7; 32];

    fn source(port: u16) -> SocketAddr {
        ([203, 0, 113, 5], port).into()
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn mac1_is_the_keyed_hash_of_the_paper() {
        let message: Vec<u8> = (0..148).collect();
        let mut stamped = message.clone();
        Stamper::new(&PUBLIC).stamp(&mut stamped, at(0));
        assert_eq!(stamped[116..132], mac(&hash(&[b"mac1----", &PUBLIC]), &[&message[..116]]));
        assert_eq!(stamped[132..], [0; 16], "no cookie, no mac2");
        assert!(Gatekeeper::new(&PUBLIC).has_mac1(&stamped));
        assert!(!Gatekeeper::new(&[8; 32]).has_mac1(&stamped), "for somebody else");
        stamped[3] ^= 1;
        assert!(!Gatekeeper::new(&PUBLIC).has_mac1(&stamped));
        assert!(!Gatekeeper::new(&PUBLIC).has_mac1(&[0; 31]));
    }

    #[test]
    fn a_cookie_is_good_for_one_address_and_port_and_until_the_secret_changes() {
        let (mut ours, mut peer, mut random) = (Gatekeeper::new(&PUBLIC), Stamper::new(&PUBLIC), random(1));
        let mut message = [9; 92];
        peer.stamp(&mut message, at(0));
        assert!(!ours.has_mac2(&message, source(1), &mut random, at(0)));
        let reply = ours.cookie_reply(&message, source(1), &mut random, at(0)).unwrap();
        assert_eq!((reply[0], &reply[4..8]), (3, &message[4..8]));
        assert!(peer.accept_cookie(&reply, at(1)));
        assert!(!peer.accept_cookie(&reply, at(1)), "once for each message");

        peer.stamp(&mut message, at(2));
        assert!(ours.has_mac2(&message, source(1), &mut random, at(2)));
        assert!(!ours.has_mac2(&message, source(2), &mut random, at(2)));
        assert!(!ours.has_mac2(&message, ([203, 0, 113, 6], 1).into(), &mut random, at(2)));
        assert!(ours.has_mac2(&message, source(1), &mut random, at(119)));
        assert!(!ours.has_mac2(&message, source(1), &mut random, at(120)), "another secret");
    }

    #[test]
    fn a_cookie_is_used_for_a_while_only_and_a_damaged_reply_not_at_all() {
        let (mut ours, mut peer, mut random) = (Gatekeeper::new(&PUBLIC), Stamper::new(&PUBLIC), random(2));
        let mut message = [9; 148];
        assert!(!peer.accept_cookie(&[3; 64], at(0)), "to no question");
        peer.stamp(&mut message, at(0));
        let reply = ours.cookie_reply(&message, source(1), &mut random, at(0)).unwrap();
        for at_byte in 8..64 {
            let mut damaged = reply;
            damaged[at_byte] ^= 1;
            assert!(!peer.accept_cookie(&damaged, at(0)), "{at_byte}");
        }
        assert!(peer.accept_cookie(&reply, at(0)));
        peer.stamp(&mut message, at(114));
        assert_ne!(message[132..], [0; 16]);
        peer.stamp(&mut message, at(115));
        assert_eq!(message[132..], [0; 16]);
    }
}
