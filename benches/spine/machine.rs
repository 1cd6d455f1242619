//! What a figure is worth nothing without: where and how it was measured.

use crate::bench::Options;
use serde_json::json;
use std::fs;
use std::process::Command;
use std::thread;

/// Prints the machine, the compiler and the day.
pub(crate) fn report(options: &Options) {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let [cpu, kernel, rustc] =
        [cpu_model(), kernel(), rustc()].map(|fact| fact.unwrap_or_else(|| "n/a".into()));
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let date = &options.date;
    println!("{cores} cores, {cpu}, Linux {kernel}, {rustc}, {build} build, {date}");
    println!(
        "{}",
        json!({
            "figure": "machine", "cores": cores, "cpu": cpu, "kernel": kernel, "rustc": rustc, "build": build,
            "date": date, "quick": options.quick,
        })
    );
}

fn cpu_model() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let model = info.lines().find(|line| line.starts_with("model name"))?;
    Some(model.split_once(':')?.1.trim().to_owned())
}

fn kernel() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/osrelease").ok()?.trim().to_owned())
}

/// Of the compiler that `rust-toolchain.toml` chooses, which is the one that built this.
fn rustc() -> Option<String> {
    let output =
        Command::new("rustc").arg("--version").current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
