//! The seeds of the fuzz targets for what the measures keep on disk, run as plain tests.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own tools fail the test")]

use std::path::{Path, PathBuf};

use cordon_agent::contain::action::deny::DeniedProgram;
use cordon_agent::contain::action::hold::Held;
use cordon_agent::contain::action::kill::Killed;
use cordon_agent::contain::action::quarantine::Quarantined;
use cordon_agent::contain::action::quarantine::chunks::VaultKey;
use cordon_agent::contain::action::quarantine::records::Recorded;
use cordon_agent::contain::disk::decode;

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
    {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        found.push((path, bytes));
    }
    assert!(!found.is_empty(), "{}", folder.display());
    found
}

#[test]
fn a_file_of_the_vault_from_an_earlier_version_is_still_read_and_a_damaged_one_refused() {
    let key = VaultKey::new([1; 32].into());
    for (path, bytes) in seeds("agent_vault") {
        let mut content = Vec::new();
        let read = Recorded::begin(bytes.as_slice(), &key).and_then(|(metadata, recorded)| {
            let ending = recorded.each(|offset, piece| {
                content.resize(usize::try_from(offset).unwrap(), 0);
                content.extend_from_slice(piece);
                Ok(())
            })?;
            Ok((metadata, ending))
        });
        if path.file_name().unwrap().to_string_lossy().starts_with("whole") {
            let (metadata, ending) = read.unwrap();
            assert_eq!(metadata.path, Path::new("/srv/share/invoice.exe"));
            assert_eq!(ending.size, metadata.size);
            assert_eq!(content, b"beginning\0\0\0\0\0\0\0end");
        } else {
            assert!(read.is_err(), "{}", path.display());
        }
    }
}

#[test]
fn a_journal_from_an_earlier_version_is_still_read_and_a_damaged_one_refused() {
    for (path, bytes) in seeds("agent_journal") {
        let kinds = [
            decode::<Held>(&bytes).is_some(),
            decode::<Killed>(&bytes).is_some(),
            decode::<Quarantined>(&bytes).is_some(),
            decode::<DeniedProgram>(&bytes).is_some(),
        ];
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let expected =
            ["held", "killed", "quarantined", "denied"].map(|kind| name.starts_with(kind));
        assert_eq!(kinds, expected, "{name}");
    }
}

/// Makes the seeds anew, when a form changes on purpose: run it by name.
#[test]
#[ignore = "it writes the seeds that the other tests read"]
fn make_the_seeds() {
    use cordon_agent::contain::action::deny::list::Entry;
    use cordon_agent::contain::action::hold::{Group, Spared};
    use cordon_agent::contain::action::kill::Victim;
    use cordon_agent::contain::action::quarantine::Step;
    use cordon_agent::contain::action::quarantine::metadata::{Attribute, FileTime, Metadata};
    use cordon_agent::contain::action::quarantine::records::Recording;
    use cordon_agent::contain::action::spared::FileId;
    use cordon_agent::sensor::ProcessId;
    use cordon_model::action::{Denied, FilePath, FileTarget, Sha256Digest};
    use cordon_model::time::{BootId, BootNanos};

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let metadata = Metadata {
        path: "/srv/share/invoice.exe".into(),
        file: FileId { device: 2049, inode: 77 },
        folder: FileId { device: 2049, inode: 2 },
        other_names: 1,
        size: 19,
        mode: 0o755,
        user: 1000,
        group: 1000,
        accessed: FileTime((1_700_000_000, 1)),
        modified: FileTime((1_700_000_000, 2)),
        changed: FileTime((1_700_000_000, 3)),
        flags: Some(0x80000),
        attributes: vec![Attribute { name: b"user.note".to_vec(), value: b"x".to_vec() }],
    };
    let key = VaultKey::new([1; 32].into());
    let mut recording = Recording::begin(Vec::new(), &key, [7; 19], &metadata).unwrap();
    recording.piece(0, b"beginning").unwrap();
    recording.piece(16, b"end").unwrap();
    let (whole, _) = recording.end(19).unwrap();
    let vault = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.join("agent_vault").join(name), bytes).unwrap();
    };
    vault("whole", &whole);
    vault("cut", &whole[..whole.len() - 20]);
    vault("header", &whole[..64]);
    let write = |name: &str, bytes: Vec<u8>| {
        std::fs::write(folder.join("agent_journal").join(name), bytes).unwrap();
    };
    fn encoded(entry: &impl serde::Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(entry, &mut bytes).unwrap();
        bytes
    }
    let measure = "018f0000-0000-7000-8000-000000000001".parse().unwrap();
    let process = ProcessId { pid: 4711, started: BootNanos(12_340_000_000) };
    let held = Held {
        measure,
        boot: BootId("a boot".into()),
        roots: vec![process],
        groups: vec![Group("/user.slice/session-1.scope".into())],
        stopped: vec![process],
        stood_still: vec![process],
        spared: vec![Spared { process, why: "pacs.service is protected for care".into() }],
        processes: 3,
        doubts: vec!["a doubt".into()],
    };
    write("held", encoded(&held));
    write("cut", encoded(&held)[..60].to_vec());
    let victim = Victim { process, program: "/tmp/worm".into() };
    write("killed", encoded(&Killed { held, has_begun: true, count: 3, victims: vec![victim] }));
    let path = FilePath::new("/srv/share/invoice.exe");
    let digest = Sha256Digest([9; 32]);
    let target = FileTarget { path: path.clone(), sha256: Some(digest) };
    let quarantined = Quarantined {
        measure,
        target,
        step: Step::Removed,
        metadata,
        sha256: Some(digest),
        was_open_for_writing: true,
        was_gone: false,
    };
    write("quarantined", encoded(&quarantined));
    for (name, denied) in
        [("denied-path", Denied::Path(path.clone())), ("denied-content", Denied::Sha256(digest))]
    {
        let file = Some(FileId { device: 2049, inode: 77 });
        let entry = Entry { measure, denied, file, known: vec![path.clone()] };
        write(name, encoded(&DeniedProgram { entry, not_covered: vec!["elsewhere".into()] }));
    }
}
