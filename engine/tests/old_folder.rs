//! A folder that version 2 of the log's format wrote, and what was answered of it then.
//!
//! In:   fixtures/log-version-2: a generated network of 24 routers, a link that fails, one state.
//! Out:  the same answers: every field that there was, with its value.
//! Law:  old folders are read for ever.
//! Not:  single blocks of older versions (storage `log::tests::versions`).

use std::path::Path;

use engine::command;
use serde_json::Value;
use storage::time::Micros;

#[test]
fn a_folder_of_the_version_before_answers_as_before() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/log-version-2");
    let data = tempfile::tempdir().unwrap();
    for part in ["log/2026-12-01T13", "log/2026-12-01T14", "state"] {
        std::fs::create_dir_all(data.path().join(part)).unwrap();
        for file in std::fs::read_dir(fixture.join(part)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), data.path().join(part).join(file.file_name())).unwrap();
        }
    }
    std::fs::write(data.path().join("lock"), "").unwrap();
    let now: Micros = "2026-12-01T15:00:00Z".parse().unwrap();
    let questions = std::fs::read_to_string(fixture.join("questions.txt")).unwrap();
    for question in questions.lines() {
        let (name, words) = question.split_once(' ').unwrap();
        let then = std::fs::read_to_string(fixture.join(format!("{name}.json"))).unwrap();
        let place = data.path().display().to_string();
        let line = ["stormdrain"].into_iter().chain(words.split(' '));
        let line = line.chain(["--format", "json", "--data", place.as_str()]);
        let asked = command::parse(line.map(Into::into)).unwrap();
        let (mut output, mut notes) = (Vec::new(), Vec::new());
        command::answer(&asked, now, &mut output, &mut notes);
        let found: Value = serde_json::from_slice(&output).unwrap_or_else(|error| {
            panic!("{question}: {error}: {}", String::from_utf8_lossy(&notes));
        });
        let then: Value = serde_json::from_str(&then).unwrap();
        assert!(then.as_array().is_none_or(|rows| !rows.is_empty()), "{question} says nothing");
        compare(&then, &found, question);
    }
}

/// Fields may have come since; none has gone or changed.
fn compare(then: &Value, now: &Value, place: &str) {
    match (then, now) {
        (Value::Object(then), Value::Object(now)) => {
            for (name, value) in then {
                let found = now.get(name).unwrap_or(&Value::Null);
                compare(value, found, &format!("{place} /{name}"));
            }
        }
        (Value::Array(then), Value::Array(now)) => {
            assert_eq!(then.len(), now.len(), "{place}");
            for (index, (then, now)) in then.iter().zip(now).enumerate() {
                compare(then, now, &format!("{place} /{index}"));
            }
        }
        _ => assert_eq!(then, now, "{place}"),
    }
}
