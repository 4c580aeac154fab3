//! `ixgate plan FILE`: who sees whom as what, and what would change. Reads the state, beside a running appliance too;
//! writes only with `--release`.

use std::fmt::Write;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use serde::Serialize;

use super::output::json;
use crate::config::model::Config;
use crate::control::allocate;
use crate::control::allocations::Allocations;
use crate::control::change::Changes;
use crate::control::compile_addresses;
use crate::control::napt::{Holder, NotInAPool, PortHolder, who};
use crate::control::plan::{Plan, PlanError, plan};
use crate::control::release::{Release, ReleaseError, release};
use crate::control::store::{StateView, Store, StoreError};
use crate::control::zone::{TrustAnchor, trust_anchor};

#[derive(Args, Clone, Debug)]
pub struct PlanArgs {
    /// The configuration file
    pub file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Give back what is reserved: every alias of a realm that is gone, or one alias (PREFIX). The appliance must not
    /// be running
    #[arg(long, value_name = "REALM|ALIAS")]
    pub release: Option<Release>,
    /// Whose port of a pool (`show_as`) it is, and always was under this configuration: ADDRESS:PORT
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "release", value_parser = outside_port)]
    pub who: Option<SocketAddrV4>,
}

/// Why there is no plan; exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum PlanCommandError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    NotInAPool(#[from] NotInAPool),
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// What to print of a port that no host ever has.
    #[error("{0}")]
    Nobody(String),
    #[error("{}: there is no state yet, so there is nothing to release", .0.display())]
    NoState(PathBuf),
}

/// What to print. `now` is wall-clock time, for the audit trail of a release.
pub fn run(args: &PlanArgs, config: &Config, now: SystemTime) -> Result<String, PlanCommandError> {
    match (&args.release, args.who) {
        (Some(what), _) => run_release(args, config, what, now),
        (None, Some(port)) => run_who(args, config, port),
        (None, None) => run_plan(args, config),
    }
}

#[derive(Serialize)]
struct PlanOutput<'a> {
    /// The file that the state was read from; `null` when there is none yet.
    state: Option<&'a Path>,
    /// For validating resolvers; `null` when the zone is not signed, or its key is not made yet.
    dnssec: Option<&'a TrustAnchor>,
    #[serde(flatten)]
    plan: &'a Plan,
}

#[derive(Serialize)]
struct WhoOutput<'a> {
    who: &'a [PortHolder],
}

#[derive(Serialize)]
struct ReleaseOutput<'a> {
    released: &'a Changes,
}

fn run_plan(args: &PlanArgs, config: &Config) -> Result<String, PlanCommandError> {
    let view = Store::open_read(&config.ix.state_dir)?;
    let none = Allocations::default();
    let plan = plan(config, view.as_ref().map_or(&none, |view| &view.allocations))?;
    let state = view.as_ref().map(|StateView { path, .. }| path.as_path());
    let anchor = trust_anchor(config);
    if args.json {
        return Ok(json(&PlanOutput { state, dnssec: anchor.as_ref(), plan: &plan }));
    }
    let mut text = plan.to_string() + &dnssec_text(config, anchor.as_ref());
    let _ = match state {
        Some(path) => writeln!(text, "\nState read from {}. Nothing was written.", path.display()),
        None => writeln!(text, "\nThere is no state in {} yet: everything is new.", config.ix.state_dir.display()),
    };
    Ok(text)
}

fn run_who(args: &PlanArgs, config: &Config, port: SocketAddrV4) -> Result<String, PlanCommandError> {
    let view = Store::open_read(&config.ix.state_dir)?;
    let none = Allocations::default();
    let state = view.as_ref().map_or(&none, |view| &view.allocations);
    let (allocations, _) = allocate(config, state).map_err(PlanError::from)?;
    let compiled = compile_addresses(config, &allocations).map_err(PlanError::from)?;
    let holders = who(config, &compiled, *port.ip(), port.port())?;
    let text = match args.json {
        true => json(&WhoOutput { who: &holders }),
        false => holders.iter().map(|holder| format!("{holder}\n")).collect(),
    };
    let is_nobody = holders.iter().all(|holder| holder.holder == Holder::Nobody);
    if is_nobody { Err(PlanCommandError::Nobody(text)) } else { Ok(text) }
}

fn outside_port(text: &str) -> Result<SocketAddrV4, &'static str> {
    text.parse().map_err(|_| "not an IPv4 address of a pool and a port up to 65535; write for example 100.64.9.3:1025")
}

/// Nothing, when the zone is not signed.
fn dnssec_text(config: &Config, anchor: Option<&TrustAnchor>) -> String {
    match (&config.dns.dnssec, anchor) {
        (None, _) => String::new(),
        (Some(_), Some(anchor)) => {
            format!("\nThe zone is signed. Validating resolvers need one of\n  {}\n  {}\n", anchor.ds, anchor.dnskey)
        }
        (Some(dnssec), None) => {
            format!("\nThe zone will be signed; `ixgate run` makes its key in {}.\n", dnssec.key_file.display())
        }
    }
}

fn run_release(args: &PlanArgs, config: &Config, what: &Release, now: SystemTime) -> Result<String, PlanCommandError> {
    // A refusal must not leave an empty store behind.
    if Store::open_read(&config.ix.state_dir)?.is_none() {
        return Err(PlanCommandError::NoState(config.ix.state_dir.clone()));
    }
    let mut store = Store::open(&config.ix.state_dir)?;
    let (next, changes) = release(config, store.allocations(), what)?;
    store.commit(&next, &changes, now)?;
    if args.json {
        return Ok(json(&ReleaseOutput { released: &changes }));
    }
    Ok(changes.iter().fold(String::new(), |text, change| text + &change.to_string() + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MemorySecrets;
    use crate::config::model::Dnssec;
    use crate::control::allocate::allocate;
    use crate::control::sample::Sample;
    use crate::control::zone::new_signing_key;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn config(state_dir: &Path, realms: &[&str]) -> Config {
        let sample = realms.iter().fold(Sample::new(), |sample, name| sample.realm(name, &["192.168.1.0/24"]));
        let mut config = sample.build();
        config.ix.state_dir = state_dir.to_path_buf();
        config
    }

    fn args(json: bool, release: Option<&str>) -> PlanArgs {
        PlanArgs { file: "ix.toml".into(), json, release: release.map(|what| what.parse().unwrap()), who: None }
    }

    #[test]
    fn a_port_that_nobody_has_is_the_answer_no_and_one_that_is_none_is_told_with_an_example() {
        let mut secrets = MemorySecrets::default();
        secrets.insert("configs/secrets/wireguard.key", "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=");
        let text = include_str!("../../configs/napt.toml");
        let mut config = crate::config::parse(text, Path::new("configs/napt.toml"), &secrets).unwrap().config;
        let dir = tempfile::tempdir().unwrap();
        config.ix.state_dir = dir.path().join("state");
        let who = |port: &str, json| {
            run(&PlanArgs { who: Some(outside_port(port).unwrap()), ..args(json, None) }, &config, NOW)
        };
        let parsed: serde_json::Value = serde_json::from_str(&who("100.64.9.3:2048", true).unwrap()).unwrap();
        let want = serde_json::json!({
            "protocol": "tcp", "realm": "branch-offices", "address": "100.64.9.3",
            "holder": "host", "host": "10.1.2.248", "first_port": 2048, "last_port": 2303
        });
        assert_eq!(parsed["who"][0], want);
        for port in ["100.64.9.3:80", "100.64.9.9:1024"] {
            for json in [false, true] {
                let refused = who(port, json).unwrap_err();
                assert!(matches!(refused, PlanCommandError::Nobody(_)), "{port}: {refused:?}");
            }
        }
        assert!(who("100.64.9.1:443", false).unwrap().contains("the forward to 10.1.4.20:8443"));
        for wrong in ["nonsense", "100.64.9.3", "100.64.9.3:99999", "[fd00::1]:80"] {
            assert!(outside_port(wrong).unwrap_err().contains("100.64.9.3:1025"), "{wrong}");
        }
    }

    /// What the appliance does when it starts.
    fn record(config: &Config) -> Store {
        let mut store = Store::open(&config.ix.state_dir).unwrap();
        let (next, changes) = allocate(config, store.allocations()).unwrap();
        store.commit(&next, &changes, NOW).unwrap();
        store
    }

    #[test]
    fn a_first_plan_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir.path().join("state"), &["a", "b"]);
        let text = run(&args(false, None), &config, NOW).unwrap();
        assert!(text.contains("everything is new"), "{text}");
        assert!(!config.ix.state_dir.exists());
        let refused = run(&args(false, Some("a")), &config, NOW).unwrap_err();
        assert!(matches!(refused, PlanCommandError::NoState(_)));
        assert!(!config.ix.state_dir.exists());
    }

    #[test]
    fn the_trust_anchor_of_a_signed_zone_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path(), &["a"]);
        assert!(!run(&args(false, None), &config, NOW).unwrap().contains("signed"));
        config.dns.dnssec = Some(Dnssec { key_file: dir.path().join("dnssec.key"), key: None });
        assert!(run(&args(false, None), &config, NOW).unwrap().contains("makes its key"));
        config.dns.dnssec.as_mut().unwrap().key = Some(new_signing_key().unwrap().0);
        let text = run(&args(false, None), &config, NOW).unwrap();
        assert!(text.contains("ix.example. IN DS ") && text.contains("ix.example. IN DNSKEY 257 3 13 "), "{text}");
        let output = run(&args(true, None), &config, NOW).unwrap();
        let json: serde_json::Value = serde_json::from_str(&output).unwrap();
        assert!(text.contains(json["dnssec"]["ds"].as_str().unwrap()));
    }

    #[test]
    fn beside_a_running_appliance_it_plans_but_does_not_release() {
        let dir = tempfile::tempdir().unwrap();
        let running = record(&config(dir.path(), &["a", "b"]));
        let next = config(dir.path(), &["b", "c"]);
        let output = run(&args(true, None), &next, NOW).unwrap();
        let json: serde_json::Value = serde_json::from_str(&output).unwrap();
        assert_eq!(json["state"], running.path().to_str().unwrap());
        assert_eq!(json["realms"][1]["number"], 3);
        assert_eq!(json["reserved"][0]["subject"]["realm"], "a");
        assert_eq!(json["overlaps"][0]["realms"], serde_json::json!(["b", "c"]));

        let refused = run(&args(false, Some("a")), &next, NOW).unwrap_err();
        assert!(matches!(refused, PlanCommandError::Store(StoreError::Held { .. })), "{refused:?}");
        drop(running);
        let text = run(&args(false, Some("a")), &next, NOW).unwrap();
        assert!(text.contains("100.64.1.0/24 is free again"), "{text}");
        let view = Store::open_read(dir.path()).unwrap().unwrap();
        assert_eq!(view.allocations.realm_id("c"), None, "a release gives nothing to others");
        assert!(!view.allocations.aliases.contains_key(&"100.64.1.0/24".parse().unwrap()));
    }
}
