//! The most it sustains. On a small machine the load and the mock take their share of the same cores: CPU time per
//! request says what the sidecar alone needs.

use crate::bench::{Bench, Outcome};
use crate::load::{ClosedLoop, Run, Source, Until};
use crate::report::{Table, millis, number};
use crate::sidecar::{Setup, Sidecar};
use crate::summary::rounded;
use crate::traffic::{QUESTION, Traffic};
use serde_json::json;

const CONNECTIONS: usize = 32;

pub(crate) fn run(bench: &mut Bench) -> Outcome<()> {
    let columns = ["closed loop", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "cores used"];
    let mut table = Table::new("sustain", &columns);
    let load = ClosedLoop { connections: CONNECTIONS, until: Until::Elapsed(bench.scale.closed_loop) };

    let direct = load.run(bench.mock.address(), Traffic::Unique)?;
    row(&mut table, "direct to the mock", &direct, f64::NAN);

    let sidecar = bench.sidecar(Setup::Lean)?;
    ClosedLoop { connections: 1, until: Until::Requests(CONNECTIONS) }
        .run(sidecar.address(), Traffic::Same(QUESTION))?;
    let lanes = [
        ("exact hit", Traffic::Same(QUESTION), Source::Exact),
        ("pass-through, no-store", Traffic::NoStore, Source::Upstream),
        ("pass-through, new questions", Traffic::Unique, Source::Upstream),
    ];
    for (name, traffic, expected) in lanes {
        let (run, cpu) = load_timed(&sidecar, load, traffic)?;
        bench.expect(name, &run, expected);
        row(&mut table, name, &run, cpu);
    }
    table
        .print(&format!("The most it sustains, {CONNECTIONS} connections for {:?}", bench.scale.closed_loop));
    Ok(())
}

/// The run, and the seconds of CPU time that the sidecar spent on it.
fn load_timed(sidecar: &Sidecar, load: ClosedLoop, traffic: Traffic) -> Outcome<(Run, f64)> {
    let before = sidecar.cpu_seconds();
    let run = load.run(sidecar.address(), traffic)?;
    Ok((run, sidecar.cpu_seconds() - before))
}

fn row(table: &mut Table, name: &str, run: &Run, cpu_seconds: f64) {
    let latency = run.latency();
    let per_request = cpu_seconds * 1e6 / run.answers.len() as f64;
    let cores = cpu_seconds / run.took.as_secs_f64();
    table.row(
        vec![
            name.into(),
            number(run.per_second(), 0),
            millis(latency.p50),
            millis(latency.p99),
            number(per_request, 1),
            number(cores, 2),
        ],
        json!({
            "lane": name, "connections": CONNECTIONS, "per_second": rounded(run.per_second()), "ms": latency.json(),
            "cpu_us_per_request": rounded(per_request), "cores_used": rounded(cores),
        }),
    );
}
