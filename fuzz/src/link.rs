//! Ports on links where anybody says anything: two of the same addresses, one of them tagged, and a TUN device.
//!
//! Every frame of ours is whole and leaves by its own port's interface with its tags, what walks is a packet by its own length,
//! every packet that was taken is sent, waiting or told to be lost, and all tables keep their bounds. The first byte chooses the
//! ports' manners; then come [deeds](World::perform). Stations of odd numbers are honest: they answer our questions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ixgate::link::{Bfd, Endpoint, EthernetConfig, Liveness, Medium, PortConfig, Route, nd};
use ixgate::net::random::Seeded;
use ixgate::net::{self, InterfaceId, LinkReport, Mac, Path, RealmId, Timestamp, TunnelId, VlanTags};
use ixgate::packet::{Opened, Outbox};
use ixgate::sim::packets::{echo, udp};
use ixgate::wire::arp::{self, Operation, Packet};
use ixgate::wire::ethernet::{self, MAX_HEADER_BYTES, ether_type};

use super::script::Script;

const PLAIN: InterfaceId = InterfaceId(0);
const TAGGED: InterfaceId = InterfaceId(1);
const TUN: InterfaceId = InterfaceId(2);
const TAGS: VlanTags = VlanTags { service: Some(200), customer: Some(100) };
const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
const MAX_DEEDS: usize = 400;

/// How many packets walked or left.
pub fn link(bytes: &[u8]) -> usize {
    let mut script = Script(bytes);
    let Some(setting) = script.u8() else { return 0 };
    let mut world = World::new(setting);
    for _ in 0..MAX_DEEDS {
        if world.perform(&mut script).is_none() {
            break;
        }
        world.is_bounded();
    }
    world.come_to_rest();
    world.passed
}

struct World {
    endpoint: Endpoint,
    outbox: Outbox,
    now: Timestamp,
    setting: u8,
    is_up: bool,
    passed: usize,
    /// By their ports: taken, sent, and told to be lost.
    taken: u64,
    sent: u64,
    lost: u64,
}

impl World {
    fn new(setting: u8) -> World {
        let mut world = World {
            endpoint: Endpoint::new(Box::new(Seeded(1))),
            outbox: Outbox::new(1 << 16, 512),
            now: Timestamp::from_secs(100),
            setting,
            is_up: false,
            passed: 0,
            taken: 0,
            sent: 0,
            lost: 0,
        };
        world.endpoint.configure(ports(setting), world.now);
        world.flap();
        world.run(Duration::from_secs(5));
        world
    }

    /// `None`: the script is over.
    fn perform(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (deed, who, whom) = (script.u8()?, script.u8()?, script.u8()?);
        let interface = if deed & 0x80 == 0 { PLAIN } else { TAGGED };
        match deed & 0x0f {
            0 => {
                let bytes = script.bytes(usize::from(who));
                self.hear(if whom & 1 == 0 { Path::frames(interface) } else { Path::tun(TUN) }, bytes);
            }
            1..=3 => self.hear(Path::frames(interface), &arp(interface, deed, who, whom)),
            4..=6 => self.hear(Path::frames(interface), &discovery(interface, deed, who, whom)),
            7 => self.hear(Path::frames(interface), &to_us(interface, deed, who, whom)),
            8..=11 => {
                let tunnel = TunnelId(u32::from(deed >> 7) + u32::from(deed & 0x40 != 0));
                let to = if deed & 0x20 == 0 { station(who) } else { station6(who) };
                self.seal(tunnel, &packet(to, usize::from(whom)));
            }
            12 | 13 => self.run(Duration::from_millis(u64::from(who) << (whom % 8))),
            14 if whom & 1 == 0 => self.flap(),
            14 => {
                self.setting = who;
                self.endpoint.configure(ports(who), self.now);
            }
            _ => {
                let mut frame = arp(interface, deed, who, whom);
                let at = usize::from(who) % frame.len();
                frame[at] ^= whom | 1;
                self.hear(Path::frames(interface), &frame);
            }
        }
        self.deliver();
        Some(())
    }

    fn flap(&mut self) {
        self.is_up = !self.is_up;
        for interface in [PLAIN, TAGGED, TUN] {
            let report = LinkReport { interface, is_up: self.is_up, mac: OURS, mtu_bytes: 1500 };
            self.endpoint.handle_link(report, self.now);
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, _)) = self.endpoint.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.endpoint.handle_timeout(&mut self.outbox, self.now);
            assert!(self.endpoint.poll_timeout().is_none_or(|(at, _)| at > self.now), "it does not come to an end");
            self.deliver();
        }
        self.now = end;
    }

    fn hear(&mut self, path: Path, bytes: &[u8]) {
        let mut out = [0; 2048];
        match self.endpoint.open(path.port, bytes, &mut out, &mut self.outbox, self.now) {
            Opened::Packet { tunnel, len } => {
                let packet = &out[..len];
                let said = match packet[0] >> 4 {
                    4 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
                    6 => 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
                    version => panic!("IP version {version}"),
                };
                assert!(said == len && self.endpoint.serves(tunnel));
                self.passed += 1;
            }
            Opened::Control | Opened::Dropped { .. } => {}
            Opened::Keepalive { .. } => panic!("ports have none"),
        }
    }

    fn seal(&mut self, tunnel: TunnelId, packet: &[u8]) {
        let by = RealmId(packet.len() as u16 % 16);
        self.taken += u64::from(self.endpoint.seal(tunnel, by, packet, &mut self.outbox).is_ok());
    }

    /// What was sent arrives, and honest stations answer.
    fn deliver(&mut self) {
        while !self.outbox.is_empty() {
            let sent: Vec<_> =
                self.outbox.datagrams().map(|(path, data, bytes)| (path, data, bytes.to_vec())).collect();
            self.outbox.clear();
            for (path, data, bytes) in sent {
                self.sent += u64::from(data);
                self.passed += usize::from(data);
                if let net::Port::Frames(interface) = path.port
                    && let Some(answer) = answer(interface, &bytes)
                {
                    self.hear(path, &answer);
                }
            }
        }
        while let Some(lost) = self.endpoint.poll_lost() {
            assert!(lost.packets > 0);
            self.lost += lost.packets;
        }
        while self.endpoint.poll_event().is_some() {}
        assert_eq!(self.endpoint.events_lost(), 0);
    }

    fn is_bounded(&self) {
        for tunnel in 0..3 {
            let Some(status) = self.endpoint.status(TunnelId(tunnel)) else { continue };
            assert!(status.neighbours <= status.neighbours_max && status.waiting <= 64);
            assert!(status.down.is_none() == self.endpoint.is_up(TunnelId(tunnel)));
        }
    }

    /// Nobody waits forever, and nothing got lost without a word.
    fn come_to_rest(&mut self) {
        self.run(Duration::from_secs(30));
        self.deliver();
        let waiting: usize =
            (0..3).filter_map(|tunnel| self.endpoint.status(TunnelId(tunnel))).map(|port| port.waiting).sum();
        assert_eq!(waiting, 0);
        assert_eq!(self.taken, self.sent + self.lost);
    }
}

fn ports(setting: u8) -> Vec<PortConfig> {
    let bfd = Bfd { is_active: true, interval: Duration::from_millis(300), multiplier: 3 };
    let ethernet = |vlan| EthernetConfig {
        vlan,
        addresses: vec!["172.20.0.2/24".parse().unwrap(), "2001:db8:9::2/64".parse().unwrap()],
        gateways: if setting & 1 == 0 { vec![station(1), station6(1)] } else { vec![] },
        routes: vec![Route { prefix: "10.7.0.0/16".parse().unwrap(), via: station(3) }],
        networks: vec!["172.20.0.0/16".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        accept_ra: setting & 2 != 0,
        proxy: if setting & 4 != 0 { vec!["172.20.0.64/26".parse().unwrap()] } else { vec![] },
        liveness: Liveness::default(),
        bfd: (setting & 0x18 == 0x18).then_some(bfd),
        speakers: Default::default(),
    };
    let place = |tunnel, interface, medium| PortConfig { tunnel: TunnelId(tunnel), interface, medium, mtu_bytes: 1500 };
    let mut ports = vec![
        place(0, PLAIN, Medium::Ethernet(Box::new(ethernet(VlanTags::default())))),
        place(1, TAGGED, Medium::Ethernet(Box::new(ethernet(TAGS)))),
        place(2, TUN, Medium::Tun),
    ];
    if setting & 0x20 != 0 {
        ports.remove(1);
    }
    ports
}

fn station(who: u8) -> IpAddr {
    if who >= 250 { [10, 7, 0, who].into() } else { [172, 20, who >> 7, who].into() }
}

fn station6(who: u8) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, u16::from(who >> 7), u16::from(who)).into()
}

fn v4(address: IpAddr) -> Ipv4Addr {
    let IpAddr::V4(address) = address else { panic!("{address} is no IPv4") };
    address
}

fn v6(address: IpAddr) -> Ipv6Addr {
    let IpAddr::V6(address) = address else { panic!("{address} is no IPv6") };
    address
}

fn mac(who: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, who])
}

fn packet(to: IpAddr, len: usize) -> Vec<u8> {
    let from = if to.is_ipv4() { [192, 168, 0, 1].into() } else { Ipv6Addr::LOCALHOST.into() };
    udp((from, 5000), (to, 53), &vec![0; len])
}

fn frame(interface: InterfaceId, to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    let tags = if interface == TAGGED { TAGS } else { VlanTags::default() };
    let mut header = [0; MAX_HEADER_BYTES];
    let len = ethernet::emit(&mut header, to, from, tags, kind);
    [&header[..len], payload].concat()
}

/// `who` asks for `whom`, answers as him, or announces himself; from his own hardware address or another.
fn arp(interface: InterfaceId, deed: u8, who: u8, whom: u8) -> Vec<u8> {
    let sender_mac = if deed & 0x40 == 0 { mac(who) } else { mac(whom) };
    let operation = if deed & 0x0f == 2 { Operation::Reply } else { Operation::Request };
    let target = if deed & 0x0f == 3 { who } else { whom };
    let to = if deed & 0x10 == 0 { OURS } else { Mac::BROADCAST };
    let sender = if deed & 0x20 == 0 { v4(station(who)) } else { Ipv4Addr::UNSPECIFIED };
    let packet = Packet { operation, sender_mac, sender, target_mac: to, target: v4(station(target)) };
    frame(interface, to, sender_mac, ether_type::ARP, &arp::emit(&packet))
}

/// The same in IPv6.
fn discovery(interface: InterfaceId, deed: u8, who: u8, whom: u8) -> Vec<u8> {
    let from_mac = if deed & 0x40 == 0 { mac(who) } else { mac(whom) };
    let (from, target) = (v6(station6(who)), v6(station6(whom)));
    let mut out = [0; 200];
    let (len, to) = match deed & 0x0f {
        4 if deed & 0x20 == 0 => nd::emit_solicitation(&mut out, from, target, from_mac, false),
        4 => nd::emit_solicitation(&mut out, Ipv6Addr::UNSPECIFIED, target, from_mac, false),
        kind => {
            let is_answer = kind == 5;
            let destination = if is_answer { v6(station6(2)) } else { nd::ALL_NODES };
            let is_override = deed & 0x10 == 0;
            let len = nd::emit_advertisement(&mut out, from, destination, from, from_mac, is_answer, is_override, true);
            (len, if is_answer { OURS } else { nd::group_mac(nd::ALL_NODES) })
        }
    };
    frame(interface, to, from_mac, ether_type::IPV6, &out[..len])
}

/// Ping, BFD's port, or something to walk.
fn to_us(interface: InterfaceId, deed: u8, who: u8, whom: u8) -> Vec<u8> {
    let (from, us) = if deed & 0x10 == 0 { (station(who), station(2)) } else { (station6(who), station6(2)) };
    let packet = match deed & 0x60 {
        0 => echo(from, us, 1, whom & 1 != 0),
        0x20 => udp(
            (from, 50_000),
            (us, 3784),
            &[0x20, 0x40, 3, 24, 0, 0, 0, whom, 0, 0, 0, 0, 0, 4, 0x93, 0xe0, 0, 4, 0x93, 0xe0, 0, 0, 0, 0],
        ),
        _ => udp((from, 50_000), (if us.is_ipv4() { station(whom) } else { station6(whom) }, 53), &[whom; 20]),
    };
    let kind = if us.is_ipv4() { ether_type::IPV4 } else { ether_type::IPV6 };
    frame(interface, OURS, mac(who), kind, &packet)
}

/// What a station with an odd number answers to a question of ours. Every frame is whole, ours, and of its port.
fn answer(interface: InterfaceId, bytes: &[u8]) -> Option<Vec<u8>> {
    let header = ethernet::parse(bytes).expect("our frames are whole");
    let tags = if interface == TAGGED { TAGS } else { VlanTags::default() };
    assert_eq!((header.source, header.tags), (OURS, tags));
    assert!(!header.destination.is_zero());
    let payload = &bytes[header.header_bytes..];
    match header.ether_type {
        ether_type::ARP => {
            let question = arp::parse(payload).expect("we speak ARP");
            let who = question.target.octets()[3];
            let is_asked = question.operation == Operation::Request && !question.sender.is_unspecified();
            (is_asked && question.sender != question.target && who % 2 == 1 && question.target == v4(station(who)))
                .then(|| arp(interface, 2, who, 2))
        }
        ether_type::IPV6 if nd::is_nd(payload) => {
            match nd::read(payload, OURS).expect("we speak neighbour discovery") {
                nd::Heard::Solicited { target, from, .. } if !from.is_unspecified() => {
                    let who = target.octets()[15];
                    (who % 2 == 1 && target == v6(station6(who))).then(|| discovery(interface, 5, who, 2))
                }
                _ => None,
            }
        }
        kind => {
            assert!(kind == ether_type::IPV4 || kind == ether_type::IPV6);
            None
        }
    }
}
