//! What the sidecar adds to a direct call at a moderate, steady rate.

use crate::bench::{Bench, Outcome};
use crate::load::{ClosedLoop, OpenLoop, Run, Source, Until};
use crate::report::{Table, millis, number};
use crate::sidecar::{Setup, Sidecar};
use crate::summary::{Quantiles, rounded};
use crate::traffic::{QUESTION, Traffic};
use serde_json::json;

const PER_SECOND: f64 = 1_000.0;
/// Enough that even a stream, which takes some milliseconds, always finds one free.
const CONNECTIONS: usize = 16;
const WARM_UP: usize = 500;

/// One row.
struct Lane {
    name: &'static str,
    traffic: Traffic,
    expected: Source,
    /// Which row it is compared with, in the same round; none for a base line, which goes to the mock directly.
    base: Option<usize>,
}

const LANES: [Lane; 7] = [
    Lane { name: "direct to the mock", traffic: Traffic::NoStore, expected: Source::Direct, base: None },
    Lane {
        name: "pass-through, new questions",
        traffic: Traffic::Unique,
        expected: Source::Upstream,
        base: Some(0),
    },
    Lane {
        name: "pass-through, no-store",
        traffic: Traffic::NoStore,
        expected: Source::Upstream,
        base: Some(0),
    },
    Lane { name: "exact hit", traffic: Traffic::Same(QUESTION), expected: Source::Exact, base: Some(0) },
    Lane { name: "stream, direct", traffic: Traffic::UniqueStream, expected: Source::Direct, base: None },
    Lane {
        name: "stream, pass-through",
        traffic: Traffic::UniqueStream,
        expected: Source::Upstream,
        base: Some(4),
    },
    Lane {
        name: "stream, exact hit",
        traffic: Traffic::SameStream(QUESTION),
        expected: Source::Exact,
        base: Some(4),
    },
];

/// What one lane did in all its rounds.
#[derive(Default)]
struct Measured {
    runs: Vec<Run>,
    /// That the sidecar spent meanwhile.
    cpu_seconds: f64,
}

pub(crate) fn run(bench: &mut Bench) -> Outcome<()> {
    let sidecar = bench.sidecar(Setup::Lean)?;
    warm_up(bench, &sidecar)?;
    let mut measured = LANES.map(|_| Measured::default());
    for _ in 0..bench.scale.rounds {
        for (lane, measured) in LANES.iter().zip(&mut measured) {
            round(bench, &sidecar, lane, measured)?;
        }
    }
    print(bench, &measured);
    Ok(())
}

/// Opens the sidecar's connections to the mock and stores what the exact hits will find.
fn warm_up(bench: &Bench, sidecar: &Sidecar) -> Outcome<()> {
    for lane in &LANES {
        let load = ClosedLoop { connections: CONNECTIONS, until: Until::Requests(WARM_UP) };
        load.run(lane.target(bench, sidecar), lane.traffic)?;
    }
    Ok(())
}

fn round(bench: &mut Bench, sidecar: &Sidecar, lane: &Lane, measured: &mut Measured) -> Outcome<()> {
    let before = sidecar.cpu_seconds();
    let load = OpenLoop { per_second: PER_SECOND, span: bench.scale.round, connections: CONNECTIONS };
    let run = load.run(lane.target(bench, sidecar), lane.traffic)?;
    measured.cpu_seconds += sidecar.cpu_seconds() - before;
    bench.expect(lane.name, &run, lane.expected);
    measured.runs.push(run);
    Ok(())
}

impl Lane {
    fn target(&self, bench: &Bench, sidecar: &Sidecar) -> std::net::SocketAddr {
        if self.base.is_some() { sidecar.address() } else { bench.mock.address() }
    }
}

impl Measured {
    fn latencies(&self) -> Vec<Quantiles> {
        self.runs.iter().map(Run::latency).collect()
    }

    /// Round by round, so that what disturbs a whole round disturbs no comparison.
    fn added_over(&self, base: &Self) -> Quantiles {
        let pairs = self.latencies().into_iter().zip(base.latencies());
        Quantiles::median_of(&pairs.map(|(through, direct)| through.above(&direct)).collect::<Vec<_>>())
    }

    /// Of the sidecar, in microseconds.
    fn cpu_per_request(&self) -> f64 {
        let requests: usize = self.runs.iter().map(|run| run.answers.len()).sum();
        self.cpu_seconds * 1e6 / requests as f64
    }

    /// The generator's own error, over all rounds.
    fn lateness(&self) -> Quantiles {
        Quantiles::of(self.runs.iter().flat_map(|run| run.late.iter().copied()))
    }

    fn unsent(&self) -> usize {
        self.runs.iter().map(|run| run.unsent).sum()
    }
}

fn print(bench: &Bench, measured: &[Measured]) {
    let columns = [
        "ms",
        "p50",
        "p90",
        "p99",
        "max",
        "added p50",
        "added p99",
        "CPU µs/request",
        "sent late p50",
        "sent late p99",
    ];
    let mut table = Table::new("latency", &columns);
    for (lane, of_lane) in LANES.iter().zip(measured) {
        row(&mut table, lane, of_lane, lane.base.map(|base| of_lane.added_over(&measured[base])));
    }
    let scale = &bench.scale;
    table.print(&format!(
        "Latency at {PER_SECOND:.0} requests a second over {CONNECTIONS} connections, {} rounds of {:?} in turns \
         (streams: to the first byte)",
        scale.rounds, scale.round
    ));
}

fn row(table: &mut Table, lane: &Lane, measured: &Measured, added: Option<Quantiles>) {
    let latency = Quantiles::median_of(&measured.latencies());
    let lateness = measured.lateness();
    let cpu = if added.is_some() { measured.cpu_per_request() } else { f64::NAN };
    let [added_p50, added_p99] =
        added.map_or(["–".into(), "–".into()], |added| [added.p50, added.p99].map(millis));
    table.row(
        vec![
            lane.name.into(),
            millis(latency.p50),
            millis(latency.p90),
            millis(latency.p99),
            millis(latency.max),
            added_p50,
            added_p99,
            if added.is_some() { number(cpu, 0) } else { "–".into() },
            millis(lateness.p50),
            millis(lateness.p99),
        ],
        json!({
            "lane": lane.name, "per_second": PER_SECOND, "connections": CONNECTIONS, "ms": latency.json(),
            "added_ms": added.map(|added| json!({ "p50": rounded(added.p50), "p99": rounded(added.p99) })),
            "cpu_us_per_request": rounded(cpu), "late_ms": lateness.json(),
            "unsent": measured.unsent(),
        }),
    );
}
