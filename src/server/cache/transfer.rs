//! What is kept, as lines of JSON: out, and in again.

use super::super::pass::has_tenants;
use super::super::{Server, read};
use super::wanted::Wanted;
use super::{Visit, asker, visit};
use crate::cache::judge::{self, Question};
use crate::cache::keeper::{Fault, Filter, Import, Keeper, Record};
use crate::server::error::Error;
use crate::vector::UnitVector;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::sync::Arc;
use std::time::Duration;

/// How often a text that finds the encoder busy is tried, and how long is waited in between.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// `GET /weir/cache/export`
pub(in crate::server) async fn export(
    State(server): State<Arc<Server>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let begun = async {
        let visit = Visit::new(server, &headers)?;
        let wanted = Wanted::of_query(query.as_deref(), &["vectors"])?;
        let with_vectors = wanted.flag("vectors")?.unwrap_or(false);
        let filter = wanted.filter(&visit.server).await?;
        let body = Body::from_stream(lines(visit, filter, with_vectors));
        Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
    };
    asker(&headers).respond(begun.await)
}

/// The lines of an export, as many at once as are read in one step. Where the store fails the body breaks off, so that
/// half of an export is not taken for a whole one.
fn lines(
    visit: Visit,
    filter: Filter,
    with_vectors: bool,
) -> impl stream::Stream<Item = Result<String, Fault>> + Send {
    let encoder = visit.server.pipeline.embedder.as_ref().map(|embedder| judge::space(embedder.id()));
    let head = Keeper::export_head(encoder.filter(|_| with_vectors).as_deref());
    let first = stream::iter([Ok(head)]);
    let rest =
        stream::try_unfold((visit, filter, None, false), move |(visit, filter, after, over)| async move {
            if over {
                return Ok(None);
            }
            let exported = visit.keeper().export(&filter, after, with_vectors).await?;
            let over = exported.next.is_none();
            Ok(Some((exported.lines, (visit, filter, exported.next, over))))
        });
    futures_util::StreamExt::chain(first, rest)
}

/// `POST /weir/cache/import`
pub(in crate::server) async fn import(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    visit(server, &headers, async |visit| {
        // What a scope is a digest of cannot be told from it: a tenant could write into another's.
        if has_tenants(&visit.server.config.clients) {
            return Err(Error::SharedImport);
        }
        let body = read::body(&visit.server, body).await?;
        let embedder = visit.server.pipeline.embedder.as_ref();
        let mut import = Import::new(embedder.map(|embedder| judge::space(embedder.id())).as_deref());
        for line in body.split(|byte| *byte == b'\n') {
            let Some(record) = import.read(line) else { continue };
            let vector = vector(&visit.server, &record).await;
            visit.keeper().import(&mut import, record, vector).await?;
        }
        Ok(import.told())
    })
    .await
}

/// The vector of an entry that came without one that can be used. The requests come first: where the encoder is busy
/// with them for long, the entry is found word for word only.
async fn vector(server: &Server, record: &Record) -> Option<UnitVector> {
    let embedder = server.pipeline.embedder.as_ref()?;
    let question = Question::new(record.text_to_embed()?);
    let text = question.to_embed()?;
    for _ in 0..ATTEMPTS {
        match embedder.embed(text).await {
            Ok(embedding) => return (!embedding.partial).then_some(embedding.vector),
            Err(error) if error.is_passing() => tokio::time::sleep(PAUSE).await,
            Err(_) => return None,
        }
    }
    None
}
