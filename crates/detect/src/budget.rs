//! What one rule may grow to while it is translated.
//!
//! The one idea: modifiers multiply (`base64offset` makes three values of one, `expand` as many as there are,
//! each `wide` doubles a text), and a line of a rule may have many. So a rule has an account of each thing
//! that it can use up; what is used up refuses that rule, and nothing else is the poorer for it.

/// Most bytes of texts that the values of a rule come to, at any step of their modifiers: the texts of one
/// document at their most, each twice.
pub const PATTERN_BYTES_A_RULE: usize = 8 << 20;

/// Most modifiers of one line. Six different ones can make sense together.
pub const MODIFIERS: usize = 16;

/// Most detections of one rule. SigmaHQ's largest has about forty.
pub const DETECTIONS: usize = 1_000;

/// Most wildcards and texts between them, in all values of a rule that are more than a text with a wildcard
/// at either end. Each may be a step for each byte of a value: 10,000 on 32 KiB are 300 million steps, a third
/// of a second, if everything in a rule is made for it.
pub const GLOB_PIECES_A_RULE: usize = 10_000;

/// Most memory of all regular expressions of a rule, compiled.
pub const REGEX_BYTES_A_RULE: usize = 32 << 20;

/// Most memory of all regular expressions that the rules of one file have compiled, those that were refused
/// counted: compiling is what costs time.
pub const REGEX_BYTES_A_FILE: usize = 128 << 20;

/// Most memory of all regular expressions in a set.
pub const REGEX_BYTES_A_SET: usize = 512 << 20;

/// What a rule has left.
#[derive(Debug)]
pub(crate) struct Budget {
    pattern_bytes: usize,
    glob_pieces: usize,
    regex_bytes: usize,
}

impl Budget {
    /// A rule's, where its file and its set have so many bytes for regular expressions left.
    pub(crate) fn with_regex_bytes(left: usize) -> Self {
        Self {
            pattern_bytes: PATTERN_BYTES_A_RULE,
            glob_pieces: GLOB_PIECES_A_RULE,
            regex_bytes: left.min(REGEX_BYTES_A_RULE),
        }
    }

    /// Whether values of so many bytes are within what is left.
    pub(crate) fn has_pattern_bytes(&self, bytes: usize) -> Result<(), String> {
        if bytes <= self.pattern_bytes {
            return Ok(());
        }
        Err(format!(
            "with their modifiers the rule's values come to more than {} MiB: write fewer or shorter ones",
            PATTERN_BYTES_A_RULE >> 20
        ))
    }

    /// Takes them.
    pub(crate) fn take_pattern_bytes(&mut self, bytes: usize) -> Result<(), String> {
        self.has_pattern_bytes(bytes)?;
        self.pattern_bytes -= bytes;
        Ok(())
    }

    /// Takes the pieces of a value with inner wildcards.
    pub(crate) fn take_glob_pieces(&mut self, pieces: usize) -> Result<(), String> {
        self.glob_pieces = self.glob_pieces.checked_sub(pieces).ok_or_else(|| {
            format!("the rule's values have more than {GLOB_PIECES_A_RULE} wildcards and texts between them")
        })?;
        Ok(())
    }

    /// How large the next regular expression may be.
    pub(crate) fn regex_bytes(&self) -> usize {
        self.regex_bytes
    }

    /// Takes what a regular expression came to, or what it was given up at.
    pub(crate) fn take_regex_bytes(&mut self, bytes: usize) {
        self.regex_bytes = self.regex_bytes.saturating_sub(bytes);
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::with_regex_bytes(REGEX_BYTES_A_RULE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modifiers::{EXPANSIONS, translate};
    use crate::placeholders::Placeholders;
    use crate::predicate::Test;
    use proptest::prelude::*;
    use rsigma_parser::parse_sigma_yaml;

    fn placeholders() -> Placeholders {
        let values = |count: usize| (0..count).map(|number| "x".repeat(number)).collect();
        [("few".to_owned(), values(3)), ("many".to_owned(), values(60))].into()
    }

    /// What the line `A|modifiers: value` comes to: tests, and bytes in them.
    fn translated(modifiers: &str, value: &str) -> Option<Result<(usize, usize), String>> {
        let value = value.replace('\'', "''");
        let text = format!(
            "title: t\nlogsource: {{product: p}}\ndetection:\n  s:\n    'A{modifiers}': '{value}'\n  condition: s\n"
        );
        let rule = parse_sigma_yaml(&text).ok()?.rules.pop()?;
        let rsigma_parser::Detection::AllOf(items) = rule.detection.named.get("s")? else {
            return None;
        };
        let line = translate(items.first()?, &placeholders(), &mut Budget::default());
        Some(line.map(|line| {
            let bytes = |test: &Test| match test {
                Test::Text(pattern) => pattern.to_string().len(),
                _ => 0,
            };
            (line.tests.len(), line.tests.iter().map(|(test, _)| bytes(test)).sum())
        }))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        /// However modifiers are strung together, and whatever they are given.
        #[test]
        fn no_line_comes_to_more_than_its_rule_may(
            modifiers in prop::collection::vec(
                prop::sample::select(vec![
                    "contains", "startswith", "endswith", "windash", "wide", "utf16", "utf16be", "base64",
                    "base64", "base64offset", "base64offset", "wide", "expand", "all", "re", "cased", "i",
                ]),
                0..20,
            ),
            value in prop::sample::select(vec!["a", "-a /b", "%few%%few%", "%many%", "a*b?c", "%many%%many%é"]),
            times in 1..2000_usize,
        ) {
            let modifiers: String = modifiers.iter().map(|one| format!("|{one}")).collect();
            if let Some(Ok((tests, bytes))) = translated(&modifiers, &value.repeat(times)) {
                prop_assert!(tests <= EXPANSIONS, "{modifiers}: {tests} tests");
                prop_assert!(bytes <= PATTERN_BYTES_A_RULE, "{modifiers}: {bytes} bytes");
            }
        }
    }

    #[test]
    fn what_multiplies_is_refused_with_its_reason() {
        let reason =
            |modifiers: &str, value: &str| translated(modifiers, value).unwrap().unwrap_err();
        let times = |modifier: &str, times: usize| format!("|{modifier}").repeat(times);
        assert!(reason(&times("contains", 17), "a").contains("more than 16 modifiers"));
        assert!(reason(&times("base64offset", 8), "abc").contains("more than 4096 others"));
        let wide = times("wide|base64", 8);
        assert!(reason(&wide, &"a".repeat(100_000)).contains("more than 8 MiB"));
        let long = format!("{}%many%%many%", "a".repeat(10_000));
        assert!(reason("|expand", &long).contains("its placeholders make more than 8 MiB"));
        let long = format!("%many%%many%{}", "a".repeat(10_000));
        assert!(reason("|expand", &long).contains("its placeholders make more than 8 MiB"));
        assert!(reason("", &"*a".repeat(6_000)).contains("more than 10000 wildcards"));
        assert!(reason("|re", &"a".repeat(40_000)).contains("longer than 32 KiB"));
        assert!(reason("|re", r"a(\w{1,400}b){1,400}c").contains("at most 8 MiB compiled"));
    }
}
