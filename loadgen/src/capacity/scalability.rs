//! The Universal Scalability Law, fitted to rates at several sizes.
//!
//! In:   points: size (shards, or connections) and rate.
//! Out:  `Scalability`: rate of one, contention, coherency, and where more becomes less.
//! Law:  neither share is negative; what too few points cannot tell is absent.
//! Not:  measuring the points (`rig`).
//!
//! `rate(n) = one x n / (1 + contention x (n - 1) + coherency x n x (n - 1))`, N. J. Gunther,
//! "Guerrilla Capacity Planning", 2007, chapter 4. Dividing n by the rate makes it linear in three
//! unknowns, which are found by least squares.

use serde::Serialize;

/// A fitted law.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scalability {
    /// Rate at size 1.
    pub one: f64,
    /// Share of the work that only one can do at a time.
    pub contention: f64,
    /// Cost of each pair that has to agree; 0 where two points cannot tell.
    pub coherency: f64,
    /// Size at which the rate is largest; absent where it only grows.
    pub peak_size: Option<f64>,
    /// Share of the spread of the rates that the law explains, at most 1.
    pub fit: f64,
}

impl Scalability {
    /// The rate at a size.
    pub fn rate(&self, size: f64) -> f64 {
        let waits = self.contention * (size - 1.0) + self.coherency * size * (size - 1.0);
        self.one * size / (1.0 + waits)
    }

    /// Fits the law. `None` with fewer than two sizes, or rates that are not above 0.
    pub fn fit(points: &[(f64, f64)]) -> Option<Scalability> {
        let mut sizes: Vec<f64> = points.iter().map(|(size, _)| *size).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        let sound = points.iter().all(|(size, rate)| *size >= 1.0 && *rate > 0.0);
        if sizes.len() < 2 || !sound {
            return None;
        }
        // n / rate = a + b (n - 1) + c n (n - 1); a = 1 / one, b = contention a, c = coherency a.
        let terms = |size: f64| [1.0, size - 1.0, size * (size - 1.0)];
        let mut used = [true, true, sizes.len() > 2];
        loop {
            let [a, b, c] = least_squares(points, terms, used)?;
            // A negative share is noise: leave it out and fit the others again.
            if c < 0.0 {
                used[2] = false;
            } else if b < 0.0 {
                used[1] = false;
            } else if a <= 0.0 {
                return None;
            } else {
                return Some(Scalability::new(a, b, c, points));
            }
        }
    }

    fn new(a: f64, b: f64, c: f64, points: &[(f64, f64)]) -> Scalability {
        let (one, contention, coherency) = (1.0 / a, b / a, c / a);
        let peak_size = (coherency > 0.0).then(|| ((1.0 - contention).max(0.0) / coherency).sqrt());
        let law = Scalability { one, contention, coherency, peak_size, fit: 1.0 };
        let mean = points.iter().map(|(_, rate)| rate).sum::<f64>() / points.len() as f64;
        let square = |value: f64| value * value;
        let spread: f64 = points.iter().map(|(_, rate)| square(rate - mean)).sum();
        let missed: f64 = points.iter().map(|(size, rate)| square(rate - law.rate(*size))).sum();
        Scalability { fit: if spread > 0.0 { 1.0 - missed / spread } else { 1.0 }, ..law }
    }
}

/// The three coefficients that miss size / rate least; those that are not used are 0.
fn least_squares(
    points: &[(f64, f64)],
    terms: impl Fn(f64) -> [f64; 3],
    used: [bool; 3],
) -> Option<[f64; 3]> {
    let mut matrix = [[0.0; 4]; 3];
    for (size, rate) in points {
        let row = terms(*size);
        for (line, left) in matrix.iter_mut().zip(row) {
            for (cell, right) in line.iter_mut().zip(row) {
                *cell += left * right;
            }
            line[3] += left * size / rate;
        }
    }
    for (place, used) in used.into_iter().enumerate() {
        if !used {
            matrix.iter_mut().for_each(|line| line[place] = 0.0);
            matrix[place] = [0.0; 4];
            matrix[place][place] = 1.0;
        }
    }
    solve(matrix)
}

/// Gauss's elimination; `None` where the points do not tell the unknowns apart.
fn solve(mut matrix: [[f64; 4]; 3]) -> Option<[f64; 3]> {
    for column in 0..3 {
        let size = |line: &usize| matrix[*line][column].abs();
        let pivot = (column..3).max_by(|one, other| size(one).total_cmp(&size(other)))?;
        matrix.swap(column, pivot);
        let head = matrix[column];
        if head[column].abs() < 1e-30 {
            return None;
        }
        for (place, line) in matrix.iter_mut().enumerate() {
            if place != column {
                let factor = line[column] / head[column];
                line.iter_mut().zip(head).for_each(|(cell, above)| *cell -= factor * above);
            }
        }
    }
    Some([0, 1, 2].map(|place| matrix[place][3] / matrix[place][place]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn law(contention: f64, coherency: f64) -> Scalability {
        Scalability { one: 1.5e6, contention, coherency, peak_size: None, fit: 1.0 }
    }

    fn points(law: &Scalability, sizes: &[f64]) -> Vec<(f64, f64)> {
        sizes.iter().map(|size| (*size, law.rate(*size))).collect()
    }

    #[test]
    fn a_law_that_made_the_points_is_found_again() {
        for (contention, coherency) in [(0.0, 0.0), (0.05, 0.0), (0.03, 0.0005), (0.3, 0.02)] {
            let made = law(contention, coherency);
            let found = Scalability::fit(&points(&made, &[1.0, 2.0, 4.0, 8.0, 16.0])).unwrap();
            assert!((found.one / made.one - 1.0).abs() < 1e-6, "{found:?}");
            assert!((found.contention - contention).abs() < 1e-6, "{found:?}");
            assert!((found.coherency - coherency).abs() < 1e-8, "{found:?}");
            assert!(found.fit > 0.999_999);
        }
    }

    #[test]
    fn more_becomes_less_at_the_peak() {
        let found =
            Scalability::fit(&points(&law(0.1, 0.009), &[1.0, 2.0, 5.0, 9.0, 20.0])).unwrap();
        let peak = found.peak_size.unwrap();
        assert!((peak - 10.0).abs() < 1e-3, "{peak}");
        assert!(found.rate(peak) > found.rate(8.0) && found.rate(peak) > found.rate(12.0));
    }

    #[test]
    fn two_points_tell_contention_alone_and_one_tells_nothing() {
        let found = Scalability::fit(&[(1.0, 100.0), (2.0, 160.0)]).unwrap();
        assert!((found.contention - 0.25).abs() < 1e-9, "{found:?}");
        assert_eq!((found.coherency, found.peak_size), (0.0, None));
        assert_eq!(Scalability::fit(&[(1.0, 100.0), (1.0, 90.0)]), None);
        assert_eq!(Scalability::fit(&[(1.0, 100.0), (2.0, 0.0)]), None);
    }

    #[test]
    fn rates_that_grow_too_well_are_noise_and_make_nothing_negative() {
        let found = Scalability::fit(&[(1.0, 100.0), (2.0, 210.0), (4.0, 430.0)]).unwrap();
        assert!(found.contention == 0.0 && found.coherency == 0.0, "{found:?}");
        assert!((100.0..110.0).contains(&found.one), "{found:?}");
    }
}
