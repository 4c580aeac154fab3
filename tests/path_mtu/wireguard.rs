//! WireGuard acknowledges nothing: what is inside the tunnel answers, or nobody does.

use super::*;
use ixgate::wire::headers::{self, Headers, Transport};
use ixgate::wire::{checksum, icmp};

impl Fixture {
    /// The WireGuard site's gateway reports nothing; what comes to it goes to its hosts.
    fn without_router(link: Option<Link>) -> Self {
        let mut ix = Fixture::start(A, link);
        ix.world.wireguard(A).reports_expiry = false;
        ix
    }

    /// Lets the site answer every request with `answer`, looking ten times a second.
    fn answer_with(&mut self, secs: u64, mut answer: impl FnMut(&Headers, &[u8]) -> Option<Vec<u8>>) {
        for _ in 0..secs * 10 {
            self.world.run_for(Duration::from_millis(100));
            for packet in self.world.take_inbox(A) {
                let headers = headers::parse(&packet).unwrap();
                if let Transport::EchoRequest { .. } = headers.transport
                    && let Some(answer) = answer(&headers, &packet)
                {
                    self.world.send(A, &answer);
                }
            }
        }
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.world.report().realms.iter().map(|realm| realm.drops[reason.index()]).sum()
    }
}

/// A host's answer to an IPv4 echo request.
fn reply(headers: &Headers, request: &[u8]) -> Vec<u8> {
    let mut reply = request.to_vec();
    reply[8] = 64;
    let (source, destination) = (request[12..16].to_vec(), request[16..20].to_vec());
    reply[12..16].copy_from_slice(&destination);
    reply[16..20].copy_from_slice(&source);
    let message = &mut reply[headers.transport_offset..];
    message[0] = 0;
    message[icmp::CHECKSUM..icmp::CHECKSUM + 2].fill(0);
    let sum = checksum::checksum(message);
    message[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    ixgate::wire::ipv4::renew_checksum(&mut reply[..20]);
    reply
}

fn sum_is_right(packet: &[u8]) -> bool {
    checksum::checksum(&packet[20..]) == 0 && checksum::checksum(&packet[..20]) == 0
}

#[test]
fn a_black_hole_before_a_site_is_measured_and_nothing_is_lost_meanwhile() {
    for mtu in [1280, 1330, 1372, 1400, 1440, 1472, 1479] {
        let mut ix = Fixture::start(A, link(mtu, false));
        for second in 0..60 {
            if ix.mtu("a").source != MtuSource::Probe {
                let (arrived, told) = ix.send(B, 1390);
                assert!(arrived || told.is_some(), "{mtu} after {second} s: in fragments, or refused, but not lost");
            } else {
                ix.secs(2);
            }
        }
        let known = ix.mtu("a");
        assert_eq!((known.source, known.searching), (MtuSource::Probe, false), "{mtu}: {known:?}");
        let outer = known.outer_bytes.unwrap();
        assert!(outer <= mtu && outer + 16 >= mtu, "{mtu}: {known:?}");
        // 1,280 pass everywhere, if need be in fragments.
        let is_narrow = mtu < 1280 + 60;
        assert_eq!((known.may_fragment, known.unfragmented_bytes < 1280), (is_narrow, is_narrow));
        let (inner, cut) = (known.inner_bytes, ix.world.cut);
        assert!((1280..1420).contains(&inner));
        assert_eq!(ix.send(B, inner.into()), (true, None), "{mtu}");
        assert_eq!(ix.world.cut - cut, u64::from(is_narrow), "no fragment that could be avoided");
        assert_eq!(ix.send(B, usize::from(inner) + 1), (false, Some(inner)), "{mtu}");
        let report = ix.world.report();
        assert!(report.totals.answered > 0, "answers count as what the IX was sent");
        assert_eq!(ix.drops(DropReason::ServiceNotOffered), 0);
    }
}

#[test]
fn a_router_that_says_so_shortens_the_search_and_its_word_is_verified() {
    let mut ix = Fixture::start(A, link(1400, true));
    ix.secs(25);
    let known = ix.mtu("a");
    // 1340 is what is left, and padding to 16 bytes must fit, too.
    assert_eq!((known.inner_bytes, known.source), (1328, MtuSource::Probe));
    assert_eq!(ix.send(B, 1390), (false, Some(1328)));
    assert_eq!(ix.send(B, 1328), (true, None));
    // One that narrows later says so about the first long packet.
    ix.world.links.insert(A, link(1360, true).unwrap());
    assert!(!ix.send(B, 1328).0);
    let known = ix.secs(20).mtu("a");
    assert_eq!((known.outer_bytes, known.source), (Some(1360), MtuSource::Probe));
}

#[test]
fn a_host_without_a_router_replies_itself() {
    let mut ix = Fixture::without_router(link(1400, false));
    ix.answer_with(60, |headers, request| {
        assert!(sum_is_right(request));
        assert_eq!((headers.hop_limit, headers.total_bytes, request.len()), (1, 28, 28), "the padding is cut off");
        // The host is not the first address of its network.
        (headers.destination == ip("192.168.1.254")).then(|| reply(headers, request))
    });
    let known = ix.mtu("a");
    assert_eq!((known.outer_bytes, known.source, known.may_fragment), (Some(1400), MtuSource::Probe, false));
}

#[test]
fn to_a_silent_peer_packets_go_in_fragments_and_none_is_lost() {
    let mut ix = Fixture::without_router(link(1280, false));
    for _ in 0..30 {
        assert_eq!(ix.send(B, 1390), (true, None));
    }
    let known = ix.mtu("a");
    assert_eq!((known.source, known.inner_bytes, known.outer_bytes), (MtuSource::Configured, 1420, None));
    assert!(known.may_fragment && !known.searching);
    // A router's word is all that there is, for ten minutes. Anybody could have said it: nothing is lost by it.
    let a = ix.report("a").remote.unwrap();
    ix.world.report_path(a, 1400);
    let told = ix.mtu("a");
    assert_eq!((told.inner_bytes, told.source, told.may_fragment), (1328, MtuSource::Icmp, true));
    assert_eq!(ix.send(B, 1328), (true, None), "the path carries less than what was said");
    ix.world.report_path(a, 600);
    let told = ix.mtu("a");
    assert_eq!((told.inner_bytes, told.unfragmented_bytes), (1280, 1216), "and no lower");
    assert_eq!(ix.send(B, 1280), (true, None), "1280 passes whatever is said");
    let known = ix.secs(600).mtu("a");
    assert_eq!((known.inner_bytes, known.may_fragment), (1420, true));
}

#[test]
fn who_answers_what_was_not_asked_answers_nothing() {
    // Replies to everything with other numbers, and later with those of an earlier request.
    let mut ix = Fixture::without_router(None);
    let mut first = None;
    ix.answer_with(30, |headers, request| {
        let mut forged = reply(headers, request);
        match &first {
            None => {
                first = Some(forged);
                None
            }
            Some(first) if request[27] & 1 == 0 => Some(first.clone()),
            Some(_) => {
                forged[24] ^= 1;
                forged[22] ^= 1; // the sum stays right
                Some(forged)
            }
        }
    });
    let known = ix.mtu("a");
    assert_eq!((known.source, known.outer_bytes, known.may_fragment), (MtuSource::Configured, None, true));
    assert!(ix.drops(DropReason::ServiceNotOffered) + ix.drops(DropReason::InnerMalformed) > 0, "and it is counted");
    assert_eq!(ix.send(B, 1390), (true, None));
}

#[test]
fn a_size_that_only_some_probes_of_reach_the_peer_is_no_loss() {
    let mut ix = Fixture::start(A, None);
    ix.world.lost_permille = 100;
    for _ in 0..40 {
        ix.world.renew_wireguard(A);
        ix.secs(2);
    }
    let known = ix.mtu("a");
    assert_eq!((known.outer_bytes, known.source), (Some(A_OUTER), MtuSource::Probe));
}

#[test]
fn a_path_is_measured_again_after_ten_minutes_with_the_next_session_and_an_idle_peer_is_left_alone() {
    let mut ix = Fixture::start(A, link(1400, false));
    ix.secs(60);
    assert_eq!(ix.mtu("a").outer_bytes, Some(1400));
    ix.world.links.clear();
    let sent = ix.report("a").sent;
    ix.world.renew_wireguard(A);
    assert_eq!(ix.secs(500).report("a").sent, sent, "new keys alone are no reason");
    assert_eq!(ix.secs(3600).report("a").sent, sent, "nor is time");
    ix.world.renew_wireguard(A);
    let known = ix.secs(5).mtu("a");
    assert_eq!((known.outer_bytes, known.inner_bytes), (Some(A_OUTER), 1420));
}
