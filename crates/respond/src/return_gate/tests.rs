//! The gate is open only by good news, in order, of the present isolation.

use cordon_model::gate::Despite;
use cordon_model::ids::{MachineId, OrderId};
use proptest::prelude::*;

use super::*;

fn at(second: i64) -> UtcNanos {
    UtcNanos::from_unix_nanos((1_700_000_000 + second) * 1_000_000_000)
}

fn statement(second: i64, by: &str, said: Said) -> Statement {
    let machine = MachineId::new(at(0), [1; 10]);
    Statement { machine, at: at(second), by: Actor::Person(by.into()), findings: 1, said }
}

fn looked(is_clean: bool) -> Said {
    Said::Looked(Looked {
        is_clean,
        incidents: vec![incident()],
        left: if is_clean { vec![] } else { vec!["the program /tmp/worm".into()] },
        left_of: u32::from(!is_clean),
        looked_at: vec!["12 of 12 things".into()],
        lost: Some(0),
    })
}

fn patched() -> Said {
    Said::Patched { reason: "KB1 is in".into() }
}

fn signed() -> Said {
    Said::SignedOff { reason: "seen".into() }
}

fn incident() -> IncidentId {
    IncidentId::new(at(0), [9; 10])
}

/// All that opens the gate, in order.
fn all() -> Vec<Statement> {
    vec![
        statement(100, "ann", looked(true)),
        statement(110, "ann", patched()),
        statement(120, "bob", signed()),
    ]
}

struct Case {
    terms: ReturnTerms,
    tier: ClinicalTier,
    statements: Vec<Statement>,
    findings: u64,
    last_finding: Option<UtcNanos>,
    spell: Option<Spell>,
    seen: Seen,
    now: i64,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            terms: ReturnTerms::default(),
            tier: ClinicalTier::None,
            statements: all(),
            findings: 1,
            last_finding: Some(at(10)),
            spell: Some(Spell { since: Some(at(20)), is_by_people: false }),
            seen: Seen {
                heard: Some(at(199)),
                blind: Some(vec![]),
                lost: Some(0),
                proven: 1,
                ..Seen::default()
            },
            now: 200,
        }
    }
}

impl Case {
    fn gate(&self) -> Gate {
        gate(&Facts {
            terms: &self.terms,
            tier: self.tier,
            spell: self.spell,
            findings: self.findings,
            last_finding: self.last_finding,
            incidents: &[incident()],
            statements: &self.statements,
            seen: self.seen.clone(),
            now: at(self.now),
        })
    }

    fn missing(&self) -> Vec<Need> {
        self.gate().missing().map(|asked| asked.need).collect()
    }
}

#[test]
fn looked_at_patched_probed_and_signed_off_in_this_order_it_is_open() {
    let case = Case::default();
    assert!(case.gate().is_open(), "{:?}", case.gate());
    for need in case.gate().needs {
        assert!(need.is_met && !need.because.is_empty());
    }
}

#[test]
fn a_look_about_nothing_does_not_make_it_clean_where_something_was_found() {
    let about_nothing = Said::Looked(Looked {
        is_clean: true,
        incidents: vec![],
        left: vec![],
        left_of: 0,
        looked_at: vec![],
        lost: Some(0),
    });
    let facts = |last_finding| {
        let case = Case::default();
        let statements = [statement(100, "ann", about_nothing.clone())];
        gate(&Facts {
            terms: &case.terms,
            tier: case.tier,
            spell: case.spell,
            findings: 1,
            last_finding,
            incidents: &[],
            statements: &statements,
            seen: case.seen.clone(),
            now: at(case.now),
        })
    };
    let is_clean =
        |gate: Gate| gate.needs.iter().any(|asked| asked.need == Need::Clean && asked.is_met);
    assert!(!is_clean(facts(Some(at(10)))));
    assert!(is_clean(facts(None)));
}

#[test]
fn without_a_word_everything_is_missing_but_what_is_seen_now() {
    let case = Case { statements: vec![], ..Case::default() };
    assert_eq!(case.missing(), [Need::Clean, Need::Patched, Need::SignedOff]);
}

#[test]
fn a_new_finding_takes_back_clean_and_the_sign_off_and_leaves_the_patch() {
    let case = Case { findings: 2, ..Case::default() };
    assert_eq!(case.missing(), [Need::Clean, Need::SignedOff]);
}

#[test]
fn the_newest_look_is_the_one_that_counts() {
    let mut case = Case::default();
    case.statements.push(statement(130, "ann", looked(false)));
    assert_eq!(case.missing(), [Need::Clean, Need::SignedOff]);
    let told = case.gate().needs[0].because.clone();
    assert!(told.contains("/tmp/worm"), "{told}");
}

#[test]
fn a_sign_off_is_for_what_was_there_before_it() {
    for late in [looked(true), patched()] {
        let mut case = Case::default();
        case.statements.push(statement(130, "ann", late));
        assert_eq!(case.missing(), [Need::SignedOff]);
    }
    let early = vec![statement(50, "bob", signed()), all()[0].clone(), all()[1].clone()];
    assert_eq!(Case { statements: early, ..Case::default() }.missing(), [Need::SignedOff]);
}

#[test]
fn a_look_at_one_incident_is_none_at_the_other() {
    let mut case = Case::default();
    if let Said::Looked(looked) = &mut case.statements[0].said {
        looked.incidents.clear();
    }
    assert_eq!(case.missing(), [Need::Clean]);
}

#[test]
fn words_grow_old_and_those_of_an_earlier_isolation_say_nothing_of_this_one() {
    let old = Case { now: 200 + 13 * 3600, ..Case::default() };
    let old = Case { seen: Seen { heard: Some(at(old.now)), ..old.seen.clone() }, ..old };
    assert_eq!(old.missing(), [Need::Clean, Need::Patched, Need::SignedOff]);
    let spell = Some(Spell { since: Some(at(150)), is_by_people: false });
    let earlier = Case { spell, ..Case::default() };
    assert_eq!(earlier.missing(), [Need::Clean, Need::Patched, Need::SignedOff]);
}

#[test]
fn on_a_clinical_machine_somebody_else_signs_off_who_is_signed_in() {
    let tier = ClinicalTier::Clinical;
    assert!(Case { tier, ..Case::default() }.gate().is_open());
    let mut alone = Case { tier, ..Case::default() };
    alone.statements[2].by = Actor::Person("ann".into());
    assert_eq!(alone.missing(), [Need::SignedOff]);
    let mut account = Case { tier, ..Case::default() };
    account.statements[2].by = Actor::LocalOperator("root (command line)".into());
    assert_eq!(account.missing(), [Need::SignedOff]);
    // No command is named that could never meet it.
    let nobody = Case { tier, statements: all()[..2].to_vec(), ..Case::default() };
    for case in [account, nobody] {
        let gate = case.gate();
        let asked = gate.missing().next().unwrap();
        let said = asked.command("ct-2");
        assert!(said.contains("on the console") && !said.contains("cordon gate"), "{said}");
        assert!(asked.because.contains("for this machine (tier 2: clinical)"), "{}", asked.because);
    }
    let office = Case { statements: all()[..2].to_vec(), ..Case::default() };
    let said = office.gate().missing().next().unwrap().command("office-1");
    assert!(said.starts_with("cordon gate office-1 --sign-off"), "{said}");
    // Whoever ordered the plan did the rest, too.
    let mut orderer = Case { tier, ..Case::default() };
    let ordered = Said::Ordered { digest: "d".into(), ordered: 1, of: 1, reason: "r".into() };
    orderer.statements.insert(0, statement(90, "bob", ordered));
    assert_eq!(orderer.missing(), [Need::SignedOff]);
    // Elsewhere one person may do it all.
    let mut office = Case::default();
    office.statements[2].by = Actor::LocalOperator("root (command line)".into());
    assert!(office.gate().is_open());
}

#[test]
fn what_is_seen_now_has_to_contradict_nothing() {
    let good = Case::default().seen;
    for bad in [
        Seen { heard: None, ..good.clone() },
        Seen { unknown: Some("the helper does not answer".into()), ..good.clone() },
        Seen { unproven: vec!["quarantine /tmp/x".into()], ..good.clone() },
        Seen { blind: None, ..good.clone() },
        Seen { blind: Some(vec!["process starts".into()]), ..good.clone() },
        Seen { gap_at: Some(at(150)), ..good.clone() },
        Seen { lost: Some(3), ..good.clone() },
        Seen { lost: None, ..good.clone() },
    ] {
        let case = Case { seen: bad.clone(), ..Case::default() };
        assert_eq!(case.missing(), [Need::Probed], "{bad:?}");
    }
    // A gap from before the look: the look has seen what came of it.
    let before = Seen { gap_at: Some(at(90)), ..good };
    assert!(Case { seen: before, ..Case::default() }.gate().is_open());
}

#[test]
fn a_slip_of_people_is_taken_back_without_a_word_for_an_hour() {
    let slip = |since, last_finding, is_by_people| Case {
        statements: vec![],
        findings: 0,
        last_finding,
        spell: Some(Spell { since: Some(at(since)), is_by_people }),
        now: 3_500,
        ..Case::default()
    };
    assert!(slip(0, None, true).gate().is_open());
    assert!(!slip(-101, None, true).gate().is_open(), "after an hour it was no slip");
    assert!(!slip(0, None, false).gate().is_open(), "Cordon isolates nothing by a slip");
    let month = 30 * 24 * 3600;
    assert!(!slip(0, Some(at(-month + 1)), true).gate().is_open(), "something was found");
    assert!(slip(0, Some(at(-month - 1)), true).gate().is_open());
}

#[test]
fn what_the_policy_does_not_ask_is_not_asked() {
    let terms = ReturnTerms { needs: vec![Need::Patched], ..ReturnTerms::default() };
    let case = Case { terms, statements: vec![all()[1].clone()], ..Case::default() };
    assert!(case.gate().is_open());
    let terms = ReturnTerms { needs: vec![Need::SignedOff], ..ReturnTerms::default() };
    let case = Case { terms, statements: vec![all()[2].clone()], ..Case::default() };
    assert!(case.gate().is_open());
    let terms = ReturnTerms { needs: vec![], ..ReturnTerms::default() };
    assert!(Case { terms, statements: vec![], ..Case::default() }.gate().is_open());
    let free = Case { spell: None, statements: vec![], ..Case::default() };
    assert!(free.gate().is_open(), "nothing isolates it");
}

fn measure(
    second: i64,
    isolation: Isolation,
    state: MeasureState,
    since: i64,
) -> (MeasureId, Action, MeasureState, UtcNanos) {
    let id = OrderId::new(at(second), [u8::try_from(second.rem_euclid(251)).unwrap(); 10]);
    (id.into(), Action::Isolate(isolation), state, at(since))
}

fn since(measures: &[(MeasureId, Action, MeasureState, UtcNanos)]) -> Option<UtcNanos> {
    isolated_since(measures.iter().map(|(measure, action, state, since)| Isolating {
        measure: *measure,
        action,
        state,
        since: *since,
    }))
}

#[test]
fn an_isolation_goes_on_through_steps_and_successors_and_ends_with_a_release() {
    use Isolation::{Full, Segment, Watch};
    use MeasureState::{Released, SteppedDown, Superseded, Verified};
    assert_eq!(since(&[]), None);
    let first = measure(10, Segment, Superseded, 50);
    let second = measure(50, Full, SteppedDown, 90);
    let third = measure(90, Segment, Verified, 91);
    assert_eq!(since(&[first.clone(), second.clone(), third.clone()]), Some(at(10)));
    let over = measure(50, Full, Released, 80);
    assert_eq!(since(&[first.clone(), over, third.clone()]), Some(at(90)));
    let opened = measure(60, Watch, Superseded, 89);
    assert_eq!(since(&[first, second, opened, third]), Some(at(90)));
    // A machine that says that some other measure was released makes no old isolation a new one.
    let standing = measure(10, Segment, Verified, 11);
    let invented = measure(900, Segment, Released, 1_000);
    assert_eq!(since(&[standing, invented]), Some(at(10)));
    // A machine's clock that is ahead can't make it begin in the future.
    assert_eq!(since(&[measure(5_000, Segment, Verified, 70)]), Some(at(70)));
}

fn any_statement() -> impl Strategy<Value = Statement> {
    let said = prop_oneof![
        any::<bool>().prop_map(looked),
        Just(patched()),
        Just(signed()),
        Just(Said::Returned {
            reason: "r".into(),
            despite: Some(Despite { missing: vec![], why: "w".into() })
        }),
        Just(Said::Ordered { digest: "d".into(), ordered: 0, of: 1, reason: "r".into() }),
    ];
    (0..300i64, prop_oneof![Just("ann"), Just("bob"), Just("cyd")], said, 0..3u64).prop_map(
        |(second, by, said, findings)| Statement { findings, ..statement(second, by, said) },
    )
}

proptest! {
    /// An open gate has each of its words, newer than the isolation, with no finding since, in order.
    #[test]
    fn an_open_gate_has_everything(
        mut statements in prop::collection::vec(any_statement(), 0..12),
        is_clinical in any::<bool>(),
        findings in 0..3u64,
    ) {
        statements.sort_by_key(|statement| statement.at);
        let tier = if is_clinical { ClinicalTier::Clinical } else { ClinicalTier::None };
        let case = Case { statements, tier, findings, now: 300, ..Case::default() };
        let case = Case { seen: Seen { heard: Some(at(300)), ..case.seen.clone() }, ..case };
        if case.gate().is_open() {
            let counted = |wanted: fn(&Said) -> bool| {
                case.statements.iter().rposition(|one| wanted(&one.said)).unwrap()
            };
            let look = counted(|said| matches!(said, Said::Looked(_)));
            let patch = counted(|said| matches!(said, Said::Patched { .. }));
            let sign = counted(|said| matches!(said, Said::SignedOff { .. }));
            let Said::Looked(looked) = &case.statements[look].said else { panic!() };
            prop_assert!(looked.is_clean && sign > look && sign > patch);
            for place in [look, patch, sign] {
                prop_assert!(case.statements[place].at >= at(20));
            }
            prop_assert_eq!(case.statements[look].findings, findings);
            prop_assert_eq!(case.statements[sign].findings, findings);
            prop_assert!(!is_clinical || case.statements[sign].by != case.statements[patch].by);
        }
    }

    /// Bad news never opens it.
    #[test]
    fn nothing_bad_opens_it(
        mut statements in prop::collection::vec(any_statement(), 0..12),
        bad in 0..6usize,
    ) {
        statements.sort_by_key(|statement| statement.at);
        let before = Case { statements, ..Case::default() };
        let is_open = before.gate().is_open();
        let mut after = Case { ..before };
        match bad {
            0 => after.findings += 7,
            1 => after.seen.heard = None,
            2 => after.seen.lost = Some(1),
            3 => after.seen.gap_at = Some(at(199)),
            4 => {
                let findings = after.findings;
                after.statements.push(Statement { findings, ..statement(199, "eve", looked(false)) });
            }
            _ => after.now += 13 * 3600,
        }
        prop_assert!(is_open || !after.gate().is_open());
        prop_assert!(!after.gate().is_open(), "after bad news it is shut");
    }
}
