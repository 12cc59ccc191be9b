//! The full reader: any spelling of a label-mappings document, and the judge of every rejection.
//!
//! In:   one whole document.
//! Out:  mappings and rejected mappings in the unit, or one rejection of the document.
//! Law:  unknown elements and options are kept; an unknown attribute of what makes a mapping is
//!       refused, for it may change what the mapping means. Those with a prefix are not ours.
//! Not:  well-formedness and limits (`markup`), the rules of a mapping (`draft`).

use storage::mapping::{
    Fec, Ingress, Link, Name, NameKind, NextHop, Nhlfe, Origin, RouteDistinguisher, RouterId,
};
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

    /// An attribute that is none of those that the element has.
    fn refuse_others(&mut self, element: &Element<'_>, known: &[&str]) {
        if let Err(fault) = only(element, known) {
            self.draft.fail(fault.cause, fault.detail);
        }
    }

    fn open_mapping(&mut self, element: &Element<'_>) {
        self.draft.ordinal += 1;
        self.refuse_others(element, &["timestamp", "router-id"]);
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
            Ok(fec) => {
                self.draft.fec = Some(fec);
                self.refuse_others(element, FEC_ATTRIBUTES);
            }
            Err(detail) => self.draft.fail(Cause::FecInvalid, detail),
        }
    }

    fn open_ingress(&mut self, element: &Element<'_>) {
        if self.draft.ingresses.len() < INGRESSES_MAX {
            return self.draft.ingresses.push(ingress(element));
        }
        let detail = format!("more than {INGRESSES_MAX} ingress elements");
        if self.draft.ingresses.len() == INGRESSES_MAX {
            // What they name is not kept: one stands for all of them, and has no key.
            self.draft.ingresses.push(Err(Fault::new(Cause::XmlLimit, detail.as_str())));
        }
        self.draft.fail(Cause::XmlLimit, detail);
    }

    fn open_operation(&mut self, element: &Element<'_>) {
        if self.draft.operation.is_some() {
            return self.draft.fail(Cause::OperationInvalid, "mapping with two operations");
        }
        self.refuse_others(element, &["type"]);
        let text = element.attribute("type").unwrap_or_default();
        match value::operation(text) {
            Some(operation) => self.draft.operation = Some(operation),
            None => self.draft.fail(
                Cause::OperationInvalid,
                format!(
                    "expected push, swap, pop, replicate, discard, untag or none, found `{text}`"
                ),
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

/// Refuses an element that has other attributes than these.
fn only(element: &Element<'_>, known: &[&str]) -> Result<(), Fault> {
    let unknown = element.attributes.iter().find(|(name, _)| !known.contains(name));
    unknown.map_or(Ok(()), |(name, value)| {
        let detail =
            format!("{} {name}=\"{value}\": expected only {}", element.name, known.join(", "));
        Err(Fault::new(Cause::AttributeUnknown, detail))
    })
}

/// Attributes of all kinds of FECs together: which of them a kind has, `fec` says.
const FEC_ATTRIBUTES: &[&str] =
    &["type", "prefix", "table", "source", "tos", "loopback", "rd", "pw-id", "kind", "name"];
const INGRESS_ATTRIBUTES: &[&str] = &["label", "origin", "table"];
const NHLFE_ATTRIBUTES: &[&str] =
    &["label", "next-hop", "weight", "role", "strip", "interface", "neighbour", "encapsulation"];

const ADDRESS: &str = "an address";
const PREFIX: &str = "a prefix such as 192.0.2.0/24";
const NUMBER: &str = "a number";
const NAME: &str = "1 to 64 bytes without control characters";

/// An attribute that may lack, and has to be readable if it is there.
fn optional<T>(
    element: &Element<'_>,
    name: &str,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, String> {
    match element.attribute(name) {
        Some(_) => part(element, name, expected, parse).map(Some),
        None => Ok(None),
    }
}

fn fec(element: &Element<'_>) -> Result<Fec, String> {
    let rd = |text: &str| text.parse::<RouteDistinguisher>().ok();
    let kinds = "ip, vrf, vsi, ac, name, interface or unknown";
    let fec = match part(element, "type", kinds, value::fec_kind)? {
        FecKind::Ip => Fec::IpFrom {
            prefix: part(element, "prefix", PREFIX, value::prefix)?,
            table: optional(element, "table", NUMBER, value::number)?.unwrap_or(0),
            source: optional(element, "source", PREFIX, value::prefix)?,
            tos: optional(element, "tos", "0 to 255", value::tos)?.unwrap_or(0),
        },
        FecKind::Vrf if element.attribute("name").is_some() => {
            // Two identities of one VRF: nobody could say which of them is meant.
            if element.attribute("loopback").is_some() || element.attribute("rd").is_some() {
                return Err("vrf: expected loopback and rd, or name, found both".to_owned());
            }
            Fec::VrfName {
                name: part(element, "name", NAME, Name::new)?,
                prefix: optional(element, "prefix", PREFIX, value::prefix)?,
            }
        }
        FecKind::Vrf => Fec::Vrf {
            loopback: part(element, "loopback", ADDRESS, value::address)?,
            rd: part(element, "rd", "a route distinguisher such as 65000:2", rd)?,
            prefix: optional(element, "prefix", PREFIX, value::prefix)?,
        },
        FecKind::Vsi => Fec::Vsi {
            loopback: part(element, "loopback", ADDRESS, value::address)?,
            pw_id: part(element, "pw-id", NUMBER, value::number)?,
        },
        FecKind::Ac => Fec::Ac {
            loopback: part(element, "loopback", ADDRESS, value::address)?,
            pw_id: part(element, "pw-id", NUMBER, value::number)?,
        },
        FecKind::Name => {
            let kinds = "sr-prefix, sr-adjacency, rsvp, mldp, te-binding or other";
            Fec::Named {
                kind: part(element, "kind", kinds, NameKind::parse)?,
                name: part(element, "name", NAME, Name::new)?,
            }
        }
        FecKind::Interface => Fec::Interface { name: part(element, "name", NAME, Name::new)? },
        FecKind::Unknown => Fec::Unknown,
    };
    Ok(fec.masked())
}

fn ingress(element: &Element<'_>) -> Result<Ingress, Fault> {
    only(element, INGRESS_ATTRIBUTES)?;
    let invalid = |detail| Fault::new(Cause::IngressInvalid, detail);
    let expected = "-1 to 1048575";
    let label = part(element, "label", expected, value::label)
        .map_err(|detail| Fault::new(Cause::LabelRange, detail))?;
    let expected = "untagged, service, platform or a router id";
    let origin = match (label, element.attribute("origin")) {
        // Without a label there is only one origin; with one, the draft demands that it is said.
        (None, None) => Origin::Untagged,
        _ => part(element, "origin", expected, value::origin).map_err(invalid)?,
    };
    let table = optional(element, "table", NUMBER, value::number).map_err(invalid)?;
    let origin = match (origin, table) {
        (Origin::Platform, Some(table)) => Origin::of_table(table),
        (origin, None | Some(0)) => origin,
        (origin, Some(table)) => {
            let detail = format!("table {table}: expected the origin platform, found {origin}");
            return Err(invalid(detail));
        }
    };
    Ok(Ingress { label, origin })
}

fn nhlfe(element: &Element<'_>) -> Result<Nhlfe, Fault> {
    only(element, NHLFE_ATTRIBUTES)?;
    let text = element.attribute("label").unwrap_or("-1");
    let stack = value::stack(text).map_err(|cause| {
        Fault::new(cause, format!("label: expected up to 16 labels or -1, found `{text}`"))
    })?;
    let invalid = |detail| Fault::new(Cause::NhlfeInvalid, detail);
    let weight = optional(element, "weight", "a number from 1", value::number).map_err(invalid)?;
    let role = optional(element, "role", "primary or backup", value::role).map_err(invalid)?;
    let strip = optional(element, "strip", "all", value::strip).map_err(invalid)?;
    let mut link = Link {
        interface: optional(element, "interface", NAME, Name::new).map_err(invalid)?,
        neighbour: optional(element, "neighbour", "a router id", value::router).map_err(invalid)?,
        encapsulation: optional(
            element,
            "encapsulation",
            "srv6, vxlan, gre, ip or other",
            value::encapsulation,
        )
        .map_err(invalid)?,
    };
    let next_hop = next_hop(element, &mut link).map_err(invalid)?;
    let (role, untags) = (role.unwrap_or_default(), strip.unwrap_or(false));
    Ok(Nhlfe { weight, role, untags, ..Nhlfe::new(stack, next_hop) }.with_link(link))
}

/// An address may name its interface (RFC 4007 section 11): `fe80::1%eth0`. Without an address it
/// takes an interface or a neighbour to say where to.
fn next_hop(element: &Element<'_>, link: &mut Link) -> Result<NextHop, String> {
    const EXPECTED: &str = "an address, fec, recursive or interface";
    let says_where = link.interface.is_some() || link.neighbour.is_some();
    let Some(text) = element.attribute("next-hop") else {
        let is_enough = says_where || link.encapsulation.is_some();
        return is_enough
            .then_some(NextHop::Interface)
            .ok_or_else(|| format!("nhlfe without next-hop, expected {EXPECTED}"));
    };
    if let Some((address, zone)) = text.split_once('%') {
        let zone = Name::new(zone).ok_or_else(|| format!("next-hop: expected {NAME} after %"))?;
        if link.interface.is_some_and(|interface| interface != zone) {
            return Err(format!("next-hop `{text}`: expected the interface of the branch"));
        }
        link.interface = Some(zone);
        let address = value::address(address);
        return address
            .map(NextHop::Address)
            .ok_or_else(|| format!("next-hop: expected {EXPECTED}, found `{text}`"));
    }
    part(element, "next-hop", EXPECTED, value::next_hop)
}
