//! What operators write of ports and is not what the file has: keys as other programs call them, keys that belong to another
//! table, and values of another type. Each with the place, the key or the form that was meant.

mod values;

pub use values::{MistakenValue, value};

/// A key that a table does not have.
#[derive(Debug)]
pub struct Mistaken {
    /// Titles of tables.
    tables: &'static [&'static str],
    names: &'static [&'static str],
    /// The required key that it stands for: that one is not reported as missing, too.
    pub instead_of: Option<&'static str>,
    pub why: &'static str,
    pub remedy: &'static str,
}

/// What was probably meant by `name` in the table that is called `title`.
pub fn key(title: &str, name: &str) -> Option<&'static Mistaken> {
    KEYS.iter().find(|mistaken| mistaken.tables.contains(&title) && mistaken.names.contains(&name))
}

const fn of(
    tables: &'static [&'static str],
    names: &'static [&'static str],
    why: &'static str,
    remedy: &'static str,
) -> Mistaken {
    Mistaken { tables, names, instead_of: None, why, remedy }
}

const fn required(
    key: &'static str,
    tables: &'static [&'static str],
    names: &'static [&'static str],
    why: &'static str,
    remedy: &'static str,
) -> Mistaken {
    Mistaken { tables, names, instead_of: Some(key), why, remedy }
}

const PORT: &[&str] = &["port"];
const BFD: &[&str] = &["bfd"];
const ROUTE: &[&str] = &["a route"];
const INTERFACE: &[&str] = &["[[interface]]"];
const TUN: &[&str] = &["tun"];

static KEYS: &[Mistaken] = &[
    of(
        PORT,
        &[
            "svlan",
            "s_vlan",
            "svid",
            "s_vid",
            "stag",
            "s_tag",
            "outer_vlan",
            "vlan_outer",
            "outer",
            "qinq",
            "dot1ad",
            "provider_vlan",
        ],
        "two tags (QinQ, 802.1ad) are two keys: the outer one is `service_vlan`, the inner one `vlan`",
        "write for example `service_vlan = 200, vlan = 100`",
    ),
    of(
        PORT,
        &["cvlan", "c_vlan", "cvid", "inner_vlan", "customer_vlan", "vlan_id", "vid", "tag", "dot1q", "encapsulation"],
        "the VLAN of a port is `vlan`; of two tags (QinQ, 802.1ad) that is the inner one",
        "write for example `vlan = 100`, and for two tags `service_vlan = 200, vlan = 100`",
    ),
    of(
        PORT,
        &["vlans", "trunk", "allowed_vlans"],
        "a port is one VLAN, and each VLAN is one realm's",
        "write a [[realm.attach]] with its own `vlan` for each VLAN; two tags (QinQ) are `service_vlan = 200, vlan = 100`",
    ),
    of(
        PORT,
        &["driver"],
        "frames are moved by one driver for all ports of an interface",
        "write it once at the end of the file: `[[interface]]`, `name = \"eth1\"`, `driver = \"af_packet\"`",
    ),
    of(PORT, &["mtu_bytes"], "in a port the largest packet is `mtu`", "write for example `mtu = 1500`"),
    of(
        PORT,
        &["priority", "weight", "metric"],
        "which attachment of a realm is preferred is said of the attachment, not of the port",
        "write `priority = 1` (and `weight`) on a line of its own under [[realm.attach]], beside `port`",
    ),
    of(
        PORT,
        &["mac", "mac_address", "hardware_address", "hwaddr"],
        "a port has the hardware address of its interface, as all VLANs of the interface have",
        "remove it; if the carrier wants another one: `ip link set eth1 address 02:00:00:00:00:01`, before the start",
    ),
    required(
        "address",
        PORT,
        &["ip", "ips", "addresses", "ip_address", "ip_addr", "ipv4", "ipv6", "local", "local_address", "own"],
        "our own addresses on the link, of both IP versions, are `address`",
        "write `address = \"172.20.0.2/30\"`, or several in a list",
    ),
    of(
        PORT,
        &["netmask", "mask", "prefix", "prefix_len", "prefix_length"],
        "the prefix length of the link stands behind our own address",
        "write for example `address = \"172.20.0.2/30\"`",
    ),
    required(
        "interface",
        PORT,
        &["name", "dev", "device", "ifname", "nic", "parent"],
        "the Ethernet interface is `interface`",
        "write for example `interface = \"eth1\"`",
    ),
    of(
        PORT,
        &[
            "gateways",
            "gw",
            "gateway4",
            "gateway6",
            "default_gateway",
            "router",
            "routers",
            "next_hop",
            "peer",
            "remote",
            "via",
        ],
        "the carrier's routers on the link, of both IP versions, are `gateway`",
        "write `gateway = \"172.20.0.1\"`, or several in a list, the preferred one first",
    ),
    of(
        PORT,
        &["proxy_arp", "proxy_nd", "proxy_ndp", "proxyarp", "arp"],
        "`proxy` is for ARP and neighbour discovery both",
        "write `proxy = true`",
    ),
    of(
        PORT,
        &["ra", "slaac", "autoconf", "router_advertisements"],
        "routers may announce themselves with `accept_ra`; addresses are never taken from them",
        "write `accept_ra = true`, and our address in `address`",
    ),
    of(
        PORT,
        &["dhcp", "dhcp4", "dhcp6"],
        "addresses of a link between carriers are agreed; ixgate asks nobody for one",
        "write the address that the carrier gave: `address = \"172.20.0.2/30\"`",
    ),
    of(
        PORT,
        &["liveness", "liveness_secs", "probe", "probe_ms", "keepalive", "keepalive_secs", "arp_interval_ms"],
        "how often routers are asked is `liveness_ms`, how many silences count as dead `liveness_multiplier`",
        "write for example `liveness_ms = 1000, liveness_multiplier = 3`",
    ),
    of(
        PORT,
        &["bfd_interval_ms", "bfd_interval", "bfd_multiplier", "bfd_mode"],
        "what is said of BFD stands in a table of its own",
        "write for example `bfd = { interval_ms = 100, multiplier = 3 }`",
    ),
    of(
        PORT,
        &["bgp", "ospf"],
        "routing protocols are spoken by BIRD or FRR beside ixgate",
        "remove it, and see `routes_from` of the realm; or write the carrier's networks in `networks`",
    ),
    of(
        PORT,
        &["networks"],
        "networks are the realm's, whichever attachment carries them",
        "write `networks` under [[realm]]",
    ),
    of(
        BFD,
        &[
            "auth",
            "authentication",
            "auth_type",
            "auth_key",
            "password",
            "key",
            "key_id",
            "keychain",
            "key_chain",
            "secret",
            "md5",
            "sha1",
        ],
        "BFD is without authentication here: strangers beyond the link are kept out by the hop limit of 255 (RFC 5881 section 5)",
        "remove it, and ask the carrier for a session without authentication",
    ),
    of(
        BFD,
        &[
            "interval",
            "min_rx",
            "min_tx",
            "min_rx_ms",
            "min_tx_ms",
            "rx_interval",
            "tx_interval",
            "receive_interval",
            "transmit_interval",
            "rx",
            "tx",
        ],
        "one number is for both directions, in milliseconds",
        "write for example `interval_ms = 100`; of two that the carrier gave, the larger",
    ),
    of(
        BFD,
        &["detect_multiplier", "detect_mult", "detection_multiplier", "mult"],
        "intervals of silence after which the router is dead are `multiplier`",
        "write for example `multiplier = 3`",
    ),
    of(
        BFD,
        &["active", "passive"],
        "who speaks first is `mode`",
        "write `mode = \"active\"` (we do) or `mode = \"passive\"` (the router does)",
    ),
    of(
        BFD,
        &["echo", "echo_mode", "echo_interval", "multihop", "demand"],
        "single hop, asynchronous mode is what is spoken (RFC 5881); no echo, no demand mode, no further hops",
        "remove it, and have the carrier switch it off, too",
    ),
    of(
        BFD,
        &["enabled", "enable"],
        "there is a session with every router in `gateway` and `routes` as soon as the port has `bfd`",
        "write `bfd = {}` for its defaults, or leave `bfd` out for none",
    ),
    of(
        BFD,
        &["peer", "neighbor", "neighbour", "remote", "local", "address"],
        "there is a session with every router in `gateway` and `routes`, from our address beside it",
        "remove it",
    ),
    required(
        "via",
        ROUTE,
        &["gateway", "gw", "next_hop", "nexthop", "router"],
        "the router of a route is `via`",
        "write `{ prefix = \"10.1.0.0/16\", via = \"172.20.0.3\" }`",
    ),
    required(
        "prefix",
        ROUTE,
        &["network", "networks", "dest", "destination", "dst", "to", "route"],
        "the networks of a route are `prefix`",
        "write `{ prefix = \"10.1.0.0/16\", via = \"172.20.0.3\" }`",
    ),
    of(
        ROUTE,
        &["metric", "priority", "preference", "distance"],
        "of routes for the same prefix the first one whose router is alive is taken",
        "remove it, and write the preferred route first",
    ),
    required(
        "name",
        INTERFACE,
        &["interface", "dev", "device", "ifname"],
        "the interface's name is `name`",
        "write for example `name = \"eth1\"`",
    ),
    of(
        INTERFACE,
        &[
            "mtu",
            "mtu_bytes",
            "vlan",
            "service_vlan",
            "address",
            "gateway",
            "routes",
            "proxy",
            "accept_ra",
            "bfd",
            "port",
        ],
        "that is said of a port, since each VLAN of the interface has its own",
        "write it within `port = { … }` of the realm's [[realm.attach]]",
    ),
    required(
        "name",
        TUN,
        &["interface", "dev", "device", "ifname"],
        "the device's name is `name`",
        "write for example `tun = { name = \"ix0\" }`",
    ),
    of(
        TUN,
        &["address", "gateway", "routes", "ip"],
        "addresses and routes of a TUN device are the kernel's",
        "remove it, and type what `ixgate plan` lists: `ip route add … dev ix0`",
    ),
    of(
        TUN,
        &["mtu"],
        "a TUN device takes the largest packet of its attachment",
        "write `mtu_bytes = 1400` on a line of its own under [[realm.attach]], beside `tun`",
    ),
    of(
        &["[[realm.attach]]"],
        &[
            "interface",
            "vlan",
            "service_vlan",
            "svlan",
            "address",
            "gateway",
            "routes",
            "accept_ra",
            "proxy",
            "liveness_ms",
            "liveness_multiplier",
            "bfd",
        ],
        "that is said of a port, within its table",
        "write `port = { interface = \"eth1\", vlan = 100, address = \"172.20.0.2/30\", gateway = \"172.20.0.1\" }`",
    ),
    of(
        &["[[realm.attach]]"],
        &["mtu"],
        "of a tunnel the largest packet is `mtu_bytes`; of a port `mtu`, within the port",
        "write `mtu_bytes = 1400` here, or `mtu = 1500` within `port = { … }`",
    ),
    of(
        &["[[realm]]"],
        &["port", "tun", "wireguard", "ipsec", "vlan", "interface", "gateway"],
        "a realm may have several ways to it, and each stands under a header of its own",
        "write it under [[realm.attach]], for example `port = { interface = \"eth1\", address = \"172.20.0.2/30\" }`",
    ),
    of(
        &["the file"],
        &["port", "ports", "vlan", "vlans", "tun", "bfd"],
        "a port is the way to one realm",
        "write `port = { interface = \"eth1\", address = \"172.20.0.2/30\" }` under [[realm.attach]] of its realm",
    ),
];

#[cfg(test)]
mod tests {
    use super::super::{ROOT, Shape, TableSpec};
    use super::*;

    fn tables(spec: &'static TableSpec, all: &mut Vec<&'static TableSpec>) {
        all.push(spec);
        for key in spec.keys {
            if let Shape::Table(of) | Shape::Tables { of, .. } | Shape::TextsOrTables { table: of, .. } = key.shape {
                tables(of, all);
            }
        }
    }

    #[test]
    fn tables_exist_and_have_what_is_said_of_them() {
        let mut all = Vec::new();
        tables(&ROOT, &mut all);
        let table = |title: &str| all.iter().find(|table| table.title == title).unwrap_or_else(|| panic!("{title}"));
        for mistaken in KEYS {
            for table in mistaken.tables.iter().map(|title| table(title)) {
                let known: Vec<_> = mistaken.names.iter().filter(|name| table.key(name).is_some()).collect();
                assert!(known.is_empty(), "{known:?} are keys of {}", table.title);
                assert!(mistaken.instead_of.is_none_or(|key| table.key(key).is_some_and(|key| key.required)));
            }
        }
        for mistaken in values::VALUES {
            assert!(table(mistaken.table).key(mistaken.key).is_some(), "{mistaken:?}");
        }
    }
}
