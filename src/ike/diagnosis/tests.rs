use super::*;
use crate::ike::auth::AuthError;
use crate::ike::proposal::{Profile, choose_ike, refused_esp, refused_ike};
use crate::net::{Port, Selector, TunnelId};
use crate::wire::ike::{Malformed, ParseError, Proposal, Protocol, Transform, notify};

fn failure(at: u64, remote: &str, cause: Cause) -> Failure {
    let remote = Path::from_port(Port::Ike, remote.parse().unwrap());
    Failure { at: Timestamp::from_secs(at), remote, stage: Stage::Auth, cause }
}

fn net(text: &str) -> Selector {
    Selector::from_net(text.parse().unwrap())
}

fn no_proposal() -> Cause {
    let transforms = vec![Transform::new(1, 3), Transform::new(2, 2), Transform::new(3, 2), Transform::new(4, 2)];
    let old = Proposal { number: 1, protocol: Protocol::Ike, spi: vec![], transforms };
    choose_ike(&[old], &[Profile::Modern], Some(2)).unwrap_err()
}

/// One of each.
fn causes() -> Vec<Cause> {
    let text = |text: &str| text.to_owned();
    vec![
        no_proposal(),
        refused_ike(Profile::Modern, notify::NO_PROPOSAL_CHOSEN),
        refused_esp(Profile::Compat, &[net("10.0.0.0/8")], &[net("10.1.0.0/16")], notify::NO_PROPOSAL_CHOSEN),
        refused_esp(Profile::Compat, &[net("10.0.0.0/8")], &[net("10.1.0.0/16")], notify::TS_UNACCEPTABLE),
        refused_ike(Profile::Pq, notify::AUTHENTICATION_FAILED),
        refused_ike(Profile::Pq, notify::INVALID_SYNTAX),
        Cause::AnswerNotOffered { answer: text("3des") },
        Cause::GroupRefused { wanted: Some(2) },
        Cause::GroupRefused { wanted: Some(14) },
        Cause::GroupRefused { wanted: None },
        Cause::KeyExchangeFailed,
        Cause::NoIntermediate,
        Cause::CookieLoop { attempts: 4 },
        Cause::TooManyHalfOpen { limit: 1000 },
        Cause::TooManyFragments { limit: 1000 },
        Cause::TooManySas { limit: 8 },
        Cause::PutOff { minutes: 5 },
        Cause::NoAnswer { sends: 6 },
        Cause::FragmentsLost { present: 2, total: 5 },
        Cause::TooLarge { bytes: 9000 },
        Cause::NeverAuthenticated,
        Cause::PeerGone { requests: 5 },
        Cause::Expired,
        Cause::DeletedByPeer,
        Cause::Malformed,
        ParseError::Malformed { payload: 33, offset: 5, why: Malformed::Count }.into(),
        ParseError::UnsupportedCritical(200).into(),
        ParseError::Version(0x10).into(),
        AuthError::WrongPsk.into(),
        AuthError::RsaSha1.into(),
        Cause::OwnProof(text("no key")),
        Cause::Identity(text("it is empty")),
        Cause::WrongIdentity { theirs: text("fqdn:a.example"), expected: text("fqdn:b.example") },
        Cause::unknown_identity("fqdn:a.example", None),
        Cause::unknown_identity("fqdn:a.example", Some(text("fqdn:b.example"))),
        Cause::WrongLocalIdentity { wanted: text("fqdn:x.example"), ours: text("fqdn:y.example") },
        Cause::EapWanted,
        Cause::PpkRequired,
        Cause::PpkUnknown,
        Cause::selectors(
            &[net("10.0.0.0/8")],
            &[net("192.168.1.0/24")],
            &[net("172.16.0.0/12")],
            &[net("192.168.2.0/24")],
        ),
        Cause::PeerSent { notify: notify::TEMPORARY_FAILURE },
        Cause::PeerSent { notify: 9999 },
    ]
}

#[test]
fn every_cause_is_told_in_whole_sentences() {
    for cause in causes() {
        let explanation = cause.explain();
        let parts = [
            Some(&explanation.what),
            explanation.they_offer.as_ref(),
            explanation.we_accept.as_ref(),
            explanation.nearest.as_ref(),
        ];
        for part in parts.into_iter().flatten() {
            assert!(part.starts_with(|first: char| first.is_uppercase()), "{part}");
            assert!(part.ends_with('.'), "{part}");
            assert!(!part.contains("  ") && !part.contains(".."), "{part}");
        }
        let is_whole = explanation.nearest.is_some() || matches!(cause, Cause::Authentication(_));
        assert!(is_whole, "what should the operator do? {explanation}");
        assert!(!cause.name().contains(' '));
    }
}

#[test]
fn selectors_are_told_per_side() {
    let ours = [net("100.64.0.0/10")];
    let theirs = [net("192.168.1.0/24")];
    let text = |ours_offered, theirs_offered: Selector| {
        Cause::selectors(&ours, &theirs, &[ours_offered], &[theirs_offered]).explain().to_string()
    };
    let only_theirs = text(ours[0], net("192.168.9.0/24"));
    assert!(only_theirs.contains("for their side."), "{only_theirs}");
    assert!(
        only_theirs.contains("They offer 192.168.9.0/24 on their side and 100.64.0.0/10 on ours."),
        "{only_theirs}"
    );
    assert!(only_theirs.contains("We accept 192.168.1.0/24 on their side"), "{only_theirs}");
    assert!(only_theirs.contains("local_ts) to 192.168.1.0/24"), "{only_theirs}");
    assert!(!only_theirs.contains("remote_ts"), "our side is right: {only_theirs}");
    let both = text(net("10.0.0.0/8"), net("192.168.9.0/24"));
    assert!(both.contains("remote_ts) to 100.64.0.0/10") && both.contains("local_ts"), "{both}");
}

#[test]
fn kinds_of_refusal_by_notify() {
    assert_eq!(Cause::refused_us(notify::AUTHENTICATION_FAILED), Cause::RefusedByPeer);
    let text = Cause::refused_us(notify::NO_ADDITIONAL_SAS).explain().to_string();
    assert!(text.contains("NO_ADDITIONAL_SAS (35)"), "{text}");
    assert!(Cause::GroupRefused { wanted: Some(2) }.explain().to_string().contains("modp1024 (group 2)"));
    assert!(Cause::GroupRefused { wanted: Some(14) }.explain().to_string().contains("profile = \"compat\""));
}

#[test]
fn explanations_go_out_as_json_without_empty_parts() {
    let json = serde_json::to_value(Cause::NoAnswer { sends: 6 }.explain()).unwrap();
    assert_eq!(json.as_object().unwrap().len(), 2);
    assert_eq!(json["what"], "No answer to a request that was sent 6 times.");
}

#[test]
fn what_comes_again_is_counted_and_shown_last() {
    let tunnel = TunnelId(1);
    let mut failures = Failures::default();
    failures.record(Some(tunnel), failure(1, "192.0.2.1:500", Cause::PpkRequired));
    failures.record(Some(tunnel), failure(2, "192.0.2.1:500", AuthError::WrongPsk.into()));
    failures.record(Some(tunnel), failure(9, "192.0.2.1:4500", Cause::PpkRequired)); // another port: the same peer
    let kept: Vec<(u64, u32, u32)> =
        failures.of(tunnel).iter().map(|one| (one.count, one.first_at.as_secs(), one.failure.at.as_secs())).collect();
    assert_eq!(kept, [(1, 2, 2), (2, 1, 9)]);
    failures.record(Some(tunnel), failure(10, "192.0.2.2:500", Cause::PpkRequired));
    assert_eq!(failures.of(tunnel).len(), 3, "from another address it is another one");
    assert!(failures.of(TunnelId(2)).is_empty() && failures.strangers().is_empty());
    failures.retain(|kept| kept != tunnel);
    assert!(failures.of(tunnel).is_empty());
}

#[test]
fn sixteen_per_tunnel_and_sixty_four_strangers() {
    let mut failures = Failures::default();
    for i in 0..200u64 {
        let remote = format!("192.0.2.{i}:500");
        failures.record(None, failure(i, &remote, Cause::Malformed));
        failures.record(Some(TunnelId(1)), failure(i, &remote, Cause::Malformed));
    }
    let times = |list: &[Recorded]| list.iter().map(|one| u64::from(one.failure.at.as_secs())).collect::<Vec<_>>();
    assert_eq!(times(failures.of(TunnelId(1))), (184..200).collect::<Vec<_>>());
    assert_eq!(times(failures.strangers()), (136..200).collect::<Vec<_>>());
}

#[test]
fn long_names_from_strangers_are_cut() {
    let mut failures = Failures::default();
    let long = "ä".repeat(30_000);
    failures.record(None, failure(1, "192.0.2.1:500", Cause::unknown_identity(&long, None)));
    let Cause::UnknownIdentity { theirs, .. } = &failures.strangers()[0].failure.cause else { panic!() };
    assert!(theirs.len() < 300 && theirs.ends_with(" ..."), "{} bytes", theirs.len());
}
