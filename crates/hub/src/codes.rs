//! Break-glass codes, as far as the hub is concerned: it has them made in time, brings their hashes to the
//! machines, and writes down who was shown codes. It never sees one.

use cordon_model::ids::MachineId;
use cordon_model::record::{Actor, Deed, Record};
use cordon_model::time::UtcNanos;
use cordon_store::{Change, Key, Role};

use crate::assigning::{from_signer, text};
use crate::error::HubError;
use crate::handle::Hub;
use crate::people::Who;
use crate::run::Shared;
use crate::signer::ClientError;
use crate::signer::codes::{Asker, ROWS, SHOWN_PER_ANSWER, Shown};
use crate::work::Input;

/// Machines for which codes are made in one round of a minute: 60, so that the signer hashes for at most half
/// of the time (behind everything else), and a hospital of 5,000 machines has its codes in an hour and a half.
const MADE_PER_ROUND: usize = 60;

/// The setting that holds the number of the last showing that was written down.
const SHOWN: &str = "codes-shown";

impl Shared {
    /// Makes sure that a machine has codes, and is sent their hashes.
    pub async fn codes_of(&self, machine: MachineId) {
        match self.codes.codes(machine).await {
            Ok(document) => self.tell(Input::Coded(Box::new(document))).await,
            Err(error) => {
                self.board.note_held_up(&error, UtcNanos::now());
                tracing::warn!(%machine, %error, "no break-glass codes yet; asking again in a minute");
            }
        }
    }

    /// One round: what is due is made, what is new is sent, what was shown is written down.
    pub async fn look_after_codes(&self) {
        if let Err(error) = self.renew_due_codes().await {
            self.board.note_held_up(&error, UtcNanos::now());
            tracing::warn!(%error, "break-glass codes are not looked after; again in a minute");
        }
        if let Err(error) = self.write_down_shown_codes().await {
            tracing::warn!(%error, "who was shown break-glass codes is written down later");
        }
    }

    async fn renew_due_codes(&self) -> Result<(), ClientError> {
        let (mut after, mut due) = (None, Vec::new());
        loop {
            let rows = self.codes.codes_rows(after).await?;
            after = rows.last().map(|row| row.machine);
            let is_last = rows.len() < ROWS;
            for row in rows {
                let (machine, revision) = (row.machine, row.revision);
                let mut is_wanted = false;
                self.board.change(machine, |card| {
                    is_wanted = !card.is_struck_off && (row.is_due || card.codes_kept < revision);
                    card.codes = Some(row);
                });
                if is_wanted && due.len() < MADE_PER_ROUND {
                    due.push(machine);
                }
            }
            if is_last || after.is_none() {
                break;
            }
        }
        for machine in due {
            if *self.stop.borrow() {
                break;
            }
            let document = self.codes.codes(machine).await?;
            self.tell(Input::Coded(Box::new(document))).await;
        }
        Ok(())
    }

    async fn write_down_shown_codes(&self) -> Result<(), HubError> {
        let key = Key::new(&self.organisation.code, SHOWN.to_owned());
        let kept = self.store.setting(&key).await?;
        let mut after = kept.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?)));
        loop {
            let known = after.unwrap_or(0);
            let shown = self.codes.codes_shown(known).await.map_err(from_signer)?;
            let Some(last) = shown.last() else { return Ok(()) };
            let last = last.number;
            let is_all = shown.len() < SHOWN_PER_ANSWER;
            let records: Vec<Record> = shown.into_iter().map(|one| self.record_of(one)).collect();
            let value = Some(last.to_be_bytes().to_vec());
            // The number and the records in one transaction: each is written down once.
            self.deed(move |step| {
                step.changes.push(Change::Setting { name: SHOWN.to_owned(), value });
                records.into_iter().for_each(|record| step.record(record));
            })
            .await?;
            after = Some(last);
            if is_all {
                return Ok(());
            }
        }
    }

    fn record_of(&self, shown: Shown) -> Record {
        let what = shown.code.map_or("a sheet of codes was printed".to_owned(), |code| {
            format!("code number {code} was read out")
        });
        let detail = format!("{what} for {}: {}", shown.by.name, shown.by.reason);
        Record {
            at: shown.at,
            machine: Some(shown.machine),
            ..self.record(Actor::Signer, Deed::CodesShown, detail)
        }
    }
}

impl Hub {
    /// Has other break-glass codes made for a machine: for when somebody knows the present ones who should
    /// not. The old ones open it until the machine has heard of the new.
    ///
    /// # Errors
    /// [`HubError::Refused`] or [`HubError::SignerAway`].
    pub async fn renew_codes(
        &self,
        machine: MachineId,
        reason: &str,
        who: &Who,
    ) -> Result<(), HubError> {
        who.must(Role::Administrator)?;
        let reason = text("reason", reason)?;
        self.card(machine)?;
        let by = Asker { name: who.name().to_owned(), reason: reason.clone() };
        let made = self.shared.codes.renew_codes(machine, by).await;
        let made = made.map_err(|error| self.shared.told_by_signer(error))?;
        let detail = format!("revision {}: {reason}", made.revision);
        let record = Record {
            machine: Some(machine),
            ..self.shared.record(who.actor(), Deed::CodesSigned, detail)
        };
        self.deed(move |step| {
            step.outputs = step.core.coded(&made);
            step.record(record);
        })
        .await
    }
}
