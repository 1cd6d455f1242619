//! How large a model is, and which of the family's ways it has.

use super::super::kernels::{BLOCK, LANES, PAGE};
use super::super::tokenizer::Metadata;
use candle_core::quantized::gguf_file::Value;

/// Which numbers of a head are turned together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pairing {
    /// Each with its neighbour.
    Neighbours,
    /// Each with the one half a head further on.
    Halves,
}

/// The shape of a model.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) layers: usize,
    pub(super) width: usize,
    pub(super) hidden: usize,
    pub(super) heads: usize,
    /// Heads for keys and values: several of the others share one.
    pub(super) kv_heads: usize,
    /// Numbers in a head.
    pub(super) size: usize,
    pub(super) vocabulary: usize,
    pub(super) epsilon: f32,
    /// How slowly the slowest number of a head turns.
    pub(super) base: f32,
    pub(super) pairing: Pairing,
}

impl Shape {
    /// The shape of the model that `metadata` describes, where it is of a kind that the engine knows.
    pub(super) fn of(metadata: &Metadata) -> Option<Self> {
        let family = metadata.get("general.architecture")?.to_string().ok()?.as_str();
        let pairing = match family {
            "llama" => Pairing::Neighbours,
            "qwen2" | "qwen3" => Pairing::Halves,
            _ => return None,
        };
        let get = |key: &str| metadata.get(&format!("{family}.{key}"));
        let number = |key: &str| get(key).and_then(|value| value.to_u32().ok()).map(|value| value as usize);
        let float = |key: &str| get(key).and_then(|value| value.to_f32().ok());
        // Of experts, of other scalings of positions, and of windows it knows nothing.
        let scaled = get("rope.scaling.type").and_then(|kind| kind.to_string().ok());
        if number("expert_count").unwrap_or(0) > 0 || scaled.is_some_and(|kind| kind != "none") {
            return None;
        }
        let (width, heads) = (number("embedding_length")?, number("attention.head_count")?);
        let size = number("attention.key_length").unwrap_or(width / heads.max(1));
        let vocabulary = match metadata.get("tokenizer.ggml.tokens") {
            Some(Value::Array(tokens)) => tokens.len(),
            _ => return None,
        };
        let shape = Self {
            layers: number("block_count")?,
            width,
            hidden: number("feed_forward_length")?,
            heads,
            kv_heads: number("attention.head_count_kv").unwrap_or(heads),
            size,
            vocabulary,
            epsilon: float("attention.layer_norm_rms_epsilon")?,
            base: float("rope.freq_base").unwrap_or(10_000.0),
            pairing,
        };
        let turned = number("rope.dimension_count").unwrap_or(size);
        let valued = number("attention.value_length").unwrap_or(size);
        (shape.fits() && turned == size && valued == size).then_some(shape)
    }

    /// Whether the kernels can cut it into their blocks.
    fn fits(&self) -> bool {
        let Self { layers, width, hidden, heads, kv_heads, size, vocabulary, .. } = *self;
        let some = [layers, width, hidden, heads, kv_heads, size, vocabulary].into_iter().all(|n| n > 0);
        some && width.is_multiple_of(BLOCK)
            && hidden.is_multiple_of(BLOCK)
            && size.is_multiple_of(LANES)
            && (heads * size).is_multiple_of(BLOCK)
            && heads.is_multiple_of(kv_heads)
    }

    /// Numbers in a row of queries.
    pub(super) fn queries(&self) -> usize {
        self.heads * self.size
    }

    /// Numbers in a page.
    pub(super) fn page(&self) -> usize {
        self.layers * self.kv_heads * 2 * PAGE * self.size
    }

    /// Where in a page a layer's head begins.
    pub(super) fn place(&self, layer: usize, head: usize) -> usize {
        (layer * self.kv_heads + head) * 2 * PAGE * self.size
    }
}
