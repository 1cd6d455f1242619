//! New questions with the semantic cache on: each has to be embedded. What happens when that cannot keep up?

use crate::bench::{Bench, Outcome};
use crate::load::{OpenLoop, Run};
use crate::report::{Table, millis, number};
use crate::sidecar::{Setup, Sidecar};
use crate::summary::{Quantiles, rounded};
use crate::traffic::Traffic;
use serde_json::json;

const PER_SECOND: f64 = 200.0;
/// So many that a quick answer seldom waits for a connection that a slow one holds.
const CONNECTIONS: usize = 256;

pub(crate) fn run(bench: &mut Bench) -> Outcome<()> {
    let sidecar = bench.sidecar(Setup::Semantic)?;
    let load = OpenLoop { per_second: PER_SECOND, span: bench.scale.round, connections: CONNECTIONS };
    let direct = load.run(bench.mock.address(), Traffic::NoStore)?;

    // In one piece, because a queue that grows needs time to be seen.
    let load = OpenLoop { span: bench.scale.closed_loop, ..load };
    let cpu_before = sidecar.cpu_seconds();
    let through = load.run(sidecar.address(), Traffic::Mixed)?;
    let cpu_seconds = sidecar.cpu_seconds() - cpu_before;
    bench.expect_answers("mixed traffic", &through);

    print_latency(&direct, &through, load);
    print_load(&sidecar, &through, cpu_seconds);
    Ok(())
}

fn print_latency(direct: &Run, through: &Run, load: OpenLoop) {
    let columns =
        ["answers", "share %", "p50 ms", "p90 ms", "p99 ms", "max ms", "added p50 ms", "added p99 ms"];
    let mut table = Table::new("mixed", &columns);
    let base = direct.latency();
    row(&mut table, "direct to the mock", 1.0, &base, &base);
    row(&mut table, "through the sidecar", 1.0, &through.latency(), &base);
    for (source, share) in through.sources().shares() {
        row(&mut table, &format!("of these, {source}"), share, &through.latency_of(source), &base);
    }
    table.print(&format!(
        "Mixed traffic with the semantic cache on: {PER_SECOND:.0} requests a second, nearly all new, over \
         {CONNECTIONS} connections for {:?}",
        load.span
    ));
}

fn row(table: &mut Table, name: &str, share: f64, latency: &Quantiles, base: &Quantiles) {
    let added = latency.above(base);
    let of_latency = [latency.p50, latency.p90, latency.p99, latency.max, added.p50, added.p99].map(millis);
    table.row(
        [name.to_owned(), number(share * 100.0, 1)].into_iter().chain(of_latency).collect(),
        json!({ "lane": name, "per_second": PER_SECOND, "share": rounded(share), "ms": latency.json() }),
    );
}

fn print_load(sidecar: &Sidecar, through: &Run, cpu_seconds: f64) {
    let columns = ["answered", "never sent", "failed", "CPU µs/request", "cores used", "peak MiB"];
    let mut table = Table::new("mixed_load", &columns);
    let answered = through.answers.len();
    let per_request = cpu_seconds * 1e6 / answered as f64;
    let cores = cpu_seconds / through.took.as_secs_f64();
    let peak = sidecar.memory().map_or(f64::NAN, |memory| memory.peak);
    let counts = [answered, through.unsent, through.failed].map(|count| count.to_string());
    table.row(
        counts.into_iter().chain([number(per_request, 0), number(cores, 2), number(peak, 1)]).collect(),
        json!({
            "answered": answered, "unsent": through.unsent, "failed": through.failed,
            "cpu_us_per_request": rounded(per_request), "cores_used": rounded(cores), "peak_mib": rounded(peak),
        }),
    );
    table.print("What that cost the sidecar");
}
