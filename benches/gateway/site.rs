//! A site's gateway on real sockets: seals what its hosts send, counts what comes, and opens some of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ixgate::ike;
use ixgate::io::clock::Clock;
use ixgate::io::frames::{self, Choice, Driver};
use ixgate::io::udp::{Offload, RecvBatch, UdpSocket};
use ixgate::net::{InterfaceId, Path, Port, Selector};
use ixgate::packet::{Datagram, Outbox};
use ixgate::sim::appliance::Appliance;
use ixgate::sim::ipsec_site::{IpsecSite, Plan};
use ixgate::sim::peer::Peer;

use crate::ground::{NOBODY, Outcome, Side, port_mac};
use crate::tally::Tally;

pub const WIREGUARD_PORT: u16 = 51_820;
const IKE_PORT: u16 = 500;
const NAT_T_PORT: u16 = 4500;
const HANDSHAKE_RESPONSE: u8 = 2;
const PATIENCE: Duration = Duration::from_secs(10);
/// Most datagrams that are sealed and sent at once.
pub const MAX_BATCH: usize = 256;

/// How a site is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    WireGuard,
    /// ESP in UDP, by IKEv2 with a preshared key.
    Esp,
    /// Inner packets as the payload of UDP, in clear.
    Socket,
    /// Inner packets as Ethernet frames, in clear.
    Frames,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::WireGuard => "wg",
            Kind::Esp => "esp",
            Kind::Socket => "udp",
            Kind::Frames => "plain",
        }
    }
}

pub struct Site {
    pub kind: Kind,
    tunnel: Tunnel,
    /// Where data goes.
    path: Path,
    outbox: Outbox,
    batch: RecvBatch,
    clock: Clock,
}

enum Tunnel {
    WireGuard { peer: Box<Peer>, socket: UdpSocket },
    Esp { site: Box<IpsecSite>, ike: UdpSocket, nat_t: UdpSocket },
    Socket(UdpSocket),
    Frames { driver: Box<dyn Driver>, header: [u8; 14] },
}

/// What [`Site::take`] gives.
#[derive(Default)]
pub struct Taken {
    pub packets: Vec<Vec<u8>>,
    /// Handshakes of ours that were answered.
    pub handshakes: u64,
}

/// Who a site is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Of the realm.
    pub name: &'static str,
    pub side: Side,
    /// Of the site, on its side.
    pub number: u8,
    /// Where the gateway listens for WireGuard.
    pub wireguard_port: u16,
}

impl Site {
    pub fn open(kind: Kind, identity: &Identity, appliance: &Appliance, offload: Offload) -> Outcome<Self> {
        Self::open_with(kind, identity, appliance, offload, ike::Lifetimes::default())
    }

    pub fn open_with(
        kind: Kind,
        identity: &Identity,
        appliance: &Appliance,
        offload: Offload,
        lifetimes: ike::Lifetimes,
    ) -> Outcome<Self> {
        let outer = identity.side.site(identity.number);
        let bind = |port: Port, number: u16| UdpSocket::bind_for(port, SocketAddr::new(outer.into(), number), offload);
        let to =
            |port: Port, number: u16| Path::from_port(port, SocketAddr::new(identity.side.gateway().into(), number));
        let clock = Clock::start();
        let (tunnel, path) = match kind {
            Kind::WireGuard => {
                let key = appliance.site_key(identity.name);
                let number = u32::from(identity.number) + 16 * u32::from(identity.side == Side::B);
                let peer = Box::new(Peer::new(key, appliance.public_key, None, number));
                let socket = bind(Port::WireGuard, WIREGUARD_PORT)?;
                (Tunnel::WireGuard { peer, socket }, to(Port::WireGuard, identity.wireguard_port))
            }
            Kind::Esp => {
                let site = Box::new(IpsecSite::new(plan(identity, lifetimes), outer.into(), clock.now()));
                let (ike, nat_t) = (bind(Port::Ike, IKE_PORT)?, bind(Port::IkeNatT, NAT_T_PORT)?);
                (Tunnel::Esp { site, ike, nat_t }, to(Port::IkeNatT, NAT_T_PORT))
            }
            Kind::Socket => {
                (Tunnel::Socket(bind(Port::WireGuard, WIREGUARD_PORT)?), to(Port::WireGuard, WIREGUARD_PORT))
            }
            Kind::Frames => {
                let driver = frames::open(InterfaceId(0), identity.side.cable(), Choice::AfPacket)?;
                let mut header = [0; 14];
                header[..6].copy_from_slice(&port_mac(identity.side.port())?.0);
                header[6..12].copy_from_slice(&NOBODY.0);
                header[12] = 8;
                let path = driver.path();
                (Tunnel::Frames { driver, header }, path)
            }
        };
        let outbox = Outbox::new(MAX_BATCH * 2048, MAX_BATCH);
        Ok(Site { kind, tunnel, path, outbox, batch: RecvBatch::new(), clock })
    }

    /// Until the tunnel is up; a new handshake where there is one.
    pub fn connect(&mut self) -> Outcome<()> {
        let start = Instant::now();
        let mut tally = Tally { open_every: 1, ..Tally::default() };
        let mut next_try = start;
        loop {
            match &mut self.tunnel {
                Tunnel::WireGuard { peer, socket } if Instant::now() >= next_try => {
                    next_try += Duration::from_secs(1);
                    if let Some(datagram) = peer.initiate() {
                        send_one(socket, self.path, &datagram, &mut self.outbox);
                    }
                }
                Tunnel::WireGuard { .. } => {}
                Tunnel::Esp { site, ike, nat_t } => {
                    site.handle_timeout(self.clock.now());
                    carry(site, ike, nat_t, &mut self.outbox);
                }
                Tunnel::Socket(_) | Tunnel::Frames { .. } => return Ok(()),
            }
            self.drain(&mut tally, Instant::now())?;
            let is_up = match &self.tunnel {
                // Its age is not told in less than a second: that of an earlier handshake is longer, at worst it is the earlier.
                Tunnel::WireGuard { peer, .. } => peer.has_session() && start.elapsed() > Duration::from_millis(20),
                Tunnel::Esp { site, .. } => site.is_up(),
                Tunnel::Socket(_) | Tunnel::Frames { .. } => true,
            };
            if is_up {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("the {} tunnel does not come up{}", self.kind.name(), self.events()).into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn events(&self) -> String {
        match &self.tunnel {
            Tunnel::Esp { site, .. } => format!(": {}", site.events.join("; ")),
            _ => String::new(),
        }
    }

    /// What is due beside data. To be called a few times a second.
    pub fn tick(&mut self) {
        match &mut self.tunnel {
            Tunnel::Esp { site, ike, nat_t } => {
                site.handle_timeout(self.clock.now());
                carry(site, ike, nat_t, &mut self.outbox);
            }
            Tunnel::WireGuard { .. } | Tunnel::Socket(_) | Tunnel::Frames { .. } => {}
        }
    }

    /// Lets a WireGuard site go on shaking hands: boringtun takes ten messages of handshakes in a row, until its timers are asked.
    pub fn renew(&mut self) {
        if let Tunnel::WireGuard { peer, socket } = &mut self.tunnel
            && let Some(datagram) = peer.tick()
        {
            send_one(socket, self.path, &datagram, &mut self.outbox);
        }
    }

    /// A handshake initiation, where it is WireGuard.
    pub fn initiate(&mut self) {
        if let Tunnel::WireGuard { peer, socket } = &mut self.tunnel
            && let Some(datagram) = peer.initiate()
        {
            send_one(socket, self.path, &datagram, &mut self.outbox);
        }
    }

    /// The receiver index that its packets bear as it stands on the wire, where it is WireGuard.
    pub fn receiver(&mut self) -> Option<[u8; 4]> {
        let Tunnel::WireGuard { peer, .. } = &mut self.tunnel else { return None };
        peer.send(&[])?.get(4..8)?.try_into().ok()
    }

    /// Child SAs so far.
    pub fn children(&self) -> u64 {
        match &self.tunnel {
            Tunnel::Esp { site, .. } => site.events.iter().filter(|event| event.starts_with("child SA")).count() as u64,
            _ => 0,
        }
    }

    /// All that has come, opened.
    pub fn take(&mut self) -> Outcome<Taken> {
        let mut taken = Taken::default();
        match &mut self.tunnel {
            Tunnel::WireGuard { peer, socket } => {
                socket.recv_batch(&mut self.batch)?;
                for datagram in self.batch.datagrams() {
                    let opened = peer.receive(datagram.bytes);
                    let is_response = datagram.bytes.first() == Some(&HANDSHAKE_RESPONSE);
                    taken.handshakes += u64::from(is_response && !opened.refused);
                    taken.packets.extend(opened.packet);
                    for answer in opened.datagrams {
                        send_one(socket, self.path, &answer, &mut self.outbox);
                    }
                }
            }
            _ => {
                self.drain(&mut Tally::opening(1), Instant::now())?;
            }
        }
        Ok(taken)
    }

    /// Seals a packet, to be sent with the others by `flush`.
    pub fn seal(&mut self, packet: &[u8]) -> Outcome<()> {
        let (path, outbox) = (self.path, &mut self.outbox);
        let taken = match &mut self.tunnel {
            Tunnel::WireGuard { peer, .. } => {
                let datagram = peer.send(packet).ok_or("WireGuard has no session")?;
                outbox.push(path, true, &datagram)
            }
            Tunnel::Esp { site, .. } => {
                if !site.send(packet) {
                    return Err("ESP has no Child SA".into());
                }
                site.take_outgoing().iter().all(|(path, datagram)| outbox.push(*path, true, datagram))
            }
            Tunnel::Socket(_) => outbox.push(path, true, packet),
            Tunnel::Frames { header, .. } => {
                let len = header.len() + packet.len();
                let space = outbox.space(len);
                let is_room = space.is_some();
                if let Some(space) = space {
                    space[..header.len()].copy_from_slice(header);
                    space[header.len()..].copy_from_slice(packet);
                    outbox.commit(path, true, len);
                }
                is_room
            }
        };
        if taken { Ok(()) } else { Err("the outbox is too small".into()) }
    }

    /// Sends what was sealed: how many datagrams the kernel took.
    pub fn flush(&mut self) -> u64 {
        let report = match &mut self.tunnel {
            Tunnel::WireGuard { socket, .. } | Tunnel::Socket(socket) => socket.send(&self.outbox),
            Tunnel::Esp { nat_t, .. } => nat_t.send(&self.outbox),
            Tunnel::Frames { driver, .. } => driver.send_some(&self.outbox, &|_| true),
        };
        self.outbox.clear();
        report.sent_datagrams
    }

    /// Takes what has come: how many datagrams.
    pub fn drain(&mut self, tally: &mut Tally, epoch: Instant) -> Outcome<usize> {
        let mut all = 0;
        loop {
            let received = match &mut self.tunnel {
                Tunnel::WireGuard { peer, socket } => {
                    let received = socket.recv_batch(&mut self.batch)?;
                    let mut answers = Vec::new();
                    for datagram in self.batch.datagrams() {
                        let is_data = datagram.bytes.first() == Some(&4) && datagram.bytes.len() > 32;
                        if !is_data || tally.wants(datagram.bytes.len()) {
                            let opened = peer.receive(datagram.bytes);
                            answers.extend(opened.datagrams);
                            tally.note(opened.packet.as_deref(), is_data, epoch);
                        }
                    }
                    for answer in answers {
                        send_one(socket, self.path, &answer, &mut self.outbox);
                    }
                    received
                }
                Tunnel::Esp { site, ike, nat_t } => {
                    let mut received = ike.recv_batch(&mut self.batch)?;
                    for datagram in self.batch.datagrams() {
                        site.handle_input(datagram, self.clock.now());
                    }
                    received += nat_t.recv_batch(&mut self.batch)?;
                    for datagram in self.batch.datagrams() {
                        let is_data = datagram.bytes.len() > 4 && datagram.bytes[..4] != [0; 4];
                        if !is_data || tally.wants(datagram.bytes.len()) {
                            site.handle_input(datagram, self.clock.now());
                            let packet = site.inbox.pop();
                            if packet.is_none() && is_data {
                                tally
                                    .first_wrong
                                    .get_or_insert_with(|| site.events.last().cloned().unwrap_or_default());
                            }
                            tally.note(packet.as_deref(), is_data, epoch);
                        }
                    }
                    carry(site, ike, nat_t, &mut self.outbox);
                    received
                }
                Tunnel::Socket(socket) => {
                    let received = socket.recv_batch(&mut self.batch)?;
                    for Datagram { bytes, .. } in self.batch.datagrams() {
                        if tally.wants(bytes.len()) {
                            tally.note_plain(bytes, epoch);
                        }
                    }
                    received
                }
                Tunnel::Frames { driver, header } => {
                    let received = driver.receive()?;
                    for frame in (0..received).map(|index| driver.frame(index)) {
                        let is_ours = frame.starts_with(&NOBODY.0) && frame[12..14] == header[12..14];
                        if is_ours && tally.wants(frame.len()) {
                            tally.note(Some(&frame[header.len()..]), true, epoch);
                        }
                    }
                    received
                }
            };
            all += received;
            if received == 0 || all >= MAX_BATCH {
                return Ok(all);
            }
        }
    }
}

fn send_one(socket: &mut UdpSocket, path: Path, datagram: &[u8], outbox: &mut Outbox) {
    outbox.clear();
    if outbox.push(path, false, datagram) {
        socket.send(outbox);
    }
    outbox.clear();
}

fn carry(site: &mut IpsecSite, ike: &mut UdpSocket, nat_t: &mut UdpSocket, outbox: &mut Outbox) {
    for (path, datagram) in site.take_outgoing() {
        let socket = if path.port == Port::Ike { &mut *ike } else { &mut *nat_t };
        send_one(socket, path, &datagram, outbox);
    }
}

fn plan(identity: &Identity, lifetimes: ike::Lifetimes) -> Plan {
    let name = format!("{}.example", identity.name);
    Plan {
        psk: Appliance::psk(&name).into_bytes(),
        name,
        appliance: Some(SocketAddr::new(IpAddr::V4(identity.side.gateway()), IKE_PORT)),
        networks: vec![Selector::ANY4],
        reaches: vec![Selector::ANY4],
        encapsulation: ike::Encapsulation::Udp,
        profile: ike::Profile::Modern,
        lifetimes,
        seed: u64::from(Ipv4Addr::to_bits(identity.side.site(identity.number))),
    }
}
