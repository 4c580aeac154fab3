"""WireGuard over paths that swallow long packets in silence: what real peers answer to the probes inside their tunnels."""

from lab.lib import probe
from lab.lib.plan import Grant, Host, Realm, Scenario
from lab.lib.wait import wait_until

PATH_MTU_BYTES = 1400
# Outside 20 of IP, 8 of UDP and 32 of WireGuard, which pads to 16.
INNER_BYTES = (PATH_MTU_BYTES - 60) // 16 * 16
CONFIGURED_BYTES = 1420
ICMP_OVER_IPV4_BYTES = 28
DEADLINE_SECS = 60


def realm(name, **options):
    return Realm(name, ["192.168.1.0/24"], [Host("pc", ["192.168.1.10/24"])], **options)


SCENARIO = Scenario(
    realms=[
        realm("wide-a"),
        realm("router-b"),
        Realm("host-c", ["192.168.1.10/32"], [Host("pc", ["192.168.1.10/32"])], separate_hosts=False, calls="gateway"),
        realm("silent-d"),
    ],
    grants=[Grant(["wide-a"], ["realm:router-b", "realm:host-c", "realm:silent-d"], ["any"])],
)
NARROW = ("router-b", "host-c", "silent-d")


def prepare(world):
    """Before anything speaks: on the way to three sites, what is too long is lost, or cut where it may be."""
    world.send_one_by_one()
    for name in NARROW:
        site = world.site(name)
        # The kernel cuts what goes without DF; the rest is sent whole, and does not arrive.
        world.ix.ip(f"route add {site.outer}/32 dev outer mtu {PATH_MTU_BYTES}")
        site.gateway.nft("add table inet path; "
                         "add chain inet path in { type filter hook prerouting priority -500; }; "
                         f'add rule inet path in iifname "outer" meta length > {PATH_MTU_BYTES} drop')
    world.site("silent-d").gateway.nft(
        "add chain inet path out { type filter hook output priority 0; }; add rule inet path out meta l4proto icmp drop")


def check(world, report):
    report.group(f"paths of {PATH_MTU_BYTES} bytes that say nothing")
    wait_until(lambda: not any(mtu["searching"] for mtu in world.ixgate.mtus().values()), DEADLINE_SECS, pause=0.5)
    known = world.ixgate.mtus()
    narrow = {"path_bytes": PATH_MTU_BYTES, "effective_bytes": INNER_BYTES, "source": "probe", "may_fragment": False}
    wide = {"path_bytes": 1480, "effective_bytes": CONFIGURED_BYTES, "source": "probe", "may_fragment": False}
    silent = {"path_bytes": None, "effective_bytes": CONFIGURED_BYTES, "source": "configured", "may_fragment": True}
    for name, what, expected in (("wide-a", "measured", wide), ("router-b", "measured by its time exceeded", narrow),
                                 ("host-c", "measured by its echo replies", narrow),
                                 ("silent-d", "unknown: it answers nothing", silent)):
        report.equal(f"{name}: {what}", expected, {key: known[name][key] for key in expected})
    pc = world.host("pc.wide-a")
    for name in NARROW:
        longest = known[name]["effective_bytes"]
        answered = {length: ping(pc, world.seen(f"pc.{name}"), length) for length in (longest, longest + 1)}
        report.equal(f"{name}: {longest} bytes pass with DF, and one more is refused",
                     {longest: True, longest + 1: False}, answered)
    report.equal("in = out + drops", True, world.ixgate.balanced())


def ping(namespace, target, length):
    done = probe.ping(namespace, target, "-M", "do", "-s", str(length - ICMP_OVER_IPV4_BYTES), count=1)
    return probe.ping_answered(done)
