//! Integration tests of `storage`, and the checks over the whole workspace.

mod tidy;
