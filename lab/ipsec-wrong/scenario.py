"""Deliberate misconfigurations of IPsec: each fails, and ixgate tells the right reason in words."""

import re
from dataclasses import dataclass, field

from lab.lib.plan import Host, Ipsec, Realm, Scenario
from lab.lib.wait import wait_until

LIMIT_SECS = 40


@dataclass
class Case:
    """What is wrong, and what ixgate must say about it: every pattern, in any case, in `ixgate status REALM`."""

    what: str
    says: list
    ipsec: Ipsec = field(default_factory=Ipsec)
    calls: str = "gateway"
    # `None`: the realm's own status; "ix": the sender proved nothing, so it is no realm's failure.
    at: str = None


CASES = {
    "psk-theirs": Case("the gateway has another PSK", ["pre-?shared key"], Ipsec(psk="not what was agreed at all")),
    "psk-ours": Case("the same, begun by the IX", ["pre-?shared key|AUTHENTICATION_FAILED"],
                     Ipsec(psk="not what was agreed at all"), "ix"),
    "id-theirs": Case("the gateway calls itself something else", ["someone-else.lab", "remote_id"],
                      Ipsec(gateway_id="someone-else.lab"), at="ix"),
    "id-answer": Case("the same, begun by the IX", ["AUTHENTICATION_FAILED", "identities"],
                      Ipsec(gateway_id="someone-else.lab"), "ix"),
    "id-ours": Case("the gateway expects another name of the IX", ["other-ix.lab", "ix.lab", "local_id"],
                    Ipsec(ix_id="other-ix.lab"), at="ix"),
    "old-crypto": Case("3DES, SHA-1 and group 2", ["3des", "sha-?1", "modp-?1024|group 2"],
                       Ipsec(ike="3des-sha1-modp1024"), at="ix"),
    "old-group": Case("a group that is too small", ["modp-?1024|group 2"],
                      Ipsec(ike="aes256gcm16-prfsha256-modp1024"), at="ix"),
    "old-prf": Case("SHA-1 as PRF", ["sha-?1"], Ipsec(ike="aes256gcm16-prfsha1-x25519"), at="ix"),
    "compat-peer": Case("a gateway of yesterday against `modern`", ["compat"],
                        Ipsec(ike="aes256-sha256-modp2048")),
    "compat-answer": Case("the same, begun by the IX", ["NO_PROPOSAL_CHOSEN|proposal"],
                          Ipsec(ike="aes256-sha256-modp2048"), "ix"),
    "esp-cbc": Case("ESP with AES-CBC against `modern`", ["aes.?cbc|aes256|cbc", "compat"], Ipsec(esp="aes256-sha256")),
    "esp-answer": Case("the same, begun by the IX", ["NO_PROPOSAL_CHOSEN|proposal"], Ipsec(esp="aes256-sha256"), "ix"),
    "pq-only": Case("the IX wants ML-KEM, the gateway has none", ["ml-?kem"], Ipsec(ix={"profile": "pq"})),
    "ts-theirs": Case("the gateway offers a network that is not its realm's", ["10\\.9\\.0\\.0", "192\\.168\\.1\\.0"],
                      Ipsec(local_ts=["10.9.0.0/16"])),
    "ts-ours": Case("the gateway wants a network that nobody granted", ["172\\.16\\.0\\.0"],
                    Ipsec(remote_ts=["172.16.0.0/16"])),
    "expired": Case("the gateway's certificate has expired", ["expired"], Ipsec(auth="ecdsa")),
    "future": Case("the gateway's certificate is not valid yet", ["not (yet valid|valid (yet|before))"], Ipsec(auth="ecdsa")),
    "untrusted": Case("the gateway's certificate is of another CA", ["untrusted|not trusted|unknown issuer|stranger"],
                      Ipsec(auth="ecdsa", connection={"send_cert": "always"})),
    "other-name": Case("the gateway's certificate has another name", ["other-name.elsewhere"],
                       Ipsec(auth="ecdsa", connection={"send_cert": "always"})),
    "revoked": Case("the gateway's certificate is revoked", ["revoked"],
                    Ipsec(auth="ecdsa", ix={"crl_file": "revoked.crl"}, connection={"send_cert": "always"})),
    "psk-for-cert": Case("the gateway has a PSK where a certificate is expected", ["certificate"],
                         Ipsec(ix={"psk_file": None, "ca_file": "ca.crt"})),
    "cert-for-psk": Case("the gateway has a certificate where a PSK is expected", ["pre-?shared key|psk"],
                         Ipsec(auth="ecdsa", ix={"ca_file": None, "psk_file": "cert-for-psk.psk"})),
    "nobody": Case("nobody is at the gateway's address", ["no answer|not answered|unanswered"],
                   Ipsec(ix={"remote": "198.51.100.250"}), "ix"),
    "ppk": Case("the IX wants a postquantum preshared key, the gateway has none", ["ppk|postquantum pre-?shared"],
                Ipsec(ix={"ppk_id": "shared-ppk", "ppk_file": "ppk.psk", "ppk_required": True})),
}

SCENARIO = Scenario(
    realms=[Realm(name, ["192.168.1.0/24"], [Host("pc", ["192.168.1.10/24"])], calls=case.calls, ipsec=case.ipsec,
                  comes_up=False)
            for name, case in CASES.items()],
)


def prepare(world):
    """The certificates that are wrong, and the list that revokes one."""
    pki = world.pki
    pki.issue("expired", "expired.lab", "ecdsa", "--not-before", "01.01.20 00:00:00", "--not-after", "01.01.21 00:00:00",
              "--dateform", "%d.%m.%y %T", lifetime=None)
    pki.issue("future", "future.lab", "ecdsa", "--not-before", "01.01.40 00:00:00", "--not-after", "01.01.41 00:00:00",
              "--dateform", "%d.%m.%y %T", lifetime=None)
    pki.authority("stranger")
    pki.issue("untrusted", "untrusted.lab", "ecdsa", ca="stranger")
    pki.issue("other-name", "other-name.elsewhere", "ecdsa")
    pki.revoke("revoked", "revoked.crl")
    world.site("other-name").ipsec.gateway_id = "other-name.lab"
    (world.directory / "ppk.psk").write_text("0s" + "QUJD" * 12, encoding="ascii")
    (world.directory / "ppk.psk").chmod(0o600)


def check(world, report):
    report.group(f"{len(CASES)} misconfigurations")
    report.equal("tunnels that come up", 0, world.ixgate.tunnels_up())
    for name, case in CASES.items():
        missing = []

        def told():
            words = world.ixgate.failures(name) if case.at is None else world.ixgate.status_text()
            missing[:] = [pattern for pattern in case.says if not re.search(pattern, words, re.IGNORECASE)]
            return not missing

        right = wait_until(told, LIMIT_SECS, pause=0.5) is not None
        words = world.ixgate.failures(name) if case.at is None else world.ixgate.status_text()
        report.that(f"{name}: {case.what}", right, f"words that match {case.says}", f"without {missing}:\n{words}")
    report.equal("tunnels that came up", 0, world.ixgate.tunnels_up())
    report.equal("in = out + drops", True, world.ixgate.balanced())
