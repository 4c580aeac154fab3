"""kill -9 and start again: same aliases and names, tunnels return by themselves, a transfer goes on."""

import socket
import threading
import time

from lab.lib import probe
from lab.lib.plan import Grant, Host, Realm, Scenario, fqdn
from lab.lib.responder import PORT

DRIP_PORT = 7100
DRIP_LINES = 400
DRIP_PAUSE_SECS = 0.05
# A gateway that calls notices by silence: 10 + 5 s by the WireGuard paper, and its random delay.
RETURN_LIMIT_SECS = {"ix": 10, "gateway": 30}


def realm(name, calls):
    return Realm(name, ["192.168.1.0/24"], [Host("pc", ["192.168.1.10/24"])], separate_hosts=False, calls=calls)


SCENARIO = Scenario(
    realms=[realm("region-a", "ix"), realm("hospital-b", "ix"), realm("clinic-c", "gateway")],
    grants=[Grant(["region-a", "clinic-c"], ["realm:hospital-b"], ["any"]),
            Grant(["hospital-b"], ["realm:region-a", "realm:clinic-c"], ["any"])],
)


def check(world, report):
    before = what_is_seen(world)
    transfer = Transfer(world, "pc.region-a", "pc.hospital-b")
    time.sleep(2)

    report.group("kill -9, start again")
    report.that("the transfer was under way", 0 < transfer.received < DRIP_LINES, "some lines", transfer.received)
    world.ixgate.kill()
    world.ixgate.start()
    check_return(world, report)
    check_same(world, report, before)

    report.group("a TCP transfer across the restart")
    transfer.thread.join(timeout=90)
    report.equal("every line arrived, in order", DRIP_LINES, transfer.received)

    report.group("SIGTERM, realms in another order, start again")
    report.equal("drained and ended with", 0, world.ixgate.terminate())
    world.sites.reverse()
    world.scenario.realms.reverse()
    world.ixgate.write_config(world.sites)
    world.ixgate.start()
    check_return(world, report)
    check_same(world, report, before)


def what_is_seen(world):
    """Aliases by `ixgate plan`, and what each asker is told."""
    world.ixgate.forget_plan()
    seen = {f"plan: {label}": str(world.seen(label)) for label in world.labels()}
    for asker in world.labels():
        for label in world.labels():
            answer = probe.dig(world.host(asker), world.ixgate.resolver(), fqdn(label))
            seen[f"{asker} asks {label}"] = str(answer)
    return dict(sorted(seen.items()))


def check_same(world, report, before):
    after = what_is_seen(world)
    for what, seen in before.items():
        report.equal(f"the same as before: {what}", seen, after[what])


def check_return(world, report):
    """Every realm tries until it gets through; nobody touches a gateway."""
    began = time.monotonic()

    def until_answered(frm, to):
        for attempt in range(200):
            text = f"{frm} {to} {attempt}"
            got = probe.try_udp(world.host(frm), world.address(frm), world.seen(to), PORT, text, 0.2, attempts=1)
            if got.startswith(to):
                return time.monotonic() - began
        return float("inf")

    pairs = [("pc.region-a", "pc.hospital-b"), ("pc.clinic-c", "pc.hospital-b")]
    for (frm, _), seconds in probe.all_at_once(until_answered, pairs):
        site = world.site(frm.partition(".")[2])
        limit = RETURN_LIMIT_SECS[site.realm.calls]
        report.that(f"{site.realm.name} passes data again", seconds <= limit, f"within {limit} s", f"{seconds:.1f} s")
        report.fact(f"{report.groups[-1].name}: {site.realm.name} (called by the {site.realm.calls}) back after", f"{seconds:.1f} s")


class Transfer:
    """A slow TCP transfer: one numbered line after another."""

    def __init__(self, world, client, server):
        self.received = 0
        with world.host(server).entered():
            listener = socket.create_server((str(world.address(server)), DRIP_PORT))
        threading.Thread(target=self._serve, args=[listener], daemon=True).start()
        with world.host(client).entered():
            connection = socket.create_connection((str(world.seen(server)), DRIP_PORT), timeout=5)
        connection.settimeout(60)
        self.thread = threading.Thread(target=self._receive, args=[connection], daemon=True)
        self.thread.start()

    def _serve(self, listener):
        connection, _ = listener.accept()
        with connection, listener:
            for number in range(DRIP_LINES):
                connection.sendall(f"{number}\n".encode())
                time.sleep(DRIP_PAUSE_SECS)

    def _receive(self, connection):
        try:
            with connection, connection.makefile() as lines:
                for line in lines:
                    if int(line) != self.received:
                        return
                    self.received += 1
        except OSError:
            return
