//! Blocks that earlier versions of the program wrote are read for ever.

use super::*;

/// Rows of every shape that matters: plain ones, and what has a dictionary or a sparse column.
fn rows() -> Vec<Row> {
    let time = |us: i64| Micros(1_795_000_000_000_000 + us);
    let mapping = |label: u32, fec: &str, out: u32, hop: &str, at: Micros| Mapping {
        fec: fec.parse().unwrap(),
        ingress: Ingress::platform(Label::new(label).unwrap()),
        operation: Operation::Swap,
        branches: [Nhlfe::new(
            [Label::new(out).unwrap()].into_iter().collect(),
            NextHop::Address(hop.parse().unwrap()),
        )]
        .into_iter()
        .collect(),
        event_time: at,
        time_source: TimeSource::Router,
        extra: None,
    };
    let stamp = |index: u32, at: Micros| Stamp {
        router: RouterId("192.0.2.1".parse().unwrap()),
        position: Position { generation: 3, sequence: 40, index },
        kind: ChangeKind::Altered,
        basis: Basis::Live,
        not_before: None,
        effective_time: at,
        collection_time: time(20_000),
        flags: Flags::default(),
    };
    let plain = mapping(24_000, "ip:10.0.0.3/32", 17, "192.0.2.2", time(5));
    let short = mapping(24_001, "ip:10.0.0.0/9", 18, "192.0.2.3", time(7));
    let mut ecmp = mapping(24_002, "ip:10.0.0.4/32", 19, "192.0.2.2", time(9));
    ecmp.branches.push(short.branches[0].clone());
    let ftn = Mapping { ingress: Ingress::UNTAGGED, operation: Operation::Push, ..plain.clone() };
    let mut service =
        mapping(600, "vrf:192.0.2.9,65000:2,10.1.0.0/16", 20, "2001:db8::1", time(11));
    service.ingress.origin = Origin::Service;
    service.branches[0].weight = Some(3);
    service.branches[0].stack.push(Label::new(900_000).unwrap());
    service.extra = Some("<option name=\"a\">b</option>".into());
    let mut late = mapping(24_003, "ip:2001:db8::/32", 21, "192.0.2.2", time(-900));
    late.ingress.origin = Origin::Interface(RouterId("192.0.2.7".parse().unwrap()));
    late.branches[0].next_hop = NextHop::Recursive;
    let gone =
        Mapping { operation: Operation::None, branches: [].into_iter().collect(), ..plain.clone() };
    let said = [plain, short, ecmp, ftn, service, late, gone];
    let mut rows: Vec<Row> = Vec::new();
    for (index, mapping) in said.into_iter().enumerate() {
        let mut stamp = stamp(index as u32, mapping.event_time.max(time(0)));
        match index {
            3 => stamp.kind = ChangeKind::Added,
            5 => stamp.flags = Flags::CLOCK_BACKWARDS,
            6 => {
                stamp.kind = ChangeKind::Withdrawn;
                stamp.basis = Basis::Swept;
                stamp.not_before = Some(time(1));
                stamp.position.index = 17;
            }
            _ => {}
        }
        rows.push(Row::Change(Change { stamp, mapping }));
    }
    rows.push(Row::Session(SessionRow {
        router: RouterId("192.0.2.1".parse().unwrap()),
        position: Position { generation: 3, sequence: 40, index: 18 },
        time: time(30_000),
        event: SessionEvent::Termination { reason: Reason::ClosedByRouter },
    }));
    rows.push(kernel_row(7));
    rows
}

/// The block of `rows`, as version 1 wrote it.
const WITHOUT_FORMS: &str = "\
    ff5344424c4b0d0a010000000000000011010000000000000700000001000000000000000100000000305f01\
    8b60060030a55f018b600600451f5323eea7dfe70525231b2f18070e0c010707000302020e000a04c0000201\
    04c000020204c000020304c00002090620010db800000000000000000000000104c000020701200a00000301\
    090a0001200a00000404020000fde800000002100a01016020010db801011100010112010201130001120101\
    8214a0f7360303014115001b3c6f7074696f6e206e616d653d2261223e623c2f6f7074696f6e3e1254637045\
    78742e5072756e6543616c6c65640006032800c0f8fb95e0a2b0060000010328110005bdb8026a6a6a00389c\
    7a8ac0f995e0a2b0060404070c150a80f7020202d3ed02d6ed02050400000003000005000000030000000587\
    0e0501040000032812e094fd95e0a2b006050180c0f995e0a2b0060107";

#[test]
fn a_block_without_forms_is_read() {
    let digits: Vec<u8> = WITHOUT_FORMS.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let block: Vec<u8> = digits.chunks(2).map(byte).collect();
    assert_eq!(header_of(&block).version, layout::VERSION_WITHOUT_FORMS);
    assert_eq!(rows_of(&block).unwrap(), rows());
    // Its bytes are no block of another version.
    let header = Header { version: layout::VERSION, ..header_of(&block) };
    let mut found = Vec::new();
    assert!(decode(&header, &block[HEADER_BYTES..], &Filter::default(), &mut found).is_err());
}
