//! Held against PKIs made on the spot.
