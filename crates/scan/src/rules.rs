//! The rules of a scan: where they come from, and asking them about an event.

use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use cordon_detect::{Compiler, Matcher, Refusal, RuleIndex, RuleSet};
use cordon_model::event::{Event, FieldTable};
use cordon_model::finding::{MatchedField, RuleRef};
use cordon_model::limits::MATCHED_FIELDS_PER_FINDING;

use crate::ScanError;
use crate::files::Files;
use crate::terminal::{Safe, count, counted};

/// Where rules come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RuleSource<'a> {
    /// Files and folders.
    pub paths: &'a [PathBuf],
    /// Whether the built-in pack is wanted beside them. Without paths it is the only one.
    pub builtin: bool,
    /// Whether rules are wanted that their authors withdrew.
    pub with_withdrawn: bool,
}

/// Compiled rules.
pub(crate) struct Rules {
    set: RuleSet,
    /// What findings say of each rule, by its number.
    pub references: Vec<RuleRef>,
    refusals: Vec<Refusal>,
    withdrawn: usize,
    /// YAML files met in a folder that hold no rule: a checkout has some.
    not_rules: Vec<PathBuf>,
}

/// What comes of a rule that matched.
pub(crate) enum Hit {
    /// A finding: the rule's number, and why it matched.
    Finding(usize, Vec<MatchedField>),
    /// Something for correlations.
    Part(cordon_detect::Hit),
}

impl Rules {
    /// Loads what is asked for. A rule that can't be loaded is refused alone.
    pub(crate) fn load(source: RuleSource<'_>) -> Result<Self, ScanError> {
        Self::load_with(source, |_, _| {})
    }

    /// The same, and gives each text that is taken for rules, with where it comes from, to `each`.
    pub(crate) fn load_with(
        source: RuleSource<'_>,
        mut each: impl FnMut(&str, &str),
    ) -> Result<Self, ScanError> {
        let mut compiler = Compiler::new();
        if source.with_withdrawn {
            compiler = compiler.with_withdrawn();
        }
        let mut withdrawn = 0;
        let mut take = |origin: &str, text: &str| {
            withdrawn += compiler.add_yaml(origin, text).withdrawn;
            each(origin, text);
        };
        if source.builtin || source.paths.is_empty() {
            cordon_rules::all().for_each(|(origin, text)| take(origin, text));
        }
        let (mut unread, mut not_rules) = (Vec::new(), Vec::new());
        for path in source.paths {
            let files = Files::under(std::slice::from_ref(path));
            for (refused, error) in files.refused {
                if refused == *path {
                    return Err(ScanError::Rules { path: refused, error });
                }
                unread.push(refusal(&refused, &error));
            }
            for file in files.files {
                if !file.is_named && !may_hold_rules(&file.path, path) {
                    continue;
                }
                match read_text(&file.path) {
                    Ok(text) if !file.is_named && !looks_like_a_rule(&text) => {
                        not_rules.push(file.path);
                    }
                    Ok(text) => take(&file.path.to_string_lossy(), &text),
                    Err(error) => unread.push(refusal(&file.path, &error)),
                }
            }
        }
        let (set, mut refusals) = compiler.compile();
        refusals.extend(unread);
        let references = set.rules().iter().map(cordon_detect::RuleInfo::reference).collect();
        Ok(Self { set, references, refusals, withdrawn, not_rules })
    }

    /// What was refused, in the order in which it was met.
    pub(crate) fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    /// YAML files met in a folder that hold no rule.
    pub(crate) fn not_rules(&self) -> &[PathBuf] {
        &self.not_rules
    }

    /// How many rules were refused.
    pub(crate) fn refused(&self) -> usize {
        self.refusals.len()
    }

    /// The names that the rules read.
    pub(crate) fn fields(&self) -> &FieldTable {
        self.set.fields()
    }

    /// The compiled set.
    pub(crate) fn set(&self) -> &RuleSet {
        &self.set
    }

    /// Whether a keyword rule searches values that no rule reads by name.
    pub(crate) fn read_every_value(&self) -> bool {
        self.set.has_keywords()
    }

    /// Says how many rules were loaded and refused, and with `each` why.
    pub(crate) fn tell(&self, each: bool, err: &mut dyn Write) -> io::Result<()> {
        let loaded = count(self.references.len() as u64);
        writeln!(err, "{loaded} rules loaded, {} refused", count(self.refused() as u64))?;
        match self.withdrawn as u64 {
            0 => {}
            withdrawn => writeln!(
                err,
                "{} withdrawn by its author, and passed over; --with-deprecated uses such rules",
                counted_are(withdrawn, "rule")
            )?,
        }
        let silent =
            (0..).map(RuleIndex).zip(&self.references).filter(|(rule, _)| !self.set.is_told(*rule));
        match silent.count() as u64 {
            0 => {}
            silent => writeln!(
                err,
                "{} only part of correlations, and not told by themselves",
                counted_are(silent, "rule")
            )?,
        }
        if each {
            for refusal in &self.refusals {
                writeln!(err, "  {}", Safe(&refusal.to_string()))?;
            }
            for path in &self.not_rules {
                writeln!(err, "  {}: passed over, holds no rule", Safe(&path.to_string_lossy()))?;
            }
        }
        Ok(())
    }

    /// One thread's way of asking.
    pub(crate) fn hits(&self) -> Hits<'_> {
        Hits { rules: self, matcher: self.set.matcher(), matched: Vec::new() }
    }
}

/// Asks the rules about one event after another.
pub(crate) struct Hits<'r> {
    rules: &'r Rules,
    matcher: Matcher,
    matched: Vec<RuleIndex>,
}

impl Hits<'_> {
    /// What comes of `event`, in the order of the rules' numbers, until told to stop: findings of the rules
    /// that `wanted` wants, and hits for correlations.
    pub(crate) fn of(
        &mut self,
        event: &Event<'_>,
        wanted: impl Fn(usize) -> bool,
        each: &mut dyn FnMut(Hit) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let set = &self.rules.set;
        self.matched.clear();
        self.matched.extend_from_slice(self.matcher.matches(set, event));
        for rule in &self.matched {
            if set.correlates()
                && let Some(part) = self.matcher.hit(set, event, *rule, 0)
            {
                each(Hit::Part(part))?;
            }
            let index = rule.0 as usize;
            if !wanted(index) || !set.is_told(*rule) {
                continue;
            }
            let mut matched = self.matcher.why(set, event, *rule);
            matched.truncate(MATCHED_FIELDS_PER_FINDING);
            each(Hit::Finding(index, matched))?;
        }
        ControlFlow::Continue(())
    }
}

fn counted_are(number: u64, thing: &str) -> String {
    let verb = if number == 1 { "is" } else { "are" };
    format!("{} {verb}", counted(number, thing))
}

/// Whether a file under the folder `root` may hold rules: YAML, and not put out of sight (`.github`).
fn may_hold_rules(path: &Path, root: &Path) -> bool {
    let is_yaml = path.extension().is_some_and(|end| end == "yml" || end == "yaml");
    let below = path.strip_prefix(root).unwrap_or(path);
    is_yaml && !below.iter().any(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Whether a text has one of the keys that every Sigma document has one of. What hasn't is no rule gone
/// wrong but something else in YAML: test data, workflows.
fn looks_like_a_rule(text: &str) -> bool {
    const KEYS: [&str; 4] = ["detection:", "correlation:", "filter:", "action:"];
    text.lines().any(|line| KEYS.iter().any(|key| line.starts_with(key)))
}

/// The longest rule file that is read: what the compiler takes, and one byte, so that it can say so.
fn read_text(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let most = cordon_detect::TEXT_BYTES as u64 + 1;
    fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("not UTF-8"))
}

fn refusal(path: &Path, error: &io::Error) -> Refusal {
    Refusal {
        origin: path.to_string_lossy().into(),
        line: 1,
        rule: None,
        reason: format!("can't be read: {error}"),
    }
}
