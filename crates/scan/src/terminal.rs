//! What may go to a terminal, and how wide it is.
//!
//! Event data is the attacker's text: an escape sequence in a command line could repaint the screen, a
//! bidirectional override could show it backwards. So everything that came from outside passes [`Safe`]
//! on its way to people. (JSON output escapes control characters by its own grammar.)

use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;

use anstyle::{AnsiColor, Style};
use cordon_model::finding::Level;
use unicode_width::UnicodeWidthChar as _;

/// How to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    /// Columns of a line.
    pub width: usize,
    /// Whether colours are wanted.
    pub has_colour: bool,
    /// Whether a progress bar is wanted on stderr.
    pub has_bar: bool,
}

impl Looks {
    /// What this process's stdout and stderr ask for: colour and bar only on a terminal, no colour when
    /// `NO_COLOR` is set (no-color.org) or the terminal is dumb.
    #[must_use]
    pub fn of_this_process(output_is_for_people: bool) -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let (out, err) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        let columns = terminal_size::terminal_size_of(std::io::stdout())
            .map_or(DEFAULT_WIDTH, |(columns, _)| usize::from(columns.0));
        Self {
            width: columns.clamp(LEAST_WIDTH, MOST_WIDTH),
            has_colour: out && !is_set("NO_COLOR") && !is_dumb,
            // Lines and a bar on one terminal would write over each other.
            has_bar: err && (output_is_for_people || !out),
        }
    }

    /// `text` in the colour of `level`.
    pub(crate) fn level(self, level: Level, text: &str) -> String {
        let style = match level {
            Level::Critical => Style::new().bold().fg_color(Some(AnsiColor::BrightRed.into())),
            Level::High => Style::new().fg_color(Some(AnsiColor::Red.into())),
            Level::Medium => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
            Level::Low => Style::new().fg_color(Some(AnsiColor::Cyan.into())),
            Level::Informational => Style::new().dimmed(),
        };
        self.styled(style, text)
    }

    /// `text` as a heading.
    pub(crate) fn heading(self, text: &str) -> String {
        self.styled(Style::new().bold(), text)
    }

    /// `text` that steps back.
    pub(crate) fn faint(self, text: &str) -> String {
        self.styled(Style::new().dimmed(), text)
    }

    fn styled(self, style: Style, text: &str) -> String {
        if self.has_colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// Narrower than this a table can't be read; it is left to wrap.
const LEAST_WIDTH: usize = 80;
/// Wider than this a line can't be followed by eye.
const MOST_WIDTH: usize = 120;
/// For a file or a pipe.
const DEFAULT_WIDTH: usize = 100;

/// Text from outside, made safe to show: what controls a terminal or the direction of writing is written
/// as `\u{1b}`.
pub(crate) struct Safe<'t>(pub &'t str);

impl fmt::Display for Safe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            if is_harmful(letter) {
                write!(f, "{}", letter.escape_unicode())?;
            } else {
                f.write_char(letter)?;
            }
        }
        Ok(())
    }
}

/// Whether `letter` does something other than being seen.
fn is_harmful(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}'                      // soft hyphen
            | '\u{61c}'                   // Arabic letter mark
            | '\u{200b}'..='\u{200f}'     // zero width, marks of direction
            | '\u{2028}'..='\u{202e}'     // line and paragraph ends, embeddings, overrides
            | '\u{2060}'..='\u{206f}'     // joiners, isolates, deprecated controls
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}') // tags
}

/// `text` made safe and cut to `columns`, with `…` where something was cut.
pub(crate) fn fitted(text: &str, columns: usize) -> String {
    let mut fitted = String::new();
    let mut used = 0;
    for letter in text.chars() {
        let escaped = is_harmful(letter).then(|| letter.escape_unicode().to_string());
        let width = escaped.as_ref().map_or_else(|| letter.width().unwrap_or(1), String::len);
        if used + width > columns {
            // Room for the mark: letters go until one column is free.
            while used + 1 > columns {
                let Some(last) = fitted.pop() else { break };
                used -= last.width().unwrap_or(1).min(used);
            }
            if columns > 0 {
                fitted.push('…');
            }
            return fitted;
        }
        used += width;
        match escaped {
            Some(escaped) => fitted.push_str(&escaped),
            None => fitted.push(letter),
        }
    }
    fitted
}

/// `text`, already safe, filled up with blanks to `columns`.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    let used: usize = text.chars().map(|letter| letter.width().unwrap_or(0)).sum();
    let mut padded = text.to_owned();
    padded.extend(std::iter::repeat_n(' ', columns.saturating_sub(used)));
    padded
}

/// A count as people read it: `25,062`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `number` of `thing`: `1 file`, `2 files`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A length as people read it: `52.1 MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    for (unit, name) in UNITS {
        if bytes >= unit {
            return format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit);
        }
    }
    counted(bytes, "byte")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_can_drive_a_terminal() {
        let hostile = "a\u{1b}]0;owned\u{7}\u{9b}31m\r\n\u{202e}txt.exe\u{200b}\u{2028}";
        let shown = Safe(hostile).to_string();
        assert!(!shown.chars().any(is_harmful), "{shown}");
        assert!(shown.starts_with("a\\u{1b}]0;owned\\u{7}"), "{shown}");
        assert_eq!(fitted(hostile, 200), shown);
    }

    #[test]
    fn a_cut_text_fits_and_says_that_it_was_cut() {
        assert_eq!(fitted("abcdef", 6), "abcdef");
        assert_eq!(fitted("abcdef", 5), "abcd…");
        assert_eq!(fitted("漢字漢字", 5), "漢字…");
        assert_eq!(fitted("abc", 0), "");
        for columns in 0..20 {
            let cut = fitted("a漢\u{1b}b字\u{202e}cde", columns);
            let used: usize = cut.chars().map(|letter| letter.width().unwrap_or(0)).sum();
            assert!(used <= columns, "{columns}: {cut}");
        }
    }

    #[test]
    fn numbers_are_grouped_for_the_eye() {
        assert_eq!(
            [0, 999, 1000, 25_062, 1_234_567].map(count),
            ["0", "999", "1,000", "25,062", "1,234,567"]
        );
        assert_eq!(
            [1, 999, 1000, 52_100_000].map(size),
            ["1 byte", "999 bytes", "1.0 kB", "52.1 MB"]
        );
    }
}
