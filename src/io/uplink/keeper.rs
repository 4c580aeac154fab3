//! Opens uplinks, keeps the table of our addresses, and answers for ways: for a thread of its own.
//!
//! What needs privileges is done by the thread that has them ([`privileges`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::MAX_UPLINKS;
use super::desk::{Asked, Desk};
use super::error::UplinkError;
use super::interface::{self, Shared};
use super::program::Ours;
use crate::io::frames::af_xdp::program::Link;
use crate::io::netlink::policies;
use crate::io::netlink::ways::{self, Device, Resolver};
use crate::io::poller::Waker;
use crate::io::privileges;
use crate::net::{Mac, Port};

/// Everything is looked at again so often, whatever the kernel tells.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// An interface that is as it was is opened so often at most: each time its card may be reset, which the kernel tells, by which it is looked at again. A
/// little less, so that every such look may try.
const OPEN_EVERY: Duration = Duration::from_secs(25);
/// Ways that nobody has used for so long, or twice as long, are given up.
const SWEEP_EVERY: Duration = Duration::from_secs(120);
/// Between two times that all ways are asked for: at least so long, and ten times as long as it took.
const PAUSE: Duration = Duration::from_millis(100);
const SHARE: u32 = 10;

const HAS_FAILED: &str = "it has failed, and is opened again in a while";
const HAS_POLICIES: &str =
    "the kernel has IPsec policies of its own (`ip xfrm policy`), and what goes past its stack would go past them";

/// How an uplink is: by what it is carried, or why not.
pub type State = Result<String, String>;

/// [`Keeper::turn`] again and again.
#[derive(Debug)]
pub struct Keeper {
    desk: Desk,
    resolver: Resolver,
    ours: Shared,
    names: Vec<String>,
    listening: Vec<(Port, SocketAddr)>,
    addresses: Vec<IpAddr>,
    /// By the kernel's number.
    open: BTreeMap<u32, Opened>,
    /// Closed, and the packet path has them still: they are opened again only when they are back.
    closing: BTreeSet<u32>,
    attempts: Attempts,
    states: BTreeMap<String, State>,
    wants_look: bool,
    wants_addresses: bool,
    wants_ways: bool,
    last_ways: (Instant, Duration),
    last_look: Instant,
    last_sweep: Instant,
}

/// If anything but its kind changes, it is opened anew.
#[derive(Debug)]
struct Opened {
    name: String,
    like: Like,
    kind: String,
    /// Keeps the program on the interface: nothing comes any more when it is dropped.
    link: Link,
}

/// What decides how an interface is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Like {
    mac: Mac,
    mtu_bytes: u32,
    queues: u32,
}

/// The latest opening of each interface, by the kernel's number.
#[derive(Default, Debug)]
struct Attempts(BTreeMap<u32, Attempt>);

#[derive(Debug)]
struct Attempt {
    at: Instant,
    like: Like,
    /// What it came to.
    why_not: String,
}

impl Attempts {
    /// Why not.
    fn may_open(&self, device: u32, like: Like, now: Instant) -> Result<(), String> {
        match self.0.get(&device) {
            Some(attempt) if attempt.like == like && now < attempt.at + OPEN_EVERY => Err(attempt.why_not.clone()),
            _ => Ok(()),
        }
    }

    fn note(&mut self, device: u32, like: Like, at: Instant, why_not: String) {
        self.0.insert(device, Attempt { at, like, why_not });
    }

    /// It was closed, and for no fault of its own.
    fn forget(&mut self, device: u32) {
        self.0.remove(&device);
    }

    /// Of interfaces that there are no more nothing is kept.
    fn retain(&mut self, is_there: impl Fn(u32) -> bool) {
        self.0.retain(|device, _| is_there(*device));
    }
}

impl Keeper {
    /// Needs CAP_BPF.
    pub fn new(desk: Desk, names: Vec<String>) -> Result<Self, UplinkError> {
        let name = names.join(", ");
        let fail = |error| UplinkError::of(&name, error);
        let resolver = Resolver::open().map_err(fail)?;
        let ours = privileges::with(Ours::new).map_err(fail)?;
        desk.wake_for_questions(resolver.waker());
        let now = Instant::now();
        Ok(Keeper {
            desk,
            resolver,
            ours: Arc::new(Mutex::new(ours)),
            names: names.into_iter().take(MAX_UPLINKS).collect(),
            listening: Vec::new(),
            addresses: Vec::new(),
            open: BTreeMap::new(),
            closing: BTreeSet::new(),
            attempts: Attempts::default(),
            states: BTreeMap::new(),
            wants_look: true,
            wants_addresses: true,
            wants_ways: false,
            last_ways: (now, Duration::ZERO),
            last_look: now,
            last_sweep: now,
        })
    }

    /// Ends a turn's waiting.
    pub fn waker(&self) -> Waker {
        self.resolver.waker()
    }

    /// Of every uplink, by name.
    pub fn states(&self) -> &BTreeMap<String, State> {
        &self.states
    }

    /// Nothing that was known counts.
    pub fn look_again(&mut self) {
        (self.wants_look, self.wants_addresses, self.wants_ways) = (true, true, true);
    }

    /// Waits for something to do, at most so long, and does it.
    pub fn turn(&mut self, at_most: Duration) -> io::Result<()> {
        let is_idle = !(self.wants_look || self.wants_addresses);
        let changed = self.resolver.wait(if is_idle { self.patience().min(at_most) } else { Duration::ZERO })?;
        self.wants_look |= changed.links;
        // What belongs to a VRF has its own.
        self.wants_addresses |= changed.addresses || changed.links;
        self.wants_ways |= changed.links || changed.addresses || changed.routes;
        self.look_now_and_then();
        self.serve();
        if std::mem::take(&mut self.wants_addresses) {
            self.addresses = self.resolver.addresses()?;
            self.resolver.set_addresses(self.addresses.clone());
            self.tell_ours()?;
        }
        if std::mem::take(&mut self.wants_look) {
            self.look()?;
        }
        if self.wants_ways && self.ways_are_due_in() == Duration::ZERO {
            self.wants_ways = false;
            let begun = Instant::now();
            self.resolver.ask_again()?;
            self.last_ways = (begun, begun.elapsed());
        }
        let stale = self.resolver.take_stale();
        if !stale.is_empty() {
            privileges::with(move || ways::confirm(&stale))?;
        }
        self.tell_news();
        Ok(())
    }

    fn patience(&self) -> Duration {
        let ways = if self.wants_ways { self.ways_are_due_in() } else { LOOK_EVERY };
        ways.min(LOOK_EVERY.saturating_sub(self.last_look.elapsed()))
    }

    fn ways_are_due_in(&self) -> Duration {
        let (begun, took) = self.last_ways;
        PAUSE.max(took * SHARE).saturating_sub(begun.elapsed())
    }

    fn look_now_and_then(&mut self) {
        if self.last_look.elapsed() >= LOOK_EVERY {
            self.last_look = Instant::now();
            self.look_again();
        }
        if self.last_sweep.elapsed() >= SWEEP_EVERY {
            self.last_sweep = Instant::now();
            self.desk.answer(|answers| answers.sweep = true);
        }
    }

    fn serve(&mut self) {
        let questions = self.desk.take_questions();
        for device in questions.failed {
            self.close(device);
            self.wants_look = true;
        }
        for uplink in questions.returned {
            if !self.closing.remove(&uplink.device) {
                // The packet path could not take it.
                self.open.remove(&uplink.device).into_iter().for_each(take_off);
            }
            self.wants_look = true;
        }
        if let Some(listening) = questions.listening {
            self.listening = listening;
            self.wants_addresses = true;
        }
        for asked in questions.asked {
            match asked {
                Asked::Forget(key) => self.resolver.forget(&key),
                // It has no way until it is asked for again.
                Asked::Follow(key) => self.wants_ways |= self.resolver.follow(key).is_err(),
            }
        }
    }

    fn tell_ours(&self) -> io::Result<()> {
        let (ours, listening, addresses) = (self.ours.clone(), self.listening.clone(), self.addresses.clone());
        let set = move || ours.lock().unwrap_or_else(PoisonError::into_inner).set(&listening, &addresses);
        privileges::with(set).map(drop)
    }

    fn look(&mut self) -> io::Result<()> {
        let links = self.resolver.links()?;
        let has_policies = privileges::with(policies::are_there)?;
        let is_as_it_was = |index: &u32, opened: &Opened| {
            let device = links.iter().find(|device| device.link.index == *index);
            device.is_some_and(|device| {
                device.link.name == opened.name && like(device, opened.like.queues) == opened.like
            })
        };
        let must_go = |index: &u32, opened: &Opened| has_policies || !is_as_it_was(index, opened);
        let changed = self.open.iter().filter(|(index, opened)| must_go(index, opened)).map(|(index, _)| *index);
        for index in changed.collect::<Vec<_>>() {
            self.close(index);
            self.attempts.forget(index);
        }
        self.attempts.retain(|index| links.iter().any(|device| device.link.index == index));
        for name in self.names.clone() {
            let device = links.iter().find(|device| device.link.name == name);
            let state = match device {
                None => Err("there is no such interface".to_owned()),
                Some(_) if has_policies => Err(HAS_POLICIES.to_owned()),
                Some(device) => self.open(device),
            };
            self.states.insert(name, state);
        }
        let ours = links.into_iter().filter(|device| self.open.contains_key(&device.link.index));
        self.resolver.set_devices(ours.collect());
        Ok(())
    }

    fn open(&mut self, device: &Device) -> State {
        let link = &device.link;
        if let Some(opened) = self.open.get(&link.index) {
            return Ok(if link.is_up { opened.kind.clone() } else { format!("{}, down", opened.kind) });
        }
        if !link.is_up {
            return Err("it is down".to_owned());
        }
        if self.closing.contains(&link.index) {
            return Err("it is about to be opened again".to_owned());
        }
        let (like, now) = (like(device, 0), Instant::now());
        self.attempts.may_open(link.index, like, now)?;
        let (of, ours) = (device.clone(), self.ours.clone());
        let opened = privileges::with(move || interface::open(&of, &ours)).map_err(|error| error.to_string());
        let why_not = opened.as_ref().err().map_or(HAS_FAILED, String::as_str);
        self.attempts.note(link.index, like, now, why_not.to_owned());
        let (uplink, program) = opened?;
        let kind = uplink.kind();
        self.open.insert(link.index, Opened { name: link.name.clone(), like, kind: kind.clone(), link: program });
        self.desk.answer(|answers| answers.opened.push(Box::new(uplink)));
        Ok(kind)
    }

    /// First nothing comes any more, then the packet path lets go of it.
    fn close(&mut self, device: u32) {
        let Some(opened) = self.open.remove(&device) else { return };
        take_off(opened);
        let mut never_taken = Vec::new();
        self.desk.answer(|answers| {
            never_taken.extend(answers.opened.extract_if(.., |uplink| uplink.device == device));
            answers.closed.push(device);
        });
        if never_taken.is_empty() {
            self.closing.insert(device);
        }
    }

    fn tell_news(&mut self) {
        let news: Vec<_> = std::iter::from_fn(|| self.resolver.poll_news()).collect();
        if !news.is_empty() {
            self.desk.answer(|answers| answers.ways.extend(news));
        }
    }
}

fn take_off(opened: Opened) {
    privileges::with(move || drop(opened.link));
}

/// How an interface is now; `queues_otherwise`: where it cannot be looked at.
fn like(device: &Device, queues_otherwise: u32) -> Like {
    let link = &device.link;
    let (name, index) = (link.name.clone(), link.index);
    let queues = privileges::with(move || interface::receive_queues(&name, index)).unwrap_or(queues_otherwise);
    Like { mac: link.mac, mtu_bytes: link.mtu_bytes, queues }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIKE: Like = Like { mac: Mac([2, 0, 0, 0, 0, 1]), mtu_bytes: 1500, queues: 4 };

    #[test]
    fn an_interface_is_opened_again_only_after_a_while_or_when_it_has_changed() {
        let (mut attempts, begun) = (Attempts::default(), Instant::now());
        assert_eq!(attempts.may_open(7, LIKE, begun), Ok(()));
        attempts.note(7, LIKE, begun, "no memory".to_owned());
        for secs in [0, 1, 24] {
            assert_eq!(attempts.may_open(7, LIKE, begun + Duration::from_secs(secs)), Err("no memory".to_owned()));
        }
        assert_eq!(attempts.may_open(8, LIKE, begun), Ok(()));
        for like in [Like { mac: Mac([2; 6]), ..LIKE }, Like { mtu_bytes: 9000, ..LIKE }, Like { queues: 2, ..LIKE }] {
            assert_eq!(attempts.may_open(7, like, begun), Ok(()));
        }
        assert_eq!(attempts.may_open(7, LIKE, begun + LOOK_EVERY), Ok(()), "each look that comes by itself may try");
        attempts.forget(7);
        assert_eq!(attempts.may_open(7, LIKE, begun), Ok(()));
        attempts.note(7, LIKE, begun, String::new());
        attempts.retain(|device| device != 7);
        assert!(attempts.0.is_empty());
    }
}
