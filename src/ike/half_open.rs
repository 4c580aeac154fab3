//! IKE SAs whose peer has not yet proved who it is: how many, from where, and cookies (RFC 7296 section 2.6).
//!
//! A cookie says: the sender of this nonce and SPI receives at this address. It is an HMAC under a secret that changes
//! every [`COOKIE_SECS`], made from nothing that we would have to remember.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use super::limits::Limits;
use super::window;
use crate::crypto::Prf;
use crate::net::{Path, Timestamp};

/// A cookie is accepted for one to two of these.
const COOKIE_SECS: u64 = 60;
const COOKIE_BYTES: usize = 32;
/// The longest IKE_SA_INIT that is kept until IKE_AUTH. The longest that we know, with every group and vendor's mark, has
/// two thousand bytes.
pub(super) const MAX_REQUEST_BYTES: usize = 8 * 1024;
/// How often the answer to an IKE_SA_INIT is sent again: an initiator asks a dozen times (RFC 7296 section 2.4), and
/// whoever wrote another's address on the request shall not have us send to it for ever.
pub(super) const MAX_REPEATS: u32 = 16;

/// Two requests with the same key are the same bytes from the same address.
pub(super) type RequestKey = [u8; 16];

pub(super) struct HalfOpen {
    secret: Zeroizing<[u8; 32]>,
    by_request: BTreeMap<RequestKey, Entry>,
    per_source: BTreeMap<IpAddr, usize>,
    /// Those with fragments that wait, by when the first of them came.
    with_fragments: BTreeMap<u64, RequestKey>,
    fragment_bytes: usize,
    fragments_begun: u64,
}

struct Entry {
    spi: u64,
    source: IpAddr,
    repeats: u32,
    /// Place in `with_fragments`, and bytes.
    fragments: Option<(u64, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    Welcome,
    /// Only with a cookie.
    ProveAddress,
    /// Not now: so many are there already.
    Full(usize),
}

impl HalfOpen {
    pub fn new(secret: [u8; 32]) -> Self {
        HalfOpen {
            secret: Zeroizing::new(secret),
            by_request: BTreeMap::new(),
            per_source: BTreeMap::new(),
            with_fragments: BTreeMap::new(),
            fragment_bytes: 0,
            fragments_begun: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.by_request.len()
    }

    pub fn key(&self, path: &Path, datagram: &[u8]) -> RequestKey {
        let (ip, port) = address_bytes(path);
        let digest = window::digest(datagram);
        let key = Prf::HmacSha256.compute(self.secret.as_slice(), &[b"request", &ip, &port, &digest]);
        key.first_chunk().copied().unwrap_or_default()
    }

    /// Our SPI in the answer that we gave to these bytes, and whether it may be given again. It is then counted.
    pub fn repeat(&mut self, key: &RequestKey) -> Option<(u64, bool)> {
        let entry = self.by_request.get_mut(key)?;
        let may_repeat = entry.repeats < MAX_REPEATS;
        entry.repeats += u32::from(may_repeat);
        Some((entry.spi, may_repeat))
    }

    /// `is_expected`: a peer is configured at this address; the last quarter of the table is for those. A source's first
    /// quarter is for those who do not prove that they are there: whoever writes its address on datagrams gets no further.
    pub fn admission(&self, path: &Path, is_expected: bool, limits: &Limits) -> Admission {
        let from_source = self.per_source.get(&source(path)).copied().unwrap_or(0);
        let room = if is_expected { limits.half_open } else { limits.half_open - limits.half_open / 4 };
        if self.len() >= room {
            return Admission::Full(room);
        }
        if from_source >= limits.half_open_per_source {
            return Admission::Full(limits.half_open_per_source);
        }
        match self.len() >= limits.cookie_threshold || from_source >= limits.half_open_per_source.div_ceil(4) {
            true => Admission::ProveAddress,
            false => Admission::Welcome,
        }
    }

    pub fn insert(&mut self, key: RequestKey, path: &Path, spi: u64) {
        let source = source(path);
        if self.by_request.insert(key, Entry { spi, source, repeats: 0, fragments: None }).is_none() {
            *self.per_source.entry(source).or_default() += 1;
        }
    }

    /// So many bytes of fragments wait now with one of them.
    pub fn note_fragments(&mut self, key: &RequestKey, bytes: usize) {
        let Some(entry) = self.by_request.get_mut(key) else { return };
        let before = entry.fragments.take();
        self.fragment_bytes -= before.map_or(0, |(_, bytes)| bytes);
        if bytes == 0 {
            before.map(|(place, _)| self.with_fragments.remove(&place));
            return;
        }
        let place = before.map_or(self.fragments_begun, |(place, _)| place);
        if before.is_none() {
            self.fragments_begun += 1;
            self.with_fragments.insert(place, *key);
        }
        self.fragment_bytes += bytes;
        entry.fragments = Some((place, bytes));
    }

    /// While there are more bytes of fragments than that: who has the oldest, by our SPI.
    pub fn first_beyond(&self, fragment_bytes: usize) -> Option<u64> {
        let (_, key) = self.with_fragments.first_key_value().filter(|_| self.fragment_bytes > fragment_bytes)?;
        self.by_request.get(key).map(|entry| entry.spi)
    }

    pub fn remove(&mut self, key: &RequestKey) {
        self.note_fragments(key, 0);
        let Some(entry) = self.by_request.remove(key) else { return };
        if let Some(count) = self.per_source.get_mut(&entry.source) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&entry.source);
            }
        }
    }

    pub fn cookie(&self, path: &Path, spi: u64, nonce: &[u8], now: Timestamp) -> Vec<u8> {
        self.cookie_of(path, spi, nonce, now.as_micros() / (COOKIE_SECS * 1_000_000))
    }

    pub fn is_our_cookie(&self, cookie: &[u8], path: &Path, spi: u64, nonce: &[u8], now: Timestamp) -> bool {
        let epoch = now.as_micros() / (COOKIE_SECS * 1_000_000);
        [epoch, epoch.wrapping_sub(1)]
            .iter()
            .any(|&epoch| verify_slices_are_equal(&self.cookie_of(path, spi, nonce, epoch), cookie).is_ok())
    }

    fn cookie_of(&self, path: &Path, spi: u64, nonce: &[u8], epoch: u64) -> Vec<u8> {
        let (ip, port) = address_bytes(path);
        let parts: [&[u8]; 6] = [b"cookie", &epoch.to_be_bytes(), &ip, &port, &spi.to_be_bytes(), nonce];
        let mut cookie = Prf::HmacSha256.compute(self.secret.as_slice(), &parts).to_vec();
        cookie.truncate(COOKIE_BYTES);
        cookie
    }
}

/// IPv6 sources count by /64: that is what one customer has.
fn source(path: &Path) -> IpAddr {
    match path.remote.ip() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => std::net::Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX)).into(),
    }
}

fn address_bytes(path: &Path) -> ([u8; 16], [u8; 2]) {
    let ip = match path.remote.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    (ip.octets(), path.remote.port().to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Port;

    fn path(last: u8, port: u16) -> Path {
        Path::from_port(Port::Ike, ([192, 0, 2, last], port).into())
    }

    #[test]
    fn a_cookie_is_good_for_its_sender_nonce_and_spi_for_a_minute_or_two() {
        let table = HalfOpen::new([1; 32]);
        let now = Timestamp::from_secs(1000);
        let cookie = table.cookie(&path(1, 500), 7, b"nonce", now);
        assert!((1..=64).contains(&cookie.len()), "section 2.6");
        let good =
            |path, spi, nonce: &[u8], secs| table.is_our_cookie(&cookie, &path, spi, nonce, Timestamp::from_secs(secs));
        assert!(good(path(1, 500), 7, b"nonce", 1000) && good(path(1, 500), 7, b"nonce", 1060));
        assert!(!good(path(1, 500), 7, b"nonce", 1130));
        assert!(!good(path(2, 500), 7, b"nonce", 1000));
        assert!(!good(path(1, 501), 7, b"nonce", 1000));
        assert!(!good(path(1, 500), 8, b"nonce", 1000));
        assert!(!good(path(1, 500), 7, b"other", 1000));
        assert!(!table.is_our_cookie(&[], &path(1, 500), 7, b"nonce", now));
        assert!(!HalfOpen::new([2; 32]).is_our_cookie(&cookie, &path(1, 500), 7, b"nonce", now));
    }

    #[test]
    fn half_open_sas_are_bounded_per_source_and_in_all() {
        let limits = Limits { half_open: 8, half_open_per_source: 5, cookie_threshold: 5, ..Limits::default() };
        let mut table = HalfOpen::new([1; 32]);
        let add = |table: &mut HalfOpen, source: u8, n: u8| {
            let key = table.key(&path(source, 500), &[n]);
            table.insert(key, &path(source, 500), n.into());
            key
        };
        let admission = |table: &HalfOpen, n, port| table.admission(&path(n, port), false, &limits);
        let first = add(&mut table, 1, 1);
        assert_eq!(admission(&table, 1, 500), Admission::Welcome);
        add(&mut table, 1, 2);
        assert_eq!(admission(&table, 1, 500), Admission::ProveAddress, "a second quarter only for who is there");
        assert_eq!(admission(&table, 2, 500), Admission::Welcome);
        (3..6).for_each(|n| assert_ne!(add(&mut table, 1, n), first));
        assert_eq!(admission(&table, 1, 4500), Admission::Full(5), "this source");
        assert_eq!(admission(&table, 3, 500), Admission::ProveAddress);
        add(&mut table, 6, 6);
        assert_eq!(admission(&table, 9, 500), Admission::Full(6), "in all");
        assert_eq!(table.admission(&path(9, 500), true, &limits), Admission::ProveAddress, "the rest is for peers");
        (7..9).for_each(|n| assert_ne!(add(&mut table, n, n), first));
        assert_eq!(table.admission(&path(9, 500), true, &limits), Admission::Full(8));
        assert_eq!((0..20).filter(|_| table.repeat(&first) == Some((1, true))).count(), MAX_REPEATS as usize);
        table.remove(&first);
        table.remove(&first);
        assert_eq!((table.len(), table.repeat(&first)), (7, None));
        assert_eq!(table.per_source.len(), 4, "1 has some left");
    }

    #[test]
    fn an_ipv6_source_is_its_64_bit_prefix() {
        let of = |text: &str| source(&Path::from_port(Port::Ike, text.parse().unwrap()));
        assert_eq!(of("[2001:db8::1]:500"), of("[2001:db8::ffff:2]:500"));
        assert_ne!(of("[2001:db8:0:1::1]:500"), of("[2001:db8::1]:500"));
    }
}
