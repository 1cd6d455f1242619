//! How large a model is, and which of its family's ways it has.

use super::super::fault::Fault;
use super::super::kernels::{BLOCK, Curve, LANES, PAGE};
use super::super::tokenizer::Metadata;
use candle_core::quantized::gguf_file::Value;

/// No model says anything larger of itself; products of two of these are no more than a number can hold.
const LARGEST: u32 = 1 << 24;

/// Which numbers of a head are turned together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pairing {
    /// Each with its neighbour.
    Neighbours,
    /// Each with the one half of what is turned further on.
    Halves,
}

/// How positions are told apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Turning {
    /// How slowly the slowest number of a head turns.
    pub(super) base: f32,
    /// How much slower all of them turn than that.
    pub(super) slower: f32,
    /// What is turned gets so much longer.
    pub(super) swing: f32,
}

/// Layers that attend to what is near only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Windows {
    /// How many tokens are near, the one that attends among them.
    pub(super) size: usize,
    /// One layer of so many attends to everything; none, where this is nothing.
    pub(super) every: Option<usize>,
    pub(super) turning: Turning,
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
    pub(super) pairing: Pairing,
    /// How many numbers of a head are turned, from the first on.
    pub(super) turned: usize,
    pub(super) turning: Turning,
    pub(super) windows: Option<Windows>,
    /// How much larger than written down the rows of the embedding are.
    pub(super) embedded: f32,
    pub(super) curve: Curve,
    /// Whether what attention and the gates add is normalised before.
    pub(super) norms_after: bool,
    /// Which of the model's own slownesses of pairs are for conversations of this length, where it has several.
    pub(super) factors: &'static str,
}

impl Shape {
    /// The shape of the model that `metadata` describes, for sequences of at most `context` tokens; `None` where it is
    /// a llama that the engine cannot run and candle can. What nobody here runs rightly is a fault.
    pub(super) fn of(metadata: &Metadata, context: usize) -> Result<Option<Self>, Fault> {
        let keys = Keys::of(metadata)?;
        // Experts are candle's.
        if keys.family == "llama" && keys.number("expert_count").unwrap_or(0) > 0 {
            return Ok(None);
        }
        let shape = Self::read(metadata, &keys, context)?;
        match shape.fits() {
            true => Ok(Some(shape)),
            false if shape.is_known_to_candle() => Ok(None),
            false => Err(Fault::Shape("embedding_length")),
        }
    }

    fn read(metadata: &Metadata, keys: &Keys<'_>, context: usize) -> Result<Self, Fault> {
        let need = |key: &'static str| keys.number(key).ok_or(Fault::Shape(key));
        let (width, heads) = (need("embedding_length")?, need("attention.head_count")?);
        let size = keys.number("attention.key_length").unwrap_or(width / heads.max(1));
        if keys.number("attention.value_length").unwrap_or(size) != size {
            return Err(Fault::Shape("attention.value_length"));
        }
        let Some(Value::Array(tokens)) = metadata.get("tokenizer.ggml.tokens") else {
            return Err(Fault::Metadata("tokenizer.ggml.tokens"));
        };
        let is_gemma = keys.family == "gemma3";
        let trained = keys.number("rope.scaling.original_context_length").unwrap_or(usize::MAX);
        let shape = Self {
            layers: need("block_count")?,
            width,
            hidden: need("feed_forward_length")?,
            heads,
            kv_heads: keys.number("attention.head_count_kv").unwrap_or(heads),
            size,
            vocabulary: tokens.len(),
            epsilon: keys
                .float("attention.layer_norm_rms_epsilon")
                .ok_or(Fault::Shape("attention.layer_norm_rms_epsilon"))?,
            pairing: if keys.family == "llama" { Pairing::Neighbours } else { Pairing::Halves },
            turned: keys.number("rope.dimension_count").unwrap_or(size),
            turning: keys.turning(if is_gemma { 1e6 } else { 1e4 })?,
            windows: keys.windows(context)?,
            embedded: if is_gemma { (width as f32).sqrt() } else { 1.0 },
            curve: if is_gemma { Curve::Gelu } else { Curve::Silu },
            norms_after: is_gemma,
            factors: if context > trained { "rope_factors_long.weight" } else { "rope_factors_short.weight" },
        };
        // The largest Gemma weighs attention in another way.
        if is_gemma && shape.layers == 62 {
            return Err(Fault::Shape("block_count"));
        }
        let turns = shape.turned > 0 && shape.turned <= size && shape.turned.is_multiple_of(2);
        if turns { Ok(shape) } else { Err(Fault::Shape("rope.dimension_count")) }
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

    /// Whether it is a llama, and there is nothing to it that candle's llamas do not have.
    pub(super) fn is_known_to_candle(&self) -> bool {
        self.pairing == Pairing::Neighbours
            && self.turned == self.size
            && self.windows.is_none()
            && self.turning == Turning { base: self.turning.base, slower: 1.0, swing: 1.0 }
    }

    /// How many tokens are near to a layer that attends to what is near only.
    pub(super) fn window(&self, layer: usize) -> Option<usize> {
        let Windows { size, every, .. } = self.windows?;
        every.is_none_or(|every| !(layer + 1).is_multiple_of(every)).then_some(size)
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

/// What a family says about its models.
struct Keys<'a> {
    metadata: &'a Metadata,
    family: &'a str,
}

impl<'a> Keys<'a> {
    fn of(metadata: &'a Metadata) -> Result<Self, Fault> {
        Ok(Self { metadata, family: super::super::about::family(metadata)? })
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.metadata.get(&format!("{}.{key}", self.family))
    }

    fn number(&self, key: &str) -> Option<usize> {
        self.get(key)?.to_u32().ok().filter(|value| *value <= LARGEST).map(|value| value as usize)
    }

    fn float(&self, key: &str) -> Option<f32> {
        self.get(key)?.to_f32().ok()
    }

    /// How positions turn where all is attended to. Of scalings only the even one is known, and a model's own
    /// slownesses of its pairs.
    fn turning(&self, usual: f32) -> Result<Turning, Fault> {
        let scaling = self.get("rope.scaling.type").and_then(|kind| kind.to_string().ok());
        let factor = self.float("rope.scaling.factor");
        let slower = match scaling.map(String::as_str) {
            Some("linear") => factor.unwrap_or(1.0),
            None | Some("none" | "longrope") => 1.0,
            Some(_) => return Err(Fault::Shape("rope.scaling.type")),
        };
        let swing = self.float("rope.scaling.attn_factor").unwrap_or(1.0);
        let turning = Turning { base: self.float("rope.freq_base").unwrap_or(usual), slower, swing };
        let sound = turning.base > 1.0 && slower > 0.0 && swing > 0.0;
        if sound { Ok(turning) } else { Err(Fault::Shape("rope.freq_base")) }
    }

    fn windows(&self, context: usize) -> Result<Option<Windows>, Fault> {
        // Gemma's layers turn in two ways, however far they see.
        let size = match (self.family, self.number("attention.sliding_window")) {
            ("gemma3", Some(size)) if size > 0 => size,
            ("gemma3", _) => return Err(Fault::Shape("attention.sliding_window")),
            (_, Some(size)) if (1..context).contains(&size) => size,
            _ => return Ok(None),
        };
        let every = match (self.family, self.get("attention.sliding_window_pattern")) {
            ("gemma3", None) => Some(6),
            ("gemma3", Some(pattern)) => {
                let every = pattern.to_u32().ok().filter(|every| *every > 0);
                Some(every.ok_or(Fault::Shape("attention.sliding_window_pattern"))? as usize)
            }
            ("phi3", None) => None,
            _ => return Err(Fault::Shape("attention.sliding_window")),
        };
        let near = ["rope.freq_base_swa", "rope.local.freq_base"].iter().find_map(|key| self.float(key));
        let turning = match self.family {
            "gemma3" => Turning { base: near.unwrap_or(1e4), slower: 1.0, swing: 1.0 },
            _ => self.turning(1e4)?,
        };
        Ok(Some(Windows { size, every, turning }))
    }
}
