//! The sensor where it is not at home: in a PID namespace of its own, and where the kernel refuses it eBPF.
//! Each test starts this program again in such a place, where one of its tests is the child that looks.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test states what it expects")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cordon_agent::sensor::{Place, ProcessStart, Sensor, SensorEvent, SensorOptions};

/// When to give up waiting for an event that will never come.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Set for the children only: else they are tests with nothing to do.
const IS_CHILD: &str = "CORDON_TEST_SENSOR_CHILD";

fn is_child() -> bool {
    std::env::var_os(IS_CHILD).is_some()
}

fn lacks_root() -> bool {
    cordon_tests::lacks_root("a place of its own")
}

/// This program's test `name`, started by way of `around`.
fn child(around: &[&str], name: &str) -> Child {
    Command::new(around[0])
        .args(&around[1..])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(IS_CHILD, "yes")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads until a process started with the argument `last`; all starts until then.
fn starts_until(sensor: &mut Sensor, last: &str) -> Vec<ProcessStart> {
    let began = Instant::now();
    let mut starts: Vec<ProcessStart> = Vec::new();
    loop {
        sensor.read(|event, _| {
            if let SensorEvent::ProcessStart(start) = event {
                starts.push(start);
            }
        });
        if starts.iter().any(|start| has(start, last)) {
            return starts;
        }
        assert!(began.elapsed() < GIVE_UP, "{last} never came; seen: {starts:#?}");
        sensor.wait(Duration::from_millis(50)).unwrap();
    }
}

fn has(start: &ProcessStart, argument: &str) -> bool {
    start.arguments.iter().any(|given| given == argument)
}

/// Starts a program that waits for its input, until the result is dropped.
fn linger(program: &str, arguments: &[&str]) -> Lingering {
    let program = Command::new(program).args(arguments).stdin(Stdio::piped()).spawn();
    Lingering(program.unwrap())
}

struct Lingering(Child);

impl Drop for Lingering {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn looks_around_in_a_container() {
    if !is_child() {
        return;
    }
    let place = Place::of_this_process();
    assert!(place.own_network().is_some() && place.own_pid_namespace.is_some(), "{place:?}");
    let mut lived_before = linger("/bin/sh", &["-c", "read go; /bin/true from-before"]);
    let options =
        SensorOptions { network_namespace: place.own_network(), ..SensorOptions::default() };
    let mut sensor = Sensor::open(&options);
    let coverage = &sensor.coverage()[0];
    if coverage.seen_by != Some("eBPF") {
        cordon_tests::cannot_be_had(&coverage.to_string());
        return;
    }
    assert!(coverage.gap.as_deref().unwrap().contains("PID namespace"), "{coverage}");
    println!("ready");
    std::io::stdout().flush().unwrap();
    // Meanwhile somebody outside starts a program in this network.
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();

    let inside = Command::new("/bin/true").arg("inside").spawn().unwrap();
    let number = inside.id();
    drop(inside.wait_with_output());
    drop(lived_before.0.stdin.take());
    let starts = starts_until(&mut sensor, "from-before");

    assert!(!starts.iter().any(|start| has(start, "outside")), "{starts:#?}");
    let inside = starts.iter().find(|start| has(start, "inside")).unwrap();
    assert_eq!(inside.process.pid, number, "the number that this process knows it by");
    let parent = inside.parent.as_ref().unwrap();
    assert_eq!(parent.process.pid, std::process::id());
    let this = std::env::current_exe().unwrap();
    assert_eq!(parent.image.as_deref(), this.to_str(), "looked up in this namespace's /proc");
    let from_before = starts.iter().find(|start| has(start, "from-before")).unwrap();
    let shell = from_before.parent.as_ref().unwrap();
    assert!(shell.command_line.as_deref().unwrap().contains("read go"), "{shell:?}");
}

#[test]
fn in_a_container_processes_have_the_numbers_of_its_own_proc_and_others_are_not_seen() {
    if lacks_root() {
        return;
    }
    let around = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut child = child(&around, "looks_around_in_a_container");
    let mut to = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    if lines.any(|line| line.ends_with("ready")) {
        let outside = Command::new("nsenter")
            .args(["--net", "--target", &child.id().to_string(), "/bin/true", "outside"])
            .status();
        assert!(outside.unwrap().success());
    }
    writeln!(to, "go").unwrap();
    drop(to);
    let output: Vec<String> = lines.collect();
    assert!(child.wait().unwrap().success(), "{output:#?}");
}

#[test]
fn looks_around_without_ebpf() {
    if !is_child() {
        return;
    }
    let place = Place::of_this_process();
    let options =
        SensorOptions { network_namespace: place.own_network(), ..SensorOptions::default() };
    let mut sensor = Sensor::open(&options);
    let [starts, ends, outgoing, incoming, ..] = sensor.coverage() else { panic!("no coverage") };
    for connections in [outgoing, incoming] {
        assert_eq!(connections.seen_by, None, "{connections}");
        assert!(connections.gap.as_deref().unwrap().contains("refused"), "{connections}");
    }
    let gap = starts.gap.clone().unwrap();
    assert!(gap.contains("refused"), "why there is no eBPF: {starts}");
    if place == (Place { is_first_network: Some(true), own_pid_namespace: None, ..place }) {
        assert_eq!(starts.seen_by, Some("the proc connector"), "{starts}");
        let mark = format!("mark-{}", std::process::id());
        let program = linger("/bin/cat", &["-", &mark]);
        let starts = starts_until(&mut sensor, &mark);
        let start = starts.iter().find(|start| has(start, &mark)).unwrap();
        assert_eq!(start.process.pid, program.0.id());
    } else {
        assert_eq!((starts.seen_by, ends.seen_by), (None, None), "{starts}; {ends}");
        assert!(gap.contains("the proc connector"), "why that is not there either: {starts}");
    }
    println!("seen");
}

/// By way of this a program has root's name, and not the rights that eBPF asks for.
const WITHOUT_EBPF: [&str; 2] = ["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin"];

fn look_without_ebpf(around: &[&str]) {
    if lacks_root() {
        return;
    }
    let around = [around, &WITHOUT_EBPF].concat();
    let output = child(&around, "looks_around_without_ebpf").wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("seen"), "{said}");
}

#[test]
fn where_ebpf_is_refused_the_proc_connector_tells() {
    if Place::of_this_process().is_first_network != Some(true) {
        cordon_tests::cannot_be_had(
            "the proc connector is in the machine's first network namespace alone",
        );
        return;
    }
    look_without_ebpf(&["nice"]);
}

#[test]
fn where_the_proc_connector_is_not_either_the_sensor_says_why() {
    look_without_ebpf(&["unshare", "--net"]);
    look_without_ebpf(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
}
