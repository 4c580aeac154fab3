"""Neighbours that mean harm: an address that somebody else takes, 100,000 made-up neighbours and 65,536 unknown addresses a second."""

import json
import re
import signal
import statistics
import struct
import socket
import sys
import time
from pathlib import Path

from lab.lib import netns, probe
from lab.lib import flood as flood_program
from lab.lib.dnsperf import cpu_seconds
from lab.lib.netns import Namespace
from lab.lib.plan import Grant, Host, Port, Realm, Scenario, Tags
from lab.lib.responder import PORT
from lab.lib.streams import PacedTcp, UdpStream
from lab.lib.wait import wait_until

MESSAGES_PER_SEC, UNKNOWN_PER_SEC = 100_000, 65_536
ROUNDS, ROUND_SECS = 3, 3
TCP_PORT = 7200
# Of what both ways carry at once when nobody floods: the floods cost their senders some of the same processors.
LOAD = 0.25
FULL_BYTES_PER_SEC, FULL_SECS = 2_000_000_000, 2
UDP_PER_SEC = 200
SHARE = 0.9
MEMORY_GROWTH_MB = 128
MAX_WAITING_PACKETS = 64  # of one port, for neighbours that are being looked for
# An address is tried again a minute after it was lost (RFC 5227 gives the choice), spread over 15 s.
RECOVERY_SECS = 90


def port(interface, vlan=None, shared=False):
    return Port(["172.20.0.2/30", "2001:db8:9::2/64"], ["172.20.0.1", "2001:db8:9::1"], interface, vlan, shared=shared,
                more={"liveness_ms": 200})


def realm(name, six, **options):
    return Realm(name, ["192.168.1.0/24", f"fd00:{six}::/64"], [Host("pc", ["192.168.1.10/24", f"fd00:{six}::10/64"])], **options)


# On the link itself, with room for 65,536 neighbours.
CAMPUS = {4: "10.50.0.1", 6: "fd00:c::1"}

SCENARIO = Scenario(
    realms=[
        realm("clinic", "a"),
        realm("hospital", "b", ports=[port("eth1")]),
        Realm("campus", ["10.50.0.0/16", "fd00:c::/64"], [Host("pc", ["10.50.0.10/16", "fd00:c::10/64"])],
              ports=[Port([f"{CAMPUS[4]}/16", f"{CAMPUS[6]}/64"], [], "eth2")]),
        realm("ward", "d", ports=[port("eth2", 100)]),  # another realm on the interface that is flooded
        realm("sender", "e", ports=[port("eth3")]),
        realm("victim", "f", ports=[port("eth4", shared=True)]),
    ],
    grants=[
        Grant(["clinic", "ward"], ["realm:hospital"], ["icmp", f"udp/{PORT}", f"tcp/{TCP_PORT}-{TCP_PORT + 2 * ROUNDS + 1}"]),
        Grant(["hospital"], ["realm:clinic", "realm:ward", "realm:campus", "realm:victim"], ["icmp", f"udp/{PORT}", f"tcp/{TCP_PORT}-{TCP_PORT + 2 * ROUNDS + 1}"]),
        Grant(["sender"], ["realm:campus"], [f"udp/{flood_program.PORT}"]),
    ],
)


# What is measured, and by which realms; the second goes to a VLAN of the interface that is flooded.
WAYS = {"clinic to hospital": ("pc.clinic", "pc.hospital"), "hospital to ward, on the flooded interface": ("pc.hospital", "pc.ward")}


def check(world, report):
    lost_at, intruder = check_duplicate(world, report)
    check_floods(world, report)
    check_recovery(world, report, lost_at, intruder)
    report.group("the account")
    report.equal("in = out + drops", True, world.ixgate.balanced())
    report.equal("drains and ends with 0 on SIGTERM", 0, world.ixgate.terminate())


def check_duplicate(world, report):
    """A second station takes the port's IPv4 address; the port gives way, and says so."""
    report.group("somebody else has our address")
    intruder = world.outsiders["intruder"] = Namespace("intruder")
    world.switch("eth4").join(Tags(), intruder, "wire")
    wait_until(lambda: probe.ping_answered(probe.ping(world.host("pc.hospital"), world.seen("pc.victim"))), 10)  # IPv4 is probed longer
    answers(world, report, "the realm is reached", "pc.victim", True)
    intruder.ip("addr add 172.20.0.2/30 dev wire")
    for _ in range(3):  # one is defended against (RFC 5227 section 2.4)
        announce(intruder, "wire", "172.20.0.2")
        time.sleep(0.3)
    mac = netns.mac(intruder, "wire")
    wanted = f"172.20.0.2, not used: {mac} has it, too"

    def told():
        return wanted in world.ixgate.failures("victim")

    wait_until(told, 5)
    report.that("status says so, and who it is", told(), wanted, world.ixgate.failures("victim"))
    lost_at = time.monotonic()
    done = probe.ping(world.site("victim").gateway, "172.20.0.2")
    known = world.site("victim").gateway.run(["ip", "neigh", "show", "172.20.0.2"]).stdout
    report.that("the address is the other's now", mac in known, mac, f"{known}{done.stdout}")
    intruder.ip("link set wire down")
    return lost_at, intruder


def check_recovery(world, report, lost_at, intruder):
    report.group("the other is gone")
    ours = netns.mac(world.ix, "eth4")

    def recovered():
        world.site("victim").gateway.run(["ip", "neigh", "flush", "dev", "eth4"])
        return probe.ping_answered(probe.ping(world.host("pc.hospital"), world.seen("pc.victim"), count=1))

    took = wait_until(recovered, RECOVERY_SECS, pause=1)
    report.that("the realm is reached again", took is not None, f"within {RECOVERY_SECS} s", world.ixgate.failures("victim"))
    report.fact("after the conflict", f"{time.monotonic() - lost_at:.0f} s")
    known = world.site("victim").gateway.run(["ip", "neigh", "show", "172.20.0.2"]).stdout
    report.that("the address is the port's", ours in known, ours, known)
    words = world.ixgate.failures("victim")
    report.that("status has no conflict any more", "not used" not in words, "every address in use", words)


def check_floods(world, report):
    """Quiet and flooded by turns, so that what else the machine does is in both."""
    report.group("floods")
    generators = start_generators(world)
    full = full_speed(world)
    for name in WAYS:
        report.fact(f"{name}: TCP as fast as it goes, both ways at once", f"{full[name] / 1e6:.0f} MB/s")
    before_kb = memory_kb(world)
    rates = {(name, flooded): [] for name in WAYS for flooded in (False, True)}
    lost = {False: 0, True: 0}
    asked = {False: 0, True: 0}
    busy = {False: [], True: []}
    peak_kb, ports = before_kb, []
    for number in range(2 * ROUNDS):
        flooded = number % 2 == 1
        # Each round has connections of its own: none is still waiting after the last flood.
        streams = {name: PacedTcp(world, frm, to, LOAD * full[name], TCP_PORT + number) for name, (frm, to) in WAYS.items()}
        signal_all(generators, signal.SIGUSR1 if flooded else signal.SIGUSR2)
        time.sleep(0.3)
        datagrams = UdpStream(world, "pc.clinic", "pc.hospital", UDP_PER_SEC)
        starts = {name: stream.received for name, stream in streams.items()}
        began, cpu_before = time.monotonic(), cpu_seconds(world.ixgate.process)
        time.sleep(ROUND_SECS)
        took = time.monotonic() - began
        busy[flooded].append((cpu_seconds(world.ixgate.process) - cpu_before) / took)
        for name, stream in streams.items():
            rates[name, flooded].append((stream.received - starts[name]) / took)
        if flooded:
            ports.append(campus_port(world))
        signal_all(generators, signal.SIGUSR2)
        lost[flooded] += len(datagrams.stop())
        asked[flooded] += len(datagrams.sent)
        peak_kb = max(peak_kb, memory_kb(world))
        for stream in streams.values():
            stream.stop()

    for name in WAYS:
        quiet, flooded = (statistics.median(rates[name, state]) for state in (False, True))
        report.that(f"{name}: TCP under the floods", flooded >= SHARE * quiet, f"{SHARE:.0%} of {quiet / 1e6:.1f} MB/s",
                    f"{flooded / 1e6:.1f} MB/s")
        report.fact(f"{name}: TCP quiet, flooded", f"{quiet / 1e6:.1f}, {flooded / 1e6:.1f} MB/s ({flooded / max(quiet, 1):.0%})")
    answered = {state: 1 - lost[state] / max(asked[state], 1) for state in lost}
    report.that("UDP requests answered under the floods", answered[True] >= SHARE * answered[False],
                f"{SHARE:.0%} of {answered[False]:.1%}", f"{answered[True]:.1%}")
    report.fact("UDP requests answered quiet, flooded", f"{answered[False]:.1%}, {answered[True]:.1%}")
    report.fact("ixgate's processor time quiet, flooded", ", ".join(f"{statistics.median(busy[state]):.0%}" for state in (False, True)) + " of one core")
    more_mb = (peak_kb - before_kb) // 1024
    report.that("memory is bounded", more_mb < MEMORY_GROWTH_MB, f"less than {MEMORY_GROWTH_MB} MB more", f"{more_mb} MB more")
    report.fact("memory (VmRSS) before, at most", f"{before_kb // 1024}, {peak_kb // 1024} MB")
    check_bounds(report, ports)
    check_generators(report, generators)
    answers(world, report, "the flooded link's own hosts are reached afterwards", "pc.campus", True)
    report.fact("drops", world.ixgate.all_drops())
    shown = ("neighbours", "neighbours_max", "waiting_packets", "counts")
    report.fact("the flooded port", json.dumps({key: campus_port(world)[key] for key in shown}))
    overflown = re.findall(r"^ixgate_socket_overflow_datagrams_total(.*)$", world.ixgate.metrics(), re.MULTILINE)
    report.fact("frames and datagrams that the kernel had to drop, by socket", " ".join(overflown))


def campus_port(world):
    """What status says of the flooded port."""
    campus = next(realm for realm in world.ixgate.status()["realms"] if realm["name"] == "campus")
    return campus["tunnels"][0]["port"]


def check_bounds(report, ports):
    """What the flooded port kept, while it was flooded."""
    kept = [(port["neighbours"], port["neighbours_max"]) for port in ports]
    report.that("neighbours are bounded", all(0 < known <= most for known, most in kept), "at most the second of each", kept)
    waiting = [port["waiting_packets"] for port in ports]
    report.that("packets that wait for one are bounded", max(waiting) <= MAX_WAITING_PACKETS, f"at most {MAX_WAITING_PACKETS}", waiting)
    report.fact("under the floods: neighbours of at most, packets that wait", f"{kept}, {waiting}")


def full_speed(world):
    """Bytes per second of each way, as fast as it goes, while the other does the same."""
    streams = {name: PacedTcp(world, frm, to, FULL_BYTES_PER_SEC, TCP_PORT + 2 * ROUNDS + 1) for name, (frm, to) in WAYS.items()}
    time.sleep(0.3)
    starts, began = {name: stream.received for name, stream in streams.items()}, time.monotonic()
    time.sleep(FULL_SECS)
    rates = {name: (stream.received - starts[name]) / (time.monotonic() - began) for name, stream in streams.items()}
    for stream in streams.values():
        stream.stop()
    time.sleep(0.3)
    return rates


def start_generators(world):
    """They stand in the carrier's switches, on the last cable: what they send costs this machine the least. Returns when all frames are
    made."""
    link, sender, mac = world.switch("eth2").namespace, world.switch("eth3").namespace, netns.mac(world.ix, "eth3")
    four, six = (world.ixgate.shown("campus", address, version) for version, address in ((4, "10.50.0.0"), (6, "fd00:c::")))
    half = MESSAGES_PER_SEC // 2
    wanted = {
        "ARP": (link, half, ["trunk", "arp", "--target", CAMPUS[4]]),
        "ND": (link, half, ["trunk", "nd", "--target", CAMPUS[6]]),
        "IPv4 destinations": (sender, UNKNOWN_PER_SEC // 2, ["trunk", "destinations", "--target", four, "--source", "192.168.1.10", "--mac", mac]),
        "IPv6 destinations": (sender, UNKNOWN_PER_SEC // 2, ["trunk", "destinations", "--target", six, "--source", "fd00:e::10", "--mac", mac]),
    }
    generators = {}
    for name, (namespace, rate, words) in wanted.items():
        log = world.directory / f"flood.{name.replace(' ', '-')}.log"
        argv = [sys.executable, "-B", Path(flood_program.__file__), *words, "--rate", rate]
        generators[name] = (namespace.spawn(argv, log), log, rate)
    for name, (_, log, _) in generators.items():
        if wait_until(lambda: '"ready"' in log.read_text(encoding="utf-8"), 30) is None:
            raise RuntimeError(f"the flood of {name} does not start: {log.read_text(encoding='utf-8')}")
    return generators


def signal_all(generators, number):
    for process, _, _ in generators.values():
        process.send_signal(number)


def check_generators(report, generators):
    """The floods were as hard as was said."""
    for name, (process, log, rate) in generators.items():
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=5)
        done = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
        report.fact(f"flood of {name}", f"{done['sent']} frames, {done['per_sec']} a second (wanted {rate}), "
                    f"{done['cpu_secs'] / max(done['seconds'], 0.1):.0%} of one core")
        if done["per_sec"] >= 0.9 * rate:
            report.that(f"{name}: as many as was said", True, rate, done["per_sec"])
        else:
            report.skip(f"{name}: as many as was said", f"this machine sent {done['per_sec']} a second, not {rate}")


def answers(world, report, what, to, expected):
    done = probe.ping(world.host("pc.hospital"), world.seen(to))
    report.that(what, probe.ping_answered(done) == expected, "answers" if expected else "silence", done.stdout)


def announce(namespace, interface, address):
    """An ARP announcement (RFC 5227 section 2.3)."""
    with namespace.entered():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with sock:
        sock.bind((interface, 0))
        own, ip = sock.getsockname()[4], socket.inet_aton(address)
        sock.send(b"\xff" * 6 + own + struct.pack("!HHHBBH6s4s6s4s", 0x0806, 1, 0x0800, 6, 4, 1, own, ip, bytes(6), ip))


def memory_kb(world):
    """What ixgate has in memory."""
    return int(world.ixgate.process_status()["VmRSS"].split()[0])
