//! What the Sigma specification 2.1 says, one feature a test: detections that must match and values that
//! must not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions: it stops at the first thing that is wrong"
)]

mod support;

use cordon_detect::{Compiler, Interest, Part, Refusal};
use cordon_model::event::Source;
use serde_json::{Value as Json, json};
use support::{compiled, event_of, matched};

/// Whether a rule with this `detection` matches an event.
fn detects(detection: &str, event: &Json) -> bool {
    let rules = compiled(&format!("title: t\nlogsource: {{}}\ndetection:\n{detection}"));
    let event = event_of(&rules, Source::default(), event);
    !matched(&mut rules.matcher(), &rules, &event).is_empty()
}

/// Whether one line (`key: value`) matches.
fn line(line: &str, event: &Json) -> bool {
    detects(&format!("  s:\n    {line}\n  condition: s\n"), event)
}

/// Why a line is refused.
fn refusal(line: &str) -> String {
    let mut compiler = Compiler::new();
    let text = format!("title: t\nlogsource: {{}}\ndetection:\n  s:\n    {line}\n  condition: s\n");
    let added = compiler.add_yaml("r.yml", &text);
    assert_eq!((added.rules, added.refused), (0, 1), "{line}");
    compiler.compile().1.remove(0).reason
}

macro_rules! holds {
    ($line:expr, $($json:tt)+) => { assert!(line($line, &json!($($json)+)), "{} should match {}", $line, json!($($json)+)) };
}
macro_rules! fails {
    ($line:expr, $($json:tt)+) => { assert!(!line($line, &json!($($json)+)), "{} should not match {}", $line, json!($($json)+)) };
}

#[test]
fn values_are_whole_and_case_does_not_count() {
    fails!("F: NtLmSsp", {"F": "NtLmSsp "});
    holds!("F: Cmd.EXE", {"F": "cmd.exe"});
    fails!("F: cmd", {"F": "cmd.exe"});
    fails!("F: cmd.exe", {"F": " cmd.exe"});
    fails!("F: cmd.exe", {"f": "cmd.exe"});
    holds!("F: ÄRGER", {"F": "ärger"});
}

#[test]
fn lists_are_alternatives_and_maps_are_not() {
    holds!("F: [a, b]", {"F": "b"});
    holds!("{F: a, G: b}", {"F": "a", "G": "b"});
    fails!("{F: a, G: b}", {"F": "a"});
    holds!("[{F: a}, {G: b}]", {"G": "b"});
    holds!("F: b", {"F": ["a", "b"]});
}

#[test]
fn wildcards_and_escapes_follow_the_specifications_table() {
    holds!(r"F: '*\cmd.*'", {"F": r"c:\cmd.exe"});
    holds!("F: 'a?c'", {"F": "abc"});
    fails!("F: 'a?c'", {"F": "ac"});
    holds!(r"F: 'a\*c'", {"F": "a*c"});
    fails!(r"F: 'a\*c'", {"F": "abc"});
    holds!(r"F: 'a\?c'", {"F": "a?c"});
    fails!(r"F: 'a\?c'", {"F": "abc"});
    holds!(r"F: 'a\\*c'", {"F": r"a\xyzc"});
    holds!(r"F: 'a\\\*c'", {"F": r"a\*c"});
    fails!(r"F: 'a\\\*c'", {"F": r"a\xc"});
    holds!(r"F: '\\\\server'", {"F": r"\\server"});
    holds!(r"F|contains: '\\\\\*\\IPC$'", {"F": r"\\*\IPC$"});
    fails!(r"F|contains: '\\\\\*\\IPC$'", {"F": r"\\server\IPC$"});
    holds!(r"F|contains: '\\\\*\\*$'", {"F": r"net use \\srv\c$ "});
    holds!("F|contains: 'a*c'", {"F": "xxabbbcxx"});
    holds!("F: '*'", {"F": ""});
    fails!("F: '*'", {"G": "x"});
}

#[test]
fn absent_null_and_empty_are_three_things() {
    holds!("F: null", {"G": 1});
    holds!("F: null", {"F": null});
    fails!("F: null", {"F": ""});
    fails!("F: null", {"F": "null"});
    holds!("F: ''", {"F": ""});
    fails!("F: ''", {"F": null});
    fails!("F: ''", {"G": 1});
    holds!("F: [null, x]", {"F": "x"});
    fails!("F: null", {"F": "-"});
}

#[test]
fn types_do_not_matter_but_values_do() {
    holds!("F: 4624", {"F": "4624"});
    holds!("F: 4624", {"F": 4624});
    holds!("F: '4624'", {"F": 4624});
    fails!("F: 4624", {"F": 46240});
    holds!("F: 'true'", {"F": true});
    holds!("F: true", {"F": "True"});
    holds!("F: 1.5", {"F": 1.5});
    holds!("F: '18446744073709551615'", {"F": 18_446_744_073_709_551_615_u64});
    assert!(refusal("F: 18446744073709551615").contains("in quotes"));
    holds!("F|startswith: 46", {"F": 4624});
}

#[test]
fn contains_startswith_and_endswith() {
    holds!("F|contains: bc", {"F": "aBCd"});
    fails!("F|contains: bc", {"F": "acbd"});
    holds!("F|startswith: ab", {"F": "ABC"});
    fails!("F|startswith: bc", {"F": "abc"});
    holds!("F|endswith: bc", {"F": "abc"});
    fails!("F|endswith: ab", {"F": "abc"});
    holds!("F|endswith: 'b*c'", {"F": "abxxc"});
    holds!("F|startswith: 'a?'", {"F": "abc"});
}

#[test]
fn all_asks_for_each_value() {
    holds!("F|contains|all: [a, b]", {"F": "xbxa"});
    fails!("F|contains|all: [a, b]", {"F": "xbx"});
    holds!("F|contains|all: [a, b]", {"F": ["xa", "xb"]});
}

#[test]
fn cased_minds_case() {
    holds!("F|cased: aB", {"F": "aB"});
    fails!("F|cased: aB", {"F": "ab"});
    holds!("F|contains|cased: aB", {"F": "xaBx"});
    fails!("F|contains|cased: aB", {"F": "xabx"});
    holds!("F|cased: 'a*B'", {"F": "axB"});
    fails!("F|startswith|cased: aB", {"F": "abB aB"});
}

#[test]
fn neq_asks_for_another_value() {
    holds!("F|neq: a", {"F": "b"});
    fails!("F|neq: a", {"F": "A"});
    fails!("F|neq: [a, b]", {"F": "b"});
    fails!("F|neq: a", {"G": "b"});
    holds!("F|neq: 5", {"F": 6});
    fails!("F|neq: 5", {"F": 5});
    holds!("F|fieldref|neq: G", {"F": "a", "G": "b"});
    fails!("F|fieldref|neq: G", {"F": "a", "G": "A"});
}

#[test]
fn exists_asks_for_presence_only() {
    holds!("F|exists: true", {"F": ""});
    holds!("F|exists: true", {"F": null});
    fails!("F|exists: true", {"G": "x"});
    holds!("F|exists: false", {"G": "x"});
    fails!("F|exists: false", {"F": null});
    assert!(refusal("F|exists: maybe").contains("true or false"));
}

#[test]
fn regular_expressions_search_and_mind_case() {
    holds!("F|re: 'a.c'", {"F": "xxabcxx"});
    fails!("F|re: 'A.C'", {"F": "abc"});
    holds!("F|re|i: 'A.C'", {"F": "abc"});
    fails!("F|re: '^b'", {"F": "a\nb"});
    holds!("F|re|m: '^b'", {"F": "a\nb"});
    fails!("F|re: 'a.b'", {"F": "a\nb"});
    holds!("F|re|s: 'a.b'", {"F": "a\nb"});
    holds!("F|re|i|m|s: '^B.c$'", {"F": "a\nb\nc"});
    holds!(r"F|re: '\d{3}\*'", {"F": "123*"});
    holds!("F|re: '^$'", {"F": ""});
    holds!("F|re: '(?:secret|hidden)[0-9]+'", {"F": "a hidden7"});
    assert!(refusal("F|re: 'a(?=b)'").contains("look-around"));
    assert!(refusal(r"F|re: '(a)\1'").contains("linear time"));
    assert!(refusal(r"F|re: '(\w{1000}){1000}'").contains("too large"));
    assert!(refusal("F|contains|re: a").contains("first"));
    assert!(refusal("F|i: a").contains("flag of `re`"));
}

#[test]
fn base64_and_its_offsets() {
    // The text `foobar` after 0, 1 and 2 bytes.
    holds!("F|base64offset|contains: foobar", {"F": "Zm9vYmFy"});
    holds!("F|base64offset|contains: foobar", {"F": "eGZvb2Jhcg=="});
    holds!("F|base64offset|contains: foobar", {"F": "eHhmb29iYXI="});
    fails!("F|base64offset|contains: foobar", {"F": "Zm9vYmF6"});
    holds!("F|base64: foobar", {"F": "Zm9vYmFy"});
    holds!("F|base64|contains: foobar", {"F": "-e Zm9vYmFy"});
    assert!(refusal("F|base64: 'a*'").contains("wildcard"));
}

#[test]
fn utf16_in_its_forms() {
    holds!("F|utf16le: ab", {"F": "a\0b\0"});
    holds!("F|wide|contains: ab", {"F": "xa\0b\0"});
    holds!("F|utf16be: ab", {"F": "\0a\0b"});
    holds!("F|utf16: ab", {"F": "\u{feff}a\0b\0"});
    // PowerShell's -EncodedCommand: base64 of UTF-16LE.
    holds!("F|wide|base64offset|contains: IEX", {"F": "-enc SQBFAFgA"});
    holds!("F|utf16le|base64offset|contains: IEX", {"F": "-enc IABJAEUAWAA="});
    holds!("F|utf16be|base64|contains: IEX", {"F": "AEkARQBY"});
    // FF FE 49 00 45 00 58 00
    holds!("F|utf16|base64|contains: IEX", {"F": "//5JAEUAWAA="});
    // E4 00: UTF-16LE of ä, which is no UTF-8.
    holds!("F|wide|base64: ä", {"F": "5AA="});
    assert!(refusal("F|wide: ä").contains("ASCII"));
}

#[test]
fn windash_takes_any_dash_before_an_option() {
    for dash in ["-", "/", "\u{2013}", "\u{2014}", "\u{2015}"] {
        holds!("F|windash|contains: ' -enc '", {"F": format!("p {dash}enc x")});
        holds!("F|contains|windash: ' /c '", {"F": format!("cmd {dash}c x")});
    }
    fails!("F|windash|contains: ' -enc '", {"F": "p _enc x"});
    holds!("F|windash|contains: '-a-b'", {"F": "/a-b"});
    fails!("F|windash|contains: '-a-b'", {"F": "/a/b"});
}

#[test]
fn cidr_of_both_versions() {
    holds!("F|cidr: 192.168.0.0/16", {"F": "192.168.7.1"});
    fails!("F|cidr: 192.168.0.0/16", {"F": "192.169.0.1"});
    fails!("F|cidr: 192.168.0.0/16", {"F": "192.168.7"});
    holds!("F|cidr: ['10.0.0.0/8', 'fc00::/7']", {"F": "fd12:3456::1"});
    fails!("F|cidr: 'fc00::/7'", {"F": "2001:db8::1"});
    holds!("F|cidr: 127.0.0.1/32", {"F": "127.0.0.1"});
    holds!("F|cidr: 10.0.0.0/8", {"F": "::ffff:10.1.2.3"});
    assert!(refusal("F|cidr: 10.0.0.*").contains("network"));
}

#[test]
fn numbers_compare() {
    holds!("F|lt: 10", {"F": 9});
    fails!("F|lt: 10", {"F": 10});
    holds!("F|lte: 10", {"F": "10"});
    holds!("F|gt: -1", {"F": 0});
    fails!("F|gt: 10", {"F": "9"});
    holds!("F|gte: 1.5", {"F": 1.5});
    fails!("F|gte: 1", {"F": "many"});
    fails!("F|lt: 10", {"G": 1});
    holds!("{F|gte: 10, F|lt: 20}", {"F": 15});
    assert!(refusal("F|gt: many").contains("number"));
}

#[test]
fn parts_of_a_date_compare() {
    let date = json!({"F": "2024-05-01T23:59:58Z"});
    for part in
        ["minute: 59", "hour: 23", "day: 1", "week: 18", "month: 5", "year: 2024", "hour|gte: 20"]
    {
        assert!(line(&format!("F|{part}"), &date), "{part}");
    }
    for part in ["minute: 58", "hour: 0", "year: 24", "hour|lt: 23"] {
        assert!(!line(&format!("F|{part}"), &date), "{part}");
    }
    fails!("F|hour: 23", {"F": "eleven"});
}

#[test]
fn fieldref_compares_two_fields_of_the_event() {
    holds!("F|fieldref: G", {"F": "ab", "G": "AB"});
    fails!("F|fieldref: G", {"F": "ab"});
    fails!("F|fieldref: G", {"G": "ab"});
    holds!("F|fieldref|endswith: G", {"F": "xxab", "G": "ab"});
    holds!("F|fieldref|startswith: G", {"F": "abxx", "G": "ab"});
    holds!("F|fieldref|contains: G", {"F": "xabx", "G": "ab"});
    fails!("F|fieldref|cased: G", {"F": "ab", "G": "AB"});
    fails!("F|fieldref: G", {"F": null, "G": null});
}

#[test]
fn expand_takes_its_values_from_the_configuration_or_refuses() {
    let text = |value: &str| {
        format!(
            "title: t\nlogsource: {{}}\ndetection:\n  s:\n    F|contains|expand: '{value}'\n  condition: s\n"
        )
    };
    let with = |value: &str, seen: &str| {
        let mut compiler = Compiler::new().placeholder("admins", ["root".into(), "adm*n".into()]);
        compiler.add_yaml("t.yml", &text(value));
        let (rules, refusals) = compiler.compile();
        assert!(refusals.is_empty(), "{refusals:?}");
        let event = json!({"F": seen});
        let event = event_of(&rules, Source::default(), &event);
        !matched(&mut rules.matcher(), &rules, &event).is_empty()
    };
    assert!(with(r"u:%admins%;", "xu:root;x"));
    assert!(with(r"u:%admins%;", "u:administration;") == "administration".ends_with('n'));
    assert!(!with(r"u:%admins%;", "u:guest;"));
    assert!(with(r"100\%", "is 100% sure"));
    assert!(refusal("F|expand: '%nobody%'").contains("%nobody% has no values"));
    assert!(refusal("F|expand: '50%'").contains("isn't closed"));
}

#[test]
fn keywords_are_searched_for_in_every_value() {
    let keywords = "  k: [mimikatz, 'seku*lsa']\n  condition: k\n";
    assert!(detects(keywords, &json!({"Unread": "run MimiKatz now"})));
    assert!(detects(keywords, &json!({"F": "sekurlsa seku::lsa"})));
    assert!(!detects(keywords, &json!({"mimikatz": "no"})));
    let all = "  k:\n    '|all': [one, two]\n  condition: k\n";
    assert!(detects(all, &json!({"F": "one", "G": "two"})));
    assert!(!detects(all, &json!({"F": "one"})));
    let expression = "  k:\n    '|re': 'a{3}'\n  condition: k\n";
    assert!(detects(expression, &json!({"F": "baaa"})));
    assert!(detects("  k: 4688\n  condition: k\n", &json!({"F": "id 4688 seen"})));
}

/// Codes (numbers, GUIDs, times) are passed by where only words are looked for.
#[test]
fn keywords_that_are_codes_are_found_in_codes() {
    let event = json!({
        "A": 4444, "B": "{9e814aad-3204-11d2-9a82-006008a86939}", "C": "s-1-5-18", "D": "0xBEEF",
        "E": "1601-01-01T00:00:00.0000000Z", "F": "", "G": null, "H": true,
    });
    for keyword in
        ["444", "11d2", "'S-1-5-*'", "beef", "T00:00", "'*5-?8'", "true", "'|re': '^\\d{4}$'"]
    {
        let keywords = match keyword.strip_prefix("'|re': ") {
            Some(expression) => format!("  k:\n    '|re': {expression}\n  condition: k\n"),
            None => format!("  k: [mimikatz, {keyword}]\n  condition: k\n"),
        };
        assert!(detects(&keywords, &event), "{keywords}");
    }
    for keyword in ["mimikatz", "'4444x'", "'seku*lsa'", "'false'"] {
        assert!(!detects(&format!("  k: [{keyword}]\n  condition: k\n"), &event), "{keyword}");
    }
    assert!(detects("  k: [mimikatz]\n  condition: not k\n", &event));
}

#[test]
fn an_intake_is_told_when_keywords_want_every_value() {
    let keywords =
        compiled("title: t\nlogsource: {category: web}\ndetection:\n  k: [x]\n  condition: k\n");
    let of =
        |category: &'static str| Source { category: Some(category.into()), ..Source::default() };
    assert_eq!(keywords.interest(&of("web")), Interest::AllValues);
    assert_eq!(keywords.interest(&of("mail")), Interest::Nothing);
    let fields =
        compiled("title: t\nlogsource: {category: web}\ndetection:\n  k: {F: x}\n  condition: k\n");
    assert_eq!(fields.interest(&of("web")), Interest::Fields);
}

#[test]
fn an_intake_that_does_not_know_the_id_yet_is_told_the_most_that_may_be_wanted() {
    let rules = compiled(
        "title: t\nlogsource: {product: windows, category: process_creation}\ndetection:\n  k: [x]\n  condition: k\n---\n\
         title: u\nlogsource: {product: windows, service: system}\ndetection:\n  k: [x]\n  s: {EventID: 7045}\n  condition: k and s\n",
    );
    let mut matcher = rules.matcher();
    let mut of = |channel: &'static str, event_id: Option<u32>| {
        let source = Source { channel: Some(channel.into()), event_id, ..Source::default() };
        assert_eq!(matcher.interest(&rules, &source), rules.interest(&source));
        rules.interest(&source)
    };
    assert_eq!(of("Security", None), Interest::AllValues);
    assert_eq!(of("Security", Some(4688)), Interest::AllValues);
    assert_eq!(of("Security", Some(4624)), Interest::Nothing);
    assert_eq!(of("System", None), Interest::AllValues);
    assert_eq!(of("System", Some(7045)), Interest::AllValues);
    assert_eq!(of("System", Some(7036)), Interest::Nothing);
}

#[test]
fn conditions_of_every_form() {
    let parts = "  a: {F: 1}\n  b_1: {G: 1}\n  b_2: {H: 1}\n  _hidden: {I: 1}\n";
    let holds = |condition: &str, event: Json| {
        detects(&format!("{parts}  condition: {condition}\n"), &event)
    };
    assert!(holds("a and 1 of b_*", json!({"F": 1, "H": 1})));
    assert!(!holds("a and all of b_*", json!({"F": 1, "H": 1})));
    assert!(holds("all of b_*", json!({"G": 1, "H": 1})));
    assert!(holds("1 of them", json!({"F": 1})));
    assert!(!holds("1 of them", json!({"I": 1})));
    assert!(holds("all of them", json!({"F": 1, "G": 1, "H": 1})));
    assert!(holds("_hidden", json!({"I": 1})));
    assert!(holds("2 of b_*", json!({"G": 1, "H": 1})));
    assert!(!holds("2 of b_*", json!({"G": 1})));
    assert!(holds("any of b*_2", json!({"H": 1})));
    assert!(holds("a or b_1 and b_2", json!({"F": 1})));
    assert!(!holds("(a or b_1) and b_2", json!({"F": 1})));
    assert!(holds("not a", json!({"G": 1})));
    assert!(!holds("not (a or b_1)", json!({"G": 1})));
    assert!(holds("not not a", json!({"F": 1})));
    assert!(holds("[a, b_1]", json!({"G": 1})));
}

fn refused(condition: &str) -> bool {
    let mut compiler = Compiler::new();
    let text =
        format!("title: t\nlogsource: {{}}\ndetection:\n  a: {{F: 1}}\n  condition: {condition}\n");
    compiler.add_yaml("r.yml", &text).refused == 1
}

#[test]
fn what_a_condition_cannot_mean_is_refused() {
    assert!(refused("b"), "an unknown name");
    assert!(refused("1 of b*"), "a selector of nothing");
    assert!(refused("3 of a*"), "more than there are");
    assert!(refused("a | count() > 5"), "an aggregation");
    assert!(refused("a and"), "half a condition");
    assert!(refused("A AND NOT a"), "operators in capitals");
}

#[test]
fn what_is_not_supported_is_refused_alone_with_its_line() {
    let text = "title: fine\nid: fine\nlogsource: {}\ndetection:\n  s: {F: 1}\n  condition: s\n---\n\
                title: many\ncorrelation:\n  type: event_count\n  rules: [fine]\n  group-by: [U]\n  timespan: 5 m\n  condition: {gte: 5}\n---\n\
                title: typo\nlogsource: {}\ndetection:\n  s:\n    F|containz: x\n  condition: s\n---\n\
                title: nested\nlogsource: {}\ndetection:\n  s:\n    F: {a: {b: c}}\n  condition: s\n---\n\
                title: level\nlogsource: {}\ndetection:\n  s: {F: 1}\n  condition: s\nlevel: hihg\n---\n\
                title: empty\nlogsource: {}\ndetection:\n  s:\n    F: []\n  condition: s\n---\n\
                title: broken\n  yaml: [\n---\n\
                title: again\nid: fine\nlogsource: {}\ndetection:\n  s: {F: 1}\n  condition: s\n---\n\
                title: last\nid: last\nlogsource: {}\ndetection:\n  s: {F: 1}\n  condition: s\n";
    let mut compiler = Compiler::new();
    let added = compiler.add_yaml("many.yml", text);
    let (rules, refusals) = compiler.compile();
    for refusal in &refusals {
        println!("{refusal}");
    }
    assert_eq!((added.rules, added.refused), (2, 7), "{refusals:#?}");
    let titles: Vec<_> = rules.rules().iter().map(|rule| rule.title.as_str()).collect();
    assert_eq!(titles, ["fine", "last"]);
    // Each names the line to look at.
    let line = |refusal: &Refusal| text.lines().nth(refusal.line - 1).unwrap().trim();
    let at: Vec<(&str, &str)> = refusals
        .iter()
        .map(|refusal| (refusal.rule.as_deref().unwrap_or(""), line(refusal)))
        .collect();
    let expected = [
        ("many", "timespan: 5 m"),
        ("typo", "F|containz: x"),
        ("nested", "F: {a: {b: c}}"),
        ("level", "level: hihg"),
        ("empty", "F: []"),
        ("broken", "yaml: ["),
        ("fine", "id: fine"),
    ];
    assert_eq!(at, expected);
    assert!(refusals[6].reason.contains("already loaded from many.yml"));
}

#[test]
fn an_agent_takes_only_rules_for_its_own_product() {
    let text = "title: w\nlogsource: {product: windows}\ndetection:\n  s: {F: 1}\n  condition: s\n---\n\
                title: l\nlogsource: {product: linux}\ndetection:\n  s: {F: 1}\n  condition: s\n---\n\
                title: any\nlogsource: {category: proxy}\ndetection:\n  s: {F: 1}\n  condition: s\n";
    let mut compiler = Compiler::new().only_product("linux");
    let added = compiler.add_yaml("three.yml", text);
    assert_eq!((added.rules, added.skipped, added.refused), (2, 1, 0));
}

#[test]
fn process_creation_reads_windows_own_audit_by_its_names() {
    let rules = compiled(
        "title: t\nlogsource: {product: windows, category: process_creation}\ndetection:\n  s:\n    Image|endswith: '\\cmd.exe'\n    ParentImage|endswith: '\\winword.exe'\n    IntegrityLevel: High\n    ProcessId: 7\n  condition: s\n",
    );
    let by = |channel: &'static str, id: u32, event: Json| {
        let source =
            Source { channel: Some(channel.into()), event_id: Some(id), ..Source::default() };
        !matched(&mut rules.matcher(), &rules, &event_of(&rules, source, &event)).is_empty()
    };
    let sysmon = json!({"Image": r"C:\cmd.exe", "ParentImage": r"C:\winword.exe", "IntegrityLevel": "High", "ProcessId": 7});
    let audit = json!({
        "NewProcessName": r"C:\cmd.exe", "ParentProcessName": r"C:\winword.exe", "MandatoryLabel": "S-1-16-12288",
        "NewProcessId": 7, "ProcessId": 9,
    });
    assert!(by("Microsoft-Windows-Sysmon/Operational", 1, sysmon.clone()));
    assert!(!by("Microsoft-Windows-Sysmon/Operational", 3, sysmon.clone()));
    assert!(by("Security", 4688, audit.clone()));
    assert!(!by("Security", 4689, audit.clone()));
    assert!(!by("Security", 4688, sysmon), "Sigma's names mean nothing in that log");
    let other = json!({"NewProcessName": r"C:\cmd.exe", "ParentProcessName": r"C:\winword.exe", "MandatoryLabel": "S-1-16-12288", "ProcessId": 7});
    assert!(!by("Security", 4688, other), "ProcessId there is the creator's");
}

#[test]
fn an_event_id_may_come_with_the_source_or_as_a_field() {
    let rules = compiled(
        "title: t\nlogsource: {product: windows, service: security}\ndetection:\n  s: {EventID: [4624, 4625], F: 1}\n  condition: s\n",
    );
    let mut matcher = rules.matcher();
    let mut by = |id: Option<u32>, event: Json| {
        let source = Source { channel: Some("Security".into()), event_id: id, ..Source::default() };
        !matched(&mut matcher, &rules, &event_of(&rules, source, &event)).is_empty()
    };
    assert!(by(Some(4625), json!({"F": 1})));
    assert!(by(None, json!({"F": 1, "EventID": "4624"})));
    assert!(by(Some(4624), json!({"F": 1, "EventID": 4624})));
    assert!(!by(Some(4634), json!({"F": 1})));
    assert!(!by(None, json!({"F": 1})));
}

#[test]
fn why_names_the_fields_that_made_it_match() {
    let rules = compiled(
        "title: t\nlogsource: {}\ndetection:\n  s:\n    Image|endswith: ['\\a.exe', '\\b.exe']\n    Line|contains|all: [x, y]\n  k: [beacon]\n  f: {User: SYSTEM}\n  condition: s and k and not f\n",
    );
    let json = json!({"Image": r"C:\B.exe", "Line": "Y and X", "User": "bob", "Other": "a Beacon"});
    let event = event_of(&rules, Source::default(), &json);
    let mut matcher = rules.matcher();
    let rule = matcher.matches(&rules, &event)[0];
    let why: Vec<(String, String, String)> = matcher
        .why(&rules, &event, rule)
        .into_iter()
        .map(|m| (m.field, m.value, m.pattern))
        .collect();
    let expected = [
        ("Image", r"C:\B.exe", r"endswith \b.exe"),
        ("Line", "Y and X", "contains x"),
        ("Line", "Y and X", "contains y"),
        ("", "a Beacon", "contains beacon"),
    ];
    assert_eq!(why, expected.map(|(f, v, p)| (f.to_owned(), v.to_owned(), p.to_owned())));

    let json = json!({"Image": r"C:\c.exe"});
    let event = event_of(&rules, Source::default(), &json);
    assert_eq!(matcher.why(&rules, &event, rule), []);
    let explanation = matcher.explain(&rules, &event, rule).unwrap();
    assert!(explanation.is_of_log_source && !explanation.condition.holds);
    let Part::All(parts) = explanation.condition.part else { panic!("{explanation:?}") };
    let held: Vec<bool> = parts.iter().map(|part| part.holds).collect();
    assert_eq!(held, [false, false, true]);
}

#[test]
fn what_is_remembered_of_a_value_is_all_that_holds_for_it() {
    let rules =
        compiled("title: x\nlogsource: {}\ndetection:\n  s: {F|contains: x}\n  condition: s\n");
    let mut matcher = rules.matcher();
    let mut is_matched = |json: &Json| {
        !matched(&mut matcher, &rules, &event_of(&rules, Source::default(), json)).is_empty()
    };
    // The second value makes nothing hold that the first one didn't, and is kept all the same.
    let (both, second, other) = (json!({"F": ["ax", "bx"]}), json!({"F": "bx"}), json!({"F": "b"}));
    for _ in 0..4 {
        assert!(is_matched(&both));
        assert!(!is_matched(&other));
    }
    assert!(is_matched(&second));
}

#[test]
fn what_is_remembered_of_an_event_leaves_open_what_its_values_decide() {
    // No literal leads to these expressions, and two fields compare by no value alone.
    let rules = compiled(
        "title: x\nlogsource: {}\ndetection:\n  s: {A: a}\n  r: {B|re: '[xy][12]'}\n  f: {C|fieldref: B}\n  condition: s and (not r or f)\n",
    );
    let mut matcher = rules.matcher();
    for _ in 0..5 {
        for (a, b, c, is_match) in [
            ("a", "x1", "c", false),
            ("a", "x3", "c", true),
            ("a", "y2", "y2", true),
            ("a", "z2", "z", true),
            ("b", "x3", "c", false),
        ] {
            let json = json!({"A": a, "B": b, "C": c});
            let event = event_of(&rules, Source::default(), &json);
            assert_eq!(!matched(&mut matcher, &rules, &event).is_empty(), is_match, "{json}");
        }
    }
}

#[test]
fn an_id_that_comes_with_the_source_is_there_however_often_it_came() {
    let rules = compiled(
        "title: x\nlogsource: {product: windows}\ndetection:\n  s: {A: a}\n  n: {EventID: null}\n  condition: s and n\n",
    );
    let mut matcher = rules.matcher();
    for _ in 0..5 {
        for (event_id, is_match) in [(None, true), (Some(7), false)] {
            let source = Source { product: Some("windows".into()), event_id, ..Source::default() };
            let json = json!({"A": "a"});
            let event = event_of(&rules, source, &json);
            assert_eq!(!matched(&mut matcher, &rules, &event).is_empty(), is_match, "{event_id:?}");
        }
    }
}

#[test]
fn an_event_of_many_values_that_make_much_hold_is_put_to_all_rules() {
    // More predicates for one value than are remembered of one.
    let words: Vec<String> = (0..80).map(|number| format!("w{number:02}")).collect();
    let rules = compiled(&format!(
        "title: x\nlogsource: {{}}\ndetection:\n  s: {{F|contains|all: [{}]}}\n  g: {{G: a}}\n  condition: s and g\n",
        words.join(", ")
    ));
    let mut matcher = rules.matcher();
    let (all, most) = (words.concat(), words[1..].concat());
    for _ in 0..4 {
        for (f, g, is_match) in [(&all, "a", true), (&most, "a", false), (&all, "b", false)] {
            let json = json!({"F": f, "G": g});
            let event = event_of(&rules, Source::default(), &json);
            assert_eq!(!matched(&mut matcher, &rules, &event).is_empty(), is_match, "{json}");
        }
    }
}

#[test]
fn a_matcher_may_go_from_one_rule_set_to_another() {
    let one = compiled("title: one\nlogsource: {}\ndetection:\n  s: {F: a}\n  condition: s\n");
    let two =
        compiled("title: two\nlogsource: {}\ndetection:\n  s: {G: a, F: b}\n  condition: s\n");
    let mut matcher = one.matcher();
    let (a, b) = (json!({"F": "a"}), json!({"F": "b", "G": "a"}));
    for _ in 0..3 {
        assert_eq!(matched(&mut matcher, &one, &event_of(&one, Source::default(), &a)), ["one"]);
        assert_eq!(matched(&mut matcher, &two, &event_of(&two, Source::default(), &b)), ["two"]);
        assert!(matched(&mut matcher, &two, &event_of(&two, Source::default(), &a)).is_empty());
    }
}

const RAR: &str = "title: Data Compressed - rar.exe\nid: 6f3e2987-db24-4c78-a860-b4f4095a7095\nname: rar\nlogsource: {category: process_creation, product: windows}\ndetection:\n  s: {Image|endswith: '\\rar.exe'}\n  condition: s\n---\n";
const JUMP: &str = "title: Login on jump host\nid: df0841c0-9846-4e9f-ad8a-7df91571771b\nname: jump\nlogsource: {product: windows, service: security}\ndetection:\n  s: {EventID: 4624}\n  condition: s\n---\n";

/// The ids of the rules of `texts`, each a file of its own, that match a process start by rar, and the
/// refusals.
fn filtered(texts: &[&str], user: &str) -> (Vec<String>, Vec<Refusal>) {
    let mut compiler = Compiler::new();
    for (number, text) in texts.iter().enumerate() {
        compiler.add_yaml(&format!("{number}.yml"), text);
    }
    let (rules, refusals) = compiler.compile();
    let source = Source {
        product: Some("windows".into()),
        category: Some("process_creation".into()),
        ..Source::default()
    };
    let json = json!({"Image": r"C:\rar.exe", "User": user, "EventID": 4624});
    let event = event_of(&rules, source, &json);
    let matched = matched(&mut rules.matcher(), &rules, &event);
    (matched.into_iter().map(str::to_owned).collect(), refusals)
}

fn filter(rules: &str, condition: &str) -> String {
    format!(
        "title: Filter Administrator account\ndescription: The valid administrator account start with adm_\nlogsource:\n    category: process_creation\n    product: windows\nfilter:\n    rules: {rules}\n    selection:\n        User|startswith: 'adm_'\n    condition: {condition}\n"
    )
}

#[test]
fn a_filter_is_joined_to_its_rules_by_and() {
    let matches = |condition: &str, user: &str| {
        let (matched, refusals) = filtered(&[RAR, &filter("[rar]", condition)], user);
        assert!(refusals.is_empty(), "{refusals:?}");
        !matched.is_empty()
    };
    assert!(matches("not selection", "nurse"));
    assert!(!matches("not selection", "adm_bob"));
    // Taken by its words: only what the filter holds for is left.
    assert!(matches("selection", "adm_bob"));
    assert!(!matches("selection", "nurse"));
    assert!(!matches("not 1 of sel*", "adm_bob"));
}

#[test]
fn a_filter_finds_its_rules_by_id_or_name_whatever_is_read_first() {
    let suppresses = |texts: &[&str]| {
        let (matched, refusals) = filtered(texts, "adm_bob");
        assert!(refusals.is_empty(), "{refusals:?}");
        matched.is_empty()
    };
    let by_id = filter("[6f3e2987-db24-4c78-a860-b4f4095a7095]", "not selection");
    let by_name = filter("rar", "not selection");
    let any = filter("any", "not selection");
    for filter in [&by_id, &by_name, &any] {
        assert!(suppresses(&[RAR, filter]));
        assert!(suppresses(&[filter, RAR]));
        assert!(suppresses(&[&format!("{RAR}{filter}")]));
    }
    // Rules of other log sources are not changed by `any`, and two filters both count.
    let (matched, _) = filtered(&[JUMP, RAR, &any], "nurse");
    assert_eq!(matched, ["6f3e2987-db24-4c78-a860-b4f4095a7095"]);
    let nurses = any.replace("adm_", "nur").replace("title: F", "title: Another f");
    assert!(filtered(&[&nurses, RAR, &any], "nurse").0.is_empty());
    assert!(!filtered(&[&nurses, RAR, &any], "doctor").0.is_empty());
}

#[test]
fn what_a_filter_cannot_be_added_to_is_told_with_its_line_and_the_rest_is_filtered() {
    let reasons = |text: &str| {
        let (matched, refusals) = filtered(&[RAR, JUMP, text], "adm_bob");
        let told: Vec<String> = refusals
            .iter()
            .map(|refusal| {
                let line = text.lines().nth(refusal.line - 1).unwrap_or_default().trim();
                format!("{} | {line} | {}", refusal.origin, refusal.reason)
            })
            .collect();
        (!matched.is_empty(), told)
    };
    let (matches, told) = reasons(&filter("[rar, jump, nobody]", "not selection"));
    assert!(!matches, "it is added to the one that it fits");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("2.yml | rules: [rar, jump, nobody] | "), "{told:?}");
    assert!(told[0].contains("the filter is for product windows, category process_creation, the rule for product windows, service security"), "{told:?}");
    assert!(told[1].contains("no rule with the id or name `nobody`"), "{told:?}");

    let alone = |text: &str, reason: &str| {
        let (matches, told) = reasons(text);
        assert!(matches, "the rule goes on without it");
        assert!(told.len() == 1 && told[0].contains(reason), "{reason}: {told:?}");
    };
    let plain = filter("[rar]", "not selection");
    alone(&plain.replace("    rules: [rar]\n", ""), "`rules` is missing");
    alone(&filter("[]", "not selection"), "`rules` must be a list");
    alone(&filter("[17]", "not selection"), "`rules` must be a list");
    alone(&filter("[rar, 17]", "not selection"), "`rules` must be a list");
    alone(&filter("[rar]", "not nothing"), "there is no detection `nothing`");
    alone(&plain.replace("User|startswith", "User|startz"), "startz");
    alone(&plain.replace("process_creation", "procces_creation"), "not added to `rar`");
    alone(
        &filter("any", "not selection").replace("process_creation", "procces_creation"),
        "no rule of its log source",
    );
    let no_source =
        plain.replace("logsource:\n    category: process_creation\n    product: windows\n", "");
    alone(&no_source, "`logsource` is missing");
}

#[test]
fn a_filter_for_another_product_is_passed_over_like_its_rules() {
    let mut compiler = Compiler::new().only_product("linux");
    let mut added = compiler.add_yaml("f.yml", &filter("[rar]", "not selection"));
    assert_eq!((added.filters, added.skipped, added.refused), (0, 1, 0));
    let everywhere = filter("[rar]", "not selection").replace(
        "    category: process_creation\n    product: windows\n",
        "  category: process_creation\n",
    );
    added = compiler.add_yaml("g.yml", &everywhere);
    assert_eq!((added.filters, added.skipped, added.refused), (1, 0, 0));
    compiler.add_yaml("r.yml", RAR);
    assert_eq!(compiler.compile().1, []);
}

#[test]
fn an_explanation_names_the_filter() {
    let rules = compiled(&format!("{RAR}{}", filter("any", "not selection")));
    let json = json!({"Image": r"C:\rar.exe", "User": "adm_bob"});
    let source = Source {
        product: Some("windows".into()),
        category: Some("process_creation".into()),
        ..Source::default()
    };
    let event = event_of(&rules, source, &json);
    let explanation = rules.matcher().explain(&rules, &event, cordon_detect::RuleIndex(0)).unwrap();
    let Part::All(parts) = explanation.condition.part else { panic!("{explanation:?}") };
    let Part::Detection(name, _) = &parts[1].part else { panic!("{parts:?}") };
    assert_eq!(
        (&**name, parts[0].holds, parts[1].holds),
        ("filter Filter Administrator account", true, false)
    );
}
