//! Places: in which row and column each box of a drawing stands.
//!
//! In:   which box leads to which; no way leads back.
//! Out:  a row and a column for each, and the places that a way goes through.
//! Law:  every way goes down; a way over several rows keeps a column free in each between.
//! Not:  pixels (`drawing`).

use std::collections::VecDeque;

/// Ways between boxes, in the order in which they were said.
#[derive(Debug, Default)]
pub(super) struct Graph {
    ways: Vec<(usize, usize)>,
}

impl Graph {
    /// A way from one box to another.
    pub(super) fn join(&mut self, from: usize, to: usize) {
        self.ways.push((from, to));
    }

    /// Both ends of a way.
    pub(super) fn way(&self, way: usize) -> Option<(usize, usize)> {
        self.ways.get(way).copied()
    }

    /// The row of each box: the longest way from the head that leads to it.
    fn rows(&self, boxes: usize) -> Vec<usize> {
        let mut coming = vec![0_usize; boxes];
        for (_, to) in &self.ways {
            coming[*to] += 1;
        }
        let mut rows = vec![0; boxes];
        let mut ready: VecDeque<usize> = (0..boxes).filter(|one| coming[*one] == 0).collect();
        while let Some(one) = ready.pop_front() {
            for (_, to) in self.ways.iter().filter(|(from, _)| *from == one) {
                rows[*to] = rows[*to].max(rows[one] + 1);
                coming[*to] -= 1;
                if coming[*to] == 0 {
                    ready.push_back(*to);
                }
            }
        }
        rows
    }
}

/// Where everything stands.
#[derive(Debug)]
pub(super) struct Places {
    boxes: Vec<(f64, usize)>,
    ways: Vec<Vec<(f64, usize)>>,
    columns: usize,
    rows: usize,
}

/// What stands in a row: a box, or a way that goes on to a later row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Box(usize),
    Way(usize),
}

impl Places {
    pub(super) fn new(boxes: usize, graph: &Graph) -> Places {
        let row_of = graph.rows(boxes);
        let rows = row_of.iter().max().map_or(0, |row| row + 1);
        let mut stops: Vec<Vec<Stop>> = vec![Vec::new(); rows];
        for (one, row) in row_of.iter().enumerate() {
            stops[*row].push(Stop::Box(one));
        }
        for (way, (from, to)) in graph.ways.iter().enumerate() {
            let between = stops.iter_mut().take(row_of[*to]).skip(row_of[*from] + 1);
            between.for_each(|stops| stops.push(Stop::Way(way)));
        }
        let columns = stops.iter().map(Vec::len).max().unwrap_or(0);
        let mut places = Places {
            boxes: vec![(0.0, 0); boxes],
            ways: vec![Vec::new(); graph.ways.len()],
            columns,
            rows,
        };
        for (row, stops) in stops.into_iter().enumerate() {
            places.place(row, stops, graph, &row_of);
        }
        for (way, (from, to)) in graph.ways.iter().enumerate() {
            places.ways[way].insert(0, places.boxes[*from]);
            places.ways[way].push(places.boxes[*to]);
        }
        places
    }

    /// Places a row below those that it hangs on: each stop near the mean of where it comes from.
    fn place(&mut self, row: usize, stops: Vec<Stop>, graph: &Graph, row_of: &[usize]) {
        let mut wanted: Vec<(f64, Stop)> = Vec::with_capacity(stops.len());
        for stop in stops {
            let above: Vec<f64> = match stop {
                Stop::Way(way) => vec![self.above(way, graph)],
                Stop::Box(one) => {
                    let ways = graph.ways.iter().enumerate().filter(|(_, (_, to))| *to == one);
                    ways.filter(|(_, (from, _))| row_of[*from] < row)
                        .map(|(way, _)| self.above(way, graph))
                        .collect()
                }
            };
            let middle = (self.columns.saturating_sub(1)) as f64 / 2.0;
            let mean = above.iter().sum::<f64>() / above.len().max(1) as f64;
            wanted.push((if above.is_empty() { middle } else { mean }, stop));
        }
        // Stable: branches of one box keep their order.
        wanted.sort_by(|left, right| left.0.total_cmp(&right.0));
        let mean =
            wanted.iter().map(|(column, _)| column).sum::<f64>() / wanted.len().max(1) as f64;
        let width = wanted.len().saturating_sub(1) as f64;
        let most = self.columns.saturating_sub(1) as f64 - width;
        let first = (mean - width / 2.0).clamp(0.0, most.max(0.0));
        for (place, (_, stop)) in wanted.into_iter().enumerate() {
            let at = (first + place as f64, row);
            match stop {
                Stop::Box(one) => self.boxes[one] = at,
                Stop::Way(way) => self.ways[way].push(at),
            }
        }
    }

    /// The column at which a way comes from the row above.
    fn above(&self, way: usize, graph: &Graph) -> f64 {
        let last = self.ways[way].last().map(|stop| stop.0);
        last.unwrap_or_else(|| self.boxes[graph.ways[way].0].0)
    }

    /// Columns of the widest row.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Column and row of a box.
    pub(super) fn of(&self, one: usize) -> (f64, usize) {
        self.boxes.get(one).copied().unwrap_or_default()
    }

    /// The places that a way goes through, both ends among them.
    pub(super) fn way(&self, way: usize) -> &[(f64, usize)] {
        self.ways.get(way).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(boxes: usize, ways: &[(usize, usize)]) -> Places {
        let mut graph = Graph::default();
        ways.iter().for_each(|(from, to)| graph.join(*from, *to));
        Places::new(boxes, &graph)
    }

    #[test]
    fn a_line_stands_in_one_column_and_branches_beside_each_other() {
        let line = places(3, &[(0, 1), (1, 2)]);
        assert_eq!((line.columns(), line.rows()), (1, 3));
        assert_eq!([line.of(0), line.of(1), line.of(2)], [(0.0, 0), (0.0, 1), (0.0, 2)]);

        let split = places(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]);
        assert_eq!((split.columns(), split.rows()), (2, 3));
        assert_eq!((split.of(0), split.of(3)), ((0.5, 0), (0.5, 2)));
        assert_eq!((split.of(1), split.of(2)), ((0.0, 1), (1.0, 1)));
    }

    #[test]
    fn a_way_over_several_rows_keeps_clear_of_the_boxes_between() {
        // 0 to 3 directly, and by way of 1 and 2.
        let places = places(4, &[(0, 1), (1, 2), (2, 3), (0, 3)]);
        assert_eq!((places.rows(), places.columns()), (4, 2));
        let way = places.way(3);
        assert_eq!(way.len(), 4);
        for (column, row) in &way[1..3] {
            let here = (1..3).map(|one| places.of(one)).find(|place| place.1 == *row).unwrap();
            assert!((here.0 - column).abs() >= 1.0, "{way:?}");
        }
    }

    #[test]
    fn no_two_stand_in_one_place() {
        // A head with many branches, each of which branches again and meets the others.
        let ways: Vec<(usize, usize)> =
            (1..9).map(|to| (0, to)).chain((1..9).flat_map(|one| [(one, 9), (one, 10)])).collect();
        let places = places(11, &ways);
        for one in 0..11 {
            for other in 0..one {
                let (left, right) = (places.of(one), places.of(other));
                assert!(left.1 != right.1 || (left.0 - right.0).abs() >= 1.0, "{left:?} {right:?}");
            }
            assert!((0.0..places.columns() as f64).contains(&places.of(one).0));
        }
    }
}
