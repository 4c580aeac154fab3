//! Ethernet II with VLAN tags (IEEE 802.3, 802.1Q): headers and back.
//!
//! ```text
//!  0: destination  6: source  [12: 0x88a8, service tag]  [0x8100, customer tag]  EtherType, payload
//! ```

use crate::net::{Mac, VlanTags};

pub const MIN_HEADER_BYTES: usize = 14;
/// With both tags.
pub const MAX_HEADER_BYTES: usize = MIN_HEADER_BYTES + 2 * TAG_BYTES;
const TAG_BYTES: usize = 4;
const SOURCE: usize = 6;
const TYPE: usize = 12;
/// The rest of a tag is priority, and may be dropped first (802.1Q section 9.6).
const VLAN_MASK: u16 = 0x0fff;

pub mod ether_type {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    pub const IPV6: u16 = 0x86dd;
    pub const CUSTOMER_TAG: u16 = 0x8100;
    pub const SERVICE_TAG: u16 = 0x88a8;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub destination: Mac,
    pub source: Mac,
    /// A priority tag (VLAN 0) is none.
    pub tags: VlanTags,
    /// Behind the tags. Below 1,536 it is a length: no Ethernet II.
    pub ether_type: u16,
    pub header_bytes: usize,
}

/// `None`: cut short. Further tags than a service and a customer tag, in this order, are left for the EtherType.
#[inline]
pub fn parse(frame: &[u8]) -> Option<Header> {
    let fixed: &[u8; MIN_HEADER_BYTES] = frame.first_chunk()?;
    let mut header = Header {
        destination: Mac([fixed[0], fixed[1], fixed[2], fixed[3], fixed[4], fixed[5]]),
        source: Mac([fixed[6], fixed[7], fixed[8], fixed[9], fixed[10], fixed[11]]),
        tags: VlanTags::default(),
        ether_type: u16::from_be_bytes([fixed[TYPE], fixed[TYPE + 1]]),
        header_bytes: MIN_HEADER_BYTES,
    };
    if header.ether_type == ether_type::SERVICE_TAG {
        header.tags.service = take_tag(frame, &mut header)?;
        // A switch that knows no service tags passes it as a part of an untagged frame: what is behind it must name no VLAN.
        if header.tags.service.is_none() {
            return Some(header);
        }
    }
    if header.ether_type == ether_type::CUSTOMER_TAG {
        header.tags.customer = take_tag(frame, &mut header)?;
    }
    Some(header)
}

/// The VLAN of the tag that the header has come to; the header goes on behind it.
fn take_tag(frame: &[u8], header: &mut Header) -> Option<Option<u16>> {
    let tag: &[u8; TAG_BYTES] = frame.get(header.header_bytes..)?.first_chunk()?;
    header.header_bytes += TAG_BYTES;
    header.ether_type = u16::from_be_bytes([tag[2], tag[3]]);
    let vlan = u16::from_be_bytes([tag[0], tag[1]]) & VLAN_MASK;
    Some((vlan != 0).then_some(vlan))
}

/// Writes a header; how long it is.
pub fn emit(out: &mut [u8; MAX_HEADER_BYTES], destination: Mac, source: Mac, tags: VlanTags, ether_type: u16) -> usize {
    out[..SOURCE].copy_from_slice(&destination.0);
    out[SOURCE..TYPE].copy_from_slice(&source.0);
    let mut len = TYPE;
    for (kind, vlan) in [(ether_type::SERVICE_TAG, tags.service), (ether_type::CUSTOMER_TAG, tags.customer)] {
        if let Some(vlan) = vlan {
            out[len..len + 2].copy_from_slice(&kind.to_be_bytes());
            out[len + 2..len + TAG_BYTES].copy_from_slice(&(vlan & VLAN_MASK).to_be_bytes());
            len += TAG_BYTES;
        }
    }
    out[len..len + 2].copy_from_slice(&ether_type.to_be_bytes());
    len + 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HERE: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THERE: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn tags(service: Option<u16>, customer: Option<u16>) -> VlanTags {
        VlanTags { service, customer }
    }

    #[test]
    fn the_bytes_are_those_of_the_standards() {
        let mut out = [0; MAX_HEADER_BYTES];
        let len = emit(&mut out, THERE, HERE, tags(Some(200), Some(100)), ether_type::IPV4);
        let expected = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xa8, 0, 200, 0x81, 0, 0, 100, 8, 0];
        assert_eq!(out[..len], expected);
    }

    #[test]
    fn every_kind_of_tags_comes_back() {
        for tags in [tags(None, None), tags(None, Some(7)), tags(Some(4094), None), tags(Some(1), Some(4094))] {
            let mut out = [0; MAX_HEADER_BYTES];
            let header_bytes = emit(&mut out, THERE, HERE, tags, ether_type::IPV6);
            let expected =
                Header { destination: THERE, source: HERE, tags, ether_type: ether_type::IPV6, header_bytes };
            assert_eq!(parse(&out[..header_bytes]), Some(expected));
            assert_eq!(parse(&out[..header_bytes - 1]), None, "cut short");
        }
    }

    #[test]
    fn behind_a_service_tag_without_a_vlan_no_customer_tag_is_read() {
        let frame = [&HERE.0[..], &THERE.0, &[0x88, 0xa8, 0, 0, 0x81, 0, 0, 100, 8, 0], &[0; 46]].concat();
        let header = parse(&frame).unwrap();
        assert_eq!((header.tags, header.ether_type), (VlanTags::default(), ether_type::CUSTOMER_TAG));
    }

    #[test]
    fn a_priority_tag_is_no_vlan_and_priority_is_no_part_of_one() {
        let frame = |tag: [u8; 2]| [&[0; 12][..], &[0x81, 0], &tag, &[8, 0]].concat();
        let vlan = |tag| parse(&frame(tag)).unwrap().tags;
        assert_eq!(vlan([0xe0, 0]), tags(None, None));
        assert_eq!(vlan([0xf0, 5]), tags(None, Some(5)));
    }

    #[test]
    fn tags_in_another_order_or_number_are_not_taken() {
        let frame = |kinds: &[u16]| {
            let tags = kinds.iter().flat_map(|kind| [(kind >> 8) as u8, *kind as u8, 0, 9]);
            [0; 12].into_iter().chain(tags).chain([8, 0]).collect::<Vec<u8>>()
        };
        assert_eq!(parse(&frame(&[0x8100, 0x8100])).unwrap().ether_type, 0x8100);
        assert_eq!(parse(&frame(&[0x8100, 0x88a8])).unwrap().ether_type, 0x88a8);
        assert_eq!(parse(&frame(&[0x88a8, 0x8100])).unwrap().ether_type, 0x0800);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40), kind in prop::sample::select(vec![0x8100u16, 0x88a8, 0x0800])) {
            let mut bytes = bytes;
            if bytes.len() >= 14 {
                bytes[12..14].copy_from_slice(&kind.to_be_bytes());
            }
            if let Some(header) = parse(&bytes) {
                prop_assert!(header.header_bytes <= bytes.len());
            }
        }
    }
}
