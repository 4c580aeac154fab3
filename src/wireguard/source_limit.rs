//! Under load, so many handshakes a second from one address and no more.
//!
//! All initiations made for our key are counted; beyond the configured number in a second we are under load, and a cookie
//! is asked for. Responses are counted apart, up to [`MIN_RESPONSES`] at least: our own calls bring them, 512 in a second
//! after a start, and neither may these keep callers out nor callers them. Whoever shows one has proved its source address, and takes a token from the bucket of that
//! address, as in the kernel's WireGuard: [`PER_SECOND`], at most [`BURST`] at once. So that many cookies do not buy many
//! Diffie-Hellmans, and since addresses can be had without end too (an IPv6 /48 has 65,536 sites), all of them together
//! are bounded as well, by [`PROVED_FACTOR`]: beyond it handshakes suffer, but not the packets of tunnels that run.
//!
//! Not under load nobody is limited: ten thousand gateways behind one address renew their keys 83 times a second, and a
//! source address that nobody proved must not be able to use up the tokens of the gateway that it pretends to be.
//!
//! The table has a fixed size. An address has [`WAYS`] places, found by a hash that outsiders cannot foresee; when all
//! are taken, it gets that of the one that called longest ago.

use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use super::endpoint::INITIATIONS_PER_TICK;
use crate::net::{Timestamp, token_bucket};

/// Handshakes of one address, while under load.
pub const PER_SECOND: u32 = 20;
pub const BURST: u32 = 5;
/// Addresses remembered. One whose place was taken starts with a full bucket.
pub const BUCKETS: usize = 4096;
/// Responses in a second before a cookie is asked for, at least: those to two seconds of our own initiations may come in one.
pub const MIN_RESPONSES: u32 = 2 * 16 * INITIATIONS_PER_TICK;
/// Handshakes in a second of all that have a cookie, as a multiple of the number at which load begins.
pub const PROVED_FACTOR: u32 = 8;
/// At least so many, however small that number.
pub const MIN_PROVED: u32 = 512;
const WAYS: usize = 8;
const _: () = assert!(BUCKETS.is_multiple_of(WAYS));
/// What handshakes are counted in.
const WINDOW: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(1000 / PER_SECOND as u64);
const IPV6_SITE: u128 = u128::MAX << 64;

pub(super) struct SourceLimit {
    handshakes_per_sec: u32,
    /// Initiations, and responses.
    counted: u32,
    responses: u32,
    /// Of both, let in by their cookies.
    proved: u32,
    window_start: Timestamp,
    seed: u64,
    buckets: Box<[Bucket]>,
}

/// A token bucket as the time at which it will be full again; an empty place is full since the beginning.
#[derive(Clone, Copy)]
struct Bucket {
    source: u128,
    full_at: Timestamp,
}

impl SourceLimit {
    /// `seed`: secret; decides who shares places with whom.
    pub fn new(seed: u64, handshakes_per_sec: u32, now: Timestamp) -> Self {
        SourceLimit {
            handshakes_per_sec,
            counted: 0,
            responses: 0,
            proved: 0,
            window_start: now,
            seed,
            buckets: vec![Bucket { source: 0, full_at: Timestamp::ZERO }; BUCKETS].into(),
        }
    }

    /// Counts anew once a second is over.
    pub fn renew(&mut self, now: Timestamp) {
        if now.saturating_since(self.window_start) >= WINDOW {
            (self.window_start, self.counted, self.responses, self.proved) = (now, 0, 0, 0);
        }
    }

    /// For every initiation made for us. `true`: we are under load.
    pub fn count(&mut self) -> bool {
        let under_load = self.counted >= self.handshakes_per_sec;
        self.counted = self.counted.saturating_add(1);
        under_load
    }

    /// For every response that names a handshake of ours. `true`: there are more than we can have asked for.
    pub fn count_response(&mut self) -> bool {
        let under_load = self.responses >= self.handshakes_per_sec.max(MIN_RESPONSES);
        self.responses = self.responses.saturating_add(1);
        under_load
    }

    /// Takes a token of this address (IPv6: of its /64), which has shown a cookie. `false`: it has none, or there are too
    /// many such addresses.
    pub fn take(&mut self, source: IpAddr, now: Timestamp) -> bool {
        if self.proved >= self.handshakes_per_sec.saturating_mul(PROVED_FACTOR).max(MIN_PROVED) {
            return false;
        }
        let source = site_of(source);
        let bucket = self.bucket_of(source);
        if bucket.source != source {
            *bucket = Bucket { source, full_at: now };
        }
        let is_taken = token_bucket::take(&mut bucket.full_at, INTERVAL, INTERVAL * BURST, now);
        self.proved += u32::from(is_taken);
        is_taken
    }

    /// The place of this address, or that of the stalest which it may take.
    fn bucket_of(&mut self, source: u128) -> &mut Bucket {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write_u128(source);
        let first = hasher.finish() as usize % (BUCKETS / WAYS) * WAYS;
        let places = &mut self.buckets[first..first + WAYS];
        let mut chosen = 0;
        for (at, bucket) in places.iter().enumerate() {
            if bucket.source == source {
                chosen = at;
                break;
            }
            if bucket.full_at < places[chosen].full_at {
                chosen = at;
            }
        }
        &mut places[chosen]
    }
}

fn site_of(source: IpAddr) -> u128 {
    match source.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() & IPV6_SITE,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn limit(handshakes_per_sec: u32) -> SourceLimit {
        SourceLimit::new(0x5a5a, handshakes_per_sec, Timestamp::ZERO)
    }

    fn v4(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(0xcb00_7100 + n).into()
    }

    #[test]
    fn an_address_has_a_burst_and_a_rate_and_others_have_theirs() {
        let mut limit = limit(0);
        let now = Timestamp::from_secs(9);
        let taken = (0..100).filter(|_| limit.take(v4(1), now)).count();
        assert_eq!(taken, BURST as usize);
        assert!(limit.take(v4(2), now));
        let per_milli = |milli| now + Duration::from_millis(milli);
        let taken = (1..=10_000).filter(|milli| limit.take(v4(1), per_milli(*milli))).count();
        assert_eq!(taken, 10 * PER_SECOND as usize);
        let rested = (0..100).filter(|_| limit.take(v4(1), per_milli(60_000))).count();
        assert_eq!(rested, BURST as usize, "no more however long it rests");
    }

    #[test]
    fn ipv6_hosts_of_one_site_share_a_bucket_and_ipv4_is_itself_in_both_spellings() {
        let mut limit = limit(0);
        let v6 = |bits: u128| IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8 << 96 | bits));
        let mut take = |source| limit.take(source, Timestamp::ZERO);
        assert!((0..BURST).all(|host| take(v6(host.into()))));
        assert!(!take(v6(99)));
        assert!(take(v6(1 << 64)));
        let mapped = IpAddr::from(Ipv4Addr::from_bits(0xcb00_7101).to_ipv6_mapped());
        assert!((0..BURST).all(|_| take(v4(1))));
        assert!(!take(mapped));
    }

    #[test]
    fn a_full_table_forgets_the_stalest() {
        let mut limit = limit(u32::MAX);
        let at = |n: u32| Timestamp::from_micros(n.into());
        let many = 40 * BUCKETS as u32;
        (0..many).for_each(|n| assert!(limit.take(v4(n), at(n)), "a new address has a full bucket"));
        assert_eq!(limit.buckets.len(), BUCKETS);
        let remembered: HashSet<u128> = limit.buckets.iter().map(|bucket| bucket.source).collect();
        assert_eq!(remembered.len(), BUCKETS, "each place is in use, each address has one");
        let recent = |n| remembered.contains(&site_of(v4(n)));
        assert!((many - 200..many).all(recent));
        assert!(!(0..BUCKETS as u32).any(recent));
    }

    #[test]
    fn load_begins_after_the_number_of_a_second() {
        let mut limit = limit(3);
        let load: Vec<bool> = (0..5).map(|_| limit.count()).collect();
        assert_eq!(load, [false, false, false, true, true]);
        limit.renew(Timestamp::from_micros(999_999));
        assert!(limit.count());
        limit.renew(Timestamp::from_secs(1));
        assert!(!limit.count());
    }

    #[test]
    fn responses_are_counted_apart() {
        for (handshakes_per_sec, most) in [(3, MIN_RESPONSES), (5000, 5000)] {
            let mut limit = limit(handshakes_per_sec);
            assert_eq!((0..10_000).filter(|_| !limit.count_response()).count(), most as usize);
            assert!(!limit.count(), "callers get in");
            limit.renew(Timestamp::from_secs(1));
            assert!((0..handshakes_per_sec).all(|_| !limit.count()) && limit.count());
            assert!(!limit.count_response());
        }
    }

    #[test]
    fn addresses_without_end_do_not_buy_handshakes_without_end() {
        for (handshakes_per_sec, ceiling) in [(500, 4000), (0, MIN_PROVED)] {
            let mut limit = limit(handshakes_per_sec);
            let now = Timestamp::ZERO;
            let host = |site: u128| IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8 << 96 | site << 64));
            let taken = (0..100_000).filter(|site| limit.take(host(*site), now)).count();
            assert_eq!(taken, ceiling as usize);
            limit.renew(Timestamp::from_secs(1));
            assert!(limit.take(host(100_000), Timestamp::from_secs(1)));
        }
    }

    #[test]
    fn ten_thousand_gateways_behind_one_address_all_get_in() {
        let mut limit = limit(500); // the default
        let mut outside: Vec<u32> = (0..10_000).collect();
        for second in 0..25 {
            let now = Timestamp::from_secs(second);
            limit.renew(now);
            // Each calls every 5 s.
            outside.retain(|n| n % 5 != second as u32 % 5 || limit.count() && !limit.take(v4(1), now));
        }
        assert_eq!(outside.len(), 0);
    }
}
