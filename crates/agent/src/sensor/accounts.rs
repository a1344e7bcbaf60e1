//! Names of users, from `/etc/passwd`, read again when the file changes. Directory services (LDAP,
//! Active Directory) are not asked: a sensor must never wait for a network that may be under attack.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

const PASSWD: &str = "/etc/passwd";

/// The largest file that is read: 4 MiB, about 50,000 accounts of 80 bytes.
const PASSWD_BYTES: u64 = 4 << 20;

/// How often the file's time is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Names by user id.
#[derive(Debug)]
pub(super) struct Accounts {
    names: HashMap<u32, Arc<str>>,
    changed: Option<SystemTime>,
    looked: Instant,
}

impl Accounts {
    /// The names as they are now.
    pub fn load() -> Self {
        let mut accounts = Self { names: HashMap::new(), changed: None, looked: Instant::now() };
        accounts.reload();
        accounts
    }

    /// The name of `uid`.
    pub fn name(&mut self, uid: u32) -> Option<Arc<str>> {
        if self.looked.elapsed() > LOOK_EVERY {
            self.looked = Instant::now();
            self.reload();
        }
        self.names.get(&uid).cloned()
    }

    fn reload(&mut self) {
        let Ok(file) = std::fs::metadata(PASSWD) else { return };
        let changed = file.modified().ok();
        if changed == self.changed || file.len() > PASSWD_BYTES {
            return;
        }
        if let Ok(text) = std::fs::read(PASSWD) {
            self.names = parse(&String::from_utf8_lossy(&text));
            self.changed = changed;
        }
    }
}

/// `name:password:uid:…`, one a line. Of several names for one id the first counts, as in the C library.
fn parse(text: &str) -> HashMap<u32, Arc<str>> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(uid)) = (fields.next(), fields.nth(1)) else { continue };
        if let Ok(uid) = uid.parse() {
            names.entry(uid).or_insert_with(|| name.into());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_an_id_counts_and_bad_lines_do_not() {
        let names =
            parse("root:x:0:0::/root:/bin/sh\n+nis\ntoor:x:0:0\nbad:x:minus\nann:x:1000:\n");
        assert_eq!(names.get(&0).map(AsRef::as_ref), Some("root"));
        assert_eq!(names.get(&1000).map(AsRef::as_ref), Some("ann"));
        assert_eq!(names.len(), 2);
    }
}
