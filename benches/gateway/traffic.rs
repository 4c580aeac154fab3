//! The hosts' packets, made ahead: what changes in one on its way out (time, sequence number) comes with its complement, so that
//! the checksum stays what it is.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use ixgate::sim::packets;

use crate::ground::{A_SEEN_BY_B, B_SEEN_BY_A, HOST_A, HOST_B};

/// Sessions of single packets.
const FLOWS: usize = 64;
const PORT: u16 = 5001;
const FIRST_SOURCE_PORT: u16 = 20_000;
const UDP_PAYLOAD: usize = 28;
const TCP_PAYLOAD: usize = 40;
const TCP_SEQUENCE: usize = 24;
const ECT_0: u8 = 2;

/// What is offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// UDP datagrams of many flows, which come one by one and are hard to join: sizes that go up by 16 bytes around this one, three of
    /// them (thirteen where it is large), the smallest with another ECN field than the largest before it. (A run is of one size and one
    /// traffic class, its last datagram may be shorter: who does not carry ECN to the outside may join two of each turn.)
    Single(usize),
    /// UDP datagrams of many flows and one size, which come one by one.
    Equal(usize),
    /// Segments of one TCP connection, as many in one message of the sender as it takes.
    Run(usize),
}

impl Load {
    pub fn name(self) -> String {
        match self {
            Load::Single(bytes) => format!("single {bytes}"),
            Load::Equal(bytes) => format!("equal {bytes}"),
            Load::Run(_) => "run".to_owned(),
        }
    }

    /// What the hosts' programs get out of a packet.
    pub fn payload_bytes(self) -> usize {
        match self {
            Load::Single(bytes) | Load::Equal(bytes) => bytes - UDP_PAYLOAD,
            Load::Run(bytes) => bytes - TCP_PAYLOAD,
        }
    }
}

/// Packets of a load, without end.
pub struct Source {
    templates: Vec<Vec<u8>>,
    next: usize,
    /// Where the time goes.
    payload: usize,
    /// Of the next segment, where it is TCP.
    sequence: Option<u32>,
}

impl Source {
    pub fn new(load: Load) -> Self {
        let udp = |flow: usize, bytes: usize| {
            let from = (IpAddr::from(HOST_A), FIRST_SOURCE_PORT + flow as u16);
            let payload = with_complements(bytes - UDP_PAYLOAD);
            packets::udp(from, (B_SEEN_BY_A.into(), PORT), &payload)
        };
        let templates = match load {
            Load::Single(bytes) => (0..FLOWS * sizes(bytes))
                .map(|number| {
                    let step = number % sizes(bytes);
                    let mut packet = udp(number % FLOWS, bytes - sizes(bytes) / 2 * 16 + step * 16);
                    if step == 0 {
                        packet[1] = ECT_0;
                        packets::set_dont_fragment(&mut packet, false);
                    }
                    packet
                })
                .collect(),
            Load::Equal(bytes) => (0..FLOWS).map(|flow| udp(flow, bytes)).collect(),
            Load::Run(bytes) => vec![tcp_from_a(0, 1, ACK, &with_complements(bytes - TCP_PAYLOAD))],
        };
        let sequence = matches!(load, Load::Run(_)).then_some(1);
        let payload = if sequence.is_some() { TCP_PAYLOAD } else { UDP_PAYLOAD };
        Source { templates, next: 0, payload, sequence }
    }

    /// After how many packets their sizes come again.
    pub fn period(load: Load) -> usize {
        match load {
            Load::Single(bytes) => sizes(bytes),
            Load::Equal(_) | Load::Run(_) => 1,
        }
    }

    /// The next packet, sent at this time.
    pub fn next(&mut self, now: Stamp) -> &[u8] {
        let at = self.next;
        self.next = (at + 1) % self.templates.len();
        let (packet, payload) = (&mut self.templates[at], self.payload);
        if let Some(sequence) = &mut self.sequence {
            packet[TCP_SEQUENCE..TCP_SEQUENCE + 4].copy_from_slice(&sequence.to_be_bytes());
            packet[payload + 8..payload + 12].copy_from_slice(&(!*sequence).to_be_bytes());
            *sequence = sequence.wrapping_add((packet.len() - payload) as u32);
        }
        packet[payload..payload + 4].copy_from_slice(&now.0.to_be_bytes());
        packet[payload + 4..payload + 8].copy_from_slice(&(!now.0).to_be_bytes());
        packet
    }
}

/// How many a load of single packets has; odd, and prime to [`FLOWS`].
fn sizes(bytes: usize) -> usize {
    if bytes < 200 { 3 } else { 13 }
}

/// Places of time and sequence number hold zeros and ones: what they are given later sums up to the same.
fn with_complements(bytes: usize) -> Vec<u8> {
    let mut payload = vec![0x5a; bytes];
    payload[..4].fill(0);
    payload[4..8].fill(0xff);
    // A sequence number's complement; the number itself is 0 in the packet that the checksum is made of, or 1 beside it.
    if let Some(place) = payload.get_mut(8..12) {
        place.fill(0xff);
    }
    payload
}

const SYN: u8 = 2;
const ACK: u8 = 0x10;

/// How the connection of [`Load::Run`] is opened: from A, from B, from A.
pub fn opening() -> [Vec<u8>; 3] {
    let answer =
        packets::segment((HOST_B.into(), PORT), (A_SEEN_BY_B.into(), FIRST_SOURCE_PORT), (0, 1), SYN | ACK, &[]);
    [tcp_from_a(0, 0, SYN, &[]), answer, tcp_from_a(1, 1, ACK, &[])]
}

fn tcp_from_a(sequence: u32, acknowledged: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let ends =
        [(HOST_A, FIRST_SOURCE_PORT), (B_SEEN_BY_A, PORT)].map(|(host, port): (Ipv4Addr, u16)| (host.into(), port));
    packets::segment(ends[0], ends[1], (sequence, acknowledged), flags, payload)
}

/// Nanoseconds since some moment, modulo 2^32 (4.3 s).
#[derive(Clone, Copy, Debug)]
pub struct Stamp(pub u32);

impl Stamp {
    pub fn now(epoch: Instant) -> Self {
        Stamp(epoch.elapsed().as_nanos() as u32)
    }
}

/// Source and destination of what A sends, and of what B gets.
pub const AS_SENT: [Ipv4Addr; 2] = [HOST_A, B_SEEN_BY_A];
pub const TRANSLATED: [Ipv4Addr; 2] = [A_SEEN_BY_B, HOST_B];

/// When a packet was sent that has come out between `ends`. `Err`: it is not what it should be.
pub fn sent_at(packet: &[u8], ends: [Ipv4Addr; 2]) -> Result<Stamp, String> {
    let headers = packets::verify(packet)?;
    if [headers.source, headers.destination] != ends.map(IpAddr::from) {
        return Err(format!("from {} to {}", headers.source, headers.destination));
    }
    let payload = if packet[9] == 6 { TCP_PAYLOAD } else { UDP_PAYLOAD };
    let word = |at: usize| packet.get(at..at + 4).map(|bytes| u32::from_be_bytes(bytes.try_into().expect("four")));
    match (word(payload), word(payload + 4)) {
        (Some(time), Some(complement)) if time == !complement => Ok(Stamp(time)),
        _ => Err("no time in it".to_owned()),
    }
}
