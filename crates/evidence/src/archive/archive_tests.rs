//! Archives are found sound if they are, and nothing that was altered passes.

use std::io::{Cursor, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use cordon_model::signed::seal;
use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::*;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn manifest(pieces: Vec<PieceRecord>) -> Manifest {
    let now = UtcNanos::from_unix_nanos(1_700_000_000_000_000_000);
    Manifest {
        format: FORMAT,
        written_by: "cordon 0.1.0".into(),
        organisation: "RJ1".parse().unwrap(),
        machine: MachineId::new(now, [1; 10]),
        measure: MeasureId::new(now, [2; 10]),
        host: "ward-7".into(),
        kernel: "6.1".into(),
        boot: BootId("b".into()),
        began: now,
        ended: now,
        agreed: Vec::new(),
        limits: Vec::new(),
        pieces,
        missing: vec![Missing { kind: "file".into(), source: "/x".into(), why: "a pipe".into() }],
    }
}

fn record(source: &str, bytes: usize, sha256: String) -> PieceRecord {
    let now = UtcNanos::from_unix_nanos(1_700_000_000_000_000_000);
    PieceRecord {
        kind: "file".into(),
        source: source.into(),
        how: "read".into(),
        bytes: bytes as u64,
        bytes_there: None,
        sha256,
        began: now,
        ended: now,
        cut: None,
    }
}

/// An archive of `pieces`, sealed with `key` or not at all.
fn archive(pieces: &[Vec<u8>], key: Option<&SigningKey>) -> Vec<u8> {
    let mut writer = ArchiveWriter::new(Vec::new());
    let records = pieces
        .iter()
        .map(|piece| {
            let sha256 = writer.piece(piece.len() as u64, &mut &piece[..]).unwrap();
            record("/etc/hosts", piece.len(), sha256)
        })
        .collect();
    let manifest = manifest(records);
    let finished = writer.finish(&manifest).unwrap();
    assert_eq!(finished.bytes, finished.to.len() as u64);
    let Some(key) = key else { return finished.to };
    let statement = Statement {
        organisation: manifest.organisation.clone(),
        machine: manifest.machine,
        measure: manifest.measure,
        manifest_sha256: finished.manifest_sha256,
        pieces: u32::try_from(pieces.len()).unwrap(),
        missing: 1,
        bytes: finished.bytes,
        sha256: finished.sha256,
        ended: manifest.ended,
    };
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&finished.to).unwrap();
    // A seal that was cut short is replaced.
    file.write_all(b"half a seal").unwrap();
    append_seal(&mut file, finished.bytes, &seal(&statement, key).unwrap()).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    bytes
}

fn checked(bytes: &[u8]) -> ArchiveReport {
    check(Cursor::new(bytes), Some(&key().verifying_key())).unwrap()
}

#[test]
fn what_was_written_is_sound_and_opens_with_the_usual_tool() {
    let pieces = [b"first\n".to_vec(), Vec::new(), vec![7; 100_000]];
    let bytes = archive(&pieces, Some(&key()));
    let report = checked(&bytes);
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.pieces, report.bytes), (3, 100_006));
    assert_eq!(report.statement.unwrap().pieces, 3);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evidence.tar.gz");
    std::fs::write(&path, &bytes).unwrap();
    let output = std::process::Command::new("tar")
        .arg("-xzf")
        .arg(&path)
        .arg("-C")
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    for (number, piece) in (1..).zip(&pieces) {
        let name = folder.path().join(format!("pieces/{number:06}"));
        assert_eq!(std::fs::read(name).unwrap(), *piece);
    }
    let text = std::fs::read(folder.path().join("manifest.json")).unwrap();
    assert_eq!(Some(serde_json::from_slice::<Manifest>(&text).unwrap()), report.manifest);
}

#[test]
fn an_archive_without_a_seal_or_by_another_key_is_whole_and_not_sound() {
    let pieces = [b"x".to_vec()];
    let report = checked(&archive(&pieces, None));
    assert!(report.is_whole() && !report.is_sound());
    assert_eq!(report.signature, Signature::None);
    let report = check(Cursor::new(archive(&pieces, Some(&key()))), None).unwrap();
    assert!(report.is_whole() && !report.is_sound(), "{report}");
    let other = SigningKey::from_bytes(&[8; 32]);
    let report = checked(&archive(&pieces, Some(&other)));
    assert!(report.signature == Signature::False && !report.is_sound(), "{report}");
}

#[test]
fn a_genuine_seal_of_another_archive_is_not_believed() {
    let one = archive(&[b"one".to_vec()], Some(&key()));
    let unsealed = archive(&[b"two".to_vec()], None);
    let start = archive(&[b"one".to_vec()], None).len();
    let report = checked(&[&unsealed[..], &one[start..]].concat());
    assert!(report.to_string().contains("about another archive"), "{report}");
    assert!(!report.is_sound());
}

/// The bytes behind the compression, where an attacker would rather write.
fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::bufread::MultiGzDecoder::new(bytes), &mut unpacked)
        .unwrap();
    unpacked
}

#[test]
fn whatever_is_no_archive_of_ours_is_refused_with_its_place() {
    let good = unpacked(&archive(&[b"one".to_vec()], Some(&key())));
    let check =
        |bytes: &[u8]| check_unpacked(bytes, Some(&key().verifying_key())).unwrap().to_string();
    assert!(check(&good).ends_with("\nsound"), "{}", check(&good));
    let mut link = good.clone();
    link[156] = b'2';
    assert!(check(&link).contains("checksum"));
    let huge = [&tar::header("manifest.json", MANIFEST_BYTES + 1)[..], &[b'x'; 512]].concat();
    assert!(check(&huge).contains("are the most"));
    let way_out = [&tar::header("../../etc/passwd", 1)[..], &[b'x'; 512]].concat();
    assert!(check(&way_out).contains("where piece 1 should be"));
    let twice = [&good[..1024], &good[..]].concat();
    assert!(check(&twice).contains("where piece 2 should be"));
    let behind = [&good[..], &[b'x'; 512]].concat();
    assert!(check(&behind).contains("behind the end"));
    assert!(check(b"").contains("cut short"));
    assert!(super::check(&b"no gzip at all"[..], None).unwrap().to_string().contains("NOT SOUND"));
}

#[test]
fn a_bomb_of_zeros_ends_at_the_limit_and_takes_no_memory() {
    // A member that says it is larger than all pieces may be is refused before a byte of it is read.
    let mut bytes = tar::header("pieces/000001", tar::MEMBER_BYTES).to_vec();
    bytes.extend_from_slice(&[0; 512]);
    let report = check_unpacked(&bytes[..], None).unwrap();
    assert_eq!(report.bytes, 0);
    assert!(!report.is_whole());
}

#[test]
fn names_are_printable_whatever_their_bytes() {
    assert_eq!(printable(b"/tmp/a b"), "/tmp/a b");
    assert_eq!(printable(b"/tmp/\xff\n\x1b[2J\\"), "/tmp/\\xff\\n\\u{1b}[2J\\\\");
    assert_eq!(printable("/tmp/é\u{202e}gpj".as_bytes()), "/tmp/é\\u{202e}gpj");
}

proptest! {
    #[test]
    fn pieces_come_back_and_no_altered_byte_passes(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..5),
        at: prop::sample::Index,
        by in 1u8..,
    ) {
        let good = archive(&pieces, Some(&key()));
        prop_assert!(checked(&good).is_sound());
        // Of what is packed: either seen, or the same content after all (gzip's header has such bytes).
        let mut altered = good.clone();
        let index = at.index(altered.len());
        altered[index] ^= by;
        let report = checked(&altered);
        prop_assert!(!report.is_sound() || unpacked(&altered) == unpacked(&good), "{}", report);
        // Of what is inside: always seen.
        let mut altered = unpacked(&good);
        let index = at.index(altered.len());
        altered[index] ^= by;
        let report = check_unpacked(&altered[..], Some(&key().verifying_key())).unwrap();
        prop_assert!(!report.is_sound(), "byte {} of {}", index, altered.len());
    }

    #[test]
    fn an_archive_that_is_cut_anywhere_is_not_sound(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..900), 1..3),
        at: prop::sample::Index,
    ) {
        let good = archive(&pieces, Some(&key()));
        let length = at.index(good.len());
        prop_assert!(!checked(&good[..length]).is_sound());
    }

    #[test]
    fn any_bytes_are_an_archive_or_a_reason(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = check(Cursor::new(&bytes), None).unwrap();
        let _ = check_unpacked(&bytes[..], None).unwrap();
    }

    #[test]
    fn any_manifest_text_is_read_or_a_reason(text in ".{0,400}", length in 0u64..1000) {
        let mut bytes = tar::header("manifest.json", length).to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        let report = check_unpacked(&bytes[..], None).unwrap();
        prop_assert!(!report.is_sound());
    }
}

fn seed(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/evidence_archive").join(name)
}

/// The fuzzer's seeds are what is written today. With `UPDATE_SEEDS=1` they are written anew.
#[test]
fn the_fuzzers_seeds_are_up_to_date_and_survived_whole_and_cut() {
    let packed = archive(&[b"first\n".to_vec(), vec![7; 600]], Some(&key()));
    let plain = unpacked(&packed);
    for (name, bytes) in [("sealed.tar.gz", &packed), ("sealed.tar", &plain)] {
        if std::env::var_os("UPDATE_SEEDS").is_some() {
            std::fs::create_dir_all(seed("")).unwrap();
            std::fs::write(seed(name), bytes).unwrap();
        }
        assert!(
            std::fs::read(seed(name)).unwrap() == *bytes,
            "{name} is stale: run with UPDATE_SEEDS=1"
        );
        for length in (0..bytes.len()).step_by(37) {
            let _ = check(Cursor::new(&bytes[..length]), None).unwrap();
            let _ = check_unpacked(&bytes[..length], None).unwrap();
        }
    }
}
