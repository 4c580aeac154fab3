//! The two sides against each other, over PKIs made on the spot.

mod chains;
mod keys;
mod pki;
mod signatures;
