//! Whose account it is, and whether anybody could still administer the machine without it.
//!
//! Read from the local files alone: nothing asks a directory service, which may hang, or be the
//! attacker's. An administrator is user 0 or a member of `sudo`, `wheel` or `admin`; one who can sign in
//! has a password or a key, a shell and no expiry in the past. Rules in `sudoers` for single users are
//! not read, so such a user does not count as one who could help: the refusal errs on the side of asking.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::mounts::Mount;
use super::super::plain;

/// Groups whose members administer, on Debian and Ubuntu, Red Hat and SUSE, and old Ubuntu.
const ADMINISTRATORS: [&str; 3] = ["sudo", "wheel", "admin"];
/// Shells that let nobody in.
const NO_SHELLS: [&str; 5] = ["nologin", "false", "sync", "shutdown", "halt"];
/// Files in which `sshd` looks for keys by default.
const KEYS: [&str; 2] = [".ssh/authorized_keys", ".ssh/authorized_keys2"];
/// An authorized_keys file of 1,000 keys of 1 KiB.
const KEYS_BYTES: u64 = 1 << 20;
/// Where accounts may come from that are these files, or made from them.
const LOCAL_SOURCES: [&str; 3] = ["files", "compat", "systemd"];

/// An account in `etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    gid: u32,
    home: PathBuf,
    shell: String,
    /// Whether its password is in the shadow file.
    pub(super) is_shadowed: bool,
}

/// The local accounts and what is known of them, without a single password.
#[derive(Debug, Clone, Default)]
pub(super) struct People {
    pub(super) accounts: Vec<Account>,
    /// Names that can give a password, and names that have expired.
    with_password: BTreeSet<String>,
    expired: BTreeSet<String>,
    /// Members and numbers of the administrators' groups.
    members: BTreeSet<String>,
    groups: BTreeSet<u32>,
}

impl People {
    /// From the texts of the three files; `today` in days since 1970. What can't be read is skipped: the
    /// system skips it too.
    pub(super) fn of(passwd: &[u8], shadow: &[u8], group: &[u8], today: i64) -> Self {
        let mut people = Self::default();
        for line in lines(passwd) {
            let [name, password, uid, gid, _, home, shell] = line[..] else { continue };
            let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else { continue };
            // NIS entries of the `compat` form.
            if name.starts_with(['+', '-']) {
                continue;
            }
            people.accounts.push(Account {
                name: name.into(),
                uid,
                gid,
                home: home.into(),
                shell: shell.into(),
                is_shadowed: password == "x",
            });
        }
        for line in lines(shadow) {
            let [name, password, _, _, _, _, _, expires, _] = line[..] else { continue };
            // crypt(5): a `$` and a method, or the thirteen characters of old.
            if password.starts_with('$')
                || password.len() == 13 && !password.starts_with(['!', '*'])
            {
                people.with_password.insert(name.into());
            }
            if expires.parse::<i64>().is_ok_and(|expires| expires >= 0 && expires <= today) {
                people.expired.insert(name.into());
            }
        }
        for line in lines(group) {
            let [name, _, gid, members] = line[..] else { continue };
            if ADMINISTRATORS.contains(&name) {
                people.groups.extend(gid.parse::<u32>().ok());
                people.members.extend(members.split(',').map(str::to_owned));
            }
        }
        people
    }

    /// Whether `account` may do everything.
    pub(super) fn administers(&self, account: &Account) -> bool {
        account.uid == 0
            || self.groups.contains(&account.gid)
            || self.members.contains(&account.name)
    }

    /// Administrators besides `account` who can sign in; `has_key` looks into a home.
    pub(super) fn other_administrators<'a>(
        &'a self,
        account: &'a Account,
        has_key: impl Fn(&Path) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Account> {
        self.accounts.iter().filter(move |other| {
            other.name != account.name
                && self.administers(other)
                && !self.expired.contains(&other.name)
                && !NO_SHELLS.contains(&other.shell.rsplit('/').next().unwrap_or_default())
                && (self.with_password.contains(&other.name) || has_key(&other.home))
        })
    }

    /// Others with the same user number: to the kernel they are the same user.
    pub(super) fn namesakes<'a>(&'a self, account: &'a Account) -> impl Iterator<Item = &'a str> {
        let same = move |other: &&Account| other.uid == account.uid && other.name != account.name;
        self.accounts.iter().filter(same).map(|other| other.name.as_str())
    }
}

/// Whether the home `home` below `root` holds a key that may sign in. A home that another machine or
/// another program answers for is not asked: it may never answer.
pub(super) fn has_key(root: &Path, home: &Path, mounts: &[Mount]) -> bool {
    let home = root.join(home.strip_prefix("/").unwrap_or(home));
    KEYS.iter().any(|file| {
        // What is mounted inside a home is not asked, either.
        let text = plain::read_near(mounts, &home.join(file), KEYS_BYTES).unwrap_or_default();
        let is_key = |line: &[u8]| {
            let line = line.trim_ascii();
            !line.is_empty() && !line.starts_with(b"#")
        };
        text.split(|byte| *byte == b'\n').any(is_key)
    })
}

/// Where else this machine looks for accounts, by `etc/nsswitch.conf`.
pub(in crate::contain) fn other_sources(nsswitch: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(nsswitch);
    let passwd = text.lines().filter_map(|line| line.trim().strip_prefix("passwd:")).next_back();
    let words = passwd.unwrap_or_default().split('#').next().unwrap_or_default();
    words
        .split_whitespace()
        .filter(|word| !word.starts_with('[') && !word.ends_with(']'))
        .filter(|word| !LOCAL_SOURCES.contains(word))
        .map(str::to_owned)
        .collect()
}

fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&str>> {
    file.split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(|line| line.split(':').collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
        daemon:x:1:1::/:/usr/sbin/nologin\n\
        ann:x:1000:1000::/home/ann:/bin/bash\n\
        bob:x:1001:27::/home/bob:/bin/bash\n\
        eve:x:1000:1002::/home/eve:\n\
        old:hash:1003:1003::/home/old:/bin/sh\n\
        +@nis::::::\n";
    const GROUP: &str = "root:x:0:\nsudo:x:27:ann\nann:x:1000:\n";

    fn people(shadow: &str) -> People {
        People::of(PASSWD.as_bytes(), shadow.as_bytes(), GROUP.as_bytes(), 20_000)
    }

    fn others(shadow: &str, name: &str, with_key: &str) -> Vec<String> {
        let people = people(shadow);
        let account = people.accounts.iter().find(|account| account.name == name).unwrap();
        let with_key = PathBuf::from(with_key);
        people
            .other_administrators(account, |home| home == with_key)
            .map(|other| other.name.clone())
            .collect()
    }

    #[test]
    fn an_administrator_is_user_0_or_of_a_group_and_can_sign_in() {
        let all = "root:$y$h:1::::::\nann:$y$h:1::::::\nbob:$y$h:1::::::\n";
        assert_eq!(others(all, "ann", ""), ["root", "bob"], "bob by his first group");
        assert_eq!(others(all, "root", ""), ["ann", "bob"]);
        let locked = "root:*:1::::::\nann:$y$h:1::::::\nbob:!$y$h:1::::::\n";
        assert_eq!(others(locked, "ann", ""), [""; 0]);
        assert_eq!(others(locked, "ann", "/home/bob"), ["bob"], "by a key");
        let expired = "root:$y$h:1:::::20000:\nann:$y$h:1::::::\nbob:$y$h:1:::::20001:\n";
        assert_eq!(others(expired, "ann", ""), ["bob"]);
        assert_eq!(others("bob:ab01234567890:1::::::\n", "ann", ""), ["bob"], "as of old");
    }

    #[test]
    fn who_is_not_an_administrator_and_whose_number_is_shared_is_known() {
        let people = people("");
        let by = |name: &str| people.accounts.iter().find(|a| a.name == name).unwrap();
        assert!(people.administers(by("ann")) && !people.administers(by("daemon")));
        assert_eq!(people.namesakes(by("ann")).collect::<Vec<_>>(), ["eve"]);
        assert!(by("ann").is_shadowed && !by("old").is_shadowed);
        assert_eq!(people.accounts.len(), 6, "an entry of NIS is none");
    }

    #[test]
    fn other_sources_of_accounts_are_named() {
        let of = |text: &str| other_sources(text.as_bytes());
        assert_eq!(of("passwd: files systemd\n"), [""; 0]);
        assert_eq!(
            of("# passwd: nis\npasswd:\tfiles sss [NOTFOUND=return] ldap # x\n"),
            ["sss", "ldap"]
        );
        assert_eq!(of(""), [""; 0]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_people_or_skipped(
            passwd in prop::collection::vec(any::<u8>(), 0..200),
            shadow in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let people = People::of(&passwd, &shadow, &passwd, 20_000);
            for account in &people.accounts {
                let _ = people.other_administrators(account, |_| false).count();
            }
            let _ = other_sources(&passwd);
        }
    }
}
