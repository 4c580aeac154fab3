"""A STUN client (RFC 8489): asks a server how it sees a socket of ours. For sockets that go on to talk to others; how a NAT
behaves is for coturn's own tools to say."""

import ipaddress
import os
import struct

BINDING_REQUEST, BINDING_RESPONSE = 0x0001, 0x0101
MAGIC_COOKIE = 0x2112A442
XOR_MAPPED_ADDRESS = 0x0020


def mapped(sock, server, attempts=3):
    """The address and port that `server` sees, as sockets want them. The socket's timeout says how long one attempt waits."""
    transaction = os.urandom(12)
    for _ in range(attempts):
        sock.sendto(struct.pack("!HHI", BINDING_REQUEST, 0, MAGIC_COOKIE) + transaction, server)
        try:
            return parse(sock.recv(2048), transaction)
        except TimeoutError:
            continue
    raise TimeoutError(f"no answer of the STUN server {server}")


def parse(message, transaction):
    kind, length, _ = struct.unpack_from("!HHI", message)
    if kind != BINDING_RESPONSE or message[8:20] != transaction:
        raise OSError(f"no answer to this request: {message.hex()}")
    at = 20
    while at < 20 + length:
        attribute, size = struct.unpack_from("!HH", message, at)
        if attribute == XOR_MAPPED_ADDRESS:
            port, address = struct.unpack_from("!2xHI", message, at + 4)
            return str(ipaddress.ip_address(address ^ MAGIC_COOKIE)), port ^ MAGIC_COOKIE >> 16
        at += 4 + (size + 3) // 4 * 4
    raise OSError("no XOR-MAPPED-ADDRESS of IPv4 in the answer")
