//! Bytes from outside to events: EVTX and JSON, damage reported and salvaged.

#![forbid(unsafe_code)]
