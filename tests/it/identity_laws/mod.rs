//! The laws of identity, over random requests in every protocol: whatever bears meaning gives another scope or
//! another id, and how it is written never does. `WEIR_MUTATIONS` says how many mutations are tried.

mod draw;
mod mutate;
mod written;

use crate::kit::{Rig, caller, question};
use crate::wire::{cases, target};
use bytes::Bytes;
use draw::Draw;
use mutate::Mutation;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use weir::cache::Miss;
use weir::cache::identity::{Asker, Client, Query, Reading, Settings};
use weir::chat::{Delivery, Protocol, Received, Request};
use weir::pipeline::Caller;
use weir::sim::{Scripted, Step};
use weir::store::memory::Memory;
use weir::upstream::Upstream;
use weir::wire::{Dropped, decode_request, encode_request};

/// In a test run of everyone's.
const MUTATIONS: u64 = 20_000;

fn mutations() -> u64 {
    std::env::var("WEIR_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(MUTATIONS)
}

fn asker() -> Asker<'static> {
    Asker { tenant: "t", project: "p", origin: "provider", ..Asker::default() }
}

fn query_as(asker: &Asker<'_>, request: &Request) -> Result<Query, Miss> {
    let settings = Settings { tools: true, ..Settings::default() };
    Query::new(asker, &settings, request, Reading::of(Client::Auto, request))
}

fn query(request: &Request) -> Result<Query, Miss> {
    query_as(&asker(), request)
}

/// What the protocol makes of a request; `None` where it has no words for it.
fn over_the_wire(protocol: Protocol, request: &Request) -> Option<(serde_json::Value, Request)> {
    let body = serde_json::Value::Object(encode_request(protocol, request, &mut Dropped::new()).ok()?);
    let decoded = decode(protocol, &body.to_string())?;
    Some((
        body,
        Request {
            received: Received { headers: request.received.headers.clone(), ..decoded.received },
            ..decoded
        },
    ))
}

fn decode(protocol: Protocol, body: &str) -> Option<Request> {
    decode_request(protocol, &Bytes::copy_from_slice(body.as_bytes()), &target(protocol, false)).ok()
}

/// A request without how it came and how its answer is to be handed over.
fn meant(request: &Request) -> Request {
    let received = Received { body: Bytes::new(), ..request.received.clone() };
    Request { received, delivery: Delivery::default(), ..request.clone() }
}

fn same(one: &Result<Query, Miss>, other: &Result<Query, Miss>) -> bool {
    matches!((one, other), (Ok(one), Ok(other)) if (one.scope, one.id) == (other.scope, other.id))
}

#[test]
fn whatever_bears_meaning_makes_another_question() {
    let mut draw = Draw::new(1);
    let mut judged: BTreeMap<(&str, Mutation), u64> = BTreeMap::new();
    let mut count = 0;
    while count < mutations() {
        let protocol = *draw.one_of(&Protocol::ALL);
        let request = draw.request(protocol);
        let Some((_, one)) = over_the_wire(protocol, &request) else { continue };
        let known = query(&one);
        assert!(known.is_ok(), "{known:?}: {one:?}");
        for _ in 0..8 {
            let mutation = *draw.one_of(&Mutation::ALL);
            let Some(changed) = mutation.apply(&request, &mut draw) else { continue };
            let Some((_, other)) = over_the_wire(protocol, &changed) else { continue };
            // What a protocol cannot say, it does not say differently.
            if meant(&one) == meant(&other) {
                continue;
            }
            assert!(!same(&known, &query(&other)), "{mutation:?} in {protocol:?}\n{one:?}\n{other:?}");
            *judged.entry((protocol.name(), mutation)).or_default() += 1;
            count += 1;
        }
    }
    for mutation in Mutation::ALL {
        let seen: u64 = judged.iter().filter(|((_, one), _)| *one == mutation).map(|(_, count)| count).sum();
        assert!(seen > 0, "{mutation:?} was never judged");
    }
}

#[test]
fn how_a_request_is_written_makes_no_other_question() {
    let mut draw = Draw::new(2);
    for _ in 0..mutations() / 4 {
        let protocol = *draw.one_of(&Protocol::ALL);
        let request = draw.request(protocol);
        let Some((body, one)) = over_the_wire(protocol, &request) else { continue };
        let text = written::anew(&body, protocol, &mut draw);
        let other =
            decode(protocol, &text).unwrap_or_else(|| panic!("{protocol:?} is not read again: {text}"));
        assert_eq!(query(&one), query(&other), "{protocol:?}\n{body}\n{text}");

        let renamed = mutate::with_other_ids(&request, &mut draw);
        let (_, renamed) = over_the_wire(protocol, &renamed).unwrap();
        assert_eq!(query(&one), query(&renamed), "ids in {protocol:?}\n{body}");
    }
}

/// The recorded requests of real clients, with any one value in them changed: what means the same to the
/// codec is the same question, and what means something else is another one.
#[test]
fn real_requests_with_any_value_changed_are_other_questions() {
    let mut draw = Draw::new(3);
    let recorded: Vec<(Protocol, serde_json::Value)> = cases()
        .iter()
        .filter_map(|case| {
            Some((case.protocol, serde_json::from_slice(&case.read("request.json")?).unwrap()))
        })
        .collect();
    assert!(recorded.len() > 40);
    let (mut judged, mut tried) = (0, 0);
    while tried < mutations() / 4 {
        tried += 1;
        let (protocol, body) = draw.one_of(&recorded).clone();
        let one = decode(protocol, &body.to_string()).unwrap();
        let text = written::anew(&body, protocol, &mut draw);
        assert_eq!(query(&one), query(&decode(protocol, &text).unwrap()), "{protocol:?}\n{body}\n{text}");

        let mut changed = body.clone();
        let Some(path) = mutate::any_value(&mut changed, &mut draw) else { continue };
        let Some(other) = decode(protocol, &changed.to_string()) else { continue };
        let (known, found) = (query(&one), query(&other));
        if meant(&one) == meant(&other) {
            assert_eq!(known, found, "{protocol:?} at {path}");
        } else if !written::is_ignored(&path) {
            assert!(!same(&known, &found), "{protocol:?} at {path}\n{body}\n{changed}");
            judged += 1;
        }
    }
    assert!(judged > tried / 8, "{judged} of {tried}");
}

#[test]
fn no_two_askers_share_a_scope() {
    let mut draw = Draw::new(4);
    let names = ["", "a", "b", "ab", "a/b", "p", "t", "default", "provider", "a\u{0}b"];
    let mut known: HashMap<[u8; 32], String> = HashMap::new();
    let request = draw.request(Protocol::OpenAiChat);
    for _ in 0..mutations() / 4 {
        let state = draw.chance(2).then(|| draw.name(&names));
        let asker = Asker {
            tenant: draw.name(&names),
            project: draw.name(&names),
            state,
            tags: &[],
            origin: draw.name(&["provider", "local"]),
            model: draw.chance(2).then(|| draw.name(&["a", "b"])),
            partitions: &[],
        };
        let scope = query_as(&asker, &request).unwrap().scope.0;
        let told = format!("{asker:?}");
        assert_eq!(*known.entry(scope).or_insert_with(|| told.clone()), told);
    }
    assert!(known.len() > 100);
}

/// Tenants and projects at random, who ask the same few things in the same few words: an answer is only ever
/// given to those for whom it was asked.
#[tokio::test]
async fn nobody_is_given_what_somebody_else_asked_for() {
    let steps = (0..100_000).map(|at| Step::say(&format!("answer {at}")));
    let upstream = Arc::new(Scripted::new("primary", steps));
    let rig = Rig::new(Arc::clone(&upstream) as Arc<dyn Upstream>, Arc::new(Memory::default()));
    let mut draw = Draw::new(5);
    let questions =
        ["play track 3", "Play track 3", "play track 3?", "play track 4", "mute track 3", "play  track 3"];
    let mut owners: HashMap<String, (String, String, Option<String>)> = HashMap::new();
    let (mut hits, tries) = (0, mutations() / 10);
    for _ in 0..tries {
        let tenant = (*draw.one_of(&["a", "b"])).to_owned();
        let project = (*draw.one_of(&["", "a", "b", "ab", "default", "music", "music2", "x"])).to_owned();
        let state = draw.chance(3).then(|| (*draw.one_of(&["1", "2", "a"])).to_owned());
        let asking = Caller {
            tenant: tenant.as_str().into(),
            project: project.clone(),
            state: state.clone(),
            ..caller()
        };
        let asked = *draw.one_of(&questions);
        let (source, said) = rig.ask_as(asking, question(asked)).await;
        let owner = (tenant, project, state);
        if source == "upstream" {
            owners.insert(said, owner);
        } else {
            assert_eq!(owners[&said], owner, "{source}");
            hits += 1;
        }
    }
    assert!(hits > tries / 2, "{hits}");
}
