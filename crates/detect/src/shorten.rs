//! Regular expressions cut to what decides whether there is a match.
//!
//! The one idea: where a match begins and ends is never asked. So a repetition at either end need not be longer
//! than its least number, and what may be empty there need not be there at all: `-k\s\w{1,64}(?: -p)?` has a
//! match where `-k\s\w` has one, and the machine for the long one has far more states.

use regex_syntax::hir::{Hir, HirKind, Repetition};

/// An expression that has a match in the same texts as `hir`.
pub(crate) fn shortened(hir: &Hir) -> Hir {
    cut(&cut(hir, Edge::Start), Edge::End)
}

#[derive(Clone, Copy)]
enum Edge {
    Start,
    End,
}

fn cut(hir: &Hir, edge: Edge) -> Hir {
    match hir.kind() {
        HirKind::Capture(capture) => cut(&capture.sub, edge),
        HirKind::Repetition(Repetition { min: 0, .. }) => Hir::empty(),
        HirKind::Repetition(Repetition { min: 1, sub, .. }) => cut(sub, edge),
        HirKind::Repetition(Repetition { min, greedy, sub, .. }) => Hir::repetition(Repetition {
            min: *min,
            max: Some(*min),
            greedy: *greedy,
            sub: sub.clone(),
        }),
        HirKind::Alternation(parts) => {
            Hir::alternation(parts.iter().map(|part| cut(part, edge)).collect())
        }
        HirKind::Concat(parts) => {
            // Whole parts at the edge that may be empty go, the first that stays is cut.
            let cut_part = |part: &Hir| {
                let part = cut(part, edge);
                (!matches!(part.kind(), HirKind::Empty)).then_some(part)
            };
            let from_edge = |at: usize| match edge {
                Edge::Start => at,
                Edge::End => parts.len() - 1 - at,
            };
            let found = (0..parts.len())
                .map(from_edge)
                .find_map(|at| Some((at, cut_part(parts.get(at)?)?)));
            let Some((at, part)) = found else { return Hir::empty() };
            let (before, after) = match edge {
                Edge::Start => (&[][..], parts.get(at + 1..).unwrap_or_default()),
                Edge::End => (parts.get(..at).unwrap_or_default(), &[][..]),
            };
            let parts = before.iter().cloned().chain([part]).chain(after.iter().cloned()).collect();
            Hir::concat(parts)
        }
        // What looks around is about its place: it stays, and so does what is before it.
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => hir.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex_automata::meta::Regex;

    fn short(source: &str) -> String {
        shortened(&regex_syntax::parse(source).unwrap()).to_string()
    }

    #[test]
    fn repetitions_at_the_ends_are_as_short_as_they_may_be() {
        let same = |source: &str| regex_syntax::parse(source).unwrap().to_string();
        assert_eq!(short(r"-k\s\w{1,64}(?:\s?(?:-p|-s))?"), same(r"-k\s\w"));
        assert_eq!(short(r".*a+b{2,}"), same(r"ab{2}"));
        assert_eq!(short(r"(?:x*(a+|b*c?))"), same(r"a|"));
        // These are at the ends of texts, not of expressions.
        assert_eq!(short(r"^a*b+$"), same(r"^a*b+$"));
        assert_eq!(short(r"\ba+\b"), same(r"\ba+\b"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn the_short_one_has_a_match_where_the_long_one_has(
            source in r"(\(\?[ism]\))?(\^|\\b|\\B|\$|[abé]{1,3}|\.|\\w|[ab][?*+]|[ab.]\{[0-2],[2-4]\}|\((a|ab|b\*)\|(b|a\+|\\b|b\?)\)[?*+]?|\(\?:ab\?\)\{1,3\}){1,6}",
            value in r"[abé \n]{0,10}",
        ) {
            let (long, short) = (regex_syntax::parse(&source).unwrap(), short(&source));
            let matches = |hir: &Hir| Regex::builder().build_from_hir(hir).unwrap().is_match(&value);
            prop_assert_eq!(matches(&long), matches(&shortened(&long)), "{} {}", source, short);
        }
    }
}
