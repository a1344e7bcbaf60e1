//! How often people are told of questions: a wrong rule on many machines must not call them as many times.

use super::*;
use cordon_model::finding::ProcessRef;

/// One program on this machine that a rule matches: the same everywhere, so one story.
fn same_everywhere(number: u8) -> Arrived {
    let host = format!("m{number}");
    let raw_sha256 = [number; 32];
    let rule =
        RuleRef { id: "rule".into(), title: "a rule".into(), level: Level::High, tags: vec![] };
    let process =
        Some(ProcessRef { pid: 1, started: BootNanos(0), image: "/usr/bin/program".into() });
    let finding = Finding {
        id: FindingId::of("rule", &host, &raw_sha256),
        rule,
        host,
        time: UtcNanos::from_unix_nanos(i64::from(number) * 1_000_000),
        boot_time: None,
        process,
        matched: vec![],
        raw: RawEvent { json: "{}".into(), is_cut: false },
        raw_sha256,
    };
    Arrived::Finding(Box::new(finding), vec![])
}

fn asked(outputs: &[Output]) -> usize {
    outputs.iter().filter(|output| matches!(output, Output::Tell(Notice::Asked(_)))).count()
}

#[test]
fn a_rule_on_many_machines_asks_of_each_and_tells_people_of_the_first_the_second_the_fourth() {
    let machines = 45;
    let mut bench = Bench::new(machines);
    (1..=machines).for_each(|number| bench.report(number, same_everywhere(number)));
    assert_eq!(bench.hub.incidents().count(), 1);
    assert_eq!(bench.hub.approvals().count(), 40, "five were done, of the others each is asked");
    assert_eq!(asked(&bench.outputs), 6, "1, 2, 4, 8, 16 and 32");
    // A hub that starts again says it once, and so does one that nobody answered.
    let questions = bench.hub.approvals().cloned().map(Change::Approval).collect();
    let (mut hub, outputs) = HubCore::restore(&bench.policy, questions);
    assert_eq!(asked(&outputs), 1);
    let late = moment("hub", bench.seconds + approval::OPEN_FOR.as_secs() + 1);
    let late = Moment { utc: late.utc.plus(approval::OPEN_FOR), ..late };
    let outputs = hub.tick(&late);
    let unanswered = |output: &&Output| matches!(output, Output::Tell(Notice::Unanswered(_)));
    assert_eq!(outputs.iter().filter(unanswered).count(), 1);
    let kept = |output: &&Output| matches!(output, Output::Keep(Change::Approval(_)));
    assert_eq!(outputs.iter().filter(kept).count(), 40);
}

#[test]
fn a_question_that_needs_more_people_than_those_before_is_told_of_at_once() {
    let mut bench = Bench::new(8);
    // Five are done, and of two questions each is told of. A third would not be…
    (1..=7).for_each(|number| bench.report(number, same_everywhere(number)));
    assert_eq!(asked(&bench.outputs), 2);
    // …but that life hangs on the machine.
    let mut draft = bench.signer.assignment(machine(8)).unwrap().clone();
    draft.tier = Some(ClinicalTier::LifeSustaining);
    let assignment = verified(&bench.signer.assign(draft).unwrap());
    bench.hub.assigned(&assignment);
    bench.report(8, same_everywhere(8));
    assert_eq!(bench.hub.approvals().count(), 3);
    assert_eq!(asked(&bench.outputs), 3);
}
