//! Follows the interfaces that ports are on, in a thread of its own: what the kernel says of them goes to the worker, and one
//! that could not be opened, or was taken away, is opened as soon as it can be: when the kernel tells of it, and every few seconds,
//! as the kernel does not tell of everything that may be in the way. While it is not open it is down for the worker.

use std::collections::HashMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::follower::{Follower, Order, Orders};
use super::interfaces::{InterfaceError, InterfacePlan, State, States};
use super::worker::{Core, Handle, WorkerError};
use crate::io::netlink::{Links, News};
use crate::io::privileges;
use crate::io::sockets::Sockets;
use crate::net::{InterfaceId, LinkReport};

/// After netlink has failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// What is not open is tried again so often.
const OPEN_AGAIN: Duration = Duration::from_secs(5);

/// Starts the thread.
pub fn follow<C: Core>(handle: Handle<C>, states: States) -> io::Result<Follower> {
    let links = Links::new()?;
    Follower::spawn("ixgate-links", links.waker(), |orders| {
        Thread { handle, states, orders, plans: Vec::new(), latest: HashMap::new() }.run(links);
    })
}

struct Thread<C: Core> {
    handle: Handle<C>,
    states: States,
    orders: Orders,
    plans: Vec<InterfacePlan>,
    /// What the kernel said last of each.
    latest: HashMap<InterfaceId, LinkReport>,
}

impl<C: Core> Thread<C> {
    fn run(mut self, mut links: Links) {
        let mut tried = Instant::now();
        while self.turn(&mut links, OPEN_AGAIN.saturating_sub(tried.elapsed())).is_ok() {
            if tried.elapsed() >= OPEN_AGAIN {
                tried = Instant::now();
                if self.open_waiting().is_err() {
                    return;
                }
            }
        }
    }

    /// An error: it is to end, as the worker has.
    fn turn(&mut self, links: &mut Links, until_next_try: Duration) -> Result<(), WorkerError> {
        match self.orders.take() {
            Order::GoOn => {}
            Order::Follow(plans) => {
                self.adopt(plans);
                links.follow(self.followed());
            }
            Order::End => return Err(WorkerError::Gone),
        }
        let wait = self.looks_again().then_some(until_next_try);
        if let Err(error) = links.wait(wait) {
            tracing::error!("interfaces cannot be followed, trying again: {error}");
            thread::sleep(RETRY_AFTER);
            links.follow(self.followed());
        }
        while let Some(news) = links.poll_news() {
            self.pass_on(news)?;
        }
        Ok(())
    }

    fn adopt(&mut self, plans: Vec<InterfacePlan>) {
        self.plans = plans;
        self.latest.retain(|interface, _| self.plans.iter().any(|plan| plan.interface == *interface));
    }

    /// In our own namespace.
    fn followed(&self) -> impl Iterator<Item = (InterfaceId, String)> {
        let ours = self.plans.iter().filter(|plan| plan.daemon.is_none());
        ours.map(|plan| (plan.interface, plan.name.clone()))
    }

    fn waiting(&self) -> impl Iterator<Item = &InterfacePlan> {
        self.plans.iter().filter(|plan| !self.states.is_open(plan.interface))
    }

    /// Of a daemon's, nobody but the worker hears that it is gone.
    fn looks_again(&self) -> bool {
        self.waiting().next().is_some() || self.plans.iter().any(|plan| plan.daemon.is_some())
    }

    fn pass_on(&mut self, News { report, index }: News) -> Result<(), WorkerError> {
        let interface = report.interface;
        let Some(plan) = self.plans.iter().find(|plan| plan.interface == interface).cloned() else { return Ok(()) };
        self.latest.insert(interface, report);
        match index {
            Some(index) if self.states.is_open_at(interface, index) => self.handle.tell_link(report, plan.numbered()),
            Some(_) => self.open(&plan),
            None => {
                self.note_gone(&plan);
                self.handle.close_interface(plan.numbered())?;
                self.handle.tell_link(report, plan.numbered())
            }
        }
    }

    /// Of a TUN device that was not open, it is known why.
    fn note_gone(&self, plan: &InterfacePlan) {
        if !plan.is_tun || self.states.is_open(plan.interface) {
            self.states.change(plan, State::of_error(&InterfaceError::gone(&plan.name, plan.is_tun)));
        }
    }

    /// Ends early at new orders: what is known here may be true no more.
    fn open_waiting(&mut self) -> Result<(), WorkerError> {
        let waiting: Vec<_> = self.waiting().cloned().collect();
        waiting.iter().try_for_each(|plan| if self.orders.are_new() { Ok(()) } else { self.open(plan) })
    }

    /// If it can be; the worker is told either way.
    fn open(&mut self, plan: &InterfacePlan) -> Result<(), WorkerError> {
        let is_open = match open_one(plan.clone()) {
            Ok((sockets, state)) => {
                // Before the worker can say that it is gone again.
                self.states.change(plan, state);
                self.handle.adopt(sockets, plan.numbered())?;
                true
            }
            Err(error) => {
                self.states.change(plan, State::of_error(&error));
                false
            }
        };
        let Some(latest) = self.latest.get(&plan.interface) else { return Ok(()) };
        self.handle.tell_link(LinkReport { is_up: latest.is_up && is_open, ..*latest }, plan.numbered())
    }
}

fn open_one(plan: InterfacePlan) -> Result<(Sockets, State), InterfaceError> {
    let driver = privileges::with(move || plan.open())?;
    let state = State::of_driver(&*driver);
    let mut sockets = Sockets::default();
    sockets.add_driver(driver);
    Ok((sockets, state))
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
