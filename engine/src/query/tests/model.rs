//! Rare entries, clocks that are ahead, tables that were not read in full: in every answer.

use storage::history::network::standing;
use storage::recovery::fold_whole_log;

use super::*;

const NOW: Instant = Instant::Now(sample::NOW);

/// Whatever has been read counts now, also what was filed ahead of now; and the collector, which
/// has it in memory, says the same.
#[test]
fn now_is_everything_that_has_been_read() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write_model(folder.path());
    let p6 = router("192.0.2.6");
    let rows = |at: Instant| {
        let network = network(folder.path(), at, None).unwrap().value;
        let labels = table_rows(&network, p6).unwrap();
        let labels = labels.iter().filter_map(|row| row.mapping.ingress.label);
        (labels.map(Label::value).collect::<Vec<u32>>(), router_rows(&network))
    };
    let (labels, of_log) = rows(NOW);
    assert_eq!(labels, [24, 40]);
    assert_eq!(rows(Instant::At(sample::NOW)).0, [24]);
    assert_eq!(rows(Instant::At(sample::FILED_AHEAD)).0, [24, 40]);
    let states = fold_whole_log(folder.path()).unwrap();
    let of_states: Vec<RouterRow> =
        states.values().map(|state| RouterRow::of(state, standing(state), false)).collect();
    assert_eq!(of_log, of_states);

    let traced = |at: Instant| {
        let selector = "label:40".parse().unwrap();
        let traced = trace(folder.path(), "p6", selector, Follow::Primaries, at, None).unwrap();
        (traced.value.verdict, traced.value.at)
    };
    assert_eq!(traced(NOW), (TraceVerdict::Discarded, sample::NOW));
    assert_eq!(traced(Instant::At(sample::NOW)).0, TraceVerdict::Unknown);
    let discard = Selector::Label { label: Label::new(40).unwrap(), table: None };
    let whole = history(folder.path(), p6, Some(discard), Range::ALL).unwrap().value;
    assert_eq!(whole.iter().filter(|row| matches!(row, HistoryRow::Change(_))).count(), 1);
}

/// How far clocks are ahead, and that a table is known in part, stands in the list of routers.
#[test]
fn routers_say_what_their_clocks_and_tables_are_worth() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write_model(folder.path());
    let network = network(folder.path(), NOW, None).unwrap().value;
    let rows = router_rows(&network);
    let of = |name: &str| rows.iter().find(|row| row.name == name).unwrap();
    let (pe5, p6) = (of("pe5"), of("p6"));
    assert_eq!((pe5.clock_skew_us, pe5.answer), (Some(sample::SKEW_US), Answer::Known));
    let at = sample::START.offset(1_000_000);
    let in_part = Answer::InPart { cause: "fec-invalid", since: Some(at) };
    assert_eq!((p6.answer, p6.entries, p6.entries_unknown), (in_part, 2, 1));
    let sheet = routers_sheet(&rows);
    let table = sheet.render(Format::Table);
    assert!(table.contains("clock skew") && table.contains("  +30m  "), "{table}");
    assert!(table.contains("in-part"), "{table}");
    assert_eq!(sheet.json()[0]["clock_skew_us"], sample::SKEW_US);
    assert_eq!(sheet.json()[1]["cause"], "fec-invalid");

    // The table names the key that could not be read, and speaks for all that it does not list.
    let rows = table_sheet(&network, Some(router("192.0.2.6"))).json();
    let row = |index: usize, field: &str| rows[index][field].clone();
    assert_eq!((row(0, "answer"), row(1, "answer")), ("known".into(), "known".into()));
    assert_eq!((row(2, "fec"), row(2, "cause")), ("ip:10.2.0.0/16".into(), "nhlfe-invalid".into()));
    assert_eq!((row(3, "fec"), row(3, "cause")), (serde_json::Value::Null, "fec-invalid".into()));
    // Neither is said not to be there.
    for fec in ["ip:10.2.0.1/32", "ip:10.3.0.1/32"] {
        let selector = fec.parse().unwrap();
        let traced = trace(folder.path(), "p6", selector, Follow::Primaries, NOW, None).unwrap();
        assert_eq!(traced.value.verdict, TraceVerdict::Unknown, "{fec}");
    }
}

/// What a head lacks in the table that was asked, it may have in another one: that is said.
#[test]
fn a_table_that_has_what_another_lacks_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write_model(folder.path());
    let report = |head: &str, asked: &str| {
        let selector = asked.parse().unwrap();
        trace(folder.path(), head, selector, Follow::Primaries, NOW, None).unwrap().value
    };
    let words = |head: &str, asked: &str| {
        report(head, asked).hints.iter().map(|hint| hint.words.clone()).collect::<Vec<String>>()
    };
    assert_eq!(
        words("pe5", "ip:192.168.61.0/24"),
        [
            "table 10 of this router has 192.168.61.0/24: ask ip:192.168.61.0/24,10",
            "table 11 of this router has 192.168.0.0/16: ask ip:192.168.61.0/24,11",
        ]
    );
    let linux = "table 0, the main one, which Linux calls 254, of this router has 10.9.0.0/16: \
                 ask ip:10.9.1.1/32";
    assert_eq!(words("pe5", "ip:10.9.1.1/32,254"), [linux]);
    assert_eq!(words("pe5", "label:24"), ["label table 7 of this router has 24: ask label:24,7"]);
    assert_eq!(
        words("pe5", "label:33,7"),
        ["the platform's label table of this router has 33: ask label:33"]
    );
    // What to ask is asked as it stands there, and meets the entry.
    for asked in ["ip:192.168.61.0/24", "ip:10.9.1.1/32,254", "label:24", "label:33,7"] {
        for hint in report("pe5", asked).answer(Vec::new()).hints {
            let answer = report("pe5", &hint.fec.unwrap()).answer(Vec::new());
            assert!(answer.steps[0].entry.is_some() && answer.hints.is_empty(), "{answer:?}");
        }
    }
    // Where there is an entry, or none anywhere, or nobody knows of the router, there is none.
    for (head, asked) in
        [("pe5", "ip:10.9.1.1/32"), ("pe5", "ip:172.16.0.1/32"), ("p6", "label:99")]
    {
        assert_eq!(words(head, asked), [""; 0], "{head} {asked}");
    }
    let report = report("pe5", "ip:192.168.61.0/24");
    for format in [Format::Table, Format::Json, Format::Csv] {
        let text = render_trace(&report, format);
        assert!(text.contains("ask ip:192.168.61.0/24,10"), "{text}");
    }
}

/// Each thing that a branch may say, in every text of a trace.
#[test]
fn a_trace_says_roles_links_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write_model(folder.path());
    let traced = |asked: &str, follow: Follow| {
        let selector = asked.parse().unwrap();
        trace(folder.path(), "pe5", selector, follow, NOW, None).unwrap().value
    };
    let discarded = traced("ip:10.9.9.9/32", Follow::Primaries);
    assert_eq!(discarded.verdict, TraceVerdict::Discarded);
    assert!(render_trace(&discarded, Format::Csv).contains(",discarded,discarded at 192.0.2.5"));

    let spared = traced("ip:10.5.0.1/32", Follow::Primaries).answer(Vec::new());
    let roles = |answer: &TraceAnswer| {
        let branches = answer.steps[0].branches.iter();
        branches.map(|branch| (branch.role.clone(), branch.onward.clone())).collect::<Vec<_>>()
    };
    assert!(!spared.with_backups);
    let unfollowed = ("backup".to_owned(), OnwardAnswer::Backup { backup: true });
    assert!(roles(&spared).contains(&unfollowed), "{spared:?}");
    let followed = traced("ip:10.5.0.1/32", Follow::WithBackups).answer(Vec::new());
    assert!(followed.with_backups && !roles(&followed).contains(&unfollowed), "{followed:?}");
    assert!(followed.paths.len() > spared.paths.len());

    let named = traced("name:rsvp,to-p6", Follow::Primaries);
    assert_eq!(named.answer(Vec::new()).steps[0].branches[0].interface.as_deref(), Some("Tunnel1"));
    let tree = render_trace(&named, Format::Table);
    assert!(tree.contains("[26] out by Tunnel1") && tree.contains("interface-unknown"), "{tree}");
}

/// docs/OPERATING.md says of every word that a trace may end with what it means.
#[test]
fn every_cause_of_an_unknown_trace_is_explained() {
    use storage::history::UnknownCause::*;
    use storage::mapping::Encapsulation;
    use storage::row::Reason;
    let address = "10.0.0.1".parse().unwrap();
    let reasons = [
        Reason::Finished,
        Reason::ClosedByRouter,
        Reason::ConnectionLost,
        Reason::TimedOut,
        Reason::Superseded,
        Reason::CollectorStopped,
        Reason::CollectorLost,
        Reason::LogDamaged,
        Reason::NotRetained,
    ];
    let causes = [
        Unconfirmed,
        NeverComplete,
        NeverHeard,
        RouterUnknown(address),
        AddressShared(address),
        InterfaceUnknown,
        NextHopOwn,
        Encapsulated(Encapsulation::Srv6),
        TableUnknown,
        SourceDependent,
        BackupOnly,
        SpecialLabel(Label::new(7).unwrap()),
        FecIncomparable,
        TimeDisputed,
        CollectorClock,
        WalkTooLong,
    ];
    let page = include_str!("../../../../docs/OPERATING.md");
    for cause in reasons.into_iter().map(RouterGap).chain(causes) {
        // A cause that is added is a line of the page, and of this list.
        match cause {
            RouterGap(_) | KeyGap(_) | RestGap(_) | Unconfirmed | NeverComplete | NeverHeard
            | RouterUnknown(_) | AddressShared(_) | InterfaceUnknown | NextHopOwn
            | Encapsulated(_) | TableUnknown | SourceDependent | BackupOnly | SpecialLabel(_)
            | FecIncomparable | TimeDisputed | CollectorClock | WalkTooLong => {}
        }
        let word = format!("`{}`", cause.name());
        assert!(page.contains(&word), "{word} is not in docs/OPERATING.md");
    }
}
