//! WireGuard: our key, the peers' keys, where they are. A public key is the identity of a tunnel, so it stands for one
//! tunnel in the whole file. And every realm's attachments, of whatever kind, in the order of the file.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::agreement::{PrivateKey, X25519};
use zeroize::Zeroizing;

use super::globals::socket_addr;
use super::ipsec::{self, IpsecPeers};
use super::plain_ports::{self, PlacedPort, Ports};
use super::priorities::priorities;
use crate::config::diagnostic::Problems;
use crate::config::model::{Attachment, Ike, Interface, Peer, WireGuard, WireGuardPeer};
use crate::config::pasted::ends_in_key;
use crate::config::raw::{self, Raw};
use crate::config::secrets::{SecretError, SecretReader, decode_key};
use crate::config::section::At;

const DEFAULT_LISTEN: &str = "0.0.0.0:51820";
const DEFAULT_MTU_BYTES: u16 = 1420;
const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(25);

/// Our side of every kind of tunnel, and the attachments of each realm.
pub struct Tunnels {
    pub wireguard: Option<WireGuard>,
    pub ike: Option<Ike>,
    pub attachments: Vec<Vec<Attachment>>,
    /// Of all ports, each once.
    pub interfaces: Vec<Interface>,
    /// Ports, for what the rest of the file has to say about them.
    pub ports: Vec<PlacedPort>,
}

pub fn tunnels(raw: &Raw, directory: &Path, secrets: &dyn SecretReader, problems: &mut Problems) -> Tunnels {
    let wireguard = wireguard(raw, directory, secrets, problems);
    let ike = ipsec::ike(raw, directory, secrets, problems);
    let private_key = wireguard.as_ref().and_then(|wireguard| wireguard.private_key.as_ref());
    let our_public_key = private_key.and_then(|key| public_key_of(key));
    let mut kinds = Kinds {
        wireguard: Peers { directory, secrets, our_public_key, seen: HashMap::new() },
        ipsec: IpsecPeers::new(raw, directory, secrets),
        ports: Ports::default(),
    };
    let mut of_realm = |(realm, raw): (usize, &raw::Realm)| -> Vec<Attachment> {
        let orders = priorities(raw, problems);
        let attachments = raw.attachments.iter().zip(orders).filter_map(|(attachment, (priority, weight))| {
            let (peer, mtu_bytes) = kinds.attachment(realm, attachment, problems)?;
            Some(Attachment { peer, priority, weight, mtu_bytes })
        });
        attachments.collect()
    };
    let attachments = raw.realms.iter().enumerate().map(&mut of_realm).collect();
    let interfaces = kinds.ports.interfaces(raw, problems);
    Tunnels { wireguard, ike, attachments, interfaces, ports: kinds.ports.placed }
}

/// What has been seen of every kind of attachment.
struct Kinds<'a> {
    wireguard: Peers<'a>,
    ipsec: IpsecPeers<'a>,
    ports: Ports,
}

impl Kinds<'_> {
    /// With the largest inner packet. `None`: it is wrong, which has been reported.
    fn attachment(&mut self, realm: usize, raw: &raw::Attachment, problems: &mut Problems) -> Option<(Peer, u16)> {
        let wireguard = raw.wireguard.as_ref().map(|peer| self.wireguard.peer(peer, problems));
        let ipsec = raw.ipsec.as_ref().map(|peer| self.ipsec.peer(peer, problems));
        let port = raw.port.as_ref().map(|port| self.ports.port(realm, port, problems));
        let tun = raw.tun.as_ref().map(|tun| self.ports.tun(tun, problems));
        let (peer, default_mtu_bytes) = match (wireguard, ipsec, port, tun) {
            (Some(peer), None, None, None) => (Peer::WireGuard(peer?), DEFAULT_MTU_BYTES),
            (None, Some(peer), None, None) => (Peer::Ipsec(Box::new(peer?)), ipsec::DEFAULT_MTU_BYTES),
            (None, None, Some(peer), None) => (Peer::Port(Box::new(peer?)), plain_ports::DEFAULT_MTU_BYTES),
            (None, None, None, Some(peer)) => (Peer::Tun(peer?), plain_ports::DEFAULT_MTU_BYTES),
            _ => return None,
        };
        let mtu = mtu(raw, problems).and_then(|mtu| u16::try_from(mtu.value).ok());
        Some((peer, mtu.unwrap_or(default_mtu_bytes)))
    }
}

/// A port says it among what else it has from the carrier, a tunnel beside the peer.
fn mtu<'a>(raw: &'a raw::Attachment, problems: &mut Problems) -> Option<&'a At<u64>> {
    let inside = raw.port.as_ref().and_then(|port| port.mtu.as_ref());
    if let (Some(inside), Some(beside)) = (inside, &raw.mtu_bytes) {
        problems
            .error(&beside.span, "the port has both `mtu` and `mtu_bytes`")
            .why("both are its largest packet")
            .remedy("remove `mtu_bytes`, and keep `mtu` in the port")
            .also(&inside.span, "the other one is here");
    }
    inside.or(raw.mtu_bytes.as_ref())
}

fn wireguard(raw: &Raw, directory: &Path, secrets: &dyn SecretReader, problems: &mut Problems) -> Option<WireGuard> {
    let listen = match &raw.wireguard.listen {
        None => DEFAULT_LISTEN.parse().ok(),
        Some(text) => socket_addr(text, "", DEFAULT_LISTEN, problems),
    };
    let key_file = raw.wireguard.private_key_file.as_ref();
    let private_key = key_file.and_then(|file| read_key(file, directory, secrets, &PRIVATE_KEY, problems));
    let first_peer = raw.realms.iter().flat_map(|r| &r.attachments).find_map(|a| a.wireguard.as_ref());
    if let (None, Some(peer)) = (key_file, first_peer) {
        problems
            .error(&peer.span, "`private_key_file` is missing in [wireguard]")
            .why("this realm attaches by WireGuard, and a tunnel needs our own key")
            .remedy(
                "make one with `ixgate keygen wireguard`, keep it in a file with mode 600, and write \
                 `private_key_file = \"secrets/wireguard.key\"` under `[wireguard]`",
            );
    }
    listen.map(|listen| WireGuard { listen, private_key })
}

/// `None` never happens: any 32 bytes are a private key (RFC 7748).
fn public_key_of(private_key: &[u8; 32]) -> Option<[u8; 32]> {
    let private_key = PrivateKey::from_private_key(&X25519, private_key).ok()?;
    private_key.compute_public_key().ok()?.as_ref().try_into().ok()
}

struct Peers<'a> {
    directory: &'a Path,
    secrets: &'a dyn SecretReader,
    our_public_key: Option<[u8; 32]>,
    /// Where each public key was first seen.
    seen: HashMap<[u8; 32], Range<usize>>,
}

impl Peers<'_> {
    fn peer(&mut self, peer: &raw::Peer, problems: &mut Problems) -> Option<WireGuardPeer> {
        let public_key = peer.public_key.as_ref().and_then(|text| self.public_key(text, problems));
        let endpoint = peer.endpoint.as_ref().and_then(|text| endpoint(text, problems));
        let preshared = peer.preshared_key_file.as_ref();
        let preshared_key =
            preshared.and_then(|file| read_key(file, self.directory, self.secrets, &PRESHARED_KEY, problems));
        let keepalive = peer.keepalive_secs.as_ref().map(|secs| Duration::from_secs(secs.value));
        Some(WireGuardPeer {
            public_key: public_key?,
            preshared_key,
            endpoint,
            keepalive: keepalive.or(endpoint.map(|_| DEFAULT_KEEPALIVE)),
        })
    }

    fn public_key(&mut self, text: &At<String>, problems: &mut Problems) -> Option<[u8; 32]> {
        let Some(key) = decode_key(text.value.as_bytes()).map(|k| *k).filter(|k| *k != [0; 32]) else {
            problems
                .error(&text.span, "this is not a WireGuard public key")
                .why("a key is 32 bytes in base64: 44 characters, the last one `=`")
                .remedy("copy what `wg pubkey` or `ixgate keygen wireguard` printed on the peer's side");
            return None;
        };
        if self.our_public_key == Some(key) {
            problems
                .error(&text.span, "this is our own public key")
                .why("the peer has to have a key of its own, or it would be us")
                .remedy("ask the peer for its public key, and give it ours");
        }
        if let Some(first) = self.seen.get(&key) {
            problems
                .error(&text.span, "a second tunnel has this public key")
                .why("the key is the identity of a tunnel; with two, a packet's realm would be a guess")
                .remedy("give each tunnel its own key pair")
                .also(first, "the first one is here");
        } else {
            self.seen.insert(key, text.span.clone());
        }
        Some(key)
    }
}

fn endpoint(text: &At<String>, problems: &mut Problems) -> Option<std::net::SocketAddr> {
    const EXAMPLE: &str = "203.0.113.10:51820";
    let named = text.value.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok()
            && !host.contains([':', '[', ']'])
            && host.contains(|c: char| c.is_ascii_alphabetic())
    });
    if named {
        problems
            .error(&text.span, "an endpoint by host name is not served yet in this version")
            .why("ixgate would have to look the name up, and again whenever it changes")
            .remedy(format!("write the IP address and port, for example `{EXAMPLE}`"));
        return None;
    }
    let addr = socket_addr(text, "", EXAMPLE, problems)?;
    if addr.ip().is_unspecified() {
        problems
            .error(&text.span, "nothing can be reached at this address")
            .why("it means \"any address\", and a peer has one")
            .remedy(format!("write for example `{EXAMPLE}`, or leave `endpoint` out and let the peer initiate"));
        return None;
    }
    Some(addr)
}

/// What a secret's file should hold, and the command that makes such a file.
pub struct Kind {
    pub what: &'static str,
    pub make: &'static str,
}

const PRIVATE_KEY: Kind = Kind { what: "a private key", make: "ixgate keygen wireguard" };
const PRESHARED_KEY: Kind = Kind { what: "a preshared key", make: "ixgate keygen psk --wireguard" };

fn read_key(
    file: &At<String>,
    directory: &Path,
    secrets: &dyn SecretReader,
    kind: &Kind,
    problems: &mut Problems,
) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = read_secret(file, directory, secrets, kind, problems)?;
    let key = decode_key(&bytes).filter(|key| **key != [0; 32]);
    if key.is_none() {
        let path = directory.join(&file.value);
        problems
            .error(&file.span, format!("{} does not hold {}", path.display(), kind.what))
            .why("expected 32 bytes in base64 on one line, as `wg genkey` prints them")
            .remedy(format!(
                "put a copy of it back, or make a new one with `{} --out {} --force`, which peers must then be given",
                kind.make,
                path.display()
            ));
    }
    key
}

/// The bytes of a secret's file.
pub fn read_secret(
    file: &At<String>,
    directory: &Path,
    secrets: &dyn SecretReader,
    kind: &Kind,
    problems: &mut Problems,
) -> Option<Zeroizing<Vec<u8>>> {
    if is_the_key_itself(file, problems) {
        return None;
    }
    let path = directory.join(&file.value);
    match secrets.read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            report_unusable(file, &path, &error, kind, problems);
            None
        }
    }
}

/// Reports a key that stands where the name of its file belongs.
pub fn is_the_key_itself(file: &At<String>, problems: &mut Problems) -> bool {
    let is_key = ends_in_key(&file.value);
    if is_key {
        // However it is written (TOML has escapes), and although the name before it is a harmless one.
        problems.mask(file.span.clone());
        problems
            .error(&file.span, "this is the key itself, and must be the name of a file that holds it")
            .why("secrets live in files of their own, so that this file can be shown and shared")
            .remedy(
                "put it into a file of its own, mode 600, and name that file here; since it has been in this file, \
                 make a new one",
            );
    }
    is_key
}

/// What the remedy for a missing file says of its path as it is written.
pub fn relative(written: &str) -> &'static str {
    if Path::new(written).is_relative() { "; the path is relative to this file" } else { "" }
}

/// Why a secret's file cannot be used, and what to do.
pub fn report_unusable(file: &At<String>, path: &Path, error: &SecretError, kind: &Kind, problems: &mut Problems) {
    let shown = path.display();
    let remedy = match error {
        SecretError::Exposed(_) => format!("chmod 600 {shown}"),
        SecretError::Missing => {
            format!("make it: `{} --out {shown}`{}", kind.make, relative(&file.value))
        }
        SecretError::Unreadable(_) => "let the user that runs ixgate own the file, with mode 600".to_owned(),
        SecretError::NotAFile | SecretError::TooLong(_) => {
            "name the file that holds the key, and nothing else".to_owned()
        }
    };
    problems.error(&file.span, format!("cannot use {} from {shown}", kind.what)).why(error.to_string()).remedy(remedy);
}
