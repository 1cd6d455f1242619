//! The arithmetic of the fused encoder: with that of the local model the only place in Weir with `unsafe`.
//!
//! Every step exists once in plain Rust over sixteen lanes ([`lanes`]), which the compiler turns into the vector
//! instructions of whatever it is compiled for: once for any machine, once for AVX2, once for AVX-512. Only the
//! matrix products, where nearly all of the time goes, are also written by hand ([`avx512`], [`avx_vnni`],
//! [`avx2`]). Which of them run is found out at run time, so one binary serves every machine. The portable ones
//! are the reference: tests hold each of the others to them.
//!
//! `unsafe` is needed for two things: to call a function that was compiled for instructions which not every
//! machine has (a [`Kernels`] exists only for what the machine has), and to read and write memory through
//! vector registers (lengths are checked before, in this file).

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "vector instructions; each use says why it is sound, and tests hold it to the portable twin"
    )
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
mod lanes;
mod packed;
mod portable;
#[cfg(test)]
mod tests;

pub(super) use packed::{Bf16Matrix, Int8Matrix, QuantisedRows, SPAN, to_bf16};

/// Rows are multiples of this many numbers long.
pub(super) const LANES: usize = lanes::LANES;

/// Columns that a matrix product computes together; widths of matrices are multiples of it.
pub(super) const TILE: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// The kernels for one kind of machine. One exists only if this machine is of that kind: that is what makes
/// calling them sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kernels {
    isa: Isa,
    /// Has an instruction for products of bfloat16.
    bf16: bool,
}

/// Calls the version of a step in [`lanes`] that was compiled for the machine.
macro_rules! compiled_for {
    ($kernels:expr, $step:ident($($argument:expr),*)) => {
        match $kernels.isa {
            Isa::Portable => portable::$step($($argument),*),
            // SAFETY: a `Kernels` of this kind exists only where the machine has AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::AvxVnni => unsafe { avx2::$step($($argument),*) },
            // SAFETY: a `Kernels` of this kind exists only where the machine has AVX-512 (F, BW, DQ, VL) and FMA.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::$step($($argument),*) },
        }
    };
}

impl Kernels {
    /// The ones that run anywhere.
    pub(super) const PORTABLE: Self = Self { isa: Isa::Portable, bf16: false };

    /// The fastest that this machine can run.
    pub(super) fn best() -> Self {
        Self::usable().last().copied().unwrap_or(Self::PORTABLE)
    }

    /// All that this machine can run, the fastest last.
    pub(super) fn usable() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "nothing is added elsewhere"))]
        let mut usable = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            usable.push(Self { isa: Isa::Avx2, bf16: false });
            if is_x86_feature_detected!("avxvnni") {
                usable.push(Self { isa: Isa::AvxVnni, bf16: false });
            }
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            if avx512 {
                usable.push(Self { isa: Isa::Avx512, bf16: is_x86_feature_detected!("avx512bf16") });
            }
        }
        usable
    }

    /// What runs, for the banner.
    pub(super) fn name(self) -> &'static str {
        match self.isa {
            Isa::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => "avx512-vnni",
        }
    }

    /// Each span of the rows of `x`, multiplied by `factors` and scaled into whole numbers from 0 to 255.
    pub(super) fn quantise(self, x: &[f32], factors: &[f32], rows: &mut QuantisedRows) {
        let width = factors.len();
        assert!(width.is_multiple_of(SPAN) && x.len().is_multiple_of(width), "rows of {width}");
        rows.resize(x.len() / width, width);
        compiled_for!(self, quantise(x, factors, rows));
    }

    /// `out = x · wᵀ + bias`, in whole numbers up to the last step.
    pub(super) fn multiply_int8(self, x: &QuantisedRows, w: &Int8Matrix, out: &mut [f32]) {
        assert_eq!(x.width, w.inputs, "the rows are as wide as the matrix is deep");
        assert_eq!(out.len(), x.rows() * w.outputs, "a place for every product");
        match self.isa {
            Isa::Portable => portable::multiply_int8(x, w, out),
            // SAFETY: the machine has AVX2 and FMA; the lengths fit, as checked above and by `Int8Matrix::pack`.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::multiply_int8(x, w, out) },
            // SAFETY: as above, and the machine has AVX-VNNI.
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => unsafe { avx_vnni::multiply_int8(x, w, out) },
            // SAFETY: as above, and the machine has AVX-512 with VNNI.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::multiply_int8(x, w, out) },
        }
    }

    /// `out = x · wᵀ + bias`, from numbers of 16 bits into sums of 32.
    pub(super) fn multiply_bf16(self, x: &[u16], w: &Bf16Matrix, out: &mut [f32]) {
        assert!(x.len().is_multiple_of(w.inputs), "the rows are as wide as the matrix is deep");
        assert_eq!(out.len(), x.len() / w.inputs * w.outputs, "a place for every product");
        #[cfg(target_arch = "x86_64")]
        if self.bf16 {
            // SAFETY: the machine has AVX-512 with BF16; the lengths fit, as checked above and by
            // `Bf16Matrix::pack`.
            return unsafe { avx512::multiply_bf16_natively(x, w, out) };
        }
        compiled_for!(self, multiply_bf16(x, w, out));
    }

    /// Rounds to bfloat16.
    pub(super) fn round_to_bf16(self, x: &[f32], out: &mut Vec<u16>) {
        out.clear();
        out.resize(x.len(), 0);
        compiled_for!(self, round_to_bf16(x, out));
    }

    /// Adds `y` to the rows of `x` and normalises each: mean 0, variance 1, then `scale` and `shift`.
    pub(super) fn add_and_normalise(self, x: &mut [f32], y: &[f32], norm: &Norm) {
        let width = norm.scale.len();
        assert!(width.is_multiple_of(LANES) && x.len().is_multiple_of(width), "rows of {width}");
        assert_eq!(x.len(), y.len(), "something to add for every number");
        compiled_for!(self, add_and_normalise(x, y, norm));
    }

    /// The Gaussian error linear unit of every number.
    pub(super) fn gelu(self, x: &mut [f32]) {
        assert!(x.len().is_multiple_of(LANES), "whole lanes");
        compiled_for!(self, gelu(x));
    }

    /// Every row of one text attends to every row of it. `qkv` has queries, keys and values side by side.
    pub(super) fn attend(self, qkv: &[f32], heads: Heads, scratch: &mut Vec<f32>, out: &mut [f32]) {
        let width = heads.count * heads.size;
        assert!(heads.size.is_multiple_of(LANES) && out.len().is_multiple_of(width), "rows of {width}");
        assert_eq!(qkv.len(), 3 * out.len(), "queries, keys and values");
        compiled_for!(self, attend(qkv, heads, scratch, out));
    }
}

/// How attention is cut up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    pub(super) count: usize,
    pub(super) size: usize,
}

/// A layer normalisation.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) epsilon: f32,
}
