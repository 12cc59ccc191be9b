//! Findings as text for people.
//!
//! In:   findings, in their order.
//! Out:  a card for each that is open, a line for each that is good.
//! Law:  what bites first stands first, and what to type stands below it.
//! Not:  formats for programs (the collector's command).

use std::fmt::Write as _;

use super::{Finding, Fleet, Judgement, fits, grouped};

/// The text: what was asked, the open findings, the good ones, and the verdict.
pub fn report(fleet: &Fleet, findings: &[Finding]) -> String {
    let mut text = format!(
        "For {} routers with {} mappings each, {} changes of each at once, {} shards:\n",
        grouped(fleet.routers),
        grouped(fleet.mappings),
        grouped(fleet.changes),
        fleet.shards
    );
    for finding in findings.iter().filter(|finding| finding.judgement >= Judgement::Note) {
        card(&mut text, finding);
    }
    list(&mut text, "Cannot be read here:", Judgement::Unknown, findings);
    list(&mut text, "Nor can this, which delays at most:", Judgement::Unseen, findings);
    list(&mut text, "Good:", Judgement::Good, findings);
    // Writing to a string cannot fail.
    let _ = write!(text, "\n{}\n", verdict(findings));
    text
}

fn card(text: &mut String, finding: &Finding) {
    let heading = match (finding.judgement, finding.routers_max) {
        (Judgement::Bites, Some(routers)) => format!("BITES beyond {} routers", grouped(routers)),
        (Judgement::Bites, None) => "BITES".to_owned(),
        _ => "note".to_owned(),
    };
    let _ = write!(text, "\n{heading}: {}\n", finding.name);
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {label:<9} {value}");
        }
    };
    line("found", &finding.found);
    line("wanted", &finding.wanted);
    line("because", &finding.consequence);
    let Some(remedy) = &finding.remedy else { return };
    match remedy.command() {
        Some(command) => line("now", &command),
        None => line("do", remedy.words()),
    }
    if let Some((path, content)) = remedy.persistent() {
        line("for good", &format!("{} in {path}", content.replace('\n', " ")));
    }
}

fn list(text: &mut String, heading: &str, judgement: Judgement, findings: &[Finding]) {
    let mut any = false;
    for finding in findings.iter().filter(|finding| finding.judgement == judgement) {
        if !any {
            let _ = write!(text, "\n{heading}\n");
            any = true;
        }
        let carries = match finding.routers_max {
            Some(routers) if judgement == Judgement::Good => {
                format!(" (carries {} routers)", grouped(routers))
            }
            _ => String::new(),
        };
        let _ = writeln!(text, "  {:<21} {}{carries}", finding.name, finding.found);
    }
}

/// One sentence: what bites first, or what stands between this and an answer.
fn verdict(findings: &[Finding]) -> String {
    let named = |judgement| {
        let is_it = move |finding: &&Finding| finding.judgement == judgement;
        let mut names: Vec<&str> =
            findings.iter().filter(is_it).map(|finding| finding.name).collect();
        names.dedup();
        names.join(", ")
    };
    let mut biting = findings.iter().filter(|finding| finding.judgement == Judgement::Bites);
    let count = biting.clone().count();
    let Some(first) = biting.next() else {
        let carry = |finding: &Finding| Some((finding.routers_max?, finding.name));
        let next = findings.iter().filter_map(carry).min();
        let next = |words: &str| match next {
            Some((routers, name)) => {
                format!(" The first limit {words}: {name}, at {} routers.", grouped(routers))
            }
            None => String::new(),
        };
        return match fits(findings) {
            Some(_) => format!("This host carries the fleet.{}", next("beyond it")),
            None => format!(
                "Whether this host carries the fleet cannot be told: {} cannot be read here. Ask \
                 outside of the container or unit that hides /proc and /sys.{}",
                named(Judgement::Unknown),
                next("that can be read")
            ),
        };
    };
    let at = match first.routers_max {
        Some(routers) => format!(", beyond {} routers", grouped(routers)),
        None => String::new(),
    };
    let more = match named(Judgement::Unknown) {
        unknown if unknown.is_empty() => unknown,
        unknown => format!(" Whether others do cannot be told: {unknown} cannot be read here."),
    };
    match count {
        1 => format!("One finding bites: {}{at}.{more}", first.name),
        _ => format!("{count} findings bite; {} first{at}.{more}", first.name),
    }
}
