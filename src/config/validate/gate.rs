//! `[gate]`.

use super::plain_ports::{has_ports, interface_name};
use crate::config::diagnostic::Problems;
use crate::config::model::Gate;
use crate::config::raw::Raw;

pub fn gate(raw: &Raw, problems: &mut Problems) -> Gate {
    let enabled = raw.gate.enabled.as_ref().is_none_or(|enabled| enabled.value);
    let Some(list) = &raw.gate.interfaces else { return Gate { enabled, interfaces: None } };
    if !enabled {
        problems
            .warning(&list.span, "the gate is switched off, and has interfaces")
            .why("`enabled = false` means that it is on none")
            .remedy("remove one of the two");
    }
    let mut names = Vec::new();
    for text in &list.value {
        let Some(name) = interface_name(text, problems) else { continue };
        if has_ports(raw, &name) {
            problems
                .warning(&text.span, format!("ports are on `{name}`, so the gate is not"))
                .why("frames of a port do not come by the sockets that the gate is for")
                .remedy("remove it here");
        }
        names.push(name);
    }
    Gate { enabled, interfaces: Some(names) }
}
