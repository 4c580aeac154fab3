//! Control messages (cmsg(3)): what the kernel tells beside a datagram, and what we ask of it.
//!
//! ```text
//! length (word) | level (int) | type (int) | data ... | padding to a word | next message ...
//! ```
//!
//! Built and read byte by byte in that layout, so that nothing here is unsafe.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::address::{Family, octets};

const WORD: usize = size_of::<usize>();
const HEADER_LEN: usize = WORD + 8;
/// Enough for address, segment size, drop counter and traffic class, with room to spare.
const CAPACITY: usize = 192;
const _: () = assert!(CAPACITY >= 4 * (HEADER_LEN + 24));

/// A buffer for control messages, aligned like `cmsghdr`.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct Control {
    pub bytes: [u8; CAPACITY],
    pub len: usize,
}

/// What the kernel told with a received message.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Told {
    /// The address that it came to.
    pub local: Option<IpAddr>,
    /// The kernel joined datagrams of this size (UDP_GRO); the last may be shorter.
    pub segment_bytes: Option<usize>,
    /// Datagrams that this socket's receive buffer had no room for, ever (wraps).
    pub overflow_drops: Option<u32>,
    /// DSCP and ECN of its IP header.
    pub traffic_class: Option<u8>,
    /// Of the error queue: what was sent is longer than this path, or our own link, carries.
    pub path_mtu_bytes: Option<u16>,
}

impl Control {
    pub const CAPACITY: usize = CAPACITY;
    pub const EMPTY: Control = Control { bytes: [0; CAPACITY], len: 0 };

    /// Asks the kernel to send from `local`.
    pub fn push_source(&mut self, local: IpAddr, family: Family) {
        match (family, local) {
            // struct in_pktinfo: interface, source, (destination).
            (Family::V4, IpAddr::V4(v4)) => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&v4.octets());
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            // Cannot be: the address came from another socket. Let the kernel choose.
            (Family::V4, IpAddr::V6(_)) => {}
            // struct in6_pktinfo: source, interface. The kernel takes mapped addresses here too.
            (Family::V6, _) => {
                let v6 = match local {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                let mut info = [0; 20];
                info[..16].copy_from_slice(&v6.octets());
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
        }
    }

    /// Asks the kernel to cut the message into datagrams of this size (UDP_SEGMENT).
    pub fn push_segment_size(&mut self, segment_bytes: u16) {
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, &segment_bytes.to_ne_bytes());
    }

    /// Asks the kernel to send with this DSCP and ECN. The remote decides the header, not the socket: an IPv6 socket
    /// sends IPv4 to mapped addresses.
    pub fn push_traffic_class(&mut self, class: u8, remote: SocketAddr) {
        let (level, kind) = match remote.ip().to_canonical() {
            IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
            IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        };
        self.push(level, kind, &i32::from(class).to_ne_bytes());
    }

    pub fn read(&self) -> Told {
        let mut told = Told::default();
        for (level, kind, data) in self.messages() {
            match (level, kind) {
                // The second field is the local address; the third is the header's, which may be a broadcast.
                (libc::IPPROTO_IP, libc::IP_PKTINFO) if data.len() >= 12 => {
                    told.local = Some(Ipv4Addr::from(octets::<4>(&data[4..8])).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if data.len() >= 20 => {
                    told.local = Some(Ipv6Addr::from(octets::<16>(data)).to_canonical());
                }
                (libc::SOL_UDP, libc::UDP_GRO) if data.len() >= 4 => {
                    told.segment_bytes = usize::try_from(i32::from_ne_bytes(octets(data))).ok().filter(|n| *n > 0);
                }
                // One byte on the way in; an int, which we write, begins with it only on little-endian machines.
                (libc::IPPROTO_IP, libc::IP_TOS) if data.len() == 1 => told.traffic_class = Some(data[0]),
                (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) if data.len() >= 4 => {
                    told.traffic_class = u8::try_from(i32::from_ne_bytes(octets(data))).ok();
                }
                (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                    told.path_mtu_bytes = path_mtu_of(data);
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) if data.len() >= 4 => {
                    told.overflow_drops = Some(u32::from_ne_bytes(octets(data)));
                }
                _ => {}
            }
        }
        told
    }

    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let len = HEADER_LEN + data.len();
        let space = &mut self.bytes[self.len..self.len + len.next_multiple_of(WORD)];
        space[..WORD].copy_from_slice(&len.to_ne_bytes());
        space[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
        space[WORD + 4..HEADER_LEN].copy_from_slice(&kind.to_ne_bytes());
        space[HEADER_LEN..len].copy_from_slice(data);
        self.len += space.len();
    }

    fn messages(&self) -> impl Iterator<Item = (i32, i32, &[u8])> {
        let mut rest = &self.bytes[..self.len.min(CAPACITY)];
        std::iter::from_fn(move || {
            let header = rest.get(..HEADER_LEN)?;
            let len = usize::from_ne_bytes(octets(header));
            let data = rest.get(HEADER_LEN..len)?;
            let level = i32::from_ne_bytes(octets(&header[WORD..]));
            let kind = i32::from_ne_bytes(octets(&header[WORD + 4..]));
            rest = rest.get(len.next_multiple_of(WORD)..).unwrap_or_default();
            Some((level, kind, data))
        })
    }
}

/// From a `sock_extended_err`: errno, origin, type, code, padding, info, data. `None`: another error.
fn path_mtu_of(error: &[u8]) -> Option<u16> {
    let (errno, info) = (error.first_chunk::<4>()?, error.get(8..12)?.first_chunk::<4>()?);
    let origins = [libc::SO_EE_ORIGIN_LOCAL, libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6];
    let is_size = u32::from_ne_bytes(*errno) == libc::EMSGSIZE as u32 && origins.contains(error.get(4)?);
    // Of loopback it is larger than any packet.
    is_size.then(|| u16::try_from(u32::from_ne_bytes(*info)).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<libc::cmsghdr>(), HEADER_LEN);
        assert_eq!(size_of::<libc::in_pktinfo>(), 12);
        assert_eq!(size_of::<libc::in6_pktinfo>(), 20);
    }

    #[test]
    fn what_is_asked_can_be_read_back() {
        for (family, local) in [(Family::V4, "192.0.2.1"), (Family::V6, "192.0.2.1"), (Family::V6, "2001:db8::1")] {
            let mut control = Control::EMPTY;
            control.push_source(local.parse().unwrap(), family);
            control.push_segment_size(1200);
            control.push_traffic_class(0xb9, SocketAddr::new(local.parse().unwrap(), 1));
            assert_eq!(control.read().local, Some(local.parse().unwrap()), "{family:?}");
            assert_eq!(control.read().traffic_class, Some(0xb9), "{family:?}");
            assert_eq!(control.messages().count(), 3);
            assert_eq!(control.len % WORD, 0);
        }
    }

    #[test]
    fn reads_the_traffic_class_of_either_family() {
        for (level, kind, data) in [
            (libc::IPPROTO_IP, libc::IP_TOS, &[0xb9][..]),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &0xb9i32.to_ne_bytes()),
        ] {
            let mut control = Control::EMPTY;
            control.push(level, kind, data);
            assert_eq!(control.read().traffic_class, Some(0xb9));
        }
        let mut nonsense = Control::EMPTY;
        nonsense.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &(-1i32).to_ne_bytes());
        assert_eq!(nonsense.read().traffic_class, None);
    }

    #[test]
    fn reads_segment_size_and_overflow() {
        let mut control = Control::EMPTY;
        control.push(libc::SOL_UDP, libc::UDP_GRO, &1400i32.to_ne_bytes());
        control.push(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &7u32.to_ne_bytes());
        let told = Told { segment_bytes: Some(1400), overflow_drops: Some(7), ..Told::default() };
        assert_eq!(control.read(), told);

        let mut zero = Control::EMPTY;
        zero.push(libc::SOL_UDP, libc::UDP_GRO, &0i32.to_ne_bytes());
        assert_eq!(zero.read().segment_bytes, None, "a size of zero would cut for ever");
    }

    #[test]
    fn reads_the_mtu_of_an_error_about_size_and_of_no_other() {
        let error = |errno: i32, origin: u8, info: u32| {
            let mut data = errno.to_ne_bytes().to_vec();
            data.extend([origin, 3, 4, 0]);
            data.extend(info.to_ne_bytes());
            data.extend([0; 4 + 16]);
            data
        };
        for (level, kind) in [(libc::IPPROTO_IP, libc::IP_RECVERR), (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)] {
            for (data, expected) in [
                (error(libc::EMSGSIZE, libc::SO_EE_ORIGIN_ICMP, 1400), Some(1400)),
                (error(libc::EMSGSIZE, libc::SO_EE_ORIGIN_ICMP6, 1280), Some(1280)),
                (error(libc::EMSGSIZE, libc::SO_EE_ORIGIN_LOCAL, 65_536), Some(u16::MAX)),
                (error(libc::ECONNREFUSED, libc::SO_EE_ORIGIN_ICMP, 1400), None),
                (error(libc::EMSGSIZE, libc::SO_EE_ORIGIN_TIMESTAMPING, 1400), None),
                (vec![libc::EMSGSIZE as u8, 0, 0, 0, 2], None),
            ] {
                let mut control = Control::EMPTY;
                control.push(level, kind, &data);
                assert_eq!(control.read().path_mtu_bytes, expected, "{data:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), CAPACITY), len in 0..2 * CAPACITY) {
            let mut control = Control::EMPTY;
            control.bytes.copy_from_slice(&bytes);
            control.len = len;
            control.read();
            prop_assert!(control.messages().count() <= CAPACITY / HEADER_LEN);
        }
    }
}
