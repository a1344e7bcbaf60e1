//! An archive of evidence is opened by a process that can do nothing but read it.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cordon_tests::{cordon, eventually};

/// What opens archives, waiting for the first byte of one.
struct Opener(Child);

impl Opener {
    fn start() -> Self {
        let mut command = Command::new(cordon());
        command.args(["role", "open-evidence"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn told(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).unwrap()
    }

    /// The words of a line of the kernel's that begins so.
    fn words(&self, file: &str, begin: &str) -> Vec<String> {
        let told = self.told(file);
        let line = told.lines().find_map(|line| line.strip_prefix(begin));
        let line = line.unwrap_or_else(|| panic!("no {begin} in {told}"));
        line.split_whitespace().map(str::to_owned).collect()
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn who_opens_an_archive_has_given_up_everything_before_the_first_byte() {
    let opener = Opener::start();
    // By a filter (2), which is the last that it does before it reads.
    eventually("it is confined", || (opener.words("status", "Seccomp:") == ["2"]).then_some(()));
    assert_eq!(opener.words("status", "NoNewPrivs:"), ["1"]);
    if nix::unistd::geteuid().is_root() {
        assert_eq!(opener.words("status", "Uid:"), ["65534"; 4], "nobody, and no way back");
        assert_eq!(opener.words("status", "Gid:"), ["65534"; 4]);
        assert_eq!(opener.words("status", "Groups:"), [""; 0]);
        assert_eq!(opener.words("status", "CapEff:"), ["0000000000000000"]);
        assert_eq!(opener.words("status", "CapPrm:"), ["0000000000000000"]);
    }
    for (limit, most) in [
        ("Max data size", "268435456"),
        ("Max cpu time", "3600"),
        ("Max open files", "0"),
        ("Max processes", "0"),
        ("Max file size", "0"),
        ("Max core file size", "0"),
    ] {
        assert_eq!(opener.words("limits", limit)[..2], [most, most], "{limit}");
    }
}

/// The header of a file in a tar, as Cordon writes it.
fn header(name: &str, bytes: usize) -> Vec<u8> {
    let mut block = vec![0; 512];
    let size = format!("{bytes:011o}");
    for (at, text) in [
        (0, name),
        (100, "0000400"),
        (108, "0000000"),
        (116, "0000000"),
        (124, &size),
        (136, "00000000000"),
        (148, "        "),
        (156, "0"),
        (257, "ustar\x0000"),
    ] {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn packed(tar: &[u8], to: &Path) {
    let mut gzip = Command::new("gzip")
        .args(["--fast", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(fs::File::create(to).unwrap())
        .spawn()
        .unwrap();
    gzip.stdin.take().unwrap().write_all(tar).unwrap();
    assert!(gzip.wait().unwrap().success());
}

/// Checked as people do: whether it is sound, and all that was said.
fn verified(archive: &Path) -> (bool, String) {
    let done = Command::new(cordon()).arg("verify").arg(archive).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    assert_eq!(done.status.code().map(|code| code < 2), Some(true), "{}", done.status);
    (done.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn an_archive_that_takes_memory_without_end_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evidence.tar.gz");
    // Each of eleven million empty texts takes three bytes in the manifest, and twenty-four when it is read.
    let id = "018f0000-0000-7000-8000-000000000001";
    let texts = vec!["\"\""; 11_000_000].join(",");
    let manifest = format!(
        r#"{{"format":1,"written_by":"x","organisation":"RJ1","machine":"{id}","measure":"{id}","host":"h","kernel":"k","boot":"b","began":0,"ended":0,"agreed":[],"limits":[{texts}]"#
    );
    let mut tar = [header("manifest.json", manifest.len()), manifest.into_bytes()].concat();
    tar.resize(tar.len().next_multiple_of(512), 0);
    packed(&tar, &path);
    let (is_sound, said) = verified(&path);
    assert!(!is_sound);
    assert!(said.contains("NOT SOUND") && said.contains("256 MiB of memory"), "{said}");
    assert!(said.contains("evidence.tar.gz") && said.contains("hostile"), "{said}");
}

#[test]
fn what_is_no_archive_is_refused_with_its_place_by_who_opens_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evidence.tar.gz");
    packed(&header("../../etc/passwd", 1), &path);
    let (is_sound, said) = verified(&path);
    assert!(!is_sound && said.contains("NOT SOUND"), "{said}");
    assert!(said.contains("where piece 1 should be"), "{said}");
}
