//! Tests of the settings: layers, ranges, the page.

use super::*;

fn layered(file: &str, variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Settings {
    try_layered(file, variables, flags).unwrap()
}

fn try_layered(
    file: &str,
    variables: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> Result<Settings, SettingError> {
    let variable = |name: &str| {
        variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
    };
    let flags: Vec<_> = flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Settings::layered(Some(("f.toml", file)), &variable, &flags)
}

fn refusal(file: &str) -> String {
    let refusal = try_layered(file, &[], &[]).unwrap_err().to_string();
    refusal.strip_prefix("f.toml: ").map_or(refusal.clone(), str::to_owned)
}

#[test]
fn each_layer_lies_over_the_one_before() {
    assert_eq!(layered("", &[], &[]), Settings::default());
    let file = "shards = 3\nlisten = '0.0.0.0:1'\ncommit_interval_ms = 5\n";
    let settings = layered(
        file,
        &[("STORMDRAIN_LISTEN", "0.0.0.0:2"), ("STORMDRAIN_SHARDS", "4")],
        &[("shards", "5")],
    );
    assert_eq!(settings.commit_interval_ms, 5);
    assert_eq!(settings.listen.port(), 2);
    assert_eq!(settings.shards, 5);
    assert_eq!(settings.shard_count(), 5);
}

#[test]
fn variables_that_are_no_setting_are_left_alone() {
    let settings = layered("", &[("STORMDRAIN_SERVICE_HOST", "10.0.0.1")], &[]);
    assert_eq!(settings, Settings::default());
}

#[test]
fn the_effective_settings_are_a_settings_file() {
    let file = "data = '/var/lib/storm drain'\nallow = ['10.1.2.3/8', '2001:db8::/32']\n\
                memory_bytes = '2GiB'\nhttp = 'off'\nio = 'epoll'\n\
                [[router]]\nid = '192.0.2.1'\nname = 'pe1'\naddresses = ['10.0.0.1']\n\
                sources = ['10.0.0.0/30']\n[[router]]\nid = '2001:db8::1'\n";
    let settings = layered(file, &[], &[]);
    assert_eq!(settings.memory_bytes, 2 << 30);
    assert_eq!(settings.allow[0].to_string(), "10.0.0.0/8");
    assert_eq!(layered(&settings.effective(), &[], &[]), settings);
}

#[test]
fn every_setting_takes_its_own_default_and_refuses_nonsense() {
    let defaults = Settings::default();
    for setting in SETTINGS {
        let mut settings = Settings::default();
        let shown = (setting.get)(&defaults);
        let text = shown.trim_matches('"').trim_matches(['[', ']']);
        settings.set(setting.name, text).unwrap();
        assert_eq!(settings, defaults, "{}", setting.name);
        // Of a path anything is allowed.
        if !["data", "http_token_file"].contains(&setting.name) {
            let error = settings.set(setting.name, "~?").unwrap_err().to_string();
            assert!(error.contains(setting.name) && error.contains(setting.allowed), "{error}");
        }
    }
}

#[test]
fn a_refusal_names_the_setting_the_value_and_what_is_allowed() {
    for (file, expected) in [
        ("shards = 257", "setting `shards` is `257`: allowed is 0 to 256; 0 = one per CPU"),
        ("shards = -1", "setting `shards` is `-1`: allowed is 0 to 256; 0 = one per CPU"),
        (
            "memory_bytes = '15MiB'",
            "setting `memory_bytes` is `15MiB`: allowed is 0, or 32MiB to 1TiB",
        ),
        ("io = 'kqueue'", "setting `io` is `kqueue`: allowed is auto, uring or epoll"),
        ("data = ''", "setting `data` is ``: allowed is a path that is not empty"),
        ("sharts = 1", "setting `sharts` does not exist; is `shards` meant?"),
        ("whatever_else = 1", "setting `whatever_else` does not exist"),
        (
            "http = '127.0.0.1:30310'",
            "setting `http` is `127.0.0.1:30310`: allowed is an address and port other than \
             listen's",
        ),
        ("\nshards = = 1", "line 2, `shards = = 1`: "),
        ("[extra]\na = 1", "setting `extra` does not exist"),
        ("shards = true", "setting `shards` is `true`: allowed is a text, a number or a list"),
    ] {
        let found = refusal(file);
        assert!(found.starts_with(expected), "{file}: {found}");
    }
}

#[test]
fn a_refusal_says_where_the_value_was_found() {
    let refusal = |file, variables, flags| try_layered(file, variables, flags).unwrap_err();
    for (error, expected) in [
        (refusal("shards = 999", &[], &[]), "f.toml: setting `shards` is `999`"),
        (refusal("shards = 1 1", &[], &[]), "f.toml: line 1, `shards = 1 1`: "),
        (
            refusal("", &[("STORMDRAIN_SHARDS", "x")], &[]),
            "variable STORMDRAIN_SHARDS: setting `shards` is `x`",
        ),
        (refusal("", &[], &[("memory_bytes", "5")]), "command line: setting `memory_bytes` is `5`"),
    ] {
        let error = error.to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn what_waits_for_a_start_is_named() {
    let started = layered("shards = 1\nallow = ['10.0.0.0/8']", &[], &[]);
    let reread = layered("shards = 2\nio = 'epoll'\nallow = []", &[], &[]);
    let waiting = |now: &Settings| -> Vec<String> {
        let waiting = now.waiting_for_a_start(&started).into_iter();
        waiting.map(|(name, before, now)| format!("{name} {before} {now}")).collect()
    };
    assert_eq!(waiting(&reread), ["shards 1 2", "io \"auto\" \"epoll\""]);
    assert_eq!(waiting(&started), [""; 0]);
}

#[test]
fn a_router_is_checked_against_the_others() {
    for (file, expected) in [
        ("[[router]]\nname = 'a'", "router 1: id` is `missing`"),
        ("[[router]]\nid = 'a'", "router 1: id` is `a`: allowed is an IPv4 or IPv6 address"),
        (
            "[[router]]\nid = '1.1.1.1'\nsource = []",
            "`router 1: source` does not exist; is `sources` meant?",
        ),
        ("[[router]]\nid = '1.1.1.1'\nname = '1.1.1.2'", "are no address"),
        ("[[router]]\nid = '1.1.1.1'\n[[router]]\nid = '1.1.1.1'", "each id once"),
        (
            "[[router]]\nid = '1.1.1.1'\nname = 'a'\n[[router]]\nid = '1.1.1.2'\nname = 'a'",
            "each name once",
        ),
        (
            "[[router]]\nid = '1.1.1.1'\naddresses = ['10.0.0.1']\n\
             [[router]]\nid = '1.1.1.2'\naddresses = ['10.0.0.1']",
            "each address with one router, because next hops are resolved by it, and router \
             1.1.1.1 has it",
        ),
        (
            "[[router]]\nid = '1.1.1.1'\ninterfaces = [{ name = 'a', address = '10.0.0.1' }]\n\
             [[router]]\nid = '1.1.1.2'\naddresses = ['10.0.0.1']",
            "or in `interfaces` of both with the neighbour behind it",
        ),
        (
            "[[router]]\nid = '1.1.1.1'\ninterfaces = [{ neighbour = '1.1.1.2' }]",
            "each with a name",
        ),
        ("[[router]]\nid = '1.1.1.1'\ninterfaces = [{ name = 'a', mtu = 9 }]", "a list of tables"),
        ("[[router]]\nid = '1.1.1.1'\ninterfaces = [{ name = 'a', table = -1 }]", "table = 7"),
        ("[[router]]\nid = '1.1.1.1'\ninterfaces = 'a'", "a list of tables such as"),
    ] {
        let found = refusal(file);
        assert!(found.contains(expected), "{file}: {found}");
    }
}

/// The unnumbered network of docs/settings.md: its doubles are told apart by their neighbours.
#[test]
fn a_network_without_numbers_is_described_as_the_page_shows_it() {
    let page = table::page();
    let example = page.split("```toml").find(|block| block.contains("neighbour")).unwrap();
    let settings = layered(example.split("```").next().unwrap(), &[], &[]);
    let [p1, pe2] = &settings.routers[..] else { panic!("{:?}", settings.routers) };
    assert_eq!((&*p1.name, p1.interfaces.len(), pe2.interfaces.len()), ("p1", 2, 3));
    let table = pe2.interfaces.iter().find_map(|interface| interface.table);
    assert_eq!(table, Some(7));
    assert_eq!(layered(&settings.effective(), &[], &[]), settings);
    // An address with its neighbour may be that of two links of two routers.
    let with = |neighbour: &str| {
        format!("interfaces = [{{ address = '10.0.0.1', neighbour = '{neighbour}' }}]\n")
    };
    let file = format!(
        "[[router]]\nid = '1.1.1.1'\n{}[[router]]\nid = '1.1.1.2'\n{}",
        with("1.1.1.3"),
        with("1.1.1.4")
    );
    assert_eq!(layered(&file, &[], &[]).routers.len(), 2);
}

#[test]
fn the_page_of_settings_is_fresh() {
    crate::pages::check("settings.md", &table::page());
}

#[test]
fn every_setting_does_something() {
    let code = crate::pages::code_outside(&["settings", "query", "command"]);
    let unused: Vec<_> = SETTINGS
        .iter()
        .filter(|setting| {
            let used = |owner: &str| code.contains(&format!("{owner}.{}", setting.name));
            !used("settings") && !used("limits")
        })
        .map(|setting| setting.name)
        .collect();
    assert_eq!(unused, [""; 0]);
}

#[test]
fn a_budget_that_is_not_set_never_counts_what_is_unknown_as_memory() {
    let gibibyte = 1 << 30;
    assert_eq!(budget_of(Some(8 * gibibyte), false), 2 * gibibyte);
    assert_eq!(budget_of(Some(8 * gibibyte), true), gibibyte / 2);
    assert_eq!(budget_of(Some(gibibyte), true), gibibyte / 4);
    assert_eq!(budget_of(None, true), gibibyte / 2);
    assert_eq!(budget_of(Some(1 << 20), false), MEMORY_BYTES_MIN);
    let mut set = Settings { memory_bytes: 3 * gibibyte, ..Settings::default() };
    assert_eq!((set.resolve_memory(), set.memory_bytes), (None, 3 * gibibyte));
}
