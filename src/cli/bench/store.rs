//! `weir bench store`

use super::super::{Outcome, output};
use super::all::{Figure, figure};
use crate::config::Config;
use crate::lab::store::{self, Report};
use serde::Serialize;
use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `weir bench store …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many entries; several sizes are measured one after the other
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000],
        value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    entries: Vec<u32>,
    /// Over how many scopes they are spread
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    scopes: u32,
    /// An empty or new folder to work in; it is removed afterwards [default: one in the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Print a line of JSON for each size
    #[arg(long)]
    json: bool,
    /// Write over what is in the folder until this process is killed
    #[arg(long, hide = true, requires = "folder")]
    until_killed: bool,
}

/// What is measured of one size.
#[derive(Serialize)]
struct Measured {
    #[serde(flatten)]
    report: Report,
    /// Opening it after another process was killed in the middle of writing, in milliseconds.
    open_killed_ms: f64,
}

pub(super) fn run(args: &Args) -> Outcome {
    let named = || std::env::temp_dir().join(format!("weir-bench-store-{}", std::process::id()));
    let folder = args.folder.clone().unwrap_or_else(named);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if args.until_killed {
        let entries = args.entries.first().map_or(1, |entries| *entries as usize);
        let writing = || output::line(WRITING);
        return Ok(runtime.block_on(store::write_over(&folder, entries, args.scopes as usize, writing))?);
    }
    if fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_some()) {
        return Err(format!("{} is not empty; name a new folder", folder.display()).into());
    }
    for entries in &args.entries {
        let (entries, scopes) = (*entries as usize, (args.scopes.min(*entries)) as usize);
        let say = |doing: &str| output::note(format!("{entries} entries: {doing}"));
        let report = runtime.block_on(store::measure(&folder, entries, scopes, say));
        let measured = report.map_err(Box::<dyn Error>::from).and_then(|report| {
            output::note(format!("{entries} entries: killing it while it writes"));
            let open_killed_ms = killed(&folder, entries, scopes)?;
            Ok(Measured { report, open_killed_ms })
        });
        fs::remove_dir_all(&folder)?;
        let measured = measured?;
        output::line(if args.json { serde_json::to_string(&measured)? } else { page(&measured) });
    }
    Ok(())
}

/// What the process says that is to be killed.
const WRITING: &str = "writing";

/// Has another process write to the store, kills it, and opens the store.
fn killed(folder: &Path, entries: usize, scopes: usize) -> Result<f64, Box<dyn Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["bench", "store", "--until-killed", "--folder"])
        .arg(folder)
        .args(["--entries", &entries.to_string(), "--scopes", &scopes.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let said = child.stdout.take().map(BufReader::new).into_iter().flat_map(BufReader::lines);
    let is_writing = said.map_while(Result::ok).any(|line| line == WRITING);
    child.kill()?;
    child.wait()?;
    if !is_writing {
        return Err("the process that was to be killed ended by itself".into());
    }
    Ok(store::open_killed(folder)?)
}

/// So many entries, where little time is to be spent.
const A_FEW: usize = 10_000;

/// What a short run finds.
pub(super) fn short(_: &Config) -> Result<Vec<Figure>, Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("weir-bench-all-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(store::measure(&folder, A_FEW, 1, |_| ()));
    let _ = fs::remove_dir_all(&folder);
    let report = report?;
    let found = format!(
        "{:.2} ms at p50, {:.2} at p99; the very nearest in {:.1} %",
        report.search_p50_ms,
        report.search_p99_ms,
        100.0 * report.recall
    );
    Ok(vec![
        figure(format!("a search among {A_FEW}"), found),
        figure("inserting", format!("{:.0}/s", report.inserts_per_second)),
        figure("opening, after a crash", format!("{:.0} ms", report.open_unclean_ms)),
    ])
}

fn page(measured: &Measured) -> String {
    let Measured { report, open_killed_ms } = measured;
    let Report {
        entries,
        scopes,
        inserts_per_second,
        graphs_seconds,
        search_p50_ms,
        search_p99_ms,
        recall,
        memory_per_entry,
        disk_per_entry,
        live_per_entry,
        open_clean_ms,
        open_unclean_ms,
        first_search_ms,
        filled_seconds,
    } = report;
    [
        format!("{entries} entries with vectors of 384 numbers, scopes: {scopes}"),
        format!("  inserting  {inserts_per_second:.0}/s; graphs were made {graphs_seconds:.1} s later"),
        format!("  searching  p50 {search_p50_ms:.3} ms, p99 {search_p99_ms:.3} ms; the very nearest in {:.1} %", recall * 100.0),
        format!("  memory     {memory_per_entry:.0} bytes an entry for the index"),
        format!("  disk       {disk_per_entry:.0} bytes an entry, {live_per_entry:.0} of them its own"),
        format!("  opening    {open_clean_ms:.0} ms, {open_unclean_ms:.0} ms after a crash; then the first search {first_search_ms:.0} ms, and all of its scope after {filled_seconds:.1} s"),
        format!("  killed     {open_killed_ms:.0} ms, after kill -9 in the middle of writing"),
    ]
    .join("\n")
}
