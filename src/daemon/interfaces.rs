//! The interfaces and TUN devices that ports are on: looked at, and opened.
//!
//! At the start, one that cannot be opened keeps nobody else from working: its ports are down, `status` says why, and it is
//! opened as soon as it can be (`links`). Only what the process itself lacks ends the start. A new configuration
//! is refused for an interface that the running one does not have: whoever asks for it now has mistyped its name, or has to see to it
//! first; what runs stays as it was.

mod states;
#[cfg(test)]
pub(super) mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

pub use self::states::{State, States};
use crate::config::model::{Config, Driver as Wanted, Peer, RoutesFrom};
use crate::dataplane::snapshot::Interface;
use crate::io::frames::{self, Choice, Driver, FramesError, interface};
use crate::io::netlink::routes::Routes;
use crate::io::netns::{self, NamespaceError};
use crate::io::sockets::Sockets;
use crate::net::{InterfaceId, Port, VlanTags};
use crate::telemetry::source::InterfaceState;

/// Of a daemon's TUN device: whatever attachment its packets go by, they fit.
const DAEMON_MTU_BYTES: u16 = 1280;

/// A number, and the interface that has it. Numbers are given out again: what may come late carries both.
pub type Numbered = (InterfaceId, Interface);

/// One to be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InterfacePlan {
    pub interface: InterfaceId,
    /// The kernel's.
    pub name: String,
    pub is_tun: bool,
    pub choice: Choice,
    /// The largest packet of any port on it.
    pub mtu_bytes: u16,
    /// Of the ports on it.
    pub vlans: Vec<VlanTags>,
    /// It is a routing daemon's, and in its namespace.
    pub daemon: Option<DaemonPlan>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DaemonPlan {
    /// Whose networks it learns.
    pub realm: String,
    pub namespace: String,
    pub max_prefixes: usize,
    pub opened: OpenedRoutes,
}

/// Opened along with the device, while there is the right to; whoever follows the routes takes it out.
#[derive(Clone, Default, Debug)]
pub struct OpenedRoutes(Arc<Mutex<Option<Routes>>>);

impl OpenedRoutes {
    pub(super) fn put(&self, routes: Routes) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(routes);
    }

    pub fn is_some(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub fn take(&self) -> Option<Routes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Plans are compared by what is planned.
impl PartialEq for OpenedRoutes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for OpenedRoutes {}

impl DaemonPlan {
    /// In the namespace.
    fn open(&self, interface: InterfaceId, name: &str) -> Result<Box<dyn Driver>, InterfaceError> {
        let driver = frames::open_tun(interface, name, DAEMON_MTU_BYTES)?;
        let fail = |error| FramesError::of(name, "follow its routes", error);
        self.opened.put(Routes::open(interface::index(name)?, self.max_prefixes).map_err(fail)?);
        Ok(driver)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    #[error(transparent)]
    Frames(#[from] FramesError),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error(
        "the kernel has {} on {name}, and would answer there in our place; remove that ({}; a login over it is cut off), and take \
         {name} away from what sets it again (NetworkManager, systemd-networkd, a DHCP client)",
        list(addresses),
        removal(name, addresses)
    )]
    KernelAddresses { name: String, addresses: Vec<IpNet> },
    #[error(
        "{name} has {} and the machine's default route: the machine itself is reached there, and a port needs an interface of its own; \
         correct the name, or give the machine another way out first",
        list(addresses)
    )]
    MachinesOwn { name: String, addresses: Vec<IpNet> },
    #[error(
        "a realm's MTU on {name} is {wanted} bytes, but {name} carries no more than {link}; set the port's `mtu` to {link}, or \
         raise the interface's (`ip link set {name} mtu {wanted}`) if the carrier's equipment carries so much"
    )]
    MtuLargerThanLink { name: String, wanted: u16, link: u32 },
}

impl InterfaceError {
    pub fn gone(name: &str, is_tun: bool) -> Self {
        match is_tun {
            true => FramesError::TunGone(name.to_owned()).into(),
            false => FramesError::missing(name).into(),
        }
    }

    /// The process lacks a privilege: no other interface would fare better.
    pub fn is_of_the_process(&self) -> bool {
        self.needs_a_start() || matches!(self, InterfaceError::Frames(FramesError::TunNotPermitted(_)))
    }

    /// It cannot be mended while the process runs.
    pub fn needs_a_start(&self) -> bool {
        matches!(
            self,
            InterfaceError::Frames(FramesError::NotPermitted(_))
                | InterfaceError::Namespace(NamespaceError::NotPermitted(_))
        )
    }
}

fn list(addresses: &[IpNet]) -> String {
    addresses.iter().map(|net| net.addr().to_string()).collect::<Vec<_>>().join(" and ")
}

fn removal(name: &str, addresses: &[IpNet]) -> String {
    let commands = addresses.iter().map(|net| format!("`ip address del {net} dev {name}`"));
    commands.collect::<Vec<_>>().join(", ")
}

/// Those of a configuration, by number.
pub fn plans(config: &Config, interfaces: &[Option<Interface>]) -> Vec<InterfacePlan> {
    let numbered = (0..).map(InterfaceId).zip(interfaces);
    let plan = |(interface, known): (InterfaceId, &Option<Interface>)| {
        let Interface { name, is_tun, namespace } = known.clone()?;
        if let Some(namespace) = namespace {
            let of = |from: &RoutesFrom| (&from.namespace, &from.tun) == (&namespace, &name);
            let realm = config.realms.iter().find(|realm| realm.routes_from.as_ref().is_some_and(of))?;
            let max_prefixes = realm.routes_from.as_ref().map_or(0, |from| from.max_prefixes);
            let daemon = Some(DaemonPlan {
                realm: realm.name.clone(),
                namespace,
                max_prefixes,
                opened: OpenedRoutes::default(),
            });
            return Some(InterfacePlan {
                interface,
                name,
                is_tun,
                choice: Choice::Auto,
                mtu_bytes: DAEMON_MTU_BYTES,
                vlans: Vec::new(),
                daemon,
            });
        }
        let on_it = config.attachments().filter_map(|attachment| match &attachment.peer {
            Peer::Port(port) if !is_tun && port.interface == name => Some((attachment.mtu_bytes, port.vlan)),
            Peer::Tun(tun) if is_tun && tun.name == name => Some((attachment.mtu_bytes, VlanTags::default())),
            _ => None,
        });
        let (mtus, vlans): (Vec<u16>, Vec<VlanTags>) = on_it.unzip();
        let mtu_bytes = mtus.into_iter().max().unwrap_or_default();
        let wanted = config.interfaces.iter().find(|one| one.name == name).map(|one| one.driver);
        let choice = match wanted.unwrap_or_default() {
            Wanted::Auto => Choice::Auto,
            Wanted::AfPacket => Choice::AfPacket,
            Wanted::AfXdp => Choice::AfXdp,
        };
        Some(InterfacePlan { interface, name, is_tun, choice, mtu_bytes, vlans, daemon: None })
    };
    numbered.filter_map(plan).collect()
}

impl InterfacePlan {
    /// Looks whether it can be used, and opens it.
    pub fn open(&self) -> Result<Box<dyn Driver>, InterfaceError> {
        if let Some(daemon) = &self.daemon {
            return netns::within(&daemon.namespace, || daemon.open(self.interface, &self.name))?;
        }
        let driver = if self.is_tun {
            frames::open_tun(self.interface, &self.name, self.mtu_bytes)?
        } else {
            self.look()?;
            frames::open(self.interface, &self.name, self.choice)?
        };
        driver.warnings().iter().chain(&self.stacked()).for_each(|warning| tracing::warn!("{warning}"));
        Ok(driver)
    }

    /// Of what the kernel has on top of it: tagged frames pass the barrier before its stack.
    fn stacked(&self) -> Vec<String> {
        if self.is_tun { Vec::new() } else { self.warnings_of(interface::vlan_devices(&self.name)) }
    }

    /// `devices`: of the kernel, with their VLANs. Those in VLANs of ports are in the way; what it looks at is the outer tag.
    fn warnings_of(&self, devices: Vec<(String, u16)>) -> Vec<String> {
        let name = &self.name;
        let is_ours = |number: u16| self.vlans.iter().any(|tags| tags.service.or(tags.customer) == Some(number));
        let warning = |(device, number)| {
            format!(
                "the kernel has {device} on {name}, in VLAN {number}, which is a port's: it may answer there in our place; remove \
                 {device} (`ip link del {device}`), or take its addresses away"
            )
        };
        devices.into_iter().filter(|(_, number)| is_ours(*number)).map(warning).collect()
    }

    /// Whether it can be opened, as far as that is known without privileges and without changing anything. A TUN device can be made.
    pub fn look(&self) -> Result<(), InterfaceError> {
        if self.is_tun {
            return Ok(());
        }
        if interface::mac(&self.name)?.is_none() {
            return Err(FramesError::NotEthernet(self.name.clone()).into());
        }
        self.check_addresses()?;
        self.check_mtu(interface::mtu(&self.name)?)
    }

    fn check_mtu(&self, link: u32) -> Result<(), InterfaceError> {
        match u32::from(self.mtu_bytes) > link {
            true => Err(InterfaceError::MtuLargerThanLink { name: self.name.clone(), wanted: self.mtu_bytes, link }),
            false => Ok(()),
        }
    }

    fn check_addresses(&self) -> Result<(), InterfaceError> {
        let fail = |error| FramesError::of(&self.name, "read its addresses", error);
        let (name, addresses) = (self.name.clone(), interface::kernel_addresses(&self.name).map_err(fail)?);
        match addresses.is_empty() {
            true => Ok(()),
            false if interface::has_default_route(&name) => Err(InterfaceError::MachinesOwn { name, addresses }),
            false => Err(InterfaceError::KernelAddresses { name, addresses }),
        }
    }

    /// A new configuration wants more of one that is open. An interface that is gone holds nothing up.
    fn check_more_than(&self, before: &InterfacePlan) -> Result<(), InterfaceError> {
        match interface::mtu(&self.name) {
            Ok(link) if self.daemon.is_none() && self.mtu_bytes > before.mtu_bytes => self.check_mtu(link),
            _ => Ok(()),
        }
    }

    /// For `status`.
    pub fn what(&self) -> &'static str {
        match self.daemon {
            Some(_) => InterfaceState::DAEMONS,
            None if self.is_tun => InterfaceState::TUN,
            None => InterfaceState::PORTS,
        }
    }

    /// The same interface of the same kind: what is open stays open.
    pub fn is_same(&self, other: &InterfacePlan) -> bool {
        self.numbered() == other.numbered()
    }

    pub fn numbered(&self) -> Numbered {
        let namespace = self.daemon.as_ref().map(|daemon| daemon.namespace.clone());
        (self.interface, Interface { name: self.name.clone(), is_tun: self.is_tun, namespace })
    }
}

/// At the start: into `sockets` what can be opened; of the others it is known why.
pub fn open_all(plans: &[InterfacePlan], sockets: &mut Sockets) -> Result<States, InterfaceError> {
    let states = States::default();
    for plan in plans {
        match plan.open() {
            Ok(driver) => {
                states.add(plan, State::of_driver(&*driver));
                sockets.add_driver(driver);
            }
            Err(error) if error.is_of_the_process() => return Err(error),
            Err(error) => states.add(plan, State::of_error(&error)),
        }
    }
    Ok(states)
}

/// Opens those of `wanted` that are not among `running`, beside the others in `sockets`. What runs and is not open waits on.
pub fn open_new(
    wanted: &[InterfacePlan],
    running: &[InterfacePlan],
    sockets: &mut Sockets,
) -> Result<(), InterfaceError> {
    for plan in wanted {
        match running.iter().find(|one| one.is_same(plan)) {
            Some(before) => {
                plan.check_more_than(before)?;
                if plan.vlans != before.vlans {
                    plan.stacked().iter().for_each(|warning| tracing::warn!("{warning}"));
                }
            }
            None => sockets.add_driver(plan.open()?),
        }
    }
    Ok(())
}

/// Of those that `sockets` brings beside what runs.
pub fn states_of(plans: &[InterfacePlan], sockets: &Sockets) -> Vec<(InterfacePlan, State)> {
    let drivers: Vec<_> = sockets.drivers().map(|driver| (driver.path().port, State::of_driver(driver))).collect();
    let state = |plan: &InterfacePlan| {
        let port = if plan.is_tun { Port::Tun(plan.interface) } else { Port::Frames(plan.interface) };
        drivers.iter().find(|(of, _)| *of == port).map(|(_, state)| state.clone())
    };
    plans.iter().filter_map(|plan| Some((plan.clone(), state(plan)?))).collect()
}

/// Those that are open, and will be opened otherwise at the next start only.
pub fn waiting_for_restart(wanted: &[InterfacePlan], running: &[InterfacePlan], states: &States) -> Vec<String> {
    let differs = |plan: &&InterfacePlan| {
        running.iter().any(|one| one.is_same(plan) && one.choice != plan.choice && states.is_open(plan.interface))
    };
    wanted.iter().filter(differs).map(|plan| format!("`driver` of {}", plan.name)).collect()
}
