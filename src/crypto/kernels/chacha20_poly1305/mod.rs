//! ChaCha20-Poly1305 (RFC 8439) over all packets of a batch.
//!
//! ```text
//! sort     the longest packets first, then sixteen at a time:
//! ChaCha20   key block and text blocks of all of them, sixteen blocks at a time   ->  ciphertexts (texts), one-time keys
//! Poly1305   eight packets at a time, two such groups in turns; or a long one by itself   ->  tags
//! ```
//!
//! Sixteen packets at a time because what is encrypted is still in the first cache when it is authenticated. An opened
//! packet's text is written before its tag is known, and wiped if that is wrong. All of it takes some 5 KiB of stack.

use std::arch::x86_64::__m256i;
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
/// Packets between which what was written does not leave the cache.
const CHUNK: usize = 16;
/// What the two halves have, at most, below the caller's: with optimization, 4.2 KiB.
const STACK_BYTES: usize = 4608;

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

/// r and s, 16 bytes each, as they come out of the key stream.
type OneTimeKey = __m256i;

// SAFETY: any 32 bytes are a vector.
const NO_KEY: OneTimeKey = unsafe { std::mem::transmute::<[u8; 32], OneTimeKey>([0; 32]) };

/// What a batch writes down and nobody else may read.
struct Scratch {
    /// Of a chunk's packets, in its order.
    one_time_keys: [OneTimeKey; CHUNK],
}

impl Scratch {
    fn new() -> Scratch {
        Scratch { one_time_keys: [NO_KEY; CHUNK] }
    }

    /// Once for a batch.
    fn wipe(&mut self) {
        self.one_time_keys.zeroize();
    }
}

/// Seals those that are to be sealed and opens the others: up to [`PACKETS`] of them, and nothing is done to more.
pub fn apply(packets: &mut [Packet<'_>]) {
    let Some(processor) = packets.first().map(|packet| packet.key.processor) else { return };
    let mut scratch = Scratch::new();
    apply_with(packets, processor, &mut scratch);
    scratch.wipe();
    // Vectors that had no register lay there.
    zeroize::zeroize_stack::<STACK_BYTES>();
}

#[inline(never)] // so that its stack is where it is wiped
fn apply_with(packets: &mut [Packet<'_>], _: Avx512, scratch: &mut Scratch) {
    let mut order = [0; PACKETS];
    for chunk in longest_first(packets, &mut order).chunks(CHUNK) {
        // SAFETY: an `Avx512` says that the processor has these instructions.
        unsafe {
            chacha20::apply(packets, chunk, scratch);
            poly1305::tags(packets, chunk, scratch);
        }
    }
}

fn longest_first<'a>(packets: &[Packet<'_>], order: &'a mut [u8; PACKETS]) -> &'a [u8] {
    let order = &mut order[..packets.len().min(PACKETS)];
    order.iter_mut().zip(0..).for_each(|(place, number)| *place = number);
    if !packets.is_sorted_by_key(|packet| std::cmp::Reverse(packet.to.len())) {
        order.sort_unstable_by_key(|number| std::cmp::Reverse(packets[usize::from(*number)].to.len()));
    }
    order
}

#[cfg(test)]
mod field_tests;
#[cfg(test)]
mod tests;
