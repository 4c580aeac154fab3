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
const GET_STRINGS: u32 = 0x1b;
const COUNT_STRINGS: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
const SET_FEATURES: u32 = 0x3b;
/// `ETH_SS_FEATURES`: the features' names, in the order of their bits.
const FEATURE_NAMES: u32 = 4;
/// `ETH_GSTRING_LEN`, 32 bytes.
const NAME_WORDS: usize = 8;
/// The kernel has some 64.
const MAX_FEATURES: usize = 1024;
/// Service tags (IEEE 802.1ad) are taken out of received frames. Its bit differs from kernel to kernel.
const SERVICE_TAGS_OUT: &[u8] = b"rx-vlan-stag-hw-parse";
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
        let nic = Nic::look_at(name, index)?;
        nic.hear_everything()?;
        Ok(nic)
    }

    /// The same, but the interface is not made promiscuous.
    pub fn look_at(name: &str, index: u32) -> io::Result<Self> {
        let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        check(fd)?;
        // SAFETY: a fresh file descriptor that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Nic { socket, name, index })
    }

    /// Not removed; another one of the same name is another.
    pub fn is_there(&self) -> bool {
        // SAFETY: the string is terminated and outlives the call.
        unsafe { libc::if_nametoindex(self.name.as_ptr()) == self.index }
    }

    /// The two ends are one machine, perhaps in two namespaces.
    pub fn is_veth(&self) -> bool {
        self.is_driven_by(b"veth")
    }

    /// Whether that is its driver's name.
    pub fn is_driven_by(&self, driver: &[u8]) -> bool {
        // `struct ethtool_drvinfo`: 196 bytes, with the driver's name in 32 of them behind the command.
        let mut info = [0u32; 49];
        info[0] = GET_DRIVER;
        if self.ethtool(&mut info).is_err() {
            return false;
        }
        info[1..9].iter().flat_map(|word| word.to_ne_bytes()).take_while(|byte| *byte != 0).eq(driver.iter().copied())
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

    /// The same for service tags.
    pub fn leave_service_tags_in(&self) -> bool {
        let Ok(features) = self.features() else { return true }; // As above.
        let Some(bit) = features.iter().position(|name| *name == SERVICE_TAGS_OUT) else { return true };
        if self.is_on(bit, features.len()).is_ok_and(|is_on| !is_on) {
            return true;
        }
        let _ = self.turn_off(bit, features.len());
        self.is_on(bit, features.len()).is_ok_and(|is_on| !is_on)
    }

    /// Names, by bit.
    fn features(&self) -> io::Result<Vec<Vec<u8>>> {
        // `struct ethtool_sset_info`: command, a word, 64 bits for the sets that are meant, the count of each.
        let mask = (1u64 << FEATURE_NAMES).to_ne_bytes();
        let half = |at: usize| u32::from_ne_bytes([mask[at], mask[at + 1], mask[at + 2], mask[at + 3]]);
        let mut info = [COUNT_STRINGS, 0, half(0), half(4), 0];
        self.ethtool(&mut info)?;
        let count = (info[4] as usize).min(MAX_FEATURES);
        // `struct ethtool_gstrings`: command, set, count, names. The kernel writes all that it has.
        let mut strings = vec![0u32; 3 + MAX_FEATURES * NAME_WORDS];
        strings[..3].copy_from_slice(&[GET_STRINGS, FEATURE_NAMES, count as u32]);
        self.ethtool(&mut strings)?;
        let names = strings[3..].chunks(NAME_WORDS).take(count);
        Ok(names
            .map(|words| words.iter().flat_map(|word| word.to_ne_bytes()).take_while(|b| *b != 0).collect())
            .collect())
    }

    fn is_on(&self, bit: usize, features: usize) -> io::Result<bool> {
        // `struct ethtool_gfeatures`: command, blocks; of each 32 bits: available, requested, active, never changed.
        let blocks = features.div_ceil(32);
        let mut words = vec![0u32; 2 + 4 * blocks];
        (words[0], words[1]) = (GET_FEATURES, blocks as u32);
        self.ethtool(&mut words)?;
        Ok(words[2 + 4 * (bit / 32) + 2] & 1 << (bit % 32) != 0)
    }

    fn turn_off(&self, bit: usize, features: usize) -> io::Result<()> {
        // `struct ethtool_sfeatures`: command, blocks; of each 32 bits: those that are meant, and how they are to be.
        let blocks = features.div_ceil(32);
        let mut words = vec![0u32; 2 + 2 * blocks];
        (words[0], words[1]) = (SET_FEATURES, blocks as u32);
        words[2 + 2 * (bit / 32)] = 1 << (bit % 32);
        self.ethtool(&mut words)
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
        assert!(words.len() >= known_words(words));
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
fn known_words(words: &[u32]) -> usize {
    match words[0] {
        COUNT_STRINGS => 5,
        GET_STRINGS => 3 + MAX_FEATURES * NAME_WORDS,
        GET_FEATURES => 2 + 4 * words[1] as usize,
        SET_FEATURES => 2 + 2 * words[1] as usize,
        GET_DRIVER => 49,
        GET_CHANNELS => 9,
        GET_FLAGS | SET_FLAGS => 2,
        _ => usize::MAX,
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::frames::interface;
    use crate::io::frames::testbed::with_testbed;

    #[test]
    fn service_tags_are_left_in_the_frames() {
        with_testbed(|_bed| {
            let nic = Nic::open("ixa", interface::index("ixa").unwrap()).unwrap();
            let features = nic.features().unwrap_or_default();
            let Some(bit) = features.iter().position(|name| *name == SERVICE_TAGS_OUT) else {
                return eprintln!("NOT RUN: this kernel names no features");
            };
            assert!(nic.is_on(bit, features.len()).unwrap(), "as veth interfaces come");
            assert!(nic.leave_service_tags_in());
            assert!(!nic.is_on(bit, features.len()).unwrap());
            assert!(nic.leave_service_tags_in(), "it is so already");
        });
    }
}
