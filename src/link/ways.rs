//! A station's ways to others: which next hops it has, how they are watched, and what becomes of that.

use std::net::{IpAddr, Ipv6Addr};

use super::config::EthernetConfig;
use super::endpoint::NextHopStatus;
use super::liveness::{Watch, WatchAction};
use super::nd;
use super::neighbours::Unsure;
use super::next_hops::NextHops;
use super::routers::Routers;
use super::station::Station;
use crate::net::Timestamp;
use crate::net::random::{Random, Seeded};
use crate::packet::Outbox;

impl Station {
    /// The same addresses in the same place, and other ways: who is where stays known.
    pub fn reconfigure(
        &mut self,
        before: &EthernetConfig,
        config: &EthernetConfig,
        random: &mut Seeded,
        now: Timestamp,
    ) {
        self.next_hops = NextHops::new(config);
        let watch = Watch::new(self.next_hops.watched(), config.liveness, config.bfd, random.u64());
        let before_it = std::mem::replace(&mut self.watch, watch);
        if self.claims.mac().is_some() {
            self.watch.start(now);
        }
        // Hops come and go, be it by a daemon's doing: that must cost no session with those that stay.
        if (before.liveness, before.bfd) == (config.liveness, config.bfd) {
            self.watch.take_over(before_it, now);
        }
        for hop in self.next_hops.watched().to_vec() {
            let is_alive = self.watch.status(hop).is_some_and(|status| status.is_alive);
            self.next_hops.set_alive(hop, is_alive);
        }
        if before.accept_ra != config.accept_ra {
            self.routers = config.accept_ra.then(Routers::new);
            if let (Some(routers), Some(_)) = (&mut self.routers, self.claims.mac()) {
                routers.start(now, random.u64());
            }
        }
        self.proxy.clone_from(&config.proxy);
        self.speakers.clone_from(&config.speakers);
        self.networks.clone_from(&config.networks);
        self.set_routers(now);
    }

    pub(super) fn switch(&mut self, hop: IpAddr, is_alive: bool, now: Timestamp) {
        self.counts.switches += u64::from(self.next_hops.set_alive(hop, is_alive));
        if !is_alive {
            self.neighbours.forget_mac(hop, now); // another station may have its address by now
        }
    }

    pub(super) fn look(&mut self, action: WatchAction, outbox: &mut Outbox, now: Timestamp) {
        match action {
            WatchAction::Probe(hop) => {
                self.neighbours.note_asked(hop, now);
                self.ask(hop, self.neighbours.mac_of(hop), outbox);
            }
            WatchAction::Bfd { to, source_port, payload } => {
                let Some(source) = self.claims.source_towards(to) else { return };
                let found = match self.neighbours.find(to, now) {
                    Some(mac) => Ok(Unsure::Send(mac)),
                    None => self.neighbours.find_out(to, &[], now),
                };
                match found {
                    Ok(Unsure::Send(mac)) => {
                        super::ours::send_bfd(&self.framing, mac, (source, to), source_port, &payload, outbox);
                    }
                    Ok(Unsure::Ask { .. }) => self.ask(to, None, outbox),
                    Ok(Unsure::Waits) | Err(_) => {}
                }
            }
        }
    }

    pub(super) fn settle_routers(&mut self, outbox: &mut Outbox, now: Timestamp) {
        let Some(routers) = &mut self.routers else { return };
        let is_changed = routers.handle_timeout(now);
        if routers.poll_solicit(now) {
            let source = self.claims.link_local().unwrap_or(Ipv6Addr::UNSPECIFIED);
            let mac = self.framing.mac();
            self.send_nd(nd::group_mac(nd::ALL_ROUTERS), outbox, |out| nd::emit_router_solicitation(out, source, mac));
        }
        if is_changed {
            self.set_routers(now);
        }
    }

    /// Those that announce themselves are next hops, too.
    pub(super) fn set_routers(&mut self, now: Timestamp) {
        let routers = self.routers.as_ref().map_or(&[][..], Routers::list);
        self.next_hops.set_routers(routers);
        let mut pinned = self.next_hops.watched().to_vec();
        for router in routers.iter().map(|router| IpAddr::V6(*router)) {
            if !pinned.contains(&router) {
                pinned.push(router);
            }
        }
        self.neighbours.pin(&pinned, now);
    }

    pub fn next_hop_status(&self) -> Vec<NextHopStatus> {
        let of = |hop: &IpAddr| {
            let status = self.watch.status(*hop)?;
            Some(NextHopStatus {
                address: *hop,
                mac: self.neighbours.mac_of(*hop),
                is_alive: status.is_alive,
                watched_by: status.watched_by,
                bfd: status.bfd,
                is_used: self.next_hops.is_used(*hop),
                since: status.since,
            })
        };
        self.next_hops.watched().iter().filter_map(of).collect()
    }
}
