//! What the table needs to know of a packet, worked out ahead so that a batch's look-ups can overlap.

use super::entry::Key;
use crate::nat::flow::{Asker, Flow};
use crate::net::policy::protocol;
use crate::wire::tcp::Segment;

#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    pub(super) key: Key,
    pub(super) hash: u32,
    pub(super) source_is_low: bool,
    pub(super) may_open: bool,
    /// Of a TCP packet.
    pub(super) segment: Segment,
}

impl Ticket {
    /// With the numbers of the TCP segment that the packet is. A TCP packet has to have them.
    pub fn with_segment(self, segment: Segment) -> Ticket {
        Ticket { segment, ..self }
    }

    /// For a packet whose translation only a session can tell: out of the middle of a connection it opens none.
    pub fn not_in_mid_stream(self) -> Ticket {
        let may_open = self.may_open && (!self.is_tcp() || self.segment.is_syn());
        Ticket { may_open, ..self }
    }

    /// The packet's flow, as it is.
    pub fn flow(&self) -> Flow {
        self.opening(true)
    }

    /// As for the same packet sent by the other side.
    pub fn reversed(&self) -> Ticket {
        Ticket { source_is_low: !self.source_is_low, ..*self }
    }

    pub(super) fn is_tcp(&self) -> bool {
        self.key.protocol == protocol::TCP
    }

    /// The flow as its opener sends it, when the packet comes from the opener or not.
    pub(super) fn opening(&self, from_opener: bool) -> Flow {
        let (low, high) = (self.key.low(), self.key.high());
        let low_opens = self.source_is_low == from_opener;
        let (source, destination) = if low_opens { (low, high) } else { (high, low) };
        let asker = match self.key.low_asks {
            None => Asker::Neither,
            Some(low_asks) if low_asks == low_opens => Asker::Source,
            Some(_) => Asker::Destination,
        };
        let (tcp_flags, may_open) = (self.segment.flags, self.may_open);
        Flow { source, destination, protocol: self.key.protocol, asker, tcp_flags, may_open }
    }
}
