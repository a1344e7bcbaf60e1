//! What the drill saw, counted, and said as a table or as one JSON object.

use std::fmt::Write as _;

use cordon_model::time::BootNanos;
use serde::Serialize;

use crate::hospital::Machine;

/// What happened to one machine in one outbreak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// Its name.
    pub machine: String,
    /// When the worm's process was started on it.
    pub infected: Option<BootNanos>,
    /// When its isolation was read back from the kernel.
    pub isolated: Option<BootNanos>,
}

/// One outbreak.
#[derive(Debug, Clone, Default)]
pub struct Outbreak {
    /// Its seed.
    pub seed: u64,
    /// Just before the first infection.
    pub began: BootNanos,
    /// The machines that were infected or isolated.
    pub timelines: Vec<Timeline>,
    /// What neighbours tried afterwards.
    pub probes: Vec<NeighbourProbe>,
}

/// What one neighbour tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourProbe {
    /// The machine that was tried.
    pub machine: String,
    /// Whether it was said to be isolated.
    pub is_isolated: bool,
    /// Whether its lateral-movement port answered.
    pub answered: bool,
}

/// Milliseconds, by quantile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// The 99th percentile (nearest rank).
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// Lifelines over the whole drill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LifelineCount {
    /// Sessions that were kept open the whole time.
    pub sessions: usize,
    /// Times that one broke.
    pub broken: usize,
    /// Echoes answered.
    pub echoes: u64,
    /// The longest wait for an answer, in milliseconds.
    pub longest_wait_ms: u64,
}

impl LifelineCount {
    /// Adds those of another hospital.
    pub(crate) fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.broken += other.broken;
        self.echoes += other.echoes;
        self.longest_wait_ms = self.longest_wait_ms.max(other.longest_wait_ms);
    }
}

/// The drill's result. Infections are the worst of all runs.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Machines in the hospital.
    pub machines: usize,
    /// Most machines infected in one run without Cordon.
    pub infected_without: usize,
    /// Most machines infected in one run with Cordon.
    pub infected_with: usize,
    /// Machines isolated, over all runs, that were not infected.
    pub isolated_uninfected: usize,
    /// Times that a lifeline's session broke, over the whole drill.
    pub lifelines_broken: usize,
    /// Machines of tiers 0 and 1 that were infected and never isolated, over all runs with the hub in
    /// reach: no latency below speaks of these.
    pub never_isolated: usize,
    /// Isolations that were measured.
    pub n: usize,
    /// From the worm's process being started to the isolation being read back from the kernel.
    pub event_to_isolation_ms: Quantiles,
    /// The same with the hub cut off before it started.
    pub hub_cut_off: Option<CutOff>,
    /// Lifelines in use during the drill.
    pub lifelines: LifelineCount,
    /// Tries from neighbours that contradicted what was said to be in force.
    pub probes_wrong: usize,
    /// Milliseconds between two tries of the worm.
    pub worm_every_ms: u64,
    #[serde(skip)]
    pub(crate) runs: (Vec<Outbreak>, Vec<Outbreak>, Vec<Outbreak>),
    #[serde(skip)]
    pub(crate) hospital: Vec<Machine>,
}

/// The result with the hub cut off.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CutOff {
    /// Most machines infected in one run.
    pub infected_with: usize,
    /// Isolations that were measured.
    pub n: usize,
    /// As above.
    pub event_to_isolation_ms: Quantiles,
}

impl Report {
    pub(crate) fn new(
        hospital: &[Machine],
        every: u64,
        without: Vec<Outbreak>,
        with: Vec<Outbreak>,
        cut_off: Vec<Outbreak>,
        lifelines: LifelineCount,
    ) -> Self {
        let both = || with.iter().chain(&cut_off);
        let (n, event_to_isolation_ms) = latencies(&with);
        let hub_cut_off = (!cut_off.is_empty()).then(|| {
            let (n, event_to_isolation_ms) = latencies(&cut_off);
            CutOff { infected_with: most_infected(&cut_off), n, event_to_isolation_ms }
        });
        Self {
            machines: hospital.len(),
            infected_without: most_infected(&without),
            infected_with: most_infected(&with),
            isolated_uninfected: both()
                .flat_map(|outbreak| &outbreak.timelines)
                .filter(|line| line.isolated.is_some() && line.infected.is_none())
                .count(),
            never_isolated: never_isolated(&with, hospital),
            lifelines_broken: lifelines.broken,
            n,
            event_to_isolation_ms,
            hub_cut_off,
            lifelines,
            probes_wrong: both()
                .flat_map(|outbreak| &outbreak.probes)
                .filter(|probe| probe.answered == probe.is_isolated)
                .count(),
            worm_every_ms: every,
            runs: (without, with, cut_off),
            hospital: hospital.to_vec(),
        }
    }

    /// The report for a person.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let (without, with, cut_off) = &self.runs;
        let _ = writeln!(
            text,
            "Outbreak drill: {} machines, a worm that tries a neighbour every {} ms\n",
            self.machines, self.worm_every_ms
        );
        let held = with.last();
        let free = held.and_then(|held| without.iter().find(|free| free.seed == held.seed));
        if let (Some(free), Some(held)) = (free, held) {
            let _ = writeln!(
                text,
                "  The last run (seed {}), in milliseconds from the first infection",
                held.seed
            );
            let _ = writeln!(
                text,
                "  {:<6} {:<16} {:<22} {:>4}  {:>14}  {:>11} {:>11}",
                "", "ward", "machine", "tier", "without Cordon", "with Cordon", "isolated"
            );
            for machine in &self.hospital {
                let cell = |outbreak: &Outbreak, pick: fn(&Timeline) -> Option<BootNanos>| {
                    outbreak
                        .timelines
                        .iter()
                        .find(|line| line.machine == machine.name)
                        .and_then(pick)
                        .map_or_else(
                            || "-".to_owned(),
                            |at| format!("{:.1}", millis(at, outbreak.began)),
                        )
                };
                let _ = writeln!(
                    text,
                    "  {:<6} {:<16} {:<22} {:>4}  {:>14}  {:>11} {:>11}",
                    machine.name,
                    machine.ward,
                    machine.kind,
                    machine.tier.number(),
                    cell(free, |line| line.infected),
                    cell(held, |line| line.infected),
                    cell(held, |line| line.isolated),
                );
            }
            text.push('\n');
        }
        let row =
            |text: &mut String, name: &str, runs: &[Outbreak], quantiles: Option<Quantiles>| {
                if runs.is_empty() {
                    return;
                }
                let latency = quantiles.map_or_else(String::new, |q| {
                    format!(
                        "   isolated after p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
                        q.p50, q.p99, q.max
                    )
                });
                let _ = writeln!(
                    text,
                    "  {name:<22} {:>3} run(s): at most {:>2} of {} infected{latency}",
                    runs.len(),
                    most_infected(runs),
                    self.machines
                );
            };
        row(&mut text, "without Cordon", without, None);
        row(&mut text, "with Cordon", with, Some(self.event_to_isolation_ms));
        row(
            &mut text,
            "with the hub cut off",
            cut_off,
            self.hub_cut_off.map(|cut| cut.event_to_isolation_ms),
        );
        let _ = writeln!(
            text,
            "\n  lifelines: {} sessions to the PACS in use, {} echoes, {} broken, longest wait {} ms",
            self.lifelines.sessions,
            self.lifelines.echoes,
            self.lifelines.broken,
            self.lifelines.longest_wait_ms
        );
        let _ = writeln!(
            text,
            "  isolated though not infected: {}; infected and never isolated: {}; tries from neighbours that \
             contradict: {}",
            self.isolated_uninfected, self.never_isolated, self.probes_wrong
        );
        text
    }
}

pub(crate) fn millis(at: BootNanos, from: BootNanos) -> f64 {
    at.since(from).as_secs_f64() * 1_000.0
}

fn most_infected(runs: &[Outbreak]) -> usize {
    let infected = |outbreak: &Outbreak| {
        outbreak.timelines.iter().filter(|line| line.infected.is_some()).count()
    };
    runs.iter().map(infected).max().unwrap_or(0)
}

fn never_isolated(runs: &[Outbreak], hospital: &[Machine]) -> usize {
    let asks_people = |name: &str| {
        hospital.iter().any(|machine| machine.name == name && machine.tier.is_clinical())
    };
    let lines = runs.iter().flat_map(|outbreak| &outbreak.timelines);
    lines
        .filter(|l| l.infected.is_some() && l.isolated.is_none() && !asks_people(&l.machine))
        .count()
}

fn latencies(runs: &[Outbreak]) -> (usize, Quantiles) {
    let mut all: Vec<f64> = runs
        .iter()
        .flat_map(|outbreak| &outbreak.timelines)
        .filter_map(|line| Some(millis(line.isolated?, line.infected?)))
        .collect();
    all.sort_by(f64::total_cmp);
    let rank = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank is small and not negative"
        )]
        let rank = (share * all.len() as f64).ceil() as usize;
        all.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    };
    (all.len(), Quantiles { p50: rank(0.5), p99: rank(0.99), max: rank(1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(machine: &str, infected: Option<u64>, isolated: Option<u64>) -> Timeline {
        let at = |millis: u64| BootNanos(millis * 1_000_000);
        Timeline { machine: machine.into(), infected: infected.map(at), isolated: isolated.map(at) }
    }

    #[test]
    fn the_report_counts_the_worst_run_and_every_wrong_isolation() {
        let hospital = crate::hospital::machines(3);
        let run = |timelines| Outbreak { timelines, ..Outbreak::default() };
        let without = vec![run(vec![line("m01", Some(0), None), line("m02", Some(90), None)])];
        let with = vec![
            run(vec![line("m01", Some(0), Some(20))]),
            run(vec![line("m01", Some(0), Some(10)), line("m03", None, Some(12))]),
            run(vec![line("m01", Some(0), None)]),
        ];
        let report = Report::new(&hospital, 100, without, with, vec![], LifelineCount::default());
        assert_eq!((report.infected_without, report.infected_with), (2, 1));
        assert_eq!((report.n, report.isolated_uninfected, report.never_isolated), (2, 1, 1));
        assert_eq!(report.event_to_isolation_ms, Quantiles { p50: 10.0, p99: 20.0, max: 20.0 });
        assert!(report.table().contains("m03"));
    }
}
