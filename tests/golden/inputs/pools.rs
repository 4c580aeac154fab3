//! Realms that are seen by a few addresses (NAPT), and the default realm.

use ixgate::sim::packets::{cut, echo, packet, set_dont_fragment, udp};

use super::Script;
use super::build::*;

/// Host .10 of the realm with the pool, the address that shows it, and the first port of its block there.
const HOST: &str = "192.168.1.10";
const POOL: &str = "100.64.9.0";
const BLOCK: u16 = 1024 + 10 * 256;
/// A server of C's, and as A sees it.
const SERVER: &str = "192.168.1.30";
const SERVER_SEEN: &str = "100.64.3.30";

pub fn napt(script: &mut Script) {
    outbound(script);
    refused(script);
    forward(script);
    let long = |from: &str| {
        let mut packet = udp(end(from, BLOCK + 2), end(SERVER_SEEN, 9), &payload(1800));
        set_dont_fragment(&mut packet, false);
        cut(&packet, 1420, 0x1001)
    };
    script.send_all("a", "in fragments, through the pool", long(HOST));
}

fn outbound(script: &mut Script) {
    let host = |port| end(HOST, port);
    let (server, shown) = (|port| end(SERVER_SEEN, port), |port| end(POOL, port));
    script.send("a", "UDP from a port of its block", udp(host(BLOCK + 2), server(9), b"request"));
    script.send("c", "its reply", udp(end(SERVER, 9), shown(BLOCK + 2), b"reply"));
    script.send("a", "UDP from a port outside of its block", udp(host(5000), server(9), b"request"));
    script.send("a", "SYN", segment(host(BLOCK + 3), server(80), (100, 0), SYN, &MSS_1460, b""));
    let answer = segment(end(SERVER, 80), shown(BLOCK + 3), (900, 101), SYN_ACK, &MSS_1460, b"");
    script.send("c", "SYN ACK", answer);
    script.send("a", "ACK", segment(host(BLOCK + 3), server(80), (101, 901), ACK, &[], b""));
    script.send("a", "ping", echo(ip(HOST), ip(SERVER_SEEN), BLOCK + 4, false));
    script.send("c", "its reply", echo(ip(SERVER), ip(POOL), BLOCK + 4, true));
    let arrived = after_a_hop(udp(shown(BLOCK + 2), end(SERVER, 9), b"request"));
    let error = icmp_error("192.168.1.1", POOL, [3, 1], 0, &arrived);
    script.send("c", "host unreachable, about the first", error);
}

fn refused(script: &mut Script) {
    let stranger = udp(end(SERVER, 10), end(POOL, BLOCK + 2), b"unasked");
    script.send("c", "from a port that was not sent to", stranger.clone());
    let another = udp(end("192.168.1.31", 9), end(POOL, BLOCK + 2), b"unasked");
    script.send("c", "from a host that was not sent to", another);
    script.send("d", "from a realm that was not sent to", stranger);
    script.send("c", "to a port that is nobody's", udp(end(SERVER, 9), end(POOL, BLOCK + 100), b"unasked"));
    let gre = packet(ip(HOST), ip(SERVER_SEEN), 47, vec![0, 0, 8, 0]);
    script.send("a", "GRE, which has no ports", gre);
}

fn forward(script: &mut Script) {
    let (outside, inside) = (end("100.64.9.3", 443), end("192.168.1.20", 8443));
    let syn = |from, to| segment(from, to, (100, 0), SYN, &[], b"");
    let syn_ack = |from, to| segment(from, to, (900, 101), SYN_ACK, &[], b"");
    script.send("c", "SYN to a forward", syn(end(SERVER, 4000), outside));
    script.send("a", "its SYN ACK", syn_ack(inside, end(SERVER_SEEN, 4000)));
    script.send("d", "SYN to the forward, without a grant", syn(end(SERVER, 4000), outside));
    script.send("a", "SYN of a host of A's to the forward", syn(end(HOST, BLOCK + 5), outside));
    script.send("a", "its SYN ACK", syn_ack(inside, end(POOL, BLOCK + 5)));
    let arrived = after_a_hop(syn(end(POOL, BLOCK + 5), inside));
    let error = icmp_error("192.168.1.20", POOL, [3, 3], 0, &arrived);
    script.send("a", "an error about it", error);
}

pub fn napt_exhausted(script: &mut Script) {
    for port in 0..16 {
        let request = udp(end("192.168.1.100", 40000 + port), end(SERVER_SEEN, 9), b"request");
        script.send("b", &format!("port {} of the 16 of its block", port + 1), request);
    }
    script.send("b", "one port too many", udp(end("192.168.1.100", 41000), end(SERVER_SEEN, 9), b"request"));
    script.send("b", "an old one", udp(end("192.168.1.100", 40003), end(SERVER_SEEN, 10), b"request"));
    script.send("b", "another host", udp(end("192.168.1.101", 41000), end(SERVER_SEEN, 9), b"request"));
}

pub fn default_realm(script: &mut Script) {
    let (web, web6) = ("198.51.100.7", "2a00::53");
    script.send("a", "to the Internet", udp(end(HOST, 5000), end(web, 9), b"request"));
    script.send("internet", "its reply", udp(end(web, 9), end("203.0.113.10", 5000), b"reply"));
    script.send("a", "to the Internet", udp(end("2001:db8:a::10", 5000), end(web6, 9), b"request"));
    script.send("internet", "its reply", udp(end(web6, 9), end("2001:db8:a::10", 5000), b"reply"));
    script.send("pool", "to the Internet, by a pool", udp(end(HOST, BLOCK), end(web, 9), b"request"));
    script.send("internet", "its reply", udp(end(web, 9), end("203.0.113.128", BLOCK), b"reply"));
    let expired = with_hops(udp(end("203.0.113.128", BLOCK), end(web, 9), b"request"), 1);
    let error = icmp_error("198.51.100.1", "203.0.113.128", [11, 0], 0, &expired);
    script.send("internet", "time exceeded, about the request by the pool", error);
    script.send("internet", "opens what it may", udp(end(web, 5000), end("203.0.113.10", 443), b"request"));
    script.send("internet", "opens what it may not", udp(end(web, 5000), end("203.0.113.10", 444), b"request"));
    script.send("internet", "pretends to be in A", udp(end(HOST, 5000), end("203.0.113.11", 443), b"forged"));
    script.send("b", "without a grant", udp(end(HOST, 5000), end(web, 9), b"request"));
    script.send("a", "to private addresses of nobody", udp(end(HOST, 5000), end("10.1.2.3", 9), b"request"));
}
