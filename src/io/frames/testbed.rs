//! A network namespace for a test, in a thread of its own; and two, joined by a veth pair: ours, and the one on the other end, in another
//! thread. They vanish with their threads.

#![allow(unsafe_code)]

use std::io;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// Ours has interface `ixa`, the other end `ixb`. Both are up, the other end without IPv6 of its own unless a test gives it addresses.
pub struct Testbed {
    there: There,
}

/// The other end.
pub struct There {
    jobs: Sender<Box<dyn FnOnce() + Send>>,
}

/// Runs a test with a testbed of its own.
pub fn with_testbed(test: impl FnOnce(Testbed) + Send + 'static) {
    in_namespace(|| {
        sh("ip link set lo up");
        let there = There::behind("ixa");
        test(Testbed { there });
    });
}

/// Runs a test in an empty namespace of its own. Where this is not permitted the test is not run, and says so.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let ours = thread::spawn(move || match enter_new_namespace() {
        Ok(()) => test(),
        Err(error) => eprintln!("NOT RUN: cannot make a network namespace: {error}"),
    });
    if let Err(panic) = ours.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Testbed {
    pub fn there(&self) -> &There {
        &self.there
    }
}

impl There {
    /// One more, joined to an interface of ours.
    pub fn behind(ours: &str) -> Self {
        let (there, task) = There::start();
        sh(&format!("ip link add {ours} type veth peer name ixb netns {task}"));
        there.sh("ip link set lo up; sysctl -qw net.ipv6.conf.ixb.addr_gen_mode=1; ip link set ixb up");
        sh(&format!("ip link set {ours} up"));
        there
    }

    /// With the number of its thread.
    fn start() -> (Self, i32) {
        let (jobs, queue) = channel::<Box<dyn FnOnce() + Send>>();
        let (tell, told) = channel();
        thread::spawn(move || {
            enter_new_namespace().expect("it has just been permitted");
            // SAFETY: no arguments.
            tell.send(unsafe { libc::gettid() }).unwrap();
            queue.into_iter().for_each(|job| job());
        });
        (There { jobs }, told.recv().unwrap())
    }

    /// Does it there, and waits for what comes of it.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        self.start_job(job)()
    }

    /// Has it done there, while the caller goes on; the result by calling what this returns.
    pub fn start_job<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> impl FnOnce() -> T {
        let (tell, told) = channel();
        self.jobs.send(Box::new(move || drop(tell.send(job())))).expect("the other end is alive");
        move || told.recv().expect("the job there did not panic")
    }

    pub fn sh(&self, script: &str) -> String {
        let script = script.to_owned();
        self.run(move || sh(&script))
    }
}

/// A shell script in this thread's namespace: what it prints.
///
/// # Panics
/// When it fails.
pub fn sh(script: &str) -> String {
    try_sh(script).unwrap_or_else(|errors| panic!("{script}: {errors}"))
}

/// The same. An error: what it says when it fails.
pub fn try_sh(script: &str) -> Result<String, String> {
    let output = Command::new("sh").args(["-ec", script]).output().expect("there is a shell");
    let words = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(words(&output.stdout)) } else { Err(words(&output.stderr)) }
}

fn enter_new_namespace() -> io::Result<()> {
    // SAFETY: no pointers; it concerns this thread only.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
