//! Lines that have nothing to do with each other: of crontabs, of lists of keys, of accounts.
//!
//! Anybody on the machine may have written them, in any bytes. A line is shown by its beginning and its end,
//! without any password of an account's; two lines are the same if all their bytes are.

use std::borrow::Cow;
use std::path::PathBuf;

use cordon_model::survey::TEXT_BYTES;
use sha2::{Digest as _, Sha256};

use super::places::Lines;

/// A line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What is shown of it, [`TEXT_BYTES`] at most.
    pub text: String,
    /// Of all that is not secret.
    pub sha256: [u8; 32],
}

/// The lines of a file that say something, in their order.
pub fn lines_of(lines: Lines, file: &[u8]) -> impl Iterator<Item = Line> {
    let ends_with_more = move |line: &[u8]| lines == Lines::ModuleCommands && line.ends_with(b"\\");
    let mut rest = Some(file);
    std::iter::from_fn(move || {
        loop {
            let mut line = Cow::Borrowed(next_line(&mut rest)?);
            // modprobe.d(5): a backslash at its end, and the line goes on.
            while ends_with_more(&line) {
                line.to_mut().pop();
                let Some(more) = next_line(&mut rest) else { break };
                line.to_mut().extend_from_slice(more);
            }
            if let Some(said) = said(lines, line.trim_ascii()) {
                return Some(Line { text: shortened(&said), sha256: Sha256::digest(&said).into() });
            }
        }
    })
}

fn next_line<'a>(rest: &mut Option<&'a [u8]>) -> Option<&'a [u8]> {
    let text = (*rest)?;
    let end = text.iter().position(|byte| *byte == b'\n');
    let (line, after) = match end {
        Some(end) => (&text[..end], Some(&text[end + 1..])),
        None => (text, None),
    };
    *rest = after;
    Some(line)
}

/// What of the line may be said; `None` if it says nothing.
fn said(lines: Lines, line: &[u8]) -> Option<Cow<'_, [u8]>> {
    let begins_with = |word: &str| {
        let rest = line.strip_prefix(word.as_bytes());
        rest.is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_whitespace))
    };
    let says_something = match lines {
        Lines::Plain => !line.is_empty() && !line.starts_with(b"#"),
        Lines::Accounts => !line.is_empty(),
        Lines::ModuleCommands => begins_with("install") || begins_with("remove"),
    };
    says_something.then(|| match lines {
        Lines::Accounts => Cow::Owned(without_password(line)),
        Lines::Plain | Lines::ModuleCommands => Cow::Borrowed(line),
    })
}

/// A line of `etc/passwd`; where it has a password's hash, it says only that it has one.
fn without_password(line: &[u8]) -> Vec<u8> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    let [name, password, rest @ ..] = &fields[..] else {
        // No account, and nobody knows what it holds instead.
        return b"(a line that is no account)".to_vec();
    };
    if rest.len() != 5 {
        return [*name, b":(a line that is no account)"].concat();
    }
    let is_none = *password == b"x" || password.iter().all(|byte| matches!(byte, b'*' | b'!'));
    let mut told = vec![*name, if is_none { *password } else { b"(a password)" }];
    told.extend_from_slice(rest);
    told.join(&b':')
}

/// What a person needs to know it again: of a key that is its options and its kind, and whose it is.
fn shortened(line: &[u8]) -> String {
    const GAP: &str = "…";
    const END: usize = 80;
    const BEGINNING: usize = TEXT_BYTES - END - GAP.len();
    // So that one line of many megabytes is not copied.
    if line.len() <= TEXT_BYTES {
        let text = String::from_utf8_lossy(line);
        if text.len() <= TEXT_BYTES {
            return text.into_owned();
        }
    }
    let head = String::from_utf8_lossy(&line[..line.len().min(BEGINNING)]);
    let tail = String::from_utf8_lossy(&line[line.len().saturating_sub(END)..]);
    let mut end = BEGINNING.min(head.len());
    while !head.is_char_boundary(end) {
        end -= 1;
    }
    let mut start = tail.len().saturating_sub(END);
    while !tail.is_char_boundary(start) {
        start += 1;
    }
    format!("{}{GAP}{}", &head[..end], &tail[start..])
}

/// A local account, as far as it says where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: Vec<u8>,
    /// Its number.
    pub uid: u32,
    /// Its home, as it stands there.
    pub home: PathBuf,
}

/// The accounts in `etc/passwd`. What is none is skipped: the system skips it too.
#[must_use]
pub fn accounts(passwd: &[u8]) -> Vec<Account> {
    use std::os::unix::ffi::OsStrExt as _;
    let account = |line: &[u8]| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let [name, _, uid, _, _, home, _] = fields[..] else { return None };
        let uid = std::str::from_utf8(uid).ok()?.parse().ok()?;
        let home = PathBuf::from(std::ffi::OsStr::from_bytes(home));
        (!name.is_empty()).then(|| Account { name: name.to_vec(), uid, home })
    };
    passwd.split(|byte| *byte == b'\n').filter_map(account).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(lines: Lines, file: &str) -> Vec<String> {
        lines_of(lines, file.as_bytes()).map(|line| line.text).collect()
    }

    #[test]
    fn a_crontab_has_its_lines_and_its_settings_and_no_comments() {
        let file = "# m h\nSHELL=/bin/sh\n\n\t17 * * * *\troot\trun-parts # x\n  # no\n@reboot /x";
        assert_eq!(
            texts(Lines::Plain, file),
            ["SHELL=/bin/sh", "17 * * * *\troot\trun-parts # x", "@reboot /x"]
        );
    }

    #[test]
    fn an_account_is_told_without_its_password_and_a_broken_line_without_anything() {
        let file = "root:x:0:0:root:/root:/bin/sh\nold:$6$secret:1:1::/:/bin/sh\nno:!*:2:2::/:\n\
                    open::3:3::/:\n+::::::\n$1$secret\neve:$6$secret:0\n";
        assert_eq!(
            texts(Lines::Accounts, file),
            [
                "root:x:0:0:root:/root:/bin/sh",
                "old:(a password):1:1::/:/bin/sh",
                "no:!*:2:2::/:",
                "open::3:3::/:",
                "+::::::",
                "(a line that is no account)",
                "eve:(a line that is no account)",
            ]
        );
        // Nor can it be guessed from the digest.
        let digest = |file: &str| lines_of(Lines::Accounts, file.as_bytes()).next().unwrap().sha256;
        assert_eq!(digest("a:$6$one:1:1::/:/x"), digest("a:$6$two:1:1::/:/x"));
        assert_ne!(digest("a:x:1:1::/:/x"), digest("a:$6$two:1:1::/:/x"));
    }

    #[test]
    fn of_module_settings_only_commands_are_things_however_many_lines_they_take() {
        let file = "options snd x\ninstall usb-storage /bin/true\n# install no\n\
                    remove a \\\n /sbin/b\\\n c\ninstaller x\ninstall\n";
        assert_eq!(
            texts(Lines::ModuleCommands, file),
            ["install usb-storage /bin/true", "remove a  /sbin/b c"]
        );
        assert_eq!(texts(Lines::ModuleCommands, "install a \\"), ["install a"]);
    }

    #[test]
    fn a_long_key_keeps_its_options_and_its_comment() {
        let key = format!("from=\"10.0.0.0/8\" ssh-rsa {} eve@evil", "A".repeat(3_000));
        let text = &texts(Lines::Plain, &key)[0];
        assert!(text.starts_with("from=\"10.0.0.0/8\" ssh-rsa AAA") && text.ends_with(" eve@evil"));
        assert_eq!(text.len(), TEXT_BYTES);
        let other = key.replace("AAAA eve", "AAAB eve");
        let digest = |key: &str| lines_of(Lines::Plain, key.as_bytes()).next().unwrap().sha256;
        assert_ne!(digest(&key), digest(&other), "the same beginning and end");
    }

    #[test]
    fn accounts_say_where_their_homes_are() {
        let found =
            accounts(b"root:x:0:0::/root:/bin/sh\nbad\nx:x:no:0::/:/\n:x:1:1::/:/\na:x:7:7::/h/a:");
        let homes: Vec<_> = found.iter().map(|one| (one.uid, one.home.to_str().unwrap())).collect();
        assert_eq!(homes, [(0, "/root"), (7, "/h/a")]);
    }

    fn any_lines() -> impl Strategy<Value = Lines> {
        prop::sample::select(vec![Lines::Plain, Lines::Accounts, Lines::ModuleCommands])
    }

    proptest! {
        #[test]
        fn any_bytes_are_lines_that_fit(
            lines in any_lines(),
            file in prop::collection::vec(any::<u8>(), 0..2_000),
            repeated in 1_usize..4,
        ) {
            for line in lines_of(lines, &file.repeat(repeated)) {
                prop_assert!(line.text.len() <= TEXT_BYTES);
                prop_assert!(!line.text.contains('\n') || lines == Lines::ModuleCommands);
            }
            let _ = accounts(&file);
        }

        #[test]
        fn no_hash_of_a_password_is_ever_told(
            before in "[a-z:\n]{0,20}", hash in "[a-zA-Z0-9]{12}", after in "[a-z:\n]{0,30}",
        ) {
            // In the place of a password, in a line of whatever shape.
            let file = format!("{before}\nname:$6${hash}:{after}");
            for line in lines_of(Lines::Accounts, file.as_bytes()) {
                prop_assert!(!line.text.contains(&hash), "{}", line.text);
            }
        }
    }
}
