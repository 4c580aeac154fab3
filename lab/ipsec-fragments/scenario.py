"""Large certificates over a narrow path: IKE fragmentation (RFC 7383) where IP fragments and large packets are lost."""

from lab.lib import probe
from lab.lib.plan import Grant, Host, Ipsec, Realm, Scenario
from lab.lib.responder import PORT

PATH_MTU_BYTES = 1280


def realm(name, **options):
    return Realm(name, ["192.168.1.0/24"], [Host("pc", ["192.168.1.10/24"])], **options)


SCENARIO = Scenario(
    realms=[
        realm("wireguard-a"),
        realm("hospital-b", ipsec=Ipsec(auth="rsa4096", connection={"fragmentation": "yes"},
                                          daemon={"fragment_size": PATH_MTU_BYTES}),
              mtu_bytes=1280),
        realm("hospital-c", calls="gateway", mtu_bytes=1280,
              ipsec=Ipsec(auth="rsa4096", connection={"fragmentation": "force"}, daemon={"fragment_size": PATH_MTU_BYTES})),
    ],
    grants=[Grant(["wireguard-a"], ["realm:hospital-b", "realm:hospital-c"], ["any"]),
            Grant(["hospital-b", "hospital-c"], ["realm:wireguard-a"], ["any"])],
    ix_key="rsa4096",
)


def prepare(world):
    """Before anything speaks: fragments and packets over 1,280 bytes are lost on the way, silently and both ways."""
    rules = ("add table inet path; "
             "add chain inet path in { type filter hook prerouting priority -500; }; "
             f'add rule inet path in iifname "outer*" meta length > {PATH_MTU_BYTES} drop; '
             'add rule inet path in iifname "outer*" ip frag-off & 0x3fff != 0 drop')
    for site in world.sites:
        if site.realm.ipsec:
            site.gateway.nft(rules)
    world.send_one_by_one()
    world.ix.nft(rules)


def check(world, report):
    report.group(f"certificates of RSA 4096 bits over a path of {PATH_MTU_BYTES} bytes without IP fragments")
    for name in ("hospital-b", "hospital-c"):
        for frm, to in ((f"pc.{name}", "pc.wireguard-a"), ("pc.wireguard-a", f"pc.{name}")):
            text = f"{frm} {to} fragments"
            got = probe.try_tcp(world.host(frm), world.address(frm), world.seen(to), PORT, text, timeout=5)
            report.equal(f"{frm} to {to}", f"{to} {text}", got)
        log = world.site(name).log_text()
        for what in ("received fragment #", "splitting IKE message"):
            report.that(f"{name}: {what}", what in log, "in its log", "not there")
    report.equal("in = out + drops", True, world.ixgate.balanced())
