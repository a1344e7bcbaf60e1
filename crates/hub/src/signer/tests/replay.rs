//! What an earlier version of the signer left on its disk, when this one starts.

use cordon_respond::clock::Moment;
use cordon_respond::signer_core::REMEMBERED_IDS_AHEAD;
use serde_bytes::ByteArray;

use super::super::journal::Journal;
use super::super::leave::Leave;
use super::super::state::{Input, SignerState};
use super::*;

/// A day of 2026.
const NOW_MILLIS: u64 = 1_790_000_000_000;
/// A day of 2250.
const FAR_MILLIS: u64 = 8_836_000_000_000;

fn of_millis(millis: u64) -> UtcNanos {
    UtcNanos::from_unix_nanos(i64::try_from(millis * 1_000_000).unwrap())
}

/// So late that people's brake has let go of the one before.
fn moment(number: u64) -> Moment {
    Moment {
        boot: BootId("boot".into()),
        at: BootNanos(number * 20_000_000_000),
        utc: of_millis(NOW_MILLIS),
        trusted_utc: None,
    }
}

fn release_of(millis: u64) -> Proposal {
    let id = OrderId::new(of_millis(millis), [1; 10]);
    Proposal { id, ..by_people(1, 1, Instruction::Release) }
}

/// All of these were sealed and are with the machine: set back, its next order would be an old one there, and no
/// release would open it.
#[tokio::test]
async fn an_update_takes_back_no_order_that_was_sealed_whatever_this_version_would_refuse() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, _) = Running::start(directory.path()).await;
    signer.stop().await;
    let first = || SignerState::new(Policy::default_for(rj1()), &moment(0));
    let (mut journal, _) = Journal::open(directory.path(), first).unwrap();
    let mut note = |number: u64, input| {
        journal.note(input, &moment(number), vec![[7; 16]], true).unwrap();
    };
    note(
        0,
        Input::Assign {
            draft: Box::new(assignment(1, Some(ClinicalTier::None))),
            receipt_key: Some(ByteArray::new([1; 32])),
            by: Some(ada()),
            leave: Leave::Keeper,
        },
    );
    let ahead = REMEMBERED_IDS_AHEAD as u64 + 20;
    for number in 1..=ahead {
        note(number, Input::Sign(Box::new(release_of(FAR_MILLIS + number))));
    }
    // As if an earlier version had let the policy do what it asks about now.
    note(ahead + 1, Input::Sign(Box::new(by_policy(2, 1))));
    journal.flush().unwrap();
    drop(journal);

    let (signer, client) = Running::start(directory.path()).await;
    let next = client.sign(by_people(3, 1, Instruction::Release)).await.unwrap();
    assert_eq!(next.sequence, ahead + 2);
    // A new one that is so far ahead is still not taken.
    let refused = refusal(client.sign(release_of(FAR_MILLIS + 9_999)).await);
    assert_eq!(refused, Refusal::UsedId);
    let next = client.sign(by_people(4, 1, Instruction::Release)).await.unwrap();
    assert_eq!(next.sequence, ahead + 3, "a refusal takes no sequence");
    signer.stop().await;
}
