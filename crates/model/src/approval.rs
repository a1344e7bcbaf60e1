//! Who is asked, for how long, who may say yes at night, and what follows when nobody answers.
//!
//! The one idea: these terms are data in the signed policy, and they only ever ask for more than the laws
//! do. Releasing and taking back are not touched by them: opening is never made harder.

use std::collections::BTreeSet;
use std::fmt;

use jiff::civil::Time;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::asset::ClinicalTier;
use crate::limits;
use crate::time::UtcNanos;

/// Who has to agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Needs {
    /// One person.
    OnePerson,
    /// Two people.
    TwoPeople,
    /// Two people, one of them clinical.
    TwoPeopleOneClinical,
    /// Two people, one of them clinical, each proven by a key of their own.
    TwoKeysOneClinical,
}

impl Needs {
    /// Who has to agree to contain a machine of `tier` at least (law 3).
    #[must_use]
    pub fn to_contain(tier: ClinicalTier) -> Self {
        match tier {
            ClinicalTier::None | ClinicalTier::Supports | ClinicalTier::Clinical => Self::OnePerson,
            ClinicalTier::LifeSustaining => Self::TwoKeysOneClinical,
        }
    }

    /// Who has to agree to `action` on a machine of `tier` at least: as many as to contain it, and two
    /// where what is inside a process is read, for it may be anything.
    #[must_use]
    pub fn to_do(action: &Action, tier: ClinicalTier) -> Self {
        let to_look_inside =
            if action.looks_into_a_process() { Self::TwoPeople } else { Self::OnePerson };
        to_look_inside.max(Self::to_contain(tier))
    }

    /// How many people that is.
    #[must_use]
    pub fn count(self) -> usize {
        match self {
            Self::OnePerson => 1,
            Self::TwoPeople | Self::TwoPeopleOneClinical | Self::TwoKeysOneClinical => 2,
        }
    }

    /// Whether one of them must be clinical.
    #[must_use]
    pub fn asks_for_a_clinical_one(self) -> bool {
        matches!(self, Self::TwoPeopleOneClinical | Self::TwoKeysOneClinical)
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnePerson => "one person",
            Self::TwoPeople => "two people",
            Self::TwoPeopleOneClinical => "two people, one of them clinical",
            Self::TwoKeysOneClinical => {
                "two people, one of them clinical, each by a key of their own"
            }
        })
    }
}

/// What follows when a question's time is over and nobody has answered it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unanswered {
    /// It is asked again, as long as it matters.
    #[default]
    AskAgain,
    /// A machine of tier 0 or 1 is segmented, within the budget, as mode `act` would have done at once. All
    /// else is asked again.
    Segment,
}

/// How many people a tier needs, where that is more than the law says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeedsMore {
    /// The tiers that it is for.
    pub tiers: Vec<ClinicalTier>,
    /// Who has to agree to contain one of them, or to stop anything on it.
    pub needs: Needs,
}

/// The hours in which only some may say yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Night {
    /// When it begins, `20:00`.
    pub from: String,
    /// When it ends, `08:00`; before `from`: on the next day.
    pub until: String,
    /// Whose clock: a name of the IANA time zone database, as `Europe/London`. It follows summer time.
    pub time_zone: String,
    /// The tiers that it is for.
    pub tiers: Vec<ClinicalTier>,
    /// The sign-in names of who may say yes then.
    pub people: Vec<String>,
}

/// Who is asked, for how long, and what follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApprovalTerms {
    /// Seconds that a question stays open. After that the situation is another one.
    pub open_for_seconds: u32,
    /// Seconds after which people are told again of a question that is still open.
    pub remind_seconds: u32,
    /// What follows when nobody answered.
    pub unanswered: Unanswered,
    /// Seconds for which a no holds: for so long what people said no to is not asked again when it is found again.
    // Left out where it is what it is without being said, so that agents of before read the policy.
    #[serde(skip_serializing_if = "is_usual_hold")]
    pub no_holds_for_seconds: u32,
    /// Who is needed beyond what the laws say.
    // Left out where it is empty, so that `[[approval.needs]]` can be added to what is printed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<NeedsMore>,
    /// Who may say yes at night; `None`: whoever may by day.
    pub night: Option<Night>,
}

impl Default for ApprovalTerms {
    /// Four hours, a night doctor's reach and the length of a default lease; told again every quarter of an
    /// hour; asked again when nobody answered.
    fn default() -> Self {
        Self {
            open_for_seconds: 4 * 3600,
            remind_seconds: 15 * 60,
            unanswered: Unanswered::AskAgain,
            no_holds_for_seconds: NO_HOLDS_FOR_SECONDS,
            needs: Vec::new(),
            night: None,
        }
    }
}

/// Twelve hours, the longest shift: whoever comes next is asked for themselves.
const NO_HOLDS_FOR_SECONDS: u32 = 12 * 3600;

fn is_usual_hold(seconds: &u32) -> bool {
    *seconds == NO_HOLDS_FOR_SECONDS
}

/// A question that is open for less is none: a person has to read it, and may have to ring somebody.
const LEAST_OPEN_SECONDS: u32 = 60;
/// After a week nobody knows what was meant.
const MOST_OPEN_SECONDS: u32 = 7 * 24 * 3600;
/// Reminders closer together than a minute would be switched off by whoever gets them.
const LEAST_REMIND_SECONDS: u32 = 60;

/// Why terms of approval can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadApprovalTerms {
    /// Too short or too long.
    #[error(
        "a question can't be open for {0} s: {LEAST_OPEN_SECONDS} to {MOST_OPEN_SECONDS} are taken"
    )]
    OpenFor(u32),
    /// Too often.
    #[error("people can't be told again every {0} s: {LEAST_REMIND_SECONDS} or more are taken")]
    Remind(u32),
    /// Too short or too long.
    #[error("a no can't hold for {0} s: {LEAST_OPEN_SECONDS} to {MOST_OPEN_SECONDS} are taken")]
    NoHolds(u32),
    /// Nobody could ever fulfil it.
    #[error(
        "keys can't be asked for below tier 3: this version can't check them, so nobody could ever say yes; ask \
         for two-people-one-clinical"
    )]
    NeedsStrongIdentity,
    /// No time of day.
    #[error("{0:?} is no time of day: write it as 20:00")]
    Time(String),
    /// No hours.
    #[error("a night from {0} until {0} has no end")]
    Endless(String),
    /// No such zone.
    #[error("{0:?} is no time zone: write it as Europe/London")]
    TimeZone(String),
    /// Nobody could say yes.
    #[error("at night {needs} must be able to say yes, and {named} are named")]
    TooFewAtNight {
        /// Who is needed.
        needs: Needs,
        /// How many are named, each counted once.
        named: usize,
    },
    /// More than there is room for.
    #[error(
        "more than {} people or parts, or a name of over {} bytes",
        limits::NIGHT_PEOPLE,
        limits::NAME_BYTES
    )]
    TooMany,
}

impl ApprovalTerms {
    /// Who has to agree, where the laws ask for `by_law`, on a machine of `tier`.
    #[must_use]
    pub fn needs(&self, by_law: Needs, tier: ClinicalTier) -> Needs {
        let more = self.needs.iter().filter(|more| more.tiers.contains(&tier));
        more.map(|more| more.needs).max().map_or(by_law, |more| more.max(by_law))
    }

    /// The night, if `now` is in it for a machine of `tier`.
    #[must_use]
    pub fn night_of(&self, tier: ClinicalTier, now: UtcNanos) -> Option<&Night> {
        self.night.as_ref().filter(|night| night.tiers.contains(&tier) && night.is_at(now))
    }

    /// Whether these terms can be kept.
    ///
    /// # Errors
    /// The first that can't, in words.
    pub fn check(&self) -> Result<(), BadApprovalTerms> {
        if !(LEAST_OPEN_SECONDS..=MOST_OPEN_SECONDS).contains(&self.open_for_seconds) {
            return Err(BadApprovalTerms::OpenFor(self.open_for_seconds));
        }
        if self.remind_seconds < LEAST_REMIND_SECONDS {
            return Err(BadApprovalTerms::Remind(self.remind_seconds));
        }
        if !(LEAST_OPEN_SECONDS..=MOST_OPEN_SECONDS).contains(&self.no_holds_for_seconds) {
            return Err(BadApprovalTerms::NoHolds(self.no_holds_for_seconds));
        }
        let asks_for_keys = |more: &NeedsMore| {
            more.needs == Needs::TwoKeysOneClinical
                && more.tiers.iter().any(|tier| *tier != ClinicalTier::LifeSustaining)
        };
        if self.needs.iter().any(asks_for_keys) {
            return Err(BadApprovalTerms::NeedsStrongIdentity);
        }
        if self.needs.len() > limits::NIGHT_PEOPLE {
            return Err(BadApprovalTerms::TooMany);
        }
        let Some(night) = &self.night else { return Ok(()) };
        night.check()?;
        match self.night_gap(|_| Some(true)) {
            Some(gap) => {
                Err(BadApprovalTerms::TooFewAtNight { needs: gap.needs, named: gap.able.len() })
            }
            None => Ok(()),
        }
    }

    /// What is missing at night, if of those whom the policy names only those of whom `may` knows can say yes (true:
    /// and they are clinical); `None`: enough can.
    #[must_use]
    pub fn night_gap(&self, may: impl Fn(&str) -> Option<bool>) -> Option<NightGap> {
        let night = self.night.as_ref()?;
        let tiers = night.tiers.iter();
        let needs = tiers.map(|tier| self.needs(Needs::to_contain(*tier), *tier)).max()?;
        let names: BTreeSet<&String> = night.people.iter().collect();
        let has_clinical = names.iter().any(|name| may(name) == Some(true));
        let lacks_a_clinical_one = needs.asks_for_a_clinical_one() && !has_clinical;
        let (able, unable): (Vec<_>, Vec<_>) =
            names.into_iter().cloned().partition(|name| may(name).is_some());
        let is_one = able.len() < needs.count() || lacks_a_clinical_one;
        is_one.then_some(NightGap { needs, able, unable, lacks_a_clinical_one })
    }
}

/// Too few of those whom the policy names for the night can say yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NightGap {
    /// Who is needed.
    pub needs: Needs,
    /// Who of the named can.
    pub able: Vec<String>,
    /// Who of the named can't.
    pub unable: Vec<String>,
    /// One of them must be clinical, and nobody who can is.
    #[serde(default)]
    pub lacks_a_clinical_one: bool,
}

impl fmt::Display for NightGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let needs = self.needs;
        write!(f, "the policy lets only those whom it names say yes at night; {needs} must, and ")?;
        match self.able.as_slice() {
            [] => f.write_str("nobody of them can")?,
            able => write!(f, "only {} can", able.join(", "))?,
        }
        if self.lacks_a_clinical_one && !self.able.is_empty() {
            f.write_str(", none of them clinical")?;
        }
        match self.unable.as_slice() {
            [] => Ok(()),
            unable => write!(f, " ({} can't any more)", unable.join(", ")),
        }
    }
}

impl Night {
    /// Whether `now` is in it. Where its hours can't be read it is always night: the fewer may say yes.
    #[must_use]
    pub fn is_at(&self, now: UtcNanos) -> bool {
        let (Ok(from), Ok(until), Ok(zone)) =
            (time_of_day(&self.from), time_of_day(&self.until), self.zone())
        else {
            return true;
        };
        let Ok(now) = jiff::Timestamp::from_nanosecond(i128::from(now.unix_nanos())) else {
            return true;
        };
        let now = now.to_zoned_datetime(zone).time();
        if from <= until { from <= now && now < until } else { now >= from || now < until }
    }

    fn check(&self) -> Result<(), BadApprovalTerms> {
        if time_of_day(&self.from)? == time_of_day(&self.until)? {
            return Err(BadApprovalTerms::Endless(self.from.clone()));
        }
        self.zone()?;
        let is_long = |name: &String| name.len() > limits::NAME_BYTES;
        if self.people.len() > limits::NIGHT_PEOPLE || self.people.iter().any(is_long) {
            return Err(BadApprovalTerms::TooMany);
        }
        Ok(())
    }

    /// From the database that comes with the program: what a machine's own says of a zone can't differ.
    fn zone(&self) -> Result<TimeZone, BadApprovalTerms> {
        let zone = TimeZoneDatabase::bundled().get(&self.time_zone);
        zone.map_err(|_| BadApprovalTerms::TimeZone(self.time_zone.clone()))
    }
}

fn time_of_day(text: &str) -> Result<Time, BadApprovalTerms> {
    Time::strptime("%H:%M", text).map_err(|_| BadApprovalTerms::Time(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn night() -> Night {
        Night {
            from: "20:00".into(),
            until: "08:00".into(),
            time_zone: "Europe/London".into(),
            tiers: vec![ClinicalTier::Clinical],
            people: vec!["ann".into(), "bob".into()],
        }
    }

    fn at(text: &str) -> UtcNanos {
        let at: jiff::Timestamp = text.parse().unwrap();
        UtcNanos::from_unix_nanos(i64::try_from(at.as_nanosecond()).unwrap())
    }

    #[test]
    fn the_night_goes_over_midnight_and_follows_summer_time() {
        let is = |text: &str| night().is_at(at(text));
        // Winter: Greenwich's own time.
        assert!(!is("2026-01-10T19:59:59Z") && is("2026-01-10T20:00:00Z"));
        assert!(is("2026-01-11T07:59:59Z") && !is("2026-01-11T08:00:00Z"));
        // Summer: an hour ahead of it.
        assert!(!is("2026-07-10T18:59:59Z") && is("2026-07-10T19:00:00Z"));
        assert!(is("2026-07-11T06:59:59Z") && !is("2026-07-11T07:00:00Z"));
        let noon = Night { from: "12:00".into(), until: "13:30".into(), ..night() };
        assert!(noon.is_at(at("2026-01-10T12:30:00Z")) && !noon.is_at(at("2026-01-10T13:30:00Z")));
    }

    #[test]
    fn hours_that_cannot_be_read_are_night() {
        for broken in [
            Night { from: "8 pm".into(), ..night() },
            Night { time_zone: "Europe/Nowhere".into(), ..night() },
        ] {
            assert!(broken.is_at(at("2026-01-10T12:00:00Z")));
            assert!(broken.check().is_err());
        }
    }

    #[test]
    fn a_tier_can_need_more_people_and_never_fewer() {
        use ClinicalTier::{Clinical, LifeSustaining, Supports};
        let more = NeedsMore { tiers: vec![Clinical, LifeSustaining], needs: Needs::TwoPeople };
        let terms = ApprovalTerms { needs: vec![more], ..ApprovalTerms::default() };
        terms.check().unwrap();
        let needs = |tier| terms.needs(Needs::to_contain(tier), tier);
        assert_eq!(needs(Supports), Needs::OnePerson);
        assert_eq!(needs(Clinical), Needs::TwoPeople);
        assert_eq!(needs(LifeSustaining), Needs::TwoKeysOneClinical);
    }

    #[test]
    fn a_night_with_too_few_who_can_is_seen() {
        let tiers = vec![ClinicalTier::Clinical];
        let two = vec![NeedsMore { tiers, needs: Needs::TwoPeople }];
        let one = ApprovalTerms { night: Some(night()), ..ApprovalTerms::default() };
        assert_eq!(one.night_gap(|name| (name == "bob").then_some(false)), None);
        let gap = one.night_gap(|_| None).unwrap();
        assert_eq!((gap.able.len(), gap.unable.len()), (0, 2));
        assert!(gap.to_string().contains("nobody of them can (ann, bob can't"), "{gap}");
        let needs_both = ApprovalTerms { needs: two, ..one };
        assert_eq!(needs_both.night_gap(|_| Some(false)), None);
        let gap = needs_both.night_gap(|name| (name == "bob").then_some(false)).unwrap();
        assert!(gap.to_string().contains("two people must, and only bob can (ann"), "{gap}");
        assert_eq!(ApprovalTerms::default().night_gap(|_| None), None);
        let tiers = vec![ClinicalTier::Clinical];
        let clinical = vec![NeedsMore { tiers, needs: Needs::TwoPeopleOneClinical }];
        let needs_a_nurse = ApprovalTerms { needs: clinical, ..needs_both };
        assert_eq!(needs_a_nurse.night_gap(|name| Some(name == "ann")), None);
        let gap = needs_a_nurse.night_gap(|_| Some(false)).unwrap();
        assert!(gap.to_string().contains("only ann, bob can, none of them clinical"), "{gap}");
    }

    #[test]
    fn terms_that_nobody_could_keep_are_refused() {
        let default = ApprovalTerms::default();
        default.check().unwrap();
        let two = vec![NeedsMore { tiers: vec![ClinicalTier::Clinical], needs: Needs::TwoPeople }];
        let alone = Night { people: vec!["ann".into(), "ann".into()], ..night() };
        let keys = vec![NeedsMore {
            tiers: vec![ClinicalTier::Clinical],
            needs: Needs::TwoKeysOneClinical,
        }];
        let clinical = NeedsMore { needs: Needs::TwoPeopleOneClinical, ..keys[0].clone() };
        ApprovalTerms { needs: vec![clinical], ..default.clone() }.check().unwrap();
        for bad in [
            ApprovalTerms { open_for_seconds: 59, ..default.clone() },
            ApprovalTerms { open_for_seconds: u32::MAX, ..default.clone() },
            ApprovalTerms { remind_seconds: 0, ..default.clone() },
            ApprovalTerms { no_holds_for_seconds: 59, ..default.clone() },
            ApprovalTerms { no_holds_for_seconds: u32::MAX, ..default.clone() },
            ApprovalTerms { needs: keys, ..default.clone() },
            ApprovalTerms { needs: two, night: Some(alone), ..default.clone() },
            ApprovalTerms { night: Some(Night { people: vec![], ..night() }), ..default.clone() },
            ApprovalTerms {
                night: Some(Night { until: "20:00".into(), ..night() }),
                ..default.clone()
            },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    /// Agents of before know no such key, and would refuse the whole policy.
    #[test]
    fn how_long_a_no_holds_is_written_only_where_it_is_unusual() {
        let usual = ApprovalTerms::default();
        let other = ApprovalTerms { no_holds_for_seconds: 3_600, ..usual.clone() };
        for (terms, is_written) in [(usual, false), (other, true)] {
            let mut bytes = Vec::new();
            ciborium::into_writer(&terms, &mut bytes).unwrap();
            let name = b"no_holds_for_seconds";
            assert_eq!(bytes.windows(name.len()).any(|at| at == name), is_written);
            let read: ApprovalTerms = ciborium::from_reader(&bytes[..]).unwrap();
            assert_eq!(read, terms);
        }
    }
}
