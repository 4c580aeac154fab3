//! Which port a frame belongs to, and which frames are none's.

use proptest::prelude::*;

use super::*;

fn tags(service: Option<u16>, customer: Option<u16>) -> VlanTags {
    VlanTags { service, customer }
}

fn dropped(reason: DropReason) -> Opened {
    Opened::dropped(reason)
}

#[test]
fn the_same_addresses_on_two_interfaces_and_in_two_vlans_do_not_mix() {
    let places = [
        (InterfaceId(0), UNTAGGED),
        (InterfaceId(1), UNTAGGED),
        (InterfaceId(0), tags(None, Some(100))),
        (InterfaceId(1), tags(None, Some(100))),
        (InterfaceId(0), tags(Some(100), None)),
        (InterfaceId(0), tags(Some(100), Some(100))),
    ];
    let mut ports = Vec::new();
    let mut stations = Vec::new();
    for (number, (interface, tags)) in places.into_iter().enumerate() {
        let mut config = ethernet(&["172.20.0.2/30", "2001:db8:9::2/64"], &["172.20.0.1", "2001:db8:9::1"]);
        config.vlan = tags;
        ports.push(port(TunnelId(number as u32), interface, config));
        let mut gateway = station(number as u8, &["172.20.0.1", "2001:db8:9::1"]);
        (gateway.interface, gateway.tags) = (interface, tags);
        stations.push(gateway);
    }
    let mut lab = Lab::new(ports, stations);
    for (number, (interface, _)) in places.into_iter().enumerate() {
        let tunnel = TunnelId(number as u32);
        for far in [FAR4, FAR6] {
            let payload = [number as u8; 20];
            assert_eq!(lab.send(tunnel, &to_host(far, &payload)), Ok(()));
            let got: Vec<_> = lab.stations.iter_mut().map(|station| std::mem::take(&mut station.got)).collect();
            for (other, got) in got.iter().enumerate() {
                assert_eq!(got.len(), usize::from(other == number), "{number} to {other}");
            }
            let frame = lab.stations[number].packet(OURS, &to_host(far, &payload));
            assert!(matches!(lab.hear_on(interface, &frame), Opened::Packet { tunnel: by, .. } if by == tunnel));
        }
        assert_eq!(lab.status(tunnel).next_hops[0].mac, Some(mac(number as u8)));
    }
    // One of them falls silent, and the others do not mind.
    lab.stations[0].is_silent = true;
    lab.run(Duration::from_secs(6));
    let up: Vec<_> = (0..places.len() as u32).filter(|tunnel| lab.endpoint.is_up(TunnelId(*tunnel))).collect();
    assert_eq!(up, [1, 2, 3, 4, 5]);
}

#[test]
fn frames_for_nobody_here_are_told_apart() {
    let mut lab = usual();
    let gateway = lab.stations[0].clone();
    let packet = to_host(FAR4, b"hello");
    let mut strange = gateway.clone();
    strange.tags = tags(None, Some(5));
    assert_eq!(lab.hear(&strange.packet(OURS, &packet)), dropped(DropReason::FrameNoPort));
    assert_eq!(lab.hear_on(InterfaceId(9), &gateway.packet(OURS, &packet)), dropped(DropReason::FrameNoPort));
    assert_eq!(lab.hear_on(InterfaceId(200), &gateway.packet(OURS, &packet)), dropped(DropReason::FrameNoPort));
    assert_eq!(lab.hear(&gateway.packet(mac(50), &packet)), dropped(DropReason::FrameNotForUs));
    for group in [[1, 0, 0x5e, 0, 0, 1], [1, 0x80, 0xc2, 0, 0, 0], [0x33, 0x33, 0xff, 1, 2, 3]] {
        assert_eq!(lab.hear(&gateway.packet(Mac(group), &packet)), dropped(DropReason::FrameNotForUs));
    }
    assert_eq!(lab.hear(&gateway.frame(OURS, 0x88cc, &packet)), dropped(DropReason::FrameNotIp));
    assert_eq!(lab.hear(&gateway.frame(OURS, 0x0026, &packet)), dropped(DropReason::FrameNotIp), "802.3");
    let mut from_group = gateway.packet(OURS, &packet);
    from_group[6] |= 1;
    assert_eq!(lab.hear(&from_group), dropped(DropReason::FrameMalformed));
    assert!(lab.walked.is_empty());
}

#[test]
fn what_is_for_everybody_does_not_walk() {
    let mut lab = usual();
    let gateway = lab.stations[0].clone();
    let not_unicast = dropped(DropReason::DestinationNotUnicast);
    for to in ["255.255.255.255", "172.20.0.255", "172.20.0.0", "224.0.0.5"] {
        assert_eq!(lab.hear(&gateway.packet(OURS, &to_host(to, b""))), not_unicast, "{to}");
        assert_eq!(lab.hear(&gateway.packet(Mac::BROADCAST, &to_host(to, b""))), not_unicast, "{to}");
    }
    assert_eq!(lab.hear(&gateway.packet(OURS, &to_host("ff02::5", b""))), not_unicast);
    for to in [FAR4, FAR6, "172.20.0.2"] {
        assert_eq!(lab.hear(&gateway.packet(Mac::BROADCAST, &to_host(to, b""))), not_unicast, "{to}");
    }
    assert!(lab.walked.is_empty());
}

#[test]
fn a_priority_tagged_frame_is_untagged() {
    let mut lab = usual();
    let packet = to_host(FAR4, b"with priority");
    let frame = lab.stations[0].packet(OURS, &packet);
    let tagged = [&frame[..12], &[0x81, 0, 0xe0, 0], &frame[12..]].concat();
    assert_eq!(lab.hear(&tagged), Opened::Packet { tunnel: PORT, len: packet.len() });
}

#[test]
fn contradictions_are_malformed() {
    let mut lab = usual();
    let gateway = lab.stations[0].clone();
    let malformed = dropped(DropReason::FrameMalformed);
    let (v4, v6) = (to_host(FAR4, &[0; 100]), to_host(FAR6, &[0; 100]));
    assert_eq!(lab.hear(&gateway.frame(OURS, ether_type::IPV6, &v4)), malformed);
    assert_eq!(lab.hear(&gateway.frame(OURS, ether_type::IPV4, &v6)), malformed);
    assert_eq!(lab.hear(&gateway.packet(OURS, &v4[..v4.len() - 1])), malformed);
    assert_eq!(lab.hear(&gateway.packet(OURS, &v6[..v6.len() - 1])), malformed);
    assert_eq!(lab.hear(&gateway.frame(OURS, ether_type::ARP, &[0; 28])), malformed);
    assert_eq!(lab.hear(&[0; 13]), malformed);
    assert_eq!(lab.endpoint.open(Path::frames(ETH).port, &[], &mut [], &mut Outbox::new(0, 0), lab.now), malformed);
    let long = gateway.packet(OURS, &to_host(FAR4, &[0; 1900]));
    let too_long = Opened::Dropped { reason: DropReason::InnerTooLong, tunnel: Some(PORT) };
    assert_eq!(lab.hear(&long), too_long);
}

#[test]
fn a_tun_device_carries_packets_alone() {
    let tun = PortConfig { tunnel: PORT, interface: InterfaceId(5), medium: Medium::Tun, mtu_bytes: 1500 };
    let mut lab = Lab::new(vec![tun], vec![]);
    assert!(lab.endpoint.is_up(PORT));
    let here = Path::tun(InterfaceId(5));
    let mut outbox = Outbox::new(4096, 8);
    for far in [FAR4, FAR6] {
        let packet = to_host(far, b"over a TUN device");
        assert_eq!(lab.endpoint.seal(PORT, REALM, &packet, &mut outbox), Ok(()));
        let mut out = [0; 2048];
        let opened = lab.endpoint.open(here.port, &packet, &mut out, &mut outbox, lab.now);
        assert_eq!((opened, &out[..packet.len()]), (Opened::Packet { tunnel: PORT, len: packet.len() }, &packet[..]));
    }
    assert!(outbox.datagrams().all(|(path, data, bytes)| path == here && data && bytes.len() > 40));
    let mut open = |bytes: &[u8], path: Path| lab.endpoint.open(path.port, bytes, &mut [0; 2048], &mut outbox, lab.now);
    assert_eq!(open(&[], here), dropped(DropReason::FrameMalformed));
    assert_eq!(open(&[0x45; 19], here), dropped(DropReason::FrameMalformed));
    assert_eq!(open(&to_host("ff02::1", b""), here), dropped(DropReason::DestinationNotUnicast));
    assert_eq!(open(&to_host(FAR4, b""), Path::tun(InterfaceId(6))), dropped(DropReason::FrameNoPort));
    assert_eq!(open(&to_host(FAR4, b""), Path::frames(InterfaceId(5))), dropped(DropReason::FrameNoPort));
    lab.link(InterfaceId(5), false);
    assert_eq!((lab.endpoint.is_up(PORT), lab.send_to(FAR4)), (false, Err(DropReason::PortDown)));
}

proptest! {
    /// Whatever comes: no panic, and what walks is a packet by its own length.
    #[test]
    fn any_bytes_are_sorted(frames in prop::collection::vec((0u8..6, prop::collection::vec(any::<u8>(), 0..120), 0usize..120, any::<u8>()), 1..40)) {
        let mut lab = usual();
        for (kind, bytes, at, value) in frames {
            let mut frame = match kind {
                0 => bytes,
                1 => lab.stations[0].frame(OURS, ether_type::ARP, &[&[0, 1, 8, 0, 6, 4, 0, value & 3][..], &bytes].concat()),
                2 => lab.stations[0].packet(OURS, &crate::sim::packets::echo(ip("172.20.0.1"), ip("172.20.0.2"), 1, false)),
                3 => lab.stations[0].question(ip("2001:db8:9::1"), ip("2001:db8:9::2")),
                4 => lab.stations[0].announcement(ip("172.20.0.1")),
                _ => lab.stations[0].packet(OURS, &to_host(FAR6, &bytes)),
            };
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
            if let Opened::Packet { len, .. } = lab.hear(&frame) {
                let (_, packet) = lab.walked.last().unwrap();
                prop_assert_eq!(crate::link::frame::ip_packet(packet[0] >> 4, packet).map(<[u8]>::len), Some(len));
            }
            lab.run(Duration::from_millis(u64::from(value) * 10));
        }
    }
}
