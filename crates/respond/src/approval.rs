//! A question to people, and their answers.
//!
//! The one idea: who agreed is data, with rules that don't bend. Nobody counts twice, one "no" ends it, a
//! question has an end, and what needs two people with strong identities is refused until identities
//! are strong: a session cookie is not a person.

use cordon_model::approval::{Needs, Night};
use cordon_model::finding::Level;
use cordon_model::ids::{ApprovalId, FindingId, IncidentId, MachineId, MeasureId, OrderId};
use cordon_model::order::{Approver, Instruction};
use cordon_model::time::UtcNanos;
use serde::{Deserialize, Serialize};

/// How sure the hub is of who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// An account of the system, at the hub's command line: several people may hold it, and one may hold
    /// several.
    Account,
    /// A signed-in session.
    Session,
    /// A signature, by a key that the person holds, over this very question.
    Strong,
}

/// One person's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Who.
    pub person: Approver,
    /// How sure that is.
    pub identity: Identity,
    /// Yes or no.
    pub is_approved: bool,
    /// When.
    pub at: UtcNanos,
}

/// Where a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApprovalState {
    /// Waits for people.
    Open,
    /// Enough people agreed.
    Approved,
    /// Somebody said no.
    Declined,
    /// Nobody answered, or not enough; or nobody has to any more: see [`Approval::withdrawn`].
    Expired,
}

/// A question to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Its id.
    pub id: ApprovalId,
    /// Which machine it is about.
    pub machine: MachineId,
    /// What would be done.
    pub instruction: Instruction,
    /// What would be done besides with the same answer.
    #[serde(default)]
    pub also: Vec<Instruction>,
    /// Who has to agree.
    pub needs: Needs,
    /// Why people are asked, in words.
    pub why: String,
    /// The story.
    pub incident: Option<IncidentId>,
    /// What gave rise to it.
    pub finding: Option<FindingId>,
    /// How serious that is.
    #[serde(default)]
    pub level: Option<Level>,
    /// The measure of the policy's that its machine did not carry out, or not on all of it, because no order
    /// may: that is why people are asked.
    #[serde(default)]
    pub refused: Option<MeasureId>,
    /// Who asks; `None`: the policy.
    pub asked_by: Option<String>,
    /// When.
    pub asked_at: UtcNanos,
    /// Until when.
    pub expires_at: UtcNanos,
    /// What people said.
    pub answers: Vec<Answer>,
    /// How often its story had brought something new about the machine when it was asked: see
    /// [`Grouping::news_of`](crate::grouping::Grouping::news_of). A no covers no more than that.
    #[serde(default)]
    pub news: u32,
    /// Its place in all that was asked and answered about its machine: it counts up with each question and each
    /// answer, so that what is later is known without any clock. 0: kept by a version that did not count.
    #[serde(default)]
    pub turn: u64,
    /// What was found while it was open and is not in its words: a no to it does not cover that, which is asked
    /// about at once after it. At most [`SINCE_PER_QUESTION`], and one of all beyond.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub since: Vec<Since>,
    /// Until when a no to it holds, by the hub's clock: what it covers is not asked again until then. `None`: nobody
    /// said no, or an earlier version kept it.
    #[serde(default)]
    pub no_until: Option<UtcNanos>,
    /// Where it is.
    pub state: ApprovalState,
    /// Why nobody has to answer it any more, in words; `None`: it waits, was answered, or its time is over.
    #[serde(default)]
    pub withdrawn: Option<String>,
    /// The signer did not sign all that follows from people's yes, or from nobody's answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_in_vain: bool,
    /// The release of its machine that people wished for while it was open: once that is signed, nobody has to
    /// answer it any more. What is found after they wished is asked about by another question.
    #[serde(default)]
    pub released_by: Option<OrderId>,
}

/// What the policy would have asked about something that was found while a question for as much was open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Since {
    /// The story that it belongs to.
    pub incident: Option<IncidentId>,
    /// What would be done.
    pub instruction: Instruction,
    /// What would be done besides.
    pub also: Vec<Instruction>,
    /// The most serious of what was found.
    pub finding: FindingId,
    /// How serious that is.
    pub level: Level,
    /// Why people would be asked, in words, of [`NAMED_SINCE`] at most: of the first, the most serious before them.
    pub whys: Vec<String>,
    /// How many were found beyond those.
    pub more: u32,
    /// How often the story had brought something new about the machine by then: see [`Approval::news`].
    pub news: u32,
}

/// Stories and isolations of one machine about which more was found while one question was open: 8 of about 1 KB. One
/// more place is for all that is beyond.
pub const SINCE_PER_QUESTION: usize = 8;

/// Findings of one kind that are named one by one, as much as a person reads before deciding.
pub const NAMED_SINCE: usize = 3;

impl Since {
    /// Takes one more reason. One that is more serious than all before is named first; of more than `most` the last
    /// ones are only counted.
    pub(crate) fn names(&mut self, why: String, of: (FindingId, Level), most: usize) {
        let (finding, level) = of;
        if level > self.level {
            (self.finding, self.level) = (finding, level);
            self.whys.insert(0, why);
        } else {
            self.whys.push(why);
        }
        let named = self.whys.len().min(most);
        let beyond = self.whys.drain(named..).count();
        self.more = self.more.saturating_add(u32::try_from(beyond).unwrap_or(u32::MAX));
    }

    /// Whether a reason is not in the words, of `most` at most, and would be: several that come in one moment are one
    /// news. Of what is counted only nobody knows whether it was counted already: so the first of it counts, or
    /// whatever matches again and again would be counted, and kept, each time.
    pub(crate) fn lacks(&self, why: &str, level: Level, most: usize) -> bool {
        let is_named = self.whys.iter().any(|named| named.contains(why));
        !is_named && (self.whys.len() < most || self.more == 0 || level > self.level)
    }

    /// What was found, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        let more = (self.more > 0).then(|| format!("and {} more", self.more));
        let words: Vec<&str> =
            self.whys.iter().map(String::as_str).chain(more.as_deref()).collect();
        words.join("; ")
    }
}

/// Why an answer was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AnswerRefused {
    /// It is answered, or nobody answered in time.
    #[error("the question is closed ({0:?}); if it still matters, ask again")]
    Closed(ApprovalState),
    /// Nobody has to answer it any more.
    #[error("the question was withdrawn: {why}; if it still matters, ask again")]
    Withdrawn {
        /// Why.
        why: String,
    },
    /// One person is one voice.
    #[error("{name} has answered already; another person must agree")]
    Twice {
        /// Who.
        name: String,
    },
    /// Nothing reaches it any more.
    #[error(
        "this machine was struck off: nothing that is ordered for it arrives there. What is in force on it only \
         a break-glass code opens, or a hand at it; to bring it back, enrol it anew"
    )]
    StruckOff,
    /// There is no room for one more question.
    #[error("too many questions about this machine are open: answer some first")]
    TooMany,
    /// Not they, at this hour.
    #[error("at this hour only these may say yes to it: {}; anybody may say no", people.join(", "))]
    Night {
        /// Who may.
        people: Vec<String>,
    },
    /// An account is not a person.
    #[error(
        "this needs {needs}, and an account of the system is nobody's own: sign in to the console and say \
         yes there"
    )]
    NeedsSession {
        /// Who has to agree.
        needs: Needs,
    },
    /// A session is not enough here.
    #[error("this needs {needs}, which this version can't check yet")]
    NeedsStrongIdentity {
        /// Who has to agree.
        needs: Needs,
    },
}

impl Approval {
    /// Takes a person's answer. Who asked may answer, and counts once like anybody else. In the `night` only
    /// whom it names may say yes.
    ///
    /// # Errors
    /// See [`AnswerRefused`]; nothing changes then.
    pub fn answer(
        &mut self,
        person: &Approver,
        identity: Identity,
        is_approved: bool,
        night: Option<&Night>,
        now: UtcNanos,
    ) -> Result<ApprovalState, AnswerRefused> {
        if let Some(why) = &self.withdrawn {
            return Err(AnswerRefused::Withdrawn { why: why.clone() });
        }
        if self.state != ApprovalState::Open {
            return Err(AnswerRefused::Closed(self.state));
        }
        // What follows from that is not this call's: see [`Approval::expire`].
        if now >= self.expires_at {
            return Err(AnswerRefused::Closed(ApprovalState::Expired));
        }
        if self.answers.iter().any(|answer| answer.person.name == person.name) {
            return Err(AnswerRefused::Twice { name: person.name.clone() });
        }
        // A "no" is always taken: stopping needs no proof.
        if is_approved && self.needs == Needs::TwoKeysOneClinical && identity < Identity::Strong {
            return Err(AnswerRefused::NeedsStrongIdentity { needs: self.needs });
        }
        if is_approved && self.needs > Needs::OnePerson && identity < Identity::Session {
            return Err(AnswerRefused::NeedsSession { needs: self.needs });
        }
        if is_approved && !may_say_yes(night, person) {
            let people = night.map(|night| night.people.clone()).unwrap_or_default();
            return Err(AnswerRefused::Night { people });
        }
        self.answers.push(Answer { person: person.clone(), identity, is_approved, at: now });
        if is_approved {
            self.judge(night);
        } else {
            self.state = ApprovalState::Declined;
        }
        Ok(self.state)
    }

    /// Judges what people said anew, as if the last yes had just come: what is asked has become less. Whether
    /// it is enough by now.
    pub fn judge_again(&mut self, night: Option<&Night>, now: UtcNanos) -> bool {
        if self.state == ApprovalState::Open && self.withdrawn.is_none() && now < self.expires_at {
            self.judge(night);
            return self.state == ApprovalState::Approved;
        }
        false
    }

    fn judge(&mut self, night: Option<&Night>) {
        // A yes of the evening is none of the night's, and one that would be refused now is none: the signer
        // judges all of them when it signs.
        let least = proof_of_a_yes(self.needs);
        let yes = self.answers.iter().filter(|answer| answer.is_approved);
        let yes = yes.filter(|yes| yes.identity >= least && may_say_yes(night, &yes.person));
        let yes: Vec<Approver> = yes.map(|answer| answer.person.clone()).collect();
        if is_enough(self.needs, &yes) {
            self.state = ApprovalState::Approved;
        }
    }

    /// Notes that the time is over. Whether it just became so.
    pub fn expire(&mut self, now: UtcNanos) -> bool {
        let is_over = self.state == ApprovalState::Open && now >= self.expires_at;
        if is_over {
            self.state = ApprovalState::Expired;
        }
        is_over
    }

    /// Takes back the yes of somebody who may not say it any more. Whether there was one.
    pub fn take_back_yes(&mut self, person: &str) -> bool {
        let before = self.answers.len();
        self.answers.retain(|answer| !answer.is_approved || answer.person.name != person);
        self.answers.len() < before
    }

    /// Takes it back: nobody has to answer it any more, and `why` is said to whoever looks.
    pub fn withdraw(&mut self, why: &str) {
        self.state = ApprovalState::Expired;
        self.withdrawn = Some(why.to_owned());
    }

    /// Whether people said yes and a clinical one of them is missing still.
    #[must_use]
    pub fn lacks_a_clinical_one(&self) -> bool {
        let yes = self.approvers();
        let is_open = self.state == ApprovalState::Open && !yes.is_empty();
        let has_one = yes.iter().any(|person| person.is_clinical);
        is_open && self.needs.asks_for_a_clinical_one() && !has_one
    }

    /// Who said no, and when.
    #[must_use]
    pub fn no(&self) -> Option<&Answer> {
        self.answers.iter().rev().find(|answer| !answer.is_approved)
    }

    /// Who agreed.
    #[must_use]
    pub fn approvers(&self) -> Vec<Approver> {
        let yes = self.answers.iter().filter(|answer| answer.is_approved);
        yes.map(|answer| answer.person.clone()).collect()
    }
}

/// Whether somebody may say yes at this hour.
fn may_say_yes(night: Option<&Night>, person: &Approver) -> bool {
    night.is_none_or(|night| night.people.contains(&person.name))
}

/// How sure it has to be who says yes.
fn proof_of_a_yes(needs: Needs) -> Identity {
    match needs {
        Needs::OnePerson => Identity::Account,
        Needs::TwoPeople | Needs::TwoPeopleOneClinical => Identity::Session,
        Needs::TwoKeysOneClinical => Identity::Strong,
    }
}

/// Whether `people` are who is needed; somebody named twice is one person.
#[must_use]
pub fn is_enough(needs: Needs, people: &[Approver]) -> bool {
    let mut names: Vec<&str> = people.iter().map(|person| person.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let named = names.iter().filter(|name| !name.is_empty()).count();
    match needs {
        Needs::OnePerson => named >= 1,
        Needs::TwoPeople => named >= 2,
        Needs::TwoPeopleOneClinical | Needs::TwoKeysOneClinical => {
            let is_clinical = |person: &Approver| person.is_clinical && !person.name.is_empty();
            named >= 2 && people.iter().any(is_clinical)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3600);

    fn question(needs: Needs) -> Approval {
        let at = UtcNanos::from_unix_nanos(0);
        Approval {
            id: ApprovalId::new(at, [1; 10]),
            machine: MachineId::new(at, [2; 10]),
            instruction: Instruction::Release,
            also: Vec::new(),
            needs,
            why: "test".into(),
            incident: None,
            finding: None,
            level: None,
            refused: None,
            asked_by: Some("ann".into()),
            asked_at: at,
            expires_at: at.plus(HOUR),
            answers: vec![],
            news: 0,
            turn: 0,
            since: Vec::new(),
            no_until: None,
            state: ApprovalState::Open,
            withdrawn: None,
            is_in_vain: false,
            released_by: None,
        }
    }

    fn person(name: &str, is_clinical: bool) -> Approver {
        Approver { name: name.into(), is_clinical }
    }

    const NOW: UtcNanos = UtcNanos::from_unix_nanos(1);

    #[test]
    fn one_person_is_enough_where_one_is_needed() {
        let mut question = question(Needs::OnePerson);
        let answer = question.answer(&person("ann", false), Identity::Session, true, None, NOW);
        assert_eq!(answer, Ok(ApprovalState::Approved));
        let late = question.answer(&person("bob", false), Identity::Session, false, None, NOW);
        assert_eq!(late, Err(AnswerRefused::Closed(ApprovalState::Approved)));
    }

    #[test]
    fn nobody_counts_twice_and_one_of_two_must_be_clinical() {
        let mut question = question(Needs::TwoKeysOneClinical);
        let mut yes = |name, clinical| {
            question.answer(&person(name, clinical), Identity::Strong, true, None, NOW)
        };
        assert_eq!(yes("ann", false), Ok(ApprovalState::Open));
        assert_eq!(yes("ann", true), Err(AnswerRefused::Twice { name: "ann".into() }));
        assert_eq!(yes("bob", false), Ok(ApprovalState::Open), "two, and none is clinical");
        assert_eq!(yes("cat", true), Ok(ApprovalState::Approved));
    }

    #[test]
    fn two_sessions_are_not_two_people() {
        let mut question = question(Needs::TwoKeysOneClinical);
        let answer = question.answer(&person("ann", true), Identity::Session, true, None, NOW);
        assert!(matches!(answer, Err(AnswerRefused::NeedsStrongIdentity { .. })));
        let no = question.answer(&person("ann", true), Identity::Session, false, None, NOW);
        assert_eq!(no, Ok(ApprovalState::Declined), "a no is always taken");
    }

    #[test]
    fn at_night_only_the_named_say_yes_and_anybody_says_no() {
        let night = Night {
            from: "20:00".into(),
            until: "08:00".into(),
            time_zone: "Europe/London".into(),
            tiers: vec![],
            people: vec!["cat".into()],
        };
        let question = question(Needs::OnePerson);
        let answer = |name, is_approved| {
            let person = person(name, false);
            question.clone().answer(&person, Identity::Session, is_approved, Some(&night), NOW)
        };
        assert_eq!(answer("ann", true), Err(AnswerRefused::Night { people: vec!["cat".into()] }));
        assert_eq!(answer("ann", false), Ok(ApprovalState::Declined));
        assert_eq!(answer("cat", true), Ok(ApprovalState::Approved));
    }

    #[test]
    fn a_question_has_an_end() {
        let mut question = question(Needs::OnePerson);
        let late = UtcNanos::from_unix_nanos(0).plus(HOUR);
        let answer = question.answer(&person("ann", true), Identity::Session, true, None, late);
        assert_eq!(answer, Err(AnswerRefused::Closed(ApprovalState::Expired)));
    }
}
