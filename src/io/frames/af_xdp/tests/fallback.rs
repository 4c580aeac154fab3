//! What is taken where the best cannot be had, and what is said of it.

use super::*;
use crate::io::frames::{self, Choice};

/// AF_XDP was asked for.
fn taken(name: &str) -> Box<dyn Driver> {
    frames::open(INTERFACE, name, Choice::AfXdp).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn of_the_modes_the_best_is_taken_and_the_others_are_accounted_for() {
    with_pair(1, || {
        let driver = taken("xa");
        assert_eq!(driver.kind(), "AF_XDP native, copy");
        let note = driver.note().unwrap();
        assert!(note.contains("the driver of xa has no better: native, zero copy: "), "{note}");
        if try_sh("ip link add xc type bridge").is_err() {
            return eprintln!("NOT RUN: this kernel has no bridges");
        }
        let driver = taken("xc");
        assert_eq!(driver.kind(), "AF_XDP generic");
        let note = driver.note().unwrap();
        assert!(note.contains("the driver of xc has no better: native, copy: "), "{note}");
    });
}

#[test]
fn where_there_is_no_af_xdp_frames_pass_by_af_packet_and_it_is_said_why() {
    with_pair(1, || {
        let other = opened("xa");
        let mut driver = taken("xa");
        assert!(driver.kind().starts_with("AF_PACKET ring"), "{}", driver.kind());
        let note = driver.note().unwrap();
        assert!(note.starts_with("AF_XDP was asked for, and cannot be had: another program has xa by XDP"), "{note}");
        let said = |words: &str| driver.warnings().iter().any(|warning| warning.contains(words));
        assert!(said("`driver = \"af_xdp\"` of xa is AF_PACKET"), "{:?}", driver.warnings());
        drop(other);
        let tap = Tap::open("xb");
        tap.send(&frame(1, 60));
        let mut seen = Vec::new();
        while seen.is_empty() && is_readable(driver.fd(), PATIENCE_MS) {
            let received = driver.receive().unwrap();
            seen.extend((0..received).map(|index| driver.frame(index).to_vec()));
        }
        assert_eq!(seen, [frame(1, 60)]);
    });
}

#[test]
fn too_many_queues_and_frames_too_long_are_no_reason_to_have_nothing() {
    with_pair(MAX_QUEUES + 1, || {
        let driver = taken("xa");
        let note = driver.note().unwrap();
        assert!(driver.kind().starts_with("AF_PACKET") && note.contains("17 receive queues"), "{note}");
    });
    with_pair(1, || {
        for name in ["xa", "xb"] {
            sh(&format!("ip link set dev {name} mtu 9000"));
        }
        let driver = taken("xa");
        let note = driver.note().unwrap();
        assert!(driver.kind().starts_with("AF_PACKET") && note.contains("generic: not used on a veth pair"), "{note}");
    });
}

#[test]
fn what_no_driver_can_take_is_refused_as_such() {
    with_pair(1, || {
        let refused = |name| frames::open(INTERFACE, name, Choice::AfXdp).unwrap_err();
        assert!(matches!(refused("lo"), FramesError::NotEthernet(_)));
        assert!(matches!(refused("missing"), FramesError::Missing(..)));
    });
}

#[test]
fn auto_is_af_packet_with_nothing_to_explain() {
    with_pair(1, || {
        let driver = frames::open(INTERFACE, "xa", Choice::Auto).unwrap();
        assert!(driver.kind().starts_with("AF_PACKET") && driver.note().is_none());
    });
}
