//! Tests of the questions as a program asks them.

use std::io::Write as _;

use storage::history::walk::Follow;
use storage::log::layout::KERNEL_SHARD;
use storage::log::{BlockBuilder, kernel_block, log_path};
use storage::row::{KernelRow, LedgerRow};
use storage::time::{Hour, MICROS_PER_HOUR};

use super::*;

mod model;

fn router(text: &str) -> RouterId {
    text.parse().unwrap()
}

#[test]
fn a_selector_survives_its_text() {
    for text in [
        "ip:10.0.0.3/32",
        "ip:10.0.0.3/32,254,from=10.1.0.0/16,tos=4",
        "vrf:192.0.2.3,65000:2",
        "vrf-name:red,10.1.0.0/16",
        "ac:192.0.2.3,17",
        "name:rsvp,to-pe3",
        "interface:xe-0/0/1.100",
        "unknown",
        "label:24",
        "label:24,7",
    ] {
        assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
    }
    for bad in ["", "24", "label:", "label:1048576", "label:-1", "label:24,", "10.0.0.3"] {
        assert!(bad.parse::<Selector>().is_err(), "{bad}");
    }
}

#[test]
fn a_router_is_found_by_id_and_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    assert_eq!(find_router(folder.path(), "p2").unwrap(), router("192.0.2.2"));
    assert_eq!(find_router(folder.path(), "192.0.2.2").unwrap(), router("192.0.2.2"));
    let error = find_router(folder.path(), "p").unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("known are pe1, p2, pe3, p4"));
}

#[test]
fn the_log_is_read_once_for_many_paths() {
    let folder = tempfile::tempdir().unwrap();
    let lock = sample::write(folder.path());
    let before = sample::FAILURE.offset(-1);
    let traces = Traces::open(folder.path(), before).unwrap().value;
    drop(lock);
    std::fs::remove_dir_all(folder.path().join("log")).unwrap();
    let customer = Selector::Fec(sample::CUSTOMER.parse().unwrap());
    let report = traces.trace(router("192.0.2.1"), customer);
    assert_eq!(report.verdict, TraceVerdict::Delivered);
    assert!(report.paths_complete);
    let hop = |hop: &TraceHop| {
        (hop.router.to_string(), hop.labels.iter().map(|label| label.value()).collect())
    };
    let hops: Vec<(String, Vec<u32>)> = report.paths[0].hops.iter().map(hop).collect();
    let expected = [("192.0.2.1", vec![12, 13]), ("192.0.2.2", vec![13]), ("192.0.2.3", vec![])];
    assert_eq!(hops, expected.map(|(id, labels)| (id.to_owned(), labels)));
    // A FEC that nobody has, and a router that nobody knows.
    let other = Selector::Fec("ip:198.51.100.0/24".parse().unwrap());
    assert_eq!(traces.trace(router("192.0.2.1"), other).verdict, TraceVerdict::Broken);
    assert_eq!(traces.trace(router("198.51.100.9"), customer).verdict, TraceVerdict::Unknown);
}

#[test]
fn a_path_that_reads_what_it_meets_is_that_of_the_whole_network() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    for at in [sample::START, sample::FAILURE, sample::FAILURE.offset(100_000), sample::NOW] {
        let traces = Traces::open(folder.path(), at).unwrap().value;
        for (head, rows) in tables(folder.path(), at).unwrap().value {
            for row in rows {
                let selector = match row.mapping.ingress.label {
                    Some(label) => Selector::Label { label, table: None },
                    None => Selector::Fec(row.mapping.fec),
                };
                let expected = traces.trace(head, selector).answer(Vec::new());
                let found =
                    trace(folder.path(), &head.to_string(), selector, Follow::Primaries, at, None)
                        .unwrap();
                assert_eq!(found.value.answer(found.warnings), expected, "{head} {selector}");
            }
        }
    }
}

#[test]
fn a_tree_that_nobody_reads_to_its_end_has_one() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write_ladder(folder.path(), 20_000);
    let first = Selector::Label { label: Label::new(100).unwrap(), table: None };
    let report =
        trace(folder.path(), "pe1", first, Follow::Primaries, sample::NOW, None).unwrap().value;
    assert!(report.paths[0].hops.len() == 1 && report.paths_complete);
    let text = render_trace(&report, Format::Table);
    assert!(text.len() < 5 << 20, "{} bytes", text.len());
    assert!(text.ends_with("and more than fits here: JSON has all of it\n"));
}

#[test]
fn unknown_is_an_answer_of_tables() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let of_p2 = |at| {
        let tables = tables(folder.path(), at).unwrap().value;
        tables.into_iter().find(|(id, _)| *id == router("192.0.2.2")).unwrap().1
    };
    let known = |rows: &[TableRow]| rows.iter().filter(|row| row.answer.is_known()).count();
    let before = of_p2(sample::FAILURE.offset(-1));
    assert_eq!((before.len(), known(&before)), (2, 2));
    let failed = of_p2(sample::LOST.offset(-1));
    assert_eq!((failed.len(), known(&failed)), (1, 1));
    let lost = of_p2(sample::LOST);
    assert_eq!((lost.len(), known(&lost)), (1, 0));
    let since = Some(sample::LOST);
    assert_eq!(lost[0].answer, Answer::Unknown { cause: "timed-out", since });
}

#[test]
fn two_instants_differ_by_what_changed_and_by_what_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let words = |first, second| {
        let rows = difference(folder.path(), first, second, None).unwrap().value;
        let word = |row: &DifferenceRow| {
            let mapping = row.after.as_ref().or(row.before.as_ref());
            let key = mapping.map_or("all".to_owned(), |mapping| mapping.key().to_string());
            format!("{} {} {key}", row.router, row.difference.name())
        };
        rows.iter().map(word).collect::<Vec<_>>()
    };
    let (before, after) = (sample::FAILURE.offset(-1), sample::FAILURE.offset(1_000_000));
    assert_eq!(words(before, before), [""; 0]);
    let altered = "192.0.2.1 altered";
    assert_eq!(
        words(before, after),
        [
            format!("{altered} ftn ip:192.0.2.3/32"),
            format!("{altered} service 13 ip:192.0.2.3/32"),
            "192.0.2.2 withdrawn ilm 12 platform".to_owned(),
        ]
    );
    assert_eq!(words(after, before)[2], "192.0.2.2 added ilm 12 platform");
    assert_eq!(words(after, sample::LOST), ["192.0.2.2 unknown all"]);
}

#[test]
fn sums_do_not_depend_on_the_split() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let sum = |range: Range, by: LedgerBy| {
        let report = ledger(folder.path(), range, by).unwrap().value;
        assert_eq!(report.imbalances, [""; 0]);
        let read: u64 = report.lines.iter().map(|line| line.bytes_read).sum();
        assert_eq!(read, report.total.bytes_read);
        (read, report.total.mappings_framed)
    };
    let whole = sum(Range::ALL, LedgerBy::Router);
    assert_eq!(whole, (1_100, 11));
    assert_eq!(sum(Range::ALL, LedgerBy::Hour), whole);
    assert_eq!(sum(Range::ALL, LedgerBy::Shard), whole);
    let early = sum(Range { until: sample::FAILURE, ..Range::ALL }, LedgerBy::Router);
    let late = sum(Range { since: sample::FAILURE.offset(1), ..Range::ALL }, LedgerBy::Router);
    assert_eq!((early.0 + late.0, early.1 + late.1), whole);
    assert!(early < whole && late < whole);
}

#[test]
fn what_is_unaccounted_for_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let honest = LedgerRow {
        router: Some(router("192.0.2.4")),
        generation: 1,
        time: sample::NOW,
        sequence_last: 2,
        bytes_read: 100,
        bytes_framed: 100,
        mappings_framed: 1,
        changes: 0,
        confirmed: 1,
        duplicates: 0,
        derived: 0,
        rejected: Vec::new(),
    };
    let imbalances = |row: LedgerRow, shard: u16| {
        let mut rows = BlockBuilder::new(shard);
        let mut bytes = Vec::new();
        rows.ledger(&row);
        rows.finish(&mut bytes);
        let path = log_path(folder.path(), Hour(sample::START.hour().0 + 1), shard);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
        let report = ledger(folder.path(), Range::ALL, LedgerBy::Router).unwrap().value;
        std::fs::remove_file(path).unwrap();
        report.imbalances
    };
    assert_eq!(imbalances(honest.clone(), 7), [""; 0]);
    // Still buffered: no imbalance while the session is open.
    assert_eq!(imbalances(LedgerRow { bytes_read: 120, ..honest.clone() }, 7), [""; 0]);
    let of_ended = LedgerRow { router: Some(router("192.0.2.2")), ..honest.clone() };
    let found = imbalances(LedgerRow { bytes_read: 120, ..of_ended }, 7);
    assert_eq!(
        found,
        ["router 192.0.2.2, generation 1: 420 bytes read, 400 framed and 0 rejected"]
    );
    let found = imbalances(LedgerRow { bytes_framed: 101, ..honest.clone() }, 7);
    assert_eq!(found.len(), 1, "{found:?}");
    let found = imbalances(LedgerRow { confirmed: 0, ..honest.clone() }, 7);
    assert!(found[0].ends_with("of 2 mappings 1 are not explained"), "{found:?}");
    let found = imbalances(LedgerRow { confirmed: 0, changes: 1, ..honest }, 7);
    assert!(found[0].ends_with("2 changes in the ledger, 1 change rows in the log"), "{found:?}");
}

#[test]
fn a_burst_is_found_by_its_name_and_by_any_interval_that_it_touches() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let start = sample::FAILURE.offset(40_000);
    let found = |since, until| bursts(folder.path(), Range { since, until }).unwrap().value;
    let [burst_of_all] = found(Micros::MIN, Micros::MAX).try_into().unwrap();
    let head = &burst_of_all.head;
    assert_eq!((head.received_bytes, head.mappings, head.peak_mappings), (40_000, 400, 250));
    assert_eq!((burst_of_all.bins.len(), burst_of_all.steps.len()), (3, 2));
    // An interval inside of it, and none beside it: its rows belong together all the same.
    assert_eq!(
        found(start.offset(12_000), start.offset(13_000)),
        std::slice::from_ref(&burst_of_all)
    );
    assert_eq!(found(Micros::MIN, start.offset(-1)), []);
    assert_eq!(found(start.offset(30_001), Micros::MAX), []);
    assert_eq!(burst(folder.path(), start.0).unwrap().value, Some(burst_of_all));
    assert_eq!(burst(folder.path(), start.0 + 1).unwrap().value, None);
}

/// Writes kernel rows, each into the file of its hour.
fn write_kernel(data: &Path, rows: &[(Micros, &str, u64)]) {
    for (time, counter, value) in rows {
        let row = KernelRow { time: *time, counter: (*counter).into(), value: *value };
        let path = log_path(data, time.hour(), KERNEL_SHARD);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        file.write_all(&kernel_block(&[row])).unwrap();
    }
}

#[test]
fn a_loss_is_one_unless_a_burst_that_was_judged_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let at = |seconds: i64| sample::START.offset(seconds * 1_000_000);
    let prune = "TcpExt.PruneCalled";
    write_kernel(
        folder.path(),
        &[
            (at(0), prune, 1),
            (at(10), "stall.io.some_us", 7),
            (at(20), "burst.begin", 0),
            (at(21), prune, 100),
            (at(23), "burst.squeezed.socket", 0),
            (at(24), "burst.end", 4_000_000),
            (at(30), prune, 10),
            (at(40), "burst.begin", 0),
            (at(41), prune, 1_000),
            (at(42), "burst.cut", 0),
            (at(50), "TcpExt.ListenDrops", 5),
        ],
    );
    let told = |since: i64, until: i64| -> Vec<(String, u64, u64)> {
        let range = Range { since: at(since), until: at(until) };
        let Past { bursts: found, losses } = past(folder.path(), range).unwrap().value;
        assert_eq!(found, bursts(folder.path(), range).unwrap().value);
        losses.into_iter().map(|loss| (loss.counter, loss.by, loss.times)).collect()
    };
    let pruned = |by, times| (prune.to_owned(), by, times);
    let listen = ("TcpExt.ListenDrops".to_owned(), 5, 1);
    assert_eq!(told(0, 60), [listen, pruned(1_011, 3)]);
    // The burst at whose beginning the interval begins, and the one in which it ends, are judged
    // by what is told of them outside of it.
    assert_eq!(told(1, 22), []);
    assert_eq!(told(21, 35), [pruned(10, 1)]);
    assert_eq!(told(0, 40), [pruned(11, 2)]);
}

#[test]
fn a_burst_is_found_however_long_before_the_interval_it_began() {
    let folder = tempfile::tempdir().unwrap();
    let at = |hours: i64| sample::START.offset(hours * MICROS_PER_HOUR);
    let began = |since, until| {
        let bursts = bursts(folder.path(), Range { since, until }).unwrap().value;
        bursts.iter().map(|burst| burst.head.start_us).collect::<Vec<_>>()
    };
    let lasted_us = 30 * MICROS_PER_HOUR.unsigned_abs();
    write_kernel(
        folder.path(),
        &[
            (at(0), "burst.begin", 0),
            (at(0), "bin.mappings", 5),
            (at(20), "bin.mappings", 5),
            (at(30), "burst.squeezed.disk", 0),
            (at(30), "burst.end", lasted_us),
            (at(40), "burst.begin", 0),
            (at(70), "bin.mappings", 5),
            // It was cut, and another began.
            (at(80), "burst.begin", 0),
            (at(80), "burst.clean", 0),
            (at(80).offset(9), "burst.end", 9),
        ],
    );
    // With rows in the interval and without, before its end and at it, and after it.
    assert_eq!(began(at(19), at(21)), [at(0).0]);
    assert_eq!(began(at(10), at(11)), [at(0).0]);
    assert_eq!(began(at(30), at(31)), [at(0).0]);
    assert_eq!(began(at(31), at(32)), [0; 0]);
    assert_eq!(began(at(10), at(90)), [at(0).0, at(40).0, at(80).0]);
    // One without an end is looked for backwards.
    assert_eq!(began(at(69), at(71)), [at(40).0]);
    assert_eq!(began(at(71), at(90)), [at(80).0]);
}

#[test]
fn sums_do_not_depend_on_the_split_into_bins() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let range = Range { since: sample::START, until: sample::NOW };
    let sums = |every_us: i64| {
        let bins = bins(folder.path(), range, every_us).unwrap().value;
        let sum = |of: &dyn Fn(&BinRow) -> u64| bins.iter().map(of).sum::<u64>();
        let prunes = |bin: &BinRow| {
            let of = |moved: &&crate::watch::Moved| moved.counter == "TcpExt.PruneCalled";
            bin.moved.iter().find(of).map_or(0, |moved| moved.by)
        };
        [
            sum(&|bin| bin.changes),
            sum(&|bin| bin.mappings),
            sum(&|bin| bin.bytes),
            sum(&|bin| bin.received_bytes),
            sum(&|bin| bin.digested),
            sum(&prunes),
        ]
    };
    let books = ledger(folder.path(), range, LedgerBy::Router).unwrap().value.total;
    let expected = [11, books.mappings_framed, books.bytes_read, 40_000, 400, 3];
    for every_us in [10_000, 1_000_000, 77_777, 3_600_000_000] {
        assert_eq!(sums(every_us), expected, "{every_us} us");
    }
}
