//! Bytes of a port's frames: the header before every packet, and the packet out of a frame.

use std::net::IpAddr;

use crate::net::{InterfaceId, Mac, Path, VlanTags};
use crate::packet::Outbox;
use crate::wire::ethernet::{self, MAX_HEADER_BYTES, MIN_HEADER_BYTES, ether_type};
use crate::wire::{ipv4, ipv6};

/// What all frames of a port have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framing {
    path: Path,
    tags: VlanTags,
    mac: Mac,
    /// To be completed by destination and EtherType.
    header: [u8; MAX_HEADER_BYTES],
    header_bytes: usize,
}

impl Framing {
    pub fn new(interface: InterfaceId, tags: VlanTags) -> Self {
        let mut framing = Framing {
            path: Path::frames(interface),
            tags,
            mac: Mac::default(),
            header: [0; MAX_HEADER_BYTES],
            header_bytes: 0,
        };
        framing.set_mac(Mac::default());
        framing
    }

    /// Ours.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    pub fn set_mac(&mut self, mac: Mac) {
        self.mac = mac;
        self.header_bytes = ethernet::emit(&mut self.header, Mac::default(), mac, self.tags, 0);
    }

    /// A packet of a realm. `false`: the outbox is full.
    pub fn send_packet(&self, to: Mac, packet: &[u8], outbox: &mut Outbox) -> bool {
        self.send_packets(to, packet, outbox, &mut false)
    }

    /// The same for packets behind one another. `follows`: nothing was committed since one of them.
    #[inline]
    pub fn send_packets(&self, to: Mac, packet: &[u8], outbox: &mut Outbox, follows: &mut bool) -> bool {
        let ether_type = match packet.first() {
            Some(first) if first >> 4 == 6 => ether_type::IPV6,
            _ => ether_type::IPV4,
        };
        let Some(space) = outbox.space(self.header_bytes + packet.len()) else { return false };
        let (header, body) = space.split_at_mut(self.header_bytes);
        self.write_header(header, to, ether_type);
        body.copy_from_slice(packet);
        match std::mem::replace(follows, true) {
            true => outbox.commit_behind(self.header_bytes + packet.len()),
            false => outbox.commit(self.path, true, self.header_bytes + packet.len()),
        }
        true
    }

    /// A message of our own, of at most `max_bytes`, that `write` writes and tells the length of. 0: nothing is sent.
    pub fn send(
        &self,
        to: Mac,
        ether_type: u16,
        outbox: &mut Outbox,
        max_bytes: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> bool {
        let Some(space) = outbox.space(self.header_bytes + max_bytes) else { return false };
        let (header, body) = space.split_at_mut(self.header_bytes);
        self.write_header(header, to, ether_type);
        let len = write(body);
        if len > 0 {
            outbox.commit(self.path, false, self.header_bytes + len);
        }
        len > 0
    }

    #[inline]
    fn write_header(&self, out: &mut [u8], to: Mac, ether_type: u16) {
        // Without tags, as most are, everything is where it is known to be.
        match (<&mut [u8; MIN_HEADER_BYTES]>::try_from(&mut *out), self.header.first_chunk()) {
            (Ok(out), Some(header)) => {
                *out = *header;
                out[..6].copy_from_slice(&to.0);
                out[MIN_HEADER_BYTES - 2..].copy_from_slice(&ether_type.to_be_bytes());
            }
            _ => {
                out.copy_from_slice(&self.header[..self.header_bytes]);
                out[..6].copy_from_slice(&to.0);
                out[self.header_bytes - 2..].copy_from_slice(&ether_type.to_be_bytes());
            }
        }
    }
}

/// The packet at the front of `bytes`, by its own length field: what is behind it is padding of a short frame. `None`: version
/// or length contradict.
#[inline]
pub(super) fn ip_packet(version: u8, bytes: &[u8]) -> Option<&[u8]> {
    let (len, at_least) = match (version, bytes) {
        (4, [first, _, high, low, ..]) if first >> 4 == 4 => {
            (usize::from(u16::from_be_bytes([*high, *low])), ipv4::MIN_HEADER_BYTES)
        }
        (6, [first, _, _, _, high, low, ..]) if first >> 4 == 6 => {
            (ipv6::HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low])), ipv6::HEADER_BYTES)
        }
        _ => return None,
    };
    bytes.get(..len).filter(|packet| packet.len() >= at_least)
}

/// Of a packet that [`ip_packet`] gave, or one that walked.
#[inline]
pub(super) fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(IpAddr::from(*packet.get(ipv4::DESTINATION..)?.first_chunk::<4>()?)),
        6 => Some(IpAddr::from(*packet.get(ipv6::DESTINATION..)?.first_chunk::<16>()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_cut_and_contradictions_are_refused() {
        let v4 = |total: u8, len: usize| {
            let mut bytes = vec![0; len];
            (bytes[0], bytes[3]) = (0x45, total);
            ip_packet(4, &bytes).map(<[u8]>::len)
        };
        assert_eq!((v4(28, 46), v4(46, 46), v4(20, 20)), (Some(28), Some(46), Some(20)));
        assert_eq!((v4(47, 46), v4(19, 46)), (None, None));
        let mut v6 = vec![0; 60];
        (v6[0], v6[5]) = (0x60, 8);
        assert_eq!(ip_packet(6, &v6).map(<[u8]>::len), Some(48));
        assert_eq!((ip_packet(4, &v6), ip_packet(6, &v6[..47]), ip_packet(6, &v6[..5])), (None, None, None));
        assert_eq!((ip_packet(4, &[]), destination(&[]), destination(&[0x45; 10])), (None, None, None));
    }

    #[test]
    fn frames_have_their_tags_and_are_complete() {
        let tags = VlanTags { service: Some(2), customer: Some(3) };
        let mut framing = Framing::new(InterfaceId(4), tags);
        framing.set_mac(Mac([2; 6]));
        let mut outbox = Outbox::new(200, 10);
        assert!(framing.send_packet(Mac([4; 6]), &[0x60; 50], &mut outbox));
        assert!(framing.send(Mac::BROADCAST, 0x806, &mut outbox, 40, |out| {
            out.fill(7);
            28
        }));
        assert!(!framing.send(Mac::BROADCAST, 0x806, &mut outbox, 40, |_| 0), "nothing to say");
        assert!(!framing.send_packet(Mac([4; 6]), &[0x45; 90], &mut outbox), "full");
        let sent: Vec<_> = outbox.datagrams().collect();
        assert_eq!(sent.len(), 2);
        let headers: Vec<_> = sent.iter().map(|(_, _, frame)| ethernet::parse(frame).unwrap()).collect();
        assert_eq!((sent[0].0, sent[0].1, sent[0].2.len()), (Path::frames(InterfaceId(4)), true, 22 + 50));
        assert_eq!((headers[0].destination, headers[0].source, headers[0].tags), (Mac([4; 6]), Mac([2; 6]), tags));
        assert_eq!((headers[0].ether_type, headers[1].ether_type), (ether_type::IPV6, ether_type::ARP));
        assert_eq!((sent[1].1, &sent[1].2[22..]), (false, &[7; 28][..]));
    }
}
