//! What the hub keeps: state behind narrow traits, embedded first.

#![forbid(unsafe_code)]
