//! The way of an LSP as a drawing: routers from the head down, labels on the ways between them.
//!
//! In:   a `TraceAnswer`.
//! Out:  an SVG in the colours of `chart::STYLE`, and a sentence that says what of it is left out.
//! Law:  what is drawn is the answer that the words say; an end that is not delivered stands out,
//!       and is left out last.
//! Not:  the walk (`storage::history`), and where things stand (`drawing::places`).

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use storage::mapping::Role;

use crate::chart::{BAD, DROP, FONT, GOOD, INK, PAPER, RAISED, SPARE, WARN, escaped};
use crate::query::{BranchAnswer, EndAnswer, OnwardAnswer, StepAnswer, TraceAnswer};

mod extract;
mod places;

use extract::extract;
use places::{Graph, Places};

/// More boxes than these are not drawn.
const BOXES_MAX: usize = 300;
/// A box, and what is free around it.
const BOX: (i32, i32) = (204, 60);
const FREE: (i32, i32) = (22, 58);
const MARGIN: i32 = 12;
/// Between ways that join the same two boxes, and between their words.
const BESIDE: (i32, i32) = (36, 14);
/// Letters of a box's title, of its lines, and beside a way.
const LETTERS: (usize, usize, usize) = (26, 35, 34);
const FONT_SMALL: (&str, u32) = ("sans-serif", 11);
/// About so wide is a letter of that font, and so high the ground of a word.
const LETTER: (i32, i32) = (6, 13);
/// Strokes and gaps of a way that is one of several, or a backup.
const DASHES: (i32, i32) = (6, 4);

/// One box: a step of the walk, or an end.
#[derive(Clone)]
struct Place {
    title: String,
    lines: [String; 2],
    colour: RGBColor,
    is_end: bool,
}

/// What stands on a way between two boxes.
#[derive(Clone, Default)]
struct Way {
    words: String,
    /// One of several that a packet may go; of a replicate it goes all.
    is_choice: bool,
    /// It carries nothing while the others stand.
    is_backup: bool,
}

impl Way {
    fn is_dashed(&self) -> bool {
        self.is_choice || self.is_backup
    }
}

/// Boxes, and the ways between them.
#[derive(Default)]
struct Drawing {
    boxes: Vec<Place>,
    graph: Graph,
    ways: Vec<Way>,
}

/// The SVG, or why there is none.
pub fn draw(trace: &TraceAnswer) -> String {
    let whole = Drawing::of(trace);
    if whole.boxes.is_empty() {
        return "<p class=\"none\">there is nothing to draw</p>\n".to_owned();
    }
    let (all, drawing) = (whole.boxes.len(), extract(whole, BOXES_MAX));
    let places = Places::new(drawing.boxes.len(), &drawing.graph);
    let size = (
        places.columns() as i32 * (BOX.0 + FREE.0) - FREE.0 + 2 * MARGIN,
        places.rows() as i32 * (BOX.1 + FREE.1) - FREE.1 + 2 * MARGIN,
    );
    let mut svg = String::new();
    match paint(&mut svg, size, &drawing, &places) {
        Ok(()) => left_out(all, drawing.boxes.len()) + &named(trace, &svg),
        // Drawing into a text does not fail.
        Err(error) => format!("<p class=\"none\">not drawn: {}</p>\n", escaped(&error)),
    }
}

/// What of the drawing is missing, in a sentence; nothing if it is whole.
fn left_out(all: usize, drawn: usize) -> String {
    if all == drawn {
        return String::new();
    }
    format!(
        "<p class=\"note\">{drawn} of {all} boxes are drawn, first those on the way to an end that \
         is not delivered; the words below say them all.</p>\n"
    )
}

impl Drawing {
    fn of(trace: &TraceAnswer) -> Drawing {
        let mut drawing = Drawing::default();
        drawing.boxes.extend(trace.steps.iter().map(step_box));
        for (place, step) in trace.steps.iter().enumerate() {
            if let Some(end) = &step.end {
                let to = drawing.end(end_box(end));
                drawing.join(place, to, Way::default());
            }
            let copies = step.operation.as_deref() == Some("replicate");
            let is_choice = !copies && primaries(step) > 1;
            for branch in &step.branches {
                let to = match &branch.onward {
                    OnwardAnswer::Step { step } => *step,
                    OnwardAnswer::End(end) => drawing.end(end_box(end)),
                    OnwardAnswer::Backup { .. } => drawing.end(backup_box()),
                };
                let (words, is_backup) = (way_words(branch), is_backup(branch));
                drawing.join(place, to, Way { words, is_choice, is_backup });
            }
        }
        drawing
    }

    fn end(&mut self, end: Place) -> usize {
        self.boxes.push(end);
        self.boxes.len() - 1
    }

    fn join(&mut self, from: usize, to: usize, way: Way) {
        self.graph.join(from, to);
        self.ways.push(way);
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
    let primaries = primaries(step);
    let kind = match (step.operation.as_deref(), primaries) {
        (Some("replicate"), _) => format!(": {primaries} copies"),
        (_, 2..) => format!(": ECMP over {primaries}"),
        _ => String::new(),
    };
    let kind = match step.branches.len() - primaries {
        0 => kind,
        backups => format!("{kind}, {backups} backup{}", if backups > 1 { "s" } else { "" }),
    };
    let entry = match &step.entry {
        Some(entry) => entry.clone(),
        _ if step.labels.is_empty() => "no label".to_owned(),
        _ => stack(&step.labels),
    };
    let operation = step.operation.as_ref().map_or(String::new(), |verb| format!("{verb}{kind}"));
    Place { title: step.name.clone(), lines: [entry, operation], colour: INK, is_end: false }
}

/// Branches of a step that carry traffic.
fn primaries(step: &StepAnswer) -> usize {
    step.branches.iter().filter(|branch| !is_backup(branch)).count()
}

fn is_backup(branch: &BranchAnswer) -> bool {
    branch.role == Role::Backup.name()
}

/// Where a backup leads while nobody follows it.
fn backup_box() -> Place {
    Place {
        title: "– backup".to_owned(),
        lines: ["carries nothing while others stand".to_owned(), String::new()],
        colour: SPARE,
        is_end: true,
    }
}

fn end_box(end: &EndAnswer) -> Place {
    let (mark, colour) = match end.verdict.as_str() {
        "delivered" => ("✓", GOOD),
        "discarded" => ("⊘", DROP),
        "unknown" => ("?", WARN),
        "unlabelled" => ("!", WARN),
        _ => ("✕", BAD),
    };
    let line = end.detail.strip_prefix(&end.verdict).unwrap_or(&end.detail).trim_start();
    let line = line.strip_prefix("at ").unwrap_or(line);
    let line = line.strip_prefix(&format!("{}: ", end.router)).unwrap_or(line);
    Place {
        title: format!("{mark} {}", end.verdict),
        lines: folded(line, LETTERS.1),
        colour,
        is_end: true,
    }
}

/// The text on two lines, parted where there is a blank.
fn folded(text: &str, letters: usize) -> [String; 2] {
    if text.chars().count() <= letters {
        return [text.to_owned(), String::new()];
    }
    let room = text.char_indices().nth(letters + 1).map_or(text.len(), |(place, _)| place);
    match text[..room].rfind(' ') {
        Some(blank) => [text[..blank].to_owned(), text[blank + 1..].to_owned()],
        None => [text.to_owned(), String::new()],
    }
}

fn way_words(branch: &BranchAnswer) -> String {
    // Behind the next hop there may be an interface, a weight, a neighbour: `Nhlfe` says which.
    let hop = branch.branch.split_once('@').map_or("", |(_, hop)| hop);
    let hop = hop.split(['%', '*', ' ']).next().unwrap_or(hop);
    let mut words = match hop {
        "fec" if branch.labels.is_empty() => "out".to_owned(),
        "fec" | "interface" | "" => format!("{} out", stack(&branch.labels)),
        "recursive" => format!("{} looked up again", stack(&branch.labels)),
        hop => format!("{} via {hop}", stack(&branch.labels)),
    };
    let said = [
        (" by ", branch.interface.as_deref()),
        (" in ", branch.encapsulation.as_deref()),
        (" (", is_backup(branch).then_some("backup)")),
    ];
    for (word, said) in said.into_iter().filter_map(|(word, said)| Some((word, said?))) {
        words.push_str(word);
        words.push_str(said);
    }
    words
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
    drawing: &Drawing,
    places: &Places,
) -> Result<(), String> {
    let pixels = |length: i32| u32::try_from(length).unwrap_or(1);
    let area = SVGBackend::with_string(svg, (pixels(size.0), pixels(size.1))).into_drawing_area();
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let graph = &drawing.graph;
    let lines: Vec<Line> = (0..drawing.ways.len()).map(|way| line(way, graph, places)).collect();
    for ((way, said), line) in drawing.ways.iter().enumerate().zip(&lines) {
        let end = graph.way(way).and_then(|(_, to)| drawing.boxes.get(to));
        let colour = end.filter(|end| end.is_end).map_or(INK, |end| end.colour);
        let colour = if said.is_backup { SPARE } else { colour };
        paint_way(&area, &line.stops, colour, said.is_dashed()).map_err(|error| told(&error))?;
    }
    // Words stand on their way, above all ways.
    for (said, line) in drawing.ways.iter().zip(&lines) {
        paint_words(&area, &said.words, line).map_err(|error| told(&error))?;
    }
    for (place, one) in drawing.boxes.iter().enumerate() {
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

/// A way in pixels.
struct Line {
    stops: Vec<(i32, i32)>,
    /// How many ways before it join the same two boxes.
    same: i32,
}

fn line(way: usize, graph: &Graph, places: &Places) -> Line {
    // Two links between the same routers are two ways: the second stands beside the first.
    let same = (0..way).filter(|other| graph.way(*other) == graph.way(way)).count() as i32;
    let mut stops = Vec::new();
    let through = places.way(way);
    for (number, stop) in through.iter().enumerate() {
        let (x, y) = corner(*stop);
        let middle = x + BOX.0 / 2 - same * BESIDE.0;
        // Out of the first box, through the free places between, into the last.
        if number > 0 {
            stops.push((middle, y));
        }
        if number + 1 < through.len() {
            stops.push((middle, y + BOX.1));
        }
    }
    Line { stops, same }
}

fn paint_way(area: &Area<'_>, stops: &[(i32, i32)], colour: RGBColor, is_dashed: bool) -> Painted {
    let style = colour.stroke_width(2);
    if is_dashed {
        let dashed = DashedPathElement::new(stops.to_vec(), DASHES.0, DASHES.1, style);
        area.draw(&dashed)?;
    } else {
        area.draw(&PathElement::new(stops.to_vec(), style))?;
    }
    let [.., (x, y)] = *stops else { return Ok(()) };
    let arrow = vec![(x - 5, y - 8), (x, y), (x + 5, y - 8)];
    area.draw(&PathElement::new(arrow, style))
}

/// The words of a way, on a ground of their own, nearer to its end: there ways lie apart.
fn paint_words(area: &Area<'_>, words: &str, line: &Line) -> Painted {
    let [first, second, ..] = line.stops[..] else { return Ok(()) };
    if words.is_empty() {
        return Ok(());
    }
    let words = cut(words, LETTERS.2);
    let (wide, high) = (second.0 - first.0, second.1 - first.1);
    let (x, y) = (first.0 + wide * 13 / 20, first.1 + high * 13 / 20 - line.same * BESIDE.1);
    let half = (words.chars().count() as i32 * LETTER.0 / 2 + 2, LETTER.1 / 2);
    let ground = [(x - half.0, y - half.1), (x + half.0, y + half.1)];
    area.draw(&Rectangle::new(ground, PAPER.filled()))?;
    let pos = Pos::new(HPos::Center, VPos::Center);
    area.draw(&Text::new(words, (x, y), FONT_SMALL.into_font().color(&INK).pos(pos)))
}

fn paint_box(area: &Area<'_>, (x, y): (i32, i32), one: &Place) -> Painted {
    let corners = [(x, y), (x + BOX.0, y + BOX.1)];
    area.draw(&Rectangle::new(corners, RAISED.filled()))?;
    area.draw(&Rectangle::new(corners, one.colour.stroke_width(if one.is_end { 3 } else { 1 })))?;
    let pos = Pos::new(HPos::Center, VPos::Center);
    let middle = x + BOX.0 / 2;
    let title = FONT.into_font().style(FontStyle::Bold).color(&one.colour).pos(pos);
    area.draw(&Text::new(cut(&one.title, LETTERS.0), (middle, y + 15), title))?;
    for (line, below) in one.lines.iter().zip([33, 48]) {
        if line.is_empty() {
            continue;
        }
        let style = FONT_SMALL.into_font().color(&INK).pos(pos);
        area.draw(&Text::new(cut(line, LETTERS.1), (middle, y + below), style))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
