//! Keeps uplinks open, and the ways of what goes by them, in a thread of its own.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::follower::{Follower, Order, Orders};
use crate::io::sockets::Sockets;
use crate::io::uplink::desk::Desk;
use crate::io::uplink::keeper::{Keeper, State};
use crate::io::uplink::{UplinkError, Uplinks};
use crate::telemetry::source::UplinkState;

/// A turn waits for what there is to do, and at most so long.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// After netlink has failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How they are. Cheap to clone: all clones are one.
#[derive(Clone, Debug, Default)]
pub struct States(Arc<Mutex<Vec<UplinkState>>>);

impl States {
    pub fn list(&self) -> Vec<UplinkState> {
        self.lock().clone()
    }

    fn set<'a>(&self, states: impl Iterator<Item = (&'a String, &'a State)>) {
        *self.lock() =
            states.map(|(name, driver)| UplinkState { name: name.clone(), driver: driver.clone() }).collect();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<UplinkState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without AF_XDP the appliance works by its sockets. `None`: it was not asked for, or cannot be had, which is told.
pub fn prepare(names: &[String], sockets: &mut Sockets) -> (Option<Keeper>, States) {
    let states = States::default();
    if names.is_empty() {
        return (None, states);
    }
    match add(names, sockets) {
        Ok(keeper) => (Some(keeper), states),
        Err(error) => {
            tracing::warn!("tunnels' data goes by sockets: {error}");
            let why: State = Err(error.to_string());
            states.set(names.iter().map(|name| (name, &why)));
            (None, states)
        }
    }
}

fn add(names: &[String], sockets: &mut Sockets) -> Result<Keeper, UplinkError> {
    let desk = Desk::default();
    let keeper = Keeper::new(desk.clone(), names.to_vec())?;
    sockets.add_uplinks(Uplinks::new(desk).map_err(|error| UplinkError::of(&names.join(", "), error))?);
    Ok(keeper)
}

/// Starts the thread.
pub fn keep(keeper: Keeper, states: States) -> io::Result<Follower> {
    Follower::spawn("ixgate-uplinks", keeper.waker(), move |orders| run(keeper, &states, &orders))
}

fn run(mut keeper: Keeper, states: &States, orders: &Orders) {
    let mut known = BTreeMap::new();
    // Ports come and go without it.
    while orders.take() != Order::End {
        if let Err(error) = keeper.turn(LONGEST_WAIT) {
            tracing::error!("uplinks cannot be followed, trying again: {error}");
            thread::sleep(RETRY_AFTER);
            keeper.look_again();
        }
        if known != *keeper.states() {
            tell(&known, keeper.states());
            states.set(keeper.states().iter());
            known.clone_from(keeper.states());
        }
    }
}

fn tell(before: &BTreeMap<String, State>, now: &BTreeMap<String, State>) {
    for (name, state) in now.iter().filter(|(name, state)| before.get(*name) != Some(state)) {
        match state {
            Ok(kind) => tracing::info!("{name}: tunnels' data goes by {kind}"),
            Err(why) => tracing::warn!("{name}: tunnels' data goes by sockets: {why}"),
        }
    }
}
