"""A site: one realm's gateway, and the hosts behind it. Here with wireguard-go; with strongSwan in strongswan.py."""

import subprocess
import sys
import time
from ipaddress import ip_interface, ip_network
from pathlib import Path

from lab.lib import netns
from lab.lib.netns import Namespace

OUTER = "198.51.100"
IX_OUTER = f"{OUTER}.1"
IX_PORT = 51820
# What a gateway routes into its tunnel: the IX's alias pool, and every IPv6 address that is not its own.
REMOTE4, REMOTE6 = "100.64.0.0/10", "fc00::/7"
WG_MTU_BYTES = 1420
KEEPALIVE_SECS = 5


class Site:
    """`number` counts from 1 and makes names and outer addresses. What runs in the gateway is the subclass's."""

    def __init__(self, realm, number, directory, device):
        self.realm = realm
        self.number = number
        self.directory = directory
        self.device = device  # the tunnel's interface in the gateway
        self.outer = f"{OUTER}.{10 + number}"
        self.gateway = Namespace(realm.name)
        self.namespaces = {}  # by host name
        self.daemon = None

    def cable_to(self, world):
        """The outer network: a cable into the bridge of the IX's namespace, or one into the routers of a narrow path."""
        if self.realm.path_mtu_bytes:
            self.outer = world.path(self.realm.path_mtu_bytes).take_in(self.gateway)
            return
        port = f"outer{self.number}"
        netns.veth(world.ix, port, self.gateway, "outer")
        world.ix.ip(f"link set {port} master outer")
        self.gateway.ip(f"addr add {self.outer}/24 dev outer")

    def remote_networks(self):
        """What the gateway routes into its tunnel."""
        return [REMOTE4, REMOTE6, *self.realm.routes]

    def log(self, program):
        return self.directory / f"{self.realm.name}.{program}.log"

    def build_lan(self):
        """A bridge in the gateway, which is .1 (and ::1) of every network, and a cable to each host."""
        gateway = self.gateway
        gateway.sysctl("net.ipv4.ip_forward", 1)
        gateway.sysctl("net.ipv6.conf.all.forwarding", 1)
        gateway.ip("link add lan type bridge", "link set lan up")
        on_lan = [host for host in self.realm.hosts if host.on_lan]
        for network in sorted({str(ip_interface(a).network) for host in on_lan for a in host.addresses}):
            nodad = " nodad" if ":" in network else ""
            gateway.ip(f"addr add {ip_network(network)[1]}/{network.partition('/')[2]} dev lan{nodad}")
        for index, host in enumerate(self.realm.hosts):
            inside = Namespace(f"{host.name}.{self.realm.name}")
            self.namespaces[host.name] = inside
            if not host.on_lan:
                continue
            netns.veth(gateway, f"lan{index}", inside, "eth0")
            gateway.ip(f"link set lan{index} master lan")
            for address in host.addresses:
                inside.ip(f"addr add {address} dev eth0" + (" nodad" if ":" in address else ""))
            if v4 := host.address(4):
                inside.ip(f"route add default via {str(v4).rpartition('.')[0]}.1")
            if v6 := host.address(6):
                inside.ip(f"route add ::/0 via {str(v6).rpartition('::')[0]}::1")

    def _hosts_on_gateway(self):
        commands = []
        for host in self.realm.hosts:
            self.namespaces[host.name] = self.gateway
            for version, remote in ((4, REMOTE4), (6, REMOTE6)):
                if address := host.address(version):
                    commands.append(f"addr add {address} dev {self.device}" + (" nodad" if version == 6 else ""))
                    commands.append(f"route replace {remote} dev {self.device} src {address}")
        self.gateway.ip(*commands)


class WireGuardSite(Site):
    def __init__(self, realm, number, directory):
        # The device's name is unique: the control sockets of all wireguard-go share one directory.
        super().__init__(realm, number, directory, f"wg{number}")
        self.relay = None
        self.ix_key = None
        self.key_file = directory / f"{realm.name}.key"
        self.private_key = wg_key("genkey")
        self.public_key = wg_key("pubkey", self.private_key)
        self.key_file.write_text(self.private_key, encoding="ascii")
        self.key_file.chmod(0o600)

    def attach(self):
        """The realm's `[[realm.attach]]` in ixgate's configuration."""
        # Where the IX reaches the gateway; not when the gateway calls the IX.
        endpoint = f', endpoint = "{self.outer}:{IX_PORT}"' if self.realm.calls == "ix" else ""
        return f'wireguard = {{ public_key = "{self.public_key}"{endpoint} }}'

    def start(self):
        self.daemon = self.gateway.spawn(
            ["wireguard-go", "-f", self.device], self.log("wireguard-go"), env={"LOG_LEVEL": "error"}
        )

    def start_relay(self, options, seed):
        """Puts a bad path between gateway and IX; see relay.py. For a gateway that calls: it moves to another port, so
        that nothing can reach it but through the relay, and the IX learns the new path from the next packet."""
        relay_port, own_port = IX_PORT + 1, IX_PORT + 2
        self.relay = self.gateway.spawn(
            [sys.executable, "-B", Path(__file__).with_name("relay.py"), relay_port, IX_OUTER, IX_PORT, *options,
             "--seed", seed],
            self.log("relay"),
        )
        self.wg_set("listen-port", own_port, "peer", self.ix_key, "endpoint", f"127.0.0.1:{relay_port}")

    def configure(self, ixgate):
        self.ix_key = ixgate.public_key
        wait_for_file(Path(f"/run/wireguard/{self.device}.sock"), self.daemon, self.log("wireguard-go"))
        # Only a gateway that calls keeps its tunnel alive; the other is kept alive by the IX.
        calls = self.realm.calls == "gateway"
        peer = ["endpoint", f"{IX_OUTER}:{IX_PORT}", "persistent-keepalive", KEEPALIVE_SECS] if calls else []
        self.wg_set("listen-port", IX_PORT, "private-key", self.key_file, "peer", self.ix_key, *peer,
                    "allowed-ips", ",".join(self.remote_networks()))
        self.gateway.ip(f"link set {self.device} mtu {WG_MTU_BYTES} up")

    def build_hosts(self):
        if self.realm.separate_hosts:
            self.build_lan()
            self.gateway.ip(*(f"route add {network} dev {self.device}" for network in self.remote_networks()))
        else:
            self._hosts_on_gateway()

    def how_to_show(self):
        return f"wg show {self.device}"

    def wg_set(self, *words):
        done = self.gateway.run(["wg", "set", self.device, *words])
        if done.returncode != 0:
            raise RuntimeError(f"wg set in {self.realm.name}: {done.stdout}")


def network_prefix(network):
    """A network of the scenario is a prefix, or a table with `prefix` and options for the configuration file."""
    return network["prefix"] if isinstance(network, dict) else network


def wg_key(command, given=""):
    return subprocess.run(["wg", command], input=given, capture_output=True, text=True, check=True).stdout.strip()


def wait_for_file(path, process, log, timeout=10):
    deadline = time.monotonic() + timeout
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            words = log.read_text(encoding="utf-8", errors="replace").strip() if log.exists() else ""
            raise RuntimeError(f"{path} did not appear: {words or 'no word from the program'}")
        time.sleep(0.02)
