//! Whose packets make us ask, and how much of the table's bounds each of these realms may take.
//!
//! The bounds are those of the port, which belongs to one realm; who sends to it are all the others. One that scans its link
//! reaches its own share, and the rest is there for everybody else.

use super::super::bucket::Bucket;
use super::{MAX_INCOMPLETE, QUESTIONS_BURST, QUESTIONS_PER_SEC};
use crate::net::{RealmId, Timestamp};

/// Of [`MAX_INCOMPLETE`], by one realm's packets.
pub(in crate::link) const MAX_INCOMPLETE_PER_ASKER: usize = MAX_INCOMPLETE / 8;
/// New neighbours in a second that one realm's packets make us ask for.
const ASKER_QUESTIONS_PER_SEC: u32 = QUESTIONS_PER_SEC / 4;
const ASKER_QUESTIONS_BURST: u32 = QUESTIONS_BURST / 2;
/// Realms that something is kept of: no more can have asked since any of their buckets was full.
pub(super) const MAX_ASKERS: usize = MAX_INCOMPLETE;

/// In the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Askers(Vec<Asker>);

#[derive(Debug)]
struct Asker {
    realm: RealmId,
    questions: Bucket,
    incomplete: usize,
}

impl Askers {
    /// A packet of `realm` is for a neighbour that is not known. `false`: the realm has its share.
    pub fn take(&mut self, realm: RealmId, now: Timestamp) -> bool {
        let Some(asker) = self.asker(realm, now) else { return false };
        asker.incomplete < MAX_INCOMPLETE_PER_ASKER && asker.questions.take(now)
    }

    /// The link is being asked because of `realm`. `false`: too many realms ask, and it is nobody's.
    pub fn begin(&mut self, realm: RealmId, now: Timestamp) -> bool {
        let asker = self.asker(realm, now);
        asker.map(|asker| asker.incomplete += 1).is_some()
    }

    /// It is not any more.
    pub fn end(&mut self, realm: RealmId) {
        if let Ok(at) = self.find(realm) {
            self.0[at].incomplete = self.0[at].incomplete.saturating_sub(1);
        }
    }

    pub fn has_share(&self, realm: RealmId) -> bool {
        self.find(realm).is_ok_and(|at| self.0[at].incomplete >= MAX_INCOMPLETE_PER_ASKER)
    }

    fn find(&self, realm: RealmId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&realm, |asker| asker.realm)
    }

    /// `None`: too many ask.
    fn asker(&mut self, realm: RealmId, now: Timestamp) -> Option<&mut Asker> {
        if let Ok(at) = self.find(realm) {
            return Some(&mut self.0[at]);
        }
        if self.0.len() >= MAX_ASKERS {
            self.0.retain(|asker| asker.incomplete > 0 || !asker.questions.is_full(now));
        }
        let at = self.find(realm).err().filter(|_| self.0.len() < MAX_ASKERS)?;
        let questions = Bucket::new(ASKER_QUESTIONS_PER_SEC, ASKER_QUESTIONS_BURST);
        self.0.insert(at, Asker { realm, questions, incomplete: 0 });
        Some(&mut self.0[at])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn not_more_realms_than_the_bound_and_idle_ones_make_room() {
        let mut askers = Askers::default();
        let now = Timestamp::from_secs(10);
        let realms = |numbers: std::ops::Range<u16>| numbers.map(RealmId);
        assert_eq!(realms(0..500).filter(|realm| askers.take(*realm, now)).count(), MAX_ASKERS);
        assert!(realms(0..5).all(|realm| askers.begin(realm, now)) && !askers.begin(RealmId(400), now));
        askers.end(RealmId(400));
        let later = now + Duration::from_secs(1);
        assert!(askers.take(RealmId(400), later));
        assert_eq!(askers.0.len(), 6, "those that are being asked for, and the new one");
        realms(0..5).for_each(|realm| askers.end(realm));
        assert!(askers.0.is_sorted_by_key(|asker| asker.realm) && askers.0.iter().all(|asker| asker.incomplete == 0));
    }
}
