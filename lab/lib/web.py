"""HTTPS with real programs: nginx with TLS 1.3, a CA of the run by openssl, and curl, which believes that CA alone."""

import os
import re
from dataclasses import dataclass

from lab.lib.netns import run
from lab.lib.wait import wait_until

PORT = 443
CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
# A path that swallows long packets shows by silence; a transfer that moves is left alone.
STALLED_SECS = 8


class Authority:
    def __init__(self, directory, name="web-ca"):
        self.directory, self.name = directory, name
        self.certificate = directory / f"{name}.crt"
        self._request(name, f"/CN=lab {name}", "basicConstraints=critical,CA:TRUE")

    def issue(self, name):
        """A certificate for the host name, and its key."""
        ca = ["-CA", self.certificate, "-CAkey", self.directory / f"{self.name}.key"]
        self._request(name, f"/CN={name[:64]}", f"subjectAltName=DNS:{name}", *ca)
        return self.directory / f"{name}.crt", self.directory / f"{name}.key"

    def _request(self, file, subject, extension, *more):
        run(["openssl", "req", "-x509", *CURVE, "-days", "2", "-subj", subject, "-addext", extension, *more,
             "-keyout", str(self.directory / f"{file}.key"), "-out", str(self.directory / f"{file}.crt")])


class HttpsServer:
    """nginx in a host: serves the files of `folder` under `name`, and takes uploads under /up/ into its own directory."""

    def __init__(self, world, label, name, authority, folder):
        self.host = world.host(label)
        self.home = world.directory / f"{label}.nginx"
        self.uploads = self.home / "files" / "up"
        self.uploads.mkdir(parents=True)
        for file in folder.iterdir():
            (self.home / "files" / file.name).symlink_to(file)
        certificate, key = authority.issue(name)
        addresses = [address for version in (4, 6) if (address := world.address(label, version))]
        (self.home / "nginx.conf").write_text(nginx_conf(addresses, name, certificate, key), encoding="ascii")
        argv = ["nginx", "-p", self.home, "-c", self.home / "nginx.conf", "-e", self.home / "error.log"]
        self.process = self.host.spawn(argv, self.home / "nginx.log")

    def wait(self):
        """Until it listens."""
        listens = lambda: f":{PORT}" in self.host.run(["ss", "-Hltn"]).stdout
        if wait_until(listens, timeout=10) is None:
            logs = [self.home / "nginx.log", self.home / "error.log"]
            raise RuntimeError("nginx: " + " ".join(log.read_text(encoding="utf-8") for log in logs if log.exists()))


@dataclass
class Transfer:
    """What curl says. `error`: its words when it failed."""

    status: int = 0
    remote: str = ""
    length: int = 0
    seconds: float = 0.0
    error: str = ""

    def __str__(self):
        return self.error or f"{self.status} from {self.remote}, {self.length} bytes in {self.seconds:.1f} s"

    def megabytes_per_sec(self):
        return self.length / max(self.seconds, 0.001) / 1e6


def download(host, authority, url, to, timeout):
    return curl(host, authority, timeout, "size_download", "--output", to, url)


def upload(host, authority, url, file, timeout):
    return curl(host, authority, timeout, "size_upload", "--output", os.devnull, "--upload-file", file, url)


def curl(host, authority, timeout, size, *words):
    told = f"\n%{{http_code}} %{{remote_ip}} %{{{size}}} %{{time_total}}\n"
    done = host.run(["curl", "--silent", "--show-error", "--cacert", authority.certificate, "--tlsv1.3", "--noproxy", "*",
                     "--connect-timeout", STALLED_SECS, "--speed-limit", 1000, "--speed-time", STALLED_SECS,
                     "--max-time", timeout, "--write-out", told, *words], timeout=timeout + 5)
    found = re.search(r"^(\d+) (\S+) (\d+) ([\d.]+)$", done.stdout, re.MULTILINE)
    if done.returncode != 0 or not found:
        error = f"curl ended with {done.returncode}: {(done.stdout.strip().splitlines() or [''])[0]}"
        return Transfer(length=int(found[3]), seconds=float(found[4]), error=error) if found else Transfer(error=error)
    return Transfer(int(found[1]), found[2], int(found[3]), float(found[4]))


def nginx_conf(addresses, name, certificate, key):
    listens = "\n".join(f"    listen {f'[{a}]' if a.version == 6 else a}:{PORT} ssl;" for a in addresses)
    temporary = "\n".join(f"  {kind}_temp_path temporary;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""daemon off;
master_process off;
pid nginx.pid;
events {{ }}
http {{
  access_log off;
{temporary}
  server {{
{listens}
    server_name {name};
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.3;
    root files;
    location /up/ {{
      dav_methods PUT;
      client_max_body_size 0;
    }}
  }}
}}
"""
