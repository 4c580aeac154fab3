//! All packets of a batch at once, under as many keys: where the path hands its packets to the cryptography.
//!
//! ```text
//! SealBatch   text (padded) of a packet   ----->  IV | ciphertext | ICV   in the datagram that leaves
//! OpenBatch   IV | ciphertext | ICV       ----->  text                    in the packet's buffer
//! ```
//!
//! Packets come key by key, and no answer is there before `finish`. [`seal_batch`] and [`open_batch`] are the same for packets in a slice of jobs. The IV is ESP's alone: WireGuard has its counter in the message's
//! header. Packets do not depend on one another. Where a kernel of our own (`kernels/`) has the key, it does them: ChaCha20-Poly1305
//! of up to 64 side by side, AES-GCM one behind the other. The library takes one packet at a time, in one pass from
//! where the bytes are to where they are wanted (`docs/decisions/0017-sealing-and-opening-in-batches.md` has the figures).

use super::aead::Own;
use super::kernels::{aes_gcm, chacha20_poly1305};
use super::packet_key::PacketKey;

/// Which packet it is under its key, and what is authenticated with it. Never twice the same for sealing under one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stamp {
    /// As in [`super::Associated::Esp`]. The sequence number makes the IV, too.
    Esp { spi: u32, sequence: u64, esn: bool },
    /// A data message. Nothing is associated.
    WireGuard { counter: u64 },
}

impl Stamp {
    /// Counter or sequence number.
    #[inline]
    pub fn number(self) -> u64 {
        match self {
            Stamp::Esp { sequence: number, .. } | Stamp::WireGuard { counter: number } => number,
        }
    }
}

/// Packets to one tunnel that have their numbers, whichever transport they belong to: what stands around each.
pub trait Departing {
    /// How many.
    fn packets(&self) -> usize;
    /// Of the outer header around a packet.
    fn traffic_class(&self, packet: &[u8]) -> u8;
    /// Writes what stands behind the first `packet_bytes` of `buffer`, which are the packet. With it the text has so many bytes. `None`: there is no
    /// room for it, or it is no packet that the transport carries.
    fn finish(&self, buffer: &mut [u8], packet_bytes: usize) -> Option<usize>;
    /// The datagram with so many bytes of text.
    fn message_bytes(&self, text_bytes: usize) -> usize;
    /// Of the packet that is so many behind the first.
    fn stamp(&self, behind: u64) -> Stamp;
    /// Writes the datagram's header, with a stamp that must be one of theirs. Answers where what is sealed goes.
    fn write_header<'a>(&self, stamp: Stamp, message: &'a mut [u8]) -> Option<&'a mut [u8]>;
}

/// A packet that is to be sealed.
#[derive(Debug)]
pub struct SealJob<'a> {
    pub key: &'a PacketKey,
    pub stamp: Stamp,
    /// With its padding.
    pub text: &'a [u8],
    /// As long as IV, text and ICV.
    pub sealed: &'a mut [u8],
    /// The answer. `false`: the lengths do not agree; what is in `sealed` must not leave.
    pub is_sealed: bool,
}

/// A packet that is to be opened.
#[derive(Debug)]
pub struct OpenJob<'a> {
    pub key: &'a PacketKey,
    pub stamp: Stamp,
    /// IV, text, ICV.
    pub sealed: &'a [u8],
    /// At least as long as the text.
    pub text: &'a mut [u8],
    /// The answer. `false`: not sealed with this key and stamp, or not as it is now. No unauthentic text is then in `text`.
    pub is_authentic: bool,
}

impl<'a> SealJob<'a> {
    #[inline]
    pub fn new(key: &'a PacketKey, stamp: Stamp, text: &'a [u8], sealed: &'a mut [u8]) -> Self {
        SealJob { key, stamp, text, sealed, is_sealed: false }
    }
}

impl<'a> OpenJob<'a> {
    #[inline]
    pub fn new(key: &'a PacketKey, stamp: Stamp, sealed: &'a [u8], text: &'a mut [u8]) -> Self {
        OpenJob { key, stamp, sealed, text, is_authentic: false }
    }
}

/// Packets that are being sealed, as they come: those of a kernel that does many side by side wait for [`SealBatch::finish`], all others are sealed at once,
/// so that the processor does what comes between two of them while it waits for the first.
#[must_use = "nothing is sealed before it is finished"]
#[derive(Default)]
pub struct SealBatch<'a>(Work<'a>);

/// Packets that are being opened, in the same way.
#[must_use = "nothing is opened before it is finished"]
#[derive(Default)]
pub struct OpenBatch<'a>(Work<'a>);

#[derive(Default)]
struct Work<'a> {
    together: Together<'a>,
    /// Vectors with secrets may lie on the stack.
    one_by_one: bool,
}

/// Packets under one key that are to be sealed. A loop over them is made for each way in which that may be done, so that it does not ask with each packet.
pub trait ToSeal<'a> {
    type Output;
    /// `seal` takes a packet as [`SealJob`] has it. `true`: it will be sealed when the batch is finished. `false`: the lengths do not agree; what is in the datagram must not leave.
    fn seal_all(self, seal: impl FnMut(Stamp, &'a [u8], &'a mut [u8]) -> bool) -> Self::Output;
}

/// The same of those that are to be opened.
pub trait ToOpen<'a> {
    type Output;
    /// `open` takes a packet as [`OpenJob`] has it, and where the answer is wanted: of what is sealed, and where the text is.
    fn open_all(self, open: impl FnMut(Stamp, &'a [u8], &'a mut [u8], &'a mut bool)) -> Self::Output;
}

impl<'a> SealBatch<'a> {
    #[inline(always)]
    pub fn seal<Packets: ToSeal<'a>>(&mut self, key: &'a PacketKey, packets: Packets) -> Packets::Output {
        let SealBatch(work) = self;
        match key.own() {
            Some(Own::ChaCha20Poly1305(own)) => packets.seal_all(
                #[inline(always)]
                |stamp, text, sealed| {
                    let packet = own.sealing(stamp, text, sealed);
                    let is_sealed = packet.is_some();
                    packet.into_iter().for_each(|packet| work.push(packet));
                    is_sealed
                },
            ),
            Some(Own::AesGcm(own)) => {
                work.one_by_one = true;
                packets.seal_all(
                    #[inline(always)]
                    |stamp, text, sealed| own.sealing(stamp, text, sealed).as_mut().map(aes_gcm::apply).is_some(),
                )
            }
            None => packets.seal_all(|stamp, text, sealed| key.seal_into(stamp, text, sealed).is_some()),
        }
    }

    /// Nothing is sealed for certain before this.
    #[inline(never)]
    pub fn finish(&mut self) {
        self.0.finish();
    }
}

impl<'a> OpenBatch<'a> {
    #[inline(always)]
    pub fn open<Packets: ToOpen<'a>>(&mut self, key: &'a PacketKey, packets: Packets) -> Packets::Output {
        let OpenBatch(work) = self;
        match key.own() {
            Some(Own::ChaCha20Poly1305(own)) => packets.open_all(
                #[inline(always)]
                |stamp, sealed, text, is_authentic| {
                    *is_authentic = false;
                    let packet = own.opening(stamp, sealed, text, is_authentic);
                    packet.into_iter().for_each(|packet| work.push(packet));
                },
            ),
            Some(Own::AesGcm(own)) => {
                work.one_by_one = true;
                packets.open_all(
                    #[inline(always)]
                    |stamp, sealed, text, is_authentic| {
                        *is_authentic = false;
                        let packet = own.opening(stamp, sealed, text, is_authentic);
                        packet.into_iter().for_each(|mut packet| aes_gcm::apply(&mut packet));
                    },
                )
            }
            None => packets.open_all(|stamp, sealed, text, is_authentic| {
                *is_authentic = key.open_stamped(stamp, sealed, text).is_ok();
            }),
        }
    }

    /// No answer is there before this.
    #[inline(never)]
    pub fn finish(&mut self) {
        self.0.finish();
    }
}

impl<'a> Work<'a> {
    #[inline(always)]
    fn push(&mut self, packet: chacha20_poly1305::Packet<'a>) {
        // More than a kernel takes at once are more than one batch.
        if self.together.is_full() {
            self.apply();
        }
        let pushed = self.together.push(packet);
        debug_assert!(pushed.is_ok());
    }

    #[inline(never)]
    fn apply(&mut self) {
        chacha20_poly1305::apply(&mut self.together);
        self.together.clear();
    }

    fn finish(&mut self) {
        self.apply();
        if std::mem::take(&mut self.one_by_one) {
            aes_gcm::wipe();
        }
    }
}

impl<'a> ToSeal<'a> for &'a mut SealJob<'_> {
    type Output = ();

    #[inline(always)]
    fn seal_all(self, mut seal: impl FnMut(Stamp, &'a [u8], &'a mut [u8]) -> bool) {
        self.is_sealed = seal(self.stamp, self.text, self.sealed);
    }
}

impl<'a> ToOpen<'a> for &'a mut OpenJob<'_> {
    type Output = ();

    #[inline(always)]
    fn open_all(self, mut open: impl FnMut(Stamp, &'a [u8], &'a mut [u8], &'a mut bool)) {
        open(self.stamp, self.sealed, self.text, &mut self.is_authentic);
    }
}

/// All of them.
pub fn seal_batch(jobs: &mut [SealJob<'_>]) {
    jobs.iter().for_each(|job| job.key.touch());
    let mut batch = SealBatch::default();
    for job in jobs {
        batch.seal(job.key, job);
    }
    batch.finish();
}

/// All of them.
pub fn open_batch(jobs: &mut [OpenJob<'_>]) {
    jobs.iter().for_each(|job| job.key.touch());
    let mut batch = OpenBatch::default();
    for job in jobs {
        batch.open(job.key, job);
    }
    batch.finish();
}

/// Those of a batch that are done side by side.
type Together<'a> = heapless::Vec<chacha20_poly1305::Packet<'a>, { chacha20_poly1305::PACKETS }>;

#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod tests;
