//! What the packet path carries: buffers, batches, what the stages have learned, and why a packet was dropped.

pub mod drop_reason;

pub use drop_reason::{DropReason, Side};
