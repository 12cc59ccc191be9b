//! The label-mappings document: one reader for what is spelt canonically, one for everything else.
//!
//! In:   one whole document, inflated.
//! Out:  its mappings in a `Unit`, its rejected mappings beside them; or one rejection of it all.
//! Law:  both readers say the same of every document that both read.
//! Not:  where a document ends in a stream of them (`boundary`).

pub mod value;
mod digits;
pub mod draft;
pub mod scan;
pub mod markup;
pub mod read;
pub mod write;

pub(super) use digits::KnownQuads;
use storage::mapping::RouterId;

use super::{Rejection, Unit, UnitKind, WireLimits};

/// The namespace of the protocol's elements.
pub const NAMESPACE: &str = "urn:stormdrain:label-mapping:1";

/// Reads one document into `unit`, which must be clear. `router` is the one that the session
/// speaks for, if that is known.
///
/// Errors: the document is rejected as a whole; `unit` then holds none of its mappings.
pub fn read_document(
    text: &[u8],
    router: Option<RouterId>,
    limits: &WireLimits,
    unit: &mut Unit,
) -> Result<(), Rejection> {
    unit.kind = UnitKind::Mappings;
    if scan::scan(text, limits, unit) {
        return Ok(());
    }
    forget(unit);
    read::read(text, router, limits, unit).inspect_err(|_| forget(unit))
}

/// Takes back what a reader has put into the unit so far.
fn forget(unit: &mut Unit) {
    unit.clear();
    unit.kind = UnitKind::Mappings;
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod odd;
