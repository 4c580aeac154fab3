//! Where the headers of a frame lie.

use super::checksum;

const ADDRESSES_BYTES: usize = 12;
const TAG_BYTES: usize = 4;
/// As many VLAN tags as a port has, and one more.
const MAX_TAGS: usize = 3;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// What stands before the IP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// An Ethernet header, perhaps with VLAN tags.
    Ethernet,
    /// Nothing: a TUN device.
    None,
}

/// Where the IP header begins, and what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    pub network: usize,
    pub is_v6: bool,
    /// Without regard to IPv6 extension headers.
    pub transport: usize,
    /// Of what follows the IP header.
    pub protocol: u8,
}

impl Layout {
    /// `None`: no IP packet, or not all of its header.
    pub fn of(frame: &[u8], link: Link) -> Option<Self> {
        let network = match link {
            Link::Ethernet => network_in_ethernet(frame)?,
            Link::None => 0,
        };
        match frame.get(network)? >> 4 {
            4 => {
                let header_bytes = usize::from(frame[network] & 0x0f) * 4;
                let header = frame.get(network..network + header_bytes).filter(|header| header.len() >= 20)?;
                let transport = network + header_bytes;
                Some(Layout { network, is_v6: false, transport, protocol: header[9] })
            }
            6 => {
                let header = frame.get(network..network + 40)?;
                Some(Layout { network, is_v6: true, transport: network + 40, protocol: header[6] })
            }
            _ => None,
        }
    }

    /// From the IP header on, as it says itself.
    pub fn packet_bytes(&self, frame: &[u8]) -> usize {
        let number =
            |at: usize| usize::from(u16::from_be_bytes([frame[self.network + at], frame[self.network + at + 1]]));
        if self.is_v6 { 40 + number(4) } else { number(2) }
    }

    /// Of the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1), for `len` bytes from the transport header on.
    pub fn pseudo_sum(&self, frame: &[u8], protocol: u8, len: usize) -> u64 {
        let addresses = match self.is_v6 {
            true => self.network + 8..self.network + 40,
            false => self.network + 12..self.network + 20,
        };
        checksum::add(u64::from(protocol) + len as u64, &frame[addresses])
    }

    /// Sets the lengths of the IP header for a packet that ends with the frame, and the checksum of an IPv4 header.
    pub fn set_lengths(&self, frame: &mut [u8], packet_bytes: usize) {
        let header = &mut frame[self.network..self.transport];
        if self.is_v6 {
            header[4..6].copy_from_slice(&((packet_bytes - 40) as u16).to_be_bytes());
            return;
        }
        header[2..4].copy_from_slice(&(packet_bytes as u16).to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum::finish(checksum::add(0, header));
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

fn network_in_ethernet(frame: &[u8]) -> Option<usize> {
    let mut at = ADDRESSES_BYTES;
    for _ in 0..=MAX_TAGS {
        match u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]) {
            0x8100 | 0x88a8 => at += TAG_BYTES,
            IPV4 | IPV6 => return Some(at + 2),
            _ => return None,
        }
    }
    None
}
