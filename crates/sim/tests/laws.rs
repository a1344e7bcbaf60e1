//! The laws hold over many seeds; and where a control is off, the simulator sees the law broken.

#![expect(clippy::panic, reason = "a test's own words of failure")]

use cordon_model::laws::Law;
use cordon_sim::WrongRule;
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
        "orders signed for people",
        "isolations put in force",
        "releases",
        "permits used with no hub in reach",
        "proposals stopped by the budget",
        "questions to people",
        "people told of questions",
        "hub crashes",
        "hub crashes after it wrote, before it told",
        "signer crashes",
        "helper crashes before acting",
        "helper crashes after acting",
        "power cuts",
        "messages lost",
        "orders repeated by the network",
        "messages to agents repeated",
        "messages to the hub repeated",
        "messages to the signer repeated",
        "answers of the signer repeated",
        "messages out of their order, of an older link",
        "messages out of their order, after a later one of their link",
        "orders refused by their machine",
        "documents refused for their signature",
        "lies told to the hub",
        "floods of measures",
        "floods of findings",
        "old receipts sent again",
        "words of orders that are not so",
        "isolations claimed that nobody ordered",
        "newer assignments claimed",
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
        "storms of findings",
        "partitions",
        "partitions of everything",
        "clocks set wrong",
        "clocks set right",
        "hub clocks set wrong",
        "hub clocks set wrong by up to a day",
        "power cuts of the hub",
        "acts besides isolation",
        "acts besides isolation signed by policy",
        "acts besides isolation signed for people",
        "acts taken back",
        "things put back",
        "acts refused for what care needs",
        "acts undone by somebody",
        "helper crashes after acting besides isolation",
        "refusals besides isolation",
        "wishes to undo all that was done by itself",
    ] {
        assert!(summary.tally.of(what) > 100, "{what}: {}", summary.tally.of(what));
    }
    // Few runs ask in mode `ask`, and of those many are answered.
    assert!(summary.tally.of("orders signed as nobody answered") > 20);
}

/// Runs seeds with a control off until a law is seen broken: it must be this one.
fn is_seen(sabotage: Sabotage, law: Law) {
    is_seen_as(sabotage, &[law]);
}

/// The same where a control's absence shows in more than one way.
fn is_seen_as(sabotage: Sabotage, laws: &[Law]) {
    is_seen_in(Scenario::Everything, sabotage, laws);
}

/// The same, and the words of the failure show which measure it was.
fn is_seen_besides(scenario: Scenario, sabotage: Sabotage, law: Law, words: &str) {
    let failure = is_seen_in(scenario, sabotage, &[law]);
    assert!(failure.contains(words), "{sabotage:?}: {failure}");
}

fn is_seen_in(scenario: Scenario, sabotage: Sabotage, laws: &[Law]) -> String {
    let options =
        Options { seeds: 1_000, scenario, sabotage: Some(sabotage), ..Options::default() };
    match simulate(&options) {
        Ok(_) => panic!("{sabotage:?} was not seen in {} seeds", options.seeds),
        Err(failure) => {
            assert!(laws.contains(&failure.violation.law), "{sabotage:?}: {failure}");
            assert!(!failure.trace.is_empty() && failure.to_string().contains("replay:"));
            failure.violation.how
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
fn a_lease_that_ends_with_no_warning_before_is_seen() {
    for sabotage in [Sabotage::NeverWarns, Sabotage::NeverWarnsBesides] {
        is_seen_besides(Scenario::Everything, sabotage, Law::Lease, "ended with no warning");
    }
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
fn a_machine_that_believes_a_clock_which_was_set_back_is_seen() {
    is_seen(Sabotage::NoTimeFloor, Law::Authority);
}

#[test]
fn a_machine_that_goes_on_believing_a_clock_which_ran_ahead_is_seen() {
    is_seen(Sabotage::BelievesItsClock, Law::Autonomy);
}

/// The words of the failure show who took what came again for something new.
fn is_seen_again(sabotage: Sabotage, what: &str) {
    is_seen_besides(Scenario::Everything, sabotage, Law::NothingLost, what);
}

#[test]
fn a_signer_that_signs_a_proposal_twice_is_seen() {
    is_seen_again(Sabotage::SignsTwice, "a proposal for or from");
}

#[test]
fn a_machine_that_refuses_an_order_which_it_has_is_seen() {
    is_seen_again(Sabotage::RefusesAgain, "an order for or from");
}

#[test]
fn a_hub_that_takes_reports_twice_is_seen() {
    is_seen_again(Sabotage::TakesTwice, "reports for or from");
}

#[test]
fn a_signer_without_a_budget_is_seen() {
    is_seen(Sabotage::NoBudget, Law::Budget);
}

#[test]
fn a_signer_that_counts_no_groups_share_is_seen() {
    let (sabotage, words) = (Sabotage::NoGroupShare, "isolated automatically, of");
    is_seen_besides(Scenario::Everything, sabotage, Law::Budget, words);
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
fn a_signer_that_writes_down_orders_only_is_seen() {
    is_seen(Sabotage::RecordsOrdersOnly, Law::Accountable);
    is_seen_in(Scenario::StolenHub, Sabotage::RecordsOrdersOnly, &[Law::Accountable]);
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
fn a_hub_that_asks_again_what_people_said_no_to_is_seen() {
    is_seen(Sabotage::ForgetsNo, Law::Attention);
}

/// A no that silences what it does not cover: too little is asked, and not too much.
#[test]
fn a_hub_that_asks_nothing_after_a_no_is_seen() {
    let sabotage = Sabotage::AsksNothingAfterNo;
    let words = "are not asked about what was found there";
    is_seen_besides(Scenario::Everything, sabotage, Law::Attention, words);
}

/// Told of a story at a start, people were told of what had been found by then, and of nothing that comes.
#[test]
fn a_no_that_silences_what_it_does_not_cover_is_seen() {
    let (sabotage, words) = (Sabotage::NoSilencesAll, "was neither acted on, nor asked about");
    is_seen_besides(Scenario::Everything, sabotage, Law::Attention, words);
}

#[test]
fn a_no_that_holds_for_ever_is_seen() {
    let (sabotage, words) = (Sabotage::NoHoldsForEver, "was neither acted on, nor asked about");
    is_seen_besides(Scenario::Everything, sabotage, Law::Attention, words);
}

#[test]
fn a_hub_that_does_not_escalate_what_nobody_has_is_seen() {
    is_seen(Sabotage::NeverEscalates, Law::Attention);
}

#[test]
fn a_hub_that_hides_an_order_that_came_to_nothing_is_seen() {
    is_seen(Sabotage::HidesDeadOrders, Law::Attention);
}

#[test]
fn a_hub_that_folds_two_machines_findings_of_one_id_is_seen() {
    is_seen_as(Sabotage::FoldsFindings, &[Law::NothingLost, Law::BadStaysSmall]);
}

#[test]
fn a_hub_that_believes_senders_is_seen() {
    is_seen(Sabotage::BelievesSenders, Law::DistrustBelow);
}

#[test]
fn a_hub_that_believes_a_finding_about_its_machine_is_seen() {
    is_seen_besides(
        Scenario::Everything,
        Sabotage::BelievesHosts,
        Law::DistrustBelow,
        "changed what",
    );
}

#[test]
fn a_hub_that_stops_at_a_bad_report_is_seen() {
    is_seen(Sabotage::ChokesOnBad, Law::BadStaysSmall);
}

#[test]
fn a_hub_that_keeps_whatever_a_machine_claims_is_seen() {
    is_seen(Sabotage::TakesEverything, Law::BadStaysSmall);
}

#[test]
fn a_hub_that_counts_only_whom_it_has_heard_is_seen() {
    is_seen(Sabotage::CountsOnlyTheHeard, Law::NoGreenWithoutEvidence);
}

#[test]
fn a_hub_that_shows_old_words_as_new_is_seen() {
    is_seen(Sabotage::NothingIsOld, Law::NoGreenWithoutEvidence);
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
fn a_machine_that_is_closed_by_an_order_that_was_only_to_open_is_seen() {
    is_seen(Sabotage::NoCondition, Law::Authority);
}

#[test]
fn something_stopped_on_a_clinical_machine_with_nobody_asked_is_seen() {
    let sabotage = Sabotage::StopsOnClinical;
    is_seen_besides(Scenario::Everything, sabotage, Law::Lifelines, "with nobody asked");
    is_seen_besides(Scenario::StolenHub, sabotage, Law::Lifelines, "with nobody asked");
}

#[test]
fn a_clinical_machine_that_is_isolated_with_nobody_asked_is_seen() {
    let sabotage = Sabotage::IsolatesClinical;
    is_seen_besides(Scenario::StolenHub, sabotage, Law::Lifelines, "with nobody asked");
}

/// On a machine that keeps somebody alive: what is signed is judged, and what the machine then does besides.
#[test]
fn a_life_sustaining_machine_that_one_person_closes_is_seen() {
    let (sabotage, words) = (Sabotage::OnePersonOnTierThree, "who can't prove who they are");
    is_seen_besides(Scenario::StolenHub, sabotage, Law::Lifelines, words);
    let sabotage = Sabotage::OnePersonAtTheMachine;
    let words = "without two people, one of them clinical";
    is_seen_besides(Scenario::Everything, sabotage, Law::Lifelines, words);
}

/// The machine's own word, after the signer's: one that errs, and a thief who proposes it, isolate no theatre.
#[test]
fn a_signer_that_knows_no_tiers_isolates_no_clinical_machine() {
    let sabotage = Some(Sabotage::SignerForgetsTiers);
    let options =
        Options { seeds: 100, scenario: Scenario::StolenHub, sabotage, ..Options::default() };
    let summary = simulate(&options).unwrap_or_else(|failure| panic!("{failure}"));
    let refused = summary.tally.of("orders of the policy refused on a clinical machine");
    assert!(refused > 20, "{refused}");
}

#[test]
fn a_hub_that_asks_nobody_what_else_to_do_on_a_clinical_machine_is_seen() {
    let sabotage = Sabotage::AsksForIsolationsOnly;
    is_seen_besides(Scenario::Everything, sabotage, Law::Attention, "nobody was asked");
}

#[test]
fn a_program_that_care_needs_and_that_is_stopped_is_seen() {
    let laws = [Law::Lifelines, Law::Lease];
    let failure = is_seen_in(Scenario::Everything, Sabotage::StopsWhatCareNeeds, &laws);
    // It is stopped, or goes on to be when its machine is told that care needs it.
    let words = ["needed for care", "was to be taken back"];
    assert!(words.iter().any(|words| failure.contains(words)), "{failure}");
}

#[test]
fn a_lease_besides_isolation_that_nobody_counts_is_seen() {
    let sabotage = Sabotage::NoLeaseBesides;
    is_seen_besides(Scenario::Everything, sabotage, Law::Lease, "is in force after");
}

#[test]
fn a_measure_besides_isolation_that_is_lost_at_a_restart_is_seen() {
    let sabotage = Sabotage::ForgetsActs;
    is_seen_besides(Scenario::Everything, sabotage, Law::Lease, "is in force");
}

#[test]
fn a_measure_besides_isolation_that_is_not_taken_back_is_seen() {
    let sabotage = Sabotage::NeverTakesBack;
    is_seen_besides(Scenario::Everything, sabotage, Law::Lease, "is in force");
}

#[test]
fn a_false_proof_of_what_is_done_besides_isolation_is_seen() {
    let sabotage = Sabotage::FalseProofBesides;
    is_seen_besides(Scenario::Everything, sabotage, Law::Truth, "in force");
}

#[test]
fn a_machine_without_its_own_brake_on_what_it_stops_is_seen() {
    let sabotage = Sabotage::NoOwnBrake;
    is_seen_besides(Scenario::Everything, sabotage, Law::Budget, "20 allowed");
}

#[test]
fn a_signer_that_lets_one_person_look_into_processes_is_seen() {
    let sabotage = Sabotage::LooksInsideForOne;
    is_seen_besides(Scenario::StolenHub, sabotage, Law::Authority, "two people are needed");
}

#[test]
fn the_laws_hold_with_a_stolen_hub_over_two_hundred_seeds() {
    let options = Options { seeds: 200, scenario: Scenario::StolenHub, ..Options::default() };
    let summary = simulate(&options).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{summary}");
    assert_eq!(summary.tally.of("hubs stolen"), 200);
    for what in [
        "orders signed by policy",
        "orders signed for people",
        "isolations put in force",
        "acts besides isolation",
        "acts besides isolation signed by policy",
        "acts besides isolation signed for people",
        "permits used with no hub in reach",
        "proposals of a stolen hub by the policy",
        "proposals of a stolen hub in people's names",
        "proposals of a stolen hub as nobody answered",
        "questions that a stolen hub invents",
        "proposals stopped by the budget",
        "proposals stopped by people's brake",
        "receipts that a stolen hub replays",
        "receipts that a stolen hub forges",
        "receipts that no machine sealed refused",
        "orders that a stolen hub withholds",
        "orders that a stolen hub sends late or again",
        "documents that a stolen hub sends late or again",
        "assignments that a stolen hub wants signed",
        "policies that a stolen hub wants signed",
        "weaker documents refused to a stolen hub",
        "documents refused for their signature",
        "messages out of their order, of an older link",
        "messages out of their order, after a later one of their link",
        "warnings before a lease ends",
    ] {
        assert!(summary.tally.of(what) > 100, "{what}: {}", summary.tally.of(what));
    }
}

#[test]
fn a_signer_that_believes_its_stolen_hub_what_machines_are_is_seen() {
    is_seen_in(Scenario::StolenHub, Sabotage::BelievesTheHub, &[Law::Authority]);
}

#[test]
fn a_signer_without_a_budget_is_seen_with_a_stolen_hub() {
    is_seen_in(Scenario::StolenHub, Sabotage::NoBudget, &[Law::Budget]);
}

#[test]
fn a_signer_that_counts_no_orders_in_peoples_names_is_seen() {
    is_seen_in(Scenario::StolenHub, Sabotage::NoPeoplesBrake, &[Law::Budget]);
}

#[test]
fn a_signer_that_asks_one_person_at_any_hour_is_seen() {
    is_seen_in(Scenario::StolenHub, Sabotage::AnybodyAtAnyHour, &[Law::Authority]);
}

#[test]
fn a_signer_that_believes_that_nobody_answered_is_seen() {
    is_seen_in(Scenario::StolenHub, Sabotage::AnswersForPeople, &[Law::Authority]);
}

#[test]
fn a_signer_that_believes_receipts_which_no_machine_sealed_is_seen() {
    // Places in groups and kinds are freed while their machines are cut off.
    is_seen_in(Scenario::StolenHub, Sabotage::AnyReceipt, &[Law::Budget, Law::Lifelines]);
}

#[test]
fn a_clinical_machine_in_the_wrong_tier_is_seen_with_a_stolen_hub() {
    is_seen_in(Scenario::StolenHub, Sabotage::WrongTier, &[Law::Lifelines]);
}

#[test]
fn a_machine_that_obeys_what_a_stolen_hub_replays_is_seen() {
    is_seen_in(Scenario::StolenHub, Sabotage::NoSequence, &[Law::Authority, Law::Lease]);
}

/// What came of a wrong rule on a thousand machines, with this seed.
fn wrong_rule(seed: u64) -> WrongRule {
    let options = Options { seed, seeds: 1, scenario: Scenario::WrongRule, ..Options::default() };
    let summary = simulate(&options).unwrap_or_else(|failure| panic!("{failure}"));
    summary.wrong_rule.unwrap_or_else(|| panic!("nothing is said of the rule"))
}

/// The same under the first policy that only isolates, or that does more besides.
fn wrong_rule_where(does_more: bool) -> WrongRule {
    let is_so = |of: &WrongRule| of.spent.also.is_empty() != does_more;
    (0..20).map(wrong_rule).find(is_so).unwrap_or_else(|| panic!("no such policy in 20 seeds"))
}

#[test]
fn a_wrong_rule_on_a_thousand_machines_spends_the_budget_and_no_more() {
    for does_more in [false, true] {
        let of = wrong_rule_where(does_more);
        println!("{of}");
        assert_eq!((of.machines, of.machines_away, of.findings), (1_000, 200, 3_000));
        let spent = &of.spent;
        assert_eq!((spent.automatic, spent.automatic_allowed, spent.window_seconds), (5, 5, 600));
        assert!(spent.brake_after_ms.is_some_and(|after| after < 1_000), "{spent:?}");
        assert_eq!((spent.worst_group_allowed, spent.worst_group_of), (2, 50));
        assert!((1..=2).contains(&spent.worst_group), "{spent:?}");
        // A ward that can't reach the hub has what was given to it ahead, and no more.
        assert!((4..=u64::from(spent.permits_allowed)).contains(&spent.permits), "{spent:?}");
    }
}

#[test]
fn a_wrong_rule_asks_once_of_each_machine_and_tells_people_a_dozen_times() {
    let asked = wrong_rule_where(false).asked;
    // Whoever was not isolated is asked about.
    assert_eq!(asked.forgotten, 0);
    assert!((975..=1_000).contains(&asked.questions), "{asked:?}");
    assert_eq!(asked.reasons.values().sum::<usize>(), asked.questions);
    assert!(!asked.reasons.contains_key("another reason"), "{asked:?}");
    assert_eq!(asked.most_of_one_machine, 1);
    assert!((10..=13).contains(&asked.told_of_questions), "{asked:?}");
}

#[test]
fn a_wrong_rule_of_which_more_is_done_besides_does_not_bury_people_in_questions() {
    let asked = wrong_rule_where(true).asked;
    assert_eq!(asked.forgotten, 0);
    // One of each machine, two more of each of 180 clinical ones (whatever is found there is asked), and some of
    // the dozen that are cut off already.
    assert!((1_300..=1_500).contains(&asked.questions), "{asked:?}");
    assert!(asked.most_of_one_machine <= 9, "{asked:?}");
    assert!((10..=13).contains(&asked.told_of_questions), "{asked:?}");
}

#[test]
fn a_wrong_rule_leaves_clinical_machines_and_lifelines_alone() {
    let alive = wrong_rule_where(true).alive;
    let machines: Vec<(Option<u8>, usize)> =
        alive.iter().map(|row| (row.tier, row.machines)).collect();
    let (all, none) = ([540, 280, 120, 40, 20], 0);
    let tiers = [Some(0), Some(1), Some(2), Some(3), None];
    assert_eq!(machines, tiers.into_iter().zip(all).collect::<Vec<_>>());
    for row in &alive {
        let is_clinical = row.tier.is_none_or(|tier| tier >= 2);
        let cut = row.machines - row.open;
        assert!(!is_clinical || cut == none, "{row:?}");
        assert_eq!(
            (row.lifelines, row.lifelines_kept),
            (cut, cut),
            "one each, and it lives: {row:?}"
        );
    }
    assert!(alive.iter().map(|row| row.open).sum::<usize>() >= 975, "{alive:?}");
}

#[test]
fn one_command_takes_back_all_that_a_wrong_rule_did() {
    for does_more in [false, true] {
        let of = wrong_rule_where(does_more);
        assert_eq!(of.incidents, 1);
        let cut: usize = of.alive.iter().map(|row| row.machines - row.open).sum();
        assert!(cut > 5, "orders and permits");
        // One on which something else was done need not be cut off.
        assert_eq!((of.undone.released, of.undone.open), (of.undone.machines, 1_000));
        assert!((cut..=cut + of.undone.acts).contains(&of.undone.machines), "{:?}", of.undone);
        assert_eq!((of.undone.acts > 0, of.undone.acts_left), (does_more, 0));
        assert!(of.undone.command.starts_with("cordon undo "));
    }
}

#[test]
fn a_wrong_rule_that_a_signer_lets_pass_is_seen() {
    let options = Options {
        seeds: 1,
        scenario: Scenario::WrongRule,
        machines: Some(200),
        sabotage: Some(Sabotage::NoBudget),
        ..Options::default()
    };
    match simulate(&options) {
        Ok(_) => panic!("nobody saw that the budget was passed"),
        Err(failure) => assert_eq!(failure.violation.law, Law::Budget, "{failure}"),
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let options = Options { seed: 7, seeds: 5, ..Options::default() };
    let runs: Vec<String> =
        (0..2).map(|_| simulate(&options).unwrap_or_else(|f| panic!("{f}")).to_string()).collect();
    assert_eq!(runs[0], runs[1]);
}
