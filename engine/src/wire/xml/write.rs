//! Writes the label-mappings document in its canonical spelling: what the scanner reads.
//!
//! In:   a router, what the document says of the snapshot, and mappings.
//! Out:  one document, appended to a string: one mapping per line, attributes in one order.
//! Law:  what is written here is read back equal.
//! Not:  frames and compression (`frame`).

use std::fmt::Write;

use storage::mapping::{Fec, Mapping, Name, Nhlfe, Origin, Role, RouterId};
use storage::time::{MICROS_PER_SECOND, Micros};

use super::NAMESPACE;
use crate::wire::SnapshotMark;

/// Appends one document. `router` is left out of the root element when it is `None`.
pub fn write_document<'m>(
    router: Option<RouterId>,
    snapshot: SnapshotMark,
    mappings: impl IntoIterator<Item = &'m Mapping>,
    out: &mut String,
) {
    let mut writer = Writer { out };
    writer.text("<label-mappings xmlns=\"").text(NAMESPACE).text("\"");
    if let Some(router) = router {
        writer.attribute(" router-id", router);
    }
    match snapshot {
        SnapshotMark::None => {}
        SnapshotMark::Part => writer.attribute(" snapshot", "part"),
        SnapshotMark::Whole => writer.attribute(" snapshot", "complete"),
    }
    writer.text(">\n");
    for mapping in mappings {
        writer.mapping(mapping);
    }
    writer.text("</label-mappings>\n");
}

/// Text of an attribute, with the characters that markup needs written as references.
pub fn escape_attribute(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            other => out.push(other),
        }
    }
}

/// An instant as the canonical spelling has it: seconds and six decimals, or RFC 3339 before 1970.
pub fn write_time(time: Micros, out: &mut String) {
    let written = if time.0 >= 0 {
        write!(out, "{}.{:06}", time.0 / MICROS_PER_SECOND, time.0 % MICROS_PER_SECOND)
    } else {
        write!(out, "{time}")
    };
    written.expect("a string takes every text");
}

struct Writer<'o> {
    out: &'o mut String,
}

impl Writer<'_> {
    fn text(&mut self, text: &str) -> &mut Self {
        self.out.push_str(text);
        self
    }

    /// `name` brings the space before it. The value is one of ours: nothing in it needs escaping.
    fn attribute(&mut self, name: &str, value: impl std::fmt::Display) {
        write!(self.out, "{name}=\"{value}\"").expect("a string takes every text");
    }

    fn mapping(&mut self, mapping: &Mapping) {
        self.text("<mapping timestamp=\"");
        write_time(mapping.event_time, self.out);
        self.text("\"><fec");
        self.fec(&mapping.fec);
        self.text("/><ingress");
        match mapping.ingress.label {
            Some(label) => self.attribute(" label", label),
            None => self.attribute(" label", -1),
        }
        match mapping.ingress.origin {
            Origin::Table(table) => {
                self.attribute(" origin", Origin::Platform);
                self.attribute(" table", table);
            }
            origin => self.attribute(" origin", origin),
        }
        self.text("/><operation");
        self.attribute(" type", mapping.operation);
        if mapping.branches.is_empty() {
            self.text("/>");
        } else {
            self.text(">");
            mapping.branches.iter().for_each(|branch| self.branch(branch));
            self.text("</operation>");
        }
        if let Some(extra) = &mapping.extra {
            self.text(extra);
        }
        self.text("</mapping>\n");
    }

    fn fec(&mut self, fec: &Fec) {
        match fec {
            Fec::Ip { prefix, table } => {
                self.attribute(" type", "ip");
                self.attribute(" prefix", prefix);
                if *table != 0 {
                    self.attribute(" table", table);
                }
            }
            Fec::Vrf { loopback, rd, prefix } => {
                self.attribute(" type", "vrf");
                self.attribute(" loopback", loopback);
                self.attribute(" rd", rd);
                if let Some(prefix) = prefix {
                    self.attribute(" prefix", prefix);
                }
            }
            Fec::Vsi { loopback, pw_id } => {
                self.attribute(" type", "vsi");
                self.attribute(" loopback", loopback);
                self.attribute(" pw-id", pw_id);
            }
            Fec::Ac { loopback, pw_id } => {
                self.attribute(" type", "ac");
                self.attribute(" loopback", loopback);
                self.attribute(" pw-id", pw_id);
            }
            Fec::Unknown => self.attribute(" type", "unknown"),
            Fec::IpFrom { prefix, table, source, tos } => {
                self.fec(&Fec::Ip { prefix: *prefix, table: *table });
                if let Some(source) = source {
                    self.attribute(" source", source);
                }
                if *tos != 0 {
                    self.attribute(" tos", tos);
                }
            }
            Fec::VrfName { name, prefix } => {
                self.attribute(" type", "vrf");
                self.name(" name", *name);
                if let Some(prefix) = prefix {
                    self.attribute(" prefix", prefix);
                }
            }
            Fec::Named { kind, name } => {
                self.attribute(" type", "name");
                self.attribute(" kind", kind.name());
                self.name(" name", *name);
            }
            Fec::Interface { name } => {
                self.attribute(" type", "interface");
                self.name(" name", *name);
            }
        }
    }

    fn branch(&mut self, branch: &Nhlfe) {
        self.text("<nhlfe label=\"");
        if branch.stack.is_empty() {
            self.text("-1");
        }
        for (index, label) in branch.stack.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(self.out, "{space}{label}").expect("a string takes every text");
        }
        self.text("\"");
        self.attribute(" next-hop", branch.next_hop);
        if let Some(weight) = branch.weight {
            self.attribute(" weight", weight);
        }
        if branch.role != Role::Primary {
            self.attribute(" role", branch.role.name());
        }
        if branch.untags {
            self.text(" strip=\"all\"");
        }
        if let Some(interface) = branch.interface() {
            self.name(" interface", interface);
        }
        if let Some(neighbour) = branch.neighbour() {
            self.attribute(" neighbour", neighbour);
        }
        if let Some(outer) = branch.encapsulation() {
            self.attribute(" encapsulation", outer.name());
        }
        self.text("/>");
    }

    /// A name is a router's: anything may be in it.
    fn name(&mut self, attribute: &str, name: Name) {
        self.text(attribute);
        self.text("=\"");
        escape_attribute(name.as_str(), self.out);
        self.text("\"");
    }
}
