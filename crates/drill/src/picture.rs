//! The drill as a picture: how many machines were infected over time, with Cordon and without.
//!
//! Plain SVG text, readable without colour (the lines differ in dash as well), with a title and a
//! description for those who can't see it.

use std::fmt::Write as _;

use crate::report::{Outbreak, Report, millis};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 290.0;
const TOP: f64 = 40.0;
const RIGHT: f64 = 740.0;

/// The picture of a report.
#[must_use]
pub fn draw(report: &Report) -> String {
    let (without, with, cut_off) = &report.runs;
    let longest = without
        .iter()
        .chain(with)
        .chain(cut_off)
        .flat_map(|run| {
            run.timelines.iter().filter_map(|line| Some(millis(line.infected?, run.began)))
        })
        .fold(1_000.0_f64, f64::max)
        * 1.05;
    let x = |ms: f64| LEFT + (RIGHT - LEFT) * (ms / longest).min(1.0);
    let y = |count: f64| BOTTOM - (BOTTOM - TOP) * count / report.machines.max(1) as f64;
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         font-family=\"sans-serif\" font-size=\"13\"><title>Outbreak drill</title><desc>Without Cordon \
         {} of {} machines were infected; with Cordon at most {}.</desc>\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>",
        report.infected_without, report.machines, report.infected_with
    );
    for step in 0..=4 {
        let count = report.machines as f64 * f64::from(step) / 4.0;
        let at = y(count);
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#d8dde0\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#425563\">{count:.0}</text>",
            LEFT - 8.0,
            at + 4.0
        );
        let ms = longest * f64::from(step) / 4.0;
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#425563\">{ms:.0} ms</text>",
            x(ms),
            BOTTOM + 18.0
        );
    }
    let mut line = |runs: &[Outbreak], name: &str, colour: &str, dash: &str, label_at: f64| {
        for run in runs {
            let _ = write!(
                svg,
                "<path d=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\" stroke-dasharray=\"{dash}\" stroke-opacity=\"0.8\"/>",
                steps(run, longest, &x, &y)
            );
        }
        if !runs.is_empty() {
            let _ = write!(
                svg,
                "<line x1=\"{label_at}\" x2=\"{:.1}\" y1=\"20\" y2=\"20\" stroke=\"{colour}\" stroke-width=\"2.5\" stroke-dasharray=\"{dash}\"/><text x=\"{:.1}\" y=\"24\" fill=\"#212b32\">{name}</text>",
                label_at + 30.0,
                label_at + 36.0
            );
        }
    };
    line(without, "without Cordon", "#d5281b", "", 60.0);
    line(with, "with Cordon", "#005eb8", "7 3", 230.0);
    line(cut_off, "with Cordon, hub cut off", "#007f3b", "2 3", 380.0);
    let _ = write!(
        svg,
        "<text x=\"{LEFT}\" y=\"{:.1}\" fill=\"#425563\">infected machines by time since the first infection; worm: one try every {} ms</text></svg>",
        HEIGHT - 10.0,
        report.worm_every_ms
    );
    svg
}

fn steps(run: &Outbreak, longest: f64, x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64) -> String {
    let mut times: Vec<f64> =
        run.timelines.iter().filter_map(|line| Some(millis(line.infected?, run.began))).collect();
    times.sort_by(f64::total_cmp);
    let mut path = format!("M{:.1},{:.1}", x(0.0), y(0.0));
    for (index, ms) in times.iter().enumerate() {
        let _ = write!(path, " H{:.1} V{:.1}", x(*ms), y(index as f64 + 1.0));
    }
    let _ = write!(path, " H{:.1}", x(longest));
    path
}
