//! Prefixes for prefixes, in and across families.

use ixgate::sim::packets::{cut, echo, set_dont_fragment, udp};

use super::Script;
use super::build::*;

/// One exchange of each kind, opened from either side.
struct Exchange {
    near: (&'static str, &'static str),
    far: (&'static str, &'static str),
    /// How the far side sees the near host, and the near side the far one.
    near_seen: &'static str,
    far_seen: &'static str,
}

impl Exchange {
    fn udp(&self, script: &mut Script) {
        let (near, far) = (self.near.1, self.far.1);
        let request = udp(end(near, 5000), end(self.far_seen, 9), b"request");
        script.send(self.near.0, "UDP, DSCP EF, ECT(1)", with_class(request, 0xb9));
        let reply = udp(end(far, 9), end(self.near_seen, 5000), b"reply");
        script.send(self.far.0, "its reply, DSCP AF41, CE", with_class(reply, 0x8b));
    }

    /// From the handshake to the first FIN.
    fn tcp(&self, script: &mut Script) {
        let (client, server) = (end(self.near.1, 40000), end(self.far.1, 80));
        let (to_server, to_client) = (end(self.far_seen, 80), end(self.near_seen, 40000));
        let (get, ok) = (&b"GET / HTTP/1.0\r\n\r\n"[..], &b"HTTP/1.0 204 No Content\r\n\r\n"[..]);
        let (asked, answered) = (101 + get.len() as u32, 901 + ok.len() as u32);
        let ours =
            |numbers, flags, options: &[u8], data: &[u8]| segment(client, to_server, numbers, flags, options, data);
        let theirs =
            |numbers, flags, options: &[u8], data: &[u8]| segment(server, to_client, numbers, flags, options, data);
        script.send(self.near.0, "SYN, MSS 1460", ours((100, 0), SYN, &MSS_1460, b""));
        script.send(self.far.0, "SYN ACK, MSS 1460", theirs((900, 101), SYN_ACK, &MSS_1460, b""));
        script.send(self.near.0, "ACK", ours((101, 901), ACK, &[], b""));
        script.send(self.near.0, "request", ours((101, 901), PSH_ACK, &[], get));
        script.send(self.far.0, "response", theirs((901, asked), PSH_ACK, &[], ok));
        script.send(self.near.0, "FIN", ours((asked, answered), FIN_ACK, &[], b""));
    }

    fn ping(&self, script: &mut Script) {
        script.send(self.near.0, "ping", echo(ip(self.near.1), ip(self.far_seen), 7, false));
        script.send(self.far.0, "its reply", echo(ip(self.far.1), ip(self.near_seen), 7, true));
    }

    fn reversed(&self) -> Self {
        Exchange { near: self.far, far: self.near, near_seen: self.far_seen, far_seen: self.near_seen }
    }

    fn all(&self, script: &mut Script) {
        self.udp(script);
        self.tcp(script);
        self.ping(script);
    }
}

pub fn map_44(script: &mut Script) {
    let exchange = Exchange {
        near: ("a", "192.168.1.10"),
        far: ("b", "192.168.1.20"),
        near_seen: "100.64.1.10",
        far_seen: "100.64.2.20",
    };
    exchange.all(script);
    exchange.reversed().udp(script);
    exchange.reversed().ping(script);
    hairpin("192.168.1.11", "100.64.1.11").udp(script);
    hairpin("192.168.1.11", "100.64.1.11").ping(script);
    let arrived = after_a_hop(udp(end("100.64.1.10", 5000), end("192.168.1.11", 9), b"request"));
    script.send("a", "an error between hosts of A", icmp_error("192.168.1.11", "100.64.1.10", [3, 3], 0, &arrived));
}

/// From A's host to another of A's, by the address that others know it by.
fn hairpin(other: &'static str, other_seen: &'static str) -> Exchange {
    let (host, host_seen) = match other.contains(':') {
        true => ("fd00:1::10", "fd5c:a::10"),
        false => ("192.168.1.10", "100.64.1.10"),
    };
    Exchange { near: ("a", host), far: ("a", other), near_seen: host_seen, far_seen: other_seen }
}

pub fn map_66(script: &mut Script) {
    let exchange = Exchange {
        near: ("a", "fd00:1::10"),
        far: ("b", "fd00:1::20"),
        near_seen: "fd5c:a::10",
        far_seen: "fd5c:b::20",
    };
    exchange.all(script);
    exchange.reversed().udp(script);
    exchange.reversed().ping(script);
    hairpin("fd00:1::11", "fd5c:a::11").udp(script);
}

const FOUR_TO_SIX: Exchange = Exchange {
    near: ("four", "192.168.1.10"),
    far: ("six", "fd00:6::20"),
    near_seen: "fd69:7867:6174:1::c0a8:10a",
    far_seen: "100.64.6.32",
};

pub fn map_46(script: &mut Script) {
    FOUR_TO_SIX.all(script);
}

pub fn map_64(script: &mut Script) {
    FOUR_TO_SIX.reversed().all(script);
}

/// GRE with an IPv4 packet in it, ESP, SCTP: between IPv4 hosts and from IPv4 to IPv6.
pub fn no_ports(script: &mut Script) {
    let passenger = udp(end("10.0.0.1", 1), end("10.0.0.2", 9), b"inside");
    let gre = [&[0, 0, 8, 0][..], &passenger].concat();
    let esp = [&[0, 0, 0x10, 0x01, 0, 0, 0, 1][..], &payload(32)].concat();
    let across = [
        ("four", "192.168.1.10", "100.64.2.20", "other", "192.168.1.20", "100.64.1.10"),
        ("four", "192.168.1.10", "100.64.6.32", "six", "fd00:6::20", "fd69:7867:6174:1::c0a8:10a"),
    ];
    for (from, host, peer_seen, to, peer, host_seen) in across {
        for (protocol, says, message) in [(47, "GRE", &gre), (50, "ESP", &esp)] {
            let there = ixgate::sim::packets::packet(ip(host), ip(peer_seen), protocol, message.clone());
            script.send(from, &format!("{says} to {to}"), there);
            let back = ixgate::sim::packets::packet(ip(peer), ip(host_seen), protocol, message.clone());
            script.send(to, &format!("{says} back"), back);
        }
        script.send(from, &format!("SCTP INIT to {to}"), sctp_init(end(host, 3000), end(peer_seen, 36412)));
        script.send(to, "SCTP INIT back", sctp_init(end(peer, 36412), end(host_seen, 3000)));
    }
}

/// UDP that its sender left without a checksum.
pub fn zero_checksum(script: &mut Script) {
    let four = |to: &str, bytes: &[u8]| without_checksum(udp(end("192.168.1.10", 5000), end(to, 9), bytes));
    script.send("four", "no checksum, to IPv4", four("100.64.2.20", b"request"));
    script.send("four", "no checksum, to IPv6", four("100.64.6.32", b"request"));
    let mut long = four("100.64.6.32", &payload(1800));
    set_dont_fragment(&mut long, false);
    script.send_all("four", "no checksum, in fragments, to IPv6", cut(&long, 1420, 0x1234));
    // Over IPv6 its checksum comes out as zero, which must be said as all ones: zero is none (RFC 768, RFC 8200 8.1).
    let over_ipv6 = udp(end("fd69:7867:6174:1::c0a8:10a", 5000), end("fd00:6::20", 9), &[0; 2]);
    let mut all_ones = udp(end("192.168.1.10", 5000), end("100.64.6.32", 9), &over_ipv6[46..48]);
    script.send("four", "a checksum that is all ones over IPv6", all_ones.clone());
    all_ones = without_checksum(all_ones);
    script.send("four", "the same without a checksum", all_ones);
    let mut contradicting = four("100.64.6.32", b"request");
    contradicting[25] = 200;
    script.send("four", "(damaged) no checksum, and a length past the packet's end", contradicting);
}
