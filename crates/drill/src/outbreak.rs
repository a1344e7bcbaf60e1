//! `cordon drill outbreak`: the same outbreak without Cordon, with it, and with the hub cut off.
//!
//! The one idea: the drill uses Cordon as its users do. It starts the real roles, speaks to the hub by
//! the command line, and believes only what the kernel and the machines' own journals say: who was
//! infected is written by the drill's hosts, when a machine was isolated by its helper's read-back, and
//! whether it holds is tried from a neighbour.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cordon_model::time::BootNanos;
use cordon_respond::helper_core::OWN_BUDGET;

use crate::cast::Cast;
use crate::hospital::{self, Machine};
use crate::report::{LifelineCount, Outbreak, Report, Timeline};
use crate::worm::{LogLine, SplitMix};

/// Without Cordon an outbreak may take this long to reach everybody. With one new machine per host each
/// 100 ms the last of 20 falls in about a second; a slow machine gets room.
const LONGEST_OUTBREAK: Duration = Duration::from_secs(30);
/// After the machine is isolated the worm gets this many more beats to show that it can't spread.
const BEATS_AFTER: u32 = 10;
/// A hospital plays so many runs, then another one begins: the signer lets no policy isolate more than 50
/// machines in ten minutes, and each run is given room for two.
const RUNS_PER_HOSPITAL: usize = 20;
/// And so many with its hub cut off. Each uses up the permit of its first victim, twenty machines have
/// eight, and the signer gives no machine a new one at once.
const CUT_OFF_RUNS_PER_HOSPITAL: usize = 5;
/// How long to wait for a machine to be isolated, released, or to come back.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to drill.
#[derive(Debug, Clone, clap::Args)]
pub struct OutbreakArgs {
    /// Machines in the hospital.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(2..=200))]
    pub machines: u16,
    /// Outbreaks, each with its own seed and first victim.
    #[arg(long, default_value_t = 3)]
    pub runs: u32,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Milliseconds between two tries of each infected machine.
    #[arg(long, default_value_t = 100)]
    pub every: u64,
    /// How many of the runs are played without Cordon too, the last ones; all if not given.
    #[arg(long)]
    pub unprotected_runs: Option<u32>,
    /// How many of the runs are repeated with the hub cut off before they start.
    #[arg(long, default_value_t = 1)]
    pub cut_off_runs: u32,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Write the picture here.
    #[arg(long, value_name = "FILE.svg")]
    pub picture: Option<PathBuf>,
}

/// Runs the drill and prints its report.
///
/// # Errors
/// If the drill can't be set up (no root, no nft) or a role does not start. A worm that wins is a result
/// and not an error.
pub fn run(args: &OutbreakArgs) -> Result<Report> {
    let hospital = hospital::machines(usize::from(args.machines));
    let mut seen = Seen::default();
    for share in shares(args)? {
        drill_one_hospital(&hospital, &share, args.every, &mut seen)?;
    }
    let Seen { without, with, cut_off, lifelines } = seen;
    let report = Report::new(&hospital, args.every, without, with, cut_off, lifelines);
    if let Some(path) = &args.picture {
        std::fs::write(path, crate::picture::draw(&report))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(report)
}

/// What was seen in all hospitals.
#[derive(Default)]
struct Seen {
    without: Vec<Outbreak>,
    with: Vec<Outbreak>,
    cut_off: Vec<Outbreak>,
    lifelines: LifelineCount,
}

/// What one hospital plays.
#[derive(Debug, PartialEq, Eq)]
struct Share {
    /// Seeds of its runs with Cordon…
    seeds: Vec<u64>,
    /// …of which so many, the last ones, are played without it first…
    unprotected: usize,
    /// …and so many are repeated with the hub cut off.
    cut_off: usize,
}

/// Who plays what: each hospital its runs in order, those with the hub cut off spread evenly.
fn shares(args: &OutbreakArgs) -> Result<Vec<Share>> {
    let seeds: Vec<u64> = (0..u64::from(args.runs)).map(|run| args.seed + run).collect();
    let chunks: Vec<&[u64]> = seeds.chunks(RUNS_PER_HOSPITAL).collect();
    let (mut unprotected, mut cut_off) =
        (args.unprotected_runs.unwrap_or(args.runs) as usize, args.cut_off_runs as usize);
    let room = chunks.len() * CUT_OFF_RUNS_PER_HOSPITAL;
    if cut_off > room {
        bail!(
            "{} runs leave room for {room} with the hub cut off, and not for {cut_off}",
            args.runs
        );
    }
    let mut shares = Vec::new();
    for (left, seeds) in (1..=chunks.len()).rev().zip(chunks.into_iter().rev()) {
        let share = Share {
            seeds: seeds.to_vec(),
            unprotected: unprotected.min(seeds.len()),
            cut_off: cut_off.div_ceil(left),
        };
        unprotected -= share.unprotected;
        cut_off -= share.cut_off;
        shares.push(share);
    }
    shares.reverse();
    Ok(shares)
}

fn drill_one_hospital(
    hospital: &[Machine],
    share: &Share,
    every: u64,
    seen: &mut Seen,
) -> Result<()> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut cast = Cast::assemble(hospital, &program)?;
    let Share { seeds, unprotected, cut_off } = share;
    if *unprotected > 0 {
        say("the outbreak without Cordon");
    }
    for seed in &seeds[seeds.len() - unprotected..] {
        seen.without.push(let_spread(&mut cast, hospital, *seed, every)?);
    }

    say("starting a hub, and an agent on every machine");
    cast.start_hub()?;
    let runs = u32::try_from(seeds.len() + cut_off).unwrap_or(u32::MAX);
    cast.start_agents(hospital, runs)?;

    say("the same outbreak with Cordon");
    let mut rests = Rests::default();
    for seed in seeds {
        let zero = patient_zero(&rests.without(contained_by_itself(hospital)), *seed)?;
        let outbreak = defend(&mut cast, hospital, &zero, *seed, every, &BTreeSet::new())?;
        rests.count(&outbreak);
        seen.with.push(outbreak);
    }
    if *cut_off > 0 {
        say("the same with the hub cut off");
        cast.cut_hub_off()?;
        let seeds: Vec<u64> = seeds.iter().copied().cycle().take(*cut_off).collect();
        let outbreaks = defend_without_hub(&mut cast, hospital, &seeds, every, &rests);
        cast.bring_hub_back()?;
        seen.cut_off.extend(outbreaks?);
        cast.release_all()?;
    }
    seen.lifelines.add(&cast.lifelines()?);
    Ok(())
}

/// One outbreak after the other, with nobody to release what the last one isolated. Only a machine with a
/// permit defends itself then, so one that still has its own is the first victim.
fn defend_without_hub(
    cast: &mut Cast,
    hospital: &[Machine],
    seeds: &[u64],
    every: u64,
    rests: &Rests,
) -> Result<Vec<Outbreak>> {
    let mut isolated = BTreeSet::new();
    let mut outbreaks = Vec::new();
    for seed in seeds {
        let zero = patient_zero(&rests.without(cast.permit_holders()), *seed)?;
        let outbreak = defend(cast, hospital, &zero, *seed, every, &isolated)?;
        let lines = outbreak.timelines.iter().filter(|line| line.isolated.is_some());
        isolated.extend(lines.map(|line| line.machine.clone()));
        outbreaks.push(outbreak);
    }
    Ok(outbreaks)
}

/// How often each machine of a hospital was isolated. Outbreaks follow each other faster than in any hospital,
/// and a machine's own helper isolates it no more than so often without people ([`OWN_BUDGET`]): one that has
/// come to that begins no further outbreak.
#[derive(Debug, Default)]
struct Rests(BTreeMap<String, u32>);

impl Rests {
    fn count(&mut self, outbreak: &Outbreak) {
        for line in outbreak.timelines.iter().filter(|line| line.isolated.is_some()) {
            *self.0.entry(line.machine.clone()).or_default() += 1;
        }
    }

    fn without(&self, mut machines: Vec<String>) -> Vec<String> {
        machines.retain(|name| self.0.get(name).is_none_or(|count| *count < OWN_BUDGET.count));
        machines
    }
}

/// The machines that Cordon may isolate by itself: on tiers 2 and 3 it asks people, and a drill has none.
fn contained_by_itself(hospital: &[Machine]) -> Vec<String> {
    let machines = hospital.iter().filter(|machine| !machine.tier.is_clinical());
    machines.map(|machine| machine.name.clone()).collect()
}

/// The first victim of an outbreak, by its seed.
fn patient_zero(candidates: &[String], seed: u64) -> Result<String> {
    let pick = SplitMix(seed).draw() % candidates.len().max(1) as u64;
    let zero = candidates.get(usize::try_from(pick).unwrap_or(0));
    zero.cloned().context(
        "no machine of the drill's hospital may be isolated without people (again): use fewer runs, or more \
         machines",
    )
}

fn let_spread(cast: &mut Cast, hospital: &[Machine], seed: u64, every: u64) -> Result<Outbreak> {
    let zero = patient_zero(&contained_by_itself(hospital), seed)?;
    let began = cast.infect(&zero, seed, every)?;
    let deadline = Instant::now() + LONGEST_OUTBREAK;
    loop {
        let infected = infections(cast, began)?;
        if infected.len() == hospital.len() || Instant::now() > deadline {
            cast.reset_hosts()?;
            return Ok(Outbreak {
                seed,
                began,
                timelines: timelines(&infected, &BTreeMap::new()),
                ..Outbreak::default()
            });
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn defend(
    cast: &mut Cast,
    hospital: &[Machine],
    zero: &str,
    seed: u64,
    every: u64,
    isolated_before: &BTreeSet<String>,
) -> Result<Outbreak> {
    let began = cast.infect(zero, seed, every)?;
    // Every infected machine that may be isolated by itself is waited for.
    let deadline = Instant::now() + PATIENCE;
    let (infected, isolated) = loop {
        let infected = infections(cast, began)?;
        let mut isolated = cast.isolations_since(began)?;
        isolated.retain(|name, _| !isolated_before.contains(name));
        let waits = infected.keys().any(|name| {
            !isolated.contains_key(name)
                && hospital.iter().any(|m| m.name == *name && !m.tier.is_clinical())
        });
        let quiet = Duration::from_millis(every) * BEATS_AFTER;
        let last = infected.values().chain(isolated.values()).max().copied().unwrap_or(began);
        let is_over = !infected.is_empty() && !waits && crate::worm::boot_now().since(last) > quiet;
        if is_over || infected.len() == hospital.len() || Instant::now() > deadline {
            break (infected, isolated);
        }
        thread::sleep(Duration::from_millis(20));
    };
    let all_isolated = isolated.keys().chain(isolated_before).cloned().collect();
    let probes = cast.probe_from_neighbours(&all_isolated)?;
    cast.reset_hosts()?;
    if cast.is_hub_in_reach() {
        cast.release_all()?;
    }
    Ok(Outbreak { seed, began, timelines: timelines(&infected, &isolated), probes })
}

fn infections(cast: &Cast, since: BootNanos) -> Result<BTreeMap<String, BootNanos>> {
    let mut infected = BTreeMap::new();
    for line in cast.log_lines()? {
        if let LogLine::Infected { host, at, .. } = line
            && at >= since
        {
            infected.entry(host).or_insert(at);
        }
    }
    Ok(infected)
}

fn timelines(
    infected: &BTreeMap<String, BootNanos>,
    isolated: &BTreeMap<String, BootNanos>,
) -> Vec<Timeline> {
    let names: BTreeSet<&String> = infected.keys().chain(isolated.keys()).collect();
    names
        .into_iter()
        .map(|name| Timeline {
            machine: name.clone(),
            infected: infected.get(name).copied(),
            isolated: isolated.get(name).copied(),
        })
        .collect()
}

/// Progress goes to standard error, so that `--json` stays one object.
fn say(what: &str) {
    eprintln!("drill: {what}");
}

/// Fails if the drill shows harm or a worm that got away; the goals are those of the user guide.
///
/// # Errors
/// Which goal was missed.
pub fn judge(report: &Report) -> Result<()> {
    if report.lifelines_broken > 0 {
        bail!("{} lifelines were broken: this must never happen", report.lifelines_broken);
    }
    if report.isolated_uninfected > 0 {
        bail!("{} machines were isolated that were not infected", report.isolated_uninfected);
    }
    let most = (report.machines / 10).max(1);
    if report.infected_with > most {
        bail!(
            "the worm was not held: {} of {} machines, and the goal is {most}",
            report.infected_with,
            report.machines
        );
    }
    if report.probes_wrong > 0 {
        bail!(
            "{} probes from neighbours contradict what was said to be in force",
            report.probes_wrong
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(runs: u32, unprotected_runs: Option<u32>, cut_off_runs: u32) -> OutbreakArgs {
        let (machines, seed, every) = (20, 1, 100);
        let (json, picture) = (false, None);
        OutbreakArgs { machines, runs, seed, every, unprotected_runs, cut_off_runs, json, picture }
    }

    #[test]
    fn every_run_is_played_once_and_no_hospital_runs_out_of_permits() {
        let shares = shares(&arguments(45, Some(7), 11)).unwrap();
        let seeds: Vec<u64> = shares.iter().flat_map(|share| share.seeds.clone()).collect();
        assert_eq!(seeds, (1..=45).collect::<Vec<_>>());
        let unprotected: Vec<usize> = shares.iter().map(|share| share.unprotected).collect();
        assert_eq!(unprotected, [0, 2, 5], "the last ones, so that the table can show a pair");
        let cut_off: Vec<usize> = shares.iter().map(|share| share.cut_off).collect();
        assert_eq!(cut_off, [3, 4, 4]);
    }

    #[test]
    fn a_machine_that_its_own_brake_keeps_open_begins_no_outbreak() {
        let mut rests = Rests::default();
        let line = |machine: &str, isolated| Timeline {
            machine: machine.into(),
            infected: Some(BootNanos(1)),
            isolated,
        };
        let outbreak = Outbreak {
            timelines: vec![line("m01", Some(BootNanos(2))), line("m02", None)],
            ..Outbreak::default()
        };
        let both = || vec!["m01".to_owned(), "m02".to_owned()];
        for _ in 0..OWN_BUDGET.count {
            assert_eq!(rests.without(both()), both());
            rests.count(&outbreak);
        }
        assert_eq!(rests.without(both()), ["m02"]);
    }

    #[test]
    fn a_drill_of_three_runs_is_one_hospital() {
        let expected = Share { seeds: vec![1, 2, 3], unprotected: 3, cut_off: 1 };
        assert_eq!(shares(&arguments(3, None, 1)).unwrap(), [expected]);
        assert!(shares(&arguments(3, None, 6)).is_err(), "more than there are permits for");
    }
}
