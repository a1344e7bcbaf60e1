//! Carrying an isolation out on this machine, and showing it.
//!
//! The order is: one transaction, read back (the moment that counts for "in force"), cut what is open,
//! probe. Nothing here decides; [`super::helper`] does what the decided state says.

use cordon_model::asset::Assignment;
use cordon_model::ids::MeasureId;
use cordon_model::measure::{Isolation, Proof};

use super::intent::Intent;
use super::moment::boot_time;
use super::netlink::NetlinkError;
use super::nft::Table;
use super::probe::{Probes, probe};
use super::ruleset::{TooScattered, ruleset};
use super::sockets::{Sockets, own_addresses};
use super::table::{InForce, Tables};

/// Why an isolation could not be carried out. The kernel is then as it was before.
#[derive(Debug, thiserror::Error)]
pub enum EnforceError {
    /// The kernel's word.
    #[error(transparent)]
    Kernel(#[from] NetlinkError),
    /// The lifelines.
    #[error(transparent)]
    Lifelines(#[from] TooScattered),
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforced {
    /// What shows it.
    pub proof: Proof,
    /// Connections that were closed.
    pub sockets_cut: u32,
}

/// The means of containment in one network namespace.
#[derive(Debug)]
pub struct Enforcer {
    tables: Tables,
    sockets: Sockets,
    agent_user: u32,
    /// What the kernel was last shown to hold, as meant.
    shown: Option<InForce>,
}

impl Enforcer {
    /// Opens the means of this thread's network namespace, for an agent that runs as `agent_user`.
    ///
    /// # Errors
    /// Without root, or in a kernel without nftables.
    pub fn open(agent_user: u32) -> Result<Self, NetlinkError> {
        Ok(Self { tables: Tables::open()?, sockets: Sockets::open()?, agent_user, shown: None })
    }

    /// Puts `isolation` in force in place of any before, and shows it. A table that is there already
    /// just as meant (after a restart of the helper) is left alone.
    ///
    /// # Errors
    /// [`EnforceError`]; the kernel is then as it was.
    pub fn enforce(
        &mut self,
        measure: MeasureId,
        isolation: Isolation,
        assignment: &Assignment,
    ) -> Result<Enforced, EnforceError> {
        let intent = Intent::new(isolation, assignment, self.agent_user);
        let Some(meant) = ruleset(&intent, measure)? else {
            let mut proof = self.restore()?;
            proof.unproven = probe(&intent).unproven;
            return Ok(Enforced { proof, sockets_cut: 0 });
        };
        let mut found = self.tables.read_back()?;
        if found.as_ref().map(|found| &found.table) != Some(&meant) {
            self.tables.replace(&meant)?;
            found = self.tables.read_back()?;
        }
        let at = boot_time();
        let mut unproven = Vec::new();
        let sockets_cut = self.sockets.cut(&intent, &own_addresses()).unwrap_or_else(|error| {
            unproven.push(format!("open connections may not all be cut: {error}"));
            0
        });
        if self.tables.has_flow_tables().unwrap_or(true) {
            unproven.push(
                "forwarded connections that another table's flow table carries may go on".into(),
            );
        }
        let Probes { tried, unproven: not_tried } = probe(&intent);
        unproven.extend(not_tried);
        let proof = Proof {
            table_handle: found.as_ref().map(|found| found.handle),
            is_read_back: is_as_meant(found.as_ref(), &meant),
            probes: tried,
            unproven,
            at,
        };
        self.shown = found.filter(|_| proof.is_read_back);
        Ok(Enforced { proof, sockets_cut })
    }

    /// Takes Cordon's table away, and nothing else, and shows that it is gone.
    ///
    /// # Errors
    /// What the kernel says; then it is as it was.
    pub fn restore(&mut self) -> Result<Proof, NetlinkError> {
        // Nothing is written where nothing is: others would be told of a change that was none.
        let is_gone = if self.tables.read_back()?.is_none() {
            true
        } else {
            self.tables.remove()?;
            self.tables.read_back()?.is_none()
        };
        self.shown = None;
        Ok(Proof {
            table_handle: None,
            is_read_back: is_gone,
            probes: Vec::new(),
            unproven: Vec::new(),
            at: boot_time(),
        })
    }

    /// Whether the kernel still holds what it was shown to hold, to the handle; `None` if nothing was
    /// ever shown.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn is_still_in_force(&mut self) -> Result<Option<bool>, NetlinkError> {
        let Some(shown) = &self.shown else { return Ok(None) };
        Ok(Some(self.tables.read_back()?.as_ref() == Some(shown)))
    }

    /// Whether the kernel holds `isolation` just as it is meant.
    ///
    /// # Errors
    /// [`EnforceError`] when it can't be said.
    pub fn holds(
        &mut self,
        measure: MeasureId,
        isolation: Isolation,
        assignment: &Assignment,
    ) -> Result<bool, EnforceError> {
        let meant = ruleset(&Intent::new(isolation, assignment, self.agent_user), measure)?;
        let found = self.tables.read_back()?.map(|found| found.table);
        Ok(found == meant)
    }

    /// Whether a table of Cordon's name is in the kernel, whatever it holds.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn holds_any(&mut self) -> Result<bool, NetlinkError> {
        Ok(self.tables.read_back()?.is_some())
    }
}

fn is_as_meant(found: Option<&InForce>, meant: &Table) -> bool {
    found.is_some_and(|found| found.table == *meant)
}
