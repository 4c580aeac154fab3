//! What does not cross as it is: hops run out, packets too long, whatever is not allowed.

use ixgate::sim::packets::{echo, packet, set_dont_fragment, udp};

use super::Script;
use super::build::*;

/// Who sends, from which address, to which as it sees it; and the IX as it answers.
const WAYS: [(&str, &str, &str, &str); 4] = [
    ("four", "192.168.1.10", "100.64.2.20", "from IPv4 to IPv4"),
    ("six", "fd00:6::20", "fd5c:b::20", "from IPv6 to IPv6"),
    ("four", "192.168.1.10", "100.64.6.32", "from IPv4 to IPv6"),
    ("six", "fd00:6::20", "fd69:7867:6174:1::c0a8:10a", "from IPv6 to IPv4"),
];

pub fn hop_limit(script: &mut Script) {
    for (realm, host, peer, way) in WAYS {
        let probe = udp(end(host, 5000), end(peer, 33434), b"traceroute");
        script.send(realm, &format!("the last hop but one, {way}"), with_hops(probe.clone(), 2));
        script.send(realm, &format!("the last hop, {way}"), with_hops(probe, 1));
        script.send(realm, &format!("a ping's last hop, {way}"), with_hops(echo(ip(host), ip(peer), 7, false), 1));
    }
    let about = after_a_hop(udp(end("100.64.2.20", 33434), end("192.168.1.10", 5000), b"traceroute"));
    let error = icmp_error("192.168.1.10", "100.64.2.20", [3, 3], 0, &about);
    script.send("four", "an error's last hop: nobody is told (RFC 1122 section 3.2.2)", with_hops(error, 1));
}

/// Lengths are those of whole packets, the first that fits and the next that does not.
pub fn too_big(script: &mut Script) {
    let of = |from: &str, to: &str, total: usize| {
        let headers = if ip(from).is_ipv4() { 28 } else { 48 };
        udp(end(from, 5000), end(to, 9), &payload(total - headers))
    };
    for (realm, from, to, fits, way) in [
        ("four", "192.168.1.10", "100.64.2.20", 1280, "from IPv4 to IPv4"),
        ("twin", "fd00:6::20", "fd00:66::20", 1280, "from IPv6 to IPv6"),
        ("four", "192.168.1.10", "100.64.6.32", 1260, "from IPv4 to IPv6"),
        ("twin", "fd00:6::20", "fd69:7867:6174:2::c0a8:114", 1300, "from IPv6 to IPv4"),
    ] {
        script.send(realm, &format!("fits, {way}"), of(from, to, fits));
        script.send(realm, &format!("one byte too long, {way}"), of(from, to, fits + 1));
    }
    for total in [1260, 1261] {
        let mut may_be_cut = of("192.168.1.10", "100.64.6.32", total);
        set_dont_fragment(&mut may_be_cut, false);
        script.send("four", &format!("{total} bytes without DF, from IPv4 to IPv6"), may_be_cut);
    }
    for total in [1280, 1281] {
        let packet = of("fd00:6::20", "fd69:7867:6174:2::c0a8:114", total);
        script.send("twin", &format!("{total} bytes, from IPv6 to IPv4"), packet);
    }
}

pub fn denied_and_spoofed(script: &mut Script) {
    let (a, b_seen) = (|port| end("192.168.1.10", port), |port| end("100.64.2.20", port));
    script.send("a", "granted", udp(a(5000), b_seen(9), b"request"));
    script.send("a", "a port that is not granted", udp(a(5000), b_seen(10), b"request"));
    script.send("a", "a ping, not granted", echo(ip("192.168.1.10"), ip("100.64.2.20"), 7, false));
    script.send("c", "no grant at all", udp(a(5000), b_seen(9), b"request"));
    script.send("a", "a source of nobody", udp(end("192.168.7.10", 5000), b_seen(9), b"forged"));
    script.send("a", "an alias as source", udp(end("100.64.3.10", 5000), b_seen(9), b"forged"));
    script.send("a", "to an address of nobody", udp(a(5000), end("100.64.77.1", 9), b"request"));
    script.send("a", "to a group", udp(a(5000), end("239.1.2.3", 9), b"request"));
    script.send("a", "an acknowledgement of nothing", segment(a(40000), b_seen(80), (1, 1), SYN_ACK, &[], b""));
    script.send("a", "a reset of nothing", segment(a(40001), b_seen(80), (1, 0), 0x04, &[], b""));
    let about = after_a_hop(udp(end("100.64.2.20", 1), end("192.168.1.10", 2), b"never"));
    script.send("a", "an error about nothing", icmp_error("192.168.1.10", "100.64.2.20", [3, 3], 0, &about));
    script.send("a", "with a source route", source_routed(udp(a(5000), end("192.168.1.1", 9), b"request")));
    let mut cut_off = udp(a(5000), b_seen(9), b"request");
    cut_off.truncate(24);
    script.send("a", "(damaged) cut off", cut_off);
    script.send("a", "pings the IX", echo(ip("192.168.1.10"), ip("100.64.0.1"), 7, false));
    script.send("a", "a port that the IX does not serve", udp(a(5000), end("100.64.0.53", 54), b"request"));
    let mut damaged = udp(a(5000), b_seen(9), b"request");
    damaged[28] ^= 1;
    script.send("a", "(damaged) a payload that is not what was summed", damaged);
    script.send("a", "a protocol that is not granted", packet(ip("192.168.1.10"), ip("100.64.2.20"), 47, vec![0; 4]));
}

/// With a loose source route (RFC 791 section 3.1): by B's host to where the packet was to go.
fn source_routed(mut packet: Vec<u8>) -> Vec<u8> {
    packet[16..20].copy_from_slice(&[100, 64, 2, 20]);
    with_options(&packet, &[131, 7, 4, 192, 168, 1, 1, 0])
}
