//! What protects packets and agrees on keys, for IKE, ESP and WireGuard's data: one seam over the libraries, and no protocol state.
//!
//! ```text
//! Suite, Cipher, Integrity   which algorithms, and how long their keys, IVs and ICVs are    suite.rs
//! PacketKey                  seals and opens packets under one key, in one direction        packet_key.rs
//!   over an AEAD             AES-GCM, ChaCha20-Poly1305                                     aead.rs
//!   over CBC and an HMAC     AES-CBC, encrypt then MAC                                      cbc_hmac.rs
//! SealBatch, OpenBatch       the same for all packets of a batch, under all their keys      batch.rs
//! Kernels                    of our own, for processors that have AVX-512                   kernels/
//! Prf                        prf and prf+ of RFC 7296                                       prf.rs
//! Group, KeyShare            key exchange: MODP, ECP, X25519, ML-KEM                        group.rs
//! ```
//!
//! Everything is aws-lc, except arithmetic modulo the MODP primes, which it does not offer: that is crypto-bigint; and except the
//! packets of tunnels where a kernel does them faster.
//! `docs/algorithms.md` lists the algorithms with their RFCs.
//!
//! Secrets live in [`Zeroizing`](zeroize::Zeroizing) or inside the libraries, which wipe them when dropped; no `Debug`
//! shows one. Nothing is allocated per packet.

mod aead;
pub mod batch;
mod cbc_hmac;
pub mod group;
#[cfg(test)]
mod hex;
mod kernels;
pub mod packet_key;
pub mod prf;
pub mod suite;

pub use batch::{Departing, OpenBatch, OpenJob, SealBatch, SealJob, Stamp, ToOpen, ToSeal, open_batch, seal_batch};
pub use group::{Group, GroupError, KeyShare};
pub use kernels::Kernels;
pub use packet_key::{Associated, KeyLength, NotAuthentic, PacketKey};
pub use prf::Prf;
pub use suite::{Cipher, Integrity, Suite};
