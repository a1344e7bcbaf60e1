//! The rules of a scan: where they come from, and asking them about an event.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use cordon_detect::stored::Stored;
use cordon_detect::{Compiler, Matcher, Refusal, RuleIndex, RuleSet};
use cordon_model::event::{Event, FieldTable};
use cordon_model::finding::{MatchedField, RuleRef};
use cordon_model::limits::MATCHED_FIELDS_PER_FINDING;

use crate::ScanError;
use crate::cache::{Cache, Key};
use crate::files::{Files, LogFile};
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

/// What is read before anything is compiled.
struct Texts {
    /// Each text that is taken for rules, with where it comes from.
    texts: Vec<(String, Cow<'static, str>)>,
    /// What should have been read and couldn't be.
    unread: Vec<Refusal>,
    not_rules: Vec<PathBuf>,
}

impl Texts {
    fn read(source: RuleSource<'_>) -> Result<Self, ScanError> {
        let mut read = Self { texts: Vec::new(), unread: Vec::new(), not_rules: Vec::new() };
        if source.builtin || source.paths.is_empty() {
            let texts = cordon_rules::all().map(|(origin, text)| (origin.to_owned(), text.into()));
            read.texts.extend(texts);
        }
        for path in source.paths {
            let files = Files::under(std::slice::from_ref(path));
            for (refused, error) in files.refused {
                if refused == *path {
                    return Err(ScanError::Rules { path: refused, error });
                }
                read.unread.push(refusal(&refused, &error));
            }
            for file in files.files {
                if !file.is_named && !may_hold_rules(&file.path, path) {
                    continue;
                }
                match read_text(&file) {
                    Ok(text) if !file.is_named && !looks_like_a_rule(&text) => {
                        read.not_rules.push(file.path);
                    }
                    Ok(text) => {
                        let origin = file.path.to_string_lossy().into_owned();
                        read.texts.push((origin, text.into()));
                    }
                    Err(error) => read.unread.push(refusal(&file.path, &error)),
                }
            }
        }
        Ok(read)
    }

    fn compiled(&self, with_withdrawn: bool) -> Stored {
        let mut compiler = Compiler::new();
        if with_withdrawn {
            compiler = compiler.with_withdrawn();
        }
        let texts = self.texts.iter().map(|(origin, text)| (origin.as_str(), text.as_ref()));
        let withdrawn = compiler.add_texts(texts).withdrawn;
        let (set, refusals) = compiler.compile();
        Stored { set, refusals, withdrawn }
    }
}

/// What comes of a rule that matched.
pub(crate) enum Hit {
    /// A finding: the rule's number, and why it matched.
    Finding(usize, Vec<MatchedField>),
    /// Something for correlations.
    Part(cordon_detect::Hit),
}

impl Rules {
    /// Loads what is asked for, as it is kept in `cache` if it is. A rule that can't be loaded is refused alone.
    pub(crate) fn load(source: RuleSource<'_>, cache: Option<&Cache>) -> Result<Self, ScanError> {
        let texts = Texts::read(source)?;
        let Some(cache) = cache else {
            return Ok(Self::of(texts.compiled(source.with_withdrawn), texts));
        };
        let key = Key::of(source.with_withdrawn, &texts.texts);
        if let Some(kept) = cache.read(key) {
            return Ok(Self::of(kept, texts));
        }
        let made = texts.compiled(source.with_withdrawn);
        let Stored { set, refusals, withdrawn } = &made;
        if let Some(bytes) =
            (Stored { set, refusals: &refusals[..], withdrawn: *withdrawn }).to_bytes()
        {
            cache.write(key, &bytes);
        }
        Ok(Self::of(made, texts))
    }

    /// Loads what is asked for, and gives each text that is taken for rules, with where it comes from, to
    /// `each`.
    pub(crate) fn load_with(
        source: RuleSource<'_>,
        mut each: impl FnMut(&str, &str),
    ) -> Result<Self, ScanError> {
        let texts = Texts::read(source)?;
        texts.texts.iter().for_each(|(origin, text)| each(origin, text));
        Ok(Self::of(texts.compiled(source.with_withdrawn), texts))
    }

    fn of(stored: Stored, texts: Texts) -> Self {
        let Stored { set, mut refusals, withdrawn } = stored;
        refusals.extend(texts.unread);
        let references = set.rules().iter().map(cordon_detect::RuleInfo::reference).collect();
        Self { set, references, refusals, withdrawn, not_rules: texts.not_rules }
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

/// Whether a text has one of the keys that every Sigma document has one of, or says what placeholders stand for.
/// What hasn't is no rule gone wrong but something else in YAML: test data, workflows.
fn looks_like_a_rule(text: &str) -> bool {
    const KEYS: [&str; 5] = ["detection:", "correlation:", "filter:", "action:", "vars:"];
    text.lines().any(|line| KEYS.iter().any(|key| line.starts_with(key)))
}

/// A rule file, at most what the compiler takes and one byte, so that it can say so.
fn read_text(file: &LogFile) -> io::Result<String> {
    use std::io::Read as _;
    let most = cordon_detect::TEXT_BYTES as u64 + 1;
    // One byte more than there is, so that its end is seen without room being made for more.
    let mut bytes = Vec::with_capacity(usize::try_from(file.bytes.min(most)).unwrap_or(0) + 1);
    fs::File::open(&file.path)?.take(most).read_to_end(&mut bytes)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_set_is_used_again_until_a_rule_changes() {
        let (base, rules) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let cache = Cache::below(base.path()).unwrap();
        let file = rules.path().join("one.yml");
        let bad = "---\ntitle: bad\nlogsource: {product: windows}\ndetection:\n  s: {A|re: '(?=a)'}\n  condition: s\n---\ntitle: old\nstatus: deprecated\nlogsource: {product: windows}\ndetection:\n  s: {A: c}\n  condition: s\n";
        let write = |title: &str| {
            let good = format!(
                "title: {title}\nlogsource: {{product: windows}}\ndetection:\n  s: {{A: b}}\n  condition: s\n"
            );
            fs::write(&file, good + bad).unwrap();
        };
        let paths = [rules.path().to_owned()];
        let load = |cache: Option<&Cache>| {
            let source = RuleSource { paths: &paths, builtin: false, with_withdrawn: false };
            let rules = Rules::load(source, cache).unwrap();
            let title = rules.references[0].title.clone();
            (title, rules.references.len(), rules.refusals, rules.withdrawn)
        };
        let folder = base.path().join("cordon/rules");
        let kept = || fs::read_dir(&folder).unwrap().count();
        write("first");
        let compiled = load(None);
        assert_eq!((compiled.1, compiled.2.len(), compiled.3, kept()), (1, 1, 1, 0));
        assert_eq!(load(Some(&cache)), compiled);
        assert_eq!(kept(), 1);
        assert_eq!(load(Some(&cache)), compiled, "as it was kept");
        // That the kept one is really asked: another set under its key says so.
        let texts =
            Texts::read(RuleSource { paths: &paths, builtin: false, with_withdrawn: false });
        let key = Key::of(false, &texts.unwrap().texts);
        let mut other = Compiler::new();
        other.add_yaml(
            "x",
            "title: kept\nlogsource: {product: windows}\ndetection:\n  s: {A: b}\n  condition: s\n",
        );
        let (set, refusals) = other.compile();
        let stored = Stored { set: &set, refusals: &refusals[..], withdrawn: 0 };
        cache.write(key, &stored.to_bytes().unwrap());
        assert_eq!(load(Some(&cache)).0, "kept");
        write("second");
        assert_eq!(load(Some(&cache)).0, "second");
        assert_eq!(kept(), 2);
    }
}
