//! Tests of whole files: torn ends, damage, order over files, faults that verifying must find.

use super::*;

const HOUR_START: Micros = Micros(498_611 * crate::time::MICROS_PER_HOUR);

fn router(number: u8) -> RouterId {
    RouterId(IpAddr::from([192, 0, 2, number]))
}

fn position(generation: u32, sequence: u64, index: u32) -> Position {
    Position { generation, sequence, index }
}

/// A plain change: label `label` of a router now points elsewhere.
fn change(router_number: u8, position: Position, label: u32) -> Row {
    let time = HOUR_START.offset(position.sequence as i64 * 1_000);
    Row::Change(Change {
        stamp: Stamp {
            router: router(router_number),
            position,
            kind: ChangeKind::Added,
            basis: Basis::Live,
            not_before: None,
            effective_time: time,
            collection_time: time.offset(700),
            flags: Flags::default(),
        },
        mapping: Mapping {
            fec: "ip:10.0.0.3/32".parse().unwrap(),
            ingress: Ingress::platform(Label::new(label).unwrap()),
            operation: Operation::Pop,
            branches: [Nhlfe::new(
                Default::default(),
                NextHop::Address(IpAddr::from([10, 0, 0, 2])),
            )]
            .into_iter()
            .collect(),
            event_time: time,
            time_source: TimeSource::Router,
            extra: None,
        },
    })
}

fn session(router_number: u8, position: Position, event: SessionEvent) -> Row {
    let time = HOUR_START.offset(position.sequence as i64 * 1_000);
    Row::Session(SessionRow { router: router(router_number), position, time, event })
}

/// Books that balance: so many changes, and as many bytes framed as read.
fn ledger(router_number: u8, generation: u32, changes: u64) -> Row {
    Row::Ledger(LedgerRow {
        router: Some(router(router_number)),
        generation,
        time: HOUR_START,
        sequence_last: changes,
        bytes_read: 100 * changes,
        bytes_framed: 100 * changes,
        mappings_framed: changes,
        changes,
        confirmed: 0,
        duplicates: 0,
        derived: 0,
        rejected: Vec::new(),
    })
}

/// Blocks of a small log, each with two rows and their books, the last of two per commit.
fn small_log(blocks: u64) -> Vec<Vec<u8>> {
    let mut builder = BlockBuilder::new(0);
    let mut all = Vec::new();
    for number in 0..blocks {
        // Every second block begins a commit.
        if number % 2 == 0 {
            builder.all_before_is_durable();
        }
        for (index, label) in [(0, 16), (1, 17)] {
            add(&mut builder, &change(1, position(1, number + 1, index), label));
        }
        add(&mut builder, &ledger(1, 1, 2));
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        all.push(bytes);
    }
    all
}

fn write_log(data: &Path, shard: u16, bytes: &[u8]) -> PathBuf {
    write_hour(data, HOUR_START.hour(), shard, bytes)
}

fn write_hour(data: &Path, hour: Hour, shard: u16, bytes: &[u8]) -> PathBuf {
    let path = log_path(data, hour, shard);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

fn read_everything(data: &Path) -> (Vec<Row>, ReadReport) {
    let mut rows = Vec::new();
    let report = read(data, &Filter::default(), &mut |row| rows.push(row)).unwrap();
    (rows, report)
}

#[test]
fn a_restart_loses_nothing_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let blocks = small_log(4);
    let log = blocks.concat();
    let ends: Vec<usize> = blocks
        .iter()
        .scan(0, |end, block| {
            *end += block.len();
            Some(*end)
        })
        .collect();
    for length in 0..=log.len() {
        let path = write_log(data.path(), 0, &log[..length]);
        let whole = ends.iter().filter(|end| **end <= length).count();
        let kept = whole.checked_sub(1).map_or(0, |last| ends[last]);
        let due: Vec<Row> =
            blocks[..whole].iter().flat_map(|block| rows_of(block).unwrap()).collect();

        let (before, report) = read_everything(data.path());
        assert_eq!((before, report.torn_bytes as usize), (due.clone(), length - kept), "{length}");
        let cuts = recover(data.path()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), &log[..kept], "cut at {length}");
        assert_eq!(cuts.len(), usize::from(kept < length));
        for cut in &cuts {
            assert_eq!((cut.offset as usize, cut.bytes as usize), (kept, length - kept));
            assert_eq!(cut.path, path);
        }
        assert_eq!(recover(data.path()).unwrap(), [], "a second recovery cuts nothing");
        assert_eq!(read_everything(data.path()).0, due);
        assert_eq!(verify(data.path()).unwrap().faults, []);
    }
}

#[test]
fn one_wrong_byte_is_never_believed() {
    let data = tempfile::tempdir().unwrap();
    let blocks = small_log(6);
    let log = blocks.concat();
    let start = blocks[0].len() + blocks[1].len();
    let rows: Vec<Vec<Row>> = blocks.iter().map(|block| rows_of(block).unwrap()).collect();
    // The third block is the first of its commit, the fourth the last: both were durable.
    for place in start..start + blocks[2].len() + blocks[3].len() {
        let mut damaged = log.clone();
        damaged[place] ^= 1 << (place % 8);
        write_log(data.path(), 0, &damaged);
        let (found, report) = read_everything(data.path());
        assert_eq!(report.damages.len(), 1, "byte {place}");
        assert_eq!(report.torn_bytes, 0);
        let lost = if place < start + blocks[2].len() { 2 } else { 3 };
        let due: Vec<Row> =
            (0..6).filter(|block| *block != lost).flat_map(|block| rows[block].clone()).collect();
        assert_eq!(found, due, "byte {place}");
        assert_eq!(recover(data.path()).unwrap(), [], "durable blocks behind damage stay");
        let faults = verify(data.path()).unwrap().faults;
        assert_eq!(faults.len(), 1, "byte {place}: {faults:?}");
    }
}

#[test]
fn a_hole_in_the_last_commit_is_cut_with_what_is_behind_it() {
    let data = tempfile::tempdir().unwrap();
    let blocks = small_log(6);
    let mut log = blocks.concat();
    let start: usize = blocks[..4].iter().map(Vec::len).sum();
    // A power loss may leave the fifth block as zeros and the sixth whole: one commit, no ack.
    log[start..start + blocks[4].len()].fill(0);
    let path = write_log(data.path(), 0, &log);
    let (found, report) = read_everything(data.path());
    assert_eq!(found.len(), 4 * 3);
    assert_eq!(report.damages, []);
    let cuts = recover(data.path()).unwrap();
    assert_eq!(cuts.len(), 1);
    assert_eq!(std::fs::read(path).unwrap().len(), start);
}

#[test]
fn a_block_longer_than_the_window_is_read() {
    let data = tempfile::tempdir().unwrap();
    let long = "x".repeat(3 << 20);
    let Row::Change(mut row) = change(1, position(1, 1, 0), 16) else { unreachable!() };
    row.mapping.extra = Some(long.into());
    let rows = [Row::Change(row), ledger(1, 1, 1)];
    let mut log = block_of(&rows);
    log.extend(block_of(&[change(1, position(1, 2, 0), 17), ledger(1, 1, 1)]));
    write_log(data.path(), 0, &log);
    let (found, _) = read_everything(data.path());
    assert_eq!(found.len(), 4);
    assert_eq!(found[..2], rows);
}

#[test]
fn rows_come_in_order_whatever_the_files() {
    let data = tempfile::tempdir().unwrap();
    let hour = HOUR_START.hour();
    // Router 1 moved from shard 1 to shard 0 within the hour; router 2 never moved.
    write_hour(data.path(), hour, 1, &block_of(&[change(1, position(1, 1, 0), 16)]));
    write_hour(
        data.path(),
        hour,
        0,
        &block_of(&[
            change(1, position(2, 2, 0), 18),
            change(2, position(1, 1, 0), 16),
            session(1, position(2, 1, 0), SessionEvent::SnapshotBegin),
        ]),
    );
    write_hour(data.path(), hour.next(), 0, &block_of(&[change(2, position(1, 2, 0), 17)]));
    let mut told: std::collections::BTreeMap<RouterId, Vec<Position>> = Default::default();
    let mut started_over = Vec::new();
    read_ordered(data.path(), &Filter::default(), &mut |ordered| match ordered {
        Ordered::StartOver(router) => {
            started_over.push(router);
            told.remove(&router);
        }
        Ordered::Row(router, row) => {
            let place = match row {
                Row::Change(change) => change.stamp.position,
                Row::Session(row) => row.position,
                Row::Ledger(_) | Row::Kernel(_) => return,
            };
            told.entry(router).or_default().push(place);
        }
    })
    .unwrap();
    assert_eq!(started_over, [router(1)]);
    assert_eq!(told[&router(1)], [position(1, 1, 0), position(2, 1, 0), position(2, 2, 0)]);
    assert_eq!(told[&router(2)], [position(1, 1, 0), position(1, 2, 0)]);
}

/// Verifies a log of these blocks and returns the faults in words.
fn faults_of(blocks: &[Vec<Row>]) -> Vec<String> {
    let data = tempfile::tempdir().unwrap();
    let log: Vec<u8> = blocks.iter().flat_map(|rows| block_of(rows)).collect();
    write_log(data.path(), 0, &log);
    let report = verify(data.path()).unwrap();
    assert_eq!(report.faults_count, report.faults.len() as u64);
    report.faults.iter().map(ToString::to_string).collect()
}

/// Falsifies the books.
type Alteration = fn(&mut LedgerRow);

#[test]
fn verifying_finds_books_that_do_not_balance() {
    let rows = || vec![change(1, position(1, 1, 0), 16)];
    let with = |alter: Alteration| {
        let Row::Ledger(mut books) = ledger(1, 1, 1) else { unreachable!() };
        alter(&mut books);
        let mut rows = rows();
        rows.push(Row::Ledger(books));
        faults_of(&[rows])
    };
    assert_eq!(with(|_| ()), [""; 0]);
    let cases: [(Alteration, &str); 4] = [
        (|books| books.mappings_framed = 2, "2 mappings framed, 1 explained"),
        (|books| books.derived = 1, "counts 2 change rows, the block holds 1"),
        (|books| books.bytes_read = 99, "99 bytes read, 100 framed or rejected"),
        (|books| books.rejected.push((Cause::LabelRange, 0, 1)), "1 mappings framed, 2 explained"),
    ];
    for (alter, expected) in cases {
        let faults = with(alter);
        assert!(faults.len() == 1 && faults[0].contains(expected), "{expected}: {faults:?}");
    }
    let faults = faults_of(&[rows()]);
    assert!(faults.len() == 1 && faults[0].contains("counts 0 change rows"), "{faults:?}");
}

#[test]
fn a_session_that_ended_has_nothing_in_its_buffers() {
    let ended = |reason, bytes_read| {
        let Row::Ledger(mut books) = ledger(1, 1, 1) else { unreachable!() };
        books.bytes_read = bytes_read;
        faults_of(&[
            vec![change(1, position(1, 1, 0), 16), Row::Ledger(books)],
            vec![session(1, position(1, 1, 1), SessionEvent::Termination { reason })],
        ])
        .len()
    };
    assert_eq!(ended(Reason::Finished, 100), 0);
    assert_eq!(ended(Reason::Finished, 101), 1);
    // What was in the buffers of a collector that died is not in the books; its gap says so.
    assert_eq!(ended(Reason::CollectorLost, 101), 0);
    assert_eq!(ended(Reason::CollectorLost, 99), 1);
}

#[test]
fn verifying_finds_a_session_that_never_ended() {
    let begin = |generation| {
        let peer = ([192, 0, 2, 1], 40_000).into();
        let (mode, agent) = (InputMode::Framed, "".into());
        let (permanent, boot_time, interfaces) = (true, None, Vec::new());
        let event = SessionEvent::Initiation {
            peer,
            mode,
            permanent,
            boot_time,
            clock: None,
            interfaces,
            agent,
        };
        session(1, position(generation, 0, 0), event)
    };
    let end =
        session(1, position(1, 1, 0), SessionEvent::Termination { reason: Reason::CollectorLost });
    assert_eq!(faults_of(&[vec![begin(1), end, begin(2)]]), [""; 0]);
    let faults = faults_of(&[vec![begin(1)], vec![begin(2)]]);
    assert!(faults.len() == 1 && faults[0].contains("never ended"), "{faults:?}");
}

#[test]
fn verifying_finds_rows_out_of_order_and_twice() {
    let at = |place| vec![change(1, place, 16), ledger(1, 1, 1)];
    assert_eq!(faults_of(&[at(position(1, 1, 0)), at(position(1, 2, 0))]), [""; 0]);
    assert_eq!(faults_of(&[at(position(1, 2, 0)), at(position(1, 1, 0))]).len(), 1);
    assert_eq!(faults_of(&[at(position(1, 1, 0)), at(position(1, 1, 0))]).len(), 1);

    let data = tempfile::tempdir().unwrap();
    write_hour(data.path(), HOUR_START.hour(), 0, &block_of(&at(position(1, 1, 0))));
    write_hour(data.path(), HOUR_START.hour().next(), 0, &block_of(&at(position(1, 1, 0))));
    let faults = verify(data.path()).unwrap().faults;
    assert_eq!(faults.len(), 1);
    assert!(faults[0].what.contains("two rows"), "{faults:?}");
}

#[test]
fn verifying_finds_a_header_whose_times_are_not_those_of_the_rows() {
    let data = tempfile::tempdir().unwrap();
    let mut block = block_of(&[kernel_row(1)]);
    let header = Header { time_max: Micros(i64::MAX), ..header_of(&block) };
    block[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    write_log(data.path(), 0, &block);
    assert_eq!(verify(data.path()).unwrap().faults.len(), 1);
    write_log(data.path(), 0, &block_of(&[kernel_row(1)]));
    assert_eq!(verify(data.path()).unwrap().faults.len(), 0);
    write_log(data.path(), 3, &block_of(&[kernel_row(1)]));
    let faults = verify(data.path()).unwrap().faults;
    assert!(faults.len() == 1 && faults[0].what.contains("shard 0"), "{faults:?}");
}

#[test]
fn a_data_folder_has_one_writer() {
    let data = tempfile::tempdir().unwrap();
    let held = lock(data.path()).unwrap();
    let refused = lock(data.path()).unwrap_err().to_string();
    assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
    drop(held);
    lock(data.path()).unwrap();
}

#[test]
fn what_is_no_log_file_is_left_alone() {
    let data = tempfile::tempdir().unwrap();
    assert_eq!(log_files(data.path()).unwrap(), []);
    let path = write_log(data.path(), 12, &[]);
    for stray in ["shard-1.log.bak", "shard-x.log", "notes"] {
        std::fs::write(path.with_file_name(stray), "not a log").unwrap();
    }
    std::fs::write(data.path().join("log/README"), "not an hour").unwrap();
    let files = log_files(data.path()).unwrap();
    assert_eq!(
        files,
        [LogFile { hour: HOUR_START.hour(), shard: 12, path, length: 0, sealed: false }]
    );
}
