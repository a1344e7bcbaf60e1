//! The documents of a rule text: where each begins, and which line of it a fault is on.

/// One document of a text and the line it starts on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Document<'t> {
    pub text: &'t str,
    pub line: usize,
}

/// Splits a text at its document marks, so that a fault in one document doesn't take the next ones with
/// it (a line that starts with `---` can't be inside a YAML value). Documents that build on one another
/// (`action: global` and the like) stay together.
pub(crate) fn documents(text: &str) -> Vec<Document<'_>> {
    let is_mark = |line: &str| {
        line.strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
    };
    let builds_on_others = text.lines().any(|line| line.starts_with("action:"));
    let mut documents = Vec::new();
    let (mut start, mut first_line) = (0, 1);
    let mut at = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if is_mark(line) && !builds_on_others {
            documents
                .push(Document { text: text.get(start..at).unwrap_or_default(), line: first_line });
            // What follows the mark on its line belongs to the document.
            (start, first_line) = (at, number);
        }
        at += line.len();
    }
    documents.push(Document { text: text.get(start..).unwrap_or_default(), line: first_line });
    let is_empty = |text: &str| {
        text.lines().all(|line| {
            line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim() == "---"
        })
    };
    documents.retain(|document| !is_empty(document.text));
    documents
}

impl Document<'_> {
    /// A section by its key, as written. None where there is none, or where documents build on one
    /// another, so that which of them says it can't be told.
    pub(crate) fn section(&self, key: &str) -> Option<yaml_serde::Value> {
        let document: yaml_serde::Value = yaml_serde::from_str(self.text).ok()?;
        document.get(key).cloned()
    }

    /// The line, in the file, of the first line that has `key` as its key, or else has it anywhere.
    pub(crate) fn line_of(&self, key: &str) -> Option<usize> {
        let is_key = |line: &str| {
            let line = line.trim_start().trim_start_matches("- ").trim_start_matches(['\'', '"']);
            line.strip_prefix(key).is_some_and(|rest| rest.starts_with(['|', ':', '\'', '"', ' ']))
        };
        let mut lines = self.text.lines();
        let at = lines
            .position(is_key)
            .or_else(|| self.text.lines().position(|line| line.contains(key)))?;
        Some(self.line + at)
    }

    /// The value of a key of the document itself as written, for one that couldn't be parsed.
    pub(crate) fn value_of(&self, key: &str) -> Option<&str> {
        let line = self.text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(line.trim().trim_matches(['\'', '"'])).filter(|value| !value.is_empty())
    }

    /// The parser's message with the line it means, in the file.
    pub(crate) fn parser_reason(&self, message: &str) -> (usize, String) {
        let by_number = message.split_once("at line ").and_then(|(_, rest)| {
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok()
        });
        let quoted = message.split(['\'', '`']).nth(1);
        let by_text = || quoted.and_then(|text| self.line_of(text));
        let is_of_condition = message.contains("ondition");
        let line = match by_number {
            // In a condition's message the line counts within the condition.
            Some(number) if !is_of_condition => Some(self.line + number.saturating_sub(1)),
            _ if is_of_condition => self.line_of("condition"),
            _ => by_text(),
        };
        (line.unwrap_or(self.line), in_one_line(message))
    }
}

/// The parser draws where in a condition it stopped, over several lines; the place and what it expected
/// say the same in one.
fn in_one_line(message: &str) -> String {
    let Some((head, drawing)) = message.split_once("-->") else { return message.trim().to_owned() };
    let expected = drawing.rsplit_once("= ").map_or("", |(_, expected)| expected.trim());
    let expected = expected
        .replace("EOI", "its end")
        .replace("or_op", "`or`")
        .replace("and_op", "`and`")
        .replace("not_op", "`not`")
        .replace("ident", "the name of a detection");
    format!("{} {expected}", head.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_split_at_their_marks_and_keep_their_lines() {
        let text = "title: a\n---\ntitle: b\n--- # c\ntitle: c\n";
        let lines: Vec<usize> = documents(text).iter().map(|document| document.line).collect();
        assert_eq!(lines, [1, 2, 4]);
        assert_eq!(documents("# nothing\n---\n"), []);
        assert_eq!(documents("action: global\n---\ntitle: b\n").len(), 1);
    }
}
