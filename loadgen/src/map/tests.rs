//! Maps as they are published, untidy ones included.

use super::*;

fn names(map: &Map) -> Vec<&str> {
    map.places.iter().map(|place| place.name.as_str()).collect()
}

/// What real files have, in one: doubled, missing and foreign labels, a loop, parallel lines, an
/// island, keys that nobody knows, nested lists, comments.
const UNTIDY: &str = "# drawn by hand
Creator \"nobody\"
graph [
  directed 0 Network \"A [small] one\"
  node [ id 7 label \"K\u{f6}ln\" Latitude 50.9 Longitude 6.9 graphics [ x 1 center [ y 2 ] ] ]
  node [ id 3 label \"Paris\" ]
  node [ id 4 label \"Paris\" ]
  node [ id -1 ]
  node [ id 9 label \"Gen&#232;ve &amp; Co &bogus;\" ]
  edge [ source 7 target 3 LinkLabel \"10 Gbps\" ]
  edge [ source 3 target 7 ]
  edge [ source 4 target 4 ]
  edge [ source 4 target 7 ] edge [ source 4 target -1 ]
]
";

#[test]
fn an_untidy_map_is_set_right_and_says_so() {
    let map = Map::parse(UNTIDY).unwrap();
    assert_eq!(names(&map), ["Köln", "Paris", "Paris #2", "node -1", "Genève & Co &bogus;"]);
    assert_eq!(map.lines, [[0, 1], [1, 0], [2, 0], [2, 3]]);
    assert_eq!(map.parts(), 2);
    let notes = map.notes.join("\n");
    for word in ["1 lines from a place to itself", "1 lines run beside", "1 places have no label"] {
        assert!(notes.contains(word), "{word}: {notes}");
    }
    for word in ["1 places are called as another", "in 2 parts", "4 places have no position"] {
        assert!(notes.contains(word), "{word}: {notes}");
    }
    let cologne = map.places[0].position.unwrap();
    let paris = Position { latitude: 48.85, longitude: 2.35 };
    let kilometres = cologne.kilometres_to(paris);
    assert!((395.0..410.0).contains(&kilometres), "{kilometres}");
}

#[test]
fn a_fault_is_told_with_its_line() {
    let cases = [
        ("graph [\n node [ id 1 ]\n node [ id 1 ]\n]", 3, "line 2 has it"),
        (
            "graph [\n node [ id 1 ]\n edge [ source 1\n target 2 ]\n]",
            3,
            "the id of a node, found 2",
        ),
        ("graph [\n node [ label \"a\" ]\n]", 2, "an `id`"),
        ("graph [\n node [ id 1 ]\n edge [ source 1 ]\n]", 3, "`source` and `target`"),
        ("graph [\n node [ id 1\n", 3, "expected `]`"),
        ("graph [\n node [ id 1 ]\n]\n]", 4, "a key, found ]"),
        ("graph [\n\n node [ id 1 label \"open ]\n]", 3, "closing quote"),
        ("graph [\n node [ id 1 Latitude \"north\" ]\n]", 2, "a number, found north"),
        ("graph [\n node 5\n]", 2, "expected `[`, found 5"),
        ("graph [\n 5 node\n]", 2, "a key, found 5"),
        ("graph [\n node [ id ]\n]", 2, "id: expected a value"),
        ("graph [ ]", 1, "a node, found none"),
        ("", 1, "expected `graph [`"),
        ("<graphml>\n<graph>\n<node/>\n</graph></graphml>", 3, "attribute `id`"),
        ("<graphml>\n<graph>\n<node id='1'>\n</graph></graphml>", 4, "expected"),
        ("<graphml/>", 1, "`graph`"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]>\n<graphml/>", 1, "DTD"),
    ];
    for (text, line, word) in cases {
        let fault = Map::parse(text).unwrap_err();
        assert_eq!(fault.line, line, "{text}: {fault}");
        assert!(fault.to_string().contains(word), "{text}: {fault}");
    }
    let deep = format!("graph {}", "[ a ".repeat(100_000));
    assert!(Map::parse(&deep).unwrap_err().what.contains("at most 16 lists"));
}

#[test]
fn graphml_says_the_same_as_gml() {
    let text = r#"<?xml version="1.0" encoding="utf-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
  <key attr.name="Latitude" attr.type="double" for="node" id="d1"/>
  <key attr.name="Longitude" attr.type="double" for="node" id="d2"/>
  <key attr.name="label" attr.type="string" for="node" id="d3"/>
  <graph edgedefault="directed">
    <node id="a"><data key="d1">50.9</data><data key="d2">6.9</data><data key="d3">K&#246;ln</data></node>
    <node id="b"><data key="d9"><y:Shape xmlns:y="urn:y"><y:NodeLabel>Paris</y:NodeLabel></y:Shape></data></node>
    <node id="c"/>
    <edge source="a" target="b"/>
    <edge source="b" target="a"/>
    <edge source="b" target="c"/>
  </graph>
</graphml>"#;
    let map = Map::parse(text).unwrap();
    assert_eq!(names(&map), ["Köln", "Paris", "node c"]);
    assert_eq!(map.lines, [[0, 1], [1, 2]]);
    assert_eq!(map.places[0].position, Some(Position { latitude: 50.9, longitude: 6.9 }));
    assert!(map.notes[0].contains("once for each direction"), "{:?}", map.notes);
}

#[test]
fn bytes_that_are_no_utf_8_are_read_as_latin() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latin.gml");
    std::fs::write(&path, b"graph [ node [ id 1 label \"M\xfcnchen\" ] ]").unwrap();
    assert_eq!(names(&Map::read(&path).unwrap()), ["München"]);
    let absent = Map::read(&folder.path().join("absent.gml")).unwrap_err();
    assert!(absent.to_string().contains("absent.gml"), "{absent}");
    std::fs::write(&path, "graph [\n node 5\n]").unwrap();
    let fault = Map::read(&path).unwrap_err().to_string();
    assert!(fault.contains("latin.gml, line 2: "), "{fault}");
}
