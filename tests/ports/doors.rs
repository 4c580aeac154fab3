//! BGP between a realm's routers and its routing daemon, past the walk: that and nothing else, by ports and by tunnels.

use super::*;

const TEXT: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[[realm]]
name = "port"
networks = ["192.168.1.0/24"]
routes_from = { namespace = "bgp-a", tun = "ix0", local = "172.20.0.2", peers = "172.20.0.1" }
attach = [{ port = { interface = "eth1", vlan = 100, address = "172.20.0.2/29", gateway = "172.20.0.1" } }]
[[realm]]
name = "tunnel"
networks = ["192.168.1.0/24"]
routes_from = { namespace = "bgp-b", tun = "ix0", local = "172.20.0.2", peers = "172.20.0.1" }
attach = [{ wireguard = { public_key = "{key:tunnel}" } }]
[[grant]]
from = ["port", "tunnel"]
to = ["realm:port", "realm:tunnel"]
ports = ["any"]
"#;

const ROUTER_IP: &str = "172.20.0.1";
const DAEMON_IP: &str = "172.20.0.2";

struct World {
    world: Mixed,
    station: usize,
    site: usize,
    /// The daemons' devices.
    of_port: InterfaceId,
    of_tunnel: InterfaceId,
}

fn start() -> World {
    let appliance = Appliance::build(TEXT);
    let mut world = Mixed::new(&appliance, 1);
    let device = |realm: &str| {
        let id = appliance.realm(realm);
        appliance.snapshot.doors.iter().find(|door| door.realm == id).expect("a door").interface
    };
    let (of_port, of_tunnel) = (device("port"), device("tunnel"));
    assert_ne!(of_port, of_tunnel, "the same name, in another namespace");
    let eth1 = world.interface("eth1");
    let station = world.attach_station(Station::new(eth1, Some(100), ROUTER, &[ROUTER_IP]));
    let site = world.attach_wireguard(&appliance, "tunnel");
    // What expires there is for it itself.
    world.wireguard(site).reports_expiry = false;
    world.set_link(eth1, true, 1500);
    world.run_for(Duration::from_secs(10));
    world.take_station_inbox(station);
    world.take_inbox(site);
    World { world, station, site, of_port, of_tunnel }
}

/// With the TTL that eBGP is sent with.
fn bgp(from: &str, to: &str, ports: (u16, u16), len: usize) -> Vec<u8> {
    let mut packet = tcp((ip(from), ports.0), (ip(to), ports.1), flag::ACK, &[], &vec![7; len]);
    packet[8] = 1;
    packet[10..12].fill(0);
    let sum: u32 = packet[..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    verify(&packet).expect("right checksums");
    packet
}

impl World {
    fn run(&mut self) {
        self.world.run_for(Duration::from_millis(100));
    }

    fn at_daemons(&mut self) -> Vec<(InterfaceId, Vec<u8>)> {
        std::mem::take(&mut self.world.ports.from_tun)
    }

    /// Less the IX's own probes of the tunnel's path.
    fn at_site(&mut self) -> Vec<Vec<u8>> {
        let mut inbox = self.world.take_inbox(self.site);
        inbox.retain(|packet| packet[9] != 1);
        inbox
    }

    /// Everything that came is accounted for, and all that passed has a name.
    fn drops(&self, reason: DropReason) -> u64 {
        let report = self.world.report();
        let all = report.realms.iter().map(|realm| realm.drops[reason.index()]).sum::<u64>();
        all + report.unattributed_drops[reason.index()]
    }
}

#[test]
fn bgp_passes_unchanged_between_routers_and_daemons() {
    let mut ix = start();
    let before = ix.world.report().totals.forwarded;
    for ports in [(179, 40_000), (40_000, 179)] {
        let (question, answer) = (bgp(ROUTER_IP, DAEMON_IP, ports, 40), bgp(DAEMON_IP, ROUTER_IP, ports, 1000));
        ix.world.send_by_port(ix.station, &question);
        ix.run();
        assert_eq!(ix.at_daemons(), [(ix.of_port, question.clone())]);
        assert!(ix.world.send(ix.site, &question));
        ix.run();
        assert_eq!(ix.at_daemons(), [(ix.of_tunnel, question)]);

        ix.world.inject(Path::tun(ix.of_port), answer.clone());
        ix.world.inject(Path::tun(ix.of_tunnel), answer.clone());
        ix.run();
        let by_port = ix.world.take_station_inbox(ix.station);
        assert!(by_port.len() == 1 && by_port[0].starts_with(&answer), "{by_port:?}");
        assert_eq!(ix.at_site(), [answer]);
    }
    let report = ix.world.report();
    assert_eq!((report.totals.forwarded - before, report.sessions), (8, 0), "{:#?}", report.totals);
}

#[test]
fn nothing_else_comes_out_of_a_daemons_device() {
    let mut ix = start();
    let host = "192.168.1.20";
    let others = [
        udp((ip(DAEMON_IP), 179), (ip(ROUTER_IP), 179), b"no TCP"),
        tcp((ip(DAEMON_IP), 40_000), (ip(ROUTER_IP), 180), flag::SYN, &[], &[]),
        tcp((ip(DAEMON_IP), 40_000), (ip(host), 179), flag::SYN, &[], &[]),
        tcp((ip(host), 40_000), (ip(ROUTER_IP), 179), flag::SYN, &[], &[]),
        tcp((ip(ROUTER_IP), 40_000), (ip(DAEMON_IP), 179), flag::SYN, &[], &[]),
        echo(ip(DAEMON_IP), ip(ROUTER_IP), 7, false),
        vec![0x45; 3],
        vec![0; 60],
        Vec::new(),
    ];
    for (count, other) in (1..).zip(&others) {
        ix.world.inject(Path::tun(ix.of_port), other.clone());
        ix.run();
        assert_eq!(ix.drops(DropReason::DaemonNotBgp), count, "{other:?}");
    }
    ix.world.inject(Path::tun(ix.of_port), bgp(DAEMON_IP, ROUTER_IP, (179, 40_000), 1600));
    ix.run();
    assert_eq!(ix.drops(DropReason::PacketTooBig), 1);
    assert_eq!((ix.world.take_station_inbox(ix.station), ix.at_site()), (vec![], vec![]));
}

#[test]
fn nothing_else_comes_to_a_daemon() {
    let mut ix = start();
    let (host, stranger) = ("192.168.1.20", "172.20.0.3");
    let others = [
        udp((ip(ROUTER_IP), 179), (ip(DAEMON_IP), 179), b"no TCP"),
        tcp((ip(ROUTER_IP), 40_000), (ip(DAEMON_IP), 22), flag::SYN, &[], &[]),
        tcp((ip(stranger), 40_000), (ip(DAEMON_IP), 179), flag::SYN, &[], &[]),
        tcp((ip(host), 40_000), (ip(DAEMON_IP), 179), flag::SYN, &[], &[]),
        tcp((ip(ROUTER_IP), 40_000), (ip(host), 179), flag::SYN, &[], &[]),
    ];
    for other in &others {
        ix.world.send_by_port(ix.station, other);
        assert!(ix.world.send(ix.site, other));
        ix.run();
        assert_eq!(ix.at_daemons(), [], "{other:?}");
    }
    // The port's own address still answers, and offers nothing else.
    assert_eq!(ix.drops(DropReason::ServiceNotOffered), 4);
    ix.world.send_by_port(ix.station, &echo(ip(ROUTER_IP), ip(DAEMON_IP), 7, false));
    ix.run();
    assert_eq!(ix.world.take_station_inbox(ix.station).len(), 1);
}
