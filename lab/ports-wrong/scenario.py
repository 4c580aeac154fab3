"""Ports configured or connected wrongly: each mistake is told apart, in words."""

import re
import shutil
import signal
import subprocess
from dataclasses import dataclass, field

from lab.lib import netns, probe
from lab.lib.ixgate import toml
from lab.lib.netns import Namespace
from lab.lib.plan import Grant, Host, Port, Realm, Scenario, Tags
from lab.lib.wait import wait_until

LIMIT_SECS = 20
OURS, EDGE = ["172.20.0.2/30"], ["172.20.0.1"]
SIX = "fd00:6"  # of realms whose port has an address of each IP version


def port(interface, **options):
    return Port(options.pop("address", OURS), options.pop("gateway", EDGE), interface, **options)


@dataclass
class Case:
    """What is wrong, and what must be said about it: every pattern, in any case; MAC is the intruder's."""

    what: str
    says: list
    port: Port


# On the cable, told by `ixgate status REALM`.
SILENT = "no next hop answers"
CABLE = {
    "nobody": Case("nobody has the gateway's address", ["172\\.20\\.0\\.1", SILENT],
                   port("eth4", address=["172.20.0.2/29"], more={"liveness_ms": 200})),
    "wrong-vlan": Case("the carrier has another VLAN", ["172\\.20\\.0\\.1", SILENT], port("eth5", vlan=100, more={"liveness_ms": 200})),
    "taken": Case("somebody else has our address", ["172\\.20\\.0\\.2", "somebody else has our address", "MAC has it, too"],
                      port("eth6", shared=True)),
    "taken6": Case("somebody else has our IPv6 address, which is found before it is used",
                   ["; IPv6 down: somebody else has our address", "172\\.20\\.0\\.2, ours", "2001:db8:9::2, not used: MAC has it, too"],
                   port("eth9", address=[*OURS, "2001:db8:9::2/64"], gateway=[*EDGE, "2001:db8:9::1"], shared=True)),
    "no-link": Case("the cable is not plugged in", ["eth7", "down, no link"], port("eth7")),
}
# On the machine: its ports are down, and `ixgate status REALM` says why. What mends it (`ip` in the IX's namespace), if anything does.
NOT_OPEN = "down, not open"
MACHINE = [
    Case("there is no such interface", [NOT_OPEN, 'there is no interface "eth1"', "eth8"], port("eth1")),
    Case("the kernel has an address on the interface",
         [NOT_OPEN, "kernel has 10\\.9\\.9\\.9 on eth2", "`ip address del 10\\.9\\.9\\.9/24 dev eth2`"], port("eth2")),
    Case("the port's MTU is larger than the link's", [NOT_OPEN, "eth3", "1900", "1500", "MTU"], port("eth3", more={"mtu": 1900})),
    Case("the interface is no Ethernet", [NOT_OPEN, "lo carries no Ethernet frames"], port("lo")),
]
MENDS = [
    ["link add eth1 type veth peer name far1", "link set eth1 up", "link set far1 up"],
    ["addr del 10.9.9.9/24 dev eth2"],
    ["link set far3 mtu 1900", "link set eth3 mtu 1900"],
]


@dataclass
class Written:
    """What is wrong in the file: `ixgate check` refuses it, in these words."""

    what: str
    says: list
    ports: list = field(default_factory=list)


WRITTEN = [
    Written("the gateway is not on the link", ["172\\.20\\.9\\.1", "not on the link"], [port("eth1", gateway=["172.20.9.1"])]),
    Written("two realms on one interface and VLAN", ["second port", "eth1", "100"], [port("eth1", vlan=100), port("eth1", vlan=100)]),
    Written("two realms on one interface, untagged", ["second port", "eth1"], [port("eth1"), port("eth1")]),
    Written("two realms in one VLAN of a VLAN", ["second port", "eth1", "300"], [port("eth1", vlan=100, service_vlan=300)] * 2),
    Written("the length of the link's prefix is missing", ["prefix length"], [port("eth1", address=["172.20.0.2"])]),
    Written("the gateway is the port itself", ["our own address|is ours"], [port("eth1", gateway=["172.20.0.2"])]),
    Written("a VLAN that there is not", ["4094"], [port("eth1", vlan=4095)]),
    Written("longer frames than are served", ["1920"], [port("eth1", more={"mtu": 9000})]),
    Written("a route by somebody who is not on the link", ["10\\.8\\.0\\.1", "not on the link"],
            [port("eth1", more={"routes": [{"prefix": "192.168.1.0/25", "via": "10.8.0.1"}]})]),
    Written("BFD with nobody", ["BFD"], [port("eth1", address=["192.168.1.1/24"], gateway=[], more={"bfd": {"mode": "active"}})]),
]


def realm(name, attached, **options):
    addresses = ["192.168.1.10/24", f"{SIX}::10/64"][:len(attached.address)]
    return Realm(name, ["192.168.1.0/24", f"{SIX}::/64"][:len(addresses)], [Host("pc", addresses)], ports=[attached], **options)


SCENARIO = Scenario(
    realms=[realm("right", port("eth8")), *(realm(name, case.port, comes_up=False) for name, case in CABLE.items())],
    grants=[Grant([name], ["realm:right"], ["icmp"]) for name in CABLE],
)


def prepare(world):
    for number in (2, 3):
        netns.veth(world.ix, f"eth{number}", world.ix, f"far{number}")
    world.ix.ip("addr add 10.9.9.9/24 dev eth2")
    world.site("nobody").gateway.ip("addr flush dev eth4", "addr add 172.20.0.3/29 dev eth4")
    world.switch("eth7").cut()
    # The edge is in VLAN 200; the IX sends to 100.
    edge = world.site("wrong-vlan").gateway
    edge.ip("link del eth5-100")
    world.switch("eth5").ports.clear()
    world.switch("eth5").plug(Tags(200), edge, "eth5-200")
    edge.ip("addr add 172.20.0.1/30 dev eth5-200")
    for name, interface, address in (("taken", "eth6", "172.20.0.2/30"), ("taken6", "eth9", "2001:db8:9::2/64")):
        intruder = world.outsiders[name] = Namespace(f"intruder.{name}")
        world.switch(interface).join(Tags(), intruder, "wire")
        intruder.ip(f"addr add {address} dev wire" + (" nodad" if ":" in address else ""))


def check(world, report):
    check_written(world, report)
    check_machine(world, report)
    check_cable(world, report)
    check_taken6(world, report)
    report.group("what is right works beside it")
    done = probe.ping(world.site("right").gateway, "172.20.0.2")
    report.that("the port of `right` answers", probe.ping_answered(done), "answers", done.stdout)
    told = probe.ping(world.host("pc.right"), world.ixgate.resolver())
    report.that("the IX answers its host", probe.ping_answered(told), "answers", told.stdout)
    words = world.ixgate.failures("right")
    report.that("status blames nobody there", not re.search("down|not used|what to do", words), "no blame", words)
    report.equal("in = out + drops", True, world.ixgate.balanced())
    report.equal("drains and ends with 0 on SIGTERM", 0, world.ixgate.terminate())


def check_taken6(world, report):
    report.group("somebody else has our IPv6 address: IPv4 goes on")
    edge = world.site("taken6").gateway
    done = probe.ping(edge, "172.20.0.2")
    report.that("IPv4 works", probe.ping_answered(done), "answers", done.stdout)
    done = probe.ping(edge, "2001:db8:9::2")
    known = edge.run(["ip", "neigh", "show", "2001:db8:9::2"]).stdout
    mac = netns.mac(world.outsiders["taken6"], "wire")
    report.that("the address is the other's, and only the other's", mac in known and probe.ping_answered(done), mac, f"{known}{done.stdout}")


def check_machine(world, report):
    report.group("wrong on the machine: an ixgate that starts all the same")
    folder = world.directory / "machine"
    folder.mkdir()
    shutil.copy2(world.ixgate.key_file, folder)
    log, api = folder / "log", f"unix:{folder}/state/ixgate.sock"
    ask = lambda number: world.ix.run([world.ixgate.binary, "status", f"realm-{number}", "--api", api]).stdout

    def load(ports):
        # Beside the one that runs: other ports of the machine.
        text = written(ports, world).replace(":51820", ":51821").replace(":9469", ":9470")
        (folder / "ixgate.toml").write_text(text, encoding="utf-8")

    def await_that(what, is_so, said):
        report.that(what, wait_until(is_so, LIMIT_SECS, pause=0.2) is not None, "so", said())

    ports = [case.port for case in MACHINE]
    load(ports)
    process = world.ix.spawn([world.ixgate.binary, "run", folder / "ixgate.toml"], log)
    for number, case in enumerate(MACHINE):
        told = lambda: all(re.search(pattern, ask(number), re.IGNORECASE) for pattern in case.says)
        await_that(case.what, told, lambda: ask(number))
    read = lambda: log.read_text(encoding="utf-8")
    load([*ports, port("eth11")])
    process.send_signal(signal.SIGHUP)
    await_that("a reload that brings one more is refused", lambda: 'stays as it was: there is no interface "eth11"' in read(), read)
    load(ports)
    process.send_signal(signal.SIGHUP)
    await_that("one that brings nothing new is not held up", lambda: "new configuration: generation 2" in read(), read)
    for number, commands in enumerate(MENDS):
        world.ix.ip(*commands)
        opened = lambda: "driver           AF_PACKET" in ask(number) and NOT_OPEN not in ask(number)
        await_that(f"{MACHINE[number].what}: mended, and open", opened, lambda: ask(number))
    process.terminate()
    report.equal("drains and ends with 0 on SIGTERM", 0, process.wait(timeout=10))


def check_cable(world, report):
    report.group("wrong on the cable: `ixgate status REALM`")
    macs = {name: netns.mac(intruder, "wire") for name, intruder in world.outsiders.items()}
    for name, case in CABLE.items():
        patterns = [pattern.replace("MAC", macs.get(name, "")) for pattern in case.says]
        missing = []

        def told():
            words = world.ixgate.failures(name)
            missing[:] = [pattern for pattern in patterns if not re.search(pattern, words, re.IGNORECASE)]
            return not missing

        right = wait_until(told, LIMIT_SECS, pause=0.5) is not None
        report.that(f"{name}: {case.what}", right, f"words that match {patterns}", f"without {missing}:\n{world.ixgate.failures(name)}")


class Planned:
    """A realm that is only written down."""

    def __init__(self, number, attached):
        self.realm = realm(f"realm-{number}", attached)

    def attach(self):
        return None


def check_written(world, report):
    report.group("wrong in the file: `ixgate check`")
    for number, case in enumerate(WRITTEN):
        file = world.directory / f"written-{number}.toml"
        file.write_text(written(case.ports, world), encoding="utf-8")
        done = subprocess.run([world.ixgate.binary, "check", file], capture_output=True, text=True, check=False)
        words = done.stdout + done.stderr
        right = done.returncode != 0 and all(re.search(pattern, words, re.IGNORECASE) for pattern in case.says)
        report.that(case.what, right, f"refused, in words that match {case.says}", f"exit code {done.returncode}: {words}")


def written(ports, world):
    """A configuration file with a realm for each of the ports."""
    sites = [Planned(number, attached) for number, attached in enumerate(ports)]
    return toml(Scenario([site.realm for site in sites]), sites, world.ixgate.key_file.name)
