//! How each interface is: written by who opens them, read for `status`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{InterfaceError, InterfacePlan, Numbered};
use crate::dataplane::snapshot::Interface;
use crate::io::frames::Driver;
use crate::net::InterfaceId;
use crate::telemetry::source::{DriverState, InterfaceState, NotOpen};

/// Of the interfaces that the running configuration has. Cheap to clone: all clones are one.
#[derive(Clone, Debug, Default)]
pub struct States(Arc<Mutex<BTreeMap<InterfaceId, Known>>>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Known {
    interface: Interface,
    what: &'static str,
    state: State,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// The kernel's number of what was opened, by what its frames are moved, and why by nothing better.
    Open {
        index: u32,
        driver: String,
        note: Option<String>,
    },
    Closed(NotOpen),
}

impl State {
    pub fn of_driver(driver: &dyn Driver) -> Self {
        State::Open { index: driver.interface_index(), driver: driver.kind(), note: driver.note().map(str::to_owned) }
    }

    pub fn of_error(error: &InterfaceError) -> Self {
        State::Closed(NotOpen { why: error.to_string(), at_next_start: error.needs_a_start() })
    }

    fn is_open_at(&self, kernel_index: u32) -> bool {
        matches!(self, State::Open { index, .. } if *index == kernel_index)
    }
}

impl States {
    /// Of an interface that is configured from now on.
    pub fn add(&self, plan: &InterfacePlan, state: State) {
        log(&plan.name, None, &state);
        let (number, interface) = plan.numbered();
        self.lock().insert(number, Known { interface, what: plan.what(), state });
    }

    /// Of one that is configured (still).
    pub fn change(&self, plan: &InterfacePlan, state: State) {
        self.set(&plan.numbered(), |_| true, state);
    }

    /// What the kernel had under this number was taken away, and is closed. One that was opened since is another.
    pub fn note_gone(&self, numbered: &Numbered, kernel_index: u32) {
        let (_, interface) = numbered;
        let gone = InterfaceError::gone(&interface.name, interface.is_tun);
        self.set(numbered, |before| before.is_open_at(kernel_index), State::of_error(&gone));
    }

    fn set(&self, (number, interface): &Numbered, applies: impl Fn(&State) -> bool, state: State) {
        let mut all = self.lock();
        let known = all.get_mut(number).filter(|known| known.interface == *interface && applies(&known.state));
        let Some(known) = known else { return };
        log(&interface.name, Some(&known.state), &state);
        known.state = state;
    }

    /// Forgets those that are configured no more.
    pub fn retain(&self, plans: &[InterfacePlan]) {
        let kept: Vec<Numbered> = plans.iter().map(InterfacePlan::numbered).collect();
        self.lock()
            .retain(|number, known| kept.iter().any(|(of, interface)| (of, interface) == (number, &known.interface)));
    }

    pub fn is_open(&self, interface: InterfaceId) -> bool {
        matches!(self.lock().get(&interface), Some(Known { state: State::Open { .. }, .. }))
    }

    /// The one that has this number now is the one that was opened.
    pub fn is_open_at(&self, interface: InterfaceId, kernel_index: u32) -> bool {
        self.lock().get(&interface).is_some_and(|known| known.state.is_open_at(kernel_index))
    }

    pub fn list(&self) -> Vec<InterfaceState> {
        let driver = |state: &State| match state {
            State::Open { driver, note, .. } => Ok(DriverState { kind: driver.clone(), note: note.clone() }),
            State::Closed(not_open) => Err(not_open.clone()),
        };
        let state = |known: &Known| InterfaceState {
            name: known.interface.name.clone(),
            what: known.what,
            driver: driver(&known.state),
        };
        self.lock().values().map(state).collect()
    }

    pub fn numbered(&self) -> Vec<Numbered> {
        self.lock().iter().map(|(number, known)| (*number, known.interface.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InterfaceId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is new.
fn log(name: &str, before: Option<&State>, now: &State) {
    match (before, now) {
        (Some(before), now) if before == now => {}
        (_, State::Open { driver, note, .. }) => {
            let why = note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
            tracing::info!("interface {name} is open: {driver}{why}");
        }
        (_, State::Closed(not_open)) => {
            tracing::warn!(
                "interface {name} is not open, and what is on it is down: {}; {}",
                not_open.why,
                not_open.opens()
            );
        }
    }
}
