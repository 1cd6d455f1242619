//! How long a start takes. The process is cold; the files it reads are in the page cache after the first start.

use crate::bench::{Bench, Outcome};
use crate::load::{ClosedLoop, Source, Until};
use crate::report::{Table, millis};
use crate::sidecar::Setup;
use crate::summary::{median, rounded};
use crate::traffic::Traffic;
use serde_json::json;
use std::time::Duration;

pub(crate) fn run(bench: &mut Bench) -> Outcome<()> {
    let columns =
        ["setup", "ready, median ms", "ready, first ms", "first answer, median ms", "first answer, first ms"];
    let mut table = Table::new("start", &columns);
    for setup in [Setup::Lean, Setup::Full] {
        let starts = (0..bench.scale.starts).map(|_| start(bench, setup)).collect::<Outcome<Vec<_>>>()?;
        let ready: Vec<f64> = starts.iter().map(|start| in_millis(start.ready)).collect();
        let answered: Vec<f64> = starts.iter().map(|start| in_millis(start.answered)).collect();
        let [ready_median, answered_median] = [&ready, &answered].map(|times| median(times.iter().copied()));
        table.row(
            vec![
                setup.name().into(),
                millis(ready_median),
                millis(ready[0]),
                millis(answered_median),
                millis(answered[0]),
            ],
            json!({
                "setup": setup.name(), "ready_ms": ready, "first_answer_ms": answered,
                "ready_median_ms": ready_median, "first_answer_median_ms": answered_median,
            }),
        );
    }
    table.print(&format!("Cold start, {} times each", bench.scale.starts));
    Ok(())
}

/// Since the process was started.
struct Start {
    ready: Duration,
    answered: Duration,
}

fn start(bench: &mut Bench, setup: Setup) -> Outcome<Start> {
    let sidecar = bench.sidecar(setup)?;
    let before_asking = sidecar.since_spawned();
    let once = ClosedLoop { connections: 1, until: Until::Requests(1) };
    let run = once.run(sidecar.address(), Traffic::Unique)?;
    bench.expect("start", &run, Source::Upstream);
    // Not the time that passed meanwhile: the loop waits a little before it begins.
    Ok(Start { ready: sidecar.ready_after, answered: before_asking + run.took })
}

fn in_millis(span: Duration) -> f64 {
    rounded(span.as_secs_f64() * 1_000.0)
}
