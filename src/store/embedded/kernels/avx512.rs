//! The products for AVX-512 with VNNI: 64 at once. Safe for any machine that has it.

use super::LANES;
use std::arch::x86_64::{
    __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_reduce_add_epi32,
    _mm512_set1_epi8, _mm512_setzero_si512, _mm512_sub_epi32, _mm512_xor_si512,
};

/// How many rows ahead memory is asked for: rows of a graph lie anywhere, and waiting for them takes longer than
/// the sums.
const AHEAD: usize = 6;

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn load(chunk: &[i8; LANES]) -> __m512i {
    // SAFETY: a chunk is as long as a register, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) }
}

/// The instruction takes its left side without signs. So 128 is added to each number there (which flips a bit),
/// and 128 times the right side is taken off again.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn dot(a: &[[i8; LANES]], b: &[[i8; LANES]]) -> i32 {
    let flip = _mm512_set1_epi8(-128);
    let (mut sum, mut excess) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for (a, b) in a.iter().zip(b) {
        let b = load(b);
        sum = _mm512_dpbusd_epi32(sum, _mm512_xor_si512(load(a), flip), b);
        excess = _mm512_dpbusd_epi32(excess, flip, b);
    }
    _mm512_reduce_add_epi32(_mm512_sub_epi32(sum, excess))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn all(query: &[[i8; LANES]], rows: &[[i8; LANES]], out: &mut Vec<i32>) {
    for row in rows.chunks_exact(query.len().max(1)) {
        out.push(dot(query, row));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn some(query: &[[i8; LANES]], rows: &[[i8; LANES]], numbers: &[u32], out: &mut Vec<i32>) {
    let row = |number: u32| &rows[number as usize * query.len()..][..query.len()];
    numbers.iter().take(AHEAD).for_each(|number| prefetch(row(*number)));
    for (at, number) in numbers.iter().enumerate() {
        if let Some(number) = numbers.get(at + AHEAD) {
            prefetch(row(*number));
        }
        out.push(dot(query, row(*number)));
    }
}

fn prefetch(row: &[[i8; LANES]]) {
    for line in row {
        // SAFETY: the address is that of a row, and asking for it changes nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr()) };
    }
}
