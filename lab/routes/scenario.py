"""traceroute and path MTU discovery from a stock kernel: to a narrow link deep in another realm, over {44, 46, 64, 66}."""

import itertools
import os
import re
import socket
import struct
import threading
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_interface

from lab.lib import netns, probe
from lab.lib.netns import Namespace
from lab.lib.plan import Grant, Host, Ipsec, Realm, Scenario
from lab.lib.responder import PORT
from lab.lib.wait import wait_until

NARROW_MTU_BYTES = 1300
STREAM_BYTES = 2_000_000
SINK_PORT = 7100
NEIGHBOURS_SECS = 15
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
ANY = {4: "0.0.0.0", 6: "::"}
# Level, and the options MTU_DISCOVER and MTU, of linux/in.h and linux/in6.h.
MTU_OPTIONS = {4: (socket.IPPROTO_IP, 10, 14), 6: (socket.IPPROTO_IPV6, 23, 24)}
PMTUDISC_DO = 2
TCPI_PMTU_OFFSET = 60  # struct tcp_info of linux/tcp.h
SILENT_HOP = "*"
HEADERS_BYTES = {4: 28, 6: 48}  # of a ping, or of a datagram

# Realms of one IP version each, with the same prefixes: clinics ask, the others have a machine behind a narrow link.
NETWORK = {4: "192.168.0.0/16", 6: "fd00:1::/48"}
LAN = {4: "192.168.1.{}/24", 6: "fd00:1:0:1::{}/64"}
SERVER_LAN = {4: "192.168.2.{}/24", 6: "fd00:1:0:2::{}/64"}
# Of the link between `router` and `ward`: outside of the realm's networks, as transfer networks often are.
TRANSFER = {4: "172.16.9.{}/30", 6: "fd99::{}/126"}
CLINICS = ["clinic4", "clinic6"]
HOSPITALS = {"hospital4": 4, "hospital6": 6, "branch6": 6}


def network(version, number):
    """As two realms have the same IPv6 network, others see each under a prefix of its own (RFC 6296)."""
    return NETWORK[4] if version == 4 else {"prefix": NETWORK[6], "canonical": f"fd0c:{number}::/48"}


def clinic(version, **options):
    return Realm(f"clinic{version}", [network(version, 1)], [Host("pc", [LAN[version].format(10)])], **options)


def hospital(name, version, number, **options):
    hosts = [Host("router", [LAN[version].format(2)]), Host("server", [SERVER_LAN[version].format(20)], on_lan=False)]
    return Realm(name, [network(version, number)], hosts, **options)


SCENARIO = Scenario(
    realms=[
        clinic(4, ipsec=Ipsec()),
        clinic(6),
        hospital("hospital4", 4, 2),
        hospital("hospital6", 6, 3, ipsec=Ipsec(), calls="gateway"),
        hospital("branch6", 6, 4),
    ],
    grants=[
        Grant(CLINICS, [f"realm:{name}" for name in HOSPITALS],
              ["icmp", f"tcp/{PORT}-{SINK_PORT}", f"udp/{PORT}", "udp/33434-33534"]),
        Grant([*HOSPITALS], [f"realm:{name}" for name in CLINICS], [f"tcp/{SINK_PORT}"]),
    ],
)


@dataclass
class Way:
    """From the clinic of an IP version to the server of another realm."""

    world: object
    version: int
    realm: str

    def __post_init__(self):
        self.pc = self.world.host(f"pc.clinic{self.version}")
        self.far = HOSPITALS[self.realm]
        self.server = self.world.host(f"server.{self.realm}")
        self.target = self.shown(bare(SERVER_LAN[self.far].format(20)))
        self.ix = self.world.ixgate.gateway(self.version)
        # What the narrow link carries, in the asker's terms: an IPv6 header is 20 bytes longer.
        self.mtu = NARROW_MTU_BYTES + {(4, 6): -20, (6, 4): 20}.get((self.version, self.far), 0)

    def __str__(self):
        return f"IPv{self.version} to {self.realm}"

    def shown(self, address):
        """An address of that realm in the asker's terms; one that has none there is shown as the IX (RFC 6791)."""
        return str(self.world.ixgate.shown(self.realm, address, self.version) or self.ix)

    def forget(self):
        """What the kernels of both ends have learned."""
        for end in (self.pc, self.server):
            for family in ("-4", "-6"):
                end.run(["ip", family, "route", "flush", "cache"])

    def mtu_in_route(self):
        """What the asker's kernel has learned about the way, by `ip route get`; None: nothing."""
        found = re.search(r"\bmtu (\d+)", self.pc.run(["ip", "route", "get", str(self.target)]).stdout)
        return int(found.group(1)) if found else None


def check(world, report):
    for site in world.sites:
        speak_at_once(site.gateway)
    for name, version in HOSPITALS.items():
        build_ward(world, name, version)
    report.group("the networks stand")
    for name, version in HOSPITALS.items():
        wait_for_neighbours(report, world.site(name).gateway, bare(SERVER_LAN[version].format(20)))
    for name in CLINICS:
        wait_for_neighbours(report, world.host(f"pc.{name}"), bare(LAN[int(name[-1])].format(1)))
    ways = [Way(world, version, name) for version, name in itertools.product((4, 6), HOSPITALS)]
    for way in ways:
        check_traceroute(way, report)
    for way in ways:
        check_path_mtu(way, report)
    report.group("the account")
    report.equal("in = out + drops", True, world.ixgate.balanced())


def build_ward(world, realm_name, version):
    """router ── narrow ── ward ── server, behind a realm's gateway."""
    site = world.site(realm_name)
    router, server = site.namespaces["router"], site.namespaces["server"]
    ward = site.namespaces["ward"] = Namespace(f"ward.{realm_name}")
    here, there = (TRANSFER[version].format(n) for n in (1, 2))
    nodad, default = ("", "0.0.0.0/0") if version == 4 else (" nodad", "::/0")
    near, first, address = LAN[version].format(2), SERVER_LAN[version].format(1), SERVER_LAN[version].format(20)

    for namespace in (router, ward, server):
        namespace.sysctl("net.ipv6.conf.default.accept_dad", 0)  # it would make the first packets wait
    for namespace in (router, ward):
        namespace.sysctl("net.ipv4.ip_forward", 1)
        namespace.sysctl("net.ipv6.conf.all.forwarding", 1)
        speak_at_once(namespace)
    netns.veth(router, "narrow", ward, "narrow")
    netns.veth(ward, "lan", server, "eth0")
    server.ip(f"addr add {address} dev eth0{nodad}", f"route add {default} via {bare(first)}")
    ward.ip(f"link set narrow mtu {NARROW_MTU_BYTES}", f"addr add {there} dev narrow{nodad}",
            f"addr add {first} dev lan{nodad}", f"route add {default} via {bare(here)}")
    router.ip(f"link set narrow mtu {NARROW_MTU_BYTES}", f"addr add {here} dev narrow{nodad}",
              f"route add {ip_interface(first).network} via {bare(there)}")
    site.gateway.ip(f"route add {ip_interface(first).network} via {bare(near)}")
    world.responders.add(f"server.{realm_name}", server, ip_interface(address).ip)


def wait_for_neighbours(report, namespace, address):
    """New IPv6 interfaces try their link-local addresses for a second or two, and until then find no neighbours."""
    took = wait_until(lambda: probe.ping_answered(probe.ping(namespace, address, count=1)), NEIGHBOURS_SECS)
    report.that(f"{namespace.name} reaches {address}", took is not None, f"within {NEIGHBOURS_SECS} s", "no answer")


def speak_at_once(router):
    """By default a router's kernel tells the same host about six errors, then one a second; traceroutes at once want more."""
    router.sysctl("net.ipv4.icmp_ratelimit", 0)
    router.sysctl("net.ipv6.icmp.ratelimit", 0)


def bare(address):
    return address.partition("/")[0]


def check_traceroute(way, report):
    report.group(f"traceroute, {way}")
    kinds = {"UDP": [], "ICMP": ["-I"], "TCP": ["-T", "-p", str(PORT)]}

    def trace(kind):
        return way.pc.run(["traceroute", f"-{way.version}", "-n", "-q", "1", "-w", "2", "-m", "9", *kinds[kind],
                           str(way.target)], timeout=30)

    expected = hops(way)
    for (kind,), done in probe.all_at_once(trace, [(kind,) for kind in kinds]):
        got = re.findall(r"^ *\d+  (\S+)", done.stdout, re.MULTILINE)
        report.equal(f"hops by {kind}", expected, got)


def hops(way):
    """Own gateway, IX, the hospital's gateway, `router`, `ward`, `server`, each as the asker may see it."""
    own = bare(LAN[way.version].format(1))
    router, server = (way.shown(bare(lan[way.far].format(n))) for lan, n in ((LAN, 2), (SERVER_LAN, 20)))
    gateway = way.shown(bare(LAN[way.far].format(1)))
    if way.realm == "hospital6":
        # strongSwan's gateway lets nothing of `ward` out: no traffic selector covers it.
        return [own, way.ix, gateway, router, SILENT_HOP, server]
    # `ward` answers from the transfer network, and this gateway's kernel from its outer IPv4 address: both are no
    # addresses of the realm, and the IX stands for them.
    return [own, way.ix, way.ix if way.far == 4 else gateway, router, way.ix, server]


def check_path_mtu(way, report):
    report.group(f"path MTU discovery, {way}")
    way.forget()
    report.equal("nothing is known yet", None, way.mtu_in_route())
    check_ping(way, report)
    way.forget()
    check_datagrams(way, report)
    way.forget()
    check_stream(way, report, "TCP", lambda: opened(way.server, way.far, way.pc, way.target))
    report.equal("TCP: known to the kernel's route", way.mtu, way.mtu_in_route())
    way.forget()
    # The same when the other end has opened the connection: the error is about an answer.
    pc = way.world.ixgate.shown(f"clinic{way.version}", bare(LAN[way.version].format(10)), way.far)
    check_stream(way, report, "TCP, opened by the far end", lambda: opened(way.pc, way.version, way.server, pc)[::-1])


def check_ping(way, report):
    too_long, fits = (way.mtu + more - HEADERS_BYTES[way.version] for more in (1, 0))
    first = probe.ping(way.pc, way.target, "-M", "do", "-s", too_long, count=1)
    router = way.shown(bare(LAN[way.far].format(2)))
    told = re.search(r"From (\S+) icmp_seq=1 .*mtu[ =]+(\d+)", first.stdout)
    report.equal("ping: who tells which MTU", (router, str(way.mtu)), told.groups() if told else first.stdout)
    report.equal("ping: known to the kernel's route", way.mtu, way.mtu_in_route())
    again = probe.ping(way.pc, way.target, "-M", "do", "-s", fits)
    report.that("ping: that size does fit", probe.ping_answered(again), "answers", again.stdout)


def check_datagrams(way, report):
    """A program that forbids fragments learns the size that fits from its socket."""
    with way.pc.entered():
        sock = socket.socket(FAMILY[way.version], socket.SOCK_DGRAM)
    with sock:
        level, discover, mtu = MTU_OPTIONS[way.version]
        sock.setsockopt(level, discover, PMTUDISC_DO)
        sock.settimeout(0.5)
        sock.connect((str(way.target), PORT))
        sock.send(b"x" * (1350 - HEADERS_BYTES[way.version]))
        learned = wait_until(lambda: sock.getsockopt(level, mtu) == way.mtu, timeout=3)
        report.that("UDP: the socket learns the MTU", learned is not None, way.mtu, sock.getsockopt(level, mtu))
        text = "x" * (way.mtu - HEADERS_BYTES[way.version])
        report.equal("UDP: that size does fit", f"server.{way.realm} {text}", exchange(sock, text))


def exchange(sock, text):
    """The answer to a datagram; a late ICMP error about an earlier one is not about this one."""
    for _ in range(5):
        try:
            sock.send(text.encode())
            return sock.recv(4096).decode().strip()
        except OSError as error:
            last = error
    return last


def opened(server, version, client, target):
    """A connection from `client` to `target`, an address of `server`: the client's end of it, the server's end."""
    with server.entered():
        listener = socket.create_server((ANY[version], SINK_PORT), family=FAMILY[version])
    with client.entered(), listener:
        near = socket.create_connection((str(target), SINK_PORT), timeout=5)
        listener.settimeout(5)
        return near, listener.accept()[0]


def check_stream(way, report, what, connect):
    """2 MB towards the narrow link: only a kernel that learns the MTU gets them through."""
    data = os.urandom(STREAM_BYTES)
    try:
        sender, receiver = connect()
        with sender, receiver:
            sender.settimeout(20)
            received = sha256()
            taking = threading.Thread(target=take, args=[receiver, received], daemon=True)
            taking.start()
            sender.sendall(data)
            sender.shutdown(socket.SHUT_WR)
            taking.join(20)
            report.equal(f"{what}: 2 MB arrive whole", sha256(data).hexdigest(), received.hexdigest())
            info = sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCPI_PMTU_OFFSET + 4)
            mtu = struct.unpack_from("=I", info, TCPI_PMTU_OFFSET)[0]
            report.equal(f"{what}: the connection learned the MTU", way.mtu, mtu)
    except OSError as error:
        report.that(f"{what}: 2 MB arrive whole", False, "no error", error)


def take(connection, digest):
    connection.settimeout(20)
    while chunk := connection.recv(1 << 16):
        digest.update(chunk)
