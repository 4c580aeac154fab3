"""dnsperf asks the IX through a tunnel: nothing lost, nothing wrong; and what an answer costs beside unbound's."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab.lib import dns, dnsperf, nameserver
from lab.lib.dnsperf import cpu_seconds
from lab.lib.plan import DOMAIN, Grant, Host, Realm, Scenario, fqdn
from lab.lib.site import wait_for_file, wg_key

HOSTS = 1000
LOCAL = "hospital-b.local"  # answered by the hospital's own resolver
LOCAL_NAMES = 200  # of them
MAX_PER_SEC = 1_000_000
SEED = 7

# Of the questions of a file, by kind: how many. The IX and unbound answer those of `BOTH` from the same data.
BOTH = {"A": 6000, "AAAA": 2000, "PTR": 1000, "absent": 1000}
MIXED = {"A": 4000, "AAAA": 2000, "PTR": 1000, "absent": 500, "denied": 500, "forwarded": 2000}
OUTSTANDING = 100
ROUNDS = 2  # of each server, in turns
RUNS = 15  # through the file, each round

# The tunnel between the asker's gateway and unbound's, beside the IX.
DIRECT_ASKER, DIRECT_SERVER, DIRECT_PORT = "10.99.0.1", "10.99.0.2", 51900


def address(number):
    return f"192.168.{4 + number // 250}.{1 + number % 250}", f"fd00:b::{number + 1:x}"


def host_tables():
    """Machines with names that nobody asks for anything else: they need no namespace."""
    for number in range(HOSTS):
        yield f'[[host]]\nname = "h{number}"\nrealm = "hospital-b"\naddress = {list(address(number))}'.replace("'", '"')


SCENARIO = Scenario(
    realms=[
        Realm("region-a", ["192.168.1.0/24", "fd00:a::/64"], [Host("pc", ["192.168.1.10/24", "fd00:a::10/64"])],
              separate_hosts=False),
        Realm("hospital-b", ["192.168.0.0/16", "fd00:b::/64"], [Host("pc", ["192.168.0.10/16", "fd00:b::ffff/64"])],
              dns={"domains": [LOCAL], "resolvers": ["192.168.0.10"]}),
        Realm("clinic-c", ["192.168.1.0/24"], [Host("pc", ["192.168.1.10/24"])]),
        Realm("unbound", ["192.168.1.0/24"], [Host("pc", ["192.168.1.10/24"])], separate_hosts=False),
    ],
    grants=[
        Grant(["region-a"], ["realm:hospital-b"], ["tcp/443"]),
        Grant(["region-a"], ["realm:unbound"], ["udp/53"]),
    ],
    more="\n".join([
        "[limits]", f"dns_queries_per_sec_per_host = {MAX_PER_SEC}", f"dns_queries_per_sec_per_realm = {MAX_PER_SEC}",
        "", *host_tables(), "",
    ]),
)


def check(world, report):
    names = Names(world)
    local = serve_local_names(world, names)
    tunnel = direct_tunnel(world)
    server = serve_the_same_names(world, names)

    report.group("what both are asked, one by one")
    check_sample(world, report, names, BOTH, [world.ixgate.resolver(), DIRECT_SERVER])
    report.group("a mixed load, over UDP and TCP at once")
    check_mixed(world, report, names)
    report.group("beside unbound")
    compare(world, report, names, server, tunnel)
    report.that("the hospital's resolver still runs", local.process.poll() is None, "running", local.process.poll())


@dataclass
class Question:
    name: str
    kind: str
    code: str
    answer: str = None  # the address, where it is one


class Names:
    """What region-a may ask, and is to be told."""

    def __init__(self, world):
        hospital = world.site("hospital-b").realm
        self.alias = [world.ixgate.shown(hospital.name, address(n)[0], 4) for n in range(HOSTS)]
        self.local_alias = self.alias[:LOCAL_NAMES]

    def questions(self, mix):
        """As many of each kind as `mix` says, in a random order that is always the same."""
        order = random.Random(SEED)
        drawn = [self.question(kind, number) for kind, count in mix.items() for number in range(count)]
        order.shuffle(drawn)
        return drawn

    def question(self, kind, number):
        host = number % HOSTS
        name = fqdn(f"h{host}.hospital-b")
        if kind == "A":
            return Question(name, "A", "NOERROR", str(self.alias[host]))
        if kind == "AAAA":
            return Question(name, "AAAA", "NOERROR", address(host)[1])
        if kind == "PTR":
            return Question(self.alias[host].reverse_pointer, "PTR", "NOERROR")
        if kind == "forwarded":
            return Question(f"n{number % LOCAL_NAMES}.{LOCAL}", "A", "NOERROR", str(self.local_alias[number % LOCAL_NAMES]))
        if kind == "denied":
            return Question(fqdn("pc.clinic-c"), "A", "NXDOMAIN")
        return Question(fqdn(f"absent{host}.hospital-b"), "A", "NXDOMAIN")

    def file(self, world, name, mix):
        drawn = self.questions(mix)
        return drawn, dnsperf.write_queries(world.directory / f"{name}.queries", [(q.name, q.kind) for q in drawn])


def serve_local_names(world, names):
    """The hospital's own resolver, which the IX asks once for each name."""
    lines = [f'local-zone: "{LOCAL}." static']
    lines += [f'local-data: "n{n}.{LOCAL}. 3600 IN A {address(n)[0]}"' for n in range(LOCAL_NAMES)]
    host = world.host("pc.hospital-b")
    return nameserver.unbound(host, world.directory, "hospital-b", ["192.168.0.10"], lines)


def serve_the_same_names(world, names):
    """unbound with what the IX tells region-a as local data, and nothing else to do."""
    zones = [DOMAIN + ".", *{f"{alias.reverse_pointer.split('.', 1)[1]}." for alias in names.alias}]
    lines = [f'local-zone: "{zone}" static' for zone in zones]
    lines += [f'local-data: "{DOMAIN}. 60 IN SOA ns.{DOMAIN}. hostmaster.{DOMAIN}. 1 3600 600 86400 30"']
    for number, alias in enumerate(names.alias):
        name = fqdn(f"h{number}.hospital-b")
        lines += [f'local-data: "{name}. 60 IN A {alias}"', f'local-data: "{name}. 60 IN AAAA {address(number)[1]}"',
                  f'local-data-ptr: "{alias} 60 {name}"']
    addresses = [DIRECT_SERVER, "192.168.1.10"]
    gateway = world.site("unbound").gateway
    return nameserver.unbound(gateway, world.directory, "unbound", addresses, ["so-reuseport: yes", *lines])


def direct_tunnel(world):
    """wireguard-go at both ends, between the gateways of the asker and of unbound: what one would have without an IX. The
    one at unbound's end."""
    ends = [(world.site("region-a"), "direct1", DIRECT_ASKER), (world.site("unbound"), "direct2", DIRECT_SERVER)]
    keys = [wg_key("genkey") for _ in ends]
    for (site, device, own), private, other_private, (other, _, other_own) in zip(ends, keys, keys[::-1], ends[::-1]):
        key_file = world.directory / f"{device}.key"
        key_file.write_text(private, encoding="ascii")
        key_file.chmod(0o600)
        daemon = site.gateway.spawn(["wireguard-go", "-f", device], site.log(device), env={"LOG_LEVEL": "error"})
        wait_for_file(Path(f"/run/wireguard/{device}.sock"), daemon, site.log(device))
        done = site.gateway.run(["wg", "set", device, "listen-port", DIRECT_PORT, "private-key", key_file, "peer",
                                 wg_key("pubkey", other_private), "endpoint", f"{other.outer}:{DIRECT_PORT}",
                                 "allowed-ips", other_own])
        if done.returncode != 0:
            raise RuntimeError(f"wg set {device}: {done.stdout}")
        site.gateway.ip(f"addr add {own}/32 dev {device}", f"link set {device} mtu 1420 up",
                        f"route add {other_own} dev {device} src {own}")
    return daemon


def check_sample(world, report, names, mix, servers, count=100):
    """Some of the questions, each with its answer."""
    asker = world.host("pc.region-a")
    for question in random.Random(SEED).sample(names.questions(mix), count):
        for server in servers:
            found = dns.ask(asker, server, question.name, getattr(dns, question.kind))
            got = (dns.RCODES.get(found.rcode), [str(a) for a in found.addresses]) if found else "no answer"
            expected = (question.code, [question.answer] if question.answer else [])
            report.equal(f"{server}: {question.kind} {question.name}", expected, got)


def check_mixed(world, report, names):
    """Everything that a realm asks, over UDP as fast as answers come and over TCP beside it; samples are looked at meanwhile."""
    asker, resolver = world.host("pc.region-a"), world.ixgate.resolver()
    drawn, queries = names.file(world, "mixed", MIXED)
    _, few = names.file(world, "tcp", {kind: count // 10 for kind, count in MIXED.items()})
    before = world.ixgate.all_drops()
    with ThreadPoolExecutor() as pool:
        udp = pool.submit(dnsperf.run, asker, resolver, queries, "-n", RUNS, "-q", OUTSTANDING)
        tcp = pool.submit(dnsperf.run, asker, resolver, few, "-n", RUNS, "-m", "tcp", "-c", 8, "-q", 40)
        check_sample(world, report, names, MIXED, [resolver])
    for transport, load, runs in (("UDP", udp.result(), RUNS), ("TCP", tcp.result(), RUNS)):
        share = 1 if transport == "UDP" else 10
        check_load(report, f"{transport}, mixed", load, expected_codes(MIXED, runs, share))
    report.equal("drops by the IX", before, world.ixgate.all_drops())
    report.equal("in = out + drops", True, world.ixgate.balanced())


def expected_codes(mix, runs, share=1):
    denied = sum(mix.get(kind, 0) for kind in ("absent", "denied")) // share
    return {"NOERROR": sum(mix.values()) // share * runs - denied * runs, "NXDOMAIN": denied * runs}


def check_load(report, what, load, expected):
    """Every question has its answer, save those that the peers' full sockets lost."""
    report.that(f"{what}: lost", load.lost <= load.overflows, "none but by the peers' full sockets", load)
    missing = {code: expected.get(code, 0) - load.codes.get(code, 0) for code in {*expected, *load.codes}}
    right = min(missing.values()) >= 0 and sum(missing.values()) == load.lost
    report.that(f"{what}: answers by code", right, expected, load.codes)
    report.fact(what, load)


def compare(world, report, names, server, tunnel):
    """The same questions to the IX and to unbound, in turns. What is compared is processor time, which does not depend on
    who else is busy on this machine; the ratio is told, and nothing fails by it."""
    _, queries = names.file(world, "both", BOTH)
    asker, ixgate = world.host("pc.region-a"), world.ixgate.process
    site = world.site("unbound")
    ways = [
        Way("ixgate, its tunnel included", world.ixgate.resolver(), [ixgate]),
        Way("unbound behind a tunnel of its own", DIRECT_SERVER, [server.process], [tunnel], [site.gateway]),
        Way("unbound in a realm of the IX", str(world.seen("pc.unbound")), [server.process], [site.daemon], [site.gateway]),
    ]
    for _ in range(ROUNDS):
        for way in ways:
            way.measure(asker, queries)
    for way in ways:
        for number, load in enumerate(way.loads, start=1):
            check_load(report, f"{way.words}, round {number}", load, expected_codes(BOTH, RUNS))
    for way in ways:
        report.fact(way.words, way)
    ours = ways[0].per_cpu_second()
    for way in ways[1:]:
        alone, with_tunnel = way.per_cpu_second(), way.per_cpu_second(with_tunnel=True)
        report.fact(f"ixgate / {way.words}", f"{ours / alone:.2f}, {ours / with_tunnel:.2f} with its tunnel's end")


class Way:
    """Somebody who answers: the processes that do, and the one at the end of their tunnel where that is another."""

    def __init__(self, words, server, processes, tunnel=(), peers=()):
        self.words, self.server, self.processes, self.tunnel, self.peers = words, server, processes, tunnel, peers
        self.loads, self.cpu, self.tunnel_cpu = [], 0.0, 0.0

    def measure(self, asker, queries):
        before = [sum(map(cpu_seconds, some)) for some in (self.processes, self.tunnel)]
        self.loads.append(dnsperf.run(asker, self.server, queries, "-n", RUNS, "-q", OUTSTANDING, peers=self.peers))
        self.cpu += sum(map(cpu_seconds, self.processes)) - before[0]
        self.tunnel_cpu += sum(map(cpu_seconds, self.tunnel)) - before[1]

    def per_cpu_second(self, with_tunnel=False):
        answers = sum(load.completed for load in self.loads)
        return answers / (self.cpu + (self.tunnel_cpu if with_tunnel else 0))

    def __str__(self):
        tunnel = f", {self.per_cpu_second(with_tunnel=True):,.0f} with its tunnel's end" if self.tunnel else ""
        return f"{self.per_cpu_second():,.0f} answers per CPU second{tunnel}"
