"""NAT in the middle: two IPsec gateways behind one address, a third alone; the NAT gets another address under way."""

from lab.lib import probe
from lab.lib.plan import Grant, Host, Ipsec, Realm, Scenario
from lab.lib.responder import PORT
from lab.lib.streams import UdpStream
from lab.lib.wait import wait_until

RETURN_LIMIT_SECS = 15


def realm(name, nat, **ipsec):
    return Realm(name, ["192.168.1.0/24"], [Host("pc", ["192.168.1.10/24"])], calls="gateway",
                 ipsec=Ipsec(nat=nat, **ipsec))


SCENARIO = Scenario(
    realms=[
        Realm("wireguard-a", ["192.168.1.0/24"], [Host("pc", ["192.168.1.10/24"])]),
        realm("clinic-b", "shared"),
        realm("clinic-c", "shared", auth="ecdsa"),
        # The gateway does not force it: that there is a NAT must be enough.
        realm("clinic-d", "alone", connection={"encap": "no"}),
        # Without MOBIKE: the new address is learned from authentic packets alone.
        realm("clinic-e", "old", connection={"mobike": "no"}),
    ],
    grants=[Grant(["wireguard-a"], [f"realm:clinic-{x}" for x in "bcde"], ["any"]),
            Grant([f"clinic-{x}" for x in "bcde"], ["realm:wireguard-a"], ["any"])],
)
CLINICS = [r.name for r in SCENARIO.realms[1:]]


def check(world, report):
    report.group("behind NAT")
    for name in CLINICS:
        check_both_ways(world, report, name)
    sas = {name: world.site(name).sas() for name in CLINICS}
    for name in CLINICS:
        report.that(f"{name}: ESP in UDP", "TUNNEL-in-UDP" in sas[name], "TUNNEL-in-UDP", sas[name])

    report.group("the NAT gets another address and other ports")
    for nat, names in (("shared", ["clinic-b", "clinic-c"]), ("alone", ["clinic-d"]), ("old", ["clinic-e"])):
        streams = {name: UdpStream(world, f"pc.{name}", "pc.wireguard-a", per_sec=20) for name in names}
        for name in names:
            wait_until(lambda: len(streams[name].answered) > 10, 5)
        world.nat(nat).move()
        for name in names:
            had = len(streams[name].answered)
            back = wait_until(lambda: len(streams[name].answered) > had + 20, RETURN_LIMIT_SECS)
            report.that(f"{name} goes on", back is not None, f"within {RETURN_LIMIT_SECS} s", back)
            streams[name].stop()
            report.fact(f"{name}: longest silence", f"{streams[name].longest_silence():.2f} s")
            check_both_ways(world, report, name)
    report.equal("in = out + drops", True, world.ixgate.balanced())


def check_both_ways(world, report, name):
    for frm, to in ((f"pc.{name}", "pc.wireguard-a"), ("pc.wireguard-a", f"pc.{name}")):
        text = f"{frm} {to} nat"
        got = probe.try_tcp(world.host(frm), world.address(frm), world.seen(to), PORT, text, timeout=5)
        report.equal(f"{frm} to {to}", f"{to} {text}", got)
