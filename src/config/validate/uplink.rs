//! `[uplink]`.

use super::plain_ports::{has_ports, interface_name};
use crate::config::diagnostic::Problems;
use crate::config::model::Uplink;
use crate::config::raw::Raw;

pub fn uplink(raw: &Raw, problems: &mut Problems) -> Uplink {
    let driver = raw.uplink.driver.as_ref();
    let by_af_xdp = driver.filter(|driver| driver.value == "af_xdp");
    let Some(list) = &raw.uplink.interfaces else {
        if let Some(driver) = by_af_xdp {
            problems
                .error(&driver.span, "AF_XDP on which interfaces?")
                .why("a program is put on each, which takes tunnels' data out of what comes")
                .remedy("name those that tunnels come and go by: `interfaces = [\"eth0\"]`");
        }
        return Uplink::default();
    };
    if by_af_xdp.is_none() {
        problems
            .warning(&list.span, "tunnels go by sockets, which are on all interfaces")
            .why("`interfaces` says where `driver = \"af_xdp\"` is used")
            .remedy("remove it, or set `driver = \"af_xdp\"`");
    }
    let mut names: Vec<String> = Vec::new();
    for text in &list.value {
        let Some(name) = interface_name(text, problems) else { continue };
        if has_ports(raw, &name) {
            problems
                .error(&text.span, format!("ports are on `{name}`, which takes all of its frames"))
                .why("an uplink is the kernel's, with addresses and routes; a port's interface is not")
                .remedy("name another interface, or remove it here");
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Uplink { af_xdp: if by_af_xdp.is_some() { names } else { Vec::new() } }
}
