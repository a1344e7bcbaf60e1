//! The harmless worm, and the machines that it finds.
//!
//! The one idea: everything that Cordon sees of it is real (a process started from a hidden directory
//! under a world-writable one, under a kernel thread's name, that connects to its neighbours' TCP 445)
//! and nothing that it does outlives it. "Infection" is a process started by the host that was asked;
//! the worm writes nothing but its own line in the drill's log, never leaves the drill's addresses,
//! ends by itself, and is only ever started by a host of the drill.
//!
//! A *drill host* stands for a machine with an unpatched service: it listens on SMB's port, starts the
//! worm once when it is asked to, and, where the machine shows images, keeps a session to the PACS open
//! and counts what it loses.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cordon_model::time::BootNanos;
use serde::{Deserialize, Serialize};

use crate::hospital::{DICOM, SMB};

/// What the worm sends; anything else is ignored.
const EXPLOIT: &[u8; 8] = b"DRILL!01";
/// The worm stops after this many tries whatever happens: 600 tries at 100 ms are one minute.
const MOST_TRIES: u32 = 600;
/// How often a viewer asks the PACS whether it is there.
const ECHO_EVERY: Duration = Duration::from_millis(50);
/// Without an answer for this long, a session counts as broken. A clinician notices at about a second.
const ECHO_LOST_AFTER: Duration = Duration::from_secs(1);

/// A line in the drill's log. Each process appends whole lines to one file of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what", deny_unknown_fields)]
pub enum LogLine {
    /// A host is about to start the worm: the moment that counts as its infection.
    Infected {
        /// The host.
        host: String,
        /// Boot time just before the worm's process was started.
        at: BootNanos,
        /// Who infected it; `None` for the first.
        by: Option<IpAddr>,
    },
    /// A lifeline's session broke.
    LifelineBroken {
        /// The host.
        host: String,
        /// When.
        at: BootNanos,
        /// What was seen.
        why: String,
    },
    /// How many echoes a lifeline's session had answered, written at the end.
    LifelineEchoes {
        /// The host.
        host: String,
        /// Answered echoes.
        answered: u64,
        /// The longest wait for one.
        longest_wait_ms: u64,
    },
}

/// Boot time now (`CLOCK_BOOTTIME`).
#[must_use]
pub fn boot_now() -> BootNanos {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(BootNanos(0), |time| {
        let nanos = i128::from(time.tv_sec()) * 1_000_000_000 + i128::from(time.tv_nsec());
        BootNanos(u64::try_from(nanos).unwrap_or(0))
    })
}

/// How a drill host is to behave. Passed as arguments of a hidden subcommand.
#[derive(Debug, Clone, clap::Args)]
pub struct HostArgs {
    /// This host's name.
    #[arg(long)]
    pub name: String,
    /// File that log lines are appended to.
    #[arg(long)]
    pub log: PathBuf,
    /// The worm's program, in its hidden directory.
    #[arg(long)]
    pub worm: PathBuf,
    /// Keep a session to the PACS at this address.
    #[arg(long)]
    pub pacs: Option<IpAddr>,
    /// Serve as the PACS instead.
    #[arg(long)]
    pub is_pacs: bool,
}

/// How the worm is to behave.
#[derive(Debug, Clone, clap::Args)]
pub struct WormArgs {
    /// Seed of its choice of neighbours.
    #[arg(long)]
    pub seed: u64,
    /// Milliseconds between two tries.
    #[arg(long)]
    pub every: u64,
    /// Its neighbours.
    #[arg(long, value_delimiter = ',')]
    pub neighbours: Vec<IpAddr>,
}

struct Log(Mutex<std::fs::File>);

impl Log {
    fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        Ok(Self(Mutex::new(file.with_context(|| format!("opening {}", path.display()))?)))
    }

    fn write(&self, line: &LogLine) {
        let mut text = serde_json::to_string(line).unwrap_or_default();
        text.push('\n');
        let mut file = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // One write of one line: appends of different processes do not mix.
        let _ = file.write_all(text.as_bytes());
    }
}

/// Runs a drill host until its standard input ends. Commands come as lines there:
/// `infect SEED EVERY ADDRESS,ADDRESS…` starts the worm as patient zero, `reset` ends it and makes the
/// host vulnerable again (answered by `ready`), and the end of input ends everything.
///
/// # Errors
/// If a port can't be opened or the log can't be written.
pub fn run_host(args: HostArgs) -> Result<()> {
    let log: &'static Log = Box::leak(Box::new(Log::open(&args.log)?));
    let args: &'static HostArgs = Box::leak(Box::new(args));
    if args.is_pacs {
        let listener = TcpListener::bind((IpAddr::from([0, 0, 0, 0]), DICOM))
            .context("opening the PACS's port")?;
        thread::spawn(move || serve_pacs(&listener));
    } else {
        let infection: &'static Infection = Box::leak(Box::default());
        let listener = TcpListener::bind((IpAddr::from([0, 0, 0, 0]), SMB))
            .context("opening the vulnerable port")?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    if let Some((plan, by)) = receive_exploit(stream) {
                        infection.begin(args, log, &plan, Some(by));
                    }
                });
            }
        });
        if let Some(pacs) = args.pacs {
            thread::spawn(move || keep_lifeline(args, log, pacs));
        }
        println!("ready");
        for line in std::io::stdin().lock().lines() {
            let line = line.context("reading a command")?;
            let mut words = line.splitn(2, ' ');
            match (words.next(), words.next()) {
                (Some("infect"), Some(plan)) => infection.begin(args, log, plan, None),
                (Some("reset"), None) => {
                    infection.end();
                    println!("ready");
                }
                _ => anyhow::bail!("a drill host knows no command {line:?}"),
            }
        }
        infection.end();
        return Ok(());
    }
    println!("ready");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())
        .context("waiting for the drill's end")?;
    Ok(())
}

/// Whether the host runs the worm; a worm does not infect a machine twice.
#[derive(Default)]
struct Infection {
    is_infected: AtomicBool,
    child: Mutex<Option<Child>>,
}

impl Infection {
    fn begin(&self, args: &HostArgs, log: &Log, plan: &str, by: Option<IpAddr>) {
        if self.is_infected.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut words = plan.split(' ');
        let (Some(seed), Some(every), Some(neighbours)) =
            (words.next(), words.next(), words.next())
        else {
            return;
        };
        let mut command = Command::new(&args.worm);
        command
            .args(["drill-worm", "--seed", seed, "--every", every, "--neighbours", neighbours])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Taken before the process exists, so that the latency that is printed is the longer one.
        let at = boot_now();
        match command.spawn() {
            Ok(child) => {
                log.write(&LogLine::Infected { host: args.name.clone(), at, by });
                *self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(child);
            }
            Err(error) => eprintln!("{}: the worm did not start: {error}", args.name),
        }
    }

    fn end(&self) {
        let child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(mut child) = child {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.is_infected.store(false, Ordering::SeqCst);
    }
}

/// Reads `EXPLOIT`, a length byte pair and the plan; `None` for anything else.
fn receive_exploit(mut stream: TcpStream) -> Option<(String, IpAddr)> {
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let by = stream.peer_addr().ok()?.ip();
    let mut head = [0; 10];
    stream.read_exact(&mut head).ok()?;
    if &head[..8] != EXPLOIT {
        return None;
    }
    let mut plan = vec![0; usize::from(u16::from_be_bytes([head[8], head[9]]))];
    stream.read_exact(&mut plan).ok()?;
    Some((String::from_utf8(plan).ok()?, by))
}

/// The worm: at each beat it asks one neighbour, chosen by its seed, to start another.
///
/// # Errors
/// None that matter: what a neighbour refuses is tried on another.
pub fn run_worm(args: &WormArgs) -> Result<()> {
    let mut random = SplitMix(args.seed);
    let every = Duration::from_millis(args.every.max(1));
    let list: Vec<String> = args.neighbours.iter().map(ToString::to_string).collect();
    for _ in 0..MOST_TRIES {
        thread::sleep(every);
        if args.neighbours.is_empty() {
            continue;
        }
        let pick = usize::try_from(random.draw() % args.neighbours.len() as u64).unwrap_or(0);
        let target = SocketAddr::new(args.neighbours[pick], SMB);
        let plan = format!("{} {} {}", random.draw(), args.every, list.join(","));
        // In a thread: a connect that is dropped hangs, and a worm does not wait.
        thread::spawn(move || {
            let Ok(mut stream) = TcpStream::connect_timeout(&target, Duration::from_secs(1)) else {
                return;
            };
            let length = u16::try_from(plan.len()).unwrap_or(0).to_be_bytes();
            let _ = stream.write_all(&[EXPLOIT.as_slice(), &length, plan.as_bytes()].concat());
        });
    }
    Ok(())
}

/// The PACS answers each byte with itself: a stand-in for C-ECHO that keeps an association open.
fn serve_pacs(listener: &TcpListener) {
    for mut stream in listener.incoming().flatten() {
        thread::spawn(move || {
            let _ = stream.set_nodelay(true);
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
        });
    }
}

/// One session for the whole drill, as a viewer holds it; every loss is written down.
fn keep_lifeline(args: &HostArgs, log: &Log, pacs: IpAddr) {
    let broken = |why: String| {
        log.write(&LogLine::LifelineBroken { host: args.name.clone(), at: boot_now(), why });
    };
    loop {
        let session = TcpStream::connect_timeout(&SocketAddr::new(pacs, DICOM), ECHO_LOST_AFTER)
            .and_then(|stream| {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(ECHO_LOST_AFTER))?;
                Ok(stream)
            });
        let mut session = match session {
            Ok(session) => BufReader::new(session),
            Err(error) => {
                broken(format!("the PACS can't be reached: {error}"));
                thread::sleep(ECHO_LOST_AFTER);
                continue;
            }
        };
        let (mut answered, mut longest) = (0_u64, Duration::ZERO);
        loop {
            let began = boot_now();
            let mut byte = [0x30];
            let echo =
                session.get_mut().write_all(&byte).and_then(|()| session.read_exact(&mut byte));
            if let Err(error) = echo {
                broken(format!("after {answered} echoes: {error}"));
                break;
            }
            answered += 1;
            longest = longest.max(boot_now().since(began));
            // Written now and then, as the host may be ended at any moment.
            if answered.is_multiple_of(20) {
                log.write(&LogLine::LifelineEchoes {
                    host: args.name.clone(),
                    answered,
                    longest_wait_ms: u64::try_from(longest.as_millis()).unwrap_or(u64::MAX),
                });
            }
            thread::sleep(ECHO_EVERY);
        }
    }
}

/// Sebastiano Vigna's SplitMix64: enough to choose neighbours, and the same on every machine.
#[derive(Debug, Clone)]
pub struct SplitMix(pub u64);

impl SplitMix {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
