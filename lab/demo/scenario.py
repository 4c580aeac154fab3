"""The demonstration: three networks with the same addresses talk by name, and only as agreed."""

import re
import time
from ipaddress import ip_address

from lab.lib import files, probe
from lab.lib.plan import Grant, Host, Ipsec, Realm, Scenario, Service, fqdn
from lab.lib.probe import SILENCE
from lab.lib.responder import PORT as RESPONDER_PORT

WEB_PORT = 80
ADMIN_PORT = 8022  # served, and granted to nobody
PAGE = "Hello from the picture archive of hospital-b."
NAME = fqdn("pacs")
ARCHIVE, ARCHIVE_ALIAS = "192.168.1.20", "100.64.2.20"
FORGED_SOURCE = "10.9.9.9"
CLOSED = "closed: no answer"

# The same story as `ixgate demo-loopback` tells inside one process, there with WireGuard alone.
SCENARIO = Scenario(
    realms=[
        Realm("region-a", ["192.168.1.0/24"], [Host("pc", ["192.168.1.10/24"])]),
        Realm("hospital-b", [{"prefix": "192.168.1.0/24", "alias": "100.64.2.0/24"}],
              [Host("pc", ["192.168.1.10/24"]), Host("archive", [f"{ARCHIVE}/24"])], ipsec=Ipsec()),
        Realm("clinic-c", ["192.168.1.0/24"], [Host("pc", ["192.168.1.10/24"])]),
    ],
    services=[Service("pacs", "archive.hospital-b", [f"tcp/{WEB_PORT}"])],
    grants=[Grant(["region-a"], ["pacs"])],
)
REALMS = [r.name for r in SCENARIO.realms]

FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode().strip())"


class Story:
    """The result as a table that needs no explanation."""

    def __init__(self, report):
        self.report = report
        self.rows = []

    def tell(self, who, what, expected, got, shown=None):
        right = self.report.equal(f"{who}: {what}", expected, got)
        happened = shown if right and shown else str(got)
        self.rows.append((who, what, happened, "as agreed" if right else f"WRONG, expected: {expected}"))

    def print(self):
        head = ("in", "what is tried", "what happens", "")
        widths = [max(len(row[column]) for row in [head, *self.rows]) for column in range(3)]
        line = "  ".join("-" * width for width in widths)
        print("\nThree networks, all numbered 192.168.1.0/24, around one ixgate:\n")
        for row in [head, None, *self.rows]:
            print("  " + (line if row is None else "  ".join(f"{c:<{w}}" for c, w in zip(row, [*widths, 0])).rstrip()))


def check(world, report):
    global story
    report.group("demonstration")
    story = Story(report)
    serve(world)
    tell_tunnels(world)
    tell_addresses(world)
    tell_names(world)
    tell_page(world)
    tell_closed(world)
    forge_source(world)
    account_for(world)


def print_result(report):
    story.print()
    passed, failed, skipped = report.totals()
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped", flush=True)


def serve(world):
    """A page to fetch, and a second service that nobody was granted."""
    for port, folder in ((WEB_PORT, "www"), (ADMIN_PORT, "admin")):
        (world.directory / folder).mkdir()
        (world.directory / folder / "index.html").write_text(PAGE + "\n", encoding="ascii")
        files.serve(world, "archive.hospital-b", world.directory / folder, port)


def tell_tunnels(world):
    tunnels = {realm["name"]: realm["tunnels"] for realm in world.ixgate.status()["realms"]}
    for realm in REALMS:
        up = any(tunnel["up"] for tunnel in tunnels[realm])
        kind = "IPsec (strongSwan)" if world.site(realm).realm.ipsec else "WireGuard"
        story.tell(realm, f"the {kind} tunnel to the IX", "up", "up" if up else "down")


def tell_addresses(world):
    for realm in REALMS:
        words = world.host(f"pc.{realm}").run(["ip", "-4", "-o", "addr", "show", "dev", "eth0"]).stdout.split()
        story.tell(realm, "the address of its own pc", "192.168.1.10/24", words[3] if len(words) > 3 else "none")


def tell_names(world):
    story.tell("hospital-b", f"look up {NAME}", ARCHIVE, look_up(world, "hospital-b"))
    story.tell("region-a", "look up the same name", ARCHIVE_ALIAS, look_up(world, "region-a"))
    denied = "no such name: No grant lets realm clinic-c reach this name."
    story.tell("clinic-c", "look up the same name", denied, look_up(world, "clinic-c"))


def look_up(world, realm):
    """What the realm's pc is told: an address, or why there is none (the extended error of RFC 8914)."""
    found = probe.dig(world.host(f"pc.{realm}"), world.ixgate.resolver(), NAME)
    if found.answers:
        return found.answers[0]
    why = re.fullmatch(r"EDE 18 \(Prohibited\): \((.*)\)", found.extended_error)
    return f"no such name: {why[1]}" if found.status == "NXDOMAIN" and why else str(found)


def tell_page(world):
    """As a newcomer's browser would: by the system's own resolver."""
    done = world.host("pc.region-a").run(["python3", "-c", FETCH, f"http://{NAME}/"], timeout=20)
    got = (done.stdout.strip().splitlines() or ["nothing"])[-1]
    story.tell("region-a", f"fetch http://{NAME}/", PAGE, got)


def tell_closed(world):
    story.tell("region-a", f"another port of the same machine ({ADMIN_PORT})", CLOSED,
               get(world, "pc.region-a", ARCHIVE_ALIAS, ADMIN_PORT))
    story.tell("clinic-c", f"the page by its address ({ARCHIVE_ALIAS})", CLOSED,
               get(world, "pc.clinic-c", ARCHIVE_ALIAS, WEB_PORT))
    story.tell("hospital-b", "call back to region-a's pc", CLOSED,
               get(world, "pc.hospital-b", world.seen("pc.region-a"), RESPONDER_PORT))

    # Silence says that no answer came back; this says that no question came through.
    came = {port: requests(world, folder) for port, folder in ((WEB_PORT, "www"), (ADMIN_PORT, "admin"))}
    story.tell("hospital-b", "requests that reached the archive, by port", f"{WEB_PORT}: 1, {ADMIN_PORT}: 0",
               ", ".join(f"{port}: {count}" for port, count in came.items()))
    story.tell("region-a", "calls that reached its pc", "none", str(world.responders.arrived() or "none"))


def get(world, frm, to, port):
    got = probe.try_tcp(world.host(frm), world.address(frm), to, port, "GET / HTTP/1.0\r\n\r\n")
    return CLOSED if got == SILENCE else got


def requests(world, folder):
    """From elsewhere: the first one was the archive's own, to see that the server is there."""
    lines = (world.directory / f"archive.hospital-b.{folder}.log").read_text(encoding="utf-8").splitlines()
    return sum('"GET' in line and not line.startswith(ARCHIVE) for line in lines)


def forge_source(world):
    """One packet under an address that clinic-c does not have, and the IX's own account of it."""
    before = drops_of(world, "clinic-c", "source_not_in_realm")
    with probe.spoofing_socket(world.host("pc.clinic-c"), ip_address(FORGED_SOURCE)) as sock:
        sock.sendto(b"forged", (ARCHIVE_ALIAS, WEB_PORT))
    counted, deadline = 0, time.monotonic() + 3
    while not counted and time.monotonic() < deadline:
        time.sleep(0.05)
        counted = drops_of(world, "clinic-c", "source_not_in_realm") - before
    story.tell("clinic-c", f"a packet with a forged source ({FORGED_SOURCE})", "1", str(counted),
               shown=f"dropped; counted as source_not_in_realm: {counted}")


def account_for(world):
    refused = [drops_of(world, realm, "not_granted") for realm in REALMS]
    story.tell("the IX", "what all three tried without a grant", "counted",
               "counted" if all(refused) else f"counted in {dict(zip(REALMS, refused))}",
               shown=f"dropped; counted as not_granted: {sum(refused)}")
    story.tell("the IX", "the account of all packets", "balanced",
               "balanced" if world.ixgate.balanced() else "not balanced")


def drops_of(world, realm, reason):
    """Of packets that came from `realm`."""
    status = next(r for r in world.ixgate.status()["realms"] if r["name"] == realm)
    return sum(drop["count"] for drop in status["drops"] if drop["reason"] == reason)
