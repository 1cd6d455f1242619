//! The arithmetic of the local model: beside that of the encoder the only place in Weir with `unsafe`.
//!
//! A language model that writes one token reads every weight once, so what counts is how few bytes they are and
//! how little is done to each. Weights stay in four bits where the file has four, in an order in which a register
//! holds four inputs of sixteen outputs; what they are multiplied with is made whole numbers of eight bits, a
//! scale for every [`BLOCK`] of them, as llama.cpp does it. Rows that come together (a prompt, several answers)
//! share what was loaded.
//!
//! Everything but the products and attention is plain Rust over sixteen lanes ([`lanes`]), compiled once for each kind of
//! machine. Which one runs is found out at run time; the portable ones are the reference that tests hold the
//! others to.
//!
//! `unsafe` is needed for two things: to call a function that was compiled for instructions which not every
//! machine has (a [`Kernels`] exists only for what the machine has), and to read and write memory through vector
//! registers (lengths are checked before, in this file).

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "vector instructions; each use says why it is sound, and tests hold it to the portable twin"
    )
)]

#[cfg(target_arch = "x86_64")]
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(feature = "cuda")]
pub(super) mod gpu;
mod half;
mod lanes;
mod packed;
mod portable;
#[cfg(test)]
mod tests;

pub(super) use half::{from_half, to_half};
pub(super) use lanes::LANES;
pub(super) use packed::{BLOCK, Format, Matrix, QuantisedRows, TILE};

use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// The kernels for one kind of machine. One exists only if this machine is of that kind: that is what makes
/// calling them sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kernels {
    isa: Isa,
}

/// Calls the version of a step in [`lanes`] that was compiled for the machine.
macro_rules! compiled_for {
    ($kernels:expr, $step:ident($($argument:expr),*)) => {
        match $kernels.isa {
            Isa::Portable => portable::$step($($argument),*),
            // SAFETY: a `Kernels` of this kind exists only where the machine has AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::$step($($argument),*) },
            // SAFETY: a `Kernels` of this kind exists only where the machine has AVX-512 (F, BW, DQ, VL, VNNI).
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::$step($($argument),*) },
        }
    };
}

/// How far a gate is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    /// `x` times its logistic.
    Silu,
    /// `x` times the share of a normal distribution below it, as a hyperbolic tangent has it.
    Gelu,
}

/// Where in rows of `stride` numbers the columns of a product go: from `column` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) stride: usize,
    pub(super) column: usize,
}

/// What one head for keys and values remembers of a sequence, page by page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory<'a> {
    /// Whole pages; the last may be begun only.
    pub(super) pages: &'a [Arc<[u16]>],
    /// Where in a page this layer and head begin: keys, then values.
    pub(super) start: usize,
    /// How many of the first positions are not attended to.
    pub(super) skip: usize,
    /// How many positions there are.
    pub(super) len: usize,
    /// Numbers in a key, and in a value.
    pub(super) size: usize,
}

/// Positions in a page of [`Memory`]. Keys lie in groups of [`LANES`] positions, dimension by dimension; values
/// position by position.
pub(super) const PAGE: usize = 32;

impl Kernels {
    /// The ones that run anywhere.
    pub(super) const PORTABLE: Self = Self { isa: Isa::Portable };

    /// The fastest that this machine can run.
    pub(super) fn best() -> Self {
        Self::usable().last().copied().unwrap_or(Self::PORTABLE)
    }

    /// All that this machine can run, the fastest last.
    pub(super) fn usable() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "nothing is added elsewhere"))]
        let mut usable = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            usable.push(Self { isa: Isa::Avx2 });
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            if avx512 {
                usable.push(Self { isa: Isa::Avx512 });
            }
        }
        usable
    }

    /// What runs, in a report.
    pub(super) fn name(self) -> &'static str {
        match self.isa {
            Isa::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => "avx512-vnni",
        }
    }

    /// Scales each block of the rows of `x` into whole numbers from -127 to 127.
    pub(super) fn quantise(self, x: &[f32], width: usize, rows: &mut QuantisedRows) {
        assert!(width.is_multiple_of(BLOCK) && x.len().is_multiple_of(width), "rows of {width}");
        rows.resize(x.len() / width, width);
        compiled_for!(self, quantise(x, rows));
    }

    /// Writes `x · wᵀ` into the rows of `out`.
    pub(super) fn multiply(self, x: &QuantisedRows, w: &Matrix, out: &mut [f32], place: Place) {
        assert_eq!(x.width, w.inputs, "the rows are as wide as the matrix is deep");
        assert!(place.column + w.outputs <= place.stride, "a place for every product");
        assert_eq!(out.len(), x.rows() * place.stride, "a row for every row");
        w.check();
        compiled_for!(self, multiply(x, w, out, place));
    }

    /// Each row of `x` over its root mean square, times `scale`.
    pub(super) fn normalise(self, x: &[f32], scale: &[f32], epsilon: f32, out: &mut [f32]) {
        assert!(scale.len().is_multiple_of(LANES) && x.len().is_multiple_of(scale.len()), "whole rows");
        assert_eq!(x.len(), out.len(), "a place for every number");
        compiled_for!(self, normalise(x, scale, epsilon, out));
    }

    /// Adds `y` to `x`.
    pub(super) fn add(self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len(), "something to add for every number");
        compiled_for!(self, add(x, y));
    }

    /// Of rows that hold a gate and a value of `width` numbers each: the value, as far as the gate is open.
    pub(super) fn gate(self, x: &[f32], width: usize, curve: Curve, out: &mut [f32]) {
        assert!(width.is_multiple_of(LANES) && x.len().is_multiple_of(2 * width), "whole rows");
        assert_eq!(x.len(), 2 * out.len(), "a place for every value");
        compiled_for!(self, gate(x, width, curve, out));
    }

    /// The `queries` that share a head for keys and values attend to what it remembers.
    pub(super) fn attend(self, queries: &[f32], memory: Memory<'_>, scores: &mut Vec<f32>, out: &mut [f32]) {
        let Memory { pages, start, skip, len, size } = memory;
        assert!(size.is_multiple_of(LANES) && queries.len().is_multiple_of(size), "heads of {size}");
        assert_eq!(queries.len(), out.len(), "an answer to every query");
        assert!(skip < len && len <= pages.len() * PAGE, "what is attended to is there");
        assert!(pages.iter().all(|page| page.len() >= start + 2 * PAGE * size), "whole pages");
        compiled_for!(self, attend(queries, memory, scores, out));
    }
}
