//! What the real `su` and `sshd` say to a disabled account.

use std::process::{Command, Output, Stdio};

use super::{GROUP, PASSWD, SHADOW, SSHD, Tree, is_root, until};

/// A mount namespace in which `/etc` is a copy with our accounts in it: for the real programs.
struct Machine {
    tree: Tree,
}

impl Machine {
    fn new() -> Option<Self> {
        if !is_root() {
            return None;
        }
        let tree = Tree::new();
        let etc = tree.etc("");
        // Whoever else changes something there meanwhile takes files away that `cp` has seen.
        until(|| {
            let _ = std::fs::remove_dir_all(&etc);
            let copied = Command::new("cp").args(["-a", "/etc"]).arg(&etc).output().unwrap();
            copied.status.success()
        });
        for (name, text) in
            [("passwd", &*format!("{PASSWD}{SSHD}")), ("group", GROUP), ("shadow", SHADOW)]
        {
            let mut all = std::fs::read_to_string(tree.etc(name)).unwrap();
            let known: Vec<String> =
                all.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect();
            for line in text.lines() {
                if !known.iter().any(|name| line.starts_with(&format!("{name}:"))) {
                    all.push_str(line);
                    all.push('\n');
                }
            }
            std::fs::write(tree.etc(name), all).unwrap();
        }
        Some(Self { tree })
    }

    fn runs(&self, script: &str) -> Output {
        let script = format!(
            "mount --bind '{}' /etc && mount -t tmpfs none /run && mkdir /run/sshd && {script}",
            self.tree.etc("").display()
        );
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

#[test]
fn the_real_su_lets_a_disabled_account_in_no_more_and_again_after_the_undo() {
    let Some(machine) = Machine::new() else { return };
    // As root, su asks for no password: what refuses is PAM's account phase, which keys pass too.
    let su = || machine.runs("su probe -c 'id -un'");
    let output = su();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "probe\n", "{output:?}");
    let applied = machine.tree.disable("probe").unwrap();
    let output = su();
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("expired"), "{output:?}");
    assert!(machine.tree.accounts().undo(&applied).unwrap().is_exact());
    assert_eq!(String::from_utf8_lossy(&su().stdout), "probe\n");
}

#[test]
fn the_real_sshd_refuses_a_disabled_accounts_key_with_pam_and_without() {
    let Some(machine) = Machine::new() else { return };
    if cordon_tests::lacks_programs(&["sshd", "ssh"]) {
        return;
    }
    // It starts itself anew for each connection, and wants to know where it is.
    let sshd = "/usr/sbin/sshd";
    let root = machine.tree.root();
    let keys = root.join("keys");
    let script = format!(
        "mkdir -p {keys} && cd {keys} && ssh-keygen -q -t ed25519 -N '' -f host && \
         ssh-keygen -q -t ed25519 -N '' -f user && cp user.pub authorized && chmod 711 {root} && \
         chmod 755 {keys} && chmod 644 authorized",
        keys = keys.display(),
        root = root.display(),
    );
    let output = machine.runs(&script);
    assert!(output.status.success(), "{output:?}");
    let signs_in = |pam: &str| {
        let keys = keys.display();
        let output = machine.runs(&format!(
            "ssh -F none -i {keys}/user -o BatchMode=yes -o StrictHostKeyChecking=no \
             -o UserKnownHostsFile=/dev/null -o ProxyCommand='{sshd} -i -e -f /dev/null -h {keys}/host \
             -o UsePAM={pam} -o StrictModes=no -o AuthorizedKeysFile={keys}/authorized' \
             probe@machine id -un"
        ));
        eprintln!("UsePAM={pam}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout == b"probe\n"
    };
    assert!(signs_in("yes") && signs_in("no"));
    let applied = machine.tree.disable("probe").unwrap();
    assert!(!signs_in("yes") && !signs_in("no"));
    machine.tree.accounts().undo(&applied).unwrap();
    assert!(signs_in("yes") && signs_in("no"));
}
