//! The documents are tested: links lead somewhere, tests that are cited exist, commands are real, risks
//! are what the matrix gives, and output is what the program prints.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use cordon_tests::{Up, Where, cordon, lacks_root, root};

/// The documents under version control, and what they say.
fn documents() -> Vec<(PathBuf, String)> {
    let output =
        Command::new("git").args(["ls-files", "*.md"]).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "these tests read the tree by git");
    let documents: Vec<_> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(PathBuf::from)
        .filter(|path| root().join(path).exists())
        .map(|path| {
            let text = std::fs::read_to_string(root().join(&path)).unwrap();
            (path, text)
        })
        .collect();
    assert!(documents.iter().any(|(path, _)| path.ends_with("hazard-log.md")), "{documents:?}");
    documents
}

/// The text outside blocks of code, line by line; what is indented by four blanks is a block too.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_fenced = false;
    text.lines().filter(move |line| {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
            return false;
        }
        !is_fenced && !line.starts_with("    ")
    })
}

/// Every `between(open, close)` in `line`.
fn between<'a>(line: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    line.split(open)
        .skip(1)
        .filter_map(|rest| rest.split_once(close))
        .map(|(found, _)| found)
        .collect()
}

/// What stands in backticks in `line`.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// A heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    prose(text).filter(|line| line.starts_with('#')).map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    let mut dead = Vec::new();
    for (path, text) in &documents {
        let here = root().join(path);
        for target in prose(text).flat_map(|line| between(line, "](", ")")) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, place) = target.split_once('#').unwrap_or((target, ""));
            let there = match file {
                "" => here.clone(),
                file => here.parent().unwrap_or(Path::new(".")).join(file),
            };
            let is_there = there.exists()
                && (place.is_empty()
                    || std::fs::read_to_string(&there).is_ok_and(|t| anchors(&t).contains(place)));
            if !is_there {
                dead.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn every_picture_says_in_words_what_it_shows_and_is_small() {
    for (path, text) in documents() {
        for line in prose(&text).filter(|line| line.contains("![")) {
            let words = between(line, "![", "]");
            assert!(words.iter().all(|words| words.len() > 20), "{}: {line}", path.display());
        }
    }
    for entry in std::fs::read_dir(root().join("docs/images")).unwrap() {
        let entry = entry.unwrap();
        assert!(entry.metadata().unwrap().len() < 300_000, "{:?} is too large", entry.file_name());
    }
}

/// The names of the tests in a source file.
fn tests_in(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(rest) = line.split_once("fn ").map(|(_, rest)| rest)
            && is_test
        {
            found.insert(rest.split('(').next().unwrap_or_default().to_owned());
            is_test = false;
        }
    }
    found
}

#[test]
fn every_test_that_a_document_cites_exists() {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut cited, mut missing) = (0, Vec::new());
    for (path, text) in documents() {
        for citation in text.lines().flat_map(quoted) {
            let Some((file, test)) = citation.split_once(".rs::") else { continue };
            let file = format!("{file}.rs");
            let tests = known.entry(file.clone()).or_insert_with(|| {
                std::fs::read_to_string(root().join(&file))
                    .map(|s| tests_in(&s))
                    .unwrap_or_default()
            });
            cited += 1;
            if !tests.contains(test) {
                missing.push(format!("{}: {citation}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(cited > 100, "the hazard log cites its tests: {cited}");
}

fn hazard_log() -> String {
    std::fs::read_to_string(root().join("docs/clinical-safety/hazard-log.md")).unwrap()
}

#[test]
fn every_risk_is_what_the_matrix_gives() {
    let log = hazard_log();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let start = log.find("### Risk matrix").unwrap();
    let mut rows = log[start..].lines().filter(|line| line.starts_with('|')).map(cells);
    let severities = rows.next().unwrap();
    let matrix: BTreeMap<(String, String), String> = rows
        .skip(1)
        .take(5)
        .flat_map(|row| {
            let likelihood = row[0].clone();
            let named = severities.clone().into_iter().zip(row).skip(1);
            named.map(move |(severity, rating)| ((severity, likelihood.clone()), rating))
        })
        .collect();
    assert_eq!(matrix.len(), 25);

    let hazards: Vec<&str> = log.split("\n## HZ-").skip(1).collect();
    for (index, hazard) in hazards.iter().enumerate() {
        let title = hazard.lines().next().unwrap();
        assert!(title.starts_with(&format!("{:02}: ", index + 1)), "out of order: HZ-{title}");
        for part in
            ["**Hazard.**", "**Clinical impact.**", "**Causes.**", "**Owner:**", "**Status:**"]
        {
            assert!(hazard.contains(part), "HZ-{title} lacks {part}");
        }
        for kind in ["**Initial risk:** ", "**Residual risk:** "] {
            let risk = between(hazard, kind, ".");
            let (product, rating) = risk[0].split_once(" = ").unwrap();
            let (severity, likelihood) = product.split_once(" × ").unwrap();
            let given = &matrix[&(severity.to_owned(), likelihood.to_owned())];
            assert_eq!(rating, given, "HZ-{title}: {kind}{}", risk[0]);
        }
    }
    assert!(hazards.len() >= 20);
}

#[test]
fn every_control_names_its_test_or_says_that_there_is_none() {
    for hazard in hazard_log().split("\n## HZ-").skip(1) {
        let title = hazard.lines().next().unwrap();
        let rows = hazard.lines().filter(|line| line.starts_with('|')).skip(2);
        for row in rows {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
            let [_, kind, shown] = cells[..] else { panic!("HZ-{title}: {row}") };
            let is_shown = shown.contains(".rs::")
                || shown.to_lowercase().contains("not yet shown")
                || shown.contains("as HZ-");
            // What people have to do is shown by people, not by a test.
            assert!(is_shown || kind.trim() == "use", "HZ-{title}: {row}");
        }
    }
}

/// What `cordon WORDS… --help` says, if there is such a command.
fn help(words: &[&str]) -> Option<String> {
    let output = Command::new(cordon()).args(words).arg("--help").output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// The subcommands that a help text lists.
fn commands_in(help: &str) -> BTreeSet<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.trim().is_empty());
    // An entry's own lines are indented by two, what goes on by more.
    let entries = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    entries.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Commands as documents write them: in backticks, or as a line of a block.
fn commands_of(text: &str) -> Vec<String> {
    let mut found: Vec<String> = text
        .lines()
        .filter_map(|line| {
            let line = line.trim_start().trim_start_matches("$ ").trim_start_matches("sudo ");
            line.starts_with("cordon ").then(|| line.to_owned())
        })
        .collect();
    let quotations = text.lines().flat_map(quoted).filter(|words| words.starts_with("cordon "));
    found.extend(quotations.map(str::to_owned));
    found
}

#[test]
fn every_command_and_option_in_the_documents_exists() {
    let top = commands_in(&help(&[]).unwrap());
    assert!(top.contains("up") && top.contains("isolate"), "{top:?}");
    let mut helps: BTreeMap<Vec<String>, String> = BTreeMap::new();
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for (path, text) in documents() {
        for command in commands_of(&text) {
            let words: Vec<&str> = command
                .split_whitespace()
                .skip(1)
                .map(|word| word.trim_end_matches([',', '.', ';', ':', ')']))
                .take_while(|word| !matches!(*word, "|" | ">" | "#" | "&&"))
                .collect();
            let Some(first) = words.first() else { continue };
            // `cordon …` and `cordon --version` are no subcommands.
            if !first.starts_with(|c: char| c.is_ascii_lowercase()) {
                continue;
            }
            let mut way: Vec<String> = Vec::new();
            let mut below = top.clone();
            for word in &words {
                if !below.contains(*word) {
                    break;
                }
                way.push((*word).to_owned());
                let text = helps.entry(way.clone()).or_insert_with(|| {
                    help(&way.iter().map(String::as_str).collect::<Vec<_>>()).unwrap_or_default()
                });
                below = commands_in(text);
            }
            if way.is_empty() {
                wrong.push(format!("{}: no such command: {command}", path.display()));
                continue;
            }
            seen.insert(way[0].clone());
            let text = &helps[&way];
            for option in words.iter().filter(|word| word.starts_with("--")) {
                let name = option.split('=').next().unwrap_or(option).trim_end_matches('`');
                let is_there =
                    text.split(|c: char| !(c.is_alphanumeric() || c == '-')).any(|w| w == name);
                if !is_there {
                    wrong.push(format!("{}: no such option {name}: {command}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let silent: Vec<_> = top.iter().filter(|c| *c != "help" && !seen.contains(*c)).collect();
    assert!(silent.is_empty(), "the guide says nothing of these commands: {silent:?}");
}

/// The block of code that follows the line `marker` in `document`.
fn block_after(document: &str, marker: &str) -> String {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let (_, rest) = text.split_once(marker).unwrap_or_else(|| panic!("{document} has no {marker}"));
    between(rest, "```text\n", "\n```")[0].to_owned()
}

#[test]
fn the_scan_in_the_guide_is_what_cordon_prints() {
    let output = Command::new(cordon())
        .args(["scan", "docs/examples"])
        .current_dir(root())
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(12), "the example's highest finding is high");
    let printed = String::from_utf8(output.stdout).unwrap();
    for document in ["docs/scan.md", "README.md"] {
        let shown = block_after(document, "<!-- output of: cordon scan docs/examples -->");
        assert_eq!(shown, printed.trim_end(), "{document}");
    }
}

#[test]
fn the_policy_in_the_guide_is_the_one_that_an_organisation_starts_with() {
    let text = std::fs::read_to_string(root().join("docs/policy.md")).unwrap();
    let shown: toml::Value = toml::from_str(between(&text, "```toml\n", "```")[0]).unwrap();
    let code = "RJ1".parse().unwrap();
    let default = cordon_model::policy::Policy::default_for(code);
    assert_eq!(shown, toml::Value::try_from(&default).unwrap());
}

/// What is printed can be changed as the guide says: by putting a snippet of it at the end.
#[test]
fn every_snippet_of_a_policy_in_the_guide_can_be_added_to_what_is_printed() {
    if lacks_root("`cordon up`") {
        return;
    }
    let mut snippets = Vec::new();
    for (_, text) in documents() {
        let found = between(&text, "```toml\n", "```").into_iter().map(str::to_owned);
        // The first of policy.md is the whole policy.
        snippets.extend(found.filter(|snippet| !snippet.contains("organisation")));
    }
    for what in ["[[approval.needs]]", "[approval.night]", "[[ring]]"] {
        assert!(snippets.iter().any(|snippet| snippet.contains(what)), "{what}: {snippets:?}");
    }
    let up = Up::start_in(Where::OwnNetwork, &["--no-agent"]);
    // Whom the guide names for the night has to be somebody who can answer.
    for name in ["ann", "bob"] {
        up.cordon(&["person", name, "--role", "responder"]).unwrap();
    }
    let shown = up.cordon(&["policy", "show"]).unwrap();
    let file = up.state.path().join("policy.toml");
    for snippet in &snippets {
        std::fs::write(&file, format!("{shown}\n{snippet}")).unwrap();
        let said = up.cordon(&["policy", "apply", file.to_str().unwrap()]);
        assert!(
            said.as_ref().is_ok_and(|said| said.contains("mode is now ask")),
            "{snippet}{said:?}"
        );
        let now = up.cordon(&["policy", "show"]).unwrap();
        for line in snippet.lines().filter(|line| line.starts_with('[')) {
            assert!(now.lines().any(|shown| shown == line), "{line} is in force: {now}");
        }
    }
    // What can't be taken changes nothing, and says so.
    let before = up.cordon(&["policy", "show"]).unwrap();
    for wrong in ["nonsense = 1\n".to_owned() + &shown, shown.replace("count = 5", "count = 5000")]
    {
        std::fs::write(&file, wrong).unwrap();
        let said = up.cordon(&["policy", "apply", file.to_str().unwrap()]).unwrap_err();
        assert!(said.to_lowercase().contains("nothing was changed"), "{said}");
    }
    assert_eq!(up.cordon(&["policy", "show"]).unwrap(), before);
}

#[test]
fn the_guide_names_every_service_that_segment_cuts() {
    let text = std::fs::read_to_string(root().join("docs/isolation.md")).unwrap();
    let (_, rest) = text.split_once("## Segment").unwrap();
    let table: String = rest
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with("##"))
        .collect::<Vec<_>>()
        .join("\n");
    for (transport, ports) in cordon_model::asset::LATERAL_MOVEMENT {
        let port = if ports.first == ports.last {
            ports.first.to_string()
        } else {
            format!("{}–{}", ports.first, ports.last)
        };
        let transport = format!("{transport:?}").to_uppercase();
        let is_named = table.lines().any(|line| line.contains(&port) && line.contains(&transport));
        assert!(is_named, "{transport} {port} is missing");
    }
}

#[test]
fn the_guide_names_every_service_of_every_need() {
    let text = std::fs::read_to_string(root().join("docs/isolation.md")).unwrap();
    for known in cordon_model::well_known::WELL_KNOWN {
        let line = text.lines().find(|line| line.starts_with(&format!("| `{}:` |", known.word)));
        let line = line.unwrap_or_else(|| panic!("the guide says nothing of {}", known.word));
        let services = line.split('|').nth(3).unwrap();
        for service in known.services {
            let (first, last) = (service.ports.first, service.ports.last);
            let ports =
                if first == last { format!("{first}") } else { format!("{first}–{last}") };
            let is_named =
                services.split(|c: char| !(c.is_ascii_digit() || c == '–')).any(|p| p == ports);
            let transport = format!("{:?}", service.transport).to_uppercase();
            assert!(
                is_named && services.contains(&transport),
                "{}: {transport} {ports}",
                known.word
            );
        }
    }
}

#[test]
fn documents_speak_of_the_project_only() {
    let banned = [
        concat!("/wo", "rk/"),
        concat!("/tmp/", "t-"),
        concat!("TO", "DO"),
        concat!("lorem ", "ipsum"),
    ];
    for (path, text) in documents() {
        for word in banned {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
    }
}
