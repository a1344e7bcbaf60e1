//! Which rules are in force on this machine, and what is wrong with them.
//!
//! The one idea: rules are judged in the same way when the agent starts as when it reads them again, against
//! those that were last taken; so these are remembered on disk, whole. A set that is worse than what was taken
//! (it can't be read, holds no rule, or refuses one that was not refused before) is never taken, be it by a
//! restart: the machine goes on with what it had. Fewer rules than before are taken, because a person must be
//! able to get rid of one; but a folder that is half copied looks the same, so it is told until a person reloads
//! once more. Whatever is wrong stands among what this machine does not see, on the hub's pages.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cordon_detect::{Refusal, RuleSet};
use cordon_model::limits;
use cordon_model::wire::Coverage;
use serde::{Deserialize, Serialize};

use crate::local::compiled;

/// Origin and YAML text of each file of rules.
pub type RuleTexts = Vec<(String, String)>;

/// Reads rules from where they come from; why it can't, in words for people.
pub type ReadRules = Arc<dyn Fn() -> Result<RuleFiles, String> + Send + Sync>;

/// What the gap is called among what the machine does not see.
const RULES: &str = "rules";
/// Where what was taken is remembered, in the agent's directory.
const FILE: &str = "rules-in-force";
/// The most text that is remembered: all of SigmaHQ is 15 MB. Of a larger set only its numbers are.
const MOST_TEXT: usize = 32 << 20;
/// The most of that file that is read: the texts, and as much again for names and refusals.
const MOST_BYTES: u64 = 64 << 20;
/// Refused rules that are remembered by name: 10,000 of at most a KiB, so 10 MB, and more than twice what SigmaHQ has in
/// all. What is beyond is counted.
const REFUSED_KEPT: usize = 10_000;
/// The most of such a name that is remembered, in bytes: what a path below a folder and a rule's name come to.
const REFUSED_NAME: usize = 1 << 10;

/// A folder of rules as it was read.
#[derive(Debug, Clone, Default)]
pub struct RuleFiles {
    /// The folder that they are in: their names are told apart by where below it they are.
    pub folder: PathBuf,
    /// What could be read.
    pub texts: RuleTexts,
    /// What could not: where, and why.
    pub unread: Vec<(String, String)>,
}

/// Where the rules come from.
#[derive(Clone)]
pub enum RulesFrom {
    /// They are part of this program.
    Program(RuleTexts),
    /// They are read from somewhere, now and again.
    Folder(ReadRules),
}

/// What was last taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Taken {
    /// How many rules it has for this machine.
    rules: u32,
    /// What it refuses, by [`name_of`]: the first [`REFUSED_KEPT`] in order.
    refused: BTreeSet<String>,
    /// How many more it refuses.
    #[serde(default)]
    refused_beyond: usize,
    /// The folder that the texts were read from. `None`: a version that told refused files apart by their own names
    /// alone wrote this.
    #[serde(default)]
    folder: Option<PathBuf>,
    /// The first refusal, for people.
    first_refusal: Option<String>,
    /// So many rules were in force before, when that was more and no person has affirmed it.
    before: Option<u32>,
    /// The texts; `None` if they are more than [`MOST_TEXT`].
    texts: Option<RuleTexts>,
}

/// A set that may be in force.
struct Judged {
    set: RuleSet,
    taken: Taken,
}

/// The rules in force, as they are judged and remembered.
#[derive(Debug, Clone)]
pub struct InForce {
    /// Where it is remembered; `None` for rules that are part of the program.
    file: Option<PathBuf>,
    taken: Taken,
    /// Why what is in the folder is not what is in force.
    stays: Option<String>,
}

impl InForce {
    /// The rules to start with, and what is to be known of them. What was taken before is in `directory`.
    ///
    /// # Errors
    /// Where no rules can be read and none were ever taken: an agent that sees nothing must not look like one
    /// that sees.
    pub fn begin(from: &RulesFrom, directory: &Path) -> Result<(Self, RuleSet), String> {
        let file = directory.join(FILE);
        let read = match from {
            RulesFrom::Program(texts) => {
                // What a folder had before says nothing of the next one.
                let _ = std::fs::remove_file(&file);
                let files = RuleFiles { texts: texts.clone(), ..RuleFiles::default() };
                let Judged { set, taken } = compiled_from(files);
                let taken = Taken { texts: None, ..taken };
                return Ok((Self { file: None, taken, stays: None }, set));
            }
            RulesFrom::Folder(read) => read(),
        };
        let before = remembered(&file);
        let (judged, stays) = at_start(read, before.as_ref())?;
        let Judged { set, taken } = judged;
        let in_force = Self { file: Some(file), taken, stays };
        if before.as_ref() != Some(&in_force.taken) {
            in_force.remember();
        }
        in_force.log();
        Ok((in_force, set))
    }

    /// Judges rules that a person asked to be read again. What is to be in force from now on, if it is taken.
    pub fn renew(&mut self, read: Result<RuleFiles, String>) -> Option<RuleSet> {
        match judged(read, &self.taken, self.taken.rules) {
            Ok(Judged { set, taken }) => {
                (self.taken, self.stays) = (taken, None);
                self.remember();
                self.log();
                Some(set)
            }
            Err(why) => {
                self.stays = Some(why);
                self.log();
                None
            }
        }
    }

    /// What is wrong with the rules in force, for people; `None` if nothing is.
    #[must_use]
    pub fn gap(&self) -> Option<String> {
        gap(&self.taken, self.stays.as_deref())
    }

    /// Puts it into what this machine says that it does not see. Whether that is another word than before.
    pub fn put_into(&self, coverage: &mut Vec<Coverage>) -> bool {
        let by = (self.taken.rules > 0).then(|| format!("{} rules", self.taken.rules));
        let said = self.gap().map(|gap| Coverage { what: RULES.into(), by, gap: Some(gap) });
        let others = coverage.iter().filter(|one| one.what != RULES).cloned();
        let now: Vec<Coverage> = others.chain(said).collect();
        let is_news = now != *coverage;
        *coverage = now;
        is_news
    }

    fn log(&self) {
        if let Some(gap) = self.gap() {
            tracing::error!(gap, "rules");
        }
    }

    /// That it can't be remembered stops nothing: the next start has less to judge by.
    fn remember(&self) {
        let Some(file) = &self.file else { return };
        let mut bytes = Vec::new();
        let written = ciborium::into_writer(&self.taken, &mut bytes).map_err(io::Error::other);
        let written = written.and_then(|()| Ok(cordon_durable::write_whole(file, &bytes)?));
        if let Err(error) = written {
            tracing::error!(%error, "which rules are in force can't be remembered");
        }
    }
}

/// What was last taken, if it can be read: what another version wrote is as good as none.
fn remembered(file: &Path) -> Option<Taken> {
    let length = std::fs::metadata(file).ok()?.len();
    let bytes = (length <= MOST_BYTES).then(|| std::fs::read(file).ok()).flatten()?;
    match ciborium::from_reader(bytes.as_slice()) {
        Ok(taken) => Some(taken),
        Err(error) => {
            tracing::error!(%error, file = %file.display(), "which rules were in force is not known");
            None
        }
    }
}

/// What to start with, and why that is not what was read, where it isn't.
fn at_start(
    read: Result<RuleFiles, String>,
    before: Option<&Taken>,
) -> Result<(Judged, Option<String>), String> {
    let Some(before) = before else { return Ok((compiled_from(read?), None)) };
    // A restart affirms nothing.
    let expected = before.before.unwrap_or(before.rules);
    let why = match judged(read.clone(), before, expected) {
        Ok(judged) => return Ok((judged, None)),
        Err(why) => why,
    };
    match &before.texts {
        Some(texts) => {
            // As another version of the engine may take them now: what it refuses of them is not in force, and keeps
            // no later set out.
            let (set, refusals) = compiled(borrowed(texts));
            let mut taken = Taken { rules: count(&set), ..before.clone() };
            let folder = before.folder.clone().unwrap_or_default();
            for refusal in &refusals {
                let name = name_of(refusal, &folder);
                if before.is_new(&name)
                    && taken.refused.insert(name)
                    && taken.first_refusal.is_none()
                {
                    taken.first_refusal = Some(brief(&refusal.to_string()));
                }
            }
            Ok((Judged { set, taken }, Some(why)))
        }
        None => Ok((compiled_from(read?), Some(format!("{why}; what was in force is not kept")))),
    }
}

/// Rules that were read, and whether they may take the place of what was taken `before`; of which there were
/// so many as `expected`.
///
/// # Errors
/// Why those in force stay, for people.
fn judged(
    read: Result<RuleFiles, String>,
    before: &Taken,
    expected: u32,
) -> Result<Judged, String> {
    let Judged { set, mut taken } = compiled_from(read?);
    if taken.rules == 0 {
        return Err("not one rule is left".to_owned());
    }
    // By file and rule: a line more above it makes no other fault of it.
    let mut new = taken.refused.iter().filter(|name| before.is_new(name));
    if let Some(first) = new.next() {
        let more = match new.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        return Err(format!("refused and was not before: {first}{more}"));
    }
    let (now, then) = (taken.refused_count(), before.refused_count());
    if before.refused_beyond > 0 && now > then {
        return Err(format!("{now} are refused where there were {then}"));
    }
    taken.before = (taken.rules < expected).then_some(expected);
    Ok(Judged { set, taken })
}

/// The rules of these files, without a word on what was before.
fn compiled_from(RuleFiles { folder, texts, unread }: RuleFiles) -> Judged {
    let (set, refusals) = compiled(borrowed(&texts));
    for refusal in &refusals {
        tracing::warn!(%refusal, "a rule is refused");
    }
    let unread = unread.into_iter().map(|(origin, why)| {
        tracing::error!(path = origin, why, "this file of rules can't be read, and is left out");
        (cut(below(&origin, &folder).to_owned()), format!("{origin}: {why}"))
    });
    let refused = refusals.iter().map(|refusal| (name_of(refusal, &folder), refusal.to_string()));
    let refused: Vec<(String, String)> = unread.chain(refused).collect();
    let length: usize = texts.iter().map(|(origin, text)| origin.len() + text.len()).sum();
    let first_refusal = refused.first().map(|(_, words)| brief(words));
    let names: BTreeSet<String> = refused.into_iter().map(|(name, _)| name).collect();
    let taken = Taken {
        rules: count(&set),
        first_refusal,
        refused_beyond: names.len().saturating_sub(REFUSED_KEPT),
        refused: names.into_iter().take(REFUSED_KEPT).collect(),
        folder: Some(folder),
        before: None,
        texts: (length <= MOST_TEXT).then_some(texts),
    };
    Judged { set, taken }
}

fn gap(taken: &Taken, stays: Option<&str>) -> Option<String> {
    let stays =
        stays.map(|why| format!("new rules were not taken, those in force stay: {}", brief(why)));
    let none = (taken.rules == 0).then(|| "not one rule is in force".to_owned());
    let fewer = taken.before.map(|before| {
        format!(
            "{} rules where there were {before}: if that is meant, reload the agent once more",
            taken.rules
        )
    });
    let refused = taken.first_refusal.as_deref().map(|first| match taken.refused_count() {
        0 | 1 => format!("one is refused: {first}"),
        count => format!("{count} are refused, the first: {first}"),
    });
    let all: Vec<String> = [stays, none, fewer, refused].into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join("; "))
}

impl Taken {
    fn refused_count(&self) -> usize {
        self.refused.len().saturating_add(self.refused_beyond)
    }

    /// Whether a refused rule of this name was not refused, as far as its name would have been kept.
    fn is_new(&self, name: &str) -> bool {
        let is_kept = |name: &str| self.refused.contains(name);
        // A name that sorts behind all that are kept may be one that is only counted.
        let is_counted =
            self.refused_beyond > 0 && self.refused.last().is_some_and(|last| **last < *name);
        let as_before = self.folder.is_none().then(|| without_folders(name));
        !is_kept(name) && !is_counted && !as_before.is_some_and(|name| is_kept(&name))
    }
}

/// A refused rule in the file that it is in, wherever the folder is: that may be a new one each time.
fn name_of(refusal: &Refusal, folder: &Path) -> String {
    let file = below(&refusal.origin, folder);
    cut(match &refusal.rule {
        Some(rule) => format!("{file}: {rule}"),
        None => file.to_owned(),
    })
}

/// Where below the folder a file is: two may have one name.
fn below<'a>(origin: &'a str, folder: &Path) -> &'a str {
    let path = Path::new(origin).strip_prefix(folder).ok().and_then(Path::to_str);
    path.filter(|path| !path.is_empty()).unwrap_or(file_name(origin))
}

/// The name as earlier versions had it.
fn without_folders(name: &str) -> String {
    match name.split_once(": ") {
        Some((file, rule)) => format!("{}: {rule}", file_name(file)),
        None => file_name(name).to_owned(),
    }
}

/// A name that is too long to be remembered, with how long it is.
fn cut(name: String) -> String {
    match name.len() {
        ..=REFUSED_NAME => name,
        bytes => format!("{}… ({bytes} bytes)", &name[..name.floor_char_boundary(REFUSED_NAME)]),
    }
}

fn file_name(origin: &str) -> &str {
    origin.rsplit('/').next().unwrap_or(origin)
}

fn borrowed(texts: &RuleTexts) -> impl Iterator<Item = (&str, &str)> + Clone {
    texts.iter().map(|(origin, text)| (origin.as_str(), text.as_str()))
}

fn count(set: &RuleSet) -> u32 {
    u32::try_from(set.rules().len()).unwrap_or(u32::MAX)
}

/// As much of it as leaves room for the rest of a gap in what a hub takes.
fn brief(text: &str) -> String {
    /// Letters have four bytes at the most, and a gap two such texts.
    const SHARE: usize = 4 * 2 + 4;
    text.chars().take(limits::NAME_BYTES / SHARE).collect()
}

#[cfg(test)]
mod tests;
