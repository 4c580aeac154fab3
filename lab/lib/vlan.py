"""VLAN tags on kernels without VLAN devices: programs for the kernel's traffic control (eBPF, `tc … bpf da`), put together here.

Many small kernels (in virtual machines, in containers) have neither `ip link add type vlan` nor bridges that filter VLANs. What
they do have are the helpers that push and pop a tag, so the lab's switch is made of these: what comes in by an access port gets
its tags and leaves by the trunk; what comes in by the trunk loses its tags and leaves by the access port that they name.
"""

import ctypes
import os
import platform
import struct
from pathlib import Path

from lab.lib.netns import run
from lab.lib.plan import Tags

CUSTOMER, SERVICE = 0x8100, 0x88A8  # 802.1Q, 802.1ad
TC_ACT_SHOT = 2
BPF_FILE_SYSTEM = Path("/run/lab-bpf")

# linux/bpf.h: commands, program type, helpers, fields of struct __sk_buff.
PROG_LOAD, OBJ_PIN, SCHED_CLS = 5, 6, 3
VLAN_PUSH, VLAN_POP, REDIRECT = 18, 19, 23
VLAN_PRESENT, VLAN_TCI, VLAN_PROTO = 20, 24, 28
SYSCALL = {"x86_64": 321, "aarch64": 280}
VLAN_ID_MASK = 0xFFF

libc = ctypes.CDLL(None, use_errno=True)


class Program:
    """Instructions of an eBPF program, and jumps by label."""

    def __init__(self):
        self.code = []  # (opcode, registers, label or offset, immediate)
        self.labels = {}
        self._emit(0xBF, 6, 1)  # r6 = the packet, for as long as the program runs

    def label(self, name):
        self.labels[name] = len(self.code)

    def load(self, register, field):
        self._emit(0x61, register, 6, field)

    def mask(self, register, bits):
        self._emit(0x57, register, immediate=bits)

    def unless_equal(self, register, value, label):
        self._emit(0x55, register, offset=label, immediate=value)

    def push(self, protocol, vlan):
        self._call(VLAN_PUSH, socket_order(protocol), vlan)

    def pop(self):
        self._call(VLAN_POP)

    def redirect(self, interface):
        """To the egress of an interface of the same namespace; the program's end."""
        self._emit(0xB7, 1, immediate=interface)
        self._emit(0xB7, 2, immediate=0)
        self._emit(0x85, immediate=REDIRECT)
        self._emit(0x95)

    def drop(self):
        self._emit(0xB7, 0, immediate=TC_ACT_SHOT)
        self._emit(0x95)

    def pinned(self, name):
        """Loads it into the kernel; the file that stands for it."""
        code = b"".join(self._encoded(index, *parts) for index, parts in enumerate(self.code))
        instructions, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"MIT")
        words = ctypes.create_string_buffer(1 << 16)
        attributes = struct.pack("=IIQQIIQ", SCHED_CLS, len(code) // 8, ctypes.addressof(instructions),
                                 ctypes.addressof(licence), 1, len(words), ctypes.addressof(words))
        program = bpf(PROG_LOAD, attributes.ljust(128, b"\0"), words)
        if not BPF_FILE_SYSTEM.is_mount():
            BPF_FILE_SYSTEM.mkdir(exist_ok=True)
            run(["mount", "-t", "bpf", "bpf", BPF_FILE_SYSTEM])
        path = BPF_FILE_SYSTEM / name
        at = ctypes.create_string_buffer(os.fsencode(path))
        bpf(OBJ_PIN, struct.pack("=QI", ctypes.addressof(at), program).ljust(128, b"\0"))
        os.close(program)
        return path

    def _call(self, helper, *arguments):
        self._emit(0xBF, 1, 6)
        for register, value in enumerate(arguments, start=2):
            self._emit(0xB7, register, immediate=value)
        self._emit(0x85, immediate=helper)

    def _emit(self, opcode, destination=0, source=0, offset=0, immediate=0):
        self.code.append((opcode, source << 4 | destination, offset, immediate))

    def _encoded(self, index, opcode, registers, offset, immediate):
        if isinstance(offset, str):
            offset = self.labels[offset] - index - 1
        return struct.pack("=BBhi", opcode, registers, offset, immediate)


def access(tags, trunk):
    """What an access port does with a frame that comes in: tags, and out by the trunk."""
    program = Program()
    if tags.customer is not None:
        program.push(CUSTOMER, tags.customer)
    if tags.service is not None:
        program.push(SERVICE, tags.service)
    program.redirect(trunk)
    return program


def trunk(ports):
    """What the trunk does with a frame that comes in: `ports` are access ports' interfaces by their tags. No port: dropped."""
    program = Program()
    for number, (tags, interface) in enumerate(ports.items()):
        if tags.service is None:
            match(program, tags, f"next{number}")
            program.redirect(interface)
            program.label(f"next{number}")
    for service in sorted({tags.service for tags in ports if tags.service is not None}):
        outer = f"service{service}"
        program.load(7, VLAN_PROTO)
        program.unless_equal(7, socket_order(SERVICE), outer)
        match_id(program, service, outer)
        program.pop()
        for tags, interface in ports.items():
            if tags.service == service:
                inner = f"{outer}.{tags.customer}"
                match(program, Tags(tags.customer), inner)
                program.redirect(interface)
                program.label(inner)
        program.drop()
        program.label(outer)
    program.drop()
    return program


def match(program, tags, otherwise):
    """Goes on where the frame has exactly this outer tag (and takes it off), or none."""
    if tags.customer is None:
        program.load(7, VLAN_PRESENT)
        program.unless_equal(7, 0, otherwise)
        return
    program.load(7, VLAN_PROTO)
    program.unless_equal(7, socket_order(CUSTOMER), otherwise)
    match_id(program, tags.customer, otherwise)
    program.pop()


def match_id(program, vlan, otherwise):
    program.load(7, VLAN_PRESENT)
    program.unless_equal(7, 1, otherwise)
    program.load(7, VLAN_TCI)
    program.mask(7, VLAN_ID_MASK)
    program.unless_equal(7, vlan, otherwise)


def why_not():
    """In words, why tags cannot be had here; None when they can. Tries it."""
    try:
        trunk({Tags(1): 1}).pinned("trial").unlink()
    except RuntimeError as error:
        return str(error)
    return None


def attach(namespace, interface, program):
    """Every frame that comes in by the interface goes through the program."""
    path = program.pinned(f"{namespace.name}.{interface}".replace(".", "-"))
    # Another program replaces the one that was there.
    namespace.run(["tc", "qdisc", "add", "dev", interface, "clsact"])
    done = namespace.run(["tc", "filter", "replace", "dev", interface, "ingress", "prio", "1", "handle", "1", "bpf", "da",
                          "object-pinned", path])
    path.unlink()
    if done.returncode != 0:
        raise RuntimeError(f"tc in {namespace.name}: {done.stdout.strip()}")


def bpf(command, attributes, words=None):
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    number = SYSCALL.get(platform.machine())
    result = libc.syscall(number, command, buffer, len(attributes)) if number else -1
    if result < 0:
        reason = os.strerror(ctypes.get_errno()) if number else f"no system call number for {platform.machine()}"
        said = words.value.decode(errors="replace")[-2000:] if words else ""
        raise RuntimeError(f"VLAN tags by eBPF do not work here: {reason} {said}".strip())
    return result


def socket_order(protocol):
    """As the kernel keeps it: network byte order in a native integer."""
    return struct.unpack("=H", struct.pack("!H", protocol))[0]
