//! Another model: what is remembered is embedded anew in the background, or found word for word only.

use crate::cache::judge::Question;
use crate::embed::{self, Embedder};
use crate::store::embedded::{Embedded, Progress};
use crate::store::{self, Entry, Scope};
use std::time::Duration;

/// Entries that are read from the disk together.
const TOGETHER: usize = 64;
/// How long to leave the encoder to the requests when its queue is full.
const PAUSE: Duration = Duration::from_secs(1);

/// Gives every entry of `store` that another model has embedded a vector by this one. One text at a time, so that
/// a request waits for one short text at most.
pub(super) async fn reembed(store: &Embedded, embedder: &Embedder) {
    let mut progress = Progress::default();
    let mut done = 0u64;
    loop {
        let (entries, next) = match store.of_other_spaces(progress, TOGETHER).await {
            Ok(found) => found,
            Err(store::Error::Away(_)) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, done, "answers of another model are not embedded anew; the next start tries again");
                return;
            }
        };
        for (scope, entry) in entries {
            done += u64::from(renew(store, embedder, &scope, entry).await);
        }
        match next {
            Some(next) => progress = next,
            None => break,
        }
    }
    if done > 0 {
        tracing::info!(done, encoder = embedder.id(), "answers of another model were embedded anew");
    }
}

async fn renew(store: &Embedded, embedder: &Embedder, scope: &Scope, entry: Entry) -> bool {
    let question = Question::new(&entry.text);
    let vector = loop {
        let Some(text) = question.to_embed() else { break None };
        match embedder.embed(text).await {
            Ok(embedding) => break (!embedding.partial).then_some(embedding.vector),
            Err(embed::Error::Busy | embed::Error::Deadline(_)) => tokio::time::sleep(PAUSE).await,
            Err(embed::Error::TooLong) => break None,
            Err(error) => {
                tracing::warn!(%error, id = %entry.id, "an answer of another model could not be embedded anew");
                return false;
            }
        }
    };
    store.set_vector(scope, &entry.id, entry.created, vector).await.unwrap_or_else(|error| {
        tracing::warn!(%error, id = %entry.id, "an answer of another model could not be embedded anew");
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::{Embedding, Encoder, Text};
    use crate::sim::WordEncoder;
    use crate::store::Store as _;
    use crate::store::conformance::full_entry;
    use crate::store::embedded::{Config, Space};

    /// The same model by another name.
    struct Renamed(&'static str);

    impl Encoder for Renamed {
        fn id(&self) -> &str {
            self.0
        }

        fn encode(&mut self, batch: &[Text]) -> Result<Vec<Embedding>, embed::Error> {
            WordEncoder.encode(batch)
        }
    }

    #[tokio::test]
    async fn what_another_model_embedded_is_found_again_in_other_words() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { path: folder.path().to_owned(), ..Config::default() };
        let (store, _) = Embedded::open(config).unwrap();
        let embedder = |id| Embedder::spawn(Renamed(id), embed::Config::default()).unwrap();
        let (old, new) = (embedder("old"), embedder("new"));
        let scope = Scope([1; 32]);
        store.set_space(Space::of(old.id()));
        let entries: Vec<Entry> = (0..150u8)
            .map(|n| Entry {
                id: store::EntryId([n; 32]),
                text: format!("question number {n}"),
                ..full_entry()
            })
            .collect();
        for entry in &entries {
            let vector = Some(old.embed(entry.text.as_str()).await.unwrap().vector);
            store.put(&scope, Entry { vector, ..entry.clone() }).await.unwrap();
        }
        let question = new.embed("question number 7").await.unwrap().vector;
        assert_eq!(store.nearest(&scope, &question, 1).await.unwrap().len(), 1);

        store.set_space(Space::of(new.id()));
        assert!(
            store.nearest(&scope, &question, 1).await.unwrap().is_empty(),
            "vectors of two models never meet"
        );
        let exact = store.load(&scope, &entries[7].id).await.unwrap().unwrap();
        assert_eq!(
            (exact.text.as_str(), exact.vector),
            ("question number 7", None),
            "word for word it is known"
        );

        reembed(&store, &new).await;
        let found = store.nearest(&scope, &question, 1).await.unwrap();
        assert_eq!(found[0].entry.text, "question number 7");
        let (left, _) = store.of_other_spaces(Progress::default(), 1).await.unwrap();
        assert!(left.is_empty());
    }

    #[tokio::test]
    async fn a_newer_answer_keeps_its_own_vector() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { path: folder.path().to_owned(), ..Config::default() };
        let (store, _) = Embedded::open(config).unwrap();
        let (scope, entry) = (Scope([1; 32]), full_entry());
        store.put(&scope, entry.clone()).await.unwrap();
        let earlier = crate::clock::Millis(entry.created.0 - 1);
        assert!(!store.set_vector(&scope, &entry.id, earlier, None).await.unwrap());
        assert_eq!(store.load(&scope, &entry.id).await.unwrap(), Some(entry.clone()));
        assert!(store.set_vector(&scope, &entry.id, entry.created, None).await.unwrap());
        assert_eq!(store.load(&scope, &entry.id).await.unwrap().unwrap().vector, None);
    }
}
