//! Files out of Python wheels: pip downloads the wheel, and only the member we want is read from it.
//! Nothing is installed, and nothing in the wheel is run.

use super::landing::{self, Landing};
use indicatif::ProgressBar;
use std::collections::HashMap;
use std::fs;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// Enough for a hundred megabytes on a slow line.
const DEADLINE: Duration = Duration::from_mins(15);
const POLL: Duration = Duration::from_millis(50);
/// How much of pip's complaints is kept: the end says what is wrong.
const TAIL: usize = 2048;

/// The wheels of one model: each is downloaded once, and a failure is remembered.
pub(super) struct Wheels {
    pythons: Vec<PathBuf>,
    folder: PathBuf,
    known: HashMap<String, Result<PathBuf, String>>,
}

/// Why a wheel did not give its file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// There is no Python with pip.
    #[error("found no Python with pip (tried {0}): install one, or name it with `--python`")]
    NoPip(String),
    /// pip could not download the wheel.
    #[error("pip failed ({status}): {tail}")]
    Pip { status: ExitStatus, tail: String },
    /// pip took too long.
    #[error("pip was stopped after {0:?}")]
    Deadline(Duration),
    /// The same wheel has failed before.
    #[error("{0}")]
    Again(String),
    /// pip left no wheel behind.
    #[error("pip left no wheel in {}", .0.display())]
    NoWheel(PathBuf),
    /// The wheel is not a zip archive with this member.
    #[error("cannot read {member} from the wheel: {reason}")]
    Archive { member: String, reason: zip::result::ZipError },
    /// The file in it did not land.
    #[error(transparent)]
    Landing(#[from] landing::Error),
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A helper thread has died.
    #[error("a helper thread has died: {0}")]
    Died(#[from] tokio::task::JoinError),
}

impl Wheels {
    /// Wheels got by the first of `pythons` that has pip, kept in `folder` until this is dropped.
    pub(super) fn new(pythons: Vec<PathBuf>, folder: PathBuf) -> Self {
        Self { pythons, folder, known: HashMap::new() }
    }

    /// Lands `member` of the wheel of `requirement`.
    pub(super) async fn fetch(
        &mut self,
        requirement: &str,
        member: &str,
        landing: Landing,
    ) -> Result<(), Error> {
        let wheel = match self.known.get(requirement) {
            Some(known) => known.clone().map_err(Error::Again)?,
            None => self.download(requirement).await?,
        };
        let member = member.to_owned();
        tokio::task::spawn_blocking(move || extract(&wheel, &member, &landing)).await?
    }

    async fn download(&mut self, requirement: &str) -> Result<PathBuf, Error> {
        let folder = self.folder.join(self.known.len().to_string());
        fs::create_dir_all(&folder)?;
        let (pythons, wanted) = (self.pythons.clone(), requirement.to_owned());
        let result = tokio::task::spawn_blocking(move || download(&pythons, &wanted, &folder)).await?;
        let known = result.as_ref().map(Clone::clone).map_err(Error::to_string);
        self.known.insert(requirement.to_owned(), known);
        result
    }
}

impl Drop for Wheels {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next fetch.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Reads one member of a wheel, and no more of it than the manifest expects.
fn extract(wheel: &Path, member: &str, landing: &Landing) -> Result<(), Error> {
    let broken = |reason| Error::Archive { member: member.to_owned(), reason };
    let mut archive = zip::ZipArchive::new(BufReader::new(fs::File::open(wheel)?)).map_err(broken)?;
    let content = archive.by_name(member).map_err(broken)?;
    Ok(landing.fill(content)?)
}

fn download(pythons: &[PathBuf], requirement: &str, folder: &Path) -> Result<PathBuf, Error> {
    for python in pythons {
        match pip_download(python, requirement, folder) {
            Ok(()) => return find_wheel(folder),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(Error::Pip { tail, .. }) if tail.contains("No module named pip") => {}
            Err(error) => return Err(error),
        }
    }
    let tried: Vec<_> = pythons.iter().map(|python| python.display().to_string()).collect();
    Err(Error::NoPip(tried.join(", ")))
}

fn pip_download(python: &Path, requirement: &str, folder: &Path) -> Result<(), Error> {
    let mut child = Command::new(python)
        .args(["-m", "pip", "download", "--no-deps", "--no-cache-dir", "--no-input"])
        .args(["--disable-pip-version-check", "--progress-bar", "off"])
        // A source package would run code of its own.
        .args(["--only-binary", ":all:", "-d"])
        .arg(folder)
        .arg(requirement)
        // pip's own temporary files: if it dies they go with the folder.
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let spinner = ProgressBar::new_spinner().with_message(format!("pip download {requirement}"));
    spinner.enable_steady_tick(Duration::from_millis(120));
    let outcome = watch(&mut child);
    spinner.finish_and_clear();
    match outcome? {
        (status, _) if status.success() => Ok(()),
        (status, tail) => Err(Error::Pip { status, tail }),
    }
}

/// Waits for `child` with a deadline, and gives the end of what it complained about.
fn watch(child: &mut Child) -> Result<(ExitStatus, String), Error> {
    let complaints = child.stderr.take().map(read_tail);
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait()? {
            let tail = complaints.and_then(|tail| tail.recv_timeout(Duration::from_secs(1)).ok());
            return Ok((status, tail.unwrap_or_default()));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Err(Error::Deadline(DEADLINE));
        }
        std::thread::park_timeout(POLL);
    }
}

/// Drains `pipe`, so that the writer never waits, and keeps its end.
fn read_tail(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        let (mut tail, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            tail.extend_from_slice(&buffer[..length]);
            tail.drain(..tail.len().saturating_sub(TAIL));
        }
        let _ = sender.send(String::from_utf8_lossy(&tail).trim().to_owned());
    });
    receiver
}

fn find_wheel(folder: &Path) -> Result<PathBuf, Error> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            return Ok(path);
        }
    }
    Err(Error::NoWheel(folder.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_complaints_is_kept() {
        let tail = read_tail(io::Cursor::new("x".repeat(9000) + "the end\n")).recv().unwrap();
        assert_eq!(tail.len(), TAIL - 1);
        assert!(tail.ends_with("the end"));
    }

    #[test]
    fn a_machine_without_python_is_told_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let pythons = ["no-such-python3", "no-such-python"].map(PathBuf::from);
        let error = download(&pythons, "p==1", folder.path()).unwrap_err();
        let message = "found no Python with pip (tried no-such-python3, no-such-python): \
                       install one, or name it with `--python`";
        assert_eq!(error.to_string(), message);
    }
}
