//! ufw, with configuration of its own: enabled, reloaded, its rules changed, flushed, disabled.

use cordon_model::measure::Isolation;
use cordon_tests::lacks_programs;

use crate::contain_world::{Namespace, World};
use crate::programs::{rules_of_others, script};
use crate::siege::Siege;

/// ufw's files, copied: it sees them in the place of the system's.
struct Ufw {
    folder: tempfile::TempDir,
}

impl Ufw {
    fn configured() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let text = format!("cp -a /etc/ufw {at}/ufw; cp -a /etc/default/ufw {at}/default");
        assert!(std::process::Command::new("sh").args(["-ec", &text]).status().unwrap().success());
        Self { folder }
    }

    fn run(&self, machine: &Namespace, command: &str) {
        let at = self.folder.path().display();
        // A private /run too: ufw locks a file there, and other machines of this test run it as well.
        let text = format!(
            "mount --bind {at}/ufw /etc/ufw; mount --bind {at}/default /etc/default/ufw
             mount -t tmpfs run /run; {command}"
        );
        script(machine, &text);
    }

    /// What is besieged is allowed in; ufw lets everything out anyway.
    fn enable(&self, machine: &Namespace) {
        self.run(machine, "ufw allow 137/udp; ufw allow 445/tcp; ufw --force enable");
    }
}

/// Answers Defender for Endpoint, whose isolation any administrator's change lifts.
#[test]
fn ufw_is_enabled_reloaded_flushed_and_disabled_and_lifts_nothing() {
    if lacks_programs(&["ufw", "iptables"]) {
        return;
    }
    for isolation in [Isolation::Full, Isolation::Segment] {
        let Some(mut siege) = Siege::lay(isolation) else { return };
        let ufw = Ufw::configured();
        siege.withstands("ufw enable", |machine| ufw.enable(machine));
        siege.withstands("ufw reload", |machine| ufw.run(machine, "ufw reload"));
        siege.withstands("ufw default allow", |machine| {
            ufw.run(machine, "ufw default allow incoming")
        });
        siege.withstands("its unit's restart", |machine| {
            ufw.run(machine, "/lib/ufw/ufw-init force-reload");
        });
        siege.withstands("ufw disable", |machine| ufw.run(machine, "ufw disable"));
        siege.withstands("ufw-init flush-all", |machine| {
            ufw.run(machine, "/lib/ufw/ufw-init flush-all");
        });
        siege.withstands("ufw enable again", |machine| ufw.enable(machine));
        siege.lift();
        let alone = World::new().unwrap();
        let its_own = Ufw::configured();
        its_own.enable(&alone.machine);
        its_own.run(&alone.machine, "ufw default allow incoming");
        its_own.run(&alone.machine, "ufw disable; /lib/ufw/ufw-init flush-all");
        its_own.enable(&alone.machine);
        let rules = rules_of_others(&siege.bench.world.machine);
        assert!(rules.contains("ufw-user-input"), "{rules}");
        assert_eq!(rules, rules_of_others(&alone.machine), "{isolation}");
    }
}
