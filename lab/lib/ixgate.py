"""The appliance under test: writes its configuration, runs it, kills it, reads what it says about itself."""

import json
import os
import shutil
import signal
import subprocess
import time
from ipaddress import ip_address, ip_network
from pathlib import Path

from lab.lib import probe
from lab.lib.netns import run
from lab.lib.plan import DOMAIN, same_place
from lab.lib.site import IX_OUTER, IX_PORT
from lab.lib.strongswan import IX_ID

METRICS_PORT = 9469
PROC = Path("/run/lab-proc")


def by_name(file):
    """Lines of "Name: value"."""
    lines = file.read_text(encoding="ascii").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


class Ixgate:
    def __init__(self, binary, namespace, directory, scenario):
        self.namespace = namespace
        self.directory = directory
        self.scenario = scenario
        # A copy: the lab runs it without capabilities, and then not even root may look into another's home.
        self.binary = directory / "ixgate"
        shutil.copy2(binary, self.binary)
        self.config = directory / "ixgate.toml"
        self.log_file = directory / "ixgate.log"
        self.socket = directory / "state" / "ixgate.sock"
        self.process = None
        self.environment = {}  # of its process, beyond the lab's own
        self._plan = None
        self.key_file = directory / "wireguard.key"
        self.call("keygen", "wireguard", "--out", self.key_file)
        self.public_key = self.call("keygen", "wireguard", "--public", self.key_file).strip()

    def call(self, *arguments):
        """Runs a subcommand that must succeed; its standard output."""
        done = subprocess.run([self.binary, *map(str, arguments)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            words = (done.stdout + done.stderr).strip()
            raise RuntimeError(f"`ixgate {' '.join(map(str, arguments))}` ended with {done.returncode}:\n{words}")
        return done.stdout

    def write_config(self, sites):
        self.config.write_text(toml(self.scenario, sites, self.key_file.name), encoding="utf-8")
        self.call("check", self.config)

    def start(self):
        """Starts it with every capability taken away: nothing that it does may need one, but for the opening of ports."""
        ports = ",+net_raw,+net_admin" if any(realm.ports for realm in self.scenario.realms) else ""
        ports += ",+bpf" if "af_xdp" in self.scenario.more else ""
        ports += ",+net_admin,+bpf" if "[gate]" in self.scenario.more else ""
        ports += ",+net_raw,+net_admin" if "[uplink]" in self.scenario.more else ""
        # To open what is in a routing daemon's namespace.
        ports += ",+sys_admin" if any(realm.routes_from for realm in self.scenario.realms) else ""
        argv = ["setpriv", f"--bounding-set=-all{ports}", "--inh-caps=-all", self.binary, "run", self.config]
        self.process = self.namespace.spawn(argv, self.log_file, self.environment)
        self._await("answers on its socket", lambda: self.socket.exists() and self.try_status() is not None, 30)

    def reload(self, sites):
        """Writes the configuration anew from the scenario, and has it read; returns when it is in force."""
        before = self.status()["generation"]
        self.write_config(sites)
        self.forget_plan()
        self.process.send_signal(signal.SIGHUP)
        self._await("the new configuration", lambda: self.status()["generation"] > before, 5)

    def kill(self):
        """Like a power cut: kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self, timeout=10):
        """SIGTERM; its exit code after draining."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=timeout)

    def running(self):
        return self.process is not None and self.process.poll() is None

    # What it says.

    def status(self):
        return json.loads(self.call("status", "--json", "--api", f"unix:{self.socket}"))

    def mtus(self):
        """What `ixgate status --mtu --json` says of every tunnel, by realm."""
        said = json.loads(self.call("status", "--mtu", "--json", "--api", f"unix:{self.socket}"))
        return {tunnel["realm"]: tunnel["mtu"] for tunnel in said["tunnels"]}

    def status_text(self):
        return self.call("status", "--api", f"unix:{self.socket}")

    def process_status(self):
        """What the kernel says of the process: /proc/PID/status, by name."""
        return by_name(self._proc() / "status")

    def thread_status(self):
        """The same of each of its threads."""
        return [by_name(thread / "status") for thread in (self._proc() / "task").iterdir()]

    def _proc(self):
        # The /proc of this machine knows it by another number.
        if not PROC.is_mount():
            PROC.mkdir(exist_ok=True)
            run(["mount", "-t", "proc", "proc", PROC])
        return PROC / str(self.process.pid)

    def metrics(self):
        """As Prometheus reads them."""
        return probe.fetch(self.namespace, "127.0.0.1", METRICS_PORT, "/metrics").body.decode()

    def try_status(self):
        try:
            return self.status()
        except (RuntimeError, ValueError):
            return None

    def tunnels_up(self):
        """How many tunnels have keys."""
        realms = (self.try_status() or {}).get("realms", [])
        return sum(tunnel["up"] for realm in realms for tunnel in realm["tunnels"])

    def failures(self, realm_name):
        """What `ixgate status REALM` says in words, with the kept failures."""
        return self.call("status", realm_name, "--api", f"unix:{self.socket}")

    def drops(self, reason):
        """Packets dropped for `reason`, by a DropReason's name, in all realms."""
        return self.all_drops().get(reason, 0)

    def all_drops(self):
        """Packets by reason, of all realms and of no realm."""
        status = self.status()
        sums = {}
        for drops in [status["unattributed_drops"], *(realm["drops"] for realm in status["realms"])]:
            for drop in drops:
                sums[drop["reason"]] = sums.get(drop["reason"], 0) + drop["count"]
        return sums

    def balanced(self):
        """In = out + drops, by its own account."""
        return self.status()["totals"]["balanced"]

    def plan(self):
        if self._plan is None:
            self._plan = json.loads(self.call("plan", "--json", self.config))
        return self._plan

    def forget_plan(self):
        self._plan = None

    def alias(self, realm, host, version=4):
        """Under which address others see a host by default."""
        own = realm.host(host)
        address = own.address(version) or own.address(10 - version)
        if alias := self.shown(realm.name, address, version):
            return alias
        if version == 6:
            return address  # unique: its own canonical form
        raise RuntimeError(f"`ixgate plan` shows no alias for {host}.{realm.name}")

    def shown(self, realm_name, address, version):
        """Under which address who speaks that IP version sees an address of a realm by default; None: it has none."""
        key = "alias" if version == 4 else "canonical"
        places = [(ip_network(n["network"]), ip_network(n[key])) for n in self.plan()["networks"]
                  if n["realm"] == realm_name and n[key]]
        # Of a host and the network that it is in, the host's own place counts.
        native, there = max((p for p in places if ip_address(address) in p[0]), key=lambda p: p[0].prefixlen, default=(None, None))
        return there and same_place(native, there, address)

    def resolver(self, version=4):
        """The address of the IX's DNS inside the realms."""
        return self._service("dns", version)

    def gateway(self, version=4):
        """The address from which the IX's own ICMP errors come."""
        return self._service("gateway", version)

    def _service(self, name, version):
        service = next(s for s in self.plan()["services"] if s["name"] == name)
        return service["address"] if version == 4 else service["canonical"]

    def wait_for_tunnels(self, count, timeout=30):
        """Seconds until `count` tunnels are up."""
        return self._await(f"{count} tunnels up", lambda: self.tunnels_up() >= count, timeout)

    def log_tail(self, lines=25):
        if not self.log_file.exists():
            return ""
        return "\n".join(self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def _await(self, what, holds, timeout):
        began = time.monotonic()
        while not holds():
            if not self.running():
                raise RuntimeError(f"ixgate ended with {self.process.returncode}:\n{self.log_tail()}")
            if time.monotonic() - began > timeout:
                raise RuntimeError(f"ixgate: not within {timeout} s: {what}\n{self.log_tail()}")
            time.sleep(0.05)
        return time.monotonic() - began


def toml(scenario, sites, key_file):
    """The configuration file of a scenario."""
    everywhere = scenario.listens_everywhere
    out = [
        "[ix]", 'name = "ix-lab"', f'domain = "{DOMAIN}"', "",
        "[metrics]", f'listen = "127.0.0.1:{METRICS_PORT}"', "",
        "[wireguard]", f'listen = "{"[::]" if everywhere else IX_OUTER}:{IX_PORT}"', f'private_key_file = "{key_file}"', "",
    ]
    if any(site.realm.ipsec for site in sites):
        out += ["[ike]", f'listen = "{"::" if everywhere else IX_OUTER}"', f'local_id = "fqdn:{IX_ID}"']
        if any(site.realm.ipsec and site.realm.ipsec.auth != "psk" for site in sites):
            out += ['certificate_file = "ix.crt"', 'private_key_file = "ix.pem"']
        out += [""]
    for site in sites:
        realm = site.realm
        networks = ", ".join(map(toml_value, realm.networks))
        out += [
            "[[realm]]", f'name = "{realm.name}"', f"networks = [{networks}]",
            *([f"show_as = {toml_value(realm.show_as)}"] if realm.show_as else []),
            *([f"dns = {toml_value(realm.dns)}"] if realm.dns else []),
            *([f"routes_from = {toml_value(realm.routes_from)}"] if realm.routes_from else []),
            *attachments(site), "",
        ]
        for host in (h for h in realm.hosts if h.named):
            addresses = [str(host.address(v)) for v in (4, 6) if host.address(v)]
            out += ["[[host]]", f'name = "{host.name}"', f'realm = "{realm.name}"',
                    f"address = {json.dumps(addresses)}", ""]
    for service in scenario.services:
        out += ["[[service]]", f'name = "{service.name}"', f'host = "{service.host}"',
                f"ports = {json.dumps(service.ports)}", ""]
    for grant in scenario.grants:
        ports = [f"ports = {json.dumps(grant.ports)}"] if grant.ports else []
        out += ["[[grant]]", f"from = {json.dumps(grant.frm)}", f"to = {json.dumps(grant.to)}", *ports, ""]
    threads = os.environ.get("IXGATE_THREADS")
    workers = ["[workers]", f"threads = {int(threads)}", ""] if threads and "[workers]" not in scenario.more else []
    return "\n".join([*out, *workers, scenario.more])


def attachments(site):
    """Every `[[realm.attach]]` of a realm."""
    realm, out = site.realm, []
    for port in realm.ports:
        words = {"interface": port.interface, "vlan": port.vlan, "service_vlan": port.service_vlan, "address": port.address,
                 "gateway": None if port.accept_ra else port.gateway or None, "accept_ra": port.accept_ra or None, **port.more}
        table = toml_value({key: value for key, value in words.items() if value is not None})
        out += ["[[realm.attach]]", *preference(port), f"port = {table}"]
    if tunnel := site.attach():
        mtu = [f"mtu_bytes = {realm.mtu_bytes}"] if realm.mtu_bytes else []
        out += ["[[realm.attach]]", *preference(realm), tunnel, *mtu]
    return out


def preference(attachment):
    words = (("priority", attachment.priority), ("weight", attachment.weight))
    return [f"{key} = {value}" for key, value in words if value is not None]


def toml_value(value):
    """A value as TOML: a dictionary is an inline table; the rest is written as in JSON."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(value)
