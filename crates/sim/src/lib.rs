//! Virtual time and a seeded network: the production state machines under partitions, loss and crashes.

#![forbid(unsafe_code)]
