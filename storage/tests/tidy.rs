//! Tidy: what a machine can check about this tree, a person never has to.
//!
//! In:   the files of the workspace, read as text.
//! Out:  one failure per check, listing every place at once.
//! Law:  a rule of the house that can be checked is checked here and nowhere else.
//! Not:  formatting (rustfmt) and lints (clippy).

use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of one source file.
const FILE_LINES_MAX: usize = 800;
/// The most columns of one line of source.
const LINE_COLUMNS_MAX: usize = 100;
/// The most columns of a line that holds a text: rustfmt leaves those whole.
const TEXT_COLUMNS_MAX: usize = 115;
/// The most bytes of one file that is no fixture of real routers.
const BLOB_BYTES_MAX: u64 = 256 * 1024;
/// The crates, in the order of the arrows: each may use those before it.
const CRATES: [&str; 5] = ["storage", "tuning", "engine", "loadgen", "benches"];
/// The only files that may hold `unsafe`, each block with its argument.
const UNSAFE_FILES: [&str; 2] = ["engine/src/io/uring.rs", "engine/src/io/pin.rs"];

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("the crate lies in the workspace").to_path_buf()
}

/// Every file below the workspace's own folders, with its path relative to the root.
fn files() -> Vec<(String, PathBuf)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        CRATES.iter().chain(&["docs", "scripts"]).map(|name| root.join(name)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if path.is_dir() && !hidden && entry.file_name() != "__pycache__" {
                folders.push(path);
            } else if path.is_file() {
                let name = path.strip_prefix(&root).expect("below the root").display().to_string();
                found.push((name, path));
            }
        }
    }
    for name in ["README.md", "CHANGELOG.md", "Cargo.toml", ".ci/run"] {
        found.push((name.to_owned(), root.join(name)));
    }
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    files()
        .into_iter()
        .filter(|(name, _)| name.ends_with(".rs"))
        .map(|(name, path)| (name, fs::read_to_string(path).expect("a source is UTF-8")))
        .collect()
}

fn documents() -> Vec<(String, String)> {
    files()
        .into_iter()
        .filter(|(name, _)| name.ends_with(".md"))
        .map(|(name, path)| (name, fs::read_to_string(path).expect("a page is UTF-8")))
        .collect()
}

/// Fails with every place at once, so that one run shows all there is to mend.
fn expect_none(rule: &str, places: Vec<String>) {
    assert!(places.is_empty(), "{rule}:\n  {}", places.join("\n  "));
}

#[test]
fn the_tree_is_found() {
    let sources = sources();
    assert!(sources.len() > 10, "only {} sources: the walk is broken", sources.len());
    assert!(sources.iter().any(|(name, _)| name == "storage/src/lib.rs"));
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut places = Vec::new();
    for (name, text) in sources() {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            places.push(format!("{name}: {lines} lines, at most {FILE_LINES_MAX}"));
        }
        if !text.starts_with("//!") {
            places.push(format!("{name}: does not begin with //!"));
        }
        for (index, line) in text.lines().enumerate() {
            let comment = line.trim_start().starts_with("//");
            let columns_max = if comment { LINE_COLUMNS_MAX } else { TEXT_COLUMNS_MAX };
            if line.chars().count() > columns_max {
                places.push(format!("{name}:{}: over {columns_max} columns", index + 1));
            }
        }
    }
    expect_none("a file is a few hundred lines of 100 columns and begins with its purpose", places);
}

#[test]
fn no_blob_is_large() {
    let large = |path: &Path| fs::metadata(path).is_ok_and(|data| data.len() > BLOB_BYTES_MAX);
    let places = files().into_iter().filter(|(_, path)| large(path)).map(|(name, _)| name);
    expect_none("a file is at most 256 KiB", places.collect());
}

#[test]
fn words_that_do_not_belong_are_absent() {
    // Written in halves, so that this file does not name them itself.
    let banned: Vec<(String, &str)> = vec![
        (format!("{}{}", "FIX", "ME"), "mend it or describe it in the changelog"),
        (format!("{}{}", "XX", "X"), "mend it or describe it in the changelog"),
        (format!("#[{}", "ignore"), "a test runs or is absent"),
        (format!("#[{}", "should_panic"), "assert on the error instead"),
        (format!("{}{}", "crates", ".io"), "name the crate alone"),
        (format!("{}{}", "any", "how::"), "errors are enums that say who is to blame"),
    ];
    let mut places = Vec::new();
    for (name, text) in sources().into_iter().chain(documents()) {
        for (index, line) in text.lines().enumerate() {
            for (word, instead) in &banned {
                if line.contains(word.as_str()) {
                    places.push(format!("{name}:{}: {word}: {instead}", index + 1));
                }
            }
        }
    }
    expect_none("banned words", places);
}

#[test]
fn unsafe_stands_in_the_named_files_only() {
    let keyword = format!("{}{}", "unsafe", " ");
    let mut places = Vec::new();
    for (name, text) in sources() {
        if UNSAFE_FILES.contains(&name.as_str()) {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            if code.contains(&format!("{keyword}{{")) || code.contains(&format!("{keyword}fn")) {
                places.push(format!("{name}:{}", index + 1));
            }
        }
    }
    expect_none("unsafe outside of the driver files", places);
}

#[test]
fn the_arrows_between_crates_point_one_way() {
    let mut places = Vec::new();
    for (rank, name) in CRATES.iter().enumerate() {
        let Ok(manifest) = fs::read_to_string(root().join(name).join("Cargo.toml")) else {
            continue;
        };
        for later in &CRATES[rank..] {
            let uses = |line: &str| line.starts_with(&format!("{later}.workspace"));
            if manifest.lines().any(uses) {
                places.push(format!("{name} uses {later}"));
            }
        }
        if *name == "tuning" && manifest.contains("storage.workspace") {
            places.push("tuning uses storage".to_owned());
        }
    }
    expect_none("storage and tuning stand alone; engine uses both; loadgen uses engine", places);
}

/// The answer key is worth something only if it shares no code with what it judges.
#[test]
fn the_answer_key_never_asks_the_collectors_own_code() {
    let judged = [
        "storage::table",
        "storage::router",
        "storage::history",
        "storage::log",
        "storage::recovery",
    ];
    let mut places = Vec::new();
    for (name, text) in sources() {
        if !name.starts_with("loadgen/") {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            let grouped = line.trim_start().starts_with("use storage::{")
                && ["table", "router", "history", "log", "recovery"]
                    .iter()
                    .any(|module| line.contains(module));
            if grouped || judged.iter().any(|path| line.contains(path)) {
                places.push(format!("{name}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    expect_none("loadgen uses the data types and the queries, never the code it judges", places);
}

#[test]
fn links_in_the_pages_lead_somewhere() {
    let mut places = Vec::new();
    for (name, text) in documents() {
        let folder = root().join(&name).parent().expect("a page lies in a folder").to_path_buf();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or("");
            let outside = path.contains("://") || path.is_empty();
            if !outside && !folder.join(path).exists() {
                places.push(format!("{name}: {target}"));
            }
        }
    }
    expect_none("links to files that do not exist", places);
}

/// Laws of docs/ARCHITECTURE.md, each by the name of its test.
#[test]
fn every_law_has_a_test_of_its_name() {
    let text = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the page exists");
    let names: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains("_") && line.contains(" law "))
        .filter_map(|line| line.split('`').nth(1))
        .collect();
    assert!(names.len() >= 9, "only {} laws are listed", names.len());
    let sources = sources();
    let tested = |name: &str| {
        sources.iter().any(|(_, text)| {
            text.contains(&format!("fn {name}()")) || text.contains(&format!("fn {name}_"))
        })
    };
    let missing = names.into_iter().filter(|name| !tested(name)).map(str::to_owned);
    expect_none("laws without a test", missing.collect());
}
