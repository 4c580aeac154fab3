"""Many questions a second, by dnsperf: what came of them, and what they cost whoever answered."""

import re
import time
from dataclasses import dataclass, field


@dataclass
class Load:
    """What dnsperf counted."""

    sent: int = 0
    completed: int = 0
    lost: int = 0
    # Datagrams for which sockets of the peers' machines had no room: the asker's, and those that were named.
    overflows: int = 0
    codes: dict = field(default_factory=dict)
    per_sec: float = 0.0
    average_ms: float = 0.0
    longest_ms: float = 0.0
    text: str = ""

    def __str__(self):
        codes = ", ".join(f"{code} {count:,}" for code, count in self.codes.items())
        return (f"{self.completed:,} answers of {self.sent:,}, {self.lost} lost ({self.overflows} by the peers' full sockets), "
                f"{self.per_sec:,.0f}/s, latency {self.average_ms:.1f} ms on average, {self.longest_ms:.0f} ms at most; {codes}")


def write_queries(path, queries):
    """`queries`: pairs of name and type."""
    path.write_text("".join(f"{name} {kind}\n" for name, kind in queries), encoding="ascii")
    return path


def run(namespace, server, queries, *options, peers=(), timeout=180):
    """Asks `server` all that stands in the file `queries`, with EDNS. `peers`: further machines whose sockets may fill up."""
    argv = ["dnsperf", "-s", str(server), "-d", queries, "-e", "-W", *options]
    before = overflows(namespace, *peers)
    text = namespace.run(argv, timeout).stdout
    load = Load(text=text, overflows=overflows(namespace, *peers) - before)
    for attribute, pattern, kind in (
        ("sent", r"Queries sent: +(\d+)", int),
        ("completed", r"Queries completed: +(\d+)", int),
        ("lost", r"Queries lost: +(\d+)", int),
        ("per_sec", r"Queries per second: +([\d.]+)", float),
        ("average_ms", r"Average Latency \(s\): +([\d.]+)", lambda word: float(word) * 1000),
        ("longest_ms", r"Average Latency .*max ([\d.]+)", lambda word: float(word) * 1000),
    ):
        found = re.search(pattern, text)
        if found is None:
            raise RuntimeError(f"dnsperf did not say `{pattern}`: {text[-1500:]}")
        setattr(load, attribute, kind(found.group(1)))
    codes = re.search(r"Response codes: +(.*)", text)
    load.codes = {code: int(count) for code, count in re.findall(r"(\w+) (\d+) \(", codes.group(1))} if codes else {}
    return load


def overflows(*namespaces):
    """UDP datagrams that came and found their socket full, since the namespaces were made."""
    total = 0
    for namespace in namespaces:
        lines = namespace.run(["cat", "/proc/net/snmp"]).stdout.splitlines()
        names, values = (line.split() for line in lines if line.startswith("Udp:"))
        total += int(dict(zip(names, values))["RcvbufErrors"])
    return total


def cpu_seconds(process):
    """Processor time of all its threads, in user space and in the kernel: its CPU-time clock (clock_getcpuclockid(3))."""
    return time.clock_gettime(~process.pid << 3 | 2)
