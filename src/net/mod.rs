//! The nouns that every room shares: realms, canonical addresses, the mapping between address spaces, grants, ids, time.
//!
//! Nothing here does input or output, keeps session state, or knows a protocol. The two large nouns are
//! [`mapping::Mapping`] (who sees whom under which address) and [`policy::Policy`] (who may reach what). Both are
//! compiled once per configuration generation and are immutable afterwards; translation, names, anti-spoofing, `plan`
//! and `status` all read the same object, so they cannot drift apart.

pub mod address_range;
pub mod alias_pool;
pub mod canonical;
pub mod id;
pub mod ip_version;
mod learned_route;
pub mod link;
pub mod mapping;
pub mod path;
pub mod policy;
pub mod random;
pub mod range_map;
pub mod selector;
pub mod service;
pub mod special_purpose;
pub mod time;
pub mod timer_wheel;
pub mod token_bucket;

pub use canonical::{Canonical, Space6};
pub use id::{Generation, NetworkId, RealmId, TunnelId};
pub use ip_version::{IpVersion, PerVersion};
pub use learned_route::LearnedRoute;
pub use link::{InterfaceId, LinkReport, MAX_INTERFACES, Mac, VlanTags};
pub use path::{Path, PathReport, Port};
pub use selector::Selector;
pub use time::Timestamp;
pub use timer_wheel::TimerWheel;
