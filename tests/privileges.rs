//! What the process may do while it runs, as the kernel says it, of every thread.
#![cfg(not(feature = "sim"))]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

const IXGATE: &str = env!("CARGO_BIN_EXE_ixgate");
/// Of capabilities(7), by their numbers: to bind low ports, network administration, raw sockets, locked memory, BPF.
const TO_OPEN: u64 = 1 << 10 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 39;

const FILE: &str = r#"
[ix]
domain = "ix.example"
state_dir = "state"
[wireguard]
listen = "127.0.62.1:51820"
private_key_file = "wireguard.key"
[metrics]
listen = "off"
[ike]
local_id = "fqdn:ix.example"
listen = "127.0.62.1"
raw_esp = true
[[realm]]
name = "clinic"
networks = ["192.168.1.0/24"]
[[realm.attach]]
wireguard = { public_key = "1RlQmQbsh3fXy8zY2GLGgdyGJ8k1y9KOCSUbHQM0FAI=" }
"#;
/// The first for which the ports of IKE are opened: a number below 1024, and a raw socket, take a capability each.
const MORE: &str = r#"
[[realm]]
name = "lab"
networks = ["192.168.1.0/24"]
[[realm.attach]]
ipsec = { remote_id = "fqdn:lab.example", psk_file = "lab.psk" }
"#;

struct Running {
    process: Child,
    log: BufReader<ChildStderr>,
}

impl Running {
    fn start(directory: &Path) -> Self {
        let mut command = Command::new(IXGATE);
        command.args(["run", "ix.toml"]).current_dir(directory).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        Running { process, log }
    }

    /// Reads its log as far as one of these.
    fn await_words(&mut self, words: &[&str]) -> String {
        let mut all = String::new();
        loop {
            let start = all.len();
            assert_ne!(self.log.read_line(&mut all).unwrap(), 0, "it ended without {words:?}:\n{all}");
            if words.iter().any(|words| all[start..].contains(words)) {
                return all[start..].to_owned();
            }
        }
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.process.id().to_string()]).status().unwrap().success());
    }

    /// The numbers of a line of `/proc/PID/task/TID/status`, with the threads' names.
    fn of_threads(&self, line: &str) -> Vec<(String, u64)> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        // A thread may end meanwhile.
        let status = threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).ok());
        let value = |status: &str, line: &str| {
            let value = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(":\t"));
            value.unwrap().to_owned()
        };
        let bits = |text: String| u64::from_str_radix(&text, 16).unwrap();
        status.map(|status| (value(&status, "Name"), bits(value(&status, line)))).collect()
    }

    /// The same when the opener does nothing: while it opens something (the gate's interfaces are found by a thread of their own) it has what it
    /// needs for that.
    fn of_threads_at_rest(&self, line: &str) -> Vec<(String, u64)> {
        let looks = (0..10_000).map(|_| self.of_threads(line));
        let is_at_rest =
            |threads: &Vec<(String, u64)>| threads.iter().all(|(name, set)| *set == 0 || name != "ixgate-opener");
        looks.into_iter().find(is_at_rest).expect("the opener comes to an end of its work")
    }

    /// Of every thread nothing, but what the opener could have.
    fn assert_unprivileged(&self, directory: &Path, ours: u64) {
        // When the worker has answered, every thread has begun.
        let mut status = Command::new(IXGATE);
        status.args(["status", "--api", "unix:state/ixgate.sock"]).current_dir(directory);
        assert!(status.output().unwrap().status.success());
        for line in ["CapEff", "CapInh", "CapAmb"] {
            let threads = self.of_threads_at_rest(line);
            assert!(threads.len() >= 4 && threads.iter().all(|(_, set)| *set == 0), "{line}: {threads:x?}");
        }
        let permitted = self.of_threads("CapPrm");
        let (opener, others): (Vec<_>, Vec<_>) = permitted.into_iter().partition(|(name, _)| name == "ixgate-opener");
        assert_eq!(opener.iter().map(|(_, set)| set).sum::<u64>(), ours & TO_OPEN);
        assert!(others.iter().any(|(name, _)| name == "ixgate-worker"), "{others:?}");
        assert!(others.iter().all(|(_, set)| *set == 0), "{others:x?}");
        assert!(self.of_threads("NoNewPrivs").iter().all(|(_, set)| *set == 1));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn our_permitted() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).unwrap();
    u64::from_str_radix(set, 16).unwrap()
}

#[test]
fn no_thread_has_any_while_it_runs_and_a_reload_still_opens_what_takes_some() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("wireguard.key", "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n");
    write("lab.psk", "a secret that is long enough to be taken for one\n");
    for secret in ["wireguard.key", "lab.psk"] {
        Command::new("chmod").arg("600").arg(directory.path().join(secret)).status().unwrap();
    }
    write("ix.toml", FILE);
    let ours = our_permitted();
    let mut running = Running::start(directory.path());
    running.await_words(&["is running"]);
    running.assert_unprivileged(directory.path(), ours);

    write("ix.toml", &[FILE, MORE].concat());
    running.signal("-HUP");
    let said = running.await_words(&["new configuration", "stays as it was"]);
    match ours & (1 << 13 | 1 << 10) {
        0 => eprintln!("NOT RUN: a reload that opens low ports and raw sockets takes root"),
        _ => assert!(said.contains("new configuration"), "{said}"),
    }
    running.assert_unprivileged(directory.path(), ours);
    running.signal("-TERM");
    assert!(running.process.wait().unwrap().success());
}
