//! What transforms are called, also those that we refuse: in strongSwan's spelling, which operators know and paste.

use std::borrow::Cow;

use crate::wire::ike::Transform;
use crate::wire::ike::transform_kind::{
    ADDITIONAL_KEY_EXCHANGE_1, ADDITIONAL_KEY_EXCHANGE_7, ENCRYPTION, ESN, INTEGRITY, KEY_EXCHANGE, PRF,
};

/// Most transforms that a spelled proposal shows; a peer may send 255.
const MAX_SPELLED: usize = 24;

/// A proposal as strongSwan writes it: `aes256gcm16-prfsha256-x25519`, `aes128-sha256-modp2048-ke1_mlkem768`.
pub fn spelled(transforms: &[Transform]) -> String {
    // strongSwan's order, whatever the order on the wire.
    let order = |kind: u8| match kind {
        ENCRYPTION => 0,
        INTEGRITY => 1,
        PRF => 2,
        KEY_EXCHANGE => 3,
        ADDITIONAL_KEY_EXCHANGE_1..=ADDITIONAL_KEY_EXCHANGE_7 => kind,
        ESN => u8::MAX - 1,
        _ => u8::MAX,
    };
    let mut transforms: Vec<&Transform> = transforms.iter().filter(|one| !is_silent(one)).collect();
    transforms.sort_by_key(|one| order(one.kind));
    let more = transforms.len().saturating_sub(MAX_SPELLED);
    let mut spelled = transforms.iter().take(MAX_SPELLED).map(|one| transform_name(one)).collect::<Vec<_>>().join("-");
    if more > 0 {
        spelled.push_str(&format!("-and {more} more"));
    }
    spelled
}

/// "No integrity" and "no ESN" go without saying.
fn is_silent(transform: &Transform) -> bool {
    matches!((transform.kind, transform.id), (INTEGRITY | ESN, 0))
}

/// One transform; an id that is not known here is shown as a number.
pub fn transform_name(transform: &Transform) -> Cow<'static, str> {
    let Transform { kind, id, key_bits } = *transform;
    if !transform.is_understood() {
        return format!("{}(unknown attribute)", transform_name(&Transform::new(kind, id))).into();
    }
    match kind {
        ENCRYPTION => encryption(id, key_bits),
        PRF => known(prf(id), "prf", id),
        INTEGRITY => known(integrity(id), "integrity", id),
        KEY_EXCHANGE => known(group(id), "group", id),
        ESN => known(["noesn", "esn"].get(usize::from(id)).copied(), "esn", id),
        ADDITIONAL_KEY_EXCHANGE_1..=ADDITIONAL_KEY_EXCHANGE_7 => {
            let slot = kind - ADDITIONAL_KEY_EXCHANGE_1 + 1;
            format!("ke{slot}_{}", known(group(id), "group", id)).into()
        }
        _ => format!("type{kind}({id})").into(),
    }
}

/// What the type of a transform is called in sentences.
pub(super) fn kind_name(kind: u8) -> Cow<'static, str> {
    match kind {
        ENCRYPTION => "encryption".into(),
        PRF => "prf".into(),
        INTEGRITY => "integrity".into(),
        KEY_EXCHANGE => "key exchange".into(),
        ESN => "extended sequence numbers".into(),
        ADDITIONAL_KEY_EXCHANGE_1..=ADDITIONAL_KEY_EXCHANGE_7 => {
            format!("additional key exchange {}", kind - ADDITIONAL_KEY_EXCHANGE_1 + 1).into()
        }
        _ => format!("transform type {kind}").into(),
    }
}

/// What a refused algorithm is, where its name alone does not say it.
pub(super) fn weakness(transform: &Transform) -> Option<&'static str> {
    Some(match (transform.kind, transform.id) {
        (ENCRYPTION, 1 | 2 | 9) => "DES",
        (ENCRYPTION, 3) => "3DES",
        (ENCRYPTION, 11) => "no encryption at all",
        (PRF | INTEGRITY, 1) | (INTEGRITY, 6) => "MD5",
        (PRF | INTEGRITY, 2) | (INTEGRITY, 7) => "SHA-1",
        (KEY_EXCHANGE, 1) => "group 1, 768 bits",
        (KEY_EXCHANGE, 2) => "group 2, 1024 bits",
        (KEY_EXCHANGE, 5) => "group 5, 1536 bits",
        (KEY_EXCHANGE, 22) => "group 22, 1024 bits",
        _ => return None,
    })
}

fn known(name: Option<&'static str>, kind: &str, id: u16) -> Cow<'static, str> {
    match name {
        Some(name) => name.into(),
        None => format!("{kind}({id})").into(),
    }
}

fn encryption(id: u16, key_bits: Option<u16>) -> Cow<'static, str> {
    let (before, after) = match id {
        1 => ("des-iv64", ""),
        2 => ("des", ""),
        3 => ("3des", ""),
        4 => ("rc5", ""),
        5 => ("idea", ""),
        6 => ("cast", ""),
        7 => ("blowfish", ""),
        11 => ("null", ""),
        12 => ("aes", ""),
        13 => ("aes", "ctr"),
        14 => ("aes", "ccm8"),
        15 => ("aes", "ccm12"),
        16 => ("aes", "ccm16"),
        18 => ("aes", "gcm8"),
        19 => ("aes", "gcm12"),
        20 => ("aes", "gcm16"),
        21 => ("aes", "gmac"),
        23 => ("camellia", ""),
        24 => ("camellia", "ctr"),
        25 => ("camellia", "ccm8"),
        26 => ("camellia", "ccm12"),
        27 => ("camellia", "ccm16"),
        28 => ("chacha20poly1305", ""),
        _ => return format!("encryption({id})").into(),
    };
    match key_bits {
        Some(bits) => format!("{before}{bits}{after}").into(),
        None => format!("{before}{after}").into(),
    }
}

fn prf(id: u16) -> Option<&'static str> {
    Some(match id {
        1 => "prfmd5",
        2 => "prfsha1",
        3 => "prftiger",
        4 => "prfaesxcbc",
        5 => "prfsha256",
        6 => "prfsha384",
        7 => "prfsha512",
        8 => "prfaescmac",
        _ => return None,
    })
}

fn integrity(id: u16) -> Option<&'static str> {
    Some(match id {
        0 => "none",
        1 => "md5",
        2 => "sha1",
        5 => "aesxcbc",
        6 => "md5_128",
        7 => "sha1_160",
        8 => "aescmac",
        9 => "aes128gmac",
        10 => "aes192gmac",
        11 => "aes256gmac",
        12 => "sha256",
        13 => "sha384",
        14 => "sha512",
        _ => return None,
    })
}

fn group(id: u16) -> Option<&'static str> {
    Some(match id {
        0 => "none",
        1 => "modp768",
        2 => "modp1024",
        5 => "modp1536",
        14 => "modp2048",
        15 => "modp3072",
        16 => "modp4096",
        17 => "modp6144",
        18 => "modp8192",
        19 => "ecp256",
        20 => "ecp384",
        21 => "ecp521",
        22 => "modp1024s160",
        23 => "modp2048s224",
        24 => "modp2048s256",
        25 => "ecp192",
        26 => "ecp224",
        27 => "ecp224bp",
        28 => "ecp256bp",
        29 => "ecp384bp",
        30 => "ecp512bp",
        31 => "x25519",
        32 => "x448",
        35 => "mlkem512",
        36 => "mlkem768",
        37 => "mlkem1024",
        _ => return None,
    })
}
