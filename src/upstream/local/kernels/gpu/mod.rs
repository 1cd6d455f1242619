//! The steps of a forward pass on a card: those of `steps.cu`, compiled for the card when a model is loaded.
//!
//! Every step checks that what it touches is there before it is begun. All steps of a [`Card`] are done in the order
//! in which they are begun, so nothing waits for them but [`Card::fetch`].

#![expect(unsafe_code, reason = "beginning work on a card is; each use says why it is sound")]

mod reading;

pub(in super::super) use reading::{Page, Part, Reading};

use super::super::fault::Fault;
use super::{Curve, PAGE};
use candle_core::cuda_backend::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaGraph, CudaSlice, CudaStream, DevicePtr as _, DeviceRepr, LaunchConfig,
    PinnedHostSlice, PushKernelArg as _,
};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::cuda_backend::{CudaDevice, WrapErr as _};
use std::sync::Arc;

const NO_FLAGS: CUgraphInstantiate_flags = CUgraphInstantiate_flags(0);

const STEPS: &str = include_str!("steps.cu");

/// Threads in a warp.
const WARP: usize = 32;
/// Threads of a block, where the step does not want another number.
const THREADS: usize = 128;
/// Threads that attend together.
const ATTENDING: usize = 256;
/// Rows that share what is loaded of the weights.
const ROWS: usize = 8;
/// Memory that every card has for a block, but for what the steps take by themselves.
const SHARED: usize = 47 * 1024;

/// Numbers of 16 bits on the card.
pub(in super::super) type Halves = CudaSlice<u16>;
/// Numbers of 32 bits on the card.
pub(in super::super) type Floats = CudaSlice<f32>;

/// A card, and what it can do.
pub(in super::super) struct Card {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    embed: CudaFunction,
    /// For a row alone, and for several.
    store: [CudaFunction; 2],
    add: [CudaFunction; 2],
    gate: [CudaFunction; 2],
    add_normalised: CudaFunction,
    remember: CudaFunction,
    attend: CudaFunction,
}

/// A matrix on the card.
pub(in super::super) struct Matrix {
    pub(in super::super) numbers: Halves,
    pub(in super::super) inputs: usize,
    pub(in super::super) outputs: usize,
}

/// What becomes of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Then {
    /// It takes the place of what was there.
    Store,
    /// It is added to what is there.
    Add,
    /// One half of it says how much of the other is let through.
    Gate(Curve),
}

/// How the heads of a layer lie and turn; `steps.cu` has it the same.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Attention {
    pub(in super::super) heads: u32,
    pub(in super::super) kv_heads: u32,
    pub(in super::super) size: u32,
    /// Pairs of numbers that are turned.
    pub(in super::super) pairs: u32,
    /// 1 where a number's partner is its neighbour.
    pub(in super::super) neighbours: u32,
    /// Where in a page the layer begins.
    pub(in super::super) start: u32,
    /// How many tokens are near; 0 where all are attended to.
    pub(in super::super) window: u32,
    pub(in super::super) epsilon: f32,
}

// SAFETY: eight numbers of four bytes without gaps, as the same struct in `steps.cu`.
unsafe impl DeviceRepr for Attention {}

impl Attention {
    fn queries(&self) -> usize {
        (self.heads * self.size) as usize
    }

    /// Numbers in a row of queries, keys and values.
    fn row(&self) -> usize {
        ((self.heads + 2 * self.kv_heads) * self.size) as usize
    }

    /// Numbers in a page that this layer needs.
    fn page(&self) -> usize {
        self.start as usize + self.kv_heads as usize * 2 * PAGE * self.size as usize
    }

    /// Whether the steps can work with heads like these, in sequences of `context` tokens at most.
    pub(in super::super) fn fit(&self, context: usize) -> bool {
        let size = self.size as usize;
        size.is_multiple_of(8)
            && size <= 2 * ATTENDING
            && self.heads.is_multiple_of(self.kv_heads)
            && 2 * self.pairs <= self.size
            && attending(size, context) <= SHARED
    }
}

/// The memory that a block needs to attend to `context` positions.
fn attending(size: usize, context: usize) -> usize {
    context.div_ceil(PAGE) * size_of::<u64>() + (size + 2 * ATTENDING + context) * size_of::<f32>()
}

/// Begins `$function` on `$card` in `$blocks` blocks of `$threads` threads with `$shared` bytes each.
macro_rules! begin {
    ($card:expr, $function:expr, $blocks:expr, $threads:expr, $shared:expr, $($argument:expr),+ $(,)?) => {{
        let (across, down): (usize, usize) = $blocks;
        let config = LaunchConfig {
            grid_dim: (across as u32, down as u32, 1),
            block_dim: ($threads as u32, 1, 1),
            shared_mem_bytes: $shared as u32,
        };
        let mut step = $card.stream.launch_builder($function);
        $(step.arg(&$argument);)+
        // SAFETY: the arguments are those of the step in `steps.cu`, in its order, and its caller has checked that
        // all it reads and writes is there.
        unsafe { step.launch(config) }.w()?;
    }};
}

impl Card {
    /// The first card there is.
    pub(in super::super) fn open() -> Result<Self, Fault> {
        let device = CudaDevice::new_with_stream(0)?;
        // SAFETY: everything here is begun on one stream, which does one thing after the other.
        unsafe { device.disable_event_tracking() };
        let stream = device.cuda_stream();
        let (major, minor) = stream.context().compute_capability().w()?;
        let options = CompileOptions {
            options: vec![format!("--gpu-architecture=compute_{major}{minor}")],
            ..CompileOptions::default()
        };
        let compiled = compile_ptx_with_opts(STEPS, options).w()?.to_src();
        let step = |name: &str| -> Result<CudaFunction, Fault> {
            Ok(device.get_or_load_custom_func(name, "weir_local", &compiled)?.into_cuda_function())
        };
        Ok(Self {
            embed: step("embed")?,
            store: [step("store_1")?, step("store_8")?],
            add: [step("add_1")?, step("add_8")?],
            gate: [step("gate_1")?, step("gate_8")?],
            add_normalised: step("add_normalised")?,
            remember: step("remember")?,
            attend: step("attend")?,
            stream,
            device,
        })
    }

    /// `numbers`, on the card.
    pub(in super::super) fn halves(&self, numbers: &[u16]) -> Result<Halves, Fault> {
        Ok(self.device.clone_htod(numbers)?)
    }

    /// `numbers`, on the card.
    pub(in super::super) fn floats(&self, numbers: &[f32]) -> Result<Floats, Fault> {
        Ok(self.device.clone_htod(numbers)?)
    }

    /// Zeros.
    pub(in super::super) fn zeros(&self, count: usize) -> Result<Floats, Fault> {
        Ok(self.device.alloc_zeros(count)?)
    }

    /// A page of `numbers` zeros, or what is in `other`.
    pub(in super::super) fn page(&self, numbers: usize, other: Option<&Halves>) -> Result<Halves, Fault> {
        Ok(match other {
            Some(other) => other.try_clone().w()?,
            None => self.device.alloc_zeros(numbers)?,
        })
    }

    /// Memory of the processor that the card can write to.
    pub(in super::super) fn desk(&self, numbers: usize) -> Result<PinnedHostSlice<f32>, Fault> {
        // SAFETY: any bits are numbers.
        let mut desk = unsafe { self.stream.context().alloc_pinned_with_flags::<f32>(numbers, 0) }.w()?;
        desk.as_mut_slice().w()?.fill(0.0);
        Ok(desk)
    }

    /// Waits for all that was begun, and copies the first `count` numbers of `from` to the desk.
    pub(in super::super) fn fetch<'a>(
        &self,
        from: &Floats,
        count: usize,
        desk: &'a mut PinnedHostSlice<f32>,
    ) -> Result<&'a [f32], Fault> {
        assert!(count <= from.len() && count <= desk.len(), "a place for every number");
        if count > 0 {
            self.stream.memcpy_dtoh(&from.slice(..count), desk).w()?;
        }
        self.stream.synchronize().w()?;
        Ok(&desk.as_slice().w()?[..count])
    }

    /// From here on steps are written down and not begun.
    pub(in super::super) fn begin_recording(&self) -> Result<(), Fault> {
        Ok(self.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).w()?)
    }

    /// What was written down. It may be played as long as all that it touches is where it was.
    pub(in super::super) fn end_recording(&self) -> Result<Option<CudaGraph>, Fault> {
        Ok(self.stream.end_capture(NO_FLAGS).w()?)
    }

    /// Begins all steps that were written down.
    pub(in super::super) fn play(recorded: &CudaGraph) -> Result<(), Fault> {
        Ok(recorded.launch().w()?)
    }

    /// The rows of `embedding` that are read, `factor` times as large.
    pub(in super::super) fn embed(
        &self,
        reading: &Reading,
        embedding: &Matrix,
        factor: f32,
        x: &mut Floats,
    ) -> Result<(), Fault> {
        let width = embedding.inputs;
        assert!(reading.vocabulary() <= embedding.outputs, "a row for every token");
        assert!(reading.rows() * width <= x.len(), "a place for every row");
        let (list, from, to) = (self.at(reading.list()), self.at(&embedding.numbers), self.at(x));
        let (blocks, width) = ((reading.rows(), 1), width as u32);
        begin!(self, &self.embed, blocks, THREADS, 0, list, from, factor, to, width);
        Ok(())
    }

    /// Multiplies rows of `x` with `w`. Where there is a `scale`, they are normalised by it and the epsilon beside it
    /// first.
    pub(in super::super) fn product(
        &self,
        then: Then,
        (x, rows): (&Floats, Rows<'_>),
        scale: Option<(&Floats, f32)>,
        w: &Matrix,
        out: &mut Floats,
    ) -> Result<(), Fault> {
        let (functions, outputs, curve) = match then {
            Then::Store => (&self.store, w.outputs, 0),
            Then::Add => (&self.add, w.outputs, 0),
            Then::Gate(curve) => (&self.gate, w.outputs / 2, u32::from(curve == Curve::Gelu)),
        };
        let (count, needed, picked) = match rows {
            Rows::All(rows) => (rows, rows, 0),
            Rows::Wanted(reading) => {
                (reading.wanted(), reading.rows(), self.at(reading.list()) + reading.picked())
            }
        };
        if count == 0 {
            return Ok(());
        }
        let epsilon = scale.map_or(0.0, |(_, epsilon)| epsilon);
        assert!(w.inputs.is_multiple_of(8) && w.numbers.len() >= w.inputs * w.outputs, "all the weights");
        assert!(scale.is_none_or(|(scale, _)| scale.len() >= w.inputs), "a scale for every input");
        assert!(needed * w.inputs <= x.len() && count * outputs <= out.len(), "a place for every row");
        let (function, together) = if count == 1 { (&functions[0], 1) } else { (&functions[1], ROWS) };
        let blocks = (outputs.div_ceil(THREADS / WARP), count.div_ceil(together));
        let scale = scale.map_or(0, |(scale, _)| self.at(scale));
        let (x, out, numbers) = (self.at(x), self.at(out), self.at(&w.numbers));
        let (inputs, outputs, count) = (w.inputs as u32, outputs as u32, count as u32);
        begin!(
            self, function, blocks, THREADS, 0, x, scale, epsilon, numbers, out, inputs, outputs, count,
            picked, curve,
        );
        Ok(())
    }

    /// Adds the rows of `change` to those of `x`, normalised.
    pub(in super::super) fn add_normalised(
        &self,
        x: &mut Floats,
        change: &Floats,
        scale: &Floats,
        epsilon: f32,
        rows: usize,
    ) -> Result<(), Fault> {
        let width = scale.len();
        assert!(rows * width <= x.len() && rows * width <= change.len(), "a place for every row");
        let (x, change, scale) = (self.at(x), self.at(change), self.at(scale));
        let (blocks, width) = ((rows, 1), width as u32);
        begin!(self, &self.add_normalised, blocks, THREADS, 0, x, change, scale, epsilon, width);
        Ok(())
    }

    /// Makes rows of queries, keys and values ready to attend, and writes down the keys and values in the pages of
    /// what is read. `turns` are the cosines and sines of the positions.
    pub(in super::super) fn remember(
        &self,
        reading: &Reading,
        qkv: &mut Floats,
        shape: Attention,
        [bias, query_norm, key_norm]: [Option<&Floats>; 3],
        turns: &Floats,
    ) -> Result<(), Fault> {
        let size = shape.size as usize;
        assert!(reading.rows() * shape.row() <= qkv.len(), "a place for every row");
        assert!(shape.page() <= reading.page(), "pages that are large enough");
        assert!(reading.end() * 2 * shape.pairs as usize <= turns.len(), "a turn for every position");
        assert!(bias.is_none_or(|bias| bias.len() >= shape.row()), "something to add for every number");
        assert!([query_norm, key_norm].iter().flatten().all(|norm| norm.len() >= size), "whole norms");
        let parts = (shape.heads + 2 * shape.kv_heads) as usize;
        let (list, qkv, turns) = (self.at(reading.list()), self.at(qkv), self.at(turns));
        let [bias, query_norm, key_norm] =
            [bias, query_norm, key_norm].map(|numbers| numbers.map_or(0, |numbers| self.at(numbers)));
        let shared = size * size_of::<f32>();
        begin!(
            self,
            &self.remember,
            (parts, reading.rows()),
            WARP,
            shared,
            list,
            qkv,
            shape,
            bias,
            query_norm,
            key_norm,
            turns,
        );
        Ok(())
    }

    /// Lets every row attend to what its sequence remembers, in sequences of `context` tokens at most.
    pub(in super::super) fn attend(
        &self,
        reading: &Reading,
        qkv: &Floats,
        shape: Attention,
        context: usize,
        attended: &mut Floats,
    ) -> Result<(), Fault> {
        assert!(shape.fit(context) && reading.end() <= context, "a score for every position");
        assert!(reading.rows() * shape.row() <= qkv.len(), "a row for every row");
        assert!(reading.rows() * shape.queries() <= attended.len(), "a place for every row");
        assert!(shape.page() <= reading.page(), "pages that are large enough");
        let shared = attending(shape.size as usize, context);
        let (list, qkv, attended) = (self.at(reading.list()), self.at(qkv), self.at(attended));
        let (blocks, pages) = ((shape.heads as usize, reading.rows()), context.div_ceil(PAGE) as u32);
        begin!(self, &self.attend, blocks, ATTENDING, shared, list, qkv, shape, pages, attended);
        Ok(())
    }

    /// Where `numbers` lie on the card.
    fn at<T>(&self, numbers: &CudaSlice<T>) -> u64 {
        numbers.device_ptr(&self.stream).0
    }
}

/// Which rows are multiplied.
#[derive(Clone, Copy)]
pub(in super::super) enum Rows<'a> {
    /// So many, from the first on.
    All(usize),
    /// Those of which is asked what comes next.
    Wanted(&'a Reading),
}
