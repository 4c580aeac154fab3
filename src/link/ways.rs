//! A station's ways to others: which next hops it has, how they are watched, and what becomes of that.

use std::net::{IpAddr, Ipv6Addr};

use super::config::EthernetConfig;
use super::endpoint::NextHopStatus;
use super::liveness::{Watch, WatchAction, WatchStatus};
use super::nd;
use super::neighbours::Unsure;
use super::next_hops::{Covered, NextHops};
use super::routers::Routers;
use super::station::Station;
use crate::net::random::Random;
use crate::net::{RealmId, Timestamp};
use crate::packet::Outbox;

impl Station {
    /// The same addresses in the same place, and other ways: who is where stays known.
    pub fn reconfigure(
        &mut self,
        before: &EthernetConfig,
        config: &EthernetConfig,
        random: &mut dyn Random,
        now: Timestamp,
    ) {
        self.next_hops = NextHops::new(config);
        let watch = Watch::new(self.next_hops.watched(), config.liveness, config.bfd, random);
        let mut before_it = std::mem::replace(&mut self.watch, watch);
        if self.claims.mac().is_some() {
            self.watch.start(now);
        }
        // Hops come and go, be it by a daemon's doing: that must cost no session with those that stay.
        if (before.liveness, before.bfd) == (config.liveness, config.bfd) {
            self.watch.take_over(&mut before_it, now);
        }
        self.farewells.extend(before_it.last_words());
        for hop in self.next_hops.watched().to_vec() {
            let is_alive = self.watch.status(hop).is_some_and(|status| status.is_alive);
            self.next_hops.set_alive(hop, is_alive);
        }
        if before.liveness != config.liveness {
            (self.liveness, self.router_watch) = (config.liveness, Watch::by_probes(&[], config.liveness));
        }
        if before.accept_ra != config.accept_ra {
            self.routers = config.accept_ra.then(Routers::new);
            if let (Some(routers), Some(_)) = (&mut self.routers, self.claims.mac()) {
                routers.start(now, random.u64());
            }
        }
        self.proxy = Covered::by(config.proxy.clone());
        self.speakers.clone_from(&config.speakers);
        self.networks = Covered::by(config.networks.clone());
        self.set_routers(now);
    }

    /// It answered, as it was asked to.
    pub(super) fn note_alive(&mut self, hop: IpAddr, now: Timestamp) {
        self.watch.handle_heard(hop, now);
        self.router_watch.handle_heard(hop, now);
    }

    pub(super) fn switch(&mut self, hop: IpAddr, is_alive: bool, now: Timestamp) {
        let is_switched = self.next_hops.set_alive(hop, is_alive) || self.router_watch.status(hop).is_some();
        self.counts.switches += u64::from(is_switched);
        self.use_routers();
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
                    None => self.neighbours.find_out(to, RealmId::IX, &[], now),
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

    /// Those that are watched by BFD no more are told, as far as it is known where they are.
    pub(super) fn bid_farewell(&mut self, outbox: &mut Outbox) {
        for word in std::mem::take(&mut self.farewells) {
            if let WatchAction::Bfd { to, source_port, payload } = word
                && let (Some(source), Some(mac)) = (self.claims.source_towards(to), self.neighbours.mac_of(to))
            {
                super::ours::send_bfd(&self.framing, mac, (source, to), source_port, &payload, outbox);
            }
        }
    }

    /// The port ends. `false`: there was nobody to be told.
    pub fn say_goodbye(&mut self, outbox: &mut Outbox) -> bool {
        self.farewells.extend(self.watch.last_words());
        let has_words = !self.farewells.is_empty();
        self.bid_farewell(outbox);
        has_words
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
            self.change_routers(now);
        }
    }

    /// Routers have announced or withdrawn themselves. Who goes by that is told.
    pub(super) fn change_routers(&mut self, now: Timestamp) {
        let before = self.router_watch.told_alive();
        self.set_routers(now);
        let gone: Vec<IpAddr> = before.into_iter().filter(|hop| self.listed().all(|router| router != *hop)).collect();
        self.counts.switches += gone.len() as u64;
        self.withdrawn.extend(gone);
    }

    /// Those that announce themselves are next hops, too. They are watched apart from those that are configured, by probes: whoever
    /// announces himself costs these nothing, and those that stay are watched on.
    pub(super) fn set_routers(&mut self, now: Timestamp) {
        let listed: Vec<IpAddr> = self.listed().map(IpAddr::V6).collect();
        let apart: Vec<IpAddr> = listed.iter().copied().filter(|router| !self.next_hops.is_watched(*router)).collect();
        let watch = Watch::by_probes(&apart, self.liveness);
        let mut before = std::mem::replace(&mut self.router_watch, watch);
        if self.claims.mac().is_some() {
            self.router_watch.start(now);
            self.router_watch.take_over(&mut before, now);
        }
        self.use_routers();
        let pinned: Vec<IpAddr> = self.next_hops.watched().iter().copied().chain(apart).collect();
        self.neighbours.pin(&pinned, now);
    }

    fn listed(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.routers.as_ref().map_or(&[][..], Routers::list).iter().copied()
    }

    /// Of those that announced themselves, the ones that answer.
    fn use_routers(&mut self) {
        let is_alive = |router: &Ipv6Addr| self.watch_status((*router).into()).is_some_and(|status| status.is_alive);
        let alive: Vec<Ipv6Addr> = self.listed().filter(is_alive).collect();
        self.next_hops.set_routers(&alive);
    }

    fn watch_status(&self, hop: IpAddr) -> Option<WatchStatus> {
        self.watch.status(hop).or_else(|| self.router_watch.status(hop))
    }

    pub fn next_hop_status(&self) -> Vec<NextHopStatus> {
        let of = |hop: IpAddr| {
            let status = self.watch_status(hop)?;
            Some(NextHopStatus {
                address: hop,
                mac: self.neighbours.mac_of(hop),
                is_alive: status.is_alive,
                watched_by: status.watched_by,
                bfd: status.bfd,
                is_used: self.next_hops.is_used(hop),
                since: status.since,
                held_until: status.held_until,
            })
        };
        let routers = self.listed().map(IpAddr::V6).filter(|router| !self.next_hops.is_watched(*router));
        self.next_hops.watched().iter().copied().chain(routers).filter_map(of).collect()
    }
}
