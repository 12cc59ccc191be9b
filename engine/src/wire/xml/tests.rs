//! The two readers and the writer against each other, against the draft and against roxmltree.

use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;
use storage::mapping::{
    Branches, Encapsulation, Fec, Ingress, Key, Label, LabelStack, Link, Mapping, Name, NameKind,
    NextHop, Nhlfe, Operation, Origin, Role, RouteDistinguisher, TimeSource,
};
use storage::row::Cause;
use storage::time::Micros;

use super::*;
use crate::wire::SnapshotMark;

const LIMITS: WireLimits = WireLimits {
    frame_bytes_max: 4 << 20,
    inflated_bytes_max: 64 << 20,
    inflate_ratio_max: 200,
    xml_depth_max: 16,
    xml_attributes_max: 64,
};

fn scanned(text: &[u8]) -> Option<Unit> {
    let mut unit = Unit::new();
    unit.kind = UnitKind::Mappings;
    scan::scan(text, &LIMITS, &mut unit).then_some(unit)
}

fn read(text: &[u8]) -> Result<Unit, Rejection> {
    let mut unit = Unit::new();
    unit.kind = UnitKind::Mappings;
    read::read(text, None, &LIMITS, &mut unit).map(|()| unit)
}

/// One mapping with `body`, in a document.
fn document(body: &str) -> String {
    format!("<label-mappings xmlns='{NAMESPACE}'>{body}</label-mappings>")
}

/// A mapping element that is right but for the part that replaces `part`.
fn altered(part: &str, instead: &str) -> String {
    let right = "<mapping timestamp=\"5.5\"><fec type=\"ip\" prefix=\"10.0.0.0/8\"/>\
                 <ingress label=\"16\" origin=\"platform\"/><operation type=\"swap\">\
                 <nhlfe label=\"17\" next-hop=\"10.0.0.1\"/></operation></mapping>";
    assert!(right.contains(part), "{part}");
    document(&right.replacen(part, instead, 1))
}

fn rejected(text: &str) -> Vec<(Cause, Option<String>)> {
    let unit = read(text.as_bytes()).unwrap_or_else(|rejection| panic!("{rejection:?}: {text}"));
    assert!(unit.mappings.is_empty(), "{text}");
    assert!(unit.rejected.iter().all(|rejected| !rejected.detail.is_empty()), "{text}");
    unit.rejected.iter().map(|r| (r.cause, r.key.map(|key| key.to_string()))).collect()
}

#[test]
fn a_mapping_that_is_wrong_is_rejected_with_its_cause_and_key() {
    let ilm = Some("ilm 16 platform");
    let cases = [
        ("label=\"16\"", "label=\"1048576\"", Cause::LabelRange, None),
        ("label=\"16\"", "label=\"-2\"", Cause::LabelRange, None),
        ("label=\"16\"", "", Cause::LabelRange, None),
        ("label=\"17\"", "label=\"1048576\"", Cause::LabelRange, ilm),
        ("label=\"17\"", "label=\"16 x\"", Cause::LabelRange, ilm),
        ("origin=\"platform\"", "origin=\"untagged\"", Cause::IngressInvalid, None),
        ("origin=\"platform\"", "origin=\"here\"", Cause::IngressInvalid, None),
        ("origin=\"platform\"", "", Cause::IngressInvalid, None),
        ("label=\"16\"", "label=\"-1\"", Cause::IngressInvalid, None),
        ("<ingress label=\"16\" origin=\"platform\"/>", "", Cause::IngressInvalid, None),
        ("10.0.0.0/8", "10.0.0.0/33", Cause::FecInvalid, ilm),
        ("type=\"ip\"", "type=\"vrf\"", Cause::FecInvalid, ilm),
        ("type=\"ip\"", "type=\"ipv5\"", Cause::FecInvalid, ilm),
        ("type=\"ip\"", "type=\"ac\" loopback=\"1.2.3.4\"", Cause::FecInvalid, ilm),
        ("<fec type=\"ip\" prefix=\"10.0.0.0/8\"/>", "", Cause::FecInvalid, ilm),
        ("<ingress", "<fec type=\"unknown\"/><ingress", Cause::FecInvalid, ilm),
        ("type=\"swap\"", "type=\"turn\"", Cause::OperationInvalid, ilm),
        ("type=\"swap\"", "type=\"pop\"", Cause::OperationInvalid, ilm),
        ("<nhlfe label=\"17\" next-hop=\"10.0.0.1\"/>", "", Cause::OperationInvalid, ilm),
        ("</mapping>", "<operation type=\"none\"/></mapping>", Cause::OperationInvalid, ilm),
        (
            "label=\"16\" origin=\"platform\"",
            "label=\"-1\" origin=\"untagged\"",
            Cause::OperationInvalid,
            Some("ftn ip:10.0.0.0/8"),
        ),
        (
            "label=\"17\" next-hop=\"10.0.0.1\"",
            "label=\"17\" next-hop=\"10.0.0.0/8\"",
            Cause::NhlfeInvalid,
            ilm,
        ),
        (" next-hop=\"10.0.0.1\"", "", Cause::NhlfeInvalid, ilm),
        (" next-hop=\"10.0.0.1\"", " next-hop=\"fec\" weight=\"-1\"", Cause::NhlfeInvalid, ilm),
        ("timestamp=\"5.5\"", "", Cause::TimestampInvalid, ilm),
        ("timestamp=\"5.5\"", "timestamp=\"noon\"", Cause::TimestampInvalid, ilm),
        ("timestamp=\"5.5\"", "timestamp=\"5.5\" router-id=\"R1\"", Cause::ForeignRouter, ilm),
    ];
    for (part, instead, cause, key) in cases {
        let text = altered(part, instead);
        assert_eq!(rejected(&text), [(cause, key.map(str::to_owned))], "{text}");
        assert_eq!(scanned(text.as_bytes()).map(|unit| unit.mappings.len()), None);
    }
}

#[test]
fn a_bad_mapping_leaves_the_others_of_its_document_alone() {
    let good = altered("16", "20");
    let bad = altered("17", "9999999");
    let body = |text: &str| {
        let text = text.trim_end_matches("</label-mappings>");
        text[text.find("<mapping").unwrap()..].to_owned()
    };
    let text = document(&[body(&good), body(&bad), body(&good)].concat());
    let unit = read(text.as_bytes()).unwrap();
    assert_eq!((unit.mappings.len(), unit.rejected.len()), (2, 1));
    assert_eq!(unit.rejected[0].cause, Cause::LabelRange);
}

#[test]
fn a_foreign_router_is_rejected_and_the_sessions_own_is_not() {
    let text = altered("timestamp", "router-id=\"192.0.2.1\" timestamp");
    assert_eq!(read(text.as_bytes()).unwrap().router, Some(id("192.0.2.1")));
    let with_root = text.replace("<label-mappings", "<label-mappings router-id='192.0.2.1'");
    assert_eq!(read(with_root.as_bytes()).unwrap().mappings.len(), 1);
    let foreign = text.replace("<label-mappings", "<label-mappings router-id='192.0.2.2'");
    let key = Some("ilm 16 platform".to_owned());
    assert_eq!(rejected(&foreign), [(Cause::ForeignRouter, key)]);
    let mut unit = Unit::new();
    read::read(text.as_bytes(), Some(id("192.0.2.9")), &LIMITS, &mut unit).unwrap();
    assert_eq!((unit.router, unit.rejected.len(), unit.mappings.len()), (None, 1, 0));
}

fn id(text: &str) -> RouterId {
    text.parse().unwrap()
}

#[test]
fn a_document_that_is_malformed_is_rejected_as_a_whole() {
    let doctype = format!("<!DOCTYPE a [<!ENTITY a 'a'>]>{}", document(""));
    let deep = document(&["<a>".repeat(16), "</a>".repeat(16)].concat());
    let wide: String = (0..65).map(|index| format!(" a{index}=''")).collect();
    for (text, cause) in [
        (document("<mapping>"), Cause::XmlMalformed),
        (document("<mapping a='1' a='2'/>"), Cause::XmlMalformed),
        (document("<mapping a='1'b='2'/>"), Cause::XmlMalformed),
        (document("&#0;"), Cause::XmlMalformed),
        (document("\u{1}"), Cause::XmlMalformed),
        (document("]]>"), Cause::XmlMalformed),
        (document("<p:a/>"), Cause::XmlMalformed),
        (document("<a p:b=''/>"), Cause::XmlMalformed),
        (document("<a b='<'/>"), Cause::XmlMalformed),
        (document("<!-- a -- b -->"), Cause::XmlMalformed),
        (document("<?xml version='1.0'?>"), Cause::XmlMalformed),
        (format!("{}<a/>", document("")), Cause::XmlMalformed),
        (format!("{}text", document("")), Cause::XmlMalformed),
        (format!("<?xml version='1.1'?>{}", document("")), Cause::XmlMalformed),
        (format!("<?xml version='1.0' encoding='latin-1'?>{}", document("")), Cause::XmlMalformed),
        (String::new(), Cause::XmlMalformed),
        (doctype, Cause::XmlDoctype),
        (document("&a;"), Cause::XmlDoctype),
        (document("<a b='&a;'/>"), Cause::XmlDoctype),
        (document(&format!("<a{wide}/>")), Cause::XmlLimit),
        (deep, Cause::XmlLimit),
        (document("").replace(NAMESPACE, "urn:another"), Cause::XmlRoot),
        ("<tables/>".to_owned(), Cause::XmlRoot),
        ("<label-mappings router-id='R1'/>".to_owned(), Cause::XmlRoot),
        ("<label-mappings snapshot='all'/>".to_owned(), Cause::XmlRoot),
    ] {
        assert_eq!(read(text.as_bytes()).map_err(|r| r.cause).err(), Some(cause), "{text}");
        assert!(scanned(text.as_bytes()).is_none(), "{text}");
    }
    let mut latin = document("x").into_bytes();
    let at = latin.iter().position(|byte| *byte == b'x').unwrap();
    latin[at] = 0xe9;
    assert_eq!(read(&latin).map_err(|r| r.cause).err(), Some(Cause::XmlMalformed));
}

#[test]
fn any_spelling_that_xml_allows_is_read() {
    let plain = read(altered("5.5", "5.5").as_bytes()).unwrap();
    let spellings = [
        altered("type=\"ip\"", " type = 'i&#x70;'\n"),
        altered("<fec", "<!-- > --><?p <fec?><fec").replace("mapping>", "mapping >"),
        altered("5.5", "5&#46;5"),
        altered("\"5.5\"", "'1970/01/01 00:00:05.500000'"),
        altered("10.0.0.1", "10.0.0.1/32"),
        altered("swap", "Swap"),
        altered("type=\"ip\"", "type=\"IP\""),
        altered(
            "prefix=\"10.0.0.0/8\"/>",
            "prefix=\"10.1.2.3/8\" x:later=\"on\" xmlns:x=\"u\"><![CDATA[]]></fec>",
        ),
        format!("\u{feff}<?xml version='1.0' encoding='utf-8' ?>\n{}", altered("5.5", "5.5")),
        altered("5.5", "5.5").replace(&format!(" xmlns='{NAMESPACE}'"), ""),
        altered("5.5", "5.5")
            .replace("</", "</m:")
            .replace('<', "<m:")
            .replace("<m:/m:", "</m:")
            .replace("xmlns=", "xmlns:m="),
    ];
    for text in spellings {
        let unit = read(text.as_bytes()).unwrap_or_else(|r| panic!("{r:?}: {text}"));
        assert_eq!(unit.mappings, plain.mappings, "{text}");
        assert!(unit.rejected.is_empty(), "{text}");
    }
}

#[test]
fn options_and_unknown_elements_are_kept_as_they_came() {
    let option = "<option name=\"snmp-in-index\">12 &lt; 13</option>";
    let other = "<lsp:tunnel xmlns:lsp=\"urn:x\" id='1'><lsp:name>A</lsp:name></lsp:tunnel>";
    let hop = "<colour/>";
    let text = altered("</mapping>", &format!("{option}\n{other}</mapping>"))
        .replace("\"10.0.0.1\"/>", &format!("\"10.0.0.1\">{hop}</nhlfe>"));
    let unit = read(text.as_bytes()).unwrap();
    assert_eq!(unit.mappings[0].extra.as_deref(), Some(&*[hop, option, other].concat()));
    let text = altered("</mapping>", &format!("<a>{}</a></mapping>", "x".repeat(4_096)));
    assert_eq!(rejected(&text)[0].0, Cause::XmlLimit);
    // Beside the mappings there is nothing to keep them with.
    let text = altered("<mapping", "<note><mapping/></note><mapping");
    assert_eq!(read(text.as_bytes()).unwrap().mappings[0].extra, None);
}

#[test]
fn several_ingress_labels_are_several_mappings() {
    let ingress = "<ingress label=\"16\" origin=\"platform\"/>";
    let more = "<ingress label=\"16\" origin=\"192.0.2.1\"/><ingress label=\"17\" origin=\"x\"/>";
    let unit = read(altered(ingress, &format!("{ingress}{more}")).as_bytes()).unwrap();
    let keys: Vec<String> = unit.mappings.iter().map(|m| m.key().to_string()).collect();
    assert_eq!(keys, ["ilm 16 platform", "ilm 16 192.0.2.1"]);
    assert_eq!(unit.rejected.len(), 1);
    assert_eq!(unit.rejected[0].cause, Cause::IngressInvalid);
}

#[test]
fn a_small_document_cannot_become_a_large_memory() {
    let ingress: String =
        (0..256).map(|label| format!("<ingress label=\"{label}\" origin=\"platform\"/>")).collect();
    let branches = "<nhlfe next-hop=\"10.0.0.1\"/>".repeat(256);
    let body = format!(
        "<mapping timestamp='1'><fec type='unknown'/>{ingress}\
         <operation type='replicate'>{branches}</operation></mapping>"
    );
    let limits = WireLimits { inflated_bytes_max: 2 << 20, ..LIMITS };
    let mut unit = Unit::new();
    let text = document(&body);
    let cause = read_document(text.as_bytes(), None, &limits, &mut unit).map_err(|r| r.cause);
    assert_eq!(cause, Ok(()), "one such mapping takes more than 4 of the 8 MiB");
    unit.clear();
    let text = document(&body.repeat(2));
    let cause = read_document(text.as_bytes(), None, &limits, &mut unit).map_err(|r| r.cause);
    assert_eq!((cause, unit.mappings.len()), (Err(Cause::XmlLimit), 0));
    // Elements of ten bytes that are all wrong are bounded too.
    let text = document(&"<mapping/>".repeat(draft::REJECTED_MAX + 1));
    assert_eq!(read(text.as_bytes()).map_err(|r| r.cause).err(), Some(Cause::XmlLimit));
}

fn label_strategy() -> impl Strategy<Value = Label> {
    (0..=Label::MAX).prop_map(|value| Label::new(value).unwrap())
}

fn address_strategy() -> impl Strategy<Value = std::net::IpAddr> {
    prop_oneof![
        4 => any::<[u8; 4]>().prop_map(std::net::IpAddr::from),
        1 => any::<[u8; 16]>().prop_map(std::net::IpAddr::from),
    ]
    // Of IPv4-mapped ones and the unspecified one there is another spelling, or none.
    .prop_map(|address| address.to_canonical())
    .prop_filter("is somebody's", |address| !address.is_unspecified())
}

fn prefix_strategy() -> impl Strategy<Value = IpNet> {
    (address_strategy(), any::<u8>()).prop_map(|(address, length)| {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, length % (longest + 1)).unwrap().trunc()
    })
}

fn fec_strategy() -> impl Strategy<Value = Fec> {
    let table = prop_oneof![3 => Just(0), 1 => any::<u32>()];
    let rd = any::<[u8; 8]>().prop_map(|mut bytes| {
        bytes[0] = 0;
        bytes[1] %= 4;
        // Text tells types 0 and 2 apart by the size of the number: written RDs are canonical.
        RouteDistinguisher(bytes).to_string().parse().unwrap_or(RouteDistinguisher([0; 8]))
    });
    prop_oneof![
        (prefix_strategy(), table).prop_map(|(prefix, table)| Fec::Ip { prefix, table }),
        (address_strategy(), rd, proptest::option::of(prefix_strategy()))
            .prop_map(|(loopback, rd, prefix)| Fec::Vrf { loopback, rd, prefix }),
        (address_strategy(), any::<u32>())
            .prop_map(|(loopback, pw_id)| Fec::Vsi { loopback, pw_id }),
        (address_strategy(), any::<u32>())
            .prop_map(|(loopback, pw_id)| Fec::Ac { loopback, pw_id }),
        Just(Fec::Unknown),
        (prefix_strategy(), 0..3_u32, proptest::option::of(prefix_strategy()), 0..3_u8).prop_map(
            |(prefix, table, source, tos)| Fec::IpFrom { prefix, table, source, tos }.masked()
        ),
        (name_strategy(), proptest::option::of(prefix_strategy()))
            .prop_map(|(name, prefix)| Fec::VrfName { name, prefix }),
        (select(NameKind::ALL.to_vec()), name_strategy())
            .prop_map(|(kind, name)| Fec::Named { kind, name }),
        name_strategy().prop_map(|name| Fec::Interface { name }),
    ]
}

fn branch_strategy() -> impl Strategy<Value = Nhlfe> {
    let stack = proptest::collection::vec(label_strategy(), 0..4);
    let next_hop = prop_oneof![
        4 => address_strategy().prop_map(NextHop::Address),
        1 => Just(NextHop::Fec),
        1 => Just(NextHop::Recursive),
        1 => Just(NextHop::Interface),
    ];
    let link = (
        proptest::option::of(name_strategy()),
        proptest::option::of(address_strategy()),
        proptest::option::of(select(Encapsulation::ALL.to_vec())),
    );
    let link = link.prop_map(|(interface, neighbour, encapsulation)| Link {
        interface,
        neighbour: neighbour.map(RouterId),
        encapsulation,
    });
    let link = prop_oneof![3 => Just(Link::default()), 1 => link];
    let role = prop_oneof![3 => Just(Role::Primary), 1 => Just(Role::Backup)];
    let weight = proptest::option::of(1..u32::MAX);
    (stack, next_hop, weight, role, proptest::bool::weighted(0.1), link).prop_map(
        |(stack, next_hop, weight, role, untags, link)| {
            let mut stack: LabelStack = stack.into();
            // What contradicts itself is refused, and not written here.
            if stack.len() > 1 {
                stack.retain(|label| *label != Label::IMPLICIT_NULL);
            }
            let mut link = if next_hop == NextHop::Recursive { Link::default() } else { link };
            if next_hop == NextHop::Interface && link == Link::default() {
                link.interface = Name::new("eth0");
            }
            Nhlfe { weight, role, untags, ..Nhlfe::new(stack, next_hop) }.with_link(link)
        },
    )
}

fn name_strategy() -> impl Strategy<Value = Name> {
    "[a-zA-Z0-9/. &<\"é]{1,30}".prop_map(|text| Name::new(&text).unwrap())
}

fn mapping_strategy() -> impl Strategy<Value = Mapping> {
    let ingress = prop_oneof![
        Just(Ingress::UNTAGGED),
        label_strategy().prop_map(Ingress::platform),
        (label_strategy(), address_strategy()).prop_map(|(label, address)| Ingress {
            label: Some(label),
            origin: Origin::Interface(RouterId(address)),
        }),
        (label_strategy(), 0..3_u32).prop_map(|(label, table)| Ingress {
            label: Some(label),
            origin: Origin::of_table(table),
        }),
        label_strategy().prop_map(|label| Ingress { label: Some(label), origin: Origin::Service }),
    ];
    let time = prop_oneof![
        4 => (0..=Micros::MAX.0).prop_map(Micros),
        1 => (Micros::MIN.0..=-1).prop_map(Micros),
    ];
    let extra =
        select(vec![None, Some("<option name=\"a\">b c</option>"), Some("<x:y xmlns:x=\"u\"/>")]);
    let operation = select(Operation::ALL.to_vec());
    let branches = proptest::collection::vec(branch_strategy(), 1..4);
    (fec_strategy(), ingress, operation, branches, time, extra).prop_map(
        |(fec, ingress, operation, branches, event_time, extra)| {
            let needs_label =
                matches!(operation, Operation::Swap | Operation::Pop | Operation::Untag);
            let is_ftn = ingress.label.is_none();
            let operation = if needs_label && is_ftn { Operation::Push } else { operation };
            let mut branches = Branches::from(branches);
            match operation {
                Operation::None | Operation::Discard => branches.clear(),
                Operation::Pop | Operation::Untag => {
                    branches.iter_mut().for_each(|branch| branch.stack.clear());
                }
                Operation::Push | Operation::Swap | Operation::Replicate => {}
            }
            for branch in &mut branches {
                branch.untags &= branch.stack.is_empty()
                    && matches!(operation, Operation::Swap | Operation::Pop | Operation::Untag);
            }
            let time_source = TimeSource::Router;
            let extra = extra.map(Into::into);
            let mut mapping =
                Mapping { fec, ingress, operation, branches, event_time, time_source, extra };
            mapping.normalise();
            mapping
        },
    )
}

fn written(mappings: &[Mapping], router: bool, snapshot: SnapshotMark) -> String {
    let mut text = String::new();
    write::write_document(router.then(|| id("192.0.2.1")), snapshot, mappings, &mut text);
    text
}

/// What is put into a document, or in place of a part of it, to see what the readers make of it.
const PIECES: &[&str] = &[
    "",
    " ",
    "\n",
    "\t",
    "\"",
    "'",
    "<",
    ">",
    "&",
    ";",
    "/",
    "=",
    "]]>",
    "-",
    "--",
    "<!-- c -->",
    "<![CDATA[x]]>",
    "<?p q?>",
    "<?xml version=\"1.0\"?>",
    "&amp;",
    "&lt;",
    "&#49;",
    "&#x31;",
    "&#0;",
    "&#xFFFE;",
    "&x;",
    "&#9;",
    "\u{0}",
    "\u{7f}",
    "\u{85}",
    "\u{e9}",
    "\u{ffff}",
    "\u{feff}",
    "<x/>",
    "<x>",
    "</x>",
    "<x:y/>",
    " x:y=\"1\"",
    " xmlns=\"\"",
    " xmlns:x=\"urn:x\"",
    " xmlns:x=\"\"",
    " xmlns:xml=\"urn:x\"",
    " xmlns:xmlns=\"urn:x\"",
    " xml:lang=\"en\"",
    " type=\"ip\"",
    " router-id=\"192.0.2.1\"",
    " snapshot=\"complete\"",
    " weight=\"3\"",
    "-1",
    "0",
    "1048575",
    "1048576",
    "/32",
    "/33",
    "push",
    "none",
    "fec",
    "FEC",
    "24 144",
    "10.0.0.1",
    "1.5",
    "<mapping>",
    "</mapping>",
    "<mapping/>",
    "<ingress label=\"16\" origin=\"platform\"/>",
    "<option name=\"n\">v</option>",
    "<option name=\"n\">&amp;</option>",
    "</label-mappings>",
    "<nhlfe label=\"-1\" next-hop=\"fec\"/>",
    "<!DOCTYPE a>",
    "<1/>",
    "<a.b-c/>",
    "< a/>",
    "</ a>",
];

fn mutated() -> impl Strategy<Value = String> {
    let mutation = (any::<Index>(), 0_usize..12, select(PIECES.to_vec()));
    let mappings = proptest::collection::vec(mapping_strategy(), 0..3);
    let mutations = proptest::collection::vec(mutation, 0..4);
    (mappings, any::<bool>(), mutations).prop_map(|(mappings, router, mutations)| {
        let mut text = written(&mappings, router, SnapshotMark::None);
        for (index, length, piece) in mutations {
            let marks: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            let Some(at) = (!marks.is_empty()).then(|| index.index(marks.len())) else { continue };
            let end = marks.get(at + length).copied().unwrap_or(text.len());
            text.replace_range(marks[at]..end, piece);
        }
        text
    })
}

/// Namespaces in XML 1.0 forbids `<:a/>`, `xmlns:a=""`, a binding of `xmlns`, and XML 1.0 a second
/// `xmlns` behind an empty one; roxmltree lets these four pass.
fn is_passed_by_roxmltree(detail: &str) -> bool {
    ["declared as nothing", "without a proper name", "namespaces:", "duplicated attribute"]
        .iter()
        .any(|what| detail.contains(what))
}

/// So many cases, and no file written when one fails: the message holds the case.
fn quiet(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(quiet(400))]

    #[test]
    fn what_is_written_is_read_back_equal(
        mappings in proptest::collection::vec(mapping_strategy(), 0..8),
        router in any::<bool>(),
        snapshot in select(vec![SnapshotMark::None, SnapshotMark::Part, SnapshotMark::Whole]),
    ) {
        let text = written(&mappings, router, snapshot);
        let unit = read(text.as_bytes()).map_err(|r| TestCaseError::fail(format!("{r:?}")))?;
        prop_assert_eq!(&unit.mappings, &mappings);
        prop_assert_eq!(unit.router.is_some(), router);
        prop_assert_eq!(unit.snapshot, snapshot);
        prop_assert!(unit.rejected.is_empty());
        let is_canonical = mappings.iter().all(|mapping| {
            mapping.extra.as_deref().is_none_or(|extra| extra.starts_with("<option"))
        });
        // Names may hold what has to be escaped.
        let is_canonical = is_canonical && text.is_ascii() && !text.contains('&');
        let fast = scanned(text.as_bytes());
        prop_assert_eq!(fast.is_some(), is_canonical, "{}", text);
        if let Some(fast) = fast {
            prop_assert_eq!(fast.mappings, mappings);
            prop_assert_eq!((fast.router, fast.snapshot), (unit.router, unit.snapshot));
        }
    }

    #[test]
    fn both_readers_say_the_same(text in mutated()) {
        if let Some(fast) = scanned(text.as_bytes()) {
            let slow = read(text.as_bytes())
                .map_err(|r| TestCaseError::fail(format!("{r:?} of {text}")))?;
            prop_assert_eq!(&fast.mappings, &slow.mappings, "{}", text);
            prop_assert_eq!((fast.router, fast.snapshot), (slow.router, slow.snapshot));
            prop_assert!(slow.rejected.is_empty());
        }
    }
}

/// The same cases every time: the other reader errs too, and what it lets pass is found by more
/// cases than a test can run each time. Another seed, another search.
fn searched(seed: u64) -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(seed), ..quiet(2_000) }
}

proptest! {
    #![proptest_config(searched(1))]

    #[test]
    fn what_is_well_formed_is_agreed_upon(text in mutated()) {
        let other = roxmltree::Document::parse(&text).map(drop);
        match read(text.as_bytes()) {
            Ok(_) => prop_assert!(other.is_ok(), "{:?}: {}", other, text),
            Err(Rejection { cause: Cause::XmlRoot | Cause::XmlLimit, .. }) => {}
            Err(rejection) if is_passed_by_roxmltree(&rejection.detail) => {}
            Err(rejection) => prop_assert!(other.is_err(), "{:?}: {}", rejection, text),
        }
    }
}

#[test]
fn a_key_that_could_be_read_is_named_for_every_kind_of_entry() {
    let service = altered("platform", "service").replace("17", "x");
    let key = Key::Service(Label::new(16).unwrap(), "ip:10.0.0.0/8".parse().unwrap());
    assert_eq!(rejected(&service), [(Cause::LabelRange, Some(key.to_string()))]);
}

#[test]
fn a_declaration_of_another_kind_is_quoted() {
    for (declaration, found) in [
        ("<?xml version='1.1'?>", "found version=\"1.1\""),
        ("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>", "found encoding=\"ISO-8859-1\""),
        ("<?xml encoding='UTF-8' version='1.0'?>", "found encoding=\"UTF-8\""),
    ] {
        let text = format!("{declaration}<label-mappings/>");
        let read = read_document(text.as_bytes(), None, &LIMITS, &mut Unit::new());
        let rejection = read.unwrap_err();
        assert_eq!(rejection.cause, Cause::XmlMalformed);
        assert!(rejection.detail.ends_with(found), "{}", rejection.detail);
    }
}
