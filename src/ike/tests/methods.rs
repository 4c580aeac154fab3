//! Certificates, PPK, fragmentation, selectors of every kind.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};

use super::world::*;
use crate::ike::auth::{CrlPolicy, LocalCertificate, TrustAnchors};
use crate::ike::{LocalAuth, PeerConfig, Ppk, Profile, RemoteAuth, SelectorMode};
use crate::net::selector::Selector;

struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { params, key, pem }
    }

    /// `padding`: that many further names, to make it long.
    fn issue(&self, name: &str, kind: &'static rcgen::SignatureAlgorithm, padding: usize) -> LocalAuth {
        self.issue_with(name, kind, padding, |_| "")
    }

    /// Until the end of the first of July 2026, one day after every world begins. `further`: certificates beside its own.
    fn issue_for_a_day(&self, name: &str, further: &str) -> LocalAuth {
        self.issue_with(name, &rcgen::PKCS_ED25519, 0, |params| {
            params.not_after = rcgen::date_time_ymd(2026, 7, 2);
            further
        })
    }

    fn issue_with<'f>(
        &self,
        name: &str,
        kind: &'static rcgen::SignatureAlgorithm,
        padding: usize,
        change: impl FnOnce(&mut CertificateParams) -> &'f str,
    ) -> LocalAuth {
        let mut params = CertificateParams::default();
        let further = change(&mut params);
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        for n in 0..padding {
            let other = format!("name-that-takes-room-{n}.{name}");
            params.subject_alt_names.push(SanType::DnsName(other.as_str().try_into().unwrap()));
        }
        let key = KeyPair::generate_for(kind).unwrap();
        let pem = params.signed_by(&key, &Issuer::new(self.params.clone(), &self.key)).unwrap().pem();
        let pem = pem + further;
        let local = LocalCertificate::load(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        LocalAuth::Certificate(Arc::new(local))
    }

    fn trust(&self) -> RemoteAuth {
        trust(&[&self.pem], &[])
    }

    /// A list that revokes whoever is named.
    fn revoke(&self, revoked: Option<&LocalAuth>) -> String {
        let serial = |auth: &LocalAuth| {
            let LocalAuth::Certificate(certificate) = auth else { panic!("{auth:?}") };
            let (_, read) = x509_parser::parse_x509_certificate(certificate.chain().next().unwrap()).unwrap();
            rcgen::SerialNumber::from_slice(read.raw_serial())
        };
        let (from, until) = (rcgen::date_time_ymd(2026, 1, 1), rcgen::date_time_ymd(2036, 1, 1));
        let entry = |auth| rcgen::RevokedCertParams {
            serial_number: serial(auth),
            revocation_time: from,
            reason_code: None,
            invalidity_date: None,
        };
        let params = rcgen::CertificateRevocationListParams {
            this_update: from,
            next_update: until,
            crl_number: rcgen::SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: revoked.into_iter().map(entry).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&Issuer::new(self.params.clone(), &self.key)).and_then(|list| list.pem()).unwrap()
    }
}

fn trust(listed: &[&str], crls: &[&str]) -> RemoteAuth {
    let [listed, crls] = [listed, crls].map(|pems| pems.iter().map(|pem| pem.as_bytes()).collect::<Vec<_>>());
    RemoteAuth::Certificate(Arc::new(TrustAnchors::load(&listed, &crls, CrlPolicy::IfPresent).unwrap()))
}

fn certified(kind: &'static rcgen::SignatureAlgorithm, padding: usize) -> World {
    let authority = Authority::new();
    let set = |config: &mut PeerConfig| {
        let name = config.local_id.to_string();
        config.local_auth = authority.issue(name.strip_prefix("fqdn:").unwrap(), kind, padding);
        config.remote_auth = authority.trust();
    };
    World::pair_with(1, set, set)
}

#[test]
fn certificates_of_each_kind_prove_both_sides() {
    for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let mut world = certified(kind, 0);
        world.run_for(3);
        assert!(world.is_up(), "{}", world.dump());
    }
}

#[test]
fn a_certificate_of_another_authority_is_refused_in_words() {
    let (ours, others) = (Authority::new(), Authority::new());
    let mut world = World::pair_with(
        1,
        |a| (a.local_auth, a.remote_auth) = (ours.issue("gw0.example", &rcgen::PKCS_ED25519, 0), ours.trust()),
        |b| (b.local_auth, b.remote_auth) = (ours.issue("gw1.example", &rcgen::PKCS_ED25519, 0), others.trust()),
    );
    world.run_for(3);
    assert!(!world.is_up());
    assert!(world.failures(B).iter().any(|failure| failure.cause.name() == "certificate"), "{}", world.dump());
}

/// A new list comes every day; only whom it names may notice.
#[test]
fn a_new_revocation_list_ends_what_a_revoked_certificate_has_made_and_nothing_else() {
    let authority = Authority::new();
    let (a, b) = (
        authority.issue("gw0.example", &rcgen::PKCS_ED25519, 0),
        authority.issue("gw1.example", &rcgen::PKCS_ED25519, 0),
    );
    let configured = |remote_auth: RemoteAuth| PeerConfig { local_auth: b.clone(), remote_auth, ..peer(B, A) };
    let mut world = World::pair_with(
        1,
        |config| (config.local_auth, config.remote_auth) = (a.clone(), authority.trust()),
        |config| (config.local_auth, config.remote_auth) = (b.clone(), authority.trust()),
    );
    world.run_for(3);
    let spi = world.hosts[A].endpoint.peers.newest(TUNNEL).unwrap();
    world.hosts[A].endpoint.wake(spi, |sa, now| sa.timers.rekey_at = Some(now));
    world.run_for(3);
    for harmless in [authority.revoke(None), authority.revoke(Some(&b))] {
        world.configure(B, vec![configured(trust(&[&authority.pem], &[&harmless]))]);
        world.run_for(2);
        assert!(world.is_up() && world.downs(B).is_empty(), "{}", world.dump());
    }
    world.check_gaps = false;
    world.configure(B, vec![configured(trust(&[&authority.pem], &[&authority.revoke(Some(&a))]))]);
    world.run_for(20);
    assert!(!world.is_up(), "{}", world.dump());
    assert_eq!(world.downs(B), [crate::ike::DownReason::Reconfigured]);
    assert!(world.failures(B).iter().any(|failure| failure.cause.name() == "certificate"), "{}", world.dump());
}

#[test]
fn a_pinned_certificate_that_another_of_the_same_name_has_replaced_ends_what_it_made() {
    let (authority, former, latter) = (Authority::new(), Authority::new(), Authority::new());
    let pem = |auth: &LocalAuth| {
        let LocalAuth::Certificate(certificate) = auth else { panic!("{auth:?}") };
        certificate.chain().next().unwrap().to_vec()
    };
    let pinned = |der: Vec<u8>| {
        RemoteAuth::Certificate(Arc::new(TrustAnchors::load(&[&der], &[], CrlPolicy::IfPresent).unwrap()))
    };
    let [a, other] = [&former, &latter].map(|by| by.issue("gw0.example", &rcgen::PKCS_ED25519, 0));
    let b = authority.issue("gw1.example", &rcgen::PKCS_ED25519, 0);
    let mut world = World::pair_with(
        1,
        |config| (config.local_auth, config.remote_auth) = (a.clone(), authority.trust()),
        |config| (config.local_auth, config.remote_auth) = (b.clone(), pinned(pem(&a))),
    );
    world.run_for(3);
    assert!(world.is_up(), "{}", world.dump());
    world.check_gaps = false;
    world.configure(B, vec![PeerConfig { local_auth: b, remote_auth: pinned(pem(&other)), ..peer(B, A) }]);
    world.run_for(20);
    assert_eq!(world.downs(B), [crate::ike::DownReason::Reconfigured], "{}", world.dump());
    assert!(!world.is_up());
}

#[test]
fn a_preshared_key_on_one_side_and_a_certificate_on_the_other() {
    let authority = Authority::new();
    let mut world = World::pair_with(
        1,
        |a| a.local_auth = authority.issue("gw0.example", &rcgen::PKCS_ECDSA_P256_SHA256, 0),
        |b| b.remote_auth = authority.trust(),
    );
    world.run_for(3);
    assert!(world.is_up(), "{}", world.dump());
}

fn longest(world: &mut World) -> Arc<std::sync::Mutex<usize>> {
    let longest = Arc::new(std::sync::Mutex::new(0));
    let seen = longest.clone();
    world.filter = Box::new(move |packet| {
        let mut longest = seen.lock().unwrap();
        *longest = packet.bytes.len().max(*longest);
        true
    });
    longest
}

#[test]
fn long_messages_go_in_fragments_that_fit_and_survive_a_bad_network() {
    for seed in 0..20 {
        let mut world = certified(&rcgen::PKCS_ECDSA_P256_SHA256, 80);
        let longest = longest(&mut world);
        world.faults = Faults { loss: if seed == 0 { 0 } else { 15 }, double: 15, late: 15 };
        world.check_gaps = false;
        world.run_for(60);
        assert!(world.is_up(), "{}", world.dump());
        let longest = *longest.lock().unwrap();
        assert!((1200..=1280 - 28).contains(&longest), "{longest}");
    }
}

#[test]
fn lost_fragments_are_told() {
    let mut world = certified(&rcgen::PKCS_ECDSA_P256_SHA256, 80);
    world.check_gaps = false;
    world.filter = Box::new(|packet| packet.exchange() != 35 || packet.bytes.len() > 900); // the last one is shorter
    world.run_for(40);
    assert!(!world.is_up());
    assert!(world.failures(B).iter().any(|failure| failure.cause.name() == "fragments_lost"), "{}", world.dump());
}

/// Who has only agreed on keys may have fragments wait here, but all of those together no more than a budget.
#[test]
fn fragments_of_callers_that_nobody_knows_yet_are_bounded_in_all() {
    let authority = Authority::new();
    let (limit, callers) = (9_000, [A, 2, 3]);
    let long = |host: usize| authority.issue(&format!("gw{host}.example"), &rcgen::PKCS_ECDSA_P256_SHA256, 80);
    let side = |me: usize, other: usize, local: &LocalAuth| PeerConfig {
        tunnel: crate::net::TunnelId(me.max(other) as u32),
        initiate: other == B,
        local_auth: local.clone(),
        remote_auth: authority.trust(),
        ..peer(me, other)
    };
    let mut world = World::new(1);
    world.check_gaps = false;
    let add = |world: &mut World, host| world.add(1, Default::default(), vec![side(host, B, &long(host))]);
    add(&mut world, A);
    let ours = long(B);
    let limits = crate::ike::Limits { half_open_fragment_bytes: limit, ..Default::default() };
    world.add(2, limits, callers.iter().map(|caller| side(B, *caller, &ours)).collect());
    [2, 3].into_iter().for_each(|host| assert_eq!(add(&mut world, host), host));
    world.filter = Box::new(|packet| packet.exchange() != 35 || packet.bytes.len() > 900); // the last one is shorter
    world.run_for(0);
    let held = |world: &World| {
        let of = |caller: &usize| {
            let sas = world.hosts[B].endpoint.sas.values();
            sas.filter(|entry| entry.sa.path.remote.ip() == ip(*caller)).map(|entry| entry.sa.requests.bytes()).sum()
        };
        callers.iter().map(of).collect::<Vec<usize>>()
    };
    world.run_until(world.now + std::time::Duration::from_millis(900)); // nothing is sent again yet
    let bytes = held(&world);
    assert!(bytes[0] == 0 && bytes[1] > 3_000 && bytes[2] > 3_000, "the oldest is dropped: {bytes:?}");
    for _ in 0..20 {
        world.run_for(1);
        assert!(held(&world).iter().sum::<usize>() <= limit, "{:?}", held(&world));
    }
    assert!(world.failures(B).iter().any(|failure| failure.cause.name() == "too_many_fragments"), "{}", world.dump());
    world.filter = Box::new(|_| true);
    world.run_for(60);
    assert_eq!(world.hosts[B].esp.live(), 3, "and yet everybody gets in: {}", world.dump());
    assert_eq!(held(&world), [0; 3]);
}

fn ppk(id: &str, secret: &str, required: bool) -> Option<Ppk> {
    Some(Ppk { id: id.as_bytes().to_vec(), secret: psk(secret), required })
}

#[test]
fn a_postquantum_preshared_key_is_mixed_in_where_both_have_it() {
    let both = |config: &mut PeerConfig| config.ppk = ppk("ours", "a secret of 256 bits or thereabouts", true);
    let mut world = World::pair_with(1, both, both);
    world.run_for(3);
    assert!(world.is_up(), "{}", world.dump());
    assert!(world.failures(A).is_empty() && world.failures(B).is_empty());
}

#[test]
fn without_the_same_ppk_it_depends_on_whether_it_is_required() {
    // Caller, called, whether it comes up.
    let cases = [
        (ppk("ours", "x", false), None, true),
        (None, ppk("ours", "x", false), true),
        (ppk("ours", "x", false), ppk("other", "y", false), true),
        (ppk("ours", "x", true), None, false),
        (None, ppk("ours", "x", true), false),
        (ppk("ours", "x", false), ppk("ours", "y", false), false),
    ];
    for (n, (caller, called, up)) in cases.into_iter().enumerate() {
        let mut world = World::pair_with(1, |a| a.ppk = caller, |b| b.ppk = called);
        world.check_gaps = false;
        world.run_for(3);
        assert_eq!(world.is_up(), up, "case {n} {}", world.dump());
    }
}

#[test]
fn rekeying_goes_on_from_keys_with_a_ppk_and_from_keys_with_ml_kem() {
    let both = |config: &mut PeerConfig| {
        config.ppk = ppk("ours", "a secret", true);
        config.profile = Profile::Pq;
        config.lifetimes.child = std::time::Duration::from_secs(10);
    };
    let mut world = World::pair_with(1, both, both);
    world.run_for(60);
    assert!(world.is_up(), "{}", world.dump());
    assert!(world.child_ups(A) > 4, "{}", world.dump());
}

#[test]
fn each_pair_of_selectors_has_a_child_sa_where_the_peer_wants_it() {
    let two = |config: &mut PeerConfig, mine: &str, other: &str| {
        config.ours.push(selector(mine));
        config.theirs.push(selector(other));
    };
    let mut world = World::pair_with(
        1,
        |a| {
            two(a, "172.16.0.0/24", "172.17.0.0/24");
            a.selector_mode = SelectorMode::Pairs;
        },
        |b| two(b, "172.17.0.0/24", "172.16.0.0/24"),
    );
    world.run_for(5);
    for host in [A, B] {
        let children = world.hosts[host].endpoint.status(TUNNEL).unwrap().children;
        assert_eq!(children.len(), 4, "{}", world.dump());
        assert!(children.iter().all(|child| child.ours.len() == 1 && child.theirs.len() == 1));
    }
}

#[test]
fn a_peer_that_takes_less_than_all_gets_the_rest_asked_for_once() {
    let mut world = World::pair_with(1, |a| a.ours = vec![selector("10.0.0.0/16"), selector("10.9.0.0/16")], |_| {});
    world.run_for(100);
    assert!(world.is_up());
    let children = world.hosts[A].endpoint.status(TUNNEL).unwrap().children;
    assert_eq!((children.len(), children[0].ours.clone()), (1, vec![selector("10.0.0.0/16")]));
    assert!(world.failures(A).iter().any(|failure| failure.cause.name() == "our_selectors_refused"));
    assert_eq!(world.hosts[A].endpoint.child_spi_count(), 1);
}

#[test]
fn a_peer_that_only_speaks_of_everything_gets_everything() {
    let mut world = World::pair_with(1, |a| a.selector_mode = SelectorMode::Any, |_| {});
    world.run_for(3);
    assert!(world.is_up());
    let child = world.hosts[B].esp.sealing().unwrap();
    assert_eq!((&child.ours, &child.theirs), (&vec![Selector::ANY4], &vec![Selector::ANY4]));
}

/// RFC 8784 section 3: who insists on a PPK says nothing about himself to somebody who does not offer to use one.
#[test]
fn without_the_offer_of_a_required_ppk_no_identity_is_sent() {
    let mut world = World::pair_with(1, |a| a.ppk = ppk("k", "0123456789abcdef0123456789abcdef", true), |_| {});
    world.filter = Box::new(|packet| {
        assert_ne!(packet.exchange(), 35, "IKE_AUTH");
        true
    });
    world.run_for(5);
    assert!(!world.is_up());
    assert!(world.failures(A).iter().all(|failure| failure.cause.name() == "ppk_required"), "{}", world.dump());
    assert!(!world.failures(A).is_empty());
}

/// Of host `me`, with what it proves itself by; nothing is asked of a silent peer, so that a day is short.
fn by_certificate(me: usize, local: &LocalAuth, authority: &Authority) -> PeerConfig {
    let (local_auth, remote_auth) = (local.clone(), authority.trust());
    PeerConfig { initiate: me == A, local_auth, remote_auth, liveness: std::time::Duration::ZERO, ..peer(me, 1 - me) }
}

/// A's and B's certificates; up, and with a minute left of the first of July 2026.
fn a_minute_before_the_second_of_july(authority: &Authority, a: &LocalAuth, b: &LocalAuth) -> World {
    let mut world = World::new(1);
    world.add(1, Default::default(), vec![by_certificate(A, a, authority)]);
    world.add(2, Default::default(), vec![by_certificate(B, b, authority)]);
    world.run_until(crate::net::Timestamp::from_secs(86_400 - 60));
    assert!(world.is_up() && world.downs(A).is_empty() && world.downs(B).is_empty(), "{}", world.dump());
    world.check_gaps = false;
    world
}

fn certificate_failures(world: &World, host: usize) -> Vec<String> {
    let failures = world.failures(host).into_iter().filter(|failure| failure.cause.name() == "certificate");
    failures.map(|failure| failure.to_string()).collect()
}

#[test]
fn whose_certificate_ends_under_a_living_ike_sa_is_called_again_until_it_has_another() {
    let authority = Authority::new();
    let a = authority.issue("gw0.example", &rcgen::PKCS_ED25519, 0);
    let b = authority.issue_for_a_day("gw1.example", "");
    let mut world = a_minute_before_the_second_of_july(&authority, &a, &b);
    let status = world.hosts[A].endpoint.status(TUNNEL).unwrap();
    assert!(status.counts.ike_rekeys > 3, "an IKE SA that follows another knows it, too");
    world.run_for(59);
    assert!(world.is_up(), "until the last second");
    world.run_for(12);
    assert!(!world.is_up() && world.hosts[A].esp.live() == 0, "{}", world.dump());
    assert_eq!(world.downs(A), [crate::ike::DownReason::CertificateEnded]);
    assert!(world.downs(B).iter().all(|why| *why == crate::ike::DownReason::PeerDeleted), "{}", world.dump());
    let told = certificate_failures(&world, A);
    assert!(told[0].contains("expired on 2026-07-02 00:00:00 UTC: its owner must renew it"), "{told:?}");
    assert!(world.hosts[A].endpoint.status(TUNNEL).unwrap().counts.attempts > 1, "called anew, in vain");
    let renewed = authority.issue("gw1.example", &rcgen::PKCS_ED25519, 0);
    world.configure(B, vec![by_certificate(B, &renewed, &authority)]);
    world.run_for(31);
    assert!(world.is_up(), "{}", world.dump());
}

#[test]
fn a_caller_whose_certificate_has_ended_is_closed_and_not_called() {
    let authority = Authority::new();
    let a = authority.issue_for_a_day("gw0.example", "");
    let b = authority.issue("gw1.example", &rcgen::PKCS_ED25519, 0);
    let mut world = a_minute_before_the_second_of_july(&authority, &a, &b);
    world.filter = Box::new(|packet| packet.from.ip() != ip(A)); // it answers no more, and does not call
    world.run_for(80);
    assert_eq!(world.downs(B), [crate::ike::DownReason::CertificateEnded], "{}", world.dump());
    assert_eq!((certificate_failures(&world, B).len(), world.hosts[B].esp.live()), (1, 0));
    world.run_for(200);
    assert_eq!(world.hosts[B].endpoint.sa_counts(), (0, 0), "it is forgotten, answered or not");
    assert_eq!(world.hosts[B].endpoint.status(TUNNEL).unwrap().counts.attempts, 0);
}

/// Some gateways send all the authorities that they know.
#[test]
fn the_end_of_a_certificate_that_nothing_rests_on_is_no_end() {
    let (authority, other) = (Authority::new(), Authority::new());
    let mut params = CertificateParams::default();
    params.not_after = rcgen::date_time_ymd(2026, 7, 2);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let idle = params.signed_by(&other.key, &Issuer::new(other.params.clone(), &other.key)).unwrap().pem();
    let a = authority.issue_with("gw0.example", &rcgen::PKCS_ED25519, 0, |params| {
        params.not_after = rcgen::date_time_ymd(2026, 7, 3);
        &idle
    });
    let b = authority.issue("gw1.example", &rcgen::PKCS_ED25519, 0);
    let mut world = a_minute_before_the_second_of_july(&authority, &a, &b);
    world.check_gaps = true;
    world.run_for(86_400);
    assert!(world.is_up() && world.downs(B).is_empty() && world.failures(B).is_empty(), "{}", world.dump());
    world.check_gaps = false;
    world.run_for(100);
    assert_eq!(world.downs(B), [crate::ike::DownReason::CertificateEnded], "its own is another matter");
}
