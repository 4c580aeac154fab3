//! `ixgate plan FILE`: who sees whom as what, and what would change. Reads the state, beside a running appliance too;
//! writes only with `--release`.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use serde::Serialize;

use crate::config::model::Config;
use crate::control::allocations::Allocations;
use crate::control::change::Changes;
use crate::control::plan::{Plan, PlanError, plan};
use crate::control::release::{Release, ReleaseError, release};
use crate::control::store::{StateView, Store, StoreError};

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
}

/// Why there is no plan; exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum PlanCommandError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Release(#[from] ReleaseError),
    #[error("{}: there is no state yet, so there is nothing to release", .0.display())]
    NoState(PathBuf),
}

/// What to print. `now` is wall-clock time, for the audit trail of a release.
pub fn run(args: &PlanArgs, config: &Config, now: SystemTime) -> Result<String, PlanCommandError> {
    match &args.release {
        Some(what) => run_release(args, config, what, now),
        None => run_plan(args, config),
    }
}

#[derive(Serialize)]
struct PlanOutput<'a> {
    /// The file that the state was read from; `null` when there is none yet.
    state: Option<&'a Path>,
    #[serde(flatten)]
    plan: &'a Plan,
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
    if args.json {
        return Ok(json(&PlanOutput { state, plan: &plan }));
    }
    let mut text = plan.to_string();
    let _ = match state {
        Some(path) => writeln!(text, "\nState read from {}. Nothing was written.", path.display()),
        None => writeln!(text, "\nThere is no state in {} yet: everything is new.", config.ix.state_dir.display()),
    };
    Ok(text)
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

fn json(output: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(output);
    text.expect("a plan is made of strings, numbers, lists and maps with string keys") + "\n"
}
