//! ChaCha20-Poly1305 (RFC 8439) over all packets of a batch.
//!
//! ```text
//! sort     the longest packets first, then sixteen at a time, or thirty-two short ones:
//! ChaCha20   key block and text blocks of all of them, sixteen blocks at a time   ->  ciphertexts (texts), one-time keys
//! Poly1305   eight packets at a time, two such groups in turns; or a long one by itself   ->  tags
//! ```
//!
//! So few packets at a time because what is encrypted is still in the first cache when it is authenticated. An opened
//! packet's text is written before its tag is known, and wiped if that is wrong. All of it takes some 5 KiB of stack.

use std::arch::x86_64::__m512i;
use std::cmp::Reverse;
use std::sync::Arc;

mod chacha20;
mod field;
mod poly1305;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::avx512::{Avx512, prefetch};
use super::packets;

pub const KEY_BYTES: usize = 32;
/// Packets of a batch. More are more than one batch.
pub const PACKETS: usize = 64;
const BLOCK_BYTES: usize = 64;
/// Packets that are done together, at most: half as many if they are not all short. What was encrypted of them is still in the first
/// cache when it is authenticated.
const CHUNK: usize = 32;
const SHORT_BYTES: usize = 640;
/// What the two halves have, at most, below the caller's: with optimization, 4.8 KiB.
const STACK_BYTES: usize = 5120;

pub type Packet<'a> = packets::Packet<'a, Key>;

/// One cache line by itself, where its bytes stay: who moves a session moves a pointer, and leaves no copy of the key behind. Clones are the
/// same bytes, which are wiped when the last of them is dropped.
#[derive(Clone)]
pub struct Key {
    line: Arc<Line>,
    processor: Avx512,
}

#[repr(align(64))]
struct Line([u8; KEY_BYTES]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for Line {}

impl Key {
    pub fn new(bytes: &[u8; KEY_BYTES], processor: Avx512) -> Key {
        let mut line = Arc::new(Line([0; KEY_BYTES]));
        if let Some(line) = Arc::get_mut(&mut line) {
            line.0 = *bytes;
        }
        Key { line, processor }
    }

    #[inline]
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.line.0
    }

    /// Of all clones.
    #[inline]
    pub fn identity(&self) -> usize {
        Arc::as_ptr(&self.line).addr()
    }

    /// Asks for it ahead.
    #[inline]
    pub fn touch(&self) {
        prefetch(&*self.line);
    }

    #[inline]
    fn halves(&self) -> [&[u8; 16]; 2] {
        let (halves, _) = self.line.0.as_chunks();
        [&halves[0], &halves[1]]
    }
}

// SAFETY: any 64 bytes are a vector.
const NO_WORDS: __m512i = unsafe { std::mem::transmute::<[u8; 64], __m512i>([0; 64]) };

/// What a batch writes down and nobody else may read.
struct Scratch {
    /// Of a chunk's packets, in its order. In the first 32 bytes r and s, the one-time key.
    key_blocks: [[u8; BLOCK_BYTES]; CHUNK],
    /// Sixteen key streams, that are not put to their texts yet.
    words: [__m512i; 16],
}

impl Scratch {
    fn new() -> Scratch {
        Scratch { key_blocks: [[0; BLOCK_BYTES]; CHUNK], words: [NO_WORDS; 16] }
    }

    /// Once for a batch, of so many packets.
    fn wipe(&mut self, packets: usize) {
        let used = packets.min(CHUNK);
        self.key_blocks[..used].fill([0; BLOCK_BYTES]);
        self.words.fill(NO_WORDS);
        zeroize::optimization_barrier(self);
    }
}

/// Seals those that are to be sealed and opens the others, and leaves them in another order: up to [`PACKETS`] of them, and nothing is done to
/// more.
pub fn apply(packets: &mut [Packet<'_>]) {
    let Some(processor) = packets.first().map(|packet| packet.key.processor) else { return };
    let mut scratch = Scratch::new();
    apply_with(packets, processor, &mut scratch);
    scratch.wipe(packets.len());
    // Vectors that had no register lay there.
    zeroize::zeroize_stack::<STACK_BYTES>();
}

#[inline(never)] // so that its stack is where it is wiped
fn apply_with(packets: &mut [Packet<'_>], _: Avx512, scratch: &mut Scratch) {
    let count = packets.len().min(PACKETS);
    let mut rest = &mut packets[..count];
    if !rest.is_sorted_by_key(|packet| Reverse(packet.to.len())) {
        rest.sort_unstable_by_key(|packet| Reverse(packet.to.len()));
    }
    while let [longest, ..] = &*rest {
        let count = if longest.to.len() <= SHORT_BYTES { CHUNK } else { CHUNK / 2 };
        let (chunk, behind) = rest.split_at_mut(count.min(rest.len()));
        // SAFETY: an `Avx512` says that the processor has these instructions.
        unsafe {
            chacha20::apply(chunk, scratch);
            poly1305::tags(chunk, scratch);
        }
        rest = behind;
    }
}

#[cfg(test)]
mod field_tests;
#[cfg(test)]
mod tests;
