//! For machines that others use meanwhile (`--exclusive`): gateway and sites go before all other programs (SCHED_RR), and a program of
//! ours takes all that the gateway leaves of its core, one step below it. It knows what it really had: it looks at the clock all the time, and
//! what is missing between two looks went to the gateway, or to an interrupt.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::ground::{GATEWAY_CORE, Outcome};

/// Makes this program a soaker; behind it stands the file for what it had.
pub const ARGUMENT: &str = "--soak";
/// Two looks at the clock are 30 ns apart where nothing comes between them.
const UNDISTURBED: Duration = Duration::from_nanos(400);
const PATIENCE: Duration = Duration::from_secs(3);
const TOLD_EVERY: Duration = Duration::from_millis(1);
/// Of real-time programs: the soaker's, and the gateway's and the sites'.
const SOAKER_PRIORITY: &str = "1";
pub const PRIORITY: &str = "2";

/// Until it is killed.
pub fn run(file: &str) -> Outcome<()> {
    let file = File::create(file)?;
    let mut had = Duration::ZERO;
    let mut told = Instant::now();
    let mut last = told;
    loop {
        let now = Instant::now();
        let passed = now - last;
        last = now;
        if passed < UNDISTURBED {
            had += passed;
        }
        if now - told > TOLD_EVERY {
            told = now;
            file.write_all_at(&(had.as_nanos() as u64).to_ne_bytes(), 0)?;
            // To tell is its own work.
            last = Instant::now();
            had += last - now;
        }
    }
}

/// Soaks as long as it lives.
pub struct Soaker {
    child: Child,
    file: PathBuf,
}

impl Soaker {
    pub fn start(directory: &Path) -> Outcome<Self> {
        let file = directory.join("soaked");
        let child = Command::new("taskset")
            .args(["-c", &GATEWAY_CORE.to_string(), "setpriv", "--pdeathsig", "KILL", "chrt", "-r", SOAKER_PRIORITY])
            .arg(std::env::current_exe()?)
            .arg(ARGUMENT)
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()?;
        let soaker = Soaker { child, file };
        let start = Instant::now();
        while let Err(error) = soaker.had() {
            if start.elapsed() > PATIENCE {
                return Err(error);
            }
            thread::sleep(TOLD_EVERY);
        }
        Ok(soaker)
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// What it really had.
    pub fn had(&self) -> Outcome<Duration> {
        let bytes = fs::read(&self.file)?;
        Ok(Duration::from_nanos(u64::from_ne_bytes(bytes.try_into().map_err(|_| "the soaker has told nothing yet")?)))
    }
}

impl Drop for Soaker {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.file);
    }
}
