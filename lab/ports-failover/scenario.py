"""A realm with two ports and an IPsec backup: links that fail, next hops that fall silent, and TCP that goes on; flows shared by weight."""

import json
import time

from lab.lib import probe
from lab.lib.bird import Bird, bfd_routes
from lab.lib.plan import Grant, Host, Ipsec, Port, Realm, Scenario
from lab.lib.report import progress
from lab.lib.responder import PORT
from lab.lib.site import REMOTE4
from lab.lib.streams import TcpDrip, UdpStream
from lab.lib.wait import wait_until

INTERVAL_MS, MULTIPLIER = 100, 3
DETECTION_SECS = INTERVAL_MS * MULTIPLIER / 1000
PROBE_MS = 200
PROBE_DETECTION_SECS = PROBE_MS * MULTIPLIER / 1000
LINK_LOSS_LIMIT_SECS = 1.0
RETURN_LIMIT_SECS = 10
FLAPS = 10
DRIP_LINES, DRIP_PAUSE_SECS, DRIP_PORT = 4000, 0.005, 7100
SHARED_FLOWS = 400
WEIGHTS = {"eth1-200": 3, "eth2-200": 1}

BFD = {"interval_ms": INTERVAL_MS, "multiplier": MULTIPLIER}
PROBES = {"liveness_ms": PROBE_MS, "liveness_multiplier": MULTIPLIER}


def port(interface, vlan, number, **options):
    return Port([f"172.20.{number}.2/30", f"2001:db8:{number}::2/64"], [f"172.20.{number}.1", f"2001:db8:{number}::1"], interface, vlan, **options)


def realm(name, six, **options):
    return Realm(name, ["192.168.1.0/24", f"fd00:{six}::/64"], [Host("pc", ["192.168.1.10/24", f"fd00:{six}::10/64"])], **options)


SCENARIO = Scenario(
    realms=[
        realm("clinic", "a"),
        # Either side of BFD begins: the IX on the first port, the carrier on the second. strongSwan's routes come last, behind BIRD's.
        realm("hospital", "b", ipsec=Ipsec(daemon={"routing_table_prio": 40000}), priority=3, ports=[
            port("eth1", 100, 1, priority=1, more={"bfd": {"mode": "active", **BFD}}),
            port("eth2", 100, 2, priority=2, more={"bfd": {"mode": "passive", **BFD}}),
        ]),
        # Equal ports, watched by ARP and neighbour solicitations.
        realm("archive", "c", ports=[
            port("eth1", 200, 3, priority=1, weight=WEIGHTS["eth1-200"], more=PROBES),
            port("eth2", 200, 4, priority=1, weight=WEIGHTS["eth2-200"], more=PROBES),
        ]),
    ],
    grants=[Grant(["clinic"], ["realm:hospital", "realm:archive"], ["icmp", f"tcp/{DRIP_PORT}", f"udp/{PORT}"])],
)
WAYS = {"hospital": ["eth1-100", "eth2-100", "ipsec0"], "archive": list(WEIGHTS)}


def prepare(world):
    """The hospital's gateway is on its own: BIRD follows BFD, and where no port is left, there is IPsec."""
    gateway = world.site("hospital").gateway
    ports = world.site("hospital").realm.ports
    hops = {version: [port.address[at].partition("/")[0] for port in ports] for at, version in enumerate((4, 6))}
    world.bird = Bird(gateway, world.directory, bfd_routes("172.20.1.1", hops, INTERVAL_MS, MULTIPLIER, passive="eth1*"))


def check(world, report):
    for name, ways in WAYS.items():
        count_arrivals(world.site(name).gateway, ways)
    check_start(world, report)
    check_hospital(world, report)
    check_shares(world, report)
    report.group("the account")
    report.equal("in = out + drops", True, world.ixgate.balanced())
    report.equal("drains and ends with 0 on SIGTERM", 0, world.ixgate.terminate())


def check_start(world, report):
    report.group("BFD with BIRD")
    took = wait_until(lambda: list(world.bird.sessions().values()) == ["Up"] * 4, 10)
    report.that("two ports, two IP versions: all sessions up, says BIRD", took is not None, "4 × Up", world.bird.ask("show", "bfd", "sessions"))
    report.that("its routes are the first port's", " via 172.20.1.2 " in routes(world), "100.64.0.0/10 via 172.20.1.2", routes(world))
    for version in (4, 6):
        done = probe.ping(world.host("pc.clinic"), world.seen("pc.hospital", version))
        report.that(f"the way is open, IPv{version}", probe.ping_answered(done), "answers", done.stdout)


def check_hospital(world, report):
    """One thing after another happens to a UDP stream and a TCP transfer."""
    drip = TcpDrip(world, "pc.clinic", "pc.hospital", DRIP_LINES, DRIP_PAUSE_SECS, DRIP_PORT)
    stream = UdpStream(world, "pc.clinic", "pc.hospital")
    time.sleep(0.5)
    gateway, first = world.site("hospital").gateway, world.switch("eth1")
    silent = 3 * DETECTION_SECS
    steps = [
        ("the first port loses its link", first.cut, "eth2-100", LINK_LOSS_LIMIT_SECS),
        ("the link is back", first.mend, "eth1-100", LINK_LOSS_LIMIT_SECS),
        ("the first next hop falls silent, its link stays", lambda: fall_silent(gateway, "eth1-100"), "eth2-100", silent),
        ("the second next hop, too", lambda: fall_silent(gateway, "eth2-100"), "ipsec0", silent),
        ("the second next hop speaks again", lambda: speak(gateway, "eth2-100"), "eth2-100", silent),
        ("the first next hop speaks again", lambda: speak(gateway, "eth1-100"), "eth1-100", silent),
        (f"the link flaps {FLAPS} times", lambda: flap(first), "eth1-100", LINK_LOSS_LIMIT_SECS),
    ]
    for what, happen, way, limit in steps:
        report.group(f"hospital: {what}")
        began = time.monotonic()
        happen()
        took = wait_until(lambda: carries_all(gateway, way), RETURN_LIMIT_SECS, pause=0.02)
        report.that(f"traffic comes by {way}", took is not None, f"within {RETURN_LIMIT_SECS} s", arrivals(gateway))
        settle()
        silence = stream.longest_silence(began)
        report.that("nobody waited for long", silence < limit, f"less than {limit:.1f} s", f"{silence:.2f} s")
        report.fact(f"{what}: longest silence", f"{silence * 1000:.0f} ms (limit {limit * 1000:.0f} ms)")
        before = received(world, "hospital")
        time.sleep(0.3)
        report.equal("answers come by it, too", [way], [name for name, count in received(world, "hospital").items() if count > before[name]])
        show_counters(world, "hospital")
    report.group("hospital: what came of the transfer")
    lost = stream.stop()
    report.fact("UDP requests lost, of all", f"{len(lost)} of {len(stream.sent)}")
    wait_until(lambda: not drip.running(), DRIP_LINES * DRIP_PAUSE_SECS + 30)
    report.equal("TCP: every line arrived, in order", DRIP_LINES, drip.received)


def check_shares(world, report):
    report.group("archive: flows by weight")
    gateway = world.site("archive").gateway
    text = "pc.clinic pc.archive shared"

    def attempt(number):
        return probe.try_udp(world.host("pc.clinic"), world.address("pc.clinic"), world.seen("pc.archive"), PORT, f"{text}{number}")

    before = arrivals(gateway)
    done = probe.all_at_once(attempt, [(number,) for number in range(SHARED_FLOWS)])
    answered = sum(got.endswith(f"shared{number}") for (number,), got in done)
    report.equal("flows answered", SHARED_FLOWS, answered)
    came = {way: count - before[way] for way, count in arrivals(gateway).items()}
    share = came["eth1-200"] / max(sum(came.values()), 1)
    wanted = WEIGHTS["eth1-200"] / sum(WEIGHTS.values())
    report.that("shares are those of the weights", abs(share - wanted) < 0.1, f"{wanted:.2f} by eth1-200", f"{share:.2f}: {came}")
    report.fact("flows by port", came)

    report.group("archive: one of two equal next hops falls silent")
    # Answers go by the second, whatever happens to the first: that is the site's own routing.
    gateway.ip(f"route replace {REMOTE4} via 172.20.4.2", "route replace fc00::/7 via 2001:db8:4::2")
    streams = [UdpStream(world, "pc.clinic", "pc.archive", per_sec=50) for _ in range(8)]
    time.sleep(1)
    began = time.monotonic()
    fall_silent(gateway, "eth1-200")
    time.sleep(4 * PROBE_DETECTION_SECS)
    silences = [stream.longest_silence(began) for stream in streams]
    limit = 3 * PROBE_DETECTION_SECS
    report.that("every flow goes on", max(silences) < limit, f"less than {limit:.1f} s", [f"{s:.2f}" for s in silences])
    report.that("some of them had been there", max(silences) > PROBE_DETECTION_SECS / 3, "a gap somewhere", silences)
    report.fact("silent next hop, watched by probes: longest silence", f"{max(silences) * 1000:.0f} ms (limit {limit * 1000:.0f} ms)")
    show_counters(world, "archive")
    speak(gateway, "eth1-200")
    took = wait_until(lambda: carries(gateway, "eth1-200"), RETURN_LIMIT_SECS)
    report.that("and back, when it speaks again", took is not None, f"within {RETURN_LIMIT_SECS} s", arrivals(gateway))
    for stream in streams:
        stream.stop()


def settle():
    """Long enough that a detection that is under way ends."""
    time.sleep(4 * DETECTION_SECS)


def flap(switch):
    for _ in range(FLAPS):
        switch.cut()
        time.sleep(0.1)
        switch.mend()
        time.sleep(0.1)


def fall_silent(gateway, interface):
    """Nothing comes in and nothing goes out, and the link stays up."""
    table = f"netdev silent-{interface}"
    gateway.nft("; ".join([f"add table {table}",
                           f'add chain {table} in {{ type filter hook ingress device "{interface}" priority 0; policy drop; }}',
                           f'add chain {table} out {{ type filter hook egress device "{interface}" priority 0; policy drop; }}']))


def speak(gateway, interface):
    gateway.nft(f"delete table netdev silent-{interface}")


def count_arrivals(gateway, ways):
    """Requests by the interface that they come by."""
    rules = ["add table inet ways", "add chain inet ways in { type filter hook prerouting priority 0; }"]
    for way in ways:
        rules += [f"add counter inet ways {counter(way)}", f'add rule inet ways in iifname "{way}" udp dport {PORT} counter name {counter(way)}']
    gateway.nft("; ".join(rules))


def arrivals(gateway):
    return {name.replace("_", "-"): count for name, count in gateway.nft_counters("inet ways").items()}


def carries(gateway, way):
    """Whether requests come by this interface now."""
    before = arrivals(gateway)[way]
    time.sleep(0.05)
    return arrivals(gateway)[way] > before


def carries_all(gateway, way):
    """Whether requests come by this interface now, and by no other."""
    before = arrivals(gateway)
    time.sleep(0.05)
    return {name for name, count in arrivals(gateway).items() if count > before[name]} == {way}


def counter(way):
    return way.replace("-", "_")


def routes(world):
    return world.site("hospital").gateway.run(["ip", "route"]).stdout


def attachments(world, name):
    """What `ixgate status --json` says of them, by the site's interface."""
    realm = next(realm for realm in world.ixgate.status()["realms"] if realm["name"] == name)
    return dict(zip(WAYS[name], realm["tunnels"]))


def received(world, name):
    """Data packets, not keepalives."""
    return {way: tunnel["received"]["packets"] for way, tunnel in attachments(world, name).items()}


def show_counters(world, name):
    """By the appliance's own account, and by the gateway's."""
    for way, tunnel in attachments(world, name).items():
        shown = {key: tunnel[key] for key in ("up", "received", "sent", "port") if tunnel.get(key) is not None}
        progress(f"    {way}: {json.dumps(shown)}")
    progress(f"    arrived: {arrivals(world.site(name).gateway)}")
