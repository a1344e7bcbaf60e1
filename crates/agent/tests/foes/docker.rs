//! Docker: the real engine starts, runs a container that publishes a port and talks to the outside without
//! pause, and stops, in the machine's network namespace. The container is one static program (busybox).

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cordon_model::measure::Isolation;
use cordon_tests::lacks_programs;

use crate::contain_world::{MACHINE, Namespace, PEER, World, address, until};
use crate::programs::{Daemon, rules_of_others};
use crate::siege::Siege;

const PROGRAMS: [&str; 4] = ["dockerd", "docker", "iptables", "busybox"];
/// How often dockerd is started before it is given up.
const STARTS: usize = 5;
/// The machine's port at which the container's SMB port is published.
const PUBLISHED: u16 = 8042;

struct Docker {
    folder: tempfile::TempDir,
    daemon: Option<Daemon>,
}

impl Drop for Docker {
    fn drop(&mut self) {
        // A container outlives an engine that is killed.
        if let Some(daemon) = self.daemon.take() {
            let _ = self.client().args(["rm", "-f", "ward"]).output();
            drop(daemon);
        }
    }
}

impl Docker {
    fn off() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), daemon: None }
    }

    fn start(&mut self, machine: &Namespace) {
        let at = self.folder.path().display();
        // Its own /run, the system's /sys: the engine wants the control groups that are mounted there.
        let text = format!(
            "mount -t tmpfs run /run
             exec dockerd --data-root {at}/data --exec-root {at}/exec --pidfile {at}/pid \
                 -H unix://{at}/sock --storage-driver vfs --group root"
        );
        let log = self.folder.path().join("log");
        // On a machine under load it gives up waiting for its own containerd: started anew then, as systemd does.
        for _ in 0..STARTS {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={}", machine.path().display()));
            command.args(["unshare", "--mount", "sh", "-ec", &text]);
            let mut daemon = Daemon::start(&mut command, &log);
            let answers = || self.client().args(["version"]).output().unwrap().status.success();
            if daemon.runs_until(answers) {
                self.daemon = Some(daemon);
                return;
            }
        }
        panic!("dockerd does not start:\n{}", std::fs::read_to_string(log).unwrap());
    }

    fn client(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}/sock", self.folder.path().display()));
        // Whoever runs this may have settings of his own.
        command.arg("--config").arg(self.folder.path());
        command
    }

    fn ask(&self, words: &[&str]) -> String {
        let output = self.client().args(words).output().unwrap();
        let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        assert!(output.status.success(), "docker {words:?}: {output:?}\n{}", log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// A container that answers at SMB's port and pings the peer without pause.
    fn run_container(&self) {
        let image = self.folder.path().join("image");
        if !image.exists() {
            std::fs::create_dir_all(image.join("bin")).unwrap();
            let busybox =
                ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|at| Path::new(at).exists());
            std::fs::copy(busybox.unwrap(), image.join("bin/busybox")).unwrap();
            let tar = self.folder.path().join("image.tar");
            let status =
                Command::new("tar").arg("-C").arg(&image).arg("-cf").arg(&tar).arg(".").status();
            assert!(status.unwrap().success());
            self.ask(&["import", tar.to_str().unwrap(), "ward"]);
        }
        let talk = format!(
            "b=/bin/busybox; while :; do $b ping -c 1 -W 1 {PEER}; done & $b httpd -f -p 445"
        );
        let publish = format!("{PUBLISHED}:445");
        self.ask(&[
            "run",
            "-d",
            "--name",
            "ward",
            "-p",
            &publish,
            "ward",
            "/bin/busybox",
            "sh",
            "-c",
            &talk,
        ]);
    }

    fn is_reached_from(peer: &Namespace) -> bool {
        let door = SocketAddr::new(address(MACHINE), PUBLISHED);
        peer.inside(move || TcpStream::connect_timeout(&door, Duration::from_millis(300)).is_ok())
    }
}

/// Answers "docker wipes foreign rules", LimaCharlie and Yuzu ("containers' traffic not covered"), and
/// "their accept overrules a foreign drop".
#[test]
fn docker_starts_publishes_a_port_and_stops_and_opens_nothing() {
    if lacks_programs(&PROGRAMS) {
        return;
    }
    for isolation in [Isolation::Full, Isolation::Segment] {
        let Some(mut siege) = Siege::lay(isolation) else { return };
        let peer = siege.bench.world.peer.clone();
        let mut docker = Docker::off();
        siege.withstands("dockerd's start", |machine| docker.start(machine));
        siege.withstands("a container with a published port", |_| {
            docker.run_container();
            assert!(!Docker::is_reached_from(&peer), "{isolation}: SMB in the container");
        });
        siege.withstands("the end of a container", |_| drop(docker.ask(&["rm", "-f", "ward"])));
        siege.withstands("dockerd's stop", |_| docker.daemon.take().unwrap().stop());
        siege.withstands("dockerd's start again", |machine| docker.start(machine));
        docker.run_container();
        siege.lift();
        until(|| Docker::is_reached_from(&peer));
        let alone = World::new().unwrap();
        let mut its_own = Docker::off();
        // The same steps: the engine's chains are in the order of its starts.
        its_own.start(&alone.machine);
        its_own.run_container();
        its_own.ask(&["rm", "-f", "ward"]);
        its_own.daemon.take().unwrap().stop();
        its_own.start(&alone.machine);
        its_own.run_container();
        let rules = rules_of_others(&siege.bench.world.machine);
        assert!(rules.contains("DOCKER"), "{rules}");
        assert_eq!(rules, rules_of_others(&alone.machine), "{isolation}");
    }
}
