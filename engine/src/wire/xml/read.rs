//! The full reader: any spelling of a label-mappings document, and the judge of every rejection.
//!
//! In:   one whole document.
//! Out:  mappings and rejected mappings in the unit, or one rejection of the document.
//! Law:  unknown elements and options are kept, unknown attributes are ignored; neither is refused.
//! Not:  well-formedness and limits (`markup`), the rules of a mapping (`draft`).

use storage::mapping::{Fec, Ingress, Nhlfe, RouteDistinguisher, RouterId};
use storage::row::Cause;

use super::draft::{Budget, Draft, EXTRA_BYTES_MAX, Fault, INGRESSES_MAX};
use super::markup::{Element, Space, Visitor, walk};
use super::value::{self, FecKind};
use super::{NAMESPACE, scan};
use crate::wire::{Rejection, Unit, WireLimits};
use storage::mapping::BRANCHES_MAX;

/// Reads the document. `router` is the one that the session speaks for, if that is known.
/// Errors: the document is rejected; the unit may then hold parts of it.
pub fn read(
    text: &[u8],
    router: Option<RouterId>,
    limits: &WireLimits,
    unit: &mut Unit,
) -> Result<(), Rejection> {
    let mut reader = Reader {
        text: text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text),
        router,
        space: Space::Protocol,
        place: Place::Document,
        foreign_depth: 0,
        foreign_at: 0,
        draft: Draft::default(),
        budget: Budget::new(limits),
        unit,
    };
    walk(text, limits, &mut reader)
}

/// The innermost element that the protocol knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Document,
    Root,
    Mapping,
    Fec,
    Ingress,
    Operation,
    Nhlfe,
}

struct Reader<'r> {
    text: &'r [u8],
    router: Option<RouterId>,
    /// Namespace of the root element; the elements in it are the protocol's.
    space: Space,
    place: Place,
    /// How many unknown elements are open, one in the other, and where the outermost begins.
    foreign_depth: usize,
    foreign_at: usize,
    draft: Draft,
    budget: Budget,
    unit: &'r mut Unit,
}

impl Visitor for Reader<'_> {
    fn open(&mut self, element: &Element<'_>) -> Result<(), Rejection> {
        if self.foreign_depth > 0 {
            self.foreign_depth += 1;
            return Ok(());
        }
        if self.place == Place::Document {
            return self.open_root(element);
        }
        let name = if element.space == self.space { element.name } else { "" };
        self.place = match (self.place, name) {
            (Place::Root, "mapping") => {
                self.open_mapping(element);
                Place::Mapping
            }
            (Place::Mapping, "fec") => {
                self.open_fec(element);
                Place::Fec
            }
            (Place::Mapping, "ingress") => {
                self.open_ingress(element);
                Place::Ingress
            }
            (Place::Mapping, "operation") => {
                self.open_operation(element);
                Place::Operation
            }
            (Place::Operation, "nhlfe") => {
                self.open_nhlfe(element);
                Place::Nhlfe
            }
            (place, _) => {
                self.foreign_depth = 1;
                self.foreign_at = element.at;
                place
            }
        };
        Ok(())
    }

    fn close(&mut self, end: usize) -> Result<(), Rejection> {
        if self.foreign_depth > 0 {
            self.foreign_depth -= 1;
            if self.foreign_depth == 0 && self.place != Place::Root {
                self.keep_extra(end);
            }
            return Ok(());
        }
        self.place = match self.place {
            Place::Nhlfe => Place::Operation,
            Place::Fec | Place::Ingress | Place::Operation => Place::Mapping,
            Place::Mapping => {
                self.draft.finish(&mut self.budget, self.unit)?;
                Place::Root
            }
            Place::Root | Place::Document => Place::Document,
        };
        Ok(())
    }
}

impl Reader<'_> {
    fn open_root(&mut self, element: &Element<'_>) -> Result<(), Rejection> {
        if element.name != "label-mappings" || element.space == Space::Other {
            let detail = format!("expected label-mappings in {NAMESPACE}, found {}", element.name);
            return Err(Rejection::new(Cause::XmlRoot, detail));
        }
        self.space = element.space;
        self.place = Place::Root;
        if let Some(text) = element.attribute("router-id") {
            let Some(router) = value::router(text) else {
                let detail = format!("router-id: expected an address, found `{text}`");
                return Err(Rejection::new(Cause::XmlRoot, detail));
            };
            self.unit.router = Some(router);
        }
        if let Some(text) = element.attribute("snapshot") {
            let Some(snapshot) = scan::snapshot(text) else {
                let detail = format!("snapshot: expected part or complete, found `{text}`");
                return Err(Rejection::new(Cause::XmlRoot, detail));
            };
            self.unit.snapshot = snapshot;
        }
        Ok(())
    }

    fn open_mapping(&mut self, element: &Element<'_>) {
        match element.attribute("timestamp") {
            None => self.draft.fail(Cause::TimestampInvalid, "mapping without timestamp"),
            Some(text) => match value::time(text) {
                Some(time) => self.draft.time = Some(time),
                None => self.draft.fail(
                    Cause::TimestampInvalid,
                    format!("expected seconds such as 1286724601.674842, found `{text}`"),
                ),
            },
        }
        let Some(text) = element.attribute("router-id") else { return };
        let expected = self.unit.router.or(self.router);
        match value::router(text) {
            Some(router) if expected.is_none() => self.unit.router = Some(router),
            Some(router) if expected == Some(router) => {}
            _ => {
                let expected = expected.map_or("an address".to_owned(), |id| id.to_string());
                let detail = format!("router-id: expected {expected}, found `{text}`");
                self.draft.fail(Cause::ForeignRouter, detail);
            }
        }
    }

    fn open_fec(&mut self, element: &Element<'_>) {
        if self.draft.fec.is_some() {
            return self.draft.fail(Cause::FecInvalid, "mapping with two fec elements");
        }
        match fec(element) {
            Ok(fec) => self.draft.fec = Some(fec),
            Err(detail) => self.draft.fail(Cause::FecInvalid, detail),
        }
    }

    fn open_ingress(&mut self, element: &Element<'_>) {
        if self.draft.ingresses.len() == INGRESSES_MAX {
            let detail = format!("more than {INGRESSES_MAX} ingress elements");
            return self.draft.fail(Cause::XmlLimit, detail);
        }
        self.draft.ingresses.push(ingress(element));
    }

    fn open_operation(&mut self, element: &Element<'_>) {
        if self.draft.operation.is_some() {
            return self.draft.fail(Cause::OperationInvalid, "mapping with two operations");
        }
        let text = element.attribute("type").unwrap_or_default();
        match value::operation(text) {
            Some(operation) => self.draft.operation = Some(operation),
            None => self.draft.fail(
                Cause::OperationInvalid,
                format!("expected push, swap, pop, replicate or none, found `{text}`"),
            ),
        }
    }

    fn open_nhlfe(&mut self, element: &Element<'_>) {
        // One more than allowed is kept, so that the count is seen to be wrong.
        if self.draft.branches.len() > BRANCHES_MAX {
            return;
        }
        match nhlfe(element) {
            Ok(branch) => self.draft.branches.push(branch),
            // What a withdrawn entry looked like is nobody's business any more.
            Err(_) if self.draft.operation == Some(storage::mapping::Operation::None) => {}
            Err(Fault { cause, detail }) => self.draft.fail(cause, detail),
        }
    }

    fn keep_extra(&mut self, end: usize) {
        let written = self.text.get(self.foreign_at..end).unwrap_or_default();
        if self.draft.extra.len() + written.len() > EXTRA_BYTES_MAX {
            let detail = format!("options of more than {EXTRA_BYTES_MAX} bytes");
            return self.draft.fail(Cause::XmlLimit, detail);
        }
        match std::str::from_utf8(written) {
            Ok(written) => self.draft.extra.push_str(written),
            Err(_) => self.draft.fail(Cause::XmlMalformed, "options that are no UTF-8"),
        }
    }
}

/// The value of an attribute that has to be there and to be readable.
fn part<T>(
    element: &Element<'_>,
    name: &str,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, String> {
    let text = element
        .attribute(name)
        .ok_or_else(|| format!("{} without {name}, expected {expected}", element.name))?;
    parse(text).ok_or_else(|| format!("{name}: expected {expected}, found `{text}`"))
}

fn fec(element: &Element<'_>) -> Result<Fec, String> {
    const ADDRESS: &str = "an address";
    const PREFIX: &str = "a prefix such as 192.0.2.0/24";
    const NUMBER: &str = "a number";
    let rd = |text: &str| text.parse::<RouteDistinguisher>().ok();
    Ok(match part(element, "type", "ip, vrf, vsi, ac or unknown", value::fec_kind)? {
        FecKind::Ip => {
            let prefix = part(element, "prefix", PREFIX, value::prefix)?;
            let has_table = element.attribute("table").is_some();
            let table = if has_table { part(element, "table", NUMBER, value::number)? } else { 0 };
            Fec::Ip { prefix, table }
        }
        FecKind::Vrf => {
            let loopback = part(element, "loopback", ADDRESS, value::address)?;
            let rd = part(element, "rd", "a route distinguisher such as 65000:2", rd)?;
            let prefix = match element.attribute("prefix") {
                Some(_) => Some(part(element, "prefix", PREFIX, value::prefix)?),
                None => None,
            };
            Fec::Vrf { loopback, rd, prefix }
        }
        FecKind::Vsi => Fec::Vsi {
            loopback: part(element, "loopback", ADDRESS, value::address)?,
            pw_id: part(element, "pw-id", NUMBER, value::number)?,
        },
        FecKind::Ac => Fec::Ac {
            loopback: part(element, "loopback", ADDRESS, value::address)?,
            pw_id: part(element, "pw-id", NUMBER, value::number)?,
        },
        FecKind::Unknown => Fec::Unknown,
    })
}

fn ingress(element: &Element<'_>) -> Result<Ingress, Fault> {
    let expected = "-1 to 1048575";
    let label = part(element, "label", expected, value::label)
        .map_err(|detail| Fault::new(Cause::LabelRange, detail))?;
    let expected = "untagged, service, platform or a router id";
    let origin = match (label, element.attribute("origin")) {
        // Without a label there is only one origin; with one, the draft demands that it is said.
        (None, None) => storage::mapping::Origin::Untagged,
        _ => part(element, "origin", expected, value::origin)
            .map_err(|detail| Fault::new(Cause::IngressInvalid, detail))?,
    };
    Ok(Ingress { label, origin })
}

fn nhlfe(element: &Element<'_>) -> Result<Nhlfe, Fault> {
    let text = element.attribute("label").unwrap_or("-1");
    let stack = value::stack(text).map_err(|cause| {
        Fault::new(cause, format!("label: expected up to 16 labels or -1, found `{text}`"))
    })?;
    let invalid = |detail| Fault::new(Cause::NhlfeInvalid, detail);
    let expected = "an address, fec or recursive";
    let next_hop = part(element, "next-hop", expected, value::next_hop).map_err(invalid)?;
    let weight = match element.attribute("weight") {
        Some(_) => Some(part(element, "weight", "a number", value::number).map_err(invalid)?),
        None => None,
    };
    Ok(Nhlfe { stack, next_hop, weight })
}
