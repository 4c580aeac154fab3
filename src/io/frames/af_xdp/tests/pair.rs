//! Two interfaces of one network namespace, joined to one another, and a packet socket on the other end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::io::frames::testbed::{in_namespace, sh, try_sh};
use crate::io::frames::{interface, sys};
use crate::io::poller::Poller;

/// Runs a test in a namespace of its own, with the interfaces `xa` and `xb`, of so many queues each.
pub fn with_pair(queues: u32, test: impl FnOnce() + Send + 'static) {
    in_namespace(move || {
        let ends = format!("numrxqueues {queues} numtxqueues {queues}");
        if let Err(why) = try_sh(&format!("ip link add xa {ends} type veth peer name xb {ends}")) {
            return eprintln!("NOT RUN: no veth pairs here, or no `ip`: {why}");
        }
        for name in ["xa", "xb"] {
            // IPv6 would speak by itself.
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1").ok();
            sh(&format!("ip link set {name} up"));
        }
        test();
    });
}

pub fn has_program(name: &str) -> bool {
    sh(&format!("ip link show dev {name}")).contains("prog/xdp")
}

/// The other end: a packet socket.
pub struct Tap(OwnedFd);

impl Tap {
    pub fn open(name: &str) -> Self {
        let socket = sys::open_packet().unwrap();
        for (level, option, value) in
            [(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1), (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 64 << 20)]
        {
            sys::set_option(socket.as_fd(), level, option, value).unwrap();
        }
        sys::bind_packet(socket.as_fd(), interface::index(name).unwrap(), libc::ETH_P_ALL as u16).unwrap();
        Tap(socket)
    }

    pub fn try_send(&self, frame: &[u8]) -> io::Result<()> {
        sys::send(self.0.as_fd(), &[frame])
    }

    pub fn send(&self, frame: &[u8]) {
        self.try_send(frame).unwrap();
    }

    /// The next frame that the other end has sent.
    pub fn recv(&self, timeout_ms: u64) -> Option<Vec<u8>> {
        if !is_readable(self.0.as_fd(), timeout_ms) {
            return None;
        }
        let mut frame = vec![0; 4096];
        let (len, _) = sys::receive(self.0.as_fd(), &mut [&mut frame, &mut []]).unwrap();
        frame.truncate(len);
        Some(frame)
    }
}

pub fn is_readable(fd: BorrowedFd<'_>, timeout_ms: u64) -> bool {
    let mut poller = Poller::new().unwrap();
    poller.add(fd, 0).unwrap();
    poller.wait(Some(Duration::from_millis(timeout_ms))).unwrap().is_readable(0)
}
