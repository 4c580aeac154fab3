//! Follows the interfaces that ports are on, in a thread of its own: what the kernel says of them goes to the worker, and one
//! that was taken away and has come back is opened again.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::interfaces::InterfacePlan;
use super::worker::{Core, Handle, WorkerError};
use crate::io::netlink::{Links, News};
use crate::io::poller::Waker;
use crate::io::privileges;
use crate::io::sockets::Sockets;
use crate::net::{InterfaceId, LinkReport};

/// After netlink has failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The thread's other end. When it goes, so does the thread.
pub struct Follower {
    orders: Arc<Mutex<Orders>>,
    waker: Waker,
}

#[derive(Default)]
struct Orders {
    /// To be followed from now on.
    plans: Option<Vec<InterfacePlan>>,
    is_ended: bool,
}

impl Follower {
    pub fn spawn<C: Core>(handle: Handle<C>) -> io::Result<Self> {
        let orders = Arc::new(Mutex::new(Orders::default()));
        let links = Links::new()?;
        let waker = links.waker();
        let thread = Thread { handle, orders: orders.clone(), plans: Vec::new(), opened: HashMap::new() };
        thread::Builder::new().name("ixgate-links".to_owned()).spawn(move || thread.run(links))?;
        Ok(Follower { orders, waker })
    }

    /// From now on, these, which are open.
    pub fn follow(&self, plans: Vec<InterfacePlan>) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).plans = Some(plans);
        self.waker.wake();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).is_ended = true;
        self.waker.wake();
    }
}

struct Thread<C: Core> {
    handle: Handle<C>,
    orders: Arc<Mutex<Orders>>,
    plans: Vec<InterfacePlan>,
    /// The kernel's number of an interface when it was opened.
    opened: HashMap<InterfaceId, u32>,
}

impl<C: Core> Thread<C> {
    fn run(mut self, mut links: Links) {
        loop {
            let orders = std::mem::take(&mut *self.orders.lock().unwrap_or_else(PoisonError::into_inner));
            if orders.is_ended {
                return;
            }
            if let Some(plans) = orders.plans {
                self.adopt(plans);
                links.follow(self.plans.iter().map(|plan| (plan.interface, plan.name.clone())));
            }
            if let Err(error) = links.wait() {
                tracing::error!("interfaces cannot be followed, trying again: {error}");
                thread::sleep(RETRY_AFTER);
                links.follow(self.plans.iter().map(|plan| (plan.interface, plan.name.clone())));
            }
            while let Some(news) = links.poll_news() {
                // The worker has ended, and the process is about to.
                let Ok(()) = self.pass_on(news) else { return };
            }
        }
    }

    fn adopt(&mut self, plans: Vec<InterfacePlan>) {
        let before = std::mem::replace(&mut self.plans, plans);
        let is_kept = |interface: &InterfaceId| {
            let of = |plans: &[InterfacePlan]| plans.iter().find(|plan| plan.interface == *interface).cloned();
            matches!((of(&before), of(&self.plans)), (Some(before), Some(now)) if before.is_same(&now))
        };
        self.opened.retain(|interface, _| is_kept(interface));
    }

    fn pass_on(&mut self, News { report, index }: News) -> Result<(), WorkerError> {
        let mut report = report;
        if let Some(index) = index
            && let Some(plan) = self.plans.iter().find(|plan| plan.interface == report.interface)
        {
            let opened = *self.opened.entry(report.interface).or_insert(index);
            if opened != index {
                match reopen(plan.clone()) {
                    Ok(sockets) => {
                        self.opened.insert(report.interface, index);
                        self.handle.adopt(sockets)?;
                        tracing::info!("interface {} has come again", plan.name);
                    }
                    Err(error) => {
                        tracing::warn!("interface {} has come again, and cannot be used: {error}", plan.name);
                        report = LinkReport { is_up: false, ..report };
                    }
                }
            }
        }
        self.handle.tell_link(report)
    }
}

fn reopen(plan: InterfacePlan) -> Result<Sockets, super::interfaces::InterfaceError> {
    let mut sockets = Sockets::default();
    sockets.add_driver(privileges::with(move || plan.open())?);
    Ok(sockets)
}
