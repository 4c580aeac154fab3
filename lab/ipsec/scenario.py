"""IPsec by strongSwan beside WireGuard, one prefix: PSK, ECDSA and RSA, begun by either side; every pair of realms."""

import itertools

from lab.lib import probe
from lab.lib.plan import Grant, Host, Ipsec, Realm, Scenario, Service, fqdn
from lab.lib.probe import SILENCE
from lab.lib.responder import PORT

V6 = itertools.count(0xA)


def realm(name, calls="ix", ipsec=None):
    six = f"fd00:{next(V6):x}::"
    return Realm(name, ["192.168.1.0/24", f"{six}/64"], [Host("pc", ["192.168.1.10/24", f"{six}10/64"])],
                 calls=calls, ipsec=ipsec)


SCENARIO = Scenario(
    realms=[
        realm("wireguard-a"),
        realm("psk-b", "ix", Ipsec()),
        realm("psk-c", "gateway", Ipsec()),
        realm("ecdsa-d", "gateway", Ipsec(auth="ecdsa")),
        realm("ecdsa-e", "ix", Ipsec(auth="ecdsa384")),
        realm("rsa-f", "gateway", Ipsec(auth="rsa")),
        realm("rsa-g", "ix", Ipsec(auth="rsa")),
        realm("ed25519-h", "gateway", Ipsec(auth="ed25519")),
    ],
    services=[Service("archive", "pc.psk-b", [f"tcp/{PORT}", f"udp/{PORT}"])],
    grants=[
        # Everybody reaches the archive in psk-b; the WireGuard realm reaches everybody; the others nobody.
        Grant(["psk-c", "ecdsa-d", "ecdsa-e", "rsa-f", "rsa-g", "ed25519-h"], ["archive"]),
        Grant(["wireguard-a"], [f"realm:{n}" for n in ("psk-b", "psk-c", "ecdsa-d", "ecdsa-e", "rsa-f", "rsa-g", "ed25519-h")],
              ["icmp", f"tcp/{PORT}", f"udp/{PORT}"]),
    ],
)
NO_WAY = (SILENCE, "ENETUNREACH", "EHOSTUNREACH")
REALMS = [r.name for r in SCENARIO.realms]


def allowed(frm, to):
    return frm != to and (frm == "wireguard-a" or to == "psk-b")


def check(world, report):
    check_tunnels(world, report)
    check_pairs(world, report)
    check_names(world, report)
    report.group("the account")
    report.equal("in = out + drops", True, world.ixgate.balanced())
    report.equal("drains and ends with 0 on SIGTERM", 0, world.ixgate.terminate())


def check_tunnels(world, report):
    report.group("tunnels, as both sides tell it")
    report.equal("up at the IX", len(REALMS), world.ixgate.tunnels_up())
    for site in world.sites:
        if site.realm.ipsec:
            sas = site.sas()
            established = "ESTABLISHED" in sas and "INSTALLED" in sas and "AES_GCM_16-256" in sas
            report.that(f"{site.realm.name}: strongSwan has its SAs", established, "ESTABLISHED, INSTALLED", sas)
            words = world.ixgate.failures(site.realm.name)
            report.that(f"{site.realm.name}: status names the peer", f"{site.realm.name}.lab" in words,
                        f"{site.realm.name}.lab", words)


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
            if allowed(frm, to):
                report.equal(f"{frm} to {to}", f"pc.{to} pc.{frm} pc.{to} {protocol}{version}", got)
            else:  # nothing comes back, or the gateway itself has no way: its selectors are only what was granted
                report.that(f"{frm} to {to}", got in NO_WAY, NO_WAY, got)

    report.group("ping from the WireGuard realm to every IPsec realm")
    for to in REALMS[1:]:
        done = probe.ping(world.host("pc.wireguard-a"), world.seen(f"pc.{to}"))
        report.that(f"to {to}", probe.ping_answered(done), "answers", done.stdout)

    report.group("who saw whom")
    for arrival in world.responders.arrived():
        frm, to = arrival.sender(), arrival.addressee()
        right = arrival.who == to and allowed(frm.partition(".")[2], to.partition(".")[2])
        report.that(f"{arrival.protocol} at {arrival.who}", right, "only what is granted", arrival)


def check_names(world, report):
    report.group("names, asked by every realm")
    for asker in REALMS:
        found = probe.dig(world.host(f"pc.{asker}"), world.ixgate.resolver(), fqdn("archive"))
        expected = world.address("pc.psk-b") if asker == "psk-b" else world.seen("pc.psk-b")
        report.equal(f"{asker} asks for the archive", f"NOERROR {expected}", str(found))
    found = probe.dig(world.host("pc.psk-b"), world.ixgate.resolver(), fqdn("pc.psk-c"))
    denied = found.status == "NXDOMAIN" and not found.answers and bool(found.extended_error)
    report.that("an ungranted name says why", denied, "NXDOMAIN with an extended error", found)
