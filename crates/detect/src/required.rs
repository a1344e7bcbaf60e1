//! Texts that every match of a regular expression must have in it, so that the expression is only run on
//! values that one of them was found in.
//!
//! The one idea: everything is in folded text. A class whose members fold to one character is that
//! character, so `(?i)mimikatz` requires `mimikatz`. What is returned is always safe: a value without any
//! of the texts has no match.

use regex_syntax::hir::{Class, Hir, HirKind};

use crate::fold::fold_char;

/// The fewest characters of a text that is looked for in every value.
const SHORTEST: usize = 2;
/// More alternatives than this cost more in the automaton than they save.
const MOST: usize = 64;
/// How many texts a run of classes and alternatives may multiply to.
const PRODUCT: usize = 16;
/// A character class of more than so many different folds is "anything".
const CLASS: usize = 4;

/// The folded texts of which every match of `source` has one, if that can be said.
#[must_use]
pub fn required_texts(source: &str) -> Option<Vec<String>> {
    let mut texts = texts_in_each_match(source)?;
    // A shorter text is found in too many values to be worth looking for in all of them.
    if shortest(&texts) < SHORTEST {
        return None;
    }
    texts.sort_by_key(|text| text.len());
    // Where a text is found, every text within it is found too.
    let mut needed: Vec<String> = Vec::new();
    for text in texts {
        if !needed.iter().any(|part| text.contains(part)) {
            needed.push(text);
        }
    }
    needed.sort();
    Some(needed)
}

/// The same, be they however short and many: whether one is there is quicker seen than whether the expression
/// matches.
pub fn texts_in_each_match(source: &str) -> Option<Vec<String>> {
    let known = Known::of(&regex_syntax::parse(source).ok()?);
    best([known.exact, known.required])
}

type Texts = Option<Vec<String>>;

/// What is known of the matches of a part of an expression.
struct Known {
    /// Every match is, folded, exactly one of these.
    exact: Texts,
    /// Every match has one of these in it, folded.
    required: Texts,
}

impl Known {
    const NOTHING: Self = Self { exact: None, required: None };

    fn exactly(texts: Vec<String>) -> Self {
        Self { exact: Some(texts), required: None }
    }

    fn of(hir: &Hir) -> Self {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => Self::exactly(vec![String::new()]),
            HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
                Ok(text) => Self::exactly(vec![text.chars().map(fold_char).collect()]),
                Err(_) => Self::NOTHING,
            },
            HirKind::Class(class) => Self { exact: folds_of(class), required: None },
            HirKind::Capture(capture) => Self::of(&capture.sub),
            HirKind::Repetition(repetition) => {
                let inner = Self::of(&repetition.sub);
                match (repetition.min, repetition.max) {
                    (1, Some(1)) => inner,
                    (0, Some(1)) => Self {
                        exact: inner.exact.map(|mut texts| {
                            texts.push(String::new());
                            texts
                        }),
                        required: None,
                    },
                    (0, _) => Self::NOTHING,
                    _ => Self { exact: None, required: best([inner.exact, inner.required]) },
                }
            }
            HirKind::Concat(parts) => Self::of_concatenation(parts),
            HirKind::Alternation(parts) => {
                let known: Vec<Self> = parts.iter().map(Self::of).collect();
                let exact = known.iter().map(|part| part.exact.clone()).collect::<Option<Vec<_>>>();
                let required = known
                    .into_iter()
                    .map(|part| best([part.exact, part.required]))
                    .collect::<Option<Vec<_>>>();
                Self {
                    exact: exact.map(|texts| texts.concat()).filter(|texts| texts.len() <= MOST),
                    required: required
                        .map(|texts| texts.concat())
                        .filter(|texts| texts.len() <= MOST),
                }
            }
        }
    }

    fn of_concatenation(parts: &[Hir]) -> Self {
        let mut run = vec![String::new()];
        let mut is_exact = true;
        let mut found: Texts = None;
        for part in parts {
            let known = Self::of(part);
            match known.exact {
                Some(texts) if run.len() * texts.len() <= PRODUCT => {
                    run = run
                        .iter()
                        .flat_map(|head| texts.iter().map(move |tail| format!("{head}{tail}")))
                        .collect();
                }
                exact => {
                    is_exact = false;
                    found = best([found, Some(std::mem::replace(&mut run, vec![String::new()]))]);
                    found = best([found, known.required]);
                    if let Some(texts) = exact {
                        run = texts;
                    }
                }
            }
        }
        if is_exact {
            return Self::exactly(run);
        }
        Self { exact: None, required: best([found, Some(run)]) }
    }
}

/// The set that is found in the fewest values, judged by its shortest text.
fn best<const N: usize>(sets: [Texts; N]) -> Texts {
    sets.into_iter()
        .flatten()
        .filter(|texts| !texts.is_empty() && texts.len() <= MOST && shortest(texts) > 0)
        .max_by_key(|texts| (shortest(texts), std::cmp::Reverse(texts.len())))
}

fn shortest(texts: &[String]) -> usize {
    texts.iter().map(|text| text.chars().count()).min().unwrap_or(0)
}

fn folds_of(class: &Class) -> Texts {
    let Class::Unicode(class) = class else { return None };
    let mut folds: Vec<char> = Vec::new();
    for range in class.ranges() {
        // Each fold has few preimages, so a class of few folds has few members.
        if u32::from(range.end()) - u32::from(range.start()) > 8 {
            return None;
        }
        for character in range.start()..=range.end() {
            let fold = fold_char(character);
            if !folds.contains(&fold) {
                folds.push(fold);
            }
            if folds.len() > CLASS {
                return None;
            }
        }
    }
    Some(folds.into_iter().map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::fold;
    use proptest::prelude::*;
    use regex_automata::meta::Regex;

    fn required(source: &str) -> Vec<String> {
        required_texts(source).unwrap_or_default()
    }

    #[test]
    fn case_does_not_hide_a_text() {
        // `k` has a third form, the Kelvin sign, and `s` a long one that folds to itself.
        assert_eq!(required("(?i)mimi"), ["mimi"]);
        assert_eq!(required("(?i)kat[12]"), ["kat1", "kat2"]);
    }

    #[test]
    fn the_longest_part_that_must_be_there_is_taken() {
        assert_eq!(required(r"\d+ab.*(?:secret|hidden)x?$"), ["hidden", "secret"]);
        assert_eq!(required(r"(?:abc)+\s*"), ["abc"]);
        assert_eq!(required(r"(?:abc)*\s*"), Vec::<String>::new());
        assert_eq!(required(r"abc|\d"), Vec::<String>::new());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn a_value_without_a_required_text_has_no_match(
            source in r"(\(\?i\))?([abcABCſK]{1,4}|\[ab\]|[abc]\?|\(abc\|bca\|c\)[+*?]?|\.|\.\*|\\w){1,6}",
            value in r"[abcABCſsk ]{0,14}",
        ) {
            if let (Ok(regex), Some(texts)) = (Regex::new(&source), required_texts(&source))
                && regex.is_match(value.as_str())
            {
                let folded = fold(&value);
                prop_assert!(texts.iter().any(|text| folded.contains(text)), "{source} {value} {texts:?}");
            }
        }
    }
}
