//! The endpoint as a whole, mostly two of them that speak with one another.

mod batch;
mod bounds;
mod ecn;
mod flow;
mod hostile;
mod lifetime;
mod paths;
mod rekey;
mod replay;
mod selectors;
mod vectors;
mod world;
