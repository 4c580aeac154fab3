//! IPsec in the configuration file: what is refused and where, and what a right one means.

use ixgate::config::model::{Encapsulation, Identity, IpsecPeer, LocalAuth, Profile, RemoteAuth, Selectors};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, SerialNumber, date_time_ymd,
};

use super::*;

/// 2026-01-01.
const TODAY_UNIX_SECS: u64 = 1_767_225_600;

/// PEM of everything that the examples and the tests name.
pub struct Pki {
    pub ca: String,
    pub crl: String,
    pub certificate: String,
    pub key: String,
    other_key: String,
    expired: String,
}

impl Pki {
    pub fn new() -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "Carrier CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);
        let crl = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 12, 1),
            next_update: date_time_ymd(2036, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let key = KeyPair::generate().unwrap();
        let mut ours = CertificateParams::new(vec!["ix-east.example".to_owned()]).unwrap();
        ours.is_ca = IsCa::ExplicitNoCa;
        let certificate = ours.signed_by(&key, &issuer).unwrap().pem();
        ours.not_before = date_time_ymd(2024, 1, 1);
        ours.not_after = date_time_ymd(2025, 1, 1);
        Pki {
            ca: ca_pem,
            crl: crl.signed_by(&issuer).unwrap().pem().unwrap(),
            certificate,
            expired: ours.signed_by(&key, &issuer).unwrap().pem(),
            key: key.serialize_pem(),
            other_key: KeyPair::generate().unwrap().serialize_pem(),
        }
    }
}

fn secrets() -> MemorySecrets {
    let pki = Pki::new();
    let mut secrets = super::secrets();
    secrets.unix_secs = Some(TODAY_UNIX_SECS);
    for (name, text) in [
        ("a.psk", "correct horse battery\n"),
        ("b.psk", "another horse battery\n"),
        ("a2.psk", "correct horse battery\n"),
        ("tiny.psk", "1234567"),
        ("short.psk", "12345678"),
        ("hex.psk", "0x00112233445566778899aabbccddeeff"),
        ("base64.psk", "0sABEiM0RVZneImaq7zN3u/w"),
        ("bad-hex.psk", "0x0g"),
        ("lines.psk", "correct horse\nbattery\n"),
        ("empty.psk", "\n"),
        ("ca.pem", &pki.ca),
        ("ca.crl", &pki.crl),
        ("ix.pem", &pki.certificate),
        ("ix.key", &pki.key),
        ("other.key", &pki.other_key),
        ("expired.pem", &pki.expired),
        ("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ] {
        secrets.insert(format!("/etc/ixgate/{name}"), text);
    }
    secrets
}

fn parse(text: &str) -> Result<Loaded, Report> {
    config::parse(text, Path::new(FILE), &secrets())
}

/// `[ike]` stands on line 2, the first peer's table on line 7 with its first value at column 24.
fn file(ike: &str, peer: &str) -> String {
    let realm = realm("a", "\"10.0.0.0/24\"");
    format!("[ike]\n{ike}\n{realm}[[realm.attach]]\nipsec = {{ remote_id = {peer} }}\n")
}

const OURS: &str = "local_id = \"fqdn:ix-east.example\"";
const PSK: &str = "\"fqdn:gw.example\", psk_file = \"a.psk\"";

fn psk_and(more: &str) -> String {
    file(OURS, &format!("{PSK}, {more}"))
}

fn messages(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(loaded) => places(loaded.report()),
        Err(report) => {
            assert!(report.diagnostics.iter().all(|d| !d.remedy.is_empty()), "{report}");
            places(&report)
        }
    }
}

fn check(cases: &[(String, &[&str])]) {
    for (text, want) in cases {
        assert_eq!(messages(text), *want, "{text}");
    }
}

fn peer(text: &str) -> IpsecPeer {
    let config = parse(text).unwrap_or_else(|report| panic!("{report}")).config;
    assert!(config.uses_ipsec());
    config.attachments().next().unwrap().ipsec().unwrap().clone()
}

#[test]
fn remedies_name_the_key_and_the_command() {
    for (text, want) in [
        (
            psk_and("ppk = \"hush\""),
            "put it into a file with mode 600, name that in `ppk_file`, and take the secret for known",
        ),
        (psk_and("liveness = 20"), "did you mean `liveness_secs`?"),
        (
            file(OURS, "\"fqdn:gw.example\", psk_file = \"no.psk\""),
            "make it: `ixgate keygen psk --out /etc/ixgate/no.psk`",
        ),
        (
            file(&format!("{OURS}\ncertificate_file = \"ix.pem\"\nprivate_key_file = \"no.key\""), PSK),
            "make it: `ixgate keygen certificate --ca CA.pem --ca-key CA.key --id fqdn:NAME --out /etc/ixgate/no.key`",
        ),
    ] {
        let report = parse(&text).unwrap_err();
        assert!(report.diagnostics[0].remedy.starts_with(want), "{report}");
        assert!(!report.source().contains("hush"));
    }
}

#[test]
fn the_shortest_peer_has_working_defaults() {
    let peer = peer(&file(OURS, PSK));
    assert_eq!(peer.remote_id, Identity::Fqdn("gw.example".into()));
    assert_eq!(peer.local_id, Identity::Fqdn("ix-east.example".into()));
    let secret = || b"correct horse battery".to_vec().into();
    assert_eq!(peer.local_auth, LocalAuth::Psk(secret()));
    assert_eq!(peer.remote_auth, RemoteAuth::Psk(secret()));
    assert_eq!((peer.remote, peer.initiate, peer.ppk), (None, false, None));
    assert_eq!((peer.profile, peer.encapsulation), (Profile::Modern, Encapsulation::Udp));
    assert_eq!((peer.selectors, peer.replay_window_packets), (Selectors::View, 1024));
    assert!(peer.copy_dscp);
}

/// Written out, the defaults of the specification change nothing.
#[test]
fn the_defaults_of_the_schema_are_the_real_ones_for_peers_too() {
    let schema = config::schema();
    let ipsec = &schema["properties"]["realm"]["items"]["properties"]["attach"]["items"]["properties"]["ipsec"];
    let keys = ipsec["properties"].as_object().unwrap();
    let written: Vec<String> = keys
        .iter()
        .filter(|(key, _)| *key != "ppk_required")
        .filter_map(|(key, spec)| Some(format!("{key} = {}", spec.get("default")?)))
        .collect();
    assert!(written.len() >= 11, "{written:?}");
    assert_eq!(peer(&psk_and(&written.join(", "))), peer(&file(OURS, PSK)));
}

#[test]
fn calling_follows_from_where_the_peer_is() {
    let calls = |more: &str| {
        let peer = peer(&psk_and(more));
        (peer.remote.map(|remote| remote.to_string()), peer.initiate)
    };
    assert_eq!(calls("remote = \"198.51.100.7\""), (Some("198.51.100.7:500".into()), true));
    assert_eq!(calls("remote = \"2001:db8::7\""), (Some("[2001:db8::7]:500".into()), true));
    assert_eq!(calls("remote = \"[2001:db8::7]:501\""), (Some("[2001:db8::7]:501".into()), true));
    assert_eq!(calls("remote = \"198.51.100.7:501\", initiate = false"), (Some("198.51.100.7:501".into()), false));
}

#[test]
fn keys_are_read_as_text_hexadecimal_or_base64() {
    let bytes: Vec<u8> = (0..16).map(|i| i * 0x11).collect();
    for name in ["hex.psk", "base64.psk"] {
        let text = file(OURS, &format!("\"fqdn:gw.example\", psk_file = \"{name}\""));
        let peer = peer(&text);
        assert_eq!(peer.local_auth, LocalAuth::Psk(bytes.clone().into()), "{name}");
    }
}

#[test]
fn each_side_proves_itself_in_its_own_way() {
    let ours = format!("{OURS}\ncertificate_file = \"ix.pem\"\nprivate_key_file = \"ix.key\"");
    let both = peer(&file(&ours, "\"dn:C=DE, CN=gw\", ca_file = \"ca.pem\", crl_file = \"ca.crl\""));
    assert_eq!(both.local_auth, LocalAuth::Certificate);
    let RemoteAuth::Certificate { cas, crls, require_crl: false } = both.remote_auth else {
        panic!("{:?}", both.remote_auth)
    };
    assert_eq!((cas.len(), crls.len()), (1, 1));
    for how in ["local_auth = \"psk\"", "remote_auth = \"certificate\""] {
        let mixed = peer(&psk_and(&format!("ca_file = \"ca.pem\", {how}")));
        assert!(matches!(mixed.local_auth, LocalAuth::Psk(_)), "{how}");
        assert!(matches!(mixed.remote_auth, RemoteAuth::Certificate { .. }), "{how}");
    }
    let other_way = peer(&file(&ours, &format!("{PSK}, local_auth = \"certificate\"")));
    assert!(matches!(other_way.remote_auth, RemoteAuth::Psk(_)) && other_way.local_auth == LocalAuth::Certificate);
    let config = parse(&file(&ours, PSK)).unwrap().config;
    assert!(config.ike.certificate.unwrap().chain.starts_with(b"-----BEGIN CERTIFICATE-----"));
}

#[test]
fn mistakes_about_secrets() {
    let with = |file_name: &str| file(OURS, &format!("\"fqdn:gw.example\", psk_file = \"{file_name}\""));
    check(&[
        (
            file(OURS, "\"fqdn:gw.example\""),
            &["7:9 { remote_id = \"fqdn:gw.example\" }: one of `psk_file`, `ca_file` is missing in ipsec"],
        ),
        (psk_and("ca_file = \"ca.pem\""), &["7:72 \"ca.pem\": both `psk_file` and `ca_file` are named"]),
        (with("none.psk"), &["7:53 \"none.psk\": cannot use a pre-shared key from /etc/ixgate/none.psk"]),
        (with("tiny.psk"), &["7:53 \"tiny.psk\": /etc/ixgate/tiny.psk holds a pre-shared key of only 7 bytes"]),
        (
            with("short.psk"),
            &["7:53 warning \"short.psk\": /etc/ixgate/short.psk holds a pre-shared key of only 8 bytes"],
        ),
        (with("bad-hex.psk"), &["7:53 \"bad-hex.psk\": /etc/ixgate/bad-hex.psk does not hold a pre-shared key"]),
        (with("lines.psk"), &["7:53 \"lines.psk\": /etc/ixgate/lines.psk does not hold a pre-shared key"]),
        (with("empty.psk"), &["7:53 \"empty.psk\": /etc/ixgate/empty.psk does not hold a pre-shared key"]),
        (psk_and("psk = \"hunter2\""), &["7:62 psk: `psk` puts a secret into the configuration"]),
        (
            psk_and("ca_file = \"ca.pem\", local_auth = \"psk\", crl = \"require\""),
            &["7:108 \"require\": `crl = \"require\"` needs a `crl_file`"],
        ),
        (psk_and("crl_file = \"ca.crl\""), &["7:73 \"ca.crl\": `crl_file` is named and not used"]),
        (
            psk_and("remote_auth = \"certificate\""),
            &[&format!("7:9 {{ remote_id = {PSK}, remote_auth = \"certificate\" }}: `ca_file` is missing in ipsec")],
        ),
        (psk_and("ppk_id = \"x\""), &["7:71 \"x\": a post-quantum key needs both `ppk_id` and `ppk_file`"]),
        (psk_and("ppk_required = true"), &["7:77 true: a post-quantum key needs both `ppk_id` and `ppk_file`"]),
        (
            psk_and("ppk_id = \"x\", ppk_file = \"b.psk\""),
            &["7:87 warning \"b.psk\": /etc/ixgate/b.psk holds a post-quantum key of only 21 bytes"],
        ),
    ]);
}

#[test]
fn mistakes_about_certificates() {
    let ours = |certificate: &str, key: &str| {
        let ike = format!("{OURS}\ncertificate_file = \"{certificate}\"\nprivate_key_file = \"{key}\"");
        file(&ike, PSK)
    };
    let ca = |name: &str| psk_and(&format!("local_auth = \"psk\", ca_file = \"{name}\""));
    check(&[
        (ours("ix.pem", "other.key"), &["4:20 \"other.key\": this key does not belong to our certificate"]),
        (ours("expired.pem", "ix.key"), &["3:20 warning \"expired.pem\": our certificate has expired"]),
        (ours("broken.pem", "ix.key"), &["3:20 \"broken.pem\": /etc/ixgate/broken.pem does not hold our certificate"]),
        (ours("none.pem", "ix.key"), &["3:20 \"none.pem\": cannot read our certificate from /etc/ixgate/none.pem"]),
        (
            ours("ix.pem", "a.psk"),
            &["4:20 \"a.psk\": /etc/ixgate/a.psk does not hold the private key of our certificate"],
        ),
        (
            file(&format!("{OURS}\ncertificate_file = \"ix.pem\""), PSK),
            &["3:20 \"ix.pem\": `certificate_file` and `private_key_file` belong together"],
        ),
        (
            ours("ix.pem", "ix.key").replace("fqdn:ix-east.example", "fqdn:ix-west.example"),
            &["2:12 warning \"fqdn:ix-west.example\": our certificate does not show this identity"],
        ),
        (
            file(OURS, "\"fqdn:gw.example\", ca_file = \"ca.pem\""),
            &["7:9 { remote_id = \"fqdn:gw.example\", ca_file = \"ca.pem\" }: `certificate_file` is missing in [ike]"],
        ),
        (ca("expired.pem"), &["7:92 warning \"expired.pem\": a certificate in it has expired"]),
        (ca("a.psk"), &["7:92 \"a.psk\": /etc/ixgate/a.psk does not hold certificates of CAs"]),
    ]);
}

#[test]
fn mistakes_about_who_is_who() {
    let second = |peer: &str| format!("[[realm.attach]]\nipsec = {{ remote_id = {peer} }}\n");
    let twice = file(OURS, PSK) + &second("\"fqdn:GW.example\", psk_file = \"b.psk\"");
    check(&[
        (twice.clone(), &["9:23 \"fqdn:GW.example\": a second tunnel has this `remote_id`"]),
        (
            file(OURS, PSK) + &second("\"fqdn:gw2.example\", psk_file = \"a2.psk\""),
            &["9:54 warning \"a2.psk\": another peer has the same pre-shared key"],
        ),
        (
            file(OURS, "\"gw.example\", psk_file = \"a.psk\""),
            &["7:23 \"gw.example\": this identity does not say of which kind it is"],
        ),
        (
            file(OURS, "\"fqdn:*.example\", psk_file = \"a.psk\""),
            &["7:23 \"fqdn:*.example\": an identity cannot hold a wildcard"],
        ),
        (
            file(OURS, "\"ip:1.2.3\", psk_file = \"a.psk\""),
            &["7:23 \"ip:1.2.3\": what stands behind `ip:` is not an IPv4 or IPv6 address"],
        ),
        (
            file(OURS, "\"fqdn:ix-east.example\", psk_file = \"a.psk\""),
            &["7:23 \"fqdn:ix-east.example\": this is our own identity"],
        ),
        (file("", PSK), &[&format!("7:9 {{ remote_id = {PSK} }}: there is no `local_id`, neither here nor in [ike]")]),
        (file("local_id = \"x\"", PSK), &["2:12 \"x\": this identity does not say of which kind it is"]),
    ]);
    // Under another name of ours it is another tunnel.
    let apart = file(OURS, PSK) + &second("\"fqdn:gw.example\", local_id = \"fqdn:ix2.example\", psk_file = \"b.psk\"");
    assert_eq!(parse(&apart).unwrap().config.attachments().count(), 2);
    let related = parse(&twice).unwrap_err().diagnostics[0].related[0].line;
    assert_eq!(related, 7, "the first one is shown");
}

#[test]
fn mistakes_about_how_to_speak() {
    let none = "[[realm.attach]]\nmtu_bytes = 1400\n";
    let wireguard = format!("wireguard.public_key = \"{}\"\n", key(1));
    check(&[
        (psk_and("profile = \"modren\""), &["7:72 \"modren\": `profile` is none of `modern`, `pq`, `compat`"]),
        (psk_and("encapsulation = \"esp\""), &["7:78 \"esp\": ESP without UDP is switched off"]),
        (psk_and("selectors = 1"), &["7:74 1: `selectors` is a whole number, and must be a text"]),
        (psk_and("initiate = \"yes\""), &["7:73 \"yes\": `initiate` is a text, and must be true or false"]),
        (psk_and("initiate = true"), &["7:73 true: we cannot call a peer without `remote`"]),
        (psk_and("replay_window_packets = 63"), &["7:86 63: `replay_window_packets` is out of bounds"]),
        (psk_and("replay_window_packets = 8193"), &["7:86 8193: `replay_window_packets` is out of bounds"]),
        (
            psk_and("remote = \"gw.example\""),
            &["7:71 \"gw.example\": a peer by host name is not served yet in this version"],
        ),
        (psk_and("remote = \"0.0.0.0\""), &["7:71 \"0.0.0.0\": nothing can be reached at this address"]),
        (psk_and("remote = \"1.2.3.4:0\""), &["7:71 \"1.2.3.4:0\": nothing can be reached at this address"]),
        (psk_and("remote = \"1.2.3\""), &["7:71 \"1.2.3\": this is not an IP address, nor one with a port"]),
        (
            file("listen = \"0.0.0.0:500\"", PSK).replace("{ remote", "{ local_id = \"fqdn:x\", remote"),
            &["2:10 \"0.0.0.0:500\": this is not an address to listen on"],
        ),
        (file(&format!("{OURS}\nport = 4500"), PSK), &["3:8 4500: `port` and `nat_t_port` are the same"]),
        (
            realm("a", "\"10.0.0.0/24\"") + none,
            &["4:1 [[realm.attach]]: one of `wireguard`, `ipsec`, `port`, `tun` is missing in [[realm.attach]]"],
        ),
        (
            file(OURS, PSK) + &wireguard,
            &[
                "8:1 wireguard: [[realm.attach]] has both `ipsec` and `wireguard`",
                "8:1 wireguard: `private_key_file` is missing in [wireguard]",
            ],
        ),
    ]);
}

/// `raw_esp` opens what `encapsulation` asks for.
#[test]
fn esp_without_udp_is_possible_where_it_is_switched_on() {
    let text = psk_and("encapsulation = \"esp\"").replace("[ike]\n", "[ike]\nraw_esp = true\n");
    assert_eq!(peer(&text).encapsulation, Encapsulation::Esp);
}

#[test]
fn no_secret_of_ipsec_is_shown() {
    let ike = format!("{OURS}\ncertificate_file = \"ix.pem\"\nprivate_key_file = \"ix.key\"");
    let text = file(&ike, &format!("{PSK}, ppk_id = \"p\", ppk_file = \"b.psk\""));
    let config = parse(&text).unwrap().config;
    let shown = format!("{config:?} {config:#?}").replace(char::is_whitespace, "");
    for secret in [&b"correct"[..], b"another", &config.ike.certificate.unwrap().private_key[100..108]] {
        let numbers: Vec<String> = secret.iter().map(u8::to_string).collect();
        assert!(!shown.contains(&numbers.join(",")), "{numbers:?}");
    }
    assert!(!shown.contains("horse"));
}
