//! The way of an LSP as a drawing: routers from the head down, labels on the ways between them.
//!
//! In:   a `TraceAnswer`.
//! Out:  an SVG in the colours of `chart::STYLE`; a sentence where there are too many routers.
//! Law:  what is drawn is the answer that the words say; an end that is not delivered stands out.
//! Not:  the walk (`storage::history`), and where things stand (`drawing::places`).

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::chart::{BAD, FONT, GOOD, INK, RAISED, WARN, escaped};
use crate::query::{BranchAnswer, EndAnswer, OnwardAnswer, StepAnswer, TraceAnswer};

mod places;

use places::{Graph, Places};

/// More boxes than these are not drawn.
const BOXES_MAX: usize = 300;
/// A box, and what is free around it.
const BOX: (i32, i32) = (196, 44);
const FREE: (i32, i32) = (22, 62);
const MARGIN: i32 = 12;
/// Words stand at the right of their way: so much for those of the last column.
const WORDS: i32 = 96;
/// Between the words of ways that join the same two boxes, and between these ways.
const BESIDE: (i32, i32) = (12, 13);
/// Letters of a box's first and second line, and beside a way.
const LETTERS: (usize, usize, usize) = (24, 32, 30);
const FONT_SMALL: (&str, u32) = ("sans-serif", 11);

/// One box: a step of the walk, or an end.
struct Place {
    title: String,
    line: String,
    colour: RGBColor,
    is_end: bool,
}

/// The SVG, or why there is none.
pub fn draw(trace: &TraceAnswer) -> String {
    let mut graph = Graph::default();
    let mut boxes: Vec<Place> = trace.steps.iter().map(step_box).collect();
    let mut words = Vec::new();
    for (place, step) in trace.steps.iter().enumerate() {
        if let Some(end) = &step.end {
            graph.join(place, boxes.len());
            words.push(String::new());
            boxes.push(end_box(end));
        }
        for branch in &step.branches {
            let to = match &branch.onward {
                OnwardAnswer::Step { step } => *step,
                OnwardAnswer::End(end) => {
                    boxes.push(end_box(end));
                    boxes.len() - 1
                }
            };
            graph.join(place, to);
            words.push(way_words(branch));
        }
        if boxes.len() > BOXES_MAX {
            let sentence = "too many ways to draw: the words below say them";
            return format!("<p class=\"none\">{sentence}</p>\n");
        }
    }
    if boxes.is_empty() {
        return "<p class=\"none\">there is nothing to draw</p>\n".to_owned();
    }
    let places = Places::new(boxes.len(), &graph);
    let size = (
        places.columns() as i32 * (BOX.0 + FREE.0) - FREE.0 + 2 * MARGIN + WORDS,
        places.rows() as i32 * (BOX.1 + FREE.1) - FREE.1 + 2 * MARGIN,
    );
    let mut svg = String::new();
    let drawn = paint(&mut svg, size, &boxes, &graph, &places, &words);
    match drawn {
        Ok(()) => named(trace, &svg),
        // Drawing into a text does not fail.
        Err(error) => format!("<p class=\"none\">not drawn: {}</p>\n", escaped(&error)),
    }
}

fn named(trace: &TraceAnswer, svg: &str) -> String {
    let label = format!(
        "The way of {} from {}: {} over {} routers, {} ways",
        trace.start,
        trace.steps.first().map_or(trace.head.as_str(), |step| step.name.as_str()),
        trace.verdict,
        trace
            .steps
            .iter()
            .map(|step| &step.router)
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        trace.paths.len()
    );
    svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{}\" ", escaped(&label)), 1)
}

fn step_box(step: &StepAnswer) -> Place {
    let branches = step.branches.len();
    let kind = match (step.operation.as_deref(), branches) {
        (Some("replicate"), _) => format!(", {branches} copies:"),
        (_, 2..) => format!(", ECMP of {branches}:"),
        _ => String::new(),
    };
    let line = match (&step.entry, &step.operation) {
        (Some(entry), Some(operation)) => format!("{operation}{kind} {entry}"),
        _ if step.labels.is_empty() => "no label".to_owned(),
        _ => stack(&step.labels),
    };
    Place { title: step.name.clone(), line, colour: INK, is_end: false }
}

fn end_box(end: &EndAnswer) -> Place {
    let (mark, colour) = match end.verdict.as_str() {
        "delivered" => ("✓", GOOD),
        "unknown" => ("?", WARN),
        "unlabelled" => ("!", WARN),
        _ => ("✕", BAD),
    };
    let line = end.detail.strip_prefix(&end.verdict).unwrap_or(&end.detail).trim_start();
    let line = line.strip_prefix("at ").unwrap_or(line);
    Place {
        title: format!("{mark} {}", end.verdict),
        line: line.strip_prefix(&format!("{}: ", end.router)).unwrap_or(line).to_owned(),
        colour,
        is_end: true,
    }
}

fn way_words(branch: &BranchAnswer) -> String {
    let hop = branch.branch.split_once('@').map_or("", |(_, hop)| hop);
    match hop {
        "fec" => "out".to_owned(),
        "recursive" => format!("{} looked up again", stack(&branch.labels)),
        hop => format!("{} via {hop}", stack(&branch.labels)),
    }
}

fn stack(labels: &[u32]) -> String {
    if labels.is_empty() {
        return "no label".to_owned();
    }
    let labels: Vec<String> = labels.iter().map(u32::to_string).collect();
    format!("[{}]", labels.join(" "))
}

/// As many letters as there is room for.
fn cut(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    text.chars().take(letters.saturating_sub(1)).chain(['…']).collect()
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn paint(
    svg: &mut String,
    size: (i32, i32),
    boxes: &[Place],
    graph: &Graph,
    places: &Places,
    words: &[String],
) -> Result<(), String> {
    let pixels = |length: i32| u32::try_from(length).unwrap_or(1);
    let area = SVGBackend::with_string(svg, (pixels(size.0), pixels(size.1))).into_drawing_area();
    let told = |error: &dyn std::fmt::Display| error.to_string();
    for (way, words) in words.iter().enumerate() {
        let Some((_, to)) = graph.way(way) else { continue };
        let end = boxes.get(to);
        // Two links between the same routers are two ways: the second stands beside the first.
        let same = (0..way).filter(|other| graph.way(*other) == graph.way(way)).count() as i32;
        paint_way(&area, places.way(way), words, end, same).map_err(|error| told(&error))?;
    }
    for (place, one) in boxes.iter().enumerate() {
        paint_box(&area, corner(places.of(place)), one).map_err(|error| told(&error))?;
    }
    area.present().map_err(|error| told(&error))
}

type Painted = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Upper left corner of the box at a column and a row; columns may lie between two others.
fn corner((column, row): (f64, usize)) -> (i32, i32) {
    let x = column * f64::from(BOX.0 + FREE.0);
    (MARGIN + x.round() as i32, MARGIN + row as i32 * (BOX.1 + FREE.1))
}

fn paint_way(
    area: &Area<'_>,
    stops: &[(f64, usize)],
    words: &str,
    end: Option<&Place>,
    same: i32,
) -> Painted {
    let colour = end.filter(|end| end.is_end).map_or(INK, |end| end.colour);
    let mut line = Vec::new();
    for (number, stop) in stops.iter().enumerate() {
        let (x, y) = corner(*stop);
        let middle = x + BOX.0 / 2 - same * BESIDE.0;
        // Out of the first box, through the free places between, into the last.
        if number > 0 {
            line.push((middle, y));
        }
        if number + 1 < stops.len() {
            line.push((middle, y + BOX.1));
        }
    }
    area.draw(&PathElement::new(line.clone(), colour.stroke_width(2)))?;
    if let [.., _, (x, y)] = line[..] {
        let arrow = vec![(x - 5, y - 8), (x, y), (x + 5, y - 8)];
        area.draw(&PathElement::new(arrow, colour.stroke_width(2)))?;
    }
    if let [first, second, ..] = line[..] {
        // Nearer to the end than to the beginning, where ways lie close together.
        let (wide, high) = (second.0 - first.0, second.1 - first.1);
        let right = first.0 + wide * 3 / 5 + 6 + same * BESIDE.0;
        let at = (right, first.1 + high * 3 / 5 - same * BESIDE.1);
        let pos = Pos::new(HPos::Left, VPos::Center);
        let style = FONT_SMALL.into_font().color(&INK).pos(pos);
        area.draw(&Text::new(cut(words, LETTERS.2), at, style))?;
    }
    Ok(())
}

fn paint_box(area: &Area<'_>, (x, y): (i32, i32), one: &Place) -> Painted {
    let corners = [(x, y), (x + BOX.0, y + BOX.1)];
    area.draw(&Rectangle::new(corners, RAISED.filled()))?;
    area.draw(&Rectangle::new(corners, one.colour.stroke_width(if one.is_end { 3 } else { 1 })))?;
    let pos = Pos::new(HPos::Center, VPos::Center);
    let middle = x + BOX.0 / 2;
    let title = FONT.into_font().style(FontStyle::Bold).color(&one.colour).pos(pos);
    area.draw(&Text::new(cut(&one.title, LETTERS.0), (middle, y + 14), title))?;
    let line = FONT_SMALL.into_font().color(&INK).pos(pos);
    area.draw(&Text::new(cut(&one.line, LETTERS.1), (middle, y + 32), line))
}

#[cfg(test)]
mod tests;
