//! One ESP endpoint, and a peer that has the keys but writes into its packets what the input says.
//!
//! Nothing comes out that was not sealed, nothing twice, nothing that the selectors do not cover, and nothing that is not
//! as long as it says.
//!
//! The keys come from the whole script. With fixed ones a packet sealed in one run could be written into the next script (the
//! fuzzer remembers what was compared), and then it is authentic though this run's peer did not seal it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ixgate::crypto::{Associated, Cipher, Integrity, PacketKey, Suite};
use ixgate::ipsec::{ChildSa, Dscp, Endpoint, Event, Lifetime, Limits, Outbound};
use ixgate::net::random::{Random, Seeded};
use ixgate::net::{Path, Port, Selector, Timestamp, TunnelId};
use ixgate::packet::{Datagram, Opened, Outbox};

use super::script::Script;

const TUNNEL: TunnelId = TunnelId(1);
const SPI: u32 = 0x0102_0304;
const MAX_SENT: usize = 64;

pub fn open(bytes: &[u8]) {
    let mut script = Script(bytes);
    let (Some(setting), Some(start)) = (script.u8(), script.u8()) else { return };
    let mut world = World::new(setting, start, bytes);
    while world.perform(&mut script).is_some() {
        assert!(world.endpoint.sa_count() <= 1);
        while let Some(event) = world.endpoint.poll_event() {
            assert!(!matches!(event, Event::Moved { moves: 0, .. }));
        }
    }
}

struct World {
    endpoint: Endpoint,
    suite: Suite,
    key: PacketKey,
    esn: bool,
    /// The peer's number; it may jump.
    sequence: u64,
    /// Sealed packets, and whether each has come out.
    sent: Vec<Vec<u8>>,
    opened: HashMap<Vec<u8>, bool>,
    now: Timestamp,
}

impl World {
    fn new(setting: u8, start: u8, script: &[u8]) -> World {
        let suite = [
            Suite { cipher: Cipher::AesGcm128, integrity: None },
            Suite { cipher: Cipher::ChaCha20Poly1305, integrity: None },
            Suite { cipher: Cipher::AesCbc256, integrity: Some(Integrity::HmacSha256_128) },
            Suite { cipher: Cipher::AesCbc128, integrity: Some(Integrity::HmacSha512_256) },
        ][usize::from(setting & 3)];
        let esn = setting & 4 != 0;
        let mut world = World {
            endpoint: Endpoint::new(Limits::default(), 7),
            suite,
            key: key(suite, 1, script),
            esn,
            sequence: if esn { 0 } else { u64::from(start) << 24 },
            sent: Vec::new(),
            opened: HashMap::new(),
            now: Timestamp::from_secs(100),
        };
        let child = ChildSa {
            tunnel: TUNNEL,
            spi_in: SPI,
            spi_out: 0x0a0b_0c0d,
            key_in: key(suite, 1, script),
            key_out: key(suite, 2, script),
            esn,
            replay_window: if setting & 8 != 0 { 64 } else { 1024 },
            ours: vec![net("10.0.0.0/8"), net("fd00::/8")],
            theirs: vec![net("192.168.0.0/16"), net("fd01::/16")],
            path: path(1),
            follow_path: setting & 16 != 0,
            lifetime: if setting & 32 != 0 { Lifetime { packets: 20, bytes: 10_000 } } else { Lifetime::UNLIMITED },
            dscp: Dscp::Copy,
            ecn: setting & 64 != 0,
            outbound: if setting & 128 != 0 { Outbound::WhenHeard } else { Outbound::Now },
        };
        world.endpoint.install(child, world.now).expect("it can be installed");
        world
    }

    /// `None`: the script is over.
    fn perform(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (deed, from) = (script.u8()?, script.u8()?);
        match deed % 8 {
            0 => {
                let len = usize::from(script.u8()?);
                let bytes = script.bytes(len).to_vec();
                self.arrive(&bytes, from);
            }
            1..=3 => {
                let len = usize::from(script.u16()?) % 2048;
                let sealed = self.seal(script.bytes(len));
                self.arrive(&sealed, from);
            }
            4 => {
                let (which, offset, mask) = (script.u8()?, script.u16()?, script.u8()?);
                let Some(mut sealed) = self.sent(which) else { return Some(()) };
                let at = usize::from(offset) % sealed.len();
                sealed[at] ^= mask;
                self.arrive(&sealed, from);
            }
            5 => {
                let (which, len) = (script.u8()?, usize::from(script.u16()?));
                let Some(mut sealed) = self.sent(which) else { return Some(()) };
                sealed.truncate(len % (sealed.len() + 1));
                self.arrive(&sealed, from);
            }
            6 => {
                let jump = 1u64 << (script.u8()? % 33);
                let most = if self.esn { u64::MAX / 2 } else { u64::from(u32::MAX) - 1 };
                self.sequence = (self.sequence + jump).min(most);
            }
            _ => {
                self.now = self.now + Duration::from_secs(from.into());
                let mut outbox = Outbox::new(1 << 12, 16);
                self.endpoint.handle_timeout(&mut outbox, self.now);
                assert!(self.endpoint.poll_timeout().is_none_or(|(at, _)| at > self.now));
                if from == 255 {
                    self.endpoint.retire(SPI, Duration::from_secs(10), self.now);
                }
            }
        }
        Some(())
    }

    fn sent(&self, which: u8) -> Option<Vec<u8>> {
        self.sent.get(usize::from(which).checked_rem(self.sent.len())?).cloned()
    }

    /// `plaintext` from the inner packet to the trailer, cut to what the cipher takes.
    fn seal(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let block = self.suite.block_bytes();
        let plaintext = &plaintext[..plaintext.len() - plaintext.len() % block];
        self.sequence += u64::from(self.esn || self.sequence < u64::from(u32::MAX));
        let iv = vec![0; self.suite.iv_bytes()];
        let mut body = [&iv, plaintext, &vec![0; self.suite.icv_bytes()]].concat();
        let associated = Associated::Esp { spi: SPI, sequence: self.sequence, esn: self.esn };
        self.key.seal(associated, self.sequence, &mut body);
        let sealed = [&SPI.to_be_bytes()[..], &(self.sequence as u32).to_be_bytes(), &body].concat();
        if self.sent.len() == MAX_SENT {
            self.sent.remove(0);
        }
        self.sent.push(sealed.clone());
        self.opened.entry(sealed.clone()).or_insert(false);
        sealed
    }

    fn arrive(&mut self, bytes: &[u8], from: u8) {
        let mut out = vec![0; bytes.len()];
        let datagram = Datagram { ecn: from & 3, ..Datagram::new(path(from), bytes) };
        match self.endpoint.open(datagram, &mut out, self.now) {
            Opened::Packet { tunnel, len } => {
                assert_eq!(tunnel, TUNNEL);
                self.comes_out_once(bytes);
                is_allowed(&out[..len]);
            }
            Opened::Keepalive { tunnel } | Opened::Dropped { tunnel: Some(tunnel), .. } => {
                assert_eq!(tunnel, TUNNEL);
                self.comes_out_once(bytes);
            }
            Opened::Dropped { tunnel: None, .. } => {}
            Opened::Control => panic!("ESP has no messages of its own"),
        }
    }

    fn comes_out_once(&mut self, bytes: &[u8]) {
        let opened = self.opened.get_mut(bytes).expect("it was sealed by the peer, and is as it was");
        assert!(!std::mem::replace(opened, true), "a packet comes out twice");
    }
}

/// What came out is a packet from the peer's networks to ours, as long as it says.
fn is_allowed(packet: &[u8]) {
    let address = |at: usize, len: usize| -> IpAddr {
        match <[u8; 16]>::try_from(&packet[at..at + len]) {
            Ok(v6) => v6.into(),
            Err(_) => <[u8; 4]>::try_from(&packet[at..at + len]).expect("four bytes").into(),
        }
    };
    let field = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    let (length, source, destination) = match packet[0] >> 4 {
        4 => (field(2), address(12, 4), address(16, 4)),
        6 => (40 + field(4), address(8, 16), address(24, 16)),
        version => panic!("version {version}"),
    };
    assert_eq!(length, packet.len());
    let within = |ip: IpAddr, v4: u8, v6: [u8; 2], bits: u32| match ip {
        IpAddr::V4(ip) => ip.octets()[0] == v4,
        IpAddr::V6(ip) => (u16::from_be_bytes(v6) ^ ip.segments()[0]) >> (16 - bits) == 0,
    };
    assert!(within(source, 192, [0xfd, 1], 16), "from {source}");
    assert!(within(destination, 10, [0xfd, 0], 8), "to {destination}");
}

fn key(suite: Suite, which: u8, script: &[u8]) -> PacketKey {
    let mut hasher = DefaultHasher::new();
    (which, script).hash(&mut hasher);
    let mut random = Seeded(hasher.finish());
    let mut bytes = |len: usize| {
        let mut bytes = vec![0; len];
        random.fill(&mut bytes);
        bytes
    };
    PacketKey::new(suite, &bytes(suite.cipher_key_bytes()), &bytes(suite.integrity_key_bytes())).expect("lengths fit")
}

fn net(text: &str) -> Selector {
    Selector::from_net(text.parse().expect("a network"))
}

fn path(from: u8) -> Path {
    Path::from_port(Port::IkeNatT, SocketAddr::from(([198, 51, 100, from >> 2], 4500)))
}
