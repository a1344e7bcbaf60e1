//! How many receipts one message takes.
//!
//! The one idea: receipts wait on disk until the agent has them, and they are told oldest first. If they don't
//! go into one message together, the rest follows when these are taken; and one that would fill a message by
//! itself is told without what shows it, rather than stand in the way of all that come after it.

use std::collections::VecDeque;

use cordon_model::limits;
use cordon_model::measure::Receipt;

use super::super::protocol::Receipts;

/// Half a message: the rest is for what is around them.
const BYTES: usize = limits::MESSAGE_BYTES / 2;

/// The oldest of `waiting` that go into one message; `first` is the number of the first.
pub(super) fn batch(first: u64, waiting: &VecDeque<Receipt>) -> Receipts {
    let mut room = BYTES;
    let mut receipts = Vec::new();
    for receipt in waiting {
        let length = length_of(receipt);
        if length <= room {
            room -= length;
            receipts.push(receipt.clone());
            continue;
        }
        if receipts.is_empty() {
            tracing::error!(length, measure = %receipt.measure, "a receipt is too long: it is told in part");
            receipts.push(in_part(receipt, length));
        }
        break;
    }
    Receipts { first, receipts }
}

fn in_part(receipt: &Receipt, length: usize) -> Receipt {
    let left_out = format!("what shows this measure is {length} bytes long, and left out here");
    Receipt { proof: None, done: vec![left_out], ..receipt.clone() }
}

fn length_of(receipt: &Receipt) -> usize {
    let mut bytes = Vec::new();
    // Writing to memory fails for no type of the wire; what did would have no room.
    ciborium::into_writer(receipt, &mut bytes).map_or(usize::MAX, |()| bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_link::frame;
    use cordon_model::action::Action;
    use cordon_model::ids::{MachineId, MeasureId, OrderId};
    use cordon_model::measure::{Isolation, MeasureState, Origin, Proof};
    use cordon_model::time::{BootId, BootNanos, UtcNanos};

    use super::super::super::protocol::{Event, FromHelper, MESSAGE_BYTES};

    fn receipt(number: u8, bytes: usize) -> Receipt {
        let start = UtcNanos::from_unix_nanos(0);
        let proof = Proof {
            table_handle: None,
            is_read_back: true,
            probes: Vec::new(),
            unproven: vec!["x".repeat(bytes)],
            at: BootNanos(0),
        };
        Receipt {
            machine: MachineId::new(start, [1; 10]),
            measure: MeasureId::new(start, [number; 10]),
            origin: Origin::Order(OrderId::new(start, [number; 10])),
            action: Action::Isolate(Isolation::Full),
            state: MeasureState::Verified,
            proof: Some(proof),
            lease_ends: None,
            boot: BootId("boot".into()),
            at_boot: BootNanos(0),
            at: start,
            sockets_cut: 0,
            done: Vec::new(),
            spared: Vec::new(),
        }
    }

    #[test]
    fn receipts_that_go_into_no_message_together_are_told_one_message_after_another() {
        let mut waiting: VecDeque<Receipt> =
            (0..100).map(|number| receipt(number, 65 << 10)).collect();
        // One that no message takes stands in nobody's way.
        waiting[40] = receipt(40, 2 << 20);
        let (mut told, mut first) = (Vec::new(), 7);
        while !waiting.is_empty() {
            let batch = batch(first, &waiting);
            assert_eq!(batch.first, first);
            assert!(!batch.receipts.is_empty());
            let event = FromHelper::Event(Event::Receipts(batch.clone()));
            assert!(frame::encode(&event, MESSAGE_BYTES).is_ok());
            waiting.drain(..batch.receipts.len());
            first += batch.receipts.len() as u64;
            told.extend(batch.receipts);
        }
        let measures: Vec<_> = told.iter().map(|receipt| receipt.measure).collect();
        let meant: Vec<_> = (0..100).map(|number| receipt(number, 0).measure).collect();
        assert_eq!(measures, meant);
        assert!(told[40].proof.is_none() && told[40].done[0].contains("left out"));
        assert!(told[41].proof.is_some());
    }
}
