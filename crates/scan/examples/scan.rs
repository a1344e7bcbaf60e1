//! `cordon scan` by itself: `cargo run -p cordon-scan --example scan -- PATH…`.

use std::process::ExitCode;

use clap::Parser as _;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    scan: cordon_scan::ScanArgs,
}

fn main() -> ExitCode {
    match cordon_scan::run(&Cli::parse().scan) {
        Ok(verdict) => verdict.exit_code(),
        Err(error) => {
            eprintln!("scan: {error}");
            ExitCode::FAILURE
        }
    }
}
