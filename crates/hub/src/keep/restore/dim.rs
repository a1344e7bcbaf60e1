//! Names of rows that are damaged, or whose rows can't be read.
//!
//! The one idea: of a damaged name the store gives what can be read, and [`char::REPLACEMENT_CHARACTER`] where nothing
//! can. It may be any name that fits that, so what hangs on any of them stays.

use std::collections::BTreeSet;

/// Whether a name is no text as it was kept. None of ours has such a letter.
pub(super) fn is_damaged(name: &str) -> bool {
    name.contains(char::REPLACEMENT_CHARACTER)
}

/// Whether a name, that may be damaged, may have been `whole`: what can be read of it stands there in the same order.
pub(super) fn fits(name: &str, whole: &str) -> bool {
    let mut pieces = name.split(char::REPLACEMENT_CHARACTER);
    let (first, last) = (pieces.next().unwrap_or_default(), pieces.next_back());
    let Some(last) = last else { return name == whole };
    let Some(mut rest) = whole.strip_prefix(first) else { return false };
    for piece in pieces {
        match rest.split_once(piece) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Names of rows that can't be read.
#[derive(Debug, Default)]
pub(super) struct Dim {
    whole: BTreeSet<String>,
    damaged: Vec<String>,
}

impl Dim {
    /// Notes a name.
    pub(super) fn add(&mut self, name: &str) {
        match is_damaged(name) {
            true => self.damaged.push(name.to_owned()),
            false => drop(self.whole.insert(name.to_owned())),
        }
    }

    /// Whether this may be the name of one of them.
    pub(super) fn has(&self, name: &str) -> bool {
        self.whole.contains(name) || self.damaged.iter().any(|damaged| fits(damaged, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_name_may_be_whatever_fits_what_is_left_of_it() {
        for name in [
            "story",
            "\u{fffd}tory",
            "st\u{fffd}ry",
            "stor\u{fffd}",
            "\u{fffd}o\u{fffd}",
            "\u{fffd}",
        ] {
            assert!(fits(name, "story"), "{name}");
        }
        for name in ["stor", "storys", "s\u{fffd}r", "\u{fffd}seat", "st\u{fffd}x\u{fffd}y", ""] {
            assert!(!fits(name, "story"), "{name}");
        }
        let mut dim = Dim::default();
        dim.add("one");
        dim.add("t\u{fffd}o");
        assert!(dim.has("one") && dim.has("two") && !dim.has("three"));
    }
}
