//! Kernels of our own, for processors with AVX-512: they work on all packets of a batch side by side, where the library
//! takes one at a time (`docs/decisions/0020-cryptographic-kernels.md` has the reasons and the figures).
//!
//! ```text
//! packets.rs    Packet                  one job, as a kernel takes it
//! avx512.rs     Avx512, load, store     the proof that the processor has it; memory
//! aes_gcm/                              packet by packet, four blocks to an instruction
//! chacha20_poly1305/                    sixteen blocks of ChaCha20 and eight packets of Poly1305 at a time
//! absent.rs                             for other processors: there are none
//! ```
//!
//! A key is made either for a kernel or for the library, and all its packets go the same way. What holds for each kernel: no
//! branch and no index depends on a key or on a text, only on lengths; tags are compared whole; what was written down of keys,
//! on the stack, too, is wiped when the batch is done; nothing is allocated.

// Instructions that not all processors have, and loads and stores of vectors. Only `avx512.rs` and the entries do that.
#![allow(unsafe_code)]

#[cfg(not(target_arch = "x86_64"))]
mod absent;
#[cfg(target_arch = "x86_64")]
pub mod aes_gcm;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(target_arch = "x86_64")]
pub mod chacha20_poly1305;
mod packets;
#[cfg(test)]
pub mod testing;

use std::fmt;
use std::sync::OnceLock;

#[cfg(not(target_arch = "x86_64"))]
pub use absent::{aes_gcm, avx512, chacha20_poly1305};
pub use packets::{Packet, Tag};

use avx512::Avx512;

/// Which of them are used for a key. The default is none.
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

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.avx512 {
            Some(_) => "AVX-512 for AES-GCM and ChaCha20-Poly1305, the library for the rest",
            None => "the library",
        })
    }
}
