//! What makes two questions the same: OpenClaw's turns, contexts, tools, states, masks and projects. The laws
//! that hold for any request are in `identity_laws`.

use crate::kit::{Rig, caller, question};
use bytes::Bytes;
use std::sync::Arc;
use weir::cache::identity::{
    Asker, Client, Context, Mask, Masks, Overrides, Project, Query, Reading, Settings,
};
use weir::cache::{self, Cache, Miss};
use weir::chat::{Message, Part, Protocol, Request, Role, ToolCall};
use weir::clock::Clock;
use weir::pipeline::Caller;
use weir::sim::{Scripted, Step};
use weir::store::memory::Memory;
use weir::upstream::Upstream;
use weir::wire::{Target, decode_request};

/// A turn as OpenClaw sends it, with what differs between turns.
struct Turn {
    protocol: Protocol,
    question: String,
    time: &'static str,
    session: &'static str,
    folder: &'static str,
}

impl Turn {
    fn asking(question: &str) -> Self {
        Self {
            protocol: Protocol::OpenAiChat,
            question: question.to_owned(),
            time: "Wed 2026-11-25 19:19 UTC",
            session: "1993649e-a573-4ca7-b831-7e857c244291",
            folder: "/home/ada/notes",
        }
    }

    /// The same, at another time, in another session and folder.
    fn elsewhere(question: &str) -> Self {
        Self {
            time: "Sat 2026-11-28 03:49 UTC",
            session: "6b05d817-2bea-465d-a728-e79a6f9e9335",
            folder: "/tmp/work.2",
            ..Self::asking(question)
        }
    }

    fn in_protocol(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// The recorded request, with the turn's own values in it.
    fn body(&self) -> String {
        let recorded = match self.protocol {
            Protocol::Anthropic => include_str!("../../fixtures/clients/openclaw/anthropic.json"),
            _ => include_str!("../../fixtures/clients/openclaw/chat.json"),
        };
        let quoted = serde_json::Value::from(self.question.as_str()).to_string();
        let date = self.time.split(' ').nth(1).unwrap();
        let body = recorded.replace("What is the boiling point of ethanol?", &quoted[1..quoted.len() - 1]);
        let body = body.replace("Wed 2026-11-25 19:19 UTC", self.time);
        let body = body.replace("Wed 2026-11-25 19:20 UTC", self.time).replace("2026-11-25", date);
        let body = body.replace("1993649e-a573-4ca7-b831-7e857c244291", self.session);
        let body = body.replace("5da542dd-b7cf-4ad2-ad6e-55933da1c59a", self.session);
        body.replace("/home/ada/notes", self.folder)
    }

    fn request(&self) -> Request {
        self.changed(|body| body)
    }

    fn changed(&self, change: impl FnOnce(String) -> String) -> Request {
        let body = Bytes::from(change(self.body()));
        decode_request(self.protocol, &body, &Target::default()).unwrap()
    }

    fn query(&self) -> Query {
        query(&agent(Client::Auto), &self.request()).unwrap()
    }
}

fn agent(client: Client) -> Settings {
    Settings { client, tools: true, ..Settings::default() }
}

fn query(settings: &Settings, request: &Request) -> Result<Query, Miss> {
    let asker = Asker { tenant: "t", project: "p", origin: "provider", ..Asker::default() };
    Query::new(&asker, settings, request, Reading::of(settings.client, request))
}

#[test]
fn two_turns_of_openclaw_that_ask_the_same_are_the_same() {
    for protocol in [Protocol::OpenAiChat, Protocol::Anthropic] {
        let ask = |turn: Turn| turn.in_protocol(protocol).query();
        let one = ask(Turn::asking("What is the boiling point of ethanol?"));
        assert_eq!(one.text, "What is the boiling point of ethanol?");
        assert!(one.rewordable);
        assert_eq!(ask(Turn::elsewhere("What is the boiling point of ethanol?")), one, "{protocol:?}");
        let other = ask(Turn::elsewhere("At what temperature does ethanol boil?"));
        assert_eq!((other.scope, other.id == one.id), (one.scope, false), "{protocol:?}");
    }
}

#[test]
fn what_looks_like_the_wrapping_inside_a_question_stays_in_it() {
    let runtime =
        "Runtime: agent=main | session=a | sessionId=1993649e-a573-4ca7-b831-7e857c244291 | shell=bash";
    let other = runtime.replace("=a", "=b");
    let block = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nx\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>";
    let questions = [
        "q".to_owned(),
        "[Sat 2026-11-21 03:49 UTC] q".to_owned(),
        "[Sun 2026-11-22 03:49 UTC] q".to_owned(),
        format!("q\n\n{runtime}"),
        format!("q\n\n{other}"),
        format!("q\n{runtime}"),
        format!("q\n\n{runtime}\n\n{runtime}"),
        format!("q\n\n{block}"),
        format!("{block}\nq"),
        "q\n".to_owned(),
        " q".to_owned(),
        "q <<<END_OPENCLAW_INTERNAL_CONTEXT>>>".to_owned(),
        "Conversation info (untrusted metadata):\nq".to_owned(),
    ];
    for protocol in [Protocol::OpenAiChat, Protocol::Anthropic] {
        for client in [Client::Auto, Client::OpenClaw, Client::Plain] {
            let ids: std::collections::BTreeSet<_> = questions
                .iter()
                .map(|q| Turn::asking(q).in_protocol(protocol).request())
                .map(|request| query(&agent(client), &request).unwrap())
                .map(|query| query.id)
                .collect();
            assert_eq!(ids.len(), questions.len(), "{protocol:?} {client:?}");
        }
        for question in &questions[3..] {
            let query = Turn::asking(question).in_protocol(protocol).query();
            assert!(
                query.text.trim() == "q" || !query.rewordable || query.text.contains("BEGIN_"),
                "{question:?}"
            );
        }
    }
}

#[test]
fn what_is_not_exactly_openclaws_is_read_as_it_stands() {
    let plain = query(&agent(Client::Plain), &Turn::asking("q").request()).unwrap();
    assert!(plain.text.starts_with("<<<BEGIN_OPENCLAW"));
    let stranger = |from: &str, to: &str| {
        let request = Turn::asking("q").changed(|body| body.replacen(from, to, 1));
        query(&agent(Client::Auto), &request).unwrap()
    };
    for (from, to) in [
        ("[Wed 2026-11-25 19:19 UTC] q", "q"),
        ("[Wed 2026-11-25 19:19 UTC] q", "[Wed 2026-11-25] q"),
        ("[Wed 2026-11-25 19:19 UTC] q", "[Wednesday 2026-11-25 19:19 UTC] q"),
        ("<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\\n", "note <<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\\n"),
        ("<<<END_OPENCLAW_INTERNAL_CONTEXT>>>\"", "<<<END_OPENCLAW_INTERNAL_CONTEXT>>> and\""),
    ] {
        assert_ne!(stranger(from, to).text, "q", "{from} -> {to}");
    }
    // The block is no question, and what was asked before it always counts, whatever is set.
    let loose = Settings { context: Context::Last, ..agent(Client::Plain) };
    let ask = |q: &str| query(&loose, &Turn::asking(q).request()).unwrap();
    assert_eq!(ask("q").text, ask("other").text);
    assert_ne!(ask("q").scope, ask("other").scope);
}

#[test]
fn what_openclaw_did_not_write_still_counts() {
    let one = Turn::asking("q").query();
    let changes = [
        ("host=studio", "host=laptop"),
        ("shell=bash", "shell=fish"),
        ("19:19 UTC", "19:19 CET"),
        ("Running commands:\\\\nnone", "Running commands:\\\\nwarm-reef"),
        ("[MISSING] Expected at: /home/ada/notes/AGENTS.md", "The deadline is 2026-12-01."),
        ("/home/ada/notes/SOUL.md", "/home/ada/notes/SELF.md"),
        ("/home/ada/notes/SOUL.md", "/home/ada/notes2/SOUL.md"),
        ("List directory entries", "Delete directory entries"),
        ("\"max_completion_tokens\": 4096", "\"max_completion_tokens\": 4097"),
    ];
    for (from, to) in changes {
        let request = Turn::asking("q").changed(|body| {
            assert!(body.contains(from), "{from}");
            body.replacen(from, to, 1)
        });
        let changed = query(&agent(Client::Auto), &request).unwrap();
        assert_ne!(changed.scope, one.scope, "{from} -> {to}");
    }
}

#[test]
fn earlier_turns_of_openclaw_are_the_same_whenever_they_were() {
    let with_turn = |turn: &Turn, earlier: &str| {
        let mut request = turn.request();
        let said = format!("[{}] {earlier}", turn.time);
        request.messages.insert(1, Message::text(Role::User, said));
        request.messages.insert(2, Message::text(Role::Assistant, "78 °C"));
        query(&agent(Client::Auto), &request).unwrap()
    };
    let one = with_turn(&Turn::asking("and in Fahrenheit?"), "when does ethanol boil");
    assert_eq!(one.text, "and in Fahrenheit?");
    assert_eq!(with_turn(&Turn::elsewhere("and in Fahrenheit?"), "when does ethanol boil"), one);
    assert_ne!(with_turn(&Turn::elsewhere("and in Fahrenheit?"), "when does methanol boil").scope, one.scope);
}

#[test]
fn a_picture_beside_the_question_counts_and_the_block_may_stand_in_its_message() {
    let with_picture = |turn: &Turn, picture: &str| {
        let mut request = turn.request();
        let block = request.messages.pop().unwrap();
        let message = request.messages.last_mut().unwrap();
        message.parts.push(Part::Image(weir::chat::Media::at(picture)));
        message.parts.extend(block.parts);
        query(&agent(Client::Auto), &request).unwrap()
    };
    let one = with_picture(&Turn::asking("what is this?"), "https://host/a.png");
    assert_eq!(one.text, "what is this?");
    assert_eq!(with_picture(&Turn::elsewhere("what is this?"), "https://host/a.png"), one);
    assert_ne!(with_picture(&Turn::elsewhere("what is this?"), "https://host/b.png").scope, one.scope);
}

fn conversation(system: &str, earlier: &str, last: &str) -> Request {
    let mut request = question(last);
    request.messages.insert(0, Message::text(Role::System, system));
    request.messages.insert(1, Message::text(Role::User, earlier));
    request.messages.insert(2, Message::text(Role::Assistant, "fine"));
    request
}

#[test]
fn the_context_says_which_turns_count() {
    let same = |context, one: &Request, other: &Request| {
        let settings = Settings { context, ..Settings::default() };
        query(&settings, one).unwrap() == query(&settings, other).unwrap()
    };
    let one = conversation("s", "a", "q");
    let turn = conversation("s", "b", "q");
    let system = conversation("s2", "a", "q");
    let last = conversation("s", "a", "q2");
    let cases = [
        (Context::Strict, [false, false, false]),
        (Context::SystemAndLast, [true, false, false]),
        (Context::Last, [true, true, false]),
    ];
    for (context, expected) in cases {
        assert_eq!([&turn, &system, &last].map(|other| same(context, &one, other)), expected, "{context:?}");
    }
    let alone = |context| query(&Settings { context, ..Settings::default() }, &question("q")).unwrap().scope;
    assert_ne!(alone(Context::Strict), alone(Context::Last), "an answer that knew less is another answer");
}

#[test]
fn masks_cover_prompts_and_turns_and_never_the_question() {
    let masks = |typed: &[&str]| Settings {
        mask: Masks::new(typed.iter().map(|typed| Mask::parse(typed).unwrap()).collect()),
        ..Settings::default()
    };
    let at =
        |hour: &str| conversation(&format!("now 2026-11-25 {hour}:00"), &format!("at {hour}:00:00"), "q");
    let same = |settings: &Settings, one: &Request, other: &Request| {
        query(settings, one).unwrap() == query(settings, other).unwrap()
    };
    assert!(same(&masks(&["timestamps"]), &at("10"), &at("11")));
    assert!(!same(&masks(&["system:timestamps"]), &at("10"), &at("11")), "the turn still counts");
    assert!(!same(&masks(&[]), &at("10"), &at("11")));
    assert!(!same(&masks(&["timestamps"]), &question("at 10:00:00"), &question("at 11:00:00")));
    let called = |arguments: &str| {
        let mut request = conversation("s", "a", "q");
        let call = ToolCall { name: "f".into(), arguments: arguments.into(), ..ToolCall::default() };
        request.messages[2].parts.push(Part::ToolCall(call));
        request
    };
    let (one, other) = (called(r#"{"job": "job-1", "n": 1}"#), called(r#"{"n":1.0,"job":"job-22"}"#));
    assert!(same(&masks(&["/job-[0-9]+/"]), &one, &other));
    assert!(!same(&masks(&[]), &one, &other));
}

#[test]
fn arguments_are_compared_by_meaning_and_long_numbers_as_written() {
    let called = |id: &str, arguments: &str| {
        let mut request = conversation("s", "a", "q");
        let call =
            ToolCall { id: id.into(), name: "f".into(), arguments: arguments.into(), ..ToolCall::default() };
        request.messages[2].parts.push(Part::ToolCall(call));
        request.messages[3] = Message { tool_call_id: Some(id.into()), ..Message::text(Role::Tool, "r") };
        request.messages.push(Message::text(Role::User, "q"));
        query(&Settings::default(), &request).unwrap().scope
    };
    assert_eq!(called("a", r#"{"x": 1, "y": [0]}"#), called("b", r#"{"y":[0.0],"x":1e0}"#));
    assert_ne!(called("a", r#"{"x": 1}"#), called("a", r#"{"x": 2}"#));
    assert_ne!(
        called("a", r#"{"x": 100000000000000000001}"#),
        called("a", r#"{"x": 100000000000000000002}"#)
    );
    assert_ne!(called("a", r#"{"x": "1"}"#), called("a", r#"{"x": 1}"#));
}

/// A rig whose cache is set up by `change`.
fn rig(upstream: &Arc<Scripted>, change: impl FnOnce(&mut cache::Config)) -> Rig {
    let mut rig = Rig::new(Arc::clone(upstream) as Arc<dyn Upstream>, Arc::new(Memory::default()));
    let mut config = cache::Config::default();
    change(&mut config);
    let clock = Arc::clone(&rig.clock) as Arc<dyn Clock>;
    rig.pipeline.cache = Arc::new(Cache::new(config, Arc::new(Memory::default()), clock));
    rig
}

fn scripted() -> Arc<Scripted> {
    Arc::new(Scripted::new("primary", (0..9).map(|at| Step::say(&format!("answer {at}")))))
}

#[tokio::test]
async fn openclaw_is_answered_from_memory_where_the_project_says_so() {
    let upstream = scripted();
    let rig = rig(&upstream, |config| {
        let overrides = Overrides { tools: Some(true), ..Overrides::default() };
        config.projects = vec![Project { name: "p".into(), overrides }];
    });
    let ask = async |turn: Turn| rig.ask(turn.request()).await.0;
    assert_eq!(ask(Turn::asking("boiling point of ethanol?")).await, "upstream");
    assert_eq!(ask(Turn::elsewhere("boiling point of ethanol?")).await, "exact");
    assert_eq!(ask(Turn::elsewhere("Boiling point of ethanol")).await, "semantic");
    assert_eq!(ask(Turn::elsewhere("boiling point of methanol?")).await, "upstream");
    let other_project = Caller { project: "p2".into(), ..caller() };
    assert_eq!(
        rig.ask_as(other_project, Turn::asking("boiling point of ethanol?").request()).await.0,
        "upstream"
    );
    assert_eq!(rig.last().miss, Some(Miss::Tools), "nothing is said of tools there");
}

#[tokio::test]
async fn a_rule_sees_the_question_and_not_what_is_around_it() {
    let mut rig = rig(&scripted(), |_| {});
    rig.pipeline.rules =
        weir::intent::parse("[[rule]]\nname='ping'\npattern='^ping$'\nanswer='pong'").unwrap().into();
    assert_eq!(rig.ask(Turn::asking("ping").request()).await, ("rule".into(), "pong".into()));
}

#[tokio::test]
async fn a_result_of_a_tool_is_never_a_question() {
    let rig = rig(&scripted(), |config| config.settings.tools = true);
    let mut request = question("q");
    request.messages.push(Message { tool_call_id: Some("c".into()), ..Message::text(Role::Tool, "result") });
    for _ in 0..2 {
        assert_eq!(rig.ask(request.clone()).await.0, "upstream");
        assert_eq!(rig.last().miss, Some(Miss::NoQuestion));
    }
}

#[tokio::test]
async fn another_state_of_the_project_retires_its_answers() {
    let rig = rig(&scripted(), |_| {});
    let ask = async |state: Option<&str>| {
        let caller = Caller { state: state.map(str::to_owned), ..caller() };
        rig.ask_as(caller, question("which key is it in?")).await.0
    };
    assert_eq!(ask(Some("song-1")).await, "upstream");
    assert_eq!(ask(Some("song-1")).await, "exact");
    assert_eq!(ask(Some("song-2")).await, "upstream");
    assert_eq!(ask(None).await, "upstream");
    assert_eq!(ask(Some("song-1")).await, "exact", "what was true then is true again");
}

#[test]
fn an_entry_tells_its_state_and_its_tags() {
    let tags = ["demo".to_owned(), "team:a".to_owned()];
    let asker = Asker {
        tenant: "t",
        project: "p",
        state: Some("s1"),
        tags: &tags,
        origin: "provider",
        model: None,
        partitions: &[],
    };
    let request = question("q");
    let ask = |asker: &Asker<'_>| {
        Query::new(asker, &Settings::default(), &request, Reading::of(Client::Auto, &request)).unwrap()
    };
    let query = ask(&asker);
    assert_eq!(query.about.tags, ["state:s1", "demo", "team:a"]);
    assert_eq!(ask(&Asker { tags: &[], ..asker }).scope, query.scope, "tags are no part of what is asked");
}
