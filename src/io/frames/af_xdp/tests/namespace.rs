//! Two interfaces in a network namespace of a test's own, and a packet socket on the other end.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::thread;

/// Runs in a thread that has a new network namespace, with the interfaces `xa` and `xb` joined to one another. The namespace is gone when
/// the thread has ended and what it opened is closed.
pub fn in_namespace(queues: u32, test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(move || {
        // SAFETY: no pointers; it changes this thread's namespace only.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return eprintln!("NOT RUN: no network namespace: {}", io::Error::last_os_error());
        }
        let ends = format!("numrxqueues {queues} numtxqueues {queues}");
        if !try_ip(&format!("link add xa {ends} type veth peer name xb {ends}")) {
            return eprintln!("NOT RUN: no veth pairs here, or no `ip`");
        }
        for name in ["xa", "xb"] {
            // IPv6 would speak by itself.
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1").ok();
            ip(&format!("link set {name} up"));
        }
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub fn try_ip(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split(' ')).stderr(Stdio::null()).output();
    output.is_ok_and(|output| output.status.success())
}

pub fn ip(arguments: &str) {
    assert!(try_ip(arguments), "ip {arguments}");
}

pub fn has_program(name: &str) -> bool {
    let output = Command::new("ip").args(["link", "show", "dev", name]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().contains("prog/xdp")
}

/// The other end: a packet socket.
pub struct Tap(OwnedFd);

impl Tap {
    pub fn open(name: &str) -> Self {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: no pointers; the descriptor is fresh. The name is terminated, the options are numbers, and the address is as long as said.
        unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, i32::from(protocol));
            assert!(fd >= 0);
            let fd = OwnedFd::from_raw_fd(fd);
            for (level, option, value) in [
                (libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1),
                (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 64 << 20),
            ] {
                let value: i32 = value;
                assert_eq!(libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), 4), 0);
            }
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol;
            address.sll_ifindex = libc::if_nametoindex(CString::new(name).unwrap().as_ptr()) as i32;
            let len = size_of_val(&address) as u32;
            assert_eq!(libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len), 0);
            Tap(fd)
        }
    }

    pub fn try_send(&self, frame: &[u8]) -> bool {
        // SAFETY: as many readable bytes as said.
        unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) == frame.len() as isize }
    }

    pub fn send(&self, frame: &[u8]) {
        assert!(self.try_send(frame), "{}", io::Error::last_os_error());
    }

    /// The next frame that the other end has sent.
    pub fn recv(&self, timeout_ms: i32) -> Option<Vec<u8>> {
        if !is_readable(self.0.as_fd(), timeout_ms) {
            return None;
        }
        let mut frame = vec![0; 4096];
        // SAFETY: as many writable bytes as said.
        let len = unsafe { libc::recv(self.0.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
        frame.truncate(usize::try_from(len).unwrap());
        Some(frame)
    }
}

pub fn is_readable(fd: BorrowedFd<'_>, timeout_ms: i32) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd that outlives the call.
    unsafe { libc::poll(&mut poll, 1, timeout_ms) == 1 && poll.revents & libc::POLLIN != 0 }
}
