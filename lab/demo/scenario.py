"""The demonstration: three networks with the same addresses talk by name, and only as agreed."""

import sys
import time

from lab.lib import probe
from lab.lib.plan import Grant, Host, Realm, Scenario, Service, fqdn
from lab.lib.probe import SILENCE

WEB_PORT, ADMIN_PORT = 80, 8022
PAGE = "Hello from the picture archive of hospital-b."
NAME = fqdn("pacs.hospital-b")

SCENARIO = Scenario(
    realms=[
        Realm("region-a", ["192.168.1.0/24"], [Host("pc", ["192.168.1.10/24"])]),
        Realm("hospital-b", [{"prefix": "192.168.1.0/24", "alias": "100.64.2.0/24"}],
              [Host("pc", ["192.168.1.10/24"]), Host("pacs", ["192.168.1.20/24"])]),
        # It uses the very addresses by which others see hospital-b, so it is given others for it.
        Realm("clinic-c", ["192.168.1.0/24", "100.64.2.0/24"],
              [Host("pc", ["192.168.1.10/24"]), Host("box", ["100.64.2.20/24"])]),
    ],
    services=[Service("pictures", "pacs.hospital-b", [f"tcp/{WEB_PORT}"])],
    grants=[Grant(["region-a", "clinic-c"], ["pictures"])],
)

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
    tell_addresses(world)
    tell_names(world)
    tell_page(world)
    tell_closed(world)


def print_result(report):
    story.print()
    passed, failed, skipped = report.totals()
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped", flush=True)


def serve(world):
    """A page to fetch, and a second service that nobody was granted."""
    for port, folder in ((WEB_PORT, "www"), (ADMIN_PORT, "admin")):
        (world.directory / folder).mkdir()
        (world.directory / folder / "index.html").write_text(PAGE + "\n", encoding="ascii")
        world.spawn("pacs.hospital-b", [sys.executable, "-m", "http.server", "--bind", "192.168.1.20",
                                        "--directory", world.directory / folder, port], folder)
    for port in (WEB_PORT, ADMIN_PORT):
        for _ in range(50):
            try:
                probe.fetch(world.host("pacs.hospital-b"), "192.168.1.20", port, "/", timeout=5)
                break
            except OSError:
                time.sleep(0.1)


def tell_addresses(world):
    for label in ("pc.region-a", "pc.hospital-b", "pc.clinic-c"):
        words = world.host(label).run(["ip", "-4", "-o", "addr", "show", "dev", "eth0"]).stdout.split()
        address = words[3] if len(words) > 3 else "none"
        story.tell(label.partition(".")[2], "the address of its own pc", "192.168.1.10/24", address)


def tell_names(world):
    seen = {}
    for asker in ("hospital-b", "region-a", "clinic-c"):
        found = probe.dig(world.host(f"pc.{asker}"), world.ixgate.resolver(), NAME)
        seen[asker] = found.answers[0] if found.answers else str(found)
    story.tell("hospital-b", f"look up {NAME}", "192.168.1.20", seen["hospital-b"])
    story.tell("region-a", "look up the same name", "100.64.2.20", seen["region-a"])
    third = seen["clinic-c"] not in (seen["region-a"], seen["hospital-b"]) and seen["clinic-c"].startswith("100.")
    story.tell("clinic-c", "look up the same name", "a third address", "a third address" if third else seen["clinic-c"],
               shown=seen["clinic-c"])


def tell_page(world):
    for asker in ("region-a", "clinic-c"):
        label = f"pc.{asker}"
        argv = world.with_names(label, ["python3", "-c", FETCH, f"http://{NAME}/"])
        got = (world.host(label).run(argv, timeout=20).stdout.strip().splitlines() or ["nothing"])[-1]
        story.tell(asker, f"fetch http://{NAME}/", PAGE, got, shown=f'"{got}"')


def tell_closed(world):
    def tcp(frm, to, port):
        return probe.try_tcp(world.host(frm), world.address(frm), world.seen(to), port, "GET / HTTP/1.0\r\n\r\n")

    story.tell("region-a", f"another port of the same machine ({ADMIN_PORT})", SILENCE,
               tcp("pc.region-a", "pacs.hospital-b", ADMIN_PORT), shown="closed: no answer")
    denied = probe.dig(world.host("pc.region-a"), world.ixgate.resolver(), fqdn("pc.clinic-c"))
    answer = f"{denied.status} {denied.extended_error[:6]}"
    story.tell("region-a", f"look up {fqdn('pc.clinic-c')}", "NXDOMAIN EDE 18", answer,
               shown="no such name, for no grant lets it in")
    story.tell("hospital-b", "call back to region-a's pc", SILENCE, tcp("pc.hospital-b", "pc.region-a", 7000),
               shown="closed: no answer")
