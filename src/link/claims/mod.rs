//! Our own addresses on one port: asked for before they are used, announced, defended, and given up when somebody else has them
//! (RFC 5227 for IPv4; RFC 4862 section 5.4, duplicate address detection, for IPv6).
//!
//! ```text
//!            nobody answered            spoken for by another, twice in 10 s
//! probing ------------------> ours ---------------------------------------------+
//!    ^  \ spoken or asked for by another                                        v
//!    |   +------------------------------------------------------------------> duplicate
//!    +------------------------------------------------------------------- after a hold-down
//! ```
//!
//! **How long.** RFC 5227 waits 4 to 7 s before an address is used. Its times are for links with up to a second of latency (its
//! section 1.3) and for many hosts that are switched on together. A port is one station on a hand-off where answers take
//! milliseconds, so after link-up there are as many probes, sent within a second (`claim.rs`): 0.9 to 1.5 s. What is asked
//! for again after a conflict is asked for in the times of the RFC: somebody else was there. A conflict that a probe lost on a link
//! that was not forwarding yet did not show is seen later, as every conflict is as long as the address is ours.
//!
//! **Link flaps.** An address that was ours with this hardware address when the link went down is ours at once when it comes back,
//! as RFC 4436 and RFC 4429 (optimistic) have it, and is asked for beside. Neighbours still know it at the same hardware
//! address, so using it disturbs nobody's tables. As long as these probes run it is not defended: who took it while we were away
//! has it.
//!
//! **Hostile stations** can always keep an address from us: they need only say that they have it. What that costs is bounded: one
//! defence in 10 s, one round of probes and one [`ClaimEvent::Duplicate`] in a hold-down, that address and no other. Frames of
//! our own that a switch sends back carry our hardware address, and are no conflict (what RFC 7527 needs a nonce for).
//!
//! **Groups.** Switches that snoop pass solicitations only to who has joined their group. We join before the first probe, again as
//! soon as there is a link-local address to join from, and then every [`REPORT_INTERVAL`] instead of waiting for a querier.

mod claim;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};

use self::claim::Claim;
use super::config::MAX_ADDRESSES;
use super::endpoint::AddressStatus;
use super::nd::solicited_node;
use crate::net::random::Seeded;
use crate::net::{IpVersion, Mac, Timestamp};

pub use self::claim::{ANNOUNCE_INTERVAL, ANNOUNCE_NUM, DEFEND_INTERVAL, HOLD_DOWN};

/// Well within what a switch remembers (260 s by the times of RFC 3810 section 9.4), even where queries are made every 10 s.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// After any method that takes `now`, drain [`Claims::poll_action`] and [`Claims::poll_event`], and read
/// [`Claims::poll_timeout`].
#[derive(Debug)]
pub struct Claims {
    claims: Vec<Claim>,
    /// No link-local address is configured, and there is IPv6: one is made of the hardware address.
    makes_link_local: bool,
    /// `None`: the link is down.
    mac: Option<Mac>,
    report_at: Option<Timestamp>,
    /// For waits, which are no secret.
    random: Seeded,
}

/// How somebody else spoke of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sighting {
    /// ARP probe or DAD solicitation: he wants it.
    Probe,
    /// ARP or neighbour advertisement: he has it.
    Use,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClaimAction {
    ArpProbe(Ipv4Addr),
    ArpAnnounce(Ipv4Addr),
    /// A neighbour solicitation from `::`.
    DadSolicit(Ipv6Addr),
    /// A neighbour advertisement to all nodes, overriding.
    Advertise(Ipv6Addr),
    /// MLDv2, for [`Claims::groups`], from [`Claims::link_local`] or `::`.
    ReportGroups,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClaimEvent {
    Claimed(IpAddr),
    Duplicate(IpAddr, Mac),
}

impl Claims {
    /// How long it takes after link-up, at most, until those are ours that nobody else has.
    pub fn longest_after_link_up() -> Duration {
        claim::LINK_UP.longest()
    }

    /// The first [`MAX_ADDRESSES`].
    pub fn new(addresses: &[IpNet]) -> Self {
        let addresses = &addresses[..addresses.len().min(MAX_ADDRESSES)];
        let has_v6 = addresses.iter().any(|net| net.addr().is_ipv6());
        let has_link_local = addresses.iter().any(|net| is_link_local(net.addr()));
        Claims {
            claims: addresses.iter().copied().map(Claim::new).collect(),
            makes_link_local: has_v6 && !has_link_local,
            mac: None,
            report_at: None,
            random: Seeded(0),
        }
    }

    /// The link is up, or was down in between, or has another hardware address: all is probed anew.
    pub fn start(&mut self, mac: Mac, now: Timestamp, random: u64) {
        self.mac = Some(mac);
        self.random = Seeded(random);
        self.place_link_local(mac);
        let wait = claim::LINK_UP.wait(&mut self.random);
        for claim in &mut self.claims {
            claim.start(mac, now, now + wait);
        }
        let has_v6 = self.claims.iter().any(|claim| claim.address().is_ipv6());
        self.report_at = has_v6.then_some(now);
    }

    /// The link is down.
    pub fn stop(&mut self) {
        self.mac = None;
        self.report_at = None;
        self.claims.iter_mut().for_each(Claim::stop);
    }

    /// Claimed and not in conflict: it may be answered for, and be a source.
    pub fn is_ours(&self, address: IpAddr) -> bool {
        self.claims.iter().any(|claim| claim.address() == address && claim.is_ours())
    }

    /// Configured (or link-local), in whatever state.
    pub fn concerns(&self, address: IpAddr) -> bool {
        self.claims.iter().any(|claim| claim.address() == address)
    }

    /// A claimed address of the target's version: on the target's prefix, or of the target's scope, or any.
    pub fn source_towards(&self, target: IpAddr) -> Option<IpAddr> {
        let candidates = self
            .claims
            .iter()
            .filter(|claim| claim.is_ours() && IpVersion::of(claim.address()) == IpVersion::of(target));
        let fitness =
            |claim: &&Claim| (claim.net().contains(&target), is_link_local(claim.address()) == is_link_local(target));
        // Of equals the first: `max_by_key` takes the last.
        candidates.rev().max_by_key(fitness).map(Claim::address)
    }

    /// Within a prefix of ours, or link-local.
    pub fn on_link(&self, address: IpAddr) -> bool {
        is_link_local(address) || self.claims.iter().any(|claim| claim.net().contains(&address))
    }

    /// Somebody spoke of `address` from `mac`. What is not ours to claim, and what we said ourselves, changes nothing.
    pub fn handle_sighting(&mut self, address: IpAddr, mac: Mac, sighting: Sighting, now: Timestamp) {
        if self.mac.is_none() || self.mac == Some(mac) {
            return;
        }
        if let Some(claim) = self.claims.iter_mut().find(|claim| claim.address() == address) {
            claim.handle_sighting(mac, sighting, now);
        }
    }

    pub fn poll_action(&mut self, now: Timestamp) -> Option<ClaimAction> {
        let mac = self.mac?;
        if self.report_at.is_some_and(|at| at <= now) {
            self.report_at = Some(now + REPORT_INTERVAL);
            return Some(ClaimAction::ReportGroups);
        }
        for claim in &mut self.claims {
            let was_ours = claim.is_ours();
            let action = claim.step(mac, now, &mut self.random);
            if claim.is_ours() && !was_ours && is_link_local(claim.address()) {
                self.report_at = Some(now);
            }
            if action.is_some() {
                return action;
            }
        }
        None
    }

    pub fn poll_event(&mut self) -> Option<ClaimEvent> {
        self.claims.iter_mut().find_map(Claim::poll_event)
    }

    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.claims.iter().filter_map(Claim::deadline).chain(self.report_at).min()
    }

    pub fn status(&self) -> impl Iterator<Item = AddressStatus> {
        self.claims.iter().map(Claim::status)
    }

    pub fn mac(&self) -> Option<Mac> {
        self.mac
    }

    /// Ours and usable; what reports and solicitations come from.
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        self.claims.iter().filter(|claim| claim.is_ours()).find_map(|claim| match claim.address() {
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
            _ => None,
        })
    }

    /// The solicited-node groups of all our IPv6 addresses, in whatever state: also who only asks for an address must hear of it
    /// (RFC 4862 section 5.4.2). Addresses with the same end share one.
    pub fn groups(&self) -> Vec<Ipv6Addr> {
        let addresses = self.claims.iter().map(Claim::address);
        let mut groups: Vec<Ipv6Addr> = addresses
            .filter_map(|address| match address {
                IpAddr::V6(address) => Some(solicited_node(address)),
                IpAddr::V4(_) => None,
            })
            .collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// The link-local address stands last, and changes with the hardware address.
    fn place_link_local(&mut self, mac: Mac) {
        if !self.makes_link_local {
            return;
        }
        let address = link_local_of(mac);
        if !self.concerns(address.into()) {
            self.claims.retain(|claim| !is_link_local(claim.address()));
            self.claims.push(Claim::new(Ipv6Net::new_assert(address, 64).into()));
        }
    }
}

/// RFC 4291 appendix A: the hardware address around ff:fe, its universal bit inverted.
pub fn link_local_of(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let identifier = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(identifier))
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
