//! Answers that were fetched, for the realm that asked and no other: its answer holds *its* addresses.
//!
//! No address outlives the mapping that made it: the cache is emptied when a new configuration is published, and of what a
//! routing daemon changes, those answers go that may be concerned. Bounded in entries and in bytes, each realm for itself; the oldest entries give way.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, Record, RecordType};

use super::rewrite::Note;
use crate::net::mapping::MappingChanges;
use crate::net::{RealmId, Timestamp};

/// No answer is kept longer, whatever its TTL says.
const MAX_TTL_SECS: u32 = 3600;

/// What was asked, by whom.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct QuestionKey {
    pub(super) realm: RealmId,
    /// As [`super::key::NameKey`] has it.
    pub(super) name: Box<[u8]>,
    pub(super) record_type: RecordType,
    pub(super) dnssec_ok: bool,
}

/// An answer in the asker's own terms.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Answer {
    pub(super) code: ResponseCode,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
    /// Why something is missing.
    pub(super) note: Option<Note>,
    /// For how long it may be remembered when no record says so.
    pub(super) empty_ttl_secs: u32,
}

impl Answer {
    /// An answer without records.
    pub(super) fn bare(code: ResponseCode, note: Option<Note>, ttl_secs: u32) -> Self {
        Answer {
            code,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            note,
            empty_ttl_secs: ttl_secs,
        }
    }

    /// RFC 2181 section 5.2, RFC 2308 section 5: the least TTL of what is in it.
    fn ttl_secs(&self) -> u32 {
        let records = self.answers.iter().chain(&self.authorities);
        let least = records.map(|record| record.ttl).min();
        let of_emptiness = self.answers.is_empty().then_some(self.empty_ttl_secs);
        least.into_iter().chain(of_emptiness).min().unwrap_or(0).min(MAX_TTL_SECS)
    }

    /// Whether it may be otherwise after these changes. What was left out may be there now; reverse names and the hints of
    /// services are not looked into.
    fn is_concerned(&self, key: &QuestionKey, changes: &MappingChanges) -> bool {
        let is_concerned = |record: &Record| match &record.data {
            RData::A(a) => changes.contain(a.0.into()),
            RData::AAAA(aaaa) => changes.contain(aaaa.0.into()),
            RData::SVCB(_) | RData::HTTPS(_) => true,
            _ => false,
        };
        let records = self.answers.iter().chain(&self.authorities).chain(&self.additionals);
        self.note.is_some() || key.record_type == RecordType::PTR || records.into_iter().any(is_concerned)
    }

    fn records_mut(&mut self) -> impl Iterator<Item = &mut Record> {
        self.answers.iter_mut().chain(&mut self.authorities).chain(&mut self.additionals)
    }
}

pub(super) struct Cache {
    max_entries: usize,
    max_bytes: usize,
    realms: HashMap<RealmId, OfRealm>,
    next_serial: u64,
}

#[derive(Default)]
struct OfRealm {
    entries: HashMap<QuestionKey, Entry>,
    /// Oldest first. An entry that was replaced has a later serial, and its old place means nothing.
    order: VecDeque<(u64, QuestionKey)>,
    bytes: usize,
}

struct Entry {
    serial: u64,
    answer: Answer,
    bytes: usize,
    stored: Timestamp,
    expires: Timestamp,
}

impl Cache {
    /// Bounds are for each realm.
    pub(super) fn new(max_entries: usize, max_bytes: usize) -> Self {
        Cache { max_entries, max_bytes, realms: HashMap::new(), next_serial: 0 }
    }

    /// With the TTLs that are left.
    pub(super) fn lookup(&self, key: &QuestionKey, now: Timestamp) -> Option<Answer> {
        let entry = self.realms.get(&key.realm)?.entries.get(key).filter(|entry| now < entry.expires)?;
        let mut answer = entry.answer.clone();
        let age = now.saturating_since(entry.stored).as_secs() as u32;
        answer.records_mut().for_each(|record| record.ttl = record.ttl.saturating_sub(age));
        answer.empty_ttl_secs = answer.empty_ttl_secs.saturating_sub(age);
        Some(answer)
    }

    /// `bytes`: the answer's size on the wire; the key and the tables' own cost are added.
    pub(super) fn insert(&mut self, key: QuestionKey, answer: Answer, bytes: usize, now: Timestamp) {
        let ttl_secs = answer.ttl_secs();
        let bytes = bytes + 2 * key.name.len() + size_of::<Entry>();
        if ttl_secs == 0 || bytes > self.max_bytes {
            return;
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        let expires = now + Duration::from_secs(ttl_secs.into());
        let realm = self.realms.entry(key.realm).or_default();
        realm.bytes += bytes;
        realm.order.push_back((serial, key.clone()));
        if let Some(old) = realm.entries.insert(key, Entry { serial, answer, bytes, stored: now, expires }) {
            realm.bytes -= old.bytes;
        }
        while realm.entries.len() > self.max_entries || realm.bytes > self.max_bytes || realm.is_mostly_stale() {
            realm.drop_oldest();
        }
    }

    pub(super) fn clear(&mut self) {
        self.realms.clear();
    }

    /// Forgets what may be answered otherwise after these changes.
    pub(super) fn forget(&mut self, changes: &MappingChanges) {
        self.realms.retain(|realm, _| !changes.concern(*realm));
        for realm in self.realms.values_mut() {
            let bytes = &mut realm.bytes;
            realm.entries.retain(|key, entry| {
                let stays = !entry.answer.is_concerned(key, changes);
                *bytes -= if stays { 0 } else { entry.bytes };
                stays
            });
        }
    }

    pub(super) fn len_of(&self, realm: RealmId) -> usize {
        self.realms.get(&realm).map_or(0, |realm| realm.entries.len())
    }

    pub(super) fn len(&self) -> usize {
        self.realms.values().map(|realm| realm.entries.len()).sum()
    }
}

impl OfRealm {
    fn drop_oldest(&mut self) {
        let Some((serial, key)) = self.order.pop_front() else { return };
        if self.entries.get(&key).is_some_and(|entry| entry.serial == serial)
            && let Some(entry) = self.entries.remove(&key)
        {
            self.bytes -= entry.bytes;
        }
    }

    /// One name, asked and expired over and over, must not make the order grow.
    fn is_mostly_stale(&self) -> bool {
        self.order.len() > 2 * self.entries.len() + 16
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::rr::Name;
    use hickory_proto::rr::rdata::A;

    use super::*;

    fn key(realm: u16, name: u32) -> QuestionKey {
        let name = name.to_string().into_bytes().into();
        QuestionKey { realm: RealmId(realm), name, record_type: RecordType::A, dnssec_ok: false }
    }

    fn answer(ttl_secs: u32) -> Answer {
        let mut answer = Answer::bare(ResponseCode::NoError, None, 30);
        let data = RData::A(A(Ipv4Addr::new(100, 64, 2, 20)));
        answer.answers.push(Record::from_rdata(Name::root(), ttl_secs, data));
        answer
    }

    #[test]
    fn ttls_run_down_and_then_the_entry_is_gone() {
        let mut cache = Cache::new(10, 100_000);
        let start = Timestamp::from_secs(100);
        cache.insert(key(1, 1), answer(60), 50, start);
        let ttl = |cache: &Cache, secs| {
            cache.lookup(&key(1, 1), start + Duration::from_secs(secs)).map(|answer| answer.answers[0].ttl)
        };
        assert_eq!(ttl(&cache, 0), Some(60));
        assert_eq!(ttl(&cache, 59), Some(1));
        assert_eq!(ttl(&cache, 60), None);
        cache.insert(key(1, 2), answer(0), 50, start);
        assert!(cache.lookup(&key(1, 2), start).is_none(), "TTL 0 is for this once");
        cache.insert(key(1, 3), Answer::bare(ResponseCode::NXDomain, None, 30), 50, start);
        assert!(cache.lookup(&key(1, 3), start + Duration::from_secs(29)).is_some());
        assert!(cache.lookup(&key(1, 3), start + Duration::from_secs(30)).is_none());
    }

    #[test]
    fn what_one_realm_was_told_another_is_not() {
        let mut cache = Cache::new(10, 100_000);
        cache.insert(key(1, 1), answer(60), 50, Timestamp::ZERO);
        assert!(cache.lookup(&key(2, 1), Timestamp::ZERO).is_none());
        assert!(cache.lookup(&QuestionKey { dnssec_ok: true, ..key(1, 1) }, Timestamp::ZERO).is_none());
    }

    #[test]
    fn each_realm_has_its_bounds_and_the_oldest_give_way() {
        let mut cache = Cache::new(10, 1_000_000);
        cache.insert(key(2, 0), answer(60), 50, Timestamp::ZERO);
        for name in 0..1000 {
            cache.insert(key(1, name), answer(60), 50, Timestamp::ZERO);
        }
        assert_eq!(cache.len(), 11);
        assert!(cache.lookup(&key(1, 999), Timestamp::ZERO).is_some());
        assert!(cache.lookup(&key(1, 989), Timestamp::ZERO).is_none());
        assert!(cache.lookup(&key(2, 0), Timestamp::ZERO).is_some(), "another realm's are its own");

        let mut cache = Cache::new(1000, 10_000);
        for name in 0..1000 {
            cache.insert(key(1, name), answer(60), 1000, Timestamp::ZERO);
        }
        assert!((1..10).contains(&cache.len()), "{}", cache.len());
        cache.insert(key(1, 5000), answer(60), 20_000, Timestamp::ZERO);
        assert!(cache.lookup(&key(1, 5000), Timestamp::ZERO).is_none(), "larger than all the room");
    }

    #[test]
    fn one_name_over_and_over_does_not_make_the_order_grow() {
        let mut cache = Cache::new(1000, 1_000_000);
        for secs in 0..1000 {
            cache.insert(key(1, 1), answer(1), 50, Timestamp::from_secs(secs));
        }
        let realm = &cache.realms[&RealmId(1)];
        assert!(realm.order.len() < 30 && realm.entries.len() == 1);
        assert_eq!(realm.bytes, realm.entries.values().map(|entry| entry.bytes).sum::<usize>());
    }
}
