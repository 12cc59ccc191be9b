//! The view once, as plain text: for pipes, scripts, and terminals that cannot be drawn on.
//!
//! In:   a picture.
//! Out:  lines of text, the state first.
//! Law:  nothing but text: no colours, no control characters.
//! Not:  the live view (`draw`).

use std::fmt::Write as _;

use storage::time::Micros;

use super::draw::{BURST_HEADS, burst_cells, router_cells};
use super::picture::Picture;
use super::state::{Grade, state};
use super::units::{bytes, bytes_per_second, count, moved, rate, span_ms};
use super::view::{Column, View};
use crate::watch::{Moment, Moved};

/// Rows of each list.
const ROWS_MAX: usize = 10;

/// The text, and how bad it is.
pub(super) fn text(picture: &Picture, view: &View) -> (String, Grade) {
    let Some(moment) = picture.moment() else {
        return ("the collector has not looked at itself yet: ask again\n".to_owned(), Grade::Calm);
    };
    let state = state(moment, &picture.faults, &picture.bursts);
    let mut text = String::new();
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(text, "{}  {}", state.grade.word(), state.text);
    let time = Micros(moment.time_us);
    let _ = writeln!(text, "collector  {} ({}) at {time}", picture.address, picture.about);
    add_moment(&mut text, moment);
    if !picture.bursts.is_empty() {
        text.push('\n');
        let heads = BURST_HEADS.map(str::to_owned);
        let rows = picture.bursts.iter().take(ROWS_MAX).map(burst_cells);
        add_table(&mut text, std::iter::once(heads).chain(rows).collect());
    }
    if let Some(routers) = &picture.routers {
        text.push('\n');
        let heads = Column::ALL.map(|column| column.title().to_owned());
        let ordered = view.ordered(routers);
        let rows = ordered.iter().take(ROWS_MAX).map(|entry| router_cells(entry));
        add_table(&mut text, std::iter::once(heads).chain(rows).collect());
        if routers.len() > ROWS_MAX {
            let _ = writeln!(text, "and {} more", routers.len() - ROWS_MAX);
        }
    }
    (text, state.grade)
}

fn add_moment(text: &mut String, moment: &Moment) {
    let per_second = |amount| rate(amount, moment.span_us);
    let (gained, memory, sessions) = (&moment.gained, &moment.memory, &moment.sessions);
    let lines = [
        (
            "coming in",
            format!(
                "{} received, {}/s mappings, {}/s changes, {}/s rows committed",
                bytes_per_second(per_second(gained.received_bytes)),
                count(per_second(gained.mappings)),
                count(per_second(gained.changes)),
                count(per_second(gained.rows_committed))
            ),
        ),
        (
            "totals",
            format!(
                "{} bytes received, {} mappings, {} changes, {} confirmed, {} rejected",
                moment.totals.received_bytes,
                moment.totals.mappings,
                moment.totals.changes,
                moment.totals.confirmed,
                moment.totals.rejected_mappings
            ),
        ),
        (
            "memory",
            format!(
                "surge {} of {}, tables {} of {}, room for {} more",
                bytes(memory.surge_held_bytes),
                bytes(memory.surge_max_bytes),
                bytes(memory.tables_bytes),
                bytes(memory.tables_max_bytes),
                bytes(memory.headroom_bytes)
            ),
        ),
        (
            "sessions",
            format!(
                "{} on {} connections, {} routers, {} entries, {} blocked{}",
                sessions.live,
                sessions.connections,
                sessions.routers,
                sessions.entries,
                sessions.blocked,
                if sessions.blocked > 0 {
                    format!(" (one for {})", span_ms(sessions.blocked_ms))
                } else {
                    String::new()
                }
            ),
        ),
        ("shards", shards(moment)),
        ("kernel", kernel(moment)),
    ];
    for (name, told) in lines {
        let _ = writeln!(text, "{name:<9}  {told}");
    }
}

fn shards(moment: &Moment) -> String {
    let shares: Vec<String> = moment
        .shards
        .iter()
        .map(|shard| bytes_per_second(rate(shard.received_bytes, moment.span_us)))
        .collect();
    shares.join(", ")
}

fn kernel(moment: &Moment) -> String {
    let told = |step: &Moved| {
        let (name, by) = moved(&step.counter, step.by);
        format!("{name} {by}")
    };
    let moved: Vec<String> = moment.kernel.moved.iter().map(told).collect();
    let unread = &moment.kernel.unread;
    match (moved.is_empty(), unread.is_empty()) {
        (true, true) => "no counter moved".to_owned(),
        (false, true) => moved.join(", "),
        (true, false) => untold(unread),
        (false, false) => format!("{}; of others {}", moved.join(", "), untold(unread)),
    }
}

fn untold(unread: &[String]) -> String {
    format!("it cannot be told whether counters moved: {} cannot be read", unread.join(", "))
}

/// Columns as wide as their widest cell.
fn add_table<const COLUMNS: usize>(text: &mut String, rows: Vec<[String; COLUMNS]>) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| width(column).unwrap_or(0));
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_cannot_be_read_are_not_said_to_stand_still() {
        let told = |moved: &[&str], unread: &[&str]| {
            let mut moment = Moment::default();
            let moved = moved.iter().map(|counter| Moved { counter: (*counter).to_owned(), by: 3 });
            moment.kernel.moved = moved.collect();
            moment.kernel.unread = unread.iter().map(|path| (*path).to_owned()).collect();
            kernel(&moment)
        };
        assert_eq!(told(&[], &[]), "no counter moved");
        let unread = ["/proc/net/snmp", "/proc/net/softnet_stat"];
        let words = "it cannot be told whether counters moved: /proc/net/snmp, \
                     /proc/net/softnet_stat cannot be read";
        assert_eq!(told(&[], &unread), words);
        let text = told(&["TcpExt.PruneCalled"], &unread);
        assert!(text.starts_with("TcpExt.PruneCalled") && text.ends_with(words), "{text}");
    }
}
