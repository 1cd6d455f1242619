//! Resident memory: idle, warmed up, and after many requests, new ones and repeated ones.

use crate::bench::{Bench, Outcome};
use crate::load::{ClosedLoop, Run, Source, Until, sleep};
use crate::report::{Table, number};
use crate::sidecar::{Setup, Sidecar};
use crate::summary::rounded;
use crate::traffic::{QUESTION, Traffic};
use serde_json::json;

const CONNECTIONS: usize = 16;
const WARM_UP: usize = 1_000;

pub(crate) fn run(bench: &mut Bench) -> Outcome<()> {
    let columns = ["setup", "when", "resident MiB", "peak MiB", "data on disk MiB"];
    let mut table = Table::new("memory", &columns);
    let lanes = [
        (Setup::Lean, Traffic::Unique, "new questions", Source::Upstream),
        (Setup::Full, Traffic::Same(QUESTION), "exact hits", Source::Exact),
    ];
    for (setup, traffic, name, expected) in lanes {
        let sidecar = bench.sidecar(setup)?;
        sleep(bench.scale.rest);
        row(&mut table, setup, "idle", &sidecar);
        ask(&sidecar, traffic, WARM_UP)?;
        row(&mut table, setup, &format!("after {WARM_UP} {name}"), &sidecar);

        let requests = bench.scale.memory_requests;
        let run = ask(&sidecar, traffic, requests)?;
        bench.expect(&format!("memory, {name}"), &run, expected);
        sleep(bench.scale.rest);
        row(&mut table, setup, &format!("after {requests} {name}"), &sidecar);
    }
    table.print("Resident memory");
    Ok(())
}

fn ask(sidecar: &Sidecar, traffic: Traffic, requests: usize) -> Outcome<Run> {
    let load = ClosedLoop { connections: CONNECTIONS, until: Until::Requests(requests) };
    Ok(load.run(sidecar.address(), traffic)?)
}

fn row(table: &mut Table, setup: Setup, when: &str, sidecar: &Sidecar) {
    let memory = sidecar.memory();
    let [now, peak] =
        [memory.map(|memory| memory.now), memory.map(|memory| memory.peak)].map(|of| of.unwrap_or(f64::NAN));
    let disk = sidecar.disk();
    table.row(
        vec![setup.name().into(), when.into(), number(now, 1), number(peak, 1), number(disk, 1)],
        json!({ "setup": setup.name(), "when": when, "resident_mib": rounded(now), "peak_mib": rounded(peak), "disk_mib": rounded(disk) }),
    );
}
