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
use super::probe::{Probes, probe};
use super::ruleset::{TooScattered, ruleset};
use super::sockets::{Cut, Sockets, own_addresses};
use super::table::Tables;
use super::tracked::Tracked;
use super::upheld::Upheld;

pub use super::upheld::{Mark, Standing};

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
    upheld: Upheld,
    sockets: Sockets,
    tracked: Tracked,
    agent_user: u32,
}

impl Enforcer {
    /// Opens the means of this thread's network namespace, for an agent that runs as `agent_user`.
    ///
    /// # Errors
    /// Without root, or in a kernel without nftables.
    pub fn open(agent_user: u32) -> Result<Self, NetlinkError> {
        let (upheld, sockets) = (Upheld::new(Tables::open()?), Sockets::open()?);
        Ok(Self { upheld, sockets, tracked: Tracked::open()?, agent_user })
    }

    /// The number by which the kernel's notifications tell what was done from here.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn port(&self) -> Result<u32, NetlinkError> {
        self.upheld.tables.port()
    }

    /// The agent's user.
    #[must_use]
    pub fn agent_user(&self) -> u32 {
        self.agent_user
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
            proof.unproven = probe(&intent, &own_addresses()).unproven;
            return Ok(Enforced { proof, sockets_cut: 0 });
        };
        let put = self.upheld.put(&meant)?;
        let mut unproven: Vec<String> = put.unread.iter().map(ToString::to_string).collect();
        let at = boot_time();
        let own = own_addresses();
        let tracked = &mut self.tracked;
        let cut = self.sockets.cut(|connection| {
            !intent.keeps(connection, &own)
                && !tracked.is_redirected_lifeline(&intent.lifelines, connection)
        });
        let Cut { closed: sockets_cut, left } = cut;
        unproven.extend(left.map(|why| format!("open connections may not all be cut: {why}")));
        if self.upheld.tables.has_flow_tables().unwrap_or(true) {
            unproven.push(
                "forwarded connections that another table's flow table carries may go on".into(),
            );
        }
        let Probes { tried, unproven: not_tried } = probe(&intent, &own);
        unproven.extend(not_tried);
        let proof = Proof {
            table_handle: put.handle,
            is_read_back: put.is_as_meant,
            probes: tried,
            unproven,
            at,
        };
        Ok(Enforced { proof, sockets_cut })
    }

    /// Takes Cordon's table away, and nothing else, and shows that it is gone.
    ///
    /// # Errors
    /// What the kernel says; then it is as it was.
    pub fn restore(&mut self) -> Result<Proof, NetlinkError> {
        let is_gone = self.upheld.remove()?;
        Ok(Proof {
            table_handle: None,
            is_read_back: is_gone,
            probes: Vec::new(),
            unproven: Vec::new(),
            at: boot_time(),
        })
    }

    /// Puts the table back if it is gone, and says whether it was: the shortest way, still to be shown by
    /// [`Enforcer::enforce`].
    ///
    /// # Errors
    /// What the kernel says.
    pub fn put_back(&mut self) -> Result<bool, NetlinkError> {
        self.upheld.put_back()
    }

    /// How what is in the kernel now compares with what was put there last.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn standing(&mut self) -> Result<Standing, NetlinkError> {
        self.upheld.standing()
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
        let found = self.upheld.tables.read_back()?.map(|found| found.table);
        Ok(found == meant)
    }

    /// By what the table is known again that was put there last, as it was meant.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        self.upheld.mark()
    }

    /// The same of what is in the kernel now.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn found(&mut self) -> Result<Option<Mark>, NetlinkError> {
        self.upheld.found()
    }

    /// Whether a table of Cordon's name is in the kernel, whatever it holds.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn holds_any(&mut self) -> Result<bool, NetlinkError> {
        Ok(self.upheld.tables.read_back()?.is_some())
    }
}
