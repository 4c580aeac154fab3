//! A packet's flow: who talks to whom, in canonical terms, with realms.

use crate::net::mapping::Located;
use crate::net::policy::protocol;
use crate::net::{Canonical, RealmId};
use crate::wire::headers::{Headers, Transport};
use crate::wire::tcp;

/// One end of a flow. The realm is part of it: two realms may share every address and port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Side {
    pub address: Canonical,
    pub realm: RealmId,
    /// Port; for ICMP echo the identifier, on both sides; 0 where the protocol has none.
    pub port: u16,
}

/// Which side of an ICMP echo flow asks. Part of the flow's identity: a session that A's ping opened lets B's replies
/// through, but not B's pings, whatever identifier they carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asker {
    /// Not an echo flow.
    Neither,
    Source,
    Destination,
}

/// Direction included: `source` sent this packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    pub source: Side,
    pub destination: Side,
    /// Of an echo ICMP's in either family: a request may leave as ICMP and its reply come as ICMPv6.
    pub protocol: u8,
    pub asker: Asker,
    pub tcp_flags: u8,
    /// May this packet open a session? Not a TCP reset or an answer to a SYN, not an echo reply.
    pub may_open: bool,
}

impl Flow {
    /// The flow of a packet between `source` and `destination`. `None` for ICMP that is neither echo nor an error:
    /// nothing of it is served; and for ICMP errors, which belong to the flow of the packet inside them.
    #[inline]
    pub fn of(headers: &Headers, source: Located, destination: Located) -> Option<Flow> {
        let mut flow = Flow {
            source: Side { address: source.canonical, realm: source.realm, port: 0 },
            destination: Side { address: destination.canonical, realm: destination.realm, port: 0 },
            protocol: headers.protocol,
            asker: Asker::Neither,
            tcp_flags: 0,
            may_open: true,
        };
        match headers.transport {
            Transport::Tcp { source_port, destination_port, flags } => {
                flow.source.port = source_port;
                flow.destination.port = destination_port;
                flow.tcp_flags = flags;
                flow.may_open = tcp::may_open(flags);
            }
            Transport::Udp { source_port, destination_port } => {
                flow.source.port = source_port;
                flow.destination.port = destination_port;
            }
            Transport::EchoRequest { ident } => flow.set_echo(Asker::Source, ident),
            Transport::EchoReply { ident } => flow.set_echo(Asker::Destination, ident),
            Transport::IcmpError | Transport::IcmpOther => return None,
            // Without this, ICMPv6 inside IPv4 (or the reverse) would count as "icmp".
            Transport::Other if matches!(headers.protocol, protocol::ICMP | protocol::ICMPV6) => return None,
            Transport::Other => {}
        }
        Some(flow)
    }

    /// The same flow with the port that its source has on its own wires, where the packet shows another. 0: it shows that.
    pub fn from_port(mut self, port: u16) -> Flow {
        if port != 0 {
            self.source.port = port;
            if self.asker != Asker::Neither {
                self.destination.port = port;
            }
        }
        self
    }

    /// The same for its destination.
    #[inline]
    pub fn to_port(self, port: u16) -> Flow {
        if port == 0 { self } else { self.reversed().from_port(port).reversed() }
    }

    /// The same flow as the other side sends it.
    pub fn reversed(self) -> Flow {
        let asker = match self.asker {
            Asker::Neither => Asker::Neither,
            Asker::Source => Asker::Destination,
            Asker::Destination => Asker::Source,
        };
        Flow { source: self.destination, destination: self.source, asker, ..self }
    }

    fn set_echo(&mut self, asker: Asker, ident: u16) {
        self.asker = asker;
        self.protocol = protocol::ICMP;
        self.may_open = asker == Asker::Source;
        self.source.port = ident;
        self.destination.port = ident;
    }
}
