//! The thread's turns over real interfaces, of a network namespace of the test's own, with a real worker. Each turn waits for what the
//! kernel tells.

use std::sync::{Arc, Mutex};

use super::super::interfaces::tests::plan;
use super::super::interfaces::{DaemonPlan, open_all};
use super::super::worker::tests::Echo;
use super::super::worker::{self, Ending};
use super::*;
use crate::io::clock::Clock;
use crate::io::frames::testbed::{sh, with_testbed};
use crate::telemetry::source::{DriverState, NotOpen};
use tokio::sync::{mpsc, oneshot};

const MAX_TURNS: usize = 50;

struct Bench {
    thread: Thread<Echo>,
    links: Links,
    told: Arc<Mutex<Vec<LinkReport>>>,
    /// Ends with the worker.
    _ending: oneshot::Receiver<Ending>,
}

impl Bench {
    /// What can be opened is.
    fn start(plans: &[InterfacePlan]) -> Self {
        let mut sockets = Sockets::default();
        let states = open_all(plans, &mut sockets).unwrap();
        let core = Echo::new();
        let told = core.links.clone();
        let (handle, ending) =
            worker::spawn(sockets, Vec::new(), core, Clock::start(), mpsc::channel(1).0, states.clone()).unwrap();
        let orders = Orders::default();
        orders.follow(plans.to_vec());
        let thread = Thread { handle, states, orders, plans: Vec::new(), latest: HashMap::new() };
        Bench { thread, links: Links::new().unwrap(), told, _ending: ending }
    }

    fn state(&self) -> Result<DriverState, NotOpen> {
        self.thread.states.list()[0].driver.clone()
    }

    /// Turns until this is so of the first interface, as the worker knows it.
    fn until(&mut self, is_so: impl Fn(Result<DriverState, NotOpen>, LinkReport) -> bool) {
        for _ in 0..MAX_TURNS {
            self.thread.turn(&mut self.links, Duration::from_secs(60)).unwrap();
            if self.latest().is_some_and(|latest| is_so(self.state(), latest)) {
                return;
            }
        }
        panic!("{:?}, {:?}", self.state(), self.latest());
    }

    fn publish(&self, plans: &[InterfacePlan], sockets: Sockets) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let interfaces = plans.iter().map(InterfacePlan::numbered).collect();
        runtime.block_on(self.thread.handle.publish(Arc::new(2), sockets, interfaces)).unwrap();
    }

    /// What the worker was told last of the first interface.
    fn latest(&self) -> Option<LinkReport> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Commands are served in their order.
        runtime.block_on(self.thread.handle.report()).unwrap();
        self.told.lock().unwrap().iter().rfind(|report| report.interface == InterfaceId(0)).copied()
    }
}

fn is_open(state: Result<DriverState, NotOpen>, latest: LinkReport) -> bool {
    state.is_ok() && latest.is_up
}

fn make(name: &str) {
    sh(&format!("ip link add {name} type veth peer name {name}-far; ip link set {name} up; ip link set {name}-far up"));
}

#[test]
fn an_interface_that_is_missing_is_opened_when_it_appears_and_again_when_it_comes_back() {
    with_testbed(|_bed| {
        let mut bench = Bench::start(&[plan(0, "ixz", 1500), plan(1, "ixa", 1500)]);
        bench.until(|state, latest| state.is_err_and(|not| not.why.contains("no interface")) && !latest.is_up);
        assert!(bench.thread.states.is_open(InterfaceId(1)), "the other one works");
        for _ in 0..2 {
            make("ixz");
            bench.until(is_open);
            sh("ip link del ixz");
            bench.until(|state, latest| state.is_err_and(|not| not.why.contains("no interface")) && !latest.is_up);
        }
    });
}

#[test]
fn an_interface_that_comes_back_with_its_old_number_is_opened_again_too() {
    with_testbed(|_bed| {
        make("ixz");
        let mut bench = Bench::start(&[plan(0, "ixz", 1500)]);
        bench.until(is_open);
        sh("ip link set ixz down; ip link set ixz name other");
        bench.until(|state, latest| state.is_err() && !latest.is_up);
        sh("ip link set other name ixz; ip link set ixz up");
        bench.until(is_open);
    });
}

#[test]
fn an_interface_that_was_replaced_before_the_kernel_told_of_it_is_opened_again() {
    with_testbed(|_bed| {
        make("ixz");
        let mut bench = Bench::start(&[plan(0, "ixz", 1500)]);
        sh("ip link del ixz");
        make("ixz");
        let index = crate::io::frames::interface::index("ixz").unwrap();
        assert!(!bench.thread.states.is_open_at(InterfaceId(0), index));
        bench.until(is_open);
        assert!(bench.thread.states.is_open_at(InterfaceId(0), index));
    });
}

#[test]
fn what_was_in_the_way_is_looked_for_again() {
    with_testbed(|_bed| {
        sh("ip addr add 10.9.9.9/24 dev ixa");
        let mut bench = Bench::start(&[plan(0, "ixa", 1500)]);
        bench.until(|state, latest| state.is_err_and(|not| not.why.contains("10.9.9.9")) && !latest.is_up);
        sh("ip addr del 10.9.9.9/24 dev ixa");
        bench.thread.open_waiting().unwrap();
        assert!(is_open(bench.state(), bench.latest().unwrap()));
    });
}

#[test]
fn a_link_that_carries_enough_now_is_opened() {
    with_testbed(|_bed| {
        let mut bench = Bench::start(&[plan(0, "ixa", 1900)]);
        bench.until(|state, latest| state.is_err_and(|not| not.why.contains("MTU")) && !latest.is_up);
        sh("ip link set ixa mtu 1900");
        bench.until(is_open);
    });
}

#[test]
fn a_tun_device_that_was_taken_away_is_made_again() {
    with_testbed(|_bed| {
        let mut bench = Bench::start(&[InterfacePlan { is_tun: true, ..plan(0, "ixt", 1400) }]);
        if let Err(not_open) = bench.state() {
            return eprintln!("NOT RUN: {}", not_open.why);
        }
        bench.until(is_open);
        sh("ip link del ixt");
        bench.until(|state, latest| state.is_err_and(|not| not.why.contains("taken away")) && !latest.is_up);
        bench.thread.open_waiting().unwrap();
        bench.until(is_open);
    });
}

/// Netlink tells nothing of a routing daemon's namespace.
#[test]
fn a_device_of_which_the_kernel_tells_nothing_is_known_to_be_gone_and_made_again() {
    with_testbed(|_bed| {
        let mut bench = Bench::start(&[InterfacePlan { is_tun: true, ..plan(0, "ixt", 1400) }]);
        if let Err(not_open) = bench.state() {
            return eprintln!("NOT RUN: {}", not_open.why);
        }
        bench.until(is_open);
        assert!(!bench.thread.looks_again());
        sh("ip link del ixt");
        // The worker answers, looks at its sockets, and answers again.
        (0..MAX_TURNS).find(|_| bench.latest().is_some() && bench.state().is_err());
        assert!(bench.state().unwrap_err().why.contains("taken away"));
        assert!(bench.thread.looks_again());
        bench.thread.open_waiting().unwrap();
        assert!(bench.state().is_ok());
        let index = crate::io::frames::interface::index("ixt").unwrap();
        assert!(bench.thread.states.is_open_at(InterfaceId(0), index));
    });
}

#[test]
fn daemons_devices_are_looked_for_again_and_again() {
    with_testbed(|_bed| {
        let opened = Default::default();
        let daemon = DaemonPlan { realm: "a".to_owned(), namespace: "ixg-none".to_owned(), max_prefixes: 1, opened };
        let daemons = InterfacePlan { is_tun: true, daemon: Some(daemon), ..plan(0, "bgp", 1280) };
        let mut bench = Bench::start(std::slice::from_ref(&daemons));
        bench.thread.adopt(vec![daemons.clone()]);
        bench.thread.states.change(&daemons, State::Open { index: 7, driver: "TUN".to_owned(), note: None });
        assert!(bench.thread.waiting().next().is_none() && bench.thread.looks_again());
        bench.thread.states.note_gone(&daemons.numbered(), 6);
        assert!(bench.state().is_ok(), "that was another one");
        bench.thread.states.note_gone(&daemons.numbered(), 7);
        assert!(bench.state().is_err() && bench.thread.waiting().next().is_some());
    });
}

#[test]
fn what_is_configured_no_more_is_not_opened() {
    with_testbed(|_bed| {
        let mut bench = Bench::start(&[plan(0, "ixz", 1500)]);
        bench.until(|state, _| state.is_err());
        bench.publish(&[], Sockets::default());
        make("ixz");
        let opened = open_one(plan(0, "ixz", 1500)).unwrap().0;
        assert_eq!(arp_ignore("ixz"), "8");
        bench.thread.handle.adopt(opened, plan(0, "ixz", 1500).numbered()).unwrap();
        bench.latest();
        assert_eq!(arp_ignore("ixz"), "0", "the late driver was closed");
    });
}

/// Otherwise one carrier's frames would be another's.
#[test]
fn what_comes_late_of_an_interface_whose_number_another_has_by_now_changes_nothing() {
    with_testbed(|_bed| {
        make("ixz");
        make("ixy");
        let (old, new) = (plan(3, "ixz", 1500), plan(3, "ixy", 1500));
        let bench = Bench::start(&[plan(0, "ixa", 1500), old.clone()]);
        bench.publish(&[plan(0, "ixa", 1500)], Sockets::default());
        assert_eq!(arp_ignore("ixz"), "0");
        bench.publish(&[plan(0, "ixa", 1500), new.clone()], open_one(new.clone()).unwrap().0);
        let handle = bench.thread.handle.clone();
        handle.adopt(open_one(old.clone()).unwrap().0, old.numbered()).unwrap();
        handle.close_interface(old.numbered()).unwrap();
        let report = LinkReport { interface: old.interface, is_up: true, mac: Default::default(), mtu_bytes: 1500 };
        handle.tell_link(report, old.numbered()).unwrap();
        bench.latest();
        assert_eq!(["ixa", "ixy", "ixz"].map(arp_ignore), ["8", "8", "0"], "open, open, and closed");
        assert!(bench.told.lock().unwrap().is_empty());
        // A driver that there is serves no other interface, even when a number changes its meaning at once.
        bench.publish(&[plan(0, "ixa", 1500), old], Sockets::default());
        assert_eq!(["ixa", "ixy", "ixz"].map(arp_ignore), ["8", "0", "0"]);
    });
}

#[test]
fn new_orders_end_a_pass_over_what_waits() {
    with_testbed(|_bed| {
        let mut bench = Bench::start(&[plan(0, "ixz", 1500)]);
        bench.until(|state, _| state.is_err());
        make("ixz");
        bench.thread.orders.follow(Vec::new());
        bench.thread.open_waiting().unwrap();
        assert_eq!(arp_ignore("ixz"), "0", "it is not opened");
    });
}

/// `arp_ignore`, which drivers set and set back.
fn arp_ignore(name: &str) -> String {
    sh(&format!("cat /proc/sys/net/ipv4/conf/{name}/arp_ignore")).trim().to_owned()
}
