"""One tunnel is flooded beyond what ixgate can carry: names, handshakes, rekeys and DPD of the others do not suffer."""

import json
import re
import signal
import socket
import struct
import sys
import time
from pathlib import Path

from lab.lib import dns, probe
from lab.lib import udp_flood
from lab.lib.plan import Grant, Host, Ipsec, Realm, Scenario
from lab.lib.responder import PORT
from lab.lib.site import IX_OUTER, IX_PORT
from lab.lib.streams import UdpStream
from lab.lib.wait import wait_until

QUESTIONS, QUESTIONS_PER_SEC = 250, 50
HANDSHAKES, REKEYS = 5, 5
# WireGuard sends an unanswered initiation again after 5 s: what was sooner, was answered at once.
HANDSHAKE_SECS = 3
# ixgate answers one peer no more often than every 20 ms, so that nobody makes it work with one recorded call after the other.
BETWEEN_HANDSHAKES_SECS = 0.2
# ixgate's lanes of data (src/io/udp/steer.rs).
LANES, MIX = 32, 0x9E3779B1


def realm(name, **options):
    return Realm(name, ["192.168.1.0/24"], [Host("pc", ["192.168.1.10/24"])], **options)


def lost(status):
    """At the gate, where there is one, or in a full queue."""
    gate = status["socket"]["gate"] or {"shed_datagrams": 0}
    return status["socket"]["overflow_datagrams"] + gate["shed_datagrams"]


SCENARIO = Scenario(
    realms=[realm("flooded", calls="gateway"), realm("clinic", calls="gateway"), realm("hospital", ipsec=Ipsec())],
    grants=[Grant(["flooded", "clinic"], ["realm:hospital"], ["any"]), Grant(["hospital"], ["realm:clinic"], ["any"])],
)


def check(world, report):
    report.group("before")
    index = separate(world)
    check_names(world, report)
    check_handshakes(world, report, "clinic")

    before = world.ixgate.status()
    flood = world.site("flooded").gateway.spawn(
        [sys.executable, "-B", udp_flood.__file__, IX_OUTER, IX_PORT, index, "--bytes", "256"], world.directory / "flood.log")
    try:
        during(world, report, before)
    finally:
        flood.send_signal(signal.SIGTERM)
        flood.wait(timeout=10)
    sent = json.loads((world.directory / "flood.log").read_text(encoding="utf-8"))
    report.fact("the flood, datagrams a second", sent["per_sec"])

    report.group("afterwards")
    report.equal("the flooded realm reaches the hospital", True, answered(world, "pc.flooded"))
    after = world.ixgate.status()
    report.fact("lost before they were read", lost(after) - lost(before))
    report.fact("of these at the gate", after["socket"]["gate"] and after["socket"]["gate"]["shed_datagrams"])
    report.fact("drops", world.ixgate.all_drops())
    report.equal("in = out + drops", True, world.ixgate.balanced())
    report.equal("drains and ends with 0 on SIGTERM", 0, world.ixgate.terminate())


def during(world, report, before):
    report.group("the flood")

    def so_far():
        return lost(world.ixgate.status()) - lost(before)

    wait_until(lambda: so_far() > 1_000, 15)
    report.that("it is more than ixgate can read", so_far() > 1_000, "more than 1,000 lost", so_far())
    report.group("names, while another tunnel is flooded")
    check_names(world, report)
    report.group("packets between others")
    check_packets(world, report)
    report.group("handshakes")
    check_handshakes(world, report, "clinic")
    report.group("rekeys and DPD of IPsec")
    check_ipsec(world, report)
    report.group("handshakes of the tunnel that is flooded")
    check_handshakes(world, report, "flooded")  # last: nobody knows the old index afterwards
    report.group("what the operator sees")
    check_operator(world, report, before)


def separate(world):
    """The receiver index of the flooded tunnel, when the two WireGuard tunnels are in different lanes."""
    for _ in range(20):
        indices = [index_of(world, name) for name in ("flooded", "clinic")]
        lanes = [(int.from_bytes(index.to_bytes(4, "little"), "big") * MIX & 0xFFFFFFFF) * LANES >> 32 for index in indices]
        if lanes[0] != lanes[1]:
            return indices[0]
        call_again(world, "clinic")
    raise RuntimeError("every handshake gave an index of the same lane")


def index_of(world, name):
    """What the gateway writes into its messages of data."""
    site = world.site(name)
    with site.gateway.entered():
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    with wire:
        wire.bind(("outer", 3))
        wire.settimeout(1)
        for _ in range(5):
            answered(world, f"pc.{name}")
            try:
                while True:
                    frame = wire.recv(4096)
                    if frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[30:34] == socket.inet_aton(IX_OUTER) \
                            and frame[36:38] == struct.pack("!H", IX_PORT) and frame[42:46] == b"\x04\0\0\0":
                        return int.from_bytes(frame[46:50], "little")
            except TimeoutError:
                continue
    raise RuntimeError(f"{name} sends no data")


def answered(world, label):
    words = f"{label} pc.hospital hello"
    said = probe.try_udp(world.host(label), world.address(label), world.seen("pc.hospital"), PORT, words)
    return said == f"pc.hospital {words}"


def check_names(world, report):
    """Each question once, at a steady pace."""
    with world.host("pc.clinic").entered():
        asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asked, answers = {}, {}
    with asker:
        asker.connect((str(world.ixgate.resolver()), 53))
        asker.settimeout(0.001)
        began = time.monotonic()
        while time.monotonic() < began + QUESTIONS / QUESTIONS_PER_SEC + 1:
            if len(asked) < min(QUESTIONS, (time.monotonic() - began) * QUESTIONS_PER_SEC):
                asked[len(asked)] = time.monotonic()
                asker.send(dns.question("pc.hospital.ix.example", identifier=len(asked) - 1))
            try:
                message = asker.recv(4096)
                number = int.from_bytes(message[:2], "big")
                if dns.parse(message).addresses:
                    answers[number] = time.monotonic() - asked[number]
            except (TimeoutError, BlockingIOError):
                continue
    report.equal("questions that were answered, each asked once", QUESTIONS, len(answers))
    times = sorted(answers.values()) or [float("inf")]
    report.fact(f"{report.groups[-1].name}: an answer takes", f"median {times[len(times) // 2] * 1000:.1f} ms, at most {times[-1] * 1000:.1f} ms")


def check_packets(world, report):
    stream = UdpStream(world, "pc.clinic", "pc.hospital", per_sec=100)
    time.sleep(5)
    lost = stream.stop()
    report.equal("packets lost between the clinic and the hospital", [], lost)
    report.fact("packets", f"{len(stream.sent)}, longest silence {stream.longest_silence() * 1000:.0f} ms")


def check_handshakes(world, report, name):
    done = sum(call_again(world, name) for _ in range(HANDSHAKES))
    report.equal(f"handshakes of {name} that were answered at once", HANDSHAKES, done)


def call_again(world, name):
    """The gateway forgets the IX and calls it again."""
    time.sleep(BETWEEN_HANDSHAKES_SECS)
    site = world.site(name)
    site.wg_set("peer", site.ix_key, "remove")
    site.configure(world.ixgate)
    site.gateway.ip(*(f"route replace {network} dev {site.device}" for network in site.remote_networks()))

    def is_up():
        said = site.gateway.run(["wg", "show", site.device, "latest-handshakes"]).stdout.split()
        return bool(said) and said[-1] != "0"

    return wait_until(is_up, HANDSHAKE_SECS, pause=0.05) is not None


def check_ipsec(world, report):
    site = world.site("hospital")
    repeated = site.log_text().count("retransmit ")
    done = 0
    for kind, name in [("--child", "net"), ("--ike", "ix")] * REKEYS:
        done += "rekey completed successfully" in site.swanctl("--rekey", kind, name, timeout=15)
        time.sleep(0.1)
    report.equal("rekeys that succeeded", 2 * REKEYS, done)
    time.sleep(5)  # DPD is every 2 s
    asked = len(re.findall(r"sending DPD request|INFORMATIONAL request", site.log_text()))
    report.that("DPD has asked", asked > 0, "at least once", asked)
    report.equal("requests of IKE that had to be sent again", 0, site.log_text().count("retransmit ") - repeated)
    report.equal("its child is up", 1, site.children())


def check_operator(world, report, before):
    began = time.monotonic()
    status = world.ixgate.status()
    took = time.monotonic() - began
    after, gate = status["socket"], status["socket"]["gate"]
    report.that("status is answered", took < 2, "within 2 s", f"{took:.2f} s")
    report.equal("handshakes and IKE lost before they were read", 0, after["overflow_control_datagrams"])
    # New handshakes have moved the clinic to other lanes; the flood is still for the old index.
    if gate:
        report.equal("handshakes and IKE shed at the gate", 0, gate["shed_control_datagrams"])
        report.equal("lanes of which the gate has shed something", 1, gate["lanes_shed"])
        report.that("no more than a few have come too far", after["overflow_datagrams"] * 10 < gate["shed_datagrams"],
            "less than a tenth of what was shed", after["overflow_datagrams"])
    else:
        report.equal("lanes that have lost something", 1, after["lanes_overflown"])
    metrics = Path(world.directory / "metrics.txt")
    metrics.write_text(world.ixgate.metrics(), encoding="utf-8")
    name = "ixgate_gate_shed" if gate else "ixgate_socket_overflow"
    sample = re.search(rf'^{name}_datagrams_total\{{queue="data"\}} (\d+)', metrics.read_text(encoding="utf-8"), re.MULTILINE)
    report.that("the metrics say how many", sample is not None and int(sample.group(1)) > 1_000, "more than 1,000", sample and sample.group(0))
