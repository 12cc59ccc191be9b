//! A plan in words.
//!
//! In:   a `Plan`.
//! Out:  text: each need, then how it was come to.
//! Law:  every number that is printed is in the plan; nothing is computed here.
//! Not:  JSON (serde does that).

use std::fmt;

use super::{Need, Plan};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let demand = &self.demand;
        writeln!(
            f,
            "{} routers x {} mappings, {} changes/s each; a failure changes {} % within {} s; \
             kept for {} h\n",
            short(demand.routers),
            short(demand.mappings),
            short(demand.churn),
            short(demand.burst_share * 100.0),
            short(demand.burst_seconds),
            short(demand.retain_hours)
        )?;
        for need in &self.needs {
            let has = match need.has {
                Some(has) if need.value > has => {
                    format!("   this host: {}  NOT ENOUGH", number(has))
                }
                Some(has) => format!("   this host: {}", number(has)),
                None if self.unknown.contains(&need.name) => "   this host: unknown".to_owned(),
                None => String::new(),
            };
            writeln!(f, "{:<17} {:>9} {}{has}", need.name, number(need.value), need.unit)?;
        }
        if let (Some(first), Some(suffices)) = (self.first_limit, self.suffices) {
            let word = if suffices { "suffices" } else { "does NOT suffice" };
            writeln!(f, "\nthis host {word}; the first limit is: {first}")?;
        } else if let Some(first) = self.first_limit {
            writeln!(
                f,
                "\nwhether this host suffices cannot be told: it does not say what it has of {}; \
                 of what it says, the first limit is: {first}",
                self.unknown.join(", ")
            )?;
        }
        writeln!(f, "\nhow each was come to")?;
        self.needs.iter().try_for_each(|need| explained(f, need))
    }
}

fn explained(f: &mut fmt::Formatter<'_>, need: &Need) -> fmt::Result {
    writeln!(f, "  {}", need.name)?;
    writeln!(f, "    = {}", need.formula)?;
    writeln!(f, "    = {} = {} {}", need.numbers, number(need.value), need.unit)?;
    writeln!(f, "    from: {}", need.source)?;
    if need.set.is_empty() { Ok(()) } else { writeln!(f, "    set:  {}", need.set) }
}

/// A number as people write it: two decimals, of what is below 1 four, and no zeros behind them.
pub(super) fn short(value: f64) -> String {
    let decimals = if value.abs() < 1.0 { 4 } else { 2 };
    let text = format!("{value:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Without decimals that say nothing.
fn number(value: f64) -> String {
    if value.fract().abs() < 0.05 || value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}
