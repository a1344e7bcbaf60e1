//! What the Sigma specification 2.1 says of correlations, by its own examples where it has them, and what
//! this engine decided where it leaves room.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code outside of test functions: it stops at the first thing that is wrong"
)]

mod support;
#[path = "support/timeline.rs"]
mod timeline;

use std::time::Duration;

use cordon_detect::{Compiler, Correlator, CorrelatorLimits, Interest};
use cordon_model::event::Source;
use serde_json::{Value as Json, json};
use timeline::{Outcome, at, loaded, patient, played, seconds};

/// A rule called `name` that matches events with `K: name`.
fn rule(name: &str) -> String {
    format!(
        "title: {name}\nid: {name}-id\nname: {name}\nlogsource: {{}}\ndetection:\n  s: {{K: {name}}}\n  condition: s\n---\n"
    )
}

/// A correlation called `name` with these lines.
fn correlation(name: &str, lines: &str) -> String {
    let lines = lines.replace("; ", "\n    ");
    format!(
        "title: {name}\nid: {name}-id\nname: {name}\ncorrelation:\n    {lines}\nlevel: high\n---\n"
    )
}

/// What the rules a, b, c and a correlation with these lines make of events: by firing its time, its
/// outcome and its hits.
fn fires(lines: &str, events: &[(f64, Json)]) -> Vec<(f64, String, Vec<u64>)> {
    let text = [rule("a"), rule("b"), rule("c"), correlation("many", lines)].concat();
    told(&outcome(&text, events))
}

fn outcome(text: &str, events: &[(f64, Json)]) -> Outcome {
    let (rules, refusals) = loaded(&[text]);
    assert!(refusals.is_empty(), "{refusals:?}\n{text}");
    played(&rules, patient(), events)
}

fn told(outcome: &Outcome) -> Vec<(f64, String, Vec<u64>)> {
    let told = outcome.firings.iter().map(|firing| {
        let tags = firing.hits.iter().map(|hit| hit.tag).collect();
        (seconds(firing.time), firing.outcome.to_string(), tags)
    });
    told.collect()
}

fn times(lines: &str, events: &[(f64, Json)]) -> Vec<f64> {
    fires(lines, events).into_iter().map(|(time, ..)| time).collect()
}

/// Events of `K: name` with further fields.
fn of(name: &str, time: f64, more: Json) -> (f64, Json) {
    let mut json = more;
    json["K"] = name.into();
    (time, json)
}

fn a(time: f64) -> (f64, Json) {
    of("a", time, json!({}))
}

/// Why a correlation is refused, and the line that is said of it.
fn refused(lines: &str) -> (String, String) {
    let text = [rule("a"), rule("b"), rule("c"), correlation("many", lines)].concat();
    let (rules, refusals) = loaded(&[&text]);
    assert_eq!(refusals.len(), 1, "{lines}: {refusals:?}");
    assert!(refusals[0].rule.as_deref().unwrap().starts_with("many"));
    assert!(!rules.correlates());
    let line = text.lines().nth(refusals[0].line - 1).unwrap_or_default().trim();
    (refusals[0].reason.clone(), line.to_owned())
}

const BRUTE_FORCE: &str = "title: Correlation - Multiple Failed Logins Followed by Successful Login\nid: b180ead8-d58f-40b2-ae54-c8940995b9b6\nstatus: experimental\nreferences:\n    - https://reference.com\nauthor: Florian Roth (Nextron Systems)\ndate: 2023-06-16\ncorrelation:\n    type: temporal_ordered\n    rules:\n        - multiple_failed_login\n        - successful_login\n    group-by:\n        - User\n    timespan: 10m\nfalsepositives:\n    - Unlikely\nlevel: high\n---\ntitle: Multiple failed logons\nid: a8418a5a-5fc4-46b5-b23b-6c73beb19d41\nname: multiple_failed_login\ncorrelation:\n    type: event_count\n    rules:\n        - failed_login\n    group-by:\n        - User\n    timespan: 10m\n    condition:\n        gte: 10\n---\ntitle: Single failed login\nid: 53ba33fd-3a50-4468-a5ef-c583635cfa92\nname: failed_login\nlogsource:\n    product: windows\n    service: security\ndetection:\n    selection:\n        EventID:\n            - 529\n            - 4625\n    condition: selection\n---\ntitle: Successful login\nid: 4d0a2c83-c62c-4ed4-b475-c7e23a9269b8\nname: successful_login\nlogsource:\n    product: windows\n    service: security\ndetection:\n    selection:\n        EventID:\n            - 528\n            - 4624\n    condition: selection\n";

/// The specification's example, on events of the Security log.
fn brute_force(events: &[(f64, u32, &str)]) -> Outcome {
    let (rules, refusals) = loaded(&[BRUTE_FORCE]);
    assert!(refusals.is_empty(), "{refusals:?}");
    let mut correlator = Correlator::new(patient());
    let mut matcher = rules.matcher();
    let mut outcome = Outcome::default();
    for (tag, (time, id, user)) in (0..).zip(events) {
        let source =
            Source { channel: Some("Security".into()), event_id: Some(*id), ..Source::default() };
        let json = json!({"User": user});
        let event = support::event_of(&rules, source, &json);
        let mut hits = Vec::new();
        for index in matcher.matches(&rules, &event).to_vec() {
            assert!(!rules.is_told(index), "it is there for the correlation");
            hits.extend(matcher.hit(&rules, &event, index, tag));
        }
        correlator.hear(&rules, at(*time), hits, &mut |firing| outcome.firings.push(firing));
    }
    correlator.finish(&rules, &mut |firing| outcome.firings.push(firing));
    for firing in &outcome.firings {
        let title = &rules.rule(firing.correlation).unwrap().title;
        assert!(title.starts_with("Correlation - "), "{title} is there for the other");
    }
    outcome
}

#[test]
fn the_specifications_example_of_failed_logins_followed_by_a_successful_one() {
    let failed = |count: usize, every: f64| -> Vec<(f64, u32, &str)> {
        (0..count).map(|n| (n as f64 * every, if n % 2 == 0 { 4625 } else { 529 }, "bob")).collect()
    };
    let with = |mut events: Vec<(f64, u32, &'static str)>, more: (f64, u32, &'static str)| {
        events.push(more);
        told(&brute_force(&events))
    };
    let firings = with(failed(10, 10.0), (200.0, 4624, "BOB"));
    assert_eq!(firings, [(200.0, "2".to_owned(), (0..=10).collect())]);
    assert_eq!(with(failed(9, 10.0), (200.0, 4624, "bob")), [], "nine are not ten");
    assert_eq!(with(failed(10, 10.0), (200.0, 4624, "eve")), [], "another user");
    assert_eq!(with(failed(10, 10.0), (690.1, 4624, "bob")), [], "ten minutes after the tenth");
    assert_eq!(with(failed(10, 10.0), (690.0, 4624, "bob")).len(), 1, "ten minutes to the dot");
    assert_eq!(
        with(failed(10, 70.0), (640.0, 4624, "bob")),
        [],
        "too slow: never ten in ten minutes"
    );
    let mut early = vec![(0.0, 4624, "bob")];
    early.extend(failed(10, 10.0).iter().map(|(time, id, user)| (time + 1.0, *id, *user)));
    assert_eq!(told(&brute_force(&early)), [], "the order is the other way round");
    // It goes on for an hour: the success at its end still follows failures that are many.
    assert_eq!(with(failed(360, 10.0), (3595.0, 4624, "bob")).len(), 1);
}

#[test]
fn event_count_counts_each_group_within_any_timespan() {
    let lines =
        "type: event_count; rules: [a-id]; group-by: [Host]; timespan: 1m; condition: {gte: 3}";
    let on = |host: &str, time: f64| of("a", time, json!({"Host": host}));
    let three = [on("x", 50.0), on("x", 60.0), on("X", 75.0)];
    assert_eq!(
        fires(lines, &three),
        [(75.0, "3".to_owned(), vec![0, 1, 2])],
        "across a full minute"
    );
    assert_eq!(times(lines, &[on("x", 0.0), on("x", 30.0), on("x", 60.0)]), [60.0]);
    assert_eq!(times(lines, &[on("x", 0.0), on("x", 30.0), on("x", 60.001)]), [] as [f64; 0]);
    assert_eq!(times(lines, &[on("x", 0.0), on("y", 1.0), on("x", 2.0)]), [] as [f64; 0]);
    let two = [on("x", 0.0), on("y", 1.0), on("y", 1.5), on("x", 2.0), on("x", 3.0), on("y", 4.0)];
    assert_eq!(times(lines, &two), [3.0, 4.0]);
    let nobody = lines.replace("group-by: [Host]; ", "");
    assert_eq!(times(&nobody, &[on("x", 0.0), on("y", 1.0), a(2.0)]), [2.0], "one group of all");
}

#[test]
fn every_operator_compares_the_count_at_each_hit() {
    let events: Vec<(f64, Json)> = (0..4).map(|n| a(f64::from(n) * 100.0)).collect();
    let counts = |condition: &str| {
        // Each hit is a firing of its own timespan, so that each is judged by itself: 1, 1, 1, 1.
        let lines = format!("type: event_count; rules: [a]; timespan: 99s; condition: {condition}");
        times(&lines, &events).len()
    };
    assert_eq!(counts("{eq: 1}"), 4);
    assert_eq!(counts("{gte: 1}"), 4);
    assert_eq!(counts("{lte: 1}"), 4);
    assert_eq!(counts("{lt: 2}"), 4);
    assert_eq!(counts("{gt: 1}"), 0);
    assert_eq!(counts("{neq: 1}"), 0);
    assert_eq!(counts("{eq: 2}"), 0);

    let close: Vec<(f64, Json)> = (0..6).map(|n| a(f64::from(n))).collect();
    let first = |condition: &str| {
        let lines = format!("type: event_count; rules: [a]; timespan: 1h; condition: {condition}");
        fires(&lines, &close).into_iter().map(|(time, count, _)| (time, count)).collect::<Vec<_>>()
    };
    assert_eq!(first("{gt: 3}"), [(3.0, "4".to_owned())]);
    assert_eq!(first("{gt: 3, lte: 5}"), [(3.0, "4".to_owned())], "a range");
    assert_eq!(first("{eq: 5}"), [(4.0, "5".to_owned())]);
    assert_eq!(first("{neq: 1}"), [(1.0, "2".to_owned())]);
    assert_eq!(first("{lt: 3}"), [(0.0, "1".to_owned())], "as it stands at the first hit");
}

#[test]
fn no_hit_is_part_of_two_firings() {
    let lines = "type: event_count; rules: [a]; timespan: 10s; condition: {gte: 3}";
    let events: Vec<(f64, Json)> = (0..40).map(|n| a(f64::from(n))).collect();
    let firings = fires(lines, &events);
    let at: Vec<f64> = firings.iter().map(|(time, ..)| *time).collect();
    assert_eq!(at, [2.0, 13.0, 24.0, 35.0]);
    assert_eq!(firings[1].2, (3..=13).collect::<Vec<u64>>());
}

#[test]
fn value_count_counts_different_values() {
    let lines = "type: value_count; rules: [a]; group-by: [Computer]; timespan: 1d; condition: {field: User, gte: 3}";
    let by = |user: &str, time: f64| of("a", time, json!({"Computer": "c", "User": user}));
    assert_eq!(times(lines, &[by("u", 0.0), by("v", 1.0), by("U", 2.0), by("w", 3.0)]), [3.0]);
    assert_eq!(times(lines, &[by("u", 0.0), by("u", 1.0), by("u", 2.0)]), [] as [f64; 0]);
    let late = [by("u", 0.0), by("v", 86_000.0), by("w", 86_401.0)];
    assert_eq!(times(lines, &late), [] as [f64; 0], "the first is over a day old");
    let list = [of("a", 0.0, json!({"Computer": "c", "User": ["u", "v", "w"]}))];
    assert_eq!(times(lines, &list), [0.0], "a list has each of its values");
    let pairs = lines.replace("field: User", "field: [User, Port]");
    let to = |user: &str, port: u32, time: f64| {
        of("a", time, json!({"Computer": "c", "User": user, "Port": port}))
    };
    assert_eq!(
        times(&pairs, &[to("u", 1, 0.0), to("u", 2, 1.0), to("u", 1, 2.0), to("v", 1, 3.0)]),
        [3.0]
    );
    assert_eq!(times(&pairs, &[to("u", 1, 0.0), to("u", 2, 1.0), by("v", 2.0)]), [] as [f64; 0]);
}

#[test]
fn temporal_wants_every_rule_in_any_order() {
    let lines = "type: temporal; rules: [a, b, c]; group-by: [ComputerName, User]; timespan: 5m";
    let by = |name: &str, user: &str, time: f64| {
        of(name, time, json!({"ComputerName": "pc", "User": user}))
    };
    let recon = [by("c", "u", 0.0), by("a", "u", 100.0), by("a", "u", 200.0), by("b", "u", 300.0)];
    assert_eq!(fires(lines, &recon), [(300.0, "3".to_owned(), vec![0, 2, 3])]);
    assert_eq!(
        times(lines, &[by("c", "u", 0.0), by("a", "u", 1.0), by("b", "v", 2.0)]),
        [] as [f64; 0]
    );
    assert_eq!(
        times(lines, &[by("c", "u", 0.0), by("a", "u", 1.0), by("b", "u", 301.0)]),
        [] as [f64; 0]
    );
    // The condition counts the different rules.
    let two = format!("{lines}; condition: {{gte: 2}}");
    assert_eq!(times(&two, &[by("a", "u", 0.0), by("a", "u", 1.0), by("c", "u", 2.0)]), [2.0]);
    let words = "type: temporal; timespan: 5m; condition: a and (b or not c)";
    assert_eq!(times(words, &[a(0.0)]), [0.0]);
    assert_eq!(times(words, &[of("c", 0.0, json!({})), a(1.0)]), [] as [f64; 0]);
    assert_eq!(times(words, &[of("c", 0.0, json!({})), a(1.0), of("b", 2.0, json!({}))]), [2.0]);
}

#[test]
fn temporal_ordered_wants_them_in_their_order() {
    let lines = "type: temporal_ordered; rules: [a, b, c]; timespan: 10s";
    let of = |name: &str, time: f64| of(name, time, json!({}));
    assert_eq!(
        fires(lines, &[of("a", 0.0), of("b", 1.0), of("c", 2.0)]),
        [(2.0, "3".to_owned(), vec![0, 1, 2])]
    );
    assert_eq!(times(lines, &[of("b", 0.0), of("a", 1.0), of("c", 2.0)]), [] as [f64; 0]);
    let again =
        [of("b", 0.0), of("a", 1.0), of("c", 2.0), of("b", 3.0), of("a", 4.0), of("c", 5.0)];
    assert_eq!(fires(lines, &again), [(5.0, "3".to_owned(), vec![1, 3, 5])]);
    assert_eq!(times(lines, &[of("a", 0.0), of("b", 1.0), of("c", 10.5)]), [] as [f64; 0]);
    // The first is too old for the chain, the second one of its rule is not.
    let second = [of("a", 0.0), of("b", 1.0), of("a", 2.0), of("b", 3.0), of("c", 11.0)];
    assert_eq!(fires(lines, &second), [(11.0, "3".to_owned(), vec![2, 3, 4])]);
    assert_eq!(
        times(lines, &[of("c", 5.0), of("b", 5.0), of("a", 5.0)]),
        [5.0],
        "one time is any order"
    );
    let two = format!("{lines}; condition: {{gte: 2}}");
    assert_eq!(times(&two, &[of("b", 0.0), of("a", 1.0), of("c", 2.0)]), [2.0]);
    assert_eq!(times(&two, &[of("c", 0.0), of("b", 1.0), of("a", 2.0)]), [] as [f64; 0]);
}

#[test]
fn numbers_are_added_averaged_and_ranked() {
    let sent = |bytes: Json, time: f64| of("a", time, json!({"bytes_sent": bytes}));
    let with = |lines: &str, numbers: &[Json]| {
        let events: Vec<_> =
            numbers.iter().enumerate().map(|(n, bytes)| sent(bytes.clone(), n as f64)).collect();
        let lines = format!("type: {lines}").replace("{", "{field: bytes_sent, ");
        let lines = lines.replace("; ", "; rules: [a]; timespan: 10s; ");
        fires(&lines, &events)
            .into_iter()
            .map(|(time, outcome, _)| (time, outcome))
            .collect::<Vec<_>>()
    };
    let is = |time: f64, outcome: &str| vec![(time, outcome.to_owned())];
    let sum = "value_sum; condition: {gt: 1000000}";
    assert_eq!(with(sum, &[json!(400_000), json!("600000"), json!(1)]), is(2.0, "1000001"));
    assert_eq!(with(sum, &[json!(400_000), json!("a lot"), json!(null), json!(600_000)]), []);
    assert_eq!(
        with("value_sum; condition: {lt: -5}", &[json!(-2), json!(-2.5), json!(-0.75)]),
        is(2.0, "-5.25")
    );
    let average = "value_avg; condition: {gt: 500}";
    assert_eq!(with(average, &[json!(400), json!(500), json!(601)]), is(2.0, "500.3333333333333"));
    assert_eq!(with(average, &[json!(400), json!(600)]), []);
    let median = "value_median; condition: {gte: 10}";
    assert_eq!(with(median, &[json!(1), json!(50), json!(2), json!(18)]), is(1.0, "25.5"));
    assert_eq!(with(median, &[json!(1), json!(2), json!(30), json!(40)]), is(3.0, "16"));
    let percentile = "value_percentile; condition: {percentile: 90, gte: 90}";
    assert_eq!(with(percentile, &[json!(0), json!(80), json!(100)]), is(2.0, "96"));
    // What is over no longer counts.
    let over: Vec<Json> =
        [900_000].into_iter().chain([1; 10]).chain([150_000]).map(Json::from).collect();
    assert_eq!(with(sum, &over), []);
}

#[test]
fn aliases_name_a_value_by_rule() {
    let lines = "type: temporal; rules: [a, b]; group-by: [internal_ip, remote_ip]; timespan: 10s; aliases:; \x20   internal_ip: {a: destination.ip, b: source.ip}; \x20   remote_ip: {a: source.ip, b: destination.ip}";
    let ip = |name: &str, source: &str, destination: &str, time: f64| {
        of(name, time, json!({"source.ip": source, "destination.ip": destination}))
    };
    assert_eq!(times(lines, &[ip("a", "r", "i", 0.0), ip("b", "i", "r", 1.0)]), [1.0]);
    assert_eq!(times(lines, &[ip("a", "r", "i", 0.0), ip("b", "r", "i", 1.0)]), [] as [f64; 0]);
    let text = [rule("a"), rule("b"), correlation("many", lines)].concat();
    let outcome = outcome(&text, &[ip("a", "R", "i", 0.0), ip("b", "i", "r", 1.0)]);
    let group = &outcome.firings[0].group;
    assert_eq!(group, &[("internal_ip".into(), "i".into()), ("remote_ip".into(), "R".into())]);
}

#[test]
fn a_chain_groups_by_its_own_fields() {
    // Many failures on a machine, then a success of one of the users who failed there.
    let text = [
        rule("a"),
        rule("b"),
        correlation("many", "type: event_count; rules: [a]; group-by: [Computer]; timespan: 10s; condition: {gte: 3}"),
        correlation("then", "type: temporal_ordered; rules: [many, b]; group-by: [User]; timespan: 10s"),
    ]
    .concat();
    let by = |name: &str, computer: &str, user: &str, time: f64| {
        of(name, time, json!({"Computer": computer, "User": user}))
    };
    let failures = [by("a", "x", "u", 0.0), by("a", "x", "v", 1.0), by("a", "x", "w", 2.0)];
    let then = |more: (f64, Json)| {
        let events: Vec<_> = failures.iter().cloned().chain([more]).collect();
        told(&outcome(&text, &events))
    };
    assert_eq!(then(by("b", "y", "U", 5.0)), [(5.0, "2".to_owned(), vec![0, 1, 2, 3])]);
    assert_eq!(then(by("b", "x", "z", 5.0)), []);
    // Counted is what fires, not each hit that keeps it firing.
    let twice = [
        rule("a"),
        correlation("many", "type: event_count; rules: [a]; timespan: 10s; condition: {gte: 3}"),
        correlation("often", "type: event_count; rules: [many]; timespan: 1h; condition: {gte: 2}"),
    ]
    .concat();
    let steady: Vec<_> = (0..14).map(|n| a(f64::from(n))).collect();
    assert_eq!(
        told(&outcome(&twice, &steady)).iter().map(|(time, ..)| *time).collect::<Vec<_>>(),
        [13.0]
    );
}

#[test]
fn what_is_only_referred_to_is_not_told_unless_generate_says_so() {
    let count = "type: event_count; rules: [a]; timespan: 10s; condition: {gte: 2}";
    let ids = |text: &str| outcome(text, &[a(0.0), of("b", 0.5, json!({})), a(1.0)]).told;
    let silent = [rule("a"), rule("b"), correlation("many", count)].concat();
    assert_eq!(ids(&silent), [("b-id".to_owned(), 1)]);
    let spoken = format!("{}generate: true\n---\n", silent.trim_end_matches("---\n"));
    assert_eq!(ids(&spoken).len(), 3);
    let inside =
        [rule("a"), rule("b"), correlation("many", &format!("{count}; generate: true"))].concat();
    assert_eq!(ids(&inside).len(), 3);
    // A correlation that is refused silences nobody.
    let (rules, refusals) =
        loaded(&[&[rule("a"), correlation("many", &count.replace("[a]", "[a, nobody]"))].concat()]);
    assert_eq!(refusals.len(), 1);
    assert_eq!(played(&rules, patient(), &[a(0.0)]).told.len(), 1);
}

#[test]
fn files_may_come_in_any_order_and_fields_are_asked_for() {
    let lines = "type: value_count; rules: [a]; group-by: [Who]; timespan: 10s; condition: {field: What, gte: 2}";
    let (first, second) = (rule("a"), correlation("many", lines));
    for files in [[&*first, &*second], [&*second, &*first]] {
        let (rules, refusals) = loaded(&files);
        assert_eq!(refusals, []);
        assert!(rules.correlates());
        for name in ["K", "Who", "What"] {
            assert!(rules.fields().find(name).is_some(), "{name}");
        }
        assert_eq!(rules.interest(&Source::default()), Interest::Fields);
    }
}

#[test]
fn values_are_read_by_the_names_of_their_log() {
    let text = "title: shell\nname: shell\nlogsource: {product: windows, category: process_creation}\ndetection:\n  s: {Image|endswith: '\\cmd.exe'}\n  condition: s\n---\n".to_owned()
        + &correlation("many", "type: event_count; rules: [shell]; group-by: [ParentImage, IntegrityLevel]; timespan: 10s; condition: {gte: 2}");
    let (rules, refusals) = loaded(&[&text]);
    assert_eq!(refusals, []);
    let sysmon = (
        1,
        "Microsoft-Windows-Sysmon/Operational",
        json!({"Image": r"C:\cmd.exe", "ParentImage": r"C:\word.exe", "IntegrityLevel": "High"}),
    );
    let audit = (
        4688,
        "Security",
        json!({"NewProcessName": r"C:\cmd.exe", "ParentProcessName": r"C:\word.exe", "MandatoryLabel": "S-1-16-12288"}),
    );
    let mut correlator = Correlator::new(patient());
    let (mut matcher, mut fired) = (rules.matcher(), Vec::new());
    for (id, channel, json) in [&sysmon, &audit] {
        let source =
            Source { channel: Some((*channel).into()), event_id: Some(*id), ..Source::default() };
        let event = support::event_of(&rules, source, json);
        let index = matcher.matches(&rules, &event)[0];
        let hit = matcher.hit(&rules, &event, index, 0);
        correlator.hear(&rules, at(1.0), hit, &mut |firing| fired.push(firing));
    }
    correlator.finish(&rules, &mut |firing| fired.push(firing));
    assert_eq!(fired.len(), 1, "two logs, one value");
    assert_eq!(
        fired[0].group,
        [("ParentImage".into(), r"C:\word.exe".into()), ("IntegrityLevel".into(), "High".into())]
    );
}

#[test]
fn hits_without_a_value_are_counted_and_not_guessed() {
    let text = [rule("a"), correlation("many", "type: value_count; rules: [a]; group-by: [Who]; timespan: 10s; condition: {field: What, gte: 1}")].concat();
    let events = [
        a(0.0),
        of("a", 1.0, json!({"Who": null, "What": "x"})),
        of("a", 2.0, json!({"Who": "w"})),
    ];
    let outcome = outcome(&text, &events);
    assert_eq!(told(&outcome), []);
    assert_eq!((outcome.unheard.ungrouped, outcome.unheard.uncounted), (2, 1));
}

#[test]
fn what_comes_late_is_taken_in_order_within_the_lateness_and_counted_after_it() {
    let lines = "type: temporal_ordered; rules: [a, b]; timespan: 10s";
    let (rules, _) = loaded(&[&[rule("a"), rule("b"), correlation("many", lines)].concat()]);
    let limits =
        CorrelatorLimits { lateness: Duration::from_secs(5), ..CorrelatorLimits::default() };
    let b = |time: f64| of("b", time, json!({}));
    let in_time = played(&rules, limits, &[b(4.0), a(3.0), a(30.0)]);
    assert_eq!((in_time.firings.len(), in_time.unheard.late), (1, 0));
    let too_late = played(&rules, limits, &[b(4.0), a(30.0), a(3.0)]);
    assert_eq!((too_late.firings.len(), too_late.unheard.late), (0, 1));
    // Time passes also by events that nothing matches.
    let mut correlator = Correlator::new(limits);
    let (mut matcher, mut fired) = (rules.matcher(), 0);
    for (time, json) in [a(3.0), b(4.0)] {
        let event = support::event_of(&rules, Source::default(), &json);
        let index = matcher.matches(&rules, &event)[0];
        let hit = matcher.hit(&rules, &event, index, 0);
        correlator.hear(&rules, at(time), hit, &mut |_| fired += 1);
    }
    correlator.hear(&rules, at(8.9), None, &mut |_| fired += 1);
    assert_eq!(fired, 0);
    correlator.hear(&rules, at(9.0), None, &mut |_| fired += 1);
    assert_eq!(fired, 1);
}

#[test]
fn memory_is_limited_and_the_oldest_are_given_up() {
    let lines = "type: event_count; rules: [a]; group-by: [Who]; timespan: 1d; condition: {gte: 3}";
    let (rules, _) = loaded(&[&[rule("a"), correlation("many", lines)].concat()]);
    let limits =
        CorrelatorLimits { lateness: Duration::ZERO, hits: 1_000, ..CorrelatorLimits::default() };
    let by = |who: String, time: f64| of("a", time, json!({"Who": who}));
    let mut events: Vec<_> = (0..2).map(|n| by("old".into(), f64::from(n))).collect();
    events.extend((0..5_000).map(|n| by(format!("new {n}"), 10.0 + f64::from(n))));
    events.push(by("old".into(), 6_000.0));
    events.extend((0..2).map(|n| by("new 4999".into(), 6_001.0 + f64::from(n))));
    let outcome = played(&rules, limits, &events);
    let groups: Vec<&str> = outcome.firings.iter().map(|firing| &*firing.group[0].1).collect();
    assert_eq!(groups, ["new 4999"]);
    assert!((4_000..5_000).contains(&outcome.unheard.given_up), "{:?}", outcome.unheard);

    // The same by bytes, and what waits is limited too.
    let small = CorrelatorLimits {
        lateness: Duration::from_secs(1_000_000),
        hits: 1_000_000,
        bytes: 1 << 20,
    };
    let mut correlator = Correlator::new(small);
    let (mut matcher, mut most) = (rules.matcher(), 0);
    for n in 0..20_000 {
        let json = json!({"K": "a", "Who": format!("{n:0>1000}")});
        let event = support::event_of(&rules, Source::default(), &json);
        let index = matcher.matches(&rules, &event)[0];
        let hit = matcher.hit(&rules, &event, index, 0);
        correlator.hear(&rules, at(f64::from(n)), hit, &mut |_| {});
        most = most.max(correlator.hits_kept());
    }
    assert!(most < 1_500, "{most} hits of a kilobyte and more in a megabyte");
    assert!(correlator.unheard().given_up > 18_000);
}

#[test]
fn over_is_over_and_leaves_nothing_behind() {
    let lines = "type: value_count; rules: [a]; group-by: [Who]; timespan: 1s; condition: {field: What, gte: 100}";
    let (rules, _) = loaded(&[&[rule("a"), correlation("many", lines)].concat()]);
    let mut correlator = Correlator::new(CorrelatorLimits {
        lateness: Duration::ZERO,
        ..CorrelatorLimits::default()
    });
    let mut matcher = rules.matcher();
    for n in 0..10_000 {
        let json = json!({"K": "a", "Who": n, "What": n});
        let event = support::event_of(&rules, Source::default(), &json);
        let index = matcher.matches(&rules, &event)[0];
        let hit = matcher.hit(&rules, &event, index, 0);
        correlator.hear(&rules, at(f64::from(n)), hit, &mut |_| {});
        assert!(correlator.hits_kept() <= 2);
    }
    assert_eq!(correlator.unheard().given_up, 0);
}

#[test]
fn what_a_correlation_cannot_mean_is_refused_alone_with_its_line() {
    let count = |rest: &str| {
        format!("type: event_count; rules: [a]; group-by: [U]; timespan: 5m; condition: {rest}")
    };
    let why = |lines: &str, reason: &str, line: &str| {
        let (said, at) = refused(lines);
        assert!(said.contains(reason), "{lines}: {said}");
        assert!(at.starts_with(line), "{lines}: {at}");
    };
    let plain = count("{gte: 5}");
    why(&plain.replace("[a]", "[a, nobody]"), "no rule with the id or name `nobody`", "rules:");
    why(&plain.replace("[a]", "[a, 17]"), "list of texts", "rules:");
    why(&plain.replace("[a]", "[a, a]"), "stands there twice", "rules:");
    why(&plain.replace("[a]", "[a, a-id]"), "already refers to", "rules:");
    why(&plain.replace("rules: [a]; ", ""), "`rules` is missing", "correlation:");
    why(&plain.replace("[U]", "[U, 5]"), "list of texts", "group-by:");
    why(&plain.replace("5m", "5"), "Missing time", "");
    why(&plain.replace("5m", "0m"), "timespan of nothing", "timespan:");
    why(&plain.replace("5m", "9999d"), "longer than ten years", "timespan:");
    why(&plain.replace("group-by", "groupby"), "unknown field `groupby`", "correlation:");
    why(
        &plain.replace("; group-by", "; window: tumbling; group-by"),
        "unknown field `window`",
        "correlation:",
    );
    why(&plain.replace("event_count", "event_sum"), "event_sum", "");
    why(&count("{}"), "", "");
    why(&count("{gte: 5, gtee: 6}"), "unknown field `gtee`", "condition:");
    why(&count("{gte: 5, lt: 5}"), "no count from 1", "condition:");
    why(&count("{lt: 1}"), "no count from 1", "condition:");
    why(&count("{gt: 100000}"), "no count from 1", "condition:");
    why(&count("{gte: -1, field: U}"), "`field` means nothing with event_count", "condition:");
    why(&count("a and b"), "in words", "condition:");
    why(&plain.replace("event_count", "value_count"), "needs `field`", "condition:");
    why(&plain.replace("event_count", "value_sum"), "needs one `field`", "condition:");
    why(
        &count("{gte: 5, field: U}").replace("event_count", "value_percentile"),
        "needs `percentile`",
        "condition:",
    );
    why(
        &count("{gte: 5, field: U, percentile: 101}").replace("event_count", "value_percentile"),
        "more than 100",
        "condition:",
    );
    why(
        &count("{gte: 5, field: U, percentile: 9}").replace("event_count", "value_avg"),
        "means nothing",
        "condition:",
    );
    why(
        "type: temporal; rules: [a, b]; timespan: 5m; condition: {gte: 3}",
        "no count from 1 to 2",
        "condition:",
    );
    why(
        "type: temporal; rules: [a, b]; timespan: 5m; condition: a",
        "says nothing of `b`",
        "condition:",
    );
    why(
        "type: temporal; rules: [a]; timespan: 5m; condition: a or b",
        "`b` is none of its",
        "condition:",
    );
    why(
        "type: temporal_ordered; rules: [a, b]; timespan: 5m; condition: a and b",
        "only `type: temporal`",
        "condition:",
    );
    why(
        "type: temporal; rules: [a, b]; timespan: 5m; condition: all of them",
        "name the rules",
        "condition:",
    );
    why(
        "type: temporal; rules: [a, b]; group-by: [x]; timespan: 5m; aliases: {x: {c: F}}",
        "alias `x`: `c` is none of",
        "aliases:",
    );
}

#[test]
fn circles_and_what_depends_on_what_is_refused_are_refused() {
    let count = |name: &str, of: &str| {
        correlation(
            name,
            &format!("type: event_count; rules: [{of}]; timespan: 5m; condition: {{gte: 2}}"),
        )
    };
    let reasons = |text: &str| -> Vec<String> {
        let mut reasons: Vec<String> = loaded(&[text])
            .1
            .iter()
            .map(|refusal| format!("{}: {}", refusal.rule.as_deref().unwrap(), refusal.reason))
            .collect();
        reasons.sort();
        reasons
    };
    let circle = reasons(
        &[
            rule("a"),
            count("x", "y"),
            count("y", "z"),
            count("z", "x"),
            count("w", "x"),
            count("fine", "a"),
        ]
        .concat(),
    );
    assert_eq!(circle.len(), 4);
    assert!(circle.iter().all(|reason| reason.contains("refers to itself")), "{circle:?}");
    assert!(reasons(&count("x", "x"))[0].contains("refers to itself"));
    let fallen = reasons(&[count("x", "y"), count("y", "nobody")].concat());
    assert!(fallen[0].contains("`y` was itself refused"), "{fallen:?}");
    let mut deep = rule("a") + &count("c0", "a");
    for n in 1..10 {
        deep += &count(&format!("c{n}"), &format!("c{}", n - 1));
    }
    let deep = reasons(&deep);
    assert!(deep.len() == 2 && deep[0].contains("more than 8 deep"), "{deep:?}");
    let twins = reasons(&[rule("a"), rule("a").replace("a-id", "b-id"), count("x", "a")].concat());
    assert!(twins[0].contains("more than one rule is called `a`"), "{twins:?}");
}

#[test]
fn correlations_of_another_product_are_passed_over_and_may_be_left_out() {
    let windows = rule("a").replace("logsource: {}", "logsource: {product: windows}");
    let text = [
        windows,
        correlation("many", "type: event_count; rules: [a]; timespan: 5m; condition: {gte: 2}"),
    ]
    .concat();
    let mut compiler = Compiler::new().only_product("linux");
    let added = compiler.add_yaml("w.yml", &text);
    assert_eq!((added.rules, added.correlations, added.skipped), (0, 1, 1));
    let (rules, refusals) = compiler.compile();
    assert_eq!((refusals.len(), rules.rules().len()), (0, 0));

    let mut compiler = Compiler::new().without_correlations("agents can't");
    compiler.add_yaml("w.yml", &text);
    let (rules, refusals) = compiler.compile();
    assert_eq!(refusals[0].reason, "agents can't");
    assert!(rules.is_told(cordon_detect::RuleIndex(0)));
}

/// Rules are taken anew while windows are half full: what means the same goes on, what doesn't begins anew.
#[test]
fn with_new_rules_what_means_the_same_goes_on() {
    let many = |condition: &str| {
        correlation(
            "many",
            &format!("type: event_count; rules: [a]; timespan: 1m; condition: {{ {condition} }}"),
        )
    };
    let chain =
        correlation("chain", "type: temporal; rules: [many, b]; timespan: 5m; generate: true");
    let set = |parts: &[&str]| {
        let (rules, refusals) = loaded(&[&parts.concat()]);
        assert!(refusals.is_empty(), "{refusals:?}");
        rules
    };
    let (a_rule, b_rule) = (rule("a"), rule("b"));
    let old = set(&[&a_rule, &b_rule, &many("gte: 3"), &chain]);
    let heard = |rules: &cordon_detect::RuleSet, correlator: &mut Correlator, times: &[f64]| {
        let mut matcher = rules.matcher();
        let mut fired = Vec::new();
        for time in times {
            let json = json!({ "K": "a" });
            let event = support::event_of(rules, Source::default(), &json);
            let matched = matcher.matches(rules, &event).to_vec();
            let hits: Vec<_> =
                matched.iter().filter_map(|rule| matcher.hit(rules, &event, *rule, 0)).collect();
            correlator.hear(rules, at(*time), hits, &mut |firing| fired.push(firing));
        }
        fired.len()
    };
    let half_full = || {
        let limits = CorrelatorLimits { lateness: Duration::ZERO, ..CorrelatorLimits::default() };
        let mut correlator = Correlator::new(limits);
        assert_eq!(heard(&old, &mut correlator, &[1.0, 2.0]), 0);
        correlator
    };
    // By other numbers, with another rule beside it, and with what it refers to written otherwise.
    let other_a = a_rule.replace("title: a", "title: another name of a");
    let same = set(&[&rule("c"), &b_rule, &many("gte: 3"), &chain, &other_a]);
    let mut correlator = half_full();
    let carried = correlator.carry_over(&old, &same);
    assert_eq!((carried.going_on, carried.anew), (2, 0));
    assert_eq!(correlator.hits_kept(), 2);
    assert_eq!(heard(&same, &mut correlator, &[3.0]), 1, "the third of three");
    // It asks for something else now; and so does what is built on it.
    let other = set(&[&a_rule, &b_rule, &many("gte: 2"), &chain]);
    let mut correlator = half_full();
    let carried = correlator.carry_over(&old, &other);
    assert_eq!((carried.going_on, carried.anew), (0, 2));
    assert_eq!(correlator.hits_kept(), 0);
    assert_eq!(heard(&other, &mut correlator, &[3.0]), 0, "the first of two");
    // It is gone, and comes back: nothing is known of it.
    let none = set(&[&a_rule, &b_rule]);
    let mut correlator = half_full();
    assert_eq!(correlator.carry_over(&old, &none), cordon_detect::CarriedOver::default());
    correlator.carry_over(&none, &old);
    assert_eq!(heard(&old, &mut correlator, &[3.0]), 0);
    // Without being told, it begins anew.
    let mut correlator = half_full();
    assert_eq!(heard(&same, &mut correlator, &[3.0]), 0);
}
