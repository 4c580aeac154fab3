//! What a routing daemon has learned.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Timestamp;

/// A prefix of a realm's, said by its routers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LearnedRoute {
    pub prefix: IpNet,
    /// The best first. Empty: the realm itself, whoever is there.
    pub via: Vec<IpAddr>,
    /// It has been there ever since.
    pub since: Timestamp,
}
