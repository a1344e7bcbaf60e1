//! In mode `act`, under a policy that wants everything done by itself: nothing is, where care depends on a
//! machine directly or may, nor in what care was declared to need; there people are asked at once. Elsewhere the
//! same policy and the same finding act.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use cordon_tests::{Attack, Person, Up, eventually, lacks_programs, lacks_root};
use serde_json::Value;

/// All that a policy can have done by itself about what a finding names.
const KINDS: [&str; 4] = ["freeze", "kill", "quarantine", "deny"];

/// A program where malware puts its own, which says back what it hears; ended with its test.
struct Suspect {
    attack: Attack,
    group: Option<Group>,
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Suspect {
    fn new(up: &Up, name: &str) -> Self {
        Self::within(up, name, None)
    }

    /// In this control group since before it was started.
    fn within(up: &Up, name: &str, group: Option<Group>) -> Self {
        let attack = Attack::with("/bin/cat", name);
        let mut child = starts(up, &attack, group.as_ref())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { attack, group, child, to, from: BufReader::new(from) }
    }

    /// It was neither frozen nor ended.
    fn answers(&mut self) {
        self.to.write_all(b"still here\n").unwrap();
        let mut said = String::new();
        self.from.read_line(&mut said).unwrap();
        assert_eq!(said, "still here\n");
    }

    /// It was not frozen, ended, set aside or denied: it answers, its file is there, and it can be started again.
    fn goes_on(&mut self, up: &Up) {
        self.answers();
        assert!(self.attack.program().exists());
        let mut again = starts(up, &self.attack, self.group.as_ref());
        let again = again.stdin(Stdio::null()).status().unwrap();
        assert!(again.success(), "it can't be started again");
    }
}

impl Drop for Suspect {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn starts(up: &Up, attack: &Attack, group: Option<&Group>) -> Command {
    let Some(Group(folder)) = group else { return up.inside(attack.program()) };
    let mut command = up.inside("sh");
    let enter = "echo $$ > \"$1/cgroup.procs\" && exec \"$0\"";
    command.args(["-c", enter]).arg(attack.program()).arg(folder);
    command
}

/// A control group, as a service manager makes one for a service; gone with its test.
struct Group(PathBuf);

impl Group {
    /// `None` where the kernel has none of version 2.
    fn new(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let is_it = |line: &&str| line.split(' ').nth(2) == Some("cgroup2");
        let Some(hierarchy) = mounts.lines().find(is_it).and_then(|line| line.split(' ').nth(1))
        else {
            cordon_tests::cannot_be_had("there are no control groups of version 2 here");
            return None;
        };
        let folder = Path::new(hierarchy).join(name);
        fs::create_dir(&folder).unwrap();
        Some(Self(folder))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        for _ in 0..1_000_000 {
            if fs::remove_dir(&self.0).is_ok() {
                break;
            }
            std::thread::yield_now();
        }
    }
}

/// Ended with its test.
struct Bystander(Child);

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Mode `act`; everything that a policy can ask for, by itself, on every tier; and `more`.
fn wants_everything(up: &Up, more: &str) {
    let shown = up.cordon(&["policy", "show"]).unwrap();
    let mut policy: toml::Table = format!("{shown}\n{more}").parse().unwrap();
    policy.insert("mode".into(), "act".into());
    let responses = policy["responses"].as_array_mut().unwrap();
    for response in responses.iter_mut().map(|response| response.as_table_mut().unwrap()) {
        response.insert("isolation".into(), "full".into());
        response.insert("also".into(), KINDS.to_vec().into());
        response.insert("by_itself".into(), true.into());
    }
    assert_eq!(responses.len(), 2, "one for tiers 0 and 1, one for tiers 2 and 3");
    // Two rules match, and each finding may spend five.
    policy["budget"].as_table_mut().unwrap().insert("count".into(), 50.into());
    let file = up.state.path().join("policy.toml");
    fs::write(&file, toml::to_string(&policy).unwrap()).unwrap();
    let said = up.cordon(&["policy", "apply", file.to_str().unwrap()]).unwrap();
    assert!(said.contains("mode is now act"), "{said}");
}

/// A policy's night which this hour is within, and in which these may say yes on a clinical machine.
fn now_is_night_of(people: &[&str]) -> String {
    let hour = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 3600 % 24;
    let [from, until] = [hour + 23, hour + 2].map(|hour| format!("{:02}:00", hour % 24));
    format!(
        "[approval.night]\nfrom = {from:?}\nuntil = {until:?}\ntime_zone = \"UTC\"\n\
         tiers = [\"clinical\"]\npeople = {people:?}\n"
    )
}

fn list(up: &Up, name: &str) -> String {
    up.cordon(&["measure", "list", name]).unwrap()
}

/// Waits until the machine shows a measure of `kind` as `state`.
fn until(up: &Up, name: &str, kind: &str, state: &str) {
    let is_it = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some(state) && words.next() == Some(kind)
    };
    eventually(&format!("{kind} is {state}"), || list(up, name).lines().any(is_it).then_some(()));
}

/// The one question, as soon as people are asked: about everything at once.
fn asked(up: &Up) -> Value {
    let question =
        eventually("people are asked", || up.json(&["questions"])[0].as_object().cloned());
    let words = up.cordon(&["questions"]).unwrap();
    for kind in ["isolate (full)"].iter().chain(&KINDS) {
        assert!(words.contains(kind), "{kind} is not asked: {words}");
    }
    assert!(words.contains("1 of 1 questions"), "one question for all of it: {words}");
    question.into()
}

/// Nothing was done by itself. What the signer is asked about one machine it answers in order, and the machine
/// takes its orders in order: a person's order that is carried out now comes after all that the finding brought.
fn nothing_was_done(up: &Up, name: &str, suspect: &mut Suspect) {
    let bystander = Bystander(Command::new("sleep").arg("600").spawn().unwrap());
    let pid = bystander.0.id().to_string();
    let freeze = ["measure", "freeze", name, "--pid", &pid, "--reason", "test", "--yes"];
    let said = up.cordon(&freeze).unwrap();
    assert!(said.contains("VERIFIED"), "{said}");
    let list = list(up, name);
    let measures: Vec<&str> = list.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(measures.len(), 1, "only what a person ordered: {list}");
    assert!(!up.packet_rules().contains("table inet cordon"), "not isolated, and no peer blocked");
    eventually("it says that it is open", || {
        up.json(&["machines"])[0]["isolation"].is_null().then_some(())
    });
    suspect.goes_on(up);
}

#[test]
fn on_a_clinical_machine_people_are_asked_at_once_and_all_is_done_when_enough_of_them_agreed() {
    if lacks_root("what a policy does by itself") || lacks_programs(&["script"]) {
        return;
    }
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    up.cordon(&["assign", &name, "--called", &name, "--tier", "2"]).unwrap();
    wants_everything(&up, "");
    let mut suspect = Suspect::new(&up, "clinical");
    let question = asked(&up);
    assert!(question["why"].as_str().unwrap().contains("the machine is clinical"), "{question:#}");
    nothing_was_done(&up, &name, &mut suspect);

    // What would stop is shown before a yes is taken, each of what is asked; a no to that orders nothing.
    let id = question["id"].as_str().unwrap();
    let shown = up.on_a_terminal(&["answer", id, "yes", "--reason", "test"], "no\n");
    assert!(shown.contains("type yes") && shown.contains("nothing is ordered"), "{shown}");
    let program = suspect.attack.program();
    assert!(shown.matches("stops").count() >= KINDS.len(), "{shown}");
    assert!(shown.contains(program.to_str().unwrap()), "{shown}");

    // Who has to agree is what the policy says when they do: two people, each signed in, and at this hour not any two.
    let [ann, bob, cem] = ["ann", "bob", "cem"].map(|person| Person::signs_in(&up, person));
    let two = "[[approval.needs]]\ntiers = [\"clinical\"]\nneeds = \"two-people\"\n";
    wants_everything(&up, &format!("{two}{}", now_is_night_of(&["bob", "cem"])));
    let account = up.cordon(&["answer", id, "yes", "--reason", "test", "--yes"]).unwrap_err();
    assert!(account.contains("sign in"), "{account}");
    let refused = ann.agrees(id);
    assert!(refused.starts_with("HTTP/1.1 409") && refused.contains("bob"), "{refused}");
    assert!(bob.agrees(id).starts_with("HTTP/1.1 303"));
    assert!(up.cordon(&["questions"]).unwrap().contains("bob says yes"));
    suspect.goes_on(&up);
    assert!(cem.agrees(id).starts_with("HTTP/1.1 303"));
    is_all_done(&up, &name, suspect);
    // Starting it again was found, too, and is asked about: another process.
    let left = up.json(&["questions"]);
    assert!(left.as_array().unwrap().iter().all(|left| left["id"] != id), "{left:#}");
}

/// Everything that the policy asks for is done and shown.
fn is_all_done(up: &Up, name: &str, mut suspect: Suspect) {
    eventually("it is isolated in full", || {
        let machine = up.json(&["machines"])[0].clone();
        (machine["isolation"] == "full" && machine["truth"] == "verified").then_some(())
    });
    until(up, name, "kill", "done");
    assert!(!suspect.child.wait().unwrap().success(), "it was killed");
    until(up, name, "quarantine", "verified");
    assert!(!suspect.attack.program().exists());
    until(up, name, "deny", "verified");
    // What another puts in its place is denied, too, as soon as the warden has seen it.
    cordon_tests::copy_program("/bin/true", suspect.attack.program());
    eventually("it can't be started", || {
        let started = up.inside(suspect.attack.program()).output().unwrap();
        (!started.status.success()).then_some(())
    });
}

#[test]
fn on_a_machine_of_unknown_tier_nothing_is_done_and_people_are_asked_at_once() {
    if lacks_root("what a policy does by itself") {
        return;
    }
    let up = Up::start();
    let machine = up.linked_machine();
    assert!(machine["tier"].is_null(), "nobody has said what it is");
    let name = machine["name"].as_str().unwrap();
    wants_everything(&up, "");
    let mut suspect = Suspect::new(&up, "unknown");
    let question = asked(&up);
    assert!(question["why"].as_str().unwrap().contains("nobody has said"), "{question:#}");
    nothing_was_done(&up, name, &mut suspect);
}

#[test]
fn on_a_life_sustaining_machine_nothing_is_done_and_one_person_can_not_have_it_done_either() {
    if lacks_root("what a policy does by itself") {
        return;
    }
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    up.cordon(&["assign", &name, "--called", &name, "--tier", "3"]).unwrap();
    wants_everything(&up, "");
    let mut suspect = Suspect::new(&up, "sustaining");
    let question = asked(&up);
    assert_eq!(question["needs"], "two-keys-one-clinical", "{question:#}");
    let id = question["id"].as_str().unwrap();
    let said = up.cordon(&["answer", id, "yes", "--reason", "test", "--yes"]).unwrap_err();
    assert!(said.contains("two people, one of them clinical"), "{said}");
    let ann = Person::signs_in(&up, "ann");
    assert!(ann.agrees(id).starts_with("HTTP/1.1 409"), "a session is not yet a person here");
    // Nobody can order anything on this tier: what shows that nothing came is ordered below it.
    up.cordon(&["assign", &name, "--called", &name, "--tier", "0"]).unwrap();
    nothing_was_done(&up, &name, &mut suspect);
}

#[test]
fn in_what_care_was_declared_to_need_nothing_is_stopped_though_its_machine_is_cut_off() {
    if lacks_root("what a policy does by itself") {
        return;
    }
    let program = Attack::with("/bin/cat", "service").program();
    is_left_alone("service", ["--protect", program.to_str().unwrap()], None);
}

/// A unit of systemd is known by its control group, whoever made that.
#[test]
fn in_a_unit_that_was_declared_to_be_needed_nothing_is_stopped_either() {
    if lacks_root("what a policy does by itself") {
        return;
    }
    let unit = format!("cordon-test-{}.service", std::process::id());
    let Some(group) = Group::new(&unit) else { return };
    is_left_alone("unit", ["--protect-unit", &unit], Some(group));
}

#[test]
fn in_a_control_group_that_was_declared_to_be_needed_nothing_is_stopped_either() {
    if lacks_root("what a policy does by itself") {
        return;
    }
    let name = format!("cordon-test-{}", std::process::id());
    let Some(group) = Group::new(&name) else { return };
    is_left_alone("group", ["--protect-cgroup", &format!("/{name}")], Some(group));
}

/// Called `called`, in `group`, and declared to be needed for care in these words: each measure is refused, people are
/// asked, and it goes on as before.
fn is_left_alone(called: &str, declared: [&str; 2], group: Option<Group>) {
    let up = Up::start();
    let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
    let assign = ["assign", &name, "--called", &name, "--tier", "1"];
    up.cordon(&[&assign[..], &declared].concat()).unwrap();
    wants_everything(&up, "");
    let mut service = Suspect::within(&up, called, group);
    eventually("people are asked about what was left alone", || {
        let questions = up.json(&["questions"]);
        let mut questions = questions.as_array()?.iter();
        questions.find(|question| !question["refused"].is_null()).cloned()
    });
    for kind in KINDS {
        until(&up, &name, kind, "failed");
    }
    let list = list(&up, &name);
    assert!(list.matches("protected for care").count() >= KINDS.len(), "{list}");
    service.goes_on(&up);
}

/// The same policy and finding, where nothing forbids it: so the tests above can fail.
#[test]
fn on_tiers_0_and_1_the_same_policy_does_all_of_it_by_itself() {
    if lacks_root("what a policy does by itself") {
        return;
    }
    for tier in ["0", "1"] {
        let up = Up::start();
        let name = up.linked_machine()["name"].as_str().unwrap().to_owned();
        up.cordon(&["assign", &name, "--called", &name, "--tier", tier]).unwrap();
        wants_everything(&up, "");
        let suspect = Suspect::new(&up, &format!("tier-{tier}"));
        is_all_done(&up, &name, suspect);
        assert!(list(&up, &name).lines().any(|line| line.contains(" freeze process")));
        assert_eq!(up.json(&["machines", &name])["question_count"], 0, "nobody was asked");
    }
}
