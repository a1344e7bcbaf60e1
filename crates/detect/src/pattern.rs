//! Text patterns: what a Sigma string value says about a whole value.
//!
//! The one idea: every string of a rule, whatever its modifiers, becomes one list of pieces that is
//! matched against the *whole* value; `contains` is a run before and after. The list has a normal form,
//! so that two rules that ask the same thing in other words share one predicate. A pattern that ignores
//! case holds folded text and is matched against folded text.

use std::fmt;

use rsigma_parser::{SigmaString, SpecialChar, StringPart};
use serde::{Deserialize, Serialize};

use crate::fold::fold;
use crate::predicate::Place;

/// The characters that Windows programs take for one another before an option, as `windash` says
/// (Sigma specification 2.1, modifiers): hyphen, slash, en dash, em dash, horizontal bar.
pub const DASHES: [char; 5] = ['-', '/', '\u{2013}', '\u{2014}', '\u{2015}'];

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Piece {
    /// This text.
    Text(String),
    /// Exactly one character (`?`).
    One,
    /// Any number of characters, none included (`*`).
    Run,
    /// One of [`DASHES`].
    Dash,
}

/// What a pattern comes down to: most are not globs and have a faster way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape<'p> {
    /// Matches every text.
    Anything,
    /// The whole value is this text.
    Equals(&'p str),
    /// The value has this text in it.
    Contains(&'p str),
    /// The value starts with this text.
    StartsWith(&'p str),
    /// The value ends with this text.
    EndsWith(&'p str),
    /// None of these: inner wildcards.
    Glob,
}

/// A pattern over a whole value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pattern {
    pieces: Vec<Piece>,
    cased: bool,
}

impl Pattern {
    /// A pattern of `pieces` that minds case if `cased`, in normal form.
    #[must_use]
    pub fn new(pieces: impl IntoIterator<Item = Piece>, cased: bool) -> Self {
        let mut normal: Vec<Piece> = Vec::new();
        for piece in pieces {
            let piece = match piece {
                Piece::Text(text) if !cased => Piece::Text(fold(&text)),
                other => other,
            };
            match (normal.last_mut(), piece) {
                (_, Piece::Text(text)) if text.is_empty() => {}
                (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
                (Some(Piece::Run), Piece::Run) => {}
                (_, piece) => normal.push(piece),
            }
        }
        Self { pieces: normal, cased }
    }

    /// Whether the pattern minds case: then it is matched against the text as written.
    #[must_use]
    pub fn is_cased(&self) -> bool {
        self.cased
    }

    /// How many wildcards, and texts between them, it has.
    #[must_use]
    pub fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// What the pattern comes down to.
    #[must_use]
    pub fn shape(&self) -> Shape<'_> {
        match self.pieces.as_slice() {
            [] => Shape::Equals(""),
            [Piece::Run] => Shape::Anything,
            [Piece::Text(text)] => Shape::Equals(text),
            [Piece::Run, Piece::Text(text), Piece::Run] => Shape::Contains(text),
            [Piece::Text(text), Piece::Run] => Shape::StartsWith(text),
            [Piece::Run, Piece::Text(text)] => Shape::EndsWith(text),
            _ => Shape::Glob,
        }
    }

    /// Texts of which every match has one in it: the longest stretch without wildcards, in each form that
    /// its dashes allow. None if there is no such stretch.
    #[must_use]
    pub fn required_texts(&self) -> Option<Vec<String>> {
        self.pieces
            .split(|piece| matches!(piece, Piece::One | Piece::Run))
            .filter_map(forms)
            .max_by_key(|texts| texts.iter().map(|text| text.chars().count()).min())
    }

    /// The few texts that the pattern is short for, and where they must be, if its only wildcards are
    /// dashes and a run at either end: `windash|contains` is just several texts to look for.
    #[must_use]
    pub fn plain_forms(&self) -> Option<(Place, Vec<String>)> {
        let (place, stretch) = match self.pieces.as_slice() {
            [Piece::Run, stretch @ .., Piece::Run] => (Place::Anywhere, stretch),
            [Piece::Run, stretch @ ..] => (Place::End, stretch),
            [stretch @ .., Piece::Run] => (Place::Start, stretch),
            stretch => (Place::Whole, stretch),
        };
        Some((place, forms(stretch)?))
    }

    /// Whether the pattern matches the whole of `text`, which must be folded unless
    /// [`is_cased`](Self::is_cased). At most pieces × length steps.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self.shape() {
            Shape::Anything => true,
            Shape::Equals(want) => text == want,
            Shape::Contains(want) => text.contains(want),
            Shape::StartsWith(want) => text.starts_with(want),
            Shape::EndsWith(want) => text.ends_with(want),
            Shape::Glob => glob(&self.pieces, text),
        }
    }
}

/// The texts that a stretch of text and dashes stands for: none if it has a wildcard, is empty, or has so
/// many dashes that the automaton would grow by more than 25 texts for it, or 64 KiB.
fn forms(stretch: &[Piece]) -> Option<Vec<String>> {
    const MOST: usize = 25;
    const MOST_BYTES: usize = 64 << 10;
    let is_dash = |piece: &&Piece| matches!(piece, Piece::Dash);
    let bytes: usize = stretch
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.len(),
            _ => 0,
        })
        .sum();
    if stretch.iter().any(|piece| is_dash(&piece)) && bytes * DASHES.len() > MOST_BYTES {
        return None;
    }
    let mut forms = vec![String::new()];
    for piece in stretch {
        match piece {
            Piece::Text(text) => forms.iter_mut().for_each(|form| form.push_str(text)),
            Piece::Dash if forms.len() * DASHES.len() <= MOST => {
                forms = forms
                    .iter()
                    .flat_map(|form| DASHES.map(|dash| format!("{form}{dash}")))
                    .collect();
            }
            Piece::Dash | Piece::One | Piece::Run => return None,
        }
    }
    forms.iter().all(|form| !form.is_empty()).then_some(forms)
}

/// Matches from the left; when a piece fails, the latest run takes one character more. An earlier run
/// never needs to, because the pieces between two runs found their leftmost place.
fn glob(pieces: &[Piece], text: &str) -> bool {
    let (mut piece, mut rest) = (0, text);
    let mut latest_run: Option<(usize, &str)> = None;
    loop {
        let step = match pieces.get(piece) {
            Some(Piece::Run) => {
                latest_run = Some((piece + 1, rest));
                piece += 1;
                continue;
            }
            Some(Piece::Text(want)) => rest.strip_prefix(want.as_str()),
            Some(Piece::One) => without_first(rest, |_| true),
            Some(Piece::Dash) => without_first(rest, |c| DASHES.contains(&c)),
            None if rest.is_empty() => return true,
            None => None,
        };
        if let Some(after) = step {
            rest = after;
            piece += 1;
            continue;
        }
        let Some((after_run, from)) = latest_run else { return false };
        // A run at the end takes all that is left.
        if after_run == pieces.len() {
            return true;
        }
        let Some(shorter) = without_first(from, |_| true) else { return false };
        // Jump to where the text after the run occurs next: what lies between can't match.
        let next = match pieces.get(after_run) {
            Some(Piece::Text(want)) => match shorter.find(want.as_str()) {
                Some(at) => shorter.get(at..).unwrap_or_default(),
                None => return false,
            },
            _ => shorter,
        };
        latest_run = Some((after_run, next));
        (piece, rest) = (after_run, next);
    }
}

fn without_first(text: &str, accepts: impl Fn(char) -> bool) -> Option<&str> {
    let mut characters = text.chars();
    let first = characters.next()?;
    if accepts(first) { Some(characters.as_str()) } else { None }
}

/// The pieces of a Sigma string, with its wildcards and escapes as the parser read them.
#[must_use]
pub fn pieces_of(string: &SigmaString) -> Vec<Piece> {
    string
        .parts
        .iter()
        .map(|part| match part {
            StringPart::Plain(text) => Piece::Text(text.clone()),
            StringPart::Special(SpecialChar::WildcardMulti) => Piece::Run,
            StringPart::Special(SpecialChar::WildcardSingle) => Piece::One,
        })
        .collect()
}

/// Replaces each dash that starts an option by [`Piece::Dash`]: a dash with no word character before it
/// and one after it, so that in `-param-name` only the first is meant.
#[must_use]
pub fn with_any_dash(pieces: Vec<Piece>) -> Vec<Piece> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut result = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let Piece::Text(text) = piece else {
            result.push(piece);
            continue;
        };
        let mut plain = String::new();
        let mut before = None;
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            let starts_option = DASHES.contains(&character)
                && !before.is_some_and(is_word)
                && characters.peek().copied().is_some_and(is_word);
            if starts_option {
                result.push(Piece::Text(std::mem::take(&mut plain)));
                result.push(Piece::Dash);
            } else {
                plain.push(character);
            }
            before = Some(character);
        }
        result.push(Piece::Text(plain));
    }
    result
}

impl fmt::Display for Pattern {
    /// As a rule author would say it: `contains ' -enc '`, `like '\\*\ADMIN$'`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shape() {
            Shape::Anything => f.write_str("is anything")?,
            Shape::Equals(text) => write!(f, "is {text}")?,
            Shape::Contains(text) => write!(f, "contains {text}")?,
            Shape::StartsWith(text) => write!(f, "startswith {text}")?,
            Shape::EndsWith(text) => write!(f, "endswith {text}")?,
            Shape::Glob => {
                f.write_str("is like ")?;
                for piece in &self.pieces {
                    match piece {
                        Piece::Text(text) => f.write_str(text)?,
                        Piece::One => f.write_str("?")?,
                        Piece::Run => f.write_str("*")?,
                        Piece::Dash => f.write_str("[-/–—―]")?,
                    }
                }
            }
        }
        if self.cased { f.write_str(" (case-sensitive)") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(sigma: &str) -> Pattern {
        Pattern::new(pieces_of(&SigmaString::new(sigma)), false)
    }

    #[test]
    fn dashes_are_few_texts_to_look_for() {
        let pieces = with_any_dash(vec![Piece::Run, Piece::Text(" -c ".into()), Piece::Run]);
        let (place, texts) = Pattern::new(pieces, false).plain_forms().unwrap();
        assert_eq!(
            (place, texts),
            (Place::Anywhere, DASHES.map(|dash| format!(" {dash}c ")).to_vec())
        );
        assert_eq!(pattern("*a?bcd*").plain_forms(), None);
        assert_eq!(pattern("*a?bcd*").required_texts(), Some(vec!["bcd".to_owned()]));
        assert_eq!(pattern("??").required_texts(), None);
    }

    #[test]
    fn wildcards_say_the_same_as_modifiers() {
        assert_eq!(pattern("*foo*").shape(), Shape::Contains("foo"));
        assert_eq!(pattern("Foo**").shape(), Shape::StartsWith("foo"));
        assert_eq!(pattern(r"*\cmd.exe").shape(), Shape::EndsWith(r"\cmd.exe"));
        assert_eq!(pattern("").shape(), Shape::Equals(""));
        assert_eq!(pattern("**").shape(), Shape::Anything);
    }

    #[test]
    fn backslashes_escape_only_what_is_special() {
        // The specification's table of escapes.
        assert_eq!(pattern(r"\*").shape(), Shape::Equals("*"));
        assert_eq!(pattern(r"\?").shape(), Shape::Equals("?"));
        assert_eq!(pattern(r"\\*").shape(), Shape::StartsWith(r"\"));
        assert_eq!(pattern(r"\\\*").shape(), Shape::Equals(r"\*"));
        assert_eq!(pattern(r"\\\\").shape(), Shape::Equals(r"\\"));
        assert_eq!(pattern(r"\windows\").shape(), Shape::Equals(r"\windows\"));
    }

    #[test]
    fn inner_wildcards_match_whole_values() {
        assert!(pattern(r"\\\\*\\*$").matches(r"\\server\admin$"));
        assert!(!pattern(r"\\\\*\\*$").matches(r"\server\admin$"));
        assert!(pattern("a?c").matches("aéc"));
        assert!(!pattern("a?c").matches("ac"));
        assert!(pattern("a*b*c").matches("aXbXbXc"));
        assert!(!pattern("a*b*c").matches("aXbXbX"));
        assert!(pattern("*a?").matches("aaab"));
        assert!(pattern("*ab*ab").matches("abab"));
        assert!(!pattern("*ab*ab").matches("abb"));
    }

    #[test]
    fn a_run_crosses_lines() {
        assert!(pattern("a*b").matches("a\n\nb"));
    }

    #[test]
    fn only_the_dash_before_an_option_is_any_dash() {
        let any = |text: &str| Pattern::new(with_any_dash(vec![Piece::Text(text.into())]), false);
        for dash in DASHES {
            assert!(any(" -enc ").matches(&format!(" {dash}enc ")));
        }
        assert!(any("/c").matches("-c"));
        assert!(!any("-param-name").matches("-param/name"));
        assert!(any("--no-sandbox").matches("-/no-sandbox"));
        assert!(!any("--no-sandbox").matches("/-no-sandbox"));
        assert_eq!(any("a - b").shape(), Shape::Equals("a - b"));
    }

    /// The definition, without any cleverness.
    fn slow(pieces: &[Piece], text: &str) -> bool {
        match pieces.split_first() {
            None => text.is_empty(),
            Some((Piece::Text(want), rest)) => {
                text.strip_prefix(want.as_str()).is_some_and(|t| slow(rest, t))
            }
            Some((Piece::One, rest)) => {
                without_first(text, |_| true).is_some_and(|t| slow(rest, t))
            }
            Some((Piece::Dash, rest)) => {
                without_first(text, |c| DASHES.contains(&c)).is_some_and(|t| slow(rest, t))
            }
            Some((Piece::Run, rest)) => text
                .char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .any(|at| slow(rest, &text[at..])),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn matching_is_what_the_definition_says(
            sigma in r"[ab?*\-é]{0,7}", text in r"[ab/\-é]{0,8}", dashes: bool,
        ) {
            let mut pieces = pieces_of(&SigmaString::new(&sigma));
            if dashes {
                pieces = with_any_dash(pieces);
            }
            let pattern = Pattern::new(pieces.clone(), false);
            prop_assert_eq!(pattern.matches(&text), slow(&pieces, &text), "{:?}", pattern);
        }
    }
}
