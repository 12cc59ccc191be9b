//! Makes a walk's graph one without cycles: a way back to a step still under way is a loop.
//!
//! In:   the steps of a walk, as found.
//! Out:  the same steps; every branch that leads back ends with the verdict `loop`.
//! Law:  every cycle is cut, whatever the order in which its steps were found.
//! Not:  how steps are found (`walk`).

use super::{Broken, Onward, Step, Verdict};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    UnderWay,
    Done,
}

/// Depth first, by hand: a path may be as long as there are steps.
pub(super) fn cut(steps: &mut [Step]) {
    let mut marks = vec![Mark::New; steps.len()];
    let mut path: Vec<(usize, usize)> = Vec::new();
    if let Some(mark) = marks.first_mut() {
        *mark = Mark::UnderWay;
        path.push((0, 0));
    }
    while let Some((index, branch_index)) = path.last_mut() {
        let here = steps[*index].router;
        let Some(branch) = steps[*index].branches.get_mut(*branch_index) else {
            marks[*index] = Mark::Done;
            path.pop();
            continue;
        };
        *branch_index += 1;
        let Onward::Step(next) = branch.onward else {
            continue;
        };
        match marks[next] {
            Mark::New => {
                marks[next] = Mark::UnderWay;
                path.push((next, 0));
            }
            Mark::UnderWay => {
                branch.onward = Onward::End(Verdict::Broken { here, why: Broken::Loop });
            }
            Mark::Done => {}
        }
    }
}
