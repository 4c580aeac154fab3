//! The part of the status document that only IPsec tunnels have: IKE SA, child SAs, and why negotiations failed.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::status::TrafficStatus;
use crate::dataplane::report::{ChildReport, FailureReport, IpsecReport};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IpsecStatus {
    /// Who we say that we are.
    pub local_id: String,
    /// "idle", "connecting", "authenticating" or "established".
    pub stage: String,
    /// Of the IKE SA; null when there is none. So are the others that are about it.
    pub algorithms: Option<String>,
    /// "initiator" or "responder": ours.
    pub role: Option<String>,
    pub nat: bool,
    /// Null when there is no ESP yet.
    pub esp_in_udp: Option<bool>,
    pub ike_rekey_in_secs: Option<u64>,
    pub last_heard_secs_ago: Option<u64>,
    pub next_attempt_in_secs: Option<u64>,
    /// Those included that are being replaced.
    pub ike_sas: usize,
    pub children: Vec<ChildStatus>,
    /// The latest last.
    pub failures: Vec<FailureStatus>,
    pub counts: IkeCountsStatus,
}

/// One child SA, both directions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChildStatus {
    /// Hexadecimal, as `ip xfrm` and Wireshark show them.
    pub spi_in: String,
    pub spi_out: String,
    pub algorithms: String,
    /// What the peer may reach behind us ...
    pub ours: Vec<String>,
    /// ... and we behind the peer.
    pub theirs: Vec<String>,
    pub age_secs: u64,
    pub rekey_in_secs: u64,
    pub received: TrafficStatus,
    pub sent: TrafficStatus,
}

/// One negotiation that failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FailureStatus {
    /// The last time.
    pub secs_ago: u64,
    /// How often it was so, and since when.
    pub count: u64,
    pub first_secs_ago: u64,
    pub remote: SocketAddr,
    /// What was being negotiated.
    pub stage: String,
    /// One word, as in the metrics.
    pub cause: String,
    /// What happened.
    pub what: String,
    pub they_offer: Option<String>,
    pub we_accept: Option<String>,
    /// The nearest change on either side.
    pub nearest: Option<String>,
}

/// Since the peer was configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IkeCountsStatus {
    pub attempts: u64,
    pub established: u64,
    pub ike_rekeys: u64,
    pub child_rekeys: u64,
    pub retransmissions: u64,
    pub failures: u64,
}

impl IpsecStatus {
    pub(super) fn of(local_id: &str, report: &IpsecReport) -> Self {
        let counts = report.counts;
        let secs = |duration: Option<Duration>| duration.map(|duration| duration.as_secs());
        IpsecStatus {
            local_id: local_id.to_owned(),
            stage: report.stage.to_owned(),
            algorithms: Some(&report.proposal).filter(|proposal| !proposal.is_empty()).cloned(),
            role: report.we_called.map(|we_called| if we_called { "initiator" } else { "responder" }.to_owned()),
            nat: report.nat,
            esp_in_udp: report.esp_in_udp,
            ike_rekey_in_secs: secs(report.rekey_in),
            last_heard_secs_ago: secs(report.last_heard),
            next_attempt_in_secs: secs(report.next_attempt_in),
            ike_sas: report.ike_sas,
            children: report.children.iter().map(ChildStatus::of).collect(),
            failures: report.failures.iter().map(FailureStatus::of).collect(),
            counts: IkeCountsStatus {
                attempts: counts.attempts,
                established: counts.established,
                ike_rekeys: counts.ike_rekeys,
                child_rekeys: counts.child_rekeys,
                retransmissions: counts.retransmissions,
                failures: counts.failures,
            },
        }
    }
}

impl ChildStatus {
    fn of(child: &ChildReport) -> Self {
        ChildStatus {
            spi_in: format!("{:08x}", child.spi_in),
            spi_out: format!("{:08x}", child.spi_out),
            algorithms: child.proposal.clone(),
            ours: child.ours.clone(),
            theirs: child.theirs.clone(),
            age_secs: child.age.as_secs(),
            rekey_in_secs: child.rekey_in.as_secs(),
            received: child.received.into(),
            sent: child.sent.into(),
        }
    }
}

impl FailureStatus {
    pub(super) fn of(failure: &FailureReport) -> Self {
        FailureStatus {
            secs_ago: failure.ago.as_secs(),
            count: failure.count,
            first_secs_ago: failure.first_ago.as_secs(),
            remote: failure.remote,
            stage: failure.stage.clone(),
            cause: failure.cause.to_owned(),
            what: failure.what.clone(),
            they_offer: failure.they_offer.clone(),
            we_accept: failure.we_accept.clone(),
            nearest: failure.nearest.clone(),
        }
    }
}
