//! What differs between two images of the memory, in terms that people use: the account of every allocation, for
//! `plan`, the log and the audit trail.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;

use super::allocations::{AliasState, Allocations, Holder};
use crate::net::RealmId;

pub type Changes = Vec<Change>;

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    Space6Changed {
        before: Ipv6Net,
        after: Ipv6Net,
    },
    RealmNumbered {
        realm: String,
        number: u16,
    },
    /// The realm is not configured any more; its number stays its own.
    RealmRemoved {
        realm: String,
        number: u16,
    },
    RealmReturned {
        realm: String,
        number: u16,
    },
    AliasGiven {
        subject: Subject,
        alias: Ipv4Net,
    },
    /// `before` stays reserved.
    AliasReplaced {
        subject: Subject,
        before: Ipv4Net,
        after: Ipv4Net,
    },
    /// Not used any more, kept for when its network returns.
    AliasReserved {
        subject: Subject,
        alias: Ipv4Net,
    },
    AliasReturned {
        subject: Subject,
        alias: Ipv4Net,
    },
    /// Given back to the pool by hand.
    AliasReleased {
        subject: Subject,
        alias: Ipv4Net,
    },
}

impl Change {
    /// Whether somebody may miss what there was.
    pub fn takes_away(&self) -> bool {
        match self {
            Change::Space6Changed { .. } | Change::RealmRemoved { .. } | Change::AliasReplaced { .. } => true,
            // What routing daemons learn comes and goes.
            Change::AliasReserved { .. }
            | Change::RealmNumbered { .. }
            | Change::RealmReturned { .. }
            | Change::AliasGiven { .. }
            | Change::AliasReturned { .. }
            | Change::AliasReleased { .. } => false,
        }
    }
}

/// A [`Holder`] with names in place of numbers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Subject {
    pub realm: String,
    pub network: IpNet,
    /// Set when the alias is for this viewer only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub viewer: Option<String>,
}

impl Subject {
    pub fn new(holder: Holder, names: &BTreeMap<RealmId, &str>) -> Self {
        let name = |id: RealmId| names.get(&id).map_or_else(|| format!("number {id}"), |name| name.to_string());
        Subject { realm: name(holder.owner), network: holder.native, viewer: holder.viewer.map(name) }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.realm, self.network)?;
        match &self.viewer {
            Some(viewer) => write!(f, " as seen by {viewer}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Space6Changed { before, after } => {
                write!(f, "every canonical address changes: space6 was {before}, is {after}")
            }
            Change::RealmNumbered { realm, number } => write!(f, "realm {realm} gets number {number}"),
            Change::RealmRemoved { realm, number } => write!(f, "realm {realm} is gone, number {number} stays its own"),
            Change::RealmReturned { realm, number } => write!(f, "realm {realm} is back, with number {number}"),
            Change::AliasGiven { subject, alias } => write!(f, "{subject} gets alias {alias}"),
            Change::AliasReplaced { subject, before, after } => {
                write!(f, "{subject} changes its alias from {before} to {after}; {before} stays reserved")
            }
            Change::AliasReserved { subject, alias } => {
                write!(f, "{subject} is not shown any more; its alias {alias} stays reserved")
            }
            Change::AliasReturned { subject, alias } => write!(f, "{subject} is back under its alias {alias}"),
            Change::AliasReleased { subject, alias } => {
                write!(f, "{alias} is free again; it was the alias of {subject}")
            }
        }
    }
}

/// Every difference, realms first, aliases in the order of their addresses.
pub fn changes_between(before: &Allocations, after: &Allocations) -> Changes {
    let mut changes = Changes::new();
    if let (Some(old), Some(new)) = (before.space6, after.space6)
        && old != new
    {
        changes.push(Change::Space6Changed { before: old, after: new });
    }
    realm_changes(before, after, &mut changes);
    alias_changes(before, after, &mut changes);
    changes
}

fn realm_changes(before: &Allocations, after: &Allocations, changes: &mut Changes) {
    let mut realms: Vec<_> = after.realms.iter().collect();
    realms.sort_by_key(|(_, record)| record.id);
    for (name, record) in realms {
        let (realm, number) = (name.clone(), record.id.0);
        match before.realms.get(name) {
            None => changes.push(Change::RealmNumbered { realm, number }),
            Some(old) if old.configured == record.configured => {}
            Some(_) if record.configured => changes.push(Change::RealmReturned { realm, number }),
            Some(_) => changes.push(Change::RealmRemoved { realm, number }),
        }
    }
}

fn alias_changes(before: &Allocations, after: &Allocations, changes: &mut Changes) {
    let (names, was_current) = (after.names(), before.current());
    for (alias, record) in &after.aliases {
        let subject = || Subject::new(record.holder, &names);
        let old = before.aliases.get(alias).map(|old| old.state);
        match (old, record.state) {
            (None | Some(AliasState::Replaced), AliasState::InUse) => {
                changes.push(match was_current.get(&record.holder) {
                    Some(before) => Change::AliasReplaced { subject: subject(), before: *before, after: *alias },
                    None => Change::AliasGiven { subject: subject(), alias: *alias },
                })
            }
            (Some(AliasState::InUse), AliasState::Reserved) => {
                changes.push(Change::AliasReserved { subject: subject(), alias: *alias })
            }
            (Some(AliasState::Reserved), AliasState::InUse) => {
                changes.push(Change::AliasReturned { subject: subject(), alias: *alias })
            }
            // Unchanged, or the other half of an `AliasReplaced`.
            _ => {}
        }
    }
    for (alias, record) in before.aliases.iter().filter(|(alias, _)| !after.aliases.contains_key(alias)) {
        changes.push(Change::AliasReleased { subject: Subject::new(record.holder, &names), alias: *alias });
    }
}
