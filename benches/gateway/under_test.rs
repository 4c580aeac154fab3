//! The gateways: ours, and what a user would take otherwise. Each joins two sites with one and the same prefix, and translates
//! between them both ways.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ixgate::io::udp::Offload;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::peer::public_key;

use crate::ground::{GATEWAY_CORE, HOST_A, HOST_B, NAMESPACE, NOBODY, Outcome, PREFIX, Program, Side, ip, run, shell};
use crate::site::{Identity, Kind, Site, WIREGUARD_PORT};
use crate::soaker::Soaker;

const PATIENCE: Duration = Duration::from_secs(10);
/// What `Appliance` takes for the appliance's own.
const PRIVATE_KEY: [u8; 32] = [0x42; 32];
const CHARON: &str = "/usr/sbin/charon-systemd";
const CHARON_PLUGINS: &str = "random nonce openssl kdf pem x509 pkcs1 pkcs8 pubkey revocation constraints kernel-libipsec \
                              kernel-netlink socket-default vici updown";
/// Of inner packets, as WireGuard has it by default.
const TUN_MTU: usize = 1420;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gateway {
    Ixgate,
    /// The same, with tunnels' data by AF_XDP.
    IxgateXdp,
    /// wireguard-go, strongSwan's kernel-libipsec, or one of each; with nftables between them.
    Peers,
    /// The kernel's forwarding + nftables, in clear.
    Kernel,
    /// A program that sends on by plain sockets what it gets, one datagram a call, and does nothing else.
    Relay,
}

/// A gateway and the tunnels to its sites.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setup {
    pub gateway: Gateway,
    /// Of A, of B.
    pub kinds: [Kind; 2],
}

impl Setup {
    pub fn way(self) -> String {
        self.kinds.map(Kind::name).join("-")
    }

    pub fn name(self) -> &'static str {
        match (self.gateway, self.kinds) {
            (Gateway::Ixgate, _) => "ixgate",
            (Gateway::IxgateXdp, _) => "ixgate af_xdp",
            (Gateway::Kernel, _) => "kernel + nft",
            (Gateway::Relay, _) => "relay",
            (Gateway::Peers, [Kind::WireGuard, Kind::WireGuard]) => "wireguard-go + nft",
            (Gateway::Peers, [Kind::Esp, Kind::Esp]) => "strongSwan + nft",
            (Gateway::Peers, _) => "both + nft",
        }
    }

    /// As long a packet as its tunnels carry. strongSwan reads no longer ones from its TUN device.
    pub fn longest_packet(self) -> usize {
        if self.gateway == Gateway::Peers && self.has(Kind::Esp) { 1400 } else { TUN_MTU }
    }

    fn sides(self) -> [(Side, Kind); 2] {
        [(Side::A, self.kinds[0]), (Side::B, self.kinds[1])]
    }

    fn has(self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }
}

/// The programs that are measured, and where their files are.
pub struct Programs {
    pub ixgate: PathBuf,
    /// `Err`: why there is none.
    pub wireguard_go: Result<PathBuf, String>,
    pub directory: PathBuf,
    /// The gateway goes before other programs, and a soaker takes what it leaves.
    pub exclusive: bool,
}

/// A gateway that runs.
pub struct Running {
    pub programs: Vec<Program>,
    pub appliance: Appliance,
    setup: Setup,
    directory: PathBuf,
    exclusive: bool,
}

/// Realms beside A and B in ixgate's configuration: for what has to work while A and B are overloaded.
pub const HANDSHAKER: Identity = Identity { name: "c", side: Side::A, number: 1, wireguard_port: WIREGUARD_PORT };
pub const ASKER: Identity = Identity { name: "d", side: Side::A, number: 2, wireguard_port: WIREGUARD_PORT };
pub const REKEYER: Identity = Identity { name: "e", side: Side::A, number: 3, wireguard_port: WIREGUARD_PORT };

impl Running {
    pub fn start(setup: Setup, programs: &Programs) -> Outcome<Self> {
        let directory = programs.directory.join(format!("{:?}-{}", setup.gateway, setup.way()));
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(directory.join("secrets"))?;
        let text = ixgate_config(setup);
        let mut running = Running {
            programs: Vec::new(),
            appliance: Appliance::build(&text),
            setup,
            directory: directory.clone(),
            exclusive: programs.exclusive,
        };
        match setup.gateway {
            Gateway::Ixgate => running.start_ixgate(&directory, &text, programs)?,
            Gateway::IxgateXdp => {
                let ports = [Side::A, Side::B].map(|side| format!("\"{}\"", side.port())).join(", ");
                let text = format!("[uplink]\ndriver = \"af_xdp\"\ninterfaces = [{ports}]\n{text}");
                running.start_ixgate(&directory, &text, programs)?;
                running.wait_for_af_xdp(&directory, programs)?;
            }
            Gateway::Peers => running.start_peers(&directory, programs)?,
            Gateway::Kernel => running.let_kernel_forward()?,
            Gateway::Relay => running.start_relay(&directory)?,
        }
        Ok(running)
    }

    pub fn processes(&self) -> Vec<u32> {
        self.programs.iter().map(Program::id).collect()
    }

    /// For a round, if this run has one.
    pub fn soaker(&self) -> Outcome<Option<Soaker>> {
        self.exclusive.then(|| Soaker::start(&self.directory)).transpose()
    }

    /// To that of all other programs; no soaker from now on.
    pub fn lower_priority(&mut self) -> Outcome<()> {
        for process in self.processes().into_iter().filter(|_| self.exclusive) {
            run("chrt", &["--all-tasks", "--other", "--pid", "0", &process.to_string()])?;
        }
        self.exclusive = false;
        Ok(())
    }

    pub fn check(&mut self) -> Outcome<()> {
        self.programs.iter_mut().try_for_each(Program::check)
    }

    /// The sites, connected. Their sockets send one datagram a message, or runs.
    pub fn sites(&self, offload: Offload) -> Outcome<[Site; 2]> {
        let mut sites = Vec::new();
        for (side, kind) in self.setup.sides() {
            let name = if side == Side::A { "a" } else { "b" };
            let identity = Identity { name, side, number: 0, wireguard_port: self.wireguard_port(side) };
            let mut site = Site::open(kind, &identity, &self.appliance, offload)?;
            site.connect().map_err(|error| format!("{} of side {side:?}: {error}", self.setup.name()))?;
            sites.push(site);
        }
        sites.try_into().map_err(|_| "two sites".into())
    }

    /// wireguard-go needs an instance for each site: one keeps addresses apart, and both have the same.
    pub fn wireguard_port(&self, side: Side) -> u16 {
        let is_second = self.setup.gateway == Gateway::Peers && side == Side::B;
        WIREGUARD_PORT + u16::from(is_second)
    }

    fn start_ixgate(&mut self, directory: &Path, text: &str, programs: &Programs) -> Outcome<()> {
        let text = fill_in_keys(text, &self.appliance);
        write_secret(&directory.join("secrets/wireguard.key"), &STANDARD.encode(PRIVATE_KEY))?;
        for name in ["a", "b", "e"] {
            let name = format!("{name}.example");
            write_secret(&directory.join(format!("secrets/{name}.psk")), &Appliance::psk(&name))?;
        }
        let file = directory.join("ixgate.toml");
        fs::write(&file, text)?;
        let [binary, file] = [programs.ixgate.as_path(), &file].map(|path| path.to_string_lossy().into_owned());
        run(&binary, &["check", &file])?;
        let program = Program::start(&[&binary, "run", &file], &[], &directory.join("ixgate.log"))?;
        self.programs.push(program);
        self.wait_for(&directory.join("state/ixgate.sock"))
    }

    /// On both cables. What arrives there is received by whoever sends, in its own softirqs, unless receiving is a thread: on the gateway's core.
    fn wait_for_af_xdp(&mut self, directory: &Path, programs: &Programs) -> Outcome<()> {
        let api = format!("unix:{}", directory.join("state/ixgate.sock").display());
        let binary = programs.ixgate.to_string_lossy();
        let start = Instant::now();
        while run(&binary, &["status", "--api", &api])?.matches("data by AF_XDP").count() < 2 {
            self.check()?;
            if start.elapsed() > PATIENCE {
                return Err("NOT RUN: no AF_XDP on the cables".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        for side in [Side::A, Side::B] {
            let port = side.port();
            let pin = format!(
                "echo 1 > /sys/class/net/{port}/threaded; sleep 0.1; \
                 for thread in $(pgrep '^napi/{port}-'); do taskset -p -c {GATEWAY_CORE} $thread; done"
            );
            shell(Some(NAMESPACE), &pin)?;
        }
        Ok(())
    }

    fn start_peers(&mut self, directory: &Path, programs: &Programs) -> Outcome<()> {
        for (side, kind) in self.setup.sides() {
            if kind == Kind::WireGuard {
                self.start_wireguard_go(side, directory, programs)?;
            }
        }
        if self.setup.has(Kind::Esp) {
            if !Path::new(CHARON).exists() {
                return Err(format!("no {CHARON} (strongSwan)").into());
            }
            self.start_strongswan(directory)?;
        }
        let device = |kind: Kind, side: Side| if kind == Kind::Esp { "ipsec0" } else { tun(side) };
        let devices = [device(self.setup.kinds[0], Side::A), device(self.setup.kinds[1], Side::B)];
        translate(devices, &[])
    }

    fn start_wireguard_go(&mut self, side: Side, directory: &Path, programs: &Programs) -> Outcome<()> {
        let binary = programs.wireguard_go.clone()?.to_string_lossy().into_owned();
        let (device, name) = (tun(side), if side == Side::A { "a" } else { "b" });
        let log = directory.join(format!("{device}.log"));
        self.programs.push(Program::start(&[&binary, "-f", device], &[("LOG_LEVEL", "error")], &log)?);
        self.wait_for(&Path::new("/var/run/wireguard").join(format!("{device}.sock")))?;
        let key = directory.join("secrets/wireguard.key");
        write_secret(&key, &STANDARD.encode(PRIVATE_KEY))?;
        let peer = STANDARD.encode(public_key(&self.appliance.site_key(name)));
        let port = self.wireguard_port(side);
        let key = key.to_string_lossy();
        let set = format!("wg set {device} listen-port {port} private-key {key} peer {peer} allowed-ips {PREFIX}");
        shell(Some(NAMESPACE), &set)?;
        ip(&format!("-n {NAMESPACE} link set dev {device} mtu {TUN_MTU} up"))
    }

    fn start_strongswan(&mut self, directory: &Path) -> Outcome<()> {
        // It wants an address of its own in every network that it speaks for.
        for side in [Side::A, Side::B] {
            let own = side.alias().replace("0/24", "254/32");
            ip(&format!("-n {NAMESPACE} address replace {own} dev lo"))?;
        }
        let home = directory.to_string_lossy();
        let socket = directory.join("vici");
        let conf = directory.join("strongswan.conf");
        let daemon = format!(
            "charon-systemd {{\n load = {CHARON_PLUGINS}\n install_virtual_ip = no\n install_routes = no\n plugins {{\n vici {{ \
             socket = unix://{home}/vici\n }}\n kernel-libipsec {{ allow_peer_ts = yes\n }}\n }}\n journal {{ default = -1\n }}\n \
             filelog {{ bench {{ path = {home}/charon.log\n default = 1\n flush_line = yes\n }}\n }}\n}}\n"
        );
        fs::write(&conf, daemon)?;
        let environment = [("STRONGSWAN_CONF", &*conf.to_string_lossy())];
        self.programs.push(Program::start(&[CHARON], &environment, &directory.join("charon-start.log"))?);
        self.wait_for(&socket)?;
        let mut connections = String::new();
        let mut secrets = String::new();
        for (side, kind) in self.setup.sides() {
            let name = if side == Side::A { "a" } else { "b" };
            if kind == Kind::Esp {
                connections += &format!(
                    "{name} {{\n version = 2\n local_addrs = {}\n remote_addrs = {}\n encap = yes\n unique = replace\n \
                     proposals = aes256gcm16-prfsha384-ecp384,aes256gcm16-prfsha256-x25519,default\n local {{ auth = psk\n id = \
                     ix.example\n }}\n remote {{ auth = psk\n id = {name}.example\n }}\n children {{ net {{ local_ts = {}\n \
                     remote_ts = {PREFIX}\n esp_proposals = aes256gcm16\n rekey_time = 0\n }}\n }}\n }}\n",
                    side.gateway(),
                    side.site(0),
                    side.other().alias(),
                );
                secrets += &format!(
                    "ike-{name} {{ id = {name}.example\n secret = \"{}\"\n }}\n",
                    Appliance::psk(&format!("{name}.example"))
                );
            }
        }
        let file = directory.join("swanctl.conf");
        fs::write(&file, format!("connections {{\n{connections}}}\nsecrets {{\n{secrets}}}\n"))?;
        let socket = format!("unix://{home}/vici");
        let file = file.to_string_lossy();
        shell(Some(NAMESPACE), &format!("swanctl --load-all --noprompt --clear --file {file} --uri {socket}"))?;
        ip(&format!("-n {NAMESPACE} link set dev ipsec0 up"))
    }

    fn let_kernel_forward(&mut self) -> Outcome<()> {
        let mut neighbours = Vec::new();
        for (side, host) in [(Side::A, HOST_A), (Side::B, HOST_B)] {
            neighbours.push(format!("neighbour replace {host} lladdr {NOBODY} dev {} nud permanent", side.port()));
        }
        translate([Side::A.port(), Side::B.port()], &neighbours)
    }

    fn start_relay(&mut self, directory: &Path) -> Outcome<()> {
        let program = std::env::current_exe()?;
        let log = directory.join("relay.log");
        self.programs.push(Program::start(&[&program.to_string_lossy(), crate::relay::ARGUMENT], &[], &log)?);
        thread::sleep(Duration::from_millis(200));
        self.check()
    }

    fn wait_for(&mut self, file: &Path) -> Outcome<()> {
        let start = Instant::now();
        while !file.exists() {
            self.check()?;
            if start.elapsed() > PATIENCE {
                return Err(format!("{} does not appear", file.display()).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.programs.clear();
        // What is not there cannot be removed either.
        let undo = "nft flush ruleset; echo 0 > /proc/sys/net/ipv4/ip_forward; \
                    for table in 101 102; do ip rule del lookup $table; ip route flush table $table; done; \
                    for device in wga wgb ipsec0; do ip link del $device; done; true";
        let _ = shell(Some(NAMESPACE), &format!("set +e; ({undo}) 2>/dev/null"));
        for side in [Side::A, Side::B] {
            let _ = fs::remove_file(format!("/var/run/wireguard/{}.sock", tun(side)));
        }
    }
}

fn tun(side: Side) -> &'static str {
    match side {
        Side::A => "wga",
        Side::B => "wgb",
    }
}

/// Forwarding, and twice translation by nftables, between the devices by which A and B come (which may be the same). Connection tracking
/// is to let segments pass whatever it thinks of their window: nobody acknowledges them here.
fn translate(devices: [&str; 2], neighbours: &[String]) -> Outcome<()> {
    let [a, b] = devices;
    let (seen_a, seen_b) = (Side::A.alias(), Side::B.alias());
    let rules = format!(
        "table ip nat {{
           chain prerouting {{ type nat hook prerouting priority dstnat;
             iifname \"{a}\" dnat ip prefix to ip daddr map {{ {seen_b} : {PREFIX} }}
             iifname \"{b}\" dnat ip prefix to ip daddr map {{ {seen_a} : {PREFIX} }}
           }}
           chain postrouting {{ type nat hook postrouting priority srcnat;
             ct original ip daddr {seen_b} snat ip prefix to ip saddr map {{ {PREFIX} : {seen_a} }}
             ct original ip daddr {seen_a} snat ip prefix to ip saddr map {{ {PREFIX} : {seen_b} }}
           }}
         }}
         table ip filter {{
           chain forward {{ type filter hook forward priority filter; policy drop;
             ct state established,related accept
             ct original ip daddr {{ {seen_a}, {seen_b} }} accept
           }}
         }}"
    );
    for neighbour in neighbours {
        ip(&format!("-n {NAMESPACE} {neighbour}"))?;
    }
    let script = format!(
        "echo 1 > /proc/sys/net/ipv4/ip_forward
         for device in {a} {b}; do echo 0 > /proc/sys/net/ipv4/conf/$device/rp_filter; done
         nft -f - <<'RULES'\n{rules}\nRULES
         echo 1 > /proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal
         ip route add {PREFIX} dev {a} table 101
         ip route add {PREFIX} dev {b} table 102
         ip rule add pref 100 iif {a} lookup 102
         ip rule add pref 101 iif {b} lookup 101"
    );
    shell(Some(NAMESPACE), &script).map(drop)
}

/// As `Appliance` reads it, too.
fn ixgate_config(setup: Setup) -> String {
    let attach = |kind: Kind, name: &str| match kind {
        Kind::Esp => format!(
            r#"{{ ipsec = {{ remote_id = "fqdn:{name}.example", psk_file = "secrets/{name}.example.psk" }}, mtu_bytes = 1420 }}"#
        ),
        _ => format!(r#"{{ wireguard = {{ public_key = "{{key:{name}}}" }} }}"#),
    };
    let realm = |name: &str, networks: &str, kind: Kind| {
        format!("[[realm]]\nname = \"{name}\"\nnetworks = [{networks}]\nattach = [{}]\n", attach(kind, name))
    };
    let pinned = |side: Side| format!("{{ prefix = \"{PREFIX}\", alias = \"{}\" }}", side.alias());
    let others = [("c", Kind::WireGuard), ("d", Kind::WireGuard), ("e", Kind::Esp)];
    let mut text =
        "[ix]\ndomain = \"ix.example\"\n[wireguard]\nprivate_key_file = \"secrets/wireguard.key\"\n[ike]\nlocal_id = \
                    \"fqdn:ix.example\"\n"
            .to_owned();
    text += &realm("a", &pinned(Side::A), setup.kinds[0]);
    text += &realm("b", &pinned(Side::B), setup.kinds[1]);
    text.extend(others.map(|(name, kind)| realm(name, "\"192.168.1.0/24\"", kind)));
    text + "[[grant]]\nfrom = [\"a\"]\nto = [\"realm:b\"]\nports = [\"any\"]\n"
}

fn fill_in_keys(text: &str, appliance: &Appliance) -> String {
    ["a", "b", "c", "d"].iter().fold(text.to_owned(), |text, name| {
        text.replace(&format!("{{key:{name}}}"), &STANDARD.encode(public_key(&appliance.site_key(name))))
    })
}

pub fn write_secret(file: &Path, text: &str) -> Outcome<()> {
    fs::write(file, text)?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
    Ok(())
}
