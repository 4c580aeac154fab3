//! A realm with a port and a tunnel of equal priority: its flows are shared by weight, and each stays with its own.

use super::*;

/// `clinic` by a port and by a tunnel, `far` by a port.
const SHARED: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[ike]
local_id = "fqdn:ix.example"
listen = "198.51.100.1"
[[realm]]
name = "clinic"
networks = ["192.168.1.0/24"]
[[realm.attach]]
priority = 1
weight = 1
port = { interface = "eth1", address = "172.20.0.2/30", gateway = "172.20.0.1", liveness_ms = 200 }
[[realm.attach]]
priority = 1
weight = 3
TUNNEL
[[realm]]
name = "far"
networks = ["192.168.1.0/24"]
attach = [{ port = { interface = "eth2", address = "172.20.0.2/30", gateway = "172.20.0.1" } }]
[[grant]]
from = ["far"]
to = ["realm:clinic"]
ports = ["any"]
"#;
const WIREGUARD: &str = r#"wireguard = { public_key = "{key:clinic}" }"#;
const IPSEC: &str = r#"ipsec = { remote_id = "fqdn:clinic.example", psk_file = "secrets/clinic.example.psk" }"#;
const FLOWS: u16 = 400;

struct Shared {
    ix: Fixture,
    eth1: InterfaceId,
}

impl Shared {
    fn start(tunnel: &str) -> Self {
        let appliance = Appliance::build(&SHARED.replace("TUNNEL", tunnel));
        let mut world = Mixed::new(&appliance, 1);
        let (eth1, eth2) = (world.interface("eth1"), world.interface("eth2"));
        let mut ends = Vec::new();
        for (name, interface) in [("port", eth1), ("far", eth2)] {
            let station = world.attach_station(Station::new(interface, None, ROUTER, &["172.20.0.1"]));
            ends.push((name, End::Station(station)));
        }
        let site = match tunnel {
            WIREGUARD => world.attach_wireguard(&appliance, "clinic"),
            _ => world.attach_ipsec(plan("clinic.example", 11)),
        };
        ends.push(("tunnel", End::Site(site)));
        [eth1, eth2].into_iter().for_each(|interface| world.set_link(interface, true, 1500));
        let mut shared = Shared { ix: Fixture { world, appliance, ends }, eth1 };
        shared.wait(10);
        shared
    }

    fn wait(&mut self, secs: u64) {
        self.ix.world.run_for(Duration::from_secs(secs));
        self.ix.take_all();
    }

    /// A packet of each flow to the clinic: by which attachment it came out.
    fn ways(&mut self) -> Vec<&'static str> {
        let shown = self.ix.appliance.seen_by("far", "clinic", "192.168.1.10");
        (0..FLOWS).map(|flow| self.way(&udp((ip("192.168.1.20"), 1000 + flow), (shown, 443), b"question"))).collect()
    }

    fn way(&mut self, packet: &[u8]) -> &'static str {
        self.ix.send("far", packet);
        self.ix.world.run_for(Duration::from_millis(20));
        let arrivals = self.ix.take_all();
        let [(at, arrived)] = &arrivals[..] else { panic!("{arrivals:?} {:#?}", self.ix.world.report().totals) };
        verify(arrived).unwrap_or_else(|wrong| panic!("{wrong}"));
        at
    }

    fn is_tunnel_up(&self) -> bool {
        let id = self.ix.appliance.realm("clinic");
        let report = self.ix.world.report();
        report.tunnels.iter().find(|tunnel| tunnel.realm == id && tunnel.port.is_none()).expect("a tunnel").up
    }

    /// Nothing of the tunnel arrives, until it is down.
    fn lose_tunnel(&mut self) {
        self.ix.world.lost_permille = 1000;
        self.wait_until_tunnel(false);
        self.ix.world.lost_permille = 0;
    }

    /// WireGuard calls anew when told to, IPsec by itself.
    fn bring_tunnel_back(&mut self, tunnel: &str) {
        let End::Site(site) = self.ix.end("tunnel") else { panic!("a tunnel") };
        if tunnel == WIREGUARD {
            self.ix.world.renew_wireguard(site);
        }
        self.wait_until_tunnel(true);
    }

    fn wait_until_tunnel(&mut self, is_up: bool) {
        let within = (0..100).any(|_| {
            self.wait(10);
            self.is_tunnel_up() == is_up
        });
        assert!(within, "1,000 s later the tunnel is still {}", if is_up { "down" } else { "up" });
    }
}

fn flows_are_shared_and_stay(tunnel: &str) {
    let mut shared = Shared::start(tunnel);
    let ways = shared.ways();
    let by_tunnel = ways.iter().filter(|way| **way == "tunnel").count();
    assert!((250..350).contains(&by_tunnel), "{by_tunnel} of {FLOWS}, with a weight of 3 in 4");
    assert_eq!(shared.ways(), ways, "each stays where it is");

    shared.ix.world.set_link(shared.eth1, false, 1500);
    assert_eq!(shared.ways(), ["tunnel"; FLOWS as usize]);
    shared.ix.world.set_link(shared.eth1, true, 1500);
    shared.wait(10);
    assert_eq!(shared.ways(), ways, "those of the port are back, the others were never away");

    shared.lose_tunnel();
    assert_eq!(shared.ways(), ["port"; FLOWS as usize]);
    shared.bring_tunnel_back(tunnel);
    assert_eq!(shared.ways(), ways, "and those of the tunnel");
}

#[test]
fn a_port_and_wireguard_share_flows_by_weight_and_each_stays_with_its_own() {
    flows_are_shared_and_stay(WIREGUARD);
}

#[test]
fn a_port_and_ipsec_share_flows_by_weight_and_each_stays_with_its_own() {
    flows_are_shared_and_stay(IPSEC);
}
