//! One name in several views.

use ixgate::sim::packets::udp;

use super::Script;
use super::build::*;

const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;

pub fn names(script: &mut Script) {
    let asks = |host: &str, dns: &str, name: &str, kind| udp(end(host, 5000), end(dns, 53), &query(name, kind));
    let (host, dns) = ("192.168.1.10", "100.64.0.53");
    let pacs = "pacs.b.ix.example";
    script.send("a", "A asks where it is", asks(host, dns, pacs, A));
    script.send("b", "its own realm asks", asks(host, dns, pacs, A));
    script.send("six", "an IPv6 realm asks", asks("fd00:6::20", DNS_6, pacs, AAAA));
    script.send("a", "whose address that is", asks(host, dns, "20.2.64.100.in-addr.arpa", PTR));
    script.send("a", "an IPv6-only host", asks(host, dns, "viewer.six.ix.example", A));
    script.send("a", "a name that is not there", asks(host, dns, "nobody.b.ix.example", A));
    script.send("a", "a domain that nobody here answers for", asks(host, dns, "www.example.org", A));
}

/// The IX's name server over IPv6.
const DNS_6: &str = "fd69:7867:6174::35";

/// One question, recursion desired (RFC 1035 section 4.1).
fn query(name: &str, kind: u16) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    let mut message = b"\x42\x42\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    message.extend(labels);
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}
