//! DCCP (RFC 4340).

/// In the generic header (section 5.1). Covers a pseudo-header (section 9.1).
pub const CHECKSUM: usize = 6;
