//! Exact hits at a steady rate: how long the tail is while many ask.

use crate::bench::{Bench, Outcome};
use crate::load::{ClosedLoop, OpenLoop, Run, Source, Until};
use crate::report::{Table, millis, number};
use crate::sidecar::{Setup, Sidecar};
use crate::summary::{Quantiles, rounded};
use crate::traffic::{QUESTION, Traffic};
use serde_json::json;

const RATES: [f64; 3] = [1_000.0, 2_500.0, 5_000.0];
const CONNECTIONS: usize = 16;
const WARM_UP: usize = 2_000;

pub(crate) fn run(bench: &mut Bench) -> Outcome<()> {
    let sidecar = bench.sidecar(Setup::Lean)?;
    let warm_up = ClosedLoop { connections: CONNECTIONS, until: Until::Requests(WARM_UP) };
    warm_up.run(sidecar.address(), Traffic::Same(QUESTION))?;
    let columns =
        ["requests/s", "p50 ms", "p90 ms", "p99 ms", "max ms", "CPU µs/request", "sent late p99 ms"];
    let mut table = Table::new("hits", &columns);
    for per_second in RATES {
        let mut runs = Vec::new();
        let before = sidecar.cpu_seconds();
        for _ in 0..bench.scale.rounds {
            runs.push(round(bench, &sidecar, per_second)?);
        }
        row(&mut table, per_second, &runs, sidecar.cpu_seconds() - before);
    }
    table.print(&format!(
        "Exact hits at a steady rate over {CONNECTIONS} open connections, {} rounds of {:?}",
        bench.scale.rounds, bench.scale.round
    ));
    Ok(())
}

fn round(bench: &mut Bench, sidecar: &Sidecar, per_second: f64) -> Outcome<Run> {
    let load = OpenLoop { per_second, span: bench.scale.round, connections: CONNECTIONS };
    let run = load.run(sidecar.address(), Traffic::Same(QUESTION))?;
    bench.expect(&format!("exact hits at {per_second:.0} a second"), &run, Source::Exact);
    Ok(run)
}

fn row(table: &mut Table, per_second: f64, runs: &[Run], cpu_seconds: f64) {
    let latencies: Vec<Quantiles> = runs.iter().map(Run::latency).collect();
    let latency = Quantiles::median_of(&latencies);
    let answered: usize = runs.iter().map(|run| run.answers.len()).sum();
    let cpu = cpu_seconds * 1e6 / answered as f64;
    let late = Quantiles::of(runs.iter().flat_map(|run| run.late.iter().copied()));
    table.row(
        vec![
            number(per_second, 0),
            millis(latency.p50),
            millis(latency.p90),
            millis(latency.p99),
            millis(latency.max),
            number(cpu, 0),
            millis(late.p99),
        ],
        json!({
            "per_second": per_second, "connections": CONNECTIONS, "ms": latency.json(),
            "cpu_us_per_request": rounded(cpu), "late_ms": late.json(),
        }),
    );
}
