//! Packets that walk together: fixed buffers beside their metadata, allocated once.
//!
//! A stage runs over the whole batch before the next stage starts, so that its code and tables stay in cache and the
//! loads of different packets overlap.

use std::slice::ChunksExactMut;

use crate::net::{RealmId, TunnelId};

use super::meta::Meta;
use super::reassembled::MAX_DATAGRAM_BYTES;

/// Packets in a batch. Longer ones gain next to nothing, and the buffers of 64 stay in the second-level cache.
pub const BATCH_PACKETS: usize = 64;
// Sets of them are the bits of a word in many places.
const _: () = assert!(BATCH_PACKETS <= u64::BITS as usize);
/// Largest inner packet; the configuration allows no larger `mtu_bytes`.
pub const MAX_PACKET_BYTES: usize = 1920;
/// Room behind the largest packet for what a transport leaves there (authentication tags, padding).
pub const TAILROOM_BYTES: usize = 128;
/// Distance of buffers: an odd number of cache lines, so that equal offsets do not share a cache set.
const STRIDE_BYTES: usize = 33 * LINE_BYTES;
const LINE_BYTES: usize = 64;

const _: () = assert!(MAX_PACKET_BYTES + TAILROOM_BYTES <= STRIDE_BYTES && (STRIDE_BYTES / LINE_BYTES) % 2 == 1);

/// The buffer of a datagram that was put together from fragments.
const DATAGRAM_STRIDE_BYTES: usize = (MAX_DATAGRAM_BYTES + TAILROOM_BYTES).next_multiple_of(LINE_BYTES);

#[derive(Debug)]
pub struct Batch {
    /// Buffers, the first at `first_byte`, each at the beginning of a cache line: a vector that lies in two of them costs twice.
    bytes: Box<[u8]>,
    first_byte: usize,
    /// Of all packets that there may be.
    metas: Box<[Meta]>,
    len: usize,
    stride_bytes: usize,
}

/// The packets of a batch, whose buffers may be lent out side by side.
pub struct Apart<'a> {
    metas: &'a mut [Meta],
    buffers: [Option<&'a mut [u8]>; BATCH_PACKETS],
}

impl<'a> Apart<'a> {
    /// A packet's metadata and its whole buffer. `None`: there is no such packet, or it has been taken.
    #[inline]
    pub fn take(&mut self, index: usize) -> Option<(&mut Meta, &'a mut [u8])> {
        Some((self.metas.get_mut(index)?, self.buffers.get_mut(index)?.take()?))
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch::new(BATCH_PACKETS, STRIDE_BYTES)
    }
}

impl Batch {
    /// Room for one packet of the largest size there is, as fragments make it.
    pub fn of_one_datagram() -> Self {
        Batch::new(1, DATAGRAM_STRIDE_BYTES)
    }

    fn new(max_packets: usize, stride_bytes: usize) -> Self {
        let bytes: Box<[u8]> = vec![0; max_packets * stride_bytes + LINE_BYTES].into();
        let first_byte = bytes.as_ptr().align_offset(LINE_BYTES).min(LINE_BYTES);
        Batch { bytes, first_byte, metas: vec![Meta::NONE; max_packets].into(), len: 0, stride_bytes }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub fn is_full(&self) -> bool {
        self.len == self.metas.len()
    }

    /// The buffer that the next packet is to be written into, before [`Batch::push`]. The batch must not be full.
    #[inline]
    pub fn slot(&mut self) -> &mut [u8] {
        let start = self.start_of(self.len);
        &mut self.bytes[start..start + self.stride_bytes]
    }

    /// How long every buffer is.
    #[inline]
    pub fn slot_bytes(&self) -> usize {
        self.stride_bytes
    }

    /// The buffers of the next packets and of those behind them: [`Batch::slot`] comes first.
    #[inline]
    pub fn slots(&mut self) -> ChunksExactMut<'_, u8> {
        let start = self.start_of(self.len);
        self.bytes[start..].chunks_exact_mut(self.stride_bytes)
    }

    /// The buffer with that number, which must be there.
    #[inline]
    pub fn slot_mut(&mut self, index: usize) -> &mut [u8] {
        let start = self.start_of(index);
        &mut self.bytes[start..start + self.stride_bytes]
    }

    /// Brings the first `len` bytes of the buffer that lies so many behind [`Batch::slot`] there.
    #[inline]
    pub fn bring_forward(&mut self, distance: usize, len: usize) {
        if distance > 0 {
            let start = self.start_of(self.len);
            let from = start + distance * self.stride_bytes;
            self.bytes.copy_within(from..from + len, start);
        }
    }

    /// Makes the first `len` bytes of [`Batch::slot`] the next packet.
    #[inline]
    pub fn push(&mut self, ingress: TunnelId, realm: RealmId, len: usize) {
        debug_assert!(len <= self.stride_bytes && !self.is_full());
        self.metas[self.len].arrive(ingress, realm, len);
        self.len += 1;
    }

    /// Makes packets of the next buffers, each as long as `len_of` says, until it says nothing or the batch is full. How many.
    #[inline(always)]
    pub fn push_all(
        &mut self,
        ingress: TunnelId,
        realm: RealmId,
        mut len_of: impl FnMut(&mut [u8]) -> Option<usize>,
    ) -> usize {
        let start = self.start_of(self.len);
        let buffers = self.bytes.get_mut(start..).unwrap_or_default().chunks_exact_mut(self.stride_bytes);
        let mut pushed = 0;
        for (meta, buffer) in self.metas[self.len..].iter_mut().zip(buffers) {
            let Some(len) = len_of(buffer) else { break };
            meta.arrive(ingress, realm, len);
            pushed += 1;
        }
        self.len += pushed;
        pushed
    }

    #[inline]
    fn start_of(&self, index: usize) -> usize {
        self.first_byte + index * self.stride_bytes
    }

    #[inline]
    pub fn metas(&self) -> &[Meta] {
        &self.metas[..self.len]
    }

    #[inline]
    pub fn meta(&self, index: usize) -> &Meta {
        &self.metas[index]
    }

    #[inline]
    pub fn meta_mut(&mut self, index: usize) -> &mut Meta {
        &mut self.metas[index]
    }

    #[inline]
    pub fn bytes(&self, index: usize) -> &[u8] {
        let start = self.start_of(index);
        &self.bytes[start..start + self.metas[index].len as usize]
    }

    /// The whole buffer of a packet.
    #[inline]
    pub fn buffer(&self, index: usize) -> &[u8] {
        let start = self.start_of(index);
        &self.bytes[start..start + self.stride_bytes]
    }

    /// A packet's metadata and its whole buffer.
    #[inline]
    pub fn buffer_mut(&mut self, index: usize) -> (&mut Meta, &mut [u8]) {
        let start = self.start_of(index);
        (&mut self.metas[index], &mut self.bytes[start..start + self.stride_bytes])
    }

    /// A packet's metadata and bytes together.
    #[inline]
    pub fn packet_mut(&mut self, index: usize) -> (&mut Meta, &mut [u8]) {
        let start = self.start_of(index);
        let meta = &mut self.metas[index];
        let len = meta.len as usize;
        (meta, &mut self.bytes[start..start + len])
    }

    /// Every packet's metadata and whole buffer.
    #[inline]
    pub fn buffers_mut(&mut self) -> impl Iterator<Item = (&mut Meta, &mut [u8])> {
        self.metas[..self.len].iter_mut().zip(self.bytes[self.first_byte..].chunks_exact_mut(self.stride_bytes))
    }

    /// All packets, to be taken in any order.
    #[inline]
    pub fn take_apart(&mut self) -> Apart<'_> {
        let mut buffers = [const { None }; BATCH_PACKETS];
        let all = self.bytes[self.first_byte..].chunks_exact_mut(self.stride_bytes);
        buffers.iter_mut().zip(all.take(self.len)).for_each(|(place, buffer)| *place = Some(buffer));
        Apart { metas: &mut self.metas[..self.len], buffers }
    }

    /// Every packet that is still walking.
    pub fn live_mut(&mut self) -> impl Iterator<Item = (&mut Meta, &mut [u8])> {
        self.live_slots_mut().map(|(meta, slot)| {
            let len = meta.len as usize;
            (meta, &mut slot[..len])
        })
    }

    /// The same, with the whole buffer of each packet: a packet that grows in it is then to be told to
    /// [`Meta::set_total_bytes`].
    pub fn live_slots_mut(&mut self) -> impl Iterator<Item = (&mut Meta, &mut [u8])> {
        self.metas[..self.len]
            .iter_mut()
            .zip(self.bytes[self.first_byte..].chunks_exact_mut(self.stride_bytes))
            .filter(|(meta, _)| meta.is_live())
    }

    pub fn clear(&mut self) {
        self.len = 0;
    }
}
