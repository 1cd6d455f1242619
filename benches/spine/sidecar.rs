//! The sidecar under measurement: started, asked when it is ready, read from `/proc`, killed.

use crate::bench::Outcome;
use crate::http::Wire;
use crate::load::sleep;
use crate::process::{self, Memory};
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const READY_DEADLINE: Duration = Duration::from_mins(2);
const READY_POLL: Duration = Duration::from_millis(1);
/// Starts are tried so often: another process may take the free port before the sidecar does.
const ATTEMPTS: usize = 3;

/// What is switched on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setup {
    /// Rules, exact cache and the mock.
    Lean,
    /// And the semantic cache.
    Semantic,
    /// And the local model: what a user gets without any configuration.
    Full,
}

/// A running sidecar with a data folder of its own.
pub(crate) struct Sidecar {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
    spawned: Instant,
    /// From its start to the first `/readyz` that said yes.
    pub(crate) ready_after: Duration,
}

impl Sidecar {
    pub(crate) fn start(bin: &Path, models: &Path, upstream: SocketAddr, setup: Setup) -> Outcome<Self> {
        let mut problem = String::new();
        for _ in 0..ATTEMPTS {
            let mut sidecar = Self::spawn(bin, models, upstream, setup)?;
            match sidecar.wait_until_ready() {
                Ok(()) => return Ok(sidecar),
                Err(error) => problem = format!("{error}; its log ends: {}", sidecar.end_of_log()),
            }
        }
        Err(problem.into())
    }

    fn spawn(bin: &Path, models: &Path, upstream: SocketAddr, setup: Setup) -> Outcome<Self> {
        // Under `target`, because a folder for temporary files may be memory, and then writes cost nothing.
        let folder = TempDir::with_prefix_in("spine-", env!("CARGO_TARGET_TMPDIR"))?;
        let address = free_port()?;
        let config = folder.path().join("weir.toml");
        fs::write(&config, setup.config(address, upstream))?;
        let log = File::create(folder.path().join("weir.log"))?;
        let spawned = Instant::now();
        let child = Command::new(bin)
            .args(["serve", "--config"])
            .arg(&config)
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .arg("--models-dir")
            .arg(models)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{} does not start: {error}", bin.display()))?;
        Ok(Self { child, address, folder, spawned, ready_after: Duration::ZERO })
    }

    fn wait_until_ready(&mut self) -> Outcome<()> {
        while !self.is_ready() {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the sidecar ended: {status}").into());
            }
            if self.since_spawned() > READY_DEADLINE {
                return Err(format!("the sidecar is not ready after {READY_DEADLINE:?}").into());
            }
            sleep(READY_POLL);
        }
        self.ready_after = self.since_spawned();
        Ok(())
    }

    fn is_ready(&self) -> bool {
        let ask = || -> io::Result<bool> {
            let mut wire = Wire::dial(self.address)?;
            wire.send(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
            Ok(wire.receive()?.is_some_and(|reply| reply.status() == 200))
        };
        ask().unwrap_or(false)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn since_spawned(&self) -> Duration {
        self.spawned.elapsed()
    }

    pub(crate) fn cpu_seconds(&self) -> f64 {
        process::cpu_seconds(&self.child)
    }

    pub(crate) fn memory(&self) -> Option<Memory> {
        process::memory(&self.child)
    }

    /// What its data folder takes on disk, in MiB.
    pub(crate) fn disk(&self) -> f64 {
        bytes_below(&self.folder.path().join("data")) as f64 / 1024.0 / 1024.0
    }

    fn end_of_log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("weir.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Setup {
    fn config(self, listen: SocketAddr, upstream: SocketAddr) -> String {
        let semantic = if self == Self::Lean { "off" } else { "on" };
        let order = if self == Self::Full { r#"["primary", "local"]"# } else { r#"["primary"]"# };
        format!(
            r#"
[server]
listen = "{listen}"
[[upstream]]
name = "primary"
kind = "openai"
base_url = "http://{upstream}/v1"
api_key = "sk-bench"
models = ["*"]
[chain]
order = {order}
[cache]
semantic = "{semantic}"
"#
        )
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lean => "semantic off, no local model",
            Self::Semantic => "semantic on, no local model",
            Self::Full => "semantic on, local model",
        }
    }
}

fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { bytes_below(&entry.path()) } else { size(&entry) }).sum()
}

fn size(entry: &fs::DirEntry) -> u64 {
    entry.metadata().map_or(0, |metadata| metadata.len())
}
