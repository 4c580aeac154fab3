//! `ixgate check FILE`: is this configuration right, and if not, where, why, and what to do.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::diagnostics::{Style, render};
use super::output::{json, print};
use crate::config::model::{Attachment, Config, Peer};
use crate::config::{self, Diagnostic, Loaded, Report};

#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The configuration file. The state is not read: whether its aliases leave room is for `plan` to say
    #[arg(required_unless_present = "schema")]
    pub file: Option<PathBuf>,
    /// Print the result as JSON: {"ok", "errors", "warnings"}
    #[arg(long)]
    pub json: bool,
    /// Print the JSON Schema of the configuration file and exit
    #[arg(long, conflicts_with_all = ["file", "json"])]
    pub schema: bool,
}

/// Exit code 0: the file is right (there may be warnings); 1: it is not.
pub fn run(args: CheckArgs) -> ExitCode {
    let Some(file) = args.file else {
        return print(&json(&config::schema()));
    };
    let result = config::load(&file);
    let printed = match &result {
        _ if args.json => print(&json(&as_json(&result))),
        Ok(loaded) => {
            eprint!("{}", render(loaded.report(), Style::of_stderr()));
            print(&format!("{}\n", summary(&loaded.config)))
        }
        Err(report) => {
            eprint!("{}", render(report, Style::of_stderr()));
            eprintln!("{}", verdict(report));
            ExitCode::SUCCESS
        }
    };
    if result.is_ok() { printed } else { ExitCode::from(1) }
}

/// `ok: 2 realms, …`
fn summary(config: &Config) -> String {
    let networks = config.realms.iter().map(|r| r.networks.len()).sum();
    let is_port = |attachment: &&Attachment| matches!(attachment.peer, Peer::Port(_) | Peer::Tun(_));
    let ports = config.attachments().filter(is_port).count();
    let tunnels = config.attachments().count() - ports;
    let pools: usize = config.realms.iter().filter_map(|r| r.napt.as_ref()).map(|napt| napt.pools.len()).sum();
    let mut counts = vec![
        counted(config.realms.len(), "realm"),
        counted(networks, "network"),
        counted(tunnels, "tunnel"),
        counted(config.hosts.len(), "host"),
        counted(config.services.len(), "service"),
        counted(config.grants.len(), "grant"),
    ];
    if ports > 0 {
        counts.push(counted(ports, "port"));
    }
    if pools > 0 {
        counts.push(counted(pools, "pool"));
    }
    format!("ok: {}", counts.join(", "))
}

fn verdict(report: &Report) -> String {
    let warnings = match report.warnings().count() {
        0 => String::new(),
        n => format!(", {}", counted(n, "warning")),
    };
    format!("not ok: {}{warnings}", counted(report.errors().count() + report.omitted, "error"))
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn as_json(result: &Result<Loaded, Report>) -> Value {
    let (ok, report) = match result {
        Ok(loaded) => (true, loaded.report()),
        Err(report) => (false, report),
    };
    let errors: Vec<&Diagnostic> = report.errors().collect();
    let warnings: Vec<&Diagnostic> = report.warnings().collect();
    let mut value = serde_json::json!({ "ok": ok, "errors": errors, "warnings": warnings });
    if report.omitted > 0 {
        value["omitted"] = report.omitted.into();
    }
    value
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::{CommandFactory, FromArgMatches, Parser};
    use serde_json::json;

    use super::*;
    use crate::config::MemorySecrets;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: CheckArgs,
    }

    fn parse(text: &str) -> Result<Loaded, Report> {
        config::parse(text, Path::new("ä/ix.toml"), &MemorySecrets::default())
    }

    #[test]
    fn usage() {
        Command::command().debug_assert();
        let parse = |args: &[&str]| {
            Command::command().try_get_matches_from(args).map(|m| Command::from_arg_matches(&m).unwrap().args)
        };
        assert!(parse(&["check", "a.toml"]).unwrap().file.is_some());
        assert!(parse(&["check", "--schema"]).unwrap().schema);
        assert_eq!(parse(&["check"]).unwrap_err().exit_code(), 2);
        assert_eq!(parse(&["check", "a.toml", "--schema"]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_summary_counts() {
        let loaded = parse("[[realm]]\nname = \"a\"\nnetworks = [\"10.0.0.0/24\", \"10.0.1.0/24\"]\n").unwrap();
        assert_eq!(summary(&loaded.config), "ok: 1 realm, 2 networks, 0 tunnels, 0 hosts, 0 services, 0 grants");
        let json = as_json(&Ok(loaded));
        assert_eq!(json, json!({ "ok": true, "errors": [], "warnings": [] }));
        let port =
            "attach = [{ port = { interface = \"eth1\", address = \"10.0.0.1/24\" } }, { tun = { name = \"ix0\" } }]";
        let loaded = parse(&format!("[[realm]]\nname = \"a\"\nnetworks = [\"10.0.0.0/24\"]\n{port}\n")).unwrap();
        assert!(summary(&loaded.config).ends_with("0 tunnels, 0 hosts, 0 services, 0 grants, 2 ports"));
    }

    #[test]
    fn json_has_everything_about_an_error() {
        let result = parse("# ü\n[[realm]]\nnam = \"a\"\nnetworks = [\"10.0.0.1/24\"]\n");
        assert_eq!(verdict(result.as_ref().unwrap_err()), "not ok: 3 errors");
        let json = as_json(&result);
        assert_eq!(json["ok"], json!(false));
        assert_eq!(
            json["errors"][2],
            json!({
                "severity": "error", "file": "ä/ix.toml", "line": 4, "column": 13,
                "span": { "offset": 37, "len": 13 },
                "message": "10.0.0.1/24 has host bits set",
                "why": "a prefix names a network; this is an address inside of one, so the length or the address is a mistake",
                "remedy": "write `10.0.0.0/24` for the network",
                "related": [],
            })
        );
    }

    #[test]
    fn people_see_place_underlined_text_why_and_remedy() {
        let report = parse("[[realm]]\n# ü\nname = \"a\"\nnetworks = [\"ü\", \"10.0.0.1/24\"]\n").unwrap_err();
        let shown = render(&report, Style { color: false, width_columns: 200 });
        let last = shown.split("×").last().unwrap();
        for part in [
            "10.0.0.1/24 has host bits set\n",
            "╰─▶ a prefix names a network;",
            "[ä/ix.toml:4:18]",
            "4 │ networks = [\"ü\", \"10.0.0.1/24\"]\n",
            "───────",
            "help: write `10.0.0.0/24` for the network",
        ] {
            assert!(last.contains(part), "{part} is not in\n{shown}");
        }
        assert!(!shown.contains('\u{1b}'), "no colour was asked for");
        assert!(render(&report, Style { color: true, width_columns: 200 }).contains('\u{1b}'));
    }

    #[test]
    fn a_file_that_is_not_there_is_an_answer() {
        let result = config::load(Path::new("/does/not/exist.toml"));
        let report = result.as_ref().unwrap_err();
        let shown = render(report, Style { color: false, width_columns: 80 });
        assert!(shown.contains("/does/not/exist.toml:1:1: error: the file cannot be read"), "{shown}");
        assert_eq!(as_json(&result)["errors"][0]["line"], json!(1));
        assert_eq!(
            run(CheckArgs { file: Some("/does/not/exist.toml".into()), json: false, schema: false }),
            ExitCode::from(1)
        );
    }
}
