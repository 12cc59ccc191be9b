//! Finds where a document ends in a stream of concatenated documents.
//!
//! In:   the bytes since the end of the document before, as far as they have come.
//! Out:  the length of what is to be skipped, or of the document; or that more bytes are needed.
//! Law:  no byte is looked at twice, however the bytes were split on their way.
//! Not:  whether the document is any good (`xml`).

use memchr::{memchr, memchr3, memmem};
use storage::row::Cause;

use super::Rejection;

/// U+FEFF in UTF-8, as some editors begin a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Behind a document senders are known to leave zeros (a text with its terminator, a block filled
/// up), the end of a file of DOS, and the end of a message of NETCONF.
pub const PADDING: [u8; 2] = [0, 0x1a];
const NETCONF_END: &[u8] = b"]]>]]>";

/// What begins where the last unit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Not decided yet.
    More,
    /// So many bytes of white space, byte order mark, or comments between documents.
    Skip(usize),
    /// So many bytes that are no XML and carry nothing, as some senders end what they send.
    Padding(usize),
    /// A document of so many bytes.
    Document(usize),
}

/// Where the scan stands. A few words per session; belongs to one buffer that only grows at its
/// end until a `Skip` or a `Document` is taken from its front.
#[derive(Clone, Debug, Default)]
pub struct Boundary {
    /// Bytes that are done with.
    scanned: usize,
    /// What the byte at `scanned` is part of.
    lexeme: Lexeme,
    /// Open elements.
    depth: usize,
    /// Whether the document has begun: its XML declaration or its root has been seen.
    has_begun: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Lexeme {
    #[default]
    Text,
    /// A start tag; the quote that is open in it, if one is, and whether its last byte was `/`.
    StartTag {
        quote: Option<u8>,
        was_slash: bool,
    },
    EndTag,
    Comment,
    CharacterData,
    Instruction,
}

impl Boundary {
    /// Looks on from where it stood. After `Skip` or `Document` it begins anew, behind them.
    /// Errors: the boundary is lost, for a reason that no later byte can mend.
    pub fn find(&mut self, bytes: &[u8]) -> Result<Found, Rejection> {
        loop {
            if self.depth == 0 && !self.has_begun && self.lexeme == Lexeme::Text {
                let space = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                if space > 0 {
                    return Ok(self.begin_anew(Found::Skip(space)));
                }
                if bytes.starts_with(BYTE_ORDER_MARK) {
                    return Ok(self.begin_anew(Found::Skip(BYTE_ORDER_MARK.len())));
                }
                let padding = bytes.iter().take_while(|byte| PADDING.contains(byte)).count();
                if padding > 0 {
                    return Ok(self.begin_anew(Found::Padding(padding)));
                }
                if bytes.starts_with(NETCONF_END) {
                    return Ok(self.begin_anew(Found::Padding(NETCONF_END.len())));
                }
                if [BYTE_ORDER_MARK, NETCONF_END].iter().any(|known| known.starts_with(bytes)) {
                    return Ok(Found::More);
                }
            }
            let was_begun = self.has_begun;
            let Some(closed) = self.step(bytes)? else { return Ok(Found::More) };
            if closed && self.depth == 0 {
                return Ok(self.begin_anew(Found::Document(self.scanned)));
            }
            let is_aside = !was_begun && !self.has_begun && self.lexeme == Lexeme::Text;
            if is_aside && self.scanned > 0 {
                return Ok(self.begin_anew(Found::Skip(self.scanned)));
            }
        }
    }

    fn begin_anew(&mut self, found: Found) -> Found {
        *self = Boundary::default();
        found
    }

    /// Moves on by one lexeme or to the end of the bytes (`None`). `true` = an element was closed.
    fn step(&mut self, bytes: &[u8]) -> Result<Option<bool>, Rejection> {
        let rest = bytes.get(self.scanned..).unwrap_or_default();
        match self.lexeme {
            Lexeme::Text => self.step_text(rest),
            Lexeme::StartTag { quote, was_slash } => {
                Ok(self.step_start_tag(rest, quote, was_slash))
            }
            Lexeme::EndTag => {
                let Some(length) = memchr(b'>', rest) else {
                    self.scanned = bytes.len();
                    return Ok(None);
                };
                self.scanned += length + 1;
                self.lexeme = Lexeme::Text;
                self.depth -= 1;
                Ok(Some(true))
            }
            Lexeme::Comment => Ok(self.step_to(rest, b"-->")),
            Lexeme::CharacterData => Ok(self.step_to(rest, b"]]>")),
            Lexeme::Instruction => Ok(self.step_to(rest, b"?>")),
        }
    }

    fn step_text(&mut self, rest: &[u8]) -> Result<Option<bool>, Rejection> {
        let length = memchr(b'<', rest).unwrap_or(rest.len());
        let (text, markup) = rest.split_at(length);
        let is_outside = self.depth == 0;
        if is_outside && let Some(at) = text.iter().position(|byte| !byte.is_ascii_whitespace()) {
            return Err(between_documents(self.scanned + at, &text[at..]));
        }
        self.scanned += length;
        let (lexeme, opening) = match markup {
            [] | [b'<'] | [b'<', b'!'] => return Ok(None),
            [b'<', b'?', ..] => {
                // The declaration is the document's; any other instruction may stand between.
                let target = b"<?xml";
                if markup.len() <= target.len() && target.starts_with(markup) {
                    return Ok(None);
                }
                let next = markup.get(target.len()).copied().unwrap_or_default();
                let is_declaration =
                    markup.starts_with(target) && (next.is_ascii_whitespace() || next == b'?');
                self.has_begun |= is_declaration;
                (Lexeme::Instruction, 2)
            }
            [b'<', b'/', ..] if is_outside => {
                return Err(between_documents(self.scanned, markup));
            }
            [b'<', b'/', ..] => (Lexeme::EndTag, 2),
            [b'<', b'!', ..] if b"<!--".starts_with(markup) || b"<![CDATA[".starts_with(markup) => {
                // Exactly the opening or a part of it: what it opens is known only when whole.
                match markup.len() {
                    4 if markup == b"<!--" => (Lexeme::Comment, 4),
                    9 => (Lexeme::CharacterData, 9),
                    _ => return Ok(None),
                }
            }
            markup if markup.starts_with(b"<!--") => (Lexeme::Comment, 4),
            markup if markup.starts_with(b"<![CDATA[") => (Lexeme::CharacterData, 9),
            [b'<', b'!', ..] => {
                let what = "a document type declaration is refused";
                return Err(lost(Cause::XmlDoctype, self.scanned, what));
            }
            _ => {
                self.depth += 1;
                self.has_begun = true;
                (Lexeme::StartTag { quote: None, was_slash: false }, 1)
            }
        };
        self.lexeme = lexeme;
        self.scanned += opening;
        Ok(Some(false))
    }

    fn step_start_tag(&mut self, rest: &[u8], quote: Option<u8>, was_slash: bool) -> Option<bool> {
        let length = match quote {
            Some(quote) => memchr(quote, rest),
            None => memchr3(b'>', b'"', b'\'', rest),
        };
        let Some(length) = length else {
            let was_slash = rest.last().map_or(was_slash, |byte| *byte == b'/');
            self.lexeme = Lexeme::StartTag { quote, was_slash };
            self.scanned += rest.len();
            return None;
        };
        self.scanned += length + 1;
        let found = rest[length];
        if quote.is_some() {
            self.lexeme = Lexeme::StartTag { quote: None, was_slash: false };
            return Some(false);
        }
        if found != b'>' {
            self.lexeme = Lexeme::StartTag { quote: Some(found), was_slash: false };
            return Some(false);
        }
        let is_empty = length.checked_sub(1).map_or(was_slash, |last| rest[last] == b'/');
        self.lexeme = Lexeme::Text;
        self.depth -= usize::from(is_empty);
        Some(is_empty)
    }

    /// To the end of a lexeme that `closing` ends.
    fn step_to(&mut self, rest: &[u8], closing: &[u8]) -> Option<bool> {
        let Some(length) = memmem::find(rest, closing) else {
            // The closing may have begun: its last bytes but one are looked at again.
            self.scanned += rest.len().saturating_sub(closing.len() - 1);
            return None;
        };
        self.scanned += length + closing.len();
        self.lexeme = Lexeme::Text;
        Some(false)
    }
}

/// What stands where only a document may: quoted, as far as it has come.
fn between_documents(at: usize, found: &[u8]) -> Rejection {
    let what = format!("expected a document or the end, found {}", quoted(found));
    lost(Cause::XmlMalformed, at, &what)
}

/// The first of these bytes for a log line: as text where all of them are, as numbers otherwise.
pub fn quoted(bytes: &[u8]) -> String {
    const QUOTED_BYTES_MAX: usize = 24;
    let shown = bytes.get(..bytes.len().min(QUOTED_BYTES_MAX)).unwrap_or_default();
    let more = if shown.len() < bytes.len() { " ..." } else { "" };
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    match std::str::from_utf8(shown) {
        Ok(text) if shown.iter().all(is_text) => format!("`{}`{more}", text.escape_debug()),
        _ => {
            let numbers: Vec<String> = shown.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{}{more}", numbers.join(" "))
        }
    }
}

fn lost(cause: Cause, at: usize, what: &str) -> Rejection {
    Rejection::new(cause, format_args!("byte {at} behind the last document: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths of everything found, with the bytes arriving `step` at a time.
    fn lengths(text: &[u8], step: usize) -> Result<(Vec<Found>, usize), Cause> {
        let mut boundary = Boundary::default();
        let (mut start, mut found, mut end) = (0, Vec::new(), 0);
        while end < text.len() {
            end = text.len().min(end + step);
            loop {
                match boundary.find(&text[start..end]).map_err(|rejection| rejection.cause)? {
                    Found::More => break,
                    Found::Skip(length) | Found::Padding(length) => start += length,
                    Found::Document(length) => {
                        found.push(Found::Document(length));
                        start += length;
                    }
                }
            }
        }
        Ok((found, text.len() - start))
    }

    #[test]
    fn documents_end_where_their_root_ends_however_the_bytes_come() {
        let first =
            b"<?xml version='1.0'?><!-- > --><a b='</a>' c=\">\"><d/><e></e ><![CDATA[</a>]]>\
                      <!-- </a> --><?p </a>?>t</a>";
        let second = b"<a/>";
        let third = b"<a x='/'>/</a>";
        let text = [b"\xef\xbb\xbf \n", &first[..], b"<!-- x --><?y?>\n\n", second, third, b" <a"]
            .concat();
        let expected = [first.len(), second.len(), third.len()].map(Found::Document).to_vec();
        for step in 1..text.len() + 1 {
            assert_eq!(lengths(&text, step), Ok((expected.clone(), 2)), "step {step}");
        }
    }

    #[test]
    fn what_senders_leave_behind_a_document_is_padding_however_the_bytes_come() {
        let padding = [&b"<a/>\0\0\n\x1a"[..], b"\n]]>]]>\0<b/>", b"]]>]]>\n\0\0\0"].concat();
        let expected = [4, 4].map(Found::Document).to_vec();
        for step in 1..padding.len() + 1 {
            assert_eq!(lengths(&padding, step), Ok((expected.clone(), 0)), "step {step}");
        }
        let kinds = |text: &[u8]| Boundary::default().find(text).unwrap();
        assert_eq!(kinds(b"\0\0\x1a\n"), Found::Padding(3));
        assert_eq!(kinds(b"]]>]]>\n"), Found::Padding(6));
        assert_eq!(kinds(b"]]>]"), Found::More);
        // In a document it is none.
        assert_eq!(kinds(b"<a>]]>]]>\0</a>"), Found::Document(14));
    }

    #[test]
    fn what_is_found_between_documents_is_quoted() {
        for (text, word) in [
            (
                &b"rubbish\nand more"[..],
                "byte 0 behind the last document: expected a document or \
                                        the end, found `rubbish\\nand more`",
            ),
            (b"]]>rubbish", "found `]]>rubbish`"),
            (b"</a>", "found `</a>`"),
            (b"\x80\xff", "found 80 ff"),
            (
                b"this is text that is far too long for a line",
                "found `this is text that is far` ...",
            ),
        ] {
            let rejection = Boundary::default().find(text).unwrap_err();
            assert!(rejection.detail.contains(word), "{word}: {}", rejection.detail);
        }
    }

    #[test]
    fn what_no_later_byte_can_mend_is_lost_at_once() {
        for (text, cause) in [
            (&b"<a/>rubbish"[..], Cause::XmlMalformed),
            (b"</a>", Cause::XmlMalformed),
            (b"<!DOCTYPE a>", Cause::XmlDoctype),
            (b"<a><!ENTITY", Cause::XmlDoctype),
        ] {
            for step in 1..text.len() + 1 {
                assert_eq!(lengths(text, step), Err(cause), "step {step}");
            }
        }
    }

    #[test]
    fn no_byte_is_looked_at_twice() {
        // A document of 4 MiB that comes byte by byte would take hours if it were.
        let mut boundary = Boundary::default();
        let text = [&b"<a b='"[..], &vec![b'x'; 4 << 20], b"'>"].concat();
        for end in 1..text.len() {
            assert_eq!(boundary.find(&text[..end]), Ok(Found::More));
            assert!(boundary.scanned >= end.saturating_sub(9));
        }
    }
}
