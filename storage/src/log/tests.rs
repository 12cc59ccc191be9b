//! Tests of the log: what is written is read back, and what is damaged is never believed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample;

use super::*;
use crate::interface::Interface;
use crate::log::decode::decode;
use crate::log::layout::{HEADER_BYTES, Header};
use crate::mapping::{
    Encapsulation, Fec, Ingress, Key, Label, Link, Mapping, Name, NameKind, NextHop, Nhlfe,
    Operation, Origin, Role, RouteDistinguisher, RouterId, TimeSource,
};
use crate::row::{
    Basis, Cause, Change, ChangeKind, Flags, InputMode, KernelRow, LedgerRow, Position, Reason,
    Row, Scope, SessionEvent, SessionRow, Stamp,
};
use crate::time::Micros;

mod files;
mod sizes;
mod versions;

/// Adds a row of any kind.
fn add(builder: &mut BlockBuilder, row: &Row) {
    match row {
        Row::Change(change) => builder.change(&change.stamp, &change.mapping),
        Row::Session(row) => builder.session(row),
        Row::Ledger(row) => builder.ledger(row),
        Row::Kernel(row) => builder.kernel(row),
    }
}

/// What a start of the collector cuts.
fn recover(data: &Path) -> Result<Vec<Cut>, LogError> {
    Ok(crate::recovery::open(data, Micros(0))?.cuts)
}

/// One block of these rows.
fn block_of(rows: &[Row]) -> Vec<u8> {
    let mut builder = BlockBuilder::new(0);
    rows.iter().for_each(|row| add(&mut builder, row));
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    bytes
}

/// The rows in the order in which a block gives them back.
fn by_kind(rows: &[Row]) -> Vec<Row> {
    let rank = |row: &Row| match row {
        Row::Change(_) => 0,
        Row::Session(_) => 1,
        Row::Ledger(_) => 2,
        Row::Kernel(_) => 3,
    };
    let mut rows = rows.to_vec();
    rows.sort_by_key(rank);
    rows
}

fn header_of(block: &[u8]) -> Header {
    Header::from_bytes(block.first_chunk::<HEADER_BYTES>().unwrap()).unwrap()
}

fn rows_of(block: &[u8]) -> Result<Vec<Row>, varint::Malformed> {
    let mut rows = Vec::new();
    decode(&header_of(block), &block[HEADER_BYTES..], &Filter::default(), &mut rows)?;
    Ok(rows)
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        3 => (0..40_u32).prop_map(|host| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + host))),
        1 => any::<u128>().prop_map(|bits| IpAddr::from(Ipv6Addr::from(bits))),
    ]
}

fn any_prefix() -> impl Strategy<Value = IpNet> {
    (any_address(), 0..=128_u8).prop_map(|(address, length)| {
        let length = if address.is_ipv4() { length % 33 } else { length };
        IpNet::new(address, length).unwrap().trunc()
    })
}

fn any_fec() -> BoxedStrategy<Fec> {
    prop_oneof![
        (any_prefix(), prop_oneof![Just(0), any::<u32>()])
            .prop_map(|(prefix, table)| Fec::Ip { prefix, table }),
        (any_address(), any::<[u8; 8]>(), option::of(any_prefix())).prop_map(
            |(loopback, rd, prefix)| Fec::Vrf { loopback, rd: RouteDistinguisher(rd), prefix }
        ),
        (any_address(), any::<u32>()).prop_map(|(loopback, pw_id)| Fec::Vsi { loopback, pw_id }),
        (any_address(), any::<u32>()).prop_map(|(loopback, pw_id)| Fec::Ac { loopback, pw_id }),
        Just(Fec::Unknown),
        (any_prefix(), any::<u32>(), option::of(any_prefix()), any::<u8>()).prop_map(
            |(prefix, table, source, tos)| Fec::IpFrom { prefix, table, source, tos }.masked()
        ),
        (any_name(), option::of(any_prefix()))
            .prop_map(|(name, prefix)| Fec::VrfName { name, prefix }),
        (sample::select(NameKind::ALL.to_vec()), any_name())
            .prop_map(|(kind, name)| Fec::Named { kind, name }),
        any_name().prop_map(|name| Fec::Interface { name }),
    ]
    .boxed()
}

fn any_label() -> impl Strategy<Value = Label> {
    (0..=Label::MAX).prop_map(|value| Label::new(value).unwrap())
}

fn any_ingress() -> impl Strategy<Value = Ingress> {
    let origin = prop_oneof![
        Just(Origin::Service),
        Just(Origin::Platform),
        any_address().prop_map(|address| Origin::Interface(RouterId(address))),
        (1..=u32::MAX).prop_map(Origin::Table),
    ];
    prop_oneof![
        Just(Ingress::UNTAGGED),
        (any_label(), origin).prop_map(|(label, origin)| Ingress { label: Some(label), origin }),
    ]
}

fn any_name() -> impl Strategy<Value = Name> {
    "[a-zé0-9,]{1,32}".prop_map(|text| Name::new(&text).unwrap())
}

fn any_link() -> impl Strategy<Value = Link> {
    let encapsulation = sample::select(Encapsulation::ALL.to_vec());
    let parts = (option::of(any_name()), option::of(any_address()), option::of(encapsulation));
    parts.prop_map(|(interface, neighbour, encapsulation)| Link {
        interface,
        neighbour: neighbour.map(RouterId),
        encapsulation,
    })
}

fn any_interface() -> impl Strategy<Value = Interface> {
    let name = prop_oneof![Just("".to_owned()), any_name().prop_map(|name| name.to_string())];
    (name, option::of(any_address()), option::of(any_address()), option::of(any::<u32>()))
        .prop_map(|(name, address, neighbour, table)| Interface {
            name: name.into(),
            address,
            neighbour: neighbour.map(RouterId),
            table,
        })
        .prop_filter("says something", |interface| *interface != Interface::default())
}

fn any_branch() -> BoxedStrategy<Nhlfe> {
    let next_hop = prop_oneof![
        any_address().prop_map(NextHop::Address),
        Just(NextHop::Fec),
        Just(NextHop::Recursive),
        Just(NextHop::Interface),
    ];
    let role = sample::select(vec![Role::Primary, Role::Backup]);
    let link = prop_oneof![3 => Just(Link::default()), 1 => any_link()];
    let weight = option::of(any::<u32>());
    (vec(any_label(), 0..40), next_hop, weight, role, any::<bool>(), link)
        .prop_map(|(stack, next_hop, weight, role, untags, link)| {
            let branch = Nhlfe::new(stack.into(), next_hop);
            Nhlfe { weight, role, untags, ..branch }.with_link(link)
        })
        .boxed()
}

fn any_time() -> impl Strategy<Value = Micros> {
    prop_oneof![
        4 => (0..5_000_i64).prop_map(|us| Micros(1_795_000_000_000_000 + us)),
        1 => any::<i64>().prop_map(Micros),
    ]
}

fn any_position() -> impl Strategy<Value = Position> {
    prop_oneof![
        4 => (1..3_u32, 0..3_u64, 0..6_u32),
        1 => (any::<u32>(), any::<u64>(), any::<u32>()),
    ]
    .prop_map(|(generation, sequence, index)| Position { generation, sequence, index })
}

fn any_mapping() -> BoxedStrategy<Mapping> {
    let operation = sample::select(Operation::ALL.to_vec());
    let source = any::<bool>()
        .prop_map(|router| if router { TimeSource::Router } else { TimeSource::Collector });
    let extra =
        option::weighted(0.2, "<option>[a-zé]{0,9}</option>").prop_map(|text| text.map(Into::into));
    (any_fec(), any_ingress(), operation, vec(any_branch(), 0..4), any_time(), source, extra)
        .prop_map(|(fec, ingress, operation, branches, event_time, time_source, extra)| Mapping {
            fec,
            ingress,
            operation,
            branches: branches.into(),
            event_time,
            time_source,
            extra,
        })
        .boxed()
}

fn any_change() -> impl Strategy<Value = Row> {
    let kind = (0..5_usize).prop_map(|code| ChangeKind::ALL[code]);
    let basis = (0..3_usize).prop_map(|code| Basis::ALL[code]);
    let times = (any_time(), any_time(), option::of(any_time()), any::<bool>());
    (any_address(), any_position(), kind, basis, times, any_mapping(), any::<u8>()).prop_map(
        |(router, position, kind, basis, times, mapping, flags)| {
            let (effective_time, collection_time, not_before, as_said) = times;
            let effective_time = if as_said { mapping.event_time } else { effective_time };
            Row::Change(Change {
                stamp: Stamp {
                    router: RouterId(router),
                    position,
                    kind,
                    basis,
                    not_before,
                    effective_time,
                    collection_time,
                    flags: Flags(if flags < 200 { 0 } else { flags }),
                },
                mapping,
            })
        },
    )
}

fn any_reason() -> impl Strategy<Value = Reason> {
    prop_oneof![
        (0..layout::REASONS.len()).prop_map(|place| layout::REASONS[place].1),
        (0..Cause::ALL.len()).prop_map(|place| Reason::Rejected(Cause::ALL[place])),
    ]
}

fn any_key() -> BoxedStrategy<Key> {
    prop_oneof![
        any_fec().prop_map(Key::Ftn),
        (any_label(), any_ingress()).prop_map(|(label, ingress)| Key::Ilm(label, ingress.origin)),
        (any_label(), any_fec()).prop_map(|(label, fec)| Key::Service(label, fec)),
    ]
    .boxed()
}

fn any_event() -> BoxedStrategy<SessionEvent> {
    let peer = (any_address(), any::<u16>()).prop_map(SocketAddr::from);
    let mode = (0..5_usize).prop_map(|code| InputMode::ALL[code]);
    let interfaces = || vec(any_interface(), 0..4);
    let scope =
        prop_oneof![Just(Scope::Router), Just(Scope::Rest), any_key().prop_map(Scope::Entry),];
    let text = || "[a-zé0-9 .]{0,12}".prop_map(Into::into);
    prop_oneof![
        (text(), interfaces())
            .prop_map(|(name, interfaces)| SessionEvent::Configured { name, interfaces }),
        (peer, mode, any::<bool>(), vec(option::of(any_time()), 2), interfaces(), text()).prop_map(
            |(peer, mode, permanent, times, interfaces, agent)| SessionEvent::Initiation {
                peer,
                mode,
                permanent,
                boot_time: times[0],
                clock: times[1],
                interfaces,
                agent
            }
        ),
        Just(SessionEvent::SnapshotBegin),
        (any::<bool>(), any::<[u64; 4]>()).prop_map(|(explicit, counts)| {
            let [confirmed, added, altered, vanished] = counts;
            SessionEvent::SnapshotComplete { explicit, confirmed, added, altered, vanished }
        }),
        (any_time(), scope, any_reason()).prop_map(|(start, scope, reason)| SessionEvent::Gap {
            start,
            scope,
            reason
        }),
        any_reason().prop_map(|reason| SessionEvent::Termination { reason }),
    ]
    .boxed()
}

fn any_ledger() -> impl Strategy<Value = Row> {
    let rejected = vec((0..Cause::ALL.len(), any::<u64>(), any::<u64>()), 0..3);
    (option::of(any_address()), any::<u32>(), any_time(), any::<[u64; 8]>(), rejected).prop_map(
        |(router, generation, time, counts, rejected)| {
            Row::Ledger(LedgerRow {
                router: router.map(RouterId),
                generation,
                time,
                sequence_last: counts[0],
                bytes_read: counts[1],
                bytes_framed: counts[2],
                mappings_framed: counts[3],
                changes: counts[4],
                confirmed: counts[5],
                duplicates: counts[6],
                derived: counts[7],
                rejected: rejected
                    .into_iter()
                    .map(|(cause, bytes, mappings)| (Cause::ALL[cause], bytes, mappings))
                    .collect(),
            })
        },
    )
}

fn any_row() -> impl Strategy<Value = Row> {
    prop_oneof![
        6 => any_change(),
        2 => (any_address(), any_position(), any_time(), any_event()).prop_map(
            |(router, position, time, event)| {
                Row::Session(SessionRow { router: RouterId(router), position, time, event })
            }
        ),
        1 => any_ledger(),
        1 => (any_time(), "[A-Za-z.]{1,20}", any::<u64>()).prop_map(|(time, counter, value)| {
            Row::Kernel(KernelRow { time, counter: counter.into(), value })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_row_survives_its_block(rows in vec(any_row(), 1..40), again in vec(any_row(), 1..40)) {
        let mut builder = BlockBuilder::new(7);
        let mut bytes = Vec::new();
        for rows in [&rows, &again] {
            rows.iter().for_each(|row| add(&mut builder, row));
            prop_assert_eq!(builder.rows(), rows.len());
            let estimate = builder.bytes();
            let start = bytes.len();
            builder.finish(&mut bytes);
            let block = &bytes[start..];
            prop_assert!(block.len() - estimate < 256, "{} for {estimate}", block.len());
            prop_assert!(builder.is_empty());
            prop_assert_eq!(header_of(block).shard, 7);
            prop_assert_eq!(rows_of(block).unwrap(), by_kind(rows));
        }
    }

    #[test]
    fn a_filter_gives_exactly_the_rows_that_it_asks_for(
        rows in vec(any_row(), 1..60),
        router in option::of(any_address()),
        until in option::of(any_time()),
        kinds in any::<[bool; 4]>(),
    ) {
        let [changes, sessions, ledger, kernel] = kinds;
        let router = router.map(RouterId);
        let until_effective = until;
        let filter =
            Filter { router, until_effective, changes, sessions, ledger, kernel, ..Filter::NONE };
        let wanted: Vec<Row> = by_kind(&rows).into_iter().filter(|row| {
            let of = |other: Option<RouterId>| router.is_none() || router == other;
            match row {
                Row::Change(row) => {
                    let stamp = &row.stamp;
                    changes && of(Some(stamp.router))
                        && until.is_none_or(|until| stamp.effective_time <= until)
                }
                Row::Session(row) => sessions && of(Some(row.router)),
                Row::Ledger(row) => ledger && of(row.router),
                Row::Kernel(_) => kernel && router.is_none(),
            }
        }).collect();
        let block = block_of(&rows);
        let mut found = Vec::new();
        decode(&header_of(&block), &block[HEADER_BYTES..], &filter, &mut found).unwrap();
        prop_assert_eq!(found, wanted);
    }

    /// Behind a checksum that holds by chance or by malice: an error or rows, never a panic.
    #[test]
    fn hostile_bytes_are_malformed_or_rows(
        rows in vec(any_row(), 1..20),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        counts in option::of(any::<[u32; 4]>()),
    ) {
        let block = block_of(&rows);
        let mut header = header_of(&block);
        let mut payload = block[HEADER_BYTES..].to_vec();
        for (place, byte) in changes {
            let place = place.index(payload.len());
            payload[place] = byte;
        }
        if let Some([a, b, c, d]) = counts {
            header.change_rows = a % 64;
            (header.session_rows, header.ledger_rows, header.kernel_rows) = (b % 64, c, d);
        }
        let mut found = Vec::new();
        let result = decode(&header, &payload, &Filter::default(), &mut found);
        prop_assert!(found.len() <= payload.len());
        prop_assert!(result.is_err() || found.len() as u64 == header.rows());
    }

    #[test]
    fn random_bytes_are_malformed(payload in vec(any::<u8>(), 0..400), change_rows in 1..9_u32) {
        let mut header = header_of(&block_of(&[kernel_row(1)]));
        header.change_rows = change_rows;
        let mut found = Vec::new();
        let result = decode(&header, &payload, &Filter::default(), &mut found);
        prop_assert!(result.is_err());
    }
}

fn kernel_row(value: u64) -> Row {
    let counter = "TcpExt.PruneCalled".into();
    Row::Kernel(KernelRow { time: Micros(1_795_000_000_000_000), counter, value })
}

#[test]
fn codes_on_disk_are_places_in_the_tables() {
    for (place, kind) in ChangeKind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, place);
    }
    for (place, basis) in Basis::ALL.into_iter().enumerate() {
        assert_eq!(basis as usize, place);
    }
    for (place, operation) in Operation::ALL.into_iter().enumerate() {
        assert_eq!(operation as usize, place);
    }
    for (place, mode) in InputMode::ALL.into_iter().enumerate() {
        assert_eq!(mode as usize, place);
    }
    for (code, reason) in layout::REASONS {
        assert_eq!(layout::reason_code(reason), (code, None));
    }
}

#[test]
fn a_block_of_another_version_is_kept_and_not_read() {
    let mut block = block_of(&[kernel_row(1)]);
    let header = Header { version: layout::VERSION + 1, ..header_of(&block) };
    block[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    assert!(rows_of(&block).is_err());
    let data = tempfile::tempdir().unwrap();
    let path = log_path(data.path(), Micros(0).hour(), 0);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, &block).unwrap();
    assert_eq!(recover(data.path()).unwrap(), []);
    let report = read(data.path(), &Filter::default(), &mut |row| panic!("{row:?}")).unwrap();
    assert_eq!(report.damages.len(), 1);
}
