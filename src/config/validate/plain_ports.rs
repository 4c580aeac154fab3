//! Plain ports and TUN devices: each interface and VLAN stands for one realm, because it is all that tells whose a frame is.
//! What a port says of itself is checked here, what it says of its realm by [`realm`].

mod addresses;
mod interfaces;
mod next_hops;
pub mod realm;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::Duration;

use ipnet::IpNet;

use self::next_hops::NextHops;
use crate::config::diagnostic::Problems;
use crate::config::model::{Bfd, PortPeer, TunPeer};
use crate::config::raw;
use crate::config::section::At;
use crate::net::VlanTags;
use crate::net::link::{MAX_INTERFACE_NAME_BYTES, MAX_INTERFACES, is_interface_name};

pub const DEFAULT_MTU_BYTES: u16 = 1500;
const DEFAULT_LIVENESS_MS: u64 = 1000;
const DEFAULT_LIVENESS_MULTIPLIER: u64 = 3;
const DEFAULT_BFD_MS: u64 = 300;
const DEFAULT_BFD_MULTIPLIER: u64 = 3;

/// A port without mistakes of its own, and where its parts stand.
pub struct PlacedPort {
    /// Index into the realms of the file.
    pub realm: usize,
    pub span: Range<usize>,
    pub address_spans: Vec<Range<usize>>,
    pub route_spans: Vec<Range<usize>>,
    pub proxy_span: Range<usize>,
    pub peer: PortPeer,
}

/// All ports and TUN devices of the file, in its order.
#[derive(Default)]
pub struct Ports {
    pub placed: Vec<PlacedPort>,
    /// Where each place was first used.
    places: HashMap<(String, VlanTags), Place>,
    /// Where each name was first used: as an interface, or as a TUN device.
    names: BTreeMap<String, Named>,
}

/// Of one port.
struct Place {
    realm: usize,
    span: Range<usize>,
}

struct Named {
    is_tun: bool,
    span: Range<usize>,
}

impl Ports {
    pub fn port(&mut self, realm: usize, port: &raw::Port, problems: &mut Problems) -> Option<PortPeer> {
        let before = problems.error_count();
        let interface = port.interface.as_ref().and_then(|text| interface_name(text, problems));
        if let (Some(name), Some(text)) = (&interface, &port.interface) {
            self.name(name, false, &text.span, problems);
        }
        let vlan = VlanTags { service: vlan(&port.service_vlan), customer: vlan(&port.vlan) };
        if let Some(name) = interface.clone().filter(|_| port.vlans_are_right) {
            self.claim(name, vlan, Place { realm, span: port.span.clone() }, problems);
        }
        let addresses = addresses::addresses(port.addresses.as_ref()?, problems);
        let hops = NextHops::read(port, addresses.as_deref(), problems);
        if let (Some(flag), Some(own)) = (port.accept_ra.as_ref().filter(|flag| flag.value), &addresses)
            && own.iter().all(|net| net.value.addr().is_ipv4())
        {
            problems
                .error(&flag.span, "`accept_ra` without an IPv6 address")
                .why("only who speaks IPv6 on the link hears its routers")
                .remedy("add our IPv6 address to `address`, or remove `accept_ra`");
        }
        let bfd = port.bfd.as_ref().map(|bfd| read_bfd(bfd, port, problems));
        (problems.error_count() == before).then_some(())?;
        let (address_spans, addresses) = addresses?.into_iter().map(|at| (at.span, at.value)).unzip();
        let peer = PortPeer {
            interface: interface?,
            vlan,
            addresses,
            gateways: hops.gateways,
            routes: hops.routes,
            accept_ra: port.accept_ra.as_ref().is_some_and(|flag| flag.value),
            proxy: port.proxy.as_ref().is_some_and(|flag| flag.value),
            liveness_interval: millis(&port.liveness_ms, DEFAULT_LIVENESS_MS),
            liveness_multiplier: byte(&port.liveness_multiplier, DEFAULT_LIVENESS_MULTIPLIER),
            bfd,
        };
        self.placed.push(PlacedPort {
            realm,
            span: port.span.clone(),
            address_spans,
            route_spans: hops.route_spans,
            proxy_span: port.proxy.as_ref().map_or(port.span.clone(), |flag| flag.span.clone()),
            peer: peer.clone(),
        });
        Some(peer)
    }

    pub fn tun(&mut self, tun: &raw::Tun, problems: &mut Problems) -> Option<TunPeer> {
        let text = tun.name.as_ref()?;
        let name = interface_name(text, problems)?;
        self.name(&name, true, &text.span, problems);
        Some(TunPeer { name })
    }

    /// Several ports share an interface; a TUN device is one attachment's.
    fn name(&mut self, name: &str, is_tun: bool, span: &Range<usize>, problems: &mut Problems) {
        let is_full = self.names.len() == MAX_INTERFACES;
        match self.names.get(name) {
            Some(named) if named.is_tun != is_tun => report_both_kinds(name, span, &named.span, problems),
            Some(named) if is_tun => {
                problems
                    .error(span, format!("a second attachment has the TUN device `{name}`"))
                    .why("the device is all that tells whose a packet is; with two realms that would be a guess")
                    .remedy("give each attachment a device of its own")
                    .also(&named.span, "the first one is here");
            }
            Some(_) => {}
            None => {
                self.names.insert(name.to_owned(), Named { is_tun, span: span.clone() });
                if is_full {
                    problems
                        .error(span, format!("these are more than {MAX_INTERFACES} interfaces and TUN devices"))
                        .why("every table of the appliance is bounded")
                        .remedy("hand several realms over by VLANs of one interface");
                }
            }
        }
    }

    fn claim(&mut self, interface: String, vlan: VlanTags, place: Place, problems: &mut Problems) {
        let Some(first) = self.places.get(&(interface.clone(), vlan)) else {
            self.places.insert((interface, vlan), place);
            return;
        };
        let (why, remedy) = match first.realm == place.realm {
            true => (
                "interface and VLAN are one link, and what we are on it is said once",
                "join the two: `address` and `gateway` take lists, and `routes` more routers",
            ),
            false => (
                "interface and VLAN are all that tells whose a frame is; with two realms that would be a guess",
                "give each port a VLAN or an interface of its own",
            ),
        };
        problems
            .error(&place.span, format!("a second port is on {interface}, {vlan}"))
            .why(why)
            .remedy(remedy)
            .also(&first.span, "the first one is here");
    }
}

fn report_both_kinds(name: &str, span: &Range<usize>, first: &Range<usize>, problems: &mut Problems) {
    problems
        .error(span, format!("`{name}` is both an Ethernet interface and a TUN device"))
        .why("the kernel knows one interface of a name")
        .remedy("give the TUN device another name")
        .also(first, "the other one is here");
}

/// Whether the file attaches a realm by a port on that interface.
pub fn has_ports(raw: &raw::Raw, name: &str) -> bool {
    raw.realms.iter().flat_map(|realm| &realm.attachments).any(|attachment| {
        let port = attachment.port.as_ref().and_then(|port| port.interface.as_ref());
        port.is_some_and(|interface| interface.value == name)
    })
}

pub fn interface_name(text: &At<String>, problems: &mut Problems) -> Option<String> {
    let name = text.value.as_str();
    if is_interface_name(name) {
        return Some(name.to_owned());
    }
    problems
        .error(&text.span, "this cannot be the name of an interface")
        .why(format!(
            "the kernel takes 1 to {MAX_INTERFACE_NAME_BYTES} bytes without spaces, slashes and colons; a VLAN is no part of the name"
        ))
        .remedy("write what `ip link` shows, for example `eth1`, and the VLAN as `vlan = 100`");
    None
}

fn read_bfd(bfd: &raw::Bfd, port: &raw::Port, problems: &mut Problems) -> Bfd {
    if port.gateways.is_none() && port.routes.is_empty() {
        problems
            .error(&bfd.span, "BFD has nobody to speak with")
            .why("it watches the routers of the link, and the port has neither `gateway` nor `routes`")
            .remedy("name the carrier's router in `gateway`, or remove `bfd`");
    }
    // Routers that announce themselves are asked all the same.
    if !port.accept_ra.as_ref().is_some_and(|flag| flag.value) {
        warn_of_probes_in_vain(bfd, port, problems);
    }
    Bfd {
        is_active: bfd.mode.as_ref().is_none_or(|word| word.value == "active"),
        interval: millis(&bfd.interval_ms, DEFAULT_BFD_MS),
        multiplier: byte(&bfd.multiplier, DEFAULT_BFD_MULTIPLIER),
    }
}

fn warn_of_probes_in_vain(bfd: &raw::Bfd, port: &raw::Port, problems: &mut Problems) {
    let liveness = [("liveness_ms", &port.liveness_ms), ("liveness_multiplier", &port.liveness_multiplier)];
    for (name, number) in liveness {
        let Some(number) = number else { continue };
        problems
            .warning(&number.span, format!("`{name}` has no effect beside `bfd`"))
            .why("with BFD its session alone says whether a router is alive; it is not asked by ARP as well")
            .remedy(format!("remove `{name}`, and write BFD's own `interval_ms` and `multiplier`; or remove `bfd`"))
            .also(&bfd.span, "`bfd` is here");
    }
}

fn vlan(number: &Option<At<u64>>) -> Option<u16> {
    u16::try_from(number.as_ref()?.value).ok()
}

fn millis(number: &Option<At<u64>>, default: u64) -> Duration {
    Duration::from_millis(number.as_ref().map_or(default, |number| number.value))
}

/// Within the bounds of the specification, which are within those of a byte.
fn byte(number: &Option<At<u64>>, default: u64) -> u8 {
    u8::try_from(number.as_ref().map_or(default, |number| number.value)).unwrap_or(u8::MAX)
}

/// For messages.
fn listed(nets: &[IpNet]) -> String {
    nets.iter().map(|net| net.trunc().to_string()).collect::<Vec<_>>().join(", ")
}
