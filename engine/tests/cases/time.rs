//! Times of a case: `T` is its beginning, `T-60s` a minute before.
//!
//! In:   text with such words in it, and what the wall clock said at the beginning.
//! Out:  the text with instants in their place, as whoever reads it wants them.
//! Law:  a word counts only if it stands alone: no letter or digit touches it.
//! Not:  moving the clock (`network`).

use engine::query::parse_length_us;
use storage::time::Micros;

/// The instant that a word means, if it means one.
pub(super) fn instant(word: &str, start: Micros) -> Option<Micros> {
    let rest = word.strip_prefix('T')?;
    let (sign, length) = match rest.split_at_checked(1) {
        None => return Some(start),
        Some(("+", length)) => (1, length),
        Some(("-", length)) => (-1, length),
        Some(_) => return None,
    };
    Some(start.offset(sign * parse_length_us(length)?))
}

/// The text with every such word replaced.
pub(super) fn replaced(text: &str, start: Micros, write: impl Fn(Micros) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(next) = rest.chars().next() {
        let touches = |character: char| character.is_alphanumeric() || "-_+:.".contains(character);
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '+' && c != '-');
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        let follows = after.chars().next().unwrap_or(' ');
        let alone = next == 'T' && !touches(before) && !touches(follows);
        match instant(word, start).filter(|_| alone) {
            Some(time) => {
                out.push_str(&write(time));
                rest = after;
                before = ' ';
            }
            None => {
                out.push(next);
                before = next;
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    out
}

/// As `timestamp` has it.
pub(super) fn seconds(time: Micros) -> String {
    let mut text = String::new();
    engine::wire::xml::write::write_time(time, &mut text);
    text
}

#[test]
fn times_are_replaced_where_they_stand_alone() {
    let start = Micros(1_000_000_000);
    let replaced = |text| replaced(text, start, seconds);
    assert_eq!(
        replaced("a T-1s \"T\" T+250ms."),
        "a T-1s \"1000.000000\" T+250ms.".replace("T-1s", "999.000000")
    );
    assert_eq!(replaced("timestamp=\"T-60s\""), "timestamp=\"940.000000\"");
    assert_eq!(
        replaced("xT-1s T1 2026-01-01T00:00:00Z AT T-"),
        "xT-1s T1 2026-01-01T00:00:00Z AT T-"
    );
}
