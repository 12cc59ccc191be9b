//! Settings: what one shard needs to know of the collector's.
//!
//! In:   the settings of the process, and how its memory is divided.
//! Out:  plain numbers, each with its unit in its name.
//! Law:  no frame may inflate to more than the budget has room for, whatever the settings say.
//! Not:  reading, checking or explaining settings (`crate::settings`).

use crate::memory::{BATCH_BLOCKS_MAX, Budget};
use crate::settings::Settings;
use crate::wire::WireLimits;

/// What a shard needs to know of the settings.
#[derive(Clone, Debug)]
pub struct ShardSettings {
    /// Which shard it is, from 0.
    pub index: usize,
    /// Longest wait of a row for its commit.
    pub commit_interval_us: u64,
    /// Bytes of rows after which a commit no longer waits for its interval.
    pub block_bytes_max: usize,
    /// Bytes of rows behind the commit in flight after which digesting pauses.
    pub batch_bytes_max: usize,
    /// Silence after which a snapshot without an explicit end counts as over.
    pub snapshot_quiet_us: u64,
    /// How long an unconfirmed entry is kept.
    pub unconfirmed_hold_us: u64,
    /// How long a connection may stay without saying which router it is.
    pub identify_timeout_us: u64,
    /// How long a session may stay unread before it gets a turn.
    pub stuck_guard_us: u64,
    /// Silence after which a session yields its router id to another source.
    pub identity_idle_us: u64,
    /// New sessions of one source per minute.
    pub sessions_per_minute_max: u64,
    /// Rejected frames and mappings of one session before it is closed.
    pub rejected_budget: u64,
    /// Limits on one frame or document.
    pub limits: WireLimits,
}

impl ShardSettings {
    /// The part of the settings, and of the budget, that concerns shard `index`.
    pub fn new(settings: &Settings, index: usize, budget: &Budget) -> ShardSettings {
        let inflated_bytes_max = usize::try_from(budget.inflated_bytes_max).unwrap_or(usize::MAX);
        let blocks_bytes = settings.commit_bytes * BATCH_BLOCKS_MAX;
        let batch_bytes_max = budget.batch_bytes_max.min(blocks_bytes);
        let mut limits = settings.wire;
        limits.inflated_bytes_max = limits.inflated_bytes_max.min(inflated_bytes_max);
        ShardSettings {
            index,
            commit_interval_us: settings.commit_interval_ms * 1_000,
            block_bytes_max: settings.commit_bytes.min(batch_bytes_max / 2) as usize,
            batch_bytes_max: batch_bytes_max as usize,
            snapshot_quiet_us: settings.snapshot_quiet_ms * 1_000,
            unconfirmed_hold_us: settings.unconfirmed_hold_s * 1_000_000,
            identify_timeout_us: settings.identify_timeout_ms * 1_000,
            stuck_guard_us: settings.stuck_guard_ms * 1_000,
            identity_idle_us: settings.identity_idle_s * 1_000_000,
            sessions_per_minute_max: settings.sessions_per_minute_max,
            rejected_budget: settings.rejected_budget,
            limits,
        }
    }
}
