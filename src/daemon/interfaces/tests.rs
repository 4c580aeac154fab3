use super::*;
use crate::io::frames::testbed::{sh, with_testbed};

pub(crate) fn plan(number: u8, name: &str, mtu_bytes: u16) -> InterfacePlan {
    InterfacePlan {
        interface: InterfaceId(number),
        name: name.to_owned(),
        is_tun: false,
        choice: Choice::Auto,
        mtu_bytes,
        vlans: Vec::new(),
        daemon: None,
    }
}

fn error(plan: &InterfacePlan) -> String {
    plan.open().unwrap_err().to_string()
}

#[test]
fn what_cannot_be_used_is_told_apart() {
    let missing = error(&plan(0, "ixg-none", 1500));
    assert!(missing.contains("no interface") && missing.contains("lo"), "{missing}");
    let loopback = error(&plan(0, "lo", 1500));
    assert!(loopback.contains("lo carries no Ethernet frames") && !loopback.contains("ip address"), "{loopback}");
}

#[test]
fn addresses_of_the_kernel_are_named_with_what_removing_them_means() {
    with_testbed(|_bed| {
        sh("ip addr add 10.9.9.9/24 dev ixa; ip addr add fd09::9/64 dev ixa nodad");
        let taken = error(&plan(0, "ixa", 1500));
        for words in [
            "10.9.9.9 and fd09::9 on ixa",
            "`ip address del 10.9.9.9/24 dev ixa`, `ip address del fd09::9/64 dev ixa`",
            "a login over it is cut off",
        ] {
            assert!(taken.contains(words), "{taken}");
        }
        sh("ip route add default via 10.9.9.1 dev ixa");
        let machines = error(&plan(0, "ixa", 1500));
        assert!(machines.contains("the machine's default route") && !machines.contains("ip address del"), "{machines}");
    });
}

#[test]
fn a_port_cannot_carry_more_than_its_link() {
    with_testbed(|_bed| {
        let more = error(&plan(0, "ixa", 1501));
        assert!(more.contains("carries no more than 1500") && more.contains("ip link set ixa mtu 1501"), "{more}");
        plan(0, "ixa", 1500).open().unwrap();
    });
}

fn with_vlans(vlans: &[(Option<u16>, Option<u16>)]) -> InterfacePlan {
    let vlans = vlans.iter().map(|(service, customer)| VlanTags { service: *service, customer: *customer });
    InterfacePlan { vlans: vlans.collect(), ..plan(0, "ixa", 1500) }
}

#[test]
fn a_vlan_interface_of_the_kernel_is_in_the_way_in_a_ports_outer_vlan_alone() {
    let devices = || vec![("ixa.100".to_owned(), 100), ("voice".to_owned(), 7)];
    let told = with_vlans(&[(None, Some(100)), (None, Some(8))]).warnings_of(devices());
    assert!(matches!(&told[..], [one] if one.contains("ixa.100 on ixa, in VLAN 100")), "{told:?}");
    let told = with_vlans(&[(Some(7), Some(100))]).warnings_of(devices());
    assert!(matches!(&told[..], [one] if one.contains("voice on ixa, in VLAN 7")), "{told:?}");
    assert!(with_vlans(&[(None, None)]).warnings_of(devices()).is_empty());
}

#[test]
fn vlan_interfaces_are_read_from_the_kernel() {
    with_testbed(|_bed| {
        let made = sh("ip link add link ixa name ixa.100 type vlan id 100 2>/dev/null && echo made || true");
        if !made.contains("made") {
            return eprintln!("NOT RUN: this kernel has no VLAN interfaces");
        }
        assert_eq!(with_vlans(&[(None, Some(100))]).stacked().len(), 1);
    });
}

#[test]
fn at_the_start_what_can_be_opened_is_and_of_the_rest_it_is_known_why() {
    with_testbed(|_bed| {
        let plans = [plan(0, "ixg-none", 1500), plan(1, "ixa", 1500), plan(2, "lo", 1500)];
        let mut sockets = Sockets::default();
        let states = open_all(&plans, &mut sockets).unwrap();
        assert_eq!(
            sockets.drivers().map(|driver| driver.path().port).collect::<Vec<_>>(),
            [Port::Frames(InterfaceId(1))]
        );
        let list = states.list();
        let why = |at: usize| list[at].driver.clone().unwrap_err();
        assert!(why(0).why.contains("no interface") && !why(0).at_next_start, "{:?}", why(0));
        assert!(list[1].driver.as_ref().unwrap().kind.contains("AF_PACKET"));
        assert!(why(2).why.contains("no Ethernet"), "{:?}", why(2));
        assert_eq!([0, 1, 2].map(|number| states.is_open(InterfaceId(number))), [false, true, false]);
    });
}

#[test]
fn only_what_the_process_lacks_ends_a_start() {
    let name = || "eth1".to_owned();
    let frames = InterfaceError::Frames;
    for (error, ends, waits) in [
        (frames(FramesError::NotPermitted(name())), true, true),
        (frames(FramesError::TunNotPermitted(name())), true, false),
        (InterfaceError::Namespace(NamespaceError::NotPermitted(name())), true, true),
        (frames(FramesError::missing("eth1")), false, false),
        (frames(FramesError::NotEthernet(name())), false, false),
        (frames(FramesError::Lacking(name(), "PACKET_VNET_HDR")), false, false),
        (InterfaceError::Namespace(NamespaceError::Missing(name(), "none".to_owned())), false, false),
        (InterfaceError::MtuLargerThanLink { name: name(), wanted: 1900, link: 1500 }, false, false),
    ] {
        assert_eq!((error.is_of_the_process(), error.needs_a_start()), (ends, waits), "{error}");
    }
}

#[test]
fn a_reload_is_held_up_by_what_it_brings_and_not_by_what_is_gone() {
    with_testbed(|_bed| {
        let gone = plan(0, "ixg-none", 1500);
        let running = [gone.clone(), plan(1, "ixa", 1500)];
        let reload = |wanted: &[InterfacePlan]| {
            let mut sockets = Sockets::default();
            open_new(wanted, &running, &mut sockets)
                .map(|()| sockets.drivers().count())
                .map_err(|error| error.to_string())
        };
        assert_eq!(reload(&running), Ok(0), "nothing is opened twice");
        assert_eq!(reload(&[InterfacePlan { mtu_bytes: 1600, ..gone }]), Ok(0));
        let typo = reload(&[plan(2, "ixaa", 1500)]).unwrap_err();
        assert!(typo.contains("no interface \"ixaa\""), "{typo}");
        let more = reload(&[plan(1, "ixa", 1600)]).unwrap_err();
        assert!(more.contains("no more than 1500"), "{more}");
        sh("ip link set ixa mtu 1400");
        assert_eq!(reload(&running), Ok(0), "the link carries less than it did: the path sees to that");
        sh("ip link add ixc type veth peer name ixd");
        assert_eq!(reload(&[plan(3, "ixc", 1500)]), Ok(1));
    });
}

#[test]
fn states_are_of_what_is_configured() {
    let states = States::default();
    let open = |index| State::Open { index, driver: "AF_PACKET".to_owned(), note: None };
    let (eth1, eth2) = (plan(1, "eth1", 1500), plan(2, "eth2", 1500));
    states.add(&eth1, open(7));
    states.change(&eth2, open(8));
    assert!(states.is_open_at(InterfaceId(1), 7) && !states.is_open_at(InterfaceId(1), 8));
    assert!(!states.is_open(InterfaceId(2)), "it is not configured");
    states.change(&plan(1, "eth9", 1500), State::of_error(&FramesError::missing("eth9").into()));
    assert!(states.is_open(InterfaceId(1)), "the number is another's now");
    states.retain(&[eth2]);
    assert!(states.list().is_empty());
}

#[test]
fn another_driver_waits_for_the_next_start() {
    let auto = [plan(0, "eth1", 1500)];
    let xdp = [InterfacePlan { choice: Choice::AfXdp, ..plan(0, "eth1", 1500) }];
    let states = States::default();
    assert!(waiting_for_restart(&xdp, &auto, &states).is_empty(), "it is not open: it will be by that driver");
    states.add(&auto[0], State::Open { index: 1, driver: "AF_PACKET".to_owned(), note: None });
    assert_eq!(waiting_for_restart(&xdp, &auto, &states), ["`driver` of eth1"]);
    assert!(waiting_for_restart(&xdp, &[], &states).is_empty());
    assert!(waiting_for_restart(&xdp, &xdp, &states).is_empty());
}
