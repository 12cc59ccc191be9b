//! Integration tests of the collector: one binary, one module per subject.

mod frr;
