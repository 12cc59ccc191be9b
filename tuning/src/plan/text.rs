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
            "{} routers x {} mappings, {} changes/s each; a failure changes {:.0} % within {} s; \
             kept for {} h\n",
            demand.routers,
            demand.mappings,
            demand.churn,
            demand.burst_share * 100.0,
            demand.burst_seconds,
            demand.retain_hours
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

/// Without decimals that say nothing.
fn number(value: f64) -> String {
    if value.fract().abs() < 0.05 || value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}
