//! Holds a table of the code against its page in docs/ and against the code that should use it.
//!
//! In:   the page's name and the text that it should have; names of modules.
//! Out:  nothing, or a failed test; with `UPDATE_PAGES=1` in the environment the page is written.
//! Law:  a page that is written from a table is never edited by hand.
//! Not:  what the page says (the module that owns the table).

use std::path::Path;

pub(crate) fn check(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(&path, expected).expect("the docs folder can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/{name} is stale: run `UPDATE_PAGES=1 cargo test -p engine`");
}

/// The code of this crate, but for the modules named and the tests in files of their own.
pub(crate) fn code_outside(modules: &[&str]) -> String {
    let mut code = String::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the code is there") {
            let path = entry.expect("a folder of code can be listed").path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            // A module of the crate, not one of the same name deeper down.
            let is_named = path.parent() == Some(&root) && modules.contains(&stem);
            if is_named || ["tests", "sim"].contains(&stem) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                code.push_str(&std::fs::read_to_string(path).expect("code is text"));
            }
        }
    }
    code
}
