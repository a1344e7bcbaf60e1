//! The Sigma engine: rules to a plan, a plan against an event, and why. No input or output.

#![forbid(unsafe_code)]
