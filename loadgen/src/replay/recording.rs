//! What was recorded: the bytes of a session, and what happened when.
//!
//! In:   a file of bytes, the index of its times beside it; lists of phases.
//! Out:  `Recording`, `Phase`.
//! Law:  every byte of the file is in exactly one step, in order, whatever the index leaves out.
//! Not:  sending it (`session`).

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use storage::time::Micros;

use super::ReplayError;

/// One recorded session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Its file.
    pub path: PathBuf,
    /// Every byte that was sent.
    pub bytes: Vec<u8>,
    /// What happened when, in order.
    pub steps: Vec<Step>,
}

/// One thing that a recorded session did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When, on the recorder's clock.
    pub time: Micros,
    /// What.
    pub action: Action,
}

/// What a recorded session did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Opened its connection.
    Open,
    /// Sent these bytes of the file.
    Send(std::ops::Range<usize>),
    /// Closed its connection.
    Close,
}

/// A named part of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// When it began, on the recorder's clock.
    pub start: Micros,
}

#[derive(Deserialize)]
struct IndexLine {
    t: f64,
    ev: Option<String>,
    off: Option<usize>,
    n: Option<usize>,
}

impl Recording {
    /// Reads a recording, and its index if there is one beside it: the same name, ending `.idx`.
    pub fn read(path: &Path) -> Result<Recording, ReplayError> {
        let error = |path: &Path, source| ReplayError::Read { path: path.to_owned(), source };
        let bytes = std::fs::read(path).map_err(|source| error(path, source))?;
        let index = path.with_extension("idx");
        let steps = match std::fs::read_to_string(&index) {
            Ok(text) => steps(&index, &text, bytes.len())?,
            Err(source) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(error(&index, source)),
        };
        Ok(Recording { path: path.to_owned(), steps: complete(steps, bytes.len()), bytes })
    }
}

/// What the lines of an index say. Offsets run on from line to line and end within the file.
fn steps(path: &Path, text: &str, length: usize) -> Result<Vec<Step>, ReplayError> {
    let mut steps = Vec::new();
    let mut offset = 0;
    for (number, line) in text.lines().enumerate() {
        let wrong = |expected| {
            let (path, found) = (path.to_owned(), line.to_owned());
            ReplayError::Line { path, line: number + 1, expected, found }
        };
        let entry: IndexLine =
            serde_json::from_str(line).map_err(|_| wrong("a JSON object with t, off and n"))?;
        let time = seconds(entry.t).ok_or_else(|| wrong("t in seconds"))?;
        let action = match (entry.ev.as_deref(), entry.off, entry.n) {
            (Some("open"), _, _) => Action::Open,
            (Some("close"), _, _) => Action::Close,
            (None, Some(at), Some(count)) if at == offset && count <= length - offset => {
                offset += count;
                Action::Send(at..offset)
            }
            _ => return Err(wrong("open, close, or bytes that follow the line before")),
        };
        steps.push(Step { time, action });
    }
    Ok(steps)
}

/// Whatever the index leaves out, at the times of its neighbours: an open, the rest, a close.
fn complete(mut steps: Vec<Step>, length: usize) -> Vec<Step> {
    let first = steps.first().map_or(Micros(0), |step| step.time);
    let last = steps.last().map_or(first, |step| step.time);
    if steps.first().is_none_or(|step| step.action != Action::Open) {
        steps.insert(0, Step { time: first, action: Action::Open });
    }
    let closed = steps.pop_if(|step| step.action == Action::Close);
    let sent = |step: &Step| match &step.action {
        Action::Send(range) => Some(range.end),
        Action::Open | Action::Close => None,
    };
    let end = steps.iter().rev().find_map(sent).unwrap_or(0);
    if end < length {
        steps.push(Step { time: last, action: Action::Send(end..length) });
    }
    steps.push(closed.unwrap_or(Step { time: last, action: Action::Close }));
    steps
}

/// Reads a list of phases: one `name seconds` per line, in the order of their times.
pub fn read_phases(path: &Path) -> Result<Vec<Phase>, ReplayError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ReplayError::Read { path: path.to_owned(), source })?;
    let mut phases: Vec<Phase> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parsed = line.split_once(char::is_whitespace).and_then(|(name, time)| {
            let start = seconds(time.trim().parse().ok()?)?;
            let in_order = phases.last().is_none_or(|before| before.start <= start);
            in_order.then(|| Phase { name: name.to_owned(), start })
        });
        phases.push(parsed.ok_or_else(|| ReplayError::Line {
            path: path.to_owned(),
            line: number + 1,
            expected: "a name and its time in seconds, not before the line above",
            found: line.to_owned(),
        })?);
    }
    Ok(phases)
}

fn seconds(value: f64) -> Option<Micros> {
    let micros = value * 1e6;
    (micros.is_finite() && micros.abs() < Micros::MAX.0 as f64).then_some(Micros(micros as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(seconds: i64) -> Micros {
        Micros(seconds * 1_000_000)
    }

    #[test]
    fn an_index_that_is_missing_or_short_leaves_no_byte_out() {
        let step = |time, action| Step { time: micros(time), action };
        let bare = complete(Vec::new(), 5);
        let all = vec![step(0, Action::Open), step(0, Action::Send(0..5)), step(0, Action::Close)];
        assert_eq!(bare, all);
        let text =
            "{\"t\": 7.0, \"ev\": \"open\", \"off\": 0}\n{\"t\": 8.0, \"off\": 0, \"n\": 3}\n";
        let steps = steps(Path::new("x.idx"), text, 5).unwrap();
        let expected = vec![
            step(7, Action::Open),
            step(8, Action::Send(0..3)),
            step(8, Action::Send(3..5)),
            step(8, Action::Close),
        ];
        assert_eq!(complete(steps, 5), expected);
    }

    #[test]
    fn an_index_that_contradicts_its_file_is_refused_by_line() {
        for text in ["{\"t\": 1, \"off\": 0, \"n\": 6}", "{\"t\": 1, \"off\": 1, \"n\": 1}", "x"] {
            let error = steps(Path::new("x.idx"), text, 5).unwrap_err();
            assert!(matches!(error, ReplayError::Line { line: 1, .. }), "{error}");
        }
    }
}
