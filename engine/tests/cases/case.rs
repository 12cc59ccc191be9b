//! A case file: what is sent, in order, and what is right to answer (README.md has the notation).
//!
//! In:   the text of one file.
//! Out:  a `Case`; or the line at fault, what was expected there, and what was found.
//! Law:  a word that nobody knows is an error: a misspelt expectation never passes.
//! Not:  sending (`network`), asking (`answer`).

use std::collections::BTreeMap;

/// One file.
#[derive(Debug, Default)]
pub(super) struct Case {
    /// One line of what it shows.
    pub(super) title: String,
    /// One line of what is right, and why.
    pub(super) why: String,
    /// TOML of the settings.
    pub(super) settings: String,
    /// Input modes that it asks for; empty = all that can say it.
    pub(super) modes: Vec<String>,
    /// Not asked again after a restart.
    pub(super) no_restart: bool,
    /// What happens, in order.
    pub(super) steps: Vec<Step>,
    /// What is asked afterwards.
    pub(super) questions: Vec<Question>,
}

/// Something that happens.
#[derive(Debug)]
pub(super) struct Step {
    /// Its line in the file.
    pub(super) line: usize,
    /// What.
    pub(super) verb: Verb,
    /// The router, or the time of `at`.
    pub(super) who: String,
    /// `name=value`, in order.
    pub(super) words: Vec<(String, String)>,
    /// The lines below it.
    pub(super) body: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    At,
    Send,
    Fpm,
    Hex,
    Hello,
    Complete,
    Close,
    Restart,
}

const VERBS: [(&str, Verb); 8] = [
    ("at", Verb::At),
    ("send", Verb::Send),
    ("fpm", Verb::Fpm),
    ("hex", Verb::Hex),
    ("hello", Verb::Hello),
    ("complete", Verb::Complete),
    ("close", Verb::Close),
    ("restart", Verb::Restart),
];

/// One question and its right answer.
#[derive(Debug)]
pub(super) struct Question {
    /// Its line in the file.
    pub(super) line: usize,
    /// The command line, without `stormdrain` and `--data`.
    pub(super) command: String,
    /// What must hold of the answer.
    pub(super) expected: Vec<Expected>,
}

/// What must hold of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// A row has all of these words.
    Has(String),
    /// No row has all of these words.
    Never(String),
    /// So many rows.
    Rows(usize),
    /// The verdict of a trace.
    Verdict(String),
    /// A path of a trace, by names of routers.
    Way(String),
    /// A JSON pointer, and what is there.
    Json(String, String),
    /// The exit code.
    Exit(u8),
    /// A line of the standard error has all of these words.
    Note(String),
}

impl std::fmt::Display for Expected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Expected::Has(words) => write!(f, "has: {words}"),
            Expected::Never(words) => write!(f, "never: {words}"),
            Expected::Rows(count) => write!(f, "rows: {count}"),
            Expected::Verdict(verdict) => write!(f, "verdict: {verdict}"),
            Expected::Way(way) => write!(f, "way: {way}"),
            Expected::Json(pointer, value) => write!(f, "json: {pointer} {value}"),
            Expected::Exit(code) => write!(f, "exit: {code}"),
            Expected::Note(words) => write!(f, "note: {words}"),
        }
    }
}

impl Case {
    /// Reads a file. Errors: `line N: expected …, found …`.
    pub(super) fn read(text: &str) -> Result<Case, String> {
        let mut case = Case::default();
        let mut lines = text.lines().enumerate().peekable();
        while let Some((index, line)) = lines.next() {
            let number = index + 1;
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let mut body = Vec::new();
            while let Some((_, below)) =
                lines.next_if(|(_, below)| below.starts_with("  ") || below.trim().is_empty())
            {
                body.push(below.strip_prefix("  ").unwrap_or_default().to_owned());
            }
            while body.last().is_some_and(|below| below.trim().is_empty()) {
                body.pop();
            }
            case.take(number, line.trim_end(), body)
                .map_err(|fault| format!("line {number}: {fault}"))?;
        }
        for (name, value) in [("title:", &case.title), ("why:", &case.why)] {
            if value.is_empty() {
                return Err(format!("expected a line `{name} …`, found none"));
            }
        }
        if case.questions.is_empty() {
            return Err("expected a line `ask …`, found none".to_owned());
        }
        Ok(case)
    }

    fn take(&mut self, number: usize, line: &str, body: Vec<String>) -> Result<(), String> {
        let value = |name: &str| line.strip_prefix(name).map(|value| value.trim().to_owned());
        if let Some(title) = value("title:") {
            self.title = title;
        } else if let Some(why) = value("why:") {
            self.why = why;
        } else if let Some(modes) = value("modes:") {
            self.modes = modes.split_whitespace().map(str::to_owned).collect();
        } else if line == "no-restart" {
            self.no_restart = true;
        } else if line == "settings:" {
            self.settings.push_str(&(body.join("\n") + "\n"));
        } else if let Some(links) = value("links:") {
            self.settings.push_str(&routers(&links)?);
        } else if let Some(command) = value("ask ") {
            let below = (number + 1..).zip(&body).filter(|(_, below)| !below.trim().is_empty());
            let expected = below
                .map(|(at, below)| expected(below).map_err(|fault| format!("line {at}: {fault}")))
                .collect::<Result<Vec<_>, _>>()?;
            if expected.is_empty() {
                return Err("expected what is right below `ask`, found nothing".to_owned());
            }
            self.questions.push(Question { line: number, command, expected });
        } else {
            self.steps.push(step(number, line, body)?);
        }
        Ok(())
    }
}

/// `[[router]]` for `r1-r2 r2-r3 r4`: of link A-B r1 has 10.0.AB.1 and 2001:db8:AB::1, and so on.
fn routers(links: &str) -> Result<String, String> {
    let wrong = |word: &str| format!("expected r1-r2 or r1 (r1 to r9), found `{word}`");
    let mut addresses = BTreeMap::<u8, Vec<String>>::new();
    for word in links.split_whitespace() {
        let number = |name: &str| {
            let number = name.strip_prefix('r').and_then(|number| number.parse::<u8>().ok());
            number.filter(|number| (1..10).contains(number)).ok_or_else(|| wrong(word))
        };
        let Some((one, other)) = word.split_once('-') else {
            addresses.entry(number(word)?).or_default();
            continue;
        };
        let link = format!("{}{}", number(one)?, number(other)?);
        for end in [number(one)?, number(other)?] {
            let of = addresses.entry(end).or_default();
            of.extend([format!("10.0.{link}.{end}"), format!("2001:db8:{link}::{end}")]);
        }
    }
    let router = |(number, addresses): (&u8, &Vec<String>)| {
        format!(
            "[[router]]\nid = \"192.0.2.{number}\"\nname = \"r{number}\"\n\
             sources = [\"127.0.0.{number}/32\"]\naddresses = {addresses:?}\n"
        )
    };
    Ok(addresses.iter().map(router).collect())
}

fn expected(line: &str) -> Result<Expected, String> {
    let wrong = || {
        let names = "has, never, rows, verdict, way, json, exit or note";
        format!("expected {names}, and a value behind `:`, found `{line}`")
    };
    let (name, value) = line.trim().split_once(':').ok_or_else(wrong)?;
    let value = value.trim();
    let text = value.to_owned();
    Ok(match name {
        _ if value.is_empty() => return Err(wrong()),
        "has" => Expected::Has(text),
        "never" => Expected::Never(text),
        "verdict" => Expected::Verdict(text),
        "way" => Expected::Way(text),
        "note" => Expected::Note(text),
        "rows" => Expected::Rows(value.parse().map_err(|_| wrong())?),
        "exit" => Expected::Exit(value.parse().map_err(|_| wrong())?),
        "json" => {
            let (pointer, value) = value.split_once(' ').ok_or_else(wrong)?;
            Expected::Json(pointer.to_owned(), value.trim().to_owned())
        }
        _ => return Err(wrong()),
    })
}

fn step(number: usize, line: &str, body: Vec<String>) -> Result<Step, String> {
    let line = line.strip_suffix(':').unwrap_or(line);
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or_default();
    let verb = VERBS.iter().find(|(name, _)| *name == first).map(|(_, verb)| *verb);
    let verb = verb.ok_or_else(|| {
        let names: Vec<&str> = VERBS.iter().map(|(name, _)| *name).collect();
        let others = "title, why, modes, no-restart, settings, links, ask";
        format!("expected {others}, {}; found `{first}`", names.join(", "))
    })?;
    let who = words.next().unwrap_or_default().to_owned();
    if who.is_empty() != (verb == Verb::Restart) || who.contains('=') {
        return Err(format!("expected whom or when behind `{first}`, found `{line}`"));
    }
    let pair = |word: &str| {
        let pair = word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        pair.ok_or_else(|| format!("expected name=value, found `{word}`"))
    };
    let words: Vec<(String, String)> = words.map(pair).collect::<Result<_, _>>()?;
    let known: &[&str] = match verb {
        Verb::Send => &["snapshot", "router-id", "from"],
        Verb::Fpm | Verb::Hex => &["from"],
        Verb::Hello => {
            &["from", "clock", "session", "snapshot", "boot-time", "sequence-first", "router-id"]
        }
        _ => &[],
    };
    if let Some((name, _)) = words.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        return Err(format!("expected one of {known:?}, found `{name}`"));
    }
    let has_body = !body.is_empty();
    let wants_body = match verb {
        Verb::Send | Verb::Hello => has_body,
        Verb::Fpm | Verb::Hex => true,
        _ => false,
    };
    if has_body != wants_body {
        return Err(format!("`{first}`: the lines below it are missing, or mean nothing"));
    }
    Ok(Step { line: number, verb, who, words, body })
}

impl Step {
    /// The value of `name=`.
    pub(super) fn word(&self, name: &str) -> Option<&str> {
        self.words.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// The cases of a folder by file name, or why one cannot be read.
pub(super) fn read_folder(folder: &std::path::Path) -> BTreeMap<String, Result<Case, String>> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let cases = files.filter(|path| path.extension().is_some_and(|name| name == "case"));
    let named = cases.map(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, Case::read(&std::fs::read_to_string(&path).unwrap()))
    });
    named.collect()
}
