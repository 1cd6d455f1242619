//! A failover as clients see it: in the answer's own words where that is switched on, in every protocol, and never where
//! it would do harm; and as operators see it, in metrics and `/status`.

use crate::kit::{Rig, some_status};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;
use weir::server::{self, Notice, Providers, Server};
use weir::sim::{Scripted, Step};
use weir::store::memory::Memory;
use weir::telemetry::Metrics;
use weir::upstream::chain::{Chain, Config, Link, Ward};
use weir::upstream::health::{BudgetRules, Rules};
use weir::upstream::prices::Prices;
use weir::upstream::{Kind, Upstream};

struct Running {
    url: String,
    client: reqwest::Client,
}

async fn start(notice: Notice, second: Step) -> Running {
    let upstreams =
        [Scripted::new("first", [Step::Fail(Kind::RateLimit)]), Scripted::new("second", [second])];
    let links =
        upstreams.map(|upstream| Link::new(Arc::new(upstream) as Arc<dyn Upstream>, vec!["*".into()]));
    let ward = Arc::new(Ward::new(Rules::default(), BudgetRules::default()));
    ward.priced_by(Arc::new(|upstream, _, usage| (upstream == "second").then_some(usage.output as f64)));
    let chain = Chain::sharing("chain", links.into(), Config::default(), &ward);
    let rig = Rig::new(Arc::new(chain), Arc::new(Memory::default()));
    let metrics = Metrics::new(Prices::default());
    let (counted, mut pipeline) = (metrics.clone(), rig.pipeline);
    pipeline.observer = Arc::new(move |outcome| counted.record(outcome));
    let server = Server {
        config: server::Config { notice, ..server::Config::default() },
        files: None,
        clock: Arc::clone(&pipeline.clock),
        pipeline,
        metrics,
        status: some_status(),
        models: Vec::new(),
        providers: Providers::new(Vec::new(), None).watched_by(&ward),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(server::serve(listener, Arc::new(server), std::future::pending()));
    let _ = rustls::crypto::ring::default_provider().install_default();
    Running { url, client: reqwest::Client::builder().no_proxy().build().unwrap() }
}

impl Running {
    /// What is answered, and from where.
    async fn post(&self, path: &str, body: &Value) -> (String, String) {
        let response = self.client.post(format!("{}{path}", self.url)).body(body.to_string()).send();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let source = response.headers()["x-weir-source"].to_str().unwrap().to_owned();
        (response.text().await.unwrap(), source)
    }

    async fn get(&self, path: &str) -> String {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap().text().await.unwrap()
    }
}

/// Each protocol, asked `text`.
fn questions(text: &str, stream: bool) -> Vec<(&'static str, Value)> {
    let messages = json!([{ "role": "user", "content": text }]);
    let gemini = if stream {
        "/v1beta/models/m:streamGenerateContent?alt=sse"
    } else {
        "/v1beta/models/m:generateContent"
    };
    vec![
        ("/v1/chat/completions", json!({ "model": "m", "stream": stream, "messages": messages })),
        ("/v1/responses", json!({ "model": "m", "stream": stream, "input": text })),
        ("/v1/messages", json!({ "model": "m", "stream": stream, "max_tokens": 9, "messages": messages })),
        (gemini, json!({ "contents": [{ "role": "user", "parts": [{ "text": text }] }] })),
        ("/api/chat", json!({ "model": "m", "stream": stream, "messages": messages })),
        ("/api/generate", json!({ "model": "m", "stream": stream, "prompt": text })),
    ]
}

#[tokio::test]
async fn the_first_words_of_an_answer_tell_in_every_protocol_and_are_not_remembered() {
    let running = start(Notice::Inline, Step::say("the answer")).await;
    for stream in [false, true] {
        for (nth, (path, body)) in questions("tell me", stream).into_iter().enumerate() {
            // The same question in another protocol would be answered from memory.
            let asked = format!("tell me of number {nth}, {stream}");
            let body: Value = serde_json::from_str(&body.to_string().replace("tell me", &asked)).unwrap();
            let (text, source) = running.post(path, &body).await;
            assert_eq!(source, "upstream", "{path}");
            assert_eq!(
                text.matches("Switched to second (first rate limited)").count(),
                said(path, stream),
                "{path} {text}"
            );
            let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} is not in {text}"));
            assert!(at("Switched to") < at("the answer"), "{path} {text}");
            let (text, source) = running.post(path, &body).await;
            assert_eq!(source, "exact", "{path}");
            assert!(!text.contains("Switched") && text.contains("the answer"), "{path} {text}");
        }
    }
}

/// How often the words of an answer stand in it: a stream of responses says them again at each end.
fn said(path: &str, stream: bool) -> usize {
    if stream && path == "/v1/responses" { 5 } else { 1 }
}

#[tokio::test]
async fn it_is_in_a_header_alone_unless_it_is_switched_on() {
    let running = start(Notice::Header, Step::say("the answer")).await;
    for (path, body) in questions("q", false) {
        assert!(!running.post(path, &body).await.0.contains("Switched"), "{path}");
    }
}

#[tokio::test]
async fn what_a_program_reads_is_left_as_it_is() {
    let running = start(Notice::Inline, Step::say("{}")).await;
    let message = json!([{ "role": "user", "content": "q" }]);
    let chat = |field: &str, value: Value| {
        let mut body = json!({ "model": "m", "messages": message });
        body[field] = value;
        body
    };
    let tool = json!([{ "type": "function", "function": { "name": "f", "parameters": {} } }]);
    let mut must_call = chat("tools", tool);
    must_call["tool_choice"] = "required".into();
    let prefilled = json!([{ "role": "user", "content": "q" }, { "role": "assistant", "content": "{" }]);
    let schema = json!({ "responseMimeType": "application/json" });
    let contents = json!([{ "role": "user", "parts": [{ "text": "q" }] }]);
    for (path, body) in [
        ("/v1/chat/completions", chat("response_format", json!({ "type": "json_object" }))),
        ("/v1/chat/completions", must_call),
        ("/v1/chat/completions", chat("logprobs", true.into())),
        ("/v1/messages", json!({ "model": "m", "max_tokens": 9, "messages": prefilled })),
        ("/v1/completions", json!({ "model": "m", "prompt": "def f(" })),
        ("/v1beta/models/m:generateContent", json!({ "contents": contents, "generationConfig": schema })),
        ("/api/chat", chat("format", "json".into())),
    ] {
        let mut body = body;
        body["stream"] = false.into();
        if path.starts_with("/v1beta") {
            body.as_object_mut().unwrap().remove("stream");
        }
        let (text, _) = running.post(path, &body).await;
        assert!(!text.contains("Switched"), "{path} {body} {text}");
    }
}

#[tokio::test]
async fn a_failover_is_counted_and_what_each_has_taken_is_told() {
    let running = start(Notice::Header, Step::say("the answer")).await;
    for nth in 0..2 {
        let body = json!({ "model": "m", "messages": [{ "role": "user", "content": nth.to_string() }] });
        running.post("/v1/chat/completions", &body).await;
    }
    let metrics = running.get("/metrics").await;
    let counted = r#"weir_failovers_total{from="first",to="second",reason="rate_limit"} 2"#;
    assert!(metrics.contains(counted), "{metrics}");
    let status: Value = serde_json::from_str(&running.get("/status").await).unwrap();
    assert_eq!(status["upstreams"][0]["spent"], json!({}));
    assert_eq!(status["upstreams"][1]["spent"]["m"]["answers"], 2, "{status}");
}
