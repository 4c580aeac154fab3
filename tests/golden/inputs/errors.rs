//! ICMP errors of hosts and routers, about packets that have crossed: quoted as the reporter saw them.

use ixgate::sim::packets::{echo, udp};

use super::Script;
use super::build::*;

/// Of IPv4: destination unreachable, time exceeded, parameter problem.
const HOST_4: [u8; 2] = [3, 1];
const PORT_4: [u8; 2] = [3, 3];
const TOO_BIG_4: [u8; 2] = [3, 4];
const PROHIBITED_4: [u8; 2] = [3, 13];
const TIME_4: [u8; 2] = [11, 0];
const PROBLEM_4: [u8; 2] = [12, 0];
/// Of IPv6.
const NO_ROUTE_6: [u8; 2] = [1, 0];
const PROHIBITED_6: [u8; 2] = [1, 1];
const PORT_6: [u8; 2] = [1, 4];
const TOO_BIG_6: [u8; 2] = [2, 0];
const TIME_6: [u8; 2] = [3, 0];
const PROBLEM_6: [u8; 2] = [4, 0];

/// Between whom: realm, address in it, and address as the other side sees it.
struct Pair {
    host: [&'static str; 3],
    peer: [&'static str; 3],
}

impl Pair {
    /// A datagram as the host sends it, and as it is in the peer's network.
    fn udp(&self, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let sent = udp(end(self.host[1], 5000), end(self.peer[2], 9), bytes);
        let arrived = udp(end(self.host[2], 5000), end(self.peer[1], 9), bytes);
        (sent, after_a_hop(arrived))
    }

    fn syn(&self) -> (Vec<u8>, Vec<u8>) {
        let of = |from, to| segment(end(from, 40000), end(to, 80), (100, 0), SYN, &[], b"");
        (of(self.host[1], self.peer[2]), after_a_hop(of(self.host[2], self.peer[1])))
    }

    fn ping(&self) -> (Vec<u8>, Vec<u8>) {
        let of = |from, to| echo(ip(from), ip(to), 7, false);
        (of(self.host[1], self.peer[2]), after_a_hop(of(self.host[2], self.peer[1])))
    }

    /// An error whose last byte is not what was summed.
    fn damaged(&self, script: &mut Script, by: &str, kind: [u8; 2]) {
        let mut error = icmp_error(by, self.host[2], kind, 0, &self.udp(b"request").1);
        *error.last_mut().expect("a quote") ^= 1;
        script.send(self.peer[0], "(damaged) an error whose quote is not what was summed", error);
    }

    /// The packet crosses, and the reporter in the peer's realm answers with an error about its first `quoted` bytes.
    fn refused(&self, script: &mut Script, (sent, arrived): (Vec<u8>, Vec<u8>), error: Error) {
        let Error { by, kind, word, says, quoted } = error;
        script.send(self.host[0], &format!("to be refused: {says}"), sent);
        let quote = &arrived[..arrived.len().min(quoted)];
        script.send(self.peer[0], says, icmp_error(by, self.host[2], kind, word, quote));
    }
}

struct Error {
    by: &'static str,
    kind: [u8; 2],
    word: u32,
    says: &'static str,
    quoted: usize,
}

fn error(by: &'static str, kind: [u8; 2], word: u32, says: &'static str) -> Error {
    Error { by, kind, word, says, quoted: usize::MAX }
}

pub fn errors_44(script: &mut Script) {
    let pair = Pair { host: ["a", "192.168.1.10", "100.64.1.10"], peer: ["b", "192.168.1.20", "100.64.2.20"] };
    let (host, router) = (pair.peer[1], "192.168.1.1");
    pair.refused(script, pair.udp(b"request"), error(host, PORT_4, 0, "port unreachable"));
    let too_big = Error { quoted: 548, ..error(router, TOO_BIG_4, 1000, "fragmentation needed, 1000") };
    pair.refused(script, pair.udp(&payload(1172)), too_big);
    pair.refused(script, pair.syn(), error(router, PROHIBITED_4, 0, "prohibited"));
    pair.refused(script, pair.ping(), error(router, HOST_4, 0, "host unreachable"));
    pair.refused(script, pair.udp(b"request"), error(router, PROBLEM_4, 1 << 24, "parameter problem at byte 1"));
    let (sent, arrived) = pair.udp(b"request");
    script.send("a", "a datagram without a checksum", without_checksum(sent));
    let expired = with_hops(without_checksum(arrived), 1);
    script.send("b", "time exceeded about it", icmp_error(router, pair.host[2], TIME_4, 0, &expired));
    // Of a router that is in none of B's networks.
    script.send("b", "time exceeded, by 10.9.9.9", icmp_error("10.9.9.9", pair.host[2], TIME_4, 0, &expired));
    let with_alert = |packet: Vec<u8>| with_options(&packet, &[148, 4, 0, 0]);
    let (sent, arrived) = pair.udp(b"request");
    let unserved = error(host, PORT_4, 0, "port unreachable, about what had a router alert");
    pair.refused(script, (with_alert(sent), with_alert(arrived)), unserved);
    pair.damaged(script, host, PORT_4);
    let (_, never_sent) = Pair { host: ["a", "192.168.1.11", "100.64.1.11"], ..pair }.udp(b"request");
    let about_nothing = icmp_error(host, "100.64.1.11", PORT_4, 0, &never_sent);
    script.send("b", "port unreachable, about what was never sent", about_nothing);
}

pub fn errors_66(script: &mut Script) {
    let pair = Pair { host: ["a", "fd00:1::10", "fd5c:a::10"], peer: ["b", "fd00:1::20", "fd5c:b::20"] };
    let (host, router) = (pair.peer[1], "fd00:1::1");
    pair.refused(script, pair.udp(b"request"), error(host, PORT_6, 0, "port unreachable"));
    let too_big = Error { quoted: 1232, ..error(router, TOO_BIG_6, 1280, "packet too big, 1280") };
    pair.refused(script, pair.udp(&payload(1352)), too_big);
    pair.refused(script, pair.syn(), error(router, PROHIBITED_6, 0, "prohibited"));
    pair.refused(script, pair.ping(), error(router, NO_ROUTE_6, 0, "no route"));
    pair.refused(script, pair.udp(b"request"), error(router, TIME_6, 0, "time exceeded"));
    pair.refused(script, pair.udp(b"request"), error(router, PROBLEM_6, 7, "parameter problem at byte 7"));
    pair.damaged(script, host, PORT_6);
}

/// About packets from IPv4 to IPv6: routers of the IPv6 realm report, and an IPv4 host is told.
pub fn errors_46(script: &mut Script) {
    let pair = Pair {
        host: ["four", "192.168.1.10", "fd69:7867:6174:1::c0a8:10a"],
        peer: ["six", "fd00:6::20", "100.64.6.32"],
    };
    let (host, router) = (pair.peer[1], "fd00:6::1");
    pair.refused(script, pair.udp(b"request"), error(host, PORT_6, 0, "port unreachable"));
    let too_big = Error { quoted: 1232, ..error(router, TOO_BIG_6, 1300, "packet too big, 1300") };
    pair.refused(script, pair.udp(&payload(1352)), too_big);
    pair.refused(script, pair.syn(), error(router, PROHIBITED_6, 0, "prohibited"));
    pair.refused(script, pair.ping(), error(router, NO_ROUTE_6, 0, "no route"));
    pair.refused(script, pair.udp(b"request"), error(router, TIME_6, 0, "time exceeded"));
    let problem = |at, says| error(router, PROBLEM_6, at, says);
    pair.refused(script, pair.udp(b"request"), problem(7, "parameter problem: the hop limit"));
    pair.refused(script, pair.udp(b"request"), problem(1, "parameter problem: traffic class and flow label"));
    pair.refused(script, pair.udp(b"request"), problem(3, "parameter problem: the flow label, which IPv4 has not"));
    pair.refused(
        script,
        pair.udp(b"request"),
        error("2001:db8::1", TIME_6, 0, "time exceeded, by a router without alias"),
    );
    pair.damaged(script, host, PORT_6);
}

/// About packets from IPv6 to IPv4: routers of the IPv4 realm report, and an IPv6 host is told.
pub fn errors_64(script: &mut Script) {
    let pair = Pair {
        host: ["six", "fd00:6::20", "100.64.6.32"],
        peer: ["four", "192.168.1.10", "fd69:7867:6174:1::c0a8:10a"],
    };
    let (host, router) = (pair.peer[1], "192.168.1.1");
    pair.refused(script, pair.udp(b"request"), error(host, PORT_4, 0, "port unreachable"));
    let too_big = |mtu, says| Error { quoted: 548, ..error(router, TOO_BIG_4, mtu, says) };
    pair.refused(script, pair.udp(&payload(1352)), too_big(1300, "fragmentation needed, 1300"));
    pair.refused(script, pair.udp(&payload(1352)), too_big(1000, "fragmentation needed, 1000"));
    pair.refused(script, pair.udp(&payload(1352)), too_big(0, "fragmentation needed, no MTU told"));
    pair.refused(script, pair.syn(), error(router, PROHIBITED_4, 0, "prohibited"));
    pair.refused(script, pair.ping(), error(router, HOST_4, 0, "host unreachable"));
    pair.refused(script, pair.udp(b"request"), error(router, TIME_4, 0, "time exceeded"));
    let problem = |at: u32, says| error(router, PROBLEM_4, at << 24, says);
    pair.refused(script, pair.udp(b"request"), problem(8, "parameter problem: the TTL"));
    pair.refused(script, pair.udp(b"request"), problem(4, "parameter problem: the identification, which IPv6 has not"));
    pair.refused(
        script,
        pair.udp(b"request"),
        error(router, [3, 14], 0, "host precedence violation, which IPv6 has not"),
    );
    pair.damaged(script, host, PORT_4);
}
