//! Keeps the gate on the interfaces that tunnels' datagrams may come by, in a thread of its own: they come and go while we run.
//!
//! Those are all Ethernet interfaces of the machine, or the ones that the configuration names; ports are never among them, as their frames do not come to
//! sockets. The kernel tells when anything about interfaces changes; then all are looked at.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::follower::{Follower, Order, Orders};
use super::interfaces::InterfacePlan;
use crate::io::frames::interface;
use crate::io::gate::{Gate, Link};
use crate::io::netlink::Changes;
use crate::io::privileges;
use crate::telemetry::source::GateState;

/// Interfaces that have the gate, at most. Whoever has more names those that matter.
pub const MAX_INTERFACES: usize = 64;
/// After netlink has failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Of the configuration, instead of all. `None`: it names none.
pub type Named = Option<Vec<String>>;

/// Which interfaces, and how it stands. Cheap to clone: all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Gates(Arc<Mutex<GateState>>);

impl Gates {
    /// There is none, for this reason.
    pub fn without(why: String) -> Self {
        Gates(Arc::new(Mutex::new(GateState { why_not: Some(why), ..GateState::default() })))
    }

    pub fn state(&self) -> GateState {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread.
pub fn keep(gate: Gate, named: Named, gates: Gates) -> io::Result<Follower> {
    let changes = Changes::new()?;
    Follower::spawn("ixgate-gates", changes.waker(), |orders| {
        let keeper = Keeper {
            gate: Arc::new(gate),
            named,
            gates,
            ports: Vec::new(),
            links: BTreeMap::new(),
            missing: Vec::new(),
        };
        keeper.run(orders, changes);
    })
}

struct Keeper {
    gate: Arc<Gate>,
    named: Named,
    gates: Gates,
    /// Interfaces that ports are on.
    ports: Vec<String>,
    /// By the kernel's number. `Err`: it could not be attached, and that has been told.
    links: BTreeMap<u32, (String, Result<Link, String>)>,
    /// Named, and not there; that has been told.
    missing: Vec<String>,
}

impl Keeper {
    fn run(mut self, orders: Orders, mut changes: Changes) {
        loop {
            match orders.take() {
                Order::GoOn => {}
                Order::Follow(plans) => self.ports = ports_of(&plans),
                Order::End => return,
            }
            self.look();
            if let Err(error) = changes.wait() {
                tracing::error!("interfaces cannot be followed for the gate, trying again: {error}");
                thread::sleep(RETRY_AFTER);
            }
        }
    }

    fn look(&mut self) {
        let wanted = self.wanted();
        self.links.retain(|index, (name, _)| wanted.get(index) == Some(name));
        for (index, name) in wanted {
            if !self.links.contains_key(&index) {
                let gate = self.gate.clone();
                let link = privileges::with(move || gate.attach(index)).map_err(|error| error.to_string());
                match &link {
                    Ok(_) => tracing::info!("gate on {name}: in overload packets are shed there, before they cost"),
                    Err(error) => tracing::warn!("no gate on {name}: {error}"),
                }
                self.links.insert(index, (name, link));
            }
        }
        let missing = self.named_and_missing();
        for name in missing.iter().filter(|name| !self.missing.contains(name)) {
            tracing::warn!(
                "no gate on {name}: there is no such Ethernet interface; it gets one when it comes (`interfaces` in [gate])"
            );
        }
        self.missing = missing;
        let mut state = self.gates.lock();
        let names = |is_open: bool| {
            let with = self.links.values().filter(move |(_, link)| link.is_ok() == is_open);
            let mut names: Vec<String> = with.map(|(name, _)| name.clone()).collect();
            names.sort();
            names
        };
        (state.interfaces, state.refused) = (names(true), names(false));
        state.refused.extend(self.missing.iter().cloned());
    }

    /// Those that ports are on are told by the configuration's check.
    fn named_and_missing(&self) -> Vec<String> {
        let is_there = |name: &String| self.links.values().any(|(one, _)| one == name);
        let named = self.named.iter().flatten();
        named.filter(|name| !is_there(name) && !self.ports.contains(name)).cloned().collect()
    }

    fn wanted(&self) -> BTreeMap<u32, String> {
        let is_wanted = |name: &String| match &self.named {
            Some(named) => named.contains(name),
            None => true,
        };
        let all = interface::list().into_iter().filter(|name| is_wanted(name) && !self.ports.contains(name));
        // One that goes away meanwhile is none.
        let ethernet = all.filter(|name| matches!(interface::mac(name), Ok(Some(_))));
        let found: BTreeMap<u32, String> =
            ethernet.filter_map(|name| Some((interface::index(&name).ok()?, name))).collect();
        // Those that came first have the lower numbers: however many come later, none of them takes another's place.
        found.into_iter().take(MAX_INTERFACES).collect()
    }
}

fn ports_of(plans: &[InterfacePlan]) -> Vec<String> {
    let frames = plans.iter().filter(|plan| !plan.is_tun && plan.daemon.is_none());
    frames.map(|plan| plan.name.clone()).collect()
}

#[cfg(test)]
mod tests;
