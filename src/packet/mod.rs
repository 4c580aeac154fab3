//! What the packet path carries: buffers, batches, what the stages have learned, and why a packet was dropped.

pub mod batch;
pub mod datagram;
pub mod drop_reason;
pub mod meta;
pub mod opened;
pub mod outbox;
pub mod reassembled;
pub mod shown;

pub use batch::Batch;
pub use datagram::Datagram;
pub use drop_reason::{DropReason, Side};
pub use meta::{Fate, Meta};
pub use opened::Opened;
pub use outbox::Outbox;
pub use reassembled::Reassembled;
pub use shown::Shown;
