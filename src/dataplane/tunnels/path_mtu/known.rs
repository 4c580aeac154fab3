//! What is known of one tunnel's path, and how its packets go because of it.

use std::net::IpAddr;

use super::MIN_INNER_BYTES;
use super::frame::Frame;
use super::search::Search;
use crate::dataplane::report::MtuSource;
use crate::net::Timestamp;

/// How packets of a tunnel go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// The longest inner packet.
    pub mtu_bytes: u16,
    /// The longest whose outer packet needs no fragments: what TCP's segments are made for. Not more than `mtu_bytes`.
    pub unfragmented_bytes: u16,
    /// Outer packets may be cut into IP fragments.
    pub may_fragment: bool,
}

/// What is known of one tunnel's path.
#[derive(Debug)]
pub(super) struct Known {
    pub configured: u16,
    pub at: Option<At>,
    /// It is a port, whose packets have nothing around them but a frame; and what the link carries, where that is less than
    /// what is configured.
    pub port: Option<Option<u16>>,
    /// The longest outer packet that is known to arrive, as far as it matters. `None`: nothing is known.
    pub outer: Option<u16>,
    pub source: MtuSource,
    pub since: Option<Timestamp>,
    pub search: Option<Search>,
    /// Probes go unanswered, however short.
    pub silent: bool,
    pub deaf_until: Timestamp,
    /// When the next search was to begin, before a word was to be verified.
    pub resume_at: Option<Timestamp>,
    pub deadline: Option<Timestamp>,
}

/// Where the peer is, and how packets are packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    pub remote: IpAddr,
    pub frame: Frame,
    pub probing: Probing,
}

/// What acknowledges probes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probing {
    /// Nothing: the peer's IKE cannot take fragments.
    None,
    /// IKE.
    Ike,
    /// Echoes through the tunnel (`echo.rs`).
    Echo,
}

impl Way {
    /// Of a tunnel that there is not.
    pub const UNKNOWN: Way =
        Way { mtu_bytes: MIN_INNER_BYTES, unfragmented_bytes: MIN_INNER_BYTES, may_fragment: false };

    pub fn new(inner: u16, may_fragment: bool) -> Self {
        Way { mtu_bytes: inner.max(MIN_INNER_BYTES), unfragmented_bytes: inner, may_fragment }
    }
}

impl Known {
    pub fn new(configured: u16) -> Self {
        let source = MtuSource::Configured;
        let deaf_until = Timestamp::ZERO;
        Known {
            configured,
            at: None,
            port: None,
            outer: None,
            source,
            since: None,
            search: None,
            silent: false,
            deaf_until,
            resume_at: None,
            deadline: None,
        }
    }

    pub fn way(&self) -> Way {
        if let Some(narrower) = self.port {
            return Way::new(narrower.unwrap_or(self.configured), false);
        }
        let Some(At { frame, .. }) = self.at else { return Way::new(self.configured, true) };
        let inner = self.outer.map_or(self.configured, |outer| frame.inner_bytes(outer, self.configured));
        Way::new(inner, inner < MIN_INNER_BYTES || self.is_guess())
    }

    /// Nothing has shown that packets of the size in use arrive, and something could have. A router's word shows nothing: a
    /// forged one that is hardly less than the configuration would make a narrow path a black hole.
    fn is_guess(&self) -> bool {
        self.is_probed_by(Probing::Echo) && (self.outer.is_none() || self.silent)
    }

    pub fn is_probed_by(&self, probing: Probing) -> bool {
        self.at.is_some_and(|at| at.probing == probing)
    }

    /// Somebody acknowledges probes.
    pub fn can_probe(&self) -> bool {
        !self.silent && !self.is_probed_by(Probing::None)
    }

    pub fn unlearn(&mut self) {
        (self.outer, self.source, self.since) = (None, MtuSource::Configured, None);
    }

    pub fn learn(&mut self, outer: u16, source: MtuSource, now: Timestamp) {
        if self.outer != Some(outer) || self.source != source {
            (self.outer, self.source, self.since) = (Some(outer), source, Some(now));
        }
    }

    pub fn learn_link(&mut self, link: Option<u16>, now: Timestamp) {
        let narrower = link.filter(|link| *link < self.configured);
        if self.port != Some(narrower) {
            self.port = Some(narrower);
            self.source = if narrower.is_some() { MtuSource::Link } else { MtuSource::Configured };
            self.since = narrower.map(|_| now);
        }
    }

    /// The longest outer packet that the tunnel would send.
    pub fn top(&self) -> Option<u16> {
        self.at.map(|at| at.frame.outer_bytes(self.configured))
    }
}
