//! Codes on paper, and the words to read one out.
//!
//! The one idea: the sheet is read in bad light by somebody who has never seen one. So it says what it is
//! for, which machine it opens and no other, and each code in letters and in words.

use std::fmt::Write as _;

use anyhow::Result;
use cordon_hub::signer::codes::{ClearCode, Sheet};
use cordon_model::time::UtcNanos;
use cordon_respond::signer_core::CodeFate;

use crate::control::plain;

/// A sheet, and of which revision the machine itself said that it holds codes.
pub type Printed = (Sheet, Option<u64>);

/// A day, as people write it on paper; UTC.
pub fn date(at: UtcNanos) -> String {
    jiff::Timestamp::from_nanosecond(at.unix_nanos().into())
        .map_or_else(|_| "?".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}

fn whose(sheet: &Sheet) -> String {
    let more: Vec<String> =
        [&sheet.kind, &sheet.group].into_iter().flatten().map(|text| plain(text)).collect();
    let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
    format!("{}{more}", plain(&sheet.name))
}

/// Whether the machine would take these codes now.
fn on_the_machine(sheet: &Sheet, held: Option<u64>) -> Option<&'static str> {
    match held {
        Some(held) if held == sheet.revision => None,
        Some(_) => Some(
            "NOTE: when this was printed the machine had not got these codes yet. It gets them at its next \
             contact; until then they do not open it.",
        ),
        None => Some(
            "NOTE: when this was printed nobody could say whether the machine has these codes already. \
             `cordon break-glass list` says so.",
        ),
    }
}

const HOW: [&str; 5] = [
    "This opens the computer named above, and no other, when it was cut off by Cordon and neither the hub \
     nor the network can be had. With the hub in reach, release it there instead.",
    "Keep it sealed, with the duty manager. Whoever reads it can open this computer once for each code.",
    "Before you read a code out: who asks, for which patient care, who agreed? Write it beside the code.",
    "At the computer, anybody signed in runs: cordon break-glass",
    "Read out ONE code, group by group. Cross it out. Have the security team called.",
];

/// Sheets as plain text, a form feed between them.
pub fn text(sheets: &[Printed]) -> Result<String> {
    let mut text = String::new();
    for (index, (sheet, held)) in sheets.iter().enumerate() {
        if index > 0 {
            text.push('\u{c}');
        }
        writeln!(text, "BREAK-GLASS CODES                          SECRET: seal this")?;
        writeln!(text, "{}", whose(sheet))?;
        writeln!(text, "organisation {}   machine {}", sheet.organisation, sheet.machine)?;
        writeln!(
            text,
            "made {}   good until {}   revision {}",
            date(sheet.issued_at),
            date(sheet.expires_at),
            sheet.revision
        )?;
        if let Some(note) = on_the_machine(sheet, *held) {
            writeln!(text, "\n{note}")?;
        }
        writeln!(text)?;
        for (number, how) in (1..).zip(HOW) {
            writeln!(text, "{number}. {how}")?;
        }
        for (number, code, fate) in &sheet.codes {
            let code = code.code()?;
            let note = if *fate == CodeFate::Read { "   (was read out before)" } else { "" };
            writeln!(text, "\n[ ] number {number}    {}{note}", *code.grouped())?;
            for group in code.spoken() {
                writeln!(text, "        {}", *group)?;
            }
            writeln!(text, "    to whom, when, why: ______________________________________")?;
        }
        writeln!(text, "\nThere is no letter O, I or L in a code, no zero and no one.")?;
    }
    Ok(text)
}

/// Sheets as one page for a browser, each machine on paper of its own. Nothing is fetched for it.
pub fn page(sheets: &[Printed]) -> Result<String> {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>Break-glass codes</title>\n<style>\n\
         body { font: 11pt/1.4 sans-serif; margin: 15mm; color: #000; background: #fff; }\n\
         section { break-after: page; }\n\
         h1 { font-size: 18pt; margin: 0; } h2 { font-size: 16pt; margin: 0 0 2mm; }\n\
         .secret { float: right; border: 1mm solid #000; padding: 1mm 3mm; font-weight: bold; }\n\
         .note { border: .5mm dashed #000; padding: 2mm; }\n\
         table { border-collapse: collapse; width: 100%; } td, th { border: .3mm solid #000; padding: 2mm; text-align: left; vertical-align: top; }\n\
         .code { font: bold 15pt/1.6 monospace; white-space: nowrap; } .said { font-size: 9.5pt; }\n\
         </style></head><body>\n",
    );
    for (sheet, held) in sheets {
        writeln!(page, "<section>\n<p class=\"secret\">SECRET: seal this</p>")?;
        writeln!(page, "<h1>Break-glass codes</h1>\n<h2>{}</h2>", escaped(&whose(sheet)))?;
        writeln!(
            page,
            "<p>Organisation {}. Machine {}. Made {}, good until <strong>{}</strong>, revision {}.</p>",
            sheet.organisation,
            sheet.machine,
            date(sheet.issued_at),
            date(sheet.expires_at),
            sheet.revision
        )?;
        if let Some(note) = on_the_machine(sheet, *held) {
            writeln!(page, "<p class=\"note\">{}</p>", escaped(note))?;
        }
        page.push_str("<ol>\n");
        for how in HOW {
            writeln!(page, "<li>{}</li>", escaped(how))?;
        }
        page.push_str("</ol>\n<table><thead><tr><th>Used</th><th>No.</th><th>Code</th><th>As it is said</th><th>To whom, when, why</th></tr></thead><tbody>\n");
        for (number, code, fate) in &sheet.codes {
            row(&mut page, *number, code, *fate)?;
        }
        page.push_str("</tbody></table>\n<p>There is no letter O, I or L in a code, no zero and no one.</p>\n</section>\n");
    }
    page.push_str("</body></html>\n");
    Ok(page)
}

fn row(page: &mut String, number: u8, code: &ClearCode, fate: CodeFate) -> Result<()> {
    let code = code.code()?;
    let note = if fate == CodeFate::Read { " (was read out before)" } else { "" };
    write!(
        page,
        "<tr><td>&#9744;</td><td>{number}{note}</td><td class=\"code\">{}</td>",
        *code.grouped()
    )?;
    page.push_str("<td class=\"said\">");
    for group in code.spoken() {
        write!(page, "{}<br>", *group)?;
    }
    page.push_str("</td><td></td></tr>\n");
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// One code, for the person at the telephone.
pub fn to_read_out(sheet: &Sheet, held: Option<u64>) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "For {}, and no other machine:", whose(sheet))?;
    for (number, code, fate) in &sheet.codes {
        let code = code.code()?;
        writeln!(text, "\n    number {number}    {}\n", *code.grouped())?;
        for group in code.spoken() {
            writeln!(text, "        {}", *group)?;
        }
        if *fate == CodeFate::Used {
            writeln!(text, "It was used before.")?;
        }
    }
    writeln!(text)?;
    if let Some(note) = on_the_machine(sheet, held) {
        writeln!(text, "{note}\n")?;
    }
    writeln!(
        text,
        "They run `cordon break-glass` at that machine and type it. Let them say it back first."
    )?;
    writeln!(
        text,
        "It opens the machine once, and whatever it was cut off for can reach others again."
    )?;
    writeln!(text, "That it was read out, to whom and why, is in the ledger.")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cordon_code::MasterKey;
    use cordon_model::ids::MachineId;

    fn sheet() -> Sheet {
        let organisation = "RJ1".parse().unwrap();
        let machine = MachineId::new(UtcNanos::from_unix_nanos(0), [1; 10]);
        let code = MasterKey::new([1; 32]).code(&organisation, machine, 7, 2);
        // As it comes over the socket.
        let clear: ClearCode = serde_json::from_value(code.characters().as_str().into()).unwrap();
        Sheet {
            organisation,
            machine,
            name: "ct-2 <script>\u{1b}".into(),
            kind: Some("CT console".into()),
            group: None,
            revision: 7,
            issued_at: UtcNanos::from_unix_nanos(1_700_000_000_000_000_000),
            expires_at: UtcNanos::from_unix_nanos(1_730_000_000_000_000_000),
            hold_off_seconds: 60,
            codes: vec![(2, clear, CodeFate::Good)],
        }
    }

    #[test]
    fn a_sheet_says_whose_it_is_and_each_code_in_letters_and_words() {
        let sheet = sheet();
        let code = sheet.codes[0].1.code().unwrap();
        let text = text(&[(sheet.clone(), Some(7)), (sheet.clone(), Some(6))]).unwrap();
        assert!(text.contains(code.grouped().as_str()) && text.contains(code.spoken()[3].as_str()));
        assert!(text.contains("good until 2024-10-27") && text.contains("CT console"));
        assert_eq!(text.matches('\u{c}').count(), 1, "one machine a page");
        assert_eq!(text.matches("had not got these codes").count(), 1, "only where it is so");
        assert!(!text.contains('\u{1b}'));
        let page = page(&[(sheet, None)]).unwrap();
        assert!(page.contains(code.grouped().as_str()) && page.contains("nobody could say"));
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"));
    }
}
