//! One branch of a route, or one next hop by number: the attributes that both are made of.
//!
//! In:   attributes, in any order.
//! Out:  `Hop`, or what of it no mapping can say.
//! Law:  an encapsulation that is not labels is said; a gateway compares equal however it is
//!       written.
//! Not:  what a branch becomes in a mapping (`entry`).

use std::net::IpAddr;
use std::num::NonZeroU32;

use storage::mapping::{Encapsulation, Label, LabelStack};

use super::netlink::{Bytes, Fault};

/// The loopback of every Linux network namespace: what leaves by it comes in again here.
pub(super) const INTERFACE_LOOPBACK: NonZeroU32 = NonZeroU32::MIN;

// Kinds of encapsulation: those of the kernel's lwtunnel, and two of zebra on SONiC.
const ENCAPSULATION_MPLS: u16 = 1;
const ENCAPSULATION_IP: u16 = 2;
const ENCAPSULATION_IP6: u16 = 4;
const ENCAPSULATION_SEG6: u16 = 5;
const ENCAPSULATION_SEG6_LOCAL: u16 = 7;
const ENCAPSULATION_VXLAN: u16 = 100;
const ENCAPSULATION_SRV6: u16 = 101;

/// The one attribute of the encapsulation in labels that matters: the stack.
const MPLS_IPTUNNEL_DST: u16 = 1;

/// `RTNH_F_DEAD`, `RTNH_F_LINKDOWN`: the branch carries nothing.
const FLAGS_DEAD: u32 = 1 | 16;

/// Whether a branch of these flags carries nothing.
pub(super) fn is_dead(flags: u32) -> bool {
    flags & FLAGS_DEAD != 0
}

/// One branch of a route, or one next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    /// The neighbour; `None` = none is named.
    pub(super) gateway: Option<IpAddr>,
    /// The interface that it leaves by.
    pub(super) interface: Option<NonZeroU32>,
    /// Labels that packets leave with, without implicit null.
    pub(super) stack: LabelStack,
    /// What they are put into, if that is not labels.
    pub(super) encapsulation: Option<Encapsulation>,
    /// Share among the branches, from 1.
    pub(super) weight: u32,
}

/// The attributes that describe one branch, as they come.
#[derive(Default)]
pub(super) struct HopAttributes<'a> {
    gateway: Option<IpAddr>,
    interface: Option<NonZeroU32>,
    /// The stack that replaces the label of a label route.
    labels: Option<Bytes<'a>>,
    encapsulation: Option<u16>,
    encapsulated: Option<Bytes<'a>>,
}

impl<'a> HopAttributes<'a> {
    /// The branch leaves by this interface; 0 = none is named.
    pub(super) fn leaves_by(&mut self, interface: u32) {
        self.interface = NonZeroU32::new(interface).or(self.interface);
    }

    pub(super) fn goes_to(&mut self, gateway: IpAddr) {
        // The kernel writes none as 0.0.0.0.
        self.gateway = Some(gateway.to_canonical()).filter(|gateway| !gateway.is_unspecified());
    }

    /// The label is replaced by these.
    pub(super) fn swaps_to(&mut self, labels: Bytes<'a>) {
        self.labels = Some(labels);
    }

    /// The kind of encapsulation.
    pub(super) fn encapsulates_in(&mut self, kind: u16) {
        self.encapsulation = Some(kind);
    }

    /// What is put around the packet.
    pub(super) fn puts_around(&mut self, what: Bytes<'a>) {
        self.encapsulated = Some(what);
    }

    /// Whether nothing is said at all.
    pub(super) fn is_empty(&self) -> bool {
        let says_where = self.gateway.is_some() || self.interface.is_some();
        let says_what = self.labels.is_some()
            || self.encapsulation.is_some_and(|kind| kind != 0)
            || self.encapsulated.is_some();
        !says_where && !says_what
    }

    /// The branch. Errors: what no mapping can say; `message` is where it stands.
    pub(super) fn hop(self, message: Bytes<'a>, weight: u32) -> Result<Hop, Fault> {
        let encapsulation = encapsulation(self.encapsulation, self.encapsulated.is_some());
        let mut stack = match self.labels {
            Some(labels) => labels.label_stack()?,
            None => LabelStack::new(),
        };
        if self.encapsulation == Some(ENCAPSULATION_MPLS) {
            if self.labels.is_some() {
                return Err(message.fault(0, "labels to swap to or to push, not both", 2));
            }
            stack = pushed(message, self.encapsulated)?;
        }
        // Implicit null is never on the wire.
        stack.retain(|label| *label != Label::IMPLICIT_NULL);
        let Self { gateway, interface, .. } = self;
        if gateway.is_none() && interface.is_none() && encapsulation.is_none() {
            return Err(message.fault(0, "a gateway, an interface or an encapsulation", 0));
        }
        Ok(Hop { gateway, interface, stack, encapsulation, weight })
    }
}

/// What packets are put into beside labels.
fn encapsulation(kind: Option<u16>, is_said: bool) -> Option<Encapsulation> {
    Some(match kind {
        None | Some(0) if !is_said => return None,
        Some(ENCAPSULATION_MPLS) => return None,
        Some(ENCAPSULATION_IP | ENCAPSULATION_IP6) => Encapsulation::Ip,
        Some(ENCAPSULATION_SEG6 | ENCAPSULATION_SEG6_LOCAL | ENCAPSULATION_SRV6) => {
            Encapsulation::Srv6
        }
        Some(ENCAPSULATION_VXLAN) => Encapsulation::Vxlan,
        _ => Encapsulation::Other,
    })
}

fn pushed<'a>(message: Bytes<'a>, value: Option<Bytes<'a>>) -> Result<LabelStack, Fault> {
    let mut stack = None;
    if let Some(value) = value {
        value.each_attribute(|attribute, value| {
            if attribute == MPLS_IPTUNNEL_DST {
                stack = Some(value.label_stack()?);
            }
            Ok(())
        })?;
    }
    stack.ok_or_else(|| message.fault(0, "the labels of an encapsulation in MPLS", 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encapsulation_but_labels_has_a_name() {
        let name = |kind: Option<u16>, is_said| encapsulation(kind, is_said).map(|it| it.name());
        assert_eq!(name(None, false), None);
        assert_eq!(name(Some(0), false), None);
        assert_eq!(name(Some(1), true), None);
        for (kinds, expected) in [
            (&[2, 4][..], "ip"),
            (&[5, 7, 101], "srv6"),
            (&[100], "vxlan"),
            (&[3, 6, 8, 9, 10, 77], "other"),
        ] {
            for kind in kinds {
                assert_eq!(name(Some(*kind), true), Some(expected), "{kind}");
                assert_eq!(name(Some(*kind), false), Some(expected), "{kind}");
            }
        }
        // Something is put around the packet, and nobody says what.
        assert_eq!(name(None, true), Some("other"));
        assert_eq!(name(Some(0), true), Some("other"));
    }
}
