//! Two endpoints, the packets between them, and a clock.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::crypto::{Associated, Cipher, PacketKey, Suite};
use crate::ipsec::ecn::Dscp;
use crate::ipsec::esp;
use crate::ipsec::sa::Sa;
use crate::ipsec::{ChildSa, Endpoint, Event, InstallError, Lifetime, Limits, Outbound, TunnelStatus};
use crate::net::{Path, Port, Selector, Timestamp, TunnelId};
use crate::packet::{Datagram, DropReason, Opened, Outbox};
use crate::wire::{ipv4, ipv6};

pub const GCM: Suite = Suite { cipher: Cipher::AesGcm128, integrity: None };
/// The tunnel of the tests, at both ends.
pub const TUNNEL: TunnelId = TunnelId(3);
pub const SEED: u64 = 0x5eed;

pub fn path(port: u16) -> Path {
    Path::from_port(Port::IkeNatT, SocketAddr::from(([198, 51, 100, 7], port)))
}

pub fn key(suite: Suite, name: u32) -> PacketKey {
    let bytes = |len: usize| -> Vec<u8> { name.to_be_bytes().into_iter().chain(1..).take(len).collect() };
    PacketKey::new(suite, &bytes(suite.cipher_key_bytes()), &bytes(suite.integrity_key_bytes())).unwrap()
}

/// One side's half of what IKE agreed on. `spi` is ours, and names the key of packets to us.
pub fn child(spi_in: u32, spi_out: u32) -> ChildSa {
    child_with(GCM, spi_in, spi_out)
}

pub fn child_with(suite: Suite, spi_in: u32, spi_out: u32) -> ChildSa {
    ChildSa {
        tunnel: TUNNEL,
        spi_in,
        spi_out,
        key_in: key(suite, spi_in),
        key_out: key(suite, spi_out),
        esn: false,
        replay_window: 1024,
        ours: vec![Selector::ANY4, Selector::ANY6],
        theirs: vec![Selector::ANY4, Selector::ANY6],
        path: path(4500),
        follow_path: false,
        lifetime: Lifetime::UNLIMITED,
        dscp: Dscp::Copy,
        ecn: true,
        outbound: Outbound::Now,
    }
}

/// An IPv4 or IPv6 packet with so many bytes of UDP payload.
pub fn packet(source: &str, destination: &str, payload_bytes: usize) -> Vec<u8> {
    let mut udp: Vec<u8> = vec![0x10, 0, 0x20, 0, 0, 0, 0, 0];
    udp.extend((0..payload_bytes).map(|i| i as u8));
    datagram(source, destination, 17, &udp)
}

pub fn datagram(source: &str, destination: &str, protocol: u8, upper: &[u8]) -> Vec<u8> {
    match (source.parse().unwrap(), destination.parse().unwrap()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = [0; ipv4::MIN_HEADER_BYTES];
            ipv4::emit(&mut header, upper.len(), 64, protocol, source, destination);
            [&header[..], upper].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = [0; ipv6::HEADER_BYTES];
            ipv6::emit(&mut header, upper.len(), 64, protocol, source, destination);
            [&header[..], upper].concat()
        }
        _ => panic!("two families"),
    }
}

pub fn v4(payload_bytes: usize) -> Vec<u8> {
    packet("192.168.1.10", "192.168.1.20", payload_bytes)
}

/// An endpoint with what is around it.
pub struct Side {
    pub endpoint: Endpoint,
    pub outbox: Outbox,
    /// Every (SPI, sequence number) that it has sent; under one SPI there is one key.
    pub sent: HashSet<(u32, u32)>,
    pub now: Timestamp,
}

impl Side {
    pub fn new() -> Self {
        Side::limited(Limits::default())
    }

    pub fn limited(limits: Limits) -> Self {
        Side {
            endpoint: Endpoint::new(limits, SEED),
            outbox: Outbox::new(1 << 20, 1 << 10),
            sent: HashSet::new(),
            now: Timestamp::from_secs(1000),
        }
    }

    pub fn with(children: impl IntoIterator<Item = ChildSa>) -> Self {
        let mut side = Side::new();
        children.into_iter().for_each(|child| side.install(child).unwrap());
        side
    }

    pub fn install(&mut self, child: ChildSa) -> Result<(), InstallError> {
        self.endpoint.install(child, self.now)
    }

    pub fn retire(&mut self, spi_in: u32, linger_secs: u64) {
        self.endpoint.retire(spi_in, Duration::from_secs(linger_secs), self.now);
    }

    pub fn seal(&mut self, packet: &[u8]) -> Result<Vec<u8>, DropReason> {
        self.seal_to(TUNNEL, packet)
    }

    pub fn seal_to(&mut self, tunnel: TunnelId, packet: &[u8]) -> Result<Vec<u8>, DropReason> {
        self.outbox.clear();
        self.endpoint.seal(tunnel, packet, &mut self.outbox)?;
        let [(_, data, bytes)] = self.outbox.datagrams().collect::<Vec<_>>()[..] else { panic!("one datagram") };
        assert!(data);
        let sealed = bytes.to_vec();
        assert!(self.sent.insert((spi_of(&sealed), sequence_of(&sealed))), "the same sequence number twice");
        Ok(sealed)
    }

    pub fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, Opened> {
        self.open_from(path(4500), sealed)
    }

    pub fn open_from(&mut self, path: Path, sealed: &[u8]) -> Result<Vec<u8>, Opened> {
        let mut out = vec![0; sealed.len()];
        match self.endpoint.open(Datagram::new(path, sealed), &mut out, self.now) {
            Opened::Packet { len, .. } => Ok(out[..len].to_vec()),
            other => Err(other),
        }
    }

    pub fn advance(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Lets timers run; what was sent.
    pub fn tick(&mut self) -> Vec<(Path, Vec<u8>)> {
        self.outbox.clear();
        self.endpoint.handle_timeout(&mut self.outbox, self.now);
        self.outbox.datagrams().map(|(path, _, bytes)| (path, bytes.to_vec())).collect()
    }

    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.endpoint.poll_event()).collect()
    }

    pub fn sa(&mut self, spi_in: u32) -> &mut Sa {
        let slot = self.endpoint.table.lookup(spi_in).unwrap();
        self.endpoint.table.get_mut(slot).unwrap()
    }

    pub fn status(&self) -> TunnelStatus {
        self.endpoint.status(TUNNEL).unwrap()
    }
}

/// Two sides that share one SA pair: SPI 0x1000 towards the first, 0x2000 towards the second.
pub fn pair() -> (Side, Side) {
    pair_with(|child| child)
}

pub fn pair_with(change: impl Fn(ChildSa) -> ChildSa) -> (Side, Side) {
    (Side::with([change(child(0x1000, 0x2000))]), Side::with([change(child(0x2000, 0x1000))]))
}

pub fn dropped(reason: DropReason) -> Opened {
    Opened::Dropped { reason, tunnel: None }
}

/// Dropped although authentic.
pub fn proved(reason: DropReason) -> Opened {
    Opened::Dropped { reason, tunnel: Some(TUNNEL) }
}

pub fn spi_of(sealed: &[u8]) -> u32 {
    u32::from_be_bytes(*sealed.first_chunk().unwrap())
}

pub fn sequence_of(sealed: &[u8]) -> u32 {
    u32::from_be_bytes(*sealed[4..].first_chunk().unwrap())
}

/// What a peer with the keys of SPI `spi` can send: any plaintext under any sequence number.
pub fn forge(spi: u32, sequence: u64, esn: bool, plaintext: &[u8]) -> Vec<u8> {
    let mut sealed = vec![0; esp::HEADER_BYTES + GCM.iv_bytes()];
    sealed[..4].copy_from_slice(&spi.to_be_bytes());
    sealed[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
    sealed.extend(plaintext);
    sealed.resize(sealed.len() + GCM.icv_bytes(), 0);
    key(GCM, spi).seal(Associated::Esp { spi, sequence, esn }, sequence, &mut sealed[esp::HEADER_BYTES..]);
    sealed
}

/// A payload with right padding and this next header.
pub fn plaintext(payload: &[u8], next_header: u8) -> Vec<u8> {
    let mut bytes = payload.to_vec();
    bytes.resize(esp::padded_bytes(payload.len(), GCM.block_bytes()), 0);
    esp::finish(&mut bytes, payload.len(), next_header);
    bytes
}
