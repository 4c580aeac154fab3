//! Elliptic curves: P-256, P-384, P-521 (RFC 5903) and X25519 (RFC 8031).
//!
//! IKE sends a point as x | y, without the octet 0x04 that others put before it (RFC 5903 section 7); the secret is x.
//! aws-lc refuses points that are not on the curve, and an X25519 secret of zeros (RFC 8031 section 2.3, RFC 6989).

use aws_lc_rs::agreement::{self, Algorithm, UnparsedPublicKey, agree};
use zeroize::Zeroizing;

use super::{Group, GroupError, Secret};

/// What SEC 1 puts before an uncompressed point.
const UNCOMPRESSED: u8 = 4;

pub(super) struct PrivateKey {
    group: Group,
    key: agreement::PrivateKey,
}

impl PrivateKey {
    pub(super) fn generate(group: Group) -> Result<PrivateKey, GroupError> {
        let key = agreement::PrivateKey::generate(algorithm(group)).map_err(|_| GroupError::Random)?;
        Ok(PrivateKey { group, key })
    }

    pub(super) fn public(&self) -> Result<Vec<u8>, GroupError> {
        let public = self.key.compute_public_key().map_err(|_| GroupError::Random)?;
        Ok(public.as_ref()[prefix(self.group).len()..].to_vec())
    }

    pub(super) fn agree(&self, their_public: &[u8]) -> Result<Secret, GroupError> {
        let point = [prefix(self.group), their_public].concat();
        let their_public = UnparsedPublicKey::new(algorithm(self.group), point);
        agree(&self.key, &their_public, GroupError::PublicValue { group: self.group }, |secret| {
            Ok(Zeroizing::new(secret.to_vec()))
        })
    }
}

fn algorithm(group: Group) -> &'static Algorithm {
    match group {
        Group::P256 => &agreement::ECDH_P256,
        Group::P384 => &agreement::ECDH_P384,
        Group::P521 => &agreement::ECDH_P521,
        _ => &agreement::X25519,
    }
}

fn prefix(group: Group) -> &'static [u8] {
    if group == Group::X25519 { &[] } else { &[UNCOMPRESSED] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::hex::hex;

    fn private(group: Group, value: &str) -> PrivateKey {
        let key = agreement::PrivateKey::from_private_key(algorithm(group), &hex(value)).unwrap();
        PrivateKey { group, key }
    }

    /// Both sides of a published exchange: (private, public) of each, and what they share.
    fn check(group: Group, initiator: [&str; 2], responder: [&str; 2], secret: &str) {
        for (ours, theirs) in [(initiator, responder), (responder, initiator)] {
            let private = private(group, ours[0]);
            assert_eq!(private.public().unwrap(), hex(ours[1]), "{group}");
            assert_eq!(*private.agree(&hex(theirs[1])).unwrap(), hex(secret), "{group}");
        }
    }

    /// RFC 5903 section 8.1.
    #[test]
    fn p256() {
        check(
            Group::P256,
            [
                "c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433",
                "dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180
                 5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3",
            ],
            [
                "c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53",
                "d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63
                 56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab",
            ],
            "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de",
        );
    }

    /// RFC 5903 section 8.2.
    #[test]
    fn p384() {
        check(
            Group::P384,
            [
                "099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee3faef896783ab194",
                "667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4c88732aee95f41aa
                 9482ed1fc0eeb9cafc4984625ccfc23f65032149e0e144ada024181535a0f38eeb9fcff3c2c947dae69b4c634573a81c",
            ],
            [
                "41cb0779b4bdb85d47846725fbec3c9430fab46cc8dc5060855cc9bda0aa2942e0308312916b8ed2960e4bd55a7448fc",
                "e558dbef53eecde3d3fccfc1aea08a89a987475d12fd950d83cfa41732bc509d0d1ac43a0336def96fda41d0774a3571
                 dcfbec7aacf3196472169e838430367f66eebe3c6e70c416dd5f0c68759dd1fff83fa40142209dff5eaad96db9e6386c",
            ],
            "11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4d603135569b9e9d09cf5d4a270f59746",
        );
    }

    /// RFC 5903 section 8.3: values with leading zeros, which stay.
    #[test]
    fn p521() {
        check(
            Group::P521,
            [
                "0037ade9319a89f4dabdb3ef411aaccca5123c61acab57b5393dce47608172a095aa85a30fe1c2952c6771d937ba9777
                 f5957b2639bab072462f68c27a57382d4a52",
                "0015417e84dbf28c0ad3c278713349dc7df153c897a1891bd98bab4357c9ecbee1e3bf42e00b8e380aeae57c2d107564
                 941885942af5a7f4601723c4195d176ced3e
                 017cae20b6641d2eeb695786d8c946146239d099e18e1d5a514c739d7cb4a10ad8a788015ac405d7799dc75e7b7d5b6c
                 f2261a6a7f1507438bf01beb6ca3926f9582",
            ],
            [
                "0145ba99a847af43793fdd0e872e7cdfa16be30fdc780f97bccc3f078380201e9c677d600b343757a3bdbf2a3163e4c2
                 f869cca7458aa4a4effc311f5cb151685eb9",
                "00d0b3975ac4b799f5bea16d5e13e9af971d5e9b984c9f39728b5e5739735a219b97c356436adc6e95bb0352f6be64a6
                 c2912d4ef2d0433ced2b6171640012d9460f
                 015c68226383956e3bd066e797b623c27ce0eac2f551a10c2c724d9852077b87220b6536c5c408a1d2aebb8e86d678ae
                 49cb57091f4732296579ab44fcd17f0fc56a",
            ],
            "01144c7d79ae6956bc8edb8e7c787c4521cb086fa64407f97894e5e6b2d79b04d1427e73ca4baa240a34786859810c06
             b3c715a3a8cc3151f2bee417996d19f3ddea",
        );
    }

    /// RFC 7748 section 6.1.
    #[test]
    fn x25519() {
        check(
            Group::X25519,
            [
                "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
                "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
            ],
            [
                "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
                "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
            ],
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
        );
    }

    /// RFC 7748 section 5.2: u coordinates as they come off the wire, the second with its unused top bit set.
    #[test]
    fn x25519_function() {
        let vectors = [
            (
                "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
                "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
                "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
            ),
            (
                "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
                "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
                "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
            ),
        ];
        for (ours, theirs, secret) in vectors {
            assert_eq!(*private(Group::X25519, ours).agree(&hex(theirs)).unwrap(), hex(secret));
        }
    }

    /// The points of small order of Curve25519 and its twist, also as numbers not reduced modulo p (RFC 7748 section 6.1:
    /// the secret is zeros, whatever our key).
    #[test]
    fn x25519_points_of_small_order_are_refused() {
        let group = Group::X25519;
        let private = PrivateKey::generate(group).unwrap();
        let points = [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ];
        for point in points {
            assert_eq!(private.agree(&hex(point)), Err(GroupError::PublicValue { group }), "{point}");
        }
    }

    #[test]
    fn points_off_the_curve_are_refused() {
        for group in [Group::P256, Group::P384, Group::P521] {
            let private = PrivateKey::generate(group).unwrap();
            let good = PrivateKey::generate(group).unwrap().public().unwrap();
            let mut off_curve = good.clone();
            *off_curve.last_mut().unwrap() ^= 1;
            // A coordinate beyond p.
            let mut beyond = good.clone();
            beyond[..group.public_bytes() / 2].fill(0xff);
            for point in [off_curve, beyond, vec![0; good.len()], vec![0xff; good.len()]] {
                assert_eq!(private.agree(&point), Err(GroupError::PublicValue { group }), "{group}");
            }
            assert!(private.agree(&good).is_ok());
        }
    }
}
