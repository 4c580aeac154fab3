//! Where every packet went. Counted in one place, from the packet's fate, so that the sums always agree.

use std::ops::AddAssign;

use crate::net::{RealmId, Timestamp, TunnelId};
use crate::packet::{DropReason, Fate, Meta};

use super::report::{Drops, Totals, Traffic};

impl Traffic {
    #[inline]
    pub fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

impl Totals {
    /// Whether everything that came in is accounted for: in = out + drops.
    pub fn balances(&self, dropped: u64) -> bool {
        let fragments = self.fragments_joined + self.fragments_kept;
        self.datagrams_in == self.control + self.keepalives + self.forwarded + self.answered + fragments + dropped
    }
}

/// Of packets that one realm sent or received.
#[derive(Clone, Copy, Debug)]
pub struct RealmCounters {
    pub received: Traffic,
    pub sent: Traffic,
    pub drops: Drops,
}

/// A cache line.
#[derive(Clone, Copy, Default, Debug)]
#[repr(align(64))]
pub struct TunnelCounters {
    pub received: Traffic,
    pub sent: Traffic,
    pub last_data_received: Option<Timestamp>,
}

#[derive(Debug)]
pub struct Counters {
    pub totals: Totals,
    pub unattributed_drops: Drops,
    realms: Vec<RealmCounters>,
    tunnels: Vec<TunnelCounters>,
}

impl Counters {
    pub fn new() -> Self {
        Counters {
            totals: Totals::default(),
            unattributed_drops: [0; DropReason::COUNT],
            realms: Vec::new(),
            tunnels: Vec::new(),
        }
    }

    /// Makes room for realm numbers and tunnel ids below these. Never shrinks: what was counted stays counted.
    pub fn resize(&mut self, realms: usize, tunnels: usize) {
        const NONE: RealmCounters = RealmCounters {
            received: Traffic { packets: 0, bytes: 0 },
            sent: Traffic { packets: 0, bytes: 0 },
            drops: [0; DropReason::COUNT],
        };
        self.realms.resize(realms.max(self.realms.len()), NONE);
        self.tunnels.resize(tunnels.max(self.tunnels.len()), TunnelCounters::default());
    }

    pub fn realm(&self, realm: RealmId) -> Option<&RealmCounters> {
        self.realms.get(usize::from(realm.0))
    }

    pub fn tunnel(&self, tunnel: TunnelId) -> Option<&TunnelCounters> {
        self.tunnels.get(tunnel.index())
    }

    /// Its number now means another tunnel. What the realm and the totals counted stays.
    pub fn reset_tunnel(&mut self, tunnel: TunnelId) {
        if let Some(counters) = self.tunnels.get_mut(tunnel.index()) {
            *counters = TunnelCounters::default();
        }
    }

    /// Reads what packets will be counted in. What comes of it means nothing.
    #[inline]
    pub fn touch_tunnel(&self, tunnel: TunnelId) -> u64 {
        self.tunnel(tunnel).map_or(0, |counters| counters.received.packets)
    }

    #[inline]
    pub fn touch_realm(&self, realm: RealmId) -> u64 {
        self.realm(realm).map_or(0, |counters| counters.received.packets ^ counters.received.bytes)
    }

    /// Inner packets came out of a tunnel.
    #[inline]
    pub fn received(&mut self, tunnel: TunnelId, realm: RealmId, traffic: Traffic, now: Timestamp) {
        self.realms[usize::from(realm.0)].received += traffic;
        let tunnel = &mut self.tunnels[tunnel.index()];
        tunnel.received += traffic;
        tunnel.last_data_received = Some(now);
    }

    /// An inner packet went into a tunnel.
    #[inline]
    pub fn sent(&mut self, tunnel: TunnelId, realm: RealmId, bytes: usize) {
        self.sent_all(tunnel, realm, Traffic { packets: 1, bytes: bytes as u64 });
    }

    /// The same for some of one tunnel.
    #[inline]
    pub fn sent_all(&mut self, tunnel: TunnelId, realm: RealmId, traffic: Traffic) {
        self.realms[usize::from(realm.0)].sent += traffic;
        self.tunnels[tunnel.index()].sent += traffic;
    }

    /// An outer datagram was dropped before it became a packet.
    #[inline]
    pub fn dropped_outside(&mut self, reason: DropReason, realm: Option<RealmId>) {
        match realm {
            Some(realm) => self.realms[usize::from(realm.0)].drops[reason.index()] += 1,
            None => self.unattributed_drops[reason.index()] += 1,
        }
    }

    /// A message that was counted as understood was not, as it turned out.
    pub fn control_refused(&mut self, reason: DropReason) {
        self.totals.control -= 1;
        self.dropped_outside(reason, None);
    }

    /// Fragments that had been kept have become one packet, which is about to walk: as one of them.
    pub fn reassembled(&mut self, fragments: usize) {
        self.totals.fragments_kept -= fragments as u64;
        self.totals.fragments_joined += fragments as u64 - 1;
        self.totals.reassembled += 1;
    }

    /// Fragments that had been kept have been given up.
    pub fn fragments_lost(&mut self, reason: DropReason, realm: RealmId, fragments: usize) {
        self.totals.fragments_kept -= fragments as u64;
        self.realms[usize::from(realm.0)].drops[reason.index()] += fragments as u64;
    }

    /// The walk of these packets has ended.
    #[inline]
    pub fn ended_all(&mut self, metas: &[Meta]) {
        let totals = &mut self.totals;
        for meta in metas {
            match meta.fate {
                Fate::Forwarded => totals.forwarded += 1,
                Fate::Answered => totals.answered += 1,
                Fate::Dropped(reason) => self.realms[usize::from(meta.realm.0)].drops[reason.index()] += 1,
                Fate::Kept => totals.fragments_kept += 1,
                Fate::Live | Fate::Translated => debug_assert!(false, "a packet left the walk without a fate"),
            }
        }
    }

    /// Packets that were counted as forwarded turned out not to be taken by the kernel.
    pub fn unsent(&mut self, packets: u64) {
        self.lost(packets, DropReason::EgressQueueFull);
    }

    /// Packets that were counted as forwarded came to nothing in their port.
    pub fn lost(&mut self, packets: u64, reason: DropReason) {
        let packets = packets.min(self.totals.forwarded);
        self.totals.forwarded -= packets;
        self.unattributed_drops[reason.index()] += packets;
    }

    pub fn total_drops(&self) -> u64 {
        let realms: u64 = self.realms.iter().flat_map(|r| r.drops).sum();
        realms + self.unattributed_drops.iter().sum::<u64>()
    }
}

impl Default for Counters {
    fn default() -> Self {
        Counters::new()
    }
}
