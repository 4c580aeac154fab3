//! Right keys with values of the wrong type.

/// A value of the wrong type.
#[derive(Debug)]
pub struct MistakenValue {
    pub(super) table: &'static str,
    pub(super) key: &'static str,
    pub why: &'static str,
    pub remedy: &'static str,
}

/// How the value of `key` is written in the table that is called `title`.
pub fn value(title: &str, key: &str) -> Option<&'static MistakenValue> {
    VALUES.iter().find(|mistaken| mistaken.table == title && mistaken.key == key)
}

pub(super) static VALUES: &[MistakenValue] = &[
    MistakenValue {
        table: "port",
        key: "vlan",
        why: "a VLAN is one number; two tags (QinQ, 802.1ad) are two keys, and several VLANs several attachments",
        remedy: "write `vlan = 100`, and for two tags `service_vlan = 200, vlan = 100` (outer, inner)",
    },
    MistakenValue {
        table: "port",
        key: "service_vlan",
        why: "the outer tag is one number",
        remedy: "write `service_vlan = 200, vlan = 100` (outer, inner)",
    },
    MistakenValue {
        table: "port",
        key: "bfd",
        why: "BFD has numbers that are agreed with the carrier",
        remedy: "write `bfd = {}` for 300 ms x 3, or `bfd = { interval_ms = 100, multiplier = 3 }`; leave it out for none",
    },
    MistakenValue {
        table: "port",
        key: "proxy",
        why: "we answer for all addresses under which the realm sees others, or for none",
        remedy: "write `proxy = true`",
    },
    MistakenValue {
        table: "port",
        key: "routes",
        why: "each route is a table of its own",
        remedy: "write `routes = [{ prefix = \"10.1.0.0/16\", via = \"172.20.0.3\" }]`",
    },
    MistakenValue {
        table: "[[realm.attach]]",
        key: "port",
        why: "a port is more than the name of an interface",
        remedy: "write `port = { interface = \"eth1\", vlan = 100, address = \"172.20.0.2/30\", gateway = \"172.20.0.1\" }`",
    },
    MistakenValue {
        table: "[[realm.attach]]",
        key: "tun",
        why: "what is said of a device stands in a table",
        remedy: "write `tun = { name = \"ix0\" }`",
    },
];
