//! Findings as a shell script that somebody reviews and runs.
//!
//! In:   findings.
//! Out:  POSIX shell: what mends each now, then the files that keep it so.
//! Law:  every command stands under what was found and what it is good for.
//! Not:  running it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Finding, Judgement};

/// The script. Nothing but comments where there is nothing to mend.
pub fn script(findings: &[Finding]) -> String {
    let mut text = "\
#!/bin/sh
# What mends this host for stormdrain, as `stormdrain doctor` sees it. Review it, then run it as
# root. Limits (`ulimit`) hold for the shell that runs them and what it starts.
set -eu
"
    .to_owned();
    let mut files: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let open = |finding: &&Finding| finding.judgement >= Judgement::Note;
    let mut mended = 0;
    for finding in findings.iter().filter(open) {
        let Some(remedy) = &finding.remedy else { continue };
        mended += 1;
        // Writing to a string cannot fail.
        let _ =
            write!(text, "\n# {}: {}\n# {}\n", finding.name, finding.found, finding.consequence);
        match remedy.command() {
            Some(command) => text.push_str(&format!("{command}\n")),
            None => text.push_str(&format!("# {}\n", remedy.words())),
        }
        if let Some((path, line)) = remedy.persistent() {
            let lines = files.entry(path).or_default();
            for line in line.lines() {
                // A section is said once.
                if !lines.iter().any(|said| said == line) {
                    lines.push(line.to_owned());
                }
            }
        }
    }
    for (path, lines) in files {
        let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
        let _ = write!(text, "\n# For good.\nmkdir -p {folder}\ncat > {path} <<'END'\n");
        for line in lines {
            let _ = writeln!(text, "{line}");
        }
        text.push_str("END\n");
    }
    if mended == 0 {
        text.push_str("\n# Nothing to mend.\n");
    }
    text
}
