"""Name servers written by others: unbound and BIND's named, each with its own files in the run's directory."""

import shutil
import signal
import time

from lab.lib import probe

READY_SECS = 10


class NameServer:
    """One program that answers on port 53 of `address`."""

    def __init__(self, namespace, argv, log, address):
        self.namespace, self.argv, self.log, self.address = namespace, argv, log, address
        self.process = None
        self.start()

    def start(self):
        """Returns when it answers; with what does not matter."""
        self.process = self.namespace.spawn(self.argv, self.log)
        deadline = time.monotonic() + READY_SECS
        while probe.dig(self.namespace, self.address, "ready.invalid", "A", "+tries=1", "+time=1").status == probe.SILENCE:
            if self.process.poll() is not None or time.monotonic() > deadline:
                words = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise RuntimeError(f"{self.argv[0]} on {self.address} does not answer: {words}")
            time.sleep(0.05)

    def kill(self):
        """Like a power cut."""
        self.process.kill()
        self.process.wait()

    def freeze(self):
        """It keeps its port and says nothing: no answer, and no ICMP error either."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def log_text(self):
        return self.log.read_text(encoding="utf-8", errors="replace")


def copy_of(program, directory):
    """AppArmor keeps the packages' servers, by their paths, to the folders of the packages."""
    copy = directory / program
    if not copy.exists():
        shutil.copy2(shutil.which(program), copy)
    return copy


def unbound(namespace, directory, name, addresses, server, clauses=()):
    """Answers from local data, alone: `server` are further lines of that clause, `clauses` whole further ones."""
    config, log = directory / f"{name}.unbound.conf", directory / f"{name}.unbound.log"
    lines = [
        "server:", *(f"  interface: {address}" for address in addresses),
        "  access-control: 0.0.0.0/0 allow", "  access-control: ::/0 allow", "  do-daemonize: no", "  use-syslog: no",
        '  chroot: ""', '  username: ""', '  pidfile: ""', f'  directory: "{directory}"', "  num-threads: 1",
        *(f"  {line}" for line in server), *clauses, "remote-control:", "  control-enable: no", "",
    ]
    config.write_text("\n".join(lines), encoding="ascii")
    argv = [copy_of("unbound", directory), "-d", "-p", "-c", config]
    return NameServer(namespace, argv, log, addresses[0].partition("@")[0])


def named(namespace, directory, name, address, zones):
    """Authoritative, on an IPv4 address: `zones` maps a zone's name to the text of its file."""
    home = directory / f"{name}.named"
    home.mkdir()
    out = [
        f'options {{ directory "{home}"; pid-file none; session-keyfile none; managed-keys-directory ".";',
        f"  listen-on {{ {address}; }}; listen-on-v6 {{ none; }}; recursion no; allow-query {{ any; }};",
        "  minimal-responses yes; dnssec-validation no; };", "controls { };",
    ]
    for zone, text in zones.items():
        (home / f"{zone}.zone").write_text(text, encoding="ascii")
        out.append(f'zone "{zone}" {{ type primary; file "{zone}.zone"; }};')
    config = home / "named.conf"
    config.write_text("\n".join([*out, ""]), encoding="ascii")
    argv = [copy_of("named", directory), "-f", "-g", "-c", config, "-n", "1"]
    return NameServer(namespace, argv, home / "log", address)
