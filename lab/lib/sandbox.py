"""The sandbox: a lab runs in namespaces of its own, so that nothing can leak and nothing can be left behind.

```
  scripts/lab ── outer process: makes the sandbox, waits, proves that nothing is left
     └─ unshare --net --mount --pid (and --user when not root)
          └─ inner process, PID 1 of the sandbox, /run is its own: builds the networks and runs the checks
               └─ ixgate, wireguard-go, servers ...
```

The two are joined by a socket pair, the *lifeline*. When the outer process ends, in whatever way (Ctrl-C, kill,
kill -9), the lifeline closes, and the inner one tears down. When the inner one ends, the kernel kills every process
of the sandbox and with the last of them the namespaces and everything in them disappear.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

RUN = "IXGATE_LAB_RUN"  # in the environment of every process of a run: how leftovers are recognised
DIR = "IXGATE_LAB_DIR"
LIFELINE = "IXGATE_LAB_LIFELINE"
KEPT = b"kept\n"

# Exit code for "this machine does not let us" (the automake convention for a skipped test).
NOT_RUN = 77
TEARDOWN_SECS = 15


def inside():
    return LIFELINE in os.environ


def unshare_argv(*more):
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--net", "--mount", "--pid", "--fork", *more]


def why_not():
    """In words, why no lab can run here; None when it can. Tries the real thing instead of guessing from settings."""
    steps = [
        ("ip link set lo up", "network namespaces cannot be configured"),
        ("mount -t tmpfs lab /run", "file systems cannot be mounted in a namespace"),
        ("mkdir -p /run/netns && ip netns add trial", "named network namespaces cannot be made"),
        ("ip link add v0 type veth peer name v1", "there are no veth interfaces"),
        ("ip tuntap add dev t0 mode tun",
         "/dev/net/tun cannot be opened: wireguard-go needs it (mode 0666 is usual; without it, run as root)"),
    ]
    script = "; ".join(f"{command} || exit {10 + i}" for i, (command, _) in enumerate(steps))
    done = subprocess.run([*unshare_argv(), "sh", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    said = " ".join(done.stderr.split())
    step = done.returncode - 10
    if 0 <= step < len(steps):
        return f"{steps[step][1]} ({said})"
    who = "root in a container without CAP_SYS_ADMIN" if os.geteuid() == 0 else "an ordinary user"
    return f"namespaces are not permitted to {who} on this machine ({said})"


def enter(argv, scenario, keep):
    """Outer process: runs `argv`, which runs `scenario`, as the inner process. Returns its exit code, and checks that nothing is left."""
    reason = why_not()
    if reason:
        print(f"NOT RUN: {reason}.", file=sys.stderr)
        if os.geteuid() != 0:
            print("As root it may work: run the same command with sudo.", file=sys.stderr)
        return NOT_RUN

    run_id = f"{os.getpid()}-{time.time_ns()}"
    directory = Path(tempfile.mkdtemp(prefix="ixgate-lab-"))
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    environment = {**os.environ, RUN: run_id, DIR: str(directory), LIFELINE: str(theirs.fileno())}
    # A session of its own: Ctrl-C reaches only the outer process, and the lifeline is the one way to stop.
    child = subprocess.Popen(
        [*unshare_argv(*([] if keep else ["--kill-child"])), *argv], env=environment, pass_fds=[theirs.fileno()], start_new_session=True,
        stdin=subprocess.DEVNULL,
    )
    theirs.close()

    stopped_by = []

    def stop(number, _frame):
        stopped_by.append(number)
        ours.shutdown(socket.SHUT_RDWR)
        signal.alarm(TEARDOWN_SECS)

    def give_up(_number, _frame):
        print("The tear-down takes too long; killing the sandbox.", file=sys.stderr)
        for pid in children_of(child.pid):
            os.kill(pid, signal.SIGKILL)  # PID 1 of the sandbox: the kernel kills all others with it

    signal.signal(signal.SIGALRM, give_up)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)

    if keep:
        said = receive_all(ours)
        if said == KEPT and child.poll() is None:
            inner = children_of(child.pid)
            kept = {"pid": inner[0], "run": run_id, "scenario": scenario}
            (directory / "kept.json").write_text(json.dumps(kept), encoding="utf-8")
            child.kill()  # only `unshare`, which holds our terminal; the sandbox itself stays
            child.wait()
            return 0

    code = child.wait()
    signal.alarm(0)
    shutil.rmtree(directory, ignore_errors=True)
    left = leftovers(run_id) + ([str(directory)] if directory.exists() else [])
    if left:
        print("LEFT BEHIND: " + "; ".join(left), file=sys.stderr)
        return 1
    if stopped_by:
        print("Stopped; nothing is left behind.", file=sys.stderr)
        return 128 + stopped_by[0]
    return code if code >= 0 else 128 - code


def receive_all(lifeline):
    """What the inner process says before it closes the lifeline (or says KEPT)."""
    said = b""
    while said != KEPT:
        chunk = lifeline.recv(64)
        if not chunk:
            break
        said += chunk
    return said


class Lifeline:
    """The inner end: interrupts the main thread when the outer process is gone."""

    def __init__(self):
        self.socket = socket.socket(fileno=int(os.environ[LIFELINE]))
        self.socket.set_inheritable(False)
        self.kept = False
        # Stated, because a job in the background of a shell inherits "ignore SIGINT".
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        while self.socket.recv(64):
            pass
        if not self.kept:
            os.kill(os.getpid(), signal.SIGINT)

    def keep(self):
        """Tells the outer process to leave, and stays until SIGTERM."""
        self.kept = True
        sys.stdout.flush()
        sys.stderr.flush()
        self.socket.sendall(KEPT)
        silence = os.open(os.devnull, os.O_RDWR)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        try:
            while True:
                signal.pause()
        except KeyboardInterrupt:
            pass


def own_run():
    """Inner process: the sandbox gets a /run of its own, for named namespaces and the sockets of wireguard-go."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "lab", "/run"], check=True)
    os.makedirs("/run/netns")
    os.makedirs("/run/wireguard")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return Path(os.environ[DIR])


def children_of(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def leftovers(run_id):
    """Processes of a run that are still there. Namespaces and interfaces live only as long as their processes."""
    mark = f"{RUN}={run_id}".encode()
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environ.read_bytes().split(b"\0"):
                name = (environ.parent / "comm").read_text(encoding="utf-8").strip()
                found.append(f"process {environ.parent.name} ({name})")
        except OSError:
            continue
    return found


@dataclass
class Kept:
    """A run that `--keep` left in the background."""

    directory: Path
    pid: int  # PID 1 of the sandbox
    run: str
    scenario: str

    def __str__(self):
        return f"{self.scenario} ({self.directory})"

    def namespaces(self):
        return sorted(entry.name for entry in Path(f"/proc/{self.pid}/root/run/netns").iterdir())


def kept_runs():
    """The oldest first."""
    runs = []
    for file in Path(tempfile.gettempdir()).glob("ixgate-lab-*/kept.json"):
        try:
            if file.stat().st_uid != os.geteuid():
                continue
            words = json.loads(file.read_text(encoding="utf-8"))
            kept = Kept(file.parent, words["pid"], words["run"], words["scenario"])
            marked = f"{RUN}={kept.run}".encode() in Path(f"/proc/{kept.pid}/environ").read_bytes()
            since = file.stat().st_mtime_ns
        except (OSError, ValueError, KeyError):
            continue
        if marked:
            runs.append((since, kept))
    return [kept for _, kept in sorted(runs, key=lambda run: run[0])]


def stop_kept():
    """Ends every kept run, with what was entered there, and says whether anything is left."""
    runs = kept_runs()
    for kept in runs:
        os.kill(kept.pid, signal.SIGTERM)
        deadline = time.monotonic() + TEARDOWN_SECS
        while leftovers(kept.run) and time.monotonic() < deadline:
            time.sleep(0.1)
        shutil.rmtree(kept.directory, ignore_errors=True)
        left = leftovers(kept.run) + ([str(kept.directory)] if kept.directory.exists() else [])
        if left:
            print("LEFT BEHIND: " + "; ".join(left), file=sys.stderr)
            return 1
        print(f"Stopped {kept}.")
    print("Nothing is left behind." if runs else "No kept lab is running.")
    return 0


def look_inside(namespace, command):
    """Runs a command in a namespace of the newest kept lab. It enters the sandbox's PID namespace, too, so that it and
    all its children end with the lab."""
    runs = kept_runs()
    if not runs:
        print("No kept lab is running: start one with `scripts/lab SCENARIO --keep`.", file=sys.stderr)
        return 1
    kept = runs[-1]
    if len(runs) > 1:
        print(f"{len(runs)} labs are kept; this is in the newest, {kept}.", file=sys.stderr)
    if namespace not in kept.namespaces():
        print(f"There is no namespace `{namespace}`; there are: {' '.join(kept.namespaces())}.", file=sys.stderr)
        return 2
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    inner = ["nsenter", f"--net=/run/netns/{namespace}", "--", *(command or ["bash"])]
    argv = ["nsenter", f"--target={kept.pid}", *user, "--mount", "--net", "--pid", "--", *inner]
    # `ixgate status` there means the lab's own ixgate. The mark lets `--stop` see it.
    path = f"{kept.directory}:{os.environ.get('PATH', os.defpath)}"
    there = {RUN: kept.run, "PATH": path, "IXGATE_API": f"unix:{kept.directory}/state/ixgate.sock"}
    sys.stderr.flush()
    os.execvpe(argv[0], argv, {**os.environ, **there})
