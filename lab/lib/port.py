"""Realms that a carrier hands over as Ethernet: the carrier's switch, and its edge, a Linux router with the realm's hosts behind it.

```
  ix                    switch.eth1                        carrier-b (the edge)
  ixgate ── eth1 ═══ trunk ─┬─ 802.1Q 100 ─────────────── eth1-100 ── lan ─┬─ pc.carrier-b
            no address      ├─ 802.1Q 200                                  └─ pacs.carrier-b
                            └─ 802.1ad 300, in it 802.1Q 100
```

The kernel of `ix` has no address on `eth1`: what answers there is ixgate. A realm whose port has no gateway is on the link
itself: its hosts are, and its edge is a switch.
"""

import socket
from ipaddress import ip_interface

from lab.lib import netns, vlan
from lab.lib.netns import Namespace
from lab.lib.site import REMOTE4, REMOTE6, Site


class Switch:
    """The carrier's end of one interface of the IX."""

    def __init__(self, ix, interface):
        self.ix = ix
        self.interface = interface
        self.namespace = Namespace(f"switch.{interface}")
        self.namespace.sysctl("net.ipv6.conf.all.disable_ipv6", 1)  # a switch says nothing of its own
        self.namespace.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        self.ports = {}  # access interfaces by tags
        self.segments = {}  # bridges by tags, where several stations share a link
        netns.veth(ix, interface, self.namespace, "trunk")
        ix.sysctl(f"net.ipv6.conf.{interface}.disable_ipv6", 1)  # else the kernel takes a link-local address there
        self.namespace.ip("link set trunk promisc on")
        self.trunk = index(self.namespace, "trunk")

    def plug(self, tags, edge, name, shared=False):
        """A cable from the edge's interface `name` to the switch's port for these tags; `shared`: others may join there."""
        access = f"access{len(self.ports)}"
        if shared:
            self._make_segment(tags, access)
            self.join(tags, edge, name)
        else:
            netns.veth(self.namespace, access, edge, name)
        self.ports[tags] = index(self.namespace, access)
        vlan.attach(self.namespace, access, vlan.access(tags, self.trunk))
        vlan.attach(self.namespace, "trunk", vlan.trunk(self.ports))

    def join(self, tags, station, name):
        """A further station on a shared link."""
        bridge, stations = self.segments[tags]
        netns.veth(self.namespace, f"{bridge}-{len(stations)}", station, name)
        self.namespace.ip(f"link set {bridge}-{len(stations)} master {bridge}")
        stations.append(station)

    def cut(self):
        """The carrier's device loses the link, and with it the IX's interface."""
        self.namespace.ip("link set trunk down")

    def mend(self):
        self.namespace.ip("link set trunk up")

    def _make_segment(self, tags, access):
        bridge = f"link{len(self.segments)}"
        self.segments[tags] = (bridge, [])
        netns.veth(self.namespace, access, self.namespace, f"{bridge}-up")
        self.namespace.ip(f"link add {bridge} type bridge", f"link set {bridge} up", f"link set {bridge}-up master {bridge}")


class EdgeSite(Site):
    """A realm attached by ports and nothing else; its gateway is the carrier's edge."""

    def __init__(self, realm, number, directory):
        super().__init__(realm, number, directory, None)

    def cable_to(self, world):
        """No way to the outer network."""

    def attach(self):
        return None

    def start(self):
        """The kernel is the router."""

    def configure(self, _ixgate):
        """Its own addresses on the link are there already."""

    def build_hosts(self):
        self.build_lan()
        port = self.realm.ports[0]
        if port.gateway:
            self.gateway.ip(*routes_by(port, self.remote_networks()))
        else:
            self._put_hosts_on_link(port)

    def how_to_show(self):
        return "ip neighbour"

    def _put_hosts_on_link(self, port):
        """The port's cable ends in the hosts' LAN, where the port's address stands for the gateway's. With proxy ARP and ND, hosts
        know no router: for them what is behind the IX is on the link."""
        self.gateway.ip("addr flush dev lan", f"link set {port.cable()} master lan")
        if port.more.get("proxy"):
            for host in self.realm.hosts:
                remote = [(4, "default", REMOTE4), (6, "::/0", REMOTE6)]
                self.namespaces[host.name].ip(*(
                    command for version, default, network in remote if host.address(version)
                    for command in (f"route del {default}", f"route add {network} dev eth0")))


class KernelSite(Site):
    """The machine on which ixgate runs, as a realm: its kernel's own routing, by a TUN device."""

    def __init__(self, realm, number, directory, ix):
        self.realm, self.number, self.directory, self.device = realm, number, directory, realm.tun
        self.gateway, self.namespaces, self.daemon = ix, {}, None
        # One that lasts and belongs to ixgate's user: then it needs no capability.
        ix.ip(f"tuntap add dev {self.device} mode tun user 0", f"link set {self.device} up")

    def cable_to(self, world):
        """It is there."""

    def attach(self):
        return f'tun = {{ name = "{self.device}" }}'

    def start(self):
        """It runs."""

    def configure(self, _ixgate):
        """Nothing to agree on."""

    def build_hosts(self):
        self._hosts_on_gateway()

    def how_to_show(self):
        return f"ip -statistics link show {self.device}"


def cable_ports(site, world):
    """All ports of a realm, and the edge's own addresses there."""
    edge = site.gateway
    edge.sysctl("net.ipv6.conf.default.accept_dad", 0)  # it would make the first packets wait
    for port in site.realm.ports:
        world.switch(port.interface).plug(port.tags(), edge, port.cable(), port.shared)
        lengths = {ip_interface(a).version: ip_interface(a).network.prefixlen for a in port.address}
        for gateway in port.gateway:
            version = 6 if ":" in gateway else 4
            edge.ip(f"addr add {gateway}/{lengths[version]} dev {port.cable()}" + (" nodad" if version == 6 else ""))


def routes_by(port, networks):
    """`ip` commands: the way to these networks is the port's address of their IP version."""
    hops = {ip_interface(a).version: ip_interface(a).ip for a in port.address}
    versions = ((network, 6 if ":" in network else 4) for network in networks)
    return [f"route add {network} via {hops[version]}" for network, version in versions if version in hops]


def index(namespace, interface):
    """The number of an interface."""
    with namespace.entered():
        return socket.if_nametoindex(interface)
