//! `/weir/store`: the files of the store, which this process holds.

use super::error::Error;
use super::read::{self, Asker};
use super::{Server, guard, pass};
use crate::chat::Protocol;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use futures_util::future::BoxFuture;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// So often a client is sent a space while it waits, so that nobody takes the connection for dead.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// Writes the store to a new folder beside it.
pub type Backup = Arc<dyn Fn() -> BoxFuture<'static, Result<BackedUp, String>> + Send + Sync>;

/// The store's folder, and what writes it elsewhere.
#[derive(Clone)]
pub struct Files {
    /// Where the store is.
    pub folder: PathBuf,
    /// Writes what is there.
    pub backup: Backup,
}

/// What was written.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct BackedUp {
    /// Where it is.
    pub folder: PathBuf,
    /// Entries that are in it.
    pub entries: u64,
    /// Entries that are not, since they were damaged.
    pub left_out: u64,
    /// What the files took.
    pub before: u64,
    /// What those of the backup take.
    pub after: u64,
}

/// Why there is no backup.
#[derive(Debug)]
pub(super) enum Fault {
    /// It would hold what all tenants have asked.
    Shared,
    /// What is asked cannot be read.
    Unreadable,
    /// There are no files.
    NoFiles,
    /// This process has another store than the one that is meant.
    Another(PathBuf),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Store(fault)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// The store that is meant.
    store: PathBuf,
}

/// `POST /weir/store/backup`: writes the store to a new folder beside it, which nobody names from outside. It may take
/// minutes: the answer begins with spaces.
pub(super) async fn backup(State(server): State<Arc<Server>>, headers: HeaderMap, body: Body) -> Response {
    let begun = async {
        guard::admit(&server.config.clients, &headers)?;
        if pass::has_tenants(&server.config.clients) {
            return Err(Error::from(Fault::Shared));
        }
        let Asked { store } =
            serde_json::from_slice(&read::body(&server, body).await?).map_err(|_| Fault::Unreadable)?;
        let Files { folder, backup } = server.files.clone().ok_or(Fault::NoFiles)?;
        if folder.canonicalize().ok().is_none_or(|folder| store.canonicalize().ok() != Some(folder)) {
            return Err(Fault::Another(folder).into());
        }
        let (done, result) = oneshot::channel();
        // It goes on where the client goes.
        tokio::spawn(async move { drop(done.send(backup().await)) });
        Ok(told(result))
    };
    Asker::new(Protocol::OpenAiChat, &headers).respond(begun.await)
}

/// Spaces, and then what came of it.
fn told(result: oneshot::Receiver<Result<BackedUp, String>>) -> Response {
    let pieces = stream::unfold(Some(result), async |waiting| {
        let mut result = waiting?;
        match timeout(SIGN_OF_LIFE, &mut result).await {
            Err(_) => Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), Some(result))),
            Ok(done) => {
                let told = match done.unwrap_or_else(|_| Err("it ended in a panic".to_owned())) {
                    Ok(backup) => json!(backup),
                    Err(message) => json!({ "error": { "message": message } }),
                };
                Some((Ok(Bytes::from(told.to_string())), None))
            }
        }
    });
    ([(CONTENT_TYPE, "application/json")], Body::from_stream(pieces)).into_response()
}
