//! One IPsec gateway in memory: IKE and ESP joined as the data plane joins them, without anything else of an appliance.
//!
//! Whoever drives it carries its datagrams, tells it the time, and reads what happened from [`Gateway::poll_note`].

use std::collections::VecDeque;
use std::sync::Arc;

use aws_lc_rs::digest;

use crate::dataplane::child_sa;
use crate::ike::{self, ChildUp, PeerConfig};
use crate::ipsec::{self, Dscp, InstallError};
use crate::net::{Port, Timestamp, TunnelId};
use crate::packet::{Datagram, DropReason, Opened, Outbox};

/// Notes that wait to be polled; beyond, the newest are lost.
const MAX_NOTES: usize = 4096;
/// Before an IKE message on the NAT traversal port (RFC 3948 section 2.2).
const NON_ESP_MARKER: [u8; 4] = [0; 4];
const NAT_KEEPALIVE: [u8; 1] = [0xff];

pub struct Gateway {
    pub ike: ike::Endpoint,
    pub esp: ipsec::Endpoint,
    notes: VecDeque<Note>,
    now: Timestamp,
}

/// A key without the key: the start of its hash, to see whether it comes twice.
pub type KeyId = [u8; 16];

/// What happened, in order.
#[derive(Clone, PartialEq, Debug)]
pub enum Note {
    Installed {
        tunnel: TunnelId,
        spi_in: u32,
        spi_out: u32,
        key_in: KeyId,
        key_out: KeyId,
    },
    NotInstalled {
        tunnel: TunnelId,
        spi_in: u32,
        why: InstallError,
    },
    Retired {
        tunnel: TunnelId,
        spi_in: u32,
    },
    /// What ESP told IKE.
    Esp(ipsec::Event),
    /// What IKE told the operator.
    Ike(ike::Event),
}

/// What a datagram was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Received {
    Packet {
        tunnel: TunnelId,
        packet: Vec<u8>,
    },
    /// ESP without a packet, an IKE message, or a NAT keepalive.
    Control,
    Dropped(DropReason),
}

impl Gateway {
    pub fn new(setup: ike::Setup, seed: u64, now: Timestamp) -> Self {
        Gateway {
            ike: ike::Endpoint::new(setup, now),
            esp: ipsec::Endpoint::new(ipsec::Limits::default(), seed),
            notes: VecDeque::new(),
            now,
        }
    }

    pub fn configure(&mut self, peers: Vec<Arc<PeerConfig>>, now: Timestamp) {
        self.now = self.now.max(now);
        self.ike.configure(peers, now);
        self.carry();
    }

    /// Seals an inner packet into `outbox`. Without a Child SA IKE is told that one is wanted.
    pub fn send(
        &mut self,
        tunnel: TunnelId,
        packet: &[u8],
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        self.now = self.now.max(now);
        let sealed = self.esp.seal(tunnel, packet, outbox);
        if sealed == Err(DropReason::TunnelDown) {
            self.ike.want(tunnel, now);
        }
        self.carry();
        sealed
    }

    /// Takes an outer datagram; what IKE answers goes into `outbox`.
    pub fn receive(&mut self, datagram: Datagram<'_>, outbox: &mut Outbox, now: Timestamp) -> Received {
        self.now = self.now.max(now);
        let received = match (datagram.path.port, datagram.bytes.strip_prefix(&NON_ESP_MARKER)) {
            (Port::RawEsp, _) => self.receive_esp(datagram),
            (Port::IkeNatT, Some(bytes)) => self.receive_ike(Datagram { bytes, ..datagram }, outbox),
            (Port::IkeNatT, None) if datagram.bytes == NAT_KEEPALIVE => Received::Control,
            (Port::IkeNatT, None) => self.receive_esp(datagram),
            _ => self.receive_ike(datagram, outbox),
        };
        self.carry();
        received
    }

    fn receive_esp(&mut self, datagram: Datagram<'_>) -> Received {
        let mut packet = vec![0; datagram.bytes.len()];
        match self.esp.open(datagram, &mut packet, self.now) {
            Opened::Packet { tunnel, len } => {
                self.ike.note_heard(tunnel, self.now);
                packet.truncate(len);
                Received::Packet { tunnel, packet }
            }
            Opened::Keepalive { tunnel } => {
                self.ike.note_heard(tunnel, self.now);
                Received::Control
            }
            Opened::Control => Received::Control,
            Opened::Dropped { reason, .. } => Received::Dropped(reason),
        }
    }

    fn receive_ike(&mut self, datagram: Datagram<'_>, outbox: &mut Outbox) -> Received {
        match self.ike.handle_input(datagram, outbox, self.now) {
            Ok(()) => Received::Control,
            Err(reason) => Received::Dropped(reason),
        }
    }

    pub fn handle_timeout(&mut self, outbox: &mut Outbox, now: Timestamp) {
        self.now = self.now.max(now);
        self.ike.handle_timeout(outbox, now);
        self.carry();
        self.esp.handle_timeout(outbox, now);
        self.carry();
    }

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        [self.ike.poll_timeout(), self.esp.poll_timeout()].into_iter().flatten().min()
    }

    pub fn poll_note(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    /// Whatever was changed from outside, or told by one of the two: until neither has anything to tell.
    pub fn carry(&mut self) {
        loop {
            while let Some(event) = self.ike.poll_event() {
                self.carry_ike(event);
            }
            let Some(event) = self.esp.poll_event() else { return };
            match event {
                ipsec::Event::RekeyDue { tunnel, spi_in } => self.ike.rekey_child(tunnel, spi_in, self.now),
                ipsec::Event::Expired { tunnel, spi_in } => self.ike.expire_child(tunnel, spi_in, self.now),
                ipsec::Event::Moved { tunnel, to, .. } => self.ike.note_moved(tunnel, to),
            }
            self.note(Note::Esp(event));
        }
    }

    fn carry_ike(&mut self, event: ike::Event) {
        match event {
            ike::Event::ChildUp(child) => self.install(*child),
            ike::Event::ChildDown { tunnel, spi_in, linger } => {
                self.esp.retire(spi_in, linger, self.now);
                self.note(Note::Retired { tunnel, spi_in });
            }
            ike::Event::PathMoved { tunnel, path, follow_path } => {
                self.esp.move_path(tunnel, path, follow_path);
                self.note(Note::Ike(event));
            }
            told => self.note(Note::Ike(told)),
        }
    }

    fn install(&mut self, child: ChildUp) {
        let (tunnel, spi_in, spi_out) = (child.tunnel, child.spi_in, child.spi_out);
        let (key_in, key_out) = (key_id(&child.keys.cipher_in), key_id(&child.keys.cipher_out));
        let child = child_sa(child, Dscp::Copy).expect("the lengths come from the suite");
        match self.esp.install(child, self.now) {
            Ok(()) => self.note(Note::Installed { tunnel, spi_in, spi_out, key_in, key_out }),
            Err(why) => {
                self.ike.expire_child(tunnel, spi_in, self.now); // both sides must know that it does not exist
                self.note(Note::NotInstalled { tunnel, spi_in, why });
            }
        }
    }

    fn note(&mut self, note: Note) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push_back(note);
        }
    }
}

fn key_id(key: &[u8]) -> KeyId {
    let hash = digest::digest(&digest::SHA256, key);
    *hash.as_ref().first_chunk().expect("32 bytes")
}
