//! What a clock that is set back, set ahead or empty can and can't do.

use cordon_model::asset::ClinicalTier;
use cordon_model::finding::Level;
use cordon_model::ids::{FindingId, MachineId, PermitId};
use cordon_model::measure::Isolation;
use cordon_model::order::{Instruction, Permit};
use cordon_model::time::UtcNanos;

use super::super::glass::tests::{HASHES, document};
use super::super::tests::{TERMS, assignment, isolate, order, verified};
use super::super::{HelperCore, MOST_USED_PERMITS, NotObeyed, NotOpened};
use super::*;
use crate::clock::tests::moment;

const DAY: i64 = 86_400;
/// When the machine of these tests was enrolled, in seconds.
const ENROLLED: i64 = 1_000 * DAY;

fn utc(seconds: i64) -> UtcNanos {
    UtcNanos::from_unix_nanos(seconds * 1_000_000_000)
}

fn machine() -> MachineId {
    MachineId::new(utc(ENROLLED), [1; 10])
}

/// In this boot, so many seconds after its start, with the wall clock at this time.
fn at(boot: &str, seconds: u64, wall: i64) -> Moment {
    Moment { utc: utc(wall), ..moment(boot, seconds) }
}

fn helper() -> HelperCore {
    let now = at("a", 0, ENROLLED);
    let mut helper = HelperCore::new("RJ1".parse().unwrap(), machine(), &now);
    let assignment =
        cordon_model::asset::Assignment { machine: machine(), ..assignment(1, ClinicalTier::None) };
    helper.assign(&verified(&assignment)).unwrap();
    helper
}

/// Signed then, good for a day.
fn permit(number: u8, issued: i64) -> Verified<Permit> {
    verified(&Permit {
        id: PermitId::new(utc(issued), [number; 10]),
        organisation: "RJ1".parse().unwrap(),
        machine: machine(),
        level_at_least: Level::High,
        lease: TERMS,
        issued_at: utc(issued),
        expires_at: utc(issued + DAY),
    })
}

/// A release, signed then: it has no time of its own.
fn release(sequence: u64, issued: i64) -> cordon_model::order::Order {
    cordon_model::order::Order {
        machine: machine(),
        issued_at: utc(issued),
        ..order(sequence, Instruction::Release)
    }
}

fn uses(helper: &mut HelperCore, permit: &Verified<Permit>, now: &Moment) -> Result<(), NotObeyed> {
    let finding = FindingId::of("rule", "host", &[0; 32]);
    helper.use_permit(permit, finding, Level::Critical, now).map(|_| ())
}

fn reloaded(helper: &HelperCore) -> HelperCore {
    serde_json::from_str(&serde_json::to_string(helper).unwrap()).unwrap()
}

#[test]
fn an_expired_permit_stays_expired_whatever_the_clock_is_set_to_and_over_restarts() {
    let mut helper = helper();
    let old = permit(1, ENROLLED);
    helper.saw(&permit(2, ENROLLED + 2 * DAY), &at("a", 10, ENROLLED + 2 * DAY));
    let mut again = reloaded(&helper);
    for wall in [0, 1, ENROLLED, ENROLLED + DAY - 1, ENROLLED + 2 * DAY] {
        let now = at("a", 20, wall);
        assert_eq!(uses(&mut helper, &old, &now), Err(NotObeyed::Expired), "{wall}");
        let now = at("b", 20, wall);
        again.restart(&now);
        assert_eq!(uses(&mut again, &old, &now), Err(NotObeyed::Expired), "{wall}");
    }
}

#[test]
fn time_that_runs_makes_a_permit_old_though_the_clock_stands_still() {
    let mut helper = helper();
    let permit = permit(1, ENROLLED);
    helper.saw(&permit, &at("a", 0, ENROLLED));
    // What a signer's clock may have been ahead, and the clock that counts too fast.
    let within = AGREES_WITHIN.as_secs() + 100;
    let now = at("a", u64::try_from(DAY).unwrap() + within, 0);
    assert_eq!(uses(&mut helper, &permit, &now), Err(NotObeyed::Expired));
}

#[test]
fn a_machine_that_starts_in_1970_believes_nobody_about_what_ends_until_its_clock_is_set() {
    let mut helper = helper();
    let permit = permit(1, ENROLLED + 10);
    helper.saw(&permit, &at("a", 10, ENROLLED + 10));
    let empty = at("b", 5, 5);
    helper.restart(&empty);
    let refused = uses(&mut helper, &permit, &empty).unwrap_err();
    assert!(matches!(refused, NotObeyed::ClockBehind { .. }), "{refused}");
    let mut late = cordon_model::order::Order {
        instruction: isolate(Isolation::Full),
        deliver_until: Some(utc(ENROLLED + 100)),
        ..release(1, ENROLLED + 20)
    };
    let refused = helper.order(&verified(&late), &empty).unwrap_err();
    assert!(matches!(refused, NotObeyed::ClockBehind { .. }), "{refused}");
    // What has no time is obeyed, and a code opens.
    (late.sequence, late.deliver_until) = (2, None);
    late.id = order(2, Instruction::Release).id;
    assert!(helper.order(&verified(&late), &empty).is_ok());
    let set = at("b", 10, ENROLLED + 30);
    obey_at(&mut helper, &release(3, ENROLLED + 25), &set);
    assert_eq!(uses(&mut helper, &permit, &set), Ok(()), "the clock is set");
}

fn obey_at(helper: &mut HelperCore, order: &cordon_model::order::Order, now: &Moment) {
    let effects = helper.order(&verified(order), now).unwrap();
    super::super::tests::carry_out(helper, &effects, now);
}

#[test]
fn a_clock_that_ran_ahead_leaves_nothing_behind() {
    let mut helper = helper();
    let first = permit(1, ENROLLED);
    helper.saw(&first, &at("a", 0, ENROLLED));
    let ahead = at("a", 10, ENROLLED + 3_650 * DAY);
    assert_eq!(uses(&mut helper, &first, &ahead), Err(NotObeyed::Expired), "as long as it is");
    helper.tick(&ahead, &mut || [0; 16]);
    let mut again = reloaded(&helper);
    again.restart(&ahead);
    assert_eq!(uses(&mut again, &first, &at("a", 20, ENROLLED + 20)), Ok(()));
}

#[test]
fn a_clock_that_runs_ahead_ends_no_isolation_and_holds_up_no_order_without_a_time() {
    let mut helper = helper();
    let isolated = cordon_model::order::Order {
        instruction: isolate(Isolation::Full),
        ..release(1, ENROLLED)
    };
    obey_at(&mut helper, &isolated, &at("a", 1, ENROLLED));
    let ahead = at("a", 10, ENROLLED + 3_650 * DAY);
    helper.tick(&ahead, &mut || [0; 16]);
    assert_eq!(helper.isolation(), Some(Isolation::Full));
    obey_at(&mut helper, &release(2, ENROLLED + 5), &ahead);
    assert_eq!(helper.isolation(), None);
}

/// Signed as the signer signs what can only open: without a time.
#[test]
fn a_milder_isolation_is_obeyed_whatever_the_clock_is_and_closes_nothing_that_was_opened() {
    let eased = |sequence| cordon_model::order::Order {
        instruction: Instruction::ease(Isolation::Segment, TERMS),
        ..release(sequence, ENROLLED + 5)
    };
    for wall in [0, 5, ENROLLED + 3_650 * DAY] {
        let mut helper = helper();
        let isolated = cordon_model::order::Order {
            instruction: isolate(Isolation::Full),
            ..release(1, ENROLLED)
        };
        obey_at(&mut helper, &isolated, &at("a", 1, ENROLLED));
        let wrong = at("b", 5, wall);
        helper.restart(&wrong);
        obey_at(&mut helper, &eased(2), &wrong);
        assert_eq!(helper.isolation(), Some(Isolation::Segment), "{wall}");
        obey_at(&mut helper, &release(3, ENROLLED + 6), &wrong);
        let refused = helper.order(&verified(&eased(4)), &wrong).unwrap_err();
        assert!(matches!(refused, NotObeyed::OpenedMeanwhile { .. }), "{refused}");
        assert_eq!(helper.isolation(), None);
    }
}

#[test]
fn a_signer_whose_clock_ran_ahead_ages_nothing_however_often_where_the_machines_clock_is_right() {
    let mut helper = helper();
    for number in 1..100 {
        let seconds = 10 * number;
        // The machine's is stepped back by ten minutes at every second document.
        let wall =
            ENROLLED + i64::try_from(seconds).unwrap() - i64::try_from(number % 2).unwrap() * 600;
        let now = at("a", seconds, wall);
        obey_at(&mut helper, &release(number, ENROLLED + 3_650 * DAY), &now);
        assert!(helper.time_floor() <= utc(ENROLLED).plus(Duration::from_secs(seconds)));
    }
    let next = permit(1, ENROLLED + 1_000);
    assert_eq!(uses(&mut helper, &next, &at("a", 1_000, ENROLLED + 1_000)), Ok(()));
}

#[test]
fn a_signers_clock_that_is_an_hour_ahead_and_then_set_right_has_no_order_refused_that_comes_in_time()
 {
    let mut helper = helper();
    let ahead = i64::try_from(AGREES_WITHIN.as_secs()).unwrap();
    obey_at(&mut helper, &release(1, ENROLLED + 100 + ahead), &at("a", 100, ENROLLED + 100));
    let soon = cordon_model::order::Order {
        instruction: isolate(Isolation::Full),
        deliver_until: Some(utc(ENROLLED + 210)),
        ..release(2, ENROLLED + 150)
    };
    obey_at(&mut helper, &soon, &at("a", 200, ENROLLED + 200));
    assert_eq!(helper.isolation(), Some(Isolation::Full));
}

/// One time server that was wrong for both: what is left, and what goes on all the same.
#[test]
fn clocks_of_signer_and_machine_that_were_ahead_together_hold_up_only_what_ends() {
    let mut helper = helper();
    let codes = cordon_model::break_glass::BreakGlass {
        machine: machine(),
        issued_at: utc(ENROLLED),
        expires_at: utc(ENROLLED + 30 * DAY),
        ..document(1)
    };
    helper.take_codes(&verified(&codes)).unwrap();
    let year = 365 * DAY;
    obey_at(&mut helper, &release(1, ENROLLED + year), &at("a", 10, ENROLLED + year));
    let right = at("a", 100, ENROLLED + 100);
    let refused = uses(&mut helper, &permit(1, ENROLLED + 50), &right);
    assert_eq!(refused, Err(NotObeyed::Expired), "until the year is over, or it is enrolled again");
    // People isolate it, release it, and open it by a code.
    let isolated = cordon_model::order::Order {
        instruction: isolate(Isolation::Full),
        ..release(2, ENROLLED + 60)
    };
    obey_at(&mut helper, &isolated, &right);
    assert_eq!(helper.isolation(), Some(Isolation::Full));
    assert!(helper.begin_code(1_000, false, &right).is_ok());
    obey_at(&mut helper, &release(3, ENROLLED + 70), &right);
    assert_eq!(helper.isolation(), None);
}

#[test]
fn a_running_clock_that_is_fast_by_less_than_a_thousandth_never_gets_ahead() {
    let mut helper = helper();
    helper.saw(&permit(1, ENROLLED), &at("a", 0, ENROLLED));
    for day in 1..=3_650 {
        let fast = u64::try_from(day * DAY + day * DAY / 2_000).unwrap();
        helper.tick(&at("a", fast, ENROLLED + day * DAY), &mut || [0; 16]);
    }
    assert!(helper.time_floor() <= utc(ENROLLED + 3_650 * DAY));
    assert!(helper.time_floor() >= utc(ENROLLED + 3_640 * DAY));
}

#[test]
fn codes_are_too_old_only_if_floor_and_clock_say_so() {
    let mut helper = helper();
    let codes = cordon_model::break_glass::BreakGlass {
        machine: machine(),
        issued_at: utc(ENROLLED),
        expires_at: utc(ENROLLED + DAY),
        ..document(1)
    };
    helper.take_codes(&verified(&codes)).unwrap();
    let isolated = cordon_model::order::Order {
        instruction: isolate(Isolation::Full),
        ..release(1, ENROLLED)
    };
    obey_at(&mut helper, &isolated, &at("a", 1, ENROLLED));
    let ahead = at("a", 10, ENROLLED + 3_650 * DAY);
    assert!(helper.begin_code(1_000, false, &ahead).is_ok(), "a clock set ahead locks nobody out");
    helper.saw(&permit(1, ENROLLED + 2 * DAY), &ahead);
    let back = at("a", 20, ENROLLED);
    assert!(helper.begin_code(1_000, false, &back).is_ok());
    let over = at("a", 30, ENROLLED + 2 * DAY);
    assert_eq!(helper.begin_code(1_000, false, &over), Err(NotOpened::Expired));
    assert!(helper.open_by(&HASHES[0], 1_000, &over, &mut || [9; 16]).is_ok());
}

#[test]
fn used_permits_are_forgotten_by_the_floor_and_never_good_again() {
    let mut helper = helper();
    let count = i64::try_from(MOST_USED_PERMITS).unwrap() + 10;
    let mut all = Vec::new();
    for day in 0..count {
        let issued = ENROLLED + day * DAY;
        let now = at("a", 1 + u64::try_from(day * DAY).unwrap(), issued + 1);
        let permit = permit(u8::try_from(day % 250).unwrap(), issued);
        assert_eq!(uses(&mut helper, &permit, &now), Ok(()), "day {day}");
        assert!(helper.floor().marks.used_permits.len() <= 2);
        let sequence = u64::try_from(day).unwrap() + 1;
        obey_at(&mut helper, &release(sequence, issued), &now);
        all.push(permit);
    }
    // The memory is lost too, and the clock is set to when each was young.
    let mut fresh = HelperCore::new("RJ1".parse().unwrap(), machine(), &at("b", 0, 0));
    fresh.meet(&helper.floor());
    for (day, permit) in all.iter().enumerate() {
        let now = at("b", 1, ENROLLED + i64::try_from(day).unwrap() * DAY + 1);
        for helper in [&mut helper, &mut fresh] {
            let refused = uses(helper, permit, &now);
            assert!(
                matches!(
                    refused,
                    Err(NotObeyed::Expired | NotObeyed::Used | NotObeyed::ClockBehind { .. })
                ),
                "day {day}: {refused:?}"
            );
        }
    }
}

#[test]
fn a_state_of_before_there_was_a_floor_begins_at_the_enrolment() {
    let mut state = serde_json::to_value(helper()).unwrap();
    state["time_floor"] = 0.into();
    state.as_object_mut().unwrap().remove("lacks_time_off");
    let mut helper: HelperCore = serde_json::from_value(state).unwrap();
    helper.restart(&at("b", 1, 0));
    assert!(helper.time_floor() >= surely_over(utc(ENROLLED)));
}

#[test]
fn a_floor_of_the_same_hour_is_not_written_again() {
    let mut helper = helper();
    let mut begun = helper.floor();
    helper.saw(&permit(1, ENROLLED + 3_000), &at("a", 1, ENROLLED + 3_000));
    assert!(helper.floor().holds_back_the_same_as(&begun));
    helper.saw(&permit(1, ENROLLED + 4_000), &at("a", 2, ENROLLED + 4_000));
    assert!(!helper.floor().holds_back_the_same_as(&begun));
    begun = helper.floor();
    assert!(begun.marks.time >= Some(surely_over(utc(ENROLLED + 4_000))));
}
