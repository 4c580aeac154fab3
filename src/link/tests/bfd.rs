//! Sessions of whole ports: with whom, from where.

use super::*;
use crate::link::config::Bfd;
use crate::link::station::{CALLS_BURST, CALLS_PER_SEC, MESSAGES_BURST};
use crate::wire::bfd::{self, Control, Diagnostic, State};
use crate::wire::headers::{self, Transport};

const US: &str = "2001:db8:9::2";
const HOP: &str = "2001:db8:9::1";

/// The hop answers neighbour solicitations.
fn with_bfd(is_active: bool) -> Lab {
    let mut config = ethernet(&["2001:db8:9::2/64"], &[HOP]);
    config.bfd = Some(Bfd { is_active, interval: Duration::from_millis(300), multiplier: 3 });
    Lab::new(vec![port(PORT, ETH, config)], vec![station(1, &[HOP])])
}

fn says(state: State, your_discriminator: u32) -> Control {
    Control {
        diagnostic: Diagnostic::NONE,
        state,
        is_poll: false,
        is_final: false,
        is_control_plane_independent: false,
        is_demand: false,
        multiplier: 3,
        my_discriminator: 77,
        your_discriminator,
        desired_min_tx_us: 300_000,
        required_min_rx_us: 300_000,
        required_min_echo_rx_us: 0,
    }
}

/// In the hop's name.
fn frame(from: &Station, control: &Control) -> Vec<u8> {
    frame_to(bfd::PORT, from, control)
}

fn frame_to(port: u16, from: &Station, control: &Control) -> Vec<u8> {
    let mut packet = udp((ip(HOP), 49152), (ip(US), port), &control.emit());
    packet[7] = bfd::HOP_LIMIT;
    from.packet(OURS, &packet)
}

/// What a station got of us.
fn heard(station: &Station) -> Vec<Control> {
    let of = |packet: &Vec<u8>| {
        let headers = headers::parse(packet).unwrap();
        bfd::parse(&packet[headers.transport_offset + 8..headers.total_bytes])
    };
    station.got.iter().filter_map(of).collect()
}

fn session(lab: &Lab) -> Option<&'static str> {
    lab.status(PORT).next_hops[0].bfd
}

#[test]
fn who_calls_from_elsewhere_than_the_hop_is_not_heard() {
    for is_active in [false, true] {
        let mut lab = with_bfd(is_active);
        if !is_active {
            lab.send_to(FAR6).unwrap_err();
            lab.hear(&frame(&lab.stations[0], &says(State::AdminDown, 0))); // so that it is spoken to, and looked for
            lab.run(Duration::from_secs(9));
        }
        assert_eq!(lab.status(PORT).next_hops[0].mac, Some(mac(1)));
        let asked = lab.stations[0].asked;
        for _ in 0..50 {
            let thief = station(66, &[]);
            lab.hear(&frame(&thief, &Control { my_discriminator: 5, ..says(State::Down, 0) }));
        }
        assert_eq!((session(&lab), lab.stations[0].asked), (Some("Down"), asked + 1), "but asked for, once a second");
        lab.hear(&frame(&lab.stations[0], &says(State::Down, 0)));
        assert_eq!(session(&lab), Some("Init"));
    }
}

#[test]
fn calls_are_looked_at_so_often_and_no_more() {
    let mut lab = with_bfd(true);
    let (gateway, thief) = (lab.stations[0].clone(), station(66, &[]));
    let call = says(State::Down, 0);
    let looked_at = |lab: &mut Lab, from: &Station| {
        let is_refused = |opened| opened == Opened::dropped(DropReason::PortOverLimit);
        (0..2000).filter(|_| !is_refused(lab.hear(&frame(from, &call)))).count()
    };
    assert!((1..=MESSAGES_BURST as usize).contains(&looked_at(&mut lab, &thief)));
    let mut elsewhere = udp((ip("2001:db8:9::77"), 49152), (ip(US), bfd::PORT), &call.emit());
    elsewhere[7] = bfd::HOP_LIMIT;
    let opened = lab.hear(&thief.packet(OURS, &elsewhere));
    assert_eq!(opened, Opened::dropped(DropReason::ServiceNotOffered), "who is no hop takes nothing from hops");
    assert_eq!(looked_at(&mut lab, &gateway), CALLS_BURST as usize, "whatever the thief has said");
    lab.run(Duration::from_millis(100));
    assert_eq!(looked_at(&mut lab, &gateway), CALLS_PER_SEC as usize / 10);
    // Who hears us and names us is not held up by it.
    let ours = heard(&lab.stations[0]).last().unwrap().my_discriminator;
    lab.hear(&frame(&gateway, &says(State::Init, ours)));
    assert_eq!(session(&lab), Some("Up"));
}

#[test]
fn bfd_goes_to_port_3784_and_is_heard_there_alone() {
    let (mut lab, ours) = up();
    lab.run(Duration::from_millis(600));
    let ports = lab.stations[0].got.iter().map(|packet| headers::parse(packet).unwrap().transport);
    let ports: Vec<_> = ports
        .filter_map(|transport| match transport {
            Transport::Udp { destination_port, .. } => Some(destination_port),
            _ => None,
        })
        .collect();
    assert!(ports.len() > 1 && ports.iter().all(|port| *port == 3784), "{ports:?}");
    let bye = says(State::AdminDown, ours);
    let mut elsewhere = udp((ip(HOP), 49152), (ip(US), 3785), &bye.emit());
    elsewhere[7] = bfd::HOP_LIMIT;
    let elsewhere = lab.stations[0].packet(OURS, &elsewhere);
    assert_eq!(lab.hear(&elsewhere), Opened::dropped(DropReason::ServiceNotOffered));
    assert_eq!(session(&lab), Some("Up"));
    lab.hear(&frame(&lab.stations[0], &bye));
    assert_eq!(session(&lab), Some("Down"), "the same at the right port");
}

#[test]
fn a_hop_that_has_moved_while_there_was_no_session_is_found() {
    let mut lab = with_bfd(true);
    assert_eq!(lab.status(PORT).next_hops[0].mac, Some(mac(1)));
    lab.stations[0].addresses.clear();
    lab.stations.push(station(2, &[HOP]));
    lab.run(Duration::from_secs(70));
    assert_eq!(lab.status(PORT).next_hops[0].mac, Some(mac(2)));
    assert!(!heard(&lab.stations[1]).is_empty());
}

#[test]
fn a_hop_that_is_up_by_bfd_needs_no_neighbour_solicitations() {
    let mut lab = with_bfd(true);
    let ours = heard(&lab.stations[0])[0].my_discriminator;
    let asked = lab.stations[0].asked;
    for _ in 0..600 {
        lab.hear(&frame(&lab.stations[0], &says(State::Up, ours)));
        lab.hear(&frame(&lab.stations[0], &says(State::Init, ours)));
        lab.run(Duration::from_millis(250));
        lab.got(0);
    }
    assert_eq!((session(&lab), lab.stations[0].asked), (Some("Up"), asked));
}

/// Its session is up, and what it heard until then is forgotten.
fn up() -> (Lab, u32) {
    let mut lab = with_bfd(true);
    let ours = heard(&lab.stations[0])[0].my_discriminator;
    lab.hear(&frame(&lab.stations[0], &says(State::Init, ours)));
    lab.run(Duration::from_millis(100));
    assert_eq!(session(&lab), Some("Up"));
    lab.got(0);
    (lab, ours)
}

#[test]
fn what_comes_to_another_port_is_no_bfd() {
    let (mut lab, ours) = up();
    let bye = says(State::AdminDown, ours);
    for port in [3785, 4784] {
        let opened = lab.hear(&frame_to(port, &lab.stations[0], &bye));
        assert_eq!((opened, session(&lab)), (Opened::dropped(DropReason::ServiceNotOffered), Some("Up")));
    }
    lab.hear(&frame(&lab.stations[0], &bye));
    assert_eq!(session(&lab), Some("Down"));
}

fn configured(change: impl FnOnce(&mut EthernetConfig)) -> Vec<PortConfig> {
    let mut config = ethernet(&["2001:db8:9::2/64"], &[HOP]);
    config.bfd = Some(Bfd { is_active: true, interval: Duration::from_millis(300), multiplier: 3 });
    change(&mut config);
    vec![port(PORT, ETH, config)]
}

#[test]
fn a_hop_is_told_when_its_port_is_taken_away_or_changed() {
    let renumbered = configured(|config| config.addresses = nets(&["2001:db8:9::3/64"]));
    let same = configured(|_| ());
    let other_hop = configured(|config| config.gateways = vec![ip("2001:db8:9::7")]);
    let no_bfd = configured(|config| config.bfd = None);
    for (ports, is_told) in [(vec![], true), (renumbered, true), (other_hop, true), (no_bfd, true), (same, false)] {
        let (mut lab, ours) = up();
        lab.configure(ports.clone());
        let told: Vec<_> = heard(&lab.stations[0]).into_iter().filter(|said| said.state == State::AdminDown).collect();
        assert_eq!(told.len(), usize::from(is_told), "{ports:?}");
        for said in told {
            assert_eq!((said.my_discriminator, said.your_discriminator), (ours, 77));
            assert_eq!(said.diagnostic, Diagnostic::ADMINISTRATIVELY_DOWN);
        }
        if ports.is_empty() {
            assert_eq!(lab.endpoint.poll_timeout(), None, "and that is all");
        }
    }
}

#[test]
fn what_is_another_interface_by_now_hears_nothing_of_a_port_that_was() {
    let (mut lab, _) = up();
    lab.endpoint.configure(vec![], lab.now);
    lab.endpoint.forget_interface(ETH);
    lab.tick();
    assert_eq!(lab.got(0), 0);
}

#[test]
fn at_the_end_of_all_hops_are_told_once() {
    let (mut lab, _) = up();
    let mut outbox = Outbox::new(1 << 16, 64);
    assert!(lab.endpoint.say_goodbye(&mut outbox));
    let sent: Vec<_> = outbox.datagrams().map(|(_, _, frame)| frame.to_vec()).collect();
    let [frame] = &sent[..] else { panic!("{sent:?}") };
    lab.stations[0].receive(ETH, frame);
    assert_eq!(heard(&lab.stations[0])[0].state, State::AdminDown);
    assert!(!lab.endpoint.say_goodbye(&mut outbox), "nobody is left to tell");
}
