"""IPsec: ixgate killed and started again; gateways killed and started again; all tunnels return by themselves."""

from lab.lib import probe
from lab.lib.plan import Grant, Host, Ipsec, Realm, Scenario
from lab.lib.responder import PORT
from lab.lib.wait import wait_until

RETURN_LIMIT_SECS = 30


def realm(name, **options):
    return Realm(name, ["192.168.1.0/24"], [Host("pc", ["192.168.1.10/24"])], **options)


SCENARIO = Scenario(
    realms=[
        realm("wireguard-a"),
        realm("hospital-b", ipsec=Ipsec(ix={"liveness_secs": 5})),
        realm("hospital-c", calls="gateway", ipsec=Ipsec()),
        realm("hospital-d", calls="gateway", ipsec=Ipsec(auth="ecdsa")),
    ],
    grants=[Grant(["wireguard-a"], [f"realm:hospital-{x}" for x in "bcd"], ["any"]),
            Grant([f"hospital-{x}" for x in "bcd"], ["realm:wireguard-a"], ["any"])],
)
PEERS = ["hospital-b", "hospital-c", "hospital-d"]


def check(world, report):
    report.group("at first")
    for name in PEERS:
        check_return(world, report, name)
    aliases = {label: str(world.seen(label)) for label in world.labels()}

    report.group("ixgate: kill -9, start again")
    world.ixgate.kill()
    world.ixgate.start()
    for name in PEERS:
        check_return(world, report, name)
    world.ixgate.forget_plan()
    report.equal("the same aliases", aliases, {label: str(world.seen(label)) for label in world.labels()})

    report.group("gateways: kill -9, start again")
    for name in PEERS:
        site = world.site(name)
        site.kill_daemon()
        site.start_daemon()
        site.configure()
        check_return(world, report, name)

    report.group("nothing is kept of what is gone")
    for name in PEERS:
        gone = wait_until(lambda: ike_sas(world, name) <= 1, 30, pause=0.5)
        report.that(f"{name} has one IKE SA", gone is not None, "one", ike_sas(world, name))

    report.group("SIGTERM says goodbye")
    report.equal("drained and ended with", 0, world.ixgate.terminate())
    gone = wait_until(lambda: "ESTABLISHED" not in world.site("hospital-b").sas(), 5)
    report.that("the gateway was told", gone is not None, "no IKE SA", world.site("hospital-b").sas())


def ike_sas(world, name):
    """IKE SAs that the gateway shows as established."""
    return world.site(name).sas().count("ESTABLISHED")


def check_return(world, report, name):
    def passes():
        frm, to = f"pc.{name}", "pc.wireguard-a"
        text = f"{frm} {to} again"
        got = probe.try_udp(world.host(frm), world.address(frm), world.seen(to), PORT, text, 0.5, attempts=1)
        return got.startswith(to)
    seconds = wait_until(passes, RETURN_LIMIT_SECS)
    report.that(f"{name} passes data", seconds is not None, f"within {RETURN_LIMIT_SECS} s", seconds)
    if seconds is not None:
        report.fact(f"{report.groups[-1].name}: {name} after", f"{seconds:.1f} s")
