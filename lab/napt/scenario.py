"""How NAPT behaves, by the STUN tools of coturn (RFC 5780): mapping, filtering, ports, hairpins, lifetime; forwards, quotas."""

import re
import select
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network

from lab.lib import files, probe, stun
from lab.lib.plan import Grant, Host, Ipsec, Realm, Scenario, Service
from lab.lib.probe import SILENCE
from lab.lib.report import progress
from lab.lib.responder import PORT

STUN, STUN_ALTERNATE, VISITOR = "8.8.8.10", "8.8.8.11", "8.8.8.20"
STUN_PORT = 3478
INTERNET, POOLS = "8.8.8.0/24", "8.8.9.0/24"
PC, NEIGHBOUR, LAPTOP, WEB = (f"192.168.1.{number}" for number in (10, 11, 12, 20))
WEB_PORT = 8443
FORWARD = "8.8.9.1"
PAGE = "behind the forward"
QUOTA_PORTS = 16
UDP_SECS = 120  # the least that RFC 4787 REQ-5 lets one configure
LIFETIMES = [100, 125]
IP_RECVERR = 11  # linux/in.h

# Realm: its pool, what is configured, and what the STUN client has to find.
FILTERING = {
    "strict": ("8.8.9.0/30", "address-and-port", "Address and Port Dependent"),
    "wider": ("8.8.9.4/30", "address", "Address Dependent"),
    "open": ("8.8.9.8/30", "endpoint", "Endpoint Independent"),
}


def realm(name, pool, hosts, more=None, **options):
    # A host that the configuration names would have an address of its own.
    hosts = [Host(host, [f"{address}/24"], named=address == WEB) for host, address in hosts]
    return Realm(name, ["192.168.1.0/24"], hosts, show_as={"napt": [pool], **(more or {})}, routes=[INTERNET, POOLS],
                 **options)


PCS = [("pc", PC), ("neighbour", NEIGHBOUR)]
SCENARIO = Scenario(
    realms=[
        Realm("internet", ["default"], routes=[POOLS],
              hosts=[Host("stun", [f"{STUN}/24", f"{STUN_ALTERNATE}/24"]), Host("visitor", [f"{VISITOR}/24"])]),
        realm("strict", FILTERING["strict"][0], [*PCS, ("laptop", LAPTOP), ("web", WEB)],
              {"forwards": [{"outside": FORWARD, "port": "tcp/443", "to": f"{WEB}:{WEB_PORT}"}]}),
        realm("wider", FILTERING["wider"][0], PCS, {"filtering": "address"}, ipsec=Ipsec(), calls="gateway"),
        realm("open", FILTERING["open"][0], PCS, {"filtering": "endpoint"}, calls="gateway"),
        realm("tiny", "8.8.9.12/32", PCS, {"block_ports": QUOTA_PORTS}),
    ],
    services=[Service("web", "web.strict", [f"tcp/{WEB_PORT}"])],
    grants=[
        Grant([*FILTERING, "tiny"], ["realm:internet"], ["udp/1-65535", "tcp/1-65535"]),
        *(Grant([name], [f"realm:{name}"], ["udp/1-65535"]) for name in FILTERING),  # hairpins
        Grant(["internet"], ["web"]),
    ],
    more=f"[sessions]\nudp_secs = {UDP_SECS}\n",
)


def check(world, report):
    start_servers(world)
    lifetimes = start_lifetimes(world)
    check_discovery(world, report)
    check_ports(world, report)
    check_hairpins(world, report)
    check_forward(world, report)
    check_quota(world, report)
    check_lifetime(report, lifetimes)
    report.group("the account")
    report.equal("in = out + drops", True, world.ixgate.balanced())


def start_servers(world):
    """A STUN server with two addresses and two ports, and a page behind the forward."""
    world.spawn("stun.internet", [
        "turnserver", "-n", "--stun-only", "--listening-ip", STUN, "--listening-ip", STUN_ALTERNATE, "--no-tls", "--no-dtls",
        "--no-cli", "--log-file", "stdout", "--simple-log", "--userdb", world.directory / "turndb",
        "--pidfile", world.directory / "turnserver.pid",
    ], "turnserver")
    folder = world.directory / "www"
    folder.mkdir()
    (folder / "index.html").write_text(PAGE, encoding="ascii")
    files.serve(world, "web.strict", folder, WEB_PORT)
    world.wait_for_port("stun.internet", STUN_PORT)


def discover(world, label, *words, port=None, timeout=40):
    """What `turnutils_natdiscovery` prints in a host."""
    local = ["-L", world.address(label), *(["-l", port] if port else [])]
    return world.host(label).run(["turnutils_natdiscovery", *words, *local, STUN], timeout=timeout).stdout


def reflexive(said):
    """Address and port as the STUN server saw them, of every answer."""
    return re.findall(r"UDP reflexive addr: ([\d.]+):(\d+)", said)


def check_discovery(world, report):
    cases = [(name, *words) for name in FILTERING for words in (["-m"], ["-m", "-P"], ["-f"], ["-H"])]
    said = dict(probe.all_at_once(lambda name, *words: discover(world, f"pc.{name}", *words), cases))
    for name, (pool, filtering, found) in FILTERING.items():
        report.group(f"behaviour, filtering = \"{filtering}\"")
        for words in (("-m",), ("-m", "-P")):
            text = said[(name, *words)]
            report.that(f"endpoint-independent mapping ({' '.join(words)})", "NAT with Endpoint Independent Mapping!" in text,
                        "NAT with Endpoint Independent Mapping!", text)
            seen = reflexive(text)
            report.that("one address and port of the pool for both servers",
                        len(seen) == 2 and len(set(seen)) == 1 and ip_address(seen[0][0]) in ip_network(pool), pool, seen)
        text = said[(name, "-f")]
        report.that("filtering", f"NAT with {found} Filtering!" in text, f"NAT with {found} Filtering!", text)
        # Who has not been sent to gets in only where everybody does.
        arrived = "maybe a successful hairpinning" in said[(name, "-H")]
        report.equal("a hairpin from another port gets in", filtering == "endpoint", arrived)


def check_ports(world, report):
    report.group("ports, and who had them")
    # Hosts that have used no port yet.
    for host, address in (("neighbour", NEIGHBOUR), ("laptop", LAPTOP)):
        told = who(world, *outside(world, host, 50000))
        own = re.search(r"^udp +host (\S+) of realm (\S+), which has ports (\d+)-(\d+)$", told, re.MULTILINE)
        if not report.that(f"the pool's port is {host}'s", own and own.groups()[:2] == (address, "strict"), address, told):
            continue
        first, last = int(own.group(3)), int(own.group(4))
        # Two of them have the same place in the block.
        ports = [first + 7, 50001, 50002, 50001 + last + 1 - first]
        seen = [outside(world, host, port) for port in ports]
        report.equal(f"{host}: a port of the block is kept", ports[0], seen[0][1])
        inside = all(first <= port <= last for _, port in seen)
        report.that(f"{host}: the others get ports of the block", inside, f"{first}-{last}", seen)
        report.equal(f"{host}: parity is kept", [port % 2 for port in ports], [port % 2 for _, port in seen])
        report.equal(f"{host}: no two share a port", len(ports), len(set(seen)))


def outside(world, host, port):
    """Under which address and port a local port of a host of `strict` is seen."""
    seen = reflexive(discover(world, f"{host}.strict", "-m", port=port))
    return (seen[0][0], int(seen[0][1])) if seen else ("0.0.0.0", 0)


def who(world, address, port):
    return world.ixgate.call("plan", world.ixgate.config, "--who", f"{address}:{port}")


def check_hairpins(world, report):
    """Two hosts of one realm, each told the other's outside address by the STUN server, and another port of one of them."""
    report.group("hairpins")
    for name, (_, filtering, _) in FILTERING.items():
        lets_in = filtering == "endpoint"
        one, other = (udp_socket(world, f"{host}.{name}") for host, _ in PCS)
        third = udp_socket(world, f"{PCS[1][0]}.{name}")
        with one, other, third:
            at_one, at_other = (stun.mapped(sock, (STUN, STUN_PORT)) for sock in (one, other))
            before = world.ixgate.drops("napt_filtered")
            one.sendto(b"first", at_other)
            # Shown by the outside address and port (RFC 4787 REQ-9 a).
            report.equal(f"{name}: who was not sent to", ("first", at_one) if lets_in else SILENCE, heard(other))
            # What was dropped was sent all the same (RFC 4787 section 5).
            other.sendto(b"second", at_one)
            report.equal(f"{name}: who was sent to answers", ("second", at_other), heard(one))
            one.sendto(b"third", at_other)
            report.equal(f"{name}: the way is open", ("third", at_one), heard(other))
            counted = world.ixgate.drops("napt_filtered") - before
            report.equal(f"{name}: counted as napt_filtered", 0 if lets_in else 1, counted)
            third.sendto(b"fourth", at_one)
            gets_in = filtering != "address-and-port"
            report.equal(f"{name}: another port of who was sent to", gets_in, heard(one) != SILENCE)


def udp_socket(world, label):
    with world.host(label).entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(1)
    sock.bind((str(world.address(label)), 0))
    return sock


def heard(sock):
    try:
        data, sender = sock.recvfrom(2048)
        return data.decode(), sender
    except OSError:
        return SILENCE


def check_forward(world, report):
    report.group("a forwarded port (curl)")
    page = curl(world, "visitor.internet", f"http://{FORWARD}:443/")
    report.equal("reached from the default realm", PAGE, page.stdout)
    log = (world.directory / "web.strict.www.log").read_text(encoding="utf-8")
    report.that("the server sees the visitor's own address", f"{VISITOR} - - " in log, VISITOR, log)
    before = world.ixgate.drops("napt_no_binding")
    report.equal("another port of the same address", 28, curl(world, "visitor.internet", f"http://{FORWARD}:444/").returncode)
    counted = world.ixgate.drops("napt_no_binding") - before
    report.that("... is counted as napt_no_binding", counted > 0, "> 0", counted)
    report.equal("no grant, no forward", 28, curl(world, "pc.wider", f"http://{FORWARD}:443/").returncode)


def curl(world, label, url):
    """Its exit code is 28 when the time is over."""
    return world.host(label).run(["curl", "-sS", "--max-time", "2", url], timeout=10)


def check_quota(world, report):
    report.group("a host that has used its ports")
    pc, before = world.host("pc.tiny"), world.ixgate.drops("napt_exhausted")
    text = "pc.tiny stun.internet hello"
    answers = [probe.try_udp(pc, ip_address(PC), STUN, PORT, text) for _ in range(QUOTA_PORTS)]
    report.equal(f"{QUOTA_PORTS} ports are its own", [f"stun.internet {text}"] * QUOTA_PORTS, answers)
    # Destination unreachable, administratively prohibited (RFC 5508 REQ-8).
    report.equal("one more is refused by ICMP, from the IX", (3, 13, world.ixgate.gateway()), icmp_error(world, "pc.tiny"))
    report.equal("its neighbour notices nothing", f"stun.internet {text}",
                 probe.try_udp(world.host("neighbour.tiny"), ip_address(NEIGHBOUR), STUN, PORT, text))
    report.equal("counted as napt_exhausted", 1, world.ixgate.drops("napt_exhausted") - before)


def icmp_error(world, label):
    """Sends one datagram; type, code and sender of the ICMP error that comes back, from the socket's error queue."""
    with udp_socket(world, label) as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        sock.sendto(b"one too many", (STUN, PORT))
        if not select.select([sock], [], [], 2)[0]:
            return SILENCE
        _, ancillary, _, _ = sock.recvmsg(2048, 512, socket.MSG_ERRQUEUE)
        _, kind, code, offender = struct.unpack_from("=IxBBx8x4x4s", ancillary[0][2])
        return kind, code, socket.inet_ntoa(offender)


def start_lifetimes(world):
    """Two mappings that are left alone for a while, begun now."""
    pool = ThreadPoolExecutor(len(LIFETIMES))
    return {secs: pool.submit(discover, world, "neighbour.open", "-t", "-T", str(secs), timeout=secs + 20) for secs in LIFETIMES}


def check_lifetime(report, lifetimes):
    report.group(f"lifetime of a mapping, udp_secs = {UDP_SECS}")
    for secs, running in lifetimes.items():
        progress(f"  waiting for a mapping of {secs} s")
        said = running.result()
        report.equal(f"after {secs} s without a packet it leads to the host", secs < UDP_SECS, len(reflexive(said)) == 2)
