//! The gateway on the other side of a tunnel, in memory. It speaks boringtun itself: a peer of the appliance, not a part
//! of it.

use boringtun::noise::{Tunn, TunnResult};

use crate::wire::{headers, icmp};

/// Larger than any datagram that a test sends.
const BUFFER_BYTES: usize = 4096;
/// RFC 4443 section 2.4 c.
const MAX_ERROR_BYTES: usize = 1280;

/// One site's gateway. It has no address of its own: whoever drives it carries its datagrams.
pub struct Peer {
    tunnel: Tunn,
    /// It is a router: it reports packets whose hops end at it. Else the hosts behind it get them.
    pub reports_expiry: bool,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

/// What came of a datagram.
#[derive(Default, Debug)]
pub struct Received {
    /// The inner packet, if it was data.
    pub packet: Option<Vec<u8>>,
    /// To be sent back: handshake answers, packets that waited for the handshake.
    pub datagrams: Vec<Vec<u8>>,
    /// It could not be opened.
    pub refused: bool,
}

pub use crate::wireguard::public_key;

impl Peer {
    /// `index` tells the peer's tunnels apart where it has several; any number below 2^24.
    pub fn new(private_key: [u8; 32], ix_public_key: [u8; 32], keepalive_secs: Option<u16>, index: u32) -> Self {
        let tunnel = Tunn::new(private_key.into(), ix_public_key.into(), None, keepalive_secs, index, None);
        Peer { tunnel, reports_expiry: true, buffer: Box::new([0; BUFFER_BYTES]) }
    }

    /// A handshake initiation, whether or not there is a session.
    pub fn initiate(&mut self) -> Option<Vec<u8>> {
        match self.tunnel.format_handshake_initiation(&mut self.buffer[..], true) {
            TunnResult::WriteToNetwork(datagram) => Some(datagram.to_vec()),
            _ => None,
        }
    }

    /// Seals an inner packet. Without a session this gives a handshake initiation, and the packet follows later.
    pub fn send(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        match self.tunnel.encapsulate(packet, &mut self.buffer[..]) {
            TunnResult::WriteToNetwork(datagram) => Some(datagram.to_vec()),
            _ => None,
        }
    }

    pub fn receive(&mut self, datagram: &[u8]) -> Received {
        let mut received = Received::default();
        match self.tunnel.decapsulate(None, datagram, &mut self.buffer[..]) {
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                let packet = packet.to_vec();
                match expiry(&packet).filter(|_| self.reports_expiry) {
                    Some(report) => received.datagrams.extend(self.send(&report)),
                    None => received.packet = Some(packet),
                }
            }
            TunnResult::WriteToNetwork(answer) => {
                received.datagrams.push(answer.to_vec());
                self.flush(&mut received.datagrams);
            }
            TunnResult::Err(_) => received.refused = true,
            TunnResult::Done => {}
        }
        received
    }

    /// Time has passed: retransmission, rekeying, keepalive. To be called a few times a second.
    pub fn tick(&mut self) -> Option<Vec<u8>> {
        match self.tunnel.update_timers(&mut self.buffer[..]) {
            TunnResult::WriteToNetwork(datagram) => Some(datagram.to_vec()),
            _ => None,
        }
    }

    pub fn has_session(&self) -> bool {
        self.tunnel.time_since_last_handshake().is_some()
    }

    /// Packets that waited for the session.
    fn flush(&mut self, datagrams: &mut Vec<Vec<u8>>) {
        while let TunnResult::WriteToNetwork(datagram) = self.tunnel.decapsulate(None, &[], &mut self.buffer[..]) {
            datagrams.push(datagram.to_vec());
        }
    }
}

/// What a router says about a packet that it may not forward, from the address that the packet was sent to.
fn expiry(packet: &[u8]) -> Option<Vec<u8>> {
    let headers = headers::parse(packet).ok().filter(|headers| headers.hop_limit <= 1)?;
    let mut report = vec![0; MAX_ERROR_BYTES];
    let (from, to) = (headers.destination, headers.source);
    let len = icmp::emit_error(&mut report, icmp::Report::TimeExceeded, from, to, packet)?;
    report.truncate(len);
    Some(report)
}
