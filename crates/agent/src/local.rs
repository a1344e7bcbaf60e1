//! Rules on the machine itself: what the sensor tells becomes findings here, with no hub in reach.
//!
//! The one idea: this runs on the sensor's own thread, between the kernel's word and the next event, and
//! makes nothing (no JSON, no hash) until a rule matched. What a rule says over and over about one
//! program is folded after a few times and counted, so that one noisy rule can't fill the spool or hide
//! another.

use std::collections::HashMap;
use std::time::Duration;

use cordon_detect::{
    CarriedOver, Compiler, Correlator, CorrelatorLimits, Firing, Matcher, Refusal, RuleIndex,
    RuleSet,
};
use cordon_model::event::Event;
use cordon_model::finding::{Finding, MatchedField, ProcessRef};
use cordon_model::ids::FindingId;
use cordon_model::limits;
use cordon_model::time::{BootNanos, UtcNanos};
use sha2::{Digest as _, Sha256};

use crate::sensor::{Loss, SensorEvent, SensorFields};

/// Findings of one rule about one program that are told one by one in a [`FOLD_FOR`]; the rest are
/// counted. Ten show the pattern; the eleventh tells nobody anything new.
const TOLD_ONE_BY_ONE: u32 = 10;
/// How long a fold lasts.
const FOLD_FOR: Duration = Duration::from_secs(60);
/// Folds remembered. A machine runs a few hundred different programs; when more are folded than this the
/// oldest are forgotten and told again.
const MOST_FOLDS: usize = 4_096;
/// Hits of correlations kept, each about 300 bytes with some values: 12 MB at the most. The built-in pack
/// has no correlations, and without any nothing is kept.
const MOST_HITS: usize = 20_000;
/// Most memory for them, in bytes.
const MOST_HIT_BYTES: usize = 12 << 20;

/// What the sensor's thread says to the agent.
#[derive(Debug)]
pub enum Noticed {
    /// A rule matched.
    Finding(Box<Finding>),
    /// The same rule matched the same program so many more times, and was not told.
    Folded {
        /// The rule's title.
        rule: String,
        /// The program.
        image: String,
        /// How many times.
        count: u64,
    },
    /// Events were lost.
    Lost(Loss),
    /// What is wrong with the rules in force.
    Rules(String),
    /// So much of the above could not be said, or not be kept for correlations, for want of room.
    Unheard(u64),
}

impl Noticed {
    /// How many matches or events it stands for.
    #[must_use]
    pub const fn count(&self) -> u64 {
        match self {
            Self::Rules(_) => 0,
            Self::Finding(_) => 1,
            Self::Folded { count, .. } | Self::Unheard(count) => *count,
            Self::Lost(loss) => loss.count,
        }
    }
}

/// The rules of one machine.
pub struct LocalDetection {
    rules: RuleSet,
    matcher: Matcher,
    correlator: Correlator,
    /// The newest time that hits were taken at.
    latest: BootNanos,
    /// Hits that the correlator had given up when it was last said.
    given_up: u64,
    fields: SensorFields,
    host: String,
    folds: HashMap<(RuleIndex, String), Fold>,
    /// When folds that are over were last looked for.
    swept: BootNanos,
}

struct Fold {
    since: BootNanos,
    told: u32,
    untold: u64,
}

impl LocalDetection {
    /// Compiles the rules (origin and YAML text of each) that can match on this product. A rule that is
    /// refused is returned with its reason; the others go on.
    pub fn new<'a>(
        rules: impl IntoIterator<Item = (&'a str, &'a str), IntoIter: Clone>,
        host: String,
    ) -> (Self, Vec<Refusal>) {
        let (rules, refusals) = compiled(rules);
        (Self::with(rules, host), refusals)
    }

    /// Goes by rules that are compiled already.
    #[must_use]
    pub fn with(rules: RuleSet, host: String) -> Self {
        // A sensor event has few fields: keeping them all for keyword rules costs next to nothing.
        let fields = SensorFields::new(rules.fields(), true);
        let matcher = rules.matcher();
        // Nothing waits: the kernel tells in order, and what is a little older counts as new.
        let limits =
            CorrelatorLimits { lateness: Duration::ZERO, hits: MOST_HITS, bytes: MOST_HIT_BYTES };
        Self {
            rules,
            matcher,
            correlator: Correlator::new(limits),
            latest: BootNanos::default(),
            given_up: 0,
            fields,
            host,
            folds: HashMap::new(),
            swept: BootNanos::default(),
        }
    }

    /// Goes on with `rules` in place of those in force, and with all that is kept for correlations and folds
    /// that both sets have.
    pub fn take(&mut self, rules: RuleSet, mut tell: impl FnMut(Noticed)) -> CarriedOver {
        // The compiler takes no two rules of one id, or of one title where they have none.
        let numbers: HashMap<&str, RuleIndex> =
            rules.rules().iter().map(|rule| rule.id.as_str()).zip((0..).map(RuleIndex)).collect();
        for ((rule, image), fold) in std::mem::take(&mut self.folds) {
            let Some(known) = self.rules.rule(rule) else { continue };
            match numbers.get(known.id.as_str()) {
                Some(now) => {
                    self.folds.insert((*now, image), fold);
                }
                None if fold.untold > 0 => {
                    let rule = known.reference().title;
                    tell(Noticed::Folded { rule, image, count: fold.untold });
                }
                None => {}
            }
        }
        let carried = self.correlator.carry_over(&self.rules, &rules);
        self.fields = SensorFields::new(rules.fields(), true);
        self.matcher = rules.matcher();
        self.rules = rules;
        carried
    }

    /// How many rules are in force.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules.rules().len()
    }

    /// What `event` means.
    pub fn notice(&mut self, event: &SensorEvent, mut tell: impl FnMut(Noticed)) {
        if let SensorEvent::Loss(loss) = event {
            tell(Noticed::Lost(loss.clone()));
            return;
        }
        let now = boot_time_of(event);
        if now.since(self.swept) >= FOLD_FOR {
            self.swept = now;
            self.end_folds(|fold| now.since(fold.since) >= FOLD_FOR, &mut tell);
        }
        let view = event.to_event(&self.fields);
        let matched = self.matcher.matches(&self.rules, &view);
        if matched.is_empty() {
            return;
        }
        let mut matched: Vec<(RuleIndex, Option<Firing>)> =
            matched.iter().map(|index| (*index, None)).collect();
        self.correlate(&view, now, &mut matched, &mut tell);
        matched.retain(|(index, _)| self.rules.is_told(*index));
        if matched.is_empty() {
            return;
        }
        let image = image_of(event).unwrap_or_default().to_owned();
        let json = event.to_json();
        let raw_sha256: [u8; 32] = Sha256::digest(json.as_bytes()).into();
        for (index, firing) in matched {
            let Some(rule) = self.rules.rule(index) else { continue };
            let reference = rule.reference();
            if !self.is_told_by_itself(index, &image, now, &reference.title, &mut tell) {
                continue;
            }
            let mut why = match firing {
                Some(firing) => self.made_of(&firing),
                None => self.matcher.why(&self.rules, &view, index),
            };
            why.truncate(limits::MATCHED_FIELDS_PER_FINDING);
            tell(Noticed::Finding(Box::new(Finding {
                id: FindingId::of(&reference.id, &self.host, &raw_sha256),
                rule: reference,
                host: self.host.clone(),
                time: event.time(),
                boot_time: Some(now),
                process: process_of(event),
                matched: why,
                raw: event.to_raw(),
                raw_sha256,
            })));
        }
    }

    /// Adds to what matched the correlations that fire with it.
    fn correlate(
        &mut self,
        event: &Event<'_>,
        now: BootNanos,
        matched: &mut Vec<(RuleIndex, Option<Firing>)>,
        tell: &mut impl FnMut(Noticed),
    ) {
        let Self { rules, matcher, correlator, .. } = self;
        if !rules.correlates() {
            return;
        }
        let hits: Vec<_> =
            matched.iter().filter_map(|(index, _)| matcher.hit(rules, event, *index, 0)).collect();
        self.latest = self.latest.max(now);
        // Boot time: the other clock may jump, and a timespan with it.
        let at = UtcNanos::from_unix_nanos(i64::try_from(self.latest.0).unwrap_or(i64::MAX));
        correlator.hear(rules, at, hits, &mut |firing| {
            matched.push((firing.correlation, Some(firing)));
        });
        let given_up = correlator.unheard().given_up;
        if given_up > self.given_up {
            tell(Noticed::Unheard(given_up - self.given_up));
            self.given_up = given_up;
        }
    }

    /// What a correlation's finding is made of: how often which rule, and what was the same in all.
    fn made_of(&self, firing: &Firing) -> Vec<MatchedField> {
        let mut counts: Vec<(RuleIndex, usize)> = Vec::new();
        for hit in &firing.hits {
            match counts.iter_mut().find(|(rule, _)| *rule == hit.rule) {
                Some((_, count)) => *count += 1,
                None => counts.push((hit.rule, 1)),
            }
        }
        let of_rule = |(rule, count): (RuleIndex, usize)| MatchedField {
            field: String::new(),
            value: format!("{count} × {}", self.rules.rule(rule).map_or("", |rule| &rule.title)),
            pattern: "correlated".to_owned(),
        };
        let of_group = |(name, value): &(Box<str>, Box<str>)| MatchedField {
            field: name.to_string(),
            value: value.to_string(),
            pattern: "the same in all".to_owned(),
        };
        let group = firing.group.iter().map(of_group);
        counts.into_iter().map(of_rule).chain(group).collect()
    }

    /// Forgets these folds, and tells what they held back.
    fn end_folds(&mut self, which: impl Fn(&Fold) -> bool, tell: &mut impl FnMut(Noticed)) {
        let Self { folds, rules, .. } = self;
        for ((rule, image), fold) in folds.extract_if(|_, fold| which(fold)) {
            if fold.untold > 0
                && let Some(rule) = rules.rule(rule)
            {
                let rule = rule.reference().title;
                tell(Noticed::Folded { rule, image, count: fold.untold });
            }
        }
    }

    /// Whether this match is told by itself; counts it if not.
    fn is_told_by_itself(
        &mut self,
        rule: RuleIndex,
        image: &str,
        now: BootNanos,
        title: &str,
        tell: &mut impl FnMut(Noticed),
    ) -> bool {
        if self.folds.len() >= MOST_FOLDS {
            self.end_folds(|fold| now.since(fold.since) >= FOLD_FOR, tell);
            if self.folds.len() >= MOST_FOLDS {
                self.end_folds(|_| true, tell);
            }
        }
        let fold = self.folds.entry((rule, image.to_owned())).or_insert(Fold {
            since: now,
            told: 0,
            untold: 0,
        });
        if now.since(fold.since) >= FOLD_FOR {
            if fold.untold > 0 {
                tell(Noticed::Folded {
                    rule: title.to_owned(),
                    image: image.to_owned(),
                    count: fold.untold,
                });
            }
            *fold = Fold { since: now, told: 0, untold: 0 };
        }
        if fold.told < TOLD_ONE_BY_ONE {
            fold.told += 1;
            true
        } else {
            fold.untold += 1;
            false
        }
    }
}

/// Compiles the rules (origin and YAML text of each) that can match on this product; and what was refused.
pub(crate) fn compiled<'a>(
    rules: impl IntoIterator<Item = (&'a str, &'a str), IntoIter: Clone>,
) -> (RuleSet, Vec<Refusal>) {
    let mut compiler = Compiler::new().only_product("linux");
    let withdrawn = compiler.add_texts(rules).withdrawn;
    if withdrawn > 0 {
        tracing::info!(withdrawn, "rules that their authors withdrew are passed over");
    }
    compiler.compile()
}

fn image_of(event: &SensorEvent) -> Option<&str> {
    match event {
        SensorEvent::ProcessStart(start) => start.image.as_deref(),
        SensorEvent::Connection(connection) => connection.image.as_deref(),
        SensorEvent::ProcessExit(_) | SensorEvent::Loss(_) => None,
    }
}

fn boot_time_of(event: &SensorEvent) -> BootNanos {
    match event {
        SensorEvent::ProcessStart(start) => start.boot_time,
        SensorEvent::Connection(connection) => connection.boot_time,
        SensorEvent::ProcessExit(exit) => exit.boot_time,
        SensorEvent::Loss(_) => BootNanos::default(),
    }
}

fn process_of(event: &SensorEvent) -> Option<ProcessRef> {
    let process = match event {
        SensorEvent::ProcessStart(start) => start.process,
        SensorEvent::Connection(connection) => connection.process?,
        SensorEvent::ProcessExit(exit) => exit.process,
        SensorEvent::Loss(_) => return None,
    };
    Some(ProcessRef {
        pid: process.pid,
        started: process.started,
        image: image_of(event).unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reload::Handover;
    use crate::sensor::{ProcessId, ProcessStart, User};

    const RULE: &str = r"
title: Program from a hidden directory
id: 5e0f2ac2-8f0b-4d1c-9f5e-2b2f0a1b2c3d
logsource: { product: linux, category: process_creation }
detection:
    selection:
        Image|startswith: /dev/shm/.
    condition: selection
level: high
";

    fn start(image: &str, seconds: u64) -> SensorEvent {
        SensorEvent::ProcessStart(ProcessStart {
            time: UtcNanos::from_unix_nanos(1),
            boot_time: BootNanos(seconds * 1_000_000_000),
            process: ProcessId { pid: 7, started: BootNanos(seconds) },
            image: Some(image.into()),
            image_is_deleted: false,
            image_is_claimed: false,
            image_is_cut: false,
            file_name: None,
            command_line: image.into(),
            arguments: vec![image.into()],
            arguments_are_cut: false,
            directory: None,
            short_name: "x".into(),
            user: User { name: None, uid: 0, effective_uid: 0, gid: None, login_uid: None },
            network_namespace: None,
            cgroup: None,
            parent: None,
        })
    }

    fn detection() -> LocalDetection {
        let (detection, refusals) = LocalDetection::new([("rule.yml", RULE)], "m01".into());
        assert!(refusals.is_empty(), "{refusals:?}");
        detection
    }

    #[test]
    fn a_match_says_which_process_and_why() {
        let mut detection = detection();
        let mut noticed = Vec::new();
        detection.notice(&start("/usr/bin/true", 1), |one| noticed.push(one));
        assert!(noticed.is_empty());
        detection.notice(&start("/dev/shm/.x/kworkerd", 1), |one| noticed.push(one));
        let [Noticed::Finding(finding)] = noticed.as_slice() else { panic!("{noticed:?}") };
        assert_eq!(finding.process.as_ref().unwrap().pid, 7);
        assert_eq!(finding.matched[0].field, "Image");
        assert!(finding.raw.json.contains("kworkerd"));
    }

    #[test]
    fn what_repeats_is_told_a_few_times_then_counted_and_the_count_is_told() {
        let mut detection = detection();
        let (mut findings, mut folded) = (0, 0);
        let mut tell = |one: Noticed| match one {
            Noticed::Finding(_) => findings += 1,
            Noticed::Folded { count, .. } => folded += count,
            Noticed::Lost(_) | Noticed::Rules(_) | Noticed::Unheard(_) => {}
        };
        for _ in 0..100 {
            detection.notice(&start("/dev/shm/.x/a", 1), &mut tell);
        }
        detection.notice(&start("/dev/shm/.x/b", 2), &mut tell);
        detection.notice(&start("/dev/shm/.x/a", 70), &mut tell);
        assert_eq!((findings, folded), (12, 90));
    }

    #[test]
    fn a_correlation_fires_on_the_machine_itself_with_the_event_that_completes_it() {
        let correlation = "title: Many programs from hidden directories\nid: many\ncorrelation:\n  type: value_count\n  rules: [5e0f2ac2-8f0b-4d1c-9f5e-2b2f0a1b2c3d]\n  timespan: 1m\n  condition: {field: Image, gte: 3}\nlevel: high\n";
        let files = [("many.yml", correlation), ("rule.yml", RULE)];
        let (mut detection, refusals) = LocalDetection::new(files, "m01".into());
        assert!(refusals.is_empty(), "{refusals:?}");
        let mut noticed = Vec::new();
        // The second comes a little late; when the third comes, the first two are too old.
        for (image, seconds) in [("a", 100), ("b", 99), ("c", 161), ("d", 162), ("e", 163)] {
            let event = start(&format!("/dev/shm/.{image}"), seconds);
            detection.notice(&event, |one| noticed.push((seconds, one)));
        }
        let [(163, Noticed::Finding(finding))] = noticed.as_slice() else { panic!("{noticed:?}") };
        assert_eq!(finding.rule.id, "many");
        assert_eq!(finding.matched[0].value, "3 × Program from a hidden directory");
        assert!(finding.raw.json.contains("/dev/shm/.e"));
    }

    /// The rule and, of what it finds, how many different programs in a minute; `more` rules before it move
    /// its number.
    fn set(more: usize) -> RuleSet {
        let correlation = "title: Many\nid: many\ncorrelation:\n  type: value_count\n  rules: [5e0f2ac2-8f0b-4d1c-9f5e-2b2f0a1b2c3d]\n  timespan: 1h\n  generate: true\n  condition: {field: Image, gte: 1000}\nlevel: high\n";
        let others: Vec<(String, String)> = (0..more)
            .map(|number| {
                let id = format!("other-{number}");
                let text = RULE.replace("5e0f2ac2-8f0b-4d1c-9f5e-2b2f0a1b2c3d", &id);
                (format!("{id}.yml"), text.replace("Image|starts", &format!("F{number}|starts")))
            })
            .collect();
        let others = others.iter().map(|(origin, text)| (origin.as_str(), text.as_str()));
        let (rules, refusals) =
            compiled(others.chain([("rule.yml", RULE), ("many.yml", correlation)]));
        assert!(refusals.is_empty(), "{refusals:?}");
        rules
    }

    /// What a thread that is given new rules all the time says of a thousand events; how many sets it took.
    fn judged_through_reloads(reload: impl Fn(u64, &Handover)) -> (Vec<String>, usize, usize) {
        let mut detection = detection();
        detection.take(set(0), |_| {});
        let handover = Handover::default();
        let (mut images, mut correlated, mut taken) = (Vec::new(), 0, 0);
        for number in 0..1_000 {
            reload(number, &handover);
            // Before the first event there is nothing to carry over.
            if let Some(rules) = (number > 0).then(|| handover.take()).flatten() {
                let carried = detection.take(rules, |told| panic!("{told:?}"));
                assert_eq!(carried, CarriedOver { going_on: 1, anew: 0 });
                taken += 1;
            }
            let event = start(&format!("/dev/shm/.{number}"), 100 + number);
            detection.notice(&event, |one| match one {
                Noticed::Finding(finding) if finding.rule.id == "many" => {
                    assert_eq!(number, 999, "fired early");
                    correlated += 1;
                }
                Noticed::Finding(finding) => images.push(finding.process.unwrap().image),
                other => panic!("{other:?}"),
            });
        }
        (images, correlated, taken)
    }

    #[test]
    fn every_event_is_judged_once_through_reloads_and_correlations_go_on() {
        let expected: Vec<String> = (0..1_000).map(|n| format!("/dev/shm/.{n}")).collect();
        // After every third event, to sets in which the rule has another number.
        let (images, correlated, taken) = judged_through_reloads(|number, handover| {
            if number % 3 == 2 {
                handover.give(set(number as usize % 4));
            }
        });
        assert_eq!((correlated, taken), (1, 333));
        assert_eq!(images, expected);
        // From another thread, whenever it is ready.
        let given = Handover::default();
        let (images, correlated, taken) = std::thread::scope(|scope| {
            let compiling = given.clone();
            scope.spawn(move || (0..200).for_each(|more| compiling.give(set(more % 4))));
            judged_through_reloads(|number, handover| {
                // At least at every hundredth event there is one.
                let own = || (number % 100 == 99).then(|| set(1));
                if let Some(rules) = given.take().or_else(own) {
                    handover.give(rules);
                }
            })
        });
        assert_eq!((correlated, taken >= 10), (1, true));
        assert_eq!(images, expected);
    }

    #[test]
    fn what_a_rule_held_back_is_told_when_the_rule_is_gone_and_kept_when_it_stays() {
        let mut detection = detection();
        let mut folded = Vec::new();
        for _ in 0..100 {
            detection.notice(&start("/dev/shm/.x/a", 1), |_| {});
        }
        detection.take(set(2), |one| folded.push(one));
        assert!(folded.is_empty(), "{folded:?}");
        let (none, _) = compiled([("o.yml", RULE.replace("5e0f2ac2", "0e0f2ac2").as_str())]);
        detection.take(none, |one| folded.push(one));
        assert!(matches!(folded.as_slice(), [Noticed::Folded { count: 90, .. }]), "{folded:?}");
    }

    #[test]
    fn what_was_folded_is_told_though_it_never_matches_again() {
        let mut detection = detection();
        let mut folded = 0;
        let mut tell = |one: Noticed| {
            if let Noticed::Folded { count, .. } = one {
                folded += count;
            }
        };
        for _ in 0..100 {
            detection.notice(&start("/dev/shm/.x/a", 1), &mut tell);
        }
        detection.notice(&start("/usr/bin/true", 70), &mut tell);
        assert_eq!(folded, 90);
    }
}
