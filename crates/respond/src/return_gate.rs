//! Whether an isolated machine may return to service: what is met, and what is missing.
//!
//! The one idea: the gate is a pure reading of what was kept and what is seen now, so it can't be opened by
//! doing things in another order, and **nothing that is bad news ever opens it**. It forbids nothing: people
//! may release despite it, with a reason, at once.
//!
//! What was said before counts only within the present isolation: a word on the last outbreak says nothing
//! of this one. One isolation reaches from when the machine was last shown open to now, whatever took each
//! other's place meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use cordon_model::action::Action;
use cordon_model::asset::ClinicalTier;
use cordon_model::gate::{Looked, Need, ReturnTerms, Said, Statement};
use cordon_model::ids::{IncidentId, MeasureId};
use cordon_model::measure::{Isolation, MeasureState};
use cordon_model::record::Actor;
use cordon_model::time::UtcNanos;
use serde::{Deserialize, Serialize};

use crate::eliminate::age;

/// A machine that people isolated, and on which nothing was found, is released without being asked for
/// anything for so long: whoever typed the wrong name takes it back by one command. After an hour it was no
/// slip, and whoever isolated it had a reason that Cordon does not know.
pub const SLIP_WITHIN: Duration = Duration::from_secs(3600);

/// For that, so far back nothing may have been found on it.
pub const SLIP_LOOKS_BACK: Duration = Duration::from_secs(30 * 24 * 3600);

/// What the gate is judged by.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The policy's terms.
    pub terms: &'a ReturnTerms,
    /// Its tier, an unknown one as what it counts as.
    pub tier: ClinicalTier,
    /// What isolates it; `None`: nothing does.
    pub spell: Option<Spell>,
    /// How many findings that count the hub has of it.
    pub findings: u64,
    /// When the newest of them was received.
    pub last_finding: Option<UtcNanos>,
    /// The incidents that a look has to be about.
    pub incidents: &'a [IncidentId],
    /// What was shown and said of it, oldest first.
    pub statements: &'a [Statement],
    /// How it is now.
    pub seen: Seen,
    /// Now.
    pub now: UtcNanos,
}

/// One isolation, from when the machine was last open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spell {
    /// Since when; `None`: nobody knows.
    pub since: Option<UtcNanos>,
    /// All that isolates it now was ordered by people.
    pub is_by_people: bool,
}

/// How a machine is now, as the hub hears it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// When it was last heard; `None`: it is not in contact.
    pub heard: Option<UtcNanos>,
    /// Why nobody knows what is in force on it.
    pub unknown: Option<String>,
    /// Measures that are not proven.
    pub unproven: Vec<String>,
    /// Measures that are proven.
    pub proven: usize,
    /// What its agent can't see at all; `None`: it has not said what it sees.
    pub blind: Option<Vec<String>>,
    /// When something was last not seen that should have been.
    pub gap_at: Option<UtcNanos>,
    /// Events that its agent lost since its start.
    pub lost: Option<u64>,
}

/// The gate of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Why nothing is asked, if so.
    pub nothing_asked: Option<String>,
    /// What is asked, in the order in which people come to it.
    pub needs: Vec<Asked>,
}

/// One thing that is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// What.
    pub need: Need,
    /// Whether it is met.
    pub is_met: bool,
    /// What shows it, or what is missing.
    pub because: String,
    /// Whether only the word of somebody who is signed in to the console counts for it.
    pub by_name: bool,
}

impl Gate {
    /// Whether the machine may return.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.nothing_asked.is_some() || self.needs.iter().all(|asked| asked.is_met)
    }

    /// What is missing.
    pub fn missing(&self) -> impl Iterator<Item = &Asked> {
        let is_asked = self.nothing_asked.is_none();
        self.needs.iter().filter(move |asked| is_asked && !asked.is_met)
    }
}

impl Asked {
    /// What meets it, on the machine that people call `name`: a command, or where it is done.
    #[must_use]
    pub fn command(&self, name: &str) -> String {
        match self.need {
            Need::Clean => format!(
                "cordon eliminate {name} --verify; what is gone already, or yours: cordon eliminate {name} \
                 --ours STEP --reason \"...\""
            ),
            Need::Patched => {
                format!("cordon gate {name} --patched \"what was closed, and how you know\"")
            }
            Need::Probed => format!("cordon gate {name}"),
            Need::SignedOff if self.by_name => {
                format!("signed in by name, on the console: {name}'s page, \"Sign off its return\"")
            }
            Need::SignedOff => format!("cordon gate {name} --sign-off \"why it may return\""),
        }
    }
}

/// Judges.
#[must_use]
pub fn gate(facts: &Facts<'_>) -> Gate {
    let said = Counted::of(facts);
    let mut needs: Vec<Need> = Need::ALL.to_vec();
    needs.retain(|need| facts.terms.needs.contains(need));
    let needs = needs
        .into_iter()
        .map(|need| {
            let judged = match need {
                Need::Clean => clean(facts, &said),
                Need::Patched => patched(facts, &said),
                Need::Probed => probed(facts, &said),
                Need::SignedOff => signed_off(facts, &said),
            };
            let is_met = judged.is_ok();
            let because = judged.unwrap_or_else(|missing| missing);
            let by_name = need == Need::SignedOff && takes_another(facts);
            Asked { need, is_met, because, by_name }
        })
        .collect();
    Gate { nothing_asked: nothing_asked(facts), needs }
}

fn nothing_asked(facts: &Facts<'_>) -> Option<String> {
    let Some(spell) = facts.spell else {
        return Some("nothing isolates it that anybody knows of".to_owned());
    };
    if facts.terms.needs.is_empty() {
        return Some("the policy asks for nothing".to_owned());
    }
    let since = spell.since?;
    let looks_back = i64::try_from(SLIP_LOOKS_BACK.as_nanos()).unwrap_or(i64::MAX);
    let back = UtcNanos::from_unix_nanos(since.unix_nanos().saturating_sub(looks_back));
    let is_new = facts.now >= since && facts.now.since(since) <= SLIP_WITHIN;
    let is_bare = facts.last_finding.is_none_or(|last| last < back);
    (spell.is_by_people && is_new && is_bare).then(|| {
        format!(
            "people isolated it {} ago, and nothing was found on it in 30 days: a slip is taken back by one \
             command",
            age(facts.now, since)
        )
    })
}

/// What of all that was said counts now.
struct Counted<'a> {
    /// The newest look, with its place.
    looked: Option<(usize, &'a Statement, &'a Looked)>,
    patched: Option<(usize, &'a Statement, &'a str)>,
    signed_off: Option<(usize, &'a Statement, &'a str)>,
    /// Who said or did anything but sign off.
    others: BTreeSet<&'a str>,
}

impl<'a> Counted<'a> {
    fn of(facts: &Facts<'a>) -> Self {
        let mut counted =
            Self { looked: None, patched: None, signed_off: None, others: BTreeSet::new() };
        let since = facts.spell.and_then(|spell| spell.since);
        for (place, statement) in facts.statements.iter().enumerate() {
            if since.is_some_and(|since| statement.at < since) {
                continue;
            }
            match &statement.said {
                Said::Looked(looked) => counted.looked = Some((place, statement, looked)),
                Said::Patched { reason } => {
                    counted.patched = Some((place, statement, reason));
                    counted.others.extend(name_of(&statement.by));
                }
                Said::SignedOff { reason } => {
                    counted.signed_off = Some((place, statement, reason));
                }
                Said::Ordered { .. } | Said::Accepted { .. } => {
                    counted.others.extend(name_of(&statement.by));
                }
                // It is on its way back: what was said so far has been used.
                Said::Returned { .. } => {}
            }
        }
        counted
    }
}

fn name_of(actor: &Actor) -> Option<&str> {
    match actor {
        Actor::Person(name) | Actor::LocalOperator(name) => Some(name),
        Actor::Policy(_) | Actor::Hub | Actor::Signer | Actor::Agent(_) => None,
    }
}

/// What shows it, or what is missing.
type Judged = Result<String, String>;

fn is_fresh(facts: &Facts<'_>, statement: &Statement) -> Result<(), String> {
    let counts_for = Duration::from_secs(facts.terms.counts_for_seconds.into());
    if statement.at > facts.now || facts.now.since(statement.at) > counts_for {
        return Err(format!(
            "too old: it was {} ago, and counts for {}",
            age(facts.now, statement.at),
            span(counts_for)
        ));
    }
    Ok(())
}

fn clean(facts: &Facts<'_>, said: &Counted<'_>) -> Judged {
    let Some((_, statement, looked)) = said.looked else {
        return Err("nobody has looked again since it was isolated".to_owned());
    };
    let ago = age(facts.now, statement.at);
    if statement.findings != facts.findings {
        return Err("something was found on it since it was looked at".to_owned());
    }
    if !looked.is_clean {
        let first = looked.left.first().map_or("", String::as_str);
        return Err(format!(
            "looked at {ago} ago by {}: {} left or not known, first: {first}",
            statement.who(),
            looked.left_of
        ));
    }
    let looks_back = facts.spell.and_then(|spell| spell.since);
    let is_found = |last: UtcNanos| looks_back.is_none_or(|at| last.plus(SLIP_LOOKS_BACK) >= at);
    if looked.incidents.is_empty() && facts.last_finding.is_some_and(is_found) {
        return Err("the last look was about no incident, and there are findings: look again with --incident"
            .to_owned());
    }
    if !facts.incidents.iter().all(|incident| looked.incidents.contains(incident)) {
        return Err("the last look was not about all of its incidents".to_owned());
    }
    is_fresh(facts, statement)?;
    Ok(format!(
        "looked at {ago} ago ({}) for {}: nothing is left; {}",
        statement.at,
        statement.who(),
        looked.looked_at.join("; ")
    ))
}

fn patched(facts: &Facts<'_>, said: &Counted<'_>) -> Judged {
    let Some((_, statement, reason)) = said.patched else {
        return Err(
            "nobody has said that what let the intruder in is closed (Cordon does not look at patches)"
                .to_owned(),
        );
    };
    is_fresh(facts, statement)?;
    Ok(format!(
        "by the word of {}, {} ago ({}): {reason}",
        statement.who(),
        age(facts.now, statement.at),
        statement.at
    ))
}

fn probed(facts: &Facts<'_>, said: &Counted<'_>) -> Judged {
    let seen = &facts.seen;
    let Some(heard) = seen.heard else {
        return Err("it is not in contact".to_owned());
    };
    let mut against = Vec::new();
    if let Some(why) = &seen.unknown {
        against.push(format!("what is in force on it is not known: {why}"));
    }
    against.extend(seen.unproven.iter().map(|what| format!("not proven: {what}")));
    match &seen.blind {
        None => against.push("its agent has not said what it sees".to_owned()),
        Some(blind) => {
            against.extend(blind.iter().map(|what| format!("its agent does not see {what}")))
        }
    }
    // What was not seen since the look may be what comes back.
    let looked = said.looked.map(|(_, statement, looked)| (statement.at, looked.lost));
    let since = looked.map(|(at, _)| at).or(facts.spell.and_then(|spell| spell.since));
    if let Some(gap) = seen.gap_at
        && since.is_none_or(|since| gap >= since)
    {
        against.push(format!(
            "something was not seen {} ago, since the last look",
            age(facts.now, gap)
        ));
    }
    match (seen.lost, looked.and_then(|(_, lost)| lost)) {
        (None, _) => against.push("it has not said how many events it lost".to_owned()),
        (Some(now), Some(then)) if now > then => {
            against.push(format!("{} events were lost since the last look", now - then));
        }
        _ => {}
    }
    if against.is_empty() {
        Ok(format!(
            "heard {} ago; its helper answers, {} measures proven, its sensors run, nothing lost since the \
             last look",
            age(facts.now, heard),
            seen.proven
        ))
    } else {
        Err(against.join("; "))
    }
}

fn signed_off(facts: &Facts<'_>, said: &Counted<'_>) -> Judged {
    let Some((place, statement, reason)) = said.signed_off else {
        return Err(match takes_another(facts) {
            true => format!(
                "nobody has signed off; for this machine ({}) it takes somebody else than who did the rest",
                facts.tier
            ),
            false => "nobody has signed off".to_owned(),
        });
    };
    let by = statement.who();
    if statement.findings != facts.findings {
        return Err(format!("something was found on it since {by} signed off"));
    }
    let asks = |need| facts.terms.needs.contains(&need);
    let is_before = |earlier: Option<usize>| earlier.is_some_and(|earlier| earlier > place);
    if asks(Need::Clean) && is_before(said.looked.map(|(place, ..)| place)) {
        return Err(format!("it was looked at after {by} signed off: sign off again"));
    }
    if asks(Need::Patched) && is_before(said.patched.map(|(place, ..)| place)) {
        return Err(format!("\"patched\" was said after {by} signed off: sign off again"));
    }
    if (asks(Need::Clean) && said.looked.is_none())
        || (asks(Need::Patched) && said.patched.is_none())
    {
        return Err(format!("{by} signed off before all else was there: sign off again"));
    }
    is_fresh(facts, statement)?;
    if takes_another(facts) {
        if !matches!(statement.by, Actor::Person(_)) {
            return Err(format!(
                "{by} signed off on the command line, which does not count for this machine ({}): it takes \
                 somebody who is signed in by name, on the console",
                facts.tier
            ));
        }
        if said.others.contains(by) {
            return Err(format!(
                "{by} signed off and did the rest too; for this machine ({}) it takes somebody else, signed in \
                 by name, on the console",
                facts.tier
            ));
        }
    }
    let ago = age(facts.now, statement.at);
    Ok(format!("by {by}, {ago} ago ({}): {reason}", statement.at))
}

/// Whether somebody else signs off than who did the rest, by name.
fn takes_another(facts: &Facts<'_>) -> bool {
    facts.terms.another_signs_off.contains(&facts.tier)
}

fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

/// A measure, as far as the present isolation is told from it.
#[derive(Debug, Clone)]
pub struct Isolating<'a> {
    /// Which.
    pub measure: MeasureId,
    /// What it does.
    pub action: &'a Action,
    /// What it is.
    pub state: &'a MeasureState,
    /// Since when, by the hub's clock.
    pub since: UtcNanos,
}

/// Since when a machine is isolated without a break: from the first isolation after it was last shown open.
/// A lease that ended, or a measure that another took the place of, opened nothing; a *watch* is open.
#[must_use]
pub fn isolated_since<'a>(measures: impl IntoIterator<Item = Isolating<'a>>) -> Option<UtcNanos> {
    let isolations: Vec<(Isolation, Isolating<'_>)> = measures
        .into_iter()
        .filter_map(|one| Some((one.action.isolation()?, one)))
        .filter(|(_, one)| !matches!(one.state, MeasureState::Failed { .. }))
        .collect();
    let opened = isolations
        .iter()
        .filter(|(isolation, one)| {
            *isolation == Isolation::Watch || *one.state == MeasureState::Released
        })
        .map(|(_, one)| one.since)
        .max();
    let began = isolations
        .iter()
        .filter(|(isolation, one)| {
            // A measure that was released is of an earlier one, however finely the clocks tell.
            *isolation > Isolation::Watch && *one.state != MeasureState::Released
        })
        // Its name can say a time of its machine's clock: it began no later than the hub knew of it.
        .map(|(_, one)| one.measure.made_at().min(one.since))
        .filter(|at| opened.is_none_or(|opened| *at > opened))
        .min();
    // What still stands began no later than itself: a machine's word that another measure was released must
    // not make an old isolation a new one.
    let standing = isolations
        .iter()
        .filter(|(isolation, one)| *isolation > Isolation::Watch && !one.state.is_over())
        .map(|(_, one)| one.measure.made_at().min(one.since))
        .min();
    let since = began.or(opened)?;
    Some(standing.map_or(since, |standing| since.min(standing)))
}

#[cfg(test)]
mod tests;
