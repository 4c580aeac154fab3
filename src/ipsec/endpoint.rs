//! Every SA of every IPsec tunnel. Pure: no socket, no clock, no randomness of its own.
//!
//! After `install`, `open`, `seal` or `handle_timeout`, send the outbox, drain `poll_event`, then read `poll_timeout`.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;
use thiserror::Error;

use super::esp::Overhead;
use super::event::{Event, EventQueue};
use super::lifetime::Wear;
use super::replay::{MAX_WINDOW_PACKETS, MIN_WINDOW_PACKETS};
use super::sa::{ChildSa, Sa, Sealing};
use super::selectors::MAX_SELECTORS;
use super::status::{SaStatus, TunnelStatus};
use super::table::{SaTable, Slot};
use super::tunnel::Tunnel;
use crate::net::{Path, Timestamp, TunnelId};
use crate::packet::Outbox;

/// SPIs below this are reserved (RFC 4303 section 2.1); 0 marks IKE messages on port 4500 (RFC 3948 section 2.2).
pub const FIRST_SPI: u32 = 256;
/// The NAT keepalive of RFC 3948 section 2.3.
const NAT_KEEPALIVE: [u8; 1] = [0xff];
/// When the outbox had no room for a keepalive.
const KEEPALIVE_RETRY: Duration = Duration::from_millis(100);

/// Bounds of the endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Tunnel numbers are below this.
    pub tunnels: usize,
    /// SAs of all tunnels together, the retired ones included.
    pub sas: usize,
    /// SAs of one tunnel. At the bound, the retired one that would end first makes room for a new one.
    pub sas_per_tunnel: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { tunnels: 65_536, sas: 131_072, sas_per_tunnel: 256 }
    }
}

/// Why an SA could not be installed. It is then as if IKE had never agreed on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum InstallError {
    #[error("SPI {0:#010x} is reserved (RFC 4303 section 2.1)")]
    SpiReserved(u32),
    #[error("SPI {0:#010x} already belongs to an SA of ours")]
    SpiTaken(u32),
    #[error("the tunnel's number is beyond the {0} that one endpoint serves")]
    TunnelBeyondLimit(usize),
    #[error("{0} SAs exist, which is the limit; no tunnel can have another")]
    TooManySas(usize),
    #[error("the tunnel has {0} SAs in use, which is the limit")]
    TooManySasOfTunnel(usize),
    #[error("{0} traffic selectors on one side; an SA takes 1 to {MAX_SELECTORS}")]
    SelectorCount(usize),
    #[error("a replay window of {0} packets; {MIN_WINDOW_PACKETS} to {MAX_WINDOW_PACKETS} are served")]
    ReplayWindow(u32),
}

/// See the [room](super).
pub struct Endpoint {
    limits: Limits,
    jitter: FixedState,
    pub(super) table: SaTable,
    /// By tunnel number.
    pub(super) tunnels: Vec<Option<Box<Tunnel>>>,
    pub(super) events: EventQueue,
    /// At most one for each tunnel, as the tunnel's `deadline` says.
    deadlines: BTreeSet<(Timestamp, TunnelId)>,
    installed: u64,
    /// The latest time that we were told.
    pub(super) now: Timestamp,
}

impl Endpoint {
    /// `seed`: unknown to outsiders; it decides where an SPI lies in the table, and how early an SA asks for its successor.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Endpoint {
            limits,
            jitter: FixedState::with_seed(!seed),
            table: SaTable::new(seed),
            tunnels: Vec::new(),
            events: EventQueue::default(),
            deadlines: BTreeSet::new(),
            installed: 0,
            now: Timestamp::ZERO,
        }
    }

    /// Takes a Child SA into use, see [`super::Outbound`].
    pub fn install(&mut self, child: ChildSa, now: Timestamp) -> Result<(), InstallError> {
        self.now = self.now.max(now);
        self.check(&child)?;
        self.make_room(child.tunnel)?;
        let id = child.tunnel;
        if self.tunnels.len() <= id.index() {
            self.tunnels.resize_with(id.index() + 1, || None);
        }
        let jitter = self.jitter.hash_one(child.spi_in) as u16;
        self.installed += 1;
        let slot = self.table.insert(Sa::new(child, self.installed, jitter, now));
        let tunnel = self.tunnels[id.index()].get_or_insert_with(|| Box::new(Tunnel::new(id, now)));
        if tunnel.sas.is_empty() {
            tunnel.last_sent = now; // IKE has just sent something
        }
        tunnel.sas.push(slot);
        tunnel.order(&self.table);
        self.schedule(id);
        Ok(())
    }

    /// Stops sealing with the SA at once; packets that come by it are opened for `linger` more.
    pub fn retire(&mut self, spi_in: u32, linger: Duration, now: Timestamp) {
        self.now = self.now.max(now);
        let Some(slot) = self.table.lookup(spi_in) else { return };
        let Some(sa) = self.table.get_mut(slot) else { return };
        let until = now + linger;
        sa.sealing = Sealing::Retired;
        sa.retired_until = Some(sa.retired_until.map_or(until, |earlier| earlier.min(until)));
        let id = sa.tunnel;
        if linger.is_zero() {
            self.remove_sa(slot);
        } else if let Some(tunnel) = tunnel_mut(&mut self.tunnels, id) {
            tunnel.order(&self.table);
        }
        self.schedule(id);
    }

    /// Forgets the tunnel and its SAs.
    pub fn remove_tunnel(&mut self, id: TunnelId) {
        let Some(tunnel) = self.tunnels.get_mut(id.index()).and_then(Option::take) else { return };
        for slot in &tunnel.sas {
            self.table.remove(*slot);
        }
        if let Some(deadline) = tunnel.deadline {
            self.deadlines.remove(&(deadline, id));
        }
    }

    /// Whether packets can be sealed to the peer. Cheap enough to ask for every packet.
    #[inline]
    pub fn is_up(&self, id: TunnelId) -> bool {
        self.tunnels.get(id.index()).is_some_and(|tunnel| tunnel.as_ref().is_some_and(|tunnel| tunnel.is_up()))
    }

    /// What ESP adds to packets of this tunnel, by the SA that they are sealed with. `None`: there is none.
    pub fn overhead(&self, id: TunnelId) -> Option<Overhead> {
        let tunnel = self.tunnels.get(id.index())?.as_ref()?;
        Some(self.table.get(tunnel.preferred()?)?.overhead())
    }

    /// The peer told us its new address (MOBIKE, RFC 4555), or IKE saw it there. `follow_path` as in [`ChildSa`], from now on.
    pub fn move_path(&mut self, id: TunnelId, path: Path, follow_path: bool) {
        let Some(tunnel) = tunnel_mut(&mut self.tunnels, id) else { return };
        for slot in &tunnel.sas {
            if let Some(sa) = self.table.get_mut(*slot) {
                (sa.path, sa.follow_path) = (path, follow_path);
            }
        }
        self.schedule(id);
    }

    /// Keepalives, the end of retired SAs, moves not yet told.
    pub fn handle_timeout(&mut self, outbox: &mut Outbox, now: Timestamp) {
        self.now = self.now.max(now);
        for _ in 0..self.deadlines.len() {
            let Some(&(at, id)) = self.deadlines.first().filter(|(at, _)| *at <= self.now) else { return };
            self.deadlines.remove(&(at, id));
            if let Some(tunnel) = tunnel_mut(&mut self.tunnels, id) {
                tunnel.deadline = None;
            }
            self.run_timers_of(id, outbox);
            self.schedule(id);
        }
    }

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        self.deadlines.first().map(|(at, _)| (*at, "ipsec timers"))
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.poll()
    }

    /// Events that nobody polled in time.
    pub fn events_lost(&self) -> u64 {
        self.events.lost()
    }

    /// SAs of all tunnels together.
    pub fn sa_count(&self) -> usize {
        self.table.len()
    }

    pub fn status(&self, id: TunnelId) -> Option<TunnelStatus> {
        Some(self.tunnels.get(id.index())?.as_ref()?.status(&self.table))
    }

    /// The SAs of one tunnel, oldest first.
    pub fn sas(&self, id: TunnelId) -> impl Iterator<Item = SaStatus> {
        let tunnel = self.tunnels.get(id.index()).and_then(Option::as_ref);
        tunnel.into_iter().flat_map(|tunnel| tunnel.sas.iter().filter_map(|slot| Some(self.table.get(*slot)?.status())))
    }

    fn check(&self, child: &ChildSa) -> Result<(), InstallError> {
        if let Some(spi) = [child.spi_in, child.spi_out].into_iter().find(|spi| *spi < FIRST_SPI) {
            return Err(InstallError::SpiReserved(spi));
        }
        if self.table.lookup(child.spi_in).is_some() {
            return Err(InstallError::SpiTaken(child.spi_in));
        }
        if child.tunnel.index() >= self.limits.tunnels {
            return Err(InstallError::TunnelBeyondLimit(self.limits.tunnels));
        }
        let counts = [child.ours.len(), child.theirs.len()];
        if let Some(count) = counts.into_iter().find(|count| !(1..=MAX_SELECTORS).contains(count)) {
            return Err(InstallError::SelectorCount(count));
        }
        if !(MIN_WINDOW_PACKETS..=MAX_WINDOW_PACKETS).contains(&child.replay_window) {
            return Err(InstallError::ReplayWindow(child.replay_window));
        }
        Ok(())
    }

    /// Sees to it that the tunnel can have another SA.
    fn make_room(&mut self, id: TunnelId) -> Result<(), InstallError> {
        let tunnel = self.tunnels.get(id.index()).and_then(Option::as_ref);
        let count = tunnel.map_or(0, |tunnel| tunnel.sas.len());
        if count >= self.limits.sas_per_tunnel {
            let ends = |slot: &&Slot| self.table.get(**slot)?.retired_until;
            let retired = tunnel.and_then(|t| t.sas.iter().filter(|s| ends(s).is_some()).min_by_key(ends).copied());
            self.remove_sa(retired.ok_or(InstallError::TooManySasOfTunnel(count))?);
        }
        match self.table.len() < self.limits.sas {
            true => Ok(()),
            false => Err(InstallError::TooManySas(self.limits.sas)),
        }
    }

    pub(super) fn on_wear(&mut self, slot: Slot, wear: Wear) {
        let Some(sa) = self.table.get_mut(slot) else { return };
        let (tunnel, spi_in) = (sa.tunnel, sa.spi_in);
        match wear {
            Wear::Fresh => {}
            // Asked for once; again only if the question was lost. A retired SA needs no successor.
            Wear::RekeyDue if sa.rekey_told || sa.sealing == Sealing::Retired => {}
            Wear::RekeyDue => sa.rekey_told = self.events.push(Event::RekeyDue { tunnel, spi_in }),
            Wear::WornOut => {
                self.events.push(Event::Expired { tunnel, spi_in });
                self.remove_sa(slot);
                self.schedule(tunnel);
            }
        }
    }

    fn remove_sa(&mut self, slot: Slot) {
        let Some(sa) = self.table.remove(slot) else { return };
        if let Some(tunnel) = tunnel_mut(&mut self.tunnels, sa.tunnel) {
            tunnel.sas.retain(|other| *other != slot);
            tunnel.order(&self.table);
        }
    }

    fn run_timers_of(&mut self, id: TunnelId, outbox: &mut Outbox) {
        let Some(tunnel) = tunnel_mut(&mut self.tunnels, id) else { return };
        tunnel.tell_moves(&mut self.events, self.now);
        let end_of = |slot: &Slot| self.table.get(*slot)?.retired_until;
        let is_over = |slot: &&Slot| end_of(slot).is_some_and(|until| until <= self.now);
        let over: Vec<Slot> = tunnel.sas.iter().filter(is_over).copied().collect();
        if tunnel.keepalive_at(&self.table).is_some_and(|at| at <= self.now)
            && let Some(path) = tunnel.path(&self.table)
        {
            match outbox.push(path, false, &NAT_KEEPALIVE) {
                true => tunnel.last_sent = self.now,
                false => tunnel.delay_keepalive(self.now + KEEPALIVE_RETRY),
            }
        }
        over.into_iter().for_each(|slot| self.remove_sa(slot));
    }

    /// Brings the tunnel's entry in `deadlines` up to date. Packets sent in the meantime only make it come too early.
    pub(super) fn schedule(&mut self, id: TunnelId) {
        let Some(tunnel) = tunnel_mut(&mut self.tunnels, id) else { return };
        let deadline = tunnel.next_deadline(&self.table);
        if tunnel.deadline == deadline {
            return;
        }
        if let Some(old) = tunnel.deadline {
            self.deadlines.remove(&(old, id));
        }
        self.deadlines.extend(deadline.map(|at| (at, id)));
        tunnel.deadline = deadline;
    }
}

#[inline]
pub(super) fn tunnel_mut(tunnels: &mut [Option<Box<Tunnel>>], id: TunnelId) -> Option<&mut Tunnel> {
    tunnels.get_mut(id.index())?.as_deref_mut()
}

#[cfg(test)]
impl Endpoint {
    pub fn deadline_count(&self) -> usize {
        self.deadlines.len()
    }
}
