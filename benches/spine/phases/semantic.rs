//! How long a semantic hit takes, next to an exact one and to the mock itself.

use crate::bench::{Bench, Outcome};
use crate::load::{ClosedLoop, Run, Source, Until, sleep};
use crate::report::{Table, millis};
use crate::sidecar::{Setup, Sidecar};
use crate::traffic::{QUESTION, REPHRASED, Traffic};
use serde_json::json;
use std::time::{Duration, Instant};

const ONCE: ClosedLoop = ClosedLoop { connections: 1, until: Until::Requests(1) };
/// An answer is remembered after it was sent; a rephrased question finds it only then.
const REMEMBERED_DEADLINE: Duration = Duration::from_secs(5);
const REMEMBERED_POLL: Duration = Duration::from_millis(200);

pub(crate) fn run(bench: &mut Bench) -> Outcome<()> {
    let sidecar = bench.sidecar(Setup::Semantic)?;
    ONCE.run(sidecar.address(), Traffic::Same(QUESTION))?;
    wait_until_remembered(&sidecar)?;

    let load = ClosedLoop { connections: 1, until: Until::Elapsed(bench.scale.closed_loop / 2) };
    let direct = load.run(bench.mock.address(), Traffic::NoStore)?;
    let exact = load.run(sidecar.address(), Traffic::Same(QUESTION))?;
    bench.expect("exact hit with the semantic cache on", &exact, Source::Exact);
    let semantic = load.run(sidecar.address(), Traffic::Same(REPHRASED))?;
    bench.expect("semantic hit", &semantic, Source::Semantic);

    let embedding = load.run(sidecar.address(), Traffic::Embedding(REPHRASED))?;
    bench.expect_answers("embedding", &embedding);

    let mut table = Table::new("semantic", &["closed loop", "p50 ms", "p90 ms", "p99 ms", "sources"]);
    let beyond = semantic.latency().above(&embedding.latency());
    for (name, run) in [
        ("direct to the mock", direct),
        ("exact hit", exact),
        ("the embedding alone", embedding),
        ("semantic hit", semantic),
    ] {
        row(&mut table, name, &run);
    }
    table.print(&format!(
        "A semantic hit, one connection; beyond the embedding: {} ms at p50, {} at p99",
        millis(beyond.p50),
        millis(beyond.p99)
    ));
    Ok(())
}

/// Asks the question itself until its answer comes from the cache (the rephrased one, asked too early, would be
/// stored and later hit exactly); gives up quietly, for the figure then says so.
fn wait_until_remembered(sidecar: &Sidecar) -> Outcome<()> {
    let begun = Instant::now();
    while begun.elapsed() < REMEMBERED_DEADLINE {
        let run = ONCE.run(sidecar.address(), Traffic::Same(QUESTION))?;
        if run.answers.iter().any(|answer| answer.source == Source::Exact) {
            break;
        }
        sleep(REMEMBERED_POLL);
    }
    Ok(())
}

fn row(table: &mut Table, name: &str, run: &Run) {
    let latency = run.latency();
    let sources = run.sources();
    table.row(
        vec![name.into(), millis(latency.p50), millis(latency.p90), millis(latency.p99), sources.to_string()],
        json!({ "lane": name, "connections": 1, "ms": latency.json(), "sources": sources.json() }),
    );
}
