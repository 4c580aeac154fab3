//! Interfaces and plain ports, as written.

use std::ops::Range;

use super::{Choice, Flag, Number, Text, Texts};
use crate::config::diagnostic::Problems;
use crate::config::section::Section;

#[derive(Debug)]
pub struct Interface {
    pub name: Text,
    pub driver: Choice,
}

#[derive(Debug)]
pub struct Port {
    pub span: Range<usize>,
    pub interface: Text,
    pub vlan: Number,
    pub service_vlan: Number,
    /// None of the two was written wrong, or under another name, and so left out.
    pub vlans_are_right: bool,
    pub addresses: Texts,
    pub gateways: Texts,
    pub routes: Vec<PortRoute>,
    pub mtu: Number,
    pub accept_ra: Flag,
    pub proxy: Flag,
    pub liveness_ms: Number,
    pub liveness_multiplier: Number,
    pub bfd: Option<Bfd>,
}

#[derive(Debug)]
pub struct PortRoute {
    pub prefix: Text,
    pub via: Text,
}

#[derive(Debug)]
pub struct Bfd {
    pub span: Range<usize>,
    pub mode: Choice,
    pub interval_ms: Number,
    pub multiplier: Number,
}

#[derive(Debug)]
pub struct Tun {
    pub name: Text,
}

pub fn interface(s: &Section<'_>, problems: &mut Problems) -> Interface {
    Interface { name: s.text("name", problems), driver: s.choice("driver", problems) }
}

pub fn port(s: &Section<'_>, problems: &mut Problems) -> Port {
    let routes = s.sections("routes", problems);
    let mut route = |r: &Section<'_>| PortRoute { prefix: r.text("prefix", problems), via: r.text("via", problems) };
    let routes = routes.iter().map(&mut route).collect();
    let (vlan, service_vlan) = (s.integer("vlan", problems), s.integer("service_vlan", problems));
    Port {
        span: s.span.clone(),
        routes,
        interface: s.text("interface", problems),
        vlans_are_right: vlan.is_some() == s.has("vlan")
            && service_vlan.is_some() == s.has("service_vlan")
            && !s.has_strangers(),
        vlan,
        service_vlan,
        addresses: s.texts("address", problems),
        gateways: s.texts("gateway", problems),
        mtu: s.integer("mtu", problems),
        accept_ra: s.flag("accept_ra", problems),
        proxy: s.flag("proxy", problems),
        liveness_ms: s.integer("liveness_ms", problems),
        liveness_multiplier: s.integer("liveness_multiplier", problems),
        bfd: s.section("bfd", problems).map(|b| Bfd {
            span: b.span.clone(),
            mode: b.choice("mode", problems),
            interval_ms: b.integer("interval_ms", problems),
            multiplier: b.integer("multiplier", problems),
        }),
    }
}
