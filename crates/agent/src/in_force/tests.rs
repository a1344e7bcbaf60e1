//! Which rules are taken, which are not, and what people are told of it, over starts and reloads.

use super::*;

const GOOD: &str = "A";
const BROKEN: &str = "A|nonsense";

fn rule(id: &str, field: &str) -> (String, String) {
    let text = format!(
        "title: {id}\nid: {id}\nlogsource: {{product: linux}}\ndetection:\n  s: {{'{field}': b}}\n  condition: s\n"
    );
    (format!("/rules/{id}.yml"), text)
}

fn files(rules: &[(&str, &str)]) -> RuleFiles {
    let texts = rules.iter().map(|(id, field)| rule(id, field)).collect();
    RuleFiles { folder: "/rules".into(), texts, unread: Vec::new() }
}

/// An agent's start with what a folder holds now.
fn start(directory: &Path, read: Result<RuleFiles, String>) -> Result<(InForce, RuleSet), String> {
    InForce::begin(&RulesFrom::Folder(Arc::new(move || read.clone())), directory)
}

fn ids(set: &RuleSet) -> Vec<&str> {
    set.rules().iter().map(|rule| rule.id.as_str()).collect()
}

#[test]
fn a_set_that_is_worse_than_the_one_in_force_is_not_taken_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let (mut rules, set) = start(directory.path(), Ok(files(&[("one", GOOD)]))).unwrap();
    assert_eq!((ids(&set), rules.gap()), (vec!["one"], None));
    let mut why = |read| {
        assert!(rules.renew(read).is_none());
        rules.gap().unwrap()
    };
    assert!(why(Err("rules.d: gone".into())).ends_with("those in force stay: rules.d: gone"));
    assert!(why(Ok(RuleFiles::default())).ends_with("not one rule is left"));
    let bad = || Ok(files(&[("one", GOOD), ("two", BROKEN), ("three", "A|re|lt")]));
    assert!(why(bad()).ends_with("refused and was not before: three.yml: three (and 1 more)"));
    let unread = vec![("/rules/two.yml".to_owned(), "permission denied".to_owned())];
    assert!(why(Ok(RuleFiles { unread, ..files(&[("one", GOOD)]) })).ends_with("two.yml"));
    // And one that is sound again ends the gap.
    assert!(rules.renew(Ok(files(&[("one", GOOD), ("two", GOOD)]))).is_some());
    assert_eq!(rules.gap(), None);
}

#[test]
fn what_was_refused_at_a_reload_is_not_taken_by_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let good = files(&[("one", GOOD), ("two", GOOD)]);
    let (mut rules, _) = start(directory.path(), Ok(good)).unwrap();
    let bad = || Ok(files(&[("one", GOOD), ("two", BROKEN)]));
    assert!(rules.renew(bad()).is_none());
    for read in [bad(), Err("gone".into()), Ok(RuleFiles::default())] {
        let (rules, set) = start(directory.path(), read).unwrap();
        assert_eq!(ids(&set), ["one", "two"], "what was in force before");
        assert!(rules.gap().unwrap().contains("new rules were not taken"), "{:?}", rules.gap());
    }
    // Put right in the folder, it is taken by the next start.
    let (rules, set) =
        start(directory.path(), Ok(files(&[("one", GOOD), ("two", "B"), ("three", "C")]))).unwrap();
    assert_eq!((set.rules().len(), rules.gap()), (3, None));
}

#[test]
fn rules_that_are_refused_from_the_first_start_on_are_a_gap_and_hold_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let refused = || files(&[("one", GOOD), ("two", BROKEN)]);
    let (rules, set) = start(directory.path(), Ok(refused())).unwrap();
    assert_eq!(ids(&set), ["one"]);
    let gap = rules.gap().unwrap();
    assert!(gap.starts_with("one is refused: /rules/two.yml:"), "{gap}");
    // The same in the folder of a new version, with a line above it, is nothing new.
    let mut moved = refused();
    for (origin, text) in &mut moved.texts {
        *origin = origin.replace("/rules/", "/rules/v2/");
        text.insert(0, '\n');
    }
    moved.folder = "/rules/v2".into();
    let (mut rules, set) = start(directory.path(), Ok(moved.clone())).unwrap();
    assert_eq!((set.rules().len(), rules.gap().unwrap().contains("not taken")), (1, false));
    assert!(rules.renew(Ok(moved)).is_some());
}

#[test]
fn fewer_rules_than_before_are_taken_and_told_until_a_person_affirms_it() {
    let directory = tempfile::tempdir().unwrap();
    let whole = || Ok(files(&[("one", GOOD), ("two", GOOD), ("three", GOOD)]));
    let half = || Ok(files(&[("one", GOOD)]));
    let words = Some("1 rules where there were 3: if that is meant, reload the agent once more");
    start(directory.path(), whole()).unwrap();
    // By restarts alone, as often as you like.
    for _ in 0..2 {
        let (rules, set) = start(directory.path(), half()).unwrap();
        assert_eq!((ids(&set), rules.gap().as_deref()), (vec!["one"], words));
    }
    // Copied to its end.
    let (mut rules, _) = start(directory.path(), whole()).unwrap();
    assert_eq!(rules.gap(), None);
    // By a reload, through a restart, and affirmed by another reload.
    assert!(rules.renew(half()).is_some());
    assert_eq!(rules.gap().as_deref(), words);
    let (mut rules, _) = start(directory.path(), half()).unwrap();
    assert_eq!(rules.gap().as_deref(), words);
    assert!(rules.renew(half()).is_some());
    assert_eq!(rules.gap(), None);
    assert_eq!(start(directory.path(), half()).unwrap().0.gap(), None);
}

#[test]
fn no_rules_at_the_first_start_are_an_error_and_none_for_this_machine_are_a_gap() {
    let directory = tempfile::tempdir().unwrap();
    assert!(start(directory.path(), Err("no folder".into())).is_err());
    let windows = RuleFiles {
        texts: vec![("w.yml".into(), rule("w", GOOD).1.replace("linux", "windows"))],
        ..RuleFiles::default()
    };
    let (rules, _) = start(directory.path(), Ok(windows)).unwrap();
    let mut coverage = Vec::new();
    assert!(rules.put_into(&mut coverage));
    assert_eq!((coverage[0].what.as_str(), &coverage[0].by), ("rules", &None));
    assert_eq!(coverage[0].gap.as_deref(), Some("not one rule is in force"));
    assert!(!rules.put_into(&mut coverage), "said already");
}

#[test]
fn a_memory_that_is_torn_or_of_another_version_is_as_good_as_none() {
    let directory = tempfile::tempdir().unwrap();
    start(directory.path(), Ok(files(&[("one", GOOD)]))).unwrap();
    let file = directory.path().join(FILE);
    let whole = std::fs::read(&file).unwrap();
    for end in 0..whole.len() {
        std::fs::write(&file, &whole[..end]).unwrap();
        let (rules, set) = start(directory.path(), Ok(files(&[("two", GOOD)]))).unwrap();
        assert_eq!((ids(&set), rules.gap()), (vec!["two"], None));
    }
    // And the built-in rules forget what a folder had.
    InForce::begin(&RulesFrom::Program(vec![rule("own", GOOD)]), directory.path()).unwrap();
    assert!(!file.exists());
}

#[test]
fn a_gap_is_never_longer_than_a_hub_takes() {
    let long = "🏥".repeat(10_000);
    let taken = Taken {
        refused: BTreeSet::from([long.clone(), "b".into()]),
        first_refusal: Some(brief(&long)),
        before: Some(u32::MAX),
        ..Taken::default()
    };
    let said = gap(&taken, Some(&long)).unwrap();
    assert!(said.len() <= limits::NAME_BYTES, "{}", said.len());
}

/// So many rules that one is refused of, in files of these names.
fn refused_in(origins: &[&str]) -> RuleFiles {
    let mut read = files(&[("one", GOOD)]);
    read.texts.extend(origins.iter().map(|origin| ((*origin).to_owned(), rule("bad", BROKEN).1)));
    read
}

#[test]
fn files_of_one_name_in_two_folders_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let first = || Ok(refused_in(&["/rules/a/bad.yml"]));
    let (mut rules, _) = start(directory.path(), first()).unwrap();
    assert!(rules.renew(first()).is_some());
    assert!(rules.renew(Ok(refused_in(&["/rules/a/bad.yml", "/rules/b/bad.yml"]))).is_none());
    let gap = rules.gap().unwrap();
    assert!(gap.contains("refused and was not before: b/bad.yml"), "{gap}");
    // What a version remembered that knew them by their own names alone holds nothing up.
    let older = Taken { folder: None, refused: ["bad.yml: bad".into()].into(), ..rules.taken };
    let taken = compiled_from(refused_in(&["/rules/a/bad.yml"])).taken;
    assert_eq!(taken.refused.iter().next().map(String::as_str), Some("a/bad.yml: bad"));
    assert!(taken.refused.iter().all(|name| !older.is_new(name)));
}

#[test]
fn what_is_remembered_of_refused_rules_is_bounded_and_the_rest_is_counted() {
    let names = |count: usize| -> Vec<String> {
        (0..count).map(|n| format!("/rules/{n:06}.yml")).collect()
    };
    let read = |count: usize| {
        let names = names(count);
        let unread = names.iter().map(|name| (name.clone(), "denied".to_owned())).collect();
        RuleFiles { unread, ..files(&[("one", GOOD)]) }
    };
    let taken = compiled_from(read(REFUSED_KEPT + 5)).taken;
    assert_eq!((taken.refused.len(), taken.refused_beyond), (REFUSED_KEPT, 5));
    assert!(gap(&taken, None).unwrap().starts_with("10005 are refused, the first: /rules/000000"));
    let again = |count| judged(Ok(read(count)), &taken, 1).err();
    assert_eq!(again(REFUSED_KEPT + 5), None, "the same again is nothing new");
    assert_eq!(again(REFUSED_KEPT + 6).unwrap(), "10006 are refused where there were 10005");
    let long = cut("é".repeat(5_000));
    assert!(long.len() < REFUSED_NAME + 32 && long.ends_with("… (10000 bytes)"), "{}", long.len());
}
