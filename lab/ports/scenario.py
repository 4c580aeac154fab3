"""Carriers' Ethernet ports beside tunnels, one prefix everywhere: two VLANs, QinQ, a second interface, AF_XDP, on the link, TUN."""

import re
import socket
import struct

from lab.lib import crossing, files, netns, probe
from lab.lib.crossing import realm_of
from lab.lib.plan import Grant, Host, Ipsec, Port, Realm, Scenario, Service, fqdn
from lab.lib.probe import REFUSED, SILENCE
from lab.lib.responder import PORT
from lab.lib.site import IX_OUTER

CLOSED_PORT = 7001  # granted, and nobody listens on it
HTTP_PORT = 8000
FILE_BYTES = 8_000_000
SMALL_MTU_BYTES = 1300
XDP_INTERFACE = "eth3"
ALL = {"icmp", "tcp", "udp"}
OPENER = "ixgate-opener"  # the thread that may open more, later
NET_ADMIN, NET_RAW, BPF = 1 << 12, 1 << 13, 1 << 39

# Every network, every host and every link has the same addresses.
LAN = {4: "192.168.1.{}/24", 6: "fd00:1::{}/64"}
IX_ADDRESS = {4: "172.20.0.2/30", 6: "2001:db8:9::2/64"}
EDGE_ADDRESS = {4: "172.20.0.1", 6: "2001:db8:9::1"}
BOTH = (4, 6)


def realm(name, number, versions=BOTH, hosts=(("pc", 10),), **options):
    networks = {4: "192.168.1.0/24", 6: {"prefix": "fd00:1::/64", "canonical": f"fd0c:{number}::/64"}}
    return Realm(name, [networks[v] for v in versions],
                 [Host(host, [LAN[v].format(at) for v in versions]) for host, at in hosts], **options)


def port(interface, vlan=None, service_vlan=None, versions=BOTH, **more):
    return Port([IX_ADDRESS[v] for v in versions], [EDGE_ADDRESS[v] for v in versions], interface, vlan, service_vlan, more=more)


def on_link(interface, vlan, **more):
    return Port([LAN[v].format(1) for v in BOTH], [], interface, vlan, more=more)


REALMS = [
    realm("by-wireguard", 1),
    realm("by-ipsec", 2, ipsec=Ipsec()),
    realm("vlan-a", 3, hosts=(("pc", 10), ("pacs", 20)), ports=[port("eth1", 100)]),
    realm("vlan-b", 4, ports=[port("eth1", 200, mtu=SMALL_MTU_BYTES)]),
    realm("qinq", 5, ports=[port("eth1", 100, 300)]),
    realm("vlan-c", 6, ports=[port("eth2", 100)]),
    realm("untagged4", 7, (4,), ports=[port("eth2", versions=(4,))]),
    realm("vlan6", 8, (6,), ports=[port("eth2", 200, versions=(6,))]),
    realm("by-xdp", 14, ports=[port(XDP_INTERFACE, 100)]),
    realm("onlink", 9, ports=[on_link("eth2", 300)]),
    realm("proxied", 10, ports=[on_link("eth2", 301, proxy=True)]),
    realm("clinic4", 11, (4,)),
    realm("clinic6", 12, (6,)),
    realm("machine", 13, tun="ix0"),
]
NAMES = [r.name for r in REALMS]
# These reach everybody; everybody reaches the first two of them, and of the third one machine.
CENTRES = ["by-wireguard", "by-ipsec", "vlan-a"]
# One IP version on a tunnel with the other on a port, both ways.
MIXED = [("clinic4", "vlan6"), ("vlan6", "clinic4"), ("clinic6", "untagged4"), ("untagged4", "clinic6")]
PORTS = ["icmp", f"tcp/{PORT}", f"tcp/{HTTP_PORT}", f"udp/{PORT}-{CLOSED_PORT}", "udp/33434-33534"]

SCENARIO = Scenario(
    realms=REALMS,
    more=f'[[interface]]\nname = "{XDP_INTERFACE}"\ndriver = "af_xdp"\n',
    services=[Service("pacs", "pacs.vlan-a", [f"tcp/{PORT}"])],
    grants=[
        *(Grant([centre], [f"realm:{name}" for name in NAMES if name != centre], PORTS) for centre in CENTRES),
        Grant([name for name in NAMES if name not in CENTRES], ["realm:by-wireguard", "realm:by-ipsec"], PORTS),
        Grant([name for name in NAMES if name not in CENTRES], ["pacs"]),
        *(Grant([frm], [f"realm:{to}"], PORTS) for frm, to in MIXED),
    ],
)


def allowed(frm, to):
    """The protocols open from a realm to HOST.REALM, written out once more."""
    if frm in CENTRES or realm_of(to) in ("by-wireguard", "by-ipsec") or (frm, realm_of(to)) in MIXED:
        return ALL
    return {"tcp"} if to == "pacs.vlan-a" else set()


def prepare(world):
    """The machine's kernel is a router."""
    world.ix.sysctl("net.ipv4.ip_forward", 1)
    world.ix.sysctl("net.ipv6.conf.all.forwarding", 1)


def check(world, report):
    watch = KernelWatch(world)
    check_privileges(world, report)
    check_links(world, report)
    check_drivers(world, report)
    crossing.check_pairs(world, report, allowed, (SILENCE, "ENETUNREACH", "EHOSTUNREACH"), workers=48)
    crossing.check_arrivals(world, report, allowed)
    crossing.check_names(world, report, allowed)
    check_mixed_by_name(world, report)
    check_traceroute(world, report)
    check_icmp_errors(world, report)
    check_spoofing(world, report)
    check_files(world, report)
    watch.check(report)
    check_what_it_says(world, report)


def check_privileges(world, report):
    report.group("privileges")
    threads = world.ixgate.thread_status()
    sets = ("CapPrm", "CapEff", "CapInh", "CapAmb")
    kept = {status["Name"]: {name: int(status[name], 16) for name in sets} for status in threads}
    opener = kept.pop(OPENER, {})
    report.equal("the opener's capabilities", {**dict.fromkeys(sets, 0), "CapPrm": NET_ADMIN | NET_RAW | BPF}, opener)
    some = {name: of for name, of in kept.items() if any(of.values())}
    report.equal("other threads that have any", {}, some)
    report.that("the worker is among them", "ixgate-worker" in kept, "ixgate-worker", ", ".join(kept))
    report.equal("threads that may get new ones", [], [status["Name"] for status in threads if status["NoNewPrivs"] != "1"])


def on_ports(world):
    """Sites with an edge that has addresses on the link."""
    return [site for site in world.sites if site.realm.ports and site.realm.ports[0].gateway]


def check_links(world, report):
    """Each edge finds the IX at the same address: ARP, neighbour discovery, echo."""
    report.group("the port's own addresses")
    for site in on_ports(world):
        attached = site.realm.ports[0]
        for address in (bare(a) for a in attached.address):
            done = probe.ping(site.gateway, address)
            report.that(f"{site.realm.name}: {address} answers", probe.ping_answered(done), "answers", done.stdout)
            known = site.gateway.run(["ip", "neigh", "show", address, "dev", attached.cable()]).stdout
            report.that(f"{site.realm.name}: {address} has the interface's MAC", netns.mac(world.ix, attached.interface) in known,
                        netns.mac(world.ix, attached.interface), known)
    for label in ("pc.onlink", "pc.proxied"):
        for version in BOTH:
            done = probe.ping(world.host(label), bare(LAN[version].format(1)))
            report.that(f"{label} pings its port, IPv{version}", probe.ping_answered(done), "answers", done.stdout)


def check_drivers(world, report):
    report.group("drivers")
    for site in (site for site in world.sites if site.realm.ports):
        name = site.realm.name
        port = next(realm for realm in world.ixgate.status()["realms"] if realm["name"] == name)["tunnels"][0]["port"]
        driver, note = port["driver"] or "none", port["driver_note"] or ""
        wanted = "AF_XDP native" if port["interface"] == XDP_INTERFACE else "AF_PACKET ring"
        if "this kernel" in note:
            report.skip(f"{name}: {wanted}", f"{driver}: {note}")
        else:
            report.that(f"{name}: {wanted}", driver.startswith(wanted), wanted, f"{driver} {note}")
        words = world.ixgate.failures(name)
        report.that(f"{name}: status says so", f"  driver           {driver}" in words, driver, words)


def check_mixed_by_name(world, report):
    report.group("one IP version reaches the other by name")
    script = ("import socket,sys; s=socket.create_connection((sys.argv[1],int(sys.argv[2])),timeout=4); "
              "s.sendall((sys.argv[3]+chr(10)).encode()); print(s.getpeername()[0], s.recv(4096).decode().strip())")
    for frm, to in MIXED:
        frm, to = f"pc.{frm}", f"pc.{to}"
        version = 4 if world.address(frm, 4) else 6
        done = world.host(frm).run(["python3", "-c", script, fqdn(to), PORT, f"{frm} {to} by-name"], timeout=20)
        report.equal(f"{frm} opens {fqdn(to)}", f"{world.seen(to, version)} {to} {frm} {to} by-name", done.stdout.strip())


def check_traceroute(world, report):
    report.group("traceroute")
    for frm, to in (("vlan-a", "by-wireguard"), ("by-wireguard", "vlan-a"), ("qinq", "by-ipsec"), ("vlan-a", "vlan-c"), ("by-xdp", "by-wireguard")):
        for version in BOTH:
            target = world.seen(f"pc.{to}", version)
            done = world.host(f"pc.{frm}").run(["traceroute", f"-{version}", "-n", "-q", "1", "-w", "2", "-m", "6", target], timeout=20)
            hops = re.findall(r"^ *\d+  (\S+)", done.stdout, re.MULTILINE)
            own, ix = bare(LAN[version].format(1)), str(world.ixgate.gateway(version))
            # The far gateway answers from an address that is not the realm's, and then the IX stands for it; or from its own.
            far = {ix, str(world.ixgate.shown(to, bare(LAN[version].format(1)), version)), "*"}
            right = len(hops) == 4 and hops[:2] == [own, ix] and hops[2] in far and hops[3] == str(target)
            report.that(f"{frm} to {to}, IPv{version}", right, [own, ix, " or ".join(far), str(target)], hops)


def check_icmp_errors(world, report):
    report.group("ICMP errors")
    for frm, to in (("pc.by-wireguard", "pc.vlan-a"), ("pc.vlan-a", "pc.by-ipsec"), ("pc.vlan-a", "pc.qinq"),
                    ("pc.vlan-a", "pc.by-xdp"), ("pc.by-xdp", "pc.by-ipsec")):
        for version in BOTH:
            got = probe.try_udp(world.host(frm), world.address(frm, version), world.seen(to, version), CLOSED_PORT, "anybody?")
            report.equal(f"port unreachable, {frm} to {to}, IPv{version}", REFUSED, got)
    for frm in ("pc.by-wireguard", "pc.vlan-a"):
        target = world.seen("pc.vlan-b")
        big = probe.ping(world.host(frm), target, "-M", "do", "-s", SMALL_MTU_BYTES + 50 - 28)
        told = re.search(r"mtu ?=? ?(\d+)", big.stdout)
        report.equal(f"{frm}: too big for the port: the size that fits is told", str(SMALL_MTU_BYTES), told.group(1) if told else big.stdout)
        fits = probe.ping(world.host(frm), target, "-M", "do", "-s", SMALL_MTU_BYTES - 28)
        report.that(f"{frm}: that size does fit", probe.ping_answered(fits), "answers", fits.stdout)
    for label in ("pc.vlan-a", "pc.qinq", "pc.by-xdp", "pc.onlink", "pc.proxied"):
        own = probe.ping(world.host(label), world.ixgate.resolver())
        report.that(f"the IX's own address answers {label}", probe.ping_answered(own), "answers", own.stdout)


def check_spoofing(world, report):
    report.group("false sources")
    lies = ["10.9.9.9", str(world.seen("pc.vlan-b")), "192.168.2.10", "172.20.0.9", "fd00:99::1", str(world.seen("pc.vlan-b", 6))]
    for frm, to in (("pc.vlan-a", "pc.by-wireguard"), ("pc.qinq", "pc.by-ipsec"), ("pc.by-xdp", "pc.by-ipsec"), ("pc.onlink", "pc.by-wireguard")):
        crossing.check_false_sources(world, report, frm, to, lies)


def check_files(world, report):
    """Long packets: checksum and segmentation offload of the virtual cables, both ways."""
    report.group(f"{FILE_BYTES // 1_000_000} MB by HTTP")
    folder = world.directory / "www"
    folder.mkdir()
    expected = files.write_random(folder / "file", FILE_BYTES)
    for label in ("pc.by-wireguard", "pc.vlan-c", "pc.vlan-b", "pc.qinq", "pc.by-xdp"):
        files.serve(world, label, folder, HTTP_PORT)
    for frm, to in (("pc.vlan-a", "pc.by-wireguard"), ("pc.vlan-a", "pc.vlan-c"), ("pc.vlan-a", "pc.vlan-b"),
                    ("pc.by-wireguard", "pc.vlan-c"), ("pc.by-ipsec", "pc.qinq"), ("pc.vlan-a", "pc.by-xdp"), ("pc.by-xdp", "pc.by-wireguard")):
        try:
            got = probe.fetch(world.host(frm), world.seen(to), HTTP_PORT, "/file", keep_body=False)
            report.equal(f"{frm} from {to}", expected, got.sha256)
            report.fact(f"{frm} from {to}", f"{got.length / got.seconds / 1e6:.1f} MB/s")
        except OSError as error:
            report.that(f"{frm} from {to}", False, "the file", error)


class KernelWatch:
    """The kernel of the IX's machine, which forwards, and has addresses on other interfaces: on ports it must do nothing."""

    def __init__(self, world):
        self.world, self.ix = world, world.ix
        rules = ["add table inet watch"]
        for hook, match in (("input", "iifname"), ("forward", "iifname"), ("output", "oifname")):
            rules += [f"add counter inet watch {hook}",
                      f"add chain inet watch {hook} {{ type filter hook {hook} priority 0; }}",
                      f'add rule inet watch {hook} {match} {{ "eth1", "eth2", "eth3" }} counter name {hook}']
        self.ix.nft("; ".join(rules))

    def check(self, report):
        report.group("the kernel of the IX's machine")
        edge = self.world.site("vlan-a").gateway
        theirs = [IX_OUTER, "192.168.1.10", "192.168.1.1"]  # the outer network, the TUN device, nobody's there
        for address in theirs:
            report.equal(f"nobody answers ARP for {address}", [], who_has(edge, "eth1-100", address))
        ours = who_has(edge, "eth1-100", bare(IX_ADDRESS[4]))
        report.equal("one answers for the port's own address", [netns.mac(self.ix, "eth1")], ours)
        outer = self.world.site("by-wireguard").outer
        edge.ip(f"route add {IX_OUTER}/32 via {bare(IX_ADDRESS[4])}", f"route add {outer}/32 via {bare(IX_ADDRESS[4])}")
        for address, what in ((IX_OUTER, "the machine's own address"), (outer, "a neighbour of the machine")):
            done = probe.ping(edge, address)
            report.equal(f"no way to {what} by the port", False, probe.ping_answered(done))
        counts = self.ix.nft_counters("inet watch")
        report.equal("packets that the kernel took from ports, forwarded, sent", {"input": 0, "forward": 0, "output": 0}, counts)


def check_what_it_says(world, report):
    report.group("status and metrics")
    report.equal("attachments up", len(REALMS), world.ixgate.tunnels_up())
    report.that("ungranted packets are counted", world.ixgate.drops("not_granted") > 0, "not_granted > 0", world.ixgate.all_drops())
    report.equal("in = out + drops", True, world.ixgate.balanced())
    words = world.ixgate.status_text()
    for name in NAMES:
        report.that(f"status names {name}", name in words, name, words)
    for site in on_ports(world):
        said = world.ixgate.failures(site.realm.name)
        wanted = [site.realm.ports[0].interface, *site.realm.ports[0].gateway]
        report.that(f"status of {site.realm.name} names interface and next hops", all(w in said for w in wanted), wanted, said)
    report.equal("drains and ends with 0 on SIGTERM", 0, world.ixgate.terminate())


def who_has(namespace, interface, address, timeout=0.6):
    """Asks by ARP; the MAC addresses of all who answer."""
    with namespace.entered():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
    with sock:
        sock.bind((interface, 0x0806))
        sock.settimeout(timeout)
        own = sock.getsockname()[4]
        request = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, own, socket.inet_aton(EDGE_ADDRESS[4]), bytes(6), socket.inet_aton(address))
        sock.send(b"\xff" * 6 + own + b"\x08\x06" + request)
        found = set()
        try:
            while True:
                arp = sock.recv(2048)[14:42]
                if arp[6:8] == b"\0\2" and arp[14:18] == socket.inet_aton(address):
                    found.add(arp[8:14].hex(":"))
        except TimeoutError:
            return sorted(found)


def bare(address):
    return address.partition("/")[0]
