//! The page: one document, its style and its scripts, all in the program.
//!
//! In:   nothing but the files beside this module.
//! Out:  the same bytes for everybody; what there is to see the scripts ask for.
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
const ICON: &str = include_str!("page/icon.svg");
/// Modules of the script; the first is asked for by the document, the others by one another.
const SCRIPTS: [(&str, &str); 6] = [
    ("/script.js", include_str!("page/script.js")),
    ("/base.js", include_str!("page/base.js")),
    ("/now.js", include_str!("page/now.js")),
    ("/bursts.js", include_str!("page/bursts.js")),
    ("/routers.js", include_str!("page/routers.js")),
    ("/machine.js", include_str!("page/machine.js")),
];

/// Whether a path is a piece of the page: it shows nothing before it has a token.
pub(super) fn is_piece(path: &str) -> bool {
    ["/", "/style.css", "/icon.svg"].contains(&path)
        || SCRIPTS.iter().any(|(name, _)| *name == path)
}

pub(super) fn routes() -> Router<App> {
    let of = |kind: &'static str, text: String| {
        get(move || async move { ([(header::CONTENT_TYPE, kind)], text.clone()).into_response() })
    };
    let routes = Router::new()
        .route("/", of("text/html; charset=utf-8", DOCUMENT.to_owned()))
        .route("/style.css", of("text/css; charset=utf-8", format!("{STYLE}{}", chart::STYLE)))
        .route("/icon.svg", of("image/svg+xml", ICON.to_owned()));
    SCRIPTS.into_iter().fold(routes, |routes, (name, text)| {
        routes.route(name, of("text/javascript; charset=utf-8", text.to_owned()))
    })
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
        // Whatever the scripts ask for by its id is there, and so is every module that they import;
        // labels name what there is.
        for (name, script) in SCRIPTS {
            for asks in ["byId('", "fill('", "draw('", "say('"] {
                for part in script.split(asks).skip(1) {
                    let id = part.split('\'').next().unwrap();
                    assert!(ids.contains(id), "{name} asks for {id}");
                }
            }
            for part in script.split(" from './").skip(1) {
                let module = part.split('\'').next().unwrap();
                assert!(is_piece(&format!("/{module}")), "{name} imports {module}");
            }
        }
        for attribute in ["for", "aria-labelledby", "aria-describedby"] {
            let named = nodes.iter().filter_map(|node| node.attribute(attribute));
            for id in named.flat_map(str::split_whitespace) {
                assert!(ids.contains(id), "{attribute} names {id}");
            }
        }
        for text in SCRIPTS.map(|(_, text)| text).into_iter().chain([STYLE, ICON]) {
            let text = text.replace("http://www.w3.org/", "");
            assert!(!text.contains("://") && !text.contains("eval(") && !text.contains("url("));
        }
    }
}
