//! What is asked of a provider beside chats: requests passed on as they are, and a few short questions.

use super::dialect::is_credential;
use super::failure::{MAX_REPORT_BYTES, read_bounded};
use super::{Error, Kind, Provider, ProviderKind};
use crate::chat::Request;
use crate::secret::redact;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use reqwest::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    SET_COOKIE, TRANSFER_ENCODING,
};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a list of models may take: someone waits for all of them.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest list of models, and the longest of the other short answers.
const MAX_LIST_BYTES: usize = 1 << 20;

/// Headers that are between two neighbours only (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Google's other paths, which are not below the version that its address ends with.
const BESIDE: [&str; 2] = ["/upload/", "/v1alpha/"];

/// A request that is passed on as it is.
pub struct Passage {
    /// Its method.
    pub method: Method,
    /// What follows the version, from the slash on: `/audio/speech?x=1`. The whole, where it is beside it.
    pub path_and_query: String,
    /// Its headers. Those that are for us stay with us.
    pub headers: HeaderMap,
    /// Its body, as it comes in.
    pub body: BoxStream<'static, Result<Bytes, std::io::Error>>,
}

/// What the provider answers to it.
pub struct Passed {
    /// Its status, whatever it is.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as it comes in.
    pub body: BoxStream<'static, Result<Bytes, Error>>,
}

impl Provider {
    /// Sends a request on as it is, with our key in place of the client's. A refusal comes back like any
    /// answer, without whatever may be a key in it.
    pub async fn pass(&self, passage: Passage) -> Result<Passed, Error> {
        let Passage { method, path_and_query, headers: received, body } = passage;
        let url = self.passed_url(&path_and_query)?;
        let has_body = received.contains_key(CONTENT_LENGTH) || received.contains_key(TRANSFER_ENCODING);
        let mut headers = forwarded(&received);
        self.add_own(&mut headers);
        let mut sent = self.client.request(method, url).headers(headers);
        if has_body {
            sent = sent.body(Body::wrap_stream(body));
        }
        let response = self.within(self.reply_timeout, self.response(sent)).await?;
        self.passed(response).await
    }

    /// The ids of the models it has, as clients call them.
    pub async fn models(&self) -> Result<Vec<String>, Error> {
        let path = match self.kind {
            ProviderKind::OpenAi | ProviderKind::Azure | ProviderKind::Generic => "/models",
            // Their pages are short unless one asks.
            ProviderKind::Anthropic => "/models?limit=1000",
            ProviderKind::Gemini => "/models?pageSize=1000",
            ProviderKind::Ollama => "/api/tags",
        };
        let mut headers = HeaderMap::new();
        self.add_own(&mut headers);
        let sent = self.client.get(format!("{}{path}", self.base_url)).headers(headers);
        let list = self.within(LIST_TIMEOUT, self.short_answer(sent)).await?;
        Ok(ids(&list).into_iter().flat_map(|theirs| self.our_names(theirs)).collect())
    }

    /// How many tokens `request` is, as Anthropic counts them. The others cannot be asked.
    pub async fn count_tokens(&self, request: &Request) -> Result<u64, Error> {
        if self.kind != ProviderKind::Anthropic {
            return Err(self.error(Kind::Unsupported, "tokens are counted by Anthropic only"));
        }
        let body = self.countable(request)?;
        let sent = self.post_json("/messages/count_tokens", request, body);
        let answer = self.within(self.first_token_timeout, self.short_answer(sent)).await?;
        let count = answer["input_tokens"].as_u64();
        count.ok_or_else(|| self.error(Kind::BadResponse, "the answer holds no `input_tokens`"))
    }

    /// Whether it makes embeddings as OpenAI's clients ask for them.
    pub fn embeds(&self) -> bool {
        self.kind.is_openai_like() || self.kind == ProviderKind::Ollama
    }

    /// Asks for embeddings: `body` as OpenAI's clients write it, but for the model's name.
    pub async fn embed(&self, body: Bytes) -> Result<Passed, Error> {
        match self.kind {
            // Its address has no version in it.
            ProviderKind::Ollama => self.ask("/v1/embeddings", body).await,
            _ if self.embeds() => self.ask("/embeddings", body).await,
            _ => Err(self.error(Kind::Unsupported, "embeddings are made by OpenAI's likes only")),
        }
    }

    /// Asks what is no chat: `body` as it came, but for the model's name.
    pub async fn ask(&self, path: &str, body: Bytes) -> Result<Passed, Error> {
        #[derive(Deserialize)]
        struct Named {
            model: Option<String>,
            /// What Ollama's older clients call it.
            name: Option<String>,
        }
        let bad = || self.error(Kind::BadRequest, "the request body is not a JSON object with a `model`");
        let (field, model) = match serde_json::from_slice(&body).map_err(|_| bad())? {
            Named { model: Some(model), .. } => ("model", model),
            Named { name: Some(name), .. } => ("name", name),
            Named { .. } => return Err(bad()),
        };
        let theirs = self.their_name(&model);
        let changes: &[_] = if theirs == model { &[] } else { &[(field, Some(theirs.into()))] };
        let sent = self.post_json(path, &Request::default(), self.spliced(&body, changes)?);
        let response = self.within(self.reply_timeout, self.response(sent)).await?;
        self.passed(response).await
    }

    /// A question of which only the tokens count: nothing about its answer.
    fn countable(&self, request: &Request) -> Result<Bytes, Error> {
        let model = self.their_name(&request.model);
        if self.takes_as_it_came(request) {
            let mut changes = Vec::new();
            if model != request.model {
                changes.push(("model", Some(Value::from(model))));
            }
            if request.sampling.answer_limit().is_some() || request.delivery.stream {
                changes.extend([("max_tokens", None), ("stream", None)]);
            }
            return self.spliced(&request.received.body, &changes);
        }
        let mut body = self.encoded(request, self.protocol, model, &mut Vec::new())?;
        ["max_tokens", "stream"].iter().for_each(|field| drop(body.shift_remove(*field)));
        Ok(Value::Object(body).to_string().into())
    }

    fn post_json(&self, path: &str, request: &Request, body: Bytes) -> RequestBuilder {
        let mut headers = HeaderMap::new();
        if self.understands(request) {
            headers = super::dialect::received_headers(request);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.add_own(&mut headers);
        self.client.post(format!("{}{path}", self.base_url)).headers(headers).body(body)
    }

    async fn response(&self, sent: RequestBuilder) -> Result<Response, Error> {
        sent.send().await.map_err(|error| self.transport_error(&error))
    }

    /// The JSON of a short answer.
    async fn short_answer(&self, sent: RequestBuilder) -> Result<Value, Error> {
        let response = self.response(sent).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let body = read_bounded(response, MAX_LIST_BYTES, self.idle_timeout).await;
        let read = body.and_then(|body| serde_json::from_slice(&body).ok());
        read.ok_or_else(|| self.error(Kind::BadResponse, "the answer is not JSON, or too long"))
    }

    /// A client's path, below the base URL and nowhere else.
    fn passed_url(&self, path_and_query: &str) -> Result<Url, Error> {
        let refused = || self.error(Kind::BadRequest, "this path cannot be passed on");
        if !path_and_query.starts_with('/') {
            return Err(refused());
        }
        let base = self.base_of(path_and_query);
        let mut url = Url::parse(&format!("{base}{path_and_query}")).map_err(|_| refused())?;
        let base = Url::parse(base).map_err(|_| refused())?;
        let below = url.path().strip_prefix(base.path().trim_end_matches('/'));
        if url.origin() != base.origin() || !below.is_some_and(|path| path.starts_with('/')) {
            return Err(refused());
        }
        url.set_fragment(None);
        // Gemini's clients may show their key there; it is for us.
        let parts = url.query().unwrap_or_default().split('&').filter(|part| !part.starts_with("key="));
        let query = parts.collect::<Vec<_>>().join("&");
        url.set_query(Some(query.as_str()).filter(|query| !query.is_empty()));
        Ok(url)
    }

    /// Up to where an address stays the same: Google's uploads and previews are beside its version.
    fn base_of(&self, path: &str) -> &str {
        let beside = self.kind == ProviderKind::Gemini && BESIDE.iter().any(|other| path.starts_with(other));
        let version = self.base_url.rsplit_once('/').filter(|_| beside);
        version.map_or(&self.base_url, |(root, _)| root)
    }

    async fn passed(&self, response: Response) -> Result<Passed, Error> {
        let status = response.status();
        let mut headers = without_hops(response.headers());
        headers.remove(SET_COOKIE);
        if status.as_u16() < 400 {
            return Ok(Passed { status, headers, body: self.pieces(response) });
        }
        let readable = headers.remove(CONTENT_ENCODING).is_none();
        let body = self.within(self.idle_timeout, async {
            let body = read_bounded(response, MAX_REPORT_BYTES, self.idle_timeout).await;
            Ok(body.filter(|_| readable).unwrap_or_default())
        });
        let body = Bytes::from(redact(&String::from_utf8_lossy(&body.await?), &self.secrets));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        Ok(Passed { status, headers, body: stream::iter([Ok(body)]).boxed() })
    }

    /// A body as it comes in. Dropping it closes the connection.
    fn pieces(&self, response: Response) -> BoxStream<'static, Result<Bytes, Error>> {
        let (name, patience) = (Arc::clone(&self.name), self.idle_timeout);
        let fail = move |kind, message: &str| Err(Error::new(kind, &name, message));
        stream::unfold(Some((response, fail)), move |state| async move {
            let (mut response, fail) = state?;
            match timeout(patience, response.chunk()).await {
                Ok(Ok(Some(piece))) => Some((Ok(piece), Some((response, fail)))),
                Ok(Ok(None)) => None,
                Ok(Err(_)) => Some((fail(Kind::Cut, "the answer broke off"), None)),
                Err(_) => Some((fail(Kind::Timeout, "the answer stood still for too long"), None)),
            }
        })
        .boxed()
    }

    /// `work`, unless it takes longer than `patience`.
    pub(super) async fn within<T>(
        &self,
        patience: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        timeout(patience, work).await.unwrap_or_else(|_| Err(self.too_late(patience)))
    }
}

/// The headers of a client that are meant for the provider.
pub fn forwarded(received: &HeaderMap) -> HeaderMap {
    let ours = |name: &HeaderName| {
        is_credential(name)
            || name.as_str().starts_with("x-weir-")
            || ["host", "accept-encoding"].contains(&name.as_str())
    };
    let mut headers = without_hops(received);
    let leaving: Vec<HeaderName> = headers.keys().filter(|name| ours(name)).cloned().collect();
    leaving.iter().for_each(|name| drop(headers.remove(name)));
    headers
}

/// All headers but those for the next neighbour, and those that it is told to take so.
fn without_hops(headers: &HeaderMap) -> HeaderMap {
    let connection = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<String> =
        connection.flat_map(|value| value.split(',')).map(|name| name.trim().to_lowercase()).collect();
    let hop = |name: &str| HOP_BY_HOP.contains(&name) || named.iter().any(|hop| hop == name);
    let kept = headers.iter().filter(|(name, _)| !hop(name.as_str()));
    let mut forwarded = HeaderMap::with_capacity(headers.len());
    for (name, value) in kept {
        forwarded.append(name, value.clone());
    }
    forwarded
}

/// The ids in a list of models, in any of the forms in use.
fn ids(list: &Value) -> Vec<String> {
    let items = ["data", "models"].iter().find_map(|field| list[*field].as_array());
    // Some servers have the list without anything around it.
    let items = items.or_else(|| list.as_array()).map(Vec::as_slice).unwrap_or_default();
    let id = |item: &Value| {
        let id = item["id"].as_str().or_else(|| item["name"].as_str())?;
        Some(id.strip_prefix("models/").unwrap_or(id).to_owned())
    };
    items.iter().filter_map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_form_of_a_list_of_models_is_understood() {
        for list in [
            json!({ "object": "list", "data": [{ "id": "a" }, { "id": "b" }, { "no": "id" }] }),
            json!({ "models": [{ "name": "models/a", "displayName": "A" }, { "name": "models/b" }] }),
            json!({ "models": [{ "name": "a", "size": 1 }, { "name": "b" }] }),
            json!([{ "id": "a" }, { "id": "b" }]),
        ] {
            assert_eq!(ids(&list), ["a", "b"], "{list}");
        }
        assert!(ids(&json!("nonsense")).is_empty());
    }

    #[test]
    fn headers_for_neighbours_and_for_us_stay_here() {
        let pairs = [
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("host", "weir"),
            ("authorization", "Bearer client"),
            ("x-api-key", "client"),
            ("cookie", "a=b"),
            ("x-weir-cache", "no"),
            ("accept-encoding", "gzip"),
            ("content-length", "7"),
            ("x-own", "1"),
            ("x-own", "2"),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_static(value));
        }
        let forwarded = forwarded(&headers);
        assert_eq!(forwarded.get_all("x-own").iter().count(), 2);
        let mut names: Vec<&str> = forwarded.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "x-own"]);
    }
}
