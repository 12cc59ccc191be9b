//! The host that a figure was taken on, and how much of it others used meanwhile.
//!
//! In:   a tree of /proc, the file system of the data folder, git if it is there.
//! Out:  a description, and the share of the CPUs that other processes took.
//! Law:  what cannot be found out is said to be unknown, and stops nothing.
//! Not:  the kernel's network counters (`counters`).

use std::fmt::{self, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::mounts::mount_of;
use crate::tree::Tree;

/// What a reader of a figure has to know of the machine, one fact per line.
pub fn description(data: &Path) -> String {
    let (tree, cpus) = (Tree::host(), cpus());
    let model = line_of(&tree, "proc/cpuinfo", "model name").unwrap_or_else(unknown);
    let memory = line_of(&tree, "proc/meminfo", "MemTotal").unwrap_or_else(unknown);
    let kernel = tree.sysctl("kernel.osrelease").unwrap_or_else(unknown);
    let limit =
        |value: Option<u64>| value.map_or("unlimited".to_owned(), |value| value.to_string());
    let limits = getrlimit(Resource::Nofile);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "cpu: {model}, {cpus} usable");
    let _ = writeln!(text, "kernel: {kernel}; memory: {memory}");
    let _ = writeln!(text, "data folders on: {}", file_system(data).unwrap_or_else(unknown));
    let _ = writeln!(
        text,
        "descriptors: {} soft, {} hard",
        limit(limits.current),
        limit(limits.maximum)
    );
    let _ = writeln!(text, "commit: {}", commit().unwrap_or_else(unknown));
    text
}

/// CPUs that this process may use.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// The value behind `name :` in a file of such lines.
fn line_of(tree: &Tree, path: &str, name: &str) -> Option<String> {
    let text = tree.text(path)?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

/// Type and place of the mount that holds `folder`.
fn file_system(folder: &Path) -> Option<String> {
    let mount = mount_of(&folder.canonicalize().ok()?).ok()??;
    Some(format!("{} ({} at {})", mount.file_system, mount.source, mount.point.display()))
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let dirty = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if dirty { format!("{commit} with local changes") } else { commit })
}

/// Processor time that this thread has used: on a busy machine, what work costs without the time
/// that others had the processor.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let [seconds, nanos] = [time.tv_sec, time.tv_nsec].map(|part| u64::try_from(part).unwrap_or(0));
    Duration::from_secs(seconds) + Duration::from_nanos(nanos)
}

/// Processor time that a process has used, its ended children included; 0 when it is gone.
pub fn cpu_of(process: u32) -> Duration {
    let text = Tree::host().text(&format!("proc/{process}/stat")).unwrap_or_default();
    // The name of the program is in parentheses and may hold spaces: count from behind it.
    let Some((_, rest)) = text.rsplit_once(')') else { return Duration::ZERO };
    // Behind state, parent, group, session, terminal, its group, flags and four counts of faults:
    // utime, stime, and those of ended children.
    let words = rest.split_ascii_whitespace().skip(11).take(4);
    let ticks = words.filter_map(|word| word.parse::<u64>().ok()).sum();
    ticks_of(ticks)
}

/// Resident memory of this process; 0 where it is not known.
pub fn resident_bytes() -> u64 {
    let pages = Tree::host().numbers("proc/self/statm").unwrap_or_default();
    pages.get(1).copied().unwrap_or(0) * rustix::param::page_size() as u64
}

/// Processor time of the threads that a process has now, exactly: their scheduler's own count.
pub fn cpu_of_threads(process: u32) -> Duration {
    cpu_of_threads_named(process, |_| true)
}

/// Processor time of those threads of a process whose names are wanted, as exactly.
pub fn cpu_of_threads_named(process: u32, is_wanted: impl Fn(&str) -> bool) -> Duration {
    let tree = Tree::host();
    let folder = format!("proc/{process}/task");
    let of = |thread: &String| {
        let name = tree.text(&format!("{folder}/{thread}/comm"))?;
        let times = || tree.numbers(&format!("{folder}/{thread}/schedstat"));
        is_wanted(name.trim_end()).then(times)??.first().copied()
    };
    Duration::from_nanos(tree.names(&folder).iter().filter_map(of).sum())
}

/// The most memory that a process has had resident since its start, bytes; 0 when it is gone.
pub fn memory_peak(process: u32) -> u64 {
    let text =
        line_of(&Tree::host(), &format!("proc/{process}/status"), "VmHWM").unwrap_or_default();
    let kibibytes = text.split_ascii_whitespace().next().and_then(|word| word.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}

fn ticks_of(ticks: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_secs_f64(ticks as f64 / per_second as f64)
}

/// What all CPUs have done since the start of the host.
#[derive(Clone, Copy, Default)]
struct Total {
    /// In processes: user, nice and system.
    busy: Duration,
    /// Taken by the host of this host.
    stolen: Duration,
    /// How many CPUs these are the sum of.
    cpus: usize,
}

fn total(tree: &Tree) -> Option<Total> {
    let text = tree.text("proc/stat")?;
    let words = text.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let ticks: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
    let at = |place: usize| ticks.get(place).copied().unwrap_or(0);
    let is_cpu = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let cpus = text.lines().filter(is_cpu).count();
    Some(Total { busy: ticks_of(at(0) + at(1) + at(2)), stolen: ticks_of(at(7)), cpus })
}

/// What others took of the CPUs while something was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Disturbance {
    /// Share of the CPUs that processes which are none of ours took, 0 to 100.
    pub foreign_percent: f64,
    /// Share that the host of this host took (`steal`), 0 to 100.
    pub stolen_percent: f64,
}

impl Disturbance {
    /// Whether a figure that was taken meanwhile is not to be believed.
    pub fn is_much(&self) -> bool {
        self.foreign_percent + self.stolen_percent > DISTURBED_PERCENT
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Disturbance { foreign_percent, stolen_percent } = self;
        let word = if self.is_much() { "; DISTURBED" } else { "" };
        write!(
            f,
            "other processes took {foreign_percent:.0} % of the CPUs, the host's host \
             {stolen_percent:.0} %{word}"
        )
    }
}

/// Watches what processes that are none of ours take of the CPUs.
#[derive(Clone, Copy)]
pub struct Watch {
    began: Instant,
    /// Absent where /proc/stat cannot be read.
    total: Option<Total>,
    own: Duration,
}

impl Watch {
    /// Begins; `others` are processes of ours besides this one.
    pub fn start(others: &[u32]) -> Watch {
        Watch { began: Instant::now(), total: total(&Tree::host()), own: own(others) }
    }

    /// What happened since, of the same processes; `None` where /proc/stat cannot be read. The
    /// kernel counts CPU in hundredths of a second: shares of a time below half a second are rough.
    pub fn end(&self, others: &[u32]) -> Option<Disturbance> {
        let own = own(others).saturating_sub(self.own);
        let totals = (self.total?, total(&Tree::host())?);
        Some(shares(self.began.elapsed(), totals, own))
    }

    /// The same in words.
    pub fn words(&self, others: &[u32]) -> String {
        let untold = "what others took of the CPUs cannot be told: /proc/stat cannot be read";
        self.end(others).map_or_else(|| untold.to_owned(), |found| found.to_string())
    }
}

/// What was taken between two readings, of which `own` was ours.
fn shares(elapsed: Duration, (before, after): (Total, Total), own: Duration) -> Disturbance {
    // /proc/stat counts all CPUs of the host, also those that this process may not use.
    let capacity = elapsed.as_secs_f64() * after.cpus.max(1) as f64;
    let percent = |part: Duration| (part.as_secs_f64() / capacity * 100.0).min(100.0);
    Disturbance {
        foreign_percent: percent(after.busy.saturating_sub(before.busy).saturating_sub(own)),
        stolen_percent: percent(after.stolen.saturating_sub(before.stolen)),
    }
}

/// Above this share of foreign work a figure is not to be believed.
pub const DISTURBED_PERCENT: f64 = 5.0;

/// Processes that this one has started and that still run; none where the kernel does not say.
pub fn children() -> Vec<u32> {
    let tree = Tree::host();
    let threads = tree.names("proc/self/task");
    let of_thread = |thread| tree.text(&format!("proc/self/task/{thread}/children"));
    let texts: Vec<String> = threads.iter().filter_map(of_thread).collect();
    let words = texts.iter().flat_map(|text| text.split_whitespace());
    words.filter_map(|word| word.parse().ok()).collect()
}

fn own(others: &[u32]) -> Duration {
    let own = cpu_of(std::process::id());
    others.iter().map(|process| cpu_of(*process)).fold(own, |sum, cpu| sum + cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_children() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let there = children();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(there.contains(&child.id()), "{there:?}");
        assert!(!children().contains(&child.id()));
    }

    #[test]
    fn the_description_knows_this_host() {
        let text = description(Path::new("."));
        assert_eq!(text.lines().count(), 5, "{text}");
        for word in ["cpu: ", "kernel: ", "descriptors: ", "data folders on: "] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(!text.contains("kernel: unknown"), "{text}");
    }

    #[test]
    fn a_captured_host_says_what_its_processors_have_done() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts/virtual-two-cores");
        let total = total(&Tree::at(&root)).unwrap();
        // One processor's line was captured, beside that of all.
        assert_eq!((total.cpus, total.stolen), (1, ticks_of(135_884)));
        assert_eq!(total.busy, ticks_of(2_209_236 + 1_227_091 + 417_431));
    }

    #[test]
    fn work_of_this_process_is_its_own() {
        let before = cpu_of(std::process::id());
        let mut sum = 0_u64;
        while cpu_of(std::process::id()) < before + Duration::from_millis(30) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(total(&Tree::host()).unwrap().busy > Duration::ZERO);
        assert!(total(&Tree::at(Path::new("/nonexistent"))).is_none());
    }

    #[test]
    fn much_is_more_than_a_twentieth_of_the_cpus_whoever_took_it() {
        let taken = |foreign_percent, stolen_percent| {
            Disturbance { foreign_percent, stolen_percent }.is_much()
        };
        assert!(!taken(2.0, 2.9) && taken(2.0, 3.1) && taken(6.0, 0.0) && taken(0.0, 6.0));
    }

    /// The kernel samples what a processor does, so a share is right in the long run only: waited
    /// for is that the two readings tell the child apart.
    #[test]
    fn work_of_another_process_is_foreign_unless_it_is_one_of_ours() {
        let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let (alone, together) = (Watch::start(&[]), Watch::start(&[child.id()]));
        let deadline = Instant::now() + Duration::from_secs(30);
        let told_apart = loop {
            // Of one reading of the host, and own time is read last where the child is not named:
            // only its name can make what is foreign less.
            let (elapsed, now) = (alone.began.elapsed(), total(&Tree::host()).unwrap());
            let named = own(&[child.id()]).saturating_sub(together.own);
            let unnamed = own(&[]).saturating_sub(alone.own);
            let of = |watch: &Watch, own| {
                shares(elapsed, (watch.total.unwrap(), now), own).foreign_percent
            };
            let told_apart = of(&together, named) < of(&alone, unnamed);
            if told_apart || Instant::now() > deadline {
                break told_apart;
            }
            std::thread::yield_now();
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(told_apart);
    }

    #[test]
    fn shares_are_of_all_processors_and_own_work_is_not_foreign() {
        let seconds = Duration::from_secs_f64;
        let total = |busy, stolen| Total { busy: seconds(busy), stolen: seconds(stolen), cpus: 4 };
        let (before, after) = (total(100.0, 7.0), total(110.0, 8.0));
        // Ten seconds of four processors; of ten that were worked, six were ours.
        let found = shares(seconds(10.0), (before, after), seconds(6.0));
        assert_eq!(found, Disturbance { foreign_percent: 10.0, stolen_percent: 2.5 });
        // Own time is counted exactly, all work is sampled: less than nothing is nothing.
        let found = shares(seconds(10.0), (before, after), seconds(11.0));
        assert_eq!(found.foreign_percent, 0.0);
    }
}
