//! Who the two sides are, and how they prove it.

mod der;
mod dn;
mod identity;
mod ppk;
mod printable;

pub use dn::DnError;
pub use identity::{Identity, IdentityError};
pub use ppk::{Ppk, Secret, SecretError, SecretWarning};
