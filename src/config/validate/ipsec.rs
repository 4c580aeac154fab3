//! IPsec: our side, and the peers. The identity is the key of a peer: whoever proves it is that peer, whatever address
//! it comes from; so each pair of identities stands for one tunnel in the whole file.

mod secret;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

use self::secret::{WISHED_PPK_BYTES, WISHED_PSK_BYTES};
use super::identity::identity;
use crate::config::certificate::{self, Facts};
use crate::config::diagnostic::Problems;
use crate::config::model::{
    Certificate, Encapsulation, Identity, Ike, IpsecPeer, Lifetimes, LocalAuth, Ppk, Profile, RemoteAuth, RsaPadding,
    Selectors,
};
use crate::config::raw::{self, Raw};
use crate::config::secrets::SecretReader;
use crate::config::section::At;

/// What fits into every outer packet of 1,500 bytes, whichever cipher, over IPv4 or IPv6. The longest of ours: IPv6 (40),
/// UDP (8), SPI and sequence number (8), IV of AES-CBC (16) and ICV of HMAC-SHA2-512-256 (32) leave 1,396, of which
/// whole blocks of 16 are 1,392; two bytes are the ESP trailer (RFC 4303 section 2, RFC 4868 section 2.3).
pub const DEFAULT_MTU_BYTES: u16 = (1500 - 40 - 8 - 8 - 16 - 32) / 16 * 16 - 2;

const DEFAULT_LISTEN: &str = "0.0.0.0";
const DEFAULT_PORT: u16 = 500;
const DEFAULT_NAT_T_PORT: u16 = 4500;
const DEFAULT_LIVENESS: Duration = Duration::from_secs(30);
const DEFAULT_REPLAY_WINDOW_PACKETS: u32 = 1024;
const EXPIRES_SOON_SECS: i64 = 14 * 86_400;

pub fn ike(raw: &Raw, directory: &Path, secrets: &dyn SecretReader, problems: &mut Problems) -> Option<Ike> {
    let ike = &raw.ike;
    let listen = match &ike.listen {
        None => DEFAULT_LISTEN.parse().ok(),
        Some(text) => listen_address(text, problems),
    };
    let local_id = ike.local_id.as_ref().map(|text| identity(text, problems));
    let (port, nat_t_port) = (number(&ike.port, DEFAULT_PORT), number(&ike.nat_t_port, DEFAULT_NAT_T_PORT));
    if let (true, Some(at)) = (port == nat_t_port, ike.nat_t_port.as_ref().or(ike.port.as_ref())) {
        problems
            .error(&at.span, "`port` and `nat_t_port` are the same")
            .why("on one of them every message is IKE, on the other ESP comes too; the port tells which (RFC 3948)")
            .remedy(format!("use {DEFAULT_PORT} and {DEFAULT_NAT_T_PORT}, or two others"));
    }
    let certificate = our_certificate(ike, directory, secrets, problems);
    Some(Ike {
        listen: listen?,
        port,
        nat_t_port,
        local_id: match local_id {
            None => None,
            Some(identity) => Some(identity?),
        },
        certificate: certificate?,
        raw_esp: ike.raw_esp.as_ref().is_some_and(|flag| flag.value),
    })
}

fn listen_address(text: &At<String>, problems: &mut Problems) -> Option<IpAddr> {
    let parsed = text.value.parse::<IpAddr>().ok().filter(|address| !address.is_multicast());
    if parsed.is_none() {
        problems
            .error(&text.span, "this is not an address to listen on")
            .why("an IPv4 or IPv6 address without a port; the ports are `port` and `nat_t_port`")
            .remedy(format!("write for example `{DEFAULT_LISTEN}`"));
    }
    parsed
}

/// `None`: something is wrong with it. `Some(None)`: there is none.
fn our_certificate(
    ike: &raw::Ike,
    directory: &Path,
    secrets: &dyn SecretReader,
    problems: &mut Problems,
) -> Option<Option<Certificate>> {
    let (certificate_file, key_file) = match (&ike.certificate_file, &ike.private_key_file) {
        (None, None) => return Some(None),
        (Some(certificate), Some(key)) => (certificate, key),
        (Some(alone), None) | (None, Some(alone)) => {
            problems
                .error(&alone.span, "`certificate_file` and `private_key_file` belong together")
                .why("a certificate proves nothing without its key, and nobody knows a key without its certificate")
                .remedy("name both, or neither");
            return None;
        }
    };
    let chain = secret::pem(certificate_file, "our certificate", directory, secrets, problems);
    let certificates = chain.as_ref().and_then(|pem| {
        secret::told(certificate::certificates(pem), certificate_file, "our certificate", directory, problems)
    });
    let private_key = secret::private_key(key_file, directory, secrets, problems);
    let (chain, certificates, (private_key, der)) = (chain?, certificates?, private_key?);
    let public_key = match certificate::public_key(&der) {
        Ok(public_key) => public_key,
        Err(error) => {
            problems
                .error(&key_file.span, "this private key cannot be used")
                .why(error.to_string())
                .remedy("make one of these, and ask your CA for a certificate of it");
            return None;
        }
    };
    let facts: Vec<Facts> = certificates.iter().filter_map(|der| certificate::facts(der)).collect();
    let Some(facts) = facts.iter().find(|facts| facts.public_key == public_key) else {
        let subject = facts.first().map_or("", |facts| &facts.subject);
        problems
            .error(&key_file.span, "this key does not belong to our certificate")
            .why(format!("the certificate of {subject} is about another public key"))
            .remedy("name the key that the certificate was asked for with")
            .also(&certificate_file.span, "the certificate is named here");
        return None;
    };
    warn_of_dates(facts, &certificate_file.span, "our certificate", secrets, problems);
    if let Some(text) = &ike.local_id {
        let folded = text.value.to_lowercase();
        if !folded.starts_with("dn:") && !facts.identities.iter().any(|shown| shown.to_lowercase() == folded) {
            let shown = if facts.identities.is_empty() { "none".to_owned() } else { facts.identities.join(", ") };
            problems
                .warning(&text.span, "our certificate does not show this identity")
                .why(format!("peers hold the two against each other; the certificate's alternative names are: {shown}"))
                .remedy("ask the CA for a certificate with this name in it, or be one of the names that it has")
                .also(&certificate_file.span, "the certificate is named here");
        }
    }
    let rsa_padding = chosen(&ike.rsa_padding, &[("pkcs1", RsaPadding::Pkcs1)], RsaPadding::Pss);
    Some(Some(Certificate { chain, private_key, rsa_padding }))
}

fn warn_of_dates(facts: &Facts, span: &Range<usize>, what: &str, secrets: &dyn SecretReader, problems: &mut Problems) {
    let Some(now) = secrets.unix_secs().and_then(|now| i64::try_from(now).ok()) else { return };
    let message = if now > facts.not_after_unix_secs {
        format!("{what} has expired")
    } else if now < facts.not_before_unix_secs {
        format!("{what} is not valid yet")
    } else if now > facts.not_after_unix_secs - EXPIRES_SOON_SECS {
        format!("{what} expires within two weeks")
    } else {
        return;
    };
    problems
        .warning(span, message)
        .why(format!("{} is valid until {}; outside of its dates it proves nothing", facts.subject, facts.not_after))
        .remedy("ask for a new one, or set this machine's clock if that is what is wrong");
}

/// Reads the peers one by one, and remembers who has been there.
pub struct IpsecPeers<'a> {
    ike: &'a raw::Ike,
    directory: &'a Path,
    secrets: &'a dyn SecretReader,
    /// Where each pair of identities, ours and theirs, was first seen.
    seen: HashMap<(String, String), Range<usize>>,
    /// The same of shared keys, by their hash.
    seen_psks: HashMap<Vec<u8>, Range<usize>>,
}

impl<'a> IpsecPeers<'a> {
    pub fn new(raw: &'a Raw, directory: &'a Path, secrets: &'a dyn SecretReader) -> Self {
        IpsecPeers { ike: &raw.ike, directory, secrets, seen: HashMap::new(), seen_psks: HashMap::new() }
    }

    pub fn peer(&mut self, raw: &raw::IpsecPeer, problems: &mut Problems) -> Option<IpsecPeer> {
        let identities = self.identities(raw, problems);
        let remote = raw.remote.as_ref().map(|text| remote(text, problems));
        let auth = self.auth(raw, problems);
        let ppk = self.ppk(raw, problems);
        let initiate = raw.initiate.as_ref().map_or(raw.remote.is_some(), |flag| flag.value);
        if let (true, None, Some(flag)) = (initiate, &raw.remote, &raw.initiate) {
            problems
                .error(&flag.span, "we cannot call a peer without `remote`")
                .why("`remote` says where it listens")
                .remedy("add `remote = \"198.51.100.7\"`, or leave `initiate` out and let the peer call");
        }
        let (remote_id, local_id) = identities?;
        let (local_auth, remote_auth) = auth?;
        Some(IpsecPeer {
            remote: match remote {
                None => None,
                Some(remote) => Some(remote?),
            },
            remote_nat_t_port: number(&raw.remote_nat_t_port, DEFAULT_NAT_T_PORT),
            remote_id,
            local_id,
            local_auth,
            remote_auth,
            ppk: ppk?,
            profile: chosen(&raw.profile, &[("pq", Profile::Pq), ("compat", Profile::Compat)], Profile::Modern),
            initiate,
            encapsulation: self.encapsulation(raw, problems),
            selectors: chosen(&raw.selectors, &[("any", Selectors::Any), ("pairs", Selectors::Pairs)], Selectors::View),
            lifetimes: lifetimes(raw),
            replay_window_packets: number(&raw.replay_window_packets, DEFAULT_REPLAY_WINDOW_PACKETS),
            liveness: secs(&raw.liveness_secs, DEFAULT_LIVENESS),
            copy_dscp: chosen(&raw.dscp, &[("clear", false)], true),
        })
    }

    /// Theirs and ours.
    fn identities(&mut self, raw: &raw::IpsecPeer, problems: &mut Problems) -> Option<(Identity, Identity)> {
        let theirs = raw.remote_id.as_ref().and_then(|text| identity(text, problems));
        let local_text = raw.local_id.as_ref().or(self.ike.local_id.as_ref());
        if local_text.is_none() {
            problems
                .error(&raw.span, "there is no `local_id`, neither here nor in [ike]")
                .why("the peer has to be told who we are")
                .remedy("write `local_id = \"fqdn:ix-east.example\"` under `[ike]`, with a name of your own");
        }
        // One in [ike] has been reported there if it is wrong.
        let ours = match &raw.local_id {
            Some(text) => identity(text, problems),
            None => local_text.and_then(|text| identity(text, &mut Problems::default())),
        };
        let (theirs, ours) = (theirs?, ours?);
        let span = &raw.remote_id.as_ref()?.span;
        if theirs.folded() == ours.folded() {
            problems
                .error(span, "this is our own identity")
                .why("the peer has to have an identity of its own, or it would be us")
                .remedy("ask the peer's operator which identity its router sends");
            return None;
        }
        if let Some(first) = self.seen.get(&(ours.folded(), theirs.folded())) {
            problems
                .error(span, "a second tunnel has this `remote_id`")
                .why("the identity tells tunnels apart; with two, a packet's realm would be a guess")
                .remedy("agree on an identity of its own for each tunnel (or call ourselves differently: `local_id`)")
                .also(first, "the first one is here");
        } else {
            self.seen.insert((ours.folded(), theirs.folded()), span.clone());
        }
        Some((theirs, ours))
    }

    fn auth(&mut self, raw: &raw::IpsecPeer, problems: &mut Problems) -> Option<(LocalAuth, RemoteAuth)> {
        let (local, remote) = auth_methods(raw, problems)?;
        let psk = raw.psk_file.as_ref().map(|file| self.psk(file, problems));
        let cas = raw.ca_file.as_ref().map(|file| self.cas(file, problems));
        let crls = match &raw.crl_file {
            None => Some(Vec::new()),
            Some(file) => secret::revocation_lists(file, self.directory, self.secrets, problems),
        };
        if local == Method::Certificate && self.ike.certificate_file.is_none() {
            problems
                .error(&raw.span, "`certificate_file` is missing in [ike]")
                .why("with this peer we prove who we are by our certificate, and there is none")
                .remedy(
                    "name it there, with `private_key_file`; or write `local_auth = \"psk\"` here with a `psk_file`, if \
                     that is what the peer expects of us",
                );
            return None;
        }
        let remote_auth = match remote {
            Method::Psk => RemoteAuth::Psk(psk.clone()??),
            Method::Certificate => {
                let require_crl = chosen(&raw.crl, &[("require", true)], false);
                RemoteAuth::Certificate { cas: cas??, crls: crls?, require_crl }
            }
        };
        let local_auth = match local {
            Method::Psk => LocalAuth::Psk(psk??),
            Method::Certificate => LocalAuth::Certificate,
        };
        Some((local_auth, remote_auth))
    }

    fn psk(&mut self, file: &At<String>, problems: &mut Problems) -> Option<Zeroizing<Vec<u8>>> {
        let psk = secret::shared(file, &secret::PSK, WISHED_PSK_BYTES, self.directory, self.secrets, problems)?;
        let hash = digest(&SHA256, &psk).as_ref().to_vec();
        match self.seen_psks.get(&hash) {
            Some(first) => {
                problems
                    .warning(&file.span, "another peer has the same pre-shared key")
                    .why("who knows the key of two peers can pass for either of them")
                    .remedy("agree on a key of its own with each peer: `ixgate keygen psk`")
                    .also(first, "the other one is here");
            }
            None => {
                self.seen_psks.insert(hash, file.span.clone());
            }
        }
        Some(psk)
    }

    fn cas(&self, file: &At<String>, problems: &mut Problems) -> Option<Vec<Vec<u8>>> {
        let cas = secret::certificates(file, "certificates of CAs", self.directory, self.secrets, problems)?;
        for facts in cas.iter().filter_map(|der| certificate::facts(der)) {
            warn_of_dates(&facts, &file.span, "a certificate in it", self.secrets, problems);
        }
        Some(cas)
    }

    /// `None`: something is wrong with it. `Some(None)`: there is none.
    fn ppk(&self, raw: &raw::IpsecPeer, problems: &mut Problems) -> Option<Option<Ppk>> {
        let required = raw.ppk_required.as_ref().is_some_and(|flag| flag.value);
        match (&raw.ppk_id, &raw.ppk_file) {
            (None, None) if !required => Some(None),
            (Some(id), Some(file)) => {
                let key = secret::shared(file, &secret::PPK, WISHED_PPK_BYTES, self.directory, self.secrets, problems)?;
                Some(Some(Ppk { id: id.value.clone(), key, required }))
            }
            _ => {
                let there = raw.ppk_id.as_ref().or(raw.ppk_file.as_ref()).map(|text| &text.span);
                let span = there.or(raw.ppk_required.as_ref().map(|flag| &flag.span)).unwrap_or(&raw.span);
                problems
                    .error(span, "a post-quantum key needs both `ppk_id` and `ppk_file`")
                    .why("the peer looks the key up by its name (RFC 8784 section 3)")
                    .remedy("name both, or none of the `ppk_` keys");
                None
            }
        }
    }

    fn encapsulation(&self, raw: &raw::IpsecPeer, problems: &mut Problems) -> Encapsulation {
        let others = [("auto", Encapsulation::Auto), ("esp", Encapsulation::Esp)];
        let encapsulation = chosen(&raw.encapsulation, &others, Encapsulation::Udp);
        let raw_esp = self.ike.raw_esp.as_ref().is_some_and(|flag| flag.value);
        if let (false, false, Some(at)) = (raw_esp, encapsulation == Encapsulation::Udp, &raw.encapsulation) {
            problems
                .error(&at.span, "ESP without UDP is switched off")
                .why("it is an IP protocol of its own, for which ixgate needs the capability CAP_NET_RAW")
                .remedy("write `raw_esp = true` under `[ike]`, or `encapsulation = \"udp\"` here");
        }
        encapsulation
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Psk,
    Certificate,
}

/// Ours and theirs, such that every file that is named is used, and every one that is used is named.
fn auth_methods(raw: &raw::IpsecPeer, problems: &mut Problems) -> Option<(Method, Method)> {
    let method = |choice: &Option<At<&'static str>>| {
        choice.as_ref().map(|word| if word.value == "psk" { Method::Psk } else { Method::Certificate })
    };
    let (local, remote) = (method(&raw.local_auth), method(&raw.remote_auth));
    let (local, remote) = match (local, remote, &raw.psk_file, &raw.ca_file) {
        (Some(local), Some(remote), ..) => (local, remote),
        // The other side does as this one, unless it is what the files are there for.
        (None, Some(Method::Certificate), Some(_), _) => (Method::Psk, Method::Certificate),
        (None, Some(remote), ..) => (remote, remote),
        (local, None, None, Some(_)) => (local.unwrap_or(Method::Certificate), Method::Certificate),
        (local, None, Some(_), None) => (local.unwrap_or(Method::Psk), Method::Psk),
        (Some(Method::Psk), None, Some(_), Some(_)) => (Method::Psk, Method::Certificate),
        (_, None, Some(psk), Some(ca)) => {
            problems
                .error(
                    if psk.span.start < ca.span.start { &ca.span } else { &psk.span },
                    "both `psk_file` and `ca_file` are named",
                )
                .why("the peer proves who it is in one way, and accepting either would be as weak as the weaker one")
                .remedy(
                    "keep one of them; or, if we use the key and the peer a certificate, say so with \
                     `local_auth = \"psk\"` and `remote_auth = \"certificate\"`",
                );
            return None;
        }
        (_, None, None, None) => {
            problems
                .error(&raw.span, "one of `psk_file`, `ca_file` is missing in ipsec")
                .why("the peer has to prove who it is")
                .remedy(
                    "make a key with `ixgate keygen psk --out secrets/PEER.psk` and add `psk_file = \"secrets/PEER.psk\"`; \
                     or name the CA of its certificate: `ca_file = \"ca.pem\"`",
                );
            return None;
        }
    };
    let uses_psk = local == Method::Psk || remote == Method::Psk;
    let uses_ca = remote == Method::Certificate;
    let before = problems.error_count();
    for (used, file, name) in [
        (uses_psk, &raw.psk_file, "psk_file"),
        (uses_ca, &raw.ca_file, "ca_file"),
        (uses_ca || raw.crl_file.is_none(), &raw.crl_file, "crl_file"),
    ] {
        match file {
            Some(file) if !used => {
                problems
                    .error(&file.span, format!("`{name}` is named and not used"))
                    .why("ixgate ignores nothing that it is told; with this authentication nobody looks at it")
                    .remedy(format!("remove `{name}`, or change `local_auth` and `remote_auth`"));
            }
            None if used && name != "crl_file" => {
                problems
                    .error(&raw.span, format!("`{name}` is missing in ipsec"))
                    .why("`local_auth` and `remote_auth` say that it is needed")
                    .remedy(format!("add `{name}`, or change `local_auth` and `remote_auth`"));
            }
            _ => {}
        }
    }
    if let (Some(crl), None) = (raw.crl.as_ref().filter(|crl| crl.value == "require"), &raw.crl_file) {
        problems
            .error(&crl.span, "`crl = \"require\"` needs a `crl_file`")
            .why("without a list no certificate could be believed, and the tunnel would never come up")
            .remedy("name the lists of the CAs in `ca_file`, and renew them before they expire");
    }
    (problems.error_count() == before).then_some((local, remote))
}

fn remote(text: &At<String>, problems: &mut Problems) -> Option<SocketAddr> {
    let address = text.value.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DEFAULT_PORT));
    let remote = address.or_else(|_| text.value.parse::<SocketAddr>()).ok();
    let reachable =
        |remote: &SocketAddr| remote.port() != 0 && !remote.ip().is_multicast() && !remote.ip().is_unspecified();
    match remote {
        Some(remote) if reachable(&remote) => return Some(remote),
        Some(_) => problems
            .error(&text.span, "nothing can be reached at this address")
            .why("a peer has an address of its own, and its port is not 0"),
        None if text.value.contains(|c: char| c.is_ascii_alphabetic()) && !text.value.contains("::") => problems
            .error(&text.span, "a peer by host name is not served yet in this version")
            .why("ixgate would have to look the name up, and again whenever it changes"),
        None => problems
            .error(&text.span, "this is not an IP address, nor one with a port")
            .why("an IPv6 address with a port stands in brackets"),
    }
    .remedy("write for example `198.51.100.7`, or leave `remote` out and let the peer call");
    None
}

fn lifetimes(raw: &raw::IpsecPeer) -> Lifetimes {
    let default = Lifetimes::default();
    Lifetimes {
        ike: secs(&raw.ike_lifetime_secs, default.ike),
        child: secs(&raw.child_lifetime_secs, default.child),
        child_bytes: raw.child_lifetime_bytes.as_ref().map_or(default.child_bytes, |bytes| bytes.value),
        child_packets: raw.child_lifetime_packets.as_ref().map_or(default.child_packets, |packets| packets.value),
    }
}

fn secs(raw: &Option<At<u64>>, default: Duration) -> Duration {
    raw.as_ref().map_or(default, |secs| Duration::from_secs(secs.value))
}

/// The bounds of the specification keep it within the type.
fn number<T: TryFrom<u64>>(raw: &Option<At<u64>>, default: T) -> T {
    raw.as_ref().and_then(|number| T::try_from(number.value).ok()).unwrap_or(default)
}

fn chosen<T: Copy>(raw: &Option<At<&'static str>>, others: &[(&str, T)], default: T) -> T {
    let meaning =
        |word: &At<&'static str>| others.iter().find(|(name, _)| *name == word.value).map(|(_, value)| *value);
    raw.as_ref().and_then(meaning).unwrap_or(default)
}
