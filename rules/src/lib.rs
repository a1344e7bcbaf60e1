//! Cordon's own Sigma rule pack: what worms, ransomware, thieves of passwords and people who hide their
//! traces do on Windows and Linux.
//!
//! Each rule is one file, `linux/<theme>/<name>.yml` or `windows/<theme>/<name>.yml`, and beside it lies
//! `<name>.test.json` with events that it must match and events that it must not. The rules are built
//! into the program; the test events are not. To add a rule, read `README.md` in this directory: two
//! files, no code.
//!
//! ```
//! for (origin, yaml) in cordon_rules::all() {
//!     assert!(yaml.starts_with("title: "), "{origin}");
//! }
//! ```
//!
//! The one idea: a rule's **level** is a promise about false alarms, since policy acts on it. `high` and
//! `critical` may lead to a machine being cut off by itself; so they are given only to what does not
//! happen on a hospital's machines in normal work, however bad the rest may look.

#![forbid(unsafe_code)]

/// Where a rule lies in the pack, and its text.
const RULES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/list.rs"));

/// All rules, in the order of their paths: the path within the pack (`linux/worm/….yml`) and the YAML.
pub fn all() -> impl ExactSizeIterator<Item = (&'static str, &'static str)> {
    RULES.iter().copied()
}
