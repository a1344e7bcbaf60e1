//! Runs seeds from the command line: `cargo run -p cordon-sim --example simulate -- SEED SEEDS [SCENARIO] [trace]`.

use std::time::Instant;

use cordon_sim::{Options, Scenario, simulate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize, otherwise| arguments.get(at).map_or(Ok(otherwise), |text| text.parse::<u64>());
    let options = Options {
        seed: number(0, 0)?,
        seeds: number(1, 100)?,
        scenario: arguments.get(2).map_or(Ok(Scenario::Everything), |text| text.parse())?,
        trace: arguments.iter().any(|argument| argument == "trace"),
        machines: None,
        sabotage: None,
    };
    let started = Instant::now();
    let summary = simulate(&options).map_err(|failure| {
        println!("{failure}");
        failure.violation
    })?;
    println!("{summary}");
    println!("{:.0} seeds/s", summary.seeds as f64 / started.elapsed().as_secs_f64());
    Ok(())
}
