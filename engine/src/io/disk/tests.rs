//! Tests of the files themselves, without the thread.

use std::fs::OpenOptions;

use super::*;

const HOUR: Hour = Hour(494_000);

fn commit(hour: Hour, bytes: &[u8]) -> Command {
    Command::Commit { hour, bytes: Arc::new(bytes.to_vec()) }
}

fn read(data: &Path, hour: Hour) -> Vec<u8> {
    std::fs::read(log_path(data, hour, 0)).unwrap()
}

#[test]
fn an_hours_file_is_continued_where_it_ended() {
    let data = tempfile::tempdir().unwrap();
    for round in 1..3 {
        let mut writer = Writer::new(data.path(), 0);
        let answer = writer.perform(commit(HOUR, b"abc"));
        assert_eq!(answer, Some(LogAnswer::Synced { length: round * 3 }));
    }
    assert_eq!(read(data.path(), HOUR), b"abcabc");
}

#[test]
fn what_a_failure_left_is_cut_away_before_the_same_bytes_come_again() {
    let data = tempfile::tempdir().unwrap();
    for (failed_at, next) in [(HOUR, HOUR), (HOUR.next(), Hour(HOUR.0 + 2))] {
        let mut writer = Writer::new(data.path(), 0);
        assert!(writer.perform(commit(failed_at, b"durable")).is_some());
        // A write that the disk took in part: bytes behind the durable end, and an error.
        let open = writer.open.as_mut().unwrap();
        open.file.write_all(b"to").unwrap();
        open.torn = true;
        let answer = writer.perform(commit(next, b"torn"));
        let length = if next == failed_at { 11 } else { 4 };
        assert_eq!(answer, Some(LogAnswer::Synced { length }));
    }
    assert_eq!(read(data.path(), HOUR), b"durabletorn");
    assert_eq!(read(data.path(), HOUR.next()), b"durable");
    assert_eq!(read(data.path(), Hour(HOUR.0 + 2)), b"torn");
}

/// /dev/full takes a write and has no room for it.
#[test]
fn a_full_disk_is_one_episode_until_a_commit_succeeds() {
    let data = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(data.path(), 0);
    let path = PathBuf::from("/dev/full");
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let place = Place::of(&file, path).unwrap();
    writer.open = Some(OpenFile { file, place, hour: HOUR, durable: 0, torn: false });
    let answer = writer.perform(commit(HOUR, b"abc"));
    assert_eq!(answer, Some(LogAnswer::Failed { errno: libc::ENOSPC }));
    assert!(writer.full.is_some());
    writer.open = None;
    let answer = writer.perform(commit(HOUR, b"abc"));
    assert_eq!(answer, Some(LogAnswer::Synced { length: 3 }));
    assert!(writer.full.is_none());
    assert_eq!(read(data.path(), HOUR), b"abc");
}

#[test]
fn after_a_full_disk_nothing_is_tried_before_there_is_room_for_more_than_the_commit() {
    let data = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(data.path(), 0);
    writer.full = Some(Clock::start());
    let free = Room::at(data.path()).free_bytes.unwrap();
    // As if a commit of that many bytes waited: it is compared, not written.
    assert!(Room::at(data.path()).lacks(free.saturating_mul(2)));
    assert!(writer.try_commit(HOUR, b"abc").is_ok(), "{free} bytes are free here");
}

#[test]
fn a_file_made_ahead_is_the_one_that_is_written_and_another_hour_does_without() {
    let data = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(data.path(), 0);
    writer.perform(commit(HOUR, b"first"));
    assert_eq!(writer.perform(Command::Prepare(HOUR)), None);
    assert!(writer.ahead.is_none(), "it is open already");
    writer.perform(Command::Prepare(HOUR.next()));
    // The clock is set back, then on: the file that was made is still the right one.
    writer.perform(commit(Hour(HOUR.0 - 5), b"before"));
    assert!(writer.ahead.is_some());
    let answer = writer.perform(commit(HOUR.next(), b"next"));
    assert_eq!(answer, Some(LogAnswer::Synced { length: 4 }));
    assert!(writer.ahead.is_none());
    assert_eq!(read(data.path(), HOUR.next()), b"next");
    assert_eq!(read(data.path(), Hour(HOUR.0 - 5)), b"before");
}

#[test]
fn a_file_that_cannot_be_made_ahead_fails_its_commit_and_nothing_before() {
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(log_path(data.path(), HOUR.next(), 0)).unwrap();
    let mut writer = Writer::new(data.path(), 0);
    writer.perform(Command::Prepare(HOUR.next()));
    let answer = writer.perform(commit(HOUR, b"abc"));
    assert_eq!(answer, Some(LogAnswer::Synced { length: 3 }));
    let answer = writer.perform(commit(HOUR.next(), b"abc"));
    assert_eq!(answer, Some(LogAnswer::Failed { errno: libc::EISDIR }));
    assert!(writer.full.is_none(), "waiting would not help");
}

#[test]
fn a_commit_to_a_file_that_is_gone_is_not_durable() {
    let data = tempfile::tempdir().unwrap();
    let path = log_path(data.path(), HOUR, 0);
    let ways: [&dyn Fn(); 3] = [
        &|| std::fs::remove_file(&path).unwrap(),
        &|| {
            std::fs::write(path.with_extension("new"), "").unwrap();
            std::fs::rename(path.with_extension("new"), &path).unwrap();
        },
        &|| std::fs::remove_dir_all(data.path().join("log")).unwrap(),
    ];
    for (number, way) in ways.iter().enumerate() {
        let mut writer = Writer::new(data.path(), 0);
        assert_eq!(
            writer.perform(commit(HOUR, b"abc")),
            Some(LogAnswer::Synced { length: 3 }),
            "{number}"
        );
        writer.look();
        assert!(writer.gone.is_none());
        way();
        let answer = writer.perform(commit(HOUR, b"abc"));
        assert!(matches!(answer, Some(LogAnswer::Failed { .. })), "{number}: {answer:?}");
        let gone = writer.gone.take().expect("it is said why").to_string();
        assert!(gone.contains("shard-0.log"), "{gone}");
        // Without a commit it is noticed too.
        writer.look();
        assert!(writer.gone.is_some());
        let _ = std::fs::remove_file(&path);
    }
}

#[test]
fn the_kernels_rows_get_a_new_file_when_theirs_is_gone() {
    let data = tempfile::tempdir().unwrap();
    let mut appender = Appender::new(data.path(), KERNEL_SHARD);
    appender.append(HOUR, b"abc").unwrap();
    std::fs::remove_file(log_path(data.path(), HOUR, KERNEL_SHARD)).unwrap();
    appender.append(HOUR, b"abc").unwrap_err();
    appender.append(HOUR, b"abc").unwrap();
    assert_eq!(std::fs::read(log_path(data.path(), HOUR, KERNEL_SHARD)).unwrap(), b"abc");
}

/// The clock goes back and on again: as long as a file is written to behind a later one, it
/// is marked, and readers do not take its end for proven.
#[test]
fn a_file_that_is_written_again_behind_a_later_one_is_marked_meanwhile() {
    let data = tempfile::tempdir().unwrap();
    let mark = |hour: Hour| reopened_path(&log_path(data.path(), hour, 0)).exists();
    let mut writer = Writer::new(data.path(), 0);
    let (now, before) = (HOUR, Hour(HOUR.0 - 2));
    for (hour, marked) in [(now, None), (before, Some(before)), (before, Some(before))] {
        writer.perform(commit(hour, b"abc"));
        assert_eq!((mark(now), mark(before)), (marked == Some(now), marked == Some(before)));
    }
    // Another process goes on there.
    let mut writer = Writer::new(data.path(), 0);
    writer.perform(commit(before, b"abc"));
    writer.perform(commit(Hour(before.0 + 1), b"abc"));
    assert!(!mark(before) && mark(Hour(before.0 + 1)));
    writer.perform(commit(now, b"abc"));
    assert!(!mark(Hour(before.0 + 1)) && !mark(now));
    writer.perform(commit(now.next(), b"abc"));
    assert!(!mark(now) && !mark(now.next()));
}

#[test]
fn no_link_is_written_through() {
    let data = tempfile::tempdir().unwrap();
    let (path, victim) = (log_path(data.path(), HOUR, 0), data.path().join("victim"));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&victim, "kept").unwrap();
    std::os::unix::fs::symlink(&victim, &path).unwrap();
    let answer = Writer::new(data.path(), 0).perform(commit(HOUR, b"abc"));
    assert_eq!(answer, Some(LogAnswer::Failed { errno: libc::ELOOP }));
    assert_eq!(std::fs::read(&victim).unwrap(), b"kept");
}

#[test]
fn a_data_folder_that_was_taken_away_is_not_made_anew() {
    let data = tempfile::tempdir().unwrap();
    let gone = data.path().join("gone");
    let answer = Writer::new(&gone, 0).perform(commit(HOUR, b"abc"));
    assert_eq!(answer, Some(LogAnswer::Failed { errno: libc::ENOENT }));
    assert!(!gone.exists());
}
