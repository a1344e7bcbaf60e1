//! Text that strangers wrote, and times, as people read them.
//!
//! The one idea: what comes from an event is shown as it is, and can neither act nor deceive. Markup is
//! escaped by maud; characters that turn, hide or break text (bidi overrides, zero-width, controls: the
//! "Trojan Source" tricks) are shown as their code points; and a text is never longer than people read.

use std::fmt::Write as _;
use std::time::Duration;

use cordon_model::time::UtcNanos;
use jiff::Timestamp;
use maud::{Markup, Render, html};

/// The longest foreign text on one line: a rule's title, a path, a command line. 2 KiB is twenty lines of
/// a wide screen; raw events are shown in full below it.
pub const LINE_CHARS: usize = 2048;

/// Foreign text on a line: line breaks are shown, not obeyed.
pub struct Shown<'a>(pub &'a str);

/// Foreign text in a block, with its line breaks and tabs.
pub struct Block<'a>(pub &'a str);

impl Render for Shown<'_> {
    fn render_to(&self, out: &mut String) {
        out.push_str("<bdi>");
        let mut rest = self.0.chars();
        render_visibly(rest.by_ref().take(LINE_CHARS), false, out);
        let cut = rest.count();
        out.push_str("</bdi>");
        if cut > 0 {
            html! { " " span.cut { "… (" (cut) " more characters)" } }.render_to(out);
        }
    }
}

impl Render for Block<'_> {
    fn render_to(&self, out: &mut String) {
        render_visibly(self.0.chars(), true, out);
    }
}

fn render_visibly(chars: impl Iterator<Item = char>, is_block: bool, out: &mut String) {
    for character in chars {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' if is_block => out.push(character),
            _ if deceives(character) => {
                let code = u32::from(character);
                // Writing to a string can't fail.
                let _ = write!(out, "<span class=\"code-point\">U+{code:04X}</span>");
            }
            _ => out.push(character),
        }
    }
}

/// Whether a character shows as nothing, or changes how its neighbours show.
fn deceives(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}'
            | '\u{FFF0}'..='\u{FFFB}' | '\u{E0000}'..='\u{E0FFF}')
}

/// The same for a page's title, where there can be no markup: what deceives becomes `·`.
pub fn plain(text: &str) -> String {
    text.chars().take(120).map(|c| if deceives(c) { '·' } else { c }).collect()
}

/// A time in full, in UTC: an incident is told by people in several places.
pub fn utc(at: UtcNanos) -> String {
    Timestamp::from_nanosecond(i128::from(at.unix_nanos())).map_or_else(
        |_| "an impossible time".to_owned(),
        |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    )
}

/// A time as machines read it (RFC 3339).
fn machine_time(at: UtcNanos) -> String {
    Timestamp::from_nanosecond(i128::from(at.unix_nanos()))
        .map_or_else(|_| String::new(), |at| at.to_string())
}

/// A time with its age: `2026-01-31 03:12:09 UTC, 4 min ago`.
pub fn when(at: UtcNanos, now: UtcNanos) -> Markup {
    html! {
        time datetime=(machine_time(at)) { (utc(at)) }
        ", " (age(at, now))
    }
}

/// An age alone, with the time for those who want it.
pub fn age_only(at: UtcNanos, now: UtcNanos) -> Markup {
    html! { time datetime=(machine_time(at)) title=(utc(at)) { (age(at, now)) } }
}

/// How long ago, or from now, in words.
pub fn age(at: UtcNanos, now: UtcNanos) -> String {
    if at > now {
        let ahead = at.since(now);
        // Clocks of machines differ a little; that is no news.
        if ahead < Duration::from_secs(2) { "now".into() } else { format!("in {}", span(ahead)) }
    } else {
        let past = now.since(at);
        if past < Duration::from_secs(1) { "now".into() } else { format!("{} ago", span(past)) }
    }
}

pub use cordon_model::time::span;

/// `1 machine`, `2 machines`.
pub fn count(number: impl TryInto<u64>, word: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_foreign_text_is_inert() {
        let shown = Shown("<script>alert('1')</script>\"&").render().into_string();
        assert_eq!(shown, "<bdi>&lt;script&gt;alert('1')&lt;/script&gt;&quot;&amp;</bdi>");
    }

    #[test]
    fn what_turns_or_hides_text_is_shown_as_its_code_point() {
        for character in
            ['\u{202E}', '\u{2066}', '\u{200B}', '\u{FEFF}', '\0', '\u{1B}', '\r', '\n']
        {
            let shown = Shown(&format!("a{character}b")).render().into_string();
            assert!(!shown.contains(character), "{shown:?}");
            assert!(shown.contains(&format!("U+{:04X}", u32::from(character))), "{shown}");
        }
        assert_eq!(Block("a\n\tb").render().into_string(), "a\n\tb");
        assert_eq!(plain("a\u{202E}b"), "a·b");
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let shown = Shown(&"x".repeat(LINE_CHARS + 5)).render().into_string();
        assert!(shown.contains("5 more characters"));
    }

    #[test]
    fn ages_are_said_in_words() {
        let now = UtcNanos::from_unix_nanos(1_769_829_129_000_000_000);
        let before = |seconds: i64| {
            age(UtcNanos::from_unix_nanos(now.unix_nanos() - seconds * 1_000_000_000), now)
        };
        assert_eq!(before(0), "now");
        assert_eq!(before(59), "59 s ago");
        assert_eq!(before(250), "4 min 10 s ago");
        assert_eq!(before(4800), "1 h 20 min ago");
        assert_eq!(before(86_400 * 3), "3 days ago");
        assert_eq!(before(-3600), "in 1 h");
        assert_eq!(utc(now), "2026-01-31 03:12:09 UTC");
        assert_eq!(count(1_u64, "machine"), "1 machine");
    }
}
