//! Two gateways that know each other, and what they are made of.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ixgate::ike::auth::{CrlPolicy, LocalCertificate, TrustAnchors};
use ixgate::ike::{Lifetimes, LocalAuth, PeerConfig, RemoteAuth};
use ixgate::net::TunnelId;
pub use ixgate::sim::ipsec_world::{Fate, Link, Message, World, peer};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};

pub const A: usize = 0;
pub const B: usize = 1;
/// The tunnel at both ends.
pub const TUNNEL: TunnelId = TunnelId(3);
pub const ENDS: [(usize, TunnelId); 2] = [(A, TUNNEL), (B, TUNNEL)];
/// No lifetime ends while a test runs.
pub const LONG: u64 = 1_000_000;

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Where a site is: 192.0.2.1 and so on.
pub fn outer(site: usize) -> IpAddr {
    [192, 0, 2, site as u8 + 1].into()
}

pub fn hosts() -> [IpAddr; 2] {
    [ip("10.0.0.1"), ip("10.1.0.1")]
}

pub fn lifetimes(ike: Duration, child: Duration) -> Lifetimes {
    Lifetimes { ike, child, ..Lifetimes::default() }
}

/// As site `me` is configured for the other one. A calls.
pub fn side(me: usize) -> PeerConfig {
    let name = |site: usize| format!("gw{site}.example");
    PeerConfig {
        initiate: me == A,
        lifetimes: lifetimes(secs(LONG), secs(LONG)),
        ..peer(TUNNEL, &name(me), &name(1 - me), Some(outer(1 - me)))
    }
}

pub fn pair_with(seed: u64, a: impl FnOnce(&mut PeerConfig), b: impl FnOnce(&mut PeerConfig)) -> World {
    let (mut of_a, mut of_b) = (side(A), side(B));
    a(&mut of_a);
    b(&mut of_b);
    let mut world = World::new(seed);
    world.add_with(outer(A), seed * 2 + 1, Default::default(), NOW, vec![of_a]);
    world.add_with(outer(B), seed * 2 + 2, Default::default(), NOW, vec![of_b]);
    world
}

pub fn pair(seed: u64) -> World {
    pair_with(seed, |_| {}, |_| {})
}

/// With timers of both sides: IKE SA and Child SA.
pub fn aging(seed: u64, a: (Duration, Duration), b: (Duration, Duration)) -> World {
    pair_with(seed, |of_a| of_a.lifetimes = lifetimes(a.0, a.1), |of_b| of_b.lifetimes = lifetimes(b.0, b.1))
}

/// Comes up first, so that no packet may be lost from the first on.
pub fn up_then_flowing(world: &mut World, every: Duration) {
    world.run_for(millis(500));
    world.flow_both_ways(ENDS[0], ENDS[1], hosts(), every);
}

/// Nothing was lost in either direction.
pub fn assert_no_gap(world: &World) {
    world.assert_no_gap(0, 0);
    world.assert_no_gap(1, 0);
}

/// Nobody's timers end any more; whatever is under way comes to its end.
pub fn settle(world: &mut World) {
    for site in [A, B] {
        let mut peers: Vec<PeerConfig> = world.sites[site].peers.iter().map(|peer| (**peer).clone()).collect();
        peers.iter_mut().for_each(|peer| peer.lifetimes = lifetimes(secs(LONG), secs(LONG)));
        world.configure(site, peers);
    }
    world.set_pace(secs(1));
    world.run_for(secs(300));
}

/// 2026-07-01 00:00:00 UTC.
pub const NOW: u64 = 1_782_864_000;

fn certificate_key(kind: &str) -> KeyPair {
    match kind {
        "rsa" => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048),
        "p256" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        "p384" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        _ => KeyPair::generate_for(&rcgen::PKCS_ED25519),
    }
    .unwrap()
}

fn certificate_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2027, 1, 1));
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// A certificate for each of `names`, and what they are trusted by.
pub fn certificates<const N: usize>(kind: &str, names: [&str; N]) -> ([Arc<LocalCertificate>; N], Arc<TrustAnchors>) {
    let authority_key = certificate_key("p256");
    let mut authority = certificate_params("authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, &authority_key);
    let issued = names.map(|name| {
        let key = certificate_key(kind);
        let mut params = certificate_params(name);
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        let pem = params.signed_by(&key, &issuer).unwrap().pem();
        Arc::new(LocalCertificate::load(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap())
    });
    let anchors = TrustAnchors::load(&[root.as_bytes()], &[], CrlPolicy::IfPresent).unwrap();
    (issued, Arc::new(anchors))
}

/// Both sides prove themselves by certificates with keys of this kind.
pub fn pair_by_certificate(seed: u64, kind: &str, change: impl Fn(&mut PeerConfig)) -> World {
    let ([of_a, of_b], anchors) = certificates(kind, ["gw0.example", "gw1.example"]);
    let set = |certificate: Arc<LocalCertificate>| {
        let (anchors, change) = (anchors.clone(), &change);
        move |config: &mut PeerConfig| {
            config.local_auth = LocalAuth::Certificate(certificate);
            config.remote_auth = RemoteAuth::Certificate(anchors);
            change(config);
        }
    };
    pair_with(seed, set(of_a), set(of_b))
}
