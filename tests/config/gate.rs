//! `[gate]`: on by itself, on which interfaces, and what is refused.

use ixgate::config::model::Gate;

use super::*;

const PORT: &str = "port = { interface = \"eth1\", address = [\"172.20.0.2/30\"], gateway = \"172.20.0.1\" }";

fn with_port(more: &str) -> String {
    realm("a", "\"10.0.0.0/24\"") + &format!("[[realm.attach]]\n{PORT}\n[gate]\n{more}\n")
}

fn gate(text: &str) -> Gate {
    parse(text).unwrap_or_else(|report| panic!("{report}")).config.gate
}

#[test]
fn the_gate_is_on_unless_it_is_switched_off() {
    assert_eq!(gate(""), Gate { enabled: true, interfaces: None });
    assert_eq!(gate("[gate]\nenabled = false\n"), Gate { enabled: false, interfaces: None });
    let named = gate("[gate]\ninterfaces = [\"eth0\", \"wan\"]\n");
    assert_eq!(named, Gate { enabled: true, interfaces: Some(vec!["eth0".into(), "wan".into()]) });
}

#[test]
fn what_cannot_be_a_gates_interface_is_refused_or_warned_of() {
    let refused = |text: &str| places(&parse(text).unwrap_err());
    let name = "this cannot be the name of an interface";
    assert_eq!(refused("[gate]\ninterfaces = [\"a/b\"]\n"), [format!("2:15 \"a/b\": {name}")]);
    let warned = |text: &str| {
        let loaded = parse(text).unwrap_or_else(|report| panic!("{report}"));
        places(loaded.report())
    };
    let port = warned(&with_port("interfaces = [\"eth0\", \"eth1\"]"));
    assert_eq!(port, ["7:23 warning \"eth1\": ports are on `eth1`, so the gate is not"]);
    let off = warned("[gate]\nenabled = false\ninterfaces = [\"eth0\"]\n");
    assert_eq!(off, ["3:14 warning [\"eth0\"]: the gate is switched off, and has interfaces"]);
}
