//! Classical Diffie-Hellman modulo the safe primes of RFC 3526, over crypto-bigint.
//!
//! The generator is 2, of prime order (p - 1) / 2, so the only subgroups to keep out of are {1} and {1, p - 1}: a public
//! value must lie in 2..=p-2 (RFC 6989 section 2.1). Exponentiation is in constant time: its length in time depends on the
//! size of the exponent, which is fixed per group, and every window reads the whole table.
//!
//! Exponents are short: at least twice the strength of the group in bits (RFC 3526 section 8, RFC 7919 appendix A), which
//! is as strong and ten times as fast as a full one.

use aws_lc_rs::rand;
use crypto_bigint::modular::{ConstMontyForm, ConstMontyParams};
use crypto_bigint::{U384, U2048, U3072, U4096, Uint, const_monty_params};
use zeroize::{Zeroize, Zeroizing};

use super::{Group, GroupError, Secret};

const_monty_params!(
    Prime2048,
    U2048,
    concat!(
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD",
        "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED",
        "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F",
        "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B",
        "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510",
        "15728E5A8AACAA68FFFFFFFFFFFFFFFF",
    ),
    "2^2048 - 2^1984 - 1 + 2^64 * { [2^1918 pi] + 124476 }, RFC 3526 section 3."
);
const_monty_params!(
    Prime3072,
    U3072,
    concat!(
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD",
        "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED",
        "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F",
        "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B",
        "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510",
        "15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7",
        "ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C",
        "BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF",
    ),
    "2^3072 - 2^3008 - 1 + 2^64 * { [2^2942 pi] + 1690314 }, RFC 3526 section 4."
);
const_monty_params!(
    Prime4096,
    U4096,
    concat!(
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD",
        "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED",
        "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F",
        "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B",
        "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510",
        "15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7",
        "ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C",
        "BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A92108011A723C12A787E6D7",
        "88719A10BDBA5B2699C327186AF4E23C1A946834B6150BDA2583E9CA2AD44CE8DBBBC2DB04DE8EF92E8EFC141FBECAA6",
        "287C59474E6BC05D99B2964FA090C3A2233BA186515BE7ED1F612970CEE2D7AFB81BDD762170481CD0069127D5B05AA9",
        "93B4EA988D8FDDC186FFB7DC90A6C08F4DF435C934063199FFFFFFFFFFFFFFFF",
    ),
    "2^4096 - 2^4032 - 1 + 2^64 * { [2^3966 pi] + 240904 }, RFC 3526 section 5."
);

const EXPONENT_BYTES: usize = U384::BYTES;

pub(super) struct PrivateKey {
    group: Group,
    exponent: Zeroizing<[u8; EXPONENT_BYTES]>,
}

impl PrivateKey {
    pub(super) fn generate(group: Group) -> Result<PrivateKey, GroupError> {
        let mut exponent = Zeroizing::new([0; EXPONENT_BYTES]);
        let random = &mut exponent[EXPONENT_BYTES - exponent_bits(group) as usize / 8..];
        rand::fill(random).map_err(|_| GroupError::Random)?;
        Ok(PrivateKey { group, exponent })
    }

    pub(super) fn public(&self) -> Vec<u8> {
        let bytes = match self.group {
            Group::Modp2048 => power::<Prime2048, _>(&Uint::from_u8(2), self),
            Group::Modp3072 => power::<Prime3072, _>(&Uint::from_u8(2), self),
            _ => power::<Prime4096, _>(&Uint::from_u8(2), self),
        };
        bytes.to_vec()
    }

    pub(super) fn agree(&self, their_public: &[u8]) -> Result<Secret, GroupError> {
        match self.group {
            Group::Modp2048 => agree::<Prime2048, _>(their_public, self),
            Group::Modp3072 => agree::<Prime3072, _>(their_public, self),
            _ => agree::<Prime4096, _>(their_public, self),
        }
    }
}

/// Strengths (RFC 3526 section 8, the higher estimate) are 160, 210 and 240 bits at the very most and 112, 128 and 152 by
/// SP 800-57: each exponent is longer than twice the latter.
fn exponent_bits(group: Group) -> u32 {
    match group {
        Group::Modp2048 => 256,
        Group::Modp3072 => 320,
        _ => 352,
    }
}

/// 2 <= y <= p - 2, then y to the power of our exponent: never 0, as p is prime, and never 1, as the order of such a y is
/// (p - 1) / 2 or p - 1 and our exponent is shorter than that.
fn agree<P: ConstMontyParams<L>, const L: usize>(their_public: &[u8], ours: &PrivateKey) -> Result<Secret, GroupError> {
    let y = Uint::<L>::from_be_slice(their_public);
    let two = Uint::from_u8(2);
    let highest = P::PARAMS.modulus().get().wrapping_sub(&two);
    // Public values are no secret: these comparisons may take what time they will.
    if y < two || y > highest {
        return Err(GroupError::PublicValue { group: ours.group });
    }
    Ok(power::<P, L>(&y, ours))
}

/// base ^ exponent mod p, as long as p.
fn power<P: ConstMontyParams<L>, const L: usize>(base: &Uint<L>, ours: &PrivateKey) -> Secret {
    let mut exponent = U384::from_be_slice(&*ours.exponent);
    let mut power = ConstMontyForm::<P, L>::new(base).pow_bounded_exp(&exponent, exponent_bits(ours.group));
    let mut result = power.retrieve();
    let bytes = Zeroizing::new(result.as_limbs().iter().rev().flat_map(|limb| limb.0.to_be_bytes()).collect());
    exponent.zeroize();
    power.zeroize();
    result.zeroize();
    bytes
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest;
    use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
    use crypto_bigint::{Limb, NonZero, Odd, U6144};

    use super::*;
    use crate::crypto::hex::hex;

    const GROUPS: [Group; 3] = [Group::Modp2048, Group::Modp3072, Group::Modp4096];

    fn prime(group: Group) -> U6144 {
        match group {
            Group::Modp2048 => Prime2048::PARAMS.modulus().get().resize(),
            Group::Modp3072 => Prime3072::PARAMS.modulus().get().resize(),
            _ => Prime4096::PARAMS.modulus().get().resize(),
        }
    }

    /// `value`, as long as the prime of `group`.
    fn public_value(group: Group, value: &U6144) -> Vec<u8> {
        let bytes = value.to_be_bytes();
        let bytes: &[u8] = bytes.as_ref();
        bytes[bytes.len() - group.public_bytes()..].to_vec()
    }

    /// [2^bits * arctan(1/x)], a little too low: the sum of 1 / (n x^n) over odd n, with alternating signs.
    fn arctan_of_inverse(x: u32, bits: u32) -> U6144 {
        let divided = |value: &U6144, by: u32| value.div_rem_limb(NonZero::new(Limb::from_u32(by)).unwrap()).0;
        let mut power = divided(&U6144::ONE.shl_vartime(bits), x);
        let mut sum = power;
        for n in (3..).step_by(2) {
            power = divided(&power, x * x);
            if power == U6144::ZERO {
                break;
            }
            let term = divided(&power, n);
            sum = if n % 4 == 3 { sum.wrapping_sub(&term) } else { sum.wrapping_add(&term) };
        }
        sum
    }

    /// [2^bits * pi] by Machin's formula, with 64 bits more on the way.
    fn pi(bits: u32) -> U6144 {
        let four_times_a_fifth = arctan_of_inverse(5, bits + 64).shl_vartime(2);
        let quarter = four_times_a_fifth.wrapping_sub(&arctan_of_inverse(239, bits + 64));
        quarter.shl_vartime(2).shr_vartime(64)
    }

    /// RFC 3526 does not only print the primes, it says where they come from: nothing up anyone's sleeve, nor a slip here.
    #[test]
    fn primes_follow_from_pi_as_rfc_3526_says() {
        for (group, bits, offset) in
            [(Group::Modp2048, 2048, 124_476u64), (Group::Modp3072, 3072, 1_690_314), (Group::Modp4096, 4096, 240_904)]
        {
            let power = |bits| U6144::ONE.shl_vartime(bits);
            let middle = pi(bits - 130).wrapping_add(&U6144::from_u64(offset)).shl_vartime(64);
            let expected = power(bits).wrapping_sub(&power(bits - 64)).wrapping_sub(&U6144::ONE).wrapping_add(&middle);
            assert_eq!(prime(group), expected, "{group}");
        }
    }

    /// Fermat, to the base 2: q = (p - 1) / 2 is prime, and 2 generates the subgroup of that order, so p is prime too.
    fn check_order<P: ConstMontyParams<L>, const L: usize>() {
        let (one, two) = (Uint::ONE, Uint::from_u8(2));
        let q = P::PARAMS.modulus().get().shr_vartime(1);
        assert_eq!(ConstMontyForm::<P, L>::new(&two).pow_vartime(&q), ConstMontyForm::ONE);
        let modulo_q = FixedMontyParams::new_vartime(Odd::new(q).unwrap());
        let power = FixedMontyForm::new(&two, &modulo_q).pow_vartime(&q.wrapping_sub(&one));
        assert_eq!(power.retrieve(), one);
    }

    #[test]
    fn two_generates_a_subgroup_of_prime_order() {
        check_order::<Prime2048, _>();
        check_order::<Prime3072, _>();
        check_order::<Prime4096, _>();
    }

    /// The exponent 01 08 0f 16 …, the public value 05 10 1b 26 …; Python's `pow(2, x, p)` and `pow(y, x, p)`, hashed.
    #[test]
    fn powers_by_another_hand() {
        let answers = [
            (
                "399180ecd5c5692ec7adae7dd5256c73098417c7641144cb11afc5d9ae8f2a43",
                "84fdbc391e57079dd046bf6fe123842af9224b69fa05b9ed55680a494664c877",
            ),
            (
                "7d7ef95cb42024f83d6f8a1959e532d928b6c09f488ddc86b587850d04abd7a8",
                "43b0f7c1042301bbf4f917820ddba734930f1ac5c1d5d2e319adb935b6e13661",
            ),
            (
                "d54024485efbe285baf6a63139b47a6458585b7b6ead504c314cd87ad5a5d35c",
                "2363e64a45207a7eb933dbcc76ed597d50916532bdf7a5e7fefde5527205f0df",
            ),
        ];
        for (group, (public, secret)) in GROUPS.into_iter().zip(answers) {
            let bytes = exponent_bits(group) as usize / 8;
            let mut exponent = Zeroizing::new([0; EXPONENT_BYTES]);
            for (at, byte) in exponent[EXPONENT_BYTES - bytes..].iter_mut().enumerate() {
                *byte = (at * 7 + 1) as u8;
            }
            let private = PrivateKey { group, exponent };
            let theirs: Vec<u8> = (0..group.public_bytes()).map(|at| (at * 11 + 5) as u8).collect();
            let sha256 = |bytes: &[u8]| digest::digest(&digest::SHA256, bytes).as_ref().to_vec();
            assert_eq!(sha256(&private.public()), hex(public), "{group}");
            assert_eq!(sha256(&private.agree(&theirs).unwrap()), hex(secret), "{group}");
        }
    }

    /// RFC 6989 section 2.1: 1 < y < p - 1.
    #[test]
    fn values_that_force_the_secret_are_refused() {
        for group in GROUPS {
            let private = PrivateKey::generate(group).unwrap();
            let (one, two, p) = (U6144::ONE, U6144::from_u8(2), prime(group));
            let refused = Err(GroupError::PublicValue { group });
            for y in [U6144::ZERO, one, p.wrapping_sub(&one), p, p.wrapping_add(&one), p.wrapping_add(&two)] {
                assert_eq!(private.agree(&public_value(group, &y)), refused, "{group}, {y}");
            }
            assert_eq!(private.agree(&vec![0xff; group.public_bytes()]), refused, "{group}");
            for y in [two, p.wrapping_sub(&two)] {
                assert!(private.agree(&public_value(group, &y)).is_ok(), "{group}, {y}");
            }
        }
    }

    #[test]
    fn exponents_are_as_long_as_they_should_be() {
        for (group, twice_the_strength) in GROUPS.into_iter().zip([2 * 112, 2 * 128, 2 * 152]) {
            assert!(exponent_bits(group) >= twice_the_strength);
            let private = PrivateKey::generate(group).unwrap();
            let (zeros, random) = private.exponent.split_at(EXPONENT_BYTES - exponent_bits(group) as usize / 8);
            assert!(zeros.iter().all(|byte| *byte == 0));
            // 8 octets of zeros by chance: once in 2^64 runs.
            assert!(random.chunks(8).all(|part| part.iter().any(|byte| *byte != 0)));
        }
    }
}
