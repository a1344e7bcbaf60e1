//! firewalld, on a message bus of its own: its start, reload, complete reload and stop.

use std::process::Command;

use cordon_model::measure::Isolation;
use cordon_tests::lacks_programs;

use crate::contain_world::{Namespace, World, until};
use crate::programs::{Daemon, rules_of_others};
use crate::siege::Siege;

const PROGRAMS: [&str; 3] = ["firewalld", "firewall-cmd", "dbus-daemon"];

/// firewalld's own folder, and the bus that it is asked by.
struct Firewalld {
    folder: tempfile::TempDir,
    _bus: Daemon,
}

impl Firewalld {
    /// Configured to let everything through, as an administrator does who is in a hurry.
    fn configured(backend: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let bus = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">
             <busconfig><type>system</type><listen>unix:path={at}/bus</listen><auth>EXTERNAL</auth>
             <policy context=\"default\"><allow send_destination=\"*\"/><allow receive_sender=\"*\"/>
             <allow own=\"*\"/></policy>
             </busconfig>"
        );
        std::fs::write(folder.path().join("bus.conf"), bus).unwrap();
        let settings = format!(
            "DefaultZone=trusted\nFirewallBackend={backend}\nCleanupOnExit=yes\nLogDenied=off\n"
        );
        std::fs::write(folder.path().join("firewalld.conf"), settings).unwrap();
        let mut command = Command::new("dbus-daemon");
        command.arg(format!("--config-file={at}/bus.conf")).args(["--nofork", "--nopidfile"]);
        let bus = Daemon::start(&mut command, &folder.path().join("bus.log"));
        until(|| folder.path().join("bus").exists());
        Self { folder, _bus: bus }
    }

    fn with_bus(&self, mut command: Command) -> Command {
        let bus = format!("unix:path={}/bus", self.folder.path().display());
        command.env("DBUS_SYSTEM_BUS_ADDRESS", bus);
        command
    }

    fn start(&self, machine: &Namespace) -> Daemon {
        let mut command = self.with_bus(machine.command("firewalld"));
        command.args(["--nofork", "--nopid", "--log-target", "console", "--system-config"]);
        let daemon = Daemon::start(
            command.arg(self.folder.path()),
            &self.folder.path().join("firewalld.log"),
        );
        until(|| {
            let mut state = self.with_bus(machine.command("firewall-cmd"));
            state.arg("--state").output().unwrap().status.success()
        });
        daemon
    }

    fn ask(&self, machine: &Namespace, what: &str) {
        let output = self.with_bus(machine.command("firewall-cmd")).arg(what).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

/// Answers "firewalld, docker and `nft flush ruleset` wipe foreign rules", and Defender for Endpoint, whose
/// isolation any administrator's change lifts.
#[test]
fn firewalld_starts_reloads_and_stops_and_lifts_nothing() {
    if lacks_programs(&PROGRAMS) {
        return;
    }
    for (backend, isolation) in [("nftables", Isolation::Full), ("iptables", Isolation::Segment)] {
        let Some(mut siege) = Siege::lay(isolation) else { return };
        let firewalld = Firewalld::configured(backend);
        let mut daemon = None;
        siege.withstands("firewalld's start", |machine| daemon = Some(firewalld.start(machine)));
        siege.withstands("its reload", |machine| firewalld.ask(machine, "--reload"));
        siege.withstands("its complete reload", |machine| {
            firewalld.ask(machine, "--complete-reload");
        });
        siege.withstands("its stop", |_| daemon.take().unwrap().stop());
        siege.withstands("its start again", |machine| daemon = Some(firewalld.start(machine)));
        siege.lift();
        // What it would have made of a machine on which nothing else ever was.
        let alone = World::new().unwrap();
        let its_own = Firewalld::configured(backend);
        let mut other = its_own.start(&alone.machine);
        let rules = rules_of_others(&siege.bench.world.machine);
        assert_ne!(rules, "");
        assert_eq!(rules, rules_of_others(&alone.machine), "{backend}");
        other.stop();
        daemon.take().unwrap().stop();
        assert_eq!(
            rules_of_others(&siege.bench.world.machine),
            rules_of_others(&alone.machine),
            "what it leaves behind"
        );
    }
}
