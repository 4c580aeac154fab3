"""A small DNS client (RFC 1035, EDNS of RFC 6891, extended errors of RFC 8914): enough to ask thousands of questions
fast. Single questions are asked with dig, so that a resolver written by others judges the answers too."""

import ipaddress
import random
import socket
import struct
from dataclasses import dataclass, field

A, PTR, AAAA, OPT = 1, 12, 28, 41
NOERROR, NXDOMAIN, REFUSED = 0, 3, 5
RCODES = {NOERROR: "NOERROR", 2: "SERVFAIL", NXDOMAIN: "NXDOMAIN", REFUSED: "REFUSED"}
OPTION_EXTENDED_ERROR = 15
# RFC 8914 section 4: Blocked, Censored, Filtered, Prohibited.
DENIALS = {15, 16, 17, 18}


@dataclass
class Answer:
    rcode: int
    truncated: bool = False
    addresses: list = field(default_factory=list)
    extended_errors: list = field(default_factory=list)

    def denied(self):
        """No path, no address: no such name, and an extended error that says why."""
        return self.rcode == NXDOMAIN and not self.addresses and any(e in DENIALS for e in self.extended_errors)

    def __str__(self):
        shown = " ".join(map(str, self.addresses)) or "no address"
        errors = f", EDE {self.extended_errors}" if self.extended_errors else ""
        return f"{RCODES.get(self.rcode, self.rcode)}: {shown}{errors}"


def question(name, kind=A, identifier=None):
    """One question with EDNS, as bytes."""
    identifier = random.getrandbits(16) if identifier is None else identifier
    header = struct.pack("!6H", identifier, 0x0100, 1, 0, 0, 1)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    opt = b"\0" + struct.pack("!HHIH", OPT, 1232, 0, 0)
    return header + labels + b"\0" + struct.pack("!HH", kind, 1) + opt


def parse(message):
    """Reads what the checks need: code, truncation, addresses, extended errors."""
    _, flags, questions, answers, authorities, additionals = struct.unpack_from("!6H", message)
    result = Answer(rcode=flags & 15, truncated=bool(flags & 0x0200))
    at = 12
    for _ in range(questions):
        at = skip_name(message, at) + 4
    for index in range(answers + authorities + additionals):
        at = skip_name(message, at)
        kind, _, _, length = struct.unpack_from("!HHIH", message, at)
        data = message[at + 10 : at + 10 + length]
        at += 10 + length
        if index < answers and kind in (A, AAAA):
            result.addresses.append(ipaddress.ip_address(data))
        if kind == OPT:
            result.extended_errors += list(extended_errors(data))
    return result


def ask(namespace, server, name, kind=A, timeout=1.5, attempts=2):
    """Asks over UDP from `namespace`. None: no answer."""
    family = socket.AF_INET if ipaddress.ip_address(server).version == 4 else socket.AF_INET6
    with namespace.entered():
        asker = socket.socket(family, socket.SOCK_DGRAM)
    with asker:
        asker.settimeout(timeout)
        asker.connect((str(server), 53))
        for _ in range(attempts):
            try:
                asker.send(question(name, kind))
                return parse(asker.recv(4096))
            except OSError:
                continue
    return None


def skip_name(message, at):
    while message[at]:
        if message[at] >= 0xC0:
            return at + 2
        at += 1 + message[at]
    return at + 1


def extended_errors(options):
    at = 0
    while at + 4 <= len(options):
        code, length = struct.unpack_from("!HH", options, at)
        if code == OPTION_EXTENDED_ERROR:
            yield struct.unpack_from("!H", options, at + 4)[0]
        at += 4 + length
