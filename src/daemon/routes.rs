//! Follows what routing daemons learn, in a thread of its own, and has the configuration made again when something has changed:
//! a moment after the last change, and not too often.

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
use crate::net::{MAX_INTERFACES, Timestamp};

/// Daemons announce in bursts: as long as more comes so soon, it is waited for ...
const QUIET: Duration = Duration::from_millis(200);
/// ... but not longer than this; and no generation follows another faster.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
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
        let changes = Debounce::default();
        Thread { orders, heard, clock, poller, followed: Vec::new(), changes }.run(tell);
    })
}

struct Thread {
    orders: Orders,
    heard: Shared,
    clock: Clock,
    poller: Poller,
    followed: Vec<Followed>,
    changes: Debounce,
}

/// One daemon's namespace.
struct Followed {
    device: String,
    daemon: DaemonPlan,
    routes: Option<Routes>,
    /// When everything is to be asked for again, or opening to be tried again.
    next_look: Timestamp,
    is_overflow_said: bool,
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
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let realm = heard.entry(followed.daemon.realm.clone()).or_default();
        if trouble != realm.trouble {
            let name = &followed.daemon.realm;
            match &trouble {
                Some(words) => tracing::warn!("realm {name}: its routing daemon cannot be followed: {words}"),
                None => tracing::info!("realm {name}: its routing daemon is followed"),
            }
            self.changes.note(now);
        }
        let had_routes = !realm.routes.is_empty();
        let changes = realm.changes;
        let Some(routes) = &mut followed.routes else {
            *realm = HeardRealm { trouble, changes: changes + u64::from(had_routes), ..HeardRealm::default() };
            if had_routes {
                self.changes.note(now);
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
        if is_changed {
            realm.routes = routes.table().routes().collect();
            realm.changes += 1;
            self.changes.note(now);
        }
    }
}

impl Followed {
    fn next_wake(&mut self) -> Timestamp {
        let ask = self.routes.as_mut().and_then(|routes| routes.table().poll_timeout());
        ask.map_or(self.next_look, |ask| ask.min(self.next_look))
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

/// When a change is told: a quiet moment after the latest, but not long after the first.
#[derive(Default)]
struct Debounce {
    first: Option<Timestamp>,
    latest: Timestamp,
    told: Option<Timestamp>,
}

impl Debounce {
    fn note(&mut self, now: Timestamp) {
        self.first.get_or_insert(now);
        self.latest = now;
    }

    fn due(&self) -> Option<Timestamp> {
        let quiet = (self.latest + QUIET).min(self.first? + AT_MOST_EVERY);
        Some(self.told.map_or(quiet, |told| quiet.max(told + AT_MOST_EVERY)))
    }

    fn take_due(&mut self, now: Timestamp) -> bool {
        let is_due = self.due().is_some_and(|at| at <= now);
        if is_due {
            (self.first, self.told) = (None, Some(now));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::super::interfaces::OpenedRoutes;
    use super::super::interfaces::tests::plan;
    use super::*;
    use crate::io::frames::testbed::{sh, with_testbed};

    fn at(millis: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_is_told_once_and_no_oftener_than_once_a_second() {
        let mut changes = Debounce::default();
        assert_eq!((changes.due(), changes.take_due(at(0))), (None, false));
        changes.note(at(0));
        changes.note(at(150));
        assert!(!changes.take_due(at(349)) && changes.take_due(at(350)) && !changes.take_due(at(9_000)));
        changes.note(at(400));
        assert_eq!(changes.due(), Some(at(1350)), "a second after the one before");
        assert!(changes.take_due(at(1350)));
    }

    /// Looks until the realm has learned these.
    fn until(thread: &mut Thread, from: u64, wanted: &[&str]) {
        for turn in 0..20 {
            thread.look(0, at(from + turn * 1000));
            if learned(thread) == wanted {
                return;
            }
            thread.poller.wait(Some(Duration::from_secs(1))).unwrap();
        }
        assert_eq!(learned(thread), wanted);
    }

    fn learned(thread: &Thread) -> Vec<String> {
        thread.heard.lock().unwrap()["a"].routes.iter().map(|route| route.prefix.to_string()).collect()
    }

    /// With a route, as its daemon would set it.
    fn make_device(route: &str) -> Routes {
        sh(&format!(
            "ip link add bgp type veth peer name far; ip link set far up; ip link set bgp up; ip route add {route} dev bgp"
        ));
        Routes::open(interface::index("bgp").unwrap(), 10).unwrap()
    }

    #[test]
    fn of_a_device_that_was_made_again_the_new_routes_are_learned_and_the_old_ones_forgotten() {
        with_testbed(|_bed| {
            let opened = OpenedRoutes::default();
            opened.put(make_device("10.1.0.0/16"));
            let daemon = DaemonPlan {
                realm: "a".to_owned(),
                namespace: "bgp".to_owned(),
                max_prefixes: 10,
                opened: opened.clone(),
            };
            let plan = InterfacePlan { is_tun: true, daemon: Some(daemon), ..plan(0, "bgp", 1280) };
            let (poller, changes) = (Poller::new().unwrap(), Debounce::default());
            let (orders, heard) = (Default::default(), Shared::default());
            let mut thread = Thread { orders, heard, clock: Clock::start(), poller, followed: Vec::new(), changes };
            thread.adopt(&[plan]);
            until(&mut thread, 0, &["10.1.0.0/16"]);
            sh("ip link del bgp");
            opened.put(make_device("10.2.0.0/16"));
            thread.look(0, at(30_000));
            assert!(learned(&thread).is_empty());
            until(&mut thread, 31_000, &["10.2.0.0/16"]);
        });
    }

    #[test]
    fn what_never_rests_is_told_all_the_same() {
        let mut changes = Debounce::default();
        let told: Vec<u64> = (0..50)
            .map(|n| n * 100)
            .filter(|millis| {
                changes.note(at(*millis));
                changes.take_due(at(*millis))
            })
            .collect();
        assert_eq!(told, [1000, 2100, 3200, 4300]);
    }
}
