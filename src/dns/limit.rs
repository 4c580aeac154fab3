//! How many queries one host, and one realm, may ask in a second.
//!
//! Two token buckets stand before everything else: that of the host, and that of its realm, because inside its tunnel a
//! realm can invent as many sources as it likes. Over UDP a query too many is dropped, but every second one is answered
//! with TC alone: an honest asker comes back over TCP, where nobody can ask in its name, and an answer that small
//! amplifies nothing.
//!
//! The table of hosts has a fixed size. A host has [`WAYS`] places, found by a hash that outsiders cannot foresee; when
//! all are taken it gets that of the one that asked longest ago, which starts again with a full bucket.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use crate::net::token_bucket::take;
use crate::net::{Canonical, RealmId, Timestamp};

/// Hosts remembered.
pub const HOSTS: usize = 16_384;
const WAYS: usize = 8;
const _: () = assert!(HOSTS.is_multiple_of(WAYS));
/// A second's worth may come at once.
const BURST: Duration = Duration::from_secs(1);

/// What becomes of a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Pass,
    /// Too many: answer with TC.
    Slip,
    /// Too many.
    Drop,
}

pub(super) struct QueryLimit {
    seed: u64,
    host_interval: Duration,
    realm_interval: Duration,
    hosts: Box<[Bucket]>,
    /// One for each realm that ever asked: no more than there are realms.
    realms: HashMap<RealmId, Timestamp>,
    refused: u64,
}

/// A token bucket as the time at which it will be full again.
#[derive(Clone, Copy)]
struct Bucket {
    host: (RealmId, Canonical),
    full_at: Timestamp,
}

impl QueryLimit {
    /// `seed`: secret; decides who shares places with whom. The rates are at least 1.
    pub(super) fn new(seed: u64, per_sec_per_host: u32, per_sec_per_realm: u32) -> Self {
        let interval = |per_sec: u32| Duration::from_micros(1_000_000 / u64::from(per_sec.clamp(1, 1_000_000)));
        let empty = Bucket { host: (RealmId::IX, Canonical(0)), full_at: Timestamp::ZERO };
        QueryLimit {
            seed,
            host_interval: interval(per_sec_per_host),
            realm_interval: interval(per_sec_per_realm),
            hosts: vec![empty; HOSTS].into(),
            realms: HashMap::new(),
            refused: 0,
        }
    }

    pub(super) fn take(&mut self, realm: RealmId, host: Canonical, now: Timestamp) -> Verdict {
        let host_interval = self.host_interval;
        let bucket = self.bucket_of((realm, host), now);
        // A host that asks too much takes nothing from its realm.
        if !take(&mut bucket.full_at, host_interval, BURST, now) {
            return self.refuse();
        }
        match take(self.realms.entry(realm).or_insert(now), self.realm_interval, BURST, now) {
            true => Verdict::Pass,
            false => self.refuse(),
        }
    }

    fn refuse(&mut self) -> Verdict {
        self.refused += 1;
        if self.refused.is_multiple_of(2) { Verdict::Slip } else { Verdict::Drop }
    }

    fn bucket_of(&mut self, host: (RealmId, Canonical), now: Timestamp) -> &mut Bucket {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write_u16(host.0.0);
        hasher.write_u128(host.1.0);
        let first = hasher.finish() as usize % (HOSTS / WAYS) * WAYS;
        let places = &mut self.hosts[first..first + WAYS];
        let own = places.iter().position(|bucket| bucket.host == host);
        let stalest = || places.iter().enumerate().min_by_key(|(_, bucket)| bucket.full_at).map_or(0, |(at, _)| at);
        let at = own.unwrap_or_else(stalest);
        if own.is_none() {
            places[at] = Bucket { host, full_at: now };
        }
        &mut places[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: RealmId = RealmId(1);
    const B: RealmId = RealmId(2);

    fn passed(limit: &mut QueryLimit, realm: RealmId, host: u128, tries: usize, now: Timestamp) -> usize {
        (0..tries).filter(|_| limit.take(realm, Canonical(host), now) == Verdict::Pass).count()
    }

    #[test]
    fn a_host_has_its_rate_and_its_neighbours_have_theirs() {
        let mut limit = QueryLimit::new(1, 10, 1000);
        let now = Timestamp::from_secs(5);
        assert_eq!(passed(&mut limit, A, 7, 100, now), 10);
        assert_eq!(passed(&mut limit, A, 8, 100, now), 10);
        assert_eq!(passed(&mut limit, B, 7, 100, now), 10, "the same address in another realm is another host");
        assert_eq!(passed(&mut limit, A, 7, 100, now + Duration::from_millis(500)), 5);
    }

    #[test]
    fn a_realm_that_invents_hosts_has_its_rate_and_harms_no_other() {
        let mut limit = QueryLimit::new(1, 10, 100);
        let now = Timestamp::from_secs(5);
        let of_a: usize = (0..3 * HOSTS as u128).map(|host| passed(&mut limit, A, host, 1, now)).sum();
        assert_eq!(of_a, 100);
        assert_eq!(limit.hosts.len(), HOSTS, "the table does not grow");
        assert_eq!(passed(&mut limit, B, 7, 100, now), 10);
    }

    #[test]
    fn every_second_query_too_many_slips() {
        let mut limit = QueryLimit::new(1, 1, 1000);
        let now = Timestamp::from_secs(5);
        let verdicts: Vec<_> = (0..5).map(|_| limit.take(A, Canonical(7), now)).collect();
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Drop, Verdict::Slip, Verdict::Drop, Verdict::Slip]);
    }
}
