//! One line of the shadow file, disabled and as it was. Pure.
//!
//! A `!` before the password stops passwords, and nothing else: a key still signs in. An expiry date in
//! the past stops every way in that asks PAM's account phase or the shadow file itself (`login`, `su`,
//! `sudo`, `cron`, `sshd` with keys or without PAM). So both are set, as `usermod --lock --expiredate 1`
//! would, and nothing else of the line is touched. The date is 1 and not 0: shadow(5) leaves open
//! whether 0 means "never".
//!
//! The one idea: what is kept of the old line is what can't be told from the new one, and hashes of both.
//! A password's hash is a secret, and is in no journal and no receipt.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const FIELDS: usize = 9;
const PASSWORD: usize = 1;
const EXPIRES: usize = 7;
/// 2 January 1970.
const LONG_AGO: &[u8] = b"1";

/// How one line was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineChange {
    /// Whether the `!` is ours.
    added_lock: bool,
    /// The expiry date that was there; empty means none.
    expired: String,
    /// SHA-256 of the whole line before.
    #[serde(with = "serde_bytes")]
    before: [u8; 32],
    /// The same after.
    #[serde(with = "serde_bytes")]
    after: [u8; 32],
}

/// What a line is, seen from a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// As it was before it.
    Before,
    /// As it is after it.
    After,
    /// Somebody else changed it.
    Other,
}

impl LineChange {
    /// The change that disables `line`, and the line disabled; `None` if it is no line of nine fields
    /// with a date.
    pub(super) fn disabling(line: &[u8]) -> Option<(Self, Vec<u8>)> {
        let mut fields = fields(line)?;
        let expired = String::from_utf8(fields[EXPIRES].to_vec()).ok()?;
        if !expired.is_empty() && expired.parse::<i64>().is_err() {
            return None;
        }
        let added_lock = !fields[PASSWORD].starts_with(b"!");
        let locked = [b"!", fields[PASSWORD]].concat();
        if added_lock {
            fields[PASSWORD] = &locked;
        }
        fields[EXPIRES] = LONG_AGO;
        let disabled = fields.join(&b':');
        let change = Self { added_lock, expired, before: digest(line), after: digest(&disabled) };
        Some((change, disabled))
    }

    /// What `line` is now.
    pub(super) fn find(&self, line: &[u8]) -> Found {
        let digest = digest(line);
        // A line that was disabled already is both; there is nothing to do then, either way.
        if digest == self.after {
            Found::After
        } else if digest == self.before {
            Found::Before
        } else {
            Found::Other
        }
    }

    /// The line as it was, from the line as [`LineChange::disabling`] made it; `None` if it is another.
    pub(super) fn undone(&self, line: &[u8]) -> Option<Vec<u8>> {
        let mut fields = fields(line)?;
        if self.added_lock {
            fields[PASSWORD] = fields[PASSWORD].strip_prefix(b"!")?;
        }
        fields[EXPIRES] = self.expired.as_bytes();
        let before = fields.join(&b':');
        (digest(&before) == self.before).then_some(before)
    }
}

fn fields(line: &[u8]) -> Option<Vec<&[u8]>> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    (fields.len() == FIELDS).then_some(fields)
}

fn digest(line: &[u8]) -> [u8; 32] {
    Sha256::digest(line).into()
}

/// The numbers of the lines of `file` that are about `name`, and the lines.
pub(super) fn lines_of<'a>(file: &'a [u8], name: &str) -> Vec<(usize, &'a [u8])> {
    let is_its =
        |line: &[u8]| line.strip_prefix(name.as_bytes()).is_some_and(|l| l.starts_with(b":"));
    file.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| is_its(line)).collect()
}

/// `file` with another line at `number`, and not a byte else changed.
pub(super) fn with_line(file: &[u8], number: usize, line: &[u8]) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = file.split(|byte| *byte == b'\n').collect();
    if let Some(place) = lines.get_mut(number) {
        *place = line;
    }
    lines.join(&b'\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn disabled(line: &str) -> String {
        String::from_utf8(LineChange::disabling(line.as_bytes()).unwrap().1).unwrap()
    }

    #[test]
    fn the_password_is_locked_and_the_account_has_expired_and_nothing_else_is_touched() {
        for (line, expected) in [
            ("a:$y$j9T$s$h:19000:0:99999:7:::", "a:!$y$j9T$s$h:19000:0:99999:7::1:"),
            ("a:$6$s$h:19000:0:99999:7:30:20000:", "a:!$6$s$h:19000:0:99999:7:30:1:"),
            ("a:!$6$s$h:19000:0:99999:7::-1:x", "a:!$6$s$h:19000:0:99999:7::1:x"),
            ("a:*:::::::", "a:!*::::::1:"),
            ("a::::::::", "a:!::::::1:"),
        ] {
            assert_eq!(disabled(line), expected);
        }
        for odd in ["", "a", "a:b", "a:x:1:2:3:4:5:6:7:8", "a:x::::::soon:"] {
            assert!(LineChange::disabling(odd.as_bytes()).is_none(), "{odd}");
        }
    }

    #[test]
    fn what_is_kept_of_it_holds_no_secret() {
        let (change, _) = LineChange::disabling(b"a:$y$j9T$salt$hash:19000::::::").unwrap();
        let mut bytes = Vec::new();
        ciborium::into_writer(&change, &mut bytes).unwrap();
        let holds = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
        assert!(!holds(b"salt") && !holds(b"hash:") && !holds(b"$y$"));
    }

    proptest! {
        #[test]
        fn undone_is_as_it_was_and_an_altered_line_is_never_overwritten(
            password in "[!*a-zA-Z0-9$./]{0,40}",
            rest in "[0-9]{0,5}:[0-9]{0,2}:[0-9]{0,5}:[0-9]{0,2}:[0-9]{0,3}",
            expired in "(-?[0-9]{1,5})?",
            at: prop::sample::Index,
            by in 1u8..,
        ) {
            let line = format!("a:{password}:{rest}:{expired}:");
            let (change, mut disabled) = LineChange::disabling(line.as_bytes()).unwrap();
            prop_assert_eq!(change.undone(&disabled).unwrap(), line.as_bytes());
            let is_both = disabled == line.as_bytes();
            prop_assert_eq!(change.find(line.as_bytes()) == Found::Before, !is_both);
            let index = at.index(disabled.len());
            disabled[index] ^= by;
            prop_assert_eq!(change.find(&disabled) == Found::Other, disabled != line.as_bytes());
        }

        #[test]
        fn only_the_line_is_replaced(
            before in prop::collection::vec("[b-z:]{0,8}", 0..5),
            after in prop::collection::vec("[b-z:]{0,8}", 0..5),
            ends: bool,
        ) {
            let file = |line: &str| {
                let lines = [&before[..], &[line.to_owned()], &after[..]].concat();
                lines.join("\n") + if ends { "\n" } else { "" }
            };
            let text = file("a:1");
            let found = lines_of(text.as_bytes(), "a");
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!(with_line(text.as_bytes(), found[0].0, b"a:2"), file("a:2").into_bytes());
        }
    }
}
