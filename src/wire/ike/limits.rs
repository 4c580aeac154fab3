//! The most of everything that a message may hold.

/// Held against every count and length before anything is allocated for it. The defaults leave every implementation that
/// we know several times what it sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Payloads of one message, encrypted ones counted apart from those before them.
    pub payloads: usize,
    /// Bytes of one payload behind its generic header. A certificate is the longest that there is.
    pub payload_bytes: usize,
    /// Proposals of one SA payload.
    pub proposals: usize,
    /// Transforms of one proposal (the format allows 255).
    pub transforms: usize,
    /// Selectors of one TS payload (the format allows 255).
    pub selectors: usize,
    /// SPIs of one Delete payload.
    pub deleted_spis: usize,
    /// Attributes of one Configuration payload.
    pub attributes: usize,
    /// Fragments of one message (RFC 7383): their number is bounded here, their bytes by who collects them.
    pub fragments: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            payloads: 64,
            payload_bytes: 32 * 1024,
            proposals: 32,
            transforms: 128,
            selectors: 128,
            deleted_spis: 256,
            attributes: 64,
            fragments: 64,
        }
    }
}
