//! Which lines came and which went, for people who are about to put a file back.
//!
//! What may hold a secret is not told: only files that everybody may come to and read, and those whose lines a survey tells anyhow
//! (keys that open an account are public ones). Of an account never the password's field.

use std::collections::HashMap;

use cordon_model::change::{LINE_BYTES, MOST_LINES};
use cordon_model::survey::ThingKind;

use super::limits::TOLD_BYTES;
use super::standing::{Standing, cut};

/// The lines that came (`+`) and went (`-`) between two contents; none where they may not be told, or are no text.
#[must_use]
pub fn told(
    kind: ThingKind,
    before: (&Standing, Option<&[u8]>),
    after: (&Standing, Option<&[u8]>),
) -> Vec<String> {
    if !may_be_told(kind, before.0) || !may_be_told(kind, after.0) {
        return Vec::new();
    }
    let text = |side: (&Standing, Option<&[u8]>)| match (side.0, side.1) {
        (Standing::Nothing | Standing::Link(_), _) => Some(String::new()),
        (_, Some(bytes)) if bytes.len() <= TOLD_BYTES && !bytes.contains(&0) => {
            String::from_utf8(bytes.to_vec()).ok()
        }
        _ => None,
    };
    let (Some(before), Some(after)) = (text(before), text(after)) else { return Vec::new() };
    let mut lines = Vec::new();
    let mut of = 0_usize;
    for (mark, from, to) in [('+', &before, &after), ('-', &after, &before)] {
        for line in beyond(from, to) {
            of += 1;
            if lines.len() < MOST_LINES {
                lines.push(shown(kind, mark, line));
            }
        }
    }
    if of > MOST_LINES {
        lines.truncate(MOST_LINES - 1);
        lines.push(format!("and {} more lines", of - lines.len()));
    }
    lines
}

/// The lines of `to` that `from` has not, or has less often.
fn beyond<'a>(from: &str, to: &'a str) -> Vec<&'a str> {
    let mut had: HashMap<&str, usize> = HashMap::new();
    for line in from.lines() {
        *had.entry(line).or_default() += 1;
    }
    let mut new = Vec::new();
    for line in to.lines() {
        match had.get_mut(line) {
            Some(count) if *count > 0 => *count -= 1,
            _ => new.push(line),
        }
    }
    new
}

fn may_be_told(kind: ThingKind, standing: &Standing) -> bool {
    let is_public = matches!(
        kind,
        ThingKind::AuthorizedKey | ThingKind::CronLine | ThingKind::Account | ThingKind::Sudoers
    );
    match standing {
        Standing::Nothing | Standing::Link(_) => true,
        Standing::File(file) => is_public || file.is_open,
        Standing::Other(_) => false,
    }
}

fn shown(kind: ThingKind, mark: char, line: &str) -> String {
    let plain: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if kind != ThingKind::Account {
        return cut(&format!("{mark} {plain}"), LINE_BYTES);
    }
    let mut fields: Vec<&str> = plain.split(':').collect();
    match fields.get_mut(1) {
        Some(password) => *password = "-",
        None => fields = vec!["(a line that is no account)"],
    }
    cut(&format!("{mark} {}", fields.join(":")), LINE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::super::standing::FileStanding;
    use super::*;
    use crate::contain::action::quarantine::metadata::tests::plain;

    fn file(mode: u32) -> Standing {
        let metadata = crate::contain::action::quarantine::metadata::Metadata { mode, ..plain() };
        let sha256 = cordon_model::action::Sha256Digest([0; 32]);
        let is_open = mode & 0o004 != 0;
        Standing::File(Box::new(FileStanding { metadata, sha256, is_kept: true, is_open }))
    }

    fn of(kind: ThingKind, mode: u32, before: &str, after: &str) -> Vec<String> {
        let standing = file(mode);
        told(kind, (&standing, Some(before.as_bytes())), (&standing, Some(after.as_bytes())))
    }

    #[test]
    fn lines_that_came_and_went_are_told_and_those_that_stay_are_not() {
        assert_eq!(
            of(ThingKind::ShellProfile, 0o644, "a\nb\nb\n", "b\na\nc\u{1b}\n"),
            ["+ c\u{fffd}", "- b"]
        );
        let many: String = (0..20).map(|line| format!("{line}\n")).collect();
        let told = of(ThingKind::CronLine, 0o600, "", &many);
        assert_eq!((told.len(), told[7].as_str()), (8, "and 13 more lines"));
    }

    #[test]
    fn what_not_everybody_may_read_is_not_told_nor_a_password() {
        assert_eq!(of(ThingKind::NetworkHook, 0o640, "", "psk=secret\n"), [""; 0]);
        assert_eq!(of(ThingKind::AuthorizedKey, 0o600, "", "ssh-rsa A\n"), ["+ ssh-rsa A"]);
        let told = of(ThingKind::Account, 0o644, "", "eve:$6$hash:0:0::/:/bin/sh\nbad\n");
        assert_eq!(told, ["+ eve:-:0:0::/:/bin/sh", "+ (a line that is no account)"]);
        let standing = file(0o644);
        let binary = told_of(&standing, b"\0\x7fELF");
        assert!(binary.is_empty(), "{binary:?}");
    }

    fn told_of(standing: &Standing, bytes: &[u8]) -> Vec<String> {
        told(ThingKind::Generator, (standing, Some(b"")), (standing, Some(bytes)))
    }
}
