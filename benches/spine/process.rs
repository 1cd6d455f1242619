//! What a running process has used so far, read from `/proc`.

use std::fs;
use std::process::Child;

/// Linux counts CPU time for user space in hundredths of a second on every architecture we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Resident memory in MiB.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) now: f64,
    pub(crate) peak: f64,
}

/// CPU time so far, of all its threads, in user space and kernel; NaN where there is no `/proc`.
pub(crate) fn cpu_seconds(of: &Child) -> f64 {
    cpu_ticks(of).map_or(f64::NAN, |ticks| ticks as f64 / TICKS_PER_SECOND)
}

fn cpu_ticks(of: &Child) -> Option<u64> {
    let stat = proc(of, "stat")?;
    // The name in brackets may hold anything; what follows the last bracket is regular.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |nth: usize| fields.get(nth)?.parse::<u64>().ok();
    Some(ticks(11)? + ticks(12)?)
}

pub(crate) fn memory(of: &Child) -> Option<Memory> {
    let status = proc(of, "status")?;
    let mebibytes = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kibibytes| kibibytes / 1024.0)
    };
    Some(Memory { now: mebibytes("VmRSS:")?, peak: mebibytes("VmHWM:")? })
}

fn proc(of: &Child, file: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{}/{file}", of.id())).ok()
}
