//! Packets that the kernel drops, by the reason that it gives: the tracepoint `skb:kfree_skb`.
//!
//! In:   tracefs, where it is mounted and may be written; or a folder that looks like it.
//! Out:  how many drops of each reason were seen, by the names of the event's own format file.
//! Law:  an instance of its own, so that nobody else's tracing is touched; it goes with its reader,
//!       and that of a reader that was killed goes at the next start.
//! Not:  whose packets they were: the host's, all of them.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where tracefs is mounted, if it is.
pub const MOUNTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const INSTANCE_PREFIX: &str = "stormdrain-";
const EVENT: &str = "events/skb/kfree_skb";
/// Reasons that are none: what is only freed, not dropped.
const NOISE: [&str; 3] = ["NOT_SPECIFIED", "NOT_DROPPED_YET", "CONSUMED"];
/// Of each processor; what does not fit is not counted: counts say "at least".
const BUFFER_KIB: &str = "256";
/// Read at a time at most: some two thousand drops.
const READ_BYTES: usize = 256 << 10;

/// A reader of the tracepoint.
#[derive(Debug)]
pub struct DropReasons {
    instance: PathBuf,
    /// Closed before the instance goes: the kernel keeps one that is read.
    pipe: Option<File>,
    counts: BTreeMap<String, u64>,
    buffer: Vec<u8>,
    /// The beginning of a line whose end has not been read.
    rest: Vec<u8>,
}

impl DropReasons {
    /// Begins to count. `root` is tracefs, `owner` tells this reader apart from others, and
    /// `is_alive` says of another owner whether it lives.
    ///
    /// Errors: no tracefs there, or no permission; nothing is left behind.
    pub fn open(
        root: &Path,
        owner: u32,
        is_alive: &dyn Fn(u32) -> bool,
    ) -> io::Result<DropReasons> {
        let format = fs::read_to_string(root.join(EVENT).join("format"))?;
        let reasons = reasons(&format);
        let instances = root.join("instances");
        sweep(&instances, owner, is_alive);
        let instance = instances.join(format!("{INSTANCE_PREFIX}{owner}"));
        match fs::create_dir(&instance) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let names = reasons.iter().map(|(_, name)| (name.clone(), 0));
        let mut drops = DropReasons {
            instance,
            pipe: None,
            counts: names.filter(|(name, _)| !NOISE.contains(&name.as_str())).collect(),
            buffer: vec![0; READ_BYTES],
            rest: Vec::new(),
        };
        let noise = reasons.iter().filter(|(_, name)| NOISE.contains(&name.as_str()));
        let terms: Vec<String> = noise.map(|(number, _)| format!("reason != {number}")).collect();
        if !terms.is_empty() {
            drops.write(&format!("{EVENT}/filter"), &terms.join(" && "))?;
        }
        drops.write("buffer_size_kb", BUFFER_KIB)?;
        let pipe = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(drops.instance.join("trace_pipe"))?;
        drops.pipe = Some(pipe);
        drops.write(&format!("{EVENT}/enable"), "1")?;
        Ok(drops)
    }

    /// Takes what there is, up to a bound. Errors: the kernel's, but for "nothing now".
    pub fn read(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let mut taken = 0;
        while taken < READ_BYTES {
            match pipe.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => {
                    taken += count;
                    self.rest.extend_from_slice(&self.buffer[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
        let lines: Vec<u8> = self.rest.drain(..end).collect();
        for line in String::from_utf8_lossy(&lines).lines() {
            // A reason that the format does not list is the kernel's number: nobody could name it.
            if let Some((_, reason)) = line.rsplit_once("reason: ")
                && let Some(count) = self.counts.get_mut(reason.trim())
            {
                *count += 1;
            }
        }
        // What has no end is no line of this event.
        self.rest.truncate(READ_BYTES);
        Ok(())
    }

    /// Every reason that this kernel has, with how many drops of it were seen: at least so many.
    pub fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().map(|(reason, count)| (reason.as_str(), *count))
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.instance.join(file), text)
    }
}

impl Drop for DropReasons {
    fn drop(&mut self) {
        self.pipe = None;
        remove(&self.instance);
    }
}

/// Removes what readers have left that do not live any more.
fn sweep(instances: &Path, owner: u32, is_alive: &dyn Fn(u32) -> bool) {
    let Ok(entries) = fs::read_dir(instances) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(INSTANCE_PREFIX));
        let number = number.and_then(|number| number.parse::<u32>().ok());
        if number.is_some_and(|number| number == owner || !is_alive(number)) {
            remove(&entry.path());
        }
    }
}

/// What cannot be removed is tried again at the next start.
fn remove(instance: &Path) {
    let _ = fs::write(instance.join(EVENT).join("enable"), "0");
    let _ = fs::remove_dir(instance);
}

/// Numbers and names of `{ 6, "SOCKET_RCVBUFF" }` and its like.
fn reasons(format: &str) -> Vec<(u32, String)> {
    let reason = |part: &str| {
        let (number, rest) = part.split_once(',')?;
        let name = rest.split('"').nth(1)?;
        Some((number.trim().parse().ok()?, name.to_owned()))
    };
    format.split('{').skip(1).filter_map(reason).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: kfree_skb\nprint fmt: \"reason: %s\", \
        __print_symbolic(REC->reason, { 2, \"NOT_SPECIFIED\" }, { 3, \"NO_SOCKET\" }, \
        { 6, \"SOCKET_RCVBUFF\" })\n";

    /// A folder that looks like tracefs: the kernel makes the files of an instance, here the test
    /// does.
    struct Fake {
        root: PathBuf,
    }

    impl Fake {
        fn new(name: &str) -> Fake {
            let root = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            let fake = Fake { root };
            fs::create_dir_all(fake.root.join(EVENT)).unwrap();
            fs::write(fake.root.join(EVENT).join("format"), FORMAT).unwrap();
            fake
        }

        fn instance(&self, owner: u32, text: &str) -> PathBuf {
            let instance = self.root.join(format!("instances/{INSTANCE_PREFIX}{owner}"));
            fs::create_dir_all(instance.join(EVENT)).unwrap();
            fs::write(instance.join("trace_pipe"), text).unwrap();
            instance
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    #[test]
    fn drops_are_counted_by_the_names_of_the_format() {
        let fake = Fake::new("drops");
        let line = |reason: &str| {
            format!("<idle>-0 [001] ..s1. 38564.4: kfree_skb: location=x reason: {reason}\n")
        };
        let text =
            [line("NO_SOCKET"), line("SOCKET_RCVBUFF"), line("NO_SOCKET"), line("0x99")].concat();
        let instance = fake.instance(7, &format!("{text}half a li"));
        let mut drops = DropReasons::open(&fake.root, 7, &|_| true).unwrap();
        drops.read().unwrap();
        let counts: Vec<(&str, u64)> = drops.counts().collect();
        assert_eq!(counts, [("NO_SOCKET", 2), ("SOCKET_RCVBUFF", 1)]);
        let written = |file: &str| fs::read_to_string(instance.join(file)).unwrap();
        assert_eq!(written(&format!("{EVENT}/filter")), "reason != 2");
        assert_eq!(written(&format!("{EVENT}/enable")), "1");
        drop(drops);
        assert_eq!(written(&format!("{EVENT}/enable")), "0");
    }

    #[test]
    fn what_a_killed_reader_left_is_switched_off_and_others_are_left_alone() {
        let fake = Fake::new("drops-stale");
        let (stale, other) = (fake.instance(8, ""), fake.instance(9, ""));
        fake.instance(7, "");
        let _drops = DropReasons::open(&fake.root, 7, &|owner| owner == 9).unwrap();
        assert_eq!(fs::read_to_string(stale.join(EVENT).join("enable")).unwrap(), "0");
        assert!(!other.join(EVENT).join("enable").exists());
        let nowhere = Path::new("/nonexistent");
        assert!(DropReasons::open(nowhere, 1, &|_| true).is_err());
    }
}
