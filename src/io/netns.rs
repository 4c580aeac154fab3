//! Work in another network namespace: what is opened there stays there, whoever uses it afterwards.
//!
//! A namespace belongs to a thread, so the work is done by one of its own, which ends with it.

#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;

/// Where `ip netns` keeps them.
const DIRECTORY: &str = "/run/netns";

#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error("there is no network namespace {0:?}; make it (`ip netns add {0}`), or correct the name; there are: {1}")]
    Missing(String, String),
    #[error(
        "not permitted to enter the network namespace {0:?}: that needs the capability CAP_SYS_ADMIN; grant it, and start \
         ixgate again: it is given up while no realm has `routes_from`"
    )]
    NotPermitted(String),
    #[error("the network namespace {0:?} cannot be entered: {1}")]
    Other(String, io::Error),
}

/// Does `work` in the namespace `name`, and waits for it.
pub fn within<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
    let file = File::open(Path::new(DIRECTORY).join(name)).map_err(|error| of(name, error))?;
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("ixgate-netns".to_owned()).spawn_scoped(scope, || {
            // SAFETY: no pointers; the descriptor is open. Only this thread moves.
            let entered = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
            if entered != 0 { Err(of(name, io::Error::last_os_error())) } else { Ok(work()) }
        });
        let ended = thread.map_err(|error| of(name, error))?.join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn of(name: &str, error: io::Error) -> NamespaceError {
    match error.raw_os_error() {
        Some(libc::ENOENT) => NamespaceError::Missing(name.to_owned(), list()),
        Some(libc::EPERM | libc::EACCES) => NamespaceError::NotPermitted(name.to_owned()),
        _ => NamespaceError::Other(name.to_owned(), error),
    }
}

fn list() -> String {
    let entries = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::frames::interface;

    #[test]
    fn one_that_is_not_there_is_told_with_a_remedy() {
        let error = within("ixg-none", || ()).unwrap_err().to_string();
        assert!(error.contains("ip netns add ixg-none"), "{error}");
    }

    /// With an interface that there is nowhere else; needs the right to make a namespace.
    #[test]
    fn work_is_done_there_and_nowhere_else() {
        const NAME: &str = "ixg-netns-test";
        let ip = |words: &[&str]| {
            std::process::Command::new("ip").args(words).output().is_ok_and(|output| output.status.success())
        };
        if !ip(&["netns", "add", NAME]) {
            return eprintln!("NOT RUN: no right to make a network namespace");
        }
        let is_made = ip(&["-n", NAME, "link", "add", "ixg-inside", "type", "veth", "peer", "name", "ixg-other"]);
        let inside = within(NAME, || interface::index("ixg-inside").is_ok());
        let outside = interface::index("ixg-inside").is_ok();
        ip(&["netns", "del", NAME]);
        assert!(is_made && inside.unwrap() && !outside);
    }
}
