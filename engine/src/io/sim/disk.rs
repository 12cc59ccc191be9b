//! The simulated disk: what the process wrote, what of it is durable, and what a crash leaves.
//!
//! In:   the log operations of the shards, as a kernel would do them.
//! Out:  files in a folder, as the next process finds them.
//! Law:  what a finished sync covers survives every crash; nothing else has to.
//! Not:  lying disks: a sync that ends has synced.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use storage::log::log_path;
use storage::time::Hour;

/// A disk forgets or keeps whole sectors.
const SECTOR_BYTES: usize = 512;

/// One log file.
#[derive(Clone, Debug, Default)]
struct File {
    /// As the kernel shows it.
    bytes: Vec<u8>,
    /// How much of it is durable.
    synced: usize,
    /// Whether its folder entry is durable.
    entered: bool,
}

/// Every log file of the data folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    files: BTreeMap<(Hour, u16), File>,
}

impl Disk {
    /// Creates the file if needed and makes its entry durable.
    pub(super) fn open(&mut self, hour: Hour, shard: u16) {
        self.files.entry((hour, shard)).or_default().entered = true;
    }

    /// Cuts the file back to what is durable.
    pub(super) fn cut(&mut self, hour: Hour, shard: u16) {
        let file = self.files.entry((hour, shard)).or_default();
        file.bytes.truncate(file.synced);
    }

    /// Appends to an open file.
    pub(super) fn append(&mut self, hour: Hour, shard: u16, bytes: &[u8]) {
        self.files.entry((hour, shard)).or_default().bytes.extend_from_slice(bytes);
    }

    /// Makes everything that was appended durable. Returns the length of the file.
    pub(super) fn sync(&mut self, hour: Hour, shard: u16) -> u64 {
        let file = self.files.entry((hour, shard)).or_default();
        file.synced = file.bytes.len();
        file.synced as u64
    }

    /// Of what is not synced, keeps some sectors, forgets some, and tears the file off somewhere.
    pub(super) fn lose_power(&mut self, chance: &mut ChaCha8Rng) {
        self.files.retain(|_, file| file.entered || chance.random_bool(0.5));
        for file in self.files.values_mut() {
            let end = chance.random_range(file.synced..=file.bytes.len());
            file.bytes.truncate(end);
            let forgets = chance.random_bool(0.5);
            let (_, unsynced) = file.bytes.split_at_mut(file.synced);
            for sector in unsynced.chunks_mut(SECTOR_BYTES) {
                if forgets && chance.random_bool(0.3) {
                    sector.fill(0);
                }
            }
        }
    }

    /// Writes the files as they are into the data folder, for recovery.
    pub(super) fn materialise(&self, data: &Path) -> io::Result<()> {
        for ((hour, shard), file) in &self.files {
            let path = log_path(data, *hour, *shard);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(path, &file.bytes)?;
        }
        Ok(())
    }

    /// Takes the files as recovery left them; all of that is durable.
    pub(super) fn reload(&mut self, data: &Path) -> io::Result<()> {
        for ((hour, shard), file) in &mut self.files {
            let length = fs::metadata(log_path(data, *hour, *shard))?.len();
            file.bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            file.synced = file.bytes.len();
            file.entered = true;
        }
        Ok(())
    }
}
