"""Who reaches whom: every pair of hosts by TCP, UDP, ping and names, against what was granted; and who was seen by whom.

A realm that speaks both IP versions uses that of the far host: an IPv6 address of it has no IPv4 form, under which a host with
IPv4 alone could see it.

`allowed(realm, HOST.REALM)` says which of "tcp", "udp", "icmp" are open from a realm to a host.
"""

import itertools
from ipaddress import ip_address

from lab.lib import probe
from lab.lib.plan import fqdn
from lab.lib.probe import SILENCE
from lab.lib.responder import PORT

TRIES = {"tcp": probe.try_tcp, "udp": probe.try_udp}
KINDS = {4: "A", 6: "AAAA"}


def realm_of(label):
    return label.partition(".")[2]


def ordered_pairs(world, version):
    """Every host that speaks the IP version with every host of another realm, whatever that one speaks."""
    for frm, to in itertools.permutations(world.labels(), 2):
        if realm_of(frm) != realm_of(to) and world.address(frm, version):
            yield frm, to


def check_pairs(world, report, allowed, silent=(SILENCE,), workers=32):
    """`silent`: what a host may be told of what is closed to it."""
    for version, protocol in itertools.product((4, 6), TRIES):
        report.group(f"{protocol.upper()} over IPv{version}, every pair of hosts")

        def attempt(frm, to):
            text = f"{frm} {to} {protocol}{version}"
            return TRIES[protocol](world.host(frm), world.address(frm, version), world.seen(to, version), PORT, text)

        for (frm, to), got in probe.all_at_once(attempt, list(ordered_pairs(world, version)), workers):
            what = f"{frm} to {to} ({world.seen(to, version)})"
            if protocol in allowed(realm_of(frm), to) and world.seen_from(frm, version, to):
                report.equal(what, f"{to} {frm} {to} {protocol}{version}", got)
            else:
                report.that(what, got in silent, " or ".join(silent), got)

    for version in (4, 6):
        report.group(f"ping over IPv{version}, every pair of hosts")

        def ping(frm, to):
            return probe.ping(world.host(frm), world.seen(to, version), count=1)

        for (frm, to), done in probe.all_at_once(ping, list(ordered_pairs(world, version)), workers):
            opened = "icmp" in allowed(realm_of(frm), to) and world.seen_from(frm, version, to) is not None
            report.equal(f"{frm} pings {to}", opened, probe.ping_answered(done))


def check_arrivals(world, report, allowed):
    """Nothing arrived but what is granted, and everything from the address under which its sender is seen."""
    report.group("who saw whom")
    for arrival in world.responders.arrived():
        frm, to = arrival.sender(), arrival.addressee()
        version = int(arrival.text[-1])  # that of the sender
        right = arrival.who == to and arrival.protocol in allowed(realm_of(frm), to)
        as_seen = str(world.seen_from(frm, version, arrival.who))
        report.that(f"{arrival.protocol} at {arrival.who}", right and arrival.source == as_seen,
                    f"only what is granted, from {as_seen}", arrival)


def check_names(world, report, allowed):
    """Names of hosts from everywhere: the address that is valid for the asker, or none and why."""
    report.group("names, every asker and host (dig)")
    askers = {s.realm.name: f"{s.realm.hosts[0].name}.{s.realm.name}" for s in world.sites}
    cases = [(asker, host, version) for asker, host, version in itertools.product(askers, world.labels(), KINDS)
             if world.address(askers[asker], version) and (realm_of(host) != asker or world.address(host, version))]

    def ask(asker, host, version):
        server = world.ixgate.resolver(4 if world.address(askers[asker], 4) else 6)
        return probe.dig(world.host(askers[asker]), server, fqdn(host), KINDS[version])

    for (asker, host, version), found in probe.all_at_once(ask, cases, workers=8):
        what = f"{asker} asks IPv{version} of {host}"
        if realm_of(host) == asker:
            report.equal(what, f"NOERROR {world.address(host, version)}", str(found))
        elif allowed(asker, host) and not world.address(host, version) and world.address(askers[asker], 10 - version):
            report.equal(f"{what}: who speaks both is told the host's own", "NOERROR", str(found))
        elif allowed(asker, host):
            report.equal(what, f"NOERROR {world.seen(host, version)}", str(found))
        else:
            denied = found.status == "NXDOMAIN" and not found.answers and bool(found.extended_error)
            report.that(what, denied, "NXDOMAIN with an extended error, no address", found)


def check_false_sources(world, report, frm, to, lies):
    """Sources that are not the realm's: nothing arrives, everything is counted."""
    before = world.ixgate.drops("source_not_in_realm")
    sent = 0
    for lie in map(ip_address, lies):
        with probe.spoofing_socket(world.host(frm), lie) as liar:
            for _ in range(5):
                liar.sendto(f"spoofed {to} {lie}".encode(), (str(world.seen(to, lie.version)), PORT))
                sent += 1
    # A packet with the right source, sent last, tells when the others must have been judged.
    last = probe.try_udp(world.host(frm), world.address(frm), world.seen(to), PORT, f"{frm} {to} last")
    report.equal(f"from {frm}: the true source still passes", f"{to} {frm} {to} last", last)
    report.equal("arrivals from false sources", [], world.responders.arrived(frm="spoofed"))
    counted = world.ixgate.drops("source_not_in_realm") - before
    report.that("counted as source_not_in_realm", counted >= sent, f"at least {sent}", counted)
