//! Compares a page of docs/ that is written from a table with what the table says now.
//!
//! In:   the page's name and the text that it should have.
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
