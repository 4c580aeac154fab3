"""A 200 MB file between two overlapping realms, intact: over a clean path, then with 1 % loss and reordering."""

import json
import signal

from lab.lib import probe
from lab.lib.files import serve, write_random
from lab.lib.plan import Grant, Host, Realm, Scenario, Service
from lab.lib.report import progress

FILE_BYTES = 200_000_000
HTTP_PORT = 8000
# Of every outer path (two) and direction (two). relay.py does it, from a seed.
IMPAIRMENT = ["--loss", "1", "--reorder", "1"]
LIMIT_SECS = 420


def realm(name):
    # The gateways call: then the IX knows only the path that they use, and no packet goes round the relay.
    return Realm(name, ["192.168.1.0/24"], [Host("pc", ["192.168.1.10/24"])], calls="gateway")


SCENARIO = Scenario(
    realms=[realm("region-a"), realm("hospital-b")],
    services=[Service("files", "pc.hospital-b", [f"tcp/{HTTP_PORT}"])],
    grants=[Grant(["region-a"], ["files"])],
)


def check(world, report):
    folder = world.directory / "www"
    folder.mkdir()
    expected = write_random(folder / "file", FILE_BYTES)
    serve(world, "pc.hospital-b", folder, HTTP_PORT)

    report.group("200 MB over a clean path")
    transfer(world, report, expected)

    report.group("200 MB with 1 % loss and 1 % reordered, each path and direction")
    for site in world.sites:
        site.start_relay(IMPAIRMENT, seed=site.number)
    for label in world.labels():
        answered = any(probe.ping_answered(probe.ping(world.host(label), world.ixgate.resolver())) for _ in range(5))
        report.that(f"{label} reaches the IX over the new path", answered, "an answer", answered)
    transfer(world, report, expected)
    for site in world.sites:
        check_relay(site, report)


def transfer(world, report, expected):
    progress("  fetching ...")
    try:
        got = probe.fetch(world.host("pc.region-a"), world.seen("pc.hospital-b"), HTTP_PORT, "/file",
                          timeout=60, limit=LIMIT_SECS, keep_body=False)
    except OSError as error:
        report.that("the file arrives", False, f"{FILE_BYTES} bytes", error)
        return
    report.equal("bytes", FILE_BYTES, got.length)
    report.equal("sha256", expected, got.sha256)
    report.fact(report.groups[-1].name, f"{got.seconds:.1f} s, {got.length / got.seconds / 1e6:.1f} MB/s")


def check_relay(site, report):
    """The path was as bad as was said."""
    site.relay.send_signal(signal.SIGTERM)
    site.relay.wait(timeout=5)
    counts = json.loads(site.log("relay").read_text(encoding="ascii").splitlines()[-1])
    for way, count in counts.items():
        total = sum(count.values())
        share = count["lost"] / max(total, 1)
        enough = total > 1000 and 0.007 < share < 0.02 and count["reordered"] > 0.007 * total
        report.that(f"{site.realm.name} {way}: lost and reordered", enough, "about 1 % each", count)
        report.fact(f"{site.realm.name} {way}", count)
