//! Which mappings of a document are refused: each is read alone, by the collector's own reader.
//!
//! In:   a document that is well-formed and in which something was refused.
//! Out:  number, line, FEC and labels of each refused mapping, with cause, expected and found.
//! Law:  a mapping is refused here exactly if it is refused among its neighbours.
//! Not:  documents that cannot be read as a whole (`input`).

use std::ops::Range;

use memchr::memchr_iter;
use storage::mapping::RouterId;
use storage::row::Cause;

use crate::wire::xml::markup::{Element, Space, Visitor, walk};
use crate::wire::xml::read_document;
use crate::wire::{Rejection, Unit, WireLimits};

/// Characters of a value that are shown.
const SHOWN_MAX: usize = 80;

/// A mapping that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Its place in the document, from 1.
    pub(super) number: usize,
    /// The line of the document on which it begins, from 1.
    pub(super) line: usize,
    /// Its FEC as it is written there, in the spelling of the command line.
    pub(super) fec: String,
    /// Its ingress labels as they are written there.
    pub(super) label: String,
    /// Why.
    pub(super) cause: Cause,
    /// Expected and found.
    pub(super) detail: Box<str>,
}

/// The refused mappings of a document; several of one element, if it has several ingress labels.
pub(super) fn refused_mappings(text: &[u8], router: RouterId, limits: &WireLimits) -> Vec<Refused> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut outline = Outline::default();
    // It has been read as a whole before.
    if walk(text, limits, &mut outline).is_err() {
        return Vec::new();
    }
    let Some((open, close)) = root_tags(text, outline.root_at) else { return Vec::new() };
    let mut refused = Vec::new();
    let mut unit = Unit::new();
    let (mut line, mut counted) = (1, 0);
    for (index, part) in outline.parts.iter().enumerate() {
        let before = text.get(counted..part.range.start).unwrap_or_default();
        line += memchr_iter(b'\n', before).count();
        counted = part.range.start;
        let alone = [open, text.get(part.range.clone()).unwrap_or_default(), &close].concat();
        unit.clear();
        if read_document(&alone, Some(router), limits, &mut unit).is_err() {
            continue;
        }
        refused.extend(unit.rejected.drain(..).map(|rejected| Refused {
            number: index + 1,
            line,
            fec: shown(&part.fec),
            label: shown(&part.labels),
            cause: rejected.cause,
            detail: without_place(&rejected.detail).into(),
        }));
    }
    refused
}

/// A detail without the place that the reader puts before it: read alone, each mapping is the
/// first.
fn without_place(detail: &str) -> &str {
    let behind = match detail.strip_prefix("mapping 1 (") {
        Some(named) => named.split_once("): "),
        None => detail.strip_prefix("mapping 1").and_then(|rest| rest.split_once(": ")),
    };
    behind.map_or(detail, |(_, detail)| detail)
}

/// The start tag of the root element as it is written, and an end tag for it.
fn root_tags(text: &[u8], at: usize) -> Option<(&[u8], Vec<u8>)> {
    let tag = text.get(at..)?;
    let mut quote = None;
    let end = tag.iter().position(|byte| {
        match (quote, byte) {
            (Some(open), byte) if open == *byte => quote = None,
            (None, b'"' | b'\'') => quote = Some(*byte),
            _ => {}
        }
        quote.is_none() && *byte == b'>'
    })?;
    let ends_name = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>');
    let name = tag.get(1..tag.iter().position(ends_name)?)?;
    Some((tag.get(..=end)?, [b"</", name, b">"].concat()))
}

/// One line that is not too long; what stands in a file cannot disturb a terminal.
fn shown(text: &str) -> String {
    let plain = text.chars().map(|letter| if letter.is_control() { '?' } else { letter });
    let mut line: String = plain.clone().take(SHOWN_MAX).collect();
    if plain.count() > SHOWN_MAX {
        line.push('…');
    }
    line
}

/// Where the mappings are, and what they say of themselves.
#[derive(Default)]
struct Outline {
    root_at: usize,
    space: Option<Space>,
    depth: usize,
    parts: Vec<Part>,
}

#[derive(Default)]
struct Part {
    range: Range<usize>,
    fec: String,
    labels: String,
}

impl Visitor for Outline {
    fn open(&mut self, element: &Element<'_>) -> Result<(), Rejection> {
        self.depth += 1;
        if self.depth == 1 {
            self.root_at = element.at;
            self.space = Some(element.space);
        }
        let is_ours = self.space == Some(element.space);
        match (self.depth, element.name, self.parts.last_mut()) {
            (2, "mapping", _) if is_ours => {
                let range = element.at..usize::MAX;
                self.parts.push(Part { range, ..Part::default() });
            }
            (3, "fec", Some(part)) if is_ours && part.is_open() => part.fec = fec_text(element),
            (3, "ingress", Some(part)) if is_ours && part.is_open() => {
                let space = if part.labels.is_empty() { "" } else { " " };
                let label = element.attribute("label").unwrap_or_default();
                part.labels.push_str(&format!("{space}{label}"));
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, end: usize) -> Result<(), Rejection> {
        if self.depth == 2
            && let Some(part) = self.parts.last_mut().filter(|part| part.is_open())
        {
            part.range.end = end;
        }
        self.depth -= 1;
        Ok(())
    }
}

impl Part {
    fn is_open(&self) -> bool {
        self.range.end == usize::MAX
    }
}

/// `ip:10.0.0.0/8`: the type and the values of the other attributes, in the command line's order.
fn fec_text(element: &Element<'_>) -> String {
    const ORDER: [&str; 5] = ["loopback", "rd", "pw-id", "prefix", "table"];
    let values: Vec<&str> = ORDER.iter().filter_map(|name| element.attribute(name)).collect();
    let kind = element.attribute("type").unwrap_or_default();
    if values.is_empty() { kind.to_owned() } else { format!("{kind}:{}", values.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r#"<?xml version="1.0"?>
<m:label-mappings xmlns:m="urn:stormdrain:label-mapping:1" note=">" router-id="192.0.2.1">
<m:mapping timestamp="5"><m:fec type="ip" prefix="10.1.0.0/16"/>
<m:ingress label="-1" origin="untagged"/><m:operation type="none"/></m:mapping>
<m:mapping timestamp="5"><m:fec type="ip" prefix="10.2.0.0/300"/>
<m:ingress label="-1" origin="untagged"/><m:operation type="none"/></m:mapping>
<m:mapping timestamp="5" router-id="192.0.2.9"/>
<mapping/>

<m:mapping timestamp="5"><m:fec type="vrf" rd="65000:2" loopback="192.0.2.3"/>
<m:ingress label=" 100" origin="platform"/><m:ingress label="7" origin="untagged"/>
<m:operation type="pop"><m:nhlfe next-hop="fec"/></m:operation></m:mapping>
</m:label-mappings>"#;

    #[test]
    fn each_refused_mapping_is_named_as_far_as_it_can_be_read() {
        let router = "192.0.2.1".parse().unwrap();
        let limits = WireLimits::default();
        let found = refused_mappings(TABLE.as_bytes(), router, &limits);
        let line = |it: &Refused| {
            format!("{} line {} {} {}: {}", it.number, it.line, it.fec, it.label, it.cause.name())
        };
        let lines: Vec<String> = found.iter().map(line).collect();
        let expected = [
            "2 line 5 ip:10.2.0.0/300 -1: fec-invalid",
            "3 line 7  : foreign-router",
            "4 line 10 vrf:192.0.2.3,65000:2  100 7: label-range",
            "4 line 10 vrf:192.0.2.3,65000:2  100 7: ingress-invalid",
        ];
        assert_eq!(lines, expected);
        assert!(found[0].detail.contains("found `10.2.0.0/300`"), "{}", found[0].detail);
        assert!(!found[0].detail.contains("mapping 1"), "{}", found[0].detail);
        let mut unit = Unit::new();
        read_document(TABLE.as_bytes(), None, &limits, &mut unit).unwrap();
        let whole: Vec<Cause> = unit.rejected.iter().map(|rejected| rejected.cause).collect();
        assert_eq!(whole, found.iter().map(|refused| refused.cause).collect::<Vec<_>>());
    }

    #[test]
    fn what_a_file_says_stays_on_its_line() {
        assert_eq!(shown("a\u{1b}[2J\nb"), "a?[2J?b");
        assert_eq!(shown(&"x".repeat(200)).chars().count(), SHOWN_MAX + 1);
    }
}
