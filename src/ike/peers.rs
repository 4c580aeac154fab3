//! The peers as configured, and what we want of each: whether to call it, when again, which of its IKE SAs count.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::auth::{self, Identity};
use super::diagnosis::{Cause, Failure, Failures, Recorded};
use super::limits::Limits;
use super::peer::{Encapsulation, PeerConfig, SharedPeer};
use super::proposal::Profile;
use super::status::Counts;
use super::window::jittered;
use crate::net::{Path, Timestamp, TunnelId};
use crate::wire::ike::Payload;

#[derive(Default)]
pub(super) struct Peers {
    slots: Vec<Option<Box<Peer>>>,
    by_identity: HashMap<Identity, Vec<TunnelId>>,
    /// Who is to be called, and when.
    calls: BTreeSet<(Timestamp, TunnelId)>,
    failures: Failures,
    /// What IKE_SA_INIT may agree to before the peer is known: with anybody, and at an address where peers are configured.
    anywhere: Expected,
    by_address: HashMap<IpAddr, Expected>,
    any_ppk: bool,
    certificate_request: Option<Payload>,
}

/// What a set of peers is configured with.
#[derive(Clone, Default)]
struct Expected {
    /// In the order of the peers, each once.
    profiles: Vec<Profile>,
    /// One of them wants everything in UDP.
    forces_udp: bool,
}

impl Expected {
    fn add(&mut self, config: &PeerConfig) {
        if !self.profiles.contains(&config.profile) {
            self.profiles.push(config.profile);
        }
        self.forces_udp |= config.encapsulation == Encapsulation::Udp;
    }
}

pub(super) struct Peer {
    pub config: SharedPeer,
    /// Established IKE SAs by our SPI, the newest last.
    pub sas: Vec<u64>,
    /// Those that were established and are replaced or being deleted, the latest last.
    pub leaving: Vec<u64>,
    /// Of `sas`: since when, and the lowest nonce that it was made with.
    merits: BTreeMap<u64, (Timestamp, Vec<u8>)>,
    /// The IKE SA by which we are calling it.
    pub attempt: Option<u64>,
    call_at: Option<Timestamp>,
    /// Attempts that failed since the last one that did not.
    fruitless: u32,
    pub heard_at: Timestamp,
    /// When it last proved who it is, or its IKE SA was rekeyed.
    pub established_at: Option<Timestamp>,
    /// None of its IKE SAs answers.
    pub suspected: bool,
    /// Questions about the path cost it its IKE SA.
    pub ignores_probes: bool,
    pub counts: Counts,
}

impl Peer {
    fn new(config: SharedPeer) -> Self {
        Peer {
            config,
            sas: Vec::new(),
            leaving: Vec::new(),
            merits: BTreeMap::new(),
            attempt: None,
            call_at: None,
            fruitless: 0,
            heard_at: Timestamp::ZERO,
            established_at: None,
            suspected: false,
            ignores_probes: false,
            counts: Counts::default(),
        }
    }
}

impl Peers {
    pub fn get(&self, tunnel: TunnelId) -> Option<&Peer> {
        self.slots.get(tunnel.index())?.as_deref()
    }

    pub fn get_mut(&mut self, tunnel: TunnelId) -> Option<&mut Peer> {
        self.slots.get_mut(tunnel.index())?.as_deref_mut()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.slots.iter().flatten().map(|peer| &**peer)
    }

    /// Whether it is the very one that there is.
    pub fn is(&self, config: &SharedPeer) -> bool {
        self.get(config.tunnel).is_some_and(|peer| Arc::ptr_eq(&peer.config, config))
    }

    /// Who has the same two identities.
    pub fn of_pair(&self, config: &PeerConfig) -> impl Iterator<Item = TunnelId> {
        let tunnels = self.by_identity.get(&config.remote_id).into_iter().flatten().copied();
        tunnels.filter(|tunnel| self.get(*tunnel).is_some_and(|peer| peer.config.local_id == config.local_id))
    }

    pub fn insert(&mut self, config: SharedPeer) {
        let tunnel = config.tunnel;
        if self.slots.len() <= tunnel.index() {
            self.slots.resize_with(tunnel.index() + 1, || None);
        }
        self.slots[tunnel.index()] = Some(Box::new(Peer::new(config)));
    }

    pub fn remove(&mut self, tunnel: TunnelId) -> Option<Box<Peer>> {
        self.call_off(tunnel);
        self.slots.get_mut(tunnel.index())?.take()
    }

    /// After the set of peers has changed.
    pub fn reindex(&mut self) {
        let mut by_identity: HashMap<Identity, Vec<TunnelId>> = HashMap::new();
        let mut by_address: HashMap<IpAddr, Expected> = HashMap::new();
        let mut anywhere = Expected::default();
        for peer in self.iter() {
            by_identity.entry(peer.config.remote_id.clone()).or_default().push(peer.config.tunnel);
            anywhere.add(&peer.config);
            if let Some(ip) = peer.config.remote_ip() {
                by_address.entry(ip).or_default().add(&peer.config);
            }
        }
        anywhere.profiles.sort_unstable();
        let any_ppk = self.iter().any(|peer| peer.config.ppk.is_some());
        self.certificate_request = auth::joint_certificate_request(self.iter().map(|peer| &peer.config.remote_auth));
        let slots = &self.slots;
        self.failures.retain(|tunnel| slots.get(tunnel.index()).is_some_and(Option::is_some));
        (self.by_identity, self.by_address, self.anywhere, self.any_ppk) = (by_identity, by_address, anywhere, any_ppk);
    }

    /// The peer with this identity; `wanted`: who the initiator expects us to be (IDr).
    pub fn by_identity(&self, identity: &Identity, wanted: Option<&Identity>) -> Result<SharedPeer, Cause> {
        let tunnels = self.by_identity.get(identity).map_or(&[][..], |tunnels| tunnels.as_slice());
        let configs: Vec<&SharedPeer> =
            tunnels.iter().filter_map(|tunnel| self.get(*tunnel)).map(|peer| &peer.config).collect();
        let Some(first) = configs.first() else {
            return Err(Cause::unknown_identity(identity, None));
        };
        match wanted {
            None => Ok(SharedPeer::clone(first)),
            Some(wanted) => match configs.iter().find(|config| config.local_id == *wanted) {
                Some(config) => Ok(SharedPeer::clone(config)),
                None => Err(Cause::WrongLocalIdentity { wanted: wanted.to_string(), ours: first.local_id.to_string() }),
            },
        }
    }

    /// What a responder asks for before it knows who calls: a certificate of any authority that a peer is believed by.
    pub fn certificate_request(&self) -> Option<Payload> {
        self.certificate_request.clone()
    }

    pub fn any_ppk(&self) -> bool {
        self.any_ppk
    }

    /// What an IKE_SA_INIT from this address may be answered with: profiles of peers configured there come first.
    pub fn profiles_for(&self, path: &Path) -> Vec<Profile> {
        let here = self.by_address.get(&path.remote.ip()).map_or(&[][..], |expected| &expected.profiles);
        let elsewhere = self.anywhere.profiles.iter().filter(|profile| !here.contains(profile));
        here.iter().chain(elsewhere).copied().collect()
    }

    /// Whether a peer is configured at this address.
    pub fn is_expected_from(&self, path: &Path) -> bool {
        self.by_address.contains_key(&path.remote.ip())
    }

    /// Whether to claim a NAT towards this address: as the peers there (or all) want it. Without peers: yes, the default.
    pub fn forces_udp(&self, path: &Path) -> bool {
        let expected = self.by_address.get(&path.remote.ip()).unwrap_or(&self.anywhere);
        expected.forces_udp || expected.profiles.is_empty()
    }

    pub fn newest(&self, tunnel: TunnelId) -> Option<u64> {
        self.get(tunnel)?.sas.last().copied()
    }

    /// Those IKE SAs with this peer that are to outlive this one (both sides choose alike: by the higher nonces), and that
    /// it surely knows as established, too.
    pub fn better(&self, tunnel: TunnelId, spi: u64, limits: &Limits, now: Timestamp) -> Vec<u64> {
        let Some(peer) = self.get(tunnel) else { return Vec::new() };
        let Some((_, own)) = peer.merits.get(&spi) else { return Vec::new() };
        let settled = |since: Timestamp| now.saturating_since(since) > limits.retransmit_connecting.total();
        let is_better =
            |other: &&u64| peer.merits.get(other).is_some_and(|(since, lowest)| lowest > own && settled(*since));
        peer.sas.iter().filter(|other| **other != spi).filter(is_better).copied().collect()
    }

    /// We have no IKE SA with it that it would still know.
    pub fn is_forgotten(&self, tunnel: TunnelId) -> bool {
        self.get(tunnel).is_none_or(|peer| peer.sas.is_empty() || peer.suspected)
    }

    pub fn heard_at(&self, tunnel: TunnelId) -> Timestamp {
        self.get(tunnel).map_or(Timestamp::ZERO, |peer| peer.heard_at)
    }

    pub fn count(&mut self, tunnel: TunnelId, count: impl FnOnce(&mut Counts)) {
        if let Some(peer) = self.get_mut(tunnel) {
            count(&mut peer.counts);
        }
    }

    /// Whether it is also to be told at once.
    pub fn record(&mut self, tunnel: Option<TunnelId>, failure: Failure) -> bool {
        let known = tunnel.filter(|tunnel| self.get(*tunnel).is_some());
        if let Some(tunnel) = known {
            self.count(tunnel, |counts| counts.failures += 1);
        }
        self.failures.record(known, failure)
    }

    pub fn failures(&self, tunnel: TunnelId) -> &[Recorded] {
        self.failures.of(tunnel)
    }

    pub fn strangers(&self) -> &[Recorded] {
        self.failures.strangers()
    }

    /// The configuration has it called, and it is not there.
    pub fn call_if_wanted(&mut self, tunnel: TunnelId, now: Timestamp) {
        if self.get(tunnel).is_some_and(|peer| peer.sas.is_empty() && peer.config.initiate) {
            self.call_at(tunnel, now);
        }
    }

    /// The peer is to be called at `at`, or earlier if it already was.
    pub fn call_at(&mut self, tunnel: TunnelId, at: Timestamp) {
        let Some(peer) = self.get_mut(tunnel) else { return };
        if peer.config.remote.is_none() || peer.attempt.is_some() || peer.call_at.is_some_and(|set| set <= at) {
            return;
        }
        let before = peer.call_at.replace(at);
        before.map(|before| self.calls.remove(&(before, tunnel)));
        self.calls.insert((at, tunnel));
    }

    pub fn call_off(&mut self, tunnel: TunnelId) {
        let at = self.get_mut(tunnel).and_then(|peer| peer.call_at.take());
        at.map(|at| self.calls.remove(&(at, tunnel)));
    }

    pub fn next_call(&self) -> Option<Timestamp> {
        self.calls.first().map(|(at, _)| *at)
    }

    pub fn call_set_for(&self, tunnel: TunnelId) -> Option<Timestamp> {
        self.get(tunnel)?.call_at
    }

    /// Takes the next peer whose time has come.
    pub fn take_call(&mut self, now: Timestamp) -> Option<SharedPeer> {
        let (at, tunnel) = self.calls.first().copied()?;
        if at > now {
            return None;
        }
        self.call_off(tunnel);
        self.get(tunnel).map(|peer| Arc::clone(&peer.config))
    }

    /// Its IKE SA does not answer: call it anew beside, in case it has restarted.
    pub fn suspect(&mut self, tunnel: TunnelId, now: Timestamp) {
        let Some(peer) = self.get_mut(tunnel) else { return };
        peer.suspected = peer.sas.len() == 1;
        if peer.config.initiate {
            self.call_at(tunnel, now);
        }
    }

    pub fn probe_no_more(&mut self, tunnel: TunnelId) {
        if let Some(peer) = self.get_mut(tunnel) {
            peer.ignores_probes = true;
        }
    }

    /// The attempt has come to nothing.
    pub fn attempt_failed(&mut self, tunnel: TunnelId, limits: &Limits, now: Timestamp, jitter: u8) {
        let Some(peer) = self.get_mut(tunnel) else { return };
        peer.attempt = None;
        peer.fruitless = peer.fruitless.saturating_add(1);
        let wait = backoff(peer.fruitless, limits);
        if peer.config.initiate && peer.sas.is_empty() {
            self.call_at(tunnel, now + jittered(wait, jitter));
        }
    }

    /// The peer has proved who it is.
    pub fn established(&mut self, tunnel: TunnelId, spi: u64, rekeyed: bool, merit: (Timestamp, Vec<u8>)) {
        let Some(peer) = self.get_mut(tunnel) else { return };
        if !peer.sas.contains(&spi) {
            peer.sas.push(spi);
        }
        peer.established_at = Some(merit.0);
        peer.merits.insert(spi, merit);
        let sas = &peer.sas;
        peer.merits.retain(|spi, _| sas.contains(spi));
        if !rekeyed {
            peer.counts.established += 1;
        }
        (peer.fruitless, peer.suspected) = (0, false);
        if peer.attempt == Some(spi) {
            peer.attempt = None;
        }
        self.call_off(tunnel);
    }
}

fn backoff(fruitless: u32, limits: &Limits) -> Duration {
    limits.reconnect_first.saturating_mul(1 << fruitless.saturating_sub(1).min(16)).min(limits.reconnect_last)
}

/// Whether two ways of proving are the same, so that SAs made under one may go on under the other. Lists of authorities and
/// revoked certificates may differ: then each peer's certificates are held against the new ones.
impl PeerConfig {
    pub(super) fn proves_alike(&self, other: &PeerConfig) -> bool {
        use super::auth::{LocalAuth, RemoteAuth};
        let local = match (&self.local_auth, &other.local_auth) {
            (LocalAuth::Psk(a), LocalAuth::Psk(b)) => a == b,
            (LocalAuth::Certificate(a), LocalAuth::Certificate(b)) => a.chain().eq(b.chain()),
            _ => false,
        };
        let remote = match (&self.remote_auth, &other.remote_auth) {
            (RemoteAuth::Certificate(_), RemoteAuth::Certificate(_)) => true,
            (a, b) => a.is_same(b),
        };
        let ppk = match (&self.ppk, &other.ppk) {
            (Some(a), Some(b)) => a.id == b.id && a.secret == b.secret && a.required == b.required,
            (None, None) => true,
            _ => false,
        };
        local && remote && ppk
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ike::tests::world;
    use crate::net::Port;

    fn peers(configs: impl IntoIterator<Item = PeerConfig>) -> Peers {
        let mut peers = Peers::default();
        configs.into_iter().for_each(|config| peers.insert(Arc::new(config)));
        peers.reindex();
        peers
    }

    fn from(host: usize) -> Path {
        Path::from_port(Port::Ike, (world::ip(host), 500).into())
    }

    #[test]
    fn what_is_configured_at_an_address_comes_before_what_is_configured_elsewhere() {
        let config =
            |host: usize, profile| PeerConfig { tunnel: TunnelId(host as u32), profile, ..world::peer(0, host) };
        let peers = peers([config(1, Profile::Modern), config(2, Profile::Compat)]);
        assert_eq!(peers.profiles_for(&from(1)), [Profile::Modern, Profile::Compat]);
        assert_eq!(peers.profiles_for(&from(2)), [Profile::Compat, Profile::Modern]);
        assert_eq!(
            peers.profiles_for(&from(9)),
            [Profile::Modern, Profile::Compat],
            "a stranger, or a peer that moved"
        );
    }

    #[test]
    fn a_nat_is_claimed_as_the_peers_at_the_address_want_it() {
        let config = |host: usize, encapsulation| PeerConfig {
            tunnel: TunnelId(host as u32),
            encapsulation,
            ..world::peer(0, host)
        };
        assert!(peers([]).forces_udp(&from(1)), "the default");
        let plain = || config(1, Encapsulation::Auto);
        assert!(!peers([plain()]).forces_udp(&from(1)));
        assert!(!peers([plain()]).forces_udp(&from(9)));
        let both = peers([plain(), config(2, Encapsulation::Udp)]);
        assert!(!both.forces_udp(&from(1)));
        assert!(both.forces_udp(&from(2)) && both.forces_udp(&from(9)));
    }
}
