//! The ring of received frames: slots in memory shared with the kernel, each with a status word that says whose it is.
//!
//! ```text
//! slot   tpacket2_hdr   address   ...room...  virtio_net_hdr   frame            KERNEL -> the kernel fills it
//!        0         32   52                    mac-10           mac  (76)  2048  USER   -> ours, until given back
//! ```

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::offload::HEADER_BYTES;
use super::super::sys::{self, Mapping};

/// Room for the longest frame that a port takes (a packet of 1,920 bytes, an Ethernet header, one VLAN tag) behind what the kernel
/// writes before it (76 bytes). Longer ones come by another way: see the parent module.
const SLOT_BYTES: usize = 2048;
/// Before it stand the slot's header with its status word, an address, and the header for offload.
const FIRST_FRAME_BYTE: usize = size_of::<libc::tpacket2_hdr>() + size_of::<libc::sockaddr_ll>() + HEADER_BYTES;
/// What the kernel allocates in one piece.
const BLOCK_BYTES: usize = 64 << 10;
/// 8 MiB in all, as a UDP socket has: at a million frames a second it rides out 4 ms.
pub const SLOTS: usize = 4096;

#[derive(Debug)]
pub struct Ring {
    memory: Mapping,
    /// The slot that the kernel fills next.
    next: usize,
    /// So many before it are ours.
    held: usize,
}

/// A frame in a slot of ours.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub(super) index: usize,
    /// Where the frame begins in the slot.
    pub at: usize,
    /// Bytes of the frame that are there.
    pub len: usize,
    /// Bytes of the frame as it came.
    pub original_len: usize,
    /// It waits whole in the socket's queue, in the same order.
    pub is_queued: bool,
    /// A VLAN tag that stood behind the addresses.
    pub vlan: Option<[u8; 4]>,
}

impl Slot {
    /// Whatever the header says, the frame lies in the slot, behind what the kernel writes before it.
    fn read(index: usize, status: u32, header: &libc::tpacket2_hdr) -> Self {
        let at = usize::from(header.tp_mac).clamp(FIRST_FRAME_BYTE, SLOT_BYTES);
        let is_tagged = status & libc::TP_STATUS_VLAN_VALID != 0;
        let [p0, p1] = match status & libc::TP_STATUS_VLAN_TPID_VALID {
            0 => (libc::ETH_P_8021Q as u16).to_be_bytes(),
            _ => header.tp_vlan_tpid.to_be_bytes(),
        };
        let [t0, t1] = header.tp_vlan_tci.to_be_bytes();
        Slot {
            index,
            at,
            len: (header.tp_snaplen as usize).min(SLOT_BYTES - at),
            original_len: header.tp_len as usize,
            is_queued: status & libc::TP_STATUS_COPY != 0,
            vlan: is_tagged.then_some([p0, p1, t0, t1]),
        }
    }
}

impl Ring {
    /// Gives the socket its ring.
    pub fn new(fd: &OwnedFd) -> io::Result<Self> {
        sys::set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_VERSION, libc::tpacket_versions::TPACKET_V2 as i32)?;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK_BYTES as u32,
            tp_block_nr: (SLOTS * SLOT_BYTES / BLOCK_BYTES) as u32,
            tp_frame_size: SLOT_BYTES as u32,
            tp_frame_nr: SLOTS as u32,
        };
        sys::set_ring(fd.as_fd(), libc::PACKET_RX_RING, &request)?;
        Ok(Ring { memory: Mapping::new(fd.as_fd(), SLOTS * SLOT_BYTES)?, next: 0, held: 0 })
    }

    /// The next frame that has come. It is ours until [`Ring::give_back`].
    pub fn take(&mut self) -> Option<Slot> {
        let index = self.next;
        let status = self.status(index).load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 || self.held == SLOTS {
            return None;
        }
        // SAFETY: the status says that the slot is ours, so the kernel does not write to it; the header lies at its start, aligned,
        // and any bytes are a valid value of it.
        let header = unsafe { ptr::read(self.memory.at(index * SLOT_BYTES, SLOT_BYTES).cast::<libc::tpacket2_hdr>()) };
        self.next = (index + 1) % SLOTS;
        self.held += 1;
        Some(Slot::read(index, status, &header))
    }

    /// All slots that were taken are the kernel's again.
    pub fn give_back(&mut self) {
        while self.held > 0 {
            let index = (self.next + SLOTS - self.held) % SLOTS;
            self.status(index).store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.held -= 1;
        }
    }

    /// The frame, with `before` bytes that stand before it in its slot.
    pub fn bytes(&self, slot: &Slot, before: usize) -> &[u8] {
        let (start, len) = self.place(slot, before);
        // SAFETY: the slot is ours (`place` checks it), so that the kernel does not write to it until `give_back`, which takes
        // `self` exclusively. The memory is initialised: the kernel hands it over zeroed.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// The same, to be changed.
    pub fn bytes_mut(&mut self, slot: &Slot, before: usize) -> &mut [u8] {
        let (start, len) = self.place(slot, before);
        // SAFETY: as in `bytes`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    fn place(&self, slot: &Slot, before: usize) -> (*mut u8, usize) {
        let age = (self.next + SLOTS - 1 - slot.index) % SLOTS;
        assert!(age < self.held, "a slot that was not given back");
        assert!(before <= slot.at && slot.at + slot.len <= SLOT_BYTES, "within the slot");
        let len = before + slot.len;
        (self.memory.at(slot.index * SLOT_BYTES + slot.at - before, len), len)
    }

    fn status(&self, index: usize) -> &AtomicU32 {
        let word = self.memory.at(index * SLOT_BYTES, size_of::<u32>());
        // SAFETY: aligned (slots are), within the mapping, alive as long as `self`; both sides access it as one word only.
        unsafe { AtomicU32::from_ptr(word.cast()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_its_header_says_a_frame_lies_in_its_slot_and_not_over_the_header() {
        for mac in [0, 3, 31, 61, 62, 76, 2047, 2048, u16::MAX] {
            for snaplen in [0, 60, 1986, 2048, u32::MAX] {
                // SAFETY: plain C data; all zeroes is a valid value.
                let mut header: libc::tpacket2_hdr = unsafe { std::mem::zeroed() };
                (header.tp_mac, header.tp_snaplen) = (mac, snaplen);
                let slot = Slot::read(7, libc::TP_STATUS_USER, &header);
                assert!(slot.at >= 62 && slot.at + slot.len <= SLOT_BYTES, "{slot:?}");
                if (62..=2048).contains(&mac) {
                    assert_eq!(slot.at, usize::from(mac));
                    assert_eq!(slot.len, (snaplen as usize).min(2048 - slot.at));
                }
            }
        }
    }
}
