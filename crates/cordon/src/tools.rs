//! The tools: check the ledger, practise, simulate.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use cordon_drill::outbreak::{self, OutbreakArgs};
use cordon_sim::{Options, Scenario, simulate as run_simulation};
use ed25519_dalek::{SigningKey, VerifyingKey};

use crate::cli::StateArg;

/// Which ledger or archive of evidence to check, and by which key.
#[derive(Debug, Clone, clap::Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    state: StateArg,
    /// A ledger's directory, or an archive of evidence; the hub's own ledger if not given.
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// Of a ledger: the signer's public ledger key, 64 hexadecimal digits, from where the hub could not
    /// change it (the signer's printed card, a safe); without it the signer's own directory is read, which
    /// needs root. Of an archive: the receipt key of the machine that it is from.
    #[arg(long, value_name = "HEX")]
    key: Option<String>,
}

/// Checks a ledger or an archive; exit status 0 if it is sound, 1 if not.
pub fn verify(args: &VerifyArgs) -> Result<ExitCode> {
    if let Some(archive) = args.path.as_deref().filter(|path| path.is_file()) {
        return verify_archive(archive, args.key.as_deref());
    }
    let layout = args.state.layout();
    let ledger = args.path.clone().unwrap_or_else(|| layout.hub().join("ledger"));
    let key = match &args.key {
        Some(hex) => key_from_hex(hex)?,
        None => key_from_signer(&layout.signer().join("ledger.key"))?,
    };
    let report = cordon_evidence::verify(&ledger, &key)
        .with_context(|| format!("checking {}", ledger.display()))?;
    println!("{}", ledger.display());
    println!("checked by the key {}", hex(&key.to_bytes()));
    println!("{report}");
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verify_archive(archive: &std::path::Path, key: Option<&str>) -> Result<ExitCode> {
    let key = key.map(key_from_hex).transpose()?;
    let file =
        std::fs::File::open(archive).with_context(|| format!("opening {}", archive.display()))?;
    let (is_sound, report) = crate::evidence::check(file, key.as_ref())
        .with_context(|| format!("checking {}", archive.display()))?;
    println!("{}", archive.display());
    if let Some(key) = key {
        println!("checked by the key {}", hex(&key.to_bytes()));
    }
    println!("{report}");
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(crate) fn key_from_hex(text: &str) -> Result<VerifyingKey> {
    let wrong = "a key has 64 hexadecimal digits";
    let text = text.trim();
    anyhow::ensure!(text.len() == 64 && text.is_ascii(), wrong);
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).context(wrong)?;
    }
    VerifyingKey::from_bytes(&bytes).context("these digits are no Ed25519 key")
}

fn key_from_signer(path: &std::path::Path) -> Result<VerifyingKey> {
    let reading =
        || format!("reading {}: run as root, or give the public key with --key", path.display());
    let bytes = std::fs::read(path).with_context(reading)?;
    let seed: [u8; 32] = bytes.as_slice().try_into().ok().with_context(reading)?;
    Ok(SigningKey::from_bytes(&seed).verifying_key())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What to practise.
#[derive(Debug, Clone, clap::Args)]
pub struct DrillArgs {
    #[command(subcommand)]
    drill: Drill,
}

#[derive(Debug, Clone, Subcommand)]
enum Drill {
    /// A harmless worm in a hospital of network namespaces, without Cordon and with it
    Outbreak {
        #[command(flatten)]
        args: OutbreakArgs,
        /// Drill even though this machine's own hub is in mode act, and may isolate this machine because
        /// of what the drill's worm does.
        #[arg(long)]
        even_so: bool,
    },
}

/// Practises; exit status 1 if harm was seen.
pub fn drill(args: &DrillArgs) -> Result<ExitCode> {
    let Drill::Outbreak { args, even_so } = &args.drill;
    if !even_so && crate::control::own_hub_acts() {
        anyhow::bail!(
            "this machine's own hub is in mode act: its agent would see the drill's worm and isolate this \
             machine. Set the mode to ask first (cordon policy mode ask), or give --even-so"
        );
    }
    let report = outbreak::run(args)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    if let Err(harm) = outbreak::judge(&report) {
        eprintln!("cordon: {harm}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Addresses that a drill's neighbour tries.
#[derive(Debug, Clone, clap::Args)]
pub struct DrillProbeArgs {
    #[arg(long, value_delimiter = ',')]
    addresses: Vec<IpAddr>,
}

/// Tries them.
pub fn drill_probe(args: &DrillProbeArgs) -> ExitCode {
    cordon_drill::cast::probe(&args.addresses);
    ExitCode::SUCCESS
}

/// How long a drill starts processes.
#[derive(Debug, Clone, clap::Args)]
pub struct DrillSpawnArgs {
    #[arg(long)]
    seconds: u64,
}

/// Starts processes, and prints how many.
pub fn drill_spawn(args: &DrillSpawnArgs) -> ExitCode {
    println!("{}", cordon_drill::cast::spawn_for(Duration::from_secs(args.seconds)));
    ExitCode::SUCCESS
}

/// What to simulate.
#[derive(Debug, Clone, clap::Args)]
pub struct SimulateArgs {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds; if not said, 1,000, and 1 for wrong-rule.
    #[arg(long)]
    seeds: Option<u64>,
    /// What happens: everything, wrong-rule (one bad rule on many machines) or stolen-hub (an adversary in
    /// the hub's place).
    #[arg(long, default_value_t = Scenario::Everything)]
    scenario: Scenario,
    /// On how many machines; if not said, 8, and 1,000 for wrong-rule.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    machines: Option<u32>,
    /// Print what happened as JSON.
    #[arg(long)]
    json: bool,
    /// Print every step.
    #[arg(long)]
    trace: bool,
}

/// Simulates; exit status 1 if a law was broken, with the way to replay it.
pub fn simulate(args: &SimulateArgs) -> Result<ExitCode> {
    let options = Options {
        seed: args.seed,
        seeds: args.seeds.unwrap_or_else(|| args.scenario.usual_seeds()),
        scenario: args.scenario,
        machines: args.machines.map(|machines| machines as usize),
        trace: args.trace,
        ..Options::default()
    };
    match run_simulation(&options) {
        Ok(summary) => {
            if args.json {
                println!("{}", serde_json::to_string_pretty(&summary)?);
            } else {
                print!("{summary}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            eprintln!("{failure}");
            Ok(ExitCode::FAILURE)
        }
    }
}
