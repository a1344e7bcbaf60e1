//! What a scan read and what it could not: the end of every report, because a result is worth what it was
//! a result of.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cordon_intake::{Damage, Lost, Unreadable};
use cordon_model::finding::Level;

use crate::correlating::Account;
use crate::files::LogFile;
use crate::finding::{End, MACHINES};
use crate::terminal::{Looks, Safe, count, counted, size};

/// Damages and refused files that are kept to be named, of each kind: more can't be read by a person. The
/// others are counted.
const NAMED: usize = 200;

/// The account of one scan.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    rules_loaded: usize,
    rules_refused: usize,
    files_read: u64,
    bytes_read: u64,
    records: u64,
    records_without_source: u64,
    /// Files met in a folder that are no logs.
    not_logs: u64,
    damages: Named<(PathBuf, Damage)>,
    /// Files with damage that cost nothing but a checksum.
    wrong_sums: Named<(PathBuf, u64)>,
    unreadable: Named<(PathBuf, String)>,
    /// Machines that records name, whether or not anything was found on them.
    machines: HashSet<u64>,
    findings: [u64; 5],
    subtracted: [u64; 5],
    correlated: Account,
    /// Of each file that was read whole or in part: its number, its records, and what was found in them.
    read: Vec<FileRead>,
    /// Findings of a file that is not read to its end yet.
    pending: BTreeMap<usize, u64>,
}

/// What one file came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileRead {
    /// Its number among the files of the scan.
    pub file: usize,
    pub records: u64,
    pub findings: u64,
}

/// A list that keeps its beginning and counts the rest.
#[derive(Debug)]
struct Named<T> {
    named: Vec<T>,
    others: u64,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self { named: Vec::new(), others: 0 }
    }
}

impl<T> Named<T> {
    fn add(&mut self, item: T) {
        if self.named.len() < NAMED {
            self.named.push(item);
        } else {
            self.others += 1;
        }
    }

    fn len(&self) -> u64 {
        self.named.len() as u64 + self.others
    }
}

impl Summary {
    /// Nothing read yet, with so many rules.
    pub(crate) fn with_rules(rules_loaded: usize, rules_refused: usize) -> Self {
        Self { rules_loaded, rules_refused, ..Self::default() }
    }

    /// Counts a finding of `level` in file number `file`.
    pub(crate) fn found(&mut self, file: usize, level: Level) {
        self.findings[level as usize] += 1;
        // What correlations find comes after their files' ends.
        match self.read.binary_search_by_key(&file, |read| read.file) {
            Ok(at) => self.read[at].findings += 1,
            Err(_) => *self.pending.entry(file).or_default() += 1,
        }
    }

    /// What the files that were read came to, in their order.
    pub(crate) fn files(&self) -> &[FileRead] {
        &self.read
    }

    /// Counts a finding of `level` that the baseline has.
    pub(crate) fn subtracted(&mut self, level: Level) {
        self.subtracted[level as usize] += 1;
    }

    /// Counts damage in the file at `path`.
    pub(crate) fn damaged(&mut self, path: &Path, damage: Damage) {
        if damage.lost != Lost::Nothing {
            self.damages.add((path.to_owned(), damage));
            return;
        }
        match self.wrong_sums.named.last_mut() {
            Some((last, places)) if last == path => *places += 1,
            _ => self.wrong_sums.add((path.to_owned(), 1)),
        }
    }

    /// Counts file number `number`, that was read to its end or could not be. Files end in their order.
    pub(crate) fn ended(&mut self, number: usize, file: &LogFile, end: End) {
        let findings = self.pending.remove(&number).unwrap_or_default();
        self.records += end.records;
        let room = MACHINES.saturating_sub(self.machines.len());
        self.machines.extend(end.machines.iter().take(room));
        self.records_without_source += end.records_without_source;
        match end.form {
            Ok(_) => {
                self.files_read += 1;
                self.bytes_read += file.bytes;
                self.read.push(FileRead { file: number, records: end.records, findings });
            }
            Err(Unreadable::Unknown) if !file.is_named => self.not_logs += 1,
            Err(error) => self.refused(&file.path, error.to_string()),
        }
    }

    /// Counts a path that could not be read at all.
    pub(crate) fn refused(&mut self, path: &Path, reason: String) {
        self.unreadable.add((path.to_owned(), reason));
    }

    /// Notes how correlating went.
    pub(crate) fn correlated(&mut self, account: Account) {
        self.correlated = account;
    }

    /// How many machines records name.
    pub(crate) fn machines(&self) -> usize {
        self.machines.len()
    }

    /// Whether any file was read.
    pub(crate) fn has_read_anything(&self) -> bool {
        self.files_read > 0
    }

    /// Whether all that was asked for was read and looked at.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_read_whole() && self.correlated.is_whole()
    }

    fn is_read_whole(&self) -> bool {
        self.damages.len() == 0 && self.unreadable.len() == 0
    }

    /// The highest level found.
    pub(crate) fn highest(&self) -> Option<Level> {
        LEVELS.into_iter().find(|level| self.findings[*level as usize] > 0)
    }

    /// Writes the account.
    pub(crate) fn write(
        &self,
        out: &mut dyn Write,
        min_level: Level,
        looks: Looks,
    ) -> io::Result<()> {
        self.write_damage(out)?;
        let of_what = format!(
            "{} in {} ({}) with {}",
            counted(self.records, "record"),
            counted(self.files_read, "file"),
            size(self.bytes_read),
            counted(self.rules_loaded as u64, "rule"),
        );
        let total: u64 = self.findings.iter().sum();
        let at_least = match min_level {
            Level::Informational => String::new(),
            level => format!(" of level {level} or above"),
        };
        if total == 0 {
            let none = format!("Read {of_what}. No rule{at_least} matched a record.");
            writeln!(out, "{}", looks.heading(&none))?;
        } else {
            let by_level = by_level(&self.findings);
            let found =
                format!("Read {of_what}: {}{at_least} ({by_level}).", counted(total, "finding"));
            writeln!(out, "{}", looks.heading(&found))?;
        }
        let silent = self.read.iter().filter(|read| read.findings == 0).count() as u64;
        if silent > 0 && total > 0 {
            let adds = if silent == 1 { "adds" } else { "add" };
            writeln!(
                out,
                "{} {adds} nothing: no rule{at_least} matched there.",
                counted(silent, "file")
            )?;
        }
        let subtracted: u64 = self.subtracted.iter().sum();
        if subtracted > 0 {
            let (findings, levels) = (counted(subtracted, "finding"), by_level(&self.subtracted));
            writeln!(out, "{findings} not told: the baseline has the same ({levels}).")?;
        }
        if self.rules_refused > 0 {
            let rules = counted(self.rules_refused as u64, "rule");
            writeln!(out, "{rules} refused and not tried; --show-refused says why.")?;
        }
        if self.records_without_source > 0 {
            let records = counted(self.records_without_source, "record");
            writeln!(
                out,
                "{records} don't say what log they are of; only rules for any log were tried on them. \
                 Name it with --product, --category or --service."
            )?;
        }
        if self.not_logs > 0 {
            writeln!(
                out,
                "{} passed over: neither EVTX nor JSON.",
                counted(self.not_logs, "file")
            )?;
        }
        self.write_correlated(out)?;
        if !self.is_read_whole() {
            writeln!(out, "{}", looks.heading("Not everything could be read: see above."))?;
        }
        Ok(())
    }

    fn write_correlated(&self, out: &mut dyn Write) -> io::Result<()> {
        let Account { parts, untimed, unheard } = self.correlated;
        if parts > 1 {
            writeln!(
                out,
                "Correlated in {} parts, because of so many hits: what spans two parts was not looked \
                 for. Scan fewer files at once.",
                count(parts)
            )?;
        }
        let told = [
            (untimed, "not correlated: the event has no time"),
            (unheard.late, "not correlated: out of order"),
            (unheard.given_up, "given up before their time: there were too many to correlate"),
            (unheard.cut, "correlated by the first of their values only: they have too many"),
            (unheard.ungrouped, "left out of a correlation: they lack a field it groups by"),
            (unheard.uncounted, "left out of a correlation: they lack the value it counts"),
        ];
        for (number, what) in told.into_iter().filter(|(number, _)| *number > 0) {
            writeln!(out, "{} {what}.", counted(number, "hit"))?;
        }
        Ok(())
    }

    fn write_damage(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.damages.len() > 0 {
            writeln!(out, "Torn, and what was lost:")?;
            let mut told = None;
            for (path, damage) in &self.damages.named {
                if told != Some(path) {
                    writeln!(out, "  {}", path_shown(path))?;
                    told = Some(path);
                }
                writeln!(out, "    {}", Safe(&damage.to_string()))?;
            }
            others(out, self.damages.others, "place")?;
        }
        if self.wrong_sums.len() > 0 {
            writeln!(out, "Checksums are wrong, records were read all the same:")?;
            for (path, places) in &self.wrong_sums.named {
                writeln!(out, "  {}: {}", path_shown(path), counted(*places, "place"))?;
            }
            others(out, self.wrong_sums.others, "file")?;
        }
        if self.unreadable.len() > 0 {
            writeln!(out, "Not read:")?;
            for (path, reason) in &self.unreadable.named {
                writeln!(out, "  {}: {}", path_shown(path), Safe(reason))?;
            }
            others(out, self.unreadable.others, "file")?;
        }
        if self.damages.len() + self.wrong_sums.len() + self.unreadable.len() > 0 {
            writeln!(out)?;
        }
        Ok(())
    }
}

const LEVELS: [Level; 5] =
    [Level::Critical, Level::High, Level::Medium, Level::Low, Level::Informational];

/// Counts by level, the gravest first: `2 high, 1 low`.
fn by_level(counts: &[u64; 5]) -> String {
    let counted = |level: &Level| counts[*level as usize] > 0;
    let shown = |level: &Level| format!("{} {level}", count(counts[*level as usize]));
    LEVELS.iter().filter(|level| counted(level)).map(shown).collect::<Vec<_>>().join(", ")
}

fn path_shown(path: &Path) -> String {
    Safe(&path.to_string_lossy()).to_string()
}

fn others(out: &mut dyn Write, number: u64, thing: &str) -> io::Result<()> {
    if number > 0 { writeln!(out, "  and {} more", counted(number, thing)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_intake::Form;

    const PLAIN: Looks = Looks { width: 100, has_colour: false, has_bar: false };

    fn written(summary: &Summary) -> String {
        let mut out = Vec::new();
        summary.write(&mut out, Level::Informational, PLAIN).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn log(path: &str, bytes: u64, is_named: bool) -> LogFile {
        LogFile { path: path.into(), bytes, is_named }
    }

    fn read(records: u64) -> End {
        End { records, records_without_source: 0, form: Ok(Form::Evtx), machines: HashSet::new() }
    }

    #[test]
    fn nothing_found_says_in_how_much() {
        let mut summary = Summary::with_rules(2407, 0);
        summary.ended(0, &log("a.evtx", 69_632, true), read(12));
        assert_eq!(
            written(&summary),
            "Read 12 records in 1 file (69.6 kB) with 2,407 rules. No rule matched a record.\n"
        );
        assert!(summary.is_complete());
    }

    #[test]
    fn files_that_add_nothing_are_said_to() {
        let mut summary = Summary::default();
        summary.found(0, Level::High);
        for number in 0..3 {
            summary.ended(number, &log("x.evtx", 1, true), read(1));
        }
        assert!(written(&summary).contains("2 files add nothing: no rule matched there.\n"));
        // A correlation's finding comes after the files' ends.
        summary.found(2, Level::Low);
        assert!(written(&summary).contains("1 file adds nothing: no rule matched there.\n"));
        let found: Vec<u64> = summary.files().iter().map(|read| read.findings).collect();
        assert_eq!(found, [1, 0, 1]);
    }

    #[test]
    fn what_was_lost_is_said_by_file_and_byte() {
        let mut summary = Summary::default();
        let lost = Lost::Records { ids: Some((5, 9)), bytes: 800 };
        let damage = Damage { offset: 4608, line: None, reason: "zeroes".into(), lost };
        summary.damaged(Path::new("a\u{1b}.evtx"), damage);
        for offset in [1, 2] {
            let damage = Damage { offset, line: None, reason: "sum".into(), lost: Lost::Nothing };
            summary.damaged(Path::new("b.evtx"), damage);
        }
        let end = End { form: Err(Unreadable::Empty), ..read(0) };
        summary.ended(0, &log("c.evtx", 0, false), end);
        let end = End { form: Err(Unreadable::Unknown), ..read(0) };
        summary.ended(0, &log("d.txt", 0, false), end);
        let text = written(&summary);
        assert!(
            text.contains(
                "  a\\u{1b}.evtx\n    at byte 4608: zeroes; lost records 5 to 9 (800 bytes)\n"
            ),
            "{text}"
        );
        assert!(text.contains("  b.evtx: 2 places\n"), "{text}");
        assert!(text.contains("  c.evtx: the file is empty\n"), "{text}");
        assert!(text.contains("1 file passed over"), "{text}");
        assert!(text.ends_with("Not everything could be read: see above.\n"), "{text}");
    }

    #[test]
    fn lists_have_an_end() {
        let mut summary = Summary::default();
        for file in 0..NAMED + 7 {
            summary.refused(Path::new(&file.to_string()), "x".into());
        }
        assert!(written(&summary).contains("  and 7 files more\n"));
    }
}
