//! [`Reference`]: the network as candle has it, in f32. Every faster one is judged by it.

use super::folder::Bert;
use super::network::{Hidden, padded};
use candle_core::{Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config, HiddenAct};
use std::sync::Arc;

/// candle's BERT.
#[derive(Clone)]
pub(super) struct Reference {
    model: Arc<BertModel>,
    device: Device,
    pad: u32,
}

impl Reference {
    pub(super) fn load(bert: &Bert, from: VarBuilder<'_>, device: &Device) -> Result<Self> {
        let config = Config {
            vocab_size: bert.vocab_size,
            hidden_size: bert.hidden_size,
            num_hidden_layers: bert.num_hidden_layers,
            num_attention_heads: bert.num_attention_heads,
            intermediate_size: bert.intermediate_size,
            hidden_act: HiddenAct::Gelu,
            max_position_embeddings: bert.max_position_embeddings,
            type_vocab_size: bert.type_vocab_size,
            layer_norm_eps: bert.layer_norm_eps,
            pad_token_id: bert.pad_token_id as usize,
            ..Config::default()
        };
        let model = Arc::new(BertModel::load(from, &config)?);
        Ok(Self { model, device: device.clone(), pad: bert.pad_token_id })
    }

    /// The last layer's vectors of the pieces of each text.
    pub(super) fn forward(&self, texts: &[&[u32]]) -> Result<Vec<Hidden>> {
        let (ids, width) = padded(texts, self.pad);
        let mask: Vec<f32> = texts
            .iter()
            .flat_map(|text| (0..width).map(|place| if place < text.len() { 1.0 } else { 0.0 }))
            .collect();
        let ids = Tensor::from_vec(ids, (texts.len(), width), &self.device)?;
        let mask = Tensor::from_vec(mask, (texts.len(), width), &self.device)?;
        let hidden = self.model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
        let rows =
            |(at, text): (usize, &&[u32])| hidden.get(at)?.narrow(0, 0, text.len())?.flatten_all()?.to_vec1();
        texts.iter().enumerate().map(rows).collect()
    }
}
