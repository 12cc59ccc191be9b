//! The page: one document, its style and its script, all in the program.
//!
//! In:   nothing but the files beside this module.
//! Out:  the same bytes for everybody; what there is to see the script asks for.
//! Law:  nothing is loaded from elsewhere, nothing is inline, and `cargo build` alone makes it.
//! Not:  charts (`charts`), the drawn path (`drawing`), numbers (`api`).

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use super::App;
use crate::chart;

const DOCUMENT: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");
const ICON: &str = include_str!("page/icon.svg");

pub(super) fn routes() -> Router<App> {
    let of = |kind: &'static str, text: String| {
        get(move || async move { ([(header::CONTENT_TYPE, kind)], text.clone()).into_response() })
    };
    Router::new()
        .route("/", of("text/html; charset=utf-8", DOCUMENT.to_owned()))
        .route("/style.css", of("text/css; charset=utf-8", format!("{STYLE}{}", chart::STYLE)))
        .route("/script.js", of("text/javascript; charset=utf-8", SCRIPT.to_owned()))
        .route("/icon.svg", of("image/svg+xml", ICON.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_loads_nothing_from_elsewhere() {
        let xml = DOCUMENT.replacen("<!DOCTYPE html>\n", "", 1);
        let document = roxmltree::Document::parse(&xml).unwrap();
        let nodes: Vec<_> = document.descendants().filter(roxmltree::Node::is_element).collect();
        let mut ids = std::collections::BTreeSet::new();
        for node in &nodes {
            for attribute in node.attributes() {
                let (name, value) = (attribute.name(), attribute.value());
                assert!(!name.starts_with("on") && name != "style", "inline: {name} {value}");
                assert!(!value.contains("://") && !value.starts_with("//"), "elsewhere: {value}");
                assert!(name != "id" || ids.insert(value), "twice: {value}");
            }
            let is_inline = ["script", "style"].contains(&node.tag_name().name());
            assert!(!is_inline || node.text().is_none_or(str::is_empty));
        }
        // Whatever the script asks for by its id is there, and labels name what there is.
        for part in SCRIPT.split("byId('").skip(1) {
            let id = part.split('\'').next().unwrap();
            assert!(ids.contains(id), "the script asks for {id}");
        }
        for label in nodes.iter().filter_map(|node| node.attribute("for")) {
            assert!(ids.contains(label), "a label is for {label}");
        }
        for text in [STYLE, SCRIPT, ICON] {
            let text = text.replace("http://www.w3.org/", "");
            assert!(!text.contains("://") && !text.contains("eval(") && !text.contains("url("));
        }
    }
}
