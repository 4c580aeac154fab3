"""A hundred rekeys of child and IKE SAs, begun by either side, under TCP and UDP: no byte and no packet lost."""

import time

from lab.lib.plan import Grant, Host, Ipsec, Realm, Scenario
from lab.lib.streams import TcpDrip, UdpStream
from lab.lib.wait import wait_until

CHILD_REKEYS, IKE_REKEYS = 100, 20
# ixgate rekeys after so many packets, while the gateway does not by itself.
OUR_PACKETS = 1000
OUR_REKEYS = 10
# Drops that nothing but a rekey could cause here.
REKEY_DROPS = ["data_unknown_session", "data_not_authentic", "data_replayed", "tunnel_down"]


def realm(name, **options):
    return Realm(name, ["192.168.1.0/24"], [Host("pc", ["192.168.1.10/24"])], **options)


SCENARIO = Scenario(
    realms=[
        realm("wireguard-a"),
        realm("hospital-b", ipsec=Ipsec()),
        realm("hospital-c", calls="gateway", ipsec=Ipsec(auth="ecdsa", esp="aes256gcm16")),  # without PFS
        realm("hospital-d", ipsec=Ipsec(ix={"child_lifetime_packets": OUR_PACKETS})),
        # A gateway that refuses a key exchange in the rekey of a child.
        realm("hospital-e", ipsec=Ipsec(esp="aes256gcm16", ix={"child_lifetime_packets": OUR_PACKETS})),
    ],
    grants=[Grant(["wireguard-a"], [f"realm:hospital-{x}" for x in "bcde"], ["any"]),
            Grant([f"hospital-{x}" for x in "bcde"], ["realm:wireguard-a"], ["any"])],
)


def check(world, report):
    before = world.ixgate.all_drops()
    for name in ("hospital-b", "hospital-c"):
        under_traffic(world, report, f"{CHILD_REKEYS} child rekeys begun by {name}", name,
                      lambda: rekey(world.site(name), "--child", "net", CHILD_REKEYS), CHILD_REKEYS)
        under_traffic(world, report, f"{IKE_REKEYS} IKE rekeys begun by {name}", name,
                      lambda: rekey(world.site(name), "--ike", "ix", IKE_REKEYS), IKE_REKEYS)
    for name in ("hospital-d", "hospital-e"):
        under_traffic(world, report, f"child rekeys with {name} begun by ixgate, every {OUR_PACKETS} packets", name,
                      lambda: until_rekeyed_by_ixgate(world.site(name), OUR_REKEYS), OUR_REKEYS)

    report.group("the account")
    drops = world.ixgate.all_drops()
    for reason in REKEY_DROPS:
        report.equal(f"dropped as {reason}", before.get(reason, 0), drops.get(reason, 0))
    report.equal("in = out + drops", True, world.ixgate.balanced())


def under_traffic(world, report, what, name, act, at_least):
    report.group(what)
    drip = TcpDrip(world, "pc.wireguard-a", f"pc.{name}", lines=100_000, pause=0.005, port=7100 + len(report.groups))
    stream = UdpStream(world, f"pc.{name}", "pc.wireguard-a", per_sec=200)
    time.sleep(0.5)
    began = time.monotonic()
    done = act()
    seconds = time.monotonic() - began
    had = drip.received
    flows = wait_until(lambda: drip.received > had + 50, 10)
    lost = stream.stop()
    report.that("rekeys", done >= at_least, f"at least {at_least}", done)
    report.that("the TCP transfer goes on, every line in order", drip.running() and flows is not None, "it does",
                f"{drip.received} lines, {'running' if drip.running() else 'ended'}")
    report.equal("UDP packets lost", [], lost)
    report.fact(what, f"{done} in {seconds:.1f} s, {len(stream.sent)} UDP packets, {drip.received} TCP lines, "
                      f"longest silence {stream.longest_silence() * 1000:.0f} ms")


def rekey(site, kind, name, count):
    """As fast as the gateway does it; the number that it says succeeded."""
    done = 0
    for _ in range(count):
        done += "rekey completed successfully" in site.swanctl("--rekey", kind, name, timeout=15)
        time.sleep(0.05)
    return done


def until_rekeyed_by_ixgate(site, count):
    """Rekeys that the gateway answered."""
    def rekeyed():
        return site.log_text().count("inbound CHILD_SA net{")
    start = rekeyed()
    wait_until(lambda: rekeyed() - start >= count, 240, pause=0.5)
    return rekeyed() - start
