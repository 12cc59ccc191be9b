//! The collector `stormdrain`.
