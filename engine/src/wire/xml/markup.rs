//! Walks the elements of any XML document and refuses what is not well-formed or too large.
//!
//! In:   one whole document, UTF-8.
//! Out:  every element opened and closed, in order, to a visitor.
//! Law:  what passes here is well-formed XML 1.0 with namespaces, without a document type.
//! Not:  what an element means (`read`, `hello`).

use std::borrow::Cow;

use quick_xml::XmlVersion;
use quick_xml::errors::Error as XmlError;
use quick_xml::escape::EscapeError;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};
use quick_xml::name::{PrefixDeclaration, ResolveResult};
use quick_xml::reader::NsReader;
use smallvec::SmallVec;
use storage::row::Cause;

use super::NAMESPACE;
use crate::wire::{Rejection, WireLimits};

/// The namespace of an element, as far as the protocol cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The protocol's.
    Protocol,
    /// None.
    None,
    /// Another one.
    Other,
}

/// An element that was opened.
#[derive(Debug)]
pub struct Element<'e> {
    /// Its name without prefix.
    pub name: &'e str,
    /// Its namespace.
    pub space: Space,
    /// Byte of the document at which its tag begins.
    pub at: usize,
    /// Its attributes without prefix, references resolved; namespace declarations left out.
    pub attributes: &'e [(&'e str, Cow<'e, str>)],
}

impl Element<'_> {
    /// The value of an attribute without prefix.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(found, _)| *found == name).map(|(_, value)| &**value)
    }
}

/// Is told of every element: the reader of mappings and the reader of hello.
pub trait Visitor {
    /// An element is opened.
    fn open(&mut self, element: &Element<'_>) -> Result<(), Rejection>;
    /// The innermost open element is closed; its last byte is the one before `end`.
    fn close(&mut self, end: usize) -> Result<(), Rejection>;
}

/// Walks the whole document. Errors: the cause, and the byte at which it shows.
pub fn walk(text: &[u8], limits: &WireLimits, visitor: &mut dyn Visitor) -> Result<(), Rejection> {
    let text = std::str::from_utf8(text)
        .map_err(|error| malformed(error.valid_up_to(), "bytes that are no UTF-8"))?;
    // Offsets count from behind the byte order mark; it is no part of the document.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(at) = forbidden_character(text) {
        return Err(malformed(at, "a character that XML does not allow"));
    }
    let mut reader = NsReader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut walk = Walk { text, limits, visitor, depth: 0, roots: 0 };
    loop {
        let at = position(reader.buffer_position());
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => return Err(xml_error(position(reader.error_position()), &error)),
        };
        let end = position(reader.buffer_position());
        if matches!(event, Event::Eof) {
            return walk.finish(at);
        }
        walk.event(&reader, &event, at, end)?;
    }
}

struct Walk<'w> {
    text: &'w str,
    limits: &'w WireLimits,
    visitor: &'w mut dyn Visitor,
    depth: usize,
    roots: usize,
}

impl Walk<'_> {
    fn event(
        &mut self,
        reader: &NsReader<&[u8]>,
        event: &Event<'_>,
        at: usize,
        end: usize,
    ) -> Result<(), Rejection> {
        match event {
            Event::Start(start) => self.open(reader, start, at)?,
            Event::Empty(start) => {
                self.open(reader, start, at)?;
                self.close(end)?;
            }
            Event::End(tag) => {
                // The library compares names and leaves what may follow the name to us.
                let spelt = self.text.get(at + 2..end.saturating_sub(1)).unwrap_or_default();
                if spelt.trim_end_matches(is_space) != tag.name().as_ref() {
                    return Err(malformed(at, "an end tag with more than a name"));
                }
                self.close(end)?;
            }
            Event::Text(text) => self.text(text, at)?,
            Event::CData(_) if self.depth > 0 => {}
            Event::CData(_) => return Err(malformed(at, "text outside the root element")),
            Event::GeneralRef(reference) => self.reference(reference, at)?,
            Event::Comment(_) => {}
            Event::Decl(declaration) => check_declaration(declaration, at)?,
            Event::PI(instruction) => {
                let target = instruction.target();
                if !is_name(target) || target.contains(':') || target.eq_ignore_ascii_case("xml") {
                    return Err(malformed(at, "a processing instruction without a proper target"));
                }
            }
            Event::DocType(_) => {
                let detail = format_args!("byte {at}: a document type declaration is refused");
                return Err(Rejection::new(Cause::XmlDoctype, detail));
            }
            Event::Eof => {}
        }
        Ok(())
    }

    fn open(
        &mut self,
        reader: &NsReader<&[u8]>,
        start: &BytesStart<'_>,
        at: usize,
    ) -> Result<(), Rejection> {
        if self.depth == 0 {
            self.roots += 1;
        }
        if self.roots > 1 {
            return Err(malformed(at, "a second root element"));
        }
        self.depth += 1;
        if self.depth > self.limits.xml_depth_max {
            let most = self.limits.xml_depth_max;
            let detail = format_args!("byte {at}: elements nested deeper than {most}");
            return Err(Rejection::new(Cause::XmlLimit, detail));
        }
        if !is_qualified_name(start.name().as_ref()) {
            return Err(malformed(at, "an element without a proper name"));
        }
        let (resolved, local) = reader.resolver().resolve_element(start.name());
        let space = match resolved {
            ResolveResult::Unbound => Space::None,
            ResolveResult::Bound(namespace) if namespace.as_ref() == NAMESPACE => Space::Protocol,
            ResolveResult::Bound(_) => Space::Other,
            ResolveResult::Unknown(_) => return Err(malformed(at, "a prefix without namespace")),
        };
        let attributes = read_attributes(reader, start, at, self.limits)?;
        let element = Element { name: local.into_inner(), space, at, attributes: &attributes };
        self.visitor.open(&element)
    }

    fn close(&mut self, end: usize) -> Result<(), Rejection> {
        self.depth -= 1;
        self.visitor.close(end)
    }

    fn text(&self, text: &str, at: usize) -> Result<(), Rejection> {
        if self.depth == 0 && text.contains(|character| !is_space(character)) {
            return Err(malformed(at, "text outside the root element"));
        }
        if text.contains("]]>") {
            return Err(malformed(at, "`]]>` in text"));
        }
        Ok(())
    }

    fn reference(&self, reference: &BytesRef<'_>, at: usize) -> Result<(), Rejection> {
        if self.depth == 0 {
            return Err(malformed(at, "a reference outside the root element"));
        }
        match reference.resolve_char_ref() {
            Ok(Some(character)) if is_allowed(character) => Ok(()),
            Ok(None) if is_predefined(reference) => Ok(()),
            Ok(None) if is_name(reference) => Err(unknown_entity(at)),
            Ok(_) | Err(_) => Err(malformed(at, "a reference to no character")),
        }
    }

    fn finish(&self, at: usize) -> Result<(), Rejection> {
        if self.depth > 0 {
            return Err(malformed(at, "the document ends inside an element"));
        }
        if self.roots == 0 {
            return Err(malformed(at, "no root element"));
        }
        Ok(())
    }
}

type Attributes<'e> = SmallVec<[(&'e str, Cow<'e, str>); 6]>;

fn read_attributes<'e>(
    reader: &NsReader<&[u8]>,
    start: &'e BytesStart<'_>,
    at: usize,
    limits: &WireLimits,
) -> Result<Attributes<'e>, Rejection> {
    if !are_attributes_apart(start.attributes_raw()) {
        return Err(malformed(at, "attributes that nothing separates"));
    }
    let mut attributes = Attributes::new();
    let mut qualified: SmallVec<[(&str, &str); 4]> = SmallVec::new();
    for (index, attribute) in start.attributes().enumerate() {
        if index == limits.xml_attributes_max {
            let detail = format_args!("byte {at}: more than {index} attributes");
            return Err(Rejection::new(Cause::XmlLimit, detail));
        }
        let attribute = attribute.map_err(|error| malformed(at, &error.to_string()))?;
        let key = attribute.key;
        if attribute.value.contains('<') || !is_qualified_name(key.as_ref()) {
            return Err(malformed(at, "an attribute without a proper name or value"));
        }
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| xml_error(at, &error))?;
        // What stands in the text itself was looked at before; what a reference gave was not.
        let is_resolved = matches!(value, Cow::Owned(_));
        if is_resolved && value.contains(|character| !is_allowed(character)) {
            return Err(malformed(at, "a reference to no character"));
        }
        if let Some(declaration) = key.as_namespace_binding() {
            let undeclares = matches!(declaration, PrefixDeclaration::Named(_)) && value.is_empty();
            if undeclares {
                return Err(malformed(at, "a prefix that is declared as nothing"));
            }
            continue;
        }
        let (local, prefix) = key.decompose();
        if prefix.is_none() {
            // The value is borrowed from `start`, or owned where references were resolved.
            attributes.push((local.into_inner(), value));
            continue;
        }
        let ResolveResult::Bound(namespace) = reader.resolver().resolve_attribute(key).0 else {
            return Err(malformed(at, "a prefix without namespace"));
        };
        let name = (namespace.into_inner(), local.into_inner());
        if qualified.contains(&name) {
            return Err(malformed(at, "an attribute given twice"));
        }
        qualified.push(name);
    }
    Ok(attributes)
}

/// Whether white space stands between the attributes, which the library does not ask for.
fn are_attributes_apart(raw: &str) -> bool {
    let mut quote = None;
    let mut was_closed = false;
    for byte in raw.bytes() {
        match quote {
            Some(open) if byte == open => {
                quote = None;
                was_closed = true;
            }
            Some(_) => {}
            None if was_closed && !is_space(char::from(byte)) => return false,
            None => {
                was_closed = false;
                if matches!(byte, b'"' | b'\'') {
                    quote = Some(byte);
                }
            }
        }
    }
    true
}

/// What the XML declaration may say: a name, and which values of it are accepted.
type Pseudo = (&'static str, fn(&str) -> bool);

/// XML 1.0 production 23: version, then perhaps encoding, then perhaps standalone; at the very
/// beginning. Every document of the protocol is XML 1.0 in UTF-8.
fn check_declaration(declaration: &BytesDecl<'_>, at: usize) -> Result<(), Rejection> {
    if at != 0 {
        return Err(malformed(at, "an XML declaration that is not at the beginning"));
    }
    let content: &str = declaration;
    let as_tag = BytesStart::from_content(content, content.len().min(3));
    if !are_attributes_apart(as_tag.attributes_raw()) {
        return Err(malformed(at, "an XML declaration that cannot be read"));
    }
    let allowed: [Pseudo; 3] = [
        ("version", |value| value == "1.0"),
        ("encoding", |value| value.eq_ignore_ascii_case("utf-8")),
        ("standalone", |value| matches!(value, "yes" | "no")),
    ];
    let mut due = 0;
    for attribute in as_tag.attributes() {
        let attribute = attribute.map_err(|error| malformed(at, &error.to_string()))?;
        let key = attribute.key;
        let place = allowed[due..].iter().position(|(name, _)| *name == key.as_ref());
        // The version comes first and cannot be left out.
        let place = place.filter(|place| due > 0 || *place == 0).map(|place| place + due);
        let is_allowed = place.is_some_and(|place| (allowed[place].1)(&attribute.value));
        let Some(place) = place.filter(|_| is_allowed) else {
            let expected = "expected an XML declaration of version 1.0, UTF-8, in this order";
            let found = format!("{}=\"{}\"", key.as_ref(), attribute.value);
            return Err(malformed(at, &format!("{expected}, found {found}")));
        };
        due = place + 1;
    }
    if due == 0 { Err(malformed(at, "an XML declaration without version")) } else { Ok(()) }
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn malformed(at: usize, what: &str) -> Rejection {
    Rejection::new(Cause::XmlMalformed, format_args!("byte {at}: {what}"))
}

fn unknown_entity(at: usize) -> Rejection {
    let detail = format_args!("byte {at}: an entity beyond the five of XML is refused");
    Rejection::new(Cause::XmlDoctype, detail)
}

fn xml_error(at: usize, error: &XmlError) -> Rejection {
    match error {
        XmlError::Escape(EscapeError::UnrecognizedEntity(..)) => unknown_entity(at),
        XmlError::Namespace(_) => malformed(at, &format!("namespaces: {error}")),
        error => malformed(at, &error.to_string()),
    }
}

fn is_predefined(name: &str) -> bool {
    matches!(name, "lt" | "gt" | "amp" | "apos" | "quot")
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

/// XML 1.0 production 2.
fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// Where a character stands that is not `is_allowed`: a control, or U+FFFE or U+FFFF (`ef bf be`).
fn forbidden_character(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let is_suspect = |byte: u8| byte == 0xef || (byte < b' ' && !is_space(char::from(byte)));
    let mut at = 0;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| is_suspect(*byte))?;
        match *bytes.get(at..)? {
            [0xef, second, third, ..] if second != 0xbf || third < 0xbe => at += 3,
            _ => return Some(at),
        }
    }
}

/// A name, or two of them around one colon (Namespaces in XML 1.0, production 7).
fn is_qualified_name(name: &str) -> bool {
    match name.split_once(':') {
        Some((prefix, local)) => is_name(prefix) && is_name(local),
        None => is_name(name),
    }
}

/// XML 1.0 (fifth edition) production 5, without the colon.
fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(is_name_start) && characters.all(is_name_character)
}

fn is_name_start(character: char) -> bool {
    matches!(character,
        'A'..='Z' | '_' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}'
        | '\u{f8}'..='\u{2ff}' | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}'
        | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}'
        | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}'
        | '\u{10000}'..='\u{effff}')
}

fn is_name_character(character: char) -> bool {
    is_name_start(character)
        || matches!(character,
            '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}
