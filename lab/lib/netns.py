"""Network namespaces: make one, configure it, run programs and open sockets in it.

Everything here happens inside the sandbox (sandbox.py), which has its own /run: names need no prefix, and nothing has
to be deleted one by one.
"""

import contextlib
import ctypes
import json
import os
import socket
import subprocess

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """One network namespace, reachable by `ip netns` and from this process."""

    def __init__(self, name):
        self.name = name
        self.processes = []
        run(["ip", "netns", "add", name])
        self.ip("link set lo up")

    def ip(self, *commands):
        """Runs `ip` commands, one a line, in one process."""
        run(["ip", "-n", self.name, "-batch", "-"], input="\n".join(commands) + "\n")

    def argv(self, argv):
        """The command line that runs `argv` in this namespace. nsenter replaces itself, so the PID is the program's."""
        return ["nsenter", f"--net=/run/netns/{self.name}", "--", *map(str, argv)]

    def run(self, argv, timeout=10):
        """Runs a program to its end; the result carries returncode and stdout with stderr."""
        try:
            return subprocess.run(
                self.argv(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, timeout=timeout, check=False,
            )
        except subprocess.TimeoutExpired as late:
            output = (late.stdout or b"").decode(errors="replace")
            return subprocess.CompletedProcess(argv, 124, stdout=f"{output}(no end within {timeout} s)")

    def spawn(self, argv, log, env=None):
        """Starts a program; it writes to the file `log`."""
        with open(log, "ab") as out:
            process = subprocess.Popen(
                self.argv(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **(env or {})},
            )
        self.processes.append(process)
        return process

    def nft(self, rules, *options):
        """Runs nftables commands, separated by semicolons, that must succeed; what they print."""
        done = self.run(["nft", *options, rules])
        if done.returncode != 0:
            raise RuntimeError(f"nft in {self.name}: {done.stdout.strip()}")
        return done.stdout

    def nft_counters(self, table):
        """Packets by the name of the counter."""
        said = json.loads(self.nft(f"list counters table {table}", "-j"))
        return {entry["counter"]["name"]: entry["counter"]["packets"] for entry in said["nftables"] if "counter" in entry}

    def sysctl(self, key, value):
        with self.entered(), open("/proc/sys/" + key.replace(".", "/"), "w", encoding="ascii") as knob:
            knob.write(str(value))

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is in this namespace; a socket opened here stays in it for life."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(there)
            yield
        finally:
            setns(home)
            os.close(there)
            os.close(home)

    def stop(self):
        """Ends what was started here, politely first."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()


def veth(a, name_a, b, name_b):
    """A cable between two namespaces."""
    a.ip(f"link add {name_a} type veth peer name {name_b} netns {b.name}", f"link set {name_a} up")
    b.ip(f"link set {name_b} up")


def mac(namespace, interface):
    """An interface's Ethernet address."""
    with namespace.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((interface, 0))
        return sock.getsockname()[4].hex(":")


def run(argv, input=None):
    """Runs a program that must succeed; its own words are in the error when it does not."""
    done = subprocess.run([*map(str, argv)], input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(map(str, argv))}` failed: {done.stdout.strip()}\n{input or ''}".rstrip())
    return done.stdout


def setns(descriptor):
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns into a network namespace")
