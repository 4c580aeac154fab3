//! How allocations are written down. The field names are the format: changing one is a new layout version.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use super::AuditEntry;
use crate::control::allocations::{AliasRecord, AliasState, Allocations, Holder, RealmRecord};
use crate::net::RealmId;

pub type Rows = BTreeMap<String, String>;

#[derive(Serialize, Deserialize)]
struct RealmRow {
    number: u16,
    configured: bool,
}

#[derive(Serialize, Deserialize)]
struct AliasRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    viewer: Option<u16>,
    owner: u16,
    /// Up to layout 1 always IPv4.
    native: IpNet,
    state: StateRow,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StateRow {
    InUse,
    Reserved,
    Replaced,
}

pub fn meta(image: &Allocations) -> Rows {
    image.space6.iter().map(|space6| ("space6".to_string(), space6.to_string())).collect()
}

pub fn realms(image: &Allocations) -> Rows {
    let row = |record: &RealmRecord| RealmRow { number: record.id.0, configured: record.configured };
    image.realms.iter().map(|(name, record)| (name.clone(), json(&row(record)))).collect()
}

pub fn aliases(image: &Allocations) -> Rows {
    image.aliases.iter().map(|(alias, record)| (alias.to_string(), json(&alias_row(record)))).collect()
}

pub fn audit(entry: &AuditEntry) -> String {
    json(entry)
}

pub fn audit_from(text: &str) -> Result<AuditEntry, String> {
    serde_json::from_str(text).map_err(|error| format!("audit entry: {error}"))
}

/// The inverse of [`meta`], [`realms`] and [`aliases`].
pub fn allocations_from(meta: &Rows, realms: &Rows, aliases: &Rows) -> Result<Allocations, String> {
    let space6 = meta.get("space6").map(|text| text.parse().map_err(|_| format!("space6 {text:?}"))).transpose()?;
    let realm = |(name, text): (&String, &String)| {
        let row: RealmRow = serde_json::from_str(text).map_err(|error| format!("realm {name:?}: {error}"))?;
        Ok((name.clone(), RealmRecord { id: RealmId(row.number), configured: row.configured }))
    };
    let alias = |(alias, text): (&String, &String)| {
        let key: Ipv4Net = alias.parse().map_err(|_| format!("alias {alias:?}"))?;
        let row: AliasRow = serde_json::from_str(text).map_err(|error| format!("alias {alias}: {error}"))?;
        Ok((key, alias_record(row)))
    };
    Ok(Allocations {
        space6,
        realms: realms.iter().map(realm).collect::<Result<_, String>>()?,
        aliases: aliases.iter().map(alias).collect::<Result<_, String>>()?,
    })
}

fn alias_row(record: &AliasRecord) -> AliasRow {
    let Holder { viewer, owner, native } = record.holder;
    let state = match record.state {
        AliasState::InUse => StateRow::InUse,
        AliasState::Reserved => StateRow::Reserved,
        AliasState::Replaced => StateRow::Replaced,
    };
    AliasRow { viewer: viewer.map(|id| id.0), owner: owner.0, native, state }
}

fn alias_record(row: AliasRow) -> AliasRecord {
    let holder = Holder { viewer: row.viewer.map(RealmId), owner: RealmId(row.owner), native: row.native };
    let state = match row.state {
        StateRow::InUse => AliasState::InUse,
        StateRow::Reserved => AliasState::Reserved,
        StateRow::Replaced => AliasState::Replaced,
    };
    AliasRecord { holder, state }
}

fn json(row: &impl Serialize) -> String {
    serde_json::to_string(row).expect("a plain struct of numbers and strings has a JSON form")
}
