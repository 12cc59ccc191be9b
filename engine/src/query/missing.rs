//! What is missing from an answer: places of the log whose rows could not be read.
//!
//! In:   what reading met.
//! Out:  one value per place, for every format alike: file, byte, from when on, in words.
//! Law:  an answer that lacks rows says so wherever it is read: people and programs alike.
//! Not:  what the rows that are left can vouch for (`storage::history`), finding damage (`log`).

use std::path::Path;

use serde::{Deserialize, Serialize};
use storage::log::{Corruption, layout};
use storage::time::Hour;
use utoipa::ToSchema;

/// Places that an answer lists; the words say how many there are.
const PLACES_MAX: usize = 64;

/// A place of the log whose rows cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RowsMissing {
    /// The file.
    pub file: String,
    /// Where in it the damage begins.
    pub byte: u64,
    /// What is missing was read in the hour that begins then; none where the file does not say.
    pub since: Option<String>,
    /// What was expected there, and what was found.
    pub detail: String,
}

impl RowsMissing {
    /// The places that lack rows. A state that cannot be believed is none: an older one, or the
    /// log itself, stands in for it.
    pub(crate) fn of(damages: &[Corruption]) -> Vec<RowsMissing> {
        let lacking = damages.iter().filter(|damage| !is_of_state(&damage.path));
        lacking.take(PLACES_MAX).map(RowsMissing::at).collect()
    }

    pub(crate) fn at(damage: &Corruption) -> RowsMissing {
        let folder = damage.path.parent().and_then(Path::file_name);
        let hour: Option<Hour> =
            folder.and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        RowsMissing {
            file: damage.path.display().to_string(),
            byte: damage.offset,
            since: hour.map(|hour| hour.start().to_string()),
            detail: format!("expected {}, found {}", damage.expected, damage.found),
        }
    }
}

/// Whether this is a state file, which no row is missing with.
pub(crate) fn is_of_state(path: &Path) -> bool {
    path.parent().and_then(Path::file_name).is_some_and(|name| name == layout::STATE_FOLDER)
}

/// What is missing in one line: how many places, and the first of them.
pub(crate) fn missing_text(places: &[RowsMissing]) -> Option<String> {
    let first = places.first()?;
    let since = places.iter().filter_map(|place| place.since.as_deref()).min();
    let since = since.map_or(String::new(), |since| format!(", the earliest read in {since}"));
    let count = match places.len() {
        PLACES_MAX => format!("{PLACES_MAX} places or more"),
        1 => "1 place".to_owned(),
        count => format!("{count} places"),
    };
    let (file, byte) = (&first.file, first.byte);
    Some(format!(
        "rows are missing from this answer: {count}{since}; the first is {file} at byte {byte}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(path: &str) -> Corruption {
        let (expected, found) = ("a block".to_owned(), "noise".to_owned());
        Corruption { path: path.into(), offset: 7, expected, found }
    }

    #[test]
    fn a_place_says_its_hour_and_a_state_is_none() {
        let damages = [
            damage("/d/log/2026-11-22T04/shard-0.log"),
            damage("/d/state/2026-11-22T04-1.state"),
            damage("/d/log/elsewhere/shard-0.log"),
        ];
        let places = RowsMissing::of(&damages);
        let sinces: Vec<Option<&str>> = places.iter().map(|it| it.since.as_deref()).collect();
        assert_eq!(sinces, [Some("2026-11-22T04:00:00.000000Z"), None]);
        let text = missing_text(&places).unwrap();
        assert!(text.contains("2 places, the earliest read in 2026-11-22T04:00:00"), "{text}");
        assert!(text.ends_with("shard-0.log at byte 7"), "{text}");
        assert_eq!(missing_text(&[]), None);
    }
}
