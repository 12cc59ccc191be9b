//! The fast reader: one pass over a document in its canonical spelling, extracting as it goes.
//!
//! In:   one whole document.
//! Out:  its mappings in the unit; or `false`, and then `read` has to judge the document.
//! Law:  whatever is not canonical byte for byte, or not right, is left to `read`; none is guessed.
//! Not:  rejections: a document with anything to reject is never finished here.

use storage::mapping::{
    Branches, Fec, Ingress, Label, Mapping, Nhlfe, Operation, Origin, RouteDistinguisher,
    TimeSource,
};
use storage::time::Micros;

use super::draft::{Budget, EXTRA_BYTES_MAX, check};
use super::{NAMESPACE, value};
use crate::wire::{SnapshotMark, Unit, WireLimits};

/// Depth of the canonical spelling: label-mappings, mapping, operation, nhlfe.
const CANONICAL_DEPTH: usize = 4;
/// Attributes of one canonical element: type, loopback, rd and prefix of a `fec`.
const CANONICAL_ATTRIBUTES: usize = 4;

/// Reads the document if all of it is canonical. After `false` the unit holds parts of it.
pub fn scan(text: &[u8], limits: &WireLimits, unit: &mut Unit) -> bool {
    // Limits below the canonical shape are `read`'s to enforce.
    if limits.xml_depth_max < CANONICAL_DEPTH || limits.xml_attributes_max < CANONICAL_ATTRIBUTES {
        return false;
    }
    // One pass over the document, at some ten bytes per nanosecond, saves one per value.
    let Ok(rest) = std::str::from_utf8(text) else { return false };
    Scanner { rest, budget: Budget::new(limits) }.document(unit).is_some()
}

struct Scanner<'t> {
    rest: &'t str,
    budget: Budget,
}

impl<'t> Scanner<'t> {
    fn document(&mut self, unit: &mut Unit) -> Option<()> {
        // Optional, and in this one spelling.
        self.eat("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
        self.space();
        self.expect("<label-mappings xmlns=\"")?;
        self.expect(NAMESPACE)?;
        self.expect("\"")?;
        if self.eat(" router-id=\"") {
            unit.router = Some(value::router(self.value()?)?);
        }
        if self.eat(" snapshot=\"") {
            unit.snapshot = snapshot(self.value()?)?;
        }
        self.expect(">")?;
        loop {
            self.space();
            if !self.eat("<mapping timestamp=\"") {
                break;
            }
            let mapping = self.mapping()?;
            self.budget.take(&mapping).then_some(())?;
            unit.mappings.push(mapping);
        }
        self.expect("</label-mappings>")?;
        self.space();
        self.rest.is_empty().then_some(())
    }

    fn mapping(&mut self) -> Option<Mapping> {
        let event_time = self.time()?;
        self.expect(">")?;
        self.space();
        let fec = self.fec()?;
        self.space();
        let ingress = self.ingress()?;
        self.space();
        let (operation, mut branches) = self.operation()?;
        self.space();
        let extra = self.options()?;
        self.expect("</mapping>")?;
        check(ingress, operation, &branches).ok()?;
        if operation == Operation::None {
            branches.clear();
        } else if branches.len() > 1 {
            branches.sort_unstable();
        }
        let time_source = TimeSource::Router;
        Some(Mapping { fec, ingress, operation, branches, event_time, time_source, extra })
    }

    fn time(&mut self) -> Option<Micros> {
        value::time(self.value()?)
    }

    fn fec(&mut self) -> Option<Fec> {
        self.expect("<fec type=\"")?;
        let fec = match self.value()? {
            "ip" => {
                let prefix = value::prefix(self.attribute(" prefix=\"")?)?;
                let table = self.attribute(" table=\"").map_or(Some(0), value::number)?;
                Fec::Ip { prefix, table }
            }
            "vrf" => {
                let loopback = value::address(self.attribute(" loopback=\"")?)?;
                let rd: RouteDistinguisher = self.attribute(" rd=\"")?.parse().ok()?;
                let prefix = match self.attribute(" prefix=\"") {
                    Some(text) => Some(value::prefix(text)?),
                    None => None,
                };
                Fec::Vrf { loopback, rd, prefix }
            }
            kind @ ("vsi" | "ac") => {
                let loopback = value::address(self.attribute(" loopback=\"")?)?;
                let pw_id = value::number(self.attribute(" pw-id=\"")?)?;
                match kind {
                    "vsi" => Fec::Vsi { loopback, pw_id },
                    _ => Fec::Ac { loopback, pw_id },
                }
            }
            "unknown" => Fec::Unknown,
            _ => return None,
        };
        self.expect("/>")?;
        Some(fec)
    }

    fn ingress(&mut self) -> Option<Ingress> {
        let label: Option<Label> = value::label(self.attribute("<ingress label=\"")?)?;
        let origin: Origin = value::origin(self.attribute(" origin=\"")?)?;
        self.expect("/>")?;
        Some(Ingress { label, origin })
    }

    fn operation(&mut self) -> Option<(Operation, Branches)> {
        let operation = value::operation(self.attribute("<operation type=\"")?)?;
        let mut branches = Branches::new();
        if self.eat("/>") {
            return Some((operation, branches));
        }
        self.expect(">")?;
        loop {
            self.space();
            let Some(label) = self.attribute("<nhlfe label=\"") else { break };
            let stack = value::stack(label).ok()?;
            let next_hop = value::next_hop(self.attribute(" next-hop=\"")?)?;
            let weight = match self.attribute(" weight=\"") {
                Some(text) => Some(value::number(text)?),
                None => None,
            };
            self.expect("/>")?;
            branches.push(Nhlfe { stack, next_hop, weight });
        }
        self.expect("</operation>")?;
        Some((operation, branches))
    }

    /// Options behind the operation, kept as they are written.
    fn options(&mut self) -> Option<Option<Box<str>>> {
        let mut extra = String::new();
        loop {
            let from = self.rest;
            if !self.eat("<option name=\"") {
                break;
            }
            self.value()?;
            self.expect(">")?;
            let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !b"<>&]".contains(byte);
            let length = self.rest.bytes().take_while(|byte| is_plain(byte)).count();
            self.rest = self.rest.get(length..)?;
            self.expect("</option>")?;
            extra.push_str(from.get(..from.len() - self.rest.len())?);
            if extra.len() > EXTRA_BYTES_MAX {
                return None;
            }
            self.space();
        }
        Some((!extra.is_empty()).then(|| extra.into_boxed_str()))
    }

    /// The value behind `opening`, if that stands here.
    #[inline]
    fn attribute(&mut self, opening: &str) -> Option<&'t str> {
        if self.eat(opening) { self.value() } else { None }
    }

    /// Text up to the closing quote, which is consumed too: printable ASCII without markup.
    #[inline]
    fn value(&mut self) -> Option<&'t str> {
        let is_plain =
            |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'<' | b'&');
        let length = self.rest.bytes().position(|byte| !is_plain(byte))?;
        let text = self.rest.get(..length)?;
        self.rest = self.rest.get(length..)?.strip_prefix('"')?;
        Some(text)
    }

    #[inline]
    fn space(&mut self) {
        let is_space = |byte: u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        let length = self.rest.bytes().take_while(|byte| is_space(*byte)).count();
        self.rest = self.rest.get(length..).unwrap_or_default();
    }

    #[inline]
    fn eat(&mut self, literal: &str) -> bool {
        match self.rest.strip_prefix(literal) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    #[inline]
    fn expect(&mut self, literal: &str) -> Option<()> {
        self.eat(literal).then_some(())
    }
}

/// What the `snapshot` attribute of the root element says.
pub(super) fn snapshot(text: &str) -> Option<SnapshotMark> {
    match text {
        "part" => Some(SnapshotMark::Part),
        "complete" => Some(SnapshotMark::Whole),
        _ => None,
    }
}
