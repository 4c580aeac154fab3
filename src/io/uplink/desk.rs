//! Between whoever sends and receives, and the thread that knows the ways and opens interfaces. Neither waits for the other: each looks
//! whether there is something on the desk, which costs one load, and takes it when there is.
//!
//! Bounded: of each way there is at most one answer, questions at most [`MAX_WAYS`], and of interfaces at most one each.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

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
    pub asked: Vec<Key>,
    pub forgotten: Vec<Key>,
    /// Closed, to be dropped there: that takes its time.
    pub returned: Vec<Box<Uplink>>,
    /// Where we listen, when that has changed.
    pub listening: Option<Vec<(Port, SocketAddr)>>,
    /// The kernel did not take frames of these: they are to be looked at.
    pub failed: Vec<u32>,
}

#[derive(Debug)]
struct Side<T> {
    is_there: AtomicBool,
    content: Mutex<T>,
    waker: Mutex<Option<Waker>>,
}

impl<T: Default> Default for Side<T> {
    fn default() -> Self {
        Side { is_there: AtomicBool::new(false), content: Mutex::default(), waker: Mutex::default() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Default> Side<T> {
    fn put(&self, change: impl FnOnce(&mut T)) {
        change(&mut lock(&self.content));
        self.tell();
    }

    /// `None`: the other one is at it just now.
    fn try_put<R>(&self, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        let result = match self.content.try_lock() {
            Ok(mut content) => change(&mut content),
            Err(TryLockError::Poisoned(content)) => change(&mut content.into_inner()),
            Err(TryLockError::WouldBlock) => return None,
        };
        self.tell();
        Some(result)
    }

    fn tell(&self) {
        if !self.is_there.swap(true, Ordering::AcqRel)
            && let Some(waker) = &*lock(&self.waker)
        {
            waker.wake();
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

    pub fn take_answers(&self) -> Answers {
        self.0.0.take()
    }

    pub fn wake_for_answers(&self, waker: Waker) {
        *lock(&self.0.0.waker) = Some(waker);
    }

    /// `false`: it is not asked for now; the next datagram may try again.
    pub fn ask(&self, key: Key) -> bool {
        let ask = |questions: &mut Questions| {
            let has_room = questions.asked.len() < MAX_WAYS;
            if has_room {
                questions.asked.push(key);
            }
            has_room
        };
        self.0.1.try_put(ask).unwrap_or(false)
    }

    pub fn question(&self, change: impl FnOnce(&mut Questions)) {
        self.0.1.put(change);
    }

    pub fn take_questions(&self) -> Questions {
        self.0.1.take()
    }

    pub fn wake_for_questions(&self, waker: Waker) {
        *lock(&self.0.1.waker) = Some(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(desk.take_answers().ways.len(), 1);
        assert!(!desk.has_answers() && desk.take_answers().ways.is_empty());
    }

    #[test]
    fn questions_are_bounded_and_nobody_waits_to_ask() {
        let desk = Desk::default();
        assert!((0..MAX_WAYS as u32).all(|number| desk.ask(key(number))));
        assert!(!desk.ask(key(0)));
        assert_eq!(desk.take_questions().asked.len(), MAX_WAYS);
        let held = lock(&desk.0.1.content);
        assert!(!desk.ask(key(1)), "somebody reads them just now");
        drop(held);
        assert!(desk.ask(key(1)));
    }
}
