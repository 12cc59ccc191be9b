//! Files that are no GML and no GraphML, known by how they begin.
//!
//! In:   the bytes of a file.
//! Out:  what it is, where that can be told.
//! Law:  a file that could be a map is never taken for another kind.
//! Not:  what is wrong inside a map (`map/gml`, `map/graphml`).

use super::Fault;

/// What else it is, in words; `None`: it may be a map.
pub(super) fn foreign(bytes: &[u8]) -> Option<&'static str> {
    let begins: [(&[u8], &str); 6] = [
        (b"\x1f\x8b", "gzip: unpack it first"),
        (b"PK\x03\x04", "a zip archive: unpack it first"),
        (b"\xff\xfe", "UTF-16: write it as UTF-8"),
        (b"\xfe\xff", "UTF-16: write it as UTF-8"),
        (b"\x89PNG", "a picture"),
        (b"%PDF", "PDF"),
    ];
    if let Some((_, found)) = begins.iter().find(|(begin, _)| bytes.starts_with(begin)) {
        return Some(found);
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    match text.first() {
        // In GML a list in brackets has a key before it.
        Some(b'{' | b'[') => Some("JSON"),
        Some(b'*') => Some("Pajek's format"),
        _ if bytes.contains(&0) => Some("bytes that are no text"),
        _ => is_dot(text).then_some("the language of Graphviz"),
    }
}

/// `strict`, `graph` or `digraph`, a name perhaps, and a brace where GML has a bracket.
fn is_dot(text: &[u8]) -> bool {
    let begins = [&b"strict"[..], b"graph", b"digraph"];
    let Some(begin) = begins.into_iter().find(|begin| text.starts_with(begin)) else {
        return false;
    };
    let rest = &text[begin.len()..];
    let opens = rest.iter().find(|byte| matches!(byte, b'{' | b'['));
    opens == Some(&b'{')
}

/// The fault of a file that is something else.
pub(super) fn refused(found: &str) -> Fault {
    Fault { line: 1, what: format!("found {found}; GML and GraphML are read") }
}
