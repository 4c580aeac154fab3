//! Which of a realm's attachments carries a packet.
//!
//! ```text
//! of those that are up for its IP version, the ones with the lowest priority number; among several of these each flow has its own, in
//! proportion to the weights; if none is up, the first of all
//! ```
//!
//! A flow is chosen an attachment by weighted rendezvous hashing: each attachment draws a number from the flow's hash, and the
//! best one wins. Nothing is remembered of flows, and a flow moves only when its own attachment goes, or when another comes
//! that draws better. The hash is keyed, so that nobody outside can aim at one attachment.

use std::hash::BuildHasher;

use foldhash::quality::FixedState;

use crate::link::Medium;
use crate::net::{Canonical, IpVersion, PerVersion, RealmId, TunnelId};

use super::report::Share;
use super::snapshot::{Snapshot, Transport};

/// What is sent the same way together. Ports are 0 where there are none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Flow {
    pub source: Canonical,
    pub destination: Canonical,
    pub protocol: u8,
    pub ports: (u16, u16),
}

/// After [`Carriers::look`], drain [`Carriers::poll_switch`].
pub(super) struct Carriers {
    hasher: FixedState,
    /// By realm number.
    realms: Vec<Choice>,
    /// Those that have something to choose from.
    several: Vec<RealmId>,
    switches: Vec<Switch>,
}

/// Other attachments than before carry the realm.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Switch {
    pub realm: RealmId,
    /// `None`: all packets.
    pub only: Option<IpVersion>,
    /// One at least.
    pub now: Vec<TunnelId>,
    /// They carried it, and are down.
    pub lost: Vec<TunnelId>,
    /// They did not.
    pub gained: Vec<TunnelId>,
}

#[derive(Default)]
enum Choice {
    #[default]
    None,
    One(TunnelId),
    Several(Box<Several>),
}

struct Several {
    /// By priority, and in the order of the file.
    candidates: Vec<Candidate>,
    /// Versions in which the attachments can differ.
    versions: Vec<IpVersion>,
    /// The latest that carried the realm; none before the first.
    carriers: PerVersion<Vec<TunnelId>>,
    switches: u64,
}

#[derive(Clone, Copy)]
struct Candidate {
    tunnel: TunnelId,
    priority: u8,
    weight: u8,
}

impl Carriers {
    /// `seed`: random and secret.
    pub fn new(seed: u64) -> Self {
        Carriers { hasher: FixedState::with_seed(seed), realms: Vec::new(), several: Vec::new(), switches: Vec::new() }
    }

    /// Which attachments there are. What carried a realm, and how often that changed, stays known.
    pub fn configure(&mut self, snapshot: &Snapshot) {
        let mut before = std::mem::take(&mut self.realms);
        let choices = snapshot.realms.iter().enumerate().map(|(number, realm)| {
            let tunnels = realm.as_ref().map_or(&[][..], |realm| &realm.tunnels);
            let candidates = tunnels.iter().filter_map(|tunnel| {
                let (priority, weight) = snapshot.tunnel(*tunnel).map(|tunnel| (tunnel.priority, tunnel.weight))?;
                Some(Candidate { tunnel: *tunnel, priority, weight })
            });
            Choice::new(
                candidates.collect(),
                versions_of(snapshot, tunnels),
                before.get_mut(number).map(std::mem::take),
            )
        });
        self.realms = choices.collect();
        let numbered = (0..=u16::MAX).map(RealmId).zip(&self.realms);
        let several = numbered.filter(|(_, choice)| matches!(choice, Choice::Several(_)));
        self.several = several.map(|(realm, _)| realm).collect();
    }

    /// The attachment for a packet of `flow` to the realm. `is_up`: for the packet's IP version. `None`: it has none.
    #[inline]
    pub fn of(
        &self,
        realm: RealmId,
        is_up: impl Fn(TunnelId) -> bool,
        flow: impl FnOnce() -> Flow,
    ) -> Option<TunnelId> {
        match self.realms.get(usize::from(realm.0))? {
            Choice::None => None,
            Choice::One(tunnel) => Some(*tunnel),
            Choice::Several(several) => Some(several.choose(is_up, || self.hasher.hash_one(flow()), &self.hasher)),
        }
    }

    /// Whether any realm has more attachments than one.
    pub fn has_choices(&self) -> bool {
        !self.several.is_empty()
    }

    /// Whether the realm has more attachments than one.
    pub fn has_choice(&self, realm: RealmId) -> bool {
        matches!(self.realms.get(usize::from(realm.0)), Some(Choice::Several(_)))
    }

    /// Looks which attachments are up, and takes note of what has changed since the last time. `true`: something has, and flows may
    /// go another way.
    pub fn look(&mut self, is_up: impl Fn(TunnelId, IpVersion) -> bool) -> bool {
        let mut has_changed = false;
        for realm in &self.several {
            let Choice::Several(several) = &mut self.realms[usize::from(realm.0)] else { continue };
            let carriers = several.carriers.clone();
            self.switches.extend(several.look(*realm, &is_up));
            has_changed |= carriers != several.carriers;
        }
        has_changed
    }

    pub fn poll_switch(&mut self) -> Option<Switch> {
        // The order of realms says nothing.
        self.switches.pop()
    }

    /// Of a realm, since the start.
    pub fn switches_of(&self, realm: RealmId) -> u64 {
        match self.realms.get(usize::from(realm.0)) {
            Some(Choice::Several(several)) => several.switches,
            _ => 0,
        }
    }

    /// Which of the realm's traffic the attachment carries, alone or with others.
    pub fn share(&self, realm: RealmId, tunnel: TunnelId, is_up: impl Fn(TunnelId, IpVersion) -> bool) -> Share {
        match self.realms.get(usize::from(realm.0)) {
            Some(Choice::Several(several)) => several.share(tunnel, is_up),
            Some(Choice::One(one))
                if *one == tunnel && IpVersion::ALL.iter().any(|version| is_up(tunnel, *version)) =>
            {
                Share::All
            }
            _ => Share::None,
        }
    }
}

impl Choice {
    fn new(mut candidates: Vec<Candidate>, versions: Vec<IpVersion>, before: Option<Choice>) -> Self {
        match &candidates[..] {
            [] => Choice::None,
            [one] => Choice::One(one.tunnel),
            _ => {
                candidates.sort_by_key(|candidate| candidate.priority);
                let (carriers, switches) = match before {
                    Some(Choice::Several(before)) => (before.carriers, before.switches),
                    _ => (PerVersion::default(), 0),
                };
                Choice::Several(Box::new(Several { candidates, versions, carriers, switches }))
            }
        }
    }
}

impl Several {
    /// Those that are up of the best priority that has any.
    fn up(&self, is_up: impl Fn(TunnelId) -> bool) -> impl Iterator<Item = Candidate> {
        let first = self.candidates.iter().position(|candidate| is_up(candidate.tunnel));
        let rest = &self.candidates[first.unwrap_or(self.candidates.len())..];
        let priority = rest.first().map(|candidate| candidate.priority);
        let group = rest.iter().take_while(move |candidate| Some(candidate.priority) == priority);
        group
            .copied()
            .enumerate()
            .filter(move |(place, candidate)| *place == 0 || is_up(candidate.tunnel))
            .map(|(_, c)| c)
    }

    fn choose(&self, is_up: impl Fn(TunnelId) -> bool, hash: impl FnOnce() -> u64, hasher: &FixedState) -> TunnelId {
        let mut up = self.up(is_up);
        let Some(first) = up.next() else { return self.candidates[0].tunnel };
        let Some(second) = up.next() else { return first.tunnel };
        let hash = hash();
        let all = [first, second].into_iter().chain(up).map(|c| (c.draw(hasher.hash_one((hash, c.tunnel))), c.tunnel));
        all.min_by(|(one, _), (other, _)| one.total_cmp(other)).map_or(first.tunnel, |(_, tunnel)| tunnel)
    }

    fn share(&self, tunnel: TunnelId, is_up: impl Fn(TunnelId, IpVersion) -> bool) -> Share {
        let carries = |version| self.up(|tunnel| is_up(tunnel, version)).any(|candidate| candidate.tunnel == tunnel);
        let carried: Vec<IpVersion> = self.versions.iter().copied().filter(|version| carries(*version)).collect();
        match carried[..] {
            [] => Share::None,
            [one] if self.versions.len() > 1 => Share::Only(one),
            _ => Share::All,
        }
    }

    fn look(&mut self, realm: RealmId, is_up: impl Fn(TunnelId, IpVersion) -> bool) -> Vec<Switch> {
        let mut switches: Vec<Switch> = Vec::new();
        for version in self.versions.clone() {
            let Some(switch) = self.look_at(realm, version, |tunnel| is_up(tunnel, version)) else { continue };
            match switches.first_mut() {
                Some(same) if (&same.now, &same.lost, &same.gained) == (&switch.now, &switch.lost, &switch.gained) => {
                    same.only = None;
                }
                _ => switches.push(switch),
            }
        }
        self.switches += switches.len() as u64;
        switches
    }

    fn look_at(&mut self, realm: RealmId, version: IpVersion, is_up: impl Fn(TunnelId) -> bool) -> Option<Switch> {
        let is_same = self.up(&is_up).map(|candidate| candidate.tunnel).eq(self.carriers[version].iter().copied());
        if is_same {
            return None;
        }
        let now: Vec<_> = self.up(&is_up).map(|candidate| candidate.tunnel).collect();
        if now.is_empty() {
            return None;
        }
        let before = std::mem::replace(&mut self.carriers[version], now.clone());
        if before.is_empty() {
            return None;
        }
        let gained = now.iter().copied().filter(|tunnel| !before.contains(tunnel)).collect();
        let lost = before.into_iter().filter(|tunnel| !now.contains(tunnel) && !is_up(*tunnel)).collect();
        let only = (self.versions.len() > 1).then_some(version);
        Some(Switch { realm, only, now, lost, gained })
    }
}

/// Those that a realm has networks of, as its ports are told them. Without a port, one stands for both: tunnels carry either.
fn versions_of(snapshot: &Snapshot, tunnels: &[TunnelId]) -> Vec<IpVersion> {
    let networks = |tunnel: &TunnelId| match &snapshot.tunnel(*tunnel)?.peer {
        Transport::Port(port) => match &port.medium {
            Medium::Ethernet(ethernet) => Some(ethernet.networks.clone()),
            Medium::Tun => None,
        },
        Transport::WireGuard(_) | Transport::Ipsec(_) => None,
    };
    let Some(networks) = tunnels.iter().find_map(networks) else { return vec![IpVersion::V4] };
    let has = |version: &IpVersion| networks.iter().any(|network| IpVersion::of(network.addr()) == *version);
    IpVersion::ALL.into_iter().filter(has).collect()
}

impl Candidate {
    /// From a uniform number, one of an exponential distribution with the weight as its rate: the least of several is each one's
    /// in proportion to the weights.
    fn draw(self, random: u64) -> f64 {
        let uniform = ((random >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -uniform.ln() / f64::from(self.weight.max(1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const REALM: RealmId = RealmId(3);

    /// Of (priority, weight); tunnels are numbered from 0 in that order.
    fn carriers(attachments: &[(u8, u8)]) -> Carriers {
        let mut carriers = Carriers::new(7);
        let candidates = (0..).map(TunnelId).zip(attachments);
        let candidates = candidates.map(|(tunnel, &(priority, weight))| Candidate { tunnel, priority, weight });
        carriers.realms.resize_with(4, Choice::default);
        carriers.realms[3] = Choice::new(candidates.collect(), IpVersion::ALL.to_vec(), None);
        carriers.several = vec![REALM];
        carriers
    }

    fn flow(number: u16) -> Flow {
        Flow { source: Canonical(1), destination: Canonical(2), protocol: 6, ports: (number, 443) }
    }

    /// By which each of 10,000 flows goes while those are up.
    fn spread(carriers: &Carriers, up: &[u32]) -> Vec<u32> {
        let of = |number| carriers.of(REALM, |tunnel| up.contains(&tunnel.0), || flow(number)).unwrap().0;
        (0..10_000).map(of).collect()
    }

    fn shares(spread: &[u32]) -> HashMap<u32, usize> {
        spread.iter().fold(HashMap::new(), |mut sum, tunnel| {
            *sum.entry(*tunnel).or_default() += 1;
            sum
        })
    }

    #[test]
    fn the_best_priority_that_is_up_carries_all_and_without_any_the_first() {
        let carriers = carriers(&[(2, 1), (1, 1), (3, 1)]);
        for (up, by) in [(&[0, 1, 2][..], 1), (&[0, 2], 0), (&[2], 2), (&[], 1)] {
            assert_eq!(shares(&spread(&carriers, up)), HashMap::from([(by, 10_000)]), "{up:?}");
        }
        assert_eq!(carriers.of(RealmId(0), |_| true, || flow(1)), None);
        assert_eq!(carriers.of(RealmId(9), |_| true, || flow(1)), None);
    }

    #[test]
    fn equal_priorities_share_by_weight_and_only_a_lost_ones_flows_move() {
        let carriers = carriers(&[(1, 1), (1, 3), (1, 6), (2, 100)]);
        let all = spread(&carriers, &[0, 1, 2, 3]);
        let counts = shares(&all);
        for (tunnel, share) in [(0, 1_000), (1, 3_000), (2, 6_000)] {
            assert!(counts[&tunnel].abs_diff(share) < 200, "{counts:?}");
        }
        let without = spread(&carriers, &[0, 2, 3]);
        let moved = all.iter().zip(&without).filter(|(before, after)| before != after);
        assert!(moved.clone().all(|(before, _)| *before == 1), "only its flows move");
        assert_eq!(moved.count(), counts[&1]);
        assert_eq!(spread(&carriers, &[0, 1, 2, 3]), all, "and they come back");
    }

    #[test]
    fn another_seed_spreads_flows_otherwise() {
        let (mut one, mut other) = (carriers(&[(1, 1), (1, 1)]), carriers(&[(1, 1), (1, 1)]));
        (one.hasher, other.hasher) = (FixedState::with_seed(1), FixedState::with_seed(2));
        assert_ne!(spread(&one, &[0, 1]), spread(&other, &[0, 1]));
    }

    #[test]
    fn a_switch_is_told_once_and_the_first_carrier_is_none() {
        let mut carriers = carriers(&[(1, 1), (2, 1)]);
        let mut look = |up: &[u32]| {
            carriers.look(|tunnel, _| up.contains(&tunnel.0));
            let switch = carriers.poll_switch();
            assert_eq!(carriers.poll_switch(), None);
            assert!(switch.iter().all(|switch| switch.only.is_none()));
            switch.map(|switch| (switch.now, switch.lost, switch.gained))
        };
        let (one, two) = (vec![TunnelId(0)], vec![TunnelId(1)]);
        assert_eq!(look(&[]), None);
        assert_eq!(look(&[0]), None, "the first");
        assert_eq!(look(&[0, 1]), None, "a standby");
        assert_eq!(look(&[1]), Some((two.clone(), one.clone(), two.clone())));
        assert_eq!(look(&[1]), None);
        assert_eq!(look(&[]), None, "nobody took it over");
        assert_eq!(look(&[1]), None, "the same again");
        assert_eq!(look(&[0, 1]), Some((one.clone(), vec![], one)), "the better one is back; the other is not lost");
        assert_eq!(carriers.switches_of(REALM), 2);
    }

    #[test]
    fn ip_versions_are_carried_and_switch_each_for_itself() {
        let mut carriers = carriers(&[(1, 1), (2, 1)]);
        let (one, two) = (TunnelId(0), TunnelId(1));
        let mut look = |four: &[u32], six: &[u32]| {
            let is_up = |tunnel: TunnelId, version| match version {
                IpVersion::V4 => four.contains(&tunnel.0),
                IpVersion::V6 => six.contains(&tunnel.0),
            };
            carriers.look(is_up);
            let switches =
                std::iter::from_fn(|| carriers.poll_switch()).map(|switch| (switch.only, switch.now)).collect();
            (switches, [one, two].map(|tunnel| carriers.share(REALM, tunnel, is_up)))
        };
        let none: Vec<(Option<IpVersion>, Vec<TunnelId>)> = Vec::new();
        assert_eq!(look(&[0, 1], &[0, 1]), (none.clone(), [Share::All, Share::None]));
        let (four, six) = (Share::Only(IpVersion::V4), Share::Only(IpVersion::V6));
        assert_eq!(look(&[1], &[0, 1]), (vec![(Some(IpVersion::V4), vec![two])], [six, four]));
        assert_eq!(look(&[1], &[1]), (vec![(Some(IpVersion::V6), vec![two])], [Share::None, Share::All]));
        assert_eq!(look(&[], &[0, 1]), (vec![(Some(IpVersion::V6), vec![one])], [six, Share::None]));
        assert_eq!(look(&[0], &[0]).0, vec![(Some(IpVersion::V4), vec![one])]);
        assert_eq!(look(&[1], &[1]), (vec![(None, vec![two])], [Share::None, Share::All]), "told once");
        assert_eq!(carriers.switches_of(REALM), 5);
    }
}
