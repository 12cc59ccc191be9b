//! The load generator `stormgen`.
