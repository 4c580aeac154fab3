//! Kernels of our own, for processors with AVX-512: they work on all packets of a batch side by side, where the library
//! takes one at a time (`docs/decisions/0020-cryptographic-kernels.md` has the reasons and the figures).
//!
//! ```text
//! batch.rs      jobs, mixed                which of them are for a kernel, and which for the library
//! packets.rs    Packet                     one of them, as a kernel takes it
//! avx512.rs     Avx512, load, store        the proof that the processor has it; memory. What is `unsafe` about kernels is there
//! chacha20_poly1305/                       sixteen blocks of ChaCha20 and eight packets of Poly1305 at a time
//! ```
//!
//! What holds for each of them: no branch and no index depends on a key or on a text, only on lengths; tags are compared whole;
//! what was written down of one-time keys is wiped when the batch is done; nothing is allocated.

// Instructions that not all processors have, and loads and stores of vectors. Only `avx512.rs` and the entries do that.
#![allow(unsafe_code)]

pub mod avx512;
pub mod chacha20_poly1305;
mod packets;
#[cfg(test)]
pub mod testing;

use std::sync::OnceLock;

pub use packets::Tag;

use avx512::Avx512;

/// Which of them are used for a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kernels {
    /// `None`: the library.
    pub avx512: Option<Avx512>,
}

static CHOSEN: OnceLock<Kernels> = OnceLock::new();

impl Kernels {
    /// What the processor has, unless [`Kernels::leave_to_library`] came first. The same from then on.
    pub fn chosen() -> Kernels {
        *CHOSEN.get_or_init(|| Kernels { avx512: Avx512::detect() })
    }

    /// Everything is done by the library. Before any key is made: then the answer is `true`.
    pub fn leave_to_library() -> bool {
        *CHOSEN.get_or_init(Kernels::default) == Kernels::default()
    }
}

impl std::fmt::Display for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.avx512.is_some() { "AVX-512" } else { "library" })
    }
}
