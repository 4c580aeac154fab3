//! Keeps the kernel quiet on an interface while a driver has it: what comes in is ours, and the kernel must neither answer it nor
//! forward it, whatever addresses it has elsewhere and however its forwarding is set.
//!
//! A packet socket gets copies; the frames themselves go on into the kernel's stack. Two things stop them:
//!
//! - A *barrier*: nine instructions of BPF on the interface's ingress (tcx, Linux 6.6), behind the place where packet
//!   sockets get their copy, that drop every untagged frame. It stands and falls with its descriptor, so that nothing remains
//!   of it when we end, however we end. It also spares the kernel the work. Tagged frames pass: they reach a VLAN interface
//!   that the kernel has of its own, or nobody.
//! - *Settings* of the interface, where there is no barrier, and against what the kernel says by itself: no IPv6 (neither
//!   answers nor router solicitations), no answers to ARP, no forwarding, and nothing from sources to which the interface is
//!   not the way, which is all of them as long as the kernel has no routes by it (strict reverse path filter). They are set
//!   back when the last driver of the interface is closed; they are lost with the interface.
//!
//! Of the reverse path filter the kernel takes the larger of the interface's and that of `all`: where `all` is 2 (loose), ours (1) is of no
//! effect, which we cannot change without changing it for all interfaces. It is told where there is no barrier; behind a barrier no untagged
//! frame comes so far. Of `arp_ignore` the larger counts, too, and ours is the largest; forwarding and `disable_ipv6` are the interface's
//! alone.
//!
//! A socket filter would stop only the copies; nftables would need its own rules kept beside an operator's.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::io::bpf::{self, Hook, Instruction, instruction};
use crate::io::privileges;

/// Of one interface: file below `/proc/sys/net`, what it must hold, and what the kernel does otherwise.
const SETTINGS: [(&str, &str, &str, &str); 5] = [
    ("ipv6", "disable_ipv6", "1", "speaks IPv6"),
    ("ipv6", "forwarding", "0", "may forward IPv6"),
    ("ipv4", "arp_ignore", "8", "may answer ARP"),
    ("ipv4", "forwarding", "0", "may forward IPv4"),
    ("ipv4", "rp_filter", "1", "may answer for its other addresses"),
];
/// What the kernel does without being asked, which the barrier does not stop.
const SPEAKS: &str = "disable_ipv6";

/// The kernel is quiet on an interface as long as this lives.
#[derive(Debug)]
pub struct Quiet {
    place: Place,
    _barrier: Option<OwnedFd>,
    warnings: Vec<String>,
}

/// An interface, in its network namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    namespace: u64,
    interface_index: u32,
}

/// What settings were, before the first driver of the interface.
struct Kept {
    place: Place,
    drivers: usize,
    before: Vec<(PathBuf, String)>,
}

/// Of all drivers of the process: one that replaces another must not learn from it how things were.
static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

fn kept() -> MutexGuard<'static, Vec<Kept>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Quiet {
    /// What cannot be arranged is among the warnings.
    pub fn new(name: &str, interface_index: u32) -> Self {
        Quiet::behind(barrier(interface_index), name, interface_index)
    }

    #[cfg(test)]
    pub fn without_barrier(name: &str, interface_index: u32) -> Self {
        Quiet::behind(Err(io::ErrorKind::Unsupported.into()), name, interface_index)
    }

    /// Changes nothing.
    #[cfg(test)]
    pub fn not_at_all(_name: &str, interface_index: u32) -> Self {
        // No driver is counted in this namespace, so that none is missed.
        Quiet { place: Place { namespace: 0, interface_index }, _barrier: None, warnings: Vec::new() }
    }

    fn behind(barrier: io::Result<OwnedFd>, name: &str, interface_index: u32) -> Self {
        let namespace = fs::metadata("/proc/thread-self/ns/net").map_or(0, |entry| entry.ino());
        let place = Place { namespace, interface_index };
        let mut warnings = Vec::new();
        let mut before = Vec::new();
        for (family, setting, wanted, otherwise) in SETTINGS {
            let file = Path::new("/proc/sys/net").join(family).join("conf").join(name).join(setting);
            match set(&file, wanted) {
                Ok(Some(value)) => before.push((file, value)),
                Ok(None) => {}
                Err(_) if barrier.is_ok() && setting != SPEAKS => {}
                // No IPv6 in this kernel.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => warnings.push(format!(
                    "the kernel {otherwise} on {name} while we have it: cannot set net.{family}.conf.{name}.{setting}={wanted} ({error}); \
                     set it before we start, or let us write to /proc/sys with CAP_NET_ADMIN"
                )),
            }
        }
        if barrier.is_err() {
            warnings.extend(loose_filter(name));
        }
        if let (Err(error), false) = (&barrier, warnings.is_empty()) {
            warnings.push(format!(
                "no barrier before the kernel on {name}: {error}; it takes Linux 6.6 and the capabilities CAP_BPF and CAP_NET_ADMIN"
            ));
        }
        remember(place, before);
        Quiet { place, _barrier: barrier.ok(), warnings }
    }

    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

impl Drop for Quiet {
    /// The thread that read the frames has no privileges, and must not wait: see [`privileges`].
    fn drop(&mut self) {
        let place = self.place;
        privileges::later(move || set_back(place));
    }
}

/// The filter of `all` undoes the interface's.
fn loose_filter(name: &str) -> Option<String> {
    let all = fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter").ok()?;
    (all.trim() == "2").then(|| {
        format!(
            "the kernel may answer for its other addresses on {name} while we have it: net.ipv4.conf.all.rp_filter=2 makes every \
             interface's filter a loose one; set it to 0 or 1, and those of other interfaces to what they need"
        )
    })
}

/// One driver less; behind the last one, everything as it was.
fn set_back(place: Place) {
    let mut kept = kept();
    let Some(at) = kept.iter().position(|entry| entry.place == place) else { return };
    kept[at].drivers -= 1;
    if kept[at].drivers == 0 {
        for (file, value) in kept.swap_remove(at).before {
            // The interface may be gone.
            let _ = fs::write(file, value);
        }
    }
}

fn remember(place: Place, before: Vec<(PathBuf, String)>) {
    let mut kept = kept();
    match kept.iter_mut().find(|entry| entry.place == place) {
        // What they were for the second is what the first has made of them.
        Some(entry) => entry.drivers += 1,
        None => kept.push(Kept { place, drivers: 1, before }),
    }
}

/// What it was, if it was anything else.
fn set(file: &Path, wanted: &str) -> io::Result<Option<String>> {
    let value = fs::read_to_string(file)?.trim().to_owned();
    if value == wanted {
        return Ok(None);
    }
    fs::write(file, wanted)?;
    Ok(Some(value))
}

/// ```text
/// if there is a VLAN tag with a number other than 0 { what else is on the ingress decides } else { drop }
/// ```
const BARRIER: [Instruction; 9] = [
    instruction(0x61, 0, 1, 20, 0),   // r0 = context.vlan_present
    instruction(0x15, 0, 0, 5, 0),    // if r0 == 0, to the drop
    instruction(0x61, 0, 1, 24, 0),   // r0 = context.vlan_tci
    instruction(0x57, 0, 0, 0, 4095), // r0 &= the number
    instruction(0x15, 0, 0, 2, 0),    // if r0 == 0, to the drop
    instruction(0xb7, 0, 0, 0, -1),   // r0 = TCX_NEXT
    instruction(0x95, 0, 0, 0, 0),    // return r0
    instruction(0xb7, 0, 0, 0, 2),    // r0 = TCX_DROP
    instruction(0x95, 0, 0, 0, 0),    // return r0
];

/// Stands until it is closed: the link keeps the program.
fn barrier(interface_index: u32) -> io::Result<OwnedFd> {
    let program = bpf::load(Hook::TCX_INGRESS, *b"ixgate_barrier\0\0", &BARRIER, None)?;
    bpf::attach(program.as_fd(), Hook::TCX_INGRESS, interface_index, 0)
}
