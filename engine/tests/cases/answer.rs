//! Asks the questions of a case everywhere, and holds each answer against what is right.
//!
//! In:   a question; a data folder with a collector on it.
//! Out:  nothing, or for each place where the answer is wrong: the place, expected, found.
//! Law:  the command line as a table and as JSON, and the JSON interface, must all be right.
//! Not:  what has been sent (`network`).

use engine::command;
use serde_json::Value;
use storage::time::Micros;

use super::case::{Expected, Question};
use super::network::Network;
use super::time::replaced;

/// An answer, whatever it was asked of.
struct Answer {
    place: &'static str,
    rows: Vec<String>,
    count: usize,
    json: Option<Value>,
    verdict: Option<String>,
    code: Option<u8>,
    notes: Option<String>,
    text: String,
}

/// Asks everywhere. `at` = the instant that counts as now, where it is not the clock's any more.
pub(super) fn check(network: &Network, question: &Question, at: Option<Micros>) -> Vec<String> {
    let rfc = |time: Micros| time.to_string();
    let command = replaced(&question.command, network.start, rfc);
    let words: Vec<&str> = command.split_whitespace().collect();
    let words = pinned(words.into_iter().map(str::to_owned).collect(), at);
    let mut answers = vec![ask(network, &words, false), ask(network, &words, true)];
    answers.extend(ask_http(network, &words));
    let mut faults = Vec::new();
    for answer in &answers {
        for expected in &question.expected {
            let expected = match expected {
                Expected::Has(words) => Expected::Has(replaced(words, network.start, rfc)),
                Expected::Never(words) => Expected::Never(replaced(words, network.start, rfc)),
                Expected::Json(pointer, value) => {
                    Expected::Json(pointer.clone(), replaced(value, network.start, rfc))
                }
                expected => expected.clone(),
            };
            if !answer.fits(&expected) {
                let (place, found) = (answer.place, answer.found(&expected));
                faults.push(format!("asked {place}\n    expected {expected}\n    found {found}"));
            }
        }
    }
    faults
}

/// The question as of an instant: after a restart it is about the time before it.
fn pinned(mut words: Vec<String>, at: Option<Micros>) -> Vec<String> {
    let Some(at) = at else { return words };
    let flag = match words.first().map(String::as_str) {
        Some("history") => "--until",
        Some("table" | "trace" | "routers") => "--at",
        _ => return words,
    };
    if !words.iter().any(|word| word == flag) {
        words.extend([flag.to_owned(), at.to_string()]);
    }
    words
}

fn ask(network: &Network, words: &[String], as_json: bool) -> Answer {
    let mut line = vec!["stormdrain".to_owned()];
    line.extend_from_slice(words);
    let data = network.data().display().to_string();
    line.extend(["--data".to_owned(), data]);
    if as_json {
        line.extend(["--format".to_owned(), "json".to_owned()]);
    }
    let (mut output, mut notes) = (Vec::new(), Vec::new());
    let code = match command::parse(line.iter().map(Into::into)) {
        Ok(command) => command::answer(&command, network.now(), &mut output, &mut notes),
        Err(error) => {
            notes.extend_from_slice(error.to_string().as_bytes());
            u8::try_from(error.exit_code()).unwrap_or(u8::MAX)
        }
    };
    let (text, notes) = (String::from_utf8(output).unwrap(), String::from_utf8(notes).unwrap());
    let place = if as_json { "the command line for JSON" } else { "the command line for a table" };
    let is_trace = words.first().is_some_and(|word| word == "trace");
    let mut answer = match serde_json::from_str(&text) {
        Ok(value) if as_json => Answer::of_json(place, value, text),
        _ => Answer::of_text(place, text, is_trace),
    };
    answer.code = Some(code);
    answer.notes = Some(notes);
    answer
}

/// The same question over HTTP, where HTTP has it.
fn ask_http(network: &Network, words: &[String]) -> Option<Answer> {
    let path = match words.first().map(String::as_str)? {
        "trace" => "/api/v1/trace",
        "routers" => "/api/v1/routers",
        "history" => "/api/v1/history",
        _ => return None,
    };
    let mut asked: Vec<String> = Vec::new();
    let mut words = words.get(1..)?.iter().peekable();
    while let Some(word) = words.next() {
        let name = word.trim_start_matches('-').replace('-', "_");
        // A flag has no value, and is yes.
        let value = words.next_if(|word| !word.starts_with("--"));
        let value = value.map_or("true", String::as_str).replace('+', "%2B");
        asked.push(format!("{name}={value}"));
    }
    let (status, body) = network.page(&format!("{path}?{}", asked.join("&")));
    let mut value: Value = serde_json::from_str(&body).unwrap_or(Value::String(body.clone()));
    if status != 200 {
        // What is refused is refused here too; the words stand beside the answer.
        let mut answer = Answer::of_text("HTTP", String::new(), false);
        answer.notes = Some(body);
        return Some(answer);
    }
    if path.ends_with("trace") {
        value.as_object_mut()?.retain(|name, _| name != "tree" && name != "drawing");
    } else {
        value = value[if path.ends_with("routers") { "routers" } else { "rows" }].take();
    }
    Some(Answer::of_json("HTTP", value, body))
}

impl Answer {
    fn of_text(place: &'static str, text: String, is_trace: bool) -> Answer {
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        let rows: Vec<String> = lines.skip(usize::from(!is_trace)).collect();
        let head = text.lines().next().and_then(|line| line.rsplit_once(": "));
        let verdict = head.filter(|_| is_trace).map(|(_, verdict)| verdict.to_owned());
        let (count, code, notes) = (rows.len(), None, None);
        Answer { place, rows, count, json: None, verdict, code, notes, text }
    }

    /// Rows are the elements of a list; of a trace its steps, its paths and its verdict.
    fn of_json(place: &'static str, value: Value, text: String) -> Answer {
        let mut rows = Vec::new();
        let lists = [&value, &value["paths"], &value["steps"], &value["hints"]];
        for item in lists.into_iter().filter_map(Value::as_array).flatten() {
            let mut words = Vec::new();
            flatten(item, &mut words);
            rows.push(words.join(" "));
        }
        let count = value.as_array().map_or(0, Vec::len);
        let verdict = value["verdict"].as_str().map(str::to_owned);
        rows.extend(verdict.clone());
        let (code, notes) = (None, None);
        Answer { place, rows, count, json: Some(value), verdict, code, notes, text }
    }

    fn fits(&self, expected: &Expected) -> bool {
        match expected {
            Expected::Has(words) => self.rows.iter().any(|row| has_words(row, words)),
            Expected::Never(words) => !self.rows.iter().any(|row| has_words(row, words)),
            Expected::Rows(count) => self.count == *count,
            Expected::Verdict(verdicts) => {
                let found = self.verdict.as_deref().unwrap_or_default();
                verdicts.split('|').any(|verdict| verdict.trim() == found)
            }
            Expected::Way(way) => self.json.is_none() || self.ways().contains(way),
            Expected::Json(pointer, value) => {
                let Some(json) = &self.json else { return true };
                let found = json.pointer(pointer).map(plain).unwrap_or_default();
                found == *value
            }
            Expected::Exit(code) => self.code.is_none_or(|found| found == *code),
            Expected::Note(words) => {
                let Some(notes) = &self.notes else { return true };
                notes.lines().any(|line| has_words(line, words))
            }
        }
    }

    fn found(&self, expected: &Expected) -> String {
        let whole = || format!("{}\n{}", self.text, self.notes.as_deref().unwrap_or_default());
        match expected {
            Expected::Rows(_) => format!("{} rows:\n{}", self.count, whole()),
            Expected::Exit(_) => format!("{:?}:\n{}", self.code, whole()),
            Expected::Way(_) => format!("{:?}", self.ways()),
            Expected::Json(pointer, _) => {
                let found = self.json.as_ref().and_then(|json| json.pointer(pointer));
                format!("{found:?} in\n{}", self.text)
            }
            _ => whole(),
        }
    }

    /// Every path of a trace as the names of its routers.
    fn ways(&self) -> Vec<String> {
        let paths = self.json.as_ref().and_then(|json| json["paths"].as_array());
        let name = |hop: &Value| hop["name"].as_str().unwrap_or_default().to_owned();
        let way = |path: &Value| {
            let hops = path["hops"].as_array().map(|hops| hops.iter().map(name).collect());
            hops.map_or(String::new(), |hops: Vec<String>| hops.join(" "))
        };
        paths.map(|paths| paths.iter().map(way).collect()).unwrap_or_default()
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn flatten(value: &Value, words: &mut Vec<String>) {
    match value {
        Value::Null => {}
        Value::Array(items) => items.iter().for_each(|item| flatten(item, words)),
        Value::Object(fields) => fields.values().for_each(|field| flatten(field, words)),
        value => words.push(plain(value)),
    }
}

/// Whether every word stands in the row, with no letter or digit touching it; `"two words"` is one.
fn has_words(row: &str, words: &str) -> bool {
    let touches = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
    let stands = |word: &str| {
        row.match_indices(word).any(|(at, _)| {
            let before = row[..at].chars().next_back();
            let after = row[at + word.len()..].chars().next();
            !touches(before) && !touches(after)
        })
    };
    // Every second part stood between quotes.
    words.split('"').enumerate().all(|(index, part)| match index % 2 {
        0 => part.split_whitespace().all(stands),
        _ => stands(part),
    })
}

#[test]
fn words_are_found_where_they_stand_alone() {
    assert!(has_words("r1 ip:10.1.0.0/16 push 24@10.0.0.2 known", "known ip:10.1.0.0/16"));
    assert!(!has_words("misdelivered at r1", "delivered"));
    assert!(!has_words("ip:10.1.0.0/16", "ip:10.1.0.0/1"));
    assert!(!has_words("24@10.0.0.25", "24@10.0.0.2"));
    assert!(has_words("r1 ilm 24 platform swap 35", "35 \"ilm 24\" r1"));
    assert!(!has_words("r1 ilm 24 platform swap 35", "\"ilm 35\""));
}
