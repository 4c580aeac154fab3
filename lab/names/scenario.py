"""Names that others answer: unbound and BIND behind tunnels and outside, long answers, silent resolvers, transfers, DNSSEC."""

import itertools
import re
import time

from lab.lib import nameserver, probe
from lab.lib.plan import DOMAIN, Grant, Host, Ipsec, Realm, Scenario, Service, fqdn
from lab.lib.site import IX_OUTER, OUTER
from lab.names import zones
from lab.names.zones import CLINIC, HOSPITAL, LONG, MANY, OUTSIDE_A, OUTSIDE_AAAA

UPSTREAM, UPSTREAM6, UPLINK6 = f"{OUTER}.53", "2001:db8:53::53", "2001:db8:53::1"
TLS_NAME = "dns.upstream.lab"
TRANSFER_PORT, TRANSFER_SECRET = 5353, "axfr.tsig"
PROHIBITED, FILTERED, NO_AUTHORITY, NETWORK_ERROR, OTHER = 18, 17, 22, 23, 0
# A stub resolver waits so long for an answer. Until it is told that there is none it may take: each of two resolvers is given a
# second, and when all were silent, two.
STUB_PATIENCE_SECS, BOUND_SECS = 5.0, 7.0
PATIENT = ["+time=10", "+tries=1"]  # dig, so that it is not the one who gives up


def realm(name, letter, hosts, **options):
    return Realm(name, ["192.168.1.0/24", f"fd00:{letter}::/64"],
                 [Host(host, [f"192.168.1.{number}/24", f"fd00:{letter}::{number}/64"]) for host, number in hosts], **options)


def reverse(domain):
    return {"domains": [domain, zones.INSIDE_REVERSE]}


def forward(domain, resolver):
    return f'[[dns_forward]]\ndomain = "{domain}"\nresolvers = ["{resolver}"]'


def transfer_key(name, view):
    return f'[[dns.transfer.key]]\nname = "{name}"\nsecret_file = "{TRANSFER_SECRET}"\nview = "{view}"'


SCENARIO = Scenario(
    realms=[
        realm("region-a", "a", [("pc", 10)]),
        realm("hospital-b", "b", [("pc", 10), ("pacs", 20), ("mail", 30), ("ns1", 53), ("ns2", 54)], calls="gateway",
              dns={**reverse(HOSPITAL), "resolvers": ["192.168.1.53", "192.168.1.54"]}),
        Realm("clinic-c", ["192.168.1.0/24"], [Host("pc", ["192.168.1.10/24"]), Host("ns", ["192.168.1.53/24"])],
              ipsec=Ipsec(), dns={**reverse(CLINIC), "resolvers": ["192.168.1.53"]}),
        Realm("ward-six", ["fd00:6::/64"], [Host("pc", ["fd00:6::10/64"])]),
        Realm("stranger-d", ["192.168.1.0/24"], [Host("pc", ["192.168.1.10/24"])]),
    ],
    services=[Service("pacs", "pacs.hospital-b", ["tcp/443"])],
    grants=[
        Grant(["region-a"], ["pacs"]),
        Grant(["region-a"], ["realm:clinic-c"], ["tcp/443"]),
        Grant(["ward-six"], ["realm:hospital-b"], ["tcp/443"]),
    ],
    more="\n".join([
        "[dns]", "dnssec = true",
        "[dns.transfer]", f'listen = "{IX_OUTER}:{TRANSFER_PORT}"',
        transfer_key("region-a-view", "region-a"), transfer_key("inventory", "canonical"),
        forward(zones.BY_UDP, UPSTREAM), forward(zones.BY_TLS, f"tls:{TLS_NAME}@{UPSTREAM}"),
        forward(zones.BY_UDP6, UPSTREAM6), forward(zones.BY_TLS6, f"tls:{TLS_NAME}@{UPSTREAM6}"),
        forward(zones.BY_WRONG_NAME, f"tls:else.where.lab@{UPSTREAM}"), "",
    ]),
)


def prepare(world):
    """Somebody on the Internet who answers over UDP, TCP and TLS, with a certificate of an authority that the IX trusts."""
    world.ix.ip(f"addr add {UPLINK6}/64 dev outer nodad")
    world.outsider("upstream", f"{UPSTREAM}/24", f"{UPSTREAM6}/64")
    world.pki.issue("upstream", TLS_NAME, "ecdsa")
    world.ixgate.environment["SSL_CERT_FILE"] = str(world.directory / "ca.crt")
    world.ixgate.call("keygen", "tsig", "--out", world.directory / TRANSFER_SECRET)


def check(world, report):
    lab = Lab(world, report)
    lab.start_servers()
    for step in (check_views, check_denials, check_aliases, check_services, check_long, check_outside,
                 check_transfer, check_signed, check_failover, check_account):
        step(lab)


class Lab:
    """The servers, and how to ask."""

    def __init__(self, world, report):
        self.world, self.report, self.resolver = world, report, world.ixgate.resolver()
        world.ixgate.forget_plan()  # it knows the zone's key since the start
        self.plan = world.ixgate.plan()
        self.told = {}  # by asker: all that dig said

    def start_servers(self):
        world, directory = self.world, self.world.directory
        validating = ['module-config: "validator iterator"', f'trust-anchor: "{self.ds()}"',
                      *zones.hospital_lines()]
        stub = ["stub-zone:", f"  name: {DOMAIN}", f"  stub-addr: {self.resolver}"]
        self.hospital = [
            nameserver.unbound(world.host(f"{ns}.hospital-b"), directory, ns, [f"192.168.1.{last}"], validating, stub)
            for ns, last in (("ns1", 53), ("ns2", 54))
        ]
        self.clinic = nameserver.named(world.host("ns.clinic-c"), directory, "clinic-c", "192.168.1.53", zones.clinic_zones())
        tls = [f"tls-service-key: {directory}/upstream.pem", f"tls-service-pem: {directory}/upstream.crt"]
        listen = [at + port for at in (UPSTREAM, UPSTREAM6) for port in ("", "@853")]
        self.upstream = nameserver.unbound(world.outsiders["upstream"], directory, "upstream", listen,
                                           [*tls, *zones.outside_lines()])

    def ds(self):
        """The zone's trust anchor, from `ixgate plan`."""
        return self.plan["dnssec"]["ds"]

    def dig(self, realm_name, name, kind="A", *options, server=None):
        """As `pc` of a realm asks the IX."""
        speaks4 = self.world.address(f"pc.{realm_name}") is not None
        server = server or (self.resolver if speaks4 else self.world.ixgate.resolver(6))
        found = probe.dig(self.world.host(f"pc.{realm_name}"), server, name, kind, *options)
        self.told.setdefault(realm_name, []).append(found.text)
        return found

    def equal(self, realm_name, question, expected, *options, ede=None):
        """`expected`: the status, and the answers' last words in any order."""
        found = self.dig(realm_name, *question, *options)
        status, *answers = expected
        what = f"{realm_name}: {' '.join([*question, *options])}"
        self.report.equal(what, (status, sorted(map(str, answers))), (found.status, sorted(found.answers)))
        wanted = "" if ede is None else f"EDE {ede} "
        self.report.that(f"{what}: the extended error", found.extended_error.startswith(wanted) and
                         bool(wanted) == bool(found.extended_error), wanted or "none", found.extended_error or "none")
        return found

    def seen(self, label, version=4):
        return self.world.seen(label, version)

    def clinic_alias(self, address):
        """Of a machine that the IX has no name for."""
        return self.world.ixgate.shown("clinic-c", address, 4)


def check_views(lab):
    """Each asker's own addresses: alias, native, canonical."""
    lab.report.group("addresses and reverse names in the asker's view")
    pacs, pacs6 = lab.seen("pacs.hospital-b"), lab.seen("pacs.hospital-b", 6)
    desk = lab.clinic_alias("192.168.1.77")
    xray6 = lab.world.ixgate.shown("hospital-b", "192.168.1.40", 6)
    lab.equal("region-a", (f"pacs.{HOSPITAL}", "A"), ["NOERROR", pacs])
    lab.equal("region-a", (f"pacs.{HOSPITAL}", "AAAA"), ["NOERROR", pacs6])
    lab.equal("region-a", (f"desk.{CLINIC}", "A"), ["NOERROR", desk])
    lab.equal("hospital-b", (f"pacs.{HOSPITAL}", "A"), ["NOERROR", "192.168.1.20"])
    lab.equal("hospital-b", (f"mail.{HOSPITAL}", "A"), ["NOERROR", "192.168.1.30"])
    lab.equal("clinic-c", (f"desk.{CLINIC}", "A"), ["NOERROR", "192.168.1.77"])
    # Without IPv4 of its own: a host's IPv6 where it has one, the canonical address of its IPv4 where not.
    lab.equal("ward-six", (f"pacs.{HOSPITAL}", "AAAA"), ["NOERROR", pacs6])
    lab.equal("ward-six", (f"xray.{HOSPITAL}", "AAAA"), ["NOERROR", xray6])
    # Reverse: the IX knows pacs itself; desk and xray are known to their realms alone, under one and the same native zone.
    lab.equal("region-a", (pacs.reverse_pointer, "PTR"), ["NOERROR", f"{fqdn('pacs.hospital-b')}."])
    lab.equal("region-a", (desk.reverse_pointer, "PTR"), ["NOERROR", f"desk.{CLINIC}."])
    lab.equal("ward-six", (xray6.reverse_pointer, "PTR"), ["NOERROR", f"xray.{HOSPITAL}."])
    lab.equal("hospital-b", ("40." + zones.INSIDE_REVERSE, "PTR"), ["NOERROR", f"xray.{HOSPITAL}."])
    lab.equal("clinic-c", ("77." + zones.INSIDE_REVERSE, "PTR"), ["NOERROR", f"desk.{CLINIC}."])
    over_ipv6 = lab.dig("region-a", f"pacs.{HOSPITAL}", "A", server=lab.world.ixgate.resolver(6))
    lab.report.equal("asked over IPv6", f"NOERROR {pacs}", str(over_ipv6))


def check_denials(lab):
    """What is not granted is left out, and it is said why; what is not there is not there."""
    lab.report.group("what is not granted, not mapped, not there")
    pacs = lab.seen("pacs.hospital-b")
    lab.equal("region-a", (f"mail.{HOSPITAL}", "A"), ["NOERROR"], ede=PROHIBITED)
    lab.equal("region-a", (f"mail.{HOSPITAL}", "AAAA"), ["NOERROR"], ede=PROHIBITED)
    lab.equal("region-a", (f"both.{HOSPITAL}", "A"), ["NOERROR", pacs], ede=PROHIBITED)
    lab.equal("region-a", (f"stray.{HOSPITAL}", "A"), ["NOERROR"], ede=FILTERED)
    lab.equal("stranger-d", (f"pacs.{HOSPITAL}", "A"), ["NXDOMAIN"], ede=PROHIBITED)
    lab.equal("stranger-d", (f"desk.{CLINIC}", "A"), ["NXDOMAIN"], ede=PROHIBITED)
    mail = lab.seen("mail.hospital-b")
    lab.equal("region-a", (mail.reverse_pointer, "PTR"), ["NXDOMAIN"])
    lab.equal("region-a", (f"absent.{HOSPITAL}", "A"), ["NXDOMAIN"])  # of which unbound gives no SOA
    absent = lab.equal("region-a", (f"absent.{CLINIC}", "A"), ["NXDOMAIN"])
    lab.report.that("... with the SOA that BIND gives", "SOA" in absent.text, "an SOA", absent.text)
    lab.equal("region-a", ("www.nobody.test", "A"), ["REFUSED"], ede=20)
    circle = probe.dig(lab.world.host("ns1.hospital-b"), lab.resolver, f"new.any.{HOSPITAL}")
    lab.report.equal("the resolver itself may not ask back", "REFUSED", circle.status)


def check_aliases(lab):
    """Chains, within a domain and out of it; each step as if the asker had asked for it itself."""
    lab.report.group("aliases")
    pacs, desk = lab.seen("pacs.hospital-b"), lab.clinic_alias("192.168.1.77")
    hospital, clinic = f"{HOSPITAL}.", f"{CLINIC}."
    lab.equal("region-a", (f"images.{HOSPITAL}", "A"), ["NOERROR", f"pacs.{hospital}", pacs])
    lab.equal("region-a", (f"chain1.{CLINIC}", "A"),
              ["NOERROR", f"chain2.{clinic}", f"chain3.{clinic}", f"desk.{clinic}", desk])
    lab.equal("region-a", (f"to-hospital.{CLINIC}", "A"), ["NOERROR", f"pacs.{hospital}", pacs])
    lab.equal("region-a", (f"to-service.{CLINIC}", "A"), ["NOERROR", f"pacs.{DOMAIN}.", pacs])
    lab.equal("region-a", (f"to-outside.{CLINIC}", "A"), ["NOERROR", f"www.{zones.BY_UDP}.", OUTSIDE_A])
    lab.equal("region-a", (f"to-mail.{CLINIC}", "A"), ["NOERROR", f"mail.{hospital}"], ede=PROHIBITED)
    lab.equal("region-a", (f"to-nowhere.{CLINIC}", "A"), ["NOERROR", "www.nobody.test."], ede=NO_AUTHORITY)
    lab.equal("region-a", (f"loop.{CLINIC}", "A"), ["SERVFAIL"], ede=OTHER)


def check_services(lab):
    """Addresses in SVCB and HTTPS (RFC 9460) are addresses too."""
    lab.report.group("hints of SVCB and HTTPS")
    pacs, pacs6 = lab.seen("pacs.hospital-b"), lab.seen("pacs.hospital-b", 6)
    ns = lab.seen("ns.clinic-c")
    for asker, name, kind, hints in (
        ("region-a", f"web.{HOSPITAL}", "HTTPS", f'alpn="h2" ipv4hint={pacs} ipv6hint={pacs6}'),
        ("region-a", f"_dns.{CLINIC}", "SVCB", f'alpn="dot" port=853 ipv4hint={ns}'),
        ("hospital-b", f"web.{HOSPITAL}", "HTTPS", 'alpn="h2" ipv4hint=192.168.1.20,192.168.1.30 '
                                                  'ipv6hint=fd00:b::20,fd00:b::30'),
    ):
        found = lab.dig(asker, name, kind)
        lab.report.that(f"{asker}: {kind} {name}", found.text.count(hints) == 1, hints, found.text)


def check_long(lab):
    """Over UDP a long answer is cut to nothing but TC, at what the asker can take and at 1,232 bytes; TCP has all of it."""
    lab.report.group("long answers, from unbound and from BIND")
    for domain, size in itertools.product((HOSPITAL, CLINIC), LONG):
        name, whole = f"long{size}.{domain}", len(zones.texts(size))
        for bufsize in (512, 1232, 4096, None):
            limit = min(bufsize or 512, 1232)
            fits = size < limit - 100
            options = ["+noedns"] if bufsize is None else [f"+bufsize={bufsize}"]
            short = lab.dig("region-a", name, "TXT", "+ignore", *options)
            expected = (not fits, whole if fits else 0)
            lab.report.equal(f"{name} over UDP, {options[0]}: is it cut, and how many records", expected,
                             ("tc" in flags(short), len(short.answers)))
            received = message_bytes(short)
            lab.report.that("... and its length", received <= limit, f"at most {limit} bytes", received)
        over_tcp = lab.dig("region-a", name, "TXT")
        lab.report.equal(f"{name}, records in all", whole, len(set(over_tcp.answers)))
        lab.report.equal("... over TCP where it is long", size > 1232, "(TCP)" in over_tcp.text)
    many = lab.dig("region-a", f"many.{CLINIC}")
    expected = {str(lab.clinic_alias(f"192.168.1.{1 + number}")) for number in range(MANY)}
    lab.report.equal(f"{MANY} addresses, each in the asker's view", expected, set(many.answers))


def flags(found):
    return re.search(r"flags: ([a-z ]*)", found.text).group(1).split()


def message_bytes(found):
    return int(re.search(r"MSG SIZE +rcvd: (\d+)", found.text).group(1))


def check_outside(lab):
    """Domains outside all realms, over UDP and over TLS, over IPv4 and IPv6."""
    lab.report.group("domains outside all realms, over UDP and TLS, IPv4 and IPv6")
    for domain in (zones.BY_UDP, zones.BY_TLS, zones.BY_UDP6, zones.BY_TLS6):
        lab.equal("region-a", (f"www.{domain}", "A"), ["NOERROR", OUTSIDE_A])
        lab.equal("region-a", (f"www.{domain}", "AAAA"), ["NOERROR", OUTSIDE_AAAA])
        lab.equal("stranger-d", (f"absent.{domain}", "A"), ["NXDOMAIN"])
        lab.equal("region-a", (f"inside.{domain}", "A"), ["NOERROR"], ede=FILTERED)
        lab.equal("region-a", (f"inside.{domain}", "AAAA"), ["NOERROR"], ede=FILTERED)
        long = lab.dig("region-a", f"long.{domain}", "TXT")
        lab.report.equal(f"5,000 bytes from {domain}, records", len(zones.texts(5000)), len(set(long.answers)))
    lab.equal("region-a", (f"www.{zones.BY_WRONG_NAME}", "A"), ["SERVFAIL"], ede=NETWORK_ERROR)


def check_transfer(lab):
    """The zone on the operators' own name servers, by dig."""
    lab.report.group("zone transfers with TSIG")
    secret = (lab.world.directory / TRANSFER_SECRET).read_text(encoding="ascii").strip()
    views = {
        "region-a-view": {f"{fqdn('pacs.hospital-b')}. A {lab.seen('pacs.hospital-b')}",
                          f"{fqdn('pc.region-a')}. A 192.168.1.10", f"{fqdn('pacs')}. A {lab.seen('pacs.hospital-b')}"},
        "inventory": {f"{fqdn('mail.hospital-b')}. AAAA {lab.world.ixgate.shown('hospital-b', '192.168.1.30', 6)}",
                      f"{fqdn('pc.ward-six')}. AAAA fd00:6::10"},
    }
    got = {key: transferred(transfer(lab, key, secret).stdout) for key in views}
    for key, expected in views.items():
        lab.report.that(f"{key} has what it is to have", expected <= got[key], sorted(expected), sorted(got[key]))
    lab.report.that("region-a's view has no name that it may not reach",
                    not any(fqdn("mail.hospital-b") in record for record in got["region-a-view"]), "none", got["region-a-view"])
    forged = transfer(lab, "region-a-view", "A" * 43 + "=").stdout
    lab.report.that("another secret gets nothing, and is told so", not transferred(forged) and "BADSIG" in forged,
                    "BADSIG", forged)
    unsigned = lab.world.outsiders["upstream"].run(["dig", f"@{IX_OUTER}", "-p", str(TRANSFER_PORT), DOMAIN, "AXFR"]).stdout
    lab.report.that("without a key there is none", not transferred(unsigned), "no records", unsigned)
    inside = lab.dig("region-a", DOMAIN, "AXFR")
    lab.report.that("nor inside the realms", not transferred(inside.text), "no records", inside.text)


def transfer(lab, key, secret):
    return lab.world.outsiders["upstream"].run(
        ["dig", f"@{IX_OUTER}", "-p", str(TRANSFER_PORT), "-y", f"hmac-sha256:{key}:{secret}", DOMAIN, "AXFR"])


def transferred(text):
    """The records as `NAME TYPE DATA`, without SOA and the signatures of the messages."""
    rows = [line.split() for line in text.splitlines() if line and not line.startswith(";")]
    return {f"{row[0]} {row[3]} {' '.join(row[4:])}" for row in rows if len(row) > 4 and row[3] not in ("SOA", "TSIG")}


def check_signed(lab):
    """Each view is signed for itself: validated by BIND's delv in one realm and by unbound in another."""
    lab.report.group("DNSSEC, validated in two views")
    pacs, name = lab.seen("pacs.hospital-b"), fqdn("pacs.hospital-b")
    own = lab.ds().split(" DS ")[1]
    another = own[:-4] + ("1111" if own.endswith("0000") else "0000")
    for what, digest, verdict in (
        ("delv validates region-a's view", own, "; fully validated"),
        ("... and by another key nothing", another, "resolution failed"),
    ):
        tag, algorithm, kind, *rest = digest.split()
        anchors = lab.world.directory / "anchors"
        anchor = f'"{DOMAIN}." static-ds {tag} {algorithm} {kind} "{"".join(rest)}"'
        anchors.write_text(f"trust-anchors {{ {anchor}; }};\n", encoding="ascii")
        argv = ["delv", f"@{lab.resolver}", "-a", anchors, f"+root={DOMAIN}", name, "A"]
        done = lab.world.host("pc.region-a").run(argv)
        right = verdict in done.stdout and (str(pacs) in done.stdout) == (digest == own)
        lab.report.that(what, right, f"{verdict}, {pacs if digest == own else 'no address'}", done.stdout)
    for name, kind, answers in (
        (fqdn("pacs.hospital-b"), "A", ["192.168.1.20"]), (fqdn("pacs"), "AAAA", ["fd00:b::20"]),
        (fqdn("pc.stranger-d"), "A", []), (fqdn("nobody.hospital-b"), "A", []), (fqdn("pacs.hospital-b"), "TXT", []),
    ):
        found = probe.dig(lab.world.host("pc.hospital-b"), lab.hospital[0].address, name, kind, "+adflag")
        lab.report.equal(f"unbound validates hospital-b's view: {kind} {name}", (True, answers),
                         ("ad" in flags(found), [a for a in found.answers if a in answers or kind == "A"]))


def check_failover(lab):
    """Resolvers that are killed or silent: the others answer, and when none does, that is said in bounded time."""
    lab.report.group("resolvers that do not answer")
    first, second = lab.hospital
    pacs = str(lab.seen("pacs.hospital-b"))
    first.kill()
    times = ask_new_names(lab, "killed", 8, pacs)
    all_in_time(lab, "one of two is killed", times)
    lab.report.that("... and soon without a second's wait for it", times[-1] < 1.0, "within 1 s", times)
    lab.report.fact("seconds for each new name after one of two resolvers was killed", times)
    lab.report.equal("the silent one counts as such", 1, penalised(lab))
    first.start()
    second.freeze()
    times = ask_new_names(lab, "frozen", 4, pacs)
    all_in_time(lab, "the other is frozen, the first back", times)
    first.freeze()
    lab.equal("region-a", (f"pacs.{HOSPITAL}", "A"), ["NOERROR", pacs])  # remembered
    lab.clinic.freeze()
    for name in (f"silence.any.{HOSPITAL}", f"silence.{CLINIC}"):
        began = time.monotonic()
        lab.equal("region-a", (name, "A"), ["SERVFAIL"], *PATIENT, ede=NO_AUTHORITY)
        took = time.monotonic() - began
        lab.report.that(f"{name}: told in bounded time", took < BOUND_SECS, f"within {BOUND_SECS} s", f"{took:.1f} s")
    for server in (first, second, lab.clinic):
        server.thaw()
    times = ask_new_names(lab, "back", 3, pacs)
    all_in_time(lab, "all are back", times)


def ask_new_names(lab, word, count, expected):
    """Seconds until each of some names is answered that the IX cannot remember."""
    times = []
    for number in range(count):
        began = time.monotonic()
        found = lab.dig("region-a", f"{word}{number}.any.{HOSPITAL}", "A", *PATIENT)
        times.append(round(time.monotonic() - began, 2))
        lab.report.equal(f"{word}, name {number}", f"NOERROR {expected}", str(found))
    return times


def all_in_time(lab, when, times):
    lab.report.that(f"{when}: every name is answered in time", max(times) < STUB_PATIENCE_SECS,
                    f"within {STUB_PATIENCE_SECS} s", times)


def penalised(lab):
    return int(float(re.search(r"^ixgate_dns_penalised_resolvers (\S+)", lab.world.ixgate.metrics(), re.MULTILINE).group(1)))


def check_account(lab):
    """Nothing of what others use among themselves was told to anybody else."""
    lab.report.group("nothing leaked")
    for asker in ("region-a", "ward-six", "stranger-d"):
        said = "\n".join(lab.told[asker])
        ours = {str(a) for version in (4, 6) if (a := lab.world.address(f"pc.{asker}", version))}
        leaks = sorted(set(re.findall(r"\b192\.168\.1\.\d+\b|\b10\.\d+\.\d+\.\d+\b|\bfd00:b::30\b", said)) - ours)
        lab.report.equal(f"{asker}: addresses of others' own networks in {len(lab.told[asker])} answers", [], leaks)
    lab.report.equal("in = out + drops", True, lab.world.ixgate.balanced())
