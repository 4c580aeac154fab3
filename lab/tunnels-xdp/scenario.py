"""Tunnels' data by AF_XDP on an uplink that stays the kernel's: what goes by it, what does not, and what happens when it cannot."""

import socket

from lab.lib import netns, probe
from lab.lib.crossing import check_pairs
from lab.lib.plan import Grant, Host, Ipsec, Realm, Scenario
from lab.lib.site import IX_OUTER, IX_PORT
from lab.lib.streams import UdpStream
from lab.lib.wait import wait_until

IX_OUTER6 = "fd51::1"
PINGS = 40
DEADLINE_SECS = 20
DRIVER = "AF_XDP native, copy"


def realm(name, **options):
    hosts = [Host("pc", ["192.168.1.10/24", "fd00:1::10/64"])]
    return Realm(name, ["192.168.1.0/24", {"prefix": "fd00:1::/64", "canonical": f"fd69:7867:6175:{options.pop('subnet')}::/64"}], hosts, **options)


SCENARIO = Scenario(
    realms=[
        realm("clinic", calls="gateway", subnet=1),
        realm("lab-b", subnet=2),
        realm("hospital", ipsec=Ipsec(), subnet=3),
        realm("over-ipv6", calls="gateway", subnet=4),
    ],
    grants=[Grant(["clinic", "lab-b", "hospital", "over-ipv6"], [f"realm:{name}"], ["any"])
            for name in ("clinic", "lab-b", "hospital", "over-ipv6")],
    more='[uplink]\ndriver = "af_xdp"\ninterfaces = ["wan"]\n',
    listens_everywhere=True,
)


def prepare(world):
    """Between ixgate's machine and the bridge there is a cable; the bridge's own end has no address and answers nobody."""
    world.ix.sysctl("net.ipv4.conf.outer.arp_ignore", 8)
    world.ix.sysctl("net.ipv6.conf.outer.disable_ipv6", 1)
    world.ix.ip(f"addr del {IX_OUTER}/24 dev outer")
    cable(world)
    for site in world.sites:
        site.gateway.ip(f"addr add fd51::{10 + site.number}/64 dev outer nodad")
        site.gateway.sysctl("net.ipv4.conf.outer.arp_notify", 1)


def cable(world):
    world.ix.ip("link add wan type veth peer name wan-far", "link set wan-far master outer", "link set wan-far up", "link set wan up")
    address(world)


def address(world):
    world.ix.ip(f"addr replace {IX_OUTER}/24 dev wan", f"addr replace {IX_OUTER6}/64 dev wan nodad")


def check(world, report):
    if wait_until(lambda: interface(world)["driver"] == DRIVER, DEADLINE_SECS) is None:
        report.group("the driver")
        report.skip("AF_XDP", interface(world)["why_not"])
        return
    move_to_ipv6(world.site("over-ipv6"))
    before = counts(world)
    check_pairs(world, report, lambda *_: {"tcp", "udp", "icmp"})
    report.group("by AF_XDP")
    after = counts(world)
    report.fact("data by AF_XDP", f"{after['received']} received, {after['sent']} sent")
    report.fact("data by sockets", f"{after['no_way']} without a known way, {after['too_long']} too long")
    report.that("both ways", min(after[key] - before[key] for key in ("received", "sent")) > 100, "> 100", after)
    for frm, to in (("clinic", "lab-b"), ("clinic", "hospital"), ("hospital", "over-ipv6"), ("over-ipv6", "clinic")):
        check_all_by_af_xdp(world, report, f"pc.{frm}", f"pc.{to}")
    remote = next(r for r in world.ixgate.status()["realms"] if r["name"] == "over-ipv6")["tunnels"][0]
    report.that("a tunnel over IPv6", "fd51::" in str(remote), "an IPv6 endpoint", remote)
    report.equal("nothing lost", 0, counts(world)["lost"] + counts(world)["damaged"])

    check_others(world, report)
    check_neighbours(world, report)
    check_link(world, report)
    check_kill(world, report)
    report.equal("in = out + drops", True, world.ixgate.balanced())


def move_to_ipv6(site):
    """From now on its gateway hears nothing of the IX over IPv4."""
    site.gateway.nft("add table ip only6; add chain ip only6 in { type filter hook input priority 0; }; "
                     f"add rule ip only6 in ip saddr {IX_OUTER} drop")
    site.wg_set("peer", site.ix_key, "endpoint", f"[{IX_OUTER6}]:{IX_PORT}")


def is_known(world, frm, to):
    """A ping that no socket has carried."""
    before = counts(world)["no_way"]
    return ping(world, frm, to) and counts(world)["no_way"] == before


def check_all_by_af_xdp(world, report, frm, to):
    """Once the ways are known, no data goes by the sockets."""
    wait_until(lambda: is_known(world, frm, to), DEADLINE_SECS)
    before = counts(world)
    answered = ping(world, frm, to, PINGS)
    after = counts(world)
    report.that(f"{frm} pings {to}", answered, "answers", "none")
    moved = {key: after[key] - before[key] for key in ("received", "sent")}
    report.that(f"{frm} to {to}: by AF_XDP", min(moved.values()) >= 2 * PINGS, f">= {2 * PINGS}", moved)
    report.equal(f"{frm} to {to}: by sockets", before["no_way"], after["no_way"])


def check_others(world, report):
    report.group("everything else of the interface")
    machine = world.outsider("admin", "198.51.100.200/24", "fd51::200/64")
    for address in (IX_OUTER, IX_OUTER6):
        report.that(f"{address} answers ping", probe.ping_answered(probe.ping(machine, address)), "answers", "none")
    with world.ix.entered():
        listener = socket.create_server((IX_OUTER, 22))
    with listener, machine.entered():
        with socket.create_connection((IX_OUTER, 22), timeout=5) as connection:
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"hello")
                report.equal("a TCP port of the machine", b"hello", connection.recv(5))
    with world.ix.entered():
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((IX_OUTER, 5000))
        udp.settimeout(5)
    with udp, machine.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"\4\0\0\0hello there", (IX_OUTER, 5000))
        report.equal("a UDP port of another program", b"\4\0\0\0hello there", udp.recv(100))


def check_neighbours(world, report):
    report.group("neighbours")
    gateway = world.site("clinic").gateway
    before = netns.mac(gateway, "outer")
    gateway.ip("link set outer address 02:00:00:00:77:01")
    report.that("one that has another hardware address", returns(world, "pc.lab-b", "pc.clinic"), "answers again", "none")
    report.that("it did change", netns.mac(gateway, "outer") != before, "another", before)
    check_all_by_af_xdp(world, report, "pc.lab-b", "pc.clinic")

    outer = world.site("clinic").outer
    world.ix.ip(f"neigh change {outer} dev wan nud stale")
    # The kernel asks by itself when it is told that the entry is in use: 5 s later, and nobody has sent by the sockets.
    states = lambda: world.ix.run(["ip", "neigh", "show", outer, "dev", "wan"]).stdout
    report.that("a stale one is asked whether it still is there", wait_until(lambda: "REACHABLE" in states(), DEADLINE_SECS), "REACHABLE", states())

    no_way = counts(world)["no_way"]
    world.ix.ip(f"neigh del {outer} dev wan")
    report.that("one that is forgotten: by the sockets", returns(world, "pc.lab-b", "pc.clinic"), "answers", "none")
    report.that("so it is counted", counts(world)["no_way"] > no_way, f"> {no_way}", counts(world))
    check_all_by_af_xdp(world, report, "pc.lab-b", "pc.clinic")


def check_link(world, report):
    report.group("the interface goes and comes")
    world.ix.ip("link set wan down")
    wait_until(lambda: interface(world)["driver"] != DRIVER, DEADLINE_SECS)
    world.ix.ip("link set wan up")
    address(world)
    report.that("down and up", returns(world, "pc.lab-b", "pc.clinic"), "answers again", "none")
    report.that("by AF_XDP again", wait_until(lambda: interface(world)["driver"] == DRIVER, DEADLINE_SECS), DRIVER, interface(world))
    check_all_by_af_xdp(world, report, "pc.lab-b", "pc.hospital")

    world.ix.ip("link del wan")
    gone = wait_until(lambda: interface(world)["driver"] is None, DEADLINE_SECS)
    report.that("taken away", gone, "said so", interface(world))
    cable(world)
    report.that("another one of its name", returns(world, "pc.lab-b", "pc.clinic"), "answers again", "none")
    report.that("by AF_XDP again", wait_until(lambda: interface(world)["driver"] == DRIVER, DEADLINE_SECS), DRIVER, interface(world))
    check_all_by_af_xdp(world, report, "pc.lab-b", "pc.clinic")


def check_kill(world, report):
    report.group("kill -9")
    report.equal("the program is on the interface", True, has_program(world))
    stream = UdpStream(world, "pc.lab-b", "pc.clinic")
    world.ixgate.kill()
    report.that("with the process it is gone", wait_until(lambda: not has_program(world), 5), "no XDP program", "still there")
    stream.stop()
    world.ixgate.start()
    report.that("tunnels return", returns(world, "pc.lab-b", "pc.clinic", 60), "answers", "none")
    report.that("by AF_XDP", wait_until(lambda: interface(world)["driver"] == DRIVER, DEADLINE_SECS), DRIVER, interface(world))
    check_all_by_af_xdp(world, report, "pc.lab-b", "pc.clinic")


def has_program(world):
    return "prog/xdp" in world.ix.run(["ip", "-d", "link", "show", "wan"]).stdout


def returns(world, frm, to, timeout=DEADLINE_SECS):
    return wait_until(lambda: ping(world, frm, to), timeout) is not None


def ping(world, frm, to, count=1):
    done = probe.ping(world.host(frm), world.seen(to), "-i", "0.02", count=count)
    return f" {count} received" in done.stdout


def uplink(world):
    return world.ixgate.status()["socket"]["uplink"]


def interface(world):
    return next(iter(uplink(world)["interfaces"]), {"driver": None, "why_not": "not looked at yet"})


def counts(world):
    return {key.removesuffix("_datagrams"): value for key, value in uplink(world).items() if key.endswith("_datagrams")}
