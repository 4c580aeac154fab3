//! Where every packet went. Counted in one place, from the packet's fate, so that the sums always agree.
//!
//! What a realm received and sent is what its tunnels did, and what those had that are no more: so a packet is counted with its tunnel alone.

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
    /// Whose it is. `None`: nobody's (any more).
    realm: Option<RealmId>,
}

const _: () = assert!(size_of::<TunnelCounters>() == 64);

#[derive(Debug)]
pub struct Counters {
    pub totals: Totals,
    pub unattributed_drops: Drops,
    /// Of what was sent and received: by tunnels that are no more.
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

    /// By realm number, with what its tunnels have received and sent.
    pub fn realms(&self) -> Vec<RealmCounters> {
        let mut realms = self.realms.clone();
        for tunnel in &self.tunnels {
            if let Some(realm) = tunnel.realm.and_then(|realm| realms.get_mut(usize::from(realm.0))) {
                realm.received += tunnel.received;
                realm.sent += tunnel.sent;
            }
        }
        realms
    }

    pub fn tunnel(&self, tunnel: TunnelId) -> Option<&TunnelCounters> {
        self.tunnels.get(tunnel.index())
    }

    /// Its number now means another tunnel, of that realm, or none. What the realm before and the totals counted stays.
    pub fn give_tunnel(&mut self, tunnel: TunnelId, to: Option<RealmId>) {
        let Some(counters) = self.tunnels.get_mut(tunnel.index()) else { return };
        let before = std::mem::replace(counters, TunnelCounters { realm: to, ..TunnelCounters::default() });
        if let Some(realm) = before.realm.and_then(|realm| self.realms.get_mut(usize::from(realm.0))) {
            realm.received += before.received;
            realm.sent += before.sent;
        }
    }

    /// Whose a tunnel is. `None`: nobody's (any more).
    #[inline]
    pub fn realm_of(&self, tunnel: TunnelId) -> Option<RealmId> {
        self.tunnel(tunnel)?.realm
    }

    /// Reads what packets will be counted in. What comes of it means nothing.
    #[inline]
    pub fn touch_tunnel(&self, tunnel: TunnelId) -> u64 {
        self.tunnel(tunnel).map_or(0, |counters| counters.received.packets)
    }

    /// Inner packets came out of a tunnel.
    #[inline]
    pub fn received(&mut self, tunnel: TunnelId, traffic: Traffic, now: Timestamp) {
        let tunnel = &mut self.tunnels[tunnel.index()];
        tunnel.received += traffic;
        tunnel.last_data_received = Some(now);
    }

    /// An inner packet went into a tunnel.
    #[inline]
    pub fn sent(&mut self, tunnel: TunnelId, bytes: usize) {
        self.sent_all(tunnel, Traffic { packets: 1, bytes: bytes as u64 });
    }

    /// The same for some of one tunnel.
    #[inline]
    pub fn sent_all(&mut self, tunnel: TunnelId, traffic: Traffic) {
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
        let forwarded = metas.iter().filter(|meta| meta.fate == Fate::Forwarded).count();
        totals.forwarded += forwarded as u64;
        if forwarded == metas.len() {
            return;
        }
        for meta in metas {
            match meta.fate {
                Fate::Forwarded => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_realm_received_and_sent_stays_when_its_tunnels_number_is_anothers() {
        const NOW: Timestamp = Timestamp::from_secs(1);
        let (one, other) = (RealmId(1), RealmId(2));
        let [first, second] = [0, 1].map(TunnelId);
        let mut counters = Counters::new();
        counters.resize(3, 2);
        counters.give_tunnel(first, Some(one));
        counters.give_tunnel(second, Some(one));
        counters.received(first, Traffic { packets: 2, bytes: 200 }, NOW);
        counters.sent(second, 50);
        let of = |counters: &Counters, realm: RealmId| {
            let counters = &counters.realms()[usize::from(realm.0)];
            (counters.received.packets, counters.received.bytes, counters.sent.packets, counters.sent.bytes)
        };
        assert_eq!((of(&counters, one), of(&counters, other)), ((2, 200, 1, 50), (0, 0, 0, 0)));

        counters.give_tunnel(first, Some(other));
        counters.give_tunnel(second, None);
        counters.received(first, Traffic { packets: 1, bytes: 10 }, NOW);
        assert_eq!((of(&counters, one), of(&counters, other)), ((2, 200, 1, 50), (1, 10, 0, 0)));
        assert_eq!((counters.realm_of(first), counters.realm_of(second)), (Some(other), None));
        assert_eq!(counters.tunnel(second).map(|tunnel| tunnel.sent), Some(Traffic::default()));
    }
}
