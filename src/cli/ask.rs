//! `weir ask`: one question through the running sidecar, as any client would put it.

use super::output;
use super::sidecar::{Fault, Sidecar, cut};
use crate::chat::{Event, Message, Request, Role};
use crate::config::{Config, Environment};
use crate::wire::openai_chat::{Decoder, encode_request};
use crate::wire::sse;
use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use std::error::Error;
use std::time::{Duration, Instant};

/// `weir ask …`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The question
    question: String,
    /// The sidecar's address [default: WEIR_URL, or where the configuration says it listens]
    #[arg(long)]
    url: Option<String>,
    /// The project context
    #[arg(long, default_value = "default")]
    project: String,
    /// The model; a provider's, or the one in the sidecar itself
    #[arg(long, default_value = "local/smollm2-135m-instruct")]
    model: String,
    /// Do not answer from memory
    #[arg(long)]
    fresh: bool,
}

pub(super) async fn run(
    args: Args,
    environment: &Environment,
    load: impl FnOnce() -> Result<Config, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let sidecar = Sidecar::find(args.url.clone(), environment, load)?;
    let asked = Instant::now();
    let response = send(&args, &sidecar).await?;
    let (headers, begun) = (response.headers().clone(), asked.elapsed());
    print_answer(response).await?;
    output::note(facts(&headers, begun, asked.elapsed()));
    Ok(())
}

async fn send(args: &Args, sidecar: &Sidecar) -> Result<Response, Box<dyn Error>> {
    let mut request = Request {
        model: args.model.clone(),
        messages: vec![Message::text(Role::User, &args.question)],
        ..Request::default()
    };
    request.delivery.stream = true;
    let mut post = sidecar
        .request(Method::POST, "/v1/chat/completions")
        .header("content-type", "application/json")
        .header("x-weir-project", &args.project)
        .body(serde_json::to_vec(&encode_request(&request, &mut Vec::new())?)?);
    if args.fresh {
        post = post.header("cache-control", "no-cache");
    }
    Ok(sidecar.send(post).await?)
}

/// Prints the text as it arrives.
async fn print_answer(mut response: Response) -> Result<(), Box<dyn Error>> {
    let (mut bytes, mut decoder) = (sse::Decoder::default(), Decoder::default());
    while let Some(piece) = response.chunk().await.map_err(cut)? {
        for sse::Event { data, .. } in bytes.push(&piece)? {
            let events = decoder.frame(&data).map_err(|_| Fault::Cut(error_in(&data)))?;
            events.iter().for_each(print_event);
        }
    }
    output::line("");
    if decoder.ended() { Ok(()) } else { Err(Fault::Cut("the stream has no end".to_owned()).into()) }
}

fn print_event(event: &Event) {
    if let Event::Text { text, .. } | Event::Refusal { text, .. } = event {
        output::piece(text);
    }
}

fn error_in(payload: &[u8]) -> String {
    let payload: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
    payload["error"]["message"].as_str().unwrap_or("the stream cannot be understood").to_owned()
}

/// `exact · by primary · 12 s old · first word after 0.4 ms, done after 0.6 ms`
fn facts(headers: &HeaderMap, begun: Duration, done: Duration) -> String {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut facts = vec![format!("source: {}", header("x-weir-source").unwrap_or("unknown"))];
    let named = [
        ("rule", "x-weir-rule"),
        ("upstream", "x-weir-upstream"),
        ("similarity", "x-weir-similarity"),
        ("failed", "x-weir-failed"),
        ("request", "x-request-id"),
    ];
    facts.extend(named.iter().filter_map(|(label, name)| Some(format!("{label}: {}", header(name)?))));
    facts.extend(header("age").map(|age| format!("age: {age} s")));
    facts.push(format!("first byte: {:.1} ms", begun.as_secs_f64() * 1e3));
    facts.push(format!("total: {:.1} ms", done.as_secs_f64() * 1e3));
    format!("[{}]", facts.join(" · "))
}
