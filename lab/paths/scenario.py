"""HTTPS and 50 MB over every mix of IPv4, IPv6, WireGuard, ESP and path MTU: no black hole, nothing cut needlessly."""

import itertools
import re

from lab.lib import probe
from lab.lib.files import sha256, write_random
from lab.lib.fragments import FragmentCounter
from lab.lib.plan import Grant, Host, Ipsec, Realm, Scenario, Service, fqdn
from lab.lib.report import progress
from lab.lib.responder import PORT as RESPONDER_PORT
from lab.lib.wait import wait_until
from lab.lib.web import PORT as HTTPS_PORT
from lab.lib.web import Authority, HttpsServer, download, upload

KINDS = {"wg": "WireGuard", "esp": "ESP"}
WIDE_BYTES = 1500
NARROW_BYTES = (1400, 1280)
MTUS = (WIDE_BYTES, *NARROW_BYTES)
FAMILIES = ("44", "46", "64", "66")  # the IP version of the client, and of the server
LONG = "1 GB in place of 50 MB"
DOWN_BYTES, LONG_DOWN_BYTES = 50_000_000, 1_000_000_000
UP_BYTES = 5_000_000
SLOWEST_BYTES_PER_SEC = 500_000
DATAGRAM_BYTES = (1200, 1340, 1400, 3000)
IP_BYTES = {"4": 20, "6": 40}
UDP_BYTES = ICMP_BYTES = 8
IPV6_LEAST_BYTES = 1280
# Probing a path where nothing is heard takes up to three lost probes of two seconds, for each size.
SETTLED_SECS = 60


def clients(kind, version, mtu):
    """The realm of clients that speak this IP version alone, so that names have addresses for it."""
    return f"{kind}{version}-{mtu}"


def servers(kind, mtu):
    return f"{kind}-web-{mtu}"


def service(version, kind, mtu):
    return f"web{version}-{kind}-{mtu}"


def realm(number, name, kind, mtu, hosts):
    """`hosts` by IP version. Half of the gateways call the IX, the others are called by it."""
    networks = {"4": ("192.168.1.0/24", "192.168.1.10/24"), "6": (f"fd00:{number:x}::/64", f"fd00:{number:x}::10/64")}
    return Realm(name, [networks[version][0] for version in hosts],
                 [Host(host, [networks[version][1]]) for version, host in hosts.items()],
                 calls="gateway" if number % 2 else "ix", path_mtu_bytes=mtu, ipsec=Ipsec() if kind == "esp" else None)


def realms():
    numbers = itertools.count(1)
    for mtu, kind in itertools.product(MTUS, KINDS):
        for version in "46":
            yield realm(next(numbers), clients(kind, version, mtu), kind, mtu, {version: "pc"})
        yield realm(next(numbers), servers(kind, mtu), kind, mtu, {version: f"web{version}" for version in "46"})


def served():
    return itertools.product("46", KINDS, MTUS)


SCENARIO = Scenario(
    realms=list(realms()),
    services=[Service(service(*which), f"web{which[0]}.{servers(*which[1:])}", [f"tcp/{HTTPS_PORT}"]) for which in served()],
    grants=[Grant([r.name for r in realms() if "web" not in r.name], [f"realm:{r.name}" for r in realms() if "web" in r.name],
                  ["any"])],
)


class Case:
    """A client, a server, and the narrowest link on the way to each."""

    def __init__(self, client_kind, server_kind, family, client_mtu, server_mtu):
        self.kinds, self.family, self.mtus = (client_kind, server_kind), family, (client_mtu, server_mtu)
        self.versions = tuple(family)
        self.realms = (clients(client_kind, self.versions[0], client_mtu), servers(server_kind, server_mtu))
        self.client = f"pc.{self.realms[0]}"
        self.server = f"web{self.versions[1]}.{self.realms[1]}"
        self.name = fqdn(service(self.versions[1], server_kind, server_mtu))

    def __str__(self):
        ends = [f"{KINDS[kind]} {mtu}" for kind, mtu in zip(self.kinds, self.mtus)]
        return f"{self.family} {' to '.join(ends)}"

    def inner_mtu(self, version):
        """What both tunnels carry, in terms of packets of this IP version."""
        return min(inner_bytes(kind, mtu) + IP_BYTES[version] - IP_BYTES[own]
                   for kind, mtu, own in zip(self.kinds, self.mtus, self.versions))


def inner_bytes(kind, path_bytes):
    """The longest inner packet over such a path, from what stands around it; but what IPv6 needs passes everywhere."""
    if kind == "wg":  # IPv4, UDP, header and tag; padded to 16, though not beyond 1420
        room = path_bytes - 20 - 8 - 32
        longest = 1420 if room >= 1420 else room // 16 * 16
    else:  # IPv4, UDP, SPI and number, IV, tag; two bytes behind the packet, padded to 4; 1390 is ixgate's default
        longest = min((path_bytes - 20 - 8 - 8 - 8 - 16) // 4 * 4 - 2, 1390)
    return max(longest, IPV6_LEAST_BYTES)


def same_paths(mtus=MTUS):
    return [Case(frm, to, family, mtu, mtu) for mtu, frm, to, family in itertools.product(mtus, KINDS, KINDS, FAMILIES)]


def check(world, report):
    global rows
    rows = []
    counter, web = FragmentCounter(world), Web(world)
    report.group("tunnels")
    wait_for_searches(world, report)
    check_certificates(world, report, web)
    for mtu in MTUS:
        report.group(f"HTTPS and {web.bytes // 1_000_000} MB, path MTU {mtu}")
        for case in same_paths([mtu]):
            move(case, f"path MTU {mtu}", web, counter, report)
    check_unlike_paths(report, counter, web)
    check_datagrams(world, report, counter)
    check_told_sizes(world, report, counter)
    check_status(world, report)
    check_silent_paths(world, report, counter, web)
    report.equal("in = out + drops", True, world.ixgate.balanced())


class Web:
    """The servers, and what is to be moved."""

    def __init__(self, world):
        self.world = world
        self.folder = world.directory / "www"
        self.folder.mkdir()
        self.bytes = LONG_DOWN_BYTES if world.long else DOWN_BYTES
        progress(f"writing a file of {self.bytes // 1_000_000} MB")
        self.digests = {"file": write_random(self.folder / "file", self.bytes),
                        "small": write_random(self.folder / "small", UP_BYTES)}
        self.authority = Authority(world.directory)
        self.servers = {}
        for version, kind, mtu in served():
            label, name = f"web{version}.{servers(kind, mtu)}", fqdn(service(version, kind, mtu))
            self.servers[label] = HttpsServer(world, label, name, self.authority, self.folder)
        for server in self.servers.values():
            server.wait()

    def get(self, case, file):
        """What curl says, and whether the bytes are the right ones."""
        to = self.world.directory / "got"
        got = download(self.world.host(case.client), self.authority, f"https://{case.name}/{file}", to, self._timeout(file))
        is_right = got.status == 200 and sha256(to) == self.digests[file]
        to.unlink(missing_ok=True)
        return got, is_right

    def put(self, case, file):
        got = upload(self.world.host(case.client), self.authority, f"https://{case.name}/up/{case.realms[0]}",
                     self.folder / file, self._timeout(file))
        there = self.servers[case.server].uploads / case.realms[0]
        is_right = got.status in (201, 204) and sha256(there) == self.digests[file]
        there.unlink(missing_ok=True)
        return got, is_right

    def _timeout(self, file):
        return 30 + (self.folder / file).stat().st_size / SLOWEST_BYTES_PER_SEC


def check_certificates(world, report, web):
    report.group("the certificates are looked at")
    case = same_paths()[0]
    stranger = Authority(world.directory, "stranger")
    got = download(world.host(case.client), stranger, f"https://{case.name}/small", world.directory / "got", 30)
    report.that("another CA's curl refuses the server", "certificate" in got.error, "a word about the certificate", got)


def check_unlike_paths(report, counter, web):
    """A narrow path on one side, another on the other; the IP versions take turns."""
    report.group("HTTPS and 5 MB, different path MTUs")
    families = itertools.cycle(FAMILIES)
    for mtus in itertools.permutations(MTUS, 2):
        for kinds in itertools.product(KINDS, KINDS):
            move(Case(*kinds, next(families), *mtus), "unlike paths", web, counter, report, file="small")
        next(families)


def wait_for_searches(world, report):
    took = wait_until(lambda: not any(mtu["searching"] for mtu in world.ixgate.mtus().values()), SETTLED_SECS)
    report.that("searching the paths ends", took is not None, f"within {SETTLED_SECS} s", world.ixgate.mtus())
    progress(f"  every path searched after {took or SETTLED_SECS:.1f} s")


def move(case, where, web, counter, report, file="file"):
    """The file to the client, a smaller one to the server."""
    before = counter.count(*case.realms)
    down, down_is_right = web.get(case, file)
    up, up_is_right = web.put(case, "small") if down_is_right else (down, False)
    cut = counter.count(*case.realms) - before
    report.that(f"{case}: arrives as it was", down_is_right, "the same bytes", down)
    report.that(f"{case}: and the other way", up_is_right, "the same bytes", up)
    report.that(f"{case}: outer fragments", cut.up + cut.down == 0, "none", cut)
    report.equal(f"{case}: inner fragments", 0, cut.inner)
    speeds = [f"{moved.megabytes_per_sec():.1f}" if right else "-" for moved, right in ((down, down_is_right), (up, up_is_right))]
    rows.append((where, str(case), *speeds, str(cut.up + cut.down), str(cut.inner)))
    report.fact(f"{where}, {case}", f"{' and '.join(speeds)} MB/s; {cut}")


def addresses(world, cases):
    """Where the client of each case finds its server."""
    def ask(case):
        version = int(case.versions[0])
        kind = {4: "A", 6: "AAAA"}[version]
        return probe.dig(world.host(case.client), world.ixgate.resolver(version), case.name, kind).answers

    return {case: answers[0] for (case,), answers in probe.all_at_once(ask, [(case,) for case in cases]) if answers}


def check_datagrams(world, report, counter):
    cases = same_paths()
    targets = addresses(world, cases)
    report.group("datagrams and their answers")
    report.equal("every name has an address", len(cases), len(targets))
    for size in DATAGRAM_BYTES:
        fitting = [case for case in targets if fits(case, size)]
        for what, some in (("fit", fitting), ("do not fit", [case for case in targets if case not in fitting])):
            if some:
                exchange(world, report, counter, targets, some, size, what)


def fits(case, size):
    """The answer carries the names of both ends in front of what was sent."""
    longest = len(answer_to(case, request(case, size)))
    return all(longest + UDP_BYTES + IP_BYTES[version] <= case.inner_mtu(version) for version in case.versions)


def request(case, size):
    return f"{case.client} {case.server} ".ljust(size - len(case.server) - 2, ".")


def answer_to(case, text):
    return f"{case.server} {text}\n"


def exchange(world, report, counter, targets, cases, size, what):
    def ask(case):
        source = world.address(case.client, int(case.versions[0]))
        # The first ones of a path may be what it learns its MTU from.
        return probe.try_udp(world.host(case.client), source, targets[case], RESPONDER_PORT, request(case, size), 6, 6)

    before = counter.count()
    for (case,), answer in probe.all_at_once(ask, [(case,) for case in cases], workers=8):
        is_right = answer == answer_to(case, request(case, size)).strip()
        report.that(f"{size} bytes, {case}", is_right, "the answer", answer[:80])
    cut = counter.count() - before
    if what == "fit":
        report.equal(f"{size} bytes that {what}: inner fragments", 0, cut.inner)
    else:
        report.that(f"{size} bytes that {what}: inner fragments", cut.inner > 0, "some", cut)
    report.fact(f"datagrams of {size} bytes that {what}, {len(cases)} pairs", cut)


def check_told_sizes(world, report, counter):
    """From a wide path to narrow ones: who may not be cut is told what fits, and believes it."""
    report.group("DF: the size that fits is told")
    cases = [Case("wg", kind, family, WIDE_BYTES, mtu) for kind, mtu, family in itertools.product(KINDS, NARROW_BYTES, FAMILIES)]
    targets = addresses(world, cases)
    for case, target in targets.items():
        host, version = world.host(case.client), case.versions[0]
        headers, expected = IP_BYTES[version] + ICMP_BYTES, case.inner_mtu(version)
        probe.ping(host, target, "-M", "do", "-s", inner_bytes("wg", WIDE_BYTES) - headers, count=4)
        known = re.search(r"mtu (\d+)", host.run(["ip", "route", "get", target]).stdout)
        report.equal(f"{case}: what the kernel has learned", str(expected), known[1] if known else "nothing")
        before = counter.count(*case.realms)
        fits_at_all = probe.ping(host, target, "-M", "do", "-s", expected - headers)
        cut = counter.count(*case.realms) - before
        report.that(f"{case}: that size passes", probe.ping_answered(fits_at_all), "answers", fits_at_all.stdout)
        if case.mtus[1] - 60 >= IPV6_LEAST_BYTES:
            report.equal(f"{case}: in one piece from the IX", 0, cut.down)


def check_status(world, report):
    report.group("status --mtu is what is so")
    for name, mtu in world.ixgate.mtus().items():
        site = world.site(name)
        kind, path = "esp" if site.realm.ipsec else "wg", site.realm.path_mtu_bytes
        report.equal(f"{name}: effective", inner_bytes(kind, path), mtu["effective_bytes"])
        if path < WIDE_BYTES:
            report.equal(f"{name}: outer path", path, mtu["path_bytes"])


def check_silent_paths(world, report, counter, web):
    """ "Pings pass, HTTPS hangs": nobody says that packets are too long, and nobody has known it before."""
    report.group("HTTPS and 5 MB where the routers' ICMP errors are lost")
    for mtu in NARROW_BYTES:
        world.path(mtu).silence()
    world.ixgate.kill()
    for site in world.sites:
        for namespace in (site.gateway, *site.namespaces.values()):
            for family in ("-4", "-6"):
                namespace.run(["ip", family, "route", "flush", "cache"])
    world.ixgate.start()
    # A gateway that calls by WireGuard calls again when what hosts sent was not answered.
    probe.all_at_once(lambda label: ping_the_ix(world, label), [(label,) for label in world.labels()])
    world.ixgate.wait_for_tunnels(len(world.sites), timeout=60)
    wait_for_searches(world, report)
    for case in same_paths(NARROW_BYTES):
        move(case, "ICMP lost", web, counter, report, file="small")
    for mtu in NARROW_BYTES:
        untold = world.path(mtu).untold()
        report.that(f"path of {mtu} bytes: errors that nobody heard", untold > 0, "some", untold)


def ping_the_ix(world, label):
    version = next(version for version in (4, 6) if world.address(label, version))
    return probe.ping(world.host(label), world.ixgate.resolver(version))


def print_result(report):
    head = ("", "client to server", "MB/s down", "up", "fragments outer", "inner")
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    last = None
    for row in [head, *rows]:
        first = row[0] if row[0] != last else ""
        last = row[0]
        print("  ".join(f"{cell:<{width}}" for cell, width in zip((first, *row[1:]), widths)).rstrip())
    for name, value in report.facts.items():
        if name.startswith("datagrams"):
            print(f"{name}: {value}")
    passed, failed, skipped = report.totals()
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped", flush=True)
