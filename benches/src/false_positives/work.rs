//! Normal work of machines, as it really runs here: each a script for `sh` in a directory of its own.
//!
//! A script needs programs; where one is missing the work is left out, and that is printed. None of them
//! changes anything outside of its directory, and none needs a network beyond loopback.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

/// One kind of work.
pub struct Work {
    /// What it is called in the output.
    pub name: &'static str,
    /// Without these it can't be done.
    needs: &'static [&'static str],
    script: &'static str,
}

/// All of it, in the order of a machine's day.
pub const ALL: &[Work] = &[
    Work {
        name: "build",
        needs: &["cargo", "cc"],
        script: r#"
mkdir -p crate/src && cd crate
printf '[package]\nname = "ward"\nversion = "0.1.0"\nedition = "2021"\n[workspace]\n' > Cargo.toml
printf 'fn main() { println!("cargo::rerun-if-changed=build.rs"); }\n' > build.rs
printf 'fn main() { println!("ready"); }\n#[test]\nfn adds() { assert_eq!(1 + 1, 2); }\n' > src/main.rs
cargo build --offline --quiet && cargo test --offline --quiet && ./target/debug/ward
cd .. && mkdir -p c && cd c
printf 'int main(void) { return 0; }\n' > a.c
printf 'all: a\n\t./a\na: a.c\n\tcc -O1 -o a a.c\ninstall: a\n\tinstall -D -m755 a root/usr/bin/a\n' > Makefile
make && make install && strip root/usr/bin/a && ldd root/usr/bin/a
"#,
    },
    Work {
        name: "versions",
        needs: &["git"],
        script: r#"
git init -q one && cd one
for n in 1 2 3; do echo $n > file && git add file && git -c user.name=a -c user.email=a@example.org commit -q -m $n; done
cd .. && git clone -q one two && cd two && git log --oneline && git status --short && git gc -q && git archive HEAD | tar t
"#,
    },
    Work {
        name: "packages",
        needs: &["apt-get", "dpkg-deb", "dpkg"],
        script: r#"
apt-get -s upgrade; apt-get -s install --reinstall bash; apt-cache policy bash; dpkg -l; dpkg -V coreutils; dpkg -S /bin/ls
mkdir -p p/DEBIAN p/usr/share/ward p/etc/ward root/var/lib/dpkg/updates root/var/lib/dpkg/info && touch root/var/lib/dpkg/status
printf 'Package: ward\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: a test\n' > p/DEBIAN/control
printf '#!/bin/sh\nset -e\nif [ "$1" = configure ]; then chown -R root:root "$DPKG_ROOT/usr/share/ward"; chmod 0644 "$DPKG_ROOT/etc/ward/ward.conf"; fi\n' > p/DEBIAN/postinst
printf '#!/bin/sh\nset -e\nrm -rf "$DPKG_ROOT/var/cache/ward"\n' > p/DEBIAN/postrm
chmod 755 p/DEBIAN/postinst p/DEBIAN/postrm; echo a=1 > p/etc/ward/ward.conf; echo hello > p/usr/share/ward/text
dpkg-deb --root-owner-group -b p ward.deb && dpkg-deb -I ward.deb && dpkg-deb -c ward.deb
for n in 1 2; do dpkg --root="$PWD/root" --force-all --force-script-chrootless -i ward.deb; done
dpkg --root="$PWD/root" --force-all --force-script-chrootless -P ward
"#,
    },
    Work {
        name: "backups",
        needs: &["tar", "gzip", "find"],
        script: r#"
mkdir -p store/daily
tar -C / -czf store/daily/etc.tar.gz --exclude=etc/ssl etc
tar -C /usr/share -cf - doc/bash 2>/dev/null | gzip -9 > store/daily/doc.tar.gz
( cd store/daily && sha256sum *.gz > SUMS && sha256sum -c SUMS )
cp -al store/daily store/yesterday
find store -name '*.gz' -mtime +30 -delete; find store -type d -empty -delete
for n in 9 8 7 6; do touch store/old.$n; done; rm -rf store/old.9 store/yesterday
command -v rsync && rsync -a --delete /usr/share/doc/bash/ store/doc/
command -v zstd && tar -C /etc -cf - apt | zstd -q -o store/apt.tar.zst
command -v xz && xz -k store/daily/SUMS
command -v gpg && gpg --batch --homedir "$PWD" --passphrase example --pinentry-mode loopback -c -o store/doc.gpg store/daily/doc.tar.gz
cp -a /etc/passwd /etc/group store/; du -sh store; df -h .; sync store
"#,
    },
    Work {
        name: "databases",
        needs: &["sqlite3", "python3"],
        script: r#"
sqlite3 lab.db 'create table result(id integer primary key, value text); insert into result(value) values("7.2");'
for n in 1 2 3 4 5; do sqlite3 lab.db 'insert into result(value) select value from result; select count(*) from result;'; done
sqlite3 lab.db '.backup copy.db'; sqlite3 lab.db .dump | gzip > lab.sql.gz; sqlite3 lab.db vacuum
python3 -c 'import sqlite3,json; print(json.dumps(sqlite3.connect("lab.db").execute("select * from result").fetchall())[:20])'
python3 -m json.tool --help; python3 -m venv --without-pip env && env/bin/python -c 'import sys; print(sys.prefix)'
command -v perl && perl -e 'print join(",", sort keys %ENV), "\n"'
"#,
    },
    Work {
        name: "serving",
        needs: &["python3", "curl"],
        script: r#"
mkdir -p site && echo well > site/health
python3 -m http.server --bind 127.0.0.1 --directory site 18080 >server.log 2>&1 & server=$!
for n in 1 2 3 4 5 6 7 8 9 10; do curl -fsS --retry 20 --retry-connrefused --retry-delay 1 -o /dev/null http://127.0.0.1:18080/health; done
sh -c 'curl -fsS http://127.0.0.1:18080/health | grep -q well' && echo healthy
timeout 5 bash -c '</dev/tcp/127.0.0.1/18080' && echo open
kill $server
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 1 -subj /CN=localhost
openssl x509 -in cert.pem -noout -enddate
"#,
    },
    Work {
        name: "logins",
        needs: &["sshd", "ssh", "ssh-keygen", "scp"],
        script: r#"
mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f user
cp user.pub authorized; chmod 600 authorized
printf 'Port 18022\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/authorized\nStrictModes no\nUsePAM no\nPidFile %s/pid\nSubsystem sftp internal-sftp\nPermitRootLogin yes\n' "$PWD" "$PWD" "$PWD" > sshd_config
"$(command -v sshd)" -f "$PWD/sshd_config"
printf 'Host ward\n HostName 127.0.0.1\n Port 18022\n User root\n IdentityFile %s/user\n IdentitiesOnly yes\n UserKnownHostsFile %s/known\n StrictHostKeyChecking accept-new\n' "$PWD" "$PWD" > config
for n in 1 2 3; do ssh -F config ward 'uptime; df -h /; free -m; who'; done
ssh -F config ward 'systemctl --no-pager list-timers; journalctl -n 5 --no-pager; tail -n 3 /var/log/dpkg.log'
echo a > file; scp -q -F config file ward:"$PWD/file2"; ssh -F config ward "test -f $PWD/file2 && cat $PWD/file2"
kill "$(cat pid)"
su nobody -s /bin/sh -c 'id; ls /'; runuser -u nobody -- env
"#,
    },
    Work {
        name: "timers",
        needs: &["run-parts", "sh"],
        script: r#"
mkdir -p daily
printf '#!/bin/sh\ntest -x /usr/bin/dpkg || exit 0\ncp -p /var/lib/dpkg/status status.0 && gzip -9f status.0\n' > daily/dpkg
printf '#!/bin/sh\nfind . -name "*.tmp" -mtime +7 -print0 | xargs -0 -r rm -f\n' > daily/tidy
printf '#!/bin/sh\ncat log >> log.1; : > log; gzip -f log.1; chmod 640 log; logger -s rotated 2>/dev/null || true\n' > daily/rotate
chmod 755 daily/*; echo line > log
for n in 1 2 3; do /bin/sh -c 'cd . && run-parts --report daily'; done
/bin/sh -c 'test -x /usr/sbin/anacron || ( cd . && run-parts --report daily )'
systemctl --version; systemd-analyze --version; systemd-tmpfiles --version; systemd-escape a/b
"#,
    },
    Work {
        name: "containers",
        needs: &["unshare", "chroot", "mount"],
        script: r#"
unshare --fork --pid --mount-proc --net --uts --ipc sh -c 'hostname box; ip link set lo up; ps aux; id'
mkdir -p box/bin box/proc box/tmp && cp "$(command -v busybox || command -v true)" box/bin/program
if command -v busybox; then ln -sf program box/bin/sh; ln -sf program box/bin/ls
unshare --fork --pid --mount sh -c 'mount -t proc proc box/proc && mount -t tmpfs tmpfs box/tmp && exec chroot box /bin/sh -c "ls -l / /proc/self"'; fi
unshare --user --map-root-user id
command -v docker && docker version
true
"#,
    },
    Work {
        name: "watching",
        needs: &["ps", "find", "grep"],
        script: r#"
for n in 1 2 3; do ps aux; uptime; df -P; cat /proc/loadavg /proc/meminfo; done
ip addr; ip route; command -v ss && ss -tlnp; mount; lsblk; lsmod; sysctl -a; id; who; last -n 3
getent passwd root; ls -l /etc/shadow /etc/sudoers; stat /etc/passwd; find /usr/bin -perm -4000 -ls
find /var/log -name '*.log' -size +100M; grep -c . /etc/passwd; grep -rn PermitRootLogin /etc/ssh; sshd -T
command -v nft && nft list ruleset; command -v openssl && openssl version; awk -F: '$3 == 0' /etc/passwd
dmesg | tail -n 5; pgrep -a sshd; uname -a; cat /etc/os-release; timedatectl; hostname; nproc; env | sort
"#,
    },
];

impl Work {
    /// Does it once. Returns how it ended, in words. What a step of it says with its exit status is not
    /// judged: on some machine each of them has nothing to do.
    ///
    /// # Errors
    /// When there is no shell or no directory.
    pub fn run(&self) -> Result<String> {
        let is_there = |program: &&&str| {
            let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).output();
            found.is_ok_and(|output| output.status.success())
        };
        if let Some(missing) = self.needs.iter().find(|program| !is_there(program)) {
            return Ok(format!("left out: no {missing}"));
        }
        let home = std::env::temp_dir().join(format!(
            "cordon-bench-work-{}-{}",
            std::process::id(),
            self.name
        ));
        std::fs::create_dir_all(&home).context("making a directory to work in")?;
        // As a file: given by `-c`, a day's commands would all stand in one command line.
        std::fs::write(home.join("work"), format!("ip link set lo up\n{}", self.script))?;
        let status = Command::new("sh")
            .arg("work")
            .current_dir(&home)
            // What a build was told by the one that runs this must not reach the builds in here.
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTFLAGS")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("starting sh")?;
        std::fs::remove_dir_all(&home).context("cleaning up after the work")?;
        Ok(format!("{status}"))
    }
}
