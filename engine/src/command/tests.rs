//! Tests of the command line: formats, exit codes, messages, and the cheat sheet.

use std::path::Path;

use serde_json::Value;

use super::*;
use crate::query::sample;
use crate::settings::Settings;

struct Ran {
    output: String,
    notes: String,
    code: u8,
}

fn words(line: &str) -> Vec<OsString> {
    std::iter::once("stormdrain").chain(line.split_whitespace()).map(OsString::from).collect()
}

/// Runs a line as if now were `sample::NOW`; `D` is the data folder.
fn run(data: &Path, line: &str) -> Ran {
    let mut words = words(line);
    for word in &mut words {
        if word == "D" {
            *word = data.into();
        }
    }
    let (mut output, mut notes) = (Vec::new(), Vec::new());
    let code = match parse(words) {
        Ok(Command::Run(arguments)) => {
            let settings = Settings::layered(None, &|_| None, &arguments.flags());
            write!(output, "{}", settings.unwrap().effective()).unwrap();
            EXIT_DONE
        }
        Ok(command) => answer(&command, sample::NOW, &mut output, &mut notes),
        Err(error) => {
            write!(notes, "{error}").unwrap();
            u8::try_from(error.exit_code()).unwrap()
        }
    };
    let text = |bytes: Vec<u8>| {
        String::from_utf8(bytes).unwrap().replace(&data.display().to_string(), "D")
    };
    Ran { output: text(output), notes: text(notes), code }
}

const QUESTIONS: [&str; 12] = [
    "routers --data D",
    "table --data D --router pe1",
    "table --data D --router all --at -25m",
    "history --data D --router pe1",
    "history --data D --router p2 --fec ip:192.0.2.3/32",
    "trace --data D --router pe1 --fec vrf:192.0.2.3,65000:2",
    "diff --data D --at -25m --and now",
    "ledger --data D",
    "ledger --data D --by shard",
    "bursts --data D",
    "bins --data D --since -20m1s --until -19m58s --every 1s",
    "verify --data D",
];

#[test]
fn every_question_is_answered_in_three_formats() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    for line in QUESTIONS {
        let table = run(folder.path(), line);
        assert_eq!(table.code, EXIT_DONE, "{line}: {}", table.notes);
        assert_eq!(table.notes, "", "{line}");
        let json = run(folder.path(), &format!("{line} --format json"));
        let value: Value = serde_json::from_str(&json.output).unwrap();
        let csv = run(folder.path(), &format!("{line} --format csv"));
        let mut records = csv::Reader::from_reader(csv.output.as_bytes());
        let names = records.headers().unwrap().clone();
        let records = records.records().collect::<Result<Vec<_>, _>>().unwrap();
        // Where the answer is a list, both hold the same rows under the same names.
        let rows = value.as_array().or_else(|| value["lines"].as_array());
        let Some(rows) = rows else { continue };
        assert_eq!(rows.len(), records.len(), "{line}");
        assert!(!rows.is_empty(), "{line}");
        for (row, record) in rows.iter().zip(&records) {
            assert_eq!(row.as_object().unwrap().len(), names.len(), "{line}");
            for (name, field) in names.iter().zip(record) {
                let expected = match &row[name] {
                    Value::Null => String::new(),
                    Value::String(text) => text.clone(),
                    // In words in the one, an object in the other.
                    Value::Array(items) if items.iter().any(Value::is_object) => continue,
                    Value::Array(items) => {
                        let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
                        items.join(" ")
                    }
                    other => other.to_string(),
                };
                assert_eq!(field, expected, "{line}: {name}");
            }
        }
    }
}

#[test]
fn the_way_of_an_lsp_before_during_and_after_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let ways = |at: &str| {
        let line = format!(
            "trace --data D --router pe1 --fec {} --format json --at {at}",
            sample::CUSTOMER
        );
        let ran = run(folder.path(), &line);
        let value: Value = serde_json::from_str(&ran.output).unwrap();
        let hops = value["paths"][0]["hops"].as_array().unwrap();
        let hop = |hop: &Value| format!("{}{}", hop["name"].as_str().unwrap(), hop["labels"]);
        let hops: Vec<String> = hops.iter().map(hop).collect();
        (hops.join(" "), value["verdict"].as_str().unwrap().to_owned(), ran.code)
    };
    let before = sample::FAILURE.offset(-1).to_string();
    let expected = ("pe1[12,13] p2[13] pe3[]".to_owned(), "delivered".to_owned(), EXIT_DONE);
    assert_eq!(ways(&before), expected);
    let during = sample::FAILURE.offset(50_000).to_string();
    let expected = ("pe1[12,13] p2[]".to_owned(), "broken".to_owned(), EXIT_NO);
    assert_eq!(ways(&during), expected);
    let after = sample::FAILURE.offset(200_000).to_string();
    let expected = ("pe1[24,13] p4[13] pe3[]".to_owned(), "delivered".to_owned(), EXIT_DONE);
    assert_eq!(ways(&after), expected);
}

#[test]
fn unknown_is_said_aloud() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let ran = run(folder.path(), "table --data D --router p2");
    assert_eq!(
        ran.notes,
        "stormdrain: router 192.0.2.2 is unknown since 2026-11-22T04:20:00.000000Z: timed-out\n"
    );
    let ran = run(folder.path(), "trace --data D --router p2 --fec label:12");
    assert_eq!(ran.code, EXIT_NO);
    assert!(ran.output.contains("unknown since 2026-11-22T04:20:00.000000Z (timed-out) at p2"));
}

/// A program that reads JSON or CSV sees no notes: what is unknown must be in the answer itself.
#[test]
fn an_unknown_table_is_never_an_empty_answer() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    // Before its first session; then every entry that is not listed of one that was lost.
    for (line, rows, since, cause) in [
        ("table --data D --router p2 --at -2h", 1, "", "never-heard"),
        ("table --data D --router all --at -2h", 4, "", "never-heard"),
        ("table --data D --router p2", 2, "2026-11-22T04:20:00.000000Z", "timed-out"),
        ("diff --data D --router p2 --at -3h --and -2h", 1, "", "never-heard"),
        (
            "diff --data D --router p2 --at -25m --and now",
            1,
            "2026-11-22T04:20:00.000000Z",
            "timed-out",
        ),
    ] {
        let json = run(folder.path(), &format!("{line} --format json"));
        let value: Value = serde_json::from_str(&json.output).unwrap();
        let found = value.as_array().unwrap();
        assert_eq!(found.len(), rows, "{line}: {value}");
        let last = &found[rows - 1];
        assert_eq!(last["fec"], Value::Null, "{line}");
        assert_eq!(last["cause"], cause, "{line}");
        assert_eq!(last["unknown_since"].as_str().unwrap_or_default(), since, "{line}");
        let csv = run(folder.path(), &format!("{line} --format csv"));
        assert!(csv.output.ends_with(&format!(",{since},{cause}\n")), "{line}: {}", csv.output);
        assert_eq!(csv.output.lines().count(), rows + 1, "{line}");
    }
}

#[test]
fn a_folder_that_nobody_writes_to_vouches_for_nobody() {
    let folder = tempfile::tempdir().unwrap();
    drop(sample::write(folder.path()));
    let ran = run(folder.path(), "routers --data D --format json");
    let value: Value = serde_json::from_str(&ran.output).unwrap();
    assert_eq!(value[0]["answer"], "unknown");
    assert_eq!(value[0]["cause"], "collector-lost");
    assert_eq!(value[0]["status"], "unwatched");
    assert_eq!(value[0]["peer"], Value::Null);
}

#[test]
fn damage_is_a_warning_of_every_answer_and_a_fault_of_verify() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let path = storage::log::log_path(folder.path(), sample::START.hour(), 0);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&path, bytes).unwrap();
    // Bursts are in the kernel's log, which is whole.
    let others = ["verify", "bursts"];
    let lacks = |line: &&&str| !others.iter().any(|other| line.starts_with(other));
    for line in QUESTIONS.iter().filter(lacks) {
        let ran = run(folder.path(), line);
        assert!(
            ran.notes.contains("stormdrain: rows are missing from this answer: "),
            "{line}: {}",
            ran.notes
        );
        // Whatever it says otherwise: a trace that is broken, a book that does not balance.
        assert_eq!(ran.code, EXIT_LACKING, "{line}: {}", ran.output);
        let last = ran.output.lines().last().unwrap();
        assert!(
            last.starts_with(
                "rows are missing from this answer: 1 place, the earliest read in \
                              2026-11-22T04:00:00.000000Z; the first is D/log/2026-11-22T04/"
            ),
            "{line}: {last}"
        );
        let json = run(folder.path(), &format!("{line} --format json"));
        assert_eq!(json.code, EXIT_LACKING);
        let value: Value = serde_json::from_str(&json.output).unwrap();
        let rows = value.as_array().cloned().unwrap_or_else(|| vec![value]);
        assert!(!rows.is_empty(), "{line}: a script has to see it");
        for row in rows {
            let place = &row["rows_missing"][0];
            assert_eq!(place["since"], "2026-11-22T04:00:00.000000Z", "{line}: {row}");
            assert!(place["file"].as_str().unwrap().ends_with("shard-0.log"), "{line}: {row}");
            assert!(place["byte"].is_u64() && place["detail"].is_string(), "{line}: {row}");
        }
        let csv = run(folder.path(), &format!("{line} --format csv"));
        assert_eq!(csv.code, EXIT_LACKING);
        let mut records = csv::Reader::from_reader(csv.output.as_bytes());
        let column = records.headers().unwrap().iter().position(|name| name == "rows_missing");
        let column = column.unwrap_or_else(|| panic!("{line}: {}", csv.output));
        let records = records.records().collect::<Result<Vec<_>, _>>().unwrap();
        assert!(!records.is_empty(), "{line}");
        assert!(records.iter().all(|record| record[column].starts_with("rows are missing from")));
    }
    let ran = run(folder.path(), "verify --data D");
    assert_eq!(ran.code, EXIT_NO);
    assert!(ran.output.contains("fault: ") && ran.output.ends_with("not sound\n"));
}

#[test]
fn an_answer_that_is_whole_says_nothing_of_missing_rows() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    for line in QUESTIONS {
        for format in ["table", "json", "csv"] {
            let ran = run(folder.path(), &format!("{line} --format {format}"));
            assert_eq!(ran.code, EXIT_DONE, "{line}");
            assert!(!ran.output.contains("missing from") && !ran.output.contains("rows_missing"));
        }
    }
}

#[test]
fn a_wrong_word_is_answered_with_the_right_ones() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    for (line, code, expected) in [
        ("table --data D --router pe9", EXIT_USAGE, "known are pe1, p2, pe3, p4"),
        ("table --data D --router 192.0.2.9", EXIT_USAGE, "known are pe1, p2, pe3, p4"),
        ("table --data D --router pe1 --at yesterday", EXIT_USAGE, "write now, -15m"),
        ("trace --data D --router pe1 --fec 10.0.0.1", EXIT_USAGE, "write ip:10.0.0.3/32"),
        ("history --data D --router pe1 --label 1048576", EXIT_USAGE, "0 to 1048575"),
        ("history --data D --router pe1 --label 24,x", EXIT_USAGE, "label table such as 24,7"),
        (
            "history --data D --router pe1 --since now --until -1h",
            EXIT_USAGE,
            "exchange --since and --until",
        ),
        ("history --data D --router pe1 --label -2", EXIT_USAGE, "or -1 for none"),
        ("history --data D --router all", EXIT_USAGE, "only `table` answers for all"),
        ("trace --data D --router all --fec ip:10.0.0.3/32", EXIT_USAGE, "known are pe1"),
        ("table --data D --router pe1 --at 2026-11-22T04:05:06", EXIT_USAGE, "zone is missing"),
        ("table --data D --router pe1 --at 9999-12-31T23:59:59Z", EXIT_USAGE, "are counted"),
        ("table --data D --router pe1 --at 9999-12-30T20:00:00Z", EXIT_USAGE, "in the future"),
        ("bins --data D --every 1us", EXIT_USAGE, "give --since and --until closer together"),
        ("bins --data D --since -1d --every 1ms", EXIT_USAGE, "or --every "),
        ("bins --data D --since -1m --every 0s", EXIT_USAGE, "write --every 10ms"),
        ("bins --data D --since -1m --every soon", EXIT_USAGE, "write --every 10ms"),
        ("routers --data D --format xml", EXIT_USAGE, "possible values: table, json, csv"),
        ("routes --data D", EXIT_USAGE, "a similar subcommand exists: 'routers'"),
        ("routers", EXIT_USAGE, "--data <DIR>"),
        ("routers --data D/none", EXIT_FAILED, "is no data folder: give --data the folder"),
    ] {
        let ran = run(folder.path(), line);
        assert_eq!(ran.code, code, "{line}: {}", ran.notes);
        assert!(ran.notes.contains(expected), "{line}: {}", ran.notes);
    }
}

#[test]
fn an_interval_without_an_end_ends_with_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let bins = |line: &str| {
        let ran = run(folder.path(), &format!("bins --data D {line} --format json"));
        assert_eq!(ran.code, EXIT_DONE, "{line}: {}", ran.notes);
        let value: Value = serde_json::from_str(&ran.output).unwrap();
        let rows = value.as_array().unwrap().clone();
        let changes = rows.iter().map(|row| row["changes"].as_u64().unwrap()).sum::<u64>();
        (changes, rows.iter().map(|row| row["time"].to_string()).collect::<Vec<_>>())
    };
    let (changes, of_day) = bins("--every 24h");
    assert!(changes > 0 && of_day.iter().all(|time| time.contains("T00:00:00.")), "{of_day:?}");
    for line in
        ["--since -1d --every 1h", "--since -1d --until 9999-12-30T00:00:00Z --every 1s", ""]
    {
        assert_eq!(bins(line).0, changes, "{line}");
    }
    let empty = tempfile::tempdir().unwrap();
    std::fs::create_dir(empty.path().join("log")).unwrap();
    assert_eq!(run(empty.path(), "bins --data D").code, EXIT_DONE);
}

#[test]
fn the_ingress_label_of_packets_without_one_is_asked_for_as_tables_show_it() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let rows = |line: &str| {
        let ran =
            run(folder.path(), &format!("history --data D --router pe1 {line} --format json"));
        assert_eq!(ran.code, EXIT_DONE, "{line}: {}", ran.notes);
        let value: Value = serde_json::from_str(&ran.output).unwrap();
        value.as_array().unwrap().clone()
    };
    let is_change = |row: &&Value| !row["in_label"].is_null();
    let expected: Vec<Value> =
        rows("").iter().filter(is_change).filter(|row| row["in_label"] == -1).cloned().collect();
    let found: Vec<Value> = rows("--label -1").iter().filter(is_change).cloned().collect();
    assert!(!expected.is_empty());
    assert_eq!(found, expected);
}

#[test]
fn whoever_asks_for_the_main_table_of_linux_is_told_its_number_here() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    for question in ["trace --data D --router pe1", "history --data D --router pe1"] {
        let ran = run(folder.path(), &format!("{question} --fec ip:10.9.0.0/16,254"));
        assert!(ran.notes.contains("ask for ip:10.9.0.0/16"), "{question}: {}", ran.notes);
        let ran = run(folder.path(), &format!("{question} --fec ip:10.9.0.0/16"));
        assert_eq!(ran.notes, "", "{question}");
    }
}

#[test]
fn help_has_an_example_for_every_command() {
    for name in [
        "run", "send", "routers", "table", "history", "trace", "diff", "ledger", "bursts", "bins",
        "verify",
    ] {
        let error = parse(words(&format!("{name} --help"))).unwrap_err();
        assert!(!error.use_stderr());
        let help = error.to_string();
        assert!(help.contains(&format!("Example: stormdrain {name}")), "{help}");
    }
}

#[test]
fn help_says_the_defaults_that_hold() {
    let help = parse(words("run --help")).unwrap_err().to_string();
    let defaults = Settings::default();
    let http = defaults.http.unwrap();
    for default in [
        defaults.data.display().to_string(),
        defaults.listen.to_string(),
        http.to_string(),
        defaults.shards.to_string(),
        defaults.io.name().to_owned(),
        defaults.memory_bytes.to_string(),
    ] {
        assert!(help.contains(&format!("[default: {default}]")), "{default}: {help}");
    }
}

/// A typed year that is wrong, or a folder that is another: neither may look like an answer.
#[test]
fn what_nobody_can_vouch_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let ran = run(&empty, "routers --data D");
    assert_eq!((ran.code, ran.output.as_str()), (EXIT_FAILED, ""));
    assert!(ran.notes.contains("is no data folder"), "{}", ran.notes);
    let _lock = sample::write(folder.path());
    let line = "table --data D --router pe1 --at 2027-11-22T04:00:00Z --format json";
    let ran = run(folder.path(), line);
    assert_eq!((ran.code, ran.output.as_str()), (EXIT_USAGE, ""));
    assert!(ran.notes.contains("is in the future (it is 2026-11-22T04:30:00"), "{}", ran.notes);
    // A clock that is a little ahead asks about now.
    let ran = run(folder.path(), "table --data D --router pe1 --at 2026-11-22T04:30:59Z");
    assert_eq!(ran.code, EXIT_DONE);
}

/// In every format the same, and what is asked for by a label stays in its label table.
#[test]
fn rare_entries_are_in_every_answer() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write_model(folder.path());
    for format in ["table", "json", "csv"] {
        for (line, expected) in [
            ("table --data D --router pe5", "platform,7"),
            ("table --data D --router pe5", "31@10.0.57.6 (backup)"),
            ("table --data D --router pe5", "name:rsvp,to-p6"),
            ("table --data D --router pe5", "26@%Tunnel1"),
            ("table --data D --router pe5", "untag"),
            ("history --data D --router pe5 --fec ip:10.9.9.0/24", "discard"),
            ("history --data D --router pe5 --label 24,7", "platform,7"),
            ("diff --data D --at -29m --and now --router p6", "discard"),
            ("routers --data D", "in-part"),
        ] {
            let ran = run(folder.path(), &format!("{line} --format {format}"));
            assert_eq!(ran.code, EXIT_DONE, "{line}: {}", ran.notes);
            assert!(ran.output.contains(expected), "{line} {format}: {}", ran.output);
        }
    }
    let other = run(folder.path(), "history --data D --router pe5 --label 24,8 --format csv");
    assert!(!other.output.contains("platform,7"), "{}", other.output);
    let ran = run(folder.path(), "table --data D --router p6");
    assert!(ran.notes.contains("known in part, the rest is unknown since"), "{}", ran.notes);
    let ran = run(folder.path(), "trace --data D --router pe5 --fec ip:10.9.9.9/32");
    assert_eq!(ran.code, EXIT_NO);
    assert!(ran.output.contains("discarded at pe5"), "{}", ran.output);
}

#[test]
fn flags_are_settings() {
    let line = "run --data X --listen 0.0.0.0:1 --http off --shards 3 --io epoll --memory 2GiB";
    let Command::Run(arguments) = parse(words(line)).unwrap() else { panic!() };
    let settings = Settings::layered(None, &|_| None, &arguments.flags()).unwrap();
    assert_eq!(settings.http, None);
    assert_eq!((settings.shards, settings.memory_bytes), (3, 2 << 30));
    assert_eq!((settings.listen.port(), settings.io.name()), (1, "epoll"));
}

/// Every command of docs/CHEATSHEET.md, run on the sample network, says what the page says.
#[test]
fn the_cheat_sheet_is_true() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let page = include_str!("../../../docs/CHEATSHEET.md");
    let mut expected = String::new();
    let mut commands = 0;
    let mut in_block = false;
    for line in page.lines() {
        if line.starts_with("```") {
            in_block = line == "```console";
        }
        if let Some(command) = line.strip_prefix("$ stormdrain ").filter(|_| in_block) {
            commands += 1;
            let ran = run(folder.path(), command);
            expected.push_str(&format!("{line}\n{}{}", ran.output, ran.notes));
            if ran.code != EXIT_DONE {
                expected.push_str(&format!("(exit code {})\n", ran.code));
            }
        } else if !in_block || line.starts_with("```") {
            expected.push_str(&format!("{line}\n"));
        }
    }
    assert!(commands >= 20, "{commands}");
    crate::pages::check("CHEATSHEET.md", &expected);
}
