//! How many threads the tensors get.
//!
//! candle and rayon take it from the environment alone, at their first use, and their threads spin while
//! they wait for each other: with one for every core they starve the requests, and themselves (on 2 busy
//! cores: 5 tokens/s with two threads, 24 with one). So half of the cores are theirs unless the user says
//! otherwise. A running process cannot change its environment soundly, so it begins anew, once, with the
//! same arguments and the same process id.

use crate::config::Environment;
use std::thread::available_parallelism;

/// What candle and rayon read.
const VARIABLES: [&str; 2] = ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"];

/// Makes sure that the number of threads is set; on platforms without `exec` it stays as it is.
pub(super) fn settle(environment: &Environment) -> std::io::Result<()> {
    let unset: Vec<&str> = VARIABLES.into_iter().filter(|name| environment.get(name).is_none()).collect();
    if unset.is_empty() {
        return Ok(());
    }
    let half = available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)).to_string();
    begin_anew(unset.into_iter().map(|name| (name, half.as_str())))
}

#[cfg(unix)]
fn begin_anew<'a>(variables: impl Iterator<Item = (&'a str, &'a str)>) -> std::io::Result<()> {
    use std::os::unix::process::CommandExt as _;
    let program = std::env::current_exe()?;
    // Returns only where it fails.
    Err(std::process::Command::new(program).args(std::env::args_os().skip(1)).envs(variables).exec())
}

#[cfg(not(unix))]
fn begin_anew<'a>(_: impl Iterator<Item = (&'a str, &'a str)>) -> std::io::Result<()> {
    Ok(())
}
