//! What the gateway costs: the processor time of its processes, and what the kernel does for it.
//!
//! The gateway's core is the only one that its threads may use, and everything that arrives for it is handled there. So its cost is
//!
//! - what its threads have run (`/proc/PID/task/*/schedstat`), system calls and the softirqs within them included,
//! - what that core's softirq thread has run, and the threads that receive for the gateway's cables, where there are any (threaded NAPI),
//! - the time in which that core was neither idle nor in any thread: interrupts, and the softirqs behind them, of an idle core. The idle
//!   time is exact (the kernel does not sample it, and leaves interrupts out of it), that of all threads too (cpuacct).
//!
//! Beside a [`Soaker`] it is what the soaker and other programs did not have of that core.
//!
//! What other programs have run on that core is told, too: softirqs that interrupt them are missed, and what they did to the caches is
//! not seen.

use std::fs;
use std::time::{Duration, Instant};

use crate::ground::{GATEWAY_CORE, Outcome, Side};
use crate::soaker::Soaker;

/// Of all threads, per core, in ns.
const ALL_THREADS: &str = "/sys/fs/cgroup/cpuacct/cpuacct.usage_percpu";
/// `/proc/stat` counts in these (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// What is counted from when it was made.
pub struct Meter<'a> {
    processes: Vec<u32>,
    soaker: Option<&'a Soaker>,
    from: Reading,
}

#[derive(Clone, Copy, Default, Debug)]
pub struct Cost {
    pub wall: Duration,
    pub processes: Duration,
    /// Softirq thread and interrupts.
    pub kernel: Duration,
    /// Other programs, on the gateway's core.
    pub others: Duration,
}

impl Cost {
    pub fn total(&self) -> Duration {
        self.processes + self.kernel
    }

    /// Of one core.
    pub fn busy(&self) -> f64 {
        self.total().as_secs_f64() / self.wall.as_secs_f64().max(1e-9)
    }

    pub fn disturbed(&self) -> f64 {
        self.others.as_secs_f64() / self.wall.as_secs_f64().max(1e-9)
    }
}

struct Reading {
    clock: Instant,
    processes: Duration,
    softirqs: Duration,
    idle: Duration,
    /// `None`: this system does not tell.
    threads: Option<Duration>,
    /// What the soaker really had, and what it has run, with interrupts.
    soaked: [Duration; 2],
}

impl<'a> Meter<'a> {
    pub fn start(processes: &[u32], soaker: Option<&'a Soaker>) -> Outcome<Self> {
        Ok(Meter { processes: processes.to_vec(), soaker, from: Reading::take(processes, soaker)? })
    }

    pub fn read(&self) -> Outcome<Cost> {
        let (from, to) = (&self.from, Reading::take(&self.processes, self.soaker)?);
        let [had, ran] = [0, 1].map(|number: usize| to.soaked[number].saturating_sub(from.soaked[number]));
        let wall = to.clock - from.clock;
        let processes = to.processes.saturating_sub(from.processes);
        let softirqs = to.softirqs.saturating_sub(from.softirqs);
        let busy = wall.saturating_sub(to.idle.saturating_sub(from.idle));
        let threads = match (from.threads, to.threads) {
            (Some(from), Some(to)) => to.saturating_sub(from),
            // As if nobody else ran there.
            _ => processes + softirqs + ran,
        };
        let others = threads.saturating_sub(processes + softirqs + ran);
        if self.soaker.is_some() {
            let kernel = busy.saturating_sub(had + others + processes);
            return Ok(Cost { wall, processes, kernel, others });
        }
        Ok(Cost { wall, processes, kernel: softirqs + busy.saturating_sub(threads), others })
    }
}

impl Reading {
    fn take(processes: &[u32], soaker: Option<&Soaker>) -> Outcome<Self> {
        let mut sum = Duration::ZERO;
        for process in processes {
            sum += process_time(*process)?;
        }
        let mut softirqs = Duration::ZERO;
        for thread in softirq_threads()? {
            softirqs += run_time(&format!("/proc/{thread}"))?;
        }
        let threads = fs::read_to_string(ALL_THREADS)
            .ok()
            .and_then(|text| Some(Duration::from_nanos(text.split_whitespace().nth(GATEWAY_CORE)?.parse().ok()?)));
        let soaked = match soaker {
            Some(soaker) => [soaker.had()?, process_time(soaker.process())?],
            None => [Duration::ZERO; 2],
        };
        let (clock, idle) = (Instant::now(), idle_time()?);
        Ok(Reading { clock, processes: sum, softirqs, idle, threads, soaked })
    }
}

fn process_time(process: u32) -> Outcome<Duration> {
    let mut sum = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end meanwhile.
        sum += run_time(&thread?.path().to_string_lossy()).unwrap_or_default();
    }
    Ok(sum)
}

fn run_time(thread: &str) -> Outcome<Duration> {
    let text = fs::read_to_string(format!("{thread}/schedstat"))?;
    Ok(Duration::from_nanos(text.split_whitespace().next().ok_or("no schedstat")?.parse()?))
}

/// The core's own first.
fn softirq_threads() -> Outcome<Vec<u32>> {
    let name = format!("ksoftirqd/{GATEWAY_CORE}");
    let cables = [Side::A, Side::B].map(|side| format!("napi/{}-", side.port()));
    let (mut own, mut all) = (None, Vec::new());
    for entry in fs::read_dir("/proc")?.filter_map(Result::ok) {
        let Ok(thread) = entry.file_name().to_string_lossy().parse() else { continue };
        let Ok(called) = fs::read_to_string(entry.path().join("comm")) else { continue };
        if called.trim() == name {
            own = Some(thread);
        } else if cables.iter().any(|cable| called.starts_with(cable)) {
            all.push(thread);
        }
    }
    all.insert(0, own.ok_or_else(|| format!("there is no {name}"))?);
    Ok(all)
}

/// Idle, or waiting for a disk.
fn idle_time() -> Outcome<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let name = format!("cpu{GATEWAY_CORE} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name)).ok_or("no such core")?;
    let ticks: Vec<u32> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    Ok(TICK * (ticks.get(3).ok_or("no idle time")? + ticks.get(4).copied().unwrap_or_default()))
}

/// Which cores the threads of a process may use, as the kernel lists them.
pub fn cores_of(process: u32) -> Outcome<Vec<String>> {
    let mut all = Vec::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        all.push(cores.unwrap_or_default().trim().to_owned());
    }
    all.sort();
    all.dedup();
    Ok(all)
}
