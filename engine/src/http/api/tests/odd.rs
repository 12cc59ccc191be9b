//! Odd questions: whatever stands in a query, it is answered, or refused with words.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::string::string_regex;

use super::*;

/// Every question that takes words, with words that it takes.
const ASKED: &[(&str, &[(&str, &str)])] = &[
    ("/api/v1/moments", &[("since", "-1s")]),
    ("/api/v1/bursts", &[("since", "-1h")]),
    ("/api/v1/routers", &[("at", "-10m")]),
    ("/api/v1/plan", &[]),
    ("/api/v1/fecs", &[("router", "pe1"), ("at", "-5m"), ("letters", "vrf")]),
    ("/api/v1/density", &[("since", "-1h"), ("until", "now"), ("router", "pe1"), ("bins", "10")]),
    ("/api/v1/trace/changes", &[("router", "pe1"), ("fec", "label:13"), ("at", "-25m")]),
    (
        "/api/v1/trace",
        &[
            ("router", "pe1"),
            ("fec", "vrf:192.0.2.3,65000:2"),
            ("at", "2026-11-22T04:10:00.100Z"),
            ("draw", "true"),
            ("with_backups", "false"),
        ],
    ),
    (
        "/api/v1/history",
        &[("router", "p2"), ("label", "12"), ("since", "-2h"), ("until", "now"), ("limit", "3")],
    ),
    ("/api/v1/bursts/7", &[]),
    ("/charts/now/surge", &[("width", "300")]),
    ("/charts/density", &[("since", "-1h"), ("router", "pe1"), ("width", "300")]),
];

/// The text of a parameter: noise, numbers at their ends, or what fits with a part exchanged.
fn value(fits: String) -> impl Strategy<Value = Vec<u8>> {
    let numbers = ["-1", "0", "18446744073709551616", "9223372036854775807", "1e9", "NaN", "0x10"];
    let times = ["-9999999999999w", "-1", "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "-0s"];
    let fecs = [
        "label:",
        "label:1048576",
        "label:1,99999999999",
        "ip:10.0.0.0/33",
        "ip:::/129,1,from=",
        "vrf:1.2.3.4,1:1,",
        "name:rsvp,",
        "unknown,",
        "vsi:::1,4294967296",
        "ip:10.0.0.0/8,tos=256",
    ];
    let odd: Vec<String> =
        numbers.iter().chain(&times).chain(&fecs).map(|text| (*text).to_owned()).collect();
    let swapped = (Just(fits.clone()), any::<char>(), any::<proptest::sample::Index>());
    prop_oneof![
        2 => Just(fits.into_bytes()),
        2 => select(odd).prop_map(String::into_bytes),
        1 => ".{0,40}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..60),
        2 => swapped.prop_map(|(mut text, with, at)| {
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            if let Some(at) = (!places.is_empty()).then(|| places[at.index(places.len())]) {
                text.replace_range(at..=at, &with.to_string());
            }
            text.into_bytes()
        }),
    ]
}

fn question() -> impl Strategy<Value = String> {
    select(ASKED.to_vec()).prop_flat_map(|(path, words)| {
        let each = words.iter().map(|(name, fits)| {
            let names = prop_oneof![
                12 => Just((*name).to_owned()),
                1 => Just(String::new()),
                1 => "[a-z_]{0,9}",
            ];
            (proptest::bool::weighted(0.85), names, value((*fits).to_owned()))
        });
        let each: Vec<_> = each.collect();
        each.prop_map(move |words| {
            let said = words.into_iter().filter(|(is_said, ..)| *is_said);
            let words: Vec<String> =
                said.map(|(_, name, value)| format!("{name}={}", percent(&value))).collect();
            format!("{path}?{}", words.join("&"))
        })
    })
}

fn percent(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

/// 200, or a refusal that says what is wrong; never a failure of the collector's own.
fn check_answer(server: &HttpServer, path: &str) -> Result<(), TestCaseError> {
    let answer = ask(server.address(), path);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status: u16 = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    prop_assert!(status == 200 || (400..500).contains(&status), "{path}: {answer}");
    if status != 200 {
        let fault: Value = serde_json::from_str(body).unwrap_or_default();
        let words = fault["error"].as_str().unwrap_or_default();
        prop_assert!(words.len() > 10, "{path}: {answer}");
    }
    Ok(())
}

#[test]
fn whatever_is_asked_is_answered_or_refused_with_words() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let server = serve(folder.path());
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() };
    proptest!(config, |(path in question())| check_answer(&server, &path)?);
}

#[test]
fn routers_fecs_and_labels_are_described_by_the_words_that_they_take() {
    let folder = tempfile::tempdir().unwrap();
    let _lock = sample::write(folder.path());
    let server = serve(folder.path());
    let (_, description) = json(&server, "/api/v1/openapi.json");
    let config = ProptestConfig { cases: 20, failure_persistence: None, ..Default::default() };
    let mut patterns = 0;
    for (path, operations) in description["paths"].as_object().unwrap() {
        let parameters = operations["get"]["parameters"].as_array();
        for parameter in parameters.into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            if !["router", "fec", "label"].contains(&name) {
                continue;
            }
            let pattern = parameter["schema"]["pattern"].as_str();
            let pattern = pattern.unwrap_or_else(|| panic!("{path} {name}: {parameter}"));
            let fitting = pattern.trim_start_matches('^').trim_end_matches('$');
            let fitting = string_regex(fitting).unwrap();
            let rest = match name {
                "router" => "&fec=label:13",
                _ => "&router=pe1",
            };
            let rest = if path.ends_with("trace") || path.ends_with("changes") { rest } else { "" };
            proptest!(config.clone(), |(text in fitting)| {
                check_answer(&server, &format!("{path}?{name}={}{rest}", percent(text.as_bytes())))?;
            });
            patterns += 1;
        }
    }
    assert_eq!(patterns, 9, "router and fec of two paths, of history with label, router of two");
}
