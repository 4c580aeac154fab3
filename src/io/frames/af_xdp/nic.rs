//! What must be known of an interface before AF_XDP is used on it, and set.

#![allow(unsafe_code)]

use std::ffi::{CString, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

// Commands of SIOCETHTOOL (linux/ethtool.h).
const GET_DRIVER: u32 = 0x3;
const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
const GET_CHANNELS: u32 = 0x3c;
/// `ETH_FLAG_RXVLAN`.
const RXVLAN: u32 = 1 << 8;

/// An interface by name, and a socket to ask about it.
#[derive(Debug)]
pub struct Nic {
    /// A packet socket that receives nothing (protocol 0). While it is open the interface is promiscuous: groups' frames, and all
    /// VLANs where the card filters them, come in.
    socket: OwnedFd,
    name: CString,
    pub index: u32,
}

impl Nic {
    pub fn open(name: &str, index: u32) -> io::Result<Self> {
        let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        check(fd)?;
        // SAFETY: a fresh file descriptor that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let nic = Nic { socket, name, index };
        nic.hear_everything()?;
        Ok(nic)
    }

    /// Not removed; another one of the same name is another.
    pub fn is_there(&self) -> bool {
        // SAFETY: the string is terminated and outlives the call.
        unsafe { libc::if_nametoindex(self.name.as_ptr()) == self.index }
    }

    /// The two ends are one machine, perhaps in two namespaces.
    pub fn is_veth(&self) -> bool {
        // `struct ethtool_drvinfo`: 196 bytes, with the driver's name behind the command.
        let mut info = [0u32; 49];
        info[0] = GET_DRIVER;
        self.ethtool(&mut info).is_ok() && info[1].to_ne_bytes() == *b"veth" && info[2].to_ne_bytes()[0] == 0
    }

    /// Receive queues; 1 where the driver does not say.
    pub fn receive_queues(&self) -> u32 {
        // `struct ethtool_channels`: command, four maxima, then receive, transmit, other and combined channels.
        let mut channels = [0u32; 9];
        channels[0] = GET_CHANNELS;
        match self.ethtool(&mut channels) {
            Ok(()) => channels[5].saturating_add(channels[8]).max(1),
            Err(_) => 1,
        }
    }

    /// Has the card leave VLAN tags in the frames: an XDP program does not see those that it takes out. `false`: it takes them out.
    pub fn leave_tags_in(&self) -> bool {
        let Ok(flags) = self.flags() else { return true }; // No flags, no such feature.
        if flags & RXVLAN == 0 {
            return true;
        }
        let _ = self.ethtool(&mut [SET_FLAGS, flags & !RXVLAN]);
        self.flags().is_ok_and(|flags| flags & RXVLAN == 0)
    }

    fn flags(&self) -> io::Result<u32> {
        let mut value = [GET_FLAGS, 0];
        self.ethtool(&mut value)?;
        Ok(value[1])
    }

    fn hear_everything(&self) -> io::Result<()> {
        let membership = libc::packet_mreq {
            mr_ifindex: self.index as i32,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        let (fd, len) = (self.socket.as_raw_fd(), size_of_val(&membership) as libc::socklen_t);
        let value = (&raw const membership).cast::<c_void>();
        // SAFETY: `value` is `len` readable bytes that outlive the call.
        check(unsafe { libc::setsockopt(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, value, len) })
    }

    /// `words`: a structure of ethtool, as long as the command in its first word says.
    fn ethtool(&self, words: &mut [u32]) -> io::Result<()> {
        assert!(words.len() >= known_words(words[0]));
        let mut request = self.request();
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        // SAFETY: the request is an ifreq that points to as many words as the kernel reads and writes for this command; both outlive
        // the call.
        check(unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut request) })
    }

    fn request(&self) -> libc::ifreq {
        // SAFETY: ifreq is plain C data; all zeroes is a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(self.name.as_bytes()) {
            *to = *from as _;
        }
        request
    }
}

/// The size of a command's structure.
fn known_words(command: u32) -> usize {
    match command {
        GET_DRIVER => 49,
        GET_CHANNELS => 9,
        GET_FLAGS | SET_FLAGS => 2,
        _ => usize::MAX,
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
