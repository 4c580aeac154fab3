//! What every tunnel carries: the configured MTU, or less where the outer path is known to carry less.
//!
//! ```text
//! effective inner MTU = min(configured, outer path MTU - headers - sealing), but at least 1280
//! ```
//!
//! **Until something is known, the configuration is believed.** RFC 8899 begins with the smallest size and grows; here every
//! host behind every tunnel would then be told a small MTU at every start, and keep to it for ten minutes. A path that
//! carries less loses long packets for the seconds that finding it out takes (IPsec), or has them cut (WireGuard).
//!
//! **Probes decide, where there are any** (IPsec: `ike/exchange/path_probe.rs`; WireGuard: `echo.rs`). As soon as the tunnel is
//! up, the longest outer packet that it would send is probed; if it does not arrive, [`Search`] finds what does. Every
//! [`RAISE_EVERY`] the same begins anew (PMTU_RAISE_TIMER, RFC 8899 section 5.1.1), which also finds paths that have become
//! narrower in silence. A lost probe is no sign of a dead peer, and a search that gets no answers at all leaves everything as
//! it is.
//!
//! **What is a guess goes without DF.** WireGuard peers need not answer. Until one has said what arrives, while a search goes on
//! below a size that was lost, and as long as the peer is silent, its outer packets may be cut on the way, and the
//! configuration is still believed: nothing is lost, and no host is told a size that holds for seconds. A silent peer is asked
//! again with the first session after [`RAISE_EVERY`]. So is every other: sessions are made anew every two minutes while there is
//! traffic, and not at all without, so probes wake nobody. A realm that lies about its path gets its own packets cut, or
//! loses them.
//!
//! **Routers are heard, not believed.** Anybody can forge "fragmentation needed" (RFC 8899 section 4.6, RFC 8201 section 6).
//! Where there are probes, such a word makes us probe the size in use at once: if it arrives, the word was wrong, and none is
//! heard for [`DEAF_FOR`]; if it is lost once, the word is taken and verified next. Where there are none (a silent WireGuard peer;
//! some IKE peers cannot take fragments) it is taken for [`RAISE_EVERY`], and what it can do is bounded: no tunnel's MTU goes
//! below 1280, nor do TCP's segments for what is outside, and to a silent peer packets go without DF as before, so that no
//! size that somebody makes up loses them. Only words about where the peer is now count.
//!
//! **1280 always passes.** IPv6 has no smaller MTU, so a tunnel cannot have one. Where the path carries less than 1280 and what
//! is around it, that tunnel's outer packets go without DF, and routers or we cut them (RFC 2473 section 7.1); TCP's segments are
//! made for what is not cut ([`Way::unfragmented_bytes`]). All others that are no guess go with DF: a path must be able to say
//! that it carries less, and IP fragments are what carriers lose.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::dataplane::report::{MtuReport, MtuSource};
use crate::net::{Timestamp, TunnelId};

pub(super) mod frame;
mod known;
mod search;
#[cfg(test)]
mod tests;

use self::known::Known;
pub use self::known::{At, Probing, Way};
use self::search::{Search, Step};

/// RFC 8200 section 5; RFC 8899 section 5.1.2.
const MIN_INNER_BYTES: u16 = 1280;
/// RFC 8899 section 4.6.2: a word below the base is not believed. TCP's segments follow it, and anybody can forge it.
const MIN_OUTER_BYTES: u16 = search::BASE_BYTES;
/// RFC 8899 section 5.1.1: "The PMTU_RAISE_TIMER ... is recommended to be 600 seconds."
const RAISE_EVERY: Duration = Duration::from_secs(600);
/// No longer than IKE takes to give a peer up, and then there is another IKE SA.
const ANSWER_WITHIN: Duration = Duration::from_secs(180);
/// After a search that got no answers.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// After a word that was wrong.
const DEAF_FOR: Duration = Duration::from_secs(60);
/// Routers' words in one second, of all paths: each is held against every tunnel.
const HINTS_PER_SEC: u32 = 32;

/// After any call, drain [`PathMtus::poll_probe`], then read [`PathMtus::poll_timeout`].
#[derive(Debug, Default)]
pub struct PathMtus {
    /// By tunnel number, for every packet.
    ways: Vec<Way>,
    tunnels: Vec<Option<Known>>,
    deadlines: BTreeSet<(Timestamp, TunnelId)>,
    /// Tunnels whose search has a question.
    asking: BTreeSet<TunnelId>,
    hints_left: u32,
    hints_renewed_at: Timestamp,
}

impl PathMtus {
    /// Reconciles with the configured tunnels: `None` where there is none with that number.
    pub fn configure(&mut self, mtus: impl Iterator<Item = Option<u16>>) {
        let mtus: Vec<Option<u16>> = mtus.collect();
        for number in 0..mtus.len().max(self.tunnels.len()) {
            let tunnel = TunnelId(number as u32);
            let (before, wanted) =
                (self.known(tunnel).map(|known| known.configured), mtus.get(number).copied().flatten());
            if before != wanted {
                self.forget(tunnel);
                self.set(tunnel, wanted.map(Known::new));
            }
        }
    }

    /// Numbers of tunnels are below this.
    #[inline]
    pub fn len(&self) -> usize {
        self.ways.len()
    }

    /// The tunnel's way; cheap enough to ask for every packet.
    #[inline]
    pub fn way(&self, tunnel: TunnelId) -> Way {
        self.ways.get(tunnel.index()).copied().unwrap_or(Way::new(MIN_INNER_BYTES, false))
    }

    /// The tunnel is a port, whose link carries so much (`None`: it is not known). That is all that there is to know of its way.
    pub fn note_link(&mut self, tunnel: TunnelId, link_bytes: Option<u32>, now: Timestamp) {
        let link = link_bytes.map(|bytes| u16::try_from(bytes).unwrap_or(u16::MAX));
        self.change(tunnel, |known| known.learn_link(link, now));
    }

    /// The peer is elsewhere, or is another one: what was known of its path is worth nothing.
    pub fn forget(&mut self, tunnel: TunnelId) {
        if let Some(configured) = self.known(tunnel).map(|known| known.configured) {
            self.reschedule(tunnel, None);
            self.set(tunnel, Some(Known::new(configured)));
        }
    }

    /// The tunnel is up there, or still is. A new path is searched.
    pub fn note_path(&mut self, tunnel: TunnelId, at: At, now: Timestamp) {
        let Some(known) = self.known(tunnel) else { return };
        let is_same = known.at.is_some_and(|before| (before.remote, before.frame) == (at.remote, at.frame));
        let is_searched = known.deadline.is_some() || known.search.is_some();
        let was_probed = known.at.is_some_and(|before| before.probing != Probing::None);
        if !is_same {
            self.forget(tunnel);
        }
        self.change(tunnel, |known| known.at = Some(at));
        if at.probing != Probing::None && !(is_same && is_searched && was_probed) {
            self.search(tunnel, now);
        }
    }

    /// A router on the way to `at` says that it carries outer packets of at most `mtu_bytes`.
    pub fn note_hint(&mut self, tunnel: TunnelId, at: At, mtu_bytes: u16, now: Timestamp) {
        let Some(known) = self.known(tunnel) else { return };
        if !known.at.is_some_and(|before| (before.remote, before.frame) == (at.remote, at.frame)) {
            self.note_path(tunnel, at, now);
        }
        let Some(known) = self.known_mut(tunnel) else { return };
        let Some(top) = known.top() else { return };
        let hint = mtu_bytes.max(MIN_OUTER_BYTES);
        let current = known.outer.unwrap_or(top).min(top);
        if hint >= current {
            return;
        }
        if !known.can_probe() {
            self.change(tunnel, |known| known.learn(hint, MtuSource::Icmp, now));
            return self.reschedule(tunnel, Some(now + RAISE_EVERY));
        }
        match &mut known.search {
            Some(search) => search.hint(hint),
            None if now < known.deaf_until => {}
            None => {
                known.search = Some(Search::verify(top, current, hint));
                known.resume_at = known.deadline;
                self.ask(tunnel, now);
            }
        }
    }

    /// Whether there is a word left to be heard in this second.
    pub fn take_hint(&mut self, now: Timestamp) -> bool {
        if now.saturating_since(self.hints_renewed_at) >= Duration::from_secs(1)
            || self.hints_renewed_at == Timestamp::ZERO
        {
            (self.hints_left, self.hints_renewed_at) = (HINTS_PER_SEC, now);
        }
        let taken = self.hints_left > 0;
        self.hints_left = self.hints_left.saturating_sub(1);
        taken
    }

    /// A probe of `outer_bytes` has reached the peer at `remote`, or has not.
    pub fn note_probed(&mut self, tunnel: TunnelId, remote: IpAddr, outer_bytes: u16, arrived: bool, now: Timestamp) {
        let Some(known) = self.known_mut(tunnel).filter(|known| known.at.is_some_and(|at| at.remote == remote)) else {
            return;
        };
        let (Some(top), Some(mut search)) = (known.top(), known.search.take()) else { return };
        let step = search.answer(outer_bytes, arrived);
        let proven = search.proven().min(top);
        known.silent = false;
        let (is_echo, is_done) = (known.is_probed_by(Probing::Echo), matches!(step, Step::Done | Step::DoneTooLong(_)));
        if let Step::TooLong(size) | Step::DoneTooLong(size) = step
            && known.outer.is_none_or(|outer| outer >= size)
        {
            known.resume_at = None;
            match search.hint_below(size) {
                // Packets that may be fragmented lose nothing while the search goes on.
                _ if is_echo => known.unlearn(),
                Some(hint) => known.learn(hint, MtuSource::Icmp, now),
                None => known.learn(proven, MtuSource::Probe, now),
            }
        }
        let is_news = if is_echo { is_done } else { arrived };
        if is_news && known.outer.is_none_or(|outer| proven >= outer) {
            known.learn(proven, MtuSource::Probe, now);
        }
        match step {
            Step::Ask | Step::TooLong(_) => known.search = Some(search),
            Step::Done | Step::DoneTooLong(_) if search.hint_below(proven).is_some() => {
                known.deaf_until = now + DEAF_FOR
            }
            Step::Done | Step::DoneTooLong(_) => {}
        }
        let goes_on = known.search.is_some();
        let next = known.resume_at.take_if(|_| !goes_on).unwrap_or(now + RAISE_EVERY);
        self.change(tunnel, |_| ());
        match goes_on {
            true => self.ask(tunnel, now),
            false => self.reschedule(tunnel, Some(next)),
        }
    }

    /// The question could not be put. Without probes, what a router said is all that there is.
    pub fn note_unasked(&mut self, tunnel: TunnelId, now: Timestamp) {
        self.change(tunnel, |known| {
            known.at = known.at.map(|at| At { probing: Probing::None, ..at });
            let hint = known.search.take().and_then(|search| search.hint_below(known.outer.or(known.top())?));
            if let Some(hint) = hint {
                known.learn(hint, MtuSource::Icmp, now);
            }
        });
        self.reschedule(tunnel, Some(now + RAISE_EVERY));
    }

    /// The peer answers no echo at all. What was known of its path is no longer relied upon; a router's word is.
    pub fn note_silent(&mut self, tunnel: TunnelId, now: Timestamp) {
        self.change(tunnel, |known| {
            known.silent = true;
            known.resume_at = None;
            let hint = known.search.take().and_then(|search| search.hint_below(known.outer.or(known.top())?));
            if let Some(hint) = hint {
                known.learn(hint, MtuSource::Icmp, now);
            }
        });
        self.reschedule(tunnel, Some(now + RAISE_EVERY));
    }

    /// The tunnel went down before the question was answered. The next that comes up there is asked.
    pub fn note_down(&mut self, tunnel: TunnelId) {
        if let Some(known) = self.known_mut(tunnel) {
            (known.search, known.resume_at) = (None, None);
        }
        self.reschedule(tunnel, None);
    }

    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some((_, tunnel)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.reschedule(tunnel, None);
            let Some(known) = self.known_mut(tunnel) else { continue };
            match known.at.map(|at| at.probing) {
                // Nobody answered at all: says nothing about sizes.
                Some(Probing::Ike) if known.search.take().is_some() => {
                    self.reschedule(tunnel, Some(now + RETRY_AFTER));
                }
                Some(Probing::Ike) => self.search(tunnel, now),
                // With the next session: there is one every two minutes while there is traffic, and else nobody is woken.
                Some(Probing::Echo) if known.source == MtuSource::Icmp => self.change(tunnel, Known::unlearn),
                Some(Probing::Echo) => {}
                _ => self.forget(tunnel),
            }
        }
    }

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        self.deadlines.first().map(|(at, _)| (*at, "path MTU"))
    }

    /// A size to be probed, see [`Search::question`]; [`PathMtus::note_probed`] or [`PathMtus::note_unasked`] is to follow.
    pub fn poll_probe(&mut self) -> Option<(TunnelId, At, RangeInclusive<u16>)> {
        while let Some(tunnel) = self.asking.pop_first() {
            if let Some(Known { at: Some(at), search: Some(search), .. }) = self.known(tunnel) {
                return Some((tunnel, *at, search.question()));
            }
        }
        None
    }

    pub fn report(&self, tunnel: TunnelId, now: Timestamp) -> Option<MtuReport> {
        let known = self.known(tunnel)?;
        let Way { mtu_bytes, unfragmented_bytes, may_fragment } = known.way();
        Some(MtuReport {
            configured_bytes: known.configured,
            outer_bytes: known.outer,
            inner_bytes: mtu_bytes,
            unfragmented_bytes,
            may_fragment,
            source: known.source,
            since: known.since.map(|at| now.saturating_since(at)),
            searching: known.search.is_some(),
        })
    }

    fn search(&mut self, tunnel: TunnelId, now: Timestamp) {
        let Some(known) = self.known_mut(tunnel) else { return };
        let Some(top) = known.top() else { return };
        known.search = Some(Search::new(top, known.outer));
        self.ask(tunnel, now);
    }

    fn ask(&mut self, tunnel: TunnelId, now: Timestamp) {
        self.asking.insert(tunnel);
        // Of echoes something always comes.
        let is_echo = self.known(tunnel).is_some_and(|known| known.is_probed_by(Probing::Echo));
        self.reschedule(tunnel, (!is_echo).then_some(now + ANSWER_WITHIN));
    }

    fn known(&self, tunnel: TunnelId) -> Option<&Known> {
        self.tunnels.get(tunnel.index())?.as_ref()
    }

    fn known_mut(&mut self, tunnel: TunnelId) -> Option<&mut Known> {
        self.tunnels.get_mut(tunnel.index())?.as_mut()
    }

    fn change(&mut self, tunnel: TunnelId, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.known_mut(tunnel) {
            change(known);
            let way = known.way();
            if let Some(place) = self.ways.get_mut(tunnel.index()) {
                *place = way;
            }
        }
    }

    fn set(&mut self, tunnel: TunnelId, known: Option<Known>) {
        let slot = tunnel.index();
        if self.tunnels.len() <= slot {
            self.tunnels.resize_with(slot + 1, || None);
            self.ways.resize(slot + 1, Way::new(MIN_INNER_BYTES, false));
        }
        self.tunnels[slot] = known;
        self.change(tunnel, |_| ());
    }

    fn reschedule(&mut self, tunnel: TunnelId, at: Option<Timestamp>) {
        let Some(known) = self.known_mut(tunnel) else { return };
        if let Some(before) = std::mem::replace(&mut known.deadline, at) {
            self.deadlines.remove(&(before, tunnel));
        }
        if let Some(at) = at {
            self.deadlines.insert((at, tunnel));
        }
    }
}
