//! One endpoint and the carriers' gateways around it, passing datagrams by hand.

use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::random;
use crate::net::{Path, Timestamp, TunnelId};
use crate::packet::{Datagram, DropReason, Outbox};
use crate::sim::virtual_time;
use crate::wireguard::peer::Peer;
use crate::wireguard::{Endpoint, Event, Opened, PeerConfig, PeerStatus, public_key};

pub const IX_KEY: [u8; 32] = [0x11; 32];
pub const PSK: [u8; 32] = [0x77; 32];
pub const MTU_BYTES: u16 = 1420;
pub const UNIX_TIME_AT_ZERO: Duration = Duration::from_secs(1_800_000_000);

pub struct World {
    pub endpoint: Endpoint,
    pub outbox: Outbox,
    pub now: Timestamp,
    pub out: Vec<u8>,
}

impl World {
    pub fn new(peers: &[PeerConfig]) -> Self {
        Self::with_rate(peers, 1000)
    }

    pub fn with_rate(peers: &[PeerConfig], handshakes_per_sec: u32) -> Self {
        #[cfg(feature = "sim")]
        virtual_time::restart_boringtun_clock();
        Self::with_key(IX_KEY, peers, handshakes_per_sec)
    }

    /// Another endpoint than the usual one.
    pub fn with_key(key: [u8; 32], peers: &[PeerConfig], handshakes_per_sec: u32) -> Self {
        let now = Timestamp::ZERO;
        let endpoint = endpoint(key, handshakes_per_sec, now);
        let mut world = World { endpoint, outbox: Outbox::new(1 << 20, 1000), now, out: vec![0; 2048] };
        world.configure(peers);
        world
    }

    /// What a restart leaves: nothing, and another seed.
    pub fn restart(&mut self, peers: &[PeerConfig]) {
        self.endpoint = endpoint(IX_KEY, 1000, self.now);
        self.configure(peers);
    }

    /// Time passes, without the endpoint's timers being looked at. Without feature `sim`, boringtun does not notice.
    pub fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        #[cfg(feature = "sim")]
        virtual_time::advance_boringtun_clock(self.now);
    }

    pub fn configure(&mut self, peers: &[PeerConfig]) {
        self.endpoint.configure(peers, self.now);
    }

    pub fn open(&mut self, path: Path, bytes: &[u8]) -> Opened {
        self.endpoint.open(Datagram::new(path, bytes), &mut self.out, &mut self.outbox, self.now)
    }

    pub fn seal(&mut self, tunnel: TunnelId, packet: &[u8]) -> Result<(), DropReason> {
        self.endpoint.seal(tunnel, packet, &mut self.outbox)
    }

    pub fn seal_probe(&mut self, tunnel: TunnelId, packet: &[u8], padded_bytes: usize) -> bool {
        self.endpoint.seal_probe(tunnel, packet, padded_bytes, &mut self.outbox)
    }

    pub fn take_touched(&mut self) -> Vec<TunnelId> {
        self.endpoint.take_touched().into_iter().collect()
    }

    /// As if something had happened to every peer.
    pub fn look_at_all(&mut self) {
        let Endpoint { peers, shared, .. } = &mut self.endpoint;
        peers.iter().flatten().for_each(|peer| shared.look_at(peer.config().tunnel));
    }

    pub fn tick(&mut self) {
        self.endpoint.handle_timeout(&mut self.outbox, self.now);
    }

    /// Takes what the endpoint wants sent.
    pub fn sent(&mut self) -> Vec<(Path, bool, Vec<u8>)> {
        let sent = self.outbox.datagrams().map(|(path, data, bytes)| (path, data, bytes.to_vec())).collect();
        self.outbox.clear();
        sent
    }

    /// Takes the only datagram that the endpoint wants sent.
    #[track_caller]
    pub fn sent_one(&mut self) -> (Path, bool, Vec<u8>) {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{:?}", sent.iter().map(|(p, d, b)| (p, d, b.len())).collect::<Vec<_>>());
        sent.remove(0)
    }

    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.endpoint.poll_event()).collect()
    }

    pub fn peer(&mut self, tunnel: TunnelId) -> &mut Peer {
        self.endpoint.peers[tunnel.index()].as_mut().unwrap()
    }

    /// Indices in use.
    pub fn indices(&self) -> usize {
        self.endpoint.shared.indices.len()
    }

    pub fn status(&self, tunnel: TunnelId) -> PeerStatus {
        self.endpoint.status(tunnel).unwrap()
    }

    /// A whole handshake that the gateway initiates, by `path`.
    #[track_caller]
    pub fn connect(&mut self, gateway: &mut Gateway, path: Path) {
        self.advance(Duration::from_millis(20)); // else it were too soon after the last one
        let initiation = gateway.initiate();
        assert_eq!(self.open(path, &initiation), Opened::Control);
        let (to, data, response) = self.sent_one();
        assert_eq!((to, data, response.len()), (path, false, 92));
        let confirmation = gateway.receive(&response).expect("a confirmation");
        assert_eq!(self.open(path, &confirmation), Opened::Keepalive { tunnel: gateway.tunnel });
    }

    /// The endpoint opens it as a packet; gives the packet back.
    #[track_caller]
    pub fn packet_from(&mut self, path: Path, datagram: &[u8], tunnel: TunnelId) -> Vec<u8> {
        match self.open(path, datagram) {
            Opened::Packet { tunnel: by, len } if by == tunnel => self.out[..len].to_vec(),
            other => panic!("{other:?}"),
        }
    }
}

fn endpoint(key: [u8; 32], handshakes_per_sec: u32, now: Timestamp) -> Endpoint {
    let random = random(u64::from(key[0]) << 56 | now.as_micros());
    Endpoint::new(&Zeroizing::new(key), handshakes_per_sec, random, UNIX_TIME_AT_ZERO, now)
}

/// A carrier's WireGuard gateway: raw boringtun.
pub struct Gateway {
    pub tunnel: TunnelId,
    pub tunn: Tunn,
}

impl Gateway {
    /// Number `n` has private key `[n; 32]` and is tunnel `n`.
    pub fn new(n: u8, preshared_key: Option<[u8; 32]>) -> Self {
        Self::calling(n, preshared_key, public_key(&IX_KEY))
    }

    pub fn calling(n: u8, preshared_key: Option<[u8; 32]>, ix_public_key: [u8; 32]) -> Self {
        let mut tunn = virtual_time::at_origin(|| {
            let (private, public) = (StaticSecret::from([n; 32]), PublicKey::from(ix_public_key));
            Tunn::new(private, public, preshared_key, None, 0x0a_bc00 | u32::from(n), None)
        });
        let _ = tunn.update_timers(&mut [0; 256]);
        Gateway { tunnel: TunnelId(n.into()), tunn }
    }

    pub fn initiate(&mut self) -> Vec<u8> {
        written(self.tunn.format_handshake_initiation(&mut [0; 256], true)).expect("an initiation")
    }

    pub fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        written(self.tunn.encapsulate(packet, &mut [0; 4096])).expect("a data message")
    }

    /// A protocol message; what has to be sent back, if anything.
    pub fn receive(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        written(self.tunn.decapsulate(None, datagram, &mut [0; 4096]))
    }

    /// A data message; the packet in it.
    #[track_caller]
    pub fn open(&mut self, datagram: &[u8]) -> Vec<u8> {
        match self.tunn.decapsulate(None, datagram, &mut [0; 4096]) {
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => packet.to_vec(),
            other => panic!("{other:?}"),
        }
    }
}

fn written(result: TunnResult<'_>) -> Option<Vec<u8>> {
    match result {
        TunnResult::WriteToNetwork(bytes) => Some(bytes.to_vec()),
        _ => None,
    }
}

/// The configuration of [`Gateway::new`]`(n, None)`, which calls us.
pub fn config(n: u8) -> PeerConfig {
    PeerConfig {
        tunnel: TunnelId(n.into()),
        public_key: public_key(&[n; 32]),
        preshared_key: None,
        endpoint: None,
        keepalive: None,
        mtu_bytes: MTU_BYTES,
    }
}

/// The same, called by us.
pub fn called(n: u8) -> PeerConfig {
    PeerConfig { endpoint: Some(path(n.into()).remote), ..config(n) }
}

pub fn path(port: u16) -> Path {
    Path::to(([203, 0, 113, 1], port).into())
}

/// An IPv4 packet of so many bytes.
pub fn packet(len: usize) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..len).map(|i| i as u8).collect();
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet
}
