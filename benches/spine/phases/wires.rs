//! The wires by themselves: what the sidecar costs next to the least that a relay in axum and hyper can do, for whole
//! answers and for many streams at once. Nothing is looked up or stored.

use crate::bench::{Bench, Outcome};
use crate::load::{ClosedLoop, OpenLoop, Run, Source, Until};
use crate::mock::LONG_PIECES;
use crate::relay::Relay;
use crate::report::{Table, millis, number};
use crate::sidecar::{Setup, Sidecar};
use crate::summary::{Quantiles, median, rounded};
use crate::traffic::Traffic;
use serde_json::json;
use std::net::SocketAddr;

/// Of the closed loop.
const CONNECTIONS: usize = 32;
/// A stream lasts about a second, so that this many are open at once.
const STREAMS: f64 = 200.0;
/// Enough for those that take longer.
const STREAM_CONNECTIONS: usize = 256;
const WARM_UP: usize = 500;

/// Who is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Through {
    Mock,
    Relay,
    Weir,
}

struct Lane {
    name: &'static str,
    through: Through,
    traffic: Traffic,
}

const WHOLE: [Lane; 3] = [
    Lane { name: "direct to the mock", through: Through::Mock, traffic: Traffic::NoStore },
    Lane { name: "bare relay", through: Through::Relay, traffic: Traffic::NoStore },
    Lane { name: "sidecar, same protocol", through: Through::Weir, traffic: Traffic::NoStore },
];

const STREAMED: [Lane; 4] = [
    Lane { name: "direct to the mock", through: Through::Mock, traffic: Traffic::LongStream },
    Lane { name: "bare relay", through: Through::Relay, traffic: Traffic::LongStream },
    Lane { name: "sidecar, same protocol", through: Through::Weir, traffic: Traffic::LongStream },
    Lane {
        name: "sidecar, Anthropic to OpenAI",
        through: Through::Weir,
        traffic: Traffic::LongStreamTranslated,
    },
];

/// Both that stand between the load and the mock.
struct Between {
    relay: Relay,
    sidecar: Sidecar,
}

/// What one lane did in all its rounds.
#[derive(Default)]
struct Measured {
    runs: Vec<Run>,
    /// That the one in between spent, round by round.
    cpu_seconds: Vec<f64>,
}

pub(crate) fn run(bench: &mut Bench) -> Outcome<()> {
    let relay = Relay::start(bench.mock.address())?;
    let between = Between { relay, sidecar: bench.sidecar(Setup::Lean)? };
    whole(bench, &between)?;
    streamed(bench, &between)
}

fn whole(bench: &mut Bench, between: &Between) -> Outcome<()> {
    for lane in &WHOLE {
        let load = ClosedLoop { connections: CONNECTIONS, until: Until::Requests(WARM_UP) };
        load.run(between.address(bench, lane.through), lane.traffic)?;
    }
    let load = ClosedLoop { connections: CONNECTIONS, until: Until::Elapsed(bench.scale.round) };
    let measured = in_turns(bench, between, &WHOLE, |target, traffic| load.run(target, traffic))?;

    let columns = ["closed loop", "requests/s", "of the bare relay", "p50 ms", "p99 ms", "CPU µs/request"];
    let mut table = Table::new("wires", &columns);
    for (lane, of_lane) in WHOLE.iter().zip(&measured) {
        let latency = Quantiles::median_of(&of_lane.latencies());
        let per_second = median(of_lane.runs.iter().map(Run::per_second));
        let ratio = of_lane.throughput_over(&measured[1]);
        let cpu = of_lane.cpu_micros_each(1);
        table.row(
            vec![
                lane.name.into(),
                number(per_second, 0),
                number(ratio, 3),
                millis(latency.p50),
                millis(latency.p99),
                number(cpu, 1),
            ],
            json!({
                "lane": lane.name, "connections": CONNECTIONS, "per_second": rounded(per_second),
                "of_bare_relay": rounded(ratio), "ms": latency.json(), "cpu_us_per_request": rounded(cpu),
            }),
        );
    }
    table.print(&format!(
        "Passed on, {CONNECTIONS} connections, {} rounds of {:?} in turns",
        bench.scale.rounds, bench.scale.round
    ));
    Ok(())
}

fn streamed(bench: &mut Bench, between: &Between) -> Outcome<()> {
    let load = OpenLoop { per_second: STREAMS, span: bench.scale.round, connections: STREAM_CONNECTIONS };
    let measured = in_turns(bench, between, &STREAMED, |target, traffic| load.run(target, traffic))?;

    let columns = ["to the first byte, ms", "p50", "p99", "added p50", "added p99", "CPU µs/piece"];
    let mut table = Table::new("wires_streams", &columns);
    for (lane, of_lane) in STREAMED.iter().zip(&measured) {
        let latency = Quantiles::median_of(&of_lane.latencies());
        let added = of_lane.added_over(&measured[0]);
        let cpu = of_lane.cpu_micros_each(LONG_PIECES);
        let [p50, p99] = [latency.p50, latency.p99].map(millis);
        let [added_p50, added_p99] = [added.p50, added.p99].map(millis);
        table.row(
            vec![lane.name.into(), p50, p99, added_p50, added_p99, number(cpu, 1)],
            json!({
                "lane": lane.name, "concurrent": STREAMS, "pieces": LONG_PIECES, "ms": latency.json(),
                "added_ms": { "p50": rounded(added.p50), "p99": rounded(added.p99) },
                "cpu_us_per_piece": rounded(cpu),
            }),
        );
    }
    table.print(&format!(
        "{STREAMS:.0} streams at once, {LONG_PIECES} pieces in a second each, {} rounds of {:?} in turns (CPU: of the \
         whole exchange, divided by its pieces)",
        bench.scale.rounds, bench.scale.round
    ));
    Ok(())
}

/// Every lane once in each round, so that what disturbs a round disturbs all of them.
fn in_turns(
    bench: &mut Bench,
    between: &Between,
    lanes: &[Lane],
    load: impl Fn(SocketAddr, Traffic) -> std::io::Result<Run>,
) -> Outcome<Vec<Measured>> {
    let mut measured: Vec<Measured> = lanes.iter().map(|_| Measured::default()).collect();
    for _ in 0..bench.scale.rounds {
        for (lane, of_lane) in lanes.iter().zip(&mut measured) {
            let before = between.cpu_seconds(lane.through);
            let run = load(between.address(bench, lane.through), lane.traffic)?;
            of_lane.cpu_seconds.push(between.cpu_seconds(lane.through) - before);
            let expected = if lane.through == Through::Weir { Source::Upstream } else { Source::Direct };
            bench.expect(lane.name, &run, expected);
            of_lane.runs.push(run);
        }
    }
    Ok(measured)
}

impl Between {
    fn address(&self, bench: &Bench, through: Through) -> SocketAddr {
        match through {
            Through::Mock => bench.mock.address(),
            Through::Relay => self.relay.address(),
            Through::Weir => self.sidecar.address(),
        }
    }

    fn cpu_seconds(&self, of: Through) -> f64 {
        match of {
            // A part of this very process.
            Through::Mock => f64::NAN,
            Through::Relay => self.relay.cpu_seconds(),
            Through::Weir => self.sidecar.cpu_seconds(),
        }
    }
}

impl Measured {
    fn latencies(&self) -> Vec<Quantiles> {
        self.runs.iter().map(Run::latency).collect()
    }

    fn added_over(&self, base: &Self) -> Quantiles {
        let pairs = self.latencies().into_iter().zip(base.latencies());
        Quantiles::median_of(&pairs.map(|(through, direct)| through.above(&direct)).collect::<Vec<_>>())
    }

    fn throughput_over(&self, base: &Self) -> f64 {
        median(self.runs.iter().zip(&base.runs).map(|(run, base)| run.per_second() / base.per_second()))
    }

    /// Of each of the `parts` that every answer has.
    fn cpu_micros_each(&self, parts: usize) -> f64 {
        let answers: usize = self.runs.iter().map(|run| run.answers.len()).sum();
        self.cpu_seconds.iter().sum::<f64>() * 1e6 / (answers * parts) as f64
    }
}
