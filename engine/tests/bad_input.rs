//! Everything that a peer can do wrong: its cause, its counter, its log line, its gap, its fate.

use std::net::IpAddr;
use std::path::Path;

use engine::wire::SnapshotMark;
use engine::wire::frame::{Codec, FrameEncoder, FrameFlags, FrameType, HEADER_BYTES, Header};
use engine::wire::xml::write::write_document;
use storage::mapping::RouterId;
use storage::row::{Cause, Reason, Scope, SessionEvent};

use crate::process::{Process, Way, assert_sound, message, session_rows, states};
use crate::sender::{Fate, Router, Session, connect_from, swap, wall};

const SETTINGS: &str = "frame_bytes_max = \"64KiB\"\nidentity_idle_s = 60\nshards = 1\n\
    allow = [\"127.0.1.0/24\"]\n\n\
    [[router]]\nid = \"192.0.2.200\"\nsources = [\"127.0.1.200/32\"]\n";

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// It goes on: the next frame is acknowledged.
    Not,
    /// The collector resets it.
    Reset,
}

/// Whether history says that it cannot vouch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    /// For the router.
    Router,
    /// For one entry.
    Key,
    /// There is nothing to vouch for.
    None,
}

/// One wrong thing: what is sent behind hello and a good frame, and what follows from it.
struct Case {
    cause: Cause,
    bytes: fn(&mut Router) -> Vec<u8>,
    gap: Gap,
    ends: Ends,
}

fn frame(
    router: &mut Router,
    payload: &[u8],
    spoil: impl Fn(&mut Header, &mut Vec<u8>),
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let sequence = router.sequence_next();
    let (kind, flags) = (FrameType::Mappings, FrameFlags::NONE);
    FrameEncoder::new(1).frame(kind, Codec::None, flags, sequence, payload, &mut bytes);
    let mut header = Header::read(bytes.first_chunk::<HEADER_BYTES>().unwrap()).unwrap();
    let mut payload = bytes.split_off(HEADER_BYTES);
    spoil(&mut header, &mut payload);
    router.skip_sequence();
    [&header.write()[..], &payload].concat()
}

fn document(router: RouterId, text: impl Fn(String) -> String) -> Vec<u8> {
    let mut document = String::new();
    let mappings = [swap(100, 7, wall()), swap(101, 8, wall())];
    write_document(Some(router), SnapshotMark::None, &mappings, &mut document);
    text(document).into_bytes()
}

fn good(router: &Router) -> Vec<u8> {
    document(router.id, |text| text)
}

const CASES: &[Case] = &[
    Case {
        cause: Cause::FrameMagic,
        bytes: |_| vec![0xAA; 500],
        gap: Gap::Router,
        ends: Ends::Reset,
    },
    Case {
        cause: Cause::FrameChecksum,
        bytes: |router| {
            let payload = good(router);
            frame(router, &payload, |_, payload| payload[40] ^= 1)
        },
        gap: Gap::Router,
        ends: Ends::Not,
    },
    Case {
        cause: Cause::FrameLength,
        bytes: |router| {
            let payload = good(router);
            frame(router, &payload, |header, _| header.inflated_bytes += 1)
        },
        gap: Gap::Router,
        ends: Ends::Not,
    },
    Case {
        cause: Cause::FrameTooLong,
        bytes: |router| frame(router, &vec![b' '; (64 << 10) + 1], |_, _| {}),
        gap: Gap::Router,
        ends: Ends::Reset,
    },
    Case {
        cause: Cause::FrameType,
        bytes: |router| {
            let payload = good(router);
            frame(router, &payload, |header, _| header.type_code = 99)
        },
        gap: Gap::Router,
        ends: Ends::Not,
    },
    Case {
        cause: Cause::XmlMalformed,
        bytes: |router| {
            let payload = document(router.id, |text| text.replacen("</mapping>", "</mapper>", 1));
            frame(router, &payload, |_, _| {})
        },
        gap: Gap::Router,
        ends: Ends::Not,
    },
    Case {
        cause: Cause::XmlDoctype,
        bytes: |router| {
            let payload =
                document(router.id, |text| format!("<!DOCTYPE x [<!ENTITY a \"b\">]>{text}"));
            frame(router, &payload, |_, _| {})
        },
        gap: Gap::Router,
        ends: Ends::Not,
    },
    Case {
        cause: Cause::LabelRange,
        bytes: |router| {
            let payload = document(router.id, |text| {
                text.replacen("<nhlfe label=\"7\"", "<nhlfe label=\"1048576\"", 1)
            });
            frame(router, &payload, |_, _| {})
        },
        gap: Gap::Key,
        ends: Ends::Not,
    },
    Case {
        cause: Cause::ForeignRouter,
        bytes: |router| {
            let payload = document(RouterId([192, 0, 2, 99].into()), |text| text);
            frame(router, &payload, |_, _| {})
        },
        gap: Gap::None,
        ends: Ends::Not,
    },
    Case {
        cause: Cause::SequenceBroken,
        bytes: |router| {
            let payload = good(router);
            router.skip_sequence();
            frame(router, &payload, |_, _| {})
        },
        gap: Gap::Router,
        ends: Ends::Not,
    },
    Case {
        cause: Cause::HelloInvalid,
        bytes: |router| router.hello(false, true),
        gap: Gap::Router,
        ends: Ends::Not,
    },
];

/// Counters are published at the end of a turn: later, now and then, than the fate is seen.
/// One fault counts once, however many bytes follow it.
fn await_counted(process: &Process, cause: Cause) {
    let label = format!("cause=\"{}\"", cause.name());
    process.await_metric("stormdrain_rejections_total", &label, |count| count == 1);
}

fn assert_line(process: &mut Process, cause: Cause, source: IpAddr) {
    let line = process.line(|line| {
        let peer = line["fields"]["peer"].as_str().unwrap_or_default();
        message(line) == "rejected"
            && line["fields"]["cause"] == cause.name()
            && peer.starts_with(&format!("{source}:"))
    });
    let detail = line["fields"]["detail"].as_str().unwrap();
    assert!(!detail.is_empty(), "{line}");
}

fn assert_end(session: &mut Session, router: &mut Router, ends: Ends, cause: Cause) {
    match ends {
        Ends::Not => {
            let mapping = swap(500, 500, router.tick());
            let after = router.frame(&[mapping], false);
            session.send(&after).unwrap();
            router.await_acks(session);
        }
        Ends::Reset => assert_eq!(session.fate(router), Fate::Reset, "{}", cause.name()),
    }
}

fn assert_gap(data: &Path, router: RouterId, gap: Gap, cause: Cause) {
    let rows = session_rows(data);
    let mut gaps =
        rows.iter().filter(|row| row.router == router).filter_map(|row| match &row.event {
            SessionEvent::Gap { scope, reason, .. } if *reason == Reason::Rejected(cause) => {
                Some(matches!(scope, Scope::Entry(_)))
            }
            _ => None,
        });
    let expected = match gap {
        Gap::Router => Some(false),
        Gap::Key => Some(true),
        Gap::None => None,
    };
    assert_eq!(gaps.next(), expected, "{}: {rows:#?}", cause.name());
}

#[test]
fn one_bad_router_hurts_only_itself() {
    for way in Way::all() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut process = Process::start(way, &data, SETTINGS);
        let mut witness = Router::new(100);
        let mut unharmed = witness.open(process.listen, true, true).unwrap();
        for (number, case) in (1_u8..).zip(CASES) {
            eprintln!("--- {way:?} {}", case.cause.name());
            let mut router = Router::new(number);
            let mut session = router.open(process.listen, false, true).unwrap();
            let mapping = swap(400, 400, router.tick());
            session.send(&router.frame(&[mapping], false)).unwrap();
            router.await_acks(&mut session);
            let bytes = (case.bytes)(&mut router);
            // A reset may come before the last of them.
            let _ = session.send(&bytes);
            assert_end(&mut session, &mut router, case.ends, case.cause);
            assert_line(&mut process, case.cause, [127, 0, 1, number].into());
            await_counted(&process, case.cause);
            let mapping = swap(u32::from(number) + 600, 7, witness.tick());
            unharmed.send(&witness.frame(&[mapping], false)).unwrap();
            witness.await_acks(&mut unharmed);
        }
        assert!(process.page("/healthz").ends_with("ok\n"), "the ledger balances");
        assert!(process.terminate().success());
        for (number, case) in (1_u8..).zip(CASES) {
            assert_gap(&data, RouterId([192, 0, 2, number].into()), case.gap, case.cause);
        }
        assert_eq!(states(&data)[&witness.id].table.len(), CASES.len());
        assert_sound(&data);
    }
}

/// Sends bare bytes from a source of its own, ends, and says how the collector ended.
fn bare(process: &Process, source: IpAddr, bytes: &[u8], finish: bool) -> Fate {
    // The reset of a refused source may come before connect has returned.
    let Ok(stream) = connect_from(source, process.listen) else { return Fate::Reset };
    let mut session = Session::of(stream);
    let _ = session.send(bytes);
    if finish {
        session.finish();
    }
    session.ack().expect_err("nobody is acknowledged here")
}

#[test]
fn who_may_not_speak_is_told_apart() {
    for way in Way::all() {
        eprintln!("--- {way:?}");
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut process = Process::start(way, &data, SETTINGS);
        let one = RouterId([192, 0, 2, 1].into());
        let cases: [(Cause, IpAddr, Vec<u8>, bool, Fate); 6] = [
            (
                Cause::SourceRefused,
                [127, 0, 2, 1].into(),
                document(one, |text| text),
                false,
                Fate::Reset,
            ),
            (Cause::ModeUnknown, [127, 0, 1, 41].into(), vec![0x7F; 64], false, Fate::Reset),
            (
                Cause::RouterUnknown,
                [127, 0, 1, 42].into(),
                document(one, |text| text.replace(" router-id=\"192.0.2.1\"", "")),
                false,
                Fate::Reset,
            ),
            (
                Cause::IdentityRefused,
                [127, 0, 1, 43].into(),
                document(RouterId([192, 0, 2, 200].into()), |text| text),
                false,
                Fate::Reset,
            ),
            (
                Cause::XmlRoot,
                [127, 0, 1, 44].into(),
                document(one, |text| text.replace("label-mappings", "label-mopping")),
                true,
                Fate::Closed,
            ),
            (
                Cause::InflateFailed,
                [127, 0, 1, 45].into(),
                [&[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3][..], &[0xFF; 64]].concat(),
                false,
                Fate::Reset,
            ),
        ];
        for (cause, source, bytes, finish, fate) in cases {
            assert_eq!(bare(&process, source, &bytes, finish), fate, "{}", cause.name());
            assert_line(&mut process, cause, source);
            await_counted(&process, cause);
        }
        assert!(process.page("/healthz").ends_with("ok\n"), "the ledger balances");
        assert!(process.terminate().success());
        assert!(!states(&data).contains_key(&one), "nobody has spoken for it");
        assert_sound(&data);
    }
}

#[test]
fn of_two_sources_that_claim_one_router_the_active_one_stays() {
    for way in Way::all() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut process = Process::start(way, &data, SETTINGS);
        let mut first = Router::new(1);
        let mut session = first.open(process.listen, true, true).unwrap();
        let mapping = swap(100, 7, first.tick());
        session.send(&first.frame(&[mapping], true)).unwrap();
        first.await_acks(&mut session);

        let mut impostor = Router::new(1).moved_to([127, 0, 1, 66]);
        let mut refused = impostor.open(process.listen, true, true).unwrap();
        assert_eq!(refused.fate(&mut impostor), Fate::Reset);
        let cause = Cause::IdentityConflict;
        let line = process.line(|line| line["fields"]["cause"] == cause.name());
        let text = line.to_string();
        assert!(
            text.contains("127.0.1.66") && text.contains("127.0.1.1:"),
            "both are named: {text}"
        );
        await_counted(&process, cause);

        let mapping = swap(101, 8, first.tick());
        session.send(&first.frame(&[mapping], true)).unwrap();
        first.await_acks(&mut session);
        assert!(process.terminate().success());
        assert_eq!(states(&data)[&first.id].table.len(), 2);
        assert_sound(&data);
    }
}

#[test]
fn a_connection_that_ends_inside_a_frame_leaves_a_gap() {
    for way in Way::all() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut process = Process::start(way, &data, SETTINGS);
        let mut router = Router::new(1);
        let mut session = router.open(process.listen, true, true).unwrap();
        let mapping = swap(100, 7, router.tick());
        session.send(&router.frame(&[mapping], true)).unwrap();
        router.await_acks(&mut session);
        let payload = good(&router);
        let whole = frame(&mut router, &payload, |_, _| {});
        session.send(&whole[..whole.len() - 5]).unwrap();
        session.finish();
        session.fate(&mut router);
        assert_line(&mut process, Cause::Truncated, [127, 0, 1, 1].into());
        assert!(process.terminate().success());
        let state = &states(&data)[&router.id];
        assert!(state.gaps.router.is_some());
        assert_sound(&data);
    }
}

#[test]
fn what_is_not_known_is_kept_not_refused() {
    for way in Way::all() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut process = Process::start(way, &data, SETTINGS);
        let router = RouterId([192, 0, 2, 1].into());
        let bytes = document(router, |text| {
            text.replacen("</mapping>", "<colour>blue</colour></mapping>", 1)
        });
        assert_eq!(bare(&process, [127, 0, 1, 1].into(), &bytes, true), Fate::Closed);
        assert!(process.terminate().success());
        let states = states(&data);
        let entry = states[&router].table.get(&swap(100, 7, wall()).key()).unwrap().mapping();
        assert!(entry.extra.is_some_and(|extra| extra.contains("blue")));
        assert_sound(&data);
    }
}
