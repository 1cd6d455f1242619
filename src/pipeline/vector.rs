//! Vectors of what is said: of a question on its way to memory, and of texts that someone wants read.

use super::Pipeline;
use super::keep::Asked;
use crate::cache::{Cache, Miss};
use crate::embed::{self, Embedder};
use crate::vector::UnitVector;
use futures_util::{StreamExt as _, TryStreamExt as _};

/// Why a text has no vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbedError {
    /// There is no encoder.
    Off,
    /// The text at this place is longer than the encoder reads.
    TooLong(usize),
    /// Too many wait, or it took too long.
    Busy,
    /// The encoder failed.
    Failed,
}

impl Pipeline {
    /// The vectors of `texts`, by the model in this process. Nothing is looked up and nothing is remembered.
    pub async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        /// Of one request at once: enough to keep the encoder busy, and not to fill its queue.
        const AT_ONCE: usize = 64;
        let embedder = self.embedder.as_ref().ok_or(EmbedError::Off)?;
        let embed = |(at, text): (usize, &String)| {
            let text = text.clone();
            async move {
                match embedder.embed(text).await {
                    Ok(embedding) => Ok(embedding.vector.as_slice().to_vec()),
                    Err(embed::Error::TooLong) => Err(EmbedError::TooLong(at)),
                    Err(embed::Error::Busy | embed::Error::Deadline(_)) => Err(EmbedError::Busy),
                    Err(error) => {
                        tracing::warn!(%error, "a text could not be embedded");
                        Err(EmbedError::Failed)
                    }
                }
            }
        };
        futures_util::stream::iter(texts.iter().enumerate().map(embed)).buffered(AT_ONCE).try_collect().await
    }
}

pub(super) async fn embedded(
    cache: &Cache,
    embedder: Option<&Embedder>,
    asked: &Asked,
) -> Result<UnitVector, Miss> {
    let Asked { query, terms, read } = asked;
    if !cache.is_semantic() || !terms.semantic {
        return Err(Miss::SemanticOff);
    }
    if !query.rewordable {
        return Err(Miss::Continuation);
    }
    let embedder = embedder.ok_or(Miss::SemanticOff)?;
    let question = cache.question(query);
    let canonical = question.to_embed().ok_or(Miss::TooLong)?;
    match read {
        // The rules have had it read; what could not be read then is not tried again.
        Some(Ok(read)) if read.text == canonical => Ok(read.vector.clone()),
        Some(Err(miss)) => Err(*miss),
        Some(Ok(_)) | None => vector_of(embedder.embed(canonical).await),
    }
}

/// The vector of a question, if it speaks for all of it.
pub(super) fn vector_of(embedded: Result<embed::Embedding, embed::Error>) -> Result<UnitVector, Miss> {
    match embedded {
        // Such a vector speaks only for a part of the text.
        Ok(embedding) if embedding.partial => Err(Miss::PartlyRead),
        Ok(embedding) => Ok(embedding.vector),
        Err(embed::Error::TooLong) => Err(Miss::PartlyRead),
        Err(embed::Error::Busy | embed::Error::Deadline(_)) => Err(Miss::EmbedBusy),
        Err(error) => {
            tracing::warn!(%error, "a text could not be embedded; the request goes on as a miss");
            Err(Miss::EmbedFailed)
        }
    }
}
