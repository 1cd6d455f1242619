//! Learning rules from their examples, in the background.

use crate::cache::judge::Question;
use crate::embed::{self, Embedder, Encoder, Text};
use crate::intent::{Lessons, Live, Mind, Read};
use futures_util::StreamExt as _;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::sleep;

/// Texts that are read at the same time: requests are to find room in the encoder's queue.
const AT_ONCE: usize = 8;
/// How often a text is tried that the encoder has no time for.
const TRIES: usize = 20;
const WAIT: Duration = Duration::from_millis(250);
/// Texts that are encoded together where nobody else waits.
const BATCH: usize = 32;

/// Learns whenever the examples have changed, until it is dropped. Until something new is learned, what was learned
/// before holds for the rules that are still there.
pub(super) async fn study(live: &Live, embedder: Option<&Embedder>) {
    let mut changes = live.changes();
    let mut known: HashMap<String, Option<Read>> = HashMap::new();
    let mut done = None;
    loop {
        changes.borrow_and_update();
        let lessons = live.rules("", "").lessons();
        let digest = lessons.as_ref().map(Lessons::digest);
        match (lessons, embedder) {
            _ if digest == done => {}
            (None, _) => live.learn(None),
            (Some(_), None) => {
                tracing::warn!("rules that are learned from examples need the encoder, and it is off");
            }
            (Some(lessons), Some(embedder)) => learn(live, lessons, embedder, &mut known).await,
        }
        done = digest;
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// A way to learn.
type Way = fn(&Lessons, &[Option<Read>]) -> Option<Mind>;

async fn learn(
    live: &Live,
    lessons: Lessons,
    embedder: &Embedder,
    known: &mut HashMap<String, Option<Read>>,
) {
    let texts: Vec<String> = lessons.texts().map(str::to_owned).collect();
    let new: Vec<String> = texts.iter().filter(|text| !known.contains_key(*text)).cloned().collect();
    let read = futures_util::stream::iter(new.into_iter().map(|text| async move {
        let read = read(embedder, &text).await;
        (text, read)
    }));
    let read: Vec<(String, Option<Read>)> = read.buffer_unordered(AT_ONCE).collect().await;
    known.extend(read);
    // What is not learned from any more is forgotten.
    let wanted: std::collections::HashSet<&String> = texts.iter().collect();
    known.retain(|text, _| wanted.contains(text));
    let read: Vec<Option<Read>> = texts.iter().map(|text| known.get(text).cloned().flatten()).collect();
    let unread = read.iter().filter(|read| read.is_none()).count();
    if unread > 0 {
        tracing::warn!(unread, "some examples of rules could not be read, and are not learned from");
    }
    let ways: [Way; 2] = [Lessons::at_once, Lessons::trained];
    let (mut lessons, mut read) = (lessons, read);
    for way in ways {
        let learned = tokio::task::spawn_blocking(move || {
            let mind = way(&lessons, &read);
            (mind, lessons, read)
        });
        let Ok(learned) = learned.await else {
            return tracing::error!("learning from examples broke down; what was learned before holds");
        };
        let mind;
        (mind, lessons, read) = learned;
        if let Some(mind) = mind {
            let (rules, trained) = (mind.rules().len(), mind.is_trained());
            tracing::info!(rules, trained, "rules have been learned from their examples");
            live.learn(Some(mind));
        } else {
            tracing::error!("nothing could be learned from the examples of rules");
        }
    }
}

/// As questions are read later.
async fn read(embedder: &Embedder, text: &str) -> Option<Read> {
    let canonical = Question::new(text).to_embed()?.to_owned();
    for _ in 0..TRIES {
        match embedder.embed(canonical.as_str()).await {
            Ok(embedding) if embedding.partial => return None,
            Ok(embedding) => return Some(Read { text: canonical, vector: embedding.vector }),
            Err(embed::Error::Busy | embed::Error::Deadline(_)) => sleep(WAIT).await,
            Err(_) => return None,
        }
    }
    None
}

/// The same where nobody else waits: what `encoder` makes of each text.
pub fn read_all<'t>(
    encoder: &mut impl Encoder,
    texts: impl Iterator<Item = &'t str>,
) -> Result<Vec<Option<Read>>, embed::Error> {
    let canonical: Vec<Option<String>> =
        texts.map(|text| Question::new(text).to_embed().map(str::to_owned)).collect();
    let mut read = Vec::with_capacity(canonical.len());
    for batch in canonical.chunks(BATCH) {
        let asked: Vec<Text> = batch.iter().flatten().map(|text| text.as_str().into()).collect();
        let mut embeddings = encoder.encode(&asked)?.into_iter();
        read.extend(batch.iter().map(|text| {
            let embedding = text.as_ref().and_then(|_| embeddings.next())?;
            let text = text.clone()?;
            (!embedding.partial).then_some(Read { text, vector: embedding.vector })
        }));
    }
    Ok(read)
}
