//! The body of `send`: documents as they are, or entries as `stormdrain table` prints them.
//!
//! In:   lines; the router id and what the document says of the snapshot.
//! Out:  the text of the document.
//! Law:  a line that begins with `<` is sent as it is written.
//! Not:  whether the collector takes it.

use engine::wire::boundary::{Boundary, Found};
use storage::time::Micros;

use super::time::{instant, replaced, seconds};

/// What the root element is to say.
pub(super) struct Root<'c> {
    pub(super) router: Option<String>,
    pub(super) snapshot: Option<&'c str>,
}

/// The document of these lines.
pub(super) fn document(
    lines: &[String],
    root: &Root<'_>,
    start: Micros,
    now: Micros,
) -> Result<String, String> {
    let first = lines.iter().find(|line| !line.trim().is_empty()).map_or("", |line| line.trim());
    if ["<label-mappings", "<?xml", "<!--"].iter().any(|head| first.starts_with(head)) {
        return Ok(replaced(&(lines.join("\n") + "\n"), start, seconds));
    }
    let mut text = String::from("<label-mappings xmlns=\"urn:stormdrain:label-mapping:1\"");
    for (name, value) in [("router-id", root.router.as_deref()), ("snapshot", root.snapshot)] {
        text.push_str(&value.map_or(String::new(), |value| format!(" {name}=\"{value}\"")));
    }
    text.push_str(">\n");
    for line in lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()) {
        if line.starts_with('<') {
            text.push_str(&replaced(line, start, seconds));
        } else {
            text.push_str(&mapping(line, start, now)?);
        }
        text.push('\n');
    }
    text.push_str("</label-mappings>\n");
    Ok(text)
}

/// `24 platform ip:10.1.0.0/16 swap 25@10.0.12.2 3@10.0.13.3*2 since T-60s`
fn mapping(line: &str, start: Micros, now: Micros) -> Result<String, String> {
    let wrong = |what: &str| {
        format!(
            "expected {what} in `in-label origin FEC operation branch… [since T-60s]`: `{line}`"
        )
    };
    let (entry, since) = line.split_once(" since ").unwrap_or((line, ""));
    let time = match since.trim() {
        "" => now,
        word => instant(word, start).ok_or_else(|| wrong("a time such as T-60s"))?,
    };
    let mut words = entry.split_whitespace();
    let mut word = |what| words.next().ok_or_else(|| wrong(what));
    let (label, origin) = (word("an ingress label")?, word("an origin")?);
    let (fec, operation) = (word("a FEC")?, word("an operation")?);
    let fec = fec_attributes(fec).ok_or_else(|| wrong("a FEC"))?;
    let branch = |text: &str| {
        let (stack, hop) = text.split_once('@').ok_or_else(|| wrong("LABELS@NEXT-HOP"))?;
        let (hop, weight) = hop.split_once('*').map_or((hop, None), |(hop, it)| (hop, Some(it)));
        let stack = if stack == "-" { "-1".to_owned() } else { stack.replace('/', " ") };
        let weight = weight.map_or(String::new(), |weight| format!(" weight=\"{weight}\""));
        Ok(format!("<nhlfe label=\"{stack}\" next-hop=\"{hop}\"{weight}/>"))
    };
    let branches: String = words.map(branch).collect::<Result<Vec<_>, String>>()?.concat();
    Ok(format!(
        "<mapping timestamp=\"{}\"><fec {fec}/><ingress label=\"{label}\" origin=\"{origin}\"/>\
         <operation type=\"{operation}\">{branches}</operation></mapping>",
        seconds(time)
    ))
}

fn fec_attributes(text: &str) -> Option<String> {
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    let names: &[&str] = match kind {
        "ip" => &["prefix", "table"],
        "vrf" => &["loopback", "rd", "prefix"],
        "vsi" | "ac" => &["loopback", "pw-id"],
        "unknown" => &[],
        _ => return None,
    };
    let values = rest.split(',').filter(|value| !value.is_empty());
    let attributes = names.iter().zip(values).map(|(name, value)| format!(" {name}=\"{value}\""));
    Some(format!("type=\"{kind}\"{}", attributes.collect::<String>()))
}

/// The documents in a text, each for a frame of its own; a text that cannot be cut is one.
pub(super) fn cut(text: &str) -> Vec<&str> {
    let (mut rest, mut boundary, mut parts) = (text, Boundary::default(), Vec::new());
    loop {
        match boundary.find(rest.as_bytes()) {
            Ok(Found::Skip(length) | Found::Padding(length)) => rest = &rest[length..],
            Ok(Found::Document(length)) => {
                let (part, after) = rest.split_at(length);
                parts.push(part);
                rest = after;
            }
            Ok(Found::More) if rest.is_empty() => return parts,
            Ok(Found::More) | Err(_) => {
                parts.push(rest);
                return parts;
            }
        }
    }
}
