//! NETLINK_ROUTE messages (rtnetlink(7)), as far as links go: bytes in, nouns out. No socket here.
//!
//! Numbers are in the machine's own byte order. What is too short, or says that it is longer than it is, ends the reading; the
//! kernel writes no such messages.

use crate::net::Mac;

pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
pub(super) const NLMSG_OVERRUN: u16 = 4;
pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
pub(super) const NLM_F_REQUEST: u16 = 0x1;
pub(super) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(super) const NLM_F_DUMP: u16 = 0x300;
const AF_UNSPEC: u8 = 0;

pub(super) const HEADER_BYTES: usize = 16;
const IFINFOMSG_BYTES: usize = 16;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
/// The two top bits of an attribute's type are flags.
const ATTRIBUTE_TYPE_MASK: u16 = 0x3fff;
const IFF_UP: u32 = 0x1;
const IFF_RUNNING: u32 = 0x40;
const IFF_LOWER_UP: u32 = 0x1_0000;

/// An interface as the kernel describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The kernel's number: another one when the interface was taken away and has come back.
    pub index: u32,
    pub name: String,
    /// Administratively up, with carrier, and nothing else (802.1X) in the way.
    pub is_up: bool,
    /// Zero where there is none: of TUN devices.
    pub mac: Mac,
    pub mtu_bytes: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// How an interface is; also in a dump.
    Link(Link),
    /// An interface was taken away.
    LinkGone(u32),
    /// A dump has ended. It is of use only when nothing changed while it was made.
    Done { is_consistent: bool },
    /// A request failed: the system's error number.
    Failed(i32),
    /// Messages were lost.
    Overrun,
}

/// For a dump of all interfaces. What follows the header is all zeros: of any address family.
pub fn request_links(sequence: u32) -> Vec<u8> {
    request_dump(RTM_GETLINK, IFINFOMSG_BYTES, sequence)
}

/// For a dump of everything of a kind. What follows the header is all zeros.
pub(super) fn request_dump(kind: u16, body_bytes: usize, sequence: u32) -> Vec<u8> {
    let len = (HEADER_BYTES + body_bytes) as u32;
    let mut bytes = Vec::with_capacity(len as usize);
    bytes.extend(len.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.resize(len as usize, 0);
    bytes
}

/// One message of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub kind: u16,
    pub flags: u16,
    /// Of the request that it answers.
    pub sequence: u32,
    pub body: &'a [u8],
    /// Neither this one nor one before it in the datagram says that something changed while the dump was made.
    pub is_consistent: bool,
}

impl Part<'_> {
    /// Of an `NLMSG_ERROR`: the system's error number. `None`: no error, but an acknowledgement.
    pub fn error(&self) -> Option<i32> {
        let error = u32_at(self.body, 0)? as i32;
        (error != 0).then(|| error.saturating_neg())
    }
}

/// Takes a datagram apart.
pub(super) fn parts(datagram: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let mut rest = datagram;
    let mut is_consistent = true;
    std::iter::from_fn(move || {
        let len = usize::try_from(u32_at(rest, 0)?).ok()?;
        let message = rest.get(..len).filter(|message| message.len() >= HEADER_BYTES)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        let (kind, flags, sequence) = (u16_at(message, 4)?, u16_at(message, 6)?, u32_at(message, 8)?);
        is_consistent &= flags & NLM_F_DUMP_INTR == 0;
        Some(Part { kind, flags, sequence, body: &message[HEADER_BYTES..], is_consistent })
    })
}

/// What one datagram holds; messages of other kinds are passed over.
pub fn read(datagram: &[u8]) -> impl Iterator<Item = Message> {
    parts(datagram).filter_map(read_one)
}

fn read_one(part: Part<'_>) -> Option<Message> {
    let Part { kind, body, is_consistent, .. } = part;
    match kind {
        RTM_NEWLINK => link_of(body).map(Message::Link),
        // A port that leaves a bridge is told so, too, with the bridge's family.
        RTM_DELLINK if *body.first()? == AF_UNSPEC => Some(Message::LinkGone(u32_at(body, 4)?)),
        NLMSG_DONE => Some(Message::Done { is_consistent }),
        NLMSG_OVERRUN => Some(Message::Overrun),
        NLMSG_ERROR => part.error().map(Message::Failed),
        _ => None,
    }
}

/// What a message about a link says of it.
pub(super) fn link_of(body: &[u8]) -> Option<Link> {
    if *body.first()? != AF_UNSPEC {
        return None;
    }
    let (index, flags) = (u32_at(body, 4)?, u32_at(body, 8)?);
    let all = IFF_UP | IFF_RUNNING | IFF_LOWER_UP;
    let mut link = Link { index, name: String::new(), is_up: flags & all == all, mac: Mac::default(), mtu_bytes: 0 };
    for (kind, value) in attributes(body.get(IFINFOMSG_BYTES..)?) {
        match kind {
            IFLA_ADDRESS => link.mac = value.try_into().map(Mac).unwrap_or_default(),
            IFLA_IFNAME => link.name = name(value),
            IFLA_MTU => link.mtu_bytes = u32_at(value, 0)?,
            _ => {}
        }
    }
    Some(link)
}

/// Type and value.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (len, kind) = (usize::from(u16_at(rest, 0)?), u16_at(rest, 2)?);
        let value = rest.get(ATTRIBUTE_HEADER_BYTES..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & ATTRIBUTE_TYPE_MASK, value))
    })
}

/// Ends with a zero byte.
fn name(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    pub fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER_BYTES + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn link_body(family: u8, index: u32, flags: u32, name: &str, mac: &[u8], mtu: u32) -> Vec<u8> {
        let mut body = vec![family, 0, 1, 0];
        body.extend(index.to_ne_bytes());
        body.extend(flags.to_ne_bytes());
        body.extend([0; 4]);
        body.extend(attribute(IFLA_IFNAME, &[name.as_bytes(), &[0]].concat()));
        body.extend(attribute(99, &[1, 2, 3]));
        body.extend(attribute(IFLA_ADDRESS, mac));
        body.extend(attribute(IFLA_MTU, &mtu.to_ne_bytes()));
        body
    }

    const UP: u32 = IFF_UP | IFF_RUNNING | IFF_LOWER_UP;
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn new_link(index: u32, flags: u32, name: &str) -> Vec<u8> {
        message(RTM_NEWLINK, 0, &link_body(AF_UNSPEC, index, flags, name, &MAC, 1500))
    }

    fn read_all(bytes: &[u8]) -> Vec<Message> {
        read(bytes).collect()
    }

    #[test]
    fn links_are_read_with_all_that_is_asked_of_them() {
        let link = |is_up| Link { index: 4, name: "eth1".into(), is_up, mac: Mac(MAC), mtu_bytes: 1500 };
        assert_eq!(read_all(&new_link(4, UP, "eth1")), [Message::Link(link(true))]);
        for missing in [IFF_UP, IFF_RUNNING, IFF_LOWER_UP] {
            assert_eq!(read_all(&new_link(4, UP & !missing, "eth1")), [Message::Link(link(false))]);
        }
        let tun = message(RTM_NEWLINK, 0, &link_body(AF_UNSPEC, 5, UP, "ix0", &[], 1400));
        let [Message::Link(tun)] = &read_all(&tun)[..] else { panic!("a link") };
        assert_eq!((tun.mac, tun.mtu_bytes), (Mac::default(), 1400));
    }

    #[test]
    fn a_port_that_leaves_its_bridge_is_not_gone() {
        const AF_BRIDGE: u8 = 7;
        let body = |family| link_body(family, 4, UP, "eth1", &MAC, 1500);
        assert_eq!(read_all(&message(RTM_DELLINK, 0, &body(AF_BRIDGE))), []);
        assert_eq!(read_all(&message(RTM_NEWLINK, 0, &body(AF_BRIDGE))), []);
        assert_eq!(read_all(&message(RTM_DELLINK, 0, &body(AF_UNSPEC))), [Message::LinkGone(4)]);
    }

    #[test]
    fn several_messages_of_one_datagram_are_read_and_others_passed_over() {
        let done = |flags| message(NLMSG_DONE, flags, &[0; 4]);
        let route = message(24, 0, &[1; 12]);
        let all = [new_link(1, UP, "lo"), route, new_link(2, 0, "eth12345"), done(0)].concat();
        let [Message::Link(one), Message::Link(two), Message::Done { is_consistent: true }] = &read_all(&all)[..]
        else {
            panic!("{:?}", read_all(&all))
        };
        assert_eq!((one.name.as_str(), two.name.as_str()), ("lo", "eth12345"));
        assert_eq!(read_all(&done(NLM_F_DUMP_INTR)), [Message::Done { is_consistent: false }]);
        assert_eq!(read_all(&message(NLMSG_ERROR, 0, &(-16_i32).to_ne_bytes())), [Message::Failed(16)]);
        assert_eq!(read_all(&message(NLMSG_ERROR, 0, &[0; 4])), [], "an acknowledgement");
        assert_eq!(read_all(&message(NLMSG_OVERRUN, 0, &[])), [Message::Overrun]);
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        let whole = new_link(4, UP, "eth1");
        for len in 0..whole.len() {
            assert_eq!(read_all(&whole[..len]), [], "{len} bytes");
        }
        let mut zero = whole.clone();
        zero[..4].copy_from_slice(&[0; 4]);
        assert_eq!(read_all(&zero), [], "a length of 0 does not go on for ever");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u16..26) {
            if let Some(header) = bytes.first_chunk_mut::<8>() {
                header[1..4].copy_from_slice(&[0; 3]);
                header[4..6].copy_from_slice(&kind.to_ne_bytes());
            }
            prop_assert!(read(&bytes).count() <= bytes.len() / HEADER_BYTES);
        }
    }
}
