"""Several threads for the packet path: WireGuard and IPsec with one prefix, files in both directions, rekeyed under them."""

import itertools
import re

from lab.lib import probe
from lab.lib.files import serve, write_random
from lab.lib.plan import Grant, Host, Ipsec, Realm, Scenario
from lab.lib.responder import PORT

HTTP_PORT = 8000
FILE_BYTES = 60_000_000
REKEY_SECS = 4
THREADS = 3


def realm(name, letter, calls, ipsec=None):
    six = f"fd00:{letter}::"
    return Realm(name, ["192.168.1.0/24", f"{six}/64"], [Host("pc", ["192.168.1.10/24", f"{six}10/64"])],
                 calls=calls, ipsec=ipsec)


SCENARIO = Scenario(
    realms=[
        realm("wireguard-a", "a", "ix"),
        realm("wireguard-b", "b", "gateway"),
        realm("ipsec-c", "c", "gateway", Ipsec(child={"rekey_time": f"{REKEY_SECS}s"})),
        realm("ipsec-d", "d", "ix", Ipsec(esp="aes128gcm16-x25519")),
    ],
    grants=[Grant(["wireguard-a", "wireguard-b", "ipsec-c", "ipsec-d"],
                  ["realm:wireguard-a", "realm:wireguard-b", "realm:ipsec-c", "realm:ipsec-d"],
                  ["icmp", f"tcp/{PORT}", f"udp/{PORT}", f"tcp/{HTTP_PORT}"])],
    more=f"[workers]\nthreads = {THREADS}\n",
)
REALMS = [r.name for r in SCENARIO.realms]
# Every transport in and out, and both directions of one pair.
TRANSFERS = [("wireguard-a", "wireguard-b"), ("wireguard-b", "wireguard-a"), ("wireguard-a", "ipsec-c"),
             ("ipsec-c", "wireguard-a"), ("ipsec-d", "ipsec-c")]


def check(world, report):
    check_pairs(world, report)
    check_files(world, report)
    check_what_it_says(world, report)


def check_pairs(world, report):
    pairs = list(itertools.permutations(REALMS, 2))
    tries = {"tcp": probe.try_tcp, "udp": probe.try_udp}
    for version, protocol in itertools.product((4, 6), tries):
        report.group(f"{protocol.upper()} over IPv{version}, every ordered pair of realms")

        def attempt(frm, to):
            frm, to = f"pc.{frm}", f"pc.{to}"
            text = f"{frm} {to} {protocol}{version}"
            return tries[protocol](world.host(frm), world.address(frm, version), world.seen(to, version), PORT, text)

        for (frm, to), got in probe.all_at_once(attempt, pairs):
            report.equal(f"{frm} to {to}", f"pc.{to} pc.{frm} pc.{to} {protocol}{version}", got)


def check_files(world, report):
    report.group(f"{FILE_BYTES // 1_000_000} MB at once over every pair of transports, ipsec-c rekeying every {REKEY_SECS} s")
    folder = world.directory / "www"
    folder.mkdir()
    expected = write_random(folder / "file", FILE_BYTES)
    for name in REALMS:
        serve(world, f"pc.{name}", folder, HTTP_PORT)

    def fetch(frm, to):
        try:
            return probe.fetch(world.host(f"pc.{frm}"), world.seen(f"pc.{to}"), HTTP_PORT, "/file",
                               timeout=60, limit=300, keep_body=False)
        except OSError as error:
            return error

    for (frm, to), got in probe.all_at_once(fetch, TRANSFERS):
        report.equal(f"{frm} has the file of {to}", expected, getattr(got, "sha256", got))
        if not isinstance(got, OSError):
            report.fact(f"{to} to {frm}", f"{got.seconds:.1f} s")
    # strongSwan numbers its Child SAs one after another.
    sas = next(site.sas() for site in world.sites if site.realm.name == "ipsec-c")
    numbers = [int(number) for number in re.findall(r"#(\d+), reqid", sas)]
    report.that("ipsec-c has rekeyed meanwhile", max(numbers, default=0) > 2, "its third Child SA, at least", sas)


def check_what_it_says(world, report):
    report.group("status")
    status = world.ixgate.status()
    porters, total = status["socket"]["porters"], status["totals"]["datagrams_in"]
    report.equal("porters", THREADS - 1, porters["threads"])
    # What they do not open is what nobody has lent them yet; the rest is the first thread's own share of lanes.
    report.that("porters open packets", porters["opened_datagrams"] > total // 10, "a tenth of all, at least", porters)
    report.that("... nearly all that they get", porters["left_datagrams"] < porters["opened_datagrams"] // 4,
                "less than a quarter of that is left to the walk", porters)
    report.fact("opened by porters, left to the walk, all", f"{porters} of {total}")
    report.that("`status` says so", f"{THREADS}: the first decides" in world.ixgate.status_text(), f"threads {THREADS}",
                world.ixgate.status_text())
    names = sorted(thread["Name"] for thread in world.ixgate.thread_status())
    report.that("threads", sum(name.startswith("ixgate-port-") for name in names) == THREADS - 1, "two porters", names)
    report.equal("in = out + drops", True, world.ixgate.balanced())
    report.equal("drains and ends with 0 on SIGTERM", 0, world.ixgate.terminate())
