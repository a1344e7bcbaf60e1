//! SigmaHQ's rules, where they are beside the project: loaded, or refused with a reason.

mod support;

use std::time::Instant;

use cordon_detect::Compiler;
use support::{rule_files, shared};

#[test]
fn every_rule_of_sigmahq_is_loaded_or_refused_with_a_reason() {
    let Some(shared) = shared() else { return };
    let files = rule_files(&shared.join("sigma"));
    let started = Instant::now();
    let mut compiler = Compiler::new();
    for (path, text) in &files {
        let added = compiler.add_yaml(&path.display().to_string(), text);
        assert_eq!(added.rules + added.refused, 1, "{}: {added:?}", path.display());
    }
    println!("parsed and lowered in {:?}", started.elapsed());
    let (rules, refusals) = compiler.compile();
    println!("compiled in {:?}", started.elapsed());
    for refusal in &refusals {
        println!("{refusal}");
    }
    assert_eq!(files.len(), 3754);
    // Two need the site's own list of hosts.
    assert_eq!(refusals.len(), 2);
    assert!(refusals.iter().all(|refusal| refusal.reason.contains("%known_cdcs%") && refusal.line > 1));
    assert_eq!(rules.rules().len(), 3752);
}
