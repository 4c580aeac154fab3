//! A realm with several attachments: which one carries it, and what becomes of its sessions.

use super::*;

/// `clinic` by a port, by WireGuard when that fails; `twins` by two ports that share its flows.
const SEVERAL: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[[realm]]
name = "clinic"
networks = ["192.168.1.0/24"]
[[realm.attach]]
priority = 1
port = { interface = "eth1", vlan = 100, address = "172.20.0.2/30", gateway = "172.20.0.1", liveness_ms = 200 }
[[realm.attach]]
priority = 2
wireguard = { public_key = "{key:clinic}" }
[[realm]]
name = "twins"
networks = ["192.168.1.0/24"]
[[realm.attach]]
priority = 1
weight = 3
port = { interface = "eth2", vlan = 1, address = "172.20.0.2/30", gateway = "172.20.0.1" }
[[realm.attach]]
priority = 1
weight = 1
port = { interface = "eth3", vlan = 1, address = "172.20.0.2/30", gateway = "172.20.0.1" }
[[grant]]
from = ["clinic", "twins"]
to = ["realm:twins", "realm:clinic"]
ports = ["any"]
"#;

struct Several {
    ix: Fixture,
    eth1: InterfaceId,
    eth2: InterfaceId,
    /// While everything came up.
    switches_before: u64,
}

fn start() -> Several {
    let appliance = Appliance::build(SEVERAL);
    let mut world = Mixed::new(&appliance, 1);
    let [eth1, eth2, eth3] = ["eth1", "eth2", "eth3"].map(|name| world.interface(name));
    let mut ends = Vec::new();
    for (name, interface, vlan) in [("port", eth1, 100), ("heavy", eth2, 1), ("light", eth3, 1)] {
        let station = Station::new(interface, Some(vlan), ROUTER, &["172.20.0.1"]);
        ends.push((name, End::Station(world.attach_station(station))));
    }
    ends.push(("backup", End::Site(world.attach_wireguard(&appliance, "clinic"))));
    [eth1, eth2, eth3].into_iter().for_each(|interface| world.set_link(interface, true, 1500));
    world.run_for(Duration::from_secs(10));
    let mut ix = Fixture { world, appliance, ends };
    ix.take_all();
    ix.world.events.clear();
    let mut several = Several { ix, eth1, eth2, switches_before: 0 };
    several.switches_before = several.switch_count("clinic");
    several
}

impl Several {
    fn switches(&self) -> Vec<String> {
        self.ix.world.events.iter().filter(|event| event.contains("carried by")).cloned().collect()
    }

    fn switch_count(&self, realm: &str) -> u64 {
        let id = self.ix.appliance.realm(realm);
        self.ix.world.report().realms.iter().find(|realm| realm.realm == id).expect("a realm").switches
    }

    /// From a host of the clinic, by either attachment, to one of the twins; gives by which it came out.
    fn ask(&mut self, by: &str, flags: u8, port: u16) -> &'static str {
        let shown = self.ix.appliance.seen_by("clinic", "twins", "192.168.1.20");
        self.pass(by, &tcp((ip("192.168.1.10"), port), (shown, 443), flags, &[], b"data"))
    }

    fn answer(&mut self, by: &str, flags: u8, port: u16) -> &'static str {
        let shown = self.ix.appliance.seen_by("twins", "clinic", "192.168.1.10");
        self.pass(by, &tcp((ip("192.168.1.20"), 443), (shown, port), flags, &[], b"data"))
    }

    fn pass(&mut self, by: &str, packet: &[u8]) -> &'static str {
        self.ix.send(by, packet);
        self.ix.world.run_for(Duration::from_millis(20));
        let arrivals = self.ix.take_all();
        let [(at, arrived)] = &arrivals[..] else {
            panic!("{arrivals:?} {:#?} {:#?}", self.ix.world.report().totals, self.ix.world.events)
        };
        verify(arrived).unwrap_or_else(|wrong| panic!("{wrong}"));
        at
    }
}

#[test]
fn a_tcp_connection_goes_on_by_wireguard_when_the_port_loses_its_link_and_comes_back_with_it() {
    let mut several = start();
    let twin = several.ask("port", flag::SYN, 5000);
    assert_eq!(several.answer(twin, flag::SYN | flag::ACK, 5000), "port");
    several.ask("port", flag::ACK, 5000);

    several.ix.world.set_link(several.eth1, false, 1500);
    assert_eq!(several.answer(twin, flag::ACK, 5000), "backup", "the next packet");
    assert_eq!(several.ask("backup", flag::ACK, 5000), twin, "and from there, too");
    let lost = "realm clinic: carried by WireGuard";
    assert!(matches!(&several.switches()[..], [one] if one.starts_with(lost) && one.ends_with("went down")));
    assert_eq!(several.switch_count("clinic"), several.switches_before + 1);

    several.ix.world.set_link(several.eth1, true, 1500);
    several.ix.world.run_for(Duration::from_secs(10));
    several.ix.take_all();
    assert_eq!(several.answer(twin, flag::ACK, 5000), "port", "the better one again");
    assert_eq!(several.ask("port", flag::ACK, 5000), twin);
    let [_, back] = &several.switches()[..] else { panic!("{:?}", several.switches()) };
    assert_eq!(back, "realm clinic: carried by port eth1 VLAN 100 now: port eth1 VLAN 100 came up");
    assert_eq!(several.switch_count("clinic"), several.switches_before + 2);
    assert_eq!(several.ix.drops("twins", DropReason::NoSession), 0, "the session was never lost");
}

#[test]
fn a_next_hop_that_falls_silent_is_left_within_three_intervals() {
    let mut several = start();
    let twin = several.ask("port", flag::SYN, 5000);
    several.answer(twin, flag::SYN | flag::ACK, 5000);
    let End::Station(port) = several.ix.end("port") else { panic!("a port") };
    several.ix.world.ports.stations[port].is_silent = true;
    // Three probes, 200 ms apart, and what was left of the interval that had begun.
    let silent_at = several.ix.world.now();
    let shown = several.ix.appliance.seen_by("twins", "clinic", "192.168.1.10");
    let answer = tcp((ip("192.168.1.20"), 443), (shown, 5000), flag::ACK, &[], b"data");
    loop {
        several.ix.send(twin, &answer);
        several.ix.world.run_for(Duration::from_millis(20));
        if !several.ix.take_all().is_empty() {
            break;
        }
        let silence = several.ix.world.now() - silent_at;
        assert!(silence < Duration::from_millis(3 * 200 + 200 + 60), "still by the dead one after {silence:?}");
    }
    assert_eq!(several.switches().len(), 1, "{:?}", several.switches());
}

#[test]
fn flows_are_shared_by_weight_and_stay_where_they_are() {
    let mut several = start();
    let by: Vec<_> = (1000..1400).map(|port| several.ask("port", flag::SYN, port)).collect();
    let heavy = by.iter().filter(|by| **by == "heavy").count();
    assert!((250..350).contains(&heavy), "{heavy} of 400, with a weight of 3 in 4");

    several.ix.world.set_link(several.eth2, false, 1500);
    for port in 1000..1400 {
        assert_eq!(several.ask("port", flag::SYN, port), "light");
    }
    several.ix.world.set_link(several.eth2, true, 1500);
    several.ix.world.run_for(Duration::from_secs(10));
    several.ix.take_all();
    let again: Vec<_> = (1000..1400).map(|port| several.ask("port", flag::SYN, port)).collect();
    assert_eq!(again, by, "each where it was");
    assert_eq!(several.switch_count("twins"), 2);
}

#[test]
fn an_interface_number_that_goes_to_another_interface_brings_nothing_with_it() {
    let mut several = start();
    several.ask("port", flag::SYN, 5000);
    // eth1's number may be given to eth9 only by the configuration after the next.
    let other = SEVERAL.replace("\"eth1\"", "\"eth9\"");
    let without = several.ix.appliance.change(&SEVERAL.replace("\"eth1\", vlan = 100", "\"eth3\", vlan = 100"));
    several.ix.world.publish(without);
    let with_other = several.ix.appliance.change(&other);
    several.ix.world.publish(with_other);
    assert_eq!(several.ix.world.interface("eth9"), several.eth1, "its number");
    let id = several.ix.appliance.realm("clinic");
    several.ix.world.run_for(Duration::from_secs(20));
    let report = several.ix.world.report();
    let port = report.tunnels.iter().find(|tunnel| tunnel.realm == id && tunnel.port.is_some()).expect("a port");
    assert!(!port.up, "nobody has told how eth9 is: {port:?}");
    let removed = several.ix.world.events.iter().find(|event| event.contains("(removed)"));
    assert_eq!(removed, None, "a port that is gone says nothing more");
}
