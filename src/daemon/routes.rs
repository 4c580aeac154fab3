//! Follows what routing daemons learn, in a thread of its own, and has the configuration made again when something has changed:
//! a moment after the last change, and not too often (see [`damping`]).

mod damping;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::follower::{Follower, Order, Orders};
use super::interfaces::{DaemonPlan, InterfacePlan};
use crate::control::learned::{Heard, HeardRealm};
use crate::io::clock::Clock;
use crate::io::frames::interface;
use crate::io::netlink::routes::Routes;
use crate::io::netns::{self, NamespaceError};
use crate::io::poller::Poller;
use crate::io::privileges;
use crate::net::{LearnedRoute, MAX_INTERFACES, Timestamp};
use damping::{Damping, MAX_HOLD, Pace};

/// The kernel does not tell of everything.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// After a namespace or a device was not there.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// What is known, for whoever makes configurations.
pub type Shared = Arc<Mutex<Heard>>;

#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error("its TUN device {0} is not in the namespace {1}")]
    NoDevice(String, String),
    #[error("routes cannot be followed: {0}")]
    Netlink(#[from] io::Error),
}

/// Starts the thread. Of the plans that it is given it follows those of daemons, which are open. `tell` is called after changes of `heard`.
pub fn follow(heard: Shared, clock: Clock, tell: impl Fn() + Send + 'static) -> io::Result<Follower> {
    let poller = Poller::new()?;
    Follower::spawn("ixgate-routes", poller.waker(), move |orders| {
        let changes = Pace::default();
        Thread { orders, heard, clock, poller, followed: Vec::new(), changes }.run(tell);
    })
}

struct Thread {
    orders: Orders,
    heard: Shared,
    clock: Clock,
    poller: Poller,
    followed: Vec<Followed>,
    changes: Pace,
}

/// One daemon's namespace.
struct Followed {
    device: String,
    daemon: DaemonPlan,
    routes: Option<Routes>,
    /// When everything is to be asked for again, or opening to be tried again.
    next_look: Timestamp,
    is_overflow_said: bool,
    damping: Damping,
    is_damping_said: bool,
}

impl Thread {
    fn run(mut self, tell: impl Fn()) {
        loop {
            match self.orders.take() {
                Order::GoOn => {}
                Order::Follow(plans) => self.adopt(&plans),
                Order::End => return,
            }
            let now = self.clock.now();
            for number in 0..self.followed.len() {
                self.look(number, now);
            }
            if self.changes.take_due(now) {
                tell();
            }
            let looks = self.followed.iter_mut().map(Followed::next_wake);
            let next = looks.chain(self.changes.due()).min().map(|at| at.max(now) - now);
            if let Err(error) = self.poller.wait(next.map(|wait| wait.max(Duration::from_millis(1)))) {
                tracing::error!("routes cannot be followed: {error}");
                thread::sleep(RETRY_AFTER);
            }
        }
    }

    fn adopt(&mut self, plans: &[InterfacePlan]) {
        let mut before = std::mem::take(&mut self.followed);
        for plan in plans {
            let Some(daemon) = &plan.daemon else { continue };
            let is_same = |one: &Followed| {
                (&one.device, &one.daemon.namespace, &one.daemon.realm)
                    == (&plan.name, &daemon.namespace, &daemon.realm)
            };
            let kept = before.iter().position(is_same).map(|at| before.swap_remove(at));
            let mut followed = kept.unwrap_or_else(|| Followed {
                device: plan.name.clone(),
                daemon: daemon.clone(),
                routes: None,
                next_look: Timestamp::ZERO,
                is_overflow_said: false,
                damping: Damping::default(),
                is_damping_said: false,
            });
            if let Some(routes) = &mut followed.routes {
                routes.table().set_max_prefixes(daemon.max_prefixes);
            }
            followed.daemon = daemon.clone();
            self.followed.push(followed);
        }
        let realms: HashSet<&String> = self.followed.iter().map(|followed| &followed.daemon.realm).collect();
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).retain(|realm, _| realms.contains(realm));
    }

    fn look(&mut self, number: usize, now: Timestamp) {
        if self.followed[number].daemon.opened.is_some() {
            // The device was opened anew: of an earlier one's routes nothing is true any more.
            let followed = &mut self.followed[number];
            (followed.routes, followed.next_look) = (None, Timestamp::ZERO);
            self.publish(number, None, now);
        }
        let followed = &mut self.followed[number];
        if followed.routes.is_none() && now < followed.next_look {
            return;
        }
        let trouble = match followed.read(now, &self.poller, number) {
            Ok(()) => None,
            Err(error) => {
                // What was learned stays no longer than the way to know that it is still so.
                followed.routes = None;
                followed.next_look = now + RETRY_AFTER;
                Some(error.to_string())
            }
        };
        self.publish(number, trouble, now);
    }

    fn publish(&mut self, number: usize, trouble: Option<String>, now: Timestamp) {
        let followed = &mut self.followed[number];
        let is_changed = followed.routes.as_mut().is_some_and(|routes| routes.table().take_changed());
        if is_changed {
            followed.damping.note(now);
        }
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let realm = heard.entry(followed.daemon.realm.clone()).or_default();
        if trouble != realm.trouble {
            let name = &followed.daemon.realm;
            match &trouble {
                Some(words) => tracing::warn!("realm {name}: its routing daemon cannot be followed: {words}"),
                None => tracing::info!("realm {name}: its routing daemon is followed"),
            }
            self.changes.want();
        }
        let had_routes = !realm.routes.is_empty();
        let changes = realm.changes;
        let Some(routes) = &mut followed.routes else {
            *realm = HeardRealm { trouble, changes: changes + u64::from(had_routes), ..HeardRealm::default() };
            if had_routes {
                self.changes.want();
            }
            return;
        };
        realm.trouble = trouble;
        realm.overflow = routes.table().overflow();
        if realm.overflow > 0 && !followed.is_overflow_said {
            followed.is_overflow_said = true;
            let (name, max) = (&followed.daemon.realm, followed.daemon.max_prefixes);
            tracing::warn!(
                "realm {name}: its daemon has learned more than {max} prefixes, and the further ones are passed over; raise `max_prefixes`, or have the routers announce fewer"
            );
        }
        followed.is_overflow_said &= realm.overflow > 0;
        let learned = routes.table().routes();
        if followed.damping.is_due(now) && take(learned.collect(), realm, &mut followed.damping, now) {
            self.changes.want();
            followed.say_damping();
        }
    }
}

/// What was noted may be taken: `true` if it is still so. A prefix that is back as it was, since whenever, is no change.
fn take(learned: Vec<LearnedRoute>, realm: &mut HeardRealm, damping: &mut Damping, now: Timestamp) -> bool {
    let said = |route: &LearnedRoute| (route.prefix, route.via.clone());
    if learned.iter().map(said).eq(realm.routes.iter().map(said)) {
        damping.forget();
        return false;
    }
    damping.take(now);
    realm.routes = learned;
    realm.changes += 1;
    realm.held_until = damping.held_until();
    true
}

impl Followed {
    fn next_wake(&mut self) -> Timestamp {
        let ask = self.routes.as_mut().and_then(|routes| routes.table().poll_timeout());
        let taken = self.damping.due().filter(|_| self.routes.is_some());
        ask.into_iter().chain(taken).fold(self.next_look, Timestamp::min)
    }

    /// Once in a row.
    fn say_damping(&mut self) {
        let is_worst = self.damping.is_at_worst();
        if is_worst && !self.is_damping_said {
            let (name, secs) = (&self.daemon.realm, MAX_HOLD.as_secs());
            tracing::warn!(
                "realm {name}: what its daemon learns changes all the time, and is looked at once in {secs} s from now on; see which prefixes come and go at the carrier's routers"
            );
        }
        self.is_damping_said = is_worst;
    }

    fn read(&mut self, now: Timestamp, poller: &Poller, number: usize) -> Result<(), FollowError> {
        let Some(routes) = &mut self.routes else {
            let mut routes = match self.daemon.opened.take() {
                Some(routes) => routes,
                None => self.open()?,
            };
            poller.add(routes.fd(), token(number))?;
            routes.ask(now)?;
            self.next_look = now + LOOK_AGAIN;
            self.routes = Some(routes);
            return Ok(());
        };
        if now >= self.next_look {
            self.next_look = now + LOOK_AGAIN;
            routes.table().want_dump();
        }
        Ok(routes.handle_readable(now)?)
    }

    fn open(&self) -> Result<Routes, FollowError> {
        let (device, max_prefixes) = (self.device.clone(), self.daemon.max_prefixes);
        let namespace = self.daemon.namespace.clone();
        privileges::with(move || {
            netns::within(&namespace, || {
                let no_device = |_| FollowError::NoDevice(device.clone(), namespace.clone());
                Ok(Routes::open(interface::index(&device).map_err(no_device)?, max_prefixes)?)
            })?
        })
    }
}

/// Which of them it is does not matter: all are looked at.
fn token(number: usize) -> u8 {
    (number % MAX_INTERFACES) as u8
}
