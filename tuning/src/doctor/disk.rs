//! Where the log lies, and how long it takes to be sure of it.
//!
//! In:   the mount of the data folder; the times of small writes with their syncs.
//! Out:  findings.
//! Law:  an ack says "on disk": a file system that forgets makes it a lie.
//! Not:  how much room there is (the collector waits, and says so).

use super::{Finding, Host, Judgement, Remedy};

pub(super) fn file_system(host: &Host) -> Vec<Finding> {
    const NAME: &str = "file-system";
    let Some(mount) = &host.observed.mount else {
        return vec![Finding::unknown(NAME, "/proc/self/mountinfo")];
    };
    let said = format!("{} on {}", mount.file_system, mount.point.display());
    let bad = |consequence: &str| {
        Finding::not_good(Judgement::Bites, NAME, said.clone())
            .wanted("ext4, XFS or btrfs on a disk of this host")
            .because(consequence)
            .mended_by(Remedy::Words("give --data a folder on such a disk".to_owned()))
    };
    vec![match mount.file_system.as_str() {
        "ext4" | "xfs" | "btrfs" | "zfs" | "f2fs" | "bcachefs" => Finding::good(NAME, said),
        "tmpfs" | "ramfs" => bad("what was acknowledged is gone at the next boot"),
        "nfs" | "nfs4" | "cifs" | "smb3" | "ceph" | "9p" => {
            bad("every commit waits for another host, and a lock may not be one")
        }
        _ => Finding::not_good(Judgement::Note, NAME, said)
            .wanted("ext4, XFS or btrfs on a disk of this host")
            .because("nobody has tried whether it keeps what it has synced"),
    }]
}

/// A commit waits for the sync before it and for its own: with this they stay within a commit's
/// latency of 35 ms, the interval of 20 ms included.
const MEDIAN_US_MAX: u64 = 7_500;
/// Twice the time after which routers' windows begin to close in a storm.
const LONGEST_US_MAX: u64 = 250_000;

pub(super) fn flush(host: &Host) -> Vec<Finding> {
    const NAME: &str = "disk-flush";
    let Some(flush) = host.observed.flush else {
        return vec![Finding::not_good(Judgement::Unseen, NAME, "the disk was not timed")];
    };
    let ms = |us: u64| us as f64 / 1e3;
    let said = format!(
        "{} writes with fdatasync: median {:.2} ms, longest {:.1} ms",
        flush.count,
        ms(flush.median_us),
        ms(flush.max_us)
    );
    if flush.median_us <= MEDIAN_US_MAX && flush.max_us <= LONGEST_US_MAX {
        return vec![Finding::good(NAME, said)];
    }
    vec![
        Finding::not_good(Judgement::Note, NAME, said)
            .wanted(format!(
                "a median below {:.1} ms, none above {:.0} ms",
                ms(MEDIAN_US_MAX),
                ms(LONGEST_US_MAX)
            ))
            .because(
                "acks follow the sync: routers keep what is not acknowledged, and so does \
                      the surge",
            )
            .mended_by(Remedy::Words(
                "a disk whose cache survives a power loss, of its own for the data folder"
                    .to_owned(),
            )),
    ]
}
