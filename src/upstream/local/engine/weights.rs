//! The weights of a GGUF file, packed for where they are multiplied.

use super::super::fault::Fault;
use super::super::kernels::{BLOCK, Matrix, TILE};
use super::pack::pack;
use super::shape::Shape;
use candle_core::Device;
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::Content;
use std::io::{Read, Seek};

/// How weights are kept where they are multiplied.
pub(super) trait Packing {
    type Matrix;
    type Vector;

    /// `tensors` of rows of one width, side by side.
    fn matrix(&self, tensors: &[QTensor]) -> Result<Self::Matrix, Fault>;
    fn vector(&self, numbers: Vec<f32>) -> Result<Self::Vector, Fault>;
    /// Whether every row of `matrix` is `inputs` wide, and there is one for each of `outputs`.
    fn is(matrix: &Self::Matrix, inputs: usize, outputs: usize) -> bool;
    fn len(vector: &Self::Vector) -> usize;
    fn bytes(matrix: &Self::Matrix) -> usize;
}

/// All the weights of a model.
pub(super) struct Weights<P: Packing> {
    /// Nothing where the output serves for this too.
    embedding: Option<P::Matrix>,
    pub(super) layers: Vec<Layer<P>>,
    pub(super) norm: P::Vector,
    pub(super) output: P::Matrix,
    /// How much slower than usual each pair turns, where the model says so.
    pub(super) slower: Option<Vec<f32>>,
}

/// The weights of a layer.
pub(super) struct Layer<P: Packing> {
    pub(super) attention_norm: P::Vector,
    /// Queries, keys and values.
    pub(super) qkv: P::Matrix,
    /// What is added to them.
    pub(super) bias: Option<P::Vector>,
    pub(super) query_norm: Option<P::Vector>,
    pub(super) key_norm: Option<P::Vector>,
    pub(super) out: P::Matrix,
    /// What attention adds is normalised by this.
    pub(super) after_attention: Option<P::Vector>,
    pub(super) feed_norm: P::Vector,
    /// Gates, then what they let through.
    pub(super) gate_up: P::Matrix,
    pub(super) down: P::Matrix,
    /// What the gates add is normalised by this.
    pub(super) after_feed: Option<P::Vector>,
}

/// For the kernels of the processor.
pub(super) struct Processor;

/// Matrices that the same rows are multiplied with, side by side: one, where all have one format.
pub(super) struct Stack(pub(super) Vec<Matrix>);

impl Stack {
    /// How wide the rows of its products are.
    pub(super) fn outputs(&self) -> usize {
        self.0.iter().map(|matrix| matrix.outputs).sum()
    }
}

impl Packing for Processor {
    type Matrix = Stack;
    type Vector = Vec<f32>;

    fn matrix(&self, tensors: &[QTensor]) -> Result<Stack, Fault> {
        Ok(Stack(pack(tensors)?))
    }

    fn vector(&self, numbers: Vec<f32>) -> Result<Vec<f32>, Fault> {
        Ok(numbers)
    }

    fn is(stack: &Stack, inputs: usize, outputs: usize) -> bool {
        stack.outputs() == outputs.next_multiple_of(TILE)
            && stack.0.iter().all(|matrix| matrix.inputs == inputs)
    }

    fn len(vector: &Vec<f32>) -> usize {
        vector.len()
    }

    fn bytes(stack: &Stack) -> usize {
        stack.0.iter().map(Matrix::bytes).sum()
    }
}

impl Weights<Processor> {
    /// The row of a token in the embedding.
    pub(super) fn embed(&self, id: usize, out: &mut [f32]) {
        self.embedding().0.iter().for_each(|matrix| matrix.row(id, out));
    }
}

impl<P: Packing> Weights<P> {
    /// The weights in `file`, or `None` where they are not those that `shape` has.
    pub(super) fn load<R: Read + Seek>(
        packing: &P,
        content: &Content,
        file: &mut R,
        shape: &Shape,
    ) -> Result<Option<Self>, Fault> {
        let mut reader = Reader { packing, content, file };
        let embedding = reader.matrix("token_embd.weight")?;
        let (embedding, output) = match reader.optional("output.weight")? {
            Some(output) => (Some(packing.matrix(&[embedding])?), packing.matrix(&[output])?),
            None => (None, packing.matrix(&[embedding])?),
        };
        let layers: Vec<Layer<P>> =
            (0..shape.layers).map(|layer| reader.layer(layer, shape)).collect::<Result<_, Fault>>()?;
        let norm = reader.vector("output_norm.weight")?;
        let slower = match reader.optional_numbers("rope_freqs.weight")? {
            Some(slower) => Some(slower),
            None => reader.optional_numbers(shape.factors)?,
        };
        let weights = Self { embedding, layers, norm, output, slower };
        Ok(weights.fit(shape).then_some(weights))
    }

    /// A row for each token.
    pub(super) fn embedding(&self) -> &P::Matrix {
        self.embedding.as_ref().unwrap_or(&self.output)
    }

    /// How much memory they take.
    pub(super) fn bytes(&self) -> usize {
        let layer = |Layer { qkv, out, gate_up, down, .. }: &Layer<P>| -> usize {
            [qkv, out, gate_up, down].into_iter().map(P::bytes).sum()
        };
        let embedding = self.embedding.as_ref().map_or(0, P::bytes);
        embedding + P::bytes(&self.output) + self.layers.iter().map(layer).sum::<usize>()
    }

    fn fit(&self, shape: &Shape) -> bool {
        let qkv = shape.queries() + 2 * shape.kv_heads * shape.size;
        let long = |vector: &Option<P::Vector>, len: usize| vector.as_ref().is_none_or(|v| P::len(v) == len);
        let layer = |layer: &Layer<P>| {
            P::is(&layer.qkv, shape.width, qkv)
                && P::is(&layer.out, shape.queries(), shape.width)
                && P::is(&layer.gate_up, shape.width, 2 * shape.hidden)
                && P::is(&layer.down, shape.hidden, shape.width)
                && [&layer.attention_norm, &layer.feed_norm].iter().all(|norm| P::len(norm) == shape.width)
                && [&layer.after_attention, &layer.after_feed].iter().all(|norm| long(norm, shape.width))
                && long(&layer.bias, qkv)
                && [&layer.query_norm, &layer.key_norm].iter().all(|norm| long(norm, shape.size))
        };
        P::is(self.embedding(), shape.width, shape.vocabulary)
            && P::is(&self.output, shape.width, shape.vocabulary)
            && P::len(&self.norm) == shape.width
            && self.slower.as_ref().is_none_or(|slower| slower.len() >= shape.turned / 2)
            && self.layers.iter().all(layer)
    }
}

/// Reads tensors by name.
struct Reader<'a, P, R> {
    packing: &'a P,
    content: &'a Content,
    file: &'a mut R,
}

impl<P: Packing, R: Read + Seek> Reader<'_, P, R> {
    fn layer(&mut self, layer: usize, shape: &Shape) -> Result<Layer<P>, Fault> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        // Some have written together what others have apart.
        let together = self.has(&name("attn_qkv.weight"));
        let mut matrices = |parts: &[&str]| -> Result<P::Matrix, Fault> {
            let tensors: Vec<QTensor> =
                parts.iter().map(|part| self.matrix(&name(part))).collect::<Result<_, _>>()?;
            self.packing.matrix(&tensors)
        };
        let apart: &[&str] = &["attn_q.weight", "attn_k.weight", "attn_v.weight"];
        let qkv = matrices(if together { &["attn_qkv.weight"] } else { apart })?;
        let out = matrices(&["attn_output.weight"])?;
        let apart: &[&str] = &["ffn_gate.weight", "ffn_up.weight"];
        let gate_up = matrices(if together { &["ffn_up.weight"] } else { apart })?;
        let down = matrices(&["ffn_down.weight"])?;
        let bias: Option<Vec<Vec<f32>>> = ["attn_q.bias", "attn_k.bias", "attn_v.bias"]
            .iter()
            .map(|part| self.optional_numbers(&name(part)))
            .collect::<Result<_, _>>()?;
        let bias = bias.map(|parts| self.packing.vector(parts.concat())).transpose()?;
        Ok(Layer {
            attention_norm: self.vector(&name("attn_norm.weight"))?,
            qkv,
            bias,
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
    fn after(&mut self, shape: &Shape, name: &str) -> Result<Option<P::Vector>, Fault> {
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

    fn vector(&mut self, name: &str) -> Result<P::Vector, Fault> {
        let numbers = self.numbers(name)?;
        self.packing.vector(numbers)
    }

    fn numbers(&mut self, name: &str) -> Result<Vec<f32>, Fault> {
        let tensor = self.content.tensor(&mut *self.file, name, &Device::Cpu)?;
        Ok(tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()?)
    }

    fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    fn optional(&mut self, name: &str) -> Result<Option<QTensor>, Fault> {
        if self.has(name) { self.matrix(name).map(Some) } else { Ok(None) }
    }

    fn optional_vector(&mut self, name: &str) -> Result<Option<P::Vector>, Fault> {
        if self.has(name) { self.vector(name).map(Some) } else { Ok(None) }
    }

    fn optional_numbers(&mut self, name: &str) -> Result<Option<Vec<f32>>, Fault> {
        if self.has(name) { self.numbers(name).map(Some) } else { Ok(None) }
    }
}
