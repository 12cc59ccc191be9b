//! The labels that a router gives FECs for good, from a few numbers instead of a table.
//!
//! In:   chance, the first label, how many FECs there are.
//! Out:  `LabelSpace`: a label for each FEC.
//! Law:  no two FECs get the same label of one router.
//! Not:  labels that come and go (`services/labels`).

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use storage::mapping::Label;

/// First VPN label. Every PE begins close to it, so that PEs often choose alike, as real ones do.
const VPN_LABEL_MIN: u32 = 100;
/// PEs begin up to this many labels further on.
const VPN_LABEL_SPREAD: u32 = 8;

/// A router gives FEC `f` the label `base + (f * stride + offset) mod modulus`.
///
/// With a prime modulus and a stride that is no multiple of it, no two FECs get the same label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LabelSpace {
    base: u32,
    stride: u32,
    offset: u32,
    /// Its first VPN label.
    pub(super) vpn_base: u32,
}

impl LabelSpace {
    /// Draws a router's space: LDP's labels from `label_min` on.
    pub(super) fn draw(label_min: u32, modulus: u32, chance: &mut ChaCha8Rng) -> LabelSpace {
        LabelSpace {
            base: chance.random_range(label_min..=Label::MAX - modulus),
            stride: chance.random_range(1..modulus),
            offset: chance.random_range(0..modulus),
            vpn_base: VPN_LABEL_MIN + chance.random_range(0..VPN_LABEL_SPREAD),
        }
    }

    /// The label that the router gives a FEC.
    pub(super) fn label(self, fec_index: usize, modulus: u32) -> Label {
        let fec = fec_index as u64;
        let place = (fec * u64::from(self.stride) + u64::from(self.offset)) % u64::from(modulus);
        let place = u32::try_from(place).expect("a remainder is below its modulus");
        Label::new(self.base + place).expect("base is drawn so that every place stays in 20 bits")
    }
}

/// The smallest prime that is at least `start`.
pub(super) fn prime_from(start: u32) -> u32 {
    let is_prime =
        |number: u32| (2..).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d));
    (start..).find(|number| is_prime(*number)).expect("there is a prime between n and 2n")
}
