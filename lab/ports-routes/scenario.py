"""A carrier that announces its networks by BGP: BIRD beside the IX, BIRD at the carrier's edge, 100 prefixes that another realm has, too; IPv6 as allowed."""

import json
import time

from lab.lib import netns, probe
from lab.lib.bird import Bird
from lab.lib.plan import Grant, Host, Port, Realm, Scenario
from lab.lib.responder import PORT
from lab.lib.wait import wait_until

PREFIXES = [f"10.0.{number}.0/24" for number in range(100)]
HOSTILE = ["0.0.0.0/0", "172.16.0.0/12", "100.64.9.0/24", "127.1.0.0/16", "224.1.0.0/16"]
MAX_PREFIXES = 120
IX, EDGE = "172.20.0.2", "172.20.0.1"
IX_AS, CARRIER_AS = 64512, 64513
NAMESPACE, TUN = "bgp-x", "ix-x"
CARRIER = "carrier-x"
HOST = "10.0.7.10"  # the same address in both realms
ALLOWED6, INSIDE6, OUTSIDE6 = "fd0a::/32", "fd0a:0:7::/64", "fd0b:0:7::/64"
IX6, EDGE6, HOST6 = "2001:db8:9::2", "2001:db8:9::1", "fd0a:0:7::10"
FLAPS, FLAP_SECS = 10, 0.2
SESSION_SECS = 20
CHANGE_SECS = 6

SCENARIO = Scenario(
    realms=[
        Realm("hospital", ["10.0.0.0/16", "fd00:b::/64"], [Host("pc", [f"{HOST}/24", "fd00:b::10/64"])]),
        Realm(CARRIER, [], [Host("pc", [f"{HOST}/24", f"{HOST6}/64"], named=False)],
              ports=[Port([f"{IX}/30", f"{IX6}/64"], [EDGE, EDGE6], "eth1", 100)],
              routes_from={"namespace": NAMESPACE, "tun": TUN, "local": [IX, IX6], "peers": [EDGE, EDGE6], "max_prefixes": MAX_PREFIXES,
                           "allow": ["0.0.0.0/0", ALLOWED6]}),
    ],
    grants=[Grant(["hospital"], [f"realm:{CARRIER}"], ["icmp", f"tcp/{PORT}"]), Grant([CARRIER], ["realm:hospital"], ["icmp"])],
)


def speaker(owns, own_as, peers, peer_as, more):
    """A session for each IP version."""
    sessions = "".join(
        f"protocol bgp peer{version} {{ local {own} as {own_as}; neighbor {peer} as {peer_as}; direct; hold time 9; connect retry time 1; "
        f"error wait time 1, 2; connect delay time 1; ipv{version} {{ import all; export all; next hop self; }}; }}\n"
        for version, own, peer in zip((4, 6), owns, peers))
    return f"router id {owns[0]}; protocol device {{ scan time 1; }}\n{sessions}{more}\n"


def announcing(prefixes, six=()):
    static = "\n".join(f"protocol static {{ ipv{version}; {' '.join(f'route {prefix} blackhole;' for prefix in of)} }}"
                       for version, of in ((4, prefixes), (6, six)))
    return speaker((EDGE, EDGE6), CARRIER_AS, (IX, IX6), IX_AS, static)


def prepare(world):
    """The daemon's namespace is the operator's to make, with the device in it."""
    world.bgp = netns.Namespace(NAMESPACE)
    world.bgp.ip(f"tuntap add dev {TUN} mode tun vnet_hdr", f"address add {IX}/30 dev {TUN}", f"address add {IX6}/64 dev {TUN} nodad", f"link set {TUN} up")


def start_ours(world, name):
    kernel = "\n".join(f"protocol kernel {{ scan time 5; ipv{version} {{ import none; export all; }}; }}" for version in (4, 6))
    return Bird(world.bgp, world.directory, speaker((IX, IX6), IX_AS, (EDGE, EDGE6), CARRIER_AS, kernel), name)


def announce(world, prefixes, six=()):
    log = world.edge.config.read_text(encoding="utf-8").splitlines()[0]
    world.edge.config.write_text(f"{log}\n{announcing(prefixes, six)}", encoding="utf-8")
    world.edge.ask("configure")


def learned(world):
    realm = next(realm for realm in world.ixgate.status()["realms"] if realm["name"] == CARRIER)
    return realm["routes"]


def aliases(world):
    return {prefix["prefix"]: prefix["alias"] for prefix in learned(world)["prefixes"]}


def wait_for(world, report, what, count, timeout=CHANGE_SECS):
    took = wait_until(lambda: len(aliases(world)) == count, timeout)
    report.that(what, took is not None, f"{count} prefixes within {timeout} s", json.dumps(learned(world))[:2000])
    return aliases(world)


def seen(alias):
    """How the others see the carrier's host by its network's alias."""
    return alias.partition("/")[0].rpartition(".")[0] + "." + HOST.rpartition(".")[2]


def reaches(world, alias):
    return probe.ping_answered(probe.ping(world.host("pc.hospital"), seen(alias)))


def check(world, report):
    world.edge = Bird(world.site(CARRIER).gateway, world.directory, announcing(PREFIXES), "edge")
    world.ours = start_ours(world, "ours")
    given = check_learning(world, report)
    if len(given) != len(PREFIXES):
        return
    check_withdrawal(world, report, given)
    check_hostile(world, report, given)
    check_bound(world, report, given)
    check_six(world, report, given)
    check_daemon_gone(world, report, given)
    check_restart(world, report, given)
    report.group("the account")
    report.equal("in = out + drops", True, world.ixgate.balanced())
    report.equal("drains and ends with 0 on SIGTERM", 0, world.ixgate.terminate())


def check_learning(world, report):
    report.group("100 prefixes that another realm has, too")
    given = wait_for(world, report, "the session comes up, and all are learned", len(PREFIXES), SESSION_SECS)
    report.equal("each has an alias of its own", len(PREFIXES), len(set(given.values()) - {None}))
    network = given.get("10.0.7.0/24")
    if network is None:
        report.that("BGP is up", False, "Established", world.ours.ask("show", "protocols", "all") + world.ixgate.log_tail(40))
        return given
    report.that("a host behind it answers under its alias", reaches(world, network), "answers", network)
    there = world.seen("pc.hospital")
    done = probe.ping(world.host(f"pc.{CARRIER}"), there)
    report.that("and reaches the same address of the other realm", probe.ping_answered(done), "answers", done.stdout)
    return given


def check_withdrawal(world, report, given):
    report.group("withdrawn, and announced again")
    announce(world, PREFIXES[50:])
    wait_for(world, report, "50 are withdrawn", 50)
    report.equal("nobody is reached there any more", False, reaches(world, given["10.0.7.0/24"]))
    announce(world, PREFIXES)
    report.equal("they come back under the same aliases", given, wait_for(world, report, "all are back", len(PREFIXES)))
    report.that("and are reached again", reaches(world, given["10.0.7.0/24"]), "answers", given["10.0.7.0/24"])


def check_hostile(world, report, given):
    report.group("prefixes that no realm may have")
    announce(world, PREFIXES + HOSTILE)
    # BIRD itself takes no multicast or loopback prefix.
    took = wait_until(lambda: len(learned(world)["refused"]) >= 3, CHANGE_SECS)
    refused = {one["prefix"]: one["why"] for one in learned(world)["refused"]}
    report.that("each is refused by itself", took is not None and set(refused) <= set(HOSTILE), HOSTILE, refused)
    report.equal("the others stay", given, aliases(world))
    announce(world, PREFIXES)
    wait_until(lambda: not learned(world)["refused"], CHANGE_SECS)


def check_bound(world, report, given):
    report.group("more than agreed")
    announce(world, PREFIXES + [f"10.1.{number}.0/24" for number in range(50)])
    wait_for(world, report, f"{MAX_PREFIXES} are learned", MAX_PREFIXES)
    took = wait_until(lambda: learned(world)["passed_over"] > 0, CHANGE_SECS)
    report.that("the others are counted", took is not None, 30, learned(world)["passed_over"])
    report.equal("who was there first stays", given, {prefix: alias for prefix, alias in aliases(world).items() if prefix in given})
    announce(world, PREFIXES)
    wait_for(world, report, "back to the agreed ones", len(PREFIXES))


def check_six(world, report, given):
    """IPv6 prefixes are learned where `allow` says so, and seen as they are."""
    report.group("IPv6 prefixes, and flapping")
    six = lambda: {prefix for prefix in aliases(world) if ":" in prefix}
    refused = lambda: {one["prefix"]: one["why"] for one in learned(world)["refused"]}
    host = world.host("pc.hospital")
    announce(world, PREFIXES, [INSIDE6, OUTSIDE6])
    took = wait_until(lambda: six() == {INSIDE6} and refused(), SESSION_SECS)
    report.that("one is inside `allow` and learned", took is not None, INSIDE6, json.dumps(learned(world))[-2000:])
    report.equal("one is outside and refused, with the reason", {OUTSIDE6: "it lies in none of the prefixes of `allow`"}, refused())
    report.that("a host behind it answers under its own address", probe.ping_answered(probe.ping(host, HOST6)), "answers", HOST6)
    for number in range(2 * FLAPS):
        withdrawn = number % 2 == 0
        announce(world, PREFIXES[8:] if withdrawn else PREFIXES, [] if withdrawn else [INSIDE6])
        time.sleep(FLAP_SECS)
    took = wait_until(lambda: aliases(world) == {**given, INSIDE6: aliases(world).get(INSIDE6)}, CHANGE_SECS)
    report.that(f"after {FLAPS} flaps all are there, under the same aliases", took is not None, "as before", json.dumps(learned(world))[:2000])
    report.that("and are reached", probe.ping_answered(probe.ping(host, HOST6)) and reaches(world, given["10.0.7.0/24"]), "answers", HOST6)
    announce(world, PREFIXES)
    wait_for(world, report, "the IPv6 prefix is withdrawn", len(PREFIXES))
    report.equal("and nobody is reached there any more", False, probe.ping_answered(probe.ping(host, HOST6)))


def check_daemon_gone(world, report, given):
    report.group("the daemon ends")
    world.ours.process.terminate()
    world.ours.process.wait(timeout=10)
    wait_for(world, report, "its networks are withdrawn", 0)
    report.equal("nobody is reached there any more", False, reaches(world, given["10.0.7.0/24"]))
    world.ours = start_ours(world, "ours-again")
    report.equal("it comes back: the same aliases", given, wait_for(world, report, "learned again", len(PREFIXES), SESSION_SECS))


def check_restart(world, report, given):
    report.group("the appliance starts again")
    world.ixgate.kill()
    time.sleep(1)
    world.ixgate.start()
    report.equal("the same aliases", given, wait_for(world, report, "learned again", len(PREFIXES), 3 * SESSION_SECS))
    took = wait_until(lambda: reaches(world, given["10.0.7.0/24"]), SESSION_SECS)
    report.that("and the host answers", took is not None, "answers", given["10.0.7.0/24"])
