//! Where `sshd` looks for the keys that open an account, as far as its configuration says so simply.
//!
//! All that any line names is looked at, whichever of them counts: a file too many costs a look, one too few
//! would hide a key. What can't be looked at (a command that tells keys, a certificate's authority) is said.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use super::lines::Account;

/// What `sshd` looks at if nothing else is said (sshd_config(5)).
const BY_DEFAULT: [&str; 2] = [".ssh/authorized_keys", ".ssh/authorized_keys2"];
/// The folder that distributions include, whose files are read, too.
pub const MORE: &str = "etc/ssh/sshd_config.d";
/// The file.
pub const MAIN: &str = "etc/ssh/sshd_config";
/// Its name, as an `Include` writes it, absolute or not.
const FOLDER: &[u8] = b"sshd_config.d/";
/// Patterns that are looked at: a real configuration has two.
const PATTERNS: usize = 16;

/// Where the keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysFiles {
    /// As sshd_config(5) writes them.
    patterns: Vec<Vec<u8>>,
    /// How else somebody may be let in: in words.
    pub beyond: Vec<String>,
}

impl KeysFiles {
    /// What these files say, one after the other.
    pub fn of<'a>(configurations: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut found = Self {
            patterns: BY_DEFAULT.map(|pattern| pattern.as_bytes().to_vec()).to_vec(),
            beyond: Vec::new(),
        };
        for line in configurations.into_iter().flat_map(|text| text.split(|byte| *byte == b'\n')) {
            found.hear(line);
        }
        found
    }

    fn hear(&mut self, line: &[u8]) {
        let mut words = line
            .split(|byte| byte.is_ascii_whitespace() || *byte == b'=')
            .map(|word| word.strip_prefix(b"\"").unwrap_or(word))
            .map(|word| word.strip_suffix(b"\"").unwrap_or(word))
            .filter(|word| !word.is_empty());
        let Some(keyword) = words.next() else { return };
        let is = |word: &str| keyword.eq_ignore_ascii_case(word.as_bytes());
        let mut says = |what: &str| {
            if !self.beyond.iter().any(|said| said == what) {
                self.beyond.push(what.to_owned());
            }
        };
        if is("AuthorizedKeysFile") {
            for word in words.filter(|word| !word.eq_ignore_ascii_case(b"none")) {
                if word.starts_with(b"#") {
                    break;
                }
                if self.patterns.iter().any(|known| known == word) {
                    continue;
                }
                if self.patterns.len() == PATTERNS {
                    says("more files of keys are named than are looked at");
                    break;
                }
                self.patterns.push(word.to_vec());
            }
        } else if words.next().is_none_or(|word| word.eq_ignore_ascii_case(b"none")) {
            // The other settings, unset.
        } else if is("AuthorizedKeysCommand") {
            says("keys also come from a command (AuthorizedKeysCommand), which is not asked");
        } else if is("TrustedUserCAKeys") {
            says("certificates also open accounts (TrustedUserCAKeys), which are not known here");
        } else if is("Include") && !line.windows(FOLDER.len()).any(|part| part == FOLDER) {
            says("a file is included that is not read (Include)");
        }
    }

    /// The files for one account, each below the root, and the patterns that are not understood.
    #[must_use]
    pub fn of_account(&self, account: &Account) -> (Vec<PathBuf>, Vec<Vec<u8>>) {
        let (mut files, mut unknown) = (Vec::new(), Vec::new());
        for pattern in &self.patterns {
            match expanded(pattern, account) {
                Some(file) => files.push(file),
                None => unknown.push(pattern.clone()),
            }
        }
        (files, unknown)
    }
}

/// `%%`, `%h`, `%u`, `%U` (sshd_config(5), TOKENS); below the home if not absolute.
fn expanded(pattern: &[u8], account: &Account) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut bytes = Vec::with_capacity(pattern.len());
    let mut rest = pattern.iter();
    while let Some(byte) = rest.next() {
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        match rest.next()? {
            b'%' => bytes.push(b'%'),
            b'h' => bytes.extend_from_slice(account.home.as_os_str().as_bytes()),
            b'u' => bytes.extend_from_slice(&account.name),
            b'U' => bytes.extend_from_slice(account.uid.to_string().as_bytes()),
            _ => return None,
        }
    }
    let path = account.home.join(PathBuf::from(OsString::from_vec(bytes)));
    below_root(&path)
}

/// The path without its first slash, if it is absolute and plain.
#[must_use]
pub fn below_root(path: &Path) -> Option<PathBuf> {
    let path = path.strip_prefix("/").ok()?;
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    is_plain.then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn account(name: &str) -> Account {
        Account { name: name.into(), uid: 7, home: format!("/home/{name}").into() }
    }

    fn files(configuration: &str) -> Vec<String> {
        let (files, _) = KeysFiles::of([configuration.as_bytes()]).of_account(&account("ann"));
        files.into_iter().map(|file| file.into_os_string().into_string().unwrap()).collect()
    }

    #[test]
    fn keys_are_where_they_always_are_and_where_the_configuration_says() {
        let usual = ["home/ann/.ssh/authorized_keys", "home/ann/.ssh/authorized_keys2"];
        assert_eq!(files(""), usual);
        assert_eq!(files("#AuthorizedKeysFile /x\nauthorizedkeysfile none"), usual);
        let text = "Match User x\n\tAuthorizedKeysFile=/etc/keys/%u \"%h/k\" .ssh/%U%% # /no";
        assert_eq!(files(text)[2..], ["etc/keys/ann", "home/ann/k", "home/ann/.ssh/7%"]);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let of = |text: &str| KeysFiles::of([text.as_bytes()]);
        let (_, unknown) = of("AuthorizedKeysFile /keys/%f ../../x").of_account(&account("ann"));
        assert_eq!(unknown, [b"/keys/%f".to_vec(), b"../../x".to_vec()]);
        let beyond = |text: &str| of(text).beyond.len();
        assert_eq!(beyond("AuthorizedKeysCommand none\nInclude /etc/ssh/sshd_config.d/*.conf"), 0);
        assert_eq!(beyond("AuthorizedKeysCommand /x\nAuthorizedKeysCommand /y"), 1);
        assert_eq!(beyond("TrustedUserCAKeys /x\nInclude /opt/y"), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_configuration(
            text in prop::collection::vec(any::<u8>(), 0..300), name in "[%a-z/.]{0,9}",
        ) {
            let (files, _) = KeysFiles::of([&text[..]]).of_account(&account(&name));
            prop_assert!(files.iter().all(|file| file.is_relative()));
        }
    }
}
