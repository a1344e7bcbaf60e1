//! Logs at rest to findings.

#![forbid(unsafe_code)]
