//! Break-glass codes at the signer: made once, shown to root alone, nowhere on disk, in the ledger.

use std::os::unix::fs::PermissionsExt as _;

use cordon_code::slow_hash;
use cordon_model::break_glass::{BreakGlassTerms, Hashing};
use cordon_respond::clock::Moment;
use cordon_respond::signer_core::CodeFate;

use super::super::codes::{Asker, CodesAsk};
use super::super::protocol::{Answer, Request};
use super::super::{Desk, Peer};
use super::process::start_child;
use super::*;

fn nurse() -> Asker {
    Asker { name: "night sister, ward 7".into(), reason: "CT for the trauma room".into() }
}

/// Costs that a test can pay.
async fn with_cheap_codes(client: &Client) {
    let hashing = Hashing { memory_kib: 256, passes: 1, lanes: 1 };
    let break_glass = BreakGlassTerms { hashing, ..BreakGlassTerms::default() };
    let policy = Policy { break_glass, ..Policy::default_for(rj1()) };
    client.set_policy(policy, ada()).await.unwrap();
}

fn sheet_of(number: u8) -> CodesAsk {
    CodesAsk::Sheet { machine: machine(number), by: nurse() }
}

fn read_one(number: u8) -> CodesAsk {
    CodesAsk::ReadOne { machine: machine(number), by: nurse() }
}

#[tokio::test]
async fn what_is_printed_is_what_the_machine_has_the_hashes_of() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    with_cheap_codes(&client).await;
    for number in [1, 2] {
        assign(&client, number, ClinicalTier::None).await;
    }
    let document = client.codes(machine(1)).await.unwrap();
    assert_eq!(client.codes(machine(1)).await.unwrap(), document, "asked again: the same");
    let sheet = client.show_codes(sheet_of(1)).await.unwrap();
    assert_eq!((sheet.codes.len(), sheet.revision), (6, document.revision));
    assert_eq!((sheet.name.as_str(), sheet.codes[0].2), ("pc-1", CodeFate::Good));
    for (number, clear, _) in &sheet.codes {
        let hash = slow_hash(&document, &clear.code().unwrap()).unwrap();
        assert_eq!(document.number_of(&hash), Some(*number));
    }
    // The other machine's are others.
    client.codes(machine(2)).await.unwrap();
    let other = client.show_codes(sheet_of(2)).await.unwrap();
    let hash = slow_hash(&document, &other.codes[0].1.code().unwrap()).unwrap();
    assert_eq!(document.number_of(&hash), None);
    signer.stop().await;
}

#[tokio::test]
async fn codes_outlive_kill_9_and_lie_in_clear_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("signer.sock");
    let mut child = start_child("child_signer", directory.path(), None);
    let client = reach(&socket).await;
    with_cheap_codes(&client).await;
    assign(&client, 1, ClinicalTier::None).await;
    let document = client.codes(machine(1)).await.unwrap();
    let sheet = client.show_codes(sheet_of(1)).await.unwrap();
    let read = client.show_codes(read_one(1)).await.unwrap();
    assert_eq!(read.codes, sheet.codes[..1]);
    child.kill().unwrap();
    child.wait().unwrap();
    let mut child = start_child("child_signer", directory.path(), None);
    reach(&socket).await;
    assert_eq!(client.codes(machine(1)).await.unwrap(), document);
    let next = client.show_codes(read_one(1)).await.unwrap();
    assert_eq!(next.codes[0].0, 2, "the first was read out already");
    child.kill().unwrap();
    child.wait().unwrap();
    // Every file that the signer has.
    let mut waiting = vec![directory.path().to_owned()];
    let mut files = 0;
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() {
            files += 1;
            let bytes = std::fs::read(&path).unwrap();
            for (_, clear, _) in &sheet.codes {
                let code = clear.code().unwrap();
                for text in [code.characters(), code.grouped()] {
                    let is_there = bytes.windows(text.len()).any(|part| part == text.as_bytes());
                    assert!(!is_there, "a code in clear in {}", path.display());
                }
            }
        }
    }
    assert!(files >= 5, "{files}");
    let key = std::fs::metadata(directory.path().join("break-glass.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o077, 0);
}

#[tokio::test]
async fn who_was_shown_codes_and_why_is_in_the_ledger_and_told_to_the_hub() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, client) = Running::start(directory.path()).await;
    with_cheap_codes(&client).await;
    assign(&client, 1, ClinicalTier::None).await;
    client.codes(machine(1)).await.unwrap();
    client.show_codes(sheet_of(1)).await.unwrap();
    client.show_codes(read_one(1)).await.unwrap();
    let shown = client.codes_shown(0).await.unwrap();
    assert_eq!(shown.iter().map(|one| one.code).collect::<Vec<_>>(), [None, Some(1)]);
    assert_eq!(client.codes_shown(shown[1].number).await.unwrap(), []);
    let row = client.codes_rows(None).await.unwrap().remove(0);
    assert!(row.printed_at.is_some() && row.fates[0] == CodeFate::Read);
    signer.stop().await;
    let told = own_records(directory.path());
    let told: Vec<_> = told.iter().filter(|record| record.deed == Deed::CodesShown).collect();
    assert_eq!(told.len(), 2);
    for record in told {
        assert_eq!(record.machine, Some(machine(1)));
        assert!(record.detail.contains("night sister") && record.detail.contains("trauma"));
    }
}

#[test]
fn the_hub_itself_is_never_shown_a_code() {
    let directory = tempfile::tempdir().unwrap();
    let now = Moment {
        boot: BootId("a".into()),
        at: BootNanos(0),
        utc: UtcNanos::now(),
        trusted_utc: None,
    };
    let mut desk = Desk::open(directory.path(), &rj1(), &now).unwrap();
    let draft = Box::new(Assignment { group: None, ..assignment(1, None) });
    desk.answer(Request::Assign { draft, receipt_key: None, by: Some(ada()) }, &now).unwrap();
    let ask = CodesAsk::Document(machine(1));
    let making = desk.codes_to_make(&ask, &now).unwrap().unwrap().unwrap();
    let made = making.hash().unwrap();
    let signed = desk.answer_to(Peer::Hub, Request::Codes(ask), Some(made), &now).unwrap();
    assert!(matches!(signed, Answer::Document(_)), "the hashes are for it to bring");
    for ask in [sheet_of(1), read_one(1)] {
        let refused = desk.answer(Request::Codes(ask.clone()), &now).unwrap();
        assert_eq!(refused, Answer::Refused(Refused::NotForTheHub));
        let shown = desk.answer_to(Peer::Keeper, Request::Codes(ask), None, &now).unwrap();
        assert!(matches!(shown, Answer::Codes(_)));
        // And what is formatted for a log hides them.
        assert!(format!("{shown:?}").contains("hidden"));
    }
    // Nobody is shown codes without a name and a reason.
    let nobody = Asker { name: String::new(), reason: "because".into() };
    let ask = CodesAsk::ReadOne { machine: machine(1), by: nobody };
    let refused = desk.answer_to(Peer::Keeper, Request::Codes(ask), None, &now).unwrap();
    assert_eq!(refused, Answer::Refused(Refused::BadName));
}

#[test]
fn a_signer_that_lost_the_key_of_its_codes_makes_no_others_in_silence() {
    let directory = tempfile::tempdir().unwrap();
    let now = Moment {
        boot: BootId("a".into()),
        at: BootNanos(0),
        utc: UtcNanos::now(),
        trusted_utc: None,
    };
    let key = directory.path().join("break-glass.key");
    let open = || Desk::open(directory.path(), &rj1(), &now);
    drop(open().unwrap());
    // None were made yet: a signer of before there were codes makes its key now.
    std::fs::remove_file(&key).unwrap();
    let mut desk = open().unwrap();
    let draft = Box::new(Assignment { group: None, ..assignment(1, None) });
    desk.answer(Request::Assign { draft, receipt_key: None, by: Some(ada()) }, &now).unwrap();
    let ask = CodesAsk::Document(machine(1));
    let made = desk.codes_to_make(&ask, &now).unwrap().unwrap().unwrap().hash().unwrap();
    desk.answer_to(Peer::Hub, Request::Codes(ask), Some(made), &now).unwrap();
    desk.close().unwrap();
    std::fs::remove_file(&key).unwrap();
    assert!(open().is_err());
}
