//! Packets that a pool filters, and the way that they open.

use super::*;

fn knock(t: &mut Sessions, flow: &Flow, now_secs: u32, grants: impl Fn(&Flow) -> bool) -> Result<(), DropReason> {
    let ticket = t.ticket(flow);
    t.knock(&ticket, G1, now_secs, grants)
}

fn way(t: &Sessions, flow: &Flow, now_secs: u32) -> Option<Way> {
    t.way_of_opener(&t.ticket(flow), now_secs)
}

#[test]
fn a_knock_is_the_openers_and_what_it_was_sent_to_answers() {
    let mut t = table(10, 10);
    let there = udp(side(A, 1000), side(B, 2000));
    assert_eq!(knock(&mut t, &there, 0, |_| false), Err(DropReason::NotGranted));
    assert_eq!((t.len(), way(&t, &there, 0)), (0, None));
    for _ in 0..2 {
        assert_eq!(knock(&mut t, &there, 0, |flow| flow.source.realm == A), Ok(()));
        assert_eq!((way(&t, &there, 0), way(&t, &there.reversed(), 0)), (Some(Way::Knock), None));
    }
    assert!(!t.contains(&there, G1, 0, |_| true), "nobody can have an error about it");
    let another = udp(side(B, 2001), side(A, 1000));
    assert_eq!(admit(&mut t, &another, G1, 0, |_| false), Err(DropReason::NotGranted));
    assert_eq!(admit(&mut t, &there.reversed(), G1, 0, |_| false), Ok(()));
    assert_eq!(way(&t, &there, 0), Some(Way::Met));
    assert!(t.contains(&there, G1, 0, |_| true));
    assert_eq!((t.len(), t.opened_by(A), t.opened_by(B)), (1, 1, 0));
}

#[test]
fn a_knock_ends_by_its_timer_and_those_who_have_met_keep_it_alive_both() {
    let mut t = table(10, 10);
    let there = udp(side(A, 1000), side(B, 2000));
    knock(&mut t, &there, 0, |_| true).unwrap();
    knock(&mut t, &there, 100, |_| true).unwrap();
    assert_eq!(way(&t, &there, 100 + UDP_SECS - 1), Some(Way::Knock));
    assert_eq!(way(&t, &there, 100 + UDP_SECS), None);
    assert_eq!(admit(&mut t, &there.reversed(), G1, 100 + UDP_SECS, |_| false), Err(DropReason::NotGranted));
    knock(&mut t, &there, 1000, |_| true).unwrap();
    for now_secs in [1200, 1400, 1600] {
        assert_eq!(admit(&mut t, &there.reversed(), G1, now_secs, |_| false), Ok(()));
    }
    assert_eq!(way(&t, &there, 1600 + UDP_SECS - 1), Some(Way::Met));
}

#[test]
fn knocks_count_as_sessions() {
    let mut t = table(5, 3);
    for port in 0..3 {
        assert_eq!(knock(&mut t, &udp(side(A, port), side(B, 2000)), 0, |_| true), Ok(()));
    }
    let refused = udp(side(A, 3), side(B, 2000));
    assert_eq!(knock(&mut t, &refused, 0, |_| true), Err(DropReason::SessionQuotaExceeded));
    assert_eq!(knock(&mut t, &udp(side(A, 0), side(B, 2000)), 0, |_| true), Ok(()), "has its own");
    for port in 0..2 {
        assert_eq!(knock(&mut t, &udp(side(B, port), side(A, 9)), 0, |_| true), Ok(()));
    }
    assert_eq!(knock(&mut t, &udp(side(B, 2), side(A, 9)), 0, |_| true), Err(DropReason::SessionTableFull));
    assert_eq!(t.len(), 5);
}

#[test]
fn a_packet_that_passes_is_no_knock_any_more() {
    let mut t = table(10, 10);
    let there = udp(side(A, 1000), side(B, 2000));
    knock(&mut t, &there, 0, |_| true).unwrap();
    admit(&mut t, &there, G1, 0, |_| true).unwrap();
    assert_eq!(way(&t, &there, 0), Some(Way::Through));
    assert_eq!(admit(&mut t, &there.reversed(), G1, 250, |_| false), Ok(()));
    assert_eq!(way(&t, &there, UDP_SECS), None, "the other side does not keep it");
}
