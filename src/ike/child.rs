//! Child SAs of an IKE SA, and what we propose and accept as their traffic selectors (RFC 7296 section 2.9).

use std::time::Duration;

use super::context::{ChildSpis, Context};
use super::event::{ChildKeys, ChildUp, Event, Outbound, Role};
use super::exchange::auth::Step;
use super::exchange::followup::Made;
use super::peer::{PeerConfig, SelectorMode};
use super::proposal::EspChoice;
use super::sa::{IkeSa, Pending, Stage};
use crate::net::selector::{Selector, narrow};
use crate::net::{Path, Port, Timestamp, TunnelId};

/// Deleted SAs are still opened for so long: what is under way arrives.
pub(super) const LINGER: Duration = Duration::from_secs(10);

pub(super) struct Child {
    pub spi_in: u32,
    pub spi_out: u32,
    pub choice: EspChoice,
    pub selectors: SelectorPair,
    /// What we had proposed, for this one or for one that it replaces or equals. The peer may have taken less.
    pub asked: Option<SelectorPair>,
    pub role: Role,
    pub state: ChildState,
    pub installed_at: Timestamp,
    pub rekey_at: Timestamp,
    /// It is closed then, even if nothing replaced it.
    pub expires_at: Timestamp,
    /// The peer would not replace it.
    pub rekey_refused: bool,
    /// Another one for the same packets may be enough: both sides asked at once.
    pub needless_at: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ChildState {
    Up,
    /// Another has taken its place, or it lost against one that crossed it; it waits to be deleted by the side that must.
    Replaced,
    /// We are deleting it.
    Deleting,
}

/// Both sides of a Child SA, as we see them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct SelectorPair {
    pub ours: Vec<Selector>,
    pub theirs: Vec<Selector>,
}

impl SelectorPair {
    pub(super) fn covers(&self, other: &SelectorPair) -> bool {
        let all_in = |these: &[Selector], those: &[Selector]| {
            these.iter().all(|selector| those.iter().any(|wide| wide.contains(selector)))
        };
        all_in(&other.ours, &self.ours) && all_in(&other.theirs, &self.theirs)
    }

    /// What of it the configuration still has. Empty on a side: it carries nothing any more.
    pub(super) fn within(&self, config: &PeerConfig) -> SelectorPair {
        let cut = |these: &[Selector], those: &[Selector]| narrow(these, those, usize::MAX);
        SelectorPair { ours: cut(&self.ours, &config.ours), theirs: cut(&self.theirs, &config.theirs) }
    }

    fn is_empty(&self) -> bool {
        self.ours.is_empty() || self.theirs.is_empty()
    }

    /// Whether this carries every packet of `other` that the configuration still has.
    pub(super) fn covers_what_is_left(&self, other: &SelectorPair, config: &PeerConfig) -> bool {
        let left = other.within(config);
        left.is_empty() || self.covers(&left)
    }

    /// The same packets, in whatever order they are listed.
    fn is_alike(&self, other: &SelectorPair) -> bool {
        self.covers(other) && other.covers(self)
    }
}

/// What we propose as initiator, in how many Child SAs: at least one.
pub(super) fn proposed(config: &PeerConfig, most: usize) -> Vec<SelectorPair> {
    match config.selector_mode {
        SelectorMode::View => vec![SelectorPair {
            ours: config.ours.iter().take(most).cloned().collect(),
            theirs: config.theirs.iter().take(most).cloned().collect(),
        }],
        SelectorMode::Any => vec![anything(config)],
        SelectorMode::Pairs => pairs(&config.ours, &config.theirs),
    }
}

/// One of each side, of one family.
pub(super) fn pairs(ours: &[Selector], theirs: &[Selector]) -> Vec<SelectorPair> {
    let mut pairs = Vec::new();
    for our in ours {
        for their in theirs.iter().filter(|their| their.first.is_ipv4() == our.first.is_ipv4()) {
            pairs.push(SelectorPair { ours: vec![*our], theirs: vec![*their] });
        }
    }
    pairs
}

/// Everything, in the families that both sides have (IPv4 if they have none in common).
fn anything(config: &PeerConfig) -> SelectorPair {
    let has = |selectors: &[Selector], v4: bool| selectors.iter().any(|selector| selector.first.is_ipv4() == v4);
    let v6 = has(&config.ours, false) && has(&config.theirs, false);
    let v4 = !v6 || (has(&config.ours, true) && has(&config.theirs, true));
    let mut any = Vec::new();
    any.extend(v4.then_some(Selector::ANY4));
    any.extend(v6.then_some(Selector::ANY6));
    SelectorPair { ours: any.clone(), theirs: any }
}

/// What of `offered` we agree to as responder. `None`: TS_UNACCEPTABLE.
///
/// A peer that offers everything on both sides is given exactly that: many speak nothing else, and what may pass is
/// decided by the grants either way.
pub(super) fn accepted(config: &PeerConfig, offered: &SelectorPair, most: usize) -> Option<SelectorPair> {
    let mut any = Vec::new();
    for everything in [Selector::ANY4, Selector::ANY6] {
        let whole = |side: &[Selector]| side.contains(&everything);
        if whole(&offered.ours) && whole(&offered.theirs) {
            any.push(everything);
        }
    }
    if !any.is_empty() {
        return Some(SelectorPair { ours: any.clone(), theirs: any });
    }
    let ours = narrow(&offered.ours, &config.ours, most);
    let theirs = narrow(&offered.theirs, &config.theirs, most);
    (!ours.is_empty() && !theirs.is_empty()).then_some(SelectorPair { ours, theirs })
}

/// Whether a responder's choice stays within what we proposed.
pub(super) fn is_narrowed(chosen: &SelectorPair, proposed: &SelectorPair) -> bool {
    !chosen.ours.is_empty() && !chosen.theirs.is_empty() && proposed.covers(chosen)
}

/// The pairs of what we wanted that no Child SA carries: some peers take only the first of each side.
pub(super) fn uncovered(wanted: &SelectorPair, children: &[Child]) -> Vec<SelectorPair> {
    let mut missing = pairs(&wanted.ours, &wanted.theirs);
    missing.retain(|pair| !children.iter().any(|child| child.selectors.covers(pair)));
    missing
}

/// Whether a Child SA carries `pair`, or as much of it as the peer takes.
fn is_served(pair: &SelectorPair, children: &[Child]) -> bool {
    children.iter().any(|child| child.selectors.covers(pair) || child.asked.as_ref() == Some(pair))
}

/// A Child SA as it comes out of an exchange.
pub(super) struct Agreed {
    pub spi_in: u32,
    pub spi_out: u32,
    pub choice: EspChoice,
    pub keys: ChildKeys,
    pub selectors: SelectorPair,
    /// What we had proposed, if it is not for one that is replaced.
    pub asked: Option<SelectorPair>,
    pub role: Role,
    pub replaces: Option<u32>,
    pub outbound: Outbound,
}

impl IkeSa {
    pub(super) fn child(&self, spi_in: u32) -> Option<&Child> {
        self.children.iter().find(|child| child.spi_in == spi_in)
    }

    pub(super) fn child_mut(&mut self, spi_in: u32) -> Option<&mut Child> {
        self.children.iter_mut().find(|child| child.spi_in == spi_in)
    }

    /// The peer names Child SAs by the SPI under which it is sent to.
    pub(super) fn child_by_theirs(&self, spi_out: u32) -> Option<&Child> {
        self.children.iter().find(|child| child.spi_out == spi_out)
    }

    /// Child SAs that carry traffic and are not about to go.
    pub(super) fn live_children(&self) -> impl Iterator<Item = &Child> {
        self.children.iter().filter(|child| child.state == ChildState::Up)
    }

    /// Whether there is none; or, where each pair is to have one of its own, none for some pair: the peer called and asked
    /// for others. A peer that takes less of one proposal than all has been asked for the rest already.
    pub(super) fn lacks_child(&self, most: usize) -> bool {
        let is_pairs = self.peer.as_ref().is_some_and(|peer| peer.selector_mode == SelectorMode::Pairs);
        self.live_children().next().is_none() || is_pairs && !self.missing(most).is_empty()
    }

    /// What we are to have and have not: one pair, where each is to have a Child SA of its own, else all in one.
    pub(super) fn missing(&self, most: usize) -> Vec<SelectorPair> {
        let Some(peer) = &self.peer else { return Vec::new() };
        let mut wanted = proposed(peer, most);
        if self.live_children().next().is_some() {
            wanted.retain(|pair| match peer.selector_mode {
                SelectorMode::Pairs => !is_served(pair, &self.children),
                SelectorMode::View | SelectorMode::Any => !uncovered(pair, &self.children).is_empty(),
            });
        }
        wanted
    }

    /// Keeps a new Child SA and has it installed.
    pub(super) fn install(&mut self, agreed: Agreed, cx: &mut Context<'_>) {
        let Some(config) = self.peer.clone() else { return };
        let soft = soft_lifetime(config.lifetimes.child, cx.jitter());
        let old = agreed.replaces.and_then(|old| self.child(old));
        let asked = agreed.asked.clone().or_else(|| old?.asked.clone());
        let child = Child {
            spi_in: agreed.spi_in,
            spi_out: agreed.spi_out,
            choice: agreed.choice.clone(),
            selectors: agreed.selectors.clone(),
            asked,
            role: agreed.role,
            state: ChildState::Up,
            installed_at: cx.now,
            rekey_at: cx.now + soft,
            expires_at: cx.now + hard_lifetime(config.lifetimes.child),
            rekey_refused: false,
            needless_at: None,
        };
        self.children.push(child);
        self.thin_out_children(agreed.spi_in, cx.now + cx.limits.retransmit.total());
        cx.events.push(Event::ChildUp(Box::new(ChildUp {
            tunnel: config.tunnel,
            spi_in: agreed.spi_in,
            spi_out: agreed.spi_out,
            suite: agreed.choice.suite,
            keys: agreed.keys,
            esn: agreed.choice.esn,
            replay_window: config.replay_window,
            ours: agreed.selectors.ours,
            theirs: agreed.selectors.theirs,
            path: self.esp_path(),
            follow_path: self.is_followed(),
            role: agreed.role,
            outbound: agreed.outbound,
            replaces: agreed.replaces,
            lifetime_bytes: config.lifetimes.child_bytes,
            lifetime_packets: config.lifetimes.child_packets,
        })));
    }

    /// Two Child SAs for the same packets are one too many. `soon`: when both sides surely have both. Further ones do not
    /// put that off. Whichever stays is as much as the peer takes of what was proposed for either.
    fn thin_out_children(&mut self, spi_in: u32, soon: Timestamp) {
        let Some((selectors, asked)) = self.child(spi_in).map(|child| (child.selectors.clone(), child.asked.clone()))
        else {
            return;
        };
        if self.live_children().filter(|child| child.selectors.is_alike(&selectors)).count() > 1 {
            for child in self.children.iter_mut().filter(|child| child.selectors.is_alike(&selectors)) {
                child.needless_at.get_or_insert(soon);
                child.asked = child.asked.take().or_else(|| asked.clone());
            }
        }
    }

    /// Whether another one is to outlive this one. Both sides choose alike, by the SPIs; the one who made it deletes it.
    pub(super) fn is_needless(&self, spi_in: u32) -> bool {
        let rank = |child: &Child| (child.spi_in.min(child.spi_out), child.spi_in.max(child.spi_out));
        self.child(spi_in).is_some_and(|own| {
            let better = |other: &Child| other.selectors.is_alike(&own.selectors) && rank(other) > rank(own);
            own.role.is_initiator() && own.state == ChildState::Up && self.live_children().any(better)
        })
    }

    /// Forgets Child SAs; what is under way is still opened.
    pub(super) fn remove_children(&mut self, spis_in: &[u32], cx: &mut Context<'_>) {
        let Some(tunnel) = self.tunnel() else { return };
        self.children.retain(|child| {
            let gone = spis_in.contains(&child.spi_in);
            if gone {
                cx.child_spis.release(child.spi_in);
                cx.events.push(Event::ChildDown { tunnel, spi_in: child.spi_in, linger: LINGER });
            }
            !gone
        });
    }

    /// The SPI of a Child SA that we have asked for and not got.
    pub(super) fn release_asked(&mut self, spis: &mut ChildSpis) {
        if let Stage::Handshake(handshake) = &self.stage
            && let Step::AuthSent(first) = &handshake.step
        {
            spis.release(first.spi_in);
        }
        if let Some(Pending::Child(request)) = &self.pending {
            spis.release(request.spi_in);
        }
        if let Some(Made::Child(made)) = self.followup.take().map(|followup| followup.made) {
            spis.release(made.spi_in);
        }
    }

    /// It lost against a Child SA that crossed it: not to be sealed with any more.
    pub(super) fn set_redundant(&mut self, spi_in: u32, cx: &mut Context<'_>) {
        let Some(tunnel) = self.tunnel() else { return };
        if let Some(child) = self.child_mut(spi_in) {
            child.state = ChildState::Replaced;
            cx.events.push(Event::ChildDown { tunnel, spi_in, linger: LINGER });
        }
    }

    /// Whether authentic ESP tells where the peer is.
    fn is_followed(&self) -> bool {
        self.nat.there && self.nat.in_udp()
    }

    pub(super) fn path_moved(&self, tunnel: TunnelId) -> Event {
        Event::PathMoved { tunnel, path: self.esp_path(), follow_path: self.is_followed() }
    }

    /// Where ESP goes. IKE may still be on port 500 when NAT traversal was never negotiated.
    pub(super) fn esp_path(&self) -> Path {
        match self.nat.in_udp() {
            true => Path { port: Port::IkeNatT, ..self.path },
            false => {
                let mut remote = self.path.remote;
                remote.set_port(0);
                Path { port: Port::RawEsp, remote, local: self.path.local }
            }
        }
    }
}

/// When to begin to replace: 0 to 10 % before the configured time.
pub(super) fn soft_lifetime(configured: Duration, jitter: u8) -> Duration {
    configured - configured / 2560 * u32::from(jitter)
}

/// When to close what could not be replaced: a tenth later, and not before a request has been given up.
pub(super) fn hard_lifetime(configured: Duration) -> Duration {
    configured + configured / 10 + Duration::from_secs(180)
}
