//! The model itself: weights, tokenizer and template from one GGUF file.

#[cfg(feature = "cuda")]
use super::engine::card;
use super::engine::{self, Engine};
use super::fault::Fault;
use super::gguf;
use super::requantise::Requantised;
use super::template::Template;
use super::tokenizer::Tokenizer;
use crate::device::DeviceChoice;
use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// The most positions a sequence has: candle computes no more of them.
pub(super) const MAX_CONTEXT: usize = MAX_SEQ_LEN;

/// A model, ready to begin sequences.
pub(super) struct Model {
    pub(super) tokenizer: Tokenizer,
    pub(super) template: Template,
    pub(super) network: Network,
}

/// What reads.
pub(super) enum Network {
    Own(Box<Engine>),
    /// The same on a card.
    #[cfg(feature = "cuda")]
    Card(Box<card::Engine>),
    /// For shapes that the engine does not know. What it expects next is copied to beside it.
    Candle(Box<ModelWeights>, Vec<f32>),
}

/// How much is done in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// Answers that are worked on together.
    pub(super) together: usize,
    /// Tokens that are read in a step at most: enough to be quick, few enough that who is in the middle of an answer
    /// hardly notices a long prompt beside it, and that a cancelled request is noticed soon.
    pub(super) step: usize,
}

impl Pace {
    /// More answers would save little, since by then the products take longer than loading the weights.
    const PROCESSOR: Self = Self { together: 8, step: 64 };
    #[cfg(feature = "cuda")]
    const CARD: Self = Self { together: 32, step: 512 };
}

/// Tokens that have been read, and what attention remembers of them.
#[derive(Clone)]
pub(super) enum Sequence {
    Own(engine::Sequence),
    #[cfg(feature = "cuda")]
    Card(card::Sequence),
    /// Weights are shared; what attention remembers is the sequence's own.
    Candle(Box<ModelWeights>, usize),
}

/// Tokens that a sequence reads in a step.
pub(super) struct Run<'a> {
    pub(super) sequence: &'a mut Sequence,
    pub(super) ids: &'a [u32],
    /// Whether what comes next is asked for.
    pub(super) wants_next: bool,
}

impl Model {
    /// Reads `file`, for sequences of at most `context` tokens, to run on `device`. Takes about a second.
    pub(super) fn load(file: &Path, context: usize, device: DeviceChoice) -> Result<Self, Fault> {
        let opened = File::open(file).map_err(|source| Fault::Open { path: file.to_owned(), source })?;
        let mut reader = BufReader::new(opened);
        let content = gguf::read(&mut reader)?;
        let tokenizer = Tokenizer::from_metadata(&content.metadata)?;
        let template = Template::from_metadata(&content.metadata)?;
        let network = Network::load(content, reader, context, device)?;
        Ok(Self { tokenizer, template, network })
    }
}

impl Network {
    fn load(
        content: Content,
        mut reader: BufReader<File>,
        context: usize,
        device: DeviceChoice,
    ) -> Result<Self, Fault> {
        if device != DeviceChoice::Cpu
            && let Some(network) = Self::on_card(&content, &mut reader, context)
        {
            return Ok(network);
        }
        if device == DeviceChoice::Cuda && !cfg!(feature = "cuda") {
            tracing::warn!("this binary was built without cuda: the local model runs on the processor");
        }
        Ok(match Engine::load(&content, &mut reader, context)? {
            Some(engine) => Self::Own(Box::new(engine)),
            // Where it is a llama of another shape.
            None => Self::candle(reader, content)?,
        })
    }

    /// The network on a card, where there is one that can run it: the processor always can.
    #[cfg(feature = "cuda")]
    fn on_card(content: &Content, reader: &mut BufReader<File>, context: usize) -> Option<Self> {
        match card::Engine::load(content, reader, context) {
            Ok(engine) => engine.map(|engine| Self::Card(Box::new(engine))),
            Err(fault) => {
                tracing::warn!(%fault, "the card cannot be used: the local model runs on the processor");
                None
            }
        }
    }

    #[cfg(not(feature = "cuda"))]
    fn on_card(_: &Content, _: &mut BufReader<File>, _: usize) -> Option<Self> {
        None
    }

    /// Where it runs.
    pub(super) fn place(&self) -> &'static str {
        match self {
            #[cfg(feature = "cuda")]
            Self::Card(_) => "cuda:0",
            Self::Own(_) | Self::Candle(..) => "cpu",
        }
    }

    /// How much is done in a step.
    pub(super) fn pace(&self) -> Pace {
        match self {
            #[cfg(feature = "cuda")]
            Self::Card(_) => Pace::CARD,
            Self::Own(_) | Self::Candle(..) => Pace::PROCESSOR,
        }
    }

    /// What its arithmetic is called.
    pub(super) fn arithmetic(&self) -> &'static str {
        match self {
            Self::Own(engine) => engine.arithmetic(),
            #[cfg(feature = "cuda")]
            Self::Card(_) => "f16 and f32",
            Self::Candle(..) => "candle",
        }
    }

    /// The memory that the weights take, and a token of a sequence; `None` where candle does not tell.
    pub(super) fn memory(&self) -> Option<(usize, usize)> {
        match self {
            Self::Own(engine) => Some((engine.bytes(), engine.bytes_per_token())),
            #[cfg(feature = "cuda")]
            Self::Card(engine) => Some((engine.bytes(), engine.bytes_per_token())),
            Self::Candle(..) => None,
        }
    }

    /// A sequence of no tokens.
    pub(super) fn sequence(&self) -> Sequence {
        match self {
            Self::Own(engine) => Sequence::Own(engine.sequence()),
            #[cfg(feature = "cuda")]
            Self::Card(engine) => Sequence::Card(engine.sequence()),
            Self::Candle(weights, _) => Sequence::Candle(weights.clone(), 0),
        }
    }

    /// Reads the tokens of all `runs`. For each that wants it, in order: how much each token of the vocabulary is
    /// to be expected next.
    pub(super) fn step<'a>(
        &'a mut self,
        runs: &mut [Run<'_>],
    ) -> Result<impl Iterator<Item = &'a [f32]> + use<'a>, Fault> {
        let (numbers, stride, vocabulary) = match self {
            Self::Own(engine) => engine.step(&mut own_runs(runs)),
            #[cfg(feature = "cuda")]
            Self::Card(engine) => engine.step(&mut card_runs(runs))?,
            Self::Candle(_, expected) => step_by_candle(runs, expected)?,
        };
        Ok(numbers.chunks_exact(stride).map(move |row| &row[..vocabulary]))
    }

    fn candle(reader: BufReader<File>, content: Content) -> Result<Self, Fault> {
        let (content, mut reader) = Requantised::new(reader, content);
        let weights = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?;
        Ok(Self::Candle(Box::new(weights), Vec::new()))
    }
}

fn own_runs<'a>(runs: &'a mut [Run<'_>]) -> Vec<engine::Run<'a>> {
    let own = |run: &'a mut Run<'_>| match run.sequence {
        Sequence::Own(sequence) => Some(engine::Run { sequence, ids: run.ids, wants_next: run.wants_next }),
        #[cfg(feature = "cuda")]
        Sequence::Card(_) => None,
        Sequence::Candle(..) => None,
    };
    runs.iter_mut().filter_map(own).collect()
}

#[cfg(feature = "cuda")]
fn card_runs<'a>(runs: &'a mut [Run<'_>]) -> Vec<card::Run<'a>> {
    let on_card = |run: &'a mut Run<'_>| match run.sequence {
        Sequence::Card(sequence) => Some(card::Run { sequence, ids: run.ids, wants_next: run.wants_next }),
        Sequence::Own(_) | Sequence::Candle(..) => None,
    };
    runs.iter_mut().filter_map(on_card).collect()
}

fn step_by_candle<'a>(
    runs: &mut [Run<'_>],
    expected: &'a mut Vec<f32>,
) -> Result<(&'a [f32], usize, usize), Fault> {
    expected.clear();
    let mut vocabulary = 1;
    for run in runs {
        let Sequence::Candle(weights, len) = &mut *run.sequence else { continue };
        let input = Tensor::new(run.ids, &Device::Cpu)?.unsqueeze(0)?;
        let next = weights.forward(&input, *len)?;
        *len += run.ids.len();
        if run.wants_next {
            let next: Vec<f32> = next.flatten_all()?.to_vec1()?;
            vocabulary = next.len().max(1);
            expected.extend(next);
        }
    }
    Ok((expected, vocabulary, vocabulary))
}

impl Sequence {
    /// How many tokens have been read.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Own(sequence) => sequence.len(),
            #[cfg(feature = "cuda")]
            Self::Card(sequence) => sequence.len(),
            Self::Candle(_, len) => *len,
        }
    }

    /// A copy that has read the first `len` of its tokens only; `None` where it cannot forget.
    pub(super) fn begin(&self, len: usize) -> Option<Self> {
        match self {
            Self::Own(sequence) => {
                let mut beginning = sequence.clone();
                beginning.truncate(len);
                Some(Self::Own(beginning))
            }
            #[cfg(feature = "cuda")]
            Self::Card(sequence) => {
                let mut beginning = sequence.clone();
                beginning.truncate(len);
                Some(Self::Card(beginning))
            }
            Self::Candle(..) => None,
        }
    }
}
