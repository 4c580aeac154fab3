//! Two exchanges that cross (RFC 7296 sections 2.8.1, 2.8.2 and 2.25).
//!
//! When both sides rekey the same SA at once, both exchanges succeed and there is one SA too many. Of the four nonces the
//! lowest decides: the SA that was made with it is redundant and is deleted by the side that began it. The other one
//! survives, and the side that began *that* deletes the old SA.
//!
//! ```text
//! what they ask            while we ...                        answer
//! rekey Child SA           rekey it too                        as usual; nonces decide
//!                          delete it                           TEMPORARY_FAILURE
//!                          do not know it                      CHILD_SA_NOT_FOUND
//! delete Child SA          rekey it                            as usual; ours is void, or makes a new one
//!                          delete it                           without its SPI
//!                          do not know it                      without its SPI; if it is what we ask for, it is over
//!                                                              when the answer comes
//! any new or rekeyed Child rekey or delete the IKE SA          TEMPORARY_FAILURE
//! rekey IKE SA             rekey it too                        as usual; nonces decide
//!                          make, rekey or delete a Child SA    TEMPORARY_FAILURE
//!                          delete it                           TEMPORARY_FAILURE
//! delete IKE SA            do anything                         as usual
//! ```

use super::keys::Nonces;
use super::sa::{IkeSa, Pending, Stage};

/// Their exchange that crossed ours, and was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Crossed<Spi> {
    /// Ours, of the SA that it made.
    pub spi: Spi,
    pub nonces: Nonces,
}

/// Who has to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// The one that we began: we delete it.
    OursIsRedundant,
    /// The one that they began: they delete it, and we the old one.
    TheirsIsRedundant,
}

pub(super) fn verdict(ours: &Nonces, theirs: &Nonces) -> Verdict {
    match ours.lowest() < theirs.lowest() {
        true => Verdict::OursIsRedundant,
        false => Verdict::TheirsIsRedundant,
    }
}

impl IkeSa {
    /// Section 2.25.2: the IKE SA itself is about to be replaced or to go.
    pub(super) fn is_in_transition(&self) -> bool {
        !matches!(self.stage, Stage::Established)
            || matches!(self.pending, Some(Pending::RekeyIke(_) | Pending::DeleteIke))
    }

    /// A request of ours about a Child SA is under way.
    pub(super) fn is_changing_children(&self) -> bool {
        matches!(self.pending, Some(Pending::Child(_) | Pending::DeleteChildren(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonces(initiator: u8, responder: u8) -> Nonces {
        Nonces { initiator: vec![initiator; 32], responder: vec![responder; 32] }
    }

    #[test]
    fn the_exchange_with_the_lowest_of_four_nonces_loses_wherever_it_stands() {
        let (ours, theirs) = (Verdict::OursIsRedundant, Verdict::TheirsIsRedundant);
        assert_eq!(verdict(&nonces(1, 9), &nonces(2, 3)), ours);
        assert_eq!(verdict(&nonces(9, 1), &nonces(2, 3)), ours);
        assert_eq!(verdict(&nonces(2, 3), &nonces(1, 9)), theirs);
        assert_eq!(verdict(&nonces(2, 3), &nonces(9, 1)), theirs);
    }

    #[test]
    fn both_sides_come_to_the_same_verdict() {
        for seed in 0..200u32 {
            let byte = |n: u32| (seed.wrapping_mul(2_654_435_761).rotate_left(n * 8) & 7) as u8;
            let (a, b) = (nonces(byte(0), byte(1)), nonces(byte(2), byte(3)));
            if a.lowest() != b.lowest() {
                assert_ne!(verdict(&a, &b), verdict(&b, &a));
            }
        }
    }

    #[test]
    fn a_shorter_nonce_that_begins_alike_is_lower() {
        let short = Nonces { initiator: vec![5; 16], responder: vec![9; 16] };
        assert_eq!(verdict(&short, &nonces(5, 9)), Verdict::OursIsRedundant);
    }
}
