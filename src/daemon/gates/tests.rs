use super::super::interfaces::tests::plan;
use super::*;
use crate::io::frames::testbed::{sh, with_testbed};

fn with_keeper(named: Named, test: impl FnOnce(Keeper) + Send + 'static) {
    with_testbed(|_bed| match Gate::load() {
        Ok(gate) => {
            let (gate, gates) = (Arc::new(gate), Gates::default());
            test(Keeper { gate, named, gates, ports: Vec::new(), links: BTreeMap::new(), missing: Vec::new() });
        }
        Err(error) => eprintln!("NOT RUN: {error}"),
    });
}

fn on(keeper: &mut Keeper) -> Vec<String> {
    keeper.look();
    let state = keeper.gates.state();
    assert_eq!((state.refused, state.why_not), (Vec::new(), None));
    state.interfaces
}

#[test]
fn it_is_on_every_ethernet_interface_that_is_no_port_as_they_come_and_go() {
    with_keeper(None, |mut keeper| {
        assert_eq!(on(&mut keeper), ["ixa"], "not on the loopback");
        sh("ip link add ixc type veth peer name ixd");
        assert_eq!(on(&mut keeper), ["ixa", "ixc", "ixd"]);
        keeper.ports = ports_of(&[plan(0, "ixc", 1500)]);
        assert_eq!(on(&mut keeper), ["ixa", "ixd"]);
        sh("ip link del ixa");
        assert_eq!(on(&mut keeper), ["ixd"]);
        // Another one of that name.
        sh("ip link add ixa type veth peer name ixe; ip link set ixd name ixf");
        assert_eq!(on(&mut keeper), ["ixa", "ixe", "ixf"]);
    });
}

#[test]
fn it_is_on_those_that_are_named() {
    with_keeper(Some(vec!["ixc".to_owned(), "ixb".to_owned()]), |mut keeper| {
        let mut look = || {
            keeper.look();
            let state = keeper.gates.state();
            (state.interfaces, state.refused)
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(look(), (names(&[]), names(&["ixc", "ixb"])), "who is not there is told");
        sh("ip link add ixc type veth peer name ixd");
        assert_eq!(look(), (names(&["ixc"]), names(&["ixb"])));
        sh("ip link del ixc");
        assert_eq!(look(), (names(&[]), names(&["ixc", "ixb"])));
    });
}

#[test]
fn there_is_a_bound() {
    with_keeper(None, |mut keeper| {
        let pairs: String = (0..MAX_INTERFACES).map(|n| format!("link add p{n} type veth peer name q{n}\n")).collect();
        sh(&format!("ip -batch - <<'PAIRS'\n{pairs}PAIRS"));
        assert_eq!(on(&mut keeper).len(), MAX_INTERFACES);
    });
}

#[test]
fn changes_of_interfaces_are_heard() {
    with_testbed(|_bed| {
        let mut changes = Changes::new().unwrap();
        sh("ip link set ixa down");
        changes.wait().unwrap();
        changes.waker().wake();
        changes.wait().unwrap();
    });
}
