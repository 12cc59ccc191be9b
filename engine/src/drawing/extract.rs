//! Extract: of a drawing with too many boxes, those that somebody looks for.
//!
//! In:   a whole drawing; how many boxes there may be.
//! Out:  a part of it that hangs together: every box of it can be reached from the head.
//! Law:  whatever leads to an end that is not delivered comes first, then what is near the head.
//! Not:  how it is drawn (`drawing`).

use std::collections::VecDeque;

use super::{Drawing, GOOD, SPARE};

/// So many boxes of a drawing at most.
pub(super) fn extract(whole: Drawing, boxes_max: usize) -> Drawing {
    if whole.boxes.len() <= boxes_max {
        return whole;
    }
    let kept = kept(&whole, boxes_max);
    let mut places = vec![None; whole.boxes.len()];
    let mut extract = Drawing::default();
    for (place, one) in whole.boxes.into_iter().enumerate().filter(|(place, _)| kept[*place]) {
        places[place] = Some(extract.boxes.len());
        extract.boxes.push(one);
    }
    for (way, said) in whole.ways.into_iter().enumerate() {
        let Some((from, to)) = whole.graph.way(way) else { continue };
        if let (Some(from), Some(to)) = (places[from], places[to]) {
            extract.join(from, to, said);
        }
    }
    extract
}

/// Which boxes stay.
fn kept(whole: &Drawing, boxes_max: usize) -> Vec<bool> {
    let bad = leading_to_bad_ends(whole);
    let onward = neighbours(whole, false);
    let mut kept = vec![false; whole.boxes.len()];
    let mut left = boxes_max;
    // From the head outwards, twice: a box is taken only after one that leads to it.
    for is_wanted in [&|place: usize| bad[place], &|_: usize| true] as [&dyn Fn(usize) -> bool; 2] {
        let mut seen = vec![false; whole.boxes.len()];
        let mut next = VecDeque::from([0]);
        while let Some(place) = next.pop_front() {
            if seen[place] || !is_wanted(place) || (!kept[place] && left == 0) {
                continue;
            }
            seen[place] = true;
            left -= usize::from(!kept[place]);
            kept[place] = true;
            next.extend(&onward[place]);
        }
    }
    kept
}

/// For each box whether some way from it ends badly.
fn leading_to_bad_ends(whole: &Drawing) -> Vec<bool> {
    let is_bad = |one: &super::Place| one.is_end && ![GOOD, SPARE].contains(&one.colour);
    let mut bad: Vec<bool> = whole.boxes.iter().map(is_bad).collect();
    let mut next: Vec<usize> = (0..bad.len()).filter(|place| bad[*place]).collect();
    let coming = neighbours(whole, true);
    while let Some(place) = next.pop() {
        for from in &coming[place] {
            if !std::mem::replace(&mut bad[*from], true) {
                next.push(*from);
            }
        }
    }
    bad
}

/// For each box those that a way leads to; turned round, those that one leads from.
fn neighbours(whole: &Drawing, turned: bool) -> Vec<Vec<usize>> {
    let mut neighbours = vec![Vec::new(); whole.boxes.len()];
    for way in 0..whole.ways.len() {
        let Some((from, to)) = whole.graph.way(way) else { continue };
        let (here, there) = if turned { (to, from) } else { (from, to) };
        neighbours[here].push(there);
    }
    neighbours
}
