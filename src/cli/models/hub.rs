//! Files from the Hugging Face hub, or a mirror of it, over HTTP. A download that is cut off goes on where
//! it stopped, in this run or in the next.

use super::landing::{self, Landing, bar};
use super::say;
use crate::models::{Length, Sha256};
use crate::upstream::provider::is_loopback;
use bytes::Bytes;
use indicatif::ProgressBar;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode};
use std::io::Write;
use std::time::Duration;
use tokio::sync::mpsc;

const CONNECT: Duration = Duration::from_secs(10);
/// A server that says nothing for so long has gone.
const SILENCE: Duration = Duration::from_secs(30);
/// For one answer, body and all.
const WHOLE: Duration = Duration::from_hours(1);
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);
/// How many pieces may wait for the disk.
const QUEUE: usize = 16;
/// The server will not go on where we stopped (or sends another part): the next attempt starts from nothing.
const REFUSED_RANGE: [StatusCode; 2] = [StatusCode::RANGE_NOT_SATISFIABLE, StatusCode::PARTIAL_CONTENT];

/// How often a repository that was renamed is followed.
const MOST_RENAMED: usize = 4;

/// A hub to download from.
pub(super) struct Hub {
    client: reqwest::Client,
    /// One that is not led elsewhere: what the hub itself says of a file stands in its own answer.
    steadfast: reqwest::Client,
    base: String,
}

/// What the hub says of a file before it gives it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Vouched {
    /// What its content hashes to, where it is one of the large ones.
    pub(super) sha256: Option<Sha256>,
    /// How long it is.
    pub(super) bytes: Option<u64>,
    /// The commit that this is said of.
    pub(super) commit: Option<String>,
}

/// Why the hub did not give a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// There is no HTTP client, most often because the machine has no root certificates.
    #[error("cannot speak HTTPS on this machine: {0}")]
    Client(String),
    /// No answer.
    #[error("no answer from {base}: {reason}")]
    NoAnswer { base: String, reason: String },
    /// An answer that is none.
    #[error("{url} answered {status}")]
    Status { url: String, status: StatusCode },
    /// The answer ended too early.
    #[error("cut off after {received} of {bytes} bytes ({reason})")]
    Cut { received: u64, bytes: u64, reason: String },
    /// The answer is longer than the file.
    #[error("this is not the file the manifest means: it is longer than {0} bytes")]
    TooLong(u64),
    /// The file did not land.
    #[error(transparent)]
    Landing(#[from] landing::Error),
    /// A helper thread has died.
    #[error("a helper thread has died: {0}")]
    Died(#[from] tokio::task::JoinError),
}

impl Error {
    /// Whether it may go better in a moment.
    fn is_passing(&self) -> bool {
        match self {
            Self::NoAnswer { .. } | Self::Cut { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error()
                    || *status == StatusCode::TOO_MANY_REQUESTS
                    || REFUSED_RANGE.contains(status)
            }
            Self::Client(_) | Self::TooLong(_) | Self::Landing(_) | Self::Died(_) => false,
        }
    }
}

impl Hub {
    /// A client for the hub at `base`.
    pub(super) fn new(base: &str) -> Result<Self, Error> {
        // Fails only where it has been done before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = |redirects| {
            let builder = reqwest::Client::builder();
            let builder = if is_loopback(base) { builder.no_proxy() } else { builder };
            builder
                .connect_timeout(CONNECT)
                .read_timeout(SILENCE)
                .timeout(WHOLE)
                .redirect(redirects)
                .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|error| Error::Client(chain(&error)))
        };
        let (client, steadfast) = (client(Policy::default())?, client(Policy::none())?);
        Ok(Self { client, steadfast, base: base.trim_end_matches('/').to_owned() })
    }

    /// What the hub says of the file at `path` of `repository`, without giving it.
    pub(super) async fn vouch(&self, repository: &str, revision: &str, path: &str) -> Result<Vouched, Error> {
        let mut url = format!("{}/{repository}/resolve/{revision}/{path}", self.base);
        for _ in 0..MOST_RENAMED {
            let response = self.steadfast.head(&url).send().await.map_err(|error| self.no_answer(error))?;
            let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
            // To another place on the hub a renamed repository leads; elsewhere, to where large files lie.
            let renamed = header("location").filter(|to| to.starts_with('/') && !to.starts_with("//"));
            if let (true, Some(to)) = (response.status().is_redirection(), renamed) {
                url = format!("{}{to}", self.base);
                continue;
            }
            if !response.status().is_success() && !response.status().is_redirection() {
                return Err(Error::Status { url, status: response.status() });
            }
            return Ok(vouched(header));
        }
        Err(Error::NoAnswer { base: self.base.clone(), reason: "it leads around in circles".to_owned() })
    }

    fn no_answer(&self, error: reqwest::Error) -> Error {
        Error::NoAnswer { base: self.base.clone(), reason: chain(&error.without_url()) }
    }

    /// What lies at `path`, if it is no longer than `most`.
    pub(super) async fn read(&self, path: &str, most: u64) -> Result<Vec<u8>, Error> {
        let url = format!("{}/{path}", self.base);
        let mut response = self.ask(&url, 0).await?;
        if !response.status().is_success() {
            return Err(Error::Status { url, status: response.status() });
        }
        let mut content = Vec::new();
        let cut = |received: usize, error: reqwest::Error| Error::Cut {
            received: received as u64,
            bytes: most,
            reason: chain(&error.without_url()),
        };
        while let Some(piece) = response.chunk().await.map_err(|error| cut(content.len(), error))? {
            content.extend_from_slice(&piece);
            if content.len() as u64 > most {
                return Err(Error::TooLong(most));
            }
        }
        Ok(content)
    }

    /// Lands the file at `path` of `repository`.
    pub(super) async fn fetch(
        &self,
        repository: &str,
        revision: &str,
        path: &str,
        landing: &Landing,
    ) -> Result<(), Error> {
        let url = format!("{}/{repository}/resolve/{revision}/{path}", self.base);
        let continued = landing.received() > 0;
        match self.land(&url, landing).await {
            // What an earlier run left here may have been of another file.
            Err(Error::Landing(landing::Error::Wrong(_)) | Error::TooLong(_)) if continued => {
                self.land(&url, landing).await
            }
            result => result,
        }
    }

    async fn land(&self, url: &str, landing: &Landing) -> Result<(), Error> {
        let bar = bar(landing.length());
        let received = self.receive_patiently(url, landing, &bar).await;
        bar.finish_and_clear();
        received?;
        let landing = landing.clone();
        Ok(tokio::task::spawn_blocking(move || landing.settle()).await??)
    }

    async fn receive_patiently(&self, url: &str, landing: &Landing, bar: &ProgressBar) -> Result<(), Error> {
        for attempt in 1..ATTEMPTS {
            match self.receive(url, landing, bar).await {
                Err(error) if error.is_passing() => {
                    bar.suspend(|| say(format_args!("  {error}: trying again")));
                }
                result => return result,
            }
            tokio::time::sleep(PAUSE * attempt).await;
        }
        self.receive(url, landing, bar).await
    }

    /// Receives what is not here yet.
    async fn receive(&self, url: &str, landing: &Landing, bar: &ProgressBar) -> Result<(), Error> {
        let have = landing.received();
        if landing.length().exact() == Some(have) {
            return Ok(());
        }
        if have > landing.length().most() {
            landing.discard();
            return Err(Error::TooLong(landing.length().most()));
        }
        let response = self.ask(url, have).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(&response, have) => {
                write(response, landing.resume()?, have, landing, bar).await
            }
            StatusCode::OK => write(response, landing.begin()?, 0, landing, bar).await,
            status => {
                if REFUSED_RANGE.contains(&status) {
                    landing.discard();
                }
                Err(Error::Status { url: url.to_owned(), status })
            }
        }
    }

    async fn ask(&self, url: &str, have: u64) -> Result<Response, Error> {
        let mut request = self.client.get(url);
        if have > 0 {
            request = request.header(RANGE, format!("bytes={have}-"));
        }
        request.send().await.map_err(|error| self.no_answer(error))
    }
}

/// What the headers of a hub's own answer say. A digest is told of files that lie elsewhere (`x-linked-etag`).
fn vouched<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Vouched {
    let unquoted =
        |name| header(name).map(|value| value.trim_start_matches("W/").trim_matches('"').to_owned());
    let commit = unquoted("x-repo-commit");
    Vouched {
        sha256: unquoted("x-linked-etag").and_then(|etag| Sha256::try_from(etag).ok()),
        bytes: header("x-linked-size").and_then(|bytes| bytes.parse().ok()),
        commit: commit
            .filter(|commit| commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit())),
    }
}

/// Streams the body into `part`, which already holds `have` bytes.
async fn write(
    mut response: Response,
    mut part: std::fs::File,
    have: u64,
    landing: &Landing,
    bar: &ProgressBar,
) -> Result<(), Error> {
    let (pieces, mut queue) = mpsc::channel::<Bytes>(QUEUE);
    // The disk may block, so it has a thread.
    let writer = tokio::task::spawn_blocking(move || {
        while let Some(piece) = queue.blocking_recv() {
            part.write_all(&piece)?;
        }
        Ok(())
    });
    let received = receive_body(&mut response, &pieces, have, landing.length(), bar).await;
    drop(pieces);
    writer.await?.map_err(|error| landing.disk(error))?;
    if matches!(received, Err(Error::TooLong(_))) {
        landing.discard();
    }
    received
}

async fn receive_body(
    response: &mut Response,
    pieces: &mpsc::Sender<Bytes>,
    have: u64,
    length: Length,
    bar: &ProgressBar,
) -> Result<(), Error> {
    let mut received = have;
    // A server that says how much it will send is held to it, where nobody else knows.
    let end = length.exact().or_else(|| response.content_length().map(|bytes| have + bytes));
    if let Some(end) = end {
        bar.set_length(end);
    }
    let reason = loop {
        bar.set_position(received);
        match response.chunk().await {
            Ok(Some(piece)) => {
                received += piece.len() as u64;
                if received > length.most() {
                    return Err(Error::TooLong(length.most()));
                }
                if pieces.send(piece).await.is_err() {
                    // The writer has stopped, and knows why.
                    return Ok(());
                }
            }
            Ok(None) if end.is_none_or(|end| received == end) => return Ok(()),
            Ok(None) => break "the answer is too short".to_owned(),
            Err(error) => break chain(&error.without_url()),
        }
    };
    Err(Error::Cut { received, bytes: end.unwrap_or(length.most()), reason })
}

/// Whether a partial answer is the part that was asked for.
fn begins_at(response: &Response, have: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()) == Some(have)
}

/// An error and what caused it, on one line: reqwest's own message leaves out the cause.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}
