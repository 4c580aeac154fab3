use super::*;
use crate::ike::diagnosis::Cause;
use crate::wire::ike::Protocol;
use crate::wire::ike::transform_kind::{ADDITIONAL_KEY_EXCHANGE_1, ENCRYPTION, ESN, INTEGRITY, KEY_EXCHANGE, PRF};

const TRIPLE_DES: Transform = Transform::new(ENCRYPTION, 3);
const SHA1: Transform = Transform::new(INTEGRITY, 2);
const PRF_SHA1: Transform = Transform::new(PRF, 2);
const MODP1024: Transform = Transform::new(KEY_EXCHANGE, 2);
const GCM256: Transform = Transform::with_key_bits(ENCRYPTION, 20, 256);
const GCM128: Transform = Transform::with_key_bits(ENCRYPTION, 20, 128);
const CBC256: Transform = Transform::with_key_bits(ENCRYPTION, 12, 256);
const SHA256: Transform = Transform::new(INTEGRITY, 12);
const NO_INTEGRITY: Transform = Transform::new(INTEGRITY, 0);
const PRF_SHA256: Transform = Transform::new(PRF, 5);
const X25519: Transform = Transform::new(KEY_EXCHANGE, 31);
const P256: Transform = Transform::new(KEY_EXCHANGE, 19);
const MODP2048: Transform = Transform::new(KEY_EXCHANGE, 14);
const MLKEM768: Transform = Transform::new(ADDITIONAL_KEY_EXCHANGE_1, 36);
const YES_ESN: Transform = Transform::new(ESN, 1);
const NO_ESN: Transform = Transform::new(ESN, 0);

fn ike(number: u8, transforms: &[Transform]) -> Proposal {
    Proposal { number, protocol: Protocol::Ike, spi: vec![], transforms: transforms.to_vec() }
}

fn esp(number: u8, transforms: &[Transform]) -> Proposal {
    Proposal { number, protocol: Protocol::Esp, spi: vec![0, 0, 1, number], transforms: transforms.to_vec() }
}

fn no_proposal(result: Result<impl std::fmt::Debug, Cause>) -> NoProposal {
    match result {
        Err(Cause::NoProposal(no)) => *no,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_each_profile_proposes() {
    let spelled_of =
        |proposals: Vec<Proposal>| proposals.iter().map(|one| spelled(&one.transforms)).collect::<Vec<_>>();
    let aead = "aes256gcm16-aes128gcm16-chacha20poly1305";
    let prfs = "prfsha256-prfsha384-prfsha512";
    let groups = "x25519-ecp256-ecp384-ecp521-modp3072-modp4096";
    assert_eq!(spelled_of(ike_proposals(Profile::Modern)), [format!("{aead}-{prfs}-{groups}")]);
    let kems = "ke1_mlkem768-ke1_mlkem1024";
    assert_eq!(spelled_of(ike_proposals(Profile::Pq)), [format!("{aead}-{prfs}-{groups}-{kems}")]);
    let compat = [
        format!("{aead}-{prfs}-{groups}-modp2048"),
        format!("aes256-aes128-sha256-sha384-sha512-{prfs}-{groups}-modp2048"),
    ];
    assert_eq!(spelled_of(ike_proposals(Profile::Compat)), compat);
    assert_eq!(spelled_of(esp_proposals(Profile::Modern, 7, false)), [format!("{aead}-esn")]);
    let optional = "ke1_mlkem768-ke1_mlkem1024-ke1_none";
    assert_eq!(spelled_of(esp_proposals(Profile::Pq, 7, true)), [format!("{aead}-{groups}-{optional}-esn")]);
    assert_eq!(spelled_of(esp_proposals(Profile::Pq, 7, false)), [format!("{aead}-esn")]);
}

#[test]
fn proposals_are_numbered_from_one_and_carry_the_spi() {
    let proposals = esp_proposals(Profile::Compat, 0x0102_0304, true);
    assert_eq!(proposals.iter().map(|one| one.number).collect::<Vec<_>>(), [1, 2]);
    assert!(proposals.iter().all(|one| one.spi == [1, 2, 3, 4] && one.protocol == Protocol::Esp));
    assert!(proposals.iter().all(|one| one.transforms.contains(&YES_ESN) && one.transforms.contains(&NO_ESN)));
    assert!(ike_rekey_proposals(Profile::Pq, 9).iter().all(|one| one.spi == [0, 0, 0, 0, 0, 0, 0, 9]));
}

/// Both sides with the same profile agree, and on its favourites.
#[test]
fn each_profile_agrees_with_itself() {
    for profile in Profile::ALL {
        let choice = choose_ike(&ike_proposals(profile), &[profile], Some(31)).unwrap();
        assert_eq!(choice.suite, Suite { cipher: Cipher::AesGcm256, integrity: None });
        assert_eq!((choice.prf, choice.group), (Prf::HmacSha256, Group::X25519));
        assert_eq!(choice.further.as_slice(), if profile == Profile::Pq { &[Group::MlKem768][..] } else { &[] });
        assert_eq!(accept_ike(&[emit_ike(&choice, &[])], profile), Ok(choice.clone()));
        assert_eq!(is_allowed(&choice, profile), Ok(()));

        let (choice, spi) = choose_ike_rekey(&ike_rekey_proposals(profile, 77), profile, Some(Group::P256)).unwrap();
        let further = usize::from(profile == Profile::Pq);
        assert_eq!((spi, choice.group, choice.further.len()), (77, Group::P256, further));
        let answer = [emit_ike(&choice, &78u64.to_be_bytes())];
        assert_eq!(accept_ike_rekey(&answer, profile), Ok((choice, 78)));

        for sent in [None, Some(None), Some(Some(Group::P384))] {
            let with_ke = sent.flatten().is_some();
            let (choice, spi) = choose_esp(&esp_proposals(profile, 300, with_ke), profile, sent).unwrap();
            assert_eq!((spi, choice.esn, choice.group), (300, true, sent.flatten()));
            assert_eq!(accept_esp(&[emit_esp(&choice, 301)], profile, with_ke), Ok((choice, 301)));
        }
    }
}

/// Every algorithm of every profile can be agreed on by itself.
#[test]
fn each_algorithm_by_itself() {
    for profile in Profile::ALL {
        let kem = if profile.requires_kem() { vec![MLKEM768] } else { vec![] };
        for cipher in profile.ciphers() {
            let encryption = Transform { kind: ENCRYPTION, id: cipher.id(), key_bits: cipher.key_bits() };
            let integrities: Vec<Option<Integrity>> =
                if cipher.is_aead() { vec![None] } else { profile.integrities().iter().copied().map(Some).collect() };
            for (integrity, prf, group) in integrities
                .iter()
                .flat_map(|integrity| profile.prfs().iter().map(move |prf| (integrity, prf)))
                .flat_map(|(integrity, prf)| profile.groups().iter().map(move |group| (*integrity, *prf, *group)))
            {
                let mut transforms = vec![encryption, Transform::new(PRF, prf.id())];
                transforms.extend(integrity.map(|integrity| Transform::new(INTEGRITY, integrity.id())));
                transforms.push(Transform::new(KEY_EXCHANGE, group.id()));
                transforms.extend(&kem);
                let choice = choose_ike(&[ike(1, &transforms)], &[profile], Some(group.id())).unwrap();
                assert_eq!(choice.suite, Suite { cipher: *cipher, integrity });
                assert_eq!((choice.prf, choice.group), (prf, group));
            }
        }
    }
}

#[test]
fn their_first_acceptable_proposal_and_our_order_within_it() {
    let both = [ike(1, &[CBC256, SHA256, PRF_SHA256, X25519]), ike(2, &[GCM128, GCM256, PRF_SHA256, P256, X25519])];
    let modern = choose_ike(&both, &[Profile::Modern], None).unwrap();
    assert_eq!((modern.suite.cipher, emit_ike(&modern, &[]).number), (Cipher::AesGcm256, 2));
    let compat = choose_ike(&both, &[Profile::Compat], None).unwrap();
    assert_eq!((compat.suite.cipher, emit_ike(&compat, &[]).number), (Cipher::AesCbc256, 1));
    let union = choose_ike(&both, &[Profile::Pq, Profile::Compat], None).unwrap();
    assert_eq!(union.suite.cipher, Cipher::AesCbc256, "no ML-KEM in it, so pq cannot take it");
}

#[test]
fn the_group_of_the_ke_payload_saves_a_round_trip() {
    let proposals = [ike(1, &[GCM256, PRF_SHA256, X25519, P256, MODP2048])];
    let group = |sent| choose_ike(&proposals, &[Profile::Modern], sent).unwrap().group;
    assert_eq!(group(Some(19)), Group::P256);
    assert_eq!(group(Some(14)), Group::X25519, "not one of the profile: INVALID_KE_PAYLOAD will name ours");
    assert_eq!(group(Some(2)), Group::X25519);
    assert_eq!(group(None), Group::X25519);
}

#[test]
fn an_aead_goes_without_integrity_or_with_none() {
    let suite = |transforms: &[Transform]| {
        choose_ike(&[ike(1, transforms)], &[Profile::Compat], None).ok().map(|choice| choice.suite)
    };
    let gcm = Some(Suite { cipher: Cipher::AesGcm256, integrity: None });
    assert_eq!(suite(&[GCM256, PRF_SHA256, X25519]), gcm);
    assert_eq!(suite(&[GCM256, NO_INTEGRITY, PRF_SHA256, X25519]), gcm);
    assert_eq!(suite(&[GCM256, SHA256, PRF_SHA256, X25519]), None);
    let cbc = Some(Suite { cipher: Cipher::AesCbc256, integrity: Some(Integrity::HmacSha256_128) });
    assert_eq!(suite(&[GCM256, CBC256, SHA256, PRF_SHA256, X25519]), cbc, "mixed: the integrity is for CBC");
    assert_eq!(suite(&[CBC256, PRF_SHA256, X25519]), None, "CBC without integrity");
    assert_eq!(suite(&[CBC256, NO_INTEGRITY, PRF_SHA256, X25519]), None);
    // The answer repeats "none" only when it was offered.
    let with_none = choose_ike(&[ike(1, &[GCM256, NO_INTEGRITY, PRF_SHA256, X25519])], &[Profile::Modern], None);
    assert!(emit_ike(&with_none.unwrap(), &[]).transforms.contains(&NO_INTEGRITY));
}

#[test]
fn what_lacks_a_type_that_it_must_have_is_passed_over_and_the_next_proposal_taken() {
    let whole = [GCM256, PRF_SHA256, X25519];
    for missing in [ENCRYPTION, PRF, KEY_EXCHANGE] {
        let rest: Vec<Transform> = whole.iter().filter(|one| one.kind != missing).copied().collect();
        no_proposal(choose_ike(&[ike(1, &rest)], &Profile::ALL, None));
        let choice = choose_ike(&[ike(1, &rest), ike(2, &whole)], &[Profile::Modern], None).unwrap();
        assert_eq!(emit_ike(&choice, &[]).number, 2);
    }
    no_proposal(choose_esp(&[esp(1, &[NO_ESN])], Profile::Compat, None));
}

#[test]
fn key_lengths_stand_where_a_cipher_has_several_and_nowhere_else() {
    let chacha = Transform::new(ENCRYPTION, 28);
    let is_taken = |cipher| {
        choose_ike(&[ike(1, &[cipher, SHA256, PRF_SHA256, X25519])], &[Profile::Compat], None).is_ok()
            || choose_ike(&[ike(1, &[cipher, PRF_SHA256, X25519])], &[Profile::Compat], None).is_ok()
    };
    assert!(is_taken(GCM256) && is_taken(CBC256) && is_taken(chacha));
    for cipher in [GCM256, CBC256] {
        assert!(!is_taken(Transform { key_bits: None, ..cipher }), "which one?");
        assert!(!is_taken(Transform { key_bits: Some(255), ..cipher }));
    }
    assert!(!is_taken(Transform { key_bits: Some(256), ..chacha }));
}

#[test]
fn types_and_attributes_that_we_do_not_know() {
    let with = |extra| choose_ike(&[ike(1, &[GCM256, PRF_SHA256, X25519, extra])], &[Profile::Modern], None);
    no_proposal(with(Transform::new(13, 1)));
    no_proposal(with(Transform::new(ESN, 0)));
    let spoiled = Transform { key_bits: Some(0), ..GCM256 };
    assert_eq!(with(spoiled).unwrap().suite.cipher, Cipher::AesGcm256, "the other transforms still count");
    no_proposal(choose_ike(&[ike(1, &[spoiled, PRF_SHA256, X25519])], &[Profile::Modern], None));
    let ah = Proposal { protocol: Protocol::Ah, ..esp(1, &[SHA256, NO_ESN]) };
    no_proposal(choose_esp(std::slice::from_ref(&ah), Profile::Compat, None));
    assert_eq!(choose_esp(&[ah, esp(2, &[GCM256, NO_ESN])], Profile::Modern, None).unwrap().1, 0x102);
}

#[test]
fn additional_key_exchanges() {
    let proposal = [ike(1, &[GCM256, PRF_SHA256, X25519, MLKEM768])];
    assert_eq!(choose_ike(&proposal, &[Profile::Modern], None).unwrap().further, [Group::MlKem768]);
    no_proposal(choose_ike(&[ike(1, &[GCM256, PRF_SHA256, X25519])], &[Profile::Pq], None));
    // An answer repeats them; modern did not offer any, so it takes none back.
    let answer = [emit_ike(&choose_ike(&proposal, &[Profile::Pq], None).unwrap(), &[])];
    assert!(accept_ike(&answer, Profile::Pq).is_ok());
    assert!(matches!(accept_ike(&answer, Profile::Modern), Err(Cause::AnswerNotOffered { .. })));
    // Two of them, with "none" allowed for the second, and the same method twice (RFC 9370 section 2.2.1).
    let second = |id| Transform::new(ADDITIONAL_KEY_EXCHANGE_1 + 1, id);
    let further = |transforms: &[Transform]| {
        let all = [&[GCM256, PRF_SHA256, X25519, MLKEM768], transforms].concat();
        choose_ike(&[ike(1, &all)], &[Profile::Pq], None).ok().map(|choice| choice.further)
    };
    assert_eq!(further(&[second(37)]), Some(vec![Group::MlKem768, Group::MlKem1024]));
    assert_eq!(further(&[second(35), second(0)]), Some(vec![Group::MlKem768]));
    assert_eq!(further(&[second(36)]), None);
    // A rekeying takes them (IKE_FOLLOWUP_KE), and does without them: the keys that it draws on have them already.
    let rekeyed = |transforms: &[Transform], profile| {
        let rekey = Proposal { spi: vec![1; 8], ..ike(1, transforms) };
        choose_ike_rekey(&[rekey], profile, None).unwrap().0.further
    };
    assert_eq!(rekeyed(&[GCM256, PRF_SHA256, X25519, MLKEM768], Profile::Pq), [Group::MlKem768]);
    assert_eq!(rekeyed(&[GCM256, PRF_SHA256, X25519, MLKEM768], Profile::Modern), [Group::MlKem768]);
    assert!(rekeyed(&[GCM256, PRF_SHA256, X25519], Profile::Pq).is_empty());
    // IKE_AUTH has no exchange that could carry them.
    let child = esp(1, &[GCM256, X25519, MLKEM768, NO_ESN]);
    assert!(choose_esp(&[child], Profile::Pq, None).unwrap().0.further.is_empty());
}

#[test]
fn key_exchange_of_a_child() {
    let none = Transform::new(KEY_EXCHANGE, 0);
    let group = |transforms: &[Transform], sent| {
        choose_esp(&[esp(1, transforms)], Profile::Modern, sent).ok().map(|(choice, _)| choice.group)
    };
    let pfs = [GCM256, X25519, P256, YES_ESN];
    assert_eq!(group(&pfs, Some(Some(Group::P256))), Some(Some(Group::P256)));
    assert_eq!(group(&pfs, Some(None)), Some(Some(Group::X25519)), "they must send one");
    assert_eq!(group(&pfs, None), Some(None), "in IKE_AUTH groups do not count");
    assert_eq!(group(&[GCM256, X25519, none, YES_ESN], Some(None)), Some(None));
    assert_eq!(group(&[GCM256, X25519, none, YES_ESN], Some(Some(Group::X25519))), Some(Some(Group::X25519)));
    assert_eq!(group(&[GCM256, MODP1024, YES_ESN], Some(None)), None);
    assert_eq!(group(&[GCM256], Some(None)), Some(None), "no ESN type means no ESN");
}

#[test]
fn answers_that_were_not_offered() {
    let good = emit_ike(&choose_ike(&ike_proposals(Profile::Modern), &[Profile::Modern], None).unwrap(), &[]);
    let refused =
        |answer: &[Proposal]| matches!(accept_ike(answer, Profile::Modern), Err(Cause::AnswerNotOffered { .. }));
    let changed = |change: fn(&mut Proposal)| {
        let mut answer = good.clone();
        change(&mut answer);
        [answer]
    };
    assert!(!refused(std::slice::from_ref(&good)));
    assert!(refused(&[]));
    assert!(refused(&[good.clone(), good.clone()]));
    assert!(refused(&changed(|answer| answer.number = 2)));
    assert!(refused(&changed(|answer| answer.protocol = Protocol::Esp)));
    assert!(refused(&changed(|answer| answer.transforms[0] = CBC256)));
    assert!(refused(&changed(|answer| answer.transforms.push(P256))));
    assert!(refused(&changed(|answer| answer.transforms.retain(|one| one.kind != KEY_EXCHANGE))));
    assert!(!refused(&changed(|answer| answer.transforms.push(NO_INTEGRITY))), "some say it without being asked");
    let child = |transforms: &[Transform]| accept_esp(&[esp(1, transforms)], Profile::Modern, true).is_ok();
    assert!(child(&[GCM256, X25519, YES_ESN]));
    assert!(!child(&[GCM256, YES_ESN]), "a group was offered, and none is not among them");
    let zero_spi = Proposal { spi: vec![0; 4], ..esp(1, &[GCM256, X25519, YES_ESN]) };
    assert!(accept_esp(&[zero_spi], Profile::Modern, true).is_err());
}

#[test]
fn a_choice_is_held_against_the_profile_of_the_peer() {
    let proposals = [ike(1, &[CBC256, SHA256, PRF_SHA256, MODP2048])];
    let choice = choose_ike(&proposals, &[Profile::Modern, Profile::Compat], Some(14)).unwrap();
    assert_eq!(is_allowed(&choice, Profile::Compat), Ok(()));
    let no = no_proposal(is_allowed(&choice, Profile::Modern));
    assert_eq!(no.switch_here, Some(Profile::Compat));
}

#[test]
fn a_refusal_names_what_they_offer_what_we_accept_and_the_nearest_change() {
    let old = [ike(1, &[TRIPLE_DES, SHA1, PRF_SHA1, MODP1024])];
    let no = no_proposal(choose_ike(&old, &[Profile::Compat], Some(2)));
    assert_eq!(no.offered, ["3des-sha1-prfsha1-modp1024"]);
    assert_eq!(no.outdated, ["3DES", "SHA-1", "group 2, 1024 bits"]);
    assert_eq!(no.switch_here, None);
    let text = no.to_string();
    for part in [
        "They offer 3des-sha1-prfsha1-modp1024.",
        "for encryption we accept aes256",
        "they offer 3des",
        "for key exchange we accept x25519, ecp256",
        "they offer modp1024",
        "Nearest: add aes256",
        "No profile of ours takes 3DES, SHA-1, group 2, 1024 bits",
    ] {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn the_nearest_change_keeps_what_fits_and_names_the_profile_that_would_do() {
    let compat = [ike(1, &[TRIPLE_DES, SHA1, PRF_SHA1, MODP1024]), ike(2, &[CBC256, SHA256, PRF_SHA256, MODP2048])];
    let no = no_proposal(choose_ike(&compat, &[Profile::Modern], Some(14)));
    assert_eq!(no.switch_here, Some(Profile::Compat));
    assert_eq!(no.add_there, "aes256gcm16-prfsha256-x25519");
    assert!(no.nearest().ends_with("or set profile = \"compat\" on ours."), "{}", no.nearest());

    let only_group = [ike(1, &[CBC256, SHA256, PRF_SHA256, MODP1024])];
    let no = no_proposal(choose_ike(&only_group, &[Profile::Compat], Some(2)));
    assert_eq!(no.mismatches.len(), 1);
    assert_eq!(
        (no.mismatches[0].kind.as_str(), no.mismatches[0].offered.as_slice()),
        ("key exchange", &["modp1024".to_owned()][..])
    );
    assert_eq!(no.add_there, "aes256-sha256-x25519", "what fits of theirs stays, and the prf goes without saying");

    let classical = [ike(1, &[GCM256, PRF_SHA256, X25519])];
    let no = no_proposal(choose_ike(&classical, &[Profile::Pq], Some(31)));
    assert_eq!(no.mismatches[0].kind, "additional key exchange 1");
    assert_eq!(no.mismatches[0].offered, [""; 0]);
    assert_eq!(no.add_there, "aes256gcm16-prfsha256-x25519-ke1_mlkem768");
    assert_eq!(no.switch_here, Some(Profile::Modern));

    let no = no_proposal(choose_esp(&[esp(1, &[CBC256, SHA256, NO_ESN])], Profile::Modern, None));
    assert!(no.esp);
    assert_eq!(no.add_there, "aes256gcm16");
    assert_eq!(no.switch_here, Some(Profile::Compat));
    assert_eq!(no_proposal(choose_esp(&[], Profile::Modern, None)).offered(), "They offer nothing for this protocol.");
}

#[test]
fn a_refusal_stays_small_whatever_was_offered() {
    let many: Vec<Transform> = (0..=254).map(|id| Transform::with_key_bits(ENCRYPTION, 1000 + id, 60_000)).collect();
    let proposals: Vec<Proposal> = (1..=32).map(|number| ike(number, &many)).collect();
    let no = no_proposal(choose_ike(&proposals, &[Profile::Compat], None));
    assert_eq!(no.offered.len(), 8);
    assert!(no.to_string().len() < 8192, "{} bytes", no.to_string().len());
}

#[test]
fn names_are_strongswans() {
    let all = [
        (Transform::new(ENCRYPTION, 3), "3des"),
        (GCM256, "aes256gcm16"),
        (Transform::with_key_bits(ENCRYPTION, 12, 192), "aes192"),
        (Transform::with_key_bits(ENCRYPTION, 13, 128), "aes128ctr"),
        (Transform::with_key_bits(ENCRYPTION, 23, 256), "camellia256"),
        (Transform::new(ENCRYPTION, 28), "chacha20poly1305"),
        (Transform::new(ENCRYPTION, 999), "encryption(999)"),
        (Transform::new(INTEGRITY, 1), "md5"),
        (SHA1, "sha1"),
        (Transform::new(PRF, 1), "prfmd5"),
        (MODP1024, "modp1024"),
        (Transform::new(KEY_EXCHANGE, 5), "modp1536"),
        (Transform::new(KEY_EXCHANGE, 28), "ecp256bp"),
        (Transform::new(KEY_EXCHANGE, 999), "group(999)"),
        (Transform::new(ADDITIONAL_KEY_EXCHANGE_1 + 6, 37), "ke7_mlkem1024"),
        (YES_ESN, "esn"),
        (Transform::new(99, 5), "type99(5)"),
        (Transform { key_bits: Some(0), ..GCM256 }, "aesgcm16(unknown attribute)"),
    ];
    for (transform, name) in all {
        assert_eq!(transform_name(&transform), name);
    }
    assert_eq!(spelled(&[X25519, PRF_SHA256, SHA256, CBC256, NO_ESN]), "aes256-sha256-prfsha256-x25519");
}

#[test]
fn profiles_by_name() {
    for profile in Profile::ALL {
        assert_eq!(profile.name().parse(), Ok(profile));
    }
    assert_eq!("legacy".parse::<Profile>(), Err(NoSuchProfile));
}

/// The page for operators and the lists in the code say the same.
#[test]
fn the_documentation_names_every_algorithm() {
    let page = include_str!("../../../docs/algorithms.md");
    for profile in Profile::ALL {
        assert!(page.contains(&format!("`{profile}`")), "profile {profile}");
        for proposal in ike_proposals(profile).iter().chain(&esp_proposals(profile, 0, true)) {
            for transform in proposal.transforms.iter().filter(|one| one.kind != ESN && one.id != 0) {
                let name = transform_name(transform);
                let name = name.split_once('_').map_or(&*name, |(_, kem)| kem);
                assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/algorithms.md");
            }
        }
    }
}
