"""What a host in a realm can try: UDP, TCP, ping, dig, fetching a page, lying about its address."""

import asyncio
import errno
import hashlib
import http.client
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

DATAGRAM, STREAM = socket.SOCK_DGRAM, socket.SOCK_STREAM
IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75
REFUSED = "refused"
SILENCE = "no answer"


def all_at_once(attempt, cases, workers=32):
    """`attempt(*case)` for every case, at the same time; pairs of case and result, in order. Waiting for what must not
    answer takes most of a scenario's time, so it is done in parallel. A thread enters a namespace alone."""
    with ThreadPoolExecutor(workers) as pool:
        return list(zip(cases, pool.map(lambda case: attempt(*case), cases)))


async def udp_exchange(sock, target, text, timeout, attempts):
    """Sends a request until it is answered; the answer, REFUSED (a port unreachable came back) or SILENCE. Where the
    kernel has been told that it was too long, it cuts the next one."""
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(sock, target)
        for _ in range(attempts):
            try:
                await loop.sock_sendall(sock, text.encode())
                answer = await asyncio.wait_for(loop.sock_recv(sock, 4096), timeout / attempts)
                return answer.decode(errors="replace").strip()
            except asyncio.TimeoutError:
                continue
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
        return SILENCE
    except OSError as error:
        return describe(error)
    finally:
        sock.close()


async def tcp_exchange(sock, target, text, timeout):
    """Connects, sends a line, reads one; the answer, REFUSED (reset) or SILENCE."""
    loop = asyncio.get_running_loop()

    async def exchange():
        await loop.sock_connect(sock, target)
        await loop.sock_sendall(sock, text.encode() + b"\n")
        return (await loop.sock_recv(sock, 4096)).decode(errors="replace").strip()

    try:
        return await asyncio.wait_for(exchange(), timeout)
    except asyncio.TimeoutError:
        return SILENCE
    except OSError as error:
        return describe(error)
    finally:
        sock.close()


def try_udp(namespace, source, target, port, text, timeout=1.5, attempts=3):
    sock = open_socket(namespace, source, DATAGRAM)
    return asyncio.run(udp_exchange(sock, (str(target), port), text, timeout, attempts))


def try_tcp(namespace, source, target, port, text, timeout=1.5):
    sock = open_socket(namespace, source, STREAM)
    return asyncio.run(tcp_exchange(sock, (str(target), port), text, timeout))


def open_socket(namespace, source, kind):
    """A socket of `namespace`, bound to the address `source`."""
    family = socket.AF_INET if source.version == 4 else socket.AF_INET6
    with namespace.entered():
        sock = socket.socket(family, kind)
    sock.setblocking(False)
    sock.bind((str(source), 0))
    return sock


def spoofing_socket(namespace, false_source):
    """A UDP socket that sends from an address that this host does not have."""
    v4 = false_source.version == 4
    with namespace.entered():
        sock = socket.socket(socket.AF_INET if v4 else socket.AF_INET6, socket.SOCK_DGRAM)
    if v4:
        sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    sock.bind((str(false_source), 0))
    return sock


def ping(namespace, target, *options, count=2):
    """`ping`'s own words."""
    # One answer is enough; a second try costs a second only when the first went missing.
    return namespace.run(["ping", "-n", "-c", count, "-i", "0.2", "-W", "1", *options, str(target)], timeout=15)


def ping_answered(done):
    found = re.search(r"(\d+) received", done.stdout)
    return bool(found and int(found.group(1)) > 0)


@dataclass
class Dig:
    """What dig understood."""

    status: str
    answers: list = field(default_factory=list)
    extended_error: str = ""
    text: str = ""

    def __str__(self):
        return f"{self.status} {' '.join(self.answers)} {self.extended_error}".strip()


def dig(namespace, server, name, kind="A", *options):
    done = namespace.run(["dig", f"@{server}", "+time=2", "+tries=2", *options, str(name), kind], timeout=12)
    status = re.search(r"status: (\w+)", done.stdout)
    answer_section = re.search(r";; ANSWER SECTION:\n(.*?)\n(\n|;;|$)", done.stdout, re.DOTALL)
    lines = answer_section.group(1).splitlines() if answer_section else []
    ede = re.search(r"; EDE: (.*)", done.stdout)
    return Dig(
        status.group(1) if status else SILENCE,
        [line.split()[-1] for line in lines if line.strip()],
        f"EDE {ede.group(1)}" if ede else "",
        done.stdout,
    )


@dataclass
class Fetched:
    status: int
    length: int
    sha256: str
    seconds: float
    body: bytes


def fetch(namespace, address, port, path, timeout=30, limit=600, keep_body=True):
    """HTTP GET. Raises OSError when the path is closed, silent for `timeout`, or it takes longer than `limit` seconds."""
    began = time.monotonic()
    with namespace.entered():
        sock = socket.create_connection((str(address), port), timeout=5)
    sock.settimeout(timeout)
    connection = http.client.HTTPConnection(str(address), port)
    connection.sock = sock
    digest, length, kept = hashlib.sha256(), 0, b""
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        while chunk := response.read(1 << 18):
            digest.update(chunk)
            length += len(chunk)
            kept = kept + chunk if keep_body else b""
            if time.monotonic() - began > limit:
                raise TimeoutError(f"only {length} bytes within {limit} s")
    finally:
        connection.close()
    return Fetched(response.status, length, digest.hexdigest(), time.monotonic() - began, kept)


def describe(error):
    if error.errno in (errno.ECONNREFUSED, errno.ECONNRESET):
        return REFUSED
    return errno.errorcode.get(error.errno, str(error))
