//! The table of metrics: name, kind, meaning.
//!
//! In:   nothing.
//! Out:  `METRICS`, `HISTOGRAMS`, the words of rejections, and docs/metrics.md.
//! Law:  what is counted has one line here; the index in the table is the place of its value.
//! Not:  the counting (`metrics`), or what an alert should say (tuning).

use std::fmt::Write as _;

use storage::row::Cause;

/// How a value moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only up, from 0 at the start of the process.
    Counter,
    /// A fact that is true now. Never the length of a queue.
    State,
}

impl MetricKind {
    /// The word of the Prometheus text format.
    pub const fn prometheus(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::State => "gauge",
        }
    }
}

/// One metric, kept per shard.
#[derive(Clone, Copy, Debug)]
pub struct MetricEntry {
    /// By which code names it.
    pub metric: Metric,
    /// By which dashboards name it.
    pub name: &'static str,
    /// How it moves.
    pub kind: MetricKind,
    /// What it means, and what follows from it.
    pub help: &'static str,
}

/// One histogram of durations, kept per shard.
#[derive(Clone, Copy, Debug)]
pub struct HistogramEntry {
    /// By which code names it.
    pub histogram: Histogram,
    /// By which dashboards name it.
    pub name: &'static str,
    /// What it measures.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($variant:ident $kind:ident $name:literal $help:literal;)+) => {
        /// Everything that a shard counts, causes apart.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Metric { $(#[doc = $help] $variant,)+ }

        /// Every metric; the index of each is its discriminant.
        pub const METRICS: &[MetricEntry] = &[$(MetricEntry {
            metric: Metric::$variant,
            name: concat!("stormdrain_", $name),
            kind: MetricKind::$kind,
            help: $help,
        },)+];
    };
}

metrics! {
    ConnectionsAccepted Counter "connections_accepted_total"
        "Connections taken from the listener.";
    ConnectionsClosed Counter "connections_closed_total"
        "Connections that are gone; accepted minus closed are open.";
    AcceptFailures Counter "accept_failures_total"
        "Times that no connection could be taken: a limit of the process or the host.";
    AcceptPauses Counter "accept_pauses_total"
        "Times that taking connections was paused at a limit.";
    AcceptLimited State "accept_limited"
        "1 while connections wait at a limit (connections_max, RLIMIT_NOFILE, the table of a ring, \
         kernel memory); the log line names it and what lifts it.";
    SessionsBegun Counter "sessions_begun_total"
        "Sessions whose router is known (initiation rows).";
    SessionsEnded Counter "sessions_ended_total"
        "Sessions that are over (termination rows); begun minus ended are live.";
    SessionsBroken Counter "sessions_broken_total"
        "Sessions that ended although the router meant to stay: each left a gap.";
    SessionsSuperseded Counter "sessions_superseded_total"
        "Sessions that ended because their router opened a newer one.";
    TablesReceived Counter "tables_received_total"
        "Router tables that came from another shard.";
    TablesGiven Counter "tables_given_total"
        "Router tables that went to another shard.";
    ReceivedBytes Counter "received_bytes_total"
        "Bytes read from sockets.";
    FramedBytes Counter "framed_bytes_total"
        "Bytes of complete frames or documents that were read.";
    PaddingBytes Counter "padding_bytes_total"
        "Bytes that senders leave behind a document and that say nothing (zeros, 0x1a, the \
         `]]>]]>` of NETCONF): passed over; of compressed streams as they inflate.";
    SurgePushedBytes Counter "surge_pushed_bytes_total"
        "Bytes copied into surge chunks, to be digested.";
    SurgePoppedBytes Counter "surge_popped_bytes_total"
        "Bytes that left surge chunks; pushed minus popped wait now.";
    ReceivePauses Counter "receive_pauses_total"
        "Times that a session was no longer read because memory_bytes was spent.";
    ReceivePaused State "receive_paused"
        "Sessions that are not read now because memory_bytes is nearly spent, largest surge first.";
    ReceivePauseLongestMs State "receive_pause_longest_ms"
        "The longest time for which a session has not been read because of it, milliseconds.";
    ReceivePauseNowMs State "receive_pause_now_ms"
        "How long the session that waits longest now has not been read, milliseconds.";
    SnapshotsWaiting State "snapshots_waiting"
        "Sessions whose snapshots wait because those that are being read fill the headroom.";
    SnapshotsWaited Counter "snapshots_waited_total"
        "Sessions that had to wait with their snapshots, since the start.";
    SnapshotsEtaMs State "snapshots_eta_ms"
        "Milliseconds until the snapshots that wait will have been read, at the present pace.";
    StuckTurns Counter "stuck_turns_total"
        "Times that a session was read a little because it had not been read for too long.";
    StuckTurnsLate Counter "stuck_turns_late_total"
        "Of these, those that came later than stuck_guard_ms and a quarter: routers may give up.";
    SurgeHeldBytes State "surge_held_bytes"
        "Memory that received bytes take: chunks, and what streams have inflated.";
    ReceiveResumes Counter "receive_resumes_total"
        "Times that such a session was read again; pauses minus resumes are paused now.";
    Frames Counter "frames_total"
        "Frames, documents and FPM messages digested.";
    MappingsFramed Counter "mappings_framed_total"
        "Mappings in them, one per ingress label.";
    Changes Counter "changes_total"
        "Mappings that became change rows.";
    Confirmed Counter "confirmed_total"
        "Mappings that said what the table already says.";
    Duplicates Counter "duplicates_total"
        "Mappings of frames that were sent again and had been applied before.";
    Derived Counter "derived_total"
        "Change rows that no mapping caused: swept or unconfirmed entries.";
    ReservedLabels Counter "reserved_labels_total"
        "Mappings that use a label from 0 to 15, implicit null apart; accepted and flagged.";
    ClockBackwards Counter "clock_backwards_total"
        "Changes whose event time was before that of the key's previous change.";
    ClockFar Counter "clock_far_total"
        "Changes whose router's clock was more than 60 s ahead, or more than seven days behind: \
         they are filed by collection time.";
    SnapshotsBegun Counter "snapshots_begun_total"
        "Snapshots that began.";
    SnapshotsCompleted Counter "snapshots_completed_total"
        "Snapshots that were completed; each ends its router's gap.";
    Gaps Counter "gaps_total"
        "Gap rows: intervals for which the collector cannot vouch for a router or an entry.";
    RowsPushed Counter "rows_pushed_total"
        "Rows appended to the batch of the next commit.";
    RowsCommitted Counter "rows_committed_total"
        "Rows that are durable; pushed minus committed wait for a sync.";
    LogWrittenBytes Counter "log_written_bytes_total"
        "Bytes of blocks handed to the log.";
    LogSyncs Counter "log_syncs_total"
        "Group commits that were made durable.";
    LogFailures Counter "log_failures_total"
        "Writes, syncs or opens of the log that failed. Any at all: the disk, before all else.";
    LogFailed State "log_failed"
        "1 while the log waits for room: the shard reads and acknowledges nothing until it has some.";
    LogWaitedSeconds Counter "log_waited_seconds_total"
        "Seconds that the log has waited for room, in whole ones.";
    AcksPushed Counter "acks_pushed_total"
        "Frames whose acknowledgement waits for a commit.";
    AcksSent Counter "acks_sent_total"
        "Frames acknowledged.";
    LedgerImbalance State "ledger_imbalance"
        "Bytes and mappings that the ledger cannot account for. Other than 0 is a defect.";
    RoutersHeld State "routers_held"
        "Routers whose table lives on the shard.";
    TableEntries State "table_entries"
        "Entries of those tables.";
    TableBytes State "table_bytes"
        "Memory that those tables take, next-hop groups of FPM included.";
    Turns Counter "turns_total"
        "Turns of the shard's loop.";
    BuffersExhausted Counter "buffers_exhausted_total"
        "Receives that found no free buffer and were asked for again (io_uring).";
    ReceiveRounds Counter "receive_rounds_total"
        "Receives that ended at their share of a turn and were asked for again (io_uring).";
    SendsAbandoned Counter "sends_abandoned_total"
        "Connections given up because the router asked for acks and read none.";
}

/// Everything whose duration a shard measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Histogram {
    /// From the last byte of a frame to its digest.
    SurgeWait,
    /// From the hand-over of a batch to its being durable.
    Commit,
    /// From the first row of a batch to its being durable.
    Durable,
    /// How long a session was not read because memory was nearly spent.
    ReceivePause,
}

/// Every histogram; the index of each is its discriminant.
pub const HISTOGRAMS: &[HistogramEntry] = &[
    HistogramEntry {
        histogram: Histogram::SurgeWait,
        name: "stormdrain_surge_wait_seconds",
        help: "From the last byte of a frame to its digest: how far digesting is behind reading.",
    },
    HistogramEntry {
        histogram: Histogram::Commit,
        name: "stormdrain_commit_seconds",
        help: "From the hand-over of a batch to its being durable: the disk.",
    },
    HistogramEntry {
        histogram: Histogram::Durable,
        name: "stormdrain_durable_seconds",
        help: "From the first row of a batch to its being durable: the longest wait of an ack.",
    },
    HistogramEntry {
        histogram: Histogram::ReceivePause,
        name: "stormdrain_receive_pause_seconds",
        help: "How long sessions were not read because memory_bytes was nearly spent.",
    },
];

/// What the keeper, the watch and the HTTP side count: one value for the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Kept {
    /// Rounds over finished hours.
    Rounds,
    /// States written.
    States,
    /// Bytes of state files.
    Bytes,
    /// Rounds that failed.
    Failures,
    /// Rows of the kernel written.
    KernelRows,
    /// Rows of the kernel that found no place.
    KernelRowsDropped,
    /// Requests without the right token.
    TokensRefused,
    /// HTTP connections that found no place.
    HttpRefused,
}

/// Name and meaning of each; the index is its discriminant.
pub const KEPT: [(&str, &str); 8] = [
    (
        "stormdrain_state_rounds_total",
        "Times that finished hours of the log were turned into states.",
    ),
    ("stormdrain_states_total", "States of routers written: tables that a restart begins with."),
    ("stormdrain_state_bytes_total", "Bytes of state files written."),
    (
        "stormdrain_state_failures_total",
        "Times that states could not be written; until they can, a restart reads more of the log.",
    ),
    (
        "stormdrain_kernel_rows_total",
        "Rows written of what the kernel counts and of bursts: what `stormdrain bursts` reads.",
    ),
    (
        "stormdrain_kernel_rows_dropped_total",
        "Such rows that were not written, because the disk refused for too long.",
    ),
    (
        "stormdrain_http_tokens_refused_total",
        "Requests over HTTP that had no token or a wrong one, where one is needed.",
    ),
    (
        "stormdrain_http_connections_refused_total",
        "Connections over HTTP that found no place: too many at once, or of one source.",
    ),
];

/// Lines that standard error did not take.
pub(super) const LINES: (&str, &str) = (
    "stormdrain_log_lines_lost_total",
    "Log lines that standard error did not take: its reader is gone or behind, its disk is full.",
);

/// Bursts that were judged: name, labels, meaning.
pub(super) const BURSTS: (&str, &str, &str) = (
    "stormdrain_bursts_total",
    "`verdict`, `layer`",
    "Bursts by verdict (clean, unknown, squeezed, lost) and by the layer that was tight; `stormdrain bursts` \
     lists them.",
);

/// How far back the log goes.
pub(super) const HORIZON: (&str, &str) = (
    "stormdrain_log_horizon_seconds",
    "First instant that can be asked about, seconds since 1970; 0 = nothing has been deleted.",
);

/// The three counters of each cause, in the order of their values.
pub(super) const REJECTIONS: [(&str, &str); 3] = [
    ("stormdrain_rejections_total", "Connections, frames and mappings rejected, by cause."),
    ("stormdrain_rejected_bytes_total", "Bytes rejected, by cause."),
    ("stormdrain_rejected_mappings_total", "Mappings rejected, by cause."),
];

/// The page docs/metrics.md, in full.
pub fn page() -> String {
    let mut page = String::from(PAGE_HEAD);
    // Writing to a String cannot fail.
    for entry in METRICS {
        let kind = entry.kind.prometheus();
        let _ = writeln!(page, "| `{}` | {kind} | `shard` | {} |", entry.name, entry.help);
    }
    for (name, help) in REJECTIONS {
        let _ = writeln!(page, "| `{name}` | counter | `shard`, `cause` | {help} |");
    }
    for entry in HISTOGRAMS {
        let _ = writeln!(page, "| `{}` | histogram | `shard` | {} |", entry.name, entry.help);
    }
    for (name, help) in MEMORY {
        let _ = writeln!(page, "| `{name}` | gauge | | {help} |");
    }
    for (name, help) in KEPT {
        let _ = writeln!(page, "| `{name}` | counter | | {help} |");
    }
    let (name, help) = LINES;
    let _ = writeln!(page, "| `{name}` | counter | | {help} |");
    let (name, labels, help) = BURSTS;
    let _ = writeln!(page, "| `{name}` | counter | {labels} | {help} |");
    let (name, help) = HORIZON;
    let _ = writeln!(page, "| `{name}` | gauge | | {help} |");
    for (name, kind, help) in LACKING {
        let _ = writeln!(page, "| `{name}` | {kind} | | {help} |");
    }
    for (name, labels, help) in ABOUT {
        let _ = writeln!(page, "| `{name}` | gauge | {labels} | {help} |");
    }
    let (fleet, kernel) = (crate::http::fleet::FAMILIES, crate::http::kernel::FAMILIES);
    for (name, kind, labels, help) in fleet.into_iter().chain(kernel) {
        let _ = writeln!(page, "| `{name}` | {kind} | {labels} | {help} |");
    }
    page.push_str("\n## Causes\n\n");
    for cause in Cause::ALL {
        let _ = writeln!(page, "- `{}`", cause.name());
    }
    page
}

const PAGE_HEAD: &str = "\
# Metrics

This page is written from the table in `engine/src/metrics/table.rs`; a test compares the two.

`GET /metrics` on the `http` address answers in the text format of Prometheus.
Counters begin at 0 with the process. A queue is never a gauge: what waits is what was pushed minus
what was popped, so that nothing is missed between two scrapes.

| name | type | labels | meaning |
|---|---|---|---|
";

/// The budget of memory, and what of it is spent: one value for the whole process.
pub(super) const MEMORY: [(&str, &str); 7] = [
    ("stormdrain_memory_budget_bytes", "memory_bytes: what the process may take."),
    (
        "stormdrain_memory_questions_max_bytes",
        "What questions about the past over HTTP may take of it, together.",
    ),
    ("stormdrain_memory_tables_max_bytes", "What all routers' tables together may take of it."),
    ("stormdrain_memory_tables_bytes", "What they take, disconnected routers included."),
    (
        "stormdrain_memory_surge_max_bytes",
        "What received bytes may take: less, the more tables do.",
    ),
    ("stormdrain_memory_surge_high_bytes", "The most that received bytes have taken."),
    ("stormdrain_memory_headroom_bytes", "What received bytes may take beyond what they take now."),
];

/// What the log lacks: name, kind, meaning.
pub(super) const LACKING: [(&str, &str, &str); 2] = [
    (
        "stormdrain_log_damaged_places",
        "gauge",
        "Places of the log whose rows cannot be read, as far as this process has met them: at its \
         start, while it made states, and in answers. `stormdrain verify` looks everywhere.",
    ),
    (
        "stormdrain_answers_lacking_total",
        "counter",
        "Answers over HTTP from which rows of such a place were missing.",
    ),
];

const ABOUT: [(&str, &str, &str); 2] = [
    ("stormdrain_build_info", "`version`", "Version of the collector; always 1."),
    (
        "stormdrain_io_driver_info",
        "`driver`, `reason`",
        "Which driver turns the shards, and why; always 1.",
    ),
];
