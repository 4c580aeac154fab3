//! Outer datagrams on their way in: whose is it, is it authentic, and if not, why not.

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, TunnResult};

use super::endpoint::Endpoint;
use super::event::{EventQueue, Opened};
use super::message::{COOKIE_REPLY_BYTES, Message};
use super::peer::{Data, Peer};
use crate::net::{Timestamp, TunnelId};
use crate::packet::{Datagram, DropReason, Outbox};

impl Endpoint {
    /// Opens one outer datagram. Data goes decrypted into `out`, which must be as long as the datagram; answers to
    /// handshakes go into `outbox`.
    pub fn open(&mut self, datagram: Datagram<'_>, out: &mut [u8], outbox: &mut Outbox, now: Timestamp) -> Opened {
        self.now = self.now.max(now);
        let handled = match Message::parse(datagram.bytes) {
            Some(Message::Data { receiver_index, counter }) => {
                return self.open_data(Data { datagram, receiver_index, counter }, out, now);
            }
            Some(Message::Initiation) => self.open_initiation(datagram, outbox, now),
            Some(Message::Response { receiver_index }) => self.open_response(datagram, receiver_index, outbox, now),
            Some(Message::CookieReply { receiver_index }) => self.open_cookie_reply(datagram, receiver_index),
            None => Err(DropReason::OuterMalformed),
        };
        match handled {
            Ok(()) => Opened::Control,
            Err(reason) => Opened::dropped(reason),
        }
    }

    fn open_data(&mut self, data: Data<'_>, out: &mut [u8], now: Timestamp) -> Opened {
        let tunnel = self.indices.tunnel_of(data.receiver_index);
        match tunnel.and_then(|tunnel| peer_mut(&mut self.peers, tunnel)) {
            Some(peer) => peer.open(data, out, &mut self.events, now),
            None => Opened::dropped(DropReason::DataUnknownSession),
        }
    }

    fn open_initiation(
        &mut self,
        datagram: Datagram<'_>,
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let Packet::HandshakeInit(initiation) = self.admit(datagram, outbox, now)? else {
            return Err(DropReason::OuterMalformed);
        };
        let sender = parse_handshake_anon(&self.private_key, &self.public_key, &initiation)
            .map_err(|_| DropReason::HandshakeInvalid)?;
        let unknown = DropReason::HandshakeUnknownPeer;
        let tunnel = *self.by_key.get(&sender.peer_static_public).ok_or(unknown)?;
        let peer = peer_mut(&mut self.peers, tunnel).ok_or(unknown)?;
        peer.answer_initiation(datagram, outbox, &mut self.events, now)
    }

    fn open_response(
        &mut self,
        datagram: Datagram<'_>,
        receiver_index: u32,
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        self.admit(datagram, outbox, now)?;
        let (peer, events) = self.addressee(receiver_index)?;
        peer.accept_response(datagram, outbox, events, now)
    }

    fn open_cookie_reply(&mut self, datagram: Datagram<'_>, receiver_index: u32) -> Result<(), DropReason> {
        let (peer, _) = self.addressee(receiver_index)?;
        peer.accept_cookie(datagram)
    }

    /// mac1 and the rate limits. A sender that must first prove its address is sent a cookie; one that has proved it may
    /// still call too often.
    fn admit<'a>(
        &mut self,
        datagram: Datagram<'a>,
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Result<Packet<'a>, DropReason> {
        let mut room = [0; COOKIE_REPLY_BYTES];
        let source = datagram.path.remote.ip();
        Err(match self.limiter.verify_packet(Some(source), datagram.bytes, &mut room) {
            Ok(message) if !self.source_limit.count() || self.source_limit.take(source, now) => return Ok(message),
            Ok(_) => DropReason::HandshakeUnderLoad,
            Err(TunnResult::WriteToNetwork(cookie_reply)) => {
                self.source_limit.count();
                outbox.push(datagram.path, false, cookie_reply); // if there is no room, the sender tries again anyway
                DropReason::HandshakeUnderLoad
            }
            Err(TunnResult::Err(WireGuardError::InvalidMac)) => DropReason::HandshakeForeignKey,
            Err(_) => DropReason::OuterMalformed,
        })
    }

    fn addressee(&mut self, receiver_index: u32) -> Result<(&mut Peer, &mut EventQueue), DropReason> {
        let unknown = DropReason::HandshakeInvalid;
        let tunnel = self.indices.tunnel_of(receiver_index).ok_or(unknown)?;
        Ok((peer_mut(&mut self.peers, tunnel).ok_or(unknown)?, &mut self.events))
    }
}

fn peer_mut(peers: &mut [Option<Box<Peer>>], tunnel: TunnelId) -> Option<&mut Peer> {
    peers.get_mut(tunnel.index())?.as_deref_mut()
}
