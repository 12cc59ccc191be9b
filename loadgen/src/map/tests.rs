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
    for word in ["1 line from a place to itself", "1 line runs beside", "1 place has no label"] {
        assert!(notes.contains(word), "{word}: {notes}");
    }
    for word in ["1 place is called as another", "in 2 unconnected", "4 places have no position"] {
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
        ("\n<gexf><graph/></gexf>", 2, "`graphml`, found `gexf`"),
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

/// As yEd writes it: groups that are open, closed, empty, one inside the other; links anywhere.
const GROUPED: &str = r#"<graphml xmlns="http://graphml.graphdrawing.org/xmlns" xmlns:y="urn:y">
  <key for="node" id="d6" yfiles.type="nodegraphics"/>
  <graph edgedefault="directed" id="G">
    <node id="n0" yfiles.foldertype="group">
      <data key="d6"><y:NodeLabel hasText="false"/><y:NodeLabel>North</y:NodeLabel></data>
      <graph edgedefault="directed" id="n0:">
        <node id="n0::n0"><data key="d6"><y:NodeLabel>Oslo</y:NodeLabel></data></node>
        <node id="n0::n1" yfiles.foldertype="folder">
          <graph edgedefault="directed" id="n0::n1:">
            <node id="n0::n1::n0"/>
            <edge source="n0::n1::n0" target="n0::n0"/>
          </graph>
        </node>
        <edge source="n0::n0" target="n1"/>
      </graph>
    </node>
    <node id="n1"/>
    <node id="n2" yfiles.foldertype="group"/>
    <node id="n3" yfiles.foldertype="group"><data key="d6"><y:NodeLabel>South</y:NodeLabel></data>
      <graph id="n3:"><node id="n3::n0"/></graph>
    </node>
    <edge source="n1" target="n0::n1::n0"/>
    <edge source="n3::n0" target="n3"/>
    <hyperedge/>
  </graph>
  <graph/>
</graphml>"#;

#[test]
fn what_groups_hold_are_places_and_groups_are_none_unless_a_line_ends_there() {
    let map = Map::parse(GROUPED).unwrap();
    assert_eq!(names(&map), ["Oslo", "node n0::n1::n0", "node n1", "South", "node n3::n0"]);
    assert_eq!(map.lines, [[1, 0], [0, 2], [2, 1], [4, 3]]);
    let notes = map.notes.join("\n");
    for word in [
        "3 groups of places that no line ends at are left out",
        "1 line that joins more than two places is left out",
        "1 graph behind the first one is left out",
        "2 unconnected parts",
    ] {
        assert!(notes.contains(word), "{word}: {notes}");
    }
    // The same program's GML.
    let map = Map::parse(
        "graph [ node [ id 0 isGroup 1 label \"g\" ] node [ id 1 gid 0 label \"a\" ]
         node [ id 2 label \"b\" ] edge [ source 1 target 2 ] ]",
    );
    let map = map.unwrap();
    assert_eq!(names(&map), ["a", "b"]);
    assert!(map.notes.concat().contains("1 group of places that no line ends at"), "{map:?}");
    let alone = Map::parse("graph [ node [ id 0 isGroup 1 ] ]").unwrap_err();
    assert_eq!(alone.what, "expected a node, found none");
}

#[test]
fn a_file_of_another_kind_is_called_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("map");
    let kinds: [(&[u8], &str); 9] = [
        (b"\xef\xbb\xbf \n{\"nodes\": []}", "found JSON; GML and GraphML are read"),
        (b"[{\"id\": 1}]", "found JSON"),
        (b"\x1f\x8b\x08\x00", "found gzip: unpack it first"),
        (b"PK\x03\x04\x14", "found a zip archive"),
        (b"\xff\xfeg\x00r\x00", "found UTF-16: write it as UTF-8"),
        (b"g\x00r\x00a\x00", "found bytes that are no text"),
        (b"digraph net {\n a -> b;\n}", "found the language of Graphviz"),
        (b"graph\n{ a -- b }", "found the language of Graphviz"),
        (b"*Vertices 3\n", "found Pajek's format"),
    ];
    for (bytes, told) in kinds {
        std::fs::write(&path, bytes).unwrap();
        let fault = Map::read(&path).unwrap_err().to_string();
        assert!(fault.contains(told), "{told}: {fault}");
    }
    // Braces in a comment or a label are no other kind.
    let text = "# {\ngraph\n[ node [ id 1 label \"{*}\" ] ]";
    assert_eq!(names(&Map::parse(text).unwrap()), ["{*}"]);
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
