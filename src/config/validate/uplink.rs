//! `[uplink]`.

use super::plain_ports::{has_ports, interface_name};
use crate::config::diagnostic::Problems;
use crate::config::model::Uplink;
use crate::config::raw::Raw;

pub fn uplink(raw: &Raw, problems: &mut Problems) -> Uplink {
    let driver = raw.uplink.driver.as_ref();
    let by_af_xdp = driver.filter(|driver| driver.value == "af_xdp");
    let Some(list) = &raw.uplink.interfaces else {
        if let Some(driver) = by_af_xdp.filter(|_| !raw.uplink.has_interfaces) {
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
        if names.contains(&name) {
            problems.warning(&text.span, format!("`{name}` stands here twice")).remedy("remove one");
        } else {
            names.push(name);
        }
    }
    if let (Some(driver), Some(threads)) = (by_af_xdp, raw.workers.threads.as_ref().filter(|n| n.value > 1)) {
        problems
            .warning(&threads.span, "more threads do not receive what comes by AF_XDP")
            .why(format!("with `driver = \"{}\"` thread 1 has all of its queues", driver.value))
            .remedy("for more than one core take sockets: remove `[uplink]`");
    }
    Uplink { af_xdp: if by_af_xdp.is_some() { names } else { Vec::new() } }
}
