//! What is asked of the kernel about the way to one remote, and what it answers and tells (rtnetlink(7)): bytes to nouns and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::message::{
    HEADER_BYTES, Link, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, Part, RTM_DELLINK, RTM_NEWLINK, attributes, link_of,
    parts, request_dump, u16_at, u32_at,
};
use crate::net::Mac;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IFADDRMSG_BYTES: usize = 8;
const RTMSG_BYTES: usize = 12;
const NDMSG_BYTES: usize = 12;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// Duplicate address detection has failed, or has not ended: the kernel takes nothing to it.
const IFA_F_NOT_YET: u32 = 0x08 | 0x40;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_VIA: u16 = 18;
/// What is done with packets beside sending them: MPLS, segment routing, tunnels.
const RTA_ENCAP: u16 = 22;
const RTA_IP_PROTO: u16 = 27;
const RTAX_MTU: u16 = 2;
const RTAX_HOPLIMIT: u16 = 10;
const RTN_UNICAST: u8 = 1;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_STALE: u16 = 0x04;
/// The kernel itself sends to it: reachable, stale, delay, probe, no ARP, permanent.
const NUD_VALID: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;
/// Act as if something had been sent to it.
const NTF_USE: u8 = 0x01;
const UDP: u8 = 17;

/// Where the kernel would send a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    pub device: u32,
    /// The router, or the remote itself.
    pub next_hop: IpAddr,
    /// `None`: the asker had named one.
    pub source: Option<IpAddr>,
    /// `None`: the device's.
    pub mtu_bytes: Option<u32>,
    pub hop_limit: Option<u8>,
}

/// One entry of the neighbour table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    pub device: u32,
    pub address: IpAddr,
    /// `None`: it is not known, or answers no more.
    pub mac: Option<Mac>,
    /// Nobody has asked for a while whether it still is there.
    pub is_stale: bool,
}

/// A link, and the bridge, bond or VRF that it is a part of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    pub link: Link,
    pub master: Option<u32>,
    pub is_vrf: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    Neighbour(Neighbour),
    Device(Device),
    /// And the device that has it.
    Address(u32, IpAddr),
    /// As asked for. `None`: there is no plain route.
    Route(Option<Route>),
    /// Of whatever device.
    LinksChanged,
    AddressesChanged,
    /// Routes, rules or next hops.
    RoutesChanged,
    Done {
        is_consistent: bool,
    },
    Failed(i32),
}

/// To be asked for one packet of UDP. The kernel refuses an IPv4 `source` that is not its own.
pub fn request_route(remote: IpAddr, source: Option<IpAddr>) -> Vec<u8> {
    let (family, bits) = family(remote);
    let mut body = vec![family, bits, if source.is_some() { bits } else { 0 }];
    body.resize(RTMSG_BYTES, 0);
    push(&mut body, RTA_DST, &octets(remote));
    if let Some(source) = source {
        push(&mut body, RTA_SRC, &octets(source));
    }
    push(&mut body, RTA_IP_PROTO, &[UDP]);
    request(RTM_GETROUTE, &body)
}

pub fn request_neighbour(device: u32, address: IpAddr) -> Vec<u8> {
    request(RTM_GETNEIGH, &neighbour(device, address, 0))
}

/// Has the kernel find out whether the neighbour is still there. Needs CAP_NET_ADMIN.
pub fn use_neighbour(device: u32, address: IpAddr) -> Vec<u8> {
    request(RTM_NEWNEIGH, &neighbour(device, address, NTF_USE))
}

/// For a dump of all addresses of both IP versions.
pub fn request_addresses() -> Vec<u8> {
    request_dump(RTM_GETADDR, IFADDRMSG_BYTES, 1)
}

/// What one datagram holds. `is_answer`: routes are what was asked for, and not news.
pub fn read(datagram: &[u8], is_answer: bool) -> impl Iterator<Item = Message> {
    parts(datagram).filter_map(move |part| read_one(part, is_answer))
}

fn read_one(part: Part<'_>, is_answer: bool) -> Option<Message> {
    let Part { kind, body, is_consistent, .. } = part;
    Some(match kind {
        RTM_NEWROUTE if is_answer => Message::Route(read_route(body)),
        RTM_NEWROUTE | RTM_DELROUTE | RTM_NEWRULE | RTM_DELRULE | RTM_NEWNEXTHOP | RTM_DELNEXTHOP => {
            Message::RoutesChanged
        }
        RTM_NEWNEIGH => Message::Neighbour(read_neighbour(body)?),
        RTM_DELNEIGH => Message::Neighbour(Neighbour { mac: None, is_stale: false, ..read_neighbour(body)? }),
        RTM_NEWLINK if is_answer => Message::Device(read_device(body)?),
        RTM_NEWLINK | RTM_DELLINK => Message::LinksChanged,
        RTM_NEWADDR if is_answer => read_address(body)?,
        RTM_NEWADDR | RTM_DELADDR => Message::AddressesChanged,
        NLMSG_DONE => Message::Done { is_consistent },
        NLMSG_ERROR => Message::Failed(part.error()?),
        _ => return None,
    })
}

fn read_route(body: &[u8]) -> Option<Route> {
    let [family, _, _, _, _, _, _, kind, ..] = *body.get(..RTMSG_BYTES)? else { return None };
    if kind != RTN_UNICAST {
        return None;
    }
    let (mut device, mut gateway, mut destination, mut source, mut mtu_bytes, mut hop_limit) =
        (None, None, None, None, None, None);
    for (kind, value) in attributes(&body[RTMSG_BYTES..]) {
        match kind {
            RTA_DST => destination = address(family, value),
            RTA_OIF => device = u32_at(value, 0),
            RTA_GATEWAY => gateway = Some(address(family, value)?),
            RTA_VIA => gateway = Some(address(u8::try_from(u16_at(value, 0)?).ok()?, &value[2..])?),
            RTA_PREFSRC => source = address(family, value),
            RTA_METRICS => {
                for (metric, value) in attributes(value) {
                    match metric {
                        RTAX_MTU => mtu_bytes = u32_at(value, 0).filter(|mtu| *mtu > 0),
                        RTAX_HOPLIMIT => hop_limit = u32_at(value, 0).and_then(|limit| u8::try_from(limit).ok()),
                        _ => {}
                    }
                }
            }
            RTA_ENCAP => return None,
            _ => {}
        }
    }
    let hop_limit = hop_limit.filter(|limit| *limit > 0);
    Some(Route { device: device?, next_hop: gateway.or(destination)?, source, mtu_bytes, hop_limit })
}

fn read_neighbour(body: &[u8]) -> Option<Neighbour> {
    let family = *body.first()?;
    let (device, state) = (u32_at(body, 4)?, u16_at(body, 8)?);
    let (mut at, mut mac) = (None, None);
    for (kind, value) in attributes(body.get(NDMSG_BYTES..)?) {
        match kind {
            NDA_DST => at = address(family, value),
            NDA_LLADDR => mac = <[u8; 6]>::try_from(value).ok().map(Mac),
            _ => {}
        }
    }
    let is_one = |mac: &Mac| mac.0 != [0; 6] && mac.0[0] & 1 == 0;
    let mac = mac.filter(|mac| state & NUD_VALID != 0 && is_one(mac));
    Some(Neighbour { device, address: at?, mac, is_stale: mac.is_some() && state & NUD_STALE != 0 })
}

fn read_device(body: &[u8]) -> Option<Device> {
    let link = link_of(body)?;
    let find = |wanted, of| attributes(of).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let master = find(IFLA_MASTER, body.get(16..)?).and_then(|value| u32_at(value, 0));
    let kind = find(IFLA_LINKINFO, body.get(16..)?).and_then(|info| find(IFLA_INFO_KIND, info));
    Some(Device { link, master, is_vrf: kind.is_some_and(|kind| kind.starts_with(b"vrf\0")) })
}

fn read_address(body: &[u8]) -> Option<Message> {
    let [family, _, flags, ..] = *body.get(..IFADDRMSG_BYTES)? else { return None };
    let device = u32_at(body, 4)?;
    let (mut flags, mut peer, mut ours) = (u32::from(flags), None, None);
    for (kind, value) in attributes(&body[IFADDRMSG_BYTES..]) {
        match kind {
            IFA_ADDRESS => peer = address(family, value),
            IFA_LOCAL => ours = address(family, value),
            IFA_FLAGS => flags = u32_at(value, 0)?,
            _ => {}
        }
    }
    ours.or(peer).filter(|_| flags & IFA_F_NOT_YET == 0).map(|address| Message::Address(device, address))
}

fn address(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    }
}

fn family(address: IpAddr) -> (u8, u8) {
    if address.is_ipv4() { (AF_INET, 32) } else { (AF_INET6, 128) }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn neighbour(device: u32, address: IpAddr, flags: u8) -> Vec<u8> {
    let mut body = vec![family(address).0, 0, 0, 0];
    body.extend(device.to_ne_bytes());
    body.extend([0, 0, flags, 0]);
    push(&mut body, NDA_DST, &octets(address));
    body
}

fn push(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((value.len() as u16 + 4).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn request(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend(((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::message::tests::{attribute, message};
    use super::*;

    fn read_all(bytes: &[u8]) -> Vec<Message> {
        read(bytes, true).collect()
    }

    fn route_body(kind: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![AF_INET, 32, 0, 0, 254, 3, 0, kind, 0, 2, 0, 0];
        body.extend(attributes.iter().flat_map(|(kind, value)| attribute(*kind, value)));
        body
    }

    fn plain() -> Vec<(u16, &'static [u8])> {
        vec![(RTA_DST, &[203, 0, 113, 9]), (RTA_OIF, &[7, 0, 0, 0]), (RTA_PREFSRC, &[10, 0, 0, 1])]
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_route_is_read_with_its_router_source_and_metrics() {
        let route = |next_hop: &str| Route {
            device: 7,
            next_hop: next_hop.parse().unwrap(),
            source: "10.0.0.1".parse().ok(),
            mtu_bytes: None,
            hop_limit: None,
        };
        let read = |attributes: &[(u16, &[u8])]| read_all(&message(RTM_NEWROUTE, 0, &route_body(1, attributes)));
        assert_eq!(read(&plain()), [Message::Route(Some(route("203.0.113.9")))], "on the link");
        let via = [plain(), vec![(RTA_GATEWAY, &[10, 0, 0, 254])]].concat();
        assert_eq!(read(&via), [Message::Route(Some(route("10.0.0.254")))]);
        let mut other = vec![10, 0];
        other.extend(octets("fe80::9".parse().unwrap()));
        assert_eq!(read(&[plain(), vec![(RTA_VIA, &other)]].concat()), [Message::Route(Some(route("fe80::9")))]);
        let metrics = [attribute(RTAX_MTU, &1400u32.to_ne_bytes()), attribute(RTAX_HOPLIMIT, &9u32.to_ne_bytes())];
        let with = Route { mtu_bytes: Some(1400), hop_limit: Some(9), ..route("203.0.113.9") };
        assert_eq!(read(&[plain(), vec![(RTA_METRICS, &metrics.concat())]].concat()), [Message::Route(Some(with))]);
    }

    #[test]
    fn what_is_no_plain_route_is_none() {
        for kind in [2, 3, 5, 6] {
            assert_eq!(read_all(&message(RTM_NEWROUTE, 0, &route_body(kind, &plain()))), [Message::Route(None)]);
        }
        let encap = [plain(), vec![(RTA_ENCAP, &[0; 4])]].concat();
        assert_eq!(read_all(&message(RTM_NEWROUTE, 0, &route_body(1, &encap))), [Message::Route(None)]);
        assert_eq!(read_all(&message(NLMSG_ERROR, 0, &(-101_i32).to_ne_bytes())), [Message::Failed(101)]);
    }

    #[test]
    fn news_of_routes_rules_links_and_addresses_say_only_that_there_are_any() {
        let said = |kind: u16| read(&message(kind, 0, &[0; 32]), false).collect::<Vec<_>>();
        for kind in [24, 25, 32, 33, 104, 105] {
            assert_eq!(said(kind), [Message::RoutesChanged]);
        }
        assert_eq!((said(16), said(17)), (vec![Message::LinksChanged], vec![Message::LinksChanged]));
        assert_eq!((said(20), said(21)), (vec![Message::AddressesChanged], vec![Message::AddressesChanged]));
    }

    fn neighbour_message(kind: u16, state: u16, mac: &[u8]) -> Vec<u8> {
        let mut body = neighbour(7, "10.0.0.254".parse().unwrap(), 0);
        body[8..10].copy_from_slice(&state.to_ne_bytes());
        body.extend(attribute(NDA_LLADDR, mac));
        message(kind, 0, &body)
    }

    #[test]
    fn a_neighbour_has_an_address_only_while_the_kernel_would_send_to_it() {
        let mac = [2, 0, 0, 0, 0, 9];
        let one = |mac, is_stale| {
            let address = "10.0.0.254".parse().unwrap();
            vec![Message::Neighbour(Neighbour { device: 7, address, mac, is_stale })]
        };
        let is = |state| read_all(&neighbour_message(RTM_NEWNEIGH, state, &mac));
        for state in [0x02, 0x08, 0x10, 0x40, 0x80] {
            assert_eq!(is(state), one(Some(Mac(mac)), false));
        }
        assert_eq!(is(NUD_STALE), one(Some(Mac(mac)), true));
        for state in [0, 0x01, 0x20] {
            assert_eq!(is(state), one(None, false), "incomplete, failed");
        }
        assert_eq!(read_all(&neighbour_message(RTM_DELNEIGH, 0x02, &mac)), one(None, false));
        for wrong in [&[0; 6][..], &[3, 0, 0, 0, 0, 9], &[2, 0]] {
            assert_eq!(read_all(&neighbour_message(RTM_NEWNEIGH, 0x02, wrong)), one(None, false));
        }
    }

    #[test]
    fn it_is_told_what_belongs_to_a_vrf_and_what_is_one() {
        let device = |kind: &[u8], master: Option<u32>| {
            let mut body = vec![0; 16];
            body[4..8].copy_from_slice(&7u32.to_ne_bytes());
            body.extend(attribute(3, b"ix7\0"));
            body.extend(attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, kind)));
            master.into_iter().for_each(|master| body.extend(attribute(IFLA_MASTER, &master.to_ne_bytes())));
            match &read_all(&message(RTM_NEWLINK, 0, &body))[..] {
                [Message::Device(device)] => (device.is_vrf, device.master),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(device(b"vrf\0", None), (true, None));
        assert_eq!((device(b"veth\0", Some(9)), device(b"vrf_slave\0", None)), ((false, Some(9)), (false, None)));
    }

    #[test]
    fn an_address_that_is_not_ours_yet_is_none() {
        let with = |flags: u32| {
            let mut body = vec![AF_INET6, 64, 0, 0, 7, 0, 0, 0];
            body.extend(attribute(IFA_ADDRESS, &octets("2001:db8::1".parse().unwrap())));
            body.extend(attribute(IFA_FLAGS, &flags.to_ne_bytes()));
            read_all(&message(RTM_NEWADDR, 0, &body))
        };
        assert_eq!(with(0x80), [Message::Address(7, "2001:db8::1".parse().unwrap())]);
        assert_eq!((with(0x40), with(0x08)), (Vec::new(), Vec::new()), "tentative, or another's");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 14u16..36, is_answer: bool) {
            let mut bytes = bytes;
            if let Some(header) = bytes.first_chunk_mut::<8>() {
                header[1..4].copy_from_slice(&[0; 3]);
                header[4..6].copy_from_slice(&kind.to_ne_bytes());
            }
            prop_assert!(read(&bytes, is_answer).count() <= bytes.len() / HEADER_BYTES);
        }
    }
}
