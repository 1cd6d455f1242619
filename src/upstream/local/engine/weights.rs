//! The weights of a GGUF file, packed for the kernels.

use super::super::fault::Fault;
use super::super::kernels::{BLOCK, Matrix, TILE};
use super::pack::pack;
use super::shape::Shape;
use candle_core::Device;
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::Content;
use std::io::{Read, Seek};

/// All the weights of a model.
pub(super) struct Weights {
    /// Nothing where the output serves for this too.
    embedding: Option<Matrix>,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Vec<f32>,
    pub(super) output: Stack,
    /// How much slower than usual each pair turns, where the model says so.
    pub(super) slower: Option<Vec<f32>>,
}

/// The weights of a layer.
pub(super) struct Layer {
    pub(super) attention_norm: Vec<f32>,
    /// Queries, keys and values.
    pub(super) qkv: Stack,
    /// What is added to them.
    pub(super) bias: Option<Vec<f32>>,
    pub(super) query_norm: Option<Vec<f32>>,
    pub(super) key_norm: Option<Vec<f32>>,
    pub(super) out: Stack,
    /// What attention adds is normalised by this.
    pub(super) after_attention: Option<Vec<f32>>,
    pub(super) feed_norm: Vec<f32>,
    pub(super) gate_up: Stack,
    pub(super) down: Stack,
    /// What the gates add is normalised by this.
    pub(super) after_feed: Option<Vec<f32>>,
}

/// Matrices that the same rows are multiplied with, side by side: one, where all have one format.
pub(super) struct Stack(pub(super) Vec<Matrix>);

impl Stack {
    /// How wide the rows of its products are.
    pub(super) fn outputs(&self) -> usize {
        self.0.iter().map(|matrix| matrix.outputs).sum()
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(Matrix::bytes).sum()
    }
}

impl Weights {
    /// The weights in `file`, or `None` where they are not those that `shape` has.
    pub(super) fn load<R: Read + Seek>(
        content: &Content,
        file: &mut R,
        shape: &Shape,
    ) -> Result<Option<Self>, Fault> {
        let mut reader = Reader { content, file };
        let embedding = reader.matrix("token_embd.weight")?;
        let (embedding, output) = match reader.optional("output.weight")? {
            Some(output) => (pack(&[embedding])?.pop(), Stack(pack(&[output])?)),
            None => (None, Stack(pack(&[embedding])?)),
        };
        let layers: Vec<Layer> =
            (0..shape.layers).map(|layer| reader.layer(layer, shape)).collect::<Result<_, Fault>>()?;
        let norm = reader.vector("output_norm.weight")?;
        let slower = match reader.optional_vector("rope_freqs.weight")? {
            Some(slower) => Some(slower),
            None => reader.optional_vector(shape.factors)?,
        };
        let weights = Self { embedding, layers, norm, output, slower };
        Ok(weights.fit(shape).then_some(weights))
    }

    /// The row of a token in the embedding.
    pub(super) fn embed(&self, id: usize, out: &mut [f32]) {
        let matrix = self.embedding.as_ref().or(self.output.0.first());
        matrix.into_iter().for_each(|matrix| matrix.row(id, out));
    }

    /// How much memory they take.
    pub(super) fn bytes(&self) -> usize {
        let layer = |Layer { qkv, out, gate_up, down, .. }: &Layer| {
            qkv.bytes() + out.bytes() + gate_up.bytes() + down.bytes()
        };
        let embedding = self.embedding.as_ref().map_or(0, Matrix::bytes);
        embedding + self.output.bytes() + self.layers.iter().map(layer).sum::<usize>()
    }

    fn fit(&self, shape: &Shape) -> bool {
        let is = |stack: &Stack, inputs, outputs| {
            stack.outputs() == outputs && stack.0.iter().all(|matrix| matrix.inputs == inputs)
        };
        let qkv = shape.queries() + 2 * shape.kv_heads * shape.size;
        let vocabulary = shape.vocabulary.next_multiple_of(TILE);
        let layer = |layer: &Layer| {
            is(&layer.qkv, shape.width, qkv)
                && is(&layer.out, shape.queries(), shape.width)
                && is(&layer.gate_up, shape.width, 2 * shape.hidden)
                && is(&layer.down, shape.hidden, shape.width)
                && [&layer.attention_norm, &layer.feed_norm].iter().all(|norm| norm.len() == shape.width)
                && [&layer.after_attention, &layer.after_feed]
                    .iter()
                    .all(|norm| norm.as_ref().is_none_or(|norm| norm.len() == shape.width))
                && layer.bias.as_ref().is_none_or(|bias| bias.len() == qkv)
                && [&layer.query_norm, &layer.key_norm]
                    .iter()
                    .all(|norm| norm.as_ref().is_none_or(|norm| norm.len() == shape.size))
        };
        let embeds =
            self.embedding.as_ref().is_none_or(|m| m.outputs == vocabulary && m.inputs == shape.width);
        embeds
            && is(&self.output, shape.width, vocabulary)
            && self.norm.len() == shape.width
            && self.slower.as_ref().is_none_or(|slower| slower.len() >= shape.turned / 2)
            && self.layers.iter().all(layer)
    }
}

/// Reads tensors by name.
struct Reader<'a, R> {
    content: &'a Content,
    file: &'a mut R,
}

impl<R: Read + Seek> Reader<'_, R> {
    fn layer(&mut self, layer: usize, shape: &Shape) -> Result<Layer, Fault> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        // Some have written together what others have apart.
        let together = self.has(&name("attn_qkv.weight"));
        let mut matrices = |parts: &[&str]| -> Result<Stack, Fault> {
            let tensors: Vec<QTensor> =
                parts.iter().map(|part| self.matrix(&name(part))).collect::<Result<_, _>>()?;
            Ok(Stack(pack(&tensors)?))
        };
        let apart: &[&str] = &["attn_q.weight", "attn_k.weight", "attn_v.weight"];
        let qkv = matrices(if together { &["attn_qkv.weight"] } else { apart })?;
        let out = matrices(&["attn_output.weight"])?;
        let apart: &[&str] = &["ffn_gate.weight", "ffn_up.weight"];
        let gate_up = matrices(if together { &["ffn_up.weight"] } else { apart })?;
        let down = matrices(&["ffn_down.weight"])?;
        let bias: Option<Vec<Vec<f32>>> = ["attn_q.bias", "attn_k.bias", "attn_v.bias"]
            .iter()
            .map(|part| self.optional_vector(&name(part)))
            .collect::<Result<_, _>>()?;
        Ok(Layer {
            attention_norm: self.vector(&name("attn_norm.weight"))?,
            qkv,
            bias: bias.map(|parts| parts.concat()),
            query_norm: self.optional_vector(&name("attn_q_norm.weight"))?,
            key_norm: self.optional_vector(&name("attn_k_norm.weight"))?,
            out,
            after_attention: self.after(shape, &name("post_attention_norm.weight"))?,
            feed_norm: self.vector(&name("ffn_norm.weight"))?,
            gate_up,
            down,
            after_feed: self.after(shape, &name("post_ffw_norm.weight"))?,
        })
    }

    /// A norm of what is added, where the family has those.
    fn after(&mut self, shape: &Shape, name: &str) -> Result<Option<Vec<f32>>, Fault> {
        shape.norms_after.then(|| self.vector(name)).transpose()
    }

    fn matrix(&mut self, name: &str) -> Result<QTensor, Fault> {
        let tensor = self.content.tensor(&mut *self.file, name, &Device::Cpu)?;
        let (_, inputs) = tensor.shape().dims2()?;
        if !inputs.is_multiple_of(BLOCK) {
            return Err(Fault::Metadata("width of a matrix"));
        }
        Ok(tensor)
    }

    fn vector(&mut self, name: &str) -> Result<Vec<f32>, Fault> {
        let tensor = self.content.tensor(&mut *self.file, name, &Device::Cpu)?;
        Ok(tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()?)
    }

    fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    fn optional(&mut self, name: &str) -> Result<Option<QTensor>, Fault> {
        if self.has(name) { self.matrix(name).map(Some) } else { Ok(None) }
    }

    fn optional_vector(&mut self, name: &str) -> Result<Option<Vec<f32>>, Fault> {
        if self.has(name) { self.vector(name).map(Some) } else { Ok(None) }
    }
}
