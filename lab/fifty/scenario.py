"""Fifty realms, all 192.168.1.0/24: every one of the 2,450 ordered pairs, false sources, zero crossings."""

import asyncio
import time
from ipaddress import ip_address

from lab.lib import dns, probe
from lab.lib.plan import Grant, Host, Realm, Scenario, fqdn
from lab.lib.probe import SILENCE
from lab.lib.responder import PORT

COUNT = 50
NUMBERS = range(1, COUNT + 1)
HOST_ADDRESS = "192.168.1.10/24"
AT_ONCE = 400  # exchanges under way at a time; most of them wait for what must not come
DENIED_WAIT_SECS = 2.0
# Lost before it reaches the IX (queues of fifty daemons on a small machine) is not the IX's account.
COUNTED_SHARE = 0.95


def name(number):
    return f"r{number:02}"


def granted(frm, to):
    """About half of the ordered pairs, and seldom both directions of one pair alike."""
    return frm != to and (3 * frm + 5 * to) % 8 < 4


SCENARIO = Scenario(
    realms=[
        Realm(name(n), ["192.168.1.0/24"], [Host("box", [HOST_ADDRESS])], separate_hosts=False,
              calls="ix" if n % 2 else "gateway")
        for n in NUMBERS
    ],
    grants=[
        Grant([name(n)], [f"realm:{name(to)}" for to in NUMBERS if granted(n, to)], [f"tcp/{PORT}", f"udp/{PORT}"])
        for n in NUMBERS
    ],
)
PAIRS = [(frm, to) for frm in NUMBERS for to in NUMBERS if frm != to]


def check(world, report):
    labels = {n: f"box.{name(n)}" for n in NUMBERS}
    aliases = {n: world.seen(labels[n]) for n in NUMBERS}

    report.group("every realm has an alias of its own")
    report.equal("different aliases", COUNT, len(set(aliases.values())))

    check_pairs(world, report, labels, aliases)
    check_names(world, report, labels, aliases)
    check_spoofing(world, report, labels, aliases)
    check_arrivals(world, report, labels, aliases)


def check_pairs(world, report, labels, aliases):
    """Both protocols of a pair are one check: 2,450 in all."""
    report.group(f"{len(PAIRS)} ordered pairs, UDP and TCP")
    answers = asyncio.run(try_all(world, labels, aliases))
    for pair in PAIRS:
        frm, to = pair
        if granted(frm, to):
            expected = tuple(f"{labels[to]} {request(labels, frm, to, protocol)}" for protocol in ("udp", "tcp"))
        else:
            expected = (SILENCE, SILENCE)
        report.equal(f"{labels[frm]} to {labels[to]} ({aliases[to]})", expected, answers[pair])
    report.fact("granted pairs", sum(granted(*pair) for pair in PAIRS))


async def try_all(world, labels, aliases):
    slots = asyncio.Semaphore(AT_ONCE)
    source = world.address(labels[1])

    async def attempt(frm, to):
        namespace, target = world.host(labels[frm]), (str(aliases[to]), PORT)
        async with slots:
            udp = probe.open_socket(namespace, source, probe.DATAGRAM)
            tcp = probe.open_socket(namespace, source, probe.STREAM)
            return await asyncio.gather(
                probe.udp_exchange(udp, target, request(labels, frm, to, "udp"), DENIED_WAIT_SECS, attempts=2),
                probe.tcp_exchange(tcp, target, request(labels, frm, to, "tcp"), DENIED_WAIT_SECS),
            )

    results = await asyncio.gather(*(attempt(frm, to) for frm, to in PAIRS))
    return {pair: tuple(result) for pair, result in zip(PAIRS, results)}


def request(labels, frm, to, protocol):
    return f"{labels[frm]} {labels[to]} {protocol}"


def check_names(world, report, labels, aliases):
    report.group(f"{len(PAIRS)} names, each asked by each realm")
    resolver = world.ixgate.resolver()

    def ask(frm, to):
        return dns.ask(world.host(labels[frm]), resolver, fqdn(labels[to]))

    for (frm, to), answer in probe.all_at_once(ask, PAIRS, workers=32):
        what = f"{name(frm)} asks {labels[to]}"
        if granted(frm, to):
            report.equal(what, f"NOERROR: {aliases[to]}", str(answer))
        else:
            report.that(what, answer is not None and answer.denied(), "NXDOMAIN with EDE, no address", answer)


def check_spoofing(world, report, labels, aliases):
    """From every realm to every other: a stranger's source, a neighbour's network, another realm's alias."""
    report.group("false sources")
    before = world.ixgate.drops("source_not_in_realm")
    sent = 0
    for frm in NUMBERS:
        other = frm % COUNT + 1
        for lie in (ip_address(f"10.66.0.{frm}"), ip_address("192.168.2.10"), aliases[other]):
            with probe.spoofing_socket(world.host(labels[frm]), lie) as liar:
                for to in NUMBERS:
                    if to != frm:
                        liar.sendto(f"spoofed {labels[to]} {lie}".encode(), (str(aliases[to]), PORT))
                        sent += 1
            time.sleep(0.005)  # the daemons' queues are short
    counted = wait_for_count(world, before, sent)
    report.that(f"{sent} sent, counted as source_not_in_realm", COUNTED_SHARE * sent <= counted <= sent,
                f"{COUNTED_SHARE:.0%} to 100 % of {sent}", counted)
    report.equal("arrivals from false sources", [], world.responders.arrived(frm="spoofed"))


def wait_for_count(world, before, sent):
    """The packets are under way for a moment; polls the counter until it stands still or is complete."""
    counted, last = world.ixgate.drops("source_not_in_realm") - before, -1
    while counted < sent and counted != last:
        time.sleep(0.5)
        last, counted = counted, world.ixgate.drops("source_not_in_realm") - before
    return counted


def check_arrivals(world, report, labels, aliases):
    """Everything that any responder got in the whole run: from whom it says, as the right alias, and by a grant."""
    report.group("arrivals: zero crossings")
    number_of = {label: n for n, label in labels.items()}
    crossings = []
    arrivals = world.responders.arrived()
    for arrival in arrivals:
        frm, to = number_of.get(arrival.sender()), number_of.get(arrival.addressee())
        right_place = arrival.who == arrival.addressee()
        if not (frm and to and right_place and granted(frm, to) and arrival.source == str(aliases[frm])):
            crossings.append(arrival)
    report.equal("crossings", [], crossings[:5])
    report.fact("arrivals examined", len(arrivals))
