"""A scenario, built: the IX in the middle, a site per realm, responders in every host.

```
   host ── gateway (wireguard-go) ────────┐                     198.51.100.0/24, a bridge in namespace `ix`,
   host ── gateway (strongSwan) ──────────┼── outer ── ixgate   stands for the carriers' networks and the Internet
   host ── gateway (strongSwan) ── NAT ───┘
                                              └── eth1 ══ the carrier's switch ── edge (a router) ── host
```

Namespaces: `ix`; one per realm, by its name (the gateway); one per host, HOST.REALM, unless the gateway itself holds the
host addresses; one per NAT, `nat.NAME`; two routers per narrow path, `near.MTU` and `far.MTU`; one per machine outside all
realms.
"""

import os
from pathlib import Path

from lab.lib import netns
from lab.lib.ixgate import Ixgate
from lab.lib.nat import Nat
from lab.lib.narrow import NarrowPath
from lab.lib.netns import Namespace, run
from lab.lib.port import EdgeSite, KernelSite, Switch, cable_ports
from lab.lib.report import progress
from lab.lib.responder import Responders
from lab.lib.site import IX_OUTER, WireGuardSite
from lab.lib.strongswan import Pki, StrongSwanSite
from lab.lib.wait import wait_until


class World:
    def __init__(self, scenario, directory, binary, long=False):
        self.scenario = scenario
        self.directory = directory
        self.binary = binary
        self.long = long  # the scenario's long form is wanted
        self.sites = []
        self.nats = {}  # by name
        self.outsiders = {}  # by name
        self.paths = {}  # by MTU
        self.switches = {}  # by interface
        self.pki = None
        self.ix = None
        self.ixgate = None
        self.responders = Responders()

    def up(self, prepare=None):
        """Everything, until all tunnels are up. `prepare(world)` runs when the outer network stands and nobody has spoken."""
        realms = self.scenario.realms
        progress(f"building {len(realms)} networks")
        self.ix = Namespace("ix")
        self.ix.ip("link add outer type bridge", "link set outer up", f"addr add {IX_OUTER}/24 dev outer")
        self.ix.sysctl("net.ipv4.ip_unprivileged_port_start", 0)  # ixgate has no capability, and IKE's port is 500
        self.ixgate = Ixgate(self.binary, self.ix, self.directory, self.scenario)
        if any(realm.ipsec for realm in realms):
            self.pki = Pki(self.directory, self.scenario.ix_key)

        for number, realm in enumerate(realms, start=1):
            site = self._make_site(realm, number)
            self.sites.append(site)
            site.cable_to(self)
            if realm.ports:
                cable_ports(site, self)
        if prepare:
            prepare(self)
        for site in self.sites:
            site.start()
        for site in self.sites:
            site.configure(self.ixgate)
            site.build_hosts()
            self._start_responders(site)

        self.ixgate.write_config(self.sites)
        self._resolve_by_the_ix()
        progress("starting ixgate")
        self.ixgate.start()
        expected = sum(realm.attachments() for realm in realms if realm.comes_up)
        seconds = self.ixgate.wait_for_tunnels(expected)
        progress(f"{expected} tunnels up after {seconds:.1f} s")

    def down(self):
        """Ends every program. The namespaces go with the sandbox."""
        if self.ixgate and self.ixgate.running():
            try:
                self.ixgate.terminate()
            except Exception:  # it hangs: the sandbox kills it
                pass
        for namespace in self.namespaces():
            namespace.stop()

    def switch(self, interface):
        """The carrier's switch at an interface of the IX, made when first asked for."""
        if interface not in self.switches:
            self.switches[interface] = Switch(self.ix, interface)
        return self.switches[interface]

    def nat(self, name):
        """A NAT on the outer network, made when first asked for."""
        if name not in self.nats:
            self.nats[name] = Nat(name, len(self.nats) + 1, self.ix)
        return self.nats[name]

    def outsider(self, name, *addresses):
        """A machine on the outer network that is in no realm."""
        port = f"out-{len(self.outsiders) + 1}"
        self.outsiders[name] = machine = Namespace(name)
        netns.veth(self.ix, port, machine, "outer")
        self.ix.ip(f"link set {port} master outer")
        machine.ip(*(f"addr add {a} dev outer" + (" nodad" if ":" in a else "") for a in addresses))
        return machine

    def send_one_by_one(self):
        """Offloaded runs look like one large packet on a virtual cable: from now on every outer datagram travels alone."""
        self.ix.ip("link set outer gso_max_segs 1", *(f"link set outer{site.number} gso_max_segs 1" for site in self.sites))

    def path(self, mtu_bytes):
        """A narrow path on the outer network, made when first asked for."""
        if mtu_bytes not in self.paths:
            self.paths[mtu_bytes] = NarrowPath(mtu_bytes, len(self.paths), self.ix)
        return self.paths[mtu_bytes]

    def site(self, realm_name):
        return next(s for s in self.sites if s.realm.name == realm_name)

    def host(self, label):
        """The namespace of HOST.REALM."""
        host, _, realm = label.partition(".")
        return self.site(realm).namespaces[host]

    def address(self, label, version=4):
        """The host's own address, as its own network knows it."""
        host, _, realm = label.partition(".")
        return self.site(realm).realm.host(host).address(version)

    def seen(self, label, version=4):
        """The address under which other realms see HOST.REALM by default, from `ixgate plan`."""
        host, _, realm = label.partition(".")
        return self.ixgate.alias(self.site(realm).realm, host, version)

    def seen_from(self, label, version, to):
        """The address under which TO sees HOST.REALM where that one speaks the IP version; None: it cannot be shown there."""
        target = version if self.address(to, version) else 10 - version
        address = self.address(label, version)
        return self.ixgate.shown(label.partition(".")[2], address, target) or (address if target == version == 6 else None)

    def labels(self):
        """HOST.REALM of every host."""
        return [f"{h.name}.{s.realm.name}" for s in self.sites for h in s.realm.hosts]

    def namespaces(self):
        found = {n.name: n for s in self.sites for n in [*s.namespaces.values(), s.gateway]}
        around = [*(nat.namespace for nat in self.nats.values()), *(router for path in self.paths.values() for router in (path.near, path.far))]
        around += [switch.namespace for switch in self.switches.values()]
        return [*found.values(), *around, *self.outsiders.values(), *([self.ix] if self.ix else [])]

    def spawn(self, label, argv, log_name, env=None):
        """Starts a program in a host."""
        return self.host(label).spawn(argv, self.directory / f"{label}.{log_name}.log", env)

    def wait_for_port(self, label, port, timeout=10):
        """Until a program in a host listens on a TCP or UDP port."""
        listens = lambda: f":{port} " in self.host(label).run(["ss", "-Hltun"]).stdout
        if wait_until(listens, timeout, pause=0.05) is None:
            raise RuntimeError(f"nothing listens on port {port} of {label}")

    def _make_site(self, realm, number):
        if realm.tun:
            return KernelSite(realm, number, self.directory, self.ix)
        if realm.ipsec:
            return StrongSwanSite(realm, number, self)
        return EdgeSite(realm, number, self.directory) if realm.ports else WireGuardSite(realm, number, self.directory)

    def _resolve_by_the_ix(self):
        """In the whole sandbox, names are resolved by the IX, as on a host that has it configured. The sandbox has a
        mount namespace and a /run of its own: nobody else sees this, and no resolver service on this machine is asked."""
        mine = Path("/run/lab.resolv.conf")
        servers = "".join(f"nameserver {self.ixgate.resolver(version)}\n" for version in (4, 6))
        mine.write_text(f"{servers}options timeout:2 attempts:2\n", encoding="ascii")
        target = Path(os.path.realpath("/etc/resolv.conf"))
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        run(["mount", "--bind", mine, target])

    def _start_responders(self, site):
        for host in (h for h in site.realm.hosts if h.on_lan):
            for version in (4, 6):
                if address := host.address(version):
                    label = f"{host.name}.{site.realm.name}"
                    self.responders.add(label, site.namespaces[host.name], address)
