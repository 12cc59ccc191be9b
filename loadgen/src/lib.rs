//! The load generator `stormgen`: a network that is computed, speaks, and knows the answers.

pub mod topology;
pub mod paths;
pub mod network;
pub mod scenario;
pub mod answer;
pub mod clock;
