//! Frames of anybody, by any interface: nothing panics, nothing crosses, everything is accounted for.

use ixgate::wire::headers::Transport;

use super::*;

/// A packet from the realm's own network, to what it sees of `to`.
fn honest(ix: &Fixture, from: &str, to: &str) -> Vec<u8> {
    let shown = ix.appliance.seen_by(from, to, "192.168.1.20");
    udp((ip("192.168.1.10"), 5000), (shown, 443), b"question")
}

#[test]
fn a_frame_is_its_interfaces_and_vlans_whatever_else_it_says() {
    let mut ix = Fixture::start();
    let End::Station(a) = ix.end("a") else { panic!("a port") };
    let packet = honest(&ix, "a", "b");
    let ours = |ix: &Fixture, interface| ix.world.ports.mac(interface);
    let station = ix.world.ports.stations[a].clone();
    let (eth1, eth2) = (ix.world.interface("eth1"), ix.world.interface("eth2"));
    // By VLAN 100 of eth2 it is of b itself, by VLAN 200 of eth1 of c.
    let on = |ix: &Fixture, interface, service, customer| {
        let mut station = Station { interface, ..station.clone() };
        (station.tags.service, station.tags.customer) = (service, customer);
        (Path::frames(interface), station.frame(ours(ix, interface), ether_type::IPV4, &packet))
    };
    for (interface, service, customer, arrives) in [
        (eth1, None, Some(100), Some(("b", "a"))),
        (eth1, None, Some(200), Some(("b", "c"))),
        (eth1, None, None, Some(("b", "both"))),
        (eth2, None, Some(100), Some(("b", "b"))),
        (eth1, None, Some(300), None),
        (eth1, Some(100), None, None),
        (eth1, Some(100), Some(100), None),
        (eth1, Some(200), Some(100), None),
        (eth2, None, None, None),
        (InterfaceId(9), None, Some(100), None),
        (InterfaceId(255), None, Some(100), None),
    ] {
        let (path, frame) = on(&ix, interface, service, customer);
        ix.world.inject(path, frame);
        ix.world.run_for(Duration::from_millis(100));
        let arrivals = ix.take_all();
        let Some((to, of)) = arrives else {
            assert_eq!(arrivals, [], "{interface:?} {service:?} {customer:?}");
            continue;
        };
        let [(at, arrived)] = &arrivals[..] else { panic!("{arrivals:?}") };
        let seen = ix.appliance.seen_by(to, of, "192.168.1.10");
        assert_eq!((*at, verify(arrived).unwrap().source), (to, seen), "{interface:?} {service:?} {customer:?}");
    }
}

#[test]
fn frames_for_others_and_to_groups_are_not_forwarded() {
    let mut ix = Fixture::start();
    let End::Station(a) = ix.end("a") else { panic!("a port") };
    let packet = honest(&ix, "a", "b");
    for to in [Mac([2, 0, 0, 0, 0, 99]), Mac::BROADCAST, Mac([1, 0, 94, 0, 0, 1])] {
        let frame = ix.world.ports.stations[a].frame(to, ether_type::IPV4, &packet);
        ix.world.inject(Path::frames(ix.world.interface("eth1")), frame);
        ix.world.run_for(Duration::from_millis(100));
        assert_eq!(ix.take_all(), [], "to {to}");
    }
}

/// The oracle knows only this: the realm of a packet is that of the interface and the tags that it came with, and it is shown as a
/// host of that realm wherever it comes out, which is nowhere where that realm may open nothing. `closed` may open nothing, and
/// nobody anything in it.
#[test]
fn random_frames_do_no_harm() {
    let mut ix = Fixture::start();
    let mut random = Random(7);
    let interfaces = [ix.world.interface("eth1"), ix.world.interface("eth2"), InterfaceId(9)];
    let count = if cfg!(debug_assertions) { 20_000 } else { 200_000 };
    let (mut came, mut seen) = (Vec::new(), 0);
    for round in 0..count {
        let interface = interfaces[random.below(3) as usize];
        let (frame, realm) = random_frame(&ix, interface, round, &mut random);
        came.push(realm);
        ix.world.inject(Path::frames(interface), frame);
        if round % 64 == 0 {
            ix.world.run_for(Duration::from_millis(20));
            seen += check(&mut ix, &came);
        }
    }
    ix.world.run_for(Duration::from_secs(5));
    seen += check(&mut ix, &came);
    let totals = ix.world.report().totals;
    assert!(seen > 300 && totals.control > 300, "{seen} were looked at, the test sends nothing of use: {totals:#?}");
    // And the ports have survived it.
    ix.world.run_for(Duration::from_secs(120));
    ix.take_all();
    let packet = honest(&ix, "wireguard", "ipsec");
    ix.cross("wireguard", "ipsec", &packet);
}

/// Mostly almost right: a frame of a station, of which something is changed, cut or added. And whose it is, if anybody's.
fn random_frame(
    ix: &Fixture,
    interface: InterfaceId,
    number: u64,
    random: &mut Random,
) -> (Vec<u8>, Option<&'static str>) {
    let stations = &ix.world.ports.stations;
    let mut station = stations[random.below(stations.len() as u64) as usize].clone();
    if random.permille(200) {
        station.tags.customer = Some(random.below(4095) as u16);
    }
    if random.permille(100) {
        station.tags.service = Some(random.below(4095) as u16);
    }
    let to = match random.below(8) {
        0 => Mac::BROADCAST,
        1 => Mac([0x33, 0x33, 0, 0, 0, 1]),
        2 => Mac(std::array::from_fn(|_| random.below(256) as u8)),
        _ => ix.world.ports.mac(interface),
    };
    let names = ["a", "b", "c", "both", "closed"];
    let from = names[random.below(5) as usize];
    let to_realm = FOUR.into_iter().filter(|to| *to != from).nth(random.below(5) as usize);
    let shown = ix.appliance.seen_by(from, to_realm.unwrap_or("ipsec"), "192.168.1.20");
    let mut payload = udp((ip("192.168.1.10"), 5000), (shown, 443), &number.to_be_bytes());
    let kind = match random.below(6) {
        0 => ether_type::ARP,
        1 => {
            payload = echo(ip("fd00:b::10"), ip("fd00:6::20"), 9, false);
            ether_type::IPV6
        }
        2 => random.below(65_536) as u16,
        _ => ether_type::IPV4,
    };
    if kind == ether_type::ARP {
        payload = arp_like(random);
    }
    if random.permille(300) {
        let at = random.below(payload.len() as u64) as usize;
        payload[at] = random.below(256) as u8;
    }
    if random.permille(100) {
        payload.truncate(random.below(payload.len() as u64 + 1) as usize);
    }
    let mut frame = station.frame(to, kind, &payload);
    if random.permille(50) {
        frame.truncate(random.below(frame.len() as u64) as usize);
    }
    let owner = stations.iter().position(|one| one.interface == interface && one.tags == station.tags);
    (frame, owner.and_then(|owner| ix.ends.iter().find(|(_, end)| *end == End::Station(owner)).map(|(name, _)| *name)))
}

fn arp_like(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, 1 + random.below(2) as u8];
    bytes.extend((0..6).map(|_| 2 * random.below(128) as u8));
    bytes.extend([172, 20, 0, random.below(4) as u8]);
    bytes.extend([0; 6]);
    bytes.extend([172, 20, 0, random.below(4) as u8]);
    bytes
}

/// How many packets it could tell the realm of.
fn check(ix: &mut Fixture, came: &[Option<&'static str>]) -> usize {
    assert!(ix.world.engine.balances());
    let mut seen = 0;
    for (at, packet) in ix.take_all() {
        assert_ne!(at, "closed", "nobody may: {packet:?}");
        let Ok(headers) = verify(&packet) else { continue };
        let Transport::Udp { destination_port: 443, .. } = headers.transport else { continue };
        // Cut before its checksum and filled up with zeros, it says nothing.
        if packet[headers.transport_offset + 6..][..2] == [0, 0] {
            continue;
        }
        let Some(number) = packet[headers.total_bytes - 8..].first_chunk() else { continue };
        let Some(Some(realm)) = came.get(u64::from_be_bytes(*number) as usize) else {
            panic!("{at} got a packet of nobody: {packet:?}")
        };
        let viewer = ix.appliance.realm(at);
        let source = ix.appliance.snapshot.mapping.locate_seen_by(viewer, headers.source);
        assert_eq!(source.map(|source| source.realm), Some(ix.appliance.realm(realm)), "{at} got {headers:?}");
        assert_ne!(*realm, "closed");
        seen += 1;
    }
    seen
}
