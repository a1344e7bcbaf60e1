//! The laws hold over many seeds; and where a control is off, the simulator sees the law broken.

#![expect(clippy::panic, reason = "a test's own words of failure")]

use cordon_model::laws::Law;
use cordon_sim::{Options, Sabotage, Scenario, simulate};

#[test]
fn the_laws_hold_over_a_thousand_seeds() {
    let summary = simulate(&Options::default()).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{summary}");
    assert_eq!(summary.seeds, 1_000);
    // A run in which nothing goes wrong, or nothing is done, would hold every law.
    for what in [
        "findings",
        "orders signed by policy",
        "orders signed as nobody answered",
        "orders signed for people",
        "isolations put in force",
        "releases",
        "permits used with no hub in reach",
        "proposals stopped by the budget",
        "questions to people",
        "hub crashes",
        "hub crashes after it wrote, before it told",
        "signer crashes",
        "helper crashes before acting",
        "helper crashes after acting",
        "power cuts",
        "messages lost",
        "orders repeated by the network",
        "orders refused by their machine",
        "documents refused for their signature",
        "lies told to the hub",
        "rulesets wiped by somebody",
        "helper memories and tables lost at once",
        "seen, not blocked: people told",
        "proposals by a thief",
        "warnings before a lease ends",
        "sets of break-glass codes signed",
        "machines opened by a code",
        "codes of other machines typed",
        "codes that were used before",
        "guesses held up",
        "openings by a code: people told",
        "recorded permits tried",
        "documents of another machine sent",
        "finding ids taken by a liar",
        "refused by the signer: people told",
        "recorded codes tried",
        "recorded assignments tried",
    ] {
        assert!(summary.tally.of(what) > 100, "{what}: {}", summary.tally.of(what));
    }
}

/// Runs seeds with a control off until a law is seen broken: it must be this one.
fn is_seen(sabotage: Sabotage, law: Law) {
    is_seen_as(sabotage, &[law]);
}

/// The same where a control's absence shows in more than one way.
fn is_seen_as(sabotage: Sabotage, laws: &[Law]) {
    let options = Options { seeds: 300, sabotage: Some(sabotage), ..Options::default() };
    match simulate(&options) {
        Ok(_) => panic!("{sabotage:?} was not seen in {} seeds", options.seeds),
        Err(failure) => {
            assert!(laws.contains(&failure.violation.law), "{sabotage:?}: {failure}");
            assert!(!failure.trace.is_empty() && failure.to_string().contains("replay:"));
        }
    }
}

#[test]
fn a_machine_that_believes_any_key_is_seen() {
    is_seen(Sabotage::AnyKey, Law::Authority);
}

#[test]
fn a_machine_that_forgets_the_sequence_is_seen() {
    // An old order that is obeyed again has no authority; an old release opens what nobody released.
    is_seen_as(Sabotage::NoSequence, &[Law::Authority, Law::Lease]);
}

#[test]
fn a_lease_that_nobody_counts_is_seen() {
    is_seen(Sabotage::NoLeaseTimer, Law::Lease);
}

#[test]
fn a_measure_that_is_lost_at_a_restart_is_seen() {
    is_seen(Sabotage::ForgetsMeasures, Law::Lease);
}

#[test]
fn a_lifeline_that_is_cut_is_seen() {
    is_seen(Sabotage::CutsLifelines, Law::Lifelines);
}

#[test]
fn a_clinical_machine_in_the_wrong_tier_is_seen() {
    is_seen(Sabotage::WrongTier, Law::Lifelines);
}

#[test]
fn a_whole_kind_that_is_gone_is_seen() {
    is_seen(Sabotage::NoKinds, Law::Lifelines);
}

#[test]
fn a_proof_that_is_false_is_seen() {
    is_seen(Sabotage::FalseProof, Law::Truth);
}

#[test]
fn a_hub_that_does_not_listen_to_what_machines_hold_is_seen() {
    is_seen(Sabotage::IgnoresStatuses, Law::Truth);
}

#[test]
fn a_sequence_that_is_lost_with_the_helpers_memory_is_seen() {
    is_seen_as(Sabotage::LosesTheFloor, &[Law::Authority, Law::Lease]);
}

#[test]
fn permits_whose_use_is_lost_with_the_helpers_memory_are_seen() {
    is_seen(Sabotage::ForgetsUsedPermits, Law::Authority);
}

#[test]
fn codes_whose_use_is_lost_with_the_helpers_memory_are_seen() {
    is_seen(Sabotage::ForgetsUsedCodes, Law::Authority);
}

#[test]
fn old_documents_that_come_back_after_a_loss_of_memory_are_seen() {
    is_seen(Sabotage::ForgetsRevisions, Law::Authority);
}

#[test]
fn a_signer_without_a_budget_is_seen() {
    is_seen(Sabotage::NoBudget, Law::Budget);
}

#[test]
fn permits_without_a_bound_are_seen() {
    is_seen(Sabotage::PermitsForAll, Law::Autonomy);
}

#[test]
fn a_machine_that_does_not_defend_itself_is_seen() {
    is_seen(Sabotage::NoSelfDefence, Law::Autonomy);
}

#[test]
fn a_hub_that_acknowledges_before_it_wrote_is_seen() {
    is_seen(Sabotage::AcknowledgesEarly, Law::NothingLost);
}

#[test]
fn a_hub_without_a_ledger_is_seen() {
    is_seen(Sabotage::NoLedger, Law::Accountable);
}

#[test]
fn a_hub_that_tells_nobody_is_seen() {
    is_seen(Sabotage::TellsNobody, Law::Attention);
}

#[test]
fn a_hub_that_tells_nobody_what_the_signer_refused_is_seen() {
    is_seen(Sabotage::HidesRefusals, Law::Attention);
}

#[test]
fn a_hub_that_folds_two_machines_findings_of_one_id_is_seen() {
    is_seen(Sabotage::FoldsFindings, Law::NothingLost);
}

#[test]
fn a_hub_that_believes_senders_is_seen() {
    is_seen(Sabotage::BelievesSenders, Law::DistrustBelow);
}

#[test]
fn a_code_that_opens_twice_is_seen() {
    is_seen(Sabotage::CodesTwice, Law::Authority);
}

#[test]
fn a_code_of_another_machine_that_opens_is_seen() {
    is_seen(Sabotage::ForeignCodes, Law::Authority);
}

#[test]
fn a_machine_that_isolates_itself_while_people_hold_it_open_is_seen() {
    is_seen(Sabotage::NoHoldOff, Law::Authority);
}

#[test]
fn a_wrong_rule_on_a_thousand_machines_spends_the_budget_and_no_more() {
    let options = Options { seeds: 1, scenario: Scenario::WrongRule, ..Options::default() };
    let summary = simulate(&options).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{summary}");
    assert_eq!(summary.tally.of("findings"), 1_000);
    assert_eq!(summary.tally.of("orders signed by policy"), 5, "5 in 10 minutes");
    let by_permit = summary.tally.of("permits used with no hub in reach");
    assert!(by_permit <= 20, "{by_permit}");
    // Whoever the policy did not isolate is asked about: nobody is forgotten.
    assert_eq!(summary.tally.of("questions to people"), 995);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let options = Options { seed: 7, seeds: 5, ..Options::default() };
    let runs: Vec<String> =
        (0..2).map(|_| simulate(&options).unwrap_or_else(|f| panic!("{f}")).to_string()).collect();
    assert_eq!(runs[0], runs[1]);
}
