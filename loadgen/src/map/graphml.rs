//! GraphML: nodes and edges as XML, their values under keys that the file declares.
//!
//! In:   text.
//! Out:  nodes and edges as written, each with its line.
//! Law:  no document type declaration is read; an unknown key is no fault; what stands inside a
//!       group is read as if it stood beside it.
//! Not:  what ids and labels mean together (`map`).

use std::collections::BTreeMap;

use roxmltree::{Document, Node, ParsingOptions};

use super::{Fault, Raw, RawEdge, RawNode};

/// Most XML nodes of a file: the largest published maps have some tens of thousands.
const XML_NODES_MAX: u32 = 4_000_000;

/// Reads a text. Errors: the first fault.
pub(super) fn read(text: &str) -> Result<Raw, Fault> {
    let options = ParsingOptions { nodes_limit: XML_NODES_MAX, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options)
        .map_err(|error| Fault { line: error.pos().row, what: error.to_string() })?;
    let root = document.root_element();
    if !is(root, "graphml") {
        let what = format!("expected an element `graphml`, found `{}`", root.tag_name().name());
        return Err(Fault { line: document.text_pos_at(root.range().start).row, what });
    }
    let keys: BTreeMap<&str, String> = root
        .children()
        .filter(|child| is(*child, "key"))
        .filter_map(|key| Some((key.attribute("id")?, key.attribute("attr.name")?)))
        .map(|(id, name)| (id, name.to_ascii_lowercase()))
        .collect();
    let mut graphs = root.children().filter(|child| is(*child, "graph"));
    let what = "expected an element `graph`, found none".to_owned();
    let graph = graphs.next().ok_or(Fault { line: 1, what })?;
    let line = |node: Node<'_, '_>| document.text_pos_at(node.range().start).row;
    let needed = |node: Node<'_, '_>, name: &str| {
        let what = || format!("{}: expected an attribute `{name}`", node.tag_name().name());
        let value = node.attribute(name).map(str::to_owned);
        value.ok_or_else(|| Fault { line: line(node), what: what() })
    };
    let mut raw =
        Raw { directed: graph.attribute("edgedefault") == Some("directed"), ..Raw::default() };
    // Groups hold graphs of their own, and links between any two nodes may stand in any of them.
    let in_graphs = |part: &Node<'_, '_>| part.parent().is_some_and(|parent| is(parent, "graph"));
    let mut hyperedges = 0;
    for part in graph.descendants().filter(in_graphs) {
        match part.tag_name().name() {
            "node" => {
                let mut node = RawNode { line: line(part), ..RawNode::default() };
                node.id = needed(part, "id")?;
                node.is_group = part.children().any(|child| is(child, "graph"))
                    || part.attribute("yfiles.foldertype").is_some();
                read_data(part, &keys, &mut node)
                    .map_err(|what| Fault { line: line(part), what })?;
                raw.nodes.push(node);
            }
            "edge" => raw.edges.push(RawEdge {
                line: line(part),
                source: needed(part, "source")?,
                target: needed(part, "target")?,
            }),
            "hyperedge" => hyperedges += 1,
            _ => {}
        }
    }
    raw.leave_out(
        hyperedges,
        "line that joins more than two places",
        "lines that join more than two places",
    );
    raw.leave_out(graphs.count(), "graph behind the first one", "graphs behind the first one");
    Ok(raw)
}

fn is(node: Node<'_, '_>, name: &str) -> bool {
    node.tag_name().name() == name
}

fn read_data(
    part: Node<'_, '_>,
    keys: &BTreeMap<&str, String>,
    node: &mut RawNode,
) -> Result<(), String> {
    let own = || part.children().filter(|child| is(*child, "data"));
    for data in own() {
        let key = data.attribute("key").and_then(|id| keys.get(id)).map_or("", String::as_str);
        let text = data.text().unwrap_or("").trim();
        let number = || {
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            number.ok_or_else(|| format!("{key}: expected a number, found {text}"))
        };
        match key {
            "label" | "name" if !text.is_empty() => node.label = Some(text.to_owned()),
            "latitude" => node.latitude = Some(number()?),
            "longitude" => node.longitude = Some(number()?),
            _ => {}
        }
    }
    // A drawing program keeps the label in an element of its own.
    let drawn = own().flat_map(|data| data.descendants()).filter(|it| is(*it, "NodeLabel"));
    let mut drawn = drawn.filter_map(|label| label.text()).map(str::trim);
    if node.label.is_none() {
        node.label = drawn.find(|text| !text.is_empty()).map(str::to_owned);
    }
    Ok(())
}
