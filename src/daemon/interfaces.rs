//! The interfaces and TUN devices that ports are on: looked at, and opened. What is wrong with one is said before anything
//! starts, or before a new configuration is adopted.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::model::{Config, Driver as Wanted, Peer, RoutesFrom};
use crate::dataplane::snapshot::Interface;
use crate::io::frames::{self, Choice, Driver, FramesError, interface};
use crate::io::netlink::routes::Routes;
use crate::io::netns::{self, NamespaceError};
use crate::io::sockets::Sockets;
use crate::net::InterfaceId;

pub const PORTS: &str = "ports";
pub const TUN: &str = "TUN";
pub const DAEMONS: &str = "routing daemon";
/// Of a daemon's TUN device: whatever attachment its packets go by, they fit.
const DAEMON_MTU_BYTES: u16 = 1280;

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
    fn put(&self, routes: Routes) {
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
        "the kernel has {} on {name}, and would answer there in our place; remove them (`ip address flush dev {name}`), and \
         take {name} away from what sets them again (NetworkManager, systemd-networkd, a DHCP client)",
        list(addresses)
    )]
    KernelAddresses { name: String, addresses: Vec<IpAddr> },
    #[error(
        "a realm's MTU on {name} is {wanted} bytes, but {name} carries no more than {link}; set the port's `mtu` to {link}, or \
         raise the interface's (`ip link set {name} mtu {wanted}`) if the carrier's equipment carries so much"
    )]
    MtuLargerThanLink { name: String, wanted: u16, link: u32 },
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" and ")
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
                daemon,
            });
        }
        let mtus = config.attachments().filter(|attachment| match &attachment.peer {
            Peer::Port(port) => !is_tun && port.interface == name,
            Peer::Tun(tun) => is_tun && tun.name == name,
            Peer::WireGuard(_) | Peer::Ipsec(_) => false,
        });
        let mtu_bytes = mtus.map(|attachment| attachment.mtu_bytes).max().unwrap_or_default();
        let wanted = config.interfaces.iter().find(|one| one.name == name).map(|one| one.driver);
        let choice = match wanted.unwrap_or_default() {
            Wanted::Auto => Choice::Auto,
            Wanted::AfPacket => Choice::AfPacket,
            Wanted::AfXdp => Choice::AfXdp,
        };
        Some(InterfacePlan { interface, name, is_tun, choice, mtu_bytes, daemon: None })
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
            self.check_addresses()?;
            frames::open(self.interface, &self.name, self.choice)?
        };
        self.check_mtu()?;
        driver.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        Ok(driver)
    }

    /// A new configuration may want more of one that is open.
    pub fn check_mtu(&self) -> Result<(), InterfaceError> {
        if self.daemon.is_some() {
            return Ok(());
        }
        let link = interface::mtu(&self.name)?;
        match u32::from(self.mtu_bytes) > link {
            true => Err(InterfaceError::MtuLargerThanLink { name: self.name.clone(), wanted: self.mtu_bytes, link }),
            false => Ok(()),
        }
    }

    fn check_addresses(&self) -> Result<(), InterfaceError> {
        let fail = |error| FramesError::of(&self.name, "read its addresses", error);
        interface::index(&self.name)?;
        let addresses = interface::kernel_addresses(&self.name).map_err(fail)?;
        match addresses.is_empty() {
            true => Ok(()),
            false => Err(InterfaceError::KernelAddresses { name: self.name.clone(), addresses }),
        }
    }

    /// For `status`.
    pub fn what(&self) -> &'static str {
        match self.daemon {
            Some(_) => DAEMONS,
            None if self.is_tun => TUN,
            None => PORTS,
        }
    }

    /// The same interface of the same kind: what is open stays open.
    pub fn is_same(&self, other: &InterfacePlan) -> bool {
        let namespace = |plan: &InterfacePlan| plan.daemon.as_ref().map(|daemon| daemon.namespace.clone());
        (self.interface, &self.name, self.is_tun) == (other.interface, &other.name, other.is_tun)
            && namespace(self) == namespace(other)
    }
}

/// Opens those of `wanted` that are not among `open`, beside the others in `sockets`.
pub fn open_new(wanted: &[InterfacePlan], open: &[InterfacePlan], sockets: &mut Sockets) -> Result<(), InterfaceError> {
    for plan in wanted {
        match open.iter().find(|one| one.is_same(plan)) {
            Some(_) => plan.check_mtu()?,
            None => sockets.add_driver(plan.open()?),
        }
    }
    Ok(())
}

/// Those that are open, and will be opened otherwise at the next start only.
pub fn waiting_for_restart(wanted: &[InterfacePlan], open: &[InterfacePlan]) -> Vec<String> {
    let differs = |plan: &&InterfacePlan| open.iter().any(|one| one.is_same(plan) && one.choice != plan.choice);
    wanted.iter().filter(differs).map(|plan| format!("`driver` of {}", plan.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(name: &str, mtu_bytes: u16) -> InterfacePlan {
        InterfacePlan {
            interface: InterfaceId(0),
            name: name.to_owned(),
            is_tun: false,
            choice: Choice::Auto,
            mtu_bytes,
            daemon: None,
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_apart() {
        let error = |plan: InterfacePlan| plan.open().unwrap_err().to_string();
        let missing = error(plan("ixg-none", 1500));
        assert!(missing.contains("no interface") && missing.contains("lo"), "{missing}");
        let taken = error(plan("lo", 1500));
        assert!(taken.contains("127.0.0.1") && taken.contains("ip address flush dev lo"), "{taken}");
    }

    #[test]
    fn a_port_cannot_carry_more_than_its_link() {
        let link = interface::mtu("lo").unwrap();
        let Ok(more) = u16::try_from(link + 1) else { return eprintln!("NOT RUN: lo carries {link} bytes") };
        let error = plan("lo", more).check_mtu().unwrap_err().to_string();
        assert!(error.contains(&format!("no more than {link}")), "{error}");
        plan("lo", 1500).check_mtu().unwrap();
    }

    #[test]
    fn another_driver_waits_for_the_next_start() {
        let auto = [plan("eth1", 1500)];
        let xdp = [InterfacePlan { choice: Choice::AfXdp, ..plan("eth1", 1500) }];
        assert_eq!(waiting_for_restart(&xdp, &auto), ["`driver` of eth1"]);
        assert!(waiting_for_restart(&xdp, &[]).is_empty());
        assert!(waiting_for_restart(&xdp, &xdp).is_empty());
    }
}
