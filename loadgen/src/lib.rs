//! The load generator `stormgen`: a network that is computed, speaks, and knows the answers.
//!
//! Modules in the order of a run: the model, what it knows, what it says, how it says it.

pub mod map;
pub mod topology;
pub mod model;
pub mod state;
pub mod paths;
pub mod share;
pub mod network;
pub mod services;
pub mod scenario;
pub mod answer;
pub mod world;
pub mod demand;
pub mod workload;
pub mod clock;
pub mod faults;
pub mod sender;
pub mod corpus;
pub mod volley;
pub mod crew;
pub mod calibrate;
pub mod capacity;
pub mod stage;
pub mod replay;
pub mod verdict;
pub mod honesty;
pub mod record;
pub mod report;
pub mod page;
pub mod demo;
pub mod show;
pub mod command;
