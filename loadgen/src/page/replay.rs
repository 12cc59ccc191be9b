//! The page of a replay.
//!
//! In:   what was sent.
//! Out:  HTML: figures, bytes over time, file by file.
//! Law:  it says what was sent, and claims nothing of what was made of it.
//! Not:  sending (`replay`).

use engine::chart::{Chart, SIZE, Series, escaped, short};
use tuning::doctor::grouped;

use super::{figure, page, put, table};
use crate::replay::Replayed;

/// The page.
pub fn replay_page(replayed: &Replayed, target: &str, host: &str) -> String {
    let mut body = String::new();
    let said = escaped(replayed.to_string().trim_end());
    put(&mut body, format_args!("<div class=\"verdict\">\n<strong>{said}</strong>\n</div>\n"));
    let late =
        |ms: Option<f64>| ms.map_or_else(|| "sent at once".to_owned(), |ms| format!("{ms:.1} ms"));
    body.push_str(&table(&[
        ("collector", target.to_owned()),
        ("files", replayed.files.len().to_string()),
        ("connections", replayed.connections.to_string()),
        ("bytes", grouped(replayed.bytes)),
        ("time", format!("{:.3} s", replayed.seconds)),
        ("later than recorded (p99)", late(replayed.late_ms_p99)),
        ("later than recorded (max)", late(replayed.late_ms_max)),
    ]));
    let points = replayed.sent_over_time.iter();
    let chart = Chart {
        x: "s",
        y: "MB",
        series: vec![Series::line("sent", points.map(|[ms, it]| (ms / 1e3, it / 1e6)).collect())],
        logarithmic: false,
        x_label: short,
        size: SIZE,
    };
    figure(&mut body, "Bytes that were sent", &chart);
    body.push_str(
        "<h2>files</h2>\n<table>\n<tr><th>file</th><th>connections</th><th>bytes</th></tr>\n",
    );
    for file in &replayed.files {
        let (name, connections) = (escaped(&file.file), file.connections);
        let bytes = grouped(file.bytes);
        put(
            &mut body,
            format_args!("<tr><td>{name}</td><td>{connections}</td><td>{bytes}</td></tr>\n"),
        );
    }
    body.push_str("</table>\n");
    put(&mut body, format_args!("<h2>host</h2>\n<pre>{}</pre>\n", escaped(host)));
    page("a replay of stormgen", &body)
}
