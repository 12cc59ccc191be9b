//! How long blocks are, and that the document names what the layout fixes.

use super::*;

/// A link fails: `routers` routers each move `mappings` FECs to other next hops and labels.
fn reconvergence(routers: u32, mappings: u32) -> Vec<Row> {
    let mut rows = Vec::new();
    let base = 1_795_000_000_000_000;
    for router in 0..routers {
        for mapping in 0..mappings {
            // A multiplicative mix stands for labels that the routers chose on their own.
            let mixed = (router * mappings + mapping).wrapping_mul(0x9e37_79b1) >> 12;
            let label = Label::new(16 + mixed % 100_000).unwrap();
            let out = Label::new(16 + (mixed ^ 0x5555) % 100_000).unwrap();
            let time = Micros(base + i64::from(router * 900 + mapping / 20 * 400));
            let transit = mapping % 2 == 0;
            rows.push(Row::Change(Change {
                stamp: Stamp {
                    router: RouterId(IpAddr::from(Ipv4Addr::from(0x0a00_0000 + router))),
                    position: Position { generation: 3, sequence: 40, index: mapping },
                    kind: ChangeKind::Altered,
                    basis: Basis::Live,
                    not_before: None,
                    effective_time: time,
                    collection_time: Micros(base + 20_000 + i64::from(router)),
                    flags: Flags::default(),
                },
                mapping: Mapping {
                    fec: Fec::Ip {
                        prefix: IpNet::from(IpAddr::from(Ipv4Addr::from(0x0a00_0000 + mapping))),
                        table: 0,
                    },
                    ingress: if transit { Ingress::platform(label) } else { Ingress::UNTAGGED },
                    operation: if transit { Operation::Swap } else { Operation::Push },
                    branches: [Nhlfe::new(
                        [out].into_iter().collect(),
                        NextHop::Address(IpAddr::from([10, 9, 0, (mapping % 3) as u8])),
                    )]
                    .into_iter()
                    .collect(),
                    event_time: time,
                    time_source: TimeSource::Router,
                    extra: None,
                },
            }));
        }
    }
    rows
}

#[test]
fn a_change_costs_at_most_14_bytes_in_a_storm() {
    for (routers, mappings) in [(50, 200), (1, 200), (500, 10)] {
        let rows = reconvergence(routers, mappings);
        let block = block_of(&rows);
        let bytes_per_row = block.len() as f64 / rows.len() as f64;
        println!("{routers} routers x {mappings} mappings: {bytes_per_row:.1} bytes per row");
        assert!(bytes_per_row <= 14.0, "{routers} x {mappings}: {bytes_per_row}");
    }
}

/// Name and value of every constant that these sources fix: `const NAME: type = value;`.
fn constants_of(source: &str) -> Vec<(&str, &str)> {
    let parts = |line: &'_ str| -> Option<(usize, usize, usize, usize)> {
        let name = line.find("const ")? + "const ".len();
        let name_end = name + line[name..].find(':')?;
        let value = name_end + line[name_end..].find(" = ")? + " = ".len();
        let value_end = value + line[value..].find(';')?;
        Some((name, name_end, value, value_end))
    };
    let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines
        .filter_map(|line| {
            let (name, name_end, value, value_end) = parts(line)?;
            Some((&line[name..name_end], &line[value..value_end]))
        })
        .filter(|(name, _)| !name.is_empty() && *name == name.to_uppercase())
        .collect()
}

#[test]
fn the_document_names_every_constant_of_the_layout() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/STORAGE-FORMAT.md");
    let document = std::fs::read_to_string(path).unwrap();
    let sources = [
        include_str!("../layout.rs"),
        include_str!("../value.rs"),
        include_str!("../session.rs"),
        include_str!("../builder.rs"),
        include_str!("../form.rs"),
    ];
    let mut checked = 0;
    for (name, value) in sources.into_iter().flat_map(constants_of) {
        if matches!(name, "ALL" | "COUNT") {
            continue;
        }
        let line = document.lines().find(|line| line.contains(&format!("`{name}`")));
        let line = line.unwrap_or_else(|| panic!("{name} is not in the document"));
        let is_number = value.starts_with(|first: char| first.is_ascii_digit());
        let says = |word: &str| word.trim_matches(|mark| ",|.` ()".contains(mark)) == value;
        assert!(!is_number || line.split(' ').any(says), "{name} = {value}, but: {line}");
        checked += 1;
    }
    assert!(checked > 40, "{checked} constants");
    for (section, name) in layout::Section::ALL {
        let row = format!("| {} | {name} |", section as u8);
        assert!(document.contains(&row), "{row}");
    }
    for (code, reason) in layout::REASONS {
        assert!(document.contains(&format!("{code} {}", reason.name())), "{reason:?}");
    }
}
