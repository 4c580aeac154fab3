//! Outer datagrams on their way in: whose is it, is it authentic, and if not, why not.

use super::endpoint::{Endpoint, Shared};
use super::event::Opened;
use super::message::{Initiation, Message, Response};
use super::noise::{Symmetric, read_sender};
use super::peer::Peer;
use super::source_limit::SourceLimit;
use crate::net::{Timestamp, TunnelId};
use crate::packet::{Datagram, DropReason, Outbox};

impl Endpoint {
    /// Opens one outer datagram. Data goes decrypted into `out`, which must be as long as the datagram; answers to
    /// handshakes go into `outbox`.
    #[inline]
    pub fn open(&mut self, datagram: Datagram<'_>, out: &mut [u8], outbox: &mut Outbox, now: Timestamp) -> Opened {
        self.shared.now = self.shared.now.max(now);
        match Message::parse(datagram.bytes) {
            Some(Message::Data(data)) => self.open_data(data, datagram.path, out),
            Some(handshake) => self.open_handshake(handshake, datagram, outbox),
            None => Opened::dropped(DropReason::OuterMalformed),
        }
    }

    #[cold]
    fn open_handshake(&mut self, message: Message<'_>, datagram: Datagram<'_>, outbox: &mut Outbox) -> Opened {
        let handled = match message {
            Message::Initiation(initiation) => self.open_initiation(initiation, datagram, outbox),
            Message::Response(response) => self.open_response(response, datagram, outbox),
            Message::CookieReply { receiver_index } => self.open_cookie_reply(receiver_index, datagram),
            Message::Data(_) => Err(DropReason::OuterMalformed),
        };
        match handled {
            Ok(()) => Opened::Control,
            Err(reason) => Opened::dropped(reason),
        }
    }

    fn open_initiation(
        &mut self,
        initiation: Initiation<'_>,
        datagram: Datagram<'_>,
        outbox: &mut Outbox,
    ) -> Result<(), DropReason> {
        self.admit(datagram, outbox, SourceLimit::count)?;
        let us = &self.shared.identity;
        let sender =
            read_sender(Symmetric::wireguard(us.public()), us, initiation.noise).ok_or(DropReason::HandshakeInvalid)?;
        let unknown = DropReason::HandshakeUnknownPeer;
        let tunnel = *self.by_key.get(&sender.public).ok_or(unknown)?;
        let peer = peer_mut(&mut self.peers, tunnel).ok_or(unknown)?;
        peer.answer_initiation(initiation, sender, datagram, outbox, &mut self.shared)?;
        self.shared.look_at(tunnel);
        Ok(())
    }

    fn open_response(
        &mut self,
        response: Response<'_>,
        datagram: Datagram<'_>,
        outbox: &mut Outbox,
    ) -> Result<(), DropReason> {
        if self.gatekeeper.has_mac1(datagram.bytes) {
            self.addressee(response.receiver_index)?; // else a response of nobody would count
        }
        self.admit(datagram, outbox, SourceLimit::count_response)?;
        let (peer, shared) = self.addressee(response.receiver_index)?;
        peer.accept_response(response, datagram, outbox, shared)?;
        let tunnel = peer.config().tunnel;
        self.shared.look_at(tunnel);
        Ok(())
    }

    fn open_cookie_reply(&mut self, receiver_index: u32, datagram: Datagram<'_>) -> Result<(), DropReason> {
        let (peer, shared) = self.addressee(receiver_index)?;
        peer.accept_cookie(datagram, shared.now)?;
        shared.look_at(peer.config().tunnel);
        Ok(())
    }

    /// mac1 and the rate limits. A sender that must first prove its address is sent a cookie; one that has proved it may
    /// still call too often.
    fn admit(
        &mut self,
        datagram: Datagram<'_>,
        outbox: &mut Outbox,
        count: fn(&mut SourceLimit) -> bool,
    ) -> Result<(), DropReason> {
        let Datagram { path, bytes, .. } = datagram;
        let Shared { random, now, .. } = &mut self.shared;
        if !self.gatekeeper.has_mac1(bytes) {
            return Err(DropReason::HandshakeForeignKey);
        }
        self.source_limit.renew(*now);
        if !count(&mut self.source_limit) {
            return Ok(());
        }
        if self.gatekeeper.has_mac2(bytes, path.remote, random, *now) {
            let has_token = self.source_limit.take(path.remote.ip(), *now);
            return if has_token { Ok(()) } else { Err(DropReason::HandshakeUnderLoad) };
        }
        if let Some(reply) = self.gatekeeper.cookie_reply(bytes, path.remote, random, *now) {
            outbox.push(path, false, &reply); // if there is no room, the sender tries again anyway
        }
        Err(DropReason::HandshakeUnderLoad)
    }

    fn addressee(&mut self, receiver_index: u32) -> Result<(&mut Peer, &mut Shared), DropReason> {
        let unknown = DropReason::HandshakeInvalid;
        let tunnel = self.shared.indices.tunnel_of(receiver_index).ok_or(unknown)?;
        Ok((peer_mut(&mut self.peers, tunnel).ok_or(unknown)?, &mut self.shared))
    }
}

#[inline]
pub(super) fn peer_mut(peers: &mut [Option<Box<Peer>>], tunnel: TunnelId) -> Option<&mut Peer> {
    peers.get_mut(tunnel.index())?.as_deref_mut()
}
