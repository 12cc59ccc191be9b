//! The mounts of this process: /proc/self/mountinfo, asked which of them holds a path.
//!
//! In:   the text of the file, from this host or from a test; an absolute path without links.
//! Out:  the mount point, what is mounted there, and as which type of file system.
//! Law:  the longest mount point wins; of two mounts on one point the later, which hides the other.
//! Not:  how much room is left there (`statvfs`, engine).

use std::io;
use std::path::{Path, PathBuf};

use crate::tree::Tree;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// Type of the file system, as the kernel names it.
    pub file_system: String,
    /// What is mounted: a device, or any other word.
    pub source: String,
}

const MOUNTS_PATH: &str = "/proc/self/mountinfo";

/// The mount that holds `path`; `None` when no line of the kernel's list covers it.
///
/// `path` is absolute and free of symbolic links. Errors: the list cannot be read.
pub fn mount_of(path: &Path) -> io::Result<Option<Mount>> {
    let text = Tree::host().text(MOUNTS_PATH);
    let text = text.ok_or_else(|| io::Error::other(format!("{MOUNTS_PATH} cannot be read")))?;
    Ok(find(&text, path))
}

/// The same, from the text of the list. Lines of another form are passed over.
fn find(text: &str, path: &Path) -> Option<Mount> {
    let mounts = text.lines().filter_map(parse).filter(|mount| path.starts_with(&mount.point));
    mounts.max_by_key(|mount| mount.point.components().count())
}

/// `36 35 98:0 /root /point options tags... - ext4 /dev/sda1 options`.
fn parse(line: &str) -> Option<Mount> {
    let (head, tail) = line.split_once(" - ")?;
    let point = head.split(' ').nth(4)?;
    let mut tail = tail.split(' ');
    let (file_system, source) = (tail.next()?, tail.next()?);
    Some(Mount {
        point: PathBuf::from(unescaped(point)),
        file_system: unescaped(file_system),
        source: unescaped(source),
    })
}

/// The kernel writes blanks, tabs, line ends and backslashes as three octal digits.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                out.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /srv rw - tmpfs none rw
31 30 8:1 /sub /srv/storm\\040drain rw master:2 propagate_from:1 - xfs /dev/sda1 rw
32 22 0:27 / /srv rw - tmpfs other rw
no mount at all
";

    #[test]
    fn the_longest_mount_point_holds_a_path_and_the_later_hides_the_earlier() {
        let point = |path: &str| {
            let mount = find(TEXT, Path::new(path)).unwrap();
            (mount.point.display().to_string(), mount.file_system, mount.source)
        };
        let mount = |point: &str, kind: &str, source: &str| {
            (point.to_owned(), kind.to_owned(), source.to_owned())
        };
        assert_eq!(point("/srvs"), mount("/", "ext4", "/dev/vda"));
        assert_eq!(point("/srv/data"), mount("/srv", "tmpfs", "other"));
        assert_eq!(point("/srv/storm drain/x"), mount("/srv/storm drain", "xfs", "/dev/sda1"));
        assert_eq!(find("", Path::new("/")), None);
    }

    #[test]
    fn what_is_no_escape_stays_as_it_is() {
        assert_eq!(unescaped("a\\040b\\134c\\9d\\"), "a b\\c\\9d\\");
    }

    #[test]
    fn this_process_has_a_root() {
        assert_eq!(mount_of(Path::new("/")).unwrap().unwrap().point, Path::new("/"));
    }
}
