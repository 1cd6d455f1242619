//! The plain loop, compiled for AVX2. Safe for any machine that has it.

use super::{LANES, portable};

#[target_feature(enable = "avx2")]
pub(super) fn dot(a: &[[i8; LANES]], b: &[[i8; LANES]]) -> i32 {
    portable::dot(a, b)
}

#[target_feature(enable = "avx2")]
pub(super) fn all(query: &[[i8; LANES]], rows: &[[i8; LANES]], out: &mut Vec<i32>) {
    portable::all(query, rows, out);
}

#[target_feature(enable = "avx2")]
pub(super) fn some(query: &[[i8; LANES]], rows: &[[i8; LANES]], numbers: &[u32], out: &mut Vec<i32>) {
    portable::some(query, rows, numbers, out);
}
