//! Privileges, given up before anything is read: all of them, by every thread but one.
//!
//! Capabilities belong to threads. What needs some at all is opening: packet sockets, TUN devices, the kernel kept quiet and set
//! back, low port numbers, raw ESP. It happens at the start, and later when a reload brings more or an interface has come again.
//! So one thread, the *opener*, keeps those capabilities permitted, has them effective only while it opens something for another
//! thread ([`with`]), and does nothing else. The thread that reads packets, those that answer operators and those that read
//! the configuration have none, and no way to get any: a thread has at most what the one that started it has, and
//! `no_new_privs` holds for what is executed.
//!
//! That includes the right of root to read everybody's files. The configuration and its secrets must belong to the user that
//! we run as: what a reload could not read is refused at the start already.
//!
//! Where [`hold`] was not called (tests, whose threads are in network namespaces of their own) everything is done by the
//! thread that asks for it.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

// linux/capability.h
const NET_BIND_SERVICE: u32 = 10;
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;
const IPC_LOCK: u32 = 14;
const SYS_ADMIN: u32 = 21;
const BPF: u32 = 39;
/// What opening needs, of interfaces, TUN devices and ports of IKE; a configuration that is loaded later may be the first to
/// have any.
const TO_OPEN: Set = Set(1 << NET_BIND_SERVICE | 1 << NET_ADMIN | 1 << NET_RAW | 1 << IPC_LOCK | 1 << BPF);
/// To enter the namespaces of routing daemons; given up as soon as it is known that there are none.
const TO_ENTER: Set = Set(1 << SYS_ADMIN);
/// For what was asked for last, at the end.
const LAST_JOBS: Duration = Duration::from_millis(300);

static OPENER: OnceLock<Opener> = OnceLock::new();

thread_local! {
    static IS_OPENER: Cell<bool> = const { Cell::new(false) };
}

/// With what it may have effective.
type Job = Box<dyn FnOnce(Set) + Send>;

/// While it lives, other threads may ask. Dropped, it waits for what was asked for.
#[derive(Debug)]
pub struct Held(());

/// To be called by the first thread, while it is the only one.
pub fn hold() -> io::Result<Held> {
    if let Some(opener) = give_up()? {
        OPENER.set(opener).map_err(|_| io::Error::other("privileges are held already"))?;
    }
    Ok(Held(()))
}

/// What comes of a job that opens something.
pub fn with<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    match OPENER.get() {
        Some(opener) => opener.with(job),
        None => job(),
    }
}

/// From now on no namespaces are entered.
pub fn enter_no_namespaces() {
    if let Some(opener) = OPENER.get() {
        opener.enter_no_namespaces();
    }
}

/// Does not wait for it. What is asked for is done in its order.
pub fn later(job: impl FnOnce() + Send + 'static) {
    match OPENER.get() {
        Some(opener) => opener.later(job),
        None => job(),
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(opener) = OPENER.get() {
            let (tell, told) = channel();
            opener.later(move || {
                let _ = tell.send(());
            });
            // It may be waiting for a device that is broken; the process ends all the same.
            let _ = told.recv_timeout(LAST_JOBS);
        }
    }
}

/// The thread that opens. `None`: this process has nothing to open with.
fn give_up() -> io::Result<Option<Opener>> {
    forbid_new()?;
    let kept = Sets::of_this_thread()?.permitted.and(Set(TO_OPEN.0 | TO_ENTER.0));
    Sets { permitted: kept, ..Sets::default() }.set()?;
    let opener = (kept != Set::default()).then(|| Opener::start(kept)).transpose()?;
    Sets::default().set()?;
    Ok(opener)
}

#[derive(Debug)]
struct Opener {
    jobs: Sender<Job>,
    /// Shared with the thread.
    enters_namespaces: Arc<AtomicBool>,
}

impl Opener {
    /// Inherits what is permitted to the caller.
    fn start(kept: Set) -> io::Result<Self> {
        let (jobs, asked) = channel();
        let enters_namespaces = Arc::new(AtomicBool::new(true));
        let enters = enters_namespaces.clone();
        thread::Builder::new().name("ixgate-opener".to_owned()).spawn(move || serve(&asked, kept, &enters))?;
        Ok(Opener { jobs, enters_namespaces })
    }

    /// Given up when this returns.
    fn enter_no_namespaces(&self) {
        self.enters_namespaces.store(false, Ordering::Relaxed);
        self.with(|| ());
    }

    fn with<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        if IS_OPENER.get() {
            return job();
        }
        let (tell, told) = channel();
        self.ask(Box::new(move |kept| drop(tell.send(raised(kept, job)))));
        match told.recv().expect("the opener does every job") {
            Ok(result) => result,
            Err(panic) => resume_unwind(panic),
        }
    }

    fn later(&self, job: impl FnOnce() + Send + 'static) {
        if IS_OPENER.get() {
            return job();
        }
        // Nobody is told of a panic, but the panic hook has logged it.
        self.ask(Box::new(move |kept| drop(raised(kept, job))));
    }

    fn ask(&self, job: Job) {
        // The opener listens as long as this end is there.
        let _ = self.jobs.send(job);
    }
}

fn serve(asked: &Receiver<Job>, kept: Set, enters_namespaces: &AtomicBool) {
    IS_OPENER.set(true);
    for job in asked {
        job(if enters_namespaces.load(Ordering::Relaxed) { kept } else { kept.and(TO_OPEN) });
    }
}

/// Others still need this thread when the job has panicked.
fn raised<T>(kept: Set, job: impl FnOnce() -> T) -> thread::Result<T> {
    let lowered = Sets { permitted: kept, ..Sets::default() };
    // If it cannot be had, the job says what it lacks.
    let _ = Sets { effective: kept, ..lowered }.set();
    let result = catch_unwind(AssertUnwindSafe(job));
    lowered.set().expect("giving up is always permitted");
    result
}

/// A set of capabilities, by bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Set(u64);

impl Set {
    fn and(self, other: Set) -> Set {
        Set(self.0 & other.0)
    }
}

/// Those of a thread.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Sets {
    effective: Set,
    permitted: Set,
    inheritable: Set,
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    /// 0: this one.
    thread: i32,
}

/// `struct __user_cap_data_struct`: a half of each set, the low one first.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: sets of 64 bits.
const VERSION: u32 = 0x2008_0522;

impl Sets {
    fn of_this_thread() -> io::Result<Self> {
        let mut header = Header { version: VERSION, thread: 0 };
        let mut halves = [Half::default(); 2];
        // SAFETY: in this version the kernel reads and writes the header, and writes two halves; both outlive the call.
        check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) })?;
        let whole = |of: fn(&Half) -> u32| Set(u64::from(of(&halves[1])) << 32 | u64::from(of(&halves[0])));
        Ok(Sets {
            effective: whole(|half| half.effective),
            permitted: whole(|half| half.permitted),
            inheritable: whole(|half| half.inheritable),
        })
    }

    fn set(self) -> io::Result<()> {
        let mut header = Header { version: VERSION, thread: 0 };
        let half = |shift: u32| Half {
            effective: (self.effective.0 >> shift) as u32,
            permitted: (self.permitted.0 >> shift) as u32,
            inheritable: (self.inheritable.0 >> shift) as u32,
        };
        let halves = [half(0), half(32)];
        // SAFETY: in this version the kernel reads the header, may write it, and reads two halves; both outlive the call.
        check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) })
    }
}

/// What is executed by this thread, and by those that it starts, gets no more than they have.
fn forbid_new() -> io::Result<()> {
    // SAFETY: numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    let (clear, none) = (libc::PR_CAP_AMBIENT_CLEAR_ALL, 0);
    // SAFETY: as above.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear, none, none, none) }.into())
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::io::gate::Gate;
    use crate::io::raw_esp::RawEspSocket;

    /// As the kernel says it, of a thread of ours.
    fn said(thread: &str, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
    }

    fn sets(thread: &str) -> [u64; 4] {
        ["CapPrm", "CapEff", "CapInh", "CapAmb"].map(|name| said(thread, name))
    }

    /// In a thread that is thrown away.
    fn in_a_thread(test: impl FnOnce() + Send + 'static) {
        if let Err(panic) = thread::spawn(test).join() {
            resume_unwind(panic);
        }
    }

    fn own_id() -> String {
        // SAFETY: no arguments.
        format!("self/task/{}", unsafe { libc::gettid() })
    }

    #[test]
    fn all_is_given_up_but_what_the_opener_opens_with() {
        in_a_thread(|| {
            let ours = said("thread-self", "CapPrm");
            let (kept, left) = (ours & (TO_OPEN.0 | TO_ENTER.0), ours & TO_OPEN.0);
            let opener = give_up().unwrap();
            assert_eq!(sets("thread-self"), [0; 4]);
            assert_eq!(said("thread-self", "NoNewPrivs"), 1);
            thread::spawn(|| assert_eq!(sets("thread-self"), [0; 4])).join().unwrap();
            let Some(opener) = opener else { return eprintln!("NOT RUN: we have no capability to keep") };
            let (id, raised) = opener.with(|| (own_id(), sets("thread-self")));
            assert_eq!(raised, [kept, kept, 0, 0]);
            assert_eq!(sets(&id), [kept, 0, 0, 0]);
            opener.enter_no_namespaces();
            assert_eq!(opener.with(|| sets("thread-self")), [left, left, 0, 0]);
            assert_eq!(sets(&id), [left, 0, 0, 0]);
        });
    }

    #[test]
    fn only_the_opener_can_open_a_raw_socket() {
        in_a_thread(|| {
            let open = || RawEspSocket::bind("127.0.0.1".parse().unwrap()).is_ok();
            if !open() {
                return eprintln!("NOT RUN: it takes CAP_NET_RAW");
            }
            let opener = give_up().unwrap().unwrap();
            assert!(!open());
            assert!(opener.with(open));
            assert!(!open());
        });
    }

    /// The kernel checks programs more strictly for who may not watch it.
    #[test]
    fn with_what_the_opener_keeps_the_gate_is_loaded() {
        in_a_thread(|| {
            if let Err(error) = Gate::load() {
                return eprintln!("NOT RUN: {error}");
            }
            let opener = give_up().unwrap().unwrap();
            opener.enter_no_namespaces();
            assert!(Gate::load().is_err(), "not by those that read packets");
            assert_eq!(opener.with(|| Gate::load().map(drop).map_err(|error| error.to_string())), Ok(()));
        });
    }

    #[test]
    fn a_job_may_ask_for_another_and_a_panic_is_the_askers() {
        in_a_thread(|| {
            let opener = give_up().unwrap().unwrap_or_else(|| Opener::start(Set::default()).unwrap());
            let jobs = opener.jobs.clone();
            let nested = opener.with(move || Opener { jobs, enters_namespaces: Arc::default() }.with(|| 7));
            assert_eq!(nested, 7);
            let panic = catch_unwind(AssertUnwindSafe(|| opener.with(|| panic!("told to")))).unwrap_err();
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"told to"));
            let (tell, told) = channel();
            opener.later(|| panic!("told to, and nobody waits"));
            opener.later(move || tell.send(8).unwrap());
            assert_eq!(told.recv().unwrap(), 8);
        });
    }
}
