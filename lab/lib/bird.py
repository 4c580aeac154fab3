"""A routing daemon, BIRD, in a namespace: BFD with the IX, and routes that follow it."""

import shutil

from lab.lib.site import REMOTE4, REMOTE6, wait_for_file


class Bird:
    """`name` makes its files; `config` is what its configuration has beside the log."""

    def __init__(self, namespace, directory, config, name=None):
        self.namespace = namespace
        home = directory / f"{name or namespace.name}.bird"
        home.mkdir()
        self.socket, self.config, self.log = home / "control", home / "bird.conf", home / "log"
        self.config.write_text(f'log "{self.log}" all;\n{config}', encoding="utf-8")
        self.process = namespace.spawn([shutil.which("bird"), "-f", "-c", self.config, "-s", self.socket, "-P", home / "pid"], self.log)
        wait_for_file(self.socket, self.process, self.log)

    def ask(self, *words):
        """What `birdc` says."""
        return self.namespace.run(["birdc", "-s", self.socket, *words]).stdout

    def sessions(self):
        """BFD state by neighbour."""
        rows = (line.split() for line in self.ask("show", "bfd", "sessions").splitlines())
        return {row[0]: row[2] for row in rows if len(row) >= 6 and row[2] in ("Up", "Down", "Init", "AdminDown")}


def bfd_routes(router_id, hops, interval_ms, multiplier, passive="none"):
    """A configuration: what is behind the IX goes to the first next hop of `hops` (lists by IP version) whose BFD session is up.
    On the interfaces `passive` BIRD does not speak first."""
    times = f"interval {interval_ms} ms; multiplier {multiplier};"
    out = [f"router id {router_id};", "protocol device { scan time 1; }",
           f'protocol bfd {{ interface "{passive}" {{ {times} passive; }}; interface "*" {{ {times} }}; }}']
    for version, remote in ((4, REMOTE4), (6, REMOTE6)):
        if not hops.get(version):
            continue
        out += [f"protocol kernel kernel{version} {{ ipv{version} {{ import none; export all; }}; }}"]
        for number, hop in enumerate(hops[version]):
            out += [f"protocol static way{version}_{number} {{ ipv{version} {{ preference {200 - number}; }}; "
                    f"route {remote} via {hop} bfd; }}"]
    return "\n".join(out) + "\n"
