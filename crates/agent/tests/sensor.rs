//! The sensor against the real kernel. Each test looks only at a network namespace of its own, so that
//! what else happens on the machine does not disturb it. Without root, or where the kernel refuses
//! eBPF, the tests say so and do nothing.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test states what it expects")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cordon_agent::sensor::{
    Connection, Direction, LossReason, ProcessStart, Sensor, SensorEvent, SensorOptions,
    SourceChoice,
};

/// When to give up waiting for an event that will never come.
const GIVE_UP: Duration = Duration::from_secs(60);

/// Runs `work` on a thread that is alone in a new network namespace; children go there too.
fn in_new_namespace<T: Send + 'static>(work: impl FnOnce(u64) -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let namespace = std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
        work(namespace)
    });
    thread.join().unwrap()
}

/// A sensor of one namespace by eBPF, or `None` after saying why the test is skipped.
fn kernel_sensor(namespace: u64, ring_bytes: u32) -> Option<Sensor> {
    let options = SensorOptions {
        network_namespace: Some(namespace),
        ring_bytes,
        ..SensorOptions::default()
    };
    let sensor = Sensor::open(&options);
    let starts = &sensor.coverage()[0];
    if starts.seen_by == Some("eBPF") {
        return Some(sensor);
    }
    cordon_tests::cannot_be_had(&starts.to_string());
    None
}

fn is_root() -> bool {
    !cordon_tests::lacks_root("seeing what runs")
}

/// Reads until `found` is satisfied with all that was seen.
fn read_until(sensor: &mut Sensor, found: impl Fn(&[SensorEvent]) -> bool) -> Vec<SensorEvent> {
    let began = Instant::now();
    let mut events = Vec::new();
    loop {
        sensor.read(|event, _| events.push(event));
        if found(&events) {
            return events;
        }
        assert!(began.elapsed() < GIVE_UP, "never came; seen: {events:#?}");
        sensor.wait(Duration::from_millis(50)).unwrap();
    }
}

fn starts(events: &[SensorEvent]) -> Vec<&ProcessStart> {
    let mut starts = Vec::new();
    for event in events {
        if let SensorEvent::ProcessStart(start) = event {
            starts.push(start);
        }
    }
    starts
}

fn exits(events: &[SensorEvent]) -> usize {
    events.iter().filter(|event| matches!(event, SensorEvent::ProcessExit(_))).count()
}

fn connections(events: &[SensorEvent]) -> Vec<&Connection> {
    let mut connections = Vec::new();
    for event in events {
        if let SensorEvent::Connection(connection) = event {
            connections.push(connection);
        }
    }
    connections
}

fn lost(events: &[SensorEvent]) -> u64 {
    let lost = |event: &SensorEvent| match event {
        SensorEvent::Loss(loss) if loss.reason == LossReason::BufferFull => loss.count,
        _ => 0,
    };
    events.iter().map(lost).sum()
}

fn run(program: &str, arguments: &[&str]) -> u32 {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id();
    child.wait().unwrap();
    pid
}

fn default_ring() -> u32 {
    SensorOptions::default().ring_bytes
}

#[test]
fn a_start_arrives_as_it_was_made_even_of_a_process_that_is_gone() {
    if !is_root() {
        return;
    }
    in_new_namespace(|namespace| {
        let Some(mut sensor) = kernel_sensor(namespace, default_ring()) else { return };
        let many: Vec<String> = (0..300).map(|number| format!("--option-{number}")).collect();
        let mut arguments = vec!["", " two words ", "\"quoted\"", "a\nline", "ünï✓", "'$(id)'"];
        arguments.extend(many.iter().map(String::as_str));
        let mut child =
            Command::new("/bin/true").args(&arguments).current_dir("/var/tmp").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();

        let events = read_until(&mut sensor, |events| exits(events) > 0);
        let starts = starts(&events);
        assert_eq!(starts.len(), 1);
        let start = starts[0];
        assert_eq!(start.arguments[0], "/bin/true");
        assert_eq!(start.arguments[1..], arguments);
        assert!(!start.arguments_are_cut);
        assert_eq!(*start.command_line, start.arguments.join(" "));
        let image = std::fs::canonicalize("/bin/true").unwrap();
        assert_eq!(start.image.as_deref(), image.to_str());
        assert_eq!(start.file_name.as_deref(), Some("/bin/true"));
        assert_eq!(start.directory.as_deref(), Some("/var/tmp"));
        assert_eq!((start.process.pid, start.short_name.as_str()), (pid, "true"));
        assert_eq!(start.network_namespace, Some(namespace));
        assert_eq!((start.user.uid, start.user.name.as_deref()), (0, Some("root")));
        let parent = start.parent.as_ref().unwrap();
        assert_eq!(parent.process.pid, std::process::id());
        let this = std::env::current_exe().unwrap();
        assert_eq!(parent.image.as_deref(), this.to_str());
        assert!(parent.command_line.as_deref().unwrap().contains("sensor"));
        let json: serde_json::Value = serde_json::from_str(&events[0].to_json()).unwrap();
        assert_eq!(json["arguments"][5], "ünï✓");
        assert!(start.boot_time.since(start.process.started) < GIVE_UP);
    });
}

#[test]
fn arguments_that_are_cut_say_so_and_those_that_can_be_completed_are() {
    if !is_root() {
        return;
    }
    in_new_namespace(|namespace| {
        let Some(mut sensor) = kernel_sensor(namespace, default_ring()) else { return };
        // Waits for the end of its input: is there as long as we look.
        let begin = |bytes: usize| {
            let argument = "x".repeat(bytes);
            Command::new("/bin/cat").args(["-", &argument]).stdin(Stdio::piped()).spawn().unwrap()
        };
        let (mut some, mut more) = (begin(20_000), begin(100_000));
        let events = read_until(&mut sensor, |events| starts(events).len() == 2);
        let starts = starts(&events);
        // Either may be the first to have begun its program.
        let of =
            |child: &Child| *starts.iter().find(|start| start.process.pid == child.id()).unwrap();
        assert_eq!(of(&some).arguments[2].len(), 20_000);
        assert!(!of(&some).arguments_are_cut);
        assert!(of(&more).arguments_are_cut);
        assert!((30_000..100_000).contains(&of(&more).arguments[2].len()));
        for child in [&mut some, &mut more] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    });
}

#[test]
fn what_runs_is_named_through_links_scripts_and_deletion() {
    if !is_root() {
        return;
    }
    in_new_namespace(|namespace| {
        let Some(mut sensor) = kernel_sensor(namespace, default_ring()) else { return };
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let deep = folder.join(["a-long-name-of-a-folder"; 60].join("/"));
        std::fs::create_dir_all(&deep).unwrap();
        let copy = deep.join("program");
        cordon_tests::copy_program("/bin/true", &copy);
        let link = folder.join("link");
        std::os::unix::fs::symlink(&copy, &link).unwrap();
        let bottomless = folder.join(["d"; 200].join("/"));
        std::fs::create_dir_all(&bottomless).unwrap();
        let hidden = bottomless.join("hidden");
        cordon_tests::copy_program("/bin/true", &hidden);
        let script = folder.join("script");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        Command::new("chmod").arg("+x").arg(&script).status().unwrap();
        run("/bin/sh", &["-c", &format!("cd {} && ./link a", folder.display())]);
        run(hidden.to_str().unwrap(), &[]);
        run(script.to_str().unwrap(), &[]);

        let is_script = |start: &ProcessStart| start.file_name.as_deref() == script.to_str();
        let events = read_until(&mut sensor, |all| starts(all).iter().any(|s| is_script(s)));
        let starts = starts(&events);
        let linked = starts.iter().find(|s| s.file_name.as_deref() == Some("./link")).unwrap();
        assert_eq!(linked.image.as_deref(), copy.to_str(), "60 folders deep, through a link");
        assert_eq!(linked.directory.as_deref(), folder.to_str());
        let hidden = starts.iter().find(|start| start.image_is_cut).unwrap();
        assert!(hidden.image.as_deref().unwrap().ends_with("/d/d/hidden"));
        assert_eq!(hidden.image.as_deref().unwrap().matches("/d").count() + 1, 127);
        let script = starts.iter().find(|start| is_script(start)).unwrap();
        let shell = std::fs::canonicalize("/bin/sh").unwrap();
        assert_eq!(script.image.as_deref(), shell.to_str());
    });
}

#[test]
fn a_parent_that_ended_first_is_still_named() {
    if !is_root() {
        return;
    }
    in_new_namespace(|namespace| {
        let Some(mut sensor) = kernel_sensor(namespace, default_ring()) else { return };
        // The middle shell forks and ends; the orphan begins its program when init is its parent.
        let orphan = "(while [ $(cut -d' ' -f4 /proc/self/stat) = $$ ]; do :; done; \
                       sleep 0.1; exec /bin/true orphan) &";
        run("/bin/sh", &["-c", orphan]);
        let is_orphan = |start: &ProcessStart| start.arguments.last().unwrap() == "orphan";
        let events = read_until(&mut sensor, |all| starts(all).iter().any(|s| is_orphan(s)));
        let starts = starts(&events);
        let shell = starts.iter().find(|start| start.arguments.contains(&"-c".into())).unwrap();
        let orphan = starts.iter().find(|start| is_orphan(start)).unwrap();
        let parent = orphan.parent.as_ref().unwrap();
        assert_eq!(parent.process, shell.process);
        assert_eq!(parent.command_line.as_ref(), Some(&shell.command_line));
        let line = sensor.processes().ancestry(orphan.process.pid);
        assert_eq!(line[0].process, shell.process);
        assert_eq!(line[1].process.pid, std::process::id());
    });
}

#[test]
fn every_start_of_a_burst_is_told() {
    if !is_root() {
        return;
    }
    const BURST: usize = 2_000;
    in_new_namespace(|namespace| {
        let Some(sensor) = kernel_sensor(namespace, default_ring()) else { return };
        let (to, from) = mpsc::channel();
        let running = sensor.start(move |event, _| drop(to.send(event))).unwrap();
        for _ in 0..BURST {
            run("/bin/true", &[]);
        }
        let mut events = Vec::new();
        while exits(&events) < BURST {
            events.push(from.recv_timeout(GIVE_UP).unwrap());
        }
        drop(running);
        events.extend(from.iter());
        assert_eq!((starts(&events).len(), exits(&events), lost(&events)), (BURST, BURST, 0));
    });
}

#[test]
fn what_the_buffer_has_no_room_for_is_counted() {
    if !is_root() {
        return;
    }
    const BURST: usize = 200;
    in_new_namespace(|namespace| {
        let Some(mut sensor) = kernel_sensor(namespace, 8192) else { return };
        for _ in 0..BURST {
            run("/bin/true", &[]); // nobody reads meanwhile
        }
        let mut events = Vec::new();
        sensor.read(|event, _| events.push(event));
        let (starts, lost) = (starts(&events).len() as u64, lost(&events));
        let told = starts + exits(&events) as u64;
        let burst = BURST as u64;
        assert!(starts < burst && lost > 0, "{starts} starts, {lost} lost: it was to overflow");
        // A process makes three records: fork (not told by itself), start and end.
        assert!((2 * burst..=3 * burst).contains(&(told + lost)), "{told} told, {lost} lost");
        // What comes after is told again, and the loss is told once.
        run("/bin/true", &["after"]);
        let events = read_until(&mut sensor, |events| exits(events) > 0);
        assert_eq!(events.iter().filter(|e| matches!(e, SensorEvent::Loss(_))).count(), 0);
    });
}

#[test]
fn only_the_wanted_network_namespace_is_seen() {
    if !is_root() {
        return;
    }
    in_new_namespace(|namespace| {
        let Some(mut sensor) = kernel_sensor(namespace, default_ring()) else { return };
        in_new_namespace(|_| run("/bin/true", &["elsewhere"]));
        run("/bin/true", &["here"]);
        let events = read_until(&mut sensor, |events| exits(events) > 0);
        let starts = starts(&events);
        assert_eq!(starts.len(), 1, "{starts:#?}");
        assert_eq!(starts[0].arguments, ["/bin/true", "here"]);
    });
}

#[test]
fn connections_are_seen_at_both_ends_with_their_process() {
    if !is_root() {
        return;
    }
    in_new_namespace(|namespace| {
        let Some(mut sensor) = kernel_sensor(namespace, default_ring()) else { return };
        run("ip", &["link", "set", "lo", "up"]);
        let mut served = 0;
        for address in ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            // Meaning: `connect` to the mapped address is IPv4 through an IPv6 socket.
            let Ok(listener) = TcpListener::bind(address) else {
                cordon_tests::cannot_be_had(&format!("no {address} on this machine"));
                continue;
            };
            let at = listener.local_addr().unwrap();
            let stream = TcpStream::connect(at).unwrap();
            let from = stream.local_addr().unwrap();
            served += 1;
            let events = read_until(&mut sensor, |events| connections(events).len() == 2);
            let seen = connections(&events);
            let address: IpAddr = at.ip().to_canonical();
            let outgoing = seen.iter().find(|c| c.direction == Direction::Outgoing).unwrap();
            assert_eq!((outgoing.remote.address, outgoing.remote.port), (address, at.port()));
            assert_eq!(outgoing.local.address, address);
            let incoming = seen.iter().find(|c| c.direction == Direction::Incoming).unwrap();
            assert_eq!((incoming.remote.address, incoming.remote.port), (address, from.port()));
            assert_eq!((incoming.local.address, incoming.local.port), (address, at.port()));
            for connection in seen {
                let process = connection.process.unwrap();
                assert_eq!(process.pid, std::process::id(), "{:?}", connection.direction);
                let this = std::env::current_exe().unwrap();
                assert_eq!(connection.image.as_deref(), this.to_str());
                assert_eq!((connection.uid, connection.network_namespace), (0, namespace));
                assert_eq!(connection.user.as_deref(), Some("root"));
            }
        }
        assert!(served > 0);
    });
}

#[test]
fn a_connection_that_is_refused_is_seen_too() {
    if !is_root() {
        return;
    }
    in_new_namespace(|namespace| {
        let Some(mut sensor) = kernel_sensor(namespace, default_ring()) else { return };
        run("ip", &["link", "set", "lo", "up"]);
        assert!(TcpStream::connect("127.0.0.1:445").is_err());
        let events = read_until(&mut sensor, |events| !connections(events).is_empty());
        let seen = connections(&events)[0];
        assert_eq!((seen.direction, seen.remote.port), (Direction::Outgoing, 445));
    });
}

/// The name of the test that is run again as a child by the one below.
const UNPRIVILEGED: &str = "unprivileged_child_of_the_next_test";
const NAMESPACE: &str = "CORDON_TEST_SENSOR_NAMESPACE";
const NOBODY: u32 = 65_534;

#[test]
fn unprivileged_child_of_the_next_test() {
    let Ok(namespace) = std::env::var(NAMESPACE) else { return };
    let Some(mut sensor) = kernel_sensor(namespace.parse().unwrap(), 8192) else { return };
    let nobody = nix::unistd::Uid::from_raw(NOBODY);
    nix::unistd::setgroups(&[]).unwrap();
    nix::unistd::setresuid(nobody, nobody, nobody).unwrap();
    println!("ready");
    std::io::stdout().flush().unwrap();
    let is_last = |start: &ProcessStart| start.arguments.last().unwrap() == "last";
    let events = read_until(&mut sensor, |all| {
        starts(all).iter().any(|start| is_last(start)) && lost(all) > 0
    });
    for event in &events {
        println!("{}", event.to_json());
    }
}

#[test]
fn what_was_opened_as_root_goes_on_without_root() {
    if !is_root() {
        return;
    }
    in_new_namespace(|namespace| {
        if kernel_sensor(namespace, 8192).is_none() {
            return;
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", UNPRIVILEGED, "--nocapture"])
            .env(NAMESPACE, namespace.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.ends_with("ready")));
        run("/bin/true", &["root's own"]);
        run("/bin/true", &["last"]);
        // Stopped, so that it can't read: the loss is counted for the unprivileged one too.
        let stopped = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
        nix::sys::signal::kill(stopped, nix::sys::signal::Signal::SIGSTOP).unwrap();
        for _ in 0..100 {
            run("/bin/true", &[]);
        }
        nix::sys::signal::kill(stopped, nix::sys::signal::Signal::SIGCONT).unwrap();
        let output: Vec<String> = lines.collect();
        assert!(child.wait().unwrap().success(), "{output:#?}");
        let events: Vec<serde_json::Value> =
            output.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let start = events.iter().find(|event| event["arguments"][1] == "root's own").unwrap();
        let image = std::fs::canonicalize("/bin/true").unwrap();
        assert_eq!(start["image"], image.to_str().unwrap());
        assert_eq!(start["parent"]["pid"], std::process::id());
        assert_eq!(start["parent"]["image"], std::env::current_exe().unwrap().to_str().unwrap());
        assert!(events.iter().any(|event| event["reason"] == "buffer_full"));
    });
}

#[test]
fn the_proc_connector_sees_a_start_and_says_what_it_does_not() {
    if !is_root() {
        return;
    }
    let options = SensorOptions { choice: SourceChoice::ProcConnector, ..SensorOptions::default() };
    let mut sensor = Sensor::open(&options);
    let connections = &sensor.coverage()[2];
    assert_eq!(connections.seen_by, None, "{connections}");
    let starts_seen = &sensor.coverage()[0];
    if starts_seen.seen_by.is_none() {
        cordon_tests::cannot_be_had(&starts_seen.to_string());
        return;
    }
    assert!(starts_seen.gap.is_some());
    let mark = format!("mark-{}", std::process::id());
    let mut child =
        Command::new("/bin/cat").args(["-", &mark]).stdin(Stdio::piped()).spawn().unwrap();
    let is_ours = |start: &ProcessStart| start.arguments.last() == Some(&mark);
    let events = read_until(&mut sensor, |all| starts(all).iter().any(|s| is_ours(s)));
    let start = starts(&events).into_iter().find(|start| is_ours(start)).unwrap();
    assert_eq!(start.process.pid, child.id());
    let image = std::fs::canonicalize("/bin/cat").unwrap();
    assert_eq!(start.image.as_deref(), image.to_str());
    assert_eq!(start.parent.as_ref().unwrap().process.pid, std::process::id());
    child.kill().unwrap();
    child.wait().unwrap();
    let process = start.process;
    read_until(&mut sensor, |events| {
        events
            .iter()
            .any(|e| matches!(e, SensorEvent::ProcessExit(exit) if exit.process.is(process)))
    });
}

#[test]
fn without_root_the_sensor_says_what_it_does_not_see() {
    if nix::unistd::geteuid().is_root() {
        // Again, as somebody who is not.
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "without_root_the_sensor_says_what_it_does_not_see", "--nocapture"])
            .uid(NOBODY)
            .status();
        match child {
            Ok(status) => assert!(status.success()),
            Err(error) => {
                cordon_tests::cannot_be_had(&format!("nobody may not run this file: {error}"));
            }
        }
        return;
    }
    let sensor = Sensor::open(&SensorOptions::default());
    for coverage in sensor.coverage() {
        println!("{coverage}");
        // Since Linux 6.6 anybody may listen to the proc connector.
        assert_ne!(coverage.seen_by, Some("eBPF"));
        assert!(coverage.gap.is_some(), "{coverage}");
    }
    let outgoing = &sensor.coverage()[2];
    assert_eq!(outgoing.seen_by, None);
    assert!(outgoing.gap.as_deref().unwrap().contains("not root"), "{outgoing}");
}
