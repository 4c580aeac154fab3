//! The interfaces that ports are on, as a whole: what the file says of each, and which ports do not go well together on one.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::{Place, Ports, interface_name, report_both_kinds};
use crate::config::diagnostic::Problems;
use crate::config::model::{Driver, Interface};
use crate::config::raw::{self, Raw};
use crate::net::VlanTags;

impl Ports {
    /// Of all ports, each once; and a word about those that the file describes in vain.
    pub fn interfaces(&mut self, raw: &Raw, problems: &mut Problems) -> Vec<Interface> {
        let mut drivers: HashMap<&str, (Driver, &Range<usize>)> = HashMap::new();
        for interface in &raw.interfaces {
            let Some(text) = &interface.name else { continue };
            let Some(name) = interface_name(text, problems) else { continue };
            if let Some((_, first)) = drivers.get(text.value.as_str()) {
                problems
                    .error(&text.span, format!("a second [[interface]] is called `{name}`"))
                    .why("what is said of an interface is said once")
                    .remedy("join the two")
                    .also(first, "the first one is here");
                continue;
            }
            drivers.insert(&text.value, (driver(interface), &text.span));
            match self.names.get(&name) {
                Some(named) if named.is_tun => report_both_kinds(&name, &text.span, &named.span, problems),
                Some(_) => {}
                None => {
                    problems
                        .warning(&text.span, format!("no port is on the interface `{name}`"))
                        .why("it stays closed, and what is said of it has no effect")
                        .remedy("remove it, or compare the name with `interface` of the ports");
                }
            }
        }
        self.warn_of_mixed_tags(raw, problems);
        self.check_vlan_devices(problems);
        let ours = self.names.iter().filter(|(_, named)| !named.is_tun);
        let interfaces = ours.map(|(name, _)| Interface {
            driver: drivers.get(name.as_str()).map_or(Driver::default(), |(driver, _)| *driver),
            name: name.clone(),
        });
        interfaces.collect()
    }

    /// Untagged frames of a trunk are one realm's, and tagged ones other realms'.
    fn warn_of_mixed_tags(&self, raw: &Raw, problems: &mut Problems) {
        let is_untagged = |vlan: &VlanTags| *vlan == VlanTags::default();
        // The first one in the file, of each interface.
        let mut tagged: BTreeMap<&str, Vec<&Place>> = BTreeMap::new();
        for ((interface, _), place) in self.places.iter().filter(|((_, vlan), _)| !is_untagged(vlan)) {
            tagged.entry(interface).or_default().push(place);
        }
        for ((interface, _), untagged) in self.places.iter().filter(|((_, vlan), _)| is_untagged(vlan)) {
            let others = tagged.get(interface.as_str()).into_iter().flatten();
            let others = others.filter(|other| other.realm != untagged.realm);
            let Some(other) = others.min_by_key(|other| other.span.start) else { continue };
            let name = raw.realms[untagged.realm].name.as_ref().map_or("?", |name| &name.value);
            problems
                .warning(
                    &untagged.span,
                    format!("untagged frames of `{interface}` are realm `{name}`'s, and tagged ones other realms'"),
                )
                .why(
                    "a trunk's native VLAN comes untagged, whoever's it is, so one wrong setting at the carrier leads another \
                     network into this realm; and a station in it may write the tag of another VLAN itself (VLAN hopping)",
                )
                .remedy(
                    "have the carrier tag every VLAN of the interface and write this one's `vlan`, or give it an interface of \
                     its own; keep it only where the other side surely sends nothing else untagged",
                )
                .also(&other.span, "a tagged one is here");
        }
    }

    /// `eth1.100` is what Linux calls its own device for VLAN 100 of eth1.
    fn check_vlan_devices(&self, problems: &mut Problems) {
        let ports = self.names.iter().filter(|(_, named)| !named.is_tun);
        for (name, named) in ports {
            let Some((parent, vlan)) = vlan_device(name) else { continue };
            let instead = format!("write `interface = \"{parent}\", vlan = {vlan}`");
            match self.names.get(parent).filter(|parent| !parent.is_tun) {
                Some(first) => {
                    problems
                        .error(&named.span, format!("`{name}` is VLAN {vlan} of `{parent}`, on which another port is"))
                        .why("the kernel gets nothing of an interface that is ours, so no frame would reach its VLAN device")
                        .remedy(instead)
                        .also(&first.span, "the other one is here");
                }
                None => {
                    problems
                        .warning(&named.span, format!("`{name}` reads like VLAN {vlan} of `{parent}`"))
                        .why("ixgate reads and writes VLAN tags itself; a device of the kernel between costs time, and its tag comes before those of this port")
                        .remedy(format!("{instead}, and delete the device: `ip link delete {name}`; keep it where the interface is really called so"));
                }
            }
        }
    }
}

/// The interface and the VLAN that the name stands for.
fn vlan_device(name: &str) -> Option<(&str, u16)> {
    let (parent, vlan) = name.rsplit_once('.')?;
    let vlan = vlan.parse().ok().filter(|vlan| (1..=4094).contains(vlan))?;
    (!parent.is_empty()).then_some((parent, vlan))
}

fn driver(interface: &raw::Interface) -> Driver {
    match interface.driver.as_ref().map(|word| word.value) {
        Some("af_packet") => Driver::AfPacket,
        Some("af_xdp") => Driver::AfXdp,
        _ => Driver::Auto,
    }
}
