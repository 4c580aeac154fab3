//! Default routers that announce themselves (RFC 4861 section 6.3), for ports that accept them.
//!
//! What is believed of an advertisement: that its sender forwards, for how long, and how gladly (RFC 4191). No prefix gives us an
//! address, and no option a route. The list is ordered: the greatest preference first, among equals who came first, so that a
//! router that only repeats itself moves no traffic.
//!
//! Whoever may send on the link may announce itself; that is what `accept_ra` trusts. The list is never longer than
//! [`MAX_ROUTERS`]. When it is full, who does not answer makes room; only among eight that answer does the preference decide. Nor
//! can anybody come and go, with two lines of the log each time, more often than once in a second.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::bucket::Bucket;
use super::nd::{Preference, RouterAdvertisement};
use crate::net::Timestamp;

/// Routers at a time (RFC 4861 section 6.3.4 asks for two at least).
pub const MAX_ROUTERS: usize = 8;
/// That were not in the list, in a second. A link that comes back twice brings all of them.
const NEWCOMERS_PER_SEC: u32 = 1;
const NEWCOMERS_BURST: u32 = 16;

/// RFC 4861 section 10.
const MAX_SOLICITATION_DELAY: Duration = Duration::from_secs(1);
const SOLICITATION_INTERVAL: Duration = Duration::from_secs(4);
/// RFC 7559 section 2: as long as nobody answers the interval is doubled, up to this.
const MAX_SOLICITATION_INTERVAL: Duration = Duration::from_secs(3600);

/// Of one port. Empty until [`Routers::start`].
#[derive(Debug)]
pub struct Routers {
    entries: Vec<Entry>,
    /// The addresses of `entries`, in order.
    list: Vec<Ipv6Addr>,
    solicit: Option<Solicit>,
    newcomers: Bucket,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    router: Ipv6Addr,
    preference: Preference,
    expires: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Solicit {
    at: Timestamp,
    interval: Duration,
}

impl Default for Routers {
    fn default() -> Self {
        let newcomers = Bucket::new(NEWCOMERS_PER_SEC, NEWCOMERS_BURST);
        Routers { entries: Vec::new(), list: Vec::new(), solicit: None, newcomers }
    }
}

impl Routers {
    pub fn new() -> Self {
        Routers::default()
    }

    /// The link came up: who announced itself before is not believed any more, routers are asked for. `random` spreads hosts
    /// that start together.
    pub fn start(&mut self, now: Timestamp, random: u64) {
        self.stop();
        let delay = Duration::from_micros(random % MAX_SOLICITATION_DELAY.as_micros() as u64);
        self.solicit = Some(Solicit { at: now + delay, interval: SOLICITATION_INTERVAL });
    }

    /// The link went down.
    pub fn stop(&mut self) {
        self.entries.clear();
        self.list.clear();
        self.solicit = None;
    }

    /// `is_alive`: whether a router of the list answers when it is asked. `true`: the list is another one now.
    pub fn handle(
        &mut self,
        advertisement: &RouterAdvertisement,
        is_alive: impl Fn(Ipv6Addr) -> bool,
        now: Timestamp,
    ) -> bool {
        let from = advertisement.from;
        if !from.is_unicast_link_local() {
            return false;
        }
        let known = self.entries.iter().position(|entry| entry.router == from);
        if advertisement.lifetime.is_zero() {
            return self.remove(from);
        }
        let preference = advertisement.preference;
        let is_full = self.entries.len() >= MAX_ROUTERS;
        let giving_way = if known.is_none() && is_full { self.place_for(preference, is_alive) } else { None };
        if known.is_none() && (is_full && giving_way.is_none() || !self.newcomers.take(now)) {
            return false; // asked for on, where there is none
        }
        self.solicit = None;
        let entry = Entry { router: from, preference, expires: now + advertisement.lifetime };
        match known {
            Some(at) if self.entries[at].preference == preference => self.entries[at] = entry,
            Some(at) => {
                self.entries.remove(at);
                self.insert(entry);
            }
            None => {
                giving_way.map(|at| self.entries.remove(at));
                self.insert(entry);
            }
        }
        self.settle()
    }

    /// Whose place in a full list a new router takes: the last one's that does not answer, else the last one's if it is less preferred.
    fn place_for(&self, preference: Preference, is_alive: impl Fn(Ipv6Addr) -> bool) -> Option<usize> {
        let silent = self.entries.iter().rposition(|entry| !is_alive(entry.router));
        silent.or_else(|| self.entries.iter().rposition(|entry| entry.preference < preference))
    }

    /// It is no router any more. `true`: the list is another one now.
    pub fn remove(&mut self, router: Ipv6Addr) -> bool {
        self.entries.retain(|entry| entry.router != router);
        self.settle()
    }

    /// The best first.
    pub fn list(&self) -> &[Ipv6Addr] {
        &self.list
    }

    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let expiries = self.entries.iter().map(|entry| entry.expires);
        expiries.chain(self.solicit.map(|solicit| solicit.at)).min()
    }

    /// `true`: the list is another one now. When the last one was not heard any more, routers are asked for again.
    pub fn handle_timeout(&mut self, now: Timestamp) -> bool {
        self.entries.retain(|entry| entry.expires > now);
        let is_changed = self.settle();
        if is_changed && self.entries.is_empty() {
            self.solicit = Some(Solicit { at: now, interval: SOLICITATION_INTERVAL });
        }
        is_changed
    }

    /// Whether a router solicitation is to be sent now.
    pub fn poll_solicit(&mut self, now: Timestamp) -> bool {
        let Some(solicit) = self.solicit.as_mut().filter(|solicit| solicit.at <= now) else { return false };
        solicit.at = now + solicit.interval;
        solicit.interval = (solicit.interval * 2).min(MAX_SOLICITATION_INTERVAL);
        true
    }

    fn insert(&mut self, entry: Entry) {
        let at = self.entries.partition_point(|other| other.preference >= entry.preference);
        self.entries.insert(at, entry);
    }

    fn settle(&mut self) -> bool {
        let is_same = self.entries.iter().map(|entry| &entry.router).eq(&self.list);
        if !is_same {
            self.list.clear();
            self.list.extend(self.entries.iter().map(|entry| entry.router));
        }
        !is_same
    }
}

#[cfg(test)]
mod tests;
