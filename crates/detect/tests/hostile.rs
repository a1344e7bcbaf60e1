//! Texts that are made to hurt whoever reads them: each is refused by itself, with its place and its reason,
//! and what stands beside it is loaded. That the tests end is part of what they show.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions: it stops at the first thing that is wrong"
)]

use cordon_detect::{Compiler, RuleSet};

const GOOD: &str = "title: good\nid: good\nlogsource: {product: windows}\ndetection:\n  s: {A: b}\n  condition: s\n";

/// A rule with these detections and this condition.
fn rule(detections: &str, condition: &str) -> String {
    format!(
        "title: bad\nid: bad\nlogsource: {{product: windows}}\ndetection:\n{detections}\n  condition: {condition}\n"
    )
}

/// Loads `bad` between two good rules of one file; what was refused must be `bad` alone.
fn refused_alone(what: &str, bad: &str) -> (RuleSet, usize, String) {
    let other = GOOD.replace("good", "other");
    let mut compiler =
        Compiler::new().placeholder("many", (0..60).map(|number| "x".repeat(number)));
    compiler.add_yaml("one.yml", &format!("{GOOD}---\n{bad}---\n{other}"));
    compiler.add_yaml("two.yml", &GOOD.replace("good", "third"));
    let (rules, mut refusals) = compiler.compile();
    let loaded: Vec<&str> = rules.rules().iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(loaded, ["good", "other", "third"], "{what}: {refusals:.300?}");
    assert_eq!(refusals.len(), 1, "{what}");
    let refusal = refusals.remove(0);
    assert_eq!(&*refusal.origin, "one.yml");
    assert!(refusal.line > 6, "{what}: line {}", refusal.line);
    assert!(refusal.reason.len() < 1_000, "{what}: {} bytes of reason", refusal.reason.len());
    (rules, refusal.line, refusal.reason)
}

/// Nine lists of nine aliases of nine lists…
fn laughs(levels: usize) -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..levels {
        let below = vec![format!("*a{}", level - 1); 9].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    text
}

#[test]
fn what_is_made_to_grow_is_refused_alone_with_place_and_reason() {
    let list = |value: &str, count: usize| {
        let values = (0..count).map(|number| value.replace('#', &number.to_string()));
        values.map(|value| format!("      - '{value}'\n")).collect::<String>()
    };
    let long = "x".repeat(200_000);
    let aliases = vec!["*long"; 2_000].join(", ");
    let cases = [
        ("billion laughs", format!("{}{}", rule("  s: {A: b}", "s"), laughs(10)), "200000 values"),
        (
            "billion laughs in a detection",
            rule(
                &format!("  {}\n  s: {{A: *a8}}", laughs(9).trim_end().replace('\n', "\n  ")),
                "s",
            ),
            "200000 values",
        ),
        (
            "one long text, often",
            rule(&format!("  t: {{B: &long {long}}}\n  s: {{A: [{aliases}]}}"), "s"),
            "texts come to more than 4 MiB",
        ),
        (
            "a long document",
            rule(&format!("  s: {{A: {}}}", "x".repeat(1 << 20)), "s"),
            "longer than 1 MiB",
        ),
        (
            "deep lists",
            rule(&format!("  s: {}b{}", "[".repeat(5_000), "]".repeat(5_000)), "s"),
            "nested deeper",
        ),
        (
            "deep mappings",
            rule(&format!("  s: {}b{}", "{a: ".repeat(4_000), "}".repeat(4_000)), "s"),
            "nested deeper",
        ),
        (
            "very many brackets",
            rule(&format!("  s: {}", "{a: ".repeat(100_000)), "s"),
            "opening brackets",
        ),
        (
            "tag lines",
            format!("{}...\n{}", rule("  s: {A: b}", "s"), "%TAG !a! b\n".repeat(50_000)),
            "`%TAG` lines",
        ),
        (
            "brackets in a condition",
            rule("  s: {A: b}", &format!("{}s{}", "(".repeat(5_000), ")".repeat(5_000))),
            "brackets within brackets",
        ),
        (
            "not after not",
            rule("  s: {A: b}", &format!("{}s", "not ".repeat(3_000))),
            "`not` after `not`",
        ),
        (
            "a long condition",
            rule("  s: {A: b}", &format!("s{}", " and s".repeat(9_000))),
            "longer than 16 KiB",
        ),
        (
            "many detections",
            rule(&(0..1_001).map(|n| format!("  s{n}: {{A: b}}\n")).collect::<String>(), "1 of s*"),
            "more than 1000 detections",
        ),
        (
            "all of them, often",
            rule(
                &(0..900).map(|n| format!("  s{n}: {{A: b}}\n")).collect::<String>(),
                &format!("1 of them{}", " or 1 of them".repeat(1_000)),
            ),
            "asks more than 20000 things",
        ),
        (
            "stars in a selector",
            rule(
                &format!("  {}: {{A: b}}", "a".repeat(100)),
                &format!("1 of {}b", "*a".repeat(60)),
            ),
            "selects no detection",
        ),
        (
            "modifiers",
            rule(&format!("  s: {{'A{}': b}}", "|contains".repeat(100)), "s"),
            "more than 16 modifiers",
        ),
        (
            "encodings of encodings",
            rule(&format!("  s: {{'A{}': {}}}", "|wide|base64".repeat(8), "x".repeat(9_000)), "s"),
            "more than 8 MiB",
        ),
        (
            "offsets of offsets",
            rule(&format!("  s: {{'A{}': abc}}", "|base64offset".repeat(9)), "s"),
            "more than 4096 others",
        ),
        (
            "lists of placeholders",
            rule("  s: {'A|expand': '%many%%many%%many%'}", "s"),
            "more than 4096 values",
        ),
        (
            "wildcards",
            rule(&format!("  s: {{A: '{}'}}", "*a?".repeat(50_000)), "s"),
            "10000 wildcards",
        ),
        (
            "fewer wildcards",
            rule(&format!("  s: {{A: '{}'}}", "*a".repeat(8_000)), "s"),
            "10000 wildcards",
        ),
        (
            "a large expression",
            rule(r"  s: {'A|re': 'a(\w{1,400}b){1,400}c'}", "s"),
            "at most 8 MiB compiled",
        ),
        (
            "a long expression",
            rule(&format!("  s: {{'A|re': '{}'}}", "a*".repeat(20_000)), "s"),
            "longer than 32 KiB",
        ),
        (
            "many expressions",
            rule(&format!("  s:\n    A|re:\n{}", list(r"#\w{40}z", 400)), "s"),
            "more memory than a rule",
        ),
    ];
    for (what, text, expected) in cases {
        let (rules, line, reason) = refused_alone(what, &text);
        assert!(reason.contains(expected), "{what}, line {line}: {reason}");
        // Nothing of it stays.
        assert_eq!(rules.fields().len(), 1, "{what}");
    }
}

#[test]
fn correlations_and_filters_are_bounded_alike() {
    let correlation = format!(
        "title: bad\nid: bad\ncorrelation:\n  type: event_count\n  rules: [good]\n  timespan: 1m\n  condition: {{gte: 2}}\n{}",
        laughs(10)
    );
    let filter = format!(
        "title: bad\nid: bad\nlogsource: {{product: windows}}\nfilter:\n  rules: any\n  s: {{A: [{}]}}\n  condition: s\n{}",
        "b, ".repeat(10),
        laughs(10)
    );
    let deep = "title: bad\nid: bad\nlogsource: {product: windows}\nfilter:\n  rules: any\n  s: {A: b}\n  condition: #s\n"
        .replace('#', &"not ".repeat(3_000));
    let words = format!(
        "title: bad\nid: bad\ncorrelation:\n  type: temporal\n  rules: [good, other]\n  timespan: 1m\n  condition: {}good and other\n",
        "not ".repeat(3_000)
    );
    for (what, text, expected) in [
        ("correlation", correlation, "200000 values"),
        ("filter", filter, "200000 values"),
        ("filter's condition", deep, "`not` after `not`"),
        ("correlation's condition", words, "`not` after `not`"),
    ] {
        let (.., reason) = refused_alone(what, &text);
        assert!(reason.contains(expected), "{what}: {reason}");
    }
}

#[test]
fn documents_that_take_over_much_from_others_are_refused() {
    let long = "x".repeat(400_000);
    let text =
        format!("action: global\nauthor: {long}\n{}", "---\naction: repeat\n".repeat(20_000));
    let mut compiler = Compiler::new();
    compiler.add_yaml("one.yml", &text);
    compiler.add_yaml("two.yml", GOOD);
    let (rules, refusals) = compiler.compile();
    assert_eq!(rules.rules().len(), 1);
    assert!(refusals[0].reason.contains("build on one another"), "{}", refusals[0]);
}

/// A file of nothing but expressions that are too large costs what a file may cost, and the next file's are
/// compiled as ever.
#[test]
fn a_file_of_huge_expressions_uses_up_its_own_account_only() {
    let bad = (0..400).map(|number| {
        let detections = format!(r"  s: {{'A|re': 'a(\w{{1,400}}b){{1,{}}}c'}}", 300 + number);
        rule(&detections, "s").replace("bad", &format!("bad{number}"))
    });
    let text = bad.collect::<Vec<_>>().join("---\n");
    let mut compiler = Compiler::new();
    compiler.add_yaml("one.yml", &text);
    compiler.add_yaml("two.yml", &rule("  s: {'A|re': 'a+b'}", "s"));
    let (rules, refusals) = compiler.compile();
    assert_eq!((rules.rules().len(), refusals.len()), (1, 400));
    assert!(refusals[0].reason.contains("at most 8 MiB compiled"), "{}", refusals[0]);
    assert!(refusals[399].reason.contains("take more memory than"), "{}", refusals[399]);
}
