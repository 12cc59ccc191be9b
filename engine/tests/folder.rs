//! The data folder under a running collector: taken away, shared, linked, limited.
//!
//! In:   a collector, and what an operator or another process does to its folder.
//! Out:  exit codes, the one line that says why, and no ack for what nobody would find.
//! Law:  what is acknowledged is where readers look for it.
//! Not:  disks that fail (`full_disk`, `write_back`).

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use storage::log::{log_files, log_path};

use crate::process::{Process, Way, assert_sound, message, session_rows, states};
use crate::sender::{Router, Session, swap};

const DISK_BYTES: u64 = 8 << 20;

/// What happens to a data folder.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Deed {
    Deletes,
    Renames,
    Exchanges,
    UnlinksTheFile,
    ReplacesTheFile,
    MovesTheLog,
    Unmounts,
}

impl Deed {
    const ALL: [Deed; 7] = [
        Deed::Deletes,
        Deed::Renames,
        Deed::Exchanges,
        Deed::UnlinksTheFile,
        Deed::ReplacesTheFile,
        Deed::MovesTheLog,
        Deed::Unmounts,
    ];

    /// Does it; where the log is then, if anywhere.
    fn is_done(self, data: &Path, process: &Process) -> Option<PathBuf> {
        let aside = data.with_extension("aside");
        match self {
            Deed::Deletes => std::fs::remove_dir_all(data).unwrap(),
            Deed::Renames => {
                std::fs::rename(data, &aside).unwrap();
                return Some(aside);
            }
            Deed::Exchanges => {
                std::fs::create_dir(&aside).unwrap();
                renameat_with(CWD, data, CWD, &aside, RenameFlags::EXCHANGE).unwrap();
                return Some(aside);
            }
            Deed::UnlinksTheFile => std::fs::remove_file(log_file(data)).unwrap(),
            Deed::ReplacesTheFile => {
                let file = log_file(data);
                std::fs::copy(&file, file.with_extension("copy")).unwrap();
                std::fs::rename(file.with_extension("copy"), &file).unwrap();
            }
            Deed::MovesTheLog => std::fs::rename(data.join("log"), data.join("moved")).unwrap(),
            Deed::Unmounts => {
                let mut unmount = Command::new("nsenter");
                unmount.args(["--mount", "--target", &process.id().to_string()]);
                assert!(unmount.args(["umount", "--lazy"]).arg(data).status().unwrap().success());
            }
        }
        None
    }
}

fn log_file(data: &Path) -> PathBuf {
    log_files(data).unwrap().into_iter().find(|file| file.length > 0).unwrap().path
}

/// Starts a collector to whose folder this can happen; `None`, aloud, where nothing can be mounted.
fn start(way: Way, data: &Path, deed: Deed) -> Option<Process> {
    if deed != Deed::Unmounts {
        return Some(Process::start(way, data, "shards = 1\n"));
    }
    let process = Process::start_on_small_disk(way, data, "shards = 1\n", DISK_BYTES);
    if process.is_none() {
        eprintln!("NOT RUN: no file system can be mounted here (root or user namespaces needed)");
    }
    process
}

/// A change, and its ack.
fn say(router: &mut Router, session: &mut Session) {
    let mapping = swap(100, 1_000 + router.sequence_next() as u32, router.tick());
    session.send(&router.frame(&[mapping], false)).unwrap();
    router.await_acks(session);
}

#[test]
fn a_folder_that_goes_ends_the_collector_and_nothing_more_is_acknowledged() {
    let ways = Way::all().into_iter().filter(|way| *way != Way::Denied);
    for (way, deed) in ways.flat_map(|way| Deed::ALL.map(|deed| (way, deed))) {
        for speaks in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let data = folder.path().canonicalize().unwrap().join("data");
            let Some(mut process) = start(way, &data, deed) else { continue };
            let mut router = Router::new(1);
            let mut session = router.open(process.listen, true, true).unwrap();
            (0..3).for_each(|_| say(&mut router, &mut session));
            let acknowledged = router.acknowledged();
            let aside = deed.is_done(&data, &process);
            if speaks {
                let mapping = swap(100, 7, router.tick());
                // The collector may have noticed by itself.
                let _ = session.send(&router.frame(&[mapping], false));
            }
            session.fate(&mut router);
            let at = format!("{way:?} {deed:?} {speaks}");
            assert_eq!(router.acknowledged(), acknowledged, "{at}");
            assert_eq!(process.end().code(), Some(3), "{at}");
            let lines = process.last_lines();
            let errors: Vec<_> = lines.iter().filter(|line| line["level"] == "ERROR").collect();
            assert_eq!(errors.len(), 1, "{at}: {errors:#?}");
            let said = message(errors[0]);
            assert!(said.contains("no longer what was opened there"), "{at}: {said}");
            assert!(said.contains(&data.display().to_string()), "{at}: {said}");
            if let Some(aside) = aside {
                assert!(states(&aside)[&router.id].sequence_last >= acknowledged, "{at}");
            }
        }
    }
}

/// Runs the program until it gives up, or for ever.
fn run(data: &Path, umask: &str) -> Output {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("umask {umask}; exec \"$0\" \"$@\""));
    shell.arg(env!("CARGO_BIN_EXE_stormdrain"));
    shell.args(["run", "--listen", "127.0.0.1:0", "--http", "off", "--data"]).arg(data);
    shell.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_second_collector_is_kept_out_whatever_becomes_of_the_lock_file() {
    let folder = tempfile::tempdir().unwrap();
    let (data, link) = (folder.path().join("data"), folder.path().join("link"));
    let mut process = Process::start(Way::Epoll, &data, "");
    symlink(&data, &link).unwrap();
    for removes in [false, true] {
        if removes {
            std::fs::remove_file(data.join("lock")).unwrap();
        }
        for path in [&data, &link, &data.join("../link")] {
            let output = run(path, "022");
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{text}");
            assert!(text.contains("is held by"), "{text}");
        }
    }
    process.line(|line| message(line).contains("`lock` was removed"));
    let holder = std::fs::read_to_string(data.join("lock")).unwrap();
    assert_eq!(holder, format!("process {}\n", process.id()));
    let mut router = Router::new(1);
    let mut session = router.open(process.listen, true, true).unwrap();
    say(&mut router, &mut session);
    assert!(process.terminate().success());
}

#[test]
fn a_link_in_place_of_a_log_file_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (data, victim) = (folder.path().join("data"), folder.path().join("victim"));
    std::fs::write(&victim, "nobody's log").unwrap();
    let path = log_path(&data, "2026-11-22T03".parse().unwrap(), 0);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(&victim, &path).unwrap();
    let output = run(&data, "022");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("shard-0.log is a symbolic link, expected a regular file"), "{text}");
    assert_eq!(std::fs::read(&victim).unwrap(), b"nobody's log");
}

/// Everything below a folder, itself included.
fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(path) = all.get(next).cloned() {
        next += 1;
        if path.is_dir() {
            all.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    all
}

#[test]
fn nobody_else_may_read_or_write_the_data_whatever_the_umask() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut process = Process::start_after(Way::Epoll, &data, "", "umask 000");
    let mut router = Router::new(1);
    let mut session = router.open(process.listen, true, true).unwrap();
    say(&mut router, &mut session);
    assert!(process.terminate().success());
    let below = all_below(&data);
    assert!(below.len() >= 5, "{below:?}");
    for path in below {
        let expected = if path.is_dir() { 0o750 } else { 0o640 };
        let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, expected, "{}: {mode:o}", path.display());
    }
}

#[test]
fn a_file_that_may_not_grow_pauses_the_collector_and_nothing_is_lost() {
    for way in Way::all() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        // 512 bytes each: the second frame does not fit.
        let mut process = Process::start_after(way, &data, "shards = 1\n", "ulimit -S -f 24");
        let mut router = Router::new(1);
        let mut session = router.open(process.listen, true, true).unwrap();
        for frame in 0..4 {
            let time = router.tick();
            let labels = 16 + frame * 1_000..1_000 + frame * 1_000;
            let mappings: Vec<_> =
                labels.map(|label| swap(label, label * 7_919 % 1_000_000, time)).collect();
            session.send(&router.frame(&mappings, false)).unwrap();
        }
        process.line(|line| message(line).contains("a log file may not grow further"));
        process.await_metric("stormdrain_log_failed", "", |failed| failed == 1);
        let unlimited = Rlimit { current: None, maximum: None };
        let pid = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
        prlimit(Some(pid), Resource::Fsize, unlimited).unwrap();
        router.await_acks(&mut session);
        process.line(|line| message(line).starts_with("the log has room again"));
        assert_sound(&data);
        assert_eq!(states(&data)[&router.id].table.len(), 4 * 984);
        assert!(session_rows(&data).iter().all(|row| row.event.name() != "gap"), "{way:?}");
        assert!(process.terminate().success(), "{way:?}");
    }
}
