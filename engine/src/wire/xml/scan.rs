//! The fast reader: one pass over a document in its canonical spelling, extracting as it goes.
//!
//! In:   one whole document.
//! Out:  its mappings in the unit; or `false`, and then `read` has to judge the document.
//! Law:  whatever is not canonical byte for byte, or not right, is left to `read`; none is guessed.
//! Not:  rejections: a document with anything to reject is never finished here.
//!
//! Between two values a document always says the same, so whole literals are compared, each with
//! a few wide loads, and a value ends where its own reader ends. Text is not checked to be UTF-8:
//! nothing but ASCII passes here.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use smallvec::SmallVec;
use storage::mapping::{
    BRANCHES_MAX, Branches, Fec, Ingress, Label, LabelStack, Link, Mapping, Name, NameKind,
    NextHop, Nhlfe, Operation, Origin, RouteDistinguisher, STACK_LABELS_MAX, TimeSource,
};
use storage::time::Micros;

use super::digits::{self, KnownQuads, Seconds};
use super::draft::{EXPANSION_MAX, EXTRA_BYTES_MAX, check};
use super::{NAMESPACE, value};
use crate::wire::{SnapshotMark, Unit, WireLimits};

/// Depth of the canonical spelling: label-mappings, mapping, operation, nhlfe.
const CANONICAL_DEPTH: usize = 4;
/// Attributes of one canonical element: all that an `nhlfe` may have.
const CANONICAL_ATTRIBUTES: usize = 8;

/// The shortest canonical mapping, and the shortest branch.
const MAPPING_BYTES_MIN: usize = b"<mapping timestamp=\"0\"><fec type=\"unknown\"/>\
    <ingress label=\"0\" origin=\"service\"/><operation type=\"none\"/></mapping>"
    .len();
const BRANCH_BYTES_MIN: usize = b"<nhlfe label=\"\" next-hop=\"fec\"/>".len();
// So no document needs to be counted here against the memory that it may become.
const _: () = assert!(size_of::<Mapping>() <= EXPANSION_MAX * MAPPING_BYTES_MIN);
const _: () = assert!(size_of::<Nhlfe>() <= EXPANSION_MAX * BRANCH_BYTES_MIN);

/// Reads the document if all of it is canonical. After `false` the unit holds parts of it.
pub fn scan(text: &[u8], limits: &WireLimits, unit: &mut Unit) -> bool {
    // Limits below the canonical shape, and a document beyond its own, are `read`'s to enforce.
    if limits.xml_depth_max < CANONICAL_DEPTH
        || limits.xml_attributes_max < CANONICAL_ATTRIBUTES
        || limits.inflated_bytes_max < text.len()
    {
        return false;
    }
    let mut hops = unit.hops.take().unwrap_or_else(KnownQuads::new);
    let mut scanner = Scanner { rest: text, seconds: Seconds::new(), hops: &mut hops };
    let is_read = scanner.document(unit).is_some();
    unit.hops = Some(hops);
    is_read
}

/// A mapping of which nothing has been read.
const NOTHING: Mapping = Mapping {
    fec: Fec::Unknown,
    ingress: Ingress::UNTAGGED,
    operation: Operation::None,
    branches: Branches::new_const(),
    event_time: Micros(0),
    time_source: TimeSource::Router,
    extra: None,
};

struct Scanner<'t, 'h> {
    rest: &'t [u8],
    seconds: Seconds,
    /// Next hops.
    hops: &'h mut KnownQuads,
}

impl<'t> Scanner<'t, '_> {
    fn document(&mut self, unit: &mut Unit) -> Option<()> {
        // Optional, and in this one spelling.
        self.eat(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
        self.space();
        self.expect(b"<label-mappings xmlns=\"")?;
        self.rest = self.rest.strip_prefix(NAMESPACE.as_bytes())?;
        self.expect(b"\"")?;
        if self.eat(b" router-id=\"") {
            unit.router = Some(value::router(self.value()?)?);
        }
        if self.eat(b" snapshot=\"") {
            unit.snapshot = snapshot(self.value()?)?;
        }
        self.expect(b">")?;
        while self.eat(b"\n<mapping timestamp=\"") || self.next_mapping() {
            self.mapping(unit.mappings.push_mut(NOTHING))?;
        }
        self.expect(b"</label-mappings>")?;
        self.space();
        self.rest.is_empty().then_some(())
    }

    /// Opens a mapping behind any white space.
    fn next_mapping(&mut self) -> bool {
        self.space();
        self.eat(b"<mapping timestamp=\"")
    }

    /// A mapping behind the opening of its time. Each part is written where it stays.
    #[inline(always)]
    fn mapping(&mut self, mapping: &mut Mapping) -> Option<()> {
        mapping.event_time = self.time()?;
        self.fec(&mut mapping.fec)?;
        mapping.ingress = self.ingress()?;
        let (operation, mut is_open) = self.operation(mapping)?;
        mapping.operation = operation;
        let mut is_plain = true;
        while is_open {
            is_open = self.branch(mapping, &mut is_plain)?;
        }
        if !is_plain || !is_common(mapping) {
            check(mapping.ingress, operation, &mapping.branches).ok()?;
            if operation == Operation::None {
                mapping.branches.clear();
            }
        }
        if !is_plain || mapping.branches.len() > 1 {
            mapping.normalise();
        }
        Some(())
    }

    #[inline(always)]
    fn time(&mut self) -> Option<Micros> {
        if let Some(window) = self.rest.first_chunk()
            && let Some(time) = self.seconds.instant(window)
        {
            self.skip(digits::INSTANT_WINDOW_BYTES);
            return Some(time);
        }
        value::time(self.value()?)
    }

    #[inline(always)]
    fn fec(&mut self, fec: &mut Fec) -> Option<()> {
        if self.eat(b"><fec type=\"ip\" prefix=\"") {
            return self.fec_ip(fec);
        }
        self.expect_spaced(b"><fec type=\"", 1)?;
        if self.eat(b"ip\" prefix=\"") {
            return self.fec_ip(fec);
        }
        *fec = self.fec_other()?;
        Some(())
    }

    #[inline(always)]
    fn fec_ip(&mut self, fec: &mut Fec) -> Option<()> {
        match self.quad_prefix() {
            Some(prefix) => *fec = Fec::Ip { prefix: IpNet::V4(prefix), table: 0 },
            None => *fec = Fec::Ip { prefix: value::prefix(self.value()?)?, table: 0 },
        }
        if !self.rest.starts_with(b"/>") {
            self.fec_ip_more(fec)?;
        }
        Some(())
    }

    /// What a prefix may have besides.
    #[cold]
    fn fec_ip_more(&mut self, fec: &mut Fec) -> Option<()> {
        let Fec::Ip { prefix, .. } = *fec else { return None };
        let table = if self.eat(b" table=\"") { value::number(self.value()?)? } else { 0 };
        let source =
            if self.eat(b" source=\"") { Some(value::prefix(self.value()?)?) } else { None };
        let tos = if self.eat(b" tos=\"") { value::tos(self.value()?)? } else { 0 };
        *fec = Fec::IpFrom { prefix, table, source, tos }.masked();
        Some(())
    }

    fn fec_other(&mut self) -> Option<Fec> {
        if self.eat(b"vrf\" name=\"") {
            let name = Name::new(self.value()?)?;
            let prefix = if self.eat(b" prefix=\"") { Some(self.prefix()?) } else { None };
            return Some(Fec::VrfName { name, prefix });
        }
        if self.eat(b"name\" kind=\"") {
            let kind = NameKind::parse(self.value()?)?;
            self.expect(b" name=\"")?;
            return Some(Fec::Named { kind, name: Name::new(self.value()?)? });
        }
        if self.eat(b"interface\" name=\"") {
            return Some(Fec::Interface { name: Name::new(self.value()?)? });
        }
        if self.eat(b"vrf\" loopback=\"") {
            let loopback = self.address()?;
            self.expect(b" rd=\"")?;
            let rd: RouteDistinguisher = self.value()?.parse().ok()?;
            let prefix = if self.eat(b" prefix=\"") { Some(self.prefix()?) } else { None };
            return Some(Fec::Vrf { loopback, rd, prefix });
        }
        if self.eat(b"vsi\" loopback=\"") {
            let loopback = self.address()?;
            return Some(Fec::Vsi { loopback, pw_id: self.pw_id()? });
        }
        if self.eat(b"ac\" loopback=\"") {
            let loopback = self.address()?;
            return Some(Fec::Ac { loopback, pw_id: self.pw_id()? });
        }
        self.eat(b"unknown\"").then_some(Fec::Unknown)
    }

    #[inline(always)]
    fn pw_id(&mut self) -> Option<u32> {
        self.expect(b" pw-id=\"")?;
        value::number(self.value()?)
    }

    /// From behind the FEC to the type of the operation.
    #[inline(always)]
    fn ingress(&mut self) -> Option<Ingress> {
        self.expect_spaced(b"/><ingress label=\"", 2)?;
        if self.eat(b"-1\" origin=\"untagged\"/><operation type=\"") {
            return Some(Ingress::UNTAGGED);
        }
        let label = if self.eat(b"-1") { None } else { Some(self.label()?) };
        if self.eat(b"\" origin=\"platform\"/><operation type=\"") {
            return Some(Ingress { label, origin: Origin::Platform });
        }
        self.expect(b"\" origin=\"")?;
        let mut origin = value::origin(self.value()?)?;
        if origin == Origin::Platform && self.eat(b" table=\"") {
            origin = Origin::of_table(value::number(self.value()?)?);
        }
        self.expect_spaced(b"/><operation type=\"", 2)?;
        Some(Ingress { label, origin })
    }

    /// The operation's type, and whether a branch was opened; otherwise the mapping is over.
    #[inline(always)]
    fn operation(&mut self, mapping: &mut Mapping) -> Option<(Operation, bool)> {
        if self.eat(b"swap\"><nhlfe label=\"") {
            return Some((Operation::Swap, true));
        }
        if self.eat(b"push\"><nhlfe label=\"") {
            return Some((Operation::Push, true));
        }
        let operation = value::operation(self.value()?)?;
        let is_open = if self.eat(b"/>") {
            self.end(mapping)?;
            false
        } else {
            self.expect(b">")?;
            self.more(mapping)?
        };
        Some((operation, is_open))
    }

    /// One branch behind its opening, and whether another one was opened behind it; otherwise the
    /// mapping is over.
    #[inline(always)]
    fn branch(&mut self, mapping: &mut Mapping, is_plain: &mut bool) -> Option<bool> {
        let stack = self.stack()?;
        match self.hop() {
            Some(address) => {
                *is_plain &= stack.len() <= 1 && address.to_bits() != 0;
                let next_hop = NextHop::Address(IpAddr::V4(address));
                mapping.branches.push(Nhlfe::new(stack, next_hop));
            }
            None => {
                *is_plain = false;
                let next_hop = value::next_hop(self.value()?)?;
                mapping.branches.push(Nhlfe::new(stack, next_hop));
            }
        }
        if self.eat(b"/></operation></mapping>") {
            return Some(false);
        }
        if !self.eat(b"/>") {
            *is_plain = false;
            self.branch_more(mapping.branches.last_mut()?)?;
        }
        self.more(mapping)
    }

    /// What few branches say, and the end of the branch.
    #[cold]
    fn branch_more(&mut self, branch: &mut Nhlfe) -> Option<()> {
        if self.eat(b" weight=\"") {
            branch.weight = Some(value::number(self.value()?)?);
        }
        if self.eat(b" role=\"") {
            branch.role = value::role(self.value()?)?;
        }
        branch.untags = self.eat(b" strip=\"all\"");
        let mut link = Link::default();
        if self.eat(b" interface=\"") {
            link.interface = Some(Name::new(self.value()?)?);
        }
        if self.eat(b" neighbour=\"") {
            link.neighbour = Some(value::router(self.value()?)?);
        }
        if self.eat(b" encapsulation=\"") {
            link.encapsulation = Some(value::encapsulation(self.value()?)?);
        }
        branch.link = (link != Link::default()).then(|| Box::new(link));
        self.expect(b"/>")
    }

    /// Opens another branch, or ends the operation and the mapping.
    #[inline(always)]
    fn more(&mut self, mapping: &mut Mapping) -> Option<bool> {
        self.space();
        if self.eat(b"<nhlfe label=\"") {
            return Some(true);
        }
        self.expect(b"</operation>")?;
        self.end(mapping)?;
        Some(false)
    }

    /// What may stand behind an operation, and the end of the mapping.
    #[inline(always)]
    fn end(&mut self, mapping: &mut Mapping) -> Option<()> {
        self.space();
        if !self.eat(b"</mapping>") {
            (mapping.extra, self.rest) = options(self.rest)?;
        }
        Some(())
    }

    /// The labels of one branch, up to its next hop.
    #[inline(always)]
    fn stack(&mut self) -> Option<LabelStack> {
        if self.eat(b"-1\" next-hop=\"") {
            return Some(LabelStack::new());
        }
        let first = self.label()?;
        let mut stack = SmallVec::from_buf_and_len([first; 3], 1);
        while !self.eat(b"\" next-hop=\"") {
            self.expect(b" ")?;
            stack.push(self.label()?);
            if stack.len() > STACK_LABELS_MAX {
                return None;
            }
        }
        Some(stack)
    }

    #[inline(always)]
    fn label(&mut self) -> Option<Label> {
        let (number, length) = digits::number(self.rest.first_chunk()?)?;
        self.skip(length);
        Label::new(number)
    }

    #[inline(always)]
    fn address(&mut self) -> Option<IpAddr> {
        match self.quad() {
            Some(address) => Some(IpAddr::V4(address)),
            None => value::address(self.value()?),
        }
    }

    /// The dotted quad of a next hop and the quote behind it, or nothing is taken.
    #[inline(always)]
    fn hop(&mut self) -> Option<Ipv4Addr> {
        let (address, length) = self.hops.quoted(self.rest.first_chunk()?)?;
        self.skip(length + 1);
        Some(address)
    }

    /// A dotted quad and the quote behind it, or nothing is taken.
    #[inline(always)]
    fn quad(&mut self) -> Option<Ipv4Addr> {
        let (address, length) = digits::quad(self.rest.first_chunk()?)?;
        (self.rest.get(length) == Some(&b'"')).then(|| self.skip(length + 1))?;
        Some(address)
    }

    #[inline(always)]
    fn prefix(&mut self) -> Option<IpNet> {
        match self.quad_prefix() {
            Some(prefix) => Some(IpNet::V4(prefix)),
            None => value::prefix(self.value()?),
        }
    }

    /// A dotted quad, a length and the quote behind them, or nothing is taken.
    #[inline(always)]
    fn quad_prefix(&mut self) -> Option<Ipv4Net> {
        let (address, quad_bytes) = digits::quad(self.rest.first_chunk()?)?;
        let (digits, length_bytes) = match self.rest.get(quad_bytes..)?.first_chunk()? {
            [b'/', ten, one, b'"'] => ([ten ^ b'0', one ^ b'0'], 4),
            [b'/', one, b'"', _] => ([0, one ^ b'0'], 3),
            _ => return None,
        };
        if digits[0] > 9 || digits[1] > 9 {
            return None;
        }
        let length = digits[0] * 10 + digits[1];
        let mask = u32::MAX.checked_shl(32_u32.checked_sub(u32::from(length))?).unwrap_or(0);
        let masked = Ipv4Addr::from_bits(address.to_bits() & mask);
        self.skip(quad_bytes + length_bytes);
        Ipv4Net::new(masked, length).ok()
    }

    /// Text up to the closing quote, which is consumed too: printable ASCII without markup.
    #[inline(always)]
    fn value(&mut self) -> Option<&'t str> {
        let (text, rest) = quoted(self.rest)?;
        self.rest = rest;
        Some(text)
    }

    #[inline(always)]
    fn space(&mut self) {
        self.rest = trim_space(self.rest);
    }

    /// Whether the literal stands here; then it is taken.
    #[inline(always)]
    fn eat<const N: usize>(&mut self, literal: &[u8; N]) -> bool {
        match self.rest.split_first_chunk::<N>() {
            Some((found, rest)) if is_same(found, literal) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    #[inline(always)]
    fn expect<const N: usize>(&mut self, literal: &[u8; N]) -> Option<()> {
        self.eat(literal).then_some(())
    }

    /// The literal, with or without white space at `gap`.
    #[inline(always)]
    fn expect_spaced<const N: usize>(&mut self, literal: &[u8; N], gap: usize) -> Option<()> {
        if !self.eat(literal) {
            self.rest = spaced(self.rest, literal, gap)?;
        }
        Some(())
    }

    #[inline(always)]
    fn skip(&mut self, length: usize) {
        self.rest = self.rest.get(length..).unwrap_or_default();
    }
}

/// Whether a mapping with plain branches keeps the rules of `check` in the way that nearly all do:
/// a
/// push of what has no label, or a swap.
#[inline(always)]
fn is_common(mapping: &Mapping) -> bool {
    let is_labelled = mapping.ingress.label.is_some();
    let is_untagged = mapping.ingress.origin == Origin::Untagged;
    is_labelled != is_untagged
        && (mapping.operation == Operation::Swap && is_labelled
            || mapping.operation == Operation::Push)
        && (1..=BRANCHES_MAX).contains(&mapping.branches.len())
}

// What is rare takes the rest and gives it back, so that the scanner itself can stay in registers.

/// Whether two literals are the same, in loads of sixteen bytes whatever their length.
#[inline(always)]
fn is_same<const N: usize>(found: &[u8; N], literal: &[u8; N]) -> bool {
    // Longer ones would be compared by a call.
    let at = N.min(32);
    found[..at] == literal[..at] && found[at..] == literal[at..]
}

/// What follows a literal that has white space at `gap`.
#[cold]
fn spaced<'t>(rest: &'t [u8], literal: &[u8], gap: usize) -> Option<&'t [u8]> {
    let (before, behind) = literal.split_at_checked(gap)?;
    trim_space(rest.strip_prefix(before)?).strip_prefix(behind)
}

/// Text up to the closing quote, printable ASCII without markup, and what follows the quote.
fn quoted(rest: &[u8]) -> Option<(&str, &[u8])> {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'<' | b'&');
    let length = rest.iter().position(|byte| !is_plain(*byte))?;
    let (text, behind) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(text).ok()?, behind.strip_prefix(b"\"")?))
}

/// Options, verbatim, and what follows the end of their mapping.
#[cold]
fn options(text: &[u8]) -> Option<(Option<Box<str>>, &[u8])> {
    let mut extra = String::new();
    let mut rest = text;
    while let Some(value) = rest.strip_prefix(b"<option name=\"") {
        let (_, behind) = quoted(value)?;
        let behind = behind.strip_prefix(b">")?;
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !b"<>&]".contains(byte);
        let length = behind.iter().take_while(|byte| is_plain(byte)).count();
        let end = behind.get(length..)?.strip_prefix(b"</option>")?;
        let written = rest.get(..rest.len() - end.len())?;
        extra.push_str(std::str::from_utf8(written).ok()?);
        if extra.len() > EXTRA_BYTES_MAX {
            return None;
        }
        rest = trim_space(end);
    }
    let rest = rest.strip_prefix(b"</mapping>")?;
    Some(((!extra.is_empty()).then(|| extra.into_boxed_str()), rest))
}

/// What follows the white space of XML.
#[inline(always)]
fn trim_space(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = text {
        text = rest;
    }
    text
}

/// What the `snapshot` attribute of the root element says.
pub(super) fn snapshot(text: &str) -> Option<SnapshotMark> {
    match text {
        "part" => Some(SnapshotMark::Part),
        "complete" => Some(SnapshotMark::Whole),
        _ => None,
    }
}
