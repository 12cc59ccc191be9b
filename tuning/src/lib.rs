//! The kernel's truth: one reader of /proc and /sys.
