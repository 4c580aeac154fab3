//! Neighbour discovery's part of a port: what others say of IPv6 addresses, and what we answer.

use std::net::{IpAddr, Ipv6Addr};

use super::claims::Sighting;
use super::nd::{self, Heard, RouterAdvertisement};
use super::neighbours::Sign;
use super::station::Station;
use crate::net::{Mac, Timestamp};
use crate::packet::{DropReason, Outbox};

impl Station {
    /// `to_us`: the frame was for our hardware address alone.
    #[cold]
    pub(super) fn handle_nd(
        &mut self,
        packet: &[u8],
        source_mac: Mac,
        to_us: bool,
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let heard = nd::read(packet, source_mac).ok_or(DropReason::FrameMalformed)?;
        let answer = match heard {
            Heard::Advertised { target, mac, is_solicited: true, .. } if to_us => Some((target.into(), mac)),
            _ => None,
        };
        if !self.admit(answer, now) {
            return Err(DropReason::PortOverLimit);
        }
        match heard {
            _ if source_mac == self.framing.mac() => {} // ours, sent back by a switch
            Heard::Solicited { target, from, mac } if from.is_unspecified() => {
                self.handle_dad(target, mac.unwrap_or(source_mac), outbox, now);
            }
            Heard::Solicited { target, from, mac } => {
                self.handle_solicitation(target, from, mac, source_mac, outbox, now);
            }
            Heard::Advertised { target, mac, is_router, is_solicited, is_override } => {
                let sign = if is_solicited && to_us { Sign::Answer { is_override } } else { Sign::Claim };
                let is_believed = self.handle_advertisement(target, mac, source_mac, sign, outbox, now);
                if is_believed && !is_router {
                    self.retire_router(target, now);
                }
            }
            Heard::Router(advertisement) => self.handle_router(&advertisement, outbox, now),
            Heard::Other => {}
        }
        Ok(())
    }

    /// Somebody wants to have `target`.
    fn handle_dad(&mut self, target: Ipv6Addr, mac: Mac, outbox: &mut Outbox, now: Timestamp) {
        self.claims.handle_sighting(target.into(), mac, Sighting::Probe, now);
        if self.claims.is_ours(target.into()) {
            self.advertise(target, nd::ALL_NODES, None, true, outbox);
        }
    }

    fn handle_solicitation(
        &mut self,
        target: Ipv6Addr,
        from: Ipv6Addr,
        mac: Option<Mac>,
        source_mac: Mac,
        outbox: &mut Outbox,
        now: Timestamp,
    ) {
        if self.claims.concerns(from.into()) {
            self.claims.handle_sighting(from.into(), source_mac, Sighting::Use, now);
            return;
        }
        let is_ours = self.claims.is_ours(target.into());
        if !is_ours && !self.is_proxy_for(target.into(), from.into()) {
            return;
        }
        let to = mac.unwrap_or(source_mac);
        if !to.is_group() && !to.is_zero() {
            // A proxy does not override who has the address himself (RFC 4861 section 7.2.8).
            self.advertise(target, from, Some(to), is_ours, outbox);
        }
        if let Some(mac) = mac {
            self.hear(from.into(), mac, Sign::AskedUs, outbox, now);
        }
    }

    fn handle_advertisement(
        &mut self,
        target: Ipv6Addr,
        mac: Option<Mac>,
        source_mac: Mac,
        sign: Sign,
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> bool {
        let target = IpAddr::V6(target);
        if self.claims.concerns(target) {
            self.claims.handle_sighting(target, mac.unwrap_or(source_mac), Sighting::Use, now);
            return false;
        }
        // Without an address of its own it confirms the one that is known.
        let mac = mac.or_else(|| self.neighbours.mac_of(target));
        mac.is_some_and(|mac| self.hear(target, mac, sign, outbox, now))
    }

    /// It answers, and not as a router: it is none any more (RFC 4861 section 7.2.5).
    fn retire_router(&mut self, router: Ipv6Addr, now: Timestamp) {
        if self.routers.as_mut().is_some_and(|routers| routers.remove(router)) {
            self.change_routers(now);
        }
    }

    fn handle_router(&mut self, advertisement: &RouterAdvertisement, outbox: &mut Outbox, now: Timestamp) {
        let from = IpAddr::V6(advertisement.from);
        let Some(routers) = &mut self.routers else { return };
        if self.claims.concerns(from) {
            return;
        }
        let watches = [&self.watch, &self.router_watch];
        let is_alive = |router: Ipv6Addr| {
            watches.iter().filter_map(|watch| watch.status(router.into())).any(|status| status.is_alive)
        };
        if routers.handle(advertisement, is_alive, now) {
            self.change_routers(now);
        }
        if let Some(mac) = advertisement.mac {
            self.hear(from, mac, Sign::Claim, outbox, now);
        }
    }
}
