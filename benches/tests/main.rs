//! The program as a user meets it: its list, its exit codes, and every bench at its smallest.

use std::process::{Command, Output};

fn benches(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_benches"));
    command.args(arguments).output().expect("the program is built with its tests")
}

#[test]
fn without_a_name_the_list_is_printed() {
    let output = benches(&[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("all"), "{text}");
}

#[test]
fn wrong_words_are_2() {
    for (arguments, word) in [
        (&["decoed"][..], "decoed"),
        (&["all", "--scale", "2"][..], "at most 1"),
        (&["role", "nobody"][..], "a role that a bench starts"),
    ] {
        let output = benches(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(word), "{arguments:?}: {text}");
    }
}
