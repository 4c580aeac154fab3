"""A bad outer path: a UDP relay that loses and reorders datagrams, in both directions.

    relay.py LISTEN_PORT UPSTREAM_ADDRESS UPSTREAM_PORT [--loss PERCENT] [--reorder PERCENT] [--seed N]

It stands between a gateway and the IX: wireguard-go sends to 127.0.0.1:LISTEN_PORT, the relay sends on to the IX, and
answers go the same way back. A lost datagram is thrown away; a reordered one is held until three to eight later ones
of its direction have passed (or 5 ms). The kernel's netem does the same where it exists, but it is often not built in and
sees offloaded runs of up to 64 KB as one packet; here every datagram is judged alone, from a seed.
On SIGTERM it prints its counts as JSON.
"""

import argparse
import json
import random
import select
import signal
import socket
import time

HOLD_SECS = 0.005
BATCH = 64


class Direction:
    def __init__(self, source, send, options):
        self.source = source
        self.send = send
        self.loss = options.loss / 100
        self.reorder = options.reorder / 100
        self.random = random.Random(options.seed)
        self.held = []  # (datagrams still to let pass, latest time, datagram)
        self.counts = {"passed": 0, "lost": 0, "reordered": 0}

    def pump(self, note_sender):
        for _ in range(BATCH):
            try:
                datagram, sender = self.source.recvfrom(65535)
            except (BlockingIOError, ConnectionRefusedError):
                return
            note_sender(sender)
            self.judge(datagram)

    def judge(self, datagram):
        dice = self.random.random()
        if dice < self.loss:
            self.counts["lost"] += 1
            return
        if dice < self.loss + self.reorder:
            self.counts["reordered"] += 1
            self.held.append([self.random.randint(3, 8), time.monotonic() + HOLD_SECS, datagram])
            return
        self.emit(datagram)
        if self.held:
            self.release(passed=1)

    def release(self, passed):
        now = time.monotonic()
        keep = []
        for entry in self.held:
            entry[0] -= passed
            if entry[0] <= 0 or now >= entry[1]:
                self.emit(entry[2])
            else:
                keep.append(entry)
        self.held = keep

    def emit(self, datagram):
        try:
            self.send(datagram)
            self.counts["passed"] += 1
        except OSError:
            self.counts["lost"] += 1  # the kernel's queue is full, or nobody listens: lost like any other


def main():
    parser = argparse.ArgumentParser(description="a lossy, reordering UDP relay")
    parser.add_argument("listen_port", type=int)
    parser.add_argument("upstream")
    parser.add_argument("upstream_port", type=int)
    parser.add_argument("--loss", type=float, default=0.0)
    parser.add_argument("--reorder", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    gateway = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    gateway.bind(("127.0.0.1", options.listen_port))
    ix = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ix.connect((options.upstream, options.upstream_port))
    for sock in (gateway, ix):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

    gateway_at = [None]

    def note_gateway(sender):
        gateway_at[0] = sender

    def to_gateway(datagram):
        if gateway_at[0]:
            gateway.sendto(datagram, gateway_at[0])

    up = Direction(gateway, ix.send, options)
    down = Direction(ix, to_gateway, options)
    running = [True]
    signal.signal(signal.SIGTERM, lambda *_: running.clear())
    while running:
        wait = HOLD_SECS if up.held or down.held else 0.5
        ready, _, _ = select.select([gateway, ix], [], [], wait)
        if gateway in ready:
            up.pump(note_gateway)
        if ix in ready:
            down.pump(lambda _: None)
        up.release(passed=0)
        down.release(passed=0)
    print(json.dumps({"up": up.counts, "down": down.counts}), flush=True)


if __name__ == "__main__":
    main()
