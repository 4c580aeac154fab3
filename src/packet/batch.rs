//! Packets that walk together: fixed buffers beside their metadata, allocated once.
//!
//! A stage runs over the whole batch before the next stage starts, so that its code and tables stay in cache and the
//! loads of different packets overlap.

use crate::net::{RealmId, TunnelId};

use super::meta::Meta;

/// Packets in a batch. Longer ones gain next to nothing, and the buffers of 64 stay in the second-level cache.
pub const BATCH_PACKETS: usize = 64;
/// Largest inner packet; the configuration allows no larger `mtu_bytes`.
pub const MAX_PACKET_BYTES: usize = 1920;
/// Room behind the largest packet for what a transport leaves there (authentication tags, padding).
pub const TAILROOM_BYTES: usize = 128;
/// Distance of buffers: an odd number of cache lines, so that equal offsets do not share a cache set.
const STRIDE_BYTES: usize = 33 * 64;

const _: () = assert!(MAX_PACKET_BYTES + TAILROOM_BYTES <= STRIDE_BYTES && (STRIDE_BYTES / 64) % 2 == 1);

#[derive(Debug)]
pub struct Batch {
    bytes: Box<[u8]>,
    metas: Vec<Meta>,
}

impl Default for Batch {
    fn default() -> Self {
        Batch { bytes: vec![0; BATCH_PACKETS * STRIDE_BYTES].into(), metas: Vec::with_capacity(BATCH_PACKETS) }
    }
}

impl Batch {
    pub fn len(&self) -> usize {
        self.metas.len()
    }

    pub fn is_empty(&self) -> bool {
        self.metas.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.metas.len() == BATCH_PACKETS
    }

    /// The buffer that the next packet is to be written into, before [`Batch::push`]. The batch must not be full.
    pub fn slot(&mut self) -> &mut [u8] {
        let start = self.metas.len() * STRIDE_BYTES;
        &mut self.bytes[start..start + STRIDE_BYTES]
    }

    /// Makes the first `len` bytes of [`Batch::slot`] the next packet.
    pub fn push(&mut self, ingress: TunnelId, realm: RealmId, len: usize) {
        debug_assert!(len <= STRIDE_BYTES && !self.is_full());
        self.metas.push(Meta::arrived(ingress, realm, len));
    }

    pub fn metas(&self) -> &[Meta] {
        &self.metas
    }

    pub fn meta(&self, index: usize) -> &Meta {
        &self.metas[index]
    }

    pub fn bytes(&self, index: usize) -> &[u8] {
        let start = index * STRIDE_BYTES;
        &self.bytes[start..start + usize::from(self.metas[index].len)]
    }

    /// A packet's metadata and bytes together.
    pub fn packet_mut(&mut self, index: usize) -> (&mut Meta, &mut [u8]) {
        let meta = &mut self.metas[index];
        let start = index * STRIDE_BYTES;
        let len = usize::from(meta.len);
        (meta, &mut self.bytes[start..start + len])
    }

    /// Every packet that is still walking.
    pub fn live_mut(&mut self) -> impl Iterator<Item = (&mut Meta, &mut [u8])> {
        self.live_slots_mut().map(|(meta, slot)| {
            let len = usize::from(meta.len);
            (meta, &mut slot[..len])
        })
    }

    /// The same, with the whole buffer of each packet: a packet that grows in it is then to be told to
    /// [`Meta::set_total_bytes`].
    pub fn live_slots_mut(&mut self) -> impl Iterator<Item = (&mut Meta, &mut [u8])> {
        self.metas.iter_mut().zip(self.bytes.chunks_exact_mut(STRIDE_BYTES)).filter(|(meta, _)| meta.is_live())
    }

    pub fn clear(&mut self) {
        self.metas.clear();
    }
}
