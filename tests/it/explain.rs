//! Why a request was answered as it was, over HTTP and from the command line.

use crate::keeping::{Running, client, start_for, stderr, stdout};
use serde_json::{Value, json};
use weir::secret::Secret;
use weir::server::Client;
use weir::sim::Step;

impl Running {
    /// Asks as that client, and gives the request's id.
    async fn question(&self, key: &str, body: &Value, headers: &[(&str, &str)]) -> String {
        let url = format!("http://{}/v1/chat/completions", self.address);
        let mut request = client().post(url).bearer_auth(key).body(body.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        response.bytes().await.unwrap();
        id
    }

    /// Waits until what was answered is written, and can be found.
    async fn written(&self, key: &str) {
        let url = format!("http://{}/weir/cache/purge", self.address);
        let dry_run = json!({ "all": true, "dry_run": true });
        let response = client().post(url).bearer_auth(key).body(dry_run.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 200);
    }

    async fn explain(&self, key: &str, id: &str) -> (u16, Value) {
        let url = format!("http://{}/weir/explain/{id}", self.address);
        let response = client().get(url).bearer_auth(key).send().await.unwrap();
        (response.status().as_u16(), serde_json::from_str(&response.text().await.unwrap()).unwrap())
    }

    async fn explained(&self, key: &str, id: &str) -> Value {
        let (status, told) = self.explain(key, id).await;
        assert_eq!(status, 200, "{told}");
        told
    }
}

fn asked(text: &str) -> Value {
    json!({ "model": "m", "messages": [{ "role": "user", "content": text }] })
}

async fn start() -> Running {
    let client = |name: &str| Client { name: name.into(), key: Secret::new(name), tenant: name.into() };
    start_for(vec![client("anna"), client("bert")], (0..9).map(|n| Step::say(&format!("answer {n}")))).await
}

#[tokio::test]
async fn a_miss_tells_what_was_near_and_which_guard_forbids_it() {
    let running = start_for(Vec::new(), (0..9).map(|n| Step::say(&format!("answer {n}")))).await;
    let first = running.question("any", &asked("turn up track 3 by two decibels"), &[]).await;
    assert_eq!(running.explained("any", &first).await["miss"], "absent");
    running.written("any").await;
    let second = running.question("any", &asked("turn up track 4 by two decibels"), &[]).await;
    let told = running.explained("any", &second).await;
    assert_eq!((&told["request_id"], &told["lane"]), (&json!(second), &json!("upstream")));
    assert_eq!(told["miss"], "other_numbers", "{told}");
    let lookup = &told["lookup"];
    assert_eq!(lookup["question"], "turn up track 4 by two decibels");
    let candidate = &lookup["candidates"][0];
    assert_eq!(candidate["question"], "turn up track 3 by two decibels");
    assert_eq!((&candidate["verdict"], &candidate["log_odds"]), (&json!("other_numbers"), &Value::Null));
    assert_eq!(candidate["guards"]["other_numbers"], true);
    assert_eq!(candidate["guards"]["negated"], false);
    assert!(candidate["cosine"].as_f64().unwrap() > 0.5);
    assert!(lookup["bound"]["requests"].is_number() && lookup["max_wrong"] == 0.01);
}

#[tokio::test]
async fn hits_and_rewordings_tell_what_answered() {
    let running = start_for(Vec::new(), [Step::say("Oslo")]).await;
    running.question("any", &asked("What is the capital of Norway?"), &[]).await;
    running.written("any").await;
    let exact = running.question("any", &asked("What is the capital of Norway?"), &[]).await;
    assert_eq!(running.explained("any", &exact).await["lane"], "exact");
    let semantic = running.question("any", &asked("what is the capital of norway"), &[]).await;
    let told = running.explained("any", &semantic).await;
    assert_eq!(told["lane"], "semantic", "{told}");
    let candidate = &told["lookup"]["candidates"][0];
    assert_eq!((&candidate["verdict"], &candidate["id"]), (&json!("good"), &told["served"]));
    // The answer itself can be explained, too, by the beginning of its id.
    let kept = told["served"].as_str().unwrap();
    let told = running.explained("any", &kept[..10]).await;
    assert_eq!(told["lookup"]["question"], "What is the capital of Norway?");
    assert_eq!((&told["lookup"]["cache_id"], &told["request_id"]), (&json!(kept), &Value::Null));
}

#[tokio::test]
async fn two_requests_that_do_not_meet_differ_in_a_part_that_is_named() {
    let running = start().await;
    let one = running.question("anna", &asked("hello"), &[]).await;
    let mut colder = asked("hello");
    colder["temperature"] = json!(0.5);
    let other = running.question("anna", &colder, &[("x-weir-state", "song-2")]).await;
    let parts = |told: Value| told["lookup"]["key"]["parts"].as_object().unwrap().clone();
    let (one, other) =
        (parts(running.explained("anna", &one).await), parts(running.explained("anna", &other).await));
    let differ: Vec<&str> =
        one.iter().filter(|(name, digest)| other[*name] != **digest).map(|(name, _)| &**name).collect();
    assert_eq!(differ, ["state", "sampling"]);
}

#[tokio::test]
async fn nobody_is_told_of_anothers_requests_or_answers() {
    let running = start().await;
    let id = running.question("anna", &asked("hello"), &[]).await;
    running.written("anna").await;
    let told = running.explained("anna", &id).await;
    let kept = told["lookup"]["cache_id"].as_str().unwrap();
    running.explained("anna", kept).await;
    for id in [&*id, kept, "nothing", "0123456789abcdef"] {
        let (status, told) = running.explain("bert", id).await;
        assert_eq!((status, &told["error"]["code"]), (404, &json!("nothing_to_explain")), "{id}");
    }
    assert_eq!(running.explain("nobody", &id).await.0, 401);
}

#[tokio::test]
async fn no_secret_is_told_and_no_words_that_were_not_to_be_kept() {
    let running = start().await;
    let id = running.question("anna", &asked("is sk-proj-123456789 a good key for bert"), &[]).await;
    let told = running.explained("anna", &id).await;
    assert_eq!(told["lookup"]["question"], "is *** a good key for bert");
    assert!(!told.to_string().contains("123456789"), "{told}");
    running.written("anna").await;
    let other = asked("is sk-proj-123456789 a good key for bert?");
    let id = running.question("anna", &other, &[("cache-control", "no-store")]).await;
    let told = running.explained("anna", &id).await;
    assert_eq!((&told["miss"], &told["lookup"]), (&json!("bypassed"), &Value::Null));
}

#[tokio::test]
async fn the_command_line_tells_it_in_words() {
    let running = start_for(Vec::new(), [Step::say("a"), Step::say("b")]).await;
    running.question("any", &asked("turn up track 3 by two decibels"), &[]).await;
    running.written("any").await;
    let id = running.question("any", &asked("turn up track 4 by two decibels"), &[]).await;
    let told = running.weir("explain", &[&id]).await;
    let text = stdout(&told);
    assert!(told.status.success(), "{}", stderr(&told));
    for part in [
        "asked upstream, since memory had none: other_numbers",
        "turn up track 3",
        "forbidden by: other_numbers",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let json: Value =
        serde_json::from_str(&stdout(&running.weir("explain", &[&id, "--json"]).await)).unwrap();
    assert_eq!(json["request_id"], id.as_str());
    let unknown = running.weir("explain", &["nothing"]).await;
    assert!(
        !unknown.status.success() && stderr(&unknown).contains("nothing of yours is known"),
        "{}",
        stderr(&unknown)
    );
}
