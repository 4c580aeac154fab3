//! Threads that follow what the kernel tells of interfaces: started, told what to follow, and ended in one way.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::interfaces::InterfacePlan;
use crate::io::poller::Waker;

/// The thread's other end. When it goes, so does the thread.
pub struct Follower {
    orders: Orders,
    waker: Waker,
}

impl Follower {
    /// `waker` ends the waits of `work`, which then looks at its orders.
    pub fn spawn(name: &str, waker: Waker, work: impl FnOnce(Orders) + Send + 'static) -> io::Result<Self> {
        let orders = Orders::default();
        let taken = orders.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || work(taken))?;
        Ok(Follower { orders, waker })
    }

    /// From now on, these.
    pub fn follow(&self, plans: Vec<InterfacePlan>) {
        self.orders.follow(plans);
        self.waker.wake();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.orders.latest().is_ended = true;
        self.waker.wake();
    }
}

/// What a thread is told.
#[derive(Clone, Default)]
pub struct Orders(Arc<Mutex<Latest>>);

#[derive(Default)]
struct Latest {
    plans: Option<Vec<InterfacePlan>>,
    is_ended: bool,
}

/// Everything that was told since the last look, the latest of it.
#[derive(PartialEq, Eq, Debug)]
pub enum Order {
    GoOn,
    Follow(Vec<InterfacePlan>),
    End,
}

impl Orders {
    pub fn follow(&self, plans: Vec<InterfacePlan>) {
        self.latest().plans = Some(plans);
    }

    /// Something was told that was not taken yet.
    pub fn are_new(&self) -> bool {
        let latest = self.latest();
        latest.is_ended || latest.plans.is_some()
    }

    pub fn take(&self) -> Order {
        let mut latest = self.latest();
        match latest.plans.take() {
            _ if latest.is_ended => Order::End,
            Some(plans) => Order::Follow(plans),
            None => Order::GoOn,
        }
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::super::interfaces::tests::plan;
    use super::*;
    use crate::io::poller::Poller;

    #[test]
    fn the_latest_order_counts_and_the_thread_ends_with_its_other_end() {
        let mut poller = Poller::new().unwrap();
        let (tell, told) = channel();
        let (allow, allowed) = channel::<()>();
        let follower = Follower::spawn("ixgate-test", poller.waker(), move |orders| {
            loop {
                poller.wait(None).unwrap();
                allowed.recv().unwrap();
                let order = orders.take();
                let is_end = order == Order::End;
                tell.send(order).unwrap();
                if is_end {
                    return;
                }
            }
        });
        let follower = follower.unwrap();
        let plans = |name: &str| vec![plan(0, name, 1500)];
        follower.follow(plans("eth1"));
        follower.follow(plans("eth2"));
        allow.send(()).unwrap();
        assert_eq!(told.recv().unwrap(), Order::Follow(plans("eth2")));
        follower.follow(plans("eth3"));
        drop(follower);
        allow.send(()).unwrap();
        assert_eq!(told.recv().unwrap(), Order::End);
        assert!(told.recv().is_err(), "the thread has ended");
    }
}
