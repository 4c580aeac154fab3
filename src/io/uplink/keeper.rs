//! Opens uplinks, keeps the table of our addresses, and answers for ways: for a thread of its own.
//!
//! What needs privileges is done by the thread that has them ([`privileges`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::MAX_UPLINKS;
use super::desk::Desk;
use super::error::UplinkError;
use super::interface::{self, Shared};
use super::program::Ours;
use crate::io::netlink::policies;
use crate::io::netlink::ways::{self, Device, Resolver};
use crate::io::poller::Waker;
use crate::io::privileges;
use crate::net::{Mac, Port};

/// Everything is looked at again so often, whatever the kernel tells.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Ways that nobody has used for so long, or twice as long, are given up.
const SWEEP_EVERY: Duration = Duration::from_secs(120);
/// Between two times that all ways are asked for: at least so long, and ten times as long as it took.
const PAUSE: Duration = Duration::from_millis(100);
const SHARE: u32 = 10;

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
    states: BTreeMap<String, State>,
    wants_look: bool,
    wants_addresses: bool,
    wants_ways: bool,
    last_ways: (Instant, Duration),
    last_look: Instant,
    last_sweep: Instant,
}

/// If anything of it changes, it is opened anew.
#[derive(PartialEq, Eq, Debug)]
struct Opened {
    name: String,
    mac: Mac,
    mtu_bytes: u32,
    kind: String,
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
        self.wants_addresses |= changed.addresses;
        self.wants_ways |= changed.links || changed.addresses || changed.routes;
        self.look_now_and_then();
        self.serve()?;
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

    fn serve(&mut self) -> io::Result<()> {
        let questions = self.desk.take_questions();
        if let Some(listening) = questions.listening {
            self.listening = listening;
            self.tell_ours()?;
        }
        // Given up and asked for again, it is followed.
        questions.forgotten.iter().for_each(|key| self.resolver.forget(key));
        for key in questions.asked {
            self.resolver.follow(key)?;
        }
        for uplink in questions.returned {
            self.closing.remove(&uplink.device);
            self.wants_look = true;
        }
        for device in questions.failed {
            self.close(device);
            self.wants_look = true;
        }
        Ok(())
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
            let link = links.iter().map(|device| &device.link).find(|link| link.index == *index);
            link.is_some_and(|link| {
                (&link.name, link.mac, link.mtu_bytes) == (&opened.name, opened.mac, opened.mtu_bytes)
            })
        };
        let must_go = |index: &u32, opened: &Opened| has_policies || !is_as_it_was(index, opened);
        let changed = self.open.iter().filter(|(index, opened)| must_go(index, opened)).map(|(index, _)| *index);
        changed.collect::<Vec<_>>().into_iter().for_each(|index| self.close(index));
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
        let (of, ours) = (device.clone(), self.ours.clone());
        let uplink = privileges::with(move || interface::open(&of, &ours)).map_err(|error| error.to_string())?;
        let kind = uplink.kind();
        let opened = Opened { name: link.name.clone(), mac: link.mac, mtu_bytes: link.mtu_bytes, kind: kind.clone() };
        self.open.insert(link.index, opened);
        self.desk.answer(|answers| answers.opened.push(Box::new(uplink)));
        Ok(kind)
    }

    fn close(&mut self, device: u32) {
        if self.open.remove(&device).is_none() {
            return;
        }
        let mut is_taken = true;
        self.desk.answer(|answers| {
            answers.opened.retain(|uplink| {
                is_taken &= uplink.device != device;
                uplink.device != device
            });
            answers.closed.push(device);
        });
        if is_taken {
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
