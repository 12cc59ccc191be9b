//! Searches on simulated hosts whose limits are known.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// A host that is simulated: its limit, how gradually it sets in, what the generator can do.
#[derive(Clone, Copy)]
struct Simulated {
    limit: f64,
    /// Share of the limit over which symptoms become certain; 0 = a cliff.
    softness: f64,
    /// Chance that a run shows a symptom for no reason.
    flaky: f64,
    /// Above this load sends are late.
    generator: f64,
    /// Chance that a run is disturbed by others.
    disturbed: f64,
}

const CALM: Simulated = Simulated {
    limit: 777_000.0,
    softness: 0.0,
    flaky: 0.0,
    generator: f64::INFINITY,
    disturbed: 0.0,
};
const RANGE: Range = Range { first: 10_000.0, min: 1_000.0, max: 1e8 };

impl Simulated {
    fn run(&self, load: f64, chance: &mut ChaCha8Rng) -> Finding {
        if load > self.generator {
            return Finding::Void(Label::GeneratorBound);
        }
        if chance.random_bool(self.disturbed) {
            return Finding::Void(Label::ForeignWork);
        }
        let excess = (load - self.limit) / self.limit;
        let share = match self.softness {
            0.0 => f64::from(excess > 0.0),
            softness => 1.0 / (1.0 + (-4.0 * excess / softness).exp()),
        };
        if chance.random_bool(share) {
            let with_slow = [Symptom::RouterBlocked, Symptom::TooSlow].into_iter().collect();
            return Finding::Symptoms(with_slow);
        }
        if chance.random_bool(self.flaky) {
            return Finding::Symptoms([Symptom::ConnectionLost].into());
        }
        Finding::Clean
    }
}

/// Searches; every run with its load, and the answer.
fn search(host: &Simulated, range: Range, seed: u64) -> (Vec<(f64, Finding)>, Answer) {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let mut search = Search::new(range);
    let mut runs = Vec::new();
    loop {
        match search.step() {
            Step::Done(answer) => {
                assert_eq!(search.runs(), runs.len());
                return (runs, answer);
            }
            Step::Try(load) => {
                assert!((range.min..=range.max).contains(&load), "{load}");
                let finding = host.run(load, &mut chance);
                runs.push((load, finding.clone()));
                search.tell(finding);
            }
        }
    }
}

fn reason(host: &Simulated, range: Range, seed: u64) -> Option<Reason> {
    match search(host, range, seed).1 {
        Answer::NotFound { reason, .. } => Some(reason),
        Answer::Limit { .. } => None,
    }
}

/// The rule, checked against the runs themselves and not against the state of the search.
fn is_confirmed(runs: &[(f64, Finding)], limit: f64, symptom: Symptom) -> bool {
    let at = |factor: f64| {
        let near = move |load: f64| (load / (limit * factor) - 1.0).abs() < 1e-9;
        let here = runs.iter().filter(move |(load, _)| near(*load));
        here.filter(|(_, finding)| !matches!(finding, Finding::Void(_))).map(|(_, it)| it)
    };
    let below: Vec<&Finding> = at(0.8).collect();
    let above: Vec<&Finding> = at(1.25).collect();
    let shows = |finding: &&&Finding| match finding {
        Finding::Symptoms(symptoms) => symptoms.contains(&symptom),
        _ => false,
    };
    let last = |findings: &[&Finding]| findings.len().saturating_sub(5);
    let (below, above) = (&below[last(&below)..], &above[last(&above)..]);
    let clean = below.len() == 5 && below.iter().all(|finding| **finding == Finding::Clean);
    clean && above.len() == 5 && above.iter().filter(shows).count() >= 4
}

#[test]
fn a_cliff_is_found_wherever_it_is() {
    for limit in [1_500.0, 9_999.0, 10_001.0, 777_000.0, 60e6] {
        let (runs, answer) = search(&Simulated { limit, ..CALM }, RANGE, 1);
        let Answer::Limit { load, shown, clean_share_min, .. } = answer else {
            panic!("{limit}: {answer:?}");
        };
        assert!((0.9..=1.0).contains(&(load / limit)), "{limit}: {load}");
        assert_eq!(shown, 5);
        assert!((clean_share_min - 0.549).abs() < 0.001, "{clean_share_min}");
        assert!(runs.len() < 60, "{limit}: {} runs", runs.len());
    }
}

#[test]
fn a_limit_that_sets_in_gradually_is_found_and_confirmed_or_not_claimed() {
    let mut found = 0;
    for seed in 0..200 {
        let host = Simulated { softness: 0.15, flaky: 0.01, disturbed: 0.1, ..CALM };
        let (runs, answer) = search(&host, RANGE, seed);
        let Answer::Limit { load, symptom, .. } = answer else { continue };
        found += 1;
        assert!(is_confirmed(&runs, load, symptom), "seed {seed}: {load} {runs:?}");
        assert!((0.75..=1.25).contains(&(load / host.limit)), "seed {seed}: {load}");
    }
    assert!(found >= 150, "{found} of 200");
}

/// What the generator cannot offer is never blamed on the collector.
#[test]
fn a_generator_that_is_weaker_than_the_host_finds_no_limit() {
    for generator in [5_000.0, 300_000.0, 776_000.0, 900_000.0] {
        let (runs, answer) = search(&Simulated { generator, ..CALM }, RANGE, 1);
        let Answer::NotFound { reason, clean_load } = answer else {
            panic!("{generator}: {answer:?}");
        };
        assert_eq!(reason, Reason::GeneratorBound, "{generator}");
        assert!(clean_load.is_none_or(|load| load <= generator));
        assert!(runs.len() < 40);
    }
    // It can offer more than is tried.
    assert_eq!(reason(&CALM, Range { max: 500_000.0, ..RANGE }, 1), Some(Reason::GeneratorBound));
    assert_eq!(reason(&CALM, Range { max: 800_000.0, ..RANGE }, 1), Some(Reason::GeneratorBound));
}

#[test]
fn a_disturbed_host_and_one_that_takes_nothing_say_so() {
    assert_eq!(reason(&Simulated { disturbed: 1.0, ..CALM }, RANGE, 1), Some(Reason::Disturbed));
    assert_eq!(reason(&Simulated { limit: 10.0, ..CALM }, RANGE, 1), Some(Reason::NothingClean));
}

/// A host that fails for no reason has no limit, whatever the luck of the search.
#[test]
fn a_flaky_host_is_never_given_a_limit_that_its_runs_do_not_confirm() {
    let mut claimed = 0;
    for seed in 0..300 {
        let host = Simulated { flaky: 0.5, limit: f64::INFINITY, ..CALM };
        let (runs, answer) = search(&host, RANGE, seed);
        if let Answer::Limit { load, symptom, .. } = answer {
            assert!(is_confirmed(&runs, load, symptom), "seed {seed}");
            claimed += 1;
        }
    }
    // 5 of 5 clean and 4 of 5 not, by chance, and several tries at it.
    assert!(claimed <= 15, "{claimed} of 300");
}

#[test]
fn confidence_is_that_of_the_binomial_distribution() {
    assert!((share_min(5, 5) - 0.05_f64.powf(0.2)).abs() < 1e-9);
    // Tables of Clopper and Pearson: 4 of 5, one-sided 95 %.
    assert!((share_min(4, 5) - 0.3426).abs() < 1e-4);
    assert!(share_min(0, 5) < 1e-9);
}
