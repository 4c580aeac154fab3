//! Two hosts behind pools that send to each other's outside endpoints (RFC 4787 section 5 and REQ-9, RFC 5382 REQ-2).

use super::*;

/// A is granted all of B and of itself, B nothing of A. Both filter in the same way.
fn pools(filtering: &str) -> String {
    let filtering = format!("filtering = \"{filtering}\"");
    FOUR.replace("forwards =", &format!("{filtering}, forwards ="))
        .replace("block_ports = 16", &format!("block_ports = 16, {filtering}"))
        + GRANT_TO_B
        + "[[grant]]\nfrom = [\"a\"]\nto = [\"realm:a\"]\nports = [\"tcp/1-65535\"]\n"
}

const GRANT_TO_B: &str = "[[grant]]\nfrom = [\"a\"]\nto = [\"realm:b\"]\nports = [\"any\"]\n";
const GRANT_TO_A: &str = "[[grant]]\nfrom = [\"b\"]\nto = [\"realm:a\"]\nports = [\"any\"]\n";
const STRICTER: [&str; 2] = ["address-and-port", "address"];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const X: (usize, &str, u16) = (A, "192.168.1.10", 5000);
/// In X's realm, and in another one.
const YS: [(usize, &str, u16); 2] = [(A, "192.168.1.11", 6000), (B, "192.168.1.10", 5000)];

/// A port that is in use towards C.
#[derive(Clone, Copy)]
struct End {
    site: usize,
    inside: (IpAddr, u16),
    outside: (IpAddr, u16),
}

impl End {
    fn udp(f: &mut Fixture, (site, host, port): (usize, &str, u16)) -> End {
        let (inside, c) = ((ip(host), port), f.c_for(NAMES[site]));
        End { site, inside, outside: f.arrive(site, &udp(inside, (c, 53), b"")).source }
    }

    fn tcp(f: &mut Fixture, (site, host, port): (usize, &str, u16)) -> End {
        let (inside, c) = ((ip(host), port), f.c_for(NAMES[site]));
        End { site, inside, outside: f.arrive(site, &tcp(inside, (c, 53), flag::SYN, &[], b"")).source }
    }

    fn to(self, other: End) -> Vec<u8> {
        udp(self.inside, other.outside, b"hello")
    }

    fn says(self, other: End, numbers: (u32, u32), flags: u8) -> Vec<u8> {
        segment(self.inside, other.outside, numbers, flags, b"")
    }

    /// What `other` sees of it.
    fn seen_at(self, other: End) -> Seen {
        Seen { site: other.site, source: self.outside, destination: other.inside }
    }
}

#[test]
fn two_hosts_behind_pools_open_a_way_by_sending_to_each_other() {
    for (filtering, y) in STRICTER.into_iter().flat_map(|filtering| YS.map(|y| (filtering, y))) {
        let mut f = Fixture::with(&pools(filtering));
        let (x, y) = (End::udp(&mut f, X), End::udp(&mut f, y));
        let third = End::udp(&mut f, (y.site, "192.168.1.12", y.inside.1));
        let neighbour = End::udp(&mut f, (x.site, "192.168.1.13", x.inside.1));
        // As often as it likes: the other end has not sent.
        f.expect_drop(x.site, &x.to(y), DropReason::NaptFiltered);
        f.expect_drop(x.site, &x.to(y), DropReason::NaptFiltered);
        f.expect_drop(D, &udp(y.inside, x.outside, b""), DropReason::NaptFiltered);
        f.expect_drop(third.site, &third.to(x), DropReason::NaptFiltered);
        assert_eq!(f.arrive(y.site, &y.to(x)), y.seen_at(x), "{filtering}: was sent to");
        assert_eq!(f.arrive(x.site, &x.to(y)), x.seen_at(y), "{filtering}: both have sent");
        f.expect_drop(third.site, &third.to(x), DropReason::NaptFiltered);
        f.expect_drop(neighbour.site, &neighbour.to(y), DropReason::NaptFiltered);
    }
}

#[test]
fn another_port_of_who_was_sent_to_gets_in_only_where_ports_do_not_count() {
    for filtering in STRICTER {
        let mut f = Fixture::with(&pools(filtering));
        let (x, y) = (End::udp(&mut f, X), End::udp(&mut f, YS[1]));
        let another = End::udp(&mut f, (B, "192.168.1.10", 5002));
        f.expect_drop(A, &x.to(y), DropReason::NaptFiltered);
        if filtering == "address" {
            assert_eq!(f.arrive(B, &another.to(x)), another.seen_at(x));
            assert_eq!(f.arrive(A, &x.to(another)), x.seen_at(another), "its answer");
        } else {
            f.expect_drop(B, &another.to(x), DropReason::NaptFiltered);
        }
        f.expect_drop(A, &x.to(y), DropReason::NaptFiltered);
    }
}

#[test]
fn who_waits_before_a_pool_gets_in_when_its_filtering_admits_it_after_all() {
    let text = pools("address") + GRANT_TO_A;
    let mut f = Fixture::with(&text);
    let (x, y) = (End::udp(&mut f, X), End::udp(&mut f, YS[1]));
    let of_x = End::udp(&mut f, (A, "192.168.1.10", 5002));
    f.expect_drop(A, &x.to(y), DropReason::NaptFiltered);
    f.publish(&text);
    f.expect_drop(B, &y.to(of_x), DropReason::NaptFiltered);
    let sessions = f.lan.report().sessions;
    assert_eq!(f.arrive(A, &x.to(y)), x.seen_at(y), "its host was sent to");
    assert_eq!(f.arrive(B, &y.to(x)), y.seen_at(x));
    assert_eq!(f.lan.report().sessions, sessions, "now the receiver's");
}

#[test]
fn what_was_sent_without_a_grant_opens_nothing() {
    let mut f = Fixture::with(&pools("address-and-port"));
    let (x, y) = (End::udp(&mut f, X), End::udp(&mut f, YS[1]));
    let sessions = f.lan.report().sessions;
    f.expect_drop(B, &y.to(x), DropReason::NaptFiltered);
    // Without a pool of its own there is nothing to open: C is granted all of B.
    f.expect_drop(C, &udp((SERVER, 54), y.outside, b""), DropReason::NaptFiltered);
    assert_eq!(f.lan.report().sessions, sessions);
    f.expect_drop(A, &x.to(y), DropReason::NaptFiltered);
    assert_eq!(f.lan.report().sessions, sessions + 1, "what was granted is noted");
}

#[test]
fn a_way_that_nobody_answers_closes_and_one_that_both_use_is_kept_by_either() {
    let mut f = Fixture::with(&pools("address-and-port"));
    let (x, y) = (End::udp(&mut f, X), End::udp(&mut f, YS[1]));
    let keep = |f: &mut Fixture| {
        for end in [x, y] {
            let c = f.c_for(NAMES[end.site]);
            assert_eq!(f.arrive(end.site, &udp(end.inside, (c, 53), b"")).source, end.outside);
        }
    };
    f.expect_drop(A, &x.to(y), DropReason::NaptFiltered);
    for _ in 0..3 {
        f.secs(101);
        keep(&mut f);
    }
    f.expect_drop(B, &y.to(x), DropReason::NaptFiltered);

    f.expect_drop(A, &x.to(y), DropReason::NaptFiltered);
    for _ in 0..5 {
        f.secs(101);
        assert_eq!(f.arrive(B, &y.to(x)), y.seen_at(x));
    }
    assert_eq!(f.arrive(A, &x.to(y)), x.seen_at(y));
    f.secs(301);
    f.secs(30);
    assert_eq!((f.bindings(), f.lan.report().sessions), (1, 0), "the forward");
}

#[test]
fn a_way_is_bounded_by_the_ports_of_its_sender_who_is_told() {
    let mut f = Fixture::with(&(pools("address-and-port") + GRANT_TO_A));
    let x = End::udp(&mut f, X);
    let from = |port: u16| udp((HOST, 7000 + port), x.outside, b"");
    for port in 0..16 {
        f.expect_drop(B, &from(port), DropReason::NaptFiltered);
    }
    let before = (f.bindings(), f.lan.report().sessions);
    let arrivals = f.lan.send(B, &from(16));
    let [(B, error)] = &arrivals[..] else { panic!("{arrivals:?}") };
    assert_eq!(error[20..22], [3, 13], "administratively prohibited (RFC 5508 REQ-8)");
    assert_eq!(f.drops(B, DropReason::NaptExhausted), 1);
    f.expect_drop(B, &from(3), DropReason::NaptFiltered);
    assert_eq!((f.bindings(), f.lan.report().sessions), before);
}

#[test]
fn two_tcp_hosts_behind_pools_connect_by_asking_each_other_at_once() {
    for y in YS {
        let mut f = Fixture::with(&pools("address-and-port"));
        let (x, y) = (End::tcp(&mut f, X), End::tcp(&mut f, y));
        let third = End::tcp(&mut f, (y.site, "192.168.1.12", y.inside.1));
        f.expect_drop(x.site, &x.says(y, (100, 0), flag::SYN), DropReason::NaptFiltered);
        f.expect_drop(third.site, &third.says(x, (900, 0), flag::SYN), DropReason::NaptFiltered);
        f.expect_drop(x.site, &x.says(y, (100, 0), flag::SYN), DropReason::NaptFiltered);
        assert_eq!(f.arrive(y.site, &y.says(x, (900, 0), flag::SYN)), y.seen_at(x));
        assert_eq!(f.arrive(x.site, &x.says(y, (100, 901), flag::SYN | flag::ACK)), x.seen_at(y));
        assert_eq!(f.arrive(y.site, &y.says(x, (901, 101), flag::ACK)), y.seen_at(x));
        assert_eq!(f.arrive(x.site, &x.says(y, (101, 901), flag::ACK)), x.seen_at(y));
        f.expect_drop(third.site, &third.says(x, (900, 0), flag::SYN), DropReason::NaptFiltered);
        f.secs(7000);
        assert_eq!(f.arrive(y.site, &y.says(x, (901, 101), flag::ACK)), y.seen_at(x), "established");
    }
}

#[test]
fn a_syn_that_nobody_answers_is_forgotten_in_four_minutes() {
    let mut f = Fixture::with(&pools("address-and-port"));
    let (x, y) = (End::tcp(&mut f, X), End::tcp(&mut f, YS[1]));
    f.expect_drop(A, &x.says(y, (100, 0), flag::SYN), DropReason::NaptFiltered);
    f.secs(200);
    for end in [x, y] {
        let c = f.c_for(NAMES[end.site]);
        f.arrive(end.site, &tcp(end.inside, (c, 53), flag::SYN, &[], b""));
    }
    f.secs(41);
    f.expect_drop(B, &y.says(x, (900, 0), flag::SYN), DropReason::NaptFiltered);
}

#[test]
fn nobody_can_have_an_error_about_what_was_filtered() {
    let mut f = Fixture::with(&pools("address-and-port"));
    let (x, y) = (End::udp(&mut f, X), End::udp(&mut f, YS[1]));
    let error = port_unreachable(ip("192.168.1.1"), x.outside.0, &udp(x.outside, y.inside, b"hello"));
    f.expect_drop(A, &x.to(y), DropReason::NaptFiltered);
    f.expect_drop(B, &error, DropReason::NoSession);
    f.arrive(B, &y.to(x));
    f.arrive(A, &x.to(y));
    assert_eq!(f.lan.send(B, &error).len(), 1);
}

#[test]
fn an_open_way_outlives_a_reload_that_still_grants_it_and_no_other() {
    let mut f = Fixture::with(&pools("address-and-port"));
    let (x, y) = (End::udp(&mut f, X), End::udp(&mut f, YS[1]));
    f.expect_drop(A, &x.to(y), DropReason::NaptFiltered);
    f.publish(&pools("address-and-port"));
    f.arrive(B, &y.to(x));
    for filtering in ["address", "address-and-port"] {
        f.publish(&pools(filtering));
        assert_eq!(f.arrive(A, &x.to(y)), x.seen_at(y));
        assert_eq!(f.arrive(B, &y.to(x)), y.seen_at(x));
    }
    f.publish(&pools("address-and-port").replace(GRANT_TO_B, ""));
    f.expect_drop(A, &x.to(y), DropReason::NaptFiltered);
    f.expect_drop(B, &y.to(x), DropReason::NaptFiltered);
    f.publish(&pools("address-and-port"));
    f.expect_drop(A, &x.to(y), DropReason::NaptFiltered);
}
