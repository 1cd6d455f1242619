//! Measures the built sidecar from outside, as a client sees it: over loopback, in front of a mock upstream.
//!
//! ```text
//! load ──▶ mock            direct: the base line
//! load ──▶ relay ──▶ mock  the least that axum and hyper need to pass it on
//! load ──▶ weir ──▶ mock   what the sidecar adds, in the same run and in turns with the base lines
//! ```
//!
//! `cargo bench --bench spine` measures everything (about six minutes), `-- --quick` everything briefly (about
//! twenty seconds, for smoke), `-- latency sustain` only those phases. Each figure is printed as a Markdown table
//! for reading and as JSON lines for machines. It ends with an error when an answer failed or did not come from
//! where the figure says it came from.

#![expect(clippy::print_stdout, reason = "printing figures is what it is for")]

mod bench;
mod http;
mod load;
mod machine;
mod mock;
mod phases;
mod process;
mod relay;
mod report;
mod sidecar;
mod summary;
mod traffic;

use bench::{Bench, Options, Outcome};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(upstream) = options.relay_to {
        return relay::serve(upstream).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    match measure(options) {
        Ok(complaints) if complaints.is_empty() => ExitCode::SUCCESS,
        Ok(complaints) => {
            println!("\nnot as it should be:");
            for complaint in complaints {
                println!("- {complaint}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("\nstopped: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the chosen phases; gives what went wrong without making the figures impossible.
fn measure(options: Options) -> Outcome<Vec<String>> {
    machine::report(&options);
    let phases = options.chosen_phases();
    let mut bench = Bench::new(options)?;
    for phase in phases {
        phases::run(phase, &mut bench)?;
    }
    Ok(bench.into_complaints())
}
