//! One mapping while its elements come in, and the rules that its parts must keep together.
//!
//! In:   the values of its elements, or why one of them cannot be read.
//! Out:  one `Mapping` per ingress label in the unit, or one `RejectedMapping` each.
//! Law:  a mapping that is rejected takes no other mapping with it, and its key is named if known.
//! Not:  how the elements are spelt (`scan`, `read`).

use std::net::IpAddr;

use smallvec::SmallVec;
use storage::mapping::{
    BRANCHES_MAX, Branches, Fec, Ingress, Key, Label, Mapping, NextHop, Nhlfe, Operation, Origin,
    TimeSource,
};
use storage::row::Cause;
use storage::time::Micros;

use crate::wire::{REJECTED_DETAILS_MAX, RejectedMapping, Rejection, Unit, WireLimits};

/// Ingress labels of one mapping element.
pub const INGRESSES_MAX: usize = 256;
/// Bytes of the options and unknown elements that one mapping keeps.
pub const EXTRA_BYTES_MAX: usize = 4_096;
/// Rejected mappings of one document; beyond, the document is rejected as a whole.
pub const REJECTED_MAX: usize = 1 << 16;
/// Bytes in memory that a document may become, per byte that it may be long: an ingress label of
/// 40 bytes repeats a mapping of any size, so the length alone would not bound the memory.
pub const EXPANSION_MAX: usize = 4;

/// Why a part of a mapping cannot stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The cause that is counted.
    pub cause: Cause,
    /// Expected and found.
    pub detail: String,
}

impl Fault {
    /// A fault of this cause.
    pub fn new(cause: Cause, detail: impl Into<String>) -> Fault {
        Fault { cause, detail: detail.into() }
    }
}

/// What is left of the memory that one document may become.
#[derive(Debug)]
pub struct Budget {
    bytes_left: usize,
}

impl Budget {
    /// The budget of one document.
    pub fn new(limits: &WireLimits) -> Budget {
        Budget { bytes_left: limits.inflated_bytes_max.saturating_mul(EXPANSION_MAX) }
    }

    /// Takes what `mapping` occupies. `false` = the budget does not hold it.
    pub fn take(&mut self, mapping: &Mapping) -> bool {
        let branches = mapping.branches.len() * size_of::<Nhlfe>();
        let extra = mapping.extra.as_ref().map_or(0, |extra| extra.len());
        let bytes = size_of::<Mapping>() + branches + extra;
        self.bytes_left.checked_sub(bytes).map(|left| self.bytes_left = left).is_some()
    }
}

/// Checks that ingress, operation and branches do not contradict each other.
pub fn check(ingress: Ingress, operation: Operation, branches: &[Nhlfe]) -> Result<(), Fault> {
    match (ingress.label, ingress.origin) {
        (None, Origin::Untagged) => {}
        (Some(_), Origin::Service | Origin::Platform | Origin::Interface(_) | Origin::Table(_)) => {
        }
        (None, origin) => {
            let detail = format!("ingress label -1 has the origin untagged, found {origin}");
            return Err(Fault::new(Cause::IngressInvalid, detail));
        }
        (Some(label), Origin::Untagged) => {
            let detail = format!("ingress label {label}: only -1 has the origin untagged");
            return Err(Fault::new(Cause::IngressInvalid, detail));
        }
    }
    if operation == Operation::None {
        return Ok(());
    }
    if operation == Operation::Discard {
        let detail = "discard sends nothing on: expected no nhlfe";
        return match branches.is_empty() {
            true => Ok(()),
            false => Err(Fault::new(Cause::OperationInvalid, detail)),
        };
    }
    if branches.is_empty() {
        return Err(Fault::new(Cause::OperationInvalid, format!("{operation} without nhlfe")));
    }
    if branches.len() > BRANCHES_MAX {
        let detail = format!("{} branches, at most {BRANCHES_MAX}", branches.len());
        return Err(Fault::new(Cause::NhlfeInvalid, detail));
    }
    let needs_label = matches!(operation, Operation::Swap | Operation::Pop | Operation::Untag);
    if needs_label && ingress.label.is_none() {
        let detail = format!("{operation} at ingress label -1: there is no label to {operation}");
        return Err(Fault::new(Cause::OperationInvalid, detail));
    }
    if operation == Operation::Pop && branches.iter().any(|branch| !branch.stack.is_empty()) {
        let detail = "pop leaves the label -1: a branch of it has no label of its own";
        return Err(Fault::new(Cause::OperationInvalid, detail));
    }
    branches.iter().try_for_each(|branch| check_branch(operation, branch))
}

/// Checks that the parts of a branch do not contradict each other.
#[inline]
fn check_branch(operation: Operation, branch: &Nhlfe) -> Result<(), Fault> {
    let is_nowhere = match branch.next_hop {
        NextHop::Address(IpAddr::V4(address)) => address.is_unspecified(),
        NextHop::Address(IpAddr::V6(address)) => address.is_unspecified(),
        NextHop::Fec | NextHop::Recursive | NextHop::Interface => false,
    };
    let has_null = branch.stack.len() > 1 && branch.stack.contains(&Label::IMPLICIT_NULL);
    if !is_nowhere && !has_null && branch.is_bare() && operation != Operation::Untag {
        return Ok(());
    }
    check_rare(operation, branch, is_nowhere, has_null)
}

#[cold]
fn check_rare(
    operation: Operation,
    branch: &Nhlfe,
    is_nowhere: bool,
    has_null: bool,
) -> Result<(), Fault> {
    let untags = branch.untags || operation == Operation::Untag;
    let says_where = branch.interface().is_some() || branch.neighbour().is_some();
    let detail = if is_nowhere {
        "next-hop: expected a neighbour's address, found the unspecified one"
    } else if has_null {
        "label: expected 3 (implicit null) alone, found it in a stack: it is never on the wire"
    } else if branch.weight == Some(0) {
        "weight: expected a number from 1, found 0"
    } else if untags && !branch.stack.is_empty() {
        "label: expected -1 where every label goes, found one"
    } else if branch.untags && matches!(operation, Operation::Push | Operation::Replicate) {
        "strip: expected it in a swap, pop or untag"
    } else if branch.next_hop == NextHop::Recursive && branch.link.is_some() {
        "recursive looks up again in this router: expected no interface, neighbour, encapsulation"
    } else if branch.next_hop == NextHop::Interface
        && !says_where
        && branch.encapsulation().is_none()
    {
        "next-hop interface: expected interface or neighbour, found neither"
    } else {
        return Ok(());
    };
    Err(Fault::new(Cause::NhlfeInvalid, detail))
}

/// A mapping element under way.
#[derive(Debug, Default)]
pub struct Draft {
    /// `timestamp`.
    pub time: Option<Micros>,
    /// The `fec` element.
    pub fec: Option<Fec>,
    /// The `ingress` elements, each read or not.
    pub ingresses: SmallVec<[Result<Ingress, Fault>; 1]>,
    /// The `operation` element's type.
    pub operation: Option<Operation>,
    /// Its branches.
    pub branches: Branches,
    /// Options and unknown elements, verbatim.
    pub extra: String,
    /// The first thing that was wrong beside an ingress.
    pub fault: Option<Fault>,
    /// Which mapping of the document it is, from 1.
    pub ordinal: usize,
}

impl Draft {
    /// Keeps the first fault: what follows it may only be its consequence.
    pub fn fail(&mut self, cause: Cause, detail: impl Into<String>) {
        self.fault.get_or_insert_with(|| Fault::new(cause, detail));
    }

    /// The element is closed: puts what it says into the unit and empties the draft.
    /// Errors: the document says more than one document may.
    pub fn finish(&mut self, budget: &mut Budget, unit: &mut Unit) -> Result<(), Rejection> {
        let ordinal = self.ordinal;
        let mut draft = std::mem::replace(self, Draft { ordinal, ..Draft::default() });
        let missing = [
            (draft.fec.is_none(), Cause::FecInvalid, "mapping without fec"),
            (draft.operation.is_none(), Cause::OperationInvalid, "mapping without operation"),
            (draft.time.is_none(), Cause::TimestampInvalid, "mapping without timestamp"),
        ];
        for (is_missing, cause, detail) in missing {
            if is_missing {
                draft.fail(cause, detail);
            }
        }
        if draft.ingresses.is_empty() {
            let fault = draft.fault.take();
            let none = || Fault::new(Cause::IngressInvalid, "mapping without ingress");
            return draft.reject(unit, fault.unwrap_or_else(none), None);
        }
        for ingress in std::mem::take(&mut draft.ingresses) {
            match ingress {
                Err(fault) => draft.reject(unit, fault, None)?,
                Ok(ingress) => draft.finish_ingress(ingress, budget, unit)?,
            }
        }
        Ok(())
    }

    fn finish_ingress(
        &self,
        ingress: Ingress,
        budget: &mut Budget,
        unit: &mut Unit,
    ) -> Result<(), Rejection> {
        let key = self.key(ingress);
        let (Some(fec), Some(operation), Some(event_time), None) =
            (self.fec, self.operation, self.time, &self.fault)
        else {
            let fault = self.fault.clone();
            let fault = fault.unwrap_or_else(|| Fault::new(Cause::FecInvalid, "mapping in parts"));
            return self.reject(unit, fault, key);
        };
        if let Err(fault) = check(ingress, operation, &self.branches) {
            let readable = fault.cause != Cause::IngressInvalid;
            return self.reject(unit, fault, key.filter(|_| readable));
        }
        let withdrawn = operation == Operation::None;
        let mut mapping = Mapping {
            fec,
            ingress,
            operation,
            branches: if withdrawn { Branches::new() } else { self.branches.clone() },
            event_time,
            time_source: TimeSource::Router,
            extra: (!self.extra.is_empty()).then(|| self.extra.as_str().into()),
        };
        mapping.normalise();
        if !budget.take(&mapping) {
            let detail = "the document's mappings repeat more than one document may";
            return Err(Rejection::new(Cause::XmlLimit, detail));
        }
        unit.mappings.push(mapping);
        Ok(())
    }

    /// Rejects the mapping: which one it is comes before what is wrong with it.
    fn reject(&self, unit: &mut Unit, fault: Fault, key: Option<Key>) -> Result<(), Rejection> {
        let Fault { cause, detail } = fault;
        if unit.rejected.len() == REJECTED_MAX {
            let detail = format!("more than {REJECTED_MAX} mappings rejected; the last: {detail}");
            return Err(Rejection::new(Cause::XmlLimit, detail));
        }
        let detail = if unit.rejected.len() < REJECTED_DETAILS_MAX {
            let number = self.ordinal;
            let which = match (key, self.fec) {
                (Some(key), _) => format!("mapping {number} ({key}): {detail}"),
                (None, Some(fec)) => format!("mapping {number} ({fec}): {detail}"),
                (None, None) => format!("mapping {number}: {detail}"),
            };
            Rejection::new(cause, which).detail
        } else {
            Box::default()
        };
        unit.rejected.push(RejectedMapping { cause, key, detail });
        Ok(())
    }

    /// The key, where the parts that make it could be read.
    fn key(&self, ingress: Ingress) -> Option<Key> {
        match (ingress.label, ingress.origin) {
            (None, _) => self.fec.map(Key::Ftn),
            (Some(label), Origin::Service) => self.fec.map(|fec| Key::Service(label, fec)),
            (Some(label), origin) => Some(Key::Ilm(label, origin)),
        }
    }
}
