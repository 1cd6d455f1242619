//! An answer on its way, for as long as it comes: whoever gives it has to do, and may still break it off.

use super::ward::{Busy, Ward};
use crate::upstream::Chunks;
use crate::upstream::health::KeyId;
use futures_util::{StreamExt as _, stream};
use std::sync::Arc;

/// The same chunks; a cut among them is remembered.
pub(super) fn to_the_end(
    chunks: Chunks,
    ward: &Arc<Ward>,
    key: KeyId,
    model: Arc<str>,
    busy: Option<Busy>,
) -> Chunks {
    let ward = Arc::clone(ward);
    let state = (chunks, busy);
    stream::unfold(state, move |(mut chunks, busy)| {
        let (ward, model) = (Arc::clone(&ward), Arc::clone(&model));
        async move {
            let chunk = chunks.next().await?;
            if chunk.is_err() {
                ward.cut(key, &model);
            }
            Some((chunk, (chunks, busy)))
        }
    })
    .boxed()
}
