//! What is remembered of a datagram that came in fragments: what its egress may do follows from it.

/// Largest datagram that fragments can make: an IPv6 header in front of the largest payload (RFC 8200 section 4.5). An IPv4
/// one has at most 65,535 bytes.
pub const MAX_DATAGRAM_BYTES: usize = 40 + 65_535;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reassembled {
    /// Of IPv4 16 bits.
    pub identification: u32,
    /// Payload of the largest fragment, bytes: a path that carried this much carries it again.
    pub largest_payload_bytes: u16,
}
