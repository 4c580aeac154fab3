"""A realm with two ports and an IPsec backup: links that fail, next hops that fall silent, and TCP that goes on; flows shared by weight; routers that announce themselves."""

import json
import time

from lab.lib import probe
from lab.lib.advertise import Advertiser
from lab.lib.bird import Bird, bfd_routes
from lab.lib.plan import Grant, Host, Ipsec, Port, Realm, Scenario
from lab.lib.report import progress
from lab.lib.responder import PORT
from lab.lib.site import REMOTE4
from lab.lib.streams import TcpDrip, UdpStream
from lab.lib.wait import wait_until

INTERVAL_MS, MULTIPLIER = 100, 3
SILENT = "no_next_hop"
DETECTION_SECS = INTERVAL_MS * MULTIPLIER / 1000
PROBE_MS = 200
PROBE_DETECTION_SECS = PROBE_MS * MULTIPLIER / 1000
LINK_LOSS_LIMIT_SECS = 1.0
RETURN_LIMIT_SECS = 10
FLAPS = 10
DRIP_LINES, DRIP_PAUSE_SECS, DRIP_PORT = 4000, 0.005, 7100
SHARED_FLOWS, LASTING_FLOWS = 400, 24
WEIGHTS = {"eth1-200": 3, "eth2-200": 1, "ipsec0": 2}
ROUTER_LIFETIME_SECS = 4
BEHIND_BIRD = {"routing_table_prio": 40000}  # strongSwan's routes come last

BFD = {"interval_ms": INTERVAL_MS, "multiplier": MULTIPLIER}
PROBES = {"liveness_ms": PROBE_MS, "liveness_multiplier": MULTIPLIER}


def port(interface, vlan, number, **options):
    return Port([f"172.20.{number}.2/30", f"2001:db8:{number}::2/64"], [f"172.20.{number}.1", f"2001:db8:{number}::1"], interface, vlan, **options)


def realm(name, six, **options):
    return Realm(name, ["192.168.1.0/24", f"fd00:{six}::/64"], [Host("pc", ["192.168.1.10/24", f"fd00:{six}::10/64"])], **options)


SCENARIO = Scenario(
    realms=[
        realm("clinic", "a"),
        # Either side of BFD begins: the IX on the first port, the carrier on the second.
        realm("hospital", "b", ipsec=Ipsec(daemon=BEHIND_BIRD), priority=3, ports=[
            port("eth1", 100, 1, priority=1, more={"bfd": {"mode": "active", **BFD}}),
            port("eth2", 100, 2, priority=2, more={"bfd": {"mode": "passive", **BFD}}),
        ]),
        # Two ports and a tunnel, equal; the ports watched by ARP and neighbour solicitations.
        realm("archive", "c", ipsec=Ipsec(daemon=BEHIND_BIRD), priority=1, weight=WEIGHTS["ipsec0"], ports=[
            port("eth1", 200, 3, priority=1, weight=WEIGHTS["eth1-200"], more=PROBES),
            port("eth2", 200, 4, priority=1, weight=WEIGHTS["eth2-200"], more=PROBES),
        ]),
        Realm("announced", ["fd00:d::/64"], [Host("pc", ["fd00:d::10/64"])], ports=[
            Port(["2001:db8:5::2/64"], ["2001:db8:5::1"], "eth2", 300, accept_ra=True, more=PROBES)]),
    ],
    grants=[Grant(["clinic"], ["realm:hospital", "realm:archive", "realm:announced"], ["icmp", f"tcp/{DRIP_PORT}", f"udp/{PORT}"])],
)
WAYS = {"hospital": ["eth1-100", "eth2-100", "ipsec0"], "archive": list(WEIGHTS)}


def prepare(world):
    """The hospital's gateway is on its own: BIRD follows BFD, and where no port is left, there is IPsec."""
    gateway = world.site("hospital").gateway
    ports = world.site("hospital").realm.ports
    hops = {version: [port.address[at].partition("/")[0] for port in ports] for at, version in enumerate((4, 6))}
    # The archive's answers go by its second port, whatever happens to the others: that is its own routing.
    world.site("archive").gateway.ip(f"route add {REMOTE4} via 172.20.4.2", "route add fc00::/7 via 2001:db8:4::2")
    world.advertiser = Advertiser(world.site("announced").gateway, "eth2-300", ROUTER_LIFETIME_SECS)
    world.bird = Bird(gateway, world.directory, bfd_routes("172.20.1.1", hops, INTERVAL_MS, MULTIPLIER, passive="eth1*"))


def check(world, report):
    for name, ways in WAYS.items():
        count_arrivals(world.site(name).gateway, ways)
    check_start(world, report)
    check_hospital(world, report)
    check_shares(world, report)
    check_lasting_flows(world, report)
    check_announced(world, report)
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
        ("the first port loses its link", first.cut, "eth2-100", {"eth1-100": "no_link"}, LINK_LOSS_LIMIT_SECS),
        ("the link is back", first.mend, "eth1-100", {}, LINK_LOSS_LIMIT_SECS),
        ("the first next hop falls silent, its link stays", lambda: fall_silent(gateway, "eth1-100"), "eth2-100", {"eth1-100": SILENT}, silent),
        ("the second next hop, too", lambda: fall_silent(gateway, "eth2-100"), "ipsec0", {"eth1-100": SILENT, "eth2-100": SILENT}, silent),
        ("the second next hop speaks again", lambda: speak(gateway, "eth2-100"), "eth2-100", {"eth1-100": SILENT}, silent),
        ("the first next hop speaks again", lambda: speak(gateway, "eth1-100"), "eth1-100", {}, silent),
        (f"the link flaps {FLAPS} times", lambda: flap(first), "eth1-100", {}, LINK_LOSS_LIMIT_SECS),
    ]
    for what, happen, way, down, limit in steps:
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
        check_status(world, report, "hospital", way, down)
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
    shares = {way: count / max(sum(came.values()), 1) for way, count in came.items()}
    wanted = {way: weight / sum(WEIGHTS.values()) for way, weight in WEIGHTS.items()}
    right = all(abs(shares[way] - wanted[way]) < 0.1 for way in WEIGHTS)
    report.that("two ports and a tunnel: shares are those of the weights", right, wanted, came)
    report.fact("flows by attachment", came)
    for way, tunnel in attachments(world, "archive").items():
        report.that(f"status: {way} carries its share", tunnel["role"].startswith(f"carries {WEIGHTS[way]} of 6 shares of the flows"),
                    f"{WEIGHTS[way]} of 6", tunnel["role"])


def check_lasting_flows(world, report):
    """Each goes by one attachment. When that goes its flows move, no others; when it returns they do."""
    site = world.site("archive")
    streams = [UdpStream(world, "pc.clinic", "pc.archive", per_sec=30) for _ in range(LASTING_FLOWS)]
    report.group("archive: flows of equal attachments")
    home = flows(site.gateway)
    report.equal("each by one attachment", LASTING_FLOWS, sum(map(len, home.values())))
    report.that("both that will be lost have some", home["eth1-200"] and home["ipsec0"], "some", home)
    limit = 3 * PROBE_DETECTION_SECS
    lose_flows(world, report, home, "eth1-200", lambda: fall_silent(site.gateway, "eth1-200"), limit, streams)
    speak(site.gateway, "eth1-200")
    check_home(report, site.gateway, home)
    lose_flows(world, report, home, "ipsec0", lambda: hang_up(site), limit, streams)
    speak(site.gateway, "outer")
    check_home(report, site.gateway, home)
    probe.all_at_once(UdpStream.stop, [(stream,) for stream in streams])


def lose_flows(world, report, home, lost, happen, limit, streams):
    report.group(f"archive: {lost} is lost")
    began = time.monotonic()
    happen()
    gateway = world.site("archive").gateway
    gone = wait_until(lambda: not flows(gateway)[lost], RETURN_LIMIT_SECS, pause=0)
    report.that("nothing comes by it", gone is not None, f"within {RETURN_LIMIT_SECS} s", flows(gateway))
    now = flows(gateway)
    report.equal("every flow goes on, by one attachment", sorted(set().union(*home.values())), sorted(sum(map(list, now.values()), [])))
    moved = {way: sorted(home[way] - now[way]) for way in home if way != lost}
    report.equal("of the others none has moved", {way: [] for way in moved}, moved)
    silences = [stream.longest_silence(began) for stream in streams]
    report.that("nobody waited for long", max(silences) < limit, f"less than {limit:.1f} s", [f"{s:.2f}" for s in silences])
    report.fact(f"{lost} is lost: longest silence", f"{max(silences) * 1000:.0f} ms (limit {limit * 1000:.0f} ms)")
    carrying = [way for way, tunnel in attachments(world, "archive").items() if tunnel["up"] and tunnel["carries"]]
    report.equal("status: the others carry", [way for way in WEIGHTS if way != lost], carrying)
    show_counters(world, "archive")


def check_home(report, gateway, home):
    took = wait_until(lambda: flows(gateway) == home, 2 * RETURN_LIMIT_SECS, pause=0)
    report.that("when it is back, every flow is where it was", took is not None, home, flows(gateway))


def hang_up(site):
    """The tunnel's end says farewell, and hears nobody who calls."""
    site.gateway.nft("; ".join(["add table netdev silent-outer",
                                'add chain netdev silent-outer in { type filter hook ingress device "outer" priority 0; policy drop; }']))
    site.swanctl("--terminate", "--ike", "ix", "--force", "--timeout", "1")


def check_announced(world, report):
    """A router that nobody configured: found by its advertisements, watched, and forgotten."""
    report.group("a router that announces itself")
    gateway = world.site("announced").gateway
    router = gateway.run(["ip", "-6", "-o", "address", "show", "dev", "eth2-300", "scope", "link"]).stdout.split()[3].partition("/")[0]

    def hops():
        return {hop["address"]: hop for hop in port_status(world, "announced")["next_hops"]}

    def is_used():
        return hops().get(router, {}).get("used", False)

    report.that("status shows it as used", is_used(), f"{router}, used", hops())
    watched = {key: hops()[router][key] for key in ("alive", "watched_by")} if router in hops() else None
    report.equal("and watched", {"alive": True, "watched_by": "probes"}, watched)
    check_ping6(world, report, "the realm is reached by it", True)
    fall_silent(gateway, "eth2-300")
    took = wait_until(lambda: router in hops() and not hops()[router]["alive"], ROUTER_LIFETIME_SECS, pause=0.05)
    limit = 3 * PROBE_DETECTION_SECS
    report.that("silent, it is dead long before its lifetime ends", took is not None and took < limit, f"within {limit:.1f} s", took)
    report.equal("status: why the port is down", SILENT, port_status(world, "announced")["down"])
    took = wait_until(lambda: router not in hops(), ROUTER_LIFETIME_SECS + 2, pause=0.1)
    report.that("at its end it is forgotten", took is not None, f"within {ROUTER_LIFETIME_SECS} s", hops())
    speak(gateway, "eth2-300")
    took = wait_until(is_used, RETURN_LIMIT_SECS, pause=0.1)
    report.that("announced again, it is used again", took is not None, f"within {RETURN_LIMIT_SECS} s", hops())
    check_ping6(world, report, "and the realm is reached", True)


def check_ping6(world, report, what, expected):
    done = probe.ping(world.host("pc.clinic"), world.seen("pc.announced", 6))
    report.equal(what, expected, probe.ping_answered(done))


def check_status(world, report, name, active, down):
    """`ixgate status --json`: what carries, what is down and why, what waits and for whom."""
    wanted = (active, down, sentences(attachments(world, name), active, down))

    def said():
        tunnels = attachments(world, name)
        carrying = ", ".join(way for way, tunnel in tunnels.items() if tunnel["up"] and tunnel["carries"])
        reasons = {way: tunnel["port"] and tunnel["port"]["down"] for way, tunnel in tunnels.items() if not tunnel["up"]}
        return carrying, reasons, {way: tunnel["role"] for way, tunnel in tunnels.items()}

    wait_until(lambda: said() == wanted, 2, pause=0.1)
    report.equal("status: active, down, standby, and why", wanted, said())


def sentences(tunnels, active, down):
    """What status has to say of each, put together once more."""
    named = {way: f"{tunnel['peer']} (priority {tunnel['priority']})" for way, tunnel in tunnels.items()}
    verb = "is" if len(down) == 1 else "are"
    why = f"{', '.join(named[way] for way in down)} {verb} down" if down else "none is preferred to it"
    role = {way: f"down: {named[active]} carries everything" if way in down else f"waits: {named[active]} is preferred and up" for way in tunnels}
    return {**role, active: f"carries everything: {why}"}


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


def flows(gateway):
    """Requests' source ports, by the interface that they come by in half a second."""
    rules = ["flush table inet flows"] if "table inet flows" in gateway.nft("list tables") else []
    rules += ["add table inet flows", "add chain inet flows in { type filter hook prerouting priority 0; }"]
    for way in WEIGHTS:
        rules += [f"add set inet flows {counter(way)} {{ type inet_service; size 4096; flags dynamic; }}", f"flush set inet flows {counter(way)}",
                  f'add rule inet flows in iifname "{way}" udp dport {PORT} add @{counter(way)} {{ udp sport }}']
    gateway.nft("; ".join(rules))
    time.sleep(0.5)
    said = json.loads(gateway.nft("list sets table inet flows", "-j"))
    sets = {entry["set"]["name"]: set(entry["set"].get("elem", [])) for entry in said["nftables"] if "set" in entry}
    return {way: sets[counter(way)] for way in WEIGHTS}


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


def port_status(world, name):
    """Of a realm with one port."""
    return next(realm for realm in world.ixgate.status()["realms"] if realm["name"] == name)["tunnels"][0]["port"]


def received(world, name):
    """Data packets, not keepalives."""
    return {way: tunnel["received"]["packets"] for way, tunnel in attachments(world, name).items()}


def show_counters(world, name):
    """By the appliance's own account, and by the gateway's."""
    for way, tunnel in attachments(world, name).items():
        shown = {key: tunnel[key] for key in ("up", "received", "sent")}
        if port := tunnel["port"]:
            hops = {hop["address"]: hop["bfd"] or ("alive" if hop["alive"] else "dead") for hop in port["next_hops"]}
            shown |= {"down": port["down"], "next_hops": hops, "switches": port["counts"]["switches"]}
        progress(f"    {way}: {json.dumps(shown)}")
    progress(f"    arrived: {arrivals(world.site(name).gateway)}")
