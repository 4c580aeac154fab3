//! An appliance with two sites of two kinds of realm, real WireGuard peers, and packets as their hosts send them or as nobody
//! should: through the whole walk, sessions and NAPT included.
//!
//! The first byte chooses the two realms; then come [deeds](World::perform). Whatever arrives can be read, has the right
//! addresses for the realm that it arrives in, from the realm that sent it, and checksums as right as they were. A reply goes
//! back to whoever asked, and brings what it would have brought without translation; an error quotes what its receiver sent.
//! In and out must balance (`Lan` sees to it).

use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use ixgate::net::{RealmId, Timestamp};
use ixgate::sim::appliance::Appliance;
use ixgate::sim::lan::{Arrival, Lan};
use ixgate::sim::packets;
use ixgate::wire::headers::{self, Transport};
use ixgate::wire::{fragment, ipv6};

use super::packet::{blank_checksums, compare, mend, ports, turned};
use super::script::Script;

/// Every kind of mapping: both have one prefix; IPv6 with aliases, with a canonical prefix and without either; hosts only; a
/// pool with forwards; everything else.
const KINDS: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[limits]
sessions = 1000
sessions_per_realm = 600
napt_bindings = 1024
[[realm]]
name = "a"
networks = ["192.168.1.0/24", { prefix = "2001:db8:1:1::/120", alias = "100.64.5.0/24" }]
attach = [{ wireguard = { public_key = "{key:a}" } }]
[[realm]]
name = "b"
networks = ["192.168.1.0/24", { prefix = "fd00:6::/112", canonical = "fd00:66::/112", alias = "auto" }]
attach = [{ wireguard = { public_key = "{key:b}" }, mtu_bytes = 1300 }]
[[realm]]
name = "pool"
networks = ["192.168.1.0/24"]
show_as = { napt = ["100.64.9.0/30"], block_ports = 16, filtering = "address", forwards = [{ outside = "100.64.9.3", port = "udp/443", to = "192.168.1.20:8443" }] }
attach = [{ wireguard = { public_key = "{key:pool}" } }]
[[realm]]
name = "large"
networks = [{ prefix = "10.0.0.0/8", alias = "hosts" }]
attach = [{ wireguard = { public_key = "{key:large}" } }]
[[realm]]
name = "six"
networks = ["2001:db8:6::/64"]
attach = [{ wireguard = { public_key = "{key:six}" } }]
[[realm]]
name = "internet"
networks = ["default"]
attach = [{ wireguard = { public_key = "{key:internet}" } }]
[[host]]
name = "one"
realm = "large"
address = "10.1.2.3"
[[host]]
name = "two"
realm = "large"
address = "10.255.0.1"
[[grant]]
from = ["a", "b", "pool", "large", "six"]
to = ["realm:a", "realm:b", "realm:pool", "realm:large", "realm:six"]
ports = ["any"]
[[grant]]
from = ["a", "pool"]
to = ["realm:internet"]
ports = ["any"]
"#;

const SITES: [&str; 6] = ["a", "b", "pool", "large", "six", "internet"];
/// Some addresses of each site's own, and some that are nobody's there.
const OWN: [[&str; 4]; SITES.len()] = [
    ["192.168.1.10", "192.168.1.20", "2001:db8:1:1::20", "10.1.2.3"],
    ["192.168.1.10", "192.168.1.254", "fd00:6::20", "2001:db8:1:1::20"],
    ["192.168.1.10", "192.168.1.20", "192.168.1.77", "192.168.2.1"],
    ["10.1.2.3", "10.255.0.1", "10.9.9.9", "192.168.1.10"],
    ["2001:db8:6::10", "2001:db8:6::20", "2001:db8:6:0:ffff::1", "fd00:6::20"],
    ["8.8.8.8", "198.51.100.7", "2a00::53", "192.168.1.10"],
];
const MAX_DEEDS: usize = 24;
/// Less than WireGuard's keys last.
const MAX_TIME: Duration = Duration::from_secs(110);
/// What every tunnel here carries, at most.
const MTU_BYTES: usize = 1420;

/// How many packets have crossed.
pub fn walk(bytes: &[u8]) -> usize {
    let mut script = Script(bytes);
    let (Some(one), Some(other)) = (script.u8(), script.u8()) else { return 0 };
    let mut world = World::new(one, other);
    for _ in 0..MAX_DEEDS {
        if world.perform(&mut script).is_none() {
            break;
        }
    }
    world.crossings
}

/// Compiled once.
fn appliance() -> &'static Appliance {
    static APPLIANCE: OnceLock<Appliance> = OnceLock::new();
    APPLIANCE.get_or_init(|| Appliance::build(KINDS))
}

struct World {
    appliance: &'static Appliance,
    lan: Lan,
    /// Which of [`SITES`] the two are.
    kinds: [usize; 2],
    start: Timestamp,
    /// What arrived whole, and what was sent for it.
    crossed: Vec<Crossed>,
    crossings: usize,
}

#[derive(Clone)]
struct Crossed {
    from: usize,
    to: usize,
    sent: Vec<u8>,
    arrived: Vec<u8>,
}

impl World {
    fn new(one: u8, other: u8) -> World {
        let kinds = [one, other].map(|which| usize::from(which) % SITES.len());
        let names: Vec<&str> = kinds.iter().map(|kind| SITES[*kind]).collect();
        let names = if kinds[0] == kinds[1] { &names[..1] } else { &names[..] };
        let appliance = appliance();
        let lan = Lan::start(appliance, names);
        let start = lan.now;
        World { appliance, lan, kinds, start, crossed: Vec::new(), crossings: 0 }
    }

    fn sites(&self) -> usize {
        if self.kinds[0] == self.kinds[1] { 1 } else { 2 }
    }

    fn realm(&self, site: usize) -> RealmId {
        self.appliance.realm(SITES[self.kinds[site]])
    }

    /// `None`: the script is over.
    fn perform(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (deed, which) = (script.u8()?, script.u8()?);
        let from = usize::from(which & 1) % self.sites();
        match deed % 8 {
            0..=2 => {
                let packet = self.make(from, which, script)?;
                self.send(from, &packet);
            }
            3 => {
                let len = usize::from(script.u16()?) % 1400;
                let mut packet = script.bytes(len).to_vec();
                if which & 2 != 0 {
                    mend(&mut packet);
                }
                self.send(from, &packet);
            }
            4 => {
                let mtu = 68 + usize::from(script.u8()?) * 4;
                let packet = self.make(from, which, script)?;
                if packet.len() > ipv6::HEADER_BYTES {
                    self.send_in_fragments(from, &packet, mtu, which);
                }
            }
            5 | 6 => {
                let len = usize::from(script.u16()?);
                if let Some(at) = usize::from(which).checked_rem(self.crossed.len()) {
                    let crossed = self.crossed[at].clone();
                    match deed & 1 {
                        1 => self.reply(&crossed),
                        _ => self.complain(&crossed, len, which),
                    }
                }
            }
            _ => {
                let then = self.lan.now + Duration::from_secs(u64::from(which) % 40);
                if then - self.start < MAX_TIME {
                    let arrivals = self.lan.advance_to(then);
                    arrivals.iter().for_each(|arrival| self.check(arrival, RealmId::IX));
                }
            }
        }
        Some(())
    }

    /// A packet of a host of `from`.
    fn make(&self, from: usize, which: u8, script: &mut Script<'_>) -> Option<Vec<u8>> {
        let (ends, kind, len) = (script.u8()?, script.u8()?, usize::from(script.u16()?) % 1500);
        let ports = (script.u16()?, script.u16()?);
        let source = own(self.kinds[from], ends);
        let destination = self.seen(from, which, ends >> 4, source.is_ipv6());
        if source.is_ipv6() != destination.is_ipv6() {
            return Some(Vec::new());
        }
        let mut body = script.bytes(len.min(64)).to_vec();
        body.resize(len, kind);
        let mut packet = match kind % 6 {
            0 | 1 => packets::udp((source, ports.0), (destination, ports.1), &body),
            2 => packets::tcp((source, ports.0), (destination, ports.1), body.first().copied()?, &[], &body),
            3 => packets::echo(source, destination, ports.0, ports.1 & 1 == 1),
            4 => packets::port_unreachable(source, destination, &body),
            _ => packets::packet(source, destination, [132, 33, 136, 47][usize::from(ports.0 & 3)], padded(body)),
        };
        if source.is_ipv4() {
            packets::set_dont_fragment(&mut packet, kind & 64 == 0);
        }
        // Damaged on its way, or without a checksum.
        let last = packet.len() - 1;
        packet[last] ^= kind >> 7;
        Some(packet)
    }

    /// How `from` sees a host of one of the two, or of the IX, or nobody.
    fn seen(&self, from: usize, which: u8, host: u8, is_v6: bool) -> IpAddr {
        let viewer = self.realm(from);
        let mapping = &self.appliance.snapshot.mapping;
        let nobody: IpAddr = if is_v6 { IpAddr::from([0x20u16, 1, 2, 3, 4, 5, 6, 7]) } else { [100, 100, 1, 1].into() };
        let like = nobody;
        let to = usize::from(which >> 1 & 1) % self.sites();
        let located = match host & 12 {
            0 => Some(self.appliance.snapshot.service.dns),
            4 if !is_v6 => return [100, 64, 9, which >> 2 & 3].into(),
            _ => mapping.locate_native(self.realm(to), own(self.kinds[to], host)),
        };
        located.and_then(|at| mapping.seen_by_like(viewer, at, like)).unwrap_or(nobody)
    }

    fn send(&mut self, from: usize, packet: &[u8]) {
        if packet.is_empty() {
            return;
        }
        let arrivals = self.lan.send(from, packet);
        let realm = self.realm(from);
        for arrival in &arrivals {
            self.check(arrival, realm);
        }
        let [(to, arrived)] = &arrivals[..] else { return };
        if let (Ok(before), Ok(after)) = (headers::parse(packet), headers::parse(arrived))
            && !self.is_from_the_ix(*to, after.source)
        {
            let packet = &packet[..before.total_bytes];
            compare(packet, &before, arrived, &after);
            let crossed = Crossed { from, to: *to, sent: packet.to_vec(), arrived: arrived.clone() };
            if self.crossed.len() == MAX_DEEDS {
                self.crossed.remove(0);
            }
            self.crossed.push(crossed);
            self.crossings += 1;
        }
    }

    fn send_in_fragments(&mut self, from: usize, packet: &[u8], mtu_bytes: usize, which: u8) {
        let realm = self.realm(from);
        let mut pieces = packets::cut(packet, mtu_bytes.min(MTU_BYTES), u32::from(which));
        if which & 128 != 0 {
            pieces.reverse();
        }
        let mut arrivals: Vec<Arrival> = Vec::new();
        for piece in &pieces {
            arrivals.extend(self.lan.send(from, piece));
        }
        arrivals.iter().for_each(|arrival| self.check(arrival, realm));
        let (Some((to, first)), Ok(before)) = (arrivals.first(), packets::verify(packet)) else { return };
        let to_one = arrivals.iter().all(|(site, _)| site == to);
        if to_one && headers::parse(first).is_err() {
            let parts: Vec<Vec<u8>> = arrivals.iter().map(|(_, part)| part.clone()).collect();
            let whole = packets::joined(&parts);
            let after = packets::verify(&whole).expect("what they make has right checksums");
            compare(packet, &before, &whole, &after);
            self.crossings += 1;
        }
    }

    /// What any packet is that comes out of a tunnel.
    fn check(&self, (site, packet): &Arrival, sender: RealmId) {
        let viewer = self.realm(*site);
        assert!(packet.len() <= MTU_BYTES, "{} bytes", packet.len());
        let (source, destination) = match headers::parse(packet) {
            Ok(headers) => {
                assert_eq!(headers.total_bytes, packet.len());
                (headers.source, headers.destination)
            }
            Err(_) => {
                let fragment = fragment::parse(packet).expect("a packet or a fragment");
                assert_eq!(fragment.total_bytes, packet.len());
                (fragment.source, fragment.destination)
            }
        };
        let snapshot = &self.appliance.snapshot;
        let at = snapshot.mapping.locate_native(viewer, destination).expect("one of its own addresses");
        assert_eq!(at.realm, viewer);
        let by_alias = snapshot.mapping.locate_seen_by(viewer, source).map(|at| at.realm);
        let by_pool = match source {
            IpAddr::V4(source) => snapshot.napt.owner(source).filter(|spec| spec.is_for(viewer)).map(|spec| spec.realm),
            IpAddr::V6(_) => None,
        };
        let from = by_pool.or(by_alias).expect("an address of its view");
        assert!(from == sender || from.is_ix(), "from {source}, which is realm {from}'s and not {sender}'s");
    }

    fn is_from_the_ix(&self, site: usize, source: IpAddr) -> bool {
        let at = self.appliance.snapshot.mapping.locate_seen_by(self.realm(site), source);
        at.is_some_and(|at| at.realm.is_ix())
    }

    /// The other side answers, with what it was sent.
    fn reply(&mut self, crossed: &Crossed) {
        let Some(reply) = turned(&crossed.arrived) else { return };
        let arrivals = self.lan.send(crossed.to, &reply);
        let realm = self.realm(crossed.to);
        arrivals.iter().for_each(|arrival| self.check(arrival, realm));
        let [(site, arrived)] = &arrivals[..] else { return };
        let Ok(after) = headers::parse(arrived) else { return };
        if self.is_from_the_ix(*site, after.source) {
            return;
        }
        assert_eq!(*site, crossed.from, "back to whoever asked");
        let expected = turned(&crossed.sent).expect("what was sent can be turned as well");
        let before = headers::parse(&expected).expect("it can be read");
        assert_eq!((after.source, after.destination), (before.source, before.destination), "there and back");
        assert_eq!(ports(&after), ports(&before), "there and back");
        let (mut one, mut other) = (arrived.clone(), expected);
        blank_checksums(&mut one, &after);
        blank_checksums(&mut other, &before);
        let is_syn = matches!(before.transport, Transport::Tcp { flags, .. } if flags & 2 != 0);
        assert!(is_syn || one[after.transport_offset..] == other[before.transport_offset..], "there and back");
    }

    /// The other side's host says that it does not want it, and quotes some of it.
    fn complain(&mut self, crossed: &Crossed, len: usize, which: u8) {
        let Ok(headers) = headers::parse(&crossed.arrived) else { return };
        let quote = &crossed.arrived[..(headers.transport_offset + 8 + len).min(crossed.arrived.len())];
        let (source, destination) = (headers.destination, headers.source);
        let error = match which & 2 {
            0 => packets::port_unreachable(source, destination, quote),
            _ => packets::time_exceeded(source, destination, quote),
        };
        if error.len() > 1280 {
            return;
        }
        let arrivals = self.lan.send(crossed.to, &error);
        let realm = self.realm(crossed.to);
        arrivals.iter().for_each(|arrival| self.check(arrival, realm));
        let [(site, arrived)] = &arrivals[..] else { return };
        let Ok(after) = packets::verify(arrived) else { panic!("an error's checksum is computed") };
        if after.transport != Transport::IcmpError {
            return;
        }
        assert_eq!(*site, crossed.from, "to whoever sent it");
        let quoted = headers::parse_quoted(&arrived[after.quote()]).expect("its sender can read it");
        let sent = headers::parse(&crossed.sent).expect("it was read before");
        assert_eq!((quoted.source, quoted.destination), (sent.source, sent.destination), "as it was sent");
        assert_eq!(ports(&quoted), ports(&sent), "as it was sent");
    }
}

fn own(kind: usize, host: u8) -> IpAddr {
    OWN[kind][usize::from(host & 3)].parse().expect("an address")
}

/// Long enough for a header.
fn padded(mut message: Vec<u8>) -> Vec<u8> {
    message.resize(message.len().max(16), 0);
    message
}
