//! IKEv2 messages (RFC 7296 section 3, fragments by RFC 7383): bytes to owned values and back, one payload a file.
//!
//! ```text
//! header (28 bytes) | payload | payload | ...                                   IKE_SA_INIT, and cleartext refusals
//! header | [payload ...] | SK:  generic header | IV | ciphertext | ICV          everything after it
//! header | [payload ...] | SKF: generic header | number, total | IV | ciphertext | ICV       (RFC 7383)
//! ```
//!
//! No crypto and no state: [`find_protected`] says where the ciphertext lies, [`lay_out_protected`] makes room for one,
//! and whoever holds the keys opens and seals in place. Values are owned, because IKE is not the hot path.
//!
//! Parsing panics on no input. Every count and length is held against [`Limits`] before anything is allocated for it.
//! Reserved bits and bytes are ignored, as the RFC wants. Emitting cannot fail: whatever is longer than its length field
//! can say is cut there, which only values that never came off the wire can be.

mod authentication;
mod certificate;
mod configuration;
mod delete;
mod error;
mod header;
mod identification;
mod key_exchange;
mod limits;
mod nonce;
pub mod notify;
mod opaque;
mod payload;
mod protected;
mod reader;
mod security_association;
mod traffic_selector;
mod writer;

#[cfg(test)]
mod tests;

pub use delete::Delete;
pub use error::{Malformed, ParseError};
pub use header::{ExchangeType, Flags, HEADER_BYTES, Header, emit_message, parse_header};
pub use identification::{Identification, id_kind};
pub use limits::Limits;
pub use notify::Notify;
pub use payload::{Payload, emit_payloads, kind, parse_payloads};
pub use protected::{Fragment, Protected, find_protected, lay_out_protected};
pub use security_association::{Proposal, Protocol, Transform, transform_kind};
