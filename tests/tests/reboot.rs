//! A virtual machine that really restarts: the real kernel, systemd, the service files of `packaging/`, the
//! real `cordon` in all its roles. It isolates itself by an order of its own hub, is reset as if its power
//! had been cut, and on the wire nothing of the worm in it is seen again.
//!
//! By hand or by `make soak`, for it takes minutes of emulated processor. It needs root (to make the disk's
//! files root's), QEMU, and a kernel below `target/reboot` (`tools/install reboot` puts it there).
//!
//! What it does not show: other service managers, other network managers than systemd-networkd, and what
//! sends before `network-pre.target` on purpose (an initramfs that configures the network by itself).

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cordon_tests::{cordon, lacks_root, root};

/// The kernel's parts that the machine needs: loaded again and again until all that can be are.
const MODULES: &str = "virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk \
    failover net_failover virtio_net libcrc32c nfnetlink nf_defrag_ipv4 nf_defrag_ipv6 nf_conntrack \
    nf_tables nft_ct nf_reject_ipv4 nf_reject_ipv6 nft_reject nft_reject_inet inet_diag tcp_diag udp_diag";

const PROGRAMS: &[&str] = &[
    "/usr/sbin/nft",
    "/lib/systemd/systemd",
    // For `systemd.mask=` on the kernel's command line.
    "/lib/systemd/system-generators/systemd-debug-generator",
    "/lib/systemd/systemd-journald",
    "/lib/systemd/systemd-networkd",
    "/lib/systemd/systemd-shutdown",
    "/bin/systemctl",
    "/bin/systemd-sysusers",
    "/bin/systemd-tmpfiles",
];

const SYSTEM_UNITS: &str = "sysinit.target basic.target multi-user.target network-pre.target network.target \
    network-online.target local-fs.target local-fs-pre.target shutdown.target umount.target final.target \
    reboot.target sockets.target timers.target paths.target slices.target swap.target \
    nss-user-lookup.target systemd-networkd.service systemd-networkd.socket systemd-tmpfiles-setup.service \
    systemd-sysusers.service systemd-journald.service systemd-journald.socket";

/// Modules and disk, before anything looks for local file systems. There is no udev: what it would say of
/// the link, networkd takes as said where it can't write below `/sys`.
const DISK: &str = "[Unit]
DefaultDependencies=no
Before=local-fs.target
After=systemd-journald.socket
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'for i in 1 2 3 4; do for m in /modules/*; do insmod $$m 2>/dev/null; done; done; \
    mount -t ext4 /dev/vda /var/lib/cordon; mount -t tracefs t /sys/kernel/tracing; mount -o remount,ro /sys'
";

/// There from the first moment, and never still.
const WORM: &str = "[Unit]
DefaultDependencies=no
[Service]
ExecStart=/bin/sh -c 'while :; do echo worm | nc -u -w 1 10.77.0.2 137 & \
    ping -c 1 -W 1 10.77.0.2 >/dev/null 2>&1 & sleep 0.3; done'
StandardOutput=null
StandardError=null
";

/// What the kernel holds at the last moment before there is a network. The link's driver is there by then,
/// with the helper and without it.
const LOOK: &str = "[Unit]
After=disk.service
[Service]
ExecStartPre=+/bin/sh -c 'echo \"BEFORE THE NETWORK: tables [$$(nft list tables)] links up [$$(ip -o link show up)]\"'
";

const NETWORK: &str = "[Match]
Name=eth0
[Network]
Address=10.77.0.1/24
[Neighbor]
Address=10.77.0.2
LinkLayerAddress=52:54:00:77:00:02
";

/// The first start isolates the machine and cuts its power; every later one says how it stands.
const SCRIPT: &str = r#"
until_it_says() { n=0; until "$@" 2>/dev/null | grep -q "$wanted"; do n=$((n+1)); [ $n = 100 ] && break; sleep 0.5; done; }
if [ -e /var/lib/cordon/isolated ]; then
    wanted='verified *linked'; until_it_says cordon machines
    for role in helper warden signer hub agent; do echo "ROLE $role $(systemctl is-active cordon-$role)"; done
    cordon machines; echo "IT STANDS: $(cordon machines | grep ward-vm)"
    echo "THE END"; exit
fi
wanted=machines; until_it_says cordon machines
cordon enrol-token > /var/lib/cordon/enrol-token
systemctl start cordon-agent
wanted=linked; until_it_says cordon machines
cordon assign ward-vm --tier 0
cordon isolate ward-vm --mode full --reason test
wanted=verified; until_it_says cordon machines
cordon machines
touch /var/lib/cordon/isolated
sync /var/lib/cordon/isolated
nft list tables | grep -q cordon && echo "ISOLATED"
sleep 2
echo b > /proc/sysrq-trigger
"#;

struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    /// A root file system of this system's own programs and the service files.
    fn assemble(kernel: &Path) -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        let at = |path: &str| machine.path(path);
        for folder in
            ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/lib/systemd/system", "proc", "sys"]
                .into_iter()
                .chain([
                    "dev",
                    "run",
                    "tmp",
                    "var/lib/cordon",
                    "var/log",
                    "etc/cordon",
                    "modules",
                    "root",
                ])
        {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for short in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{short}"), at(short)).unwrap();
        }
        symlink("/run", at("var/run")).unwrap();
        for program in PROGRAMS {
            machine.put(Path::new(program), program);
        }
        for program in ["cordon", "cordon-helper"] {
            machine.put(&cordon().with_file_name(program), &format!("/usr/bin/{program}"));
            let strip = Command::new("strip").arg(at(&format!("usr/bin/{program}"))).status();
            assert!(strip.is_ok_and(|status| status.success()), "strip (package binutils)");
        }
        machine.put(Path::new("/usr/bin/busybox"), "/usr/bin/busybox");
        for name in "sh mount cat echo ls ip insmod ping sleep nc grep sync touch".split(' ') {
            symlink("busybox", at(&format!("usr/bin/{name}"))).unwrap();
        }
        for unit in SYSTEM_UNITS.split_whitespace() {
            let from = Path::new("/lib/systemd/system").join(unit);
            fs::copy(from, at(&format!("usr/lib/systemd/system/{unit}"))).unwrap();
        }
        let packaging = root().join("packaging");
        for unit in fs::read_dir(packaging.join("systemd")).unwrap().map(Result::unwrap) {
            let name = unit.file_name().into_string().unwrap();
            fs::copy(unit.path(), at(&format!("usr/lib/systemd/system/{name}"))).unwrap();
        }
        for kind in ["sysusers.d", "tmpfiles.d"] {
            let text = fs::read_to_string(packaging.join(kind).join("cordon.conf")).unwrap();
            machine.write(&format!("usr/lib/{kind}/cordon.conf"), &text);
        }
        machine
            .write("etc/cordon/hub.env", &fs::read_to_string(packaging.join("hub.env")).unwrap());
        let users = "root:x:0:0::/root:/bin/sh\nsystemd-network:x:998:998::/:/bin/sh\n";
        for (path, text) in [
            ("etc/passwd", users),
            ("etc/group", "root:x:0:\nsystemd-network:x:998:\n"),
            ("etc/nsswitch.conf", "passwd: files\ngroup: files\n"),
            ("etc/hostname", "ward-vm\n"),
            ("etc/os-release", "ID=ward\n"),
            ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
            ("etc/systemd/network/10.network", NETWORK),
            ("etc/systemd/system/disk.service", DISK),
            ("etc/systemd/system/worm.service", WORM),
            ("etc/systemd/system/systemd-networkd.service.d/look.conf", LOOK),
            (
                "etc/systemd/journald.conf.d/console.conf",
                "[Journal]\nForwardToConsole=yes\nStorage=volatile\n",
            ),
            (
                "etc/systemd/system/script.service",
                "[Unit]\nAfter=cordon-hub.service cordon-helper.service\n[Service]\nType=oneshot\n\
                 ExecStart=/bin/sh /script\n",
            ),
            ("script", SCRIPT),
        ] {
            machine.write(path, text);
        }
        let system = "/usr/lib/systemd/system";
        for (target, unit) in [
            ("local-fs.target", "/etc/systemd/system/disk.service".to_owned()),
            ("sysinit.target", "/etc/systemd/system/worm.service".to_owned()),
            ("multi-user.target", "/etc/systemd/system/script.service".to_owned()),
            ("multi-user.target", format!("{system}/systemd-networkd.service")),
            ("sysinit.target", format!("{system}/systemd-journald.service")),
            ("sysinit.target", format!("{system}/systemd-journald.socket")),
            ("sysinit.target", format!("{system}/systemd-tmpfiles-setup.service")),
            ("sysinit.target", format!("{system}/systemd-sysusers.service")),
            ("sysinit.target", format!("{system}/cordon-helper.service")),
            ("sysinit.target", format!("{system}/cordon-warden.service")),
            ("multi-user.target", format!("{system}/cordon-signer.service")),
            ("multi-user.target", format!("{system}/cordon-hub.service")),
            ("multi-user.target", format!("{system}/cordon-agent.service")),
        ] {
            let wants = at(&format!("etc/systemd/system/{target}.wants"));
            fs::create_dir_all(&wants).unwrap();
            symlink(&unit, wants.join(Path::new(&unit).file_name().unwrap())).unwrap();
        }
        symlink(format!("{system}/multi-user.target"), at("etc/systemd/system/default.target"))
            .unwrap();
        symlink("/usr/lib/systemd/systemd", at("init")).unwrap();
        for (number, module) in MODULES.split_whitespace().enumerate() {
            let found =
                Command::new("find").arg(kernel).args(["-name", &format!("{module}.ko")]).output();
            let found = String::from_utf8(found.unwrap().stdout).unwrap();
            if let Some(path) = found.lines().next() {
                fs::copy(path, at(&format!("modules/{number:02}-{module}.ko"))).unwrap();
            }
        }
        let pack =
            "cd \"$0/root\" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1 > ../initrd
            truncate -s 64M ../disk && mkfs.ext4 -q -F ../disk";
        let status = Command::new("sh").args(["-ec", pack]).arg(machine.folder.path()).status();
        assert!(status.unwrap().success());
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("root").join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A program, and the libraries that it names.
    fn put(&self, program: &Path, at: &str) {
        let copy = |from: &Path, to: &str| {
            let to = self.path(to);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            if !to.exists() {
                fs::copy(from, to).unwrap();
            }
        };
        copy(program, at);
        let needed = Command::new("ldd").arg(program).output().unwrap();
        let needed = String::from_utf8(needed.stdout).unwrap();
        for library in needed.split_whitespace().filter(|word| word.starts_with('/')) {
            copy(Path::new(library), library);
        }
    }

    /// Switches it on.
    fn start(&self, kernel: &Path, words: &str) -> Running {
        let socket = self.folder.path().join("cable");
        let _ = fs::remove_file(&socket);
        let cable = UnixListener::bind(&socket).unwrap();
        let at = self.folder.path().display();
        let mut qemu = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-m", "1024", "-display", "none", "-monitor", "none"])
            .args([
                "-serial",
                "stdio",
                "-device",
                "virtio-net-pci,netdev=n,mac=52:54:00:77:00:01,romfile=",
            ])
            .args(["-append", &format!("console=ttyS0 quiet {words}"), "-kernel"])
            .arg(kernel.join("vmlinuz"))
            .args(["-initrd", &format!("{at}/initrd")])
            .args(["-drive", &format!("file={at}/disk,if=virtio,format=raw")])
            .args([
                "-netdev",
                &format!("stream,id=n,server=off,addr.type=unix,addr.path={at}/cable"),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let frames = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&frames);
        std::thread::spawn(move || {
            let (mut stream, _) = cable.accept().unwrap();
            let mut speaks = stream.try_clone().unwrap();
            std::thread::spawn(move || {
                // From outside too: SMB's port and NetBIOS', to whoever is there.
                while speaks.write_all(&knock()).is_ok() {
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
            let mut length = [0; 4];
            while stream.read_exact(&mut length).is_ok() {
                let mut frame = vec![0; u32::from_be_bytes(length) as usize];
                if stream.read_exact(&mut frame).is_err() {
                    break;
                }
                seen.lock().unwrap().push(frame);
            }
        });
        let (says, lines) = channel();
        let console = BufReader::new(qemu.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in console.lines().map_while(Result::ok) {
                println!("| {line}");
                if says.send(line).is_err() {
                    break;
                }
            }
        });
        Running { qemu, lines, frames, log: String::new() }
    }
}

/// An opening to SMB's port, as it goes over the cable: its length, Ethernet, IPv4, TCP.
fn knock() -> Vec<u8> {
    let sum = |bytes: &[u8]| {
        let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
        let sum: u32 = words.sum();
        !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
    };
    let addresses = [10, 77, 0, 2, 10, 77, 0, 1];
    let mut ip = [&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0][..], &addresses].concat();
    let check = sum(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&check);
    let mut tcp = vec![0x9c, 0x40, 1, 0xbd, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0, 0, 0, 0];
    let check = sum(&[&addresses[..], &[0, 6, 0, 20], &tcp].concat()).to_be_bytes();
    tcp[16..18].copy_from_slice(&check);
    let ethernet = [0x52, 0x54, 0, 0x77, 0, 1, 0x52, 0x54, 0, 0x77, 0, 2, 8, 0];
    let frame = [&ethernet[..], &ip, &tcp].concat();
    let length = u32::try_from(frame.len()).unwrap();
    [length.to_be_bytes().to_vec(), frame].concat()
}

struct Running {
    qemu: Child,
    lines: Receiver<String>,
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    log: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Running {
    /// Waits for a line of the console.
    #[track_caller]
    fn says(&mut self, what: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(600));
            let line = line.unwrap_or_else(|_| panic!("never said {what:?}:\n{}", self.log));
            let _ = writeln!(self.log, "{line}");
            if line.contains(what) {
                return line;
            }
        }
    }

    /// What left the machine and was not housekeeping, since this was asked last.
    fn sent(&self) -> Vec<Vec<u8>> {
        let frames = std::mem::take(&mut *self.frames.lock().unwrap());
        frames.into_iter().filter(|frame| !is_housekeeping(frame)).collect()
    }
}

/// ARP, and what keeps an IPv6 address: solicitations, advertisements, multicast listening.
fn is_housekeeping(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x06]) => true,
        Some([0x86, 0xdd]) => {
            // Multicast listening stands behind one hop-by-hop header (RFC 3810).
            let at = if frame.get(20) == Some(&0) { 62 } else { 54 };
            matches!(frame.get(at), Some(131..=133 | 135 | 136 | 143))
        }
        _ => false,
    }
}

/// Answers Velociraptor on Linux: "lost at reboot"; and the fifth point of a correct isolation, "in force
/// again before the network is".
#[test]
#[ignore = "minutes of an emulated processor: `make soak`, or by hand"]
fn a_machine_that_really_restarts_is_isolated_before_its_network_is_up() {
    let kernel = root().join("target/reboot");
    if lacks_root("a virtual machine") {
        return;
    }
    for (needed, from) in [
        (kernel.join("vmlinuz"), "tools/install reboot"),
        ("/usr/bin/qemu-system-x86_64".into(), "tools/install reboot"),
        ("/usr/bin/busybox".into(), "tools/install test"),
    ] {
        assert!(needed.exists(), "{} is missing: {from}", needed.display());
    }
    let machine = Machine::assemble(&kernel);
    let mut running = machine.start(&kernel, "");
    let first = running.says("BEFORE THE NETWORK");
    assert!(!first.contains("cordon"), "nothing is isolated yet: {first}");
    running.says("ISOLATED");
    let before = running.sent();
    assert!(before.len() > 20, "the worm was at work: {} frames", before.len());
    let answers = before.iter().filter(|frame| frame.get(23) == Some(&6)).count();
    assert!(answers > 0, "and whoever knocked was answered");
    running.says("Resetting");
    let second = running.says("BEFORE THE NETWORK");
    assert!(second.contains("table inet cordon"), "{second}");
    assert!(!second.contains("eth0"), "its link is not up: {second}");
    let stands = running.says("IT STANDS");
    assert!(stands.contains("full, verified") && stands.contains("linked"), "{stands}");
    running.says("THE END");
    for role in ["helper", "warden", "signer", "hub", "agent"] {
        assert!(running.log.contains(&format!("ROLE {role} active")), "{role}");
    }
    assert_eq!(running.sent(), Vec::<Vec<u8>>::new(), "from the isolation on, through the restart");
    drop(running);

    // The same disk, the same worm, and no helper before the network: it does get out.
    let mut running = machine.start(&kernel, "systemd.mask=cordon-helper.service");
    let third = running.says("BEFORE THE NETWORK");
    assert!(!third.contains("cordon"), "{third}");
    while running.sent().is_empty() {
        std::thread::sleep(Duration::from_millis(100));
    }
}
