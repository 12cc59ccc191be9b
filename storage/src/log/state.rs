//! States: every router's table and standing at a place in the log, so that nobody has to read the
//! log from its beginning.
//!
//! In:   finished hours of the log, and the states before them.
//! Out:  state files, one per round; for readers, a plan: states, and what to read beside them.
//! Law:  a state and the rows past it answer as all rows do; history does not get slower with age.
//! Not:  what rows mean (`router`); when a round is due (the engine).
//!
//! How it works: a round (`round`) reads what the log has gained since the round before, file by
//! file up to a whole block, and makes that durable. A router whose rows past its state make up a
//! quarter of its table, or wait for a day, is folded anew and its state written into the round's
//! state file. Behind the states stands a directory: how much of each log file is covered, where
//! each router's newest state is, and which round covered the first row that it lacks. A directory
//! says what has changed since the round before; once a day one says everything (`chain`). So a
//! router that is silent costs nothing, and holds nobody back: its state includes every round in
//! which it had no row. A restart reads the newest directories, one state per router, and the log
//! from the first row that a state lacks, a day at most (`plan`). A question about an instant does
//! the same with the directories of that time; late rows are found by the earliest time of each
//! file. States are made from the log alone, by one background thread: the shards know nothing of
//! it, a lost state file costs time and nothing else, and any state can be derived again.

mod record;
mod directory;
mod chain;
mod plan;
mod retain;
mod round;

pub use directory::{FileEntry, RouterEntry, StateRef};
pub use retain::{Retain, is_cut};
pub use round::{Cover, RoundLimits, RoundReport, finished, round};

pub(crate) use chain::{Depth, States};
pub(crate) use plan::{Part, Plan};

#[cfg(test)]
mod tests;
