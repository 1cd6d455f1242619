//! An encoder that reads each text once: the same questions are asked again and again here.

use crate::embed::{Embedder, Embedding, Encoder, Error, Text};
use crate::vector::UnitVector;
use futures_util::{StreamExt as _, stream};
use std::collections::HashMap;

/// Remembers what `inner` made of a text.
pub struct Once<E> {
    inner: E,
    known: HashMap<(String, bool), Embedding>,
}

impl<E: Encoder> Once<E> {
    /// Nothing is known yet.
    pub fn new(inner: E) -> Self {
        Self { inner, known: HashMap::new() }
    }
}

impl<E: Encoder> Encoder for Once<E> {
    fn id(&self) -> &str {
        self.inner.id()
    }

    fn encode(&mut self, batch: &[Text]) -> Result<Vec<Embedding>, Error> {
        let mut embeddings = Vec::with_capacity(batch.len());
        for text in batch {
            let key = (text.words.clone(), text.with_pieces);
            if !self.known.contains_key(&key) {
                let mut made = self.inner.encode(std::slice::from_ref(text))?;
                let made = made.pop().ok_or_else(|| Error::Model("a text has no vector".to_owned()))?;
                self.known.insert(key.clone(), made);
            }
            embeddings.extend(self.known.get(&key).cloned());
        }
        Ok(embeddings)
    }
}

/// The vectors of `texts`; `None` for one that the encoder does not read in full.
pub async fn vectors(embedder: &Embedder, texts: &[&str]) -> Result<Vec<Option<UnitVector>>, Error> {
    /// Enough to keep it busy.
    const AT_ONCE: usize = 64;
    let embed = |text: &&str| {
        let text = (*text).to_owned();
        async move {
            match embedder.embed(text.as_str()).await {
                Ok(embedding) => Ok((!embedding.partial).then_some(embedding.vector)),
                Err(Error::TooLong) => Ok(None),
                Err(error) => Err(error),
            }
        }
    };
    let vectors: Vec<_> = stream::iter(texts.iter().map(embed)).buffered(AT_ONCE).collect().await;
    vectors.into_iter().collect()
}
