//! One tunnel: its SAs in the order in which they are tried for a packet, and what must be done for it when.

use std::time::Duration;

use super::event::{Event, EventQueue};
use super::sa::{Sa, Sealing};
use super::status::TunnelStatus;
use super::table::{SaTable, Slot};
use crate::net::{Path, Port, Timestamp, TunnelId};
use crate::packet::DropReason;

/// A NAT on the way forgets us after this long without a packet from us (RFC 3948 section 4: default 20 s).
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// At most one [`Event::Moved`] of a tunnel in this time.
pub const MOVED_INTERVAL: Duration = Duration::from_secs(1);

/// In this order in memory: what packets to the peer ask for, in one cache line, and the rest. Those from the peer ask for nothing.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Tunnel {
    /// For sealing: active ones, newest first; then those that wait to be heard, oldest first.
    outbound: Vec<Slot>,
    pub last_sent: Timestamp,
    /// All of them, oldest first.
    pub sas: Vec<Slot>,
    id: TunnelId,
    /// The outbox had no room for a keepalive before.
    keepalive_not_before: Timestamp,
    /// When the endpoint is to look at this tunnel next; its entry in the endpoint's deadlines.
    pub deadline: Option<Timestamp>,
    moved_told: Option<Timestamp>,
    untold: Option<Moves>,
}

/// Where the peer was when it was last told of, where it is, and the moves between.
#[derive(Debug)]
struct Moves {
    spi_in: u32,
    from: Path,
    to: Path,
    count: u32,
}

impl Tunnel {
    pub fn new(id: TunnelId, now: Timestamp) -> Self {
        Tunnel {
            id,
            outbound: Vec::new(),
            sas: Vec::new(),
            last_sent: now,
            keepalive_not_before: now,
            deadline: None,
            moved_told: None,
            untold: None,
        }
    }

    #[inline]
    pub fn is_up(&self) -> bool {
        !self.outbound.is_empty()
    }

    /// The SA for nearly every packet.
    pub fn preferred(&self) -> Option<Slot> {
        self.outbound.first().copied()
    }

    /// The SA for a packet: the first in order that may carry it. Nearly always that is the first of all.
    #[inline]
    pub fn choose(&self, packet: &[u8], table: &SaTable) -> Result<Slot, DropReason> {
        if self.outbound.is_empty() {
            return Err(DropReason::TunnelDown);
        }
        let carries = |slot: &&Slot| table.get(**slot).is_some_and(|sa| sa.carries(packet));
        self.outbound.iter().find(carries).copied().ok_or(DropReason::OutboundNotInSelectors)
    }

    /// After an SA came, went, or was heard.
    pub fn order(&mut self, table: &SaTable) {
        // Of those that wait, the peer surely has the oldest: it cannot have begun another exchange before it had the answer.
        let age = |sa: &Sa| if sa.sealing == Sealing::Waiting { sa.number } else { u64::MAX - sa.number };
        let rank = |slot: &Slot| table.get(*slot).map(|sa| (sa.sealing, age(sa)));
        self.outbound.clear();
        self.outbound.extend(self.sas.iter().filter(|slot| rank(slot).is_some_and(|(s, _)| s != Sealing::Retired)));
        self.outbound.sort_by_key(rank);
    }

    pub fn path(&self, table: &SaTable) -> Option<Path> {
        Some(table.get(*self.outbound.first().or(self.sas.last())?)?.path)
    }

    /// When a keepalive would have to be sent: only through UDP, where a NAT may be, and only while there is an SA.
    pub fn keepalive_at(&self, table: &SaTable) -> Option<Timestamp> {
        let is_udp = self.is_up() && self.path(table).is_some_and(|path| path.port == Port::IkeNatT);
        is_udp.then(|| (self.last_sent + KEEPALIVE_INTERVAL).max(self.keepalive_not_before))
    }

    pub fn delay_keepalive(&mut self, until: Timestamp) {
        self.keepalive_not_before = until;
    }

    /// The first of all that is to be done.
    pub fn next_deadline(&self, table: &SaTable) -> Option<Timestamp> {
        let ends = self.sas.iter().filter_map(|slot| table.get(*slot)?.retired_until).min();
        let tell = self.untold.as_ref().and(self.moved_told).map(|told| told + MOVED_INTERVAL);
        [self.keepalive_at(table), ends, tell].into_iter().flatten().min()
    }

    /// Sends packets to where an authentic one came from: all SAs that were where this one was.
    pub fn follow(&mut self, slot: Slot, to: Path, table: &mut SaTable, events: &mut EventQueue, now: Timestamp) {
        let Some((from, spi_in)) = table.get(slot).map(|sa| (sa.path, sa.spi_in)) else { return };
        for slot in &self.sas {
            if let Some(sa) = table.get_mut(*slot).filter(|sa| sa.path == from && sa.follow_path) {
                sa.path = to;
            }
        }
        if from.remote == to.remote && from.port == to.port {
            return; // only which of our addresses it called has been learnt
        }
        let moves = self.untold.get_or_insert(Moves { spi_in, from, to, count: 0 });
        (moves.spi_in, moves.to) = (spi_in, to);
        moves.count = moves.count.saturating_add(1);
        self.tell_moves(events, now);
    }

    /// Told at once, or with the moves that follow once it is time again.
    pub fn tell_moves(&mut self, events: &mut EventQueue, now: Timestamp) {
        let is_due = self.moved_told.is_none_or(|last| now.saturating_since(last) >= MOVED_INTERVAL);
        if is_due && let Some(Moves { spi_in, from, to, count }) = self.untold.take() {
            self.moved_told = Some(now);
            events.push(Event::Moved { tunnel: self.id, spi_in, from, to, moves: count });
        }
    }

    pub fn status(&self, table: &SaTable) -> TunnelStatus {
        TunnelStatus { up: self.is_up(), path: self.path(table), sas: self.sas.len() }
    }
}
