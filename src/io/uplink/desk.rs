//! Between whoever sends and receives, and the thread that knows the ways and opens interfaces. Neither waits for the other: each looks
//! whether there is something on the desk, which costs one load, and takes it when there is. Whoever sends and receives comes again when the other one is
//! at it.
//!
//! Bounded: of each way there is at most one answer, questions at most [`MAX_WAYS`] and one for each that is given up, and of interfaces at most one each.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use super::interface::Uplink;
use crate::io::netlink::ways::{Key, MAX_WAYS, Way};
use crate::io::poller::Waker;
use crate::net::Port;

/// For whoever sends and receives.
#[derive(Debug, Default)]
pub struct Answers {
    pub ways: HashMap<Key, Option<Way>>,
    pub opened: Vec<Box<Uplink>>,
    /// By the kernel's number.
    pub closed: Vec<u32>,
    /// Ways that were not used since this was asked the last time are to be given up.
    pub sweep: bool,
}

/// For whoever knows the ways.
#[derive(Debug, Default)]
pub struct Questions {
    /// In their order.
    pub asked: Vec<Asked>,
    /// Closed, or not to be had, to be dropped there: that takes its time.
    pub returned: Vec<Box<Uplink>>,
    /// Where we listen, when that has changed.
    pub listening: Option<Vec<(Port, SocketAddr)>>,
    /// The kernel did not take frames of these: they are to be looked at.
    pub failed: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    Follow(Key),
    Forget(Key),
}

impl Questions {
    pub fn is_empty(&self) -> bool {
        let Questions { asked, returned, listening, failed } = self;
        asked.is_empty() && returned.is_empty() && listening.is_none() && failed.is_empty()
    }

    /// Behind what there is.
    pub fn append(&mut self, more: &mut Questions) {
        self.asked.append(&mut more.asked);
        self.returned.append(&mut more.returned);
        self.failed.append(&mut more.failed);
        self.listening = more.listening.take().or(self.listening.take());
    }
}

#[derive(Debug)]
struct Side<T> {
    is_there: AtomicBool,
    content: Mutex<T>,
    waker: OnceLock<Waker>,
}

impl<T: Default> Default for Side<T> {
    fn default() -> Self {
        Side { is_there: AtomicBool::new(false), content: Mutex::default(), waker: OnceLock::new() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Default> Side<T> {
    /// Calls in any case: the other one may have come while this one was at it, and gone without.
    fn put(&self, change: impl FnOnce(&mut T)) {
        change(&mut lock(&self.content));
        self.is_there.store(true, Ordering::Release);
        self.call();
    }

    /// `None`: the other one is at it just now.
    fn try_put<R>(&self, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        let result = change(&mut *self.try_lock()?);
        if !self.is_there.swap(true, Ordering::AcqRel) {
            self.call();
        }
        Some(result)
    }

    fn call(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.content.try_lock() {
            Ok(content) => Some(content),
            Err(TryLockError::Poisoned(content)) => Some(content.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    #[inline]
    fn has_some(&self) -> bool {
        self.is_there.load(Ordering::Relaxed)
    }

    fn take(&self) -> T {
        // In this order: what is put meanwhile is announced again.
        self.is_there.store(false, Ordering::Release);
        std::mem::take(&mut lock(&self.content))
    }

    /// `None`: the other one is at it just now, and will call.
    fn try_take(&self) -> Option<T> {
        let mut content = self.try_lock()?;
        self.is_there.store(false, Ordering::Release);
        Some(std::mem::take(&mut content))
    }
}

/// Cheap to clone: all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Desk(Arc<(Side<Answers>, Side<Questions>)>);

impl Desk {
    pub fn answer(&self, change: impl FnOnce(&mut Answers)) {
        self.0.0.put(change);
    }

    #[inline]
    pub fn has_answers(&self) -> bool {
        self.0.0.has_some()
    }

    /// `None`: they are being written just now, and this is told when they are.
    pub fn take_answers(&self) -> Option<Answers> {
        self.0.0.try_take()
    }

    /// Once.
    pub fn wake_for_answers(&self, waker: Waker) {
        let _ = self.0.0.waker.set(waker);
    }

    /// In the place of another one, if there is one. `false`: it is not asked for now; the next datagram may try again.
    pub fn ask(&self, given_up: Option<Key>, key: Key) -> bool {
        let ask = |questions: &mut Questions| {
            let has_room = questions.asked.len() < MAX_WAYS;
            if has_room {
                questions.asked.extend(given_up.map(Asked::Forget));
                questions.asked.push(Asked::Follow(key));
            }
            has_room
        };
        self.0.1.try_put(ask).unwrap_or(false)
    }

    /// `None`: they are being read just now.
    pub fn try_question(&self, change: impl FnOnce(&mut Questions)) -> Option<()> {
        self.0.1.try_put(change)
    }

    pub fn take_questions(&self) -> Questions {
        self.0.1.take()
    }

    /// Once.
    pub fn wake_for_questions(&self, waker: Waker) {
        let _ = self.0.1.waker.set(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::poller::Poller;

    fn key(number: u32) -> Key {
        Key { remote: std::net::Ipv4Addr::from(number).into(), local: None }
    }

    #[test]
    fn what_is_put_is_announced_until_it_is_taken_and_of_each_way_only_the_last_counts() {
        let desk = Desk::default();
        assert!(!desk.has_answers());
        for _ in 0..2 {
            desk.answer(|answers| _ = answers.ways.insert(key(1), None));
        }
        assert!(desk.has_answers());
        assert_eq!(desk.take_answers().unwrap().ways.len(), 1);
        assert!(!desk.has_answers() && desk.take_answers().unwrap().ways.is_empty());
    }

    #[test]
    fn nobody_waits_for_answers_and_those_that_were_missed_are_called_for() {
        let (desk, mut poller) = (Desk::default(), Poller::new().unwrap());
        desk.wake_for_answers(poller.waker());
        let mut is_woken = || poller.wait(Some(std::time::Duration::ZERO)).unwrap().woken;
        desk.answer(|answers| answers.sweep = true);
        assert!(is_woken());
        desk.answer(|answers| {
            assert!(desk.take_answers().is_none() && desk.has_answers(), "somebody writes them just now");
            answers.closed.push(7);
        });
        assert!(is_woken(), "the first call was heard already");
        assert_eq!(desk.take_answers().map(|answers| (answers.sweep, answers.closed)), Some((true, vec![7])));
    }

    #[test]
    fn questions_keep_their_order() {
        let desk = Desk::default();
        assert!(desk.ask(None, key(1)) && desk.ask(Some(key(1)), key(2)));
        let mut more = Questions { asked: vec![Asked::Forget(key(2))], ..Questions::default() };
        desk.try_question(|questions| questions.append(&mut more)).unwrap();
        assert!(more.is_empty());
        let asked = [Asked::Follow(key(1)), Asked::Forget(key(1)), Asked::Follow(key(2)), Asked::Forget(key(2))];
        assert_eq!(desk.take_questions().asked, asked);
    }

    #[test]
    fn questions_are_bounded_and_nobody_waits_to_ask() {
        let desk = Desk::default();
        assert!((0..MAX_WAYS as u32).all(|number| desk.ask(None, key(number))));
        assert!(!desk.ask(None, key(0)));
        assert_eq!(desk.take_questions().asked.len(), MAX_WAYS);
        let held = lock(&desk.0.1.content);
        assert!(!desk.ask(None, key(1)) && desk.try_question(|_| {}).is_none(), "somebody reads them just now");
        drop(held);
        assert!(desk.ask(None, key(1)));
    }
}
