use super::*;
use crate::wire::ipv6;

const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
const THEIRS: Mac = Mac([2, 0, 0, 0, 0, 2]);
const US: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 2);
const THEM: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1);

fn destination(packet: &[u8]) -> Ipv6Addr {
    ipv6::parse(packet).unwrap().destination
}

#[test]
fn a_solicitation_asks_the_targets_group_and_says_who_asks() {
    let mut out = [0; 100];
    let (len, to) = emit_solicitation(&mut out, US, THEM, OURS, false);
    assert_eq!((destination(&out[..len]), to), (solicited_node(THEM), group_mac(solicited_node(THEM))));
    assert!(is_nd(&out[..len]));
    let heard = Heard::Solicited { target: THEM, from: US, mac: Some(OURS) };
    assert_eq!(read(&out[..len], THEIRS), Some(heard), "what it says of itself counts, not the frame");
}

#[test]
fn a_unicast_solicitation_goes_to_the_target_itself() {
    let mut out = [0; 100];
    let (len, to) = emit_solicitation(&mut out, US, THEM, OURS, true);
    assert_eq!((destination(&out[..len]), to), (THEM, Mac::default()));
    assert_eq!(read(&out[..len], OURS), Some(Heard::Solicited { target: THEM, from: US, mac: Some(OURS) }));
}

#[test]
fn a_solicitation_from_nowhere_is_of_the_frames_sender() {
    let mut out = [0; 100];
    let (len, _) = emit_solicitation(&mut out, Ipv6Addr::UNSPECIFIED, US, OURS, false);
    assert_eq!(len, 64, "no option");
    let heard = Heard::Solicited { target: US, from: Ipv6Addr::UNSPECIFIED, mac: Some(OURS) };
    assert_eq!(read(&out[..len], OURS), Some(heard));
}

#[test]
fn an_advertisement_to_nowhere_goes_to_all_and_is_no_answer() {
    let mut out = [0; 100];
    for (to, expected, is_solicited) in
        [(THEM, THEM, true), (Ipv6Addr::UNSPECIFIED, ALL_NODES, false), (ALL_NODES, ALL_NODES, false)]
    {
        let len = emit_advertisement(&mut out, US, to, US, OURS, true, true, false);
        assert_eq!(destination(&out[..len]), expected);
        let is_override = true;
        let heard = Heard::Advertised { target: US, mac: Some(OURS), is_router: false, is_solicited, is_override };
        assert_eq!(read(&out[..len], OURS), Some(heard));
    }
}

#[test]
fn router_solicitations_are_heard_and_mean_nothing() {
    let mut out = [0; 100];
    for source in [US, Ipv6Addr::UNSPECIFIED] {
        let len = emit_router_solicitation(&mut out, source, OURS);
        assert_eq!(destination(&out[..len]), ALL_ROUTERS);
        assert_eq!(read(&out[..len], OURS), Some(Heard::Other));
    }
}

#[test]
fn a_router_is_heard_with_what_may_be_believed_of_it() {
    let from = "fe80::1".parse().unwrap();
    let (lifetime, preference) = (Duration::from_secs(600), Preference::Low);
    let message = Message::RouterAdvertisement { lifetime, preference, mac: Some(THEIRS), mtu_bytes: None };
    let mut out = [0; 100];
    let len = ndp::emit(&mut out, from, ALL_NODES, &message).unwrap();
    let expected = RouterAdvertisement { from, mac: Some(THEIRS), lifetime, preference };
    assert_eq!(read(&out[..len], THEIRS), Some(Heard::Router(expected)));
}

#[test]
fn nothing_is_written_where_it_does_not_fit() {
    let mut out = [0; 60];
    assert_eq!(emit_solicitation(&mut out, US, THEM, OURS, false).0, 0);
    assert_eq!(emit_advertisement(&mut out, US, THEM, US, OURS, true, true, false), 0);
    assert_eq!(emit_router_solicitation(&mut out[..50], US, OURS), 0);
    assert_eq!(emit_group_report(&mut out, US, &[solicited_node(US)]), 0);
}
