//! What care needs is not stopped by itself: from a rule's match through hub, signer, agent and helper to the
//! question that people are asked, and to what they can do.

use std::fs;
use std::process::Child;

use cordon_tests::{Attack, Up, eventually, lacks_root};
use serde_json::Value;

/// A process that is ended with its test.
struct Running(Child);

impl Running {
    /// Where the agent senses it.
    fn start(up: &Up, attack: &Attack) -> Self {
        Self(up.inside(attack.program()).arg("600").spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Mode `act`, and on tiers 0 and 1 what runs is frozen, too.
fn freezes_by_itself(up: &Up) {
    let shown = up.cordon(&["policy", "show"]).unwrap();
    let mut policy: toml::Table = shown.parse().unwrap();
    policy.insert("mode".into(), "act".into());
    let responses = policy["responses"].as_array_mut().unwrap();
    let first = responses[0].as_table_mut().unwrap();
    first.insert("also".into(), vec!["freeze"].into());
    let file = up.state.path().join("policy.toml");
    fs::write(&file, toml::to_string(&policy).unwrap()).unwrap();
    let said = up.cordon(&["policy", "apply", file.to_str().unwrap()]).unwrap();
    assert!(said.contains("mode is now act"), "{said}");
}

/// The questions about what was not done for care.
fn asked(up: &Up) -> Vec<Value> {
    let questions = up.json(&["questions"]);
    let all = questions.as_array().unwrap().iter();
    all.filter(|question| !question["refused"].is_null()).cloned().collect()
}

fn failed_freezes(up: &Up, name: &str) -> usize {
    let list = up.cordon(&["measure", "list", name]).unwrap();
    let is_one = |line: &&str| line.contains("failed") && line.contains("freeze process");
    list.lines().filter(is_one).count()
}

#[test]
fn what_care_needs_is_not_frozen_by_itself_and_people_are_asked_at_once_and_once() {
    if lacks_root("what care needs") {
        return;
    }
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    let viewer = Attack::with("/bin/sleep", "protected");
    let program = viewer.program().to_str().unwrap().to_owned();
    up.cordon(&["assign", &name, "--called", &name, "--tier", "1", "--protect", &program]).unwrap();
    // It is shown, and stays when it is not said again.
    let protected = format!("protected  {program}");
    let said = up.cordon(&["assign", &name, "--called", &name, "--tier", "1"]).unwrap();
    assert!(said.contains(&protected), "{said}");
    let shown = up.cordon(&["machines", &name]).unwrap();
    assert!(shown.contains(&protected), "{shown}");
    freezes_by_itself(&up);

    let mut running = Running::start(&up, &viewer);
    let question = eventually("people are asked", || asked(&up).pop());
    let why = question["why"].as_str().unwrap();
    for said in ["did NOT freeze process", "protected for care", &program, "Found: "] {
        assert!(why.contains(said), "{said:?} is not in {why}");
    }
    assert!(running.lives());

    // Another start of it is another finding of the same story, and no other question.
    let mut second = Running::start(&up, &viewer);
    eventually("the second is refused, too", || (failed_freezes(&up, &name) >= 2).then_some(()));
    assert_eq!(asked(&up).len(), 1);
    assert!(second.lives());

    // A person cuts the machine off further: nobody has to answer any more.
    up.cordon(&["isolate", &name, "--mode", "full", "--reason", "test"]).unwrap();
    eventually("it is withdrawn", || asked(&up).is_empty().then_some(()));

    // And it is frozen all the same in the way that the question said.
    let pid = running.0.id().to_string();
    let freeze = ["measure", "freeze", &name, "--pid", &pid, "--reason", "test"];
    let refused = up.cordon(&freeze).unwrap_err();
    assert!(refused.contains("protected for care"), "{refused}");
    let said = up
        .cordon(&["assign", &name, "--called", &name, "--tier", "1", "--protect-nothing"])
        .unwrap();
    assert!(said.contains("protected  nothing"), "{said}");
    eventually("it is frozen", || up.cordon(&freeze).ok());
}
