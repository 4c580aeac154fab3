//! `[uplink]`: sockets unless AF_XDP is asked for, on which interfaces, and what is refused.

use super::*;

fn by_af_xdp(text: &str) -> Vec<String> {
    parse(text).unwrap_or_else(|report| panic!("{report}")).config.uplink.af_xdp
}

#[test]
fn tunnels_go_by_sockets_unless_af_xdp_is_asked_for() {
    assert!(by_af_xdp("").is_empty() && by_af_xdp("[uplink]\ndriver = \"sockets\"\n").is_empty());
    let named = by_af_xdp("[uplink]\ndriver = \"af_xdp\"\ninterfaces = [\"eth0\", \"wan\", \"eth0\"]\n");
    assert_eq!(named, ["eth0", "wan"]);
}

#[test]
fn what_cannot_be_an_uplink_is_refused_or_warned_of() {
    let refused = |text: &str| places(&parse(text).unwrap_err());
    let which = "2:10 \"af_xdp\": AF_XDP on which interfaces?";
    assert_eq!(refused("[uplink]\ndriver = \"af_xdp\"\n"), [which]);
    let none = refused("[uplink]\ndriver = \"af_xdp\"\ninterfaces = []\n");
    assert_eq!(none, ["3:14 []: `interfaces` is empty"], "one mistake is one error");
    let text = refused("[uplink]\ndriver = \"af_xdp\"\ninterfaces = \"eth0\"\n");
    assert_eq!(text, ["3:14 \"eth0\": `interfaces` is a text, and must be a list"]);
    let name = "this cannot be the name of an interface";
    assert_eq!(refused("[uplink]\ndriver = \"af_xdp\"\ninterfaces = [\"a/b\"]\n"), [format!("3:15 \"a/b\": {name}")]);
    let port = "port = { interface = \"eth1\", address = [\"172.20.0.2/30\"], gateway = \"172.20.0.1\" }";
    let with_port = realm("a", "\"10.0.0.0/24\"")
        + &format!("[[realm.attach]]\n{port}\n[uplink]\ndriver = \"af_xdp\"\ninterfaces = [\"eth1\"]\n");
    assert_eq!(refused(&with_port), ["8:15 \"eth1\": ports are on `eth1`, which takes all of its frames"]);
    let loaded = parse("[uplink]\ninterfaces = [\"eth0\"]\n").unwrap_or_else(|report| panic!("{report}"));
    let warned = places(loaded.report());
    assert_eq!(warned, ["2:14 warning [\"eth0\"]: tunnels go by sockets, which are on all interfaces"]);
    let by_af_xdp = "[workers]\nthreads = 2\n[uplink]\ndriver = \"af_xdp\"\ninterfaces = [\"eth0\", \"eth0\"]\n";
    let loaded = parse(by_af_xdp).unwrap_or_else(|report| panic!("{report}"));
    let threads = "2:11 warning 2: more threads do not receive what comes by AF_XDP";
    assert_eq!(places(loaded.report()), [threads, "5:23 warning \"eth0\": `eth0` stands here twice"]);
}

#[test]
fn a_number_in_quotes_is_answered_with_the_number() {
    for (written, meant) in [("\"4\"", "4"), ("\"400\"", "1"), ("\"four\"", "1")] {
        let report = parse(&format!("[workers]\nthreads = {written}\n")).unwrap_err();
        let remedy = &report.diagnostics[0].remedy;
        assert_eq!(*remedy, format!("write for example {meant}; it may be from 1 to 32"), "{written}");
    }
}
