//! The program's answers to wrong words: exit codes, and where they go.
//!
//! In:   command lines, without a collector behind them.
//! Out:  exit codes 0 to 3, messages on the standard error, answers on the standard output.
//! Law:  a question that is put wrongly names what would be right, and starts nothing.
//! Not:  the answers (`engine::command`), a running collector (`process`).

use std::process::{Command, Output, Stdio};

fn stormdrain(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stormdrain"));
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// What a collector leaves that has heard nobody.
fn data_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("log")).unwrap();
    folder
}

#[test]
fn exit_codes_are_a_contract() {
    let folder = data_folder();
    let data = folder.path().to_str().unwrap();
    let config = folder.path().join("settings.toml");
    std::fs::write(&config, "shards = 1\nlisten = \"nowhere\"\n").unwrap();
    let config = config.to_str().unwrap();
    for (arguments, code, expected) in [
        (&["--help"][..], 0, "Exit codes: 0 done"),
        (&["--version"][..], 0, "stormdrain 0."),
        (&[][..], 2, "Usage: stormdrain"),
        (&["rnu"][..], 2, "no command `rnu`: write one of run, send, "),
        (&["run", "--shards", "999"][..], 2, "setting `shards` is `999`: allowed is 0 to 256"),
        (&["run", "--config", config][..], 2, "setting `listen` is `nowhere`: allowed is ADDRESS"),
        (&["run", "--config", "/no/such/file"][..], 3, "cannot read the settings file /no/such/f"),
        (&["routers", "--data", "/no/such/folder"][..], 3, "is no data folder"),
        (&["routers", "--data", "/usr"][..], 3, "/usr is no data folder"),
        (&["table", "--data", data, "--router", "pe1"][..], 2, "no router has been heard yet"),
        (&["routers", "--data", data, "--format", "json"][..], 0, "[]"),
        (&["verify", "--data", data][..], 0, "no fault"),
        (&["doctor", "--shards", "999"][..], 2, "setting `shards` is `999`: allowed is 0 to 256"),
        (&["doctor", "--routers", "0"][..], 2, "1..=10000000"),
    ] {
        let (found, output, notes) = stormdrain(arguments, &[]);
        assert_eq!(found, code, "{arguments:?}: {output}{notes}");
        let text = if code == 0 { &output } else { &notes };
        assert!(text.contains(expected), "{arguments:?}: {text}");
        // A script that reads the answer never finds a message in it.
        assert_eq!(code == 0, !output.is_empty(), "{arguments:?}: {output}");
    }
}

#[test]
fn the_environment_is_a_layer_of_the_settings() {
    let variables = [("STORMDRAIN_IO", "kqueue"), ("STORMDRAIN_SERVICE_HOST", "10.0.0.1")];
    let (code, _, notes) = stormdrain(&["run"], &variables);
    assert_eq!(code, 2);
    assert!(notes.contains("setting `io` is `kqueue`: allowed is auto, uring or epoll"), "{notes}");
    let folder = data_folder();
    let data = folder.path().to_str().unwrap();
    let (code, output, notes) = stormdrain(&["verify"], &[("STORMDRAIN_DATA", data)]);
    assert_eq!((code, output.ends_with("no fault\n")), (0, true), "{output}{notes}");
}

#[test]
fn a_reader_that_closes_early_is_no_failure() {
    let folder = data_folder();
    let mut command = Command::new(env!("CARGO_BIN_EXE_stormdrain"));
    command.arg("verify").arg("--data").arg(folder.path());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = command.stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}
