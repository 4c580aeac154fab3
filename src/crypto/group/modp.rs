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

/// 2 <= y <= p - 2, then y to the power of our exponent. That cannot be 0 (p is prime), nor 1, unless the exponent is
/// divisible by (p - 1) / 2, which is longer than it.
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
