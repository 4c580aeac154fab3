"""The words in which a scenario describes its networks. Plain data; world.py builds it, ixgate.py writes it as TOML."""

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface

DOMAIN = "ix.example"


@dataclass
class Host:
    """A machine in a realm: `addresses` with the length of its network, e.g. 192.168.1.10/24."""

    name: str
    addresses: list
    # False: it is not in the gateway's LAN. It has a namespace and nothing in it; the scenario does the rest.
    on_lan: bool = True
    # False: ixgate's configuration does not name it.
    named: bool = True

    def address(self, version=4):
        """Its own address of that IP version, without the prefix length; None when it has none."""
        found = [ip_interface(a).ip for a in self.addresses]
        return next((a for a in found if a.version == version), None)


@dataclass
class Ipsec:
    """How a realm's gateway, strongSwan, and the IX prove themselves to each other, and what they agree on."""

    # "psk", or the kind of key in the gateway's certificate: "ecdsa", "ecdsa384", "rsa", "rsa4096", "ed25519".
    auth: str = "psk"
    # In strongSwan's words. A group in `esp` means perfect forward secrecy for the children.
    ike: str = "aes256gcm16-prfsha256-x25519"
    esp: str = "aes256gcm16-x25519"
    # The name of the NAT that the gateway is behind; those with the same name share its one outer address.
    nat: str = None
    # What the gateway says it is, and whom it expects; None: as ixgate has it configured.
    gateway_id: str = None
    ix_id: str = None
    psk: str = None
    # Networks that the gateway offers, theirs and ours; None: its realm's, and everything behind the IX.
    local_ts: list = None
    remote_ts: list = None
    # Further keys: of charon itself in strongswan.conf, of the connection and of its child in swanctl.conf, of `ipsec = { ... }` in ixgate's configuration.
    daemon: dict = field(default_factory=dict)
    connection: dict = field(default_factory=dict)
    child: dict = field(default_factory=dict)
    ix: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Tags:
    """VLAN tags of a frame: `service` outside (802.1ad), `customer` inside (802.1Q); None: no such tag."""

    customer: int = None
    service: int = None


@dataclass
class Port:
    """How a carrier hands a realm over as Ethernet (port.py)."""

    # The IX's own addresses on the link, with its prefix, and the edge's; no `gateway`: the realm's hosts are on the link.
    address: list
    gateway: list = field(default_factory=list)
    interface: str = "eth1"
    # 802.1Q; 802.1ad around it.
    vlan: int = None
    service_vlan: int = None
    priority: int = None
    weight: int = None
    # ixgate is not told `gateway` and listens to router advertisements; advertise.py sends them.
    accept_ra: bool = False
    # Other stations may join the link.
    shared: bool = False
    # Further keys of `port = { ... }` in ixgate's configuration.
    more: dict = field(default_factory=dict)

    def tags(self):
        return Tags(self.vlan, self.service_vlan)

    def cable(self):
        """The edge's interface: the IX's, and the tags."""
        return "-".join(str(part) for part in (self.interface, self.service_vlan, self.vlan) if part is not None)


@dataclass
class Realm:
    """One network with its gateway, attached to the IX by one tunnel (WireGuard, or IPsec where `ipsec` is given), by `ports`, by a
    TUN device, or by ports and IPsec."""

    name: str
    networks: list
    hosts: list
    # Who starts the tunnel: "ix" (the gateway's endpoint is configured at the IX) or "gateway" (the IX learns it).
    calls: str = "ix"
    # Further networks that the gateway routes into its tunnel, beside those behind every gateway (site.py).
    routes: list = field(default_factory=list)
    # `show_as = { ... }` in ixgate's configuration: seen by a pool.
    show_as: dict = None
    # Largest inner packet that the IX sends into this tunnel; None: its default.
    mtu_bytes: int = None
    ipsec: Ipsec = None
    ports: list = field(default_factory=list)
    # The name of a TUN device between ixgate and the kernel of its machine, which is the realm's only host.
    tun: str = None
    # `routes_from = { ... }` in ixgate's configuration: a routing daemon says further networks.
    routes_from: dict = None
    # Of the tunnel, where there are ports beside it.
    priority: int = None
    weight: int = None
    # Its own domains and who answers them: `dns = { domains, resolvers }` of ixgate's configuration.
    dns: dict = None
    # False: the scenario is about why its tunnel does not come up.
    comes_up: bool = True
    # The narrowest link between gateway and IX, in the middle of the path; those with the same one share its routers.
    # None: a cable.
    path_mtu_bytes: int = None
    # True: every host is a namespace of its own behind the gateway. False: the gateway holds their addresses itself.
    separate_hosts: bool = True

    def attachments(self):
        """How many it has."""
        return len(self.ports) + (not self.ports or self.ipsec is not None)

    def host(self, name):
        return next(h for h in self.hosts if h.name == name)

    def speaks(self, version):
        return any(h.address(version) for h in self.hosts)


@dataclass
class Service:
    name: str
    host: str  # HOST.REALM
    ports: list


@dataclass
class Grant:
    frm: list
    to: list
    ports: list = None


@dataclass
class Scenario:
    realms: list
    services: list = field(default_factory=list)
    grants: list = field(default_factory=list)
    # The kind of key in the IX's own certificate, where a realm proves itself by one.
    ix_key: str = "ecdsa"
    # Further tables of ixgate's configuration file, as they stand there.
    more: str = ""
    # The IX listens on all its addresses, of both IP versions, and not on the one alone that gateways call.
    listens_everywhere: bool = False


def fqdn(label):
    """`pacs.hospital-b` -> `pacs.hospital-b.ix.example`."""
    return f"{label}.{DOMAIN}"


def same_place(network, alias, address):
    """Where `address` of `network` lies in `alias`, a prefix of the same length."""
    return ip_address(int(alias.network_address) + int(ip_address(address)) - int(network.network_address))
