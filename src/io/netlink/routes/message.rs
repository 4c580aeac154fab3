//! Routes in NETLINK_ROUTE messages (rtnetlink(7)): bytes in, nouns out.
//!
//! Of all that a routing table holds, only what a routing daemon puts there counts: unicast routes of the main table. What the
//! kernel made by itself (of addresses) or took from router advertisements and redirects is passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::super::message::{
    NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN, Part, RTM_DELLINK, RTM_NEWLINK, attributes, parts, request_dump, u16_at,
    u32_at,
};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const NLM_F_APPEND: u16 = 0x800;
const RTMSG_BYTES: usize = 12;
const RTNEXTHOP_BYTES: usize = 8;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
/// A next hop of the other IP version (RFC 5549).
const RTA_VIA: u16 = 18;
const RT_TABLE_MAIN: u32 = 254;
const RTN_UNICAST: u8 = 1;
const RTPROT_REDIRECT: u8 = 1;
const RTPROT_KERNEL: u8 = 2;
const RTPROT_RA: u8 = 9;
/// A route that the kernel derived for one destination.
const RTM_F_CLONED: u32 = 0x200;
/// Of one route; further ones are passed over.
pub const MAX_HOPS: usize = 8;

/// One entry of the main table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    pub prefix: IpNet,
    /// The smallest is the best.
    pub metric: u32,
    pub hops: Vec<Hop>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// The kernel's number of the output device.
    pub device: u32,
    pub via: Option<IpAddr>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// Beside (`is_added`) or in the place of another one of the same prefix and metric.
    Route {
        route: Route,
        is_added: bool,
    },
    Gone(Route),
    /// A device has changed or gone: the kernel withdraws IPv4 routes without a word then.
    Device(u32),
    /// The dump with this number has ended.
    Done {
        sequence: u32,
        is_consistent: bool,
    },
    /// The request with this number failed: the system's error number.
    Failed {
        sequence: u32,
        error: i32,
    },
    /// Messages were lost.
    Overrun,
}

/// For a dump of all routes of both IP versions.
pub fn request_routes(sequence: u32) -> Vec<u8> {
    request_dump(RTM_GETROUTE, RTMSG_BYTES, sequence)
}

/// What one datagram holds; messages of other kinds are passed over.
pub fn read(datagram: &[u8]) -> impl Iterator<Item = Message> {
    parts(datagram).filter_map(read_one)
}

fn read_one(part: Part<'_>) -> Option<Message> {
    let Part { kind, flags, sequence, body, is_consistent } = part;
    match kind {
        RTM_NEWROUTE => read_route(body).map(|route| Message::Route { route, is_added: flags & NLM_F_APPEND != 0 }),
        RTM_DELROUTE => read_route(body).map(Message::Gone),
        RTM_NEWLINK | RTM_DELLINK => Some(Message::Device(u32_at(body, 4)?)),
        NLMSG_DONE => Some(Message::Done { sequence, is_consistent }),
        NLMSG_OVERRUN => Some(Message::Overrun),
        NLMSG_ERROR => part.error().map(|error| Message::Failed { sequence, error }),
        _ => None,
    }
}

fn read_route(body: &[u8]) -> Option<Route> {
    let [family, prefix_len, _, tos, table, protocol, _, kind, ..] = *body.get(..RTMSG_BYTES)? else { return None };
    let is_learned = ![RTPROT_REDIRECT, RTPROT_KERNEL, RTPROT_RA].contains(&protocol);
    let is_cloned = u32_at(body, 8)? & RTM_F_CLONED != 0;
    if kind != RTN_UNICAST || !is_learned || is_cloned || tos != 0 {
        return None;
    }
    let mut table = u32::from(table);
    let (mut destination, mut metric, mut single, mut hops) = (None, 0, Hop { device: 0, via: None }, Vec::new());
    for (kind, value) in attributes(&body[RTMSG_BYTES..]) {
        match kind {
            RTA_DST => destination = Some(address(family, value)?),
            RTA_OIF => single.device = u32_at(value, 0)?,
            RTA_GATEWAY => single.via = Some(address(family, value)?),
            RTA_VIA => single.via = Some(via(value)?),
            RTA_PRIORITY => metric = u32_at(value, 0)?,
            RTA_TABLE => table = u32_at(value, 0)?,
            RTA_MULTIPATH => hops = multipath(family, value),
            _ => {}
        }
    }
    if table != RT_TABLE_MAIN {
        return None;
    }
    if hops.is_empty() {
        hops.push(single);
    }
    let destination = destination.or_else(|| unspecified(family))?;
    Some(Route { prefix: IpNet::new(destination, prefix_len).ok()?.trunc(), metric, hops })
}

fn multipath(family: u8, bytes: &[u8]) -> Vec<Hop> {
    let mut rest = bytes;
    let hops = std::iter::from_fn(|| {
        let len = usize::from(u16_at(rest, 0)?);
        let hop = rest.get(..len).filter(|hop| hop.len() >= RTNEXTHOP_BYTES)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        let mut read = Hop { device: u32_at(hop, 4)?, via: None };
        for (kind, value) in attributes(&hop[RTNEXTHOP_BYTES..]) {
            match kind {
                RTA_GATEWAY => read.via = address(family, value),
                RTA_VIA => read.via = via(value),
                _ => {}
            }
        }
        Some(read)
    });
    hops.take(MAX_HOPS).collect()
}

/// Its own family stands before the address.
fn via(value: &[u8]) -> Option<IpAddr> {
    address(u8::try_from(u16_at(value, 0)?).ok()?, &value[2..])
}

fn address(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    }
}

fn unspecified(family: u8) -> Option<IpAddr> {
    match family {
        AF_INET => Some(Ipv4Addr::UNSPECIFIED.into()),
        AF_INET6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::super::super::message::tests::{attribute, message};
    use super::super::super::message::{HEADER_BYTES, NLM_F_DUMP_INTR};
    use super::*;

    pub const BIRD: u8 = 12;
    const FRR: u8 = 186;

    fn octets(address: IpAddr) -> Vec<u8> {
        match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        }
    }

    fn header(prefix: IpNet, table: u8, protocol: u8, kind: u8, flags: u32) -> Vec<u8> {
        let family = if prefix.addr().is_ipv4() { AF_INET } else { AF_INET6 };
        let mut body = vec![family, prefix.prefix_len(), 0, 0, table, protocol, 0, kind];
        body.extend(flags.to_ne_bytes());
        if prefix.prefix_len() > 0 {
            body.extend(attribute(RTA_DST, &octets(prefix.addr())));
        }
        body
    }

    fn body(prefix: &str, via: &str, device: u32, protocol: u8) -> Vec<u8> {
        let mut body = header(prefix.parse().unwrap(), RT_TABLE_MAIN as u8, protocol, RTN_UNICAST, 0);
        body.extend(attribute(RTA_TABLE, &RT_TABLE_MAIN.to_ne_bytes()));
        body.extend(attribute(RTA_PRIORITY, &32_u32.to_ne_bytes()));
        body.extend(attribute(RTA_GATEWAY, &octets(via.parse().unwrap())));
        body.extend(attribute(RTA_OIF, &device.to_ne_bytes()));
        body
    }

    pub fn new_route(prefix: &str, via: &str, device: u32) -> Vec<u8> {
        message(RTM_NEWROUTE, 0, &body(prefix, via, device, BIRD))
    }

    pub fn route_gone(prefix: &str, via: &str, device: u32) -> Vec<u8> {
        message(RTM_DELROUTE, 0, &body(prefix, via, device, BIRD))
    }

    pub fn done(sequence: u32, flags: u16) -> Vec<u8> {
        let mut bytes = message(NLMSG_DONE, flags, &[0; 4]);
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes
    }

    fn route(prefix: &str, hops: &[(u32, &str)]) -> Route {
        let hops = hops.iter().map(|(device, via)| Hop { device: *device, via: via.parse().ok() });
        Route { prefix: prefix.parse().unwrap(), metric: 32, hops: hops.collect() }
    }

    fn read_all(bytes: &[u8]) -> Vec<Message> {
        read(bytes).collect()
    }

    fn added(route: Route) -> Message {
        Message::Route { route, is_added: false }
    }

    #[test]
    fn routes_of_daemons_are_read_in_both_ip_versions() {
        for (prefix, via) in [("10.1.0.0/16", "172.20.0.1"), ("2001:db8:1::/48", "fe80::1")] {
            let want = route(prefix, &[(7, via)]);
            assert_eq!(read_all(&new_route(prefix, via, 7)), [added(want.clone())]);
            assert_eq!(read_all(&route_gone(prefix, via, 7)), [Message::Gone(want.clone())]);
            let frr = message(RTM_NEWROUTE, NLM_F_APPEND, &body(prefix, via, 7, FRR));
            assert_eq!(read_all(&frr), [Message::Route { route: want, is_added: true }]);
        }
        let default = read_all(&new_route("0.0.0.0/0", "172.20.0.1", 7));
        assert_eq!(default, [added(route("0.0.0.0/0", &[(7, "172.20.0.1")]))], "to be refused in words");
    }

    #[test]
    fn routes_of_others_are_passed_over() {
        for protocol in [RTPROT_KERNEL, RTPROT_RA, RTPROT_REDIRECT] {
            assert_eq!(read_all(&message(RTM_NEWROUTE, 0, &body("10.1.0.0/16", "172.20.0.1", 7, protocol))), []);
        }
        let prefix: IpNet = "10.1.0.0/16".parse().unwrap();
        let local_table = header(prefix, 255, BIRD, RTN_UNICAST, 0);
        let blackhole = header(prefix, RT_TABLE_MAIN as u8, BIRD, 6, 0);
        let cloned = header(prefix, RT_TABLE_MAIN as u8, BIRD, RTN_UNICAST, RTM_F_CLONED);
        // A number that has no room in the header stands in an attribute.
        let mut other_table = header(prefix, RT_TABLE_MAIN as u8, BIRD, RTN_UNICAST, 0);
        other_table.extend(attribute(RTA_TABLE, &1000_u32.to_ne_bytes()));
        for body in [local_table, blackhole, cloned, other_table] {
            assert_eq!(read_all(&message(RTM_NEWROUTE, 0, &body)), []);
        }
    }

    #[test]
    fn several_next_hops_and_those_of_the_other_ip_version_are_read() {
        let hop = |device: u32, via: Vec<u8>| {
            let mut hop = ((RTNEXTHOP_BYTES + via.len()) as u16).to_ne_bytes().to_vec();
            hop.extend([0, 0]);
            hop.extend(device.to_ne_bytes());
            hop.extend(via);
            hop
        };
        let gateway = |text: &str| attribute(RTA_GATEWAY, &octets(text.parse().unwrap()));
        let other = [&10_u16.to_ne_bytes()[..], &octets("fe80::9".parse().unwrap())].concat();
        let hops = [hop(7, gateway("172.20.0.1")), hop(8, gateway("10.9.9.9")), hop(7, attribute(RTA_VIA, &other))];
        let mut body = header("10.1.0.0/16".parse().unwrap(), RT_TABLE_MAIN as u8, BIRD, RTN_UNICAST, 0);
        body.extend(attribute(RTA_PRIORITY, &32_u32.to_ne_bytes()));
        body.extend(attribute(RTA_MULTIPATH, &hops.concat()));
        let want = route("10.1.0.0/16", &[(7, "172.20.0.1"), (8, "10.9.9.9"), (7, "fe80::9")]);
        assert_eq!(read_all(&message(RTM_NEWROUTE, 0, &body)), [added(want)]);

        let many: Vec<u8> = (0..2 * MAX_HOPS as u32).flat_map(|device| hop(device, gateway("172.20.0.1"))).collect();
        assert_eq!(multipath(AF_INET, &many).len(), MAX_HOPS);
    }

    #[test]
    fn ends_losses_and_devices_are_told() {
        let all =
            [done(5, 0), message(NLMSG_ERROR, 0, &(-1_i32).to_ne_bytes()), message(NLMSG_OVERRUN, 0, &[])].concat();
        let want = [
            Message::Done { sequence: 5, is_consistent: true },
            Message::Failed { sequence: 0, error: 1 },
            Message::Overrun,
        ];
        assert_eq!(read_all(&all), want);
        assert_eq!(read_all(&done(5, NLM_F_DUMP_INTR)), [Message::Done { sequence: 5, is_consistent: false }]);
        let link = [&[0, 0, 1, 0][..], &7_u32.to_ne_bytes()[..], &[0; 8]].concat();
        assert_eq!(read_all(&message(RTM_NEWLINK, 0, &link)), [Message::Device(7)]);
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        let whole = new_route("10.1.0.0/16", "172.20.0.1", 7);
        for len in 0..whole.len() {
            assert_eq!(read_all(&whole[..len]), [], "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 16u16..30) {
            let mut bytes = bytes;
            if let Some(header) = bytes.first_chunk_mut::<8>() {
                header[1..4].copy_from_slice(&[0; 3]);
                header[4..6].copy_from_slice(&kind.to_ne_bytes());
            }
            prop_assert!(read(&bytes).count() <= bytes.len() / HEADER_BYTES);
        }

        #[test]
        fn changed_routes_are_read_without_harm(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let mut bytes = [new_route("10.1.0.0/16", "172.20.0.1", 7), new_route("2001:db8::/32", "fe80::1", 7)].concat();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            for message in read(&bytes) {
                if let Message::Route { route, .. } = message {
                    prop_assert!(route.hops.len() <= MAX_HOPS && route.prefix == route.prefix.trunc());
                }
            }
        }
    }
}
