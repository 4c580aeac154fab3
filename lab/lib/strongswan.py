"""A site whose gateway is strongSwan, with ESP in userspace (its plugin kernel-libipsec, over a TUN device).

Every gateway has its own charon, configuration, control socket and log. What strongSwan of this machine cannot do
(before 6.0: ML-KEM, IKE_INTERMEDIATE) is not tried against it.
"""

import re
import shutil
import subprocess

from lab.lib.site import IX_OUTER, REMOTE4, REMOTE6, Site, network_prefix, wait_for_file

IX_ID = "ix.lab"
DAEMON = "/usr/sbin/charon-systemd"  # needs no systemd, and keeps no PID file that others would share
PSK = "correct horse battery staple, 44 bytes long"
# Quick to notice and to try again: a lab should not wait for the defaults' minutes.
TIMES = {"retransmit_timeout": 0.5, "retransmit_base": 1.2, "retransmit_tries": 8}
DPD_DELAY = "2s"
CA_DN = "C=CH, O=ixgate lab, CN=lab CA"

PLUGINS = ("random nonce openssl kdf pem x509 pkcs1 pkcs8 pubkey revocation constraints "
           "kernel-libipsec kernel-netlink socket-default vici updown")


class StrongSwanSite(Site):
    def __init__(self, realm, number, world):
        super().__init__(realm, number, world.directory, "ipsec0")
        self.ipsec = realm.ipsec
        self.world = world
        self.home = world.directory / f"{realm.name}.strongswan"
        self.home.mkdir()
        self.socket = f"unix://{self.home}/vici"
        self.psk_file = world.directory / f"{realm.name}.psk"
        write_secret(self.psk_file, PSK + realm.name)
        if self.ipsec.auth != "psk":
            world.pki.issue(realm.name, self.identity(), self.ipsec.auth)

    def identity(self):
        return f"{self.realm.name}.lab"

    def cable_to(self, world):
        if self.ipsec.nat:
            nat = world.nat(self.ipsec.nat)
            self.outer = nat.take_in(self.gateway)
        else:
            super().cable_to(world)

    def attach(self):
        """The realm's `[[realm.attach]]` in ixgate's configuration."""
        words = {"remote_id": f"fqdn:{self.identity()}"}
        if self.realm.calls == "ix":
            words["remote"] = self.outer
        if self.ipsec.auth == "psk":
            words["psk_file"] = self.psk_file.name
        else:
            words["ca_file"] = "ca.crt"
        words.update(self.ipsec.ix)
        return "ipsec = { " + ", ".join(f"{k} = {toml(v)}" for k, v in words.items() if v is not None) + " }"

    def build_hosts(self):
        """They stand since `start`."""

    def start(self):
        if not self.realm.separate_hosts:
            raise RuntimeError("hosts of an IPsec site live behind its gateway")
        self.build_lan()  # first: charon's routes need the gateway's address there
        (self.home / "strongswan.conf").write_text(daemon_conf(self.home, self.log("charon"), self.ipsec.daemon), encoding="utf-8")
        self.start_daemon()

    def start_daemon(self):
        (self.home / "vici").unlink(missing_ok=True)
        self.daemon = self.gateway.spawn(
            [DAEMON], self.log("charon-start"), env={"STRONGSWAN_CONF": str(self.home / "strongswan.conf")}
        )
        wait_for_file(self.home / "vici", self.daemon, self.log("charon-start"))

    def kill_daemon(self):
        """Like a power cut."""
        self.daemon.kill()
        self.daemon.wait()

    def configure(self, _ixgate=None):
        """(Re)loads the connection; a gateway that calls begins at once."""
        (self.home / "swanctl.conf").write_text(self.swanctl_conf(), encoding="utf-8")
        if self.ipsec.auth != "psk":
            (self.home / "private").mkdir(exist_ok=True)  # where swanctl looks for keys
            shutil.copy2(self.world.pki.directory / f"{self.realm.name}.pem", self.home / "private")
        said = self.swanctl("--load-all", "--noprompt", "--clear", "--file", self.home / "swanctl.conf")
        if "successfully loaded 1 connections" not in said:
            raise RuntimeError(f"swanctl in {self.realm.name}: {said}")

    def swanctl(self, *words, timeout=20):
        """Its standard output; it may fail, as when a negotiation that it waits for fails."""
        return self.gateway.run(["swanctl", *words, "--uri", self.socket], timeout=timeout).stdout

    def how_to_show(self):
        return f"swanctl --list-sas --uri {self.socket}"

    def sas(self):
        return self.swanctl("--list-sas")

    def children(self):
        """Child SAs that are installed."""
        return len(re.findall(r"INSTALLED", self.sas()))

    def log_text(self):
        return self.log("charon").read_text(encoding="utf-8", errors="replace")

    def log_tail(self, lines=40):
        return "\n".join(self.log_text().splitlines()[-lines:])

    def swanctl_conf(self):
        ipsec, realm = self.ipsec, self.realm
        certs = ipsec.auth != "psk"
        auth = "pubkey" if certs else "psk"
        local_ts = ipsec.local_ts or [network_prefix(n) for n in realm.networks]
        remote_ts = ipsec.remote_ts or [REMOTE4, *([REMOTE6] if any(":" in n for n in local_ts) else []), *realm.routes]
        ix_id, own_id = ipsec.ix_id or IX_ID, ipsec.gateway_id or self.identity()
        child = {"local_ts": ",".join(local_ts), "remote_ts": ",".join(remote_ts), "esp_proposals": ipsec.esp,
                 "start_action": "start" if realm.calls == "gateway" else "none",
                 "close_action": "start" if realm.calls == "gateway" else "none",
                 "dpd_action": "restart" if realm.calls == "gateway" else "clear",
                 "rekey_time": "0s", **ipsec.child}
        connection = {"version": 2, "local_addrs": self.outer, "remote_addrs": IX_OUTER, "encap": "yes",
                      "proposals": ipsec.ike, "dpd_delay": DPD_DELAY, "keyingtries": 0, "unique": "replace",
                      "rekey_time": "0s", **ipsec.connection}
        local = {"auth": auth, "id": own_id, **({"certs": self.world.pki.directory / f"{realm.name}.crt"} if certs else {})}
        remote = {"auth": auth, "id": ix_id, **({"cacerts": self.world.pki.directory / "ca.crt"} if certs else {})}
        blocks = [*lines(connection), *block("local", local), *block("remote", remote),
                  *block("children", {}, block("net", child))]
        secret = ipsec.psk or self.psk_file.read_text(encoding="utf-8")
        secrets = [] if certs else block("ike-ix", {"secret": f'"{secret}"'})
        return "\n".join([*block("connections", {}, block("ix", {}, blocks)), *block("secrets", {}, secrets), ""])


class Pki:
    """A certificate authority for one run, by strongSwan's own `pki`."""

    KINDS = {"ecdsa": ["ecdsa", "--size", "256"], "ecdsa384": ["ecdsa", "--size", "384"],
             "rsa": ["rsa", "--size", "2048"], "rsa4096": ["rsa", "--size", "4096"], "ed25519": ["ed25519"]}

    def __init__(self, directory, ix_key):
        self.directory = directory
        self._generate("ca", "ecdsa")
        self._write("ca.crt", "--self", "--ca", "--in", "ca.pem", "--dn", CA_DN, "--lifetime", "60", "--outform", "pem")
        self.issue("ix", IX_ID, ix_key)

    def issue(self, name, identity, kind, *options, ca="ca", lifetime=30, dn=None):
        """`name`.pem and `name`.crt; further words for `pki --issue` in `options`."""
        self._generate(name, kind)
        own = ["rsa"] if kind.startswith("rsa") else ["ecdsa"] if kind.startswith("ecdsa") else ["ed25519"]
        self._write(f"{name}.crt", "--issue", "--cacert", f"{ca}.crt", "--cakey", f"{ca}.pem", "--type", "priv",
                    "--in", f"{name}.pem", "--dn", dn or f"C=CH, O={own[0]}, CN={identity}", "--san", identity,
                    *(["--lifetime", lifetime] if lifetime else []), "--outform", "pem", *options)

    def revoke(self, name, crl):
        """A list of the CA that revokes one certificate."""
        self._write(crl, "--signcrl", "--cacert", "ca.crt", "--cakey", "ca.pem", "--lifetime", "10",
                    "--reason", "key-compromise", "--cert", f"{name}.crt", "--outform", "pem")

    def authority(self, name):
        """A second CA, which nobody trusts."""
        self._generate(name, "ecdsa")
        self._write(f"{name}.crt", "--self", "--ca", "--in", f"{name}.pem", "--dn", f"C=CH, O=elsewhere, CN={name}",
                    "--lifetime", "60", "--outform", "pem")

    def _generate(self, name, kind):
        self._write(f"{name}.pem", "--gen", "--type", *self.KINDS[kind], "--outform", "pem", mode=0o600)

    def _write(self, file, *words, mode=0o644):
        done = subprocess.run(["pki", *map(str, words)], cwd=self.directory, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"pki {' '.join(map(str, words))}: {done.stderr.decode(errors='replace')}")
        (self.directory / file).write_bytes(done.stdout)
        (self.directory / file).chmod(mode)


def daemon_conf(home, log, more):
    times = "\n".join(f"  {key} = {value}" for key, value in {**TIMES, **more}.items())
    return f"""charon-systemd {{
  load = {PLUGINS}
{times}
  install_virtual_ip = no
  delete_rekeyed_delay = 5
  make_before_break = yes
  plugins {{
    vici {{
      socket = unix://{home}/vici
    }}
    kernel-libipsec {{
      allow_peer_ts = yes
    }}
  }}
  journal {{
    default = -1
  }}
  filelog {{
    lab {{
      path = {log}
      default = 1
      ike = 2
      enc = 1
      flush_line = yes
      time_format = %T
    }}
  }}
}}
"""


def block(name, words, inner=()):
    return [f"{name} {{", *("  " + line for line in [*lines(words), *inner]), "}"]


def lines(words):
    return [f"{key} = {value}" for key, value in words.items() if value is not None]


def toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else f'"{value}"'


def write_secret(path, text):
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)


def version():
    """strongSwan's version, as (major, minor, patch)."""
    said = subprocess.run(["pki", "--help"], capture_output=True, text=True, check=False)
    found = re.search(r"strongSwan (\d+)\.(\d+)\.(\d+)", said.stdout + said.stderr)
    return tuple(map(int, found.groups())) if found else (0, 0, 0)
