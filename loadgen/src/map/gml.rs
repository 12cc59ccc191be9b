//! GML: keys and values, a list in brackets (Himsolt, "GML: A portable Graph File Format", 1997).
//!
//! In:   text.
//! Out:  nodes and edges as written, each with its line.
//! Law:  depth is bounded; a value of the wrong kind is a fault, an unknown key is none.
//! Not:  what ids and labels mean together (`map`).

use super::{Fault, Raw, RawEdge, RawNode};

/// Lists inside lists: node graphics need three.
const DEPTH_MAX: usize = 16;

/// Reads a text. Errors: the first fault.
pub(super) fn read(text: &str) -> Result<Raw, Fault> {
    let mut reader = Reader { text, place: 0, line: 1 };
    let pairs = reader.list(0)?;
    let graph = pairs.iter().find(|pair| pair.key.eq_ignore_ascii_case("graph"));
    let graph = graph.ok_or_else(|| fault(1, "expected `graph [`", "none"))?;
    let mut raw = Raw::default();
    for pair in graph.list()? {
        if pair.key.eq_ignore_ascii_case("directed") {
            raw.directed = pair.scalar()? != "0";
        } else if pair.key.eq_ignore_ascii_case("node") {
            raw.nodes.push(node(pair)?);
        } else if pair.key.eq_ignore_ascii_case("edge") {
            raw.edges.push(edge(pair)?);
        }
    }
    Ok(raw)
}

fn node(pair: &Pair<'_>) -> Result<RawNode, Fault> {
    let mut node = RawNode { line: pair.line, ..RawNode::default() };
    for part in pair.list()? {
        match part.key.to_ascii_lowercase().as_str() {
            "id" => node.id = part.scalar()?.to_owned(),
            "label" => node.label = Some(unescaped(part.scalar()?)),
            "latitude" => node.latitude = Some(part.number()?),
            "longitude" => node.longitude = Some(part.number()?),
            "isgroup" => node.is_group = part.scalar()? != "0",
            _ => {}
        }
    }
    if node.id.is_empty() {
        return Err(fault(pair.line, "node: expected an `id`", "none"));
    }
    Ok(node)
}

fn edge(pair: &Pair<'_>) -> Result<RawEdge, Fault> {
    let mut edge = RawEdge { line: pair.line, ..RawEdge::default() };
    for part in pair.list()? {
        match part.key.to_ascii_lowercase().as_str() {
            "source" => edge.source = part.scalar()?.to_owned(),
            "target" => edge.target = part.scalar()?.to_owned(),
            _ => {}
        }
    }
    if edge.source.is_empty() || edge.target.is_empty() {
        return Err(fault(pair.line, "edge: expected `source` and `target`", "fewer"));
    }
    Ok(edge)
}

fn fault(line: u32, expected: &str, found: &str) -> Fault {
    Fault { line, what: format!("{expected}, found {found}") }
}

/// A key and what it stands for.
struct Pair<'a> {
    line: u32,
    key: &'a str,
    value: Value<'a>,
}

enum Value<'a> {
    /// A number, or a text without its quotes.
    Scalar(&'a str),
    List(Vec<Pair<'a>>),
}

impl<'a> Pair<'a> {
    fn list(&self) -> Result<&[Pair<'a>], Fault> {
        match &self.value {
            Value::List(pairs) => Ok(pairs),
            Value::Scalar(text) => {
                Err(fault(self.line, &format!("{}: expected `[`", self.key), text))
            }
        }
    }

    fn scalar(&self) -> Result<&'a str, Fault> {
        match &self.value {
            Value::Scalar(text) => Ok(text),
            Value::List(_) => {
                Err(fault(self.line, &format!("{}: expected a value", self.key), "["))
            }
        }
    }

    fn number(&self) -> Result<f64, Fault> {
        let text = self.scalar()?;
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        let expected = format!("{}: expected a number", self.key);
        number.ok_or_else(|| fault(self.line, &expected, text))
    }
}

struct Reader<'a> {
    text: &'a str,
    place: usize,
    line: u32,
}

impl<'a> Reader<'a> {
    /// Pairs up to the closing bracket, or, outermost, up to the end of the text.
    fn list(&mut self, depth: usize) -> Result<Vec<Pair<'a>>, Fault> {
        if depth > DEPTH_MAX {
            let expected = format!("expected at most {DEPTH_MAX} lists inside each other");
            return Err(fault(self.line, &expected, "one more"));
        }
        let mut pairs = Vec::new();
        loop {
            let Some((key, line)) = self.word()? else {
                match depth {
                    0 => return Ok(pairs),
                    _ => return Err(fault(self.line, "expected `]`", "the end")),
                }
            };
            if key == "]" {
                match depth {
                    0 => return Err(fault(line, "expected a key", "]")),
                    _ => return Ok(pairs),
                }
            }
            if !key.starts_with(|first: char| first.is_alphabetic() || first == '_') {
                return Err(fault(line, "expected a key", key));
            }
            let value = match self.word()? {
                Some(("[", _)) => Value::List(self.list(depth + 1)?),
                None | Some(("]", _)) => {
                    return Err(fault(line, &format!("{key}: expected a value"), "none"));
                }
                Some((word, _)) => match word.strip_prefix('"') {
                    Some(rest) => Value::Scalar(rest.strip_suffix('"').unwrap_or(rest)),
                    None => Value::Scalar(word),
                },
            };
            pairs.push(Pair { line, key, value });
        }
    }

    /// The next word with the line on which it begins: a bracket, a text with its quotes, or
    /// anything up to the next space or bracket. A line that begins with `#` is a comment.
    fn word(&mut self) -> Result<Option<(&'a str, u32)>, Fault> {
        self.skip_space();
        let rest = &self.text[self.place..];
        let line = self.line;
        let Some(first) = rest.chars().next() else { return Ok(None) };
        let length = match first {
            '[' | ']' => 1,
            '"' => match rest[1..].find('"') {
                Some(end) => end + 2,
                None => return Err(fault(line, "expected a closing quote", "the end")),
            },
            _ => {
                let ends = |c: char| c.is_whitespace() || matches!(c, '[' | ']' | '"');
                rest.find(ends).unwrap_or(rest.len())
            }
        };
        let word = &rest[..length];
        self.place += length;
        self.line += newlines(word);
        Ok(Some((word, line)))
    }

    fn skip_space(&mut self) {
        loop {
            let rest = &self.text[self.place..];
            let space = rest.len() - rest.trim_start().len();
            self.line += newlines(&rest[..space]);
            self.place += space;
            let rest = &self.text[self.place..];
            if !rest.starts_with('#') {
                return;
            }
            self.place += rest.find('\n').unwrap_or(rest.len());
        }
    }
}

fn newlines(text: &str) -> u32 {
    u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX)
}

/// The character references that writers of GML use; whatever else stays as it is written.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        plain.push_str(&rest[..start]);
        rest = &rest[start..];
        let reference = rest.find(';').and_then(|end| Some((character(&rest[1..end])?, end)));
        match reference {
            Some((character, end)) => {
                plain.push(character);
                rest = &rest[end + 1..];
            }
            None => {
                plain.push('&');
                rest = &rest[1..];
            }
        }
    }
    plain + rest
}

fn character(reference: &str) -> Option<char> {
    match reference {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = reference.strip_prefix('#')?;
            let number = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(number)
        }
    }
}
