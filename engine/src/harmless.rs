//! Texts of peers, made fit to be shown: nothing in them moves a cursor or turns a line round.
//!
//! In:   a text that a peer has written: an agent, options, a name, what a message quotes of it.
//! Out:  the same; each character that a terminal or a reader would obey is written as its escape.
//! Law:  what is shown of a peer stays in its line and its cell, and reads in one direction.
//! Not:  the log of the data folder, which keeps texts as they came; JSON for programs (`http`).

use std::borrow::Cow;

/// Whether whoever shows this character obeys it: controls (C0, DEL, C1), separators of lines, and
/// marks that turn the direction of text round (Unicode Bidirectional Algorithm, UAX 9).
pub(crate) fn is_obeyed(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    ) || character.is_control()
}

/// The text with every such character as `\u{9b}`, `\n` and the like.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_obeyed(character) {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

/// The same of several lines whose ends are ours.
pub(crate) fn harmless_lines(text: &str) -> String {
    let lines: Vec<Cow<'_, str>> = text.split('\n').map(harmless).collect();
    lines.join("\n")
}

/// The same of JSON, where a character and its escape are one: programs read what was written.
pub(crate) fn harmless_json(text: &str) -> String {
    let is_outside = |character: char| character != '\n' && is_obeyed(character);
    if !text.contains(is_outside) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_outside(character) {
            // All of them are in the first plane.
            true => shown.push_str(&format!("\\u{:04x}", u32::from(character))),
            false => shown.push(character),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        let text = "a\r\n\u{1b}[2J\u{9b}31m\u{202e}gnp.exe\u{2066}\u{200f}\u{2028}\u{7f}\tb";
        let shown = harmless(text);
        assert!(!shown.contains(is_obeyed), "{shown:?}");
        assert_eq!(
            shown,
            "a\\r\\n\\u{1b}[2J\\u{9b}31m\\u{202e}gnp.exe\\u{2066}\\u{200f}\\u{2028}\\u{7f}\\tb"
        );
        assert!(matches!(harmless("Tä-1 ✓ עברית"), Cow::Borrowed(_)), "letters stay");
        assert_eq!(harmless_lines("a\nb\u{85}c\n"), "a\nb\\u{85}c\n");
    }

    #[test]
    fn json_reads_as_what_was_written() {
        let value = serde_json::json!({ "agent": "a\u{9b}31m\u{202e}b\r\n\u{7f}" });
        let shown = harmless_json(&format!("{value:#}\n"));
        assert!(!shown.replace('\n', "").contains(is_obeyed), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
