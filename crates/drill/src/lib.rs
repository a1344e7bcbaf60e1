//! Drills: the whole system against a harmless worm, in network namespaces of its own.
//!
//! `cordon drill outbreak` builds a hospital of network namespaces ([`network`], [`hospital`]), puts a
//! real hub and a real agent in each, lets a harmless worm ([`worm`]) spread by TCP, and compares who
//! was infected with Cordon and without.

#![forbid(unsafe_code)]

pub mod cast;
pub mod cleaner;
pub mod hospital;
pub mod network;
pub mod outbreak;
pub mod picture;
pub mod report;
pub mod worm;
