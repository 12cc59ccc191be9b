//! The fast reader: one pass over a document in its canonical spelling, extracting as it goes.
//!
//! In:   one whole document.
//! Out:  its mappings in the unit; or `false`, and then `read` has to judge the document.
//! Law:  whatever is not canonical byte for byte, or not right, is left to `read`; none is guessed.
//! Not:  rejections: a document with anything to reject is never finished here.

use std::mem::take;

use storage::mapping::{
    Branches, Fec, Ingress, Label, Mapping, Nhlfe, Operation, Origin, RouteDistinguisher,
    TimeSource,
};
use storage::time::Micros;

use super::draft::{Budget, EXTRA_BYTES_MAX, check};
use super::{NAMESPACE, value};
use crate::wire::{SnapshotMark, Unit, WireLimits};

/// Elements of the canonical spelling are nested this deep: label-mappings, mapping, operation, nhlfe.
const CANONICAL_DEPTH: usize = 4;
/// Attributes of one canonical element: type, loopback, rd and prefix of a `fec`.
const CANONICAL_ATTRIBUTES: usize = 4;

/// Reads the document if all of it is canonical. After `false` the unit holds parts of it.
pub fn scan(text: &[u8], limits: &WireLimits, unit: &mut Unit) -> bool {
    // Limits below the canonical shape are `read`'s to enforce.
    limits.xml_depth_max >= CANONICAL_DEPTH
        && limits.xml_attributes_max >= CANONICAL_ATTRIBUTES
        && Scanner { rest: text, budget: Budget::new(limits) }.document(unit).is_some()
}

struct Scanner<'t> {
    rest: &'t [u8],
    budget: Budget,
}

impl<'t> Scanner<'t> {
    fn document(&mut self, unit: &mut Unit) -> Option<()> {
        // Optional, and in this one spelling.
        self.eat(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
        self.space();
        self.expect(b"<label-mappings xmlns=\"")?;
        self.expect(NAMESPACE.as_bytes())?;
        self.expect(b"\"")?;
        if self.eat(b" router-id=\"") {
            unit.router = Some(value::router(self.value()?)?);
        }
        if self.eat(b" snapshot=\"") {
            unit.snapshot = snapshot(self.value()?)?;
        }
        self.expect(b">")?;
        loop {
            self.space();
            if !self.eat(b"<mapping timestamp=\"") {
                break;
            }
            let mapping = self.mapping()?;
            self.budget.take(&mapping).then_some(())?;
            unit.mappings.push(mapping);
        }
        self.expect(b"</label-mappings>")?;
        self.space();
        self.rest.is_empty().then_some(())
    }

    fn mapping(&mut self) -> Option<Mapping> {
        let event_time = self.time()?;
        self.expect(b">")?;
        self.space();
        let fec = self.fec()?;
        self.space();
        let ingress = self.ingress()?;
        self.space();
        let (operation, mut branches) = self.operation()?;
        self.space();
        let extra = self.options()?;
        self.expect(b"</mapping>")?;
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
        self.expect(b"<fec type=\"")?;
        let fec = match self.value()? {
            "ip" => {
                let prefix = value::prefix(self.attribute(b" prefix=\"")?)?;
                let table = self.attribute(b" table=\"").map_or(Some(0), value::number)?;
                Fec::Ip { prefix, table }
            }
            "vrf" => {
                let loopback = value::address(self.attribute(b" loopback=\"")?)?;
                let rd: RouteDistinguisher = self.attribute(b" rd=\"")?.parse().ok()?;
                let prefix = match self.attribute(b" prefix=\"") {
                    Some(text) => Some(value::prefix(text)?),
                    None => None,
                };
                Fec::Vrf { loopback, rd, prefix }
            }
            kind @ ("vsi" | "ac") => {
                let loopback = value::address(self.attribute(b" loopback=\"")?)?;
                let pw_id = value::number(self.attribute(b" pw-id=\"")?)?;
                match kind {
                    "vsi" => Fec::Vsi { loopback, pw_id },
                    _ => Fec::Ac { loopback, pw_id },
                }
            }
            "unknown" => Fec::Unknown,
            _ => return None,
        };
        self.expect(b"/>")?;
        Some(fec)
    }

    fn ingress(&mut self) -> Option<Ingress> {
        let label: Option<Label> = value::label(self.attribute(b"<ingress label=\"")?)?;
        let origin: Origin = value::origin(self.attribute(b" origin=\"")?)?;
        self.expect(b"/>")?;
        Some(Ingress { label, origin })
    }

    fn operation(&mut self) -> Option<(Operation, Branches)> {
        let operation = value::operation(self.attribute(b"<operation type=\"")?)?;
        let mut branches = Branches::new();
        if self.eat(b"/>") {
            return Some((operation, branches));
        }
        self.expect(b">")?;
        loop {
            self.space();
            let Some(label) = self.attribute(b"<nhlfe label=\"") else { break };
            let stack = value::stack(label).ok()?;
            let next_hop = value::next_hop(self.attribute(b" next-hop=\"")?)?;
            let weight = match self.attribute(b" weight=\"") {
                Some(text) => Some(value::number(text)?),
                None => None,
            };
            self.expect(b"/>")?;
            branches.push(Nhlfe { stack, next_hop, weight });
        }
        self.expect(b"</operation>")?;
        Some((operation, branches))
    }

    /// Options behind the operation, kept as they are written.
    fn options(&mut self) -> Option<Option<Box<str>>> {
        let mut extra = String::new();
        loop {
            let from = self.rest;
            if !self.eat(b"<option name=\"") {
                break;
            }
            self.value()?;
            self.expect(b">")?;
            let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !b"<>&]".contains(byte);
            let length = self.rest.iter().take_while(|byte| is_plain(byte)).count();
            self.rest = self.rest.get(length..)?;
            self.expect(b"</option>")?;
            let written = from.get(..from.len() - self.rest.len())?;
            extra.push_str(std::str::from_utf8(written).ok()?);
            if extra.len() > EXTRA_BYTES_MAX {
                return None;
            }
            self.space();
        }
        Some((!extra.is_empty()).then(|| take(&mut extra).into_boxed_str()))
    }

    /// The value behind `opening`, if that stands here.
    fn attribute(&mut self, opening: &[u8]) -> Option<&'t str> {
        if self.eat(opening) { self.value() } else { None }
    }

    /// Text up to the closing quote, which is consumed too: printable ASCII without markup.
    fn value(&mut self) -> Option<&'t str> {
        let length = self.rest.iter().position(|byte| *byte == b'"')?;
        let (text, rest) = self.rest.split_at(length);
        if text.iter().any(|byte| !matches!(byte, b' '..=b'~') || matches!(byte, b'<' | b'&')) {
            return None;
        }
        self.rest = rest.get(1..)?;
        std::str::from_utf8(text).ok()
    }

    fn space(&mut self) {
        while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn eat(&mut self, literal: &[u8]) -> bool {
        match self.rest.strip_prefix(literal) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, literal: &[u8]) -> Option<()> {
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
