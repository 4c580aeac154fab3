//! The demonstration over loopback UDP, whole: real sockets, the worker that `run` runs, and real time.
#![cfg(not(feature = "sim"))]

use std::process::Command;

use ixgate::cli::demo_loopback::demonstrate;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::demonstration::CONFIG;

#[test]
fn every_line_is_as_agreed() {
    let outcome = demonstrate(&Appliance::build(CONFIG)).unwrap();
    let story = outcome.story;
    assert!(story.is_as_agreed(), "\n{story}");
    for (who, tried, got) in [
        ("hospital-b", "look up pacs.ix.example", "192.168.1.20"),
        ("region-a", "look up the same name", "100.64.2.20"),
        ("region-a", "fetch http://pacs.ix.example/", "Hello from the picture archive of hospital-b."),
        ("clinic-c", "look up the same name", "no such name: No grant lets realm clinic-c reach this name."),
        ("clinic-c", "a packet with a forged source (10.9.9.9)", "1"),
    ] {
        let line = story.lines().iter().find(|line| line.who == who && line.tried == tried);
        assert_eq!(line.map(|line| line.got.as_str()), Some(got), "\n{story}");
    }
}

/// The expectations are not read from the file that they are held against.
#[test]
fn a_grant_too_many_is_seen() {
    let one_too_many = format!("{CONFIG}\n[[grant]]\nfrom = [\"clinic-c\"]\nto = [\"pacs\"]\n");
    let story = demonstrate(&Appliance::build(&one_too_many)).unwrap().story;
    let wrong: Vec<_> = story.lines().iter().filter(|line| !line.is_as_agreed).collect();
    let wrong: Vec<_> = wrong.iter().map(|line| (line.who.as_str(), line.tried.as_str())).collect();
    let expected = [
        ("clinic-c", "look up the same name"),
        ("clinic-c", "the page by its address (100.64.2.20)"),
        ("hospital-b", "connections that reached the archive, by port"),
        ("the IX", "what all three tried without a grant"),
    ];
    assert_eq!(wrong, expected, "\n{story}");
}

#[test]
fn the_command_prints_the_table_or_json_and_exits_0() {
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ixgate")).arg("demo-loopback").args(args).output().unwrap();
        let words = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{words}\n{}", String::from_utf8_lossy(&output.stderr));
        words
    };
    let table = run(&[]);
    assert!(table.contains("This is the in-process variant") && table.contains("17 passed, 0 failed"), "{table}");
    let json: serde_json::Value = serde_json::from_str(&run(&["--json"])).unwrap();
    assert_eq!((&json["is_as_agreed"], &json["variant"]), (&true.into(), &"in-process".into()));
    assert_eq!(json["lines"].as_array().map(Vec::len), Some(17));
}
