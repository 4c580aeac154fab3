"""Three realms, one prefix: every granted and ungranted pair by TCP, UDP, ICMP and DNS."""

import re

from lab.lib import crossing, dns, probe
from lab.lib.plan import Grant, Host, Realm, Scenario, Service, fqdn
from lab.lib.probe import REFUSED, SILENCE
from lab.lib.responder import PORT

CLOSED_PORT = 7001  # granted, and nobody listens on it
UNGRANTED_PORT = 7002
SMALL_MTU_BYTES = 1300


def realm(name, letter, hosts, **options):
    return Realm(
        name,
        ["192.168.1.0/24", f"fd00:{letter}::/64"],
        [Host(host, [f"192.168.1.{number}/24", f"fd00:{letter}::{number}/64"]) for host, number in hosts],
        **options,
    )


SCENARIO = Scenario(
    realms=[
        realm("region-a", "a", [("pc", 10), ("mail", 20)]),
        realm("hospital-b", "b", [("pc", 10), ("pacs", 20)], calls="gateway"),
        realm("clinic-c", "c", [("pc", 10), ("lab", 20)], mtu_bytes=SMALL_MTU_BYTES),
    ],
    services=[Service("pacs", "pacs.hospital-b", [f"tcp/{PORT}"])],
    grants=[
        # A whole realm; a service only; and nothing at all from b to c or from c to a.
        Grant(["region-a"], ["realm:clinic-c"], ["icmp", f"tcp/{PORT}", f"udp/{PORT}-{CLOSED_PORT}"]),
        Grant(["hospital-b"], ["realm:region-a"], ["any"]),
        Grant(["region-a", "clinic-c"], ["pacs"]),
    ],
)

# What the grants above come to, written out by hand: (from, to realm) -> what is open to which of its hosts.
OPEN = {
    ("region-a", "clinic-c"): {"pc": {"icmp", "tcp", "udp"}, "lab": {"icmp", "tcp", "udp"}},
    ("hospital-b", "region-a"): {"pc": {"icmp", "tcp", "udp"}, "mail": {"icmp", "tcp", "udp"}},
    ("region-a", "hospital-b"): {"pacs": {"tcp"}},
    ("clinic-c", "hospital-b"): {"pacs": {"tcp"}},
}
REALMS = [r.name for r in SCENARIO.realms]


def check(world, report):
    crossing.check_pairs(world, report, allowed)
    crossing.check_arrivals(world, report, allowed)
    check_other_ports(world, report)
    crossing.check_names(world, report, allowed)
    check_other_names(world, report)
    check_icmp_errors(world, report)
    check_spoofing(world, report)
    check_what_it_says(world, report)


def allowed(frm, to):
    """The protocols open from a realm to HOST.REALM."""
    host, _, realm_name = to.partition(".")
    return OPEN.get((frm, realm_name), {}).get(host, set())


def check_other_ports(world, report):
    report.group("a granted host's other ports")
    frm, pacs = "pc.region-a", world.seen("pacs.hospital-b")
    text = f"{frm} pacs.hospital-b closed"
    server = world.host("pacs.hospital-b")
    world.responders.add("ungranted-port", server, world.address("pacs.hospital-b"), UNGRANTED_PORT)
    for name, attempt in crossing.TRIES.items():
        got = attempt(world.host(frm), world.address(frm), pacs, UNGRANTED_PORT, text)
        report.equal(f"{name}/{UNGRANTED_PORT} of pacs.hospital-b", SILENCE, got)
    report.equal("arrivals there", [], world.responders.arrived(who="ungranted-port"))


def check_other_names(world, report):
    report.group("services, reverse names, TCP, IPv6, other zones (dig)")
    inside, resolver = world.host("pc.region-a"), world.ixgate.resolver()
    pacs = world.seen("pacs.hospital-b")

    def ask(what, expected, *question, server=resolver):
        report.equal(what, expected, str(probe.dig(inside, server, *question)))

    ask("service name", f"NOERROR {pacs}", fqdn("pacs"), "A")
    ask("the same over TCP", f"NOERROR {pacs}", fqdn("pacs"), "A", "+tcp")
    ask("the same over IPv6", f"NOERROR {pacs}", fqdn("pacs"), "A", server=world.ixgate.resolver(6))
    ask("upper case", f"NOERROR {pacs}", fqdn("pacs").upper(), "A")
    ask("PTR of an alias", f"NOERROR {fqdn('pacs.hospital-b')}.", pacs.reverse_pointer, "PTR")
    v6 = world.seen("pacs.hospital-b", 6)
    ask("PTR of a canonical address", f"NOERROR {fqdn('pacs.hospital-b')}.", v6.reverse_pointer, "PTR")
    report.equal("another zone", "REFUSED", probe.dig(inside, resolver, "www.example.com").status)
    absent = probe.dig(inside, resolver, fqdn("nobody.region-a"), "A")
    report.equal("a name that does not exist", "NXDOMAIN", absent.status)
    report.that("... with the SOA", "SOA" in absent.text, "an SOA in the authority section", absent.text)
    soa = probe.dig(inside, resolver, "ix.example", "SOA")
    report.that("SOA of the zone", soa.status == "NOERROR" and bool(soa.answers), "NOERROR with an answer", soa)

    answer = dns.ask(world.host("pc.hospital-b"), resolver, fqdn("pc.clinic-c"))
    report.that("an ungranted name says why", answer is not None and answer.denied(), "NXDOMAIN with EDE", answer)

    page = "import socket; print(*sorted({a[4][0] for a in socket.getaddrinfo('%s', 80)}))" % fqdn("pacs.hospital-b")
    looked_up = inside.run(["python3", "-c", page], timeout=20)
    expected = sorted([str(pacs), str(v6)])
    report.equal("the system's own resolver (getaddrinfo)", expected, sorted(looked_up.stdout.split()))


def check_icmp_errors(world, report):
    report.group("ICMP errors")
    frm, to = "pc.region-a", "pc.clinic-c"
    inside, target = world.host(frm), world.seen(to)
    for version in (4, 6):
        got = probe.try_udp(inside, world.address(frm, version), world.seen(to, version), CLOSED_PORT, "anybody?")
        report.equal(f"port unreachable crosses back, IPv{version}", REFUSED, got)

    # The gateway takes one hop, the IX is the second.
    hop = probe.ping(inside, target, "-t", "2")
    from_ix = f"From {world.ixgate.gateway()}"
    report.that("time exceeded is answered by the IX", from_ix in hop.stdout and "Time to live exceeded" in hop.stdout,
                f"{from_ix} ... Time to live exceeded", hop.stdout)

    payload = SMALL_MTU_BYTES + 50 - 28
    big = probe.ping(inside, target, "-M", "do", "-s", payload)
    reported = re.search(r"mtu ?=? ?(\d+)", big.stdout)
    report.equal("too big for the other tunnel: the size that fits is told", str(SMALL_MTU_BYTES),
                 reported.group(1) if reported else big.stdout)
    fits = probe.ping(inside, target, "-M", "do", "-s", SMALL_MTU_BYTES - 28)
    report.that("that size does fit", probe.ping_answered(fits), "answers", fits.stdout)

    own = probe.ping(inside, world.ixgate.resolver())
    report.that("the IX's own address answers", probe.ping_answered(own), "answers", own.stdout)


def check_spoofing(world, report):
    report.group("false sources")
    lies = ["10.9.9.9", str(world.seen("pc.hospital-b")), "192.168.2.10", "203.0.113.7", "fd00:b::10", "fd00:99::1"]
    crossing.check_false_sources(world, report, "pc.region-a", "pc.clinic-c", lies)


def check_what_it_says(world, report):
    report.group("status and metrics")
    report.equal("tunnels up", len(REALMS), world.ixgate.tunnels_up())
    report.that("ungranted packets are counted", world.ixgate.drops("not_granted") > 0, "not_granted > 0",
                world.ixgate.all_drops())
    report.equal("in = out + drops", True, world.ixgate.balanced())
    words = world.ixgate.status_text()
    for name in REALMS:
        report.that(f"status names {name}", name in words, name, words)
    metrics = world.ixgate.metrics()
    told = "# HELP ixgate_" in metrics and "source_not_in_realm" in metrics
    report.that("metrics carry help and drops by reason", told, "# HELP ixgate_..., source_not_in_realm", metrics[:300])
    report.equal("drains and ends with 0 on SIGTERM", 0, world.ixgate.terminate())
