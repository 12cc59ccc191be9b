//! A map of a real network, places and lines between them, read from GML or GraphML.
//!
//! In:   a file as people publish them: with doubled labels, parallel lines, loops, islands.
//! Out:  `Map`, and what was set right in it, in words.
//! Law:  what is ambiguous is refused with its line; what is merely untidy is set right and said,
//!       and so is whatever is left out.
//! Not:  routers and costs (`topology/mapped`), or the two spellings (`map/gml`, `map/graphml`).

mod gml;
mod graphml;
mod kind;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// Longest file that is read: the largest published map is below a megabyte.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Places and the lines between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Every place; the index is its name inside the model.
    pub places: Vec<Place>,
    /// Every line, as the indices of its two places; parallel ones occur as often as they are.
    pub lines: Vec<[usize; 2]>,
    /// What was set right while reading, in words.
    pub notes: Vec<String>,
}

/// A place: a city, a point of presence.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// What it is called; no two places of a map are called alike.
    pub name: String,
    /// Degrees north and east, where the map says them.
    pub position: Option<Position>,
}

/// A position on the globe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// Degrees north, -90 to 90.
    pub latitude: f64,
    /// Degrees east, -180 to 180.
    pub longitude: f64,
}

impl Position {
    /// Kilometres along the great circle, by the haversine formula on a sphere.
    pub fn kilometres_to(self, other: Position) -> f64 {
        const EARTH_RADIUS_KILOMETRES: f64 = 6_371.0;
        let [north, south] = [self.latitude, other.latitude].map(f64::to_radians);
        let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
        let east = half(other.longitude - self.longitude) * north.cos() * south.cos();
        let chord = half(other.latitude - self.latitude) + east;
        2.0 * EARTH_RADIUS_KILOMETRES * chord.sqrt().min(1.0).asin()
    }
}

/// A map that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The file cannot be had.
    #[error("map {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What is in it is no map, or an ambiguous one.
    #[error("map {}, {fault}", path.display())]
    Fault {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        fault: Fault,
    },
}

/// What is wrong in a text, and on which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1.
    pub line: u32,
    /// What was expected, and what was found.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// What both spellings say, before it is looked at.
#[derive(Debug, Default)]
struct Raw {
    /// Whether an edge has a direction: then there and back are one line.
    directed: bool,
    nodes: Vec<RawNode>,
    edges: Vec<RawEdge>,
    /// What was left out, in words.
    notes: Vec<String>,
}

#[derive(Debug, Default)]
struct RawNode {
    line: u32,
    id: String,
    label: Option<String>,
    latitude: Option<f64>,
    longitude: Option<f64>,
    /// It stands for the nodes inside it.
    is_group: bool,
}

#[derive(Debug, Default)]
struct RawEdge {
    line: u32,
    source: String,
    target: String,
}

impl Map {
    /// Reads a file; GraphML begins with `<`, everything else is taken for GML.
    /// Errors: `MapError`, with the line where there is one.
    pub fn read(path: &Path) -> Result<Map, MapError> {
        let io = |source| MapError::Io { path: path.to_owned(), source };
        let length = std::fs::metadata(path).map_err(io)?.len();
        if length > FILE_BYTES_MAX {
            let what = format!("expected at most {FILE_BYTES_MAX} bytes, found {length}");
            let fault = Fault { line: 1, what };
            return Err(MapError::Fault { path: path.to_owned(), fault });
        }
        let bytes = std::fs::read(path).map_err(io)?;
        let map = match kind::foreign(&bytes) {
            Some(found) => Err(kind::refused(found)),
            None => Map::parse(&text_of(&bytes)),
        };
        map.map_err(|fault| MapError::Fault { path: path.to_owned(), fault })
    }

    /// Reads a text. Errors: the first fault.
    pub fn parse(text: &str) -> Result<Map, Fault> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Some(found) = kind::foreign(text.as_bytes()) {
            return Err(kind::refused(found));
        }
        let raw = match text.trim_start().starts_with('<') {
            true => graphml::read(text)?,
            false => gml::read(text)?,
        };
        raw.check()
    }

    /// How many parts the map falls into: 1 when every place can be reached from every other.
    pub fn parts(&self) -> usize {
        let mut part_of: Vec<usize> = (0..self.places.len()).collect();
        fn root(part_of: &mut [usize], mut place: usize) -> usize {
            while part_of[place] != place {
                part_of[place] = part_of[part_of[place]];
                place = part_of[place];
            }
            place
        }
        for line in &self.lines {
            let [one, other] = line.map(|place| root(&mut part_of, place));
            part_of[one] = other;
        }
        (0..part_of.len()).filter(|place| part_of[*place] == *place).count()
    }
}

impl Raw {
    /// Says that so many of something are left out, if there are any.
    fn leave_out(&mut self, count: usize, one: &str, more: &str) {
        self.notes.extend(counted(
            count,
            &format!("{one} is left out"),
            &format!("{more} are left out"),
        ));
    }

    /// Groups that nobody has drawn a line to are no places.
    fn leave_out_groups(&mut self) {
        let ends: BTreeSet<&str> =
            self.edges.iter().flat_map(|edge| [&*edge.source, &*edge.target]).collect();
        let is_place = |node: &RawNode| !node.is_group || ends.contains(&*node.id);
        let places: Vec<bool> = self.nodes.iter().map(is_place).collect();
        let groups = places.iter().filter(|is_place| !**is_place).count();
        let mut places = places.into_iter();
        self.nodes.retain(|_| places.next().unwrap_or(true));
        self.leave_out(
            groups,
            "group of places that no line ends at",
            "groups of places that no line ends at",
        );
    }

    fn check(mut self) -> Result<Map, Fault> {
        self.leave_out_groups();
        if self.nodes.is_empty() {
            return Err(Fault { line: 1, what: "expected a node, found none".to_owned() });
        }
        let mut by_id: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if let Some(first) = by_id.insert(&node.id, index) {
                let (id, first) = (&node.id, self.nodes[first].line);
                let what = format!("node id {id}: expected one of its own, line {first} has it");
                return Err(Fault { line: node.line, what });
            }
        }
        let mut notes = std::mem::take(&mut self.notes);
        let lines = self.lines(&by_id, &mut notes)?;
        let places = self.places(&mut notes);
        let map = Map { places, lines, notes };
        let parts = map.parts();
        let mut map = map;
        if parts > 1 {
            let what = "no LSP leads from one to another";
            map.notes.push(format!("the map is in {parts} unconnected parts: {what}"));
        }
        Ok(map)
    }

    fn lines(
        &self,
        by_id: &BTreeMap<&str, usize>,
        notes: &mut Vec<String>,
    ) -> Result<Vec<[usize; 2]>, Fault> {
        let place = |id: &str, line: u32| {
            let what = || format!("expected the id of a node, found {id}");
            by_id.get(id).copied().ok_or_else(|| Fault { line, what: what() })
        };
        let mut lines = Vec::new();
        let (mut loops, mut both_ways) = (0, 0);
        let mut directions: BTreeMap<[usize; 2], usize> = BTreeMap::new();
        for edge in &self.edges {
            let line = [place(&edge.source, edge.line)?, place(&edge.target, edge.line)?];
            let back = [line[1], line[0]];
            if line[0] == line[1] {
                loops += 1;
            } else if self.directed && directions.get(&back).is_some_and(|open| *open > 0) {
                directions.entry(back).and_modify(|open| *open -= 1);
                both_ways += 1;
            } else {
                directions.entry(line).and_modify(|open| *open += 1).or_insert(1);
                lines.push(line);
            }
        }
        let apart: BTreeSet<[usize; 2]> =
            lines.iter().map(|[one, other]| [*one.min(other), *one.max(other)]).collect();
        let said = [
            counted(
                loops,
                "line from a place to itself is left out",
                "lines from a place to itself are left out",
            ),
            counted(
                both_ways,
                "line is given once for each direction, and counted once",
                "lines are given once for each direction, and counted once",
            ),
            counted(
                lines.len() - apart.len(),
                "line runs beside another between the same places, and is kept",
                "lines run beside others between the same places, and are kept",
            ),
        ];
        notes.extend(said.into_iter().flatten());
        Ok(lines)
    }

    /// Names are made different; a place without one is called after its id.
    fn places(&self, notes: &mut Vec<String>) -> Vec<Place> {
        let mut taken = BTreeSet::new();
        let (mut nameless, mut alike) = (0, 0);
        let mut places = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let label = node.label.as_deref().map(str::trim).filter(|label| !label.is_empty());
            nameless += usize::from(label.is_none());
            let label = label.map_or_else(|| format!("node {}", node.id), str::to_owned);
            let numbered = (2..).map(|number: u32| format!("{label} #{number}"));
            let mut names = std::iter::once(label.clone()).chain(numbered);
            let name = names.find(|name| !taken.contains(name)).unwrap_or_default();
            alike += usize::from(name != label);
            taken.insert(name.clone());
            let position = match (node.latitude, node.longitude) {
                (Some(latitude), Some(longitude))
                    if latitude.abs() <= 90.0 && longitude.abs() <= 180.0 =>
                {
                    Some(Position { latitude, longitude })
                }
                _ => None,
            };
            places.push(Place { name, position });
        }
        let placeless = places.iter().filter(|place| place.position.is_none()).count();
        let said = [
            counted(
                nameless,
                "place has no label and is called after its id",
                "places have no label and are called after their id",
            ),
            counted(
                alike,
                "place is called as another one is, and got a number",
                "places are called as another one is, and got a number",
            ),
            counted(
                placeless,
                "place has no position: its lines cost as much as one of 990 km",
                "places have no position: their lines cost as much as one of 990 km",
            ),
        ];
        notes.extend(said.into_iter().flatten());
        places
    }
}

/// What there is to say of so many, if there are any.
fn counted(count: usize, one: &str, more: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        _ => Some(format!("{count} {more}")),
    }
}

/// UTF-8 where it is; else every byte is the character of its number (ISO 8859-1).
fn text_of(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

#[cfg(test)]
mod tests;
