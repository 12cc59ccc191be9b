//! A disk whose write-back really fails, under a process that dies of it, and the process after.
//!
//! In:   scripts/failing-disk.sh: ext4 on a loop device that loses the room of its free blocks.
//! Out:  after a remount, everything that either process has acknowledged.
//! Law:  where root or loop devices are missing it says so aloud.
//! Not:  the simulation's disk, which fails in more ways (`io::sim`).

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Process, Way, assert_sound, changes};
use crate::sender::{Router, swap};

/// Enough that a commit is longer than a page: the kernel writes a page that a later commit goes
/// on in after all.
const FRAME_MAPPINGS: u32 = 600;

/// The disk, and where it is.
struct FailingDisk {
    folder: tempfile::TempDir,
}

impl FailingDisk {
    /// `None`, aloud, where this host has none.
    fn make() -> Option<FailingDisk> {
        let disk = FailingDisk { folder: tempfile::tempdir().unwrap() };
        if disk.done("make") {
            return Some(disk);
        }
        eprintln!("NOT RUN: no disk can be made to fail here (root, loop devices, cc, e2fsprogs)");
        None
    }

    fn done(&self, what: &str) -> bool {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/failing-disk.sh");
        let done = Command::new("sh").arg(script).arg(what).arg(self.folder.path()).output();
        let done = done.unwrap();
        if !done.status.success() {
            eprintln!("{what}: {}", String::from_utf8_lossy(&done.stderr));
        }
        done.status.success()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("disk/data")
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        self.done("remove");
    }
}

/// A frame in which every mapping has a value that it never had before.
fn frame(router: &mut Router) -> Vec<u8> {
    let number = u32::try_from(router.sequence_next()).unwrap();
    let time = router.tick();
    let out = |label: u32| 16 + (label * 7_919 + number * 104_729) % 1_000_000;
    let mappings: Vec<_> =
        (16..16 + FRAME_MAPPINGS).map(|label| swap(label, out(label), time)).collect();
    router.frame(&mappings, false)
}

#[test]
fn what_a_restart_takes_over_is_on_the_disk() {
    for way in Way::all().into_iter().filter(|way| *way != Way::Denied) {
        let Some(disk) = FailingDisk::make() else { return };
        let data = disk.data();
        let killer = disk.folder.path().join("killer.so");
        let mut process = Process::start_preloaded(way, &data, "shards = 2\n", &killer);
        let mut router = Router::new(1);
        let mut session = router.open(process.listen, true, true).unwrap();
        for _ in 0..10 {
            let bytes = frame(&mut router);
            session.send(&bytes).unwrap();
            router.await_acks(&mut session);
        }
        assert!(disk.done("fail"));
        // Its sync fails, and it is killed there and then: the kernel shows what it has written.
        while session.send(&frame(&mut router)).is_ok() {
            let Ok(sequence) = session.ack() else { break };
            router.acknowledge(sequence);
        }
        assert_eq!(process.end().signal(), Some(libc::SIGKILL), "{way:?}");
        assert!(disk.done("heal"));

        // The next one has a disk that works, and acknowledges what is sent again.
        let mut process = Process::start(way, &data, "shards = 2\n");
        let mut session = router.open(process.listen, true, true).unwrap();
        router.await_acks(&mut session);
        process.kill();
        assert!(disk.done("remount"));
        assert_sound(&data);
        let rows: BTreeSet<(u64, u32)> = changes(&data)
            .iter()
            .map(|row| (row.stamp.position.sequence, row.stamp.position.index))
            .collect();
        let acknowledged = router.acknowledged();
        let due = router.live_frames(acknowledged).count() * FRAME_MAPPINGS as usize;
        assert_eq!(rows.len(), due, "{way:?}: acknowledged up to {acknowledged}");
    }
}
