//! Looking up the names of lifelines, here at the hub: when they are declared, every few minutes, and when
//! somebody asks.
//!
//! The one idea: what a new answer means is said by [`cordon_respond::names`]; what no person is needed for is
//! asked of the signer at once, and everything else waits for people where they look anyway. A look that
//! fails changes nothing but what is shown: that it failed, and since when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cordon_model::asset::Assignment;
use cordon_model::ids::MachineId;
use cordon_model::limits;
use cordon_model::named::{HostName, NamedDraft, is_peer};
use cordon_model::record::{Actor, Deed, Record};
use cordon_model::time::UtcNanos;
use cordon_respond::hub_core::{Notice, Output};
use cordon_respond::names::{self, ADDRESSES_PER_ANSWER, Pin};
use cordon_store::Role;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::assigning::{check_draft, text};
use crate::error::HubError;
use crate::handle::Hub;
use crate::people::Who;
use crate::run::{Shared, stopped};
use crate::view::{AssignmentDraft, NameNow};

/// How often names are looked up again: every 5 minutes, as long as common answers are good for.
const LOOK_EVERY: Duration = Duration::from_secs(5 * 60);

/// How long one look may take: 12 s. The system's resolver asks twice, 5 s each.
const ANSWER_WITHIN: Duration = Duration::from_secs(12);

/// Looks at one time. Each may block a thread for as long as the system's resolver likes.
const AT_ONCE: usize = 8;

/// What a look gave.
#[derive(Debug, Clone)]
struct Looked {
    at: UtcNanos,
    answer: Result<BTreeSet<IpAddr>, String>,
    answered_at: Option<UtcNanos>,
}

/// What names answered since the start.
#[derive(Debug)]
pub(crate) struct Names {
    looked: Mutex<BTreeMap<HostName, Looked>>,
    /// Of what people were told, so that they are told of it once.
    told: Mutex<BTreeMap<MachineId, BTreeSet<(HostName, IpAddr)>>>,
    seats: Arc<Semaphore>,
    round: tokio::sync::Mutex<()>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            looked: Mutex::default(),
            told: Mutex::default(),
            seats: Arc::new(Semaphore::new(AT_ONCE)),
            round: tokio::sync::Mutex::default(),
        }
    }
}

impl Names {
    /// Looks a name up, as this machine's system does: its hosts file, then its resolvers, both families.
    ///
    /// # Errors
    /// Why there is no address that could be another machine's, in words.
    async fn look_up(&self, host: &HostName) -> Result<BTreeSet<IpAddr>, String> {
        let late = |_| format!("no answer within {} s", ANSWER_WITHIN.as_secs());
        let seat = timeout(ANSWER_WITHIN, self.seats.clone().acquire_owned()).await;
        let seat = seat.map_err(late)?.map_err(|error| error.to_string())?;
        let (answer, answered) = oneshot::channel();
        let name = host.as_str().to_owned();
        // A thread of its own, which nobody waits for: the hub may stop while a resolver is silent.
        std::thread::Builder::new()
            .name("name-lookup".into())
            .spawn(move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                let found = found.map(|all| all.map(|one| one.ip().to_canonical()).collect());
                let _ = answer.send(found);
                drop(seat);
            })
            .map_err(|error| error.to_string())?;
        let answered = timeout(ANSWER_WITHIN, answered).await.map_err(late)?;
        let found: std::io::Result<BTreeSet<IpAddr>> =
            answered.map_err(|_| "the resolver's thread ended".to_owned())?;
        let found: BTreeSet<IpAddr> = found.map_err(|error| error.to_string())?;
        let found: BTreeSet<IpAddr> =
            found.into_iter().filter(|address| is_peer(*address)).collect();
        match found.len() {
            0 => Err("it has no address of another machine".to_owned()),
            1..=ADDRESSES_PER_ANSWER => Ok(found),
            more => {
                Err(format!("it has {more} addresses, and {ADDRESSES_PER_ANSWER} are looked at"))
            }
        }
    }

    /// The same, and remembers what it gave.
    async fn look(&self, host: &HostName) -> Result<BTreeSet<IpAddr>, String> {
        let answer = self.look_up(host).await;
        let at = UtcNanos::now();
        let mut looked = lock(&self.looked);
        let before = looked.get(host).and_then(|before| before.answered_at);
        let answered_at = if answer.is_ok() { Some(at) } else { before };
        looked.insert(host.clone(), Looked { at, answer: answer.clone(), answered_at });
        answer
    }

    fn looked(&self, host: &HostName) -> Option<Looked> {
        lock(&self.looked).get(host).cloned()
    }

    /// How the names of a machine are, for all that is known of them.
    pub fn now(&self, assignment: &Assignment) -> Vec<NameNow> {
        hosts(assignment).into_iter().map(|host| self.name_now(assignment, host)).collect()
    }

    fn name_now(&self, assignment: &Assignment, host: HostName) -> NameNow {
        let looked = self.looked(&host);
        let answer = looked.as_ref().and_then(|looked| looked.answer.as_ref().ok());
        let reading = names::read(assignment, &host, answer);
        // What is to be followed is not pinned yet: the signer is away, or asked just now.
        let to_confirm = reading.confirm.into_iter().collect();
        let of_host = assignment.names.iter().filter(|named| named.host == host);
        let pinned = of_host.clone().flat_map(|named| named.pinned(assignment));
        NameNow {
            called: of_host.clone().map(|named| named.name.clone()).collect(),
            within: of_host
                .flat_map(|named| named.within.iter().map(ToString::to_string))
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            pinned: pinned.collect::<BTreeSet<_>>().into_iter().collect(),
            looked_at: looked.as_ref().map(|looked| looked.at),
            answered_at: looked.as_ref().and_then(|looked| looked.answered_at),
            trouble: looked.and_then(|looked| looked.answer.err()),
            to_confirm,
            unanswered: reading.unanswered.into_iter().collect(),
            host,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hosts(assignment: &Assignment) -> BTreeSet<HostName> {
    assignment.names.iter().map(|named| named.host.clone()).collect()
}

impl Shared {
    /// The draft with every name in it resolved, or its addresses as the person gave them. What `before` has
    /// pinned for a name stays: an answer may be partial, and only a person who names an address drops it.
    pub async fn resolved(
        self: &Arc<Self>,
        mut draft: AssignmentDraft,
        machine: Option<MachineId>,
    ) -> Result<AssignmentDraft, HubError> {
        if draft.named.len() > limits::NAMES_PER_MACHINE {
            let why = format!("at most {} names are taken", limits::NAMES_PER_MACHINE);
            return Err(HubError::Invalid { what: "lifeline", why });
        }
        let asked: BTreeSet<HostName> = draft
            .named
            .iter()
            .filter(|named| named.at.is_empty())
            .map(|named| named.named.host.clone())
            .collect();
        let answers = self.look_at_all(asked).await;
        // Read only now: what was pinned while a resolver was slow counts too.
        let card = machine.and_then(|machine| self.board.card(machine));
        let before = card.as_ref().and_then(|card| card.assignment.as_deref());
        for NamedDraft { named, at, services } in std::mem::take(&mut draft.named) {
            let invalid = |why: String| HubError::Invalid { what: "lifeline", why };
            if services.is_empty() {
                return Err(invalid(format!("{}: no service is needed there", named.name)));
            }
            let known = before.into_iter().flat_map(|before| {
                let of_host = before.names.iter().filter(|known| known.host == named.host);
                of_host.flat_map(move |known| known.pinned(before))
            });
            let known: BTreeSet<IpAddr> = known.collect();
            let addresses: BTreeSet<IpAddr> = match answers.get(&named.host) {
                _ if !at.is_empty() => at.iter().map(IpAddr::to_canonical).collect(),
                Some(Ok(found)) => found.union(&known).copied().collect(),
                Some(Err(_)) | None if !known.is_empty() => known,
                other => {
                    let why = other.and_then(|answer| answer.as_ref().err());
                    return Err(invalid(format!(
                        "{} can't be resolved at the hub ({}): correct the name, or give its addresses",
                        named.host,
                        why.map_or("it was not looked up", String::as_str)
                    )));
                }
            };
            for address in &addresses {
                draft.lifelines.extend(services.iter().map(|one| one.at(*address, &named.name)));
            }
            draft.names.push(named);
        }
        Ok(draft)
    }

    async fn look_at_all(
        self: &Arc<Self>,
        hosts: BTreeSet<HostName>,
    ) -> BTreeMap<HostName, Result<BTreeSet<IpAddr>, String>> {
        let mut looking = JoinSet::new();
        for host in hosts {
            let shared = self.clone();
            looking.spawn(async move {
                let answer = shared.names.look(&host).await;
                (host, answer)
            });
        }
        let mut answers = BTreeMap::new();
        while let Some(looked) = looking.join_next().await {
            if let Ok((host, answer)) = looked {
                answers.insert(host, answer);
            }
        }
        answers
    }

    /// Looks at the names of one machine, or of all, and lets follow what follows.
    pub async fn look_at_names(self: &Arc<Self>, only: Option<MachineId>) {
        let _one_at_a_time = self.names.round.lock().await;
        let with_names: Vec<(MachineId, Arc<Assignment>)> = {
            let machines = self.board.machines();
            let known = machines
                .iter()
                .filter(|(id, card)| !card.is_struck_off && only.is_none_or(|only| only == **id));
            let assigned = known.filter_map(|(id, card)| Some((*id, card.assignment.clone()?)));
            assigned.filter(|(_, assignment)| !assignment.names.is_empty()).collect()
        };
        let all: BTreeSet<HostName> =
            with_names.iter().flat_map(|(_, assignment)| hosts(assignment)).collect();
        // Dropped when the hub stops: what was not looked at is looked at by the next.
        let mut stop = self.stop.clone();
        tokio::select! {
            _ = self.look_at_all(all) => {}
            () = stopped(&mut stop) => return,
        }
        for (machine, assignment) in with_names {
            self.follow_names(machine, &assignment).await;
        }
    }

    /// Has pinned what a person's signed bound allows, and shows the rest to people.
    async fn follow_names(&self, machine: MachineId, assignment: &Assignment) {
        for host in hosts(assignment) {
            let answer = self.names.looked(&host).and_then(|looked| looked.answer.ok());
            let follow = names::read(assignment, &host, answer.as_ref()).follow;
            if follow.is_empty() {
                continue;
            }
            let said =
                format!("{host} also answers with {}: within what was signed", list(&follow));
            let pin = Pin { host, add: follow, drop: BTreeSet::new(), signed_off_by: None };
            match self.pinned(machine, pin, Actor::Hub, said).await {
                Ok(_) => {}
                // People are asked, by what is shown.
                Err(HubError::Refused(why)) => {
                    tracing::warn!(%machine, %why, "an address is not followed");
                }
                Err(error) => {
                    tracing::warn!(%machine, %error, "names are not followed for now");
                    break;
                }
            }
        }
        self.show_names(machine).await;
    }

    /// Has it signed, sends it on its way, and writes it down.
    async fn pinned(
        &self,
        machine: MachineId,
        pin: Pin,
        actor: Actor,
        said: String,
    ) -> Result<Assignment, HubError> {
        let signed = self.documents.pin(machine, pin).await;
        let signed = signed.map_err(|error| self.told_by_signer(error))?;
        let record = Record { machine: Some(machine), ..self.record(actor, Deed::Assigned, said) };
        let assignment = (*signed).clone();
        self.deed(move |step| {
            step.assigned(&signed);
            step.record(record);
        })
        .await?;
        Ok(assignment)
    }

    /// Shows how a machine's names are, and tells people what they have to confirm, once.
    pub async fn show_names(&self, machine: MachineId) {
        let Some(assignment) = self.board.card(machine).and_then(|card| card.assignment) else {
            return;
        };
        let now = self.names.now(&assignment);
        let waits: BTreeSet<(HostName, IpAddr)> = now
            .iter()
            .flat_map(|name| name.to_confirm.iter().map(|(of, _)| (name.host.clone(), *of)))
            .collect();
        let hosts: BTreeSet<String> = waits.iter().map(|(host, _)| host.to_string()).collect();
        let new: BTreeMap<HostName, BTreeSet<IpAddr>> = {
            let mut told = lock(&self.names.told);
            let known = told.insert(machine, waits.clone()).unwrap_or_default();
            let mut new: BTreeMap<HostName, BTreeSet<IpAddr>> = BTreeMap::new();
            for (host, address) in waits.difference(&known).cloned() {
                new.entry(host).or_default().insert(address);
            }
            new
        };
        let mut commands = Vec::new();
        self.board.change(machine, |card| {
            card.names = now;
            let row = card.row(machine, UtcNanos::now());
            commands = row.to_confirm.iter().map(|waits| waits.command(&row)).collect();
        });
        if new.is_empty() {
            return;
        }
        let records: Vec<Record> = new
            .iter()
            .map(|(host, addresses)| {
                let said =
                    format!("{host} also answers with {}: for people to confirm", list(addresses));
                Record {
                    machine: Some(machine),
                    ..self.record(Actor::Hub, Deed::NameChanged, said)
                }
            })
            .collect();
        let names = hosts.into_iter().collect();
        // A hub that is ending has said it to nobody; the next one looks, and says it.
        let _ = self
            .deed(move |step| {
                step.outputs.push(Output::Tell(Notice::NameMoved { machine, names, commands }));
                records.into_iter().for_each(|record| step.record(record));
            })
            .await;
    }
}

fn list(addresses: &BTreeSet<IpAddr>) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Looks at names until the hub stops.
pub(crate) async fn looking_at_names(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stop = shared.stop.clone();
    loop {
        tokio::select! {
            _ = every.tick() => shared.look_at_names(None).await,
            () = stopped(&mut stop) => return,
        }
    }
}

/// Names of lifelines.
impl Hub {
    /// Looks at the names of one machine's lifelines, or of all, now.
    ///
    /// # Errors
    /// [`HubError::Missing`], [`HubError::NotAllowed`].
    pub async fn look_at_names(
        &self,
        machine: Option<MachineId>,
        who: &Who,
    ) -> Result<(), HubError> {
        who.must(Role::Responder)?;
        if let Some(machine) = machine {
            self.card(machine)?;
        }
        self.shared.look_at_names(machine).await;
        Ok(())
    }

    /// The addresses of a name now, as this hub's machine resolves it.
    ///
    /// # Errors
    /// [`HubError::Invalid`] if it has none.
    pub async fn addresses_of(&self, host: &HostName, who: &Who) -> Result<Vec<IpAddr>, HubError> {
        who.must(Role::Responder)?;
        let found = self.shared.names.look_up(host).await;
        let found = found.map_err(|why| HubError::Invalid { what: "name", why })?;
        Ok(found.into_iter().collect())
    }

    /// How the names of a machine's lifelines are.
    ///
    /// # Errors
    /// [`HubError::Missing`].
    pub fn names(&self, machine: MachineId) -> Result<Vec<NameNow>, HubError> {
        let card = self.card(machine)?;
        Ok(card.assignment.map(|assignment| self.shared.names.now(&assignment)).unwrap_or_default())
    }

    /// Confirms addresses of a name: those in `add` are kept alive too, those in `drop` no more.
    /// `signed_off_by` accepts the risk where a port that intruders move by is needed; `None`: whoever
    /// confirms.
    ///
    /// # Errors
    /// [`HubError::Refused`] with the signer's reason.
    pub async fn confirm_addresses(
        &self,
        machine: MachineId,
        pin: Pin,
        who: &Who,
    ) -> Result<Assignment, HubError> {
        who.must(Role::Administrator)?;
        self.card(machine)?;
        let by = pin.signed_off_by.as_deref().unwrap_or(who.name());
        let by = text("name of who signs it off", by)?;
        let mut said = format!("{}, signed off by {by}", pin.host);
        for (what, which) in [("pinned too", &pin.add), ("kept no more", &pin.drop)] {
            if !which.is_empty() {
                said += &format!("; {what}: {}", list(which));
            }
        }
        let pin = Pin { signed_off_by: Some(by), ..pin };
        let assignment = self.shared.pinned(machine, pin, who.actor(), said).await?;
        self.shared.show_names(machine).await;
        Ok(assignment)
    }

    /// The lifelines that would be signed for `draft`, with its names resolved now.
    ///
    /// # Errors
    /// As [`Hub::assign`].
    pub async fn would_assign(
        &self,
        machine: MachineId,
        draft: AssignmentDraft,
        who: &Who,
    ) -> Result<Assignment, HubError> {
        who.must(Role::Administrator)?;
        self.card(machine)?;
        self.shared.drafted(machine, draft).await
    }

    /// What would be signed of a machine that enrols with a token for `draft`. Its name is empty if none is
    /// said, and whose it is and where it hears its hub are left open.
    ///
    /// # Errors
    /// As [`Hub::create_enrolment_token`].
    pub async fn would_enrol(
        &self,
        draft: AssignmentDraft,
        who: &Who,
    ) -> Result<Assignment, HubError> {
        who.must(Role::Administrator)?;
        let draft = self.shared.resolved(draft, None).await?;
        let organisation = self.shared.organisation.code.clone();
        check_draft(&organisation, &draft)?;
        let nobody = MachineId::new(UtcNanos::from_unix_nanos(0), [0; 10]);
        Ok(Assignment {
            tier: draft.tier,
            kind: draft.kind,
            group: draft.group,
            lifelines: draft.lifelines,
            names: draft.names,
            protected: draft.protected.unwrap_or_default(),
            watched: draft.watched.unwrap_or_default(),
            ..Assignment::of(organisation, nobody, draft.name.unwrap_or_default())
        })
    }
}
