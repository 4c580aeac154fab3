//! What holds for every group, seen from outside.

use proptest::prelude::*;

use super::*;

#[test]
fn both_sides_share_a_secret_of_the_right_length() {
    for group in Group::ALL {
        let share = group.begin().unwrap();
        assert_eq!(share.group(), group);
        assert_eq!(share.public().len(), group.public_bytes(), "{group}");
        let (answer, theirs) = group.respond(share.public()).unwrap();
        assert_eq!(answer.len(), group.answer_bytes(), "{group}");
        let ours = share.finish(&answer).unwrap();
        assert_eq!(ours, theirs, "{group}");
        assert_eq!(ours.len(), group.secret_bytes(), "{group}");
        assert!(ours.iter().any(|byte| *byte != 0), "{group}");
    }
}

#[test]
fn every_share_is_new() {
    for group in Group::ALL {
        let (one, other) = (group.begin().unwrap(), group.begin().unwrap());
        assert_ne!(one.public(), other.public(), "{group}");
        let (first, second) = (group.respond(one.public()).unwrap(), group.respond(one.public()).unwrap());
        assert_ne!(first, second, "{group}");
    }
}

#[test]
fn wrong_lengths_are_refused_on_both_sides() {
    for group in Group::ALL {
        let length = |expected, bytes| GroupError::Length { group, expected, bytes };
        for bytes in [0, 1, group.public_bytes() - 1, group.public_bytes() + 1, 65_535] {
            let error = group.respond(&vec![9; bytes]).unwrap_err();
            assert_eq!(error, length(group.public_bytes(), bytes));
        }
        for bytes in [0, group.answer_bytes() - 1, group.answer_bytes() + 1] {
            let error = group.begin().unwrap().finish(&vec![9; bytes]).unwrap_err();
            assert_eq!(error, length(group.answer_bytes(), bytes));
        }
    }
}

/// RFC 6989, through the door that the wire comes in by. Each group's own file has the finer cases.
#[test]
fn zeros_and_ones_are_no_public_value() {
    for group in Group::ALL.into_iter().filter(|group| !group.is_kem()) {
        for fill in [0, 0xff] {
            if group == Group::X25519 && fill == 0xff {
                continue; // a number like any other once its top bit is dropped: 2^255 - 1 = 18 modulo p
            }
            let value = vec![fill; group.public_bytes()];
            assert_eq!(group.respond(&value).unwrap_err(), GroupError::PublicValue { group });
            assert_eq!(group.begin().unwrap().finish(&value).unwrap_err(), GroupError::PublicValue { group });
        }
    }
}

#[test]
fn ids_are_those_of_the_registry() {
    // "Internet Key Exchange Version 2 (IKEv2) Parameters", transform type 4.
    let ids = [14, 15, 16, 19, 20, 21, 31, 36, 37];
    assert_eq!(ids.map(Group::from_id), Group::ALL.map(Some));
    for refused in [0, 1, 2, 5, 22, 35, 65_535] {
        assert_eq!(Group::from_id(refused), None);
    }
}

#[test]
fn nothing_secret_is_shown() {
    assert_eq!(format!("{:?}", Group::X25519.begin().unwrap()), "KeyShare(X25519 (group 31))");
}

#[test]
fn a_share_can_wait_in_any_thread() {
    fn is_send<T: Send>() {}
    is_send::<KeyShare>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Curves and KEMs only: a power modulo a large prime takes long in a debug build, and its values are just numbers.
    #[test]
    fn arbitrary_values_never_panic(group in prop::sample::select(Group::ALL[3..].to_vec()), seed: u64) {
        let value = |bytes: usize| -> Vec<u8> {
            let mut random = crate::net::random::Seeded(seed);
            let mut value = vec![0; bytes];
            crate::net::random::Random::fill(&mut random, &mut value);
            value
        };
        let share = group.begin().unwrap();
        if let Ok((answer, secret)) = group.respond(&value(group.public_bytes())) {
            prop_assert_eq!(answer.len(), group.answer_bytes());
            prop_assert_eq!(secret.len(), group.secret_bytes());
        }
        if let Ok(secret) = share.finish(&value(group.answer_bytes())) {
            prop_assert_eq!(secret.len(), group.secret_bytes());
        }
    }
}
